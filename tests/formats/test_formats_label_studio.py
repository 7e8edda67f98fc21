"""Label Studio: exports as it writes them, tasks as it reads them, and there and back."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from labelled_tables import datasets, frames, plain, round_trip, spoilt

import prefdata
from prefdata import schema
from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.formats import Imported, read, write_labels
from prefdata.formats.merge import import_into
from prefdata.formats.spans import code_points
from prefdata.schema import Row, Rows

Save = Callable[[Any], Path]

PAIR: Row = {
    "id": 31,
    "project": 4,
    "created_at": "2024-05-02T09:00:00.100000Z",
    "inner_id": 1,
    "total_annotations": 1,
    "cancelled_annotations": 1,
    "drafts": [],
    "meta": {},
    "data": {
        "prompt": "Why is the sky blue?",
        "text1": "Scattering 🙂 of light.",
        "text2": "Because of the sea.",
        "topic": "physics",
    },
    "annotations": [
        {
            "id": 71,
            "completed_by": {"id": 5, "email": "a@example.org", "first_name": "", "last_name": ""},
            "was_cancelled": False,
            "ground_truth": True,
            "created_at": "2024-05-02T09:10:00.500000Z",
            "lead_time": 21.5,
            "task": 31,
            "result": [
                {"id": "a1", "from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": "left"}},
                {"id": "a2", "from_name": "helpful", "to_name": "text2", "type": "rating", "value": {"rating": 2}},
                {
                    "id": "a3",
                    "from_name": "why",
                    "to_name": "text1",
                    "type": "textarea",
                    "value": {"text": ["It names the effect."]},
                },
                {
                    "id": "a4",
                    "from_name": "errors",
                    "to_name": "text1",
                    "type": "labels",
                    "value": {"start": 13, "end": 21, "text": "of light", "labels": ["vague"]},
                },
                {
                    "id": "a5",
                    "from_name": "flag",
                    "to_name": "text1",
                    "type": "choices",
                    "value": {"choices": ["short"]},
                },
            ],
        },
        {"id": 72, "completed_by": 6, "was_cancelled": True, "ground_truth": False, "lead_time": 3.0, "result": []},
    ],
    "predictions": [
        {
            "id": 9,
            "model_version": "gpt-x",
            "score": 0.7,
            "result": [{"from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": "right"}}],
        }
    ],
}
LIST: Row = {
    "id": 32,
    "data": {
        "prompt": "Sort.",
        "items": [
            {"id": "blog", "title": "Ten tips", "body": "tips"},
            {"id": "mdn", "title": "Arrow", "body": "arrows"},
            {"id": "wiki", "title": "Science", "body": "science"},
        ],
    },
    "annotations": [
        {
            "id": 73,
            "completed_by": 5,
            "result": [
                {"from_name": "rank", "to_name": "rank", "type": "ranker", "value": {"ranker": ["mdn", "wiki", "blog"]}}
            ],
        },
        {
            "id": 74,
            "completed_by": 6,
            "result": [
                {
                    "from_name": "rank",
                    "to_name": "rank",
                    "type": "ranker",
                    "value": {"ranker": {"_": ["wiki"], "relevant": ["blog", "mdn"]}},
                }
            ],
        },
    ],
}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def make(tasks: Any) -> Path:
        path = tmp_path / "export.json"
        path.write_text(json.dumps(tasks), encoding="utf-8")
        return path

    return make


def said(taken: Imported, **wanted: object) -> Row:
    """The one annotation with these columns."""
    rows = taken.rows["annotations"]
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found


def test_an_export_of_a_pairwise_project(save: Save) -> None:
    taken = read("label-studio", save([PAIR]), strict=True)
    (prompt,) = taken.rows["prompts"]
    assert [turn["content"] for turn in prompt["messages"]] == ["Why is the sky blue?"]
    assert json.loads(prompt["meta"]) == {"id": "31", "topic": "physics"}
    first, second = taken.rows["responses"]
    assert [first["text"], second["text"]] == ["Scattering 🙂 of light.", "Because of the sea."]
    assert len(taken.rows["annotations"]) == 6
    compare = said(taken, protocol="compare", annotator="human:5")
    assert (compare["target_ids"], compare["scores"]) == ([first["response_id"], second["response_id"]], [1.0, 0.0])
    assert (compare["aspect"], compare["text"], compare["seconds"]) == ("overall", "It names the effect.", 21.5)
    assert compare["created_at"] == datetime(2024, 5, 2, 9, 10, 0, 500_000, UTC)
    assert json.loads(compare["meta"]) == {"ground_truth": True, "label_studio": 71}
    rating = said(taken, protocol="score")
    assert (rating["target_ids"], rating["scores"], rating["aspect"]) == ([second["response_id"]], [2.0], "helpful")
    assert rating["seconds"] is None  # the time was spent once
    errors = said(taken, aspect="errors")
    assert errors["spans"] == [{"target": 0, "start": 13, "end": 21, "label": "vague"}]
    assert first["text"][13:21] == "of light"
    assert said(taken, aspect="flag")["labels"] == ["short"]
    skipped = said(taken, annotator="human:6")
    assert (skipped["status"], skipped["scores"], skipped["seconds"]) == ("skipped", None, 3.0)
    judged = said(taken, annotator="judge:gpt-x")
    assert (judged["source"], judged["scores"], judged["confidence"]) == ("judge", [0.0, 1.0], 0.7)
    for table, rows in taken.rows.items():
        schema.arrow_table(table, rows)


def test_a_list_that_was_ranked_or_put_into_buckets(save: Save) -> None:
    taken = read("label-studio", save([LIST]), strict=True)
    blog, mdn, wiki = (row["response_id"] for row in taken.rows["responses"])
    rank = said(taken, protocol="rank")
    assert dict(zip(rank["target_ids"], rank["scores"], strict=True)) == {mdn: 3.0, wiki: 2.0, blog: 1.0}
    labels = {row["target_ids"][0]: row["labels"] for row in taken.rows["annotations"] if row["protocol"] == "label"}
    assert labels == {blog: ["relevant"], mdn: ["relevant"]}
    assert json.loads(taken.rows["responses"][0]["meta"]) == {"id": "blog", "title": "Ten tips"}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"start": 13, "end": 21, "text": "of light"}, (13, 21)),  # code points, as newer versions store
        ({"start": 14, "end": 22, "text": "of light"}, (13, 21)),  # UTF-16 code units, as older ones did
        ({"start": 13, "end": 21}, (13, 21)),
        ({"start": 14, "end": 22}, (13, 21)),  # lies within as code units only
        ({"start": 14, "end": 22, "text": "elsewhere"}, None),
        ({"start": 5, "end": 99}, None),
        ({"start": 12, "end": 13, "text": "\ude42"}, None),  # half of the emoji
        ({"start": "5", "end": 9}, None),
        ({"start": 9, "end": 5}, None),
    ],
)
def test_positions_in_a_text_with_an_emoji(value: Row, wanted: tuple[int, int] | None) -> None:
    text = "Scattering 🙂 of light"
    assert (len(text), len(text.encode("utf-16-le")) // 2) == (21, 22)
    assert code_points(text, value["start"], value["end"], value.get("text")) == wanted


def test_choices_that_name_a_response_are_a_comparison_and_others_labels(save: Save) -> None:
    task = copy.deepcopy(PAIR)
    del task["predictions"]
    for chosen, scores in (("text2", [0.0, 1.0]), ("tie", [0.5, 0.5]), ("rude", None)):
        result = {"from_name": "best", "to_name": "text1", "type": "choices", "value": {"choices": [chosen]}}
        task["annotations"] = [{"id": 1, "completed_by": 5, "result": [result]}]
        (row,) = read("label-studio", save([task]), strict=True).rows["annotations"]
        assert (row["scores"], row.get("labels")) == (scores, None if scores else [chosen])


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        ({"data": {"image": "x.jpg"}}, "data", "it holds no prompt; found are the keys 'image'"),
        ({"data": None}, "data", "it should be an object and is missing"),
        ({"annotations": {}}, "annotations", "it should be a list"),
        ({"annotations": [3]}, "annotations", "entry 1 should be an object"),
        (
            {"annotations": [{"result": [{"type": "pairwise"}]}]},
            "annotations",
            "a result should be an object with a value",
        ),
        (
            {"data": {"prompt": "?", "response": "a"}},
            "annotations",
            "a pairwise stands beside fewer than two responses",
        ),
    ],
)
def test_a_bad_task_is_kept_apart(save: Save, change: Row, where: str, words: str) -> None:
    path = save([{**PAIR, **change}, LIST])
    taken = read("label-studio", path)
    (bad,) = taken.quarantined
    assert (bad.row, bad.column) == (1, where)
    assert words in bad.reason
    assert len(taken.rows["prompts"]) == 1 and len(taken.rows["annotations"]) == 3
    with pytest.raises(DataError, match="row 1"):
        read("label-studio", path, strict=True)


def test_what_is_not_taken_is_counted(save: Save) -> None:
    task = copy.deepcopy(PAIR)
    task["drafts"] = [{"result": []}]
    task["annotations"][0]["result"] += [
        {"from_name": "box", "to_name": "img", "type": "rectanglelabels", "value": {"x": 1}},
        {"from_name": "all", "to_name": "text1,text2", "type": "rating", "value": {"rating": 3}},
    ]
    task["annotations"].append({"id": 75, "completed_by": 8, "result": []})
    assert read("label-studio", save([task])).left_out == {
        "draft": 1,
        "result of the control 'rectanglelabels'": 1,
        "rating of several responses together": 1,
        "annotation without an answer that can be read": 1,
    }


@settings(max_examples=60)
@given(spoilt([PAIR, LIST]))
def test_a_spoilt_export_is_never_a_traceback(tasks: Any) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "export.json"
        path.write_text(json.dumps(tasks), encoding="utf-8")
        try:
            taken = read("label-studio", path)
        except DataError:
            return
    for table, rows in taken.rows.items():
        schema.arrow_table(table, rows)


def test_json_min_is_told_from_json(save: Save) -> None:
    with pytest.raises(DataError, match="export as JSON, not as JSON-MIN"):
        read("label-studio", save([{"id": 1, "text1": "a", "annotator": 4}]))


@settings(max_examples=40)
@given(datasets())
def test_there_and_back(rows: Rows) -> None:
    with TemporaryDirectory() as folder:
        taken, left_out = round_trip(rows, "label-studio", Path(folder))
    assert not left_out and not taken.left_out
    for table, made in rows.items():
        assert plain(taken.rows.get(table, []), table) == plain(made, table)


@settings(max_examples=40)
@given(datasets())
def test_what_is_shown_says_the_same_without_what_rides_along(rows: Rows) -> None:
    """The labels of people as Label Studio shows them: nothing but texts and answers is read here."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        write_labels(frames(rows), "label-studio", out)
        tasks = json.loads(out.read_text(encoding="utf-8"))
        for task in tasks:
            del task["data"]["prefdata"]
        out.write_text(json.dumps(tasks), encoding="utf-8")
        taken = read("label-studio", out, strict=True)
    texts = {row["response_id"]: row["text"] for row in [*rows["responses"], *taken.rows.get("responses", [])]}

    def orders(made: list[Row]) -> list[tuple[Any, ...]]:
        found = []
        for row in made:
            if row["protocol"] == "compare" and row["status"] == "ok" and row["source"] == "human":
                first, second = row["scores"]
                found.append((*(texts[target] for target in row["target_ids"]), (first > second) - (first < second)))
        return sorted(found)

    assert orders(taken.rows.get("annotations", [])) == orders(rows["annotations"])
    people = [row for row in rows["annotations"] if row["source"] == "human"]
    skipped = [sum(row["status"] == "skipped" for row in made) for made in (people, taken.rows.get("annotations", []))]
    assert skipped[0] == skipped[1]


@settings(max_examples=40)
@given(datasets())
def test_the_interface_names_every_control_and_every_key(rows: Rows) -> None:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        write_labels(frames(rows), "label-studio", out)
        tasks = json.loads(out.read_text(encoding="utf-8"))
        view = ET.parse(out.with_suffix(".xml")).getroot()
    tags = {tag.get("name"): tag for tag in view.iter() if tag.get("name")}
    assert len(tags) == sum(1 for tag in view.iter() if tag.get("name"))
    kinds = {"Pairwise": "pairwise", "Choices": "choices", "Ranker": "ranker", "Rating": "rating", "Number": "number"}
    kinds |= {"TextArea": "textarea", "Labels": "labels"}
    asked = {tag.get("value", "")[1:] for tag in view.iter() if tag.get("value", "").startswith("$")}
    for task in tasks:
        assert asked <= set(task["data"])
        for one in [*task["annotations"], *task["predictions"]]:
            for result in one["result"]:
                control = tags[result["from_name"]]
                assert kinds[control.tag] == result["type"]
                assert result["to_name"] in control.get("toName", "").split(",")
                assert result["to_name"] in tags
                if result["type"] in ("choices", "labels"):
                    offered = {choice.get("value") for choice in control}
                    assert set(result["value"][result["type"]]) <= offered


@pytest.fixture
def labelled() -> Rows:
    """Two responses and a person's comparison of them."""
    prompt = schema.prompt([schema.message("user", "Why?")])
    responses = [schema.response(prompt, model=model, text=f"by {model}") for model in ("m1", "m2")]
    said = schema.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=[row["response_id"] for row in responses],
        protocol="compare",
        scores=[0.9, 0.1],
        annotator="human:ann-07",
        source="human",
        seconds=4.5,
        strength=2.0,
        text="Clearer.",
    )
    return {"prompts": [prompt], "responses": responses, "annotations": [said]}


def test_a_label_of_another_person_finds_its_responses(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    result = {
        "id": "new",
        "from_name": "compare_overall",
        "to_name": "x",
        "type": "pairwise",
        "value": {"selected": "right"},
    }
    tasks[0]["annotations"].append({"id": 5, "completed_by": 3, "lead_time": 1.5, "result": [result]})
    out.write_text(json.dumps(tasks))
    taken = read("label-studio", out, strict=True)
    assert plain(taken.rows["responses"], "responses") == plain(labelled["responses"], "responses")
    old, new = taken.rows["annotations"]
    assert plain([old], "annotations") == plain(labelled["annotations"], "annotations")
    assert (new["annotator"], new["scores"], new["seconds"]) == ("human:3", [0.0, 1.0], 1.5)
    assert new["target_ids"] == labelled["annotations"][0]["target_ids"]


def test_an_export_that_is_imported_again_adds_nothing_and_a_new_label_is_one_more(
    labelled: Rows, tmp_path: Path
) -> None:
    made = Dataset.create(tmp_path / "ds")
    made.add_import(labelled, source="test", fields={})
    for format in ("label-studio", "argilla"):
        out = tmp_path / f"{format}.json"
        said_of_it: list[str] = []
        written = prefdata.export(tmp_path / "ds", out, format=format, say=said_of_it.append)
        assert written.rows == 1 and said_of_it == [f"1 rows in {out}"]
        told = import_into(format, out, tmp_path / "ds", strict=True)
        assert [line for line in told.lines if "new" in line] == [
            "prompts: 0 new, 1 were there",
            "responses: 0 new, 2 were there",
            "annotations: 0 new, 1 were there",
        ]
    tasks = json.loads((tmp_path / "label-studio.json").read_text())
    result = {"from_name": "compare_overall", "to_name": "x", "type": "pairwise", "value": {"selected": "right"}}
    tasks[0]["annotations"].append({"id": 5, "completed_by": 3, "result": [result]})
    (tmp_path / "labelled.json").write_text(json.dumps(tasks))
    told = import_into("label-studio", tmp_path / "labelled.json", tmp_path / "ds")
    assert "annotations: 1 new, 1 were there" in told.lines
    with pytest.raises(DataError, match="holds what was said and no pairs"):
        prefdata.export(tmp_path / "ds", out, format="argilla", ties=True)


def test_a_changed_answer_is_no_longer_what_rode_along(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    tasks[0]["annotations"][0]["result"][0]["value"] = {"selected": "right"}
    out.write_text(json.dumps(tasks))
    (row,) = read("label-studio", out, strict=True).rows["annotations"]
    (was,) = labelled["annotations"]
    assert (row["annotation_id"], row["revision"]) == (was["annotation_id"], 2)
    assert (row["scores"], row["strength"], row["text"]) == ([0.0, 1.0], None, "Clearer.")
    tasks[0]["annotations"][0]["completed_by"] = 9  # by somebody else
    out.write_text(json.dumps(tasks))
    (row,) = read("label-studio", out, strict=True).rows["annotations"]
    assert (row["annotator"], row["revision"], row["scores"]) == ("human:9", 1, [0.0, 1.0])


def test_a_label_that_was_taken_away_or_cancelled_does_not_come_back(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    tasks[0]["annotations"][0]["was_cancelled"] = True
    out.write_text(json.dumps(tasks))
    (row,) = read("label-studio", out, strict=True).rows["annotations"]
    assert (row["status"], row["scores"]) == ("skipped", None)
    tasks[0]["annotations"] = []
    out.write_text(json.dumps(tasks))
    taken = read("label-studio", out, strict=True)
    assert "annotations" not in taken.rows
    assert taken.left_out == {"label that was taken away in Label Studio": 1}


def test_a_changed_text_is_another_response(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    for place in (tasks[0]["data"]["responses"][0], tasks[0]["data"]):
        place["body" if "body" in place else "response_1"] = "mended"
    out.write_text(json.dumps(tasks))
    taken = read("label-studio", out, strict=True)
    assert taken.left_out == {"what prefdata wrote beside texts that were changed since": 1}
    ids = {row["response_id"] for row in labelled["responses"]}
    assert not ids & {row["response_id"] for row in taken.rows["responses"]}


@pytest.mark.parametrize(
    "change",
    [
        {"said": [{"row": {"annotation_id": "x"}}]},
        {"prompt": {"prompt_id": "../x", "group_id": "y"}},
        {"responses": []},
        {"prompt": None},
        {"said": 3},
    ],
)
def test_what_rides_along_is_not_trusted(labelled: Rows, tmp_path: Path, change: Row) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    tasks[0]["data"]["prefdata"] |= change
    out.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="cannot be used"):
        read("label-studio", out, strict=True)


def test_an_annotation_that_rides_along_must_be_about_its_task(labelled: Rows, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_labels(frames(labelled), "label-studio", out)
    tasks = json.loads(out.read_text())
    tasks[0]["data"]["prefdata"]["said"][0]["row"]["target_ids"][0] = "0" * 32
    out.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="about something else"):
        read("label-studio", out, strict=True)


def test_what_no_task_can_hold_is_counted(labelled: Rows, tmp_path: Path) -> None:
    (one,) = labelled["annotations"]
    prompt, first = labelled["prompts"][0], labelled["responses"][0]
    labelled["annotations"] += [
        {**one, "annotation_id": "1" * 32, "source": "consensus", "annotator": "consensus:x"},
        {**one, "annotation_id": "2" * 32, "prompt_id": None},
        {**one, "annotation_id": "3" * 32, "target": "annotation", "target_ids": [one["annotation_id"]]},
    ]
    labelled["responses"].append(schema.response(prompt, model="m3", text=None, finish_reason="error"))
    out = tmp_path / "out.json"
    written = write_labels(frames(labelled), "label-studio", out)
    assert written.rows == 1 and first["text"] in out.read_text()
    assert written.left_out == {
        "annotation of a consensus or a split, which are computed anew": 1,
        "annotation about several prompts": 1,
        "annotation about another annotation": 1,
        "response without a text": 1,
    }


def test_a_name_that_is_not_json_and_a_dataset_without_prompts_are_refused(labelled: Rows, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name a file that ends in \.json"):
        write_labels(frames(labelled), "label-studio", tmp_path / "out.parquet")
    with pytest.raises(DataError, match="there are no prompts"):
        write_labels(frames({}), "label-studio", tmp_path / "out.json")
