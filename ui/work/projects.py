"""Projects: what the lead sets up, the tasks that come of it, and the guidelines that hold."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from prefdata.cards import Card, card_of, load_card
from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import canonical_json, make_id

from ..accounts.access import need
from ..accounts.people import Person
from ..store import Store
from ..store.tables import acknowledgements, guidelines, people, projects, tasks, work
from .making import owners, planned, take_file
from .project import Project, project_of
from .routing import priorities

_AT_ONCE = 20_000
"""Tasks that are written at once."""


@dataclass(frozen=True)
class Held:
    """A project as the store holds it.

    Attributes:
        id: its number.
        project: what was stated.
        state: open, paused or closed.
        guideline: name@hash of the guidelines that hold now.
    """

    id: int
    project: Project
    state: str
    guideline: str


@dataclass(frozen=True)
class Guideline:
    """One version of a project's guidelines: a card, and a text in Markdown beside it."""

    label: str
    card: Card
    text: str
    created_at: float


class Projects:
    """Set up projects and look at them."""

    def __init__(self, dataset: Dataset, store: Store) -> None:
        self.dataset, self.store = dataset, store

    def create(self, fields: Mapping[str, Any], *, by: Person | None = None) -> tuple[Held, int]:
        """Make a project with its tasks, or add to a project the tasks for prompts that are new.

        Args:
            fields: of `Project`.
            by: who does it; None: the command line.

        Returns:
            The project, and how many tasks were added.

        Raises:
            DataError: a field is wrong; there is a project of that name that states something else; or the dataset has
                no prompt with enough responses.
        """
        need(by, "admin")
        project = project_of(dict(fields))
        with self.store.read() as db:
            there = _held(db.execute(select(projects).where(projects.c.name == project.name)).first())
        guideline = guideline_of(project) if there is None else None
        if project.gold and Path(project.gold).expanduser().is_file():
            take_file(self.dataset, self.store, Path(project.gold).expanduser(), golden=project)
        with self.store.write() as db:
            held = _held(db.execute(select(projects).where(projects.c.name == project.name)).first())
            if held is None and guideline is not None:
                row = {"name": project.name, "spec": project.model_dump(mode="json"), "state": "open"}
                made = db.execute(insert(projects).values(**row, guideline=guideline.label, created_at=time.time()))
                held = Held(int((made.inserted_primary_key or [0])[0]), project, "open", guideline.label)
                _add_guideline(db, held.id, guideline)
            elif held is None or _differ(held.project, project):
                differ = [] if held is None else _differ(held.project, project)
                raise DataError(
                    f"there is a project {project.name!r} already, which states something else ({', '.join(differ)}): "
                    "give the new one another name, or repeat the same fields to add tasks for new prompts"
                )
            strangers = set(project.people) - set(db.execute(select(people.c.pseudonym)).scalars())
            if strangers:
                raise DataError(
                    f"nobody is called {', '.join(sorted(strangers))}: add them first (prefdata people add)"
                )
            return held, self._add_tasks(db, held)

    def upload(self, path: Path, *, by: Person | None = None) -> str:
        """Take a file of tasks: prompts and responses go into the dataset, gold answers and warnings into the store.

        Args:
            path: the file (format `tasks`); `Project.file` names it by its own name.
            by: who does it; None: the command line.

        Returns:
            A sentence on what came in.

        Raises:
            DataError: the file cannot be read; names file, row and column.
        """
        need(by, "admin")
        return take_file(self.dataset, self.store, path)

    def _add_tasks(self, db: Connection, held: Held) -> int:
        own = tasks.c.project_id == held.id
        known = {row.key: row.gold for row in db.execute(select(tasks.c.key, tasks.c.gold).where(own)).all()}
        project = held.project
        order = priorities(self.dataset, project) if project.route != "all" else {}
        made = planned(self.dataset, db, project, order, owners(db, project))
        rows = [{**row, "project_id": held.id} for row in made]
        for row in rows:  # a gold answer that was put right
            if row["gold"] is not None and known.get(row["key"]) not in (None, row["gold"]):
                db.execute(update(tasks).where(own, tasks.c.key == row["key"]).values(gold=row["gold"]))
        rows = [row for row in rows if row["key"] not in known]
        new = sorted((row for row in rows if row["gold"] is None), key=lambda row: -row["priority"])
        if project.budget:
            new = new[: max(project.budget - len(known), 0)]
        golden = [row for row in rows if row["gold"] is not None]
        if not new and not known:
            where = f"the file {project.file} holds" if project.file else "the dataset has"
            raise DataError(
                f"project {project.name!r} has no task: {where} no live prompt with at least {project.asked} "
                "response(s). Upload a file with prompts and responses, or run `sample` first"
            )
        if not known and len(golden) < project.qualify:
            raise DataError(
                f"project {project.name!r} asks {project.qualify} gold questions first, but has {len(golden)}: add "
                "some (gold), or lower `qualify`"
            )
        for row in golden:  # anywhere among the others: a task's number must not tell
            new.insert(random.SystemRandom().randint(0, len(new)), row)
        left = iter(new)
        while batch := list(islice(left, _AT_ONCE)):
            db.execute(insert(tasks), batch)
        return len(new)

    def list(self) -> tuple[Held, ...]:
        """All projects, in the order in which they were made."""
        with self.store.read() as db:
            return tuple([_known(row) for row in db.execute(select(projects).order_by(projects.c.project_id))])

    def get(self, name: str | int) -> Held:
        """The project of that name or number.

        Raises:
            DataError: there is none.
        """
        with self.store.read() as db:
            return project_by(db, name)

    def set_state(self, who: Person | None, name: str | int, state: str) -> None:
        """Open, pause or close a project; the labels stay."""
        need(who, "admin")
        if state not in ("open", "paused", "closed"):
            raise DataError(f"a project is open, paused or closed, not {state!r}")
        with self.store.write() as db:
            held = project_by(db, name)
            db.execute(update(projects).where(projects.c.project_id == held.id).values(state=state))

    def change_guidelines(self, who: Person | None, name: str | int, *, card: str = "", text: str = "") -> str:
        """Let new guidelines hold from now on; everybody is asked to read them before their next task.

        Args:
            who: an admin.
            name: the project.
            card: a card's name or path; the present one unless given.
            text: Markdown beside the card, or the path of a file.

        Returns:
            The label (name@hash) of what holds now.

        Raises:
            DataError: the card has other aspects or scales than a project that rates can change to.
        """
        need(who, "admin")
        with self.store.write() as db:
            held = project_by(db, name)
            old = guideline_by(db, held.id, held.guideline)
            new = _guideline(load_card(card) if card else old.card, _text(text) if text else old.text)
            if held.project.protocol == "rate" and not all(aspect.has_scale for aspect in new.card.aspects):
                raise DataError(f"the card {new.card.name!r} states no scale, which `rate` needs")
            _add_guideline(db, held.id, new)
            db.execute(update(projects).where(projects.c.project_id == held.id).values(guideline=new.label))
            return new.label

    def guidelines(self, name: str | int) -> tuple[Guideline, ...]:
        """All versions of a project's guidelines, the oldest first."""
        with self.store.read() as db:
            held = project_by(db, name)
            found = select(guidelines).where(guidelines.c.project_id == held.id).order_by(guidelines.c.guideline_id)
            return tuple([_as_guideline(row) for row in db.execute(found)])

    def acknowledge(self, who: Person, project: int, label: str) -> None:
        """Note that a person has read these guidelines."""
        with self.store.write() as db:
            guideline_by(db, project, label)
            if not has_read(db, who.person_id, project, label):
                row = {"person_id": who.person_id, "project_id": project, "label": label, "at": time.time()}
                db.execute(insert(acknowledgements).values(row))

    def progress(self, name: str | int) -> dict[str, int]:
        """How far a project is: tasks, gold, open, done, withdrawn, labels, wanted, people."""
        with self.store.read() as db:
            held = project_by(db, name)
            counted = db.execute(
                select(
                    func.count().filter(tasks.c.state != "gold").label("tasks"),
                    func.count().filter(tasks.c.state == "gold").label("gold"),
                    func.count().filter(tasks.c.state == "withdrawn").label("withdrawn"),
                    func.coalesce(func.sum(case((tasks.c.state == "open", tasks.c.wanted), else_=0)), 0).label(
                        "wanted"
                    ),
                    func.count().filter((tasks.c.state == "open") & (tasks.c.free > 0)).label("open"),
                ).where(tasks.c.project_id == held.id)
            ).one()
            own = work.c.project_id == held.id
            worked = db.execute(
                select(
                    func.count().filter((work.c.state == "done") & ~work.c.gold).label("labels"),
                    func.count().filter((work.c.state == "done") & work.c.gold).label("gold_labels"),
                    func.count().filter(work.c.state == "leased").label("leased"),
                    func.count().filter(work.c.state == "skipped").label("skipped"),
                    func.count(work.c.person_id.distinct()).label("people"),
                ).where(own)
            ).one()
            return {**counted._mapping, **worked._mapping}


def _differ(one: Project, other: Project) -> list[str]:
    """The fields in which two projects differ. Where card and gold files lie may change; what they said is kept."""
    return [
        name
        for name in Project.model_fields
        if name not in ("card", "guidelines") and _stated(one, name) != _stated(other, name)
    ]


def _stated(project: Project, name: str) -> object:
    return Path(project.gold).name if name == "gold" else getattr(project, name)


# Reading the store


def project_by(db: Connection, name: str | int) -> Held:
    """The project of that name or number.

    Raises:
        DataError: there is none; names those that there are.
    """
    column = projects.c.project_id if isinstance(name, int) else projects.c.name
    held = _held(db.execute(select(projects).where(column == name)).first())
    if held is None:
        known = ", ".join(db.execute(select(projects.c.name)).scalars()) or "none yet"
        raise DataError(f"there is no project {name!r} (there are: {known})")
    return held


def guideline_by(db: Connection, project: int, label: str) -> Guideline:
    """One version of a project's guidelines.

    Raises:
        DataError: there is none of that label.
    """
    found = db.execute(
        select(guidelines).where(guidelines.c.project_id == project, guidelines.c.label == label)
    ).first()
    if found is None:
        raise DataError(f"this project has no guidelines {label!r}")
    return _as_guideline(found)


def has_read(db: Connection, person: int, project: int, label: str) -> bool:
    """Whether a person has acknowledged these guidelines."""
    own = (acknowledgements.c.person_id == person) & (acknowledgements.c.project_id == project)
    found = select(acknowledgements.c.at).where(own, acknowledgements.c.label == label)
    return db.execute(found).first() is not None


def _known(row: Row[Any]) -> Held:
    return Held(row.project_id, _project(canonical_json(row.spec)), row.state, row.guideline)


def _held(row: Row[Any] | None) -> Held | None:
    return None if row is None else _known(row)


@lru_cache(maxsize=256)
def _project(spec: str) -> Project:
    return Project.model_validate_json(spec)


@lru_cache(maxsize=256)
def _card(content: str) -> Card:
    import json

    return card_of(json.loads(content))


def _as_guideline(row: Row[Any]) -> Guideline:
    return Guideline(row.label, _card(canonical_json(row.card)), row.text, row.created_at)


# Guidelines


def guideline_of(project: Project) -> Guideline:
    """The guidelines that a project starts with.

    Raises:
        DataError, PipelineError: there is no such card or file, or it states no scale where one is needed.
    """
    card = load_card(project.card)
    if project.protocol == "rate" and not all(aspect.has_scale for aspect in card.aspects):
        raise DataError(f"the card {card.name!r} states no scale, which `rate` needs: give each aspect a `scale`")
    return _guideline(card, _text(project.guidelines))


def _guideline(card: Card, text: str) -> Guideline:
    label = card.label if not text else f"{card.name}@{make_id('guideline', card.content, text)[:8]}"
    return Guideline(label, card, text, time.time())


def _text(given: str) -> str:
    if given.endswith(".md") and "\n" not in given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise DataError(f"guidelines: there is no file {given}")
        return path.read_text(encoding="utf-8")
    return given


def _add_guideline(db: Connection, project: int, made: Guideline) -> None:
    known = select(guidelines).where(guidelines.c.project_id == project, guidelines.c.label == made.label)
    if db.execute(known).first() is None:
        db.execute(
            insert(guidelines).values(
                project_id=project, label=made.label, card=made.card.content, text=made.text, created_at=made.created_at
            )
        )


def label_count(db: Connection, project: int, person: int, since: float = 0.0) -> int:
    """How many tasks of a project a person has answered since then; gold counts, so that nobody can tell it."""
    found = select(func.count()).where(work.c.person_id == person, work.c.project_id == project, work.c.state == "done")
    return int(db.execute(found.where(work.c.done_at >= since) if since else found).scalar_one())
