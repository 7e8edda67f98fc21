"""`judge.choose`: a language model with a card names the best of all responses to a prompt."""

from __future__ import annotations

from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row

from .asking import Juror
from .frame import outside
from .frame_many import choose_message, choose_schema, letters
from .parse import Said, parse_choice
from .several import ListJudge, texts_of


@step("judge.choose")
class Choose(ListJudge):
    """Show a language model with a card all responses to a prompt at once, and ask which is the best.

    One annotation for each replicate, `target_ids` in the order shown, scores 1 for the chosen and 0 for the others,
    which says nothing about the order of these. The order shown is random; `replicates` asks again in other orders.
    """

    protocol = "choose"

    async def asked_about(self, prompt: Row, shown: list[Row], replicate: int, juror: Juror, context: Context) -> Row:
        """See `ListJudge.asked_about`."""
        card, names, texts = self.loaded, letters(len(shown)), texts_of(shown)
        row = self.row(juror, prompt, shown, replicate, card.compared_criterion)
        text, schema = choose_message(prompt, texts, card), choose_schema(card, len(shown))
        request = self.request(text, schema, seed_of(row["annotation_id"]), replicate)

        def read(reply: Reply) -> Said | None:
            cut = reply.finish_reason == "length"
            return parse_choice(reply.text or "", names, shown=outside(prompt, card, texts), truncated=cut)

        def scores(said: Said) -> list[float]:
            return [float(name in said.value[0]) for name in names]

        return await self.asked_once(
            context, juror, row, request, read, lambda said: {"scores": scores(said), "text": said.text}
        )
