"""Erasing: what a user, an annotator or a prompt left in a dataset goes from every part, at every commit.

The parts that hold such rows are written again without them, and one commit puts them in place, together with
tombstones, by which the rows are never made, imported or labelled again. Whatever stops it before that commit leaves
the dataset as it was; whatever stops it afterwards leaves files that the next `erase` or `compact` removes, and that
`verify` names.

The request cache is not the dataset's: whoever calls passes a function that forgets calls there. That is done before
the commit, and so is the removal of what was made from the dataset (exports, reports), so that nothing is left over
when the commit says that it is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.dataset import lease
from prefdata.dataset.closure import Closure, Target, closure
from prefdata.dataset.dataset import Dataset
from prefdata.dataset.erased import GROUPS, columns_of
from prefdata.dataset.leftovers import finish, remove, uncommitted, undone
from prefdata.dataset.log import ConflictError, Part, Snapshot
from prefdata.dataset.parts import COMMIT, PART, PartWriter, fitted, in_step, scan, write_part
from prefdata.errors import DataError
from prefdata.schema import SCHEMAS, arrow_table

COPIES = ("exports", "artifacts", "quarantine", "logs", "lost+found", "report.html", "report.json")
"""What in a dataset's folder may hold texts of its rows, and is made anew from what is left: it goes altogether."""

TRIES = 100
"""How often it is begun again when others commit meanwhile what is to be erased."""

Forget = Callable[[Collection[str], Collection[str]], int]
"""Forgets calls in the request cache, by their ids and by the groups they were made for; returns how many."""


@dataclass(frozen=True)
class Reach:
    """What an erase takes.

    Attributes:
        rows: how many go, by table.
        calls: how many calls lose the texts that `calls` holds; what they cost stays.
        asked: how many calls were made for what goes, those of responses included: the request cache forgets their
            answers, and whatever else was ever asked about prompts that go with all their group, by any dataset.
        copies: names of COPIES that are there.
        mentions: commits whose own text (a pipeline as it was written) holds the name: the log is not rewritten.
        links: of COPIES, links to somewhere else: what they point at is not reached.
    """

    rows: Mapping[str, int]
    calls: int
    asked: int = 0
    copies: tuple[str, ...] = ()
    mentions: tuple[int, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Erasure:
    """What was erased.

    Attributes:
        reach: what went from the dataset.
        forgotten: calls that the request cache held.
        files: parts that were written anew, and old, half-written and copied files that were removed.
    """

    reach: Reach
    forgotten: int
    files: int


@dataclass
class _Work:
    """One try: what is to go, as of one snapshot, and where it stands."""

    snapshot: Snapshot
    what: Closure
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By table and part, how many rows go; of `calls`, how many lose their texts."""

    @property
    def rows(self) -> dict[str, int]:
        return {table: sum(parts.values()) for table, parts in self.counts.items() if table != "calls" and parts}

    @property
    def calls(self) -> int:
        return sum(self.counts.get("calls", {}).values())


def reach(dataset: Dataset, target: Target) -> Reach:
    """What an erase would take; changes nothing.

    Raises:
        DataError: nothing is so called.
    """
    return _reach(dataset, target, _find(dataset, target))


def erase(dataset: Dataset, target: Target, forget: Forget) -> Erasure:
    """Erase a user, an annotator or a prompt, with all that rests on it, from every commit.

    Args:
        dataset: nothing may run on it meanwhile; labels may come in.
        target: who or what.
        forget: forgets calls in the request cache.

    Raises:
        DataError: nothing is so called; somebody is at work on the dataset; a part cannot be read.
        OSError: the disk is full; nothing was erased then, but for copies.
    """
    if dataset.at is not None:
        raise DataError(f"{dataset.path} was opened at commit {dataset.at}; open it without `at` to erase from it")
    root = dataset.path
    with lease.care(root, lease.ERASE):
        finish(dataset)
        forgotten = files = 0
        for _ in range(TRIES):
            work = _find(dataset, target)
            found = _reach(dataset, target, work)
            strays = uncommitted(root, work.snapshot)
            parts: list[Part] = []
            replaces: list[str] = []
            with undone(root, parts):
                _rewrite(dataset, work, parts, replaces)
            forgotten += forget(work.what.calls, work.what.erased.groups)
            files += _remove_copies(root)
            if _committed(dataset, work, target, parts, replaces):
                files += len(parts)
                break
            remove(root, parts)
        else:
            raise DataError(f"{root}: others keep adding what is to be erased; stop them and give the command again")
        files += finish(dataset) + _remove_strays(dataset, target, work, strays) + _remove_copies(root)
        files += _remove_pictures(dataset)
    return Erasure(found, forgotten, files)


def _find(dataset: Dataset, target: Target) -> _Work:
    work = _Work(dataset.log.snapshot(), closure(dataset, target))
    for table in work.snapshot.standing:
        if table != "erased":
            rows = scan(dataset.path, work.snapshot, table, with_part=True).filter(_goes(work.what, table))
            counted = rows.group_by(PART).agg(pl.len()).collect(engine="streaming")
            work.counts[table] = dict(counted.iter_rows())
    return work


def _goes(what: Closure, table: str) -> pl.Expr:
    if table != "calls":
        return what.erased.gone(table, SCHEMAS[table].names, about=False)
    texts = pl.col("raw").is_not_null() | (pl.col("error").is_not_null() & (pl.col("error") != WIPED))
    return pl.col("call_id").is_in(pl.Series(sorted(what.calls), dtype=pl.String).implode()) & texts


WIPED = "erased"
"""What stands in place of a call's error: that it failed is counted, and stays."""


def _reach(dataset: Dataset, target: Target, work: _Work) -> Reach:
    there = [name for name in COPIES if (dataset.path / name).exists()]
    links = [name for name in there if (dataset.path / name).is_symlink()]
    mentions = () if target.kind == "prompt" else _mentions(dataset, target.name)
    return Reach(
        work.rows,
        work.calls,
        len(work.what.calls),
        tuple(name for name in there if name not in links),
        mentions,
        tuple(links),
    )


def _mentions(dataset: Dataset, name: str) -> tuple[int, ...]:
    """The commits whose file has the name as a word in it."""
    found = []
    for commit in dataset.log.snapshot().commits:
        texts = [commit.message, commit.plan.source if commit.plan else "", *(str(step) for step in commit.steps)]
        if len(name) > 2 and any(name in text for text in texts):
            found.append(commit.number)
    return tuple(found)


def _rewrite(dataset: Dataset, work: _Work, parts: list[Part], replaces: list[str]) -> None:
    """Write every part that holds what goes again, without it, and the tombstones."""
    for table, counts in work.counts.items():
        stood = work.snapshot.standing[table]
        touched = {path for path, count in counts.items() if count}
        if table == "prompts":
            touched = in_step(stood, touched)
        for first, part in stood:
            if part.path not in touched:
                continue
            replaces.append(part.path)
            if table != "calls" and counts.get(part.path) == part.rows:
                continue
            parts.append(_without(dataset.path, part, first, work.what))
    tombs = [{"table": GROUPS, "id": one} for one in sorted(work.what.erased.groups)]
    tombs += [{"table": table, "id": one} for table, ids in work.what.erased.ids.items() for one in sorted(ids)]
    parts.append(write_part(dataset.path, "erased", arrow_table("erased", tombs)))


def _without(root: Path, part: Part, first: int, what: Closure) -> Part:
    """A part without what goes; each row keeps its commit."""
    with pq.ParquetFile(root / part.path) as file:
        schema = file.schema_arrow.remove_metadata()
        if COMMIT not in schema.names:
            schema = schema.append(pa.field(COMMIT, pa.int64()))
        with PartWriter(root, part.table, schema, part.shard) as writer:
            for group in range(file.num_row_groups):
                rows = fitted(file.read_row_group(group), schema, first)
                rows = _wiped(rows, what) if part.table == "calls" else _kept(rows, part.table, what)
                if rows.num_rows:
                    writer.write(rows)
            return writer.finish()


def _kept(rows: pa.Table, table: str, what: Closure) -> pa.Table:
    columns = [name for name in rows.column_names if name in columns_of(table)]
    frame = pl.from_arrow(rows.select(columns))
    assert isinstance(frame, pl.DataFrame)
    stays = frame.with_row_index("_row").filter(~what.erased.gone(table, columns, about=False))["_row"]
    return rows.take(stays.to_arrow())


def _wiped(rows: pa.Table, what: Closure) -> pa.Table:
    frame = pl.from_arrow(rows.select([name for name in ("call_id", "raw", "error") if name in rows.column_names]))
    assert isinstance(frame, pl.DataFrame)
    goes = pl.col("call_id").is_in(pl.Series(sorted(what.calls), dtype=pl.String).implode())
    for name, instead in (("raw", None), ("error", WIPED)):
        if name in frame.columns:
            wiped = pl.when(goes & pl.col(name).is_not_null()).then(pl.lit(instead, pl.String)).otherwise(pl.col(name))
            column = frame.select(wiped.alias(name)).to_series().to_arrow().cast(pa.string())
            rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def _committed(dataset: Dataset, work: _Work, target: Target, parts: Sequence[Part], replaces: Sequence[str]) -> bool:
    """Commit; False where others have committed something meanwhile that is to go as well."""
    seen = work.snapshot.number
    while True:
        try:
            dataset.log.append(_message(target, work), tuple(parts), replaces=tuple(replaces), seen=seen)
        except ConflictError:
            now = dataset.log.snapshot()
            for commit in now.commits[seen:]:
                if commit.replaces or any(_to_go(dataset.path / one.path, target, work.what) for one in commit.parts):
                    return False
            seen = now.number
        else:
            return True


def _message(target: Target, work: _Work) -> str:
    """What went, without a word that tells whose it was."""
    kind = {"user": "a user", "annotator": "an annotator", "prompt": "a prompt"}[target.kind]
    rows = ", ".join(f"{count} {table}" for table, count in sorted(work.rows.items()))
    return f"erase {kind}, and all that rests on it: {rows or 'no rows'}; the texts of {work.calls} calls"


def _remove_copies(root: Path) -> int:
    """Remove what was made from the dataset's rows; links are left alone, and so is what they point at."""
    count = 0
    for name in COPIES:
        path = root / name
        if path.is_symlink():
            continue
        if path.is_dir():
            count += sum(1 for one in path.rglob("*") if one.is_file())
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
            count += 1
    return count


def _remove_pictures(dataset: Dataset) -> int:
    """Remove the pictures in the dataset's folder that no row names any more."""
    folder = dataset.path / "media"
    if folder.is_symlink() or not folder.is_dir():
        return 0
    named: set[str] = set()
    for table in ("prompts", "responses"):
        uris = dataset.rows(table).select(pl.col("media").list.explode().struct.field("uri")).drop_nulls().unique()
        named |= set(uris.collect()["uri"].to_list())
    gone = [path for path in folder.iterdir() if path.is_file() and f"media/{path.name}" not in named]
    for path in gone:
        path.unlink()
    return len(gone)


def _remove_strays(dataset: Dataset, target: Target, work: _Work, strays: Sequence[Path]) -> int:
    """Remove what half-done writers left, where it holds what went, or cannot be read.

    Those that are at work have their commits refused by the log, and write their files again.
    """
    still = set(uncommitted(dataset.path, dataset.log.snapshot()))
    gone = [path for path in strays if path in still and _to_go(path, target, work.what)]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


def _to_go(path: Path, target: Target, what: Closure) -> bool:
    """Whether a part, which the snapshot at hand does not have, holds what is to go; also where it cannot be read."""
    table = path.parent.name
    if path.suffix != ".parquet" or table not in SCHEMAS:
        return True
    goes = what.wide.gone(table, SCHEMAS[table].names)
    if table == "calls":
        goes |= pl.col("call_id").is_in(pl.Series(sorted(what.calls), dtype=pl.String).implode())
    named = target.seeds(table)
    try:
        return any(not rows.filter(goes if named is None else goes | named).is_empty() for rows in _frames(path, table))
    except (OSError, pa.ArrowException):
        return True


def _frames(path: Path, table: str) -> Iterator[pl.DataFrame]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            frame = pl.from_arrow(fitted(file.read_row_group(group), SCHEMAS[table], 0))
            assert isinstance(frame, pl.DataFrame)
            yield frame
