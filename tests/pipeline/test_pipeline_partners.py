"""A step that meets partner groups: who is whose partner, what a new prompt runs again, what stays."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from pipeline_line import Line

from prefdata.dataset import Dataset
from prefdata.pipeline.progress import partners_of, with_partners
from prefdata.pipeline.reparse import reparse
from prefdata.pipeline.status import status
from prefdata.schema import make_id

ids = st.sets(st.integers(0, 10**6).map(lambda n: make_id("g", n)), max_size=12)


@given(ids, st.integers(0, 10**6))
def test_partners_form_one_ring_that_a_group_more_opens_in_one_place(groups: set[str], number: int) -> None:
    partner = partners_of(groups)
    if len(groups) < 2:
        assert partner == {}
        return
    assert set(partner) == set(partner.values()) == groups
    assert all(group != other for group, other in partner.items())
    seen, at = [], min(groups)
    for _ in groups:
        seen.append(at)
        at = partner[at]
    assert set(seen) == groups  # one ring, not several
    new = make_id("new", number)
    if new not in groups:
        wider = partners_of(groups | {new})
        assert sum(wider[group] != partner[group] for group in groups) == 1


def test_what_the_partner_says_is_input() -> None:
    before = with_partners({"a": "1", "b": "2", "c": "3"})
    after = with_partners({"a": "1", "b": "changed", "c": "3"})
    assert sum(before[group] != after[group] for group in before) == 2
    assert with_partners({"alone": "1"}) == {"alone": "1"}


def joint_line(folder: Path, prompts: int, shards: int = 1) -> Line:
    line = Line(
        folder,
        [
            {"ingest": {"format": "prompts", "path": str(folder / "prompts.jsonl")}},
            {"sample": {"engine": ["a"], "n": 2, "max_tokens": 32}},
            {"judge.compare_joint": {"engine": "judge", "card": "dove", "orders": "both"}},
            {"aggregate.majority": {}},
            {"pair.joint": {"rule": "all_pairs"}},
        ],
    )
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(prompts))
    Dataset.create(line.path, shards=shards)
    return line


def compared(line: Line) -> pl.DataFrame:
    return line.ds.view()["annotations"].filter(pl.col("protocol") == "compare", pl.col("source") == "judge").collect()


def test_a_prompt_more_asks_about_two_pairs_and_leaves_the_rest(tmp_path: Path) -> None:
    line = joint_line(tmp_path, 6)
    line.run()
    assert line.run().usage.calls == 0
    before = compared(line)
    assert before.height == 12 and before["prompt_id"].null_count() == 12
    line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(7))
    result = line.run()
    after = compared(line)
    # The new prompt's two responses; its pair and its new neighbour's, each in both orders.
    assert result.usage.calls == 2 + 4
    assert after.height == 14 and set(after["annotation_id"]) - set(before["annotation_id"])
    assert len(set(before["annotation_id"]) - set(after["annotation_id"])) == 2
    assert not any("not finished" in step.note for step in status(line.ds).steps)


def test_joint_preferences_of_several_shards(tmp_path: Path) -> None:
    line = joint_line(tmp_path, 12, shards=3)
    line.run()
    rows = line.ds.view()["preferences"].collect()
    assert rows.height and set(rows["kind"]) == {"joint"}
    group = dict(line.ds.view()["responses"].select("response_id", "group_id").collect().iter_rows())
    assert all(len({group[one] for one in ids}) == 2 for ids in rows["response_ids"].to_list())
    assert not any("not finished" in step.note for step in status(line.ds).steps)


def test_one_prompt_alone_has_no_partner(tmp_path: Path) -> None:
    line = joint_line(tmp_path, 1)
    line.run()
    assert compared(line).is_empty()


def test_what_was_answered_is_read_again(tmp_path: Path) -> None:
    """The kept answers meet the same partners, so that a better parser finds each of them."""
    line = joint_line(tmp_path, 5)
    line.engines["judge"] = {"kind": "scripted", "model": "model-judge", "prose_every": 3}
    line.run()
    unread = compared(line).filter(pl.col("status") == "unparsed").height
    assert unread
    done = reparse(line.ds)
    assert done.unmet == 0 and done.unchanged == compared(line).height and not done.changed
