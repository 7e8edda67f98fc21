"""`judge.displacement`: which pairs are likely to lower the preferred response's own probability when trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.render import render
from prefdata.schema import Row, Rows, annotation
from prefdata.stats.displacement import ches

from .asking import completed
from .likelihood import asked_all, read_values
from .preferred import labelled_pairs
from .shared import Shared

ASPECTS = ("ches", "ches_ln", "last_state")
"""What is measured: the two scores, and a cheap proxy beside them."""


@step("judge.displacement")
class Displacement(GroupStep):
    """Centred hidden embedding similarity (CHES) of each pair, under the model that will be trained.

    Sums of the last layer's hidden states that predict the responses' tokens, s_w and s_l, give the measures `ches` =
    `<s_w, s_l> - |s_w|^2` and `ches_ln`, each product over the numbers of tokens. High: the preferred response is
    likely to lose probability. `last_state` is the cheap proxy, the scalar product of the two last tokens' states.
    Filter by `ches_ln` (`select.threshold`, or `select.budget` for the lowest share; the paper's safety experiment
    keeps the lowest 5 percent): `ches` goes by length. Scores of different models cannot be compared.

    One request for each response in a pair. Pairs with an empty response are left out.

    Source: Razin et al. 2024, Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization.
    """

    reads = frozenset({"prompts", "responses", "preferences"})
    writes = frozenset({"annotations", "annotators"})
    narrows = "preferences"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "states"}

    engine: str = Field(description="The engine whose hidden states are read: the model before training.")

    async def run(self, group: Group, context: Context) -> Rows:
        """The measures of a group's pairs."""
        engine = context.engine(self.engine)
        calls: Shared[Answer] = Shared()
        pairs = list(labelled_pairs(group, context))
        made = await gather_all(self._judge(*pair, engine, calls, context) for pair in pairs)
        rows = [row for each in made for row in each]
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"likelihood:{engine.model}/displacement"

    async def _judge(
        self,
        preference: Row,
        prompt: Row,
        better: Row,
        worse: Row,
        engine: Engine,
        calls: Shared[Answer],
        context: Context,
    ) -> list[Row]:
        messages = tuple(render(prompt))

        async def states(response: Row, revision: int) -> Answer:
            async def ask() -> Answer:
                request = Request("states", messages=messages, continuation=response["text"])
                return (await asked_all(context, [(self.engine, request)], revision))[0]

            return await calls.get((prompt["prompt_id"], response["response_id"], revision), ask)

        async def one(aspect: str) -> Row:
            row = annotation(
                group_id=preference["group_id"],
                prompt_id=preference["prompt_id"],
                target="preference",
                target_ids=[preference["preference_id"]],
                protocol="measure",
                annotator=self._name(engine),
                source="likelihood",
                aspect=aspect,
                key={"identity": engine.identity},
            )

            async def make(revision: int) -> Row:
                answers = await gather_all(states(response, revision) for response in (better, worse))
                status, call_id, scores = _measured(answers, aspect)
                return completed(row, status=status, scores=scores, call_id=call_id, revision=revision)

            return await context.once("annotations", row["annotation_id"], make)

        return await gather_all(one(aspect) for aspect in ASPECTS)


def _measured(answers: Sequence[Answer], aspect: str) -> tuple[str, str, list[float] | None]:
    """Status, the call that it came from, and the measure."""
    status, call_id, values = read_values(answers)
    if status != "ok":
        return status, call_id, None
    sizes = {len(each) for each in values}
    well = len(sizes) == 1 and next(iter(sizes)) >= 3 and next(iter(sizes)) % 2 == 1
    if not well or not all(map(math.isfinite, (number for each in values for number in each))):
        return "unparsed", call_id, None
    half = len(values[0]) // 2
    won, lost = (np.asarray(each, dtype=np.float64) for each in values)
    if aspect == "last_state":
        return "ok", call_id, [float(won[1 + half :] @ lost[1 + half :])]
    if won[0] < 1 or lost[0] < 1:
        return "abstain", call_id, None
    found = ches(won[1 : 1 + half], lost[1 : 1 + half], won[0], lost[0])
    return "ok", call_id, [float((found.ches if aspect == "ches" else found.ches_ln)[0])]
