"""What `pair` lays down beside the order: shares of votes, margins and values, by hand and as laws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import frame, response, run, said
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.pair import Pair, preferences_from
from prefdata.operators.pair_joint import PairJoint
from prefdata.operators.pair_planned import PlannedPair
from prefdata.operators.pair_rows import Beside
from prefdata.schema import Row, make_id

NAMES = "abcd"
RESPONSES = [response(name) for name in NAMES]


def made(step: Pair, annotations: Iterable[Row], responses: list[Row] = RESPONSES) -> list[Row]:
    rows = run(step, annotations=annotations, responses=responses)["preferences"]
    return sorted(rows, key=lambda row: (row["response_ids"], row["annotator"] or ""))


def one(step: Pair, annotations: Iterable[Row], responses: list[Row] = RESPONSES) -> Row:
    (row,) = made(step, annotations, responses)
    return row


def edges(row: Row) -> dict[str, tuple[float | None, int | None]]:
    """p and votes of each edge, by the ids of winner and loser."""
    ids = row["response_ids"]
    return {ids[edge["winner"]] + ids[edge["loser"]]: (edge["p"], edge["votes"]) for edge in row["edges"]}


def agreed(scores: dict[str, float], **columns: Any) -> Row:
    return said(scores, scores.values(), protocol="score", annotator="consensus:mean", source="consensus", **columns)


def vote(winner: str, loser: str, p: float = 1.0, **columns: Any) -> Row:
    return said([winner, loser], [p, 1 - p], **columns)


CONSENSUS = agreed({"a": 0.9, "b": 0.5, "c": 0.5, "d": 0.1})
JURY = [
    vote("a", "b", annotator="judge:1"),
    vote("a", "b", annotator="judge:2"),
    vote("b", "a", annotator="judge:3"),
    vote("b", "c", annotator="judge:1"),
    vote("c", "b", annotator="judge:2"),
    vote("d", "a", annotator="judge:1"),
    said("abcd", [4, 3, 2, 1], protocol="rank", annotator="judge:rank"),
]


def test_votes_by_hand() -> None:
    """a over b: 3 of 4; b over c: 2 of 3; a over d: 1 of 2; the others: the ranking alone."""
    row = one(Pair(rule="list", p="votes"), [CONSENSUS, *JURY])
    assert row["response_ids"] == ["a", "b", "c", "d"]
    assert edges(row) == {
        "ab": (0.75, 4),
        "ac": (1.0, 1),
        "ad": (0.5, 2),
        "bc": (pytest.approx(2 / 3), 3),  # equal in the consensus, and voted on
        "bd": (1.0, 1),
        "cd": (1.0, 1),
    }
    assert {edge["margin"] for edge in row["edges"]} == {edge["weight"] for edge in row["edges"]} == {None}
    assert row["annotation_ids"] == sorted(one["annotation_id"] for one in [CONSENSUS, *JURY])


def test_a_row_names_the_annotations_that_it_lays_down() -> None:
    """Those of its own pairs and responses alone: whoever takes an annotation back finds what was made of it."""
    number = said(["a"], [2.0], annotator="reward:rm", source="reward")
    other = said(["c"], [2.0], annotator="reward:rm", source="reward")
    rows = [CONSENSUS, *JURY[:6], number, other]
    order = [CONSENSUS["annotation_id"]]
    assert one(Pair(), rows)["annotation_ids"] == order, "a and d are the ends"
    assert one(Pair(margin="scores"), rows)["annotation_ids"] == order
    assert one(Pair(p="votes"), rows)["annotation_ids"] == sorted([*order, JURY[5]["annotation_id"]])
    assert one(Pair(values={"r": "reward:*"}), rows)["annotation_ids"] == sorted([*order, number["annotation_id"]])
    alone = [said(["a"], [5.0]), said(["b"], [1.0])]  # each is an annotation of the one vote
    both = sorted(row["annotation_id"] for row in alone)
    assert one(Pair(p="votes"), alone)["annotation_ids"] == both
    agreed_too = agreed({"a": 1.0, "b": 0.0})
    whole = one(Pair(p="votes"), [agreed_too, *alone])["annotation_ids"]
    assert whole == sorted([*both, agreed_too["annotation_id"]])


def test_without_votes_p_is_unknown_and_equal_scores_state_nothing() -> None:
    row = one(Pair(rule="list", p="votes"), [CONSENSUS, *JURY[:1]])
    assert edges(row) == {"ab": (1, 1), "ac": (None, None), "ad": (None, None), "bd": (None, None), "cd": (None, None)}
    assert one(Pair(rule="list", p="votes"), [CONSENSUS])["edges"] is None


def test_a_pair_stays_in_its_order_though_most_vote_against_it() -> None:
    rows = [agreed({"a": 1.0, "b": 0.0}), *(vote("b", "a", annotator=f"judge:{n}") for n in range(3))]
    row = one(Pair(p="votes"), [*rows, vote("a", "b", annotator="judge:x")])
    assert row["response_ids"] == ["a", "b"] and edges(row) == {"ab": (0.25, 4)}


def test_what_is_no_vote_does_not_count() -> None:
    silent = [
        said(["a", "b"], None, status=status, annotator=f"judge:{status}")
        for status in ("unparsed", "abstain", "refused", "failed")
    ]
    silent += [
        vote("b", "a", annotator="judge:style", aspect="style"),
        vote("b", "a", annotator="judge:far", prompt_id="p2", group_id="p1"),
        said(["b"], [1.0], annotator="judge:single"),
        said(["b"], None, labels=["good"], protocol="label", annotator="judge:label"),
        said(["b", "a"], [9, 1], protocol="measure", annotator="rule:length"),  # no direction: nothing is said of it
        said(["a", "b"], [1, 1], protocol="choose", annotator="judge:choice"),
    ]
    rows = [agreed({"a": 1.0, "b": 0.0}), vote("a", "b"), *silent]
    assert edges(one(Pair(p="votes"), rows)) == {"ab": (1.0, 1)}
    assert edges(one(Pair(p="votes", direction={"overall": -1}), rows)) == {"ab": (1.0, 2)}


def test_both_orders_of_a_comparison_are_one_vote() -> None:
    rows = [agreed({"a": 1.0, "b": 0.0}), vote("a", "b"), vote("b", "a"), vote("a", "b", annotator="judge:z")]
    assert edges(one(Pair(p="votes"), rows)) == {"ab": (0.75, 2)}
    again = vote("a", "b", annotator="judge:z", replicate=1)
    assert edges(one(Pair(p="votes"), [*rows, again])) == {"ab": (pytest.approx(2.5 / 3), 3)}
    # Two of one order are no two orders of one: an import may know its people by no name.
    twice = [vote("a", "b", key=1), vote("a", "b", key=2), vote("b", "a", key=3)]
    assert edges(one(Pair(p="votes"), [rows[0], *twice])) == {"ab": (0.75, 2)}


def test_scores_of_one_annotator_are_its_votes() -> None:
    rows = [agreed({"a": 3.0, "b": 2.0, "c": 1.0})]
    rows += [said([name], [value]) for name, value in (("a", 5), ("b", 5), ("c", 1))]
    rows += [said([name], [value], annotator="judge:b") for name, value in (("a", 0.1), ("b", 0.2))]
    assert edges(one(Pair(rule="list", p="votes"), rows)) == {"ab": (0.25, 2), "ac": (1, 1), "bc": (1, 1)}


def test_a_consensus_of_all_aspects_has_the_votes_of_all() -> None:
    rows = [vote("a", "b", aspect="style"), vote("b", "a", aspect="facts"), vote("a", "b", aspect="length")]
    whole = agreed({"a": 1.0, "b": 0.0}, aspect="mean")
    assert edges(one(Pair(p="votes"), [whole, *rows])) == {"ab": (pytest.approx(2 / 3), 3)}
    # Whoever is not asked to vote may still have been asked about it.
    human = vote("b", "a", aspect="style", annotator="human:x", source="human")
    row = one(Pair(p="votes", voters=["human:*"]), [agreed({"a": 1.0, "b": 0.0}), vote("a", "b"), human])
    assert row["edges"] is None
    asked = vote("a", "b", aspect="mean")
    assert edges(one(Pair(p="votes"), [whole, asked, *rows])) == {"ab": (1, 1)}


def test_without_a_consensus_what_is_paired_votes() -> None:
    human = vote("a", "b", annotator="human:x", source="human")
    rows = [human, vote("b", "a"), vote("b", "a", annotator="judge:b")]
    assert edges(one(Pair(annotators=["human:*"], p="votes"), rows)) == {"ab": (1.0, 1)}
    assert [edges(row) for row in made(Pair(p="votes"), rows)] == [
        {"ab": (pytest.approx(1 / 3), 3)},
        {"ba": (pytest.approx(2 / 3), 3)},
        {"ba": (pytest.approx(2 / 3), 3)},
    ]
    whole = [agreed({"a": 1.0, "b": 0.0}), *rows]
    assert edges(one(Pair(p="votes", voters=["human:*"]), whole)) == {"ab": (1.0, 1)}


def test_only_the_newest_card_of_a_judge_votes() -> None:
    old = {
        **vote("b", "a", annotator="judge:m/card@00000001"),
        "created_at": frame("annotations", JURY)["created_at"][0],
    }
    new = vote("a", "b", annotator="judge:m/card@00000002")
    assert edges(one(Pair(p="votes"), [agreed({"a": 1.0, "b": 0.0}), old, new])) == {"ab": (1.0, 1)}


def test_margins_are_differences_of_scores() -> None:
    row = one(Pair(rule="list", margin="scores"), [CONSENSUS])
    found = {(edge["winner"], edge["loser"]): edge["margin"] for edge in row["edges"]}
    assert found == {(0, 1): 0.4, (0, 2): 0.4, (0, 3): 0.8, (1, 3): 0.4, (2, 3): 0.4}
    assert edges(row) == {
        "ab": (None, None),
        "ac": (None, None),
        "ad": (None, None),
        "bd": (None, None),
        "cd": (None, None),
    }
    tie = one(Pair(ties="keep", margin="scores"), [vote("a", "b", 0.5)])
    assert tie["edges"] is None, "an edge without an order says nothing"
    both = one(Pair(ties="keep", margin="scores", p="votes"), [vote("a", "b", 0.5)])
    assert [(edge["p"], edge["votes"], edge["margin"]) for edge in both["edges"]] == [(0.5, 1, 0.0)]


def test_values_by_hand() -> None:
    rows = [CONSENSUS, *JURY]
    rows += [
        said([name], [value], annotator="reward:rm", source="reward")
        for name, value in zip("abd", [2, 1, 0], strict=True)
    ]
    rows += [said(["a"], [5.0], annotator="reward:rm", source="reward", replicate=1)]
    rows += [said(["a"], None, status="failed", annotator="reward:rm", replicate=2)]
    rows += [said(["a"], None, labels=["wrong"], protocol="label", annotator="judge:facts", aspect="facts")]
    rows += [said(["b"], None, labels=["right"], protocol="label", annotator="judge:facts", aspect="facts")]
    rows += [said(["c"], None, labels=["unsure"], protocol="label", annotator="judge:facts", aspect="facts")]
    step = Pair(
        rule="list",
        values={
            "reward": "reward:*",
            "wins": "judge:1",
            "agreed": "consensus:*",
            "wrong": {"annotator": "judge:facts", "labels": {"wrong": 1, "right": 0}},
            "position": {"annotator": "judge:rank", "number": "position"},
            "nobody": "human:*",
        },
    )
    row = one(step, rows)
    assert {one["name"]: one["values"] for one in row["values"]} == {
        "reward": [3.5, 1.0, None, 0.0],
        "wins": [0.5, 0.5, 0.0, 1.0],  # a: one won, one lost; b: likewise
        "agreed": [0.9, 0.5, 0.5, 0.1],
        "wrong": [1.0, 0.0, None, None],
        "position": [1.0, 2.0, 3.0, 4.0],
        "nobody": [None] * 4,
    }
    assert [one["name"] for one in row["values"]] == list(step.values)
    assert one(Pair(rule="list", values={"nobody": "human:*"}), rows)["values"] is None


def test_numbers_of_several_aspects_are_asked_about() -> None:
    rows = [CONSENSUS, *(said(["a"], [value], aspect=aspect) for aspect, value in (("style", 1), ("facts", 2)))]
    with pytest.raises(DataError, match=r"'helpful': judge:a gave numbers under 2 aspects \(facts, style\); say which"):
        made(Pair(values={"helpful": "judge:a"}), rows)
    row = one(Pair(values={"helpful": {"annotator": "judge:a", "aspect": "facts"}}), rows)
    assert row["values"] == [{"name": "helpful", "values": [2.0, None]}]


def test_numbers_of_several_protocols_are_asked_about() -> None:
    with pytest.raises(DataError, match=r"'w': judge:\* gave numbers under 2 protocols \(compare, rank\); say which"):
        made(Pair(values={"w": "judge:*"}), [CONSENSUS, *JURY])
    row = one(Pair(values={"w": {"annotator": "judge:*", "protocol": "compare"}}), [CONSENSUS, *JURY])
    assert row["values"] == [{"name": "w", "values": [0.5, 1.0]}]
    with pytest.raises(ValidationError, match="there is no protocol 'comparing'"):
        Pair(values={"w": {"annotator": "judge:*", "protocol": "comparing"}})


def test_numbers_count_under_their_own_prompt() -> None:
    other = said(["a"], [9.0], annotator="reward:rm", prompt_id="p2", group_id="p1")
    mine = said(["a"], [1.0], annotator="reward:rm")
    row = one(Pair(values={"r": "reward:*"}), [vote("a", "b"), other, mine])
    assert row["values"] == [{"name": "r", "values": [1.0, None]}]
    # Of a joint preference each response has its own.
    responses = [response("a"), response("b", prompt_id="p2")]
    numbers = [mine, said(["b"], [4.0], annotator="reward:rm", prompt_id="p2"), other]
    joint = vote("b", "a", prompt_id=None, group_id="p1")
    row = one(PairJoint(annotators=["judge:*"], values={"r": "reward:*"}), [joint, *numbers], responses)
    assert (row["kind"], row["response_ids"]) == ("joint", ["b", "a"])
    assert row["values"] == [{"name": "r", "values": [4.0, 1.0]}]


def test_what_is_laid_down_decides_about_no_row() -> None:
    """The same preferences in the same order, whatever is laid down; without the options also the same ids."""
    rows = [CONSENSUS, *JURY]
    plain = made(Pair(rule="all_pairs"), rows)
    assert all(row["edges"] is None and row["values"] is None for row in plain)
    for fields in ({"p": "votes"}, {"margin": "scores"}, {"values": {"w": "judge:1"}}):
        rich = made(Pair(rule="all_pairs", **fields), rows)
        assert [row["response_ids"] for row in rich] == [row["response_ids"] for row in plain]
        for bare, row in zip(plain, rich, strict=True):
            said_more = row["edges"] is not None or row["values"] is not None
            assert (row["preference_id"] != bare["preference_id"]) == said_more
            unlike = {name for name in row if row[name] != bare[name]}
            assert unlike <= {"edges", "values", "preference_id", "annotation_ids"}
            assert set(bare["annotation_ids"]) <= set(row["annotation_ids"])


def test_an_id_is_that_of_schema_preference_with_what_is_said_as_its_key() -> None:
    row = one(Pair(p="votes", margin="scores", values={"w": "judge:1"}), [CONSENSUS, *JURY])
    said_too = [None, None, None, None, None]

    def id_with(row: Row, key: object) -> str:
        return make_id(
            "preference", "p1", row["response_ids"], "conditional", "overall", row["annotation_ids"], said_too, key
        )

    key = (
        '{"edges":[{"winner":0,"loser":1,"p":0.5,"margin":0.8,"weight":null,"votes":2}],'
        '"values":[{"name":"w","values":[0.5,1.0]}]}'
    )
    assert row["preference_id"] == id_with(row, key)
    bare = one(Pair(), [CONSENSUS, *JURY])
    assert bare["preference_id"] == id_with(bare, None)


def test_a_step_without_them_is_named_as_before() -> None:
    assert set(Pair().resolved()) == {
        *("rule", "min_gap", "ties", "max_per_prompt", "aspects", "annotators", "direction", "view"),
    }
    step = Pair(p="votes", threshold=None, values={"r": {"annotator": "x", "labels": {"a": 0}}})
    assert Pair.restored(step.resolved()).model_dump() == step.model_dump()
    zero = Pair(rule="unpaired", threshold=0.0)
    assert zero.resolved()["threshold"] == 0.0 and Pair.restored(zero.resolved()).threshold == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"voters": ["human:*"]}, "voters belongs to p: votes"),
        ({"threshold": 0.5}, "threshold belongs to rule: unpaired"),
        ({"rule": "unpaired", "min_gap": 1}, "min_gap does nothing"),
        ({"rule": "unpaired", "ties": "keep"}, "ties does nothing"),
        ({"rule": "unpaired", "max_per_prompt": 1}, "max_per_prompt does nothing"),
        ({"rule": "unpaired", "p": "votes"}, "p does nothing"),
        ({"rule": "unpaired", "margin": "scores"}, "margin does nothing"),
        ({"values": {"a name": "x"}}, "'a name' is no name"),
        ({"values": {"x": {"annotator": "x", "labels": {}}}}, "labels gives each label a finite number"),
        ({"values": {"x": {"annotator": "x", "labels": {"a": 1}, "number": "position"}}}, "not both"),
    ],
)
def test_what_does_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pair(**fields)


def test_responses_alone() -> None:
    rows = [said([name], [value], aspect="thumbs") for name, value in zip("abc", [0.2, 0.9, 0.5], strict=True)]
    rows += [said(["d"], None, status="unparsed", aspect="thumbs")]
    row = one(Pair(rule="unpaired"), rows)
    assert (row["kind"], row["response_ids"], row["scores"]) == ("unpaired", ["b", "c", "a"], [0.9, 0.5, 0.2])
    assert row["edges"] is None and row["aspect"] == "thumbs" and len(row["annotation_ids"]) == 3
    labelled = one(Pair(rule="unpaired", threshold=0.5), rows)
    assert labelled["scores"] == [1.0, 1.0, 0.0] and labelled["preference_id"] != row["preference_id"]
    assert one(Pair(rule="unpaired"), rows[:1])["response_ids"] == ["a"], "one response is enough"
    valued = one(Pair(rule="unpaired", values={"raw": "judge:*"}), rows)
    assert valued["values"] == [{"name": "raw", "values": [0.9, 0.5, 0.2]}]
    assert made(Pair(rule="unpaired"), [said(["a"], None, status="failed")]) == []


def test_only_a_consensus_is_paired_where_the_step_is_told_so() -> None:
    far = vote("x", "y", prompt_id="p2")
    responses = [*RESPONSES, response("x", prompt_id="p2"), response("y", prompt_id="p2")]
    rows = [agreed({"a": 1.0, "b": 0.0}), vote("b", "a"), far]
    assert len(made(Pair(), rows, responses)) == 2
    assert [row["response_ids"] for row in made(Pair(only_consensus=True), rows, responses)] == [["a", "b"]]
    assert Pair().beside_consensus() is None and Pair(margin="scores").beside_consensus() is None
    for fields in ({"p": "votes"}, {"values": {"r": "x"}}):
        beside = Pair(**fields).beside_consensus()
        assert beside is not None and beside.only_consensus and beside.resolved()["only_consensus"] is True


def test_nothing_to_pair() -> None:
    beside = Beside({"r": "x"}, True, True)
    rows, _ = preferences_from(frame("annotations", []), frame("responses", []), rule="list", beside=beside)
    full, _ = preferences_from(
        frame("annotations", [CONSENSUS, *JURY]), frame("responses", RESPONSES), rule="list", beside=beside
    )
    assert rows.is_empty() and rows.schema == full.schema
    alone, _ = preferences_from(frame("annotations", []), frame("responses", []), rule="unpaired", beside=beside)
    assert alone.is_empty()


RULES = ["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list"]
verdicts = st.lists(
    st.tuples(st.permutations(NAMES).map(lambda names: names[:2]), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=12
)
strengths = st.lists(st.integers(0, 3), min_size=4, max_size=4)


def jury(cast: list[tuple[list[str], float]]) -> list[Row]:
    return [vote(*pair, p, annotator=f"judge:{number}") for number, (pair, p) in enumerate(cast)]


def by_hand(cast: list[tuple[list[str], float]], winner: str, loser: str) -> tuple[float, int]:
    """The sum over votes for the winner, and their number."""
    given_ = [p if pair == [winner, loser] else 1 - p for pair, p in cast if set(pair) == {winner, loser}]
    return sum(given_), len(given_)


@given(verdicts, strengths, st.sampled_from(RULES), st.booleans())
@settings(max_examples=60, deadline=None)
def test_p_is_the_share_of_votes_whatever_the_rule(
    cast: list[tuple[list[str], float]], scores: list[int], rule: str, margin: bool
) -> None:
    rows = [agreed(dict(zip(NAMES, map(float, scores), strict=True))), *jury(cast)]
    step = Pair(rule=rule, p="votes", margin="scores" if margin else None)
    plain = made(Pair(rule=rule), rows)
    for bare, row in zip(plain, made(step, rows), strict=True):
        assert row["response_ids"] == bare["response_ids"] and row["scores"] == bare["scores"]
        ids, of = row["response_ids"], dict(zip(row["response_ids"], row["scores"], strict=True))
        found = {} if row["edges"] is None else edges(row)
        for i, better in enumerate(ids):
            for worse in ids[i + 1 :]:
                won, votes = by_hand(cast, better, worse)
                stated = row["edges"] is not None and (of[better] > of[worse] or votes > 0)
                assert (better + worse in found) == stated
                if stated:
                    p, counted = found[better + worse]
                    assert counted == (votes or None) and p == (pytest.approx(won / votes) if votes else None)
        for edge in row["edges"] or ():
            assert edge["winner"] < edge["loser"]
            gap = row["scores"][edge["winner"]] - row["scores"][edge["loser"]]
            assert edge["margin"] == (gap if margin else None)


@given(verdicts, strengths, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_and_other_groups_move_no_bit(
    cast: list[tuple[list[str], float]], scores: list[int], draw: Any
) -> None:
    step = Pair(rule="list", p="votes", margin="scores", values={"w": "judge:*"})
    rows = [agreed(dict(zip(NAMES, map(float, scores), strict=True))), *jury(cast)]
    shuffled = rows[:]
    draw.shuffle(shuffled)
    elsewhere = [vote("x", "y", draw.choice([0.1, 0.7]), prompt_id="p0", annotator=f"judge:{n}") for n in range(3)]
    responses = [*RESPONSES, response("x", prompt_id="p0"), response("y", prompt_id="p0")]
    beside = [row for row in made(step, shuffled + elsewhere, responses) if row["prompt_id"] == "p1"]
    assert beside == made(step, rows)


@given(verdicts, strengths)
@settings(max_examples=40, deadline=None)
def test_turning_every_vote_round_takes_p_from_one(cast: list[tuple[list[str], float]], scores: list[int]) -> None:
    first = agreed(dict(zip(NAMES, map(float, scores), strict=True)))
    against = [(pair[::-1], p) for pair, p in cast]
    step = Pair(rule="list", p="votes")
    for row, turned in zip(made(step, [first, *jury(cast)]), made(step, [first, *jury(against)]), strict=True):
        if row["edges"] is None:
            assert turned["edges"] is None
            continue
        mine, theirs = edges(row), edges(turned)
        assert mine.keys() == theirs.keys()
        for pair, (p, votes) in mine.items():
            q, count = theirs[pair]
            assert votes == count and (p is None) == (q is None)
            assert p is None or q is None or p == pytest.approx(1 - q)


@given(verdicts, st.sampled_from(["unparsed", "abstain", "timeout", "failed", "skipped"]))
@settings(max_examples=30, deadline=None)
def test_failures_move_nothing(cast: list[tuple[list[str], float]], status: str) -> None:
    step = Pair(rule="list", p="votes", values={"w": "judge:*"})
    rows = [CONSENSUS, *jury(cast)]
    failed = [said(pair, None, status=status, annotator="judge:broken") for pair, _ in cast]
    assert made(step, rows) == made(step, rows + failed)


@given(verdicts, strengths, st.sampled_from(RULES))
@settings(max_examples=30, deadline=None)
def test_a_plan_makes_at_least_as_many(cast: list[tuple[list[str], float]], scores: list[int], rule: str) -> None:
    rows = [agreed(dict(zip(NAMES, map(float, scores), strict=True))), *jury(cast)]
    step = Pair(rule=rule, p="votes", margin="scores", values={"w": "judge:*", "two": "no:*"})
    planned = step.planned()
    assert isinstance(planned, PlannedPair) and len(made(planned, rows)) >= len(made(step, rows))


@given(strengths, st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_a_higher_threshold_wants_no_more(scores: list[int], threshold: float) -> None:
    rows = [said([name], [float(score)]) for name, score in zip(NAMES, scores, strict=True)]
    low = one(Pair(rule="unpaired", threshold=threshold), rows)
    high = one(Pair(rule="unpaired", threshold=threshold + 1), rows)
    assert low["response_ids"] == high["response_ids"]
    assert all(a >= b for a, b in zip(low["scores"], high["scores"], strict=True))
    assert low["scores"] == [float(score >= threshold) for score in sorted(scores, reverse=True)]
