"""What the judges that compute on pairs share: the pairs, the numbers on their two sides, and the measures as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from prefdata.errors import DataError
from prefdata.operators.evidence import EVIDENCE
from prefdata.operators.relabel.pairs import PAIR_COLUMNS, gaps, measured, require_numbers, response_numbers, with_ends
from prefdata.pipeline.step import CONSENSUS, Context, Scope, TableStep
from prefdata.schema import Row

from .measured import annotations_of

FloatArray = NDArray[np.float64]


class PairMeasure(TableStep):
    """A step that measures pairs with a label from what is said about them and their responses. No model is asked."""

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
        "preferences": PAIR_COLUMNS,
    }
    narrows: ClassVar[str | None] = "preferences"

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The measures; preferences that are no pair with a label are counted in the log."""
        rows = with_ends(tables["preferences"]).sort("preference_id")
        for reason, count in rows["unfit"].drop_nulls().value_counts(sort=True).iter_rows():
            context.log(f"{count:,} preferences not measured: {reason}")
        pairs = rows.filter(pl.col("unfit").is_null())
        made = self.measures(pairs, tables, context)
        return {"annotations": pl.concat(made)} if made else {}

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """Rows of `annotations` about the pairs."""
        raise NotImplementedError

    def said(
        self,
        pairs: pl.DataFrame,
        values: Mapping[str, FloatArray],
        *,
        annotator: str,
        source: str,
        read: pl.Series | str,
    ) -> list[pl.DataFrame]:
        """A measure of each pair under each aspect; one that is no finite number abstains.

        Args:
            pairs: preference_id, group_id, prompt_id.
            values: [n] numbers by aspect.
            annotator: who says so.
            source: of the rows.
            read: names what each number rests on, or what all of them do.
        """
        rows = pairs.select("group_id", "prompt_id", id="preference_id")
        rows = rows.with_columns(read if isinstance(read, pl.Series) else pl.lit(read).alias("read"))
        key = {"kind": self.kind, "version": self.version, **self.asked()}
        return [
            annotations_of(
                rows.with_columns(score=finite(numbers)),
                target="preference",
                protocol="measure",
                annotator=annotator,
                aspect=aspect,
                source=source,
                key=key,
            )
            for aspect, numbers in values.items()
        ]

    def asked(self) -> dict[str, Any]:
        """What changes the numbers: part of the ids."""
        return {name: value for name, value in self.resolved().items() if name not in ("view", "name")}


class WholePairMeasure(PairMeasure):
    """A step whose measure of one pair rests on all the others."""

    scope: ClassVar[Scope] = "dataset"


class MarginMeasure(WholePairMeasure):
    """A step that goes by a model's margin of each pair: how much better it finds the preferred response."""

    scores: str | None = Field(
        None,
        description="Whose scores of the responses give the margin (`*` stands for any text; one annotator), for "
        "example an implicit reward by judge.density_ratio. Unless given, the measure `aspect` is the margin.",
    )
    aspect: str = Field("strength", description="Which measure of the preference is the margin, without `scores`.")
    annotator: str = Field("*", description="Whose measure it is (`*` stands for any text; one annotator).")

    def margins(self, pairs: pl.DataFrame, annotations: pl.DataFrame) -> FloatArray:
        """[n] the margin of each pair; NaN where there is none.

        Raises:
            DataError: several annotators fit, or none does.
        """
        if pairs.is_empty():
            return np.zeros(0)
        if self.scores is None:
            require_numbers(annotations, where=self.kind, aspects=[self.aspect], annotators=[self.annotator])
            found = measured(annotations, aspect=self.aspect, annotator=self.annotator, where=self.kind)
            return aligned(pairs, found.select(preference_id="target", value="value"))
        require_numbers(annotations, where=self.kind, annotators=[self.scores], target="response", protocols=["score"])
        numbers = response_numbers(annotations, annotators=[self.scores])
        names = numbers["member"].unique().sort().to_list()
        if len(names) > 1:
            raise DataError(
                f"{self.kind}: the scores of {names[0]!r} and {names[1]!r} fit {self.scores!r}, and a margin is one "
                "annotator's; name it (scores:), or join several by judge.reward_votes"
            )
        found = gaps(pairs, numbers).select("preference_id", value="gap")
        return aligned(pairs, found)


def aligned(pairs: pl.DataFrame, found: pl.DataFrame) -> FloatArray:
    """[n] `value` by preference_id, in the order of the pairs; NaN where there is none."""
    column = pairs.select("preference_id").join(found, on="preference_id", how="left", maintain_order="left")
    return column["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def finite(numbers: FloatArray) -> pl.Series:
    """Numbers as a column, null where they are not finite."""
    column = pl.Series(np.asarray(numbers, dtype=np.float64))
    return column.set(~column.is_finite(), None)


def name_of_all(*parts: pl.DataFrame | FloatArray) -> str:
    """One name for everything that a fit over the whole dataset read."""
    digest = blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, pl.DataFrame):
            digest.update(part.write_json().encode("utf-8", "surrogatepass"))
        else:
            digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
    return digest.hexdigest()
