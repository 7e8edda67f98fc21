"""Labels by many annotators as numbers, the result of a model of them, and the majority vote.

The models of annotators (`dawid_skene`, `one_coin`, `glad`, `mace`) take the same three columns and give a `Crowd`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.coding import FloatArray, IntArray, missing, ordered
from prefdata.stats.estimate import normal_quantile

Column = Sequence[Any] | NDArray[Any]

_BLOCK = 1 << 17
"""Labels that are taken at once: their part of the posterior stays in the cache, and the temporaries stay small."""


@dataclass(frozen=True)
class Crowd:
    """What is known of the truth, and of those who labelled.

    Attributes:
        values: [I, K] probability of each class, rows add up to 1.
        low: [I, K] lower ends: what not knowing the annotators exactly leaves open; NaN where that was not asked for.
        high: [I, K] upper ends.
        codes: [I] number of the most probable class; -1 where no single one is (a tie). `labels` has the classes.
        classes: [K] the labels as they were given.
        items: [I] the things labelled, as they were given: sorted where they came as an array of numbers, else in the
            order of first occurrence.
        annotators: [W] likewise.
        abilities: [W] probability that an annotator is right; NaN where there is only one class to be right about.
        ability_low: [W] lower ends.
        ability_high: [W] upper ends.
        log_likelihood: of the labels, all that is unseen summed out; NaN where the method has none.
        iterations: how many it took.
        converged: whether the objective had stopped rising when the iterations ended.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    codes: IntArray
    classes: list[Any]
    items: Column
    annotators: Column
    abilities: FloatArray
    ability_low: FloatArray
    ability_high: FloatArray
    log_likelihood: float
    iterations: int
    converged: bool

    @property
    def labels(self) -> NDArray[Any]:
        """[I] the most probable class of each item, as it was given; None where no single one is (a tie)."""
        known = np.empty(len(self.classes) + 1, dtype=object)
        known[:-1] = self.classes
        tied = (self.codes < 0).any()
        return known[self.codes] if tied else np.asarray(self.classes)[self.codes]


@dataclass(frozen=True)
class Votes:
    """Three columns as codes, to be read in blocks of whole items.

    Columns that are codes already (arrays of whole numbers 0, 1, ... without a gap) are not copied.

    Attributes:
        annotator: [n] number of the annotator of each label.
        label: [n] number of the class of each label.
        starts: [I + 1] where the labels of each item begin, in the order `order`.
        order: [n] rows sorted by item; None where they are sorted as they stand.
        items: [I] names.
        annotators: [W] names.
        classes: [K] names.
        known: [I] class of the items whose truth is given, -1 of the others; None where none is.
    """

    annotator: NDArray[Any]
    label: NDArray[Any]
    starts: NDArray[Any]
    order: NDArray[Any] | None
    items: Column
    annotators: Column
    classes: list[Any]
    known: IntArray | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, W, K)."""
        return len(self.starts) - 1, len(self.annotators), len(self.classes)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Ranges of items, and of their labels."""
        first, last = 0, len(self.starts) - 1
        while first < last:
            stop = int(np.searchsorted(self.starts, self.starts[first] + _BLOCK, side="right")) - 1
            stop = min(max(stop, first + 1), last)
            yield slice(first, stop), slice(int(self.starts[first]), int(self.starts[stop]))
            first = stop

    def rows(self, labels: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        """Annotator and class of a range of labels, sorted by item."""
        where = labels if self.order is None else self.order[labels]
        return self.annotator[where], self.label[where]

    def one_hot(self, items: slice, labels: slice) -> Any:
        """Sparse [items, W * K]: a one for each label, in the column annotator * K + class."""
        from scipy.sparse import csr_array

        _, w, k = self.shape
        annotator, label = self.rows(labels)
        columns = annotator.astype(np.int32) * k + label
        pointers = (self.starts[items.start : items.stop + 1] - self.starts[items.start]).astype(np.int32)
        ones = np.ones(len(columns))
        return csr_array((ones, columns, pointers), shape=(items.stop - items.start, w * k))

    def counts(self) -> FloatArray:
        """[I, K] how many labels of each class an item has."""
        size, _, k = self.shape
        result = np.empty((size, k))
        for items, labels in self.blocks():
            here = items.stop - items.start
            of = np.repeat(np.arange(here), np.diff(self.starts[items.start : items.stop + 1]))
            result[items] = np.bincount(of * k + self.rows(labels)[1], minlength=here * k).reshape(here, k)
        return result


def votes(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    known: Mapping[Any, Any] | None = None,
) -> Votes:
    """Code three columns.

    Args:
        items: [n] what was labelled.
        annotators: [n] by whom.
        labels: [n] as what. Missing ones are to be left out before.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        known: item -> its true class.

    Raises:
        ValueError: columns of different lengths, no labels, a missing entry, a label that is no class, or a known item
            that nobody labelled.
    """
    if not len(items) == len(annotators) == len(labels):
        raise ValueError(
            f"items, annotators and labels must be as long as one another; they are {len(items)}, {len(annotators)} "
            f"and {len(labels)}"
        )
    if not len(items):
        raise ValueError("there are no labels")
    item, item_names = coded(items, "item")
    annotator, annotator_names = coded(annotators, "annotator")
    label, found = coded(labels, "label")
    label, names = _classed(label, list(found), classes)
    starts, order = _grouped(item, len(item_names))
    truth = None if not known else _known(known, item_names, names)
    return Votes(annotator, label, starts, order, item_names, annotator_names, names, truth)


def majority_vote(
    items: Column,
    annotators: Column,
    labels: Column,
    *,
    classes: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Crowd:
    """Shares of the votes, with Wilson's intervals: what is left open by having few of them.

    An annotator's ability is here the share of the labels on which they are with the majority of the others, ties of
    the others left out; NaN where nobody else labelled what they did.

    Args:
        items: [n] what was labelled; any hashable.
        annotators: [n] by whom.
        labels: [n] as what.
        classes: the labels there are, in the order wanted; those that occur, sorted, unless given.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: as in `votes`.
    """
    z = normal_quantile(confidence)
    given = votes(items, annotators, labels, classes=classes)
    counts = given.counts()
    total = counts.sum(axis=1, keepdims=True)
    low, high = wilson_intervals(counts, total, z)
    right, asked = _with_the_others(given, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        abilities = right / asked
    ability_low, ability_high = wilson_intervals(right, asked, z)
    unknown = asked == 0
    ability_low[unknown] = ability_high[unknown] = np.nan
    values = counts / total
    return Crowd(
        values, low, high, most_probable(counts), given.classes, given.items, given.annotators,
        abilities, ability_low, ability_high, float("nan"), 0, True,
    )  # fmt: skip


def wilson_intervals(successes: FloatArray, n: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """`wilson_interval` of arrays; (0, 1) where n is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = successes / n
        centre = p + z * z / (2 * n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        low = np.where(successes == 0, 0.0, np.clip((centre - half) / scale, 0, None))
        high = np.where(successes == n, 1.0, np.clip((centre + half) / scale, None, 1))
    return low, high


def most_probable(values: FloatArray) -> IntArray:
    """[I] the number of the largest entry of each row; -1 where several are the largest, but for rounding."""
    best = values.argmax(axis=1)
    top = values[np.arange(len(values)), best]
    near = max(1e-9, 4 * float(np.finfo(values.dtype).eps))
    tied = (values >= (top - near * np.abs(top))[:, None]).sum(axis=1) > 1
    return np.where(tied, -1, best).astype(np.int64)


def _with_the_others(given: Votes, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[W] labels that agree with the majority of the others, and labels where the others have one."""
    _, w, k = given.shape
    right, asked = np.zeros(w), np.zeros(w)
    for items, labels in given.blocks():
        annotator, label = given.rows(labels)
        of = np.repeat(np.arange(items.start, items.stop), np.diff(given.starts[items.start : items.stop + 1]))
        others = counts[of]
        mine = np.arange(len(of))
        others[mine, label] -= 1
        best = others.argmax(axis=1)
        clear = (others == others[mine, best][:, None]).sum(axis=1) == 1 if k > 1 else others[:, 0] < 0
        asked += np.bincount(annotator, weights=clear, minlength=w)
        right += np.bincount(annotator, weights=clear & (best == label), minlength=w)
    return right, asked


def coded(values: Column, what: str) -> tuple[NDArray[Any], Column]:
    """Each entry's number, and the names; an array of codes comes back as it is."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"the {what}s must be a list; they are an array of shape {values.shape}")
        if values.dtype.kind in "iu":
            return _whole(values)
        if values.dtype.kind == "f":
            if not np.isfinite(values).all():
                bad = int(np.argmin(np.isfinite(values)))
                raise ValueError(f"{what} {bad} is missing or infinite: leave such rows out first")
            known, numbers = np.unique(values, return_inverse=True)
            return numbers.astype(np.int32), known
        values = values.tolist()
    code: dict[Hashable, int] = {}
    made = np.fromiter((code.setdefault(value, len(code)) for value in values), dtype=np.int32, count=len(values))
    for value, number in code.items():
        if missing(value):
            raise ValueError(f"{what} {int(np.argmax(made == number))} is missing: leave such rows out first")
    return made, list(code)


def _whole(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Whole numbers without a sort where they are not far apart, and as they stand where they are codes already."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 4 * len(values) + 1024:
        known, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int32), known
    seen = np.zeros(high + 1, dtype=bool)
    for part in _parts(len(values)):
        seen[values[part]] = True
    if seen.all():
        return values, np.arange(high + 1, dtype=values.dtype if high < 1 << 30 else np.int64)
    table = (np.cumsum(seen) - 1).astype(np.int32)
    made = np.empty(len(values), dtype=np.int32)
    for part in _parts(len(values)):
        made[part] = table[values[part]]
    return made, np.flatnonzero(seen).astype(values.dtype)


def _parts(n: int) -> Iterator[slice]:
    # An index array of 32 bits becomes one of 64 inside NumPy: of a part only, not of ten million rows.
    for start in range(0, n, 1 << 17):
        yield slice(start, min(start + (1 << 17), n))


def _classed(label: NDArray[Any], found: list[Any], classes: Sequence[Any] | None) -> tuple[NDArray[Any], list[Any]]:
    found = [value.item() if isinstance(value, np.generic) else value for value in found]
    names = ordered(set(found)) if classes is None else list(classes)
    number = {name: position for position, name in enumerate(names)}
    if len(number) != len(names) or not names:
        raise ValueError("the classes must be different from one another, and at least one")
    for position, value in enumerate(found):
        if value not in number:
            raise ValueError(f"label {int(np.argmax(label == position))} is {value!r}, which is none of the classes")
    table = np.array([number[value] for value in found], dtype=np.int32)
    if (table == np.arange(len(table))).all():
        return label, names
    return table[label], names


def _known(known: Mapping[Any, Any], items: Column, classes: list[Any]) -> IntArray:
    names = items.tolist() if isinstance(items, np.ndarray) else items
    position = {name: at for at, name in enumerate(names)}
    truth = np.full(len(position), -1, dtype=np.int64)
    for item, value in known.items():
        if item not in position:
            raise ValueError(f"the class of {item!r} is given as known, but nobody labelled it")
        if value not in classes:
            raise ValueError(f"the class of {item!r} is given as {value!r}, which is none of {classes}")
        truth[position[item]] = classes.index(value)
    return truth


def _grouped(item: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Where the labels of each item start, and the order that sorts them."""
    starts: NDArray[Any] = np.zeros(count + 1, dtype=np.int32 if len(item) < 1 << 30 else np.int64)
    rises = True
    for part in _parts(len(item)):
        some = item[part.start : part.stop + 1]
        rises = rises and bool((some[1:] >= some[:-1]).all())
        some = item[part].astype(np.int64)
        low = int(some.min())
        found = np.bincount(some - low)
        starts[1 + low : 1 + low + len(found)] += found
    np.cumsum(starts, out=starts)
    if rises:
        return starts, None
    # Sorting numbers is several times faster than sorting their positions by them.
    key = item.astype(np.int64) << 32
    key |= np.arange(len(item))
    key.sort()
    return starts, (key & 0xFFFFFFFF).astype(np.uint32)
