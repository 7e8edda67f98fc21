"""ultrafeedback: four of a pool, rated under four aspects, with critiques."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import combinations

import pytest
from recipe_run import Made, Rows, check_whole, run_recipe, texts_shown

pytestmark = pytest.mark.slow

PROMPTS, FOUR = 20, 4
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    variables = {"POLICY": models["one"], "SECOND": models["two"]}
    folder = tmp_path_factory.mktemp("ultrafeedback")
    return run_recipe("ultrafeedback", folder, limit=PROMPTS, variables=variables, sets=["sample.max_tokens=8"])


def of_prompts(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = defaultdict(list)
    for row in rows:
        found[row["prompt_id"]].append(row)
    return found


def ratings(made: Made) -> Rows:
    return made.of("judge.score_together", "annotations")


def means(made: Made) -> dict[str, float]:
    """The mean of each response over the aspects that apply to it, from the ratings themselves."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in ratings(made):
        if row["status"] == "ok":
            scores[row["target_ids"][0]] += row["scores"]
    return {one: sum(given) / len(given) for one, given in scores.items()}


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "pairs.parquet", "binarised.parquet")


def test_four_distinct_members_answer_each_prompt(made: Made) -> None:
    prompts = of_prompts(made.rows("responses"))
    assert len(prompts) == PROMPTS
    for rows in prompts.values():
        members = {(row["model"], json.loads(row["params"])["temperature"]) for row in rows}
        assert len(rows) == len(members) == FOUR
    assert len({(row["model"], json.loads(row["params"])["temperature"]) for row in made.rows("responses")}) == 8


def test_each_answer_has_a_principle_and_the_prompt_has_none(made: Made) -> None:
    systems = [json.loads(row["params"])["system"] for row in made.rows("responses")]
    assert all(systems) and len(set(systems)) > 4
    assert all(
        turn["role"] != "system" or turn["content"] not in systems
        for p in made.rows("prompts")
        for turn in p["messages"]
    )
    assert not any(system in json.dumps(entry["body"]) for entry in made.asked for system in set(systems))


def test_it_costs_four_calls_for_the_aspects_and_four_for_the_critiques(made: Made) -> None:
    """20 prompts: 80 completions, 80 calls for aspects, 80 critiques."""
    assert made.calls == {"sample": 80, "judge.score_together": 80, "judge.critique": 80}
    assert len(made.asked) == 160
    assert len(ratings(made)) == 80 * FOUR
    critiques = made.of("judge.critique", "annotations", protocol="critique")
    assert len(critiques) == 80 and all(row["text"] for row in critiques)
    overall = made.of("judge.critique", "annotations", protocol="score")
    assert len(overall) == 80 and {row["call_id"] for row in overall} == {row["call_id"] for row in critiques}


def test_the_judge_was_asked_greedily_and_for_as_much_as_the_paper_says(made: Made) -> None:
    asked = Counter(
        (e["body"]["temperature"], e["body"].get("max_tokens", e["body"].get("max_completion_tokens")))
        for e in made.asked
    )
    assert asked == {(0.0, 500): 80, (0.0, 1024): 80}


def test_each_rating_is_of_the_text_that_stood_under_its_letter(made: Made) -> None:
    """The order is shuffled, and put back: checked on what the judge was shown and what it said."""
    texts = {row["response_id"]: row["text"].strip() for row in made.rows("responses")}
    told: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in ratings(made):
        said = f"{row['scores'][0]:g}" if row["status"] == "ok" else "N/A"
        told[row["call_id"], row["aspect"]].append((texts[row["target_ids"][0]], said))
    expected = []
    for entry in made.asked:
        answer = json.loads(json.loads(entry["sent"])["choices"][0]["message"]["content"])
        if "responses" in answer:
            shown = texts_shown(entry["body"]["messages"][-1]["content"], "ABCD")
            (aspect,) = answer["responses"]["A"]["scores"]
            rated = [(shown[name].strip(), str(said["scores"][aspect])) for name, said in answer["responses"].items()]
            expected.append((aspect, sorted(rated)))
    assert sorted((aspect, sorted(rated)) for (_, aspect), rated in told.items()) == sorted(expected)
    places = [json.loads(row["meta"])["shown"] for row in ratings(made)]
    assert Counter(places) == dict.fromkeys(range(FOUR), 80)


def test_the_order_is_one_for_all_aspects_of_a_prompt_and_another_for_other_prompts(made: Made) -> None:
    orders = defaultdict(set)
    for prompt, rows in of_prompts(ratings(made)).items():
        for aspect in ASPECTS:
            placed = {json.loads(row["meta"])["shown"]: row["target_ids"][0] for row in rows if row["aspect"] == aspect}
            orders[prompt].add(tuple(placed[place] for place in range(FOUR)))
    assert {len(found) for found in orders.values()} == {1}
    ids = [tuple(sorted(order)) == order for found in orders.values() for order in found]
    assert not all(ids)


def test_what_does_not_apply_enters_no_mean(made: Made) -> None:
    without = [row for row in ratings(made) if row["status"] == "abstain"]
    assert len(without) == PROMPTS and {row["aspect"] for row in without} == {"honesty"}
    assert all(row["scores"] is None for row in without)
    consensus = {
        one: score
        for row in made.of("aggregate.mean", "annotations")
        for one, score in zip(row["target_ids"], row["scores"], strict=True)
    }
    assert consensus == pytest.approx(means(made))
    counted = Counter(row["target_ids"][0] for row in ratings(made) if row["status"] == "ok")
    assert Counter(counted.values()) == {4: 80 - PROMPTS, 3: PROMPTS}


def test_every_strict_pair_and_no_equal_one(made: Made) -> None:
    mean, texts = means(made), {row["response_id"]: row["text"] for row in made.rows("responses")}
    strict = set()
    for rows in of_prompts(made.rows("responses")).values():
        for one, other in combinations([row["response_id"] for row in rows], 2):
            if round(mean[one], 9) != round(mean[other], 9) and texts[one].split() != texts[other].split():
                strict.add((one, other) if mean[one] > mean[other] else (other, one))
    assert {tuple(row["response_ids"]) for row in made.of("pairs", "preferences")} == strict
    binarised = made.of("binarised", "preferences")
    assert 0 < len(binarised) <= PROMPTS
    for row in binarised:
        chosen, rejected = row["response_ids"]
        own = [mean[one["response_id"]] for one in made.rows("responses", prompt_id=row["prompt_id"])]
        assert mean[chosen] == max(own) > mean[rejected]
