"""A run never asks more than its plan says, whatever steps follow one another and whatever the models answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_line import Line
from test_pipeline_plan import plan

pytestmark = pytest.mark.slow

Steps = list[dict[str, Any]]

ENGINES = st.sampled_from(["a", "b", "c"])
RULES = st.sampled_from(["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list"])
FAULTS = st.sampled_from(
    [{}, {"prose_every": 2}, {"refuse_every": 3}, {"replies": {"uses": "Same."}}, {"replies": {"answers": "None."}}]
)


@st.composite
def generation(draw: st.DrawFn) -> Steps:
    steps: Steps = []
    if draw(st.booleans()):
        steps.append(
            {
                "condition": {
                    "texts": ["Be brief.", "Be kind."],
                    "kind": draw(st.sampled_from(["principle", "passages"])),
                }
            }
        )
    mode = draw(st.sampled_from(["independent", "pool", "joint", "ladder", "anchor"]))
    asked: dict[str, Any] = {"name": "drawn", "mode": mode, "max_tokens": draw(st.sampled_from([8, 40]))}
    asked["engine"] = "c" if mode == "joint" else ["a", "b"]
    asked |= {} if mode == "ladder" else {"n": 3 if mode == "joint" else draw(st.integers(1, 2))}
    steps.append({"sample": asked | ({"m": 1} if mode == "pool" else {})})
    further = draw(st.sampled_from(["", "filter", "refine", "truncate", "rephrase"]))
    if further == "filter":
        steps.append({"select.where": {"keep": "n_tokens > 6"}})
    elif further == "refine":
        steps.append({"judge.critique": {"engine": draw(ENGINES), "max_tokens": 30}})
        steps.append({"rewrite.refine": {"engine": draw(ENGINES), "max_tokens": 40}})
    elif further == "truncate":
        steps.append({"rewrite.corrupt": {"how": "truncate", "from": ["drawn"]}})
    elif further == "rephrase":
        steps.append({"rewrite.rephrase": {"engine": draw(ENGINES), "max_tokens": 30, "most_ratio": 9}})
    return steps


@st.composite
def judging(draw: st.DrawFn) -> Steps:
    kinds: Steps = [
        {"judge.compare": {"engine": draw(ENGINES), "reask": draw(st.integers(0, 1))}},
        {"judge.score": {"engine": draw(ENGINES)}},
        {"judge.rank": {"engine": draw(ENGINES)}},
        {"judge.choose": {"engine": draw(ENGINES)}},
        {"judge.score_together": {"engine": draw(ENGINES)}},
        {"judge.reward": {"engine": draw(ENGINES)}},
    ]
    steps = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2, unique_by=lambda step: next(iter(step))))
    if draw(st.booleans()):
        steps.append({"aggregate.bradley_terry": {}})
    pair: dict[str, Any] = {"rule": draw(RULES), "min_gap": draw(st.sampled_from([0, 0.5]))}
    pair |= {"ties": draw(st.sampled_from(["drop", "keep"])), "max_per_prompt": draw(st.sampled_from([None, 1, 2]))}
    steps.append({"pair": pair})
    steps += draw(
        st.sampled_from([[], [{"pair.refined": {"rule": "all"}}], [{"pair.ladder": {"engines": ["a", "b"]}}]])
    )
    last = draw(st.sampled_from(["judge.rationale", "judge.pair_quality"]))
    return [*steps, {last: {"engine": draw(ENGINES)}}]


def asked(line: Line) -> Counter[str]:
    """The calls of each step."""
    calls = line.ds.calls.collect().to_dicts()
    return Counter(row["step"].partition("@")[0] for row in calls if not row["cached"])


def bounded(steps: Steps, faults: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        monkeypatch.setenv("PREFDATA_CACHE", str(folder / "cache"))
        line = Line(folder, [{"ingest": {"path": str(folder / "prompts.jsonl")}}, *steps])
        line.engines = {
            engine: {"kind": "scripted", "model": engine, **fault} for engine, fault in zip("abc", faults, strict=True)
        }
        before: Counter[str] = Counter()
        for count in (1, 2):  # with nothing there, and with a prompt more
            line.write_prompts(f"Name {number} uses of a brick." for number in range(2, 2 + count))
            planned = {step.name: step.calls for step in plan(line).steps}
            line.run()
            now = asked(line)
            over = {step: (calls, planned[step]) for step, calls in (now - before).items() if calls > planned[step]}
            assert not over, f"asked and planned: {over}"
            before = now


@given(generation(), judging(), st.lists(FAULTS, min_size=3, max_size=3))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_step_asks_more_than_was_planned(
    monkeypatch: pytest.MonkeyPatch, first: Steps, then: Steps, faults: list[dict[str, Any]]
) -> None:
    bounded([*first, *then], faults, monkeypatch)


SAMPLE: dict[str, Any] = {"sample": {"engine": ["a", "b"], "n": 2, "max_tokens": 40}}


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        # The pair of the ladder was, in the plan alone, one that the judge had preferred too: one question for two.
        (
            [
                SAMPLE,
                {"judge.rank": {"engine": "c"}},
                {"pair": {"rule": "best_vs_rest"}},
                {"pair.ladder": {"engines": ["a", "b"], "draws": "all"}},
                {"judge.rationale": {"engine": "a"}},
            ],
            {},
        ),
        # A list of three in the plan, about which nobody is asked, was a list of two in the run.
        (
            [
                {"sample": {"engine": "a", "n": 1}},
                {"sample": {"name": "same", "engine": ["b", "c"], "n": 1}},
                {"judge.score": {"engine": "a"}},
                {"pair": {"rule": "list"}},
                {"judge.rationale": {"engine": "a"}},
            ],
            {"replies": {"uses of a brick.$": "Same."}},
        ),
        # One seed at two temperatures was stood in for by equal texts, which are not compared.
        (
            [
                SAMPLE,
                {"sample": {"name": "greedy", "engine": ["a", "b"], "mode": "ladder", "max_tokens": 40}},
                {"judge.compare": {"engine": "c"}},
            ],
            {},
        ),
    ],
)
def test_pairs_that_a_plan_had_too_few_of(monkeypatch: pytest.MonkeyPatch, steps: Steps, fault: dict[str, Any]) -> None:
    bounded(steps, [{}, fault, fault], monkeypatch)
