"""Every loss that is registered takes a step on a file that prefdata itself wrote, or has no place here.

One small pipeline without any model (the scripted engine judges) writes all that losses read: orders with scores in
[0, 1], votes of three judges, margins, numbers under names, rationales, single responses with labels. A loss that is
added and reads something else fails here until a step of prefdata writes that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import prefdata
from prefdata.formats.writers import write
from prefdata.train import Result, TrainConfig, train
from prefdata.train.data import read_preferences
from prefdata.train.encoder import Encoder
from prefdata.train.errors import TrainError
from prefdata.train.losses import LOSSES
from prefdata.train.needs import check_needs
from prefdata.train.tokens import tokenise

NO_PRODUCER = {"dove"}
"""Losses for whose data no step makes the rows yet. Nothing may be added: write the step instead."""

JURY = "judge:*/helpfulness@*"
COLUMNS = ("margin", "p", "votes", "rationales", "ranks", "scores")
"""What a loss may need that is a column of its own (or of the edges), beside `values.NAME`."""
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "dpo": [{"margin": "edges"}, {"margin": "values.win_rate"}, {"sft": 0.1}],
    "lipo-lambda": [{"labels": "values.win_rate"}],
    "dno": [{"rewards": "values.reward"}],
}
"""Options that change what a loss reads; each loss is tried with its defaults too."""


def pipeline(prompts: Path) -> dict[str, Any]:
    attributes = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    values = {
        "win_rate": {"annotator": JURY, "protocol": "compare"},
        "relevance": "rule:length",
        "position": {"annotator": JURY, "protocol": "rank", "number": "position"},
        "reward": "reward:*",
        "factual": {
            "annotator": "judge:*/factuality-label@*",
            "labels": {"factual": 1, "mixed": 0, "nonfactual": 0, "unverifiable": 1},
        },
        **{name: {"annotator": "judge:*/helpsteer2@*", "aspect": name} for name in attributes},
    }
    beside = {"p": "votes", "margin": "scores", "values": values, "voters": [JURY]}
    return {
        "engines": {
            "writer": {"kind": "scripted", "model": "writer"},
            **{f"judge{n}": {"kind": "scripted", "model": f"judge{n}", "position_bias": n / 2} for n in range(3)},
        },
        "steps": [
            {"ingest": {"path": str(prompts)}},
            {"sample": {"engine": "writer", "n": 3, "max_tokens": 12}},
            {"judge.compare": {"engine": ["judge0", "judge1", "judge2"], "card": "helpfulness"}},
            {"judge.rank": {"engine": "judge0", "card": "helpfulness"}},
            {"judge.rules": {"rules": ["length"], "combine": "none"}},
            {"judge.score": {"engine": "judge0", "card": "helpsteer2"}},
            {"judge.label": {"engine": "judge0", "card": "factuality-label"}},
            {"judge.reward": {"engine": "judge0"}},
            {"aggregate.mean": {"from": ["judge.compare"]}},
            {"pair": {"name": "ranked", "rule": "list", **beside}},
            {"pair": {"name": "paired", "rule": "best_worst", **beside}},
            {"pair": {"name": "thumbs", "rule": "unpaired", "threshold": 0.5}},
            {"judge.rationale": {"engine": "judge0", "from": ["paired"]}},
            {"split": {"valid": 0.2}},
            {"export": {"name": "a", "format": "lists", "path": "lists.parquet", "from": ["ranked"]}},
            {"export": {"name": "b", "format": "lists", "path": "reasons.parquet", "from": ["paired"]}},
            {"export": {"name": "c", "format": "lists", "path": "alone.parquet", "from": ["thumbs"]}},
            {
                "export": {
                    "name": "d",
                    "format": "unpaired-conversational",
                    "path": "unpaired.parquet",
                    "from": ["thumbs"],
                }
            },
            {
                "export": {
                    "name": "e",
                    "format": "trl-pairs-conversational",
                    "path": "pairs.parquet",
                    "from": ["ranked"],
                }
            },
        ],
    }


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files that the pipeline wrote."""
    folder = tmp_path_factory.mktemp("every")
    asked = [{"prompt": f"Why is {what} so?"} for what in ("snow", "rain", "wind", "ice", "fog")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (folder / "line.yaml").write_text(yaml.safe_dump(pipeline(folder / "prompts.jsonl"), sort_keys=False))
    prefdata.run(folder / "line.yaml", folder / "ds")
    return folder / "ds" / "exports"


def cases() -> list[Any]:
    every = [
        (name, given)
        for name in sorted(LOSSES)
        if name not in NO_PRODUCER and LOSSES[name].function.__module__.startswith("prefdata.")
        for given in ({}, *OPTIONS.get(name, ()))
    ]
    return [pytest.param(name, given, id=" ".join([name, *map(str, given.values())])) for name, given in every]


def needed_by(name: str, given: Mapping[str, Any]) -> frozenset[str]:
    spec = LOSSES[name]
    return spec.needed(spec.checked_options(given, "train"))


def file_for(exports: Path, needed: frozenset[str]) -> Path:
    """The file of those written that is made for such a loss."""
    if "rationales" in needed:
        return exports / "reasons.parquet"
    return exports / ("alone.parquet" if "labels" in needed else "lists.parquet")


def without(file: Path, need: str, out: Path) -> Path:
    """The file without what a loss needs: null in every row or edge, or the column gone."""
    table = pq.read_table(file)
    rows = table.to_pylist()
    for row in rows:
        if need in ("margin", "p", "votes"):
            gone = {need: None, **({"votes": None} if need == "p" else {})}
            row["edges"] = [{**edge, **gone} for edge in row["edges"]]
        elif need in ("ranks", "scores"):
            row[need] = [None for _ in row[need]]
        elif need.startswith("values."):
            row["values"] = [one for one in row["values"] if one["name"] != need.removeprefix("values.")]
        else:
            row[need] = None
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out)
    return out


def column_of(need: str) -> str | None:
    """The column that a need is in; null for what every file of lists has, or the model gives."""
    return "values" if need.startswith("values.") else need if need in COLUMNS else None


def test_only_dove_has_no_producer() -> None:
    assert NO_PRODUCER - {"dove"} == set() and set(LOSSES) >= NO_PRODUCER


@pytest.mark.parametrize(("name", "given"), cases())
def test_prefdata_writes_what_the_loss_reads(
    name: str, given: dict[str, Any], exports: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Every column is filled; without it the loss is refused in a sentence that names it."""
    needed = needed_by(name, given)
    file = file_for(exports, needed)
    encoder = Encoder(tokenizer, "tiny", templated=None)
    made = tokenise(read_preferences(file), encoder, needed, max_length=1024, overlong="error")
    assert made.training and not made.left_out
    for need in sorted(needed):
        column = column_of(need)
        if column is None:
            continue
        bare = read_preferences(without(file, need, tmp_path / "bare.parquet"))
        with pytest.raises(TrainError) as refused:
            check_needs(bare, needed)
        assert column in str(refused.value) and need.removeprefix("values.") in str(refused.value)


def run_once(data: Path, model: Path, out: Path, **fields: Any) -> tuple[Result, list[dict[str, Any]]]:
    """Train; the result, and a row for each step."""
    given: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-3, "warmup": 0.0, "lora": 0, "max_length": 1024}
    config = TrainConfig(data=data, model=str(model), out=out, **{**given, "save_every": 0, "device": "cpu", **fields})
    result = train(config, lambda _: None)
    return result, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize(("name", "given"), cases())
def test_one_step_of_every_loss(
    name: str, given: dict[str, Any], exports: Path, tiny_model: Path, tmp_path: Path
) -> None:
    file = file_for(exports, needed_by(name, given))
    result, (row,) = run_once(file, tiny_model, tmp_path / "out", loss=name, loss_options=given, batch_size=5)
    assert math.isfinite(result.first_loss)
    assert row["loss"] == result.first_loss and row["grad_norm"] > 0
    before, after = weights_of(tiny_model), weights_of(tmp_path / "out")
    moved = [key for key in before.keys() & after.keys() if not bool((before[key] == after[key]).all())]
    assert len(moved) > 2, "the step moved nothing"


@pytest.mark.parametrize("name", ["kto", "bco", "sft"])
def test_a_file_of_single_responses_trains(name: str, exports: Path, tiny_model: Path, tmp_path: Path) -> None:
    (row,) = run_once(exports / "unpaired.parquet", tiny_model, tmp_path / "out", loss=name, batch_size=100)[1]
    assert math.isfinite(row["loss"]) and row["grad_norm"] > 0


def test_a_loss_over_pairs_is_refused_single_responses(exports: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no response in it is better than another"):
        run_once(exports / "unpaired.parquet", tiny_model, tmp_path / "out", loss="dpo")


def weighted(exports: Path) -> pl.DataFrame:
    """The lists, with weights of all kinds and every p, such as no small jury gives; responses all end their turn."""
    lists = pl.read_parquet(exports / "lists.parquet").drop("ends_turn", strict=False)
    rows = lists.to_dicts()
    shares = [0.3, 0.9, 0.5, None, 1.0, 0.0, 0.65]
    for number, row in enumerate(rows):
        row["weight"] = 1 + number / 2
        for place, edge in enumerate(row["edges"]):
            edge["votes"] = None  # the one thing that a pair cannot hold
            edge["p"] = shares[(number + place) % len(shares)]
            edge["weight"] = None if place == 1 else 0.5 + place
    return pl.DataFrame(rows, schema=lists.schema)


SAME = [
    ("dpo", {}),
    ("dpo", {"margin": "edges"}),
    ("dpo", {"margin": "scores"}),
    ("dpo", {"weight": "even", "label": "hard"}),
    ("ipo", {}),
    ("irepo", {}),
    ("osp", {}),
    ("simpo", {"sft": 0.5}),
    ("bradley-terry", {"margin": "edges"}),
]


@pytest.mark.parametrize(("name", "given"), SAME, ids=lambda one: one if isinstance(one, str) else "-".join(one))
def test_lists_train_as_the_pairs_made_from_them(
    name: str, given: dict[str, Any], exports: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """The same loss and gradient, step by step: weights, p below one half, ties, margins, what p null means."""
    lists = weighted(exports)
    rows = []
    for form in ("lists", "trl-pairs-conversational"):
        write(lists, form, tmp_path / f"{form}.parquet", ties=True)
        chosen = {"loss": name, "loss_options": given, "batch_size": 100, "max_steps": 3}
        rows.append(run_once(tmp_path / f"{form}.parquet", tiny_model, tmp_path / form, **chosen)[1])
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    assert rows[0][0]["loss"] == pytest.approx(rows[1][0]["loss"], rel=1e-6)


def test_without_its_weights_and_p_a_pair_trains_otherwise(exports: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The negative control of the test above."""
    write(weighted(exports), "trl-pairs-conversational", tmp_path / "pairs.parquet", ties=True)
    table = pq.read_table(tmp_path / "pairs.parquet")
    norms = {}
    for gone in ("", "p", "weight", "margin"):
        pq.write_table(table.drop_columns([gone]) if gone else table, tmp_path / f"{gone}.parquet")
        options = {} if gone == "margin" else {"margin": "edges"}
        chosen = {"loss": "dpo", "loss_options": options, "batch_size": 100}
        norms[gone] = run_once(tmp_path / f"{gone}.parquet", tiny_model, tmp_path / f"out{gone}", **chosen)[1][0]
    for gone in ("p", "weight", "margin"):
        assert norms[gone]["grad_norm"] != pytest.approx(norms[""]["grad_norm"], rel=1e-3)


def test_datasets_reads_what_is_laid_down(exports: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    def load(name: str) -> list[dict[str, Any]]:
        return list(datasets.load_dataset(str(exports), name, cache_dir=str(tmp_path / "cache"))["train"])

    lists, pairs = load("lists"), load("pairs")
    assert all(edge["votes"] >= 1 and 0 <= edge["p"] <= 1 for row in lists for edge in row["edges"])
    assert {one["name"] for row in lists for one in row["values"]} >= {"win_rate", "factual", "position"}
    stated = {
        (row["id"], frozenset((row["response_ids"][edge["winner"]], row["response_ids"][edge["loser"]]))): edge
        for row in lists
        for edge in row["edges"]
    }
    assert len(pairs) == sum(edge["p"] != 0.5 for edge in stated.values())
    for row in pairs:
        edge = stated[row["list"], frozenset((row["chosen_id"], row["rejected_id"]))]
        sign = 1 if edge["p"] > 0.5 else -1
        assert row["p"] == max(edge["p"], 1 - edge["p"]) and row["margin"] == sign * edge["margin"]
    assert {row["label"] for row in load("unpaired")} == {True, False}
