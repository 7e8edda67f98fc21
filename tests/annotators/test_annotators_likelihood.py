"""Log-probabilities for each token, for each byte, and whole; what stays as it was without `per`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata.annotators import Likelihood
from prefdata.annotators.likelihood import amount
from prefdata.engines.base import Reply, Request
from prefdata.pipeline.display import Display
from prefdata.schema import Row, check_annotations

Make = Callable[..., Any]


def judged(step: Any, bench: Any) -> list[Row]:
    rows: list[Row] = asyncio.run(step.run(bench.group, bench.context)).get("annotations", [])
    check_annotations(rows, "test")
    return rows


def likelihoods(request: Request, revision: int) -> Reply:
    return Reply(values=(-1.0, -2.0, -3.0) if request.messages else (-2.0, -6.0))


@pytest.mark.parametrize(("per", "score"), [("token", -2.0), ("byte", -6.0 / 5), ("sum", -6.0)])
def test_the_amount_of_three_tokens_and_five_bytes(per: Any, score: float) -> None:
    assert amount((-1.0, -2.0, -3.0), "käse", per) == score, "one letter of the four has two bytes"


@pytest.mark.parametrize(
    ("per", "score", "name"),
    [
        ("token", -2.0 - -4.0, "likelihood:llama/cond-minus-uncond"),
        ("byte", (-6.0 - -8.0) / 5, "likelihood:llama/cond-minus-uncond/per-byte"),
        ("sum", -6.0 - -8.0, "likelihood:llama/cond-minus-uncond/sum"),
    ],
)
def test_each_normalisation_is_an_annotator_of_its_own(bench: Make, per: Any, score: float, name: str) -> None:
    (row,) = judged(Likelihood(engine="judge", per=per), bench(likelihoods, "käse"))
    assert row["scores"] == [pytest.approx(score)] and row["annotator"] == name


def test_the_default_is_the_step_that_it_was_before_there_was_a_choice() -> None:
    step = Likelihood(engine="judge")
    assert "per" not in step.resolved() and Likelihood.restored(step.resolved()) == step
    other = Likelihood(engine="judge", per="byte")
    assert other.resolved()["per"] == "byte" and Likelihood.restored(other.resolved()) == other


def test_half_a_character_has_its_bytes_too() -> None:
    assert amount((-3.0,), "\ud83d", "byte") == -1.0


PIPELINE = """
engines:
  one: {kind: scripted, model: one}
  two: {kind: scripted, model: two}
steps:
  - ingest: {format: prompts, path: "sample:prompts.jsonl", limit: 3}
  - sample: {engine: one, n: 2}
  - judge.density_ratio: {strong: one, weak: two, per: byte}
  - judge.self_preference: {policy: one, reference: two, per: byte}
  - judge.follow_up: {engine: one, most: 1, combine: both}
  - judge.embedding: {engine: one, form: r3}
  - judge.reward: {name: scores, engine: one}
  - judge.reward: {name: pairs, engine: one, form: compare}
"""


def test_the_plan_says_what_a_run_asks(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PIPELINE)
    planned = {step.name: step.calls for step in prefdata.plan(file, tmp_path / "data").steps}
    assert planned["judge.density_ratio"] == 12 and planned["judge.follow_up"] == 72
    assert planned["judge.self_preference"] == 0, "what the density ratio has asked already"
    assert planned["scores"] == planned["pairs"] == 6
    assert planned["judge.embedding"] == 9, "a prompt is embedded once"
    prefdata.run(file, tmp_path / "data", display=Display(quiet=True))
    data = prefdata.open(tmp_path / "data")
    rows = data.annotations.collect()
    assert set(rows["status"]) == {"ok"} and rows["scores"].null_count() == 0
    assert rows.group_by("step").len()["len"].sum() == 6 + 3 + 6 * 7 + 6 + 6 + 6
    paid = data.rows("calls").filter(~pl.col("cached")).collect()
    assert paid.height == sum(planned.values())
    assert all(step.calls == 0 for step in prefdata.plan(file, tmp_path / "data").steps)
