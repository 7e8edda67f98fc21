"""One row of a training file, read with every value checked: what is wrong is named with file, row and column."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.train.errors import TrainError
from prefdata.train.preferences import Edge, Message, Prompt, Segment

TURN = "turn"
"""The kind of a segment that is a turn of its own."""
BREAK = "\n\n"
"""Stands in a response's text between two turns, at the end of the earlier one."""
_HELD_OUT = {"valid", "validation", "val", "dev", "test", "testing", "eval", "evaluation"}
_TRAINED = {"train", "training"}


def shown(text: str, most: int = 60) -> str:
    """A name out of a file as an error may hold it: short, and without marks that a terminal would obey."""
    short = text if len(text) <= most else f"{text[:most]}..."
    return short if short.isprintable() else repr(short)


def is_held_out(split: str) -> bool | None:
    """Whether a split of this name is held out; null for one that is neither trained on nor held out.

    The first word counts: `test_prefs` is `test`.
    """
    word = split.strip().lower().replace("-", "_").replace(".", "_").partition("_")[0]
    return True if word in _HELD_OUT else False if word in _TRAINED else None


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row, and where it stands.

    Attributes:
        path: the file.
        number: the row in the file, from 0.
        place: the row among all rows that are read: what a preference list keeps.
        held_out_file: whether the whole file is held out; null: its rows say.
        values: by column; absent columns are null.
    """

    path: Path
    number: int
    place: int
    held_out_file: bool | None
    values: dict[str, Any]

    def error(self, column: str, what: str) -> TrainError:
        """The sentence about a value that cannot be used."""
        return TrainError(f"{self.path}, row {self.number}, column {column!r}: {what}")

    def get(self, column: str) -> Any:
        """The value, or null."""
        return self.values.get(column)

    def text(self, column: str, default: str = "") -> str:
        """A text, or the default where it is null."""
        value = self.get(column)
        return default if value is None else str(value)

    def group(self) -> str:
        """The root prompt's id; without one the row is a group of its own."""
        return self.text("group") or f"row {self.place}"

    def held_out(self) -> bool | None:
        """Null for a split that is neither trained on nor held out."""
        if "split" not in self.values:
            return bool(self.held_out_file)
        split = self.get("split")
        if split is None:
            raise self.error("split", "it is null; it is train or valid")
        return is_held_out(split)

    def number_in(self, column: str, default: float, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number of that range, or the default where it is null."""
        value = self.get(column)
        return default if value is None else self.checked(column, value, low, high)

    def optional_number(self, column: str) -> float | None:
        """A finite number or null."""
        value = self.get(column)
        return None if value is None else self.checked(column, value)

    def checked(self, column: str, value: float, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number of that range.

        Raises:
            TrainError: it is not.
        """
        if low <= value <= high and math.isfinite(value):
            return float(value)
        if low == -math.inf:
            raise self.error(column, f"{value} is not finite")
        meant = f"from {low:g} to {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
        raise self.error(column, f"{value} is not {meant}")

    def whole(self, column: str, value: float, low: int = 0) -> int:
        """A whole number that is at least `low`.

        Raises:
            TrainError: it is not.
        """
        if not math.isfinite(value) or value != int(value) or value < low:
            raise self.error(column, f"{value} is not a whole number from {low}")
        return int(value)

    def aligned(self, column: str, count: int) -> list[Any] | None:
        """A list with an entry for each response, or null.

        Raises:
            TrainError: it has more or fewer.
        """
        values = self.get(column)
        if values is not None and len(values) != count:
            raise self.error(column, f"it has {len(values)} entries for {count} responses")
        return None if values is None else list(values)

    def tools(self, text: str | None = None, column: str = "tools") -> list[Any] | None:
        """The tools of a prompt: JSON."""
        text = self.get("tools") if text is None and column == "tools" else text
        if not text:
            return None
        try:
            tools = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.error(column, f"it is no JSON: {error}") from None
        if not isinstance(tools, list):
            raise self.error(column, "it is a JSON list of tools")
        return tools

    def messages(self, column: str, turns: Sequence[Any] | None = None) -> list[Message]:
        """The turns without their null keys: chat templates ask `'tool_calls' in message`.

        Raises:
            TrainError: there is none, one has no role, or neither content nor tool calls.
        """
        turns = self.get(column) if turns is None else turns
        if not turns:
            raise self.error(column, "there is no message in it")
        if any(turn is None for turn in turns):
            raise self.error(column, "it holds a message that is null")
        cleaned = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        for turn in cleaned:
            if isinstance(turn.get("tool_calls"), str):
                try:
                    turn["tool_calls"] = json.loads(turn["tool_calls"])
                except (ValueError, RecursionError) as error:
                    raise self.error(column, f"tool_calls is no JSON: {error}") from None
            if "role" not in turn or not ("content" in turn or "tool_calls" in turn):
                raise self.error(column, "a message needs a role, and content or tool_calls")
        return cleaned

    def prompt(self) -> Prompt:
        """The column `prompt`: a text that is used as it is, or messages."""
        value = self.get("prompt")
        if value is None:
            raise self.error("prompt", "it is null")
        if isinstance(value, str):
            return Prompt(value, self.tools())
        return Prompt(self.messages("prompt"), self.tools())

    def answer(self, column: str, turns: Sequence[Message]) -> tuple[str, tuple[Segment, ...] | None]:
        """What follows a prompt as one text; where it goes on over several turns, they are its segments.

        Raises:
            TrainError: it does not begin with the assistant's turn, or a turn has no content.
        """
        roles = ", ".join(str(turn["role"]) for turn in turns)
        if not turns or turns[0]["role"] != "assistant":
            what = f"the turns {roles}" if turns else "no turn of its own"
            raise self.error(column, f"it holds {what}; after the prompt it begins with the assistant's turn")
        while turns[-1]["role"] != "assistant":
            turns = turns[:-1]  # nothing follows it that could be trained
        if any("content" not in turn or turn.get("tool_calls") for turn in turns):
            raise self.error(column, "a turn after the prompt calls a tool: only texts can be trained on")
        if len(turns) == 1:
            return str(turns[0]["content"]), None
        text, segments = "", []
        for place, turn in enumerate(turns):
            text += turn["content"] + (BREAK if place < len(turns) - 1 else "")
            segments.append(Segment(len(text), turn["role"], kind=TURN))
        return text, tuple(segments)


def labels_of(count: int, edges: Sequence[Edge]) -> list[float | None]:
    """1 for a response that is better than another (p > 0.5), 0 for one that is worse; null for neither or both."""
    won: set[int] = set()
    lost: set[int] = set()
    for edge in edges:
        if edge.p != 0.5:
            better, worse = (edge.winner, edge.loser) if edge.p > 0.5 else (edge.loser, edge.winner)
            won.add(better)
            lost.add(worse)
    return [None if (place in won) == (place in lost) else float(place in won) for place in range(count)]
