"""Tasks for labelling tools: made of a view, and taken back in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import schema
from prefdata.formats.answers import PROMPT, Answers, rows_said
from prefdata.formats.carried import KEY, Carried, Entry, unpack
from prefdata.formats.columns import complete
from prefdata.formats.conversation import check_answerable, read_messages
from prefdata.formats.intake import Intake
from prefdata.formats.shapes import Candidate, candidates
from prefdata.formats.source import Record, meta_json
from prefdata.schema import Row, canonical_json, message

ASKED = ("messages", "conversation", "prompt", "question", "instruction", "query", "input", "text")
"""Where a task keeps its prompt; the first that is there."""


@dataclass
class Task:
    """What people see together, and what was said of it.

    Attributes:
        prompt: the row.
        responses: the rows, in the order shown.
        annotations: the rows; their targets are among the responses, or the prompt.
    """

    prompt: Row
    responses: list[Row]
    annotations: list[Row] = field(default_factory=list)

    @property
    def places(self) -> dict[str, int]:
        """Where each target stands."""
        ids = {response["response_id"]: place for place, response in enumerate(self.responses)}
        return {**ids, self.prompt["prompt_id"]: PROMPT}


@dataclass(frozen=True)
class LabelWriter:
    """A labelling tool that is written for.

    Attributes:
        describes: what a row is, for the documentation.
        beside: what else is written, for the documentation.
        write: writes the tasks to a file, and returns how many rows it holds.
    """

    describes: str
    beside: str
    write: Callable[[Sequence[Task], Path], int]


def tasks_of(view: Mapping[str, pl.LazyFrame], left_out: Counter[str]) -> list[Task]:
    """The live prompts, responses and annotations of a view as tasks, each prompt in one or more.

    Responses that were compared or ranked together are a task of their own, in the order shown; what was said of one
    response, or of the prompt, goes with the first task that shows it. All memory is used at once.

    Args:
        view: the live tables.
        left_out: counts what no task can hold.
    """
    prompts = {row["prompt_id"]: row for row in _rows(view, "prompts", ["group_id", "prompt_id"])}
    responses, answered = {}, dict[str, list[Row]]()
    for row in _rows(view, "responses", ["prompt_id", "response_id"]):
        if row["text"] is None:
            left_out["response without a text"] += 1
            continue
        responses[row["response_id"]] = row
        answered.setdefault(row["prompt_id"], []).append(row)
    said: dict[str, list[Row]] = {}
    for row in _rows(view, "annotations", ["prompt_id", "annotation_id"]):
        if problem := _problem(row, prompts, responses):
            left_out[problem] += 1
        else:
            said.setdefault(row["prompt_id"], []).append(row)
    return [
        task
        for prompt_id, prompt in prompts.items()
        for task in _of_prompt(prompt, answered.get(prompt_id, []), said.get(prompt_id, []), responses)
    ]


def _rows(view: Mapping[str, pl.LazyFrame], table: str, order: list[str]) -> Iterable[Row]:
    return complete(table, view[table]).collect().sort(order, maintain_order=True).iter_rows(named=True)


def _problem(row: Row, prompts: Mapping[str, Row], responses: Mapping[str, Row]) -> str | None:
    """Why an annotation cannot be part of a task."""
    if row["source"] == "consensus" or row["annotator"] == "rule:split":
        return "annotation of a consensus or a split, which are computed anew"
    if row["target"] not in ("response", "prompt"):
        return f"annotation about another {row['target']}"
    if row["prompt_id"] not in prompts:
        return "annotation about several prompts"
    known: Mapping[str, Row] = responses if row["target"] == "response" else {row["prompt_id"]: {}}
    if not all(target in known for target in row["target_ids"]):
        return "annotation about a response without a text, or another prompt"
    return None


def _of_prompt(
    prompt: Row, answered: Sequence[Row], said: Sequence[Row], responses: Mapping[str, Row]
) -> Iterable[Task]:
    together: dict[tuple[str, ...], Task] = {}
    alone = []
    for row in said:
        targets = tuple(row["target_ids"])
        if len(targets) > 1:
            shown = [responses[target] for target in dict.fromkeys(targets)]
            together.setdefault(targets, Task(prompt, shown)).annotations.append(row)
        else:
            alone.append(row)
    tasks = list(together.values())
    covered = {response["response_id"] for task in tasks for response in task.responses}
    asked = {target for row in alone if row["target"] == "response" for target in row["target_ids"]}
    every = {response["response_id"]: response for response in answered} | {
        one: responses[one] for one in sorted(asked)
    }
    if not tasks or set(every) - covered:
        tasks.append(Task(prompt, list(every.values())))
    for row in alone:
        home = next(task for task in tasks if row["target_ids"][0] in task.places)
        home.annotations.append(row)
    return tasks


@dataclass
class Shown:
    """A task that was read: its rows are taken, what was said of it is not yet.

    Attributes:
        prompt: the row that is kept.
        responses: those of the responses, in the order shown.
        names: how the task calls its responses.
        prompt_names: how it may call its prompt.
        carried: what rode along.
    """

    prompt: Row
    responses: list[Row]
    names: list[str]
    prompt_names: frozenset[str]
    carried: Carried | None

    @property
    def texts(self) -> list[str]:
        """Of the responses."""
        return [str(response["text"]) for response in self.responses]

    @property
    def ids(self) -> dict[int, str]:
        """Of the targets, by place."""
        ids = {place: str(response["response_id"]) for place, response in enumerate(self.responses)}
        return {**ids, PROMPT: str(self.prompt["prompt_id"])}


@contextmanager
def shaped(record: Record, tool: str) -> Iterator[None]:
    """Whatever within stumbles over a value of a kind that the tool never writes tells so as this row's fault.

    Args:
        record: the row.
        tool: whose file it is.
    """
    try:
        yield
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise record.error(f"it is not built as {tool} builds it ({type(error).__name__}: {error})") from None


def shown_in(intake: Intake, record: Record, column: str, rode: object, rest: Mapping[str, Any]) -> Shown:
    """Take the prompt and the responses of a task that a tool shows.

    Args:
        intake: takes them.
        record: what the tool shows, by the names that it has there.
        column: where in the source that stands, for the message.
        rode: what rode along (see `prefdata.formats.carried`).
        rest: what else the source says of the task; into the prompt's `meta`, where nothing rode along.

    Raises:
        RowError: there is no prompt, or a text is none.
    """
    name = next((name for name in ASKED if record.row.get(name) is not None), None)
    if name is None:
        there = ", ".join(map(repr, record.row)) or "none"
        raise record.error(f"it holds no prompt; found are the keys {there}, known are {', '.join(ASKED)}", column)
    found, read = candidates(record)
    value = record.structured(name, always=False)
    if isinstance(value, list):
        messages = read_messages(record, name, value)
        check_answerable(record, name, messages)
    else:
        messages = [message("user", record.text(name))]
    carried = unpack(record, KEY, rode, messages, [one.text for one in found])
    if rode is not None and carried is None:
        intake.leave_out("what prefdata wrote beside texts that were changed since")
    names, prompt_names = [one.name for one in found], frozenset({name, "prompt"})
    if carried is not None:
        responses = [intake.response(row) for row in carried.responses]
        return Shown(intake.prompt(carried.prompt), responses, names, prompt_names, carried)
    unread = {key: value for key, value in record.row.items() if key not in {name, *read} and value is not None}
    intake.keep_in_meta(unread)
    prompt = intake.prompt(schema.prompt(messages, meta=meta_json({**unread, **rest})))
    responses = [intake.response(row) for row in _new_responses(prompt, found)]
    return Shown(prompt, responses, names, prompt_names, None)


def _new_responses(prompt: Row, found: Sequence[Candidate]) -> Iterable[Row]:
    seen = Counter[tuple[str, str]]()
    for one in found:
        model = one.model or "unknown"
        key = [one.text, seen[model, one.text]]  # as in `ranked`
        seen[model, one.text] += 1
        yield schema.response(prompt, model=model, text=one.text, key=key, meta=meta_json(one.rest))


@dataclass(frozen=True)
class Maker:
    """Who answered, and what goes with all the answers of one go.

    Attributes:
        annotator: for example `human:7`.
        source: one of `prefdata.schema.SOURCES`.
        key: names the go in its source.
        seconds: that it took.
        confidence: that it came with.
        created_at: when it was.
        meta: what has no column.
    """

    annotator: str
    source: str
    key: Sequence[Any]
    seconds: float | None = None
    confidence: float | None = None
    created_at: datetime | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def take_answers(intake: Intake, shown: Shown, said: Answers, maker: Maker) -> None:
    """Take answers as annotations. The time goes with the first: it was spent once."""
    rows = rows_said(said, shown.ids)
    if not rows:
        intake.leave_out("annotation without an answer that can be read")
    for number, row in enumerate(rows):
        _take_row(intake, shown, row, maker, first=not number)


def take_skipped(intake: Intake, shown: Shown, maker: Maker) -> None:
    """Take that somebody passed a task over."""
    ids = shown.ids
    targets = [ids[place] for place in sorted(ids) if place != PROMPT]
    protocol = {0: "label", 1: "score", 2: "compare"}.get(len(targets), "rank")
    row = {"target": "response", "target_ids": targets, "protocol": protocol, "aspect": "overall"}
    if not targets:
        row |= {"target": "prompt", "target_ids": [ids[PROMPT]]}
    _take_row(intake, shown, {**row, "status": "skipped"}, maker, first=True)


def _take_row(intake: Intake, shown: Shown, row: Row, maker: Maker, *, first: bool) -> None:
    made = schema.annotation(
        group_id=shown.prompt["group_id"],
        prompt_id=shown.prompt["prompt_id"],
        annotator=maker.annotator,
        source=maker.source,
        key=list(maker.key),
        seconds=maker.seconds if first else None,
        confidence=maker.confidence if first else None,
        meta=meta_json(maker.meta),
        **row,
    )
    intake.annotation_row({**made, "created_at": maker.created_at})


def corrected(entry: Entry, said: Answers, shown: Shown) -> Row | None:
    """The next revision of a row whose answer was changed in the tool; None where it has become another annotation."""
    rows = rows_said(said, shown.ids)
    old = entry.row
    if len(rows) != 1:
        return None
    (new,) = rows
    if (new["protocol"], sorted(new["target_ids"])) != (_plain_protocol(old), sorted(old["target_ids"])):
        return None
    if old["protocol"] == "compare":
        scores = dict(zip(new["target_ids"], new["scores"], strict=True))
        new["scores"] = [scores[target] for target in old["target_ids"]]
        new["target_ids"] = old["target_ids"]
    if new["target_ids"] != old["target_ids"]:
        return None
    what = {name: new.get(name) for name in ("scores", "labels", "text", "spans")}
    return {**old, **what, "strength": None, "revision": int(old.get("revision") or 1) + 1}


def _plain_protocol(row: Row) -> str:
    return str({"choose": "rank", "measure": "score"}.get(row["protocol"], row["protocol"]))


def same(one: object, other: object) -> bool:
    """Whether two answers are the same, numbers by their worth."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return float(one) == float(other)
    return canonical_json(one) == canonical_json(other)
