"""`split`: which groups train, and which are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.errors import DataError
from prefdata.operators.evidence import matching
from prefdata.operators.row_ids import annotation_ids, json_text
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row, make_id, now
from prefdata.similarity import clustered

_LATER = {"by": "groups", "aspect": "duplicates", "annotator": "*"}
"""Fields that came later: at these values a split is what it was without them."""


@step("split")
class Split(TableStep):
    """A label `train` or `valid` on the root prompt of each group.

    Whole groups are split, so that no prompt leaks. They are sorted by a hash of seed and group, and the first are held
    out; the count is exact.

    With `by: clusters` groups whose prompts are near duplicates stay on one side, too: those that share a label of
    `judge.duplicates` (put it before, with `of: prompts`), and those that these share one with. Whole components are
    held out in the order of the hash, each that fits; the count is as near as their sizes allow, and is said.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompts": (),
        "annotations": ("target", "target_ids", "protocol", "aspect", "annotator", "status", "labels"),
    }
    narrows: ClassVar[str | None] = "prompts"

    valid: float = Field(0.1, ge=0, le=1, description="Share of the groups to hold out.")
    seed: int = Field(0, description="Another seed, another split.")
    by: Literal["groups", "clusters"] = Field("groups", description="What stays together.")
    aspect: str = Field("duplicates", description="clusters: the aspect of the prompts' labels.")
    annotator: str = Field("*", description="clusters: whose labels (`*` stands for any text).")

    def inputs(self) -> frozenset[str]:
        """Prompts, and the labels of clusters where these count."""
        return frozenset({"prompts"} if self.by == "groups" else {"prompts", "annotations"})

    def resolved(self) -> dict[str, Any]:
        """The fields; those that came later are left out at their defaults, so that older splits stay what they are."""
        return {key: value for key, value in super().resolved().items() if _LATER.get(key, ...) != value}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """See `Step`: what is left out is the default."""
        return cls.model_validate(dict(fields))

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One annotation for each group."""
        groups = tables["prompts"]["group_id"].unique().sort().to_list()
        # Any group more may move others, so every row's id names all that was read.
        key = [self.kind, self.version, self.valid, self.seed, make_id("groups", groups)]
        if self.by == "clusters":
            of = self._components(groups, tables)
            key.append(make_id("components", of))
            out = self._held_out(groups, of, context)
        else:
            count = held_out(len(groups), self.valid)
            out = set(sorted(groups, key=lambda group: make_id("split", self.seed, group))[:count])
        name = pl.when(pl.col("group_id").is_in(list(out))).then(pl.lit("valid")).otherwise(pl.lit("train"))
        made = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String}).with_columns(
            pl.col("group_id").alias("prompt_id"),
            target_ids=pl.concat_list("group_id"),
            labels=pl.concat_list(name),
        )
        said = {"target": "prompt", "protocol": "label", "annotator": "rule:split", "aspect": "split"}
        ids = annotation_ids(
            made,
            target=said["target"],
            annotator=said["annotator"],
            protocol=json_text(said["protocol"]),
            aspect=json_text(said["aspect"]),
            key=json_text(key),
        )
        context.log(f"{len(groups) - len(out)} groups to train on, {len(out)} held out")
        rest = {**said, "source": "rule", "status": "ok", "created_at": now()}
        numbers = {"replicate": pl.lit(0, pl.Int32), "revision": pl.lit(1, pl.Int32)}
        constant = {name: pl.lit(value) for name, value in rest.items()}
        return {"annotations": made.with_columns(ids.alias("annotation_id"), **constant, **numbers)}

    def _components(self, groups: Sequence[str], tables: Mapping[str, pl.DataFrame]) -> list[int]:
        """For each group the number of the first group that clusters of prompts connect it with."""
        labels = tables["annotations"].filter(
            (pl.col("target") == "prompt") & (pl.col("protocol") == "label") & (pl.col("aspect") == self.aspect)
        )
        labels = labels.filter(pl.col("annotator").is_in(matching(labels["annotator"].unique(), [self.annotator])))
        if labels.is_empty() and groups:
            raise DataError(
                f"{self.kind}: no prompt has a label under the aspect {self.aspect!r} by {self.annotator!r}; put "
                "judge.duplicates with of: prompts before it, or split by: groups"
            )
        number = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String}).with_row_index("number")
        # Labels of several annotators may stand side by side: what any of them joins stays together.
        shared = (
            labels.filter((pl.col("status") == "ok") & (pl.col("labels").list.len() > 0))
            .select("annotator", prompt_id=pl.col("target_ids").list.first(), cluster=pl.col("labels").list.first())
            .join(tables["prompts"].select("prompt_id", "group_id"), on="prompt_id")
            .join(number, on="group_id")
            .with_columns(first=pl.col("number").min().over("annotator", "cluster"))
        )
        left, right = (shared[name].cast(pl.Int64).to_numpy() for name in ("first", "number"))
        return [int(label) for label in clustered(len(groups), left, right).labels]

    def _held_out(self, groups: Sequence[str], of: Sequence[int], context: Context) -> set[str]:
        """The groups of the components that are held out."""
        sizes = np.bincount(of, minlength=len(groups)).tolist() if of else []
        firsts = [place for place, size in enumerate(sizes) if size]
        wanted = held_out(len(groups), self.valid)
        chosen = fitting({groups[place]: sizes[place] for place in firsts}, wanted, self.seed)
        several = [size for size in sizes if size > 1]
        largest = f", of which the largest holds {max(several)} groups" if several else ""
        context.log(f"{len(several)} clusters of several groups{largest}")
        out = {group for group, first in zip(groups, of, strict=True) if groups[first] in chosen}
        if len(out) != wanted:
            context.log(f"{len(out)} groups are held out where {wanted} were asked for: clusters are not divided")
        return out


def held_out(n: int, share: float) -> int:
    """The nearest whole number to `share` of `n`, a half upward. A decimal share is taken at its word."""
    return int(n * Fraction(repr(share)) + Fraction(1, 2))


def fitting(sizes: Mapping[str, int], wanted: int, seed: int) -> set[str]:
    """Components that hold about so many groups: in the order of a hash, each that still fits.

    Where room is left over, one more is taken, the smallest, if that comes nearer than leaving the room.

    Args:
        sizes: how many groups each component holds.
        wanted: how many groups there should be.
        seed: of the hash.
    """
    chosen: set[str] = set()
    room = wanted
    ordered = sorted(sizes, key=lambda name: make_id("split", seed, name))
    for name in ordered:
        if sizes[name] <= room:
            chosen.add(name)
            room -= sizes[name]
    left = [name for name in ordered if name not in chosen]
    if room and left and sizes[smallest := min(left, key=lambda name: sizes[name])] - room < room:
        chosen.add(smallest)
    return chosen
