"""Real preference data in and out again by the command line, without a pipeline and without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

import prefdata

Command = Callable[..., Any]
SIZES = {
    "hh-rlhf": {"prompts": 3894, "responses": 7788, "annotations": 3894},
    "oasst": {"prompts": 168, "responses": 455, "annotations": 142},
    "ukpconvarg": {"prompts": 12, "responses": 380, "annotations": 29485},
}


def load(folder: Path, cache: Path, *name: str) -> Any:
    """`datasets.load_dataset` of an exports folder, without the network."""
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), *name, cache_dir=str(cache))


@pytest.mark.parametrize("format", SIZES)
def test_in_twice_and_out(command: Command, data_folder: Path, tmp_path: Path, format: str) -> None:
    """A second import adds nothing; an export needs no `pair` step, and says that it made pairs itself."""
    first = command("import", format, data_folder, "ds")
    assert first.code == 0 and not first.err
    for table, count in SIZES[format].items():
        assert f"{table}: {count:,} new\n" in first.out
    ds = prefdata.open("ds")
    commit = ds.snapshot.number
    again = command("import", format, data_folder, "ds")
    assert again.code == 0 and ds.snapshot.number == commit
    for table, count in SIZES[format].items():
        assert f"{table}: 0 new, {count:,} were there\n" in again.out
    said = command("export", "ds", "--format", "trl-pairs-conversational", "--out", "exports/pairs.parquet")
    assert "no preferences are live" in said.err and "imported and human annotations" in said.err
    assert ds.preferences.collect().is_empty() and ds.snapshot.number == commit
    table = pq.read_table("exports/pairs.parquet")
    loaded = load(Path("exports"), tmp_path / "cache")["train"]
    assert len(loaded) == table.num_rows > 0
    assert loaded[0]["chosen"][0]["role"] == "assistant" and loaded[0]["prompt"][-1]["role"] == "user"


def test_hh_rlhf_comes_out_as_it_went_in(command: Command, data_folder: Path) -> None:
    command("import", "hh-rlhf", data_folder, "ds")
    command("export", "ds", "--format", "trl-pairs-conversational", "--out", "pairs.parquet")
    origin = pl.read_parquet(data_folder / "hh_rlhf_helpful.parquet")

    def last(text: str) -> str:
        return text.rpartition("\n\nAssistant:")[2].strip()

    wanted = Counter((last(a), last(b)) for a, b in origin.select("chosen", "rejected").iter_rows())
    rows = pq.read_table("pairs.parquet").to_pylist()
    found = Counter((row["chosen"][0]["content"].strip(), row["rejected"][0]["content"].strip()) for row in rows)
    # In 8 of them a response goes on with turns of its own; all of it was judged, and all of it is kept.
    assert len(rows) == 3894 and sum((found & wanted).values()) == 3894 - 8
    assert not any(len(row["chosen"]) != 1 or len(row["rejected"]) != 1 for row in rows)


def test_ties_and_annotators_of_ukpconvarg_survive(command: Command, data_folder: Path, tmp_path: Path) -> None:
    command("import", "ukpconvarg", data_folder, "ds")
    without = command("export", "ds", "--format", "trl-pairs", "--out", "decided/pairs.parquet")
    assert "5,717 left out: tie" in without.err
    said = command("export", "ds", "--format", "trl-pairs", "--ties", "--out", "all/pairs.parquet")
    assert "left out" not in said.err
    votes = pl.read_parquet(data_folder / "ukpconvarg1_votes.parquet")
    pairs = pl.from_arrow(pq.read_table("all/pairs.parquet"))
    assert isinstance(pairs, pl.DataFrame)
    # 20 votes are on four pairs of equal arguments, which are no pairs; 17 of these votes say equal.
    assert pairs.height == votes.height - 20 == 29465
    assert pairs.filter(pl.col("p") == 0.5).height == votes.filter(pl.col("value") == "equal").height - 17 == 5717
    assert set(pairs["annotator"]) == {f"human:{worker}" for worker in votes["worker"]}
    assert len(load(Path("all"), tmp_path / "cache")["train"]) == 29465


def test_ranks_of_oasst_survive(command: Command, data_folder: Path, tmp_path: Path) -> None:
    command("import", "oasst", data_folder, "ds")
    command("export", "ds", "--format", "lists", "--out", "exports/lists.parquet")
    command("export", "ds", "--format", "trl-pairs-conversational", "--out", "exports/pairs.parquet")
    origin = pl.read_parquet(data_folder / "oasst_en_trees.parquet")
    rank_of = {row["text"].strip(): row["rank"] for row in origin.to_dicts() if row["role"] == "assistant"}
    lists = pq.read_table("exports/lists.parquet").to_pylist()
    assert len(lists) == 142
    for row in lists:
        said = [rank_of[text.strip()] for text in row["responses"]]
        assert said == sorted(said) and row["ranks"] == list(range(1, len(said) + 1))
    assert pq.read_table("exports/pairs.parquet").num_rows == 511
    # A folder of two files is two configurations of one data set.
    for name, rows in (("lists", 142), ("pairs", 511)):
        assert len(load(Path("exports"), tmp_path / "cache", name)["train"]) == rows


def test_two_sources_in_one_dataset_and_into_another(command: Command, data_folder: Path) -> None:
    taken = [SIZES[format] for format in ("oasst", "hh-rlhf") if command("import", format, data_folder, "ds").code == 0]
    total = {table: sum(sizes[table] for sizes in taken) for table in ("prompts", "responses", "annotations")}
    assert total == {"prompts": 4062, "responses": 8243, "annotations": 4036}
    counts = prefdata.open("ds").counts()
    assert {table: counts[table] for table in total} == total
    merged = command("import", "prefdata", "ds", "other")
    assert merged.code == 0
    counts = prefdata.open("other").counts()
    assert {table: counts[table] for table in total} == total
    assert all(" 0 new" in line for line in command("import", "prefdata", "ds", "other").out.splitlines()[:3])
    shown = command("show", "other").out
    assert shown.startswith("commit 1: 4,062 prompts, 8,243 responses, 4,036 annotations, 0 preferences")
