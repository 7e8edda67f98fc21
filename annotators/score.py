"""`judge.score`: a language model with a card scores each response under each aspect."""

from __future__ import annotations

import asyncio

from prefdata.cards import Aspect
from prefdata.engines.base import Engine, Reply
from prefdata.operators.sample import gather_all, seed_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation

from .asking import Outcome, TextJudge, annotator_name, ask_until_read, completed
from .frame import score_message, score_schema
from .parse import parse_scores

_Read = tuple[float, str | None]


@step("judge.score")
class Score(TextJudge):
    """Ask a language model with a card for the score of each response under each aspect.

    One call for all aspects of a response; one annotation for each aspect, with the same call_id. Scores are in the
    units of the aspect's scale (in `criteria`), mirrored where the card says that lower is better. An aspect whose
    score is missing or off its scale is `unparsed`; the others of the same answer stand.
    """

    protocol = "score"

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engine = context.engine(self.engine)
        work = [
            self._judge(prompt, response, replicate, engine, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
            for replicate in range(self.times)
        ]
        if not work:
            return {}
        rows = [row for rows in await gather_all(work) for row in rows]
        criteria = [aspect.criterion(self.loaded.label) for aspect in self.loaded.aspects]
        return {"annotations": rows, **self.about(annotator_name(engine, self.loaded), engine, criteria)}

    async def _judge(self, prompt: Row, response: Row, replicate: int, engine: Engine, context: Context) -> list[Row]:
        card = self.loaded
        scales = {aspect.name: aspect.scale for aspect in card.aspects}
        text = response["text"] or ""
        calls: dict[int, asyncio.Task[dict[str, Outcome[_Read]]]] = {}

        def read(reply: Reply) -> dict[str, _Read]:
            found = parse_scores(reply.text or "", scales, shown=[text], truncated=reply.finish_reason == "length")
            return {} if found is None else {name: (value, found.reason) for name, value in found.values.items()}

        seed = seed_of(engine.identity, response["response_id"], card.label, replicate)
        request = self.request(score_message(prompt, text, card), score_schema(card), seed, replicate)

        def call(revision: int) -> asyncio.Task[dict[str, Outcome[_Read]]]:
            """The one call whose answer the annotations of this response share."""
            if revision not in calls:
                asking = ask_until_read(
                    context, self.engine, request, read, list(scales), revision=revision, reask=self.reask
                )
                calls[revision] = asyncio.ensure_future(asking)
            return calls[revision]

        async def one(aspect: Aspect) -> Row:
            row = annotation(
                group_id=prompt["group_id"],
                prompt_id=prompt["prompt_id"],
                target_ids=[response["response_id"]],
                protocol="score",
                annotator=annotator_name(engine, card),
                source="judge",
                aspect=aspect.name,
                replicate=replicate,
                key=self.key(engine, prompt),
                criterion_id=aspect.criterion(card.label)["criterion_id"],
            )

            async def make(revision: int) -> Row:
                outcome = (await call(revision))[aspect.name]
                score, reason = outcome.value if outcome.value else (None, None)
                return completed(
                    row,
                    status=outcome.status,
                    scores=None if score is None else [aspect.better_when_higher(score)],
                    call_id=outcome.call_id,
                    revision=outcome.revision,
                    text=reason,
                )

            return await context.once("annotations", row["annotation_id"], make)

        return await gather_all([one(aspect) for aspect in card.aspects])
