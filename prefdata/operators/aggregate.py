"""Consensus: many annotations of the same responses become one, under the same prompt and aspect.

The three rules differ in what they need. `aggregate.mean` needs scores on one scale, `aggregate.majority` verdicts,
`aggregate.bradley_terry` any order at all: it is the one to take where annotators of different kinds meet.

What is missing is never a zero: annotations without scores are left out, and what has fewer than `min_valid` valid ones
becomes a row with status `abstain`. No rule reads consensus rows, so consensus never feeds on consensus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import erf, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from prefdata.operators.evidence import (
    CONTEXT,
    EVIDENCE,
    ORDERING,
    VALID,
    coded,
    compared,
    digests,
    directed,
    first_match,
    lists_of,
    selected,
)
from prefdata.operators.row_ids import json_of, json_text, row_ids
from prefdata.operators.scales import Normalise, check_alike, normalised
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row, now
from prefdata.stats import DEFAULT_PRIOR, bradley_terry_batch

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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

_CELLS = 4_000_000
"""Cells of the win tables that are held at once: bounds memory."""


class Aggregate(TableStep):
    """What the rules of aggregation share: which annotations count, and how many a verdict needs."""

    reads: ClassVar[frozenset[str]] = frozenset({"annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({CONSENSUS})
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"annotations": EVIDENCE}
    narrows: ClassVar[str | None] = "annotations"

    aspects: tuple[str, ...] = Field((), description="Only these aspects (`*` stands for any text); all unless given.")
    annotators: tuple[str, ...] = Field((), description="Only these annotators (`*` stands for any text).")
    sources: tuple[str, ...] = Field((), description="Only these sources, for example [human, judge].")
    min_valid: int = Field(1, ge=1, description="With fewer valid annotations it abstains.")

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One consensus for each prompt and aspect (majority: for each pair or label)."""
        rows = selected(
            tables["annotations"].filter(pl.col("source") != "consensus"),
            aspects=self.aspects,
            annotators=self.annotators,
            sources=self.sources,
        )
        made = self._annotations(self.consensus(rows, context))
        abstained = made.filter(pl.col("status") == "abstain").height
        if abstained:
            context.log(f"{abstained} of {made.height} verdicts are abstentions: too few valid annotations")
        return {"annotations": made}

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """The consensus of these annotations (any status, target response): the columns of `VERDICT`.

        A row without scores or labels is an abstention. `read` names what was read.
        """
        raise NotImplementedError

    def asked(self) -> list[Any]:
        """What the id of a consensus row hashes besides what was read. The view only says what is read."""
        settings = self.resolved()
        settings.pop("view", None)
        return [self.kind, self.version, settings]

    def _annotations(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Rows of `annotations`, named as `schema.annotation` names them."""
        annotator = f"consensus:{self.kind.removeprefix('aggregate.').replace('_', '-')}"
        ids = row_ids(
            verdicts,
            "annotation",
            json_of(pl.col("prompt_id")),
            json_text("response"),
            json_of(pl.col("target_ids")),
            json_of(pl.col("protocol")),
            json_text(annotator),
            json_of(pl.col("aspect")),
            json_text(0),
            json_of(pl.col("read")),
        )
        says = pl.col("scores").is_not_null() | pl.col("labels").is_not_null()
        return verdicts.select(
            ids.alias("annotation_id"),
            pl.exclude("read"),
            target=pl.lit("response"),
            annotator=pl.lit(annotator),
            source=pl.lit("consensus"),
            status=pl.when(says).then(pl.lit("ok")).otherwise(pl.lit("abstain")),
            replicate=pl.lit(0, pl.Int32),
            revision=pl.lit(1, pl.Int32),
            created_at=pl.lit(now()),
        )


class ScoredAggregate(Aggregate):
    """A rule that reads scores, whose annotators may weigh differently."""

    weights: dict[str, float] = Field(
        default_factory=dict,
        description="Weight by annotator pattern, the first that fits counts; 1 where none does. 0 leaves them out.",
    )
    direction: dict[str, Literal[1, -1]] = Field(
        default_factory=dict, description="For measures, by aspect: 1 more is better, -1 less is."
    )

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, weights: dict[str, float]) -> dict[str, float]:
        for pattern, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {pattern!r} is {weight}; it must be finite and not negative")
        return weights

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """One row of scores for each prompt and aspect, and one abstention for the responses that have too few."""
        rows = directed(rows.filter(pl.col("protocol").is_in(ORDERING)), self.direction, self.kind)
        weight = {name: self.weight(name) for name in rows["annotator"].drop_nulls().unique().sort()}
        rows = coded(
            rows.filter(pl.col("annotator").replace_strict(weight, default=1.0, return_dtype=pl.Float64) > 0),
            CONTEXT,
            "problem",
        )
        if rows.is_empty():
            return pl.DataFrame(schema=VERDICT)
        read = digests(rows, "problem", VALID, self.asked())
        scored, confidence = self.scored(rows.filter(VALID), weight, context)
        named = rows.filter(~VALID).select("problem", target="target_ids").explode("target").drop_nulls("target")
        unscored = named.join(scored, on=["problem", "target"], how="anti")
        long = pl.concat([scored, unscored.unique().with_columns(score=pl.lit(None, pl.Float64))])
        verdicts = (
            long.sort("problem", "target")
            .group_by("problem", pl.col("score").is_null().alias("silent"), maintain_order=True)
            .agg(target_ids="target", scores="score")
            .sort("problem", "silent")
        )
        places = rows.select("problem", *CONTEXT).unique("problem").join(read, on="problem")
        said = pl.col("silent").not_()
        return (
            verdicts.join(places, on="problem", how="left", maintain_order="left")
            .join(confidence, on="problem", how="left", maintain_order="left")
            .with_columns(
                protocol=pl.lit("score"),
                scores=pl.when(said).then("scores"),
                confidence=pl.when(said).then("confidence"),
                labels=pl.lit(None, pl.List(pl.String)),
            )
            .select(list(VERDICT))
        )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The scores of every response that these annotations name, and the confidence in each problem's.

        Returns:
            problem, target, score (null where it gets none), one row each; and problem, confidence.
        """
        raise NotImplementedError

    def weight(self, annotator: str) -> float:
        """Of the first pattern that fits."""
        pattern = first_match(annotator, self.weights)
        return 1.0 if pattern is None else self.weights[pattern]


@step("aggregate.mean")
class Mean(ScoredAggregate):
    """The weighted mean of each response's scores, per prompt and aspect.

    Of comparisons it is the share of wins. Scores on unlike scales are refused (see `scales.check_alike`) unless
    `normalise` says how to treat them. A response with fewer than `min_valid` scores gets none.
    """

    normalise: Normalise | None = Field(
        None,
        description="Within annotator and prompt: zscore, rank, minmax. none: take the scores as they are, whatever "
        "their scales. Unless given, unlike scales are refused.",
    )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. The confidence is null: a mean states none."""
        entries = valid.select(
            "problem", "aspect", "annotator", "protocol", "criterion_id", target="target_ids", score="scores"
        ).explode("target", "score")
        if self.normalise is None:
            check_alike(entries, self.kind)
        entries = entries.sort("problem", "target").with_columns(node=pl.struct("problem", "target").rle_id())
        node, score = entries["node"].to_numpy().astype(np.int64), entries["score"].to_numpy()
        if self.normalise not in (None, "none"):
            voice = entries.select(pl.struct("problem", "annotator", "protocol", "criterion_id").rank("dense"))
            score = normalised(voice.to_series().to_numpy().astype(np.int64), node, score, self.normalise)
        silent = np.isnan(score)
        if silent.any():
            context.log(f"{int(silent.sum())} scores left out: the only response their annotator scored")
        w = entries["annotator"].replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64).to_numpy()
        mean, count = _means(node[~silent], score[~silent], w[~silent], int(node.max(initial=-1)) + 1)
        scored = entries.filter(pl.col("node").is_first_distinct()).select("problem", "target")
        scored = scored.with_columns(score=pl.Series(mean), enough=pl.Series(count >= self.min_valid)).select(
            "problem", "target", pl.when("enough").then("score").alias("score")
        )
        return scored, pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})


def _means(node: IntArray, score: FloatArray, weight: FloatArray, size: int) -> tuple[FloatArray, IntArray]:
    """Weighted mean and count by node. Equal scores in another order give the same bits: they are sorted first."""
    order = np.lexsort((weight, score, node))
    node, score, weight = node[order], score[order], weight[order]
    count = np.bincount(node, minlength=size)
    total = np.bincount(node, weights=weight, minlength=size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, node, score)
    np.maximum.at(high, node, score)
    with np.errstate(invalid="ignore", divide="ignore"):
        # 12 decimals: means that are equal on paper (0.1, 0.1, 0.4 and 3 x 0.2) must not differ in the last bit.
        mean = np.round(np.bincount(node, weights=weight * score, minlength=size) / total, 12) + 0.0
    return np.where(low == high, low, mean), count


@step("aggregate.bradley_terry")
class BradleyTerryConsensus(ScoredAggregate):
    """Strengths of the responses to each prompt, under each aspect, from every order that annotators state.

    Everything becomes comparisons: comparisons as they are (soft), rankings and choices as the pairs they imply, scores
    as comparisons within one annotator, criterion and replicate, so that no common scale is needed. The strengths are
    log-odds with sum zero, rounded to 9 decimals (what is symmetric comes out equal). Weights count comparisons.

    The confidence is the mean over pairs of 2 Phi(|difference| / its standard error) - 1: how surely the order of two
    of the responses is known, 0 not at all, 1 for certain.
    """

    prior: float = Field(
        DEFAULT_PRIOR,
        gt=0,
        description="Virtual comparisons of each response with an average one, half won and half lost.",
    )

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` lists that compare it with another."""
        number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
        lists = lists_of(valid)
        heads = lists.heads.join(number, on=CONTEXT, nulls_equal=True, how="left", maintain_order="left")
        entries = lists.entries.select("list", "target", problem=heads["problem"].gather(lists.entries["list"]))
        nodes = entries.select("problem", "target").unique().sort("problem", "target").with_row_index("node")
        on = ["problem", "target"]
        node = entries.join(nodes, on=on, how="left", maintain_order="left")["node"].to_numpy().astype(np.int64)
        first, second, p = compared(lists)
        heard = np.zeros(len(node), dtype=bool)
        heard[first] = heard[second] = True
        votes = np.bincount(node[heard], minlength=nodes.height)
        weights = heads["annotator"].replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64)
        w = weights.gather(entries["list"].gather(first)).to_numpy()
        scores = np.full(nodes.height, np.nan)
        sure: list[pl.DataFrame] = [pl.DataFrame(schema={"problem": pl.Int64, "confidence": pl.Float64})]
        for rows, strengths, covariance in self._fits(
            nodes["problem"].to_numpy(), votes, node[first], node[second], p, w
        ):
            theta, confidence = _of_those(strengths, covariance, votes[rows] >= self.min_valid)
            scores[rows] = theta
            members = nodes["problem"].gather(rows[:, 0])
            sure.append(pl.DataFrame([members, pl.Series("confidence", confidence, nan_to_null=True)]))
        scored = nodes.select("problem", "target", score=pl.Series(scores, nan_to_null=True))
        return scored, pl.concat(sure)

    def _fits(
        self, problem: IntArray, votes: IntArray, first: IntArray, second: IntArray, p: FloatArray, w: FloatArray
    ) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """Problems of one size, which are solved together.

        Args:
            problem: [n] of each node, ascending.
            votes: [n] in how many lists it is compared; nodes without any are in no problem.
            first: [m] the better or worse node of each comparison.
            second: [m] the other one.
            p: [m] P(first is better).
            w: [m] the weight of each comparison.

        Yields:
            The nodes [b, k] of the problems, their strengths [b, k] and covariances [b, k, k].
        """
        used = np.flatnonzero(votes > 0)
        begins = np.flatnonzero(np.diff(problem[used], prepend=-1))  # of each problem, among the used nodes
        sizes = np.diff(np.append(begins, len(used)))
        place = np.zeros(len(problem), dtype=np.int64)
        place[used] = np.arange(len(used)) - np.repeat(begins, sizes)
        which = np.searchsorted(problem[used][begins], problem[first])
        for k in np.unique(sizes).tolist():
            members = np.flatnonzero(sizes == k)
            at_once = max(_CELLS // (k * k), 1)
            for chunk in (members[start : start + at_once] for start in range(0, len(members), at_once)):
                here = np.flatnonzero((sizes[which] == k) & (which >= chunk[0]) & (which <= chunk[-1]))
                base = np.searchsorted(chunk, which[here]) * k * k
                i, j = place[first[here]], place[second[here]]
                cells = len(chunk) * k * k
                wins = np.bincount(base + i * k + j, weights=w[here] * p[here], minlength=cells).astype(np.float64)
                wins += np.bincount(base + j * k + i, weights=w[here] * (1 - p[here]), minlength=cells)
                theta, covariance, _ = bradley_terry_batch(wins.reshape(-1, k, k), prior=self.prior)
                yield used[begins[chunk][:, None] + np.arange(k)], theta, covariance


def _of_those(strengths: FloatArray, covariance: FloatArray, kept: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Scores [b, n] of the responses that are kept (NaN for the others, and where only one is), and confidence [b]."""
    scores = np.full(strengths.shape, np.nan)
    confidence = np.full(len(strengths), np.nan)
    whole = kept.all(axis=1) & (kept.shape[1] > 1)
    scores[whole] = np.round(strengths[whole], 9) + 0.0
    confidence[whole] = _order_confidence(strengths[whole], covariance[whole])
    for row in np.flatnonzero(~whole & (kept.sum(axis=1) > 1)).tolist():
        places = np.flatnonzero(kept[row])
        theta = strengths[row, places] - strengths[row, places].mean()
        scores[row, places] = np.round(theta, 9) + 0.0
        confidence[row] = _order_confidence(theta[None], covariance[row][np.ix_(places, places)][None])[0]
    return scores, confidence


def _order_confidence(theta: FloatArray, covariance: FloatArray) -> FloatArray:
    """The mean over pairs of 2 Phi(|difference| / its standard error) - 1, of strengths [b, n]; [b]."""
    i, j = np.triu_indices(theta.shape[1], 1)
    error = np.sqrt(np.maximum(covariance[:, i, i] + covariance[:, j, j] - 2 * covariance[:, i, j], 1e-300))
    z = np.abs(theta[:, i] - theta[:, j]) / error / sqrt(2)
    sure = np.array([erf(one) for one in z.ravel().tolist()]).reshape(z.shape)
    # Added one after the other, so that it does not matter how many problems are solved together.
    total = np.zeros(len(theta))
    for pair in range(len(i)):
        total += sure[:, pair]
    return np.round(total / max(len(i), 1), 9)


@step("aggregate.majority")
class Majority(Aggregate):
    """The most frequent verdict: over labels for each response, over comparisons for each pair.

    A comparison's verdict is first, second or tie. The two orders of one comparison by one annotator (same criterion
    and replicate) are merged to one vote first: the same response in both orders wins, anything else is a tie. Where
    two verdicts are equally frequent there is no majority, and the row abstains. The confidence is the winner's share
    of the votes. Annotations of other protocols are left out and counted.
    """

    def consensus(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """Rows of protocol compare (scores 1 and 0, or 0.5 each) and label (one response each)."""
        other = rows.filter(~pl.col("protocol").is_in(["compare", "label"]))
        if len(other):
            kinds = ", ".join(sorted(other["protocol"].unique().to_list()))
            context.log(f"{len(other)} annotations are neither labels nor comparisons ({kinds}): left out")
        compared = self._compared(rows.filter(pl.col("protocol") == "compare"))
        return pl.concat([compared, self._labelled(rows.filter(pl.col("protocol") == "label"))])

    def _compared(self, rows: pl.DataFrame) -> pl.DataFrame:
        ends = rows.filter(pl.col("target_ids").list.len() == 2).with_columns(
            low=pl.col("target_ids").list.min(), high=pl.col("target_ids").list.max()
        )
        ends = coded(ends, [*CONTEXT, "low", "high"], "problem")
        if ends.is_empty():
            return pl.DataFrame(schema=VERDICT)
        read = digests(ends, "problem", VALID, self.asked())
        winner = self._winners(_merged_orders(ends.filter(VALID)))
        low = pl.col("verdict").replace_strict({"low": 1.0, "tie": 0.5, "high": 0.0}, return_dtype=pl.Float64)
        return (
            ends.unique("problem", keep="first", maintain_order=True)
            .join(read, on="problem", how="left", maintain_order="left")
            .join(winner, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("low", "high"),
                protocol=pl.lit("compare"),
                scores=pl.when(pl.col("verdict").is_not_null()).then(pl.concat_list(low, 1 - low)),
                labels=pl.lit(None, pl.List(pl.String)),
                confidence="share",
            )
            .select(list(VERDICT))
        )

    def _labelled(self, rows: pl.DataFrame) -> pl.DataFrame:
        count, targets = pl.col("labels").list.len(), pl.col("target_ids").list.len()
        # One label for each target; or several labels of one target, which are one verdict, whatever their order.
        aligned, several = count == targets, (targets == 1) & (count > 1)
        said = (pl.col("status") == "ok") & (aligned | several).fill_null(False)
        verdicts = (
            pl.when(~said).then(None).when(several).then(pl.concat_list(_one_verdict())).otherwise(pl.col("labels"))
        )
        silent = pl.col("target_ids").list.eval(pl.lit(None, dtype=pl.String).repeat_by(pl.len()).explode())
        each = rows.with_columns(verdict=pl.coalesce(verdicts, silent), named=pl.col("target_ids")).explode(
            "verdict", "named"
        )
        each = coded(each, [*CONTEXT, "named"], "problem")
        if each.is_empty():
            return pl.DataFrame(schema=VERDICT)
        given = pl.col("verdict").is_not_null()
        read = digests(each, "problem", given, self.asked())
        winner = self._winners(each.filter(given).group_by("problem", "verdict").len("votes"))
        return (
            each.drop("verdict")
            .unique("problem", keep="first", maintain_order=True)
            .join(read, on="problem", how="left", maintain_order="left")
            .join(winner, on="problem", how="left", maintain_order="left")
            .with_columns(
                target_ids=pl.concat_list("named"),
                protocol=pl.lit("label"),
                scores=pl.lit(None, pl.List(pl.Float64)),
                labels=pl.col("verdict").str.split(_SEPARATOR),
                confidence="share",
            )
            .select(list(VERDICT))
        )

    def _winners(self, votes: pl.DataFrame) -> pl.DataFrame:
        """problem, verdict and share of the verdicts that have the most votes, out of `min_valid` or more.

        Args:
            votes: problem, verdict, votes. Where two have the most there is no winner.
        """
        most = pl.col("votes") == pl.col("votes").max().over("problem")
        return (
            votes.with_columns(total=pl.col("votes").sum().over("problem"))
            .filter(most & (pl.col("total") >= self.min_valid))
            .filter(pl.len().over("problem") == 1)
            .select("problem", "verdict", share=pl.col("votes") / pl.col("total"))
        )


_SEPARATOR = "\x1f"


def _one_verdict() -> pl.Expr:
    return pl.col("labels").list.sort().list.join(_SEPARATOR)


def _merged_orders(valid: pl.DataFrame) -> pl.DataFrame:
    """problem, verdict (low, tie, high) and votes, after merging the two orders of each comparison."""
    forward = pl.col("target_ids").list.first() == pl.col("low")
    margin = (pl.col("scores").list.first() - pl.col("scores").list.last()).sign()
    unit = ["problem", "annotator", "criterion_id", "replicate"]
    votes = valid.select(
        *unit, "annotation_id", forward=forward, vote=pl.when(forward).then(margin).otherwise(-margin)
    ).sort(*unit, "forward", "vote", "annotation_id")
    # The k-th of one order meets the k-th of the other; what has no partner is a vote by itself.
    votes = votes.with_columns(k=pl.int_range(pl.len()).over(*unit, "forward"))
    merged = votes.group_by(*unit, "k").agg(least=pl.col("vote").min(), most=pl.col("vote").max())
    vote = pl.when(pl.col("least") == pl.col("most")).then(pl.col("least")).otherwise(0.0)
    verdict = vote.replace_strict({1.0: "low", 0.0: "tie", -1.0: "high"}, return_dtype=pl.String)
    return merged.select("problem", verdict=verdict).group_by("problem", "verdict").len("votes")
