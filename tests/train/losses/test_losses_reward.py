"""Losses of reward models: numbers, what fixes the gauge, ratings that are missing, and the head's outputs."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hand_batches import NAN, f64, gradient, hand_batch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prefdata.train import TrainError  # noqa: E402
from prefdata.train.losses import LOSSES, Outputs  # noqa: E402

BT, PL, MANY = LOSSES["bradley-terry"], LOSSES["reward-plackett-luce"], LOSSES["multi-attribute"]
TWO = {"attributes": "kind,clear"}


def rewards(rows: list[list[float]], width: int = 0) -> Outputs:
    return Outputs(reward=f64(rows, width=width)[..., None].requires_grad_())


def pair(**more: Any) -> Any:
    return hand_batch([[1.0, 0.0]], edges=[(0, 0, 1)], **more)


R = [[2.0, 0.5]]


@pytest.mark.parametrize(
    ("centring", "batch", "margin", "expected"),
    [
        (0.0, pair(), "none", 0.201413),  # -log s(1.5)
        (0.01, pair(), "none", 0.263913),  # + .01 x 2.5^2
        (0.0, pair(margin=[0.8]), "edges", 0.403186),  # -log s(.7)
        (0.0, pair(p=[0.9]), "none", 0.351413),  # .9 x .201413 + .1 x 1.701413
        (0.01, pair(p=[0.9]), "none", 0.351413 + 0.0625),
    ],
)
def test_bradley_terry_numbers(centring: float, batch: Any, margin: str, expected: float) -> None:
    found = BT(rewards(R), batch, {"centring": centring, "margin": margin}).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_margin_from_scores_and_from_values() -> None:
    by_scores = hand_batch([[1.3, 0.5]], edges=[(0, 0, 1)])
    assert BT(rewards(R), by_scores, {"centring": 0.0, "margin": "scores"}).item() == pytest.approx(0.403186, abs=1e-6)
    by_values = pair(values={"strength": [[0.9, 0.1]]})
    asked = {"centring": 0.0, "margin": "values.strength"}
    assert BT(rewards(R), by_values, asked).item() == pytest.approx(0.403186, abs=1e-6)
    assert "values.strength" in BT.needed(BT.checked_options(asked, "t"))


@settings(deadline=None, max_examples=25)
@given(win=st.floats(-5, 5), lose=st.floats(-5, 5), shift=st.floats(-5, 5))
def test_only_centring_knows_where_zero_is(win: float, lose: float, shift: float) -> None:
    here, there = rewards([[win, lose]]), rewards([[win + shift, lose + shift]])
    bare = {"centring": 0.0}
    assert BT(here, pair(), bare).item() == pytest.approx(BT(there, pair(), bare).item(), abs=1e-9)
    moved = BT(there, pair()).item() - BT(here, pair()).item()
    assert moved == pytest.approx(0.01 * ((win + lose + 2 * shift) ** 2 - (win + lose) ** 2), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(win=st.floats(-5, 5), lose=st.floats(-5, 5), centring=st.sampled_from([0.0, 0.01, 0.5]))
def test_two_responses_are_bradley_terry(win: float, lose: float, centring: float) -> None:
    given_ = {"centring": centring}
    outputs = rewards([[win, lose]])
    assert PL(outputs, pair(), given_).item() == pytest.approx(BT(outputs, pair(), given_).item(), abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_head_that_says_zero_is_log_factorial(count: int) -> None:
    batch = hand_batch([[float(count - k) for k in range(count)]], edges=[(0, 0, 1)])
    assert PL(rewards([[0.0] * count]), batch).item() == pytest.approx(math.lgamma(count + 1), abs=1e-12)
    assert BT(rewards([[0.0] * count]), batch).item() == pytest.approx(math.log(2), abs=1e-12)


def test_reward_plackett_luce_numbers() -> None:
    """Rewards .5, .1, -.25: 1.295443 as for a policy; their mean is .35 / 3, so + .01 (.7 / 3)^2."""
    outputs, batch = rewards([[0.5, 0.1, -0.25]]), hand_batch([[3.0, 2.0, 1.0]])
    assert PL(outputs, batch, {"centring": 0.0}).item() == pytest.approx(1.295443, abs=1e-6)
    assert PL(outputs, batch).item() == pytest.approx(1.295443 + 0.01 * (0.7 / 3) ** 2, abs=1e-6)
    each = PL(outputs, batch, {"centring": 0.0, "mean_over_stages": True}).item()
    assert each == pytest.approx(1.295443 / 2, abs=1e-6)


def test_unlike_lengths_and_weights_are_lists_computed_apart() -> None:
    """D 25, of reward models: (2 a + b) / 3, and what is no response is not in the mean of the centring."""
    scores, values = [[3.0, 2.0, 1.0], [1.0, 2.0]], [[0.5, 0.1, -0.25], [1.0, 3.0]]
    together = PL(rewards(values, width=5), hand_batch(scores, weight=[2.0, 1.0], width=5)).item()
    apart = [PL(rewards([row]), hand_batch([score])).item() for row, score in zip(values, scores, strict=True)]
    assert together == pytest.approx((2 * apart[0] + apart[1]) / 3, abs=1e-12)


# Several attributes


def ratings(kind: list[float], clear: list[float], width: int = 0) -> Any:
    return hand_batch([[0.0] * len(kind)], values={"kind": [kind], "clear": [clear]}, width=width)


def outputs_of(rows: list[list[float]]) -> Outputs:
    """`[1, K, A]`."""
    return Outputs(reward=torch.tensor([rows], dtype=torch.float64, requires_grad=True))


def test_multi_attribute_numbers() -> None:
    """(1 - 3)^2 and (2 - 1)^2: mean 2.5; (0 - .5)^2 alone, its other rating is missing: 0.25; mean over both 1.375."""
    outputs = outputs_of([[1.0, 2.0], [0.0, 9.0]])
    batch = ratings([3.0, 0.5], [1.0, NAN])
    total = MANY(outputs, batch, TWO)
    assert total.item() == pytest.approx(1.375, abs=1e-12)
    # d/dr of (r - y)^2 / 2 attributes / 2 responses is (r - y) / 2; of the lone one (r - y)
    assert gradient(total, outputs.reward).tolist() == [[[-1.0, 0.5], [-0.5, 0.0]]]


def test_a_response_without_any_rating_is_not_in_the_mean() -> None:
    full = MANY(outputs_of([[1.0, 2.0], [7.0, 7.0], [0.0, 9.0]]), ratings([3.0, NAN, 0.5], [1.0, NAN, NAN]), TWO)
    assert full.item() == pytest.approx(1.375, abs=1e-12)


def test_multi_attribute_needs_values_and_no_labels() -> None:
    assert MANY.needed(MANY.checked_options(TWO, "t")) == {"values.kind", "values.clear"}
    named = MANY.checked_options({"attributes": ["clear"]}, "t")
    assert MANY.needed(named) == {"values.clear"} and MANY.outputs(named) == ["clear"]
    with pytest.raises(TrainError, match=r"no values named 'witty' \(they hold: kind, clear\)"):
        MANY(outputs_of([[1.0]]), ratings([1.0], [1.0]), {"attributes": "witty"})


def test_the_outputs_of_a_head() -> None:
    """What the model's head must have follows from the loss and its options; a policy has none."""
    assert MANY.outputs(MANY.options) == ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    assert MANY.outputs(MANY.checked_options({"attributes": " kind , clear "}, "t")) == ["kind", "clear"]
    assert BT.outputs(BT.options) == PL.outputs(PL.options) == ["reward"]
    assert LOSSES["dpo"].outputs(LOSSES["dpo"].options) == []


@pytest.mark.parametrize("wrong", ["", "kind,", "kind,kind", [], 3, ["kind", 4]])
def test_attributes_that_are_no_names_are_refused(wrong: Any) -> None:
    with pytest.raises(TrainError, match="the option 'attributes' of the loss 'multi-attribute'"):
        MANY.checked_options({"attributes": wrong}, "train")


@pytest.mark.parametrize("name", ["bradley-terry", "reward-plackett-luce"])
def test_options_of_policies_are_refused(name: str) -> None:
    spec = LOSSES[name]
    assert not spec.reference and "reference" not in spec.needed(spec.options)
    for option in ("sft", "sft_reduction", "beta"):
        with pytest.raises(TrainError, match=f"takes no option '{option}'"):
            spec.checked_options({option: 1.0}, "train")
    with pytest.raises(TrainError, match="the option 'centring'"):
        spec.checked_options({"centring": -1.0}, "train")


@pytest.mark.parametrize("name", ["bradley-terry", "reward-plackett-luce", "multi-attribute"])
def test_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    batch = hand_batch(
        [[1.0, 0.5, 0.0], [0.25, 0.75]],
        edges=[(0, 0, 1), (0, 2, 1), (1, 1, 0)],
        p=[1.0, 0.7, 0.5],
        values={"kind": [[1.0, NAN, 2.0], [0.0, 1.0]], "clear": [[NAN, NAN, 1.0], [2.0, NAN]]},
        weight=[1.0, 2.0],
    )
    options = TWO if name == "multi-attribute" else {"centring": 0.3}
    reward = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)

    def total(values: Any) -> Any:
        return LOSSES[name](Outputs(reward=values), batch, options)

    assert torch.autograd.gradcheck(total, (reward,))
    assert gradient(total(reward), reward)[1, 2].abs().max() == 0
