"""`aggregate.mean` with `into`: one mean over all aspects that apply to a response."""

from __future__ import annotations

import pytest
from operator_shapes import consensus, said, scores_by_target

from prefdata.errors import DataError
from prefdata.operators.aggregate.mean import Mean

ROWS = [
    said(["a"], [5.0], aspect="honesty"),
    said(["a"], [2.0], aspect="helpfulness"),
    said(["b"], None, aspect="honesty", status="abstain"),  # it does not apply
    said(["b"], [4.0], aspect="helpfulness"),
]


def test_it_is_the_mean_of_the_aspects_that_apply() -> None:
    (row,) = consensus(Mean(into="overall"), ROWS)
    assert (row["aspect"], row["status"]) == ("overall", "ok")
    assert scores_by_target(row) == {"a": 3.5, "b": 4.0}
    assert {row["aspect"] for row in consensus(Mean(), ROWS)} == {"honesty", "helpfulness"}


def test_too_few_aspects_give_no_mean() -> None:
    rows = consensus(Mean(into="overall", min_valid=2), ROWS)
    assert sorted((row["status"], row["target_ids"]) for row in rows if row["status"] != "ok") == [("abstain", ["b"])]


def test_a_measure_joins_only_where_its_direction_is_said() -> None:
    rows = [*ROWS, said(["a"], [3.0], aspect="verbosity", protocol="measure")]
    with pytest.raises(DataError, match="a quantity without direction"):
        consensus(Mean(into="overall"), rows)
    (row,) = consensus(Mean(into="overall", direction={"verbosity": -1}, normalise="none"), rows)
    assert scores_by_target(row)["a"] == pytest.approx((5 + 2 - 3) / 3)


def test_a_mean_without_it_has_the_name_it_always_had() -> None:
    assert "into" not in Mean().asked()[2] and Mean(into="overall").asked()[2]["into"] == "overall"
