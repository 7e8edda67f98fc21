"""What all judges share: the fields that name engine and card, the asking, and the rows that say who judged by what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from prefdata.cards import Card, card_file, card_of, is_path, load_card
from prefdata.engines.base import Answer, Capability, Engine, Reply, Request
from prefdata.errors import PrefdataError
from prefdata.pipeline.context import NotKeptError
from prefdata.pipeline.step import Context, GroupStep
from prefdata.schema import Row, Rows, canonical_json, message, now

from .frame import REMINDER, TEMPLATE

_T = TypeVar("_T")


class JudgeStep(GroupStep):
    """A step that judges the responses to each prompt with one engine."""

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    engine: str = Field(description="The engine that judges.")


class CardStep(JudgeStep):
    """A step that judges by a card. The card's content, not its name or file, goes into the fingerprint."""

    protocol: ClassVar[Literal["compare", "score"]] = "compare"
    """What the card must be made for."""

    card: str = Field("helpfulness", description="A shipped card's name, or the path of your own card's YAML file.")

    @field_validator("card")
    @classmethod
    def _load(cls, card: str, info: ValidationInfo) -> str:
        """Refuse a bad card before anything runs; a path is kept whole, so that it means the same file everywhere."""
        if info.context and "card" in info.context:
            return card
        folder = Path(info.context["folder"]) if info.context and "folder" in info.context else None
        try:
            loaded = load_card(card, folder)
            path = str(card_file(card, folder).resolve()) if is_path(card) else card
        except PrefdataError as error:
            raise ValueError(str(error)) from error
        if cls.protocol not in loaded.protocols:
            raise ValueError(
                f"the card {loaded.name!r} is for the protocols {', '.join(loaded.protocols)}, not for {cls.protocol}"
            )
        if cls.protocol == "score" and (without := [one.name for one in loaded.aspects if not one.has_scale]):
            raise ValueError(
                f"the card {loaded.name!r} ({card}) gives its aspect {without[0]!r} no scale, and scores need one; add "
                "to the aspect, for example, scale: {type: ordinal, min: 1, max: 5}"
            )
        return path

    @cached_property
    def loaded(self) -> Card:
        """The card."""
        return load_card(self.card)

    def resolved(self) -> dict[str, Any]:
        """The fields, with the card's whole content in place of its name."""
        return {**super().resolved(), "card": self.loaded.content}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields. Its card is what they hold, wherever its file is now."""
        card = card_of(fields["card"])
        made = cls.model_validate({**fields, "card": card.label}, context={"card": card})
        made.__dict__["loaded"] = card  # where cached_property looks first
        return made

    def about(self, annotator: str, engine: Engine, criteria: Sequence[Row]) -> Rows:
        """The rows of `annotators` and `criteria` that the annotations refer to."""
        return {"annotators": [self.loaded.annotator_row(annotator, engine.model)], "criteria": list(criteria)}

    def asked(self, engine: Engine, prompt: Row, **parameters: object) -> dict[str, Any]:
        """What else of a question changes the answer, for the `key` of an id."""
        key = {"identity": engine.identity, "template": TEMPLATE, **parameters}
        if "references" in self.loaded.sees:
            # A prompt's id does not cover its references, and here the judge reads them.
            key["references"] = list(prompt.get("references") or [])
        return key


class TextJudge(CardStep):
    """A judge that writes its verdict as JSON."""

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "generate"}

    temperature: float = Field(0.0, ge=0, description="0 is greedy.")
    max_tokens: int = Field(512, ge=1, description="At most so many new tokens for each judgement.")
    replicates: int | None = Field(None, ge=1, description="How often each question is asked; the card's by default.")
    reask: int = Field(
        0, ge=0, le=10, description="How often an answer that cannot be read is asked for again at once."
    )
    structured: bool = Field(True, description="Ask the engine to keep to the JSON schema, where it can.")

    @property
    def times(self) -> int:
        """How often each question is asked."""
        return self.replicates or self.loaded.samples

    def resolved(self) -> dict[str, Any]:
        """The fields, with what the card says in place of what is left to it."""
        return {**super().resolved(), "replicates": self.times}

    def key(self, engine: Engine, prompt: Row) -> dict[str, Any]:
        """For the `key` of an id."""
        return self.asked(
            engine, prompt, temperature=self.temperature, max_tokens=self.max_tokens, structured=self.structured
        )

    def request(self, text: str, schema: dict[str, Any], seed: int | None, replicate: int) -> Request:
        """The question as one user turn: some chat templates know no system turn."""
        return Request(
            "generate",
            messages=(message("user", text),),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=seed if self.temperature or replicate else None,
            schema=schema if self.structured else None,
            tag=f"replicate {replicate}" if replicate else "",
        )


def annotator_name(engine: Engine, card: Card, how: str = "") -> str:
    """`judge:MODEL/CARD@HASH`, or `judge:MODEL/HOW/CARD@HASH` for a judge that does not write."""
    return f"judge:{engine.model}/{f'{how}/' if how else ''}{card.label}"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[_T]):
    """What became of one question.

    Attributes:
        status: of the annotation.
        value: what was read; None unless status is ok.
        call_id: the call that it came from.
        revision: of the asking that it came from.
    """

    status: str
    value: _T | None
    call_id: str
    revision: int


def status_of(answer: Answer) -> str:
    """ok, refused, timeout or failed: of the call, before anything is read."""
    if answer.status != "ok":
        return answer.status
    if answer.reply is None or answer.reply.finish_reason == "error":
        return "failed"
    return "refused" if answer.reply.finish_reason == "refusal" else "ok"


async def ask_until_read(
    context: Context,
    engine: str,
    request: Request,
    read: Callable[[Reply], Mapping[str, _T]],
    keys: Sequence[str],
    *,
    revision: int,
    reask: int,
) -> dict[str, Outcome[_T]]:
    """Ask once, and up to `reask` times more while some of `keys` cannot be read from the answer.

    Args:
        context: the runtime.
        engine: its name.
        request: the question; asked again, it carries a reminder of the form of the answer.
        read: finds values in a reply, by key; absent is unparsed.
        keys: what is looked for.
        revision: of the first asking; each further one is one higher.
        reask: how often more.

    Returns:
        An outcome for each key: the first valid reading, else what became of the last asking.

    Raises:
        NotKeptError: no answer is kept where kept answers are read again.
    """
    outcomes: dict[str, Outcome[_T]] = {}
    for attempt in range(reask + 1):
        asked = request if attempt == 0 else replace(request, messages=(*_reminded(request.messages),))
        try:
            answer = await context.ask(engine, asked, revision=revision + attempt)
        except NotKeptError:
            if attempt == 0:
                raise
            break  # read again from what was kept, it ends where the asking had ended
        status = status_of(answer)
        found = read(answer.reply) if status == "ok" and answer.reply is not None else {}
        for key in keys:
            if key in outcomes and outcomes[key].status == "ok":
                continue
            ended = "ok" if key in found else "unparsed" if status == "ok" else status
            outcomes[key] = Outcome(ended, found.get(key), answer.call_id, revision + attempt)
        if status != "ok" or all(outcome.status == "ok" for outcome in outcomes.values()):
            break
    return outcomes


def _reminded(messages: Sequence[Row]) -> list[Row]:
    return [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}\n\n{REMINDER}"}]


def completed(
    row: Row, *, status: str, scores: Sequence[float] | None, call_id: str | None, revision: int, **columns: Any
) -> Row:
    """An annotation with what came back. Scores that are no finite numbers make it `unparsed`: missing is not zero."""
    if status == "ok" and (scores is None or not all(math.isfinite(score) for score in scores)):
        status = "unparsed"
    return {
        **row,
        "status": status,
        "scores": [float(score) for score in scores] if status == "ok" and scores is not None else None,
        "call_id": call_id,
        "revision": revision,
        "created_at": now(),
        **columns,
    }


def meta(**values: object) -> str:
    """The `meta` of a row: further facts for a reader, which nothing computes with."""
    return canonical_json(values)
