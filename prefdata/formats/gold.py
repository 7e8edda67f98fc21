"""The right answer of a gold question, as a row of tasks states it."""

from __future__ import annotations

from collections.abc import Mapping

from prefdata.formats.source import Record, RowError, describe
from prefdata.schema import Row

ANSWERS = ("choice", "ranks", "scores", "best", "thumbs", "step", "spans", "target")
"""What the right answer of a gold question may state; see the protocols of the labelling page."""
WORDS: dict[str, int | str] = {"a": -1, "b": 1, "tie": 0, "both_bad": "both_bad"}
"""The right answer to a comparison in a word, as one writes it into a table."""
MOST = 4
"""How far a choice may lie from the middle of the scale: it has nine points at most."""
_WORDS = "a, b, tie or both_bad"
_CHOICES = f"{_WORDS}, or a whole number from -{MOST} (the first is much better) to {MOST} (the second is)"


def gold_of(record: Record, count: int) -> Row | None:
    """The right answer in the form of the labelling page; None where the row states none.

    Args:
        record: the row.
        count: how many responses it has.

    Raises:
        RowError: it is none; says what is allowed.
    """
    example = '{"choice": -1}' if count == 2 else '{"best": [0]}'
    try:
        gold = record.structured("gold")
    except RowError as error:
        raise record.error(f"{error.problem}; write it like {example}", "gold") from None
    if gold is None:
        return None
    if count == 2 and isinstance(gold, str) and (word := _word(gold)) in WORDS:
        return {"choice": WORDS[word]}
    if isinstance(gold, Mapping):  # a column of objects has every key in every row; only a step may be none
        gold = {key: value for key, value in gold.items() if value is not None or key == "step"}
    if not isinstance(gold, Mapping) or not set(gold) & set(ANSWERS):
        in_a_word = f"{_WORDS}, or " if count == 2 else ""
        raise record.error(
            f"it should be {in_a_word}an object with one of {', '.join(ANSWERS)}, for example {example}, and is "
            f"{describe(gold)}",
            "gold",
        )
    said = dict(gold)
    if "choice" in said:
        said["choice"] = _choice(record, said["choice"])
    for name in ("ranks", "thumbs"):
        if name in said and (not isinstance(said[name], list) or len(said[name]) != count):
            raise record.error(f"its {name} should be a list of {count}, one for each response", "gold")
    _check_places(record, said, count)
    return said


def _word(text: str) -> str:
    return text.strip().lower().replace(" ", "_").replace("-", "_")


def _choice(record: Record, choice: object) -> int | str:
    if isinstance(choice, str) and _word(choice) in WORDS:
        return WORDS[_word(choice)]
    whole = isinstance(choice, int | float) and not isinstance(choice, bool) and choice in range(-MOST, MOST + 1)
    if not whole:
        raise record.error(f"its choice should be {_CHOICES}, and is {describe(choice)}", "gold")
    assert isinstance(choice, int | float)
    return int(choice)


def _check_places(record: Record, gold: Row, count: int) -> None:
    best, spans = gold.get("best", []), gold.get("spans", [])
    if not isinstance(best, list) or not isinstance(spans, list):
        raise record.error("its best and spans should be lists", "gold")
    targets = [span.get("target") if isinstance(span, Mapping) else None for span in spans]
    places = [*best, *targets, *([gold["target"]] if "target" in gold else [])]
    for place in places:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < count:
            raise record.error(f"{place!r} is no position among {count} responses (positions count from 0)", "gold")
