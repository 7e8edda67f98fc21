"""Write a report into a folder."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from prefdata.dataset import Dataset
from prefdata.report.analysis import analyse
from prefdata.report.numbers import Entry
from prefdata.report.page import page

PAGE = "report.html"
DATA = "report.json"


def write_report(
    dataset: Dataset,
    folder: Path,
    *,
    view: Mapping[str, pl.LazyFrame] | None = None,
    reference: str | None = None,
    pipeline: str | None = None,
) -> Entry:
    """Write report.html and report.json.

    Each file is replaced as a whole: a reader sees the old one or the new one.

    Args:
        dataset: which.
        folder: where the two files go; made if it is not there.
        view: see `prefdata.report.analyse`.
        reference: see there.
        pipeline: see there.

    Returns:
        The analysis.
    """
    found = analyse(dataset, view=view, reference=reference, pipeline=pipeline)
    texts = {DATA: json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n", PAGE: page(found)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _replace(folder / name, text)
    return found


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
