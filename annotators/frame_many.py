"""What a judge is shown of several responses at once: each under a letter, in the order in which they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefdata.cards import Aspect, Card
from prefdata.framing import framed
from prefdata.schema import Row

from .frame import (
    answer_with,
    criteria_of,
    object_schema,
    reason_field,
    reason_schema,
    scales_of,
    scores_field,
    scores_schema,
    visible,
    warning,
)


def letters(count: int) -> list[str]:
    """What so many responses are called: A to Z, then AA, AB, and so on."""
    names = []
    for place in range(count):
        name, rest = "", place + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            name = chr(ord("A") + digit) + name
        names.append(name)
    return names


def together_message(prompt: Row, texts: Sequence[str], card: Card, aspects: Sequence[Aspect]) -> str:
    """The question for a score of each response under these aspects, answered as JSON."""
    names = letters(len(texts))
    one = [*reason_field(card), f'"scores": {scores_field(aspects)}']
    each = f"{{{', '.join(one)}}}"
    return _message(
        prompt,
        texts,
        card,
        f"Score each of {len(texts)} responses, {_names(names)}, by:\n{scales_of(aspects)}",
        "Score each response by itself, as if it stood alone: several may have the same score. Letters and order say "
        "nothing about quality.",
        [f'"responses": {{{", ".join(f"{_quoted(name)}: {each}" for name in names)}}}'],
    )


def together_schema(card: Card, aspects: Sequence[Aspect], count: int) -> dict[str, Any]:
    """The JSON schema of the answer to `together_message`."""
    one = object_schema({**reason_schema(card), "scores": scores_schema(aspects)})
    return object_schema({"responses": object_schema(dict.fromkeys(letters(count), one))})


def rank_message(prompt: Row, texts: Sequence[str], card: Card) -> str:
    """The question for an order of all responses, best first, answered as JSON."""
    names = letters(len(texts))
    wanted = "every letter once, the best response first"
    if card.output.ties:
        wanted += "; responses that are equally good stand in a list of their own"
    places = ", ".join('"letter"' for _ in names)  # real letters would suggest an order
    return _message(
        prompt,
        texts,
        card,
        f"Rank {len(texts)} responses, {_names(names)}, by:\n{criteria_of(card)}",
        f"{card.question} Letters and order say nothing about quality. The ranking holds {wanted}.",
        [*reason_field(card), f'"ranking": [{places}]'],
    )


def rank_schema(card: Card, count: int) -> dict[str, Any]:
    """The JSON schema of the answer to `rank_message`. That each letter stands once it cannot say everywhere."""
    letter = {"type": "string", "enum": letters(count)}
    equal = {"type": "array", "items": letter, "minItems": 2, "maxItems": count}
    entry = {"anyOf": [letter, equal]} if card.output.ties else letter
    least = 1 if card.output.ties else count
    return object_schema(
        {**reason_schema(card), "ranking": {"type": "array", "items": entry, "minItems": least, "maxItems": count}}
    )


def choose_message(prompt: Row, texts: Sequence[str], card: Card) -> str:
    """The question for the best response, answered as JSON."""
    names = letters(len(texts))
    return _message(
        prompt,
        texts,
        card,
        f"Choose the best of {len(texts)} responses, {_names(names)}, by:\n{criteria_of(card)}",
        f"{card.question} Letters and order say nothing about quality.",
        [*reason_field(card), '"choice": "letter"'],
    )


def choose_schema(card: Card, count: int) -> dict[str, Any]:
    """The JSON schema of the answer to `choose_message`."""
    return object_schema({**reason_schema(card), "choice": {"type": "string", "enum": letters(count)}})


def _message(prompt: Row, texts: Sequence[str], card: Card, task: str, question: str, fields: Sequence[str]) -> str:
    named = [(f"Response {name}", text) for name, text in zip(letters(len(texts)), texts, strict=True)]
    mark, body = framed([*visible(prompt, card), *named])
    return "\n\n".join([card.instructions, task, warning(mark), body, question, answer_with(fields)])


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _quoted(name: str) -> str:
    return f'"{name}"'
