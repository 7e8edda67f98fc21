"""Prompts from JSON lines, CSV, Parquet, or a folder of datasets' save_to_disk."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from prefdata import schema
from prefdata.formats.arrow_rows import ANY_JSON, LIST, NAME, OBJECT, TEXT, Columns
from prefdata.formats.conversation import check_answerable, read_messages
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, describe, meta_json, parse_json, plain
from prefdata.schema import Row, canonical_json, message

COLUMNS = Columns(
    kinds={
        "prompt": TEXT,
        "messages": LIST,
        "system": TEXT,
        "references": LIST,
        "reference": TEXT,
        "tags": LIST,
        "verifier": OBJECT,
        "context": ANY_JSON,
        "tools": ANY_JSON,
        "user_id": NAME,
        "source": NAME,
        "id": NAME,
        "meta": OBJECT,
    },
    needed=(("prompt", "messages"),),
)
"""The columns that are understood. All others go into `meta`."""


def read_prompts(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, one a row.

    Columns: `prompt` (text) or `messages` (list of {role, content}; JSON text in CSV), and optionally `system`,
    `references` (list or text) or `reference`, `tags` (list, or text with commas), `verifier` ({kind, spec}),
    `context` (list of passages: texts, or {doc_id, text, label, score}), `tools` (JSON), `user_id`, `source`, `id`,
    `meta` (object). Any other column goes into `meta`. Of equal prompts the first wins.

    Args:
        source: the file (CSV with commas, semicolons or tabs, in UTF-8 or UTF-16), or a folder of save_to_disk.
        strict: a row that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    for record in intake.records(columns=COLUMNS):
        with intake.row(record):
            row = prompt_of(record, intake)
            if intake.prompt(row) is not row:
                intake.leave_out("equal prompt")
    return intake.imported()


def prompt_of(record: Record, intake: Intake, also_known: Collection[str] = ()) -> Row:
    """The prompt that a row states.

    Args:
        record: the row.
        intake: counts the columns that go into `meta`.
        also_known: columns that the caller reads itself.

    Raises:
        RowError: the row is not as `read_prompts` says.
    """
    unknown = {
        key: value
        for key, value in record.row.items()
        if key not in COLUMNS.kinds and key not in also_known and value is not None
    }
    intake.keep_in_meta(unknown)
    return schema.prompt(
        _messages(record),
        references=_references(record),
        source=record.name("source"),
        tags=_texts(record, "tags", split=","),
        user_id=record.name("user_id"),
        meta=_meta(record, unknown),
        context=_context(record),
        tools=_tools(record),
        verifier=_verifier(record),
    )


def _messages(record: Record) -> list[Row]:
    prompt, messages = record.row.get("prompt"), record.structured("messages")
    if prompt is not None and messages is not None:
        raise record.error("it has both prompt and messages; keep one of them")
    if messages is not None:
        turns = read_messages(record, "messages", messages)
        check_answerable(record, "messages", turns)
    elif prompt is not None:
        turns = [message("user", record.text("prompt"))]
    elif "prompt" in record.row:
        raise record.error("it is empty (null); give it a text or take the row out", "prompt")
    else:
        raise record.error("it has neither a prompt (text) nor messages (a list of {role, content})")
    if record.row.get("system") is not None:
        if turns[0]["role"] == "system":
            raise record.error("messages begin with a system turn already; keep one of them", "system")
        turns.insert(0, message("system", record.text("system")))
    return turns


def _texts(record: Record, column: str, *, split: str | None = None) -> list[str] | None:
    """A list of texts, or one text, which `split` cuts into several."""
    value = record.structured(column, always=False)
    if value is None:
        return None
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(split)] if split else [value]
        found = [part for part in parts if part.strip()]
    elif isinstance(value, list):
        found = value
    else:
        raise record.error(f"it should be a list of texts or one text and is {describe(value)}", column)
    return [record.checked(column, entry) for entry in found] or None


def _references(record: Record) -> list[str] | None:
    listed = _texts(record, "references") or []
    if record.row.get("reference") is not None:
        listed = [*listed, record.text("reference")]
    return listed or None


def _verifier(record: Record) -> Row | None:
    value = record.structured("verifier")
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) - {"kind", "spec"} or not isinstance(value.get("kind"), str):
        raise record.error(f"it should be an object with kind and spec and is {describe(value)}", "verifier")
    kind, spec = record.checked("verifier", value["kind"]), plain(value.get("spec"))
    return {"kind": kind, "spec": spec if spec is None or isinstance(spec, str) else canonical_json(spec)}


def _context(record: Record) -> list[Row] | None:
    value = record.structured("context")
    if value is None:
        return None
    passages = value if isinstance(value, list) else [value]
    return [_passage(record, number, passage) for number, passage in enumerate(passages, start=1)] or None


def _passage(record: Record, number: int, passage: object) -> Row:
    if isinstance(passage, str):
        return {"text": record.checked("context", passage)}
    known = ("doc_id", "text", "label", "score")
    if not isinstance(passage, Mapping) or set(passage) - set(known) or not isinstance(passage.get("text"), str):
        problem = f"passage {number} should be a text or an object of {', '.join(known)} and is {describe(passage)}"
        raise record.error(problem, "context")
    row: Row = {"text": record.checked("context", passage["text"])}
    for key in ("doc_id", "label"):
        if passage.get(key) is not None:
            row[key] = record.checked("context", str(passage[key]))
    score = passage.get("score")
    if score is not None:
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise record.error(f"the score of passage {number} should be a number and is {describe(score)}", "context")
        row["score"] = record.finite("context", score)
    return row


def _tools(record: Record) -> str | None:
    value = record.row.get("tools")
    if value is None:
        return None
    if isinstance(value, str):
        try:
            parse_json(value)
        except ValueError as error:
            raise record.error(str(error), "tools") from None
        return record.checked("tools", value)
    if not isinstance(value, list | Mapping):
        raise record.error(f"it should be a JSON schema and is {describe(value)}", "tools")
    return json.dumps(plain(value), ensure_ascii=False)


def _meta(record: Record, unknown: Mapping[str, Any]) -> str | None:
    own = record.structured("meta")
    if own is not None and not isinstance(own, Mapping):
        raise record.error(f"it should be an object and is {describe(own)}", "meta")
    return meta_json({**(own or {}), **unknown, "id": record.name("id")})
