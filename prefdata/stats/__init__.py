"""Statistics of preferences: pure functions on arrays. No tables, no files.

What cannot be computed from what was given (an agreement without variation, a correlation with a constant) is None,
never a number that looks like a result. Arguments that make no sense raise ValueError with a sentence.

Where what lies; the first module of a row has the public function, the others are its parts.

===============================================  =======================================================================
strengths from comparisons                       bradley_terry, comparisons (checked, counted into cells), bt_outcomes
                                                 (models of ties), bt_newton, bt_sparse, bt_existence, bt_covariance,
                                                 bt_bootstrap, bt_batch (many small problems); elo; style (covariates)
strengths from rankings                          plackett_luce, ballots, ranking_stages; mallows
strengths, and what each annotator is worth      annotator_bradley_terry, annotator_fit, annotator_likelihood,
                                                 annotator_posterior
people, judges and reward models in one          joint, joint_prepare, joint_data, joint_likelihood, joint_fit,
                                                 joint_settle, joint_newton, joint_curvature, joint_strengths
true labels, and what each annotator is worth    dawid_skene (one coin too), glad, mace; crowd (votes as codes, the
                                                 result, the majority), crowd_em
elections, orders, cycles                        voting, minimax, ranks (of estimates), hodge, cycles,
                                                 general_preference
agreement                                        agreement (two), alpha and ratings (many), chance, concordance,
                                                 correlation
probabilities that come true                     calibration
win rates, length                                win_rate, length_controlled, length_sensitivity
doubtful labels                                  label_noise, denoise, confident, displacement
several objectives                               objectives
rankings against numbers, metrics                ranking, metric_correlation
whom to ask, when to stop                        routing, stopping
simulated annotators                             simulate, simulated
shared by all                                    estimate (what is returned), intervals, resampling, checking,
                                                 coding, components, logistic (sigmoid, log_sigmoid), logistic_sparse
===============================================  =======================================================================
"""

from __future__ import annotations

from prefdata.stats.agreement import cohen_kappa, kappas, order_agreement
from prefdata.stats.alpha import krippendorff_alpha, mean_agreement
from prefdata.stats.annotator_bradley_terry import AnnotatorBradleyTerry, annotator_bradley_terry
from prefdata.stats.bradley_terry import DEFAULT_PRIOR, BradleyTerry, bradley_terry, bradley_terry_batch
from prefdata.stats.bt_bootstrap import BradleyTerryBootstrap, bradley_terry_bootstrap
from prefdata.stats.bt_existence import Existence
from prefdata.stats.calibration import Calibration, calibration, isotonic, temperature
from prefdata.stats.chance import fleiss_kappa, gwet_ac1
from prefdata.stats.concordance import Concordance, kendall_w
from prefdata.stats.confident import ConfidentLabels, OutOfFold, confident_pairs, out_of_fold
from prefdata.stats.correlation import kendall_tau, midranks, spearman
from prefdata.stats.crowd import Crowd, majority_vote
from prefdata.stats.cycles import Cycles, sure_cycles
from prefdata.stats.dawid_skene import Confusions, dawid_skene, one_coin
from prefdata.stats.denoise import RewardVotes, noise_threshold, reward_votes, separation
from prefdata.stats.displacement import ches, flipping_beta, ranking_accuracy
from prefdata.stats.elo import Elo, elo
from prefdata.stats.estimate import Agreement, Estimate, Estimates
from prefdata.stats.general_preference import preference_probabilities, preference_scores
from prefdata.stats.glad import Glad, glad
from prefdata.stats.hodge import HodgeRank, hodge_rank, hodge_rank_of_wins
from prefdata.stats.intervals import bootstrap_interval, wilson_interval
from prefdata.stats.joint import JointModel, joint_model
from prefdata.stats.label_noise import (
    CollectiveLabels,
    collective_posterior,
    estimate_reliability,
    flip_probability,
    label_posterior,
    next_reliability,
    robust_loss,
)
from prefdata.stats.length_controlled import (
    Difficulty,
    Gamed,
    LengthControl,
    LengthControlled,
    instruction_difficulty,
    length_controlled_win_rate,
    length_feature,
)
from prefdata.stats.length_sensitivity import divergence, length_sensitivity
from prefdata.stats.mace import Mace, mace
from prefdata.stats.mallows import Mallows, draw_mallows, mallows, mallows_log_probability
from prefdata.stats.metric_correlation import MetricCorrelation, metric_correlation, pearson
from prefdata.stats.minimax import Minimax, count_triads, minimax_winner, win_shares
from prefdata.stats.objectives import min_norm_weights, proxy_point
from prefdata.stats.plackett_luce import PlackettLuce, plackett_luce, plackett_luce_log_probability
from prefdata.stats.ranking import (
    best_of_n,
    best_of_n_divergence,
    best_of_n_win_rate,
    ideal_gap,
    loss_to_flip,
    ndcg,
    positional_weights,
    swap_weights,
)
from prefdata.stats.ranks import RankSets, rank_sets
from prefdata.stats.ratings import Level
from prefdata.stats.resampling import Draws, paired_difference
from prefdata.stats.routing import PerformanceModel, performance_model, quantile_bins, within_budget
from prefdata.stats.simulate import simulate_comparisons, simulate_labels, simulate_scores
from prefdata.stats.simulated import Annotators
from prefdata.stats.stopping import Remaining, remaining, units_needed
from prefdata.stats.style import style_features
from prefdata.stats.voting import (
    Kemeny,
    Schulze,
    borda,
    borda_counts,
    condorcet_winner,
    contradicted,
    copeland,
    kemeny,
    schulze,
    shares,
    wins_of_comparisons,
    wins_of_rankings,
)
from prefdata.stats.win_rate import WinRate, from_alpaca_eval, two_games, verdict_games, win_rate, win_rate_by

__all__ = [
    "DEFAULT_PRIOR",
    "Agreement",
    "AnnotatorBradleyTerry",
    "Annotators",
    "BradleyTerry",
    "BradleyTerryBootstrap",
    "Calibration",
    "CollectiveLabels",
    "Concordance",
    "ConfidentLabels",
    "Confusions",
    "Crowd",
    "Cycles",
    "Difficulty",
    "Draws",
    "Elo",
    "Estimate",
    "Estimates",
    "Existence",
    "Gamed",
    "Glad",
    "HodgeRank",
    "JointModel",
    "Kemeny",
    "LengthControl",
    "LengthControlled",
    "Level",
    "Mace",
    "Mallows",
    "MetricCorrelation",
    "Minimax",
    "OutOfFold",
    "PerformanceModel",
    "PlackettLuce",
    "RankSets",
    "Remaining",
    "RewardVotes",
    "Schulze",
    "WinRate",
    "annotator_bradley_terry",
    "best_of_n",
    "best_of_n_divergence",
    "best_of_n_win_rate",
    "bootstrap_interval",
    "borda",
    "borda_counts",
    "bradley_terry",
    "bradley_terry_batch",
    "bradley_terry_bootstrap",
    "calibration",
    "ches",
    "cohen_kappa",
    "collective_posterior",
    "condorcet_winner",
    "confident_pairs",
    "contradicted",
    "copeland",
    "count_triads",
    "dawid_skene",
    "divergence",
    "draw_mallows",
    "elo",
    "estimate_reliability",
    "fleiss_kappa",
    "flip_probability",
    "flipping_beta",
    "from_alpaca_eval",
    "glad",
    "gwet_ac1",
    "hodge_rank",
    "hodge_rank_of_wins",
    "ideal_gap",
    "instruction_difficulty",
    "isotonic",
    "joint_model",
    "kappas",
    "kemeny",
    "kendall_tau",
    "kendall_w",
    "krippendorff_alpha",
    "label_posterior",
    "length_controlled_win_rate",
    "length_feature",
    "length_sensitivity",
    "loss_to_flip",
    "mace",
    "majority_vote",
    "mallows",
    "mallows_log_probability",
    "mean_agreement",
    "metric_correlation",
    "midranks",
    "min_norm_weights",
    "minimax_winner",
    "ndcg",
    "next_reliability",
    "noise_threshold",
    "one_coin",
    "order_agreement",
    "out_of_fold",
    "paired_difference",
    "pearson",
    "performance_model",
    "plackett_luce",
    "plackett_luce_log_probability",
    "positional_weights",
    "preference_probabilities",
    "preference_scores",
    "proxy_point",
    "quantile_bins",
    "rank_sets",
    "ranking_accuracy",
    "remaining",
    "reward_votes",
    "robust_loss",
    "schulze",
    "separation",
    "shares",
    "simulate_comparisons",
    "simulate_labels",
    "simulate_scores",
    "spearman",
    "style_features",
    "sure_cycles",
    "swap_weights",
    "temperature",
    "two_games",
    "units_needed",
    "verdict_games",
    "wilson_interval",
    "win_rate",
    "win_rate_by",
    "win_shares",
    "wins_of_comparisons",
    "wins_of_rankings",
    "within_budget",
]
