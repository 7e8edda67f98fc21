"""The projects tab: how far each is, open or paused, its guidelines over time, and labels to be made anew."""

from __future__ import annotations

import os
from typing import Any

from prefdata.errors import PrefdataError

from ..accounts.people import Person
from ..work import management, uploads
from ..work.projects import Held
from .admin_parts import Desk, Html, badge, count, day, heading, html, join, notice, table, tag
from .admin_qualifying import Qualifying
from .lock import whole

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

STATES = {"open": "good", "paused": "warn", "closed": ""}
_ALL = 0
"""In place of a person's number: everybody."""


class ProjectsTab:
    """Draws the tab; what it shows is made anew whenever the tab is opened."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.service = desk, desk.service
        with gr.Row(equal_height=True, elem_classes="pa-bar"):
            self.which = gr.Dropdown([], label="Project", scale=3, min_width=220)
            self.open = gr.Button("Open", size="sm", scale=1, min_width=90)
            self.pause = gr.Button("Pause", size="sm", scale=1, min_width=90)
            self.close = gr.Button("Close", size="sm", scale=1, min_width=90)
            self.add = gr.Button("Add tasks for new prompts", size="sm", scale=2, min_width=180)
        self.asked_close = gr.Column()
        self.far = gr.HTML(padding=False)
        self.qualifying = Qualifying(self.desk)
        heading(
            "Guidelines", "Every label says under which version it was made. New ones are read before the next task."
        )
        self.versions = gr.HTML(padding=False)
        with gr.Accordion("Change the guidelines", open=False), gr.Column():
            with gr.Row():
                self.card = gr.Dropdown([("as it is", "")], value="", label="Card", min_width=220)
                self.own = gr.UploadButton("Upload a card (YAML)", file_types=list(uploads.CARDS), size="sm")
            self.own_told = gr.HTML(padding=False)
            self.text = gr.Textbox(label="Text in Markdown, beside the card", lines=6, max_lines=30)
            self.change = gr.Button("Let these hold from now on", variant="primary")
            self.changed = gr.Column()
        with gr.Accordion("Have labels made anew", open=False), gr.Column():
            gr.HTML(
                html(
                    tag(
                        "p",
                        "The labels leave the dataset, and their tasks are handed out again. The store keeps them, and "
                        "the time that they took is paid. Gold questions and adjudications stay.",
                        class_="pa-soft",
                    )
                ),
                padding=False,
            )
            with gr.Row():
                self.version = gr.Dropdown([("any", "")], value="", label="Made under", min_width=220)
                self.person = gr.Dropdown([("anybody", _ALL)], value=_ALL, label="Made by", min_width=220)
                self.again = gr.Radio(
                    [("the same people may", "same"), ("only other people", "others")],
                    value="same",
                    label="Who labels them again",
                    min_width=220,
                )
            self.requeue = gr.Button("Have these labels made anew", variant="secondary")
            self.asked = gr.Column()
        self.shown = [self.which, self.far, self.versions, self.card, self.text, self.version, self.person]
        self.shown += [self.open, self.pause, self.close, self.add, *self.qualifying.shown]
        self._wire()

    def _wire(self) -> None:
        on, chosen = self.desk.on, [self.which]
        self.desk.at_load(lambda who: self._of(None), self.shown)
        on(self.which.input, lambda who, name: self._of(name), chosen, self.shown)
        for button, state in ((self.open, "open"), (self.pause, "paused")):
            on(button.click, self._to(state), chosen, self.shown)
        on(self.add.click, self._add, chosen, self.shown)
        on(self.qualifying.go.click, self._let_on, [self.which, self.qualifying.person], self.shown)
        on(self.own.upload, self._take_card, [self.own], [self.own, self.card, self.own_told])
        told = [self.which, self.card, self.text]
        with self.changed:
            self.desk.confirmed(
                self.change, self._ask_change, self._change, told, self.shown, "Let them hold", "primary"
            )
        with self.asked_close:
            self.desk.confirmed(
                self.close, self._ask_close, self._to("closed"), chosen, self.shown, "Close the project", "primary"
            )
        picked = [self.which, self.version, self.person, self.again]
        with self.asked:
            self.desk.confirmed(self.requeue, self._ask_anew, self._anew, picked, self.shown, "Take them back")

    def refresh(self, tab: gr.Tab) -> None:
        """Make anew what is shown whenever the tab is opened."""
        self.desk.on(tab.select, lambda who, name: self._of(name), [self.which], self.shown)

    # What is shown

    def _of(self, number: object) -> list[Any]:
        known = self.service.projects.list()
        held = next((one for one in known if one.id == number), known[-1] if known else None)
        names = [(one.project.name, one.id) for one in known]
        which = gr.update(choices=names, value=held.id if held else None)
        people = [("anybody", _ALL), *((one.pseudonym, one.person_id) for one in self.service.people.list())]
        cards = [("as it is", ""), *self._cards()]
        if held is None:
            empty = notice("There is no project yet: make one on the tab Set-up.")
            return [
                which,
                empty,
                "",
                gr.update(choices=cards),
                "",
                gr.update(),
                gr.update(choices=people),
                *self._may(""),
                *self.qualifying.of(None),
            ]
        versions = management.overview(self.service, None, held.id)
        labels = [("any", ""), *((_version(one), one.label) for one in reversed(versions))]
        text = next(one.text for one in self.service.projects.guidelines(held.id) if one.label == held.guideline)
        return [
            which,
            progress(held, self.service.projects.progress(held.id)),
            self._versions(versions),
            gr.update(choices=cards, value=""),
            text.rstrip("\n"),
            gr.update(choices=labels, value=""),
            gr.update(choices=people, value=_ALL),
            *self._may(held.state),
            *self.qualifying.of(held),
        ]

    def _may(self, state: str) -> list[Any]:
        """Which buttons mean something for a project in this state; empty: there is none."""
        return [gr.update(interactive=bool(state) and state != other) for other in ("open", "paused", "closed", "-")]

    def _cards(self) -> list[tuple[str, str]]:
        from prefdata.cards import shipped_cards

        own = uploads.kept(self.service.dataset.path, "card")
        return [*((name, name) for name in shipped_cards()), *((f"{name} (yours)", key) for key, name in own.items())]

    def _versions(self, versions: tuple[management.Version, ...]) -> str:
        rows = [
            (
                join(tag("code", one.label), badge("holds now", "good") if one.holds else None),
                tag("span", day(one.created_at), class_="pa-when"),
                f"{one.labels:,}",
                ", ".join(one.people) or "nobody",
                ", ".join(one.read_by) or "nobody",
            )
            for one in reversed(versions)
        ]
        return html(table(("Version", "Since", "Labels", "Made by", "Read by"), rows, numbers=(2,)))

    # What is done

    def _to(self, state: str) -> Any:
        def set_state(who: Person, number: object) -> list[Any]:
            held = self._held(number)
            self.service.projects.set_state(who, held.id, state)
            gr.Info(f"{held.project.name} is {state}.")
            return self._of(held.id)

        return set_state

    def _held(self, number: object) -> Held:
        return self.service.projects.get(whole(number, "a project"))

    def _ask_close(self, who: Person, number: object) -> str:
        return (
            f"Close {self._held(number).project.name}? It disappears from everybody's page; all labels "
            "stay, and it can be opened again."
        )

    def _add(self, who: Person, number: object) -> list[Any]:
        held = self._held(number)
        _, added = self.service.projects.create(held.project.model_dump(mode="json"), by=who)
        if added:
            gr.Info(f"{count(added, 'task')} added to {held.project.name}.")
        else:
            gr.Warning(
                "No task was added: the dataset has no prompt that is new to this project. Upload some (Set-up)."
            )
        return self._of(held.id)

    def _let_on(self, who: Person, number: object, person: object) -> list[Any]:
        held = self._held(number)
        self.qualifying.let_on(who, held, person)
        return self._of(held.id)

    def _take_card(self, who: Person, sent: object) -> list[Any]:
        from prefdata.cards import load_card

        try:
            with uploads.received(sent, self.desk.uploads, uploads.CARDS) as path:
                label = load_card(str(path)).label
                name = uploads.keep(self.service.dataset.path, path, "card")
        except PrefdataError as error:
            return [None, gr.update(), notice(tag("b", "This file was not taken. "), str(error), kind="bad")]
        told = notice(f"The card {label} is chosen; it holds once you let it.", kind="good")
        return [None, gr.update(choices=[("as it is", ""), *self._cards()], value=name), told]

    def _ask_change(self, who: Person, number: object, card: object, text: object) -> str:
        held = self._held(number)
        return (
            f"Let these guidelines hold in {held.project.name}? Everybody reads them before the next task. Labels that "
            "were made until now stay, and say that they were made under the old ones."
        )

    def _change(self, who: Person, number: object, card: object, text: object) -> list[Any]:
        held = self._held(number)
        path = uploads.card_of(self.service.dataset.path, card) if card else ""
        label = self.service.projects.change_guidelines(who, held.id, card=path, text=uploads.literal(text))
        if label == held.guideline:
            gr.Warning("These are the guidelines that hold already.")
        else:
            gr.Info(f"{label} holds now.")
        return self._of(held.id)

    def _ask_anew(self, who: Person, number: object, version: object, person: object, again: object) -> str:
        held, given = self._held(number), _given(version, person)
        found = management.count(self.service, who, held.id, **given)
        if not found:
            return "There is no such label. Nothing would change."
        whom = "The same people may label them again." if again == "same" else "Only other people get them."
        return (
            f"{count(found, 'label')} of {held.project.name} would leave the dataset, and the tasks open again. {whom}"
        )

    def _anew(self, who: Person, number: object, version: object, person: object, again: object) -> list[Any]:
        held = self._held(number)
        taken = management.requeue(self.service, who, held.id, **_given(version, person), again=again == "same")
        gr.Info(f"{count(taken.labels, 'label')} taken back, {count(taken.places, 'place')} open again.")
        return self._of(held.id)


def _given(version: object, person: object) -> dict[str, Any]:
    number = whole(person, "a person")
    return {"guideline": str(version) if version else None, "person_id": number if number != _ALL else None}


def _version(one: management.Version) -> str:
    return f"{one.label} ({count(one.labels, 'label')}{', holds now' if one.holds else ''})"


def progress(held: Held, far: dict[str, int]) -> str:
    """How far a project is: a bar and the numbers beside it."""
    share = min(far["labels"] / far["wanted"], 1.0) if far["wanted"] else 0.0
    project = held.project
    facts = [
        count(far["tasks"], "task"),
        f"{far['open']:,} to be handed out",
        f"{far['leased']:,} being worked on",
        f"{far['skipped']:,} skipped",
        f"{far['withdrawn']:,} withdrawn",
        count(far["people"], "person", "people"),
        *([f"{far['gold_labels']:,} answers to {count(far['gold'], 'gold question')}"] if far["gold"] else []),
    ]
    head = [tag("b", project.name), badge(held.state, STATES[held.state]), badge(project.protocol)]
    done = f"{far['labels']:,} of {far['wanted']:,} labels"
    return html(
        tag("p", head, class_="pa-head"),
        tag("div", _bar(share), class_="pa-progress", role="img", aria_label=f"{share:.0%}: {done}"),
        tag("p", tag("b", f"{share:.0%}"), f" · {done} · ", " · ".join(facts), class_="pa-soft"),
    )


def _bar(share: float) -> Html:
    return tag("span", "", style=f"width: {share:.1%}")


def build(desk: Desk) -> ProjectsTab:
    """Draw the tab."""
    return ProjectsTab(desk)
