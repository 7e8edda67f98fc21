"""`relabel.factual`: no preferred response is less factual than the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field

from prefdata.errors import DataError
from prefdata.operators.evidence import selected
from prefdata.operators.relabel.base import RelabelStep
from prefdata.operators.relabel.flip import flipped
from prefdata.operators.relabel.margin import with_margin
from prefdata.operators.relabel.pairs import with_ends
from prefdata.operators.select.dropping import drops_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row


@step("relabel.factual")
class Factual(RelabelStep):
    """Flip the pairs whose preferred response is stated to be wrong while the other is not, and lay down a margin.

    `h` is 1 for a response with a label among `wrong` (protocol `label`) and 0 for one with another label. Pairs with
    (h of the better, h of the worse) = (1, 0) are flipped; then the margin is `margin (h worse - h better)`, in the
    units of the loss's margin (in the paper Delta stands inside beta: margin = beta Delta). Two wrong responses still
    teach a hallucination: `both_wrong: drop` leaves them out. Pairs without both labels stay as they are.

    Source: F-DPO, Reducing Hallucinations in LLMs via Factuality-Aware Preference Learning.
    """

    aspect: str = Field("factuality", description="The aspect under which responses were labelled.")
    annotator: str = Field("*", description="Whose labels (`*` stands for any text).")
    wrong: tuple[str, ...] = Field(("wrong", "hallucinated"), min_length=1, description="The labels that mean wrong.")
    margin: float = Field(0.0, ge=0, allow_inf_nan=False, description="Of a right response against a wrong one.")
    both_wrong: Literal["keep", "drop"] = Field("keep", description="What happens to pairs of two wrong responses.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The restated preferences, and the drops."""
        pairs = self.pairs(tables["preferences"], context)
        if not pairs.is_empty():
            self._require(tables["annotations"])
        facts = self._facts(tables["annotations"])
        for side in ("better", "worse"):
            named = facts.rename({"response": side, "h": f"h_{side}", "ids": f"ids_{side}"})
            pairs = pairs.join(named, on=side, how="left", maintain_order="left")
        known = pairs.filter(pl.col("h_better").is_not_null() & pl.col("h_worse").is_not_null())
        if known.height < pairs.height:
            context.log(f"{pairs.height - known.height:,} have no label {self.aspect!r} of both responses and stay")
        lost = known.clear()
        if self.both_wrong == "drop":
            lost = known.filter((pl.col("h_better") == 1) & (pl.col("h_worse") == 1))
            known = known.join(lost, on="preference_id", how="anti", maintain_order="left")
        known = known.with_columns(
            heard=pl.concat_list("ids_better", "ids_worse"), turn=pl.col("h_better") > pl.col("h_worse")
        )
        after = pl.concat([flipped(known.filter("turn")), known.filter(~pl.col("turn"))])
        if self.margin:
            after = self._with_margin(after)
        before = pl.concat([known.filter("turn"), known.filter(~pl.col("turn"))])
        made = self.restated(before, after, f"{self.aspect}: the right response is the better one", context)
        if lost.height:
            said = drops_of("preferences", lost, pl.lit(f"{self.aspect}: both are wrong"), self.view)
            drops = made.get("drops")
            made["drops"] = said if not isinstance(drops, pl.DataFrame) else pl.concat([drops, said])
        return made

    def _with_margin(self, after: pl.DataFrame) -> pl.DataFrame:
        columns = after.columns
        bare = after.drop("unfit", "better_at", "worse_at", "better", "worse")
        margin = (pl.col("h_worse") - pl.col("h_better")).abs() * self.margin
        return with_margin(with_ends(bare), margin).select(columns)

    def _require(self, annotations: pl.DataFrame) -> None:
        """Refuse to go by labels that nobody tried to give."""
        labels = selected(annotations).filter(pl.col("protocol") == "label")
        if selected(labels, aspects=[self.aspect], annotators=[self.annotator]).is_empty():
            pairs = labels.select("aspect", "annotator").unique().sort("aspect", "annotator").head(8).rows()
            there = ", ".join(f"{aspect} by {annotator}" for aspect, annotator in pairs) or "none"
            raise DataError(
                f"{self.kind}: no response has a label under {self.aspect!r} by {self.annotator!r} (there are: "
                f"{there}). Put judge.label before this step, or correct the name"
            )

    def _facts(self, annotations: pl.DataFrame) -> pl.DataFrame:
        """response, h and the ids that it rests on; of several annotators' labels all must agree."""
        rows = selected(annotations, aspects=[self.aspect], annotators=[self.annotator])
        said = (
            rows.filter((pl.col("protocol") == "label") & (pl.col("status") == "ok"))
            .filter((pl.col("target_ids").list.len() == 1) & (pl.col("labels").list.len().fill_null(0) > 0))
            .select(
                pl.col("target_ids").list.first().alias("response"),
                "annotation_id",
                h=pl.col("labels").list.eval(pl.element().is_in(list(self.wrong))).list.any().cast(pl.Int8),
            )
            .sort("response", "annotation_id")
            .group_by("response", maintain_order=True)
            .agg(pl.col("h").min(), most=pl.col("h").max(), ids="annotation_id")
        )
        split = said.filter(pl.col("h") != pl.col("most"))
        if split.height:
            raise DataError(
                f"relabel.factual: {split.height} responses have labels {self.aspect!r} that contradict one another, "
                f"for example {split['response'][0]!r}; name the annotator that counts, or aggregate them first"
            )
        return said.drop("most")
