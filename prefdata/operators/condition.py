"""`condition`: derive prompts that carry a condition (a system text, a principle, a persona) or passages."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from prefdata.errors import PrefdataError
from prefdata.operators.condition_texts import Condition, Conditions, key_of, read_conditions, texts_of, without_repeats
from prefdata.operators.drawing import drawn
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.schema import Row, Rows, prompt

_CARRIED = ("references", "source", "tags", "user_id", "context", "tools", "verifier", "media")
"""What a derived prompt has of the one it was made from. Its `meta` stays where it is: nothing reads that."""


@step("condition")
class ConditionPrompts(GroupStep):
    """Derive prompts from every prompt and a list of conditions. No model is asked.

    The text of a condition joins the system turn of the derived prompt; a passage stands before its last user turn.
    Later steps answer and judge the derived prompts, not those they were made from; all stay in one group, so that
    splits keep them together. A prompt that has a condition already carries both texts, the older one first.

    - `cross`: one derived prompt for each prompt and condition.
    - `sample`: `n` conditions for each prompt, drawn by weight from the hash of prompt and text: a condition that is
      added takes its share of the draws, and one more prompt changes no other.
    - `zip`: each prompt gets the conditions that name it (`prompt`: the text of its last user turn, or `prompt_id`),
      and those only. It goes by name and not by place, so that one more prompt shifts no condition to another. A
      prompt that nothing names stays as it is, and the log says that there are such prompts.

    In `cross` and `sample`, too, a condition that names a prompt is for that prompt only.

    `kind: passages` puts all passages that a prompt gets into one derived prompt, in their order, behind those that it
    has. Every other kind makes one derived prompt for each condition.
    """

    reads = frozenset({"prompts"})
    writes = frozenset({"prompts"})
    narrows: ClassVar[str | None] = "prompts"

    kind_: Literal["system", "principle", "persona", "history", "budget", "passages"] = Field(
        "system", alias="kind", description="What the texts are; stands in `condition.kind`."
    )
    mode: Literal["cross", "zip", "sample"] = Field("cross", description="Which prompts get which conditions.")
    texts: tuple[Condition, ...] = Field(
        (), description="The conditions: texts, {text, weight, prompt, prompt_id}, or a mapping of text to weight."
    )
    path: str | None = Field(
        None, description="A file of conditions: .jsonl with the keys of `texts`, or plain text, one a line."
    )
    n: int = Field(1, ge=1, description="sample: how many conditions each prompt gets.")

    _conditions: Conditions = PrivateAttr(Conditions(()))

    @field_validator("texts", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        return texts_of(value)

    @model_validator(mode="after")
    def _load(self, info: ValidationInfo) -> Self:
        """Read the file before anything runs, and refuse what makes no prompt."""
        if self.texts and self.path:
            raise ValueError("give texts or path, not both")
        given = list(self.texts)
        if self.path:
            folder = Path((info.context or {}).get("folder") or ".")
            try:
                given = read_conditions(self.path, folder)
            except PrefdataError as error:
                raise ValueError(str(error)) from error
        if not given:
            raise ValueError("there is no condition: give texts (a list) or path (a file)")
        if self.mode == "zip" and not all(condition.addressed for condition in given):
            raise ValueError(
                "mode zip needs the prompt of each condition, as prompt (the text of its last user turn) or prompt_id; "
                "conditions for any prompt go by cross or sample"
            )
        if self.mode == "sample" and not any(condition.weight for condition in given):
            raise ValueError("no condition has a weight above 0, so that none could be drawn")
        if self.n > 1 and self.mode != "sample":
            raise ValueError("n needs mode: sample")
        self._conditions = Conditions(without_repeats(given))
        return self

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the file holds in place of its path."""
        said = [condition.model_dump(mode="json", exclude_none=True) for condition in self._conditions.all]
        return {**super().resolved(), "texts": said, "path": None}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields: the conditions are what they hold, wherever the file is now."""
        return cls.model_validate(dict(fields))

    async def run(self, group: Group, context: Context) -> Rows:
        """The derived prompts of a group."""
        made: dict[str, Row] = {}
        prompts = {row["prompt_id"]: row for row in group.prompts}
        for root in group.to_answer():
            chosen = self._chosen(root, _ids(root, prompts))
            if not chosen:
                context.log("some prompts are named by no condition and stay as they are")
            elif self.kind_ == "passages":
                passages = [_passage(condition) for condition in chosen]
                derived = _derived(root, context=[*(root.get("context") or []), *passages])
                made[derived["prompt_id"]] = derived
            else:
                for condition in chosen:
                    derived = _derived(root, condition=self._joined(root, condition))
                    made[derived["prompt_id"]] = derived
        return {"prompts": list(made.values())}

    def _chosen(self, root: Row, ids: Set[str]) -> list[Condition]:
        fitting = self._conditions.of(root, ids)
        if self.mode != "sample":
            return fitting
        by_key = {key_of(condition): condition for condition in fitting}
        names = drawn({key: one.weight for key, one in by_key.items()}, self.n, "condition", root["prompt_id"])
        return [by_key[name] for name in by_key if name in names]

    def _joined(self, root: Row, condition: Condition) -> Row:
        old = root.get("condition") or {}
        text = f"{old['text']}\n\n{condition.text}" if old.get("text") else condition.text
        return {"kind": self.kind_, "text": text, "values": old.get("values"), "ref_ids": old.get("ref_ids")}


def _ids(row: Row, prompts: Mapping[str, Row]) -> set[str]:
    """The ids of a prompt and of those that steps derived it from; not of the earlier turns of one conversation."""
    ids = {row["prompt_id"]}
    while (parent_id := row.get("parent_id")) is not None and parent_id not in ids:
        parent = prompts.get(parent_id)
        if parent is None:  # `from:` leaves out what it was derived from
            return ids | {parent_id, row["group_id"]}
        if parent.get("step") == row.get("step"):
            break
        ids.add(parent_id)
        row = parent
    return ids


def _derived(root: Row, **columns: object) -> Row:
    carried = {name: root[name] for name in (*_CARRIED, "condition") if root.get(name) is not None}
    return prompt(root["messages"], parent=root, **{**carried, **columns})


def _passage(condition: Condition) -> Row:
    return {"doc_id": condition.doc_id, "text": condition.text, "label": condition.label, "score": condition.score}
