"""The laws that every rule of aggregation keeps: L3 swap, L6 thresholds, L7 missing, L8 symmetry, L12 gate."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_shapes import FakeContext, consensus, copy_of, said, scores_by_target

from prefdata.operators.aggregate.agreeing import Agreeing
from prefdata.operators.aggregate.annotator_bradley_terry import AnnotatorBradleyTerryConsensus
from prefdata.operators.aggregate.base import Aggregate
from prefdata.operators.aggregate.bradley_terry import BradleyTerryConsensus
from prefdata.operators.aggregate.crowd import DawidSkene, GladConsensus, MaceConsensus, OneCoin
from prefdata.operators.aggregate.direction import Direction
from prefdata.operators.aggregate.gated import Gated
from prefdata.operators.aggregate.joint import Joint
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean, Median, TrimmedMean
from prefdata.operators.aggregate.plackett_luce import PlackettLuceConsensus
from prefdata.operators.aggregate.self_consistency import SelfConsistency
from prefdata.operators.aggregate.transform import Transform
from prefdata.operators.aggregate.veto import Veto
from prefdata.operators.aggregate.vote import Vote
from prefdata.operators.aggregate.win_proportion import WinProportion
from prefdata.pipeline.registry import STEPS
from prefdata.schema import Row

FOLDER = tempfile.TemporaryDirectory()
NAMES = "abcd"

GROUPWISE: dict[str, Aggregate] = {
    "majority": Majority(),
    "unanimous": Majority(share=1),
    "soft": Majority(soft=True),
    "mean": Mean(),
    "median": Median(),
    "trimmed": TrimmedMean(share=0.25),
    "veto": Veto(),
    "bradley-terry": BradleyTerryConsensus(),
    "plackett-luce": PlackettLuceConsensus(),
    "win-proportion": WinProportion(),
    "agreeing": Agreeing(k=2),
    "direction": Direction(along={"overall": 2.0}),
    "transform": Transform(),
    "gated": Gated(levels=[{"aspect": "overall", "least": 0.5}]),
    **{by: Vote(by=by) for by in ("borda", "copeland", "schulze", "kemeny", "minimax")},
}
MODELS: dict[str, Aggregate] = {
    "dawid-skene": DawidSkene(),
    "one-coin": OneCoin(),
    "glad": GladConsensus(),
    "mace": MaceConsensus(restarts=2),
    "crowd": AnnotatorBradleyTerryConsensus(),
    "joint": Joint(),
}
RULES = {**GROUPWISE, **MODELS}
ORDERS = {name: rule for name, rule in RULES.items() if name not in ("direction", "transform", "gated")}
"""Rules to which a comparison is no sum of two scores."""

DUPLICABLE = {
    name: rule for name, rule in GROUPWISE.items() if name not in ("bradley-terry", "plackett-luce", "agreeing")
}
"""A vote of everybody twice is no news to them; to a model it is evidence, and the k that agree most are others."""

comparison = st.tuples(
    st.sampled_from(["j1", "j2", "j3"]),
    st.permutations(NAMES).map(lambda order: order[:2]),
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
)


def row_of(value: tuple[str, list[str], float | None], number: int) -> Row:
    annotator, pair, p = value
    if p is None:
        return said(pair, None, annotator=annotator, replicate=number, status="unparsed")
    return said(pair, [p, 1 - p], annotator=annotator, replicate=number)


votes = st.lists(comparison, min_size=1, max_size=10).map(lambda found: [row_of(v, n) for n, v in enumerate(found)])


def made(rule: Aggregate, rows: list[Row]) -> list[Row]:
    return [row for row in consensus(rule, rows, FakeContext(Path(FOLDER.name))) if row["target"] == "response"]


def content(rows: list[Row]) -> list[tuple[object, ...]]:
    return sorted(
        (
            r["protocol"],
            r["aspect"],
            r["status"],
            tuple(r["target_ids"]),
            tuple(r["scores"] or ()),
            r["confidence"] or -1,
        )
        for r in rows
    )


def check_same(one: list[Row], other: list[Row], tolerance: float) -> None:
    for (*fixed, x, u), (*before, y, v) in zip(content(one), content(other), strict=True):
        assert fixed == before
        assert x == pytest.approx(y, abs=tolerance) and u == pytest.approx(v, abs=tolerance)


few = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_rule_is_here() -> None:
    used = {rule.kind for rule in RULES.values()} | {SelfConsistency.kind}
    assert used == {kind for kind in STEPS if kind.startswith("aggregate.")}


@pytest.mark.parametrize("name", ORDERS)
@given(rows=votes)
@few
def test_l3_turning_every_comparison_round_changes_nothing(name: str, rows: list[Row]) -> None:
    def turned(row: Row) -> Row:
        scores = None if row["scores"] is None else row["scores"][::-1]
        return {**row, "target_ids": row["target_ids"][::-1], "scores": scores}

    check_same(made(ORDERS[name], rows), made(ORDERS[name], [turned(row) for row in rows]), 1e-4)


@pytest.mark.parametrize("name", ORDERS)
def test_l3_a_judge_by_position_prefers_nobody(name: str) -> None:
    if name == "agreeing":
        pytest.skip("the mean of the k that agree most is not symmetric: 0 and 0 agree as well as 1 and 1")
    rows = [said([x, y], [1, 0]) for x in NAMES for y in NAMES if x != y]
    for row in made(ORDERS[name], rows):
        if row["scores"]:
            assert max(row["scores"]) - min(row["scores"]) < 1e-6


@pytest.mark.parametrize("name", RULES)
@given(rows=votes, draw=st.randoms(use_true_random=False))
@few
def test_l8_the_order_of_rows_moves_no_bit(name: str, rows: list[Row], draw: random.Random) -> None:
    shuffled = rows[:]
    draw.shuffle(shuffled)
    one, other = made(RULES[name], rows), made(RULES[name], shuffled)
    assert content(one) == content(other)
    assert sorted(row["annotation_id"] for row in one) == sorted(row["annotation_id"] for row in other)


@pytest.mark.parametrize("name", GROUPWISE)
@given(rows=votes, elsewhere=votes)
@few
def test_l1_other_groups_move_no_bit(name: str, rows: list[Row], elsewhere: list[Row]) -> None:
    others = [{**copy_of(row, p), "prompt_id": p, "group_id": p} for row in elsewhere for p in ("p0", "p2")]
    beside = [row for row in made(GROUPWISE[name], rows + others) if row["prompt_id"] == "p1"]
    alone = made(GROUPWISE[name], rows)
    assert content(alone) == content(beside)
    assert sorted(row["annotation_id"] for row in alone) == sorted(row["annotation_id"] for row in beside)


@pytest.mark.parametrize("name", sorted(DUPLICABLE))
@given(rows=votes)
@few
def test_l8_a_vote_of_everybody_twice_changes_nothing(name: str, rows: list[Row]) -> None:
    once, twice = made(DUPLICABLE[name], rows), made(DUPLICABLE[name], rows + [copy_of(row, "again") for row in rows])
    if name == "borda":  # a count: twice the votes are twice the points
        once = [{**row, "scores": row["scores"] and [2 * score for score in row["scores"]]} for row in once]
    check_same(once, twice, 1e-9)


@pytest.mark.parametrize("name", RULES)
@given(rows=votes, status=st.sampled_from(["unparsed", "refused", "timeout", "failed", "skipped"]))
@few
def test_l7_failures_carry_no_value(name: str, rows: list[Row], status: str) -> None:
    failures = [said(row["target_ids"], None, status=status, annotator="judge:broken") for row in rows]
    check_same(made(RULES[name], rows), made(RULES[name], rows + failures), 1e-6)
    assert {row["status"] for row in made(RULES[name], failures)} <= {"abstain"}


@pytest.mark.parametrize("name", RULES)
@given(rows=votes, least=st.integers(1, 6))
@few
def test_l6_l7_min_valid_only_takes_away_and_loses_nobody(name: str, rows: list[Row], least: int) -> None:
    def spoken(found: list[Row]) -> set[str]:
        pairs = found and found[0]["protocol"] == "compare"
        ok = [row for row in found if row["status"] == "ok"]
        return {str(row["target_ids"]) for row in ok} if pairs else {name for row in ok for name in row["target_ids"]}

    everybody = {target for row in rows for target in row["target_ids"]}
    before: set[str] | None = None
    for minimum in (least, least + 1):
        found = made(RULES[name].model_copy(update={"min_valid": minimum}), rows)
        assert {target for row in found for target in row["target_ids"]} == everybody
        assert all((row["scores"] is None) == (row["status"] == "abstain") for row in found)
        assert before is None or spoken(found) <= before
        before = spoken(found)


@given(votes, st.floats(0.1, 1), st.floats(0.1, 1))
@settings(max_examples=12, deadline=None)
def test_l6_a_higher_share_never_adds_a_verdict(rows: list[Row], low: float, high: float) -> None:
    low, high = sorted([low, high])
    spoken = [
        {(str(row["target_ids"]), str(row["scores"])) for row in made(Majority(share=share), rows) if row["scores"]}
        for share in (low, high)
    ]
    assert spoken[1] <= spoken[0]


ratings = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 4)), min_size=1, max_size=15)


@given(ratings, st.floats(0, 4), st.floats(0, 4))
@settings(max_examples=12, deadline=None)
def test_l6_a_higher_spread_only_adds(found: list[tuple[str, int]], low: float, high: float) -> None:
    low, high = sorted([low, high])
    rows = [said([name], [value], annotator=f"h{n}") for n, (name, value) in enumerate(found)]
    kept = [
        {tuple(row["target_ids"]): row["scores"] for row in made(Agreeing(max_spread=most), rows) if row["scores"]}
        for most in (low, high)
    ]
    assert kept[0].items() <= kept[1].items()


@pytest.mark.parametrize("name", ["mean", "median", "trimmed", "agreeing", "self"])
@given(given_=st.dictionaries(st.sampled_from(NAMES), st.integers(-5, 5), min_size=1))
@few
def test_l8_a_jury_of_one_is_its_member(name: str, given_: dict[str, int]) -> None:
    rule = SelfConsistency() if name == "self" else RULES[name]
    found = made(rule, [said([target], [float(value)]) for target, value in given_.items()])
    assert {target: score for row in found for target, score in scores_by_target(row).items()} == given_


@pytest.mark.parametrize("name", ["majority", "unanimous", "soft", "one-coin", "dawid-skene", "glad", "mace", "self"])
def test_l8_the_verdicts_of_one_alone_stand(name: str) -> None:
    rule = SelfConsistency() if name == "self" else RULES[name]
    rows = [said(list(pair), [1.0, 0.0], prompt_id=f"p{n}") for n, pair in enumerate(["ab", "bc", "ca", "db"])]
    found = {row["prompt_id"]: scores_by_target(row) for row in made(rule, rows)}
    for row in rows:
        winner, loser = row["target_ids"]
        assert found[row["prompt_id"]][winner] > found[row["prompt_id"]][loser]


unit = st.floats(0, 1)


@given(st.lists(st.tuples(unit, unit, unit), min_size=2, max_size=4), unit, unit, st.booleans())
@settings(max_examples=25, deadline=None)
def test_l12_what_fails_a_gate_never_outranks_what_passes(
    found: list[tuple[float, float, float]], first: float, second: float, by_level: bool
) -> None:
    aspects = ["safe", "true", "kind"]
    rows = [
        said([f"r{n}"], [value], aspect=aspect)
        for n, values in enumerate(found)
        for aspect, value in zip(aspects, values, strict=True)
    ]
    rule = (
        Gated(levels=[{"aspect": "safe", "least": first}, {"aspect": "kind", "least": 0, "weight": 3}])
        if by_level
        else Gated(constraints={"safe": first, "true": second}, objectives={"kind": 1})
    )
    (row,) = made(rule, rows)
    reward = scores_by_target(row)
    passes = {f"r{n}": a >= first and (by_level or b >= second) for n, (a, b, _) in enumerate(found)}
    for name, other in ((name, other) for name in reward for other in reward):
        assert not (passes[name] and not passes[other]) or reward[name] >= reward[other] - 1e-9
    assert dict(zip(row["target_ids"], (label == "passed" for label in row["labels"]), strict=True)) == passes
