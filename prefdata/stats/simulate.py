r"""Simulated annotators: comparisons, labels and scores whose truth is known.

For tests, for benchmarks, and for recipes that want people where none are at hand (their annotations then have the
source `rule`, never `human`). Each annotator has an ability, a position bias, a length bias, a tie threshold; may guess
without looking, copy another's earlier answer, and grow lazy: the ability decays as e^(-laziness k) with the number k
of answers given before. A negative ability is an adversary.

    comparison   x = a (theta_i - theta_j) + b position + c length + logistic noise; x > t: i, x < -t: j, else a tie
    label        right with probability e^(a clarity)/(e^(a clarity) + K - 1), else one of the K - 1 wrong ones, evenly
    score        centre + gain (a theta_i + c length_i + s0 normal noise), s0 = 1.702/sqrt(2) (see `joint`)

Every random number is a hash of (seed, annotator, question, purpose): an answer does not depend on which others are
asked for, nor on their order, except through laziness and copying, which are about order. So a run that is interrupted
and taken up again gets the same answers, and the functions on arrays give what `answer_*` give one at a time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.simulated import Annotators, compared, copies, labelled, scored, shown_first

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparisons:
    """Simulated comparisons, in the order in which they were made: what estimators take.

    Attributes:
        winners: [m] who was said to be better; of a tie, who was named first.
        losers: [m].
        p: [m] 1, or 0.5 for a tie.
        annotators: [m].
        position: [m] +1 where the winner was shown first, -1 second.
        length: [m] the winner's length less the loser's.
        copied: [m] whether it repeats another's answer.
        questions: [m].
    """

    winners: IntArray
    losers: IntArray
    p: FloatArray
    annotators: IntArray
    position: FloatArray
    length: FloatArray
    copied: BoolArray
    questions: IntArray

    def part(self, rows: ArrayLike) -> Comparisons:
        """Some of them, by a mask or by numbers."""
        index = np.asarray(rows)
        return Comparisons(*(getattr(self, each.name)[index] for each in fields(self)))


@dataclass(frozen=True)
class Labels:
    """Simulated labels in the order given.

    Attributes:
        items: [m] what was labelled.
        annotators: [m].
        labels: [m] in [0, K).
        copied: [m] whether it repeats another's answer.
    """

    items: IntArray
    annotators: IntArray
    labels: IntArray
    copied: BoolArray


def question_number(text: str) -> int:
    """A number for a question that is known by a text (an id), for `answer_*`: the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def answer_comparison(
    annotators: Annotators,
    annotator: int,
    difference: float,
    *,
    question: int,
    position: float = 0.0,
    length: float = 0.0,
    given: int = 0,
    earlier: float | None = None,
    seed: int = 0,
) -> float:
    """One comparison: 1 the first is better, 0 the second, 0.5 a tie.

    Args:
        annotators: all of them.
        annotator: which one answers.
        difference: of the strengths, the first less the second.
        question: its number (`question_number` of an id), the same for both orders of a pair.
        position: +1 the first is shown first, -1 second, 0 both at once.
        length: the first's length less the second's.
        given: how many answers this annotator gave before.
        earlier: what the annotator's source said to the same question about the same first; None where that is not
            known.
        seed: of all answers.
    """
    made = compared(
        annotators, np.array([annotator]), np.array([difference]), np.array([position]), np.array([length]),
        np.array([question], dtype=np.int64), np.array([given]), seed,
    )  # fmt: skip
    return float(made[0]) if earlier is None or not _copying(annotators, annotator, question, seed) else earlier


def answer_label(
    annotators: Annotators,
    annotator: int,
    truth: int,
    classes: int,
    *,
    question: int,
    clarity: float = 2.0,
    given: int = 0,
    earlier: int | None = None,
    seed: int = 0,
) -> int:
    """One label in [0, classes).

    Args:
        annotators: all of them.
        annotator: which one answers.
        truth: the right label.
        classes: how many there are, K.
        question: its number.
        clarity: of the item: at 0 nobody can tell.
        given: how many answers this annotator gave before.
        earlier: the source's label of the same item; None where that is not known.
        seed: of all answers.
    """
    made = labelled(annotators, np.array([annotator]), np.array([truth]), classes, np.array([clarity]),
                     np.array([question], dtype=np.int64), np.array([given]), seed)  # fmt: skip
    return int(made[0]) if earlier is None or not _copying(annotators, annotator, question, seed) else earlier


def answer_score(
    annotators: Annotators,
    annotator: int,
    strength: float,
    *,
    question: int,
    length: float = 0.0,
    given: int = 0,
    earlier: float | None = None,
    seed: int = 0,
) -> float:
    """One score; arguments as of `answer_comparison`, of one contestant and not of a difference."""
    made = scored(annotators, np.array([annotator]), np.array([strength]), np.array([length]),
                   np.array([question], dtype=np.int64), np.array([given]), seed)  # fmt: skip
    return float(made[0]) if earlier is None or not _copying(annotators, annotator, question, seed) else earlier


def assign(questions: int, each: int, annotators: int, *, seed: int = 0) -> tuple[IntArray, IntArray]:
    """Which annotators answer what: `each` different ones for each question, drawn, in a random order of rows.

    Args:
        questions: how many there are.
        each: annotators of a question.
        annotators: how many there are.
        seed: of the draw.

    Returns:
        Questions [questions * each] and annotators [questions * each].
    """
    if not 1 <= each <= annotators:
        raise ValueError(f"a question can have from 1 to {annotators} different annotators, not {each}")
    draw = np.random.default_rng(seed)
    if each * 4 >= annotators:
        chosen = np.argsort(draw.random((questions, annotators)), axis=1)[:, :each]
    else:  # among many annotators a repetition is rare, and drawn anew
        chosen = draw.integers(annotators, size=(questions, each))
        while True:
            ordered = np.sort(chosen, axis=1)
            again = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
            if not again.any():
                break
            chosen[again] = draw.integers(annotators, size=(int(again.sum()), each))
    order = draw.permutation(questions * each)
    return np.repeat(np.arange(questions), each)[order], chosen.ravel()[order].astype(np.int64)


def simulate_comparisons(
    annotators: Annotators,
    strengths: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    by: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    position: ArrayLike | None = None,
    questions: ArrayLike | None = None,
    seed: int = 0,
) -> Comparisons:
    """Comparisons, row after row in time.

    Args:
        annotators: who they are.
        strengths: [n] of the contestants.
        first: [m] contestants.
        second: [m] contestants.
        by: [m] the number of the annotator who answers.
        lengths: [n] of the contestants, scaled; 0 unless given.
        position: [m] +1 where `first` is shown first, else -1; drawn unless given.
        questions: [m] what is asked; the same pair is the same question unless given.
            An annotator who is asked the same question again says the same again.
        seed: of all answers.

    Returns:
        The answers, turned so that the winner comes first.
    """
    theta, i, j, w = np.asarray(strengths, dtype=np.float64), *_rows(annotators, by, first, second)
    if i.size and max(i.max(), j.max()) >= len(theta):
        raise ValueError(f"contestants must lie in [0, {len(theta)})")
    long = np.zeros(len(theta)) if lengths is None else np.asarray(lengths, dtype=np.float64)
    asked = np.minimum(i, j) * len(theta) + np.maximum(i, j) if questions is None else np.asarray(questions, np.int64)
    pos = shown_first(w, asked, seed) if position is None else np.asarray(position, dtype=np.float64)
    size = long[i] - long[j]
    said = compared(annotators, w, theta[i] - theta[j], pos, size, asked, _given(w), seed)
    root = _roots(annotators, w, asked, seed)
    said = np.where(i == i[root], said[root], 1 - said[root]) if len(said) else said
    turned = said == 0
    sign = np.where(turned, -1.0, 1.0)
    return Comparisons(
        np.where(turned, j, i), np.where(turned, i, j), np.where(turned, 1.0, said), w, pos * sign, size * sign,
        root != np.arange(len(w)), asked,
    )  # fmt: skip


def simulate_labels(
    annotators: Annotators,
    truth: ArrayLike,
    items: ArrayLike,
    by: ArrayLike,
    *,
    classes: int = 2,
    clarity: ArrayLike = 2.0,
    seed: int = 0,
) -> Labels:
    """Labels, row after row in time.

    Args:
        annotators: who they are.
        truth: [I] in [0, classes).
        items: [m] what is labelled.
        by: [m] the number of the annotator who answers.
        classes: K, at least 2.
        clarity: [I] or a number: an annotator of ability 1 is right with probability e^c/(e^c + K - 1).
        seed: of all answers.
    """
    right, of, w = np.asarray(truth, dtype=np.int64), *_rows(annotators, by, items)
    if classes < 2 or (right.size and (right.min() < 0 or right.max() >= classes)):
        raise ValueError(f"the truth must lie in [0, classes), with at least two classes; there are {classes}")
    if of.size and of.max() >= len(right):
        raise ValueError(f"items must lie in [0, {len(right)})")
    clear = np.broadcast_to(np.asarray(clarity, dtype=np.float64), right.shape)
    said = labelled(annotators, w, right[of], classes, clear[of], of, _given(w), seed)
    root = _roots(annotators, w, of, seed)
    return Labels(of, w, said[root], root != np.arange(len(w)))


def simulate_scores(
    annotators: Annotators,
    strengths: ArrayLike,
    contestants: ArrayLike,
    by: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    seed: int = 0,
) -> FloatArray:
    """Scores [m] of contestants, row after row in time; arguments as of `simulate_comparisons`."""
    theta, of, w = np.asarray(strengths, dtype=np.float64), *_rows(annotators, by, contestants)
    long = np.zeros(len(theta)) if lengths is None else np.asarray(lengths, dtype=np.float64)
    said = scored(annotators, w, theta[of], long[of], of, _given(w), seed)
    result: FloatArray = said[_roots(annotators, w, of, seed)]
    return result


def _rows(annotators: Annotators, by: ArrayLike, *columns: ArrayLike) -> list[IntArray]:
    made = [np.asarray(column, dtype=np.int64) for column in (*columns, by)]
    if any(column.ndim != 1 or column.shape != made[0].shape for column in made):
        raise ValueError(f"lists of one length are needed; they are {[column.shape for column in made]}")
    if any(column.size and column.min() < 0 for column in made):
        raise ValueError("numbers of contestants, items and annotators must not be negative")
    if made[-1].size and made[-1].max() >= len(annotators):
        raise ValueError(f"annotators must lie in [0, {len(annotators)})")
    return made


def _copying(annotators: Annotators, annotator: int, question: int, seed: int) -> bool:
    return bool(copies(annotators, np.array([annotator]), np.array([question], dtype=np.int64), seed)[0])


def _given(w: IntArray) -> IntArray:
    """[m] how many answers the row's annotator gave in earlier rows."""
    order = np.argsort(w, kind="stable")
    counts = np.bincount(w) if len(w) else np.zeros(0, dtype=np.int64)
    made = np.empty(len(w), dtype=np.int64)
    made[order] = np.arange(len(w)) - np.repeat(np.cumsum(counts) - counts, counts)
    return made


def _roots(annotators: Annotators, w: IntArray, question: IntArray, seed: int) -> IntArray:
    """[m] the row whose answer each row repeats in the end; itself where it copies nobody."""
    root = np.arange(len(w))
    source = annotators.source[w]
    rows = np.flatnonzero(copies(annotators, w, question, seed))
    if not len(rows):
        return root
    _, asked = np.unique(question, return_inverse=True)
    key = asked * len(annotators) + w
    order = np.lexsort((root, key))
    # The last row of (question, source) before this one: just left of where (key, row) would stand.
    wanted = asked[rows] * len(annotators) + source[rows]
    place = np.searchsorted(key[order] * (len(w) + 1) + order, wanted * (len(w) + 1) + rows) - 1
    found = order[np.maximum(place, 0)]
    there = (place >= 0) & (key[found] == wanted)
    root[rows[there]] = found[there]
    while True:  # rows point to earlier rows only, so this ends
        further = root[root]
        if (further == root).all():
            return root
        root = further
