"""Why a preference holds, in the column `rationales` of the export `lists`."""

from __future__ import annotations

from typing import Any

import pytest
from format_tables import Tables

from prefdata import schema
from prefdata.schema import Row


def critique(preference: Row, text: str | None, **columns: Any) -> Row:
    """What a judge says about a preference."""
    return schema.annotation(
        group_id=preference["group_id"],
        prompt_id=preference["prompt_id"],
        target="preference",
        target_ids=[preference["preference_id"]],
        protocol=columns.pop("protocol", "critique"),
        annotator="judge:llama/rationale-specific/rationale@00000000",
        source="judge",
        text=text,
        key=columns.pop("key", text),
        **columns,
    )


def test_critiques_of_the_preference_are_exported(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    first = tables.preference(prompt, ["a", "b"], [1.0, 0.0])
    second = tables.preference(prompt, ["c", "d"], [1.0, 0.0])
    bare = tables.preference(prompt, ["e", "f"], [1.0, 0.0])
    tables.rows["annotations"] += [critique(first, "one"), critique(first, "two"), critique(second, "three")]
    lists = {row["id"]: row["rationales"] for row in tables.lists().iter_rows(named=True)}
    assert sorted(one["text"] for one in lists[first["preference_id"]]) == ["one", "two"]
    assert lists[second["preference_id"]] == [{"of": [0, 1], "text": "three"}]
    assert lists[bare["preference_id"]] is None


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "unparsed"},
        {"status": "failed"},
        {"protocol": "score"},
        {"protocol": "label"},
    ],
)
def test_what_is_no_rationale_is_not(tables: Tables, columns: dict[str, Any]) -> None:
    preference = tables.preference(tables.prompt("Why?"), ["a", "b"], [1.0, 0.0])
    tables.rows["annotations"] += [
        critique(preference, "said in passing", **columns),
        critique(preference, None, key="silent"),
    ]
    assert "rationales" not in tables.lists().columns


def test_a_rationale_that_the_preference_names_stands_once(tables: Tables) -> None:
    prompt = tables.prompt("Why?")
    ids = [tables.response(prompt, text) for text in ("a", "b")]
    of_one = schema.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=ids[1:],
        protocol="critique",
        annotator="human:x",
        source="human",
        text="b forgets the cause",
    )
    preference = tables.preference_of(prompt, ids, [1.0, 0.0], rationale_ids=[of_one["annotation_id"]])
    why = critique(preference, "a names the cause")
    preference["rationale_ids"].append(why["annotation_id"])
    tables.rows["annotations"] += [of_one, why]
    (row,) = tables.lists().iter_rows(named=True)
    assert row["rationales"] == [
        {"of": [1], "text": "b forgets the cause"},
        {"of": [0, 1], "text": "a names the cause"},
    ]


def test_a_rationale_of_a_list_is_about_all_of_it(tables: Tables) -> None:
    preference = tables.preference(tables.prompt("Why?"), ["a", "b", "c"], [3.0, 2.0, 1.0])
    tables.rows["annotations"].append(critique(preference, "because"))
    (row,) = tables.lists().iter_rows(named=True)
    assert row["rationales"] == [{"of": [0, 1, 2], "text": "because"}]
