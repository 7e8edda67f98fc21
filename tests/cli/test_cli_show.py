"""What `show`, `show --cost` and `reparse` say, on standard output, without markup from outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefdata
from prefdata.annotators import compare
from prefdata.cli import screen

Command = Callable[..., Any]
PRICE = {"prompt": 1.0, "completion": 2.0}
ENGINES = {
    "writer": {"kind": "scripted", "model": "[bold]w", "fail_every": 6, "refuse_every": 7, "price": PRICE},
    "judge": {"kind": "scripted", "model": "j", "prose_every": 5, "price": PRICE},
}
STEPS: list[Any] = [
    {"ingest": {"path": "sample:prompts.jsonl", "limit": 8}},
    {"sample": {"engine": "writer", "n": 3}},
    {"judge.compare": {"engine": "judge"}},
    {"aggregate.bradley_terry": {}},
]


@pytest.fixture
def made(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(screen.output, "width", 200)  # a narrower one folds names
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS}, sort_keys=False))
    assert command("run", "mine.yaml").code == 0
    return tmp_path / "runs" / "mine"


def test_show_says_what_is_missing_and_what_asks_again(command: Command, made: Path) -> None:
    said = command("show", made).out
    assert re.search(r"responses that could not be made: \d+ failed, \d+ refused", said)
    for status, hint in {
        "unparsed": "prefdata reparse",
        "failed": "the next run",
        "refused": "--retry refused",
    }.items():
        assert re.search(rf"^  {status}: .*{hint}", said, re.MULTILINE)
    assert "  timeout: " not in said and "  abstain: " not in said
    assert re.search(r"^calls: \d+ paid, \d+ failed; .* tokens in, .* out; 0\.\d+ USD", said, re.MULTILINE)
    first = command("show", made, "--at", 2).out
    assert "without a verdict" not in first and "calls:" not in first


def test_show_cost(command: Command, made: Path) -> None:
    said = command("show", made, "--cost")
    assert said.code == 0 and not said.err and "live rows" not in said.out
    lines = {line.split()[0].partition("@")[0]: line.split() for line in said.out.splitlines() if line.strip()}
    calls = prefdata.open(made).calls.collect()
    assert lines["sample"][1] == "[bold]w" and re.fullmatch(r"20\d\d-\d\d-\d\d", lines["sample"][2])
    assert lines["total"][1:4] == [
        str(calls["error"].null_count()),
        "0",
        str(calls.height - calls["error"].null_count()),
    ]
    assert lines["total"][-1] == f"{calls['money'].sum():,.4f}"
    assert "USD each" in said.out
    assert command("show", made, "--cost", "--at", 1).out == "no model was called\n"
    unknown = command("show", made, "--cost", "--pipeline", "other")
    assert unknown.code == 1 and "no pipeline 'other'" in unknown.err


def test_reparse(command: Command, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = command("reparse", made)
    assert nothing.code == 0 and nothing.out.startswith("0 judgements read otherwise")
    monkeypatch.setattr(compare, "parse_verdict", lambda text, **options: None)
    worse = command("reparse", made, "--status", "ok")
    count = prefdata.open(made).annotations.filter(status="unparsed", revision=2).collect().height
    assert re.search(rf"judge:j/helpfulness@\w+ +ok +unparsed +{count}\b", worse.out)
    assert f"{count} judgements read otherwise, 0 as before" in worse.out and "next run" in worse.out
    wrong = command("reparse", made, "--status", "prose")
    assert wrong.code == 1 and "the statuses are" in wrong.err
