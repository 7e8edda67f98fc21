"""The page on which reviewers browse and search the dataset, ask it in SQL, and read plots and the report.

Every event asks again who is there: Gradio offers each of them to whoever can reach the page.
"""

from __future__ import annotations

import inspect
import math
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from prefdata.errors import DataError, PrefdataError
from prefdata.report.markup import tag

from ..explorer.edition import TABLES
from ..explorer.explore import PAGE
from ..explorer.filters import OUTCOMES, STATES, WHERE, Filter
from ..rendering.markup import escape
from . import explore_html as shown
from . import explore_plots as drawings

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

if TYPE_CHECKING:
    from ..service import Service

T = TypeVar("T")

ROLE = "reviewer"

CHOSEN = ("annotator", "aspect", "status", "label", "source", "model", "tag", "reason")
"""The fields whose choices come from the dataset."""

STYLE = '<link rel="stylesheet" href="../static/explore.css">'

# A click on a result tells the server which.
CHOOSE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-group]");
  if (button) trigger("select", { group: button.dataset.group });
});
"""
# When it is shown, it is marked in the list; on a narrow screen the page moves to it.
MOVE = """() => {
  const place = document.querySelector("#px-whole");
  const shown = place?.querySelector("[data-group]")?.dataset.group;
  for (const one of document.querySelectorAll("#px-found [data-group]")) {
    if (one.dataset.group === shown) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
  const below = place && place.getBoundingClientRect().top > window.innerHeight * 0.6;
  if (below) place.scrollIntoView({ behavior: "smooth" });
}"""

QUERY = """SELECT annotator, aspect, count(*) AS annotations, round(avg(score), 3) AS mean
FROM flat
WHERE status = 'ok'
GROUP BY ALL
ORDER BY annotations DESC"""

HELP = f"""Tables: {", ".join(f"`{name}`" for name in TABLES)}, each with its live rows (`DESCRIBE annotations` shows
the columns), and `flat`: one row for each response and each thing said about it, with `prompt`, `response`, `model`,
`source`, `tags`, `annotator`, `aspect`, `protocol`, `status`, `score`, `outcome` (won, lost, tied), `place` (as shown,
from 1), `labels`, `confidence`, `seconds`, `created_at`, `group_id`, `prompt_id`, `response_id`. One SELECT at a time;
it can read these tables and nothing else."""


def locked(service: Service, work: Callable[..., T]) -> Callable[..., T]:
    """A handler that first asks who is there, and whose mistakes are sentences.

    Args:
        service: its `allowed` refuses whoever is not signed in, or has too low a role.
        work: what is done then; it gets what Gradio gives besides the request.
    """

    def handler(request: gr.Request, *given: Any) -> T:
        try:
            service.allowed(request, ROLE)
            return work(*given)
        except (PrefdataError, OSError) as error:  # Gradio shows this as HTML
            said = str(error)
            raise gr.Error(escape(said[:1].upper() + said[1:]), print_exception=False) from error

    # Gradio looks at the signature to see what a handler wants besides the fields: the request, the event.
    own = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    hints = get_type_hints(work)
    given = [one.replace(annotation=hints.get(name)) for name, one in inspect.signature(work).parameters.items()]
    handler.__signature__ = inspect.Signature([own, *given])  # type: ignore[attr-defined]
    handler.__annotations__ = {**hints, "request": gr.Request}
    handler.__name__ = work.__name__
    return handler


class Form:
    """The fields of a search, in the order in which handlers get them."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="px-row"):
            self.text = gr.Textbox(
                label="Search for", placeholder="a text, in any case", scale=4, min_width=200, max_lines=1
            )
            self.where = gr.Dropdown(list(WHERE), value="any", label="in", scale=1, min_width=110)
            self.state = gr.Dropdown(list(STATES), value="live", label="Rows", scale=1, min_width=110)
            self.go = gr.Button("Search", variant="primary", scale=0, min_width=110, elem_classes="px-go")
        with gr.Accordion("More conditions", open=False), gr.Column():
            with gr.Row():
                self.annotator = self._several("Annotator")
                self.aspect = self._several("Aspect")
                self.status = self._several("Status")
                self.label = self._several("Label")
            with gr.Row():
                self.model = self._several("Model")
                outcomes = [("any", ""), *((one, one) for one in OUTCOMES)]
                self.outcome = gr.Dropdown(outcomes, value="", label="Its response", min_width=150)
                self.low = gr.Textbox(label="Score at least", max_lines=1, min_width=120)
                self.high = gr.Textbox(label="Score at most", max_lines=1, min_width=120)
            with gr.Row():
                self.source = self._several("Source")
                self.tag = self._several("Tag")
                self.reason = self._several("Dropped because")
                self.id = gr.Textbox(label="Id", placeholder="of a prompt, response or annotation", min_width=150)
            self.sql = gr.Textbox(
                label="Condition in SQL, on a row of flat (see the SQL tab)",
                placeholder="score < 0.2 AND n_tokens > 500 AND list_contains(tags, 'math')",
                max_lines=3,
            )
            self.clear = gr.Button("Clear all conditions", size="sm")

    @staticmethod
    def _several(label: str) -> gr.Dropdown:
        return gr.Dropdown([], value=[], multiselect=True, label=label, min_width=150)

    @property
    def fields(self) -> list[Any]:
        """The components; `wanted` takes their values."""
        plain = [self.text, self.where, self.state, self.outcome, self.low, self.high, self.id, self.sql]
        return [*plain, *self.chosen]

    @property
    def chosen(self) -> list[gr.Dropdown]:
        """The dropdowns whose choices come from the dataset, in the order of `CHOSEN`."""
        return [getattr(self, name) for name in CHOSEN]


def wanted(values: tuple[Any, ...]) -> Filter:
    """The filter that the values of `Form.fields` say. They come from the browser: anything may stand in them.

    Raises:
        DataError: a value that no field can have.
    """
    names = ("text", "where", "state", "outcome", "low", "high", "id", "sql")
    given = dict(zip((*names, *CHOSEN), values, strict=True))
    for name in CHOSEN:
        given[name] = [str(one) for one in given[name] or ()]
    for name in ("text", "id", "sql", "outcome"):
        given[name] = str(given[name] or "")
    for name in ("low", "high"):
        given[name] = _bound(given[name])
    return Filter(**given)


def _bound(said: Any) -> float | None:
    text = str(said or "").strip().replace(",", ".")
    try:
        bound = float(text) if text else None
    except ValueError:
        bound = float("nan")
    if bound is not None and not math.isfinite(bound):
        raise DataError(f"a score is a number such as 0.5, not {text!r}")
    return bound


def build(service: Service) -> gr.Blocks:
    """The page, to be mounted at `/explore`.

    Args:
        service: what the pages do; `explore` is asked, and who may ask is its `allowed`.
    """
    with gr.Blocks(title="Explore · prefdata", fill_width=True, analytics_enabled=False) as page:
        with gr.Tabs(elem_classes="px-tabs"):
            with gr.Tab("Browse"):
                form = _browse(service, page)
            with gr.Tab("Plots"):
                _plots(service, form)
            with gr.Tab("SQL"):
                _sql(service)
            with gr.Tab("Report"):
                _report(service)
        gr.HTML(STYLE, padding=False, apply_default_css=False)
    assert isinstance(page, gr.Blocks)
    return page


def _on(event: Any, handler: Callable[..., Any], **given: Any) -> Any:
    """Tie a handler to an event; `private` keeps it out of Gradio's description of its API, `allowed` keeps it shut."""
    return event(handler, api_visibility="private", **given)


class Browse:
    """What the events of the Browse tab do."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def search(self, at: int, *values: Any) -> tuple[str, int]:
        """A page of results, and its number."""
        at = max(0, int(at))
        found = self._service.explore.prompts(wanted(values), at)
        return shown.results(found, PAGE, self._service.explore.state()), at

    def first(self, *values: Any) -> tuple[str, int]:
        """The first page."""
        return self.search(0, *values)

    def later(self, at: int, *values: Any) -> tuple[str, int]:
        """The next page, if there is one."""
        last = max(0, -(-self._service.explore.prompts(wanted(values), 0, 1).total // PAGE) - 1)
        return self.search(min(int(at) + 1, last), *values)

    def earlier(self, at: int, *values: Any) -> tuple[str, int]:
        """The page before."""
        return self.search(int(at) - 1, *values)

    def choices(self) -> list[Any]:
        """What the dropdowns offer."""
        known = self._service.explore.choices()
        return [gr.update(choices=known[name]) for name in CHOSEN]

    def choose(self, event: gr.EventData) -> tuple[Any, ...]:
        """The prompt that was clicked, and what its tools offer."""
        chosen = str(event._data.get("group", ""))
        told = self._service.explore.group(chosen)
        names = [(row["name"], row["name"]) for row in told.responses]
        left = gr.update(choices=[("all side by side", ""), *names], value="")
        right = gr.update(choices=[("–", ""), *names], value="")
        return chosen, shown.whole(told), gr.update(visible=True), left, right, True

    def again(self, chosen: str, a: str, b: str, markdown: bool) -> str:
        """The same prompt, shown otherwise."""
        if not chosen:
            return ""
        pair = (str(a), str(b)) if a and b and a != b else None
        return shown.whole(self._service.explore.group(chosen), pair, bool(markdown))

    def emptied(self) -> list[Any]:
        """The fields without conditions."""
        return ["", "any", "live", "", "", "", "", "", *([] for _ in CHOSEN)]


def _browse(service: Service, page: gr.Blocks) -> Form:
    form = Form()
    number, group = gr.State(0), gr.State("")
    with gr.Row(elem_classes="px-columns"):
        with gr.Column(scale=2, min_width=320, elem_classes="px-list"):
            found = gr.HTML(js_on_load=CHOOSE, padding=False, apply_default_css=False, elem_id="px-found")
            with gr.Row(elem_classes="px-pager"):
                back = gr.Button("Previous", size="sm", min_width=80)
                on = gr.Button("Next", size="sm", min_width=80)
        with gr.Column(scale=5, min_width=320, elem_id="px-whole"):
            with gr.Row(elem_classes="px-row", visible=False) as tools:
                left = gr.Dropdown([("all side by side", "")], value="", label="Differences of", min_width=130)
                right = gr.Dropdown([("–", "")], value="", label="and", min_width=130)
                laid_out = gr.Checkbox(True, label="Show Markdown", min_width=170)
            nothing = tag("p", "Choose a prompt from the list.", class_="px-empty")
            whole = gr.HTML(nothing, padding=False, apply_default_css=False)

    work, fields, out = Browse(service), form.fields, [found, number]
    go = locked(service, work.first)
    loaded = _on(page.load, go, inputs=fields, outputs=out)
    _on(loaded.then, locked(service, work.choices), outputs=form.chosen, show_progress="hidden")
    for event in (form.go.click, *(box.submit for box in (form.text, form.id, form.sql, form.low, form.high))):
        _on(event, go, inputs=fields, outputs=out)
    for changed in (form.where, form.state, form.outcome, *form.chosen):
        _on(changed.input, go, inputs=fields, outputs=out)
    cleared = _on(form.clear.click, locked(service, work.emptied), outputs=fields)
    _on(cleared.then, go, inputs=fields, outputs=out)
    _on(on.click, locked(service, work.later), inputs=[number, *fields], outputs=out)
    _on(back.click, locked(service, work.earlier), inputs=[number, *fields], outputs=out)
    told = _on(found.select, locked(service, work.choose), outputs=[group, whole, tools, left, right, laid_out])
    told.then(None, js=MOVE, api_visibility="private")
    for control in (left, right, laid_out):
        _on(control.input, locked(service, work.again), inputs=[group, left, right, laid_out], outputs=whole)
    return form


def _plots(service: Service, form: Form) -> None:
    gr.Markdown("Of what the search on the Browse tab finds.")
    draw = gr.Button("Draw", variant="primary", size="sm", min_width=120, scale=0)
    drawn = gr.HTML(padding=False, apply_default_css=False)

    def plots(*values: Any) -> str:
        return drawings.plots(service.explore.figures(wanted(values)))

    _on(draw.click, locked(service, plots), inputs=form.fields, outputs=drawn)


def _sql(service: Service) -> None:
    query = gr.Textbox(QUERY, label="Query", lines=6, max_lines=30, elem_classes="px-code")
    with gr.Row(elem_classes="px-row"):
        run = gr.Button("Run", variant="primary", scale=0, min_width=120)
        said = gr.HTML(padding=False, apply_default_css=False)
    result = gr.Dataframe(
        visible=False, interactive=False, wrap=False, max_height=560, show_search="none", label="Result", type="array"
    )
    gr.Markdown(HELP)

    def ask(text: str) -> tuple[str, Any]:
        try:
            found = service.explore.sandbox.run(str(text))
        except DataError as error:
            return shown.notice(str(error)), gr.update(visible=False)
        rows = [[_cell(cell) for cell in row] for row in found.rows]
        words = f"{len(rows):,} rows" if len(rows) != 1 else "1 row"
        cut = "; there are more, which were cut off: add a LIMIT, or count them" if found.cut else ""
        value = {"headers": found.columns, "data": rows}
        return (
            tag("p", f"{words} in {found.seconds:.2f} s{cut}", class_="px-place", role="status"),
            gr.update(value=value, visible=bool(found.columns), datatype=["str"] * len(found.columns)),
        )

    _on(run.click, locked(service, ask), inputs=query, outputs=[said, result])


def _cell(value: Any) -> str:
    """A value as a text for the table, which would else take numbers apart and texts for Markdown."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 500 else f"{text[:500]}…"


def _report(service: Service) -> None:
    with gr.Row(elem_classes="px-row"):
        write = gr.Button("Write the report now", variant="primary", size="sm", scale=0, min_width=200)
        open_ = gr.Button("Open the last one", size="sm", scale=0, min_width=160)
    said = gr.HTML(padding=False, apply_default_css=False)
    frame = gr.HTML(padding=False, apply_default_css=False)
    writing = threading.Lock()

    def last() -> tuple[str, str]:
        from prefdata.report.write import PAGE as NAME

        path = service.dataset.path / NAME
        try:
            return "", drawings.report(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            return shown.notice("no report has been written yet"), ""

    def made() -> tuple[str, str]:
        from prefdata.report import write_report

        if not writing.acquire(blocking=False):
            return shown.notice("the report is being written already"), ""
        try:
            write_report(service.dataset, service.dataset.path)
        finally:
            writing.release()
        return last()

    _on(write.click, locked(service, made), outputs=[said, frame])
    _on(open_.click, locked(service, last), outputs=[said, frame])
