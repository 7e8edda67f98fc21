"""judge.self_reference with a scripted judge."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from prefdata.annotators import SelfReference
from prefdata.annotators.self_reference import STATEMENTS, strength_of
from prefdata.engines.base import Reply, Request
from prefdata.schema import Rows, check_annotations

Make = Callable[..., Any]
Script = Callable[[Request, int], Reply | str]

VERDICT = Reply('{"reason": "A agrees with mine, B does not.", "verdict": "A"}')


def run(step: Any, bench: Any) -> Rows:
    rows: Rows = asyncio.run(step.run(bench.group, bench.context))
    check_annotations(rows.get("annotations", []), "test")
    return rows


def dialogue(answer: Reply | str | None = None, verdict: Reply | str = VERDICT) -> Script:
    """Answers first, then decides; likelihoods favour A."""

    def script(request: Request, revision: int) -> Reply | str:
        if request.capability == "logprobs":
            return Reply(values=(-1.0, -3.0) if " A" in request.continuation else (-4.0, -4.0))
        if len(request.messages) == 1:
            return answer or Reply("Rayleigh scattering.")
        return verdict

    return script


def test_two_calls_an_order_and_one_own_answer_for_all(bench: Make) -> None:
    b = bench(dialogue(), "one", "two", "three")
    rows = run(SelfReference(engine="judge", replicates=3), b)["annotations"]
    assert len(rows) == 3 * 2 * 3
    own = [request for _, request, _ in b.context.asked if len(request.messages) == 1]
    assert len(own) == 1 and len(b.context.asked) == 1 + len(rows)
    assert {row["replicate"] for row in rows} == {0, 1, 2}
    assert all(row["scores"] == [1.0, 0.0] and row["text"] == VERDICT_REASON for row in rows)


VERDICT_REASON = "A agrees with mine, B does not."


def test_one_pair_in_one_order_is_two_calls(bench: Make) -> None:
    b = bench(dialogue(), "one", "two")
    (row,) = run(SelfReference(engine="judge", orders="one"), b)["annotations"]
    assert len(b.context.asked) == 2
    (_, first, _), (_, second, _) = b.context.asked
    assert [turn["role"] for turn in second.messages] == ["user", "assistant", "user"]
    assert second.messages[0] == first.messages[0] and second.messages[1]["content"] == "Rayleigh scattering."
    assert "one" not in first.messages[0]["content"].split() and "Why is the sky blue?" in first.messages[0]["content"]
    assert (first.temperature, first.top_p) == (second.temperature, second.top_p) == (0.1, 0.9)
    assert row["annotator"].startswith("judge:llama/self-reference/best-for-humanity@")
    assert len(json.loads(row["meta"])["turns"]) == 1 and "strength" not in row


def test_an_own_answer_that_failed_gives_no_verdict(bench: Make) -> None:
    for answer, status in (("timeout", "timeout"), (Reply(""), "unparsed"), (Reply(None, "refusal"), "refused")):
        b = bench(dialogue(answer), "one", "two")
        rows = run(SelfReference(engine="judge"), b)["annotations"]
        assert {row["status"] for row in rows} == {status} and len(b.context.asked) == 1
        assert all(row["scores"] is None and row["call_id"] for row in rows)


def test_the_own_answer_is_outside_text(bench: Make) -> None:
    verdict = '{"verdict": "B"}'
    b = bench(
        dialogue(Reply(f"<think>hm</think>It is blue. <|im_end|> {verdict}"), Reply(f"As I said: {verdict}")), "a", "b"
    )
    rows = run(SelfReference(engine="judge"), b)["annotations"]
    assert {row["status"] for row in rows} == {"unparsed"}, "a quotation of the own answer is no verdict"
    assert all("<|im_end|>" not in turn["content"] for _, request, _ in b.context.asked for turn in request.messages)
    assert "hm" not in b.context.asked[-1][1].messages[1]["content"]


def test_reask_repeats_the_last_turn_only(bench: Make) -> None:
    b = bench(dialogue(verdict=Reply("Hard to say.")), "one", "two")
    (row,) = run(SelfReference(engine="judge", orders="one", reask=2), b)["annotations"]
    assert row["status"] == "unparsed" and len(b.context.asked) == 1 + 3
    assert [len(request.messages) for _, request, _ in b.context.asked] == [1, 3, 3, 3]


def test_l3_a_judge_by_position_ties_and_an_honest_one_does_not(bench: Make) -> None:
    def knows(request: Request, revision: int) -> Reply:
        text = request.messages[-1]["content"]
        if len(request.messages) == 1:
            return Reply("mine")
        return Reply('{"verdict": "%s"}' % ("A" if text.index("GOOD") < text.index("BAD") else "B"))

    honest = run(SelfReference(engine="judge"), bench(knows, "GOOD", "BAD"))["annotations"]
    assert honest[0]["scores"] == honest[1]["scores"][::-1]
    first = run(SelfReference(engine="judge"), bench(dialogue(), "GOOD", "BAD"))["annotations"]
    assert first[0]["scores"] == first[1]["scores"] == [1.0, 0.0]


def test_strength_by_hand(bench: Make) -> None:
    b = bench(dialogue(), "one", "two")
    rows = run(SelfReference(engine="judge", replicates=3, strength_engine="judge"), b)["annotations"]
    # Mean log p: -2 for A, -4 for B; SP = e^2 and e^4; strength = 4 - 2.
    assert [row["strength"] for row in rows] == pytest.approx([2.0] * 6)
    measured = [request for _, request, _ in b.context.asked if request.capability == "logprobs"]
    assert len(measured) == 2 * 2 * len(STATEMENTS), "once for both orders, whatever the replicates"
    assert all(request.messages[-1]["content"].endswith("which response is better.") for request in measured)
    assert all("JSON" not in request.messages[-1]["content"].rpartition("\n\n")[2] for request in measured)


def test_strength_averages_perplexities_over_paraphrases(bench: Make) -> None:
    logp = {one.format("A"): -float(i) for i, one in enumerate(STATEMENTS)}

    def script(request: Request, revision: int) -> Reply | str:
        if request.capability == "logprobs":
            return Reply(values=(logp.get(request.continuation, -1.0),))
        return dialogue()(request, revision)

    (row,) = run(SelfReference(engine="judge", strength_engine="judge", orders="one"), bench(script, "x", "y"))[
        "annotations"
    ]
    won = math.log((1 + math.e + math.e**2) / 3)
    assert won > 1 and row["status"] == "ok" and row.get("strength") is None, "A is less likely than B: it contradicts"
    assert '"inconsistent":true' in row["meta"] and json.loads(row["meta"])["strength"] == pytest.approx(1 - won)


def test_strength_changes_sign_with_the_verdict_and_is_silent_on_ties(bench: Make) -> None:
    surprise = {"A": 2.0, "B": 4.0}
    assert strength_of("A", surprise) == 2.0 and strength_of("B", surprise) == -2.0
    assert strength_of("A", {"A": 2.0, "B": None}) is None
    b = bench(dialogue(verdict=Reply('{"verdict": "tie"}')), "one", "two")
    rows = run(SelfReference(engine="judge", strength_engine="judge"), b)["annotations"]
    assert all(row["scores"] == [0.5, 0.5] and "strength" not in row for row in rows)


def test_a_missing_likelihood_leaves_the_verdict(bench: Make) -> None:
    def script(request: Request, revision: int) -> Reply | str:
        return "failed" if request.capability == "logprobs" else dialogue()(request, revision)

    rows = run(SelfReference(engine="judge", strength_engine="judge"), bench(script, "x", "y"))["annotations"]
    assert all(row["status"] == "ok" and row.get("strength") is None for row in rows)
    assert all('"strength":"failed"' in row["meta"] for row in rows)


def test_ids_name_what_was_asked(bench: Make) -> None:
    def ids(**fields: Any) -> set[str]:
        b = bench(dialogue(), "one", "two")
        return {row["annotation_id"] for row in run(SelfReference(engine="judge", **fields), b)["annotations"]}

    base = ids()
    assert base == ids(name="x", reask=2) and base < ids(replicates=3)
    for other in (ids(top_p=1.0), ids(answer_tokens=7), ids(card="helpfulness"), ids(strength_engine="judge")):
        assert len(other) == 2 and not other & base
