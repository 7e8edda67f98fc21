"""The tab of disagreements: one task after the other, what people said of it, and the reviewer's own verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefdata.errors import DataError
from prefdata.report.markup import tag
from prefdata.report.parts import plural

from ..accounts.person import Person
from ..quality.adjudication import MOST_MORE, WIDE, Disagreement, adjudicate, collect_more, disagreements, place_of
from ..quality.apart import MEANING
from ..work.projects import Held
from . import review_numbers as numbers
from .lock import Locked, number, whole
from .review_figures import chosen, show
from .review_task import after, choices, excerpts, to_decide

if TYPE_CHECKING:
    from ..service import Service

MOST = 200
"""Tasks in the list; more follow as these are decided."""

STAGE = """
const root = new URL("..", document.baseURI).pathname.replace(/\\/$/, "");
const place = element.querySelector(".rv-stage");
import(root + "/static/review.js").then((page) => {
  const show = page.stage(place, root, (sent) => trigger("submit", sent));
  show(props.value);
  watch("value", () => show(props.value));
}).catch((error) => { console.error(error); place.textContent = "The page could not be loaded. Please reload it."; });
"""
KEPT = 60.0
"""Seconds for which the list stands while a reviewer goes through it; opening the tab looks again."""

PLACE = '<div class="rv-stage"></div>'


def stage() -> Any:
    """Where a task is drawn: an HTML field whose value is what `static/review.js` gets."""
    import gradio as gr

    return gr.HTML(value=None, html_template=PLACE, js_on_load=STAGE, apply_default_css=False)


class DisputesTab:
    """Tasks on which people differ."""

    def __init__(self, service: Service) -> None:
        import gradio as gr

        self.service = service
        self._kept: dict[int, tuple[float, list[Disagreement]]] = {}
        self.about = gr.HTML(apply_default_css=False)
        with gr.Row(equal_height=True) as self.bar:
            self.pick = gr.Dropdown([], label="Task", scale=5, min_width=220)
            self.next = gr.Button("Next", scale=0, min_width=110, elem_classes="rv-press")
        self.stage = stage()
        with gr.Accordion("Ask for more labels", open=False, visible=False) as self.more:
            self.rule = gr.HTML(apply_default_css=False)
            with gr.Row(equal_height=True):
                self.n = gr.Number(
                    2, minimum=1, maximum=MOST_MORE, step=1, precision=0, label="More labels", min_width=120
                )
                self.above = gr.Number(
                    WIDE, minimum=0, step=0.5, label="where they are further apart than", min_width=160
                )
            with gr.Row():
                self.one = gr.Button("For this task", min_width=140, elem_classes="rv-press")
                self.all = gr.Button("For all tasks further apart than that", min_width=220, elem_classes="rv-press")
        self.fields = [self.about, self.bar, self.pick, self.stage, self.more, self.rule, self.above]

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something."""
        shown = [self.about, self.pick, self.stage]
        lock.on(self.pick.input, self._look, [project, self.pick], [self.stage])
        lock.on(self.next.click, self._next, [project, self.pick], shown)
        lock.on(self.stage.submit, self._decide, [project], shown, sent=True)
        lock.on(self.one.click, self._more_of_one, [project, self.pick, self.n], [self.about])
        lock.on(self.all.click, self._more_of_all, [project, self.n, self.above], [self.about])

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        import gradio as gr

        found = self._found(held, anew=True)
        about, pick, value = self._at(who, held, found, after(found, None))
        rated = held.project.protocol == "rate"
        unit = "points of the scale between two scores of one response" if rated else "the number before each task"
        rule = "HelpSteer2 asks for two more where scores are more than two points apart. " if rated else ""
        told = numbers.note(
            rule,
            f"Further apart is measured as {unit}. The tasks go back to the queue, for people who have not "
            "labelled them; none gets more than so many labels beside those of the project, however often it is asked.",
        )
        return {
            self.about: about,
            self.bar: gr.Row(visible=bool(found)),
            self.pick: pick,
            self.stage: value,
            self.more: gr.Accordion(visible=bool(found)),
            self.rule: show(told),
            self.above: WIDE if rated else 0.3,
        }

    def _found(self, held: Held, *, anew: bool = False, changed: int | None = None) -> list[Disagreement]:
        """The tasks of the list; those whose prompt was erased are left out.

        Args:
            held: whose.
            anew: look at all labels again; else that is done once in `KEPT` seconds, since it takes seconds where
                there are a hundred thousand of them.
            changed: a task that has just been decided.
        """
        since, found = self._kept.get(held.id, (0.0, []))
        if anew or time.monotonic() > since + KEPT:
            since, found = time.monotonic(), disagreements(self.service, held.id, MOST)
        elif changed is not None:
            found = [one for one in found if one.task_id != changed]
            found = sorted([*found, *disagreements(self.service, held.id, task=changed)], key=place_of)
        self._kept[held.id] = since, found
        names = excerpts(self.service, found)
        return [one for one in found if one.task_id in names]

    def _one(self, held: Held, task: int) -> Disagreement:
        found = disagreements(self.service, held.id, task=task)
        if not found:
            raise DataError("people no longer differ on this task, or it was taken away: choose another one")
        return found[0]

    def _at(
        self, who: Person, held: Held, found: list[Disagreement], task: int | None, said: str = ""
    ) -> tuple[str, Any, Any]:
        """What the list and the stage show when they stand at a task; None: at none."""
        import gradio as gr

        now = next((one for one in found if one.task_id == task), None)
        listed = choices(found, excerpts(self.service, found))
        value = None
        if now is not None:
            try:
                value = to_decide(self.service, who, held, now)
            except DataError as error:  # some of its texts were erased meanwhile
                said = f"{said} This task cannot be shown: {error}.".strip()
        return self._about(held, found, said), gr.Dropdown(listed, value=None if now is None else task), value

    def _about(self, held: Held, found: list[Disagreement], said: str = "") -> str:
        told = tag("p", tag("b", said)) if said else None
        if not found:
            return show(told, numbers.empty("No two people differ on a task here."))
        decided = sum(bool(one.verdicts) for one in found)
        tasks = plural(len(found), "task") if len(found) < MOST else f"The {MOST} most disputed tasks"
        words = f"{tasks} on which people differ, {decided:,} of them decided; the most disputed come first. "
        return show(told, tag("p", words, tag("span", MEANING[held.project.protocol], class_="soft")))

    def _look(self, who: Person, project: object, task: object) -> Any:
        held = chosen(self.service, project)
        return to_decide(self.service, who, held, self._one(held, whole(task, "a task")))

    def _next(self, who: Person, project: object, task: object) -> tuple[str, Any, Any]:
        held = chosen(self.service, project)
        found = self._found(held)
        following = after(found, task if isinstance(task, int) else None)
        if following is None:
            said = (
                "All of them are decided." if all(one.verdicts for one in found) else "This is the last undecided one."
            )
            return self._at(who, held, found, task if isinstance(task, int) else None, said)
        return self._at(who, held, found, following)

    def _decide(self, who: Person, sent: object, project: object) -> tuple[str, Any, Any]:
        held = chosen(self.service, project)
        if not isinstance(sent, Mapping) or not isinstance(sent.get("answer"), Mapping):
            raise DataError("no verdict was sent")
        task = whole(sent.get("task"), "a task")
        self._one(held, task)  # it is a task of this project, and one on which people differ
        seconds = number(sent.get("seconds"), "the time taken", 0, float("inf"))
        done = adjudicate(self.service, who, task, str(sent.get("key")), dict(sent["answer"]), seconds)
        found = self._found(held, changed=task)
        said = "Your verdict is kept." if done["revision"] == 1 else "Your verdict is corrected."
        following = after(found, task)
        if following is None:
            return self._at(who, held, found, task, f"{said} All of them are decided.")
        return self._at(who, held, found, following, said)

    def _more_of_one(self, who: Person, project: object, task: object, n: object) -> str:
        held = chosen(self.service, project)
        one = self._one(held, whole(task, "a task"))
        return self._collect(who, held, [one], n)

    def _more_of_all(self, who: Person, project: object, n: object, above: object) -> str:
        held = chosen(self.service, project)
        apart = number(above, "how far apart", 0, 1e6)
        rated = held.project.protocol == "rate"
        found = disagreements(self.service, held.id, 10**9)
        wide = [one for one in found if not one.verdicts and ((one.widest or 0) if rated else one.value) > apart]
        return self._collect(who, held, wide, n)

    def _collect(self, who: Person, held: Held, wide: list[Disagreement], n: object) -> str:
        more = whole(n, "how many labels more")
        most = held.project.overlap + more
        opened = collect_more(self.service, who, [one.task_id for one in wide], more, most=most)
        left = len(wide) - opened
        said = f"{plural(opened, 'task')} went back to the queue for {plural(more, 'label')} more."
        if left:
            said += f" Left as they are, asked for before or meant for one person alone: {left:,}."
        return self._about(held, self._found(held), said)
