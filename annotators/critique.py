"""`judge.critique`: a language model with a card writes what is good and bad about each response."""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationInfo, model_validator

from prefdata.cards import Aspect
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows

from .asking import Juror, Outcome, TextJudge, annotator_name, ask_until_read, completed
from .frame import REMINDER, critique_message, critique_schema, outside
from .parse import parse_critique, parse_scores
from .score import Read, by_aspect, said_of
from .shared import Shared

_CRITIQUE = ""
"""Stands among the names of aspects for the critique itself."""

_REMINDER = "The last answer to this was empty. Write the critique."


@step("judge.critique")
class Critique(TextJudge):
    """Ask a language model with a card for a critique of each response.

    One annotation for each response and replicate: the critique as a whole in `text`, no scores. It is what
    `rewrite.refine` reads, and it is exported beside the response.

    With `score: true` the same answer ends in a score for each aspect of the card that has a scale, as a second
    annotation with the same call_id, like those of `judge.score`. The answer is then JSON, and read as strictly as any:
    a 10 is never taken for a 1, so no repair of such scores is needed afterwards. Without it the whole answer is the
    critique.

    Source: UltraFeedback (Cui et al. 2023), whose critiques end in an overall score from 1 to 10.
    """

    protocol = "critique"

    card: str = Field("critique", description="A shipped card's name, or the path of your own card's YAML file.")
    max_tokens: int = Field(1024, ge=1, description="At most so many new tokens for each critique.")
    score: bool = Field(False, description="End the critique in a score for each aspect that has a scale.")

    @model_validator(mode="after")
    def _scored(self, info: ValidationInfo) -> Self:
        restored = info.context and "card" in info.context
        if self.score and not restored and not self.loaded.scaled:
            raise ValueError(
                f"score needs an aspect with a scale, and the card {self.loaded.name!r} has none; add to an aspect, "
                "for example, scale: {type: ordinal, min: 1, max: 10}"
            )
        return self

    @property
    def scored(self) -> tuple[Aspect, ...]:
        """The aspects that are scored."""
        return self.loaded.scaled if self.score else ()

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The critiques of each prompt's responses."""
        made = await gather_all(
            self._judge(prompt, response, replicate, juror, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
            for replicate in range(self.times)
        )
        if not made:
            return {}
        card = self.loaded
        criteria = [card.compared_criterion, *(aspect.criterion(card.label) for aspect in self.scored)]
        about = self.about(annotator_name(juror.engine, card), juror.engine, criteria)
        return {"annotations": [row for rows in made for row in rows], **about}

    async def _judge(self, prompt: Row, response: Row, replicate: int, juror: Juror, context: Context) -> list[Row]:
        card, text = self.loaded, response["text"] or ""
        row = self.row(juror, prompt, [response], replicate, card.compared_criterion, scored=self.score)
        question = critique_message(prompt, text, card, scored=self.score)
        request = self.request(
            question, critique_schema(card) if self.score else None, seed_of(row["annotation_id"]), replicate
        )
        answers = Shared[dict[str, Outcome[Read]]]()

        async def call(revision: int) -> dict[str, Outcome[Read]]:
            return await ask_until_read(
                context,
                juror.name,
                request,
                lambda reply: self._read(reply, outside(prompt, card, [text])),
                [_CRITIQUE, *(aspect.name for aspect in self.scored)],
                revision=revision,
                reask=self.reask,
                reminder=REMINDER if self.score else _REMINDER,
            )

        async def written(revision: int) -> Row:
            outcome = (await answers.get(revision, lambda: call(revision)))[_CRITIQUE]
            said = outcome.value[1] if outcome.value else None
            return completed(row, status=outcome.status, call_id=outcome.call_id, revision=outcome.revision, text=said)

        async def one(aspect: Aspect) -> Row:
            scored = self.row(
                juror, prompt, [response], replicate, aspect.criterion(card.label), aspect=aspect, scored=True
            )

            async def make(revision: int) -> Row:
                outcome = (await answers.get(revision, lambda: call(revision)))[aspect.name]
                return completed(scored, call_id=outcome.call_id, revision=outcome.revision, **said_of(outcome, aspect))

            return await context.once("annotations", scored["annotation_id"], make)

        first = context.once("annotations", row["annotation_id"], written)
        return await gather_all([first, *(one(aspect) for aspect in self.scored)])

    def _read(self, reply: Reply, shown: list[str]) -> dict[str, Read]:
        text, cut = reply.text or "", reply.finish_reason == "length"
        found = parse_critique(text, key=self.score, shown=shown, truncated=cut)
        read: dict[str, Read] = {} if found is None else {_CRITIQUE: (None, found.text)}
        if self.score:
            partial = [aspect.name for aspect in self.scored if aspect.applies_if]
            scales = {aspect.name: aspect.scale for aspect in self.scored}
            read |= by_aspect(parse_scores(text, scales, shown=shown, truncated=cut, may_not_apply=partial))
        return read
