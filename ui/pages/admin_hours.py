"""The tabs for hours and for back-up."""

from __future__ import annotations

import base64
import os
from typing import Any

from ..accounts.people import Person
from ..quality import hours as pay
from ..work import management
from .admin_parts import Desk, count, heading, html, notice, table, tag

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

_ALL = ""


class HoursTab:
    """Active minutes by person and week, and the file of them."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.service = desk, desk.service
        heading(
            "Hours by week",
            "Time at work: what goes beyond a project's idle cut-off without a touch is left out, and nobody's hours "
            "exceed those of the clock. Labels that were taken back count: they were work. Weeks begin on Monday, UTC.",
        )
        with gr.Row(equal_height=True, elem_classes="pa-bar"):
            self.project = gr.Dropdown([("all projects", _ALL)], value=_ALL, label="Project", min_width=220)
            self.file = gr.HTML(padding=False, min_height=40)
        self.all = gr.HTML(padding=False)
        shown = [self.project, self.all, self.file]
        desk.at_load(lambda who: self._of(_ALL), shown)
        desk.on(self.project.input, lambda who, name: self._of(name), [self.project], shown)
        self.shown = shown

    def refresh(self, tab: gr.Tab) -> None:
        """Make anew what is shown whenever the tab is opened."""
        self.desk.on(tab.select, lambda who, name: self._of(name), [self.project], self.shown)

    def _of(self, name: object) -> list[Any]:
        names = [held.project.name for held in self.service.projects.list()]
        chosen = str(name) if name in names else _ALL
        found = pay.hours(self.service.store, project=chosen or None)
        rows = [
            (
                tag("b", row["person"]),
                tag("span", row["week"], class_="pa-when"),
                worked(row["minutes"]),
                f"{row['labels']:,}",
                f"{row['corrections']:,}",
                f"{row['skips']:,}",
                "" if row["pay"] is None else f"{row['pay']:,.2f}",
                row["idle_cutoff_seconds"],
            )
            for row in found.sort("week", "person", descending=[True, False]).to_dicts()
        ]
        heads = ("Person", "Week", "Time", "Labels", "Corrections", "Skips", "Pay", "Idle cut-off (s)")
        # In the page itself: a file on the server could be asked for by others.
        content = base64.b64encode(pay.csv(found).encode()).decode()
        file = tag(
            "a",
            "Download as CSV",
            href=f"data:text/csv;charset=utf-8;base64,{content}",
            download="hours.csv",
            class_="pa-button",
        )
        return [
            gr.update(choices=[("all projects", _ALL), *((one, one) for one in names)], value=chosen),
            html(table(heads, rows, numbers=range(2, 8), empty="Nobody has worked yet.")),
            html(file) if rows else "",
        ]


def worked(minutes: float) -> str:
    """A time at work in hours and minutes; below a minute in seconds, since nobody worked for nothing."""
    if minutes < 1:
        return f"{round(minutes * 60)} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours:,} h {rest:02} min" if hours else f"{rest} min"


class KeepTab:
    """What is where, and how to copy it."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.service = desk, desk.service
        heading("Labels into the dataset")
        self.waiting = gr.HTML(padding=False)
        self.pull = gr.Button("Put them into the dataset now", size="sm", scale=0, min_width=240)
        heading("Back-up")
        self.copy = gr.Button("Back up now", size="sm", scale=0, min_width=240, elem_id="pa-backup")
        self.copied = gr.HTML(padding=False)
        gr.HTML(html(*_hint()), padding=False)
        desk.at_load(lambda who: self._waiting(), [self.waiting])
        desk.on(self.pull.click, self._pull, [], [self.waiting])
        desk.on(self.copy.click, self._copy, [], [self.copied])

    def refresh(self, tab: gr.Tab) -> None:
        """Make anew what is shown whenever the tab is opened."""
        self.desk.on(tab.select, lambda who: self._waiting(), [], [self.waiting])

    def _waiting(self) -> str:
        found = self.service.pull.waiting()
        if self.service.pull.failed:
            return notice(f"Labels stay in the store for now: {self.service.pull.failed}", kind="warn")
        if not found:
            return notice("Every label is in the dataset.", kind="good")
        return notice(f"{count(found, 'label')} wait in the store; they go into the dataset by themselves, in batches.")

    def _pull(self, who: Person) -> str:
        done = self.service.pull()
        gr.Info(f"{count(done.annotations, 'annotation')} added, {done.withdrawn:,} taken away.")
        return self._waiting()

    def _copy(self, who: Person) -> str:
        path, rows = management.back_up(self.service, who)
        held = f" ({count(rows['people'], 'person', 'people')}, {count(rows['labels'], 'label')}, all that was said). "
        kept = "Put it on another disk too; it says who the people are: keep it to yourself."
        return notice("The copy is ", tag("code", str(path)), held, kept, kind="good")


def _hint() -> list[Any]:
    command = "prefdata labels backup DIR --out COPY.sqlite"
    return [
        tag(
            "p",
            "People, tasks and labels lie in one file, ",
            tag("code", "labels.sqlite"),
            " in the dataset's folder, unless the application was started with another store. Copy it while the "
            "application runs with this command, for example every night, to another disk:",
        ),
        tag("p", tag("code", command, class_="pa-command")),
        tag(
            "p",
            "A plain ",
            tag("code", "cp"),
            " of labels.sqlite is not enough while the application runs: what was written last lies in a second file "
            "beside it (labels.sqlite-wal), and such a copy may lack labels. Everything else in the dataset's folder "
            "can be copied at any time.",
            class_="pa-soft",
        ),
    ]
