"""`kill -9`, again and again: the run that goes on ends as one that was never killed. benchmarks/kill9.py is longer."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_line import (
    AT_ONCE,
    Fell,
    Kill,
    ServedApart,
    bill,
    contents,
    differences,
    doctored,
    in_flight_at,
    random_kills,
    repeats,
    run_killed,
    run_to_the_end,
    served_apart,
    unseen_parts,
    write_line,
)

import prefdata

pytestmark = pytest.mark.slow

PROMPTS = 50
JUDGED = 2 * PROMPTS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApart]:
    with served_apart(tmp_path_factory.mktemp("server"), latency=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_line(tmp_path_factory.mktemp("kill"), PROMPTS)


@pytest.fixture(scope="module")
def whole(pipeline: Path, server: ServedApart) -> Path:
    """The dataset of a run that nobody killed, with a request cache of its own."""
    folder = pipeline.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDATA_CACHE", str(folder / "its-own-cache"))
        patch.setenv("LOOPBACK", server.url)
        assert prefdata.run(pipeline, folder / "whole").exit_code == 0
    return folder / "whole"


def test_killed_again_and_again(pipeline: Path, whole: Path, server: ServedApart, tmp_path: Path) -> None:
    """Inside the judging, inside its commit, and inside the commit of what is computed from it."""
    begun, dataset = len(server.events()), tmp_path / "killed"
    kills = [
        run_killed(pipeline, dataset, server, kill)
        for kill in (
            Kill(requests=30, wait=0.03, flush=0.05),
            Kill(commit="judge.compare", flush=0.15),
            Kill(requests=10, wait=0.07),
            Kill(commit="pair"),
        )
    ]
    assert [kill.where == "commit" for kill in kills] == [False, True, False, True]
    # While it commits it reads no answers: none may be open then, but those are not kept.
    assert all(0 < kill.in_flight.total() <= 2 * AT_ONCE and kill.open <= AT_ONCE for kill in (kills[0], kills[2]))
    assert kills[1].unnamed > kills[0].unnamed or kills[1].unnamed >= 3  # its parts lie there, and no commit names them
    run_to_the_end(pipeline, dataset, server)
    again, wrong = repeats(server.events(), kills, begun)
    assert not wrong
    assert sum(again) <= sum(kill.in_flight.total() for kill in kills) < JUDGED and again[3] == 0
    assert not differences(contents(dataset), contents(whole))
    assert not unseen_parts(dataset)
    assert bill(dataset) == bill(whole)
    assert bill(dataset)["calls"] == JUDGED and bill(dataset)["billed twice"] == 0
    asked = server.asked()
    run_to_the_end(pipeline, dataset, server)
    assert server.asked() == asked and not differences(contents(dataset), contents(whole))


def test_the_comparison_can_fail(whole: Path, tmp_path: Path) -> None:
    """It sees each of the things that were done to a copy."""
    wanted, seen = contents(whole), {}
    assert not differences(contents(whole), wanted)
    for what, copy in doctored(whole, tmp_path / "copy"):
        seen[what] = differences(contents(copy), wanted)
        if "twice" in what:
            assert bill(copy)["billed twice"] == 1
        shutil.rmtree(copy)
    assert all(seen.values()) and len(seen) == 4
    assert any(sentence.startswith("annotations: 1 missing") for sentence in seen["a judgement is hidden"])


def event(kind: str, number: int, at: float, connection: int = 1, delivered: bool = True) -> dict[str, Any]:
    sha = "abc"[number % 3]
    fields = {"event": kind, "number": number, "sha": sha, "at": at, "connection": connection}
    return fields | {"delivered": delivered and kind == "answered"}


def test_what_was_in_flight() -> None:
    """Hand-made: a (0) is answered and its connection used again, b (1) was just answered, c (2) is open."""
    events = [
        event("asked", 0, 1.0),
        event("answered", 0, 1.1),
        event("asked", 1, 1.2),
        event("asked", 2, 1.3, connection=2),
        event("answered", 1, 1.4),
        event("answered", 2, 9.0, connection=2, delivered=False),
    ]
    assert in_flight_at(events, 1.45) == (1, Counter("bc"))
    # What the client had sent, and the server read from its socket only after its end.
    assert in_flight_at([*events, event("asked", 3, 1.5, connection=3)], 1.45) == (2, Counter("abc"))


def test_repeats_can_be_wrong() -> None:
    """What was in flight may come once more, nothing else may, and not more often."""
    first = [event("asked", 0, 1.0), event("asked", 1, 1.5)]
    kill = Fell("step", "", 2, 1, Counter("b"), 0, 0)
    assert repeats([*first, event("asked", 1, 3.0)], [kill]) == ([1], [])
    assert repeats([*first, event("asked", 0, 3.0)], [kill])[1]
    assert repeats([*first, event("asked", 1, 3.0), event("asked", 1, 4.0)], [kill])[1]
    assert repeats([*first, event("asked", 1, 3.0)], [])[1]
    assert repeats([*first, event("asked", 1, 3.0)], [kill], begun=2) == ([0], [])


def test_a_history_is_the_seed_s() -> None:
    commits = ("ingest", "judge.compare", "judge.compare", "aggregate", "pair")
    kills = random_kills(20, commits, 90, seed=4)
    assert kills == random_kills(20, commits, 90, seed=4) != random_kills(20, commits, 90, seed=5)
    assert len(kills) == 20 and Counter(kill.commit for kill in kills if kill.commit) == Counter(commits)
    assert sum(kill.requests > 0 for kill in kills) >= 10
    assert kills[0].commit == "ingest" and [kill.commit for kill in kills[-2:]] == ["aggregate", "pair"]
