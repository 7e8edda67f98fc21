"""The section of the page on judges: which to use, a plot, a table, and what attacks do."""

from __future__ import annotations

from collections.abc import Sequence

from prefdata.report.charts import worth
from prefdata.report.judges import MOST_JUDGES
from prefdata.report.markup import Child, Html, join, tag, text
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, count, duration, interval, money, more, name, number, plural, spread, table
from prefdata.report.reading import NO_FAULT, THRESHOLDS, percent

MOST_ROWS = 20
"""So many are shown at once, the others unfold."""

_LEVELS = {"good": "use it", "mixed": "with care", "bad": "use none", "unknown": "not settled"}

_KINDS = {
    "judge": "judge",
    "consensus": "jury",
    "person": "a person",
    "reference": "of the reference, held against the others",
    "rule": "a plain rule",
}


_AGREEMENT = (
    "Agreement: over the pairs that {reference} put in an order (of several annotators, most of those who see a "
    "difference), the share that the judge orders alike; where the judge finds a tie, or its two orders contradict "
    "each other, one half. So a judge cannot gain by leaving hard pairs undecided, and chance is 50% for each. "
    "Judgements that failed, and abstentions, are not counted."
)
_COUNTED = (
    "Kappa: Cohen's, of first, tie and second over all pairs; 0 is chance, 1 is full agreement.",
    "Takes the longer too often: how much more often the judge takes the longer one than the reference does, on the "
    "same pairs (below it the one share against the other). Taking it as often is no fault, since longer answers may "
    "be better.",
    "Favours its own: of the pairs with one response by the judge's own model, how much more often that one wins under "
    "the judge than under the reference. Preferring one's own where it is better is no fault.",
    "Costs: of the calls that were paid; what came from a cache counts with their mean, so this is what asking again "
    "would cost. A pair judged in both orders takes two judgements. Right ones: the price of as many pairs as hold "
    "1,000 on which judge and reference agree.",
    "Each interval is of one judge by itself: the best of many looks a little better than it is. With few prompts the "
    "intervals are too narrow.",
)


def judges(found: Entry, reference: str) -> Html | None:
    """Everything on judges; None where nobody but people has judged a response."""
    if not found["advice"]:
        return None
    ordered = _ordered(found["by"])
    numbers = {id(one): place for place, one in enumerate(ordered, start=1)}
    rows = [_row(one, numbers[id(one)]) for one in ordered]
    heads = [
        "annotator",
        f"agrees with {reference}",
        "beats the longer one by",
        "kappa",
        "its two orders agree",
        "takes the longer too often",
        "favours its own",
        "ties, failures",
        "1,000 judgements cost",
    ]
    caption = (
        "Agreement counts a tie as one half, so chance is 50%. The ranges are 95% intervals from resampled prompts (of "
        "the orders Wilson's). A dash: nothing to count."
    )
    made: list[Child] = [_advice(found["advice"]), _forest(ordered, numbers, reference), _worth(ordered, numbers)]
    made.append(table(caption, heads, rows[:MOST_ROWS], cards=True))
    if len(rows) > MOST_ROWS:
        rest = table(caption, heads, rows[MOST_ROWS:], cards=True)
        made.append(more(f"{plural(len(rows) - MOST_ROWS, 'more row')}", rest))
    made += [_attacks(found["attacks"]), _counted(reference)]
    return join(made)


def _ordered(by: list[Entry]) -> list[Entry]:
    """By aspect of the reference, the nearest to it first; those that it says nothing about at the end."""

    def place(one: Entry) -> tuple[bool, str, float, str]:
        value = one["accuracy"]["value"]
        nothing = value is None
        return nothing, str(one["reference_aspect"] or ""), -(value or 0.0), str(one["name"])

    return sorted(by, key=place)[: MOST_JUDGES + MOST_ROWS]


def _advice(found: Sequence[Entry]) -> Html:
    several = len(found) > 1
    made = []
    for one in found:
        first, *rest = one["sentences"]
        title = tag("span", _LEVELS[one["level"]], class_=f"badge {one['level']}")
        about = tag("span", " by ", tag("bdi", one["reference_aspect"]), class_="soft small") if several else None
        made.append(
            tag(
                "div",
                tag("div", title, about),
                tag("p", tag("b", tag("bdi", first))),
                # That something cheaper may do is half of the answer.
                [
                    tag("p", tag("bdi", tag("b", line) if one["cheaper"] and not place else line))
                    for place, line in enumerate(rest)
                ],
                class_="card advice",
            )
        )
    return join(made)


def _forest(ordered: list[Entry], numbers: dict[int, int], reference: str) -> Html | None:
    """Each one's agreement with its interval, under one another."""
    drawn = [one for one in ordered if one["accuracy"]["value"] is not None][:MOST_ROWS]
    if not drawn:
        return None
    aspects = {one["reference_aspect"] for one in drawn}
    lines = []
    for one in drawn:
        at = one["accuracy"]
        low, high = (at["value"], at["value"]) if at["low"] is None else (at["low"], at["high"])
        label = tag("span", f"{numbers[id(one)]} ", class_="soft")
        aspect = (
            tag("span", " ", tag("bdi", one["reference_aspect"]), class_="soft small") if len(aspects) > 1 else None
        )
        longer = one["longer_rule"]["value"]
        track = tag(
            "span",
            tag("u", style="left:50.0%"),
            None if longer is None or one["kind"] == "rule" else tag("s", style=f"left:{100 * longer:.1f}%"),
            tag("b", style=f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"),
            tag("i", style=f"left:{100 * at['value']:.1f}%"),
            class_="track",
            aria_hidden="true",
        )
        ends = "" if at["low"] is None else f"{100 * at['low']:.0f}–{100 * at['high']:.0f}%"
        figures = tag("span", tag("b", percent(at["value"])), " ", tag("span", ends, class_="soft small"))
        lines.append(
            tag(
                "li",
                tag("span", label, name(one["name"]), aspect, class_="label"),
                track,
                figures,
                class_=f"of-{one['kind']}",
            )
        )
    key = tag(
        "figcaption",
        f"Agreement with {reference}, from 0 to 100%, with its 95% interval. Dotted: a coin, 50%. ",
        tag("span", "Orange line", class_="longer"),
        ": “the longer one wins”, on the same pairs.",
        class_="soft small",
    )
    return tag("figure", key, tag("ol", lines, class_="forest"), class_="card")


def _worth(ordered: list[Entry], numbers: dict[int, int]) -> Html | None:
    """Agreement against what a thousand pairs cost, where two or more cost something."""
    judged = [one for one in ordered if one["accuracy"]["value"] is not None and one["costs"] is not None]
    for column, title, of in (
        ("money_per_thousand_pairs", "USD for 1,000 pairs", 1.0),
        ("seconds_per_pair", "seconds of model time a pair", 1.0),
    ):
        points = [
            {
                "n": numbers[id(one)],
                "x": one["costs"][column] * of,
                "y": one["accuracy"]["value"],
                "low": one["accuracy"]["low"],
                "high": one["accuracy"]["high"],
            }
            for one in judged
            if one["costs"][column] and one["accuracy"]["low"] is not None
        ]
        if len(points) > 1:
            label = f"agreement against {title}"
            words = (
                f"Agreement (upright, with its interval) against {title} (to the right). The numbers are those above."
            )
            return tag(
                "figure",
                tag("figcaption", words, class_="soft small"),
                tag("div", worth(points), role="img", aria_label=label),
                class_="card",
            )
    return None


def _row(one: Entry, place: int) -> list[Child]:
    about = [_KINDS[one["kind"]], str(one["aspect"])]
    if one["pairs"]:
        about.append(f"{plural(one['pairs'], 'pair')} of {plural(one['prompts'], 'prompt')}")
    if one["circular"]:
        about.append("counts the reference itself, so it must agree")
    elif one["kind"] != "rule" and not one["settled"]:
        about.append("too few pairs to settle anything" if one["pairs"] else "no pairs to hold it against")
    who = tag(
        "div",
        tag("span", f"{place} ", class_="soft"),
        name(one["name"]),
        tag("div", tag("bdi", " · ".join(about)), class_="soft small"),
        class_="judge",
    )
    return [
        who,
        _agrees(one),
        _over(one),
        _kappa(one),
        spread(one["position"], "pair"),
        _length(one),
        _own(one),
        _failures(one),
        _costs(one),
    ]


def _agrees(one: Entry) -> Html:
    at, decided = one["accuracy"], one["decided"]
    if at["value"] is None:
        return tag("span", DASH, class_="soft", title="no pairs in common")
    ends = "" if at["low"] is None else f"{interval(at['low'], at['high'])}, "
    lines = [join(tag("span", ends, class_="nowrap"), tag("span", plural(at["n"], "pair"), class_="nowrap"))]
    if decided["value"] is not None and decided["n"] != at["n"]:
        lines.append(text(f"{percent(decided['value'])} of {decided['n']:,} that it decides"))
    if one["averaged"]["value"] != at["value"]:
        lines.append(text(f"orders averaged: {percent(one['averaged']['value'])}"))
    return join(tag("span", percent(at["value"]), class_="value"), _small(lines))


def _small(lines: Sequence[Child]) -> list[Html]:
    return [tag("div", line, class_="soft small") for line in lines]


def _over(one: Entry) -> Html:
    if one["kind"] == "rule" or one["over_longer"]["value"] is None:
        return tag("span", DASH, class_="soft")
    return join(_points(one["over_longer"]), _small([f"over {percent(one['longer_rule']['value'])}"]))


def _points(found: Entry) -> Html:
    """A difference of shares, in points."""
    if found["value"] is None:
        return tag("span", DASH, class_="soft")
    if found["n"] < THRESHOLDS.least:
        return tag("span", f"only {plural(found['n'], 'pair')}", class_="soft")
    ends = None if found["low"] is None else f"{_signed(found['low'])} to {_signed(found['high'])}"
    return join(
        tag("span", f"{_signed(found['value'])} points", class_="value"),
        tag("div", tag("span", ends, class_="nowrap"), class_="soft small") if ends else None,
    )


def _signed(value: float) -> str:
    shown = f"{100 * value:+.0f}"
    return "0" if shown in ("+0", "-0") else shown.replace("-", "−")


def _kappa(one: Entry) -> Html:
    found = one["kappa"]
    if found["value"] is None:
        return tag("span", DASH, class_="soft")
    ends = None if found["low"] is None else f"{number(found['low'])} to {number(found['high'])}"
    return join(
        tag("span", number(found["value"]), class_="value"),
        tag("div", tag("span", ends, class_="nowrap"), class_="soft small") if ends else None,
        tag("div", f"same verdict: {percent(one['same']['value'])}", class_="soft small"),
    )


def _length(one: Entry) -> Html:
    if one["longer"]["value"] is None:
        return tag("span", DASH, class_="soft")
    mine, theirs = percent(one["longer"]["value"]), percent(one["reference_longer"]["value"])
    return join(_points(one["excess_length"]), _small([f"{mine} against {theirs}"]))


def _own(one: Entry) -> Html:
    if one["self_preference"]["value"] is None:
        return tag("span", DASH, class_="soft", title="its model wrote none of these responses, or it is not known")
    wins, theirs = percent(one["own_wins"]["value"]), percent(one["own_wins_reference"]["value"])
    lines = [f"{wins} against {theirs}", plural(one["self_preference"]["n"], "pair")]
    return join(_points(one["self_preference"]), _small(lines))


def _failures(one: Entry) -> Html:
    bad = [f"{n:,} {status}" for status, n in one["statuses"].items() if status not in NO_FAULT]
    abstained = one["statuses"].get("abstain")
    ties = None if one["ties"]["value"] is None else f"{percent(one['ties']['value'])} ties"
    share = one["failures"]["share"]
    return join(
        tag("span", ties, class_="nowrap") if ties else None,
        tag("div", f"{', '.join(bad)} ({percent(share)})", class_="soft small") if bad else None,
        tag("div", f"{count(abstained)} abstained", class_="soft small") if abstained else None,
        None if ties or bad or abstained else tag("span", DASH, class_="soft"),
    )


def _costs(one: Entry) -> Html:
    costs = one["costs"]
    if one["kind"] == "rule":
        return tag("span", "free" if not one["name"].startswith("majority") else "all of them", class_="soft")
    if costs is None:
        return tag("span", DASH, class_="soft", title="it made no calls here")
    asked, pairs, right = costs["money_per_thousand"], costs["money_per_thousand_pairs"], one["accuracy"]["value"]
    lines = []
    if asked:
        lines += [f"pairs: {money(pairs)}"] if pairs is not None else []
        lines += [f"right ones: {money(pairs / right)}"] if pairs is not None and right else []
    if costs["seconds_per_judgement"] is not None:
        lines.append(f"one takes {duration(costs['seconds_per_judgement'])}")
    if costs["cached"]:
        lines.append(f"{count(costs['cached'])} of {plural(costs['calls'], 'call')} cached")
    shown = tag("span", money(asked), class_="value") if asked else tag("span", "no price", class_="soft")
    return tag("div", shown, _small(lines), class_="nowrap")


def _attacks(found: list[Entry]) -> Html | None:
    if not found:
        return None
    rows = [
        [
            join(name(one["name"]), tag("div", tag("bdi", one["aspect"]), class_="soft small")),
            name(one["attack"]),
            _undecided(one["undecided"]),
            spread(one["towards"], "pair", half=False),
            spread(one["away"], "pair", half=False),
            spread(one["wins"], "pair", half=False),
        ]
        for one in found
    ]
    heads = ["judge", "attack", "undecided both times", "moves towards the attack", "moves away", "wins only by it"]
    caption = (
        "A response that speaks to the judge, against the same one without that: how often the verdict on a third "
        "response changes. A judge that keeps to what it is shown moves in neither direction. Nor does one whose two "
        "orders contradict each other: where it is undecided both times, nothing was tried."
    )
    return join(tag("h3", "What attacks change"), table(caption, heads, rows, cards=True))


def _undecided(found: Entry) -> Html:
    shown = f"{found['part']:,} of {plural(found['n'], 'pair')}"
    return tag("span", shown, class_="badge bad" if found["part"] == found["n"] else "nowrap")


def _counted(reference: str) -> Html:
    return more(
        "How these are counted",
        tag(
            "ul",
            [tag("li", line) for line in (f"{_AGREEMENT.format(reference=reference)}", *_COUNTED)],
            class_="notes",
        ),
    )
