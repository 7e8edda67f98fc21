"""import, export, sql, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output

Folder = Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)]


def import_(
    format: Annotated[
        str,
        typer.Argument(
            help="prompts, tasks, ranked, trl-pairs, label-studio, argilla, hh-rlhf, oasst, ukpconvarg, pandalm, "
            "lamp, alpacaeval, prefdata."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="A file or folder; for prefdata another dataset.")],
    dataset: Folder,
    strict: Annotated[bool, typer.Option("--strict", help="Take nothing where a row cannot be read.")] = False,
) -> None:
    """Bring other people's data into a dataset, which is made where there is none. Importing again adds nothing.

    A row that cannot be read is left out, and kept with the reason in the dataset's `quarantine/`.

    Example: `prefdata import hh-rlhf downloads/hh runs/hh`
    """
    from prefdata.formats.merge import import_into

    told = import_into(format, source, dataset, strict=strict)
    for line in told.lines:
        output.print(escape(line))
    for warning in told.warnings:
        errors.print(f"[bold]WARNING[/]: {escape(warning)}")


def export(
    dataset: Folder,
    format: Annotated[
        str, typer.Option(help="trl-pairs, trl-pairs-conversational, lists, unpaired, label-studio, argilla, ...")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    from_step: Annotated[str | None, typer.Option("--from", help="STEP or PIPELINE/STEP: only what it made.")] = None,
    view: Annotated[str, typer.Option(help="The named view whose drops hold beside main's.")] = "main",
    template: Annotated[
        str | None, typer.Option(help="A model whose chat template makes the prompts; none: contents, joined.")
    ] = None,
    ties: Annotated[bool, typer.Option("--ties", help="Write pairs of equal worth too, with p 0.5.")] = False,
    from_lists: Annotated[bool, typer.Option("--from-lists", help="unpaired: from winners and losers.")] = False,
) -> None:
    """Write the live preferences as a training file, or prompts, responses and annotations for a labelling tool.

    Example: `prefdata export runs/mine --format trl-pairs --out exports/pairs.parquet`
    """
    from prefdata.api import export as export_dataset

    export_dataset(
        dataset,
        out,
        format=format,
        from_step=from_step,
        view=view,
        template=template,
        ties=ties,
        from_lists=from_lists,
        say=lambda message: errors.print(escape(message)),
    )


def sql(
    dataset: Folder,
    query: Annotated[str, typer.Argument(help="DuckDB SQL over prompts, responses, annotations, ...")],
    at: Annotated[int | None, typer.Option(help="As of this commit.")] = None,
) -> None:
    """Ask a dataset in SQL.

    Example: `prefdata sql runs/mine "select annotator, count(*) from annotations group by 1"`
    """
    import polars as pl

    from prefdata.dataset import Dataset

    found = Dataset(dataset, at).sql(query)
    with pl.Config(tbl_rows=200, tbl_cols=-1, fmt_str_lengths=120, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        output.print(escape(str(found)))


def report(
    dataset: Folder,
    json: Annotated[bool, typer.Option("--json", help="Print report.json as well.")] = False,
    reference: Annotated[str | None, typer.Option(help="Hold the others against these annotators: human:*")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only what this pipeline made, beside imports.")] = None,
) -> None:
    """Write report.html and report.json into the dataset's folder: flow, cost, annotators, agreement, examples.

    Example: `prefdata report runs/mine --reference 'human:*'`
    """
    from prefdata.dataset import Dataset
    from prefdata.report import write_report

    found = write_report(Dataset(dataset), dataset, reference=reference, pipeline=pipeline)
    if reference is not None and not found["reference"]["annotators"]:
        errors.print(
            f"[bold]WARNING[/]: no annotator here is called {escape(reference)}, so nothing is held against it; "
            "the page lists them all"
        )
    if json:
        output.file.write((dataset / "report.json").read_text(encoding="utf-8") + "\n")
    else:
        output.print(escape(str(dataset / "report.html")))
