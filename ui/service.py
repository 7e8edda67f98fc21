"""What the pages do, without a widget in it: one object that holds the dataset, the store and what works on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.dataset import Dataset
from prefdata.errors import DataError

from .accounts.people import NotAllowed, People, Person
from .accounts.sessions import secret_of
from .answers.checks import turned
from .answers.labels import GoneError, Labels, last_label
from .answers.pull import Pull
from .rendering import markup
from .store import Store
from .work.making import is_meant
from .work.projects import Held, Projects, guideline_by, has_read, label_count
from .work.queue import Queue, Turn
from .work.shown import guideline_html, task_shown
from .work.texts import Texts

if TYPE_CHECKING:
    from .arena.arena import Arena
    from .explorer.explore import Explorer
    from .quality.live import Quality


class Service:
    """The labelling application, but for how it looks.

    Args:
        dataset: what is labelled.
        store: where people, projects, tasks and labels stand; it belongs to one dataset.

    Raises:
        DataError: the store belongs to another dataset.

    Attributes:
        dataset: what is labelled.
        store: where people, projects, tasks and labels stand.
        people: accounts and sessions.
        projects: set-up, guidelines, progress.
        queue: which task is next.
        labels: what people answer.
        pull: labels into the dataset.
        arena: models that people vote on; None unless there are some.
        texts: prompts and responses by id.
    """

    def __init__(self, dataset: Dataset, store: Store) -> None:
        owner = store.setting("dataset")
        if owner is None:
            store.set("dataset", dataset.uid)
        elif owner != dataset.uid:
            raise DataError(f"the label store {store} belongs to another dataset than {dataset.path}")
        self.dataset, self.store = dataset, store
        self.texts = Texts(dataset)
        self.people = People(store)
        self.projects = Projects(dataset, store)
        self.queue = Queue(store)
        self.labels = Labels(store, self.texts)
        self.pull = Pull(dataset, store, self.texts)
        self.arena: Arena | None = None
        self._explore: Explorer | None = None

    @classmethod
    def open(cls, dataset: str | Path, url: str | None = None) -> Service:
        """The application on a dataset; an empty one is made where the folder holds nothing.

        Raises:
            DataError: the folder holds something else, or the store cannot be opened.
        """
        folder = Path(dataset)
        opened = Dataset.create(folder)
        return cls(opened, Store.open(folder, url))

    @property
    def explore(self) -> Explorer:
        """Browse and search; made when it is first asked for."""
        if self._explore is None:
            from .explorer.explore import Explorer

            self._explore = Explorer(self.dataset)
        return self._explore

    @property
    def quality(self) -> Quality:
        """Agreement, gold accuracy, habits, as of now."""
        from .quality.live import Quality

        return Quality(self.dataset, self.store.engine)

    def close(self) -> None:
        """Stop pulling, and give the store's connections back."""
        self.pull.stop()
        if self.arena is not None:
            self.arena.close()
        if self._explore is not None:
            self._explore.close()
        self.store.close()

    # Who is asking

    def person(self, request: Any) -> Person | None:
        """Whose session a request carries; any object with `headers` (Starlette's, FastAPI's, Gradio's)."""
        secret = secret_of({name.lower(): value for name, value in request.headers.items()})
        return None if secret is None else self.people.person_of(secret)

    def allowed(self, request: Any, role: str) -> Person:
        """The person who asks, if their role is at least this one.

        Raises:
            NotAllowed: nobody is signed in, or the role is lower.
        """
        who = self.person(request)
        if who is None:
            raise NotAllowed("please sign in again")
        who.need(role)
        return who

    # The label page

    def me(self, who: Person) -> dict[str, Any]:
        """What the page shows of the person and their projects."""
        known = self.projects.list()  # not within: whoever holds a connection must not wait for a second one
        with self.store.read() as db:
            mine = [
                {
                    "id": held.id,
                    "name": held.project.name,
                    "protocol": held.project.protocol,
                    "state": held.state,
                    "done": label_count(db, held.id, who.person_id),
                    "quota": held.project.quota or None,
                    "open": held.state == "open",
                }
                for held in known
                if held.state != "closed" and is_meant(held.project, who.pseudonym, who.groups, who.skills)
            ]
        return {
            "pseudonym": who.pseudonym,
            "role": who.role,
            "projects": mine,
            "unread": self._unread(who, mine),
            "store": self.dataset.uid,  # what the page has not sent yet must not go to another dataset
        }

    def _unread(self, who: Person, mine: list[dict[str, Any]]) -> int:
        return sum(
            question.person_id == who.person_id and question.answer is not None
            for project in mine
            for question in self.labels.questions(who, project["id"])
        )

    def next(self, who: Person, project: int) -> dict[str, Any]:
        """The answer of GET /api/next."""
        turn = self.queue.next(who, project)
        held = self.projects.get(project)
        if turn.state == "acknowledge":
            return {"state": "acknowledge", "guideline": self._to_read(who, held)}
        if turn.task is None:
            say = turn.say
            if turn.state == "empty" and (more := self._elsewhere(who, project)):
                say = f"There is nothing left to do for you in this project. There is in: {', '.join(more)}."
            return {"state": turn.state, "say": say, "waiting": turn.waiting}
        return {"state": "task", "task": self._shown(who, held, turn)}

    def _elsewhere(self, who: Person, project: int) -> list[str]:
        """The other projects that have something for a person."""
        others = [held for held in self.projects.list() if held.id != project]
        return [held.project.name for held in others if self.queue.has_task(who, held)]

    def _to_read(self, who: Person, held: Held) -> dict[str, Any]:
        known = self.projects.guidelines(held.id)
        with self.store.read() as db:
            now = guideline_by(db, held.id, held.guideline)
            before = any(has_read(db, who.person_id, held.id, one.label) for one in known)
        return {"label": now.label, "html": guideline_html(now, held.project), "previous": before}

    def _shown(self, who: Person, held: Held, turn: Turn, *, opened: bool = False) -> dict[str, Any]:
        with self.store.read() as db:
            guideline = guideline_by(db, held.id, held.guideline)
            assert turn.task is not None
            last = last_label(db, turn.task.task_id, who.person_id)
            done = label_count(db, held.id, who.person_id)
        shown = task_shown(turn.task, turn.shown, held, guideline, self.texts)
        qualifying = None if turn.qualifying is None else {"n": turn.qualifying[0], "of": turn.qualifying[1]}
        answer = None
        if last is not None and last.status == "ok" and opened:
            answer = turned(last.answer, turn.shown, back=True)
        return {
            **shown,
            "progress": {"done": done, "quota": held.project.quota or None, "qualifying": qualifying},
            "answer": answer,
            "revision": last.revision if last is not None else 0,
            "lease": 60 * held.project.lease,
        }

    def task(self, who: Person, task: int) -> dict[str, Any]:
        """The answer of GET /api/task: a task that the person had, with their answer."""
        row, shown, held, _ = self.labels.opened(who, task)
        return {"state": "task", "task": self._shown(who, held, Turn("task", task=row, shown=shown), opened=True)}

    def undo(self, who: Person, project: int) -> dict[str, Any]:
        """The answer of POST /api/undo: the task that the person answered last, opened again."""
        task = self.labels.last_task(who, project)
        if task is None:
            return {"state": "empty", "say": "There is nothing to undo yet."}
        return self.task(who, task)

    def mine(self, who: Person, project: int, limit: int) -> dict[str, Any]:
        """The answer of GET /api/mine."""
        found = []
        for row in self.labels.mine(who, project, limit):
            try:
                excerpt = markup.excerpt(str(self.texts.prompt(row.prompt_id)["messages"][-1]["content"] or ""), 120)
            except DataError:  # erased meanwhile
                excerpt = "(no longer in the dataset)"
            found.append(
                {
                    "task": row.task_id,
                    "at": row.created_at,
                    "status": row.status,
                    "revision": row.revision,
                    "summary": summary(turned(row.answer, row.shown, back=True)),
                    "excerpt": excerpt,
                }
            )
        return {"labels": found}

    def questions(self, who: Person, project: int) -> dict[str, Any]:
        """The answer of GET /api/questions."""
        return {
            "questions": [
                {
                    "id": row.question_id,
                    "text_html": markup.markdown(row.text),
                    "answer_html": None if row.answer is None else markup.markdown(row.answer),
                    "mine": row.person_id == who.person_id,
                    "at": row.created_at,
                }
                for row in self.labels.questions(who, project)
            ]
        }

    def submit(self, who: Person, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of POST /api/submit."""
        done = self.labels.submit(
            who, body["task"], body["key"], body["answer"], body["seconds"], str(body["guideline"])
        )
        feedback = done["feedback"]
        if feedback is not None:
            feedback = {"right": feedback["right"], "html": markup.markdown(feedback["explanation"])}
        return {"ok": True, "revision": done["revision"], "feedback": feedback}


def summary(answer: Mapping[str, Any]) -> str:
    """An answer in a few words, for lists; its positions are told as letters."""
    if "reason" in answer:
        return f"skipped: {answer['reason']}"
    if "choice" in answer:
        choice = answer["choice"]
        if not isinstance(choice, int):
            return "both bad"
        return "tie" if choice == 0 else f"{'A' if choice < 0 else 'B'} better by {abs(choice)}"
    if "ranks" in answer:
        return "ranks " + " ".join("-" if rank is None else str(rank) for rank in answer["ranks"])
    if "scores" in answer:
        return "; ".join(
            f"{name} {' '.join(f'{one:g}' for one in values)}" for name, values in answer["scores"].items()
        )
    if "best" in answer:
        return "none" if not answer["best"] else "best " + " ".join(chr(65 + place) for place in answer["best"])
    if "thumbs" in answer:
        return " ".join("up" if one else "down" for one in answer["thumbs"])
    if "step" in answer:
        return "no wrong step" if answer["step"] is None else f"step {answer['step'] + 1} is wrong"
    if "spans" in answer:
        return f"{len(answer['spans'])} passages"
    return "edited" if "text" in answer else ""


__all__ = ["GoneError", "Service", "summary"]
