"""Losses that fit win rates, rewards and shares of votes, against the numbers of their specifications."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES

torch = pytest.importorskip("torch")
NEAR = 5e-7
quick = settings(deadline=None, max_examples=25)
gaps = st.floats(-40, 40)
shares = st.floats(0, 1)


def rated(make: Any, win: float, lose: float, **more: Any) -> Any:
    return make([[-12, -15]], [[-13, -14.5]], values={"win_rate": [[win, lose]]}, **more)


def test_sppo(make: Any) -> None:
    """eta = 10: the targets are 3 and -3, ((1 - 3)^2 + (-0.5 + 3)^2) / 2 = 5.125."""
    assert rated(make, 0.8, 0.2).value("sppo", beta=0.1) == pytest.approx(5.125, abs=1e-12)
    assert rated(make, 1, 0).value("sppo", beta=0.1) == pytest.approx(18.125, abs=1e-12)


def test_sppo_hard(pair: Any) -> None:
    """((1 - 5)^2 + (-0.5 + 5)^2) / 2; 36.25 where a library leaves the division out."""
    assert pair.value("sppo-hard", beta=0.1) == pytest.approx(36.25 / 2, abs=1e-12)


def test_sppo_is_0_at_its_targets_and_one_half_pulls_to_0(make: Any) -> None:
    met = make([[3.0, -3.0]], values={"win_rate": [[0.8, 0.2]]})
    assert met.value("sppo", beta=0.1) == pytest.approx(0, abs=1e-20)
    pulled = make([[2.0, -1.0]], values={"win_rate": [[0.5, 0.5]]})
    assert pulled.value("sppo") == pytest.approx((4 + 1) / 2, abs=1e-12)
    assert pulled.gradient("sppo").tolist() == [[2, -1]]


def test_sppo_is_not_blind_to_a_constant(make: Any) -> None:
    """Unlike DPO: what it fits is each response's own log-ratio."""
    for name, options in (("sppo", {"beta": 0.1}), ("sppo-hard", {"beta": 0.1})):
        case = rated(make, 0.8, 0.2)
        moved = case.given(ref=case.outputs.ref + 1)
        assert abs(moved.value(name, **options) - case.value(name, **options)) > 0.1
        assert moved.value("dpo") == pytest.approx(case.value("dpo"), abs=1e-12)


@quick
@given(gaps, gaps, shares, shares)
def test_sppo_does_not_depend_on_who_is_called_the_winner(
    make: Any, a: float, b: float, win: float, lose: float
) -> None:
    """So p and label could not act, and are not offered."""
    case = make([[a, b]], values={"win_rate": [[win, lose]]})
    back = case.given(edge=torch.tensor([[0, 1, 0]]))
    assert case.value("sppo") == pytest.approx(back.value("sppo"), rel=1e-12)
    assert not {"label", "margin"} & set(LOSSES["sppo"].offered)
    assert "margin" not in LOSSES["sppo-hard"].offered and "label" in LOSSES["sppo-hard"].offered


@pytest.mark.parametrize("wrong", [math.nan, 1.5, -0.1])
def test_sppo_refuses_what_is_no_win_rate(make: Any, wrong: float) -> None:
    with pytest.raises(TrainError, match=r"values\.win_rate.* a pair's response has (no|another) number there"):
        rated(make, 0.5, wrong).value("sppo")
    assert "values.elo" in LOSSES["sppo"].needed(LOSSES["sppo"].checked_options({"win_rate": "elo"}, "t"))


def test_dno(make: Any) -> None:
    """q = s(0.7 - 0.4) = 0.574443; q * 0.620957 + (1 - q) * 0.770957 = 0.684791."""
    case = make([[-12, -15]], [[-13, -14.5]], scores=[[0.7, 0.4]], values={"win_rate": [[0.7, 0.4]]})
    q = 1 / (1 + math.exp(-0.3))
    assert q == pytest.approx(0.574443, abs=NEAR)
    assert case.value("dno") == pytest.approx(0.684791, abs=NEAR)
    assert case.given(scores=torch.full((1, 2), math.nan)).value("dno", rewards="values.win_rate") == pytest.approx(
        0.684791, abs=NEAR
    )
    certain = make([[-12, -15]], [[-13, -14.5]], scores=[[1000, 0]])
    assert certain.value("dno") == certain.value("dpo")


@quick
@given(st.floats(0, 1), st.floats(0, 1), gaps)
def test_dno_is_least_where_the_log_ratios_differ_as_the_rewards_do(
    make: Any, won: float, lost: float, gap: float
) -> None:
    case = make([[(won - lost) / 0.1, 0.0]], scores=[[won, lost]])
    assert case.gradient("dno").abs().max().item() < 1e-9
    one = make([[gap, 0.0]], scores=[[won, lost]])
    back = one.given(edge=torch.tensor([[0, 1, 0]]))
    assert one.value("dno") == pytest.approx(back.value("dno"), rel=1e-9, abs=1e-12)


def test_dno_asks_for_rewards(pair: Any) -> None:
    spec = LOSSES["dno"]
    assert "scores" in spec.needed(spec.checked_options({}, "t"))
    assert "values.win_rate" in spec.needed(spec.checked_options({"rewards": "values.win_rate"}, "t"))
    with pytest.raises(TrainError, match=r"'rewards' of the loss 'dno' is scores or values\.NAME, not 'ranks'"):
        spec.checked_options({"rewards": "ranks"}, "t")
    with pytest.raises(TrainError, match="scores: a pair's response has no number there"):
        pair.given(scores=torch.full((1, 2), math.nan)).value("dno")


def test_irepo(make: Any) -> None:
    """(0.15 - log(0.7 / 0.3))^2 = 0.486224."""
    case = make([[-12, -15]], [[-13, -14.5]], p=[0.7])
    assert case.value("irepo") == pytest.approx(0.486224, abs=NEAR)


@quick
@given(st.floats(0.06, 0.94))
def test_irepo_is_0_at_the_log_odds(make: Any, p: float) -> None:
    assert make([[math.log(p / (1 - p)) / 0.1, 0]], p=[p]).value("irepo") == pytest.approx(0, abs=1e-18)


@quick
@given(gaps, st.floats(0, 1), st.integers(1, 20))
def test_irepo_swapped_is_itself_with_1_minus_p(make: Any, gap: float, p: float, votes: int) -> None:
    case = make([[gap, 0]], p=[p], votes=[votes])
    back = make([[gap, 0]], edges=[(0, 1, 0)], p=[1 - p], votes=[votes])
    assert case.value("irepo") == pytest.approx(back.value("irepo"), rel=1e-6, abs=1e-9)


def test_irepo_clips_unanimous_votes(make: Any) -> None:
    """Of 4 votes to 1 - 1/8 = 7/8; where the data do not say, of the option's number; one vote alone to 1/2."""
    assert make([[0.0, 0]], votes=[4]).value("irepo") == pytest.approx(math.log(7) ** 2, abs=1e-12)
    assert make([[0.0, 0]]).value("irepo", votes=4) == pytest.approx(math.log(7) ** 2, abs=1e-12)
    assert make([[0.0, 0]]).value("irepo") == pytest.approx(math.log(19) ** 2, abs=1e-12)
    assert make([[0.0, 0]], votes=[1]).value("irepo") == 0
    assert make([[3.0, 0]], p=[0.5]).gradient("irepo")[0, 0].item() == pytest.approx(2 * 0.1 * 0.3, abs=1e-12)
