"""The people tab: accounts, invitation links that are shown once, and who is paused or stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from prefdata.errors import DataError
from prefdata.report.markup import Child

from ..accounts.people import RANKS, Person
from ..work import management
from .admin_parts import Desk, Html, badge, count, day, heading, html, table, tag, words
from .lock import number, whole

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

_MOST = 100
"""People that are added at once."""

_KINDS = {"active": "good", "paused": "warn", "stopped": "bad"}

_FATES = [
    ("keep them", "keep"),
    ("take them out of the dataset", "exclude"),
    ("take them out, and let others label the tasks", "requeue"),
]


class PeopleTab:
    """Draws the tab."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.service = desk, desk.service
        self.here = gr.Textbox(visible="hidden", elem_id="pa-here")
        self.all = gr.HTML(padding=False)
        with gr.Row(equal_height=False, elem_classes="pa-columns"):
            with gr.Column(min_width=320):
                self._draw_new()
            with gr.Column(min_width=320):
                self._draw_one()
        self._wire()

    def _draw_new(self) -> None:
        heading("Invite", "No e-mail is sent: give each person their link. It works once, for 14 days.")
        self.names = gr.Textbox(
            label="Pseudonyms", info="With commas. None: ann-01, ann-02, ... Exports show these, never names.", lines=1
        )
        with gr.Row():
            self.many = gr.Number(1, label="How many", info="If no pseudonym is given.", precision=0, min_width=140)
            self.role = gr.Radio(list(RANKS), value="annotator", label="Role", min_width=240)
        with gr.Accordion("Groups, skills, pay", open=False), gr.Column():
            self.groups = gr.Textbox(label="Groups", info="With commas; a project can be for a group.")
            self.skills = gr.Textbox(label="Skills and languages", info="With commas: de, law. A task can ask for one.")
            self.pay = gr.Number(None, label="Pay an hour", info="In your currency; for the tab Hours.")
        self.invite = gr.Button("Make invitation links", variant="primary", elem_id="pa-invite")
        self.links = gr.Textbox(
            label="Links: copy them now, they are not shown again",
            lines=3,
            max_lines=12,
            visible=False,
            buttons=["copy"],
        )

    def _draw_one(self) -> None:
        heading("Change")
        self.who = gr.Dropdown([], label="Person", elem_id="pa-person")
        with gr.Column(visible=False) as self.card:
            self.its_role = gr.Radio(list(RANKS), label="Role")
            self.its_groups = gr.Textbox(label="Groups")
            self.its_skills = gr.Textbox(label="Skills and languages")
            self.its_pay = gr.Number(label="Pay an hour")
            with gr.Row():
                self.save = gr.Button("Save", variant="primary", size="sm", min_width=90)
                self.pause = gr.Button("Pause", size="sm", min_width=90)
                self.resume = gr.Button("Let go on", size="sm", min_width=90)
                self.reset = gr.Button("New link", size="sm", min_width=90)
            self.asked_reset = gr.Column()
            self.link = gr.Textbox(
                label="Link: copy it now, it is not shown again", visible=False, buttons=["copy"], lines=2
            )
            with gr.Accordion("Stop this person", open=False), gr.Column():
                self.fate = gr.Radio(_FATES, value="keep", label="Their labels")
                self.stop = gr.Button("Stop", variant="stop", size="sm")
                self.asked_stop = gr.Column()

    def _wire(self) -> None:
        on = self.desk.on
        its = [self.its_role, self.its_groups, self.its_skills, self.its_pay]
        self.shown = [self.all, self.who, self.card, *its, self.link, self.pause, self.resume, self.reset]
        self.desk.at_load(lambda who: self._of(None), self.shown)
        on(self.who.input, lambda who, number: self._of(number), [self.who], self.shown)
        new = [self.names, self.many, self.role, self.groups, self.skills, self.pay]
        on(self.invite.click, self._invite, [self.here, *new], [self.links, self.names, *self.shown])
        on(self.save.click, self._save, [self.who, *its], self.shown)
        on(self.pause.click, self._pause, [self.who], self.shown)
        on(self.resume.click, self._resume, [self.who], self.shown)
        with self.asked_reset:
            self.desk.confirmed(
                self.reset, self._ask_reset, self._reset, [self.here, self.who], self.shown, "Make a new link"
            )
        with self.asked_stop:
            self.desk.confirmed(
                self.stop, self._ask_stop, self._stop, [self.who, self.fate], self.shown, "Stop this person"
            )

    def at_load(self, page: gr.Blocks) -> None:
        """Note the page's address, which only the browser knows: a proxy may show it under another one than ours."""
        page.load(None, None, [self.here], js="() => window.location.href", api_visibility="private")

    def refresh(self, tab: gr.Tab) -> None:
        """Make anew what is shown whenever the tab is opened."""
        self.desk.on(tab.select, lambda who, number: self._of(number), [self.who], self.shown)

    # What is shown

    def _of(self, person: object, link: str = "") -> list[Any]:
        people = self.service.people.list()
        one = next((one for one in people if one.person_id == person), None)
        choices = [(f"{each.pseudonym} ({each.role})", each.person_id) for each in people]
        its: list[Any] = ["annotator", "", "", None]
        if one is not None:
            its = [one.role, ", ".join(one.groups), ", ".join(one.skills), one.pay]
        return [
            _all(people, management.done_by(self.service, None)),
            gr.update(choices=choices, value=one.person_id if one else None),
            gr.update(visible=one is not None),
            *its,
            gr.update(value=link, visible=bool(link)),
            gr.update(interactive=one is not None and one.state == "active"),
            gr.update(interactive=one is not None and one.state != "active"),
            gr.update(interactive=one is not None and one.state != "stopped"),
        ]

    # What is done

    def _invite(self, who: Person, here: object, *given: Any) -> list[Any]:
        names, many, role, groups, skills, pay = given
        wanted: list[str | None] = [*words(names)]
        wanted = wanted or [None] * int(number(many, "how many", 1, _MOST))
        if len(wanted) > _MOST:
            raise DataError(f"{len(wanted):,} pseudonyms; at most {_MOST} people are added at once")
        lines = []
        try:
            for name in wanted:
                added = self.service.people.add(
                    name, role=str(role), groups=words(groups), skills=words(skills), pay=_pay(pay), by=who
                )
                lines.append(f"{added.pseudonym}: {link(here, self.service.people.invite(added.person_id))}")
        except DataError as error:
            if not lines:
                raise
            gr.Warning(html(f"{count(len(lines), 'person was', 'people were')} added, then: {error}"))
        shown = gr.update(value="\n".join(lines), visible=True, lines=min(max(len(lines), 2), 12))
        return [shown, "", *self._of(None)]

    def _one(self, person: object) -> Person:
        return self.service.people.get(whole(person, "a person"))

    def _save(self, who: Person, person: object, role: Any, groups: Any, skills: Any, pay: Any) -> list[Any]:
        one = self._one(person)
        self.service.people.set(
            one.person_id, role=str(role), groups=words(groups), skills=words(skills), pay=_pay(pay), by=who
        )
        gr.Info(f"Saved: {one.pseudonym}.")
        return self._of(one.person_id)

    def _pause(self, who: Person, person: object) -> list[Any]:
        one = self._one(person)
        taken = management.pause_person(self.service, who, one.person_id)
        back = " The task that they had goes to others." if taken.places else ""
        gr.Info(f"{one.pseudonym} gets no tasks for now.{back}")
        return self._of(one.person_id)

    def _resume(self, who: Person, person: object) -> list[Any]:
        one = self._one(person)
        self.service.people.set(one.person_id, state="active", by=who)
        gr.Info(f"{one.pseudonym} gets tasks again.")
        return self._of(one.person_id)

    def _ask_reset(self, who: Person, here: object, person: object) -> str:
        one = self._one(person)
        return (
            f"Make a new link for {one.pseudonym}? The password that they have and links made before stop working, and "
            "they are signed out."
        )

    def _reset(self, who: Person, here: object, person: object) -> list[Any]:
        one = self._one(person)
        return self._of(one.person_id, link(here, self.service.people.reset(one.person_id)))

    def _ask_stop(self, who: Person, person: object, fate: object) -> str:
        one = self._one(person)
        found = management.labels_of(self.service, who, one.person_id)
        what = {
            "keep": f"Their {count(found, 'label')} stay in the dataset.",
            "exclude": f"Their {count(found, 'label')} leave the dataset; the tasks count as done.",
            "requeue": f"Their {count(found, 'label')} leave the dataset, and others label the tasks.",
        }
        if not found:
            return f"Stop {one.pseudonym}? They can no longer sign in. They have made no label."
        return f"Stop {one.pseudonym}? They can no longer sign in. {what.get(str(fate), '')}"

    def _stop(self, who: Person, person: object, fate: object) -> list[Any]:
        one = self._one(person)
        taken = management.stop_person(self.service, who, one.person_id, str(fate))
        gr.Info(
            f"{one.pseudonym} was stopped. {count(taken.labels, 'label')} taken back, {count(taken.places, 'place')} "
            "open again."
        )
        return self._of(one.person_id)


def link(here: object, secret: str) -> str:
    """The address of an invitation, as the browser that is asking would open it.

    Args:
        here: the address of the admin page, as the browser says it.
        secret: what the invitation is.
    """
    parts = urlsplit(str(here or ""))
    root = parts.path.rpartition("/admin")[0]
    base = f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else ""
    return f"{base}{root}/invite/{secret}"


def _pay(given: object) -> float | None:
    return None if given in (None, "") else number(given, "pay an hour", 0, 1e6)


def _all(people: tuple[Person, ...], done: Mapping[int, management.Done]) -> str:
    rows = [
        (
            tag("b", one.pseudonym),
            tag("bdi", one.login or ""),
            one.role,
            _state(one),
            *_done(done.get(one.person_id)),
            ", ".join(one.groups),
            ", ".join(one.skills),
            "" if one.pay is None else f"{one.pay:,.2f}",
        )
        for one in people
    ]
    heads = ("Pseudonym", "Sign-in name", "Role", "State", "Labels", "Today (UTC)", "Last label")
    return html(table((*heads, "Groups", "Skills", "Pay"), rows, numbers=(4, 5, 9)))


def _done(found: management.Done | None) -> tuple[Child, ...]:
    if found is None:
        return ("0", "0", "")
    return (f"{found.labels:,}", f"{found.today:,}", tag("span", day(found.last), class_="pa-when"))


def _state(one: Person) -> Html:
    if one.login is None and one.state == "active":
        return badge("invited")
    return badge(one.state, _KINDS[one.state])


def build(desk: Desk) -> PeopleTab:
    """Draw the tab."""
    return PeopleTab(desk)
