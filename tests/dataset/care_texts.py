"""Datasets that people care for: users, labels, edits; and all that a folder's files say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from pipeline_line import Line, base_steps

from prefdata.dataset import Dataset
from prefdata.schema import SCHEMAS

USERS = {"anna@example.org": 2, "ben@example.org": 3, None: 2}
"""How many prompts each user asks."""


def prompts_of(users: dict[str | None, int] = USERS) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for user, count in users.items():
        secret = f"Secret of {user}" if user else "Nobody's question"
        made += [{"prompt": f"{secret}, number {n}: why is it so?", "user_id": user} for n in range(count)]
    return made


def cared_for(folder: Path, *, shards: int = 1, fresh: bool = True) -> Line:
    """A dataset with a history: limits, an edit and its return, labels of two people, drops and restores, an export.

    Where it is not `fresh`, `folder` holds it already.
    """
    line = Line(folder, base_steps(Path("prompts.jsonl")))
    line.steps.append({"export": {"format": "trl-pairs", "path": "pairs.parquet"}})
    if not fresh:
        return line
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts_of()))
    Dataset.create(line.path, shards=shards)
    line.run(limit=3)
    line.run()
    for person, said in (("human:x", "I think so"), ("human:y", "Quite the contrary")):
        label_all(line.ds, person, said)
    line.edit("pair", min_gap=3.0)
    line.run()
    line.edit("pair", min_gap=0.1)
    line.run()
    some = sorted(line.ds.responses.collect()["response_id"])[:2]
    line.ds.drop("responses", some, reason="not good enough")
    line.ds.restore("responses", some[:1])
    line.run()
    return line


def label_all(ds: Dataset, person: str, said: str) -> list[str]:
    """A comparison of each prompt's first two responses, with words that no other row has."""
    groups = ds.responses.sort("response_id").group_by("group_id").agg("response_id").sort("group_id").collect()
    rows = [
        {
            "target_ids": ids[:2],
            "protocol": "compare",
            "scores": [1.0, 0.0],
            "annotator": person,
            "text": f"{said} about {group}",
        }
        for group, ids in groups.iter_rows()
        if len(ids) > 1
    ]
    return ds.label(rows)


def all_views(ds: Dataset, at: Iterable[int]) -> dict[int, dict[str, list[str]]]:
    """Every live row at these commits, as text, sorted; prompts in their order."""
    found = {}
    for number in at:
        view = ds.view(at=number)
        found[number] = {table: texts(view[table].collect(), ordered=table == "prompts") for table in view}
    return found


def all_rows(ds: Dataset) -> dict[str, list[str]]:
    """Every row, live or not, with its commit."""
    return {table: texts(ds.rows(table).collect()) for table in SCHEMAS if table != "erased"}


def texts(frame: pl.DataFrame, *, ordered: bool = False) -> list[str]:
    made = [json.dumps(row, sort_keys=True, default=str) for row in frame.to_dicts()]
    return made if ordered else sorted(made)


def said_anywhere(*folders: Path) -> str:
    """All that the files below some folders say: bytes as they are, and what Parquet files say unpacked."""
    said = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                said += [str(path), path.read_bytes().decode("latin-1")]
                if path.suffix == ".parquet":
                    said += strings(pq.read_table(path).to_pylist())
    return "\n".join(said)


def strings(value: object) -> list[str]:
    """Every text within rows."""
    if isinstance(value, dict | list):
        return [text for one in (value.values() if isinstance(value, dict) else value) for text in strings(one)]
    return [value] if isinstance(value, str) else []
