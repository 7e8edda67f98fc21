"""Keep one of each cluster of duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from prefdata.operators.select.dropping import drops_of
from prefdata.operators.select.marks import MARKS, clusters_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, Scope, TableStep
from prefdata.schema import KEYS, Row


@step("select.duplicates")
class Duplicates(TableStep):
    """Keep one prompt, response or preference of each cluster that `judge.duplicates` named, and drop the others.

    Kept is what people have judged, before what they have not; of preferences then the one of the larger gap between
    its scores; then the one whose id comes first. The reason of each drop names what was kept. What has no label is
    kept.

    A prompt takes its responses and judgements with it. Where people judged under a prompt who did not judge under the
    kept one, it is kept as well: several annotators' rows of one prompt are data, not duplicates. A prompt that was
    dropped hides what was derived from it.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "prompts", "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": MARKS,
        "prompts": (),
        "responses": (),
        "preferences": ("scores", "annotation_ids", "annotator"),
    }

    table: Literal["prompts", "responses", "preferences"] = Field("prompts", description="What to drop from.")
    aspect: str = Field("duplicates", description="The aspect that the clusters' labels stand under.")
    annotator: str = Field("*", description="Whose labels (`*` stands for any text).")

    def inputs(self) -> frozenset[str]:
        """The table that it drops from, and what is said about it."""
        return frozenset({"annotations", CONSENSUS, self.table})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        annotations, key = tables["annotations"], KEYS[self.table]
        clusters = clusters_of(annotations, self.table.removesuffix("s"), self.aspect, self.annotator, self.kind)
        rows = tables[self.table].join(clusters.rename({"id": key}), on=key, how="inner", maintain_order="left")
        rows = self._ranked(rows, annotations).sort(
            "cluster", "human", "margin", key, descending=[False, True, True, False]
        )
        rows = rows.with_columns(
            kept=pl.col(key).first().over("cluster", order_by=pl.int_range(pl.len())),
            place=pl.int_range(pl.len()).over("cluster"),
        )
        dropped = rows.filter(pl.col("place") > 0)
        spared = 0
        if self.table == "prompts":
            whole = dropped.height
            dropped = self._without_other_people(dropped, annotations)
            spared = whole - dropped.height
        note = f"; {spared} are kept because people judged under them who did not under the kept one" if spared else ""
        context.log(f"{dropped.height} of {tables[self.table].height} {self.table} dropped as duplicates{note}")
        reason = pl.concat_str(pl.lit("duplicate of "), "kept")
        return {"drops": drops_of(self.table, dropped, reason, self.view)}

    def _ranked(self, rows: pl.DataFrame, annotations: pl.DataFrame) -> pl.DataFrame:
        """With `human` (people have judged it) and `margin` (the gap of its scores)."""
        said = annotations.filter((pl.col("source") == "human") & (pl.col("status") == "ok"))
        if self.table == "prompts":
            human = pl.col("group_id").is_in(said["group_id"].unique().implode())
            return rows.with_columns(human=human, margin=pl.lit(0.0))
        if self.table == "responses":
            judged = said.filter(pl.col("target") == "response")["target_ids"].explode().unique()
            return rows.with_columns(human=pl.col("response_id").is_in(judged.implode()), margin=pl.lit(0.0))
        ids = said["annotation_id"].unique()
        human = pl.col("annotation_ids").list.eval(pl.element().is_in(ids.implode())).list.any().fill_null(False)
        named = pl.col("annotator").str.starts_with("human:").fill_null(False)
        scores = pl.col("scores").list.drop_nulls()
        margin = (scores.list.max() - scores.list.min()).fill_nan(None).fill_null(0.0)
        return rows.with_columns(human=human | named, margin=margin)

    def _without_other_people(self, dropped: pl.DataFrame, annotations: pl.DataFrame) -> pl.DataFrame:
        """The prompts to drop under whose groups nobody judged who did not judge under the kept one's."""
        said = annotations.filter((pl.col("source") == "human") & (pl.col("status") == "ok"))
        judged = said.select("group_id", "annotator").unique()
        others = (
            dropped.select("prompt_id", "kept", "group_id")
            .join(judged, on="group_id")
            .join(judged.rename({"group_id": "kept"}), on=["kept", "annotator"], how="anti")
        )
        return dropped.join(others, on="prompt_id", how="anti", maintain_order="left")
