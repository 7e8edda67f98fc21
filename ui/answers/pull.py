"""Labels go from the store into the dataset as annotations: each once, corrections as higher revisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import Connection, Row, bindparam, func, select, update

from prefdata.dataset import Dataset
from prefdata.errors import PrefdataError
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


@dataclass(frozen=True)
class Pulled:
    """What one pull did.

    Attributes:
        labels: labels that were new.
        annotations: annotations that were committed.
        withdrawn: annotations that were taken away.
    """

    labels: int = 0
    annotations: int = 0
    withdrawn: int = 0

    def __add__(self, other: Pulled) -> Pulled:
        return Pulled(
            self.labels + other.labels, self.annotations + other.annotations, self.withdrawn + other.withdrawn
        )


class Pull:
    """Commits new labels.

    It can be stopped at any point, and run by several processes at once: a label is marked as pulled after its commit,
    and one that comes twice is known by its revision.
    """

    def __init__(self, dataset: Dataset, store: Store, texts: Texts) -> None:
        self.dataset, self.store, self.texts = dataset, store, texts
        self._lock = threading.Lock()
        self._stop = threading.Event()
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
            while True:
                batch = self._batch()
                if batch.labels == 0:
                    return done
                done += batch

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
                try:
                    self()
                    self.failed = ""
                except (PrefdataError, OSError) as error:  # a full disk: labels stay in the store until there is room
                    if self.failed != str(error):
                        say(f"labels stay in the store for now: {error}")
                    self.failed = str(error)

        thread = threading.Thread(target=run, name="pull", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End what `start` began."""
        self._stop.set()

    def _batch(self) -> Pulled:
        with self.store.read() as db:
            fresh = db.execute(
                select(labels).where(labels.c.pulled.is_(False)).order_by(labels.c.label_id).limit(_AT_ONCE)
            ).all()
            if not fresh:
                return Pulled()
            said = [self._history(db, *one) for one in dict.fromkeys((row.task_id, row.person_id) for row in fresh)]
        done = self._commit(said)
        marked = [{"label": row.label_id} for row in fresh]
        with self.store.write() as db:
            db.execute(update(labels).where(labels.c.label_id == bindparam("label")).values(pulled=True), marked)
        return Pulled(len(fresh), *done)

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
