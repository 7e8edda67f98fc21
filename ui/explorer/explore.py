"""Browse and search a dataset: what the pages do, without a widget in it.

A search reads an edition (`edition.py`), a copy of the live rows in DuckDB. When the dataset grows, the next edition is
made in the background while the old one is still read.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.dataset import Dataset
from prefdata.errors import DataError, PrefdataError

from .copying import write
from .edition import ASKED_FOR, FLAT, SAID, TABLES, TEXTS, Copy, Edition, Seen, seen, signature, views
from .figures import figures
from .filters import Filter, matching
from .groups import Group, group_of
from .sandbox import Limits, Sandbox, Tables

PAGE = 25
"""Prompts on a page."""

FOLDER = "prefdata-explore-"


class Found:
    """One page of what a search found.

    Attributes:
        rows: one for each prompt: group_id, excerpt, source, tags, responses, annotations, state.
        total: how many there are on all pages.
        page: which this is, from 0.
        commit: of the dataset that was searched.
    """

    def __init__(self, rows: list[dict[str, Any]], total: int, page: int, commit: int) -> None:
        self.rows, self.total, self.page, self.commit = rows, total, page, commit


class Explorer:
    """Searches a dataset.

    Args:
        dataset: which.
        folder: where the copies lie, a private one in the system's folder for such things unless given; the copies need
            about twice the room of the parts.
        limits: of queries and conditions that users write.

    Attributes:
        sandbox: runs users' queries on the same edition.
    """

    def __init__(self, dataset: Dataset, folder: Path | None = None, limits: Limits | None = None) -> None:
        self.dataset = dataset
        self.sandbox = Sandbox(self.tables, limits)
        self._within = folder
        self._folder: Path | None = None
        self._owned: Any = None
        self._current: Edition | None = None
        self._lock = threading.Lock()  # of the fields; held for moments
        self._making = threading.Lock()  # of the copies: one edition is made at a time
        self._made_at, self._took = 0.0, 0.0
        self._failure = ""
        self._choices: tuple[int, dict[str, list[str]]] | None = None

    # Editions

    @contextlib.contextmanager
    def edition(self) -> Iterator[Edition]:
        """The newest edition that is there; the first is waited for."""
        if self._current is None:
            self.refresh()
        elif self._due():
            threading.Thread(target=self._refresh_quietly, name="edition", daemon=True).start()
        with self._lock:
            assert self._current is not None
            edition = self._current.lend()
        try:
            yield edition
        finally:
            edition.give_back()

    def state(self) -> dict[str, Any]:
        """How far it is.

        Returns:
            commit (of the edition, None before the first), newest (of the dataset), making, failure (a sentence or "").
        """
        with self._lock:
            commit = None if self._current is None else self._current.number
        making = self._making.locked()
        return {"commit": commit, "newest": self.dataset.snapshot.number, "making": making, "failure": self._failure}

    def _due(self) -> bool:
        """Whether to make another: there is something new, and the last one is some time ago, longer for large ones."""
        current = self._current
        if current is None or self._making.locked() or time.monotonic() - self._made_at < 1.0 + 4 * self._took:
            return False
        return self.dataset.snapshot.number != current.number

    def _refresh_quietly(self) -> None:
        try:
            self.refresh()
            self._failure = ""
        except (PrefdataError, OSError, pl.exceptions.PolarsError) as error:  # the old edition is still there
            self._failure = f"the newest rows could not be read yet: {error}"
            self._made_at = time.monotonic()

    def refresh(self) -> None:
        """Make an edition of the dataset as it is now, if it has changed; what is still true is not copied again.

        Raises:
            DataError: the dataset is damaged.
            OSError: the disk is full.
        """
        with self._making:
            view = seen(self.dataset)
            old = self._current
            if old is not None and old.number == view.snapshot.number:
                return
            began = time.monotonic()
            texts = self._copied("texts", signature(view.snapshot, TEXTS), view)
            signed = (texts.path, *signature(view.snapshot, (*TEXTS, *SAID)))
            said = self._copied("said", signed, view, texts)
            new = Edition(view.snapshot.number, {"texts": texts, "said": said})
            with self._lock:
                self._current = new
                if old is not None:
                    old.retire()
            texts.release()
            said.release()
            self._made_at = time.monotonic()
            self._took = self._made_at - began

    def _copied(self, name: str, signed: tuple[Any, ...], view: Seen, texts: Copy | None = None) -> Copy:
        """The copy that is there, where it is still true, or a new one; held, for the caller to release."""
        old = None if self._current is None else self._current.copies.get(name)
        if old is not None and old.signed == signed:
            return old.hold()
        copy = Copy(name, self.folder / f"{name}-{uuid.uuid4().hex}.duckdb", signed).hold()
        try:
            write(name, copy, view, texts)
        except BaseException:
            copy.release()
            raise
        return copy

    @property
    def folder(self) -> Path:
        """Where the copies lie; what a killed process left there is removed first."""
        if self._folder is None:
            within = self._within or Path(tempfile.gettempdir())
            within.mkdir(parents=True, exist_ok=True)
            for left in within.glob(f"{FOLDER}*"):
                _remove_if_left(left)
            self._folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=within))
            self._owned = (self._folder / "lock").open("w")
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._folder

    def close(self) -> None:
        """Give the copies up."""
        self.sandbox.close()
        with self._making, self._lock:
            if self._current is not None:
                self._current.retire()
                self._current = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._owned.close()
                self._folder = None

    @contextlib.contextmanager
    def tables(self, query: str) -> Iterator[Tables]:
        """What a query may read: the live tables, and `flat`. Large ones are copied when a query names them first."""
        with self.edition() as edition:
            attach = dict(edition.copies)
            for table in set(ASKED_FOR) & set(re.findall(r"\w+", query.lower())):
                attach[table] = self._asked_for(edition, table)
            known = [name for name in TABLES if name in attach or name not in ASKED_FOR]
            paths = {name: copy.path for name, copy in attach.items()}
            yield Tables(paths, [*views(known), FLAT], [*TABLES, "flat"])

    def _asked_for(self, edition: Edition, table: str) -> Copy:
        with self._making:
            if table not in edition.copies:
                view = seen(self.dataset, edition.number)
                copy = self._copied(table, (uuid.uuid4().hex,), view)
                edition.copies = {**edition.copies, table: copy}
            return edition.copies[table]

    # Searching

    def prompts(self, wanted: Filter | None = None, page: int = 0, size: int = PAGE) -> Found:
        """Search.

        Args:
            wanted: what must hold; everything unless given.
            page: from 0.
            size: prompts on a page.

        Raises:
            DataError: a condition that the filter gives as SQL is wrong, or takes too long.
        """
        wanted = wanted or Filter()
        picked = None if not wanted.sql.strip() else self._picked(wanted.sql)
        with self.edition() as edition:
            cursor = edition.cursor()
            # g numbers groups within one copy of the texts: the condition was asked of an edition with the same ones
            query, values = matching(wanted, picked)
            total, found = cursor.execute(
                f"""WITH m AS MATERIALIZED ({query})
                SELECT (SELECT count(*) FROM m), list(g) FROM (SELECT g FROM m ORDER BY g LIMIT {int(size)}
                    OFFSET {int(page) * int(size)})""",  # noqa: S608
                values,
            ).fetchall()[0]
            rows = _described(cursor, sorted(found or ()))
            return Found(rows, int(total), page, edition.number)

    def _picked(self, condition: str) -> list[str]:
        """The groups with a row of `flat` for which a user's condition holds; asked in the sandbox, like any SQL."""
        query = f"SELECT DISTINCT group_id FROM flat WHERE (\n{condition}\n)"  # noqa: S608
        limits = self.sandbox.limits
        wide = Limits(limits.seconds, limits.memory, 5_000_000, 200_000_000, limits.threads)
        found = self.sandbox.run(query, wide)
        if found.cut or len(found.columns) != 1:
            raise DataError("the condition must be an expression that is true or false for a row of flat")
        return [str(row[0]) for row in found.rows]

    def group(self, group_id: str) -> Group:
        """Everything about one prompt.

        Raises:
            DataError: there is no such group.
        """
        with self.edition() as edition:
            return group_of(self.dataset, edition, group_id)

    def figures(self, wanted: Filter | None = None) -> dict[str, Any]:
        """What the plots show of what a search finds; see `figures.figures`.

        Raises:
            DataError: see `prompts`.
        """
        wanted = wanted or Filter()
        picked = None if not wanted.sql.strip() else self._picked(wanted.sql)
        with self.edition() as edition:
            return figures(edition, *matching(wanted, picked))

    def choices(self) -> dict[str, list[str]]:
        """What there is to filter by: annotator, aspect, status, label, source, model, tag, reason; sorted."""
        with self.edition() as edition:
            if self._choices is not None and self._choices[0] == edition.number:
                return self._choices[1]
            cursor = edition.cursor()
            found = {
                name: [str(row[0]) for row in cursor.execute(f"{query} ORDER BY 1 LIMIT 1000").fetchall()]
                for name, query in CHOICES.items()
            }
            self._choices = (edition.number, found)
            return found


CHOICES = {
    "annotator": "SELECT DISTINCT annotator FROM said.said WHERE annotator IS NOT NULL",
    "aspect": "SELECT DISTINCT aspect FROM said.said WHERE aspect IS NOT NULL",
    "status": "SELECT DISTINCT status FROM said.said WHERE status IS NOT NULL",
    "label": "SELECT DISTINCT unnest(labels) FROM said.said",
    "source": "SELECT DISTINCT source FROM texts.prompts WHERE source IS NOT NULL",
    "model": "SELECT DISTINCT model FROM texts.responses WHERE model IS NOT NULL",
    "tag": "SELECT DISTINCT unnest(tags) FROM texts.prompts",
    "reason": """SELECT DISTINCT reason FROM (SELECT reason FROM texts.prompts UNION ALL
        SELECT reason FROM texts.responses) WHERE reason IS NOT NULL""",
}


def _described(cursor: Any, numbers: list[int]) -> list[dict[str, Any]]:
    """The rows of a page, in order."""
    if not numbers:
        return []
    found = cursor.execute(
        """SELECT w.group_id, first(p.excerpt ORDER BY p.n) AS excerpt, first(p.source ORDER BY p.n) AS source,
            first(p.tags ORDER BY p.n) AS tags, any_value(z.responses) AS responses,
            any_value(z.annotations) AS annotations, first(p.state ORDER BY p.n) AS state
        FROM texts.roots w JOIN texts.prompts p USING (g) JOIN said.sizes z USING (g)
        WHERE w.g IN (SELECT unnest(?::INTEGER[])) GROUP BY w.g, w.group_id ORDER BY w.g""",
        [numbers],
    )
    names = [name for name, *_ in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose process is gone: it no longer holds the lock."""
    with contextlib.suppress(OSError):
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
