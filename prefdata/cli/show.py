"""show: what a dataset holds, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import output, short, table

if TYPE_CHECKING:
    import polars as pl

    from prefdata.dataset import Dataset
    from prefdata.pipeline.status import Status


def show(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)],
    at: Annotated[int | None, typer.Option(help="As of this commit.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only what this pipeline made, beside imports.")] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Show so many example pairs, each of another prompt.")] = 0,
    cost: Annotated[bool, typer.Option("--cost", help="What was paid, by step, model and day, instead.")] = False,
) -> None:
    """Show what a dataset holds: steps, drops, judgements without a verdict, cost, and what is not finished.

    Example: `prefdata show runs/quickstart --pairs 3`
    """
    from prefdata.dataset import Dataset
    from prefdata.pipeline.status import status

    opened = Dataset(dataset, at)
    if cost:
        opened.view(pipeline=pipeline)  # a sentence where there is no such pipeline
        _show_cost(opened, pipeline)
        return
    _show(status(opened, pipeline=pipeline))
    if pairs:
        _show_pairs(opened, pairs)


def _show_pairs(opened: Dataset, count: int) -> None:
    import polars as pl

    found = opened.pairs()
    if found.is_empty():
        empty = opened.preferences.select(pl.len()).collect().item() == 0
        why = (
            "no preferences are live" if empty else "no live preference holds two responses, one better than the other"
        )
        output.print(f"no pairs to show: {why}")
    shown = found.unique("group_id", keep="first", maintain_order=True).head(count)  # of different prompts
    for number, pair in enumerate(shown.to_dicts(), start=1):
        output.print(f"\n[bold]pair {number}[/]  {escape(short(pair['prompt'], 300))}")
        output.print(f"  [green]chosen[/]   {pair['score_chosen']:.3f}  {escape(short(pair['chosen'], 400))}")
        output.print(f"  [red]rejected[/] {pair['score_rejected']:.3f}  {escape(short(pair['rejected'], 400))}")


def _brief(fingerprint: str) -> str:
    """`name@digest` with the first digits of the digest: enough to tell two runs of a step apart."""
    name, at, digest = fingerprint.rpartition("@")
    return escape(f"{name}{at}{digest[:6]}")


def _show(found: Status) -> None:
    output.print(f"commit {found.commit}: " + ", ".join(f"{count:,} {name}" for name, count in found.counts.items()))
    steps = table("steps", "pipeline", "step", "live rows", "note")
    for step in found.steps:
        rows = ", ".join(f"{count:,} {name}" for name, count in step.rows.items())
        steps.add_row(escape(step.pipeline), _brief(step.fingerprint), rows, escape(step.note))
    output.print(steps)
    if found.hidden:
        counts = ", ".join(f"{count:,} {name}" for name, count in found.hidden.items())
        output.print(f"hidden, because what they are about is not in the view: {counts}")
    if found.dropped.height:
        dropped = table("dropped", "table", "rows", "step", "reason", numbers=("rows",))
        for row in found.dropped.to_dicts():
            dropped.add_row(row["table"], f"{row['n']:,}", _brief(row["step"]), escape(row["reason"]))
        output.print(dropped)
    _show_unanswered(found)
    (spent,) = found.cost.to_dicts()
    if spent["paid"] or spent["cached"] or spent["failed"]:
        output.print(f"calls: {_amounts(spent)} (--cost: by step, model and day)")


def _show_unanswered(found: Status) -> None:
    from prefdata.pipeline.status import MEANINGS

    present: set[str] = set()
    if found.statuses.height:
        without = table("judgements without a verdict", "annotator", "status", "rows", numbers=("rows",))
        for row in found.statuses.to_dicts():
            without.add_row(escape(row["annotator"]), row["status"], f"{row['n']:,}")
            present.add(row["status"])
        output.print(without)
    if found.unmade.height:
        counts = ", ".join(f"{row['n']:,} {row['status']}" for row in found.unmade.to_dicts())
        output.print(f"responses that could not be made: {counts}")
        present.update(found.unmade["status"])
    for status, meaning in MEANINGS.items():
        if status in present:
            output.print(f"  {status}: {escape(meaning)}")


def _amounts(spent: dict[str, int | float | None]) -> str:
    """`12 paid, 3 from the cache, 1 failed; 1,200 tokens in, 300 out; 0.0123 USD`."""
    names = {"paid": "paid", "cached": "from the cache", "failed": "failed"}
    counts = ", ".join(f"{spent[key]:,} {name}" for key, name in names.items() if key == "paid" or spent[key])
    tokens = f"{spent['prompt_tokens'] or 0:,} tokens in, {spent['completion_tokens'] or 0:,} out"
    return f"{counts}; {tokens}" + ("" if spent["money"] is None else f"; {spent['money']:,.4f} USD")


def _show_cost(opened: Dataset, pipeline: str | None) -> None:
    from prefdata.pipeline.costs import costs, total, verdict_prices

    by = costs(opened, pipeline=pipeline)
    if by.is_empty():
        output.print("no model was called")
        return
    numbers = ("day (UTC)", "paid", "cached", "failed", "tokens in", "tokens out", "USD")
    shown = table("calls", "step", "model", *numbers, numbers=numbers)
    for row in by.to_dicts():
        shown.add_row(_brief(row["step"] or ""), escape(row["model"] or ""), str(row["day"]), *_cells(row))
    shown.add_section()
    shown.add_row("total", "", "", *_cells(total(by).to_dicts()[0]))
    output.print(shown)
    prices = verdict_prices(opened, pipeline=pipeline)
    if prices.height:
        _show_prices(prices)


def _show_prices(prices: pl.DataFrame) -> None:
    numbers = ("verdicts", "USD", "USD each")
    shown = table("judgements with a verdict", "annotator", *numbers, numbers=numbers)
    for row in prices.to_dicts():
        cells = (f"{row['verdicts']:,}", f"{row['money']:,.4f}", f"{row['each']:,.6f}")
        shown.add_row(escape(row["annotator"]), *cells)
    output.print(shown)


def _cells(row: dict[str, int | float | None]) -> list[str]:
    """Counts and amounts; what is not known stays empty."""
    counts = [f"{row[key]:,}" for key in ("paid", "cached", "failed")]
    tokens = ["" if row[key] is None else f"{row[key]:,}" for key in ("prompt_tokens", "completion_tokens")]
    return [*counts, *tokens, "" if row["money"] is None else f"{row['money']:,.4f}"]
