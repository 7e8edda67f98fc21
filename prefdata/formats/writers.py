"""Which formats can be written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl
import pyarrow as pa

from prefdata.errors import DataError
from prefdata.formats.columns import (
    LISTS,
    PAIRS,
    ULTRAFEEDBACK,
    UNPAIRED,
    file_schema,
    filled_message_keys,
    keep_message_keys,
    messages_type,
)
from prefdata.formats.llamafactory import llamafactory_from_lists, write_llamafactory
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.parquet import write_parquet
from prefdata.formats.source import suggestion
from prefdata.formats.template import ChatTemplate
from prefdata.formats.ultrafeedback import ultrafeedback_from_lists
from prefdata.formats.unpaired import unpaired_from_lists

VERSION = 1
"""Of every format: `lists/1` in the footer. Raised when what is written could be misread by an older reader."""


@dataclass(frozen=True)
class Written:
    """What an export came to.

    Attributes:
        rows: in the file (of llamafactory: in both files).
        left_out: what the format cannot hold, by reason.
        path: the file.
    """

    rows: int
    left_out: Counter[str]
    path: Path


@dataclass(frozen=True)
class Asked:
    """The choices that formats have.

    Attributes:
        template: renders prompts for the standard forms.
        ties: write pairs with p = 0.5 too.
        from_lists: unpaired: from the winners and losers of lists of other kinds too.
    """

    template: ChatTemplate | None = None
    ties: bool = False
    from_lists: bool = False


@dataclass(frozen=True)
class Writer:
    """A format that can be written.

    Attributes:
        describes: what a row is, for the dataset card.
        make: makes the rows, and counts what is left out.
        schema: types of the file; None for a file that is not Parquet.
        conversational: columns that hold messages.
        templated: whether it takes a template (holds texts).
    """

    describes: str
    make: Callable[[pl.DataFrame, Asked], tuple[pl.DataFrame, Counter[str]]]
    schema: pa.Schema | None = None
    conversational: tuple[str, ...] = ()
    templated: bool = False


WRITERS: dict[str, Writer] = {
    "lists": Writer("one preference list", lambda lists, asked: (lists, Counter()), LISTS, ("prompt",)),
    "trl-pairs": Writer(
        "one pair, as texts",
        lambda lists, asked: pairs_from_lists(lists, template=asked.template, ties=asked.ties),
        PAIRS,
        templated=True,
    ),
    "trl-pairs-conversational": Writer(
        "one pair, as messages",
        lambda lists, asked: pairs_from_lists(lists, conversational=True, ties=asked.ties),
        PAIRS,
        ("prompt", "chosen", "rejected"),
    ),
    "unpaired": Writer(
        "one response with a label, as texts",
        lambda lists, asked: unpaired_from_lists(lists, template=asked.template, from_lists=asked.from_lists),
        UNPAIRED,
        templated=True,
    ),
    "unpaired-conversational": Writer(
        "one response with a label, as messages",
        lambda lists, asked: unpaired_from_lists(lists, conversational=True, from_lists=asked.from_lists),
        UNPAIRED,
        ("prompt", "completion"),
    ),
    "ultrafeedback-binarized": Writer(
        "one pair, as whole conversations", lambda lists, asked: ultrafeedback_from_lists(lists), ULTRAFEEDBACK
    ),
    "llamafactory": Writer("one pair, as LLaMA-Factory reads it", lambda lists, asked: llamafactory_from_lists(lists)),
}
"""Every format that can be written, by the name that `prefdata export` knows."""


def name_problem(format: str, out: PurePath) -> str | None:
    """Why a file of this name would not be read as the format that it holds; None where it is.

    Args:
        format: a key of WRITERS.
        out: the file.
    """
    if WRITERS[format].schema is None:
        return None if out.suffix.lower() == ".json" else "LLaMA-Factory goes by the end of the name; let it be .json"
    if out.suffix.lower() == ".parquet":
        return None
    return f"{format!r} is written as Parquet; name a file that ends in .parquet"


def write(
    lists: pl.DataFrame,
    format: str,
    out: Path,
    *,
    template: str | None = None,
    ties: bool = False,
    from_lists: bool = False,
    meta: Mapping[str, str] = {},
) -> Written:
    """Write lists in a format. The file appears whole or not at all.

    Args:
        lists: what `training_lists` returns.
        format: a key of WRITERS.
        out: the file; replaced if it is there.
        template: the folder or name of a model whose chat template renders prompts and answers (`trl-pairs`,
            `unpaired`).
        ties: write pairs with p = 0.5 too (the two forms of trl-pairs).
        from_lists: unpaired: from the winners and losers of lists of other kinds too.
        meta: further keys for the footer (commit, step, view), where they become `prefdata.commit` and so on.

    Raises:
        DataError: the format is not known, an option or the file's name does not go with it, the template cannot be
            used, the file cannot be written, or it would hold no row: then the message tells why.
    """
    writer = WRITERS.get(format)
    if writer is None:
        known = ", ".join(sorted(WRITERS))
        raise DataError(f"there is no format {format!r} to write{suggestion(format, WRITERS)} (known: {known})")
    problem = name_problem(format, out)
    if problem and not out.is_dir():  # which is refused as such where it is written
        raise DataError(f"{out}: {problem}")
    if template is not None and not writer.templated:
        raise DataError(f"the format {format!r} holds messages, which take no --template; leave it out")
    asked = Asked(ChatTemplate(template) if template is not None else None, ties, from_lists)
    rows, left_out = writer.make(lists, asked)
    if not rows.height:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
        why = f"all was left out: {reasons}" if reasons else "there are no preferences"
        raise DataError(f"{out} would hold no row of {format!r}: {why}")
    if writer.schema is None:
        write_llamafactory(rows, out)
        return Written(rows.height, left_out, out)
    footer = {
        **meta,
        "format": f"{format}/{VERSION}",
        "left_out": json.dumps(dict(sorted(left_out.items())), ensure_ascii=False),
    }
    if writer.templated:
        footer["template"] = Path(template).name if template is not None else "none"
    keys = filled_message_keys([rows[name] for name in writer.conversational])
    kinds: dict[str, pa.DataType] = {}
    for name in writer.conversational:
        # A response's messages have a role and a content; only prompts may fill further keys.
        own = keys if name == "prompt" else ["role", "content"]
        rows = rows.with_columns(keep_message_keys(rows[name], own))
        kinds[name] = messages_type(own)
    write_parquet(rows, file_schema(rows, writer.schema, kinds), out, footer)
    return Written(rows.height, left_out, out)
