"""`judge.label_probs`: which of two responses is better, by the probabilities of the next token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from prefdata.cards import Orders
from prefdata.engines.base import Answer, Capability, Request
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation, message

from .asking import CardStep, Juror, annotator_name, completed, meta, status_of
from .compare import Pairs, comparisons
from .frame import label_message

_LEAST_MASS = 0.5
"""Below it the labels are not what the model was about to say: a wrong template or tokenisation."""


@step("judge.label_probs")
class LabelProbs(CardStep):
    """Compare two responses by the probabilities that a model gives to their labels as its next token.

    The model's turn is begun for it (`prefix`), which puts nearly all of the probability on the labels. One annotation
    for each order in which a pair is shown, scores the two probabilities, made to sum to 1. Where the labels together
    have less than half of the probability, it is `unparsed`: the template or the tokenisation is wrong.

    Small models answer such a question mostly by position. Compare the two orders in the report before such a judge
    is believed.
    """

    protocol = "compare"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "label_probs"}

    orders: Orders | None = Field(None, description="Show a pair in both orders, in one, or in one at random.")
    pairs: Pairs = Field("all", description="All pairs of a prompt's responses, or at most so many.")
    labels: tuple[str, str] = Field(("A", "B"), description="What the first and the second response are called.")
    prefix: str = Field("The better response is Response", description="How the answer is begun for the model.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        first, second = (label.strip() for label in self.labels)
        if not first or not second or first == second:
            raise ValueError(f"labels must be two different texts; these are {list(self.labels)}")
        return self

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the card says in place of what is left to it."""
        return {**super().resolved(), "orders": self.orders or self.loaded.orders}

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The comparisons of each prompt's responses."""
        shown = comparisons(group, self.pairs, self.orders or self.loaded.orders, context)
        # Probabilities are read off, not drawn: a replicate would say the same.
        rows = await gather_all(
            self._judge(prompt, first, second, juror, context) for prompt, first, second, _ in shown
        )
        if not rows:
            return {}
        name = annotator_name(juror.engine, self.loaded, "label-probs")
        return {"annotations": rows, **self.about(name, juror.engine, [self.loaded.compared_criterion])}

    async def _judge(self, prompt: Row, first: Row, second: Row, juror: Juror, context: Context) -> Row:
        card, engine = self.loaded, juror.engine
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[first["response_id"], second["response_id"]],
            protocol="compare",
            annotator=annotator_name(engine, card, "label-probs"),
            source="judge",
            aspect=card.compared_aspect,
            key=self.asked(engine, prompt, labels=list(self.labels), prefix=self.prefix),
            criterion_id=card.compared_criterion["criterion_id"],
        )
        text = label_message(prompt, first["text"] or "", second["text"] or "", card, self.labels)
        request = Request("label_probs", messages=(message("user", text),), labels=self.labels, prefix=self.prefix)

        async def make(revision: int) -> Row:
            answer = await context.ask(juror.name, request, revision=revision)
            status, scores = _verdict(answer)
            mass = answer.reply.mass if answer.reply else None
            return completed(
                row,
                status=status,
                scores=scores,
                call_id=answer.call_id,
                revision=revision,
                meta=meta(mass=mass) if mass is not None and math.isfinite(mass) else None,
            )

        return await context.once("annotations", row["annotation_id"], make)


def _verdict(answer: Answer) -> tuple[str, list[float] | None]:
    """Status and the two probabilities, which sum to 1."""
    status = status_of(answer)
    if status != "ok" or answer.reply is None:
        return status, None
    values, mass = answer.reply.values, answer.reply.mass
    # Written so that a NaN fails each test.
    if mass is None or not mass >= _LEAST_MASS or len(values) != 2 or not min(values) >= 0 or not sum(values) > 0:
        return "unparsed", None
    first = values[0] / sum(values)
    return "ok", [first, 1.0 - first]
