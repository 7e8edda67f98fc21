"""Tasks for the labelling page: prompts with candidate responses, in any of the usual shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

from prefdata import schema
from prefdata.formats.arrow_rows import ANY_JSON, LIST, NAME, TEXT, Columns
from prefdata.formats.gold import gold_of
from prefdata.formats.headers import called
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.json_list import rows_of
from prefdata.formats.pictures import FOLDER
from prefdata.formats.prompts import COLUMNS as PROMPT_COLUMNS
from prefdata.formats.prompts import prompt_of
from prefdata.formats.shapes import Candidate, candidates
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row

BESIDE = ("gold", "explanation", "warning")
"""Columns that annotators must not find in the dataset."""
OWN = {
    "responses": LIST,
    "models": LIST,
    "images": LIST,
    "language": NAME,
    "skill": NAME,
    "gold": ANY_JSON,
    "explanation": TEXT,
    "warning": TEXT,
}
KINDS = {**PROMPT_COLUMNS.kinds, **OWN}


@lru_cache(maxsize=256)
def _called(names: tuple[str, ...]) -> Mapping[str, str]:
    return called(names, KINDS)


COLUMNS = Columns(KINDS, PROMPT_COLUMNS.needed, lambda names: _called(tuple(names)))
PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
}
LARGEST_PICTURE = 32 << 20
SHAPES = (
    "responses (a list of texts or of {text, model, segments}), response_1, response_2, ..., response_a and "
    "response_b, chosen and rejected, or one response or completion"
)


@dataclass
class ImportedTasks(Imported):
    """What a file of tasks holds.

    Attributes:
        beside: by prompt_id what is not for the dataset, since annotators may see that: `gold` (the right answer),
            `explanation`, `warning`, and `response_ids`, the responses in the file's order, to which positions in
            `gold` refer.
    """

    beside: dict[str, Row] = field(default_factory=dict)


def read_tasks(source: str | Path, *, strict: bool = False) -> ImportedTasks:
    """Prompts with candidate responses to be labelled, one prompt a row, from CSV, JSON lines, a JSON list or Parquet.

    CSV may have commas, semicolons or tabs between its cells. The names of columns are taken with capitals, and with
    spaces or dashes for underscores (`Prompt`, `Response A`); `question` or `instruction` is the prompt where there is
    no `prompt`, and `answer_a` means what `response_a` does.

    A row holds a prompt's columns (see `prompts`) and its responses, as `responses` (a list of texts or of {text,
    model, segments}), `response_1`, `response_2` and so on, `response_a` and `response_b`, `chosen` and `rejected`
    (two responses; no preference is made of them, and their rows stand in the order of their ids), or one `response` or
    `completion`. `segments` are where the steps end (character positions, or {end, role, kind}), or the texts of the
    steps. Optional are `models` (a list) or `model_1`, `model_a`, `chosen_model`; `images` (paths of pictures, from the
    file's folder, which they must lie in); `language` and `skill`, which become the tags `language:de` and `skill:law`;
    `gold` (the right answer: an object, its positions in the file's order, or of two responses `a`, `b`, `tie` or
    `both_bad`), `explanation` and `warning`, which are not put into the dataset.

    Args:
        source: the file, or a folder of save_to_disk.
        strict: a row that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    beside: dict[str, Row] = {}
    for record in rows_of(intake, columns=COLUMNS):
        with intake.row(record):
            _take(intake, _named(record), beside)
    if beside:
        names = ", ".join(name for name in BESIDE if any(name in said for said in beside.values()))
        intake.remarks.append(
            f"{names} of {len(beside):,} prompts are not for the dataset: the labelling page takes them"
        )
    made = intake.imported()
    return ImportedTasks(made.rows, made.left_out, made.note, made.quarantined, made.files, beside)


def _named(record: Record) -> Record:
    """The row under the names that we know. Of JSON each row has its own: there a column may be empty in favour of
    another one of its meaning.
    """
    try:
        meant = COLUMNS.called([*record.row])
    except ValueError:
        try:
            meant = COLUMNS.called([name for name, value in record.row.items() if value is not None])
        except ValueError as error:
            raise record.error(str(error)) from None
    if not meant:
        return record
    taken = {meant.get(name, name): value for name, value in record.row.items() if value is None}
    taken |= {meant.get(name, name): value for name, value in record.row.items() if value is not None}
    return replace(record, row=taken)


def _take(intake: Intake, record: Record, beside: dict[str, Row]) -> None:
    found, read = candidates(record)
    if not found:
        there = ", ".join(repr(name) for name, value in record.row.items() if value is not None) or "none"
        raise record.error(f"it holds no response; found are the columns {there}, known are {SHAPES}")
    row = prompt_of(record, intake, {*OWN, *read})
    tags = [f"{name}:{value}" for name in ("language", "skill") if (value := record.name(name)) is not None]
    row["tags"] = list(dict.fromkeys([*(row.get("tags") or []), *tags])) or None
    media = _media(intake, record)
    if media:  # which the id hashes
        columns = {key: value for key, value in row.items() if key not in ("messages", "prompt_id", "group_id")}
        row = schema.prompt(row["messages"], **columns, media=media)
    prompt = intake.prompt(row)
    responses = _responses(record, prompt, found)
    shown = sorted(responses, key=lambda one: str(one["response_id"])) if found[0].column == "chosen" else responses
    for response in shown:
        intake.response(response)
    aside = _beside(record, len(responses))
    if not aside:
        return
    aside["response_ids"] = [response["response_id"] for response in responses]
    if beside.setdefault(prompt["prompt_id"], aside) != aside:
        raise record.error("an earlier row of this prompt says something else; keep one of them", next(iter(aside)))


def _responses(record: Record, prompt: Row, found: list[Candidate]) -> list[Row]:
    rows, seen = [], Counter[tuple[str, str]]()
    for number, one in enumerate(found, start=1):
        model = one.model or "unknown"
        # As in `ranked`: two equal answers of one model are two responses.
        key = [one.text, seen[model, one.text]]
        seen[model, one.text] += 1
        segments = _segments(record, one, number)
        rows.append(
            schema.response(prompt, model=model, text=one.text, key=key, meta=meta_json(one.rest), segments=segments)
        )
    return rows


def _segments(record: Record, one: Candidate, number: int) -> list[Row] | None:
    """Where the steps of a response end, whichever way the row says it."""
    given = one.segments
    if given is None:
        return None
    problem = (
        f"the segments of response {number} should be ends, texts or {{end, role, kind}} and are {describe(given)}"
    )
    if not isinstance(given, list) or not given:
        raise record.error(problem, one.column)
    if all(isinstance(entry, str) for entry in given):
        if "".join(given) != one.text:
            raise record.error(f"the segments of response {number} do not add up to its text", one.column)
        entries: list[Mapping[str, Any]] = [{"end": end} for end in accumulate(map(len, given))]
    else:
        entries = [{"end": entry} if isinstance(entry, int) else entry for entry in given]
    made, last = [], 0
    for entry in entries:
        end = entry.get("end") if isinstance(entry, Mapping) else None
        names = [entry.get(name, stands) for name, stands in (("role", "assistant"), ("kind", "step"))] if end else []
        if isinstance(end, bool) or not isinstance(end, int) or not all(isinstance(name, str) for name in names):
            raise record.error(problem, one.column)
        if not last < end <= len(one.text):
            raise record.error(
                f"the segments of response {number} should end one after another within its {len(one.text):,} "
                f"characters; one ends at {end:,}",
                one.column,
            )
        made.append({"end": end, "role": names[0], "kind": names[1]})
        last = end
    return made


def _media(intake: Intake, record: Record) -> list[Row] | None:
    value = record.structured("images")
    if value is None:
        return None
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise record.error(f"it should be a list of paths and is {describe(value)}", "images")
    return [_picture(intake, record, path) for path in paths] or None


def _picture(intake: Intake, record: Record, path: str) -> Row:
    """A picture that lies in the file's folder: a file from elsewhere must not make us show what lies beside it."""
    folder = record.file.resolve().parent
    if "://" in path:
        raise record.error(f"{path[:80]!r} is an address; name a file in the folder of {record.file.name}", "images")
    try:
        place = (folder / path).resolve()
        if not place.is_relative_to(folder) or not place.is_file():
            raise record.error(f"{path[:80]!r} is no file in the folder of {record.file.name}", "images")
        if place.stat().st_size > LARGEST_PICTURE:
            raise record.error(f"{path[:80]!r} is larger than {LARGEST_PICTURE >> 20} MiB", "images")
        content = place.read_bytes()
    except OSError as error:
        raise record.error(f"{path[:80]!r} cannot be read: {error.strerror}", "images") from None
    if not content.startswith(tuple(PICTURES)):
        raise record.error(f"{path[:80]!r} is no picture ({', '.join(PICTURES.values())} are known)", "images")
    kind = next(name for first, name in PICTURES.items() if content.startswith(first))
    digest = sha256(content).hexdigest()
    uri = f"{FOLDER}/{digest}.{kind.lower()}"
    intake.files[uri] = place
    return {"uri": uri, "sha256": digest, "kind": "image"}


def _beside(record: Record, count: int) -> Row:
    found: Row = {}
    if (gold := gold_of(record, count)) is not None:
        found["gold"] = gold
    for column in ("explanation", "warning"):
        if record.row.get(column) is not None:
            found[column] = record.text(column)
    return found
