"""The plots and the report of the explore page, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefdata.report.markup import Html, tag


def plots(found: dict[str, Any]) -> str:
    """The plots of a search: bars of our own where there are names, drawn histograms where there are numbers."""
    from prefdata.report.charts import bars

    answers = [(row["annotator"], (row["ok"], row["without"])) for row in found["answers"]]
    outcomes = [(row["model"], (row["won"], row["tied"], row["lost"])) for row in found["outcomes"]]
    scores = [
        (row["aspect"], f"{row['annotations']:,} scores", bars(row["bins"], unit=False)) for row in found["scores"]
    ]
    lengths = [
        (row["model"], f"{row['responses']:,} responses", bars(row["bins"], unit=False)) for row in found["lengths"]
    ]
    return tag(
        "div",
        tag("p", f"Of {found['groups']:,} prompts; live rows only.", class_="px-place"),
        _bars("Answers of each annotator", answers, ("with a verdict", "without (skipped, refused, unparsed, …)")),
        _bars("Comparisons and rankings, by model", outcomes, ("won", "tied", "lost")),
        _drawn("Scores, by aspect", scores),
        _drawn("Length of responses in characters, by model", lengths),
        class_="px-plots",
    )


def _bars(title: str, rows: Sequence[tuple[str | None, Sequence[int]]], legend: Sequence[str]) -> Html | None:
    if not rows:
        return None
    most = max(sum(counts) for _, counts in rows) or 1
    lines = []
    for name, counts in rows:
        parts = [
            tag(
                "span",
                class_=f"px-bar px-bar-{place}",
                style=f"width:{100 * n / most:.2f}%",
                title=f"{legend[place]}: {n:,}",
            )
            for place, n in enumerate(counts)
            if n
        ]
        said = ", ".join(f"{n:,} {word.partition(' (')[0]}" for word, n in zip(legend, counts, strict=True))
        lines.append(
            tag(
                "div",
                tag("dt", name or "(none)", dir="auto"),
                tag(
                    "dd",
                    tag("span", parts, class_="px-track", aria_hidden="true"),
                    tag("span", said, class_="px-facts"),
                ),
            )
        )
    keys = [tag("span", tag("i", class_=f"px-bar-{place}"), word) for place, word in enumerate(legend)]
    return tag("section", tag("h2", title), tag("p", keys, class_="px-legend"), tag("dl", lines, class_="px-lines"))


def _drawn(title: str, rows: Sequence[tuple[str | None, str, Html]]) -> Html | None:
    if not rows:
        return None
    shown = [
        tag(
            "figure",
            chart,
            tag("figcaption", tag("b", name or "(none)", dir="auto"), " ", tag("span", n, class_="px-facts")),
        )
        for name, n, chart in rows
    ]
    return tag("section", tag("h2", title), tag("div", shown, class_="px-figures"))


def report(page: str) -> str:
    """The report in a frame that may run nothing, load nothing and reach nothing around it."""
    return tag("iframe", srcdoc=page, sandbox="", title="Report", class_="px-report", referrerpolicy="no-referrer")
