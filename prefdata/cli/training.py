"""train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output, trainer_errors


def train(
    config: Annotated[Path | None, typer.Argument(help="A YAML file with any of the options.")] = None,
    data: Annotated[Path | None, typer.Option(help="An exported Parquet file, or a folder of a dataset.")] = None,
    model: Annotated[str | None, typer.Option(help="A folder, a hub id, or smollm2-135m-instruct.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="dpo, plackett-luce, ... (prefdata losses), or one of your plugins'.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write.")] = None,
    max_steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps.")] = None,
    lora: Annotated[int | None, typer.Option(min=0, help="Rank of the LoRA adapters; 0 trains all weights.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="reference.parquet of an earlier run, or a model's folder.")
    ] = None,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A Python file that registers losses.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Any other option, or one of the loss: key=value.")
    ] = None,
) -> None:
    """Train a model on an exported file, and write a folder that transformers loads.

    A run that was interrupted goes on where it was when the same command is given again.

    Example: `prefdata train --data pairs.parquet --model smollm2-135m-instruct --loss dpo --out model`
    """
    from prefdata.engines.models import resolve
    from prefdata.train import TrainConfig
    from prefdata.train import train as run_training
    from prefdata.train.data import check_file
    from prefdata.train.screen import INTERRUPTED

    given, where = _given(config, sets, bool(data))
    options = {"data": data, "model": model, "loss": loss, "out": out, "max_steps": max_steps, "lora": lora}
    options["reference"] = reference
    given.update({key: value for key, value in options.items() if value is not None})
    if plugin:
        earlier = given.get("plugins") or ()
        given["plugins"] = [*((earlier,) if isinstance(earlier, str) else earlier), *plugin]
    try:
        with trainer_errors():
            asked = TrainConfig.from_mapping(given, where)
            check_file(asked.data)
            if not (Path(asked.model) / "adapter_config.json").is_file():  # adapters, which are merged into their base
                asked = replace(asked, model=resolve(asked.model))
            named = asked.reference is not None and not asked.reference.endswith(".parquet")
            if named and not Path(str(asked.reference)).exists():
                asked = replace(asked, reference=resolve(str(asked.reference)))
            result = run_training(asked, say=lambda line: errors.print(escape(line)))
    except KeyboardInterrupt:
        errors.print(INTERRUPTED)
        raise typer.Exit(130) from None
    output.print(escape(str(result.out)))


def _given(config: Path | None, sets: list[str] | None, named: bool) -> tuple[dict[str, Any], str]:
    """What the file and `--set` ask for, and the file's name for an error; `named`: the data have a flag of their own.

    Raises:
        PrefdataError: one of them cannot be read.
    """
    import yaml

    from prefdata.errors import PrefdataError

    given: dict[str, Any] = {}
    where = "train"
    if config is not None:
        where = str(config)
        try:
            given = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            hint = "" if named else " (a YAML file of options stands there; the data are named with --data FILE)"
            raise PrefdataError(f"{config} cannot be read: {' '.join(str(error).split())}{hint}") from error
        if not isinstance(given, dict):
            raise PrefdataError(f"{config}: it holds options, one `key: value` a line")
    for assignment in sets or ():
        key, equals, text = assignment.partition("=")
        if not equals:
            raise PrefdataError(f"--set {assignment}: it is written key=value")
        try:
            given[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            raise PrefdataError(f"--set {assignment}: the value is not YAML: {problem}") from error
    return given, where
