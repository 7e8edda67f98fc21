"""A run that a signal, `kill -9` with the cache lost, or its budget stops ends equal to one that was not.

What `kill -9` does where the cache is kept is in test_durable_kill.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from fault_server import FaultServer
from served_line import served_engines, served_steps

import prefdata
from prefdata.dataset import Dataset
from prefdata.pipeline.runtime import RunResult

pytestmark = pytest.mark.slow

PROMPTS, DRAWS, PER_PROMPT, AT_ONCE = 12, 3, 6, 4
JUDGED = PROMPTS * PER_PROMPT
COMMAND = "from prefdata.cli import main; main()"
FLUSHING = "import sys, prefdata; prefdata.run(sys.argv[1], sys.argv[2], flush_seconds=0.02)"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(latency=0.03) as running:
        yield running


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's file."""
    folder = tmp_path_factory.mktemp("resume")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} plus {n}?"}) + "\n" for n in range(PROMPTS)))
    engines = served_engines("${LOOPBACK}", max_concurrency=AT_ONCE, price={"prompt": 1.0, "completion": 2.0})
    steps = [*served_steps(prompts), {"export": {"format": "lists", "path": "lists.parquet"}}]
    steps[1]["sample"]["n"] = DRAWS
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump({"engines": engines, "steps": steps}))
    return path


@pytest.fixture
def pipeline(written: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file; what it asks goes to this test's server."""
    monkeypatch.setenv("LOOPBACK", server.url)
    return written


@pytest.fixture(scope="module")
def uninterrupted(written: Path) -> dict[str, list[str]]:
    """What one run makes of it, in another folder, with a cache and a server of its own."""
    folder = written.parent
    with FaultServer() as quiet, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPBACK", quiet.url)
        patch.setenv("PREFDATA_CACHE", str(folder / "its-own-cache"))
        assert prefdata.run(written, folder / "uninterrupted").exit_code == 0
    return everything(folder / "uninterrupted")


def everything(path: Path) -> dict[str, list[str]]:
    """All live rows and all paid calls, as texts without times, sorted; and the names of the files exported.

    A run that stops bills what was answered in groups that it did not finish: the next one reads those answers from the
    cache, which is a row of `calls` that costs nothing.
    """
    times = {"annotations": ["created_at", "seconds"], "calls": ["created_at", "seconds", "attempts"]}
    found = {}
    for table, rows in Dataset(path).view().items():
        paid = rows.filter(~pl.col("cached")) if table == "calls" else rows
        kept = paid.drop(times.get(table, []), strict=False).collect().to_dicts()
        found[table] = sorted(json.dumps(row, default=str) for row in kept)
    return found | {"files": sorted(file.name for file in (path / "exports").iterdir())}


def judgements(server: FaultServer) -> int:
    return sum(entry["body"]["model"] == "model-judge" for entry in server.log)


def started(program: str, arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ))


def wait_for(server: FaultServer, process: subprocess.Popen[str], asked: int) -> None:
    while judgements(server) < asked:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def stopped_in_the_middle(
    server: FaultServer, program: str, arguments: list[str], number: signal.Signals
) -> tuple[int, str, int]:
    """Start, send a signal once half of the judgements were asked, wait; exit code, what was said, what was asked."""
    process = started(program, arguments)
    wait_for(server, process, JUDGED // 2)
    process.send_signal(number)
    asked = judgements(server)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, asked


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_in_good_order(
    number: signal.Signals,
    code: int,
    server: FaultServer,
    pipeline: Path,
    tmp_path: Path,
    uninterrupted: dict[str, list[str]],
) -> None:
    arguments = ["run", str(pipeline), "--dataset", str(tmp_path / "ds")]
    ended, said, asked = stopped_in_the_middle(server, COMMAND, arguments, number)
    assert ended == code, said
    assert number.name in said and "run the same command" in said and "Traceback" not in said
    # What is in flight is finished, nothing that queues is begun, and the groups that are finished are committed.
    assert judgements(server) <= asked + 2 * AT_ONCE < JUDGED
    annotations = Dataset(tmp_path / "ds").rows("annotations").collect()
    assert judgements(server) - 2 * PER_PROMPT <= annotations.height <= judgements(server)
    assert set(annotations["status"]) == {"ok"}
    assert prefdata.run(pipeline, tmp_path / "ds").exit_code == 0
    assert everything(tmp_path / "ds") == uninterrupted
    assert server.stats()["most_of_one"] == 1


def test_a_second_signal_ends_it_at_once(
    server: FaultServer, pipeline: Path, tmp_path: Path, uninterrupted: dict[str, list[str]]
) -> None:
    """Where the server does not answer, what is in flight is not waited for."""
    process = started(COMMAND, ["run", str(pipeline), "--dataset", str(tmp_path / "ds")])
    wait_for(server, process, JUDGED // 3)
    server.latency = 300.0
    wait_for(server, process, JUDGED // 3 + AT_ONCE)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM
    process.stderr.close()
    server.latency = 0.0
    assert prefdata.run(pipeline, tmp_path / "ds").exit_code == 0
    assert everything(tmp_path / "ds") == uninterrupted


def test_kill_9_and_the_cache_is_lost(
    server: FaultServer,
    pipeline: Path,
    tmp_path: Path,
    uninterrupted: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was committed is not asked again; the rest is, once."""
    ended, _, _ = stopped_in_the_middle(server, FLUSHING, [str(pipeline), str(tmp_path / "ds")], signal.SIGKILL)
    assert ended == -signal.SIGKILL
    seen = len(server.log)
    committed = Dataset(tmp_path / "ds").rows("annotations").collect().height
    assert 0 < committed < JUDGED
    monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path / "another-cache"))
    assert prefdata.run(pipeline, tmp_path / "ds").exit_code == 0
    assert everything(tmp_path / "ds") == uninterrupted
    assert sum(count - 1 for count in server.counts.values()) <= seen - PROMPTS * DRAWS - committed
    assert server.stats()["most_of_one"] <= 2


def test_equal_can_fail(pipeline: Path, tmp_path: Path, uninterrupted: dict[str, list[str]]) -> None:
    """The comparison sees a row that is missing and a row that is another."""
    prefdata.run(pipeline, tmp_path / "ds", limit=PROMPTS - 1)
    some = everything(tmp_path / "ds")
    assert all(len(some[table]) < len(uninterrupted[table]) for table in ("prompts", "responses", "calls"))
    prefdata.run(pipeline, tmp_path / "ds", sets=["sample.temperature=0.1"])
    assert set(everything(tmp_path / "ds")["responses"]).isdisjoint(uninterrupted["responses"])


def spend(pipeline: Path, dataset: Path, budget: str) -> RunResult:
    result = prefdata.run(pipeline, dataset, budget=budget)
    if result.stopped:
        assert result.exit_code == 3 and "budget" in result.stopped and "run again" in result.stopped
    return result


@pytest.mark.parametrize(("unit", "share"), [("tokens", 0.6), ("usd", 0.8)])
def test_a_budget_that_is_spent(
    unit: str,
    share: float,
    server: FaultServer,
    pipeline: Path,
    tmp_path: Path,
    uninterrupted: dict[str, list[str]],
) -> None:
    server.latency = 0.0
    costs: list[dict[str, Any]] = [json.loads(text) for text in uninterrupted["calls"]]

    def cost(call: dict[str, Any]) -> float:
        return float(call["money"] if unit == "usd" else call["prompt_tokens"] + call["completion_tokens"])

    limit = share * sum(map(cost, costs))
    result = spend(pipeline, tmp_path / "ds", f"{limit:.6f}{unit}")
    assert result.exit_code == 3
    used = result.usage
    paid = used.money if unit == "usd" else used.prompt_tokens + used.completion_tokens
    # What is in flight when the budget ends is paid for too, and nothing more.
    assert limit - 1e-5 <= paid <= limit + AT_ONCE * max(map(cost, costs))
    assert spend(pipeline, tmp_path / "ds", f"1000000{unit}").exit_code == 0
    assert everything(tmp_path / "ds") == uninterrupted
    assert server.stats()["most_of_one"] == 1
