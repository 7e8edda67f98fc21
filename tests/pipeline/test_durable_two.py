"""Two pipelines run on one dataset at once: each ends as it does alone, and what was paid is billed once."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from kill_line import (
    Kill,
    ServedApart,
    bill,
    command_of,
    contents,
    differences,
    run_to_the_end,
    served_apart,
    started,
    unseen_parts,
)
from served_line import DRAWS, served_engines, served_steps

from prefdata.dataset import Dataset

pytestmark = pytest.mark.slow

PROMPTS = 10
CARDS = {"first": "helpfulness", "second": "honesty"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServedApart]:
    with served_apart(tmp_path, latency=0.1) as running:
        yield running


@pytest.fixture
def pipelines(tmp_path: Path) -> dict[str, Path]:
    """Two pipelines that draw the same responses, and judge them by different cards."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} plus {n}?"}) + "\n" for n in range(PROMPTS)))
    engines = served_engines("${LOOPBACK}", max_concurrency=4, price={"prompt": 3.0, "completion": 5.0})
    made = {}
    for name, card in CARDS.items():
        steps = served_steps(prompts)
        steps[2]["judge.compare"]["card"] = card
        steps.append({"export": {"format": "trl-pairs", "path": f"{name}.parquet"}})
        made[name] = tmp_path / f"{name}.yaml"
        made[name].write_text(yaml.safe_dump({"engines": engines, "steps": steps}, sort_keys=False))
    return made


def counted(server: ServedApart) -> dict[str, float]:
    """What the server counted so far."""
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/stats", timeout=10) as answer:
        said: dict[str, Any] = json.loads(answer.read())
    return {name: said[name] for name in ("completions", "prompt_tokens", "completion_tokens")}


def ended(running: list[subprocess.Popen[str]]) -> None:
    said = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said


def check_rows(both: Path, pipelines: dict[str, Path], server: ServedApart) -> None:
    """The rows are those of a dataset in which the two ran in turn, with a request cache of its own."""
    in_turn = both.with_name("in-turn")
    for path in pipelines.values():
        run_to_the_end(path, in_turn, server, cache=both.with_name("another-cache"))
    found, wanted = contents(both), contents(in_turn)
    for table in ("calls", "progress"):  # who asked first, and what a commit of the other's left to be noted
        assert found.pop(table).total() > 0 and wanted.pop(table).total() > 0
    found["drops"] = Counter(set(found["drops"]))  # a step of both drops a row twice when it runs in both at once
    assert not differences(found, wanted)
    assert found["preferences"].total() > PROMPTS and not unseen_parts(both)


def test_two_pipelines_at_once(server: ServedApart, pipelines: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "both"
    ended([started(command_of(path, both, Kill(), Path()), server) for path in pipelines.values()])
    check_rows(both, pipelines, server)


def killed(pipeline: Path, dataset: Path, server: ServedApart, commit: str, marker: Path) -> None:
    """A run that is killed inside a commit: all that it asked is answered and kept, and stands in no row."""
    process = started(command_of(pipeline, dataset, Kill(commit=commit), marker), server)
    while not marker.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.kill()
    process.communicate()
    marker.unlink()


def check_bill(dataset: Path, server: ServedApart) -> None:
    paid, ledger = bill(dataset), counted(server)
    assert (paid["calls"], paid["prompt tokens"], paid["completion tokens"]) == tuple(ledger.values())
    assert paid["billed twice"] == 0


def rest_of_bills(dataset: Path) -> list[int]:
    commits = Dataset(dataset).snapshot.commits
    return [sum(p.rows for p in c.parts) for c in commits if c.message == "bills of a run that was ended"]


def test_what_a_killed_run_paid_is_billed_also_where_its_card_is_edited(
    server: ServedApart, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    dataset, first = tmp_path / "edited", pipelines["first"]
    killed(first, dataset, server, "judge.compare", tmp_path / "paused")
    first.write_text(first.read_text().replace("card: helpfulness", "card: honesty"))
    run_to_the_end(first, dataset, server)
    check_bill(dataset, server)
    assert rest_of_bills(dataset) == [2 * PROMPTS]
    rows = Dataset(dataset).calls.filter(pl.col("raw").is_null() & pl.col("engine").eq("judge")).collect()
    assert rows.height == 2 * PROMPTS and rows["money"].min() > 0 and rows["group_id"].null_count() == 0
    commits = len(Dataset(dataset).snapshot.commits)
    run_to_the_end(first, dataset, server)
    assert len(Dataset(dataset).snapshot.commits) == commits
    # Who asks for them after all finds their price stated.
    first.write_text(first.read_text().replace("card: honesty", "card: helpfulness"))
    run_to_the_end(first, dataset, server)
    check_bill(dataset, server)
    assert rest_of_bills(dataset) == [2 * PROMPTS]


def test_what_a_killed_run_paid_is_billed_also_where_another_pipeline_made_its_rows(
    server: ServedApart, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    """The second run takes the responses of the first, which lives, from the cache; then the first one is killed."""
    both, marker = tmp_path / "both", tmp_path / "paused"
    process = started(command_of(pipelines["first"], both, Kill(commit="sample"), marker), server)
    while not marker.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    run_to_the_end(pipelines["second"], both, server)
    assert not rest_of_bills(both)  # the first one is alive, and states its own
    process.kill()
    process.communicate()
    marker.unlink()
    run_to_the_end(pipelines["first"], both, server)
    check_bill(both, server)
    assert rest_of_bills(both) == [PROMPTS * DRAWS]


def test_one_finds_in_the_cache_what_the_other_has_not_committed(
    server: ServedApart, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    """The first waits in the commit of its responses while the second, which draws the same ones, runs to its end."""
    both, marker = tmp_path / "both", tmp_path / "paused"
    running = [started(command_of(pipelines["first"], both, Kill(commit="sample"), marker), server)]
    while not marker.exists():
        assert running[0].poll() is None, running[0].communicate()[1]
        time.sleep(0.005)
    asked = server.asked()
    assert asked == PROMPTS * DRAWS
    running.append(started(command_of(pipelines["second"], both, Kill(), Path()), server))
    running[1].wait(timeout=60)
    marker.unlink()
    ended(running)
    paid, ledger = bill(both), counted(server)
    assert server.asked() == asked + 2 * PROMPTS * 2  # two cards, two orders: no response was drawn twice
    check_rows(both, pipelines, server)
    assert (paid["calls"], paid["prompt tokens"], paid["completion tokens"]) == tuple(ledger.values())
