"""judge.displacement: CHES from an engine's hidden states; and the engine that gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefdata.annotators import Displacement
from prefdata.engines.base import Reply, Request
from prefdata.engines.scripted import ScriptedEngine
from prefdata.schema import Row, check_annotations, message, preference
from prefdata.stats.displacement import ches

Make = Callable[..., Any]
STATES = {"one": (2.0, 1.0, 1.0, 0.0, 1.0), "two": (2.0, 2.0, 1.0, 1.0, 1.0)}
"""The reference's example: tokens, the sum of h_w = [[1,0],[0,1]] and h_l = [[1,0],[1,1]], and the last state."""


def judged(b: Any) -> dict[str, Row]:
    rows = asyncio.run(Displacement(engine="judge").run(b.group, b.context)).get("annotations", [])
    check_annotations(rows, "test")
    return {row["aspect"]: row for row in rows}


def paired(b: Any, better: str, worse: str) -> Any:
    of = {row["text"]: row["response_id"] for row in b.group.responses}
    row = preference(
        group_id=b.group.group_id, prompt_id=b.group.group_id, response_ids=[of[better], of[worse]], scores=[2.0, 1.0]
    )
    b.group.preferences.append({**dict.fromkeys(("roles", "prompt_ids", "edges")), **row})
    return b


def script(request: Request, revision: int) -> Reply:
    assert request.capability == "states" and request.messages[-1]["role"] == "user"
    return Reply(values=STATES[request.continuation])


def test_ches_of_the_reference(bench: Make) -> None:
    b = paired(bench(script, "one", "two"), "one", "two")
    found = judged(b)
    assert {aspect: row["scores"] for aspect, row in found.items()} == {
        "ches": [1.0],
        "ches_ln": [0.25],
        "last_state": [1.0],
    }
    row = found["ches"]
    assert (row["target"], row["protocol"], row["source"]) == ("preference", "measure", "likelihood")
    assert row["annotator"] == "likelihood:llama/displacement" and len(b.context.asked) == 2
    judged(b)
    assert len(b.context.asked) == 2, "what is there is not asked again"


def test_the_other_way_round_and_a_text_against_itself(bench: Make) -> None:
    turned = judged(paired(bench(script, "one", "two"), "two", "one"))
    assert turned["ches"]["scores"] != [1.0]
    same = judged(paired(bench(lambda r, _: Reply(values=STATES["one"]), "one", "two"), "one", "two"))
    assert same["ches"]["scores"] == [0.0] and same["ches_ln"]["scores"] == [0.0]


@pytest.mark.parametrize("values", [(), (-1.0,), (2.0, 1.0), (2.0, float("nan"), 1.0), (2.0, float("inf"), 1.0)])
def test_states_that_cannot_be_read_are_no_number(bench: Make, values: tuple[float, ...]) -> None:
    found = judged(paired(bench(lambda r, _: Reply(values=values), "one", "two"), "one", "two"))
    assert {row["status"] for row in found.values()} == {"unparsed"} and found["ches"]["scores"] is None


def test_a_failed_call_and_no_pair(bench: Make) -> None:
    found = judged(paired(bench(lambda r, _: "failed", "one", "two"), "one", "two"))
    assert {row["status"] for row in found.values()} == {"failed"}
    assert judged(bench(script, "one", "two")) == {}


def test_the_scripted_engine_has_states() -> None:
    ask = ScriptedEngine().answer
    one, more = (ask(Request("states", (message("user", "Why?"),), continuation=text)) for text in ("a b c", "a b c d"))
    assert one.values[0] == 3 and more.values[0] == 4 and len(one.values) == len(more.values) == 1 + 2 * 64
    assert one.values == ask(Request("states", (message("user", "Why?"),), continuation="a b c")).values


@pytest.mark.model
def test_states_of_a_real_model(smollm2: Path) -> None:
    """The engine's sums are those of the model's own hidden states, and batches change nothing."""
    import torch

    from prefdata.engines.local_model import CausalModel

    model = CausalModel(str(smollm2))
    turns = (message("user", "Name a colour."),)
    texts = ("Blue.", "Green, because of the leaves in spring.")
    asked = [model.prepare(Request("states", turns, continuation=text)) for text in texts]
    together = model.answer(asked)
    for row, reply in zip(asked, together, strict=True):
        ids = torch.tensor([row.prompt + row.continuation])
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states[-1][0]
        start, n = len(row.prompt), len(row.continuation)
        width = states.shape[-1]
        np.testing.assert_allclose(reply.values[1 : 1 + width], states[start - 1 : -1].sum(0), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(reply.values[1 + width :], states[-1], rtol=1e-4, atol=1e-4)
        assert reply.values[0] == n == states.shape[0] - start
        assert reply.values == model.answer([row])[0].values
    sums = [np.array(reply.values[1 : 1 + width]) for reply in together]
    same = ches(sums[0], sums[0], together[0].values[0], together[0].values[0])
    assert same.ches[0] == 0 and same.ches_ln[0] == 0
