"""Whether texts hold protected ones: whole, as a passage, or by the share of their n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.similarity.hashing import Codes, IntArray, gram_codes, whole_codes, word_codes
from prefdata.similarity.normalising import normalised, words_of
from prefdata.similarity.shingles import FloatArray

LONG_PASSAGE = 50
"""Characters from which on a protected text that stands within another one is a hit."""

_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Overlap:
    """What texts have of protected ones.

    Attributes:
        fraction: the largest share of a protected text's n-grams that a text holds, in [0, 1]. [n]
        nearest: the number of the protected text that it is, else of the one that stands in it, else of the one of that
            share (the least of several); -1 where nothing is shared. [n]
        equal: whether the text is a protected one. [n]
        within: whether a protected text of more than `passage` characters stands in it. [n]
    """

    fraction: FloatArray
    nearest: IntArray
    equal: NDArray[np.bool_]
    within: NDArray[np.bool_]


class Protected:
    """Texts that others are not to hold, by their word n-grams.

    A protected text of fewer than `n` words has one n-gram, the whole of it, and so has a text that is compared: they
    share it if they are equal.

    Args:
        texts: the protected texts.
        n: words of an n-gram.
        allowed: texts whose n-grams count for nothing (`return x + y`), and which are no hit themselves.
        passage: characters that a protected text must have more of to be a hit as a passage.

    Raises:
        ValueError: n is less than 1.
    """

    def __init__(
        self, texts: Sequence[str], n: int = 13, *, allowed: Sequence[str] = (), passage: int = LONG_PASSAGE
    ) -> None:
        if n < 1:
            raise ValueError(f"an n-gram has at least one word, not {n}")
        self.n, self.passage = n, passage
        self.texts = normalised(list(texts)).to_list()
        free = set(normalised(list(allowed)).to_list())
        self._allowed = frozenset(free)
        codes, lengths, starts = _worded(self.texts)
        self._short = lengths < n
        item, gram, width = _all_grams(codes, starts, lengths, n)
        if free:
            free_codes, free_lengths, free_starts = _worded(sorted(free))
            for words in np.unique(width).tolist():
                known = _grams_of(free_codes, free_starts, free_lengths, int(words))[1]
                here = width == words
                kept = ~(here & np.isin(gram, known))
                item, gram, width = item[kept], gram[kept], width[kept]
        rows = pl.DataFrame({"gram": gram, "item": item, "width": width}).unique().sort("gram", "item")
        self._totals = np.bincount(rows["item"].to_numpy(), minlength=len(self.texts))
        self._gram, self._item = rows["gram"].to_numpy(), rows["item"].to_numpy()
        self._widths = sorted(rows["width"].unique().to_list())
        self._whole: dict[str, int] = {}
        for number, text in enumerate(self.texts):
            if text and text not in free:
                self._whole.setdefault(text, number)

    def __len__(self) -> int:
        return len(self.texts)

    def overlap(self, texts: Sequence[str | None] | pl.Series) -> Overlap:
        """What each text has of the protected ones.

        Args:
            texts: in any order; a null is an empty text.
        """
        given = normalised(texts)
        fraction, nearest = np.zeros(len(given)), np.full(len(given), -1, dtype=np.int64)
        within = np.zeros(len(given), dtype=bool)
        if self._widths:
            self._count(given, fraction, nearest, within)
        whole = np.asarray([self._whole.get(text, -1) for text in given], dtype=np.int64)
        equal = whole >= 0
        nearest = np.where(equal, whole, nearest)
        return Overlap(fraction, nearest, equal, within)

    def _count(self, given: pl.Series, fraction: FloatArray, nearest: IntArray, within: NDArray[np.bool_]) -> None:
        codes, lengths, starts = _worded(given.to_list())
        found_text, found_gram = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
        for words in self._widths:
            owner, gram = _grams_of(codes, starts, lengths, words)
            held = _among(gram, self._gram)
            found_text.append(owner[held])
            found_gram.append(gram[held])
        hits = pl.DataFrame({"text": np.concatenate(found_text), "gram": np.concatenate(found_gram)})
        hits = hits.unique().sort("text", "gram")
        text, gram = hits["text"].to_numpy(), hits["gram"].to_numpy()
        low, high = np.searchsorted(self._gram, gram, "left"), np.searchsorted(self._gram, gram, "right")
        many = (high - low).astype(np.int64)
        ends = np.cumsum(many)
        start = 0
        while start < len(text):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
            if stop < len(text):  # a text is looked at as a whole
                at = int(np.searchsorted(text, text[stop], "left"))
                stop = at if at > start else int(np.searchsorted(text, text[stop], "right"))
            some = many[start:stop]
            place = np.repeat(low[start:stop] - np.cumsum(some) + some, some) + np.arange(int(some.sum()))
            pairs = pl.DataFrame({"text": np.repeat(text[start:stop], some), "item": self._item[place]})
            counted = pairs.group_by("text", "item").len("shared").sort("text", "item")
            self._settle(counted, given, fraction, nearest, within)
            start = stop

    def _settle(
        self,
        counted: pl.DataFrame,
        given: pl.Series,
        fraction: FloatArray,
        nearest: IntArray,
        within: NDArray[np.bool_],
    ) -> None:
        item = counted["item"].to_numpy()
        share = counted["shared"].to_numpy() / self._totals[item]
        whole = share == 1.0
        for place in np.flatnonzero(self._short[item]).tolist():
            share[place] *= given[int(counted["text"][place])] == self.texts[int(item[place])]
        rows = counted.with_columns(whole=pl.Series(whole))
        rows = rows.with_columns(share=pl.Series(share))
        best = (
            rows.filter(pl.col("share") > 0)
            .sort("text", "share", "item", descending=[False, True, False])
            .unique("text", keep="first")
        )
        places = best["text"].to_numpy()
        fraction[places], nearest[places] = best["share"].to_numpy(), best["item"].to_numpy()
        # What stands within a text has all its n-grams there.
        for text, number in rows.filter("whole").select("text", "item").iter_rows():
            passage = self.texts[number]
            if len(passage) > self.passage and passage not in self._allowed and f" {passage} " in f" {given[text]} ":
                if not within[text]:
                    nearest[text] = number
                within[text] = True


def _worded(texts: Sequence[str]) -> tuple[Codes, IntArray, IntArray]:
    """Codes of the words of all texts, how many each has, and where each begins."""
    listed = words_of(texts, "raw")  # they are normalised
    lengths = listed.list.len().cast(pl.Int64).to_numpy()
    codes = word_codes(listed.filter(pl.Series(lengths > 0)).list.explode().cast(pl.String))
    return codes, lengths, (np.cumsum(lengths) - lengths).astype(np.int64)


def _grams_of(codes: Codes, starts: IntArray, lengths: IntArray, words: int) -> tuple[IntArray, Codes]:
    """The number of a text, and the code, of each run of so many words."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    gram = gram_codes(codes, words)
    inside = owner[: len(gram)] == owner[words - 1 :] if len(gram) else np.zeros(0, dtype=bool)
    return owner[: len(gram)][inside], gram[inside]


def _all_grams(codes: Codes, starts: IntArray, lengths: IntArray, n: int) -> tuple[IntArray, Codes, IntArray]:
    """Of each protected text the n-grams, or the one that it is: text, code, how many words."""
    owner, gram = _grams_of(codes, starts, lengths, n)
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    if not len(short):
        return owner, gram, np.full(len(owner), n)
    return (
        np.concatenate([owner, short]),
        np.concatenate([gram, whole_codes(codes, starts[short], lengths[short])]),
        np.concatenate([np.full(len(owner), n), lengths[short]]),
    )


def _among(values: Codes, ordered: Codes) -> NDArray[np.bool_]:
    """Which values are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[at] == values)
