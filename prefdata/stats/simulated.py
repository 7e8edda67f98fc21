"""Simulated annotators: what they are like, and the law that each of their answers follows. See `simulate`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdata.stats.joint_likelihood import SCORE_NOISE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NOISE, _GUESS, _GUESSED, _COPY, _WRONG, _SHOWN, _NOISE_TOO = range(7)
_NON_NEGATIVE = ("threshold", "laziness")
_PROBABILITIES = ("guessing", "copying")


@dataclass(frozen=True)
class Annotators:
    """W simulated annotators. A number stands for all of them.

    Attributes:
        ability: [W] 1 is average, 0 hears only noise, below 0 an adversary.
        position: [W] logits by which being shown first helps.
        length: [W] logits for a length of 1.
        threshold: [W] t >= 0; 0 never ties.
        guessing: [W] share of answers given without looking, evenly among what may be answered.
        copying: [W] probability of repeating what `source` said to the same question, where that is known already.
        source: [W] whom each copies; -1 nobody.
        laziness: [W] by e^-this the ability shrinks with each answer.
        gain: [W] of scores.
        centre: [W] of scores.
    """

    ability: FloatArray
    position: FloatArray
    length: FloatArray
    threshold: FloatArray
    guessing: FloatArray
    copying: FloatArray
    source: IntArray
    laziness: FloatArray
    gain: FloatArray
    centre: FloatArray

    def __len__(self) -> int:
        return len(self.ability)

    @classmethod
    def of(cls, count: int, **parameters: ArrayLike) -> Annotators:
        """That many annotators.

        Args:
            count: W, at least 1.
            parameters: any of the attributes, each a number or [W]. Unless given the ability and the gain are 1, the
                source is nobody and all else is 0.

        Raises:
            ValueError: an attribute that there is not, a wrong length, or a number out of range.
        """
        default: dict[str, ArrayLike] = {"ability": 1.0, "gain": 1.0, "source": -1}
        unknown = sorted(set(parameters) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"annotators have no {unknown[0]!r}: there are {[each.name for each in fields(cls)]}")
        if count < 1:
            raise ValueError("at least one annotator is needed")
        made: dict[str, Any] = {}
        for each in fields(cls):
            kind = np.int64 if each.name == "source" else np.float64
            column = np.asarray(parameters.get(each.name, default.get(each.name, 0.0)), dtype=kind)
            if column.shape not in ((), (count,)):
                raise ValueError(f"{each.name} must be a number or have {count} entries; its shape is {column.shape}")
            if not np.isfinite(column).all():
                raise ValueError(f"{each.name} must be finite")
            made[each.name] = np.broadcast_to(column, (count,)).copy()
        for name in _NON_NEGATIVE:
            if (made[name] < 0).any():
                raise ValueError(f"{name} must not be negative")
        for name in _PROBABILITIES:
            if ((made[name] < 0) | (made[name] > 1)).any():
                raise ValueError(f"{name} must lie in [0, 1]: it is a probability")
        if ((made["source"] < -1) | (made["source"] >= count)).any():
            raise ValueError(f"source must be the number of an annotator, below {count}, or -1 for nobody")
        return cls(**made)

    @classmethod
    def drawn(
        cls,
        count: int,
        *,
        seed: int = 0,
        ability: tuple[float, float] = (1.0, 0.3),
        position: tuple[float, float] = (0.0, 0.0),
        length: tuple[float, float] = (0.0, 0.0),
        log_threshold: tuple[float, float] | None = None,
        adversaries: float = 0.0,
        **parameters: ArrayLike,
    ) -> Annotators:
        """Annotators drawn from normal distributions, given by mean and standard deviation.

        Args:
            count: W.
            seed: of the draw.
            ability: of the ability.
            position: of the position bias.
            length: of the length bias.
            log_threshold: of log t; None: no ties.
            adversaries: the share (rounded) of annotators, drawn, whose ability has its sign turned.
            parameters: other attributes, as in `of`.
        """
        draw = np.random.default_rng(seed)
        told = {name: draw.normal(*each, count) for name, each in
                (("ability", ability), ("position", position), ("length", length))}  # fmt: skip
        logs = draw.normal(*(log_threshold or (0.0, 0.0)), count)
        told["threshold"] = np.zeros(count) if log_threshold is None else np.exp(logs)
        told["ability"][draw.permutation(count)[: round(adversaries * count)]] *= -1
        return cls.of(count, **{**told, **parameters})


def compared(
    annotators: Annotators,
    w: IntArray,
    difference: FloatArray,
    position: FloatArray,
    length: FloatArray,
    question: IntArray,
    given: IntArray,
    seed: int,
) -> FloatArray:
    """[m] 1, 0.5 or 0."""
    u = _uniform(seed, w, question, _NOISE)
    x = _ability(annotators, w, given) * difference + annotators.position[w] * position
    x = x + annotators.length[w] * length + np.log(u) - np.log1p(-u)
    t = annotators.threshold[w]
    said = np.where(x > t, 1.0, np.where(x < -t, 0.0, 0.5))
    guess = _uniform(seed, w, question, _GUESSED)
    blind = np.where(t > 0, np.floor(guess * 3) / 2, np.floor(guess * 2))
    made: FloatArray = np.where(_uniform(seed, w, question, _GUESS) < annotators.guessing[w], blind, said)
    return made


def labelled(
    annotators: Annotators,
    w: IntArray,
    truth: IntArray,
    classes: int,
    clarity: FloatArray,
    question: IntArray,
    given: IntArray,
    seed: int,
) -> IntArray:
    """[m] labels in [0, classes)."""
    right = 1 / (1 + (classes - 1) * np.exp(-_ability(annotators, w, given) * clarity))
    wrong = (truth + 1 + np.floor(_uniform(seed, w, question, _WRONG) * (classes - 1)).astype(np.int64)) % classes
    said = np.where(_uniform(seed, w, question, _NOISE) < right, truth, wrong)
    blind = np.floor(_uniform(seed, w, question, _GUESSED) * classes).astype(np.int64)
    return np.where(_uniform(seed, w, question, _GUESS) < annotators.guessing[w], blind, said).astype(np.int64)


def scored(
    annotators: Annotators,
    w: IntArray,
    strength: FloatArray,
    length: FloatArray,
    question: IntArray,
    given: IntArray,
    seed: int,
) -> FloatArray:
    """[m] scores."""
    u, v = _uniform(seed, w, question, _NOISE), _uniform(seed, w, question, _NOISE_TOO)
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)  # Box and Muller, 1958
    known = np.where(_uniform(seed, w, question, _GUESS) < annotators.guessing[w], 0.0, 1.0)
    heard = known * (_ability(annotators, w, given) * strength + annotators.length[w] * length)
    result: FloatArray = annotators.centre[w] + annotators.gain[w] * (heard + SCORE_NOISE * normal)
    return result


def _ability(annotators: Annotators, w: IntArray, given: IntArray) -> FloatArray:
    result: FloatArray = annotators.ability[w] * np.exp(-annotators.laziness[w] * given)
    return result


def copies(annotators: Annotators, w: IntArray, question: IntArray, seed: int) -> NDArray[np.bool_]:
    """[m] whether the annotator would copy its source, if that has answered."""
    told: NDArray[np.bool_] = _uniform(seed, w, question, _COPY) < annotators.copying[w]
    return told & (annotators.source[w] >= 0)


def shown_first(w: IntArray, question: IntArray, seed: int) -> FloatArray:
    """[m] +1 or -1, by a coin."""
    made: FloatArray = np.where(_uniform(seed, w, question, _SHOWN) < 0.5, 1.0, -1.0)
    return made


def _uniform(seed: int, w: IntArray, question: IntArray, purpose: int) -> FloatArray:
    """[m] in (0, 1), by SplitMix64 (Steele, Lea and Flood, 2014) over the four numbers."""
    state = np.full(len(w), seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    for part in (w, question, np.full(len(w), purpose)):
        state = _mixed(state ^ part.astype(np.uint64))
    made: FloatArray = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return made


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
