"""From the arguments of the joint model to the arrays that it is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.checking import checked_count
from prefdata.stats.joint_data import (
    LARGE_SHEET,
    Data,
    FloatArray,
    IntArray,
    Layout,
    Scores,
    Votes,
    contestants,
    lay_out,
    number_column,
    numbers,
    outcomes,
)

ScoreColumns = tuple[ArrayLike, Sequence[Any] | NDArray[Any], ArrayLike]
"""Contestants, annotators and values of scores."""


def prepare(
    winners: ArrayLike,
    losers: ArrayLike,
    annotators: Sequence[Any] | NDArray[Any],
    *,
    p: ArrayLike | None,
    weights: ArrayLike | None,
    position: ArrayLike | None,
    length: ArrayLike | None,
    scores: ScoreColumns | None,
    score_length: ArrayLike | None,
    groups: ArrayLike | None,
    n: int | None,
) -> Data:
    """Check, code and lay out. See `joint_model` for the arguments.

    Raises:
        ValueError: what `joint_model` says.
    """
    first, second = contestants(winners, losers)
    m = len(first)
    if len(annotators) != m:
        raise ValueError(f"each of the {m} comparisons needs an annotator; there are {len(annotators)}")
    win, loss, tie = outcomes(m, p, weights)
    scored, raters, values, score_lengths = _score_columns(scores, score_length)
    who, names = numbers(_joined(annotators, raters))
    top = max(first.max(initial=-1), second.max(initial=-1), scored.max(initial=-1))
    size = int(top) + 1 if n is None else checked_count(n, "n")
    if size < 1:
        raise ValueError("there is no contestant: no comparison, no score and no n was given")
    if top >= size or min(first.min(initial=0), second.min(initial=0), scored.min(initial=0)) < 0:
        raise ValueError(f"contestants must lie in [0, {size})")
    group = _groups(groups, size, first, second)
    voter, rater = who[:m], who[m:]
    used = win + loss + tie > 0
    columns = number_column(position, m, "position"), number_column(length, m, "length")
    if not used.all():
        first, second, voter = first[used], second[used], voter[used]
        win, loss, tie = win[used], loss[used], tie[used]
        columns = tuple(x if x is None else x[used] for x in columns)  # type: ignore[assignment]
    if columns[1] is None:
        first, second, voter, win, loss, tie, at = _counted(
            first, second, voter, win, loss, tie, columns[0], size, len(names)
        )
        columns = at, None
    told = _sheets(group, scored, rater, values, score_lengths, len(names))
    edges = np.concatenate([first, told["link"][0]]), np.concatenate([second, told["link"][1]])
    layout = lay_out(size, edges)
    cells = _cells(np.concatenate([first, second, told["contestant"]]),
                   np.concatenate([voter, voter, told["annotator"]]), size, len(names))  # fmt: skip
    of, m = cells[2], len(first)
    place = layout.place(first, second) if layout.dense else np.zeros(0, dtype=np.int64)
    votes = Votes(first, second, voter, win, loss, tie, *columns, of[:m], of[m : 2 * m], place)
    return Data(size, tuple(names), votes, _scores(told, of[2 * m :], layout), cells[0], cells[1], layout, group)


def _counted(
    first: IntArray,
    second: IntArray,
    voter: IntArray,
    win: FloatArray,
    loss: FloatArray,
    tie: FloatArray,
    position: FloatArray | None,
    n: int,
    annotators: int,
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Equal rows as one with their weights added up, where a table of all rows there could be is smaller."""
    places, place = (np.zeros(1), 0) if position is None else np.unique(position, return_inverse=True)
    total = n * n * annotators * len(places)
    if total > len(first):
        return first, second, voter, win, loss, tie, position
    key = ((first * n + second) * annotators + voter) * len(places) + place
    counts = [np.bincount(key, each, total).astype(np.float64) for each in (win, loss, tie)]
    found = np.flatnonzero(np.sum(counts, axis=0))
    rest, of = np.divmod(found, len(places))
    pair, w = np.divmod(rest, annotators)
    i, j = np.divmod(pair, n)
    a, b, c = (count[found] for count in counts)
    return i, j, w, a, b, c, None if position is None else places[of]


def _joined(annotators: Sequence[Any] | NDArray[Any], raters: Sequence[Any] | NDArray[Any]) -> Sequence[Any] | Any:
    if not len(raters):
        return annotators
    a, b = np.asarray(annotators), np.asarray(raters)
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        return np.concatenate([a, b])
    if not len(annotators):
        return raters
    return [*_plain(annotators), *_plain(raters)]


def _plain(names: Sequence[Any] | NDArray[Any]) -> list[Any]:
    return names.tolist() if isinstance(names, np.ndarray) else list(names)


def _score_columns(
    scores: ScoreColumns | None, lengths: ArrayLike | None
) -> tuple[IntArray, Sequence[Any] | NDArray[Any], FloatArray, FloatArray | None]:
    if scores is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), None
    of, raters, values = np.asarray(scores[0]), scores[1], np.asarray(scores[2], dtype=np.float64)
    if of.ndim != 1 or values.shape != of.shape or len(raters) != len(of):
        raise ValueError("scores are three lists of one length: contestants, annotators and values")
    if len(of) and of.dtype.kind not in "iu":
        raise ValueError("scored contestants must be integers, their numbers")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"score {row} is missing or infinite ({values[row]}): leave such scores out")
    return of.astype(np.int64), raters, values, number_column(lengths, len(of), "score_length")


def _groups(groups: ArrayLike | None, n: int, first: IntArray, second: IntArray) -> IntArray:
    if groups is None:
        return np.zeros(n, dtype=np.int64)
    given = np.asarray(groups)
    if given.shape != (n,):
        raise ValueError(f"groups must name the group of each of the {n} contestants; its shape is {given.shape}")
    _, group = np.unique(given, return_inverse=True)
    across = group[first] != group[second]
    if across.any():
        row = int(np.argmax(across))
        raise ValueError(
            f"comparison {row} is between contestants of two groups ({given[first[row]]} and {given[second[row]]}): "
            "only contestants of one group (one prompt) are compared"
        )
    return group.astype(np.int64)


def _cells(contestant: IntArray, annotator: IntArray, n: int, annotators: int) -> tuple[IntArray, IntArray, IntArray]:
    """The pairs (contestant, annotator) that have data, and which of them each row is."""
    key = contestant * annotators + annotator
    if n * annotators <= 4 * len(key) + 1000:
        there = np.bincount(key, minlength=n * annotators) > 0
        known, of = np.flatnonzero(there), (np.cumsum(there) - 1)[key]
    else:
        known, of = np.unique(key, return_inverse=True)
    return (known // annotators).astype(np.int64), (known % annotators).astype(np.int64), of.astype(np.int64)


def _sheets(
    group: IntArray, of: IntArray, rater: IntArray, values: FloatArray, lengths: FloatArray | None, annotators: int
) -> dict[str, Any]:
    """Scores by (group, annotator): those of a sheet of one, or of an annotator who never varies, say nothing."""
    _, sheet = np.unique(group[of] * annotators + rater, return_inverse=True)
    size = np.bincount(sheet)
    centred = values - (np.bincount(sheet, weights=values) / np.maximum(size, 1))[sheet]
    freedom = np.bincount(rater, minlength=annotators) - _sheets_of(sheet, rater, annotators)
    largest = np.zeros(annotators)
    np.maximum.at(largest, rater, np.abs(values))
    squares = np.bincount(rater, weights=centred**2, minlength=annotators)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(squares / freedom)
    deviation[~(deviation > 1e-12 * largest)] = np.nan  # rounding of a constant is no variation
    kept = np.isfinite(deviation[rater]) & (size[sheet] > 1)
    of, rater, centred, sheet = of[kept], rater[kept], centred[kept], sheet[kept]
    _, sheet = np.unique(sheet, return_inverse=True)
    order = np.argsort(sheet, kind="stable")
    of, rater, centred, sheet = of[order], rater[order], centred[order] / deviation[rater[order]], sheet[order]
    size = np.bincount(sheet)
    if lengths is not None:
        lengths = lengths[kept][order]
        lengths = lengths - (np.bincount(sheet, weights=lengths) / np.maximum(size, 1))[sheet]
    same = np.flatnonzero(sheet[1:] == sheet[:-1]) if len(sheet) else np.zeros(0, dtype=np.int64)
    return {
        "contestant": of, "annotator": rater, "value": centred, "length": lengths, "sheet": sheet, "size": size,
        "deviation": deviation, "freedom": np.where(np.isfinite(deviation), freedom, 0).astype(np.float64),
        "link": (of[same], of[same + 1]),
    }  # fmt: skip


def _sheets_of(sheet: IntArray, rater: IntArray, annotators: int) -> IntArray:
    if not len(sheet):
        return np.zeros(annotators, dtype=np.int64)
    _, first = np.unique(sheet, return_index=True)
    return np.bincount(rater[first], minlength=annotators).astype(np.int64)


def _scores(told: dict[str, Any], cell: IntArray, layout: Layout) -> Scores:
    sheet, size = told["sheet"], told["size"]
    left = place = np.zeros(0, dtype=np.int64)
    large: tuple[slice, ...] = ()
    first = np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.int64) if len(size) else np.zeros(0, dtype=np.int64)
    if layout.dense and len(sheet):
        many = size > LARGE_SHEET
        large = tuple(slice(int(first[s]), int(first[s] + size[s])) for s in np.flatnonzero(many))
        rows = np.flatnonzero(~many[sheet])
        times = size[sheet[rows]]
        left = np.repeat(rows, times)
        right = first[sheet[left]] + np.arange(len(left)) - np.repeat(np.cumsum(times) - times, times)
        place = layout.place(told["contestant"][left], told["contestant"][right])
    return Scores(
        told["contestant"], told["annotator"], told["value"], told["length"], sheet, told["annotator"][first],
        size.astype(np.float64), cell, left, place, large, told["freedom"], told["deviation"],
    )  # fmt: skip
