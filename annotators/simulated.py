"""`judge.simulated`: people where none are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from math import log2
from statistics import NormalDist
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from prefdata.cards import Aspect
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation, make_id, now
from prefdata.stats.simulate import answer_comparison, answer_score, question_number
from prefdata.stats.simulated import Annotators

from .carded import Carded, card_named

_SHARED = 0.8
"""How far the aspects of one response go together: the correlation of each with the quality that they share."""


@step("judge.simulated")
class Simulated(Carded):
    """Rate or compare responses as a crowd of simulated people would. No model is asked, and nobody.

    What they see is made up: each response has a quality drawn from its id (a standard normal number, and one near it
    for each aspect), unless an earlier step's scores are named by `quality`. A person hears it through an ability, a
    bias for the longer response and for the first one shown, and noise; `prefdata.stats.simulate` has the law. Each
    response (each pair) is put to `people` of the `pool`, drawn by hash. Where they differ by more than `spread` under
    the card's first aspect, `more` others are asked as well, as HelpSteer2 does with three and two.

    The annotators are `rule:simulated-NN` and the source is `rule`, never `human`: whatever rests on them is a
    rehearsal of the pipeline, and says nothing of any model.
    """

    reads = frozenset({"prompts", "responses", "annotations", "preferences"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    protocol: Literal["score", "compare"] = Field("score", description="Rate each response, or compare each pair.")
    card: str = Field("helpfulness", description="Whose aspects and scales: a shipped card, or your own YAML file.")
    pairs: Literal["all", "preferences"] = Field(
        "all", description="compare: each two responses to a prompt, or those of the live preferences of two."
    )
    people: int = Field(3, ge=1, description="How many judge each response, or each pair.")
    pool: int = Field(20, ge=1, le=10_000, description="How many people there are.")
    more: int = Field(0, ge=0, description="score: how many others are asked where these differ.")
    spread: float = Field(2.0, ge=0, description="score: they differ where their range is above this.")
    ability: float = Field(1.5, description="Mean ability; 1 is average, 0 hears only noise.")
    ability_spread: float = Field(0.4, ge=0, description="Standard deviation of the abilities.")
    length_bias: float = Field(0.2, description="Mean liking for a response of twice the words, in logits.")
    position_bias: float = Field(0.1, description="compare: mean liking for the first shown, in logits.")
    ties: float = Field(0.3, ge=0, description="compare: differences below this, in logits, are called ties.")
    quality: str | None = Field(
        None, description="Whose scores are the truth (an annotator of an earlier step); drawn from ids unless given."
    )
    centre: float = Field(0.5, description="quality: the score that is middling.")
    scale: float = Field(0.25, gt=0, description="quality: so much score is one standard deviation.")
    seed: int = Field(0, description="Another seed, other people and other qualities.")

    @field_validator("card")
    @classmethod
    def _load(cls, card: str, info: ValidationInfo) -> str:
        return card_named(card, info)[1]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.people + self.more > self.pool:
            raise ValueError(f"people ({self.people}) and more ({self.more}) must come out of a pool of {self.pool}")
        if self.protocol == "score" and self.pairs == "preferences":
            raise ValueError("pairs belongs to protocol: compare; each response is rated by itself")
        if self.protocol == "compare" and self.more:
            raise ValueError("more belongs to protocol: score; comparisons have no spread")
        return self

    def inputs(self) -> frozenset[str]:
        """Scores are read for `quality` alone, preferences for `pairs` alone."""
        read = {"prompts", "responses"}
        read |= {"annotations"} if self.quality is not None else set()
        return frozenset(read | ({"preferences"} if self.pairs == "preferences" else set()))

    @cached_property
    def crowd(self) -> Annotators:
        """The people."""
        return Annotators.drawn(
            self.pool,
            seed=self.seed,
            ability=(self.ability, self.ability_spread),
            length=(self.length_bias, abs(self.length_bias) / 2),
            position=(self.position_bias, abs(self.position_bias) / 2),
            threshold=self.ties if self.protocol == "compare" else 0.0,
        )

    async def run(self, group: Group, context: Context) -> Rows:
        """What these people say of the group."""
        rows: list[Row] = []
        for prompt in group.prompts:
            responses = [row for row in group.responses_to(prompt["prompt_id"]) if row["text"] is not None]
            true = {row["response_id"]: self._quality(row, group, context) for row in responses}
            seen = [row for row in responses if true[row["response_id"]] is not None]
            if self.protocol == "compare":
                wanted = {frozenset(row["response_ids"]) for row in group.preferences if len(row["response_ids"]) == 2}
                for first, second in combinations(sorted(seen, key=lambda row: str(row["response_id"])), 2):
                    if self.pairs == "all" or {first["response_id"], second["response_id"]} in wanted:
                        rows += self._compared(prompt, first, second, true)
            else:
                for response in seen:
                    rows += self._rated(prompt, response, true[response["response_id"]] or 0.0)
        if not rows:
            return {}
        names = sorted({row["annotator"] for row in rows})
        criteria = [self._criterion(one) for one in self.loaded.aspects]
        return {
            "annotations": rows,
            "annotators": [{"annotator": name} for name in names],
            "criteria": criteria if self.protocol == "score" else [self.loaded.compared_criterion],
        }

    def _quality(self, response: Row, group: Group, context: Context) -> float | None:
        if self.quality is None:
            return normal("quality", self.seed, response["response_id"])
        scores = [
            row["scores"][row["target_ids"].index(response["response_id"])]
            for row in group.annotations
            if row["annotator"] == self.quality and row["scores"] and response["response_id"] in row["target_ids"]
        ]
        if not scores:
            context.log(f"a response without a score by {self.quality!r} is judged by nobody")
            return None
        return (float(sum(scores)) / len(scores) - self.centre) / self.scale

    def _panel(self, about: Sequence[str], count: int) -> list[int]:
        drawn = sorted(range(self.pool), key=lambda person: make_id("panel", self.seed, *about, person))
        return drawn[:count]

    def _rated(self, prompt: Row, response: Row, quality: float) -> list[Row]:
        panel = self._panel([response["response_id"]], self.people + self.more)
        first = self.loaded.aspects[0]
        rated = {
            person: {
                aspect.name: self._rating(person, response, quality, aspect)
                for aspect in self.loaded.aspects
                if aspect.has_scale
            }
            for person in panel
        }
        asked = panel[: self.people]
        heard = [rated[person][first.name] for person in asked if first.name in rated[person]]
        if heard and max(heard) - min(heard) > self.spread:
            asked = panel
        return [
            self._row(prompt, [response], person, [rated[person][aspect.name]], aspect)
            for person in asked
            for aspect in self.loaded.aspects
            if aspect.has_scale
        ]

    def _rating(self, person: int, response: Row, quality: float, aspect: Aspect) -> float:
        own = normal("aspect", self.seed, response["response_id"], aspect.name)
        strength = _SHARED * quality + (1 - _SHARED**2) ** 0.5 * own
        question = question_number(f"{response['response_id']} {aspect.name}")
        heard = answer_score(
            self.crowd, person, strength, question=question, length=doublings(response), seed=self.seed
        )
        low, high = aspect.scale.min, aspect.scale.max
        # Two standard deviations of what a person of average ability hears fill the scale.
        value = (low + high) / 2 + heard / self.ability_scale * (high - low) / 4
        whole = round(value) if aspect.scale.type == "ordinal" else value
        return float(min(high, max(low, whole)))

    @property
    def ability_scale(self) -> float:
        """What one standard deviation of quality is worth to an average person, noise included."""
        return float((self.ability**2 + 1.45) ** 0.5)

    def _compared(self, prompt: Row, first: Row, second: Row, true: Mapping[str, float | None]) -> list[Row]:
        ids = [first["response_id"], second["response_id"]]
        made = []
        for person in self._panel(ids, self.people):
            turned = int(make_id("shown", self.seed, *ids, person)[0], 16) % 2
            shown = [second, first] if turned else [first, second]
            strengths = [true[row["response_id"]] or 0.0 for row in shown]
            wins = answer_comparison(
                self.crowd,
                person,
                strengths[0] - strengths[1],
                question=question_number(" ".join(ids)),
                position=1.0,
                length=doublings(shown[0]) - doublings(shown[1]),
                seed=self.seed,
            )
            made.append(self._row(prompt, shown, person, [wins, 1 - wins], None))
        return made

    def _row(self, prompt: Row, shown: Sequence[Row], person: int, scores: list[float], aspect: Aspect | None) -> Row:
        criterion = self.loaded.compared_criterion if aspect is None else self._criterion(aspect)
        return annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[row["response_id"] for row in shown],
            protocol="compare" if aspect is None else aspect.protocol,
            annotator=f"rule:simulated-{person:0{len(str(self.pool - 1))}d}",
            source="rule",
            aspect=self.loaded.compared_aspect if aspect is None else aspect.name,
            scores=scores,
            key=[self.version, self.resolved()],
            criterion_id=criterion["criterion_id"],
            created_at=now(),
        )

    def _criterion(self, aspect: Aspect) -> Row:
        return aspect.criterion(self.loaded.label)


def normal(*parts: object) -> float:
    """A standard normal number that hangs on these parts alone."""
    share = (int(make_id("normal", *parts)[:13], 16) + 0.5) / 16**13
    return NormalDist().inv_cdf(share)


def doublings(response: Row) -> float:
    """The length of a response in doublings of a hundred words."""
    return log2(max(len((response["text"] or "").split()), 1) / 100)
