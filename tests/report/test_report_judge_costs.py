"""What judgements cost, by hand; and how often an attack changes a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from prefdata.report import analyse
from prefdata.report.attacks import _attack
from prefdata.report.page import page
from prefdata.schema import Row, response


def costs(hand: Any, calls: list[Row], **about: Any) -> dict[str, Any]:
    ds = hand.dataset()
    (step,) = ds.snapshot.free_steps
    ds.commit({"calls": [{**one, "step": step} for one in calls], **about}, "calls")
    return {one["name"]: one["costs"] for one in analyse(ds)["judges"]["by"]}


def call(call_id: str, **columns: Any) -> Row:
    return {"call_id": call_id, "model": "m", "money": 0.01, "seconds": 2.0, "cached": False, **columns}


def judged(hand: Any, name: str, n: int, prefix: str, **columns: Any) -> None:
    for place in range(n):
        ids = hand.prompt(f"q{prefix}{place}", "a", "b")
        hand.says(name, ids, [1.0, 0.0], call_id=f"{prefix}{place}0", **columns)
        hand.says(name, ids[::-1], [1.0, 0.0], call_id=f"{prefix}{place}1", **columns)


def test_money_and_seconds_for_a_thousand(hand: Any) -> None:
    """Three pairs in both orders: six calls of one cent and two seconds."""
    judged(hand, "judge:x", 3, "c")
    found = costs(hand, [call(f"c{place}{order}") for place in range(3) for order in range(2)])["judge:x"]
    assert (found["judgements"], found["calls"], found["paid"], found["cached"]) == (6, 6, 6, 0)
    assert (found["money"], found["seconds"]) == (pytest.approx(0.06), 12.0)
    assert (found["money_per_thousand"], found["seconds_per_judgement"]) == (pytest.approx(10.0), 2.0)
    assert (found["money_per_thousand_pairs"], found["seconds_per_pair"]) == (pytest.approx(20.0), 4.0)


def test_what_came_from_a_cache_counts_with_the_mean_of_what_was_paid(hand: Any) -> None:
    judged(hand, "judge:x", 2, "c")
    calls = [call("c00"), call("c01", money=0.03), call("c10", cached=True, money=0.0), call("c11", cached=True)]
    found = costs(hand, calls)["judge:x"]
    assert (found["calls"], found["paid"], found["cached"]) == (4, 2, 2)
    assert (found["money"], found["money_per_thousand"]) == (pytest.approx(0.08), pytest.approx(20.0))


def test_all_from_a_cache_is_not_known(hand: Any) -> None:
    judged(hand, "judge:x", 1, "c")
    found = costs(hand, [call("c00", cached=True, money=0.0), call("c01", cached=True, money=0.0)])["judge:x"]
    assert (found["money"], found["money_per_thousand"], found["seconds_per_judgement"]) == (None, None, None)


def test_an_attempt_that_failed_was_paid_too(hand: Any) -> None:
    judged(hand, "judge:x", 1, "c")
    found = costs(hand, [call("c00", error="cut off", money=0.02), call("c00"), call("c01")])["judge:x"]
    assert (found["calls"], found["money"]) == (2, pytest.approx(0.04))


def test_no_price_is_money_nought_and_no_calls_are_none(hand: Any) -> None:
    judged(hand, "judge:x", 1, "c")
    hand.says("rule:y", hand.prompt("elsewhere", "a", "b"), [1.0, 0.0], source="rule")
    found = costs(hand, [call("c00", money=0.0), call("c01", money=0.0)])
    assert (found["judge:x"]["money_per_thousand"], found["rule:y"]) == (0.0, None)


def test_the_turns_of_a_debate_belong_to_its_judge(hand: Any) -> None:
    """Three calls a verdict, of which the annotation names the last alone."""
    judged(hand, "judge:debate", 1, "c")
    turns = [call(f"{turn}{order}", model=turn) for turn in ("ada", "bob") for order in range(2)]
    found = costs(hand, [call("c00"), call("c01"), *turns])["judge:debate"]
    assert (found["calls"], found["money_per_thousand"]) == (6, pytest.approx(30.0))


def test_in_a_step_of_several_judges_a_call_belongs_to_its_model(hand: Any) -> None:
    judged(hand, "judge:ada", 1, "a")
    judged(hand, "judge:bob", 1, "b")
    calls = [call("a00", model="ada"), call("a01", model="ada"), call("b00", model="bob"), call("b01", model="bob")]
    more = [call("retry", model="bob"), call("stranger", model="eve")]
    about = [{"annotator": f"judge:{name}", "model": name} for name in ("ada", "bob")]
    found = costs(hand, [*calls, *more], annotators=about)
    assert (found["judge:ada"]["calls"], found["judge:bob"]["calls"]) == (2, 3)


def attacked(hand: Any, name: str, original: str, **params: Any) -> str:
    row = response(hand.prompts[name], model="m", text="!", params=params, parent_id=original)
    hand.responses[row["response_id"]] = row
    return str(row["response_id"])


def test_an_attack_by_hand(hand: Any) -> None:
    """Six pairs: the attack turns two defeats into victories, one into a tie; once it does harm; two stay."""
    before, after = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.5, 0.0, 1.0, 0.0]
    for place, (first, then) in enumerate(zip(before, after, strict=True)):
        a, b = hand.prompt(f"q{place}", "a", "b")
        worse = attacked(hand, f"q{place}", a, attack="plead")
        rewritten = attacked(hand, f"q{place}", a, style="short")
        hand.says("judge:x", [a, b], [first, 1 - first])
        hand.says("judge:x", [b, worse], [1 - then, then])
        hand.says("judge:x", [a, worse], [1.0, 0.0])  # the two versions of one: no third response
        hand.says("judge:x", [rewritten, b], [1.0, 0.0])  # no attack
        hand.says("judge:y", [a, b], [0.0, 1.0])  # never saw the attack
    ds = hand.dataset()
    found = analyse(ds)
    (one,) = found["judges"]["attacks"]
    assert (one["name"], one["attack"], one["n"]) == ("judge:x", "plead", 6)
    assert (one["towards"]["part"], one["away"]["part"], one["wins"]["part"]) == (3, 1, 2)
    assert one["undecided"]["part"] == 0
    assert one["towards"]["low"] < 0.5 < one["towards"]["high"]
    assert "What attacks change" in page(found)


def test_a_judge_that_answers_by_position_does_not_withstand_an_attack(hand: Any) -> None:
    for place in range(3):
        a, b = hand.prompt(f"q{place}", "a", "b")
        worse = attacked(hand, f"q{place}", a, attack="plead")
        hand.both_orders("judge:x", [a, b], 1.0, 1.0)
        hand.both_orders("judge:x", [b, worse], 1.0, 1.0)
    found = analyse(hand.dataset())
    (one,) = found["judges"]["attacks"]
    assert (one["towards"]["part"], one["away"]["part"], one["undecided"]["part"]) == (0, 0, 3)
    assert '<span class="badge bad">3 of 3 pairs</span>' in page(found)


def test_parameters_that_name_no_attack() -> None:
    assert _attack('{"attack": "ignore"}') == "ignore"
    for params in ('{"attack": 1}', '{"attack": ""}', '["attack"]', '{"style": "an \\"attack\\""}', "not json"):
        assert _attack(params) is None
