"""HTML that is escaped unless it was made here: texts in a report come from anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Html(str):
    """Text that is markup already. Only this module, and the charts, make it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"

_VOID = frozenset({"meta", "br", "wbr"})

# Control characters, and marks that turn the direction of writing: they can make a page say what it does not.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)


def text(value: object) -> Html:
    """Any value as text: escaped, with control and direction marks made visible (`⟨U+202E⟩`)."""
    return Html(_HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", escape(str(value), quote=True)))


def tag(name: str, /, *children: Child, **attributes: str | int | None) -> Html:
    """An element.

    Args:
        name: of the element; written by the caller, never taken from data.
        children: texts are escaped, `Html` is taken as it is, None is left out, and what is iterable is gone through.
        attributes: escaped; None is left out. `class_` is class, `data_label` is data-label.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """The children one after the other; see `tag`."""
    return Html("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str | int):
            yield text(child)
        else:
            yield from _pieces(child)
