"""Selecting: what is kept, what is dropped with which reason, what a condition may not do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from operator_shapes import FakeContext, response, run, said
from pydantic import ValidationError

from prefdata.errors import PipelineError
from prefdata.operators.select.conditions import row_expression
from prefdata.operators.select.threshold import Threshold
from prefdata.operators.select.where import Where
from prefdata.schema import Row, message, preference, prompt

RESPONSES = [
    response("a", n_tokens=5),
    response("b", n_tokens=2),
    response("c", n_tokens=None),
    response("d", "words and words", n_tokens=9, finish_reason="length"),
]


def dropped(step: Where | Threshold, **tables: list[Row]) -> dict[str, str]:
    tables = {"responses": RESPONSES, **tables}
    return {row["id"]: row["reason"] for row in run(step, **tables)["drops"]}


def test_where_keeps_what_is_true_and_says_why_the_rest_goes() -> None:
    keep = "n_tokens > 3 and finish_reason = 'stop'"
    context = FakeContext()
    made = run(Where(keep=keep, view="easy"), context, responses=RESPONSES)["drops"]
    assert {row["id"]: row["reason"] for row in made} == {"b": keep, "c": f"{keep}: unknown", "d": keep}
    assert {(row["table"], row["view"], row["group_id"], row["restore"]) for row in made} == {
        ("responses", "easy", "p1", False)
    }
    assert context.said == [f"3 of 4 responses dropped by {keep!r}, 1 of them because it is unknown (null)"]
    assert dropped(Where(keep="n_tokens is null or n_tokens > 3")) == {"b": "n_tokens is null or n_tokens > 3"}


def test_where_is_idempotent_and_monotone() -> None:
    gone = dropped(Where(keep="n_tokens > 3"))
    left = [row for row in RESPONSES if row["response_id"] not in gone]
    assert dropped(Where(keep="n_tokens > 3"), responses=left) == {}
    sizes = [set(dropped(Where(keep=f"n_tokens > {least}"))) for least in range(10)]
    assert all(a <= b for a, b in itertools.pairwise(sizes))


def test_where_offers_a_few_more_columns() -> None:
    asked = {**prompt([message("user", "Hi!"), message("assistant", "Yes?"), message("user", "Bye")]), "tags": ["chat"]}
    asked |= {"prompt_id": "p1", "group_id": "p1", "source": "mine"}
    tables = {"prompts": [asked]}
    assert set(dropped(Where(keep="n_chars > 1"), **tables)) == {"a", "b", "c"}
    assert dropped(Where(keep="array_contains(prompt_tags, 'chat') and prompt_source = 'mine'"), **tables) == {}
    assert dropped(Where(table="prompts", keep="n_turns < 3"), **tables) == {"p1": "n_turns < 3"}
    assert dropped(Where(table="prompts", keep="n_chars = 10"), **tables) == {}


def test_where_selects_from_other_tables() -> None:
    rows = [said(["a"], [1], annotator="judge:x"), said(["a"], [1], annotator="human:y", confidence=0.2)]
    keep = Where(table="annotations", keep="annotator like 'human:%' and confidence < 0.5")
    assert set(dropped(keep, annotations=rows)) == {rows[0]["annotation_id"]}


def test_where_names_the_nearest_column() -> None:
    """When the pipeline is read: no call is paid for before."""
    with pytest.raises(ValidationError, match="'n_token', which responses does not have; did you mean 'n_tokens'"):
        Where(keep="n_token > 3")
    with pytest.raises(ValidationError, match="'n_tokens', which prompts does not have; did you mean 'n_turns'"):
        Where(table="prompts", keep="n_tokens > 3")
    with pytest.raises(ValidationError, match="'meta', which is carried along and no step reads"):
        Where(keep="meta is null")


@pytest.mark.parametrize("keep", ["n_tokens", "n_tokens + 1"])
def test_where_wants_true_or_false(keep: str) -> None:
    with pytest.raises(PipelineError, match="not true or false"):
        dropped(Where(keep=keep))


@pytest.mark.parametrize(
    "keep",
    [
        "n_tokens in (select * from read_csv('{file}'))",
        "n_tokens in (from read_csv('{file}'))",
        "exists (SELECT 1 FROM '{file}')",
        "n_tokens > 1 -- '\n and n_tokens in (select * from read_csv('{file}')) -- '",
        "n_tokens > 1 /* ' */ and n_tokens in (select * from read_csv('{file}')) /* ' */",
        "text = E'\\' and n_tokens in (select * from read_csv('{file}')) --'",
        "text = '\\' and n_tokens in (select * from read_csv('{file}')) --'",
        "text = $$ ' $$ and n_tokens in (select * from read_csv('{file}')) and text = $$ ' $$",
        "`a'b` > 1 and n_tokens in (select * from read_csv('{file}')) and `a'b` > 1",
        "n_tokens > 1 -- '\n and n_tokens in (select 1 from hidden) -- '",
        "n_tokens > 1 /* ' */ and n_tokens in (select 1 from hidden) /* ' */",
        "n_tokens > 1; select 1",
        "(with t as (select 1) select * from t)",
    ],
)
def test_a_condition_cannot_read_files(keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    file = tmp_path / "secret.csv"
    file.write_text("n\n1\n")
    # polars opens such files while it parses: it must not even be asked.
    monkeypatch.setattr(pl, "sql_expr", lambda text: pytest.fail(f"polars was asked to parse {text}"))
    with pytest.raises(ValidationError, match=r"SQL expression|cannot query"):
        Where(keep=keep.replace("{file}", str(file)))


@pytest.mark.parametrize(
    "keep",
    ["n_tokens > avg(n_tokens)", "count(*) > 1", "sum(n_tokens) over (partition by model) > 1", "first(text) = 'a'"],
)
def test_a_condition_sees_one_row(keep: str) -> None:
    with pytest.raises(ValidationError, match="other rows"):
        Where(keep=keep)


@pytest.mark.parametrize("keep", ["n_tokens >", "", "say hello world", "text = E'a'"])
def test_what_is_no_condition_is_refused(keep: str) -> None:
    with pytest.raises(ValidationError, match="SQL expression"):
        Where(keep=keep)


@pytest.mark.parametrize(
    "keep",
    [
        "text like '%select it from the list%'",
        "text ~ '^\\d+\\s'",
        "lower(model) in ('it''s', 'm') or not (n_tokens between 1 and 2)",
        "case when n_tokens > 1e2 then true else false end",
        '"n_tokens" is not null and -n_tokens < 0.5',
        "params like '%\"temperature\":0.7%'",
        "first = 1",
    ],
)
def test_plain_conditions_are_understood(keep: str) -> None:
    row_expression(keep)


def test_threshold() -> None:
    agreed = {"annotator": "consensus:mean", "source": "consensus", "protocol": "score"}
    rows = [
        said(["a", "b"], [0.9, 0.1], **agreed),
        said(["c", "d"], None, status="abstain", **agreed),
        said(["a", "c"], [0, 1], annotator="judge:x"),
        said(["b"], [1.0], aspect="style", **agreed),
    ]
    tables = {"annotations": rows}
    assert dropped(Threshold(min=0.5), **tables) == {"b": "overall by consensus:* < 0.5"}
    assert dropped(Threshold(max=0.5), **tables) == {"a": "overall by consensus:* > 0.5"}
    assert dropped(Threshold(min=0.1, max=0.9), **tables) == {}
    context = FakeContext()
    made = run(Threshold(min=0.5, unscored="drop"), context, responses=RESPONSES, **tables)["drops"]
    assert {row["id"]: row["reason"] for row in made} == {
        "b": "overall by consensus:* < 0.5",
        "c": "overall by consensus:*: no score",
        "d": "overall by consensus:*: no score",
    }
    assert "2 without a score: dropped" in context.said[0]
    # Every annotation that fits must lie in the range.
    two = [said(["a"], [1.0], annotator="judge:x"), said(["a"], [0.0], annotator="judge:y")]
    assert set(dropped(Threshold(min=0.5, annotator="judge:*"), annotations=two)) == {"a"}
    assert dropped(Threshold(min=0.5, annotator="judge:x"), annotations=two) == {}
    # P(wins) of a comparison is not a score of a response.
    assert dropped(Threshold(min=0.5, annotator="judge:x"), annotations=rows) == {}


def test_threshold_of_preferences_goes_by_what_is_said_of_them() -> None:
    preferences = [
        preference(group_id="p1", prompt_id="p1", response_ids=ids, scores=[1.0, 0.0])
        for ids in (["a", "b"], ["c", "d"])
    ]
    good, poor = (row["preference_id"] for row in preferences)

    def critic(target: str, value: float | None, **columns: object) -> Row:
        status = {} if value is not None else {"status": "unparsed"}
        scores = None if value is None else [value]
        return said([target], scores, target="preference", aspect="pair_quality", **status, **columns)

    rows = [critic(good, 9.0), critic(poor, 3.0), said(["a"], [1.0], aspect="pair_quality")]
    step = Threshold(table="preferences", aspect="pair_quality", annotator="judge:*", min=8)
    assert dropped(step, annotations=rows, preferences=preferences) == {poor: "pair_quality by judge:* < 8"}
    # A critic that failed drops nothing, unless it is told to; what is said of responses is not about pairs.
    failed = [critic(good, None), said(["a"], [1.0], aspect="pair_quality")]
    assert dropped(step, annotations=failed, preferences=preferences) == {}
    strict = step.model_copy(update={"unscored": "drop"})
    assert set(dropped(strict, annotations=failed, preferences=preferences)) == {good, poor}
    of_responses = Threshold(aspect="pair_quality", annotator="judge:*", min=8)
    assert set(dropped(of_responses, annotations=rows)) == {"a"}


def test_threshold_needs_a_limit() -> None:
    with pytest.raises(ValidationError, match="give min, max or both"):
        Threshold()
    with pytest.raises(ValidationError, match="nothing could be kept"):
        Threshold(min=2, max=1)
