"""Drop preferences that contradict others on the same two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from prefdata.operators.select.dropping import drops_of
from prefdata.operators.select.marks import MARKS, measures_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row


@step("select.conflicts")
class Conflicts(TableStep):
    """Resolve preferences that say the opposite of others, as `judge.conflicts` measured.

    `majority` drops those that are stated by half of the weight or less: of one against one both, of two against one
    the one. `both` drops everything in conflict. `report` drops nothing and counts.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": MARKS, "preferences": ()}

    resolve: Literal["majority", "both", "report"] = Field("majority", description="What becomes of a conflict.")
    aspect: str = Field("same_order", description="The aspect of the measure.")
    annotator: str = Field("rule:conflicts", description="Whose measure (`*` stands for any text).")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The drops."""
        preferences = tables["preferences"]
        if preferences.is_empty():
            return {}
        share = measures_of(tables["annotations"], "preference", self.aspect, self.annotator, self.kind)
        rows = preferences.join(share.rename({"id": "preference_id"}), on="preference_id", maintain_order="left")
        clash = rows.filter(pl.col("score") < 1)
        dropped = clash.filter(pl.col("score") <= 0.5) if self.resolve == "majority" else clash
        if self.resolve == "report":
            dropped = clash.clear()
        context.log(f"{clash.height} of {preferences.height} preferences are in conflict, {dropped.height} dropped")
        rounded = (pl.col("score") * 100).round(0).cast(pl.Int64).cast(pl.String)
        reason = pl.concat_str(pl.lit("in conflict: "), rounded, pl.lit(" % say the same"))
        return {"drops": drops_of("preferences", dropped, reason, self.view)}
