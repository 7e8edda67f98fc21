"""`judge.likelihood`: how probable a model finds each response, beside how probable it finds it without the prompt."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation

from .asking import completed, meta, status_of

Mode = Literal["cond-minus-uncond", "conditional"]
Per = Literal["token", "byte", "sum"]


class MeasuringStep(GroupStep):
    """A step whose engines do not write: what it says of a response is computed from numbers that they return."""

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators"})
    narrows = "responses"

    aspect: str = Field("overall", min_length=1, description="The aspect that the scores stand under.")


async def of_each(group: Group, judge: Callable[[Row, Row], Awaitable[Row]]) -> list[Row]:
    """`judge(prompt, response)` for every response of a group, in order."""

    async def one(prompt: Row, response: Row) -> Row:
        return await judge(prompt, response)

    return await gather_all(
        one(prompt, response) for prompt in group.prompts for response in group.responses_to(prompt["prompt_id"])
    )


def amount(values: Sequence[float], text: str, per: Per) -> float:
    """The log-probability of a text, in nats: for each token, for each byte, or of the whole.

    Args:
        values: log-probability of each of its tokens; at least one.
        text: what they are the tokens of; not empty.
        per: what it is divided by. Bytes are of UTF-8, and are the same under every tokenizer.
    """
    total = sum(values)
    match per:
        case "token":
            return total / len(values)
        case "byte":
            return total / len(text.encode("utf-8", "surrogatepass"))
        case "sum":
            return total


async def asked_all(context: Context, asked: Iterable[tuple[str, Request]], revision: int) -> list[Answer]:
    """The answers to requests (engine, request) that are only worth something together.

    Where one of them went wrong, the others are not paid for again when the row is made anew.
    """

    async def one(engine: str, request: Request) -> Answer:
        answer = await context.ask(engine, request)
        values = answer.reply.values if status_of(answer) == "ok" and answer.reply else ()
        well = bool(values) and all(map(math.isfinite, values))
        if well or revision == 1 or not answer.cached:
            return answer
        return await context.ask(engine, request, revision=revision)

    return await gather_all(one(engine, request) for engine, request in asked)


def read_values(answers: Sequence[Answer]) -> tuple[str, str, list[tuple[float, ...]]]:
    """What became of requests that are only worth something together.

    Returns:
        The status, the id of the call that it came from (the first, where all is well), and the values of each answer;
        none unless the status is ok.
    """
    for answer in answers:
        status = status_of(answer)
        if status != "ok":
            return status, answer.call_id, []
    values = [answer.reply.values for answer in answers if answer.reply is not None]
    if not all(values):
        return "unparsed", answers[0].call_id, []
    return "ok", answers[0].call_id, values


@step("judge.likelihood")
class Likelihood(MeasuringStep):
    """Score each response by its log-probability under a model, in nats.

    `cond-minus-uncond`: mean log p(token | prompt, ...) minus mean log p(token | ...) with no prompt, that is the
    pointwise mutual information of prompt and response per token: what is probable anyway earns nothing. Two requests
    for each response. `conditional`: the first term alone; one request.

    Scores are comparable within one model only; per byte, between models whose tokenizers differ. An empty response has
    no tokens to score: status `abstain`.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "logprobs"}

    engine: str = Field(description="The engine that judges.")
    mode: Mode = Field(
        "cond-minus-uncond", description="Subtract what the response is worth without the prompt, or not."
    )
    per: Per = Field("token", description="Mean over tokens, mean over bytes, or the sum, which favours short texts.")

    def resolved(self) -> dict[str, Any]:
        """The fields; the default of `per`, which came later, is left out, so that older steps stay what they are."""
        fields = super().resolved()
        return {key: value for key, value in fields.items() if key != "per" or value != "token"}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """See `Step`: without `per`, it is the default."""
        return cls.model_validate(dict(fields))

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engine = context.engine(self.engine)
        rows = await of_each(group, lambda prompt, response: self._judge(prompt, response, engine, context))
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"likelihood:{engine.model}/{self.mode}{per_suffix(self.per, 'token')}"

    async def _judge(self, prompt: Row, response: Row, engine: Engine, context: Context) -> Row:
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=self._name(engine),
            source="likelihood",
            aspect=self.aspect,
            key={"identity": engine.identity},
        )
        text = response["text"] or ""

        async def make(revision: int) -> Row:
            if not text:
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            asked = [Request("logprobs", messages=tuple(render(prompt)), continuation=text)]
            if self.mode == "cond-minus-uncond":
                asked.append(Request("logprobs", continuation=text))
            answers = await asked_all(context, [(self.engine, request) for request in asked], revision)
            status, call_id, values = read_values(answers)
            if status != "ok":
                return completed(row, status=status, scores=None, call_id=call_id, revision=revision)
            amounts = [amount(each, text, self.per) for each in values]
            score = amounts[0] - (amounts[1] if len(amounts) > 1 else 0.0)
            facts: dict[str, object] = {"tokens": len(values[0])}
            if len(answers) > 1:
                facts["unconditional_call_id"] = answers[1].call_id
            return completed(row, status="ok", scores=[score], call_id=call_id, revision=revision, meta=meta(**facts))

        return await context.once("annotations", row["annotation_id"], make)


def per_suffix(per: Per, default: Per) -> str:
    """What an annotator's name says of the normalisation: nothing of the default one."""
    return "" if per == default else f"/{per}" if per == "sum" else f"/per-{per}"
