"""What judges share that talk before they decide: turns, and a comparison that rests on them.

What a model says in its turn is outside text like any response: it is framed and neutralised before the judge sees it.
A turn that failed ends the dialogue with the status of its call; no verdict is guessed from what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field

from prefdata.cards import Orders
from prefdata.engines.base import Engine, Reply, Request
from prefdata.operators.drawing import seed_of
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation

from .asking import Juror, TextJudge, annotator_name, ask_until_read, completed, meta, status_of
from .compare import Pairs, comparisons
from .found import after_reasoning
from .frame import compare_schema
from .parse import Verdict, parse_verdict
from .shared import Shared

DIALOGUE = 1
"""Raise it when the wording of a dialogue changes: it is part of every id."""

SCORES = {"A": (1.0, 0.0), "B": (0.0, 1.0), "tie": (0.5, 0.5)}
"""P(first wins) and P(second wins), by verdict."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model said in its turn.

    Attributes:
        status: ok, or why there is no text.
        text: without reasoning; empty unless status is ok.
        call_id: the call.
    """

    status: str
    text: str
    call_id: str


async def turn(context: Context, engine: str, request: Request, revision: int) -> Turn:
    """One turn. Asked again it costs nothing where it had gone well: what failed later in the dialogue is asked anew.

    Args:
        context: the runtime.
        engine: who speaks.
        request: what is asked.
        revision: of the row that the turn is for.
    """
    answer = await context.ask(engine, request)
    said = _said(status_of(answer), answer.reply, answer.call_id)
    if said.status == "ok" or revision == 1 or not answer.cached:
        return said
    answer = await context.ask(engine, request, revision=revision)
    return _said(status_of(answer), answer.reply, answer.call_id)


def _said(status: str, reply: Reply | None, call_id: str) -> Turn:
    text = after_reasoning(reply.text or "").strip() if status == "ok" and reply is not None else ""
    return Turn("unparsed" if status == "ok" and not text else status, text, call_id)


@dataclass(frozen=True)
class Prepared:
    """A question that is ready to be asked.

    Attributes:
        messages: the dialogue so far; its last turn asks for the verdict.
        schema: of the answer.
        shown: the outside texts in it.
        transcript: who said what before, for `annotations.text`.
        calls: of the turns before.
    """

    messages: tuple[Row, ...]
    schema: dict[str, Any]
    shown: Sequence[str]
    transcript: Sequence[tuple[str, str]] = ()
    calls: Sequence[str] = field(default_factory=tuple)


class DialogueJudge(TextJudge):
    """A judge that compares two responses after a dialogue."""

    protocol = "compare"

    orders: Orders | None = Field(None, description="Show a pair in both orders, in one, or in one at random.")
    pairs: Pairs = Field("all", description="All pairs of a prompt's responses, or at most so many.")

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the card says in place of what is left to it."""
        return {**super().resolved(), "orders": self.orders or self.loaded.orders}

    def how(self, context: Context) -> str:
        """What stands in the annotator's name between model and card; empty for a plain judge."""
        raise NotImplementedError

    def parameters(self, context: Context) -> dict[str, Any]:
        """What else changes the answer, for the `key` of an id."""
        raise NotImplementedError

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
        """The question after the dialogue, or the turn that went wrong.

        Args:
            prompt: what was answered.
            texts: the responses, in the order shown.
            row: the annotation to be made.
            juror: who judges.
            context: the runtime.
            revision: of the row.
            own: turns that several rows of the group share.
        """
        raise NotImplementedError

    async def measured(self, ready: Prepared, row: Row, context: Context, own: Shared[Any]) -> Any:
        """What else is asked about a question; whatever its answer will be, so that a plan can count it."""
        return None

    def beside(self, verdict: Verdict, measured: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Further columns of an annotation whose verdict was read, and further facts for a human reader.

        Args:
            verdict: what the judge decided.
            measured: see `measured`.
        """
        return {}, {}

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """The comparisons of each prompt's responses."""
        own: Shared[Any] = Shared()
        shown = comparisons(group, self.pairs, self.orders or self.loaded.orders, context, times=self.times)
        rows = await gather_all(self._judge(*one, juror, context, own) for one in shown)
        if not rows:
            return {}
        about = self.about(self._name(juror.engine, context), juror.engine, [self.loaded.compared_criterion])
        return {"annotations": rows, **about}

    def _name(self, engine: Engine, context: Context) -> str:
        return annotator_name(engine, self.loaded, self.how(context))

    async def _judge(
        self, prompt: Row, first: Row, second: Row, replicate: int, juror: Juror, context: Context, own: Shared[Any]
    ) -> Row:
        card = self.loaded
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[first["response_id"], second["response_id"]],
            protocol="compare",
            annotator=self._name(juror.engine, context),
            source="judge",
            aspect=card.compared_aspect,
            replicate=replicate,
            key={**self.key(juror.engine, prompt), **self.parameters(context)},
            criterion_id=card.compared_criterion["criterion_id"],
        )
        texts = (first["text"] or "", second["text"] or "")

        async def make(revision: int) -> Row:
            ready = await self.prepared(prompt, texts, row, juror, context, revision, own)
            if isinstance(ready, Turn):
                return completed(row, status=ready.status, call_id=ready.call_id, revision=revision)
            found = await self.measured(ready, row, context, own)
            return await self._decided(ready, row, juror, context, revision, found)

        return await context.once("annotations", row["annotation_id"], make)

    async def _decided(
        self, ready: Prepared, row: Row, juror: Juror, context: Context, revision: int, found: Any
    ) -> Row:
        """The annotation that the judge's verdict makes."""
        request = self.asking(ready.messages, ready.schema, seed_of(row["annotation_id"]), row["replicate"])

        def read(reply: Reply) -> dict[str, Verdict]:
            cut, ties = reply.finish_reason == "length", self.loaded.output.ties
            said = parse_verdict(reply.text or "", shown=ready.shown, truncated=cut, ties=ties)
            return {} if said is None else {"verdict": said}

        outcomes = await ask_until_read(
            context, juror.name, request, read, ["verdict"], revision=revision, reask=self.reask
        )
        outcome = outcomes["verdict"]
        verdict = outcome.value
        columns, facts = self.beside(verdict, found) if verdict else ({}, {})
        if ready.calls:
            facts = {"turns": list(ready.calls), **facts}
        said = [*ready.transcript, *([("Judge", verdict.reason)] if verdict and verdict.reason else [])]
        text = "\n\n".join(f"{name}: {words}" for name, words in said) if ready.transcript else None
        return completed(
            row,
            status=outcome.status,
            scores=SCORES[verdict.winner] if verdict else None,
            call_id=outcome.call_id,
            revision=outcome.revision,
            text=text or (verdict.reason if verdict else None),
            meta=meta(**facts) if facts else None,
            **columns,
        )

    def asking(self, messages: Sequence[Row], schema: dict[str, Any], seed: int, replicate: int) -> Request:
        """The last question of a dialogue."""
        return replace(self.request("", schema, seed, replicate), messages=tuple(messages))

    def verdict_schema(self) -> dict[str, Any]:
        """Of an answer that compares two."""
        return compare_schema(self.loaded)
