"""self-reference: a judge that answers first, then criticises, then decides."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS, ORDERS, SAMPLES = 6, 2, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    folder = tmp_path_factory.mktemp("self_reference")
    return run_recipe(
        "self-reference", folder, limit=PROMPTS, variables={"POLICY": models["one"]}, sets=["sample.max_tokens=24"]
    )


def verdicts(made: Made) -> list[dict[str, object]]:
    return made.of("judge.self_reference", "annotations")


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet")


def test_the_own_answer_is_asked_for_once_and_used_everywhere(made: Made) -> None:
    """One own answer for each prompt, and one verdict for each order and sample: two calls would be the least."""
    assert made.calls == {"sample": 2 * PROMPTS, "judge.self_reference": PROMPTS * (1 + ORDERS * SAMPLES)}
    turns = Counter(len(entry["body"]["messages"]) for entry in made.asked)
    assert turns == {1: PROMPTS, 3: PROMPTS * ORDERS * SAMPLES}
    own = {}
    for entry in made.asked:
        if len(entry["body"]["messages"]) == 1:
            said = json.loads(entry["sent"])["choices"][0]["message"]["content"]
            own[entry["body"]["messages"][0]["content"]] = said
    for entry in made.asked:
        if len(entry["body"]["messages"]) == 3:
            question, answer, asked = entry["body"]["messages"]
            assert (answer["role"], answer["content"]) == ("assistant", own[question["content"]])
            assert "Response A" in asked["content"] and "best for humanity" in asked["content"]


def test_it_is_asked_as_the_code_of_the_paper_asks(made: Made) -> None:
    assert {(entry["body"]["temperature"], entry["body"]["top_p"]) for entry in made.asked} == {(0.1, 0.9)}


def test_each_pair_is_shown_in_both_orders_an_odd_number_of_times(made: Made) -> None:
    shown: dict[tuple[str, ...], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for row in verdicts(made):
        assert row["status"] == "ok"
        shown[tuple(sorted(row["target_ids"]))][tuple(row["target_ids"])] += 1
    assert len(shown) == PROMPTS
    assert {count for orders in shown.values() for count in orders.values()} == {SAMPLES}
    assert all(len(orders) == ORDERS for orders in shown.values())


def test_the_majority_of_the_merged_samples_decides(made: Made) -> None:
    """Swap law: a sample votes for a response that wins in both orders; everything else is a tie."""
    votes: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    merged: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for row in verdicts(made):
        first, second = row["target_ids"]
        winner = {1.0: first, 0.0: second, 0.5: "tie"}[row["scores"][0]]
        merged[(*sorted(row["target_ids"]), row["replicate"])].append(winner)
    for (one, other, _), winners in merged.items():
        votes[one, other][winners[0] if len(set(winners)) == 1 else "tie"] += 1
    expected = {}
    for pair, found in votes.items():
        (most, count), *rest = found.most_common()
        if most != "tie" and not (rest and rest[0][1] == count):
            expected[frozenset(pair)] = most
    assert {frozenset(row["response_ids"]): row["response_ids"][0] for row in made.rows("preferences")} == expected
    assert expected
