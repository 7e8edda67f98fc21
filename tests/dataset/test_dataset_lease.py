"""Leases: one holder at a time; what a killed one left is taken over; who may work beside whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prefdata.dataset import lease
from prefdata.dataset.lease import COMPACT, ERASE, REPAIR, STALE, HeldError, care, hold, leases
from prefdata.errors import DataError


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with hold(tmp_path, "line"):
        (held,) = leases(tmp_path)
        assert held.name == "line" and held.alive and held.pid == os.getpid()
        with pytest.raises(HeldError) as error, hold(tmp_path, "line"):
            pass
        assert error.value.lease.token == held.token
        with hold(tmp_path, "another/line"):
            assert {one.name for one in leases(tmp_path)} == {"line", "another/line"}
    assert leases(tmp_path) == [] and not list((tmp_path / lease.FOLDER).iterdir())


def test_of_many_that_want_it_one_gets_it(tmp_path: Path) -> None:
    begin, done = threading.Barrier(8), threading.Event()
    got: list[int] = []

    def want(number: int) -> None:
        begin.wait()
        try:
            with hold(tmp_path, "line"):
                got.append(number)
                done.wait(5)
        except HeldError:
            lost.append(number)
            if len(lost) == 7:
                done.set()

    lost: list[int] = []
    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(lost) == 7


KILLED = """
import sys, time
from pathlib import Path
from prefdata.dataset.lease import hold
with hold(Path(sys.argv[1]), "line"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(HeldError), hold(tmp_path, "line"):
            pass
        process.kill()
    assert leases(tmp_path) == [] and lease.abandoned(tmp_path) == ["line.json"]
    with hold(tmp_path, "line"):
        assert lease.abandoned(tmp_path) == []


def test_a_holder_on_another_machine_counts_until_it_is_silent(tmp_path: Path) -> None:
    path = tmp_path / lease.FOLDER / "line.json"
    with hold(tmp_path, "line"):
        said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "machine": "another", "host": "there", "pid": 1}))
    with pytest.raises(HeldError, match="process 1 on there"), hold(tmp_path, "line"):
        pass
    os.utime(path, (time.time() - STALE - 1,) * 2)
    with hold(tmp_path, "line"):
        assert leases(tmp_path)[0].pid == os.getpid()


def test_a_number_that_another_process_got_meanwhile_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / lease.FOLDER / "line.json"
    with hold(tmp_path, "line"):
        said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "started": "another moment"}))
    assert leases(tmp_path) == []
    path.write_text("half a lea")
    with hold(tmp_path, "line"):
        assert len(leases(tmp_path)) == 1


@pytest.mark.parametrize("name", [COMPACT, ERASE, REPAIR])
def test_those_who_care_work_one_at_a_time(tmp_path: Path, name: str) -> None:
    for other in (COMPACT, ERASE, REPAIR):
        refused = pytest.raises(DataError, match=f"{other.removeprefix('care:')} is at work on it .*process")
        with care(tmp_path, other), refused, care(tmp_path, name):
            pass
    with care(tmp_path, name):
        caretaker = lease.caretaker(tmp_path)
        assert (caretaker.name if caretaker else None) == (None if name == COMPACT else name)
        assert lease.runs(tmp_path) == []
    assert lease.caretaker(tmp_path) is None


def test_only_compact_works_beside_a_run(tmp_path: Path) -> None:
    with hold(tmp_path, "line"):
        assert [one.name for one in lease.runs(tmp_path)] == ["line"]
        with care(tmp_path, COMPACT):
            pass
        for name in (ERASE, REPAIR):
            with pytest.raises(DataError, match="a run of line is at work"), care(tmp_path, name):
                pass
    assert leases(tmp_path) == []
