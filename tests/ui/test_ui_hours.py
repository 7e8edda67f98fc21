"""Hours for pay: what is counted, what is not believed, and what a spreadsheet gets."""

from __future__ import annotations

import csv as csv_reader
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, update
from sqlalchemy.pool import StaticPool

from prefdata.ui.quality.hours import credited, csv, hours, week_of
from prefdata.ui.store.tables import labels, metadata, people, projects, tasks, work

MONDAY = datetime(2026, 11, 16, 9, tzinfo=UTC).timestamp()
HOUR = 3600.0


class Book:
    """A store in memory, with two projects and whoever is named."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self.engine)
        self.known: dict[str, int] = {}
        self.count = 0
        with self.engine.begin() as db:
            for number, spec in ((1, {"idle": 60, "lease": 20}), (2, {"idle": 120, "lease": 5})):
                values = {
                    "project_id": number,
                    "name": f"p{number}",
                    "spec": spec,
                    "guideline": "c@1",
                    "created_at": 0.0,
                }
                db.execute(insert(projects).values(state="open", **values))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as db:
            yield db

    def person(self, name: str, pay: float | None = None) -> int:
        if name not in self.known:
            with self.engine.begin() as db:
                made = db.execute(
                    insert(people).values(
                        pseudonym=name, role="annotator", state="active", groups=[], skills=[], pay=pay, created_at=0.0
                    )
                )
            self.known[name] = made.inserted_primary_key[0]  # type: ignore[index]
        return self.known[name]

    def label(
        self, who: str, at: float, seconds: float, *, leased: float | None = None, task: int | None = None, **rest: Any
    ) -> int:
        """A label at a moment (seconds after Monday at nine); leased that long after it, or never. Gives its task."""
        self.count += 1
        project = rest.pop("project", 1)
        with self.engine.begin() as db:
            if task is None:
                task = 1000 + self.count
                db.execute(
                    insert(tasks).values(
                        task_id=task,
                        project_id=project,
                        key=str(task),
                        group_id="g",
                        prompt_id="p",
                        target_ids=["a"],
                        priority=0.0,
                        wanted=1,
                        free=0,
                        state="open",
                    )
                )
                if leased is not None:
                    db.execute(
                        insert(work).values(
                            task_id=task,
                            person_id=self.person(who),
                            project_id=project,
                            state="done",
                            gold=False,
                            shown=[0],
                            leased_at=MONDAY + leased,
                            expires_at=MONDAY + leased + 1200,
                        )
                    )
            elif leased is not None:
                db.execute(update(work).where(work.c.task_id == task).values(leased_at=MONDAY + leased))
            values = {"status": "ok", "kind": "label", "revision": 1, **rest}
            db.execute(
                insert(labels).values(
                    task_id=task,
                    person_id=self.person(who),
                    project_id=project,
                    answer={},
                    shown=[0],
                    guideline="c@1",
                    seconds=seconds,
                    created_at=MONDAY + at,
                    client_key=str(self.count),
                    pulled=False,
                    **values,
                )
            )
        return task

    def seconds(self) -> list[float]:
        with self.read() as db:
            return credited(db)["credited"].to_list()


@pytest.fixture
def book() -> Book:
    return Book()


def test_a_week_by_hand(book: Book) -> None:
    book.person("ann", pay=18.0)
    book.label("ann", 100, 90.0, leased=0)
    book.label("ann", 300, 120.0, leased=110)
    book.label("ann", 400, 30.0, leased=310, status="skipped")
    book.label("ann", 7 * 24 * HOUR + 100, 60.0, leased=7 * 24 * HOUR)
    book.label("bob", 200, 45.0, leased=100, project=2)
    found = hours(book)
    assert found.rows() == [
        ("ann", "2026-W47", date(2026, 11, 16), 4.0, 2, 0, 1, 18.0, 1.2, "60", 0),
        ("ann", "2026-W48", date(2026, 11, 23), 1.0, 1, 0, 0, 18.0, 0.3, "60", 0),
        ("bob", "2026-W47", date(2026, 11, 16), 0.75, 1, 0, 0, None, None, "120", 0),
    ]


def test_one_label_is_no_ten_hours(book: Book) -> None:
    """The page says ten hours; the task was given to the person 90 seconds before."""
    book.label("eve", 90, 10 * HOUR, leased=0)
    assert book.seconds() == [90.0]
    assert hours(book)["cut"].to_list() == [1]


def test_time_is_not_counted_twice(book: Book) -> None:
    """Three tasks at once: each was open for ten minutes, but there were only ten minutes."""
    for place in range(3):
        book.label("eve", 600 + place, 600.0, leased=0)
    assert book.seconds() == [600.0, 1.0, 1.0]


def test_a_correction_counts_its_own_seconds(book: Book) -> None:
    task = book.label("ann", 100, 80.0, leased=0)
    book.label("ann", 160, 40.0, task=task, revision=2)
    found = hours(book)
    assert book.seconds() == [80.0, 40.0]
    assert found.select("labels", "corrections", "minutes").row(0) == (1, 1, 2.0)


def test_a_correction_on_another_day_is_at_most_a_lease(book: Book) -> None:
    """There is no lease for it to begin with, and the label before was a day ago."""
    task = book.label("eve", 100, 80.0, leased=0)
    book.label("eve", 100 + 24 * HOUR, 6 * HOUR, task=task, revision=2)
    assert book.seconds() == [80.0, 20 * 60.0]


def test_a_task_that_was_given_again_begins_anew(book: Book) -> None:
    task = book.label("ann", 100, 80.0, leased=0)
    book.label("ann", 5000, 900.0, task=task, leased=3000, revision=2)
    # The lease of the first answer is not known any more: it has the length of one, and the page's 80 seconds hold.
    assert book.seconds() == [80.0, 900.0]


def test_an_adjudication_is_work_and_has_no_lease(book: Book) -> None:
    book.label("lead", 100, 50.0, kind="adjudication")
    assert book.seconds() == [50.0]
    assert hours(book).select("labels", "corrections").row(0) == (0, 0)  # neither a label nor a correction of one


def test_what_was_taken_back_by_others_is_no_work(book: Book) -> None:
    task = book.label("ann", 100, 80.0, leased=0)
    book.label("ann", 200, 80.0, task=task, revision=2, status="deleted")
    assert book.seconds() == [80.0]


def test_weeks_turn_on_monday_at_midnight_utc(book: Book) -> None:
    sunday = 7 * 24 * HOUR - 9 * HOUR - 1
    book.label("ann", sunday, 10.0, leased=sunday - 60)
    book.label("ann", sunday + 2, 1.0, leased=sunday)
    assert hours(book)["week"].to_list() == ["2026-W47", "2026-W48"]
    assert [day.day for day in week_of(datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))] == [16, 23]


def test_the_turn_of_the_year_belongs_to_its_iso_week(book: Book) -> None:
    new_year = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp() - MONDAY
    book.label("ann", new_year, 10.0, leased=new_year - 60)
    assert hours(book).select("week", "monday").row(0) == ("2026-W53", date(2026, 12, 28))


def test_only_one_project_and_a_span_of_time(book: Book) -> None:
    book.label("ann", 100, 60.0, leased=0)
    book.label("ann", 400, 120.0, leased=200, project=2)
    assert hours(book).select("minutes", "idle_cutoff_seconds").row(0) == (3.0, "60, 120")
    assert hours(book, project="p2")["minutes"].to_list() == [2.0]
    assert hours(book, project="nothing").is_empty()
    middle = datetime.fromtimestamp(MONDAY + 300, UTC)
    assert hours(book, since=middle)["minutes"].to_list() == [2.0]
    assert hours(book, until=middle.replace(tzinfo=None))["minutes"].to_list() == [1.0]


def test_nothing_yet(book: Book) -> None:
    assert hours(book).is_empty()
    assert csv(hours(book)).startswith("person,week,monday,minutes,")


def test_a_spreadsheet_runs_nothing(book: Book) -> None:
    names = ['=HYPERLINK("https://evil.example")', "+1", "-2", "@SUM(A1)", "\tx", 'a,"b"', "plain"]
    for place, name in enumerate(names):
        book.label(name, 100 + place, 10.0, leased=0)
    cells = [row[0] for row in csv_reader.reader(io.StringIO(csv(hours(book))))][1:]
    assert sorted(cells) == sorted([f"'{name}" if name[0] in "=+-@\t" else name for name in names])


times = st.floats(0, 10 * HOUR, allow_nan=False)


@given(st.lists(st.tuples(times, st.floats(0, 20 * HOUR), st.none() | times), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_hours_never_exceed_those_of_the_clock(given: list[tuple[float, float, float | None]]) -> None:
    """Whatever a page sends: all of a person's time lies between the first lease (or its length) and the last label."""
    book = Book()
    for at, seconds, leased in given:
        book.label("eve", at, seconds, leased=None if leased is None else min(leased, at))
    found = book.seconds()
    last = max(at for at, _, _ in given)
    assert min(found) >= 0
    assert sum(found) <= last + 20 * 60 + 1e-6
