"""The tables of a dataset: Arrow schemas, ids, and the functions that make one row.

Six tables carry the work (prompts, responses, annotations, preferences, token_scores, drops), three are leant on
(criteria, annotators, calls), and two are kept for the house (progress, erased). A part on disk holds only the columns
it fills; `arrow_table` makes such a part from rows, and `SCHEMAS` says what every reader sees.

Ids are 32 hexadecimal characters (BLAKE2b, 128 bits) of *what was asked*, never of what came back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from prefdata.errors import DataError

SCHEMA_VERSION = 2
"""Written to every commit. A dataset with a higher one is refused in a sentence."""

Row = dict[str, Any]
"""One row of a table, as Python values. Columns that are absent are null."""

Rows = dict[str, list[Row]]
"""Rows by table name: what a step makes."""

_string, _double, _int = pa.string(), pa.float64(), pa.int32()

MESSAGE = pa.struct(
    [
        ("role", _string),
        ("content", _string),
        ("name", _string),
        ("tool_calls", _string),
        ("tool_call_id", _string),
    ]
)
"""One turn. `tool_calls` is JSON."""

MEDIA = pa.struct(
    [
        ("uri", _string),
        ("sha256", _string),
        ("kind", _string),
        ("turn", _int),
        ("region", _string),
        ("made_by", _string),
        ("parent_sha256", _string),
    ]
)
CONDITION = pa.struct(
    [
        ("kind", _string),
        ("text", _string),
        ("values", pa.list_(_double)),
        ("ref_ids", pa.list_(_string)),
    ]
)
PASSAGE = pa.struct([("doc_id", _string), ("text", _string), ("label", _string), ("score", _double)])
VERIFIER = pa.struct([("kind", _string), ("spec", _string)])
SEGMENT = pa.struct([("end", _int), ("role", _string), ("kind", _string)])
SPAN = pa.struct([("target", _int), ("start", _int), ("end", _int), ("label", _string), ("value", _double)])
EDGE = pa.struct(
    [
        ("winner", _int),  # positions in response_ids
        ("loser", _int),
        ("p", _double),
        ("margin", _double),
        ("weight", _double),
        ("votes", _int),
    ]
)
VALUES = pa.struct([("name", _string), ("values", pa.list_(_double))])

SCHEMAS: dict[str, pa.Schema] = {
    "prompts": pa.schema(
        [
            ("prompt_id", _string),
            ("group_id", _string),
            ("step", _string),
            ("messages", pa.list_(MESSAGE)),
            ("references", pa.list_(_string)),
            ("source", _string),
            ("tags", pa.list_(_string)),
            ("user_id", _string),
            ("meta", _string),
            ("condition", CONDITION),
            ("context", pa.list_(PASSAGE)),
            ("tools", _string),
            ("verifier", VERIFIER),
            ("media", pa.list_(MEDIA)),
            ("parent_id", _string),
        ]
    ),
    "responses": pa.schema(
        [
            ("response_id", _string),
            ("group_id", _string),
            ("step", _string),
            ("prompt_id", _string),
            ("text", _string),
            ("model", _string),
            ("params", _string),
            ("sample_index", _int),
            ("finish_reason", _string),
            ("n_tokens", _int),
            ("call_id", _string),
            ("meta", _string),
            ("parent_id", _string),
            ("prefix_id", _string),
            ("segments", pa.list_(SEGMENT)),
            ("media", pa.list_(MEDIA)),
        ]
    ),
    "annotations": pa.schema(
        [
            ("annotation_id", _string),
            ("group_id", _string),
            ("step", _string),
            ("prompt_id", _string),
            ("target", _string),
            ("target_ids", pa.list_(_string)),
            ("protocol", _string),
            ("scores", pa.list_(_double)),
            ("labels", pa.list_(_string)),
            ("annotator", _string),
            ("criterion_id", _string),
            ("aspect", _string),
            ("source", _string),
            ("confidence", _double),
            ("text", _string),
            ("status", _string),
            ("replicate", _int),
            ("revision", _int),
            ("call_id", _string),
            ("created_at", pa.timestamp("us", tz="UTC")),
            ("meta", _string),
            ("strength", _double),
            ("parts", pa.list_(_int)),
            ("spans", pa.list_(SPAN)),
            ("seconds", _double),
        ]
    ),
    "preferences": pa.schema(
        [
            ("preference_id", _string),
            ("group_id", _string),
            ("step", _string),
            ("prompt_id", _string),
            ("response_ids", pa.list_(_string)),
            ("scores", pa.list_(_double)),
            ("weight", _double),
            ("aspect", _string),
            ("kind", _string),
            ("annotation_ids", pa.list_(_string)),
            ("meta", _string),
            ("roles", pa.list_(_string)),
            ("prompt_ids", pa.list_(_string)),
            ("ref_prompt_id", _string),
            ("values", pa.list_(VALUES)),
            ("edges", pa.list_(EDGE)),
            ("annotator", _string),
            ("rationale_ids", pa.list_(_string)),
            ("link_id", _string),
            ("parent_id", _string),
        ]
    ),
    "token_scores": pa.schema(
        [
            ("response_id", _string),
            ("group_id", _string),
            ("step", _string),
            ("prompt_id", _string),
            ("scorer", _string),
            ("kind", _string),
            ("token_ids", pa.list_(_int)),
            ("values", pa.list_(pa.float32())),
            ("ends", pa.list_(_int)),
            ("top_ids", pa.list_(pa.list_(_int))),
            ("top_values", pa.list_(pa.list_(pa.float32()))),
        ]
    ),
    "drops": pa.schema(
        [
            ("table", _string),
            ("id", _string),
            ("group_id", _string),
            ("step", _string),
            ("view", _string),
            ("reason", _string),
            ("restore", pa.bool_()),
        ]
    ),
    "criteria": pa.schema(
        [
            ("criterion_id", _string),
            ("name", _string),
            ("text", _string),
            ("kind", _string),
            (
                "scale",
                pa.struct([("type", _string), ("min", _double), ("max", _double), ("anchors", pa.list_(_string))]),
            ),
            ("weight", _double),
            ("owner", _string),
            ("parent_ids", pa.list_(_string)),
        ]
    ),
    "annotators": pa.schema(
        [
            ("annotator", _string),
            ("model", _string),
            ("card", _string),
            ("attributes", pa.list_(pa.struct([("name", _string), ("value", _string)]))),
            ("artifact", _string),
            ("meta", _string),
        ]
    ),
    "calls": pa.schema(
        [
            ("call_id", _string),
            ("step", _string),
            ("engine", _string),
            ("model", _string),
            ("raw", _string),
            ("finish_reason", _string),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("money", _double),
            ("seconds", _double),
            ("cached", pa.bool_()),
            ("attempts", _int),
            ("error", _string),
            ("group_id", _string),
            ("created_at", pa.timestamp("us", tz="UTC")),
        ]
    ),
    # The runtime's own: which run of a step over a group is the last one, and what that run had read.
    # `run` is the commit that holds the rows (null: the commit that this row stands in). group_id "*": everything.
    "progress": pa.schema(
        [
            ("pipeline", _string),
            ("step", _string),
            ("group_id", _string),
            ("digest", _string),
            ("run", pa.int64()),
        ]
    ),
    # Tombstones: rows that were erased, and are never to be made again. Of a whole group its id alone (table "groups").
    "erased": pa.schema([("table", _string), ("id", _string)]),
}

KEYS: dict[str, str] = {
    "prompts": "prompt_id",
    "responses": "response_id",
    "annotations": "annotation_id",
    "preferences": "preference_id",
    "criteria": "criterion_id",
    "annotators": "annotator",
    "calls": "call_id",
}
"""The id column of each table that has one."""

PASSED_THROUGH = "meta"
"""The column that is carried along and shown: no operator and no loss may depend on it."""

CORE_TABLES = ("prompts", "responses", "annotations", "preferences", "token_scores", "drops")
"""The tables whose rows belong to a group and to a step."""

TARGETS = {"response": "responses", "prompt": "prompts", "preference": "preferences", "annotation": "annotations"}
"""What an annotation may be about, and the table that holds it. `annotator` is the fifth: it hides nothing.

An annotation about an annotator belongs to no prompt: its prompt_id is null and its group_id is `*`, all groups.
"""

PROTOCOLS = frozenset({"score", "compare", "rank", "choose", "label", "critique", "measure"})
SOURCES = frozenset({"human", "judge", "reward", "likelihood", "embedding", "rule", "log", "consensus", "imported"})
STATUSES = frozenset({"ok", "skipped", "refused", "unparsed", "timeout", "failed", "abstain"})
RETRIED_STATUSES = frozenset({"failed", "timeout"})
"""The next run asks these again unless it is told otherwise."""
FINISH_REASONS = frozenset({"stop", "length", "step", "tool", "error"})


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def make_id(kind: str, *parts: object) -> str:
    """32 hexadecimal characters that name `parts`, which are anything that JSON holds."""
    return blake2b(canonical_json([kind, *parts]).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def now() -> datetime:
    """The present moment in UTC, in the resolution that `created_at` keeps."""
    return datetime.now(UTC)


def clean(value: object) -> object:
    """Drop null keys and empty containers, so that an absent column and a null one hash alike."""
    if isinstance(value, Mapping):
        kept = {key: clean(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {})}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def storable(text: str) -> str:
    """The text, halves of surrogate pairs replaced: JSON may escape one, and no table can hold it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def message(role: str, content: str, **rest: str | None) -> Row:
    """One turn of a conversation."""
    return {"role": role, "content": content, **rest}


def prompt(messages: Sequence[Mapping[str, Any]], *, parent: Row | None = None, **columns: Any) -> Row:
    """A row of `prompts`. The last of `messages` is the turn to be answered.

    The id hashes what a policy sees and for whom (messages, condition, context, tools, media, user); a prompt derived
    from another (`parent`) hashes its group too and joins it.
    """
    row: Row = {"messages": [dict(turn) for turn in messages], **columns}
    seen = [clean(row.get(key)) for key in ("messages", "condition", "context", "tools", "media", "user_id")]
    if parent is None:
        row["prompt_id"] = row["group_id"] = make_id("prompt", seen)
    else:
        row["group_id"], row["parent_id"] = parent["group_id"], parent["prompt_id"]
        row["prompt_id"] = make_id("prompt", seen, row["group_id"])
    return row


def response(
    prompt: Row,
    *,
    model: str,
    text: str | None = None,
    params: Mapping[str, Any] | None = None,
    sample_index: int = 0,
    key: object = None,
    finish_reason: str = "stop",
    **columns: Any,
) -> Row:
    """A row of `responses`.

    Args:
        prompt: the row it answers; gives prompt_id and group_id.
        model: the name of what wrote it.
        text: what came back; null only after finish_reason `error`.
        params: what changes the answer (temperature, engine identity, ...); hashed.
        sample_index: which of the independent draws this is.
        key: for an imported row, its own key in its source and its text: a text that was put right is another
            response. Where a source has no key, the text alone: then equal texts are one response.
        finish_reason: one of FINISH_REASONS.
        columns: further columns of the table.
    """
    asked = canonical_json(params or {})
    if key is not None:
        response_id = make_id("response", "imported", prompt["prompt_id"], model, key)
    else:
        lineage = [columns.get("parent_id"), columns.get("prefix_id")]
        response_id = make_id("response", prompt["prompt_id"], model, asked, sample_index, lineage)
    return {
        "response_id": response_id,
        "group_id": prompt["group_id"],
        "prompt_id": prompt["prompt_id"],
        "text": text,
        "model": model,
        "params": asked,
        "sample_index": sample_index,
        "finish_reason": finish_reason,
        **columns,
    }


def annotation(
    *,
    group_id: str,
    prompt_id: str | None,
    target_ids: Sequence[str],
    protocol: str,
    annotator: str,
    source: str,
    scores: Sequence[float] | None = None,
    target: str = "response",
    aspect: str = "overall",
    status: str = "ok",
    replicate: int = 0,
    revision: int = 1,
    key: object = None,
    **columns: Any,
) -> Row:
    """A row of `annotations`.

    The id hashes the request: context, targets in the order shown, protocol, annotator, aspect, replicate, and `key`.
    `key` is whatever else changes what was asked (the judge's parameters), the source's own key for an imported row,
    [store, task, person] for a human label, or the hash of what was read for a consensus.

    Args:
        group_id: the root prompt's id.
        prompt_id: what it was judged under; null where each target stands under its own prompt.
        target_ids: in the order shown.
        protocol: one of PROTOCOLS.
        annotator: who said it, for example `judge:llama/helpfulness@3f` or `human:ann-07`.
        source: one of SOURCES.
        scores: aligned with target_ids, higher is better; null unless status is ok.
        target: what target_ids name: a key of TARGETS, or annotator.
        aspect: under which aspect.
        status: one of STATUSES.
        replicate: which of several equal requests this is.
        revision: 1 for the first answer; a retry or a correction is one higher.
        key: see above.
        columns: further columns of the table.
    """
    ids = list(target_ids)
    return {
        "annotation_id": make_id("annotation", prompt_id, target, ids, protocol, annotator, aspect, replicate, key),
        "group_id": group_id,
        "prompt_id": prompt_id,
        "target": target,
        "target_ids": ids,
        "protocol": protocol,
        "scores": None if scores is None or status != "ok" else [float(score) for score in scores],
        "annotator": annotator,
        "aspect": aspect,
        "source": source,
        "status": status,
        "replicate": replicate,
        "revision": revision,
        "created_at": now(),
        **columns,
    }


def preference(
    *,
    group_id: str,
    prompt_id: str | None,
    response_ids: Sequence[str],
    scores: Sequence[float | None] | None,
    annotation_ids: Sequence[str] = (),
    aspect: str = "overall",
    kind: str = "conditional",
    weight: float = 1.0,
    key: object = None,
    **columns: Any,
) -> Row:
    """A row of `preferences`: ranked responses first, best first; equal scores state no order.

    The id hashes what it states and what that rests on (responses in order, context, kind, aspect, annotator, roles,
    prompts, annotation_ids and `key`), so that a looser rule that makes the same pair again gives it the same name.
    """
    ids, rests_on = list(response_ids), list(annotation_ids)
    said = [columns.get(name) for name in ("annotator", "roles", "prompt_ids", "ref_prompt_id", "link_id")]
    return {
        "preference_id": make_id("preference", prompt_id, ids, kind, aspect, rests_on, said, key),
        "group_id": group_id,
        "prompt_id": prompt_id,
        "response_ids": ids,
        "scores": None if scores is None else list(scores),
        "weight": weight,
        "aspect": aspect,
        "kind": kind,
        "annotation_ids": rests_on,
        **columns,
    }


def drop(table: str, row: Mapping[str, Any], *, reason: str, view: str = "main", restore: bool = False) -> Row:
    """A row of `drops` that hides `row` of `table` from `view` (or, for people only, brings it back)."""
    return {
        "table": table,
        "id": row[KEYS[table]],
        "group_id": row["group_id"],
        "view": view,
        "reason": reason,
        "restore": restore,
    }


def arrow_table(name: str, rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of `name`'s types that holds only the columns that some row fills.

    Raises:
        DataError: a row has a column the table does not have, or a value its column cannot hold.
    """
    schema = SCHEMAS[name]
    rows = list(rows)
    known = set(schema.names)
    filled: set[str] = set()
    for number, row in enumerate(rows, start=1):
        for column, value in row.items():
            if column not in known:
                raise DataError(f"row {number} of {name} has a column {column!r} that the table does not have")
            if value is not None:
                filled.add(column)
    arrays, fields = [], []
    for field in schema:
        if field.name not in filled and field.name != KEYS.get(name):
            continue
        values = [row.get(field.name) for row in rows]
        try:
            arrays.append(pa.array(values, type=field.type))
        except UnicodeEncodeError as error:
            raise DataError(f"column {field.name!r} of {name} holds half of a surrogate pair, no character") from error
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
            raise DataError(f"column {field.name!r} of {name} cannot hold what it was given: {error}") from error
        fields.append(field)
    return pa.table(arrays, schema=pa.schema(fields))


def check_annotations(rows: Iterable[Row], where: str) -> None:
    """Refuse annotations that would mislead whoever reads them later.

    Args:
        rows: rows of `annotations`.
        where: for the message: the file, step or call the rows come from.

    Raises:
        DataError: an unknown protocol, source, status or target, scores without status ok or of another length than
            the targets, a comparison whose scores do not sum to 1, a NaN, or a target twice.
    """
    for number, row in enumerate(rows, start=1):
        problem = _annotation_problem(row)
        if problem:
            raise DataError(f"{where}, annotation {number}: {problem}")


def _annotation_problem(row: Row) -> str | None:
    for column, allowed in (("protocol", PROTOCOLS), ("source", SOURCES), ("status", STATUSES)):
        if row.get(column) not in allowed:
            return f"{column} is {row.get(column)!r}; it must be one of {', '.join(sorted(allowed))}"
    if row.get("target", "response") not in {*TARGETS, "annotator"}:
        return f"target is {row.get('target')!r}; it must be one of {', '.join(sorted(TARGETS))}, annotator"
    targets, scores = row.get("target_ids") or [], row.get("scores")
    if not targets:
        return "it names no target"
    if len(set(targets)) != len(targets) and row.get("parts") is None:
        return "it names one target twice"
    if scores is None:
        return None
    if row["status"] != "ok":
        return f"it has scores although its status is {row['status']}"
    if len(scores) != len(targets):
        return f"it has {len(scores)} scores for {len(targets)} targets"
    if any(score is None or not math.isfinite(score) for score in scores):
        return "a score is missing or not a finite number"
    if row["protocol"] == "compare" and (len(scores) != 2 or abs(sum(scores) - 1) > 1e-6 or min(scores) < 0):
        return f"a comparison has two scores that are probabilities and sum to 1; these are {scores}"
    return None
