"""Reading answers again: what a worse parser left unread is read, nobody is asked, and nothing else moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fault_server import FaultServer
from pipeline_line import Line, live_rows
from served_line import served_engines, served_steps

from prefdata.annotators import compare, score
from prefdata.annotators.parse import Scores, Verdict
from prefdata.dataset import Dataset
from prefdata.engines.calls import RAW_LIMIT
from prefdata.engines.scripted import ScriptedEngine
from prefdata.errors import DataError, PipelineError
from prefdata.pipeline.kept import reply_of
from prefdata.pipeline.plan import plan
from prefdata.pipeline.reparse import Reparsed, reparse
from prefdata.pipeline.spec import parse

pytestmark = pytest.mark.slow

GOOD_VERDICT, GOOD_SCORES = compare.parse_verdict, score.parse_scores
TWO_ASPECTS = """
name: two
instructions: Judge.
aspects:
  - {name: right, text: Is it right., scale: {min: 1, max: 5}}
  - {name: clear, text: Is it clear., scale: {min: 1, max: 5}}
"""
PAIRS = 3 * 2
"""Judgements of a prompt: three responses, each pair in both orders."""


def only_b(text: str, **options: Any) -> Verdict | None:
    """Worse: it reads nothing but a verdict for B, and loses the reason."""
    found = GOOD_VERDICT(text, **options)
    return Verdict("B", None) if found and found.winner == "B" else None


def not_the_second(text: str, scales: Any, **options: Any) -> Scores | None:
    """Worse: it never finds the last aspect, and reads the lowest score as none."""
    found = GOOD_SCORES(text, scales, **options)
    if found is None:
        return None
    kept = list(found.values.items())[:-1]
    return Scores({name: value for name, value in kept if value > scales[name].min}, None)


@pytest.fixture
def line(line: Line) -> Line:
    """The base pipeline, whose filter lets everything through."""
    line.edit("select.where", keep="n_tokens > 0")
    return line


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """`worse(True)` breaks the parsers, `worse(False)` repairs them."""

    def switch(broken: bool) -> None:
        monkeypatch.setattr(compare, "parse_verdict", only_b if broken else GOOD_VERDICT)
        monkeypatch.setattr(score, "parse_scores", not_the_second if broken else GOOD_SCORES)

    return switch


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After `nobody()` a model that is asked is a mistake."""

    def answer(self: ScriptedEngine, request: object) -> None:
        raise AssertionError("a model was asked")

    return lambda: monkeypatch.setattr(ScriptedEngine, "answer", answer)


def judged(line: Line) -> pl.DataFrame:
    return line.ds.annotations.filter(pl.col("source") == "judge").collect()


def statuses(line: Line) -> dict[str, int]:
    return dict(judged(line).group_by("status").len().iter_rows())


def by_status(done: Reparsed) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for (_, before, now), count in done.changed.items():
        found[before, now] = found.get((before, now), 0) + count
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("judge", ["judge.compare", "judge.score", "reask"])
def test_equals_the_run_with_the_good_parser(
    line: Line,
    worse: Callable[[bool], None],
    nobody: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    judge: str,
    shards: int,
) -> None:
    if judge == "judge.score":
        card = line.folder / "two.yaml"
        card.write_text(TWO_ASPECTS)
        line.steps[2] = {"judge.score": {"engine": "judge", "card": str(card)}}
    if judge == "reask":
        line.edit("judge.compare", reask=2)
    line.engines["judge"]["prose_every"] = 4
    Dataset.create(line.path, shards=shards)
    worse(True)
    line.run()
    before, at = live_rows(line.ds), line.ds.snapshot.number
    worse(False)
    unread = statuses(line)["unparsed"]
    calls = line.ds.calls.collect().height
    with monkeypatch.context() as patch:
        patch.setenv("PREFDATA_CACHE", str(line.folder / "another-cache"))
        other = Line(line.folder, line.steps, line.engines, "good")
        other.run()
    nobody()
    done = reparse(line.path)
    assert 0 < by_status(done)["unparsed", "ok"] <= unread
    assert done.unkept == done.unmet == 0
    assert sum(done.changed.values()) + done.unchanged == 8 * (PAIRS if judge != "judge.score" else 3 * 2)
    assert live_rows(Dataset(line.path, at)) == before
    result = line.run()
    assert result.usage.calls == result.usage.cached == 0
    assert live_rows(line.ds) == live_rows(other.ds)
    assert line.ds.calls.collect().height == calls
    number = line.ds.snapshot.number
    again = reparse(line.path)
    assert not again.changed and again.commits == 0 and line.ds.snapshot.number == number
    line.run()
    assert line.ds.snapshot.number == number


def test_a_new_revision_of_the_same_id_and_call(line: Line, worse: Callable[[bool], None]) -> None:
    worse(True)
    line.run()
    old = {row["annotation_id"]: row for row in judged(line).to_dicts()}
    worse(False)
    done = reparse(line.path)
    new = {row["annotation_id"]: row for row in judged(line).to_dicts()}
    assert old.keys() == new.keys()
    for row_id, row in new.items():
        assert row["call_id"] == old[row_id]["call_id"]
        said = [(one["status"], one["scores"], one["text"]) for one in (row, old[row_id])]
        assert row["revision"] == 1 + (said[0] != said[1])
    assert sum(row["revision"] == 2 for row in new.values()) == sum(done.changed.values())


def test_only_the_touched_groups_are_aggregated_anew(line: Line, worse: Callable[[bool], None]) -> None:
    line.engines["judge"]["prose_every"] = 3
    line.run()
    groups = sorted(set(judged(line)["group_id"]))
    marked = judged(line).filter((pl.col("group_id").is_in(groups[:3])) & (pl.col("status") == "ok"))
    texts = dict(line.ds.calls.select("call_id", "raw").collect().iter_rows())
    lost = {texts[call] for call in marked.unique("group_id", keep="first")["call_id"]}

    def forgetful(text: str, **options: Any) -> Verdict | None:
        return None if text in lost else GOOD_VERDICT(text, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "parse_verdict", forgetful)
        done = reparse(line.path)
    assert set(by_status(done)) == {("ok", "unparsed")}
    touched = set(judged(line).filter(pl.col("revision") == 2)["group_id"])
    assert touched >= set(groups[:3]) and len(touched) < len(groups)
    ran = {step.name: step.groups for step in line.run().steps}
    assert ran["judge.compare"] == 0 and ran["aggregate.bradley_terry"] == len(touched)


def test_only_some_statuses_and_one_pipeline(line: Line, worse: Callable[[bool], None]) -> None:
    worse(True)
    line.run()
    line.edit("judge.compare", card="honesty")
    line.run("second")
    worse(False)
    unread = line.ds.annotations.filter(pl.col("status") == "unparsed").collect()
    mine = unread.filter(pl.col("annotator").str.contains("helpfulness"))
    done = reparse(line.path, pipeline="line", statuses=["unparsed"])
    assert by_status(done) == {("unparsed", "ok"): mine.height} and done.unchanged == 0
    rest = line.ds.annotations.filter(pl.col("status") == "unparsed").collect()
    assert rest.height == unread.height - mine.height and set(rest["annotator"]).isdisjoint(mine["annotator"])
    assert ("ok", "ok") in by_status(reparse(line.path))
    with pytest.raises(PipelineError, match="--status prose"):
        reparse(line.path, statuses=["prose"])
    with pytest.raises(DataError, match="no pipeline 'third'"):
        reparse(line.path, pipeline="third")


def test_two_pipelines_that_share_a_step_come_to_rest(line: Line, worse: Callable[[bool], None]) -> None:
    worse(True)
    line.run()
    line.edit("pair", rule="all_pairs")
    line.run("wide")
    worse(False)
    reparse(line.path, pipeline="line")
    assert statuses(line) == {"ok": 8 * PAIRS}
    for key in ("line", "wide"):
        view = line.ds.view(pipeline=key)["annotations"].filter(pl.col("source") == "judge").collect()
        assert set(view["status"]) == {"ok"} and view.height == 8 * PAIRS
    assert not reparse(line.path).changed


def test_two_steps_with_the_same_judgements_come_to_rest(
    line: Line, worse: Callable[[bool], None], nobody: Callable[[], None]
) -> None:
    """One pipeline's reading is the other's by a copy, once: copies are no corrections."""
    worse(True)
    line.run()
    line.edit("judge.compare", name="other")
    line.run("second")
    worse(False)
    nobody()
    reparse(line.path, pipeline="second")
    assert line.run("second").steps[2].groups == 0
    line.edit("other", name="judge.compare")
    assert line.run().steps[2].groups == 8
    number = line.ds.snapshot.number
    assert set(line.ds.view(pipeline="line")["annotations"].collect()["status"]) == {"ok"}
    line.run()
    line.edit("judge.compare", name="other")
    line.run("second")
    assert line.ds.snapshot.number == number and not reparse(line.path).changed


def test_what_was_asked_again_meanwhile_is_read_by_its_latest_answer(line: Line, worse: Callable[[bool], None]) -> None:
    worse(True)
    line.run()
    first = {row["annotation_id"]: row for row in judged(line).to_dicts() if row["status"] == "unparsed"}
    line.run(retry=["unparsed"])
    second = {row["annotation_id"]: row for row in judged(line).to_dicts() if row["annotation_id"] in first}
    assert {row["revision"] for row in second.values()} == {2}
    worse(False)
    reparse(line.path)
    for row in judged(line).filter(pl.col("annotation_id").is_in(list(first))).to_dicts():
        assert (row["revision"], row["status"]) == (3, "ok")
        assert row["call_id"] == second[row["annotation_id"]]["call_id"] != first[row["annotation_id"]]["call_id"]
    worse(True)  # and a retry after it asks once more
    reparse(line.path)
    assert 4 in set(judged(line)["revision"])
    unread = statuses(line)["unparsed"]
    result = line.run(retry=["unparsed"])
    assert result.usage.calls == unread


def test_nothing_is_needed_but_the_dataset(
    line: Line, worse: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the card's file, not the pipeline's, not the engine's address in the environment; `--set` counts."""
    card = line.folder / "mine.yaml"
    card.write_text("{name: mine, instructions: Judge., sees: [], aspects: [{name: overall, text: Is it right.}]}")
    line.edit("judge.compare", card=str(card), orders="one")
    line.engines["judge"]["model"] = "${JUDGE_MODEL}"
    monkeypatch.setenv("JUDGE_MODEL", "model-judge")
    worse(True)
    line.run()
    worse(False)
    card.unlink()
    monkeypatch.delenv("JUDGE_MODEL")
    done = reparse(line.path)
    assert by_status(done)["unparsed", "ok"] and not done.unkept and statuses(line) == {"ok": 8 * PAIRS // 2}


def test_a_step_of_another_version(
    line: Line, worse: Callable[[bool], None], nobody: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better parser raises the version: reading again before or after the next run comes to the same."""
    worse(True)
    line.run()
    worse(False)
    nobody()
    monkeypatch.setattr(compare.Compare, "version", 2)
    said: list[str] = []
    done = reparse(line.path, say=said.append)
    assert by_status(done)["unparsed", "ok"] and ["another version" in sentence for sentence in said] == [True]
    old = {name for name in line.ds.snapshot.plans["line", 0].steps if name.startswith("judge")}
    line.run()
    new = {name for name in line.ds.snapshot.plans["line", 0].steps if name.startswith("judge")}
    assert old.isdisjoint(new) and statuses(line) == {"ok": 8 * PAIRS}
    said.clear()
    assert not reparse(line.path, say=said.append).changed and not said
    worse(True)
    assert by_status(reparse(line.path))["ok", "unparsed"]  # and after it


def test_an_asking_that_the_step_no_longer_makes_is_not_taken_back(line: Line) -> None:
    """Read by a second asking, under a higher `reask`: the first answer alone says less."""
    line.engines["judge"]["prose_every"] = 2
    line.edit("judge.compare", reask=3)
    line.run()
    late = judged(line).filter((pl.col("revision") > 1) & (pl.col("status") == "ok")).height
    line.edit("judge.compare", reask=0)
    result = line.run()
    assert result.usage.calls == 0 and result.steps[2].groups == 8
    done = reparse(line.path)
    assert late and not done.changed and done.unkept >= late


@pytest.mark.parametrize("lost", ["cut", "null", "call"])
def test_what_is_not_kept_whole_is_left_alone(line: Line, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line.run()
    before = judged(line)
    gone = set(before["call_id"].head(5))
    raw = {"cut": "{" * RAW_LIMIT, "null": None}.get(lost)
    edit_calls(line, gone, raw, drop=lost == "call")
    monkeypatch.setattr(compare, "parse_verdict", lambda text, **options: None)
    done = reparse(line.path)
    assert done.unkept == 5 and done.unmet == 0
    assert by_status(done) == {("ok", "unparsed"): before.height - 5}
    assert judged(line).filter(pl.col("status") == "ok")["call_id"].to_list() == before["call_id"].head(5).to_list()


def edit_calls(line: Line, ids: set[str], raw: str | None, *, drop: bool) -> None:
    """As if so much of these calls had been kept."""
    for part in (line.path / "parts" / "calls").glob("*.parquet"):
        frame = pl.read_parquet(part)
        if "raw" not in frame.columns:
            continue  # of responses, which hold their texts themselves
        hit = pl.col("call_id").is_in(list(ids))
        frame = frame.with_columns(pl.when(hit).then(pl.lit(raw, pl.String)).otherwise("raw").alias("raw"))
        if drop:
            frame = frame.with_columns(pl.when(hit).then(pl.lit("-")).otherwise("call_id").alias("call_id"))
        frame.write_parquet(part)
    for entry in (line.path / "log").glob("*.json"):
        entry.write_text(unsized(entry.read_text()))


def unsized(text: str) -> str:
    entry = json.loads(text)
    for part in entry.get("parts", ()):
        part["bytes"], part["digest"] = 0, ""
    return json.dumps(entry)


def body(content: str, **message: Any) -> str:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.mark.parametrize(
    ("raw", "columns", "text"),
    [
        ('{"verdict": "A"}', {}, '{"verdict": "A"}'),
        (body('{"verdict": "A"}', reasoning_content="B?"), {}, '{"verdict": "A"}'),
        ("a" * (RAW_LIMIT - 1), {}, "a" * (RAW_LIMIT - 1)),
        ("a" * RAW_LIMIT, {}, None),
        (body("a" * 100)[:80], {}, None),
        ("", {}, None),
        (None, {}, None),
        ("<html>", {"error": "the server's answer is not JSON"}, None),
    ],
)
def test_only_a_whole_answer_is_read(raw: str | None, columns: dict[str, Any], text: str | None) -> None:
    for finish in ("stop", "length"):
        found = reply_of({"raw": raw, "error": None, "finish_reason": finish, **columns})
        assert (found.text if found else None) == text and (found is None or found.finish_reason == finish)
    refused = reply_of({"raw": body(""), "error": None, "finish_reason": "refusal"})
    assert refused is not None and refused.text is None and refused.finish_reason == "refusal"
    assert reply_of(None) is None


def test_what_a_server_said(tmp_path: Path, worse: Callable[[bool], None]) -> None:
    """Of what it refused, left empty or failed nothing else can be read; prose is still prose."""
    with FaultServer() as server:
        line = Line(tmp_path, served_steps(tmp_path / "prompts.jsonl"), served_engines(server.url))
        line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(12))
        Line(tmp_path, line.steps[:2], line.engines).run()
        server.every = {"prose": 4, "filter": 5, "refusal": 7, "empty": 9, "400": 11}
        worse(True)
        line.run()
    line.engines["judge"]["base_url"] = "http://127.0.0.1:9/v1"
    count = dict(line.ds.rows("annotations").filter(source="judge").collect()["status"].value_counts().iter_rows())
    struck = server.stats()["faults"]
    assert count["refused"] == struck["filter"] + struck["refusal"] and count["failed"] == struck["400"]
    worse(False)
    done = reparse(line.path)
    assert done.unkept == struck["400"] + struck["empty"]
    now = statuses(line)
    assert now["refused"] == count["refused"] and now["unparsed"] == struck["prose"] + struck["empty"]
    assert by_status(done)["unparsed", "ok"] == count["unparsed"] - now["unparsed"] > 0
    assert not {pair for pair in by_status(done) if pair not in {("unparsed", "ok"), ("ok", "ok")}}


def test_failures_and_other_annotators_are_counted(line: Line) -> None:
    """What failed has no answer; labels, rules, probabilities and likelihoods have no text. All stay as they are."""
    line.engines["judge"]["fail_every"] = 6
    line.steps[3:3] = [
        {"judge.label_probs": {"engine": "a", "card": "helpfulness"}},
        {"judge.rules": {}},
        {"judge.likelihood": {"engine": "a"}},
    ]
    line.run()
    targets = line.ds.preferences.collect()["response_ids"][0].to_list()
    line.ds.label([{"target_ids": targets, "protocol": "compare", "scores": [1, 0], "annotator": "human:b"}])
    before = line.live()
    text = judged(line).filter(pl.col("annotator").str.contains("model-judge"))
    failed = text.filter(pl.col("status") == "failed").height
    done = reparse(line.path)
    assert failed and done.unkept == failed and done.unchanged == text.height - failed and not done.changed
    others = line.ds.annotations.filter(~pl.col("source").is_in(["human", "consensus"])).collect().height - text.height
    assert sum(done.textless.values()) == others and not any(name.startswith("human") for name in done.textless)
    assert line.live() == before


def test_what_a_filter_hides_since_is_not_read(line: Line, worse: Callable[[bool], None]) -> None:
    worse(True)
    line.steps.insert(2, line.steps.pop(4))
    line.run()
    height = judged(line).height
    line.edit("select.where", keep="n_tokens > 20")
    text = parse_steps(line)
    line.run()
    worse(False)
    assert judged(line).height < height and text
    done = reparse(line.path)
    assert done.unmet == 0 and set(statuses(line)) == {"ok"}


def parse_steps(line: Line) -> int:
    import yaml

    text = yaml.safe_dump({"engines": line.engines, "steps": line.steps}, sort_keys=False)
    return plan(parse(text, file="line.yaml", folder=line.folder, name="line"), line.path).calls + 1


def test_a_judge_of_ones_own(line: Line) -> None:
    """It is read again where its file is named, and not otherwise: a dataset cannot have code run."""
    plugin = line.folder / "mine.py"
    plugin.write_text(PLUGIN)
    line.steps[2] = {"judge.mine": {"engine": "judge"}}
    run_with_plugin(line, plugin)
    number = line.ds.snapshot.number
    from prefdata.pipeline.registry import STEPS

    known = STEPS.pop("judge.mine")
    said: list[str] = []
    assert not reparse(line.path, say=said.append).changed
    assert "there is no step 'judge.mine' here" in said[0] and line.ds.snapshot.number == number
    STEPS["judge.mine"] = known
    plugin.write_text(PLUGIN.replace("len(text)", "2 * len(text)"))
    done = reparse(line.path, plugins=[plugin])
    assert by_status(done) == {("ok", "ok"): 8 * 3}
    assert not reparse(line.path, plugins=[plugin]).changed


def run_with_plugin(line: Line, plugin: Path) -> None:
    import yaml

    from prefdata.pipeline.run import run

    document = {"plugins": [str(plugin)], "engines": line.engines, "steps": line.steps}
    spec = parse(yaml.safe_dump(document, sort_keys=False), file="line.yaml", folder=line.folder, name="line")
    run(spec, line.path)


PLUGIN = """
import prefdata
from prefdata.engines import Request
from prefdata.schema import annotation, message


@prefdata.step("judge.mine")
class Mine(prefdata.GroupStep):
    reads, writes = frozenset({"prompts", "responses"}), frozenset({"annotations"})
    narrows = "responses"
    engine_fields = {"engine": "generate"}
    engine: str

    async def run(self, group, context):
        model, made = context.engine(self.engine), []
        for response in group.responses:
            row = annotation(
                group_id=group.group_id, prompt_id=response["prompt_id"], target_ids=[response["response_id"]],
                protocol="score", annotator=f"judge:{model.model}/mine", source="judge",
            )

            async def make(revision, row=row, text=response["text"]):
                request = Request("generate", messages=(message("user", text),), max_tokens=16)
                answer = await context.ask(self.engine, request, revision=revision)
                text = answer.reply.text
                return {**row, "scores": [float(len(text))], "call_id": answer.call_id, "revision": revision}

            made.append(await context.once("annotations", row["annotation_id"], make))
        return {"annotations": made}
"""


def test_a_running_pipeline_keeps_it_out(line: Line) -> None:
    from prefdata.dataset.lease import hold

    line.run()
    with hold(line.path, "line"), pytest.raises(DataError, match="line is running on"):
        reparse(line.path)
