"""Which judge to use, and whether any is worth its money, in plain sentences."""

from __future__ import annotations

from prefdata.report.numbers import Entry
from prefdata.report.reading import THRESHOLDS, Level, percent

MOST = 6
"""Sentences are given on so many aspects of the reference."""

MOST_NAMES = 5

PEOPLE = "people"
"""What the reference is called where none is named."""


def advice(by: list[Entry], differences: list[Entry], reference: str, named: bool) -> list[Entry]:
    """Sentences on the judges, one entry for each aspect of the reference.

    A judge can be recommended if its accuracy is above one half and above that of "the longer one wins" on the same
    pairs, each time with the whole 95% interval. Of those the most accurate is the best; a cheaper one is named where
    the interval of their difference, on the pairs that both have judged, reaches 0.

    Args:
        by: see `prefdata.report.judges`.
        differences: likewise.
        reference: what the reference is called.
        named: there is a reference.

    Returns:
        {reference_aspect, level (good, mixed, bad, unknown), use and use_aspect (the judge to use, or None), cheaper
        (or None), sentences}. Empty where nobody is a judge but what counts the reference itself.
    """
    if not any(one["kind"] in ("judge", "consensus") and not one["circular"] for one in by):
        return []
    if not named:
        who = "Nobody stands as a reference" if reference == PEOPLE else f"No annotator here is called {reference}"
        text = "so nothing here says which judge is right: label some pairs, or name one (--reference)."
        return [_entry(None, "unknown", [f"Not settled. {who}, {text}"])]
    aspects = sorted({one["reference_aspect"] for one in by if one["reference_aspect"] is not None})
    found = [one for aspect in aspects if (one := _on(aspect, by, differences, reference)) is not None]
    if not found:
        return [_entry(None, "unknown", [f"Not settled. No judge has judged a pair that {reference} ordered."])]
    return found[:MOST]


def candidates(by: list[Entry], reference_aspect: str) -> list[Entry]:
    """The judges and juries that could be used in place of the reference, the most accurate first."""
    fit = [
        one
        for one in by
        if one["kind"] in ("judge", "consensus")
        and not one["circular"]
        and one["settled"]
        and one["reference_aspect"] == reference_aspect
    ]
    return sorted(fit, key=lambda one: (-one["accuracy"]["value"], one["name"], one["aspect"]))


def _entry(
    aspect: str | None, level: Level, sentences: list[str], use: Entry | None = None, cheaper: Entry | None = None
) -> Entry:
    return {
        "reference_aspect": aspect,
        "level": level,
        "use": None if use is None else use["name"],
        "use_aspect": None if use is None else use["aspect"],
        "cheaper": None if cheaper is None else cheaper["name"],
        "sentences": sentences,
    }


def _on(aspect: str, by: list[Entry], differences: list[Entry], reference: str) -> Entry | None:
    here = [one for one in by if one["reference_aspect"] == aspect]
    judges = [one for one in here if one["kind"] in ("judge", "consensus") and not one["circular"]]
    if not judges:
        return None
    fit = candidates(here, aspect)
    if not fit:
        most = max(one["shared"] for one in judges)
        few = f"no judge shares more than {most:,} of the pairs that {reference} orders" if most else "none is shared"
        return _entry(
            aspect, "unknown", [f"Not settled: {few}; {THRESHOLDS.least_reference} are needed, and more help."]
        )
    best = fit[0]
    level, sentences = _best(best, fit, reference)
    use = best if level == "good" else None
    cheaper = None
    if use is not None:
        runner = [one for one in differences if one["reference_aspect"] == aspect]
        cheaper, words = _cheaper(best, fit, runner)
        sentences += [*words, *_rival(runner)]
    sentences += _jury(best, here) + _no_use(fit[1:]) + _ceiling(here, reference)
    return _entry(aspect, level, sentences, use, cheaper)


def _best(best: Entry, fit: list[Entry], reference: str) -> tuple[Level, list[str]]:
    """The verdict on the most accurate one; chance first, then the plain rule."""
    at = best["accuracy"]
    name = _name(best)
    figures = f"agrees with {reference} on {percent(at['value'])} of {at['n']:,} pairs (95% interval {_span(at)})"
    rule, over = best["longer_rule"], best["over_longer"]
    longer = f'"the longer one wins" ({percent(rule["value"])})'
    if at["high"] < 0.5:
        every = "Every judge orders" if len(fit) > 1 else "The judge orders"
        return "bad", [f"{every} pairs worse than chance: use none. {name} {figures}; are its scores turned round?"]
    if at["low"] <= 0.5:
        none = "No judge can be told from chance" if len(fit) > 1 else "The judge cannot be told from chance"
        tail = "" if rule["low"] is None or rule["low"] <= 0.5 else f" The plain rule {longer} is better and is free."
        which = "The best, " if len(fit) > 1 else ""
        tail += f" But {_averaged(best)}." if _averaged(best) else ""
        return "bad", [f"{none}: use none. {which}{name}, {figures}; a coin reaches 50%.{tail}"]
    if rule["value"] is None or over["low"] is None:
        return "good", [f"Use {name}: it {figures}, better than chance. Lengths are not known to compare with."]
    if over["low"] > 0:
        return "good", [f"Use {name}: it {figures}, better than chance and than {longer} on the same pairs."]
    how = "worse than" if over["high"] < 0 else "not clearly better than"
    who = "No judge is clearly better than the plain rule" if len(fit) > 1 else "The judge is not worth asking as it is"
    return "mixed", [f"{who}: {name} {figures}, better than chance but {how} {longer}, which is free."]


def _rival(runner: list[Entry]) -> list[str]:
    if not runner or runner[0]["low"] is None:
        return []
    next_best = runner[0]
    clear = "clearly" if next_best["low"] > 0 else "not clearly"
    where = f"{_gap(next_best)} on {next_best['n']:,} common pairs"
    other = {"name": next_best["b"], "aspect": next_best["b_aspect"], "reference_aspect": next_best["reference_aspect"]}
    return [f"The most accurate is {clear} better than the next, {_name(other)}: {where}."]


def _gap(found: Entry) -> str:
    return f"by {_points(found['value'])} points, {_points(found['low'])} to {_points(found['high'])},"


def _cheaper(best: Entry, fit: list[Entry], runner: list[Entry]) -> tuple[Entry | None, list[str]]:
    """The cheapest that is not clearly worse, and what either costs."""
    price = _price(best)
    if price is None:
        return None, ["What it costs is not known: no paid calls of it are in this dataset."]
    if price == 0:
        return None, ["Its calls have no price, so it costs time only."]
    right = price / best["accuracy"]["value"]
    said = [f"{_name(best)} costs {_money(price)} for 1,000 pairs, and {_money(right)} for 1,000 right ones."]
    gaps = {(one["b"], one["b_aspect"]): one for one in runner}
    near = []
    for one in fit[1:]:
        gap, theirs = gaps.get((one["name"], one["aspect"])), _price(one)
        if gap and gap["low"] is not None and gap["low"] <= 0 and theirs is not None and theirs < price and _worth(one):
            near.append((theirs, one, gap))
    if not near:
        return None, said
    theirs, one, gap = min(near, key=lambda found: (found[0], found[1]["name"]))
    words = (
        f"Or {_name(one)}: it costs {_money(theirs)} for 1,000 pairs in place of {_money(price)}, and its "
        f"{percent(one['accuracy']['value'])} are not clearly worse ({_gap(gap)} on {gap['n']:,} common pairs)."
    )
    return one, [words, *said]


def _worth(one: Entry) -> bool:
    """Better than chance and than the plain rule, with the whole interval."""
    over = one["over_longer"]["low"]
    return bool(one["accuracy"]["low"] > 0.5 and (over is None or over > 0))


def _price(one: Entry) -> float | None:
    return None if one["costs"] is None else one["costs"]["money_per_thousand_pairs"]


def _jury(best: Entry, here: list[Entry]) -> list[str]:
    """Consensus of the judges beside the best of them."""
    juries = [one for one in here if one["kind"] == "rule" and one["name"].startswith("majority") and one["settled"]]
    if not juries or best["kind"] != "judge":
        return []
    jury = juries[0]
    if jury["accuracy"]["low"] > best["accuracy"]["value"]:
        return [f"All judges together do better: their majority reaches {percent(jury['accuracy']['value'])}."]
    return []


def _no_use(others: list[Entry]) -> list[str]:
    """Those of the others that a coin may be as good as."""
    poor = [one for one in others if one["accuracy"]["low"] <= 0.5]
    if not poor:
        return []
    more = f" and {len(poor) - MOST_NAMES} more" if len(poor) > MOST_NAMES else ""
    names = [f"{_name(one)} ({_averaged(one)})" if _averaged(one) else _name(one) for one in poor[:MOST_NAMES]]
    return [f"Not to be told from chance: {', '.join(names)}{more}."]


def _averaged(one: Entry) -> str:
    """What a judge reaches whose two orders contradict each other, if its probabilities are averaged."""
    found = one["averaged"]
    if found["low"] is None or found["low"] <= 0.5:
        return ""
    reached = f"{percent(found['value'])}, {_span(found)}"
    return f"the mean of its probabilities over both orders reaches {reached}"


def _ceiling(here: list[Entry], reference: str) -> list[str]:
    """How near people are to one another: no judge can be expected to be nearer."""
    people = [one for one in here if one["kind"] == "reference" and one["settled"]]
    if not people:
        return []
    values = sorted(one["accuracy"]["value"] for one in people)
    low, high = percent(values[0]), percent(values[-1])
    span = low if low == high else f"{low} to {high}"
    return [f"Each of them held against the others, {reference} reach {span}: that is the most to hope for."]


def _name(one: Entry) -> str:
    """Its name, and the aspect where that is not the reference's own."""
    about = "" if one["aspect"] == one["reference_aspect"] else f" by {one['aspect']}"
    return f"{one['name']}{about}"


def _span(found: Entry) -> str:
    return f"{100 * found['low']:.0f}–{100 * found['high']:.0f}%"


def _points(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def _money(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.2g}"
