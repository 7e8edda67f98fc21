"""What a step made, on its way into the dataset: signed, with the progress of its groups, in one commit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from prefdata.dataset import Dataset
from prefdata.errors import DataError, PipelineError
from prefdata.pipeline.made import STEPLESS, Made, fresh, signed, unanswered
from prefdata.schema import KEYS, Row


@dataclass
class StepResult:
    """What a step did in this run."""

    name: str
    fingerprint: str
    groups: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    unanswered: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By table, how many of the rows hold no answer, by status (responses: `without an answer`)."""
    seconds: float = 0.0

    def add(self, groups: int, rows: Mapping[str, int], without: Mapping[str, Mapping[str, int]]) -> None:
        """Count what was committed."""
        self.groups += groups
        for table, count in rows.items():
            self.rows[table] = self.rows.get(table, 0) + count
            self.unanswered[table].update(without.get(table, {}))


class Commits:
    """Commits what the steps of one pipeline make.

    Args:
        dataset: where to.
        key: the pipeline's key in `progress`.
    """

    def __init__(self, dataset: Dataset, key: str) -> None:
        self.dataset, self.key = dataset, key
        self._described = {
            table: set(dataset.rows(table).select(KEYS[table]).collect().to_series()) for table in sorted(STEPLESS)
        }

    def rows(self, made: Made, groups: Sequence[str], digests: Mapping[str, str], done: StepResult) -> None:
        """Commit what was made for these groups together with their progress.

        Args:
            made: rows by table.
            groups: the groups that were worked on; of what stayed unfinished there are calls only.
            digests: what the input of each group was.
            done: of the step; is counted up.

        Raises:
            PipelineError: a row does not fit its table, or the disk is full.
        """
        if not groups and not any(len(given) for given in made.values()):
            return
        notes = pl.DataFrame(
            {"group_id": groups, "digest": [digests[group] for group in groups]},
            schema={"group_id": pl.String, "digest": pl.String},
        ).with_columns(pipeline=pl.lit(self.key), step=pl.lit(done.fingerprint))
        rows = {table: signed(table, given, done.fingerprint) for table, given in made.items() if len(given)}
        for table in rows.keys() & self._described.keys():
            rows[table] = fresh(table, rows[table], self._described[table])
        try:
            self.dataset.commit({**rows, "progress": notes}, f"{done.name}: {len(groups)} groups")
        except DataError as error:
            raise PipelineError(f"step {done.name!r}: {error}") from error
        except OSError as error:
            raise PipelineError(
                f"{self.dataset.path} cannot be written to: {error}. What was committed is kept, and so are the "
                "answers that the request cache took: put it right and run the same command again"
            ) from error
        counts = {table: len(given) for table, given in rows.items()}
        done.add(
            len(groups),
            counts,
            {table: unanswered(table, given) for table, given in rows.items()},
        )

    def notes(self, notes: Iterable[Row], done: StepResult) -> None:
        """Commit notes that settle groups without a run."""
        rows = list(notes)
        if rows:
            self.dataset.commit({"progress": rows}, f"{done.name}: {len(rows)} groups as they were before")
