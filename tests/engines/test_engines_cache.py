"""The request cache: durable, shared, honest about what it holds."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest

from prefdata.engines.base import Reply
from prefdata.engines.cache import FILE, RequestCache, cache_folder
from prefdata.errors import DataError

REPLY = Reply(text="Äh, ja.", values=(-0.5, -1.25), prompt_tokens=7, completion_tokens=2, raw="{}")


def put(cache: RequestCache, key: str, reply: Reply = REPLY, payer: str = "d1") -> None:
    cache.put(key, reply, money=0.5, seconds=1.5, attempts=2, payer=payer)


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
