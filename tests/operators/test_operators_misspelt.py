"""A key that fits nothing is said, with what there is to choose from."""

from __future__ import annotations

from typing import Any

import pytest
from operator_shapes import FakeContext, run

from prefdata.operators.aggregate.crowd import DawidSkene
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.mean import Mean
from prefdata.operators.select.threshold import Threshold
from prefdata.schema import Row, annotation


def said(annotator: str = "human:ann", aspect: str = "overall", protocol: str = "score") -> Row:
    ids = ["r1"] if protocol == "score" else ["r1", "r2"]
    return annotation(
        group_id="p1",
        prompt_id="p1",
        target_ids=ids,
        protocol=protocol,
        annotator=annotator,
        source="human",
        aspect=aspect,
        scores=[1.0, 0.0][: len(ids)],
    )


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Mean(aspects=("overal",)), "aspects: none fits 'overal' (there are: overall)"),
        (Mean(annotators=("humans:*",)), "annotators: none fits 'humans:*' (there are: human:ann)"),
        (Majority(sources=("people",)), "sources: none fits 'people' (there are: human)"),
        (Mean(weights={"human:bob": 2}), "weights: no annotator fits 'human:bob' (there are: human:ann)"),
        (DawidSkene(aspects=("overal",)), "aspects: none fits 'overal' (there are: overall)"),
    ],
)
def test_an_aggregate_says_which_key_fits_nothing(step: Any, line: str) -> None:
    context = FakeContext()
    run(step, context, annotations=[said(protocol="compare")])
    assert line in context.said
    quiet = FakeContext()
    run(step, quiet)
    assert quiet.said == [], "where there are no annotations no name is wrong"


def test_a_threshold_on_what_nobody_scored_says_what_is_scored() -> None:
    from prefdata.schema import message, prompt, response

    asked = prompt([message("user", "Why?")])
    row = {**response(asked, model="m", text="Because."), "response_id": "r1"}
    context = FakeContext()
    made = run(Threshold(aspect="overal", annotator="human:*", max=0), context, responses=[row],
               annotations=[said()])  # fmt: skip
    assert not made.get("drops") and "(there are: overall by human:ann)" in context.said[-1]
