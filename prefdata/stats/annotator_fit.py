"""To the mode of a posterior of strengths and annotators: L-BFGS, then Newton with the annotators integrated out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefdata.stats.annotator_likelihood import Priors
from prefdata.stats.annotator_posterior import Information, Posterior
from prefdata.stats.coding import FloatArray

CLOSE = 1e-4
"""A fit has converged where no slope that is left is larger, in units of the parameter's standard error."""

_ROUNDS = 4


@dataclass(frozen=True)
class Place:
    """Where a fit stands: parameters, the largest slope left, evaluations, and the information there or nearby."""

    posterior: Posterior
    x: FloatArray
    left: float
    used: int
    found: Information | None


def fit(posterior: Posterior, estimated: tuple[bool, bool], exact: bool, most: int, dense: bool = True) -> Place:
    """Where the posterior, with priors that may follow from it, has its mode.

    Args:
        posterior: what is to be fitted.
        estimated: which of its priors, of abilities and of positions, are taken from the annotators.
        exact: with the annotators integrated out; else the mode of everything at once.
        most: iterations at most.
        dense: whether the information may be made and inverted. Steps without it take ten times as many evaluations.
    """
    close = 0.1 if dense else CLOSE / 10
    x, used = climb(posterior, posterior.start(), most, close)
    place = Place(posterior, x, np.inf, used, None)
    for turn in range(1 + _ROUNDS * any(estimated)):
        before = place.posterior.priors
        if turn:
            posterior = replace(posterior, priors=_estimated(posterior, place.x, *estimated))
        if exact:
            place = _newton(posterior, place, most, 0.02 if any(estimated) else CLOSE)
        else:
            place = _of_everything(posterior, place, most, dense)
        after = posterior.priors
        if turn and np.allclose([*before.ability, before.position], [*after.ability, after.position], 0.03, 1e-3):
            break
    return _newton(posterior, place, most, CLOSE) if exact and any(estimated) else place


def _of_everything(posterior: Posterior, place: Place, most: int, dense: bool) -> Place:
    """The mode of strengths and annotators together, from near it; by L-BFGS where Newton does not get there."""
    x, used = place.x, place.used
    if dense:
        found = _newton(posterior, replace(place, found=None), most, CLOSE, integrate=False)
        if found.left < CLOSE:
            return replace(found, posterior=posterior, found=None)
        x, used = found.x, found.used
    x, more = climb(posterior, x, most, CLOSE / 10)
    return Place(posterior, x, _left(posterior, x), used + more, None)


def climb(posterior: Posterior, x: FloatArray, most: int, close: float = 1e-2) -> tuple[FloatArray, int]:
    """L-BFGS in parameters of about one size."""
    from scipy.optimize import minimize

    curvature = posterior.diagonal(x)
    scale = 1 / np.sqrt(np.where(curvature > 0, curvature, 1.0))  # none is left where weights are beyond all measure

    def value(y: FloatArray) -> tuple[float, FloatArray]:
        there, gradient = posterior.value(y * scale)
        return there, gradient * scale

    options = {"maxiter": most, "maxcor": 20, "gtol": close, "ftol": 0.0, "maxfun": 2 * most}
    with np.errstate(over="ignore", invalid="ignore"):
        found = minimize(value, x / scale, jac=True, method="L-BFGS-B", options=options)
    return found.x * scale, int(found.nfev)


def _newton(posterior: Posterior, place: Place, most: int, close: float, integrate: bool = True) -> Place:
    """From near a maximum of everything to the mode of the strengths with the annotators integrated out (Laplace).

    The annotators stay at their modes given the strengths: there their own curvature is what Laplace's method needs.
    The information is taken anew where its steps no longer shrink the slope, and at the end where it is old. Unless
    `integrate`, it goes to the maximum of everything itself.
    """
    x, found, used, age = place.x, place.found, place.used, np.inf
    best = Place(posterior, x, np.inf, used, None)
    scale = np.sqrt(posterior.diagonal(x))
    bend, last, before = np.zeros_like(x), np.inf, np.inf
    for attempt in range(60):
        _, gradient = posterior.value(x)
        used += 1
        left = _size(posterior, gradient, bend, found, scale)
        if found is None or left > 0.7 * before:
            try:
                found, age = posterior.information(x), left
            except np.linalg.LinAlgError:  # not near enough to a maximum yet, or past it
                if found is None and attempt > 5:
                    break
                if found is None:
                    x, more = climb(posterior, x, most, 10.0 ** (-2 - attempt))
                    used += more
                    continue
        before = left
        if last == np.inf or left < max(0.2 * last, 0.5 * close):
            # What the annotators' own curvature adds changes slowly and costs ten gradients: not every time.
            held, bend = bend, _bend(posterior, x) if integrate else bend
            left = _size(posterior, gradient, bend, found, scale)
            if left < best.left:
                best = Place(posterior, x, left, used, found)
            if left < close or not np.isfinite(left):
                break
            if left > 0.5 * last:  # it swings about where it would come to rest
                bend = (bend + held) / 2
            last, before = left, _size(posterior, gradient, bend, found, scale)
        step = posterior.step(found, _wanted(posterior, gradient, bend, found))
        x = x + step * min(1.0, 0.7 / float(np.abs(step).max()))
    if best.found is None:
        return replace(best, left=_left(posterior, best.x), used=used)
    if age > 0.05 and close <= CLOSE and integrate:
        try:
            found = posterior.information(best.x)
        except np.linalg.LinAlgError:
            return replace(best, left=np.inf, used=used, found=None)
        return replace(best, used=used, found=found)
    return replace(best, used=used)


def _bend(posterior: Posterior, x: FloatArray) -> FloatArray:
    if not np.isnan(posterior.fixed).any():
        return np.zeros_like(x)
    return posterior.bend(x, posterior.own_inverse(x))


def _wanted(posterior: Posterior, gradient: FloatArray, bend: FloatArray, found: Information) -> FloatArray:
    """The gradient to be brought to zero: of all parameters, the annotators' bend carried over to what they share."""
    shared = posterior.shared
    mine = bend[shared:].reshape(posterior.own, posterior.w).T.ravel()
    wanted = gradient.copy()
    wanted[:shared] += found.carried @ mine - bend[:shared]
    return wanted


def _size(
    posterior: Posterior, gradient: FloatArray, bend: FloatArray, found: Information | None, scale: FloatArray
) -> float:
    wanted = gradient if found is None else _wanted(posterior, gradient, bend, found)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.abs(wanted / scale).max())


def _left(posterior: Posterior, x: FloatArray) -> float:
    _, gradient = posterior.value(x)
    with np.errstate(divide="ignore", invalid="ignore"):  # where weights leave no curvature nothing has converged
        return float(np.abs(gradient / np.sqrt(posterior.diagonal(x))).max())


def _estimated(posterior: Posterior, x: FloatArray, abilities: bool, positions: bool) -> Priors:
    """Priors by their moments: the spread of the annotators' parameters, and what is not known of each."""
    priors = posterior.priors
    variance = np.einsum("wll->wl", posterior.own_inverse(x))
    e, free = posterior.ability(x), np.isnan(posterior.fixed)
    belief, spread = priors.ability, priors.position
    if abilities and free.any():
        e = e[free]
        if posterior.kind == "discrimination":
            belief = 1.0, float(np.clip(np.sqrt(((e - 1) ** 2 + variance[free, 0]).mean()), 0.05, 10))
        else:
            mean = float(e.mean())
            around = float(((e - mean) ** 2 + (e * (1 - e)) ** 2 * variance[free, 0]).mean())
            counts = float(np.clip(mean * (1 - mean) / max(around, 1e-9) - 1, 0.5, 1000))
            belief = mean * counts, (1 - mean) * counts
    b = posterior.position(x)
    if positions and b is not None:
        spread = float(np.clip(np.sqrt(((b - x[posterior.n]) ** 2 + variance[:, 1]).mean()), 0.02, 10))
    return Priors(priors.strength, belief, spread)
