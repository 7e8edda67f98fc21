"""AlpacaEval: a judge's preferences as probabilities, responses without text, lengths and difficulty as measures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import Imported, read
from prefdata.schema import arrow_table
from prefdata.stats import LengthControl, length_controlled_win_rate

INSTRUCTION = {"index": 0, "dataset": "koala", "instruction": "Name a colour.", "instruction_difficulty": -0.5}
JUDGED = {
    "index": 0,
    "dataset": "koala",
    "generator_1": "base",
    "generator_2": "one",
    "annotator": "weighted",
    "preference": 1.25,
    "len_1": 4,
    "len_2": 9,
}
WHOLE = {
    "instruction": "Name a colour.",
    "dataset": "koala",
    "generator_1": "base",
    "output_1": "Blue",
    "generator_2": "one",
    "output_2": "",
    "annotator": "weighted",
    "preference": 1.25,
}


def folder(to: Path, judged: list[Any], outputs: list[Any] | None = None) -> Path:
    known = [{"index": 0, "generator": "base", "output": "Blue"}] if outputs is None else outputs
    tables = {"instructions": [INSTRUCTION, {**INSTRUCTION, "index": 1, "instruction": "Name a river."}]}
    for name, rows in {**tables, "annotations": judged, "outputs": known}.items():
        pq.write_table(pa.Table.from_pylist(rows), to / f"alpacaeval2_{name}.parquet")
    return to


def by_model(taken: Imported, row: dict[str, Any]) -> dict[str, float]:
    names = {one["response_id"]: one["model"] for one in taken.rows["responses"]}
    return {names[target]: score for target, score in zip(row["target_ids"], row["scores"], strict=True)}


def test_a_folder_by_hand(tmp_path: Path) -> None:
    other = {**JUDGED, "generator_2": "two", "preference": 0.0, "len_2": 7}
    taken = read("alpacaeval", folder(tmp_path, [JUDGED, other]), strict=True)
    for name, rows in taken.rows.items():
        arrow_table(name, rows)
    first, second = taken.rows["prompts"]
    assert (first["tags"], json.loads(second["meta"])) == (["koala"], {"index": "1"})
    assert {row["model"]: row["text"] for row in taken.rows["responses"]} == {"base": "Blue", "one": None, "two": None}
    assert {row["finish_reason"] for row in taken.rows["responses"]} == {"stop"}
    compared = [row for row in taken.rows["annotations"] if row["protocol"] == "compare"]
    assert [by_model(taken, row) for row in compared] == [{"base": 0.75, "one": 0.25}, {"base": 0.5, "two": 0.5}]
    assert {(row["annotator"], row["source"]) for row in compared} == {("judge:weighted", "judge")}
    assert all(row["target_ids"] == sorted(row["target_ids"]) for row in compared)
    lengths, *hard = [row for row in taken.rows["annotations"] if row["protocol"] == "measure"]
    assert by_model(taken, lengths) == {"base": 4, "one": 9, "two": 7}
    assert (lengths["aspect"], lengths["annotator"], lengths["source"]) == ("characters", "rule:characters", "imported")
    assert [(row["target"], row["target_ids"], row["scores"]) for row in hard] == [
        ("prompt", [prompt["prompt_id"]], [-0.5]) for prompt in (first, second)
    ]


def test_the_origins_own_file(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([WHOLE, {**WHOLE, "generator_2": "two", "preference": None}]))
    taken = read("alpacaeval", path, strict=True)
    assert [(row["model"], row["text"]) for row in taken.rows["responses"]] == [
        ("base", "Blue"),
        ("one", ""),
        ("two", ""),
    ]
    statuses = [(row["protocol"], row["status"]) for row in taken.rows["annotations"]]
    assert statuses == [("compare", "ok"), ("compare", "unparsed"), ("measure", "ok")]
    assert by_model(taken, taken.rows["annotations"][2]) == {"base": 4, "one": 0, "two": 0}
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps(WHOLE) + "\n")
    assert len(read("alpacaeval", lines, strict=True).rows["annotations"]) == 2


def test_a_response_against_itself_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    itself = {**WHOLE, "generator_2": "base", "output_2": "Blue"}
    path.write_text(f"{json.dumps(WHOLE)}\n{json.dumps(itself)}\n")
    taken = read("alpacaeval", path)
    assert taken.left_out == Counter({"a comparison of one response with itself": 1})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preference": 2.5}, "column 'preference': it is 2.5; it must lie between 1"),
        ({"index": 5}, "'5' is no instruction that can be read"),
        ({"generator_2": None}, "column 'generator_2'"),
        ({"annotator": None}, "column 'annotator'"),
        ({"len_1": 6}, "column 'len_1': it is 6, and the output has 4 characters"),
    ],
)
def test_bad_rows(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = folder(tmp_path, [{**JUDGED, "generator_2": "two"}, {**JUDGED, **changes}])
    with pytest.raises(DataError, match=sentence):
        read("alpacaeval", path, strict=True)
    taken = read("alpacaeval", path)
    assert len(taken.quarantined) == 1
    assert sum(row["protocol"] == "compare" for row in taken.rows["annotations"]) == 1


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"alpacaeval2_instructions\.parquet is not there"):
        read("alpacaeval", tmp_path)


def test_the_real_cut(data_folder: Path) -> None:
    """Through the import: win rates and, from the published weights, length-controlled ones, as published."""
    taken = read("alpacaeval", data_folder, strict=True)
    assert {name: len(rows) for name, rows in taken.rows.items()} == {
        "prompts": 805,
        "responses": 26 * 805,
        "annotations": 25 * 805 + 2 * 805,
    }
    assert sum(row["text"] is not None for row in taken.rows["responses"]) == 9 * 805
    model = {row["response_id"]: row["model"] for row in taken.rows["responses"]}
    length: dict[str, float] = {}
    hard: dict[str, float] = {}
    compared: dict[str, list[tuple[float, str, str, str]]] = {}
    for row in taken.rows["annotations"]:
        if row["protocol"] == "measure":
            (length if row["target"] == "response" else hard).update(zip(row["target_ids"], row["scores"], strict=True))
            continue
        base = next(place for place, one in enumerate(row["target_ids"]) if model[one] == "gpt4_1106_preview")
        ours, theirs = row["target_ids"][1 - base], row["target_ids"][base]
        compared.setdefault(model[ours], []).append((row["scores"][1 - base], ours, theirs, row["prompt_id"]))
    board = pl.read_parquet(data_folder / "alpacaeval2_leaderboard.parquet")
    assert set(compared) == set(board["generator"])
    for published in board.iter_rows(named=True):
        outcomes, ours, theirs, prompts = zip(*compared[published["generator"]], strict=True)
        found = length_controlled_win_rate(
            outcomes,
            [length[one] for one in ours],
            [length[one] for one in theirs],
            [hard[one] for one in prompts],
            weights=LengthControl(
                published["glm_tanh_std_delta_len"],
                published["glm_instruction_difficulty"],
                published["glm_not_gamed_baseline"],
            ),
        )
        assert found.value is not None and found.raw.value is not None
        assert 100 * found.raw.value == pytest.approx(published["win_rate"], abs=1e-6)
        assert 100 * found.value == pytest.approx(published["length_controlled_winrate"], abs=1e-8)
        assert sum(length[one] for one in ours) / 805 == pytest.approx(published["avg_length"], abs=1)
