"""helpsteer2: five attributes by several raters, the three that agree most."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS = 8
ATTRIBUTES = {"helpfulness", "correctness", "coherence", "complexity", "verbosity"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str], embedder: str) -> Made:
    return run_recipe(
        "helpsteer2",
        tmp_path_factory.mktemp("helpsteer2"),
        limit=PROMPTS,
        variables={"POLICY": models["one"], "SECOND": models["two"], "ENCODER": embedder},
        sets=["sample.max_tokens=40", "topics.threshold=0.9", "raters.spread=1"],
    )


def ratings(made: Made) -> dict[tuple[str, str], list[float]]:
    """By response and attribute."""
    found = defaultdict(list)
    for row in made.of("raters", "annotations"):
        found[row["target_ids"][0], row["aspect"]].append(row["scores"][0])
    return found


def test_it_is_whole(made: Made) -> None:
    """Duplicates may be dropped before anything is written, so that the plan is an upper bound."""
    check_whole(made, "pairs.parquet", exact=False)


def test_two_answers_by_two_models(made: Made) -> None:
    models = defaultdict(set)
    for row in made.rows("responses"):
        models[row["prompt_id"]].add(row["model"])
    assert all(len(names) == 2 for names in models.values())


def test_raters_are_said_to_be_rules(made: Made) -> None:
    rows = made.of("raters", "annotations")
    assert {row["source"] for row in rows} == {"rule"}
    assert all(row["annotator"].startswith("rule:simulated-") for row in rows)
    assert not made.rows("annotations", source="human")


def test_three_rate_and_five_where_they_differ(made: Made) -> None:
    found = ratings(made)
    assert {aspect for _, aspect in found} == ATTRIBUTES
    assert all(score in range(5) for scores in found.values() for score in scores)
    # The first three, in the order in which they are asked, decide.
    assert Counter(map(len, found.values())).keys() <= {3, 5}
    assert {len(found[response, "helpfulness"]) for response, _ in found} == {3, 5}


def test_the_kept_three_lie_closest_together(made: Made) -> None:
    found = ratings(made)
    consensus = made.of("aggregate.agreeing", "annotations")
    assert {row["aspect"] for row in consensus} == ATTRIBUTES
    for row in consensus:
        scores = found[row["target_ids"][0], row["aspect"]]
        best = min(max(three) - min(three) for three in combinations(scores, 3))
        near = [three for three in combinations(scores, 3) if max(three) - min(three) == best]
        assert row["scores"][0] in {float(int(sum(three) / 3 + 0.5)) for three in near} and row["scores"][0] in range(5)


def test_pairs_are_by_helpfulness_alone(made: Made) -> None:
    helpful = {
        row["target_ids"][0]: row["scores"][0]
        for row in made.of("aggregate.agreeing", "annotations", aspect="helpfulness")
    }
    rows = made.rows("preferences")
    assert rows
    for row in rows:
        first, second = row["response_ids"]
        assert row["aspect"] == "helpfulness" and helpful[first] > helpful[second]
        assert row["edges"][0]["margin"] == helpful[first] - helpful[second]


def test_a_description_is_no_quality(made: Made) -> None:
    kinds = {row["aspect"]: row["protocol"] for row in made.of("raters", "annotations")}
    assert {aspect for aspect, kind in kinds.items() if kind == "measure"} == {"complexity", "verbosity"}
