"""Consensus along a direction in the space of aspects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, isfinite

import numpy as np
from pydantic import Field, field_validator

from prefdata.operators.aggregate.base import FloatArray
from prefdata.operators.aggregate.combined import Combined
from prefdata.pipeline.registry import step


@step("aggregate.direction")
class Direction(Combined):
    """The weighted sum of a response's scores under several aspects: how far it lies in one direction.

    A weight may be negative (shorter is better: `{helpfulness: 0.97, verbosity: -0.26}`), which also says which way a
    measure counts. With `unit` the weights are scaled to length 1, so that scores along several directions can be
    compared. `caps` cuts an aspect off where more of it is worth nothing, or is only gained by gaming whoever scores
    it. The aspects must share a scale, or be brought to one by `normalise`. With weights that sum to 1 it is a weighted
    mean over aspects.

    Directions: Wang et al. (2024), Directional Preference Alignment. Caps: after Moskovitz et al. (2023), who
    constrain proxies at the points where they stop being useful; capping before aggregation is ours.
    """

    along: dict[str, float] = Field(..., min_length=1, description="Weight by aspect; negative: less is better.")
    unit: bool = Field(False, description="Scale the weights to length 1.")
    caps: dict[str, float] = Field(default_factory=dict, description="By aspect: a higher score counts as this one.")

    @field_validator("along")
    @classmethod
    def _a_direction(cls, along: dict[str, float]) -> dict[str, float]:
        for aspect, weight in along.items():
            if not isfinite(weight):
                raise ValueError(f"the weight of {aspect!r} is {weight}; it must be a finite number")
        if not any(along.values()):
            raise ValueError("all weights are 0, which is no direction")
        return along

    @field_validator("caps")
    @classmethod
    def _caps(cls, caps: dict[str, float]) -> dict[str, float]:
        for aspect, cap in caps.items():
            if not isfinite(cap):
                raise ValueError(
                    f"the cap of {aspect!r} is {cap}; it must be a finite number (leave out what has none)"
                )
        return caps

    def turned(self) -> Mapping[str, int]:
        """The weights say which way measures count."""
        return {**dict.fromkeys(self.along, 1), **self.direction}

    def parts(self) -> Sequence[str]:
        """See `Combined.parts`."""
        return list(self.along)

    def combine(self, scores: FloatArray) -> tuple[FloatArray, None]:
        """See `Combined.combine`."""
        weights = np.array(list(self.along.values()))
        if self.unit:
            weights = weights / hypot(*weights)
        total = np.zeros(len(scores))
        for place, aspect in enumerate(self.along):  # column by column: the same sum whatever stands beside it
            total += weights[place] * np.minimum(scores[:, place], self.caps.get(aspect, np.inf))
        return total, None
