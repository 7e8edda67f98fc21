"""judge.choose: the best one, and nothing about the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from annotators_said import blocks, run

from prefdata.annotators import Choose
from prefdata.dataset.parts import frame_of
from prefdata.engines.base import Reply, Request
from prefdata.operators.evidence import comparisons, lists_of
from prefdata.schema import arrow_table

Make = Callable[..., Any]


def longest(request: Request, revision: int) -> Reply:
    shown = blocks(request.messages[-1]["content"])
    best = max((name for name in shown if name.startswith("Response")), key=lambda name: len(shown[name]))
    return Reply(json.dumps({"reason": "it is longest", "choice": best.removeprefix("Response ")}))


def test_one_is_chosen_and_the_rest_stand_in_no_order(bench: Make) -> None:
    b = bench(longest, "x", "xx", "xxx")
    (row,) = run(Choose(engine="judge"), b)["annotations"]
    texts = {one["response_id"]: one["text"] for one in b.group.responses}
    assert row["scores"] == [float(texts[target] == "xxx") for target in row["target_ids"]]
    assert row["protocol"] == "choose" and row["text"] == "it is longest"
    said = comparisons(lists_of(pl.DataFrame(frame_of("annotations", arrow_table("annotations", [row])))))
    assert said.height == 2, "the chosen against each other, and these against nobody"


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ('{"choice": "B"}', 1),
        ('{"choice": " response b "}', 1),
        ("I compared them.\n\n**Choice:** B", 1),
        ('{"choice": "D"}', None),
        ('{"choice": ["B"]}', None),
        ('{"choice": "A or B"}', None),
        ('{"choice": 1}', None),
        ('{"choice": ""}', None),
        ("B", None),
        ("[[B]]", None),
        ("Choice: B\nChoice: C", None),
        ("Choice: B, or rather C", None),
        ("Response B is the best choice: it is right.", None),
    ],
)
def test_what_is_no_choice_is_unparsed(bench: Make, text: str, chosen: int | None) -> None:
    (row,) = run(Choose(engine="judge"), bench(lambda request, revision: Reply(text), *"xyz"))["annotations"]
    assert row["status"] == ("unparsed" if chosen is None else "ok")
    assert row["scores"] == (None if chosen is None else [float(place == chosen) for place in range(3)])


def test_calls(bench: Make) -> None:
    b = bench(longest, *"abc")
    assert len(run(Choose(engine="judge", replicates=3), b)["annotations"]) == len(b.context.asked) == 3
    assert run(Choose(engine="judge"), bench(longest, "a")) == {}
