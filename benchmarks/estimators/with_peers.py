"""The cells of the peers: each asked for the same estimate, from the input that its documentation asks for.

What turns our arrays into that input is part of the time, as it is for whoever calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from worker_data import against_truth, load, recall_of, texts

Run = Callable[[], dict[str, Any]]


def choix_ilsr() -> Run:
    """I-LSR on the table of wins, which is counted for it."""
    import choix

    data = load("dense")

    def run() -> dict[str, Any]:
        cells = data["winners"].astype(np.int64) * 100 + data["losers"]
        wins = np.bincount(cells, minlength=10_000).reshape(100, 100).astype(float)
        return {"strengths": choix.ilsr_pairwise_dense(wins).tolist()}

    return run


def choix_mm_sweep() -> Run:
    """One sweep of the minorisation over the comparisons, of about a hundred that it takes."""
    import choix

    data = load("dense")

    def run() -> dict[str, Any]:
        pairs = list(zip(data["winners"].tolist(), data["losers"].tolist(), strict=True))
        with suppress(RuntimeError):  # it says so when it has not converged
            choix.mm_pairwise(100, pairs, max_iter=1)
        return {}

    return run


def evalica_newman() -> Run:
    """From lists of names, in Rust."""
    import evalica

    data = load("dense")

    def run() -> dict[str, Any]:
        xs, ys = data["winners"].tolist(), data["losers"].tolist()
        found = evalica.bradley_terry(xs, ys, [evalica.Winner.X] * len(xs), tolerance=1e-12, limit=1000)
        scores = found.scores.sort_index()
        strengths = np.log(scores.to_numpy())
        return {"strengths": (strengths - strengths.mean()).tolist()}

    return run


def arena_rank() -> Run:
    """Fit and sandwich, after a first call that compiles."""
    import pandas
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    data = load("dense")

    def fitted() -> dict[str, Any]:
        frame = pandas.DataFrame({"model_a": data["winners"], "model_b": data["losers"], "winner": "model_a"})
        pairs = PairDataset.from_pandas(frame)
        model = BradleyTerry(n_competitors=pairs.n_competitors)
        found = model.compute_ratings_and_cis(pairs)
        ratings = np.asarray(found["ratings"])[np.argsort([int(name) for name in found["competitors"]])]
        strengths = (ratings - ratings.mean()) / model.alpha
        return {"strengths": strengths.tolist()}

    fitted()
    return fitted


def sklearn_cells() -> Run:
    """A logistic regression on the cells."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    data = load("dense")

    def run() -> dict[str, Any]:
        cells = np.bincount(data["winners"].astype(np.int64) * 100 + data["losers"], minlength=10_000)
        there = np.flatnonzero(cells)
        rows = np.arange(len(there))
        x = sp.csr_matrix(
            (
                np.r_[np.ones(len(there)), -np.ones(len(there))],
                (np.r_[rows, rows], np.r_[there // 100, there % 100]),
            ),
            shape=(len(there), 100),
        )
        both = sp.vstack([x, -x])
        fit = LogisticRegression(fit_intercept=False, C=1e9, tol=1e-9, max_iter=1000)
        fit.fit(both, np.r_[np.ones(len(there)), np.zeros(len(there))], np.r_[cells[there], cells[there]] / 2)
        strengths = fit.coef_[0]
        return {"strengths": (strengths - strengths.mean()).tolist()}

    return run


def crowdkit_bradley_terry() -> Run:
    """As it is: two sweeps."""
    import pandas
    from crowdkit.aggregation import BradleyTerry

    data = load("dense")

    def run() -> dict[str, Any]:
        frame = pandas.DataFrame(
            {"worker": 0, "left": data["winners"], "right": data["losers"], "label": data["winners"]}
        )
        scores = BradleyTerry(n_iter=10_000, tol=1e-12).fit_predict(frame).sort_index()
        strengths = np.log(np.maximum(scores.to_numpy(), 1e-300))
        return {"strengths": (strengths - strengths.mean()).tolist()}

    return run


def evalica_bootstrap() -> Run:
    """20 resamples of rows; its documentation takes 1,000."""
    import evalica

    data = load("dense")

    def run() -> dict[str, Any]:
        xs, ys = data["winners"].tolist(), data["losers"].tolist()
        winners = [evalica.Winner.X] * len(xs)
        found = evalica.bootstrap(evalica.bradley_terry, xs, ys, winners, n_resamples=20, bootstrap_method="percentile")
        drawn = np.log(found.distribution[found.distribution.columns.sort_values()].to_numpy())
        drawn -= drawn.mean(axis=1, keepdims=True)
        return {"first_error": float(drawn[:, 0].std())}

    return run


def sklearn_rows() -> Run:
    """Sparse rows, the same ridge."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    data = load("sparse")
    n = len(data["truth"])

    def run() -> dict[str, Any]:
        m = len(data["winners"])
        turned = np.arange(m) % 2 == 0  # both classes must occur
        first = np.where(turned, data["winners"], data["losers"])
        second = np.where(turned, data["losers"], data["winners"])
        rows = np.arange(m)
        x = sp.csr_matrix((np.r_[np.ones(m), -np.ones(m)], (np.r_[rows, rows], np.r_[first, second])), shape=(m, n))
        fit = LogisticRegression(fit_intercept=False, C=10, tol=1e-9, max_iter=1000).fit(x, turned)
        return against_truth(fit.coef_[0], data["truth"])

    return run


def choix_mm_sparse_sweep() -> Run:
    """One sweep, of hundreds."""
    import choix

    data = load("sparse")

    def run() -> dict[str, Any]:
        pairs = list(zip(data["winners"].tolist(), data["losers"].tolist(), strict=True))
        with suppress(RuntimeError):
            choix.mm_pairwise(len(data["truth"]), pairs, max_iter=1, alpha=0.1)
        return {}

    return run


def _labelled() -> tuple[Any, Any]:
    import pandas

    data = load("labels")
    frame = pandas.DataFrame({"task": data["items"], "worker": data["annotators"], "label": data["labels"]})
    return data, frame


def crowdkit_dawid_skene() -> Run:
    """Its defaults."""
    from crowdkit.aggregation import DawidSkene

    data, frame = _labelled()

    def run() -> dict[str, Any]:
        found = DawidSkene(n_iter=100).fit_predict(frame).sort_index()
        return {"right": float((found.to_numpy() == data["truth"]).mean())}

    return run


def crowdkit_one_coin() -> Run:
    """Its defaults."""
    from crowdkit.aggregation import OneCoinDawidSkene

    data, frame = _labelled()

    def run() -> dict[str, Any]:
        found = OneCoinDawidSkene(n_iter=100).fit_predict(frame).sort_index()
        return {"right": float((found.to_numpy() == data["truth"]).mean())}

    return run


def crowdkit_mace() -> Run:
    """One start of its ten, which are all the same."""
    from crowdkit.aggregation import MACE

    data, frame = _labelled()

    def run() -> dict[str, Any]:
        found = MACE(n_restarts=1, n_iter=50).fit_predict(frame).sort_index()
        return {"right": float((found.to_numpy() == data["truth"]).mean())}

    return run


def crowdkit_noisy_bradley_terry() -> Run:
    """20,000 of the 500,000 votes: all of them do not end within minutes."""
    import pandas
    from crowdkit.aggregation import NoisyBradleyTerry

    data = load("votes")

    def run() -> dict[str, Any]:
        some = slice(0, 20_000)
        frame = pandas.DataFrame(
            {
                "worker": data["annotators"][some],
                "left": data["winners"][some],
                "right": data["losers"][some],
                "label": data["winners"][some],
            }
        )
        model = NoisyBradleyTerry(n_iter=100).fit(frame)
        scores = model.scores_.reindex(range(len(data["truth"]))).fillna(0.0)
        skills = model.skills_.reindex(range(len(data["right"]))).fillna(0.5)
        return {
            **against_truth(scores.to_numpy(), data["truth"]),
            "annotators": float(np.corrcoef(skills.to_numpy(), data["right"])[0, 1]),
            "votes": 20_000,
        }

    return run


def krippendorff_counts() -> Run:
    """From the table of counts, which is made for it."""
    import krippendorff

    data = load("ratings")

    def run() -> dict[str, Any]:
        n = int(data["units"].max()) + 1
        cells = data["units"].astype(np.int64) * 5 + data["values"]
        counts = np.bincount(cells, minlength=n * 5).reshape(n, 5)
        domain = np.arange(5)
        return {
            name: float(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=name))
            for name in ("nominal", "ordinal")
        }

    return run


def evalica_alpha() -> Run:
    """From a frame of five slots a unit, which is made for it."""
    import evalica
    import pandas

    data = load("ratings")

    def run() -> dict[str, Any]:
        slots = pandas.DataFrame(data["values"].reshape(-1, 5).T.astype(float))
        return {name: float(evalica.alpha(slots, name).alpha) for name in ("nominal", "ordinal")}

    return run


def crowdkit_alpha() -> Run:
    """Nominal alone."""
    import pandas
    from crowdkit.metrics.data import alpha_krippendorff

    data = load("ratings")

    def run() -> dict[str, Any]:
        frame = pandas.DataFrame({"task": data["units"], "worker": data["raters"], "label": data["values"]})
        return {"nominal": float(alpha_krippendorff(frame))}

    return run


def datasketch_lsh() -> Run:
    """MinHash of 128 permutations, an index at 0.7, candidates as they are."""
    from datasketch import MinHash, MinHashLSH

    given = texts()

    def run() -> dict[str, Any]:
        index = MinHashLSH(threshold=0.7, num_perm=128)
        grams = [_grams(text) for text in given]
        made = MinHash.bulk(grams, num_perm=128)
        found = []
        for place, signature in enumerate(made):
            found += [(other, place) for other in index.query(signature)]
            index.insert(place, signature)
        return recall_of(found)

    return run


def rensa_lsh() -> Run:
    """128 permutations, 16 bands, candidates kept whose estimate reaches 0.7."""
    from rensa import RMinHash, RMinHashLSH

    given = texts()

    def run() -> dict[str, Any]:
        index = RMinHashLSH(threshold=0.7, num_perm=128, num_bands=16)
        made = []
        for text in given:
            one = RMinHash(num_perm=128, seed=42)
            one.update([gram.decode() for gram in _grams(text)])
            made.append(one)
        found = []
        for place, one in enumerate(made):
            found += [(other, place) for other in index.query(one) if made[other].jaccard(one) >= 0.7]
            index.insert(place, one)
        return recall_of(found)

    return run


def _grams(text: str) -> list[bytes]:
    words = text.split()
    return [" ".join(words[place : place + 3]).encode() for place in range(len(words) - 2)]
