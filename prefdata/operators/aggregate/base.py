"""Consensus: many annotations of the same responses become one, under the same prompt and aspect.

The rules differ in what they need. `aggregate.mean` needs scores on one scale, `aggregate.majority` verdicts,
`aggregate.veto` something that counts as an objection, `aggregate.bradley_terry` any order at all: it is the one to
take where annotators of different kinds meet. A jury is nothing more than its members' own annotations (LLM judges,
reward models, rules, people: any steps) and one of these.

What is missing is never a zero: annotations without scores are left out, and what has fewer than `min_valid` valid ones
becomes a row with status `abstain`. No rule reads consensus rows, so consensus never feeds on consensus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from prefdata.errors import DataError
from prefdata.operators.evidence import (
    CONTEXT,
    EVIDENCE,
    ORDERING,
    VALID,
    coded,
    digests,
    directed,
    first_match,
    matching,
    newest_cards,
    selected,
)
from prefdata.operators.row_ids import annotation_ids, json_of
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row, now

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

VERDICT = {
    **dict.fromkeys(CONTEXT, pl.String()),
    "target_ids": pl.List(pl.String()),
    "protocol": pl.String(),
    "scores": pl.List(pl.Float64()),
    "labels": pl.List(pl.String()),
    "confidence": pl.Float64(),
    "read": pl.String(),
}
"""What a rule says of each problem; `read` names what it rests on."""

_SHOWN = 8
"""How many names a message gives."""


class Aggregate(TableStep):
    """What the rules of aggregation share: which annotations count, and how many a verdict needs."""

    reads: ClassVar[frozenset[str]] = frozenset({"annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({CONSENSUS})
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": (*EVIDENCE, "created_at")}
    narrows: ClassVar[str | None] = "annotations"
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that the rule did not have at first: as long as they are not set, its rows keep the names they had."""

    aspects: tuple[str, ...] = Field((), description="Only these aspects (`*` stands for any text); all unless given.")
    annotators: tuple[str, ...] = Field((), description="Only these annotators (`*` stands for any text).")
    sources: tuple[str, ...] = Field((), description="Only these sources, for example [human, judge].")
    min_valid: int = Field(1, ge=1, description="With fewer valid annotations it abstains.")
    card_versions: Literal["newest", "all"] = Field(
        "newest",
        description="Of a judge whose card was edited (names that differ in the card's hash alone): newest counts only "
        "what it said last about each prompt's group, all takes each version for an annotator of its own.",
    )

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One consensus for each prompt and aspect (majority: for each pair or label)."""
        made = self._annotations(self.consensus(self.counted(tables["annotations"], context), context))
        self.tell_abstentions(made, context)
        return {"annotations": made}

    def counted(self, annotations: pl.DataFrame, context: Context) -> pl.DataFrame:
        """The annotations that have a say, whatever became of them.

        Raises:
            DataError: see `refuse_infinite`.
        """
        heard = annotations.filter(pl.col("source") != "consensus")
        rows = selected(heard, aspects=self.aspects, annotators=self.annotators, sources=self.sources)
        if rows.is_empty():
            self._tell_unfit(selected(heard), context)
        if self.card_versions == "newest":
            everything = rows.height
            rows = newest_cards(rows)
            if rows.height < everything:
                context.log(
                    f"{everything - rows.height} annotations left out: their judge has read a newer version of its "
                    "card since (card_versions: all takes them too)"
                )
        refuse_infinite(rows, self.kind)
        return rows

    def _tell_unfit(self, heard: pl.DataFrame, context: Context) -> None:
        """Say which of the keys that choose annotations fits none of those that there are."""
        for column, given in (("aspect", self.aspects), ("annotator", self.annotators), ("source", self.sources)):
            names = heard[column].drop_nulls().unique().sort().to_list()
            fit = matching(names, given) if column != "source" else [name for name in names if name in given]
            if given and names and not fit:
                context.log(f"{column}s: none fits {', '.join(map(repr, given))} (there are: {_listed(names)})")

    def tell_abstentions(self, made: pl.DataFrame, context: Context) -> None:
        """Say how many of the rows made say nothing."""
        abstained = made.filter(pl.col("status") == "abstain").height
        if abstained:
            context.log(
                f"{abstained} of {made.height} verdicts are abstentions: too few valid annotations, or no verdict"
            )

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """The consensus of these annotations (any status, target response): the columns of `VERDICT`.

        A row without scores or labels is an abstention. `read` names what was read.
        """
        raise NotImplementedError

    def asked(self) -> list[Any]:
        """What the id of a consensus row hashes besides what was read. The view only says what is read."""
        settings = self.resolved()
        settings.pop("view", None)
        settings.pop("card_versions", None)  # likewise
        for name in self.later:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                settings.pop(name)
        return [self.kind, self.version, settings]

    def weighed(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, float]]:
        """The rows that count, and the weights by annotator: 1 for those that are not named."""
        return rows, {}

    @property
    def annotator(self) -> str:
        """Who speaks in the consensus."""
        return f"consensus:{self.kind.removeprefix('aggregate.').replace('_', '-')}"

    def _annotations(self, verdicts: pl.DataFrame, target: str = "response") -> pl.DataFrame:
        """Rows of `annotations`, named as `schema.annotation` names them."""
        ids = annotation_ids(
            verdicts,
            target=target,
            annotator=self.annotator,
            protocol=json_of(pl.col("protocol")),
            aspect=json_of(pl.col("aspect")),
            key=json_of(pl.col("read")),
        )
        says = pl.col("scores").is_not_null() | pl.col("labels").is_not_null()
        return verdicts.select(
            ids.alias("annotation_id"),
            pl.exclude("read"),
            target=pl.lit(target),
            annotator=pl.lit(self.annotator),
            source=pl.lit("consensus"),
            status=pl.when(says).then(pl.lit("ok")).otherwise(pl.lit("abstain")),
            replicate=pl.lit(0, pl.Int32),
            revision=pl.lit(1, pl.Int32),
            created_at=pl.lit(now()),
        )


class WeightedAggregate(Aggregate):
    """A rule whose annotators may weigh differently."""

    weights: dict[str, float] = Field(
        default_factory=dict,
        description="Weight by annotator pattern, the first that fits counts; 1 where none does. 0 leaves them out.",
    )

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, weights: dict[str, float]) -> dict[str, float]:
        for pattern, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {pattern!r} is {weight}; it must be finite and not negative")
        return weights

    def counted(self, annotations: pl.DataFrame, context: Context) -> pl.DataFrame:
        """See `Aggregate.counted`. Weights that are nobody's are told."""
        rows = super().counted(annotations, context)
        names = rows["annotator"].drop_nulls().unique().sort().to_list()
        idle = [pattern for pattern in self.weights if names and not matching(names, [pattern])]
        if idle:
            context.log(f"weights: no annotator fits {', '.join(map(repr, idle))} (there are: {_listed(names)})")
        return rows

    def weight(self, annotator: str) -> float:
        """Of the first pattern that fits."""
        pattern = first_match(annotator, self.weights)
        return 1.0 if pattern is None else self.weights[pattern]

    def weighed(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, float]]:
        """The rows of annotators that have a weight, and the weights by annotator (one without a name has 1)."""
        weight = {name: self.weight(name) for name in rows["annotator"].drop_nulls().unique().sort()}
        return rows.filter(weight_of(weight) > 0), weight


def verdicts_of(rows: pl.DataFrame, scored: pl.DataFrame, confidence: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
    """What a rule says of each problem, abstentions of the responses without a score included.

    Args:
        rows: annotations, numbered by `problem`, of any status.
        scored: see `ScoredAggregate.scored`.
        confidence: likewise.
        read: problem, read.

    Returns:
        The columns of `VERDICT`.
    """
    named = rows.filter(~VALID).select("problem", target="target_ids").explode("target").drop_nulls("target")
    unscored = named.join(scored, on=["problem", "target"], how="anti").unique()
    long = pl.concat([scored, unscored], how="diagonal")
    verdicts = _rows_of(long.with_columns(silent=pl.col("score").is_null()), "target" in confidence.columns)
    places = rows.select("problem", *CONTEXT).unique("problem").join(read, on="problem")
    said = pl.col("silent").not_()
    on = [name for name in ("problem", "target") if name in confidence.columns]
    return (
        verdicts.join(places, on="problem", how="left", maintain_order="left")
        .join(confidence, on=on, how="left", maintain_order="left")
        .with_columns(
            protocol=pl.lit("score"),
            scores=pl.when(said).then("scores"),
            confidence=pl.when(said).then("confidence"),
        )
        .select(list(VERDICT))
    )


def _rows_of(scored: pl.DataFrame, apart: bool) -> pl.DataFrame:
    """Scores of responses as the lists that the rows will hold.

    Args:
        scored: problem, target, score, silent and perhaps label.
        apart: a row for each response, which has a confidence of its own; else one for all that have a score.
    """
    why = pl.col("label") if "label" in scored.columns else pl.lit(None, pl.String)
    rows = scored.with_columns(labels=why).sort("problem", "silent", "target")
    if apart:
        return rows.select(
            "problem", "silent", "target", pl.concat_list("target").alias("target_ids"),
            scores=pl.concat_list("score"),
            labels=pl.when(pl.col("labels").is_not_null()).then(pl.concat_list("labels")),
        )  # fmt: skip
    lists = rows.group_by("problem", "silent", maintain_order=True).agg(
        target_ids="target", scores="score", labels="labels"
    )
    return lists.with_columns(labels=pl.when(pl.col("labels").list.drop_nulls().list.len() > 0).then("labels"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def weight_of(weight: Mapping[str, float]) -> pl.Expr:
    """The weight of each row's annotator."""
    return pl.col("annotator").replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64)


def refuse_infinite(rows: pl.DataFrame, where: str) -> None:
    """Refuse a score that is no finite number in an annotation whose status is ok.

    Imports and steps that ask are checked when their rows come in; a step over columns is not.

    Raises:
        DataError: names the first of them.
    """
    scores = rows.filter(VALID)["scores"].explode()
    if scores.is_not_null().all() and scores.is_finite().all():
        return
    sound = pl.col("scores").list.eval(pl.element().is_finite().fill_null(False)).list.all()
    row = rows.filter(VALID & ~sound).row(0, named=True)
    raise DataError(
        f"{where}: annotation {row['annotation_id']} by {row['annotator']!r} has the scores {row['scores']}, of which "
        "one is missing or not a finite number although its status is ok. Leave that annotator out (annotators:), or "
        "correct the step that made it"
    )


class ScoredAggregate(Aggregate):
    """A rule that reads scores."""

    direction: dict[str, Literal[1, -1]] = Field(
        default_factory=dict, description="For measures, by aspect: 1 more is better, -1 less is."
    )

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """One row of scores for each prompt and aspect, and one abstention for the responses that have too few."""
        rows = directed(rows.filter(pl.col("protocol").is_in(ORDERING)), self.direction, self.kind)
        rows, weight = self.weighed(rows)
        rows = coded(rows, CONTEXT, "problem")
        if rows.is_empty():
            return pl.DataFrame(schema=VERDICT)
        read = digests(rows, "problem", VALID, self.asked())
        scored, confidence = self.scored(rows.filter(VALID), weight, context)
        return verdicts_of(rows, scored, confidence, read)

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The scores of every response that these annotations name, and the confidence in each problem's.

        Returns:
            problem, target, score (null where it gets none) and, if the rule has any, label (why), one row each; and
            problem, confidence, or problem, target, confidence where each response has its own.
        """
        raise NotImplementedError
