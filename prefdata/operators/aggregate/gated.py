"""Consensus behind a gate: what fails a bottom line is worth nothing, however good it is otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefdata.errors import DataError
from prefdata.operators.aggregate.base import BoolArray, FloatArray
from prefdata.operators.aggregate.combined import Combined
from prefdata.pipeline.registry import step


class Level(BaseModel):
    """One level of a hierarchy: it counts only where all levels above it are passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aspect: str = Field(..., description="The aspect that is looked at.")
    least: float = Field(..., ge=0, description="The lowest score that passes.")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="What the score counts.")


@step("aggregate.gated")
class Gated(Combined):
    """One score of several aspects, some of which are bottom lines.

    Either `constraints` and `objectives`: the score is the gate B times the utility U, where B is the geometric mean
    of the constraints' scores (each at least `floor`) and U the weighted mean of the objectives'. A response whose
    score under a constraint lies below that constraint's threshold gets 0, and so never outranks one that passes all.
    Where a constraint has no threshold (null) it only draws the score down; note that of three constraints one at 0
    leaves floor^(1/3).

    Or `levels`, best first: the sum of weight times score over the levels, each counted only where all levels before
    it are passed. What is to count only among responses that are right (length, tool calls) is the last level.

    Constraints lie from 0 to 1; no score may be negative (`normalise: minmax` brings them there). `labels` says of
    each response `passed`, or which aspects it failed.

    Product of gate and utility: as in gated aggregation for generative search; floor and weights are reconstructed.
    """

    constraints: dict[str, float | None] = Field(
        default_factory=dict, description="By aspect, the lowest score that passes; null: no threshold."
    )
    objectives: dict[str, float] = Field(default_factory=dict, description="Weight by aspect, of the utility.")
    floor: float = Field(1e-3, gt=0, le=1, description="What a constraint's score counts at least.")
    levels: tuple[Level, ...] = Field((), description="A hierarchy instead: {aspect, least, weight}, best first.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.levels and (self.constraints or self.objectives):
            raise ValueError("give levels, or constraints and objectives, not both")
        if not self.levels and not (self.constraints and self.objectives):
            raise ValueError("give constraints and objectives (aspects), or levels")
        both = sorted(self.constraints.keys() & self.objectives.keys())
        if both:
            raise ValueError(f"{both[0]!r} is a constraint and an objective; it can be one of them")
        names = [level.aspect for level in self.levels]
        if len(set(names)) < len(names):
            raise ValueError("an aspect stands in two levels")
        if any(weight < 0 for weight in self.objectives.values()) or (
            self.objectives and not 0 < sum(self.objectives.values()) < float("inf")
        ):
            raise ValueError("the weights of the objectives must be finite, not negative, and not all 0")
        return self

    def parts(self) -> Sequence[str]:
        """See `Combined.parts`."""
        return [level.aspect for level in self.levels] or [*self.constraints, *self.objectives]

    def combine(self, scores: FloatArray) -> tuple[FloatArray, Sequence[str | None]]:
        """See `Combined.combine`."""
        self._check(scores)
        return self._by_level(scores) if self.levels else self._behind_gate(scores)

    def _behind_gate(self, scores: FloatArray) -> tuple[FloatArray, Sequence[str | None]]:
        count = len(self.constraints)
        gate, utility = np.zeros(len(scores)), np.zeros(len(scores))
        for place in range(count):
            gate += np.log(np.maximum(scores[:, place], self.floor))
        for place, weight in enumerate(self.objectives.values(), start=count):
            utility += weight * scores[:, place]
        least = np.array([-np.inf if one is None else one for one in self.constraints.values()])
        failed = scores[:, :count] < least
        value = np.exp(gate / count) * utility / sum(self.objectives.values())
        return np.where(failed.any(axis=1), 0.0, value), self._reasons(failed)

    def _by_level(self, scores: FloatArray) -> tuple[FloatArray, Sequence[str | None]]:
        failed = scores < np.array([level.least for level in self.levels])
        reached, value = np.ones(len(scores), dtype=bool), np.zeros(len(scores))
        for place, level in enumerate(self.levels):
            value += np.where(reached, level.weight * scores[:, place], 0.0)
            reached &= ~failed[:, place]
        return value, self._reasons(failed)

    def _reasons(self, failed: BoolArray) -> list[str | None]:
        names = list(self.parts())
        return [
            "failed: " + ", ".join(names[place] for place in np.flatnonzero(row)) if row.any() else "passed"
            for row in failed
        ]

    def _check(self, scores: FloatArray) -> None:
        for place, aspect in enumerate(self.parts()):
            column = scores[:, place]
            most = 1.0 if aspect in self.constraints else np.inf
            wrong = (column < 0) | (column > most)
            if wrong.any():
                scale = "from 0 to 1" if aspect in self.constraints else "0 or more: a gate multiplies it"
                raise DataError(
                    f"{self.kind}: aspect {aspect!r} has a score of {column[wrong][0]:g}; it must be {scale}. "
                    "normalise: minmax brings scores from 0 to 1"
                )
