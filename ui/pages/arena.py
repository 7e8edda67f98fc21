"""The arena page: a prompt, two anonymous answers that grow side by side, a vote, the models, the leaderboard.

Every event asks again who is there, since Gradio offers each of them to whoever can reach the page. What goes to the
browser is made of `Seen`, which has no model in it before the vote.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import TYPE_CHECKING, Any

from prefdata.errors import DataError, PrefdataError

from ..accounts.person import Person
from ..arena.arena import LONGEST, Arena
from ..arena.battles import Seen
from . import arena_html as shown

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

if TYPE_CHECKING:
    import gradio as gr

    from ..service import Service

ROLE = "annotator"
HEAD = '<link rel="stylesheet" href="../static/arena.css"><script src="../static/arena.js" defer></script>'
VOTES = (
    ("a", "Left", "1"),
    ("b", "Right", "2"),
    ("tie", "Tie", "3"),
    ("both_bad", "Both bad", "4"),
)

Work = Callable[..., AsyncIterator[dict[Any, Any]]]


def build(service: Service) -> gr.Blocks | None:
    """The page, to be mounted at `/arena`; None where no engines are configured.

    Args:
        service: what the page does; `service.arena` is an `Arena`, or None.
    """
    arena: Arena | None = getattr(service, "arena", None)
    if arena is None:
        return None
    import gradio as gr

    with gr.Blocks(title="Arena · prefdata", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(shown.INTRO, head=HEAD, padding=False, apply_default_css=False)
        with gr.Row(equal_height=False, elem_classes="ar-ask"):
            text = gr.Textbox(
                label="Your prompt",
                placeholder="Ask both models the same thing",
                lines=2,
                max_lines=12,
                max_length=LONGEST,
                scale=5,
                min_width=240,
                elem_id="ar-prompt",
            )
            ask = gr.Button("Ask both", variant="primary", scale=0, min_width=120, elem_id="ar-ask")
        battle = gr.Textbox("", visible=False)
        asked = gr.HTML("", padding=False, apply_default_css=False, elem_id="ar-asked")
        with gr.Row(elem_classes="ar-panes"):
            panes = [
                gr.HTML("", visible=False, padding=False, apply_default_css=False, elem_id=f"ar-pane-{side}")
                for side in ("left", "right")
            ]
        said = gr.HTML(shown.said(None), padding=False, apply_default_css=False, elem_id="ar-said")
        with gr.Row(elem_classes="ar-votes", visible=False) as row:
            votes = [
                gr.Button(f"{name} ({key})", interactive=False, min_width=120, elem_id=f"ar-vote-{choice}")
                for choice, name, key in VOTES
            ]
        board = gr.HTML("", padding=False, apply_default_css=False, elem_id="ar-board")
        _wire(_Page(service, arena, text, battle, asked, panes, said, row, votes, board), page, ask)
    made: gr.Blocks = page
    return made


class _Page:
    """The components, and what events make of them."""

    def __init__(
        self,
        service: Service,
        arena: Arena,
        text: Any,
        battle: Any,
        asked: Any,
        panes: list[Any],
        said: Any,
        row: Any,
        votes: list[Any],
        board: Any,
    ) -> None:
        self.service, self.arena = service, arena
        self.text, self.battle, self.asked, self.panes = text, battle, asked, panes
        self.said, self.row, self.votes, self.board = said, row, votes, board

    @property
    def stage(self) -> list[Any]:
        """Everything that a battle changes."""
        return [self.battle, self.asked, *self.panes, self.said, self.row, *self.votes]

    def show(self, now: Seen) -> dict[Any, Any]:
        """A battle as the browser is to show it."""
        import gradio as gr

        sides = zip(self.panes, shown.sides(now), strict=True)
        return {
            self.battle: now.battle,
            self.asked: shown.asked(now),
            **{pane: gr.HTML(html, visible=True) for pane, html in sides},
            self.said: shown.said(now),
            self.row: gr.Row(visible=now.state != "voted"),
            **{button: gr.Button(interactive=now.state == "ready") for button in self.votes},
        }

    async def watch(self, who: Person, battle: str) -> AsyncIterator[dict[Any, Any]]:
        """The answers while they grow."""
        async for now in self.arena.stream(who, battle):
            # Laying out takes time, which others' answers must not wait for.
            yield await asyncio.to_thread(self.show, now)

    async def load(self, who: Person) -> AsyncIterator[dict[Any, Any]]:
        """The leaderboard, and the battle that was going on when the page was left."""
        yield {self.board: await asyncio.to_thread(self._board)}
        now = self.arena.current(who)
        if now is not None:
            async for made in self.watch(who, now.battle):
                yield made

    async def start(self, who: Person, text: object) -> AsyncIterator[dict[Any, Any]]:
        """A new battle."""
        if not isinstance(text, str):
            raise DataError("write a prompt first")
        battle = self.arena.start(who, text)
        yield {self.text: "", **self.show(self.arena.seen(who, battle))}
        async for made in self.watch(who, battle):
            yield made

    def voting(self, choice: str) -> Work:
        """What a vote's button does."""

        async def vote(who: Person, battle: object) -> AsyncIterator[dict[Any, Any]]:
            now = await asyncio.to_thread(self.arena.vote, who, str(battle), choice)
            yield await asyncio.to_thread(self.show, now)
            yield {self.board: await asyncio.to_thread(self._board)}

        return vote

    def _board(self) -> str:
        return shown.board(self.arena.leaderboard())


def locked(service: Service, work: Work) -> Callable[..., Any]:
    """A handler that first asks who is there, and whose mistakes are sentences.

    Args:
        service: its `allowed` refuses whoever is not signed in.
        work: gets who asks and the inputs' values as the browser sent them; yields what changes.
    """
    import gradio as gr

    async def handler(request: gr.Request, *given: Any) -> AsyncIterator[dict[Any, Any]]:
        try:
            who = await asyncio.to_thread(service.allowed, request, ROLE)
            async for made in work(who, *given):
                yield made
        except PrefdataError as error:  # Gradio shows this as HTML
            raise gr.Error(escape(str(error)), title="This did not work", print_exception=False) from error

    # Gradio looks for what to pass by type; gradio is imported here only.
    handler.__annotations__ = {"request": gr.Request}
    handler.__name__ = getattr(work, "__name__", "handler")
    return handler


def _wire(view: _Page, page: Any, ask: Any) -> None:
    def on(event: Any, work: Work, inputs: list[Any], outputs: list[Any]) -> None:
        event(
            locked(view.service, work),
            inputs,
            outputs,
            preprocess=False,  # Gradio would check values against a session that a new server does not know
            api_visibility="private",
            show_progress="hidden",
            concurrency_limit=None,  # one person's long answers must not keep the others waiting
        )

    on(page.load, view.load, [], [*view.stage, view.board])
    for event in (ask.click, view.text.submit):
        on(event, view.start, [view.text], [view.text, *view.stage])
    for button, (choice, _, _) in zip(view.votes, VOTES, strict=True):
        on(button.click, view.voting(choice), [view.battle], [*view.stage, view.board])
