"""judge.rank: every response once, best first, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotators_said import blocks, run
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import Rank
from prefdata.annotators.frame_many import letters, rank_schema
from prefdata.annotators.parse import parse_ranking
from prefdata.cards import load_card
from prefdata.engines.base import Reply, Request

Make = Callable[..., Any]
NAMES = ["A", "B", "C", "D"]


def longest_first(request: Request, revision: int) -> Reply:
    shown = blocks(request.messages[-1]["content"])
    names = sorted((name for name in shown if name.startswith("Response")), key=lambda name: -len(shown[name]))
    return Reply(json.dumps({"reason": "by length", "ranking": [name.removeprefix("Response ") for name in names]}))


def always(said: Any) -> Callable[[Request, int], Reply]:
    return lambda request, revision: Reply(json.dumps(said))


def test_scores_go_with_the_order_shown(bench: Make) -> None:
    b = bench(longest_first, "x", "xx", "xxx", "xxxx")
    step = Rank(engine="judge", replicates=5)
    rows = run(step, b)
    texts = {row["response_id"]: row["text"] for row in b.group.responses}
    for row, asked in zip(rows["annotations"], b.texts, strict=True):
        assert [texts[target] for target in row["target_ids"]] == list(blocks(asked).values())[1:], "as it was shown"
        assert row["scores"] == [float(len(texts[target])) for target in row["target_ids"]]
        assert row["protocol"] == "rank" and row["text"] == "by length" and row["aspect"] == "overall"
    assert len({tuple(row["target_ids"]) for row in rows["annotations"]}) > 1, "replicates are other orders"
    assert len({row["annotation_id"] for row in rows["annotations"]}) == 5
    assert rows["criteria"][0]["criterion_id"] == rows["annotations"][0]["criterion_id"]


def test_equal_ones_share_a_score(bench: Make, tmp_path: Path) -> None:
    b = bench(always({"ranking": ["B", ["A", "C"]]}), "one", "two", "three")
    (row,) = run(Rank(engine="judge"), b)["annotations"]
    assert row["scores"] == [1.0, 2.0, 1.0]
    file = tmp_path / "strict.yaml"
    file.write_text(
        "{name: s, instructions: i, aspects: [{name: a, text: t}], output: {ties: false}, protocols: [rank]}"
    )
    b = bench(always({"ranking": ["B", ["A", "C"]]}), "one", "two", "three")
    (row,) = run(Rank(engine="judge", card=str(file)), b)["annotations"]
    assert row["status"] == "unparsed" and "equally good" not in b.texts[0]
    assert b.context.asked[0][1].schema["properties"]["ranking"]["minItems"] == 3


@pytest.mark.parametrize(
    "said",
    [
        ["A", "B", "C"],
        ["A", "B", "C", "C"],
        ["A", "B", "C", "D", "D"],
        ["A", "B", "C", "E"],
        ["A", "B", "C", "D", "E"],
        ["A", "B", "C", None],
        ["A", "B", "C", 4],
        ["A", "B", "C", []],
        ["A", "B", "C", [["D"]]],
        ["A", "B", "C", "D > A"],
        "A > B > C > D",
        {"A": 1, "B": 2, "C": 3, "D": 4},
        "ABCD",
        [],
        None,
        [["A", "B"], ["C", "D"], ["A"]],
    ],
    ids=str,
)
def test_a_list_that_is_no_order_of_all_is_unparsed(bench: Make, said: Any) -> None:
    (row,) = run(Rank(engine="judge"), bench(always({"ranking": said}), *"wxyz"))["annotations"]
    assert row["status"] == "unparsed" and row["scores"] is None
    assert len(row["target_ids"]) == 4 and row["call_id"]


def test_how_many_are_ranked(bench: Make) -> None:
    b = bench(longest_first, "x")
    assert run(Rank(engine="judge"), b) == {} and "nothing to rank" in b.context.logged[0]
    b = bench(longest_first, *("x" * n for n in range(1, 8)))
    (row,) = run(Rank(engine="judge", most=4), b)["annotations"]
    assert len(row["target_ids"]) == 4 and sorted(row["scores"]) == [1.0, 2.0, 3.0, 4.0]
    assert "only 4 are shown" in b.context.logged[0]
    assert len(b.context.asked) == 1, "one call for each prompt and replicate (L5)"


def test_ids_name_the_order(bench: Make) -> None:
    def ids(step: Rank, *texts: str, **rest: Any) -> set[str]:
        return {row["annotation_id"] for row in run(step, bench(longest_first, *texts, **rest))["annotations"]}

    base = ids(Rank(engine="judge"), "x", "xx", "xxx")
    assert base == ids(Rank(engine="judge", reask=2, most=9), "x", "xx", "xxx")
    assert base < ids(Rank(engine="judge", replicates=3), "x", "xx", "xxx")
    assert not base & ids(Rank(engine="judge"), "x", "xx", "xxx", model="qwen")
    assert not base & ids(Rank(engine="judge", card="honesty"), "x", "xx", "xxx")


@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), max_size=5))
def test_what_is_read_is_an_order_of_all(tiers: list[list[str]]) -> None:
    said = [tier[0] if len(tier) == 1 else tier for tier in tiers]
    found = parse_ranking(json.dumps({"ranking": said}), NAMES)
    flat = [name for tier in tiers for name in tier]
    assert (found is not None) == (sorted(flat) == NAMES)
    if found is not None:
        assert [list(tier) for tier in found.value] == tiers


def test_the_schema_bounds_what_it_can() -> None:
    schema = rank_schema(load_card("helpfulness"), 3)["properties"]["ranking"]
    assert schema["maxItems"] == 3 and schema["items"]["anyOf"][0]["enum"] == letters(3)
