"""LLaMA-Factory's preference data: a JSON file in its sharegpt form, and the entry in dataset_info.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.errors import DataError
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.parquet import whole_file
from prefdata.formats.ultrafeedback import plain_conversations

INFO = "dataset_info.json"
SPEAKERS = {"user": "human", "assistant": "gpt"}
ALTERNATING = r"^(system,)?user(,assistant,user)*$"
"""The converter skips, with a warning, conversations that are otherwise; we leave them out and count them."""


def llamafactory_from_lists(lists: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """conversations, chosen, rejected, split, and system where some prompt has a system turn.

    Args:
        lists: what `training_lists` returns.

    Returns:
        The frame, and what was left out, by reason.
    """
    pairs, left_out = pairs_from_lists(lists, conversational=True)
    pairs, reasons = plain_conversations(pairs)
    left_out += reasons
    several = pl.any_horizontal(pl.col(side).list.len() > 1 for side in ("chosen", "rejected"))
    roles = pl.col("prompt").list.eval(pl.element().struct.field("role")).list.join(",")
    pairs = pairs.with_columns(several=several, alternates=roles.str.contains(ALTERNATING))
    left_out["several turns"] += int(pairs["several"].sum())
    left_out["turns that do not alternate"] += pairs.filter(~pl.col("several") & ~pl.col("alternates")).height
    pairs = pairs.filter(~pl.col("several") & pl.col("alternates"))
    first = pl.col("prompt").list.first()
    system = first.struct.field("role") == "system"
    turn = pl.struct(
        pl.element().struct.field("role").replace_strict(SPEAKERS, default="system").alias("from"),
        pl.element().struct.field("content").alias("value"),
    )
    made = pairs.select(
        pl.when(system).then(pl.col("prompt").list.slice(1)).otherwise("prompt").list.eval(turn).alias("conversations"),
        *(
            pl.struct(
                pl.lit("gpt").alias("from"), pl.col(side).list.first().struct.field("content").alias("value")
            ).alias(side)
            for side in ("chosen", "rejected")
        ),
        # A null here would be shown as text by some templates.
        pl.when(system).then(first.struct.field("content")).otherwise(pl.lit("")).alias("system"),
        "split",
    )
    if not (made["system"] != "").any():
        made = made.drop("system")
    return made, +left_out


def write_llamafactory(rows: pl.DataFrame, path: Path) -> None:
    """Write the JSON file and name it in dataset_info.json beside it, whose other entries stay.

    LLaMA-Factory trains on every row of a file, so rows that are held out go into a file of their own: for `NAME.json`
    it is `NAME.valid.json`, listed as `NAME_valid`; give that as `eval_dataset`.

    Raises:
        DataError: the file would be dataset_info.json itself, or that is there and is not a JSON object.
    """
    if path.name == INFO:
        raise DataError(f"{path}: LLaMA-Factory keeps its list of datasets there; give the file another name")
    info_path = path.with_name(INFO)
    info = _known(info_path)
    held_out = rows.filter(pl.col("split") == "valid")
    trained = rows.filter(pl.col("split") != "valid")
    valid_path = path.with_name(f"{path.stem}.valid.json")
    if not trained.height:
        trained, held_out = held_out, trained
    _write_rows(trained, path)
    info[path.stem] = _entry(rows, path)
    if held_out.height:
        _write_rows(held_out, valid_path)
        info[f"{path.stem}_valid"] = _entry(rows, valid_path)
    elif info.pop(f"{path.stem}_valid", None) is not None:
        valid_path.unlink(missing_ok=True)
    with whole_file(info_path) as file:
        file.write((json.dumps(info, ensure_ascii=False, indent=2) + "\n").encode())


def _write_rows(rows: pl.DataFrame, path: Path) -> None:
    with whole_file(path) as file:
        rows.write_json(file)


def _known(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is there and is not JSON ({error}); move it away or mend it") from error
    if not isinstance(known, dict):
        raise DataError(f"{path} is there and is not a JSON object; move it away or mend it")
    return known


def _entry(rows: pl.DataFrame, path: Path) -> dict[str, Any]:
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    if "system" in rows.columns:
        columns["system"] = "system"
    return {"file_name": path.name, "formatting": "sharegpt", "ranking": True, "columns": columns}
