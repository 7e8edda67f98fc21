"""Processes that commit to one dataset at once while another reads it: what each did, and what is wrong in the end."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.dataset import Dataset, StepRecord
from prefdata.errors import DataError
from prefdata.schema import annotation, make_id, message, prompt, response

PROMPTS = 40
AT_ONCE = 3
"""Rows of each table in a commit."""


@dataclass
class Ledger:
    """What one process did, by its own account, which it keeps outside of the dataset.

    Attributes:
        name: of the process.
        commits: by stamp, the number of the commit that `Dataset.commit` returned.
        labels: by annotation id, how often it was labelled.
        moments: when each commit was done, in seconds since the start.
        seconds: that the commits took, in all.
        problems: what it found wrong, in sentences.
        reads: how often the reader read everything.
    """

    name: str
    commits: dict[str, int] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    reads: int = 0

    def write(self, folder: Path) -> None:
        (folder / f"{self.name}.json").write_text(json.dumps(vars(self)))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        said = json.loads(path.read_bytes())
        return cls(**{**said, "labels": Counter(said["labels"])})

    @property
    def label_commits(self) -> int:
        return sum(self.labels.values()) // AT_ONCE


def step_of(name: str) -> str:
    """The step that a writer signs with; an import, so that its rows are live."""
    return f"import:{name}@0"


def create(path: Path) -> Dataset:
    """A dataset of prompts with two responses each."""
    dataset = Dataset.create(path)
    prompts = [prompt([message("user", f"What is {n} plus {n}?")]) for n in range(PROMPTS)]
    responses = [response(one, model="m", text=f"answer {n}", key=n) for one in prompts for n in range(2)]
    dataset.add_import({"prompts": prompts, "responses": responses}, source="writers", fields={})
    return dataset


# One process each


def work(role: str, path: str, folder: str, name: str, seconds: float) -> None:
    """What a process does: `write` or `read`, for so long; then it writes its ledger, whatever happened."""
    ledger = Ledger(name)
    try:
        (_write if role == "write" else _read)(Path(path), ledger, seconds)
    except BaseException:
        ledger.problems.append(f"{name} died: {traceback.format_exc()}")
    ledger.write(Path(folder))


def _write(path: Path, ledger: Ledger, seconds: float) -> None:
    """Judgements by `Dataset.commit` and labels by `Dataset.label`, in turn; each commit is several rows."""
    draw = random.Random(ledger.name)
    dataset = Dataset(path)
    groups: dict[str, list[str]] = {}
    for row in dataset.responses.collect().to_dicts():
        groups.setdefault(row["prompt_id"], []).append(row["response_id"])
    begun, number = time.monotonic(), 0
    while (now := time.monotonic()) < begun + seconds:
        number += 1
        chosen = draw.sample(sorted(groups), AT_ONCE)
        if number % 2:
            stamp = f"{ledger.name} {number}"
            ledger.commits[stamp] = _judge(dataset, ledger.name, stamp, {one: groups[one] for one in chosen})
        else:
            said = {"protocol": "compare", "scores": draw.choice([[1, 0], [0, 1]]), "annotator": f"human:{ledger.name}"}
            ledger.labels.update(dataset.label([{**said, "target_ids": sorted(groups[one])} for one in chosen]))
        ledger.seconds += time.monotonic() - now
        ledger.moments.append(time.monotonic() - begun)


def _judge(dataset: Dataset, name: str, stamp: str, groups: dict[str, list[str]]) -> int:
    """One commit: judgements and their calls, two tables under one stamp."""
    step, judged, calls = step_of(name), [], []
    for group, responses in groups.items():
        call_id = make_id(stamp, group)
        said: dict[str, Any] = {"protocol": "compare", "annotator": f"judge:{name}", "source": "judge"}
        row = annotation(group_id=group, prompt_id=group, target_ids=responses, scores=[1, 0], key=stamp, **said)
        judged.append({**row, "step": step, "call_id": call_id, "meta": stamp})
        calls.append({"call_id": call_id, "step": step, "engine": name, "raw": stamp, "cached": False, "attempts": 1})
    return dataset.commit(
        {"annotations": judged, "calls": calls}, stamp, steps=[StepRecord(step, f"import:{name}", "import")]
    )


def _read(path: Path, ledger: Ledger, seconds: float) -> None:
    """Read everything again and again: nothing half, nothing gone that had been there, no number left out."""
    seen: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        dataset = Dataset(path)
        ledger.problems += gaps(path)
        found = stamps(dataset)
        ledger.problems += halves(found)
        ledger.problems += [f"{stamp!r} had been there and is gone" for stamp in seen - found.keys()]
        seen = set(found)
        live = dataset.annotations.collect()
        if live["annotation_id"].n_unique() != live.height:
            ledger.problems.append("a live label is there twice")
        ledger.reads += 1


# What is looked at


def stamps(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """By stamp, or number of a commit of labels, how many rows of its two tables are there (labels have one table)."""
    pinned = Dataset(dataset.path, at=dataset.snapshot.number)
    judged = pinned.rows("annotations").select("meta", "_commit", "source").collect()
    called = Counter(pinned.rows("calls").select("raw").collect()["raw"].to_list())
    machine = Counter(judged.filter(pl.col("source") == "judge")["meta"].to_list())
    human = Counter(judged.filter(pl.col("source") == "human")["_commit"].to_list())
    both = {stamp: (machine[stamp], called[stamp]) for stamp in machine.keys() | called.keys()}
    return both | {f"labels {number}": (count, count) for number, count in human.items()}


def halves(found: dict[str, tuple[int, int]]) -> list[str]:
    """The commits of which not every row is there."""
    wrong = [(stamp, counts) for stamp, counts in found.items() if counts != (AT_ONCE, AT_ONCE)]
    return [f"{stamp!r} has {a} and {b} rows of {AT_ONCE} and {AT_ONCE}" for stamp, (a, b) in wrong]


def gaps(path: Path) -> list[str]:
    """The numbers that the log leaves out."""
    numbers = {int(file.stem) for file in (path / "log").iterdir() if re.fullmatch(r"\d+\.json", file.name)}
    missing = set(range(1, max(numbers, default=0) + 1)) - numbers
    # A listing is not made in one moment: what it lacks may have come while it was made.
    return [f"commit {n} is not there" for n in sorted(missing) if not (path / "log" / f"{n:08d}.json").exists()]


def problems(path: Path, ledgers: Iterable[Ledger]) -> list[str]:
    """What is wrong with a dataset after all writers have ended, by their ledgers; empty where nothing is."""
    try:
        return _problems(Dataset(path), list(ledgers))
    except DataError as error:
        return [f"it cannot be opened: {error}"]


def _problems(dataset: Dataset, ledgers: Sequence[Ledger]) -> list[str]:
    wrong = [problem for ledger in ledgers for problem in ledger.problems] + gaps(dataset.path)
    found = stamps(dataset)
    wrong += halves(found)
    rows = dataset.rows("annotations").select("annotation_id", "meta", "revision", "_commit", "source").collect()
    numbers = dict(rows.filter(pl.col("source") == "judge").select("meta", "_commit").iter_rows())
    labels = rows.filter(pl.col("source") == "human")
    times = Counter(labels["annotation_id"].to_list())
    last = dict(dataset.annotations.select("annotation_id", "revision").collect().iter_rows())
    for ledger in ledgers:
        for stamp, number in ledger.commits.items():
            if numbers.get(stamp) != number:
                wrong.append(f"{stamp!r} was committed as {number} and is in {numbers.get(stamp)}")
        for label, count in ledger.labels.items():
            if times[label] != count or last.get(label) != count:
                wrong.append(f"{label} was labelled {count} times, is there {times[label]}, live is {last.get(label)}")
    made = sum(len(ledger.commits) + ledger.label_commits for ledger in ledgers)
    if dataset.snapshot.number != made + 1:  # the import
        wrong.append(f"{made + 1} commits were made, and the log has {dataset.snapshot.number}")
    return wrong


def run_writers(path: Path, folder: Path, writers: int, seconds: float) -> list[Ledger]:
    """Start the writers and a reader at once; their ledgers when all have ended, the reader's last.

    Processes are spawned: a fork of a process in which polars has worked may wait for ever.
    """
    create(path)
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    names = [("write", f"writer-{n}") for n in range(writers)] + [("read", "reader")]
    processes = [
        context.Process(target=work, args=(role, str(path), str(folder), name, seconds)) for role, name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [Ledger.read(folder / f"{name}.json") for _, name in names]


def doctored(path: Path) -> Iterator[str]:
    """Do something wrong to a dataset, one thing after the other, undoing the one before: what was done."""
    files = sorted((path / "log").glob("*.json"))
    whole = {file: file.read_bytes() for file in files}
    last = files[-1]
    last.unlink()
    yield "the last commit is lost"
    last.write_bytes(whole[last])
    middle = files[len(files) // 2]
    middle.unlink()
    yield "a commit in the middle is lost"
    middle.write_bytes(whole[middle])
    for file, content in whole.items():
        entry = json.loads(content)
        if {part["table"] for part in entry["parts"]} == {"annotations", "calls"}:
            file.write_text(json.dumps({**entry, "parts": entry["parts"][:1]}))
            yield "half of a commit is lost"
            file.write_bytes(content)
            return
