"""Real preference data in and out again by the command line, without a pipeline and without a model."""

from __future__ import annotations

import json
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


@pytest.mark.slow
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


# Bad rows


def numbered(*bad: tuple[int, bytes], count: int = 30) -> bytes:
    lines = [json.dumps({"prompt": f"What is {n}?"}).encode() for n in range(count)]
    for row, line in bad:
        lines[row - 1] = line
    return b"".join(line + b"\n" for line in lines)


def test_a_broken_line_is_kept_and_the_rest_is_taken(command: Command) -> None:
    source = Path("prompts.jsonl")
    source.write_bytes(numbered((17, b'{"prompt": "What'), (20, b'{"prompt": "\xff"}'), (21, b'{"prompt": ""}')))
    for new in ("27 new", "0 new, 27 were there"):
        said = command("import", "prompts", source, "ds")
        assert said.code == 0 and f"prompts: {new}\n" in said.out
        assert said.err.startswith("WARNING: 3 rows of prompts.jsonl could not be read and are kept in ds/quarantine/")
        assert "row 17: it is not valid JSON: Unterminated string starting at (character 12);" in said.err
        (file,) = Path("ds/quarantine").iterdir()
        kept = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert [(row["file"], row["row"]) for row in kept] == [("prompts.jsonl", row) for row in (17, 20, 21)]
        assert kept[1]["raw"] == '{"prompt": "\ufffd"}'
    commit = prefdata.open("ds").snapshot.number
    source.write_bytes(numbered((17, b'{"prompt": "What'), (21, b'{"prompt": ""}')))
    assert "2 rows of prompts.jsonl" in command("import", "prompts", source, "ds").err
    source.write_bytes(numbered())
    said = command("import", "prompts", source, "ds")
    assert (said.code, said.err) == (0, "") and "prompts: 2 new, 28 were there\n" in said.out
    assert not Path("ds/quarantine").exists() and prefdata.open("ds").snapshot.number == commit + 2


def test_strict_takes_nothing(command: Command) -> None:
    Path("prompts.jsonl").write_bytes(numbered((17, b"{")))
    said = command("import", "prompts", "prompts.jsonl", "ds", "--strict")
    assert said.code == 1 and said.err.startswith("error: prompts.jsonl, row 17: it is not valid JSON: Expecting")
    assert not Path("ds").exists()


def test_where_no_row_is_good_there_is_no_dataset(command: Command) -> None:
    Path("prompts.jsonl").write_bytes(b"{\n}\n")
    said = command("import", "prompts", "prompts.jsonl", "ds")
    assert said.code == 1 and len(said.err.splitlines()) == 1
    assert (
        "prompts.jsonl: none of its 2 rows can be read, so nothing was taken: row 1: it is not valid JSON" in said.err
    )
    assert not Path("ds").exists()


def test_what_is_left_out_by_rule_and_what_is_bad_are_told_together(command: Command) -> None:
    same = json.dumps({"prompt": "P", "chosen": "a", "rejected": "a"})
    Path("pairs.jsonl").write_text(f"{same}\n{{\n")
    said = command("import", "trl-pairs", "pairs.jsonl", "ds")
    assert said.code == 1 and "1 left out: same text; 1 row of pairs.jsonl could not be read: row 2:" in said.err
    assert not Path("ds").exists()


def test_two_files_of_one_name_do_not_share_what_is_kept(command: Command) -> None:
    for folder, row in (("a", 3), ("b", 4)):
        Path(folder).mkdir()
        Path(folder, "p.jsonl").write_bytes(numbered((row, b"{")))
        assert command("import", "prompts", f"{folder}/p.jsonl", "ds").code == 0
    assert len(list(Path("ds/quarantine").iterdir())) == 2


def test_what_an_import_does_not_change_is_said(command: Command) -> None:
    def write(text: str, reference: str) -> None:
        pair = {"prompt": "P", "chosen": text, "rejected": "b", "id": "1", "chosen_id": "x"}
        Path("pairs.jsonl").write_text(json.dumps(pair) + "\n")
        Path("prompts.jsonl").write_text(json.dumps({"prompt": "Q", "reference": reference, "tags": "a"}) + "\n")

    write("a", "right")
    for _ in range(2):
        for format, name in (("trl-pairs", "pairs.jsonl"), ("prompts", "prompts.jsonl")):
            said = command("import", format, name, "ds").out
            assert "earlier" not in said and "another" not in said
    write("a, put right", "wrong")
    said = command("import", "trl-pairs", "pairs.jsonl", "ds").out
    assert "responses: 1 new, 1 were there\n" in said
    assert "earlier imports of pairs.jsonl brought 1 responses, 1 annotations that are not in it now" in said
    assert "so they stay live" in said
    said = command("import", "prompts", "prompts.jsonl", "ds").out
    assert "prompts: 1 are there with another references: an import changes nothing that is there" in said
    (row,) = [row for row in prefdata.open("ds").prompts.collect().to_dicts() if row["references"]]
    assert row["references"] == ["right"]


def test_where_the_quarantine_cannot_be_written_nothing_is_taken(command: Command) -> None:
    Path("one.jsonl").write_bytes(numbered(count=1))
    command("import", "prompts", "one.jsonl", "ds")
    Path("ds/quarantine").write_text("somebody's file")
    Path("prompts.jsonl").write_bytes(numbered((17, b"{")))
    said = command("import", "prompts", "prompts.jsonl", "ds")
    assert said.code == 1 and "cannot be written" in said.err
    assert prefdata.open("ds").counts()["prompts"] == 1
