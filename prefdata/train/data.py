"""What an exported Parquet file holds, as preference lists in memory.

Three formats are read: `lists`, and `trl-pairs` in its standard (strings) and conversational (messages) form. A pair is
a list of two. What the file cannot be trained on is refused with file, row and column, or left out and counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefdata.train.columns import COLUMNS, UNREAD, check_columns, find_format
from prefdata.train.errors import TrainError

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edge:
    """Response `winner` is better than response `loser` with probability `p`."""

    winner: int
    loser: int
    p: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PreferenceList:
    """One prompt and its K responses.

    Attributes:
        row: its row in the file, from 0.
        group: the root prompt's id; all that shares it lies in one split.
        held_out: it is not trained on.
        prompt: messages for the chat template, or a text that is used as it is.
        responses: K texts.
        ends_turn: for each response, whether an end-of-turn token belongs after it.
        scores: K numbers, higher is better, or null.
        ranks: K whole numbers, 1 = best, ties are equal; or null.
        weight: of the whole list.
        edges: which response is better than which.
        tools: for the chat template.
    """

    row: int
    group: str
    held_out: bool
    prompt: list[Message] | str
    responses: list[str]
    ends_turn: list[bool]
    scores: list[float | None]
    ranks: list[int] | None
    weight: float
    edges: list[Edge]
    tools: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class PreferenceData:
    """A file's lists, and what else is worth knowing of it.

    Attributes:
        path: the file.
        format: one of FORMATS.
        metadata: the footer's own keys and values (`prefdata.*`).
        rows: rows in the file.
        split: whether it has a split column. Without one everything is trained on.
        templated: strings were rendered with a chat template at export; null: unknown.
        lists: what can be read.
        left_out: how many rows, by reason.
        responses_left_out: how many responses of lists that remain, by reason.
    """

    path: Path
    format: str
    metadata: dict[str, str]
    rows: int
    split: bool
    templated: bool | None
    lists: list[PreferenceList]
    left_out: Counter[str]
    responses_left_out: Counter[str]


def read_preferences(path: Path) -> PreferenceData:
    """Read an exported file.

    Raises:
        TrainError: the file, a column or a row cannot be used; the message names it.
    """
    table = _read_table(path)
    metadata = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (table.schema.metadata or {}).items()
        if key.startswith(b"prefdata.")
    }
    form = find_format(path, table.schema, metadata)
    if table.num_rows == 0:
        raise TrainError(f"{path} has no rows")
    check_columns(path, table.schema, form)
    names = set(table.column_names)
    if form == "lists":
        for name in UNREAD:
            if name in names and table[name].null_count < table.num_rows:
                raise TrainError(
                    f"{path}: the column {name!r} is filled, and this trainer cannot honour it: "
                    "export the preferences without it"
                )
    wanted = [name for name in COLUMNS[form] if name in names]
    make = _from_list_row if form == "lists" else _from_pair_row
    lists: list[PreferenceList] = []
    left_out: Counter[str] = Counter()
    responses_left_out: Counter[str] = Counter()
    for number, row in enumerate(table.select(wanted).to_pylist()):
        found = make(_Row(path, number, row), responses_left_out)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            lists.append(found)
    return PreferenceData(
        path=path,
        format=form,
        metadata=metadata,
        rows=table.num_rows,
        split="split" in names,
        templated=None if "prefdata.template" not in metadata else metadata["prefdata.template"] not in ("", "none"),
        lists=lists,
        left_out=left_out,
        responses_left_out=responses_left_out,
    )


def check_file(path: Path) -> None:
    """Refuse a path where no file is: cheap, so that it can come before a model is looked for.

    Raises:
        TrainError: there is none.
    """
    if not path.is_file():
        raise TrainError(f"there is no file {path}: `data` names an exported Parquet file")


def _read_table(path: Path) -> pa.Table:
    check_file(path)
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TrainError(f"{path} cannot be read as Parquet: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Row:
    """One row, and where it stands, for errors."""

    path: Path
    number: int
    values: dict[str, Any]

    def error(self, column: str, what: str) -> TrainError:
        return TrainError(f"{self.path}, row {self.number}, column {column!r}: {what}")

    def get(self, column: str) -> Any:
        return self.values.get(column)

    def held_out(self) -> bool | None:
        """Null for a split that is neither train nor valid."""
        if "split" not in self.values:
            return False
        split = self.get("split")
        if split is None:
            raise self.error("split", "it is null; it is train or valid")
        return {"train": False, "valid": True}.get(split)

    def number_in(self, column: str, default: float, low: float, high: float) -> float:
        value = self.get(column)
        if value is None:
            return default
        return self.in_range(column, value, low, high)

    def in_range(self, column: str, value: float, low: float, high: float) -> float:
        if not low <= value <= high or math.isinf(value):
            meant = f"from {low:g} to {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
            raise self.error(column, f"{value} is not {meant}")
        return float(value)

    def tools(self) -> list[Any] | None:
        text = self.get("tools")
        if text is None:
            return None
        try:
            tools = json.loads(text)
        except ValueError as error:
            raise self.error("tools", f"it is no JSON: {error}") from None
        if not isinstance(tools, list):
            raise self.error("tools", "it is a JSON list of tools")
        return tools

    def messages(self, column: str) -> list[Message]:
        """The turns without their null keys: chat templates ask `'tool_calls' in message`."""
        turns = self.get(column)
        if not turns:
            raise self.error(column, "there is no message in it")
        cleaned = [{key: value for key, value in turn.items() if value is not None} for turn in turns if turn]
        for turn in cleaned:
            if "tool_calls" in turn and isinstance(turn["tool_calls"], str):
                try:
                    turn["tool_calls"] = json.loads(turn["tool_calls"])
                except ValueError as error:
                    raise self.error(column, f"tool_calls is no JSON: {error}") from None
            if "role" not in turn or not ("content" in turn or "tool_calls" in turn):
                raise self.error(column, "a message needs a role, and content or tool_calls")
        return cleaned


def _from_pair_row(row: _Row, _: Counter[str]) -> PreferenceList | str:
    """A pair as a list of two, or the reason why it is left out."""
    held_out = row.held_out()
    if held_out is None:
        return f"split {row.get('split')!r} is neither train nor valid"
    conversational = isinstance(row.get("chosen"), list)
    responses = []
    for column in ("chosen", "rejected"):
        if not conversational:
            if row.get(column) is None:
                raise row.error(column, "it is null")
            responses.append(row.get(column))
            continue
        turns = row.messages(column)
        if len(turns) != 1 or turns[0]["role"] != "assistant" or "content" not in turns[0]:
            roles = ", ".join(turn["role"] for turn in turns)
            raise row.error(column, f"it holds the turns {roles}; it is one assistant message with content")
        responses.append(turns[0]["content"])
    if not conversational and row.get("prompt") is None:
        raise row.error("prompt", "it is null")
    weight = row.number_in("weight", 1.0, 0.0, math.inf)
    if weight == 0:
        return "weight 0"
    p = row.number_in("p", 1.0, 0.0, 1.0)
    return PreferenceList(
        row=row.number,
        group=row.get("group") or f"row {row.number}",
        held_out=held_out,
        prompt=row.messages("prompt") if conversational else row.get("prompt"),
        responses=responses,
        ends_turn=[True, True],
        scores=[row.get("score_chosen"), row.get("score_rejected")],
        ranks=[1, 2] if p > 0.5 else [1, 1] if p == 0.5 else [2, 1],
        weight=weight,
        edges=[Edge(0, 1, p)],
        tools=row.tools(),
    )


def _from_list_row(row: _Row, responses_left_out: Counter[str]) -> PreferenceList | str:
    """A list, or the reason why it is left out."""
    held_out = row.held_out()
    if held_out is None:
        return f"split {row.get('split')!r} is neither train nor valid"
    if row.get("kind") == "unpaired":
        return "unpaired"
    responses = row.get("responses")
    if not responses or any(text is None for text in responses):
        raise row.error("responses", "it is empty or holds a null")
    columns = {name: row.get(name) for name in ("scores", "ranks", "roles", "ends_turn")}
    for name, values in columns.items():
        if values is not None and len(values) != len(responses):
            raise row.error(name, f"it has {len(values)} entries for {len(responses)} responses")
    weight = row.number_in("weight", 1.0, 0.0, math.inf)
    if weight == 0:
        return "weight 0"
    roles = columns["roles"] or ["ranked"] * len(responses)
    kept = [place for place, role in enumerate(roles) if role in (None, "ranked")]
    responses_left_out.update(f"role {role}" for role in roles if role not in (None, "ranked"))
    if not kept:
        return "no ranked response"
    scores = [(columns["scores"] or [None] * len(responses))[place] for place in kept]
    for score in scores:
        if score is not None and not math.isfinite(score):
            raise row.error("scores", f"{score} is not finite")
    ranks = [(columns["ranks"] or [None] * len(responses))[place] for place in kept]
    ends_turn = columns["ends_turn"] or [None] * len(responses)
    return PreferenceList(
        row=row.number,
        group=row.get("group") or f"row {row.number}",
        held_out=held_out,
        prompt=row.messages("prompt"),
        responses=[responses[place] for place in kept],
        ends_turn=[ends_turn[place] is not False for place in kept],
        scores=scores,
        ranks=None if None in ranks else [int(rank) for rank in ranks],
        weight=weight,
        edges=_edges(row, kept, scores),
        tools=row.tools(),
    )


def _edges(row: _Row, kept: list[int], scores: list[float | None]) -> list[Edge]:
    """The row's own edges; where it has none, one for every pair of strictly falling scores."""
    stated = row.get("edges")
    if stated is None:
        return [
            Edge(winner, loser)
            for winner, high in enumerate(scores)
            for loser, low in enumerate(scores)
            if high is not None and low is not None and high > low
        ]
    place_of = {place: new for new, place in enumerate(kept)}
    count = len(row.get("responses"))
    edges = []
    for edge in stated:
        winner, loser = edge["winner"], edge["loser"]
        if winner is None or loser is None or winner == loser or not (0 <= winner < count and 0 <= loser < count):
            raise row.error("edges", f"winner {winner} and loser {loser} are not two of its {count} responses")
        p, weight = edge.get("p"), edge.get("weight")
        p = 1.0 if p is None else row.in_range("edges", p, 0.0, 1.0)
        weight = 1.0 if weight is None else row.in_range("edges", weight, 0.0, math.inf)
        if weight > 0 and winner in place_of and loser in place_of:
            edges.append(Edge(place_of[winner], place_of[loser], p, weight))
    return edges
