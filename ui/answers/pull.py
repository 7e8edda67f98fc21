"""Labels go from the store into the dataset as annotations: each once, corrections as higher revisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from prefdata.dataset import Dataset
from prefdata.dataset.log import NewerError
from prefdata.errors import DataError, PrefdataError
from prefdata.schema import Row as TableRow
from prefdata.schema import make_id

from ..store import Store
from ..store.tables import labels, people, tasks
from ..work.projects import Held, guideline_by, project_by
from ..work.shown import ends_of
from ..work.texts import Texts
from .annotations import Said, annotator_of

NAME = "store"
"""The setting that holds the store's name: the step `labels:NAME`, and part of each annotation's id."""

_AT_ONCE = 2_000
"""Labels in one commit at most."""

_ITS_OWN = (DataError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, pl.exceptions.PolarsError)
"""What a label that should never have been stored may raise; pyarrow's own are among them."""

_Bad = tuple[Sequence[Mapping[str, Any]], Exception]
"""Rows of `labels` that one person gave to one task, and why they cannot be committed."""


@dataclass(frozen=True)
class Pulled:
    """What one pull did.

    Attributes:
        labels: labels that were new.
        annotations: annotations that were committed.
        withdrawn: annotations that were taken away.
        aside: a sentence for each label that could not be committed, and why.
    """

    labels: int = 0
    annotations: int = 0
    withdrawn: int = 0
    aside: tuple[str, ...] = ()

    def __add__(self, other: Pulled) -> Pulled:
        return Pulled(
            self.labels + other.labels,
            self.annotations + other.annotations,
            self.withdrawn + other.withdrawn,
            self.aside + other.aside,
        )


class Pull:
    """Commits new labels.

    It can be stopped at any point, and run by several processes at once: a label is marked as pulled after its commit,
    and one that comes twice is known by its revision. A label that cannot be committed does not hold up the others: it
    is set aside until the application starts again.

    Attributes:
        failed: what went wrong at the last look, in a sentence; empty: nothing, and no label is set aside.
    """

    def __init__(self, dataset: Dataset, store: Store, texts: Texts) -> None:
        self.dataset, self.store, self.texts = dataset, store, texts
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._aside: dict[int, str] = {}
        self.failed = ""

    @property
    def name(self) -> str:
        """The name of the store: `people` unless it was set otherwise."""
        return str(self.store.setting(NAME) or "people")

    def __call__(self) -> Pulled:
        """Commit whatever is new.

        Raises:
            DataError: the dataset cannot be written to.
        """
        done = Pulled()
        with self._lock:
            while (batch := self._batch()) is not None:
                done += batch
            self.failed = self._told()
        return done

    def _told(self) -> str:
        """What is set aside, in a sentence."""
        said = list(self._aside.values())
        more = f" (and {len(said) - 1:,} more)" if len(said) > 1 else ""
        return f"{said[0]}{more}" if said else ""

    def waiting(self) -> int:
        """How many labels are not in the dataset yet."""
        with self.store.read() as db:
            return int(db.execute(select(func.count()).where(labels.c.pulled.is_(False))).scalar_one())

    def start(self, every: float, say: Callable[[str], None]) -> threading.Thread:
        """Pull by itself from now on.

        Args:
            every: seconds between two looks.
            say: is told what goes wrong; it is tried again.
        """

        def run() -> None:
            while not self._stop.wait(every):
                before = self.failed
                try:
                    self()
                # Whatever it is, a full disk or a busy store: labels stay in the store, and this must go on.
                except Exception as error:
                    self.failed = _sentence(error)
                if self.failed and self.failed != before:
                    say(f"labels stay in the store for now: {self.failed}")

        thread = threading.Thread(target=run, name="pull", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End what `start` began."""
        self._stop.set()

    def _batch(self) -> Pulled | None:
        """Commit the oldest labels that are new; None where there are none."""
        with self.store.read() as db:
            new = labels.c.pulled.is_(False) & labels.c.label_id.not_in(list(self._aside))
            fresh = db.execute(select(labels).where(new).order_by(labels.c.label_id).limit(_AT_ONCE)).all()
            if not fresh:
                return None
            said, bad = self._read(db, [row._asdict() for row in fresh])
        if said:
            done, refused = self._committed(said)
            bad += refused
        else:
            done = Pulled()
        if len(bad) > 1 and not done.labels:  # not one went through: it is the dataset, not the labels
            raise DataError(_sentence(bad[0][1])) from bad[0][1]
        return done + Pulled(aside=tuple([self._set_aside(*one) for one in bad]))

    def _read(self, db: Connection, fresh: Sequence[Mapping[str, Any]]) -> tuple[list[list[Said]], list[_Bad]]:
        """What these labels take to be read, and those that cannot be: their texts may have been erased."""
        units: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        for label in fresh:
            units.setdefault((label["task_id"], label["person_id"]), []).append(label)
        said: list[list[Said]] = []
        bad: list[_Bad] = []
        for unit, given in units.items():
            try:
                said.append(self._history(db, *unit))
            except _ITS_OWN as error:
                bad.append((given, error))
        return said, bad

    def _committed(self, said: list[list[Said]]) -> tuple[Pulled, list[_Bad]]:
        """Commit what can be committed: all at once, and in halves where that fails, down to the label that is bad."""
        try:
            done = self._commit(said)
        except NewerError:
            raise
        except _ITS_OWN as error:
            if len(said) == 1:
                return Pulled(), [([one.label for one in said[0] if not one.label["pulled"]], error)]
            half = len(said) // 2
            (first, bad), (second, worse) = self._committed(said[:half]), self._committed(said[half:])
            return first + second, bad + worse
        fresh = [one.label["label_id"] for history in said for one in history if not one.label["pulled"]]
        with self.store.write() as db:
            mark = update(labels).where(labels.c.label_id == bindparam("label")).values(pulled=True)
            db.execute(mark, [{"label": one} for one in fresh])
        for one in fresh:
            self._aside.pop(one, None)  # corrected: what is said last went through
        return Pulled(len(fresh), *done), []

    def _set_aside(self, given: Sequence[Mapping[str, Any]], error: Exception) -> str:
        last = max(given, key=lambda label: label["label_id"])
        where = f"label {last['label_id']} (task {last['task_id']}, person {last['person_id']})"
        say = f"{where} does not fit the dataset and is left out until the next start: {_sentence(error)}"
        self._aside |= {label["label_id"]: say for label in given}
        return say

    def _history(self, db: Connection, task: int, person: int) -> list[Said]:
        """All that a person said of a task, the last first."""
        row = db.execute(select(tasks).where(tasks.c.task_id == task)).one()
        name: str = db.execute(select(people.c.pseudonym).where(people.c.person_id == person)).scalar_one()
        held = project_by(db, row.project_id)
        own = (labels.c.task_id == task) & (labels.c.person_id == person)
        found = db.execute(select(labels).where(own).order_by(labels.c.revision.desc())).all()
        ends = self._ends(row, held)
        return [self._said(db, label, row, name, held, ends) for label in found]

    def _said(
        self, db: Connection, label: Row[Any], task: Row[Any], name: str, held: Held, ends: Sequence[int]
    ) -> Said:
        card = guideline_by(db, held.id, label.guideline).card
        return Said(label._asdict(), task._asdict(), name, held.project, card, ends)

    def _ends(self, task: Row[Any], held: Held) -> Sequence[int]:
        if held.project.protocol != "first_error":
            return ()
        return ends_of(self.texts.responses(task.target_ids)[task.target_ids[0]])

    def _commit(self, histories: Sequence[list[Said]]) -> tuple[int, int]:
        """Add what is said last, take away what is said no more; how many annotations of each."""
        store = self.name
        rows: list[TableRow] = []
        gone: set[str] = set()
        beside: dict[str, list[TableRow]] = {"responses": [], "criteria": [], "annotators": []}
        texts: set[str] = set()
        for last, *earlier in histories:
            now = last.annotations() if last.label["status"] != "deleted" else []
            rows += now
            stays = {_id(store, row) for row in now}
            before = {
                _id(store, row) for said in earlier if said.label["status"] != "deleted" for row in said.annotations()
            }
            gone |= before - stays
            beside["criteria"] += last.criteria()
            annotator = {"annotator": annotator_of(last.pseudonym), "card": last.label["guideline"]}
            beside["annotators"].append(annotator)
            written = {said.edited["response_id"] for said in earlier if said.edited is not None}
            if last.edited is not None:
                beside["responses"].append(last.edited)
                written.discard(last.edited["response_id"])
            texts |= written
        if rows:
            self.dataset.label(rows, store=store, beside=beside)
        withdrawn = self._visible("annotations", "annotation_id", gone)
        if withdrawn:
            self.dataset.drop("annotations", withdrawn, reason="the label was taken back", store=store)
        self._bring_back([row["response_id"] for row in beside["responses"]], store)
        unwritten = self._visible("responses", "response_id", texts)
        if unwritten:
            self.dataset.drop("responses", unwritten, reason="edited anew", store=store)
        return len(rows), len(withdrawn)

    def _bring_back(self, written: Sequence[str], store: str) -> None:
        """Restore what somebody wrote, wrote otherwise, and wrote again."""
        if written:
            gone = sorted(set(written) - set(self._visible("responses", "response_id", set(written))))
            dropped = self.dataset.view().dropped.filter(
                (pl.col("table") == "responses") & pl.col("id").is_in(gone) & pl.col("step").is_in([f"labels:{store}"])
            )
            if dropped.height:
                self.dataset.restore("responses", dropped["id"].to_list(), reason="written again", store=store)

    def _visible(self, table: str, key: str, ids: set[str]) -> list[str]:
        """Those of `ids` that are in the dataset and not dropped."""
        if not ids:
            return []
        wanted = pl.LazyFrame({key: sorted(ids)}, schema={key: pl.String})
        return self.dataset.view()[table].select(key).join(wanted, on=key, how="semi").collect()[key].to_list()


def _id(store: str, row: TableRow) -> str:
    return make_id("label", store, row["key"], row["annotator"])


def _sentence(error: Exception) -> str:
    if isinstance(error, SQLAlchemyError):
        return f"the label store did not answer: {getattr(error, 'orig', None) or type(error).__name__}"
    known = isinstance(error, PrefdataError | OSError)
    return str(error) if known else f"{type(error).__name__}: {error}"
