"""losses."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from prefdata.cli.screen import output, table, trainer_errors

if TYPE_CHECKING:
    from prefdata.train.losses import LossSpec

Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="A Python file that registers losses.")]

losses = typer.Typer(help="The losses that models are trained with.", invoke_without_command=True)


@losses.callback()
def _list(context: typer.Context, plugin: Plugins = None) -> None:
    """List the losses: over what each is taken, what it needs of the data, and where it comes from.

    Example: `prefdata losses`
    """
    if context.invoked_subcommand is not None:
        return
    from prefdata.train.losses.described import kind

    shown = table("", "loss", "over", "needs", "paper")
    shown.columns[0].no_wrap = True  # a name is there to be typed
    for name, spec in sorted(_known(plugin).items()):
        needed = sorted(spec.needed(spec.options) - {"edges"}, key=lambda need: (need == "reference", need))
        shown.add_row(*map(escape, (name, kind(spec), ", ".join(needed), spec.paper)))
    output.print(shown)
    output.print("`prefdata losses show NAME` says what one computes, and its options")


@losses.command("show")
def _show(
    name: Annotated[str, typer.Argument(help="Of the loss.", show_default=False)],
    plugin: Plugins = None,
) -> None:
    """Say what a loss computes, what it needs, and which options it takes.

    Example: `prefdata losses show plackett-luce`
    """
    from prefdata.train.losses import find_loss
    from prefdata.train.losses.described import kind, meanings, needs, text

    _known(plugin)
    with trainer_errors():
        spec = find_loss(name)
    output.print(f"[bold]{escape(spec.name)}[/]  {escape(text(spec))}\n")
    if spec.paper:
        output.print(f"paper: {escape(spec.paper)}")
    output.print(f"over:  {kind(spec)}")
    output.print(f"needs: {escape('; '.join(needs(spec)) or 'nothing but responses')}\n")
    shown = table("", "option", "default", "what it is")
    meant = meanings(spec)
    for option, value in spec.options.items():
        shown.add_row(escape(option), escape(_default(value)), escape(meant[option]))
    output.print(shown)
    plugins = "".join(f" --plugin {file}" for file in plugin or ())
    output.print(
        "\n" + escape(f"prefdata train --data FILE --model MODEL --loss {spec.name} --out DIR{plugins}{_set(spec)}")
    )


def _known(plugin: list[str] | None) -> dict[str, LossSpec]:
    """All losses, with the plugins'.

    Raises:
        PrefdataError: a plugin cannot be imported.
    """
    from prefdata.train.losses import LOSSES

    if plugin:
        from prefdata.train.config import load_plugins

        with trainer_errors():
            load_plugins(tuple(plugin))
    return LOSSES


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _set(spec: LossSpec) -> str:
    """How the first option is set on the command line."""
    first = next(iter(spec.options.items()), None)
    if first is None:
        return ""
    option, value = first
    return f" --set {option}={'VALUE' if value is inspect.Parameter.empty else _default(value)}"
