"""Fitting the joint model: Newton's method on all parameters at once, hyperparameters by empirical Bayes on the way.

Each step is Newton's on strengths, annotators and the kinds' means; then the deviations take MacKay's step of the EM
algorithm's fixed point, s^2 = sum (x - mean)^2 / sum (1 - var/s^2), and the strengths' variances are looked at again.
Once that has settled, Newton goes on alone to the maximum. Each deviation has one observation of its own beforehand
(0.3 for a, b and c; 0.7 for log t), so that few annotators are neither all equal nor all different; tau has one of 1
and a half-normal prior of 2 logits. These numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefdata.stats.joint_curvature import Covariances, Curvature
from prefdata.stats.joint_data import (
    ABILITY,
    LENGTH,
    PARAMETERS,
    POSITION,
    SCALE,
    THRESHOLD,
    Data,
    FloatArray,
    IntArray,
)
from prefdata.stats.joint_likelihood import Derivatives, derivatives, value
from prefdata.stats.joint_newton import Bordered, Step
from prefdata.stats.joint_settle import Settling
from prefdata.stats.joint_strengths import diagonal, sheet_spread, vote_spread

_OUTER = 150
_POLISH = 30
_SETTLED = 1e-3
_NEWTON = 1e-7
_SMALL = 900
"""Up to this many unknowns the annotators' variances are exact in every step; beyond, given the strengths."""

_FREEDOM = 1.0
"""Prior observations behind each deviation."""
_LARGE = 2.0
"""Half-normal prior of tau, in logits: where all votes agree nothing else keeps strengths from growing."""
_PRIOR_SD = np.array([0.3, 0.3, 0.3, 0.7, 1.0])
_MEAN = np.array([1.0, 0.0, 0.0, np.log(0.5), 1.0])
_MEAN_SD = np.array([1.0, 1.0, 1.0, 1.5, 1.0])


@dataclass
class Scales:
    """The hyperparameters.

    Attributes:
        tau: standard deviation of the strengths.
        mean: [K, 5] of each kind of annotators: means of a, b, c and eta.
        deviation: [K, 5] their standard deviations.
        mean_error: [K, 5] standard errors of the means.
    """

    tau: float
    mean: FloatArray
    deviation: FloatArray
    mean_error: FloatArray


@dataclass(frozen=True)
class Fit:
    """Where it ended.

    Attributes:
        theta: [n].
        parameters: [W, 5].
        scales: hyperparameters.
        covariances: at the optimum, under the gauge mean |a| = 1.
        active: the parameters that are fitted.
        has: [W, 5] which of an annotator's parameters it has data on.
        kind: [W] numbers of kinds.
        log_likelihood: of the rows, in expectation over the strengths.
        gradient: the largest entry of the gradient of the log-posterior, along the gauge.
        sharp: whether it is a maximum, by the second derivatives; at a saddle there are no intervals.
        converged: whether it is one, the gradient is zero up to rounding and the hyperparameters had settled.
        iterations: Newton steps.
    """

    theta: FloatArray
    parameters: FloatArray
    scales: Scales
    covariances: Covariances
    active: tuple[int, ...]
    has: FloatArray
    kind: IntArray
    log_likelihood: float
    gradient: float
    sharp: bool
    converged: bool
    iterations: int


class Fitting:
    """The state of a fit."""

    def __init__(self, data: Data, kind: IntArray) -> None:
        self.data, self.kind = data, kind
        votes, scores = data.votes, data.scores
        self.ties = bool(votes.tie.any())
        self.has = np.zeros((data.annotators, PARAMETERS))
        total = votes.win + votes.loss + votes.tie
        compared = np.bincount(votes.annotator, total, data.annotators)
        self.has[:, ABILITY] = (compared > 0) | (scores.freedom > 0)
        if votes.position is not None:
            self.has[:, POSITION] = np.bincount(votes.annotator, total * np.abs(votes.position), data.annotators) > 0
        for of, column in ((votes.annotator, votes.length), (scores.annotator, scores.length)):
            if column is not None:
                self.has[:, LENGTH] += np.bincount(of, np.abs(column), data.annotators) > 0
        self.has[:, LENGTH] = np.minimum(self.has[:, LENGTH], 1.0)
        self.has[:, THRESHOLD] = (compared > 0) if self.ties else 0
        self.has[:, SCALE] = scores.freedom > 0
        self.gauged = self.has[:, ABILITY] > 0
        single = int(self.gauged.sum()) < 2  # then theta takes the ability's scale
        self.active = tuple(q for q in range(PARAMETERS) if self.has[:, q].any() and not (single and q == ABILITY))
        kinds = int(kind.max(initial=0)) + 1
        self.scales = Scales(
            1.0, np.tile(_MEAN, (kinds, 1)), np.tile(_PRIOR_SD, (kinds, 1)), np.zeros((kinds, PARAMETERS))
        )
        self.theta = np.zeros(data.n)
        self.u = np.tile(_MEAN, (data.annotators, 1))
        self.u[:, SCALE] = np.where(scores.freedom > 0, 1.5, 1.0)
        if self.ties:
            share = np.clip(votes.tie.sum() / total.sum(), 1e-4, 0.99)
            self.u[:, THRESHOLD] = np.log(2 * np.arctanh(share))
            self.scales.mean[:, THRESHOLD] = self.u[0, THRESHOLD]
        self.spread: FloatArray | None = None
        self.score_spread: FloatArray | None = None
        self.points, self.looks = 1, 0
        told = [q for q in self.active if q != SCALE]
        self.means = [(k, q) for k in range(kinds) for q in told if self.has[kind == k, q].any()]

    def precision(self) -> FloatArray:
        """[W, 5] of the priors."""
        made = 1 / self.scales.deviation[self.kind] ** 2
        made[:, SCALE] = np.where(self.has[:, SCALE] > 0, 0.0, 1.0)
        return made

    def prior(self, theta: FloatArray, u: FloatArray, mean: FloatArray) -> float:
        """Log-prior of a point, but for a constant."""
        off = (u - mean[self.kind])[:, :SCALE]
        total = (off**2 * self.precision()[:, :SCALE]).sum() + (theta**2).sum() / self.scales.tau**2
        return -0.5 * float(total + (((mean - _MEAN) / _MEAN_SD)[:, :SCALE] ** 2).sum())

    def value(self, theta: FloatArray, u: FloatArray, mean: FloatArray) -> float:
        """Log-posterior."""
        found = value(
            self.data, theta, u, ties=self.ties, spread=self.spread, score_spread=self.score_spread, points=self.points
        )
        return found + self.prior(theta, u, mean)

    def derivatives(self) -> Derivatives:
        """Of the likelihood, here."""
        return derivatives(
            self.data, self.theta, self.u, ties=self.ties, spread=self.spread, score_spread=self.score_spread,
            points=self.points,
        )  # fmt: skip

    def gradients(self, at: Derivatives, fixed: bool = False) -> Step:
        """Of the log-posterior; 0 for parameters that are not fitted."""
        precision = self.precision()
        pull = (self.u - self.scales.mean[self.kind]) * precision
        u = at.annotators - pull
        off = [q for q in range(PARAMETERS) if fixed or q not in self.active]
        u[:, off] = 0.0
        u[self.has[:, SCALE] == 0, SCALE] = 0.0
        means = [
            float(pull[self.kind == k, q].sum()) - (self.scales.mean[k, q] - _MEAN[q]) / _MEAN_SD[q] ** 2
            for k, q in ([] if fixed else self.means)
        ]
        return Step(at.theta - self.theta / self.scales.tau**2, u, np.array(means))

    def bordered(self, curvature: Curvature) -> Bordered:
        """With the means and the gauge; neither while only the strengths are fitted."""
        means = self.means if curvature.active else []
        precision = self.precision()
        coupling = np.zeros((self.data.annotators, PARAMETERS, len(means)))
        for column, (k, q) in enumerate(means):
            coupling[self.kind == k, q, column] = precision[self.kind == k, q]
        own = np.array([coupling[:, q, c].sum() + _MEAN_SD[q] ** -2 for c, (_, q) in enumerate(means)])
        return Bordered(curvature, coupling, own, self.gauge() if ABILITY in curvature.active else None)

    def gauge(self) -> FloatArray:
        """[W, 5] the gradient of mean |a|, which is held at 1."""
        made = np.zeros((self.data.annotators, PARAMETERS))
        made[self.gauged, ABILITY] = np.where(self.u[self.gauged, ABILITY] >= 0, 1.0, -1.0) / self.gauged.sum()
        return made

    def along_gauge(self, u: FloatArray) -> FloatArray:
        """A gradient without its part that the constraint takes up."""
        if ABILITY not in self.active:
            return u
        gauge = self.gauge()
        left: FloatArray = u - gauge * (gauge * u).sum() / (gauge**2).sum()
        return left

    def renormalise(self) -> float:
        """Scale to mean |a| = 1 without changing any probability. Signs stay: the majority began as right."""
        if ABILITY not in self.active:
            return 1.0
        factor = float(np.abs(self.u[self.gauged, ABILITY]).mean())
        if not factor > 1e-12:
            return 1.0
        self.u[:, ABILITY] /= factor
        self.theta *= factor
        self.scales.tau *= factor
        for table in (self.scales.mean, self.scales.deviation, self.scales.mean_error):
            table[:, ABILITY] /= factor
        if self.spread is not None:
            self.spread = self.spread * factor**2
        if self.score_spread is not None:
            self.score_spread = self.score_spread * factor**2
        return factor

    def move(self, step: Step, before: float) -> float:
        """Take the step, or a part of it that ascends.

        Returns:
            The part of it that was taken; 0 where none ascends.
        """
        largest = float(np.abs(step.annotators[:, :SCALE]).max(initial=0))
        largest = max(largest, float(np.abs(step.means).max(initial=0)), float(np.abs(step.theta).max(initial=0)) / 5)
        part = min(1.0, 1.5 / max(largest, 1e-9))
        scale = step.annotators[:, SCALE]
        with np.errstate(divide="ignore"):
            shrink = np.where(scale < 0, 0.7 * self.u[:, SCALE] / -scale, np.inf)
        part = min(part, float(shrink.min(initial=np.inf)))
        means = np.zeros_like(self.scales.mean)
        for value_of, (k, q) in zip(step.means, self.means, strict=False):
            means[k, q] = value_of
        for _ in range(30):
            there = self.theta + part * step.theta, self.u + part * step.annotators, self.scales.mean + part * means
            if self.value(*there) >= before - 1e-9 * (1 + abs(before)):
                self.theta, self.u, self.scales.mean = there
                return part
            part /= 2
        return 0.0

    def look(self, flat: FloatArray) -> None:
        """Take the strengths' uncertainty into account from here on."""
        new = vote_spread(self.data, flat)
        # Where nearly all agree, little spread makes little curvature, and that much spread: half the way ends it.
        self.spread = new if self.spread is None or self.looks < 8 else np.sqrt(self.spread * new)
        if len(self.data.scores):
            self.score_spread = sheet_spread(self.data, flat)
        wide = self.u[self.data.votes.annotator, ABILITY] ** 2 * self.spread if len(self.spread) else np.zeros(1)
        most = float(np.quantile(wide, 0.99))
        points = 1 if most < 0.05 else 3 if most < 0.5 else 7
        self.looks += 1  # the first few are far off; after them only up, so that it cannot go back and forth
        self.points = points if self.looks < 8 else max(points, self.points)

    def damped(self, old: float, new: float) -> float:
        """The next scale: at most twice or half the old one, and late only half the way, which ends oscillations."""
        step = float(np.clip(np.log(new / old), -np.log(2), np.log(2)))
        return old * float(np.exp(step / 2 if self.looks > 20 else step))

    def creeping(self) -> FloatArray:
        """Logarithms of tau and of the deviations."""
        return np.log([self.scales.tau, *(self.scales.deviation[k, q] for k, q in self.means)])

    def lead(self, by: FloatArray) -> None:
        """Change them by so much, and with tau what is not known of the strengths."""
        self.scales.tau *= float(np.exp(by[0]))
        for (k, q), more in zip(self.means, by[1:], strict=True):
            self.scales.deviation[k, q] *= np.exp(more)
        if self.spread is not None:
            self.spread = self.spread * np.exp(2 * by[0])

    def learn_tau(self, flat: FloatArray) -> float:
        """The strengths' scale: MacKay's step of the EM algorithm's fixed point. Returns its relative change."""
        layout = self.data.layout
        met = layout.size > 1
        freedom = float(met.sum()) - len(np.unique(layout.part[met]))
        old = self.scales.tau
        own = diagonal(layout, flat)[met]
        less = old**2 / layout.size[met] if layout.dense else 0.0  # a part's mean is known from nothing
        known = freedom - float(np.maximum(own - less, 0.0).sum()) / old**2
        squares, freedom = float((self.theta[met] ** 2).sum()) + _FREEDOM, max(known, 0.0) + _FREEDOM
        # Of v^2/S^2 + freedom v = squares, the mode with the half-normal prior, in a form that loses no digits.
        new = np.sqrt(2 * squares / (freedom + np.sqrt(freedom**2 + 4 * squares / _LARGE**2)))
        self.scales.tau = self.damped(old, float(new))
        return abs(float(np.log(self.scales.tau / old)))

    def learn_deviations(self, variances: FloatArray, mean_errors: FloatArray) -> float:
        """How much annotators of a kind differ. Returns the largest relative change.

        Args:
            variances: [W, 5] of the annotators' parameters given their kind's mean.
            mean_errors: [q] standard errors of the means.
        """
        change = 0.0
        for (k, q), error in zip(self.means, mean_errors, strict=True):
            of = (self.kind == k) & (self.has[:, q] > 0)
            x, old = self.u[of, q], float(self.scales.deviation[k, q])
            left = 1 - np.clip(variances[of, q] / old**2, 0.0, 1.0)  # what the data took of the prior's variance
            known = max(float(left.sum()) - float((left**2).sum()) * (error / old) ** 2, 0.0)
            squares = float(((x - self.scales.mean[k, q]) ** 2).sum())
            new = np.sqrt((squares + _FREEDOM * _PRIOR_SD[q] ** 2) / (known + _FREEDOM))
            new = self.damped(old, float(new))
            self.scales.deviation[k, q] = new
            change = max(change, abs(float(np.log(new / old))))
        return change


def fit(data: Data, kind: IntArray) -> Fit:
    """Fit.

    Args:
        data: votes and scores.
        kind: [W] the kind of each annotator, as a number from 0.
    """
    state = Fitting(data, kind)
    inverse: FloatArray | None = None
    settled, steps, settling = False, 0, Settling()
    side = int(data.layout.size.max(initial=1)) if data.layout.dense else 1
    for steps in range(1, _OUTER + 1):
        at = state.derivatives()
        opening = steps <= 3  # the strengths first: at theta = 0 nothing can be said of abilities
        fresh = inverse is None or side <= 400 or steps % 4 == 0
        curvature = Curvature(
            data, at, state.precision(), state.scales.tau, () if opening else state.active,
            inverse=None if fresh else inverse,
        )  # fmt: skip
        inverse = curvature.inverse
        border = state.bordered(curvature)
        gradient = state.gradients(at, opening)
        step = border.step(gradient.theta, gradient.annotators, gradient.means)
        part = state.move(step, at.value + state.prior(state.theta, state.u, state.scales.mean))
        if opening:
            state.look(inverse)
            state.learn_tau(inverse)
            continue
        scale = state.renormalise()
        inverse = inverse * scale**2
        before = state.creeping()
        state.learn_tau(inverse)
        state.learn_deviations(*_variances(curvature, border, state))
        state.look(inverse)
        left = settling.heard(state.creeping(), state.creeping() - before)
        settled = left < _SETTLED and _size(step, state) < 1e-3 and part == 1.0
        if settled:
            break
        leap = settling.leap() if state.looks > 8 else None
        if leap is not None:
            state.lead(leap)
    return _polished(state, settled, steps, inverse)


def _size(step: Step, state: Fitting) -> float:
    """How far a step goes, in logits; of strengths relative to the largest."""
    theta = float(np.abs(step.theta).max(initial=0)) / (1 + float(np.abs(state.theta).max(initial=0)))
    return max(theta, float(np.abs(step.annotators).max(initial=0)), float(np.abs(step.means).max(initial=0)))


def _variances(curvature: Curvature, border: Bordered, state: Fitting) -> tuple[FloatArray, FloatArray]:
    """[W, 5] variances of the annotators' parameters given the means, and the means' standard errors."""
    made = np.zeros((state.data.annotators, PARAMETERS))
    errors = border.mean_errors()
    if state.data.n + made.size <= _SMALL:
        try:
            found = curvature.covariances().annotators
            return np.maximum(np.diagonal(found, axis1=1, axis2=2), 0.0), errors
        except np.linalg.LinAlgError:  # far from the optimum
            pass
    made[:, curvature.active] = np.diagonal(curvature.block_inverse, axis1=1, axis2=2)
    return made, errors


def _polished(state: Fitting, settled: bool, steps: int, inverse: FloatArray | None) -> Fit:
    """Newton to the end with the hyperparameters held, then the covariances."""
    small, norm = False, np.inf
    for _ in range(_POLISH):
        at = state.derivatives()
        curvature = Curvature(state.data, at, state.precision(), state.scales.tau, state.active, inverse=inverse)
        inverse = curvature.inverse
        gradient = state.gradients(at)
        norm = max(
            float(np.abs(gradient.theta).max(initial=0)),
            float(np.abs(state.along_gauge(gradient.annotators)).max(initial=0)),
            float(np.abs(gradient.means).max(initial=0)),
        )
        step = state.bordered(curvature).step(gradient.theta, gradient.annotators, gradient.means)
        small = _size(step, state) < _NEWTON
        if small:
            break
        steps += 1
        if not state.move(step, at.value + state.prior(state.theta, state.u, state.scales.mean)):
            break
        inverse = inverse * state.renormalise() ** 2
    sharp = True
    try:
        curvature = Curvature(
            state.data, at, state.precision(), state.scales.tau, state.active, safe=False, inverse=inverse
        )
        found, errors = state.bordered(curvature).covariances(curvature.covariances(), state.data.layout)
        for (k, q), error in zip(state.means, errors, strict=True):
            state.scales.mean_error[k, q] = error
    except np.linalg.LinAlgError:  # a saddle: two annotators who contradict each other throughout
        sharp = False
        found = Curvature(state.data, at, state.precision(), state.scales.tau, state.active).approximate()
    return Fit(
        state.theta, state.u, state.scales, found, state.active, state.has, state.kind, at.value, norm,
        sharp, settled and small and sharp, steps,
    )  # fmt: skip
