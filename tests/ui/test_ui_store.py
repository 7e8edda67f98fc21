"""The store: versions, copies, addresses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from labelled import answer, person, project, service, submit
from sqlalchemy import create_engine, select

from prefdata.errors import DataError
from prefdata.ui.store import Store
from prefdata.ui.store.tables import labels, metadata
from prefdata.ui.store.versions import NEWEST, version_of

OLDER = sorted((Path(__file__).parent.parent / "frozen" / "labels").glob("*.sql"))


def test_a_new_store_is_of_the_newest_version(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.read() as db:
        assert version_of(db) == NEWEST
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


@pytest.mark.parametrize("old", OLDER, ids=lambda path: path.stem)
def test_a_store_of_every_older_version_is_brought_up(tmp_path: Path, old: Path) -> None:
    with sqlite3.connect(tmp_path / "labels.sqlite") as file:
        file.executescript(old.read_text(encoding="utf-8"))
    store = Store.open(tmp_path)
    with store.read() as db:
        assert version_of(db) == NEWEST
        assert compare_metadata(MigrationContext.configure(db), metadata) == []
        assert [row.answer for row in db.execute(select(labels))] == [{"choice": 1}]


def test_a_store_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "labels.sqlite") as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DataError, match="newer prefdata"):
        Store.open(tmp_path)


def test_a_copy_holds_everything_and_overwrites_nothing(tmp_path: Path) -> None:
    made = service(tmp_path)
    who = person(made)
    task = made.next(who, project(made, who))["task"]
    submit(made, who, task, "k1", answer(task))
    counted = made.store.backup(str(tmp_path / "copy.sqlite"))
    assert counted["labels"] == 1 and counted["people"] == 1
    copy = create_engine(f"sqlite:///{tmp_path / 'copy.sqlite'}")
    with copy.connect() as theirs, made.store.read() as ours:
        for table in metadata.sorted_tables:
            assert theirs.execute(select(table)).all() == ours.execute(select(table)).all()
    with pytest.raises(DataError, match="there already"):
        made.store.backup(str(tmp_path / "copy.sqlite"))


def test_the_files_of_a_store_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.read():
        pass
    store.backup(str(tmp_path / "copy.sqlite"))
    files = sorted(tmp_path.iterdir())
    assert {file.name for file in files} >= {"labels.sqlite", "labels.sqlite-wal", "labels.sqlite-shm", "copy.sqlite"}
    assert [oct(file.stat().st_mode & 0o077) for file in files] == ["0o0"] * len(files)


def test_a_store_that_was_opened_to_others_stays_so(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "labels.sqlite").chmod(0o660)
    Store.open(tmp_path).close()
    assert (tmp_path / "labels.sqlite").stat().st_mode & 0o777 == 0o660


def test_a_copy_into_no_folder_and_a_file_that_is_no_store_get_a_sentence(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        store.backup(str(tmp_path / "nowhere" / "copy.sqlite"))
    (tmp_path / "text.sqlite").write_text("no database " * 500)
    with pytest.raises(DataError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path / 'text.sqlite'}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/x", "not mysql"),
        ("nonsense", "sqlite:///PATH"),
        ("sqlite:////no/such/folder/x.sqlite", "cannot be opened"),
    ],
)
def test_a_wrong_address_gets_a_sentence(url: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Store(url)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(DataError) as error:
        Store("postgresql+psycopg://somebody:secret@127.0.0.1:1/x")
    assert "secret" not in str(error.value)
