"""`judge.density_ratio`: how much likelier a strong model finds each response than a weak one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.errors import PipelineError
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation, make_id, message

from .asking import completed, meta
from .likelihood import MeasuringStep, Per, amount, asked_all, of_each, per_suffix, read_values


class Exemplar(BaseModel):
    """A question and a good answer to it, shown before the conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, description="What was asked.")
    response: str = Field(min_length=1, description="A good answer to it.")


@step("judge.density_ratio")
class DensityRatio(MeasuringStep):
    """Score each response by beta (log p_strong(response | prompt) - log p_weak(response | prompt)), in nats.

    Two requests for each response, each under its model's own chat template; the tokens of the response alone are
    scored, on both sides without the end of the turn. With a model and the one it was trained from it is the implicit
    reward of DPO: `strong` the policy, `weak` the reference, `beta` that of the training (Rafailov et al. 2023,
    equation 5). Source: Customizable Density Ratios of Strong-over-weak LLMs; there sums, and one principle for each
    domain. An empty response has no tokens to score: status `abstain`.

    The sum grows with the length of the response where the strong model is better calibrated everywhere. Sums and means
    over tokens stand for something only where both models have the same tokenizer: for others say `per: byte`.

    Raises:
        PipelineError: the two models read a response as different numbers of tokens, and `per` is not byte.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"strong": "logprobs", "weak": "logprobs"}

    strong: str = Field(description="The engine whose taste is asked for, for example the model after DPO.")
    weak: str = Field(description="The engine that it is measured against, for example the model before.")
    beta: float = Field(1.0, gt=0, description="What the difference is multiplied by.")
    per: Per = Field("sum", description="The whole response, mean over its tokens, or mean over its bytes.")
    principle: str = Field("", description="What is asked of an answer; joins the system turn.")
    exemplars: tuple[Exemplar, ...] = Field((), description="Questions and good answers, before the conversation.")
    principle_for: Literal["both", "strong"] = Field(
        "both", description="Which models see principle and exemplars: both, or the strong one alone."
    )
    domains: dict[str, str] = Field(
        {}, description="Principle by tag: the first tag of a prompt that stands here decides, else `principle`."
    )

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engines = (context.engine(self.strong), context.engine(self.weak))
        rows = await of_each(group, lambda prompt, response: self._judge(prompt, response, engines, context))
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engines), "model": engines[0].model}]}

    def _name(self, engines: tuple[Engine, Engine]) -> str:
        strong, weak = engines
        said = [self.principle, self._shown, self.domains, self.principle_for]
        return (
            f"likelihood:{strong.model}-over-{weak.model}/density-ratio"
            + per_suffix(self.per, "sum")
            + ("" if self.beta == 1 else f"/beta-{self.beta:g}")
            + (f"@{make_id('principle', *said)[:6]}" if self.principle or self.exemplars or self.domains else "")
        )

    @property
    def _shown(self) -> list[dict[str, str]]:
        return [exemplar.model_dump() for exemplar in self.exemplars]

    def _principle(self, prompt: Row) -> str:
        return next((self.domains[tag] for tag in prompt.get("tags") or () if tag in self.domains), self.principle)

    async def _judge(self, prompt: Row, response: Row, engines: tuple[Engine, Engine], context: Context) -> Row:
        strong, weak = engines
        principle = self._principle(prompt)
        key: dict[str, Any] = {"identity": strong.identity, "weak": weak.identity, "beta": self.beta}
        if principle or self.exemplars:
            key |= {"principle": principle, "exemplars": self._shown, "for": self.principle_for}
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=self._name(engines),
            source="likelihood",
            aspect=self.aspect,
            key=key,
        )
        text = response["text"] or ""

        async def make(revision: int) -> Row:
            if not text:
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            plain = tuple(render(prompt))
            told = with_principle(plain, principle, self.exemplars)
            asked = [(self.strong, told), (self.weak, told if self.principle_for == "both" else plain)]
            requests = [
                (engine, Request("logprobs", messages=messages, continuation=text)) for engine, messages in asked
            ]
            answers = await asked_all(context, requests, revision)
            return self._scored(row, text, answers, engines, revision)

        return await context.once("annotations", row["annotation_id"], make)

    def _scored(
        self, row: Row, text: str, answers: Sequence[Answer], engines: tuple[Engine, Engine], revision: int
    ) -> Row:
        status, call_id, values = read_values(answers)
        if status != "ok":
            return completed(row, status=status, scores=None, call_id=call_id, revision=revision)
        if self.per != "byte" and engines[0].identity != engines[1].identity:
            refuse_other_tokens(self.strong, self.weak, values[0], values[1], row["target_ids"][0])
        strong, weak = (amount(each, text, self.per) for each in values)
        facts = meta(tokens=len(values[0]), strong=finite(strong), weak=finite(weak), weak_call_id=answers[1].call_id)
        score = self.beta * (strong - weak)
        return completed(row, status="ok", scores=[score], call_id=call_id, revision=revision, meta=facts)


def with_principle(messages: Sequence[Row], principle: str, exemplars: Sequence[Exemplar]) -> tuple[Row, ...]:
    """A conversation with a principle in its system turn and, after that, answered questions as earlier turns."""
    system = [turn for turn in messages[:1] if turn["role"] == "system"]
    rest = messages[len(system) :]
    texts = [str(turn.get("content") or "") for turn in system] + ([principle] if principle else [])
    shown = [
        message(role, text)
        for exemplar in exemplars
        for role, text in (("user", exemplar.prompt), ("assistant", exemplar.response))
    ]
    return (*([message("system", "\n\n".join(texts))] if texts else []), *shown, *rest)


def refuse_other_tokens(
    one: str, other: str, tokens: Sequence[float], other_tokens: Sequence[float], response_id: str
) -> None:
    """Stop where two models' numbers of tokens show that their tokenizers differ.

    One token more or less may come of the templates: some tokenizers read a text's first word otherwise after a space.

    Raises:
        PipelineError: they differ by more.
    """
    # A single token tells nothing: it is what a plan has in the place of an answer that is still to be asked for.
    if min(len(tokens), len(other_tokens)) > 1 and abs(len(tokens) - len(other_tokens)) > 1:
        raise PipelineError(
            f"the engines {one!r} and {other!r} read the response {response_id} as {len(tokens)} and "
            f"{len(other_tokens)} tokens: their tokenizers differ, and neither sums nor means over tokens can be "
            "compared; set per: byte (the answers so far are kept, and are not paid again)"
        )


def finite(value: float) -> float | None:
    """A number that JSON can hold, else None."""
    return value if abs(value) < float("inf") else None
