"""Who has passed a project's qualification round, and who may go on without having passed it."""

from __future__ import annotations

import os
from typing import Any

from ..accounts.people import Person
from ..work.projects import Held
from .admin_parts import Desk, Html, badge, heading, html, table, tag
from .lock import whole

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr


class Qualifying:
    """The part of the projects tab; hidden where a project has no such round.

    Args:
        desk: the service behind the lock.
    """

    def __init__(self, desk: Desk) -> None:
        self.service = desk.service
        with gr.Column(visible=False) as self.part:
            heading(
                "Qualification", "Who has fewer of the first gold questions right than the pass mark gets no tasks."
            )
            self.all = gr.HTML(padding=False)
            with gr.Row(equal_height=True, elem_classes="pa-bar", visible=False) as self.row:
                self.person = gr.Dropdown([], label="Who did not pass", scale=3, min_width=220, elem_id="pa-failed")
                self.go = gr.Button("Let go on anyway", size="sm", scale=1, min_width=150)
        self.shown = [self.part, self.all, self.row, self.person]

    def of(self, held: Held | None) -> list[Any]:
        """What is shown for a project; None: there is none."""
        if held is None or not held.project.qualify:
            return [gr.update(visible=False), "", gr.update(visible=False), gr.update(choices=[], value=None)]
        found = self.service.queue.standing(held.id)
        stuck = [(name, person) for person, name, _, done, of, passed, on in found if done >= of and not (passed or on)]
        rows = [
            (tag("b", name), f"{right:,} of {done:,}", f"{done:,} of {of:,}", _badge(done, of, passed, on))
            for _, name, right, done, of, passed, on in found
        ]
        heads = ("Person", "Right", "Answered", f"At least {held.project.pass_mark:.0%} right")
        told = table(heads, rows, numbers=(1, 2), empty="Nobody has answered a question of the round yet.")
        return [
            gr.update(visible=True),
            html(told),
            gr.update(visible=bool(stuck)),
            gr.update(choices=stuck, value=stuck[0][1] if len(stuck) == 1 else None),
        ]

    def let_on(self, who: Person, held: Held, person: object) -> None:
        """Let somebody who did not pass go on."""
        one = self.service.people.get(whole(person, "a person"))
        self.service.queue.let_on(who, held.id, one.person_id)
        gr.Info(f"{one.pseudonym} gets tasks of {held.project.name} from now on.")


def _badge(done: int, of: int, passed: bool, on: bool) -> Html:
    if on:
        return badge("let go on", "warn")
    if done < of:
        return badge("not done yet")
    return badge("passed", "good") if passed else badge("did not pass", "bad")
