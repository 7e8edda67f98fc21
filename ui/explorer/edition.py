"""An edition: the rows of a dataset at one commit, copied into DuckDB files that are searched in place of the parts.

What is live is settled by the view and by nothing else: its rows are copied as it gives them, beside those that it
hides, which are marked. Two files, so that a new label does not copy every text again: `texts` (prompts, responses) and
`said` (annotations, preferences, drops, criteria, annotators). `calls` and `token_scores` are copied when a query names
them. The files lie in a private folder, are never written again, and are gone with the edition.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from prefdata.dataset import Dataset
from prefdata.dataset.log import Snapshot
from prefdata.dataset.view import View, full_lineage
from prefdata.schema import KEYS, SCHEMAS

if TYPE_CHECKING:
    import duckdb

TEXTS = ("prompts", "responses")
SAID = ("annotations", "preferences", "drops", "criteria", "annotators")
ASKED_FOR = ("calls", "token_scores")
TABLES = (*TEXTS, *SAID, *ASKED_FOR)

MARKED = ("n", "g", "state", "reason", "drop_step")
"""What a copied row has beside its columns: its number, its group's, and whether and why it is hidden."""


class Seen(View):
    """A view that also says what it hides."""

    def before_drops(self, table: str) -> pl.LazyFrame:
        """The rows of a table before drops and masks: one for each id."""
        return self._one_each(table)


def seen(dataset: Dataset, at: int | None = None) -> Seen:
    """The live view of a dataset as it is now, or at a commit."""
    view = dataset.view(at=at)
    return Seen(view.root, view.snapshot, view.lineage, view.name)


def signature(snapshot: Snapshot, tables: Iterable[str]) -> tuple[Any, ...]:
    """What the live rows of some tables follow from: while it stays the same, so do they.

    That is their parts and the drops, and of progress and plans what is about the steps that made these rows.
    """
    read = {*tables, "drops"}
    parts = [part for table in sorted(read) for _, part in snapshot.standing.get(table, ())]
    steps = {step for part in parts for step in part.steps}
    lineage = full_lineage(snapshot)
    notes = [part.path for _, part in snapshot.standing.get("progress", ()) if steps.intersection(part.steps)]
    return (
        tuple(part.path for part in parts),
        tuple(notes),
        tuple(run for run in lineage.runs if run[1] in steps),
        tuple((step, snapshot.steps[step].kind) for step in lineage.free if step in steps),
    )


class Copy:
    """One DuckDB file; it is deleted when nobody holds it any more.

    Args:
        name: under which it is attached.
        path: of the file.
        signed: see `signature`.
    """

    def __init__(self, name: str, path: Path, signed: tuple[Any, ...] = ()) -> None:
        self.name, self.path, self.signed = name, path, signed
        self._held = 0
        self._lock = threading.Lock()

    def hold(self) -> Copy:
        """Keep the file until `release`."""
        with self._lock:
            self._held += 1
        return self

    def release(self) -> None:
        """Done with it."""
        with self._lock:
            self._held -= 1
            if self._held == 0:
                self.path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _columns(table: str) -> str:
    return ", ".join(f'"{name}"' for name in SCHEMAS[table].names)


class Writer:
    """Fills one copy, table by table; a context manager.

    Args:
        copy: which is written.
        others: copies that it refers to.
    """

    def __init__(self, copy: Copy, others: Iterable[Copy] = ()) -> None:
        import duckdb

        self._copy = copy
        self.db = duckdb.connect(str(copy.path), config={"python_enable_replacements": "false"})
        for other in others:
            self.db.execute(f"ATTACH {_quoted(other.path)} AS {other.name} (READ_ONLY)")
        self._passing: list[Path] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()
        for path in self._passing:
            path.unlink(missing_ok=True)

    def file(self, rows: pl.LazyFrame) -> str:
        """Rows in a Parquet file of their own, quoted for SQL: they pass through the disk, not through memory."""
        path = self._copy.path.with_name(f"{uuid.uuid4().hex}.parquet")
        self._passing.append(path)
        rows.sink_parquet(path, compression="lz4")
        return _quoted(path)

    def plain(self, table: str, view: View) -> None:
        """The live rows of a table, as they are."""
        self.db.execute(f"CREATE TABLE {table} AS SELECT {_columns(table)} FROM read_parquet({self.file(view[table])})")  # noqa: S608

    def marked(self, table: str, view: Seen, roots: str | None = None, extra: str = "") -> None:
        """The live rows of a table, and then those that are hidden, with `MARKED`.

        Args:
            table: which.
            view: of the dataset.
            roots: the table of group numbers; None: the number is written later.
            extra: more columns, as SQL.
        """
        key = KEYS[table]
        live = self.file(view[table])
        ids = pl.scan_parquet(live.strip("'").replace("''", "'")).select(key)
        hidden = self.file(view.before_drops(table).join(ids, on=key, how="anti", maintain_order="left"))
        dropped = view.dropped.filter(pl.col("table") == table)
        drops = self.file(dropped.select("id", "reason", pl.col("step").alias("drop_step")).lazy())
        number, join = ("NULL::INTEGER", "") if roots is None else ("w.g", f"LEFT JOIN {roots} w USING (group_id)")
        self.db.execute(f"""
            CREATE TABLE {table} AS
            SELECT {_columns(table)}, n, {number} AS g, state, reason, drop_step {extra} FROM (
                SELECT *, file_row_number AS n, 'live' AS state, NULL::VARCHAR AS reason, NULL::VARCHAR AS drop_step
                FROM read_parquet({live}, file_row_number = true)
                UNION ALL BY NAME
                SELECT h.* EXCLUDE (file_row_number), {self._height(live)} + h.file_row_number AS n,
                    CASE WHEN d.id IS NULL THEN 'hidden' ELSE 'dropped' END AS state, d.reason, d.drop_step
                FROM read_parquet({hidden}, file_row_number = true) h
                LEFT JOIN read_parquet({drops}) d ON d.id = h.{key}
            ) {join}""")  # noqa: S608

    def _height(self, file: str) -> int:
        return int(self.db.execute(f"SELECT count(*) FROM read_parquet({file})").fetchall()[0][0])  # noqa: S608


ASKED = """, concat_ws(chr(10), array_to_string([m.content for m in messages], chr(10)), condition.text,
    array_to_string([p.text for p in context], chr(10))) AS asked, messages[-1].content[1:300] AS excerpt"""
"""Of a prompt: everything that was said to the model, which is what is searched; and how its last turn begins."""


def write_texts(copy: Copy, view: Seen) -> None:
    """Prompts and responses, the groups in the order of their first prompts, and responses whose making failed."""
    with Writer(copy) as made:
        made.marked("prompts", view, extra=ASKED)
        made.db.execute("""
            CREATE TABLE roots AS SELECT (row_number() OVER (ORDER BY first) - 1)::INTEGER AS g, group_id
            FROM (SELECT group_id, min(n) AS first FROM prompts GROUP BY group_id)""")
        made.db.execute("UPDATE prompts SET g = roots.g FROM roots WHERE roots.group_id = prompts.group_id")
        made.marked("responses", view, roots="roots")
        made.db.execute(f"CREATE TABLE failed AS FROM read_parquet({made.file(view.errors.lazy())})")


TARGETED = """
CREATE TABLE said AS
WITH one AS (
    SELECT n AS a, state, target, annotator, aspect, source, protocol, status, labels, confidence, strength, seconds,
        criterion_id, created_at, group_id,
        unnest(target_ids) AS target_id, generate_subscripts(target_ids, 1)::INTEGER AS place, unnest(scores) AS score,
        protocol IN ('compare', 'rank', 'choose') AND status = 'ok' AS orders, list_max(scores) AS top,
        len(list_filter(scores, lambda s: s = list_max(scores))) AS tops, len(scores) AS k
    FROM annotations
)
SELECT one.* EXCLUDE (group_id, orders, top, tops, k), coalesce(r.g, p.g, w.g) AS g, r.n AS r, p.n AS p,
    CASE WHEN NOT orders OR score IS NULL THEN NULL
        WHEN score < top THEN 'lost'
        WHEN tops = 1 OR (protocol = 'choose' AND tops < k) THEN 'won'
        ELSE 'tied' END AS outcome
FROM one
LEFT JOIN texts.responses r ON one.target = 'response' AND r.response_id = one.target_id
LEFT JOIN texts.prompts p ON one.target = 'prompt' AND p.prompt_id = one.target_id
LEFT JOIN texts.roots w ON w.group_id = one.group_id"""
"""One row for each target of each annotation. Joint annotations are found by every group that they are about."""

SIZES = """
CREATE TABLE sizes AS
SELECT g, coalesce(responses, 0) AS responses, coalesce(annotations, 0) AS annotations FROM texts.roots
LEFT JOIN (SELECT g, count(*) AS responses FROM texts.responses WHERE state = 'live' GROUP BY g) USING (g)
LEFT JOIN (SELECT g, count(DISTINCT a) AS annotations FROM said WHERE state = 'live' GROUP BY g) USING (g)"""


def write_said(copy: Copy, view: Seen, texts: Copy) -> None:
    """Everything that was said about the texts."""
    with Writer(copy, [texts]) as made:
        made.marked("annotations", view, roots="texts.roots")
        made.marked("preferences", view, roots="texts.roots")
        for table in ("drops", "criteria", "annotators"):
            made.plain(table, view)
        made.db.execute(TARGETED)
        made.db.execute(SIZES)


_PROMPT = "p.g, p.group_id, p.prompt_id, p.asked AS prompt, p.source, p.tags, p.user_id"
_RESPONSE = "r.response_id, r.text AS response, r.model, r.sample_index, r.finish_reason, r.n_tokens"
_ANNOTATION = """s.annotator, s.aspect, s.protocol, s.source AS annotation_source, s.status, s.score, s.outcome,
    s.place, s.labels, s.confidence, s.strength, s.seconds, s.criterion_id, s.created_at"""

FLAT = f"""CREATE VIEW flat AS
SELECT {_PROMPT}, {_RESPONSE}, {_ANNOTATION} FROM texts.prompts p
LEFT JOIN texts.responses r ON r.prompt_id = p.prompt_id AND r.state = 'live'
LEFT JOIN said.said s ON s.r = r.n AND s.state = 'live'
WHERE p.state = 'live'
UNION ALL BY NAME
SELECT {_PROMPT}, {_ANNOTATION} FROM texts.prompts p JOIN said.said s ON s.p = p.n AND s.state = 'live'
WHERE p.state = 'live'"""  # noqa: S608
"""One row for each response and each thing said about it; what is said about a prompt has no response. `Filter.sql` has
the columns."""


def views(tables: Iterable[str]) -> list[str]:
    """What makes the live tables of attached copies known by their own names."""
    made = []
    for table in tables:
        of = "texts" if table in TEXTS else "said" if table in SAID else table
        marked = table in (*TEXTS, "annotations", "preferences")
        live = "WHERE state = 'live'" if marked else ""
        made.append(f'CREATE VIEW "{table}" AS SELECT {_columns(table)} FROM {of}.{table} {live}')  # noqa: S608
    return made


class Edition:
    """The copies of one commit, attached to one connection; closed when it is retired and nobody uses it.

    Args:
        number: the commit.
        copies: by name; `texts` and `said` at least.
    """

    def __init__(self, number: int, copies: Mapping[str, Copy]) -> None:
        import duckdb

        self.number = number
        self.copies = {name: copy.hold() for name, copy in copies.items()}
        self._db = duckdb.connect(":memory:", config={"python_enable_replacements": "false"})
        self._db.execute("SET GLOBAL TimeZone = 'UTC'")
        for copy in self.copies.values():
            self._db.execute(f"ATTACH {_quoted(copy.path)} AS {copy.name} (READ_ONLY)")
        self._users, self._retired = 0, False
        self._lock = threading.Lock()

    def lend(self) -> Edition:
        """Keep it open until `give_back`."""
        with self._lock:
            self._users += 1
        return self

    def give_back(self) -> None:
        """Done with it."""
        with self._lock:
            self._users -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Another edition has come in its place."""
        with self._lock:
            self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        with self._lock:
            if not self._retired or self._users or not self.copies:
                return
            copies, self.copies = self.copies, {}
        self._db.close()
        for copy in copies.values():
            copy.release()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """For one thread, and while the edition is in use."""
        return self._db.cursor()
