"""How often labels are right, where a model of the preferences says how likely each label is.

The mixture: a label is right with probability eta (the reliability), and otherwise says the opposite. A label to which
the model gives the probability q is then right with the posterior probability `eta q / (eta q + (1 - eta)(1 - q))`, and
the mean of the posteriors is the next estimate of eta (expectation-maximisation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SLACK = 1e-3
"""An estimated reliability keeps this distance from 0.5, where labels say nothing, and from 1, where it would stay."""


def label_posterior(agreement: Any, reliability: Any) -> Any:
    """The probability that each label is right: `eta q / (eta q + (1 - eta)(1 - q))`.

    It uses arithmetic alone, so that arrays and tensors go through the same formula; what it returns is of the kind of
    what it was given.

    Args:
        agreement: q, any shape, 0 to 1: the model's probability of what the label says, the label's own reliability
            left aside.
        reliability: eta, 0 < eta <= 1, a number or of a shape that fits. With 1 every label is right.

    Source: Latent Collective Preference Optimization (LCPO), the E-step.
    """
    doubt = (1 - reliability) / reliability
    # Where q and the doubt are both 0 the quotient has no value; a label that is surely right stays so.
    return (agreement + (doubt == 0)) / (agreement + doubt * (1 - agreement) + (doubt == 0))


def next_reliability(reliability: float, mean_posterior: float, rate: float = 1.0) -> float:
    """A step of the estimate: `(1 - rate) eta + rate * mean posterior`, at least 0.501 and at most 0.999.

    Args:
        reliability: eta before it.
        mean_posterior: mean of `label_posterior` over the labels, 0 to 1.
        rate: 0 to 1; 1 is plain expectation-maximisation, less a moving average over batches.

    Raises:
        ValueError: the rate is outside its range.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate of the moving average is a number from 0 to 1; it is {rate}")
    return min(1 - SLACK, max(0.5 + SLACK, (1 - rate) * reliability + rate * mean_posterior))


def estimate_reliability(
    agreement: ArrayLike, *, start: float = 0.9, tolerance: float = 1e-6, most: int = 10_000
) -> float | None:
    """The share of labels that are right, by expectation-maximisation.

    It is only as good as the model is calibrated: with calibrated q it converges to the true share as labels grow in
    number. Labels to which the model gives 0.5 say nothing.

    Args:
        agreement: `[n]`, as in `label_posterior`; NaN is left out.
        start: where the estimate begins, above 0.5 and below 1.
        tolerance: it ends when a step changes the estimate by less.
        most: steps at most.

    Returns:
        An estimate from 0.501 to 0.999; None without labels.

    Raises:
        ValueError: an argument outside its range.
    """
    q = np.asarray(agreement, dtype=np.float64).ravel()
    q = q[~np.isnan(q)]
    if not 0.5 < start < 1:
        raise ValueError(f"the reliability begins above 0.5 and below 1; it is {start}")
    if q.size and not (q.min() >= 0 and q.max() <= 1):
        raise ValueError(f"the model's probabilities lie from 0 to 1; they go from {q.min():g} to {q.max():g}")
    if not q.size:
        return None
    reliability = start
    for _ in range(most):
        before, reliability = reliability, next_reliability(reliability, float(label_posterior(q, reliability).mean()))
        if abs(reliability - before) < tolerance:
            break
    return reliability
