"""Verifying: whether a dataset is what its log says it is.

Everything is read once: each entry of the log, each part whole (its digest covers every byte), and the ids that rows
name. What is found is a line that says what, where, and what to do. Nothing is changed; `repair` does that.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.dataset import lease
from prefdata.dataset.dataset import marker_of
from prefdata.dataset.erased import erased_from
from prefdata.dataset.leftovers import KEEP, holds_erased, replaced, uncommitted
from prefdata.dataset.log import Commit, Log, NewerError, Part, Snapshot, name_of, read_commit
from prefdata.dataset.parts import COMMIT, SHARDED, digest_of, of_shard, scan
from prefdata.errors import DataError
from prefdata.schema import KEYS, SCHEMAS, TARGETS

PLACEHOLDER = "repair: in place of an entry that was damaged"
"""The message of a commit that repair put in the place of a lost one."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        text: what, where, and what to do; one line.
        wrong: False for a note: nothing is lost, and nobody need do anything.
    """

    text: str
    wrong: bool = True


@dataclass(frozen=True)
class Damage:
    """A part that cannot be read as it was written.

    Attributes:
        part: which.
        first: the first commit of its rows.
        why: what is wrong with it.
        readable: the row groups of which every row is right.
        lost: the other ones; None where it cannot be told how many there were.
    """

    part: Part
    first: int
    why: str
    readable: tuple[int, ...] = ()
    lost: tuple[int, ...] | None = None


@dataclass
class Verified:
    """What a dataset was found to be.

    Attributes:
        commits: entries of the log that can be read.
        parts: that were read.
        rows: in them.
        findings: what is wrong, and notes.
        damaged: parts that are not what was written.
        broken: numbers of log entries that are missing or cannot be read.
    """

    commits: int = 0
    parts: int = 0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)

    def add(self, text: str, *, wrong: bool = True) -> None:
        """Take a finding in."""
        self.findings.append(Finding(text, wrong))


def verify(root: Path) -> Verified:
    """Read all of a dataset, and say what is wrong with it.

    Args:
        root: the dataset's folder.

    Raises:
        DataError: there is no dataset, or a newer prefdata wrote it: then it cannot be told.
    """
    shards = int(marker_of(root)["shards"])
    found = Verified()
    snapshot = Snapshot(tuple(_readable_commits(root, found)))
    found.commits = len(snapshot.commits)
    _check_names(snapshot, found)
    for table in sorted(snapshot.standing):
        for first, part in snapshot.standing[table]:
            found.parts, found.rows = found.parts + 1, found.rows + part.rows
            _check_part(root, first, part, shards, found)
    if found.damaged:
        found.add("which ids are missing is not looked at before the damaged parts are put right", wrong=False)
    else:
        _check_ids(root, snapshot, found)
        _check_erased(root, snapshot, found)
    _check_leftovers(root, snapshot, found)
    return found


# The log


def _readable_commits(root: Path, found: Verified) -> Iterator[Commit]:
    log = Log(root / "log")
    numbers = log.numbers()
    for number in range(1, max(numbers, default=0) + 1):
        path = log.folder / f"{number:08d}.json"
        if number not in numbers:
            found.broken.append(number)
            found.add(
                f"log/{path.name} is missing, though there is a commit {numbers[-1]}: what it added is not there, and "
                "nothing after it is read. Restore the file from a copy; without one, --repair puts an empty commit in "
                "its place, with those of its parts that can be told by when they were written"
            )
            continue
        try:
            yield read_commit(path)
        except NewerError:
            raise
        except DataError:
            found.broken.append(number)
            size = path.stat().st_size
            found.add(
                f"log/{path.name} ({size:,} bytes) cannot be read: nothing after it is read either. Restore the file "
                "from a copy; without one, --repair puts an empty commit in its place, with those of its parts that "
                "can be told by when they were written"
            )


def _check_names(snapshot: Snapshot, found: Verified) -> None:
    named = Counter(part.path for commit in snapshot.commits for part in commit.parts)
    for path, count in named.items():
        if count > 1:
            found.add(
                f"{path} is named {count} times in the log: its rows count {count} times. Restore log/ from a copy"
            )


# Parts


def _check_part(root: Path, first: int, part: Part, shards: int, found: Verified) -> None:
    damage = damage_of(root, first, part)
    if damage is not None:
        found.damaged.append(damage)
        found.add(f"{part.path} {damage.why}: {lost_rows(root, damage)}. Restore it from a copy, or run with --repair")
        return
    wrong = unfit(root / part.path, part)
    if wrong:
        found.add(f"{part.path}: {wrong}. It was not written by prefdata: restore it from a copy")
        return
    columns = [name for name in ("group_id", "step", COMMIT) if name in pq.read_schema(root / part.path).names]
    rows = pl.from_arrow(pq.read_table(root / part.path, columns=columns))
    assert isinstance(rows, pl.DataFrame)
    problems = []
    if shards > 1 and part.table in SHARDED and "group_id" in columns:
        strangers = rows.filter(of_shard(shards) != part.shard).height
        problems += [f"{strangers:,} of its rows belong to another shard than {part.shard}"] * bool(strangers)
    if "step" in columns:
        unnamed = set(rows["step"].drop_nulls().unique()) - set(part.steps)
        problems += [f"the log does not say that it holds rows of {', '.join(sorted(unnamed))}"] * bool(unnamed)
    if COMMIT in columns and (rows[COMMIT].min(), rows[COMMIT].max()) != part.commits:
        problems.append(f"its rows are of other commits than {part.commits}")
    for problem in problems:
        found.add(f"{part.path}: {problem}, so that some readers miss them. Restore the file and log/ from a copy")


def damage_of(root: Path, first: int, part: Part) -> Damage | None:
    """What is wrong with the bytes of a part; None where they are those that were written."""
    path = root / part.path
    if not path.is_file():
        return Damage(part, first, "is gone")
    size = path.stat().st_size
    if part.digest and size == part.bytes and digest_of(path) == part.digest:
        return None
    readable, lost = _row_groups(path)
    if not part.digest:  # from before there was one: what can be unpacked must do
        if lost is not None and not lost and _rows_of(path, readable) == part.rows:
            return None
        return Damage(part, first, "cannot be read", readable, lost)
    why = f"has {size:,} bytes and had {part.bytes:,}" if size != part.bytes else "is not what was written"
    if lost is None or unfit(path, part):
        return Damage(part, first, why)
    return Damage(part, first, why, readable, lost)


def _row_groups(path: Path) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """The row groups that can be read, and those that cannot; checksums of pages are looked at."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            lost = []
            for group in range(file.num_row_groups):
                try:
                    file.read_row_group(group)
                except (OSError, pa.ArrowException):
                    lost.append(group)
            return tuple(group for group in range(file.num_row_groups) if group not in lost), tuple(lost)
    except (OSError, pa.ArrowException):
        return (), None


def _rows_of(path: Path, groups: Iterable[int]) -> int:
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(group).num_rows for group in groups)


def unfit(path: Path, part: Part) -> str:
    """What in a part's columns or number of rows is not as its table and the log have it; empty where all is."""
    schema = SCHEMAS.get(part.table)
    if schema is None:
        return f"there is no table {part.table!r}"
    there = pq.read_schema(path)
    for one in there:
        if one.name == COMMIT:
            if part.commits is None:
                return "it has commits of its own, of which the log does not know"
        elif one.name not in schema.names:
            return f"it has a column {one.name!r}, which {part.table} have not"
        elif not _same(one.type, schema.field(one.name).type):
            return f"its column {one.name!r} is {one.type}; that of {part.table} is {schema.field(one.name).type}"
    if part.commits is not None and COMMIT not in there.names:
        return "its rows do not say which commits they came with"
    rows = pq.read_metadata(path).num_rows
    return "" if rows == part.rows else f"it has {rows:,} rows; the log says {part.rows:,}"


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types are the same but for the names of what lists hold."""
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _same(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = [[inner.name for inner in kind] for kind in (one, other)]
        return names[0] == names[1] and all(_same(a.type, b.type) for a, b in zip(one, other, strict=True))
    return bool(one.equals(other))


def lost_rows(root: Path, damage: Damage) -> str:
    """How many rows are lost, of which table, steps and commits."""
    part = damage.part
    left = _rows_of(root / part.path, damage.readable) if damage.readable else 0
    steps = f", made by {', '.join(sorted({name_of(step) or step for step in part.steps}))}" if part.steps else ""
    commits = f"commits {part.commits[0]} to {part.commits[1]}" if part.commits else f"commit {damage.first}"
    return f"{part.rows - left:,} of its {part.rows:,} rows of {part.table} ({commits}{steps}) cannot be read"


# Ids


def _check_ids(root: Path, snapshot: Snapshot, found: Verified) -> None:
    """Count rows, live or not, that name what is not there."""

    def ids(table: str) -> pl.LazyFrame:
        return scan(root, snapshot, table).select(of=KEYS[table]).unique()

    def missing(table: str, named: pl.Expr, other: str, rows: pl.Expr | None = None) -> None:
        if table not in snapshot.standing:
            return
        key = pl.col(KEYS.get(table, "response_id")).alias("id")
        whole = scan(root, snapshot, table)
        asked = (whole if rows is None else whole.filter(rows)).select(key, named.alias("of"))
        if isinstance(asked.collect_schema()["of"], pl.List):
            asked = asked.explode("of")
        lost = asked.drop_nulls("of").join(ids(other), on="of", how="anti")
        gone = lost.select(pl.col("id").n_unique(), pl.col("of").first()).collect(engine="streaming")
        count, example = gone.row(0)
        if count:
            found.add(
                f"{table}: {count:,} name {other} that are not there (for example {example}). Readers leave them out; "
                "run the pipelines again, or import again what is missing"
            )

    missing("responses", pl.col("prompt_id"), "prompts")
    missing("annotations", pl.col("prompt_id"), "prompts")
    for target, other in TARGETS.items():
        missing("annotations", pl.col("target_ids"), other, pl.col("target") == target)
    missing("preferences", pl.col("prompt_id"), "prompts")
    missing("preferences", pl.col("response_ids"), "responses")
    missing("token_scores", pl.col("response_id"), "responses")


# Files


def _check_erased(root: Path, snapshot: Snapshot, found: Verified) -> None:
    """Rows that were erased must be nowhere."""
    erased = erased_from(root, snapshot)
    if not erased:
        return
    for table in sorted(snapshot.standing.keys() - {"erased", "calls"}):
        rows = scan(root, snapshot, table)
        count = rows.filter(erased.gone(table, SCHEMAS[table].names)).select(pl.len()).collect().item()
        if count:
            found.add(f"{table}: {count:,} rows are there that were erased. Erase them again: `prefdata erase {root}`")
    for path in uncommitted(root, snapshot):
        if path.suffix == ".parquet" and path.parent.name in SCHEMAS and holds_erased(path, path.parent.name, erased):
            found.add(f"{path.relative_to(root)} holds rows that were erased: `prefdata compact {root}` removes it")


def _check_leftovers(root: Path, snapshot: Snapshot, found: Verified) -> None:
    old = [one for one in replaced(root, snapshot) if one.erased]
    for one in old:
        path = one.path.relative_to(root)
        found.add(f"{path} holds rows that were erased: an erase was killed. `prefdata compact {root}` removes it")
    waiting = [one for one in replaced(root, snapshot) if not one.erased]
    if waiting:
        size = sum(one.bytes for one in waiting) / 1e6
        found.add(
            f"{len(waiting):,} replaced parts ({size:,.1f} MB) are still there: the next `prefdata compact {root}` "
            "removes them an hour after they were replaced",
            wrong=False,
        )
    for path in strays(root, snapshot):
        lost = free_rows(path) if path.suffix == ".parquet" else ""
        if lost and (found.broken or emptied(snapshot)):
            found.add(f"{path.relative_to(root)} belongs to no commit, and holds {lost}: {_way_back(snapshot, found)}")
            continue
        minutes = (time.time() - path.stat().st_mtime) / 60
        whose = "of a writer that was killed; --repair moves it to lost+found/"
        if minutes * 60 < KEEP.total_seconds():
            whose = "of a writer at work, or of one that was killed; --repair moves it when it is an hour old"
        if lost:
            whose = f"it holds {lost}, {whose}. Whoever made them was told that it failed: label or import them again"
        found.add(f"{path.relative_to(root)}, {minutes:,.0f} minutes old, belongs to no commit: {whose}", wrong=False)
    for name in lease.abandoned(root):
        found.add(f"running/{name} is of a process that is gone: the next one takes its place", wrong=False)


def _way_back(snapshot: Snapshot, found: Verified) -> str:
    """What can be done about labels and imports whose log entry is lost."""
    if found.broken:
        return "--repair brings them back, if they were written when a lost log entry was"
    names = ", ".join(f"log/{number:08d}.json" for number in emptied(snapshot))
    return (
        f"an empty commit stands in the place of a lost one, which may have been theirs. Restore {names} from a copy; "
        "without one, label or import these rows again from this file, and move it out of parts/"
    )


def emptied(snapshot: Snapshot) -> list[int]:
    """Commits that repair put in the place of lost ones, and that name no part."""
    return [one.number for one in snapshot.commits if one.message == PLACEHOLDER and not one.parts]


def free_rows(path: Path) -> str:
    """The rows of labels and imports in a part, which no run makes again: how many, and whose; empty where none."""
    try:
        there = pq.read_schema(path).names
        if "step" not in there:
            return ""
        rows = pl.from_arrow(pq.read_table(path, columns=[one for one in ("step", "annotator") if one in there]))
    except (OSError, pa.ArrowException):
        return ""
    assert isinstance(rows, pl.DataFrame)
    rows = rows.filter(pl.col("step").str.contains("^(labels|import):"))
    if rows.is_empty():
        return ""
    steps = ", ".join(sorted({name_of(step) or step for step in rows["step"].unique()}))
    people = rows["annotator"].drop_nulls().unique().sort().to_list() if "annotator" in rows.columns else []
    more = f" and {len(people) - 5} more" if len(people) > 5 else ""
    of = f" ({', '.join(people[:5])}{more})" if people else ""
    return f"{rows.height:,} rows of {path.parent.name} by {steps}{of}"


def strays(root: Path, snapshot: Snapshot) -> list[Path]:
    """Files that writers left half-done: parts that no commit names, and temporary files."""
    temporary = (path for folder in (".", "log", "running") for path in sorted((root / folder).glob(".*.tmp")))
    return [*uncommitted(root, snapshot), *temporary]
