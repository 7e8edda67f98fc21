"""Pairs in TRL's forms, in and back out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.errors import DataError
from prefdata.formats import Imported, pairs_from_lists, read, training_lists, write

JsonLines = Callable[..., Path]
Preferred = Callable[[Imported], dict[str, pl.LazyFrame]]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def answer(*texts: str) -> list[dict[str, str]]:
    return turns("", *texts)[1:]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
        {"prompt": turns("Q"), "chosen": answer("good"), "rejected": answer("bad")},
        {"chosen": turns("Q", "good"), "rejected": turns("Q", "bad")},
        {"prompt": None, "chosen": turns("Q", "good"), "rejected": turns("Q", "bad")},
        {"prompt": "Q", "chosen": turns("Q", "good"), "rejected": turns("Q", "bad"), "messages": turns("Q", "good")},
        {"prompt": turns("Q"), "chosen": turns("Q", "good"), "rejected": turns("Q", "bad")},
        {"prompt": "Q", "chosen": answer("good"), "rejected": answer("bad")},
    ],
)
def test_every_form_is_the_same_pair(jsonl: JsonLines, row: dict[str, Any]) -> None:
    taken = read("trl-pairs", jsonl([row]))
    (prompt,) = taken.rows["prompts"]
    (said,) = taken.rows["annotations"]
    assert prompt["messages"] == turns("Q")
    assert [one["text"] for one in taken.rows["responses"]] == ["good", "bad"]
    assert (said["protocol"], said["annotator"], said["source"]) == ("compare", "unknown", "imported")
    texts = {one["response_id"]: one["text"] for one in taken.rows["responses"]}
    # The order shown is unknown: that of the ids, not the better one first.
    assert said["target_ids"] == sorted(texts)
    scored = zip(said["target_ids"], said["scores"], strict=True)
    assert {texts[one]: score for one, score in scored} == {"good": 1.0, "bad": 0.0}
    assert not taken.left_out


def test_the_implicit_prompt_ends_before_the_first_answer_that_differs(jsonl: JsonLines) -> None:
    shared = turns("A", "B", "C")
    rows = [
        {"chosen": [*shared, *answer("D")], "rejected": [*shared, *answer("E")]},
        # Both begin with the same answer, and one goes on: that answer is no prompt.
        {"chosen": turns("X", "Y"), "rejected": turns("X", "Y", "Z")},
    ]
    taken = read("trl-pairs", jsonl(rows))
    assert [row["messages"] for row in taken.rows["prompts"]] == [shared, turns("X")]
    assert [row["text"] for row in taken.rows["responses"]] == ["D", "E", "Y", "Y\n\nZ"]
    assert taken.rows["responses"][-1]["segments"] == [
        {"end": 3, "role": "assistant", "kind": "turn"},
        {"end": 4, "role": "user", "kind": "turn"},
    ]


@pytest.mark.parametrize(
    ("columns", "protocol", "scores", "meta"),
    [
        ({"score_chosen": 8.5, "score_rejected": 3.0}, "score", [8.5, 3.0], {}),
        ({"score_chosen": 1.0, "score_rejected": 0.0}, "compare", [1.0, 0.0], {}),
        ({"score_chosen": 5, "score_rejected": 5}, "compare", [1.0, 0.0], {"score_chosen": 5.0, "score_rejected": 5.0}),
        ({"p": 0.75}, "compare", [0.75, 0.25], {}),
        (
            {"p": 0.75, "score_chosen": 3.0, "score_rejected": 1.0},
            "compare",
            [0.75, 0.25],
            {"score_chosen": 3.0, "score_rejected": 1.0},
        ),
        ({"margin": 0.5, "split": "test_prefs"}, "compare", [1.0, 0.0], {"margin": 0.5, "split": "test_prefs"}),
    ],
)
def test_scores_and_further_columns(
    jsonl: JsonLines, columns: dict[str, Any], protocol: str, scores: list[float], meta: dict[str, Any]
) -> None:
    taken = read("trl-pairs", jsonl([{"prompt": "Q", "chosen": "a", "rejected": "b", **columns}]))
    (said,) = taken.rows["annotations"]
    assert (said["protocol"], said["scores"]) == (protocol, scores)
    assert json.loads(said["meta"] or "{}") == meta


def test_our_own_columns_are_understood(jsonl: JsonLines) -> None:
    rows = [
        {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "id": f"l:{number}",
            "group": "g",
            "split": "valid",
            "aspect": "truth",
            "annotator": "human:ann-1",
            "chosen_id": f"id-{chosen}",
            "rejected_id": f"id-{rejected}",
        }
        for number, (prompt, chosen, rejected) in enumerate([("Q", "a", "b"), ("Q", "b", "c"), ("Q2", "a", "b")])
    ]
    taken = read("trl-pairs", jsonl(rows))
    first, second = taken.rows["prompts"]
    assert second["group_id"] == first["group_id"] == first["prompt_id"]
    assert len(taken.rows["responses"]) == 5
    *said, split = taken.rows["annotations"]
    assert {(row["aspect"], row["annotator"], row["source"]) for row in said} == {("truth", "human:ann-1", "human")}
    assert (split["annotator"], split["labels"], split["target_ids"]) == ("rule:split", ["valid"], [first["group_id"]])


def test_equal_votes_stay_two_votes(jsonl: JsonLines) -> None:
    taken = read("trl-pairs", jsonl([{"prompt": "Q", "chosen": "a", "rejected": "b"}] * 2))
    assert {name: len(rows) for name, rows in taken.rows.items()} == {"prompts": 1, "responses": 2, "annotations": 2}


def test_what_is_left_out_is_counted(jsonl: JsonLines) -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    taken = read(
        "trl-pairs",
        jsonl(
            [
                {"prompt": "Q", "chosen": "a  b", "rejected": " a b"},
                {"prompt": turns("Q"), "chosen": [calling], "rejected": answer("b")},
            ]
        ),
    )
    assert taken.left_out == Counter({"same text": 1, "tool calls in a response": 1})
    assert not taken.rows


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "Q", "chosen": "a"}, r"column 'rejected': it should be a list of messages and is missing"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, r"column 'prompt': it should be text or a list of messages"),
        ({"chosen": "a", "rejected": "b"}, r"column 'prompt': there is no prompt.*add a column prompt"),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"}, r"read transcripts with the format hh-rlhf"),
        ({"chosen": turns("a", "b"), "rejected": turns("c", "d")}, r"share no turn that could be the prompt"),
        (
            {"prompt": turns("a", "b"), "chosen": "c", "rejected": "d"},
            r"column 'prompt': its last turn is the assistant",
        ),
        ({"prompt": turns("a"), "chosen": turns("b"), "rejected": answer("c")}, r"column 'chosen': after the prompt"),
        ({"prompt": "Q", "chosen": "a", "rejected": "b", "p": 2}, r"column 'p': it is a probability"),
        ({"prompt": "Q", "chosen": "a", "rejected": "b", "p": "x"}, r"column 'p': it should be a number"),
        (
            {"prompt": "Q", "chosen": "a", "rejected": "b", "chosen_id": "i", "rejected_id": "i"},
            r"chosen and rejected have one id and different texts",
        ),
    ],
)
def test_a_bad_row_is_named(jsonl: JsonLines, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read("trl-pairs", jsonl([row]), strict=True)
    assert "rows.jsonl, row 1" in str(caught.value)


@pytest.mark.parametrize("format", ["trl-pairs", "trl-pairs-conversational"])
def test_out_and_in_and_out_again(tmp_path: Path, jsonl: JsonLines, preferred: Preferred, format: str) -> None:
    """What is written, read and written again is the same, but for ids, which hash where a row came from."""
    rows = [
        {"prompt": "Q1", "chosen": "a", "rejected": "b", "annotator": "human:x", "split": "train"},
        {"prompt": "Q2", "chosen": "c", "rejected": "d", "score_chosen": 9, "score_rejected": 2, "split": "valid"},
        {"prompt": "Q3", "chosen": "e", "rejected": "f", "p": 0.75, "aspect": "truth"},
    ]
    first, _ = training_lists(preferred(read("trl-pairs", jsonl(rows))))
    path = tmp_path / "out.parquet"
    assert write(first, format, path).rows == 3
    second, _ = training_lists(preferred(read("trl-pairs", path)))
    shown = []
    for lists in (first, second):
        pairs, _ = pairs_from_lists(lists, conversational=format != "trl-pairs")
        shown.append(pairs.drop("id", "list", "group", "chosen_id", "rejected_id").sort("chosen").to_dicts())
    assert shown[0] == shown[1]
    assert {row["split"] for row in shown[0]} == {"train", "valid"}
