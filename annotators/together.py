"""`judge.score_together`: a language model with a card sees all responses to a prompt and scores each of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field

from prefdata.cards import Aspect
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows

from .asking import Juror, Outcome, annotator_name, ask_until_read, completed, meta
from .frame import outside
from .frame_many import letters, together_message, together_schema
from .parse import parse_together
from .score import Read, said_of
from .several import SeveralJudge, ids_of, in_order, texts_of
from .shared import Shared

_Key = tuple[str, str]
"""Letter and aspect."""


@step("judge.score_together")
class ScoreTogether(SeveralJudge):
    """Show a language model with a card all responses to a prompt at once, and ask for a score of each.

    The scores are independent: several responses may have the same one. One annotation for each response and aspect,
    as `judge.score` makes them; those of one call have the same call_id, and their `meta` says at which place the
    response was shown. A score that is missing or off its scale is `unparsed`, an aspect that does not apply `abstain`;
    the others of the same answer stand.

    With `aspects: separate` each aspect is asked for in a call of its own, with `joint` all of them in one. The order
    is random, and the same for every aspect and engine; `replicates` asks again in other orders.

    Source: UltraFeedback (Cui et al. 2023), which asks for each aspect separately, all responses shown in one order.
    """

    protocol = "score"

    aspects: Literal["separate", "joint"] = Field("separate", description="One call for each aspect, or one for all.")

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        card = self.loaded
        calls = [(aspect,) for aspect in card.aspects] if self.aspects == "separate" else [card.aspects]
        work = [
            _Question(self, juror, prompt, shown, aspects, replicate).rows(context)
            for prompt in group.prompts
            for replicate in range(self.times)
            for shown in self._parts(prompt, group, replicate)
            for aspects in calls
        ]
        if not work:
            return {}
        rows = [row for rows in await gather_all(work) for row in rows]
        criteria = [aspect.criterion(card.label) for aspect in card.aspects]
        return {"annotations": rows, **self.about(annotator_name(juror.engine, card), juror.engine, criteria)}

    def _parts(self, prompt: Row, group: Group, replicate: int) -> list[list[Row]]:
        """The responses in the order shown, in as few and as equal parts as `most` allows."""
        shown = in_order(prompt["prompt_id"], group.responses_to(prompt["prompt_id"]), replicate)
        count = -(-len(shown) // self.most)
        ends = [round(len(shown) * part / count) for part in range(count + 1)] if count else [0]
        return [shown[start:end] for start, end in pairwise(ends)]


class _Question:
    """One call: these responses in this order, under these aspects. Its annotations share the answer."""

    def __init__(
        self,
        judge: ScoreTogether,
        juror: Juror,
        prompt: Row,
        shown: Sequence[Row],
        aspects: Sequence[Aspect],
        replicate: int,
    ) -> None:
        self.judge, self.juror, self.prompt, self.replicate = judge, juror, prompt, replicate
        self.shown, self.aspects, self.names = shown, aspects, letters(len(shown))
        card, asked = judge.loaded, [aspect.name for aspect in aspects]
        seed = seed_of(juror.engine.identity, ids_of(shown), card.label, asked, replicate)
        text = together_message(prompt, texts_of(shown), card, aspects)
        self.request = judge.request(text, together_schema(card, aspects, len(shown)), seed, replicate)
        self._answers = Shared[dict[_Key, Outcome[Read]]]()

    async def rows(self, context: Context) -> list[Row]:
        """An annotation for each response and aspect."""
        return await gather_all(
            self._row(place, aspect, context) for place in range(len(self.shown)) for aspect in self.aspects
        )

    async def _row(self, place: int, aspect: Aspect, context: Context) -> Row:
        card = self.judge.loaded
        # Another order, or another response beside it, is another question.
        around = {"beside": ids_of(self.shown), "asked": [one.name for one in self.aspects]}
        criterion = aspect.criterion(card.label)
        row = self.judge.row(
            self.juror, self.prompt, [self.shown[place]], self.replicate, criterion, aspect=aspect, **around
        )
        row["meta"] = meta(shown=place, of=len(self.shown))

        async def make(revision: int) -> Row:
            answer = await self._answers.get(revision, lambda: self._ask(revision, context))
            outcome = answer[(self.names[place], aspect.name)]
            return completed(row, call_id=outcome.call_id, revision=outcome.revision, **said_of(outcome, aspect))

        return await context.once("annotations", row["annotation_id"], make)

    async def _ask(self, revision: int, context: Context) -> dict[_Key, Outcome[Read]]:
        keys = [(name, aspect.name) for name in self.names for aspect in self.aspects]
        return await ask_until_read(
            context, self.juror.name, self.request, self._read, keys, revision=revision, reask=self.judge.reask
        )

    def _read(self, reply: Reply) -> dict[_Key, Read]:
        found = parse_together(
            reply.text or "",
            self.names,
            {aspect.name: aspect.scale for aspect in self.aspects},
            shown=outside(self.prompt, self.judge.loaded, texts_of(self.shown)),
            truncated=reply.finish_reason == "length",
            may_not_apply=[aspect.name for aspect in self.aspects if aspect.applies_if],
        )
        read: dict[_Key, Read] = {}
        for name, scores in found.items():
            read |= {(name, aspect): (value, scores.reason) for aspect, value in scores.values.items()}
            read |= {(name, aspect): (None, scores.reason) for aspect in scores.without}
        return read
