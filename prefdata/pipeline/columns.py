"""A column step on its groups, piece by piece: what has to be computed, computing it, and committing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from prefdata.dataset import Dataset, Lineage
from prefdata.pipeline import progress
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.context import RunContext
from prefdata.pipeline.failures import blamed
from prefdata.pipeline.made import Made, checked
from prefdata.pipeline.pieces import Piece
from prefdata.pipeline.progress import digests, order_of, readable
from prefdata.pipeline.step import TableStep
from prefdata.schema import KEYS

Contexts = Callable[[int], RunContext]
"""Makes the context of a step that reads a commit of this number."""


@dataclass(frozen=True)
class ColumnWork:
    """One column step of scope `group`, over one dataset.

    Attributes:
        dataset: which.
        step: the step.
        fingerprint: its fingerprint.
        reads: the tables whose rows are its input.
        lineage: whose rows it reads.
        first: the only groups that may be worked on (`--limit`); None: all.
        hint: what the message about a failure of the step ends with.
    """

    dataset: Dataset
    step: TableStep
    fingerprint: str
    reads: frozenset[str]
    lineage: Lineage
    first: frozenset[str] | None
    hint: str

    def run(self, piece: Piece, commits: Commits, contexts: Contexts, done: StepResult) -> None:
        """Compute and commit the groups of a piece whose input is not what the step had read of it."""
        view = piece.of(self.dataset.view(lineage=self.lineage, name=self.step.view))
        tables = readable(view, self.reads)
        order = [group for group in order_of(view) if self.first is None or group in self.first]
        key, current = commits.key, digests(tables)
        work = progress.work_for_groups(self.dataset, key, self.fingerprint, current, order=order, piece=piece)
        commits.notes(work.notes, done)
        if not work.todo:
            return
        frames = {
            table: rows.collect() if len(work.todo) == len(current) else progress.of_groups(rows, work.todo)
            for table, rows in projected(tables, self.step).items()
        }
        made = computed(self.step, frames, contexts(view.snapshot.number), self.hint)
        del frames
        commits.rows(made, work.todo, work.digests, done)


def projected(tables: Mapping[str, pl.LazyFrame], step: TableStep) -> dict[str, pl.LazyFrame]:
    """The tables with the columns that a step looks at."""
    ids = {table: (KEYS[table], "group_id") for table in step.columns}
    return {
        table: rows.select(list(dict.fromkeys((*ids[table], *step.columns[table])))) if table in ids else rows
        for table, rows in tables.items()
    }


def computed(step: TableStep, frames: Mapping[str, pl.DataFrame], context: RunContext, hint: str) -> Made:
    """Run a column step on its input, sorted by id so that sums come out the same bit for bit."""
    if step.ordered:
        frames = {table: frame.sort(KEYS[table]) if table in KEYS else frame for table, frame in frames.items()}
    with blamed(step, hint):
        return checked(step, step.run(frames, context))
