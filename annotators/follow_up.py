"""`judge.follow_up`: whether the user's likelier next turn is a pleased or a displeased one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from math import fsum
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from prefdata.engines.base import Capability, Engine, Request
from prefdata.framing import neutralise
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation, make_id, message

from .asking import completed, meta
from .density_ratio import finite
from .follow_ups import CATEGORIES, FollowUps
from .likelihood import MeasuringStep, asked_all, read_values
from .shared import Shared

Category = Literal[
    "understanding", "relevance", "correctness", "engagingness", "informativeness", "instruction-following"
]

Outcome = tuple[str, str | None, float | None]
"""Status, call and score."""


@step("judge.follow_up")
class FollowUp(MeasuringStep):
    """Score each response by the follow-ups that a model expects of the user: Follow-up Likelihood as Reward (FLR).

    Each follow-up is appended to prompt and response as the user's next turn, and its own tokens are scored: neither
    the header of that turn nor what closes it. Of a category, the score is the mean over the positive follow-ups minus
    the mean over the negative ones of the mean log-probability per token, in nats; `overall` is the mean over the
    categories. Scores are comparable within one model and one set of follow-ups. An empty response is abstained from.

    Six categories with ten follow-ups on each side are shipped: 120 requests for each response, with `most: 2` only 24.
    The engine `transformers` reads a conversation once for all the follow-ups that it answers together; a server reads
    it for each, unless it caches prefixes.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "logprobs"}

    engine: str = Field(description="The engine that judges.")
    categories: tuple[Category, ...] = Field(
        get_args(Category), min_length=1, description="Which categories of shipped follow-ups are asked about."
    )
    positive: tuple[str, ...] | None = Field(
        None, description="Your own follow-ups of a pleased user, in the place of all categories."
    )
    negative: tuple[str, ...] | None = Field(None, description="Those of a displeased user.")
    most: int | None = Field(None, ge=1, description="Take at most so many of each list: the first ones.")
    combine: Literal["mean", "none", "both"] = Field(
        "mean", description="One score under `aspect`, one for each category under its name, or all of these."
    )

    @field_validator("categories")
    @classmethod
    def _once(cls, categories: tuple[Category, ...]) -> tuple[Category, ...]:
        if len(set(categories)) < len(categories):
            raise ValueError(f"a category stands twice in {', '.join(categories)}")
        return categories

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = {"positive": self.positive, "negative": self.negative}
        if all(texts is None for texts in own.values()):
            return self
        for side, texts in own.items():
            if not texts or not all(text.strip() for text in texts):
                raise ValueError(
                    f"{side} holds no follow-up, or an empty one: give texts for both positive and negative, or leave "
                    "both out for the shipped ones (a difference to nothing would be a score that nobody gave)"
                )
        if self.combine != "mean" or self.categories != get_args(Category):
            raise ValueError(
                "your own follow-ups are one category: leave categories and combine out, and name it by aspect"
            )
        return self

    @cached_property
    def lists(self) -> dict[str, FollowUps]:
        """The follow-ups, by category; each text once, so that one that stands twice weighs no more."""
        whole: Mapping[str, FollowUps] = {name: CATEGORIES[name] for name in self.categories}
        if self.positive and self.negative:
            whole = {self.aspect: FollowUps(self.positive, self.negative)}
        return {
            name: FollowUps(
                tuple(dict.fromkeys(each.positive))[: self.most], tuple(dict.fromkeys(each.negative))[: self.most]
            )
            for name, each in whole.items()
        }

    def resolved(self) -> dict[str, Any]:
        """The fields, with the shipped follow-ups themselves: a changed text is another question."""
        texts = {name: [list(each.positive), list(each.negative)] for name, each in self.lists.items()}
        return {**super().resolved(), "follow_ups": texts}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields, with their texts, whatever is shipped now."""
        made = cls.model_validate({key: value for key, value in fields.items() if key != "follow_ups"})
        texts = {name: FollowUps(tuple(good), tuple(bad)) for name, (good, bad) in fields["follow_ups"].items()}
        made.__dict__["lists"] = texts  # where cached_property looks first
        return made

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engine = context.engine(self.engine)
        rows = await gather_all(
            self._judge(prompt, response, engine, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
        )
        if not rows:
            return {}
        made = [row for some in rows for row in some]
        return {"annotations": made, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        texts = [[*each.positive, "", *each.negative] for each in self.lists.values()]
        return f"likelihood:{engine.model}/follow-up@{make_id('follow-ups', texts)[:6]}"

    async def _judge(self, prompt: Row, response: Row, engine: Engine, context: Context) -> list[Row]:
        """One row for all categories, one for each, or all of these. They share their requests."""
        lists = self.lists
        wanted: list[tuple[str, list[str]]] = []
        if self.combine != "none":
            wanted.append((self.aspect, list(lists)))
        if self.combine != "mean":
            wanted.extend((name, [name]) for name in lists)
        text = response["text"] or ""
        # A control token in it would end the turn, and let the response speak for the user.
        messages = (*render(prompt), message("assistant", neutralise(text)))
        shared: Shared[Outcome] = Shared()

        async def row_of(aspect: str, names: list[str]) -> Row:
            row = annotation(
                group_id=prompt["group_id"],
                prompt_id=prompt["prompt_id"],
                target_ids=[response["response_id"]],
                protocol="score",
                annotator=self._name(engine),
                source="likelihood",
                aspect=aspect,
                key={
                    "identity": engine.identity,
                    "follow_ups": [[list(lists[name].positive), list(lists[name].negative)] for name in names],
                },
            )

            async def make(revision: int) -> Row:
                if not text:
                    return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
                outcomes = await gather_all(
                    shared.get((name, revision), partial(self._score, messages, lists[name], context, revision))
                    for name in names
                )
                return _combined(row, dict(zip(names, outcomes, strict=True)), revision)

            return await context.once("annotations", row["annotation_id"], make)

        return await gather_all(row_of(aspect, names) for aspect, names in wanted)

    async def _score(self, messages: Sequence[Row], texts: FollowUps, context: Context, revision: int) -> Outcome:
        """The score of one category."""
        requests = [
            (self.engine, Request("logprobs", messages=tuple(messages), continuation=text, role="user"))
            for text in (*texts.positive, *texts.negative)
        ]
        answers = await asked_all(context, requests, revision)
        status, call_id, values = read_values(answers)
        if status != "ok":
            return status, call_id, None
        means = [sum(each) / len(each) for each in values]
        return "ok", call_id, difference(means[: len(texts.positive)], means[len(texts.positive) :])


def difference(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The mean of one list minus the mean of another; exactly the negative where they are swapped."""
    return fsum(positive) / len(positive) - fsum(negative) / len(negative)


def _combined(row: Row, outcomes: Mapping[str, Outcome], revision: int) -> Row:
    """The annotation from its categories: their mean, or what became of the first that has no score."""
    for status, call_id, _ in outcomes.values():
        if status != "ok":
            return completed(row, status=status, scores=None, call_id=call_id, revision=revision)
    scores = {name: score for name, (_, _, score) in outcomes.items() if score is not None}
    first = next(call_id for _, call_id, _ in outcomes.values())
    facts = meta(**{name: finite(score) for name, score in scores.items()}) if len(scores) > 1 else None
    mean = fsum(scores.values()) / len(scores)
    return completed(row, status="ok", scores=[mean], call_id=first, revision=revision, meta=facts)
