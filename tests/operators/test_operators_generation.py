"""Candidate generation in whole pipelines: what a run makes, what the plan says of it, and what an edit draws anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import run
from prefdata.dataset import Dataset
from prefdata.pipeline.plan import plan
from prefdata.schema import Row

ENGINES = """
engines:
  a: {kind: scripted, model: first}
  b: {kind: scripted, model: second}
  c: {kind: scripted, model: third}
steps:
  - ingest: {path: prompts.jsonl}
"""


class Line:
    """A pipeline that can be edited, over prompts that can become more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts(4)

    def prompts(self, count: int) -> None:
        rows = [f'{{"prompt": "Name {number} uses of a brick.", "source": "bricks"}}' for number in range(2, 2 + count)]
        (self.folder / "prompts.jsonl").write_text("\n".join(rows))

    def _written(self, steps: str) -> Path:
        path = self.folder / "line.yaml"
        path.write_text(ENGINES + steps)
        return path

    def run(self, steps: str) -> Dataset:
        assert run(self._written(steps), self.folder / "dataset").exit_code == 0
        return Dataset(self.folder / "dataset")

    def planned(self, steps: str) -> dict[str, tuple[int, bool]]:
        made = plan(self._written(steps), self.folder / "dataset")
        return {step.name: (step.calls, step.exact) for step in made.steps if step.calls}


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def rows(dataset: Dataset, table: str = "responses", step: str | None = None) -> list[Row]:
    frame: pl.LazyFrame = getattr(dataset, table)
    found: list[dict[str, Any]] = frame.collect().to_dicts()
    return [row for row in found if step is None or row["step"].partition("@")[0] == step]


def calls(dataset: Dataset) -> Counter[str]:
    return Counter(row["step"].partition("@")[0] for row in rows(dataset, "calls") if not row["cached"])


GENERATION = """
  - sample: {engine: [a, b], n: 2, max_tokens: 40}
  - sample: {name: pool, members: [{engine: a, temperature: 0.3}, {engine: a}, {engine: b}], mode: pool, m: 2, n: 1}
  - sample: {name: ladder, engine: [a, b, c], mode: ladder}
  - sample: {name: anchor, engine: [a, b], mode: anchor, n: 3, temperature: 0.9}
  - sample: {name: joint, engine: c, mode: joint, n: 3}
"""


def test_l5_the_plan_counts_every_mode(line: Line) -> None:
    """sample P*K, pool P*m, ladder P*rungs, anchor P*(k+1), joint P."""
    expected = {"sample": 16, "pool": 8, "ladder": 12, "anchor": 16, "joint": 4}
    assert line.planned(GENERATION) == {name: (count, True) for name, count in expected.items()}
    made = line.run(GENERATION)
    assert calls(made) == expected
    assert Counter(row["step"].partition("@")[0] for row in rows(made)) == {**expected, "joint": 12}
    assert line.planned(GENERATION) == {}


def test_the_rows_of_a_joint_call_share_it(line: Line) -> None:
    made = rows(line.run("  - sample: {engine: a, mode: joint, n: 3}\n"))
    per_call = Counter(row["call_id"] for row in made)
    assert len(made) == 12 and list(per_call.values()) == [3, 3, 3, 3]
    assert all(len({row["text"] for row in made if row["call_id"] == call}) == 3 for call in per_call)


def test_one_more_member_and_one_more_prompt_draw_nothing_else_anew(line: Line) -> None:
    pool = "  - sample: {{mode: pool, m: 2, n: 1, members: [{{engine: a}}, {{engine: a, temperature: 1.2}}{more}]}}\n"
    before = rows(line.run(pool.format(more="")))
    assert len(before) == 8
    line.prompts(6)
    more = line.run(pool.format(more=", {engine: b}, {engine: c, system: Be brief.}"))
    after = {row["response_id"]: row for row in rows(more)}
    kept = [row for row in before if row["response_id"] in after]
    assert kept and all(after[row["response_id"]]["text"] == row["text"] for row in kept)
    assert calls(more)["sample"] == 8 + len(after) - len(kept)
    line.run(pool.format(more=""))
    assert {row["response_id"] for row in before} <= {
        row["response_id"] for row in rows(line.run(pool.format(more="")))
    }


ROUNDS = """
  - sample: {engine: a, n: 1, max_tokens: 40}
  - judge.critique: {name: critique-1, engine: b, from: [sample], max_tokens: 60}
  - rewrite.refine: {name: refine-1, engine: a, from: [sample], max_tokens: 60, least_ratio: 0, most_ratio: 99}
  - judge.critique: {name: critique-2, engine: b, from: [refine-1], max_tokens: 60}
  - rewrite.refine: {name: refine-2, engine: a, from: [refine-1], max_tokens: 60, least_ratio: 0, most_ratio: 99}
  - pair.refined: {rule: first_last}
  - pair.refined: {name: steps, rule: adjacent}
"""


def test_two_rounds_of_critique_make_three_versions(line: Line) -> None:
    """Fellowship: n rounds give n + 1 versions with parent links; the last is preferred to the first."""
    assert {name: count for name, (count, _) in line.planned(ROUNDS).items()} == dict.fromkeys(
        ("sample", "critique-1", "refine-1", "critique-2", "refine-2"), 4
    )
    made = line.run(ROUNDS)
    by_id = {row["response_id"]: row for row in rows(made)}
    assert len(by_id) == 12
    for row in rows(made, step="refine-2"):
        middle = by_id[row["parent_id"]]
        assert (
            by_id[middle["parent_id"]]["step"].startswith("sample@") and by_id[middle["parent_id"]]["parent_id"] is None
        )
    for row in rows(made, "preferences", "pair.refined"):
        last, first = (by_id[name] for name in row["response_ids"])
        assert last["step"].startswith("refine-2@") and first["step"].startswith("sample@")
    assert len(rows(made, "preferences", "pair.refined")) == 4 and len(rows(made, "preferences", "steps")) == 8
    assert {row["prompt_id"] for row in rows(made, "preferences")} == {
        row["prompt_id"] for row in rows(made, "prompts")
    }


def test_the_plan_counts_what_follows_a_critique_with_a_score(line: Line) -> None:
    """Whether a score can be read nobody knows beforehand; the critique beside it is refined in any case."""
    steps = ROUNDS.replace(
        "from: [sample], max_tokens: 60}", "from: [sample], card: ultrafeedback-critique, score: true, reask: 2}", 1
    )
    planned = line.planned(steps)
    assert planned["critique-1"] == (12, False) and planned["refine-1"][0] == 4
    assert all(count <= planned[name][0] for name, count in calls(line.run(steps)).items())


def test_l11_the_judge_never_sees_what_a_response_was_drawn_under(line: Line) -> None:
    """A judge that sees the system text says so, in prose that cannot be read."""
    spy = '  j: {kind: scripted, replies: {"BE A PIRATE|second|temperature": seen}}\nsteps:'
    path = line.folder / "spy.yaml"
    path.write_text(
        ENGINES.replace("steps:", spy)
        + "  - sample: {members: [{engine: a}, {engine: b, temperature: 1}], n: 1, systems: [BE A PIRATE]}\n"
        + "  - judge.score: {engine: j}\n"
    )
    assert run(path, line.folder / "spied").exit_code == 0
    judged = rows(Dataset(line.folder / "spied"), "annotations")
    assert len(judged) == 8 and {row["status"] for row in judged} == {"ok"}
    path.write_text(path.read_text().replace("replies: {", "replies: {brick: seen, "))
    assert run(path, line.folder / "seen").exit_code == 0
    assert {row["status"] for row in rows(Dataset(line.folder / "seen"), "annotations")} == {"unparsed"}


WORSE = """
  - sample: {engine: a, n: 2, max_tokens: 60}
  - rewrite.corrupt: {name: cut, how: truncate, from: [sample]}
  - rewrite.rephrase: {engine: b, from: [sample], max_tokens: 60}
  - judge.rules: {}
  - judge.score: {engine: c, from: [cut, rewrite.rephrase]}
  - pair.refined: {better: parent}
"""


def test_what_is_no_rewriting_is_dropped_and_the_plan_is_never_exceeded(line: Line) -> None:
    planned = line.planned(WORSE)
    made = line.run(WORSE)
    dropped = rows(made, "drops")
    assert {row["reason"] for row in dropped} <= {"no_change", "length_ratio"} and dropped
    assert not {row["id"] for row in dropped} & {row["response_id"] for row in rows(made)}
    for name, count in calls(made).items():
        limit, exact = planned[name]
        assert count <= limit and (count == limit or not exact)
    assert planned["judge.score"][1] is False
    cut = {row["response_id"]: row for row in rows(made, step="cut")}
    pairs = rows(made, "preferences")
    assert len(pairs) == len(cut) > 0 and {row["response_ids"][1] for row in pairs} == set(cut)


CONDITIONED = """
  - condition: {texts: [Be brief., Be kind.], kind: principle}
  - sample: {engine: a, n: 1}
  - judge.score: {engine: b}
  - pair.ladder: {engines: [a, b]}
"""


def test_derived_prompts_are_answered_in_the_group_of_their_root(line: Line) -> None:
    before = line.run(CONDITIONED)
    prompts = {row["prompt_id"]: row for row in rows(before, "prompts")}
    answers = rows(before)
    assert len(prompts) == 12 and len(answers) == 8 and calls(before) == {"sample": 8, "judge.score": 8}
    assert {prompts[row["prompt_id"]]["condition"]["text"] for row in answers} == {"Be brief.", "Be kind."}
    assert {row["group_id"] for row in answers} == {row for row in prompts if prompts[row]["parent_id"] is None}
    line.prompts(5)
    after = line.run(CONDITIONED.replace("Be kind.", "Be kind., Be exact."))
    assert {row["response_id"] for row in answers} < {row["response_id"] for row in rows(after)}
    assert calls(after)["sample"] == 15


def test_a_ladder_over_engines_asks_nobody(line: Line) -> None:
    steps = "  - sample: {engine: [a, b], mode: ladder}\n  - pair.ladder: {engines: [a, b]}\n"
    made = line.run(steps)
    model = {row["response_id"]: row["model"] for row in rows(made)}
    pairs = rows(made, "preferences")
    assert [[model[name] for name in row["response_ids"]] for row in pairs] == [["first", "second"]] * 4
    assert calls(made) == {"sample": 8}
    turned = rows(
        line.run(steps.replace("pair.ladder: {engines: [a, b]}", "pair.ladder: {engines: [b, a]}")), "preferences"
    )
    assert sorted(row["response_ids"] for row in turned) == sorted(row["response_ids"][::-1] for row in pairs)
