"""The request cache: durable, shared, honest about what it holds."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.engines import cache as cache_module
from prefdata.engines import cache_file
from prefdata.engines.base import Reply
from prefdata.engines.cache import CacheEntry, CacheLockedError, RequestCache, cache_folder
from prefdata.engines.cache_file import FILE, filesystem_of, is_shared
from prefdata.engines.group_commit import GroupCommit
from prefdata.errors import DataError

REPLY = Reply(text="Äh, ja.", values=(-0.5, -1.25), prompt_tokens=7, completion_tokens=2, raw="{}")


def put(cache: RequestCache, key: str, reply: Reply = REPLY, payer: str = "d1", group_id: str | None = None) -> None:
    cache.put(key, reply, money=0.5, seconds=1.5, attempts=2, payer=payer, group_id=group_id)


@contextmanager
def locked(folder: Path) -> Iterator[sqlite3.Connection]:
    """Another process is writing."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


def journal_of(folder: Path) -> str:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def mounts(folder: Path, kind: str) -> Path:
    """A table of mounts in which `folder` lies on a file system of that kind."""
    table = folder.parent / f"mounts-{kind}"
    place = str(folder).replace(" ", "\\040")
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"40 22 0:40 / {place} rw,relatime shared:2 master:3 - {kind} server:/export rw,vers=4.2\n"
        f"41 22 0:41 / {place}-and-more rw - xfs /dev/sdb1 rw\n"
    )
    return table


def test_what_goes_in_comes_out_also_from_another_connection(tmp_path: Path) -> None:
    first, second = RequestCache(tmp_path), RequestCache(tmp_path)
    put(first, "k")
    entry = second.get("k")
    assert entry is not None
    assert entry.reply == REPLY
    assert (entry.money, entry.seconds, entry.attempts, entry.payer) == (0.5, 1.5, 2, "d1")
    assert second.has("k") and not second.has("other")
    assert second.get("other") is None


def test_the_first_reply_of_a_request_stays(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)
    put(cache, "k")
    put(cache, "k", Reply(text="another"), payer="d2")
    entry = cache.get("k")
    assert entry is not None and entry.reply.text == "Äh, ja." and entry.payer == "d1"


def test_a_refusal_and_a_truncated_answer_stay_what_they_are(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)
    for reason in ("refusal", "length"):
        put(cache, reason, Reply(text=None, finish_reason=reason))
        entry = cache.get(reason)
        assert entry is not None and entry.reply.finish_reason == reason


def test_a_failure_is_never_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never kept"):
        put(RequestCache(tmp_path), "k", Reply(finish_reason="error"))


def test_it_lies_where_the_environment_says_and_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path / "here"))
    cache = RequestCache()
    assert cache_folder() == tmp_path / "here"
    assert (tmp_path / "here" / FILE).stat().st_mode & 0o077 == 0
    assert cache.persistent


def test_without_a_writable_folder_it_says_so_once_and_works_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    cache = RequestCache(tmp_path / "file" / "cache", said.append)
    put(cache, "k")
    assert cache.get("k") is not None
    assert not cache.persistent
    assert len(said) == 1 and "PREFDATA_CACHE" in said[0] and str(tmp_path) in said[0]


def test_a_damaged_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database, it is a letter to a friend" * 50)
    said: list[str] = []
    cache = RequestCache(tmp_path, said.append)
    put(cache, "k")
    assert cache.get("k") is not None and len(said) == 1
    assert (tmp_path / FILE).read_text().startswith("this is no database")


def test_stats_and_prune(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)
    for number in range(10):
        put(cache, f"k{number}", Reply(text="x" * 1000, prompt_tokens=3, completion_tokens=4))
    stats = cache.stats()
    assert (stats.replies, stats.prompt_tokens, stats.completion_tokens, stats.money) == (10, 30, 40, 5.0)
    assert stats.bytes > 10_000
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE replies SET created = created - 86400 * 10 WHERE key IN ('k0', 'k1', 'k2')")
    assert cache.prune(older_than_days=9) == 3
    one = len(Reply(text="x" * 1000, prompt_tokens=3, completion_tokens=4).to_json().encode())
    assert cache.prune(max_bytes=4 * one) == 3
    assert cache.get("k9") is not None and cache.get("k3") is None
    assert cache.prune(everything=True) == 4
    assert cache.stats().replies == 0 and cache.stats().oldest is None


def test_prune_wants_to_be_told_what(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)
    with pytest.raises(DataError, match="say what to forget"):
        cache.prune()
    with pytest.raises(DataError, match="negative"):
        cache.prune(max_bytes=-1)


def _write_many(folder: str, name: str) -> None:
    cache = RequestCache(Path(folder))
    for number in range(50):
        put(cache, f"{name}-{number}")


def test_threads_and_processes_write_at_once(tmp_path: Path) -> None:
    shared = RequestCache(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [put(shared, f"t{n}-{i}") for i in range(50)])  # type: ignore[misc]
        for n in range(4)
    ]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(str(tmp_path), f"p{n}")) for n in range(2)]
    for worker in [*processes, *threads]:
        worker.start()
    for worker in [*processes, *threads]:
        worker.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert shared.stats().replies == 300


@settings(max_examples=200)
@given(
    text=st.none() | st.text(st.characters()),
    raw=st.text(st.characters(exclude_categories=())),
    values=st.lists(st.floats(allow_nan=False)).map(tuple),
    mass=st.none() | st.floats(0, 1),
)
def test_a_reply_comes_back_as_it_was(
    text: str | None, raw: str, values: tuple[float, ...], mass: float | None
) -> None:
    """Also half surrogate pairs, which a cut answer may end with, and infinite log-probabilities."""
    reply = Reply(text=text, values=values, mass=mass, raw=raw, prompt_tokens=3)
    assert Reply.from_json(reply.to_json()) == reply
    reply.to_json().encode()


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path)
    put(cache, "k", Reply(text="cut \ud83d", values=(-math.inf,)))
    entry = cache.get("k")
    assert entry is not None and entry.reply.text == "cut \ud83d" and entry.reply.values == (-math.inf,)


def test_on_a_local_disk_the_journal_is_a_write_ahead_log(tmp_path: Path) -> None:
    said: list[str] = []
    put(RequestCache(tmp_path, said.append), "k")
    assert journal_of(tmp_path) == "wal" and not said


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "fuse.sshfs", "9p"])
def test_on_a_network_file_system_the_journal_is_rolled_back_and_that_is_said_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "_said", set())
    folder = tmp_path / "shared folder"
    folder.mkdir()
    said: list[str] = []
    first = RequestCache(folder, said.append, mounts=mounts(folder, kind))
    second = RequestCache(folder, said.append, mounts=mounts(folder, kind))
    put(first, "k")
    assert second.get("k") is not None and journal_of(folder) == "delete"
    assert first._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert not (folder / f"{FILE}-wal").exists()
    assert len(said) == 1 and kind in said[0] and "rollback journal" in said[0] and str(folder) in said[0]


def test_a_file_with_a_write_ahead_log_is_converted_where_that_is_unsafe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "_said", set())
    old = RequestCache(tmp_path / "c")
    put(old, "k")
    copied = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    old.close()
    for name, content in copied.items():  # as a killed run leaves it: the answer lies in the write-ahead log only
        (tmp_path / "c" / name).write_bytes(content)
    assert copied[f"{FILE}-wal"]
    moved = RequestCache(tmp_path / "c", lambda sentence: None, mounts=mounts(tmp_path / "c", "nfs"))
    assert moved.persistent and moved.get("k") is not None
    assert journal_of(tmp_path / "c") == "delete"


def test_where_sqlite_gives_no_write_ahead_log_the_journal_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "_said", set())
    real = cache_file._pragma
    monkeypatch.setattr(
        cache_file, "_pragma", lambda c, pragma: "delete" if pragma == "journal_mode=WAL" else real(c, pragma)
    )
    said: list[str] = []
    put(RequestCache(tmp_path, said.append), "k")
    assert journal_of(tmp_path) == "delete" and len(said) == 1


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    table = mounts(folder, "nfs4")
    assert filesystem_of(folder / "deep" / "er", table) == "nfs4"
    assert filesystem_of(tmp_path / "a b-and-more", table) == "xfs"
    assert filesystem_of(tmp_path / "a b-and", table) == "ext4", "a mount point is a folder, not a prefix"
    table.write_text(table.read_text() + f"50 40 0:50 / {str(folder).replace(' ', chr(92) + '040')} rw - tmpfs x rw\n")
    assert filesystem_of(folder, table) == "tmpfs", "the last one covers those before"
    assert filesystem_of(folder, tmp_path / "missing") == ""
    (tmp_path / "odd").write_text("nothing that can be read\n\n1 2 3 - \n")
    assert filesystem_of(folder, tmp_path / "odd") == ""
    assert not is_shared("") and not is_shared("ext4") and not is_shared("fuse.fuse-overlayfs")
    assert is_shared("fuse.rclone") and is_shared("nfs")


OLD_TABLE = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    money REAL, seconds REAL NOT NULL, attempts INTEGER NOT NULL, created REAL NOT NULL, payer TEXT NOT NULL
) WITHOUT ROWID
"""


def test_a_file_of_an_earlier_version_keeps_its_answers_and_takes_groups(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as old, old:
        old.execute(OLD_TABLE)
        row = ("k", '{"text": "old", "finish_reason": "stop", "values": []}', 3, 4, 0.5, 1.0, 1, 1e9, "d1")
        old.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    cache, beside = RequestCache(tmp_path), RequestCache(tmp_path)
    entry = cache.get("k")
    assert entry == CacheEntry(Reply(text="old"), 0.5, 1.0, 1, 1e9, "d1", 3, 4, None)
    put(beside, "new", group_id="g")
    again = cache.get("new")
    assert again is not None and again.group_id == "g"
    assert cache.payers("d") == ["d1"] and list(cache.paid_by("d1")) == [["k", "new"]]


def test_who_paid_for_what_is_found_by_the_beginning_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefdata.engines.cache._LISTED_AT_ONCE", 2)
    cache = RequestCache(tmp_path)
    for place, payer in enumerate(["a/1", "a/2", "a/2", "a/2", "a", "a0", "b/1", "a/10"]):
        put(cache, f"k{place}", payer=payer)
    assert cache.payers("a/") == ["a/1", "a/10", "a/2"] and cache.payers("c/") == []
    assert list(cache.paid_by("a/2")) == [["k1", "k2"], ["k3"]] and list(cache.paid_by("a/")) == []
    with closing(sqlite3.connect(tmp_path / FILE)) as reader:
        plans = [
            reader.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchone()[3]
            for query, values in ((cache_module._NEXT_PAYER, ("a", "b")), (cache_module._PAID, ("a", "", 2)))
        ]
    assert all(plan.startswith("SEARCH replies USING COVERING INDEX replies_by_payer") for plan in plans), plans


SECRETS = [f"secret-{number}-of-somebody" for number in range(1300)]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


@pytest.mark.parametrize("kind", ["ext4", "nfs"])
def test_what_is_forgotten_is_in_no_byte_of_the_files(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    cache = RequestCache(folder, lambda sentence: None, mounts=mounts(folder, kind))
    entries = []
    for place, secret in enumerate(SECRETS):
        reply = Reply(text=f"{secret} " * 3, raw=f"raw {secret}")
        entries.append((f"key-{place}", CacheEntry(reply, None, 1.0, 1, 1.0, "d1", 1, 1, f"group-{place}")))
        entries.append((f"stays-{place}", CacheEntry(REPLY, None, 1.0, 1, 1.0, "d1", 1, 1)))
    cache.put_all(entries)
    beside = RequestCache(folder, lambda sentence: None, mounts=mounts(folder, kind))
    assert beside.get("key-3") is not None
    before = bytes_of(folder)
    assert all(secret.encode() in before for secret in SECRETS), "the control: they are in plain sight"
    gone = cache.forget((f"key-{n}" for n in range(1200)), [f"group-{n}" for n in range(1100, 1300)])
    assert gone == 1300
    left = bytes_of(folder)
    assert not any(secret.encode() in left for secret in SECRETS) and b"group-12" not in left
    assert cache.stats().replies == 1300 and cache.get("stays-7") is not None
    assert beside.get("key-3") is None
    assert cache.forget(["key-1"], ["group-1"]) == 0 == cache.forget([])


def test_who_reads_what_is_to_be_forgotten_is_waited_for_and_then_named(tmp_path: Path) -> None:
    cache = RequestCache(tmp_path, patience=0.2)
    put(cache, "k", Reply(text="secret"))
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM replies").fetchall()
        with pytest.raises(DataError, match="end that process and do this again"):
            cache.forget(["k"])
    cache.forget(["k"])
    assert cache.get("k") is None and b"secret" not in bytes_of(tmp_path)


def test_an_answer_that_cannot_be_written_for_a_lock_is_written_later(tmp_path: Path) -> None:
    said: list[str] = []
    cache = RequestCache(tmp_path, said.append, patience=0.1)
    with locked(tmp_path):
        put(cache, "first")
        put(cache, "second")
        entry = cache.get("first")
        assert entry is not None and entry.reply == REPLY, "kept in memory"
    assert len(said) == 1 and "locked" in said[0] and "tried again" in said[0]
    other = RequestCache(tmp_path)
    assert other.get("first") is None
    put(cache, "third")
    assert {key: other.has(key) for key in ("first", "second", "third")} == dict.fromkeys(
        ("first", "second", "third"), True
    )
    with locked(tmp_path):
        put(cache, "fourth")
    cache.close()
    assert other.has("fourth"), "written in the end"


def test_an_answer_that_can_never_be_written_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    cache = RequestCache(tmp_path, said.append, patience=0.05)
    with locked(tmp_path):
        put(cache, "k")
        cache.close()
    assert "1 answer" in said[-1] and "asked again" in said[-1]


def test_a_lock_of_another_process_stops_readers_of_a_rolled_back_journal_only_for_a_while(tmp_path: Path) -> None:
    said: list[str] = []
    cache = RequestCache(tmp_path / "c", said.append, mounts=mounts(tmp_path / "c", "nfs"), patience=0.1)
    said.clear()
    put(cache, "k")
    with locked(tmp_path / "c") as other:
        with pytest.raises(CacheLockedError):
            cache.get("k", wait=False)
        found: list[CacheEntry | None] = []
        waiting = threading.Thread(target=lambda: found.append(cache.get("k")))
        waiting.start()
        time.sleep(0.3)
        assert not found
        other.execute("ROLLBACK")
        waiting.join(10)
    assert found[0] is not None and found[0].reply == REPLY
    assert len(said) == 1 and "waits for it" in said[0]
    with locked(tmp_path / "c"), pytest.raises(DataError, match="end that process and run again"):
        cache.get("k")


def test_many_answers_share_a_commit_and_each_is_durable_when_it_is_handed_on(tmp_path: Path) -> None:
    cache, other = RequestCache(tmp_path), RequestCache(tmp_path)
    commits: list[int] = []
    real = cache.put_all

    def counted(entries: list[tuple[str, CacheEntry]]) -> list[Reply]:
        commits.append(len(entries))
        return real(entries)

    cache.put_all = counted  # type: ignore[method-assign, assignment]
    keeper = GroupCommit(cache)

    async def keep(number: int) -> None:
        reply = Reply(text=f"answer {number}")
        entry = CacheEntry(reply, None, 1.0, 1, 1.0, "d1", 1, 1)
        assert await keeper.keep(f"k{number}", entry) == reply
        assert other.has(f"k{number}")

    async def keep_all() -> None:
        await asyncio.gather(*(keep(number) for number in range(200)))

    asyncio.run(keep_all())
    asyncio.run(keep_all())  # in another event loop, and all of them stand there already
    assert sum(commits) == 400 and len(commits) < 20
