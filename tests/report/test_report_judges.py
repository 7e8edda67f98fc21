"""Which judge to use: numbers worked out by hand, simulated judges, and what the sentences make of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.dataset import Dataset, Plan, StepRecord
from prefdata.formats.merge import import_into
from prefdata.report import analyse
from prefdata.report.judge_measures import MEASURES, SHARES, credit, measures
from prefdata.report.page import page
from prefdata.schema import response
from prefdata.stats import Draws

SHORT, LONG = "short", "a much longer text"


def judge(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [made for made in found["judges"]["by"] if made["name"] == name]
    return one


def told(found: dict[str, Any]) -> str:
    (one,) = found["judges"]["advice"]
    return " ".join(one["sentences"])


def people(hand: Any, ids: Sequence[str], verdicts: Sequence[float]) -> None:
    for place, first in enumerate(verdicts):
        hand.says(f"human:{place}", ids, [first, 1 - first], source="human")


def simulated(hand: Any, judges: dict[str, Callable[[bool, int], float]], n: int = 60, seed: int = 0) -> Dataset:
    """Pairs whose better one is drawn, of equal lengths on the average; a judge gives P(first) from the truth."""
    draw = random.Random(seed)
    for place in range(n):
        texts = [SHORT, LONG] if draw.random() < 0.5 else [LONG, SHORT]
        ids = hand.prompt(f"q{place}", *texts)
        truth = draw.random() < 0.5
        hand.says("human:gold", ids, [float(truth), float(not truth)], source="human")
        for name, says in judges.items():
            first = says(truth, place)
            hand.says(name, ids, [first, 1 - first])
    made: Dataset = hand.dataset()
    return made


def test_agreement_by_hand(hand: Any) -> None:
    """Four pairs; the reference says first, first, second, tie; the judge first, tie, first, tie."""
    for place, (truth, verdict) in enumerate([(1.0, 1.0), (1.0, 0.5), (0.0, 1.0), (0.5, 0.5)]):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [truth])
        hand.says("judge:x", ids, [verdict, 1 - verdict])
    found = judge(analyse(hand.dataset()), "judge:x")
    assert (found["prompts"], found["pairs"], found["shared"]) == (4, 4, 3)
    assert (found["accuracy"]["value"], found["accuracy"]["n"]) == (0.5, 3)  # (1 + 1/2 + 0) / 3
    assert (found["decided"]["value"], found["decided"]["n"]) == (0.5, 2)
    assert (found["same"]["value"], found["same"]["n"]) == (0.5, 4)
    assert (found["ties"]["value"], found["ties"]["n"]) == (0.5, 4)
    # Both ways round, of 8: 2 + 2 equal. Judge: 2 first, 2 second, 4 ties; reference: 3, 3, 2. Chance (6 + 6 + 8)/64.
    assert found["kappa"]["value"] == pytest.approx((0.5 - 20 / 64) / (1 - 20 / 64))
    assert not found["settled"]


def test_where_two_orders_contradict_each_other_their_mean_may_still_tell(hand: Any) -> None:
    """P(first) is .9 and .3: a tie by verdicts, .6 on the average."""
    for place in range(3):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [1.0])
        hand.both_orders("judge:x", ids, 0.9, 0.7)
    found = judge(analyse(hand.dataset()), "judge:x")
    assert (found["accuracy"]["value"], found["averaged"]["value"], found["ties"]["value"]) == (0.5, 1.0, 1.0)
    assert found["position"]["share"] == 0.0


def test_length_by_hand(hand: Any) -> None:
    """Of five pairs the reference takes the longer one in two, the judge in four: 40 points too often."""
    for place in range(5):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [0.0 if place < 2 else 1.0])
        hand.says("judge:x", ids, [0.0, 1.0] if place < 4 else [1.0, 0.0])
    found = judge(analyse(hand.dataset()), "judge:x")
    assert (found["longer"]["value"], found["reference_longer"]["value"]) == (0.8, 0.4)
    assert found["excess_length"]["value"] == pytest.approx(0.4)
    assert (found["longer_rule"]["value"], found["accuracy"]["value"]) == (0.4, 0.6)
    assert found["over_longer"]["value"] == pytest.approx(0.2)
    rule = judge(analyse(Dataset(hand.folder)), "the longer one wins")
    assert (rule["kind"], rule["accuracy"]["value"], rule["longer"]["value"]) == ("rule", 0.4, 1.0)


def own_pair(hand: Any, name: str) -> list[str]:
    """A response by the model `own`, and one by another."""
    (first,) = hand.prompt(name, SHORT, model="own")
    other = response(hand.prompts[name], model="other", text=LONG, key="other")
    hand.responses[other["response_id"]] = other
    return [first, other["response_id"]]


def test_self_preference_is_what_the_reference_does_not_share(hand: Any) -> None:
    """20 pairs: the judge has its own win 12, lose 5, tie 3 (67.5%); the reference 10, 8, 2 (55%): 12.5 points."""
    mine = [1.0] * 12 + [0.0] * 5 + [0.5] * 3
    gold = [1.0] * 10 + [0.0] * 8 + [0.5] * 2
    for place, (verdict, truth) in enumerate(zip(mine, gold, strict=True)):
        ids = own_pair(hand, f"q{place}")
        people(hand, ids, [truth])
        hand.says("judge:own/pairwise@00000000", ids, [verdict, 1 - verdict])
        hand.says("judge:fair", ids, [verdict, 1 - verdict])
        hand.says("judge:own", ids, [truth, 1 - truth])
    foreign = hand.prompt("elsewhere", SHORT, LONG, model="other")
    people(hand, foreign, [1.0])
    hand.says("judge:own/pairwise@00000000", foreign, [0.0, 1.0])
    found = analyse(hand.dataset())
    own = judge(found, "judge:own/pairwise@00000000")
    assert own["model"] == ["own"]
    assert (own["own_wins"]["value"], own["own_wins_reference"]["value"]) == (0.675, 0.55)
    assert (own["self_preference"]["value"], own["self_preference"]["n"]) == (pytest.approx(0.125), 20)
    assert own["self_preference"]["low"] < 0.125 < own["self_preference"]["high"]
    # Whoever says what the reference says favours nobody, and a judge that wrote nothing has nothing of its own.
    assert judge(found, "judge:own")["self_preference"]["value"] == 0.0
    assert judge(found, "judge:fair")["self_preference"]["n"] == 0


def test_the_annotators_table_says_which_model_a_judge_is(hand: Any) -> None:
    ids = own_pair(hand, "q")
    people(hand, ids, [0.0])
    hand.says("judge:nickname", ids, [1.0, 0.0])
    hand.says("judge:own", ids, [1.0, 0.0])
    ds = hand.dataset()
    rows = [{"annotator": "judge:nickname", "model": "own"}, {"annotator": "judge:own", "model": "elsewhere"}]
    ds.add_import({"annotators": rows}, source="hand", fields={"annotators": 1})
    found = analyse(ds)
    assert judge(found, "judge:nickname")["self_preference"]["value"] == 1.0
    assert judge(found, "judge:own")["model"] == []


def test_a_judge_that_is_the_reference_has_kappa_one_and_its_shuffle_none(hand: Any) -> None:
    draw = random.Random(3)
    labels = [draw.choice([0.0, 0.5, 1.0]) for _ in range(150)]
    shuffled = draw.sample(labels, len(labels))
    for place, (label, other) in enumerate(zip(labels, shuffled, strict=True)):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [label])
        for name, first in (("same", label), ("shuffled", other), ("turned", 1 - label)):
            hand.says(f"judge:{name}", ids, [first, 1 - first])
    found = analyse(hand.dataset())
    same, noise, turned = (judge(found, f"judge:{name}") for name in ("same", "shuffled", "turned"))
    assert (same["kappa"]["value"], same["accuracy"]["value"], same["same"]["value"]) == (1.0, 1.0, 1.0)
    assert same["accuracy"]["low"] < 1.0
    assert noise["kappa"]["low"] < 0 < noise["kappa"]["high"]
    assert noise["accuracy"]["low"] < 0.5 < noise["accuracy"]["high"]
    # Turned round it is right about ties alone, a third of all, which is what chance gives.
    assert (turned["accuracy"]["value"], turned["kappa"]["low"] < 0 < turned["kappa"]["high"]) == (0.0, True)


def test_a_judge_that_guesses_is_said_to_be_chance(hand: Any) -> None:
    draw = random.Random(11)
    found = analyse(simulated(hand, {"judge:coin": lambda _truth, _place: draw.choice([0.1, 0.9])}))
    (one,) = found["judges"]["advice"]
    assert (one["level"], one["use"]) == ("bad", None)
    assert one["sentences"][0].startswith("The judge cannot be told from chance: use none. judge:coin, agrees with")


def test_a_judge_whose_scores_are_turned_round_is_worse_than_chance(hand: Any) -> None:
    found = analyse(
        simulated(hand, {"judge:turned": lambda truth, place: float(truth) if place % 8 == 0 else float(not truth)})
    )
    assert "pairs worse than chance: use none" in told(found)
    assert "turned round?" in told(found)


def test_a_judge_that_goes_by_length_is_not_better_than_the_plain_rule(hand: Any) -> None:
    """People like long answers in four pairs of five; the judge always takes the longer one."""
    for place in range(60):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [1.0 if place % 5 == 0 else 0.0])
        hand.says("judge:long", ids, [0.2, 0.8])
    found = analyse(hand.dataset())
    (one,) = found["judges"]["advice"]
    assert (one["level"], one["use"]) == ("mixed", None)
    assert 'better than chance but not clearly better than "the longer one wins" (80%), which is free' in told(found)


def test_the_dearer_judge_that_is_not_clearly_better(hand: Any) -> None:
    ds = simulated(
        hand,
        {
            "judge:dear": lambda truth, place: float(truth if place % 20 not in (0, 7) else not truth),
            "judge:cheap": lambda truth, place: float(truth if place % 20 not in (0, 7, 13) else not truth),
            "judge:poor": lambda truth, place: float(truth if place % 3 else not truth),
        },
    )
    prices = {"judge:dear": 0.02, "judge:cheap": 0.001, "judge:poor": 0.0001}
    calls = []
    for row in hand.annotations:
        if row["source"] == "judge":
            row["call_id"] = row["annotation_id"]
            calls.append({"call_id": row["annotation_id"], "step": "s@1", "money": prices[row["annotator"]]})
    priced = Dataset.create(hand.folder.with_name("priced"))
    tables = {"prompts": list(hand.prompts.values()), "responses": list(hand.responses.values())}
    priced.add_import({**tables, "annotations": hand.annotations}, source="hand", fields={})
    priced.commit({"calls": [{**call, "cached": False, "seconds": 1.0} for call in calls]}, "calls")
    assert analyse(ds)["judges"]["advice"][0]["cheaper"] is None  # no prices, no money to save
    found = analyse(priced)
    (one,) = found["judges"]["advice"]
    assert (one["level"], one["use"], one["cheaper"]) == ("good", "judge:dear", "judge:cheap")
    text = told(found)
    assert "Use judge:dear: it agrees with human:gold on 90% of 60 pairs" in text
    assert "Or judge:cheap: it costs $1.00 for 1,000 pairs in place of $20.00" in text
    assert "judge:dear costs $20.00 for 1,000 pairs, and $22.22 for 1,000 right ones." in text
    assert [gap["b"] for gap in found["judges"]["differences"]] == ["judge:cheap", "judge:poor"]
    assert found["judges"]["differences"][0]["low"] <= 0 < found["judges"]["differences"][1]["low"]


def test_an_aspect_that_is_not_the_references_own_is_named(hand: Any) -> None:
    for place in range(40):
        ids = hand.prompt(f"q{place}", *([SHORT, LONG] if place % 2 else [LONG, SHORT]))
        truth = float(place % 4 < 2)
        people(hand, ids, [truth])
        hand.says("judge:x", ids, [truth, 1 - truth], aspect="honesty")
        hand.says("judge:x", ids, [1.0, 0.0], aspect="tone")
    found = analyse(hand.dataset())
    (one,) = found["judges"]["advice"]
    assert (one["reference_aspect"], one["use"], one["use_aspect"]) == ("overall", "judge:x", "honesty")
    assert "Use judge:x by honesty: it agrees with" in told(found)
    assert "Not to be told from chance: judge:x by tone." in told(found)


def test_few_pairs_settle_nothing(hand: Any) -> None:
    found = analyse(simulated(hand, {"judge:x": lambda truth, _place: float(truth)}, n=19))
    (one,) = found["judges"]["advice"]
    assert (one["level"], one["use"]) == ("unknown", None)
    assert one["sentences"] == [
        "Not settled: no judge shares more than 19 of the pairs that human:gold orders; 20 are needed, and more help."
    ]
    assert not judge(found, "judge:x")["settled"]


def test_without_a_reference_nothing_is_settled(hand: Any) -> None:
    for place in range(30):
        hand.both_orders("judge:x", hand.prompt(f"q{place}", SHORT, LONG), 0.9, 0.2)
    found = analyse(hand.dataset())
    assert found["judges"]["advice"][0]["level"] == "unknown"
    one = judge(found, "judge:x")
    assert (one["accuracy"]["value"], one["position"]["share"], one["judgements"]) == (None, 1.0, 60)
    shown = page(found)
    assert "Not settled. Nobody stands as a reference" in shown
    assert "no pairs to hold it against" in shown and "too few pairs" not in shown and "– ties" not in shown


def test_people_alone_need_no_judge(hand: Any) -> None:
    for place in range(30):
        people(hand, hand.prompt(f"q{place}", SHORT, LONG), [1.0, 1.0, 0.0])
    found = analyse(hand.dataset())
    assert found["judges"]["advice"] == []
    assert "Nobody but people has judged a response." in page(found)
    # Each against the other two: the third is against both, the others have one of either and a tie of the rest.
    assert [judge(found, f"human:{n}")["kind"] for n in range(3)] == ["reference"] * 3
    assert (judge(found, "human:2")["accuracy"]["value"], judge(found, "human:2")["shared"]) == (0.0, 30)
    assert judge(found, "human:0")["shared"] == 0


def test_a_single_person_is_not_held_against_nobody(hand: Any) -> None:
    found = analyse(simulated(hand, {"judge:x": lambda truth, _place: float(truth)}))
    assert (judge(found, "human:gold")["pairs"], judge(found, "human:gold")["kappa"]["value"]) == (0, None)


def test_the_rules_by_hand(hand: Any) -> None:
    """Shown in one order the first shown wins or loses; shown in both it is a tie."""
    for place in range(4):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [1.0 if place < 3 else 0.0])
        hand.says("judge:a", ids, [1.0, 0.0])
        hand.says("judge:b", ids, [1.0, 0.0] if place % 2 else [0.0, 1.0])
        if place == 0:
            hand.says("judge:a", ids[::-1], [0.0, 1.0])
            hand.says("judge:b", ids[::-1], [1.0, 0.0])
    found = analyse(hand.dataset())
    assert judge(found, "the first shown wins")["accuracy"]["value"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    # a says first always; b second, first, second, first: a tie, first, a tie, first.
    assert judge(found, "majority of the judges")["accuracy"]["value"] == pytest.approx((0.5 + 1 + 0.5 + 0) / 4)
    assert judge(found, "the longer one wins")["accuracy"]["value"] == 0.25


def test_a_consensus_that_counts_the_reference_is_no_candidate(hand: Any) -> None:
    ds = simulated(hand, {"judge:x": lambda truth, place: float(truth if place % 5 else not truth)})
    plain = list(hand.annotations)
    for name, fields in (("all", {}), ("judges", {"sources": ["judge"]}), ("named", {"annotators": ["judge:*"]})):
        step = f"{name}@{'0' * 16}"
        rows = [
            {**row, "annotation_id": f"{name}{row['annotation_id']}"[:32], "annotator": f"consensus:{name}"}
            for row in plain
            if row["source"] == "human"
        ]
        rows = [{**row, "source": "consensus", "step": step} for row in rows]
        progress = [
            {"pipeline": name, "step": step, "group_id": group, "digest": "d"}
            for group in {r["group_id"] for r in rows}
        ]
        record = StepRecord(step=step, name=name, kind="aggregate.majority", fields=fields)
        ds.commit(
            {"annotations": rows, "progress": progress}, name, steps=[record], plan=Plan(pipeline=name, steps=(step,))
        )
    found = analyse(ds)
    assert {name: judge(found, f"consensus:{name}")["circular"] for name in ("all", "judges", "named")} == {
        "all": True,
        "judges": False,
        "named": False,
    }
    assert found["judges"]["advice"][0]["use"] in ("consensus:judges", "consensus:named")
    assert "counts the reference itself, so it must agree" in page(found)


def test_to_abstain_is_no_failure(hand: Any) -> None:
    """Of four prompts a verifier has something to say about one; another judge's answer could not be read."""
    for place in range(4):
        ids = hand.prompt(f"q{place}", SHORT, LONG)
        people(hand, ids, [1.0])
        said = {"protocol": "score", "source": "rule"}
        hand.says("rule:verify", ids[:1], None if place else [1.0], **said, status="abstain" if place else "ok")
        hand.says("judge:x", ids, None if place else [1.0, 0.0], status="unparsed" if place else "ok")
    found = analyse(hand.dataset())
    assert [judge(found, name)["failures"]["share"] for name in ("rule:verify", "judge:x")] == [0.0, 0.75]
    shown = page(found)
    assert "3 abstained" in shown
    assert "3 unparsed (75%)" in shown


def test_the_same_dataset_gives_the_same_numbers(hand: Any) -> None:
    draw = random.Random(2)
    ds = simulated(hand, {f"judge:{n}": lambda truth, _p: draw.choice([float(truth), 0.5]) for n in range(3)})
    assert analyse(ds)["judges"] == analyse(ds)["judges"]


def test_the_real_judges(data_folder: Path, tmp_path: Path) -> None:
    """PandaLM: three people whose kappas its README gives as .842, .883 and .856, and two stored judges."""
    import_into("pandalm", data_folder, tmp_path / "pandalm")
    found = analyse(Dataset(tmp_path / "pandalm"))
    kappas = {
        (one["a"][-1], one["b"][-1]): one["kappa_with_ties"] for one in found["agreement"] if "judge" not in one["b"]
    }
    # Counted both ways round, so a little off the README's in the fourth digit.
    assert {couple: kappas[couple] for couple in combinations("123", 2)} == {
        ("1", "2"): pytest.approx(0.842, abs=1e-3),
        ("1", "3"): pytest.approx(0.883, abs=1e-3),
        ("2", "3"): pytest.approx(0.856, abs=1e-3),
    }
    told_apart = page(found).partition("Who agrees with whom")[2]
    assert all(f"with ties {kappa}<" in told_apart for kappa in ("0.84", "0.88", "0.86")), "the page has them as well"
    gpt, panda = judge(found, "judge:gpt-3.5-turbo"), judge(found, "judge:pandalm-7b")
    assert (gpt["prompts"], gpt["pairs"], gpt["statuses"]) == (112, 640, {"ok": 640, "unparsed": 12})
    assert gpt["accuracy"]["value"] == pytest.approx(478.5 / 585)
    assert panda["accuracy"]["value"] == pytest.approx(446 / 595)
    assert gpt["accuracy"]["low"] > panda["accuracy"]["value"] > judge(found, "the longer one wins")["accuracy"]["high"]
    (one,) = found["judges"]["advice"]
    assert (one["level"], one["use"]) == ("good", "judge:gpt-3.5-turbo")
    assert "clearly better than the next, judge:pandalm-7b" in told(found)
    assert "people reach 94% to 97%" in told(found)
    # As 595 independent pairs it would be 8 points wide; they are of 112 prompts.
    rule = judge(found, "the longer one wins")["accuracy"]
    assert rule["high"] - rule["low"] > 0.1


signs = st.sampled_from([-1, 0, 1])


@given(st.lists(st.tuples(signs, signs, signs, signs, st.integers(0, 3)), min_size=1, max_size=20), st.randoms())
def test_which_response_is_called_the_first_changes_nothing(
    given_rows: list[tuple[int, int, int, int, int]], draw: random.Random
) -> None:
    turned = [
        tuple(-value for value in row[:4]) + row[4:] if draw.random() < 0.5 else row  # verdict, truth, longer, own
        for row in given_rows
    ]
    draws = Draws([row[4] for row in given_rows], resamples=20)
    names = ["verdict", "truth", "longer", "own", "unit"]
    frames = [
        pl.DataFrame(rows, schema=names, orient="row").with_columns(
            margin=pl.col("verdict") / 2, row=pl.int_range(pl.len())
        )
        for rows in (given_rows, turned)
    ]
    there, back = (measures(frame, draws) for frame in frames)
    assert (there["prompts"], there["pairs"], there["shared"]) == (back["prompts"], back["pairs"], back["shared"])
    for name in MEASURES:
        for column in ("value", "low", "high", "n"):
            assert there[name][column] == pytest.approx(back[name][column], abs=1e-12), (name, column)
        if name in SHARES and there[name]["value"] is not None:
            assert 0 <= there[name]["value"] <= 1
            assert there[name]["low"] is None or 0 <= there[name]["low"] <= there[name]["high"] <= 1


def test_credit_is_an_expectation() -> None:
    assert credit(np.array([1.0, 0.0, -1.0]), np.array([1.0, 1.0, 1.0])).tolist() == [1.0, 0.5, 0.0]
