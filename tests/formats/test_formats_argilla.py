"""Argilla 2: records as it writes them, records and settings as it reads them, and there and back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from labelled_tables import datasets, frames, plain, round_trip, spoilt

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats import Imported, read, write_labels
from prefdata.schema import Row, Rows

Save = Callable[..., Path]

ANN, BEN = "3d0f0b7e-6a44-4b39-a1d6-2f0d5c1a9b01", "3d0f0b7e-6a44-4b39-a1d6-2f0d5c1a9b02"
RECORD: Row = {
    "id": "rec-1",
    "fields": {
        "instruction": "Why is the sky blue?",
        "response-1": "Scattering of light.",
        "response-2": "Because of the sea.",
    },
    "metadata": {"topic": "physics"},
    "suggestions": {
        "preference": {"value": "response-2", "score": 0.7, "agent": "gpt-x"},
        "quality-1": {"value": 3, "score": None, "agent": None},
    },
    "responses": {
        "preference": [
            {"value": "response-1", "user_id": ANN, "status": "submitted"},
            {"value": "tie", "user_id": BEN, "status": "submitted"},
        ],
        "quality-2": [{"value": 2, "user_id": ANN, "status": "submitted"}],
        "flags": [{"value": ["short", "vague"], "user_id": ANN, "status": "submitted"}],
        "why": [{"value": "It names the effect, briefly.", "user_id": ANN, "status": "submitted"}],
        "marks": [
            {"value": [{"start": 14, "end": 19, "label": "good"}], "user_id": ANN, "status": "submitted"},
        ],
    },
    "vectors": {},
    "_server_id": "7f0c8a52-0c9c-4d0f-8d7c-0f3f3b2b5c11",
}
SETTINGS: Row = {
    "guidelines": None,
    "questions": [
        {"name": "preference", "settings": {"type": "label_selection", "options": []}},
        {"name": "quality-1", "settings": {"type": "rating", "options": []}},
        {"name": "quality-2", "settings": {"type": "rating", "options": []}},
        {"name": "flags", "settings": {"type": "multi_label_selection", "options": []}},
        {"name": "why", "settings": {"type": "text", "use_markdown": False}},
        {"name": "marks", "settings": {"type": "span", "field": "response-1", "options": []}},
        {"name": "order", "settings": {"type": "ranking", "options": []}},
    ],
    "fields": [],
}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def make(records: Any, settings: Row | None = SETTINGS) -> Path:
        path = tmp_path / "records.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        if settings is not None:
            (tmp_path / "records.settings.json").write_text(json.dumps(settings), encoding="utf-8")
        return path

    return make


def said(taken: Imported, **wanted: object) -> Row:
    """The one annotation with these columns."""
    (found,) = [row for row in taken.rows["annotations"] if all(row[key] == value for key, value in wanted.items())]
    return found


def test_records_of_a_preference_dataset(save: Save) -> None:
    taken = read("argilla", save([RECORD]), strict=True)
    (prompt,) = taken.rows["prompts"]
    assert [turn["content"] for turn in prompt["messages"]] == ["Why is the sky blue?"]
    assert json.loads(prompt["meta"]) == {"id": "rec-1", "topic": "physics"}
    first, second = (row["response_id"] for row in taken.rows["responses"])
    compare = said(taken, annotator=f"human:{ANN}", protocol="compare")
    assert (compare["target_ids"], compare["scores"]) == ([first, second], [1.0, 0.0])
    assert compare["text"] == "It names the effect, briefly."
    assert said(taken, annotator=f"human:{BEN}")["scores"] == [0.5, 0.5]
    score = said(taken, aspect="quality-2")
    assert (score["target_ids"], score["scores"]) == ([second], [2.0])
    assert said(taken, aspect="flags")["labels"] == ["short", "vague"]
    marks = said(taken, aspect="marks")
    assert (marks["target_ids"], marks["spans"]) == ([first], [{"target": 0, "start": 14, "end": 19, "label": "good"}])
    judged = said(taken, annotator="judge:gpt-x")
    assert (judged["scores"], judged["confidence"], judged["source"]) == ([0.0, 1.0], 0.7, "judge")
    unknown = said(taken, annotator="unknown")
    assert (unknown["source"], unknown["scores"], unknown["target_ids"]) == ("imported", [3.0], [first])
    assert not taken.left_out
    for table, rows in taken.rows.items():
        schema.arrow_table(table, rows)


def test_without_settings_the_kinds_are_guessed(save: Save) -> None:
    record = copy.deepcopy(RECORD)
    marks = record["responses"].pop("marks")
    record["responses"]["marks-1"] = marks
    known = read("argilla", save([record]), strict=True)
    guessed = read("argilla", save([record], {"questions": []}), strict=True)

    def plainly(taken: Imported) -> list[Any]:
        rows = plain(taken.rows["annotations"], "annotations").values()
        return sorted(str({**row, "aspect": row["aspect"].removesuffix("-1")}) for row in rows)

    assert [row["protocol"] for row in known.rows["annotations"]] == [
        row["protocol"] for row in guessed.rows["annotations"]
    ]
    assert plainly(known) == plainly(guessed)


@pytest.mark.parametrize(
    "value",
    [["response-2", "response-1"], [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]],
)
def test_rankings_in_either_form(save: Save, value: Any) -> None:
    record = {**RECORD, "suggestions": {}, "responses": {"order": [{"value": value, "user_id": ANN}]}}
    taken = read("argilla", save([record]), strict=True)
    (row,) = taken.rows["annotations"]
    first, second = (one["response_id"] for one in taken.rows["responses"])
    assert dict(zip(row["target_ids"], row["scores"], strict=True)) == {second: 2.0, first: 1.0}
    assert "does not tell submitted responses from drafts" in taken.note


def test_discarded_and_draft_responses(save: Save) -> None:
    responses = [
        {"value": "response-1", "user_id": ANN, "status": "discarded"},
        {"value": "response-2", "user_id": BEN, "status": "draft"},
    ]
    record = {**RECORD, "suggestions": None, "responses": {"preference": responses}}
    taken = read("argilla", save([record]), strict=True)
    (row,) = taken.rows["annotations"]
    assert (row["annotator"], row["status"], row["scores"]) == (f"human:{ANN}", "skipped", None)
    assert taken.left_out == {"draft": 1}


def test_a_chat_field_and_a_single_response(save: Save) -> None:
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    record = {
        "id": "r",
        "fields": {"prompt": chat, "response": "So."},
        "responses": {"quality": [{"value": 4, "user_id": ANN, "status": "submitted"}]},
    }
    taken = read("argilla", save([record], None), strict=True)
    assert taken.rows["prompts"][0]["messages"] == chat
    (row,) = taken.rows["annotations"]
    assert (row["scores"], row["aspect"]) == ([4.0], "quality")


def test_a_folder_of_to_disk_and_a_hugging_face_dataset_give_the_same(tmp_path: Path, save: Save) -> None:
    wanted = read("argilla", save([RECORD]), strict=True)
    folder = tmp_path / "disk"
    (folder / ".argilla").mkdir(parents=True)
    (folder / ".argilla" / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "records.json").write_text(json.dumps([RECORD]))
    assert read("argilla", folder, strict=True).rows == wanted.rows
    flat: Row = {"id": "rec-1", "status": "completed", "_server_id": "x", **RECORD["fields"], **RECORD["metadata"]}
    for question, said_of_it in RECORD["responses"].items():
        flat[f"{question}.responses"] = [one["value"] for one in said_of_it]
        flat[f"{question}.responses.users"] = [one["user_id"] for one in said_of_it]
        flat[f"{question}.responses.status"] = [one["status"] for one in said_of_it]
    for question, one in RECORD["suggestions"].items():
        flat[f"{question}.suggestion"] = one["value"]
        flat[f"{question}.suggestion.score"], flat[f"{question}.suggestion.agent"] = one["score"], one["agent"]
    pq.write_table(pa.Table.from_pylist([flat]), tmp_path / "hub.parquet")
    (tmp_path / "hub.settings.json").write_text(json.dumps(SETTINGS))
    taken = read("argilla", tmp_path / "hub.parquet", strict=True)
    for table in wanted.rows:
        assert plain(taken.rows[table], table) == plain(wanted.rows[table], table)


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"fields": None}, "fields", "it holds no fields"),
        ({"fields": {"image": "x"}}, "fields", "it holds no prompt; found are the keys 'image'"),
        ({"fields": "x"}, "fields", "it should be an object"),
        ({"responses": {"q": [{"value": 1}]}}, "responses", "a response to 'q' should hold value and user_id"),
        ({"suggestions": {"q": 3}}, "suggestions", "the suggestion for 'q' should hold a value"),
        ({"metadata": {"prefdata": "{"}}, "metadata", "what prefdata wrote there cannot be used"),
    ],
)
def test_a_bad_record_is_kept_apart(save: Save, change: Row, column: str, words: str) -> None:
    good = {**RECORD, "id": "good", "fields": {**RECORD["fields"], "instruction": "How?"}}
    path = save([{**RECORD, **change}, good])
    taken = read("argilla", path)
    (bad,) = taken.quarantined
    assert (bad.row, bad.column) == (1, column)
    assert words in bad.reason
    assert len(taken.rows["prompts"]) == 1
    with pytest.raises(DataError, match="row 1"):
        read("argilla", path, strict=True)


@settings(max_examples=60)
@given(spoilt([RECORD]))
def test_a_spoilt_file_is_never_a_traceback(records: Any) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        try:
            taken = read("argilla", path)
        except DataError:
            return
    for table, rows in taken.rows.items():
        schema.arrow_table(table, rows)


def test_broken_settings_are_refused(save: Save) -> None:
    with pytest.raises(DataError, match="is not what Argilla writes as settings"):
        read("argilla", save([RECORD], {"questions": [{"title": "no name"}]}))


def test_what_cannot_be_read_of_a_record_is_counted_or_said(save: Save) -> None:
    record = copy.deepcopy(RECORD)
    record["fields"]["response-1"] = "Light 🙂 is scattered."
    record["responses"] = {
        "marks": [
            {"value": [{"start": 8, "end": 10, "label": "x"}, {"start": 5, "end": 99, "label": "y"}], "user_id": ANN}
        ],
        "quality": [{"value": 3, "user_id": ANN}],
        "empty": [{"value": None, "user_id": ANN}],
    }
    taken = read("argilla", save([record]), strict=True)
    assert taken.left_out == {
        "span that does not lie within its text": 1,
        "rating of several responses together": 1,
        "answer to 'empty', whose kind is not known": 1,
    }
    assert "1 spans in texts with emoji" in taken.note


@settings(max_examples=40)
@given(datasets())
def test_there_and_back(rows: Rows) -> None:
    with TemporaryDirectory() as folder:
        taken, left_out = round_trip(rows, "argilla", Path(folder))
    assert not left_out and not taken.left_out
    for table, made in rows.items():
        assert plain(taken.rows.get(table, []), table) == plain(made, table)


@settings(max_examples=40)
@given(datasets())
def test_records_fit_their_settings(rows: Rows) -> None:
    """What Argilla checks of settings and of submitted responses."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        write_labels(frames(rows), "argilla", out)
        records = json.loads(out.read_text(encoding="utf-8"))
        made = json.loads(out.with_suffix(".settings.json").read_text(encoding="utf-8"))
    fields = {field["name"]: field for field in made["fields"]}
    questions = {question["name"]: question for question in made["questions"]}
    assert len({*fields, *questions}) == len(made["fields"]) + len(made["questions"])
    assert all(re.fullmatch(r"(?=.*[a-z0-9])[a-z0-9_-]+", name) for name in (*fields, *questions))
    required = [name for name, question in questions.items() if question["required"]]
    assert len(required) == 1
    for question in questions.values():
        asked = question["settings"]
        values = [option["value"] for option in asked.get("options", [])]
        assert len(set(values)) == len(values)
        assert len(values) >= {"text": 0, "span": 1}.get(asked["type"], 2)
        assert asked.get("visible_options") is None or 3 <= asked["visible_options"] <= len(values)
        assert asked["type"] != "rating" or set(values) <= set(range(11))
    for record in records:
        assert set(record["fields"]) <= set(fields)
        assert all(name in record["fields"] for name, field in fields.items() if field["required"])
        submitted: dict[str, set[str]] = {}
        for name, of_users in record["responses"].items():
            assert len({one["user_id"] for one in of_users}) == len(of_users)
            for one in of_users:
                assert set(one) == {"value", "user_id", "status"} and UUID(one["user_id"])
                _fits(questions[name]["settings"], one["value"], record["fields"])
                if one["status"] == "submitted":
                    submitted.setdefault(one["user_id"], set()).add(name)
        assert all(required[0] in answered for answered in submitted.values())
        for name, one in record["suggestions"].items():
            assert set(one) == {"value", "score", "agent"}
            assert re.fullmatch(r"(?=.*[a-zA-Z0-9])[a-zA-Z0-9-_:./\s]+", one["agent"]) and len(one["agent"]) <= 200
            assert one["score"] is None or 0 <= one["score"] <= 1
            _fits(questions[name]["settings"], one["value"], record["fields"])


def _fits(asked: Row, value: Any, fields: Row) -> None:
    options = [option["value"] for option in asked.get("options", [])]
    if asked["type"] == "text":
        assert isinstance(value, str) and value
    elif asked["type"] == "ranking":
        assert sorted(value) == sorted(options)
    elif asked["type"] == "multi_label_selection":
        assert value and set(value) <= set(options)
    elif asked["type"] == "span":
        for span in value:
            assert 0 <= span["start"] < span["end"] <= len(fields[asked["field"]]) and span["label"] in options
    else:
        assert value in options


@pytest.fixture
def labelled() -> Rows:
    """Two responses, two people's comparisons, and a judge's score that no rating can hold."""
    prompt = schema.prompt([schema.message("user", "Why?")])
    responses = [schema.response(prompt, model=model, text=f"by {model}") for model in ("m1", "m2")]
    ids = [row["response_id"] for row in responses]
    common: Row = {"group_id": prompt["group_id"], "prompt_id": prompt["prompt_id"], "target_ids": ids}
    people = [
        schema.annotation(
            **common, protocol="compare", scores=[0.9, 0.1], annotator=f"human:{name}", source="human", seconds=4.5
        )
        for name in ("ann-07", BEN)
    ]
    judge = schema.annotation(
        **common, protocol="score", scores=[0.25, -1.5], annotator="judge:llama/h@3f", source="judge"
    )
    return {"prompts": [prompt], "responses": responses, "annotations": [*people, judge]}


def test_users_of_argilla_keep_their_ids_and_others_get_one(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "argilla", out)
    (record,) = json.loads(out.read_text())
    users = [one["user_id"] for one in record["responses"]["compare_overall"]]
    assert BEN in users and len(set(users)) == 2
    assert record["suggestions"] == {}


def test_a_changed_answer_is_the_next_revision(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "argilla", out)
    records = json.loads(out.read_text())
    for one in records[0]["responses"]["compare_overall"]:
        one["value"] = "response_2" if one["user_id"] == BEN else one["value"]
    records[0]["responses"]["compare_overall"].append({"value": "tie", "user_id": ANN, "status": "submitted"})
    out.write_text(json.dumps(records))
    taken = read("argilla", out, strict=True)
    was = {row["annotator"]: row for row in labelled["annotations"]}
    changed = said(taken, annotator=f"human:{BEN}")
    assert changed["annotation_id"] == was[f"human:{BEN}"]["annotation_id"]
    assert (changed["revision"], changed["scores"]) == (2, [0.0, 1.0])
    for name in ("human:ann-07", "judge:llama/h@3f"):
        assert plain([said(taken, annotator=name)], "annotations") == plain([was[name]], "annotations")
    new = said(taken, annotator=f"human:{ANN}")
    assert (new["scores"], new["target_ids"]) == ([0.5, 0.5], was["human:ann-07"]["target_ids"])


def test_a_response_that_was_discarded_or_taken_away_does_not_come_back(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "argilla", out)
    records = json.loads(out.read_text())
    (mine,) = [one for one in records[0]["responses"]["compare_overall"] if one["user_id"] == BEN]
    mine["status"] = "discarded"
    records[0]["responses"]["compare_overall"] = [mine]
    out.write_text(json.dumps(records))
    taken = read("argilla", out, strict=True)
    people = [row for row in taken.rows["annotations"] if row["source"] == "human"]
    assert [(row["annotator"], row["status"], row["scores"]) for row in people] == [(f"human:{BEN}", "skipped", None)]
    assert taken.left_out == {"label that was taken away in Argilla": 2}
