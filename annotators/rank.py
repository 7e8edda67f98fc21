"""`judge.rank`: a language model with a card puts all responses to a prompt in an order."""

from __future__ import annotations

from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows

from .asking import Juror, annotator_name
from .frame import outside
from .frame_many import letters, rank_message, rank_schema
from .parse import Said, parse_ranking
from .several import SeveralJudge, texts_of


@step("judge.rank")
class Rank(SeveralJudge):
    """Show a language model with a card all responses to a prompt at once, and ask for their order.

    One annotation for each replicate, `target_ids` in the order shown, scores from the number of ranks (the best) down
    to 1; responses that the judge calls equal, where the card allows ties, have the same score. A ranking that leaves
    one out, names one twice or names one that was not shown is `unparsed`. The order shown is random; `replicates`
    asks again in other orders.
    """

    protocol = "rank"

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The rankings of each prompt's responses."""
        shown = self.shown(group, context, least=2)
        rows = await gather_all(self._judge(*one, juror, context) for one in shown)
        if not rows:
            return {}
        name = annotator_name(juror.engine, self.loaded)
        return {"annotations": rows, **self.about(name, juror.engine, [self.loaded.compared_criterion])}

    async def _judge(self, prompt: Row, shown: list[Row], replicate: int, juror: Juror, context: Context) -> Row:
        card, names, texts = self.loaded, letters(len(shown)), texts_of(shown)
        row = self.row(juror, prompt, shown, replicate, card.compared_criterion)
        text, schema = rank_message(prompt, texts, card), rank_schema(card, len(shown))
        request = self.request(text, schema, seed_of(row["annotation_id"]), replicate)

        def read(reply: Reply) -> Said | None:
            cut = reply.finish_reason == "length"
            seen = outside(prompt, card, texts)
            return parse_ranking(reply.text or "", names, shown=seen, truncated=cut, ties=card.output.ties)

        def scores(said: Said) -> list[float]:
            tiers = {name: tier for tier, tied in enumerate(said.value) for name in tied}
            return [float(len(said.value) - tiers[name]) for name in names]

        return await self.asked_once(
            context, juror, row, request, read, lambda said: {"scores": scores(said), "text": said.text}
        )
