"""The laws of a policy's own preference, and hand-computed numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from annotators_measured import Measured, by_letters, group_of, judged
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import SelfPreference
from prefdata.engines.base import Reply
from prefdata.errors import PipelineError

RATES = st.floats(-3, -0.1)
WORDS = st.text("ab ", min_size=1, max_size=12).filter(str.strip)


def two(policy: float = -1.0, reference: float = -2.0) -> Measured:
    return Measured({"policy": ("after", by_letters(policy)), "reference": ("before", by_letters(reference))})


def step(**fields: Any) -> SelfPreference:
    return SelfPreference(**{"policy": "policy", "reference": "reference", **fields})


def preferred(chosen: SelfPreference, texts: list[str], context: Measured) -> dict[str, float]:
    """P(it is better), by text."""
    group = group_of(*texts)
    told = {one["response_id"]: one["text"] for one in group.responses}
    (row,) = judged(chosen, group, context)
    assert row["protocol"] == "compare" and row["source"] == "likelihood"
    return {told[one]: score for one, score in zip(row["target_ids"], row["scores"], strict=True)}


@pytest.mark.parametrize(
    ("fields", "margin"),
    [({}, 0.1 * (3 - 7)), ({"beta": 1.0, "per": "token"}, 3 - 3.5), ({"per": "byte"}, 0.1 * 0.125)],
)
def test_by_hand(fields: dict[str, Any], margin: float) -> None:
    # log pi/ref is the number of letters: 3 (of 3 bytes, 1 word) and 7 (of 8 bytes, 2 words).
    found = preferred(step(**fields), ["abc", "abc abab"], two())
    assert found["abc"] == pytest.approx(1 / (1 + math.exp(-margin))) and sum(found.values()) == 1.0


def test_the_name_says_what_is_not_the_default() -> None:
    (row,) = judged(step(beta=1.0, per="token"), group_of("a", "b"), two())
    assert row["annotator"] == "likelihood:after-over-before/self-preference/per-token/beta-1"
    (row,) = judged(step(), group_of("a", "b"), two())
    assert row["annotator"] == "likelihood:after-over-before/self-preference"


@given(WORDS, WORDS, RATES, RATES)
def test_the_two_probabilities_are_complements(one: str, other: str, policy: float, reference: float) -> None:
    if one != other:
        there = preferred(step(), [one, other], two(policy, reference))
        back = preferred(step(), [one, other], two(reference, policy))
        assert sum(there.values()) == 1.0
        assert there[one] == pytest.approx(back[other], abs=1e-12), "the models swapped prefer the other one"


@given(WORDS, WORDS, RATES)
def test_a_policy_that_is_its_reference_prefers_nothing(one: str, other: str, rate: float) -> None:
    if one != other:
        assert set(preferred(step(), [one, other], two(rate, rate)).values()) == {0.5}


def test_two_requests_a_response_however_many_pairs() -> None:
    context = two()
    rows = judged(step(), group_of("a", "bb", "ccc", "dddd"), context)
    assert len(rows) == 6 and len(context.asked) == 8
    assert len(judged(step(pairs=2), group_of("a", "bb", "ccc", "dddd"), two())) == 2


def test_a_pair_with_nothing_said_is_abstained_from() -> None:
    rows = judged(step(), group_of("a", "", "bb"), two())
    assert sorted(row["status"] for row in rows) == ["abstain", "abstain", "ok"]


@pytest.mark.parametrize(
    ("reply", "status"), [("failed", "failed"), (Reply(), "unparsed"), (Reply(values=(float("nan"),)), "unparsed")]
)
def test_half_an_answer_is_no_verdict(reply: Reply | str, status: str) -> None:
    context = Measured({"policy": ("after", by_letters(-1)), "reference": ("before", lambda request: reply)})
    (row,) = judged(step(), group_of("a", "bb"), context)
    assert row["status"] == status and row["scores"] is None


def test_other_tokenizers_want_bytes() -> None:
    other = Measured({"policy": ("S", by_letters(-1)), "reference": ("G", lambda request: Reply(values=(-1.0,) * 9))})
    with pytest.raises(PipelineError, match="set per: byte"):
        judged(step(), group_of("a b", "bb b"), other)
    assert judged(step(per="byte"), group_of("a b", "bb b"), other)[0]["status"] == "ok"
