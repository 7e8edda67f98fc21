"""The plan: exact where it can be known, otherwise an upper bound that a run never exceeds; and it changes nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from fault_server import FaultServer
from pipeline_line import Line
from served_line import served_engines, served_steps

import prefdata
from prefdata.errors import PipelineError
from prefdata.pipeline.plan import PipelinePlan
from prefdata.pipeline.spec import parse

PROMPTS = 8
FAR = "n_tokens > 20"
"""Some of the responses are shorter."""


def plan(line: Line, **options: Any) -> PipelinePlan:
    text = yaml.safe_dump({"engines": line.engines, "steps": line.steps}, sort_keys=False)
    return prefdata.plan(parse(text, file="line.yaml", folder=line.folder, name="line"), line.path, **options)


def by_step(found: PipelinePlan) -> dict[str, int]:
    return {step.name: step.calls for step in found.steps if step.engines}


def files(*folders: Path) -> dict[str, str]:
    every = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in every if path.suffix != ".sqlite3-shm"}


@pytest.mark.slow
def test_hello_is_planned_exactly(tmp_path: Path) -> None:
    found = prefdata.plan("hello", tmp_path / "ds")
    assert found.exact and by_step(found) == {"sample": 16 * 4, "judge.compare": 16 * 4 * 3}
    assert prefdata.run("hello", tmp_path / "ds").usage.calls == found.calls
    again = prefdata.plan("hello", tmp_path / "ds")
    assert (again.calls, again.exact) == (0, True)


@pytest.mark.slow
def test_a_plan_follows_edits_and_limits(line: Line) -> None:
    for options in ({"limit": 3}, {}):
        found = plan(line, **options)
        assert found.exact
        assert line.run(**options).usage.calls == found.calls > 0
    for step, fields in (
        ("judge.compare", {"orders": "one"}),
        ("sample", {"engine": ["a", "b"]}),
        ("judge.compare", {"card": "honesty"}),
        ("pair", {"min_gap": 0.5}),
    ):
        line.edit(step, **fields)
        found = plan(line)
        assert found.exact
        assert line.run().usage.calls == found.calls


def test_after_a_select_it_is_an_upper_bound(line: Line) -> None:
    line.steps.insert(2, line.steps.pop(4))
    line.edit("select.where", keep=FAR)
    found = plan(line)
    exact = {step.name: step.exact for step in found.steps if step.engines}
    assert exact == {"sample": True, "judge.compare": False} and not found.exact
    assert by_step(found) == {"sample": PROMPTS * 3, "judge.compare": PROMPTS * 3 * 2}
    result = line.run()
    assert PROMPTS * 3 < result.usage.calls < found.calls
    assert (plan(line).calls, plan(line).exact) == (0, True)
    # What is known is no bound: the responses are there, and the filter acts.
    line.edit("judge.compare", card="honesty")
    found = plan(line)
    assert found.exact and found.calls == line.run().usage.calls


def test_asking_again_at_once_is_an_upper_bound(line: Line) -> None:
    line.engines["judge"]["prose_every"] = 3
    line.edit("judge.compare", reask=2)
    found = plan(line)
    judged = next(step for step in found.steps if step.name == "judge.compare")
    assert (judged.calls, judged.exact) == (PROMPTS * 6 * 3, False)
    assert PROMPTS * 3 + PROMPTS * 6 < line.run().usage.calls < found.calls
    assert (plan(line).calls, plan(line).exact) == (0, True)


def test_retries_are_planned(line: Line) -> None:
    line.engines["judge"].update(prose_every=3, fail_every=5)
    line.run()
    statuses = line.ds.annotations.collect()["status"].value_counts(sort=True)
    counts = dict(statuses.iter_rows())
    assert counts["unparsed"] and counts["failed"]
    assert plan(line).calls == counts["failed"]
    found = plan(line, retry=["unparsed"])
    assert found.exact and found.calls == counts["failed"] + counts["unparsed"]
    usage = line.run(retry=["unparsed"]).usage
    assert usage.calls + usage.failed == found.calls


def test_what_the_cache_holds_is_not_paid_again(line: Line) -> None:
    calls = line.run().usage.calls
    line.dataset_name = "another"
    found = plan(line)
    assert found.calls == 0 and found.exact and sum(step.cached for step in found.steps) == calls
    usage = line.run().usage
    assert (usage.calls, usage.cached) == (0, calls)
    line.edit("sample", n=4)
    found = plan(line)
    assert by_step(found) == {"sample": PROMPTS, "judge.compare": PROMPTS * (6 - 3) * 2}


def test_a_plan_changes_nothing(line: Line, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan(line)
    assert sorted(tmp_path.rglob("*")) == before
    line.run(limit=3)
    cache = Path(os.environ["PREFDATA_CACHE"])
    from prefdata.engines import RequestCache

    held, commit, written = RequestCache().stats().replies, line.ds.snapshot.number, files(line.path)
    line.edit("judge.compare", card="honesty")
    line.edit("pair", min_gap=2.0)
    assert plan(line).calls
    assert RequestCache().stats().replies == held > 0
    assert files(line.path) == written and line.ds.snapshot.number == commit
    line.run(limit=3)
    assert files(line.path) != written and RequestCache().stats().replies > held and cache.is_dir()


def test_tokens_and_money(tmp_path: Path) -> None:
    """What is asked about responses that are not there yet is estimated from their greatest length, not as if empty."""
    line = Line(tmp_path, served_steps(tmp_path / "prompts.jsonl"))
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(PROMPTS))
    with FaultServer() as server:
        line.engines = served_engines(server.url)
        line.engines["a"]["price"] = {"prompt": 1.0, "completion": 2.0}
        line.edit("sample", max_tokens=300)
        line.edit("judge.compare", max_tokens=100)
        sample, judge = (step for step in plan(line).steps if step.engines)
        assert not server.log
    assert sample.completion_tokens == PROMPTS * 2 * 300
    assert sample.money == pytest.approx((sample.prompt_tokens + 2 * sample.completion_tokens) / 1e6)
    assert judge.money is None and judge.completion_tokens == PROMPTS * 2 * 100
    assert judge.prompt_tokens > judge.calls * 2 * 300


@pytest.mark.slow
def test_the_bill_stays_within_the_plan(line: Line) -> None:
    for engine in line.engines.values():
        engine["price"] = {"prompt": 3.0, "completion": 5.0}
    found = plan(line)
    usage = line.run().usage
    planned = sum(step.money or 0.0 for step in found.steps)
    assert 0 < usage.money <= planned
    assert usage.completion_tokens <= sum(step.completion_tokens for step in found.steps)


FAULTY = """
import prefdata

@prefdata.step("judge.faulty")
class Faulty(prefdata.GroupStep):
    reads, writes = frozenset({"responses"}), frozenset({"annotations"})

    async def run(self, group, context):
        return {"annotations": [row["no_such_column"] for row in group.responses]}
"""


def test_a_step_that_breaks_breaks_the_plan_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    text = {"plugins": ["faulty.py"], "engines": {"a": {"kind": "scripted"}}}
    steps = [{"ingest": {"path": "sample:prompts.jsonl", "limit": 2}}, {"sample": {"engine": "a"}}, "judge.faulty"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**text, "steps": steps}))
    with pytest.raises(PipelineError, match=r"^step 'judge.faulty' failed on group \w+: KeyError: 'no_such_column'$"):
        prefdata.plan(tmp_path / "mine.yaml", tmp_path / "ds")
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(PipelineError, match=r"'no_such_column' \(the run's log has the traceback\)$"):
        prefdata.run(tmp_path / "mine.yaml", tmp_path / "ds")
    logs = "".join(path.read_text() for path in (tmp_path / "ds" / "logs").iterdir())
    assert "Traceback" in logs and "no_such_column" in logs
