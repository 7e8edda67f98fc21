"""The sections of the page about annotators' abilities, biases, calibration, and about how far people differ."""

from __future__ import annotations

from prefdata.report.abilities import FURTHER
from prefdata.report.charts import bars, reliability
from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, brief, count, forest, key_facts, more, name, number, plural, spread, table
from prefdata.report.reading import percent

MOST_LINES = 15

MOST_CURVES = 6


def abilities(found: Entry) -> Html | None:
    """Fitted abilities, and agreement with the majority of the others."""
    made: list[Child] = [_fitted(one) for one in found["models"] or []]
    at = found["majority"]
    if at is not None:
        rows = [
            (
                join(name(one["name"]), tag("span", f" {one['source']}", class_="soft small")),
                one["share"],
                one["low"],
                one["high"],
                join(tag("b", percent(one["share"])), " ", tag("span", f"of {one['n']:,}", class_="soft small")),
            )
            for one in at["by"]
        ]
        words = (
            f"How often each agrees with the majority of the others (people with people, judges with judges), on the "
            f"pairs that both decide, with 95% intervals: {_busiest(len(rows), at['annotators'])}. Dotted: a coin."
        )
        shown: list[Child] = [tag("figcaption", words, class_="soft small"), forest(rows[:MOST_LINES])]
        if len(rows) > MOST_LINES:
            shown.append(more(f"{len(rows) - MOST_LINES} more", forest(rows[MOST_LINES:])))
        made.append(tag("figure", shown, class_="card"))
        if at["with_enough"] > MOST_LINES and at["histogram"]:
            made.append(
                _histogram("All annotators with enough pairs, by how often they agree with the others", at, True)
            )
    return join(made) if made else None


def _busiest(shown: int, of: int) -> str:
    return f"the {shown} busiest of {of:,}" if of > shown else f"all {of:,}"


def _fitted(one: Entry) -> Html:
    values = [v for e in one["by"] for v in (e["value"], e["low"], e["high"]) if v is not None]
    low, high = min(values), max(values)
    within = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0.0), max(high, 0.0))
    within = within if within[1] > within[0] else (within[0] - 1, within[1] + 1)
    rows = [
        (
            name(e["name"]),
            e["value"],
            e["low"],
            e["high"],
            join(
                tag("b", number(e["value"])),
                " ",
                tag(
                    "span",
                    "" if e["low"] is None else f"{number(e['low'])} to {number(e['high'])}",
                    class_="soft small",
                ),
            ),
        )
        for e in one["by"]
    ]
    words = [
        tag("b", tag("bdi", one["method"])),
        " (step ",
        name(one["name"]),
        f"): {one['unit'] or 'abilities as this model fits them'}, by ",
        tag("bdi", one["aspect"]),
        f"; {_busiest(len(rows), one['annotators'])}.",
    ]
    shown: list[Child] = [tag("figcaption", words, class_="soft small")]
    shown.append(forest(rows[:MOST_LINES], within=within, line=None))
    if len(rows) > MOST_LINES:
        shown.append(more(f"{len(rows) - MOST_LINES} more", forest(rows[MOST_LINES:], within=within, line=None)))
    further = [key for key in FURTHER if any(key in e["more"] for e in one["by"])]
    if further:
        lines: list[list[Child]] = [
            [name(e["name"]), number(e["value"]), *(_effect(e["more"].get(key, _NO_EFFECT)) for key in further)]
            for e in one["by"]
        ]
        note = "What the model fits beside the ability, in its own units; coloured: large, and the interval is off zero"
        shown.append(more("Further parameters", table(note, ["annotator", "ability", *further], lines, numeric=(1,))))
    return tag("figure", shown, class_="card")


_NO_EFFECT: Entry = {"value": None, "low": None, "high": None, "n": 0}


def _histogram(title: str, at: Entry, unit: bool) -> Html:
    q = at["quantiles"]
    summary = f"median {brief(q['median'])}, half of them from {brief(q['q25'])} to {brief(q['q75'])}"
    chart = tag("div", bars(at["histogram"], unit=unit), role="img", aria_label=f"{title}: {summary}")
    figure = tag("figure", tag("figcaption", title), chart, tag("div", summary, class_="soft small"), class_="card")
    return tag("div", figure, class_="charts")


def bias(found: Entry) -> Html | None:
    """Position and length in logits."""
    by = [one for one in found["by"] or [] if _says_something(one)]
    if not by and not found["slots"]:
        return None
    heads = [
        "annotator",
        "verdict flips with the order",
        "first shown, both orders",
        "first shown, one order",
        "twice as long",
        "margin with length",
    ]
    caption = (
        "Logits: 0 is no effect, 0.7 doubles the odds, 1.4 is four times. Of both orders: of the pairs whose verdicts "
        "contradict each other. Of one order: position and length fitted together, so it holds as far as the order was "
        "drawn at random; longer responses may also be better. Intervals by prompts, 95%."
    )
    rows: list[list[Child]] = [
        [
            join(name(one["name"]), tag("div", tag("bdi", one["aspect"]), class_="soft small")),
            spread(one["flips"], "pair", half=False),
            _effect(one["orders"]["position"]),
            _effect(one["one_order"]["position"]),
            _effect(one["one_order"]["doubling"], 0.7),
            number(one["length"]["correlation"]),
        ]
        for one in by
    ]
    made: list[Child] = []
    if rows:
        made.append(table(caption, heads, rows[:MOST_LINES], cards=True))
        if len(rows) > MOST_LINES:
            made.append(more(f"{len(rows) - MOST_LINES} more", table(caption, heads, rows[MOST_LINES:], cards=True)))
    if found["slots"]:
        made.append(_slots(found["slots"]))
    return join(made)


def _says_something(one: Entry) -> bool:
    effects = (one["orders"]["position"], one["one_order"]["position"], one["one_order"]["doubling"])
    return bool(one["flips"]["n"] or any(effect["value"] is not None for effect in effects))


def _effect(found: Entry, large: float = 0.2) -> Html:
    """A number of logits that stands out where it is large and its interval is off zero."""
    if found["value"] is None:
        why = f"all {found['n']:,} one way" if found.get("n") else DASH
        return tag("span", why, class_="soft")
    off = found["low"] is not None and found["high"] is not None and not found["low"] <= 0 <= found["high"]
    shown = f"{found['value']:+.2f}".replace("-", "−")
    ends = "" if found["low"] is None or found["high"] is None else f"{number(found['low'])} to {number(found['high'])}"
    level = "badge mixed" if off and abs(found["value"]) >= large else "value"
    return join(tag("span", shown, class_=level), tag("div", ends, class_="soft small nowrap"))


def _slots(found: list[Entry]) -> Html:
    rows: list[list[Child]] = [
        [
            join(
                name(one["name"]), tag("div", tag("bdi", f"{one['aspect']} · {one['protocol']}"), class_="soft small")
            ),
            count(one["n"]),
            ", ".join(percent(share) for share in one["shares"]),
            percent(1 / one["options"]),
            number(one["bias"]),
            "under 0.001" if one["p_value"] < 0.001 else number(one["p_value"], 3),
        ]
        for one in found
    ]
    caption = (
        "Where three or more were shown at once: how often each place was put first. Responses may have been listed "
        "best first by whoever made the data; then this says nothing of the annotator."
    )
    heads = ["annotator", "lists", "put first, by place shown", "evenly", "bias", "p-value"]
    return table(caption, heads, rows[:MOST_LINES], numeric=(1, 3, 4, 5))


def calibration(found: list[Entry] | None) -> Html | None:
    """Reliability curves and what they come to."""
    if not found:
        return None
    figures = []
    for one in found[:MOST_CURVES]:
        what = f"right by stated probability, {plural(one['n'], 'pair')}"
        caption = tag(
            "figcaption", name(one["name"]), tag("div", tag("bdi", f"{one['aspect']} · {one['of']}"), class_="soft")
        )
        summary = f"says {percent(one['stated'])}, is right in {percent(one['right'])}"
        drawn = tag("div", reliability(one["curve"]), role="img", aria_label=f"{what}: {summary}")
        figures.append(tag("figure", caption, drawn, tag("div", summary, class_="soft small"), class_="card"))
    rows: list[list[Child]] = [
        [
            join(name(one["name"]), tag("div", tag("bdi", f"{one['aspect']} · {one['of']}"), class_="soft small")),
            count(one["n"]),
            _points(one["too_sure"]),
            join(number(one["ece"]["value"], 3), _ends(one["ece"])),
            number(one["ece"]["debiased"], 3),
            number(one["brier"], 3),
            number(one["log_loss"], 3),
        ]
        for one in found
    ]
    heads = ["annotator", "pairs", "too sure by", "calibration error", "without noise", "Brier", "log-loss"]
    note = (
        "Stated probabilities against the reference, each pair both ways round. Too sure by: what it states on average "
        "minus how often it is right. A coin has a Brier score of 0.250 and a log-loss of 0.693. Even perfect "
        "statements have an error above 0 on few pairs; the next column takes that off."
    )
    words = (
        "To the right: how sure it says it is; upwards: how often it is right. On the dotted line it can be taken at "
        "its word."
    )
    return join(
        tag("p", words, class_="soft small"),
        tag("div", figures, class_="charts"),
        table(note, heads, rows, cards=True),
    )


def _points(found: Entry) -> Html:
    shown = f"{100 * found['value']:+.0f} points".replace("-", "−")
    if found["low"] is None:
        return tag("span", shown, class_="value")
    ends = f"{100 * found['low']:+.0f} to {100 * found['high']:+.0f}".replace("-", "−")
    return join(tag("span", shown, class_="value"), tag("div", ends, class_="soft small nowrap"))


def _ends(found: Entry) -> Html | None:
    if found["low"] is None:
        return None
    return tag("div", f"{number(found['low'], 3)} to {number(found['high'], 3)}", class_="soft small nowrap")


def scales(found: list[Entry] | None) -> Html | None:
    """How much each scale tells."""
    if not found:
        return None
    rows: list[list[Child]] = [
        [
            join(
                name(one["name"]), tag("div", tag("bdi", f"{one['aspect']} · {one['protocol']}"), class_="soft small")
            ),
            count(one["n"]),
            f"{brief(one['low'])} to {brief(one['high'])}",
            f"{brief(one['mean'])} ± {brief(one['sd'])}",
            count(one["distinct"]),
            f"{brief(one['top']['value'])}: {percent(one['top']['share'])}",
            percent(one["ties"]["share"]),
        ]
        for one in found
    ]
    heads = ["annotator", "scores", "from", "mean ± deviation", "different ones", "most frequent", "equal in a pair"]
    caption = "Scores of single responses. Equal in a pair: how often two responses of one prompt get the same score."
    return more("How much each scale tells", table(caption, heads, rows, cards=True))


def variation(found: list[Entry] | None) -> Html | None:
    """How far verdicts on one pair differ."""
    if not found:
        return None
    made = []
    for one in found[:4]:
        facts: list[tuple[str, Child, Child]] = [
            ("unanimous", percent(one["unanimous"]["share"]), f"of {plural(one['pairs'], 'pair')}"),
            ("evenly split", percent(one["split"]["share"]), "as many for either side"),
            ("two random ones agree", percent(one["agreement"]), f"{one['annotators']:.1f} annotators a pair"),
            (
                "entropy",
                percent(one["normalised"]["mean"]),
                "of the most there can be (a third each: first, tie, second)",
            ),
        ]
        made.append(
            tag("div", tag("h3", tag("bdi", f"{one['aspect']}, {one['source']}")), key_facts(facts), class_="card")
        )
    return join(made)
