"""A response after its prompt as stretches of text, each trained or not, as the chat template writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from prefdata.train.encoder import Encoder
from prefdata.train.errors import TrainError
from prefdata.train.preferences import Message, Prompt, Response, Segment
from prefdata.train.rows import BREAK

RATIONALE_TEMPLATE = (
    "Below are a prompt and two responses to it.\n\n# Prompt\n\n{prompt}\n\n# First response\n\n{first}\n\n"
    "# Second response\n\n{second}\n\nSay which of the two is better, and why."
)
"""What asks for a rationale."""
ASSISTANT = "assistant"
_FIELD = re.compile(r"\{(prompt|first|second)\}")
_SHOWN = 24
"""Characters of two texts that part, in an error."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a row.

    Attributes:
        text: it.
        trained: whether its tokens are.
        ends: whether the token that ends a turn follows it; it is trained where the piece is.
        segments: of the text, where only some of its characters are trained: only without a chat template.
    """

    text: str
    trained: bool
    ends: bool = False
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A row as texts.

    Attributes:
        prompt: as it is tokenised.
        rendered: by the chat template.
        turns: the prompt before it was rendered.
        prefix: what stands between prompt and response, never trained.
        pieces: the response.
    """

    prompt: str
    rendered: bool
    turns: Sequence[Message] | str
    prefix: str
    pieces: tuple[Piece, ...]

    def texts(self, anchor: str) -> list[str]:
        """All that is to be tokenised as a whole; `anchor` stands before what follows a plain prompt."""
        before = "" if self.rendered else anchor
        whole = [piece.text for piece in self.pieces if piece.segments is None]
        return [self.prompt, *(before + text for text in (self.prefix, *whole) if text)]


def draft(encoder: Encoder, prompt: Prompt, response: Response, opened: str | None = None) -> Draft:
    """A prompt and a response as texts.

    Args:
        encoder: of the policy.
        prompt: what is read.
        response: what follows it.
        opened: the prompt as the chat template writes it, where that is known already.

    Raises:
        TrainError: the chat template refuses the conversation, or writes the prompt otherwise once an answer follows:
            what is trained would not be what is sampled.
    """
    several = any(_speaker(segment) != ASSISTANT for segment in response.segments or ())
    segments = response.segments if several else None
    pieces: tuple[Piece, ...] = (Piece(response.text, True, response.ends_turn, segments),)
    if isinstance(prompt.turns, str) or encoder.joins:
        text = encoder.joined(prompt.turns)
        return Draft(text, False, text, response.prefix, pieces)
    opened = encoder.render(prompt.turns, prompt.tools) if opened is None else opened
    if several:
        pieces = tuple(_turn_pieces(encoder, prompt, opened, response))
    else:
        answer = {"role": "assistant", "content": response.prefix + response.text}
        whole = encoder.render([*prompt.turns, answer], prompt.tools, open_turn=False)
        _check_begins(encoder, whole, opened)
        _check_holds(encoder, whole[len(opened) :], answer["content"])
    return Draft(opened, True, prompt.turns, response.prefix, pieces)


def rationale_draft(encoder: Encoder, template: str, prompt: Prompt, first: str, second: str, text: str) -> Draft:
    """The row that scores a rationale: asked by the template, answered by the text."""
    said = {"prompt": _as_text(prompt), "first": first, "second": second}
    # In one pass: braces in the data are text.
    asked = _FIELD.sub(lambda field: said[field.group(1)], template)
    turns = Prompt([{"role": "user", "content": asked}])
    return draft(encoder, turns, Response(text))


def check_rationale_template(template: str) -> None:
    """Refuse a template that does not show both responses.

    Raises:
        TrainError: it lacks one of its fields.
    """
    fields = set(_FIELD.findall(template))
    missing = [name for name in ("prompt", "first", "second") if name not in fields]
    if missing:
        raise TrainError(f"rationale_template lacks {{{missing[0]}}}: it shows {{prompt}}, {{first}} and {{second}}")


def _speaker(segment: Segment) -> str:
    return segment.role or ASSISTANT


def split_turns(text: str, segments: Sequence[Segment]) -> list[Message]:
    """The messages of a response: a new one begins wherever the segments change role, whatever their kinds.

    Exports of messages split it so too: a tool's output stands in a turn of its own, as the model reads it.
    """
    begin, parts = 0, []
    for segment in segments:
        parts.append((_speaker(segment), text[begin : segment.end]))
        begin = segment.end
    if begin < len(text):
        parts.append((ASSISTANT, text[begin:]))
    turns = [
        {"role": role, "content": "".join(part for _, part in run)}
        for role, run in groupby(parts, key=lambda part: part[0])
    ]
    for turn in turns[:-1]:
        turn["content"] = turn["content"].removesuffix(BREAK)
    return turns


def _turn_pieces(encoder: Encoder, prompt: Prompt, opened: str, response: Response) -> list[Piece]:
    """Each turn of the assistant's, trained, and between two of them what the template writes, not trained.

    What follows its last turn is left away: nothing of that could be trained.
    """
    turns: list[Message] = list(prompt.turns)  # type: ignore[arg-type]
    later = split_turns(response.text, response.segments or ())
    pieces: list[Piece] = []
    if all(turn["role"] != ASSISTANT for turn in later):
        return [Piece(response.text, False)]
    only_prefix = later[0]["role"] != ASSISTANT
    if only_prefix:
        if not response.prefix:
            raise TrainError("the response begins with another's turn: its first segment is the assistant's")
        later = [{"role": ASSISTANT, "content": ""}, *later]
    closed = ""
    last = max(place for place, turn in enumerate(later) if turn["role"] == ASSISTANT)
    for place, turn in enumerate(later[: last + 1]):
        if turn["role"] == ASSISTANT:
            if place:
                before, opened = opened, encoder.render(turns, prompt.tools)
                _check_begins(encoder, opened, closed)
                rest = closed[len(before) :].rpartition(encoder.turn_end_text)
                if not rest[1]:
                    raise TrainError(
                        f"the chat template of {encoder.model} does not show where a turn ends, which a response of "
                        "several turns needs: take another model, or preferences over single turns"
                    )
                pieces.append(Piece(rest[2] + opened[len(closed) :], False))
            goes_on = place < len(later) - 1
            pieces.append(Piece(turn["content"], bool(place) or not only_prefix, goes_on or response.ends_turn))
            content = response.prefix + turn["content"] if not place else turn["content"]
            turns.append({**turn, "content": content})
            closed = encoder.render(turns, prompt.tools, open_turn=False)
            _check_begins(encoder, closed, opened)
            _check_holds(encoder, closed[len(opened) :], content)
        else:
            turns.append(turn)
    return pieces


def _check_begins(encoder: Encoder, whole: str, begin: str) -> None:
    """Refuse a conversation that does not begin with the text before its answer.

    Raises:
        TrainError: says where they part.
    """
    if whole.startswith(begin):
        return
    pairs = zip(whole, begin, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(whole), len(begin)))
    raise TrainError(
        f"the chat template of {encoder.model} writes a prompt otherwise once an answer follows it: "
        f"{begin[at : at + _SHOWN]!r} becomes {whole[at : at + _SHOWN]!r} after {begin[max(0, at - _SHOWN) : at]!r}; "
        "what is trained would not be what is sampled: change the template, or export texts (trl-pairs --template)"
    )


def _check_holds(encoder: Encoder, rest: str, answer: str) -> None:
    """Refuse a conversation that does not show its answer; blanks, which many templates strip, may differ.

    Raises:
        TrainError: what the answer begins with is the prompt's already, or is left out.
    """
    if answer.strip() in rest or "".join(answer.split()) in "".join(rest.split()):
        return
    raise TrainError(
        f"the chat template of {encoder.model} does not write an answer as it is: {answer[:_SHOWN]!r} becomes "
        f"{rest[:_SHOWN]!r} after the prompt; what is trained would not be what is sampled: change the template, or "
        "export texts (trl-pairs --template)"
    )


def _as_text(prompt: Prompt) -> str:
    """A prompt inside another: one message is its text, several are named by their roles."""
    if isinstance(prompt.turns, str):
        return prompt.turns
    turns: list[tuple[str, Any]] = [(turn["role"], turn.get("content") or "") for turn in prompt.turns]
    if len(turns) == 1:
        return str(turns[0][1])
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns)
