"""The review page: live quality of a project, what people disagree on, ask and report. For reviewers and admins.

Each tab is computed when it is opened. Numbers are those of the report: labels are pulled into the dataset first, and
what was computed is kept until the next commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..accounts.person import Person
from ..work.projects import Held
from .lock import Locked
from .review_asked import FlagsTab, QuestionsTab
from .review_disputes import DisputesTab
from .review_figures import STYLE, AgreementTab, Figures, GuidelinesTab, PeopleTab, chosen, show
from .review_numbers import empty

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

if TYPE_CHECKING:
    import gradio as gr

    from ..service import Service


def build(service: Service) -> gr.Blocks:
    """The review page, to be mounted at `/review`.

    Args:
        service: what the page does.
    """
    import gradio as gr

    lock = Locked(service)
    with gr.Blocks(title="Review · prefdata", fill_width=True, analytics_enabled=False) as page:
        with gr.Row(equal_height=True):
            project = gr.Dropdown([], label="Project", scale=4, min_width=200)
            again = gr.Button("Refresh", scale=0, min_width=110, elem_classes="rv-press")
        nothing = gr.HTML(visible=False, head=STYLE, apply_default_css=False)
        now = gr.Textbox("0", visible=False)  # which tab is open, as the browser knows it
        tabs = []
        with gr.Tabs() as all_tabs:
            for name, maker in _tabs(service):
                with gr.Tab(name) as door:
                    tabs.append((door, maker()))
        _wire(service, lock, (page, project, again, nothing, now, all_tabs), tabs)
    made: gr.Blocks = page
    return made


class Tab(Protocol):
    """A tab: made among Gradio's components, filled when it is opened."""

    fields: list[Any]
    """The components that `fill` may set."""

    def wire(self, lock: Locked, project: Any) -> None:
        """Let the fields do something; `project` is the component that names the project."""

    def fill(self, who: Person, held: Held) -> dict[Any, Any]:
        """The values of fields for a project."""


def _tabs(service: Service) -> Sequence[tuple[str, Callable[[], Tab]]]:
    figures = Figures(service)
    return (
        ("Agreement", lambda: AgreementTab(figures)),
        ("People", lambda: PeopleTab(figures)),
        ("Disagreements", lambda: DisputesTab(service)),
        ("Questions", lambda: QuestionsTab(service)),
        ("Reports", lambda: FlagsTab(service)),
        ("Guidelines", lambda: GuidelinesTab(figures)),
    )


def _wire(service: Service, lock: Locked, tops: tuple[Any, ...], tabs: Sequence[tuple[Any, Tab]]) -> None:
    import gradio as gr

    page, project, again, nothing, now, all_tabs = tops
    fields = [field for _, tab in tabs for field in tab.fields]

    def show_tab(who: Person, name: object, at: object) -> dict[Any, Any]:
        """What the open tab shows of a project."""
        place = int(at) if isinstance(at, str) and at.isdecimal() and int(at) < len(tabs) else 0
        return tabs[place][1].fill(who, chosen(service, name))

    def load(who: Person, name: object, at: object) -> dict[Any, Any]:
        """The projects there are, and the open tab for the chosen one."""
        known = [held.project.name for held in service.projects.list()]
        if not known:
            say = "There is no project yet: an admin sets one up on the Admin page, or with `prefdata tasks create`."
            return {nothing: gr.HTML(show(empty(say)), visible=True), all_tabs: gr.Tabs(visible=False)}
        name = name if name in known else known[0]
        tops = {
            project: gr.Dropdown(known, value=name),
            nothing: gr.HTML(visible=False),
            all_tabs: gr.Tabs(visible=True),
        }
        return {**tops, **show_tab(who, name, at)}

    lock.on([page.load, again.click], load, [project, now], [project, nothing, all_tabs, *fields])
    lock.on(project.input, show_tab, [project, now], fields)
    for place, (door, tab) in enumerate(tabs):

        def open_tab(who: Person, name: object, place: int = place, tab: Tab = tab) -> dict[Any, Any]:
            """Open a tab."""
            return {now: str(place), **(tab.fill(who, chosen(service, name)) if name else {})}

        lock.on(door.select, open_tab, [project], [now, *tab.fields])
        tab.wire(lock, project)
