"""judge.pair_quality with a scripted critic, and the threshold that drops pairs by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from prefdata.annotators import PairQuality
from prefdata.dataset import Dataset
from prefdata.engines.base import Reply, Request
from prefdata.operators.select.threshold import Threshold
from prefdata.pipeline.plan import plan
from prefdata.pipeline.run import run as run_pipeline
from prefdata.pipeline.spec import parse
from prefdata.schema import Rows, check_annotations, preference

Make = Callable[..., Any]


def run(step: Any, bench: Any) -> Rows:
    rows: Rows = asyncio.run(step.run(bench.group, bench.context))
    check_annotations(rows.get("annotations", []), "test")
    return rows


def paired(b: Any) -> Any:
    ids = [row["response_id"] for row in b.group.responses]
    row = preference(group_id=b.group.group_id, prompt_id=b.group.group_id, response_ids=ids, scores=[2.0, 1.0])
    b.group.preferences.append({**dict.fromkeys(("roles", "prompt_ids", "edges")), **row})
    return b


def says(text: str) -> Callable[[Request, int], Reply]:
    return lambda request, revision: Reply(text)


def test_a_pair_is_scored_as_a_whole(bench: Make) -> None:
    b = paired(bench(says('{"reason": "Plain.", "scores": {"pair_quality": 9}}'), "one", "two"))
    made = run(PairQuality(engine="judge"), b)
    (row,) = made["annotations"]
    assert (row["target"], row["target_ids"]) == ("preference", [b.group.preferences[0]["preference_id"]])
    assert (row["protocol"], row["scores"], row["aspect"], row["text"]) == ("score", [9.0], "pair_quality", "Plain.")
    assert row["annotator"].startswith("judge:llama/pair/pair-quality@") and len(b.context.asked) == 1
    assert made["criteria"][0]["scale"]["max"] == 10
    assert b.texts[0].index("Better response:") < b.texts[0].index("Other response:")
    assert "chosen" not in b.texts[0] and "rejected" not in b.texts[0]


@pytest.mark.parametrize("text", ["11 out of 10", '{"scores": {"pair_quality": 11}}', '{"scores": {}}', ""])
def test_a_critic_that_failed_says_nothing(bench: Make, text: str) -> None:
    b = paired(bench(says(text), "one", "two"))
    (row,) = run(PairQuality(engine="judge"), b)["annotations"]
    assert row["status"] == "unparsed" and row["scores"] is None


def test_one_call_for_all_aspects(bench: Make, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    aspects = [{"name": name, "text": "t", "scale": {"min": 1, "max": 5}} for name in ("contrast", "relevance")]
    file.write_text(yaml.safe_dump({"name": "two", "instructions": "i", "protocols": ["score"], "aspects": aspects}))
    b = paired(bench(says('{"scores": {"contrast": 5, "relevance": 7}}'), "one", "two"))
    rows = run(PairQuality(engine="judge", card=str(file)), b)["annotations"]
    assert {row["aspect"]: (row["status"], row["scores"]) for row in rows} == {
        "contrast": ("ok", [5.0]),
        "relevance": ("unparsed", None),
    }
    assert len(b.context.asked) == 1 and len({row["call_id"] for row in rows}) == 1


def test_preferences_need_a_named_critic() -> None:
    with pytest.raises(ValidationError, match="preferences have no consensus: name the critic"):
        Threshold(table="preferences", min=8)
    assert Threshold(table="preferences", min=8, annotator="judge:*").inputs() == {
        "annotations",
        "consensus",
        "preferences",
    }
    assert Threshold(min=8).inputs() == {"annotations", "consensus", "responses"}


STEPS: list[dict[str, Any]] = [
    {"sample": {"engine": "policy", "n": 3, "max_tokens": 24}},
    {"judge.compare": {"engine": "judge"}},
    {"aggregate.majority": {}},
    {"pair": {"rule": "all_pairs"}},
    {"judge.rationale": {"engine": "judge", "replicates": 2}},
    {"judge.pair_quality": {"engine": "judge"}},
    {"select.threshold": {"table": "preferences", "aspect": "pair_quality", "annotator": "judge:*", "min": 7}},
    {"export": {"format": "lists", "path": "lists.parquet"}},
]


def test_from_prompts_to_rationales_and_good_pairs(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} plus {n}, and why?"}) + "\n" for n in range(4)))
    document = {
        "engines": {name: {"kind": "scripted", "model": f"model-{name}"} for name in ("policy", "judge")},
        "steps": [{"ingest": {"format": "prompts", "path": str(prompts)}}, *STEPS],
    }
    spec = parse(yaml.safe_dump(document, sort_keys=False), file="line.yaml", folder=tmp_path, name="line")
    before = {step.name: step for step in plan(spec, tmp_path / "ds").steps}
    result = run_pipeline(spec, tmp_path / "ds")
    made = {step.name: step.rows for step in result.steps}
    for name in ("judge.rationale", "judge.pair_quality"):
        assert not before[name].exact and made[name]["calls"] <= before[name].calls <= 4 * 3 * 2
    view = Dataset(tmp_path / "ds").view()
    scores = view["annotations"].filter(pl.col("protocol") == "score").collect()
    kept = view["preferences"].collect()
    assert 0 < kept.height < made["pair"]["preferences"], "the scripted critic finds some pairs worse than others"
    assert set(scores["target_ids"].list.first()) == set(kept["preference_id"])
    assert scores["scores"].list.first().min() >= 7
    lists = pl.read_parquet(tmp_path / "ds" / "exports" / "lists.parquet")
    said = view["annotations"].filter(pl.col("protocol") == "critique").collect()
    wanted: dict[str, set[str]] = {}
    for row in said.iter_rows(named=True):
        wanted.setdefault(row["target_ids"][0], set()).add(row["text"])
    found = {row["id"]: row["rationales"] for row in lists.iter_rows(named=True)}
    assert {name: {one["text"] for one in given} for name, given in found.items()} == wanted
    assert all(one["of"] == [0, 1] for given in found.values() for one in given)
    again = run_pipeline(spec, tmp_path / "ds")
    assert again.usage.calls == 0 and all(step.exact and step.calls == 0 for step in plan(spec, tmp_path / "ds").steps)
