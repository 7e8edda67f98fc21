"""The small pieces that the sections of the page are made of: numbers in words, ranges, tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.reading import percent

DASH = "–"


def count(value: float | None) -> str:
    """`12,345`, or a dash for what is not known."""
    return DASH if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """`0.25`, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def brief(value: float) -> str:
    """Three digits, or a whole number where it is large: `0.253`, `1.47`, `1,470`."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def plural(n: float, word: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{n:,.0f} {word}" + ("" if n == 1 else "s")


def money(value: float | None) -> str:
    """USD; more digits for small sums."""
    if value is None:
        return DASH
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3.5 min`, `2.1 h`."""
    if seconds is None:
        return DASH
    for limit, size, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600:,.1f} h"


def interval(low: float | None, high: float | None) -> str:
    """`40–60%`."""
    return "" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}%"


def spread(found: Entry, of: str, *, value: str = "share", half: bool = True) -> Html:
    """A share in a table's cell: the number, its interval as a bar, and how many it rests on.

    Args:
        found: has low, high, n, and the share under `value`.
        of: what n counts, in the singular.
        half: mark one half.
    """
    at, low, high = found[value], found["low"], found["high"]
    if at is None:
        return tag("span", DASH, class_="soft", title=f"no {of} to count")
    bar = tag(
        "span",
        tag("u") if half else None,
        tag("b", style=f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"),
        tag("i", style=f"left:{100 * at:.1f}%"),
        class_="range",
        aria_hidden="true",
    )
    rests = [tag("span", words, class_="nowrap") for words in (f"{interval(low, high)},", plural(found["n"], of))]
    return join(
        tag("span", percent(at), class_="value"), bar, tag("span", rests[0], " ", rests[1], class_="soft small")
    )


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    numeric: Sequence[int] = (),
    total: Sequence[Child] | None = None,
    cards: bool = False,
) -> Html:
    """A table whose first column heads its rows, in a frame that scrolls by itself.

    Args:
        caption: what it shows.
        heads: of the columns.
        rows: cells.
        numeric: the columns that hold numbers.
        total: a last row.
        cards: on a narrow screen show each row as a card.
    """
    right = dict.fromkeys(numeric, "num")
    head = tag("thead", tag("tr", [tag("th", name, scope="col", class_=right.get(i)) for i, name in enumerate(heads)]))
    body = tag("tbody", [_row(row, heads, right, labelled=cards) for row in rows])
    foot = tag("tfoot", _row(total, heads, right, labelled=False)) if total is not None else None
    made = tag("table", tag("caption", caption), head, body, foot, class_="cards" if cards else None)
    return tag("div", made, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _row(cells: Sequence[Child], heads: Sequence[str], right: dict[int, str], *, labelled: bool) -> Html:
    made = [tag("th", cells[0], scope="row")]
    for place, cell in enumerate(cells[1:], start=1):
        label: Any = heads[place] if labelled and heads[place] else None
        made.append(tag("td", tag("div", cell) if labelled else cell, class_=right.get(place), data_label=label))
    return tag("tr", made)


def more(summary: str, *children: Child, open_: bool = False) -> Html:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", summary), *children, open="" if open_ else None)


def name(value: object) -> Html:
    """The name of an annotator, a model or a step: it comes from outside, may run in any direction, and may be long."""
    pieces = re.split(r"(?<=[/:+@_])", DASH if value is None else str(value))
    return tag("bdi", [[tag("wbr") if place else None, piece] for place, piece in enumerate(pieces)], class_="name")


def forest(
    rows: Sequence[tuple[Child, float, float | None, float | None, Child]],
    *,
    within: tuple[float, float] = (0.0, 1.0),
    line: float | None = 0.5,
) -> Html:
    """Numbers under one another, each as a point on a track with its interval.

    Args:
        rows: label, value, low and high (None: no interval), what stands at the right end.
        within: the ends of the track; what lies beyond is drawn at the end.
        line: a dotted line here.
    """
    start, end = within

    def at(value: float) -> float:
        return 100 * min(max((value - start) / (end - start), 0.0), 1.0)

    made = []
    for label, value, low, high, figures in rows:
        left, right = (at(value) if one is None else at(one) for one in (low, high))
        track = tag(
            "span",
            None if line is None else tag("u", style=f"left:{at(line):.1f}%"),
            tag("b", style=f"left:{left:.1f}%;width:{right - left:.1f}%"),
            tag("i", style=f"left:{at(value):.1f}%"),
            class_="track",
            aria_hidden="true",
        )
        made.append(tag("li", tag("span", label, class_="label"), track, tag("span", figures)))
    return tag("ol", made, class_="forest")


def meter(rows: Sequence[tuple[Child, float | None, float | None, float | None, str]], *, line: float = 0.5) -> Html:
    """Shares as bars from the left; what is None has no bar. See `forest`; the last is the level: good, mixed, bad."""
    made = []
    for label, value, low, high, level in rows:
        shown = DASH if value is None else number(value)
        ends = "" if low is None or high is None else f"{number(low)} to {number(high)}"
        width = 0.0 if value is None else 100 * min(max(value, 0.0), 1.0)
        bar = tag(
            "span",
            tag("b", style=f"left:0.0%;width:{width:.1f}%"),
            tag("u", style=f"left:{100 * line:.1f}%"),
            class_="track",
            aria_hidden="true",
        )
        figures = tag("span", tag("b", shown), " ", tag("span", ends, class_="soft small nowrap"))
        made.append(tag("li", tag("span", label, class_="label"), bar, figures, class_=f"is-{level}"))
    return tag("ol", made, class_="forest meter")


def key_facts(facts: Sequence[tuple[str, Child, Child]]) -> Html:
    """Labels with a value and a remark each, in a grid."""
    made = [
        tag(
            "div",
            tag("dt", label),
            tag("dd", tag("span", value, class_="mid"), tag("div", remark, class_="soft small") if remark else None),
        )
        for label, value, remark in facts
    ]
    return tag("dl", made, class_="facts")
