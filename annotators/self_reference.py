"""`judge.self_reference`: the judge answers the prompt itself, then criticises both responses by its own answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Self

from pydantic import Field

from prefdata.cards import Card
from prefdata.engines.base import Capability, Request
from prefdata.errors import PipelineError
from prefdata.framing import framed, neutralise
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row, message

from .asking import Juror, status_of
from .dialogue import DIALOGUE, DialogueJudge, Prepared, Turn, turn
from .frame import answer_with, criteria_of, object_schema, outside, visible, warning
from .parse import Verdict
from .shared import Shared

STATEMENTS = ("Response {} is better.", "I prefer response {}.", "The better one of the two is response {}.")
"""Paraphrases of a verdict, whose likelihoods the strength is taken from."""


@step("judge.self_reference")
class SelfReference(DialogueJudge):
    """Have a model answer the prompt itself, then criticise two responses by that answer and decide.

    The own answer is asked for once for each prompt and engine and serves all pairs, orders and replicates; the
    critique and the verdict follow in the same dialogue, under the one principle of the card. Critiques stand in
    `annotations.text`, the call of the own answer in `meta`. Self-consistency is `replicates` (an odd number leaves
    fewer ties) merged by `aggregate.majority`.

    With `strength_engine` the column `strength` says by how much the winner won: SP(v) = exp(-mean log p(v)), the
    perplexity per token of a statement of the verdict v after the dialogue, averaged over paraphrases, and strength =
    log SP(loser) - log SP(winner). Where that is negative, the likelihoods contradict the verdict: strength is null,
    and `meta` holds the number and `inconsistent`. A tie has none. `reparse` leaves such a step alone.

    Source: Self-reference feedback; temperature, top_p and both orders as in its code. The strength is reconstructed
    (and here of one order, not averaged over both): it is off by default.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "generate", "strength_engine": "logprobs"}

    card: str = Field(
        "best-for-humanity", description="A shipped card's name, or the path of your own card's YAML file."
    )
    temperature: float = Field(0.1, ge=0, description="0 is greedy.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus of the distribution that is drawn from.")
    answer_tokens: int = Field(512, ge=1, description="At most so many new tokens for the judge's own answer.")
    strength_engine: str | None = Field(
        None, description="The engine whose log-probabilities give `strength`: as a rule the judge itself."
    )

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """See `Step`. With a strength it cannot be read again: answers are kept, likelihoods are not.

        Raises:
            PipelineError: the step measures a strength.
        """
        if fields.get("strength_engine"):
            raise PipelineError(
                "its strength rests on likelihoods, which are not kept with the answers, and would be lost; what could "
                "not be read is asked for again by `prefdata run --retry unparsed`"
            )
        return super().restored(fields)

    def how(self, context: Context) -> str:
        """See `DialogueJudge.how`."""
        return "self-reference"

    def parameters(self, context: Context) -> dict[str, Any]:
        """See `DialogueJudge.parameters`."""
        measured = None if self.strength_engine is None else context.engine(self.strength_engine).identity
        return {"dialogue": DIALOGUE, "top_p": self.top_p, "answer_tokens": self.answer_tokens, "strength": measured}

    def asking(self, messages: Sequence[Row], schema: dict[str, Any], seed: int, replicate: int) -> Request:
        """See `DialogueJudge.asking`."""
        return replace(super().asking(messages, schema, seed, replicate), top_p=self.top_p)

    async def prepared(
        self,
        prompt: Row,
        texts: tuple[str, str],
        row: Row,
        juror: Juror,
        context: Context,
        revision: int,
        own: Shared[Any],
    ) -> Prepared | Turn:
        """See `DialogueJudge.prepared`."""
        card, prompt_id = self.loaded, prompt["prompt_id"]
        question = message("user", own_message(prompt, card))
        request = Request(
            "generate",
            messages=(question,),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.answer_tokens,
            seed=seed_of("own answer", prompt_id, juror.engine.identity) if self.temperature else None,
        )
        answer: Turn = await own.get((prompt_id, revision), lambda: turn(context, juror.name, request, revision))
        if answer.status != "ok":
            return answer
        reply = message("assistant", neutralise(answer.text))
        asked = message("user", critique_message(texts, card))
        shown = outside(prompt, card, [*texts, answer.text])
        return Prepared((question, reply, asked), critique_schema(card), shown, calls=[answer.call_id])

    async def measured(self, ready: Prepared, row: Row, context: Context, own: Shared[Any]) -> Any:
        """Log SP of the verdict for A and of that for B; once for all replicates of an order. See `strength`."""
        if self.strength_engine is None:
            return None
        *before, asked = ready.messages
        messages = (*before, {**asked, "content": stated(asked["content"])})

        async def both() -> dict[str, float | None]:
            found = await gather_all(self._surprise(context, messages, side) for side in "AB")
            return dict(zip("AB", found, strict=True))

        return await own.get(("surprise", row["prompt_id"], *row["target_ids"]), both)

    def beside(self, verdict: Verdict, measured: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The strength of the verdict, where it was measured."""
        if measured is None or verdict.winner == "tie":
            return {}, {}
        strength = strength_of(verdict.winner, measured)
        if strength is None:
            return {}, {"strength": "failed"}
        return ({"strength": strength}, {}) if strength >= 0 else ({}, {"inconsistent": True, "strength": strength})

    async def _surprise(self, context: Context, messages: tuple[Row, ...], side: str) -> float | None:
        """Log SP of the verdict for `side`; None where a likelihood is missing."""
        assert self.strength_engine is not None
        engine = self.strength_engine
        answers = await gather_all(
            context.ask(engine, Request("logprobs", messages=messages, continuation=statement.format(side)))
            for statement in STATEMENTS
        )
        perplexities = []
        for answer in answers:
            values = answer.reply.values if status_of(answer) == "ok" and answer.reply else ()
            if not values or not all(math.isfinite(value) for value in values):
                return None
            perplexities.append(math.exp(min(-fmean(values), 700.0)))
        return math.log(fmean(perplexities))


def strength_of(winner: str, surprise: Mapping[str, float | None]) -> float | None:
    """The logarithm of SP of the loser minus that of the winner; below zero where it contradicts the verdict.

    Args:
        winner: A or B.
        surprise: log SP of the verdicts for A and for B, None where a likelihood is missing.
    """
    lost, won = surprise["B" if winner == "A" else "A"], surprise[winner]
    return None if lost is None or won is None else lost - won


def own_message(prompt: Row, card: Card) -> str:
    """The request for the judge's own answer. The prompt is framed: to answer it is not to obey what it hides."""
    mark, body = framed(visible(prompt, card))
    return "\n\n".join(
        [
            f"Between two lines that hold [{mark}] stands a conversation that waits for the assistant's answer.",
            body,
            "Write that answer as well as you can: what the user asks for, and nothing about this task.",
        ]
    )


def critique_message(texts: tuple[str, str], card: Card) -> str:
    """The question which of two responses is better, by the own answer that went before, answered as JSON."""
    mark, body = framed([("Response A", texts[0]), ("Response B", texts[1])])
    wanted = '"A", "B" or "tie"' if card.output.ties else '"A" or "B"'
    return "\n\n".join(
        [
            f"{_INTRODUCTION} {card.instructions}",
            f"Compare them by:\n{criteria_of(card)}",
            warning(mark),
            body,
            "Criticise response A, then response B: where does each agree with your own answer, where does it differ, "
            "and who is right there? Your own answer may be wrong too.",
            f"{card.question} Letters and order say nothing about quality.",
            answer_with(['"reason": "the critique of A, then of B"', f'"verdict": {wanted}']),
        ]
    )


_INTRODUCTION = "Two others, A and B, have answered the same conversation. Take your own answer as a reference."


def critique_schema(card: Card) -> dict[str, Any]:
    """The JSON schema of the answer to `critique_message`: the critique is asked for whatever the card says."""
    winners = ["A", "B", "tie"] if card.output.ties else ["A", "B"]
    return object_schema({"reason": {"type": "string"}, "verdict": {"type": "string", "enum": winners}})


def stated(question: str) -> str:
    """The same question, to be answered by one plain sentence."""
    return f"{question.rpartition(chr(10) * 2)[0]}\n\nSay in one sentence which response is better."
