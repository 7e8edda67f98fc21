"""`prefdata import`: take a source in, whatever its format, and say what was taken and what was not."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from prefdata.dataset import Dataset
from prefdata.dataset.dataset import Made
from prefdata.errors import DataError
from prefdata.formats.readers import read

DATASET = "prefdata"
"""The format that is another dataset."""

_TAKEN = ("prompts", "responses", "annotations", "criteria", "annotators")


def import_into(format: str, source: str | Path, dataset: str | Path) -> list[str]:
    """Import a source into a dataset, which is made where there is none.

    Args:
        format: one of `prefdata.formats.READERS`, or `prefdata` for another dataset.
        source: a file or folder.
        dataset: the dataset's folder.

    Returns:
        Sentences for the screen: what was new, what was there already, what was left out and why.

    Raises:
        DataError: the source cannot be read; nothing was imported then.
    """
    if format == DATASET:
        rows, notes = _live_rows(Path(source), Path(dataset))
        return [*notes, *_add(Dataset.create(dataset), rows, format, source)]
    taken = read(format, source)
    notes = [taken.note] if taken.note else []
    notes += [f"{count:,} left out: {reason}" for reason, count in sorted(taken.left_out.items())]
    if not any(taken.rows.values()):
        raise DataError(f"{source} holds nothing that can be imported as {format}")
    return [*_add(Dataset.create(dataset), taken.rows, format, source), *notes]


def _add(target: Dataset, rows: Made, format: str, source: str | Path) -> list[str]:
    counts = target.add_import(rows, source=format, fields={"format": format, "source": Path(source).name})
    given = {table: len(made) for table, made in rows.items()}
    return [
        f"{table}: {counts[table]:,} new" + (f", {there:,} were there" if (there := total - counts[table]) else "")
        for table, total in given.items()
        if total
    ]


def _live_rows(source: Path, target: Path) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """What another dataset holds, live: prompts, responses and judgements.

    Consensus and preferences are computed from these, so they are left to the pipelines of the dataset that takes them.
    """
    if source.resolve() == target.resolve():
        raise DataError(f"{source} cannot be imported into itself")
    view = Dataset(source).view()
    rows = {table: view[table].collect() for table in _TAKEN}
    said = rows["annotations"]
    rows["annotations"] = said.filter(pl.col("source") != "consensus")
    notes = []
    if left := said.height - rows["annotations"].height:
        notes.append(f"annotations: {left:,} of a consensus left out: they are computed anew")
    return rows, notes
