"""Losses over responses alone: numbers of their papers, what a step's split may not change, and who is read by whom."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hand_batches import NAN, f64, gradient, hand_batch, policy  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prefdata.train import TrainError  # noqa: E402
from prefdata.train.losses import LOSSES, Memory, Outputs  # noqa: E402
from prefdata.train.losses.unpaired import mismatch  # noqa: E402

KTO, BCO, SFT = LOSSES["kto"], LOSSES["bco"], LOSSES["sft"]
BOTH = hand_batch([[1.0, 0.0]], labels=[[1.0, 0.0]])
UP = hand_batch([[1.0]], labels=[[1.0]])
DOWN = hand_batch([[1.0]], labels=[[0.0]])


def far(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


# KTO


def test_kto_numbers() -> None:
    """lr = 1 and -0.5, z0 = 0.2, beta 0.1: 1 - s(.08) and 1 - s(.07)."""
    moved = far(0.5, -0.1)
    assert KTO(policy([[1.0]], mismatched=moved), UP).item() == pytest.approx(0.480011, abs=1e-6)
    assert KTO(policy([[-0.5]], mismatched=moved), DOWN).item() == pytest.approx(0.482507, abs=1e-6)
    assert KTO(policy([[1.0, -0.5]], mismatched=moved), BOTH).item() == pytest.approx(0.481259, abs=1e-6)


def test_kto_weighs_wanted_and_unwanted() -> None:
    """(2 x 0.480011 + 3 x 0.482507) / 2"""
    found = KTO(policy([[1.0, -0.5]], mismatched=far(0.2)), BOTH, {"desirable": 2.0, "undesirable": 3.0})
    assert found.item() == pytest.approx((2 * 0.480011 + 3 * 0.482507) / 2, abs=2e-6)


def test_kto_weighs_rows() -> None:
    """D 20: the mean is over rows by their weight, (3 x 0.480011 + 1 x 0.482507) / 4."""
    batch = hand_batch([[1.0], [0.0]], labels=[[1.0], [0.0]], weight=[3.0, 1.0])
    outputs = policy([[1.0], [-0.5]], mismatched=far(0.2))
    assert KTO(outputs, batch).item() == pytest.approx((3 * 0.480011 + 0.482507) / 4, abs=1e-6)
    assert KTO(outputs, batch, {"weight": "even"}).item() == pytest.approx(0.481259, abs=1e-6)


def test_kto_where_policy_and_reference_are_equal() -> None:
    assert KTO(policy([[-3.0, -4.0]], [[-3.0, -4.0]], mismatched=far(0.0, 0.0)), BOTH).item() == 0.5


def test_kto_clamps_its_reference_point_at_zero() -> None:
    below, zero = (policy([[1.0, -0.5]], mismatched=far(moved)) for moved in (-3.0, 0.0))
    assert KTO(below, BOTH).item() == KTO(zero, BOTH).item()


def test_kto_has_no_gradient_through_its_reference_point() -> None:
    moved = far(0.4).requires_grad_()
    outputs = policy([[1.0, -0.5]], mismatched=moved)
    total = KTO(outputs, BOTH)
    found, through = torch.autograd.grad(total, (outputs.lp, moved), allow_unused=True)
    assert through is None
    assert found[0, 0] < 0 < found[0, 1]


def test_kto_is_bounded_and_saturates() -> None:
    for lead in (-500.0, -40.0, 0.0, 40.0, 500.0):
        outputs = policy([[lead, lead]], mismatched=far(0.2))
        total = KTO(outputs, BOTH, {"desirable": 1.5, "beta": 1.0})
        assert 0 < total.item() < 1.5
        slope = gradient(total, outputs.lp)[0]
        assert not slope.isnan().any()
        assert lead == 0 or slope.abs().max() < 1e-15


def test_kto_with_nothing_mismatched_has_its_reference_point_at_zero() -> None:
    """All of a step's rows share one prompt: no NaN from a mean of nothing."""
    found = KTO(policy([[1.0, -0.5]], mismatched=far()), BOTH).item()
    assert found == KTO(policy([[1.0, -0.5]], mismatched=far(0.0)), BOTH).item()


def test_kto_without_mismatched_responses_is_refused() -> None:
    assert KTO.needed(KTO.options) == {"labels", "mismatched", "reference"}
    with pytest.raises(TrainError, match="mismatched"):
        KTO(policy([[1.0, -0.5]]), BOTH)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=0, max_size=7),
    seed=st.integers(0, 2**31),
    order=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=80)
def test_kto_pairs_matched_to_themselves(sizes: list[int], seed: int, order: Any) -> None:
    """D 20: every row is read under another prompt's response, for any batch size and any order of the rows."""
    groups = [f"prompt {number}" for number, size in enumerate(sizes) for _ in range(size)]
    order.shuffle(groups)
    found = mismatch(groups, seed)
    if len(sizes) < 2:  # one prompt, or none: there is no other, not a response matched to itself
        assert found == []
        return
    assert len(found) == len(groups)
    assert all(groups[row] != groups[other] for row, other in enumerate(found))
    if 2 * max(sizes) <= len(groups):
        assert sorted(found) == list(range(len(groups)))  # every response is read once
    else:  # more than half of the rows share a prompt: they take the rest in turn
        largest, _ = Counter(groups).most_common(1)[0]
        used = Counter(other for row, other in enumerate(found) if groups[row] == largest)
        assert max(used.values()) - min(used.values()) <= 1
        assert set(used) == {row for row, group in enumerate(groups) if group != largest}
    assert found == mismatch(groups, seed)


def test_the_draw_of_mismatched_responses_is_the_seed_s() -> None:
    groups = [f"prompt {number}" for number in range(12)]
    assert len({tuple(mismatch(groups, seed)) for seed in range(8)}) > 4


def test_a_prompt_with_more_than_half_of_the_rows_reads_the_others_in_turn() -> None:
    found = mismatch(["a"] * 6 + ["b", "c"], 0)
    assert sorted(Counter(found[:6]).items()) == [(6, 3), (7, 3)]


def test_one_prompt_in_rows_of_different_groups_is_one_prompt() -> None:
    """D 20: without groups in the file, the prompt's tokens say what is one prompt."""
    from prefdata.lm import Row
    from prefdata.train.preferences import PreferenceList, Response, TokenList
    from prefdata.train.scoring import mismatched_groups

    def alone(row: int, prompt: tuple[int, ...], response: int) -> TokenList:
        source = PreferenceList(row, f"row {row}", False, [], [Response("", id=str(response), label=1.0)], [])
        rows = (Row((*prompt, response), (len(prompt),)),)
        return TokenList(source, rows, rows, (len(prompt),), size=len(prompt) + 1)

    lists = [alone(0, (1, 2), 50), alone(1, (1, 2), 51), alone(2, (3,), 60), alone(3, (3,), 61)]
    for seed in range(5):
        rows = [row.tokens for group in mismatched_groups(lists, seed) for row in group.rows]
        assert sorted(rows) == [(1, 2, 60), (1, 2, 61), (3, 50), (3, 51)]
    assert mismatched_groups(lists[:2], 0) == []


# BCO


def test_bco_numbers() -> None:
    """r = 0.1 and -0.05: the shift is 0.025, then both terms are -log s(.075) = 0.656350."""
    outputs = policy([[1.0, -0.5]])
    first = Memory()
    assert BCO(outputs, BOTH, {}, first).item() == pytest.approx((softplus(-0.1) + softplus(-0.05)) / 2, abs=1e-12)
    assert BCO.remember is not None
    state = BCO.remember(first.state, first.observed, BCO.options)
    assert state["shift"] == pytest.approx(0.025, abs=1e-12)
    assert BCO(outputs, BOTH, {}, Memory(state)).item() == pytest.approx(0.656350, abs=1e-6)
    assert BCO(policy([[1.0]]), UP, {}, Memory(state)).item() == pytest.approx(0.656350, abs=1e-6)
    assert BCO(policy([[-0.5]]), DOWN, {}, Memory(state)).item() == pytest.approx(0.656350, abs=1e-6)


def test_bco_where_policy_and_reference_are_equal() -> None:
    assert BCO(policy([[-3.0, -4.0]], [[-3.0, -4.0]]), BOTH).item() == pytest.approx(math.log(2), abs=1e-15)


@settings(deadline=None, max_examples=25)
@given(win=st.floats(-5, 5), lose=st.floats(-5, 5), constant=st.floats(-5, 5))
def test_bco_forgets_a_constant_and_is_above_dpo(win: float, lose: float, constant: float) -> None:
    def after_its_shift(a: float, b: float) -> float:
        seen = Memory()
        BCO(policy([[a, b]]), BOTH, {"beta": 1.0}, seen)
        assert BCO.remember is not None
        after = Memory(BCO.remember({}, seen.observed, {}))
        return float(BCO(policy([[a, b]]), BOTH, {"beta": 1.0}, after).item())

    found = after_its_shift(win, lose)
    assert found == pytest.approx(after_its_shift(win + constant, lose + constant), abs=1e-9)
    assert 2 * found > softplus(lose - win)  # the sum of both terms against -log s(r_w - r_l)


def test_bco_remembers_all_steps_and_wanted_and_unwanted_apart() -> None:
    """Wanted 1, 2, 6 (mean 3), unwanted -1 (mean -1): the shift is 1, whichever step brought which."""
    assert BCO.remember is not None
    state = BCO.remember({}, {"wanted": [1.0, 2.0], "unwanted": [-1.0]}, {})
    state = json.loads(json.dumps(state))  # what a checkpoint makes of it
    state = BCO.remember(state, {"wanted": [6.0]}, {})
    assert (state["wanted_mean"], state["unwanted_mean"], state["shift"]) == (3.0, -1.0, 1.0)
    assert BCO.remember({}, {}, {})["shift"] == 0
    assert BCO.remember({}, {"wanted": [4.0]}, {})["shift"] == 4.0  # none unwanted yet


def test_bco_split_over_micro_batches() -> None:
    """What is observed is the step's, however it is split; the state that it began with is read by all parts."""
    batch = hand_batch([[1.0, 0.0], [1.0, 0.0]], labels=[[1.0, 0.0], [0.0, 0.0]], weight=[1.0, 2.0])
    lp = [[1.0, -0.5], [0.25, -2.0]]
    whole = Memory({"shift": 0.3})
    expected = BCO(policy(lp), batch, {}, whole).item()
    parts = Memory({"shift": 0.3})
    sums = masses = 0.0
    for n, label in enumerate(([[1.0, 0.0]], [[0.0, 0.0]])):
        part = hand_batch([[1.0, 0.0]], labels=label, weight=[1.0 + n])
        masses += BCO.masses(part, BCO.options)["loss"].item()
        sums += BCO.sums(policy([lp[n]]), part, BCO.options, parts)["loss"].item()
    assert sums / masses == pytest.approx(expected, abs=1e-12)
    assert {name: sorted(seen) for name, seen in parts.observed.items()} == {
        name: sorted(seen) for name, seen in whole.observed.items()
    }


def test_bco_refuses_to_match_distributions() -> None:
    with pytest.raises(TrainError, match=r"train: the loss 'bco': density_ratio is 1: .* embedder"):
        BCO.checked_options({"density_ratio": 2.0}, "train")


# SFT


def test_sft_is_the_mean_over_the_tokens_of_wanted_responses() -> None:
    """(4 + 9) / (2 + 6) tokens; what is not wanted counts neither above nor below."""
    batch = hand_batch([[1.0, 0.0], [1.0]], labels=[[1.0, 0.0], [1.0]], length=[[2, 3], [6]])
    outputs = Outputs(lp=f64([[-4.0, -50.0], [-9.0]]).requires_grad_())
    total = SFT(outputs, batch)
    assert total.item() == pytest.approx(13 / 8, abs=1e-12)
    assert gradient(total, outputs.lp).tolist() == [[-0.125, 0.0], [-0.125, 0.0]]
    assert not SFT.reference and SFT.needed(SFT.options) == {"labels"}


def test_sft_weighs_lists_and_splits() -> None:
    """(2 x 4 + 9) / (2 x 2 + 6); in two micro-batches likewise."""
    whole = hand_batch([[1.0], [1.0]], labels=[[1.0], [1.0]], length=[[2], [6]], weight=[2.0, 1.0])
    assert SFT(Outputs(lp=f64([[-4.0], [-9.0]])), whole).item() == pytest.approx(1.7, abs=1e-12)
    halves = [
        hand_batch([[1.0]], labels=[[1.0]], length=[[length]], weight=[weight])
        for length, weight in ((2, 2.0), (6, 1.0))
    ]
    mass = sum(SFT.masses(half, SFT.options)["loss"].item() for half in halves)
    parts = [SFT.sums(Outputs(lp=f64([[lp]])), half, SFT.options) for half, lp in zip(halves, (-4, -9), strict=True)]
    assert sum(part["loss"].item() for part in parts) / mass == pytest.approx(1.7, abs=1e-12)


# All three


@pytest.mark.parametrize("name", ["kto", "bco", "sft"])
def test_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    batch = hand_batch(
        [[1.0, 0.5, 0.0], [0.25, 0.75]], labels=[[1.0, 0.0, NAN], [0.0, 1.0]], length=[[3, 1, 2], [2, 5]]
    )
    lp = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def total(values: Any) -> Any:
        outputs = Outputs(lp=values, ref=torch.zeros_like(values), mismatched=far(0.3, 0.1))
        return LOSSES[name](outputs, batch, {}, Memory({"shift": 0.2}))

    assert torch.autograd.gradcheck(total, (lp,))
    slope = gradient(total(lp), lp)
    assert slope[0, 2] == slope[1, 2] == 0  # a label that is not known, and no response


@pytest.mark.parametrize("name", ["kto", "bco", "sft"])
def test_a_response_whose_label_is_not_known_is_not_in_the_mean(name: str) -> None:
    spec = LOSSES[name]
    full = hand_batch([[1.0, 0.5, 0.0]], labels=[[1.0, NAN, 0.0]], length=[[2, 9, 3]])
    short = hand_batch([[1.0, 0.0]], labels=[[1.0, 0.0]], length=[[2, 3]])
    moved = far(0.1)
    found = spec(policy([[-1.0, -7.0, -2.0]], mismatched=moved), full).item()
    assert found == pytest.approx(spec(policy([[-1.0, -2.0]], mismatched=moved), short).item(), abs=1e-12)
