"""A `pair` that reads votes and values beside a consensus: what it pairs, what runs it again, what it costs."""

from __future__ import annotations

from typing import Any

import polars as pl
import yaml
from pipeline_line import Line

from prefdata.dataset.closure import Target
from prefdata.dataset.erase import erase
from prefdata.pipeline.plan import plan
from prefdata.pipeline.spec import parse

RULES = {"judge.rules": {"rules": ["length"], "combine": "none"}}


def preferences(line: Line) -> list[dict[str, Any]]:
    rows = line.ds.preferences.collect().drop("step").sort("group_id").to_dicts()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def laid(line: Line, **fields: Any) -> None:
    line.edit("pair", **fields)


def test_the_same_pairs_with_more_to_them(line: Line) -> None:
    line.steps.insert(3, RULES)
    line.run()
    before = preferences(line)
    calls = line.run().usage.calls
    laid(line, p="votes", margin="scores", values={"long": "rule:length"})
    assert line.run().usage.calls == calls == 0
    after = preferences(line)
    own = ("edges", "values", "preference_id", "annotation_ids")
    assert [{name: row[name] for name in row if name not in own} for row in after] == [
        {name: row[name] for name in row if name not in own} for row in before
    ]
    assert all(row["edges"][0]["votes"] == 1 and row["values"][0]["name"] == "long" for row in after)
    assert {row["preference_id"] for row in after}.isdisjoint(row["preference_id"] for row in before)
    commits = line.ds.snapshot.number
    line.run()
    assert line.ds.snapshot.number == commits, "a second run does nothing"
    line.steps[-1]["pair"] = {"rule": "best_worst", "min_gap": 0.1}
    line.run()
    assert preferences(line) == before


def test_groups_without_a_consensus_are_not_paired_behind_its_back(line: Line) -> None:
    """What is laid down decides about no row: not where the aggregate has nothing to say either."""
    line.steps.insert(3, RULES)
    line.edit("aggregate.bradley_terry", annotators=["human:*"])
    line.run()
    assert preferences(line) == []
    laid(line, p="votes", values={"long": "rule:length"})
    line.run()
    assert preferences(line) == []


def test_a_number_that_changes_runs_its_group_and_no_other(line: Line) -> None:
    line.run()
    laid(line, values={"people": "human:*"})
    line.run()
    before = preferences(line)
    assert all("values" not in row for row in before)
    one = before[3]
    said = {"protocol": "score", "annotator": "human:a", "scores": [4.0], "target_ids": one["response_ids"][:1]}
    line.ds.label([said])
    line.run()
    after = preferences(line)
    assert after[3]["values"] == [{"name": "people", "values": [4.0, None]}]
    assert [row for place, row in enumerate(after) if place != 3] == [
        row for place, row in enumerate(before) if place != 3
    ]


def test_a_vote_that_is_cast_later_counts(line: Line) -> None:
    """The consensus is of one judge; the vote of a person changes nothing in it, and p."""
    line.edit("aggregate.bradley_terry", annotators=["judge:*"])
    line.run()
    laid(line, p="votes")
    line.run()
    row = preferences(line)[0]
    assert row["edges"][0]["votes"] == 1
    one, other = row["response_ids"]
    line.ds.label([{"protocol": "compare", "annotator": "human:a", "scores": [0.0, 1.0], "target_ids": [one, other]}])
    line.run()
    edge = preferences(line)[0]["edges"][0]
    assert edge["votes"] == 2 and edge["p"] == (row["edges"][0]["p"] + 0) / 2


def test_what_an_annotator_said_is_erased_from_where_it_is_laid_down(line: Line) -> None:
    """The preference goes with its number, at every commit, and comes back without it; others stay as they are."""
    line.edit("aggregate.bradley_terry", annotators=["judge:*"])
    laid(line, p="votes", values={"people": "human:*"})
    line.run()
    before = preferences(line)
    ids = before[2]["response_ids"]
    line.ds.label([{"protocol": "score", "annotator": "human:a", "scores": [4.25], "target_ids": ids[:1]}])
    line.run()
    assert preferences(line)[2]["values"] == [{"name": "people", "values": [4.25, None]}]
    erase(line.ds, Target("annotator", "human:a"), lambda ids, groups: 0)
    assert not line.ds.rows("preferences").filter(pl.col("values").is_not_null()).collect().height
    line.run()
    assert preferences(line) == before


def test_a_plan_is_an_upper_bound(line: Line) -> None:
    laid(line, p="votes", margin="scores", values={"wins": {"annotator": "judge:*", "protocol": "compare"}})
    line.steps.append({"judge.rationale": {"engine": "judge"}})
    text = yaml.safe_dump({"engines": line.engines, "steps": line.steps}, sort_keys=False)

    def planned() -> int:
        return plan(parse(text, file="line.yaml", folder=line.folder, name="line"), line.path).calls

    before, done = planned(), line.run()
    assert line.ds.preferences.select(pl.len()).collect().item() > 0
    assert before >= done.usage.calls > 0 and planned() == 0
