"""Runs on a tiny model, and what they leave, for the tests of the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefdata.train import TrainConfig
from prefdata.train.data import read_preferences
from prefdata.train.devices import connect
from prefdata.train.encoder import Encoder
from prefdata.train.losses import find_loss
from prefdata.train.model import load_policy
from prefdata.train.run import Run, prepared
from prefdata.train.screen import Screen
from prefdata.train.tokens import tokenise

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def quiet(_: str) -> None:
    pass


def config(data: Path, model: Path, out: Path, **rest: Any) -> TrainConfig:
    given = {"batch_size": 4, "learning_rate": 5e-3, "max_length": 200, "device": "cpu", "save_every": 0, **rest}
    if "epochs" not in given:
        given = {"max_steps": 3, **given}
    return TrainConfig(data=data, model=str(model), out=out, **given)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def run_of(chosen: TrainConfig, folder: Path) -> Run:
    """What `train` makes before the first step."""
    folder.mkdir(exist_ok=True)
    loss = find_loss(chosen.loss)
    options = loss.checked_options(chosen.given_loss_options, "test")
    needed = loss.needed(options)
    devices = connect(chosen)
    policy = load_policy(chosen, devices, loss.outputs(options))
    data = read_preferences(chosen.data)
    encoder = Encoder(policy.tokenizer, chosen.model, templated=data.templated, template=chosen.template)
    lists = tokenise(data, encoder, needed, max_length=chosen.max_length, overlong=chosen.overlong)
    screen = Screen(quiet)
    return prepared(chosen, devices, policy, loss, options, needed, lists, folder, "digest", screen)


def rich_rows(count: int = 4) -> list[dict[str, Any]]:
    """Lists that hold all that any loss reads: better answers are a's, worse ones z's, of unlike lengths."""
    rows = []
    for n in range(count):
        letters = ["a" * (3 + n % 3), "m" * (4 - n % 2), "z" * (2 + n % 4)]
        pairs = [(0, 1), (0, 2), (1, 2)]
        edges = [{"winner": a, "loser": b, "p": 0.9, "margin": 0.5, "weight": 1.0, "votes": 5} for a, b in pairs]
        values = {"factual": [0.0, 1.0, 1.0], "win_rate": [0.9, 0.5, 0.1], "relevance": [1.0, 0.5, 0.0]}
        values |= {"position": [1.0, 2.0, 3.0], **{name: [0.9, 0.4, 0.1] for name in ATTRIBUTES}}
        rows.append(
            {
                "responses": letters,
                "scores": [0.9, 0.5, 0.1],
                "edges": edges,
                "values": [{"name": name, "values": numbers} for name, numbers in values.items()],
                "rationales": [{"of": list(pair), "text": f"a comes first {n}"} for pair in pairs],
            }
        )
    return rows
