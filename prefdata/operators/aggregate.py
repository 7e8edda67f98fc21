"""Consensus: many annotations of the same responses become one, under the same prompt and aspect.

The three rules differ in what they need. `aggregate.mean` needs scores on one scale, `aggregate.majority` verdicts,
`aggregate.bradley_terry` any order at all: it is the one to take where annotators of different kinds meet.

What is missing is never a zero: annotations without scores are left out, and what has fewer than `min_valid` valid ones
becomes a row with status `abstain`. No rule reads consensus rows, so consensus never feeds on consensus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import erf, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from prefdata.operators.evidence import (
    CONTEXT,
    ORDERING,
    VALID,
    coded,
    comparisons,
    digests,
    directed,
    first_match,
    lists_of,
    selected,
)
from prefdata.operators.scales import Normalise, check_alike, normalised
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row, annotation
from prefdata.stats import DEFAULT_PRIOR, bradley_terry_batch

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_CELLS = 4_000_000
"""Cells of the win tables that are held at once: bounds memory."""


class Aggregate(TableStep):
    """What the rules of aggregation share: which annotations count, and how many a verdict needs."""

    reads: ClassVar[frozenset[str]] = frozenset({"annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({CONSENSUS})
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
        made = list(self.consensus(rows, context))
        abstained = sum(row["status"] == "abstain" for row in made)
        if abstained:
            context.log(f"{abstained} of {len(made)} verdicts are abstentions: too few valid annotations")
        return {"annotations": made}

    def consensus(self, rows: pl.DataFrame, context: Context) -> Iterator[Row]:
        """The consensus of these annotations (any status, target response)."""
        raise NotImplementedError

    def asked(self) -> list[Any]:
        """What the id of a consensus row hashes besides what was read. The view only says what is read."""
        settings = self.resolved()
        settings.pop("view", None)
        return [self.kind, self.version, settings]

    def verdict(self, place: Mapping[str, Any], targets: list[str], read: str, **columns: Any) -> Row:
        """A consensus row; without scores or labels an abstention."""
        said = columns.get("scores") is not None or columns.get("labels") is not None
        return annotation(
            group_id=place["group_id"],
            prompt_id=place["prompt_id"],
            aspect=place["aspect"],
            target_ids=targets,
            annotator=f"consensus:{self.kind.removeprefix('aggregate.').replace('_', '-')}",
            source="consensus",
            status="ok" if said else "abstain",
            key=read,
            **columns,
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

    def consensus(self, rows: pl.DataFrame, context: Context) -> Iterator[Row]:
        """One row of scores for each prompt and aspect, and one abstention for the responses that have too few."""
        rows = directed(rows.filter(pl.col("protocol").is_in(ORDERING)), self.direction, self.kind)
        weight = {name: self.weight(name) for name in rows["annotator"].drop_nulls().unique().sort()}
        rows = coded(
            rows.filter(pl.col("annotator").replace_strict(weight, default=1.0, return_dtype=pl.Float64) > 0),
            CONTEXT,
            "problem",
        )
        if rows.is_empty():
            return
        read = digests(rows, "problem", VALID, self.asked())
        scored = self.scored(rows.filter(VALID), weight, context)
        for place in _targets_by_problem(rows):
            targets, scores, confidence = scored.get(place["problem"], ([], [], None))
            name = read[place["problem"]]
            if targets:
                yield self.verdict(place, targets, name, protocol="score", scores=scores, confidence=confidence)
            silent = sorted(set(place["targets"]) - set(targets))
            if silent:
                yield self.verdict(place, silent, name, protocol="score")

    def scored(
        self, valid: pl.DataFrame, weight: Mapping[str, float], context: Context
    ) -> dict[int, tuple[list[str], list[float], float | None]]:
        """Responses, their scores and the confidence, by problem."""
        raise NotImplementedError

    def weight(self, annotator: str) -> float:
        """Of the first pattern that fits."""
        pattern = first_match(annotator, self.weights)
        return 1.0 if pattern is None else self.weights[pattern]


def _targets_by_problem(rows: pl.DataFrame) -> Iterator[Row]:
    """problem, CONTEXT and the sorted responses that any annotation names, valid or not."""
    grouped = rows.group_by("problem", maintain_order=True).agg(
        *[pl.col(name).first() for name in CONTEXT], targets=pl.col("target_ids").list.explode()
    )
    for row in grouped.iter_rows(named=True):
        yield {**row, "targets": sorted(set(row["targets"]))}


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
    ) -> dict[int, tuple[list[str], list[float], float | None]]:
        """See `ScoredAggregate.scored`. The confidence is null: a mean states none."""
        entries = valid.select(
            "problem", "aspect", "annotator", "protocol", "criterion_id", target="target_ids", score="scores"
        ).explode("target", "score")
        if self.normalise is None:
            check_alike(entries, self.kind)
        entries = coded(entries, ["problem", "target"], "node")
        node, score = entries["node"].to_numpy(), entries["score"].to_numpy()
        voice = entries.select(pl.struct("problem", "annotator", "protocol", "criterion_id").rank("dense")).to_series()
        score = normalised(voice.to_numpy().astype(np.int64), node, score, self.normalise or "none")
        silent = np.isnan(score)
        if silent.any():
            context.log(f"{int(silent.sum())} scores left out: the only response their annotator scored")
        w = entries["annotator"].replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64).to_numpy()
        mean, count = _means(node[~silent], score[~silent], w[~silent], int(node.max(initial=-1)) + 1)
        first = entries.unique("node", maintain_order=True).select("problem", "target", "node")
        result: dict[int, tuple[list[str], list[float], float | None]] = {}
        for problem, target, number in first.iter_rows():
            if count[number] >= self.min_valid:
                targets, scores, _ = result.setdefault(problem, ([], [], None))
                targets.append(target)
                scores.append(float(mean[number]))
        return result


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
    ) -> dict[int, tuple[list[str], list[float], float | None]]:
        """See `ScoredAggregate.scored`. A response needs `min_valid` lists that compare it with another."""
        number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
        found = comparisons(lists_of(valid)).join(
            number, on=CONTEXT, nulls_equal=True, how="left", maintain_order="left"
        )
        ends = pl.concat([found.select("problem", "list", target=end) for end in ("first", "second")])
        nodes = (
            ends.group_by("problem", "target")
            .agg(votes=pl.col("list").n_unique())
            .sort("problem", "target")
            .with_columns(pl.int_range(pl.len()).over("problem").alias("place"), pl.len().over("problem").alias("size"))
        )
        for end in ("first", "second"):
            found = found.join(
                nodes.select("problem", pl.col("target").alias(end), pl.col("place").alias(f"{end}_place"), "size"),
                on=["problem", end],
                how="left",
                maintain_order="left",
            ).rename({"size": f"{end}_size"})
        found = found.with_columns(
            pl.col("annotator").replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64).alias("weight")
        )
        targets = {
            problem: (names, np.array(votes))
            for problem, names, votes in nodes.group_by("problem", maintain_order=True)
            .agg("target", "votes")
            .iter_rows()
        }
        result: dict[int, tuple[list[str], list[float], float | None]] = {}
        for problem, strengths, covariance in self._fits(found):
            names, votes = targets[problem]
            kept = np.flatnonzero(votes >= self.min_valid)
            if len(kept) > 1:
                theta = strengths[kept] - (0 if len(kept) == len(names) else strengths[kept].mean())
                scores = (np.round(theta, 9) + 0.0).tolist()
                sure = _order_confidence(theta, covariance[np.ix_(kept, kept)])
                result[problem] = ([names[place] for place in kept], scores, sure)
        return result

    def _fits(self, found: pl.DataFrame) -> Iterator[tuple[int, FloatArray, FloatArray]]:
        """Problem, strengths and covariance; problems of one size are solved together."""
        problem, size = found["problem"].to_numpy(), found["first_size"].to_numpy().astype(np.int64)
        i, j = found["first_place"].to_numpy().astype(np.int64), found["second_place"].to_numpy().astype(np.int64)
        p, w = found["p"].to_numpy(), found["weight"].to_numpy()
        for n in np.unique(size).tolist():
            members = np.unique(problem[size == n])
            at_once = max(_CELLS // (n * n), 1)
            for chunk in (members[start : start + at_once] for start in range(0, len(members), at_once)):
                here = np.flatnonzero((size == n) & (problem >= chunk[0]) & (problem <= chunk[-1]))
                base = np.searchsorted(chunk, problem[here]) * n * n
                won, lost = base + i[here] * n + j[here], base + j[here] * n + i[here]
                cells = len(chunk) * n * n
                wins = np.bincount(won, weights=w[here] * p[here], minlength=cells).astype(np.float64)
                wins += np.bincount(lost, weights=w[here] * (1 - p[here]), minlength=cells)
                theta, covariance, _ = bradley_terry_batch(wins.reshape(-1, n, n), prior=self.prior)
                yield from zip(chunk.tolist(), theta, covariance, strict=True)


def _order_confidence(theta: FloatArray, covariance: FloatArray) -> float:
    i, j = np.triu_indices(len(theta), 1)
    error = np.sqrt(np.maximum(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j], 1e-300))
    return round(sum(erf(z / sqrt(2)) for z in (np.abs(theta[i] - theta[j]) / error).tolist()) / len(i), 9)


@step("aggregate.majority")
class Majority(Aggregate):
    """The most frequent verdict: over labels for each response, over comparisons for each pair.

    A comparison's verdict is first, second or tie. The two orders of one comparison by one annotator (same criterion
    and replicate) are merged to one vote first: the same response in both orders wins, anything else is a tie. Where
    two verdicts are equally frequent there is no majority, and the row abstains. The confidence is the winner's share
    of the votes. Annotations of other protocols are left out and counted.
    """

    def consensus(self, rows: pl.DataFrame, context: Context) -> Iterator[Row]:
        """Rows of protocol compare (scores 1 and 0, or 0.5 each) and label (one response each)."""
        other = rows.filter(~pl.col("protocol").is_in(["compare", "label"]))
        if len(other):
            kinds = ", ".join(sorted(other["protocol"].unique().to_list()))
            context.log(f"{len(other)} annotations are neither labels nor comparisons ({kinds}): left out")
        yield from self._compared(rows.filter(pl.col("protocol") == "compare"))
        yield from self._labelled(rows.filter(pl.col("protocol") == "label"))

    def _compared(self, rows: pl.DataFrame) -> Iterator[Row]:
        ends = rows.filter(pl.col("target_ids").list.len() == 2).with_columns(
            low=pl.col("target_ids").list.min(), high=pl.col("target_ids").list.max()
        )
        ends = coded(ends, [*CONTEXT, "low", "high"], "problem")
        if ends.is_empty():
            return
        read = digests(ends, "problem", VALID, self.asked())
        votes = {problem: counts for problem, *counts in _merged_orders(ends.filter(VALID)).iter_rows()}
        for row in ends.unique("problem", maintain_order=True).iter_rows(named=True):
            counts = votes.get(row["problem"], [0, 0, 0])
            winner = self._winner(counts)
            scores = None if winner is None else [1 - winner / 2, winner / 2]
            share = None if winner is None else counts[winner] / sum(counts)
            pair = [row["low"], row["high"]]
            yield self.verdict(row, pair, read[row["problem"]], protocol="compare", scores=scores, confidence=share)

    def _labelled(self, rows: pl.DataFrame) -> Iterator[Row]:
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
            return
        given = pl.col("verdict").is_not_null()
        read = digests(each, "problem", given, self.asked())
        counted = each.filter(given).group_by("problem", "verdict").len().sort("problem", "verdict")
        votes: dict[int, dict[str, int]] = {}
        for problem, verdict, number in counted.iter_rows():
            votes.setdefault(problem, {})[verdict] = number
        for row in each.unique("problem", maintain_order=True).iter_rows(named=True):
            counts = votes.get(row["problem"], {})
            winner = self._winner(list(counts.values()))
            labels = None if winner is None else list(counts)[winner].split(_SEPARATOR)
            share = None if winner is None else max(counts.values()) / sum(counts.values())
            yield self.verdict(
                row, [row["named"]], read[row["problem"]], protocol="label", labels=labels, confidence=share
            )

    def _winner(self, counts: list[int]) -> int | None:
        """Which verdict has the most votes; None where two have, or there are fewer than `min_valid`."""
        if sum(counts) < self.min_valid or counts.count(max(counts)) > 1:
            return None
        return counts.index(max(counts))


_SEPARATOR = "\x1f"


def _one_verdict() -> pl.Expr:
    return pl.col("labels").list.sort().list.join(_SEPARATOR)


def _merged_orders(valid: pl.DataFrame) -> pl.DataFrame:
    """Problem and the votes for low, for a tie, for high, after merging the two orders of each comparison."""
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
    return (
        merged.select("problem", vote=vote)
        .group_by("problem")
        .agg(low=(pl.col("vote") == 1).sum(), tie=(pl.col("vote") == 0).sum(), high=(pl.col("vote") == -1).sum())
    )
