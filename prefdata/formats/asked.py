"""What the tasks for a labelling tool ask: the controls that its interface must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdata.formats.answers import PROMPT, Control, answers_of
from prefdata.formats.labelling import Task

QUESTIONS = {
    "compare": "Which response is better?",
    "rank": "Put the responses in order, the best first.",
    "score": "How good is it?",
    "label": "Which of these hold?",
    "text": "Why?",
    "spans": "Mark passages.",
}


@dataclass
class Asked:
    """What the tasks of one project ask.

    Attributes:
        responses: the most that a task shows.
        controls: with all the answers that the tasks hold.
    """

    responses: int
    controls: dict[Control, list[Any]] = field(default_factory=dict)

    def object_of(self, control: Control) -> str:
        """The name of what a control is about."""
        if control.kind == "rank":
            return "responses"
        if control.place == PROMPT or not self.responses:
            return "prompt"
        return f"response_{(control.place or 0) + 1}"

    def in_order(self) -> list[Control]:
        """The controls, as people go through them."""
        return sorted(self.controls, key=lambda one: (list(QUESTIONS).index(one.kind), one.aspect, one.place or 0))

    def labels(self, control: Control) -> list[str]:
        """The labels that some answer gives, in the order in which they are met."""
        values = self.controls[control]
        if control.kind == "spans":
            return list(dict.fromkeys(str(span["label"]) for value in values for span in value))
        return list(dict.fromkeys(str(label) for value in values for label in value))

    def title(self, control: Control) -> str:
        """What people read."""
        about = (
            "" if control.place is None else "prompt" if control.place == PROMPT else f"response {control.place + 1}"
        )
        return f"{control.aspect}{about and f' ({about})'}: {QUESTIONS[control.kind]}"


def asked_of(tasks: Sequence[Task]) -> Asked:
    """What tasks ask: whatever their annotations answer, and one question of their own where there are none.

    Args:
        tasks: at least one.
    """
    asked = Asked(max(len(task.responses) for task in tasks))
    for task in tasks:
        for row in task.annotations:
            for control, value in answers_of(row, task.places).items():
                asked.controls.setdefault(control, []).append(value)
    if not asked.controls:
        kind = {0: "text", 1: "score", 2: "compare"}.get(asked.responses, "rank")
        place = {"text": PROMPT, "score": 0}.get(kind)
        asked.controls[Control(kind, "overall", place)] = [5] if kind == "score" else []
    return asked
