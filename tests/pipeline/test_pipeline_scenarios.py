"""What must happen when people change things: the scenarios of the log, on the scripted engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from prefdata.dataset import Dataset
from prefdata.errors import EngineError, PipelineError
from prefdata.pipeline.plan import plan
from prefdata.pipeline.registry import step
from prefdata.pipeline.spec import parse
from prefdata.pipeline.status import status
from prefdata.pipeline.step import TableStep
from prefdata.schema import prompt


@step("test.persona")
class Persona(TableStep):
    """Derives one prompt from each root, with a system turn."""

    reads, writes = frozenset({"prompts"}), frozenset({"prompts"})

    def run(self, tables: Any, context: Any) -> Any:
        said = {"kind": "persona", "text": "Be brief."}
        rows = tables["prompts"].to_dicts()
        return {"prompts": [prompt(row["messages"], parent=row, condition=said) for row in rows]}


def ids(frame: pl.LazyFrame, key: str) -> set[str]:
    return set(frame.select(key).collect().to_series())


def test_a_second_run_does_nothing(line: Any) -> None:
    first = line.run()
    assert first.usage.calls == 8 * 3 + 8 * 3 * 2
    commits = line.ds.snapshot.number
    second = line.run()
    assert second.usage.calls == second.usage.cached == 0
    assert all(not step.rows for step in second.steps)
    assert line.ds.snapshot.number == commits


def test_min_gap_changed_and_set_back(line: Any) -> None:
    line.run()
    before = line.live()
    line.edit("pair", min_gap=3.0)
    assert line.run().usage.calls == 0
    fewer = line.live()
    assert len(fewer["preferences"]) < len(before["preferences"])
    line.edit("pair", min_gap=0.1)
    assert line.run().usage.calls == 0
    assert line.live() == before


def test_a_threshold_edited_and_a_select_removed(line: Any) -> None:
    line.run()
    before = line.live()
    line.edit("select.where", keep="n_tokens > 20")
    line.run()
    assert len(line.live()["responses"]) < len(before["responses"])
    line.edit("select.where", keep="n_tokens > 3")
    line.run()
    assert line.live() == before
    line.remove("select.where")
    line.run()
    assert len(line.live()["responses"]) == 24
    assert line.ds.view().dropped.is_empty()


def test_a_restored_response_survives_an_edited_threshold(line: Any) -> None:
    line.edit("select.where", keep="n_tokens > 20")
    line.run()
    dropped = line.ds.view().dropped
    one = dropped["id"][0]
    line.ds.restore("responses", [one])
    line.edit("select.where", keep="n_tokens > 21")
    line.run()
    assert one in ids(line.ds.responses, "response_id")


def test_a_renamed_pair_leaves_one_live(line: Any) -> None:
    line.run()
    before = len(line.live()["preferences"])
    line.edit("pair", name="main")
    line.run()
    steps = set(line.ds.preferences.collect()["step"])
    assert len(steps) == 1 and next(iter(steps)).startswith("main@")
    assert len(line.live()["preferences"]) == before


def test_another_card_asks_its_judgements_only(line: Any) -> None:
    line.run()
    responses = ids(line.ds.responses, "response_id")
    label = line.ds.label(
        [{"target_ids": sorted(responses)[:1], "protocol": "score", "scores": [1.0], "annotator": "human:b"}]
    )
    line.edit("judge.compare", card="honesty")
    assert line.run().usage.calls == 8 * 3 * 2
    assert ids(line.ds.responses, "response_id") == responses
    judges = set(line.ds.annotations.filter(pl.col("source") == "judge").collect()["annotator"])
    assert len(judges) == 1 and "honesty@" in judges.pop()
    assert set(label) <= ids(line.ds.annotations, "annotation_id")


@pytest.mark.parametrize("fresh_cache", [False, True])
def test_one_model_more_in_the_pool(
    line: Any, fresh_cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.run()
    old = {row["response_id"]: row["text"] for row in line.ds.responses.collect().to_dicts()}
    target = sorted(old)[:2]
    (label,) = line.ds.label([{"target_ids": target[:1], "protocol": "score", "scores": [1.0], "annotator": "human:b"}])
    if fresh_cache:
        monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path / "other"))
    line.edit("sample", engine=["a", "b"])
    result = line.run()
    pairs = 6 * 5 // 2 - 3
    assert result.usage.calls == 8 * 3 + 8 * pairs * 2
    new = {row["response_id"]: row["text"] for row in line.ds.rows("responses").collect().to_dicts()}
    assert all(new[response_id] == text for response_id, text in old.items())
    live = set(line.ds.view(pipeline="line")["responses"].collect()["response_id"])
    assert live <= set(new) and label in ids(line.ds.annotations, "annotation_id")


def test_limit_and_more_prompts_and_one_taken_away(line: Any) -> None:
    assert line.run(limit=3).usage.calls == 3 * 3 + 3 * 3 * 2
    assert len(line.live()["prompts"]) == 3
    assert line.run().usage.calls == 5 * 3 + 5 * 3 * 2
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(10))
    assert line.run().usage.calls == 2 * 3 + 2 * 3 * 2
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(1, 10))
    assert line.run().usage.calls == 0
    assert len(line.live()["prompts"]) == 9
    assert len(line.live()["responses"]) <= 27


def test_a_label_corrected_and_deleted(line: Any) -> None:
    line.run()
    before = line.live()
    row = line.ds.annotations.filter(pl.col("protocol") == "compare").collect().to_dicts()[0]
    task = {"target_ids": row["target_ids"], "protocol": "compare", "annotator": "human:b"}
    (label,) = line.ds.label([{**task, "scores": [1, 0]}])
    first = line.run()
    assert first.usage.calls == 0
    assert {s.name: s.groups for s in first.steps}["aggregate.bradley_terry"] == 1
    said_a = line.live()
    line.ds.label([{**task, "scores": [0, 1]}])
    line.run()
    assert line.live() != said_a
    line.ds.label([{**task, "scores": [1, 0]}])
    line.run()
    assert line.live() == said_a
    line.ds.unlabel([label])
    line.run()
    assert line.live() == before


def test_a_response_dropped_by_a_person(line: Any) -> None:
    line.run()
    one = line.ds.preferences.collect()["response_ids"][0][0]
    line.ds.drop("responses", [one], reason="wrong")
    assert one not in str(line.live()["preferences"]) + str(line.live()["annotations"])
    result = line.run()
    assert result.usage.calls == 0
    assert one not in str(line.live()["annotations"])
    assert all(step.note == "" for step in status(line.ds).steps)


def test_a_variant_beside_the_first(line: Any) -> None:
    line.run()
    before = line.live("line")
    line.edit("pair", rule="all_pairs")
    line.run(name="wide")
    assert line.live("line") == before
    assert len(line.live("wide")["preferences"]) > len(before["preferences"])
    line.edit("pair", rule="adjacent")
    line.run(name="wide")
    assert len({plan.pipeline for plan in line.ds.snapshot.plans.values()}) == 2


def test_two_pipelines_with_the_same_sample_step(line: Any) -> None:
    line.run(name="one")
    line.run(name="two")
    both = line.live()
    line.edit("sample", n=2)
    line.run(name="one")
    assert len(line.live("two")["responses"]) == len(both["responses"])
    everything = line.ds.responses.collect()["response_id"].to_list()
    assert len(everything) == len(set(everything))


def test_one_pipeline_reads_another_and_the_first_is_edited(line: Any) -> None:
    line.run(name="first")
    steps = line.steps
    line.steps = [{"pair": {"name": "second-pairs", "rule": "all_pairs", "reads": ["first"]}}]
    line.run(name="second")
    made = len(line.live("second")["preferences"])
    assert made > 0
    second, line.steps = line.steps, steps
    line.edit("sample", temperature=0.2)
    line.run(name="first")
    found = status(line.ds)
    assert "preferences" in found.hidden or any("no longer live" in step.note for step in found.steps)
    line.steps = second
    line.run(name="second")
    assert line.live("second")["preferences"]
    assert not any("no longer live" in step.note for step in status(line.ds).steps)


def test_two_pair_steps_apart(line: Any) -> None:
    line.steps.append({"pair": {"name": "all", "rule": "all_pairs"}})
    line.steps.append({"pair": {"name": "same", "rule": "best_worst", "min_gap": 0.1}})
    line.run()
    view = line.ds.view(made_by={"preferences": ["all"]})
    assert set(view["preferences"].collect()["step"].str.head(4)) == {"all@"}
    assert line.ds.view(made_by={"preferences": ["pair"]})["preferences"].collect().height <= 8


def test_a_named_view_beside_main(line: Any) -> None:
    line.steps.append({"select.where": {"name": "hard", "table": "responses", "keep": "n_tokens > 20", "view": "easy"}})
    line.steps.append({"pair": {"name": "easy-pairs", "view": "easy"}})
    line.run()
    main, easy = line.ds.view(), line.ds.view(name="easy")
    assert easy["responses"].collect().height < main["responses"].collect().height
    before = main["responses"].collect().height
    line.edit("hard", keep="n_tokens > 30")
    line.run()
    assert line.ds.responses.collect().height == before


def test_two_aggregates_do_not_feed_on_each_other(line: Any) -> None:
    line.steps.insert(4, {"aggregate.majority": {}})
    line.run()
    line.edit("aggregate.majority", min_valid=2)
    result = line.run()
    by_name = {step.name: step for step in result.steps}
    assert by_name["aggregate.bradley_terry"].groups == 0
    assert by_name["aggregate.majority"].groups == 8


def test_setting_back_half_way_costs_nothing(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line.run()
    before, then = line.live(), line.ds.snapshot.number
    line.edit("judge.compare", card="honesty")
    line.run(budget="2000tokens")
    assert line.ds.snapshot.number > then
    assert sorted(Dataset(line.path, at=then).preferences.collect()["preference_id"]) == sorted(
        row.split('"preference_id": "')[1][:32] for row in before["preferences"]
    )
    line.edit("judge.compare", card="helpfulness")
    assert line.run().usage.calls == 0
    assert line.live() == before


def test_a_step_that_breaks_is_a_sentence_and_keeps_the_rest(line: Any) -> None:
    line.edit("select.where", keep="n_tokens")  # a number is no condition; only running tells
    with pytest.raises(PipelineError, match=r"select\.where"):
        line.run()
    line.edit("select.where", keep="n_tokens > 3")
    assert line.run().usage.calls == 0


@pytest.mark.slow
def test_shards_hold_what_one_would(line: Any) -> None:
    line.run()
    one = line.live()
    line.dataset_name = "sharded"
    Dataset.create(line.path, shards=3)
    assert line.run(limit=5).usage.calls == 0  # the request cache has them all
    assert len(line.live()["prompts"]) == 5
    line.run()
    assert line.live() == one
    assert all(not step.rows for step in line.run().steps)
    line.edit("select.where", keep="n_tokens > 20")
    line.run()
    line.edit("select.where", keep="n_tokens > 3")
    line.run()
    assert line.live() == one


def test_a_corrected_ranking_of_a_file_turns_its_pair(line: Any) -> None:
    def write(ranking: str) -> None:
        row = '{"prompt": "Q", "responses": [{"text": "a"}, {"text": "b"}], "ranking": %s, "annotator": "human:x"}'
        (line.folder / "ranked.jsonl").write_text(row % ranking + "\n")

    line.steps = [{"ingest": {"format": "ranked", "path": "ranked.jsonl"}}, {"pair": {}}]
    write("[[0], [1]]")
    line.run()
    assert line.ds.pairs()["chosen"].to_list() == ["a"]
    write("[[1], [0]]")
    line.run()
    assert line.ds.pairs()["chosen"].to_list() == ["b"]
    write("[[0], [1]]")
    line.run()
    assert line.ds.pairs()["chosen"].to_list() == ["a"]


def test_a_retried_judgement_is_not_lost_when_an_edit_is_set_back(line: Any) -> None:
    line.engines["judge"]["prose_every"] = 2
    line.run()
    unparsed = line.ds.annotations.filter(pl.col("status") == "unparsed").collect().height
    assert unparsed > 0
    line.edit("sample", n=4)
    line.engines["judge"].pop("prose_every")
    line.run()
    while line.ds.annotations.filter(pl.col("status") == "unparsed").collect().height:
        line.run(retry=["unparsed"])
    line.edit("sample", n=3)
    assert line.run().usage.calls == 0
    assert line.ds.annotations.filter(pl.col("status") == "unparsed").collect().is_empty()


def test_what_a_pipeline_let_go_can_be_imported(line: Any) -> None:
    line.run()
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(7))
    line.run()
    gone = line.ds.rows("prompts").join(line.ds.prompts, on="prompt_id", how="anti").collect().drop("_commit", "step")
    assert gone.height == 1
    assert line.ds.add_import({"prompts": gone}, source="prompts", fields={})["prompts"] == 1
    assert len(line.live()["prompts"]) == 8
    assert line.ds.add_import({"prompts": gone}, source="prompts", fields={})["prompts"] == 0


def test_a_plan_counts_what_a_filter_may_bring_back(line: Any) -> None:
    line.steps = [
        *line.steps[:2],
        {"aggregate.mean": {"name": "people", "from": ["labels"]}},
        {"select.threshold": {"min": 0.5, "unscored": "keep"}},
        {"judge.compare": {"engine": "judge"}},
    ]
    line.run(limit=1)
    first = line.ds.responses.collect()["response_id"].to_list()
    said = {"protocol": "score", "annotator": "human:x"}
    line.ds.label([{**said, "target_ids": [one], "scores": [0.0]} for one in first[:2]])
    line.edit("judge.compare", card="honesty")
    line.run(limit=1)
    line.ds.label([{**said, "target_ids": [one], "scores": [1.0]} for one in first[:2]])
    text = yaml.safe_dump({"engines": line.engines, "steps": line.steps}, sort_keys=False)
    planned = plan(parse(text, file="line.yaml", folder=line.folder, name="line"), line.path, limit=2)
    assert not planned.exact
    assert line.run(limit=2).usage.calls <= planned.calls


@pytest.mark.parametrize("narrowed", [False, True])
def test_derived_prompts_are_answered_and_not_their_roots(line: Any, narrowed: bool) -> None:
    line.steps.insert(1, {"test.persona": {"name": "persona"}})
    if narrowed:
        line.edit("sample", **{"from": ["persona"]})
    line.run()
    roots = line.ds.prompts.filter(pl.col("parent_id").is_null()).collect()["prompt_id"].to_list()
    assert len(roots) == 8 and line.ds.prompts.collect().height == 16
    answered = set(line.ds.responses.collect()["prompt_id"])
    assert len(answered) == 8 and not answered & set(roots)
    line.ds.drop("prompts", roots[:1], reason="no")
    assert len(set(line.ds.responses.collect()["prompt_id"])) == 7


def test_a_budget_in_money_without_a_price_is_refused_before_anything_is_asked(line: Any) -> None:
    line.engines["judge"] = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(EngineError, match="needs the price of engine 'judge'"):
        line.run(budget="1.00usd")
    assert line.ds.rows("calls").collect().is_empty()
