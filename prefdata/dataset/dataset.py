"""A dataset: the object that is opened, read, labelled and committed to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from prefdata.dataset import labels, texts
from prefdata.dataset.erased import Erased, erased_from
from prefdata.dataset.log import ConflictError, Log, Part, Plan, Snapshot, StepRecord, sync_folder, write_synced
from prefdata.dataset.parts import COMMIT, inside, scan, to_arrow, write_parts
from prefdata.dataset.view import Lineage, View, full_lineage
from prefdata.errors import DataError
from prefdata.schema import KEYS, SCHEMA_VERSION, Row, arrow_table, check_annotations, make_id

MARKER = "prefdata.json"
Made = Mapping[str, Sequence[Row]] | Mapping[str, pl.DataFrame] | Mapping[str, Sequence[Row] | pl.DataFrame]
"""Rows by table, as dicts or as frames."""


class Dataset:
    """A folder of Parquet parts and a log of commits.

    `prompts`, `responses`, `annotations`, `preferences`, `token_scores`, `drops`, `criteria`, `annotators` and `calls`
    are polars LazyFrames of what is live now (`calls`: all that were made). Nothing here overwrites anything.

    Args:
        path: an existing dataset (see `create`).
        at: pin to this commit; such a dataset cannot be written to.

    Raises:
        DataError: there is no dataset, or a newer prefdata wrote it.
    """

    def __init__(self, path: str | Path, at: int | None = None) -> None:
        self.path = Path(path)
        marker = marker_of(self.path)
        self.uid: str = marker["uid"]
        self.shards: int = marker["shards"]
        self.at = at
        self.log = Log(self.path / "log")
        self._erased = (0, Erased())
        self.log.snapshot(at)

    @classmethod
    def create(cls, path: str | Path, *, shards: int | None = None) -> Dataset:
        """Make an empty dataset, or open the one that is there.

        Args:
            path: the folder; made with its parents.
            shards: fixed for the dataset's life; about one for each million annotations, 1 unless given.

        Raises:
            DataError: it is a file or cannot be made, the folder holds something else, or a dataset with another
                number of shards.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; a dataset is a folder: name a new one")
        if not (folder / MARKER).exists():
            if folder.exists() and any(entry.name != "log" and entry.suffix != ".tmp" for entry in folder.iterdir()):
                raise DataError(f"{folder} is not empty and holds no dataset: name a new folder")
            try:
                (folder / "log").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"the folder {folder} cannot be made ({error.strerror}): name another one") from error
            made = datetime.now(UTC).isoformat(timespec="seconds")
            marker = {"schema": SCHEMA_VERSION, "uid": uuid.uuid4().hex, "shards": shards or 1, "created": made}
            temporary = folder / f".{uuid.uuid4().hex}.tmp"
            write_synced(temporary, json.dumps(marker, indent=1).encode())
            with contextlib.suppress(FileExistsError):  # of two that make it at once, one wins and both open it
                os.link(temporary, folder / MARKER)
            temporary.unlink()
            sync_folder(folder)
        opened = cls(folder)
        if shards not in (None, opened.shards):
            raise DataError(
                f"{folder} has {opened.shards} shards, which is settled when a dataset is made: not {shards}"
            )
        return opened

    # Reading

    @property
    def snapshot(self) -> Snapshot:
        """The log as it is now, or as it was at the commit this dataset is pinned to."""
        return self.log.snapshot(self.at)

    def view(
        self,
        *,
        pipeline: str | None = None,
        lineage: Lineage | None = None,
        name: str = "main",
        at: int | None = None,
        shard: int | None = None,
        made_by: Mapping[str, Sequence[str]] | None = None,
    ) -> View:
        """The live rows, pinned to one commit.

        Args:
            pipeline: only what this pipeline made, beside imports and labels.
            lineage: exactly these steps.
            name: the named view whose drops hold beside main's.
            at: as of this commit.
            shard: only this shard's groups.
            made_by: by table, the names of the only steps whose rows are read (`step`, or `pipeline/step`).

        Raises:
            DataError: there is no such pipeline or view, or `made_by` names a step that is not live.
        """
        snapshot = self.log.snapshot(self.at if at is None else at)
        if lineage is None:
            lineage = full_lineage(snapshot, pipeline)
            self._check_view(name, snapshot)
        if made_by:
            narrow = {table: snapshot.named(names) for table, names in made_by.items()}
            lineage = replace(lineage, narrow=narrow)
        return View(self.path, snapshot, lineage, name, shard)

    def _check_view(self, name: str, snapshot: Snapshot) -> None:
        """A view is there once a step names it or something was dropped from it: a wrong name must not mean main."""
        if name == "main":
            return
        dropped = scan(self.path, snapshot, "drops").select("view").unique().collect()["view"].to_list()
        known = {"main", *dropped, *(record.fields.get("view") for record in snapshot.steps.values())} - {None}
        if name not in known:
            raise DataError(f"{self.path} has no view {name!r} (there are: {', '.join(sorted(known))})")

    def rows(self, table: str) -> pl.LazyFrame:
        """Every row that was ever committed to a table, live or not, with its commit's number in `_commit`."""
        return scan(self.path, self.snapshot, table)

    @property
    def prompts(self) -> pl.LazyFrame:
        """The live prompts."""
        return self.view()["prompts"]

    @property
    def responses(self) -> pl.LazyFrame:
        """The live responses."""
        return self.view()["responses"]

    @property
    def annotations(self) -> pl.LazyFrame:
        """The live annotations, with the targets that are left in the view."""
        return self.view()["annotations"]

    @property
    def preferences(self) -> pl.LazyFrame:
        """The live preferences."""
        return self.view()["preferences"]

    @property
    def token_scores(self) -> pl.LazyFrame:
        """The live token scores."""
        return self.view()["token_scores"]

    @property
    def drops(self) -> pl.LazyFrame:
        """What live steps and people dropped or restored, in every named view."""
        return self.view()["drops"]

    @property
    def criteria(self) -> pl.LazyFrame:
        """The criteria that annotations name."""
        return self.view()["criteria"]

    @property
    def annotators(self) -> pl.LazyFrame:
        """The annotators that annotations name."""
        return self.view()["annotators"]

    @property
    def calls(self) -> pl.LazyFrame:
        """One row for each model call, live or not."""
        return self.view()["calls"]

    def lists(self) -> pl.DataFrame:
        """The live preferences with their texts: one row, one list, best first."""
        return texts.lists(self.view())

    def pairs(self) -> pl.DataFrame:
        """The live preferences expanded to pairs with their texts: chosen scores strictly above rejected."""
        return texts.pairs(self.view())

    def sql(self, query: str) -> pl.DataFrame:
        """Ask DuckDB; every table is a relation under its own name. Only the tables that the query names are read.

        Raises:
            DataError: the query is wrong; the message is DuckDB's.
        """
        import duckdb

        view = self.view()
        config = {"enable_external_access": "false"}  # the tables, and no file or address
        with duckdb.connect(":memory:", config=config) as connection:
            try:
                for table in set(view) & set(re.findall(r"\w+", query.lower())):  # DuckDB's own list binds the query
                    connection.register(table, view[table].collect().to_arrow())
                found = connection.sql(query)
                frame = pl.DataFrame() if found is None else pl.from_arrow(found.to_arrow_table())
            except duckdb.Error as error:
                raise DataError(f"the query failed: {_complaint(error)} (tables: {', '.join(view)})") from error
        assert isinstance(frame, pl.DataFrame)
        return frame

    # Writing

    def commit(
        self,
        rows: Made,
        message: str,
        *,
        steps: Sequence[StepRecord] = (),
        plan: Plan | None = None,
    ) -> int:
        """Add rows, each of which has its `step`, in one commit; return the commit's number.

        Rows that were erased are left out. Where this fails nothing is left behind.

        Raises:
            DataError: a row does not fit its table, or the dataset is pinned to an older commit.
            OSError: the disk is full, or cannot be written.
        """
        if self.at is not None:
            raise DataError(f"{self.path} was opened at commit {self.at}; open it without `at` to write to it")
        tables: dict[str, pa.Table] = {}
        for table, given in rows.items():
            tables[table] = to_arrow(table, given) if isinstance(given, pl.DataFrame) else arrow_table(table, given)
        while True:
            parts: list[Part] = []
            try:
                seen = self.snapshot.number
                self._write(tables, parts)
                return self.log.append(message, tuple(parts), tuple(steps), plan, seen=seen)
            except ConflictError:  # somebody erased rows meanwhile, which may be among these: once more
                self._unlink(parts)

    def _write(self, tables: Mapping[str, pa.Table], parts: list[Part]) -> None:
        """Write the parts of a commit, and name each in `parts` as soon as it is there."""
        token = uuid.uuid4().hex
        try:
            for table, made in tables.items():
                kept = self.erased.without(table, made) if self.erased else made
                for part in write_parts(self.path, table, kept, self.shards, token):
                    parts.append(part)  # one by one: of two that fit on the disk, the first is known
        except OSError:
            self._unlink(parts)
            raise

    def _unlink(self, parts: Iterable[Part]) -> None:
        for part in parts:
            inside(self.path / part.path, self.path / "parts").unlink(missing_ok=True)

    @property
    def erased(self) -> Erased:
        """What was erased and is never to be made again; `commit` leaves such rows out."""
        snapshot, (number, erased) = self.log.snapshot(), self._erased
        if any(part.table == "erased" for commit in snapshot.commits[number:] for part in commit.parts):
            erased = erased_from(self.path, snapshot)
        self._erased = (snapshot.number, erased)
        return erased

    def add_import(self, rows: Made, *, source: str, fields: Mapping[str, Any]) -> dict[str, int]:
        """Commit rows that came from outside any pipeline; rows that are already there are left alone.

        Args:
            rows: by table, without `step`.
            source: the format, for example `hh-rlhf`.
            fields: what was imported and how; names the import.

        Returns:
            How many rows were new, by table. Nothing is committed where none was. A changed annotation of a known id
            becomes its next revision.
        """
        step = f"import:{source}@{make_id('import', source, dict(fields))[:16]}"
        new: dict[str, list[Row]] = {}
        for table, given in rows.items():
            made = given.to_dicts() if isinstance(given, pl.DataFrame) else given
            fresh = self._not_there(table, made)
            new[table] = [{**row, "step": step} for row in fresh] if table not in _STEPLESS else fresh
        counts = {table: len(made) for table, made in new.items()}
        if any(counts.values()):
            check_annotations(new.get("annotations", []), f"import {source}")
            record = StepRecord(step=step, name=f"import:{source}", kind="import", fields=dict(fields))
            self.commit(new, f"import {source}", steps=[record])
        return counts

    def _not_there(self, table: str, rows: Sequence[Row]) -> list[Row]:
        key = KEYS.get(table)
        if key is None:
            return list(rows)
        rows = [row for row in rows if not self.erased.holds(table, row)]
        free = set(self.snapshot.free_steps)  # what only a pipeline made is live no longer than its pipeline
        known = self.latest(table, [row[key] for row in rows])
        fresh: dict[str, Row] = {}
        for row in self.revised(rows, known) if table == "annotations" else rows:
            old = known.get(row[key])
            there = old is not None and (old["step"] in free if table not in _STEPLESS else True)
            if row[key] not in fresh and not (there and row.get("revision") == (old or {}).get("revision")):
                fresh[row[key]] = dict(row)
        return list(fresh.values())

    def revised(self, rows: Sequence[Row], known: Mapping[str, Row] | None = None) -> list[Row]:
        """Annotations with the revision that each has here: the known row's where it says the same, else the next.

        Args:
            rows: rows of `annotations`.
            known: what `latest` returns for their ids.
        """
        if known is None:
            known = self.latest("annotations", [row["annotation_id"] for row in rows])
        made = []
        for row in rows:
            old = known.get(row["annotation_id"])
            made.append({**row, "revision": old["revision"] + (_said(old) != _said(row))} if old else dict(row))
        return made

    def latest(self, table: str, ids: Sequence[str]) -> dict[str, Row]:
        """The latest row of each of these ids, live or not; of annotations the highest revision."""
        wanted = pl.DataFrame({KEYS[table]: ids}, schema={KEYS[table]: pl.String})
        found = self.rows(table).join(wanted.lazy(), on=KEYS[table], how="semi", maintain_order="left")
        order = ["revision", COMMIT] if table == "annotations" else [COMMIT]
        return {row[KEYS[table]]: row for row in found.sort(order, maintain_order=True).collect().to_dicts()}

    def label(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        store: str = "labels",
        beside: Mapping[str, Sequence[Row]] | None = None,
    ) -> list[str]:
        """Add human labels, or correct them: a label of the same task and person is the next revision of the old one.

        Args:
            rows: rows of `annotations`, at least target_ids, protocol, annotator, and scores or labels or text. A task
                is its targets, protocol and aspect, unless `key` names it. target, group_id and prompt_id are looked
                up; prompt_id stays null where the targets stand under different prompts. A row that states its
                `revision` is left out where that one is there already: so the same labels can be added twice.
            store: the name of where they come from.
            beside: rows of `responses` that people wrote, `criteria` and `annotators`; those that are new go into the
                same commit.

        Returns:
            The annotation ids, in order.

        Raises:
            DataError: a target that the dataset does not have, or scores that do not fit; nothing is added then.
        """
        return labels.label(self, rows, store, beside or {})

    def unlabel(self, ids: Iterable[str], *, store: str = "labels") -> int:
        """Take labels away, with all their revisions; return how many there were."""
        return self.drop("annotations", ids, reason="deleted", store=store)

    def drop(self, table: str, ids: Iterable[str], *, reason: str, view: str = "main", store: str = "labels") -> int:
        """Hide rows by a person's decision, which no step overrules; return how many rows there were."""
        return labels.decide(self, table, ids, reason=reason, view=view, store=store, restore=False)

    def restore(
        self, table: str, ids: Iterable[str], *, reason: str = "restored", view: str = "main", store: str = "labels"
    ) -> int:
        """Bring back rows that a step or a person dropped, and keep them; return how many rows there were."""
        return labels.decide(self, table, ids, reason=reason, view=view, store=store, restore=True)

    # Showing

    def counts(self) -> dict[str, int]:
        """How many rows of each table are live."""
        view = self.view()
        return {table: view[table].select(pl.len()).collect().item() for table in view if table != "token_scores"}

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, commit {self.snapshot.number})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the live counts and the first pairs."""
        return texts.html(self.path.name, self.snapshot.number, self.counts(), self.pairs().head(3))


def marker_of(path: Path) -> dict[str, Any]:
    """What a dataset's folder says of itself: schema, uid, shards.

    Raises:
        DataError: there is no dataset, its marker is damaged, or a newer prefdata wrote it.
    """
    try:
        marker = json.loads((path / MARKER).read_bytes())
        schema = int(marker["schema"])
    except FileNotFoundError:
        raise DataError(
            f"{path} is no dataset: it has no {MARKER}. Make one with `prefdata run PIPELINE --dataset {path}` or "
            f"`prefdata import FORMAT SOURCE {path}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path / MARKER} is damaged: restore it from a copy (it says, for good, how many shards there are)"
        ) from error
    if schema > SCHEMA_VERSION:
        raise DataError(
            f"{path} was made by a newer prefdata (tables of version {schema}; this one knows them up to "
            f"{SCHEMA_VERSION}): upgrade prefdata to open it"
        )
    return dict(marker)


def _complaint(error: Exception) -> str:
    """What DuckDB says, without the picture of the query and without guesses at its own tables."""
    said = str(error).partition("\nLINE ")[0].splitlines()
    return " ".join(line.strip() for line in said if line.strip() and not line.startswith("Did you mean"))


_STEPLESS = frozenset({"criteria", "annotators"})


def _said(row: Mapping[str, Any]) -> str:
    names = ("scores", "labels", "text", "status", "confidence", "strength")
    return json.dumps([row.get(name) for name in names], ensure_ascii=False)
