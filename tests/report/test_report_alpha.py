"""Alpha of all annotators together: on pairs, scores and labels, with intervals, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefdata.cards import Aspect, Scale
from prefdata.dataset import Dataset
from prefdata.formats.merge import import_into
from prefdata.report import analyse
from prefdata.report.page import page

SHORT, LONG = "short", "a much longer text"
FIVE = Aspect(name="clarity", text="Is it clear?", scale=Scale(type="ordinal", min=1, max=5)).criterion("card@1")
TEN = Aspect(name="clarity", text="Is it clear?", scale=Scale(type="interval", min=0, max=10)).criterion("card@2")


def rated(hand: Any, table: list[list[float | None]], **columns: Any) -> None:
    """A row for each response (its own prompt), a column for each annotator."""
    for unit, row in enumerate(table):
        ids = hand.prompt(f"q{unit}", SHORT)
        for rater, score in enumerate(row):
            if score is not None:
                rest = {"protocol": "score", "source": "human", "aspect": "clarity", **columns}
                hand.says(f"human:{rater}", ids, [score], **rest)


def alphas(found: dict[str, Any], of: str) -> list[dict[str, Any]]:
    return [entry for entry in found["alpha"] if entry["of"] == of]


def test_scores_of_one_scale(hand: Any) -> None:
    """The table of Krippendorff's alpha whose values are known: ordinal 0.781728, interval 0.732143."""
    rated(hand, [[1, 2, None], [3, 3, 4], [2, 2, 2], [4, 4, 3]], criterion_id=FIVE["criterion_id"])
    ds = hand.dataset()
    ds.add_import({"criteria": [FIVE]}, source="hand", fields={"more": 1})
    found = analyse(ds)
    ordinal, interval = alphas(found, "scores")
    assert alphas(found, "pairs") == []  # one response a prompt: there is nothing to put in an order
    assert (ordinal["level"], interval["level"]) == ("ordinal", "interval")
    assert ordinal["alpha"] == pytest.approx(0.781728, abs=1e-6)
    assert interval["alpha"] == pytest.approx(0.732143, abs=1e-6)
    assert (ordinal["scale"], ordinal["over"], ordinal["annotators"], ordinal["responses"]) == ("1 to 5", "all", 3, 4)
    # Couples of equal values: 0 of 1, 1 of 3, 3 of 3, 1 of 3.
    assert ordinal["percent"] == pytest.approx((0 + 1 / 3 + 1 + 1 / 3) / 4)
    assert ordinal["low"] < ordinal["alpha"] < ordinal["high"] <= 1
    shown = page(found)
    assert "0.78" in shown and "ordinal" in shown and "scores (1 to 5)" in shown


def test_scores_of_different_scales_are_not_taken_together(hand: Any) -> None:
    rated(hand, [[1, 2], [5, 4], [3, 3]], criterion_id=FIVE["criterion_id"])
    for unit, pair in enumerate([[1.0, 2.5], [9.0, 10.0], [5.5, 5.0]]):
        ids = hand.prompt(f"q{unit}", SHORT)
        for judge, score in enumerate(pair):
            hand.says(f"judge:{judge}", ids, [score], protocol="score", aspect="clarity", criterion_id="ten")
    ds = hand.dataset()
    ds.add_import({"criteria": [FIVE, {**TEN, "criterion_id": "ten"}]}, source="hand", fields={"more": 1})
    found = alphas(analyse(ds), "scores")
    assert [(entry["scale"], entry["level"], entry["annotators"]) for entry in found] == [
        ("0 to 10", "ordinal", 2),
        ("0 to 10", "interval", 2),
        ("1 to 5", "ordinal", 2),
        ("1 to 5", "interval", 2),
    ]


def test_scores_without_a_scale_stay_with_their_source(hand: Any) -> None:
    """Two people and two judges whose scales nobody stated; two reward models, which never share one."""
    rated(hand, [[1, 2], [5, 4], [3, 3]])
    for unit in range(3):
        ids = hand.prompt(f"q{unit}", SHORT)
        for name, source in (("judge:a", "judge"), ("judge:b", "judge"), ("rm:a", "reward"), ("rm:b", "reward")):
            score = unit * 0.1 + 0.01 * len(name)
            hand.says(name, ids, [score], protocol="score", aspect="clarity", source=source)
    found = alphas(analyse(hand.dataset()), "scores")
    assert [(entry["over"], entry["annotators"], entry["scale"]) for entry in found[::2]] == [
        ("human", 2, None),
        ("judge", 2, None),
    ]


def test_an_annotator_who_scored_twice_counts_with_the_mean(hand: Any) -> None:
    rated(hand, [[1, 2], [5, 4]], criterion_id=FIVE["criterion_id"])
    ids = hand.prompt("q0", SHORT)
    hand.says("human:0", ids, [3.0], protocol="score", source="human", aspect="clarity", replicate=1)
    hand.annotations[-1]["criterion_id"] = FIVE["criterion_id"]
    ds = hand.dataset()
    ds.add_import({"criteria": [FIVE]}, source="hand", fields={"more": 1})
    interval = alphas(analyse(ds), "scores")[1]
    # Now 2, 2 and 5, 4: inside the units 0 and 1 apart. D_o = 2 * 1 / 4; values 2 2 5 4: sum of squares of ordered
    # differences 2 * (0 + 9 + 4 + 9 + 4 + 1) / (4 * 3) = 4.5: alpha = 1 - 0.5 / 4.5.
    assert interval["alpha"] == pytest.approx(1 - 0.5 / 4.5)


def test_labels_are_nominal(hand: Any) -> None:
    said = [["correct", "correct"], ["first_error", "first_error"], ["correct", "first_error"], ["correct", "correct"]]
    for unit, row in enumerate(said):
        ids = hand.prompt(f"q{unit}", SHORT)
        for rater, word in enumerate(row):
            parts = [2] if word == "first_error" else None
            hand.says(f"human:{rater}", ids, None, protocol="label", source="human", labels=[word], parts=parts)
    (entry,) = analyse(hand.dataset())["alpha"]
    # 8 values: 5 and 3; unequal inside one of four units: 1 - 7 * 2 / (2 * 5 * 3).
    assert (entry["of"], entry["level"], entry["responses"]) == ("labels", "nominal", 4)
    assert entry["alpha"] == pytest.approx(1 - 7 * 2 / 30)
    assert entry["percent"] == 0.75


def test_the_step_that_is_wrong_is_part_of_the_label(hand: Any) -> None:
    for unit in range(2):
        ids = hand.prompt(f"q{unit}", SHORT)
        for rater in range(2):
            where = [unit + rater]  # they never name the same step
            hand.says(f"human:{rater}", ids, None, protocol="label", source="human", labels=["wrong"], parts=where)
    (entry,) = analyse(hand.dataset())["alpha"]
    assert entry["percent"] == 0


def test_an_adjudicator_is_no_independent_annotator(hand: Any) -> None:
    for unit in range(4):
        ids = sorted(hand.prompt(f"q{unit}", SHORT, LONG))
        hand.says("human:a", ids, [1.0, 0.0], source="human")
        hand.says("human:b", ids, [1.0, 0.0] if unit < 3 else [0.0, 1.0], source="human")
        decided = json.dumps({"project": "x", "adjudication": True})
        hand.says("human:lead", ids, [1.0, 0.0], source="human", meta=decided)
    found = analyse(hand.dataset())
    (entry,) = found["alpha"]
    assert (entry["annotators"], entry["pairs"], entry["percent"]) == (2, 4, 0.75)
    assert [(made["a"], made["b"]) for made in found["agreement"]] == [("human:a", "human:b")]
    assert {made["name"] for made in found["annotators"]} == {"human:a", "human:b", "human:lead"}


def test_meta_that_is_no_adjudication_changes_nothing(hand: Any) -> None:
    for unit in range(2):
        ids = sorted(hand.prompt(f"q{unit}", SHORT, LONG))
        for rater, meta in enumerate(['{"adjudication": false}', 'no JSON: "adjudication"', '["adjudication"]']):
            hand.says(f"human:{rater}", ids, [float(unit), 1.0 - unit], source="human", meta=meta)
    (entry,) = analyse(hand.dataset())["alpha"]
    assert (entry["annotators"], entry["alpha"], entry["high"]) == (3, 1.0, 1.0)
    assert entry["low"] < 0  # two prompts that agree say little


def test_the_interval_draws_prompts_and_is_the_same_each_time(hand: Any) -> None:
    ids = hand.prompt("one prompt", SHORT, LONG, "another")
    for rater in range(3):
        hand.says(f"human:{rater}", ids, [3.0, 2.0, 1.0 + 3 * (rater == 2)], source="human", protocol="rank")
    ds = hand.dataset()
    (entry,) = analyse(ds)["alpha"]
    assert entry["pairs"] == 3 and entry["alpha"] is not None
    assert entry["low"] is None and entry["high"] is None  # three pairs, but one prompt
    assert analyse(ds)["alpha"] == analyse(ds)["alpha"]


def test_votes_of_a_crowd_as_imported(data_folder: Path, tmp_path: Path) -> None:
    """UKPConvArg1: its README gives nominal alpha 0.324 and mean pairwise agreement 0.569."""
    import_into("ukpconvarg", data_folder, tmp_path / "ukp")
    (entry, *_) = analyse(Dataset(tmp_path / "ukp"))["alpha"]
    assert entry["alpha"] == pytest.approx(0.324, abs=5e-4)
    assert entry["percent"] == pytest.approx(0.569, abs=5e-4)
    assert entry["pairs"] == 5911
    assert entry["low"] < 0.324 < entry["high"]
