"""`judge.rank`: a language model with a card puts all responses to a prompt in an order."""

from __future__ import annotations

from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row

from .asking import Juror
from .frame import outside
from .frame_many import letters, rank_message, rank_schema
from .parse import Said, parse_ranking
from .several import ListJudge, texts_of


@step("judge.rank")
class Rank(ListJudge):
    """Show a language model with a card all responses to a prompt at once, and ask for their order.

    One annotation for each replicate, `target_ids` in the order shown, scores from the number of ranks (the best) down
    to 1; responses that the judge calls equal, where the card allows ties, have the same score. A ranking that leaves
    one out, names one twice or names one that was not shown is `unparsed`. The order shown is random; `replicates`
    asks again in other orders.
    """

    protocol = "rank"

    async def asked_about(self, prompt: Row, shown: list[Row], replicate: int, juror: Juror, context: Context) -> Row:
        """See `ListJudge.asked_about`."""
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
