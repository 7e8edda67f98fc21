"""Consensus by one model over people, judges and reward models together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.abilities import Fit, abilities_of
from prefdata.operators.aggregate.base import FloatArray, IntArray
from prefdata.operators.aggregate.rated import RatedModel, Stated, Strengths
from prefdata.operators.evidence import EVIDENCE
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row


@step("aggregate.joint")
class Joint(RatedModel):
    """Strengths of the responses from everything that anybody says, and what each annotator is like.

    Comparisons, rankings and choices are read as votes, scores as scores on a scale of the annotator's own; so people
    who compare, judges that score and reward models have a say in one model, on one scale of abilities. Beside the
    ability each annotator has a pull to what is shown first (known for comparisons), if wanted one to what is longer,
    and a threshold below which it calls a tie. Annotators of one kind (their source: human, judge, reward, ...) lend
    each other strength, so that one with few votes is mostly its kind. Each aspect is fitted by itself, over all
    prompts.

    The strengths are log-odds for an annotator of mean ability without a bias, with sum zero for each prompt: pulls to
    position and length are taken out. The confidence is the mean over pairs of |2 P(the one is better) - 1|. Abilities
    and all other parameters are written as by `aggregate.dawid_skene`. The model is ours: see `stats.joint_model`.
    """

    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
        "responses": ("text",),
    }

    length: bool = Field(
        False,
        description="Whether annotators may be drawn to what is longer (in characters), which is then taken out of the "
        "strengths. Where a longer response is a better one this takes out of them what it should not.",
    )
    position: bool = Field(True, description="Whether annotators may be drawn to what is shown first.")

    def inputs(self) -> frozenset[str]:
        """Responses only where their length matters."""
        return self.reads | {"responses"} if self.length else self.reads

    def scores_apart(self) -> bool:
        """Scores are scores."""
        return True

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """See `AnnotatorModel.run`."""
        if not self.length:
            return super().run(tables, context)
        lengths = tables["responses"].select("response_id", characters=pl.col("text").str.len_chars().cast(pl.Float64))
        there = dict(lengths.drop_nulls().iter_rows())
        measured = pl.col("target_ids").list.eval(
            pl.element().replace_strict(there, default=None, return_dtype=pl.Float64)
        )
        return super().run({"annotations": tables["annotations"].with_columns(characters=measured)}, context)

    def strengths(self, stated: Stated, kinds: Mapping[str, str], aspect: str, context: Context) -> Strengths:
        """See `RatedModel.strengths`."""
        from prefdata.stats.joint import joint_model

        votes, scores = stated.votes, stated.scores
        length, score_length = self._lengths(stated) if self.length else (None, None)
        found = joint_model(
            votes["first"].to_numpy(),
            votes["second"].to_numpy(),
            votes["annotator"].to_list(),
            p=votes["p"].to_numpy(),
            weights=votes["weight"].to_numpy(),
            position=votes["position"].to_numpy() if self.position else None,
            length=length,
            kinds=kinds,
            scores=(scores["node"].to_numpy(), scores["annotator"].to_list(), scores["value"].to_numpy())
            if scores.height
            else None,
            score_length=score_length if scores.height else None,
            groups=stated.nodes["problem"].to_numpy(),
            n=stated.nodes.height,
        )
        said = pl.concat([votes.select("annotator"), scores.select("annotator")])
        counts = dict(said["annotator"].value_counts().iter_rows())
        names = [str(name) for name in found.annotators]
        known = abilities_of(found, names, kinds, counts, lambda at: _parameters(found, at))
        more: dict[str, Any] = {
            "log_likelihood": found.log_likelihood,
            "iterations": found.iterations,
            "gradient": found.gradient,
            "scale": found.scale,
            "exact": found.exact,
            "kinds": {str(name): vars(kind) for name, kind in found.kinds.items()},
        }
        fit = Fit(aspect, "slope; the mean size is 1, below 0 an adversary", said.height, found.converged, known, more)

        def certainty(first: IntArray, second: IntArray) -> FloatArray:
            sure: FloatArray = np.abs(2 * found.certainty(first, second) - 1)
            return np.nan_to_num(sure)

        return Strengths(found.values, certainty, fit)

    def _lengths(self, stated: Stated) -> tuple[FloatArray, FloatArray]:
        from prefdata.stats.joint import length_difference

        characters = stated.nodes["characters"].fill_null(0.0).to_numpy()
        first, second = (characters[stated.votes[end].to_numpy()] for end in ("first", "second"))
        return length_difference(first, second), _from_the_mean(stated, characters)


def _from_the_mean(stated: Stated, characters: FloatArray) -> FloatArray:
    """How much longer than the mean of its prompt each scored response is, from -1 to 1."""
    from prefdata.stats.joint import length_difference

    problem = stated.nodes["problem"].to_numpy()
    _, place = np.unique(problem, return_inverse=True)
    mean = np.bincount(place, weights=characters) / np.bincount(place)
    node = stated.scores["node"].to_numpy()
    return length_difference(characters[node], mean[place][node])


def _parameters(found: Any, at: int) -> Mapping[str, Any]:
    return {
        f"{one}{end}": getattr(found, f"{one}{end}" if end else f"{one}s")[at]
        for one in ("position", "length", "threshold")
        for end in ("", "_low", "_high")
    }
