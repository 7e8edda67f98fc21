"""Which model of annotators foretells a vote best? Three votes of each pair are fitted, the other two predicted.

    python benchmarks/held_out_votes.py [--seed 0] [--resamples 2000]

On UKPConvArg1 (crowd workers say which of two arguments is more convincing, or "equal"; PREFDATA_TEST_DATA names the
folder, else shared/data beside the checkout). Each model gives the probability of each of the three labels for the
worker who gave the held-out vote; one who is not among the fitted votes is taken as the average of those who are.

- Models of labels know the pair only by its three votes: P(l) = sum_k T_ik P_w(l | k).
- Models of comparisons know the arguments' strengths from all pairs; how often a worker says "equal" is that worker's
  share, smoothed towards all workers' by a Beta-binomial fitted to the same votes; a tie is half a vote each way.
- Majority and the shares of all votes are smoothed by a Dirichlet-multinomial fitted to the same votes.

Intervals: 95 %, bootstrap of pairs, and for the difference from the majority also of the twelve topics. Writes
benchmarks/results/held_out_votes.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.stats import Draws, annotator_bradley_terry, dawid_skene, glad, mace, majority_vote, one_coin
from prefdata.stats.dawid_skene import Confusions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "held_out_votes.md"
CLASSES = ["a1", "a2", "equal"]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Votes as numbers: pair, worker, label, and the two arguments of the pair."""

    pair: IntArray
    worker: IntArray
    label: IntArray
    one: IntArray
    other: IntArray
    topic: IntArray


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of three votes")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = Path(os.environ.get("PREFDATA_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ukpconvarg1_votes.parquet").is_file():
        print(f"no votes in {folder}: set PREFDATA_TEST_DATA to the folder that holds them", file=sys.stderr)
        return 2
    train, test = split(folder, options.seed)
    found: dict[str, tuple[FloatArray, float]] = {}
    for name, model in models().items():
        started = time.process_time()
        predicted = model(train, test)
        if predicted is not None:
            found[name] = predicted, time.process_time() - started
            print(f"{name}: {-np.log(predicted[np.arange(len(test.label)), test.label]).mean():.4f}", flush=True)
    options.out.write_text(report(options, train, test, found), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return 0


def split(folder: Path, seed: int) -> tuple[Split, Split]:
    """Three votes of each pair by a seeded coin, and the rest (two, of 70 pairs one)."""
    pairs = pl.read_parquet(folder / "ukpconvarg1_pairs.parquet").select("topic", "pair_id", "arg1", "arg2")
    votes = pl.read_parquet(folder / "ukpconvarg1_votes.parquet").select("topic", "pair_id", "worker", "value")
    rows = votes.join(pairs, on=["topic", "pair_id"]).sort("topic", "pair_id", "worker", "value")
    arguments = {key: at for at, key in enumerate(
        sorted(set(rows.select("topic", "arg1").rows()) | set(rows.select("topic", "arg2").rows()))
    )}  # fmt: skip
    one = np.array([arguments[key] for key in rows.select("topic", "arg1").rows()])
    other = np.array([arguments[key] for key in rows.select("topic", "arg2").rows()])
    pair = rows.select(pl.struct("topic", "pair_id").rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    topic = rows["topic"].rank("dense").to_numpy().astype(np.int64) - 1
    worker = rows["worker"].rank("dense").to_numpy().astype(np.int64) - 1
    label = np.array([CLASSES.index(value) for value in rows["value"]])
    draw = np.random.default_rng(seed).random(len(pair))
    order = np.lexsort((draw, pair))
    place = np.empty(len(pair), dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, np.diff(pair[order]) > 0])
    place[order] = np.arange(len(pair)) - np.repeat(starts, np.diff(np.r_[starts, len(pair)]))

    def part(rows: NDArray[np.bool_]) -> Split:
        return Split(pair[rows], worker[rows], label[rows], one[rows], other[rows], topic[rows])

    return part(place < 3), part(place >= 3)


def models() -> dict[str, Callable[[Split, Split], FloatArray | None]]:
    return {
        "shares of all votes": base_rates,
        "majority (smoothed)": majority,
        "one-coin": lambda train, test: of_labels(one_coin(*columns(train)), train, test),
        "Dawid-Skene": lambda train, test: of_labels(dawid_skene(*columns(train)), train, test),
        "Dawid-Skene, prior from all workers": pooled,
        "MACE": lambda train, test: of_labels(mace(*columns(train)), train, test),
        "GLAD": of_glad,
        "Bradley-Terry": lambda train, test: of_pairs(train, test, known=True),
        "crowd Bradley-Terry": lambda train, test: of_pairs(train, test),
        "crowd Bradley-Terry, prior estimated": lambda train, test: of_pairs(train, test, ability_prior="estimate"),
        "noisy Bradley-Terry": lambda train, test: of_pairs(train, test, model="noisy", side=True),
        "noisy Bradley-Terry, priors estimated": lambda train, test: of_pairs(
            train, test, model="noisy", side=True, ability_prior="estimate", position_prior="estimate"
        ),
        "discrimination Bradley-Terry": lambda train, test: of_pairs(train, test, model="discrimination", side=True),
        "discrimination Bradley-Terry, priors estimated": lambda train, test: of_pairs(
            train, test, model="discrimination", side=True, ability_prior="estimate", position_prior="estimate"
        ),
        "joint model, all workers one": lambda train, test: joint(train, test, alike=True),
        "joint model": joint,
    }


def columns(train: Split) -> tuple[IntArray, IntArray, IntArray]:
    return train.pair, train.worker, train.label


def base_rates(train: Split, test: Split) -> FloatArray:
    shares = np.bincount(train.label, minlength=3) / len(train.label)
    return np.repeat(shares[None], len(test.label), axis=0)


def majority(train: Split, test: Split) -> FloatArray:
    counts = majority_vote(*columns(train)).values * 3
    return smoothed(counts)[test.pair]


def smoothed(counts: FloatArray) -> FloatArray:
    """Shares of each row, drawn towards those of all by the strength under which the counts are most probable."""
    from scipy.special import gammaln

    mean = counts.sum(axis=0) / counts.sum()

    def evidence(strength: float) -> float:
        prior = strength * mean
        return float((gammaln(strength) - gammaln(counts.sum(axis=1) + strength)
                      + (gammaln(counts + prior) - gammaln(prior)).sum(axis=1)).sum())  # fmt: skip

    strength = max(np.geomspace(0.1, 100, 61), key=evidence)
    return (counts + strength * mean) / (counts.sum(axis=1, keepdims=True) + strength)


def of_labels(fitted: Confusions, train: Split, test: Split) -> FloatArray:
    """P(l) = sum_k T_ik P_w(l | k)."""
    number, known = numbers(fitted.annotators, test.worker)
    average = fitted.confusions.mean(axis=0)
    mine = np.where(known[:, None, None], fitted.confusions[number], average)
    return np.einsum("ik,ikl->il", fitted.values[test.pair], mine)


def pooled(train: Split, test: Split) -> FloatArray:
    """Twice: the first fit's confusions of all workers, as ten labels of each class, are the second one's prior."""
    first = dawid_skene(*columns(train))
    weight = np.bincount(train.worker)[np.asarray(first.annotators)]
    mean = (first.confusions * weight[:, None, None]).sum(axis=0) / weight.sum()
    return of_labels(dawid_skene(*columns(train), prior=10 * mean), train, test)


def of_glad(train: Split, test: Split) -> FloatArray:
    fitted = glad(*columns(train))
    number, known = numbers(fitted.annotators, test.worker)
    alpha = np.where(known, fitted.discriminations[number], fitted.discriminations.mean())
    right = 1 / (1 + np.exp(-alpha / fitted.difficulties[test.pair]))
    posterior = fitted.values[test.pair]
    return posterior * right[:, None] + (1 - posterior) * (1 - right[:, None]) / 2


def of_pairs(train: Split, test: Split, *, known: bool = False, side: bool = False, **arguments: Any) -> FloatArray:
    """Which of the two from strengths and the worker; "equal" at the worker's own rate."""
    winner = np.where(train.label == 1, train.other, train.one)
    loser = np.where(train.label == 1, train.one, train.other)
    if side:
        arguments["position"] = np.where(train.label == 1, -1, 1)
    if known:
        arguments["abilities"] = np.ones(len(np.unique(train.worker)))
    fitted = annotator_bradley_terry(
        winner, loser, train.worker, p=np.where(train.label == 2, 0.5, 1.0), n=arguments_of(train, test), **arguments
    )
    if not fitted.converged:
        print(f"not converged: {arguments.get('model', 'crowd')}, slope {fitted.gradient:g}", file=sys.stderr)
    first = fitted.predict(test.one, test.other, test.worker.tolist(), 1 if side else 0)
    tie = ties(train, test)
    return np.stack([(1 - tie) * first, (1 - tie) * (1 - first), tie], axis=1)


def arguments_of(train: Split, test: Split) -> int:
    return int(max(train.one.max(), train.other.max(), test.one.max(), test.other.max())) + 1


def ties(train: Split, test: Split) -> FloatArray:
    """How often the worker of each held-out vote says "equal"."""
    size = int(max(train.worker.max(), test.worker.max())) + 1
    tied = np.bincount(train.worker, weights=train.label == 2, minlength=size)
    counts = np.stack([tied, np.bincount(train.worker, minlength=size) - tied], axis=1)
    return smoothed(counts)[test.worker, 0]


def joint(train: Split, test: Split, *, alike: bool = False) -> FloatArray | None:
    """Strengths, and each worker's ability, position and tie threshold at once; None where it is not there.

    With `alike`, all votes are one worker's: what is left is Bradley-Terry with ties and a position bias.
    """
    try:
        from prefdata.stats import joint_model
    except ImportError:
        return None
    winner = np.where(train.label == 1, train.other, train.one)
    loser = np.where(train.label == 1, train.one, train.other)
    groups = np.zeros(arguments_of(train, test), dtype=np.int64)
    for part in (train, test):
        groups[part.one] = groups[part.other] = part.topic
    fitted = joint_model(
        winner,
        loser,
        np.zeros_like(train.worker) if alike else train.worker,
        p=np.where(train.label == 2, 0.5, 1.0),
        position=np.where(train.label == 1, -1, 1),
        groups=groups,
        n=len(groups),
    )
    worker = np.zeros_like(test.worker) if alike else test.worker
    _, known = numbers(fitted.annotators, worker)
    result = np.empty((len(test.label), 3))
    result[known] = fitted.predict(test.one[known], test.other[known], worker[known].tolist(), 1.0)
    result[~known] = fitted.predict(test.one[~known], test.other[~known], None, 1.0)
    return result[:, [0, 2, 1]]  # its order is first, tie, second


def numbers(annotators: Any, worker: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    position = {int(name): at for at, name in enumerate(annotators)}
    number = np.array([position.get(int(name), -1) for name in worker])
    return number, number >= 0


def report(options: argparse.Namespace, train: Split, test: Split, found: dict[str, tuple[FloatArray, float]]) -> str:
    rows = np.arange(len(test.label))
    draws = Draws(test.pair, resamples=options.resamples, seed=1)
    topics = Draws(test.topic, resamples=options.resamples, seed=1)
    ones = np.ones(len(rows))
    loss = {name: -np.log(np.clip(predicted[rows, test.label], 1e-12, None)) for name, (predicted, _) in found.items()}

    def cell(draws: Draws, values: FloatArray, digits: int, sign: str = "") -> str:
        value, drawn = draws.ratio(values, ones)
        low, high = draws.interval(drawn) or (float("nan"), float("nan"))
        return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"

    lines = [
        "| model | log-loss, nats | less majority's, by pairs | by topics | accuracy | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for name, (predicted, seconds) in found.items():
        best = predicted.max(axis=1, keepdims=True)
        tied = np.isclose(predicted, best, rtol=0, atol=1e-12)
        right = tied[rows, test.label] / tied.sum(axis=1)
        less = loss[name] - loss["majority (smoothed)"]
        lines.append(
            f"| {name} | {cell(draws, loss[name], 4)} | {cell(draws, less, 4, '+')} | {cell(topics, less, 4, '+')} "
            f"| {cell(draws, right, 4)} | {seconds:.1f} |"
        )
    new = float((~np.isin(test.worker, train.worker)).mean())
    each = np.median(np.bincount(train.worker)[np.unique(train.worker)])
    text = (
        f"{len(train.label):,} votes fitted, three of each of {len(np.unique(train.pair)):,} pairs, by "
        f"{len(np.unique(train.worker)):,} workers (median {each:g} "
        f"votes each); {len(test.label):,} votes predicted, {100 * new:.1f} % of them by workers without a fitted vote."
    )
    return "\n".join(
        [
            "# Held-out votes",
            "",
            f"`python benchmarks/held_out_votes.py --seed {options.seed} --resamples {options.resamples}`, Python "
            f"{platform.python_version()}, {os.cpu_count()} cores, shared.",
            "",
            text,
            "",
            "Each model predicts the label (a1, a2, equal) of the worker who gave it; a worker without a fitted vote "
            "is taken as the average one. Label models know a pair by its three votes only; comparison models know "
            'both arguments from all their pairs, take a tie as half a vote each way, and predict "equal" at the '
            "worker's own smoothed rate (the joint model has ties of its own). 95 % "
            "intervals: bootstrap of pairs; of the difference also of the twelve topics.",
            "",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
