"""Rows of the other formats as preference lists: a pair is a list of two, a response alone is a list of one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefdata.train.preferences import Edge, Message, PreferenceList, Prompt, Response, Segment
from prefdata.train.rows import FileRow, labels_of

SIDES = ("chosen", "rejected")
_Answer = tuple[str, tuple[Segment, ...] | None]


def pair_from_row(row: FileRow, _: Counter[str]) -> PreferenceList | str:
    """A pair as a list of two, or the reason why it is left out.

    Without a prompt, or where chosen and rejected repeat it, the prompt is what both begin with alike: for messages
    the turns up to the last that is not the assistant's; for texts the characters, a blank before the first difference
    left to the responses (as in TRL).

    Raises:
        TrainError: a column cannot be used; names file, row and column.
    """
    held_out = row.held_out()
    if held_out is None:
        return f"split {row.get('split')!r} is neither train nor valid"
    for column in SIDES:
        if row.get(column) is None:
            raise row.error(column, "it is null")
    prompt, answers = _of_texts(row) if isinstance(row.get("chosen"), str) else _of_messages(row)
    weight = row.number_in("weight", 1.0, 0.0)
    if weight == 0:
        return "weight 0"
    p = row.number_in("p", 1.0, 0.0, 1.0)
    edges = [Edge(0, 1, p, margin=row.optional_number("margin"))]
    ranks = (1, 2) if p > 0.5 else (1, 1) if p == 0.5 else (2, 1)
    return PreferenceList(
        row=row.place,
        id=row.text("id"),
        group=row.group(),
        held_out=held_out,
        aspect=row.text("aspect"),
        annotator=row.text("annotator"),
        weight=weight,
        prompts=[prompt],
        responses=[
            Response(
                text=text,
                id=row.text(f"{column}_id"),
                score=row.optional_number(f"score_{column}"),
                rank=rank,
                label=label,
                segments=segments,
            )
            for column, (text, segments), rank, label in zip(SIDES, answers, ranks, labels_of(2, edges), strict=True)
        ],
        edges=edges,
    )


def alone_from_row(row: FileRow, _: Counter[str]) -> PreferenceList | str:
    """A response with its label as a list of one, or the reason why it is left out.

    Raises:
        TrainError: a column cannot be used; names file, row and column.
    """
    if row.get("label") is None:
        raise row.error("label", "it is null; it is true or false")
    label = row.checked("label", row.get("label"))
    if label not in (0.0, 1.0):
        raise row.error("label", f"{label:g} is neither true nor false")
    prompt, answer = _completion(row)
    return _single(row, prompt, answer, label, "ranked")


def sft_from_row(row: FileRow, _: Counter[str]) -> PreferenceList | str:
    """A completion, or a conversation of which every turn of the assistant's is trained, as a list of one.

    Raises:
        TrainError: a column cannot be used; names file, row and column.
    """
    if "completion" in row.values:
        prompt, answer = _completion(row)
        return _single(row, prompt, answer, 1.0, "sft")
    turns = row.messages("messages")
    begin = next((place for place, turn in enumerate(turns) if turn["role"] == "assistant"), None)
    if not begin:
        raise row.error("messages", "a conversation begins with another's turn, and the assistant answers it")
    return _single(row, Prompt(turns[:begin], row.tools()), row.answer("messages", turns[begin:]), 1.0, "sft")


def _single(row: FileRow, prompt: Prompt, answer: _Answer, label: float, role: str) -> PreferenceList | str:
    held_out = row.held_out()
    if held_out is None:
        return f"split {row.get('split')!r} is neither train nor valid"
    weight = row.number_in("weight", 1.0, 0.0)
    if weight == 0:
        return "weight 0"
    text, segments = answer
    score = row.optional_number("score")
    return PreferenceList(
        row=row.place,
        id=row.text("id"),
        group=row.group(),
        held_out=held_out,
        kind="unpaired",
        aspect=row.text("aspect"),
        annotator=row.text("annotator"),
        weight=weight,
        prompts=[prompt],
        responses=[Response(text, row.text("response_id"), role, score, label=label, segments=segments)],
        edges=[],
    )


def _completion(row: FileRow) -> tuple[Prompt, _Answer]:
    value, prompt = row.get("completion"), row.prompt()
    if value is None:
        raise row.error("completion", "it is null")
    if isinstance(value, str):
        if not isinstance(prompt.turns, str):
            raise row.error("completion", "the prompt is messages and it is a text: both are of one kind")
        return prompt, (value, None)
    return _as_turns(prompt), row.answer("completion", row.messages("completion"))


def _as_turns(prompt: Prompt) -> Prompt:
    """A text before messages is the user's turn."""
    if isinstance(prompt.turns, str):
        return Prompt([{"role": "user", "content": prompt.turns}], prompt.tools)
    return prompt


def _of_texts(row: FileRow) -> tuple[Prompt, list[_Answer]]:
    chosen, rejected = (str(row.get(column)) for column in SIDES)
    if "prompt" in row.values:
        prompt = row.prompt()
        return prompt, [(chosen, None), (rejected, None)]
    shared = _shared(chosen, rejected)
    if shared and chosen[shared - 1] == " ":
        shared -= 1
    if not shared:
        raise row.error("chosen", "there is no prompt, and chosen and rejected do not begin alike: add a column prompt")
    prompt = Prompt(chosen[:shared], row.tools())
    return prompt, [(chosen[shared:], None), (rejected[shared:], None)]


def _of_messages(row: FileRow) -> tuple[Prompt, list[_Answer]]:
    sides = [row.messages(column) for column in SIDES]
    given = None if row.get("prompt") is None else row.prompt()
    if given is not None and not isinstance(given.turns, str):
        turns = given.turns
        sides = [side[len(turns) :] if side[: len(turns)] == turns else side for side in sides]
    elif sides[0][0]["role"] != "assistant":
        turns = _shared_turns(*sides)
        if not turns:
            raise row.error("chosen", "chosen and rejected share no turn that could be the prompt")
        sides = [side[len(turns) :] for side in sides]
    elif given is not None:
        turns = list(_as_turns(given).turns)  # type: ignore[arg-type]
    else:
        raise row.error("chosen", "there is no prompt, and it begins with the assistant's turn: add a column prompt")
    answers = [row.answer(column, side) for column, side in zip(SIDES, sides, strict=True)]
    return Prompt(turns, row.tools()), answers


def _shared(first: Any, second: Any) -> int:
    """With how many equal entries two sequences begin."""
    both = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(both) if one != other), min(len(first), len(second)))


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The turns that two conversations share, up to the last one that is to be answered."""
    count = _shared(chosen, rejected)
    while count and chosen[count - 1]["role"] in ("assistant", "system"):
        count -= 1
    return chosen[:count]
