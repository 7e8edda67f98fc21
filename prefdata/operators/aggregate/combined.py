"""Several aspects, one number: what the rules share that look at all aspects of a response at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.aggregate.base import FloatArray, ScoredAggregate, WeightedAggregate
from prefdata.operators.aggregate.mean import entries_of, means
from prefdata.operators.evidence import ORDERING, directed
from prefdata.operators.scales import Normalise
from prefdata.pipeline.step import Context


class Combined(WeightedAggregate, ScoredAggregate):
    """A rule that makes one score of each response's scores under several aspects.

    Under each aspect it is the weighted mean over annotators that counts. A response that lacks one of the aspects
    gets no score: a sum of fewer terms is no smaller sum.
    """

    into: str = Field("overall", min_length=1, description="The aspect of what is made.")
    normalise: Normalise | None = Field(
        None,
        description="Within annotator and prompt: zscore, rank, minmax. none: take the scores as they are, whatever "
        "their scales. Unless given, unlike scales within one aspect are refused.",
    )

    @abstractmethod
    def parts(self) -> Sequence[str]:
        """The aspects that are combined, each once."""

    @abstractmethod
    def combine(self, scores: FloatArray) -> tuple[FloatArray, Sequence[str | None] | None]:
        """One score for each response, and why, if there is anything to say.

        Args:
            scores: [n, parts] in the order of `parts`; none is missing.
        """

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """See `ScoredAggregate.consensus`."""
        there = set(rows["aspect"].drop_nulls().unique())
        silent = [aspect for aspect in self.parts() if aspect not in there]
        if there and silent:
            context.log(f"nothing is said under {', '.join(silent)} (there are: {', '.join(sorted(there))})")
        rows = rows.filter(pl.col("protocol").is_in(ORDERING) & pl.col("aspect").is_in(list(self.parts())))
        rows = directed(rows, self.turned(), self.kind)
        protocol = pl.col("protocol").replace("measure", "score")
        return super().consensus(
            rows.with_columns(part=pl.col("aspect"), aspect=pl.lit(self.into), protocol=protocol), context
        )

    def turned(self) -> Mapping[str, int]:
        """The direction of measures by aspect."""
        return self.direction

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. The confidence is null."""
        parts = list(self.parts())
        entries = entries_of(valid.with_columns(aspect="part"), weight, self.normalise, self.kind, context)
        nodes = entries.filter(pl.col("node").is_first_distinct()).select("problem", "target")
        entries = entries.filter(pl.col("score").is_not_nan()).with_columns(
            cell=pl.col("node") * len(parts)
            + pl.col("aspect").replace_strict({name: place for place, name in enumerate(parts)}, return_dtype=pl.Int64)
        )
        cell, score, w = (entries[name].to_numpy() for name in ("cell", "score", "weight"))
        order = np.lexsort((w, score, cell))
        table = means(cell[order], score[order], w[order], nodes.height * len(parts)).reshape(-1, len(parts))
        votes = np.bincount(cell, minlength=table.size).reshape(table.shape)
        whole = (votes >= self.min_valid).all(axis=1)
        result = np.full(nodes.height, np.nan)
        reasons: list[str | None] = [None] * nodes.height
        result[whole], why = self.combine(table[whole])
        if why is not None:
            for place, reason in zip(np.flatnonzero(whole).tolist(), why, strict=True):
                reasons[place] = reason
        if not whole.all():
            context.log(f"{int((~whole).sum())} responses lack a score under one of {', '.join(parts)}: no verdict")
        scored = nodes.with_columns(score=pl.Series(np.round(result, 12) + 0.0, nan_to_null=True))
        if why is not None:
            scored = scored.with_columns(label=pl.Series(reasons, dtype=pl.String))
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})
