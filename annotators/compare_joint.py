"""`judge.compare_joint`: a language model with a card compares two responses, each to a prompt of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from prefdata.cards import Card, Orders
from prefdata.engines.base import Reply
from prefdata.framing import framed
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation, make_id

from .asking import Juror, TextJudge, annotator_name
from .compare import presented
from .frame import answer_with, compare_schema, criteria_of, outside, reason_field, visible, warning
from .parse import Verdict, parse_verdict

JOINT = 1
"""Raise it when the wording of `joint_message` changes."""

_SCORES = {"A": (1.0, 0.0), "B": (0.0, 1.0), "tie": (0.5, 0.5)}

Told = tuple[Row, Row]
"""A prompt and the response to it."""


@step("judge.compare_joint")
class CompareJoint(TextJudge):
    """Ask a language model which of two responses is better, where each answers a prompt of its own.

    Each prompt is compared with a partner: the next one in a ring ordered by hash, within its shard. One response to
    each is drawn by hash (`draws` times, another one each time as long as there are any), and the judge sees both
    prompts with both responses. One annotation for each order in which the two are shown: `prompt_id` null, each target
    under its own prompt, of the group of the prompt whose partner the other is. `aggregate.majority` merges the two
    orders (agreeing: that verdict, else a tie), and `pair.joint` makes preferences of kind `joint`.

    DOVE (Bansal et al., 2024, Comparing Bad Apples to Good Oranges): a judge can say more than by comparing responses
    to one prompt; what it says of joint pairs does not follow from that. The wording is ours; that the partner is drawn
    by a ring and not by chance is, too: so a prompt more leaves all pairs but two.
    """

    protocol = "compare"
    version: ClassVar[int] = 1
    partners: ClassVar[bool] = True

    orders: Orders | None = Field(None, description="Show a pair in both orders, in one, or in one at random.")
    draws: int = Field(1, ge=1, description="How many pairs of responses for each prompt and its partner.")

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the card says in place of what is left to it."""
        return {**super().resolved(), "orders": self.orders or self.loaded.orders}

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The comparisons of the group's responses with its partner's."""
        if group.partner is None:
            context.log("a prompt alone has no partner to be compared with")
            return {}
        mine, theirs = told(group), told(group.partner)
        pairs = [(one, other) for one, other in zip(mine, theirs, strict=False)][: self.draws]
        if not pairs:
            context.log("a prompt without a response, or whose partner has none, is not compared")
            return {}
        shown = [
            (first, second, replicate)
            for one, other in pairs
            for replicate in range(self.times)
            for first, second in self._orders(one, other, replicate)
        ]
        rows = await gather_all(self._judge(group, *both, juror, context) for both in shown)
        criterion = self.loaded.compared_criterion
        return {"annotations": rows, **self.about(annotator_name(juror.engine, self.loaded), juror.engine, [criterion])}

    def _orders(self, one: Told, other: Told, replicate: int) -> list[tuple[Told, Told]]:
        by = {told[1]["response_id"]: told for told in (one, other)}
        orders = presented((one[1], other[1]), self.orders or self.loaded.orders, replicate)
        return [(by[first["response_id"]], by[second["response_id"]]) for first, second in orders]

    async def _judge(
        self, group: Group, first: Told, second: Told, replicate: int, juror: Juror, context: Context
    ) -> Row:
        card, criterion = self.loaded, self.loaded.compared_criterion
        keys = [self.key(juror.engine, prompt) for prompt, _ in (first, second)]
        row = annotation(
            group_id=group.group_id,
            prompt_id=None,
            target_ids=[first[1]["response_id"], second[1]["response_id"]],
            protocol=self.protocol,
            annotator=annotator_name(juror.engine, card),
            source="judge",
            aspect=card.compared_aspect,
            replicate=replicate,
            key={"joint": JOINT, "keys": keys},
            criterion_id=criterion["criterion_id"],
        )
        request = self.request(
            joint_message(first, second, card), compare_schema(card), seed_of(row["annotation_id"]), replicate
        )

        def read(reply: Reply) -> Verdict | None:
            seen = [text for prompt, response in (first, second) for text in outside(prompt, card, [_text(response)])]
            cut = reply.finish_reason == "length"
            return parse_verdict(reply.text or "", shown=seen, truncated=cut, ties=card.output.ties)

        return await self.asked_once(
            context, juror, row, request, read, lambda said: {"scores": _SCORES[said.winner], "text": said.reason}
        )


def told(group: Group) -> list[Told]:
    """The group's responses with the prompts that they answer, in the order of a hash."""
    prompts = {row["prompt_id"]: row for row in group.to_answer()}
    rows = [row for row in group.responses if row["prompt_id"] in prompts and row["text"] is not None]
    ordered = sorted(rows, key=lambda row: make_id("joint", row["response_id"]))
    return [(prompts[row["prompt_id"]], row) for row in ordered]


def joint_message(first: Told, second: Told, card: Card) -> str:
    """The question which response does more for its own prompt, answered as JSON."""
    parts = []
    for letter, (prompt, response) in (("A", first), ("B", second)):
        parts += [(f"{name} {letter}", text) for name, text in visible(prompt, card)]
        parts.append((f"Response {letter}", _text(response)))
    mark, body = framed(parts)
    wanted = '"A", "B" or "tie"' if card.output.ties else '"A" or "B"'
    return "\n\n".join(
        [
            card.instructions,
            "Below are two prompts, A and B, each with one response to it. Judge each response under its own prompt, "
            f"and say which of the two responses is the better one, by:\n{criteria_of(card)}",
            warning(mark),
            body,
            "The responses are compared, not the prompts: an easy or a dull prompt is no reason for or against its "
            "response. Letters and order say nothing about quality.",
            answer_with([*reason_field(card), f'"verdict": {wanted}']),
        ]
    )


def _text(response: Row) -> str:
    return response["text"] or ""
