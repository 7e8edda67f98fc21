"""`relabel.flip`: the other response is preferred where a measure says that the label is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from prefdata.operators.relabel.base import MeasuredRelabel
from prefdata.operators.relabel.pairs import FLIPPED
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row


def flipped(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with their sides exchanged: to exchange them twice gives the pair back.

    The responses (and what stands beside each: values) change places; scores, shares of votes and weights stay where
    they are, so that the other response is now the better one; margins, which are a difference that was measured,
    change their sign. `values.flipped` is 1 for both responses of a flipped pair, and is gone from one flipped back.

    Args:
        pairs: rows of `preferences` of two responses.
    """
    other = pl.col("values").list.eval(
        pl.struct(pl.element().struct.field("name"), pl.element().struct.field("values").list.reverse().alias("values"))
    )
    marked = pl.col("values").list.eval(pl.element().struct.field("name") == FLIPPED).list.any().fill_null(False)
    mark = pl.concat_list(pl.struct(pl.lit(FLIPPED).alias("name"), pl.lit([1.0, 1.0]).alias("values")))
    kept = other.list.filter(pl.element().struct.field("name") != FLIPPED)
    edge = pl.element().struct
    turned = pl.col("edges").list.eval(
        pl.struct(
            *(edge.field(name) for name in ("winner", "loser", "p")),
            (-edge.field("margin")).alias("margin"),
            *(edge.field(name) for name in ("weight", "votes")),
        )
    )
    return pairs.with_columns(
        response_ids=pl.col("response_ids").list.reverse(),
        edges=turned,
        values=pl.when(marked)
        .then(pl.when(kept.list.len() > 0).then(kept))
        .when(pl.col("values").is_null())
        .then(mark)
        .otherwise(pl.concat_list(other.fill_null([]), mark)),
    )


@step("relabel.flip")
class Flip(MeasuredRelabel):
    """Prefer the other response where a measure of the pair lies past a limit.

    The limit is a number (`below: 0`, the default, of a preference strength; `below: 0.5` of a posterior) or a share
    of all pairs (`lowest: 0.2`). The paper's 20 percent are a property of its data, which is why the cut is at zero
    unless it is set. A new preference has its responses exchanged, `values.flipped` 1, the margin negated, and the
    original as `parent_id`; the original is dropped. Ties, lists of more than two and unpaired responses stay.

    Source: Wang et al. 2024, Secrets of RLHF in Large Language Models Part II: Reward Modeling, section 2.3.
    """

    aspect: str = Field("strength", description="The measure: its aspect, for example strength or label_posterior.")

    @model_validator(mode="before")
    @classmethod
    def _at_zero(cls, given: Any) -> Any:
        """A strength is cut at zero unless another limit is given."""
        limits = ("below", "above", "lowest", "highest")
        if not isinstance(given, Mapping) or any(given.get(name) is not None for name in limits):
            return given
        aspect = given.get("aspect", "strength")
        if aspect != "strength":
            raise ValueError(f"say from where on {aspect} means a wrong label: {', '.join(limits)}")
        return {**given, "below": 0.0}

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The flipped preferences, and the drops of their originals."""
        concerned = self.with_measure(self.pairs(tables["preferences"], context), tables, context)
        return self.restated(concerned, flipped(concerned), f"flipped: {self.aspect}{self.limit}", context)
