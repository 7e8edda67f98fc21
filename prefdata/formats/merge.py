"""`prefdata import`: take a source in, whatever its format, and say what was taken and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from prefdata import schema
from prefdata.dataset import Dataset
from prefdata.dataset.dataset import Made
from prefdata.errors import DataError
from prefdata.formats.intake import Imported
from prefdata.formats.pictures import bring
from prefdata.formats.quarantine import keep, sentences
from prefdata.formats.readers import read
from prefdata.schema import KEYS, Row

DATASET = "prefdata"
"""The format that is another dataset."""

_TAKEN = ("prompts", "responses", "annotations", "criteria", "annotators")
_COMPARED = {
    "prompts": ("references", "source", "tags", "verifier", "meta"),
    "responses": ("text", "segments", "meta"),
}
"""Columns that an id does not hash, of tables without revisions: what is there stays, whatever a later import says."""


@dataclass(frozen=True)
class Told:
    """What an import has to say.

    Attributes:
        lines: what was new, what was there already, what was left out by rule.
        warnings: what could not be read and lies in quarantine.
    """

    lines: list[str]
    warnings: list[str] = field(default_factory=list)


def import_into(format: str, source: str | Path, dataset: str | Path, *, strict: bool = False) -> Told:
    """Import a source into a dataset, which is made where there is none.

    Rows of a file that cannot be read are kept in the dataset's `quarantine/`; the others are taken.

    Args:
        format: one of `prefdata.formats.READERS`, or `prefdata` for another dataset.
        source: a file or folder.
        dataset: the dataset's folder.
        strict: a row that cannot be read is an error.

    Raises:
        DataError: the source cannot be read, or with `strict` a row of it; nothing was imported then.
    """
    if format == DATASET:
        rows, notes = _live_rows(Path(source), Path(dataset))
        return Told([*notes, *_add(Dataset.create(dataset), rows, format, source)])
    taken = read(format, source, strict=strict)
    notes = [taken.note] if taken.note else []
    notes += [f"{count:,} left out: {reason}" for reason, count in sorted(taken.left_out.items())]
    if not any(taken.rows.values()):
        why = "; ".join([*notes[1:], *sentences(taken.quarantined)])
        raise DataError(f"{source} holds nothing that can be imported as {format}{': ' if why else ''}{why}")
    target = Dataset.create(dataset)
    # Before the rows: whatever stops the import between the two, nothing that was left out goes unsaid.
    kept = keep(
        target.path, f"import-{Path(source).name}", ["import", format, str(Path(source).resolve())], taken.quarantined
    )
    notes += [*_stay_as_they_were(target, taken), *_no_longer_there(target, taken, format, source)]
    bring(taken.files, target.path)
    return Told([*_add(target, taken.rows, format, source), *notes], sentences(taken.quarantined, kept))


def _stay_as_they_were(target: Dataset, taken: Imported) -> list[str]:
    """Of rows that an earlier import brought, those that say something else now."""
    said, free = [], target.snapshot.free_steps
    for table, columns in _COMPARED.items() if free else ():
        rows = {row[KEYS[table]]: row for row in taken.rows.get(table, [])}
        old = target.rows(table).filter(pl.col("step").is_in(free)).select(KEYS[table], *columns).collect()
        changed = Counter[str]()
        count = 0
        for row_id, *before in old.iter_rows():
            now = rows.get(row_id)
            differ = _differing(columns, before, now) if now is not None else []
            changed.update(differ)
            count += bool(differ)
        if count:
            said.append(
                f"{table}: {count:,} are there with another {', '.join(sorted(changed))}: an import changes nothing "
                f"that is there, so what came in first stays"
            )
    return said


def _differing(columns: Sequence[str], before: Sequence[object], now: Row) -> list[str]:
    return [
        column
        for column, old in zip(columns, before, strict=True)
        if old != now.get(column) and schema.clean([old]) != schema.clean([now.get(column)])
    ]


def _no_longer_there(target: Dataset, taken: Imported, format: str, source: str | Path) -> list[str]:
    """What earlier imports of a source of this name brought and this one does not.

    A text that was put right is one more row of the dataset, and what it was before is live beside it.
    """
    steps = [
        step
        for step, record in target.snapshot.steps.items()
        if record.kind == "import" and dict(record.fields) == _fields(format, source)
    ]
    if not steps:
        return []
    counts = {}
    for table in (*_COMPARED, "annotations"):
        key = KEYS[table]
        now = pl.DataFrame({key: [row[key] for row in taken.rows.get(table, [])]}, schema={key: pl.String}).lazy()
        before = target.rows(table).filter(pl.col("step").is_in(steps)).select(key).unique()
        counts[table] = before.join(now, on=key, how="anti").select(pl.len()).collect().item()
    gone = ", ".join(f"{count:,} {table}" for table, count in counts.items() if count)
    if not gone:
        return []
    return [
        f"earlier imports of {Path(source).name} brought {gone} that are not in it now: an import takes nothing away, "
        f"so they stay live (the step `ingest` would follow the file)"
    ]


def _fields(format: str, source: str | Path) -> dict[str, str]:
    return {"format": format, "source": Path(source).name}


def _add(target: Dataset, rows: Made, format: str, source: str | Path) -> list[str]:
    erased = target.erased
    counts = target.add_import(rows, source=format, fields=_fields(format, source))
    said = []
    for table, made in rows.items():
        gone = 0
        if erased:
            given = made.to_dicts() if isinstance(made, pl.DataFrame) else made
            gone = sum(erased.holds(table, row) for row in given)
        there = len(made) - counts[table] - gone
        parts = [f"{counts[table]:,} new"]
        parts += [f"{there:,} were there"] if there else []
        parts += [f"{gone:,} not taken, because they were erased here"] if gone else []
        said += [f"{table}: {', '.join(parts)}"] if len(made) else []
    return said


def _live_rows(source: Path, target: Path) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """What another dataset holds, live: prompts, responses and judgements.

    Consensus and preferences are computed from these, so they are left to the pipelines of the dataset that takes them.
    """
    if source.resolve() == target.resolve():
        raise DataError(f"{source} cannot be imported into itself")
    view = Dataset(source).view()
    rows = {table: view[table].collect() for table in _TAKEN}
    said = rows["annotations"]
    computed = (pl.col("source") == "consensus") | (pl.col("annotator") == "rule:split")
    rows["annotations"] = said.filter(~computed)
    notes = []
    if left := said.height - rows["annotations"].height:
        notes.append(f"annotations: {left:,} of a consensus or a split left out: they are computed anew")
    return rows, notes
