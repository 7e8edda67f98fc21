"""Splitting: exact counts, whole groups, and rows named by all that was read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_shapes import FakeContext, run
from pydantic import ValidationError

from prefdata.operators.split import Split, shares
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
    assert context.said == ["12 train, 4 valid, 0 test groups"]


def test_counts_are_exact() -> None:
    assert shares(100, 0.29, 0.01) == (29, 1)
    assert shares(30, 0.1, 0.1) == (3, 3)
    assert shares(5, 0.1, 0.0) == (1, 0)  # half a group each: valid first
    assert shares(10, 0.35, 0.0) == (4, 0)  # 0.35 is three and a half of ten, though its binary fraction is less
    assert shares(3, 0.1, 0.0) == (0, 0)
    assert shares(0, 0.5, 0.5) == (0, 0)
    assert shares(7, 1.0, 0.0) == (7, 0)


@given(st.integers(0, 500), st.integers(0, 100), st.integers(0, 100))
def test_counts_are_within_one_of_the_share(n: int, a: int, b: int) -> None:
    if a + b > 100:
        a, b = 100 - a, 100 - b
    valid, test = shares(n, a / 100, b / 100)
    assert abs(valid - n * a / 100) < 1 and abs(test - n * b / 100) < 1 and valid + test <= n


def test_a_change_of_one_share_leaves_the_other_in_place() -> None:
    rows = prompts(40)
    small, both = labels(Split(valid=0.2), rows), labels(Split(valid=0.2, test=0.3), rows)
    assert {g for g, name in small.items() if name == "valid"} == {g for g, name in both.items() if name == "valid"}
    wide = labels(Split(valid=0.4), rows)
    assert {g for g, name in small.items() if name == "valid"} < {g for g, name in wide.items() if name == "valid"}


def test_seeds_and_groups_name_the_rows() -> None:
    rows = prompts(20)

    def ids(step: Split, rows: list[Row]) -> set[str]:
        return {row["annotation_id"] for row in run(step, prompts=rows)["annotations"]}

    assert labels(Split(seed=1), rows) != labels(Split(seed=2), rows)
    assert ids(Split(), rows) == ids(Split(), rows[::-1])
    assert not ids(Split(), rows) & ids(Split(), prompts(21))
    assert not ids(Split(), rows) & ids(Split(seed=1), rows)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than 1"):
        Split(valid=0.7, test=0.4)
