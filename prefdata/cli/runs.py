"""run, plan, show, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output, table

if TYPE_CHECKING:
    from prefdata.dataset import Dataset
    from prefdata.pipeline.status import Status

Pipeline = Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe.", show_default=False)]
DatasetOption = Annotated[
    Path | None, typer.Option("--dataset", help="The dataset's folder; runs/NAME unless given.", show_default=False)
]
Name = Annotated[str | None, typer.Option("--as", help="Run it under this name, beside the others.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Work on the first so many prompts only.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="step.key=value, or engines.NAME.key=value.")]
Retry = Annotated[str, typer.Option(help="Statuses to ask again beside failed and timeout, with commas between.")]


def _statuses(text: str) -> list[str]:
    return [status.strip() for status in text.split(",") if status.strip()]


def run(
    pipeline: Pipeline,
    dataset: DatasetOption = None,
    name: Name = None,
    limit: Limit = None,
    sets: Sets = None,
    retry: Retry = "",
    budget: Annotated[str | None, typer.Option(help="200000tokens or 5.00usd: nothing is asked beyond it.")] = None,
) -> None:
    """Run a pipeline. What is done is not done again; Ctrl-C and run it again as you like.

    Example: `prefdata run quickstart --dataset runs/mine --set prompts.path=prompts.jsonl --budget 5.00usd`

    Exit codes: 0 all done; 1 an error; 3 stopped by the budget or because an engine was gone; 130 and 143 stopped by
    Ctrl-C or SIGTERM. After 3, 130 and 143 what was done is kept: the same command goes on from there.
    """
    from prefdata.pipeline.display import Display
    from prefdata.pipeline.run import run as run_pipeline

    result = run_pipeline(
        pipeline,
        dataset,
        name=name,
        sets=sets or (),
        limit=limit,
        retry=_statuses(retry),
        budget=budget,
        display=Display(errors),
    )
    if result.stopped:
        errors.print(f"[bold]{escape(result.stopped)}[/]")
        errors.print(f"what was done is kept in {escape(str(result.dataset))}; run the same command to go on")
    else:
        output.print(f"{escape(str(result.dataset))} is up to date with {escape(result.pipeline)}")
    raise typer.Exit(result.exit_code)


def plan(
    pipeline: Pipeline,
    dataset: DatasetOption = None,
    name: Name = None,
    limit: Limit = None,
    sets: Sets = None,
    retry: Retry = "",
) -> None:
    """Say what a run would still ask and cost, before anything is asked.

    Example: `prefdata plan quickstart --dataset runs/mine`
    """
    from prefdata.pipeline.plan import plan as plan_pipeline

    found = plan_pipeline(pipeline, dataset, name=name, sets=sets or (), limit=limit, retry=_statuses(retry))
    shown = table(
        f"{found.pipeline} on {found.dataset}",
        *("step", "engine", "calls", "in the cache", "tokens", "USD"),
        numbers=("calls", "in the cache", "tokens", "USD"),
    )
    for step in found.steps:
        if step.engines:
            tokens = step.prompt_tokens + step.completion_tokens
            shown.add_row(
                escape(step.name),
                escape(", ".join(step.engines)),
                f"{'' if step.exact else '<= '}{step.calls:,}",
                f"{step.cached:,}",
                f"<= {tokens:,}" if tokens else "0",
                "" if step.money is None else f"<= {step.money:,.4f}",
            )
        else:
            shown.add_row(escape(step.name), "", "", "", "", "")
    output.print(shown)
    output.print(f"calls in all: {'' if found.exact else '<= '}{found.calls:,} (tokens are estimated from characters)")


def show(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)],
    at: Annotated[int | None, typer.Option(help="As of this commit.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only what this pipeline made, beside imports.")] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Show so many example pairs, each of another prompt.")] = 0,
) -> None:
    """Show what a dataset holds: steps, drops, judgements without a verdict, cost, and what is not finished.

    Example: `prefdata show runs/quickstart --pairs 3`
    """
    from prefdata.dataset import Dataset
    from prefdata.pipeline.status import status

    opened = Dataset(dataset, at)
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
        output.print(f"\n[bold]pair {number}[/]  {escape(_short(pair['prompt'], 300))}")
        output.print(f"  [green]chosen[/]   {pair['score_chosen']:.3f}  {escape(_short(pair['chosen'], 400))}")
        output.print(f"  [red]rejected[/] {pair['score_rejected']:.3f}  {escape(_short(pair['rejected'], 400))}")


def _short(text: str | None, limit: int) -> str:
    flat = " ".join((text or "").split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


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
    if found.statuses.height:
        without = table("judgements without a verdict", "annotator", "status", "rows", numbers=("rows",))
        for row in found.statuses.to_dicts():
            without.add_row(escape(row["annotator"]), row["status"], f"{row['n']:,}")
        output.print(without)
    if found.cost.height:
        cost = table(
            "calls",
            *("step", "model", "paid", "from the cache", "tokens in", "tokens out", "USD"),
            numbers=("paid", "from the cache", "tokens in", "tokens out", "USD"),
        )
        for row in found.cost.to_dicts():
            cost.add_row(
                _brief(row["step"]),
                escape(row["model"] or ""),
                f"{row['calls']:,}",
                f"{row['cached']:,}",
                f"{row['prompt_tokens'] or 0:,}",
                f"{row['completion_tokens'] or 0:,}",
                f"{row['money'] or 0:,.4f}",
            )
        output.print(cost)


recipes = typer.Typer(help="The pipelines that come with prefdata and its plugins.", invoke_without_command=True)


@recipes.callback()
def _list(context: typer.Context) -> None:
    """List the recipes.

    Example: `prefdata recipes`
    """
    if context.invoked_subcommand is not None:
        return
    import yaml

    from prefdata.pipeline.spec import recipes as known

    shown = table("", "recipe", "what it does")
    for name, path in sorted(known().items()):
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        shown.add_row(escape(name), escape(_short(document.get("description"), 400)))
    output.print(shown)


@recipes.command("show")
def _recipe(name: Annotated[str, typer.Argument(help="Of the recipe.", show_default=False)]) -> None:
    """Print a recipe, to read or to copy.

    Example: `prefdata recipes show quickstart > mine.yaml`
    """
    from prefdata.errors import PipelineError
    from prefdata.pipeline.registry import nearest
    from prefdata.pipeline.spec import recipes as known

    found = known()
    if name not in found:
        raise PipelineError(f"there is no recipe {name!r}{nearest(name, found)}")
    output.file.write(found[name].read_text(encoding="utf-8"))
