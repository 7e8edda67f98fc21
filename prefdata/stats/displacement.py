"""Which pairs push the preferred response's own probability down, and which are ranked wrongly to begin with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import check_magnitude, checked_probabilities
from prefdata.stats.estimate import Estimate
from prefdata.stats.intervals import wilson_interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Displacement:
    """Centred hidden embedding similarity of each pair; high: the preferred response is likely to lose probability.

    Attributes:
        ches: [n] `<s_w, s_l> - |s_w|^2`, which length dominates.
        ches_ln: [n] `<s_w, s_l> / (n_w n_l) - |s_w|^2 / n_w^2`: filter by this one.
    """

    ches: FloatArray
    ches_ln: FloatArray


def ches(winner: ArrayLike, loser: ArrayLike, winner_tokens: ArrayLike, loser_tokens: ArrayLike) -> Displacement:
    """CHES scores from summed hidden states.

    Scores of different models cannot be compared; their ranks can. Not symmetric: exchange the sides, and the score is
    another one. NaN where a response has no token.

    Args:
        winner: [n, d] sums over the last layer's states that predict the tokens of the preferred response: the one at
            the prompt's last token and those at all of its own but the last.
        loser: [n, d] likewise of the other.
        winner_tokens: [n] how many states were summed.
        loser_tokens: [n] likewise.

    Raises:
        ValueError: shapes that do not fit, a state that is not finite, or a number of tokens that is no whole one.

    Source: Razin et al. 2024, Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization,
    definition 2 (`ches_scores`).
    """
    won, lost = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (winner, loser))
    n_w, n_l = np.atleast_1d(np.asarray(winner_tokens, np.float64)), np.atleast_1d(np.asarray(loser_tokens, np.float64))
    if won.shape != lost.shape or n_w.shape != (len(won),) or n_l.shape != (len(won),):
        raise ValueError(f"states of both sides have one shape, [n, d], not {won.shape} and {lost.shape}")
    if not (np.isfinite(won).all() and np.isfinite(lost).all()):
        raise ValueError("a hidden state is missing or infinite")
    if not (np.isfinite(n_w).all() and np.isfinite(n_l).all()):
        raise ValueError("a number of tokens is missing or infinite")
    if (n_w % 1).any() or (n_l % 1).any():
        raise ValueError("a number of tokens is a whole number")
    for numbers, what in ((won, "a hidden state"), (lost, "a hidden state"), (n_w, "a length"), (n_l, "a length")):
        check_magnitude(numbers, what)
    nothing = (n_w <= 0) | (n_l <= 0)
    product, own = (won * lost).sum(axis=1), (won * won).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token = product / (n_w * n_l) - own / n_w**2
    return Displacement(np.where(nothing, np.nan, product - own), np.where(nothing, np.nan, per_token))


def summed_states(states: ArrayLike, mask: ArrayLike) -> tuple[FloatArray, NDArray[np.int64]]:
    """Sums of hidden states over what a mask marks, and how many: padding never counts, whatever its states are.

    Args:
        states: [n, t, d].
        mask: [n, t] true where a state predicts a token of the response.
    """
    h, m = np.asarray(states, dtype=np.float64), np.asarray(mask, dtype=bool)
    return np.where(m[..., None], h, 0.0).sum(axis=1), m.sum(axis=1).astype(np.int64)


@dataclass(frozen=True)
class RankingAccuracy:
    """How often a model finds the preferred response likelier, by the sum and by the mean over tokens.

    Attributes:
        summed: share of pairs with a higher sum, with Wilson's interval over pairs; ties half.
        per_token: the same of the mean.
    """

    summed: Estimate
    per_token: Estimate


def ranking_accuracy(
    winner: ArrayLike,
    loser: ArrayLike,
    winner_tokens: ArrayLike,
    loser_tokens: ArrayLike,
    *,
    share: ArrayLike | None = None,
    confidence: float = 0.95,
) -> RankingAccuracy:
    """Ranking accuracy of a model on pairs; the two forms differ a lot, so both are given.

    Args:
        winner: [n] summed log-probability of the preferred response.
        loser: [n] of the other.
        winner_tokens: [n] tokens of either.
        loser_tokens: [n]
        share: [n] share of votes for the winner; pairs with 0.5, a tie of the people, are left out.
        confidence: of the intervals, in (0, 1).

    A pair with a log-probability that is missing or infinite, or without tokens, is left out; `n` says what is left.

    Raises:
        ValueError: lists of different lengths, or a share outside [0, 1].

    Source: Chen et al. 2024, Preference Learning Algorithms Do Not Learn Preference Rankings.
    """
    won, lost = np.asarray(winner, dtype=np.float64), np.asarray(loser, dtype=np.float64)
    n_w, n_l = np.asarray(winner_tokens, dtype=np.float64), np.asarray(loser_tokens, dtype=np.float64)
    if won.ndim != 1 or not won.shape == lost.shape == n_w.shape == n_l.shape:
        raise ValueError(
            f"each pair needs two log-probabilities and two numbers of tokens; they are {won.shape}, {lost.shape}, "
            f"{n_w.shape} and {n_l.shape}"
        )
    keep = np.isfinite(won) & np.isfinite(lost) & (n_w > 0) & (n_l > 0)
    if share is not None:
        votes = checked_probabilities(share, "a share of votes")
        if votes.shape != won.shape:
            raise ValueError(f"each of the {len(won)} pairs needs a share of votes; there are {votes.shape}")
        keep &= votes != 0.5

    def rated(gap: FloatArray) -> Estimate:
        hits, n = float((0.5 + 0.5 * np.sign(gap)).sum()), len(gap)
        if not n:
            return Estimate(None, None, None, 0)
        low, high = wilson_interval(hits, n, confidence)
        return Estimate(hits / n, low, high, n)

    won, lost, n_w, n_l = won[keep], lost[keep], n_w[keep], n_l[keep]
    return RankingAccuracy(rated(won - lost), rated(won / n_w - lost / n_l))


def flipping_beta(reference_gap: ArrayLike, share: ArrayLike) -> FloatArray:
    """The largest beta at which the ideal policy still ranks a pair that the reference ranks wrongly as people do.

    `log(a / (1 - a)) / c` with `c = lp_ref_l - lp_ref_w` above 0 and a clamped to [0.001, 0.999]; infinite where the
    reference is right and so are the votes, NaN where no beta does it (most voted against the label).

    Args:
        reference_gap: [n] the reference's log-probability of the winner less that of the loser (-c).
        share: [n] the share of votes for the winner, 0 to 1.

    Raises:
        ValueError: lists of different lengths, or a share outside [0, 1].

    Source: Chen et al. 2024, the condition of `ideal_gap`.
    """
    c = -np.asarray(reference_gap, dtype=np.float64)
    a = np.clip(checked_probabilities(share, "a share of votes"), 0.001, 0.999)
    if a.ndim and c.ndim and a.shape != c.shape:
        raise ValueError(f"each pair needs a gap and a share of votes; they are {c.shape} and {a.shape}")
    odds = np.log(a / (1 - a))
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = odds / c
    beta = np.where(c <= 0, np.where((odds > 0) | ((odds == 0) & (c < 0)), np.inf, np.nan), beta)
    result: FloatArray = np.where((c > 0) & (odds <= 0), np.nan, beta)
    return result
