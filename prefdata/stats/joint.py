r"""One model over people, judges and reward models together: what is better, and what each annotator is like.

Contestants (responses) have strengths theta_i ~ N(0, tau^2), of which only differences within a group (a prompt) mean
anything. Every annotator w, of whatever kind, has an ability a_w (below 0: an adversary), a position bias b_w, a length
bias c_w and a tie threshold t_w; with d = a_w (theta_i - theta_j) + b_w position + c_w length,

    P(i better) = sigma(d - t_w),    P(j better) = sigma(-d - t_w),    P(tie) = the rest (Rao and Kupper, 1967).

Scores are q_w value = a_w theta_i + c_w length_i + an intercept of each (group, annotator) + N(0, s0^2); s0 is such
that two scores compared would follow the comparisons' law, so abilities of judges that score, of reward models and of
people who compare are on one scale, on which mean |a| is 1.

a_w, b_w, c_w and log t_w are normal within the annotator's kind, with means and deviations learnt from the data
(empirical Bayes), so an annotator with twenty labels is mostly its kind, and one kind of equal annotators without bias
is Bradley-Terry with a normal prior. The fit maximises the likelihood of annotators and hyperparameters in expectation
over the strengths' Gaussian posterior; intervals are from all second derivatives there, so that a strength's interval
knows how well its annotators are known.

Related models: Crowd-BT (Chen et al., 2013) has a reliability for each annotator; Bugakova et al. (2019) a bias; GLAD
(Whitehill et al., 2009) the discrimination. None has all of these, nor scores.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.estimate import Estimate, normal_quantile
from prefdata.stats.joint_data import ABILITY, LENGTH, POSITION, THRESHOLD, Data, FloatArray, IntArray, Layout
from prefdata.stats.joint_fit import Fit, fit
from prefdata.stats.joint_likelihood import nodes
from prefdata.stats.joint_prepare import ScoreColumns, prepare
from prefdata.stats.joint_strengths import diagonal, pair_spread
from prefdata.stats.logistic import sigmoid

_PLAIN = "annotator"


@dataclass(frozen=True)
class Kind:
    """What annotators of one kind are like: normal, with these means and standard deviations.

    Attributes:
        ability: mean and standard deviation.
        position: of the position bias, in logits.
        length: of the length bias, in logits for a length of 1.
        log_threshold: of log t; None where the data have no ties.
        count: how many annotators of this kind there are.
    """

    ability: tuple[float, float]
    position: tuple[float, float]
    length: tuple[float, float]
    log_threshold: tuple[float, float] | None
    count: int


@dataclass(frozen=True)
class JointModel:
    """What the joint model finds. NaN stands where the data say nothing.

    Attributes:
        values: [n] strengths in logits of an annotator of ability 1, sum zero within each connected part of the
            comparisons; NaN for who was never compared with or scored beside another.
        low: [n] lower ends of their intervals.
        high: [n] upper ends.
        abilities: [W]; mean |a| is 1. The ability of a single annotator is 1 by definition and has no interval.
        ability_low: [W].
        ability_high: [W].
        positions: [W] logits by which being shown first helps; NaN without comparisons whose position is known.
        position_low: [W].
        position_high: [W].
        lengths: [W] logits for a length of 1; NaN without lengths.
        length_low: [W].
        length_high: [W].
        thresholds: [W] t >= 0 in logits; 0 where the data have no tie at all, NaN for who only scores.
        threshold_low: [W].
        threshold_high: [W].
        annotators: [W] names, as given; numbers ascending, other names in the order of first occurrence.
        kind_of: [W] the kind of each.
        kinds: what each kind is like.
        scale: standard deviation of strengths, tau.
        components: [n] which connected part each contestant is in: strengths of different parts are not comparable.
        log_likelihood: of the data, in expectation over the strengths.
        gradient: largest entry of the gradient of the log-posterior at the end.
        converged: whether the gradient is zero up to rounding, the hyperparameters had settled, and this is a maximum;
            where it is none (two annotators who contradict each other throughout) there are no intervals either.
        iterations: Newton steps.
        exact: whether intervals are from the inverse of the whole matrix of second derivatives; else, beyond some
            thousands of both contestants and annotators' parameters, from a first-order approximation of it.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    abilities: FloatArray
    ability_low: FloatArray
    ability_high: FloatArray
    positions: FloatArray
    position_low: FloatArray
    position_high: FloatArray
    lengths: FloatArray
    length_low: FloatArray
    length_high: FloatArray
    thresholds: FloatArray
    threshold_low: FloatArray
    threshold_high: FloatArray
    annotators: tuple[Hashable, ...]
    kind_of: tuple[Hashable, ...]
    kinds: dict[Hashable, Kind]
    scale: float
    components: IntArray
    log_likelihood: float
    gradient: float
    converged: bool
    iterations: int
    exact: bool
    confidence: float
    _fit: Fit = field(repr=False)
    _layout: Layout = field(repr=False)
    _group: IntArray = field(repr=False)

    def difference(self, i: int, j: int) -> Estimate:
        """values[i] - values[j] with its interval; nothing where they are of different connected parts.

        Args:
            i: a contestant.
            j: another.
        """
        if self.components[i] != self.components[j] or i == j:
            return Estimate(0.0 if i == j else None, None, None, 0)
        if not self._fit.sharp:
            return Estimate(float(self._fit.theta[i] - self._fit.theta[j]), None, None, int(self._layout.size[i]))
        value = float(self._fit.theta[i] - self._fit.theta[j])
        half = normal_quantile(self.confidence) * float(np.sqrt(self._spread(np.array([i]), np.array([j]))[0]))
        return Estimate(value, value - half, value + half, int(self._layout.size[i]))

    def probability(self, i: ArrayLike, j: ArrayLike) -> FloatArray:
        """P(i is said to be better than j) by an annotator of ability 1 without bias who calls no ties.

        In expectation over what is not known of their strengths. 0.5 for two of different connected parts.

        Args:
            i: [...] contestants.
            j: [...] others.
        """
        first, second = np.broadcast_arrays(*self._pair(i, j))
        mean = self._fit.theta[first] - self._fit.theta[second]
        points, shares = nodes(15)
        d = mean[..., None] + np.sqrt(self._spread(first, second))[..., None] * points
        made: FloatArray = sigmoid(d) @ shares
        return made

    def certainty(self, i: ArrayLike, j: ArrayLike) -> FloatArray:
        """The posterior probability that theta_i > theta_j: how sure the order is, however small the difference.

        Args:
            i: [...] contestants.
            j: [...] others.
        """
        from scipy.special import ndtr

        first, second = np.broadcast_arrays(*self._pair(i, j))
        mean, spread = self._fit.theta[first] - self._fit.theta[second], self._spread(first, second)
        with np.errstate(invalid="ignore", divide="ignore"):
            made: FloatArray = np.where(first == second, 0.5, ndtr(mean / np.sqrt(spread)))
        return made

    def predict(
        self,
        first: ArrayLike,
        second: ArrayLike,
        annotator: Any = None,
        position: ArrayLike = 0.0,
        length: ArrayLike = 0.0,
        kind: Hashable | None = None,
    ) -> FloatArray:
        """What an annotator will say: the probabilities of "first", "a tie" and "second".

        In expectation over what is not known of strengths and annotators, so that they are calibrated with few labels.

        Args:
            first: [...] contestants.
            second: [...] others.
            annotator: one of `annotators`, or a list of them, one for each comparison (or a single one for all); None
                for one not seen so far.
            position: [...] +1 where `first` is shown first, -1 second, 0 unknown.
            length: [...] as given to the fit.
            kind: of the annotator not seen so far; None: of a kind drawn as the annotators are.

        Returns:
            [..., 3] win, tie, lose; they add up to 1.

        Raises:
            ValueError: an annotator or a kind that the model does not know, contestants of two groups, or a model that
                has seen no annotator at all.
        """
        i, j = self._pair(first, second)
        i, j, pos, size = np.broadcast_arrays(
            i, j, np.asarray(position, dtype=np.float64), np.asarray(length, dtype=np.float64)
        )
        if (self._group[i] != self._group[j]).any():
            raise ValueError("contestants of two groups (two prompts) are never compared")
        delta, spread = self._fit.theta[i] - self._fit.theta[j], self._spread(i, j)
        at = np.stack([delta, pos, size], axis=-1)
        if annotator is None:
            return self._by_kind(at, spread, kind)
        who = np.broadcast_to(self._numbers(annotator), delta.shape)
        u, wide = self._fit.parameters[who], self._fit.covariances.annotators[who]
        used = [ABILITY, POSITION, LENGTH]
        own = wide[..., used, :][..., used]
        mean = (at * u[..., used]).sum(axis=-1)
        variance = np.einsum("...p,...pq,...q->...", at, own, at) + (u[..., ABILITY] ** 2 + own[..., 0, 0]) * spread
        return self._outcomes(mean, variance, u[..., THRESHOLD], wide[..., THRESHOLD, THRESHOLD])

    def _by_kind(self, at: FloatArray, spread: FloatArray, kind: Hashable | None) -> FloatArray:
        if kind is not None and kind not in self.kinds:
            raise ValueError(f"the model knows no annotators of kind {kind!r}: there are {list(self.kinds)}")
        if not self.kinds:
            raise ValueError("the model has seen no annotator: there is nothing to predict from")
        asked = {kind: self.kinds[kind]} if kind is not None else self.kinds
        total = np.zeros((*spread.shape, 3))
        for of in asked.values():
            mean = np.array([of.ability[0], of.position[0], of.length[0]])
            wide = np.array([of.ability[1], of.position[1], of.length[1]]) ** 2
            variance = (at**2 * wide).sum(axis=-1) + (mean[0] ** 2 + wide[0]) * spread
            eta, deviation = of.log_threshold or (0.0, 0.0)
            outcomes = self._outcomes(
                (at * mean).sum(axis=-1), variance, np.full(spread.shape, eta), np.full(spread.shape, deviation**2)
            )
            total += outcomes * of.count / sum(each.count for each in asked.values())
        return total

    def _outcomes(
        self, mean: FloatArray, variance: FloatArray, eta: FloatArray, eta_variance: FloatArray
    ) -> FloatArray:
        ties = THRESHOLD in self._fit.active
        points, shares = nodes(15)
        d = mean[..., None] + np.sqrt(np.maximum(variance, 0.0))[..., None] * points
        win, lose = np.zeros(mean.shape), np.zeros(mean.shape)
        for point, share in zip(*nodes(5 if ties else 1), strict=True):
            t = np.exp(eta + point * np.sqrt(eta_variance))[..., None] if ties else 0.0
            win += share * (sigmoid(d - t) @ shares)
            lose += share * (sigmoid(-d - t) @ shares)
        return np.stack([win, np.maximum(1 - win - lose, 0.0) if ties else np.zeros(mean.shape), lose], axis=-1)

    def _pair(self, i: ArrayLike, j: ArrayLike) -> tuple[IntArray, IntArray]:
        first, second = np.asarray(i), np.asarray(j)
        for each in (first, second):
            if each.dtype.kind not in "iu" or (each.size and (each.min() < 0 or each.max() >= len(self.values))):
                raise ValueError(f"contestants are integers in [0, {len(self.values)})")
        return first, second

    def _spread(self, i: IntArray, j: IntArray) -> FloatArray:
        return pair_spread(self._layout, self._fit.covariances.strengths, i, j)

    def _numbers(self, annotator: Any) -> IntArray:
        number = {name: index for index, name in enumerate(self.annotators)}
        several = isinstance(annotator, (list, np.ndarray)) and np.ndim(annotator) > 0
        names = [x.item() if isinstance(x, np.generic) else x for x in (annotator if several else [annotator])]
        unknown = [name for name in names if name not in number]
        if unknown:
            raise ValueError(f"the model knows no annotator {unknown[0]!r}: give None, and a kind, for a new one")
        made = np.array([number[name] for name in names], dtype=np.int64)
        return made if several else made[0]


def joint_model(
    winners: ArrayLike,
    losers: ArrayLike,
    annotators: Sequence[Any] | NDArray[Any],
    *,
    p: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    position: ArrayLike | None = None,
    length: ArrayLike | None = None,
    kinds: Mapping[Any, Hashable] | None = None,
    scores: ScoreColumns | None = None,
    score_length: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n: int | None = None,
    confidence: float = 0.95,
) -> JointModel:
    """Fit strengths and annotators to comparisons and scores of all of them together.

    Time and memory are linear in the rows. Connected parts of up to 3000 contestants are solved densely, larger ones
    by conjugate gradients.

    Args:
        winners: [m] integers in [0, n).
        losers: [m] integers in [0, n).
        annotators: [m] who said so: any names.
        p: [m] P(winner is better) in [0, 1]; 1 each unless given. Exactly 0.5 is a tie; another p between 0 and 1 is a
            share p of a win and 1 - p of a loss.
        weights: [m] not negative: how often the same was said. Votes that depend on one another (a judge asked twice
            with the same words) should weigh less than one each.
        position: [m] +1 where the winner was shown first, -1 where second, 0 unknown. Positions should be drawn at
            random: a judge who always sees the better one first has no bias that could be told from ability.
        length: [m] how much longer the winner is, scaled: see `length_difference`.
        kinds: annotator -> kind (`human`, `judge`, `reward`), annotators of one kind lend each other strength; who is
            not named is of kind `annotator`. One kind unless given.
        scores: contestants [r], annotators [r] and values [r], finite, higher is better, on any scale of the
            annotator's own. Only differences within a group count.
        score_length: [r] lengths of what is scored, in the unit of `length`.
        groups: [n] the group (prompt) of each contestant; one group unless given.
        n: how many contestants; one more than the highest number unless given.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: lists that do not fit together, numbers out of range, missing or infinite, a comparison across
            groups or of a contestant with itself, or no contestant at all.
    """
    z = normal_quantile(confidence)
    data = prepare(
        winners, losers, annotators, p=p, weights=weights, position=position, length=length, scores=scores,
        score_length=score_length, groups=groups, n=n,
    )  # fmt: skip
    kind_of = tuple(_PLAIN if kinds is None else kinds.get(name, _PLAIN) for name in data.names)
    names = list(dict.fromkeys(kind_of))
    number = {name: index for index, name in enumerate(names)}
    found = fit(data, np.array([number[kind] for kind in kind_of], dtype=np.int64))
    return _result(data, found, kind_of, names, z, confidence)


def length_difference(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """How much longer the first is, from -1 to 1: tanh((first - second)/sd) (Dubois et al., 2024).

    The deviation is taken about the mean, but the mean is not subtracted: equal lengths are 0.

    Args:
        first: [m] lengths, in characters or tokens.
        second: [m].

    Returns:
        [m]; all 0 where all differences are equal to 0.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("a length is missing or infinite")
    deviation = float(difference.std(ddof=1)) if difference.size > 1 else 0.0
    if not deviation > 0:  # all the same: their own size is the only scale there is
        deviation = float(np.abs(difference).max(initial=0.0)) or 1.0
    made: FloatArray = np.tanh(difference / deviation)
    return made


def _result(
    data: Data, found: Fit, kind_of: tuple[Hashable, ...], names: list[Hashable], z: float, confidence: float
) -> JointModel:
    layout, scales, cov = data.layout, found.scales, found.covariances
    variance = diagonal(layout, cov.strengths)
    if layout.dense:  # the part's mean is independent of the differences and known only from the prior
        variance = variance - scales.tau**2 / layout.size
    alone = layout.size == 1
    mean = np.bincount(layout.part, found.theta) / np.bincount(layout.part)
    values = np.where(alone, np.nan, found.theta - mean[layout.part])
    z = z if found.sharp else float("nan")
    half = z * np.sqrt(np.maximum(variance, 0.0))
    columns: dict[str, FloatArray] = {"values": values, "low": values - half, "high": values + half}
    for name, q in (("ability", ABILITY), ("position", POSITION), ("length", LENGTH), ("threshold", THRESHOLD)):
        value, low, high = _parameter(found, q, z)
        if q == THRESHOLD and THRESHOLD not in found.active:
            value = np.where(np.bincount(data.votes.annotator, minlength=data.annotators) > 0, 0.0, np.nan)
        plural = "abilities" if q == ABILITY else name + "s"
        columns |= {plural: value, name + "_low": low, name + "_high": high}
    kinds: dict[Hashable, Kind] = {}
    for k, kind in enumerate(names):
        told = [
            (float(scales.mean[k, q]), float(scales.deviation[k, q])) if q in found.active else (0.0, 0.0)
            for q in (ABILITY, POSITION, LENGTH, THRESHOLD)
        ]
        ability = told[0] if ABILITY in found.active else (1.0, 0.0)
        threshold = told[3] if THRESHOLD in found.active else None
        kinds[kind] = Kind(ability, told[1], told[2], threshold, kind_of.count(kind))
    return JointModel(
        **columns, annotators=data.names, kind_of=kind_of, kinds=kinds, scale=scales.tau, components=layout.part,
        log_likelihood=found.log_likelihood, gradient=found.gradient, converged=found.converged,
        iterations=found.iterations, exact=cov.exact, confidence=confidence, _fit=found, _layout=layout,
        _group=data.group,
    )  # fmt: skip


def _parameter(found: Fit, q: int, z: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Value and interval of one parameter of all annotators; NaN where there are no data on it."""
    has = found.has[:, q] > 0
    value = np.where(has, found.parameters[:, q], np.nan)
    if q not in found.active:  # an ability alone, or no ties: a convention, without an interval
        nothing = np.full(len(value), np.nan)
        return (np.where(np.isnan(value), np.nan, 1.0) if q == ABILITY else nothing), nothing, nothing
    half = z * np.sqrt(np.maximum(found.covariances.annotators[:, q, q], 0.0))
    low, high = value - half, value + half
    return (np.exp(value), np.exp(low), np.exp(high)) if q == THRESHOLD else (value, low, high)
