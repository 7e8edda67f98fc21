"""The exact Arrow types of exported files, and how frames get them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl
import pyarrow as pa

from prefdata.errors import DataError
from prefdata.schema import EDGE, MESSAGE, SCHEMAS, VALUES

_string, _double, _int, _bool = pa.string(), pa.float64(), pa.int32(), pa.bool_()

MEDIUM = pa.struct([(name, _string) for name in ("uri", "sha256", "kind")] + [("turn", _int), ("region", _string)])
"""A medium as exports hold it."""
VALUED_SEGMENT = pa.struct([("end", _int), ("role", _string), ("kind", _string), ("value", _double)])
OTHER_PROMPT = pa.struct([("messages", pa.list_(MESSAGE)), ("tools", _string), ("media", pa.list_(MEDIUM))])
RATIONALE = pa.struct([("of", pa.list_(_int)), ("text", _string)])
TOKEN_SCORES = pa.struct(
    [
        ("response", _int),
        ("prompt", _int),
        ("scorer", _string),
        ("kind", _string),
        ("token_ids", pa.list_(_int)),
        ("ends", pa.list_(_int)),
        ("values", pa.list_(pa.float32())),
        ("top_ids", pa.list_(pa.list_(_int))),
        ("top_values", pa.list_(pa.list_(pa.float32()))),
    ]
)

LISTS = pa.schema(
    [
        ("id", _string),
        ("group", _string),
        ("split", _string),
        ("kind", _string),
        ("aspect", _string),
        ("weight", _double),
        ("prompt", pa.list_(MESSAGE)),
        ("response_ids", pa.list_(_string)),
        ("responses", pa.list_(_string)),
        ("scores", pa.list_(_double)),
        ("ranks", pa.list_(_int)),
        # From here on a column stands in a file only where some row fills it.
        ("edges", pa.list_(EDGE)),
        ("roles", pa.list_(_string)),
        ("values", pa.list_(VALUES)),
        ("annotator", _string),
        ("link", _string),
        ("prefixes", pa.list_(_string)),
        ("ends_turn", pa.list_(_bool)),
        ("segments", pa.list_(pa.list_(VALUED_SEGMENT))),
        ("other_prompts", pa.list_(OTHER_PROMPT)),
        ("prompt_of", pa.list_(_int)),
        ("ref_prompt_of", pa.list_(_int)),
        ("rationales", pa.list_(RATIONALE)),
        ("token_scores", pa.list_(TOKEN_SCORES)),
        ("tools", _string),
        ("media", pa.list_(MEDIUM)),
        ("response_media", pa.list_(pa.list_(MEDIUM))),
    ]
)
LISTS_REQUIRED = LISTS.names[:11]

_PROVENANCE = ("id", "list", "group", "split", "aspect", "annotator")
PAIRS = pa.schema(
    [
        ("prompt", _string),
        ("chosen", _string),
        ("rejected", _string),
        ("margin", _double),
        ("p", _double),
        ("weight", _double),
        ("score_chosen", _double),
        ("score_rejected", _double),
        ("tools", _string),
        *((name, _string) for name in (*_PROVENANCE, "chosen_id", "rejected_id")),
    ]
)
"""The standard form; the conversational one holds messages in the first three columns."""
PAIRS_DEFAULTS = {"margin": None, "p": 1.0, "weight": 1.0, "tools": None}
"""The columns that stand in a file only where some row says something else."""

UNPAIRED = pa.schema(
    [
        ("prompt", _string),
        ("completion", _string),
        ("label", _bool),
        ("weight", _double),
        ("score", _double),
        ("tools", _string),
        *((name, _string) for name in (*_PROVENANCE, "response_id")),
    ]
)
UNPAIRED_OPTIONAL = ("tools",)

_TURNS = pa.list_(pa.struct([("role", _string), ("content", _string)]))
ULTRAFEEDBACK = pa.schema(
    [
        ("prompt", _string),
        ("prompt_id", _string),
        ("chosen", _TURNS),
        ("rejected", _TURNS),
        ("messages", _TURNS),
        ("score_chosen", _double),
        ("score_rejected", _double),
        ("split", _string),
    ]
)


def polars_type(kind: pa.DataType) -> pl.DataType:
    """The polars type of an Arrow type."""
    # From the schema alone: to convert even an empty array, polars imports pandas, which takes half a second.
    return pl.Schema(pa.schema([("column", kind)]))["column"]


def series(name: str, values: Sequence[object], kind: pa.DataType) -> pl.Series:
    """Python values as a polars column of exactly this Arrow type.

    Raises:
        DataError: the type cannot hold them.
    """
    try:
        made = pl.from_arrow(pa.array(values, kind))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise DataError(f"column {name!r} cannot hold what it was given: {error}") from error
    assert isinstance(made, pl.Series)
    return made.alias(name)


def complete(name: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """A table with every column of its schema, absent ones null: a part holds only what it fills."""
    held = frame.collect_schema()
    return frame.select(
        pl.col(field.name).cast(polars_type(field.type))
        if field.name in held
        else pl.lit(None, polars_type(field.type)).alias(field.name)
        for field in SCHEMAS[name]
    )


def filled_message_keys(columns: Sequence[pl.Series]) -> list[str]:
    """The keys that some message of these columns (lists of messages) fills; role and content in any case."""
    keys = ["role", "content"]
    for name in MESSAGE.names[2:]:
        for column in columns:
            inner = column.dtype.inner if isinstance(column.dtype, pl.List) else None
            if isinstance(inner, pl.Struct) and name in [field.name for field in inner.fields]:
                filled = column.explode().struct.field(name)
                if filled.null_count() < len(filled):
                    keys.append(name)
                    break
    return keys


def keep_message_keys(column: pl.Series, keys: Sequence[str]) -> pl.Series:
    """A column of lists of messages, each with just these keys; one that it does not have is null."""
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else None
    held = [field.name for field in inner.fields] if isinstance(inner, pl.Struct) else []
    if held == list(keys):
        return column
    absent = pl.lit(None, pl.String)
    picked = pl.struct([pl.element().struct.field(key) if key in held else absent.alias(key) for key in keys])
    return column.to_frame().select(pl.col(column.name).list.eval(picked)).to_series()


def messages_type(keys: Sequence[str]) -> pa.DataType:
    """A list of messages with these keys."""
    return pa.list_(pa.struct([MESSAGE.field(MESSAGE.get_field_index(key)) for key in keys]))


def file_schema(
    columns: Collection[str], schema: pa.Schema, replaced: Mapping[str, pa.DataType] | None = None
) -> pa.Schema:
    """The schema of a file that holds these columns, in the schema's order and with its types.

    Args:
        columns: every one must be in `schema`.
        schema: one of the schemas of this module.
        replaced: other types for some columns (the conversational forms, pruned messages).
    """
    unknown = [name for name in columns if name not in schema.names]
    assert not unknown, f"no type is known for {unknown}"
    kinds = replaced or {}
    return pa.schema([(field.name, kinds.get(field.name, field.type)) for field in schema if field.name in columns])


def all_lists(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Frames of lists as one, every optional column present."""
    made = [complete_lists(frame) for frame in frames]
    alike = [frame.with_columns(keep_message_keys(frame["prompt"], MESSAGE.names)) for frame in made]
    return pl.concat([frame.select(LISTS.names) for frame in alike]).sort("group", "id") if alike else _no_lists()


def _no_lists() -> pl.DataFrame:
    return pl.DataFrame(schema={field.name: polars_type(field.type) for field in LISTS})


def complete_lists(lists: pl.DataFrame) -> pl.DataFrame:
    """A frame of lists with every optional column too, absent ones null."""
    missing = [field for field in LISTS if field.name not in lists.columns]
    return lists.with_columns(pl.lit(None, polars_type(field.type)).alias(field.name) for field in missing)
