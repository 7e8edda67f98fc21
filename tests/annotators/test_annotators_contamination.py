"""Contamination: shares by hand, files from outside, what a hit is called, dropping by it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from column_tables import Listener, asked, judged, measures, said
from pydantic import ValidationError

import prefdata
from prefdata.annotators import Contamination
from prefdata.schema import Row

QUESTION = "one two three four five six"
PASSAGE = "Extraordinarily longwinded formulations notwithstanding everything"


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def step(tmp_path: Path, **fields: Any) -> Contamination:
    file = write(
        tmp_path / "bench.jsonl", {"question": QUESTION, "id": "q1"}, {"question": PASSAGE, "answers": ["yes"]}
    )
    return Contamination(**{"protected": {"bench": file}, "n": 3, **fields})


def hits(rows: list[Row]) -> dict[str, list[str]]:
    return {row["target_ids"][0]: row["labels"] for row in rows if row["protocol"] == "label"}


def test_shares_and_hits_by_hand(tmp_path: Path) -> None:
    prompts = [
        asked("a", "Please: ONE two, three four!"),  # two of four trigrams
        asked("b", "Hello", "Hi", QUESTION),
        asked("c", f"He said {PASSAGE}; why?"),
        asked("d", "nothing of the kind"),
        asked("e", "yes"),
        asked("f", "one two three"),
    ]
    listener = Listener()
    rows = judged(step(tmp_path), listener, prompts=prompts, responses=[said("r", QUESTION, "a"), said("s", None, "a")])
    assert measures(rows, "contamination") == {
        "a": 0.5, "b": 1.0, "c": 1.0, "d": 0.0, "e": 0.0, "f": 0.25, "r": 1.0, "s": None,
    }  # fmt: skip
    assert hits(rows) == {
        "a": ["bench", "ngrams"], "b": ["bench", "equal"], "c": ["bench", "passage"], "r": ["bench", "equal"],
    }  # fmt: skip
    assert listener.said[0] == "3 of 6 prompts hold protected texts: 3 of bench"
    only = judged(step(tmp_path, of=["responses"]), prompts=prompts, responses=[said("r", QUESTION, "a")])
    assert {row["target"] for row in only} == {"response"}


def test_what_is_allowed_is_no_hit(tmp_path: Path) -> None:
    rows = judged(step(tmp_path, allowed=["two three four"]), prompts=[asked("a", "one two three four")])
    assert measures(rows, "contamination") == {"a": pytest.approx(1 / 3)}


def test_files_of_all_kinds_and_their_columns(tmp_path: Path) -> None:
    text = tmp_path / "b.txt"
    text.write_text(f"{QUESTION}\n\nshort\n", encoding="utf-8")
    packed = tmp_path / "c.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps({"q": QUESTION}).encode() + b"\n"))
    table = tmp_path / "d.parquet"
    pl.DataFrame({"q": [QUESTION], "many": [[QUESTION, "and one more of these"]], "n": [1]}).write_parquet(table)
    found = []
    for file in (text, packed, table):
        made = Contamination(protected={"x": str(file)}, n=3)
        assert measures(judged(made, prompts=[asked("a", QUESTION)]), "contamination") == {"a": 1.0}
        found.append(made.resolved()["protected"])
    assert found[0] == found[1] != found[2], "what a file holds is named, not where it lies"
    one = Contamination(protected={"x": {"path": str(table), "columns": ["many"]}}, n=3)
    assert measures(judged(one, prompts=[asked("a", "and one more of these")]), "contamination") == {"a": 1.0}
    two = Contamination(protected={"x": str(text), "y": str(table)}, n=3)
    assert hits(judged(two, prompts=[asked("a", "and one more of these")])) == {"a": ["y", "equal"]}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("b.jsonl", b'{"q": "fine"}\n{"q": \n', r"b\.jsonl, row 2: it is not valid JSON"),
        ("b.jsonl", b"[" * 100_000 + b"\n", r"b\.jsonl, row 1"),
        ("b.jsonl", b"\xff\xfe{\n", r"b\.jsonl is in UTF-16"),
        ("b.jsonl.gz", b"no gzip", r"b\.jsonl\.gz cannot be read"),
        ("b.parquet", b"no parquet", r"b\.parquet cannot be read as Parquet"),
        ("b.txt", b"\xff\xff", r"b\.txt cannot be read as text"),
        ("b.txt", b"yes\nno\n", r"b\.txt holds no text of 4 words or more.*2 shorter"),
        ("b.pickle", b"", r"the end of its name says none of \.jsonl"),
        ("b.jsonl", b'{"q": 7}\n', r"holds no text of 4 words"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValidationError, match=problem):
        Contamination(protected={"x": str(tmp_path / name)})


def test_fields_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"there is no file 'nowhere\.jsonl'"):
        Contamination(protected={"x": "nowhere.jsonl"})
    with pytest.raises(ValidationError, match="protected is a mapping"):
        Contamination(protected=["a.jsonl"])
    with pytest.raises(ValidationError, match="has no column 'answer'"):
        Contamination(protected={"x": {"path": write(tmp_path / "a.jsonl", {"q": QUESTION}), "columns": ["answer"]}})
    with pytest.raises(ValidationError, match="of is empty"):
        step(tmp_path, of=[])


def test_in_a_pipeline_the_hits_are_dropped(tmp_path: Path) -> None:
    """And a file that holds something else makes another step; the same one elsewhere does not."""
    write(tmp_path / "in.jsonl", {"prompt": QUESTION}, {"prompt": "something that nobody has protected"})
    write(tmp_path / "bench.jsonl", {"question": QUESTION})
    (tmp_path / "line.yaml").write_text(
        """
steps:
  - ingest: {path: in.jsonl}
  - judge.contamination: {protected: {bench: bench.jsonl}, n: 3}
  - select.threshold: {table: prompts, aspect: contamination, annotator: "rule:contamination", max: 0.49}
"""
    )
    prefdata.run(tmp_path / "line.yaml", tmp_path / "ds")
    assert prefdata.open(tmp_path / "ds").prompts.collect().height == 1
    drops = prefdata.open(tmp_path / "ds").view()["drops"].collect()
    assert drops["reason"].to_list() == ["contamination by rule:contamination > 0.49"]
    write(tmp_path / "bench.jsonl", {"question": "something that nobody has protected"})
    prefdata.run(tmp_path / "line.yaml", tmp_path / "ds")
    (left,) = prefdata.open(tmp_path / "ds").prompts.collect()["messages"].to_list()
    assert left[0]["content"] == QUESTION
