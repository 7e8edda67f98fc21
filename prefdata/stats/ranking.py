"""Whether numbers rank as they should: NDCG, best-of-n, and what an ideal policy could rank."""

from __future__ import annotations

from math import comb
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count, checked_numbers, checked_probabilities
from prefdata.stats.logistic import log_sigmoid

FloatArray = NDArray[np.float64]


def ndcg(gold: ArrayLike, predicted: ArrayLike, *, gain: Literal["linear", "exponential"] = "linear") -> float | None:
    """Normalised discounted cumulative gain of a list ordered by what was predicted.

    Gains are `gold - min(gold)`, so that shifting the scores changes nothing (linear), or `2^gold - 1`, for grades of
    relevance from 0 on (exponential); discounts `1 / log2(1 + rank)`. Equal
    predictions share the mean gain of their places (McSherry and Najork, 2008), so the order of a file says nothing.
    Järvelin and Kekäläinen, 2002.

    Args:
        gold: [K] how good each response is, higher is better.
        predicted: [K] what it is ordered by.
        gain: see above.

    Returns:
        0 to 1; null for a list whose gold scores are all equal: no order of it is better than another.

    Raises:
        ValueError: lists of different lengths, a number that is missing or infinite, or a negative grade.
    """
    worth, guess = _two(gold, predicted)
    if gain not in ("linear", "exponential"):
        raise ValueError(f"the gain is linear or exponential; it is {gain!r}")
    if worth.min() == worth.max():
        return None
    if gain == "exponential" and worth.min() < 0:
        raise ValueError(f"grades of relevance begin at 0; one is {worth.min():g}")
    if gain == "exponential":
        _check_grades(worth)
    worth = np.exp2(worth) - 1 if gain == "exponential" else worth - worth.min()
    discount = 1 / np.log2(np.arange(2, len(worth) + 2))
    best = float((np.sort(worth)[::-1] * discount).sum())
    order = np.argsort(-guess, kind="stable")
    return float((_mean_of_ties(worth, guess)[order] * discount).sum()) / best


def swap_weights(labels: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """[K, K] how much DCG changes if two responses swap places: |G_i - G_j| |1/D_i - 1/D_j|, the weights of LiPO.

    G = 2^label - 1 and D = log2(1 + rank), ranks by what was predicted, best first. Liu et al. 2024, LiPO, equation 9
    (there with the natural logarithm, which only rescales).

    Args:
        labels: [K] from 0 to 1.
        predicted: [K] what they are ordered by; of equal ones the first is ahead.

    Raises:
        ValueError: lists of different lengths, or a number that is missing or infinite.
    """
    worth, guess = _two(labels, predicted)
    _check_grades(worth)
    rank = np.empty(len(guess))
    rank[np.argsort(-guess, kind="stable")] = np.arange(1, len(guess) + 1)
    gain, discount = np.exp2(worth) - 1, 1 / np.log2(1 + rank)
    made: FloatArray = np.abs(gain[:, None] - gain) * np.abs(discount[:, None] - discount)
    return made


def positional_weights(relevance: ArrayLike, positions: ArrayLike) -> FloatArray:
    """[K] gain over discount, (2^relevance - 1) / log2(1 + position): the weights of IRPO (2025).

    Args:
        relevance: [K] grades, 0 for what is irrelevant.
        positions: [K] places in the list as shown, from 1.

    Raises:
        ValueError: lists of different lengths, a grade that is negative, or a position below 1.
    """
    grade, place = _two(relevance, positions)
    if not ((grade >= 0) & (place >= 1) & np.isfinite(grade) & np.isfinite(place)).all():
        raise ValueError("grades are finite and begin at 0, positions at 1")
    _check_grades(grade)
    made: FloatArray = (np.exp2(grade) - 1) / np.log2(1 + place)
    return made


def _checked_draws(n: int) -> int:
    if not n >= 1:
        raise ValueError(f"best of n draws one or more; n is {n}")
    return checked_count(n, "n")


def best_of_n_divergence(n: int) -> float:
    """How far best-of-n can be from what it draws from: KL <= log n - (n - 1)/n, in nats."""
    n = _checked_draws(n)
    return float(np.log(n) - (n - 1) / n)


def best_of_n_win_rate(n: int) -> float:
    """How often the best of n beats one more draw, by the score that chose it: n/(n + 1), for scores without ties."""
    n = _checked_draws(n)
    return n / (n + 1)


def best_of_n(gold: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """The expected gold score of the response that is predicted best among n drawn ones, for n = 1 to K.

    Over all subsets of n of the K responses, in closed form: the response of rank i (from 0, by prediction) is the best
    of `C(K - 1 - i, n - 1)` of the `C(K, n)` subsets. Equal predictions share their mean gold score.

    Args:
        gold: [K] how good each response is.
        predicted: [K] what chooses.

    Returns:
        [K]; the first is the mean of all, the last the gold score of the one predicted best of all.

    Raises:
        ValueError: lists of different lengths, or a number that is missing or infinite.
    """
    score, guess = _two(gold, predicted)
    size = len(score)
    ordered = _mean_of_ties(score, guess)[np.argsort(-guess, kind="stable")]
    return np.array(
        [
            sum(comb(size - 1 - rank, n - 1) * ordered[rank] for rank in range(size)) / comb(size, n)
            for n in range(1, size + 1)
        ]
    )


def ideal_gap(reference_gap: ArrayLike, share: ArrayLike, beta: float) -> FloatArray:
    """The log-probability gap, winner less loser, of the policy that DPO would reach with data without end.

    `(lp_ref_w - lp_ref_l) + log(a / (1 - a)) / beta`, where a is the share of votes for the winner, clamped to [0.001,
    0.999]: that policy ranks the pair as people do only where it is above 0. Chen et al. 2024, Preference Learning
    Algorithms Do Not Learn Preference Rankings, theorem 3.1 (`ideal_correct`).

    Args:
        reference_gap: [E] the reference's log-probability of the winner less that of the loser.
        share: [E] the share of votes for the winner, 0 to 1.
        beta: DPO's, above 0.

    Returns:
        [E]; NaN where a gap or a share is.

    Raises:
        ValueError: lists of different lengths, a share or a beta out of range.
    """
    _check_beta(beta)
    gap = np.asarray(reference_gap, dtype=np.float64)
    votes = np.clip(checked_probabilities(share, "a share of votes"), 0.001, 0.999)
    if votes.ndim and gap.ndim and votes.shape != gap.shape:
        raise ValueError(f"each pair needs a gap and a share of votes; they are {gap.shape} and {votes.shape}")
    made: FloatArray = gap + np.log(votes / (1 - votes)) / beta
    return made


def loss_to_flip(reference_gap: ArrayLike, beta: float) -> FloatArray:
    """Below which DPO loss a pair is ranked rightly: `log(1 + e^(-beta c))` with `c = lp_ref_l - lp_ref_w`.

    The same paper, section 4: at the start of training the loss is log 2, whatever the reference ranks.

    Args:
        reference_gap: [E] the reference's log-probability of the winner less that of the loser (-c).
        beta: DPO's, above 0.

    Returns:
        [E]; NaN where a gap is.

    Raises:
        ValueError: a beta out of range.
    """
    _check_beta(beta)
    return -log_sigmoid(-beta * np.asarray(reference_gap, dtype=np.float64))


def _check_beta(beta: float) -> None:
    if not (beta > 0 and np.isfinite(beta)):
        raise ValueError(f"beta must be finite and above 0; it is {beta}")


def _check_grades(grades: FloatArray) -> None:
    """2^1000 is still a number, and a square of it none; no scale of relevance comes near."""
    if grades.size and grades.max() > 300:
        raise ValueError(f"a grade of relevance counts as 2 to its power; {grades.max():g} is too much for that")


def _mean_of_ties(gain: FloatArray, guess: FloatArray) -> FloatArray:
    _, code = np.unique(guess, return_inverse=True)
    mean: FloatArray = np.bincount(code, weights=gain) / np.bincount(code)
    return mean[code]


def _two(gold: ArrayLike, predicted: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"two lists of the same length are compared, not {first.shape} and {second.shape}")
    for side in (first, second):
        checked_numbers(side, "a score")
    return first, second
