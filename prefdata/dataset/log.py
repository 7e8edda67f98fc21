"""The log: numbered commits, each the atomic creation of one JSON file.

A commit names the parts it adds, describes the steps that made them, and may carry a plan. It is written under a
temporary name, synced, and linked to the next free number; a writer that loses the race takes the number after it. Link
and not rename, because link fails where the name is taken, on network file systems too. Nothing is ever overwritten.

A commit may also *replace* parts, of which its own hold the same rows (compact) or fewer (erase). Such a part carries
the number of the commit that each of its rows came with, so that a reader of an older state finds its rows in it: the
files that were replaced are needed by nobody, at no `--at`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from prefdata.errors import DataError
from prefdata.schema import SCHEMA_VERSION, SCHEMAS


@dataclass(frozen=True)
class Part:
    """One Parquet file: rows of one table and one shard.

    Attributes:
        table: of its rows.
        path: within the dataset's folder.
        rows: how many.
        shard: of all its rows.
        steps: that made them.
        bytes: size of the file.
        digest: BLAKE2b of the file (128 bits), in hexadecimal. Empty in datasets from before there was one.
        commits: the lowest and the highest commit of its rows, where the file itself says which (`_commit`); None where
            all its rows came with the commit that names it.
    """

    table: str
    path: str
    rows: int
    shard: int = 0
    steps: tuple[str, ...] = ()
    bytes: int = 0
    digest: str = ""
    commits: tuple[int, int] | None = None


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
    replaces: tuple[str, ...] = ()
    """Paths of earlier parts, of which this commit's hold what is left."""


class NewerError(DataError):
    """A newer prefdata wrote it."""


class ConflictError(Exception):
    """What a commit rests on was changed by another one meanwhile: make it anew. Never seen by users."""


@dataclass(frozen=True)
class Snapshot:
    """The log up to one commit: what a reader pins.

    Attributes:
        commits: all up to it.
        later: those after it, of which a reader of an old state needs to know what they replaced.
    """

    commits: tuple[Commit, ...]
    later: tuple[Commit, ...] = ()

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

    @cached_property
    def standing(self) -> dict[str, list[tuple[int, Part]]]:
        """By table, the parts that hold the rows of `commits`, each with the first commit of its rows, oldest first.

        What compact or erase put into their place meanwhile stands for parts that were replaced.
        """
        known = (*self.commits, *self.later)
        replaced = {path for commit in known for path in commit.replaces}
        found: dict[str, list[tuple[int, Part]]] = {}
        for commit in known:
            for part in commit.parts:
                first = part.commits[0] if part.commits else commit.number
                if first <= self.number and part.path not in replaced:
                    found.setdefault(part.table, []).append((first, part))
        return {table: sorted(parts, key=lambda one: one[0]) for table, parts in found.items()}


class Log:
    """The folder `log/` of a dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commits: list[Commit] = []
        self._whole = False
        self._lock = threading.Lock()

    def snapshot(self, at: int | None = None) -> Snapshot:
        """Everything committed so far, or up to commit `at`.

        Raises:
            DataError: there is no commit `at`, a commit is damaged or missing, or a newer prefdata wrote one.
        """
        with self._lock:
            self._read_on()
            if not self._whole:
                last = max(self.numbers(), default=0)
                self._read_on()
                if last > len(self._commits):
                    raise DataError(
                        f"{self.folder} has no commit {len(self._commits) + 1}, but commit {last}. Restore "
                        f"{self._path(len(self._commits) + 1).name} from a copy, or see what can be done without it: "
                        f"`prefdata verify {self.folder.parent}`"
                    )
                self._whole = True
            commits = tuple(self._commits)
        if at is None:
            return Snapshot(commits)
        if not 0 <= at <= len(commits):
            raise DataError(f"{self.folder.parent} has commits 1 to {len(commits)}; there is no commit {at}")
        return Snapshot(commits[:at], commits[at:])

    def append(
        self,
        message: str,
        parts: tuple[Part, ...] = (),
        steps: tuple[StepRecord, ...] = (),
        plan: Plan | None = None,
        *,
        replaces: tuple[str, ...] = (),
        seen: int | None = None,
    ) -> int:
        """Commit, and return the commit's number.

        Args:
            message: what it is, for people.
            parts: that it adds.
            steps: that it describes.
            plan: that it states.
            replaces: paths of the parts whose place `parts` take.
            seen: the last commit that the writer knew when it made its rows.

        Raises:
            ConflictError: since `seen`, another commit erased rows or replaced one of the same parts; or this one
                erases rows, and there is any other commit since, which may hold them.
            DataError: the file system has no hard links.
        """
        text = _as_text(message, parts, steps, plan, replaces)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            write_synced(temporary, text)
            while True:
                commits = self.snapshot().commits
                if seen is not None and any(erases(parts) or _conflict(one, replaces) for one in commits[seen:]):
                    raise ConflictError
                if linked(temporary, self._path(len(commits) + 1)):
                    break
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self.folder)
        return len(commits) + 1

    def fill(
        self,
        number: int,
        message: str,
        parts: tuple[Part, ...] = (),
        steps: tuple[StepRecord, ...] = (),
        replaces: tuple[str, ...] = (),
    ) -> None:
        """Write a commit in the place of one that was lost; see `append`.

        Raises:
            DataError: there is a commit of that number.
        """
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            write_synced(temporary, _as_text(message, parts, steps, None, replaces))
            if not linked(temporary, self._path(number)):
                raise DataError(f"{self._path(number)} is there")
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self.folder)

    def numbers(self) -> list[int]:
        """Of the commits that have a file, in order."""
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit())

    def _read_on(self) -> None:
        while (path := self._path(len(self._commits) + 1)).exists():
            self._commits.append(read_commit(path))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"


def _as_text(
    message: str,
    parts: tuple[Part, ...],
    steps: tuple[StepRecord, ...],
    plan: Plan | None,
    replaces: tuple[str, ...],
) -> bytes:
    entry: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "message": message,
    }
    if parts:
        entry["parts"] = [_without_nothing(asdict(part)) for part in parts]
    if steps:
        entry["steps"] = [asdict(record) for record in steps]
    if plan is not None:
        entry["plan"] = asdict(plan)
    if replaces:
        entry["replaces"] = list(replaces)
    return json.dumps(entry, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def linked(temporary: Path, path: Path) -> bool:
    """Give a file its name; False where another has it."""
    try:
        os.link(temporary, path)
    except OSError as error:
        # Over a network the answer to a link that was made may be lost, and its repetition then finds the name taken.
        if path.exists() and path.samefile(temporary):
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise DataError(
                f"the file system of {path.parent} has no hard links, by which commits are made one at a time; put the "
                "dataset on another one (a local disk, NFS, Lustre, ...)"
            ) from error
        raise
    return True


def erases(parts: Iterable[Part]) -> bool:
    """Whether a commit of these parts erases rows."""
    return any(part.table == "erased" for part in parts)


def _conflict(commit: Commit, replaces: tuple[str, ...]) -> bool:
    return erases(commit.parts) or not set(commit.replaces).isdisjoint(replaces)


def _without_nothing(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


_PART = re.compile(r"parts/([a-z_]+)/[A-Za-z0-9_-]+\.parquet")


def _inside(path: object, table: str | None = None) -> str:
    """A part's path, if it is one of this dataset's own; raises ValueError else: a log may come from a stranger."""
    found = _PART.fullmatch(path) if isinstance(path, str) else None
    if found is None or found[1] not in SCHEMAS or table not in (None, found[1]):
        raise ValueError(f"it names the file {path!r}, which is no part of a dataset")
    return found[0]


def _part(entry: dict[str, Any]) -> Part:
    commits = entry.get("commits")
    _inside(entry["path"], entry["table"])
    return Part(**{**entry, "steps": tuple(entry["steps"]), "commits": tuple(commits) if commits else None})


def read_commit(path: Path) -> Commit:
    """One entry of the log.

    Raises:
        DataError: it is damaged, or a newer prefdata wrote it.
    """
    try:
        entry = json.loads(path.read_bytes())
        if not isinstance(entry, dict) or not {"schema", "time", "message"} <= entry.keys():
            raise ValueError("it does not say what it is")
        if not isinstance(entry["schema"], int):
            raise ValueError("its schema is no number")
        if entry["schema"] <= SCHEMA_VERSION:
            return _commit(int(path.stem), entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} is not a commit: {said}. The log is damaged: restore this file from a copy, or see what can be "
            f"done without it: `prefdata verify {path.parent.parent}`"
        ) from error
    raise NewerError(
        f"{path.parent.parent} was written by a newer prefdata (tables of version {entry['schema']}; this one "
        f"knows them up to {SCHEMA_VERSION}): upgrade prefdata to open it"
    )


def _commit(number: int, entry: dict[str, Any]) -> Commit:
    if datetime.fromisoformat(entry["time"]).tzinfo is None:
        raise ValueError("its time has no zone")
    plan = entry.get("plan")
    return Commit(
        number=number,
        time=entry["time"],
        message=str(entry["message"]),
        parts=tuple(_part(part) for part in entry.get("parts", ())),
        steps=tuple(
            StepRecord(**{**step, "inputs": tuple(step["inputs"]), "reads": tuple(step.get("reads", ()))})
            for step in entry.get("steps", ())
        ),
        plan=Plan(**{**plan, "steps": tuple(plan["steps"]), "reads": tuple(plan.get("reads", ()))}) if plan else None,
        replaces=tuple(_inside(path) for path in entry.get("replaces", ())),
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
