"""Losses against hand-computed numbers, finite differences and their laws."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train import LOSSES, Batch, TrainError, loss
from prefdata.train.losses import find_loss

torch = pytest.importorskip("torch")
LOG2 = math.log(2)
NAMES = ("dpo", "plackett-luce")


def make_batch(
    ranks: list[list[int]],
    *,
    edges: list[tuple[int, int, int]] | None = None,
    p: list[float] | None = None,
    weight: list[float] | None = None,
    edge_weight: list[float] | None = None,
    width: int = 0,
) -> Batch:
    """Lists of the given ranks; edges: every pair of unlike ranks, unless given."""
    width = max(width, *map(len, ranks))
    padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in ranks])
    if edges is None:
        edges = [
            (n, i, j) for n, row in enumerate(ranks) for i, a in enumerate(row) for j, b in enumerate(row) if a < b
        ]
    return Batch(
        mask=padded > 0,
        length=(padded > 0).long() * 5,
        scores=torch.where(padded > 0, -padded.double(), torch.nan),
        ranks=padded,
        weight=torch.tensor(weight or [1.0] * len(ranks)),
        edge=torch.tensor(edges, dtype=torch.int64).view(-1, 3),
        p=torch.tensor(p or [1.0] * len(edges)),
        edge_weight=torch.tensor(edge_weight or [1.0] * len(edges)),
    )


def f64(rows: list[list[float]]) -> Any:
    return torch.tensor(rows, dtype=torch.float64)


PAIR = make_batch([[1, 2]])
LP, REF = f64([[-12, -15]]), f64([[-13, -14.5]])  # D = 1.5
RATIOS = f64([[1.0, 0.2, -0.5]])


def test_dpo_golden() -> None:
    lp = LP.clone().requires_grad_()
    value = LOSSES["dpo"](lp, REF, PAIR, beta=0.1)
    value.backward()
    assert value.item() == pytest.approx(0.620957, abs=5e-7)
    assert lp.grad[0, 0].item() == pytest.approx(-0.046257, abs=5e-7)
    assert lp.grad[0, 1].item() == pytest.approx(+0.046257, abs=5e-7)


def test_dpo_is_log_2_at_no_difference() -> None:
    lp = LP.clone().requires_grad_()
    value = LOSSES["dpo"](lp, LP, PAIR, beta=0.1)
    value.backward()
    assert value.item() == pytest.approx(LOG2, abs=1e-15)
    assert lp.grad.tolist() == [[-0.05, 0.05]]


def test_dpo_soft_label_is_conservative_dpo() -> None:
    soft = make_batch([[1, 2]], p=[0.8])
    assert LOSSES["dpo"](LP, REF, soft, beta=0.1).item() == pytest.approx(0.650957, abs=5e-7)
    lp = f64([[math.log(4) / 0.1, 0.0]]).requires_grad_()  # sigmoid(beta D) = 0.8: the minimum
    LOSSES["dpo"](lp, torch.zeros_like(lp), soft, beta=0.1).backward()
    assert lp.grad.abs().max().item() < 1e-8


def test_dpo_swapped_sides_are_one_minus_p() -> None:
    there = make_batch([[1, 2]], p=[0.7])
    back = make_batch([[1, 2]], edges=[(0, 1, 0)], p=[0.3])
    torch.testing.assert_close(LOSSES["dpo"](LP, REF, there), LOSSES["dpo"](LP, REF, back))


def test_dpo_averages_over_edges_by_both_weights() -> None:
    lp, ref = f64([[1.0, 0, -1], [2.0, 0, 0]]), f64([[0.0, 0, 0], [0, 0, 0]])
    batch = make_batch([[1, 2, 3], [1, 2]], weight=[2.0, 3.0], edge_weight=[1.0, 0.5, 1.0, 4.0])
    gaps, weights = [1.0, 2.0, 1.0, 2.0], [2.0, 1.0, 2.0, 12.0]
    expected = sum(w * math.log1p(math.exp(-0.1 * gap)) for w, gap in zip(weights, gaps, strict=True)) / sum(weights)
    assert LOSSES["dpo"](lp, ref, batch, beta=0.1).item() == pytest.approx(expected, abs=1e-9)


def test_dpo_on_a_list_is_dpo_on_its_pairs() -> None:
    value = LOSSES["dpo"](RATIOS, torch.zeros(1, 3), make_batch([[1, 2, 3]]))
    pairs = f64([[1.0, 0.2], [1.0, -0.5], [0.2, -0.5]])
    torch.testing.assert_close(value, LOSSES["dpo"](pairs, torch.zeros(3, 2), make_batch([[1, 2]] * 3)))


def test_plackett_luce_golden() -> None:
    zero = torch.zeros(1, 3)
    ranked = make_batch([[1, 2, 3]])
    assert LOSSES["plackett-luce"](RATIOS, zero, ranked, beta=0.5).item() == pytest.approx(1.295443, abs=5e-7)
    halved = LOSSES["plackett-luce"](RATIOS, zero, ranked, beta=0.5, mean_over_stages=True)
    assert halved.item() == pytest.approx(1.295443 / 2, abs=5e-7)
    first_only = LOSSES["plackett-luce"](RATIOS, zero, make_batch([[1, 2, 2]]), beta=0.5)
    assert first_only.item() == pytest.approx(0.762060, abs=5e-7)  # one stage: softmax DPO


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_plackett_luce_is_log_factorial_at_no_difference(count: int) -> None:
    lp = torch.randn(1, count, dtype=torch.float64)
    value = LOSSES["plackett-luce"](lp, lp, make_batch([list(range(1, count + 1))]))
    assert value.item() == pytest.approx(math.lgamma(count + 1), abs=1e-12)


def test_plackett_luce_reads_ranks_not_places() -> None:
    mixed = LOSSES["plackett-luce"](f64([[-0.5, 1.0, 0.2]]), torch.zeros(1, 3), make_batch([[3, 1, 2]]), beta=0.5)
    assert mixed.item() == pytest.approx(1.295443, abs=5e-7)


def test_plackett_luce_ties_do_not_compete() -> None:
    lp = RATIOS.clone().requires_grad_()
    tied = LOSSES["plackett-luce"](lp, torch.zeros(1, 3), make_batch([[1, 1, 3]]), beta=0.5)
    tied.backward()
    by_hand = math.log1p(math.exp(-0.75)) + math.log1p(math.exp(-0.35))  # each tied one against the last
    assert tied.item() == pytest.approx(by_hand, abs=1e-12)
    assert lp.grad[0, 0].item() == pytest.approx(-0.5 / (1 + math.exp(0.75)), abs=1e-12)
    # An upper bound of the exact likelihood that both precede the third, summed over their two orders.
    s = [0.5, 0.1, -0.25]
    exact = sum(
        math.exp(-math.log1p(math.exp(s[b] - s[a]) + math.exp(s[2] - s[a])) - math.log1p(math.exp(s[2] - s[b])))
        for a, b in itertools.permutations((0, 1))
    )
    assert tied.item() >= -math.log(exact)


def test_plackett_luce_all_tied_is_zero_without_gradient() -> None:
    lp = RATIOS.clone().requires_grad_()
    value = LOSSES["plackett-luce"](lp, torch.zeros(1, 3), make_batch([[1, 1, 1]]))
    value.backward()
    assert value.item() == 0.0
    assert lp.grad.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_match_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    batch = make_batch([[1, 2, 3, 4], [1, 1, 3], [2, 1]], weight=[1.0, 2.0, 0.5])
    lp = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, ref, batch, beta=0.7), (lp,))


numbers = st.floats(-30, 30)


@settings(deadline=None, max_examples=40)
@given(st.lists(numbers, min_size=2, max_size=2), st.lists(numbers, min_size=2, max_size=2), st.floats(0.01, 2))
def test_plackett_luce_of_two_is_dpo(lp: list[float], ref: list[float], beta: float) -> None:
    values = [LOSSES[name](f64([lp]), f64([ref]), PAIR, beta=beta) for name in NAMES]
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NAMES), st.lists(numbers, min_size=3, max_size=3), numbers, st.integers(0, 4))
def test_constants_and_padding_change_nothing(name: str, lp: list[float], shift: float, pad: int) -> None:
    ref = [0.3, -0.2, 1.0]
    plain = LOSSES[name](f64([lp]), f64([ref]), make_batch([[1, 2, 3]]))
    shifted = LOSSES[name](f64([lp]), f64([[value + shift for value in ref]]), make_batch([[1, 2, 3]]))
    torch.testing.assert_close(plain, shifted, rtol=1e-6, atol=1e-9)
    wide = LOSSES[name](f64([lp + [0.0] * pad]), f64([ref + [0.0] * pad]), make_batch([[1, 2, 3]], width=3 + pad))
    torch.testing.assert_close(plain, wide, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_values_stay_finite(name: str) -> None:
    lp = f64([[-5000.0, 0.0]]).float().requires_grad_()
    value = LOSSES[name](lp, torch.zeros(1, 2), PAIR)
    value.backward()
    assert value.item() == pytest.approx(500.0, rel=1e-6)
    assert torch.isfinite(lp.grad).all()


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(TrainError, match=r"no loss 'placket-luce' .*did you mean 'plackett-luce'"):
        find_loss("placket-luce")


def test_options_act_or_are_refused() -> None:
    assert LOSSES["dpo"].checked_options({}, "train") == {"beta": 0.1}
    with pytest.raises(TrainError, match=r"takes no option 'betta'.*did you mean 'beta'"):
        LOSSES["dpo"].checked_options({"betta": 0.2}, "train")
    with pytest.raises(TrainError, match="'beta' of the loss 'dpo' is a number, not 'high'"):
        LOSSES["dpo"].checked_options({"beta": "high"}, "train")
    with pytest.raises(TrainError, match="true or false, not 1"):
        LOSSES["plackett-luce"].checked_options({"mean_over_stages": 1}, "train")


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.train.losses.LOSSES", dict(LOSSES))
    with pytest.raises(TrainError, match="two losses are called 'dpo'"):

        @loss("dpo")
        def mine(lp: Any, ref: Any, batch: Batch) -> Any:
            return lp.sum()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda lp, ref, batch: lp.no_such(), "the loss 'odd' failed: AttributeError: "),
        (lambda lp, ref, batch: lp, r"the loss 'odd' returns a tensor of shape \[1, 2\], no scalar"),
        (lambda lp, ref, batch: 3.0, "the loss 'odd' returns 3.0, no scalar"),
        (lambda lp, ref, batch: lp.detach().sum(), "the loss 'odd' has no gradient"),
    ],
)
def test_a_loss_of_ones_own_that_fails_is_named(function: Any, message: str) -> None:
    from prefdata.train.losses import LossSpec

    lp = torch.zeros(1, 2, requires_grad=True)
    with pytest.raises(TrainError, match=message):
        LossSpec("odd", function, frozenset(), "lists")(lp, torch.zeros(1, 2), None)  # type: ignore[arg-type]
