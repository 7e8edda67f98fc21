"""`judge.vectors`: prompts and responses as an embedding sees them, kept for later steps to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from prefdata.engines.base import Capability, Engine, Request
from prefdata.operators.gathering import gather_all
from prefdata.operators.vectors import VECTOR, packed, read_vectors
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.schema import Row, Rows, annotation

from .asking import completed
from .likelihood import asked_all, read_values

ASPECT = VECTOR
"""The aspect under which vectors stand; `read_vectors` reads them."""

__all__ = ["ASPECT", "Vectors", "read_vectors"]


@step("judge.vectors")
class Vectors(GroupStep):
    """Embed each root prompt or each response, and keep the vector.

    One request and one annotation for each: protocol `label`, aspect `vector`, the vector of length 1 as base64 of
    half-precision numbers in `text`. It says nothing by itself: `judge.duplicates` with `method: embedding` finds like
    texts by it, and `select.budget` takes texts that are unlike. An empty text is abstained from.
    """

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators"})
    narrows = "responses"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "embed"}

    engine: str = Field(description="The engine that embeds.")
    of: Literal["prompts", "responses"] = Field("prompts", description="What is embedded.")
    turns: Literal["all", "first", "last"] = Field(
        "all", description="prompts: all turns, or the first or last one of the user."
    )

    def inputs(self) -> frozenset[str]:
        """The table that is embedded."""
        return frozenset({self.of}) if self.of == "prompts" else frozenset({"prompts", "responses"})

    async def run(self, group: Group, context: Context) -> Rows:
        """The vectors of a group."""
        engine = context.engine(self.engine)
        if self.of == "prompts":
            asked = [("prompt", row, self._asked(row)) for row in group.prompts if row["prompt_id"] == group.group_id]
        else:
            asked = [("response", row, row["text"] or "") for row in group.responses]
        rows = await gather_all(self._embed(target, row, text, engine, context) for target, row, text in asked)
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"embedding:{engine.model}"

    def _asked(self, prompt: Row) -> str:
        turns = prompt["messages"] or []
        if self.turns != "all":
            turns = [turn for turn in turns if turn["role"] == "user"]
            turns = turns[:1] if self.turns == "first" else turns[-1:]
        return "\n\n".join(turn["content"] for turn in turns if turn.get("content"))

    async def _embed(self, target: str, row: Row, text: str, engine: Engine, context: Context) -> Row:
        made = annotation(
            group_id=row["group_id"],
            prompt_id=row["prompt_id"],
            target=target,
            target_ids=[row[f"{target}_id"]],
            protocol="label",
            annotator=self._name(engine),
            source="embedding",
            aspect=VECTOR,
            key={"identity": engine.identity, "turns": self.turns if target == "prompt" else None},
        )

        async def make(revision: int) -> Row:
            if not text.strip():
                return completed(made, status="abstain", call_id=None, revision=revision)
            answers = await asked_all(context, [(self.engine, Request("embed", texts=(text,)))], revision)
            status, call_id, vectors = read_values(answers)
            said = packed(vectors[0]) if status == "ok" else None
            if status == "ok" and said is None:
                status = "unparsed"
            return completed(made, status=status, call_id=call_id, revision=revision, text=said)

        return await context.once("annotations", made["annotation_id"], make)
