"""What denoising is worth: labels of real pairs are flipped by a coin, and each method tries to make up for it.

    python benchmarks/denoising.py --data ../shared/data --out benchmarks/results/denoising.md

Two data sets: HH-RLHF (helpful), where a head on frozen MiniLM embeddings learns little of what people prefer, and
UKPConvArg1, where it learns much. A flip exchanges the sides of a training pair with the given probability; held-out
labels stay as they are. The head is one linear layer on the difference of the sides' embeddings, without intercept.
Embeddings are computed once, through the engine that pipelines use, and kept in the cache folder (--cache).
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from reward_head import T_95, embed, read_pairs

from prefdata.stats.confident import confident_pairs, folds_of
from prefdata.stats.denoise import noise_threshold, reward_votes, separation
from prefdata.stats.label_noise import (
    collective_posterior,
    flip_probability,
    flip_rate_of_audit,
    label_posterior,
    next_reliability,
)
from prefdata.stats.logistic import sigmoid

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
RATES = (0.1, 0.2, 0.3, 0.4)
RIDGES = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
MEMBERS, FOLDS, HELD_OUT, AUDITED, ROUNDS = 5, 5, 0.25, 200, 6


@dataclass(frozen=True)
class Data:
    """Pairs as differences of embeddings, the preferred side first.

    Attributes:
        name: of the data set.
        x: [n, d] better less worse.
        group: [n] the prompt (debate) of each pair.
    """

    name: str
    x: FloatArray
    group: NDArray[np.int64]


def embedded(texts: Sequence[str], cache: Path) -> FloatArray:
    """[n, d] float64 vectors, from the cache where they are."""
    digest = blake2b("\x00".join(texts).encode(), digest_size=8).hexdigest()
    path = cache / f"denoising-{digest}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        vectors = embed(texts)
        np.save(path, np.array([vectors[text] for text in texts], dtype=np.float32))
    return np.load(path, allow_pickle=False).astype(np.float64)


def hh_rlhf(data: Path, cache: Path) -> Data:
    """The last human turn (its last 400 characters, because the model reads 256 tokens) and the response, together."""
    rows = pq.read_table(data / "hh_rlhf_helpful.parquet").to_pylist()
    texts = []
    for row in rows:
        asked = row["prompt"].rpartition("\n\nHuman:")[2].rpartition("\n\nAssistant:")[0].strip()
        texts += [asked[-400:] + "\n" + row[side][len(row["prompt"]) :].strip() for side in ("chosen", "rejected")]
    vectors = embedded(texts, cache)
    first_turns = [row["prompt"].split("\n\nAssistant:")[0] for row in rows]
    number = {turn: at for at, turn in enumerate(dict.fromkeys(first_turns))}
    return Data("HH-RLHF (helpful)", vectors[0::2] - vectors[1::2], np.array([number[turn] for turn in first_turns]))


def ukpconvarg(data: Path, cache: Path) -> Data:
    """Arguments; the groups are the sides of debates."""
    pairs = read_pairs(data)
    ordered = [(pair.first, pair.second) if pair.first_wins else (pair.second, pair.first) for pair in pairs]
    texts = [text for sides in ordered for text in sides]
    distinct = list(dict.fromkeys(texts))
    vectors, place = embedded(distinct, cache), {text: at for at, text in enumerate(distinct)}
    side = np.array([vectors[place[text]] for text in texts])
    debates = sorted({pair.debate for pair in pairs})
    return Data("UKPConvArg1", side[0::2] - side[1::2], np.array([debates.index(pair.debate) for pair in pairs]))


@dataclass
class Task:
    """One draw: noisy training pairs, clean held-out pairs, and what methods share.

    Attributes:
        x: [n, d] training differences as labelled, scaled.
        group: [n]
        flipped: [n] what no method may look at, but the oracle.
        test: [m, d] held-out differences, clean.
        ridge: chosen by cross-validation on the noisy labels.
        seed: of the draw.
        p: [n] out-of-fold probability of each label.
        strengths: what `votes` found, once it was asked.
    """

    x: FloatArray
    group: NDArray[np.int64]
    flipped: BoolArray
    test: FloatArray
    ridge: float
    seed: int
    p: FloatArray
    strengths: tuple[FloatArray, FloatArray] | None = field(default=None, repr=False)

    @property
    def audited(self) -> float:
        """The flip rate that an audit of a few training labels gives: the auditor sees what the coin did to these."""
        asked = np.random.default_rng([self.seed, 9]).permutation(len(self.x))[:AUDITED]
        return float(flip_rate_of_audit(float(self.flipped[asked].sum()), len(asked)).value or 0.0)

    @property
    def votes(self) -> tuple[FloatArray, FloatArray]:
        """[n] preference strength of an ensemble of cross-fitted heads, and its mean margin in nats."""
        if self.strengths is None:
            seeds = [1000 * self.seed + member for member in range(MEMBERS)]
            members = np.array([cross_fitted(self.x, self.group, self.ridge, one, draw=True) for one in seeds])
            self.strengths = reward_votes(members).values, members.mean(axis=0)
        return self.strengths


@dataclass(frozen=True)
class Treatment:
    """What a method makes of the labels: how much each counts, how sure it is, and by which margin.

    `outcome` is the y of the logistic loss: 1 as labelled, 0 flipped, 0.9 smoothed; above 1 for the unbiased loss.
    """

    doubt: FloatArray | None = None
    weight: FloatArray | None = None
    outcome: FloatArray | None = None
    margin: FloatArray | None = None
    rate: float | None = None


def fit_head(
    x: FloatArray,
    ridge: float,
    *,
    outcome: FloatArray | None = None,
    weight: FloatArray | None = None,
    margin: FloatArray | None = None,
) -> FloatArray:
    """Newton on `sum w [l(m) + (1 - y) m] + ridge/2 |b|^2`, m = x b - margin: for any y, and so for rDPO's loss too."""
    y = np.ones(len(x)) if outcome is None else outcome
    w = np.ones(len(x)) if weight is None else weight
    base = np.zeros(len(x)) if margin is None else -margin

    def objective(b: FloatArray) -> float:
        m = base + x @ b
        return float((w * (np.logaddexp(0, -m) + (1 - y) * m)).sum() + ridge / 2 * (b @ b))

    b = np.zeros(x.shape[1])
    value = objective(b)
    for _ in range(100):
        p = sigmoid(base + x @ b)
        gradient = x.T @ (w * (y - p)) - ridge * b
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x
        curvature[np.diag_indices(len(b))] += ridge
        step = np.linalg.solve(curvature, gradient)
        while (there := objective(b + step)) > value + 1e-9 * abs(value):
            step = step / 2
        b, value = b + step, there
        if np.abs(step).max() < 1e-6:
            return b
    raise RuntimeError("the head did not converge")


def cross_fitted(
    x: FloatArray,
    group: NDArray[np.int64],
    ridge: float,
    seed: int,
    *,
    draw: bool = False,
    outcome: FloatArray | None = None,
) -> FloatArray:
    """[n] out-of-fold margins; with `draw` each head sees a bootstrap of its folds' pairs."""
    fold, margins = folds_of(group, min(FOLDS, len(np.unique(group))), seed), np.zeros(len(x))
    rng = np.random.default_rng([seed, 77])
    for part in np.unique(fold):
        train = np.flatnonzero(fold != part)
        if draw:
            train = rng.choice(train, len(train))
        head = fit_head(x[train], ridge, outcome=None if outcome is None else outcome[train])
        margins[fold == part] = x[fold == part] @ head
    return margins


def drawn(data: Data, rate: float, seed: int) -> Task:
    """Split by group, flip by a coin, choose the ridge on the noisy labels."""
    rng = np.random.default_rng([seed, int(rate * 100)])
    groups = np.unique(data.group)
    held = np.random.default_rng(seed).permutation(groups)[: max(1, round(len(groups) * HELD_OUT))]
    test = np.isin(data.group, held)
    scale = np.sqrt((data.x[~test] ** 2).mean(axis=0))
    x, group = data.x[~test] / scale, data.group[~test]
    flipped = rng.random(len(x)) < rate
    x[flipped] *= -1
    losses = {}
    for ridge in RIDGES:
        losses[ridge] = float(np.logaddexp(0, -cross_fitted(x, group, ridge, seed)).mean())
    ridge = min(losses, key=lambda one: losses[one])
    p = sigmoid(cross_fitted(x, group, ridge, seed))
    return Task(x, group, flipped, data.x[test] / scale, ridge, seed, p)


def lowest(score: FloatArray, share: float) -> BoolArray:
    """[n] which scores lie below a quantile."""
    result: BoolArray = score < np.quantile(score, share) if share > 0 else np.zeros(len(score), dtype=bool)
    return result


def log_odds(p: FloatArray) -> FloatArray:
    """[n] margins of probabilities."""
    result: FloatArray = np.log(p) - np.log1p(-p)
    return result


def nothing(task: Task) -> Treatment:
    """As labelled."""
    return Treatment()


def oracle(task: Task) -> Treatment:
    """Drop what the coin flipped."""
    return Treatment(task.flipped.astype(float), weight=1.0 - task.flipped, rate=float(task.flipped.mean()))


def random_drop(task: Task) -> Treatment:
    """Drop as many as the audit says are flipped, by chance."""
    doubt = np.random.default_rng([task.seed, 5]).random(len(task.x))
    return Treatment(doubt, weight=1.0 - lowest(doubt, task.audited), rate=task.audited)


def confident_drop(task: Task) -> Treatment:
    """Drop what confident learning calls wrong."""
    found = confident_pairs(task.p)
    return Treatment(1 - task.p, weight=1.0 - found.wrong, rate=found.value)


def confident_flip(task: Task) -> Treatment:
    """Flip it."""
    found = confident_pairs(task.p)
    return Treatment(1 - task.p, outcome=1.0 - found.wrong, rate=found.value)


def small_loss(task: Task) -> Treatment:
    """Drop the largest losses of a head on its own training data, as many as the audit says are flipped."""
    margins = task.x @ fit_head(task.x, task.ridge)
    return Treatment(-margins, weight=1.0 - lowest(margins, task.audited), rate=task.audited)


def smoothing(task: Task) -> Treatment:
    """Conservative DPO's loss."""
    return Treatment(outcome=np.full(len(task.x), 1 - task.audited), rate=task.audited)


def robust(task: Task) -> Treatment:
    """rDPO's: `((1 - eps) l(m) - eps l(-m)) / (1 - 2 eps) = l(m) - m eps / (1 - 2 eps)`, as l(-m) = l(m) + m."""
    eps = min(task.audited, 0.45)
    outcome = np.full(len(task.x), 1 + eps / (1 - 2 * eps))
    return Treatment(flip_probability(log_odds(task.p), eps), outcome=outcome, rate=eps)


def posterior_once(task: Task) -> Treatment:
    """LCPO as a data operator: the head stays as it is, the reliability is estimated."""
    found = collective_posterior(task.p)
    return Treatment(1 - found.values, outcome=found.values, rate=1 - float(found.abilities[0]))


def posterior(task: Task) -> Treatment:
    """LCPO: the posterior of each label (out of fold) and the head in turn, from a reliability of 0.9."""
    eta, right = 0.9, np.full(len(task.x), 0.9)
    for _ in range(ROUNDS):
        margins = cross_fitted(task.x, task.group, task.ridge, task.seed, outcome=right)
        right = np.asarray(label_posterior(sigmoid(margins), eta))
        eta = next_reliability(eta, float(right.mean()))
    return Treatment(1 - right, outcome=right, rate=1 - eta)


def votes_drop(task: Task) -> Treatment:
    """Drop the lowest 20 % of preference strengths."""
    return Treatment(-task.votes[0], weight=1.0 - lowest(task.votes[0], 0.2))


def votes_flip(task: Task) -> Treatment:
    """Flip them."""
    return Treatment(-task.votes[0], outcome=1.0 - lowest(task.votes[0], 0.2))


def votes_flip_negative(task: Task) -> Treatment:
    """Flip where the strength is below 0."""
    wrong = task.votes[0] < 0
    return Treatment(-task.votes[0], outcome=1.0 - wrong, rate=float(wrong.mean()))


def votes_soften(task: Task) -> Treatment:
    """The soft label s(strength)."""
    return Treatment(-task.votes[0], outcome=sigmoid(task.votes[0]))


def votes_margin(task: Task) -> Treatment:
    """The adaptive margin, in nats."""
    return Treatment(-task.votes[0], margin=task.votes[1])


def selfie(task: Task) -> Treatment:
    """Smooth the 10 % least out-of-fold margins by 0.1."""
    margins = log_odds(task.p)
    threshold = noise_threshold(margins, 0.1)
    return Treatment(-margins, outcome=1 - 0.1 * (margins < (-np.inf if threshold is None else threshold)))


METHODS: dict[str, Callable[[Task], Treatment]] = {
    "nothing": nothing,
    "oracle: drop the flipped": oracle,
    "random drop": random_drop,
    "confident learning, drop": confident_drop,
    "confident learning, flip": confident_flip,
    "small loss, drop the rest": small_loss,
    "label smoothing (cDPO)": smoothing,
    "unbiased loss (rDPO)": robust,
    "EM posterior, head fixed": posterior_once,
    "EM posterior, head refitted (LCPO)": posterior,
    "reward votes, drop lowest 20 %": votes_drop,
    "reward votes, flip lowest 20 %": votes_flip,
    "reward votes, flip below 0": votes_flip_negative,
    "reward votes, soften": votes_soften,
    "reward votes, adaptive margin": votes_margin,
    "Selfie smoothing": selfie,
}


@dataclass(frozen=True)
class Found:
    """One method on one draw."""

    accuracy: float
    area: float | None
    rate: float | None


def measure(task: Task, method: Callable[[Task], Treatment]) -> Found:
    """Treat the labels, train, judge the clean held-out pairs (a tie counts half)."""
    made = method(task)
    head = fit_head(task.x, task.ridge, outcome=made.outcome, weight=made.weight, margin=made.margin)
    gaps = task.test @ head
    area = None if made.doubt is None else separation(made.doubt, task.flipped).value
    return Found(float((0.5 + 0.5 * np.sign(gaps)).mean()), area, made.rate)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and Student's 95% interval over seeds."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def shown(values: Sequence[float | None], signed: bool = False) -> str:
    """A cell: mean [low, high]."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean, low, high = interval(known)
    form = "+.3f" if signed else ".3f"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def section(data: Data, seeds: int) -> list[str]:
    """The tables of one data set."""
    lines = [f"## {data.name}", ""]
    lines.append(f"{len(data.x):,} pairs, {len(np.unique(data.group)):,} groups, {data.x.shape[1]} dimensions.")
    clean = [measure(drawn(data, 0.0, seed), nothing).accuracy for seed in range(seeds)]
    lines += ["", f"Trained on clean labels the head is right on {shown(clean)} of the held-out pairs.", ""]
    for rate in RATES:
        found: dict[str, list[Found]] = {name: [] for name in METHODS}
        ridges = []
        for seed in range(seeds):
            task = drawn(data, rate, seed)
            ridges.append(task.ridge)
            for name, method in METHODS.items():
                found[name].append(measure(task, method))
        lines += [f"### {rate:.0%} of the training labels flipped", ""]
        lines += [
            f"Ridge by seed: {', '.join(f'{ridge:g}' for ridge in ridges)}.",
            "",
            "| method | AUC of the flips | flip rate | held-out accuracy | difference to nothing | verdict |",
            "|---|---|---|---|---|---|",
        ]
        base = [one.accuracy for one in found["nothing"]]
        for name, rows in found.items():
            gains = [one.accuracy - was for one, was in zip(rows, base, strict=True)]
            _, low, high = interval(gains)
            verdict = "better" if low > 0 else "worse" if high < 0 else "no better than nothing"
            verdict = "" if name == "nothing" else verdict
            cells = [
                name,
                shown([one.area for one in rows]),
                shown([one.rate for one in rows]),
                shown([one.accuracy for one in rows]),
                "" if name == "nothing" else shown(gains, signed=True),
                verdict,
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        print("\n".join(lines[-len(found) - 6 :]), flush=True)
    return lines


def page(data: Path, cache: Path, seeds: int) -> list[str]:
    """The whole page."""
    start = time.process_time()
    lines = [
        "# Denoising, measured",
        "",
        "Made by `python benchmarks/denoising.py`. Training labels are flipped by a seeded coin; held-out labels stay "
        f"as they are. {seeds} seeds: each its own split by group (a quarter held out), coin and folds. Intervals are "
        "Student's, 95 %, over seeds, whose splits overlap; differences are paired by seed.",
        "",
        "No method sees the held-out labels, nor (but for the oracle) what the coin did: the ridge is chosen by "
        "cross-validated log-loss on the noisy labels; where a flip rate must be known (random drop, small loss, label "
        f"smoothing, rDPO) it is that of an audit of {AUDITED} training labels; the 20 % of the reward votes is the "
        "paper's. AUC of the flips: how well the method's doubt tells flipped labels from others (0.5 is chance). Flip "
        "rate: what the method makes of it. The natural labels hold mistakes of their own, which no coin made, so that "
        "an AUC of 1 is out of reach. The AUC of small loss is of losses on the head's own training data; "
        "the other heads judge prompts (of UKPConvArg1, debates) that they have never seen.",
        "",
        "There are 15 verdicts in each table: of methods that do nothing one in twenty comes out better or worse by "
        f"chance. LCPO goes {ROUNDS} rounds from a reliability of 0.9. With the head fixed its estimate is mostly near "
        "0: that head has learned from the noisy labels, is calibrated to them, and finds little wrong.",
        "",
    ]
    for data_set in (hh_rlhf(data, cache), ukpconvarg(data, cache)):
        lines += section(data_set, seeds)
    lines.append(
        f"{time.process_time() - start:.0f} s of CPU time; the embeddings, where they were not cached, are in it."
    )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "prefdata" / "benchmarks")
    given = parser.parse_args(arguments)
    text = "\n".join(page(given.data, given.cache, given.seeds)) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
