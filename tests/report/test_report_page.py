"""The page: self-contained, safe with hostile texts, honest about what is not there."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.dataset import Dataset
from prefdata.report import analyse, write_report
from prefdata.report.charts import bars, drawn, reliability
from prefdata.report.markup import Html, tag, text
from prefdata.report.numbers import histogram
from prefdata.report.page import POLICY, page
from prefdata.report.style import CSS
from prefdata.schema import response

VOID = {"meta", "br", "wbr"}

SAYS = {"data-label", "aria-label", "title"}
"""Attributes whose value is read to somebody, and never loaded."""

HOSTILE = (
    "</style></title><script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(1)>"
    "<a href=\"javascript:alert('x')\">click</a><iframe src=//evil.example></iframe>\"'><svg onload=alert(1)>"
    "<style>@import url(https://evil.example/x.css)</style>&lt;b&gt;\u202egnihtemos\u202c\u2066\x00\x07 {{ 7*7 }} ]]>"
)


class Reader(HTMLParser):
    """Takes a page apart, and checks that every element is closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self.open and self.open[-1] == "style" else self.text).append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def check_safe(source: str) -> Reader:
    """Nothing in the page runs, loads or leads anywhere, whatever texts stand in it."""
    found = Reader(source)
    names = {name for name, _ in found.elements}
    assert not names & {
        "script",
        "img",
        "image",
        "iframe",
        "object",
        "embed",
        "link",
        "use",
        "form",
        "input",
        "base",
    }
    assert found.styles == [CSS]
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for name, attributes in found.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (name, key)
            if key == "href":  # within the page, and nowhere else
                assert name == "a"
                assert re.fullmatch(r"#[a-z]+", value or ""), value
                assert (value or "#")[1:] in ids, value
                continue
            assert key not in ("src", "srcset", "srcdoc", "action", "xlink:href", "xmlns"), (name, key)
            assert key in SAYS or "url(" not in (value or ""), (name, key)
            if key == "style":
                assert re.fullmatch(r"(left|width):[\d.]+%(;width:[\d.]+%)?", value or ""), value
    policy = [a["content"] for name, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == [POLICY]
    assert "url(" not in CSS
    assert "@import" not in CSS
    return found


def full(hand: Any) -> Dataset:
    """Something of everything."""
    for n in range(12):
        ids = hand.prompt(f"q{n}", "short", "a much longer text", "third", tags=["t"])
        hand.both_orders("judge:first", ids[:2], 0.9 - n / 100, 0.8)
        hand.says("author", ids, [3.0, 2.0, 1.0], protocol="rank", source="human", seconds=3.0)
        for place, response_id in enumerate(ids):
            hand.says("rule:x", [response_id], [place / 3 + n / 50], protocol="score", source="rule")
        hand.prefers(ids, [0.3, 0.2, 0.2 if n % 2 else 0.1])
    ds = hand.dataset()
    ds.drop("responses", list(hand.responses)[:1], reason="too short")
    call = {"call_id": "1", "step": "s@1", "model": "m", "money": 0.5, "cached": False, "prompt_tokens": 7}
    ds.commit({"calls": [call]}, "calls")
    return ds


def test_a_page_of_everything(hand: Any) -> None:
    ds = full(hand)
    found = check_safe(page(analyse(ds)))
    for words in (
        "From what came in to pairs",
        "Whom to believe",
        "How the scores lie",
        "Who agrees with whom",
        "The two sides of the pairs",
        "What it cost",
        "Pairs to look at",
        "labels:labels: too short",
        "Answers by position",
        "of 36 that came in; 1 dropped",
        "$0.5000",
    ):
        assert words in found.words, words
    names = [name for name, _ in found.elements]
    assert names.count("svg") == 2  # the author ranks: ranks are no scores
    assert names.count("h1") == 1
    assert all(attributes.get("scope") in ("col", "row") for name, attributes in found.elements if name == "th")
    assert names.count("caption") == names.count("table")


def test_the_page_on_judges(hand: Any) -> None:
    """Advice, plot, the chart of what they cost, the table and the attacks, with names and texts from outside."""
    calls = []
    for n in range(30):
        ids = hand.prompt(f"q{n}", "short", "a much longer text", model=HOSTILE)
        hand.says("human:" + HOSTILE, ids, [1.0, 0.0] if n % 3 else [0.0, 1.0], source="human", aspect=HOSTILE)
        worse = response(hand.prompts[f"q{n}"], model="m", text="!", params={"attack": HOSTILE}, parent_id=ids[1])
        hand.responses[worse["response_id"]] = worse
        for name, wrong in (("judge:" + HOSTILE, 7), ("judge:b", 5)):
            says = [1.0, 0.0] if n % 3 and n % wrong else [0.0, 1.0]
            hand.says(name, ids, says, aspect=HOSTILE, call_id=f"{name}{n}")
            hand.says(name, [ids[0], worse["response_id"]], [0.0, 1.0], aspect=HOSTILE)
            calls.append(
                {"call_id": f"{name}{n}", "step": "s@1", "money": 0.01 * wrong, "seconds": 1.0, "cached": False}
            )
    ds = hand.dataset()
    ds.commit({"calls": calls}, "calls")
    found = check_safe(page(analyse(ds)))
    for words in (
        "Which judge to use",
        "Use judge:",
        "Or judge:b: it costs",
        "What attacks change",
        "the longer one wins",
    ):
        assert words in found.words, words
    labels = [attributes.get("aria-label") or "" for _, attributes in found.elements]
    assert "agreement against USD for 1,000 pairs" in labels
    assert [name for name, _ in found.elements].count("h1") == 1


def test_hostile_texts_stay_texts(hand: Any, tmp_path: Path) -> None:
    ids = hand.prompt(HOSTILE, HOSTILE, HOSTILE + "!", model=HOSTILE, source=HOSTILE, tags=[HOSTILE])
    for _ in range(12):
        hand.both_orders(HOSTILE, ids, 1.0, 0.3, aspect=HOSTILE)
        hand.says("human:" + HOSTILE, ids, [2.0, 1.0], protocol="rank", source="human", aspect=HOSTILE)
        hand.says("rule:" + HOSTILE, ids[:1], [1.0], protocol="score", source="rule", aspect=HOSTILE)
    hand.prefers(ids, [1.0, 0.0], aspect=HOSTILE)
    ds = hand.dataset()
    ds.drop("responses", ids[1:], reason=HOSTILE, view="other")
    found = hand.prompt("other", HOSTILE)
    ds.add_import({"prompts": [hand.prompts["other"]], "responses": [hand.responses[found[0]]]}, source="x", fields={})
    ds.drop("responses", found, reason=HOSTILE)
    call = {"call_id": "1", "step": HOSTILE, "model": HOSTILE, "error": HOSTILE, "cached": False}
    ds.commit({"calls": [call]}, "calls")
    source = page(analyse(ds, reference="human:*"))
    read = check_safe(source)
    assert "<script>alert(1)</script>" in read.words  # readable, and only text
    assert "⟨U+202E⟩gnihtemos⟨U+202C⟩" in read.words
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200e\u200f]", source)
    assert "{{ 7*7 }}" in read.words


def test_a_hostile_folder_name(tmp_path: Path) -> None:
    found = analyse(Dataset.create(tmp_path / "a<script>alert(1)<"))
    read = check_safe(page(found))
    assert "a<script>alert(1)<" in read.words


def test_an_empty_dataset_says_so(tmp_path: Path) -> None:
    read = check_safe(page(analyse(Dataset.create(tmp_path / "empty"))))
    assert "This dataset is empty." in read.words
    assert "Whom to believe" not in read.words


def test_imports_alone_make_a_page(hand: Any) -> None:
    hand.prompt("q", "one", "two")
    read = check_safe(page(analyse(hand.dataset())))
    assert "no preferences are live" in read.words
    assert "This dataset is empty" not in read.words


def test_a_plain_mapping_makes_a_page(hand: Any) -> None:
    ds = full(hand)
    check_safe(page(analyse(ds, view=dict(ds.view()))))


def test_both_files_are_written_whole(hand: Any, tmp_path: Path) -> None:
    ds, folder = full(hand), tmp_path / "made" / "here"
    found = write_report(ds, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    before = [(folder / name).read_bytes() for name in ("report.html", "report.json")]
    assert json.loads(before[1]) == found
    for key in ("flow", "cost", "annotators", "agreement", "examples", "reference", "dataset"):
        assert key in found
    write_report(Dataset(ds.path), folder)
    assert [(folder / name).read_bytes() for name in ("report.html", "report.json")] == before


def test_a_report_that_fails_leaves_the_old_one(hand: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = full(hand)
    write_report(ds, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr("prefdata.report.write.page", lambda found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(ds, tmp_path / "out", reference="nobody")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_chart_holds_numbers_and_no_namespace() -> None:
    for values in ([1.0, 2.0, 2.0], [n / 7 for n in range(40)]):
        svg = bars(histogram(values), unit=False)
        assert svg.startswith("<svg ")
        assert "http" not in svg
        assert svg.count("var(--bar)") >= 2


def test_a_chart_that_loads_something_is_refused() -> None:
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": [{"address": "https://evil.example/x.png"}]},
        "mark": {"type": "image", "width": 5, "height": 5},
        "encoding": {"url": {"field": "address", "type": "nominal"}},
    }
    with pytest.raises(ValueError, match="nothing outside the page"):
        drawn(specification)


def test_only_what_was_made_here_is_markup() -> None:
    assert tag("p", "<b>", Html("<br>"), None, ["a", 3], title='"x"') == (
        '<p title="&quot;x&quot;">&lt;b&gt;<br>a3</p>'
    )
    assert tag("td", data_label="x", class_=None) == '<td data-label="x"></td>'


PRINTED = st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))


@given(st.text(PRINTED))
def test_escaped_text_reads_as_it_was(value: str) -> None:
    assert html.unescape(text(value)) == value


@given(st.text())
def test_escaped_text_has_no_markup_and_turns_no_line(value: str) -> None:
    assert not set(text(value)) & set("<>\"'\x00\x1b\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069")


def test_importing_the_report_loads_no_chart_library() -> None:
    code = "import sys, prefdata.report; print({'altair', 'vl_convert', 'duckdb', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_section_is_safe_and_where_there_is_nothing_a_line_says_so(hand: Any) -> None:
    """Boards, tables of wins, curves, copies and cycles, all of names and texts from outside."""
    for n in range(30):
        models = ("a", HOSTILE, "c")
        ids = [
            hand.prompt(f"{HOSTILE} {n % 28}", f"{HOSTILE} {place} {n}", model=m)[0] for place, m in enumerate(models)
        ]
        for place, (first, second) in enumerate(((0, 1), (1, 2), (0, 2))):
            p = 1.0 if (n + place) % 3 else 0.0
            hand.says("human:" + HOSTILE, [ids[first], ids[second]], [p, 1 - p], source="human", aspect=HOSTILE)
            hand.says("judge:" + HOSTILE, [ids[first], ids[second]], [0.8, 0.2], aspect=HOSTILE)
    # The same two texts the other way round, under a prompt that differs in white space alone.
    twin = hand.prompt(f"{HOSTILE}  0", f"{HOSTILE} 1 0", f"{HOSTILE} 0 0")
    hand.says("human:" + HOSTILE, twin, [0.0, 1.0], source="human", aspect=HOSTILE)
    found = analyse(hand.dataset())
    source = page(found)
    read = check_safe(source)
    for words in (
        "What is wrong with the data",
        "Which model wins",
        "wins of … over",
        "Whether stated probabilities come true",
        "Copies, leaks and contradictions",
        "For the dataset's card",
    ):
        assert words in read.words, words
    assert "No step has measured the difficulty or the displacement of pairs." in read.words
    assert "No preferences are live." in read.words
    classes = {attributes.get("class") for _, attributes in read.elements}
    assert {"forest", "forest meter", "overview", "nothing"} <= classes
    assert any(str(one).startswith("heat-") for one in classes)
    assert "\u202e" not in source
    assert found["duplicates"]["prompts"]["clusters"] >= 1


def test_a_reliability_curve_is_drawn_from_numbers_alone() -> None:
    curve = [{"stated": 0.7, "observed": 0.6, "n": 9, "low": 0.4, "high": 0.8}]
    curve.append({"stated": 1.0, "observed": 1.0, "n": 3, "low": None, "high": None})
    svg = reliability(curve)
    assert svg.startswith("<svg ")
    assert "http" not in svg


def test_links_lead_within_the_page_only() -> None:
    with pytest.raises(AssertionError):
        check_safe(page_with('<a href="https://evil.example">x</a>'))
    with pytest.raises(AssertionError):
        check_safe(page_with('<a href="#nowhere">x</a>'))
    check_safe(page_with('<p id="here">y</p><a href="#here">x</a>'))


def page_with(inside: str) -> str:
    """A page of this one thing."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return f"<html><head>{policy}<style>{CSS}</style></head><body>{inside}</body></html>"
