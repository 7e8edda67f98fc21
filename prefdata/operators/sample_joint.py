"""`sample` with `mode: joint`: one call writes several answers that differ from one another."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from prefdata.engines.base import Answer
from prefdata.operators.same_text import normalised
from prefdata.operators.sample_members import Member
from prefdata.pipeline.step import Context
from prefdata.schema import Row, response, storable

TEMPLATE = 1
"""Raise it when the wording here changes: it is part of what was asked, and so of every id."""

_REASONING = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[A-Za-z0-9_+-]*\s*\n(.*)\n\s*```", re.DOTALL)


class _AbsentError(Exception):
    """The answer holds fewer texts than were asked for; there is no row for this one."""


def joint_messages(messages: list[Row], n: int) -> list[Row]:
    """The conversation with the wish for `n` different answers at the end of its last user turn."""
    wish = (
        f"Write {n} answers to the message above. Each is complete and stands alone, and they differ from one another "
        f"in what they say or in how they go about it, not in wording alone. Answer with one JSON object and nothing "
        f'else:\n{{"answers": ["the first answer", "the second answer", ...]}}'
    )
    if not messages or messages[-1]["role"] != "user":
        return [*messages, {"role": "user", "content": wish.replace("the message above", "what was said last")}]
    last = messages[-1]
    return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{wish}"}]


def joint_schema(n: int) -> dict[str, Any]:
    """The JSON schema of `n` answers."""
    answers = {"type": "array", "items": {"type": "string"}, "minItems": n, "maxItems": n}
    return {
        "type": "object",
        "properties": {"answers": answers},
        "required": ["answers"],
        "additionalProperties": False,
    }


def without_reasoning(text: str) -> str:
    """What follows the reasoning block that a text may begin with, without blanks around it."""
    return _REASONING.sub("", text).strip()


def parse_answers(text: str, n: int) -> list[str] | None:
    """The different answers of a joint call, at most `n`; None where there is nothing that can be read for certain.

    A reasoning block before the object and one code fence around it do no harm; a half object, a list of anything but
    texts and an object with other keys are not read. Of equal texts (whitespace apart) the first is kept.
    """
    text = without_reasoning(text)
    fenced = _FENCED.fullmatch(text)
    try:
        said = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    answers = said.get("answers") if isinstance(said, dict) and set(said) == {"answers"} else None
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return None
    kept: dict[str, str] = {}
    for answer in answers:
        answer = storable(answer).strip()
        if answer:
            kept.setdefault(normalised(answer), answer)
    return list(kept.values())[:n] or None


async def joint_draws(
    prompt: Row, member: Member, messages: list[Row], system: str | None, n: int, context: Context
) -> list[Row]:
    """The rows of one joint call, which share its call_id; fewer than `n` where it holds fewer different answers.

    Where nothing can be read, all `n` rows are there without a text (finish_reason `error`), and the next run asks
    once more. Where the first row is there already, its call is settled: what is not there was not in the answer.
    """
    params = {**member.params(system), "joint": n, "template": TEMPLATE}
    request = member.request(prompt, joint_messages(messages, n), 0)
    request = replace(request, schema=joint_schema(n), max_tokens=n * member.max_tokens)
    asked: dict[int, Answer] = {}

    async def ask(revision: int) -> Answer:
        if revision not in asked:
            asked[revision] = await context.ask(member.name, request, revision=revision)
        return asked[revision]

    async def one(index: int) -> Row | None:
        row = response(prompt, model=member.engine.model, params=params, sample_index=index)

        async def make(revision: int) -> Row:
            if index and not asked:
                raise _AbsentError
            answer = await ask(revision)
            reply = answer.reply
            ended = answer.status == "ok" and reply is not None and reply.finish_reason in ("stop", "length")
            texts = parse_answers(reply.text or "", n) if ended and reply is not None else None
            if texts is None:
                return {**row, "text": None, "finish_reason": "error", "call_id": answer.call_id}
            if index >= len(texts):
                raise _AbsentError
            return {**row, "text": texts[index], "finish_reason": "stop", "call_id": answer.call_id}

        try:
            return await context.once("responses", row["response_id"], make)
        except _AbsentError:
            return None

    # One after the other: the first row asks, the others read the same answer.
    return [row for index in range(n) if (row := await one(index)) is not None]
