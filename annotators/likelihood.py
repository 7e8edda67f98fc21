"""`judge.likelihood`: how probable a model finds each response, beside how probable it finds it without the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.operators.sample import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation

from .asking import JudgeStep, completed, meta, status_of

Mode = Literal["cond-minus-uncond", "conditional"]


@step("judge.likelihood")
class Likelihood(JudgeStep):
    """Score each response by its mean log-probability per token under a model, in nats.

    `cond-minus-uncond`: mean log p(token | prompt, ...) minus mean log p(token | ...) with no prompt, that is the
    pointwise mutual information of prompt and response per token: what is probable anyway earns nothing. Two requests
    for each response. `conditional`: the first term alone; one request.

    Scores are comparable within one model only. An empty response has no tokens to score: status `abstain`.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "logprobs"}
    writes = frozenset({"annotations", "annotators"})

    mode: Mode = Field(
        "cond-minus-uncond", description="Subtract what the response is worth without the prompt, or not."
    )
    aspect: str = Field("overall", min_length=1, description="The aspect that the scores stand under.")

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engine = context.engine(self.engine)
        rows = await gather_all(
            self._judge(prompt, response, engine, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
        )
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"likelihood:{engine.model}/{self.mode}"

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
        text = response["text"]

        async def make(revision: int) -> Row:
            if text == "":
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            asked = [Request("logprobs", messages=tuple(render(prompt)), continuation=text or "")]
            if self.mode == "cond-minus-uncond":
                asked.append(Request("logprobs", continuation=text or ""))
            answers = await gather_all(context.ask(self.engine, request, revision=revision) for request in asked)
            return _scored(row, answers, revision)

        return await context.once("annotations", row["annotation_id"], make)


def _scored(row: Row, answers: list[Answer], revision: int) -> Row:
    """The annotation from the answers: the conditional one, and the unconditional one where there is one."""
    for answer in answers:
        status = status_of(answer)
        if status != "ok":
            return completed(row, status=status, scores=None, call_id=answer.call_id, revision=revision)
    values = [answer.reply.values for answer in answers if answer.reply is not None]
    if not all(values):
        return completed(row, status="unparsed", scores=None, call_id=answers[0].call_id, revision=revision)
    means = [sum(each) / len(each) for each in values]
    score = means[0] - (means[1] if len(means) > 1 else 0.0)
    facts: dict[str, object] = {"tokens": len(values[0])}
    if len(answers) > 1:
        facts["unconditional_call_id"] = answers[1].call_id
    return completed(
        row, status="ok", scores=[score], call_id=answers[0].call_id, revision=revision, meta=meta(**facts)
    )
