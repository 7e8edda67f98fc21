"""A run that is killed again and again beside one that is not: the line, the kills, and the comparison."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from served_line import loopback_engine

from prefdata.dataset import Dataset

TESTS = Path(__file__).resolve().parent.parent
AT_ONCE = 16
"""Requests in flight."""
COMMAND = "from prefdata.cli import main; main()"

_TIMES = {"annotations": ["created_at", "seconds"], "calls": ["created_at", "seconds", "attempts"]}
_SETTLED = 0.05
"""Seconds after which an answer that reached a living client is taken to be kept."""


# The line


def write_line(folder: Path, prompts: int) -> Path:
    """A file of ranked pairs, and the pipeline that judges each in both orders: two judgements a prompt."""
    rows = []
    for n in range(prompts):
        answers = [f"It is {2 * n}.", f"Add {n} to {n}, which is as much as two times {n}, and you get {2 * n}."]
        rows.append({"prompt": f"What is {n} plus {n}?", "responses": answers, "ranking": [[n % 2], [1 - n % 2]]})
    (folder / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = loopback_engine("judge", "${LOOPBACK}", max_concurrency=AT_ONCE, price={"prompt": 3.0, "completion": 5.0})
    steps: list[dict[str, Any]] = [
        {"ingest": {"format": "ranked", "path": str(folder / "ranked.jsonl")}},
        {"judge.compare": {"engine": "judge", "card": "helpfulness", "orders": "both"}},
        {"aggregate.bradley_terry": {}},
        {"select.where": {"table": "responses", "keep": "length(text) > 2"}},
        {"pair": {"rule": "best_worst", "min_gap": 0.1}},
        {"split": {"valid": 0.1}},
        {"export": {"name": "pairs", "format": "trl-pairs", "path": "pairs.parquet"}},
        {"export": {"name": "lists", "format": "lists", "path": "lists.parquet"}},
    ]
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump({"engines": {"judge": engine}, "steps": steps}, sort_keys=False))
    return path


# The server


@dataclass
class ServedApart:
    """The loopback server in a process of its own, and what it says of each request."""

    url: str
    file: Path
    _read: int = 0
    _events: list[dict[str, Any]] = field(default_factory=list)

    def events(self) -> list[dict[str, Any]]:
        """Every request as it came, and as it was answered (or not), in order."""
        with self.file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        self._events += [json.loads(line) for line in whole.splitlines()]
        return self._events

    def asked(self) -> int:
        """How many requests have come."""
        return sum(event["event"] == "asked" for event in self.events())

    def settle(self) -> None:
        """Wait until nothing more comes of a client that is gone: what it had sent may still lie in its sockets."""
        count = -1
        while count != len(self.events()) or 2 * self.asked() != count:
            count = len(self.events())
            time.sleep(0.15)


@contextmanager
def served_apart(folder: Path, latency: float) -> Iterator[ServedApart]:
    """Start the server, and end it with the block."""
    file = folder / "events.jsonl"
    command = [sys.executable, str(TESTS / "fault_server.py"), "--latency", str(latency), "--events", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield ServedApart(process.stdout.readline().strip(), file)
    finally:
        process.terminate()
        process.communicate()


# The kills


@dataclass(frozen=True)
class Kill:
    """When to kill a run: in the commit that begins so, after so many requests, or after so many seconds.

    `wait` is how much later; `flush` how often that run commits (None: as the command line does).
    """

    commit: str = ""
    requests: int = 0
    wait: float = 0.0
    flush: float | None = None


@dataclass(frozen=True)
class Fell:
    """Where a kill fell.

    Attributes:
        where: `commit`, `step` (requests were open) or `between` (none were).
        detail: the message of the commit, or what had been committed last.
        seen: events that the server had noted when nothing more came of the run that was killed.
        open: requests that had come and were not answered.
        in_flight: hashes of the requests that the client may not have kept: those, and what it may not have read.
        unnamed: parts on the disk that no commit names.
        commits: that the log had.
    """

    where: str
    detail: str
    seen: int
    open: int
    in_flight: Counter[str]
    unnamed: int
    commits: int


def random_kills(kills: int, in_commit: Sequence[str], requests: int, seed: int) -> list[Kill]:
    """A history: the commits named, in their order, and the other kills at random moments of the judging between.

    Args:
        kills: in all.
        in_commit: how the commits begin in which to kill; those of the judging stand among the random ones.
        requests: at most so many are asked between two kills.
        seed: of the moments.
    """
    draw = random.Random(seed)
    judging = [begins for begins in in_commit if begins.startswith("judge")]
    before = list(in_commit[: in_commit.index(judging[0])]) if judging else []
    after = [begins for begins in in_commit if begins not in judging and begins not in before]
    middle = [Kill(commit=begins, flush=0.2) for begins in judging]
    while len(middle) < kills - len(before) - len(after):
        flush = draw.choice([None, 0.2, 0.2])
        if draw.random() < 0.1:
            middle.append(Kill(wait=draw.uniform(0.1, 2.0), flush=flush))
        else:
            asked = draw.randint(max(1, requests // 5), requests)
            middle.append(Kill(requests=asked, wait=draw.uniform(0.0, 0.15), flush=flush))
    draw.shuffle(middle)
    return [Kill(commit=b) for b in before] + middle + [Kill(commit=b) for b in after]


def run_killed(pipeline: Path, dataset: Path, server: ServedApart, kill: Kill, limit: float = 120.0) -> Fell:
    """Start the command, kill it, and say where it fell.

    Raises:
        AssertionError: it ended, or the moment did not come within `limit` seconds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        marker = Path(scratch) / "paused"
        begun, before = len(server.events()), server.asked()
        process = started(command_of(pipeline, dataset, kill, marker), server)
        until = time.monotonic() + limit

        def reached() -> bool:
            return marker.exists() if kill.commit else server.asked() - before >= kill.requests

        while not reached():
            assert process.poll() is None, f"it ended before {kill}: {process.communicate()[1]}"
            assert time.monotonic() < until, f"it did not come to {kill}"
            time.sleep(0.002)
        time.sleep(kill.wait)
        assert process.poll() is None, f"it ended before {kill}: {process.communicate()[1]}"
        at = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        said = marker.read_text() if kill.commit else ""
    server.settle()
    return _fell(dataset, server, begun, at, said)


def run_to_the_end(pipeline: Path, dataset: Path, server: ServedApart, cache: Path | None = None) -> None:
    """The same command, let to end."""
    environment = _environment(server) | ({"PREFDATA_CACHE": str(cache)} if cache else {})
    command = [sys.executable, *command_of(pipeline, dataset, Kill(), Path())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def command_of(pipeline: Path, dataset: Path, kill: Kill, marker: Path) -> list[str]:
    """What runs a pipeline, for Python: the command line, or that in a process that pauses in a commit."""
    arguments = ["run", str(pipeline), "--dataset", str(dataset)]
    if not kill.commit and kill.flush is None:
        return ["-c", COMMAND, *arguments]
    options = ["--flush", str(kill.flush)] if kill.flush is not None else []
    options += ["--pause", kill.commit, "--marker", str(marker)] if kill.commit else []
    return [str(TESTS / "killed_run.py"), *options, "--", *arguments]


def started(command: Sequence[str], server: ServedApart) -> subprocess.Popen[str]:
    """A process of Python that asks this server."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(server),
    )


def _environment(server: ServedApart) -> dict[str, str]:
    return {**os.environ, "LOOPBACK": server.url}


def _fell(dataset: Path, server: ServedApart, begun: int, at: float, said: str) -> Fell:
    still_open, in_flight = in_flight_at(server.events()[begun:], at)
    snapshot = Dataset(dataset).snapshot if (dataset / "prefdata.json").exists() else None
    commits = snapshot.commits if snapshot else ()
    named = {part.path for commit in commits for part in commit.parts}
    on_disk = {str(path.relative_to(dataset)) for path in dataset.glob("parts/*/*.parquet")}
    where = "commit" if said else "step" if still_open else "between"
    detail = said or (f"after {commits[-1].message!r}" if commits else "before the first commit")
    return Fell(where, detail, len(server.events()), still_open, in_flight, len(on_disk - named), len(commits))


def in_flight_at(events: Sequence[Mapping[str, Any]], at: float) -> tuple[int, Counter[str]]:
    """How many requests were open at the kill, and the hashes of all whose answer the client may not have kept.

    `events` are all that came of the client, what the server read after its end included. An answer is known to be read
    when its connection carries the next request; beside those that were not, the ones answered just before count, since
    what was read is written to the request cache a moment later.
    """
    asked = [event for event in events if event["event"] == "asked"]
    answered = {event["number"]: event["at"] for event in events if event["event"] == "answered" and event["delivered"]}
    last = {event["connection"]: event["number"] for event in asked}
    still_open = 0
    maybe: Counter[str] = Counter()
    for event in asked:
        moment = answered.get(event["number"])
        still_open += moment is None or moment > at
        if last[event["connection"]] == event["number"] or moment is None or moment > at - _SETTLED:
            maybe[event["sha"]] += 1
    return still_open, maybe


# The comparison


def contents(dataset: Path) -> dict[str, Counter[str]]:
    """All live rows, calls, and progress, without times; and what was exported.

    An exported file and the card beside it name the commit that they were made from, which kills put off: without that
    and nothing else their bytes are compared.
    """
    opened = Dataset(dataset)
    found: dict[str, Counter[str]] = {}
    for table, rows in opened.view().items():
        frame = rows.drop(_TIMES.get(table, []), strict=False).collect()
        found[table] = Counter(json.dumps(row, sort_keys=True, default=str) for row in frame.to_dicts())
    notes = opened.rows("progress").select("pipeline", "step", "group_id", "digest").unique().collect()
    found["progress"] = Counter(map(str, notes.rows()))
    files = sorted((dataset / "exports").iterdir())
    found["exports"] = Counter(f"{file.name} {_digest(file)}" for file in files)
    return found


def _digest(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"prefdata.commit"}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), sink)
        content = sink.getvalue()
    if file.suffix == ".md":
        content = re.sub(rb"\bcommit \d+", b"commit", content)
    return hashlib.sha256(content).hexdigest()[:16]


def differences(found: Mapping[str, Counter[str]], wanted: Mapping[str, Counter[str]]) -> list[str]:
    """What one dataset has and the other has not, a sentence for each table; empty where they are equal."""
    said = []
    for table in sorted({*found, *wanted}):
        here, there = found.get(table, Counter()), wanted.get(table, Counter())
        for more, less, what in ((there, here, "missing"), (here, there, "too many")):
            if rest := more - less:
                said.append(f"{table}: {rest.total()} {what}, for example {next(iter(rest))[:300]}")
    return said


def bill(dataset: Path) -> dict[str, float]:
    """What the table of calls says was paid, and how many calls it bills more than once."""
    calls = Dataset(dataset).calls.collect()
    paid = calls.filter(~calls["cached"] & calls["error"].is_null())
    return {
        "calls": paid.height,
        "billed twice": paid.height - paid["call_id"].n_unique(),
        "prompt tokens": int(paid["prompt_tokens"].sum()),
        "completion tokens": int(paid["completion_tokens"].sum()),
        "money": round(float(paid["money"].sum()), 9),
    }


def unseen_parts(dataset: Path) -> list[str]:
    """What is wrong with the parts: rows that no commit names are seen, or rows that one names are not."""
    opened = Dataset(dataset)
    parts = [part for commit in opened.snapshot.commits for part in commit.parts]
    said = []
    for table in opened.view():
        named = sum(part.rows for part in parts if part.table == table)
        seen = opened.rows(table).collect().height
        if seen != named:
            said.append(f"{table}: its commits name {named} rows, and {seen} are read")
    return said


def repeats(events: Sequence[Mapping[str, Any]], kills: Sequence[Fell], begun: int = 0) -> tuple[list[int], list[str]]:
    """How many requests were asked again for each kill, and what is wrong with them.

    A request may come once more for each kill that it was in flight at, and for no other reason; and a kill costs no
    more requests than the client has at once. `events` are all that the server noted, those of this
    history from `begun` on.
    """
    asked: dict[str, list[int]] = {}
    for place, event in enumerate(events):
        if event["event"] == "asked" and place >= begun:
            asked.setdefault(event["sha"], []).append(place)
    again, wrong = [0] * len(kills), []
    for sha, places in asked.items():
        for earlier, later in pairwise(places):
            between = [n for n, kill in enumerate(kills) if earlier < kill.seen <= later]
            if between and kills[between[0]].in_flight[sha]:
                again[between[0]] += 1
            else:
                after = f"kill {between[0] + 1}, at which it had been answered" if between else "no kill"
                wrong.append(f"request {sha[:12]} was asked again after {after}")
    wrong += [f"kill {n + 1} cost {cost} requests" for n, cost in enumerate(again) if cost > AT_ONCE]
    return again, wrong


def doctored(dataset: Path, copy: Path) -> Iterator[tuple[str, Path]]:
    """Copies of a dataset in which something is wrong, one after the other in the same folder: what, and where.

    The caller removes each before it asks for the next.
    """
    shutil.copytree(dataset, copy)
    Dataset(copy).drop("annotations", Dataset(copy).annotations.head(1).collect()["annotation_id"], reason="doctored")
    yield "a judgement is hidden", copy
    shutil.copytree(dataset, copy)
    for file in sorted(copy.glob("log/*.json")):
        entry = json.loads(file.read_bytes())
        if any(part["table"] == "calls" for part in entry.get("parts", ())):
            entry["parts"] = [part for part in entry["parts"] if part["table"] != "calls"]
            file.write_text(json.dumps(entry))
            break
    yield "calls of one commit are lost", copy
    shutil.copytree(dataset, copy)
    Dataset(copy).commit({"calls": Dataset(copy).calls.head(1).collect()}, "the same call again")
    yield "a call is billed twice", copy
    shutil.copytree(dataset, copy)
    file = copy / "exports" / "pairs.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    yield "an exported row is lost", copy
