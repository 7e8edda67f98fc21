"""What a training file says, in memory: a preference list, before and after it is tokenised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.lm import Row

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a response answers.

    Attributes:
        turns: messages for the chat template, or a text that is used as it is.
        tools: for the chat template.
    """

    turns: list[Message] | str
    tools: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a response.

    Attributes:
        end: where it ends, in characters; it begins where the one before it ends.
        role: only `assistant` is trained.
        value: the step's reward, where there is one.
        kind: step, turn, thought, observation, ...: says nothing about what is trained. Where the role changes, a turn
            of its own begins, which the chat template renders as one.
    """

    end: int
    role: str | None = None
    value: float | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One response of a list.

    Attributes:
        text: what follows the prompt (and the prefix).
        id: of the response in its dataset; empty where the file names none.
        role: `ranked`, `sft`, `calibration`, `online` or `degraded`.
        score: higher is better; null where there is none.
        rank: 1 = best, ties are equal; null where there is none.
        label: 1 wanted, 0 not, null unknown (or both): what unpaired losses read.
        ends_turn: an end-of-turn token belongs after it.
        prompt: number of the prompt that the policy reads.
        ref_prompt: number of the prompt that the reference reads.
        prefix: assistant text between prompt and response, never trained.
        segments: null: all of it is the assistant's.
    """

    text: str
    id: str = ""
    role: str = "ranked"
    score: float | None = None
    rank: int | None = None
    label: float | None = None
    ends_turn: bool = True
    prompt: int = 0
    ref_prompt: int = 0
    prefix: str = ""
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """Response `winner` is better than response `loser` with probability `p`.

    Attributes:
        winner: position in the list's responses.
        loser: likewise.
        p: 0 to 1.
        weight: at least 0.
        margin: by how much it is better; null where that is not stated.
        votes: how many votes p rests on; null where that is unknown.
    """

    winner: int
    loser: int
    p: float = 1.0
    weight: float = 1.0
    margin: float | None = None
    votes: int | None = None


@dataclass(frozen=True, slots=True)
class Rationale:
    """Why a response is better than another (`of` two positions), or what is to be said of one (`of` one)."""

    of: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PreferenceList:
    """Prompts and K responses.

    Attributes:
        row: its row in the file, from 0.
        id: of the preference; empty where the file names none.
        group: the root prompt's id; all that shares it lies in one split.
        held_out: it is not trained on.
        kind: `conditional`, `unpaired`, `joint`, `context_swap`, ...
        aspect: of what it is a preference; empty where that is not said.
        annotator: whose preference it is; empty where that is not said.
        weight: of the whole list, above 0.
        prompts: number 0 is the list's own.
        responses: K of them.
        edges: which response is better than which; stated, or all strictly falling pairs of ranked scores.
        values: further numbers by name, K each, null where there is none.
        rationales: in the order of the file.
    """

    row: int
    group: str
    held_out: bool
    prompts: list[Prompt]
    responses: list[Response]
    edges: list[Edge]
    id: str = ""
    kind: str = "conditional"
    aspect: str = ""
    annotator: str = ""
    weight: float = 1.0
    values: Mapping[str, list[float | None]] = field(default_factory=dict)
    rationales: tuple[Rationale, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenList:
    """A preference list as token ids.

    Attributes:
        source: the list; its responses, edges and values are those of `rows`, in the same order.
        rows: K rows, what the policy reads: prompt, prefix and response; scored are the trained tokens (and the
            prompt's, where the loss scores it).
        reference: K rows, what the reference reads: the very same rows unless it reads another prompt.
        starts: K, where each response begins in its row.
        rationales: rows that a loss over rationales scores.
        rationale_of: for each edge of `source`, which of `rationales` says why; -1 where none does.
        truncated: something of it was cut.
        size: tokens that it takes in a pack.
    """

    source: PreferenceList
    rows: tuple[Row, ...]
    reference: tuple[Row, ...]
    starts: tuple[int, ...]
    rationales: tuple[Row, ...] = ()
    rationale_of: tuple[int, ...] = ()
    truncated: bool = False
    size: int = 0
