"""A tiny model, and exported files made by hand, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nursery import Nursery
from tiny_model import byte_tokenizer, save_tiny_model

MESSAGE = pa.struct([(name, pa.string()) for name in ("role", "content", "name", "tool_calls", "tool_call_id")])
EDGE = pa.struct(
    [
        ("winner", pa.int32()),
        ("loser", pa.int32()),
        ("p", pa.float64()),
        ("margin", pa.float64()),
        ("weight", pa.float64()),
        ("votes", pa.int32()),
    ]
)
MEDIUM = pa.struct([("uri", pa.string()), ("kind", pa.string())])
SEGMENT = pa.struct([("end", pa.int32()), ("role", pa.string()), ("kind", pa.string()), ("value", pa.float64())])
OTHER_PROMPT = pa.struct([("messages", pa.list_(MESSAGE)), ("tools", pa.string()), ("media", pa.list_(MEDIUM))])
LISTS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "group": pa.string(),
    "split": pa.string(),
    "kind": pa.string(),
    "aspect": pa.string(),
    "weight": pa.float64(),
    "prompt": pa.list_(MESSAGE),
    "response_ids": pa.list_(pa.string()),
    "responses": pa.list_(pa.string()),
    "scores": pa.list_(pa.float64()),
    "ranks": pa.list_(pa.int32()),
    "edges": pa.list_(EDGE),
    "roles": pa.list_(pa.string()),
    "ends_turn": pa.list_(pa.bool_()),
    "prefixes": pa.list_(pa.string()),
    "tools": pa.string(),
    "values": pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.float64()))])),
    "annotator": pa.string(),
    "link": pa.string(),
    "segments": pa.list_(pa.list_(SEGMENT)),
    "other_prompts": pa.list_(OTHER_PROMPT),
    "prompt_of": pa.list_(pa.int32()),
    "ref_prompt_of": pa.list_(pa.int32()),
    "rationales": pa.list_(pa.struct([("of", pa.list_(pa.int32())), ("text", pa.string())])),
    "media": pa.list_(MEDIUM),
    "response_media": pa.list_(pa.list_(MEDIUM)),
}
TURNS = pa.list_(MESSAGE)
PAIRS: dict[str, pa.DataType] = {
    **dict.fromkeys(("margin", "p", "weight", "score_chosen", "score_rejected"), pa.float64()),
    **dict.fromkeys(("tools", "id", "list", "group", "split", "aspect", "annotator"), pa.string()),
    **dict.fromkeys(("chosen_id", "rejected_id"), pa.string()),
}


def write(path: Path, columns: dict[str, pa.DataType], rows: list[dict[str, Any]], form: str | None) -> Path:
    """Write the columns that some row fills, with their types and the footer's `prefdata.format`."""
    filled = {name for row in rows for name in row}
    schema = pa.schema([(name, kind) for name, kind in columns.items() if name in filled])
    assert filled <= set(columns), filled - set(columns)
    table = pa.Table.from_pylist(rows, schema=schema)
    if form:
        table = table.replace_schema_metadata({"prefdata.format": f"{form}/1", "prefdata.commit": "7"})
    pq.write_table(table, path)
    return path


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="session")
def write_lists() -> Callable[..., Path]:
    """`(path, rows)`: fills prompt, scores and ranks where a row leaves them out (best first)."""

    def make(path: Path, rows: list[dict[str, Any]], form: str | None = "lists") -> Path:
        full = []
        for number, row in enumerate(rows):
            count = len(row["responses"])
            given = {"prompt": user(f"question {number}"), "group": f"g{number}", "kind": "conditional", "weight": 1.0}
            given |= {"scores": [float(count - k) for k in range(count)], "ranks": list(range(1, count + 1))}
            full.append({**given, **row})
        return write(path, LISTS, full, form)

    return make


@pytest.fixture(scope="session")
def write_pairs() -> Callable[..., Path]:
    """`(path, rows)`: prompt, chosen and rejected are texts; `conversational` makes messages of them."""

    def make(
        path: Path, rows: list[dict[str, Any]], conversational: bool = True, form: str | None = "trl-pairs"
    ) -> Path:
        full = [{"group": f"g{number}", **row} for number, row in enumerate(rows)]
        kind: pa.DataType = pa.string()
        if conversational:
            kind = TURNS
            form = form and f"{form}-conversational"
            for row in full:
                row["prompt"] = user(row["prompt"]) if isinstance(row["prompt"], str) else row["prompt"]
                row |= {side: assistant(row[side]) for side in ("chosen", "rejected")}
        return write(path, dict.fromkeys(("prompt", "chosen", "rejected"), kind) | PAIRS, full, form)

    return make


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where tests of several processes get them."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token for each byte, and `<|turn|>`, `<|end|>`, `<|bos|>`; pads with the end of turn."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """The folder of a random two-layer Llama of 32 dimensions."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder, tokenizer)
    return folder


@pytest.fixture
def toy_pairs(tmp_path: Path, write_pairs: Callable[..., Path]) -> Path:
    """16 pairs that a model can tell apart (a's against z's), of unlike lengths, 4 of them held out."""
    rows = [
        {
            "prompt": f"say {number}",
            "chosen": "a" * (3 + number % 4),
            "rejected": "z" * (2 + number % 5),
            "split": "valid" if number % 4 == 3 else "train",
        }
        for number in range(16)
    ]
    return write_pairs(tmp_path / "toy.parquet", rows)
