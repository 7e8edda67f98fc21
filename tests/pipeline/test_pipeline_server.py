"""Edits of every kind on engines of the kind `openai`: what a run asks is counted in the server's own log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from fault_server import FaultServer
from pipeline_line import Line
from served_line import DRAWS, PROMPTS, Served, served_engines, served_steps

import prefdata
from prefdata.errors import PipelineError
from prefdata.pipeline.display import Display
from prefdata.pipeline.status import status

KEY = "sk-loopback-0123456789abcdefghij"
PER_PAIR = 2
"""Judgements of a pair: it is shown in both orders."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, server: FaultServer) -> Served:
    line = Line(tmp_path, served_steps(tmp_path / "prompts.jsonl"), served_engines(server.url))
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(PROMPTS))
    return Served(line, server)


def column(frame: pl.LazyFrame, name: str) -> set[Any]:
    return set(frame.select(name).collect()[name])


def with_status(served: Served, status: str) -> set[str]:
    return column(served.line.ds.annotations.filter(pl.col("status") == status), "annotation_id")


def test_rules_edited_and_set_back_ask_nothing(served: Served) -> None:
    line = served.line
    line.edit("select.where", keep="n_tokens > 20")
    assert served.run() == {"model-a": PROMPTS * DRAWS, "model-judge": PROMPTS * PER_PAIR}
    strict = line.live()
    line.edit("select.where", keep="n_tokens > 3")
    assert not served.run()
    loose = line.live()
    assert len(loose["responses"]) > len(strict["responses"])
    line.edit("pair", min_gap=50.0)
    assert not served.run()
    assert not line.live()["preferences"]
    line.edit("pair", min_gap=0.1)
    assert not served.run()
    assert line.live() == loose
    line.edit("select.where", keep="n_tokens > 20")
    line.remove("select.where")
    assert not served.run()
    assert len(line.live()["responses"]) == PROMPTS * DRAWS
    assert line.ds.view().dropped.is_empty()
    line.edit("pair", name="main")
    assert not served.run()
    assert {name.partition("@")[0] for name in column(line.ds.preferences, "step")} == {"main"}


def test_the_export_follows_an_edit_and_its_return(served: Served) -> None:
    line = served.line
    line.steps.append({"export": {"format": "trl-pairs", "path": "pairs.parquet"}})
    file = line.path / "exports" / "pairs.parquet"
    served.run()
    first = pq.read_table(file)
    line.edit("pair", min_gap=1.0, rule="all_pairs")
    line.edit("sample", n=DRAWS + 1)
    served.run()
    second = pq.read_table(file)
    assert second.num_rows != first.num_rows
    line.edit("pair", min_gap=0.1, rule="best_worst")
    line.edit("sample", n=DRAWS)
    assert not served.run()
    assert pq.read_table(file).to_pylist() == first.to_pylist()


def test_the_text_of_a_card_of_ones_own(served: Served) -> None:
    line = served.line
    card = line.folder / "mine.yaml"
    said = {"name": "mine", "instructions": "Judge.", "aspects": [{"name": "overall", "text": "Is it right?"}]}
    card.write_text(yaml.safe_dump(said))
    line.edit("judge.compare", card="./mine.yaml")
    served.run()
    before, judges = line.live(), column(line.ds.annotations, "annotator")
    card.write_text("# only a comment more\n" + yaml.safe_dump(said))
    assert not served.run()
    card.write_text(yaml.safe_dump({**said, "instructions": "Judge with care."}))
    assert served.run() == {"model-judge": PROMPTS * PER_PAIR}
    after = line.live()
    assert after["responses"] == before["responses"]
    assert {name for name in judges if name.startswith("judge:")}.isdisjoint(column(line.ds.annotations, "annotator"))
    card.write_text(yaml.safe_dump(said))
    assert not served.run()
    assert line.live() == before


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_one_model_more(served: Served, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = served.line
    served.run()
    texts = {row["response_id"]: row["text"] for row in line.ds.responses.collect().to_dicts()}
    best = line.ds.preferences.collect()["response_ids"][0].to_list()
    (label,) = line.ds.label([{"target_ids": best, "protocol": "compare", "scores": [1, 0], "annotator": "human:b"}])
    if cache == "lost":
        monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path / "other-cache"))
    line.edit("sample", engine=["a", "b"])
    pairs = 2 * DRAWS * (2 * DRAWS - 1) // 2
    assert served.run() == {"model-b": PROMPTS * DRAWS, "model-judge": PROMPTS * (pairs - 1) * PER_PAIR}
    made = {row["response_id"]: row["text"] for row in line.ds.rows("responses").collect().to_dicts()}
    assert {one: made[one] for one in texts} == texts
    assert label in column(line.ds.annotations, "annotation_id")
    assert served.server.stats()["most_of_one"] == 1


def test_a_limit_then_all_then_a_prompt_more_and_one_less(served: Served) -> None:
    line = served.line
    assert served.run(limit=4) == {"model-a": 4 * DRAWS, "model-judge": 4 * PER_PAIR}
    assert served.run() == {"model-a": 2 * DRAWS, "model-judge": 2 * PER_PAIR}
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(1, PROMPTS + 1))
    assert served.run() == {"model-a": DRAWS, "model-judge": PER_PAIR}
    assert len(line.live()["prompts"]) == PROMPTS


@pytest.mark.slow
def test_a_label_more_and_corrected_and_deleted(served: Served) -> None:
    line = served.line
    served.run()
    before = line.live()
    targets = line.ds.preferences.collect()["response_ids"][0].to_list()
    task = {"target_ids": targets, "protocol": "compare", "annotator": "human:b"}
    (label,) = line.ds.label([{**task, "scores": [0, 1]}])
    assert not served.run()
    assert served.groups["aggregate.bradley_terry"] == 1 and served.groups["judge.compare"] == 0
    said_a = line.live()
    line.ds.label([{**task, "scores": [0.5, 0.5]}])
    assert not served.run()
    assert line.live() != said_a
    line.ds.label([{**task, "scores": [0, 1]}])
    assert not served.run()
    assert line.live() == said_a
    assert line.ds.annotations.filter(pl.col("annotation_id") == label).collect().height == 1
    line.ds.unlabel([label])
    assert not served.run()
    assert line.live() == before


def test_a_variant_and_a_second_pipeline_in_one_dataset(served: Served) -> None:
    line = served.line
    line.edit("sample", n=3)
    served.run()
    before = line.live("line")
    line.edit("pair", rule="all_pairs", min_gap=0.0)
    assert not served.run("wide")
    assert line.live("line") == before
    assert len(line.live("wide")["preferences"]) == 3 * PROMPTS > len(before["preferences"])
    line.steps = [{"pair": {"name": "again", "rule": "list", "reads": ["line"]}}]
    assert not served.run("second")
    assert {name.partition("@")[0] for name in column(line.ds.view(pipeline="second")["preferences"], "step")} == {
        "pair",
        "again",
    }
    assert all(step.note == "" for step in status(line.ds).steps)


def test_two_pair_steps_exported_apart(served: Served, tmp_path: Path) -> None:
    line = served.line
    line.edit("sample", n=3)
    line.steps.append({"pair": {"name": "every", "rule": "all_pairs", "min_gap": 0.0}})
    served.run()
    rows = {}
    for step in ("pair", "every"):
        prefdata.export(line.path, tmp_path / f"{step}.parquet", format="trl-pairs", from_step=step)
        rows[step] = pq.read_table(tmp_path / f"{step}.parquet").to_pylist()
    both = prefdata.export(line.path, tmp_path / "both.parquet", format="trl-pairs").rows
    assert (len(rows["pair"]), len(rows["every"])) == (PROMPTS, 3 * PROMPTS)
    # The best and the worst are among all pairs, under the same name: together they are no more.
    assert both == len(rows["every"])
    assert {row["list"] for row in rows["pair"]} < {row["list"] for row in rows["every"]}


@pytest.mark.slow
@pytest.mark.parametrize("place", [2, 4], ids=["select before the judge", "select after it"])
def test_retry_unparsed(served: Served, place: int) -> None:
    """As many calls as there are visible unparsed rows, then none; what was read at last never comes back unread."""
    line, server = served.line, served.server
    line.edit("sample", n=3, max_tokens=96)
    line.steps.insert(place, line.steps.pop(4))
    server.every = {"prose": 2}
    served.run()
    server.every = {}
    unread = with_status(served, "unparsed")
    rows = line.ds.annotations.collect()
    raws = line.ds.annotations.join(line.ds.calls, on="call_id").filter(pl.col("status") == "unparsed").collect()
    assert len(unread) >= 6 and all(raws["raw"]) and raws["scores"].null_count() == raws.height == len(unread)
    assert not served.run()
    line.edit("select.where", keep="n_tokens > 40")
    assert not served.run()
    visible = with_status(served, "unparsed")
    assert 0 < len(visible) < len(unread)
    groups = [set(rows.filter(pl.col("annotation_id").is_in(ids))["group_id"]) for ids in (visible, unread - visible)]
    assert groups[0] & groups[1]  # a group that has both kinds
    assert served.run(retry=["unparsed"]) == {"model-judge": len(visible)}
    assert not with_status(served, "unparsed")
    assert set(line.ds.annotations.filter(pl.col("annotation_id").is_in(visible)).collect()["revision"]) == {2}
    assert not served.run(retry=["unparsed"])
    assert not served.run()
    line.edit("select.where", keep="n_tokens > 3")
    assert not served.run()
    assert with_status(served, "unparsed") == unread - visible
    line.edit("sample", engine=["a", "b"])
    served.run()
    assert with_status(served, "unparsed") == unread - visible


def test_what_failed_is_asked_again_by_the_next_run(served: Served) -> None:
    line, server = served.line, served.server
    every_step, line.steps = line.steps, line.steps[:2]
    server.every = {"400": 4}
    served.run()
    failed = server.stats()["faults"]["400"]
    assert line.ds.responses.collect().height == PROMPTS * DRAWS - failed
    line.steps, server.every = every_step, {}
    assert served.run() == {"model-a": failed, "model-judge": PROMPTS * PER_PAIR}
    assert line.ds.responses.collect().height == PROMPTS * DRAWS
    server.every = {"400": 5}
    line.edit("judge.compare", card="honesty")
    served.run()
    unanswered = with_status(served, "failed")
    assert unanswered
    server.every = {}
    assert served.run() == {"model-judge": len(unanswered)}
    assert not with_status(served, "failed")
    assert not served.run()


def test_an_edit_set_back_does_not_bring_a_failure_back(served: Served) -> None:
    """A draw failed, and was made while its prompt had another tag: with the old tag it is still there."""
    line, server = served.line, served.server
    line.steps = line.steps[:2]
    plain = (line.folder / "prompts.jsonl").read_text()
    server.every = {"400": 4}
    served.run()
    failed = server.stats()["faults"]["400"]
    server.every = {}
    (line.folder / "prompts.jsonl").write_text(plain.replace("}", ', "tags": ["sums"]}'))
    assert served.run() == {"model-a": failed}
    (line.folder / "prompts.jsonl").write_text(plain)
    assert not served.run()
    assert line.ds.responses.collect().height == PROMPTS * DRAWS
    assert not served.run()


def test_what_timed_out_is_asked_again_by_the_next_run(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.engines.client._FIRST_DELAY", 0.001)
    line, server = served.line, served.server
    line.engines["judge"]["timeout"] = 0.2
    served.run(limit=2)
    server.every, server.slow_seconds = {"slow": 1}, 0.6
    line.edit("judge.compare", card="honesty")
    assert served.run(limit=2) == {"model-judge": 2 * PER_PAIR * 5}
    assert len(with_status(served, "timeout")) == 2 * PER_PAIR
    server.every = {}
    assert served.run(limit=2) == {"model-judge": 2 * PER_PAIR}
    assert not with_status(served, "timeout")


def test_the_bill_is_what_the_server_counted(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, attempts, tokens and money, in the run's own sum and in the table, over two runs and a lost server."""
    monkeypatch.setattr("prefdata.engines.client._FIRST_DELAY", 0.001)
    line, server = served.line, served.server
    for engine in line.engines.values():
        engine["price"] = {"prompt": 3.0, "completion": 5.0}
    server.every = {"500": 5, "cut": 7}
    usages = []
    for limit in (3, None):
        served.run(limit=limit)
        usages.append(served.result.usage)
    answered = [entry for entry in server.log if not entry["fault"]]
    counted = [server._chat(entry["body"], None)[1] for entry in answered]
    read = sum(one["prompt_tokens"] for one in counted)
    written = sum(one["completion_tokens"] for one in counted)
    calls = line.ds.calls.collect()
    assert len(answered) == calls.height == sum(usage.calls for usage in usages) == PROMPTS * (DRAWS + PER_PAIR)
    assert calls["attempts"].sum() == len(server.log) > len(answered)
    assert calls["prompt_tokens"].sum() == read == sum(usage.prompt_tokens for usage in usages)
    assert calls["completion_tokens"].sum() == written == sum(usage.completion_tokens for usage in usages)
    assert calls["money"].sum() == pytest.approx((3 * read + 5 * written) / 1e6)
    assert calls["money"].sum() == pytest.approx(sum(usage.money for usage in usages))
    made = column(line.ds.responses, "call_id") | column(line.ds.annotations, "call_id")
    assert made - {None} == set(calls["call_id"])
    assert not calls["cached"].any()


def everything_written(*folders: Path) -> str:
    """All that lies in these folders, as text: Parquet and SQLite are read, for both may compress or split it."""
    found: list[str] = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        found.append(path.read_bytes().decode("utf-8", "replace"))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            found.append(json.dumps(table.to_pylist(), default=str) + str(table.schema.metadata))
        if path.suffix == ".sqlite3":
            with sqlite3.connect(path) as cache:
                found.append(str(cache.execute("SELECT * FROM replies").fetchall()))
    return "\n".join(found)


def test_a_key_stands_nowhere(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where the server repeats it in an answer or in an error, nor where it rejects it."""
    monkeypatch.setattr("prefdata.engines.client._FIRST_DELAY", 0.001)
    monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    line, server = served.line, served.server
    for engine in line.engines.values():
        engine["api_key_env"] = "LOOPBACK_KEY"
    server.key, server.every = KEY, {"echo": 5, "429": 3, "400": 7}
    line.steps.append({"export": {"format": "lists", "path": "lists.parquet"}})
    line.steps.append({"report": {}})
    served.run(display=Display())
    assert {"echo", "429", "400"} <= set(server.stats()["faults"])
    server.key = "another"
    line.edit("judge.compare", card="honesty")
    served.run(display=Display())
    shown = capsys.readouterr()
    written = everything_written(line.path, tmp_path / "cache") + shown.out + shown.err + served.result.stopped
    assert served.result.exit_code == 3 and "key" in served.result.stopped
    assert KEY not in written
    # The same reading finds what is there: texts in rows, logs and cache, and a key if there were one.
    assert "What is 1 plus 1" in written
    cached = everything_written(tmp_path / "cache")
    assert "verdict" in cached and "Bearer ***" in cached and "Bearer ***" in everything_written(line.path / "parts")
    pl.DataFrame({"text": [KEY]}).write_parquet(line.path / "planted.parquet")
    assert KEY in everything_written(line.path)


def test_within_a_running_event_loop(served: Served) -> None:
    """As in a notebook; a sentence is raised there as well."""

    async def notebook() -> Counter[str]:
        asked = served.run()
        served.line.edit("select.where", keep="no_such_column > 3")
        with pytest.raises(PipelineError, match="no_such_column"):
            served.run()
        await asyncio.sleep(0)
        return asked

    assert asyncio.run(notebook()) == {"model-a": PROMPTS * DRAWS, "model-judge": PROMPTS * PER_PAIR}


def test_interrupted_within_a_running_event_loop(served: Served) -> None:
    """A notebook's interrupt reaches the thread that the run is in: it ends in good order, and goes on later."""
    served.line.engines["judge"]["max_concurrency"] = 1
    served.server.latency = 0.03

    def interrupt() -> None:
        while not any(entry["body"]["model"] == "model-judge" for entry in served.server.log):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    async def notebook() -> Counter[str]:
        return served.run()

    threading.Thread(target=interrupt).start()
    loop = asyncio.new_event_loop()  # asyncio.run would take the signal for itself
    asked = loop.run_until_complete(notebook())
    loop.close()
    assert served.result.exit_code == 130 and "SIGINT" in served.result.stopped
    assert 0 < asked["model-judge"] < PROMPTS * PER_PAIR
    assert served.run() == {"model-judge": PROMPTS * PER_PAIR - asked["model-judge"]}


def test_counting_can_fail(served: Served) -> None:
    """A change that does alter what is asked is seen in the log."""
    served.run()
    served.line.edit("judge.compare", orders="one", temperature=0.1)
    assert served.run() == {"model-judge": PROMPTS}
    served.line.edit("sample", temperature=0.2)
    assert served.run() == Counter({"model-a": PROMPTS * DRAWS, "model-judge": PROMPTS})
