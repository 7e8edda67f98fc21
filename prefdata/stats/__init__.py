"""Statistics of preferences: pure functions on arrays. No tables, no files.

What cannot be computed from what was given (an agreement without variation, a correlation with a constant) is None,
never a number that looks like a result. Arguments that make no sense raise ValueError with a sentence.
"""

from __future__ import annotations

from prefdata.stats.agreement import cohen_kappa, kappas, order_agreement
from prefdata.stats.alpha import krippendorff_alpha, mean_agreement
from prefdata.stats.bradley_terry import DEFAULT_PRIOR, BradleyTerry, bradley_terry, bradley_terry_batch
from prefdata.stats.calibration import Calibration, calibration, isotonic, temperature
from prefdata.stats.chance import fleiss_kappa, gwet_ac1
from prefdata.stats.correlation import kendall_tau, midranks, spearman
from prefdata.stats.estimate import Agreement, Estimate, Estimates
from prefdata.stats.intervals import bootstrap_interval, wilson_interval
from prefdata.stats.label_noise import estimate_reliability, label_posterior, next_reliability
from prefdata.stats.plackett_luce import PlackettLuce, plackett_luce, plackett_luce_log_probability
from prefdata.stats.ranking import best_of_n, ideal_gap, loss_to_flip, ndcg
from prefdata.stats.ratings import Level
from prefdata.stats.resampling import Draws, paired_difference
from prefdata.stats.stopping import Remaining, remaining, units_needed

__all__ = [
    "DEFAULT_PRIOR",
    "Agreement",
    "BradleyTerry",
    "Calibration",
    "Draws",
    "Estimate",
    "Estimates",
    "Level",
    "PlackettLuce",
    "Remaining",
    "best_of_n",
    "bootstrap_interval",
    "bradley_terry",
    "bradley_terry_batch",
    "calibration",
    "cohen_kappa",
    "estimate_reliability",
    "fleiss_kappa",
    "gwet_ac1",
    "ideal_gap",
    "isotonic",
    "kappas",
    "kendall_tau",
    "krippendorff_alpha",
    "label_posterior",
    "loss_to_flip",
    "mean_agreement",
    "midranks",
    "ndcg",
    "next_reliability",
    "order_agreement",
    "paired_difference",
    "plackett_luce",
    "plackett_luce_log_probability",
    "remaining",
    "spearman",
    "temperature",
    "units_needed",
    "wilson_interval",
]
