"""The tabs of the review page that show numbers: agreement, people, guidelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from prefdata.errors import DataError, PrefdataError
from prefdata.report.markup import Html, join, tag

from ..accounts.person import Person
from ..quality.live import TARGET
from ..store.tables import labels, people
from ..work.management import count, requeue
from ..work.projects import Held
from ..work.shown import guideline_html
from . import review_numbers as numbers
from .lock import Locked, number

if TYPE_CHECKING:
    from ..quality.live import Quality
    from ..service import Service

STYLE = '<link rel="stylesheet" href="../static/review.css">'

ALL = ""
"""All versions of the guidelines, or all aspects."""


def show(*parts: Any) -> str:
    """Markup for an HTML field."""
    return tag("div", *parts, class_="pd-review")


class Figures:
    """What the tabs of numbers rest on: the dataset, after what is new in the store has been pulled into it.

    Args:
        service: the application.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.quality: Quality = service.quality  # one for the page: it keeps what it computed until the next commit

    def fresh(self) -> Html | None:
        """Pull; a sentence where that did not work, and the numbers are those of before."""
        try:
            self.service.pull()
        except (PrefdataError, OSError) as error:
            waiting = self.service.pull.waiting()
            return numbers.empty(f"{waiting:,} labels are not in the dataset yet, and not counted here: {error}")
        return None


class AgreementTab:
    """Alpha and kappa, and when to stop."""

    def __init__(self, figures: Figures) -> None:
        import gradio as gr

        self.figures = figures
        with gr.Row(equal_height=True):
            self.card = gr.Dropdown([("all guidelines", ALL)], value=ALL, label="Labels made under", min_width=220)
        self.together = gr.HTML(head=STYLE, apply_default_css=False)
        with gr.Accordion("Every two people", open=False):
            self.couples = gr.HTML(apply_default_css=False)
        self.stop = gr.HTML(apply_default_css=False)
        with gr.Row(equal_height=True):
            self.aspect = gr.Dropdown([("all aspects", ALL)], value=ALL, label="Aim for", min_width=160)
            self.target = gr.Number(
                TARGET, minimum=0.001, maximum=1, step=0.01, label="Half of the interval's width (±)", min_width=160
            )
            self.set = gr.Button("Set the aim", min_width=120, elem_classes="rv-press")
        self.fields = [self.card, self.together, self.couples, self.stop, self.aspect, self.target]

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something."""
        lock.on(self.card.input, self._by_card, [project, self.card], [self.together, self.couples])
        lock.on(self.set.click, self._aim, [project, self.aspect, self.target], [self.stop])

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        import gradio as gr

        failed = self.figures.fresh()
        found = self.figures.quality.agreement(held.project.name)
        versions = [(one.label, one.label) for one in self.figures.service.projects.guidelines(held.id)]
        aspects = sorted({entry["aspect"] for entry in found.alpha})
        aims = self._aims(held)
        return {
            self.card: gr.Dropdown([("all guidelines", ALL), *versions], value=ALL, visible=len(versions) > 1),
            self.together: show(failed, numbers.together(found)),
            self.couples: show(numbers.couples(found)),
            self.stop: self._stop(held),
            self.aspect: gr.Dropdown([("all aspects", ALL), *((one, one) for one in aspects)], value=ALL),
            self.target: aims.get(ALL, TARGET),
        }

    def _by_card(self, who: Person, project: object, card: object) -> tuple[str, str]:
        held = chosen(self.figures.service, project)
        known = [one.label for one in self.figures.service.projects.guidelines(held.id)]
        self.figures.fresh()
        found = self.figures.quality.agreement(held.project.name, card=str(card) if card in known else None)
        return show(numbers.together(found)), show(numbers.couples(found))

    def _aim(self, who: Person, project: object, aspect: object, target: object) -> str:
        held = chosen(self.figures.service, project)
        wide = number(target, "half of the interval's width", 0.001, 1)
        self.figures.fresh()
        known = [entry["aspect"] for entry in self.figures.quality.agreement(held.project.name).alpha]
        aims = {**self._aims(held), str(aspect): wide} if aspect in known else {ALL: wide}
        self.figures.service.store.set(_aims_of(held), aims)
        return self._stop(held)

    def _aims(self, held: Held) -> dict[str, float]:
        """Half widths by aspect, as the reviewers have set them; under `ALL` that of the others."""
        return self.figures.service.store.setting(_aims_of(held)) or {}

    def _stop(self, held: Held) -> str:
        aims = self._aims(held)
        self.figures.fresh()
        found = self.figures.quality.agreement(held.project.name)
        by_aspect = {e["aspect"]: aims.get(e["aspect"], aims.get(ALL, TARGET)) for e in found.alpha}
        return show(numbers.stopping(self.figures.quality.stopping(held.project.name, by_aspect)))


def _aims_of(held: Held) -> str:
    return f"aim/{held.id}"


class PeopleTab:
    """Each person, and people beside judges."""

    def __init__(self, figures: Figures) -> None:
        import gradio as gr

        self.figures = figures
        self.table = gr.HTML(apply_default_css=False)
        self.fields = [self.table]

    def wire(self, lock: Locked, project: Any) -> None:
        """Nothing can be done here."""

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        failed, quality, name = self.figures.fresh(), self.figures.quality, held.project.name
        parts = [
            numbers.people(quality.gold(name), quality.times(name), skips(self.figures.service, held.id)),
            numbers.habits(quality.habits(name)),
            tag("h3", "People beside AI judges"),
            numbers.judges(quality.judges(name)),
        ]
        return {self.table: show(failed, parts)}


def skips(service: Service, project: int) -> dict[str, dict[str, int]]:
    """What each person has skipped and not labelled since: how often for which reason, by pseudonym."""
    mine = labels.c.project_id == project
    newest = select(func.max(labels.c.label_id)).where(mine).group_by(labels.c.task_id, labels.c.person_id)
    found = (
        select(people.c.pseudonym, labels.c.answer)
        .join(people, people.c.person_id == labels.c.person_id)
        .where(labels.c.label_id.in_(newest), labels.c.status == "skipped")
        .order_by(labels.c.label_id)
    )
    made: dict[str, dict[str, int]] = {}
    with service.store.read() as db:
        for row in db.execute(found):
            reasons = made.setdefault(row.pseudonym, {})
            reasons[row.answer["reason"]] = reasons.get(row.answer["reason"], 0) + 1
    return made


class GuidelinesTab:
    """What was labelled under which guidelines, and asking for it anew."""

    def __init__(self, figures: Figures) -> None:
        import gradio as gr

        self.figures = figures
        self.table = gr.HTML(apply_default_css=False)
        with gr.Column(visible=False) as self.again:
            with gr.Row(equal_height=True):
                self.version = gr.Dropdown([], label="Ask anew for the labels made under", min_width=220)
                self.person = gr.Dropdown([("everybody", ALL)], value=ALL, label="of", min_width=160)
                self.who = gr.Radio(
                    [("the same people, or others", "again"), ("other people only", "others")],
                    value="again",
                    label="by",
                )
            self.told = gr.HTML(apply_default_css=False)
            with gr.Row():
                self.look = gr.Button("How many are these?", min_width=160, elem_classes="rv-press")
                self.go = gr.Button(
                    "Take them back and ask anew", variant="stop", min_width=200, elem_classes="rv-press"
                )
        self.fields = [self.table, self.again, self.version, self.person, self.told]

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something: for admins."""
        chosen_part = [project, self.version, self.person]
        lock.on(self.look.click, self._count, chosen_part, [self.told], role="admin")
        lock.on(self.go.click, self._again, [*chosen_part, self.who], [self.told, self.table], role="admin")

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The tab's values for a project."""
        import gradio as gr

        known = self.figures.service.projects.guidelines(held.id)
        names = [(one.pseudonym, one.person_id) for one in self.figures.service.people.list()]
        old = [one.label for one in known if one.label != held.guideline]
        return {
            self.table: self._table(held),
            self.again: gr.Group(visible=who.may("admin")),
            self.version: gr.Dropdown([one.label for one in known], value=(old or [held.guideline])[0]),
            self.person: gr.Dropdown([("everybody", ALL), *names], value=ALL),
            self.told: "",
        }

    def _table(self, held: Held) -> str:
        failed = self.figures.fresh()
        known = self.figures.service.projects.guidelines(held.id)
        table = numbers.versions(self.figures.quality.versions(held.project.name), known, held.guideline)
        texts = [
            tag(
                "details",
                tag("summary", "What ", tag("bdi", one.label), " says"),
                tag("div", Html(guideline_html(one)), class_="guide"),  # sanitised there
            )
            for one in known
        ]
        return show(failed, table, join(*texts))

    def _part(self, project: object, version: object, person: object) -> tuple[Held, dict[str, Any]]:
        held = chosen(self.figures.service, project)
        if not isinstance(version, str) or not version:
            raise DataError("choose a version of the guidelines first")
        whose = person if isinstance(person, int) and not isinstance(person, bool) else None
        return held, {"guideline": version, "person_id": whose}

    def _count(self, who: Person, project: object, version: object, person: object) -> str:
        held, part = self._part(project, version, person)
        n = count(self.figures.service, who, held.id, **part)
        return show(tag("p", f"These are {n:,} labels; answers to gold questions and adjudications stay as they are."))

    def _again(self, who: Person, project: object, version: object, person: object, by: object) -> tuple[str, str]:
        held, part = self._part(project, version, person)
        done = requeue(self.figures.service, who, held.id, **part, again=by != "others")
        said = f"{done.labels:,} labels were taken back, and {done.places:,} places are open again."
        return show(tag("p", said)), self._table(held)


def chosen(service: Service, project: object) -> Held:
    """The project that the page names.

    Raises:
        DataError: there is none of that name.
    """
    if not isinstance(project, str) or not project:
        raise DataError("choose a project first")
    return service.projects.get(project)
