"""The trainer's error: like those of `prefdata.errors`, a sentence that says what was found, where, and what to do.

It stands apart from them because the trainer runs where nothing else of prefdata does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrainError(Exception):
    """A mistake in the configuration or the data that can be put right by whoever reads the message."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing, for an error message."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
