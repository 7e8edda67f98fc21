"""Splitting: exact counts, whole groups, and rows named by all that was read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_shapes import FakeContext, run
from pydantic import ValidationError

from prefdata.operators.split import Split, held_out
from prefdata.schema import Row, check_annotations


def prompts(n: int) -> list[Row]:
    return [{"prompt_id": f"g{i}", "group_id": f"g{i}", "messages": []} for i in range(n)]


def labels(step: Split, rows: list[Row]) -> dict[str, str]:
    made = run(step, prompts=rows)["annotations"]
    check_annotations(made, "split")
    return {row["target_ids"][0]: row["labels"][0] for row in made}


def test_one_label_for_each_group() -> None:
    derived = {"prompt_id": "d", "group_id": "g0", "messages": [], "parent_id": "g0"}
    context = FakeContext()
    made = run(Split(valid=0.25), context, prompts=[*prompts(16), derived])["annotations"]
    assert Counter(row["labels"][0] for row in made) == {"train": 12, "valid": 4}
    row = made[0]
    assert (row["target"], row["prompt_id"], row["target_ids"]) == ("prompt", row["group_id"], [row["group_id"]])
    assert (row["protocol"], row["annotator"], row["aspect"], row["source"]) == ("label", "rule:split", "split", "rule")
    assert context.said == ["12 groups to train on, 4 held out"]


def test_counts_are_exact() -> None:
    assert held_out(100, 0.29) == 29
    assert held_out(5, 0.1) == 1  # half a group
    assert held_out(10, 0.35) == 4  # 0.35 is three and a half of ten, though its binary fraction is less
    assert held_out(3, 0.1) == held_out(0, 0.5) == 0
    assert held_out(7, 1.0) == 7


@given(st.integers(0, 500), st.integers(0, 100))
def test_counts_are_the_nearest(n: int, share: int) -> None:
    assert abs(held_out(n, share / 100) - n * share / 100) <= 0.5 + 1e-9


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    rows = prompts(40)
    small, wide = labels(Split(valid=0.2), rows), labels(Split(valid=0.4), rows)
    assert {g for g, name in small.items() if name == "valid"} < {g for g, name in wide.items() if name == "valid"}


def test_seeds_and_groups_name_the_rows() -> None:
    rows = prompts(20)

    def ids(step: Split, rows: list[Row]) -> set[str]:
        return {row["annotation_id"] for row in run(step, prompts=rows)["annotations"]}

    assert labels(Split(seed=1), rows) != labels(Split(seed=2), rows)
    assert ids(Split(), rows) == ids(Split(), rows[::-1])
    assert not ids(Split(), rows) & ids(Split(), prompts(21))
    assert not ids(Split(), rows) & ids(Split(seed=1), rows)


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Split(valid=1.1)
