"""Prompts and ranked responses from files of one's own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import read
from prefdata.schema import arrow_table

JsonLines = Callable[..., Path]

FULL = {
    "id": 7,
    "messages": [{"role": "user", "content": "Sum up."}],
    "system": "Be short.",
    "references": ["Fine."],
    "reference": "Good.",
    "tags": "summary, lang:en",
    "verifier": {"kind": "numeric", "spec": {"answer": 7}},
    "context": ["First passage.", {"doc_id": "d2", "text": "Second.", "label": "B", "score": 1}],
    "tools": [{"type": "function"}],
    "user_id": "u1",
    "source": "mine",
    "meta": {"kept": True},
    "difficulty": 3,
}


def test_every_column_finds_its_place(jsonl: JsonLines) -> None:
    taken = read("prompts", jsonl([FULL]))
    (row,) = taken.rows["prompts"]
    assert row["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Sum up."}]
    assert row["references"] == ["Fine.", "Good."]
    assert row["tags"] == ["summary", "lang:en"]
    assert row["verifier"] == {"kind": "numeric", "spec": '{"answer":7}'}
    assert row["context"] == [
        {"text": "First passage."},
        {"text": "Second.", "doc_id": "d2", "label": "B", "score": 1.0},
    ]
    assert row["tools"] == '[{"type": "function"}]'
    assert (row["user_id"], row["source"]) == ("u1", "mine")
    assert json.loads(row["meta"]) == {"kept": True, "difficulty": 3, "id": "7"}
    assert taken.note == "1 prompt; columns kept in meta only: 'difficulty' (1)"
    assert arrow_table("prompts", taken.rows["prompts"]).num_rows == 1


def test_csv_and_parquet_give_the_row_of_json_lines(tmp_path: Path, jsonl: JsonLines) -> None:
    import csv

    (wanted,) = read("prompts", jsonl([FULL])).rows["prompts"]
    table = tmp_path / "full.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(FULL))
        writer.writeheader()
        cells = {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in FULL.items()}
        writer.writerow(cells)
    columns = tmp_path / "full.parquet"
    same: dict[str, Any] = {**FULL, "context": json.dumps(FULL["context"]), "tools": json.dumps(FULL["tools"])}
    pq.write_table(pa.Table.from_pylist([same]), columns)
    for path in (table, columns):
        (row,) = read("prompts", path).rows["prompts"]
        row["meta"], again = row["meta"].replace('"3"', "3"), dict(wanted)
        assert row == again, path.name


def test_equal_prompts_the_first_wins(jsonl: JsonLines) -> None:
    taken = read("prompts", jsonl([{"prompt": "a", "source": "x"}, {"prompt": "b"}, {"prompt": "a", "source": "y"}]))
    assert [row["source"] for row in taken.rows["prompts"]] == ["x", None]
    assert taken.left_out == Counter({"equal prompt": 1})


BAD_PROMPTS = [
    ({"prompt": ""}, r"row 2, column 'prompt': it is empty"),
    ({"prompt": " \n"}, r"row 2, column 'prompt': it is empty"),
    ({"prompt": 3}, r"row 2, column 'prompt': it should be text and is a number \(3\)"),
    ({"prompt": "\ud83d"}, r"row 2, column 'prompt': it holds half of a surrogate pair"),
    ({"text": "x"}, r"row 2: it has neither a prompt"),
    ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, r"row 2: it has both prompt and messages"),
    ({"messages": []}, r"row 2, column 'messages': it should be a list of messages and is a list \(\[\]\)"),
    ({"messages": "[{"}, r"row 2, column 'messages': it is not valid JSON"),
    ({"messages": ["x"]}, r"column 'messages': message 1 should be an object with role and content and is text"),
    ({"messages": [{"role": "human", "content": "x"}]}, r"message 1 has the role 'human'; it must be one of system"),
    ({"messages": [{"role": "user", "content": 1}]}, r"the content of message 1 should be text and is a number"),
    ({"messages": [{"role": "user"}]}, r"the content of message 1 should be text and is missing"),
    ({"messages": [{"role": "user", "content": "x", "img": "y"}]}, r"message 1 has a key 'img'; known are role"),
    (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        r"row 2, column 'messages': its last turn is the assistant's",
    ),
    ({"messages": [{"role": "system", "content": "x"}]}, r"its last turn is the system's"),
    ({"messages": [{"role": "user", "content": " "}]}, r"its last turn is empty"),
    (
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], "system": "z"},
        r"column 'system': messages begin with a system turn already",
    ),
    ({"prompt": "x", "tags": 3}, r"column 'tags': it should be a list of texts or one text and is a number"),
    ({"prompt": "x", "tags": [3]}, r"column 'tags': it should be text and is a number"),
    ({"prompt": "x", "references": [None]}, r"column 'references': it should be text and is missing"),
    ({"prompt": "x", "verifier": "numeric"}, r"column 'verifier': it should be an object with kind and spec"),
    ({"prompt": "x", "context": [{"body": "y"}]}, r"column 'context': passage 1 should be a text or an object"),
    ({"prompt": "x", "context": [{"text": "y", "score": "z"}]}, r"the score of passage 1 should be a number"),
    ({"prompt": "x", "tools": "{"}, r"column 'tools': it is not valid JSON"),
    ({"prompt": "x", "tools": 1}, r"column 'tools': it should be a JSON schema"),
    ({"prompt": "x", "meta": [1]}, r"column 'meta': it should be an object"),
    ({"prompt": "x", "user_id": True}, r"column 'user_id': it should be text and is a truth value"),
]


@pytest.mark.parametrize(("row", "sentence"), BAD_PROMPTS)
def test_a_bad_row_is_named(jsonl: JsonLines, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read("prompts", jsonl([{"prompt": "fine"}, row]), strict=True)
    assert "rows.jsonl" in str(caught.value)


RANKED = {
    "prompt": "Q",
    "responses": [{"text": "a", "model": "m1"}, {"text": "b", "model": "m2"}, {"text": "c"}, {"text": "d"}],
    "ranking": [[2], [0, 1]],
    "reason": "c is right",
    "annotator": "author",
}


def test_a_ranking_with_a_tie_and_one_unranked(jsonl: JsonLines) -> None:
    taken = read("ranked", jsonl([RANKED]))
    assert [(row["text"], row["model"]) for row in taken.rows["responses"]] == [
        ("a", "m1"),
        ("b", "m2"),
        ("c", "unknown"),
        ("d", "unknown"),
    ]
    (said,) = taken.rows["annotations"]
    ids = [row["response_id"] for row in taken.rows["responses"]]
    assert said["target_ids"] == ids[:3]
    assert said["scores"] == [1.0, 1.0, 2.0]
    assert (said["protocol"], said["annotator"], said["source"], said["text"]) == (
        "rank",
        "author",
        "human",
        "c is right",
    )


def test_equal_texts_of_one_model_stay_two_responses(jsonl: JsonLines) -> None:
    taken = read("ranked", jsonl([{"prompt": "Q", "responses": ["a", "a"], "ranking": [1, 0]}]))
    assert len({row["response_id"] for row in taken.rows["responses"]}) == 2
    assert taken.rows["annotations"][0]["scores"] == [1.0, 2.0]


def test_without_a_ranking_the_responses_are_taken(jsonl: JsonLines) -> None:
    taken = read("ranked", jsonl([{"prompt": "Q", "responses": ["a", "b"]}]), annotator="me")
    assert len(taken.rows["responses"]) == 2
    assert "annotations" not in taken.rows
    assert sum(taken.left_out.values()) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"responses": []}, r"column 'responses': it should be a list of \{text, model\}"),
        ({"responses": [{"model": "m"}]}, r"response 0 should hold a text"),
        ({"responses": [{"text": "a", "model": 3}]}, r"the model of response 0 should be text"),
        ({"ranking": "best"}, r"column 'ranking': it should be a list of lists of positions"),
        ({"ranking": [[]]}, r"it holds an empty list"),
        ({"ranking": [[1], [4]]}, r"4 is no position among 4 responses \(positions count from 0\)"),
        ({"ranking": [[True], [0]]}, r"True is no position"),
        ({"ranking": [[1], [1]]}, r"position 1 stands in it twice"),
        ({"ranking": [[1]]}, r"it ranks one response only"),
    ],
)
def test_a_bad_ranking_is_named(jsonl: JsonLines, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("ranked", jsonl([{**RANKED, **changes}]), strict=True)


def test_the_sample_data_is_read() -> None:
    folder = Path(str(resources.files("prefdata.sample_data")))
    if not (folder / "ranked.jsonl").is_file():
        pytest.skip("the sample data is not there")
    assert len(read("prompts", folder / "prompts.jsonl").rows["prompts"]) == 48
    ranked = read("ranked", folder / "ranked.jsonl").rows
    assert {name: len(rows) for name, rows in ranked.items()} == {"prompts": 24, "responses": 96, "annotations": 24}
    assert {row["annotator"] for row in ranked["annotations"]} == {"author"}
