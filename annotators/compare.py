"""`judge.compare`: a language model with a card says which of two responses is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field

from prefdata.cards import Orders
from prefdata.engines.base import Reply
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, make_id

from .asking import Juror, TextJudge, annotator_name
from .frame import compare_message, compare_schema, outside
from .parse import Verdict, parse_verdict

Pairs = Literal["all"] | Annotated[int, Field(ge=1)]

_SCORES = {"A": (1.0, 0.0), "B": (0.0, 1.0), "tie": (0.5, 0.5)}


def pairs_of(responses: Sequence[Row], pairs: Pairs) -> list[tuple[Row, Row]]:
    """The pairs to compare, each in the order of the ids.

    Args:
        responses: to one prompt.
        pairs: `all`, or how many at most: then those whose two ids hash lowest, so that one more response changes few
            of them. A number is not a design: it does not promise that every response is met.
    """
    ordered = sorted(responses, key=lambda row: str(row["response_id"]))
    found = list(combinations(ordered, 2))
    if pairs == "all":
        return found
    lowest = sorted(found, key=lambda pair: make_id("pair", pair[0]["response_id"], pair[1]["response_id"]))[:pairs]
    return [pair for pair in found if pair in lowest]


def presented(pair: tuple[Row, Row], orders: Orders, replicate: int = 0) -> list[tuple[Row, Row]]:
    """The orders in which a pair is shown.

    `both`: each once. `one`: the order of the ids, which are hashes and know nothing of what they name. `random`: a
    coin that depends on the two ids and the replicate.
    """
    first, second = pair
    swapped = (second, first)
    if orders == "both":
        return [pair, swapped]
    if orders == "one":
        return [pair]
    coin = seed_of("order", first["response_id"], second["response_id"], replicate) % 2
    return [swapped if coin else pair]


def comparisons(
    group: Group, pairs: Pairs, orders: Orders, context: Context, *, times: int = 1
) -> Iterator[tuple[Row, Row, Row, int]]:
    """Prompt, first shown, second shown and replicate of every comparison to make in a group."""
    for prompt in group.prompts:
        responses = group.responses_to(prompt["prompt_id"])
        if len(responses) < 2:
            context.log("a prompt with fewer than two responses has nothing to compare")
        for pair in pairs_of(responses, pairs):
            for replicate in range(times):
                for first, second in presented(pair, orders, replicate):
                    yield prompt, first, second, replicate


@step("judge.compare")
class Compare(TextJudge):
    """Ask a language model with a card which of two responses is better.

    One annotation for each order in which a pair is shown, `target_ids` in that order, scores P(first wins) and
    P(second wins): 1 and 0, or one half each for a tie. Position bias is not averaged away here: both orders stay, for
    `aggregate` and for the report.
    """

    protocol = "compare"

    orders: Orders | None = Field(None, description="Show a pair in both orders, in one, or in one at random.")
    pairs: Pairs = Field("all", description="All pairs of a prompt's responses, or at most so many.")

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the card says in place of what is left to it."""
        return {**super().resolved(), "orders": self.orders or self.loaded.orders}

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The comparisons of each prompt's responses."""
        shown = comparisons(group, self.pairs, self.orders or self.loaded.orders, context, times=self.times)
        rows = await gather_all(self._judge(*one, juror, context) for one in shown)
        if not rows:
            return {}
        criterion = self.loaded.compared_criterion
        return {"annotations": rows, **self.about(annotator_name(juror.engine, self.loaded), juror.engine, [criterion])}

    async def _judge(self, prompt: Row, first: Row, second: Row, replicate: int, juror: Juror, context: Context) -> Row:
        card, texts = self.loaded, (first["text"] or "", second["text"] or "")
        row = self.row(juror, prompt, [first, second], replicate, card.compared_criterion)
        text, schema = compare_message(prompt, *texts, card), compare_schema(card)
        request = self.request(text, schema, seed_of(row["annotation_id"]), replicate)

        def read(reply: Reply) -> Verdict | None:
            cut = reply.finish_reason == "length"
            seen = outside(prompt, card, texts)
            return parse_verdict(reply.text or "", shown=seen, truncated=cut, ties=card.output.ties)

        return await self.asked_once(
            context, juror, row, request, read, lambda said: {"scores": _SCORES[said.winner], "text": said.reason}
        )
