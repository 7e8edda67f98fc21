"""Consensus by the model of Bradley and Terry, with annotators of different worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from prefdata.operators.aggregate.abilities import Fit, abilities_of
from prefdata.operators.aggregate.base import FloatArray, IntArray
from prefdata.operators.aggregate.rated import Certainty, RatedModel, Stated, Strengths
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats import DEFAULT_PRIOR

_UNITS = {
    "crowd": "probability of saying what the strengths say",
    "noisy": "probability of looking at all",
    "discrimination": "slope; 1 as in Bradley-Terry, below 0 an adversary",
}


@step("aggregate.annotator_bradley_terry")
class AnnotatorBradleyTerryConsensus(RatedModel):
    """Strengths of the responses, and what each annotator is worth, from every order, over all prompts at once.

    As `aggregate.bradley_terry` reads orders; what one annotator says of one pair several times, in the other order
    too, is one vote. Three models of an annotator:

    - crowd (Chen et al., 2013): says what the strengths say with some probability, and else the opposite.
    - noisy (Bugakova et al., 2019): looks, or follows a habit of preferring what is shown first.
    - discrimination: is more or less sensitive to a difference, and drawn to what is shown first.

    The strengths are log-odds with sum zero for each prompt; the confidence is the mean over pairs of 2 P(the order is
    this one) - 1, and null with more than some thousand responses, beyond which it is not computed. Abilities (and
    positions, with intervals) are written as by `aggregate.dawid_skene`. With some twenty votes of each annotator no
    such model orders better than Bradley-Terry alone; it pays with a hundred, or with adversaries.
    """

    model: Literal["crowd", "noisy", "discrimination"] = Field("crowd", description="What annotators are like.")
    prior: float = Field(
        DEFAULT_PRIOR,
        gt=0,
        description="Virtual comparisons of each response with an average one, half won and half lost.",
    )

    @property
    def annotator(self) -> str:
        """Each model speaks under its own name."""
        return f"{super().annotator}-{self.model}"

    def strengths(self, stated: Stated, kinds: Mapping[str, str], aspect: str, context: Context) -> Strengths:
        """See `RatedModel.strengths`."""
        from prefdata.stats.annotator_bradley_terry import annotator_bradley_terry

        votes = stated.votes
        position = None if self.model == "crowd" else votes["position"].to_numpy()
        found = annotator_bradley_terry(
            votes["first"].to_numpy(),
            votes["second"].to_numpy(),
            votes["annotator"].to_list(),
            p=votes["p"].to_numpy(),
            weights=votes["weight"].to_numpy(),
            position=position,
            n=stated.nodes.height,
            model=self.model,
            prior=self.prior,
        )
        if found.covariance is None:
            context.log(
                f"aspect {aspect!r} has {stated.nodes.height} responses: too many for a confidence in each order"
            )
        counts = dict(votes["annotator"].value_counts().iter_rows())
        names = [str(name) for name in found.annotators]
        known = abilities_of(found, names, kinds, counts, lambda at: _position(found, at))
        more: dict[str, Any] = {
            "model": found.model,
            "log_likelihood": found.log_likelihood,
            "iterations": found.iterations,
            "gradient": found.gradient,
            "position": found.position,
        }
        fit = Fit(aspect, _UNITS[self.model], votes.height, found.converged, known, more)
        return Strengths(found.values, _certainty(found.values, found.covariance), fit)


def _position(found: Any, at: int) -> Mapping[str, Any]:
    names = {"position": "positions", "position_low": "position_low", "position_high": "position_high"}
    return {key: getattr(found, name)[at] for key, name in names.items()}


def _certainty(values: FloatArray, covariance: FloatArray | None) -> Certainty | None:
    if covariance is None:
        return None

    def certainty(first: IntArray, second: IntArray) -> FloatArray:
        from scipy.special import erf

        spread = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
        z = np.abs(values[first] - values[second]) / np.sqrt(np.maximum(spread, 1e-300))
        sure: FloatArray = erf(z / np.sqrt(2))
        return sure

    return certainty
