"""What a dataset's calls cost, by step, model and day, and what a verdict of each annotator came to."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from prefdata.dataset import Dataset, Snapshot
from prefdata.dataset.parts import COMMIT

AMOUNTS = ("prompt_tokens", "completion_tokens", "money")


def costs(dataset: Dataset, *, pipeline: str | None = None) -> pl.DataFrame:
    """The calls that were made, whether what came of them is still live or not.

    Args:
        dataset: which; one that is pinned to a commit is described as it was then.
        pipeline: only calls of steps that ever belonged to this pipeline.

    Returns:
        step, model, day, paid, cached, failed, prompt_tokens, completion_tokens, money: by step in the order in which
        the log names them, model and day. The day is that of the call in UTC; of calls that do not say when they were
        made, that of the commit. The three counts are disjoint: answers paid for, answers from a cache, and requests
        without an answer. Amounts are of what was paid, also for failed requests; null where nothing is known.
    """
    snapshot = dataset.snapshot
    calls = _of_pipeline(dataset.rows("calls"), snapshot, pipeline)
    days = pl.DataFrame(
        {
            COMMIT: [commit.number for commit in snapshot.commits],
            "_day": [datetime.fromisoformat(commit.time).date() for commit in snapshot.commits],
        },
        schema={COMMIT: pl.Int64, "_day": pl.Date},
    )
    order = {step: place for place, step in enumerate(snapshot.steps)}
    return (
        calls.join(days.lazy(), on=COMMIT, how="left")
        .with_columns(pl.coalesce(pl.col("created_at").dt.date(), "_day").alias("day"))
        .group_by("step", "model", "day")
        .agg(_sums())
        .collect()
        .sort(pl.col("step").replace_strict(order, default=len(order), return_dtype=pl.Int64), "step", "model", "day")
    )


def total(by: pl.DataFrame) -> pl.DataFrame:
    """One row: the sums of what `costs` returns."""
    counts = pl.col("paid", "cached", "failed").sum()
    return by.select(counts, *(_known_sum(pl.col(name)) for name in AMOUNTS))


def verdict_prices(dataset: Dataset, *, pipeline: str | None = None) -> pl.DataFrame:
    """What a valid judgement cost, by annotator: all that was paid in its steps, over its judgements with a verdict.

    Args:
        dataset: as for `costs`.
        pipeline: as for `costs`.

    Returns:
        annotator, verdicts (judgements whose last revision is ok), money (USD, null where no call has a price), each
        (money over verdicts). Annotators that share a step have no price of their own, and are left out, as are those
        that nobody was paid for.
    """
    paid = _of_pipeline(dataset.rows("calls"), dataset.snapshot, pipeline).filter(~pl.col("cached").fill_null(False))
    spent = paid.group_by("step").agg(_known_sum(pl.col("money"))).filter(pl.col("money").is_not_null())
    judged = dataset.rows("annotations").filter(~pl.col("source").is_in(["human", "consensus"]))
    alone = judged.select("step", "annotator").unique().filter(pl.len().over("step") == 1)
    last = judged.sort("revision", COMMIT).unique("annotation_id", keep="last").filter(pl.col("status") == "ok")
    verdicts = last.group_by("annotator").agg(pl.len().alias("verdicts"))
    money = spent.join(alone, on="step").group_by("annotator").agg(pl.col("money").sum())
    found = verdicts.join(money, on="annotator").with_columns((pl.col("money") / pl.col("verdicts")).alias("each"))
    return found.sort("annotator").collect()


def _of_pipeline(calls: pl.LazyFrame, snapshot: Snapshot, pipeline: str | None) -> pl.LazyFrame:
    if pipeline is None:
        return calls
    plans = [commit.plan for commit in snapshot.commits if commit.plan and commit.plan.pipeline == pipeline]
    return calls.filter(pl.col("step").is_in(sorted({step for plan in plans for step in plan.steps})))


def _sums() -> list[pl.Expr]:
    cached, failed = pl.col("cached").fill_null(False), pl.col("error").is_not_null()
    return [
        (~cached & ~failed).sum().alias("paid"),
        (cached & ~failed).sum().alias("cached"),
        failed.sum().alias("failed"),
        *(_known_sum(pl.col(name).filter(~cached)) for name in AMOUNTS),
    ]


def _known_sum(column: pl.Expr) -> pl.Expr:
    """The sum; null where nothing is known, which is not zero."""
    return pl.when(column.is_not_null().any()).then(column.sum())
