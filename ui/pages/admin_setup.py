"""The set-up tab: a file, a protocol, a card, and one button."""

from __future__ import annotations

import json
import os
from typing import Any

from prefdata.cards import load_card, shipped_cards
from prefdata.errors import DataError, PrefdataError

from ..accounts.people import Person
from ..work import uploads
from ..work.projects import Held
from ..work.rehearsal import Rehearsal, free_name, rehearse, uploaded
from .admin_fields import CHOSEN, FIRST, NAMES, PARTS, WHAT, component, concerns, stated
from .admin_parts import Desk, Html, count, heading, html, join, notice, table, tag

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

_EXAMPLE = "prompt,response_1,response_2"


class Setup:
    """The form; `fields` are its widgets in the order of `NAMES`."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.service = desk, desk.service
        self.widgets: dict[str, Any] = {}
        with gr.Row(equal_height=False, elem_classes="pa-columns"):
            with gr.Column(scale=5, min_width=320):
                self._draw()
            with gr.Column(scale=6, min_width=320):
                heading("A task as people will see it", "Try it: nothing is sent from here.")
                self.preview = gr.HTML(padding=False)
        self.fields = [self.widgets[name] for name in NAMES]
        self._wire()

    def _draw(self) -> None:
        heading(
            "1. What is to be labelled",
            "A CSV, JSONL or Parquet file with prompts and responses; or what the dataset has.",
        )
        self.there = gr.HTML(padding=False)
        self.file = gr.File(
            label="Add prompts with responses: CSV, JSONL or Parquet",
            show_label=False,
            file_types=list(uploads.TASKS),
            height=92,
            elem_id="pa-file",
        )
        for name in WHAT:
            self.widgets[name] = component(name)
        heading("2. How")
        with gr.Group():
            for names in FIRST:
                with gr.Row():
                    for name in names:
                        self.widgets[name] = component(name)
        with gr.Group():
            for title, names in PARTS.items():
                with gr.Accordion(title, open=False), gr.Column():
                    for name in names:
                        self.widgets[name] = component(name)
                    self._draw_upload(title)
        heading("3. Start")
        self.outlook = gr.HTML(padding=False)
        self.start = gr.Button("Start the project", variant="primary", elem_id="pa-start")

    def _draw_upload(self, title: str) -> None:
        if title == "Gold questions":
            self.gold = gr.UploadButton("Upload gold questions", file_types=list(uploads.TASKS), size="sm")
            self.gold_told = gr.HTML(padding=False)
            gr.HTML(html(_gold_help()), padding=False)
        if title == "Guidelines and question":
            self.card = gr.UploadButton("Upload a card (YAML)", file_types=list(uploads.CARDS), size="sm")
            self.card_told = gr.HTML(padding=False)

    def _wire(self) -> None:
        desk, shown = self.desk, [self.outlook, self.preview, *self.fields]
        chosen = [self.widgets[name] for name in CHOSEN]
        desk.at_load(self._opened, [self.there, *chosen, self.widgets["name"], self.outlook, self.preview])
        desk.on(
            self.file.upload,
            self._take,
            [self.file, *self.fields],
            [self.file, self.there, self.widgets["name"], self.widgets["file"], self.outlook, self.preview],
        )
        for button, handler, name, told in (
            (self.card, self._take_card, "card", self.card_told),
            (self.gold, self._take_gold, "gold", self.gold_told),
        ):
            desk.on(button.upload, handler, [button], [button, self.widgets[name], told])
        changes = [self.widgets[name].change for name in NAMES if name not in ("name", "lease", "idle", "quota")]
        desk.on(changes, self._changed, self.fields, shown, trigger_mode="always_last")
        desk.on(self.start.click, self._begin, self.fields, [self.there, self.outlook])

    def refresh(self, tab: gr.Tab) -> None:
        """Who and what can be chosen may have changed on another tab."""
        chosen = [self.widgets[name] for name in CHOSEN]
        self.desk.on(tab.select, self._again, self.fields, [*chosen, self.outlook, self.preview])

    # What the form says

    def _stated(self, values: tuple[Any, ...]) -> dict[str, Any]:
        folder = self.service.dataset.path
        fields = stated(dict(zip(NAMES, values, strict=True)))
        fields["card"] = uploads.card_of(folder, fields["card"])
        fields["gold"] = uploads.path_of(folder, fields["gold"], "gold")
        fields["guidelines"] = uploads.literal(fields["guidelines"])
        return fields

    def _rehearsed(self, who: Person, values: tuple[Any, ...]) -> list[str]:
        """What would be made, and a task; where something is wrong, what it is."""
        try:
            found = rehearse(self.service, who, self._stated(values))
        except PrefdataError as error:
            return [notice(self._told(error), kind="warn"), _nothing("There is no task to show yet.")]
        return [outlook(found), frame(found)]

    def _told(self, error: PrefdataError) -> str:
        return str(error).replace(f"{self.service.dataset.path / uploads.FOLDER}{os.sep}", "")

    # Events

    def _opened(self, who: Person) -> list[Any]:
        name = free_name(self.service)
        first = tuple(name if one == "name" else self.widgets[one].value for one in NAMES)
        return [self._there(), *self._choices(), name, *self._rehearsed(who, first)]

    def _again(self, who: Person, *values: Any) -> list[Any]:
        return [*self._choices(), *self._rehearsed(who, values)]

    def _choices(self) -> list[Any]:
        """What can be chosen in the fields of CHOSEN."""
        people = self.service.people.list()
        known = {
            "file": self._files(),
            "card": self._cards(),
            "gold": self._gold(),
            "people": [one.pseudonym for one in people if one.state != "stopped"],
            "groups": sorted({group for one in people for group in one.groups}),
            "skills": sorted({skill for one in people for skill in one.skills}),
        }
        return [gr.update(choices=known[name]) for name in CHOSEN]

    def _changed(self, who: Person, *values: Any) -> list[Any]:
        said = dict(zip(NAMES, values, strict=True))
        return [*self._rehearsed(who, values), *(gr.update(visible=concerns(name, said)) for name in NAMES)]

    def _take(self, who: Person, sent: object, *values: Any) -> list[Any]:
        try:
            with uploads.received(sent, self.desk.uploads, uploads.TASKS) as path:
                told = self.service.projects.upload(path, by=who)
                stem, file = path.stem, path.name
        except PrefdataError as error:  # where success would be told, and the field takes the next file
            return [None, _refused(error), *(gr.update() for _ in range(4))]
        now = {**dict(zip(NAMES, values, strict=True)), "file": file[-200:]}
        if str(now["name"] or "").startswith("project"):
            now["name"] = free_name(self.service, stem)
        return [
            None,
            self._there(told),
            now["name"],
            gr.update(choices=self._files(), value=now["file"]),
            *self._rehearsed(who, tuple(now[name] for name in NAMES)),
        ]

    def _take_card(self, who: Person, sent: object) -> list[Any]:
        try:
            with uploads.received(sent, self.desk.uploads, uploads.CARDS) as path:
                label = load_card(str(path)).label
                name = uploads.keep(self.service.dataset.path, path, "card")
        except PrefdataError as error:
            return [None, gr.update(), _refused(error)]
        told = notice(f"The card {label} can be chosen now, and is.", kind="good")
        return [None, gr.update(choices=self._cards(), value=name), told]

    def _take_gold(self, who: Person, sent: object) -> list[Any]:
        from prefdata.formats import read

        try:
            with uploads.received(sent, self.desk.uploads, uploads.TASKS) as path:
                found = len(read("tasks", path, strict=True).rows["prompts"])
                name = uploads.keep(self.service.dataset.path, path, "gold")
        except PrefdataError as error:
            return [None, gr.update(), _refused(error)]
        told = notice(f"{count(found, 'gold question')} can be asked now.", kind="good")
        return [None, gr.update(choices=self._gold(), value=name), told]

    def _begin(self, who: Person, *values: Any) -> list[Any]:
        try:
            held, added = self.service.projects.create(self._stated(values), by=who)
        except PrefdataError as error:
            raise DataError(self._told(error)) from error
        return [self._there(), begun(held, added)]

    # What there is

    def _there(self, told: str = "") -> str:
        counts = self.service.dataset.counts()
        if not counts["prompts"]:
            return notice(
                "Nothing yet. A file needs a prompt and its responses in each row, for example the columns ",
                tag("code", _EXAMPLE),
                ".",
            )
        held = f"The dataset has {count(counts['prompts'], 'prompt')} with {count(counts['responses'], 'response')}."
        return notice(f"{told}. " if told else None, held, kind="good" if told else "")

    def _files(self) -> list[tuple[str, str]]:
        gold = uploads.kept(self.service.dataset.path, "gold")
        files = [(name, name) for name in uploaded(self.service) if name not in gold]
        return [("all that the dataset has", ""), *files]

    def _cards(self) -> list[tuple[str, str]]:
        own = uploads.kept(self.service.dataset.path, "card")
        return [*((name, name) for name in shipped_cards()), *((f"{name} (yours)", key) for key, name in own.items())]

    def _gold(self) -> list[tuple[str, str]]:
        own = uploads.kept(self.service.dataset.path, "gold")
        return [("none", ""), *((name, key) for key, name in own.items())]


def outlook(found: Rehearsal) -> str:
    """What a project would make, in a sentence or two."""
    if not found.tasks:
        return notice("There is nothing to label yet: add a file with prompts and responses.", kind="warn")
    made = f"{count(found.tasks, 'task')}, {count(found.labels, 'label')} in all"
    gold = f", and {count(found.gold, 'gold question')}" if found.gold else ""
    if found.known:
        return notice(
            f"There is a project of this name. With the same fields, tasks for new prompts are added to it ({made} "
            "then); otherwise choose another name.",
            kind="warn",
        )
    alone = "Nobody can work on it yet: invite people (tab People); you can do so after you have started."
    who = alone if not found.people else f"{count(found.people, 'person', 'people')} can work on it."
    each = found.labels // found.tasks
    few = f" Each task wants {each} different people." if found.people and found.people < each else ""
    return notice(tag("b", f"{made}{gold}."), f" {who}{few}", kind="warn" if few else "")


def begun(held: Held, added: int) -> str:
    """What is said when a project has begun, and what to do next."""
    if not added:
        return notice(
            f"The project {held.project.name} has all of these tasks already: nothing was added.", kind="warn"
        )
    return html(
        tag(
            "div",
            tag("p", tag("b", f"The project {held.project.name} is {held.state}"), f": {count(added, 'new task')}."),
            tag(
                "p",
                "Next: invite people (tab People), or ",
                tag("a", "label the first task yourself", href=f"../label/?project={held.id}"),
                ". How far it is: tab Projects.",
            ),
            class_="pa-notice pa-good",
        )
    )


def frame(found: Rehearsal) -> str:
    """A task, drawn by the label page's own script in a frame of its own, so that neither's style meets the other's."""
    if found.task is None:
        return _nothing("There is no task to show yet.")
    # `</script>` in a text must not end the element that holds it.
    task = Html(json.dumps(found.task).replace("<", "\\u003c").replace("&", "\\u0026"))
    inside = join(
        Html('<!doctype html><html lang="en" class="pd-page"><head><meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        *(Html(f'<link rel="stylesheet" href="../static/{name}.css">') for name in ("label", "protocols")),
        Html('</head><body><div class="pd"></div><script type="application/json" id="task">'),
        task,
        Html('</script><script type="module" src="../static/preview.js"></script></body></html>'),
    )
    return html(tag("iframe", "", srcdoc=inside, title="A task as people will see it", class_="pa-preview"))


def _refused(error: PrefdataError) -> str:
    return notice(tag("b", "This file was not taken. "), str(error), kind="bad")


def _nothing(words: str) -> str:
    return html(tag("p", words, class_="pa-empty"))


def _gold_help() -> Html:
    rows = [
        ("compare", '{"choice": -1}', "the first response is better (1: the second, 0: a tie)"),
        ("rank", '{"ranks": [2, 1, 3]}', "1 is the best"),
        ("rate", '{"scores": {"overall": [4, 2]}}', "for each aspect, a score for each response"),
        ("best", '{"best": [0]}', "the first response"),
    ]
    told = table(("Protocol", "Column gold", "Means"), [(a, tag("code", b), c) for a, b, c in rows])
    return join(tag("p", "Rows like the others, with a column gold that holds the right answer:"), told)


def build(desk: Desk) -> Setup:
    """Draw the tab."""
    return Setup(desk)
