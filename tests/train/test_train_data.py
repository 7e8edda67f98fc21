"""Exported files as preference lists: what is read, what is left out and counted, what is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.train import TrainError
from prefdata.train.data import Edge, read_preferences

Write = Callable[..., Path]


def test_lists(tmp_path: Path, write_lists: Write) -> None:
    rows = [
        {"responses": ["a", "b", "c"], "scores": [2.0, 2.0, 1.0], "ranks": [1, 1, 3], "split": "train", "weight": 2.0},
        {"responses": ["d", "e"], "split": "valid"},
    ]
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    first, second = data.lists
    assert data.format == "lists"
    assert data.split
    assert data.metadata == {"prefdata.format": "lists/1", "prefdata.commit": "7"}
    assert first.edges == [Edge(0, 2), Edge(1, 2)]  # strictly falling scores only
    assert (first.ranks, first.weight, first.held_out) == ([1, 1, 3], 2.0, False)
    assert second.held_out
    assert first.prompt == [{"role": "user", "content": "question 0"}]  # no null keys


def test_edges_stand_as_they_are(tmp_path: Path, write_lists: Write) -> None:
    rows = [{"responses": ["a", "b", "c"], "edges": [{"winner": 2, "loser": 0, "p": 0.8, "weight": 3.0}]}]
    rows.append({"responses": ["a", "b"], "edges": None})
    rows.append({"responses": ["a", "b"], "edges": [{"winner": 0, "loser": 1, "p": None, "weight": None}]})
    rows.append({"responses": ["a", "b"], "edges": [{"winner": 0, "loser": 1, "weight": 0.0}]})
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    assert [entry.edges for entry in data.lists] == [[Edge(2, 0, 0.8, 3.0)], [Edge(0, 1)], [Edge(0, 1)], []]


def test_other_roles_are_left_out_and_counted(tmp_path: Path, write_lists: Write) -> None:
    rows = [
        {
            "responses": ["x", "a", "b"],
            "roles": ["sft", "ranked", "ranked"],
            "scores": [None, 2.0, 1.0],
            "ranks": [None, 1, 2],
            "edges": [{"winner": 1, "loser": 2, "p": 0.9}],
            "ends_turn": [True, False, True],
        }
    ]
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    (entry,) = data.lists
    assert (entry.responses, entry.ranks, entry.edges) == (["a", "b"], [1, 2], [Edge(0, 1, 0.9)])
    assert entry.ends_turn == [False, True]
    assert data.responses_left_out == {"role sft": 1}


def test_unpaired_weightless_and_other_splits_are_left_out_and_counted(tmp_path: Path, write_lists: Write) -> None:
    rows: list[dict[str, Any]] = [{"responses": ["a", "b"], "split": "train"} for _ in range(4)]
    rows[0] |= {"kind": "unpaired", "ranks": None}
    rows[1] |= {"weight": 0.0}
    rows[2] |= {"split": "test"}
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    assert [entry.row for entry in data.lists] == [3]
    assert data.left_out == {"unpaired": 1, "weight 0": 1, "split 'test' is neither train nor valid": 1}


@pytest.mark.parametrize("conversational", [True, False])
@pytest.mark.parametrize("form", ["trl-pairs", None])
def test_pairs(tmp_path: Path, write_pairs: Write, conversational: bool, form: str | None) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.8, "weight": 2.0, "score_chosen": 1.0},
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": None},
        {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.5},
    ]
    data = read_preferences(write_pairs(tmp_path / "p.parquet", rows, conversational, form))
    assert data.format == ("trl-pairs-conversational" if conversational else "trl-pairs")
    assert not data.split
    assert [entry.edges[0].p for entry in data.lists] == [0.8, 1.0, 0.5]
    assert [entry.ranks for entry in data.lists] == [[1, 2], [1, 2], [1, 1]]
    assert data.lists[0].weight == 2.0
    assert data.lists[0].scores == [1.0, None]
    assert data.lists[0].responses == ["a", "b"]
    assert data.lists[0].prompt == ([{"role": "user", "content": "q"}] if conversational else "q")


def test_other_writers_types_are_read(tmp_path: Path) -> None:
    """large_string, large_list and dictionaries, as polars and others write them."""
    turns = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))
    table = pa.table(
        {
            "prompt": pa.array([[{"role": "user", "content": "q"}]], turns),
            "chosen": pa.array([[{"role": "assistant", "content": "a"}]], turns),
            "rejected": pa.array([[{"role": "assistant", "content": "b"}]], turns),
            "split": pa.array(["train"]).dictionary_encode(),
            "weight": pa.array([None]),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    (entry,) = read_preferences(tmp_path / "p.parquet").lists
    assert entry.responses == ["a", "b"]


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(TrainError, match=pattern) as caught:
        read_preferences(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_refused(tmp_path: Path, write_pairs: Write) -> None:
    refused(tmp_path / "none.parquet", "there is no file")
    (tmp_path / "text.parquet").write_text("not parquet")
    refused(tmp_path / "text.parquet", "cannot be read as Parquet")
    empty = pa.table({name: pa.array([], pa.string()) for name in ("prompt", "chosen", "rejected")})
    pq.write_table(empty, tmp_path / "empty.parquet")
    refused(tmp_path / "empty.parquet", "has no rows")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    refused(tmp_path / "other.parquet", "has the columns text; a training file has prompt, chosen and rejected")
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    refused(write_pairs(tmp_path / "u.parquet", [row], False, "unpaired"), "holds the format 'unpaired/1'")
    newer = pq.read_table(write_pairs(tmp_path / "n.parquet", [row], False))
    pq.write_table(newer.replace_schema_metadata({"prefdata.format": "trl-pairs/2"}), tmp_path / "n.parquet")
    refused(tmp_path / "n.parquet", "'trl-pairs/2', which is newer than this trainer")


def test_columns_that_are_refused(tmp_path: Path, write_lists: Write, write_pairs: Write) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["ranks"]), path)
    refused(path, "lacks the column 'ranks' that the format 'lists' has")
    pq.write_table(table.set_column(table.schema.get_field_index("scores"), "scores", pa.array(["high"])), path)
    refused(path, "the column 'scores' is string; in the format 'lists' it is list of numbers")
    refused(
        write_lists(path, [{"responses": ["a", "b"], "prefixes": ["x", "y"]}]), "'prefixes' is filled.*cannot honour"
    )
    mixed = pq.read_table(write_pairs(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    pq.write_table(mixed.set_column(0, "prompt", pa.array(["q"])), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", "the column 'prompt' is string; in the format 'trl-pairs-conversational'")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"scores": [1.0]}, "row 1, column 'scores': it has 1 entries for 2 responses"),
        ({"scores": [float("nan"), 1.0]}, "row 1, column 'scores': nan is not finite"),
        ({"responses": ["a", None]}, "row 1, column 'responses': it is empty or holds a null"),
        ({"weight": -1.0}, "row 1, column 'weight': -1.0 is not finite and at least 0"),
        ({"weight": float("nan")}, "row 1, column 'weight': nan"),
        ({"edges": [{"winner": 0, "loser": 2}]}, "row 1, column 'edges': winner 0 and loser 2 are not two of its 2"),
        ({"edges": [{"winner": 1, "loser": 1}]}, "row 1, column 'edges'"),
        ({"edges": [{"winner": 0, "loser": 1, "p": 1.5}]}, "row 1, column 'edges': 1.5 is not from 0 to 1"),
        ({"split": None}, "row 1, column 'split': it is null"),
        ({"prompt": []}, "row 1, column 'prompt': there is no message in it"),
        ({"prompt": [{"role": "user", "content": None}]}, "row 1, column 'prompt': a message needs a role"),
        ({"tools": "{"}, "row 1, column 'tools': it is no JSON"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, write_lists: Write, change: dict[str, Any], pattern: str) -> None:
    good = {"responses": ["a", "b"], "split": "train"}
    refused(write_lists(tmp_path / "l.parquet", [good, {**good, **change}]), pattern)


def test_answers_of_several_turns_are_refused(tmp_path: Path, write_pairs: Write) -> None:
    path = write_pairs(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    table = pq.read_table(path)
    two = pa.array([[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]], table.schema.types[1])
    pq.write_table(table.set_column(1, table.schema.field("chosen"), two), path)
    refused(path, "row 0, column 'chosen': it holds the turns user, assistant; it is one assistant message")
