"""Erasing: what goes, what stays, that nothing comes back, and that no byte of it is left."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from care_texts import all_rows, all_views, said_anywhere
from pipeline_line import Line

from prefdata.dataset import Dataset, StepRecord
from prefdata.dataset.closure import Target
from prefdata.dataset.compact import compact
from prefdata.dataset.erase import Erasure, erase, reach
from prefdata.dataset.lease import COMPACT, ERASE, REPAIR, hold
from prefdata.dataset.log import Log
from prefdata.engines import RequestCache
from prefdata.errors import DataError
from prefdata.schema import KEYS, annotation, message, prompt, response

pytestmark = pytest.mark.slow

ANNA = Target("user", "anna@example.org")


def gone_for_good(ds: Dataset, target: Target) -> Erasure:
    cache = RequestCache()
    try:
        return erase(ds, target, cache.forget)
    finally:
        cache.close()


def groups_of(ds: Dataset, user: str) -> set[str]:
    return set(ds.rows("prompts").filter(pl.col("user_id") == user).collect()["group_id"])


def words_of(ds: Dataset, groups: Collection[str]) -> set[str]:
    """Texts and ids that only rows of these groups have."""
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for table, columns in {"responses": ["text"], "annotations": ["text"], "calls": ["raw"]}.items():
        for row in ds.rows(table).collect().to_dicts():
            said[row["group_id"] in groups] |= {row[name] for name in columns if row[name]}
    return said[True] - said[False]


@pytest.mark.parametrize("compacted", [False, True], ids=["as it grew", "compacted"])
def test_a_user_is_gone_from_every_commit_and_file(line: Line, compacted: bool) -> None:
    ds, cache = line.ds, Path(os.environ["PREFDATA_CACHE"])
    groups = groups_of(ds, ANNA.name)
    if compacted:
        compact(ds)  # replaced files with rows of hers lie about for an hour
    (ds.path / "parts/responses/.half-written.tmp").write_bytes(b"PAR1 Secret of anna@example.org, number 0")
    (ds.path / "report.html").write_text("Secret of anna@example.org, number 1")
    (ds.path / "quarantine").mkdir(exist_ok=True)
    (ds.path / "quarantine/one.jsonl").write_text("Secret of anna@example.org, number 1")
    secrets = words_of(ds, groups)
    last = ds.snapshot.number
    some = [*range(0, last, 4), last]
    before, rows = all_views(ds, some), all_rows(ds)
    assert len(groups) == 2 and len(secrets) > 8 and all(text in said_anywhere(ds.path, cache) for text in secrets)
    promised = reach(ds, ANNA)

    done = gone_for_good(ds, ANNA)

    assert done.reach == promised and done.forgotten > 0
    assert promised.rows["prompts"] == 2 and promised.rows["responses"] == 6 and promised.rows["annotations"] > 12
    assert set(promised.copies) >= {"exports", "report.html", "quarantine"}
    left = said_anywhere(ds.path, cache)
    assert not [text for text in secrets if text in left]
    assert "anna@example.org" not in left and "Secret of ben" in left

    def spared(row: str) -> bool:
        return json.loads(row)["group_id"] not in groups

    after = all_views(ds, some)
    for number in before:
        for table in set(before[number]) - {"calls", "criteria", "annotators"}:
            assert after[number][table] == list(filter(spared, before[number][table])), (number, table)
    remaining = all_rows(ds)
    for table in set(rows) - {"calls", "criteria", "annotators"}:
        assert remaining[table] == list(filter(spared, rows[table])), table
    old, new = [pl.DataFrame([json.loads(row) for row in made["calls"]]) for made in (rows, remaining)]
    cost = ["call_id", "step", "model", "prompt_tokens", "completion_tokens", "money", "seconds", "cached", "_commit"]
    assert old.select(cost).sort(cost).equals(new.select(cost).sort(cost))
    of_hers = pl.col("group_id").is_in(list(groups))
    assert new.filter(of_hers)["raw"].null_count() == new.filter(of_hers).height > 0
    assert new.filter(~of_hers).sort(cost).equals(old.filter(~of_hers).sort(cost))

    message = ds.snapshot.commits[-1].message
    assert message.startswith("erase a user, and all that rests on it:") and "2 prompts" in message


def test_nothing_comes_back_and_no_model_is_asked(line: Line, tmp_path: Path) -> None:
    ds = line.ds
    groups = groups_of(ds, ANNA.name)
    theirs = ds.rows("responses").filter(pl.col("group_id").is_in(list(groups))).collect()["response_id"].to_list()
    copy = tmp_path / "copy"
    other = cared_for_again(line, copy)
    gone_for_good(ds, ANNA)

    def nothing_of_hers() -> None:
        for table in ("prompts", "responses", "annotations", "preferences", "progress"):
            rows = ds.rows(table).filter(pl.col("group_id").is_in(list(groups))).collect()
            assert rows.is_empty(), (table, rows)

    for fields in ({}, {"min_gap": 2.0}, {"min_gap": 0.1}):
        line.edit("pair", **fields)
        assert line.run().usage.calls == 0
        nothing_of_hers()
    done = ds.snapshot.number
    assert line.run().usage.calls == 0 and ds.snapshot.number == done
    assert line.run("another").usage.calls == 0  # the same file under another name
    nothing_of_hers()
    with pytest.raises(DataError, match="the dataset has no response"):
        ds.label([{"target_ids": theirs[:2], "protocol": "compare", "scores": [1, 0], "annotator": "human:x"}])
    view = Dataset(other).view()
    ds.add_import({table: view[table].collect() for table in ("prompts", "responses")}, source="prefdata", fields={})
    ds.commit({"calls": view["calls"].collect()}, "calls of another dataset")
    nothing_of_hers()
    line.edit("sample", engine=["a", "b"])  # a larger pool: only the others' prompts are asked
    assert line.run().usage.calls > 0
    nothing_of_hers()


def cared_for_again(line: Line, to: Path) -> Path:
    import shutil

    shutil.copytree(line.path, to)
    return to


def test_an_annotator_is_gone_and_what_rested_on_it_follows(line: Line) -> None:
    ds = line.ds
    mine = ds.rows("annotations").filter(pl.col("annotator") == "human:x").collect()
    about = {
        "target": "annotation",
        "target_ids": [mine["annotation_id"][0]],
        "protocol": "label",
        "labels": ["wrong"],
        "annotator": "human:z",
        "text": "no, not so",
    }
    ds.label([about, {**about, "target": "annotator", "target_ids": ["human:x"], "text": "careless on the whole"}])
    ds.commit(
        {"annotators": [{"annotator": "human:x", "attributes": [{"name": "age", "value": "46"}]}]}, "who they are"
    )
    line.run()
    target = Target("annotator", "human:x")
    promised = reach(ds, target)
    assert promised.rows["annotations"] == mine.height + 2 and promised.rows["annotators"] == 1
    assert "prompts" not in promised.rows and "responses" not in promised.rows and promised.calls == 0
    gone_for_good(ds, target)
    left = said_anywhere(ds.path)
    for words in ("human:x", "I think so", "no, not so", "careless on the whole"):
        assert words not in left
    assert "Quite the contrary" in left
    result = line.run()  # the consensus of the others, with no call
    assert result.usage.calls == 0 and {step.name for step in result.steps if step.rows} >= {"aggregate.bradley_terry"}
    done = ds.snapshot.number
    assert line.run().usage.calls == 0 and ds.snapshot.number == done
    tasks = mine.select("target_ids", "protocol", "scores", "annotator", "text").to_dicts()  # the same tasks and person
    assert set(ds.label(tasks)) == set(mine["annotation_id"])
    ds.commit({"annotators": [{"annotator": "human:x"}, {"annotator": "human:new"}]}, "again")
    assert ds.rows("annotations").filter(pl.col("annotator") == "human:x").collect().is_empty()
    assert "human:x" not in ds.rows("annotators").collect()["annotator"]
    assert "human:new" in ds.rows("annotators").collect()["annotator"]


def test_a_judge_is_gone_and_is_not_asked_again(line: Line) -> None:
    ds = line.ds
    judge = ds.annotations.filter(pl.col("source") == "judge").collect()["annotator"][0]
    calls = set(ds.rows("annotations").filter(pl.col("annotator") == judge).collect()["call_id"])
    done = gone_for_good(ds, Target("annotator", judge))
    assert done.reach.calls == len(calls) and done.forgotten == len(calls)
    assert ds.rows("calls").filter(pl.col("call_id").is_in(list(calls))).collect()["raw"].null_count() == len(calls)
    for gap in (0.1, 0.2, 0.1):
        line.edit("pair", min_gap=gap)
        assert line.run().usage.calls == 0
        assert ds.rows("annotations").filter(pl.col("annotator") == judge).collect().is_empty()


STEP = StepRecord("import:a@1", "a", "import")


def family(ds: Dataset) -> dict[str, str]:
    """A root and what was derived from it; one joint comparison with another group. Returns ids by name."""
    root = prompt([message("user", "root")], user_id="ann")
    child = prompt([message("user", "child")], parent=root, user_id="bob")
    grandchild = prompt([message("user", "grandchild")], parent=child)
    sibling = prompt([message("user", "sibling")], parent=root)
    other = prompt([message("user", "other")])
    prompts = {"root": root, "child": child, "grandchild": grandchild, "sibling": sibling, "other": other}
    responses = {name: response(one, model="m", text=f"to {name}", key=name) for name, one in prompts.items()}
    edited = response(sibling, model="m", text="edited", key="e", parent_id=responses["child"]["response_id"])
    quoting = prompt(
        [message("user", "quoting")],
        parent=root,
        condition={"kind": "history", "text": "to child", "ref_ids": [responses["child"]["response_id"]]},
    )

    def compare(a: str, b: str, group: str) -> dict[str, Any]:
        ids = [responses[a]["response_id"], responses[b]["response_id"]]
        return annotation(
            group_id=prompts[group]["group_id"],
            prompt_id=None,
            target_ids=ids,
            protocol="compare",
            annotator="human:q",
            source="human",
            scores=[1, 0],
        )

    said = {"joint": compare("other", "child", "other"), "kept": compare("root", "sibling", "root")}
    said["about"] = annotation(
        group_id=other["group_id"],
        prompt_id=None,
        target="annotation",
        target_ids=[said["joint"]["annotation_id"]],
        protocol="label",
        annotator="human:r",
        source="human",
        labels=["odd"],
    )
    rows: dict[str, list[dict[str, Any]]] = {
        "prompts": [*prompts.values(), quoting],
        "responses": [*responses.values(), edited],
        "annotations": list(said.values()),
    }
    ds.commit({t: [{**row, "step": STEP.step} for row in made] for t, made in rows.items()}, "family", steps=[STEP])
    ids = {f"prompt {name}": one["prompt_id"] for name, one in {**prompts, "quoting": quoting}.items()}
    ids |= {f"response {name}": one["response_id"] for name, one in {**responses, "edited": edited}.items()}
    return ids | {f"annotation {name}": one["annotation_id"] for name, one in said.items()}


def left(ds: Dataset, ids: dict[str, str]) -> set[str]:
    there = set().union(*(ds.rows(table).collect()[KEYS[table]] for table in ("prompts", "responses", "annotations")))
    return {name for name, one in ids.items() if one in there}


@pytest.mark.parametrize("shards", [1, 4])
def test_a_derived_prompt_takes_what_was_derived_from_it_and_is_about_it(tmp_path: Path, shards: int) -> None:
    ds = Dataset.create(tmp_path / "ds", shards=shards)
    ids = family(ds)
    goes = {"prompt child", "prompt grandchild", "prompt quoting", "response child", "response grandchild"}
    goes |= {"response edited", "annotation joint", "annotation about"}
    for target in (Target("user", "bob"), Target("prompt", ids["prompt child"])):
        assert sum(reach(ds, target).rows.values()) == len(goes)
    erase(ds, Target("user", "bob"), lambda *_: 0)
    assert left(ds, ids) == set(ids) - goes
    assert {"groups"}.isdisjoint(ds.rows("erased").collect()["table"])
    family(ds)  # the same rows once more
    assert left(ds, ids) == set(ids) - goes


def test_a_consensus_of_one_goes_and_that_of_several_stays(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds", shards=2)
    made: dict[str, list[dict[str, Any]]] = {"prompts": [], "responses": [], "annotations": [], "preferences": []}
    for name, people in {"one": ["human:x"], "two": ["human:x", "human:y"]}.items():
        root = prompt([message("user", name)])
        both = [response(root, model="m", text=text, key=text) for text in ("a", "b")]
        asked = {"group_id": root["group_id"], "prompt_id": root["prompt_id"]}
        shown = {**asked, "target_ids": [row["response_id"] for row in both], "scores": [1, 0]}
        said = [annotation(**shown, protocol="compare", annotator=who, source="human") for who in people]
        agreed = annotation(**shown, protocol="score", annotator="consensus:mean", source="consensus")
        pair = {**asked, "preference_id": f"pair of {name}", "response_ids": shown["target_ids"], "scores": [1.0, 0.0]}
        made["prompts"].append(root)
        made["responses"] += both
        made["annotations"] += [*said, agreed]
        made["preferences"].append({**pair, "annotation_ids": [agreed["annotation_id"]]})
    ds.commit({t: [{**row, "step": STEP.step} for row in rows] for t, rows in made.items()}, "in", steps=[STEP])
    assert reach(ds, Target("annotator", "human:x")).rows == {"annotations": 3, "preferences": 1}
    erase(ds, Target("annotator", "human:x"), lambda *_: 0)
    assert sorted(ds.rows("annotations").collect()["annotator"]) == ["consensus:mean", "human:y"]
    assert ds.rows("preferences").collect()["preference_id"].to_list() == ["pair of two"]


def test_a_root_prompt_takes_its_group_and_joint_rows_of_others(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds", shards=3)
    ids = family(ds)
    erase(ds, Target("prompt", ids["prompt root"]), lambda *_: 0)
    assert left(ds, ids) == {"prompt other", "response other"}
    assert "annotation joint" in ids and ds.rows("erased").filter(pl.col("table") == "groups").collect().height == 1


def test_who_is_not_there_is_a_sentence_with_near_ones(line: Line) -> None:
    with pytest.raises(DataError, match=r"no prompt of a user 'ana@example.org'; did you mean 'anna@example.org'"):
        reach(line.ds, Target("user", "ana@example.org"))
    with pytest.raises(DataError, match=r"no annotator 'human:w'; did you mean 'human:\w'"):
        reach(line.ds, Target("annotator", "human:w"))
    with pytest.raises(DataError, match="no prompt 'abc'"):
        reach(line.ds, Target("prompt", "abc"))


def test_not_beside_a_run_and_no_run_beside_it(line: Line) -> None:
    with hold(line.path, "line"), pytest.raises(DataError, match="a run of line is at work on it"):
        gone_for_good(line.ds, ANNA)
    with hold(line.path, COMPACT), pytest.raises(DataError, match="compact is at work on it"):
        gone_for_good(line.ds, ANNA)
    gone_for_good(line.ds, ANNA)


def test_a_label_that_comes_in_meanwhile_goes_too(line: Line) -> None:
    ds = line.ds
    hers = ds.responses.filter(pl.col("group_id").is_in(list(groups_of(ds, ANNA.name)))).collect()
    pair = hers.filter(pl.col("group_id") == hers["group_id"][0])["response_id"].to_list()[:2]
    others = ds.responses.filter(~pl.col("group_id").is_in(list(groups_of(ds, ANNA.name)))).collect()
    theirs = others.filter(pl.col("group_id") == others["group_id"][0])["response_id"].to_list()[:2]
    tries = []

    def forget(*_: object) -> int:
        tries.append(1)
        if len(tries) == 1:  # just before the commit: once about hers, and once about another's
            task = {"protocol": "compare", "scores": [0, 1]}
            ds.label([{**task, "target_ids": pair, "annotator": "human:late", "text": "a late word"}])
        if len(tries) == 2:
            ds.label([{**task_of(theirs), "annotator": "human:late", "text": "another late word"}])
        return 0

    def task_of(ids: list[str]) -> dict[str, Any]:
        return {"protocol": "compare", "scores": [0, 1], "target_ids": ids}

    erase(ds, ANNA, forget)
    assert len(tries) == 2  # the second label touched nothing of hers
    assert "a late word" not in said_anywhere(ds.path) and "another late word" in said_anywhere(ds.path)


def test_a_crash_leaves_the_old_state_or_the_new_one(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = line.ds
    before = all_rows(ds)
    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gone_for_good(ds, ANNA)
    assert all_rows(line.ds) == before
    import prefdata.dataset.erase as module

    real = module.finish
    calls = []

    def killed(dataset: Dataset) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt  # after the commit, before the old files went
        return real(dataset)

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            gone_for_good(ds, ANNA)
    assert "Secret of anna" in said_anywhere(ds.path) and not groups_of(line.ds, ANNA.name)
    compact(line.ds)
    assert "Secret of anna" not in said_anywhere(ds.path)


def test_columns_and_types_of_parts_stay(line: Line) -> None:
    gone_for_good(line.ds, ANNA)
    for table, parts in line.ds.snapshot.standing.items():
        for first, part in parts:
            file = pq.read_table(line.path / part.path)
            assert file.num_rows == part.rows, table
            assert part.commits is None or part.commits[0] == first


@pytest.mark.parametrize("name", [ERASE, REPAIR])
def test_a_run_is_kept_out_while_rows_are_erased(line: Line, name: str) -> None:
    with hold(line.path, name), pytest.raises(DataError, match=f"{name.removeprefix('care:')} is at work on it"):
        line.run()
    with hold(line.path, COMPACT):
        assert line.run().usage.calls == 0


@pytest.mark.parametrize("shards", [1, 2])
def test_the_order_of_prompts_holds_though_a_commit_spans_compacted_parts(tmp_path: Path, shards: int) -> None:
    ds = Dataset.create(tmp_path / "ds", shards=shards)
    for start in (0, 40):
        rows = [
            {**prompt([message("user", f"Number {start + n}")]), "user_id": f"u{start + n}", "step": "import:a@1"}
            for n in range(40)
        ]
        record = StepRecord("import:a@1", "import:a", "import")
        ds.commit({"prompts": rows}, "prompts", steps=[record])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefdata.dataset.compact.rows_per_group", lambda _: 5)
        patch.setattr("prefdata.dataset.compact._worth_it", lambda *_: True)
        compact(ds, target_bytes=1500)
    parts = [part for _, part in ds.snapshot.standing["prompts"]]
    assert len(parts) > 3 * shards
    before = ds.rows("prompts").collect()["user_id"].to_list()
    erase(ds, Target("user", "u3"), lambda *_: 0)
    before.remove("u3")
    assert ds.rows("prompts").collect()["user_id"].to_list() == before
    erase(ds, Target("user", "u50"), lambda *_: 0)
    before.remove("u50")
    assert ds.rows("prompts").collect()["user_id"].to_list() == before
