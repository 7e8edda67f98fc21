"""`judge.pair_quality`: what a pair of a better and a worse response is worth as a lesson."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar, Literal

from pydantic import Field

from prefdata.cards import Aspect, Card
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation

from .asking import Juror, Outcome, TextJudge, annotator_name, ask_until_read, completed
from .frame import answer_with, outside, reason_field, scales_of, score_schema, scores_field, warning
from .parse import parse_scores
from .preferred import labelled_pairs, pair_shown
from .score import Read, by_aspect, said_of
from .shared import Shared

QUALITY = 1
"""Raise it when the wording here changes: it is part of every id."""


@step("judge.pair_quality")
class PairQuality(TextJudge):
    """Ask a language model with a card to score each pair as a whole, with its label shown.

    Reads the pairs that an earlier step made. One call for each pair and replicate, one annotation for each aspect:
    target `preference`, protocol `score`, in the units of the aspect's scale. `select.threshold` with
    `table: preferences` then drops the pairs below a limit; no aggregate and no `pair` reads these scores. A score that
    is missing or off its scale is `unparsed`: a critic that failed drops nothing. Lists of more than two, ties and
    unpaired rows are left out and counted.

    Source: the pair critic of Anyprefer, which keeps pairs of 8 or more out of 10.
    """

    reads = frozenset({"prompts", "responses", "preferences"})
    narrows = "preferences"
    protocol: ClassVar[Literal["score"]] = "score"

    card: str = Field("pair-quality", description="A shipped card's name, or the path of your own card's YAML file.")

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The scores of a group's pairs."""
        made = await gather_all(
            self._judge(*one, replicate, juror, context)
            for one in labelled_pairs(group, context)
            for replicate in range(self.times)
        )
        if not made:
            return {}
        criteria = [aspect.criterion(self.loaded.label) for aspect in self.loaded.aspects]
        about = self.about(annotator_name(juror.engine, self.loaded, "pair"), juror.engine, criteria)
        return {"annotations": [row for rows in made for row in rows], **about}

    async def _judge(
        self, preference: Row, prompt: Row, better: Row, worse: Row, replicate: int, juror: Juror, context: Context
    ) -> list[Row]:
        card = self.loaded
        shown = outside(prompt, card, [better["text"], worse["text"]])
        scales = {aspect.name: aspect.scale for aspect in card.aspects}
        partial = [aspect.name for aspect in card.aspects if aspect.applies_if]
        text = pair_message(preference, prompt, better, worse, card)
        seed = seed_of(juror.engine.identity, preference["preference_id"], card.label, replicate)
        request = self.request(text, score_schema(card), seed, replicate)
        calls: Shared[dict[str, Outcome[Read]]] = Shared()

        def read(reply: Reply) -> dict[str, Read]:
            cut = reply.finish_reason == "length"
            found = parse_scores(reply.text or "", scales, shown=shown, truncated=cut, may_not_apply=partial)
            return by_aspect(found)

        async def one(aspect: Aspect) -> Row:
            row = annotation(
                group_id=preference["group_id"],
                prompt_id=preference["prompt_id"],
                target="preference",
                target_ids=[preference["preference_id"]],
                protocol=aspect.protocol,
                annotator=annotator_name(juror.engine, card, "pair"),
                source="judge",
                aspect=aspect.name,
                replicate=replicate,
                key={**self.key(juror.engine, prompt), "pair": QUALITY},
                criterion_id=aspect.criterion(card.label)["criterion_id"],
            )

            async def make(revision: int) -> Row:
                def ask() -> Coroutine[Any, Any, dict[str, Outcome[Read]]]:
                    return ask_until_read(
                        context, juror.name, request, read, list(scales), revision=revision, reask=self.reask
                    )

                outcome = (await calls.get(revision, ask))[aspect.name]
                return completed(row, call_id=outcome.call_id, revision=outcome.revision, **said_of(outcome, aspect))

            return await context.once("annotations", row["annotation_id"], make)

        return await gather_all([one(aspect) for aspect in card.aspects])


def pair_message(preference: Row, prompt: Row, better: Row, worse: Row, card: Card) -> str:
    """The question for a score of a pair under each aspect, answered as JSON."""
    mark, body = pair_shown(preference, prompt, better, worse, card)
    return "\n\n".join(
        [
            card.instructions,
            f"Score the pair as a whole by:\n{scales_of(card.aspects)}",
            warning(mark),
            body,
            answer_with([*reason_field(card), f'"scores": {scores_field(card.aspects)}']),
        ]
    )
