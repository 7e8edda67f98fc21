"""Live preferences with their texts: the columns of `lists`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from format_tables import Tables
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats import training_lists
from prefdata.formats.columns import LISTS, LISTS_REQUIRED, polars_type
from prefdata.render import render
from prefdata.schema import Row


def one(lists: pl.DataFrame) -> dict[str, Any]:
    assert lists.height == 1
    return lists.row(0, named=True)


def test_a_ranking_with_a_tie(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    preference = tables.preference(prompt, ["a", "b", "c", "d"], [3.0, 2.0, 2.0, 1.0], aspect="truth", weight=2.0)
    lists = tables.lists()
    assert lists.columns == LISTS_REQUIRED
    assert one(lists) == {
        "id": preference["preference_id"],
        "group": prompt["group_id"],
        "split": "train",
        "kind": "conditional",
        "aspect": "truth",
        "weight": 2.0,
        "prompt": [{"role": "user", "content": "Why?"}],
        "response_ids": preference["response_ids"],
        "responses": ["a", "b", "c", "d"],
        "scores": [3.0, 2.0, 2.0, 1.0],
        "ranks": [1, 2, 2, 4],
    }


def test_types_are_exact(tables: Tables) -> None:
    prompt = tables.prompt(
        [schema.message("user", "Why?", name="ann")],
        tools="[]",
        media=[{"uri": "u", "kind": "image", "made_by": "x"}],
    )
    other = tables.prompt("How?", parent=prompt)
    first = tables.response(prompt, "first", finish_reason="step", segments=[{"end": 5, "role": "assistant"}])
    second = tables.response(prompt, "second", prefix_id=first, media=[{"uri": "v"}])
    said = schema.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=[first],
        protocol="critique",
        annotator="j",
        source="judge",
        text="because",
    )
    tables.rows["annotations"].append(said)
    tables.preference_of(
        prompt,
        [first, second],
        [1.0, 0.0],
        edges=[{"winner": 0, "loser": 1, "p": 0.9}],
        roles=["ranked", "ranked"],
        values=[{"name": "v", "values": [1.0, None]}],
        annotator="human:x",
        link_id="l",
        prompt_ids=[prompt["prompt_id"], other["prompt_id"]],
        ref_prompt_id=other["prompt_id"],
        rationale_ids=[said["annotation_id"]],
    )
    scored = {
        "response_id": second,
        "prompt_id": prompt["prompt_id"],
        "scorer": "ref",
        "kind": "logprob",
        "token_ids": [1, 2],
        "values": [-0.5, -1.5],
        "top_ids": [[1], [2]],
        "top_values": [[0.1], [0.2]],
    }
    frames = tables.frames() | {"token_scores": pl.DataFrame(schema.arrow_table("token_scores", [scored])).lazy()}
    lists, left_out = training_lists(frames)
    assert not left_out
    assert lists.columns == LISTS.names
    for field in LISTS:
        if field.name != "prompt":
            assert lists.schema[field.name] == polars_type(field.type), field.name
    row = one(lists)
    assert row["prompt"] == [{"role": "user", "content": "Why?", "name": "ann"}]
    assert row["edges"] == [{"winner": 0, "loser": 1, "p": 0.9, "margin": None, "weight": None, "votes": None}]
    assert row["ends_turn"] == [False, True]
    assert row["prefixes"] == [None, "first"]
    assert row["segments"] == [[{"end": 5, "role": "assistant", "kind": None, "value": None}], None]
    assert row["prompt_of"] == [0, 1]
    assert row["ref_prompt_of"] == [1, 1]
    (further,) = row["other_prompts"]
    assert (further["messages"][0]["content"], further["tools"], further["media"]) == ("How?", None, None)
    assert row["rationales"] == [{"of": [0], "text": "because"}]
    assert row["media"] == [{"uri": "u", "sha256": None, "kind": "image", "turn": None, "region": None}]
    assert [None if some is None else some[0]["uri"] for some in row["response_media"]] == [None, "v"]
    (tokens,) = row["token_scores"]
    assert (tokens["response"], tokens["prompt"], tokens["values"], tokens["ends"]) == (1, 0, [-0.5, -1.5], None)
    assert (row["link"], row["annotator"], row["tools"]) == ("l", "human:x", "[]")


def test_splits_are_labels_of_groups(tables: Tables) -> None:
    kept, held, twice = (tables.prompt(asked) for asked in ("a", "b", "c"))
    derived = tables.prompt("b, but later", parent=held)
    for prompt in (kept, held, twice, derived):
        tables.preference(prompt, ["x", "y"], [1.0, 0.0])
    tables.split(held, "valid")
    tables.split(kept, "train")
    # Two labels that disagree: what is held out stays held out.
    tables.split(twice, "train")
    again = dict(tables.rows["annotations"][-1])
    again["annotation_id"], again["labels"] = "0" * 32, ["valid"]
    tables.rows["annotations"].append(again)
    found = {row["prompt"][0]["content"]: row["split"] for row in tables.lists().iter_rows(named=True)}
    assert found == {"a": "train", "b": "valid", "b, but later": "valid", "c": "valid"}


def test_a_label_of_anything_else_is_no_split(tables: Tables) -> None:
    prompt = tables.prompt()
    tables.preference(prompt, ["x", "y"], [1.0, 0.0])
    tables.split(prompt, "valid")
    tables.rows["annotations"][0]["annotator"] = "rule:topic"
    assert one(tables.lists())["split"] == "train"


def test_only_stop_ends_the_turn(tables: Tables) -> None:
    prompt = tables.prompt()
    ids = [
        tables.response(prompt, reason, finish_reason=reason, sample_index=place)
        for place, reason in enumerate(("stop", "length", "step", "tool"))
    ]
    tables.preference_of(prompt, ids, [4.0, 3.0, 2.0, 1.0])
    tables.preference_of(prompt, ids[:1], [1.0], kind="unpaired")
    lists = tables.lists().sort(pl.col("responses").list.len())
    assert lists["ends_turn"].to_list() == [None, [True, False, False, False]]


def test_other_roles_and_unpaired_have_no_rank(tables: Tables) -> None:
    prompt = tables.prompt()
    tables.preference(prompt, ["a", "b", "c"], [2.0, 1.0, 9.0], roles=["ranked", "ranked", "sft"])
    tables.preference(prompt, ["d", "e"], [1.0, 0.0], kind="unpaired")
    tables.preference(prompt, ["f"], None, roles=["sft"])
    rows = {row["responses"][0]: row for row in tables.lists().iter_rows(named=True)}
    assert (rows["a"]["scores"], rows["a"]["ranks"]) == ([2.0, 1.0, None], [1, 2, None])
    assert (rows["d"]["scores"], rows["d"]["ranks"], rows["d"]["roles"]) == ([1.0, 0.0], [None, None], None)
    assert (rows["f"]["scores"], rows["f"]["ranks"]) == ([None], [None])


def test_what_cannot_be_written_is_counted(tables: Tables) -> None:
    prompt = tables.prompt()
    fine = tables.response(prompt, "fine")
    tables.preference_of(prompt, [fine, "0" * 32], [1.0, 0.0])
    tables.preference_of(prompt, [fine, tables.response(prompt, None, finish_reason="error")], [1.0, 0.0])
    tables.preference_of(prompt, [fine], [1.0], prompt_id="1" * 32)
    tables.preference_of(prompt, [fine], [1.0], ref_prompt_id="2" * 32)
    tables.preference_of(prompt, [tables.response(prompt, "on", prefix_id="3" * 32)], [1.0])
    tables.preference_of(prompt, [], [])
    tables.preference_of(prompt, [fine], [1.0])
    lists, left_out = training_lists(tables.frames())
    assert lists.height == 1
    assert left_out == Counter({"response missing": 2, "prompt missing": 2, "response without text": 2})


def test_lists_that_are_not_aligned_are_refused(tables: Tables) -> None:
    tables.preference(tables.prompt(), ["a", "b"], [1.0])
    with pytest.raises(DataError, match=r"preference \w{32} has 1 scores for 2 responses"):
        tables.lists()


def test_preferences_made_in_memory_take_the_place_of_the_table(tables: Tables) -> None:
    prompt = tables.prompt()
    stored = tables.preference(prompt, ["a", "b"], [1.0, 0.0])
    made = pl.DataFrame(schema.arrow_table("preferences", [{**stored, "preference_id": "f" * 32}]))
    lists, _ = training_lists(tables.frames(), view_preferences=made)
    assert lists["id"].to_list() == ["f" * 32]


def test_prefixes_are_the_whole_chain_and_a_ring_ends(tables: Tables) -> None:
    prompt = tables.prompt()
    first = tables.response(prompt, "one ")
    second = tables.response(prompt, "two ", prefix_id=first)
    third = tables.response(prompt, "three", prefix_id=second)
    tables.preference_of(prompt, [third, first], [1.0, 0.0])
    assert one(tables.lists())["prefixes"] == ["one two ", None]
    tables.rows["responses"][0]["prefix_id"] = second
    _, left_out = training_lists(tables.frames())
    assert left_out == Counter({"response without text": 1})


def test_step_values_are_means_over_the_annotations_that_the_row_rests_on(tables: Tables) -> None:
    prompt = tables.prompt()
    segments = [{"end": 1, "role": "assistant", "kind": "step"}, {"end": 2, "role": "assistant", "kind": "step"}]
    ids = [tables.response(prompt, "ab", segments=segments), tables.response(prompt, "cd")]
    for annotator, scores in (("one", [1.0, 0.0]), ("two", [0.5, 0.0]), ("unread", [9.0, 9.0])):
        tables.rows["annotations"].append(
            schema.annotation(
                group_id=prompt["group_id"],
                prompt_id=prompt["prompt_id"],
                target_ids=[ids[0], ids[0]],
                protocol="score",
                annotator=annotator,
                source="reward",
                scores=scores,
                parts=[0, 1],
            )
        )
    rests = [row["annotation_id"] for row in tables.rows["annotations"][:2]]
    tables.preference_of(prompt, ids, [1.0, 0.0], annotation_ids=rests)
    row = one(tables.lists())
    assert [part["value"] for part in row["segments"][0]] == [0.75, 0.0]
    assert row["segments"][1] is None


def test_a_joint_row_reads_its_first_prompt(tables: Tables) -> None:
    first, second = tables.prompt("a"), tables.prompt("b")
    ids = [tables.response(first, "x"), tables.response(second, "y")]
    prompt_ids = [first["prompt_id"], second["prompt_id"]]
    tables.preference_of(first, ids, [1.0, 0.0], prompt_id=None, prompt_ids=prompt_ids, kind="joint")
    row = one(tables.lists())
    assert (row["prompt"][0]["content"], row["prompt_of"]) == ("a", [0, 1])


conversations = st.lists(
    st.builds(schema.message, st.sampled_from(["user", "assistant"]), st.text(max_size=5)), min_size=1, max_size=3
).map(lambda turns: [*turns, schema.message("user", "so?")])
conditions = st.none() | st.fixed_dictionaries({"kind": st.just("system"), "text": st.none() | st.text(max_size=4)})
passages = st.none() | st.lists(st.fixed_dictionaries({"text": st.text(max_size=4)}), max_size=2)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(conversations, conditions, passages), min_size=1, max_size=4, unique_by=lambda row: str(row)
    )
)
def test_every_prompt_is_what_render_makes_of_it(rows: list[tuple[list[Row], Row | None, list[Row] | None]]) -> None:
    tables = Tables()
    made: dict[str, Row] = {}
    for turns, condition, context in rows:
        prompt = schema.prompt(turns, condition=condition, context=context)
        if prompt["prompt_id"] not in made:
            made[prompt["prompt_id"]] = prompt
            tables.rows["prompts"].append(prompt)
            tables.preference(prompt, ["a", "b"], [1.0, 0.0])
    lists = tables.lists()
    for group, turns in lists.select("group", "prompt").iter_rows():
        assert turns == render(made[group])


def test_the_schema_is_the_one_of_the_tables() -> None:
    assert LISTS.field("edges").type == schema.SCHEMAS["preferences"].field("edges").type
    assert LISTS.field("scores").type == pa.list_(pa.float64())
