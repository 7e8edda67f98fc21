"""fellowship: answers refined by a reviewer, judged by judge, jury and debate."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS, ROUNDS, PAIRS = 4, 2, 3
JURY = 2
SETS = [
    *(f"{name}.max_tokens=40" for name in ("draft", "other", "version-2", "version-3")),
    *(f"{name}.least_ratio=0" for name in ("version-2", "version-3")),
    *(f"{name}.most_ratio=100" for name in ("version-2", "version-3")),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Made:
    variables = {"POLICY": models["one"], "SECOND": models["two"]}
    return run_recipe(
        "fellowship", tmp_path_factory.mktemp("fellowship"), limit=PROMPTS, variables=variables, sets=SETS
    )


def test_it_is_whole(made: Made) -> None:
    """A refinement may be dropped, so that the plan is an upper bound."""
    check_whole(made, "pairs.parquet", "improved.parquet", exact=False)


def test_n_rounds_make_n_plus_1_versions_each_the_parent_of_the_next(made: Made) -> None:
    steps = ("draft", "version-2", "version-3")
    versions = [made.of(step, "responses") for step in steps]
    assert [len(rows) for rows in versions] == [PROMPTS] * (ROUNDS + 1)
    assert all(row["parent_id"] is None for row in versions[0])
    for before, after in pairwise(versions):
        assert {row["parent_id"] for row in after} == {row["response_id"] for row in before}
    prompt_of = {row["response_id"]: row["prompt_id"] for rows in versions for row in rows}
    assert all(prompt_of[row["parent_id"]] == row["prompt_id"] for rows in versions[1:] for row in rows)


def test_each_version_heeds_the_critique_of_the_one_before(made: Made) -> None:
    for number in (1, 2):
        critiques = {
            row["target_ids"][0]: row for row in made.of(f"feedback-{number}", "annotations", protocol="critique")
        }
        assert len(critiques) == PROMPTS and all(row["text"] for row in critiques.values())
        for row in made.of(f"version-{number + 1}", "responses"):
            heeded = json.loads(row["params"])["critiques"]
            assert [one for one, _ in heeded] == [critiques[row["parent_id"]]["annotation_id"]]


def test_what_jury_and_debate_cost(made: Made) -> None:
    """Each in both orders: a jury of J costs J judges, a debate of one round 2 * 1 + 1 calls."""
    shown = PROMPTS * PAIRS * 2
    assert made.calls == {
        **dict.fromkeys(("draft", "other", "feedback-1", "version-2", "feedback-2", "version-3"), PROMPTS),
        "together": PROMPTS,
        "judge": shown,
        "jury": JURY * shown,
        "debate": (2 * 1 + 1) * shown,
    }


def test_every_juror_speaks_for_itself(made: Made) -> None:
    counts = Counter(row["annotator"] for row in made.of("jury", "annotations"))
    assert len(counts) == JURY and set(counts.values()) == {PROMPTS * PAIRS * 2}
    assert {row["source"] for row in made.of("aggregate.majority", "annotations")} == {"consensus"}


def test_the_debate_is_kept(made: Made) -> None:
    for row in made.of("debate", "annotations"):
        assert "Advocate of A, round 1: " in row["text"] and "Advocate of B, round 1: " in row["text"]


def test_the_majority_makes_the_pairs(made: Made) -> None:
    """Four votes on each pair: judge, two jurors, debate; each merged from its two orders."""
    orders: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for step in ("judge", "jury", "debate"):
        for row in made.of(step, "annotations"):
            if row["status"] == "ok":
                first, second = row["target_ids"]
                margin = row["scores"][0] - row["scores"][1]
                winner = first if margin > 0 else second if margin < 0 else "tie"
                orders[(*sorted(row["target_ids"]), step, row["annotator"])].append(winner)
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (one, other, _, _), winners in orders.items():
        votes[one, other][winners[0] if len(set(winners)) == 1 else "tie"] += 1
    expected = set()
    for (one, other), found in votes.items():
        (most, count), *rest = found.most_common()
        if most != "tie" and not (rest and rest[0][1] == count):
            expected.add((most, other if most == one else one))
    assert {tuple(row["response_ids"]) for row in made.of("voted", "preferences")} == expected
    assert expected


def test_the_last_version_stands_over_the_first(made: Made) -> None:
    steps = {row["response_id"]: row["step"].partition("@")[0] for row in made.rows("responses")}
    pairs = made.of("improved", "preferences")
    assert len(pairs) == PROMPTS
    assert {tuple(steps[one] for one in row["response_ids"]) for row in pairs} == {("version-3", "draft")}


def test_a_debate_without_rounds_is_the_judge_and_a_jury_of_one_its_member(
    tmp_path: Path, made: Made, models: dict[str, str]
) -> None:
    variables = {"POLICY": models["one"], "SECOND": models["two"]}
    sets = [*SETS, "debate.rounds=0", "jury.engine=[generator]"]
    plain = run_recipe("fellowship", tmp_path, limit=1, variables=variables, sets=sets)
    shown = PAIRS * 2
    assert (plain.calls["judge"], plain.calls["jury"], plain.calls["debate"]) == (shown, shown, 0)

    def verdicts(run: Made, step: str) -> dict[str, str]:
        return {row["annotation_id"]: str((row["status"], row["scores"])) for row in run.of(step, "annotations")}

    assert verdicts(plain, "debate") == verdicts(plain, "judge")
    # Of the first prompt, drafts and rivals are the same in both runs; a version goes by the judge's critiques.
    assert len(verdicts(plain, "jury").items() & verdicts(made, "jury").items()) == 2
    (alone,) = {row["annotator"] for row in plain.of("jury", "annotations")}
    assert alone in {row["annotator"] for row in made.of("jury", "annotations")}
