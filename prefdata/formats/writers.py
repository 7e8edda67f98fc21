"""Which formats can be written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import polars as pl
import pyarrow as pa

from prefdata.errors import DataError
from prefdata.formats.argilla_records import write_argilla
from prefdata.formats.columns import (
    LISTS,
    PAIRS,
    PAIRS_DEFAULTS,
    ULTRAFEEDBACK,
    UNPAIRED,
    all_lists,
    file_schema,
    messages_type,
)
from prefdata.formats.label_studio import write_label_studio
from prefdata.formats.labelling import LabelWriter, tasks_of
from prefdata.formats.llamafactory import llamafactory_from_lists, write_llamafactory
from prefdata.formats.pairs import pairs_from_lists
from prefdata.formats.parquet import write_parquet
from prefdata.formats.runs import Runs
from prefdata.formats.source import suggestion
from prefdata.formats.template import Template, find_template
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

    template: Template | None = None
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
        order: the columns that its rows are sorted by, where a file larger than memory can be made; none where all rows
            are needed at once (shuffled, or not Parquet).
        defaults: what an optional column says in a row that does not fill it; null unless given.
    """

    describes: str
    make: Callable[[pl.DataFrame, Asked], tuple[pl.DataFrame, Counter[str]]]
    schema: pa.Schema | None = None
    conversational: tuple[str, ...] = ()
    templated: bool = False
    order: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)


WRITERS: dict[str, Writer] = {
    "lists": Writer(
        "one preference list", lambda lists, asked: (lists, Counter()), LISTS, ("prompt",), order=("group", "id")
    ),
    "trl-pairs": Writer(
        "one pair, as texts",
        lambda lists, asked: pairs_from_lists(lists, template=asked.template, ties=asked.ties),
        PAIRS,
        templated=True,
        order=("group", "list"),
        defaults=PAIRS_DEFAULTS,
    ),
    "trl-pairs-conversational": Writer(
        "one pair, as messages",
        lambda lists, asked: pairs_from_lists(lists, conversational=True, ties=asked.ties),
        PAIRS,
        ("prompt", "chosen", "rejected"),
        order=("group", "list"),
        defaults=PAIRS_DEFAULTS,
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
"""Every format of preferences that can be written, by the name that `prefdata export` knows."""

LABEL_WRITERS: dict[str, LabelWriter] = {
    "label-studio": LabelWriter(
        "one task of Label Studio: a prompt with the responses that are judged together, and what was said of them",
        "JSON, with the configuration of the labelling interface in `NAME.xml` beside it.",
        write_label_studio,
    ),
    "argilla": LabelWriter(
        "one record of Argilla 2: a prompt with the responses that are judged together, and what was said of them",
        "JSON as `dataset.records.to_json` writes it, with the settings of the dataset in `NAME.settings.json` beside "
        "it: `rg.Settings.from_json`, then `dataset.records.from_json`.",
        write_argilla,
    ),
}
"""Every format of prompts, responses and annotations that can be written: for tools in which people label."""


def format_names() -> list[str]:
    """All that can be written; a plugin may have added to them."""
    return [*WRITERS, *LABEL_WRITERS]


def name_problem(format: str, out: PurePath) -> str | None:
    """Why a file of this name would not be read as the format that it holds; None where it is.

    Args:
        format: a key of WRITERS or LABEL_WRITERS.
        out: the file.
    """
    if format in LABEL_WRITERS:
        return (
            None if out.suffix.lower() == ".json" else f"{format!r} is written as JSON; name a file that ends in .json"
        )
    if WRITERS[format].schema is None:
        return None if out.suffix.lower() == ".json" else "LLaMA-Factory goes by the end of the name; let it be .json"
    if out.suffix.lower() == ".parquet":
        return None
    return f"{format!r} is written as Parquet; name a file that ends in .parquet"


def write(
    lists: pl.DataFrame | Iterable[pl.DataFrame],
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
        lists: what `training_lists` returns; several such frames, no two of them with rows of the same list, are
            written in one order, as one of all would be.
        format: a key of WRITERS.
        out: the file; replaced if it is there.
        template: the folder or name of a model whose chat template renders prompts and answers (`trl-pairs`,
            `unpaired`), or none: their contents, joined by blank lines, for a base model.
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
    asked = Asked(find_template(template) if template is not None else None, ties, from_lists)
    frames: Iterable[pl.DataFrame] = [lists] if isinstance(lists, pl.DataFrame) else lists
    if not writer.order:
        frames = [all_lists(frames)]
    left_out: Counter[str] = Counter()
    with Runs(out.parent, writer.order, writer.conversational, writer.defaults) as rows:
        try:
            for frame in frames:
                made, reasons = writer.make(frame, asked)
                left_out += reasons
                rows.add(made)
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error}") from error
        if not rows.height:
            said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
            why = f"all was left out: {said}" if said else "there are no preferences"
            raise DataError(f"{out} would hold no row of {format!r}: {why}")
        if writer.schema is None:
            write_llamafactory(next(rows.in_order()), out)
        else:
            footer = _footer(meta, format, left_out, template)
            write_parquet(rows.in_order(), _schema(writer, rows), out, footer, rows.size // rows.height)
        return Written(rows.height, left_out, out)


def write_labels(view: Mapping[str, pl.LazyFrame], format: str, out: Path) -> Written:
    """Write prompts, responses and annotations for a labelling tool. The file appears whole or not at all.

    Args:
        view: the live tables.
        format: a key of LABEL_WRITERS.
        out: the file; replaced if it is there.

    Raises:
        DataError: the file's name does not go with the format, it cannot be written, or it would hold no row.
    """
    problem = name_problem(format, out)
    if problem and not out.is_dir():
        raise DataError(f"{out}: {problem}")
    left_out: Counter[str] = Counter()
    tasks = tasks_of(view, left_out)
    if not tasks:
        raise DataError(f"{out} would hold no row of {format!r}: there are no prompts")
    return Written(LABEL_WRITERS[format].write(tasks, out), left_out, out)


def _footer(meta: Mapping[str, str], format: str, left_out: Counter[str], template: str | None) -> dict[str, str]:
    counted = json.dumps(dict(sorted(left_out.items())), ensure_ascii=False)
    footer = {**meta, "format": f"{format}/{VERSION}", "left_out": counted}
    if WRITERS[format].templated:
        footer["template"] = Path(template).name if template is not None else "none"
    return footer


def _schema(writer: Writer, rows: Runs) -> pa.Schema:
    assert writer.schema is not None
    kinds = {
        name: messages_type(rows.message_keys if name == "prompt" else ["role", "content"])
        for name in writer.conversational
    }
    return file_schema(rows.columns, writer.schema, kinds)
