"""`judge.self_preference`: which of two responses a policy has come to prefer, by its own log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from pydantic import Field

from prefdata.engines.base import Capability, Engine, Request
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation
from prefdata.stats.logistic import sigmoid

from .asking import completed, meta
from .compare import Pairs, comparisons
from .density_ratio import finite, refuse_other_tokens
from .likelihood import MeasuringStep, Per, amount, asked_all, per_suffix, read_values
from .shared import Shared

Outcome = tuple[str, str | None, float | None]
"""Status, call and log-ratio."""


@step("judge.self_preference")
class SelfPreference(MeasuringStep):
    """Compare two responses by the implicit reward of a policy against its reference.

    P(first is better) = s(beta (log pi/ref(first) - log pi/ref(second))), where s is the logistic function and log
    pi/ref the log-probability of a response under `policy` minus that under `reference`. Source: Aligning LLMs with
    Self-generated Preference Data (SPA), which sums over tokens; with `per` the ratio is a mean, and `beta` wants to be
    some hundred times larger. One annotation for each pair: shown in the other order it would be the complement. Two
    requests for each response, however many pairs it is in. A pair with an empty response: status `abstain`.

    A policy that is its own reference prefers nothing: exactly one half. One that was trained for a few steps is sure
    of little more than what it was trained on, and likes length where its training did.

    Raises:
        PipelineError: the two models read a response as different numbers of tokens, and `per` is not byte.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"policy": "logprobs", "reference": "logprobs"}

    policy: str = Field(description="The engine whose preference is asked for.")
    reference: str = Field(description="The engine that it was trained from.")
    beta: float = Field(0.1, gt=0, description="That of the policy's training.")
    per: Per = Field("sum", description="The whole response, mean over its tokens, or mean over its bytes.")
    pairs: Pairs = Field("all", description="All pairs of a prompt's responses, or at most so many.")

    async def run(self, group: Group, context: Context) -> Rows:
        """The comparisons of each prompt's responses."""
        engines = (context.engine(self.policy), context.engine(self.reference))
        ratios: Shared[Outcome] = Shared()
        shown = comparisons(group, self.pairs, "one", context)
        rows = await gather_all(
            self._judge(prompt, first, second, engines, ratios, context) for prompt, first, second, _ in shown
        )
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engines), "model": engines[0].model}]}

    def _name(self, engines: tuple[Engine, Engine]) -> str:
        policy, reference = engines
        suffix = per_suffix(self.per, "sum") + ("" if self.beta == 0.1 else f"/beta-{self.beta:g}")
        return f"likelihood:{policy.model}-over-{reference.model}/self-preference{suffix}"

    async def _judge(
        self,
        prompt: Row,
        first: Row,
        second: Row,
        engines: tuple[Engine, Engine],
        ratios: Shared[Outcome],
        context: Context,
    ) -> Row:
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[first["response_id"], second["response_id"]],
            protocol="compare",
            annotator=self._name(engines),
            source="likelihood",
            aspect=self.aspect,
            key={"identity": engines[0].identity, "reference": engines[1].identity, "beta": self.beta},
        )

        async def make(revision: int) -> Row:
            if not first["text"] or not second["text"]:
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            found = await gather_all(
                ratios.get(
                    (response["response_id"], revision),
                    partial(self._ratio, prompt, response, engines, context, revision),
                )
                for response in (first, second)
            )
            return _verdict(row, found, self.beta, revision)

        return await context.once("annotations", row["annotation_id"], make)

    async def _ratio(
        self, prompt: Row, response: Row, engines: tuple[Engine, Engine], context: Context, revision: int
    ) -> Outcome:
        """Log pi/ref of one response."""
        request = Request("logprobs", messages=tuple(render(prompt)), continuation=response["text"])
        answers = await asked_all(context, [(name, request) for name in (self.policy, self.reference)], revision)
        status, call_id, values = read_values(answers)
        if status != "ok":
            return status, call_id, None
        if self.per != "byte" and engines[0].identity != engines[1].identity:
            refuse_other_tokens(self.policy, self.reference, values[0], values[1], response["response_id"])
        policy, reference = (amount(each, response["text"], self.per) for each in values)
        return "ok", call_id, policy - reference


def _verdict(row: Row, found: list[Outcome], beta: float, revision: int) -> Row:
    for status, call_id, _ in found:
        if status != "ok":
            return completed(row, status=status, scores=None, call_id=call_id, revision=revision)
    ratios = [ratio for _, _, ratio in found if ratio is not None]
    first = float(sigmoid(beta * (ratios[0] - ratios[1])))
    facts = meta(ratios=[finite(ratio) for ratio in ratios])
    return completed(row, status="ok", scores=[first, 1.0 - first], call_id=found[0][1], revision=revision, meta=facts)
