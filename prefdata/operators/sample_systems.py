"""Weighted system texts: one is drawn for each draw of a response. The prompt that is trained on stays without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefdata.operators.drawing import drawn
from prefdata.schema import Row


class Principle(BaseModel):
    """What a draw may be asked to heed: texts that say the same in other words, one of which is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[str, ...] = Field(min_length=1, description="Paraphrases; each draw gets one of them.")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="Its share of the draws, beside the others'.")


def principles_of(value: object) -> object:
    """The ways to write `systems` as one: name -> {weight, texts}.

    A list of texts (or of {text, weight}), a mapping of text -> weight, or a mapping of name -> {weight, texts}, where
    {text: ...}, a list of texts or one text may stand as well.

    Raises:
        ValueError: it is none of these, or a text is empty.
    """
    if isinstance(value, list | tuple):
        entries = [_entry(one, number) for number, one in enumerate(value, start=1)]
        if len({text for text, _ in entries}) != len(entries):
            raise ValueError("it holds one text twice; give that text a higher weight instead")
        value = dict(entries)
    if not isinstance(value, Mapping):
        raise ValueError("systems is a list of texts, or a mapping of name to {weight: ..., texts: [...]}")
    made = {str(name): _principle(str(name), said) for name, said in value.items()}
    if made and not any(one["weight"] for one in made.values() if isinstance(one["weight"], int | float)):
        raise ValueError("no system text has a weight above 0, so that none could be drawn")
    return made


def _entry(value: object, number: int) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, 1.0
    if isinstance(value, Mapping) and isinstance(value.get("text"), str) and not set(value) - {"text", "weight"}:
        return value["text"], value.get("weight", 1.0)
    raise ValueError(f"entry {number} is neither a text nor {{text: ..., weight: ...}}: {value!r:.80}")


def _principle(name: str, said: object) -> dict[str, Any]:
    if isinstance(said, Principle):
        return said.model_dump()
    if isinstance(said, int | float) and not isinstance(said, bool):
        said = {"texts": [name], "weight": said}
    elif isinstance(said, str):
        said = {"texts": [said]}
    elif isinstance(said, list | tuple):
        said = {"texts": said}
    if not isinstance(said, Mapping):
        raise ValueError(f"{name!r} is neither a weight, nor texts, nor {{weight: ..., texts: [...]}}: {said!r:.80}")
    fields = dict(said)
    if "text" in fields and "texts" not in fields:
        fields["texts"] = [fields.pop("text")]
    texts = fields.get("texts")
    if not isinstance(texts, list | tuple) or not texts:
        raise ValueError(f"{name!r} has no texts; write texts: [...]")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{name!r} has an empty text, which would be no system text at all")
    for key in fields:
        if key not in Principle.model_fields:
            raise ValueError(f"{name!r} has the unknown key {key!r}; a system text has weight and texts (or text)")
    return {"weight": 1.0, **fields}


def check_sources(by_source: Mapping[str, Mapping[str, float]], systems: Mapping[str, Principle]) -> None:
    """Refuse weights for principles that there are not.

    Raises:
        ValueError: names source and principle.
    """
    for source, weights in by_source.items():
        for name in weights:
            if name not in systems:
                known = ", ".join(repr(one) for one in systems) or "none"
                raise ValueError(f"systems_by_source, source {source!r}: {name!r} is not in systems (there: {known})")
        if not any(weight > 0 for weight in weights.values()):
            raise ValueError(f"systems_by_source, source {source!r}: no weight is above 0, so that none could be drawn")


def draw_system(
    systems: Mapping[str, Principle],
    by_source: Mapping[str, Mapping[str, float]],
    prompt: Row,
    member: str,
    index: int,
) -> tuple[str, str]:
    """Name and text of the system text for one draw of a response.

    Args:
        systems: what may be drawn, by name.
        by_source: other weights for the prompts of a source, by the column `source`.
        prompt: the prompt that is answered.
        member: the key of who answers.
        index: which draw.
    """
    weights = by_source.get(str(prompt.get("source"))) or {name: one.weight for name, one in systems.items()}
    key = (prompt["prompt_id"], member, index)
    name = drawn(weights, 1, "principle", *key)[0]
    return name, drawn(dict.fromkeys(systems[name].texts, 1.0), 1, "system", *key)[0]
