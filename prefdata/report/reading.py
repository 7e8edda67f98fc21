"""One plain sentence on each annotator, from its numbers and from thresholds that the report states."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from prefdata.report.numbers import Entry

Level = Literal["bad", "mixed", "good", "unknown", "reference"]


@dataclass(frozen=True)
class Thresholds:
    """Where words begin. All are shares in [0, 1] but for the two counts.

    Attributes:
        least: below so many pairs a share is not put into words.
        least_reference: likewise for agreement with the reference.
        by_position: two orders agree in fewer pairs than this (a coin reaches one half).
        steady: two orders agree in at least so many.
        leaning: the first shown wins this much more often or more rarely than half.
        longer: the longer one is preferred at least so often, or at most 1 - longer.
        like_reference: the reference prefers the longer one as often, give or take so much: then it is no fault.
        one_score: one score is given at least so often.
        ties: at least so many of the pairs are ties.
        unusable: at least so many judgements have another status than ok or abstain.
    """

    least: int = 10
    least_reference: int = 20
    by_position: float = 0.5
    steady: float = 0.8
    leaning: float = 0.1
    longer: float = 0.65
    like_reference: float = 0.1
    one_score: float = 0.8
    ties: float = 0.5
    unusable: float = 0.1


THRESHOLDS = Thresholds()

NO_FAULT = ("ok", "abstain")
"""Who abstains had nothing to go by (a prompt without a verifier, an empty response): that is no failure."""


def thresholds() -> Entry:
    """The thresholds, for whoever reads the numbers."""
    return asdict(THRESHOLDS)


def percent(value: float | None) -> str:
    """`4%`; `<1%` and `>99%` where rounding would say none or all; a dash for nothing."""
    if value is None:
        return "–"
    if 0 < value < 0.005:
        return "<1%"
    if 0.995 <= value < 1:
        return ">99%"
    return f"{100 * value:.0f}%"


def reading(entry: Entry, against: Entry | None, reference: str, members: list[str]) -> Entry:
    """What the numbers of an annotator say.

    Args:
        entry: of `annotators`.
        against: its entry in `reference`, if it has one.
        reference: what the reference is called.
        members: the reference's annotators, as far as they are named.

    Returns:
        level (bad, mixed, good, unknown, reference) and sentence.
    """
    if not entry["statuses"].get("ok"):
        if set(entry["statuses"]) == {"abstain"}:
            return _read("unknown", [f"abstained each time ({entry['n']:,}): it had nothing to go by"])
        return _read("unknown", [f"gave no usable judgement ({_statuses(entry, but=('ok',))})"])
    if "response" not in entry["targets"]:
        return _read("unknown", [f"says nothing of responses: it is about {' and '.join(entry['targets'])}s"])
    habits = [found for found in (_position(entry), _length(entry, against), _scores(entry), _unusable(entry)) if found]
    clauses = ["rests on what other annotators said"] if entry["source"] == "consensus" else []
    clauses += [text for _, text in habits]
    if entry.get("name") in members and (against is None or not against["leave_one_out"]):
        return _read("reference", ["is the reference that the others are held against", *clauses])
    verdict = _reference(against, reference)
    if verdict is not None:
        clauses.append(verdict[1])
    if not clauses:
        return _read("unknown", [_nothing(entry)])
    return _read(_level([level for level, _ in habits], None if verdict is None else verdict[0]), clauses)


def _level(habits: list[Level], verdict: Level | None) -> Level:
    """The worst that was found; good only where the reference says so."""
    if "bad" in (*habits, verdict):
        return "bad"
    if "mixed" in (*habits, verdict):
        return "mixed"
    return "good" if verdict == "good" else "unknown"


def _read(level: Level, clauses: list[str]) -> Entry:
    text = "; ".join(clauses)
    return {"level": level, "sentence": f"{text[0].upper()}{text[1:]}."}


def _nothing(entry: Entry) -> str:
    if entry["protocol"] in ("label", "measure"):
        does = "keeps vectors for other steps" if entry["aspect"] == "vector" else f"{entry['protocol']}s responses"
        return f"{does}, and prefers none"
    one_order = entry["protocol"] == "compare" and not entry["position"]["orders"]["pairs"]
    orders = ", but no pair was judged in both orders" if one_order else ""
    return f"no habit stands out{orders}; there is nothing to hold it against"


def _position(entry: Entry) -> tuple[Level, str] | None:
    orders, first = entry["position"]["orders"], entry["position"]["first_shown"]
    at, limits = orders["share"], THRESHOLDS
    if at is not None and orders["n"] >= limits.least:
        counts = f"its two orders agree in {percent(at)} of {orders['n']:,} pairs"
        if at < limits.by_position:
            toward = orders["first_both"] / (orders["first_both"] + orders["second_both"])
            which = "the first shown" if toward >= 0.5 else "the second shown"
            how = f", where a coin would reach 50%; otherwise it mostly takes {which}"
            return "bad", f"answers by position: {counts}{how}"
        if at < limits.steady:
            return "mixed", f"often changes its mind when the order is swapped: {counts}"
        return "good", f"does not depend on the order: {counts}"
    if not orders["pairs"] and first["n"] >= limits.least and first["share"] in (0.0, 1.0):
        which = "first" if first["share"] else "second"
        return "mixed", (
            f"the {which} one wins in all {first['n']:,} comparisons: either they are listed winner first, or it "
            "answers by position; only both orders would tell"
        )
    if first["n"] >= limits.least and abs(first["share"] - 0.5) > limits.leaning and not _covers_half(first):
        which, much = ("first", first["share"]) if first["share"] > 0.5 else ("second", 1 - first["share"])
        return "mixed", f"leans to the response shown {which} ({percent(much)} of {first['n']:,} comparisons)"
    return None


def _covers_half(found: Entry) -> bool:
    return bool(found["low"] <= 0.5 <= found["high"])


def _length(entry: Entry, against: Entry | None) -> tuple[Level, str] | None:
    habit, limits = entry["length"], THRESHOLDS
    if habit["n"] < limits.least or _covers_half(habit):
        return None
    if 1 - limits.longer < habit["share"] < limits.longer:
        return None
    which, much = ("longer", habit["share"]) if habit["share"] > 0.5 else ("shorter", 1 - habit["share"])
    text = f"prefers the {which} response in {percent(much)} of {habit['n']:,} pairs"
    theirs = (
        against["longer_of_shared"]["accuracy"] if against and against["shared"] >= limits.least_reference else None
    )
    if theirs is not None and abs(theirs - habit["share"]) <= limits.like_reference:
        return "good", f"{text}, much as the reference does ({percent(theirs if which == 'longer' else 1 - theirs)})"
    return "mixed", text


def _scores(entry: Entry) -> tuple[Level, str] | None:
    ties, found = entry["ties"], entry["distribution"]
    if ties["share"] is not None and ties["n"] >= THRESHOLDS.least and ties["share"] >= THRESHOLDS.ties:
        return "mixed", f"calls {percent(ties['share'])} of {ties['n']:,} pairs a tie"
    if entry["protocol"] != "score" or found is None:
        return None
    total, top = found["n"], found["most_frequent"]
    if total >= THRESHOLDS.least and top["n"] / total >= THRESHOLDS.one_score:
        return "mixed", f"gives the score {top['value']:g} to {percent(top['n'] / total)} of {total:,} responses"
    return None


def _unusable(entry: Entry) -> tuple[Level, str] | None:
    bad = sum(found["share"] for status, found in entry["statuses"].items() if status not in NO_FAULT)
    if entry["n"] < THRESHOLDS.least or bad < THRESHOLDS.unusable:
        return None
    return "mixed", f"{percent(bad)} of its {entry['n']:,} judgements are unusable ({_statuses(entry)})"


def _statuses(entry: Entry, but: tuple[str, ...] = NO_FAULT) -> str:
    other = [(status, found["n"]) for status, found in entry["statuses"].items() if status not in but]
    return ", ".join(f"{n:,} {status}" for status, n in other)


def _reference(against: Entry | None, reference: str) -> tuple[Level, str] | None:
    """What it is worth by the reference: against chance, and against preferring the longer one."""
    if against is None:
        return None
    shared, n = against["shared"], against["n"]
    if shared < THRESHOLDS.least_reference:
        return "unknown", f"only {shared:,} pairs to hold against {reference}"
    if n * 2 < shared:
        few = f"only {n:,}" if n else "none"
        return "bad", f"decides {few} of the {shared:,} pairs that {reference} orders"
    agrees = f"agrees with {reference} in {percent(against['accuracy'])} of {n:,} pairs"
    if against["high"] < 0.5:
        return "bad", f"{agrees}, which is worse than chance"
    if against["low"] <= 0.5:
        return "bad", f"{agrees}, which cannot be told from chance"
    longer, beats = against["longer"], against["beats_longer"]
    if longer["accuracy"] is None or not beats["n"]:
        return "good", agrees
    rule = f'"the longer one is better" ({percent(longer["accuracy"])})'
    if beats["low"] > 0.5:
        return "good", f"{agrees}, better than {rule}"
    if beats["high"] < 0.5:
        return "bad", f"{agrees}, worse than {rule}"
    return "mixed", f"{agrees}, not clearly better than {rule}"
