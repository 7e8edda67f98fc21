"""What changed between two texts, word by word, as two safe HTML strings."""

from __future__ import annotations

import re
from collections import Counter
from difflib import Match, SequenceMatcher
from itertools import accumulate, groupby

from .markup import escape

MAX_STEPS = 20_000_000
"""Comparisons of words (about a second). Where they are spent, what is left counts as changed."""

# Chinese, Japanese, Korean and Thai are written without spaces: a character is a word. Elsewhere a word is what
# stands between spaces and ASCII punctuation, so that marks stay with their letters.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"([^\s!-/:-@\[-`{{-~{_UNSPACED}]+|\S|)(\s*)")

Word = tuple[str, str]
"""A word and the space after it. Words are compared without it: a space is half of all there is to match."""

Piece = tuple[bool, str]
"""Whether it is changed, and the text."""


class _Matcher(SequenceMatcher[str]):
    """difflib's matcher with a bound: repeated words make it cubic (4,000 times "a b" would take hours)."""

    def __init__(self, a: list[str], b: list[str]) -> None:
        super().__init__(a=a, b=b, autojunk=False)
        self.words = a
        count = Counter(b)
        self.cost = [0, *accumulate(1 + count[word] for word in a)]
        self.left = MAX_STEPS

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        ahi = len(self.words) if ahi is None else ahi
        self.left -= self.cost[ahi] - self.cost[alo]
        return super().find_longest_match(alo, ahi, blo, bhi) if self.left >= 0 else Match(alo, blo, 0)


def difference(a: str, b: str) -> tuple[str, str]:
    """Both texts escaped, what only the first says in `<del>`, what only the second says in `<ins>`.

    Without their tags the two are the escaped texts; equal texts carry no marks. What is beyond `MAX_STEPS`
    comparisons of words counts as changed.
    """
    left: list[Word] = _WORD.findall(a)
    right: list[Word] = _WORD.findall(b)
    before, after = _ends(left, right)
    old, new = _compared(left[before : len(left) - after], right[before : len(right) - after])
    head, tail = (False, _text(left[:before])), (False, _text(left[len(left) - after :]))
    return _written("del", [head, *old, tail]), _written("ins", [head, *new, tail])


def _ends(a: list[Word], b: list[Word]) -> tuple[int, int]:
    """How many words the two share at their beginning, and of the rest at their end."""
    most = min(len(a), len(b))
    before = next((place for place in range(most) if a[place] != b[place]), most)
    after = next((place for place in range(most - before) if a[-1 - place] != b[-1 - place]), most - before)
    return before, after


def _compared(a: list[Word], b: list[Word]) -> tuple[list[Piece], list[Piece]]:
    old: list[Piece] = []
    new: list[Piece] = []
    for kind, a_from, a_to, b_from, b_to in _Matcher([word for word, _ in a], [word for word, _ in b]).get_opcodes():
        if kind == "equal":
            for (word, a_space), (_, b_space) in zip(a[a_from:a_to], b[b_from:b_to], strict=True):
                old += [(False, word), (a_space != b_space, a_space)]
                new += [(False, word), (a_space != b_space, b_space)]
            continue
        gone, come = _text(a[a_from:a_to]), _text(b[b_from:b_to])
        space = a[a_to - 1][1] if kind == "replace" and a[a_to - 1][1] == b[b_to - 1][1] else ""
        old += [(True, gone.removesuffix(space)), (False, space)]
        new += [(True, come.removesuffix(space)), (False, space)]
    return old, new


def _text(words: list[Word]) -> str:
    return "".join(word + space for word, space in words)


def _written(tag: str, pieces: list[Piece]) -> str:
    written = []
    for changed, run in groupby((piece for piece in pieces if piece[1]), key=lambda piece: piece[0]):
        text = escape("".join(text for _, text in run))
        written.append(f"<{tag}>{text}</{tag}>" if changed else text)
    return "".join(written)
