"""The first thing to read: what is wrong with the data, worst first, and what could not be looked at.

Every sentence states the counts that it rests on. The limits are defaults of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prefdata.report.cycles import ALL
from prefdata.report.numbers import Entry
from prefdata.report.reading import NO_FAULT, THRESHOLDS, percent
from prefdata.report.separability import SEPARABLE

CONFLICTS = 0.01
"""More opposite labels than this are bad, fewer are worth knowing."""

REPEATED, NEARLY = 0.01, 0.05
"""So many prompts may have a copy, or a near copy, without a word."""

CYCLIC = 0.1
"""More cyclic triads of a majority are worth knowing; a quarter is chance."""

LOW_ALPHA = 0.4
"""People whose alpha lies below it with the whole interval hardly agree."""

TOO_SURE = 0.05

MOST_DROPPED = 0.5

_ORDER = {"bad": 0, "mixed": 1, "unknown": 2}

_Finding = tuple[str, str, str]


def problems(found: Entry) -> Entry:
    """What stands out in an analysis.

    Args:
        found: its other parts; see `prefdata.report.analyse`.

    Returns:
        found: {level (bad, mixed), about (the section's anchor), sentence}, worst first. checked: what was looked at;
        unknown: {about, sentence} on what could not be.
    """
    made: list[_Finding] = []
    checked, unknown = [], []
    for name, check in CHECKS:
        here = list(check(found))
        said = [one for one in here if one[0] != "unknown"]
        unknown += [{"about": about, "sentence": sentence} for level, about, sentence in here if level == "unknown"]
        if said or len(here) == len(said):
            checked.append(name)
        made += said
    made.sort(key=lambda one: _ORDER[one[0]])
    return {
        "found": [{"level": level, "about": about, "sentence": sentence} for level, about, sentence in made],
        "checked": checked,
        "unknown": unknown,
    }


def _leaks(found: Entry) -> Iterator[_Finding]:
    leaks = found["duplicates"]["leaks"]
    if leaks is None:
        yield "unknown", "duplicates", "Leaks: nothing is held out, no step has split the prompts."
        return
    exact, near = leaks["exact"], leaks["near"]
    if exact["part"]:
        yield (
            "bad",
            "duplicates",
            f"{exact['part']:,} of {exact['n']:,} held-out prompts are trained on as well, word for word: whatever is "
            "measured on them is too good.",
        )
    if near is not None and near["part"] > exact["part"]:
        yield (
            "bad" if not exact["part"] else "mixed",
            "duplicates",
            f"{near['part']:,} of {near['n']:,} held-out prompts have a near copy among those trained on; a split by "
            "clusters keeps them together.",
        )


def _contamination(found: Entry) -> Iterator[_Finding]:
    at = found["duplicates"]["contamination"]
    if at is None:
        yield "unknown", "duplicates", "Contamination: held against no protected texts."
    elif at["hits"]["part"]:
        names = ", ".join(str(one["name"]) for one in at["sources"][:3])
        yield (
            "bad",
            "duplicates",
            f"{at['hits']['part']:,} of {at['hits']['n']:,} texts occur in what is protected: {names}.",
        )


def _conflicts(found: Entry) -> Iterator[_Finding]:
    at, pairs = found["duplicates"]["conflicts"], found["duplicates"]["pairs"]
    if at is None:
        yield "unknown", "duplicates", "Conflicts: there are no pairs."
        return
    opposite = at["opposite"]
    if opposite["part"]:
        level = "bad" if opposite["share"] > CONFLICTS else "mixed"
        yield level, "duplicates", f"{opposite['part']:,} of {opposite['n']:,} pairs are labelled both ways round."
    if pairs["same_text"]["part"]:
        same = pairs["same_text"]
        yield "mixed", "duplicates", f"The two sides of {same['part']:,} of {same['n']:,} pairs are one text."


def _copies(found: Entry) -> Iterator[_Finding]:
    exact, near = found["duplicates"]["prompts"]["repeated"], found["duplicates"]["near"]
    if exact["part"] and exact["share"] > REPEATED:
        yield "mixed", "duplicates", f"{exact['part']:,} of {exact['n']:,} prompts occur more than once."
    elif near is not None and near["groups"] >= THRESHOLDS.least_reference and near["repeated"]["share"] > NEARLY:
        at = near["repeated"]
        yield "mixed", "duplicates", f"{at['part']:,} of {at['n']:,} prompts have a near copy."


def _separable(found: Entry) -> Iterator[_Finding]:
    at = found["separability"]
    if at is None:
        yield "unknown", "separability", "Separability: too few pairs to train a probe on."
        return
    for place, sentence in enumerate(at["warnings"]):
        top = max(at[name]["auc"]["value"] for name in ("surface", "text", "embedding", "model") if at[name])
        yield ("bad" if top > SEPARABLE and not place else "mixed"), "separability", sentence


def _longer(found: Entry) -> Iterator[_Finding]:
    at = found["card"]["longer_chosen"]
    if at["n"] < THRESHOLDS.least:
        yield "unknown", "sides", "Length: too few pairs of different length."
        return
    which, much = ("longer", at["share"]) if at["share"] >= 0.5 else ("shorter", 1 - at["share"])
    if much >= THRESHOLDS.longer and not at["low"] <= 0.5 <= at["high"]:
        yield "mixed", "sides", f"The chosen response is the {which} one in {percent(much)} of {at['n']:,} pairs."


def _position(found: Entry) -> Iterator[_Finding]:
    by = found["bias"]["by"]
    if by is None or not any(one["orders"]["n"] or one["first_shown"]["n"] for one in by):
        yield "unknown", "bias", "Position: nobody compared two responses in a known order."
        return
    poor = [
        one for one in by if one["orders"]["n"] >= THRESHOLDS.least and one["orders"]["share"] < THRESHOLDS.by_position
    ]
    if poor:
        yield "bad", "bias", f"{_named(poor)} by position: swapping the order changes most verdicts."
    lean = [
        one
        for one in by
        if one not in poor
        and one["orders"]["p_value"] is not None
        and one["orders"]["p_value"] < 0.001
        and one["orders"]["n"] >= THRESHOLDS.least
    ]
    if lean:
        yield "mixed", "bias", f"Where its orders contradict each other, {_names(lean)} mostly takes one place."
    if not any(one["orders"]["n"] for one in by if one["source"] in ("judge", "reward", "likelihood")) and any(
        one["source"] == "judge" and one["first_shown"]["n"] for one in by
    ):
        yield "unknown", "bias", "Position: the judges saw each pair in one order only."


def _names(entries: list[Entry], most: int = 2) -> str:
    names = list(dict.fromkeys(str(one["name"]) for one in entries))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _named(entries: list[Entry]) -> str:
    several = len({one["name"] for one in entries}) > 1
    return f"{_names(entries)} answer{'' if several else 's'}"


def _unusable(found: Entry) -> Iterator[_Finding]:
    counts: dict[str, int] = {}
    for one in found["flow"]["annotations"]:
        counts[one["status"]] = counts.get(one["status"], 0) + one["live"]
    total = sum(counts.values())
    bad = {status: n for status, n in counts.items() if status not in NO_FAULT and n}
    if total >= THRESHOLDS.least and sum(bad.values()) / total >= THRESHOLDS.unusable:
        said = ", ".join(f"{n:,} {status}" for status, n in sorted(bad.items()))
        yield "mixed", "flow", f"{percent(sum(bad.values()) / total)} of {total:,} judgements are unusable ({said})."


def _dropped(found: Entry) -> Iterator[_Finding]:
    for table, at in found["flow"]["tables"].items():
        gone = (at["dropped"] or 0) + (at["hidden"] or 0)
        if at["came_in"] and gone / at["came_in"] > MOST_DROPPED:
            yield "mixed", "flow", f"{percent(gone / at['came_in'])} of the {table} were dropped or hidden."


def _agree(found: Entry) -> Iterator[_Finding]:
    pairs = [one for one in found["alpha"] if one["of"] == "pairs"]
    if not pairs:
        yield "unknown", "agreement", "Agreement: no pair was judged by two annotators."
        return
    for one in people_alone(found):
        if one["high"] is not None and one["high"] < LOW_ALPHA:
            yield (
                "mixed",
                "agreement",
                f"People hardly agree on {one['aspect']}: alpha {one['alpha']:.2f} on {one['pairs']:,} pairs (0 is "
                "chance, 1 full agreement).",
            )


def people_alone(found: Entry) -> list[Entry]:
    """The alphas of people among themselves on pairs; where there are only people these are the alphas of all."""
    known = [one for one in found["alpha"] if one["of"] == "pairs" and one["alpha"] is not None]
    human = [one for one in known if one["over"] == "human"]
    met = found["abilities"]["majority"]
    only = met is not None and {one["source"] for one in met["by"]} == {"human"}
    return human or ([one for one in known if one["over"] == "all"] if only else [])


def _able(found: Entry) -> Iterator[_Finding]:
    at = found["abilities"]["majority"]
    if at is None:
        return
    poor = [one for one in at["by"] if one["n"] >= THRESHOLDS.least_reference and one["high"] < 0.5]
    if poor:
        yield "bad", "abilities", f"{_names(poor)} mostly says the opposite of the others: are its sides swapped?"
    coins = [
        one
        for one in at["by"]
        if one["n"] >= THRESHOLDS.least_reference and one["low"] <= 0.5 <= one["high"] and one["source"] == "human"
    ]
    if coins:
        yield (
            "mixed",
            "abilities",
            f"{len(coins)} of the {len(at['by'])} busiest annotators cannot be told from a coin: {_names(coins)}.",
        )


def _cyclic(found: Entry) -> Iterator[_Finding]:
    at = found["cycles"]
    for one in at["by"] or []:
        triads = one["triads"]
        if triads["n"] >= THRESHOLDS.least_reference and triads["high"] >= 0.25 and triads["low"] > CYCLIC:
            yield (
                "bad",
                "cycles",
                f"{one['name']} goes in circles as often as chance would: {percent(triads['share'])} of "
                f"{triads['n']:,} triads are cyclic (a coin: 25%).",
            )
    for one in at["majority"] or []:
        triads = one["triads"]
        if triads["n"] >= THRESHOLDS.least_reference and triads["low"] > CYCLIC:
            yield (
                "mixed",
                "cycles",
                f"No order fits {one['aspect']}: {percent(triads['share'])} of {triads['n']:,} triads of the majority "
                "are cyclic.",
            )

    for one in at["flow"] or []:
        whole = [e for e in one["by"] if one["of"] == "models" and e["name"] == ALL]
        if whole and whole[0]["p_value"] < 0.01:
            yield (
                "mixed",
                "cycles",
                f"No ranking of the models fits {one['aspect']}: {percent(whole[0]['cyclicity'])} of what "
                f"{whole[0]['n']:,} verdicts say goes in circles, more than noise would make.",
            )


def _sure(found: Entry) -> Iterator[_Finding]:
    for one in found["calibration"] or []:
        at = one["too_sure"]
        if at["low"] is not None and at["low"] > TOO_SURE:
            yield (
                "mixed",
                "calibration",
                f"{one['name']} is too sure of itself: it states {percent(one['stated'])} on average and is right in "
                f"{percent(one['right'])} of {one['n']:,} pairs.",
            )


def _boards(found: Entry) -> Iterator[_Finding]:
    for one in found["leaderboard"] or []:
        if one["groups"] > 1:
            yield (
                "mixed",
                "leaderboard",
                f"The models fall into {one['groups']} groups that never met ({one['aspect']}, by {one['by']}): "
                "nothing says which group is better.",
            )


CHECKS: tuple[tuple[str, Callable[[Entry], Iterator[_Finding]]], ...] = (
    ("leaks into validation", _leaks),
    ("contamination", _contamination),
    ("separability", _separable),
    ("position", _position),
    ("length", _longer),
    ("agreement", _agree),
    ("annotators worse than chance", _able),
    ("cycles", _cyclic),
    ("calibration", _sure),
    ("opposite labels", _conflicts),
    ("copies of prompts", _copies),
    ("unusable judgements", _unusable),
    ("drops", _dropped),
    ("models that never met", _boards),
)
