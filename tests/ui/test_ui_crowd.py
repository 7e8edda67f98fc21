"""Many people at once, and the server killed meanwhile: nothing that was acknowledged is lost, nothing is there twice.

The full form, with fifty people for three minutes, is `benchmarks/people.py`.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from crowd import Pace
from crowd_check import differences, faults, unfinished, unseen
from crowd_scene import Scene, Server, lean, set_up, work
from postgres import free_port, postgres, postgres_server

from prefdata.ui.accounts.people import Person

pytestmark = pytest.mark.slow

__all__ = ["postgres", "postgres_server"]

PACE = Pace(think=(0.0, 0.2), longest=1.0, lose=0.1, skip=0.05, leave=0.05, undo=0.15, look=0.1, ask=0.02)


def worked(folder: Path, store: str | None) -> Scene:
    """Eight people for eight seconds, and a kill."""
    scene = set_up(folder / "data", store, people=8, prompts=60)
    port = free_port()
    server = Server(lean(scene, port), port, folder / "log")
    try:
        (outage,) = asyncio.run(work(scene, server, PACE, seconds=8, kills=1))
    finally:
        server.kill()
    assert outage.on_the_way
    return scene


def check(scene: Scene, folder: Path) -> None:
    service = scene.service()
    try:
        assert sum(len(ledger.acknowledged) for ledger in scene.ledgers) > 20
        assert {said.status for ledger in scene.ledgers for said in ledger.acknowledged} == {"ok", "skipped"}
        assert faults(service.store, scene.ledgers) == []
        assert unfinished(service.store, folder / "copy.sqlite")[0] == []
        service.pull()
        assert differences(service, scene.ledgers) == []
        assert unseen(service.store, scene.ledgers, folder) == []
        said = next(said for ledger in scene.ledgers for said in ledger.last.values() if said.status == "ok")
        said.texts.reverse()
        assert differences(service, scene.ledgers), "nobody sees that the labels are of other texts"
    finally:
        service.close()


def test_a_crowd_and_a_kill_on_sqlite(tmp_path: Path) -> None:
    check(worked(tmp_path, None), tmp_path)


def test_a_crowd_and_a_kill_on_postgresql(tmp_path: Path, postgres: str) -> None:
    check(worked(tmp_path, postgres), tmp_path)


def test_nobody_who_holds_a_connection_waits_for_another(tmp_path: Path, postgres: str) -> None:
    """As many at once as there are connections: after a restart all pages ask the same in one moment."""
    scene = set_up(tmp_path / "data", postgres, people=40, prompts=2)
    service, begin, failed = scene.service(), threading.Barrier(40), []

    def look(person: Person) -> None:
        begin.wait()
        try:
            for _ in range(3):
                service.me(person)
                service.next(person, scene.projects[0])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=look, args=(person,)) for person in service.people.list()]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        service.close()
    assert failed == []
