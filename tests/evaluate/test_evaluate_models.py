"""Policies and reward models on real exports: numbers against the models' own, rows in the dataset, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import prefdata
from prefdata.dataset import Dataset
from prefdata.errors import DataError, EngineError
from prefdata.evaluate import Settings, evaluate
from prefdata.evaluate.tokens import score_file
from prefdata.train import TrainConfig, train

SILENT = {"say": lambda line: None}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of eight ranked lists, and its export."""
    home = tmp_path_factory.mktemp("runs")
    source = home / "ranked.jsonl"
    rows = [
        {
            "prompt": f"Say {number}.",
            "responses": [{"text": text * (1 + number % 3)} for text in "abc"],
            "ranking": [[0], [1], [2]],
        }
        for number in range(8)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (home / "p.yaml").write_text(
        f"steps:\n  - ingest: {{format: ranked, path: {source}}}\n  - pair: {{rule: list}}\n  - split: {{valid: 0.5}}\n"
        "  - export: {format: lists, path: lists.parquet}\n",
        encoding="utf-8",
    )
    prefdata.run(str(home / "p.yaml"), home / "data")
    return home / "data", home / "data" / "exports" / "lists.parquet"


def test_a_reward_model(exported: tuple[Path, Path], rewarder: Path, tmp_path: Path) -> None:
    """Every number is the model's own for the row alone, and the row is one annotation."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    found = evaluate(exported[1], str(rewarder), out=tmp_path / "out", **SILENT)
    tokenizer = AutoTokenizer.from_pretrained(rewarder)
    model = AutoModelForSequenceClassification.from_pretrained(rewarder).eval()
    for one in found.scored.lists:
        assert one.reward is not None
        for response, reward in zip(one.source.responses, one.reward, strict=True):
            turns = [*one.source.prompts[0].turns, {"role": "assistant", "content": response.text}]
            text = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                hidden = model.model(ids).last_hidden_state
            assert float(model.score(hidden)[0, -1, 0].detach()) == pytest.approx(float(reward), abs=1e-5)
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["edges"] == 4 * 3
    assert saved["accuracy"]["reward"]["all"]["groups"] == 4
    rows = pl.read_parquet(tmp_path / "out" / "annotations.parquet")
    assert rows.height == 4
    assert set(rows["source"]) == {"reward"}
    assert rows["annotator"][0].startswith("reward:tiny-reward@")


def test_a_policy_and_what_it_was_trained_from(exported: tuple[Path, Path], policy: Path, tmp_path: Path) -> None:
    """The reference is found in the manifest; the implicit reward is beta (lp - ref)."""
    train(
        TrainConfig(
            data=exported[1], model=str(policy), out=tmp_path / "model", loss="plackett-luce", max_steps=3,
            batch_size=2, learning_rate=1e-2, device="cpu",
        ),
        **SILENT,
    )  # fmt: skip
    found = evaluate(exported[1], str(tmp_path / "model"), settings=Settings(split="all", beta=0.3), **SILENT)
    assert found.scored.reference == str(policy)
    for one in found.scored.lists:
        assert one.reward is not None and one.lp is not None and one.ref is not None
        np.testing.assert_allclose(one.reward, 0.3 * (one.lp - one.ref), rtol=1e-9)
        assert np.abs(one.reward).max() > 1e-3, "it was trained"
    assert set(found.measures["accuracy"]) == {"reward", "logprob", "mean_logprob"}
    assert set(found.measures["ranking"]["ideal"]) == {"0.01", "0.1", "1", "5", "10"}
    alone = evaluate(exported[1], str(tmp_path / "model"), reference="none", **SILENT)
    assert set(alone.measures["accuracy"]) == {"logprob", "mean_logprob"}


def test_the_trainer_and_evaluate_say_the_same_of_the_held_out_lists(
    exported: tuple[Path, Path], policy: Path, tmp_path: Path
) -> None:
    done = train(
        TrainConfig(
            data=exported[1], model=str(policy), out=tmp_path / "m", loss="dpo", max_steps=2, learning_rate=1e-2,
            device="cpu",
        ),
        **SILENT,
    )  # fmt: skip
    found = evaluate(exported[1], str(tmp_path / "m"), **SILENT).measures
    assert done.after is not None and done.after.reward is not None
    assert found["accuracy"]["reward"]["all"]["value"] == pytest.approx(done.after.reward.value)
    assert found["order"]["kendall_tau"] == pytest.approx(done.after.kendall_tau)
    assert found["order"]["ndcg"] == pytest.approx(done.after.ndcg)


def test_which_labels_the_model_disagrees_with_is_one_query(
    exported: tuple[Path, Path], rewarder: Path, policy: Path
) -> None:
    dataset, data = exported
    before = Dataset(dataset).view()["annotations"].collect().height
    found = evaluate(data, str(rewarder), dataset=dataset, settings=Settings(split="all"), **SILENT)
    assert found.new_rows == 8
    asked = Dataset(dataset).sql(
        """
        select p.preference_id
        from preferences p
        join annotations a on a.group_id = p.group_id and a.annotator like 'reward:%'
        where list_extract(a.scores, list_position(a.target_ids, p.response_ids[1]))
            < list_extract(a.scores, list_position(a.target_ids, p.response_ids[2]))
        """
    )
    expected = {
        one.source.id
        for one in found.scored.lists
        if one.reward is not None and one.reward[0] < one.reward[1]
    }  # fmt: skip
    assert set(asked["preference_id"]) == expected
    again = evaluate(data, str(rewarder), dataset=dataset, settings=Settings(split="all"), **SILENT)
    assert again.new_rows == 0
    assert Dataset(dataset).view()["annotations"].collect().height == before + 8


def test_what_it_says_is_no_evidence_for_the_pipeline(exported: tuple[Path, Path], rewarder: Path) -> None:
    """The pairs of the pipeline that made the export stay what they were."""
    dataset, data = exported
    evaluate(data, str(rewarder), dataset=dataset, settings=Settings(split="all"), **SILENT)
    before = sorted(Dataset(dataset).view()["preferences"].collect()["preference_id"])
    prefdata.run(str(dataset.parent / "p.yaml"), dataset)
    assert sorted(Dataset(dataset).view()["preferences"].collect()["preference_id"]) == before


def test_scores_are_a_reference_that_the_trainer_takes(
    exported: tuple[Path, Path], policy: Path, tmp_path: Path
) -> None:
    file = tmp_path / "reference.parquet"
    assert score_file(exported[1], str(policy), file, **SILENT) == 24
    said: list[str] = []
    config = {"data": exported[1], "model": str(policy), "max_steps": 1, "batch_size": 2, "device": "cpu"}
    with_file = train(TrainConfig(**config, out=tmp_path / "a", reference=str(file)), said.append)
    without = train(TrainConfig(**config, out=tmp_path / "b"), **SILENT)
    assert with_file.first_loss == pytest.approx(without.first_loss, abs=1e-6)
    assert with_file.last_loss == pytest.approx(without.last_loss, abs=1e-6)


def test_scores_of_a_reward_model(exported: tuple[Path, Path], rewarder: Path, tmp_path: Path) -> None:
    assert score_file(exported[1], str(rewarder), tmp_path / "scores.parquet", **SILENT) == 24
    rows = pl.read_parquet(tmp_path / "scores.parquet")
    assert set(rows["kind"]) == {"reward"}
    assert rows["values"].list.len().unique().to_list() == [1]


def test_mistakes_are_sentences(exported: tuple[Path, Path], policy: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no model 'nowhere'"):
        evaluate(exported[1], "nowhere", **SILENT)
    with pytest.raises(DataError, match="no dataset"):
        evaluate(exported[1], str(policy), dataset=tmp_path / "none", **SILENT)
    rows = pl.read_parquet(exported[1]).filter(pl.col("split") == "train")
    rows.write_parquet(tmp_path / "train.parquet")
    with pytest.raises(EngineError, match="holds nothing out"):
        evaluate(tmp_path / "train.parquet", str(policy), **SILENT)


def test_adapters_and_what_was_trained_on_them(exported: tuple[Path, Path], policy: Path, tmp_path: Path) -> None:
    """A folder of adapters is merged; as the start of a training it is its reference."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(policy), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.1)
    adapted.save_pretrained(tmp_path / "adapters")
    config = TrainConfig(
        data=exported[1], model=str(tmp_path / "adapters"), out=tmp_path / "model", loss="dpo", max_steps=1
    )
    train(config, lambda _: None)
    found = evaluate(exported[1], str(tmp_path / "model"), **SILENT)
    assert found.scored.reference == str(tmp_path / "adapters")
    (tmp_path / "adapters").rename(tmp_path / "moved")
    said: list[str] = []
    alone = evaluate(exported[1], str(tmp_path / "model"), say=said.append)
    assert alone.scored.reference is None and any("is not here" in line for line in said)
    moved = evaluate(exported[1], str(tmp_path / "model"), reference=str(tmp_path / "moved"), **SILENT)
    assert moved.measures["accuracy"] == found.measures["accuracy"]


def test_a_folder_that_cannot_be_written_costs_nothing(
    exported: tuple[Path, Path], policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefdata.evaluate.run.score_lists", lambda *_, **__: pytest.fail("it was begun"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        evaluate(exported[1], str(policy), out=tmp_path / "file", **SILENT)
    with pytest.raises(EngineError, match="is a folder: name the Parquet file"):
        score_file(exported[1], str(policy), tmp_path)


def test_numbers_that_are_none_are_refused(exported: tuple[Path, Path], policy: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(policy)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(policy).save_pretrained(tmp_path / "broken")
    with pytest.raises(EngineError, match="broken"):
        evaluate(exported[1], str(tmp_path / "broken"), **SILENT)
