"""`prefdata score`: a model's numbers for every response of an export, in the columns of the table `token_scores`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.engines.models import require_local
from prefdata.errors import EngineError
from prefdata.evaluate.scoring import Loaded, Say, Settings, tokenised
from prefdata.train.data import read_preferences
from prefdata.train.preferences import TokenList
from prefdata.train.reference import Reference


def score_file(
    data: Path,
    model: str,
    out: Path,
    *,
    max_length: int = 2048,
    device: str = "auto",
    template: Literal["auto", "none"] = "auto",
    say: Say = print,
) -> int:
    """Write what a policy says of every response's tokens, or a reward model of every response.

    A policy's file is one that `prefdata train` takes for its reference: the trainer looks rows up by their key, so
    only what was scored by the same weights, template, precision and attention is found.

    Args:
        data: a training file.
        model: a folder, a known name or a hub id.
        out: the Parquet file.
        max_length: tokens of a prompt and its longest response; longer lists are left out and counted.
        device: auto, cpu, cuda, ...
        template: see `Settings`.
        say: gets a line now and then.

    Returns:
        How many rows were written: distinct ones for a policy, one for each response for a reward model.

    Raises:
        EngineError: the model cannot be loaded, or `out` is a folder.
        TrainError: the file cannot be used.
    """
    require_local()
    # Before the long part: a wrong name must not cost it.
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        raise EngineError(f"{out} is a folder: name the Parquet file to write")
    settings = Settings(split="all", max_length=max_length, device=device, template=template)
    read = read_preferences(data)
    loaded = Loaded.of(model, settings)
    lists, left_out = tokenised(read, loaded, settings)
    for reason, count in left_out.items():
        say(f"  left out: {count} x {reason}")
    say(f"{sum(len(one.rows) for one in lists)} responses of {len(lists)} lists under {loaded.name}")
    if loaded.output == "reward":
        return _write_rewards(lists, loaded, out, settings)
    groups = [one.reference for one in lists]
    known = Reference(loaded.scorer())
    for numbers, values, lengths in loaded.packs(groups, settings):
        rows = [row for number in numbers for row in groups[number]]
        about = [
            {"response_id": response.id, "group_id": lists[number].source.group}
            for number in numbers
            for response in lists[number].source.responses
        ]
        known.add(rows, np.split(values, np.cumsum(lengths)[:-1]), about)
    known.save(out)
    return len(known)


def _write_rewards(lists: list[TokenList], loaded: Loaded, out: Path, settings: Settings) -> int:
    """One row a response: its reward is the one value, at its last token."""
    scorer = loaded.scorer()
    key = Reference(scorer)
    rows = [
        {
            "response_id": response.id or None,
            "group_id": one.source.group,
            "scorer": str(scorer),
            "kind": "reward",
            "token_ids": [row.tokens[-1]],
            "values": [float(reward)],
            "key": key.key(row),
        }
        for one, rewards in zip(lists, loaded.rewards([one.rows for one in lists], settings), strict=True)
        for response, row, reward in zip(one.source.responses, one.rows, rewards, strict=True)
    ]
    text = [(name, pa.string()) for name in ("response_id", "group_id", "scorer", "kind")]
    numbers = [("token_ids", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
    schema = pa.schema([*text, *numbers, ("key", pa.string())])
    footer = {"prefdata.format": "prefdata.reference/1", "prefdata.scorer": str(asdict(scorer))}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata(footer), out)
    return len(rows)
