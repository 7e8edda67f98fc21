"""One prompt, all the way: every row that is made of it, printed from a real dataset (`pytest -s` shows the table)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pipeline_line import Line

from prefdata.dataset import Dataset
from prefdata.schema import Row

QUESTION = "Why is the sky blue?"
KEEP = "n_tokens > 30"
TABLES = ("prompts", "responses", "annotations", "drops", "preferences")


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """Three draws, both orders; some judgements come back as prose, one draw is too short, one person ranks all."""
    steps: list[dict[str, Any]] = [
        {"ingest": {"format": "prompts", "path": str(tmp_path / "prompts.jsonl")}},
        {"sample": {"engine": "writer", "n": 3}},
        {"judge.compare": {"engine": "judge", "card": "helpfulness"}},
        {"aggregate.bradley_terry": {"name": "aggregate"}},
        {"select.where": {"table": "responses", "keep": KEEP}},
        {"pair": {"min_gap": 0.1}},
    ]
    judge = {"kind": "scripted", "model": "llama", "prose_every": 4}
    made = Line(tmp_path, steps, {"writer": {"kind": "scripted", "model": "smollm2"}, "judge": judge})
    made.write_prompts([QUESTION])
    later, made.steps = made.steps[3:], made.steps[:3]
    made.run(name="walk")
    drawn = made.ds.responses.sort("n_tokens", descending=True).collect()["response_id"].to_list()
    ranking = {"target_ids": drawn, "protocol": "rank", "scores": [3, 2, 1], "annotator": "human:ann-07"}
    made.ds.label([ranking], store="team")
    made.steps += later
    made.run(name="walk")
    return made


def walk(ds: Dataset) -> list[tuple[str, str]]:
    """Table and row, of all that was written: drops beside what they hide."""
    rows = {table: ds.rows(table).collect().to_dicts() for table in TABLES}
    names = {row["prompt_id"]: f"p{n}" for n, row in enumerate(rows["prompts"], 1)}
    names |= {row["response_id"]: f"r{n}" for n, row in enumerate(rows["responses"], 1)}
    names |= {row["annotation_id"]: "the consensus" for row in rows["annotations"] if row["source"] == "consensus"}
    raws = {row["call_id"]: row["raw"] for row in ds.calls.collect().to_dicts()}

    def called(ids: list[str]) -> str:
        return f"[{', '.join(names[one] for one in ids)}]"

    def said(row: Row) -> str:
        what = f"{row['protocol']} {called(row['target_ids'])}, {row['annotator']}"
        if row["status"] != "ok":
            return f"{what}: scores {row['scores']}, status {row['status']}, raw {raws[row['call_id']][:40]!r}"
        sure = "" if row["confidence"] is None else f", confidence {row['confidence']:.2f}"
        return f"{what}: scores {[round(score, 2) for score in row['scores']]}{sure}"

    shown = {
        "prompts": lambda row: (
            f"{names[row['prompt_id']]} {row['messages'][0]['content']!r}, group {names[row['group_id']]}"
        ),
        "responses": lambda row: (
            f"{names[row['response_id']]} by {row['model']}, sample_index {row['sample_index']}, "
            f"{row['n_tokens']} tokens"
        ),
        "annotations": said,
        "drops": lambda row: f"{row['table']} {names[row['id']]}, view {row['view']}, reason {row['reason']!r}",
        "preferences": lambda row: (
            f"{names[row['prompt_id']]}: {called(row['response_ids'])}, scores "
            f"{[round(score, 2) for score in row['scores']]}, annotation_ids {called(row['annotation_ids'])}"
        ),
    }
    return [(table, f"{shown[table](row)}, step {row['step']}") for table in TABLES for row in rows[table]]


STEP = r"@[0-9a-f]{16}"


def test_the_walk(line: Line) -> None:
    found = walk(line.ds)
    print()
    for table, row in found:
        print(f"{table:<12} {row}")
    texts = {table: [row for name, row in found if name == table] for table in TABLES}

    def some(table: str, pattern: str) -> int:
        return sum(re.fullmatch(pattern, row) is not None for row in texts[table])

    assert some("prompts", rf"p1 'Why is the sky blue\?', group p1, step ingest{STEP}") == 1 == len(texts["prompts"])
    assert some("responses", rf"r[123] by smollm2, sample_index [012], \d+ tokens, step sample{STEP}") == 3
    judge = r"judge:llama/helpfulness@[0-9a-f]{8}"
    verdict = (
        rf"compare \[r\d, r\d\], {judge}: scores \[(1\.0, 0\.0|0\.0, 1\.0|0\.5, 0\.5)\], step judge\.compare{STEP}"
    )
    prose = rf"compare \[r\d, r\d\], {judge}: scores None, status unparsed, raw '.+', step judge\.compare{STEP}"
    assert some("annotations", verdict) + some("annotations", prose) == 6 and some("annotations", prose) >= 1
    orders = [re.match(r"compare \[(r\d), (r\d)\]", row) for row in texts["annotations"]]
    shown = {match.groups() for match in orders if match}
    assert len(shown) == 6 and shown == {(b, a) for a, b in shown}
    person = r"rank \[r\d, r\d, r\d\], human:ann-07: scores \[3\.0, 2\.0, 1\.0\], step labels:team"
    assert some("annotations", person) == 1
    number = r"-?\d+\.\d+"
    consensus = (
        rf"score \[r\d, r\d, r\d\], consensus:bradley-terry: scores \[{number}, {number}, {number}\], "
        rf"confidence {number}, step aggregate{STEP}"
    )
    assert some("annotations", consensus) == 1 and len(texts["annotations"]) == 8
    assert some("drops", rf"responses r\d, view main, reason '{KEEP}', step select\.where{STEP}") == 1
    pair = rf"p1: \[r\d, r\d\], scores \[{number}, {number}\], annotation_ids \[the consensus\], step pair{STEP}"
    assert some("preferences", pair) == 1 == len(texts["preferences"])


def test_what_a_reader_sees_of_it(line: Line) -> None:
    """The dropped response is gone from rankings, its comparisons are hidden, and no pair has it."""
    ds = line.ds
    (dropped,) = ds.view().dropped["id"]
    live = ds.annotations.collect()
    assert dropped not in live["target_ids"].explode().to_list()
    sizes = {row["protocol"]: len(row["target_ids"]) for row in live.to_dicts()}
    assert sizes == {"compare": 2, "rank": 2, "score": 2}
    assert live.height == 2 + 1 + 1
    assert dropped not in ds.preferences.collect()["response_ids"].explode().to_list()


def steps_of(ds: Dataset) -> dict[str, str]:
    return {step.partition("@")[0]: step for step in ds.snapshot.plans["walk", 0].steps}


def test_the_two_edits_below_it(line: Line) -> None:
    before, was = steps_of(line.ds), line.live()
    people = [row for row in was["annotations"] if "human:ann-07" in row]
    line.edit("pair", min_gap=0.9)
    assert line.run(name="walk").usage.calls == 0
    after = steps_of(line.ds)
    assert {name for name in before if before[name] != after[name]} == {"pair"}
    line.edit("pair", min_gap=0.1)
    line.edit("judge.compare", card="honesty")
    assert line.run(name="walk").usage.calls == 6
    after, now = steps_of(line.ds), line.live()
    assert {name for name in before if before[name] != after[name]} == {"judge.compare", "aggregate", "pair"}
    assert now["responses"] == was["responses"] and len(people) == 1
    assert [row for row in now["annotations"] if "human:ann-07" in row] == people
    assert not any("helpfulness@" in row for row in now["annotations"])
