"""Plackett-Luce: ties, stages and extremes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
NAME = "plackett-luce"


def test_stages_are_averaged_on_request(ranked: Any, make: Any) -> None:
    assert ranked.value(NAME, beta=0.5) == pytest.approx(1.295443, abs=5e-7)
    assert ranked.value(NAME, beta=0.5, mean_over_stages=True) == pytest.approx(1.295443 / 2, abs=5e-7)
    first_only = make([[1.0, 0.2, -0.5]], ranks=[[1, 2, 2]])
    assert first_only.value(NAME, beta=0.5, mean_over_stages=True) == pytest.approx(0.762060, abs=5e-7)


def test_ties_do_not_compete(make: Any) -> None:
    """Each of two tied responses is set against the third alone: log(1 + e^-0.75) + log(1 + e^-0.35)."""
    tied = make([[1.0, 0.2, -0.5]], ranks=[[1, 1, 3]])
    by_hand = math.log1p(math.exp(-0.75)) + math.log1p(math.exp(-0.35))
    assert tied.value(NAME, beta=0.5) == pytest.approx(by_hand, abs=1e-12)
    gradient = tied.gradient(NAME, beta=0.5)
    assert gradient[0, 0].item() == pytest.approx(-0.5 / (1 + math.exp(0.75)), abs=1e-12)
    # An upper bound of the exact likelihood that both precede the third, summed over their two orders.
    s = [0.5, 0.1, -0.25]
    exact = sum(
        math.exp(-math.log1p(math.exp(s[b] - s[a]) + math.exp(s[2] - s[a])) - math.log1p(math.exp(s[2] - s[b])))
        for a, b in itertools.permutations((0, 1))
    )
    assert tied.value(NAME, beta=0.5) >= -math.log(exact)


def test_extreme_values_stay_finite(make: Any) -> None:
    case = make([[-5000.0, 0.0]], dtype=torch.float32)
    assert case.value(NAME) == pytest.approx(500.0, rel=1e-6)
    assert torch.isfinite(case.gradient(NAME)).all()
