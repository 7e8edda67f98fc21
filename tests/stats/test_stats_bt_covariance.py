"""Sandwiches, clusters and sparse fits: against the formulas written out, and against the dense fit."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats import bradley_terry
from prefdata.stats import bt_covariance as covariance_module

RANDOM = np.random.default_rng(7)
M, N = 300, 8
FIRST = RANDOM.integers(0, N, M)
SECOND = (FIRST + RANDOM.integers(1, N, M)) % N
SOFT = RANDOM.choice([0.0, 0.2, 0.5, 0.9, 1.0], M)
HARD = RANDOM.choice([0.0, 0.5, 1.0], M)
WEIGHTS = RANDOM.random(M) + 0.1
PROMPT = RANDOM.integers(0, 30, M)


def test_rows_and_clusters_by_the_formula() -> None:
    x = np.zeros((M, N))
    x[np.arange(M), FIRST], x[np.arange(M), SECOND] = 1, -1
    plain = bradley_terry(FIRST, SECOND, WEIGHTS, p=SOFT)
    p = 1 / (1 + np.exp(-x @ plain.values))
    bread = np.linalg.pinv(x.T @ np.diag(WEIGHTS * p * (1 - p)) @ x)
    assert plain.covariance is not None
    np.testing.assert_allclose(plain.covariance, bread, atol=1e-10)
    score = x * (WEIGHTS * (SOFT - p))[:, None]
    by_rows = bradley_terry(FIRST, SECOND, WEIGHTS, p=SOFT, robust=True)
    assert by_rows.covariance is not None
    np.testing.assert_allclose(by_rows.covariance, bread @ score.T @ score @ bread, atol=1e-10)
    summed = np.stack([score[one == PROMPT].sum(axis=0) for one in range(30)])
    wanted = bread @ summed.T @ summed @ bread
    for names in (PROMPT, PROMPT + 10**6, PROMPT / 2, [f"prompt {one}" for one in PROMPT]):
        found = bradley_terry(FIRST, SECOND, WEIGHTS, p=SOFT, clusters=names)
        np.testing.assert_allclose(found.covariance, wanted, atol=1e-10)
    apart = bradley_terry(FIRST, SECOND, WEIGHTS, p=SOFT, clusters=np.arange(M))
    np.testing.assert_allclose(apart.covariance, by_rows.covariance, atol=1e-10)


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_clusters_of_one_row_are_rows_with_ties_too(ties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bradley_terry(FIRST, SECOND, WEIGHTS, p=HARD, ties=ties, robust=True)  # type: ignore[arg-type]
    found = []
    for limit in (10**7, 0):  # dense and sparse scores
        monkeypatch.setattr(covariance_module, "_DENSE_SCORES", limit)
        found.append(bradley_terry(FIRST, SECOND, WEIGHTS, p=HARD, ties=ties, clusters=np.arange(M)))  # type: ignore[arg-type]
    for fit in found:
        np.testing.assert_allclose(fit.covariance, rows.covariance, atol=1e-10)
        assert (fit.tie is None and rows.tie is None) or fit.tie.high == pytest.approx(rows.tie.high)  # type: ignore[union-attr]


def test_copies_of_votes_in_one_cluster_tell_nothing_new() -> None:
    once = bradley_terry(FIRST, SECOND, p=HARD, clusters=np.arange(M))
    thrice = bradley_terry(np.tile(FIRST, 3), np.tile(SECOND, 3), p=np.tile(HARD, 3), clusters=np.tile(np.arange(M), 3))
    np.testing.assert_allclose(once.low, thrice.low, atol=1e-9)
    naive = bradley_terry(np.tile(FIRST, 3), np.tile(SECOND, 3), p=np.tile(HARD, 3), robust=True)
    np.testing.assert_allclose(naive.standard_errors * np.sqrt(3), once.standard_errors, atol=1e-9)


def test_clusters_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="one cluster"):
        bradley_terry([0, 1], [1, 0], clusters=["a", "a"])
    for lost in (None, float("nan")):
        with pytest.raises(ValueError, match="comparison 1 has no cluster"):
            bradley_terry([0, 1, 1], [1, 0, 0], clusters=[1.5, lost, 2.5])
    with pytest.raises(ValueError, match="one entry for each"):
        bradley_terry([0, 1], [1, 0], clusters=[1])


def test_scales_of_weights() -> None:
    # Repetition is not a weight: the sandwich does not change when all weights are multiplied, the information does.
    one = bradley_terry(FIRST, SECOND, p=HARD, robust=True)
    three = bradley_terry(FIRST, SECOND, np.full(M, 3.0), p=HARD, robust=True)
    np.testing.assert_allclose(one.low, three.low, atol=1e-9)
    np.testing.assert_allclose(
        bradley_terry(FIRST, SECOND, p=HARD).standard_errors,
        bradley_terry(FIRST, SECOND, np.full(M, 3.0), p=HARD).standard_errors * np.sqrt(3),
        atol=1e-9,
    )


@pytest.mark.parametrize("extra", [{}, {"robust": True}, {"clusters": PROMPT}])
@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_sparse_and_dense_agree(ties: str, extra: dict[str, object], prior: float) -> None:
    arguments = {"p": HARD, "ties": ties, "covariates": WEIGHTS - 0.5, "prior": prior, **extra}
    dense = bradley_terry(FIRST, SECOND, method="dense", **arguments)  # type: ignore[arg-type]
    sparse = bradley_terry(FIRST, SECOND, method="sparse", **arguments)  # type: ignore[arg-type]
    np.testing.assert_allclose(sparse.values, dense.values, atol=1e-8)
    # Without a sandwich a sparse fit expects the information that a dense one observes; only Rao-Kupper's differ.
    close = 2e-2 if ties == "rao-kupper" and not extra else 1e-6
    np.testing.assert_allclose(sparse.low, dense.low, atol=close)
    assert sparse.difference_error(2, 5) == pytest.approx(dense.difference_error(2, 5), abs=close)
    assert sparse.coefficients is not None and dense.coefficients is not None
    np.testing.assert_allclose(sparse.coefficients.high, dense.coefficients.high, atol=close)
    if ties != "half":
        assert sparse.tie is not None and dense.tie is not None
        assert sparse.tie.high == pytest.approx(dense.tie.high, abs=close)


def test_probed_errors_of_many_contestants() -> None:
    random = np.random.default_rng(0)
    n, m = 400, 6000
    first = random.integers(0, n, m)
    second = (first + random.integers(1, n, m)) % n
    y = (random.random(m) < 0.5).astype(float)
    dense = bradley_terry(first, second, p=y, method="dense")
    sparse = bradley_terry(first, second, p=y, method="sparse")
    assert sparse.converged and sparse.covariance is None and 0 < sparse.probe_error < 0.05
    np.testing.assert_allclose(sparse.values, dense.values, atol=1e-8)
    ratio = sparse.standard_errors / dense.standard_errors
    assert np.sqrt(((ratio - 1) ** 2).mean()) < sparse.probe_error and np.abs(ratio - 1).max() < 4 * sparse.probe_error
    found, wanted = sparse.difference(3, 300), dense.difference(3, 300)
    assert found.low == pytest.approx(wanted.low) and found.high == pytest.approx(wanted.high)
    with pytest.raises(ValueError, match="no covariance of all pairs"):
        sparse.ranks()
    bare = bradley_terry(first, second, p=y, method="sparse", intervals=False)
    assert bare.values.tobytes() == sparse.values.tobytes() and np.isnan(bare.low).all()
    assert bare.difference(0, 1).low is None
    again = bradley_terry(first, second, p=y, method="sparse", seed=1)
    assert again.values.tobytes() == sparse.values.tobytes() and again.low.tobytes() != sparse.low.tobytes()


def test_a_long_chain() -> None:
    n = 300
    a = np.concatenate([np.arange(n - 1), np.arange(1, n)])
    b = np.concatenate([np.arange(1, n), np.arange(n - 1)])
    fit = bradley_terry(a, b, method="sparse")
    # Two games, one won each, between neighbours: each link adds a variance of 1/(2/4).
    assert fit.converged and np.abs(fit.values).max() == 0
    assert fit.difference_error(0, n - 1) == pytest.approx(np.sqrt(2 * (n - 1)))


def test_intervals_cover() -> None:
    # 200 sets of votes from known strengths: each interval of a difference covers about 95 of 100 times.
    truth = np.array([1.0, 0.3, 0.0, -1.3])
    random = np.random.default_rng(11)
    first, second = np.triu_indices(4, 1)
    first, second = np.repeat(first, 60), np.repeat(second, 60)
    chance = 1 / (1 + np.exp(truth[second] - truth[first]))
    hits = {"model": 0, "robust": 0}
    for _ in range(200):
        y = (random.random(len(first)) < chance).astype(float)
        for name in hits:
            found = bradley_terry(first, second, p=y, robust=name == "robust").difference(0, 2)
            hits[name] += found.low < 1.0 < found.high  # type: ignore[operator]
    assert all(0.91 <= count / 200 <= 0.985 for count in hits.values()), hits
