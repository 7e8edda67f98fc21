"""The PandaLM test set: three people and two stored judges on pairs."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefdata
from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.formats import read
from prefdata.formats.merge import import_into
from prefdata.stats import cohen_kappa

ROW = {
    "idx": 7,
    "motivation_app": "Google Search",
    "cmp_key": "bloom-7b_llama-7b",
    "instruction": "Name a colour.",
    "input": "One word.",
    "response1": "Red",
    "response2": "",
    "annotator1": 1,
    "annotator2": 2,
    "annotator3": 0,
    "gpt_result": "garbage",
    "gpt_reason": "",
    "gpt_reference": "Blue",
    "pandalm_result": "0",
    "pandalm_reason": "Both are fine.",
    "pandalm_reference": "Green",
}


def lines(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_one_row_by_hand(tmp_path: Path) -> None:
    taken = read("pandalm", lines(tmp_path, ROW), strict=True)
    (prompt,) = taken.rows["prompts"]
    assert prompt["messages"] == [{"role": "user", "content": "Name a colour.\n\nOne word."}]
    first, second = taken.rows["responses"]
    assert [(row["text"], row["model"]) for row in (first, second)] == [("Red", "bloom-7b"), ("", "llama-7b")]
    said = {row["annotator"]: row for row in taken.rows["annotations"]}
    assert {name: (row["source"], row["status"], row["scores"], row["text"]) for name, row in said.items()} == {
        "human:annotator1": ("human", "ok", [1.0, 0.0], None),
        "human:annotator2": ("human", "ok", [0.0, 1.0], None),
        "human:annotator3": ("human", "ok", [0.5, 0.5], None),
        "judge:gpt-3.5-turbo": ("judge", "unparsed", None, None),
        "judge:pandalm-7b": ("judge", "ok", [0.5, 0.5], "Both are fine."),
    }
    for row in said.values():
        assert row["target_ids"] == [first["response_id"], second["response_id"]]
        assert (row["protocol"], row["created_at"]) == ("compare", None)
    assert taken.rows["annotators"] == [
        {"annotator": f"judge:{model}", "model": model} for model in ("gpt-3.5-turbo", "pandalm-7b")
    ]
    assert not any("Blue" in str(rows) or "Green" in str(rows) for rows in taken.rows.values())


def test_rows_of_one_prompt_share_it_and_their_responses(tmp_path: Path) -> None:
    other = {**ROW, "idx": 8, "cmp_key": "bloom-7b_opt-7b", "response2": "Red", "gpt_result": "Tie"}
    taken = read("pandalm", lines(tmp_path, ROW, other), strict=True)
    assert {name: len(rows) for name, rows in taken.rows.items()} == {
        "prompts": 1,
        "responses": 3,  # equal texts of two models are two responses
        "annotations": 10,
        "annotators": 2,
    }
    said = [row for row in taken.rows["annotations"] if row["annotator"] == "judge:gpt-3.5-turbo"]
    assert [(row["status"], row["scores"]) for row in said] == [("unparsed", None), ("ok", [0.5, 0.5])]


def test_what_need_not_be_there(tmp_path: Path) -> None:
    needed = {name: ROW[name] for name in ("instruction", "response1", "response2")}
    people = {"annotator1": "2", "annotator2": 2, "annotator3": 1}
    taken = read("pandalm", lines(tmp_path, needed | people), strict=True)
    assert {row["model"] for row in taken.rows["responses"]} == {"unknown"}
    assert [row["scores"] for row in taken.rows["annotations"]] == [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    assert "annotators" not in taken.rows


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotator2": 3}, r"row 1, column 'annotator2': it is '3'; it must be one of 1, 2, 0"),
        ({"annotator1": None}, r"column 'annotator1': it is None"),
        ({"annotator1": "garbage"}, r"column 'annotator1': it is 'garbage'"),
        ({"gpt_result": "10"}, r"column 'gpt_result': it is '10'; it must be one of .*garbage"),
        ({"instruction": " "}, r"column 'instruction': it is empty"),
        ({"response1": None}, r"column 'response1': it should be text"),
    ],
)
def test_bad_rows(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = lines(tmp_path, ROW | changes, ROW)
    with pytest.raises(DataError, match=sentence):
        read("pandalm", path, strict=True)
    taken = read("pandalm", path)
    assert (len(taken.quarantined), len(taken.rows["annotations"]), len(taken.rows["prompts"])) == (1, 5, 1)


def test_a_response_against_itself_is_left_out(tmp_path: Path) -> None:
    itself = {**ROW, "cmp_key": "opt-7b_opt-7b", "response2": "Red"}
    taken = read("pandalm", lines(tmp_path, itself, ROW))
    assert taken.left_out == Counter({"a pair of one response with itself": 1})
    assert len(taken.rows["responses"]) == 2


def test_the_real_cut(data_folder: Path, tmp_path: Path) -> None:
    """Its README: kappas .842, .883, .856; majorities 72 ties, 274 first, 306 second."""
    taken = read("pandalm", data_folder)
    assert {name: len(rows) for name, rows in taken.rows.items()} == {
        "prompts": 112,
        "responses": 530,
        "annotations": 5 * 652,
        "annotators": 2,
    }
    labels: dict[str, list[float | None]] = {}
    for row in taken.rows["annotations"]:
        labels.setdefault(row["annotator"], []).append(row["scores"][0] if row["scores"] else None)
    people = [f"human:annotator{n}" for n in (1, 2, 3)]
    kappas = [cohen_kappa(labels[a], labels[b]).value for a, b in combinations(people, 2)]
    assert [round(kappa or 0, 3) for kappa in kappas] == [0.842, 0.883, 0.856]
    votes = [Counter(given).most_common(1)[0] for given in zip(*(labels[name] for name in people), strict=True)]
    assert all(count >= 2 for _, count in votes)
    assert Counter(value for value, _ in votes) == {0.5: 72, 1.0: 274, 0.0: 306}
    assert Counter(labels["judge:gpt-3.5-turbo"]) == {1.0: 300, 0.0: 315, 0.5: 25, None: 12}
    assert Counter(labels["judge:pandalm-7b"]) == {1.0: 284, 0.0: 301, 0.5: 67}
    told = import_into("pandalm", data_folder, tmp_path / "pandalm")
    assert "annotations: 3,260 new" in told.lines
    again = import_into("pandalm", data_folder, tmp_path / "pandalm")
    assert "annotations: 0 new, 3,260 were there" in again.lines
    found = Dataset(tmp_path / "pandalm").view()["annotators"].collect()
    assert sorted(found["model"]) == ["gpt-3.5-turbo", "pandalm-7b"]


def test_ingest_takes_some_of_its_prompts(tmp_path: Path) -> None:
    """What is in no group (the judges' rows of `annotators`) stays out of a pipeline, and does not stop it."""
    other = {**ROW, "idx": 8, "instruction": "Name a river."}
    step = {"ingest": {"format": "pandalm", "path": str(lines(tmp_path, ROW, other)), "limit": 1}}
    (tmp_path / "line.yaml").write_text(yaml.safe_dump({"steps": [step]}))
    for _ in range(2):
        assert prefdata.run(tmp_path / "line.yaml", tmp_path / "ds").exit_code == 0
    tables = prefdata.open(tmp_path / "ds")
    assert (tables.prompts.collect().height, tables.annotations.collect().height) == (1, 5)
