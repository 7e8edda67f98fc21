"""Spend a budget on the rows that are worth most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from prefdata.errors import DataError
from prefdata.operators.select.dropping import drops_of
from prefdata.operators.select.marks import MARKS, clusters_of, measures_of
from prefdata.operators.split import held_out
from prefdata.operators.vectors import VECTOR, read_vectors
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, Scope, TableStep
from prefdata.schema import KEYS, Row
from prefdata.similarity import diverse


@step("select.budget")
class Budget(TableStep):
    """Keep the prompts, responses or preferences with the highest (or lowest) scores, as many as there is budget for.

    Under a `view` of another name nothing else sees the drops: what is kept there can go to people (`keep: top`, an
    aspect that says where people are worth their price), while the rest stays with its judges (`keep: rest` in the view
    `main`, with the same numbers: no row is in both, and none in neither).

    With `clusters` the best of each cluster come first, then the second best, and so on, so that no cluster takes the
    budget. With `balance` rows are taken one by one, by `balance * score - (1 - balance) * the largest cosine` with
    those that were taken (maximal marginal relevance), which needs the vectors of `judge.vectors`, and scores on the
    scale of a cosine. Equal scores are taken in the order of their ids.

    What has no score is dropped unless `unscored: keep` says otherwise; it is then outside the budget.

    Source: Carbonell and Goldstein 1998 for `balance`.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "prompts", "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*MARKS, "text"),
        "prompts": (),
        "responses": ("prompt_id",),
        "preferences": ("prompt_id",),
    }

    table: Literal["prompts", "responses", "preferences"] = Field("preferences", description="What to drop from.")
    aspect: str = Field(description="The aspect whose scores or measures count.")
    annotator: str = Field("*", description="Whose (`*` stands for any text); there must be one.")
    keep: Literal["top", "bottom", "rest"] = Field(
        "top", description="The highest, the lowest, or all but what `top` would keep."
    )
    n: int | None = Field(None, ge=0, description="How many to keep.")
    share: float | None = Field(None, ge=0, le=1, description="Which share of those with a score; instead of n.")
    per: Literal["dataset", "prompt"] = Field("dataset", description="So many of all, or of each prompt.")
    clusters: str | None = Field(None, description="The aspect of clusters' labels, as judge.duplicates gives them.")
    balance: float | None = Field(None, ge=0, le=1, description="Of score and difference: 1 is the score alone.")
    vectors: str = Field("*", description="balance: whose vectors, as an annotator's name (`*`: any text).")
    unscored: Literal["keep", "drop"] = Field("drop", description="What happens to what has no score.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.n is None) == (self.share is None):
            raise ValueError("give n or share, one of the two")
        if self.table == "prompts" and self.per == "prompt":
            raise ValueError("per: prompt is for responses and preferences: of each prompt there is but one")
        if self.clusters is not None and self.balance is not None:
            raise ValueError("clusters and balance are two ways to the same end: give one of them")
        if self.balance is not None and self.table == "preferences":
            raise ValueError("balance needs vectors, which prompts and responses have and preferences have not")
        return self

    def inputs(self) -> frozenset[str]:
        """The table that it drops from, and what is said about it."""
        return frozenset({"annotations", CONSENSUS, self.table})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        key, target = KEYS[self.table], self.table.removesuffix("s")
        every = tables[self.table]
        if every.is_empty():
            return {}
        scores = measures_of(tables["annotations"], target, self.aspect, self.annotator, self.kind)
        place = pl.lit("") if self.per == "dataset" else pl.coalesce("prompt_id", "group_id")
        rows = every.select(pl.col(key).alias("id"), "group_id", place=place)
        rows = rows.join(scores, on="id", how="left", maintain_order="left")
        scored = self._ordered(rows.drop_nulls("score"), tables["annotations"], target)
        counts = {
            name: self.n if self.n is not None else held_out(size, self.share or 0.0)
            for name, size in scored.group_by("place").len().iter_rows()
        }
        budget = pl.col("place").replace_strict(counts, default=0, return_dtype=pl.Int64)
        taken = pl.col("rank") < budget
        beyond = scored.filter(taken if self.keep == "rest" else ~taken).select("id", "group_id")
        unscored = rows.filter(pl.col("score").is_null()).select("id", "group_id")
        size = f"n {self.n}" if self.n is not None else f"share {self.share:g}"
        reasons = {
            "top": "beyond the budget: top",
            "bottom": "beyond the budget: bottom",
            "rest": "within the budget: top",
        }
        parts = [beyond.with_columns(reason=pl.lit(f"{reasons[self.keep]} {size} by {self.aspect}"))]
        if self.unscored == "drop":
            parts.append(unscored.with_columns(reason=pl.lit(f"{self.aspect} by {self.annotator}: no score")))
        dropped = pl.concat(parts).rename({"id": key})
        context.log(
            f"{every.height - dropped.height} of {every.height} {self.table} kept by {self.aspect}; {unscored.height} "
            f"have no score: {'dropped' if self.unscored == 'drop' else 'kept'}"
        )
        return {"drops": drops_of(self.table, dropped, pl.col("reason"), self.view)}

    def _ordered(self, rows: pl.DataFrame, annotations: pl.DataFrame, target: str) -> pl.DataFrame:
        """The rows with `rank`: in which order they are taken, in each place from 0."""
        rows = rows.with_columns(worth=-pl.col("score") if self.keep == "bottom" else pl.col("score"))
        rows = rows.sort("place", "worth", "id", descending=[False, True, False])
        if self.clusters is not None:
            labels = clusters_of(annotations, target, self.clusters, "*", self.kind)
            rows = rows.join(labels, on="id", how="left", maintain_order="left")
            rows = rows.with_columns(pl.col("cluster").fill_null(pl.col("id")))
            rows = rows.with_columns(turn=pl.int_range(pl.len()).over("place", "cluster"))
            rows = rows.sort("place", "turn", "worth", "id", descending=[False, False, True, False])
        if self.balance is not None:
            rows = self._apart(rows, annotations, target)
        return rows.with_columns(rank=pl.int_range(pl.len()).over("place"))

    def _apart(self, rows: pl.DataFrame, annotations: pl.DataFrame, target: str) -> pl.DataFrame:
        said = annotations.filter((pl.col("target") == target) & (pl.col("aspect") == VECTOR))
        ids, vectors = read_vectors(said, self.kind, [self.vectors])
        number = {one: place for place, one in enumerate(ids)}
        missing = [one for one in rows["id"] if one not in number]
        if missing:
            raise DataError(
                f"{self.kind}: {len(missing)} {self.table} have no vector by {self.vectors!r}, for example "
                f"{missing[0]}; put judge.vectors with of: {self.table} before it"
            )
        parts = [rows.clear()]
        for part in rows.partition_by("place", maintain_order=True):
            own = vectors[[number[one] for one in part["id"]]]
            limit = self.n if self.n is not None else held_out(part.height, self.share or 0.0)
            taken = diverse(part["worth"].to_numpy(), own, limit, self.balance or 0.0)
            rest = np.setdiff1d(np.arange(part.height), taken)
            parts.append(part[np.concatenate([taken, rest])])
        return pl.concat(parts)
