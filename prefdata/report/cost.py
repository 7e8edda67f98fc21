"""What the model calls of a dataset cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from prefdata.dataset import Snapshot
from prefdata.report.flow import step_names
from prefdata.report.numbers import Entry

_SUMS = ("prompt_tokens", "completion_tokens", "money", "seconds")


def cost(view: Mapping[str, pl.LazyFrame], snapshot: Snapshot, live: Collection[str], pipeline: str | None) -> Entry:
    """Calls, tokens, money and seconds by step and model, with their totals.

    Every call that was made counts, whether what came of it is still live or not. Tokens, money and seconds are of the
    calls that were paid; what came from a cache stands in `cached` alone. Money is USD, 0 where an engine has no
    price; seconds are the calls' own, added up, so calls in parallel add up to more than the time that passed.

    Args:
        view: for its table `calls`.
        snapshot: names the steps, and says which ever belonged to a pipeline.
        live: the steps that are live.
        pipeline: only this pipeline's steps.

    Returns:
        by (step, name, live, model, calls, paid, cached, failed, tokens, ...) and total.
    """
    calls = counted_calls(view)
    if pipeline is not None:
        plans = [commit.plan for commit in snapshot.commits if commit.plan and commit.plan.pipeline == pipeline]
        calls = calls.filter(pl.col("step").is_in({step for plan in plans for step in plan.steps}))
    order = {step: place for place, step in enumerate(snapshot.steps)}
    names = step_names(snapshot)
    grouped = calls.group_by("step", "model").agg(_totals()).to_dicts()
    grouped.sort(key=lambda row: (order.get(row["step"], len(order)), str(row["step"]), str(row["model"])))
    by = [
        {
            "step": row["step"],
            "name": names.get(row["step"], row["step"]),
            "live": row["step"] in live,
            **_with_sum(row),
        }
        for row in grouped
    ]
    return {"by": by, "total": _with_sum(calls.select(_totals()).to_dicts()[0])}


def counted_calls(view: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """The calls, each bill once: a request that was answered anew and from a cache is the one that was paid."""
    found = view["calls"].drop("raw").with_columns(pl.col("cached").fill_null(False)).collect()
    # An answer is paid once; a call may have bills besides, of attempts that failed and were paid for.
    attempt = pl.when(pl.col("error").is_not_null()).then("created_at").alias("_attempt")
    billed = found.filter(~pl.col("cached")).with_columns(attempt)
    billed = billed.unique(["call_id", "error", "_attempt"], keep="first", maintain_order=True).drop("_attempt")
    others = found.filter("cached").unique("call_id", keep="first", maintain_order=True)
    return pl.concat([billed, others.join(billed, on="call_id", how="anti", maintain_order="left")])


def _totals() -> list[pl.Expr]:
    paid = ~pl.col("cached")
    sums = [
        # A sum over nothing but nulls is not known, which is not zero.
        pl.when(pl.col(name).filter(paid).is_not_null().any()).then(pl.col(name).filter(paid).sum()).alias(name)
        for name in _SUMS
    ]
    failed = pl.col("error").is_not_null().sum().alias("failed")
    return [pl.len().alias("calls"), paid.sum().alias("paid"), pl.col("cached").sum(), failed, *sums]


def _with_sum(row: Entry) -> Entry:
    known = [row[name] for name in ("prompt_tokens", "completion_tokens") if row[name] is not None]
    return {**row, "tokens": sum(known) if known else None}
