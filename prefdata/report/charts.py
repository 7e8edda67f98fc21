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
        large = max(abs(histogram[0]["low"]), abs(histogram[-1]["high"])) >= 1000
        plain_zero = "datum.value == 0 ? '0' : datum.label"  # not 0M
        axis = alt.Axis(tickCount=5, grid=False, format="~s" if large else ".3~g", labelExpr=plain_zero)
        encoding = {"x": alt.X("x:Q", bin="binned", title=None, scale=scale, axis=axis), "x2": "x2:Q", "y": heights}
    chart = (
        alt.Chart(alt.InlineData(values), width=WIDTH, height=HEIGHT, background="transparent")
        .mark_bar(color="var(--bar)")
        .encode(**encoding)
    )
    return drawn(_in_page_colours(chart).to_dict())


def worth(points: list[Entry]) -> Html:
    """Shares with their intervals against what they cost, each point named by a number.

    Args:
        points: entries {n, x, y, low, high}; y, low and high in [0, 1].
    """
    import altair as alt

    ends = [point["x"] for point in points]
    wide = max(ends) > 20 * min(ends) > 0
    scale = alt.Scale(type="log", nice=False, padding=18) if wide else alt.Scale(zero=True, padding=18)
    x = alt.X("x:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, grid=False, format="~g"))
    least = min(0.4, *(point["low"] for point in points))
    share: dict[str, Any] = {
        "title": None,
        "scale": alt.Scale(domain=[least, 1]),
        "axis": alt.Axis(format=".0%", tickCount=5),
    }
    y, ends_at = alt.Y("y:Q", **share), alt.Y("low:Q", **share)
    base = alt.Chart(alt.InlineData(points))
    half = alt.Chart(alt.InlineData([{"y": 0.5}])).mark_rule(color="var(--soft)", strokeDash=[2, 3]).encode(y=y)
    layers = alt.layer(
        half,
        base.mark_rule(color="var(--bar)", strokeWidth=3, opacity=0.45).encode(x=x, y=ends_at, y2="high:Q"),
        base.mark_point(color="var(--accent)", filled=True, size=60, opacity=1).encode(x=x, y=y),
        base.mark_text(color="currentColor", dx=11, fontSize=13).encode(x=x, y=y, text="n:N"),
        width=2 * WIDTH,
        height=2 * HEIGHT,
        background="transparent",
    )
    return drawn(_in_page_colours(layers).to_dict())


def reliability(curve: list[Entry]) -> Html:
    """How often a statement is right, by how sure it is, with intervals, beside the line on which both are equal.

    Args:
        curve: entries {stated, observed, low, high} in [0, 1]; low and high may be None.
    """
    import altair as alt

    points = [
        {
            "x": one["stated"],
            "y": one["observed"],
            "low": one["observed"] if one["low"] is None else one["low"],
            "high": one["observed"] if one["high"] is None else one["high"],
        }
        for one in curve
    ]
    axis: dict[str, Any] = {"format": ".0%", "tickCount": 5}
    least = min(0.4, *(point["low"] for point in points))
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=[0.5, 1]), axis=alt.Axis(grid=False, **axis))
    y = alt.Y("y:Q", title=None, scale=alt.Scale(domain=[least, 1]), axis=alt.Axis(**axis))
    ends = alt.Y("low:Q", title=None, scale=alt.Scale(domain=[least, 1]), axis=alt.Axis(**axis))
    equal = alt.Chart(alt.InlineData([{"x": 0.5, "y": 0.5}, {"x": 1.0, "y": 1.0}]))
    base = alt.Chart(alt.InlineData(points))
    layers = alt.layer(
        equal.mark_line(color="var(--soft)", strokeDash=[2, 3], strokeWidth=1).encode(x=x, y=y),
        base.mark_rule(color="var(--bar)", strokeWidth=3, opacity=0.45).encode(x=x, y=ends, y2="high:Q"),
        base.mark_line(color="var(--accent)", strokeWidth=1.5).encode(x=x, y=y),
        base.mark_point(color="var(--accent)", filled=True, size=50, opacity=1).encode(x=x, y=y),
        width=WIDTH,
        height=2 * HEIGHT,
        background="transparent",
    )
    return drawn(_in_page_colours(layers).to_dict())


def _in_page_colours(chart: Any) -> Any:
    """The chart with axes in the colours of the page, light and dark."""
    # `configure` first: it replaces whatever was configured before.
    of_page = chart.configure(font="inherit", padding=2).configure_view(stroke=None)
    return of_page.configure_axis(
        labelColor="currentColor", domainColor="var(--line)", tickColor="var(--line)", gridColor="var(--line)"
    )


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
