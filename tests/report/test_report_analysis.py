"""The analysis against numbers that were worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.dataset import Dataset, Plan, StepRecord
from prefdata.report import agreement, analyse, annotators, verdicts
from prefdata.report.numbers import histogram, plain, quantiles, share
from prefdata.report.page import page
from prefdata.report.reading import THRESHOLDS, percent, reading

SHORT, LONG = "short", "a much longer text"


def entry(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [made for made in found["annotators"] if made["name"] == name]
    return one


def against(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [made for made in found["reference"]["by"] if made["name"] == name]
    return one


def couple(found: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    (one,) = [made for made in found["agreement"] if (made["a"], made["b"]) == (a, b)]
    return one


def test_a_judge_that_always_takes_the_first(hand: Any) -> None:
    for n in range(12):
        hand.both_orders("judge:first", hand.prompt(f"q{n}", SHORT, LONG), 1.0, 1.0)
    found = entry(analyse(hand.dataset()), "judge:first")
    orders, first = found["position"]["orders"], found["position"]["first_shown"]
    assert (orders["pairs"], orders["n"], orders["part"], orders["share"], orders["ties"]) == (12, 12, 0, 0.0, 0)
    assert (orders["first_both"], orders["second_both"]) == (12, 0)
    assert orders["mcnemar_z"] == pytest.approx(math.sqrt(12))
    assert (first["share"], first["n"]) == (1.0, 24)
    assert found["length"]["n"] == 0
    assert found["length"]["share"] is None
    assert found["reading"]["level"] == "bad"
    assert found["reading"]["sentence"].startswith("Answers by position: its two orders agree in 0% of 12 pairs")
    assert "takes the first shown" in found["reading"]["sentence"]


def test_a_judge_that_always_takes_the_longer(hand: Any) -> None:
    for n in range(12):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        hand.both_orders("judge:long", ids, 0.2, 0.9)
    found = entry(analyse(hand.dataset()), "judge:long")
    assert found["position"]["orders"]["share"] == 1.0
    assert found["position"]["first_shown"]["share"] == 0.5
    assert (found["length"]["share"], found["length"]["n"]) == (1.0, 12)
    assert found["length"]["spearman"] == pytest.approx(1.0)
    assert "prefers the longer response in 100% of 12 pairs" in found["reading"]["sentence"]


def test_ties_between_the_orders_are_counted_apart(hand: Any) -> None:
    same, flipped, tied = (hand.prompt(f"q{n}", SHORT, LONG) for n in range(3))
    hand.both_orders("judge:x", same, 0.9, 0.2)
    hand.both_orders("judge:x", flipped, 0.1, 0.2)
    hand.both_orders("judge:x", tied, 0.5, 0.7)
    orders = entry(analyse(hand.dataset()), "judge:x")["position"]["orders"]
    assert (orders["pairs"], orders["n"], orders["part"], orders["ties"]) == (3, 2, 1, 1)
    assert (orders["first_both"], orders["second_both"], orders["mcnemar_z"]) == (0, 1, -1.0)


def test_a_comparison_in_one_order_says_nothing_of_two(hand: Any) -> None:
    hand.says("judge:x", hand.prompt("q", SHORT, LONG), [1.0, 0.0])
    orders = entry(analyse(hand.dataset()), "judge:x")["position"]["orders"]
    assert (orders["pairs"], orders["share"], orders["low"], orders["mcnemar_z"]) == (0, None, None, None)


def test_a_file_that_lists_the_winner_first_is_not_called_biased(hand: Any) -> None:
    for n in range(20):
        hand.says("human:someone", hand.prompt(f"q{n}", SHORT, SHORT + "!"), [1.0, 0.0], source="human")
    sentence = entry(analyse(hand.dataset(), reference="nobody"), "human:someone")["reading"]["sentence"]
    assert "either they are listed winner first" in sentence
    assert "Answers by position" not in sentence


def test_kappa_of_two_annotators_by_hand(hand: Any) -> None:
    for n in range(10):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        hand.says("a", ids, [1.0, 0.0])
        hand.says("b", ids[::-1], [0.0, 1.0] if n < 7 else [1.0, 0.0])
    found = couple(analyse(hand.dataset()), "a", "b")
    # 7 of 10 alike; each pair counted both ways round, chance is 1/2: (.7 - .5)/(1 - .5).
    assert (found["n"], found["shared"], found["percent"], found["kappa"]) == (10, 10, 0.7, 0.4)
    assert -1 <= found["low"] < 0.4 < found["high"] <= 1


def test_two_orders_that_contradict_each_other_are_a_tie(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    hand.both_orders("judge:first", ids, 0.9, 0.7)
    hand.says("judge:sure", ids, [1.0, 0.0])
    found = couple(analyse(hand.dataset()), "judge:first", "judge:sure")
    assert (found["n"], found["shared"], found["percent"], found["kappa"]) == (0, 1, None, None)
    assert found["percent_with_ties"] == 0.0


def test_where_the_verdicts_cancel_the_average_may_still_decide(hand: Any) -> None:
    """P(a) is .9 shown first and .3 shown second: a tie by verdicts, .6 on the average."""
    for n in range(3):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        hand.both_orders("judge:x", ids, 0.9, 0.7)
        hand.says("author", ids, [2.0, 1.0], protocol="rank", source="human")
    found = against(analyse(hand.dataset()), "judge:x")
    assert (found["shared"], found["n"], found["accuracy"], found["undecided"]) == (3, 0, None, 3)
    assert found["half"]["accuracy"] == 0.5
    assert (found["averaged"]["n"], found["averaged"]["accuracy"]) == (3, 1.0)
    assert (found["longer"]["n"], found["longer"]["accuracy"]) == (0, None)
    assert (found["longer_of_shared"]["n"], found["longer_of_shared"]["accuracy"]) == (3, 0.0)


def test_rankings_scores_and_choices_are_orders_too(hand: Any) -> None:
    ids = hand.prompt("q", "one", "two", "three")
    hand.says("ranks", ids, [3.0, 2.0, 1.0], protocol="rank")
    for response_id, score in zip(ids, [5.0, 5.0, 1.0], strict=True):
        hand.says("scores", [response_id], [score], protocol="score")
    hand.says("chooses", ids, [1.0, 0.0, 0.0], protocol="choose")
    hand.says("measures", ids, [1.0, 2.0, 3.0], protocol="measure")
    found = analyse(hand.dataset())
    by_score = couple(found, "ranks", "scores")
    assert (by_score["n"], by_score["shared"], by_score["percent"]) == (2, 3, 1.0)
    by_choice = couple(found, "chooses", "ranks")
    assert (by_choice["n"], by_choice["shared"]) == (2, 2)  # nothing is said within the rest
    assert not [made for made in found["agreement"] if "measures" in (made["a"], made["b"])]
    assert (entry(found, "scores")["ties"]["part"], entry(found, "scores")["ties"]["n"]) == (1, 3)
    assert entry(found, "scores")["distribution"]["histogram"] == [{"value": 1.0, "n": 1}, {"value": 5.0, "n": 2}]


def test_different_aspects_are_not_mixed(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    hand.says("a", ids, [1.0, 0.0], aspect="honesty")
    hand.says("b", ids, [1.0, 0.0], aspect="style")
    assert analyse(hand.dataset())["agreement"] == []


def test_the_reference_and_the_longer_one(hand: Any) -> None:
    """Over 30 pairs the author prefers the longer one in 10; the judge is right in 27, the longer one in 10."""
    for n in range(30):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        hand.says("author", ids, [1.0, 2.0] if n < 10 else [2.0, 1.0], protocol="rank", source="human")
        right = [0.0, 1.0] if n < 10 else [1.0, 0.0]
        hand.says("judge:x", ids, right[::-1] if n in (9, 28, 29) else right)
    result = analyse(hand.dataset())
    found = against(result, "judge:x")
    assert (result["reference"]["annotators"], result["reference"]["pairs"]) == (1, 30)
    assert (found["shared"], found["n"], found["right"], found["accuracy"]) == (30, 30, 27, 0.9)
    assert found["low"] == pytest.approx(0.7438, abs=1e-4)  # Wilson, 27 of 30
    assert found["high"] == pytest.approx(0.9654, abs=1e-4)
    assert found["longer"]["accuracy"] == pytest.approx(1 / 3)
    # They differ where the judge takes the shorter one: wrongly in pair 9, rightly in pairs 10 to 27.
    assert (found["beats_longer"]["n"], found["beats_longer"]["accuracy"]) == (19, pytest.approx(18 / 19))
    assert entry(result, "judge:x")["reading"]["level"] == "good"
    assert entry(result, "author")["reading"]["level"] == "reference"


def test_people_are_held_against_the_others(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    for name, scores in (("human:a", [1.0, 0.0]), ("human:b", [1.0, 0.0]), ("human:c", [0.0, 1.0])):
        hand.says(name, ids, scores, source="human")
    found = analyse(hand.dataset(), reference="human:*")
    assert found["reference"]["names"] == ["human:a", "human:b", "human:c"]
    # a: the others are one against one, which is no order; c: both others disagree with it.
    assert [(made["name"], made["right"], made["n"]) for made in found["reference"]["by"]] == [("human:c", 0, 1)]


def test_an_aspect_that_the_reference_has_not_is_held_against_overall(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    hand.says("author", ids, [1.0, 0.0], source="human")
    hand.says("judge:x", ids, [1.0, 0.0], aspect="helpfulness")
    found = against(analyse(hand.dataset()), "judge:x")
    assert (found["aspect"], found["reference_aspect"], found["right"]) == ("helpfulness", "overall", 1)


def test_an_unknown_reference_is_said(hand: Any) -> None:
    hand.says("judge:x", hand.prompt("q", SHORT, LONG), [1.0, 0.0])
    found = analyse(hand.dataset(), reference="author")
    assert found["reference"]["by"] == []
    assert any("'author'" in note for note in found["limits"]["notes"])
    assert "No annotator here is called author" in found["judges"]["advice"][0]["sentences"][0]
    assert "no annotator is called author" in page(found)


def test_alpha_by_hand(hand: Any) -> None:
    """Two raters, two pairs: alike on one, unlike on the other. Values as first better (+) or second (-)."""
    pairs = [hand.prompt(f"q{n}", SHORT, LONG) for n in range(2)]
    for n, ids in enumerate(pairs):
        low, high = sorted(ids)
        hand.says("a", [low, high], [1.0, 0.0])
        hand.says("b", [low, high], [1.0, 0.0] if n == 0 else [0.0, 1.0])
        hand.says("consensus:x", [low, high], [1.0, 0.0], source="consensus")
    (found,) = analyse(hand.dataset())["alpha"]
    # n = 4 values: three +, one -. D_o = 2 of 4, expected 2 * 3 * 1 / (4 * 3): alpha = 1 - (3 * 2)/6 = 0.
    assert (found["over"], found["annotators"], found["pairs"], found["alpha"]) == ("all", 2, 2, 0.0)


def test_a_judgement_without_a_verdict_is_counted_and_is_no_zero(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    hand.says("judge:x", ids, None, status="unparsed")
    hand.says("judge:x", ids, None, status="refused")
    hand.says("judge:x", ids, [1.0, 0.0])
    hand.says("judge:x", ids[::-1], [0.0, 1.0])
    hand.says("judge:silent", ids, None, status="failed")
    found = analyse(hand.dataset())
    one = entry(found, "judge:x")
    assert one["n"] == 4
    assert one["statuses"]["unparsed"] == {"n": 1, "share": 0.25}
    assert one["position"]["first_shown"]["n"] == 2
    silent = entry(found, "judge:silent")
    assert silent["distribution"] is None
    assert silent["ties"]["share"] is None
    assert silent["length"] == {**share(0, 0), "spearman": None, "spearman_of": None}
    assert silent["reading"]["sentence"] == "Gave no usable judgement (1 failed)."


def test_what_was_dropped_and_what_follows(hand: Any) -> None:
    kept = hand.prompt("kept", SHORT, LONG, source="web", tags=["x"])
    gone = hand.prompt("gone", SHORT, LONG, "third", source="web")
    lost = hand.prompt("lost", SHORT, LONG, source="book")
    for ids in (kept, gone, lost):
        hand.says("judge:x", ids[:2], [1.0, 0.0])
        hand.prefers(ids[:2], [1.0, 0.0])
    hand.says("author", gone, [3.0, 2.0, 1.0], protocol="rank", source="human")
    ds = hand.dataset()
    ds.drop("responses", gone[:1], reason="rude")
    ds.drop("prompts", [hand.prompts["lost"]["prompt_id"]], reason="off topic")
    found = analyse(ds)["flow"]
    assert found["tables"]["prompts"] == {"came_in": 3, "dropped": 1, "hidden": 0, "loose": 0, "live": 2}
    assert found["tables"]["responses"] == {"came_in": 7, "dropped": 1, "hidden": 2, "loose": 0, "live": 4}
    assert found["tables"]["annotations"] == {"came_in": 4, "dropped": 0, "hidden": 2, "loose": 0, "live": 2}
    assert found["tables"]["preferences"] == {"came_in": 3, "dropped": 0, "hidden": 2, "loose": 0, "live": 1}
    assert found["shortened"] == 1
    assert [(d["name"], d["table"], d["reason"], d["n"]) for d in found["dropped"]] == [
        ("labels:labels", "prompts", "off topic", 1),
        ("labels:labels", "responses", "rude", 1),
    ]
    assert found["prompts"]["by_source"] == [
        {"source": "web", "came_in": 2, "live": 2},
        {"source": "book", "came_in": 1, "live": 0},
    ]
    assert found["prompts"]["by_tag"] == [{"tag": "x", "came_in": 1, "live": 1}]
    ds.restore("prompts", [hand.prompts["lost"]["prompt_id"]])
    ds.restore("responses", gone[:1])
    assert analyse(ds)["flow"]["tables"]["responses"]["live"] == 7


def test_what_came_in_is_not_known_of_a_plain_mapping(hand: Any) -> None:
    hand.says("judge:x", hand.prompt("q", SHORT, LONG), [1.0, 0.0])
    ds = hand.dataset()
    found = analyse(ds, view=dict(ds.view()))
    assert found["flow"]["tables"]["prompts"] == {
        "came_in": None,
        "dropped": None,
        "hidden": None,
        "loose": None,
        "live": 1,
    }
    assert found["flow"]["prompts"]["by_source"] == [{"source": None, "came_in": None, "live": 1}]
    assert found["annotators"] == analyse(ds)["annotators"]


def test_pairs_and_ties_of_lists(hand: Any) -> None:
    ids = hand.prompt("q", "aaaa", "bb", "cc")
    hand.prefers(ids, [3.0, 2.0, 2.0])
    other = hand.prompt("r", "a", "bb")
    hand.prefers(other, [1.0, 0.0])
    hand.prefers(other, [1.0, 0.0], kind="unpaired")
    found = analyse(hand.dataset())
    (listed,) = [made for made in found["flow"]["preferences"] if made["kind"] == "conditional"]
    assert (listed["lists"], listed["responses"], listed["pairs"], listed["ties"]) == (2, 5, 3, 1)
    assert (found["pairs"]["n"], found["pairs"]["ties"]) == (3, 1)
    # aaaa beats bb and cc as the longer one, a beats bb as the shorter one.
    assert (found["pairs"]["longer_chosen"]["part"], found["pairs"]["longer_chosen"]["n"]) == (2, 3)
    assert found["pairs"]["models"] == [{"model": "m", "chosen": 3, "rejected": 3}]
    assert found["pairs"]["ratio"]["max"] == 2.0


def test_edges_state_the_pairs_where_they_are_given(hand: Any) -> None:
    ids = hand.prompt("q", "a", "bb", "ccc")
    edges = [{"winner": 2, "loser": 0}, {"winner": 1, "loser": 0, "p": 0.5}]
    hand.prefers(ids, [3.0, 2.0, 1.0], edges=edges)
    found = analyse(hand.dataset())
    assert (found["pairs"]["n"], found["pairs"]["ties"]) == (1, 1)
    assert found["pairs"]["longer_chosen"]["share"] == 1.0


def test_where_most_votes_are_against_an_edge_its_loser_is_the_better_one(hand: Any) -> None:
    ids = hand.prompt("q", "a", "bb")
    hand.prefers(ids, [2.0, 1.0], edges=[{"winner": 0, "loser": 1, "p": 0.25, "votes": 4}])
    found = analyse(hand.dataset())
    assert (found["pairs"]["n"], found["pairs"]["longer_chosen"]["share"]) == (1, 1.0)
    unknown = hand.prompt("r", "a", "bb")
    hand.prefers(unknown, [2.0, 1.0], edges=[{"winner": 0, "loser": 1, "margin": 1.0}])
    assert analyse(hand.dataset())["pairs"]["longer_chosen"]["share"] == 0.5


def test_examples_are_the_extremes(hand: Any) -> None:
    for gap in (0.1, 0.5, 0.9):
        hand.prefers(hand.prompt(f"gap {gap}", "better", "worse"), [gap, 0.0])
    tied = hand.prompt("tie", "one", "other")
    hand.prefers(tied, [1.0, 1.0])
    hand.says("a", tied, [1.0, 0.0])
    hand.says("b", tied, [0.0, 1.0])
    found = analyse(hand.dataset())["examples"]
    first = {kind: next(made for made in found if made["kind"] == kind) for kind in {made["kind"] for made in found}}
    assert first["largest_gap"]["prompt"] == "gap 0.9"
    assert first["smallest_gap"]["prompt"] == "gap 0.1"
    assert first["smallest_gap"]["first"]["text"] == "better"
    assert first["tie"]["prompt"] == first["disagreement"]["prompt"] == "tie"
    said = {verdict["annotator"]: verdict["says"] for verdict in first["disagreement"]["verdicts"]}
    assert sorted(said.values()) == ["first", "second"]


def test_without_preferences_the_votes_give_the_examples(hand: Any) -> None:
    clear, even = hand.prompt("clear", "a", "b"), hand.prompt("even", "a", "b")
    for name in ("x", "y"):
        hand.says(name, clear, [0.0, 1.0])
        hand.says(name, even, [0.5, 0.5])
    found = analyse(hand.dataset())["examples"]
    assert [(made["kind"], made["prompt"], made["gap"]) for made in found] == [
        ("largest_gap", "clear", None),
        ("tie", "even", None),
    ]
    assert found[0]["first"]["text"] == "b"


def test_cost_counts_each_call_once(hand: Any) -> None:
    hand.prompt("q", SHORT)
    ds = hand.dataset()
    paid = {"step": "s@1", "model": "m", "prompt_tokens": 10, "completion_tokens": 5, "money": 0.25, "seconds": 2.0}
    calls = [
        {"call_id": "1", "cached": False, **paid},
        {"call_id": "1", "cached": False, **paid},
        {"call_id": "2", "cached": True, **paid},
        {"call_id": "3", "cached": False, "step": "t@1", "model": "other", "error": "no answer"},
    ]
    ds.commit({"calls": calls}, "calls")
    found = analyse(ds)["cost"]
    total = found["total"]
    assert (total["calls"], total["paid"], total["cached"], total["failed"]) == (3, 2, 1, 1)
    assert (total["tokens"], total["money"], total["seconds"]) == (15, 0.25, 2.0)
    other = next(made for made in found["by"] if made["model"] == "other")
    assert (other["tokens"], other["money"], other["live"]) == (None, None, False)


def test_one_pipeline_alone(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    hand.says("author", ids, [1.0, 0.0], source="human")
    ds = hand.dataset()
    group = hand.prompts["q"]["group_id"]
    for name in ("one", "two"):
        step = f"judge@{name}"
        hand.says(f"judge:{name}", ids, [1.0, 0.0])
        rows = {
            "annotations": [{**hand.annotations.pop(), "step": step}],
            "progress": [{"pipeline": name, "step": step, "group_id": group, "digest": "d"}],
            "calls": [{"call_id": name, "step": step, "model": "m", "cached": False}],
        }
        record = StepRecord(step=step, name="judge", kind="judge.compare")
        ds.commit(rows, name, steps=[record], plan=Plan(pipeline=name, steps=(step,)))
    both, one = analyse(ds), analyse(ds, pipeline="one")
    assert {made["name"] for made in both["annotators"]} == {"author", "judge:one", "judge:two"}
    assert {made["name"] for made in one["annotators"]} == {"author", "judge:one"}
    assert (both["cost"]["total"]["calls"], one["cost"]["total"]["calls"]) == (2, 1)
    assert [made["name"] for made in both["cost"]["by"]] == ["judge", "judge"]
    assert both["cost"]["by"][0]["live"]
    assert both["dataset"]["pipelines"] == ["one", "two"]
    assert [(made["name"], made["kind"], made["pipeline"]) for made in one["dataset"]["steps"]] == [
        ("import:hand", "import", None),
        ("judge", "judge.compare", "one"),
    ]
    ds.commit({}, "edited", plan=Plan(pipeline="two", steps=()))
    edited = analyse(ds)
    assert "judge:two" not in {made["name"] for made in edited["annotators"]}
    assert [made["live"] for made in edited["cost"]["by"]] == [True, False]


def test_a_scorer_that_gives_one_score(hand: Any) -> None:
    for n in range(20):
        (response_id,) = hand.prompt(f"q{n}", SHORT)
        hand.says("judge:flat", [response_id], [0.8 if n < 17 else n / 100], protocol="score")
    found = entry(analyse(hand.dataset()), "judge:flat")
    assert found["distribution"]["most_frequent"] == {"value": 0.8, "n": 17}
    assert (
        "low" in found["distribution"]["histogram"][0]
    )  # uneven values do not stand side by side as if they were even
    assert found["reading"]["sentence"] == "Gives the score 0.8 to 85% of 20 responses."


def test_seconds_of_people(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    for seconds in (10.0, 20.0, 90.0):
        hand.says("human:a", ids, [1.0, 0.0], source="human", seconds=seconds)
    hand.says("judge:x", ids, [1.0, 0.0])
    found = analyse(hand.dataset())
    assert entry(found, "human:a")["seconds"] == {"n": 3, "median": 20.0, "q90": 76.0, "total": 120.0}
    assert entry(found, "judge:x")["seconds"] is None


def test_an_annotator_of_prompts_is_not_one_of_responses(hand: Any) -> None:
    ids = hand.prompt("q", SHORT)
    row = {**hand.responses[ids[0]], "response_id": hand.prompts["q"]["prompt_id"]}
    hand.responses[row["response_id"]] = row
    hand.says("rule:split", [row["response_id"]], None, target="prompt", protocol="label", labels=["train"])
    del hand.responses[row["response_id"]]
    found = entry(analyse(hand.dataset()), "rule:split")
    assert found["targets"] == ["prompt"]
    assert found["reading"]["sentence"] == "Says nothing of responses: it is about prompts."


def test_an_empty_dataset(tmp_path: Path) -> None:
    found = analyse(Dataset.create(tmp_path / "empty"))
    assert found["annotators"] == found["agreement"] == found["examples"] == found["alpha"] == []
    assert found["cost"]["total"]["tokens"] is None
    assert found["pairs"]["longer_chosen"]["share"] is None


def test_only_the_most_active_have_entries_of_their_own(hand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotators, "MOST_ANNOTATORS", 2)
    monkeypatch.setattr(agreement, "MOST_COUPLES", 1)
    for n in range(3):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        for place, name in enumerate(["busy", "idle", "lazy"]):
            if n >= place:
                hand.says(name, ids, [1.0, 0.0])
    found = analyse(hand.dataset())
    assert [made["name"] for made in found["annotators"]] == ["busy", "idle"]
    assert found["annotators_rest"] == {"annotators": 1, "annotations": 1, "ok": 1}
    assert [(made["a"], made["b"], made["n"]) for made in found["agreement"]] == [("busy", "idle", 2)]
    assert len(found["limits"]["notes"]) == 2
    assert [(made["source"], made["annotators"], made["n"]) for made in found["pooled"]] == [("judge", 3, 6)]
    counted = {made["annotator"]: made["live"] for made in found["flow"]["annotations"]}
    assert counted == {"busy": 3, "idle": 2, None: 1}


def test_too_many_pairs_are_cut_by_whole_prompts(hand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "MOST_PAIRS", 7)
    for n in range(4):
        hand.says("ranks", hand.prompt(f"q{n}", "a", "b", "c"), [3.0, 2.0, 1.0], protocol="rank")
    found = analyse(hand.dataset())
    assert entry(found, "ranks")["ties"]["n"] == 6
    assert entry(found, "ranks")["n"] == 4
    assert "12 pairs" in found["limits"]["notes"][0]
    assert "2 of 4 prompts" in found["limits"]["notes"][0]


def test_too_many_meetings_are_cut_and_said(hand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MOST_MEETINGS", 8)
    monkeypatch.setattr(agreement, "ACTIVE", 2)
    for n in range(4):
        ids = hand.prompt(f"q{n}", SHORT, LONG)
        for name in ("a", "b", "c")[: 2 + (n == 0)]:
            hand.says(name, ids, [1.0, 0.0])
    found = analyse(hand.dataset())
    assert [(made["a"], made["b"], made["n"]) for made in found["agreement"]] == [("a", "b", 2)]
    assert found["limits"]["notes"] == [
        "Agreement is taken from the 2 most active of 3 annotators.",
        "Agreement of two annotators is taken from the 2 of 4 prompts whose ids come first (ids are hashes).",
    ]


def test_a_score_that_is_no_number_is_left_out_and_said(hand: Any) -> None:
    ids = hand.prompt("q", SHORT, LONG)
    ds = hand.dataset()
    row = {**_score(hand, ids[0], 1.0), "step": "labels:x"}
    ds.commit({"annotations": [row, {**_score(hand, ids[1], math.inf), "step": "labels:x"}]}, "odd", steps=[_labels()])
    found = analyse(ds)
    assert entry(found, "rule:odd")["distribution"]["quantiles"]["max"] == 1.0
    assert "no finite number" in found["limits"]["notes"][0]
    json.dumps(found, allow_nan=False)


def _score(hand: Any, response_id: str, score: float) -> dict[str, Any]:
    hand.says("rule:odd", [response_id], [score], protocol="score", source="rule")
    return hand.annotations.pop() | {"annotation_id": f"{score}"}


def _labels() -> Any:
    return StepRecord(step="labels:x", name="labels:x", kind="labels")


def test_votes_of_a_crowd(data_folder: Path, tmp_path: Path) -> None:
    """UKPConvArg1: 29,485 votes of 3,144 people, whose nominal alpha its README gives as 0.324."""
    votes = pl.read_parquet(data_folder / "ukpconvarg1_votes.parquet")
    ds = _crowd(data_folder, tmp_path / "ukp", votes)
    found = analyse(ds)
    (together,) = found["pooled"]
    assert (together["n"], together["annotators"]) == (votes.height, votes["worker"].n_unique())
    assert together["ties"]["part"] == votes.filter(pl.col("value") == "equal").height
    assert together["position"]["first_shown"]["part"] == votes.filter(pl.col("value") == "a1").height
    assert found["alpha"][0]["alpha"] == pytest.approx(0.324, abs=1e-3)
    assert len(found["annotators"]) == annotators.MOST_ANNOTATORS
    assert len(found["agreement"]) == agreement.MOST_COUPLES
    shared = [made["shared"] for made in found["agreement"]]
    assert shared == sorted(shared, reverse=True)
    named = sum(made["n"] for made in found["annotators"])
    assert named + found["annotators_rest"]["annotations"] == votes.height
    json.dumps(found, allow_nan=False)


def _crowd(folder: Path, path: Path, votes: pl.DataFrame) -> Dataset:
    from prefdata.schema import annotation, message, prompt, response

    arguments = pl.read_parquet(folder / "ukpconvarg1_arguments.parquet")
    pairs = pl.read_parquet(folder / "ukpconvarg1_pairs.parquet")
    prompts = {topic: prompt([message("user", topic)]) for topic in arguments["topic"].unique().sort()}
    responses = {
        (row["topic"], row["arg_id"]): response(
            prompts[row["topic"]], model="human", text=row["text"], key=row["arg_id"]
        )
        for row in arguments.to_dicts()
    }
    scores = {"a1": [1.0, 0.0], "a2": [0.0, 1.0], "equal": [0.5, 0.5]}
    said = []
    for row in votes.join(pairs.select("topic", "pair_id", "arg1", "arg2"), on=["topic", "pair_id"]).to_dicts():
        asked = prompts[row["topic"]]
        said.append(
            annotation(
                group_id=asked["group_id"],
                prompt_id=asked["prompt_id"],
                target_ids=[responses[row["topic"], row[side]]["response_id"] for side in ("arg1", "arg2")],
                protocol="compare",
                annotator=f"human:{row['worker']}",
                source="human",
                scores=scores[row["value"]],
                key=row["pair_id"],
            )
        )
    ds = Dataset.create(path)
    rows = {"prompts": list(prompts.values()), "responses": list(responses.values()), "annotations": said}
    ds.add_import(rows, source="votes", fields={})
    return ds


def test_the_same_dataset_gives_the_same_bytes(hand: Any) -> None:
    for n in range(6):
        ids = hand.prompt(f"q{n}", SHORT, LONG, "third")
        hand.both_orders("judge:x", ids[:2], 0.1 + n / 10, 0.3)
        hand.says("author", ids, [3.0, 1.0, 2.0], protocol="rank", source="human")
        hand.prefers(ids, [0.3, 0.2, 0.1])
    ds = hand.dataset()
    assert json.dumps(analyse(ds)) == json.dumps(analyse(Dataset(ds.path)))


def test_turning_what_is_shown_turns_the_position_habit_and_nothing_else(hand: Any, tmp_path: Path) -> None:
    shown = [0.9, 0.6, 0.8, 0.3, 0.7]
    turned = type(hand)(tmp_path / "turned")
    for n, p in enumerate(shown):
        for made, turn in ((hand, False), (turned, True)):
            ids = made.prompt(f"q{n}", SHORT, LONG)
            made.says("judge:x", ids[::-1] if turn else ids, [1 - p, p] if turn else [p, 1 - p])
    one, other = (entry(analyse(made.dataset()), "judge:x") for made in (hand, turned))
    assert one["position"]["first_shown"]["share"] == pytest.approx(1 - other["position"]["first_shown"]["share"])
    assert one["length"] == other["length"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_a_histogram_counts_everything_once(values: list[float]) -> None:
    assert sum(bar["n"] for bar in histogram(values)) == len(values)
    found = quantiles(values)
    assert found is not None
    assert found["min"] == min(values)
    assert found["q25"] <= found["median"] <= found["q75"]


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_lies_in_its_interval(part: int, rest: int) -> None:
    found = share(part, part + rest)
    assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1


def test_what_json_cannot_hold_becomes_null() -> None:
    assert plain({"a": math.nan, "b": [math.inf, 1 / 3], 3: (1,)}) == {"a": None, "b": [None, 0.3333333333], "3": [1]}


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (0.0, "0%"), (0.001, "<1%"), (0.996, ">99%"), (1.0, "100%"), (0.044, "4%")],
)
def test_percent_in_words(value: float | None, words: str) -> None:
    assert percent(value) == words


def _numbers(**changes: Any) -> dict[str, Any]:
    """An annotator about whom there is nothing to say."""
    return {
        "name": "judge:x",
        "source": "judge",
        "protocol": "compare",
        "targets": ["response"],
        "n": 100,
        "statuses": {"ok": {"n": 100, "share": 1.0}},
        "distribution": None,
        "position": {
            "first_shown": {**share(50, 100), "ties": 0},
            "orders": {**share(0, 0), "pairs": 0, "ties": 0, "first_both": 0, "second_both": 0, "mcnemar_z": None},
        },
        "length": {**share(50, 100), "spearman": None, "spearman_of": None},
        "ties": share(0, 100),
        **changes,
    }


def _orders(same: int, n: int) -> dict[str, Any]:
    orders = {**share(same, n), "pairs": n, "ties": 0, "first_both": 0, "second_both": n - same, "mcnemar_z": None}
    return {"first_shown": {**share(50, 100), "ties": 0}, "orders": orders}


@pytest.mark.parametrize(
    ("changes", "level", "says"),
    [
        ({}, "unknown", "No habit stands out, but no pair was judged in both orders; there is nothing"),
        ({"position": _orders(4, 100)}, "bad", "two orders agree in 4% of 100 pairs"),
        ({"position": _orders(4, 100)}, "bad", "takes the second shown"),
        ({"position": _orders(49, 100)}, "bad", "Answers by position"),
        ({"position": _orders(50, 100)}, "mixed", "Often changes its mind"),
        ({"position": _orders(80, 100)}, "unknown", "Does not depend on the order"),
        ({"position": _orders(0, THRESHOLDS.least - 1)}, "unknown", "No habit stands out"),
        ({"length": share(30, 100)}, "mixed", "Prefers the shorter response in 70% of 100 pairs"),
        ({"length": share(64, 100)}, "unknown", "No habit stands out"),
        ({"ties": share(60, 100)}, "mixed", "Calls 60% of 100 pairs a tie"),
        ({"statuses": {"ok": {"n": 80, "share": 0.8}, "unparsed": {"n": 20, "share": 0.2}}}, "mixed", "20 unparsed"),
        ({"statuses": {"ok": {"n": 20, "share": 0.2}, "abstain": {"n": 80, "share": 0.8}}}, "unknown", "No habit"),
        ({"statuses": {"abstain": {"n": 100, "share": 1.0}}}, "unknown", "Abstained each time (100)"),
    ],
)
def test_a_reading_follows_the_stated_thresholds(changes: dict[str, Any], level: str, says: str) -> None:
    found = reading(_numbers(**changes), None, "author", [])
    assert found["level"] == level
    assert says in found["sentence"]


def _held(right: int, n: int, *, longer: int, beats: tuple[int, int], shared: int = 0) -> dict[str, Any]:
    def brief(part: int, whole: int) -> dict[str, Any]:
        found = share(part, whole)
        return {"accuracy": found["share"], "low": found["low"], "high": found["high"], "n": whole}

    at = brief(right, n)
    by_length = brief(longer, n)
    return {
        **at,
        "n": n,
        "shared": shared or n,
        "leave_one_out": False,
        "longer": by_length,
        "longer_of_shared": by_length,
        "beats_longer": brief(*beats),
    }


@pytest.mark.parametrize(
    ("held", "level", "says"),
    [
        (_held(80, 100, longer=60, beats=(30, 40)), "good", 'better than "the longer one is better" (60%)'),
        (_held(70, 100, longer=68, beats=(22, 42)), "mixed", "not clearly better"),
        (_held(65, 100, longer=80, beats=(10, 40)), "bad", "worse than"),
        (_held(52, 100, longer=50, beats=(20, 40)), "bad", "cannot be told from chance"),
        (_held(20, 100, longer=50, beats=(10, 40)), "bad", "worse than chance"),
        (_held(5, 5, longer=1, beats=(4, 4)), "unknown", "only 5 pairs to hold against author"),
        (_held(2, 2, longer=1, beats=(1, 1), shared=46), "bad", "decides only 2 of the 46 pairs that author orders"),
        (_held(0, 0, longer=0, beats=(0, 0), shared=46), "bad", "decides none of the 46 pairs"),
    ],
)
def test_a_reading_of_the_reference(held: dict[str, Any], level: str, says: str) -> None:
    found = reading(_numbers(), held, "author", [])
    assert found["level"] == level
    assert says.lower() in found["sentence"].lower()
