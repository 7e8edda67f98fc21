"""`judge.confident`: labels of pairs that a model which never saw them contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from prefdata.errors import DataError
from prefdata.operators.evidence import EVIDENCE, selected
from prefdata.operators.relabel.pairs import PAIR_COLUMNS, gaps, measured, require_numbers, response_numbers
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats.confident import confident_pairs, out_of_fold

from .pair_measures import FloatArray, WholePairMeasure, aligned, name_of_all
from .vectors import ASPECT as VECTORS
from .vectors import read_vectors

BoolArray = NDArray[np.bool_]


@step("judge.confident")
class Confident(WholePairMeasure):
    """Confident learning on pairs: `label_probability`, what a head gives the label out of fold, and `label_error`.

    `label_error` is 1 where the head contradicts the label with confidence (its 1 - p reaches the mean p of all
    labels), else 0. The head is a logistic regression on the difference of the two sides, fitted on the other folds,
    whole prompts in each, without an intercept, so that mirrored rows change nothing. Its features: `vectors`, what
    `judge.vectors` with `of: responses` kept; or `numbers`, every score or measure of both responses by the annotators
    that `members` name; or `given`: no head, the measure `aspect` of the preference is p, and was made out of fold.

    `relabel.flip` with `aspect: label_error, above: 0.5` flips them, `select.threshold` with `max: 0.5` drops them.

    Source: Northcutt et al. 2021, Confident Learning; for pairs derived.
    """

    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at", "text"),
        "preferences": PAIR_COLUMNS,
    }

    features: Literal["vectors", "numbers", "given"] = Field("vectors", description="What the head sees.")
    vectors: str = Field("*", description="vectors: by which annotator (`*` stands for any text).")
    members: tuple[str, ...] = Field(("*",), description="numbers: by which annotators (`*` stands for any text).")
    aspect: str | None = Field(None, description="given: the measure that is the probability of the label.")
    annotator: str = Field("*", description="given: whose measure (`*` stands for any text).")
    folds: int = Field(5, ge=2, description="Parts of the prompts.")
    ridge: float = Field(100.0, gt=0, description="Penalty of the head's coefficients, features scaled to 1.")
    seed: int = Field(0, description="Of the folds.")

    @model_validator(mode="after")
    def _acts(self) -> Confident:
        if (self.features == "given") != (self.aspect is not None):
            raise ValueError("features: given needs aspect, the measure that is a probability; others take none")
        return self

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """Probability and error of each label.

        Raises:
            DataError: there are pairs, and nobody gave what the head is to see.
        """
        if not pairs.is_empty():
            self._require(tables["annotations"])
        p = self._probability(pairs, tables["annotations"], context)
        found = confident_pairs(p)
        known = ~np.isnan(p)
        if not known.all():
            context.log(f"{int((~known).sum()):,} of {len(p):,} pairs have no features, or nothing to learn from")
        if found.value is not None:
            context.log(
                f"{int(found.wrong.sum()):,} labels contradicted; noise rate {found.value:.3f} "
                f"[{found.low:.3f}, {found.high:.3f}] as far as the head is right"
            )
        values = {"label_probability": p, "label_error": np.where(known, found.wrong.astype(np.float64), np.nan)}
        read = name_of_all(pairs.select("preference_id", "better"), p)
        return self.said(pairs, values, annotator="rule:confident", source=self._source, read=read)

    @property
    def _source(self) -> str:
        return "embedding" if self.features == "vectors" else "rule"

    def _require(self, annotations: pl.DataFrame) -> None:
        if self.features == "given":
            require_numbers(annotations, where=self.kind, aspects=[str(self.aspect)], annotators=[self.annotator])
        elif self.features == "numbers":
            require_numbers(annotations, where=self.kind, annotators=self.members, target="response")
        elif selected(annotations, aspects=[VECTORS], annotators=[self.vectors]).is_empty():
            raise DataError(
                f"{self.kind}: no response has a vector by {self.vectors!r}; put judge.vectors with of: responses "
                "before it, or take features: numbers"
            )

    def _probability(self, pairs: pl.DataFrame, annotations: pl.DataFrame, context: Context) -> FloatArray:
        if self.features == "given":
            found = measured(annotations, aspect=str(self.aspect), annotator=self.annotator, where=self.kind)
            return aligned(pairs, found.select(preference_id="target", value="value"))
        differences, usable = (
            self._vectors(pairs, annotations) if self.features == "vectors" else self._numbers(pairs, annotations)
        )
        p = np.full(pairs.height, np.nan)
        if not usable.any():
            return p
        head = out_of_fold(
            differences[usable],
            pairs.filter(pl.Series(usable))["group_id"].to_list(),
            folds=self.folds,
            ridge=self.ridge,
            seed=self.seed,
        )
        if not head.converged:
            context.log("a head had not come to its end when its fit was stopped")
        p[usable] = head.values
        return p

    def _vectors(self, pairs: pl.DataFrame, annotations: pl.DataFrame) -> tuple[FloatArray, BoolArray]:
        rows = selected(annotations, aspects=[VECTORS], annotators=[self.vectors])
        ids, vectors = read_vectors(rows, self.kind)
        place = {one: at for at, one in enumerate(ids)}
        at = np.array([[place.get(row, -1) for row in pairs[side]] for side in ("better", "worse")], dtype=np.int64)
        usable = np.asarray((at >= 0).all(axis=0), dtype=bool)
        if not ids:
            return np.zeros((pairs.height, 1)), usable
        return vectors[at[0]].astype(np.float64) - vectors[at[1]].astype(np.float64), usable

    def _numbers(self, pairs: pl.DataFrame, annotations: pl.DataFrame) -> tuple[FloatArray, BoolArray]:
        found = gaps(pairs, response_numbers(annotations, annotators=self.members, protocols=("score", "measure")))
        names = found["member"].unique().sort().to_list()
        columns = [
            aligned(pairs, found.filter(pl.col("member") == name).select("preference_id", value="gap"))
            for name in names
        ]
        differences = np.stack(columns, axis=1) if columns else np.zeros((pairs.height, 0))
        usable = np.asarray(~np.isnan(differences).any(axis=1) & bool(names), dtype=bool)
        return differences, usable
