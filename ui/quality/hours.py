"""Hours for pay: active minutes of each person by week, from what the page counted and from what can be true at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from csv import writer
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Protocol

import polars as pl
from sqlalchemy import Connection, and_, select

from ..store.tables import labels, people, projects, work

LEASE, IDLE = 20, 60
"""Minutes of a lease and idle seconds of a project that does not say them (`Project`'s own defaults)."""

HEADS = {
    "person": pl.String,
    "week": pl.String,
    "monday": pl.Date,
    "minutes": pl.Float64,
    "labels": pl.Int64,
    "corrections": pl.Int64,
    "skips": pl.Int64,
    "pay_an_hour": pl.Float64,
    "pay": pl.Float64,
    "idle_cutoff_seconds": pl.String,
    "cut": pl.Int64,
}

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Readable(Protocol):
    """The label store, as far as it is read here."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection whose queries see one state of the store."""
        ...


def hours(
    store: Readable, *, project: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> pl.DataFrame:
    """Active minutes and pay of each person by week (UTC, weeks begin on Monday).

    The page counts active seconds: time without a touch for longer than the project's idle cut-off is left out. What it
    states is believed only as far as it can be true, see `credited`. A correction is work too; an adjudication as well,
    but it counts neither as a label nor as a correction.

    Args:
        store: the label store.
        project: only this one's labels; all, unless given.
        since: labels from this moment on; a time without a zone is UTC.
        until: labels before this moment.

    Returns:
        person, week (`2026-W47`), monday, minutes, labels (first answers), corrections, skips, pay_an_hour, pay (null
        where no pay is set), idle_cutoff_seconds (of the projects worked in), cut (labels whose time was cut because
        the page stated more than there was); sorted by person and week.
    """
    with store.read() as db:
        rows = credited(db)
    if project is not None:
        rows = rows.filter(pl.col("project") == project)
    for moment, later in ((since, True), (until, False)):
        if moment is not None:
            at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            rows = rows.filter(pl.col("at") >= at if later else pl.col("at") < at)
    when = pl.from_epoch((pl.col("at") * 1000).floor().cast(pl.Int64), time_unit="ms")
    answered = (pl.col("status") == "ok") & (pl.col("kind") == "label")
    minutes = pl.col("credited").sum() / 60
    found = (
        rows.with_columns(monday=when.dt.truncate("1w").dt.date(), week=when.dt.strftime("%G-W%V"))
        .group_by("person", "week", "monday")
        .agg(
            minutes=minutes.round(2),
            labels=(answered & (pl.col("revision") == 1)).sum().cast(pl.Int64),
            corrections=(answered & (pl.col("revision") > 1)).sum().cast(pl.Int64),
            skips=(pl.col("status") == "skipped").sum().cast(pl.Int64),
            pay_an_hour=pl.col("pay").first(),
            pay=(minutes.round(2) / 60 * pl.col("pay").first()).round(2),
            idle_cutoff_seconds=pl.col("idle").unique().sort().cast(pl.String).str.join(", "),
            cut=pl.col("cut").sum().cast(pl.Int64),
        )
        .sort("person", "monday")
    )
    return found.select(pl.col(name).cast(kind) for name, kind in HEADS.items())


def csv(frame: pl.DataFrame) -> str:
    """A frame of `hours` as CSV that a spreadsheet can open without running anything in it.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    out = StringIO()
    made = writer(out, lineterminator="\r\n")
    made.writerow(frame.columns)
    for row in frame.iter_rows():
        made.writerow(_harmless(value) for value in row)
    return out.getvalue()


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def credited(db: Connection) -> pl.DataFrame:
    """The seconds that each label counts: what the page stated, but no more than can be true.

    A label counts at most the time since the person's label before it, of whatever project, and at most the time since
    the task was given to them. Where the task was given before an earlier label of theirs on it (a correction), or not
    at all (an adjudication), the length of a lease takes that place. So the hours of a person never exceed those of the
    clock, whatever a page sends. Labels that were taken back by somebody else (`deleted`) are no work.

    Args:
        db: a connection to the label store.

    Returns:
        label_id, person, pay, project, task_id, kind, status, revision, at (seconds since 1970), stated, credited (both
        in seconds), cut (whether the second is smaller), idle (the project's cut-off in seconds); in order of time.
    """
    rows = pl.DataFrame(list(_rows(db)), schema=_ROW, orient="row").sort("at", "label_id")
    before = pl.col("at").shift().over("person")
    on_task = pl.col("at").shift().over("person", "task_id")
    leased = pl.col("leased_at")
    fresh = leased.is_not_null() & (leased <= pl.col("at")) & (on_task.is_null() | (leased >= on_task))
    begun = pl.when(fresh.fill_null(False)).then(leased).otherwise(pl.col("at") - 60.0 * pl.col("lease"))
    possible = (pl.col("at") - pl.max_horizontal(begun, before)).clip(lower_bound=0)
    stated = pl.col("stated").fill_nan(0.0).clip(lower_bound=0)
    found = rows.with_columns(credited=pl.min_horizontal(stated, possible))
    # A clock that is half a second off is no fraud.
    return found.with_columns(cut=pl.col("stated") > pl.col("credited") + 1).drop("lease", "leased_at")


_ROW = {
    "label_id": pl.Int64,
    "person": pl.String,
    "pay": pl.Float64,
    "project": pl.String,
    "task_id": pl.Int64,
    "kind": pl.String,
    "status": pl.String,
    "revision": pl.Int64,
    "at": pl.Float64,
    "stated": pl.Float64,
    "idle": pl.Int64,
    "lease": pl.Float64,
    "leased_at": pl.Float64,
}


def _rows(db: Connection) -> Iterator[tuple[object, ...]]:
    given = and_(work.c.task_id == labels.c.task_id, work.c.person_id == labels.c.person_id)
    query = (
        select(
            labels.c.label_id,
            people.c.pseudonym,
            people.c.pay,
            labels.c.project_id,
            labels.c.task_id,
            labels.c.kind,
            labels.c.status,
            labels.c.revision,
            labels.c.created_at,
            labels.c.seconds,
            work.c.leased_at,
        )
        .join(people, people.c.person_id == labels.c.person_id)
        .outerjoin(work, given)
        .where(labels.c.status != "deleted")
    )
    known = {row.project_id: (row.name, row.spec or {}) for row in db.execute(select(projects))}
    for row in db.execute(query):
        name, spec = known[row.project_id]
        yield (
            *(row.label_id, row.pseudonym, row.pay, name, row.task_id, row.kind, row.status, row.revision),
            *(row.created_at, row.seconds, int(spec.get("idle", IDLE)), float(spec.get("lease", LEASE)), row.leased_at),
        )


def week_of(moment: datetime) -> tuple[datetime, datetime]:
    """The week (UTC) that a moment lies in: its Monday at midnight, and the next one."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=7)
