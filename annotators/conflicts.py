"""`judge.conflicts`: which preferences contradict others on the same two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row

from .documents import answered, written
from .measured import annotations_of

ASPECT = "same_order"

_PLACE = ["aspect", "asked", "one", "other"]


@step("judge.conflicts")
class Conflicts(TableStep):
    """Measure how many of the preferences for the same two responses to the same prompt state the same order.

    A `measure` on each preference of a better and a worse response, under the aspect `same_order`: the share of weight
    that states its order, itself included; 1 where nobody contradicts. Texts are compared without case, punctuation and
    white space, whatever their ids, and (A, B) with (B, A). Preferences under different aspects are no conflict. Where
    the share is below 1 there is a `label`, too: the least id of those in conflict. `select.conflicts` then drops.

    It abstains from ties, lists of more than two and unpaired responses, and from a pair of equal texts.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations", "annotators"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompts": ("messages", "condition", "context", "media"),
        "responses": ("text", "media"),
        "preferences": ("prompt_id", "response_ids", "scores", "weight", "aspect", "kind"),
    }

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The measures, and the labels of conflicts."""
        rows = self._keyed(tables).with_columns(
            total=pl.col("weight").sum().over(_PLACE),
            own=pl.col("weight").sum().over([*_PLACE, "forward"]),
            cluster=pl.col("id").min().over(_PLACE),
            against=pl.col("forward").n_unique().over(_PLACE) > 1,
        )
        share = pl.when("against").then(pl.col("own") / pl.col("total")).otherwise(1.0)
        rows = rows.with_columns(score=share).with_columns(
            read=pl.concat_str("cluster", pl.col("score").cast(pl.String), separator=" ")
        )
        said: dict[str, Any] = {"target": "preference", "annotator": "rule:conflicts", "key": [self.version]}
        clash = rows.filter("against").with_columns(labels=pl.concat_list("cluster"))
        context.log(
            f"{clash.height} of {tables['preferences'].height} preferences are in conflict with another, over "
            f"{clash['cluster'].n_unique()} pairs of texts"
        )
        columns = ["id", "group_id", "prompt_id", "read"]
        every = tables["preferences"].select("group_id", "prompt_id", id="preference_id")
        measured = every.join(rows.select("id", "read", "score"), on="id", how="left", maintain_order="left")
        made = [
            annotations_of(measured.select(*columns, "score"), protocol="measure", aspect=ASPECT, **said),
            annotations_of(clash.select(*columns, "labels"), protocol="label", aspect="conflicts", **said),
        ]
        return {"annotations": pl.concat(made), "annotators": [{"annotator": "rule:conflicts"}]}

    def _keyed(self, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The preferences that state an order of two texts: which texts, and which way round."""
        first, second = (pl.col("scores").list.get(place, null_on_oob=True) for place in (0, 1))
        tied = (first == second).fill_null(False)
        two = tables["preferences"].filter((pl.col("response_ids").list.len() == 2) & ~tied)
        responses = answered(tables["responses"])
        keyed = two.select(
            "group_id",
            "prompt_id",
            "aspect",
            pl.col("weight").fill_null(1.0),
            id="preference_id",
            better=pl.col("response_ids").list.get(0),
            worse=pl.col("response_ids").list.get(1),
        )
        for side in ("better", "worse"):
            named = responses.rename({"response_id": side, "said": f"{side}_said"})
            keyed = keyed.join(named, on=side, how="inner", maintain_order="left")
        keyed = keyed.join(written(tables["prompts"]), on="prompt_id", how="left", maintain_order="left")
        return keyed.filter(pl.col("better_said") != pl.col("worse_said")).with_columns(
            one=pl.min_horizontal("better_said", "worse_said"),
            other=pl.max_horizontal("better_said", "worse_said"),
            forward=pl.col("better_said") < pl.col("worse_said"),
        )
