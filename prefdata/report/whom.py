"""The sections of the page about annotators: habits, worth, scores, agreement."""

from __future__ import annotations

from prefdata.report.charts import bars
from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, brief, count, interval, more, name, number, plural, spread, table
from prefdata.report.reading import percent

MOST_ROWS = 10
"""A table shows so many rows at once; the others unfold."""

MOST_CHARTS = 18

MOST_HEAT = 16
"""A table of all couples of more annotators cannot be read."""

_SHORT = 16
"""Characters of an aspect that stay on one line."""

_LEVELS = {
    "good": "holds up",
    "mixed": "with care",
    "bad": "doubtful",
    "unknown": "not settled",
    "reference": "reference",
}

_SOURCES = ("human", "judge", "reward", "likelihood", "embedding", "rule", "log", "imported", "consensus")


def whom(found: Entry) -> Html | None:
    """The annotators of responses side by side, with a sentence on each."""
    against = {(e["name"], e["aspect"]): e for e in found["reference"]["by"]}
    ordered = sorted((e for e in found["annotators"] if "response" in e["targets"]), key=_by_source)
    rows = [_annotator(entry, against.get((entry["name"], entry["aspect"]))) for entry in ordered]
    heads = [
        "annotator",
        "its two orders agree",
        "first shown wins",
        "prefers the longer",
        "ties",
        f"agrees with {reference_name(found['reference'])}",
        "reading",
    ]
    caption = "Shares with their 95% intervals; the dotted line is one half. A dash: nothing to count."
    if not rows:
        return None
    made: list[Child] = [table(caption, heads, rows[:MOST_ROWS], cards=True)]
    if len(rows) > MOST_ROWS:
        made.append(
            more(f"{len(rows) - MOST_ROWS} more annotators", table(caption, heads, rows[MOST_ROWS:], cards=True))
        )
    if found["pooled"]:
        together = [_pooled(entry) for entry in found["pooled"]]
        made.insert(0, table("All annotators of one source together", [*heads[:5], "judgements"], together, cards=True))
    return join(made)


def reference_name(reference: Entry) -> str:
    """What the reference is called in a heading."""
    if reference["annotators"] == 1:
        return str(reference["names"][0])
    return reference["pattern"] or ("people" if reference["annotators"] else "a reference")


def _by_source(entry: Entry) -> tuple[int, int, str]:
    source = entry["source"]
    return (_SOURCES.index(source) if source in _SOURCES else len(_SOURCES), -entry["n"], str(entry["name"]))


def _annotator(entry: Entry, against: Entry | None) -> list[Child]:
    read = entry["reading"]
    about = f"{entry['source']} · {entry['protocol']} · {entry['aspect']} · {entry['n']:,}"
    usable = [f"{e['n']:,} {status}" for status, e in entry["statuses"].items() if status != "ok"]
    return [
        tag(
            "div",
            name(entry["name"]),
            tag("div", tag("bdi", about), class_="soft small"),
            _usable(usable),
            class_="who",
        ),
        *_habits(entry),
        _held(against),
        tag(
            "div",
            tag("span", _LEVELS[read["level"]], class_=f"badge {read['level']}"),
            tag("div", read["sentence"]),
            class_="reading",
        ),
    ]


def _usable(other: list[str]) -> Html | None:
    return tag("div", ", ".join(other), class_="soft small") if other else None


def _habits(entry: Entry) -> list[Child]:
    orders = entry["position"]["orders"]
    tied = f"{plural(orders['ties'], 'pair')} with a tie" if orders["ties"] else None
    return [
        join(spread(orders, "pair"), tag("div", tied, class_="soft small") if tied else None),
        spread(entry["position"]["first_shown"], "verdict"),
        spread(entry["length"], "pair"),
        tag("span", percent(entry["ties"]["share"]), class_="value"),
    ]


def _pooled(entry: Entry) -> list[Child]:
    about = f"{entry['annotators']:,} annotators · {entry['protocol']} · {entry['aspect']}"
    return [
        join(entry["source"], tag("div", tag("bdi", about), class_="soft small")),
        *_habits(entry),
        count(entry["n"]),
    ]


def _held(against: Entry | None) -> Html:
    if against is None:
        return tag("span", DASH, class_="soft", title="no pairs in common")
    longer, lines = against["longer_of_shared" if against["n"] * 2 < against["shared"] else "longer"], []
    if against["undecided"]:
        half = f"; counted half: {percent(against['half']['accuracy'])}"
        lines.append(f"undecided on {against['undecided']:,} of {against['shared']:,}{half}")
    averaged = against["averaged"]
    if averaged["n"] != against["n"] and averaged["accuracy"] is not None:
        ends = interval(averaged["low"], averaged["high"])
        lines.append(f"orders averaged: {percent(averaged['accuracy'])} of {averaged['n']:,} ({ends})")
    if longer["accuracy"] is not None:
        lines.append(f"the longer one: {percent(longer['accuracy'])} of {longer['n']:,}")
    rest = [tag("div", line, class_="soft small") for line in lines]
    return tag("div", spread(against, "pair", value="accuracy"), rest, class_="held")


def distributions(annotators: list[Entry]) -> Html | None:
    """How each annotator's scores lie."""
    drawn = [e for e in sorted(annotators, key=_by_source) if e["distribution"] is not None][:MOST_CHARTS]
    figures = []
    for entry in drawn:
        found = entry["distribution"]
        compare = entry["protocol"] == "compare"
        at = found["quantiles"]
        summary = f"median {brief(at['median'])}, half of them from {brief(at['q25'])} to {brief(at['q75'])}"
        what = "how probable it finds that the response shown first wins" if compare else "scores"
        caption = tag(
            "figcaption",
            name(entry["name"]),
            tag("div", tag("bdi", entry["aspect"]), f" · {what}", class_="soft"),
        )
        chart = tag("div", bars(found["histogram"], unit=compare), role="img", aria_label=f"{what}: {summary}")
        figures.append(tag("figure", caption, chart, tag("div", summary, class_="soft small"), class_="card"))
    return tag("div", figures, class_="charts") if figures else None


def agreement(found: list[Entry], alpha: list[Entry]) -> Html | None:
    """Every two annotators, and all of them together."""
    made: list[Child] = []
    if alpha:
        made.append(_together(alpha))
    made.append(heat(found))
    rows = [
        [
            join(name(e["a"]), tag("br"), name(e["b"])),
            _aspect(e["aspect"]),
            count(e["n"]),
            count(e["shared"]),
            percent(e["percent"]),
            _kappas(e),
            DASH if e["low"] is None else f"{number(e['low'])} to {number(e['high'])}",
        ]
        for e in found
    ]
    if rows:
        heads = ["annotators", "aspect", "both decide", "both judge", "same order", "kappa", "95% interval"]
        caption = (
            "Pairs of responses that both order, and the share that they order alike. Kappa: 0 is chance, 1 is full "
            "agreement; with ties it is of first, tie and second over all pairs that both judge."
        )
        made.append(table(caption, heads, rows[:MOST_ROWS], numeric=(2, 3, 4, 5, 6)))
        if len(rows) > MOST_ROWS:
            rest = table(caption, heads, rows[MOST_ROWS:], numeric=(2, 3, 4, 5, 6))
            made.append(more(f"{len(rows) - MOST_ROWS} more couples", rest))
    return join(made) if rows or alpha else None


def heat(found: list[Entry]) -> Html | None:
    """Kappa of every two annotators under the aspect with the most couples, where these make a table that is read."""
    aspects: dict[str, list[Entry]] = {}
    for one in found:
        if one["kappa"] is not None:
            aspects.setdefault(str(one["aspect"]), []).append(one)
    if not aspects:
        return None
    aspect = max(sorted(aspects), key=lambda each: len(aspects[each]))
    here = aspects[aspect]
    names = sorted({str(one[side]) for one in here for side in ("a", "b")})
    if not 3 <= len(names) <= MOST_HEAT or 3 * len(here) < len(names) * (len(names) - 1) / 2:
        return None
    kappas = {(str(one["a"]), str(one["b"])): one for one in here}
    rows: list[list[Child]] = []
    for place, row in enumerate(names, start=1):
        cells = [_kappa_cell(kappas.get((row, other)) or kappas.get((other, row)), row == other) for other in names]
        rows.append([join(tag("span", f"{place} ", class_="soft"), name(row)), *cells])
    heads = ["kappa", *(str(place) for place in range(1, len(names) + 1))]
    caption = f"Kappa of every two on {aspect}: blue is beyond chance, orange is below it. A dot: no pairs in common."
    return tag("div", table(caption, heads, rows, numeric=tuple(range(1, len(names) + 1))), class_="heat")


def _kappa_cell(found: Entry | None, same: bool) -> Html:
    if found is None:
        return tag("span", "" if same else "·", class_="heat-none")
    at = found["kappa"]
    step = max(-5, min(5, round(5 * at)))
    side = "up" if step > 0 else "down" if step < 0 else "even"
    return tag("span", number(at), class_=f"heat-{side}-{abs(step)}", title=plural(found["n"], "pair"))


def _kappas(entry: Entry) -> Html:
    if entry["kappa_with_ties"] is None:
        return join(number(entry["kappa"]))
    with_ties = f"with ties {number(entry['kappa_with_ties'])}"
    return join(number(entry["kappa"]), tag("div", with_ties, class_="soft small nowrap"))


def _aspect(aspect: str | None) -> Html:
    """Beside long names a column is so narrow that a short word would be broken."""
    return tag("span", name(aspect), class_="nowrap") if len(str(aspect)) <= _SHORT else name(aspect)


_OF = {"pairs": "which of two is better", "scores": "scores", "labels": "labels"}


def _together(alpha: list[Entry]) -> Html:
    """Krippendorff's alpha of more than two."""
    rows = []
    for e in alpha:
        what = join(_OF[e["of"]], f" ({e['scale']})" if e["scale"] else None)
        judged = plural(e["pairs"], "pair") if e["of"] == "pairs" else plural(e["responses"], "response")
        rows.append(
            [
                join("all of them" if e["over"] == "all" else f"source {e['over']}", f" ({e['annotators']:,})"),
                name(e["aspect"]),
                what,
                e["level"],
                judged,
                percent(e["percent"]),
                number(e["alpha"]),
                DASH if e["low"] is None else f"{number(e['low'])} to {number(e['high'])}",
            ]
        )
    heads = ["annotators", "aspect", "of", "level", "judged by two or more", "equal", "alpha", "95% interval"]
    caption = (
        "Krippendorff's alpha of all of them together: 0 is chance, 1 is full agreement. Equal: how often two of them "
        "say the same, chance included. Intervals by resampling prompts."
    )
    return table(caption, heads, rows, numeric=(4, 5, 6, 7))
