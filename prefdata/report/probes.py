"""Probes: can the chosen responses be told from the rejected ones without looking at the question?

A logistic regression with a ridge, out of fold, with all pairs of a prompt in one fold: otherwise it would know the
prompts by heart. Each side of a pair is a row by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from prefdata.report.numbers import Entry

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5

WIDTH = 1 << 13
"""Columns of hashed words."""

_STEPS, _INNER, _TOLERANCE = 30, 60, 1e-5

RIDGE = 1.0
"""On standardised columns, and on words weighted to unit length ten times as strong columns of them."""

_WORD_SCALE = 10.0

_WORD = re.compile(r"\w+|[^\w\s]")

REFUSAL = re.compile(
    r"^\W*(i['’]?m (very |so |really )?sorry|sorry\b|i apologi[sz]e|my apologies|unfortunately|as an ai\b|"
    r"i (cannot|can['’]?t|am not able|['’]?m not able|am unable|['’]?m unable|won['’]?t|will not|must decline)\b)",
    re.IGNORECASE,
)
"""How a refusal begins, in English. A hint for a probe, not a classifier."""

SURFACE = (
    ("length", None),
    ("lines", re.compile(r"\n")),
    ("lists", re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])[ \t]", re.MULTILINE)),
    ("headers", re.compile(r"^#{1,6} ", re.MULTILINE)),
    ("bold", re.compile(r"\*\*[^*\n]+\*\*")),
    ("code", re.compile(r"```")),
    ("questions", re.compile(r"\?")),
    ("exclamations", re.compile(r"!")),
    ("digits", re.compile(r"\d")),
)


def surface(texts: Sequence[str]) -> Array:
    """[n, 10] features that need no reading: log(1 + count) of what SURFACE names, and how a refusal begins."""
    made = np.zeros((len(texts), len(SURFACE) + 1))
    for row, words in enumerate(texts):
        made[row, :-1] = [
            len(words) if found is None else sum(1 for _ in found.finditer(words)) for _, found in SURFACE
        ]
        made[row, -1] = REFUSAL.match(words) is not None
    made[:, :-1] = np.log1p(made[:, :-1])
    return made


def words(texts: Sequence[str]) -> Any:
    """[n, WIDTH] sparse: words and couples of words, hashed; 1 + log count, each row of unit length."""
    from scipy.sparse import csr_matrix

    known: dict[str, int] = {}
    columns, values, ends = [], [], [0]
    for one in texts:
        found = _WORD.findall(one.lower())
        counts: dict[int, int] = {}
        for token in (*found, *(f"{a} {b}" for a, b in pairwise(found))):
            at = known.get(token)
            if at is None:
                at = known[token] = crc32(token.encode("utf-8", "replace")) % WIDTH
            counts[at] = counts.get(at, 0) + 1
        weights = 1 + np.log(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
        columns.append(np.fromiter(counts, dtype=np.int64, count=len(counts)))
        values.append(weights / np.sqrt((weights**2).sum()) if len(counts) else weights)
        ends.append(ends[-1] + len(counts))
    data = np.concatenate(values) if values else np.zeros(0)
    place = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    return csr_matrix((_WORD_SCALE * data, place, ends), shape=(len(texts), WIDTH))


def folds_of(groups: Ints, seed: int = 0) -> Ints:
    """[n] the fold of each row: whole groups, dealt out in a shuffled order."""
    known, place = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(known))
    return (order % FOLDS)[place]


def out_of_fold(features: Any, chosen: Array, folds: Ints) -> Array | None:
    """[n] the logit of each row by a fit on the other folds; None where a fold has nothing to learn from.

    Args:
        features: [n, k], dense (standardised here by the rows that are learnt from) or sparse.
        chosen: [n] 1 or 0.
        folds: [n], see `folds_of`.
    """
    found = np.full(len(chosen), np.nan)
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(np.unique(chosen[train])) < 2:
            return None
        learnt, asked = features[train], features[test]
        if isinstance(learnt, np.ndarray):
            mean, sd = learnt.mean(axis=0), learnt.std(axis=0)
            sd = np.where(sd > 1e-12, sd, 1.0)
            learnt, asked = (learnt - mean) / sd, (asked - mean) / sd
        coefficients, intercept = ridge_logistic(learnt, chosen[train])
        found[test] = asked @ coefficients + intercept
    # Sums in another order differ in the last digits; equal texts must stay equal.
    return np.asarray(np.round(found, 9))


def ridge_logistic(x: Any, y: Array, ridge: float = RIDGE) -> tuple[Array, float]:
    """Coefficients and intercept of a logistic regression with a ridge on the coefficients: Newton's method.

    Each step is solved by conjugate gradients, so that words by the thousand cost a few passes over the rows. (L-BFGS
    of SciPy takes twenty times as long where its threads have to share a core.)

    Args:
        x: [n, k] dense or sparse.
        y: [n] 1 or 0.
        ridge: penalty, ridge/2 times the sum of squares on the summed loss.
    """
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)
    turned = x.T.tocsr() if hasattr(x, "tocsr") else x.T

    def gradient_of(rows: Array) -> Array:
        return np.append(turned @ rows, rows.sum())

    def loss(w: Array, logit: Array) -> float:
        return float((np.logaddexp(0, logit) - y * logit).sum() + 0.5 * (penalty * w**2).sum())

    w, logit = np.zeros(x.shape[1] + 1), np.zeros(len(y))
    value = loss(w, logit)
    for _ in range(_STEPS):
        p = 0.5 + 0.5 * np.tanh(logit / 2)
        gradient = gradient_of(y - p) - penalty * w
        if np.abs(gradient).max() <= _TOLERANCE * len(y):
            break
        curved = p * (1 - p) + 1e-9

        def product(v: Array, curved: Array = curved) -> Array:
            return gradient_of(curved * (x @ v[:-1] + v[-1])) + penalty * v

        step = _conjugate(product, gradient)
        along, size = x @ step[:-1] + step[-1], 1.0
        while (there := loss(w + size * step, logit + size * along)) > value and size > 1e-6:
            size /= 2
        w, logit, value = w + size * step, logit + size * along, there
    return w[:-1], float(w[-1])


def _conjugate(product: Callable[[Array], Array], wanted: Array) -> Array:
    """The solution of a positive definite system, to a hundredth of its right side."""
    found, rest = np.zeros_like(wanted), wanted.copy()
    way, norm = rest.copy(), float((rest**2).sum())
    goal = 1e-4 * norm
    for _ in range(_INNER):
        turned = product(way)
        size = norm / float((way * turned).sum())
        found, rest = found + size * way, rest - size * turned
        now = float((rest**2).sum())
        if now <= goal:
            break
        way, norm = rest + (now / norm) * way, now
    return found


def auc(chosen: Array, rejected: Array, groups: tuple[Ints, Ints] | None = None) -> Entry:
    """How often a chosen one scores above a rejected one of any prompt, ties half; the area under the ROC.

    The interval is normal, by the placement values summed by group (Obuchowski, 1997).

    Args:
        chosen: [n] scores.
        rejected: [m] scores.
        groups: of either, [n] and [m]; each row by itself unless given.

    Returns:
        {value, low, high, n}; None for what cannot be computed. n counts the chosen ones.
    """
    n, m = len(chosen), len(rejected)
    if not n or not m:
        return {"value": None, "low": None, "high": None, "n": 0}
    of_chosen = _placement(chosen, rejected)
    of_rejected = 1 - _placement(rejected, chosen)
    value = float(of_chosen.mean())
    by = groups or (np.arange(n), np.arange(n, n + m))
    known, place = np.unique(np.concatenate(by), return_inverse=True)
    if len(known) < 3:
        return {"value": value, "low": None, "high": None, "n": n}
    each = np.concatenate([(of_chosen - value) / n, (of_rejected - value) / m])
    summed = np.bincount(place, weights=each, minlength=len(known))
    half = 1.959963984540054 * float(np.sqrt((summed**2).sum() * len(known) / (len(known) - 1)))
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n}


def _placement(scores: Array, others: Array) -> Array:
    """[n] of each score the share of the others below it, equal ones half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    placed: Array = (below + upto) / 2 / len(others)
    return placed
