"""The explore page: every event is locked, and nothing that a dataset says becomes markup."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import annotation, message, prompt, response
from prefdata.ui.accounts.people import NotAllowed
from prefdata.ui.explorer.explore import Explorer
from prefdata.ui.explorer.filters import Filter
from prefdata.ui.pages import explore_html as shown
from prefdata.ui.pages import explore_plots as drawings

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onclick=alert(3) ${alert(4)} {{alert}} [a](javascript:x)"
)


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    """One hostile prompt: three responses of which one is dropped, rated and compared."""
    ds = Dataset.create(tmp_path / "ds")
    one = prompt([message("user", HOSTILE)], source=HOSTILE, tags=[HOSTILE], references=[HOSTILE])
    answers = [
        response(one, model=HOSTILE, text=f"{HOSTILE} {n}" * (n + 1), key=n, params={"x": HOSTILE}) for n in range(3)
    ]
    ids = [row["response_id"] for row in answers]
    common = {"group_id": one["group_id"], "prompt_id": one["prompt_id"], "source": "judge", "text": HOSTILE}
    said = [
        annotation(
            **common, target_ids=[id], protocol="score", scores=[float(n)], annotator=f"judge:{HOSTILE}", aspect=HOSTILE
        )
        for n, id in enumerate(ids)
    ]
    said.append(annotation(**common, target_ids=ids[:2], protocol="compare", scores=[0.2, 0.8], annotator="judge:b"))
    said.append(
        annotation(**common, target_ids=ids[:2], protocol="compare", annotator="judge:b", status="unparsed", key=1)
    )
    rows = {"prompts": [one], "responses": answers, "annotations": said}
    ds.add_import(rows, source="toy", fields={HOSTILE: HOSTILE})
    ds.drop("responses", [ids[2]], reason=HOSTILE)
    made = Explorer(ds, tmp_path / "copies")
    yield made
    made.close()


class Seen(HTMLParser):
    """The tags and the attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_of_the_dataset_becomes_markup(explorer: Explorer) -> None:
    found = explorer.prompts()
    group = explorer.group(found.rows[0]["group_id"])
    pages = [
        shown.results(found, 25, {**explorer.state(), "failure": HOSTILE}),
        shown.whole(group),
        shown.whole(group, None, laid_out=False),
        shown.whole(group, ("A", "B")),
        drawings.plots(explorer.figures()),
        shown.notice(HOSTILE),
    ]
    for page in pages:
        seen = Seen(page)
        assert not seen.tags & {"script", "img", "a", "iframe", "object", "embed", "form", "input", "link", "style"}
        assert not {name for name in seen.attributes if name.startswith("on")} | seen.attributes & {"href", "src"}
        assert "<script>alert(1)</script>" in seen.text or page is pages[4]
    assert {"del", "ins"} <= Seen(pages[3]).tags


def test_a_frame_holds_the_report_and_may_do_nothing() -> None:
    page = drawings.report('<p title="x">Report</p><script>alert(1)</script>')
    assert page.startswith("<iframe ") and ' sandbox=""' in page and "<script" not in page
    assert "&lt;p title=&quot;x&quot;&gt;" in page


def test_a_group_is_shown_with_what_was_said_and_why_it_was_dropped(explorer: Explorer) -> None:
    group = explorer.group(explorer.prompts().rows[0]["group_id"])
    text = Seen(shown.whole(group)).text
    assert "3 responses" in text and "dropped" in text and "B > A (0.8, 0.2)" in text and "unparsed" in text
    assert "import:toy@" in text and "labels:labels" in text
    assert "A" in text and "1 response" not in Seen(shown.whole(group, ("A", "B"))).text


def test_the_numbers_of_the_plots(explorer: Explorer) -> None:
    found = explorer.figures()
    assert found["groups"] == 1
    assert sorted((row["ok"], row["without"]) for row in found["answers"]) == [(1, 1), (2, 0)]
    (scores,) = found["scores"]
    assert scores["annotations"] == 2 and scores["bins"] == [{"value": 0.0, "n": 1}, {"value": 1.0, "n": 1}]
    (outcome,) = found["outcomes"]
    assert (outcome["won"], outcome["tied"], outcome["lost"]) == (1, 0, 1)
    (lengths,) = found["lengths"]
    assert [entry["value"] for entry in lengths["bins"]] == [len(f"{HOSTILE} 0"), 2 * len(f"{HOSTILE} 1")]
    assert explorer.figures(Filter(text="nothing of the kind"))["answers"] == []


def test_many_values_are_put_in_bins_that_hold_them_all(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds")
    one = prompt([message("user", "Hm?")])
    answers = [response(one, model="m", text="x" * n, key=n) for n in range(1, 101)]
    ds.add_import({"prompts": [one], "responses": answers}, source="toy", fields={})
    explorer = Explorer(ds, tmp_path / "copies")
    (lengths,) = explorer.figures()["lengths"]
    bins = lengths["bins"]
    assert len(bins) == 20 and sum(entry["n"] for entry in bins) == 100
    assert bins[0]["low"] == 1.0
    assert all(a["high"] == pytest.approx(b["low"]) for a, b in pairwise(bins))
    explorer.close()


class Untouched:
    """Whatever is asked of it, somebody got past the lock."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def handlers(service: Any) -> list[Any]:
    from prefdata.ui.pages.explore import build

    return [one for one in build(service).fns.values() if one.fn is not None]


def test_every_event_asks_first_who_is_there() -> None:
    import gradio as gr

    asked: list[tuple[object, str]] = []

    def allowed(request: object, role: str) -> None:
        asked.append((request, role))
        raise NotAllowed("this page is for <reviewers>")

    service = SimpleNamespace(allowed=allowed, explore=Untouched(), dataset=Untouched())
    events = handlers(service)
    assert len(events) >= 25
    for event in events:
        first = next(iter(inspect.signature(event.fn).parameters.values()))
        assert (first.name, first.annotation) == ("request", gr.Request)
        assert event.api_visibility == "private"
        with pytest.raises(gr.Error) as refused:
            event.fn("request", *([None] * len(event.inputs)))
        assert refused.value.message == "This page is for &lt;reviewers&gt;"
    assert asked == [("request", "reviewer")] * len(events)


def test_what_the_browser_sends_may_be_anything(explorer: Explorer) -> None:
    from prefdata.ui.pages.explore import wanted

    empty: tuple[Any, ...] = ("", "any", "live", "", "", "", "", "", *([] for _ in range(8)))
    assert wanted(empty) == Filter(**{name: [] for name in Filter.__dataclass_fields__ if name in LISTS})
    assert wanted(("", "any", "live", "", "0,5", " 1e1 ", "", "", *([] for _ in range(8)))).low == 0.5
    for place, value, says in (
        (1, "everywhere", "where is"),
        (1, ["any"], "where is"),
        (2, {"a": 1}, "state is"),
        (3, "lost OR 1=1", "outcome is"),
        (4, "much", "a score is a number"),
        (5, "inf", "a score is a number"),
        (5, [1], "a score is a number"),
    ):
        given = (*empty[:place], value, *empty[place + 1 :])
        with pytest.raises(DataError, match=says):
            wanted(given)
    for place in range(8, 16):
        for value in (None, [1, {"x": 2}, None], ["' OR 1=1 --"]):
            explorer.prompts(wanted((*empty[:place], value, *empty[place + 1 :])))


LISTS = ("annotator", "aspect", "status", "label", "source", "model", "tag", "reason")
