"""The conditions of `condition`: read from YAML or from a file, checked, and drawn without chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefdata.errors import PipelineError
from prefdata.operators.same_text import normalised
from prefdata.pipeline.spec import find_file
from prefdata.schema import Row, make_id


class Condition(BaseModel):
    """One text that prompts are conditioned on: a system text, a principle, a persona, or a passage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(description="What the answer must heed, or the passage.")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="Its share of the draws (mode: sample).")
    prompt: str | None = Field(None, description="Only for the prompt whose last user turn is this text.")
    prompt_id: str | None = Field(None, description="Only for the prompt of this id, and those a step derived from it.")
    doc_id: str | None = Field(None, description="Passages: the document's name.")
    label: str | None = Field(None, description="Passages: what it is shown under, in the place of its number.")
    score: float | None = Field(None, allow_inf_nan=False, description="Passages: how well it fits.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text.strip():
            raise ValueError("the text is empty, and an empty condition would change nothing")
        return self

    @property
    def addressed(self) -> bool:
        """Whether it is for one prompt only."""
        return self.prompt is not None or self.prompt_id is not None

    def fits(self, prompt: Row, ids: Set[str]) -> bool:
        """Whether it is for this prompt, which goes by these ids: everything is that names none."""
        if self.prompt_id is not None and self.prompt_id not in ids:
            return False
        return self.prompt is None or normalised(self.prompt) == normalised(last_user_turn(prompt))


class Conditions:
    """Conditions by the prompt that they name, so that a file of many costs a prompt no more than one of few.

    Args:
        conditions: in their order.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self.all = tuple(conditions)
        self._by_name: dict[tuple[str, str], list[int]] = {}
        for place, condition in enumerate(self.all):
            name = ("", "")
            if condition.prompt_id is not None:
                name = ("id", condition.prompt_id)
            elif condition.prompt is not None:
                name = ("text", normalised(condition.prompt))
            self._by_name.setdefault(name, []).append(place)

    def __eq__(self, other: object) -> bool:
        """Whether they are the same, in the same order: a step is equal to one with the same fields."""
        return isinstance(other, Conditions) and self.all == other.all

    def __hash__(self) -> int:
        return hash(self.all)

    def of(self, prompt: Row, ids: Set[str]) -> list[Condition]:
        """Those for this prompt, in their order.

        Args:
            prompt: the prompt.
            ids: its own and those of the prompts that steps derived it from.
        """
        names = {("", ""), ("text", normalised(last_user_turn(prompt))), *(("id", name) for name in ids)}
        places = sorted(place for name in names for place in self._by_name.get(name, ()))
        return [self.all[place] for place in places if self.all[place].fits(prompt, ids)]


def last_user_turn(prompt: Row) -> str:
    """The text of the last user turn; empty where there is none."""
    said = [turn.get("content") or "" for turn in prompt["messages"] if turn["role"] == "user"]
    return said[-1] if said else ""


def texts_of(value: object) -> list[dict[str, Any]]:
    """What stands under `texts:` as fields of conditions: texts, {text, weight, ...}, or a mapping of text -> weight.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, Mapping):
        value = [{"text": str(text), "weight": weight} for text, weight in value.items()]
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError("texts is a list of texts (or of {text: ..., weight: ...}), or a mapping of text to weight")
    made: list[dict[str, Any]] = []
    for number, one in enumerate(value, start=1):
        if isinstance(one, Condition):
            one = one.model_dump(mode="json")
        fields = {"text": one} if isinstance(one, str) else one
        made.append(_checked(fields, f"text {number}"))
    return made


def read_conditions(path: str, folder: Path) -> list[Condition]:
    """The conditions of a file: JSON lines of {text, weight, prompt, prompt_id, ...}, or plain text, one a line.

    Args:
        path: a `.jsonl` file, or another text file; looked up in the working folder, then in `folder`.
        folder: the pipeline file's.

    Raises:
        PipelineError: there is no such file, or a line cannot be read; names file and line.
    """
    found = find_file(path, folder)
    if found is None or not found.is_file():
        raise PipelineError(f"there is no file {path!r}, neither in the working folder nor in {folder}")
    try:
        lines = found.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{found} cannot be read as text: {error}") from error
    made: list[Condition] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{found}, line {number}"
        try:
            fields = _parsed(line, where) if found.suffix in (".jsonl", ".json") else {"text": line.strip()}
            made.append(Condition.model_validate(_checked(fields, where)))
        except ValueError as error:
            raise PipelineError(str(error)) from error
    if not made:
        raise PipelineError(f"{found} holds no condition: every line is empty")
    return made


def _parsed(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: this is no JSON object: {error}") from None


def _checked(fields: object, where: str) -> dict[str, Any]:
    """The fields of a condition, or a sentence."""
    known = sorted(Condition.model_fields)
    if not isinstance(fields, Mapping):
        raise ValueError(f"{where} is neither a text nor an object of {', '.join(known)}: {fields!r:.80}")
    unknown = sorted(set(map(str, fields)) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; a condition has {', '.join(known)}")
    try:
        return Condition.model_validate(dict(fields)).model_dump(mode="json")
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {f'{key}: ' if key else ''}{said}") from None


def key_of(condition: Condition) -> str:
    """What a draw hashes of a condition: all but its weight."""
    return make_id("condition", condition.model_dump(mode="json", exclude={"weight"}, exclude_none=True))


def without_repeats(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions, each once, in their order."""
    return list({key_of(condition): condition for condition in conditions}.values())
