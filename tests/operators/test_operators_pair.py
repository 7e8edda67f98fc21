"""Pairing: every rule by hand, ties, gaps, texts, what rests on what, and what gave no pair."""

from __future__ import annotations

from collections import Counter

import pytest
from operator_shapes import FakeContext, frame, response, run, said

from prefdata.errors import DataError
from prefdata.operators.pair import Pair, preferences_from
from prefdata.operators.pair_joint import PairJoint
from prefdata.schema import SCHEMAS, Row

RESPONSES = [response(name) for name in "abcde"]


def pairs(step: Pair, annotations: list[Row], responses: list[Row] = RESPONSES) -> list[tuple[str, ...]]:
    made = run(step, annotations=annotations, responses=responses)["preferences"]
    return sorted(tuple(row["response_ids"]) for row in made)


def reasons(annotations: list[Row], responses: list[Row] = RESPONSES, **settings: object) -> Counter[str]:
    return preferences_from(frame("annotations", annotations), frame("responses", responses), **settings)[1]  # type: ignore[arg-type]


RANKED = said(["b", "a", "d", "c"], [3, 4, 1, 2], protocol="rank", annotator="human:x", source="human")
TIED = said(["b", "a", "d", "c"], [3, 3, 1, 1], protocol="rank", annotator="human:x", source="human")


@pytest.mark.parametrize(
    ("rule", "ranked", "tied"),
    [
        ("best_worst", ["ad"], ["ad"]),
        ("all_pairs", ["ab", "ac", "ad", "bc", "bd", "cd"], ["ac", "ad", "bc", "bd"]),
        ("adjacent", ["ab", "bc", "cd"], ["bc"]),
        ("best_vs_rest", ["ab", "ac", "ad"], ["ac", "ad"]),
        ("list", ["abcd"], ["abcd"]),
    ],
)
def test_rules(rule: str, ranked: list[str], tied: list[str]) -> None:
    assert pairs(Pair(rule=rule), [RANKED]) == [tuple(word) for word in ranked]
    assert pairs(Pair(rule=rule), [TIED]) == [tuple(word) for word in tied]


def test_the_best_against_a_random_worse_one() -> None:
    """UltraFeedback, binarised: one pair for each prompt, chosen the best mean, rejected any of the others."""
    scores = dict(zip("abcd", [4, 4, 2, 1], strict=True))
    prompts = [f"p{number}" for number in range(200)]
    annotations = [said([f"{name}-{p}"], [score], prompt_id=p) for p in prompts for name, score in scores.items()]
    responses = [response(f"{name}-{p}", prompt_id=p) for p in prompts for name in scores]
    step = Pair(rule="best_vs_random")
    made = pairs(step, annotations, responses)
    assert len(made) == 200 and all(best[0] == "a" for best, _ in made)
    rejected = Counter(worse[0] for _, worse in made)
    fewer = pairs(step, annotations, [row for row in responses if row["response_id"][0] != "d"])
    assert set(fewer) >= {pair for pair in made if pair[1][0] != "d"}, "a response that was not drawn is not missed"
    assert set(rejected) == {"c", "d"} and min(rejected.values()) > 70, "a tie with the best is never rejected"
    tied = [said([name], [3]) for name in "abc"]
    assert pairs(Pair(rule="best_vs_random"), tied) == []
    assert reasons(tied, rule="best_vs_random") == {"tie": 1}
    assert pairs(Pair(rule="best_vs_random", ties="keep"), tied) == [("a", "c")]


def test_a_row_says_what_it_rests_on() -> None:
    made = run(Pair(rule="list"), annotations=[TIED], responses=RESPONSES)["preferences"]
    assert len(made) == 1
    row = made[0]
    assert row["response_ids"] == ["a", "b", "c", "d"] and row["scores"] == [3, 3, 1, 1]
    assert row["annotation_ids"] == [TIED["annotation_id"]]
    assert (row["prompt_id"], row["group_id"], row["kind"], row["aspect"]) == ("p1", "p1", "conditional", "overall")
    assert row["annotator"] == "human:x" and row["weight"] == 1


def test_scores_of_single_responses_join_one_list() -> None:
    rows = [said([name], [value]) for name, value in (("a", 0.1), ("b", 0.9), ("c", 0.5))]
    rows += [said(["a"], [1.0], annotator="judge:b"), said(["d"], [9], aspect="style"), said(["e"], [9], replicate=1)]
    made = run(Pair(), annotations=rows, responses=RESPONSES)["preferences"]
    assert [(row["response_ids"], row["scores"]) for row in made] == [(["b", "a"], [0.9, 0.1])]
    assert made[0]["annotation_ids"] == sorted([rows[0]["annotation_id"], rows[1]["annotation_id"]])
    assert reasons(rows) == Counter(single=3)
    whole = run(Pair(rule="list"), annotations=rows, responses=RESPONSES)["preferences"]
    assert whole[0]["annotation_ids"] == sorted(row["annotation_id"] for row in rows[:3])


def test_ties_are_dropped_or_kept_and_counted() -> None:
    even = said(["a", "b"], [0.5, 0.5])
    assert pairs(Pair(), [even]) == [] and reasons([even]) == Counter(tie=1)
    made = run(Pair(ties="keep"), annotations=[even], responses=RESPONSES)["preferences"]
    assert [(row["response_ids"], row["scores"]) for row in made] == [(["a", "b"], [0.5, 0.5])]
    flat = said(["a", "b", "c"], [1, 1, 1], protocol="rank")
    assert pairs(Pair(rule="list"), [flat]) == [] and reasons([flat]) == Counter(tie=1)
    assert pairs(Pair(rule="list", ties="keep"), [flat]) == [("a", "b", "c")]
    # A choice of one says nothing about the rest: no tie to be kept.
    choice = said(["a", "b", "c"], [0, 1, 0], protocol="choose")
    assert pairs(Pair(rule="all_pairs", ties="keep"), [choice]) == [("b", "a"), ("b", "c")]


def test_min_gap_means_at_least_and_more_than_zero() -> None:
    row = said(["a", "b", "c"], [0.3, 0.2, 0.0])
    assert pairs(Pair(rule="all_pairs", min_gap=0.1), [row]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs(Pair(rule="all_pairs", min_gap=0.2), [row]) == [("a", "c"), ("b", "c")]
    assert reasons([row], rule="all_pairs", min_gap=0.25) == Counter(gap=2)
    assert pairs(Pair(rule="list", min_gap=0.3), [row]) == [("a", "b", "c")]
    assert pairs(Pair(rule="list", min_gap=0.4), [row]) == []


def test_max_per_prompt_keeps_the_widest_gaps() -> None:
    assert pairs(Pair(rule="all_pairs", max_per_prompt=2), [RANKED]) == [("a", "c"), ("a", "d")]
    assert reasons([RANKED], rule="all_pairs", max_per_prompt=2) == Counter(max_per_prompt=4)
    other = said(["e", "a"], [1, 0], prompt_id="p2", group_id="p1")
    style = said(["e", "a"], [0, 1], aspect="style")
    assert len(pairs(Pair(rule="all_pairs", max_per_prompt=1), [RANKED, other, style])) == 3


def test_consensus_is_preferred_where_a_group_has_it() -> None:
    agreed = said(["a", "b"], [0.4, -0.4], protocol="score", annotator="consensus:bradley-terry", source="consensus")
    vote = said(["b", "a"], [1, 0])
    far = said(["x", "y"], [1, 0], prompt_id="p2")
    responses = [*RESPONSES, response("x", prompt_id="p2"), response("y", prompt_id="p2")]
    made = run(Pair(), annotations=[agreed, vote, far], responses=responses)["preferences"]
    assert {(tuple(row["response_ids"]), row["annotator"]) for row in made} == {
        (("a", "b"), None),
        (("x", "y"), "judge:a"),
    }
    assert pairs(Pair(annotators=["consensus:*"]), [agreed, vote, far], responses) == [("a", "b")]
    assert pairs(Pair(annotators=["judge:*"]), [agreed, vote, far], responses) == [("b", "a"), ("x", "y")]
    # An abstention is a consensus too: the votes that it rests on are not paired behind its back.
    silent = {**agreed, "status": "abstain", "scores": None}
    assert pairs(Pair(), [silent, vote]) == [] and reasons([silent, vote]) == Counter(invalid=1)


def test_equal_texts_are_never_paired() -> None:
    responses = [response("a", "Yes,  it\n is. "), response("b", "Yes, it is."), response("c", "No.")]
    row = said(["a", "b", "c"], [3, 2, 1], protocol="rank")
    assert pairs(Pair(rule="all_pairs"), [row], responses) == [("a", "c")]
    assert pairs(Pair(rule="list"), [row], responses) == [("a", "c")]
    assert reasons([row], responses) == Counter({"same text": 1})
    assert reasons([said(["a", "b"], [1, 0])], responses) == Counter({"same text": 1})
    # The same words to another prompt, or beside another picture, are another response.
    elsewhere = [responses[0], response("b", "Yes, it is.", prompt_id="p2", group_id="p1")]
    assert pairs(Pair(), [said(["a", "b"], [1, 0])], elsewhere) == [("a", "b")]
    pictured = [responses[0], response("b", "Yes, it is.", media=[{"sha256": "1"}])]
    assert pairs(Pair(), [said(["a", "b"], [1, 0])], pictured) == [("a", "b")]
    same = [response(name, "look", media=[{"sha256": "1"}]) for name in "ab"]
    assert pairs(Pair(), [said(["a", "b"], [1, 0])], same) == []


def test_missing_responses_and_invalid_annotations_are_counted() -> None:
    rows = [
        said(["a", "gone"], [1, 0]),
        said(["a", "b"], None, status="unparsed"),
        said(["a", "b"], None, protocol="critique", text="fine"),
        said(["a"], [1.0], annotator="other"),
        said(["p1"], [1.0], target="prompt"),
    ]
    context = FakeContext()
    assert run(Pair(), context, annotations=rows, responses=RESPONSES)["preferences"] == []
    assert context.said == ["no pair from: 1 invalid, 1 missing, 1 single"]


def test_a_measure_needs_a_direction() -> None:
    row = said(["a", "b"], [10, 20], protocol="measure", aspect="words")
    with pytest.raises(DataError, match="direction"):
        pairs(Pair(), [row])
    assert pairs(Pair(direction={"words": -1}), [row]) == [("a", "b")]
    assert pairs(Pair(direction={"words": 1}), [row]) == [("b", "a")]
    assert pairs(Pair(aspects=["overall"]), [row, said(["c", "d"], [1, 0])]) == [("c", "d")]


def test_joint_comparisons_keep_each_response_under_its_prompt() -> None:
    responses = [response("a"), response("b", prompt_id="p2"), response("c")]
    rows = [
        said(["b", "a"], [1, 0], prompt_id=None, group_id="p1"),
        said(["a", "c"], [0, 1], prompt_id=None, group_id="p1"),
    ]
    given = {"annotations": rows, "responses": responses}
    # b answers a prompt of another group, which need not be there when a's group is run again.
    (plain,) = run(Pair(), **given)["preferences"]
    assert run(Pair(), annotations=rows, responses=[responses[0], responses[2]])["preferences"] == [plain]
    (joint,) = run(PairJoint(), **given)["preferences"]
    assert (joint["response_ids"], plain["response_ids"]) == (["b", "a"], ["c", "a"])
    assert (joint["kind"], joint["prompt_ids"], joint["prompt_id"], joint["group_id"]) == (
        "joint",
        ["p2", "p1"],
        None,
        "p2",
    )
    assert (plain["kind"], plain["prompt_ids"], plain["prompt_id"]) == ("conditional", None, "p1")


def test_an_equal_statement_keeps_its_id_under_a_looser_rule() -> None:
    def ids(**settings: object) -> set[str]:
        made, _ = preferences_from(frame("annotations", [RANKED]), frame("responses", RESPONSES), **settings)  # type: ignore[arg-type]
        return set(made["preference_id"])

    assert ids(rule="best_worst") < ids(rule="best_vs_rest") < ids(rule="all_pairs")
    assert ids(rule="all_pairs", min_gap=2) < ids(rule="all_pairs")


def test_the_frame_has_every_column_even_when_empty() -> None:
    made, left_out = preferences_from(frame("annotations", []), frame("responses", []))
    assert made.columns == SCHEMAS["preferences"].names and not left_out
    full, _ = preferences_from(frame("annotations", [RANKED]), frame("responses", RESPONSES))
    assert full.schema == made.schema
