"""run, plan, reparse, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output, short, table

if TYPE_CHECKING:
    from prefdata.pipeline.reparse import Reparsed

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
    processes: Annotated[int, typer.Option(min=1, help="Compute column steps in so many processes, by shards.")] = 1,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Of a dataset that is made now: about one for each million annotations.")
    ] = None,
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
        processes=processes,
        shards=shards,
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


def reparse(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)],
    pipeline: Annotated[str | None, typer.Option(help="Only what this pipeline's judges said.")] = None,
    status: Annotated[str, typer.Option(help="Only judgements with these statuses, with commas between.")] = "",
    plugin: Annotated[list[Path] | None, typer.Option(help="A Python file with judges of your own.")] = None,
) -> None:
    """Read again what judges answered, with the parser as it is now. Asks no model and needs none.

    Example: `prefdata reparse runs/mine --status unparsed`
    """
    from prefdata.pipeline.reparse import reparse as read_again

    done = read_again(
        dataset,
        pipeline=pipeline,
        statuses=_statuses(status),
        plugins=plugin or (),
        say=lambda message: errors.print(escape(message)),
    )
    _show_reparsed(done)


def _show_reparsed(done: Reparsed) -> None:
    if done.changed:
        shown = table("read otherwise now", "annotator", "before", "now", "judgements", numbers=("judgements",))
        for (annotator, before, now), count in sorted(done.changed.items()):
            shown.add_row(escape(annotator), before, now, f"{count:,}")
        output.print(shown)
    output.print(f"{sum(done.changed.values()):,} judgements read otherwise, {done.unchanged:,} as before")
    if done.unkept:
        output.print(f"{done.unkept:,} left alone: no answer is kept, or not the whole of it")
    if done.unmet:
        output.print(f"{done.unmet:,} left alone: their step would not ask this now")
    if done.textless:
        counts = ", ".join(f"{count:,} {escape(annotator)}" for annotator, count in done.textless.items())
        output.print(f"left alone, because no text is read there: {counts}")
    if done.changed:
        output.print("what rests on them is computed anew by the next run of the pipeline, which asks nothing for it")


recipes = typer.Typer(help="The pipelines that come with prefdata and its plugins.", invoke_without_command=True)


@recipes.callback()
def _list(context: typer.Context) -> None:
    """List the recipes: the paper that each follows, and what it needs before it runs.

    Example: `prefdata recipes`
    """
    if context.invoked_subcommand is not None:
        return
    from prefdata.errors import PipelineError
    from prefdata.pipeline.recipe import header_of
    from prefdata.pipeline.spec import recipes as known

    shown = table("", "recipe", "what it makes", "paper", "needs")
    for name, path in sorted(known().items()):
        try:
            recipe, description = header_of(path)
        except PipelineError as error:  # one plugin's mistake must not hide the others' recipes
            shown.add_row(escape(name), escape(str(error)), "", "")
            continue
        if recipe is None:
            shown.add_row(escape(name), escape(short(description, 200)), "", "")
        else:
            shown.add_row(*map(escape, (name, recipe.title, recipe.cited, "; ".join(recipe.needs) or "nothing")))
    output.print(shown)
    output.print("`prefdata recipes show NAME` prints one, with what it approximates; `prefdata run NAME` runs it")


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
