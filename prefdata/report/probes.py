"""Probes: can the chosen responses be told from the rejected ones without looking at the question?

A logistic regression with a ridge, out of fold, with all pairs of a prompt in one fold: otherwise it would know the
prompts by heart. Each side of a pair is a row by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from prefdata.report.numbers import Entry
from prefdata.stats.denoise import separation
from prefdata.stats.logistic_sparse import ridge_logistic

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5

WIDTH = 1 << 13
"""Columns of hashed words."""

_WORD_SCALE = 10.0
"""The ridge is that of standardised columns; words weighted to unit length are ten times as strong columns of them."""

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


def held_out_logits(features: Any, chosen: Array, folds: Ints) -> Array | None:
    """[n] the logit of each row by a fit on the other folds; None where a fold has nothing to learn from.

    Args:
        features: [n, k], dense (standardised here by the rows that are learnt from) or sparse.
        chosen: [n] 1 or 0.
        folds: [n], see `prefdata.stats.confident.folds_of`.
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


def auc(chosen: Array, rejected: Array, groups: tuple[Ints, Ints] | None = None) -> Entry:
    """How often a chosen one scores above a rejected one of any prompt, ties half; the area under the ROC.

    The interval is that of `prefdata.stats.separation`.

    Args:
        chosen: [n] scores.
        rejected: [m] scores.
        groups: of either, [n] and [m]; each row by itself unless given.

    Returns:
        {value, low, high, n}; None for what cannot be computed. n counts the chosen ones.
    """
    truth = np.arange(len(chosen) + len(rejected)) < len(chosen)
    clusters = None if groups is None else np.concatenate(groups)
    found = separation(np.concatenate([chosen, rejected]), truth, clusters=clusters)
    n = 0 if found.value is None else len(chosen)
    return {"value": found.value, "low": found.low, "high": found.high, "n": n}
