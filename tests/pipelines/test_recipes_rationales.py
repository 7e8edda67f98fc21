"""rationales: pairs with the reasons for their label."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from recipe_run import Made, check_whole, run_recipe

pytestmark = pytest.mark.slow

PROMPTS = 6
COLUMNS = re.compile(
    r"\b(chosen|rejected|dataset|preference_id|response_ids?|prompt_id|annotation_ids?)\b", re.IGNORECASE
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run_recipe("rationales", tmp_path_factory.mktemp("rationales"), limit=PROMPTS)


def rationales(made: Made) -> list[dict[str, object]]:
    return made.rows("annotations", target="preference", protocol="critique")


def test_it_is_whole(made: Made) -> None:
    check_whole(made, "lists.parquet")


def test_each_pair_has_a_general_and_a_specific_rationale(made: Made) -> None:
    assert made.calls == {"general": PROMPTS, "specific": PROMPTS}
    of = Counter((row["target_ids"][0], row["step"].partition("@")[0]) for row in rationales(made))
    pairs = [row["preference_id"] for row in made.rows("preferences")]
    assert of == {(pair, detail): 1 for pair in pairs for detail in ("general", "specific")}
    assert {row["status"] for row in rationales(made)} == {"ok"}


def test_the_label_is_the_given_one(made: Made) -> None:
    """The first of the author's ranking over the last, and nothing that a judge said."""
    ranked = {}
    for row in made.rows("annotations", protocol="rank"):
        by_score = sorted(zip(row["scores"], row["target_ids"], strict=True), reverse=True)
        ranked[row["prompt_id"]] = by_score
    for row in made.rows("preferences"):
        scores = {target: score for score, target in ranked[row["prompt_id"]]}
        chosen, rejected = row["response_ids"]
        assert scores[chosen] == max(scores.values()) and scores[rejected] == min(scores.values())
    assert len(made.rows("preferences")) == PROMPTS


def test_the_judge_is_shown_the_label_without_the_words_of_a_dataset(made: Made) -> None:
    texts = {row["response_id"]: row["text"] for row in made.rows("responses")}
    asked = [entry["body"]["messages"][-1]["content"] for entry in made.asked]
    assert len(asked) == 2 * PROMPTS
    for row in made.rows("preferences"):
        chosen, rejected = (texts[one] for one in row["response_ids"])
        about = [text for text in asked if chosen in text and rejected in text]
        assert len(about) == 2
        for text in about:
            assert text.lower().index("better response") < text.index(chosen)
            assert not COLUMNS.search(text.replace(chosen, "").replace(rejected, ""))


def test_rationales_are_texts_that_name_no_column(made: Made) -> None:
    assert all(row["text"].strip() and not COLUMNS.search(row["text"]) for row in rationales(made))


def test_the_file_holds_them_beside_the_texts(made: Made) -> None:
    said = {row["text"] for row in rationales(made)}
    rows = made.export("lists.parquet")
    assert len(rows) == PROMPTS
    for row in rows:
        assert len(row["rationales"]) == 2 and {one["text"] for one in row["rationales"]} <= said
        assert len(row["responses"]) == 2
