"""The joint model's derivatives by finite differences, and the inverse of its matrix against a dense one."""

from __future__ import annotations

import numpy as np
import pytest

from prefdata.stats.joint_curvature import Curvature
from prefdata.stats.joint_data import PARAMETERS, Data
from prefdata.stats.joint_likelihood import derivatives, value
from prefdata.stats.joint_prepare import prepare
from prefdata.stats.joint_strengths import Strengths

N, ROWS = 7, 60


def some_data(seed: int = 1, groups: np.ndarray | None = None) -> Data:
    draw = np.random.default_rng(seed)
    first = draw.integers(N, size=ROWS)
    second = (first + draw.integers(1, N, size=ROWS)) % N
    scores = np.tile(np.arange(N), 3), np.repeat([1, 3, 9], N), draw.normal(size=3 * N)
    return prepare(
        first, second, draw.integers(4, size=ROWS), p=draw.choice([0, 0.3, 0.5, 1], size=ROWS),
        weights=draw.uniform(0.5, 2, ROWS), position=draw.choice([-1, 0, 1], size=ROWS), length=draw.normal(size=ROWS),
        scores=scores, score_length=draw.normal(size=3 * N), groups=groups, n=N,
    )  # fmt: skip


def dense(data: Data, theta: np.ndarray, u: np.ndarray, **options: object) -> np.ndarray:
    """Second derivatives [N + 5W, N + 5W] from what `derivatives` gives in parts."""
    at = derivatives(data, theta, u, **options)  # type: ignore[arg-type]
    made = np.zeros((N + u.size, N + u.size))
    made[:N, :N] = -Strengths(data, at.curvature, at.score_curvature, 1e9).apply(np.eye(N))
    for w, block in enumerate(at.blocks):
        place = slice(N + PARAMETERS * w, N + PARAMETERS * (w + 1))
        made[place, place] = block
    for cell, (i, w) in enumerate(zip(data.cell_contestant, data.cell_annotator, strict=True)):
        place = slice(N + PARAMETERS * w, N + PARAMETERS * (w + 1))
        made[i, place] = made[place, i] = at.cross[cell]
    return made


@pytest.mark.parametrize("points", [1, 5])
def test_gradient_and_second_derivatives(points: int) -> None:
    data = some_data()
    size = data.annotators
    draw = np.random.default_rng(2)
    theta, u = draw.normal(size=N), draw.normal(0.5, 0.5, (size, PARAMETERS))
    u[:, 4] = draw.uniform(0.5, 2, size)
    options = {
        "ties": True, "points": points, "spread": draw.uniform(0.1, 1, ROWS),
        "score_spread": draw.uniform(0, 2, size) * (data.scores.freedom > 0),
    }  # fmt: skip

    def gradient(x: np.ndarray) -> np.ndarray:
        at = derivatives(data, x[:N], x[N:].reshape(size, -1), **options)  # type: ignore[arg-type]
        return np.concatenate([at.theta, at.annotators.ravel()])

    def height(x: np.ndarray) -> float:
        return value(data, x[:N], x[N:].reshape(size, -1), **options)  # type: ignore[arg-type]

    here, step = np.concatenate([theta, u.ravel()]), 1e-6 * np.eye(N + u.size)
    assert derivatives(data, theta, u, **options).value == pytest.approx(height(here))  # type: ignore[arg-type]
    slopes = np.array([(height(here + e) - height(here - e)) / 2e-6 for e in step])
    np.testing.assert_allclose(gradient(here), slopes, atol=1e-6)
    bends = np.array([(gradient(here + e) - gradient(here - e)) / 2e-6 for e in step])
    np.testing.assert_allclose(dense(data, theta, u, **options), bends, atol=1e-6)


def test_the_numbers_of_one_comparison() -> None:
    # d = 2 * (0.7 - 0.2) + 0.3 + 0.1 * 0.5 = 1.35, t = 0.5.
    data = prepare([0], [1], ["a"], p=None, weights=None, position=[1], length=[0.5], scores=None, score_length=None,
                   groups=None, n=2)  # fmt: skip
    u = np.array([[2.0, 0.3, 0.1, np.log(0.5), 1.0]])
    assert value(data, np.array([0.7, 0.2]), u, ties=True) == pytest.approx(-np.log1p(np.exp(-0.85)))
    tie = prepare([0], [1], ["a"], p=[0.5], weights=None, position=[1], length=[0.5], scores=None, score_length=None,
                  groups=None, n=2)  # fmt: skip
    share = 1 - 1 / (1 + np.exp(-0.85)) - 1 / (1 + np.exp(1.85))
    assert value(tie, np.array([0.7, 0.2]), u, ties=True) == pytest.approx(np.log(share))


@pytest.mark.parametrize("side", ["contestants", "annotators"])
def test_covariances_are_blocks_of_the_whole_inverse(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = some_data(3)
    size = data.annotators
    draw = np.random.default_rng(4)
    theta, u = draw.normal(size=N), np.tile([1.0, 0.1, 0.2, -0.7, 1.2], (size, 1))
    prior = np.full((size, PARAMETERS), 40.0)
    whole = -dense(data, theta, u, ties=True)
    whole[:N, :N] += np.eye(N) / 1.5**2
    whole[N:, N:] += np.diag(prior.ravel())
    if side == "annotators":
        monkeypatch.setattr(Curvature, "_without_annotators", Curvature._without_contestants)
    curvature = Curvature(data, derivatives(data, theta, u, ties=True), prior, 1.5, range(PARAMETERS), safe=False)
    inverse = np.linalg.inv(whole)
    found = curvature.covariances()
    assert found.exact
    np.testing.assert_allclose(found.strengths.reshape(N, N)[np.ix_(data.layout.local, data.layout.local)],
                               inverse[:N, :N], atol=1e-9)  # fmt: skip
    for w in range(size):
        place = slice(N + PARAMETERS * w, N + PARAMETERS * (w + 1))
        np.testing.assert_allclose(found.annotators[w], inverse[place, place], atol=1e-9)
    right = draw.normal(size=(N + u.size, 2))
    x, y = curvature.solve(right[:N], right[N:].reshape(size, PARAMETERS, 2), 1e-12)
    np.testing.assert_allclose(np.concatenate([x, y.reshape(-1, 2)]), inverse @ right, atol=1e-8)
