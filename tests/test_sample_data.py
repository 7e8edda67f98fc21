"""The sample data: what newcomers see first must be whole, true to its README, and free of give-aways."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest

FOLDER = files("prefdata.sample_data")
CATEGORIES = ["instruction", "reasoning", "code", "safety", "summarise", "multi-turn", "language"]
EXPECTED = {"expect:urgent-help", "expect:warn", "expect:support", "expect:decline", "expect:answer"}


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


PROMPTS = read("prompts.jsonl")
RANKED = read("ranked.jsonl")
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def with_verifier(kind: str) -> list[Any]:
    rows = [row for row in PROMPTS if row.get("verifier", {}).get("kind") == kind]
    return [pytest.param(row, id=row["id"]) for row in rows]


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
    return turns


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)


# --- both files


def test_numbers_of_rows() -> None:
    assert len(PROMPTS) == 48
    assert len(RANKED) == 24


def test_ids_and_prompts_are_unique_across_both_files() -> None:
    rows = PROMPTS + RANKED
    assert len({row["id"] for row in rows}) == len(rows)
    asked = [" ".join(" ".join(turn["content"] for turn in messages(row)).lower().split()) for row in rows]
    assert len(set(asked)) == len(rows)


def test_columns() -> None:
    for row in PROMPTS:
        assert ("prompt" in row) != ("messages" in row), row["id"]
        assert set(row) <= {"id", "prompt", "messages", "tags", "references", "verifier", "source"}, row["id"]
        assert row["source"] == "prefdata sample data"
        if "verifier" in row:
            assert set(row["verifier"]) == {"kind", "spec"} and isinstance(row["verifier"]["spec"], dict)
    for row in RANKED:
        assert ("prompt" in row) != ("messages" in row), row["id"]
        assert set(row) - {"prompt", "messages"} == {"id", "tags", "responses", "ranking", "reason", "annotator"}
        assert row["annotator"] == "author"
        assert all(set(response) == {"text", "model"} for response in row["responses"])


def test_no_text_is_empty_or_has_stray_space() -> None:
    for row in PROMPTS + RANKED:
        for text in strings(row):
            assert text and text == text.strip() and "  " not in re.sub(r"\n +", "\n", text), text
        for column in ("references", "tags"):
            assert row.get(column, ["x"]), row["id"]


def test_one_category_and_one_language_each() -> None:
    for row in PROMPTS + RANKED:
        tags = row["tags"]
        assert len(set(tags)) == len(tags) and len(tags) >= 3, row["id"]
        assert tags[0] in CATEGORIES and not set(tags[1:]) & set(CATEGORIES), row["id"]
        assert sum(tag.startswith("lang:") for tag in tags) == 1, row["id"]
        assert (tags[0] == "safety") == bool(set(tags) & EXPECTED), row["id"]
        if tags[0] == "language":
            assert "lang:en" not in tags, row["id"]


def test_readme_counts_are_true() -> None:
    prompts = Counter(tag for row in PROMPTS for tag in row["tags"])
    ranked = Counter(tag for row in RANKED for tag in row["tags"])
    said = {name: (int(a), int(b)) for name, a, b in re.findall(r"^\| ([\w:-]+) \| (\d+) \| (\d+) \|$", README, re.M)}
    languages = {tag for tag in prompts | ranked if tag.startswith("lang:")}
    assert said == {tag: (prompts[tag], ranked[tag]) for tag in {*CATEGORIES, *languages}}
    assert sum(a for name, (a, _) in said.items() if name in CATEGORIES) == 48
    assert sum(b for name, (_, b) in said.items() if name in CATEGORIES) == 24


def test_three_languages_besides_english() -> None:
    for rows in (PROMPTS, RANKED):
        assert {tag for row in rows for tag in row["tags"] if tag.startswith("lang:")} == {
            "lang:en",
            "lang:de",
            "lang:es",
            "lang:fr",
        }


def test_conversations_end_with_the_user() -> None:
    for row in PROMPTS + RANKED:
        roles = [turn["role"] for turn in messages(row)]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"], row["id"]
        assert (row["tags"][0] == "multi-turn") == ("assistant" in roles), row["id"]


# --- prompts


def test_the_demo_sees_every_category_in_short_prompts() -> None:
    demo = PROMPTS[:16]
    assert {row["tags"][0] for row in demo} == set(CATEGORIES)
    assert sum(row["tags"][0] == "multi-turn" for row in demo) == 1
    assert sum("lang:en" not in row["tags"] for row in demo) == 1
    assert max(len(turn["content"].split()) for row in demo for turn in messages(row)) <= 35


def test_every_kind_of_verifier_and_of_behaviour_is_there() -> None:
    kinds = Counter(row["verifier"]["kind"] for row in PROMPTS if "verifier" in row)
    assert set(kinds) == {"numeric", "exact", "json", "format", "python-tests"}
    assert all(f"| `{kind}` |" in README for kind in kinds)
    assert {tag for row in PROMPTS for tag in row["tags"] if tag.startswith("expect:")} == EXPECTED
    for row in PROMPTS:
        if row["tags"][0] in ("reasoning", "code"):
            assert row["verifier"]["kind"] in ("numeric", "exact", "python-tests"), row["id"]


def numeric(answer: str, spec: dict[str, Any]) -> bool:
    numbers: list[str] = re.findall(r"-?\d+(?:\.\d+)?", answer)
    return bool(numbers) and float(numbers[-1]) == spec["answer"]


def exact(answer: str, spec: dict[str, Any]) -> bool:
    return answer.strip().removesuffix(".").casefold() == str(spec["answer"]).casefold()


def same_json(answer: str, spec: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(answer) == spec["answer"])
    except json.JSONDecodeError:
        return False


def well_formed(answer: str, spec: dict[str, Any]) -> bool:
    assert spec and set(spec) <= {"pattern", "min_words", "max_words"}
    answer, words = answer.strip(), len(answer.split())
    matches = "pattern" not in spec or re.fullmatch(spec["pattern"], answer) is not None
    return matches and spec.get("min_words", 0) <= words <= spec.get("max_words", words)


CHECKS: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "numeric": numeric,
    "exact": exact,
    "json": same_json,
    "format": well_formed,
}


@pytest.mark.parametrize("row", [param for kind in CHECKS for param in with_verifier(kind)])
def test_references_pass_their_verifier_and_other_texts_do_not(row: dict[str, Any]) -> None:
    check, spec = CHECKS[row["verifier"]["kind"]], row["verifier"]["spec"]
    assert row["references"]
    for reference in row["references"]:
        assert check(reference, spec)
    wrong = "I AM AFRAID THAT THERE IS NOT MUCH TO SAY ABOUT THIS; THERE MIGHT BE 987654321 OF THEM."
    assert not check(wrong, spec)


# Computed here a second time, from the numbers in the prompts.
ARITHMETIC = {
    "rolls-left": 12 - 5,
    "minutes-by-train": (11 * 60 + 15) - (9 * 60 + 40),
    "dias-ano-bisiesto": 365 + 1,
    "fence-posts": 30 // 5 + 1,
    "eggs-in-boxes": 3 * 6 - 4,
    "coat-on-sale": 80 * (100 - 25) // 100,
    "next-number": 6 * 7,  # n(n + 1)
    "average-of-three": 3 * 10 - 8 - 9,
}


def test_numeric_answers_are_right() -> None:
    answers = {row.values[0]["id"]: row.values[0]["verifier"]["spec"]["answer"] for row in with_verifier("numeric")}
    assert answers == ARITHMETIC


def run_code(code: str, tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\n\n{tests}\n"], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("row", with_verifier("python-tests"))
def test_reference_code_passes_its_tests_and_an_empty_function_does_not(row: dict[str, Any]) -> None:
    spec = row["verifier"]["spec"]
    assert f"`{spec['function']}(" in row["prompt"]
    assert spec["tests"].count("assert ") >= 3
    for reference in row["references"]:
        assert f"def {spec['function']}(" in reference
        done = run_code(reference, spec["tests"])
        assert done.returncode == 0, done.stderr
    empty = run_code(f"def {spec['function']}(*arguments):\n    return None", spec["tests"])
    assert "AssertionError" in empty.stderr


# --- ranked


def levels(row: dict[str, Any]) -> dict[int, int]:
    """Position in `responses` to rank, 0 the best."""
    return {place: rank for rank, tied in enumerate(row["ranking"]) for place in tied}


def decided(row: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(better, worse) positions of each pair that is not tied."""
    rank = levels(row)
    yield from ((a, b) for a in rank for b in rank if rank[a] < rank[b])


def concordance(rows: list[dict[str, Any]], measure: Callable[[dict[str, Any], int], int]) -> tuple[int, int]:
    """How often the better response has the greater measure, and how often the smaller."""
    pairs = [(measure(row, a), measure(row, b)) for row in rows for a, b in decided(row)]
    return sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)


def characters(row: dict[str, Any], place: int) -> int:
    return len(row["responses"][place]["text"])


def words(row: dict[str, Any], place: int) -> int:
    return len(row["responses"][place]["text"].split())


def test_rankings_order_four_responses_with_a_few_ties() -> None:
    for row in RANKED:
        assert sorted(place for tied in row["ranking"] for place in tied) == [0, 1, 2, 3], row["id"]
        assert all(row["ranking"]) and len(row["ranking"]) >= 3, row["id"]
        texts = [response["text"] for response in row["responses"]]
        assert len(set(texts)) == 4, row["id"]
        assert max(len(text.split()) for text in texts) <= 60, row["id"]
        assert ("a tie" in row["reason"]) == (len(row["ranking"]) < 4), row["id"]
    assert sum(len(row["ranking"]) < 4 for row in RANKED) == 4


def test_reasons_do_not_number_the_responses() -> None:
    """The reader sees the four in mixed order: "the second" would point at the wrong one."""
    for row in RANKED:
        assert len(row["reason"].split()) >= 15, row["id"]
        assert not re.search(r"\b(first|second|third|fourth|last)\b", row["reason"], re.I), row["id"]


def test_length_does_not_predict_rank() -> None:
    assert concordance(RANKED, characters) == (69, 71)  # as the README says
    more, fewer = concordance(RANKED, words)
    assert abs(more - fewer) <= 14  # |Kendall's tau| of at most 0.1 over 140 pairs
    by_length = Counter(
        sorted(range(4), key=lambda place: characters(row, place)).index(min(levels(row), key=lambda p: levels(row)[p]))
        for row in RANKED
        if len(row["ranking"][0]) == 1
    )
    assert by_length[3] == 6 and all(5 <= by_length[place] <= 7 for place in range(4))


def test_place_in_the_list_does_not_predict_rank() -> None:
    assert concordance(RANKED, lambda _, place: -place) == (71, 69)
    best = Counter(row["ranking"][0][0] for row in RANKED)
    assert all(4 <= best[place] <= 8 for place in range(4))


def test_length_check_has_teeth() -> None:
    """A negative control: the author's order replaced by length is found out."""
    by_length = [
        {**row, "ranking": [[place] for place in sorted(range(4), key=lambda p: -characters(row, p))]} for row in RANKED
    ]
    assert concordance(by_length, characters) == (144, 0)
