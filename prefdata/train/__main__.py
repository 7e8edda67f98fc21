"""`python -m prefdata.train`: the trainer's command line where nothing but torch and transformers is installed.

It takes the flags of `prefdata train`, and may be started by `torchrun -m` or `accelerate launch -m`. Values of `--set`
are read as JSON where they are JSON, else as texts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefdata.train.config import TrainConfig
from prefdata.train.errors import TrainError
from prefdata.train.screen import INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns 0, or 2 where something cannot be used and 130 after Ctrl-C, said in a sentence."""
    try:
        config = configured(_parser().parse_args(arguments))
        from prefdata.train.loop import train

        train(config, say=lambda line: print(line, file=sys.stderr, flush=True))
    except TrainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"error: {error}: put that right, and run the same command again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":  # a launcher started several of us
        print(config.out)
    return 0


def configured(given: argparse.Namespace) -> TrainConfig:
    """The configuration that the arguments ask for; a flag comes before the file.

    Raises:
        TrainError: the file or a value cannot be used.
    """
    where, mapping = "train", {}
    if given.config is not None:
        where = str(given.config)
        try:
            mapping = json.loads(given.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = "; YAML is read by `prefdata train`" if given.config.suffix in (".yaml", ".yml") else ""
            raise TrainError(f"{given.config} cannot be read as JSON: {error}{hint}") from None
        if not isinstance(mapping, dict):
            raise TrainError(f"{given.config}: it holds options, as one JSON object")
    for assignment in given.set:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise TrainError(f"--set {assignment}: it is written key=value")
        mapping[key] = json_or_text(text)
    flags = ("data", "model", "loss", "out", "max_steps", "lora", "reference")
    mapping.update({name: getattr(given, name) for name in flags if getattr(given, name) is not None})
    if given.plugin:
        earlier = mapping.get("plugins") or ()
        mapping["plugins"] = [*((earlier,) if isinstance(earlier, str) else earlier), *given.plugin]
    return TrainConfig.from_mapping(mapping, where)


def json_or_text(text: str) -> Any:
    """`0.1` and `true` as what they say, anything else as it is written."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prefdata.train",
        description="Train a model on an exported file, and write a folder that transformers loads.",
    )
    parser.add_argument("config", nargs="?", type=Path, help="a JSON file with any of the options")
    parser.add_argument("--data", type=Path, help="an exported Parquet file, or a folder of a dataset")
    parser.add_argument("--model", help="a folder or a hub id")
    parser.add_argument("--loss", help="dpo, plackett-luce, ..., or one of your plugins'")
    parser.add_argument("--out", type=Path, help="the folder to write")
    parser.add_argument("--steps", type=int, dest="max_steps", help="optimiser steps")
    parser.add_argument("--lora", type=int, help="rank of the LoRA adapters; 0 trains all weights")
    parser.add_argument("--reference", help="reference.parquet of an earlier run, or a model's folder")
    parser.add_argument("--plugin", action="append", default=[], help="a Python file that registers losses")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other option, or one of the loss"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
