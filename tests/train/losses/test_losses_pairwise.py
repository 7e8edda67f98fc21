"""Pairwise losses with a reference, against the numbers of their specifications and their laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, Outputs

torch = pytest.importorskip("torch")
LOG2 = math.log(2)
NEAR = 5e-7  # the specifications give six decimals
numbers = st.floats(-30, 30)
quick = settings(deadline=None, max_examples=25)


def softplus(z: float) -> float:
    return math.log1p(math.exp(-abs(z))) + max(z, 0.0)


def test_dpo(pair: Any) -> None:
    """-log s(0.1 * 1.5) = 0.620957, and dL/dD = -0.1 s(-0.15) = -0.046257."""
    assert pair.value("dpo") == pytest.approx(0.620957, abs=NEAR)
    assert pair.gradient("dpo").tolist() == [pytest.approx([-0.046257, 0.046257], abs=NEAR)]


def test_dpo_curvature(pair: Any) -> None:
    """The second derivative is beta^2 s(beta D) s(-beta D)."""
    lp = pair.outputs.lp.clone().requires_grad_()
    (first,) = torch.autograd.grad(pair.given(lp=lp).loss("dpo"), lp, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 0], lp)
    s = 1 / (1 + math.exp(-0.15))
    assert second[0, 0].item() == pytest.approx(0.01 * s * (1 - s), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[(name, {}) for name in ("dpo", "ln-dpo", "f-dpo", "dove", "selfie", "lcpo", "osp", "mm-dpo", "rpo")],
        *[("f-dpo", {"divergence": one}) for one in ("forward-kl", "js", "alpha")],
        *[("cdpo", {"eps": 0}), ("rdpo", {"eps": 0}), ("simpo", {"gamma_ratio": 0}), ("cpo", {}), ("orpo", {"lam": 1})],
    ],
)
def test_no_difference_is_log_2_and_a_gradient_of_half_beta(make: Any, name: str, options: dict[str, Any]) -> None:
    """At D = 0 a logistic loss is log 2, and its gradient beta / 2 on either side (of lp itself, or of its mean)."""
    options = {**options, "sft": 0.0} if "sft" in LOSSES[name].offered else options
    lp = [[-6.0, -6.0]]
    case = make(lp, lp, length=[[4, 4]], scores=[[1, 1]])
    assert case.value(name, **options) == pytest.approx(LOG2, abs=1e-12)
    slope = LOSSES[name].options.get("beta", 1.0) / 2
    if name == "lcpo":
        slope = 0.1 * (0.9 - 0.5)  # beta (w - 1/2), with w = eta
    elif name == "orpo":
        slope = 0.5 / (1 - math.exp(-1.5)) / 4
    elif name in ("ln-dpo", "simpo"):
        slope /= 4
    elif options.get("divergence") == "js":
        slope /= 2  # phi is log s, whose slope at 0 is 1/2
    assert case.gradient(name, **options).tolist() == [pytest.approx([-slope, slope], abs=1e-12)]


LEADS = ("dpo", "rpo", "dove", "ln-dpo", "f-dpo", "cdpo", "osp", "ipo", "factuality-dpo", "mm-dpo", "ld-dpo", "rdpo")
LEADS += ("slic-normalised", "irepo", "dno", "lcpo", "selfie", "rationale-dpo")


@quick
@given(st.sampled_from(LEADS), numbers, numbers, st.floats(-20, 20))
def test_a_constant_in_the_reference_changes_nothing(make: Any, name: str, lp: float, ref: float, shift: float) -> None:
    """Of equal lengths, where a constant of all responses is a constant of their means too."""
    tokens = [[[lp, -1.0], [-2.0, -0.5]]]
    values = {}
    for added in (0.0, shift):
        case = make(
            [],
            tokens=(tokens, [[[ref, -1.0 + added], [-1.0, -1.0 + added]]]),
            values={"factual": [[1, 0]]},
            scores=[[0.7, 0.2]],
            rationale=([0], [-3.0], [4]),
        )
        values[added] = case.value(name, sft=0.0) if "sft" in LOSSES[name].offered else case.value(name)
    assert values[shift] == pytest.approx(values[0.0], rel=1e-9, abs=1e-9)


@quick
@given(st.sampled_from(["dpo", "f-dpo", "ln-dpo", "dove", "rpo", "mm-dpo", "simpo", "cpo"]), numbers, numbers)
def test_swapped_sides_turn_the_sign(make: Any, name: str, a: float, b: float) -> None:
    """L(z) - L(-z) = -z for -log s(z): the two directions of a logistic loss differ by what is in it."""
    options = {"sft": 0.0} if "sft" in LOSSES[name].offered else {}
    options |= {"gamma_ratio": 0.0} if name == "simpo" else {}
    case = make([[a, b]], [[0.5, -0.5]], length=[[3, 2]], scores=[[1, 1]])
    back = case.given(edge=torch.tensor([[0, 1, 0]]))
    beta = LOSSES[name].options["beta"]
    z = {
        "ln-dpo": beta * ((a - 0.5) / 3 - (b + 0.5) / 2),
        "simpo": beta * (a / 3 - b / 2),
        "cpo": beta * (a - b),
    }.get(name, beta * (a - 0.5 - (b + 0.5)))
    assert case.value(name, **options) == pytest.approx(softplus(-z), abs=1e-9)
    assert back.value(name, **options) == pytest.approx(softplus(z), abs=1e-9)


@pytest.mark.parametrize("name", ["dpo", "f-dpo", "ln-dpo", "simpo", "cpo", "orpo", "ipo", "rdpo", "lcpo"])
def test_identical_responses_have_no_gradient(make: Any, name: str) -> None:
    """The gradients of both sides are each other's negative, so that identical texts learn nothing."""
    case = make([[-6.0, -6.0]], [[-5.0, -5.0]], length=[[4, 4]])
    options = {"sft": 0.0}
    assert case.gradient(name, **options).sum().item() == pytest.approx(0, abs=1e-12)


def test_ipo(pair: Any) -> None:
    """(1.5 - 5)^2 = 12.25; per token (1/4 + 0.5/6 - 5)^2 = 21.777778 (D 17: unequal lengths)."""
    assert pair.value("ipo", length_normalised=False) == pytest.approx(12.25, abs=1e-12)
    assert pair.value("ipo") == pytest.approx(21.777778, abs=NEAR)


@pytest.mark.parametrize("normalised", [True, False])
def test_ipo_is_least_at_its_target_and_rises_beyond(make: Any, normalised: bool) -> None:
    target = 5.0 * (4 if normalised else 1)
    losses = []
    for gap in (target - 1, target, target + 1):
        case = make([[gap, 0]], length=[[4, 6]])
        losses.append(case.value("ipo", length_normalised=normalised))
        if gap == target:
            assert case.gradient("ipo", length_normalised=normalised).tolist() == [[0, 0]]
    assert losses[1] == 0 and losses[0] > 0 and losses[2] > 0


@pytest.mark.parametrize(
    ("divergence", "alpha", "expected"),
    [("reverse-kl", 0.5, 0.620957), ("forward-kl", 0.5, 0.631154), ("js", 0.5, 0.660652), ("alpha", 0.5, 0.627691)],
)
def test_f_dpo(pair: Any, divergence: str, alpha: float, expected: float) -> None:
    """phi(1) - phi(-0.5): 1.5; e^0.5 - e^-1 = 1.280842; log s(1) - log s(-0.5) = 0.660815; 1.355013."""
    assert pair.value("f-dpo", divergence=divergence, alpha=alpha) == pytest.approx(expected, abs=NEAR)


@quick
@given(numbers.map(lambda x: x / 6), numbers.map(lambda x: x / 6))
def test_f_dpo_goes_from_reverse_to_forward(make: Any, a: float, b: float) -> None:
    case = make([[a, b]])
    reverse, forward = (case.value("f-dpo", divergence=one) for one in ("reverse-kl", "forward-kl"))
    assert case.value("f-dpo", divergence="alpha", alpha=1) == pytest.approx(forward, rel=1e-9)
    assert case.value("f-dpo", divergence="alpha", alpha=0) == reverse == case.value("dpo")
    assert case.value("f-dpo", divergence="alpha", alpha=1e-7) == pytest.approx(reverse, rel=1e-4)


@quick
@given(st.sampled_from(["reverse-kl", "forward-kl", "js", "alpha"]), st.floats(-15, 15), st.floats(0.01, 5))
def test_f_dpo_rises_with_the_loser_and_falls_with_the_winner(
    make: Any, divergence: str, v: float, more: float
) -> None:
    """phi increases."""

    def value(a: float, b: float) -> float:
        return float(make([[a, b]]).value("f-dpo", divergence=divergence))

    assert value(v + more, 0) <= value(v, 0) and value(0, v + more) >= value(0, v)


def test_f_dpo_does_not_overflow(make: Any) -> None:
    for divergence in ("forward-kl", "alpha", "js"):
        case = make([[-1000.0, 900.0]], dtype=torch.float32)
        assert math.isfinite(case.value("f-dpo", divergence=divergence))
        assert torch.isfinite(case.gradient("f-dpo", divergence=divergence)).all()


def test_f_dpo_refuses_what_cannot_act() -> None:
    with pytest.raises(TrainError, match=r"divergence' of the loss 'f-dpo' is one of reverse-kl, .*, not 'kl'"):
        LOSSES["f-dpo"].checked_options({"divergence": "kl"}, "train")
    with pytest.raises(TrainError, match="alpha acts only with divergence: alpha"):
        LOSSES["f-dpo"].checked_options({"divergence": "js", "alpha": 0.3}, "train")


def test_ln_dpo(pair: Any, make: Any) -> None:
    """-log s(2 * (1/4 + 0.5/6)) = 0.414370 (D 17: unequal lengths)."""
    assert pair.value("ln-dpo", beta=2) == pytest.approx(0.414370, abs=NEAR)
    even = make([[-12, -15]], [[-13, -14.5]], length=[[5, 5]])
    assert even.value("ln-dpo", beta=2) == pytest.approx(even.value("dpo", beta=0.4), abs=1e-12)


@quick
@given(st.sampled_from(["ln-dpo", "ipo", "simpo", "orpo"]), st.floats(-40, -1), st.floats(-40, -1))
def test_doubled_texts_change_nothing_where_lengths_are_divided_out(make: Any, name: str, a: float, b: float) -> None:
    one, two = (
        make([[a * times, b * times]], [[-5.0 * times, -7.0 * times]], length=[[4 * times, 7 * times]])
        for times in (1, 2)
    )
    assert two.value(name) == pytest.approx(one.value(name), rel=1e-9)
    assert make([[2 * a, 2 * b]], length=[[8, 14]]).value("dpo") != make([[a, b]]).value("dpo") or a == b


def test_a_length_of_0_divides_by_1(make: Any) -> None:
    assert math.isfinite(make([[-1.0, 0.0]], length=[[2, 0]]).value("ln-dpo"))


WIN, WIN_REF = [-2.0, -3, -4, -3], [-3.0, -3, -4, -3]
LOSE, LOSE_REF = [-2.0, -3, -2, -3, -2, -3], [-2.0, -3, -2, -3, -2, -2.5]


def test_ld_dpo(make: Any) -> None:
    """lr_w = 1; of the loser only the last of its two tokens beyond the fourth differs: 0.5 * -0.5. D^ = 1.25."""
    case = make([], tokens=([[WIN, LOSE]], [[WIN_REF, LOSE_REF]]))
    assert case.value("ld-dpo", alpha=0.5) == pytest.approx(0.632599, abs=NEAR)
    assert case.value("ld-dpo", alpha=0.5) == pytest.approx(softplus(-0.125), abs=1e-12)
    assert case.value("ld-dpo", alpha=1) == case.value("dpo")
    assert case.value("ld-dpo", alpha=0) == pytest.approx(softplus(-0.1), abs=1e-12)


def test_ld_dpo_turns_no_alpha_on_equal_lengths(token_pair: Any) -> None:
    values = {token_pair.value("ld-dpo", alpha=alpha) for alpha in (0, 0.3, 1)}
    assert len(values) == 1


def test_ld_dpo_weakens_the_longer_side_alone(make: Any) -> None:
    case = make([], tokens=([[WIN, LOSE]], [[WIN_REF, LOSE_REF]]))
    lp = case.outputs.token_lp.clone().requires_grad_()
    case.given(token_lp=lp).loss("ld-dpo", alpha=0.25).backward()
    win, lose = lp.grad[0]
    assert len(set(win[:4].tolist())) == 1 and win[4:].tolist() == [0, 0]
    torch.testing.assert_close(lose[4:], 0.25 * lose[:2])


def test_ld_dpo_counts_trained_tokens_not_places(make: Any) -> None:
    """What is not the assistant's stands between, masked, and moves no later token beyond the shorter length."""
    case = make([], tokens=([[WIN, LOSE]], [[WIN_REF, LOSE_REF]]))
    apart = {}
    for name in ("token_lp", "token_ref", "token_mask"):
        there = getattr(case.outputs, name)
        apart[name] = torch.cat([there[..., :1], torch.zeros_like(there[..., :3]), there[..., 1:]], dim=-1)
    assert case.given(**apart).value("ld-dpo") == pytest.approx(case.value("ld-dpo"), abs=1e-12)


def test_rpo(pair: Any) -> None:
    """0.620957 + 0.005 * 12, or + 0.2 * 3; the gradient in lp_w is DPO's and -0.005."""
    assert pair.value("rpo", beta=0.1) == pytest.approx(0.680957, abs=NEAR)
    assert pair.value("rpo", beta=0.1, sft=0.2, sft_reduction="mean") == pytest.approx(1.220957, abs=NEAR)
    assert pair.value("rpo", beta=0.1, sft=0) == pair.value("dpo")
    assert pair.gradient("rpo", beta=0.1)[0, 0].item() == pytest.approx(-0.046257 - 0.005, abs=NEAR)


def test_rationale_dpo(make: Any) -> None:
    """0.620957 + 0.001 * 50; the released form adds log(1 + e^0.05) = 0.718460."""
    case = make([[-12, -15]], [[-13, -14.5]], rationale=([0], [-50.0], [20]))
    assert case.value("rationale-dpo") == pytest.approx(0.670957, abs=NEAR)
    assert case.value("rationale-dpo", form="released") == pytest.approx(1.339417, abs=NEAR)
    assert case.value("rationale-dpo", gamma=0) == case.value("dpo")
    assert case.value("rationale-dpo", gamma=0, form="released") == pytest.approx(case.value("dpo") + LOG2, abs=1e-12)
    mean = case.value("rationale-dpo", gamma=0.1, rationale_reduction="mean")
    assert mean == pytest.approx(0.620957 + 0.25, abs=NEAR)


def test_rationale_gradients_have_one_sign(make: Any) -> None:
    slopes = {}
    for form in ("nll", "released"):
        lp = torch.tensor([-50.0], dtype=torch.float64, requires_grad=True)
        case = make([[-12, -15]], [[-13, -14.5]], rationale=([0], [-50.0], [20]))
        case.given(rationale_lp=lp).loss("rationale-dpo", form=form).backward()
        slopes[form] = lp.grad.item()
    assert slopes["nll"] == pytest.approx(-0.001, abs=1e-15)
    assert slopes["released"] == pytest.approx(-0.001 / (1 + math.exp(-0.05)), abs=1e-12)  # s(-gamma lp)


def test_pairs_without_a_rationale_have_no_term_of_it(make: Any) -> None:
    case = make([[-12, -15], [-12, -15]], [[-13, -14.5]] * 2, rationale=([0, -1], [-50.0], [20]))
    assert case.value("rationale-dpo") == pytest.approx(0.620957 + 0.025, abs=NEAR)
    assert case.value("rationale-dpo", form="released") == pytest.approx(0.620957 + 0.718460 / 2, abs=NEAR)
    none = case.given(rationale=torch.tensor([-1, -1]), rationale_lp=torch.zeros(0), rationale_length=torch.zeros(0))
    assert none.value("rationale-dpo") == pytest.approx(case.value("dpo"), abs=1e-12)
    with pytest.raises(TrainError, match="needs rationales"):
        none.given(rationale_lp=None).value("rationale-dpo")


def factual(make: Any, win: float, lose: float, **more: Any) -> Any:
    return make([[-12, -15]], [[-13, -14.5]], length=[[4, 6]], values={"factual": [[win, lose]]}, **more)


def test_factuality_dpo(make: Any) -> None:
    """h = 1 - factual = (0, 1): -log s(0.1 * (1.5 - 10)) = 1.205865."""
    assert factual(make, 1, 0).value("factuality-dpo") == pytest.approx(1.205865, abs=NEAR)
    for both in (0, 1):
        case = factual(make, both, both)
        assert case.value("factuality-dpo") == case.value("dpo")
    assert factual(make, 1, 0).value("factuality-dpo", lam=0) == pytest.approx(0.620957, abs=NEAR)


@quick
@given(numbers, numbers, st.sampled_from([(1, 0), (0, 1), (1, 1), (0, 0)]), st.sampled_from([1.0, 0.8, 0.3, 0.0]))
def test_the_factual_side_wins_whatever_the_label_says(
    make: Any, a: float, b: float, facts: tuple[int, int], p: float
) -> None:
    case = make([[a, b]], values={"factual": [facts]}, p=[p], length=[[4, 6]])
    turned = case.given(edge=torch.tensor([[0, 1, 0]]))  # the other label
    sure = case.given(p=torch.tensor([max(p, 1 - p)], dtype=torch.float64))
    if facts == (1, 0):  # the confidence stays, and is the factual side's
        assert case.value("factuality-dpo") == pytest.approx(sure.value("factuality-dpo"), rel=1e-9)
    if facts[0] != facts[1]:
        likelier = case.value("factuality-dpo", sft=0.1)
        assert turned.value("factuality-dpo", sft=0.1) == pytest.approx(likelier, rel=1e-9)
    if facts == (1, 0) and p == 1:
        assert turned.value("factuality-dpo") == pytest.approx(softplus(-0.1 * (a - b - 10)), rel=1e-9, abs=1e-12)


def test_a_turned_pair_takes_margin_and_sft_term_with_it(make: Any) -> None:
    """The likelier side is not factual: the other becomes the winner, by -0.3, and it is its text that SFT reads."""
    case = factual(make, 0, 1, margin=[0.3])
    by_hand = softplus(-(0.1 * (-1.5 - 10) + 0.3)) + 0.5 * 15
    value = case.value("factuality-dpo", margin="edges", sft=0.5, sft_reduction="sum")
    assert value == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("wrong", [math.nan, 0.5, 2])
def test_factuality_is_yes_or_no(make: Any, wrong: float) -> None:
    with pytest.raises(TrainError, match=r"values.factual of a pair's response is neither 1 \(factual\) nor 0"):
        factual(make, 1, wrong).value("factuality-dpo")
    with pytest.raises(TrainError, match=r"hold no values named 'truth' \(they hold: factual\)"):
        factual(make, 1, 0).value("factuality-dpo", factual="truth")


def test_mm_dpo(make: Any) -> None:
    """beta_i = 0.1 (1 + 0.5 (1 - e^-1)) = 0.131606: 0.599306, and 0.25 * 3 of its SFT term."""
    case = make([[-12, -15]], [[-13, -14.5]], length=[[4, 6]], scores=[[5, 3]])
    assert case.value("mm-dpo", sft=0) == pytest.approx(0.599306, abs=NEAR)
    assert case.value("mm-dpo") == pytest.approx(0.599306 + 0.75, abs=NEAR)
    assert case.value("mm-dpo", sft=0, w=0) == pytest.approx(case.value("dpo"), abs=1e-12)
    assert case.value("mm-dpo", sft=0, margin="none") == pytest.approx(case.value("dpo"), abs=1e-12)
    assert case.given(margin=torch.tensor([2.0])).value("mm-dpo", sft=0, margin="edges") == pytest.approx(
        0.599306, abs=NEAR
    )


@quick
@given(st.floats(0, 60), st.floats(0, 2), st.floats(0, 2))
def test_mm_dpo_beta_lies_between_beta_and_its_bound(make: Any, delta: float, w: float, k: float) -> None:
    case = make([[1.0, 0.0]], scores=[[delta, 0]])
    beta = math.log(1 / math.expm1(case.value("mm-dpo", sft=0, w=w, k=k)))  # of -log s(beta * 1)
    assert 0.1 - 1e-9 <= beta <= 0.1 * (1 + w) + 1e-9


def test_mm_dpo_trusts_a_pair_less_whose_scores_say_otherwise(make: Any) -> None:
    for p in (1.0, 0.8):
        small, even = (make([[3.0, 0.0]], scores=[[s, 1]], p=[p]).gradient("mm-dpo", sft=0)[0, 0] for s in (0, 1))
        assert abs(small) < abs(even)
    far = make([[3.0, 0.0]], scores=[[-100, 100]])
    assert far.value("mm-dpo", sft=0) == pytest.approx(softplus(-0.001 * 3), abs=1e-12)  # the least beta


@quick
@given(numbers, st.sampled_from([1.0, 0.8, 0.5, 0.2]), st.floats(-3, 3))
def test_mm_dpo_gives_both_directions_one_beta(make: Any, gap: float, p: float, delta: float) -> None:
    case = make([[gap, 0.0]], scores=[[delta, 0]], p=[p])
    ahead = delta if p > 0.5 else abs(delta) if p == 0.5 else -delta
    beta = max(0.001, 0.1 * (1 + 0.5 * (1 - math.exp(-0.5 * ahead))))
    mixed = p * softplus(-beta * gap) + (1 - p) * softplus(beta * gap)
    assert case.value("mm-dpo", sft=0) == pytest.approx(mixed, rel=1e-9)
    back = case.given(edge=torch.tensor([[0, 1, 0]]), p=torch.tensor([1 - p], dtype=torch.float64))
    assert back.value("mm-dpo", sft=0) == pytest.approx(case.value("mm-dpo", sft=0), rel=1e-9)


def test_dove(make: Any) -> None:
    """Joint log-ratios 1 and -1: -log s(0.2) = 0.598139."""
    assert make([[-30, -40]], [[-31, -39]]).value("dove") == pytest.approx(0.598139, abs=NEAR)


def test_dove_with_one_instruction_is_dpo_and_masking_one_side_is_not(pair: Any) -> None:
    told, told_ref = -7.5, -8.0
    joint = pair.given(lp=pair.outputs.lp + told, ref=pair.outputs.ref + told_ref)
    assert joint.value("dove") == pytest.approx(pair.value("dpo"), abs=1e-12)
    one_side = torch.tensor([[told, 0.0]])
    masked = pair.given(lp=pair.outputs.lp + one_side, ref=pair.outputs.ref + one_side * told_ref / told)
    assert abs(masked.value("dove") - pair.value("dpo")) > 1e-3


def test_dove_does_not_train_the_instruction() -> None:
    with pytest.raises(TrainError, match="takes no option 'sft'"):
        LOSSES["dove"].checked_options({"sft": 0.1}, "train")


@pytest.mark.parametrize("name", ["dpo", "ipo", "f-dpo", "ln-dpo", "rpo", "cdpo", "rdpo", "osp", "irepo"])
def test_extreme_values_stay_finite(make: Any, name: str) -> None:
    case = make([[-5000.0, 0.0]], dtype=torch.float32)
    assert math.isfinite(case.value(name))
    assert torch.isfinite(case.gradient(name)).all()


def test_a_prompt_never_enters(pair: Any) -> None:
    """A loss has no field for it: `Outputs` holds what was scored, and that is the response's trained tokens."""
    assert not [name for name in Outputs.__dataclass_fields__ if "prompt" in name]
