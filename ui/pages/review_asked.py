"""The tabs of what people asked and reported: questions to the lead, and bad prompts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, select

from prefdata.errors import DataError
from prefdata.report.markup import Html, tag

from ..accounts.person import Person
from ..rendering.markup import excerpt, markdown
from ..store.tables import tasks
from ..work.projects import Held
from . import review_numbers as numbers
from .lock import Locked, whole
from .review_disputes import stage
from .review_figures import chosen, show
from .review_task import looked_at

if TYPE_CHECKING:
    from ..service import Service


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


class QuestionsTab:
    """What people asked about tasks: the open ones first."""

    def __init__(self, service: Service) -> None:
        import gradio as gr

        self.service = service
        self.about = gr.HTML(apply_default_css=False)
        with gr.Column(visible=False) as self.desk:
            self.pick = gr.Dropdown([], label="Question", min_width=220)
            self.text = gr.Textbox(label="Your answer: everybody in the project will see it (Markdown)", lines=3)
            with gr.Row():
                self.send = gr.Button("Answer", variant="primary", min_width=120, elem_classes="rv-press")
            with gr.Accordion("The task it is about", open=True):
                self.stage = stage()
        self.list = gr.HTML(apply_default_css=False)
        self.fields = [self.about, self.desk, self.pick, self.text, self.stage, self.list]

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something."""
        lock.on(self.pick.input, self._look_at_question, [project, self.pick], [self.stage, self.text])
        lock.on(self.send.click, self._answer, [project, self.pick, self.text], self.fields)

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        return self._values(who, held)

    def _values(self, who: Person, held: Held, said: str = "") -> dict[Any, Any]:
        import gradio as gr

        asked = self.service.labels.questions(who, held.id)
        waiting = [one for one in reversed(asked) if one.answer is None]  # who has waited longest comes first
        answered = [one for one in asked if one.answer is not None]
        names = {one.person_id: one.pseudonym for one in self.service.people.list()}
        told = [tag("p", tag("b", said))] if said else []
        if not asked:
            told.append(numbers.empty("Nobody has asked anything yet."))
        elif not waiting:
            told.append(tag("p", "All questions are answered."))
        listed = [
            (f"{names[one.person_id]}: {excerpt(one.text, 90)}", one.question_id) for one in [*waiting, *answered]
        ]
        first = waiting[0] if waiting else None
        return {
            self.about: show(told),
            self.desk: gr.Column(visible=bool(asked)),
            self.pick: gr.Dropdown(listed, value=None if first is None else first.question_id),
            self.text: "",
            self.stage: self._task(held, first),
            self.list: show(tag("ul", [_question(one, names) for one in [*waiting, *answered]], class_="asked")),
        }

    def _task(self, held: Held, question: Row[Any] | None) -> dict[str, Any] | None:
        return None if question is None else seen(self.service, held, question.task_id)

    def _of(self, who: Person, held: Held, question: object) -> Row[Any]:
        wanted = whole(question, "a question")
        found = next((one for one in self.service.labels.questions(who, held.id) if one.question_id == wanted), None)
        if found is None:
            raise DataError("this project has no such question")
        return found

    def _look_at_question(self, who: Person, project: object, question: object) -> tuple[Any, str]:
        held = chosen(self.service, project)
        found = self._of(who, held, question)
        return self._task(held, found), found.answer or ""

    def _answer(self, who: Person, project: object, question: object, text: object) -> dict[Any, Any]:
        held = chosen(self.service, project)
        found = self._of(who, held, question)
        self.service.labels.answer(who, found.question_id, text if isinstance(text, str) else "")
        return self._values(who, held, "Answered: everybody sees it, and whoever asked gets the task again.")


def _question(one: Row[Any], names: dict[int, str]) -> Html:
    about = tag("div", tag("bdi", names[one.person_id]), f", {_when(one.created_at)} UTC", class_="soft small")
    if one.answer is None:
        reply = tag("div", tag("b", "not answered yet"), class_="reply")
    else:
        reply = tag("div", Html(markdown(one.answer)), class_="reply")
    return tag("li", about, Html(markdown(one.text)), reply)  # sanitised by `markdown`


class FlagsTab:
    """Prompts that people reported as bad."""

    def __init__(self, service: Service) -> None:
        import gradio as gr

        self.service = service
        self.about = gr.HTML(apply_default_css=False)
        with gr.Column(visible=False) as self.desk:
            self.pick = gr.Dropdown([], label="Reported prompt", min_width=220)
            self.why = gr.HTML(apply_default_css=False)
            with gr.Row():
                self.bad = gr.Button(
                    "It is bad: take it out of the dataset", variant="stop", min_width=220, elem_classes="rv-press"
                )
                self.good = gr.Button("It is good: give it back to the queue", min_width=220, elem_classes="rv-press")
            self.stage = stage()
        self.fields = [self.about, self.desk, self.pick, self.why, self.stage]

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something."""
        lock.on(self.pick.input, self._look_at_prompt, [project, self.pick], [self.why, self.stage])
        lock.on(self.bad.click, self._uphold, [project, self.pick], self.fields)
        lock.on(self.good.click, self._refuse, [project, self.pick], self.fields)

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        return self._values(who, held)

    def _open(self, who: Person, held: Held) -> dict[str, list[Row[Any]]]:
        """The open reports of a project, by prompt; who has waited longest comes first."""
        found: dict[str, list[Row[Any]]] = {}
        for one in reversed(self.service.labels.flags(who)):
            if one.project_id == held.id:
                found.setdefault(one.prompt_id, []).append(one)
        return found

    def _values(self, who: Person, held: Held, said: str = "") -> dict[Any, Any]:
        import gradio as gr

        found = self._open(who, held)
        first = next(iter(found.values()), None)
        told = [tag("p", tag("b", said)) if said else None]
        told.append(
            tag("p", "These prompts are kept from everybody until you have decided.")
            if found
            else numbers.empty("No prompt is waiting for a decision.")
        )
        listed = [(f"{self._words(prompt)} ({len(rows)})", rows[0].flag_id) for prompt, rows in found.items()]
        return {
            self.about: show(told),
            self.desk: gr.Column(visible=bool(found)),
            self.pick: gr.Dropdown(listed, value=None if first is None else first[0].flag_id),
            self.why: _reports(first or []),
            self.stage: self._task(held, first[0].prompt_id) if first else None,
        }

    def _words(self, prompt: str) -> str:
        try:
            return excerpt(str(self.service.texts.prompt(prompt)["messages"][-1]["content"] or ""), 80)
        except DataError:
            return "(no longer in the dataset)"

    def _task(self, held: Held, prompt: str) -> dict[str, Any] | None:
        own = (tasks.c.project_id == held.id) & (tasks.c.prompt_id == prompt)
        with self.service.store.read() as db:
            task = db.execute(select(tasks.c.task_id).where(own).order_by(tasks.c.task_id).limit(1)).scalar()
        return None if task is None else seen(self.service, held, task)

    def _of(self, who: Person, held: Held, flag: object) -> list[Row[Any]]:
        wanted = whole(flag, "a prompt")
        for rows in self._open(who, held).values():
            if any(row.flag_id == wanted for row in rows):
                return rows
        raise DataError("this report has been decided meanwhile: choose another one")

    def _look_at_prompt(self, who: Person, project: object, flag: object) -> tuple[str, Any]:
        held = chosen(self.service, project)
        rows = self._of(who, held, flag)
        return _reports(rows), self._task(held, rows[0].prompt_id)

    def _uphold(self, who: Person, project: object, flag: object) -> dict[Any, Any]:
        held = chosen(self.service, project)
        first = self._of(who, held, flag)[0]
        # The dataset first: should it be locked, the report stays open and can be decided again.
        self.service.dataset.drop(
            "prompts", [first.prompt_id], reason=f"reported as bad: {first.reason[:200]}", store=self.service.pull.name
        )
        self.service.labels.decide_flag(who, first.flag_id, bad=True)
        return self._values(who, held, "The prompt is out of the dataset: nobody labels it, and no pipeline uses it.")

    def _refuse(self, who: Person, project: object, flag: object) -> dict[Any, Any]:
        held = chosen(self.service, project)
        self.service.labels.decide_flag(who, self._of(who, held, flag)[0].flag_id, bad=False)
        return self._values(who, held, "The prompt is back in the queue.")


def _reports(rows: list[Row[Any]]) -> str:
    return show(
        tag(
            "ul",
            [
                tag(
                    "li",
                    tag("div", tag("bdi", row.pseudonym), f", {_when(row.created_at)} UTC", class_="soft small"),
                    row.reason,
                )
                for row in rows
            ],
            class_="asked",
        )
    )


def seen(service: Service, held: Held, task: int) -> dict[str, Any] | None:
    """A task to look at; None where its texts are no longer in the dataset."""
    try:
        return {"task": looked_at(service, held, task)}
    except DataError:
        return None
