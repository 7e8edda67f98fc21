"""Measures of a model's numbers, by hand and against brute force."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.evaluate.measures import Judged, edges_of, gaps_of, measures, right
from prefdata.train.preferences import Edge, PreferenceList, Prompt, Response


def judged(
    number: int,
    scores: list[float],
    *,
    reward: list[float] | None = None,
    lp: list[float] | None = None,
    ref: list[float] | None = None,
    lengths: list[int] | None = None,
    edges: list[Edge] | None = None,
    aspect: str = "",
    annotator: str = "",
) -> Judged:
    count = len(scores)
    falling = [Edge(i, j) for i in range(count) for j in range(count) if scores[i] > scores[j]]
    source = PreferenceList(
        row=number,
        group=f"g{number}",
        held_out=True,
        prompts=[Prompt("question")],
        responses=[
            Response(f"answer {place}", score=score, rank=1 + sum(other > score for other in scores))
            for place, score in enumerate(scores)
        ],
        edges=falling if edges is None else edges,
        aspect=aspect,
        annotator=annotator,
    )

    def array(values: list[float] | None) -> np.ndarray | None:
        return None if values is None else np.array(values, dtype=np.float64)

    return Judged(source, array(reward), array(lp), array(ref), np.array(lengths or [1] * count, dtype=np.float64))


def test_accuracy_by_hand() -> None:
    """Three edges right of list 0 (3 > 2 > 1 under 0.9, 0.5, 0.1), a tie in list 1, one wrong in list 2."""
    lists = [
        judged(0, [3, 2, 1], reward=[0.9, 0.5, 0.1], aspect="help"),
        judged(1, [1, 0], reward=[0.3, 0.3], aspect="help", annotator="human:a"),
        judged(2, [1, 0], reward=[0.1, 0.2], aspect="harm", annotator="human:a"),
    ]
    found = measures(lists)
    everything = found["accuracy"]["reward"]["all"]
    assert everything["value"] == pytest.approx(3.5 / 5)
    assert (everything["edges"], everything["ties"], everything["groups"]) == (5, 1, 3)
    assert everything["low"] <= everything["value"] <= everything["high"]
    by_aspect = found["accuracy"]["reward"]["aspect"]
    assert by_aspect["help"]["value"] == pytest.approx(3.5 / 4)
    assert by_aspect["harm"]["value"] == 0.0
    assert by_aspect["harm"]["low"] is None, "one prompt has no interval"
    assert set(found["accuracy"]["reward"]["annotator"]) == {"human:a"}
    assert found["ranking"] is None
    json.dumps(found, allow_nan=False)


def test_an_edge_whose_p_is_below_one_half_is_won_by_its_loser() -> None:
    lists = [judged(0, [1, 0], reward=[0.0, 1.0], edges=[Edge(0, 1, p=0.2), Edge(1, 0, p=0.5)])]
    edges = edges_of(lists)
    assert edges.winner.tolist() == [1]
    assert edges.share.tolist() == [0.8]
    assert right(lists, edges, lambda one: one.reward).tolist() == [1.0]


def test_ranking_accuracy_and_its_ideal() -> None:
    """C01: ref -12 and -10, share .75: the ideal policy is right at beta .1, wrong at 1; per token ours is right."""
    lists = [
        judged(
            0, [1, 0], reward=[0.1, 0.0], lp=[-11, -10.5], ref=[-12, -10], lengths=[4, 2], edges=[Edge(0, 1, p=0.75)]
        )
    ]
    found = measures(lists)["ranking"]
    assert found["policy"] == 0.0
    assert found["policy_per_token"] == 1.0
    assert found["reference"] == 0.0
    assert found["ideal"] == {"0.01": 1.0, "0.1": 1.0, "1": 0.0, "5": 0.0, "10": 0.0}
    assert found["share_simulated"] == 0.0


def test_a_share_that_nobody_stated_is_simulated_and_said() -> None:
    lists = [judged(0, [1, 0], reward=[0, 0], lp=[-1, -2], ref=[-2, -1])]
    found = measures(lists)["ranking"]
    assert (found["share_simulated"], found["simulated_share"]) == (1.0, 0.75)


def test_best_of_n_and_order() -> None:
    found = measures([judged(0, [1, 5, 3], reward=[0.3, 0.1, 0.2])])
    assert [row["chosen"] for row in found["best_of_n"]] == pytest.approx([3.0, 5 / 3, 1.0])
    assert [row["best"] for row in found["best_of_n"]] == pytest.approx([3.0, 13 / 3, 5.0])
    assert found["order"]["kendall_tau"] == pytest.approx(-1.0)


def test_calibration_of_a_reward() -> None:
    """s(log 3) = 0.75, right three times of four: calibrated; Brier 3/16."""
    gap = math.log(3)
    lists = [judged(number, [1, 0], reward=[gap, 0] if number else [0, gap]) for number in range(4)]
    found = measures(lists)["calibration"]
    assert found["error"] == pytest.approx(0.0, abs=1e-9)
    assert found["brier"] == pytest.approx(3 / 16)
    assert found["beta"] is None


@given(
    st.lists(st.lists(st.integers(0, 3).map(float), min_size=2, max_size=4), min_size=1, max_size=5), st.integers(0, 99)
)
def test_accuracy_is_brute_force(scores: list[list[float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = [judged(n, one, reward=rng.integers(0, 3, len(one)).astype(float).tolist()) for n, one in enumerate(scores)]
    gaps = [
        one.reward[i] - one.reward[j]
        for one, gold in zip(lists, scores, strict=True)
        for i in range(len(gold))
        for j in range(len(gold))
        if gold[i] > gold[j] and one.reward is not None
    ]
    edges = edges_of(lists)
    assert sorted(gaps_of(lists, edges, lambda one: one.reward).tolist()) == sorted(gaps)
    found = measures(lists)["accuracy"]["reward"]["all"]
    if not gaps:
        assert found is None
    else:
        assert found["value"] == pytest.approx(np.mean([0.5 if gap == 0 else gap > 0 for gap in gaps]))


def test_nothing_to_measure() -> None:
    found = measures([judged(0, [1, 1], reward=[0.1, 0.2])])
    assert found["accuracy"]["reward"]["all"] is None
    assert found["calibration"] is None
    assert measures([])["lists"] == 0
