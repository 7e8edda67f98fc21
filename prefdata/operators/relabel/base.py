"""What the steps of `relabel` share: which pairs are concerned, and the rows and drops that they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.dataset.parts import frame_of
from prefdata.operators.evidence import EVIDENCE
from prefdata.operators.relabel.pairs import measured, require_numbers, with_ends
from prefdata.operators.row_ids import json_of, json_text, row_ids
from prefdata.operators.select.dropping import drops_of
from prefdata.pipeline.step import CONSENSUS, Context, Scope, TableStep
from prefdata.schema import Row

_CONTENT = ("response_ids", "scores", "weight", "values", "edges")
"""What a preference states: a row of which none of these changes is left as it is."""


class RelabelStep(TableStep):
    """A step that states preferences anew.

    It sees all of them at once: a quantile, and a weight whose mean is one, are of the whole dataset.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"preferences", "drops"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": (*EVIDENCE, "created_at")}
    narrows: ClassVar[str | None] = "preferences"

    def restated(
        self, before: pl.DataFrame, after: pl.DataFrame, why: str, context: Context
    ) -> dict[str, pl.DataFrame | list[Row]]:
        """The new preferences, and the drops of those that they stand in the place of.

        A row whose content did not change is left as it is. The new row rests on what the old one did, and on
        `heard` besides, where there is such a column; the measure itself is about the old row, and hidden with it. An
        explanation of the label (`rationale_ids`) stays only where the sides stay.

        Args:
            before: preferences.
            after: the same rows in the same order, restated.
            why: the reason of the drops.
            context: for the log.
        """
        same = pl.DataFrame([before[name].eq_missing(after[name]).alias(name) for name in _CONTENT])
        changed = ~same.select(pl.all_horizontal(pl.all())).to_series()
        old, new = before.filter(changed), after.filter(changed)
        context.log(f"{new.height:,} preferences restated")
        if new.is_empty():
            return {}
        heard = pl.col("heard").fill_null([]) if "heard" in new.columns else pl.lit([], dtype=pl.List(pl.String))
        rows = new.with_columns(
            stated=pl.struct(_CONTENT).struct.json_encode(),
            parent_id=pl.col("preference_id"),
            annotation_ids=pl.concat_list(pl.col("annotation_ids").fill_null([]), heard).list.unique().list.sort(),
            rationale_ids=pl.when(pl.col("response_ids") == old["response_ids"]).then("rationale_ids"),
        )
        ids = row_ids(rows, "preference", json_text(self.kind), json_of(pl.col("parent_id")), json_of(pl.col("stated")))
        return {
            "preferences": frame_of("preferences", rows.with_columns(preference_id=ids)),
            "drops": drops_of("preferences", old, pl.lit(why), self.view),
        }

    def pairs(self, preferences: pl.DataFrame, context: Context) -> pl.DataFrame:
        """The preferences that are pairs with a label, see `with_ends`; the others are counted in the log."""
        rows = with_ends(preferences)
        for reason, count in rows["unfit"].drop_nulls().value_counts(sort=True).iter_rows():
            context.log(f"{count:,} preferences left as they are: {reason}")
        return rows.filter(pl.col("unfit").is_null())


class MeasuredRelabel(RelabelStep):
    """A step that goes by one measure of each preference."""

    aspect: str = Field(description="The measure: its aspect, for example strength or label_posterior.")
    annotator: str = Field("*", description="Whose measure (`*` stands for any text); there may be one alone.")
    below: float | None = Field(None, allow_inf_nan=False, description="Only where the measure is below this.")
    above: float | None = Field(None, allow_inf_nan=False, description="Only where the measure is above this.")
    lowest: float | None = Field(
        None, gt=0, lt=1, description="Only where it lies below this quantile of all (linear interpolation)."
    )
    highest: float | None = Field(None, gt=0, lt=1, description="Only where it lies above the 1 - this quantile.")

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if len(self.limits) > 1:
            raise ValueError(f"give one of below, above, lowest and highest, not {' and '.join(self.limits)}")
        return self

    @property
    def limits(self) -> list[str]:
        """Which limits are set."""
        return [name for name in ("below", "above", "lowest", "highest") if getattr(self, name) is not None]

    def with_measure(
        self, rows: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context, *, every: bool = False
    ) -> pl.DataFrame:
        """The rows that have the measure and lie past the limit, with `value`.

        Args:
            rows: preferences.
            tables: what the step reads.
            context: for the log.
            every: whether the limit is left aside.

        Raises:
            DataError: there are rows, and nobody measured any preference so.
        """
        if not rows.is_empty():
            require_numbers(tables["annotations"], where=self.kind, aspects=[self.aspect], annotators=[self.annotator])
        found = measured(tables["annotations"], aspect=self.aspect, annotator=self.annotator, where=self.kind)
        found = found.drop("annotation_ids")
        known = rows.join(found, left_on="preference_id", right_on="target", how="inner", maintain_order="left")
        if known.height < rows.height:
            context.log(f"{rows.height - known.height:,} have no measure {self.aspect!r} and are left as they are")
        if every or not known.height:
            return known
        value = pl.col("value")
        if self.below is not None:
            return known.filter(value < self.below)
        if self.above is not None:
            return known.filter(value > self.above)
        if self.lowest is not None:
            return known.filter(value < known["value"].quantile(self.lowest, "linear"))
        if self.highest is not None:
            return known.filter(value > known["value"].quantile(1 - self.highest, "linear"))
        return known

    @property
    def limit(self) -> str:
        """The limit in words, for the reason of a drop."""
        if not self.limits:
            return ""
        name = self.limits[0]
        value = getattr(self, name)
        return f" {'<' if name == 'below' else '>'} {value:g}" if name in ("below", "above") else f", {name} {value:g}"
