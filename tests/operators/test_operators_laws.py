"""The laws that every operator keeps, with scripted annotators of known habits.

L1 provenance and replay, L2 one prompt, L3 swap, L4 no null pairs, L6 monotone thresholds, L8 a jury of one, L9
invariance of pairing, L10 idempotence of select. (What every rule of aggregation keeps of L3, L6, L7, L8 and L12 stands
in `test_operators_agg_laws.py`; L5 and L11 are about judges and plans.)
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import consensus, frame, response, run, said, scores_by_target

from prefdata.operators.aggregate.bradley_terry import BradleyTerryConsensus
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean
from prefdata.operators.pair import Pair, preferences_from
from prefdata.operators.select.threshold import Threshold
from prefdata.schema import Row

TEXTS = {"a": "one", "b": "one two", "c": "one two three", "d": "one two three four"}
NAMES = list(TEXTS)
RESPONSES = [response(name, text) for name, text in TEXTS.items()]
RULES = ["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list"]

# What a scripted annotator says of (first shown, second shown): P(first wins), or None when it fails.
Annotator = Callable[[str, str, random.Random], float | None]
CYCLE = dict(zip(NAMES, range(4), strict=True))
ANNOTATORS: dict[str, Annotator] = {
    "first": lambda a, b, draw: 1.0,
    "soft-first": lambda a, b, draw: 0.7,
    "second": lambda a, b, draw: 0.0,
    "longer": lambda a, b, draw: float(len(TEXTS[a]) > len(TEXTS[b])),
    "random": lambda a, b, draw: draw.choice([0.0, 0.3, 0.5, 1.0]),
    "cyclic": lambda a, b, draw: {1: 1.0, 3: 0.0}.get((CYCLE[b] - CYCLE[a]) % 4, 0.5),
    "failing": lambda a, b, draw: draw.choice([None, 1.0]),
}


def compare(name: str, both_orders: bool = True, seed: int = 0, prompt: str = "p1") -> list[Row]:
    """Everything an annotator says about all pairs."""
    draw, rows = random.Random(seed), []
    pairs = list(itertools.permutations(NAMES, 2)) if both_orders else list(itertools.combinations(NAMES, 2))
    for a, b in pairs:
        p = ANNOTATORS[name](a, b, draw)
        status = {"status": "unparsed"} if p is None else {}
        scores = None if p is None else [p, 1 - p]
        rows.append(said([a, b], scores, annotator=f"judge:{name}", prompt_id=prompt, **status))
    return rows


votes = st.lists(
    st.tuples(st.sampled_from(list(ANNOTATORS)), st.booleans(), st.integers(0, 9)),
    min_size=1,
    max_size=4,
    unique_by=lambda v: v[0],
).map(lambda chosen: [row for name, both, seed in chosen for row in compare(name, both, seed)])
scored = st.dictionaries(st.sampled_from(NAMES), st.integers(-3, 3), min_size=1).map(
    lambda given_: [said([name], [float(value)]) for name, value in given_.items()]
)


def content(rows: list[Row]) -> list[tuple[object, ...]]:
    return [(r["aspect"], r["status"], tuple(r["target_ids"]), tuple(r["scores"] or ()), r["confidence"]) for r in rows]


@pytest.mark.parametrize("name", ["first", "second", "soft-first"])
def test_l3_a_judge_by_position_prefers_nobody(name: str) -> None:
    rows = compare(name)
    made = consensus(BradleyTerryConsensus(), rows)
    assert [row["scores"] for row in made] == [[0.0] * 4]
    assert made[0]["confidence"] == 0
    assert {tuple(row["scores"]) for row in consensus(Majority(), rows)} == {(0.5, 0.5)}
    assert {tuple(row["scores"]) for row in consensus(Mean(), rows)} == {(0.5,) * 4}
    preferences, reasons = preferences_from(frame("annotations", made), frame("responses", RESPONSES), rule="all_pairs")
    assert preferences.is_empty() and reasons == {"tie": 6}


@pytest.mark.parametrize("noise", ["first", "second"])
def test_l3_position_does_not_move_an_honest_order(noise: str) -> None:
    made = consensus(BradleyTerryConsensus(), compare("longer") + compare(noise))
    found = scores_by_target(made[0])
    assert sorted(found, key=found.__getitem__) == NAMES


def test_l3_a_cycle_ends_in_a_tie() -> None:
    # a beats b, b beats c, c beats d, d beats a; a-c and b-d are ties.
    assert consensus(BradleyTerryConsensus(), compare("cyclic"))[0]["scores"] == [0.0] * 4


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(-100, 100), min_size=1))
@settings(max_examples=50, deadline=None)
def test_l8_a_jury_of_one_is_its_member(given_: dict[str, float]) -> None:
    rows = [said([name], [value]) for name, value in given_.items()]
    assert scores_by_target(consensus(Mean(), rows)[0]) == given_
    order = sorted(given_, key=lambda name: (given_[name], name))
    made = consensus(BradleyTerryConsensus(), rows)
    if len(given_) > 1:
        found = scores_by_target(made[0])
        assert all(found[x] <= found[y] for x, y in itertools.pairwise(order))
    single = compare("longer", both_orders=False)
    assert {tuple(r["target_ids"]): r["scores"] for r in consensus(Majority(), single)} == {
        tuple(r["target_ids"]): r["scores"] for r in single
    }


def stated(rows: list[Row], rule: str, **settings_: object) -> set[tuple[str, ...]]:
    made = run(Pair(rule=rule, **settings_), annotations=rows, responses=RESPONSES)["preferences"]
    return {tuple(row["response_ids"]) for row in made}


@given(scored | votes, st.sampled_from(RULES), st.sampled_from(["drop", "keep"]))
@settings(max_examples=80, deadline=None)
def test_l2_l4_pairs_share_a_prompt_differ_and_follow_the_scores(rows: list[Row], rule: str, ties: str) -> None:
    texts = {row["response_id"]: " ".join(row["text"].split()) for row in RESPONSES}
    by_id = {row["annotation_id"]: row for row in rows}
    for row in run(Pair(rule=rule, ties=ties), annotations=rows, responses=RESPONSES)["preferences"]:
        assert row["prompt_id"] == "p1" and row["kind"] == "conditional"
        assert len({texts[name] for name in row["response_ids"]}) == len(row["response_ids"]) >= 2
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert ties == "keep" or row["scores"][0] > row["scores"][-1]
        rests_on = [by_id[name] for name in row["annotation_ids"]]  # L1
        named = {n: s for r in rests_on for n, s in zip(r["target_ids"], r["scores"], strict=True)}
        assert dict(zip(row["response_ids"], row["scores"], strict=True)) == {n: named[n] for n in row["response_ids"]}


@given(
    scored | votes, st.sampled_from(RULES), st.sampled_from(["drop", "keep"]), st.none() | st.integers(1, 4),
    st.floats(0, 4), st.floats(0, 4),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_l6_a_higher_gap_never_adds(
    rows: list[Row], rule: str, ties: str, most: int | None, low: float, high: float
) -> None:
    low, high = sorted([low, high])
    common = {"ties": ties, "max_per_prompt": most}
    assert stated(rows, rule, min_gap=high, **common) <= stated(rows, rule, min_gap=low, **common)


@given(scored, st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_l6_l10_thresholds_are_monotone_and_idempotent(rows: list[Row], low: float, high: float) -> None:
    low, high = sorted([low, high])

    def gone(least: float, responses: list[Row]) -> set[str]:
        step = Threshold(min=least, annotator="judge:a")
        return {row["id"] for row in run(step, annotations=rows, responses=responses)["drops"]}

    assert gone(low, RESPONSES) <= gone(high, RESPONSES)
    left = [row for row in RESPONSES if row["response_id"] not in gone(low, RESPONSES)]
    assert gone(low, left) == set()


@given(scored, st.sampled_from(RULES), st.sampled_from(["drop", "keep"]))
@settings(max_examples=60, deadline=None)
def test_l9_rank_rules_see_only_the_order(rows: list[Row], rule: str, ties: str) -> None:
    for transform in (math.exp, lambda x: x**3 + x, lambda x: math.atan(x) / 1e9):
        changed = [{**row, "scores": [transform(row["scores"][0])]} for row in rows]
        assert stated(changed, rule, ties=ties) == stated(rows, rule, ties=ties)


@given(scored, st.sampled_from(RULES), st.integers(0, 4), st.floats(-50, 50))
@settings(max_examples=60, deadline=None)
def test_l9_gap_rules_see_only_differences(rows: list[Row], rule: str, gap: int, constant: float) -> None:
    rows = [{**row, "scores": [row["scores"][0] / 10]} for row in rows]
    moved = [{**row, "scores": [row["scores"][0] + constant]} for row in rows]
    assert stated(moved, rule, min_gap=gap / 10) == stated(rows, rule, min_gap=gap / 10)
