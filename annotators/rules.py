"""`judge.rules`: responses scored by plain rules, without a model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.schema import Row, Rows, annotation, make_id

from . import rulebook
from .asking import completed

Rule = Literal["length", "language", "repetition", "refusal", "format"]

_TEXTS = {
    "length": "Its number of words lies within the band.",
    "language": "It is in the language of the prompt.",
    "repetition": "It does not repeat itself.",
    "refusal": "It does not open with a refusal.",
    "format": "It is not empty, ends as a text does, and closes its code fences.",
}


@step("judge.rules")
class Rules(GroupStep):
    """Score each response by rules, in [0, 1]; higher is better. No model is asked.

    `length`: within a band of words. `language`: that of the prompt, by script and frequent words. `repetition`: the
    share of word 3-grams that are new. `refusal`: 0 for a text that opens with a refusal (left out by default: on a
    dangerous prompt a refusal is right). `format`: not empty, ends as a text does, code fences closed.

    With `combine: mean` there is one annotation for each response, under the aspect `overall`, by the annotator
    `rule:length+language+...`: the mean of the rules that apply. With `none` there is one for each rule, aspect and
    annotator named after it (`rule:length`). A rule that cannot tell gives no number: `abstain`, never zero.

    Rules tell nonsense from an answer. They know nothing of quality.
    """

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    rules: tuple[Rule, ...] = Field(("length", "language", "repetition", "format"), description="Which rules.")
    combine: Literal["mean", "none"] = Field("mean", description="One overall score for a response, or one per rule.")
    least_words: int = Field(10, ge=0, description="length: the score falls off below so many words.")
    most_words: int = Field(400, ge=1, description="length: the score falls off above so many words.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.rules:
            raise ValueError(f"rules is empty; choose among {', '.join(_TEXTS)}")
        if len(set(self.rules)) != len(self.rules):
            raise ValueError(f"rules names one rule twice: {', '.join(self.rules)}")
        if self.least_words > self.most_words:
            raise ValueError(f"least_words ({self.least_words}) is above most_words ({self.most_words})")
        return self

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        rows = await gather_all(
            self._judge(prompt, response, shape, context)
            for prompt in group.prompts
            for response in group.responses_to(prompt["prompt_id"])
            for shape in self._shapes()
        )
        if not rows:
            return {}
        return {
            "annotations": rows,
            "annotators": [{"annotator": _name(shape)} for shape in self._shapes()],
            "criteria": [self._criterion(shape) for shape in self._shapes()],
        }

    def _shapes(self) -> list[tuple[Rule, ...]]:
        """The rules of each annotation that a response gets."""
        return [self.rules] if self.combine == "mean" else [(rule,) for rule in self.rules]

    def _parameters(self, rules: tuple[Rule, ...]) -> dict[str, object]:
        band = {"least_words": self.least_words, "most_words": self.most_words} if "length" in rules else {}
        return {"version": self.version, **band}

    def _criterion(self, rules: tuple[Rule, ...]) -> Row:
        name = rules[0] if self.combine == "none" else "overall"
        text = " ".join(_TEXTS[rule] for rule in rules)
        if "length" in rules:
            text += f" The band: {self.least_words} to {self.most_words} words."
        return {
            "criterion_id": make_id("criterion", name, text),
            "name": name,
            "text": text,
            "kind": "constraint",
            "scale": {"type": "interval", "min": 0.0, "max": 1.0, "anchors": None},
            "owner": _name(rules),
        }

    async def _judge(self, prompt: Row, response: Row, rules: tuple[Rule, ...], context: Context) -> Row:
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=_name(rules),
            source="rule",
            aspect=rules[0] if self.combine == "none" else "overall",
            key=self._parameters(rules),
            criterion_id=self._criterion(rules)["criterion_id"],
        )

        async def make(revision: int) -> Row:
            found = [self._apply(rule, prompt, response) for rule in rules]
            applied = [score for score in found if score is not None]
            return completed(
                row,
                status="ok" if applied else "abstain",
                scores=[sum(applied) / len(applied)] if applied else None,
                call_id=None,
                revision=revision,
            )

        return await context.once("annotations", row["annotation_id"], make)

    def _apply(self, rule: Rule, prompt: Row, response: Row) -> float | None:
        text = response["text"] or ""
        if rule == "length":
            return rulebook.length(text, self.least_words, self.most_words)
        if rule == "language":
            asked = [turn["content"] or "" for turn in prompt["messages"] if turn["role"] == "user"]
            return rulebook.language(asked[-1] if asked else "", text)
        if rule == "repetition":
            return rulebook.repetition(text)
        if rule == "refusal":
            return rulebook.refusal(text)
        return rulebook.well_formed(text, response.get("finish_reason"))


def _name(rules: tuple[Rule, ...]) -> str:
    return f"rule:{'+'.join(rules)}"
