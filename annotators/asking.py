"""What all judges share: the fields that name engine and card, the asking, and the rows that say who judged by what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from prefdata.cards import Aspect, Card, Protocol
from prefdata.engines.base import Answer, Capability, Engine, Reply, Request
from prefdata.errors import PipelineError
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.context import NotKeptError
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation, canonical_json, message, now

from .carded import Carded, card_named
from .frame import REMINDER, TEMPLATE

_T = TypeVar("_T")
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Juror:
    """One of the models that a step asks, each by itself.

    Attributes:
        name: what the pipeline calls its engine.
        engine: its model and identity, for names and ids.
    """

    name: str
    engine: Engine


class CardStep(Carded):
    """A step that judges by a card. The card's content, not its name or file, goes into the fingerprint.

    With several engines each judges by itself, and its rows are by its own annotator: a jury, whose verdict is left to
    `aggregate`. That multiplies the calls by the number of engines.
    """

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    protocol: ClassVar[Protocol] = "compare"
    """What the card must be made for."""
    each_alone: ClassVar[bool] = True
    """Each of several engines makes rows of its own, so that kept answers can be read again one engine at a time."""

    engine: str | tuple[str, ...] = Field(
        description="The engine that judges; of a list each judges by itself, as an annotator of its own."
    )
    card: str = Field("helpfulness", description="A shipped card's name, or the path of your own card's YAML file.")

    @field_validator("card")
    @classmethod
    def _load(cls, card: str, info: ValidationInfo) -> str:
        loaded, path = card_named(card, info)
        if loaded is None:
            return path
        if not loaded.serves(cls.protocol):
            raise ValueError(
                f"the card {loaded.name!r} is for the protocols {', '.join(loaded.protocols)}, not for {cls.protocol}"
            )
        if cls.protocol == "score" and (without := [one.name for one in loaded.aspects if not one.has_scale]):
            raise ValueError(
                f"the card {loaded.name!r} ({card}) gives its aspect {without[0]!r} no scale, and scores need one; add "
                "to the aspect, for example, scale: {type: ordinal, min: 1, max: 5}"
            )
        return path

    @field_validator("engine")
    @classmethod
    def _several(cls, engine: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not engine:
            raise ValueError("engine is empty; name the engine that judges, or a list of them")
        if not isinstance(engine, str) and len(set(engine)) != len(engine):
            raise ValueError(f"engine names one engine twice: {', '.join(engine)}; for more draws raise replicates")
        return engine

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of the engines, as a list also where there is one."""
        return (self.engine,) if isinstance(self.engine, str) else self.engine

    def jury(self, context: Context) -> list[Juror]:
        """The models that judge.

        Raises:
            PipelineError: two of them are the same, so that their judgements would be one.
        """
        jurors = [Juror(name, context.engine(name)) for name in self.engines]
        seen: dict[tuple[str, str], str] = {}
        for juror in jurors:
            twin = seen.setdefault((juror.engine.model, juror.engine.identity), juror.name)
            if twin != juror.name:
                raise PipelineError(
                    f"{self.kind}: the engines {twin!r} and {juror.name!r} are the same model {juror.engine.model!r} "
                    "with the same identity, so their judgements would have the same ids; leave one out, or raise "
                    "replicates"
                )
        return jurors

    async def run(self, group: Group, context: Context) -> Rows:
        """What every juror says of the group."""
        return merged(await gather_all(self.judged(group, juror, context) for juror in self.jury(context)))

    async def judged(self, group: Group, juror: Juror, context: Context) -> Rows:
        """What one juror says of the group, by table."""
        raise NotImplementedError

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


def merged(found: Sequence[Rows]) -> Rows:
    """The rows of several jurors by table; a criterion that several have judged by stands once."""
    rows: Rows = {}
    for one in found:
        for table, given in one.items():
            rows.setdefault(table, []).extend(given)
    if "criteria" in rows:
        rows["criteria"] = list({row["criterion_id"]: row for row in rows["criteria"]}.values())
    return rows


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

    def request(self, text: str, schema: dict[str, Any] | None, seed: int | None, replicate: int) -> Request:
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

    def row(
        self,
        juror: Juror,
        prompt: Row,
        shown: Sequence[Row],
        replicate: int,
        criterion: Row,
        *,
        aspect: Aspect | None = None,
        **parameters: object,
    ) -> Row:
        """The annotation of these responses that is to be made, without what is said in it.

        Args:
            juror: who is asked.
            prompt: what the responses are judged under.
            shown: the responses, in the order shown.
            replicate: which of several equal requests this is.
            criterion: the row of `criteria` that it is about.
            aspect: that it scores; without one it is filed as the step and the card say.
            parameters: what else of the question changes the answer.
        """
        return annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"] for response in shown],
            protocol=aspect.protocol if aspect else self.protocol,
            annotator=annotator_name(juror.engine, self.loaded),
            source="judge",
            aspect=aspect.name if aspect else self.loaded.compared_aspect,
            replicate=replicate,
            key={**self.key(juror.engine, prompt), **parameters},
            criterion_id=criterion["criterion_id"],
        )

    async def asked_once(
        self,
        context: Context,
        juror: Juror,
        row: Row,
        request: Request,
        read: Callable[[Reply], _T | None],
        columns: Callable[[_T], Mapping[str, Any]],
    ) -> Row:
        """The annotation `row` with what the juror answers, unless the dataset holds it.

        Args:
            context: the runtime.
            juror: who is asked.
            row: see `row`.
            request: the question.
            read: what an answer says; None is unparsed.
            columns: of the annotation, for what an answer says.
        """

        def found(reply: Reply) -> dict[str, _T]:
            value = read(reply)
            return {} if value is None else {"": value}

        async def make(revision: int) -> Row:
            outcomes = await ask_until_read(
                context, juror.name, request, found, [""], revision=revision, reask=self.reask
            )
            outcome = outcomes[""]
            said = {"text": None, **(columns(outcome.value) if outcome.value is not None else {})}
            return completed(row, status=outcome.status, call_id=outcome.call_id, revision=outcome.revision, **said)

        return await context.once("annotations", row["annotation_id"], make)


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
    read: Callable[[Reply], Mapping[_K, _T]],
    keys: Sequence[_K],
    *,
    revision: int,
    reask: int,
    reminder: str = REMINDER,
) -> dict[_K, Outcome[_T]]:
    """Ask once, and up to `reask` times more while some of `keys` cannot be read from the answer.

    Args:
        context: the runtime.
        engine: its name.
        request: the question; asked again, it carries a reminder of the form of the answer.
        read: finds values in a reply, by key; absent is unparsed.
        keys: what is looked for.
        revision: of the first asking; each further one is one higher.
        reask: how often more.
        reminder: what is added to the question when it is asked again.

    Returns:
        An outcome for each key: the first valid reading, else what became of the last asking.

    Raises:
        NotKeptError: no answer is kept where kept answers are read again.
    """
    outcomes: dict[_K, Outcome[_T]] = {}
    for attempt in range(reask + 1):
        asked = request if attempt == 0 else replace(request, messages=_reminded(request.messages, reminder))
        try:
            answer = await context.ask(engine, asked, revision=revision + attempt)
        except NotKeptError:
            if attempt == 0:
                raise
            break  # read again from what was kept, it ends where the asking had ended
        status = status_of(answer)
        found: Mapping[_K, _T] = read(answer.reply) if status == "ok" and answer.reply is not None else {}
        for key in keys:
            if key in outcomes and outcomes[key].status == "ok":
                continue
            ended = "ok" if key in found else "unparsed" if status == "ok" else status
            outcomes[key] = Outcome(ended, found.get(key), answer.call_id, revision + attempt)
        if status != "ok" or all(outcome.status == "ok" for outcome in outcomes.values()):
            break
    return outcomes


def _reminded(messages: Sequence[Row], reminder: str) -> tuple[Row, ...]:
    return (*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}\n\n{reminder}"})


_WITHOUT_SCORES = ("label", "critique")


def completed(
    row: Row,
    *,
    status: str,
    call_id: str | None,
    revision: int,
    scores: Sequence[float] | None = None,
    **columns: Any,
) -> Row:
    """An annotation with what came back. Scores that are no finite numbers make it `unparsed`: missing is not zero.

    A label or a critique has none.
    """
    judged = status == "ok" and row["protocol"] not in _WITHOUT_SCORES
    if judged and (scores is None or not all(math.isfinite(score) for score in scores)):
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
