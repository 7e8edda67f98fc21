"""Juries and judges of pairs as whole pipelines: what is asked, what is planned, what an edited card leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from prefdata.cards import load_card
from prefdata.dataset import Dataset
from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.scripted import ScriptedEngine
from prefdata.pipeline.plan import plan
from prefdata.pipeline.reparse import reparse
from prefdata.pipeline.run import run
from prefdata.pipeline.runtime import RunResult
from prefdata.pipeline.spec import Pipeline, parse

SCRIPTED = {name: {"kind": "scripted", "model": f"model-{name}"} for name in ("policy", "x", "y", "z")}


def line(folder: Path, *steps: dict[str, Any], prompts: int = 1, n: int = 5, **engines: dict[str, Any]) -> Pipeline:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {i} plus {i}, and why?"}) + "\n" for i in range(prompts)))
    first = [
        {"ingest": {"format": "prompts", "path": str(path)}},
        {"sample": {"engine": "policy", "n": n, "max_tokens": 24}},
    ]
    document = {"engines": {**SCRIPTED, **engines}, "steps": [*first, *steps]}
    return parse(yaml.safe_dump(document, sort_keys=False), file="line.yaml", folder=folder, name="line")


def calls(result: RunResult) -> dict[str, int]:
    return {step.name: step.rows.get("calls", 0) for step in result.steps}


def live(folder: Path, *conditions: pl.Expr) -> pl.DataFrame:
    return Dataset(folder).view()["annotations"].filter(*conditions).collect()


JURIES = [
    [{"judge.compare": {"engine": ["x", "y", "z"]}}],
    [{"judge.compare": {"engine": name, "name": name}} for name in "xyz"],
]


def test_golden_count_of_a_jury_of_three(tmp_path: Path) -> None:
    spec = line(tmp_path, *JURIES[0], {"aggregate.majority": {}}, {"aggregate.veto": {}})
    planned = plan(spec, tmp_path / "ds")
    result = run(spec, tmp_path / "ds")
    assert planned.exact and planned.calls == result.usage.calls == 5 + 60
    assert len(live(tmp_path / "ds", pl.col("source") == "judge")) == 60
    assert len(live(tmp_path / "ds", pl.col("annotator") == "consensus:majority")) == 10
    assert len(live(tmp_path / "ds", pl.col("annotator") == "consensus:veto")) == 10


def test_a_jury_in_one_step_is_the_jury_of_three_steps(tmp_path: Path) -> None:
    said = []
    for number, members in enumerate(JURIES):
        spec = line(tmp_path, *members, {"aggregate.majority": {}}, prompts=2, n=3)
        run(spec, tmp_path / f"ds{number}")
        rows = live(tmp_path / f"ds{number}", pl.col("source") == "consensus")
        said.append(rows.select("annotation_id", "scores", "confidence").sort("annotation_id").rows())
    assert said[0] == said[1]


def test_a_jury_that_says_first_has_only_ties(tmp_path: Path) -> None:
    biased = {"kind": "scripted", "model": "biased", "position_bias": 1.0}
    steps = [{"judge.compare": {"engine": ["x", "y"]}}, {"aggregate.majority": {}}, {"aggregate.veto": {}}]
    run(line(tmp_path, *steps, x=biased, y={**biased, "model": "biased-too"}), tmp_path / "ds")
    rows = live(tmp_path / "ds", pl.col("source") == "consensus")
    assert len(rows) == 20 and set(rows["scores"].list.first()) == {0.5}


@pytest.mark.parametrize("p", [2, 10])
def test_a_failing_member_costs_nobody_else_a_vote(tmp_path: Path, p: int) -> None:
    failing = {"kind": "scripted", "model": "model-y", "fail_every": p}
    spec = line(
        tmp_path, {"judge.compare": {"engine": ["x", "y"]}}, {"aggregate.majority": {"min_valid": 2}}, y=failing
    )
    run(spec, tmp_path / "ds")
    judged = live(tmp_path / "ds", pl.col("source") == "judge")
    failed = judged.filter(pl.col("status") != "ok")
    assert set(failed["annotator"].str.contains("model-y")) <= {True} and failed["scores"].null_count() == len(failed)
    voted = judged.filter(pl.col("status") == "ok").select("annotator", pair=pl.col("target_ids").list.sort()).unique()
    full = voted.group_by("pair").len().filter(pl.col("len") == 2).height
    agreed = live(tmp_path / "ds", pl.col("source") == "consensus")
    # A pair of which one order failed still has a vote of that member.
    assert agreed.filter(pl.col("status") == "ok").height <= full and (p > 2 or full < 10)


DIALOGUES = [
    {"judge.debate": {"engine": ["x", "y"], "advocates": ["y", "z"], "rounds": 2, "replicates": 3}},
    {"judge.self_reference": {"engine": ["x", "y"], "replicates": 3, "strength_engine": "x", "orders": "random"}},
]


@pytest.mark.parametrize("judge", DIALOGUES)
def test_l5_dialogues_cost_what_was_planned_and_nothing_the_second_time(tmp_path: Path, judge: dict[str, Any]) -> None:
    spec = line(tmp_path, judge, {"aggregate.majority": {}}, prompts=2, n=3)
    planned = plan(spec, tmp_path / "ds")
    result = run(spec, tmp_path / "ds")
    assert planned.exact and planned.calls == result.usage.calls
    assert run(spec, tmp_path / "ds").usage.calls == 0 and plan(spec, tmp_path / "ds").calls == 0


MOST = {"best_worst": 3, "best_vs_random": 3, "all_pairs": 18, "adjacent": 9, "best_vs_rest": 9, "list": 0}


@pytest.mark.parametrize("judge", ["judge.label_probs", "judge.score"])
def test_judges_of_pairs_never_ask_more_than_planned(tmp_path: Path, judge: str) -> None:
    aggregate = "aggregate.mean" if judge == "judge.score" else "aggregate.bradley_terry"
    steps: list[dict[str, Any]] = [{judge: {"engine": "x"}}, {aggregate: {}}]
    for rule in MOST:
        steps.append({"pair": {"rule": rule, "min_gap": 0.2, "name": rule}})
        steps.append({"judge.rationale": {"engine": "x", "name": f"why-{rule}", "from": [rule], "detail": "general"}})
    spec = line(tmp_path, *steps, prompts=3, n=4)
    planned = {step.name: step for step in plan(spec, tmp_path / "ds").steps}
    asked = calls(run(spec, tmp_path / "ds"))
    assert planned[judge].exact and sum(asked[f"why-{rule}"] for rule in MOST) > 0
    assert all(asked[f"why-{rule}"] <= most for rule, most in MOST.items())
    # What several rules pair is one request: of four responses each to three prompts there are 18 pairs.
    assert sum(planned[f"why-{rule}"].calls for rule in MOST) == 18
    assert planned["why-best_worst"].calls == 3 and not planned["why-best_worst"].exact


JUDGES: list[dict[str, Any]] = [
    {"judge.compare": {"engine": ["x", "y"]}},
    {"judge.score": {"engine": ["x", "y", "z"]}},
]


@pytest.mark.parametrize("judge", JUDGES)
def test_members_who_differ_are_planned_for(tmp_path: Path, judge: dict[str, Any]) -> None:
    """Without a consensus each member's pairs are explained: one says a beats b, the other b beats a."""
    first = {"kind": "scripted", "model": "first", "position_bias": 1.0}
    steps = [judge, {"pair": {"rule": "all_pairs"}}, {"judge.rationale": {"engine": "z"}}]
    spec = line(tmp_path, *steps, n=3, x=first)
    planned = {step.name: step for step in plan(spec, tmp_path / "ds").steps}
    before = sum(planned[name].calls for name in ("sample", next(iter(judge))))
    result = run(spec, tmp_path / "ds")
    assert 0 < result.usage.calls - before <= planned["judge.rationale"].calls


def test_what_went_well_in_a_debate_is_not_paid_for_again(tmp_path: Path) -> None:
    prose = {"kind": "scripted", "model": "model-x", "prose_every": 2}
    spec = line(tmp_path, {"judge.debate": {"engine": "x", "rounds": 2}}, n=4, x=prose)
    first = run(spec, tmp_path / "ds")
    unread = live(tmp_path / "ds", pl.col("status") == "unparsed").height
    assert unread > 0 and calls(first)["judge.debate"] == 12 * 5
    again = run(spec, tmp_path / "ds", retry=["unparsed"])
    assert again.usage.calls == unread, "the judge is asked again, and its advocates are not"


MEASURES: list[dict[str, Any]] = [
    {"judge.follow_up": {"engine": "x", "most": 2}},
    {"judge.likelihood": {"engine": "x"}},
    {"judge.density_ratio": {"strong": "x", "weak": "y"}},
    {"judge.self_preference": {"policy": "x", "reference": "y"}},
    {"judge.embedding": {"engine": "x"}},
]


@pytest.mark.parametrize("judge", MEASURES, ids=lambda judge: next(iter(judge)))
def test_of_many_likelihoods_only_the_one_that_failed_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: dict[str, Any]
) -> None:
    answer, asked = ScriptedEngine.answer, 0

    def once_down(self: ScriptedEngine, request: Request) -> Reply:
        nonlocal asked
        asked += self.model == "model-x"
        if self.model == "model-x" and asked == 2:
            raise RequestError("down for a moment")
        return answer(self, request)

    spec = line(tmp_path, judge, n=2)
    monkeypatch.setattr(ScriptedEngine, "answer", once_down)
    run(spec, tmp_path / "ds")
    assert "failed" in set(live(tmp_path / "ds", pl.col("annotator").is_not_null())["status"])
    assert plan(spec, tmp_path / "ds").calls == 1 and run(spec, tmp_path / "ds").usage.calls == 1
    assert set(live(tmp_path / "ds", pl.col("annotator").is_not_null())["status"]) == {"ok"}


@pytest.mark.parametrize("judge", MEASURES[2:4], ids=lambda judge: next(iter(judge)))
def test_another_weak_model_can_be_planned_for(tmp_path: Path, judge: dict[str, Any]) -> None:
    """Of one model the plan has real answers, of the other it has none."""
    run(line(tmp_path, judge, n=2), tmp_path / "ds")
    kind, fields = next(iter(judge.items()))
    other = line(tmp_path, {kind: {name: "z" if engine == "y" else engine for name, engine in fields.items()}}, n=2)
    assert plan(other, tmp_path / "ds").calls == run(other, tmp_path / "ds").usage.calls == 2


@pytest.mark.parametrize("strength", ["x", "z"])
def test_reading_again_costs_no_strength(tmp_path: Path, strength: str) -> None:
    """Likelihoods are not kept with the answers: what is read again without them would lose it."""
    run(line(tmp_path, {"judge.self_reference": {"engine": "x", "strength_engine": strength}}, n=3), tmp_path / "ds")
    before = live(tmp_path / "ds", pl.col("source") == "judge")
    assert before["strength"].is_not_null().any()
    said: list[str] = []
    done = reparse(tmp_path / "ds", say=said.append)
    assert not done.changed and not done.commits and any("likelihoods" in one for one in said)
    assert live(tmp_path / "ds", pl.col("source") == "judge").equals(before)


def test_an_edited_card_leaves_its_old_verdicts_out(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    text = "name: mine\ninstructions: {}\naspects: [{{name: overall, text: t, scale: {{min: 1, max: 5}}}}]\n"
    old.write_text(text.format("Judge."))
    new.write_text(text.format("Judge with care."))
    versions = [
        {"judge.score": {"engine": "x", "card": str(card), "name": name}} for name, card in (("v1", old), ("v2", new))
    ]
    both, told = (
        line(tmp_path, *versions, {"aggregate.mean": fields}, n=3) for fields in ({}, {"card_versions": "all"})
    )
    run(both, tmp_path / "ds")
    judged = live(tmp_path / "ds", pl.col("source") == "judge")
    newest = judged.filter(pl.col("annotator").str.ends_with(load_card(str(new)).label))
    assert len(judged) == 6 and len(newest) == 3
    wanted = {row["target_ids"][0]: row["scores"][0] for row in newest.to_dicts()}
    (row,) = live(tmp_path / "ds", pl.col("source") == "consensus").to_dicts()
    assert dict(zip(row["target_ids"], row["scores"], strict=True)) == wanted
    run(told, tmp_path / "ds")
    (row,) = live(tmp_path / "ds", pl.col("source") == "consensus").to_dicts()
    means = judged.explode("target_ids", "scores").group_by("target_ids").agg(pl.col("scores").mean())
    assert dict(zip(row["target_ids"], row["scores"], strict=True)) == dict(means.iter_rows())
