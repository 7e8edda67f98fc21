"""The log and the one view order, on small hand-made datasets."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import Row, Rows, annotation, message, preference, prompt, response


def toy(text: str = "Why is the sky blue?", k: int = 3) -> Rows:
    """One prompt, `k` responses, a human ranking of them, and both orders of a comparison."""
    asked = prompt([message("user", text)])
    written = [response(asked, model="m", text=f"answer {n}", key=n) for n in range(k)]
    ids = [row["response_id"] for row in written]
    common = {"group_id": asked["group_id"], "prompt_id": asked["prompt_id"]}
    said = [
        annotation(
            **common,
            target_ids=ids,
            protocol="rank",
            annotator="human:a",
            source="human",
            scores=[float(k - n) for n in range(k)],
        ),
        annotation(
            **common,
            target_ids=ids[:2],
            protocol="compare",
            annotator="judge:x",
            source="judge",
            scores=[0.8, 0.2],
        ),
        annotation(
            **common,
            target_ids=[ids[1], ids[0]],
            protocol="compare",
            annotator="judge:x",
            source="judge",
            scores=[0.4, 0.6],
        ),
    ]
    pairs = [preference(**common, response_ids=[ids[0], ids[2]], scores=[3.0, 1.0])]
    return {"prompts": [asked], "responses": written, "annotations": said, "preferences": pairs}


@pytest.fixture
def ds(tmp_path: Path) -> Dataset:
    made = Dataset.create(tmp_path / "ds")
    made.add_import(toy(), source="toy", fields={})
    return made


def column(frame: pl.LazyFrame, name: str) -> list[object]:
    return frame.collect()[name].to_list()


def ids_of(ds: Dataset) -> list[str]:
    return sorted(column(ds.responses, "response_id"), key=str)  # type: ignore[return-value]


def test_rows_come_back_as_they_went_in(ds: Dataset) -> None:
    assert ds.counts()["responses"] == 3
    row: Row = ds.prompts.collect().to_dicts()[0]
    assert row["messages"][0]["content"] == "Why is the sky blue?"
    assert row["messages"][0]["tool_calls"] is None
    assert row["step"].startswith("import:toy@")
    assert ds.pairs().to_dicts()[0]["chosen"] == "answer 0"
    assert ds.lists()["scores"].to_list() == [[3.0, 1.0]]


def test_importing_again_adds_nothing(ds: Dataset) -> None:
    before = ds.snapshot.number
    assert set(ds.add_import(toy(), source="toy", fields={}).values()) == {0}
    assert ds.snapshot.number == before


def test_a_dropped_response_leaves_the_ranking_and_hides_the_rest(ds: Dataset) -> None:
    first = column(ds.annotations.filter(pl.col("protocol") == "rank"), "target_ids")[0][0]  # type: ignore[index]
    assert ds.drop("responses", [first], reason="rude") == 1
    left = ds.annotations.collect()
    assert left["protocol"].to_list() == ["rank"]
    assert first not in left["target_ids"].to_list()[0]
    assert left["scores"].to_list() == [[2.0, 1.0]]
    assert ds.preferences.collect().is_empty()
    ds.restore("responses", [first])
    assert ds.counts()["annotations"] == 3
    assert ds.counts()["preferences"] == 1


def test_a_ranking_left_with_one_is_hidden(ds: Dataset) -> None:
    ds.drop("responses", ids_of(ds)[:2], reason="rude")
    assert ds.annotations.collect().is_empty()


def test_a_dropped_prompt_hides_everything(ds: Dataset) -> None:
    ds.drop("prompts", column(ds.prompts, "prompt_id"), reason="off topic")  # type: ignore[arg-type]
    assert all(ds.counts()[table] == 0 for table in ("prompts", "responses", "annotations", "preferences"))


def test_a_derived_prompt_falls_with_its_root(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds")
    root = prompt([message("user", "root")])
    turn = prompt([message("user", "root"), message("assistant", "a"), message("user", "more")], parent=root)
    under = response(turn, model="m", text="x", key=1)
    ds.add_import({"prompts": [root, turn], "responses": [under]}, source="toy", fields={})
    assert ds.counts()["responses"] == 1
    assert turn["group_id"] == root["prompt_id"]
    ds.drop("prompts", [root["prompt_id"]], reason="no")
    assert ds.counts()["responses"] == ds.counts()["prompts"] == 0


def test_labels_are_corrected_and_deleted(ds: Dataset) -> None:
    ids = ids_of(ds)
    task = {"target_ids": ids[:2], "protocol": "compare", "annotator": "human:b"}
    first = ds.label([{**task, "scores": [1, 0]}])
    assert ds.label([{**task, "scores": [0, 1]}]) == first
    assert ds.label([{**task, "scores": [1, 0]}]) == first
    mine = ds.annotations.filter(pl.col("annotator") == "human:b").collect()
    assert mine["revision"].to_list() == [3]
    assert mine["scores"].to_list() == [[1.0, 0.0]]
    assert ds.unlabel(first) == 1
    assert ds.annotations.filter(pl.col("annotator") == "human:b").collect().is_empty()
    ds.label([{**task, "scores": [0.5, 0.5]}])
    assert column(ds.annotations.filter(pl.col("annotator") == "human:b"), "scores") == [[0.5, 0.5]]


def test_two_equal_votes_of_two_people_stay_two(ds: Dataset) -> None:
    ids = ids_of(ds)
    task = {"target_ids": ids[:2], "protocol": "compare", "scores": [1, 0]}
    assert len(set(ds.label([{**task, "annotator": "human:b"}, {**task, "annotator": "human:c"}]))) == 2


def test_at_shows_the_past(ds: Dataset) -> None:
    then = ds.snapshot.number
    ds.drop("responses", ids_of(ds), reason="all")
    assert ds.counts()["responses"] == 0
    assert Dataset(ds.path, at=then).counts()["responses"] == 3
    with pytest.raises(DataError, match="no commit 99"):
        Dataset(ds.path, at=99)
    with pytest.raises(DataError, match="opened at commit"):
        Dataset(ds.path, at=then).label(
            [{"target_ids": ids_of(Dataset(ds.path, at=then))[:1], "protocol": "score", "annotator": "human:b"}]
        )


def test_sql_sees_the_live_rows(ds: Dataset) -> None:
    found = ds.sql("select annotator, count(*) n from annotations group by 1 order by 1")
    assert found.to_dicts() == [{"annotator": "human:a", "n": 1}, {"annotator": "judge:x", "n": 2}]
    with pytest.raises(DataError, match="query failed"):
        ds.sql("select nothing from nowhere")


def test_a_newer_dataset_is_refused_in_a_sentence(ds: Dataset) -> None:
    entry = sorted((ds.path / "log").glob("*.json"))[0]
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "schema": 99}))
    with pytest.raises(DataError, match="upgrade prefdata"):
        Dataset(ds.path)


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no dataset"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": [0.9, 0.3]}, "sum to 1"),
        ({"scores": [1.0]}, "1 scores for 2 targets"),
        ({"protocol": "vote"}, "protocol is 'vote'"),
        ({"target_ids": ["nowhere", "here"]}, "no response or prompt"),
        ({"annotator": ""}, "whose it is"),
    ],
)
def test_a_bad_label_is_refused_in_a_sentence(ds: Dataset, change: Row, says: str) -> None:
    row = {"target_ids": ids_of(ds)[:2], "protocol": "compare", "annotator": "human:b", "scores": [1, 0], **change}
    with pytest.raises(DataError, match=says):
        ds.label([row])


def test_shards_hold_the_same_rows(tmp_path: Path) -> None:
    one, four = Dataset.create(tmp_path / "one"), Dataset.create(tmp_path / "four", shards=4)
    for ds in (one, four):
        for n in range(12):
            ds.add_import(toy(f"question {n}"), source="toy", fields={"n": n})
    assert one.counts() == four.counts()
    groups = [set(column(four.view(shard=shard)["prompts"], "group_id")) for shard in range(4)]
    assert sum(len(group) for group in groups) == len(set.union(*groups)) == 12


def test_a_label_across_prompts_is_joint(ds: Dataset) -> None:
    ds.add_import(toy("What is two plus two?"), source="toy", fields={"n": 2})
    by_prompt = ds.responses.group_by("prompt_id").agg(pl.col("response_id").first()).collect()["response_id"].to_list()
    (label,) = ds.label([{"target_ids": by_prompt, "protocol": "compare", "scores": [1, 0], "annotator": "human:b"}])
    assert column(ds.annotations.filter(pl.col("annotation_id") == label), "prompt_id") == [None]


def test_a_label_of_a_prompt_finds_out_what_it_is_about(ds: Dataset) -> None:
    (one,) = column(ds.prompts, "prompt_id")
    ds.label([{"target_ids": [one], "protocol": "score", "scores": [3], "annotator": "human:b"}])
    assert column(ds.annotations.filter(pl.col("target") == "prompt"), "target_ids") == [[one]]


def test_decisions_about_nothing_are_refused(ds: Dataset) -> None:
    with pytest.raises(DataError, match="no row 'nope'"):
        ds.drop("responses", ["nope"], reason="x")
    with pytest.raises(DataError, match="cannot be dropped"):
        ds.drop("response", ids_of(ds), reason="x")
    with pytest.raises(DataError, match="as a list"):
        ds.drop("responses", ids_of(ds)[0], reason="x")
    with pytest.raises(DataError, match="takes a list"):
        ds.label({"target_ids": ids_of(ds)[:1]})  # type: ignore[arg-type]


def test_sql_joins_by_name_and_reaches_no_file(ds: Dataset, tmp_path: Path) -> None:
    assert ds.sql("select count(*) n from prompts join responses using (prompt_id)").to_dicts() == [{"n": 3}]
    (tmp_path / "x.csv").write_text("a\n1\n")
    for query in (f"select * from read_csv('{tmp_path}/x.csv')", f"copy (select 1) to '{tmp_path}/y.csv'"):
        with pytest.raises(DataError, match="query failed"):
            ds.sql(query)


def test_infinite_scores_are_refused(ds: Dataset) -> None:
    with pytest.raises(DataError, match="finite"):
        row = {"target_ids": ids_of(ds)[:1], "protocol": "score", "scores": [float("inf")], "annotator": "human:b"}
        ds.label([row])


def test_a_dataset_half_made_is_finished(tmp_path: Path) -> None:
    (tmp_path / "ds" / "log").mkdir(parents=True)
    (tmp_path / "ds" / ".0123.tmp").write_text("{")
    assert Dataset.create(tmp_path / "ds").counts()["prompts"] == 0
