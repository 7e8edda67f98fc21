"""`judge.debate`: two advocates argue, one for each response; then a judge decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from prefdata.cards import Card
from prefdata.engines.base import Capability, Request
from prefdata.framing import framed
from prefdata.operators.drawing import seed_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row, message

from .asking import Juror
from .dialogue import DIALOGUE, DialogueJudge, Prepared, Turn, turn
from .frame import answer_with, compare_message, criteria_of, outside, reason_field, visible, warning
from .shared import Shared


@step("judge.debate")
class Debate(DialogueJudge):
    """Have two advocates argue about two responses before a judge compares them.

    One advocate speaks for the response shown first, the other for the one shown second, by turns, `rounds` times each,
    knowing what was said before; the judge then reads prompt, responses and debate, and decides by the card. With
    `orders: both` each side is argued from both places; with `random` a hash of the two ids draws the places.

    2 * rounds + 1 calls for each order. With `rounds: 0` the question is that of `judge.compare`, and so are the ids
    and the annotator's name. The debate stands in `annotations.text`, before the judge's reason, and the calls of its
    turns in `meta`. Where a turn fails, is refused or is empty, the annotation has that status and no verdict.

    Source: the debate configuration of Fellowship of the LLMs. How many rounds it takes, who speaks first and how long
    a turn may be are defaults of ours.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "generate", "advocates": "generate"}
    each_alone: ClassVar[bool] = False

    advocates: tuple[str, str] | None = Field(
        None, description="The engines that argue for the first and the second response; the judge's own unless given."
    )
    rounds: int = Field(1, ge=0, le=10, description="How often each advocate speaks; 0 is judge.compare.")
    turn_tokens: int = Field(256, ge=1, description="At most so many new tokens for each turn of an advocate.")

    def how(self, context: Context) -> str:
        """See `DialogueJudge.how`."""
        if not self.rounds:
            return ""
        between = (
            "" if self.advocates is None else f"-{'-'.join(context.engine(name).model for name in self.advocates)}"
        )
        return f"debate-{self.rounds}{between}"

    def parameters(self, context: Context) -> dict[str, Any]:
        """See `DialogueJudge.parameters`."""
        if not self.rounds:
            return {}
        between = None if self.advocates is None else [context.engine(name).identity for name in self.advocates]
        return {"dialogue": DIALOGUE, "rounds": self.rounds, "advocates": between, "turn_tokens": self.turn_tokens}

    async def prepared(
        self,
        prompt: Row,
        texts: tuple[str, str],
        row: Row,
        juror: Juror,
        context: Context,
        revision: int,
        own: Shared[Any],
    ) -> Prepared | Turn:
        """See `DialogueJudge.prepared`."""
        card = self.loaded
        between = self.advocates or (juror.name, juror.name)
        said: list[tuple[str, str]] = []
        calls: list[str] = []
        for number in range(1, self.rounds + 1):
            for side, advocate in zip("AB", between, strict=True):
                request = self._turn(advocate_message(prompt, texts, card, side, said), row, number, side)
                spoken = await turn(context, advocate, request, revision)
                if spoken.status != "ok":
                    return spoken
                said.append((f"Advocate of {side}, round {number}", spoken.text))
                calls.append(spoken.call_id)
        asked = verdict_message(prompt, texts, card, said) if said else compare_message(prompt, *texts, card)
        shown = outside(prompt, card, [*texts, *(words for _, words in said)])
        return Prepared((message("user", asked),), self.verdict_schema(), shown, said, calls)

    def _turn(self, text: str, row: Row, number: int, side: str) -> Request:
        replicate = row["replicate"]
        return Request(
            "generate",
            messages=(message("user", text),),
            temperature=self.temperature,
            max_tokens=self.turn_tokens,
            seed=seed_of(row["annotation_id"], number, side) if self.temperature or replicate else None,
            tag=f"replicate {replicate}" if replicate else "",
        )


def advocate_message(
    prompt: Row, texts: tuple[str, str], card: Card, side: str, said: Sequence[tuple[str, str]]
) -> str:
    """What the advocate of response `side` (A or B) is asked, after what was said so far."""
    other = "B" if side == "A" else "A"
    mark, body = _shown(prompt, texts, card, said)
    before = (
        f"Answer what the advocate of response {other} has said, and add what is new."
        if said
        else "You speak first: make the case."
    )
    return "\n\n".join(
        [
            f"Two responses, A and B, are debated before a judge, who will decide by:\n{criteria_of(card)}",
            warning(mark),
            body,
            f"You are the advocate of response {side}. {before} Say in a few sentences why response {side} is better "
            f"than response {other}. Name what stands in the responses and nothing else: a claim that the judge cannot "
            "find there counts against you. Write your speech alone.",
        ]
    )


def verdict_message(prompt: Row, texts: tuple[str, str], card: Card, said: Sequence[tuple[str, str]]) -> str:
    """The question which of two responses is better, after a debate, answered as JSON."""
    mark, body = _shown(prompt, texts, card, said)
    wanted = '"A", "B" or "tie"' if card.output.ties else '"A" or "B"'
    return "\n\n".join(
        [
            card.instructions,
            f"Compare two responses, A and B, by:\n{criteria_of(card)}",
            "Two advocates have argued: each was told which response to speak for. What they say is no evidence by "
            "itself; check it against the responses. How well or how long they speak counts for nothing.",
            warning(mark),
            body,
            f"{card.question} Letters and order say nothing about quality.",
            answer_with([*reason_field(card), f'"verdict": {wanted}']),
        ]
    )


def _shown(prompt: Row, texts: tuple[str, str], card: Card, said: Sequence[tuple[str, str]]) -> tuple[str, str]:
    first, second = texts
    return framed([*visible(prompt, card), ("Response A", first), ("Response B", second), *said])
