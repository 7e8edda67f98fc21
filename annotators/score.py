"""`judge.score`: a language model with a card scores each response under each aspect."""

from __future__ import annotations

from typing import Any

from prefdata.cards import Aspect
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows

from .asking import Juror, Outcome, TextJudge, annotator_name, ask_until_read, completed
from .frame import outside, score_message, score_schema
from .parse import Scores, parse_scores
from .shared import Shared

Read = tuple[float | None, str | None]
"""The score under one aspect (None: the judge says that it does not apply), and the reason."""


@step("judge.score")
class Score(TextJudge):
    """Ask a language model with a card for the score of each response under each aspect.

    One call for all aspects of a response; one annotation for each aspect, with the same call_id. Scores are in the
    units of the aspect's scale (in `criteria`), mirrored where the card says that lower is better; those of an aspect
    without direction are stored as a `measure`. An aspect whose score is missing or off its scale is `unparsed`, one
    that does not apply `abstain`; the others of the same answer stand.
    """

    protocol = "score"

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        work = [
            self._judge(prompt, response, replicate, juror, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
            for replicate in range(self.times)
        ]
        if not work:
            return {}
        rows = [row for rows in await gather_all(work) for row in rows]
        criteria = [aspect.criterion(self.loaded.label) for aspect in self.loaded.aspects]
        return {"annotations": rows, **self.about(annotator_name(juror.engine, self.loaded), juror.engine, criteria)}

    async def _judge(self, prompt: Row, response: Row, replicate: int, juror: Juror, context: Context) -> list[Row]:
        card, engine = self.loaded, juror.engine
        scales = {aspect.name: aspect.scale for aspect in card.aspects}
        partial = [aspect.name for aspect in card.aspects if aspect.applies_if]
        text = response["text"] or ""
        answers = Shared[dict[str, Outcome[Read]]]()

        def read(reply: Reply) -> dict[str, Read]:
            cut = reply.finish_reason == "length"
            seen = outside(prompt, card, [text])
            found = parse_scores(reply.text or "", scales, shown=seen, truncated=cut, may_not_apply=partial)
            return by_aspect(found)

        seed = seed_of(engine.identity, response["response_id"], card.label, replicate)
        request = self.request(score_message(prompt, text, card), score_schema(card), seed, replicate)

        async def call(revision: int) -> dict[str, Outcome[Read]]:
            return await ask_until_read(
                context, juror.name, request, read, list(scales), revision=revision, reask=self.reask
            )

        async def one(aspect: Aspect) -> Row:
            criterion = aspect.criterion(card.label)
            row = self.row(juror, prompt, [response], replicate, criterion, aspect=aspect)

            async def make(revision: int) -> Row:
                outcome = (await answers.get(revision, lambda: call(revision)))[aspect.name]
                return completed(row, call_id=outcome.call_id, revision=outcome.revision, **said_of(outcome, aspect))

            return await context.once("annotations", row["annotation_id"], make)

        return await gather_all([one(aspect) for aspect in card.aspects])


def by_aspect(found: Scores | None) -> dict[str, Read]:
    """What was read, by aspect; nothing where nothing was."""
    if found is None:
        return {}
    scored: dict[str, Read] = {name: (value, found.reason) for name, value in found.values.items()}
    return scored | dict.fromkeys(found.without, (None, found.reason))


def said_of(outcome: Outcome[Read], aspect: Aspect) -> dict[str, Any]:
    """status, scores and text of an annotation under one aspect; `abstain` where the aspect does not apply."""
    if outcome.value is None:
        return {"status": outcome.status, "scores": None, "text": None}
    score, reason = outcome.value
    if score is None:
        return {"status": "abstain", "scores": None, "text": reason}
    return {"status": "ok", "scores": [aspect.better_when_higher(score)], "text": reason}
