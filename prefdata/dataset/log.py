"""The log: numbered commits, each the atomic creation of one JSON file.

A commit names the parts it adds, describes the steps that made them, and may carry a plan. It is written under a
temporary name, synced, and linked to the next free number; a writer that loses the race takes the number after it. Link
and not rename, because link fails where the name is taken, on network file systems too. Nothing is ever overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from prefdata.errors import DataError
from prefdata.schema import SCHEMA_VERSION


@dataclass(frozen=True)
class Part:
    """One Parquet file: rows of one table and one shard, and the steps that made them."""

    table: str
    path: str
    rows: int
    shard: int = 0
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRecord:
    """What a step was: enough to say where a row comes from, and to run it again.

    Attributes:
        step: its fingerprint, as it stands in the `step` column: `name@digest`.
        name: what its pipeline calls it.
        kind: the registered kind; `import` and `labels` for rows that no pipeline made.
        scope: group or dataset.
        fields: its fields after resolving.
        inputs: the fingerprints of the steps it reads.
        reads: the tables whose rows are its input; empty for sources and sinks, which have no progress to compare.
    """

    step: str
    name: str
    kind: str
    scope: str = "group"
    fields: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Which steps of a pipeline and round are live, in order."""

    pipeline: str
    steps: tuple[str, ...]
    round: int = 0
    reads: tuple[str, ...] = ()
    """The other pipelines whose rows some step reads."""
    source: str = ""
    """The pipeline as it was written, so that a dataset says how it was made. Environment variables stay names."""


def name_of(fingerprint: str) -> str:
    """What its pipeline calls a step: its fingerprint without the digest."""
    return fingerprint.rpartition("@")[0]


@dataclass(frozen=True)
class Commit:
    """One entry of the log."""

    number: int
    time: str
    message: str
    parts: tuple[Part, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    plan: Plan | None = None


@dataclass(frozen=True)
class Snapshot:
    """The log up to one commit: what a reader pins."""

    commits: tuple[Commit, ...]

    @property
    def number(self) -> int:
        """Of the last commit; 0 for an empty dataset."""
        return self.commits[-1].number if self.commits else 0

    @cached_property
    def plans(self) -> dict[tuple[str, int], Plan]:
        """The latest plan of each pipeline and round."""
        return {(c.plan.pipeline, c.plan.round): c.plan for c in self.commits if c.plan is not None}

    @cached_property
    def steps(self) -> dict[str, StepRecord]:
        """Every step that the log describes, by fingerprint."""
        return {record.step: record for commit in self.commits for record in commit.steps}

    @cached_property
    def free_steps(self) -> tuple[str, ...]:
        """Imports and labels: live without a plan."""
        return tuple(step for step, record in self.steps.items() if record.kind in ("import", "labels"))

    def named(self, names: Iterable[str]) -> frozenset[str]:
        """The fingerprints of the live steps that are called so: `step`, or `pipeline/step`.

        Raises:
            DataError: no live step is called so, or several are.
        """
        called: dict[str, set[str]] = {}
        owners: dict[str, set[str]] = {}
        for (pipeline, _), plan in self.plans.items():
            for step in plan.steps:
                for name in (name_of(step), f"{pipeline}/{name_of(step)}"):
                    called.setdefault(name, set()).add(step)
                    owners.setdefault(name, set()).add(pipeline)
        found: set[str] = set()
        for name in names:
            if name not in called:
                known = ", ".join(sorted(name for name in called if "/" not in name)) or "none"
                raise DataError(f"no live step is called {name!r} (there are: {known})")
            if len(called[name]) > 1:
                choices = ", ".join(f"{pipeline}/{name}" for pipeline in sorted(owners[name]))
                raise DataError(f"several live steps are called {name!r}: say which ({choices})")
            found |= called[name]
        return frozenset(found)

    def parts(self, table: str) -> Iterator[tuple[int, Part]]:
        """The parts of a table with the number of the commit that added each, oldest first."""
        for commit in self.commits:
            for part in commit.parts:
                if part.table == table:
                    yield commit.number, part


class Log:
    """The folder `log/` of a dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commits: list[Commit] = []

    def snapshot(self, at: int | None = None) -> Snapshot:
        """Everything committed so far, or up to commit `at`.

        Raises:
            DataError: there is no commit `at`, or a newer prefdata wrote one.
        """
        while (path := self._path(len(self._commits) + 1)).exists():
            self._commits.append(_read(path, len(self._commits) + 1))
        if at is not None and not 0 <= at <= len(self._commits):
            raise DataError(f"{self.folder.parent} has commits 1 to {len(self._commits)}; there is no commit {at}")
        return Snapshot(tuple(self._commits if at is None else self._commits[:at]))

    def append(
        self,
        message: str,
        parts: tuple[Part, ...] = (),
        steps: tuple[StepRecord, ...] = (),
        plan: Plan | None = None,
    ) -> int:
        """Commit, and return the commit's number."""
        entry: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "message": message,
        }
        if parts:
            entry["parts"] = [asdict(part) for part in parts]
        if steps:
            entry["steps"] = [asdict(record) for record in steps]
        if plan is not None:
            entry["plan"] = asdict(plan)
        text = json.dumps(entry, ensure_ascii=False, indent=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        write_synced(temporary, text.encode("utf-8", "surrogatepass"))
        try:
            number = len(self.snapshot().commits) + 1
            while True:
                try:
                    os.link(temporary, self._path(number))
                    break
                except FileExistsError:
                    number += 1
        finally:
            temporary.unlink()
        sync_folder(self.folder)
        return number

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"


def _read(path: Path, number: int) -> Commit:
    try:
        entry = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not a commit: {error}. The log is damaged; restore it from a copy.") from error
    if entry["schema"] > SCHEMA_VERSION:
        raise DataError(
            f"{path.parent.parent} was written by a newer prefdata (tables of version {entry['schema']}; this one "
            f"knows them up to {SCHEMA_VERSION}): upgrade prefdata to open it"
        )
    plan = entry.get("plan")
    return Commit(
        number=number,
        time=entry["time"],
        message=entry["message"],
        parts=tuple(Part(**{**part, "steps": tuple(part["steps"])}) for part in entry.get("parts", ())),
        steps=tuple(
            StepRecord(**{**step, "inputs": tuple(step["inputs"]), "reads": tuple(step.get("reads", ()))})
            for step in entry.get("steps", ())
        ),
        plan=Plan(**{**plan, "steps": tuple(plan["steps"]), "reads": tuple(plan.get("reads", ()))}) if plan else None,
    )


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names. Some file systems cannot; then the names follow with the data."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
