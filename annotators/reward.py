"""`judge.reward`: what a reward model gives each response, or which of two a model of pairs prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from prefdata.cards import Orders
from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.framing import neutralise
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation

from .asking import completed, status_of
from .compare import Pairs, comparisons
from .likelihood import MeasuringStep

_TOLERANCE = 1e-3
"""By how much the two probabilities of a pair may miss 1: no more than half precision does."""


@step("judge.reward")
class Reward(MeasuringStep):
    """Judge by a reward model, or by a model of pairs.

    `score`: one number for each response, one request each; comparable within one model only. `compare`: P(first is
    better) and P(second is better) of each pair in each order shown, one request each. Probabilities that do not sum to
    1, or lie outside [0, 1], are `unparsed`: the model is none of pairs. So is a number that is not finite. A response
    without a text is abstained from; an empty one is asked about.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "reward"}

    engine: str = Field(description="The engine that judges.")
    form: Literal["score", "compare"] = Field(
        "score", description="A reward model's number for each response, or a pair model's verdict on two."
    )
    orders: Orders = Field("both", description="compare: show a pair in both orders, in one, or in one at random.")
    pairs: Pairs = Field("all", description="compare: all pairs of a prompt's responses, or at most so many.")

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores or comparisons of each prompt's responses."""
        engine = context.engine(self.engine)
        if self.form == "compare":
            shown: list[tuple[Row, tuple[Row, ...]]] = [
                (prompt, (first, second))
                for prompt, first, second, _ in comparisons(group, self.pairs, self.orders, context)
            ]
        else:
            shown = [
                (prompt, (response,))
                for prompt in group.prompts
                for response in group.responses_to(prompt["prompt_id"])
            ]
        rows = await gather_all(self._judge(prompt, responses, engine, context) for prompt, responses in shown)
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"reward:{engine.model}{'/pairs' if self.form == 'compare' else ''}"

    async def _judge(self, prompt: Row, responses: Sequence[Row], engine: Engine, context: Context) -> Row:
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"] for response in responses],
            protocol=self.form,
            annotator=self._name(engine),
            source="reward",
            aspect=self.aspect,
            key={"identity": engine.identity},
        )
        texts = [response["text"] for response in responses]

        async def make(revision: int) -> Row:
            if any(text is None for text in texts):
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            # A control token in one would end its turn, and what follows would be judged as another's.
            request = Request("reward", messages=tuple(render(prompt)), texts=tuple(map(neutralise, texts)))
            answer = await context.ask(self.engine, request, revision=revision)
            status, scores = _verdict(answer, len(texts))
            return completed(row, status=status, scores=scores, call_id=answer.call_id, revision=revision)

        return await context.once("annotations", row["annotation_id"], make)


def _verdict(answer: Answer, targets: int) -> tuple[str, list[float] | None]:
    """Status and scores. That a score is finite is for `completed` to see."""
    status = status_of(answer)
    if status != "ok" or answer.reply is None:
        return status, None
    values = answer.reply.values
    if len(values) != targets:
        return "unparsed", None
    if targets == 1:
        return "ok", list(values)
    first, second = values
    # Written so that a NaN fails each test.
    if not (first >= 0 and second >= 0 and abs(first + second - 1) <= _TOLERANCE):
        return "unparsed", None
    first /= first + second
    return "ok", [first, 1.0 - first]
