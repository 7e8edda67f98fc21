"""Every public estimator on what it should never be given: a right answer or a sentence, never a number that lies."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from prefdata import stats

WINNERS, LOSERS = [0, 1, 0, 2, 1, 2, 0, 1, 2, 0], [1, 0, 2, 0, 2, 1, 1, 2, 0, 2]
PEOPLE, WEIGHTS = list("abcabcabca"), [1.0, 2, 1, 1, 1, 1, 1, 1, 1, 1]
OUTCOMES, SIDES = [1.0, 1, 0.5, 1, 1, 0.5, 1, 1, 1, 1], [1.0, -1] * 5
GAPS = [0.1, -0.2, 0.3, 0.4, -0.5, 0.1, 0.2, -0.3, 0.4, 0.1]
UNITS, RATERS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], ["a", "b", "c"] * 4
LABELS, VALUES = list("xxyyyyxxxyxy"), [1.0, 1, 2, 3, 3, 3, 1, 2, 1, 2, 2, 2]
WINS = np.array([[0, 3, 1.0], [2, 0, 4], [3, 1, 0]])
X, Y = [1.0, 2, 3, 4, 5, 6], [1.0, 3, 2, 4, 6, 5]
SAID, CAME, PROMPTS = [0.9, 0.8, 0.6, 0.3, 0.7, 0.2], [1.0, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2]
RANKINGS, MARGINS = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]], [[1.2, 0.4, -0.2], [0.6, 0.1, 0.3], [-0.5, -0.2, 0.1]]
PAIRS = {"winners": WINNERS, "losers": LOSERS}
CROWD = {"items": UNITS, "annotators": RATERS, "labels": LABELS}
RATED = {"units": UNITS, "raters": RATERS, "values": LABELS}
PREFERENCE = [[0.5, 0.6, 0.3], [0.4, 0.5, 0.9], [0.7, 0.1, 0.5]]
SHARES = {"reference_gap": [-2.0, 1], "share": [0.75, 0.6]}


@dataclass(frozen=True)
class Case:
    """Arguments that make sense, and what may be missing among them.

    Attributes:
        given: the arguments.
        numbers: columns that hold numbers; NaN and infinities are refused there.
        left: of these, where NaN is left out, or gives NaN, by the docstring.
        endless: of these, where an infinity has a meaning (only a sign or an order counts).
    """

    given: dict[str, Any]
    numbers: str = ""
    left: str = ""
    endless: str = ""


CASES: dict[str, Case] = {
    "annotator_bradley_terry": Case(
        PAIRS | {"annotators": PEOPLE, "p": OUTCOMES, "weights": WEIGHTS, "position": SIDES, "n": 3, "model": "noisy"},
        "p weights position winners losers",
    ),
    "best_of_n": Case({"gold": X, "predicted": Y}, "gold predicted"),
    "best_of_n_divergence": Case({"n": 4}),
    "best_of_n_win_rate": Case({"n": 4}),
    "borda": Case({"wins": WINS}, "wins"),
    "borda_counts": Case({"wins": WINS}, "wins"),
    "bradley_terry": Case(
        PAIRS | {"p": OUTCOMES, "weights": WEIGHTS, "n": 3, "covariates": GAPS, "covariate_ridge": 0.1},
        "p weights covariates winners losers",
    ),
    "bradley_terry_batch": Case({"wins": WINS[None]}, "wins"),
    "bradley_terry_bootstrap": Case(
        PAIRS | {"p": OUTCOMES, "weights": WEIGHTS, "n": 3, "resamples": 20, "prior": 1.0}, "p weights winners losers"
    ),
    "calibration": Case({"stated": SAID, "outcome": CAME, "units": PROMPTS, "resamples": 20}, "stated outcome"),
    "ches": Case(
        {
            "winner": [[1.0, 1], [2, 1]],
            "loser": [[2.0, 1], [0, 1]],
            "winner_tokens": [2.0, 3],
            "loser_tokens": [2.0, 2],
        },
        "winner loser winner_tokens loser_tokens",
    ),
    "cohen_kappa": Case({"a": LABELS, "b": LABELS[1:] + LABELS[:1], "units": UNITS, "resamples": 20}),
    "collective_posterior": Case({"agreement": SAID, "annotators": list("ababab")}, "agreement", left="agreement"),
    "condorcet_winner": Case({"wins": WINS}, "wins"),
    "confident_pairs": Case({"probability": SAID}, "probability", left="probability"),
    "contradicted": Case({"wins": WINS, "order": [0, 1, 2]}, "wins"),
    "copeland": Case({"wins": WINS}, "wins"),
    "count_triads": Case({"beats": WINS > WINS.T}, "beats"),
    "dawid_skene": Case(CROWD),
    "divergence": Case({"differences": GAPS}, "differences", left="differences"),
    "draw_mallows": Case({"order": [0, 1, 2], "phi": 1.0, "size": 5}, "order"),
    "elo": Case(PAIRS | {"p": OUTCOMES, "n": 3, "shuffles": 10, "start": 1000}, "p winners losers"),
    "estimate_reliability": Case({"agreement": SAID}, "agreement", left="agreement"),
    "fleiss_kappa": Case(RATED | {"resamples": 20}),
    "flip_probability": Case({"margin": [0.5, -0.5], "flip_rate": 0.1}, "margin", left="margin", endless="margin"),
    "flipping_beta": Case(SHARES, "reference_gap share", left="reference_gap share", endless="reference_gap"),
    "from_alpaca_eval": Case({"preference": [1.0, 2, 1.5, 0]}, "preference"),
    "glad": Case(CROWD),
    "gwet_ac1": Case(RATED | {"resamples": 20}),
    "hodge_rank": Case(
        PAIRS | {"p": OUTCOMES, "weights": WEIGHTS, "n": 3, "resamples": 19}, "p weights winners losers"
    ),
    "hodge_rank_of_wins": Case({"wins": WINS, "resamples": 19}, "wins"),
    "ideal_gap": Case(SHARES | {"beta": 1.0}, "reference_gap share", "reference_gap share", "reference_gap"),
    "instruction_difficulty": Case(
        {"outcomes": CAME, "models": list("aabbcc"), "prompts": [0, 1] * 3, "length": GAPS[:6]}, "outcomes length"
    ),
    "isotonic": Case({"stated": SAID, "outcome": CAME}, "stated outcome"),
    "joint_model": Case(
        PAIRS | {"annotators": PEOPLE, "p": OUTCOMES, "weights": WEIGHTS, "position": SIDES, "n": 3},
        "p weights winners losers",
    ),
    "kappas": Case({"tables": np.array([[[20.0, 5], [10, 15]]])}, "tables"),
    "kemeny": Case({"wins": WINS}, "wins"),
    "kendall_tau": Case({"x": X, "y": Y}, "x y"),
    "kendall_w": Case({"scores": [X, Y]}, "scores"),
    "krippendorff_alpha": Case(
        RATED | {"values": VALUES, "level": "interval", "resamples": 20}, "values", left="values"
    ),
    "label_posterior": Case({"agreement": np.array(SAID), "reliability": 0.8}, "agreement", left="agreement"),
    "length_controlled_win_rate": Case(
        {
            "outcomes": [0.2, 0.8, 0.5, 1, 0, 0.7, 0.6, 0.3],
            "lengths": [100.0, 200, 300, 250, 130, 400, 90, 310],
            "baseline_lengths": [200.0, 200, 250, 200, 180, 300, 100, 200],
            "difficulty": GAPS[:8],
        },
        "outcomes lengths baseline_lengths difficulty",
    ),
    "length_feature": Case(
        {"lengths": [200.0, 200, 600], "baseline_lengths": [100.0, 200, 300]}, "lengths baseline_lengths"
    ),
    "length_sensitivity": Case(
        {"gaps": [100.0, 300, -50, 200], "margins": [0.5, 1, -0.2, 0.8]}, "gaps margins", left="gaps margins"
    ),
    "loss_to_flip": Case(
        {"reference_gap": [-2.0, 1], "beta": 1.0}, "reference_gap", left="reference_gap", endless="reference_gap"
    ),
    "mace": Case(CROWD | {"restarts": 2}),
    "majority_vote": Case(CROWD),
    "mallows": Case({"rankings": RANKINGS, "weights": WEIGHTS[:4]}, "weights"),
    "mallows_log_probability": Case({"rankings": RANKINGS, "order": [0, 1, 2], "phi": 1.0}, "order"),
    "mean_agreement": Case(RATED),
    "metric_correlation": Case(
        {"items": [0, 0, 0, 1, 1, 1], "gold": X, "metric": Y, "systems": [0, 1, 2] * 2, "resamples": 20}, "gold metric"
    ),
    "midranks": Case({"values": X}, "values"),
    "min_norm_weights": Case({"gradients": MARGINS}, "gradients"),
    "minimax_winner": Case({"preference": PREFERENCE}, "preference", left="preference"),
    "ndcg": Case({"gold": X, "predicted": Y}, "gold predicted"),
    "next_reliability": Case({"reliability": 0.9, "mean_posterior": 0.8, "rate": 0.1}),
    "noise_threshold": Case({"margins": X * 3}, "margins", left="margins", endless="margins"),
    "one_coin": Case(CROWD),
    "order_agreement": Case(
        {"a": [1.0, -1, 0, 1, 1, -1], "b": [1.0, 1, 0, -1, 1, -1], "units": PROMPTS, "resamples": 20},
        "a b",
        endless="a b",
    ),
    "out_of_fold": Case(
        {"differences": np.outer(GAPS * 2, [1.0, -0.5]) + 0.1, "clusters": list(range(10)) * 2, "weights": [1.0] * 20},
        "differences weights",
    ),
    "paired_difference": Case({"a": CAME, "b": SAID, "units": PROMPTS, "resamples": 20}, "a b", left="a b"),
    "pearson": Case({"x": X, "y": Y}, "x y"),
    "performance_model": Case(
        {"counts": np.outer(X + Y, [1.0, -1]) ** 2, "performance": [*GAPS, 0.3, 0.1], "features": ["f", "g"]},
        "counts performance",
    ),
    "plackett_luce": Case({"rankings": RANKINGS, "n": 3, "weights": WEIGHTS[:4], "prior": 1.0}, "weights"),
    "plackett_luce_log_probability": Case({"rankings": RANKINGS, "values": [1.0, 0.5, 0]}, "values"),
    "positional_weights": Case({"relevance": [2.0, 1, 0], "positions": [1.0, 2, 3]}, "relevance positions"),
    "preference_probabilities": Case({"vectors": [[1.0, 0], [0, 1], [1, 1]], "gates": [1.0]}, "vectors gates"),
    "preference_scores": Case({"vectors": [[1.0, 0], [0, 1], [1, 1]], "gates": [1.0]}, "vectors gates"),
    "proxy_point": Case({"proxy": X, "gold": [0.0, 1.5, 2, 1.5, 0.1, -1]}, "proxy gold"),
    "quantile_bins": Case({"values": X}, "values", left="values"),
    "rank_sets": Case({"values": [1.0, 0.5, 0], "covariance": np.eye(3) / 100, "draws": 200}, "values covariance"),
    "ranking_accuracy": Case(
        {
            "winner": [-10.0, -12, -8],
            "loser": [-11.0, -10, -9],
            "winner_tokens": [4.0, 5, 6],
            "loser_tokens": [4.0, 6, 5],
            "share": [0.75, 0.6, 1],
        },
        "winner loser share",
        left="winner loser share",
        endless="winner loser",
    ),
    "remaining": Case({"units": 10, "labels_an_hour": 5.0, "seconds_a_label": 30.0, "pay_an_hour": 12.0}),
    "reward_votes": Case({"margins": MARGINS}, "margins", left="margins"),
    "robust_loss": Case({"margin": [0.5, -0.5], "flip_rate": 0.1}, "margin", left="margin", endless="margin"),
    "schulze": Case({"wins": WINS}, "wins"),
    "separation": Case({"scores": SAID, "truth": CAME}, "scores truth", left="scores", endless="scores"),
    "shares": Case({"wins": WINS}, "wins"),
    "spearman": Case({"x": X, "y": Y}, "x y"),
    "style_features": Case({"first": X, "second": Y}, "first second"),
    "sure_cycles": Case({"wins": WINS * 100}, "wins"),
    "swap_weights": Case({"labels": [1.0, 0.5, 0], "predicted": [0.2, 0.5, -0.1]}, "labels predicted"),
    "temperature": Case(
        {"margins": [1.0, -1, 2, 0.5, -0.3, 1], "outcome": CAME, "weights": WEIGHTS[:6]}, "margins outcome weights"
    ),
    "two_games": Case({"model_second": [1.0, 0.5], "model_first": [0.0, 1]}, "model_second model_first"),
    "units_needed": Case({"half_width": 0.1, "n": 10, "target": 0.05}),
    "verdict_games": Case({"verdicts": ["A>B", "A>>B"]}),
    "wilson_interval": Case({"successes": 8.0, "n": 10.0}),
    "win_rate": Case({"outcomes": [1.0, 0, 0.5, 1], "weights": WEIGHTS[:4]}, "outcomes weights"),
    "win_rate_by": Case(
        {"outcomes": [1.0, 0, 0.5, 1], "categories": list("aabb"), "weights": WEIGHTS[:4]}, "outcomes weights"
    ),
    "win_shares": Case({"preference": PREFERENCE}, "preference", left="preference"),
    "wins_of_comparisons": Case(PAIRS | {"p": OUTCOMES, "weights": WEIGHTS, "n": 3}, "p weights winners losers"),
    "wins_of_rankings": Case({"rankings": RANKINGS, "weights": WEIGHTS[:4], "n": 3}, "weights"),
    "within_budget": Case({"gain": X, "budget": 0.5}, "gain", left="gain"),
}
TESTED_ELSEWHERE = {"bootstrap_interval", "simulate_comparisons", "simulate_labels", "simulate_scores"}
"""They take a function, or made-up people: see test_stats_agreement and test_stats_simulate."""


def answer(name: str, given: dict[str, Any]) -> Any:
    """What it returns, or the sentence it refuses with; anything else, a warning too, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return getattr(stats, name)(**given)
        except ValueError as problem:
            last = traceback.extract_tb(problem.__traceback__)[-1]
            assert type(problem) is ValueError and str(last.line).startswith("raise"), (
                f"{name}: not a sentence of ours but {problem!r}, at {last.filename}:{last.lineno}"
            )
            return problem


def poisoned(column: Any, value: float) -> Any:
    """The column with this number in its first place that counts (off the diagonal of a table)."""
    made = np.array(column, dtype=np.float64)
    made[(*(0,) * (made.ndim - 1), 1 if made.ndim > 1 and made.shape[-1] > 1 else 0)] = value
    return made


def infinite(found: Any) -> bool:
    """Whether it holds an infinite number."""
    if isinstance(found, np.ndarray):
        return bool(found.dtype.kind == "f" and np.isinf(found).any())
    if isinstance(found, float):
        return bool(np.isinf(found))
    return any(infinite(part) for part in vars(found).values()) if hasattr(found, "__dataclass_fields__") else False


def test_every_public_function_has_a_case() -> None:
    public = {name for name in stats.__all__ if inspect.isfunction(getattr(stats, name))}
    assert public == set(CASES) | TESTED_ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_what_makes_sense_is_answered(name: str) -> None:
    assert not isinstance(answer(name, CASES[name].given), Exception)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.numbers])
def test_a_number_that_is_missing_or_infinite(name: str) -> None:
    case = CASES[name]
    for column in case.numbers.split():
        for value in (np.nan, np.inf, -np.inf):
            found = answer(name, case.given | {column: poisoned(case.given[column], value)})
            meant = column in (case.left if np.isnan(value) else case.endless).split()
            assert meant != isinstance(found, ValueError), f"{name}: {value} in {column} gives {found!r}"


def variants(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Empty columns, one row, the same row many times, one column too short, another number of axes."""
    columns = [key for key, value in case.given.items() if isinstance(value, list | np.ndarray)]
    given = case.given
    yield "all empty", given | {key: given[key][:0] for key in columns}
    yield "one row", given | {key: given[key][:1] for key in columns}
    yield "two rows", given | {key: given[key][:2] for key in columns}
    yield "the same row", given | {key: np.repeat(np.asarray(given[key])[:1], 8, axis=0) for key in columns}
    yield "the same rows again", given | {key: [*given[key], *given[key]] for key in columns}
    for key in columns:
        yield f"{key} too short", given | {key: given[key][:-1]}
        yield f"{key} flat or deep", given | {key: [given[key]]}
        if np.asarray(given[key]).dtype.kind == "f":
            for factor in (0.0, -1.0, 1e-200, 1e9, 1e90, 1e200):
                yield f"{key} times {factor}", given | {key: np.asarray(given[key]) * factor}


@pytest.mark.parametrize("name", CASES)
def test_shapes_and_sizes(name: str) -> None:
    for what, given in variants(CASES[name]):
        if name == "joint_model" and "times" in what:
            continue
        found = answer(name, given)
        known = name == "flipping_beta" or not getattr(found, "converged", True)  # it says that it did not get there
        assert known or not infinite(found), f"{name}, {what}: {found!r}"


@pytest.mark.parametrize("name", [n for n in CASES if "confidence" in inspect.signature(getattr(stats, n)).parameters])
def test_a_confidence_is_respected_and_checked(name: str) -> None:
    given = CASES[name].given
    for confidence in (0.0, 1.0, -1.0, 95.0, np.nan):
        found = answer(name, given | {"confidence": confidence})
        assert isinstance(found, ValueError) and "confidence" in str(found), f"{name}: {confidence} gives {found!r}"
    narrow, wide = (answer(name, given | {"confidence": confidence}) for confidence in (0.5, 0.99))
    if name in ("kendall_w",) or not hasattr(narrow, "low"):
        return
    ends = [np.asarray([one.low, one.high], dtype=np.float64) for one in (narrow, wide)]
    there = ~np.isnan(ends[0]).any(axis=0) & ~np.isnan(ends[1]).any(axis=0)
    inner, outer = (one[:, there] for one in ends)
    assert (outer[0] <= inner[0] + 1e-12).all() and (outer[1] >= inner[1] - 1e-12).all(), name
    if inner.size and name not in ("order_agreement", "metric_correlation", "rank_sets"):
        assert (outer[1] - outer[0]).max() > (inner[1] - inner[0]).max(), name


@pytest.mark.parametrize("name", [n for n in CASES if "resamples" in inspect.signature(getattr(stats, n)).parameters])
def test_draws_are_the_same_for_the_same_seed(name: str) -> None:
    given = CASES[name].given
    first, again = (str(answer(name, given | {"seed": 3})) for _ in range(2))
    assert first == again
    for resamples in (-1, 2.5, np.nan):
        assert isinstance(answer(name, given | {"resamples": resamples}), ValueError), f"{name}: {resamples}"
