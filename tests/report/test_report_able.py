"""Abilities, biases, calibration and variation of annotators, by hand; and what the page makes of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from prefdata.dataset import Dataset
from prefdata.report import analyse
from prefdata.report.abilities import FILE, abilities, interval_file
from prefdata.report.bias import bias, length_slope, mcnemar, position_logit
from prefdata.report.calibration import calibration
from prefdata.report.card import card
from prefdata.report.decided import decided
from prefdata.report.page import page
from prefdata.report.pairs import expanded
from prefdata.report.spread import scores
from prefdata.report.variation import variation, variation_of
from prefdata.report.verdicts import verdicts_of
from prefdata.schema import annotation

HOSTILE = "</style><script>alert(1)</script>\u202egnp"


def found_in(hand: Any) -> tuple[Dataset, Any, Any]:
    ds = hand.dataset()
    view = ds.view()
    return ds, view, verdicts_of(view)


def ability(hand: Any, who: str, value: float, aspect: str = "ability") -> None:
    hand.annotations.append(
        annotation(
            group_id="*",
            prompt_id=None,
            target="annotator",
            target_ids=[who],
            protocol="score",
            annotator="consensus:one-coin",
            source="consensus",
            aspect=aspect,
            scores=[value],
            key=len(hand.annotations),
        )
    )


def test_abilities_without_a_model_are_agreement_with_the_others(hand: Any) -> None:
    """Three people on ten pairs: two always take the first, the third on four of them; a judge is not among them."""
    for place in range(10):
        ids = hand.prompt(f"q{place}", "a", "b")
        for who, first in (("human:a", True), ("human:b", True), ("human:c", place < 4)):
            hand.says(who, ids, [1.0, 0.0] if first else [0.0, 1.0], source="human")
        hand.says("judge:x", ids, [0.0, 1.0])
    ds, view, verdicts = found_in(hand)
    made = abilities(view, verdicts, ds.path / "artifacts", ds.snapshot)
    assert made["models"] is None
    # Of a and b the other two are split on six pairs: only four are left.
    assert {one["name"]: (one["part"], one["n"]) for one in made["majority"]["by"]} == {
        "human:a": (4, 4),
        "human:b": (4, 4),
        "human:c": (4, 10),
    }
    assert made["majority"]["with_enough"] == 1


def test_fitted_abilities_have_the_intervals_of_the_artifact(hand: Any) -> None:
    ids = hand.prompt("q", "a", "b")
    hand.says("human:a", ids, [1.0, 0.0], source="human")
    for who, value in (("human:a", 0.9), (HOSTILE, 0.6)):
        ability(hand, who, value)
    ability(hand, "human:a", 0.7, "ability/clarity")
    ds, view, verdicts = found_in(hand)
    (step,) = view["annotations"].select("step").unique().collect()["step"]
    folder = ds.path / "artifacts" / step
    folder.mkdir(parents=True)
    fit = {
        "aspect": "overall",
        "unit": "probability of being right",
        "annotators": [
            {"annotator": "human:a", "n": 7, "low": 0.8, "high": 0.95, "position": 0.4, "position_low": 0.1},
            {"annotator": 3},
            "no entry",
        ],
    }
    (folder / FILE).write_text(json.dumps({"method": "x", "fits": [fit]}))
    made = abilities(view, verdicts, ds.path / "artifacts", ds.snapshot)["models"]
    overall, clarity = made
    assert (overall["method"], overall["aspect"], overall["unit"]) == ("one-coin", "overall", fit["unit"])
    more = {"position": {"value": 0.4, "low": None, "high": None}}
    assert overall["by"] == [
        {"name": "human:a", "value": 0.9, "low": 0.8, "high": 0.95, "n": 7.0, "more": more},
        {"name": HOSTILE, "value": 0.6, "low": None, "high": None, "n": None, "more": {}},
    ]
    assert (clarity["aspect"], clarity["unit"], clarity["by"][0]["low"]) == ("clarity", None, None)
    text = page(analyse(ds))
    assert "<script" not in text
    assert "probability of being right" in text


@pytest.mark.parametrize(
    "held", ["", "[1]", '{"fits": 3}', '{"fits": [{"aspect": "overall", "annotators": {}}]}', "[" * 9999]
)
def test_a_file_of_abilities_may_hold_anything(tmp_path: Any, held: str) -> None:
    path = tmp_path / FILE
    assert interval_file(path, "overall") == (None, {})
    path.write_text(held)
    assert interval_file(path, "overall") == (None, {})


def test_ends_that_make_no_interval_are_none(tmp_path: Any) -> None:
    path = tmp_path / FILE
    names = {"turned": (0.9, 0.1), "infinite": (0.1, math.inf), "text": (0.1, "x"), "fine": (0, 1)}
    listed = [{"annotator": name, "low": low, "high": high} for name, (low, high) in names.items()]
    path.write_text(json.dumps({"fits": [{"aspect": "overall", "annotators": listed}]}))
    _, made = interval_file(path, "overall")
    assert {name: (one["low"], one["high"]) for name, one in made.items()} == {
        "turned": (None, None),
        "infinite": (None, None),
        "text": (None, None),
        "fine": (0.0, 1.0),
    }


def test_position_in_logits_by_hand() -> None:
    assert position_logit(30, 10)["value"] == pytest.approx(0.5 * math.log(3))
    assert position_logit(10, 30)["value"] == pytest.approx(-0.5 * math.log(3))
    assert (position_logit(5, 0)["value"], position_logit(5, 0)["n"], position_logit(0, 0)["value"]) == (None, 5, None)
    assert mcnemar(10, 0) == pytest.approx(2 / 1024)
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) is None
    assert mcnemar(1200, 1000) == pytest.approx(math.erfc(200 / math.sqrt(2 * 2200)))


def test_an_always_first_judge_flips_every_pair(hand: Any) -> None:
    for place in range(12):
        ids = hand.prompt(f"q{place}", "a", "b")
        hand.both_orders("judge:first", ids, 1.0, 1.0)
        hand.both_orders("judge:steady", ids, 1.0, 0.0)
    _, _, verdicts = found_in(hand)
    made = {one["name"]: one for one in bias(verdicts)["by"]}
    assert made["judge:first"]["flips"]["share"] == 1
    assert made["judge:first"]["orders"]["position"] == {
        "value": None,
        "low": made["judge:first"]["orders"]["position"]["low"],
        "high": None,
        "n": 12,
    }
    assert made["judge:first"]["orders"]["p_value"] == pytest.approx(2 / 2**12)
    assert made["judge:steady"]["flips"]["share"] == 0
    assert made["judge:steady"]["orders"]["p_value"] is None


def test_a_planted_length_bias_is_measured(hand: Any) -> None:
    """The chance of the first is sigma(0.5 + 1 * log2 of the lengths' ratio), in one order."""
    rng = np.random.default_rng(4)
    for place in range(600):
        sizes = 2 ** rng.integers(3, 8, 2) - 1
        ids = hand.prompt(f"q{place}", *("x" * int(size) for size in sizes))
        p = 1 / (1 + math.exp(-0.5 - math.log2((sizes[0] + 1) / (sizes[1] + 1))))
        hand.says("judge:long", ids, [1.0, 0.0] if rng.random() < p else [0.0, 1.0])
    _, _, verdicts = found_in(hand)
    (one,) = bias(verdicts)["by"]
    assert one["one_order"]["position"]["low"] < 0.5 < one["one_order"]["position"]["high"]
    assert one["one_order"]["doubling"]["low"] < 1.0 < one["one_order"]["doubling"]["high"]
    assert one["one_order"]["doubling"]["low"] > 0.7
    assert one["length"]["correlation"] > 0.4


def test_margins_that_are_lengths_correlate_fully() -> None:
    found = length_slope([0.5, -0.25, 0.0, float("nan")], [100.0, -50.0, 0.0, 3.0])
    assert found == {"n": 3, "correlation": pytest.approx(1.0), "slope": pytest.approx(0.005)}
    assert length_slope([0.0], [0.0]) == {"n": 1, "correlation": None, "slope": None}


def test_places_of_many_shown_at_once(hand: Any) -> None:
    for place in range(12):
        ids = hand.prompt(f"q{place}", "a", "b", "c")
        hand.says("judge:x", ids, [1.0, 0.0, 0.0], protocol="choose")
    _, _, verdicts = found_in(hand)
    (one,) = bias(verdicts)["slots"]
    assert one["shares"] == [1.0, 0.0, 0.0]
    assert one["bias"] == pytest.approx(np.std([3, 0, 0]))
    assert one["p_value"] == pytest.approx(math.exp(-12))  # chi squared 24 with 2 degrees: e^-12


def test_calibration_both_ways_round_by_hand(hand: Any) -> None:
    """A judge that says 0.9 and is right in 15 of 25: too sure by 0.3, which is its error too; Brier 0.33."""
    for place in range(25):
        ids = hand.prompt(f"q{place}", "a", "b")
        hand.says("human:x", ids, [1.0, 0.0], source="human")
        hand.says("judge:sure", ids, [0.9, 0.1] if place < 15 else [0.1, 0.9])
        hand.says("judge:hard", ids, [1.0, 0.0])
    _, _, verdicts = found_in(hand)
    (one,) = calibration(verdicts, ["human:x"]) or []
    assert (one["name"], one["of"], one["n"]) == ("judge:sure", "probability", 25)
    assert (one["stated"], one["right"]) == (pytest.approx(0.9), pytest.approx(0.6))
    assert one["too_sure"]["value"] == pytest.approx(0.3)
    assert one["too_sure"]["low"] > 0.05
    assert one["ece"]["value"] == pytest.approx(0.3)
    assert one["brier"] == pytest.approx(0.6 * 0.01 + 0.4 * 0.81)
    assert [(point["stated"], point["observed"]) for point in one["curve"]] == [
        (pytest.approx(0.9), pytest.approx(0.6))
    ]
    assert calibration(verdicts, []) is None


def test_confidence_is_held_against_the_reference_too(hand: Any) -> None:
    for place in range(24):
        ids = hand.prompt(f"q{place}", "a", "b")
        hand.says("human:x", ids, [1.0, 0.0], source="human")
        sure = 0.6 if place < 12 else 1.0
        hand.says("judge:c", ids, [1.0, 0.0] if place % 2 or place >= 12 else [0.0, 1.0], confidence=sure)
    _, _, verdicts = found_in(hand)
    (one,) = calibration(verdicts, ["human:x"]) or []
    assert one["of"] == "confidence"
    assert [(point["stated"], point["observed"]) for point in one["curve"]] == [
        (pytest.approx(0.6), 0.5),
        (pytest.approx(1.0), 1.0),
    ]


def test_variation_by_hand(hand: Any) -> None:
    """The curation reference's counts (10, 5, 3, 2); then five people on two pairs."""
    found = variation_of([[10, 5, 3, 2], [1, 0, 0, 0], [1, 1, 1, 1]])
    assert found["entropy"][0] == pytest.approx(1.207974, abs=1e-6)
    assert found["normalised"].tolist() == pytest.approx([0.871369, 0, 1], abs=1e-6)
    assert found["agreement"][0] == pytest.approx(0.310526, abs=1e-6)
    assert math.isnan(found["agreement"][1])
    for place, split in enumerate((5, 3)):
        ids = hand.prompt(f"q{place}", "a", "b")
        for who in range(5):
            hand.says(f"human:{who}", ids, [1.0, 0.0] if who < split else [0.0, 1.0], source="human")
    _, _, verdicts = found_in(hand)
    (one,) = variation(verdicts) or []
    assert (one["pairs"], one["unanimous"]["part"], one["split"]["part"]) == (2, 1, 0)
    assert one["agreement"] == pytest.approx((1 + (3 * 2 + 2 * 1) / 20) / 2)


def test_a_scale_that_tells_little(hand: Any) -> None:
    for place in range(5):
        ids = hand.prompt(f"q{place}", "a", "b")
        for one, score in zip(ids, (4.0, 4.0 if place else 2.0), strict=True):
            hand.says("judge:flat", [one], [score], protocol="score")
    _, _, verdicts = found_in(hand)
    (one,) = scores(verdicts) or []
    assert (one["n"], one["distinct"], one["low"], one["high"]) == (10, 2, 2.0, 4.0)
    assert one["top"] == {"value": 4.0, "n": 9, "share": 0.9}
    assert (one["ties"]["part"], one["ties"]["n"]) == (4, 5)
    assert one["entropy"] == pytest.approx(-(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1)))


def test_the_card_can_be_checked_against_the_rows(hand: Any) -> None:
    for place in range(4):
        ids = hand.prompt(f"q{place}", "I'm sorry, but no", "yes, of course, and gladly", source="web")
        hand.says("human:x", ids, [0.0, 1.0], source="human")
        hand.says("judge:x", ids, [0.5, 0.5] if place else [0.0, 1.0])
        hand.prefers(ids[::-1], [1.0, 0.0])
    ds, view, verdicts = found_in(hand)
    pairs = expanded(view, [])
    made = card(view, verdicts, pairs, decided(view, pairs, verdicts, ["human:x"]), ["human:x"])
    assert (made["prompts"], made["responses"], made["annotations"], made["annotators"], made["pairs"]) == (
        4,
        8,
        8,
        2,
        4,
    )
    assert (made["refusals"]["opening"]["part"], made["refusals"]["opening"]["n"]) == (4, 8)
    assert (made["ties"]["part"], made["ties"]["n"]) == (3, 8)
    assert (made["longer_chosen"]["part"], made["longer_chosen"]["n"]) == (4, 4)
    assert made["turns"] == [{"value": 1.0, "n": 4}]
    assert made["margins"] == [{"value": 1.0, "n": 4}]
    assert made["couples"] == [{"a": "m", "b": "m", "n": 4}]
    (source,) = made["sources"]
    assert (source["source"], source["pairs"], source["judge"]) == ("web", 4, "judge:x")
    assert (source["accuracy"]["part"], source["accuracy"]["n"]) == (2.5, 4)
    found = analyse(ds)["flow"]["tables"]
    assert all(at["came_in"] == at["live"] + at["dropped"] + at["hidden"] for at in found.values())
    assert json.dumps(analyse(ds)) == json.dumps(analyse(Dataset(ds.path)))
