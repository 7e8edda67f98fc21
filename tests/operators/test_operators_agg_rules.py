"""Rules without a model: median, trimmed mean, most agreeing, unanimity, self-consistency, shares of wins."""

from __future__ import annotations

import pytest
from operator_shapes import FakeContext, consensus, said, scores_by_target

from prefdata.errors import DataError
from prefdata.operators.aggregate.agreeing import Agreeing
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean, Median, TrimmedMean
from prefdata.operators.aggregate.self_consistency import SelfConsistency
from prefdata.operators.aggregate.win_proportion import WinProportion
from prefdata.pipeline.registry import STEPS
from prefdata.schema import Row


def rated(values: list[float], target: str = "a", **columns: object) -> list[Row]:
    return [said([target], [value], annotator=f"human:{place}", **columns) for place, value in enumerate(values)]


def value_of(rows: list[Row]) -> float:
    (row,) = rows
    assert row["status"] == "ok"
    return scores_by_target(row)["a"]


def test_a_wild_score_moves_the_mean_and_not_the_median() -> None:
    assert value_of(consensus(Median(), rated([1, 3, 2]))) == 2
    assert value_of(consensus(Median(), rated([1, 3, 2, 100], aspect="x"))) == 2.5
    assert value_of(consensus(Mean(), rated([1, 3, 2, 100]))) == 26.5
    assert value_of(consensus(Median(weights={"human:2": 5}), rated([1, 3, 2, 100]))) == 2
    assert value_of(consensus(Median(weights={"human:3": 3}), rated([1, 3, 2, 100]))) == (3 + 100) / 2


def test_a_trimmed_mean_cuts_a_share_of_the_weight() -> None:
    assert value_of(consensus(TrimmedMean(share=0.2), rated([0, 1, 2, 3, 100]))) == 2
    # Of four votes a share of 0.2 is 0.8 of a vote: 0.2 of the extremes stay. (0.2*0 + 1 + 2 + 0.2*10) / 2.4
    assert value_of(consensus(TrimmedMean(share=0.2), rated([0, 1, 2, 10]))) == pytest.approx(5 / 2.4, abs=1e-12)
    assert value_of(consensus(TrimmedMean(share=0), rated([0, 1, 2, 10]))) == 3.25
    assert value_of(consensus(TrimmedMean(), rated([7]))) == 7
    # A share of 0.4 of five votes leaves the middle one, as the median does.
    assert value_of(consensus(TrimmedMean(share=0.4), rated([0, 1, 2, 3, 100]))) == 2


def test_one_median_over_all_aspects() -> None:
    rows = [said(["a"], [value], aspect=aspect) for value, aspect in ((1, "x"), (5, "y"), (4, "z"))]
    (row,) = consensus(Median(into="overall"), rows)
    assert (row["aspect"], row["scores"]) == ("overall", [4.0])


def test_many_scores_of_one_response() -> None:
    rows = [said(["a"], [float(place)], annotator=f"human:{place}") for place in range(201)]
    assert value_of(consensus(Median(), rows)) == 100
    assert value_of(consensus(TrimmedMean(share=0.25), rows)) == 100


@pytest.mark.parametrize(
    ("ratings", "kept_mean", "spread"),
    [
        ([0, 3, 4, 4, 3], 11 / 3, 1),  # {3, 3, 4} and {3, 4, 4} are as close: the higher median
        ([2, 2, 2], 2, 0),
        ([0, 4, 1], 5 / 3, 4),
        ([4, 1], 2.5, 3),  # fewer than k: all of them
        ([0, 0, 0, 4, 4], 0, 0),
    ],
)
def test_the_most_agreeing_three(ratings: list[float], kept_mean: float, spread: float) -> None:
    (row,) = consensus(Agreeing(), rated(ratings))
    assert row["scores"] == [pytest.approx(kept_mean)]
    assert row["confidence"] == pytest.approx(1 / (1 + spread))


def test_most_agreeing_rounds_and_abstains_above_a_spread() -> None:
    rows = rated([0, 3, 4, 4, 3]) + rated([0, 2, 4], target="b")
    made = consensus(Agreeing(rounded=True, max_spread=2), rows)
    assert [(row["target_ids"], row["scores"], row["status"]) for row in made] == [
        (["a"], [4.0], "ok"),
        (["b"], None, "abstain"),
    ]
    assert "weights" not in Agreeing.model_fields


def test_unanimity_is_a_majority_with_all_the_votes() -> None:
    yes, no = ({"protocol": "label", "labels": [label]} for label in ("yes", "no"))
    split = [said(["a"], None, annotator=f"j:{place}", **(no if place == 2 else yes)) for place in range(3)]
    (row,) = consensus(Majority(share=1), split)
    assert (row["status"], row["labels"]) == ("abstain", None)
    (row,) = consensus(Majority(share=2 / 3), split)
    assert (row["labels"], row["confidence"]) == (["yes"], pytest.approx(2 / 3))
    (row,) = consensus(Majority(share=1), split[:2])
    assert row["labels"] == ["yes"]
    pair = [said(["a", "b"], [1, 0], annotator="j:1"), said(["a", "b"], [0, 1], annotator="j:2")]
    assert consensus(Majority(share=1), pair)[0]["status"] == "abstain"


def test_a_soft_majority_states_the_share_of_the_votes() -> None:
    rows = [said(["a", "b"], p, annotator=f"j:{n}") for n, p in enumerate([[1, 0], [1, 0], [0, 1], [0.5, 0.5]])]
    (row,) = consensus(Majority(soft=True), rows)
    assert row["target_ids"] == ["a", "b"] and row["scores"] == [0.625, 0.375] and row["confidence"] == 0.5
    (even,) = consensus(Majority(soft=True), rows[1:3])
    assert (even["scores"], even["status"]) == ([0.5, 0.5], "ok")
    assert consensus(Majority(), rows[1:3])[0]["status"] == "abstain"


def test_fields_that_came_later_do_not_rename_what_is_there() -> None:
    assert {"share", "soft", "weights"}.isdisjoint(Majority().asked()[2])
    assert Majority(share=1).asked()[2]["share"] == 1
    assert "into" not in Mean().asked()[2]


def test_both_orders_of_one_judge_are_merged() -> None:
    for p, wanted in (([1, 0], [1, 0]), ([0, 1], [0.5, 0.5])):  # the same response twice, or the first shown twice
        rows = [said(["a", "b"], [1, 0]), said(["b", "a"], p[::-1])]
        assert consensus(Majority(), rows)[0]["scores"] == wanted


def test_what_one_judge_says_most_often() -> None:
    rows = [said(["a"], [value], replicate=n) for n, value in enumerate([4, 4, 2])]
    rows += [said(["a"], None, replicate=3, status="unparsed")]
    (row,) = consensus(SelfConsistency(), rows)
    assert (row["protocol"], row["scores"]) == ("score", [4.0])
    assert row["confidence"] == pytest.approx(2 / 3)
    labels = [
        said(["a"], None, replicate=n, protocol="label", labels=[label]) for n, label in enumerate(["no", "yes", "no"])
    ]
    assert consensus(SelfConsistency(), labels)[0]["labels"] == ["no"]
    pair = [said(["a", "b"], p, replicate=n) for n, p in enumerate([[1, 0], [1, 0], [0, 1]])]
    assert consensus(SelfConsistency(), pair)[0]["scores"] == [1.0, 0.0]
    tied = [said(["a"], [value], replicate=n) for n, value in enumerate([4, 2])]
    assert consensus(SelfConsistency(), tied)[0]["status"] == "abstain"
    with pytest.raises(DataError, match="has 2 annotators of aspect 'overall'"):
        consensus(SelfConsistency(), [*rows, said(["a"], [1], annotator="judge:b")])


def test_the_share_of_wins_counts_each_opponent_once() -> None:
    # B05: P(A > B) = .6, P(B > C) = .9, P(C > A) = .7
    rows = [said(["A", "B"], [0.6, 0.4]), said(["B", "C"], [0.9, 0.1]), said(["C", "A"], [0.7, 0.3])]
    (row,) = consensus(WinProportion(), rows)
    assert scores_by_target(row) == pytest.approx({"A": 0.45, "B": 0.65, "C": 0.40})
    again = [said(["A", "B"], [0.6, 0.4], replicate=n) for n in range(1, 9)]
    (row,) = consensus(WinProportion(), [*rows, *again])
    assert scores_by_target(row)["A"] == pytest.approx(0.45)


def test_opponents_that_never_met_are_counted() -> None:
    context = FakeContext()
    (row,) = consensus(WinProportion(), [said(["a", "b"], [1, 0]), said(["c", "d"], [0.5, 0.5])], context)
    assert scores_by_target(row) == {"a": 1, "b": 0, "c": 0.5, "d": 0.5}
    assert context.said == ["4 of 6 pairs of responses were never compared: left out of the shares"]


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), None])
@pytest.mark.parametrize("kind", sorted(kind for kind in STEPS if kind.startswith("aggregate.")))
def test_a_score_that_is_no_number_is_refused(kind: str, bad: float | None) -> None:
    fields = {
        "aggregate.direction": {"along": {"overall": 1}},
        "aggregate.gated": {"levels": [{"aspect": "overall", "least": 0}]},
    }
    row = {**said(["a"], [1.0]), "scores": [bad]}
    with pytest.raises(DataError, match="missing or not a finite number"):
        consensus(STEPS[kind](**fields.get(kind, {})), [row])
