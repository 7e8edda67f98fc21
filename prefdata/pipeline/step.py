"""What a step is: a typed value with one method.

A step is a small pydantic model; its fields are its YAML keys. A `GroupStep` is async and sees one group (a root prompt
and all that belongs to it) at a time: write one where models are asked. A `TableStep` computes on whole polars columns.
Both return the rows they made, by table; the runtime owns concurrency, caching, retries, budgets, progress and
checkpoints, and fills in the `step` of each row. A `SourceStep` brings rows in, a `Sink` writes files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.schema import Row, Rows

Scope = Literal["group", "dataset"]

CONSENSUS = "consensus"
"""In `reads` and `writes`: the annotations whose source is consensus. `annotations` means all the others."""


@dataclass
class Group:
    """A root prompt and what the step may read of it, each list sorted by id.

    Each row is a dict with every column of its table. `annotations` holds consensus rows only if the step reads them.
    """

    group_id: str
    prompts: list[Row] = field(default_factory=list)
    responses: list[Row] = field(default_factory=list)
    annotations: list[Row] = field(default_factory=list)
    preferences: list[Row] = field(default_factory=list)
    partner: Group | None = None
    """Another group, for a step that asks for `partners`; it is read and never written to."""

    def to_answer(self) -> list[Row]:
        """The prompts to be answered: where an earlier step derived prompts, those and not what they were made from.

        The turns of one imported conversation were not derived by a step: each is answered.
        """
        steps = {row["prompt_id"]: row.get("step") for row in self.prompts}
        made_from = {
            row["parent_id"]
            for row in self.prompts
            if row.get("parent_id") and steps.get(row["parent_id"], row.get("step")) != row.get("step")
        }
        return [row for row in self.prompts if row["prompt_id"] not in made_from]

    def responses_to(self, prompt_id: str) -> list[Row]:
        """The responses that were written under this prompt, sorted by id."""
        return [row for row in self.responses if row["prompt_id"] == prompt_id]


class Context(Protocol):
    """What the runtime offers to a running step."""

    dataset: Path
    """The dataset's folder, for steps that write files (export, report)."""
    folder: Path
    """Where the pipeline's file stands: relative paths are looked up in the working folder, then there."""
    commit: int
    """The commit that the step reads."""
    pipeline: str
    """The running pipeline's name."""

    @property
    def artifacts(self) -> Path:
        """The folder of this step's fitted things (`artifacts/STEP/` of the dataset); whoever writes first makes it."""
        ...

    def engine(self, name: str) -> Engine:
        """The engine of that name (for `identity` and `model`; requests go through `ask`)."""
        ...

    async def once(self, table: str, row_id: str, make: Callable[[int], Awaitable[Row]]) -> Row:
        """The row of that id which the dataset already holds, live or not; else what `make(revision)` returns.

        A row whose status is to be asked again is made anew, with the next revision.
        """
        ...

    async def ask(self, engine: str, request: Request, *, revision: int = 1) -> Answer:
        """Ask a model, through the request cache and within the budget. Fails as a value, not as an exception.

        A revision above 1 asks again what was asked before.
        """
        ...

    def log(self, message: str) -> None:
        """A line for the run's log and, once, for the screen: what was left out, and why."""
        ...


class Step(BaseModel):
    """The fields that every step has, and what it declares about itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: ClassVar[str] = ""
    """Its name in YAML, for example `judge.compare`; set by `@step`."""
    version: ClassVar[int] = 1
    """Of the code: raise it when the same fields make other rows."""
    scope: ClassVar[Scope] = "group"
    reads: ClassVar[frozenset[str]] = frozenset()
    """Tables (and CONSENSUS) whose rows are its input."""
    columns: ClassVar[Mapping[str, Sequence[str]]] = {}
    """By table of `reads`, the only columns that it looks at, beside ids and groups; of a table not named here, all."""
    ordered: ClassVar[bool] = True
    """Of a step over columns: whether its rows come sorted by id. One that sorts them itself is spared the time."""
    writes: ClassVar[frozenset[str]] = frozenset()
    """Tables (and CONSENSUS) whose rows it makes. Empty for a sink (export, report), which runs every time."""
    prefers_consensus: ClassVar[bool] = False
    """Read annotations only where no earlier step makes a consensus, and `from:` does not say otherwise."""
    narrows: ClassVar[str | None] = None
    """The table of `reads` that `from:` narrows to the rows of the named steps."""
    engine_fields: ClassVar[Mapping[str, Capability]] = {}
    """Which fields hold an engine's name (or a list of them), and the capability it must have."""

    name: str | None = Field(None, description="What other steps and --set call it; the kind, unless given.")
    from_: tuple[str, ...] = Field((), alias="from", description="Read only what these steps made.")
    reads_: tuple[str, ...] = Field((), alias="reads", description="Read these other pipelines' rows as well.")
    view: str = Field("main", description="The view whose drops it respects (select: the view it drops from).")

    def inputs(self) -> frozenset[str]:
        """What it reads with these fields: `reads`, unless a field decides."""
        return self.reads

    def beside_consensus(self) -> Self | None:
        """Of a step that `prefers_consensus`: as it runs where there is one and it reads the other annotations too.

        None: it reads no others there. A field may ask for what the consensus was made from.
        """
        return None

    def resolved(self) -> dict[str, Any]:
        """What goes into the fingerprint: fields, with the contents of files and cards in place of their names.

        Engines are resolved by the runtime. Override where a field names a file whose contents matter.
        """
        return self.model_dump(mode="json", by_alias=True, exclude={"name", "from_", "reads_"})

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields, as the log keeps them: the inverse of `resolved`. Override both or none.

        Raises:
            ValidationError: they are not those of this class.
        """
        return cls.model_validate(dict(fields))


def narrowed(step: Step) -> frozenset[str]:
    """The entries of a step's `reads` that its `from:` narrows: consensus goes with the other annotations."""
    if step.narrows is None:
        return frozenset()
    return frozenset({step.narrows, CONSENSUS} if step.narrows == "annotations" else {step.narrows})


class GroupStep(Step):
    """A step that asks models, one group at a time."""

    partners: ClassVar[bool] = False
    """Whether each group comes with a partner: the next one in a ring ordered by hash, within its shard. A group more
    gives one other group another partner, and both of them are run."""

    async def run(self, group: Group, context: Context) -> Rows:
        """The rows made for this group, by table."""
        raise NotImplementedError


class TableStep(Step):
    """A step that computes on columns."""

    def planned(self) -> TableStep:
        """The step as a plan runs it while what it reads is only stood in for: it makes as many rows as it ever could.

        Itself where answers do not decide how many.
        """
        return self

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The rows made from these tables, by table.

        Args:
            tables: one frame for each entry of `reads` (consensus rows are in `annotations`), every column of the
                schema (or of `columns`) present, sorted by id (see `ordered`). Scope `group`: groups that need work,
                whole, not always all of them at once; what is made for one must not depend on the others. Scope
                `dataset`: everything.
            context: what the runtime offers.
        """
        raise NotImplementedError


class SourceStep(Step):
    """A step that brings rows in from outside. Its rows are compared group by group with what it brought before."""

    writes: ClassVar[frozenset[str]] = frozenset({"prompts", "responses", "annotations"})

    def run(self, context: Context) -> Rows:
        """All rows, in their order, by table; each has its group_id."""
        raise NotImplementedError


class Sink(Step):
    """A step that writes files from what is live. It runs whenever its pipeline runs."""

    def run(self, view: Mapping[str, pl.LazyFrame], context: Context) -> None:
        """Write.

        Args:
            view: the live tables, as the step reads them.
            context: what the runtime offers.
        """
        raise NotImplementedError
