"""`judge.label`: a language model with a card gives each response one of the card's labels."""

from __future__ import annotations

from pydantic import Field

from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows

from .asking import Juror, TextJudge, annotator_name
from .frame import labelling_message, labelling_schema, outside
from .parse import Said, parse_label


@step("judge.label")
class Label(TextJudge):
    """Ask a language model with a card which of the card's labels fits each response.

    One annotation for each response and replicate, `labels` a list of one, no scores: labels are nominal, and nothing
    is paired on them. An answer that is none of the labels is `unparsed`.
    """

    protocol = "label"

    card: str = Field(
        "factuality-label", description="A shipped card's name, or the path of your own card's YAML file."
    )

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The labels of each prompt's responses."""
        rows = await gather_all(
            self._judge(prompt, response, replicate, juror, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
            for replicate in range(self.times)
        )
        if not rows:
            return {}
        name = annotator_name(juror.engine, self.loaded)
        return {"annotations": rows, **self.about(name, juror.engine, [self.loaded.label_criterion])}

    async def _judge(self, prompt: Row, response: Row, replicate: int, juror: Juror, context: Context) -> Row:
        card, text = self.loaded, response["text"] or ""
        row = self.row(juror, prompt, [response], replicate, card.label_criterion)
        message, schema = labelling_message(prompt, text, card), labelling_schema(card)
        request = self.request(message, schema, seed_of(row["annotation_id"]), replicate)

        def read(reply: Reply) -> Said | None:
            labels, cut = card.labels or {}, reply.finish_reason == "length"
            return parse_label(reply.text or "", labels, shown=outside(prompt, card, [text]), truncated=cut)

        return await self.asked_once(
            context, juror, row, request, read, lambda said: {"labels": list(said.value[0]), "text": said.text}
        )
