"""What the tabs of the admin page share: the lock before every event, questions before what cannot be undone, HTML."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefdata.report.markup import Child, Html, join, tag

from .lock import Locked

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

if TYPE_CHECKING:
    from ..service import Service

Handler = Callable[..., Any]


class Desk:
    """What a tab needs: the service behind the lock, and where uploads lie.

    Args:
        service: the application.
    """

    def __init__(self, service: Service) -> None:
        from gradio import utils

        self.service = service
        self.lock = Locked(service, "admin")
        self.on = self.lock.on
        self.uploads = Path(utils.get_upload_folder())
        self.loads: list[tuple[Handler, list[Any]]] = []

    def at_load(self, handler: Handler, outputs: list[Any]) -> None:
        """Run a handler, which gets who asks, when somebody opens the page."""
        self.loads.append((handler, outputs))

    def confirmed(
        self,
        button: gr.Button,
        ask: Handler,
        do: Handler,
        inputs: list[Any],
        outputs: list[Any],
        yes: str,
        variant: Literal["stop", "primary"] = "stop",
    ) -> None:
        """Let a button ask before it does something.

        Args:
            button: to press.
            ask: gets who asks and the inputs; the question, or an error if there is nothing to do.
            do: gets who asks and the inputs; a list of what goes into the outputs.
            inputs: components; a change of one of them takes the question back.
            outputs: components.
            yes: what the button below the question says.
            variant: stop for what cannot be undone.
        """
        with gr.Column(visible=False, elem_classes=f"pa-ask pa-ask-{variant}") as group:
            question = gr.HTML(padding=False)
            with gr.Row():
                agree = gr.Button(yes, variant=variant, size="sm", min_width=120)
                leave = gr.Button("Leave it", size="sm", min_width=120)
        hidden = gr.update(visible=False)
        self.on(
            button.click,
            lambda who, *given: [html(tag("p", ask(who, *given))), gr.update(visible=True)],
            inputs,
            [question, group],
        )
        self.on(agree.click, lambda who, *given: [*do(who, *given), hidden], inputs, [*outputs, group])
        self.on([leave.click, *(one.input for one in inputs)], lambda who: hidden, [], [group])


def html(*parts: Child) -> str:
    """Escaped, in the look of the page."""
    return str(tag("div", *parts, class_="pa"))


def notice(*parts: Child, kind: str = "") -> str:
    """A sentence in a box; kind: good, warn or nothing."""
    return html(tag("p", *parts, class_=f"pa-notice pa-{kind}" if kind else "pa-notice"))


def table(heads: Sequence[str], rows: Sequence[Sequence[Child]], numbers: Sequence[int] = (), empty: str = "") -> Html:
    """A table that can be pushed sideways on a phone.

    Args:
        heads: of the columns.
        rows: cells.
        numbers: columns that are numbers, which stand at the right.
        empty: what is said where there is no row.
    """
    if not rows:
        return tag("p", empty, class_="pa-soft")
    kinds = ["pa-number" if place in numbers else None for place in range(len(heads))]
    head = tag("tr", [tag("th", name, scope="col", class_=kind) for name, kind in zip(heads, kinds, strict=True)])
    body = [tag("tr", [tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)]) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body)), class_="pa-table", tabindex="0")


def badge(word: str, kind: str = "") -> Html:
    """A word that says how something stands."""
    return tag("span", word, class_=f"pa-badge pa-{kind}" if kind else "pa-badge")


def heading(title: str, help: str = "") -> None:
    """A heading of a part of the page, with a line on what it is for."""
    gr.HTML(html(tag("h2", title), tag("p", help, class_="pa-soft") if help else None), padding=False)


def count(number: int, one: str, many: str = "") -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def day(seconds: float) -> str:
    """A time of the store, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def words(text: object) -> list[str]:
    """Words between commas or line ends; a list as it is."""
    if isinstance(text, list):
        return [str(one) for one in text]
    return [word for part in str(text or "").splitlines() for one in part.split(",") if (word := one.strip())]


__all__ = ["Desk", "Html", "badge", "count", "day", "heading", "html", "join", "notice", "table", "tag", "words"]
