"""Runs that were written one after the other are read back as one file would hold them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefdata.formats.parquet as parquet
import prefdata.formats.runs as runs_module
from prefdata.formats.parquet import write_parquet
from prefdata.formats.runs import Runs
from prefdata.schema import make_id

ROWS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=60)


def frame(rows: Sequence[tuple[int, int]]) -> pl.DataFrame:
    groups = [make_id("g", group) for group, _ in rows]
    made = pl.DataFrame(
        {"group": groups, "id": [f"{n}" for _, n in rows]}, schema={"group": pl.String, "id": pl.String}
    )
    return made.sort("group", "id", maintain_order=True)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 4), st.sampled_from([1, 7, 1000]))
def test_the_order_does_not_depend_on_how_many_runs_there_are(
    rows: list[tuple[int, int]], count: int, at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "_ROWS", at_once)
        with Runs(Path(folder), ["group", "id"], [], {}) as runs:
            for shard in range(count):
                runs.add(frame([row for row in rows if row[0] % count == shard]))
            found = list(runs.in_order()) if rows else []
            assert runs.height == len(rows)
        assert not list(Path(folder).iterdir())
    whole = pl.concat(found) if found else frame([])
    assert whole.equals(frame(rows))


def test_columns_and_keys_that_one_run_fills_are_in_all(tmp_path: Path) -> None:
    def conversation(**keys: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "x", **keys}]

    first = pl.DataFrame({"group": ["0a"], "id": ["1"], "prompt": [conversation(name="ann")]})
    second = pl.DataFrame({"group": ["0b"], "id": ["2"], "prompt": [conversation()], "p": [0.5]})
    with Runs(tmp_path, ["group", "id"], ["prompt"], {"p": 1.0}) as runs:
        runs.add(first)
        runs.add(second)
        rows = pl.concat(runs.in_order()).to_dicts()
        assert runs.columns == {"group", "id", "prompt", "p"}
        assert runs.message_keys == ["role", "content", "name"]
    assert [row["p"] for row in rows] == [1.0, 0.5]
    assert [row["prompt"][0]["name"] for row in rows] == ["ann", None]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Runs(tmp_path, ["group", "id"], [], {}) as runs:
        runs.add(frame([(1, 1)]))
        runs.add(frame([(2, 1)]))
        assert list(tmp_path.iterdir())
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [[10], [3, 3, 4], [1] * 10, [7, 0, 3]])
def test_row_groups_do_not_depend_on_frames(sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 4)
    whole = pl.DataFrame({"x": range(10)}, schema={"x": pl.Int32})
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    frames = [whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)]
    schema = whole.to_arrow().schema
    write_parquet(frames, schema, tmp_path / "x.parquet", {"a": json.dumps(1)}, 4)
    read = pq.ParquetFile(tmp_path / "x.parquet")
    assert [read.metadata.row_group(place).num_rows for place in range(read.num_row_groups)] == [4, 4, 2]
    assert pl.read_parquet(tmp_path / "x.parquet").equals(whole)
