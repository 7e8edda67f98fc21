"""Which formats can be read."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from prefdata.errors import DataError
from prefdata.formats.alpacaeval import read_alpacaeval
from prefdata.formats.argilla import read_argilla
from prefdata.formats.csv_rows import is_spreadsheet, spreadsheet
from prefdata.formats.hh_rlhf import read_hh_rlhf
from prefdata.formats.intake import Imported, Reader
from prefdata.formats.label_studio import read_label_studio
from prefdata.formats.lamp import read_lamp
from prefdata.formats.oasst import read_oasst
from prefdata.formats.pandalm import read_pandalm
from prefdata.formats.prompts import read_prompts
from prefdata.formats.ranked import read_ranked
from prefdata.formats.source import suggestion
from prefdata.formats.tasks import read_tasks
from prefdata.formats.trl_pairs import read_trl_pairs
from prefdata.formats.ukpconvarg import read_ukpconvarg

READERS: dict[str, Reader] = {
    "prompts": read_prompts,
    "ranked": read_ranked,
    "hh-rlhf": read_hh_rlhf,
    "oasst": read_oasst,
    "ukpconvarg": read_ukpconvarg,
    "pandalm": read_pandalm,
    "lamp": read_lamp,
    "alpacaeval": read_alpacaeval,
    "trl-pairs": read_trl_pairs,
    "tasks": read_tasks,
    "label-studio": read_label_studio,
    "argilla": read_argilla,
}
"""Every format that can be read, by the name that `prefdata import` and `ingest` know."""


def read(format: str, source: str | Path, *, strict: bool = False, **options: Any) -> Imported:
    """Read another tool's data as rows of our tables.

    A row that cannot be read is left out: look at `quarantined` of what is returned.

    Args:
        format: a key of READERS.
        source: a file or folder.
        strict: a row that cannot be read is an error.
        options: what the reader takes beside these (for example `annotator` for ranked and trl-pairs).

    Raises:
        DataError: the format or an option is not known; the file cannot be read, or no row of it; or, with `strict`,
            some row is not what the format says. Names file, row and column.
    """
    reader = READERS.get(format)
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise DataError(f"there is no format {format!r} to read{suggestion(format, READERS)} (known: {known})")
    parameters = inspect.signature(reader).parameters
    taken = [name for name in parameters if name not in ("source", "strict")]
    for name in options:
        if name not in taken:
            known = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise DataError(f"the format {format!r} has no option {name!r}{suggestion(name, taken)} ({known})")
    if is_spreadsheet(Path(source)) and Path(source).is_file():  # here, for readers that want a folder as well
        raise spreadsheet(Path(source))
    if "strict" in parameters:  # a reader without it takes its source whole or not at all
        options["strict"] = strict
    return reader(source, **options)
