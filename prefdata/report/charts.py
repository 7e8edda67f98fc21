"""Charts: Vega-Lite specifications by Altair, drawn to inline SVG. They hold numbers only, no text from the data."""

from __future__ import annotations

import re
from typing import Any

from prefdata.report.markup import Html
from prefdata.report.numbers import Entry

WIDTH, HEIGHT = 230, 84

_NAMESPACE = re.compile(r'\sxmlns(:\w+)?="[^"]*"')
_FORBIDDEN = re.compile(r"<(?:script|image|foreignObject|style|use|a)\b|url\(|href|@import|\son\w+=", re.IGNORECASE)


def bars(histogram: list[Entry], *, unit: bool) -> Html:
    """The bars of a histogram as SVG, in the colours of the page around it.

    Args:
        histogram: entries {value, n} or {low, high, n}.
        unit: the values lie in [0, 1]: show all of that.
    """
    import altair as alt

    heights = alt.Y("n:Q", title=None, axis=alt.Axis(tickCount=3, format="~s", domain=False, ticks=False))
    if "value" in histogram[0]:
        values = [{"x": f"{bar['value']:.4g}", "n": bar["n"]} for bar in histogram]
        place = alt.X("x:O", title=None, sort=None, axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap=True))
        encoding: dict[str, Any] = {"x": place, "y": heights}
    else:
        values = [{"x": bar["low"], "x2": bar["high"], "n": bar["n"]} for bar in histogram]
        scale = alt.Scale(domain=[0, 1]) if unit else alt.Scale(zero=False, nice=False)
        axis = alt.Axis(tickCount=5, grid=False, format=".3~g")
        encoding = {"x": alt.X("x:Q", bin="binned", title=None, scale=scale, axis=axis), "x2": "x2:Q", "y": heights}
    chart = (
        alt.Chart(alt.InlineData(values), width=WIDTH, height=HEIGHT, background="transparent")
        .mark_bar(color="var(--bar)")
        .encode(**encoding)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="currentColor", domainColor="var(--line)", tickColor="var(--line)", gridColor="var(--line)"
        )
        .configure(font="inherit", padding=2)
    )
    return drawn(chart.to_dict())


def drawn(specification: dict[str, Any]) -> Html:
    """A Vega-Lite specification as inline SVG that refers to nothing outside itself.

    Raises:
        ValueError: the drawing would load or run something. Nothing that this module draws does.
    """
    import vl_convert

    svg = _NAMESPACE.sub("", vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]))
    found = _FORBIDDEN.search(svg)
    if found:
        raise ValueError(f"a chart must refer to nothing outside the page; this one holds {found[0]!r}")
    return Html(svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))
