"""Reference-free pairwise losses, and SLiC's form with a reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train.losses import LOSSES
from prefdata.train.losses.reference_free import SURE, log_odds

torch = pytest.importorskip("torch")
NEAR = 5e-7
quick = settings(deadline=None, max_examples=25)
FREE = ("slic", "simpo", "cpo", "orpo")


def test_slic(pair: Any) -> None:
    """max(0, 4 + 12 - 15) = 1, and 0.1 * 12 = 1.2 of its SFT term; 1 - 0.1 * 1.5 = 0.85 with the reference."""
    assert pair.value("slic", delta=4, sft=0) == pytest.approx(1.0, abs=1e-12)
    assert pair.value("slic", delta=4) == pytest.approx(2.2, abs=1e-12)
    assert pair.value("slic-normalised") == pytest.approx(0.85, abs=1e-12)


def test_slic_reads_the_lists_own_sft_text(make: Any) -> None:
    """A third response of role sft with lp -7 takes the winner's place in the SFT term."""
    case = make([[-12, -15, -7]], edges=[(0, 0, 1)], ranks=[[1, 2, 0]], sft=[[False, False, True]], length=[[4, 6, 2]])
    assert case.value("slic", delta=4) == pytest.approx(1.0 + 0.7, abs=1e-12)
    assert case.value("slic", delta=4, sft_reduction="mean") == pytest.approx(1.0 + 0.35, abs=1e-12)


def test_slic_has_no_gradient_where_the_margin_is_met(make: Any) -> None:
    met = make([[-12, -15]])
    assert met.value("slic", sft=0) == 0
    assert met.gradient("slic", sft=0).tolist() == [[0, 0]]
    assert make([[20.0, 0]]).gradient("slic-normalised").tolist() == [[0, 0]]


def test_simpo(pair: Any) -> None:
    """-log s(2 (-3 + 2.5) - 1) = 2.126928 (D 17: unequal lengths)."""
    assert pair.value("simpo", beta=2, gamma_ratio=0.5) == pytest.approx(2.126928, abs=NEAR)


@quick
@given(st.floats(-60, -1), st.floats(-60, -1), st.integers(1, 9))
def test_simpo_without_gamma_on_equal_lengths_is_cpo(make: Any, a: float, b: float, count: int) -> None:
    case = make([[a, b]], length=[[count, count]])
    cpo = case.value("cpo", beta=2 / count, sft=0)
    assert case.value("simpo", beta=2, gamma_ratio=0) == pytest.approx(cpo, rel=1e-9)


def test_cpo(pair: Any) -> None:
    """-log s(0.1 * 3) = 0.554355, and 12 / 4 = 3 of its SFT term; with a constant reference it is DPO."""
    assert pair.value("cpo", sft=0) == pytest.approx(0.554355, abs=NEAR)
    assert pair.value("cpo") == pytest.approx(3.554355, abs=NEAR)
    constant = pair.given(ref=torch.full_like(pair.outputs.ref, -9.0))
    assert constant.value("dpo") == pytest.approx(pair.value("cpo", sft=0), abs=1e-12)


def test_cpo_averages_its_sft_term_over_all_winners_tokens(make: Any) -> None:
    """(12 + 4) / (4 + 12) = 1, where the mean of means would be (3 + 1/3) / 2."""
    case = make([[-12, -15], [-4, -15]], length=[[4, 6], [12, 6]])
    assert case.value("cpo") - case.value("cpo", sft=0) == pytest.approx(1.0, abs=1e-12)
    by_response = case.value("cpo", sft_reduction="mean") - case.value("cpo", sft=0)
    assert by_response == pytest.approx((3 + 1 / 3) / 2, abs=1e-12)


def test_cpo_simpo_is_simpo_with_the_sft_term(pair: Any) -> None:
    assert pair.value("simpo", sft=1.0) == pytest.approx(pair.value("simpo") + 3, abs=1e-12)


def test_orpo(pair: Any) -> None:
    """Log-odds of -3 and -2.5 differ by -0.534581; -log s of it is 0.995743; 3 + 0.1 * 0.995743 = 3.099574."""
    gap = log_odds(torch.tensor(-3.0, dtype=torch.float64)) - log_odds(torch.tensor(-2.5, dtype=torch.float64))
    assert gap.item() == pytest.approx(-0.534581, abs=NEAR)
    assert pair.value("orpo", lam=1, sft=0) == pytest.approx(0.995743, abs=NEAR)
    assert pair.value("orpo") == pytest.approx(3.099574, abs=NEAR)
    assert pair.value("orpo", lam=0) == 3.0  # SFT


def test_orpo_at_certainty(make: Any) -> None:
    """D 22: log(1 - exp(0)) is not reached: in float32 values and gradients stay finite up to p = 1."""
    for lp in ([[0.0, -5.0]], [[-5.0, 0.0]], [[0.0, 0.0]], [[-1e-8, -5.0]], [[-5.0, -1e-30]], [[-5e-7, -5.0]]):
        case = make(lp, dtype=torch.float32)
        assert math.isfinite(case.value("orpo")), lp
        assert torch.isfinite(case.gradient("orpo")).all(), lp


@quick
@given(st.floats(-40, -1e-5))
def test_log_odds_in_float32_are_those_in_float64(logprob: float) -> None:
    single = torch.tensor(logprob, dtype=torch.float32, requires_grad=True)
    exact = single.detach().double().requires_grad_()
    for one in (single, exact):
        log_odds(one).backward()
    assert log_odds(single).item() == pytest.approx(log_odds(exact).item(), rel=1e-5, abs=1e-5)
    assert single.grad.item() == pytest.approx(exact.grad.item(), rel=1e-3)
    odds = math.exp(exact.item()) / -math.expm1(exact.item())
    assert log_odds(exact).item() == pytest.approx(math.log(odds), rel=1e-9, abs=1e-9)
    assert SURE < 1e-5  # nothing that is drawn here is cut


def test_orpo_nll_is_of_the_response_alone(pair: Any) -> None:
    """D 22: the SFT term is -lp / length of trained tokens; tokens of a prompt are in neither."""
    sft = pair.value("orpo") - pair.value("orpo", sft=0)
    assert sft == pytest.approx(12 / 4, abs=1e-12)
    with_prompt = pair.given(lp=pair.outputs.lp - 20, length=pair.batch.length + 10)  # what the bug computed
    assert with_prompt.value("orpo") - with_prompt.value("orpo", sft=0) == pytest.approx(32 / 14, abs=1e-12)


@pytest.mark.parametrize("name", FREE)
def test_no_reference_is_asked_for_or_read(pair: Any, name: str) -> None:
    spec = LOSSES[name]
    assert not spec.reference
    assert "reference" not in spec.needed(spec.checked_options({}, "test"))
    moved = pair.given(ref=pair.outputs.ref * 3 + 1)
    assert pair.value(name) == moved.value(name) == pair.given(ref=None).value(name)


def test_the_normalised_hinge_reads_it() -> None:
    spec = LOSSES["slic-normalised"]
    assert "reference" in spec.needed(spec.checked_options({}, "test"))
