"""How far the answers of several people to one task are apart, protocol by protocol."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from prefdata.cards import Card
from prefdata.stats import kendall_tau

_WORD = re.compile(r"\S+")

MEANING: dict[str, str] = {
    "compare": "0 is one side for all, 0.5 half against half; a tie against a side counts half as much as the other "
    "side does.",
    "rank": "0 is one order for all, 1 no relation between the orders, 2 the reverse (1 minus the mean of Kendall's "
    "tau-b).",
    "rate": "1 is the whole scale between the lowest and the highest score of the response most apart.",
    "best": "The share of people who chose otherwise than most.",
    "thumbs": "The share of people who voted otherwise than most, on the response most disputed.",
    "first_error": "The share of people who named another step than most.",
    "spans": "0 is the same words with the same labels for all, 1 no word in common (1 minus the mean F1 of words).",
    "edit": "Edited texts are not compared with one another.",
}
"""What the number means, by protocol."""


def disagreement(protocol: str, answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str] = ()) -> float:
    """How far answers to one task are apart; 0 where they are alike, or where fewer than two can be compared.

    Args:
        protocol: of the project.
        answers: one of each person, with positions in target_ids.
        card: its aspects state the scales of `rate`.
        texts: [k] of the responses, for `spans`.
    """
    if len(answers) < 2 or protocol == "edit":
        return 0.0
    return _MEASURES[protocol](answers, card, texts)


_Measure = Callable[[Sequence[Mapping[str, Any]], Card, Sequence[str]], float]


def _compare(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    """What would have to change for all to be on one side, for each person; between tie and side: one half."""
    sides = Counter(_side(answer["choice"]) for answer in answers)
    return min(sum(abs(side - to) / 2 * n for side, n in sides.items()) for to in (-1, 0, 1)) / len(answers)


def _side(choice: object) -> int:
    """-1, 0 or 1; both bad is on neither side."""
    return (choice > 0) - (choice < 0) if isinstance(choice, int) else 0


def _rank(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    """Responses that are not ranked share the last place."""
    places = [
        [rank if rank is not None else len(answer["ranks"]) + 1 for rank in answer["ranks"]] for answer in answers
    ]
    taus = [_tau(a, b) for a, b in combinations(places, 2)]
    return 1 - sum(taus) / len(taus)


def _tau(a: Sequence[int], b: Sequence[int]) -> float:
    tau = kendall_tau(a, b).value
    if tau is None:  # one of them has no order
        return float(len(set(a)) == len(set(b)))
    return tau


def _rate(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    widths = {aspect.name: aspect.scale.max - aspect.scale.min for aspect in card.aspects if aspect.has_scale}
    ranges = _ranges(answers)
    return max((wide / widths[aspect] for aspect, wide in ranges if widths.get(aspect)), default=0.0)


def _ranges(answers: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(aspect, highest minus lowest score) of each response that two or more people scored."""
    given: dict[tuple[str, int], list[float]] = defaultdict(list)
    for answer in answers:
        for aspect, values in answer["scores"].items():
            for place, value in enumerate(values):
                given[aspect, place].append(value)
    return [(aspect, max(values) - min(values)) for (aspect, _), values in given.items() if len(values) > 1]


def widest(answers: Sequence[Mapping[str, Any]]) -> float:
    """The widest range of scores of one response under one aspect, in points of its scale (HelpSteer2's measure)."""
    return max((wide for _, wide in _ranges(answers)), default=0.0)


def _best(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return _minority([tuple(answer["best"]) for answer in answers])


def _thumbs(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return max(_minority(votes) for votes in zip(*(answer["thumbs"] for answer in answers), strict=True))


def _first_error(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    return _minority([answer["step"] for answer in answers])


def _minority(values: Sequence[object]) -> float:
    """The share of those that differ from the most frequent value."""
    return 1 - Counter(values).most_common(1)[0][1] / len(values)


def _spans(answers: Sequence[Mapping[str, Any]], card: Card, texts: Sequence[str]) -> float:
    words = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    marked = [_marked(answer["spans"], words) for answer in answers]
    scores = [_f1(a, b) for a, b in combinations(marked, 2)]
    return 1 - sum(scores) / len(scores)


def _marked(
    spans: Sequence[Mapping[str, Any]], words: Sequence[Sequence[tuple[int, int]]]
) -> set[tuple[int, int, str]]:
    """(response, number of the word, label) of each word that a span touches."""
    return {
        (span["target"], number, span["label"])
        for span in spans
        for number, (start, end) in enumerate(words[span["target"]])
        if start < span["end"] and span["start"] < end
    }


def _f1(a: set[tuple[int, int, str]], b: set[tuple[int, int, str]]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


_MEASURES: dict[str, _Measure] = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "best": _best,
    "thumbs": _thumbs,
    "first_error": _first_error,
    "spans": _spans,
}
