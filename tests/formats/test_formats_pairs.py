"""Lists as pairs: edges, swaps, ties, and what the forms cannot hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from format_tables import Tables
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats import pairs_from_lists, unpaired_from_lists
from prefdata.formats.conversation import join_turns, split_turns
from prefdata.formats.template import NEEDS_TEMPLATE


def shown(pairs: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return list(pairs.select("chosen", "rejected", *columns).iter_rows())


def test_every_strictly_falling_pair(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    preference = tables.preference(prompt, ["a", "b", "c"], [3.0, 2.0, 1.0], weight=2.0, annotator="human:x")
    pairs, left_out = pairs_from_lists(tables.lists())
    assert not left_out
    ids, name = preference["response_ids"], preference["preference_id"]
    assert pairs.columns == [
        "prompt",
        "chosen",
        "rejected",
        "weight",
        "score_chosen",
        "score_rejected",
        "id",
        "list",
        "group",
        "split",
        "aspect",
        "annotator",
        "chosen_id",
        "rejected_id",
    ]
    group = prompt["group_id"]
    assert pairs.rows() == [
        ("Why?", "a", "b", 2.0, 3.0, 2.0, f"{name}:0", name, group, "train", "overall", "human:x", ids[0], ids[1]),
        ("Why?", "a", "c", 2.0, 3.0, 1.0, f"{name}:1", name, group, "train", "overall", "human:x", ids[0], ids[2]),
        ("Why?", "b", "c", 2.0, 2.0, 1.0, f"{name}:2", name, group, "train", "overall", "human:x", ids[1], ids[2]),
    ]


def test_equal_scores_are_ties(tables: Tables) -> None:
    tables.preference(tables.prompt(), ["a", "b", "c"], [2.0, 2.0, 1.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (shown(pairs), left_out) == ([("a", "c"), ("b", "c")], Counter(tie=1))
    pairs, left_out = pairs_from_lists(tables.lists(), ties=True)
    assert (shown(pairs, "p"), left_out) == ([("a", "b", 0.5), ("a", "c", 1.0), ("b", "c", 1.0)], Counter())


def test_all_equal_never_pairs_a_text_with_itself(tables: Tables) -> None:
    # distilabel's formatter gave chosen "a", rejected "a" for ratings 4, 4, 4.
    tables.preference(tables.prompt(), ["a", "b", "c"], [4.0, 4.0, 4.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (pairs.height, left_out) == (0, Counter(tie=3))


def test_a_missing_score_is_no_zero(tables: Tables) -> None:
    # and there a missing rating ended the run with a TypeError.
    tables.preference(tables.prompt(), ["a", "b", "c"], [4.0, None, -1.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (shown(pairs), left_out) == ([("a", "c")], Counter())


def test_edges_are_swapped_below_one_half(tables: Tables) -> None:
    edges = [
        {"winner": 0, "loser": 1, "p": 0.2, "margin": 1.5, "weight": 0.5},
        {"winner": 0, "loser": 2},
        {"winner": 1, "loser": 2, "p": 0.5},
    ]
    tables.preference(tables.prompt(), ["a", "b", "c"], [3.0, 2.0, 1.0], edges=edges, weight=2.0)
    pairs, left_out = pairs_from_lists(tables.lists())
    assert left_out == Counter(tie=1)
    assert shown(pairs, "p", "margin", "weight", "score_chosen", "score_rejected") == [
        ("b", "a", 0.8, -1.5, 1.0, 2.0, 3.0),
        ("a", "c", 1.0, None, 2.0, 3.0, 1.0),
    ]
    pairs, _ = pairs_from_lists(tables.lists(), ties=True)
    assert shown(pairs, "p")[2] == ("b", "c", 0.5)


@pytest.mark.parametrize(
    "edge",
    [
        {"winner": 0, "loser": 2},
        {"winner": 1, "loser": 1},
        {"winner": -1, "loser": 0},
        {"winner": 0, "loser": 1, "p": 1.5},
        {"winner": None, "loser": 1},
    ],
)
def test_an_impossible_edge_is_named(tables: Tables, edge: dict[str, Any]) -> None:
    preference = tables.preference(tables.prompt(), ["a", "b"], [1.0, 0.0], edges=[edge])
    with pytest.raises(DataError, match=f"list {preference['preference_id']} has an edge"):
        pairs_from_lists(tables.lists())


def test_same_text_but_for_white_space(tables: Tables) -> None:
    long = "the same words again and again " * 20
    tables.preference(tables.prompt("1"), ["a  b\n", " a b"], [1.0, 0.0])
    tables.preference(tables.prompt("2"), [long + "x", long.replace(" ", "\n\n") + "x"], [1.0, 0.0])
    tables.preference(tables.prompt("3"), [long + "x", long + "y"], [1.0, 0.0])
    tables.preference(tables.prompt("4"), ["ab", "a b"], [1.0, 0.0])
    tables.preference(tables.prompt("5"), ["", " "], [1.0, 0.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert left_out == Counter({"same text": 3})
    assert set(pairs["prompt"]) == {"3", "4"}


def test_what_a_pair_cannot_hold(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    other = tables.prompt("How?", parent=prompt)
    tables.preference(prompt, ["a", "b"], [1.0, 0.0], kind="unpaired")
    swapped = [tables.response(prompt, "c"), tables.response(other, "d")]
    both = [prompt["prompt_id"], other["prompt_id"]]
    tables.preference_of(prompt, swapped, [1.0, 0.0], prompt_ids=both, kind="context_swap")
    tables.preference(prompt, ["e", "f"], [1.0, 0.0], ref_prompt_id=other["prompt_id"])
    with_image = tables.response(prompt, "g", media=[{"uri": "u"}])
    tables.preference_of(prompt, [with_image, swapped[0]], [1.0, 0.0])
    tables.preference(prompt, ["h", "i", "j"], [1.0, 0.0, None], roles=["ranked", "ranked", "online"])
    tables.preference(prompt, ["k"], [1.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert shown(pairs) == [("h", "i")]
    assert left_out == Counter(
        {
            "unpaired": 1,
            "several prompts": 1,
            "another reference prompt": 1,
            "media": 1,
            "role other than ranked": 1,
            "no order": 1,
        }
    )


def test_an_edge_to_another_role_is_left_out(tables: Tables) -> None:
    edges = [{"winner": 0, "loser": 1}, {"winner": 0, "loser": 2}]
    roles = ["ranked", "ranked", "online"]
    tables.preference(tables.prompt(), ["a", "b", "c"], [1.0, 0.0, None], roles=roles, edges=edges)
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (shown(pairs), left_out) == ([("a", "b")], Counter({"role other than ranked": 1}))


def test_the_standard_form_holds_one_user_message(tables: Tables) -> None:
    several = [schema.message("user", "a"), schema.message("assistant", "b"), schema.message("user", "c")]
    tables.preference(tables.prompt(several), ["x", "y"], [1.0, 0.0])
    tables.preference(tables.prompt([schema.message("system", "s"), several[0]]), ["x", "y"], [1.0, 0.0])
    tables.preference(tables.prompt("tools?", tools="[]"), ["x", "y"], [1.0, 0.0])
    tables.preference(tables.prompt("plain"), ["x", "y"], [1.0, 0.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (pairs["prompt"].to_list(), left_out) == (["plain"], Counter({NEEDS_TEMPLATE: 3}))
    pairs, left_out = pairs_from_lists(tables.lists(), conversational=True)
    assert (pairs.height, left_out) == (4, Counter())
    assert several in pairs["prompt"].to_list()
    assert pairs["chosen"].to_list() == [[schema.message("assistant", "x")]] * 4
    assert pairs["tools"].drop_nulls().to_list() == ["[]"]


def test_prefixes_join_the_prompt_or_their_response(tables: Tables) -> None:
    prompt = tables.prompt("Q: ")
    step = tables.response(prompt, "one ")
    left, right = (tables.response(prompt, text, prefix_id=step) for text in ("two", "three"))
    tables.preference_of(prompt, [left, right], [1.0, 0.0])
    tables.preference_of(prompt, [left, tables.response(prompt, "else")], [1.0, 0.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert not left_out
    assert set(pairs.select("prompt", "chosen", "rejected").iter_rows()) == {
        ("Q: one ", "two", "three"),
        ("Q: ", "one two", "else"),
    }
    pairs, left_out = pairs_from_lists(tables.lists(), conversational=True)
    assert (pairs.height, left_out) == (0, Counter(prefix=2))


def test_responses_of_several_turns(tables: Tables) -> None:
    turns = [schema.message("assistant", "a"), schema.message("user", "b"), schema.message("assistant", "c")]
    text, segments = join_turns(turns)
    prompt = tables.prompt()
    ids = [tables.response(prompt, text, segments=segments), tables.response(prompt, "plain")]
    tables.preference_of(prompt, ids, [1.0, 0.0])
    pairs, _ = pairs_from_lists(tables.lists(), conversational=True)
    assert pairs["chosen"].to_list() == [turns]
    assert pairs["rejected"].to_list() == [[schema.message("assistant", "plain")]]
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (pairs.height, left_out) == (0, Counter({"several turns": 1}))


def test_steps_of_one_speaker_are_one_message(tables: Tables) -> None:
    prompt = tables.prompt()
    segments = [{"end": 1, "role": "assistant", "kind": "step"}, {"end": 2, "role": "assistant", "kind": "step"}]
    ids = [tables.response(prompt, "ab", segments=segments), tables.response(prompt, "c")]
    tables.preference_of(prompt, ids, [1.0, 0.0])
    pairs, left_out = pairs_from_lists(tables.lists())
    assert (shown(pairs), left_out) == ([("ab", "c")], Counter())


@given(st.lists(st.tuples(st.sampled_from(["assistant", "user", "tool"]), st.text(max_size=5)), min_size=1, max_size=5))
def test_turns_are_joined_without_loss(parts: list[tuple[str, str]]) -> None:
    turns = [schema.message("assistant", "first")]
    turns += [schema.message(role, text) for role, text in parts if role != turns[-1]["role"]]
    alternating = [turn for place, turn in enumerate(turns) if place == 0 or turn["role"] != turns[place - 1]["role"]]
    assert split_turns(*join_turns(alternating)) == alternating


scored = st.lists(
    st.tuples(st.text(alphabet="ab \n", max_size=4), st.none() | st.integers(-3, 3).map(float)), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(lists=st.lists(scored, min_size=1, max_size=4), ties=st.booleans())
def test_pairs_hold_just_what_the_lists_state(lists: list[list[tuple[str, float | None]]], ties: bool) -> None:
    """Against every two responses looked at one by one: order, ties, missing scores, equal texts, and the counts."""
    tables = Tables()
    for number, entries in enumerate(lists):
        ranked = sorted(entries, key=lambda entry: -1e9 if entry[1] is None else -entry[1])
        tables.preference(tables.prompt(f"q{number}"), [text for text, _ in ranked], [score for _, score in ranked])
    frame = tables.lists()
    pairs, left_out = pairs_from_lists(frame, ties=ties)
    wanted, counted = [], Counter[str]()
    for row in frame.iter_rows(named=True):
        entries = list(zip(row["responses"], row["scores"], strict=True))
        candidates = [
            (a, b) for place, a in enumerate(entries) for b in entries[place + 1 :] if None not in (a[1], b[1])
        ]
        counted["no order"] += not candidates
        for (a, high), (b, low) in candidates:
            if high == low and not ties:
                counted["tie"] += 1
            elif a.split() == b.split():
                counted["same text"] += 1
            else:
                better, worse = (a, b) if high >= low else (b, a)
                wanted.append((row["id"], better, worse, 0.5 if high == low else 1.0))
    found = pairs if "p" in pairs.columns else pairs.with_columns(p=pl.lit(1.0))
    assert Counter(found.select("list", "chosen", "rejected", "p").iter_rows()) == Counter(wanted)
    assert left_out == +counted
    assert not any(a.split() == b.split() for a, b in pairs.select("chosen", "rejected").iter_rows())
    assert pairs["id"].n_unique() == pairs.height


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(2, 7), min_size=1, max_size=5), seed=st.randoms(use_true_random=False))
def test_strict_rankings_come_back_whole(sizes: list[int], seed: Any) -> None:
    """List to pairs and back: how often a response is chosen puts a strict ranking in order again."""
    tables = Tables()
    for number, size in enumerate(sizes):
        scores = sorted(seed.sample(range(100), size), reverse=True)
        texts = [f"{number}-{place}" for place in range(size)]
        tables.preference(tables.prompt(f"q{number}"), texts, [float(score) for score in scores])
    lists = tables.lists()
    pairs, left_out = pairs_from_lists(lists)
    assert not left_out
    for row in lists.iter_rows(named=True):
        of_list = pairs.filter(pl.col("list") == row["id"])
        wins = Counter(of_list["chosen_id"])
        scores = dict(of_list.select("chosen_id", "score_chosen").iter_rows())
        scores |= dict(of_list.select("rejected_id", "score_rejected").iter_rows())
        back = sorted(scores, key=lambda one: -wins[one])
        assert back == row["response_ids"]
        assert [scores[one] for one in back] == row["scores"]


def test_nothing_in_nothing_out(tables: Tables) -> None:
    tables.preference(tables.prompt(), ["a", "b"], [1.0, 0.0])
    empty = tables.lists().clear()
    for conversational in (False, True):
        assert pairs_from_lists(empty, conversational=conversational)[0].height == 0
        assert unpaired_from_lists(empty, conversational=conversational, from_lists=True)[0].height == 0


# Unpaired


def labels(frame: pl.DataFrame) -> dict[str, bool]:
    return dict(frame.select("completion", "label").iter_rows())


def test_unpaired_lists_by_score(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    preference = tables.preference(prompt, ["a", "b", "c", "d"], [1.0, 0.0, 0.5, None], kind="unpaired", weight=3.0)
    tables.preference(prompt, ["e", "f"], [1.0, 0.0])
    rows, left_out = unpaired_from_lists(tables.lists())
    assert labels(rows) == {"a": True, "b": False, "c": False}
    assert left_out == Counter({"no score": 1, "not unpaired (--from-lists takes these too)": 1})
    (first,) = rows.filter(pl.col("completion") == "b").iter_rows(named=True)
    assert first == {
        "prompt": "Why?",
        "completion": "b",
        "label": False,
        "weight": 3.0,
        "score": 0.0,
        "id": f"{preference['preference_id']}:1",
        "list": preference["preference_id"],
        "group": prompt["group_id"],
        "split": "train",
        "aspect": "overall",
        "annotator": None,
        "response_id": preference["response_ids"][1],
    }


def test_from_lists_takes_winners_and_losers(tables: Tables) -> None:
    prompt = tables.prompt()
    tables.preference(prompt, ["a", "b", "c"], [3.0, 2.0, 1.0])
    tables.preference(prompt, ["d", "e"], [1.0, 1.0])
    tables.preference(prompt, ["f", "g"], None, edges=[{"winner": 0, "loser": 1, "p": 0.1}])
    tables.preference(prompt, ["h"], [1.0], kind="unpaired")
    rows, left_out = unpaired_from_lists(tables.lists(), from_lists=True)
    assert labels(rows) == {"a": True, "c": False, "f": False, "g": True, "h": True}
    assert left_out == Counter({"both wanted and not": 1, "tie": 1})


def test_unpaired_rows_are_shuffled_always_alike(tables: Tables) -> None:
    tables.preference(tables.prompt(), [str(number) for number in range(50)], [1.0] * 50, kind="unpaired")
    once, again = (unpaired_from_lists(tables.lists())[0]["completion"].to_list() for _ in range(2))
    assert once == again
    assert once != sorted(once, key=int)
    assert sorted(once, key=int) == [str(number) for number in range(50)]


def test_unpaired_forms(tables: Tables) -> None:
    several = [schema.message("user", "a"), schema.message("assistant", "b"), schema.message("user", "c")]
    tables.preference(tables.prompt(several), ["x"], [1.0], kind="unpaired")
    rows, left_out = unpaired_from_lists(tables.lists())
    assert (rows.height, left_out) == (0, Counter({NEEDS_TEMPLATE: 1}))
    rows, left_out = unpaired_from_lists(tables.lists(), conversational=True)
    assert rows.select("prompt", "completion").row(0) == (several, [schema.message("assistant", "x")])
