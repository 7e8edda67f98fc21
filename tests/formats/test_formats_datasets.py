"""Readers of published datasets: the real files, and small ones by hand."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import Imported, pairs_from_lists, read, training_lists
from prefdata.formats.template import NEEDS_TEMPLATE
from prefdata.schema import arrow_table

JsonLines = Callable[..., Path]
Preferred = Callable[[Imported], dict[str, pl.LazyFrame]]


def check_tables(imported: Imported) -> None:
    """Every row fits its table, ids are unique, and every id that is named is there."""
    for name, rows in imported.rows.items():
        arrow_table(name, rows)
    prompts = {row["prompt_id"]: row for row in imported.rows["prompts"]}
    responses = {row["response_id"]: row for row in imported.rows["responses"]}
    assert len(prompts) == len(imported.rows["prompts"])
    assert len(responses) == len(imported.rows["responses"])
    assert all(prompts[row["prompt_id"]]["group_id"] == row["group_id"] for row in responses.values())
    said = [row for row in imported.rows["annotations"] if row["target"] == "response"]
    assert all(responses[one]["prompt_id"] == row["prompt_id"] for row in said for one in row["target_ids"])
    assert all("step" not in row for rows in imported.rows.values() for row in rows)


# HH-RLHF


def transcript(*turns: str) -> str:
    return "".join(f"\n\n{'Human' if place % 2 == 0 else 'Assistant'}: {turn}" for place, turn in enumerate(turns))


def test_hh_real(data_folder: Path, preferred: Preferred) -> None:
    taken = read("hh-rlhf", data_folder)
    check_tables(taken)
    assert {name: len(rows) for name, rows in taken.rows.items()} == {
        "prompts": 3894,
        "responses": 7788,
        "annotations": 3894,
    }
    assert not taken.left_out
    assert {row["annotator"] for row in taken.rows["annotations"]} == {"human:hh-rlhf"}
    # The order shown is unknown: that of the ids, so that the chosen one stands first in about half.
    firsts = [row["scores"][0] for row in taken.rows["annotations"]]
    assert set(firsts) == {0.0, 1.0} and 0.45 < sum(firsts) / len(firsts) < 0.55
    assert all(row["messages"][-1]["role"] == "user" for row in taken.rows["prompts"])
    for row in taken.rows["prompts"]:
        roles = [turn["role"] for turn in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    # The longer response is the chosen one in 55.1 %, where they differ in length.
    texts = {row["response_id"]: row["text"] for row in taken.rows["responses"]}
    lengths = [
        [len(texts[one]) for _, one in sorted(zip(row["scores"], row["target_ids"], strict=True), reverse=True)]
        for row in taken.rows["annotations"]
    ]
    differ = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    assert sum(differ) / len(differ) == pytest.approx(0.551, abs=0.0005)
    lists, left_out = training_lists(preferred(taken))
    pairs, lost = pairs_from_lists(lists, conversational=True)
    assert (lists.height, pairs.height, left_out, lost) == (3894, 3894, Counter(), Counter())
    plain, lost = pairs_from_lists(lists)
    assert plain.height + lost[NEEDS_TEMPLATE] == 3894
    assert lost[NEEDS_TEMPLATE] == sum(len(row["messages"]) > 1 for row in taken.rows["prompts"])


def test_hh_reads_the_same_from_parquet_and_from_json_lines(tmp_path: Path, data_folder: Path) -> None:
    rows = pq.read_table(data_folder / "hh_rlhf_helpful.parquet").slice(0, 300).to_pylist()
    path = tmp_path / "test.jsonl.gz"
    lines = [json.dumps({"chosen": row["chosen"], "rejected": row["rejected"]}) for row in rows]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    first = read("hh-rlhf", path).rows
    whole = read("hh-rlhf", data_folder).rows
    for name, key in (("prompts", "prompt_id"), ("responses", "response_id")):
        # The file's rows come in the order of their transcripts, so the first 300 of both are the same.
        assert [row[key] for row in first[name]] == [row[key] for row in whole[name][: len(first[name])]]
    assert [row["target_ids"] for row in first["annotations"]] == [
        row["target_ids"] for row in whole["annotations"][: len(rows)]
    ]


def test_hh_by_hand(jsonl: JsonLines) -> None:
    rows = [
        # A response that begins alike on both sides, white space around the turns.
        {"chosen": transcript("Hi \n", "Same start, good", ""), "rejected": transcript("Hi \n", "Same start, bad")},
        # The assistant's first answer is shared: it belongs to the prompt.
        {"chosen": transcript("A", "B", "C", "D1"), "rejected": transcript("A", "B", "C", "D2")},
        # They part before the last turn: the rest of the conversation is the response.
        {"chosen": transcript("X", "Y1", "Z", "W"), "rejected": transcript("X", "Y2")},
        {"chosen": transcript("S", "same  text"), "rejected": transcript("S", "same text ")},
        {"chosen": "Nobody spoke", "rejected": "Nobody spoke either"},
    ]
    rows[0]["chosen"] = rows[0]["chosen"].removesuffix("\n\nHuman: ")
    taken = read("hh-rlhf", jsonl(rows))
    check_tables(taken)
    assert [[turn["content"] for turn in row["messages"]] for row in taken.rows["prompts"]] == [
        ["Hi"],
        ["A", "B", "C"],
        ["X"],
    ]
    texts = [row["text"] for row in taken.rows["responses"]]
    assert texts == ["Same start, good", "Same start, bad", "D1", "D2", "Y1\n\nZ\n\nW", "Y2"]
    assert taken.rows["responses"][4]["segments"] == [
        {"end": 4, "role": "assistant", "kind": "turn"},
        {"end": 7, "role": "user", "kind": "turn"},
        {"end": 8, "role": "assistant", "kind": "turn"},
    ]
    assert taken.left_out == Counter({"same text": 1, "no shared prompt that begins with a human turn": 1})


def test_hh_a_human_turn_that_nobody_answers_was_written_by_the_model(jsonl: JsonLines) -> None:
    rows = [{"chosen": transcript("A", "B"), "rejected": transcript("A", "B", "Thanks!")}]
    texts = [row["text"] for row in read("hh-rlhf", jsonl(rows)).rows["responses"]]
    assert texts == ["B", "B\n\nHuman: Thanks!"]


def test_hh_an_empty_response_stays_one(jsonl: JsonLines) -> None:
    rows = [{"chosen": transcript("A", "B"), "rejected": transcript("A", "")}]
    assert [row["text"] for row in read("hh-rlhf", jsonl(rows)).rows["responses"]] == ["B", ""]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"chosen": transcript("a", "b")}, r"row 1, column 'rejected': it should be text and is missing"),
        (
            {"chosen": transcript("a", "b"), "rejected": transcript("a", "c"), "prompt": "\n\nHuman: a"},
            r"row 1, column 'prompt': it should end with an Assistant mark and be the beginning of both",
        ),
    ],
)
def test_hh_bad_rows(jsonl: JsonLines, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("hh-rlhf", jsonl([row]), strict=True)


# OpenAssistant


def test_oasst_real(data_folder: Path, preferred: Preferred) -> None:
    taken = read("oasst", data_folder)
    check_tables(taken)
    rows = pq.read_table(data_folder / "oasst_en_trees.parquet").to_pylist()
    said = taken.rows["annotations"]
    sizes = Counter(len(row["scores"]) for row in said)
    assert len(said) == 142
    assert (sizes[2], sizes[3], sum(count for size, count in sizes.items() if size > 3)) == (40, 76, 26)
    assert sum(size * (size - 1) // 2 * count for size, count in sizes.items()) == 511
    assert len(taken.rows["responses"]) == sum(row["role"] == "assistant" for row in rows) == 455
    assert len({row["group_id"] for row in taken.rows["prompts"]}) == 66
    # The origin's ranks come back from the scores, and from the ranks of the exported lists.
    ranks = {row["message_id"]: row["rank"] for row in rows}
    message_of = {row["response_id"]: json.loads(row["meta"])["message_id"] for row in taken.rows["responses"]}
    for row in said:
        back = [len(row["scores"]) - score for score in row["scores"]]
        assert back == [ranks[message_of[one]] for one in row["target_ids"]]
    lists, left_out = training_lists(preferred(taken))
    assert (lists.height, left_out) == (142, Counter())
    for ids, places in lists.select("response_ids", "ranks").iter_rows():
        by_origin = [ranks[message_of[one]] for one in ids]
        assert by_origin == sorted(by_origin)
        assert places == list(range(1, len(ids) + 1))
    pairs, lost = pairs_from_lists(lists, conversational=True)
    assert (pairs.height, lost) == (511, Counter())
    assert all(
        ranks[message_of[a]] < ranks[message_of[b]] for a, b in pairs.select("chosen_id", "rejected_id").iter_rows()
    )


def tree(message_id: str, role: str, *replies: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"message_id": message_id, "role": role, "text": f"text {message_id}", "replies": list(replies), **columns}


def test_oasst_trees_by_hand(jsonl: JsonLines) -> None:
    root = tree(
        "r",
        "prompter",
        tree("a", "assistant", rank=1),
        tree("b", "assistant", tree("q", "prompter", tree("c", "assistant", rank=0)), rank=0, model_name="chip"),
        tree("d", "assistant", tree("e", "prompter"), rank=2, deleted=True),
        tree("f", "assistant"),
    )
    taken = read("oasst", jsonl([{"message_tree_id": "r", "prompt": root}]))
    check_tables(taken)
    first, second = taken.rows["prompts"]
    assert second["parent_id"] == second["group_id"] == first["prompt_id"]
    assert [turn["content"] for turn in second["messages"]] == ["text r", "text b", "text q"]
    assert {row["text"]: row["model"] for row in taken.rows["responses"]} == {
        "text a": "human",
        "text b": "chip",
        "text f": "human",
        "text c": "human",
    }
    (said,) = taken.rows["annotations"]
    assert said["scores"] == [1.0, 2.0]
    assert taken.left_out == Counter(
        {"deleted message, or one below it": 2, "rank of a reply without ranked siblings": 1}
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"role": "prompter", "text": "x"}], r"row 1, column 'message_id': it should be text and is missing"),
        ([{"message_id": "a", "role": "bot", "text": "x"}], r"column 'role': it is 'bot'; it must be one of prompter"),
        ([{"message_id": "a", "role": "prompter", "text": "x", "parent_id": "z"}], r"'z' is no message of this source"),
        ([{"message_id": "a", "role": "prompter", "text": "x"}] * 2, r"row 2, .*'a' stands in the source twice"),
        ([{"message_id": "a", "role": "prompter", "text": "x", "parent_id": "a"}], r"each other's parents"),
        ([], r"holds no rows"),
    ],
)
def test_oasst_bad_rows(jsonl: JsonLines, rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("oasst", jsonl(rows), strict=True)


# UKPConvArg


def test_ukp_real(data_folder: Path, preferred: Preferred) -> None:
    taken = read("ukpconvarg", data_folder)
    check_tables(taken)
    assert {name: len(rows) for name, rows in taken.rows.items()} == {
        "prompts": 12,
        "responses": 380,
        "annotations": 29485,
    }
    said = taken.rows["annotations"]
    assert len({row["annotator"] for row in said}) == 3144
    assert Counter(tuple(row["scores"]) for row in said) == Counter(
        {(1.0, 0.0): 11911, (0.0, 1.0): 11840, (0.5, 0.5): 5734}
    )
    assert all(row["text"] and "seconds" not in row for row in said)
    # Nominal pairwise agreement of the votes on a pair is 0.569: votes are whole, and on the pairs they belong to.
    votes: dict[tuple[str, ...], list[float]] = {}
    for row in said:
        votes.setdefault(tuple(row["target_ids"]), []).append(row["scores"][0])
    assert len(votes) == 5911
    agreement = [
        sum(a == b for a, b in combinations(given, 2)) / (len(given) * (len(given) - 1) / 2) for given in votes.values()
    ]
    assert sum(agreement) / len(agreement) == pytest.approx(0.569, abs=0.001)
    # Ties and annotators survive the way out.
    lists, _ = training_lists(preferred(taken))
    decided, lost = pairs_from_lists(lists)
    ties, kept = pairs_from_lists(lists, ties=True)
    # Four pairs join two equal arguments: of their 20 votes 17 say equal.
    assert (lost["tie"], lost["same text"], decided.height) == (5734, 3, 29485 - 5734 - 3)
    assert (ties.filter(pl.col("p") == 0.5).height, kept["same text"], ties.height) == (5734 - 17, 20, 29485 - 20)
    assert ties["annotator"].n_unique() == 3144


def ukp_folder(folder: Path, **changes: list[dict[str, Any]]) -> Path:
    rows: dict[str, list[dict[str, Any]]] = {
        "arguments": [
            {"topic": "t", "arg_id": name, "title": "Tea?", "stance": "Yes", "text": f"arg {name}"} for name in "ab"
        ],
        "pairs": [{"topic": "t", "pair_id": "a_b", "arg1": "a", "arg2": "b"}],
        "votes": [{"topic": "t", "pair_id": "a_b", "worker": "w1", "value": "a2", "reason": "r", "work_seconds": 9.0}],
        **changes,
    }
    for name, some in rows.items():
        pq.write_table(pa.Table.from_pylist(some), folder / f"ukpconvarg1_{name}.parquet")
    return folder


def test_ukp_by_hand(tmp_path: Path) -> None:
    taken = read("ukpconvarg", ukp_folder(tmp_path))
    check_tables(taken)
    (said,) = taken.rows["annotations"]
    ids = {row["text"]: row["response_id"] for row in taken.rows["responses"]}
    assert said["target_ids"] == [ids["arg a"], ids["arg b"]]
    assert (said["scores"], said["annotator"], said["text"]) == ([0.0, 1.0], "human:w1", "r")
    assert json.loads(said["meta"]) == {"pair_id": "a_b", "work_seconds": 9.0}
    asked = taken.rows["prompts"][0]["messages"][0]["content"]
    assert "Tea?" in asked and "Yes" in asked


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"votes": [{"topic": "t", "pair_id": "x", "worker": "w", "value": "a1"}]},
            r"votes.*'x' is no pair of topic 't'",
        ),
        ({"votes": [{"topic": "t", "pair_id": "a_b", "worker": "w", "value": "a3"}]}, r"column 'value': it is 'a3'"),
        ({"pairs": [{"topic": "t", "pair_id": "a_b", "arg1": "a", "arg2": "z"}]}, r"pairs.*'z' is no argument"),
    ],
)
def test_ukp_bad_rows(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("ukpconvarg", ukp_folder(tmp_path, **changes), strict=True)


def test_ukp_names_the_missing_file(tmp_path: Path) -> None:
    ukp_folder(tmp_path)
    (tmp_path / "ukpconvarg1_votes.parquet").unlink()
    with pytest.raises(DataError, match=r"ukpconvarg1_votes\.parquet is not there"):
        read("ukpconvarg", tmp_path, strict=True)


@pytest.mark.parametrize("format", ["hh-rlhf", "oasst", "ukpconvarg"])
def test_reading_twice_gives_equal_rows(data_folder: Path, format: str) -> None:
    assert read(format, data_folder).rows == read(format, data_folder).rows
