"""Several aspects, one score: directions, transforms, gates."""

from __future__ import annotations

import math

import pytest
from operator_shapes import FakeContext, consensus, response, run, said, scores_by_target
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.aggregate.direction import Direction
from prefdata.operators.aggregate.gated import Gated
from prefdata.operators.aggregate.transform import Transform
from prefdata.schema import Row


def scored(**by_target: dict[str, float]) -> list[Row]:
    """Scores by response and aspect."""
    return [said([target], [value], aspect=a) for target, values in by_target.items() for a, value in values.items()]


def made(rows: list[Row]) -> dict[str, float]:
    (row,) = (row for row in rows if row["status"] == "ok")
    return scores_by_target(row)


CANDIDATES = scored(
    a={"helpfulness": 60, "verbosity": 40},
    b={"helpfulness": 50, "verbosity": 10},
    c={"helpfulness": 58, "verbosity": 20},
)


def test_the_third_wins_at_minus_15_degrees() -> None:  # E01
    angle = math.radians(-15)
    along = {"helpfulness": math.cos(angle), "verbosity": math.sin(angle)}
    assert tuple(round(100 * weight) for weight in along.values()) == (97, -26)
    found = made(consensus(Direction(along=along), CANDIDATES))
    assert found == pytest.approx({"a": 47.602788, "b": 45.708101, "c": 50.847317}, abs=1e-6)
    assert max(found, key=found.__getitem__) == "c"
    plain = made(consensus(Direction(along={"helpfulness": 1}), CANDIDATES))
    assert max(plain, key=plain.__getitem__) == "a"


def test_a_direction_may_be_scaled_to_length_one() -> None:
    rows = consensus(Direction(along={"helpfulness": 97, "verbosity": -26}, unit=True), CANDIDATES)
    assert made(rows)["a"] == pytest.approx((97 * 60 - 26 * 40) / math.hypot(97, 26))
    for wrong in ({"x": 0.0}, {"x": float("nan")}, {}):
        with pytest.raises(ValidationError):
            Direction(along=wrong)


def test_an_aspect_that_nobody_spoke_of_is_named() -> None:
    context = FakeContext()
    assert consensus(Direction(along={"help": 1}), CANDIDATES, context) == []
    assert context.said == ["nothing is said under help (there are: helpfulness, verbosity)"]


def test_caps_cut_off_what_is_worth_nothing() -> None:  # E04
    rows = scored(a={"x": 5, "y": 1})
    assert made(consensus(Direction(along={"x": 1, "y": 1}, caps={"x": 3, "y": 2}), rows)) == {"a": 4}
    assert made(consensus(Direction(along={"x": 1, "y": 1}), rows)) == {"a": 6}
    with pytest.raises(ValidationError, match="finite"):
        Direction(along={"x": 1}, caps={"x": float("inf")})


def test_a_sum_of_fewer_terms_is_no_score() -> None:
    context = FakeContext()
    rows = [*CANDIDATES, *scored(d={"helpfulness": 99})]
    found = consensus(Direction(along={"helpfulness": 1, "verbosity": -1}), rows, context)
    assert [row["target_ids"] for row in found if row["status"] == "abstain"] == [["d"]]
    assert "1 responses lack a score under one of helpfulness, verbosity" in context.said[0]


def test_a_weight_says_which_way_a_measure_counts() -> None:
    rows = [said(["a"], [3.0], aspect="length", protocol="measure"), *scored(a={"x": 5})]
    assert made(consensus(Direction(along={"x": 1, "length": -0.5}), rows)) == {"a": 3.5}


def test_the_sum_of_log_sigmoids() -> None:  # E02: r = (1, -.5), reference 0
    rows = [said([target], [value], aspect=aspect, annotator=f"reward:{aspect}", source="reward")
            for target, values in {"a": (1.0, -0.5), "canned": (0.0, 0.0)}.items()
            for aspect, value in zip(("help", "safe"), values, strict=True)]  # fmt: skip
    known = [response("a", model="policy"), response("canned", model="safe-reply")]
    each = run(Transform(reference=["safe-*"]), annotations=rows, responses=known)["annotations"]
    found = {row["aspect"]: scores_by_target(row)["a"] for row in each}
    assert found == pytest.approx({"help": -0.313262, "safe": -0.974077}, abs=1e-6)
    (both,) = run(Transform(reference=["safe-*"], into="good"), annotations=rows, responses=known)["annotations"]
    total = scores_by_target(both)["a"]
    assert both["aspect"] == "good" and total == pytest.approx(-1.287339, abs=1e-6)
    assert math.exp(total) == pytest.approx(0.276004, abs=1e-6)


def test_returns_diminish_and_the_order_of_one_reward_stays() -> None:
    values = {"a": -1.0, "b": 0.0, "c": 3.0, "d": 4.0, "zero": 0.0}
    rows = [said([target], [value]) for target, value in values.items()]
    known = [response(name, model="ref" if name == "zero" else "m") for name in values]
    (row,) = run(Transform(reference=["ref"]), annotations=rows, responses=known)["annotations"]
    u = scores_by_target(row)
    assert u["d"] - u["c"] == pytest.approx(0.030437, abs=1e-6)
    assert u["b"] - u["a"] == pytest.approx(0.620115, abs=1e-6)
    assert u["a"] < u["b"] < u["c"] < u["d"] < 0


def test_the_reference_is_a_quantile_of_the_prompts_own_rewards() -> None:
    rows = [said([f"r{n}"], [float(n)]) for n in range(21)]
    (row,) = consensus(Transform(), rows)
    assert scores_by_target(row)["r17"] == pytest.approx(math.log(0.5))  # the 85th percentile of 0..20
    moved = [said([f"r{n}"], [n + 100.0]) for n in range(21)]
    assert consensus(Transform(), moved)[0]["scores"] == row["scores"]


def test_a_prompt_without_reference_abstains() -> None:
    (row,) = run(Transform(reference=["none"]), annotations=[said(["a"], [1.0])], responses=[response("a")])[
        "annotations"
    ]
    assert row["status"] == "abstain"
    assert Transform().inputs() == {"annotations"} and "responses" in Transform(reference=["x"]).inputs()


CONSTRAINTS = {"grounding": None, "quality": None, "format": None}
OBJECTIVES = {"x": 0.5, "y": 0.3, "z": 0.2}


def gated(b: tuple[float, ...], u: tuple[float, ...] = (0.8, 0.6, 0.9)) -> list[Row]:
    return scored(a=dict(zip([*CONSTRAINTS, *OBJECTIVES], [*b, *u], strict=True)))


def test_a_soft_gate() -> None:  # E03
    step = Gated(constraints=CONSTRAINTS, objectives=OBJECTIVES)
    (row,) = consensus(step, gated((0.9, 1, 0.8)))
    assert row["scores"] == [pytest.approx(0.681174, abs=1e-6)] and row["labels"] == ["passed"]
    assert pytest.approx(0.896281, abs=1e-5) == 0.681174 / 0.76
    assert made(consensus(step, gated((0.9, 0, 0.8)))) == {"a": pytest.approx(0.068117, abs=1e-6)}
    assert made(consensus(step, gated((1, 1, 1)))) == {"a": pytest.approx(0.76)}


def test_a_hard_gate_says_what_failed() -> None:
    step = Gated(constraints={"grounding": 0.5, "quality": 0.5, "format": 1}, objectives=OBJECTIVES)
    (row,) = consensus(step, gated((0.9, 0.2, 0.8)))
    assert (row["scores"], row["labels"]) == ([0.0], ["failed: quality, format"])
    (row,) = consensus(step, gated((0.9, 0.6, 1)))
    assert row["scores"][0] > 0 and row["labels"] == ["passed"]


def test_levels_count_only_where_those_above_are_passed() -> None:
    step = Gated(
        levels=[{"aspect": "right", "least": 0.5, "weight": 0.6}, {"aspect": "short", "least": 0, "weight": 0.4}]
    )
    rows = scored(a={"right": 0, "short": 1}, b={"right": 1, "short": 0}, c={"right": 1, "short": 1})
    (row,) = consensus(step, rows)
    assert scores_by_target(row) == {"a": 0, "b": 0.6, "c": 1}
    assert row["labels"] == ["failed: right", "passed", "passed"]


def test_what_a_gate_cannot_multiply_is_refused() -> None:
    step = Gated(constraints=CONSTRAINTS, objectives=OBJECTIVES)
    with pytest.raises(DataError, match="aspect 'quality' has a score of 4; it must be from 0 to 1"):
        consensus(step, gated((0.9, 4, 0.8)))
    with pytest.raises(DataError, match="aspect 'y' has a score of -1; it must be 0 or more"):
        consensus(step, gated((0.9, 0.4, 0.8), (0, -1, 0)))
    with pytest.raises(ValidationError, match="not both"):
        Gated(levels=[{"aspect": "x", "least": 0}], objectives={"y": 1})
    with pytest.raises(ValidationError, match="give constraints and objectives"):
        Gated(objectives={"y": 1})
    with pytest.raises(ValidationError, match="a constraint and an objective"):
        Gated(constraints={"y": None}, objectives={"y": 1})
