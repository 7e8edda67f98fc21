"""What the judges of several responses at once share: which are shown, in which order, and how many at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from prefdata.operators.gathering import gather_all
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, make_id

from .asking import Juror, TextJudge, annotator_name


class SeveralJudge(TextJudge):
    """A judge that is shown several responses at once, in a random order.

    The order of each replicate is drawn anew from a hash of the prompt, the responses and the replicate, so that it
    knows nothing of what the responses are, every engine sees the same one, and a second run sees it again.
    """

    most: int = Field(
        16,
        ge=1,
        description="At most so many responses in one call; of more, ranking and choosing take those whose ids hash "
        "lowest, and scoring asks several times.",
    )

    def shown(self, group: Group, context: Context, *, least: int) -> Iterator[tuple[Row, list[Row], int]]:
        """Prompt, responses in the order shown, and replicate, of every question about all of a prompt's responses.

        Args:
            group: whose prompts.
            context: told of what is left out.
            least: how many responses a question needs.
        """
        for prompt in group.prompts:
            responses = self._some(group.responses_to(prompt["prompt_id"]), context)
            if len(responses) < least:
                context.log(f"a prompt with fewer than {least} responses has nothing to {self.protocol}")
                continue
            for replicate in range(self.times):
                yield prompt, in_order(prompt["prompt_id"], responses, replicate), replicate

    def _some(self, responses: Sequence[Row], context: Context) -> list[Row]:
        if len(responses) <= self.most:
            return list(responses)
        context.log(f"of more than {self.most} responses to a prompt only {self.most} are shown (most)")
        return sorted(responses, key=lambda row: make_id("shown", row["response_id"]))[: self.most]


class ListJudge(SeveralJudge):
    """A judge whose one answer is about all that it is shown, and makes one annotation."""

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """One annotation for each prompt and replicate."""
        shown = self.shown(group, context, least=2)
        rows = await gather_all(self.asked_about(*one, juror, context) for one in shown)
        if not rows:
            return {}
        name = annotator_name(juror.engine, self.loaded)
        return {"annotations": rows, **self.about(name, juror.engine, [self.loaded.compared_criterion])}

    async def asked_about(self, prompt: Row, shown: list[Row], replicate: int, juror: Juror, context: Context) -> Row:
        """The annotation of the responses in the order shown."""
        raise NotImplementedError


def in_order(prompt_id: str, responses: Sequence[Row], replicate: int) -> list[Row]:
    """The responses in an order drawn from prompt, responses and replicate; each of the K! is equally likely."""
    ids = sorted(str(row["response_id"]) for row in responses)
    return sorted(responses, key=lambda row: make_id("shown at", prompt_id, ids, replicate, row["response_id"]))


def texts_of(responses: Sequence[Row]) -> list[str]:
    """What is shown of each."""
    return [row["text"] or "" for row in responses]


def ids_of(responses: Sequence[Row]) -> list[str]:
    """Their ids, in order."""
    return [row["response_id"] for row in responses]
