"""Losses that doubt the labels, against the numbers of their specifications and their laws."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.stats.label_noise import label_posterior
from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, Memory

torch = pytest.importorskip("torch")
NEAR = 5e-7
quick = settings(deadline=None, max_examples=25)
gaps = st.floats(-40, 40)


def at(make: Any, gap: float) -> Any:
    """A pair with D = gap."""
    return make([[gap, 0.0]])


def test_cdpo(pair: Any) -> None:
    """0.8 * 0.620957 + 0.2 * 0.770957 = 0.650957."""
    assert pair.value("cdpo", eps=0.2) == pytest.approx(0.650957, abs=NEAR)
    assert pair.value("cdpo", eps=0) == pytest.approx(pair.value("dpo"), abs=1e-15)
    assert pair.given(p=torch.tensor([0.8], dtype=torch.float64)).value("dpo") == pair.value("cdpo", eps=0.2)


def test_cdpo_is_least_where_the_label_is_as_likely_as_it_is(make: Any) -> None:
    """At beta D = log((1 - eps) / eps), and there it is the entropy of the label."""
    case = at(make, math.log(0.8 / 0.2) / 0.1)
    assert case.gradient("cdpo", eps=0.2).abs().max().item() < 1e-12
    assert case.value("cdpo", eps=0.2) == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2), abs=1e-12)


@quick
@given(gaps, st.floats(0, 0.499))
def test_cdpo_is_bounded_and_rdpo_is_unbiased(make: Any, gap: float, eps: float) -> None:
    """(1 - eps) L(D) + eps L(-D) is -log s(beta D): the mean over flipped labels is the loss of the true one."""
    there, flipped = at(make, gap), at(make, gap).given(edge=torch.tensor([[0, 1, 0]]))
    entropy = -(1 - eps) * math.log1p(-eps) - (eps * math.log(eps) if eps else 0)
    assert there.value("cdpo", eps=eps) >= entropy - 1e-9
    if eps < 0.45:  # the division by 1 - 2 eps loses digits
        mean = (1 - eps) * there.value("rdpo", eps=eps) + eps * flipped.value("rdpo", eps=eps)
        assert mean == pytest.approx(there.value("dpo"), rel=1e-9, abs=1e-9)


def test_rdpo(pair: Any, make: Any) -> None:
    """(0.8 * 0.620957 - 0.2 * 0.770957) / 0.6 = 0.570957; far out it is negative, and its gradient does not vanish."""
    assert pair.value("rdpo", eps=0.2) == pytest.approx(0.570957, abs=NEAR)
    assert pair.value("rdpo", eps=0) == pytest.approx(pair.value("dpo"), abs=1e-15)
    far = at(make, 1000.0)
    assert far.value("rdpo", eps=0.2) < 0
    assert far.gradient("rdpo", eps=0.2)[0, 0].item() == pytest.approx(-0.1 * 0.2 / 0.6, abs=1e-9)


@quick
@given(gaps, st.floats(0, 0.45))
def test_rdpo_gradient_weight(make: Any, gap: float, eps: float) -> None:
    """zeta = s(-beta D) + eps / (1 - 2 eps)."""
    zeta = 1 / (1 + math.exp(0.1 * gap)) + eps / (1 - 2 * eps)
    assert at(make, gap).gradient("rdpo", eps=eps)[0, 0].item() == pytest.approx(-0.1 * zeta, rel=1e-9)


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_half_of_the_labels_flipped_is_refused(name: str) -> None:
    for eps in (0.5, 0.7, -0.1):
        with pytest.raises(TrainError, match=r"'eps' of the loss '.dpo' is a number of at least 0 and below 0\.5, not"):
            LOSSES[name].checked_options({"eps": eps}, "train")


def test_osp(pair: Any) -> None:
    """0.7 * 0.620957 + 0.3 * 0.770957 = 0.665957."""

    def value(p: float) -> float:
        return float(pair.given(p=torch.tensor([p], dtype=torch.float64)).value("osp"))

    assert value(0.7) == pytest.approx(0.665957, abs=NEAR)
    assert value(1.0) == pytest.approx(pair.value("dpo"), abs=1e-15)
    assert value(0.8) == pytest.approx(pair.value("cdpo", eps=0.2), abs=1e-15)


@quick
@given(st.floats(0.01, 0.99))
def test_osp_is_least_at_the_log_odds(make: Any, p: float) -> None:
    case = make([[math.log(p / (1 - p)) / 0.1, 0.0]], p=[p])
    assert case.gradient("osp").abs().max().item() < 1e-9


def test_osp_strength_grows_with_the_gap_of_ranks(make: Any) -> None:
    """In a list of four, a gap of one rank is p = 2/3, of two 5/6, of three 1."""
    lists = make([[1.0, 0.5, 0.2, -1.0]], width=6)
    for edge, p in (((0, 0, 1), 2 / 3), ((0, 1, 3), 5 / 6), ((0, 0, 3), 1.0)):
        one = lists.given(
            **{name: getattr(lists.batch, name)[:1] for name in ("p", "margin", "edge_weight", "votes")},
            edge=torch.tensor([edge]),
        )
        by_hand = one.given(p=torch.tensor([p], dtype=torch.float64)).value("osp")
        assert one.value("osp", strength="ranks") == pytest.approx(by_hand, abs=1e-12)


def test_osp_asks_for_what_it_reads() -> None:
    spec = LOSSES["osp"]
    assert "p" in spec.needed(spec.checked_options({}, "t"))
    assert {"ranks"} <= spec.needed(spec.checked_options({"strength": "ranks"}, "t"))
    with pytest.raises(TrainError, match="'strength' of the loss 'osp' is one of p, ranks, not 'scores'"):
        spec.checked_options({"strength": "scores"}, "t")


def late(margins: list[float]) -> Memory:
    return Memory({"margins": [margins]}, step=50, steps=100)


def test_selfie(pair: Any) -> None:
    """z = 0.15: above the threshold it is DPO (0.620957), below it cDPO with eps = alpha (0.635957)."""
    assert pair.value("selfie", late([float(x) for x in range(-50, 0)])) == pytest.approx(0.620957, abs=NEAR)
    assert pair.value("selfie", late([float(x) for x in range(1, 51)])) == pytest.approx(0.635957, abs=NEAR)
    assert pair.value("cdpo", eps=0.1) == pytest.approx(0.635957, abs=NEAR)


def test_selfie_threshold_is_midway_around_the_tenth_percent_point(make: Any) -> None:
    """Of margins 1 to 50 five lie below 5.5; of 1 to 100, where 0.29 * 100 is 28.999..., 29 below 29.5."""
    for count, share, edge in ((50, 0.1, 5.5), (100, 0.29, 29.5)):
        margins = [float(x) for x in range(count, 0, -1)]
        for z, smoothed in ((edge - 0.01, True), (edge + 0.01, False)):
            case = at(make, z / 0.1)
            expected = case.value("cdpo", eps=0.1) if smoothed else case.value("dpo")
            assert case.value("selfie", late(margins), share=share) == pytest.approx(expected, abs=1e-12)


def test_selfie_keeps_the_newest_margins_in_whole_steps() -> None:
    spec = LOSSES["selfie"]
    chosen, state = spec.checked_options({"window": 5}, "t"), {}
    for step in range(4):
        state = spec.remember(state, {"margin": [step + 0.5, float(step)]}, chosen)
    assert state == {"margins": [[1.0, 1.5], [2.0, 2.5], [3.0, 3.5]]}, "two steps hold 4, fewer than 5"


def test_selfie_starts_without_smoothing(pair: Any) -> None:
    margins = [float(x) for x in range(1, 51)]
    for step, smoothed in ((0, False), (19, False), (20, True)):
        value = pair.value("selfie", Memory({"margins": [margins]}, step=step, steps=100))
        assert (value > pair.value("dpo") + 1e-3) is smoothed
    assert pair.value("selfie", late([1.0] * 9)) == pair.value("dpo")  # too few for a tenth


def test_selfie_smooths_about_a_tenth(make: Any) -> None:
    """Over a run of steps of 16 pairs with margins of one distribution."""
    draw = random.Random(0)
    spec, state, smoothed, seen = LOSSES["selfie"], {}, 0, 0
    chosen = spec.checked_options({}, "t")
    for step in range(200):
        case = make([[draw.gauss(0, 10), 0.0] for _ in range(16)])
        memory = Memory(state, step=step, steps=200)
        spec.sums(case.outputs, case.batch, chosen, memory)
        if step >= 40:
            pooled = sorted(one for margins in state["margins"] for one in margins)
            place = len(pooled) // 10
            threshold = (pooled[place - 1] + pooled[place]) / 2
            smoothed += sum(value < threshold for value in memory.observed["margin"])
            seen += 16
        state = json.loads(json.dumps(spec.remember(state, memory.observed, chosen)))
        assert 50 <= sum(map(len, state["margins"])) < 50 + 16 or step < 3
    assert smoothed / seen == pytest.approx(0.1, abs=0.025)


def test_selfie_refuses_extrapolation() -> None:
    with pytest.raises(TrainError, match=r"lam is 0, not 0\.5: extrapolation mixes the logits"):
        LOSSES["selfie"].checked_options({"lam": 0.5}, "train")
    assert LOSSES["selfie"].checked_options({"lam": 0}, "train")["lam"] == 0


def test_lcpo(pair: Any) -> None:
    """q = s(0.15), w = 0.9 q / (0.9 q + 0.1 (1 - q)) = 0.912713, and the loss 0.634050."""
    memory = Memory()
    assert pair.value("lcpo", memory) == pytest.approx(0.634050, abs=NEAR)
    assert memory.observed["posterior"] == [pytest.approx(0.912713, abs=NEAR)]


def test_lcpo_follows_the_posteriors_by_its_momentum() -> None:
    """0.9 * 0.9 + 0.1 * 0.7 = 0.88 from the first estimate, then 0.9 * 0.88 + 0.1 * 0.5 = 0.842."""
    spec = LOSSES["lcpo"]
    chosen = spec.checked_options({}, "t")
    state = spec.remember({}, {"posterior": [0.6, 0.8]}, chosen)
    assert state == {"eta": pytest.approx(0.88)}
    assert spec.remember(state, {"posterior": [0.5]}, chosen) == {"eta": pytest.approx(0.842)}
    assert spec.remember(state, {}, chosen) == state, "a step without a pair"
    still = spec.checked_options({"momentum": 0.0}, "t")
    assert spec.remember(state, {"posterior": [0.5]}, still) == state


def test_lcpo_of_no_difference_believes_the_prior(make: Any) -> None:
    memory = Memory({"eta": 0.7})
    at(make, 0.0).value("lcpo", memory)
    assert memory.observed["posterior"] == [pytest.approx(0.7, abs=1e-12)]


@pytest.mark.parametrize("base", ["dpo", "ipo", "simpo", "cpo", "slic", "orpo", "cdpo", "f-dpo", "ln-dpo"])
def test_lcpo_stands_on_other_losses(pair: Any, base: str) -> None:
    """With eta next to 1 it is next to the base itself; the Gibbs link is exp(-l) of both directions."""
    plain = pair.value(base, sft=0)
    sure = pair.value("lcpo", Memory({"eta": 1 - 1e-12}), base=base)
    back = pair.given(edge=torch.tensor([[0, 1, 0]])).value(base, sft=0)
    assert sure == pytest.approx(plain, rel=1e-4)
    q = math.exp(-plain) / (math.exp(-plain) + math.exp(-back))
    w = 0.9 * q / (0.9 * q + 0.1 * (1 - q))
    assert pair.value("lcpo", base=base) == pytest.approx(w * plain + (1 - w) * back, rel=1e-9)


@pytest.mark.parametrize("base", ["simpo", "cpo", "orpo", "slic"])
def test_lcpo_without_a_reference(pair: Any, base: str) -> None:
    assert pair.given(ref=None).value("lcpo", base=base) == pair.value("lcpo", base=base)
    spec = LOSSES["lcpo"]
    assert spec.needed(spec.checked_options({"base": base}, "t")) == {"edges"}
    assert spec.needed(spec.checked_options({}, "t")) == {"edges", "reference"}
    assert spec.needed(spec.checked_options({"base": "ld-dpo"}, "t")) == {"edges", "reference", "tokens"}


def test_lcpo_weights_have_no_gradient(pair: Any) -> None:
    """Finite differences with w held: -beta (w - s(-beta D) ...) is w L'(D) - (1 - w) L'(-D)."""
    w, s = 0.912713, 1 / (1 + math.exp(0.15))
    expected = -0.1 * (w * s - (1 - w) * (1 - s))
    assert pair.gradient("lcpo")[0, 0].item() == pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("base", ["dpo", "ipo", "simpo", "orpo"])
def test_lcpo_matches_finite_differences_with_its_weights_held(
    pair: Any, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefdata.stats.label_noise.label_posterior", lambda q, eta: torch.full_like(q, 0.8))
    lp = pair.outputs.lp.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda lp: pair.given(lp=lp).loss("lcpo", base=base), (lp,))


def test_lcpo_temperature_and_base_options_act(pair: Any) -> None:
    sharp, flat = (Memory(), Memory())
    pair.value("lcpo", sharp, base="ipo", base_options={"length_normalised": False})
    pair.value("lcpo", flat, base="ipo", base_options={"length_normalised": False}, temperature=1e9)
    assert sharp.observed["posterior"][0] > 0.999  # 2 D / tau = 30
    assert flat.observed["posterior"] == [pytest.approx(0.9, abs=1e-6)]
    assert pair.value("lcpo", base_options={"beta": 1.0}) != pair.value("lcpo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "plackett-luce"}, r"base is a loss over pairs that leaves .* \(.*\), not 'plackett-luce'"),
        ({"base": "selfie"}, "not 'selfie'"),
        ({"base": "lcpo"}, "not 'lcpo'"),
        ({"base": "osp"}, "not 'osp'"),
        ({"base": "mm-dpo"}, "not 'mm-dpo'"),
        ({"base": "factuality-dpo"}, "not 'factuality-dpo'"),
        ({"base": "dpoo"}, "not 'dpoo'"),
        ({"base_options": {"sft": 1.0}}, r"base_options holds dpo's own options \(beta\), not 'sft'"),
        ({"base_options": {"beta": -1}}, "the option 'beta' of the loss 'dpo' is a number above 0, not -1"),
        ({"base_options": "beta"}, "base_options maps names to values"),
        ({"base": "dove", "sft": 1.0}, "its base dove takes no option 'sft'; leave it at 0.0"),
        ({"base": "sppo-hard", "margin": "edges"}, "its base sppo-hard takes no option 'margin'; leave it at 'none'"),
        ({"eta": 0.5}, "'eta' of the loss 'lcpo' is a number above 0.5 and below 1, not 0.5"),
        ({"momentum": 2}, "'momentum' of the loss 'lcpo' is a number of at least 0 and of at most 1, not 2"),
    ],
)
def test_lcpo_refuses_what_it_cannot_stand_on(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        LOSSES["lcpo"].checked_options(options, "train")


def test_lcpo_learns_the_share_of_right_labels(make: Any) -> None:
    """Calibrated pairs (z is the true log-odds), 30% of the labels flipped: eta comes to 0.7 from 0.9."""
    draw = random.Random(1)
    spec, state = LOSSES["lcpo"], {}
    chosen = spec.checked_options({"base_options": {"beta": 1.0}}, "t")
    late_values = []
    for step in range(120):
        gaps = []
        for _ in range(64):
            z = draw.gauss(0, 3)
            said = draw.random() < 1 / (1 + math.exp(-z))
            said = said if draw.random() < 0.7 else not said
            gaps.append([z if said else -z, 0.0])
        case = make(gaps)
        memory = Memory(state, step=step, steps=120)
        spec.sums(case.outputs, case.batch, chosen, memory)
        state = json.loads(json.dumps(spec.remember(state, memory.observed, chosen)))
        late_values += [state["eta"]] if step >= 60 else []
    assert sum(late_values) / len(late_values) == pytest.approx(0.7, abs=0.03)


def test_pairs_that_do_not_count_are_not_remembered(make: Any) -> None:
    case = make([[1.0, 0.0], [2.0, 0.0]], p=[0.5, 1.0])
    memory = Memory()
    case.value("lcpo", memory, label="hard")
    assert len(memory.observed["posterior"]) == 1
    memory = Memory()
    case.given(weight=torch.tensor([1.0, 0.0])).value("selfie", memory)
    assert len(memory.observed["margin"]) == 1


def test_tensors_and_arrays_share_the_posterior() -> None:
    q = [0.0, 0.1, 0.5, 0.9, 1.0]
    tensor = label_posterior(torch.tensor(q, dtype=torch.float64), 0.8)
    assert tensor.tolist() == pytest.approx([label_posterior(one, 0.8) for one in q], abs=1e-15)
    assert label_posterior(torch.tensor(q), 1.0).tolist() == [1.0] * 5
