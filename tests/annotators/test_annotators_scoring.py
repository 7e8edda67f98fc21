"""Judges that write nothing: label probabilities, likelihood, rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefdata.annotators import LabelProbs, Likelihood, Rules, rulebook
from prefdata.engines.base import Reply, Request
from prefdata.schema import Rows, check_annotations, message, prompt

Make = Callable[..., Any]


def run(step: Any, bench: Any) -> Rows:
    rows: Rows = asyncio.run(step.run(bench.group, bench.context))
    check_annotations(rows.get("annotations", []), "test")
    return rows


def test_label_probabilities_in_both_orders(bench: Make) -> None:
    b = bench(lambda request, revision: Reply(values=(0.6, 0.2), mass=0.8), "one", "two")
    rows = run(LabelProbs(engine="judge"), b)["annotations"]
    assert len(rows) == 2 and rows[0]["target_ids"] == rows[1]["target_ids"][::-1]
    assert all(row["scores"] == pytest.approx([0.75, 0.25]) and sum(row["scores"]) == 1 for row in rows)
    assert all("/label-probs/helpfulness@" in row["annotator"] for row in rows)
    request = b.context.asked[0][1]
    assert request.prefix == "The better response is Response" and request.labels == ("A", "B")


@pytest.mark.parametrize(
    ("values", "mass", "status"),
    [
        ((0.5, 0.5), 0.5, "ok"),
        ((0.5, 0.5), 0.499, "unparsed"),
        ((0.5, 0.5), None, "unparsed"),
        ((0.5, 0.5), float("nan"), "unparsed"),
        ((float("nan"), 0.5), 0.9, "unparsed"),
        ((0.0, 0.0), 0.9, "unparsed"),
        ((-0.1, 1.1), 0.9, "unparsed"),
        ((1.0,), 0.9, "unparsed"),
        ((), 0.9, "unparsed"),
    ],
)
def test_too_little_mass_is_no_verdict(bench: Make, values: Any, mass: float | None, status: str) -> None:
    b = bench(lambda request, revision: Reply(values=values, mass=mass), "one", "two")
    for row in run(LabelProbs(engine="judge"), b)["annotations"]:
        assert row["status"] == status and (row["scores"] is None) == (status != "ok")


def test_labels_are_two(bench: Make) -> None:
    with pytest.raises(ValidationError, match="two different texts"):
        LabelProbs(engine="judge", labels=("A", " A"))


def likelihoods(request: Request, revision: int) -> Reply:
    if request.messages:
        return Reply(values=(-1.0, -2.0, -3.0, -4.0))
    return Reply(values=(-2.0, -6.0, -4.0))


def test_likelihood_arithmetic(bench: Make) -> None:
    b = bench(likelihoods, "text")
    (row,) = run(Likelihood(engine="judge"), b)["annotations"]
    assert row["scores"] == [-2.5 - -4.0] and row["aspect"] == "overall" and row["source"] == "likelihood"
    assert row["annotator"] == "likelihood:llama/cond-minus-uncond"
    conditional, unconditional = sorted((request for _, request, _ in b.context.asked), key=lambda r: not r.messages)
    assert conditional.continuation == unconditional.continuation == "text" and unconditional.messages == ()

    b = bench(likelihoods, "text")
    (row,) = run(Likelihood(engine="judge", mode="conditional", aspect="likelihood"), b)["annotations"]
    assert row["scores"] == [-2.5] and row["aspect"] == "likelihood" and len(b.context.asked) == 1


def test_likelihood_of_nothing_is_abstained_from(bench: Make) -> None:
    b = bench(likelihoods, "")
    (row,) = run(Likelihood(engine="judge"), b)["annotations"]
    assert row["status"] == "abstain" and row["scores"] is None and not b.context.asked


@pytest.mark.parametrize(
    ("reply", "status"),
    [("timeout", "timeout"), (Reply(values=()), "unparsed"), (Reply(values=(float("-inf"),)), "unparsed")],
)
def test_likelihood_with_half_an_answer_has_no_score(bench: Make, reply: Reply | str, status: str) -> None:
    b = bench(lambda request, revision: reply if not request.messages else Reply(values=(-1.0,)), "text")
    (row,) = run(Likelihood(engine="judge"), b)["annotations"]
    assert row["status"] == status and row["scores"] is None


def test_rules_by_mean_and_one_by_one(bench: Make) -> None:
    text = "The sky is blue because the air scatters short waves of light more than it does the long ones."
    b = bench(likelihoods, text, "")
    rows = run(Rules(), b)
    good, empty = (
        next(r for r in rows["annotations"] if r["target_ids"] == [one["response_id"]])
        for one in sorted(b.group.responses, key=lambda one: -len(one["text"]))
    )
    assert good["scores"] == [1.0] and good["annotator"] == "rule:length+language+repetition+format"
    assert empty["scores"] == [0.0], "language and repetition cannot tell, and count for nothing"
    assert good["aspect"] == "overall" and good["source"] == "rule"
    rows = run(Rules(combine="none", rules=("length", "repetition")), b)
    assert {(row["annotator"], row["aspect"]) for row in rows["annotations"]} == {
        ("rule:length", "length"),
        ("rule:repetition", "repetition"),
    }
    missing = next(
        r for r in rows["annotations"] if r["aspect"] == "repetition" and r["target_ids"] == empty["target_ids"]
    )
    assert missing["status"] == "abstain" and missing["scores"] is None
    assert not b.context.asked


def test_the_band_is_part_of_the_id(bench: Make) -> None:
    def ids(step: Rules) -> set[str]:
        return {row["annotation_id"] for row in run(step, bench(likelihoods, "one two"))["annotations"]}

    assert ids(Rules()) != ids(Rules(most_words=60))
    assert ids(Rules(rules=("format",))) == ids(Rules(rules=("format",), most_words=60))


@pytest.mark.parametrize(
    "fields",
    [{"rules": ()}, {"rules": ("length", "length")}, {"least_words": 9, "most_words": 3}, {"rules": ("tone",)}],
)
def test_rules_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rules(**fields)


def test_length() -> None:
    assert rulebook.length("one two three four five", 10, 20) == 0.5
    assert rulebook.length("w " * 40, 10, 20) == 0.5
    assert rulebook.length("w " * 15, 10, 20) == 1.0
    assert rulebook.length("", 10, 20) == 0.0
    assert len(rulebook.words("天空为什么是蓝色的")) == 9 and rulebook.words("It's OK") == ["it's", "ok"]


def test_repetition() -> None:
    assert rulebook.repetition("a b c d e") == 1.0
    assert rulebook.repetition("a a a a a a") == 0.25  # 4 trigrams, 1 of them new
    assert rulebook.repetition("a b") is None


@given(st.text())
def test_every_rule_is_a_share_or_missing(text: str) -> None:
    for score in (
        rulebook.length(text, 5, 50),
        rulebook.repetition(text),
        rulebook.refusal(text),
        rulebook.well_formed(text, "stop"),
        rulebook.language(text, text),
    ):
        assert score is None or 0 <= score <= 1
    assert rulebook.language(text, text) in (None, 1.0), "a text is in its own language"


GERMAN = "Der Himmel ist blau, weil die Luft das kurzwellige Licht mehr streut, und das ist nicht neu."
ENGLISH = "The sky is blue because the air scatters the short waves, and that is what you see with your eyes."


@pytest.mark.parametrize(
    ("asked", "said", "score"),
    [
        (ENGLISH, ENGLISH, 1.0),
        (ENGLISH, GERMAN, 0.0),
        (GERMAN, ENGLISH, 0.0),
        ("为什么天空是蓝色的？", "因为空气散射蓝光。", 1.0),
        ("为什么天空是蓝色的？", ENGLISH, 0.0),
        ("なぜ空は青いのですか。", "空気が青い光を散乱するからです。", 1.0),
        ("なぜ空は青いのですか。", "因为空气散射蓝光比红光更多。", 0.0),
        ("Почему небо голубое?", ENGLISH, 0.0),
        (ENGLISH, "42", None),
        (ENGLISH, "", None),
    ],
)
def test_language(asked: str, said: str, score: float | None) -> None:
    assert rulebook.language(asked, said) == score


def test_language_reads_the_last_user_turn(bench: Make) -> None:
    row = prompt([message("user", ENGLISH), message("assistant", ENGLISH), message("user", GERMAN)])
    b = bench(likelihoods, GERMAN, row=row)
    (made,) = run(Rules(rules=("language",)), b)["annotations"]
    assert made["scores"] == [1.0]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("I'm sorry, but I can't help with that.", 0.0),
        ("I’m sorry, but I can’t help with that.", 0.0),
        ("As an AI language model, I have no opinion.", 0.0),
        ("很抱歉，我无法帮助。", 0.0),
        ("Sure. Here is a poem about how sorry I once was.", 1.0),
        ("The sky is blue. " * 20 + "I cannot say more.", 1.0),
        ("", 1.0),
    ],
)
def test_refusal(text: str, score: float) -> None:
    assert rulebook.refusal(text) == score


@pytest.mark.parametrize(
    ("text", "reason", "score"),
    [
        ("A sentence that ends as sentences do.", "stop", 1.0),
        ("A sentence that was cut somewhere in the", "stop", 0.5),
        ("Paris", "stop", 1.0),
        ("Paris", "length", 0.5),
        ("Steps:\n- one thing\n- and another", "stop", 1.0),
        ("Steps:\n- one thing\n- and ano", "length", 0.5),
        ("```python\nprint(1)\n```", "stop", 1.0),
        ("```python\nprint(1)", "length", 0.0),
        ("   ", "stop", 0.0),
    ],
)
def test_format(text: str, reason: str, score: float) -> None:
    assert rulebook.well_formed(text, reason) == score


def test_importing_the_annotators_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, prefdata.annotators; print([m for m in ('torch', 'transformers', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
