"""`sample`: which models are asked, with which seeds, and under which ids."""

from __future__ import annotations

import asyncio
from typing import Any

import asked_models
import pytest
from asked_models import Context, group, ids
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.engines.base import Reply
from prefdata.errors import PipelineError
from prefdata.operators.gathering import gather_all
from prefdata.operators.sample import Sample, chosen_from_pool
from prefdata.pipeline.step import Group
from prefdata.schema import Row, message, prompt


def run(step: Sample, context: Any, given_group: Group | None = None) -> list[Row]:
    return asked_models.run(step, context, given_group)["responses"]


def test_draws_differ_in_index_and_seed() -> None:
    context = Context("a")
    rows = run(Sample(engine="a", n=3), context)
    assert [row["sample_index"] for row in rows] == [0, 1, 2] and len(ids(rows)) == 3
    seeds = [request.seed for _, request, _ in context.asked]
    assert len(set(seeds)) == 3 and all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert rows[0]["text"] == "Because." and rows[0]["n_tokens"] == 3 and rows[0]["model"] == "model-a"
    assert '"identity":"http://a"' in rows[0]["params"] and rows[0]["call_id"]


def test_more_draws_prompts_or_models_draw_nothing_anew() -> None:
    def made(step: Sample, *texts: str) -> dict[str, int | None]:
        context = Context("a", "b")
        rows = run(step, context, group(*texts))
        return {row["response_id"]: request.seed for row, (_, request, _) in zip(rows, context.asked, strict=True)}

    base = made(Sample(engine="a", n=2), "p", "q")
    for more in (
        made(Sample(engine="a", n=5), "p", "q"),
        made(Sample(engine=("b", "a"), n=2), "p", "q"),
        made(Sample(engine=("a", "b"), n=2, mode="pool"), "p", "q"),
        made(Sample(engine="a", n=2), "p", "q", "r"),
    ):
        assert base.items() < more.items()
    assert not made(Sample(engine="a", n=2, temperature=0.5), "p", "q").keys() & base.keys()
    other = made(Sample(engine="b", n=2), "p", "q")
    assert not other.keys() & base.keys() and not set(other.values()) & set(base.values())
    assert not made(Sample(engine="a", n=2, system="s"), "p", "q").keys() & base.keys()


NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=8, unique=True)


@given(NAMES, st.text(max_size=5), st.data())
def test_a_larger_pool_only_puts_the_new_model_in_one_place(
    names: list[str], prompt_id: str, data: st.DataObject
) -> None:
    identities = {name: f"id-{name}" for name in names}
    smaller = {name: identities[name] for name in names[1:]}
    m = data.draw(st.integers(1, len(smaller)))
    before, after = set(chosen_from_pool(prompt_id, smaller, m)), set(chosen_from_pool(prompt_id, identities, m))
    assert len(before) == len(after) == m
    assert after - before <= {names[0]} and len(before - after) <= 1
    shuffled = dict(sorted(identities.items(), reverse=True))
    assert set(chosen_from_pool(prompt_id, shuffled, m)) == after, "the order of the list means nothing"


def test_every_model_of_a_pool_gets_its_share() -> None:
    identities = {name: f"id-{name}" for name in "abcd"}
    drawn = [name for number in range(400) for name in chosen_from_pool(str(number), identities, 1)]
    assert all(60 < drawn.count(name) < 140 for name in "abcd")  # 100 expected, sd 8.7


def test_pool_takes_m_models() -> None:
    context = Context("a", "b", "c")
    rows = run(Sample(engine=("a", "b", "c"), mode="pool", m=2, n=2), context, group("p", "q", "r"))
    assert len(rows) == len(context.asked) == 3 * 2 * 2
    for one in group("p", "q", "r").prompts:
        assert len({row["model"] for row in rows if row["prompt_id"] == one["prompt_id"]}) == 2


@pytest.mark.parametrize(
    ("reply", "text", "reason", "tokens"),
    [
        (Reply("x", "stop", completion_tokens=1), "x", "stop", 1),
        (Reply("x", "length", completion_tokens=1), "x", "length", 1),
        (Reply("", "stop", completion_tokens=1), "", "stop", 1),
        (Reply("", "stop"), "", "stop", 0),
        (Reply("x", "stop"), "x", "stop", None),
        (Reply(None, "tool", completion_tokens=4), "", "tool", 4),
        (Reply(None, "refusal"), None, "error", None),
        (Reply("half a", "refusal", completion_tokens=2), None, "error", None),
        (Reply(None, "error"), None, "error", None),
        ("failed", None, "error", None),
        ("timeout", None, "error", None),
        ("refused", None, "error", None),
    ],
)
def test_how_a_draw_ends(reply: Reply | str, text: str | None, reason: str, tokens: int | None) -> None:
    (row,) = run(Sample(engine="a", n=1), Context("a", reply=reply))
    assert (row["text"], row["finish_reason"], row["n_tokens"]) == (text, reason, tokens) and row["call_id"]


def test_a_failed_draw_is_asked_again_under_the_same_id() -> None:
    context = Context("a", reply="timeout")
    (first,) = run(Sample(engine="a", n=1), context)
    context.reply = Reply("Because.")
    (second,) = run(Sample(engine="a", n=1), context)
    assert first["response_id"] == second["response_id"] and second["text"] == "Because."
    assert [revision for _, _, revision in context.asked] == [1, 2]


def test_what_is_asked() -> None:
    context = Context("a")
    step = Sample(engine="a", n=1, temperature=0.3, top_p=0.5, max_tokens=7, stop=("\n",), system="Be brief.")
    run(step, context, Group("g", [prompt([message("system", "Own."), message("user", "Hi")])]))
    request = context.asked[0][1]
    assert [turn["content"] for turn in request.messages] == ["Be brief.\n\nOwn.", "Hi"]
    assert (request.temperature, request.top_p, request.max_tokens, request.stop) == (0.3, 0.5, 7, ("\n",))
    run(step, context)
    assert [turn["role"] for turn in context.asked[1][1].messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"engine": ()}, "empty list"),
        ({}, "names nobody who writes"),
        ({"engine": "a", "members": [{"engine": "a"}]}, "engine or members, not both"),
        ({"members": [{"engine": "a", "temprature": 1}]}, "member 1 has the unknown key 'temprature'; did you mean"),
        ({"members": ["a", {"temperature": 1}]}, "member 2 names no engine"),
        ({"members": ["a", 3]}, "member 2 is neither"),
        ({"members": "a"}, "members is a list"),
        ({"members": [{"engine": "a", "temperature": -1}]}, "greater than or equal to 0"),
        ({"engine": "a", "systems": {"t": {"text": "x", "wieght": 1}}}, "unknown key 'wieght'"),
        ({"members": [{"engine": "a"}], "mode": "pool", "m": 2}, "the pool has 1 members"),
        ({"engine": ("a", "b"), "mode": "ladder", "n": 2}, "leave n out"),
        ({"engine": "a", "mode": "ladder"}, "at least two engines, the strongest first"),
        ({"engine": "a", "mode": "anchor"}, "at least two engines, the teacher first"),
        ({"engine": "a", "mode": "joint", "n": 1}, "n: 2 is the least"),
        ({"engine": "a", "system": "s", "systems": ["t"]}, "system or systems, not both"),
        ({"engine": "a", "systems": [""]}, "empty text"),
        ({"engine": "a", "systems": ["t", "t"]}, "one text twice"),
        ({"engine": "a", "systems": {"t": 0}}, "above 0"),
        ({"engine": "a", "systems": {"t": {"weight": 1}}}, "has no texts"),
        ({"engine": "a", "systems": [3]}, "neither a text nor"),
        ({"engine": "a", "systems": "t"}, "a list of texts, or a mapping"),
        ({"engine": "a", "systems_by_source": {"x": {"t": 1}}}, "which is missing"),
        ({"engine": "a", "systems": ["t"], "systems_by_source": {"x": {"u": 1}}}, "'u' is not in systems"),
        ({"engine": "a", "systems": ["t"], "systems_by_source": {"x": {"t": 0}}}, "no weight is above 0"),
        ({"engine": ("a", "a")}, "twice"),
        ({"engine": "a", "m": 1}, "needs mode: pool"),
        ({"engine": ("a", "b"), "mode": "pool", "m": 3}, "the pool has 2"),
        ({"engine": "a", "n": 0}, "greater than or equal to 1"),
        ({"engine": "a", "top_p": 0}, "greater than 0"),
        ({"engine": "a", "temprature": 1}, "temprature"),
    ],
)
def test_mistakes(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Sample(**fields)


def test_two_names_for_one_model_are_refused() -> None:
    context = Context("a", "b")
    context.engines["b"].model, context.engines["b"].identity = context.engines["a"].model, "http://a"
    with pytest.raises(PipelineError, match="the same model"):
        run(Sample(engine=("a", "b")), context)


def test_equal_draws_at_temperature_zero_are_said() -> None:
    context = Context("a")
    run(Sample(engine="a", temperature=0, n=2), context)
    assert "temperature 0" in context.logged[0]


def test_the_first_error_comes_after_the_others_are_done() -> None:
    done: list[int] = []

    async def work(number: int) -> int:
        if number == 0:
            raise PipelineError("no")
        await asyncio.sleep(0)
        done.append(number)
        return number

    with pytest.raises(PipelineError):
        asyncio.run(gather_all(work(number) for number in range(4)))
    assert done == [1, 2, 3]
    assert asyncio.run(gather_all(work(number) for number in (2, 1))) == [2, 1]
