"""What `show` says of missing verdicts and of cost; refused responses; bills of groups that were not finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from fault_server import FaultServer
from pipeline_line import Line
from served_line import DRAWS, PROMPTS, Served, served_engines, served_steps

from prefdata.dataset import Dataset
from prefdata.engines.budget import Usage
from prefdata.errors import PipelineError
from prefdata.pipeline.costs import costs, total, verdict_prices
from prefdata.pipeline.display import asked_text
from prefdata.pipeline.plan import plan
from prefdata.pipeline.run import run
from prefdata.pipeline.spec import parse
from prefdata.pipeline.status import MEANINGS, status
from prefdata.schema import STATUSES

PER_PAIR = 2
JUDGED = PROMPTS * PER_PAIR


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr("prefdata.engines.client._FIRST_DELAY", 0.001)
    with FaultServer() as server:
        engines = served_engines(server.url, price={"prompt": 3.0, "completion": 5.0})
        line = Line(tmp_path, served_steps(tmp_path / "prompts.jsonl"), engines)
        line.edit("select.where", keep="n_tokens > 0")
        line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(PROMPTS))
        yield Served(line, server)


def planned(served: Served, **options: Any) -> int:
    text = yaml.safe_dump({"engines": served.line.engines, "steps": served.line.steps}, sort_keys=False)
    spec = parse(text, file="line.yaml", folder=served.line.folder, name="line")
    return plan(spec, served.line.path, **options).calls


def unmade(served: Served) -> dict[str, int]:
    return dict(status(served.line.ds).unmade.iter_rows())


# Refused responses


@pytest.mark.parametrize("fault", ["filter", "refusal"])
def test_a_refused_response_is_asked_again_only_on_demand(served: Served, fault: str) -> None:
    line, server = served.line, served.server
    line.steps = line.steps[:2]
    server.every = {fault: 4}
    served.run()
    refused = server.stats()["faults"][fault]
    assert unmade(served) == {"refused": refused}
    server.every = {}
    for retry in ((), ("unparsed",)):
        assert planned(served, retry=retry) == 0
        assert not served.run(retry=retry)
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(PROMPTS + 1))
    assert planned(served) == DRAWS and served.run() == {"model-a": DRAWS}
    assert planned(served, retry=["refused"]) == refused
    assert served.run(retry=["refused"]) == {"model-a": refused}
    assert unmade(served) == {} and not served.run(retry=["refused"])
    assert line.ds.responses.collect().height == (PROMPTS + 1) * DRAWS


def test_a_response_that_failed_is_asked_again_by_the_next_run(served: Served) -> None:
    """Also beside a refused one of the same prompt, which is left alone."""
    line, server = served.line, served.server
    line.steps = line.steps[:2]
    server.every = {"400": 2, "filter": 3}  # the sixth fails as well: the first fault that strikes is the one
    served.run()
    struck = Counter(entry["fault"] for entry in server.log)
    assert unmade(served) == {"failed": struck["400"], "refused": struck["filter"]}
    server.every = {}
    assert planned(served) == struck["400"]
    assert served.run() == {"model-a": struck["400"]}
    assert unmade(served) == {"refused": struck["filter"]}
    assert planned(served) == 0 and not served.run()
    assert planned(served, retry=["refused"]) == struck["filter"]
    assert served.run(retry=["refused"]) == {"model-a": struck["filter"]}


def test_a_refused_response_stays_refused_when_its_prompt_is_run_again(served: Served) -> None:
    """New tags run the group anew, and copy what is there."""
    line, server = served.line, served.server
    line.steps = line.steps[:2]
    server.every = {"filter": 4}
    served.run()
    refused = server.stats()["faults"]["filter"]
    server.every = {}
    prompts = line.folder / "prompts.jsonl"
    prompts.write_text(prompts.read_text().replace("}", ', "tags": ["sums"]}'))
    assert not served.run() and served.groups["sample"] == PROMPTS
    assert unmade(served) == {"refused": refused}
    assert served.run(retry=["refused"]) == {"model-a": refused}


# What there is no verdict for


def test_every_status_has_a_meaning() -> None:
    assert MEANINGS.keys() == STATUSES - {"ok"}


def test_pipelines_and_commits_have_their_own_counts(line: Line) -> None:
    line.engines["judge"]["prose_every"] = 3
    line.run()
    at = line.ds.snapshot.number
    line.edit("judge.compare", card="honesty")
    line.run("second")
    both, first = status(line.ds), status(line.ds, pipeline="line")
    assert {row["annotator"] for row in both.statuses.to_dicts()} > {
        row["annotator"] for row in first.statuses.to_dicts()
    }
    assert status(Dataset(line.path, at)).cost.equals(first.cost)
    assert both.cost["paid"].item() > first.cost["paid"].item()


# Cost


def test_cost_adds_up_to_what_the_server_counted(served: Served) -> None:
    line, server = served.line, served.server
    server.every = {"400": 9}
    served.run()
    line.run("again")  # the same steps: nothing is asked
    line.edit("judge.compare", card="honesty")
    server.every = {}
    served.run()
    ledger = server.ledger()
    by = costs(line.ds)
    (spent,) = total(by).to_dicts()
    assert spent["paid"] == ledger["completions"]
    assert spent["paid"] + spent["failed"] == ledger["requests"] == len(server.log)
    assert (spent["prompt_tokens"], spent["completion_tokens"]) == (
        ledger["prompt_tokens"],
        ledger["completion_tokens"],
    )
    assert spent["money"] == pytest.approx((3 * ledger["prompt_tokens"] + 5 * ledger["completion_tokens"]) / 1e6)
    assert set(by["model"]) == {"model-a", "model-judge"} and by["step"].n_unique() == 3
    assert status(line.ds).cost.to_dicts() == [spent]


def call(call_id: str, **columns: Any) -> dict[str, Any]:
    return {"call_id": call_id, "step": "s@1", "engine": "e", "model": "m", "cached": False, **columns}


def test_the_day_of_a_call(tmp_path: Path) -> None:
    """The call's own in UTC; where it does not say, that of the commit; amounts that nobody knows are null."""
    ds = Dataset.create(tmp_path / "ds")
    late, early = datetime(2024, 2, 29, 23, 59, tzinfo=UTC), datetime(2024, 3, 1, 0, 1, tzinfo=UTC)
    ds.commit(
        {
            "calls": [
                call("a", created_at=late, money=1.0, prompt_tokens=10, completion_tokens=1),
                call("b", created_at=early, money=2.0, prompt_tokens=20, completion_tokens=2),
                call("c", created_at=early, money=0.0, prompt_tokens=20, completion_tokens=2, cached=True),
                call("d", created_at=early, error="the server answered 500"),
                call("e", created_at=early, error="cut", money=0.5, prompt_tokens=5, completion_tokens=5),
                call("f", prompt_tokens=7, completion_tokens=7),
            ]
        },
        "calls",
    )
    today = datetime.fromisoformat(ds.snapshot.commits[-1].time).date()
    rows = costs(ds).drop("step", "model").rows()
    assert rows == [
        (date(2024, 2, 29), 1, 0, 0, 10, 1, 1.0),
        (date(2024, 3, 1), 1, 1, 2, 25, 7, 2.5),
        (today, 1, 0, 0, 7, 7, None),
    ]
    assert total(costs(ds)).rows() == [(3, 1, 2, 42, 15, 3.5)]
    assert total(costs(Dataset(ds.path, 0))).rows() == [(0, 0, 0, None, None, None)]


def test_what_a_verdict_cost(served: Served) -> None:
    """All that a judge's step cost, over its verdicts: what could not be read was paid for, too."""
    served.server.every = {"prose": 5}
    served.line.engines["a"].pop("price")
    served.run()
    calls = served.line.ds.calls.collect()
    judged = served.line.ds.annotations.filter(pl.col("source") == "judge").collect()
    money = calls.filter(pl.col("model") == "model-judge")["money"].sum()
    ok = judged.filter(pl.col("status") == "ok").height
    assert 0 < ok < JUDGED
    (row,) = verdict_prices(served.line.ds).to_dicts()
    assert row["annotator"] == judged["annotator"][0] and row["verdicts"] == ok
    assert row["money"] == pytest.approx(money) and row["each"] == pytest.approx(money / ok)


# Groups that were not finished

PLUGIN = """
import prefdata
from prefdata.engines import Request
from prefdata.schema import message


@prefdata.step("judge.breaks")
class Breaks(prefdata.GroupStep):
    reads, writes = frozenset({"prompts"}), frozenset({"annotations"})
    engine_fields = {"engine": "generate"}
    engine: str
    broken: bool = True

    async def run(self, group, context):
        for prompt in group.prompts:
            await context.ask(self.engine, Request("generate", messages=(message("user", group.group_id),)))
        if self.broken:
            raise ValueError("after it was paid")
        return {}
"""


def test_the_calls_of_a_group_that_failed_are_billed_once(served: Served) -> None:
    line, server = served.line, served.server
    plugin = line.folder / "breaks.py"
    plugin.write_text(PLUGIN)

    def spec(**fields: Any) -> Any:
        steps = [line.steps[0], {"judge.breaks": {"engine": "judge", **fields}}]
        text = yaml.safe_dump({"plugins": [str(plugin)], "engines": line.engines, "steps": steps}, sort_keys=False)
        return parse(text, file="line.yaml", folder=line.folder, name="line")

    line.engines["judge"]["max_concurrency"] = 2
    with pytest.raises(PipelineError, match="after it was paid"):
        run(spec(), line.path)
    asked = len(server.log)
    assert 0 < asked <= PROMPTS
    check_bills(line, server)
    with pytest.raises(PipelineError):
        run(spec(), line.path)
    check_bills(line, server)
    result = run(spec(broken=False), line.path)
    assert result.usage.calls == PROMPTS - len(server.log) + result.usage.calls and len(server.log) == PROMPTS
    check_bills(line, server)


def check_bills(line: Line, server: FaultServer) -> None:
    calls = line.ds.calls.filter(~pl.col("cached")).collect()
    ledger = server.ledger()
    assert calls.height == calls["call_id"].n_unique() == ledger["completions"]
    assert calls["money"].sum() == pytest.approx(
        (3 * ledger["prompt_tokens"] + 5 * ledger["completion_tokens"]) / 1e6, rel=1e-12
    )
    assert calls["group_id"].null_count() == 0


def test_the_calls_of_groups_that_a_budget_ends_are_billed(served: Served) -> None:
    served.line.edit("sample", n=4)
    for engine in served.line.engines.values():
        engine["max_concurrency"] = 1
    served.run(budget="1600tokens")
    assert served.result.exit_code == 3
    check_bills(served.line, served.server)
    served.run()
    assert served.result.exit_code == 0
    check_bills(served.line, served.server)
    assert served.server.stats()["most_of_one"] == 1


# The line of a run


def test_a_run_s_own_calls() -> None:
    before = Usage(calls=3, cached=1, failed=1, money=1.0)
    assert asked_text(before, Usage(calls=5, cached=2, failed=2, money=9.0)) == "2 calls, 1 failed, 1 from the cache"
    assert asked_text(before, before) == asked_text(None, None) == ""


def test_hits_are_no_calls_of_this_run(served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second dataset takes all from the cache; its line says so."""
    served.run()
    caplog.clear()
    other = Line(served.line.folder, served.line.steps, served.line.engines, "other")
    with caplog.at_level("INFO", logger="prefdata.run"):
        result = other.run()
    assert result.usage.calls == 0 and result.usage.money == 0
    said = [record.getMessage() for record in caplog.records]
    drawn = next(line for line in said if line.startswith("sample: "))
    assert f"{PROMPTS * DRAWS} responses, {PROMPTS * DRAWS} from the cache (" in drawn and "calls" not in drawn
