"""Names of columns as people type them, and which of our own each of them means."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from prefdata.formats.shapes import LAST, LISTS, PAIR, SERIES, SINGLES

ALIASES = {"question": "prompt", "instruction": "prompt"}
"""Further names of a column, where the file has none of its own name."""
_RESPONSES = (*LISTS, *SINGLES, *LAST, *PAIR)
_MODEL = re.compile(rf"model|models|model_(?:\d{{1,3}}|[a-z])|(?:{SERIES.pattern}|{'|'.join((*SINGLES, *PAIR))})_model")
_NO_NAME = re.compile(r"[\s_-]+")


def called(names: Sequence[str], known: Collection[str]) -> Mapping[str, str]:
    """Which columns of a file mean one of another name: letters' case, spaces and dashes make no difference.

    Args:
        names: of the file's columns.
        known: the names that a format knows, besides those of responses and of their models.

    Returns:
        By the file's name the known one, where they differ.

    Raises:
        ValueError: two columns mean the same; the message is the whole problem.
    """
    typed = {name: _NO_NAME.sub("_", name.strip().lower()) for name in names}
    meant = {name: plain for name, plain in typed.items() if _is_known(plain, known)}
    if not {"prompt", "messages"} & set(meant.values()):
        meant |= {name: ALIASES[plain] for name, plain in typed.items() if plain in ALIASES}
    places: dict[str, str] = {}
    for name, plain in meant.items():
        place = _place(plain)
        if place in places:
            raise ValueError(
                f"the columns {places[place]!r} and {name!r} mean the same: keep one of them, or give the other "
                f"another name"
            )
        places[place] = name
    return {name: plain for name, plain in meant.items() if name != plain}


def _is_known(plain: str, known: Collection[str]) -> bool:
    return plain in known or plain in _RESPONSES or bool(SERIES.fullmatch(plain) or _MODEL.fullmatch(plain))


def _place(plain: str) -> str:
    """Of a response which one it is, whether it is called an answer or a completion; of other columns the name."""
    match = SERIES.fullmatch(plain)
    if match is None or match[1] == "text":
        return plain
    return f"response {int(match[2]) if match[2] else match[3]}"
