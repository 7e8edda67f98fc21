"""The numbers of the review page as tables: what the report says, of one project, with what it means beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefdata.report.markup import Child, Html, join, tag
from prefdata.report.numbers import Entry
from prefdata.report.parts import DASH, count, duration, more, number, plural, spread, table
from prefdata.report.reading import percent

if TYPE_CHECKING:
    import polars as pl

    from ..quality.live import Agreement, Habit, Stop, Version
    from ..work.projects import Guideline

_OF = {"pairs": "which of two is better", "scores": "scores", "labels": "labels"}
_MOST_ROWS = 30


def person(annotator: object) -> Html:
    """A person's pseudonym, or the name of a model."""
    return tag("bdi", str(annotator).removeprefix("human:"), class_="name")


def note(*children: Child) -> Html:
    """A sentence in small print."""
    return tag("p", *children, class_="soft small")


def empty(*children: Child) -> Html:
    """What stands where there is nothing yet."""
    return tag("p", *children, class_="empty")


def _judged(entry: Entry) -> str:
    return plural(entry["pairs"], "pair") if entry["of"] == "pairs" else plural(entry["responses"], "response")


def reach(value: float | None, low: float | None, high: float | None) -> Html:
    """A coefficient from 0 to 1 with its interval, in digits and as a bar; what lies below 0 is drawn at 0."""
    if value is None:
        return tag("span", DASH, class_="soft")
    made = [tag("span", number(value), class_="value")]
    if low is not None and high is not None:
        start, end, at = (100 * min(max(one, 0.0), 1.0) for one in (low, high, value))
        marks = [
            tag("b", style=f"left:{start:.1f}%;width:{end - start:.1f}%"),
            tag("i", style=f"left:{at:.1f}%"),
        ]
        made.append(tag("span", *marks, class_="range", aria_hidden="true"))
        made.append(tag("span", f"{number(low)} to {number(high)}", class_="soft small nowrap"))
    else:
        made.append(tag("span", "no interval yet", class_="soft small nowrap"))
    return join(*made)


# Agreement


def together(found: Agreement) -> Html:
    """Alpha of all people together, in a sentence for each aspect and in a table."""
    entries = [entry for entry in found.alpha if entry["over"] in ("all", "human")]
    if not entries:
        return empty("No two people have answered the same task yet: agreement is given when they have.")
    told = [tag("p", meaning(entry), class_="meaning") for entry in entries if entry["level"] != "interval"]
    rows = [
        [
            _aspect(entry),
            entry["level"],
            count(entry["annotators"]),
            _judged(entry),
            percent(entry["percent"]),
            reach(entry["alpha"], entry["low"], entry["high"]),
        ]
        for entry in entries
    ]
    heads = ["aspect", "level", "people", "judged by two or more", "equal", "alpha, 95% interval"]
    caption = "Krippendorff's alpha of all people together. Equal: how often two of them say the same, chance included."
    return join(
        told,
        table(caption, heads, rows, numeric=(2,), cards=True),
        note(
            "0 is chance, 1 is full agreement, below 0 they contradict one another. Krippendorff asks for 0.8, and for "
            "0.67 at least before conclusions are drawn; where taste is asked for, people often stay below. Intervals "
            "by resampling prompts. Adjudications are left out: who decides has read what the others said."
        ),
        [note(one) for one in found.notes],
    )


def meaning(entry: Entry) -> Html:
    """What one alpha says, in a sentence."""
    aspect, judged = tag("b", tag("bdi", entry["aspect"])), _judged(entry)
    rests = f"{plural(entry['annotators'], 'person').replace('persons', 'people')} on {judged} (two or more on each)"
    if entry["alpha"] is None:
        return join(aspect, f": nothing can be said of {rests} yet: too few, or all values are equal.")
    ends = "" if entry["low"] is None else f" (95% interval {number(entry['low'])} to {number(entry['high'])})"
    apart = 1 - entry["alpha"]
    if apart <= 1:
        words = f"their differences are {percent(apart)} of what chance alone would make them"
    else:
        words = f"they differ more than by chance alone, {number(apart)} times as much"
    return join(
        aspect, f", {_OF[entry['of']]}: alpha is ", tag("b", number(entry["alpha"])), f"{ends}. {rests}: {words}."
    )


def _aspect(entry: Entry) -> Html:
    scale = f", {entry['scale']}" if entry.get("scale") else ""
    return join(tag("bdi", entry["aspect"]), tag("div", f"{_OF[entry['of']]}{scale}", class_="soft small"))


def couples(found: Agreement) -> Html:
    """Every two people: on the order of pairs, and on scores."""
    made: list[Child] = []
    if found.couples:
        rows: list[list[Child]] = [
            [
                _two(e),
                tag("bdi", e["aspect"]),
                count(e["shared"]),
                count(e["n"]),
                percent(e["percent"]),
                reach(e["kappa"], e["low"], e["high"]),
            ]
            for e in found.couples
        ]
        heads = ["people", "aspect", "shared pairs", "both decided", "same order", "kappa, 95% interval"]
        caption = (
            "Every two people on the pairs that both judged. Same order: of those on which neither said tie; chance is "
            "one half. Cohen's kappa takes chance off."
        )
        made += _long(caption, heads, rows, "couples", (2, 3, 4))
    if found.scores:
        rows = [
            [
                _two(e),
                tag("bdi", e["aspect"]),
                e["scale"] or DASH,
                count(e["n"]),
                percent(e["percent"]),
                reach(e["kappa"], e["low"], e["high"]),
            ]
            for e in found.scores
        ]
        heads = ["people", "aspect", "scale", "responses", "equal", "kappa, 95% interval"]
        caption = "Every two people on the responses that both scored; kappa with quadratic weights."
        made += _long(caption, heads, rows, "couples", (3, 4))
    return join(made) if made else empty("No two people share enough for a comparison of the two.")


def _two(entry: Entry) -> Html:
    return join(person(entry["a"]), tag("br"), person(entry["b"]))


def _long(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]], what: str, numeric: Sequence[int]
) -> list[Child]:
    made: list[Child] = [table(caption, heads, rows[:_MOST_ROWS], numeric=numeric, cards=True)]
    if len(rows) > _MOST_ROWS:
        rest = table(f"{caption} The others.", heads, rows[_MOST_ROWS:], numeric=numeric, cards=True)
        made.append(more(f"{len(rows) - _MOST_ROWS} more {what}", rest))
    return made


def stopping(stops: Sequence[Stop]) -> Html:
    """What is left until each aspect's interval is narrow enough."""
    if not stops:
        return empty("There is no interval to make narrower yet.")
    rows: list[list[Child]] = []
    for stop in stops:
        left = stop.left
        ends = [
            _aspect(stop.entry),
            DASH if stop.half_width is None else f"± {number(stop.half_width)}",
            f"± {number(stop.target, 3).rstrip('0')}",
        ]
        if left is None:
            rows.append([*ends, DASH, DASH, DASH, DASH, DASH])
        elif left.units == 0:
            rows.append([*ends, tag("b", "none: you may stop"), DASH, DASH, _price(left.label_cost), DASH])
        else:
            units = plural(left.units, "pair" if stop.entry["of"] == "pairs" else "response")
            labels = join(plural(left.labels, "label"), tag("div", units, class_="soft small"))
            pace = "nobody labelled today" if left.hours is None else _hours(left.hours)
            work = DASH if left.work_hours is None else _hours(left.work_hours)
            rows.append([*ends, labels, pace, work, _price(left.label_cost), _price(left.cost)])
    heads = [
        *("aspect", "interval now", "aim", "still needed", "at today's pace", "hours of work", "a label costs"),
        "all of them",
    ]
    now, took = stops[0].pace, stops[0].seconds
    since = "labels an hour, since the first of the last 24 hours"
    said = "" if now is None else f"Today's pace: {number(now, 1)} {since}. "
    said += "" if took is None else f"A label takes {duration(took)} of active work. "
    return join(
        table("When may we stop", heads, rows, cards=True),
        note(
            said,
            "Half of an interval's width shrinks with the square root of the number judged, if what comes is like what "
            "there is. Costs are in the currency in which people are paid.",
        ),
    )


def _hours(hours: float) -> str:
    return duration(hours * 3600) if hours < 48 else f"{hours / 24:,.1f} days"


def _price(value: float | None) -> str:
    return DASH if value is None else f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.4f}"


# People


def people(gold: Sequence[Entry], times: pl.DataFrame, skipped: Mapping[str, Mapping[str, int]]) -> Html:
    """Each person: how much, how fast, how right on gold questions, what they skipped."""
    right = {entry["annotator"]: entry for entry in gold}
    time = {row["annotator"]: row for row in times.to_dicts()}
    everybody = sorted({*right, *time, *(f"human:{name}" for name in skipped)})
    if not everybody:
        return empty("Nobody has answered anything yet.")
    rows: list[list[Child]] = []
    for name in everybody:
        took, skips = time.get(name), skipped.get(name.removeprefix("human:"), {})
        reasons = [f"{reason} ({n})" if n > 1 else reason for reason, n in skips.items()]
        spans = f"{duration(took['q25'])} to {duration(took['q75'])}" if took else None
        rows.append(
            [
                person(name),
                count(took["n"] if took else 0),
                join(duration(took["median"]), tag("div", spans, class_="soft small nowrap")) if took else DASH,
                duration(60 * took["minutes"]) if took else DASH,
                spread(right[name], "question", half=False) if name in right else tag("span", DASH, class_="soft"),
                join(
                    str(sum(skips.values())), tag("div", "; ".join(reasons), class_="soft small") if reasons else None
                ),
            ]
        )
    heads = ["person", "tasks", "time a task", "in all", "right on gold questions", "skipped"]
    caption = (
        "Time: active seconds, median and middle half. Gold: a person's first answer to each question, with Wilson's "
        "interval. Skipping is held against nobody."
    )
    return table(caption, heads, rows, numeric=(1, 3), cards=True)


def habits(found: Sequence[Habit]) -> Html:
    """Position and length habits of each person."""
    if not found:
        return empty("No comparison, ranking or score has been given yet.")
    rows: list[list[Child]] = [
        [
            join(person(h.annotator), tag("div", tag("bdi", f"{h.protocol} · {h.aspect}"), class_="soft small")),
            spread(h.first, "answer"),
            spread(h.longer, "pair"),
            join(percent(h.ties["share"]), tag("div", f"of {count(h.ties['n'])}", class_="soft small")),
        ]
        for h in found
    ]
    heads = ["person", "first shown is better", "longer is better", "ties"]
    caption = (
        "Habits. One half is no habit of position: the order was drawn by lot. Longer answers may be better ones; look "
        "at who stands apart from the others."
    )
    return table(caption, heads, rows, cards=True)


def judges(found: Entry) -> Html:
    """People and AI judges held against the majority of people, on the same pairs."""
    entries = found["by"]
    if not any(entry["source"] != "human" for entry in entries):
        return empty(
            "No AI judge has judged these pairs: a pipeline with a step `judge` on this dataset would be compared here."
        )
    rows: list[list[Child]] = [
        [
            join(
                person(e["name"]),
                tag("div", "a person, beside the others" if e["leave_one_out"] else e["source"], class_="soft small"),
            ),
            tag("bdi", e["aspect"]),
            spread({**e, "share": e["accuracy"]}, "pair"),
            count(e["undecided"]),
        ]
        for e in entries
    ]
    heads = ["who", "aspect", "as most people", "tie"]
    caption = (
        f"Held against the majority of {plural(found['annotators'], 'person').replace('persons', 'people')} on "
        f"{plural(found['pairs'], 'pair')} that it orders. A person is held against the others."
    )
    return join(table(caption, heads, rows, numeric=(3,), cards=True), [note(one) for one in found.get("notes", [])])


# Guidelines


def versions(found: Sequence[Version], known: Sequence[Guideline], now: str) -> Html:
    """What was labelled under each version of the guidelines, and how far people agree under it."""
    by_card = {version.card: version for version in found}
    rows: list[list[Child]] = []
    for guideline in known:
        version = by_card.get(guideline.label)
        since = datetime.fromtimestamp(guideline.created_at, UTC).strftime("%Y-%m-%d %H:%M")
        badge = tag("span", "holds now", class_="badge good") if guideline.label == now else None
        alphas = (
            [e for e in version.alpha if e["over"] in ("all", "human") and e["level"] != "interval"] if version else []
        )
        each = [tag("div", _aspect(e), reach(e["alpha"], e["low"], e["high"]), class_="alpha") for e in alphas]
        rows.append(
            [
                join(
                    tag("bdi", guideline.label, class_="name"),
                    " ",
                    badge,
                    tag("div", f"since {since}", class_="soft small"),
                ),
                count(version.labels if version else 0),
                count(version.annotators if version else 0),
                tag("div", each, class_="alphas") if each else DASH,
            ]
        )
    heads = ["guidelines", "tasks answered", "people", "alpha, 95% interval"]
    return table(
        "Versions of the guidelines, the oldest first (times in UTC).", heads, rows, numeric=(1, 2), cards=True
    )
