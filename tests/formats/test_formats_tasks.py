"""Tasks for the labelling page, in every shape."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import ImportedTasks, read, read_tasks
from prefdata.schema import Row, arrow_table

JsonLines = Callable[..., Path]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


def texts(taken: ImportedTasks) -> list[str]:
    return [row["text"] for row in taken.rows["responses"]]


@pytest.mark.parametrize(
    "shape",
    [
        {"responses": ["one", "two"]},
        {"responses": [{"text": "one"}, {"text": "two"}]},
        {"response_1": "one", "response_2": "two"},
        {"response_a": "one", "response_b": "two"},
        {"response-1": "one", "response-2": "two"},
        {"completion_1": "one", "completion_2": "two"},
    ],
)
def test_every_shape_gives_the_same_rows(jsonl: JsonLines, shape: Row) -> None:
    taken = read_tasks(jsonl([{"prompt": "Why?", **shape}]), strict=True)
    wanted = read("ranked", jsonl([{"prompt": "Why?", "responses": ["one", "two"]}])).rows["responses"]
    assert [row["response_id"] for row in taken.rows["responses"]] == [row["response_id"] for row in wanted]
    assert "annotations" not in taken.rows
    assert taken.beside == {}


def test_ten_responses_stay_in_the_order_of_their_numbers(jsonl: JsonLines) -> None:
    row = {f"response_{number}": f"text {number}" for number in (10, 2, 1, 9, 3, 4, 5, 6, 7, 8)}
    assert texts(read_tasks(jsonl([{"prompt": "Why?", **row}]))) == [f"text {number}" for number in range(1, 11)]


def test_chosen_does_not_stand_before_rejected(jsonl: JsonLines) -> None:
    pairs = [{"prompt": f"{number}?", "chosen": f"good {number}", "rejected": f"bad {number}"} for number in range(40)]
    taken = read_tasks(jsonl(pairs))
    first = texts(taken)[::2]
    assert 5 < sum(text.startswith("good") for text in first) < 35
    assert "annotations" not in taken.rows
    ids = [row["response_id"] for row in taken.rows["responses"]]
    assert all(ids[place] < ids[place + 1] for place in range(0, len(ids), 2))


def test_positions_of_gold_refer_to_the_order_of_the_file(jsonl: JsonLines) -> None:
    row = {
        "prompt": "Why?",
        "chosen": "good",
        "rejected": "bad",
        "gold": {"best": [0]},
        "explanation": "It is.",
        "warning": "Blood.",
    }
    taken = read_tasks(jsonl([row]), strict=True)
    (prompt,) = taken.rows["prompts"]
    said = taken.beside[prompt["prompt_id"]]
    by_id = {response["response_id"]: response["text"] for response in taken.rows["responses"]}
    assert [by_id[one] for one in said["response_ids"]] == ["good", "bad"]
    assert (said["gold"], said["explanation"], said["warning"]) == ({"best": [0]}, "It is.", "Blood.")
    in_dataset = json.dumps(taken.rows)
    assert not any(word in in_dataset for word in ("gold", "It is.", "Blood."))
    assert "gold, explanation, warning of 1 prompts are not for the dataset" in taken.note


def test_csv_json_and_parquet_give_what_json_lines_give(tmp_path: Path, jsonl: JsonLines) -> None:
    row = {
        "id": "t1",
        "prompt": "Why?",
        "response_a": "one",
        "response_b": "two",
        "model_a": "m1",
        "model_b": "m2",
        "language": "de",
        "skill": "law",
        "tags": "hard",
        "gold": {"choice": -1},
    }
    wanted = read_tasks(jsonl([row]), strict=True)
    assert wanted.rows["prompts"][0]["tags"] == ["hard", "language:de", "skill:law"]
    assert [one["model"] for one in wanted.rows["responses"]] == ["m1", "m2"]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(row)
        writer.writerow([json.dumps(value) if isinstance(value, dict) else value for value in row.values()])
    (tmp_path / "t.json").write_text(json.dumps([row]))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    for name in ("t.csv", "t.json", "t.parquet"):
        taken = read_tasks(tmp_path / name, strict=True)
        assert (taken.rows, taken.beside) == (wanted.rows, wanted.beside), name


def test_steps_may_be_ends_texts_or_objects(jsonl: JsonLines) -> None:
    wanted = [{"end": 3, "role": "assistant", "kind": "step"}, {"end": 7, "role": "assistant", "kind": "step"}]
    shapes: list[Any] = [[3, 7], ["1+1", " = 2"], [{"end": 3}, {"end": 7, "kind": "step"}]]
    for segments in shapes:
        row = {"prompt": "Why?", "responses": [{"text": "1+1 = 2", "segments": segments}]}
        (response,) = read_tasks(jsonl([row]), strict=True).rows["responses"]
        assert response["segments"] == wanted
        arrow_table("responses", [response])
    (response,) = read_tasks(jsonl([{"prompt": "?", "responses": [{"segments": ["a", "b"]}]}]), strict=True).rows[
        "responses"
    ]
    assert response["text"] == "ab"


def test_pictures_become_media_that_name_the_prompt(tmp_path: Path, jsonl: JsonLines) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(PNG)
    row = {"prompt": "What is it?", "response": "A cat."}
    taken = read_tasks(jsonl([{**row, "images": ["pictures/a.png"]}, row]), strict=True)
    with_picture, without = taken.rows["prompts"]
    assert with_picture["prompt_id"] != without["prompt_id"]
    (medium,) = with_picture["media"]
    assert medium["kind"] == "image" and medium["uri"] == f"media/{medium['sha256']}.png"
    assert taken.files == {medium["uri"]: (tmp_path / "pictures" / "a.png").resolve()}
    assert len(medium["sha256"]) == 64
    arrow_table("prompts", [with_picture])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "it holds no response; found are the columns 'prompt', known are responses"),
        ({"response_1": "a", "chosen": "b", "rejected": "c"}, "holds responses under 'response_1' and 'chosen'"),
        ({"responses": ["a", 3]}, "response 2 should hold a text"),
        ({"responses": ["a", "b"], "models": ["m"]}, "it should name 2 models, one for each response"),
        ({"response": "a", "images": ["../secret.png"]}, "is no file in the folder of rows.jsonl"),
        ({"response": "a", "images": ["/etc/passwd"]}, "is no file in the folder of rows.jsonl"),
        ({"response": "a", "images": ["https://example.org/a.png"]}, "is an address; name a file"),
        ({"response": "a", "images": ["rows.jsonl"]}, "is no picture (PNG, JPEG, GIF, WebP are known)"),
        ({"response": "a", "gold": {"best": [1]}}, "1 is no position among 1 responses"),
        ({"response": "a", "gold": "A"}, "it should be an object with one of choice, ranks"),
        ({"responses": ["a", "b"], "gold": {"ranks": [1]}}, "its ranks should be a list of 2"),
        ({"responses": [{"text": "ab", "segments": [1, 3]}]}, "one ends at 3"),
        ({"responses": [{"text": "ab", "segments": ["a", "c"]}]}, "do not add up to its text"),
    ],
)
def test_a_bad_row_is_kept_apart_with_its_reason(jsonl: JsonLines, row: Row, said: str) -> None:
    path = jsonl([{"prompt": "Why?", **row}, {"prompt": "Good?", "response": "Yes."}])
    taken = read_tasks(path)
    (bad,) = taken.quarantined
    assert said in bad.reason and bad.row == 1
    assert texts(taken) == ["Yes."]
    assert taken.beside == {}
    with pytest.raises(DataError, match="row 1"):
        read_tasks(path, strict=True)


def test_two_rows_of_a_prompt_must_not_disagree(jsonl: JsonLines) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"]}
    taken = read_tasks(jsonl([{**row, "gold": {"best": [0]}}, row, {**row, "gold": {"best": [1]}}]))
    assert [bad.row for bad in taken.quarantined] == [3]
    assert [said["gold"] for said in taken.beside.values()] == [{"best": [0]}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[{]", "line 1: it is not valid JSON"),
        (b'{"prompt": "a"}\n{"prompt": "b"}', "if it holds one object a line, name it .jsonl"),
        (b'{"prompt": "a"}', "should hold one JSON list of objects and holds an object"),
        (b"[]", "holds no rows"),
        (b"[1, null]", "none of its 2 rows can be read"),
        (b"\xff\xfe[\x00", "UTF-16"),
        (b'["\xff"]', "not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"prompt": "a", "response": NaN}]', "it cannot be kept"),
        (b'[{"prompt": "a", "response": "\\ud83d"}]', "half of a surrogate pair"),
    ],
)
def test_a_broken_json_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read("tasks", path)
    assert said in str(raised.value)


@pytest.mark.parametrize(("word", "choice"), [("a", -1), ("B", 1), ("tie", 0), ("both_bad", "both_bad")])
def test_the_right_one_of_two_in_a_word(tmp_path: Path, word: str, choice: int | str) -> None:
    path = tmp_path / "gold.csv"
    path.write_text(f"prompt,response_a,response_b,gold\nWhy?,one,two,{word}\n", encoding="utf-8")
    (said,) = read_tasks(path).beside.values()
    assert said["gold"] == {"choice": choice}


@pytest.mark.parametrize(
    "header",
    [
        "Prompt,Response A,Response B,Model A,Gold,ID",
        "PROMPT ,response-a,Response_B,model-a,GOLD,Id",
        "question,answer_a,answer_b,model_a,gold,id",
        "Instruction,Answer A,Answer B,MODEL_A,gold,id",
        "question,Answer 1,Answer 2,Model 1,gold,id",
        "prompt,completion 1,completion 2,completion 1 model,gold,id",
    ],
)
def test_names_of_columns_as_people_type_them(tmp_path: Path, jsonl: JsonLines, header: str) -> None:
    cells = ["Why?", "one", "two", "m1", "b", "t1"]
    (tmp_path / "t.csv").write_text(f"{header}\n{','.join(cells)}\n", encoding="utf-8")
    row = dict(zip(header.split(","), cells, strict=True))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps([row]))
    names = ("prompt", "response_a", "response_b", "model_a", "gold", "id")
    wanted = read_tasks(jsonl([dict(zip(names, cells, strict=True))]), strict=True)
    assert [one["model"] for one in wanted.rows["responses"]] == ["m1", "unknown"]
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet", tmp_path / "t.json", jsonl([row])):
        taken = read_tasks(path, strict=True)
        assert (taken.rows, taken.beside) == (wanted.rows, wanted.beside), path.name


def test_a_known_name_wins_over_its_alias(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for header in ("prompt,question,response,Comment", "messages,Instruction,response,Comment"):
        cell = "Why?" if header.startswith("prompt") else '"[{""role"": ""user"", ""content"": ""Why?""}]"'
        path.write_text(f"{header}\n{cell},About cats,Yes.,Nice\n", encoding="utf-8")
        (row,) = read_tasks(path, strict=True).rows["prompts"]
        assert row["messages"][0]["content"] == "Why?"
        assert json.loads(row["meta"]) == {header.split(",")[1]: "About cats", "Comment": "Nice"}


@pytest.mark.parametrize(
    ("header", "one", "other"),
    [
        ("prompt,Prompt,response", "prompt", "Prompt"),
        ("question,instruction,response", "question", "instruction"),
        ("prompt,response_1,Response 1", "response_1", "Response 1"),
        ("prompt,response_a,answer_a", "response_a", "answer_a"),
    ],
)
def test_two_columns_that_mean_the_same_are_refused(
    tmp_path: Path, jsonl: JsonLines, header: str, one: str, other: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\na,b,c\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"t\.csv: the columns '{one}' and '{other}' mean the same: keep one of them"):
        read_tasks(path)
    row = dict(zip(header.split(","), "abc", strict=True))
    taken = read_tasks(jsonl([row, {"prompt": "Good?", "response": "Yes."}]))
    assert [bad.row for bad in taken.quarantined] == [1] and "mean the same" in taken.quarantined[0].reason
    alone = {**row, other: None, "response": "Yes."} if other.lower() == "prompt" else None
    if alone:  # of JSON an empty one is none
        assert texts(read_tasks(jsonl([alone]), strict=True)) == ["Yes."]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [("a", -1), ("B", 1), (" Tie ", 0), ("both bad", "both_bad"), (-4, -4), (4, 4), (0, 0), (2.0, 2), (-1.0, -1)],
)
def test_a_choice_is_a_word_or_a_whole_number(jsonl: JsonLines, choice: object, wanted: int | str) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"], "gold": {"choice": choice}}
    (said,) = read_tasks(jsonl([row]), strict=True).beside.values()
    assert said["gold"] == {"choice": wanted}
    assert type(said["gold"]["choice"]) is type(wanted)


@pytest.mark.parametrize("gold", ["response_b", "1", 1, [0], True, {"answer": "b"}, {"choice": None}, {}])
def test_gold_that_cannot_be_read_says_what_is_allowed(jsonl: JsonLines, gold: object) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"]}
    taken = read_tasks(jsonl([{**row, "prompt": "Well?"}, {**row, "gold": gold}]))
    (bad,) = taken.quarantined
    assert (bad.row, bad.column) == (2, "gold") and taken.beside == {}
    assert bad.reason.startswith("it should be a, b, tie or both_bad, or an object with one of choice, ranks")
    assert 'for example {"choice": -1}' in bad.reason


@pytest.mark.parametrize("choice", [9.5, 5, -5, 0.5, "c", "response_b", "1", True, [1], {"a": 1}])
def test_a_choice_beyond_the_scale_says_what_is_allowed(jsonl: JsonLines, choice: object) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"]}
    (bad,) = read_tasks(jsonl([{**row, "prompt": "Well?"}, {**row, "gold": {"choice": choice}}])).quarantined
    assert (bad.row, bad.column) == (2, "gold")
    assert bad.reason.startswith("its choice should be a, b, tie or both_bad, or a whole number from -4")


def test_a_column_of_gold_objects_in_parquet_has_empty_keys(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "responses": ["a", "b"], "gold": {"choice": 1.0, "best": None}},
        {"prompt": "Well?", "responses": ["a", "b"], "gold": {"choice": None, "best": [1]}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    said = read_tasks(tmp_path / "t.parquet", strict=True).beside.values()
    assert [one["gold"] for one in said] == [{"choice": 1}, {"best": [1]}]


def test_gold_that_is_no_json_is_told_how_to_write_it(jsonl: JsonLines) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b"]}
    (bad,) = read_tasks(jsonl([{**row, "prompt": "Well?"}, {**row, "gold": "{choice: b}"}])).quarantined
    assert bad.reason.startswith("it is not valid JSON") and bad.reason.endswith('write it like {"choice": -1}')
