"""Statistics of preferences: pure functions on arrays. No tables, no files.

What cannot be computed from what was given (an agreement without variation, a correlation with a constant) is None,
never a number that looks like a result. Arguments that make no sense raise ValueError with a sentence.
"""

from __future__ import annotations

from prefdata.stats.agreement import OrderAgreement, cohen_kappa, kappa_interval, kappas, order_agreement
from prefdata.stats.alpha import Level, Reliability, alpha_interval, krippendorff_alpha, mean_agreement, reliability
from prefdata.stats.bradley_terry import DEFAULT_PRIOR, BradleyTerry, bradley_terry, bradley_terry_batch
from prefdata.stats.correlation import kendall_tau_b, midranks, spearman
from prefdata.stats.intervals import bootstrap_interval, wilson_interval
from prefdata.stats.label_noise import estimate_reliability, label_posterior, next_reliability
from prefdata.stats.ranking import best_of_n, ideal_gap, loss_to_flip, ndcg
from prefdata.stats.resampling import Draws, paired_difference
from prefdata.stats.stopping import Remaining, remaining, units_needed

__all__ = [
    "DEFAULT_PRIOR",
    "BradleyTerry",
    "Draws",
    "Level",
    "OrderAgreement",
    "Reliability",
    "Remaining",
    "alpha_interval",
    "best_of_n",
    "bootstrap_interval",
    "bradley_terry",
    "bradley_terry_batch",
    "cohen_kappa",
    "estimate_reliability",
    "ideal_gap",
    "kappa_interval",
    "kappas",
    "kendall_tau_b",
    "krippendorff_alpha",
    "label_posterior",
    "loss_to_flip",
    "mean_agreement",
    "midranks",
    "ndcg",
    "next_reliability",
    "order_agreement",
    "paired_difference",
    "reliability",
    "remaining",
    "spearman",
    "units_needed",
    "wilson_interval",
]
