"""The sandbox against the programs in hostile/, in namespaces and, where a Python allows it, without them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from prefdata.annotators import sandbox
from prefdata.annotators.cases import Found, read_tests, run_tests
from prefdata.annotators.sandbox import Ended, Limits, run_program, seccomp, start
from prefdata.annotators.sandbox.landlock import version

pytestmark = pytest.mark.skipif(sandbox.refusal() is not None, reason=f"no sandbox here: {sandbox.refusal()}")

PROGRAMS = {path.stem: path for path in sorted((Path(__file__).parent / "hostile").glob("*.py"))}
TESTS = read_tests("assert answer() == 42")
LIMITS = Limits(
    cpu_seconds=1, wall_seconds=1.5, memory_mb=256, disk_mb=4, files=100, processes=6, open_files=64, output_kb=64
)
PRIVATE = range(1_880_000_000, 1_880_000_000 + (1 << 20))
NAMESPACES: frozenset[str] = frozenset()
LANDLOCK = frozenset({"namespaces"})
ONCE = frozenset(
    {"sleep", "stop_itself", "signals_ignored", "huge_power", "busy"}
)  # the clock that ends them knows no namespaces


def _without_namespaces() -> str | None:
    """The Python for a run without namespaces: root gives up its rights there, and may need another one."""
    for path in (start.interpreter(), "/usr/bin/python3", "/usr/local/bin/python3"):
        if version() and Path(path).exists():
            found = run_program({"a.py": "import ctypes"}, "a.py", limits=LIMITS, python=path, without=LANDLOCK)
            if (found.how, found.code) == ("exit", 0):
                return path
    return None


def _with_namespaces() -> bool:
    return "namespaces" in run_program({"a.py": ""}, "a.py", limits=LIMITS).guards


ELSEWHERE = _without_namespaces() if sandbox.refusal() is None else None
MODES: dict[str, tuple[str | None, frozenset[str]]] = {}
if sandbox.refusal() is None and _with_namespaces():
    MODES["namespaces"] = (None, NAMESPACES)
if ELSEWHERE:
    MODES["landlock"] = (ELSEWHERE, LANDLOCK)
RUNS = [(mode, name) for mode in MODES for name in PROGRAMS if mode == next(iter(MODES)) or name not in ONCE]


@dataclass
class Suite:
    found: dict[tuple[str, str], Found | None]
    folders: list[str]
    processes: list[str]
    reached: bool
    canary: Path


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """All programs are run, several at once; then the machine is looked at."""
    canary = tmp_path_factory.mktemp("home") / "canary"
    canary.write_text("unharmed")
    folder = tmp_path_factory.mktemp("folders")
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, socket.socket() as server:
        patch.setenv("PREFDATA_TEST_KEY", "ESCAPED-a-key")
        patch.setattr(tempfile, "tempdir", None)
        server.bind(("127.0.0.1", 8000) if _free(8000) else ("127.0.0.1", 0))
        server.listen(1)
        server.setblocking(False)
        before = _folders()

        def one(run: tuple[str, str]) -> Found | None:
            python, without = MODES[run[0]]
            source = PROGRAMS[run[1]].read_text()
            # The others have time: on a busy machine none of them is to be killed for that.
            limits = LIMITS if "killed after" in source else replace(LIMITS, wall_seconds=60.0)
            return run_tests(source, TESTS, limits, python, without)

        with ThreadPoolExecutor(6) as pool:
            found = dict(zip(RUNS, pool.map(one, RUNS), strict=True))
        folders, processes = _staying(_folders, before), _staying(_left_behind, set())
        try:
            server.accept()
            reached = True
        except BlockingIOError:
            reached = False
        yield Suite(found, folders, processes, reached, canary)


def _folders() -> set[str]:
    return {str(path) for path in Path(tempfile.gettempdir()).glob("prefdata-box-*")}


def _staying(look: Callable[[], set[str]], before: set[str]) -> list[str]:
    """What is there and does not go away: those of sandboxes of other tests, which run meanwhile, do."""
    found, until = look() - before, time.monotonic() + 20
    while found and time.monotonic() < until:
        time.sleep(0.05)
        found &= look()
    return sorted(found)


def _free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


def _left_behind() -> set[str]:
    """Processes of private users, and those that run in a sandbox's folder or are one."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, user = (process / "cmdline").read_bytes(), process.stat().st_uid
        except OSError:
            continue
        if user in PRIVATE or b"harness.py" in command or b"sandbox.box" in command:
            found.add(f"{process.name}: {command!r}")
    return found


def test_there_are_enough_programs() -> None:
    assert len(PROGRAMS) >= 20


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), RUNS, ids=[f"{mode}-{name}" for mode, name in RUNS])
def test_it_is_contained_and_reported_as_failed_with_its_reason(suite: Suite, mode: str, name: str) -> None:
    found = suite.found[mode, name]
    assert found is not None
    assert (found.passed, found.share) == (0, 0.0)
    assert "ESCAPED" not in found.said
    says = re.search(r"^# says: (.*)$", PROGRAMS[name].read_text(), re.MULTILINE)
    assert says and re.search(says[1], found.said), found.said


def test_the_machine_is_unharmed(suite: Suite) -> None:
    assert suite.processes == []
    assert suite.folders == []
    assert not suite.reached
    assert suite.canary.read_text() == "unharmed"
    assert not list(Path("/tmp").glob("ESCAPED*"))


def test_it_says_what_held_a_program(suite: Suite) -> None:
    for (mode, name), found in suite.found.items():
        assert found is not None and {mode, "seccomp"} <= set(found.guards), name
        assert ("uid" in found.guards) == (os.geteuid() == 0)


HONEST = {
    "files": "open('a','w').write('x'); answer = lambda: 41 + len(open('a').read())",
    "temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'1')\nanswer = lambda: 42",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 42\n"
    "answer = lambda: asyncio.run(f())",
    "threads": "import concurrent.futures as c\nanswer = lambda: c.ThreadPoolExecutor(2).submit(lambda: 42).result()",
    "subprocess": "import subprocess\nanswer = lambda: int(subprocess.check_output(['/bin/echo', '42']))",
    "printing": "print('hello')\ndef answer():\n    print('é' * 100)\n    return 42",
    "main block": "def answer():\n    return 42\nif __name__ == '__main__':\n    raise SystemExit(1)",
    "signals to itself": "import os, signal\nsignal.signal(10, lambda *_: 0)\nos.kill(os.getpid(), 10)\n"
    "answer = lambda: 42",
    "random and time": "import random, time, uuid, hashlib\nuuid.uuid4(), random.random()\nanswer = lambda: 42",
    "many threads": "import threading, time\nts = [threading.Thread(target=time.sleep, args=(1,)) for _ in 'abcde']\n"
    "[t.start() for t in ts]\nanswer = lambda: [t.join() for t in ts] and 42",
    "the order of a set": "import sys\nanswer = lambda: 42 - sys.flags.hash_randomization",
    "nothing to read or write": "import subprocess\nsubprocess.run(['/bin/echo'], stdin=-3, stdout=-3, check=True)\n"
    "answer = lambda: 42",
    "ctypes": "import ctypes\nanswer = lambda: ctypes.CDLL(None).abs(-42)",
}


@pytest.mark.parametrize("mode", MODES)
def test_honest_programs_are_not_disturbed(mode: str) -> None:
    python, without = MODES[mode]
    limits = Limits(wall_seconds=60, disk_mb=4)

    def one(source: str) -> Found | None:
        return run_tests(source, TESTS, limits, python, without)

    with ThreadPoolExecutor(3) as pool:
        said = {name: found and found.said for name, found in zip(HONEST, pool.map(one, HONEST.values()), strict=True)}
    assert said == dict.fromkeys(HONEST, "")


def test_namespaces_alone_deny_the_network() -> None:
    """Where the filter's numbers are not known, a socket may be had and leads nowhere."""
    if "namespaces" not in MODES:
        pytest.skip("this kernel gives no namespaces")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        probe = start._PROBE.format(port=server.getsockname()[1])
        ended = run_program({"a.py": probe}, "a.py", without=frozenset({"seccomp"}))
    assert (ended.results[0], "seccomp" in ended.guards) == (b"denied", False)


def test_the_probe_reaches_the_server_where_nothing_denies_it() -> None:
    """A negative control: what `refusal` runs would notice."""
    with socket.socket() as server, tempfile.TemporaryFile() as told:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        probe = start._PROBE.format(port=server.getsockname()[1]).replace("os.write(3", "os.write(1")
        subprocess.run([sys.executable, "-I", "-c", probe], stdout=told, check=True)
        told.seek(0)
        assert told.read() == b"reached"


class Machine:
    """What a filter says to a system call: a small interpreter of its code."""

    def __init__(self, machine: str, only_to: int | None = None, *, keep_modes: bool = False) -> None:
        self.lines = seccomp.filter_lines(machine, only_to, keep_modes=keep_modes)
        self.architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]

    def __call__(self, number: int, *arguments: int, architecture: int | None = None) -> str:
        values = [*arguments, *[0] * (6 - len(arguments))]
        words = {0: number, 4: architecture or self.architecture}
        for place, value in enumerate(values):
            words[16 + 8 * place], words[20 + 8 * place] = value & 0xFFFFFFFF, value >> 32
        place, held = 0, 0
        while True:
            code, true, false, value = self.lines[place]
            if code == 0x20:
                held = words[value]
                place += 1
            elif code == 0x06:
                return {0x7FFF0000: "allow", 0x80000000: "kill"}.get(value) or errno.errorcode[value & 0xFFFF]
            else:
                holds = {0x15: held == value, 0x35: held >= value, 0x25: held > value, 0x45: bool(held & value)}[code]
                place += 1 + (true if holds else false)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_denies_what_it_names_and_nothing_else(machine: str) -> None:
    place = seccomp._PLACE[machine]
    says = Machine(machine)
    assert len(says.lines) < 4096
    for numbers in seccomp._DENIED.values():
        if (number := numbers[place]) is not None:
            assert says(number) == "EPERM"
    read, write, openat, exit_group, execve = {
        "x86_64": (0, 1, 257, 231, 59),
        "aarch64": (63, 64, 56, 94, 221),
    }[machine]
    assert [says(number) for number in (read, write, openat, exit_group, execve)] == ["allow"] * 5
    assert says(read, architecture=0x40000003) == "kill"  # the ABI of 32 bits
    assert says(451) == says(10_000) == "ENOSYS"
    clone, socketpair, sendto, prlimit = ({"x86_64": (56, 53, 44, 302), "aarch64": (220, 199, 206, 261)})[machine]
    assert says(435) == "ENOSYS"  # clone3, whose flags lie where a filter cannot look
    assert (says(clone, 0x11), says(clone, 0x10000011)) == ("allow", "EPERM")
    assert (says(socketpair, 1), says(socketpair, 2)) == ("allow", "EPERM")
    assert (says(sendto, 3, 1, 1, 0, 0), says(sendto, 3, 1, 1, 0, 1 << 32), says(sendto, 3, 1, 1, 0, 7)) == (
        "allow",
        "EPERM",
        "EPERM",
    )
    assert (says(prlimit, 0), says(prlimit, 7)) == ("allow", "EPERM")


def test_the_filter_lets_signals_go_to_one_process_where_it_is_told_so() -> None:
    says = Machine("x86_64", only_to=77, keep_modes=True)
    assert [says(62, 77), says(62, 78), says(62, (1 << 32) - 1), says(234, 77), says(234, 1)] == [
        "allow",
        "EPERM",
        "EPERM",
        "allow",
        "EPERM",
    ]
    assert (says(90), Machine("x86_64")(90)) == ("EPERM", "allow")
    assert Machine("x86_64")(62, 78) == "allow"
    assert Machine("x86_64")(0x40000000 | 41) == "kill"  # x32


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_file_is_told_to_send_signals(machine: str) -> None:
    """F_SETOWN, F_SETOWN_EX, FIOSETOWN and SIOCSPGRP: by these a file sends any signal to any process of the user."""
    says, place = Machine(machine), seccomp._PLACE[machine]
    fcntl, ioctl = seccomp._FCNTL[place], seccomp._IOCTL[place]
    assert [says(fcntl, 3, command) for command in (8, 15, 1024, 1026)] == ["EPERM"] * 4
    assert [says(ioctl, 3, command) for command in (0x5412, 0x8901, 0x8902)] == ["EPERM"] * 3
    assert [says(fcntl, 3, command) for command in (1, 2, 3, 4, 1030, 1031)] == ["allow"] * 6
    assert [says(ioctl, 3, command) for command in (0x5401, 0x5413, 0x541B)] == ["allow"] * 3


def test_what_is_too_deep_for_a_path_is_removed(tmp_path: Path) -> None:
    top, here = tmp_path / "box", Path.cwd()
    top.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    os.chdir(top)
    try:
        for _ in range(1500):
            Path("f").write_text("x")
            Path("link").symlink_to(outside)
            Path("d").mkdir()
            os.chdir("d")
        Path().chmod(0)
    finally:
        os.chdir(here)
    start._remove(str(top))
    assert not top.exists()
    assert (outside / "kept").read_text() == "kept"


def test_without_namespaces_there_has_to_be_a_filter() -> None:
    """Landlock denies TCP, but neither UDP nor local sockets."""
    ended = run_program({"a.py": ""}, "a.py", without=frozenset({"namespaces", "seccomp"}))
    assert (ended.how, "denied by seccomp alone" in ended.said) == ("sandbox", True) or version() == 0


def test_a_home_that_lies_in_the_folder_of_python_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefdata.annotators.sandbox import box

    for prefix in ("/", str(Path.home()), str(Path.home().parent)):
        monkeypatch.setattr(sys, "base_prefix", prefix)
        with pytest.raises(PermissionError, match="your home lies in it"):
            box._readable(sys.executable)


def test_many_runs_leave_nothing() -> None:
    def seen() -> tuple[int, int]:
        return len(Path("/proc/self/mounts").read_text().splitlines()), len(list(Path("/proc/self/fd").iterdir()))

    run_program({"a.py": ""}, "a.py")
    before, folders, processes = seen(), _folders(), _left_behind()
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: run_program({"a.py": "open('a', 'w')"}, "a.py"), range(8)))
    assert {(one.how, one.code) for one in ended} == {("exit", 0)}
    assert seen() == before
    assert _staying(_folders, folders) == _staying(_left_behind, processes) == []


def test_limits_are_what_was_asked_for() -> None:
    program = (
        "import os, resource as r\n"
        "os.write(3, repr([r.getrlimit(w) for w in "
        "(r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE)]).encode())"
    )
    limits = Limits(cpu_seconds=3, memory_mb=100, disk_mb=2, open_files=20)
    ended = run_program({"a.py": program}, "a.py", limits=limits)
    wanted = [3, 100 << 20, 2 << 20, 20, 1]
    assert ended.results[0].decode() == repr([(value, value) for value in wanted])


def test_a_sandbox_that_cannot_be_set_up_says_so() -> None:
    ended = run_program({"a.py": ""}, "a.py", without=frozenset({"namespaces", "landlock"}))
    assert (ended.how, "neither namespaces nor Landlock" in ended.said) == ("sandbox", True)


KILLED = """
import sys
sys.path.append(sys.argv[1])
from sandbox import Limits, run_program
source = "import ctypes, os, time" + chr(10) + "ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)" + chr(10)
source += "if os.fork() == 0: os.setsid()" + chr(10) + "time.sleep(600)"
limits = Limits(wall_seconds=500)
run_program({"harness.py": source}, "harness.py", limits=limits, python=sys.argv[2] or None, without=set(sys.argv[3:]))
"""


@pytest.mark.parametrize("mode", MODES)
def test_what_it_started_ends_with_prefdata(mode: str) -> None:
    """Also when that is killed and can clean up nothing."""
    python, without = MODES[mode]
    before = _left_behind()
    temporary = Path(tempfile.mkdtemp(prefix="prefdata-test-"))
    temporary.chmod(0o755)  # as root, the program is another user
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(sandbox.__file__).parent.parent), python or "", *without],
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        _wait_until(lambda: sum(b"harness.py" in line.encode() for line in _left_behind() - before) >= 2)
    finally:
        process.kill()
        process.wait()
    _wait_until(lambda: not _left_behind() - before)
    assert mode != "namespaces" or not list(temporary.iterdir())
    shutil.rmtree(temporary)


def _wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


class TestRefusal:
    @pytest.fixture(autouse=True)
    def fresh(self) -> Iterator[None]:
        start._refusal.cache_clear()
        yield
        start._refusal.cache_clear()

    def test_elsewhere_than_on_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(start.sys, "platform", "darwin")
        assert "needs Linux" in str(start.refusal())

    def test_with_an_interpreter_that_is_not_there(self) -> None:
        assert "/nowhere/python cannot be run" in str(start.refusal("/nowhere/python"))

    @pytest.mark.parametrize(
        ("ended", "says"),
        [
            (Ended("exit", results=(b"reached",)), "denies a program neither sockets (seccomp) nor"),
            (Ended("exit", results=(b"",)), "denies a program neither sockets (seccomp) nor"),
            (Ended("sandbox", said="no Landlock"), "no Landlock"),
            (Ended("exit", 1, output="no ctypes"), "no ctypes"),
            (Ended("exit", results=(b"denied",)), "None"),
        ],
    )
    def test_it_says_what_the_probe_found(self, monkeypatch: pytest.MonkeyPatch, ended: Ended, says: str) -> None:
        monkeypatch.setattr(start, "run_program", lambda *_, **__: ended)
        assert says in str(start.refusal())
