"""Rows of a JSON file that holds one list of objects, as labelling tools export them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from prefdata.errors import DataError
from prefdata.formats.arrow_rows import Columns
from prefdata.formats.intake import Intake
from prefdata.formats.lines import BOM, WIDE_MARKS, broken
from prefdata.formats.source import HalfPairError, Record, describe, is_whole, not_utf8


def rows_of(intake: Intake, *, columns: Columns, within: str | None = None) -> Iterator[Record]:
    """The rows of the intake's source: a `.json` list of objects, or any file that `Intake.records` reads.

    Args:
        intake: told of rows that cannot be read; read each of the others in its `row`.
        columns: what the format wants of its columns (CSV, Parquet).
        within: the name of the file to read where the source is a folder that holds it.

    Raises:
        DataError: see `prefdata.formats.intake.Intake.records`; the file is not a JSON list; no row can be taken.
    """
    path = intake.source / within if within is not None and (intake.source / within).is_file() else intake.source
    if not path.name.lower().endswith(".json") or not path.is_file():
        yield from intake.records(columns=columns, within=within)
        return
    before, count = len(intake.quarantined), 0
    for count, element in enumerate(_elements(path), start=1):
        record = Record(element if isinstance(element, dict) else {"row": element}, path, count)
        if problem := _problem(element):
            intake.refuse(record.error(problem))
        else:
            yield record
    if len(intake.quarantined) - before == count:
        raise intake.nothing_taken(path, intake.quarantined[before:])


def _problem(element: object) -> str | None:
    if not isinstance(element, dict):
        return f"it should be a JSON object and is {describe(element)}"
    try:
        text = json.dumps(element, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        return f"it cannot be kept: {error}"
    return None if is_whole(text) else str(HalfPairError(element))


def _elements(path: Path) -> list[object]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise broken(path, 0, error) from None
    if content.startswith(WIDE_MARKS):
        raise DataError(f"{path} is in UTF-16 or UTF-32: save it as UTF-8")
    try:
        found = json.loads(content.removeprefix(BOM).decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {not_utf8(error)}. Nothing of it was taken: save it as UTF-8") from None
    except json.JSONDecodeError as error:
        hint = "; if it holds one object a line, name it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(
            f"{path}, line {error.lineno}: it is not valid JSON ({error.msg}). Nothing of it was taken: "
            f"get the whole file{hint}"
        ) from None
    except (RecursionError, ValueError):
        raise DataError(
            f"{path} is not JSON that can be read: it is nested too deeply, or a number is too long"
        ) from None
    if not isinstance(found, list):
        raise DataError(f"{path} should hold one JSON list of objects and holds {describe(found)}")
    return found
