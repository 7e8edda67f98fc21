"""Models of annotators: who is right, what is written about whom, and what is left out."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_shapes import FakeContext, consensus, response, run, said, scores_by_target

from prefdata.errors import DataError
from prefdata.operators.aggregate.annotator_bradley_terry import AnnotatorBradleyTerryConsensus
from prefdata.operators.aggregate.bradley_terry import BradleyTerryConsensus
from prefdata.operators.aggregate.crowd import CrowdModel, DawidSkene, GladConsensus, MaceConsensus, OneCoin
from prefdata.operators.aggregate.joint import Joint
from prefdata.operators.aggregate.majority import Majority
from prefdata.operators.aggregate.plackett_luce import PlackettLuceConsensus
from prefdata.operators.aggregate.vote import Vote
from prefdata.pipeline.registry import STEPS
from prefdata.pipeline.step import CONSENSUS
from prefdata.schema import Row

CROWD: list[type[CrowdModel]] = [DawidSkene, OneCoin, GladConsensus, MaceConsensus]
SKILL = {"human:a": 0.9, "human:b": 0.85, "judge:c": 0.5, "judge:d": 0.5, "judge:e": 0.5}


def crowd(prompts: int = 80, seed: int = 1) -> Iterator[Row]:
    """Two who know and three who guess, about pairs of which `a...` is always the better one."""
    draw = random.Random(seed)
    for prompt in range(prompts):
        for name, skill in SKILL.items():
            right = draw.random() < skill
            pair = [f"a{prompt}", f"b{prompt}"]
            draw.shuffle(pair)
            wins = [1.0, 0.0] if (pair[0][0] == "a") == right else [0.0, 1.0]
            source = name.split(":")[0]
            yield said(pair, wins, annotator=name, source=source, prompt_id=f"p{prompt:03}")


def hits(rows: list[Row]) -> int:
    """How often the better one wins alone."""
    pairs = [row for row in rows if row["target"] == "response" and row["scores"]]
    return sum(dict(zip(row["target_ids"], row["scores"], strict=True))[min(row["target_ids"])] == 1 for row in pairs)


def about(rows: list[Row]) -> dict[str, float]:
    return {row["target_ids"][0]: row["scores"][0] for row in rows if row["target"] == "annotator"}


@pytest.mark.parametrize("model", CROWD)
def test_those_who_know_outweigh_those_who_guess(model: type[CrowdModel], tmp_path: Path) -> None:
    rows = list(crowd())
    made = consensus(model(), rows, FakeContext(tmp_path))
    assert hits(made) > hits(consensus(Majority(), rows)) + 3
    known = about(made)
    assert min(known["human:a"], known["human:b"]) > 0.75 > 0.7 > max(known[name] for name in list(SKILL)[2:])
    mine = [row for row in made if row["target"] == "annotator"]
    assert {(r["group_id"], r["prompt_id"], r["aspect"], r["protocol"], r["source"]) for r in mine} == {
        ("*", None, "ability", "score", "consensus")
    }
    assert all(0.5 <= row["confidence"] <= 1 for row in made if row["target"] == "response" and row["scores"])


@pytest.mark.parametrize("step", [*(model() for model in CROWD), AnnotatorBradleyTerryConsensus(), Joint()])
def test_what_is_known_of_annotators_is_written_with_intervals(step: CrowdModel, tmp_path: Path) -> None:
    consensus(step, crowd(), FakeContext(tmp_path / "artifacts" / "x"))
    found = json.loads((tmp_path / "artifacts" / "x" / "annotators.json").read_text())
    assert found["method"] == step.kind
    (fit,) = found["fits"]
    assert (fit["aspect"], fit["votes"], fit["converged"]) == ("overall", 400, True)
    assert [one["annotator"] for one in fit["annotators"]] == sorted(SKILL)
    for one in fit["annotators"]:
        assert one["kind"] == one["annotator"].split(":")[0] and one["n"] == 80
        assert one["low"] < one["value"] < one["high"]


def test_a_matrix_of_confusions_tells_who_mistakes_what(tmp_path: Path) -> None:
    draw, rows = random.Random(0), []
    for item in range(150):
        truth = draw.choice(["mild", "severe"])
        for place in range(4):
            label = "mild" if place == 3 and draw.random() < 0.8 else truth  # says mild whatever it is
            rows.append(said([f"r{item}"], None, annotator=f"human:{place}", protocol="label", labels=[label]))
    context = FakeContext(tmp_path)
    made = consensus(DawidSkene(), rows, context)
    assert {row["protocol"] for row in made if row["target"] == "response"} == {"label"}
    (fit,) = json.loads((tmp_path / "annotators.json").read_text())["fits"]
    assert fit["classes"] == ["mild", "severe"]
    lazy = fit["annotators"][3]["confusions"]
    assert lazy[0][0] > 0.9 and lazy[1][0] > 0.6


def test_rankings_choices_and_scores_are_read_as_pairs(tmp_path: Path) -> None:
    rows = [
        said(["a", "b", "c"], [3, 2, 1], protocol="rank", annotator="x"),
        said(["a", "b", "c"], [1, 0, 0], protocol="choose", annotator="y"),
        *(said([name], [value], annotator="z") for name, value in (("a", 5), ("b", 5), ("c", 1))),
    ]
    made = consensus(OneCoin(), rows, FakeContext(tmp_path))
    pairs = {tuple(row["target_ids"]): row["scores"] for row in made if row["target"] == "response"}
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert pairs["a", "c"] == [1, 0] and pairs["b", "c"] == [1, 0]
    assert json.loads((tmp_path / "annotators.json").read_text())["fits"][0]["votes"] == 3 + 2 + 3


def test_a_soft_verdict_is_the_posterior(tmp_path: Path) -> None:
    rows = list(crowd(20))
    hard = [row for row in consensus(OneCoin(), rows, FakeContext(tmp_path)) if row["target"] == "response"]
    soft = [row for row in consensus(OneCoin(soft=True), rows, FakeContext(tmp_path)) if row["target"] == "response"]
    for one, other in zip(hard, soft, strict=True):
        assert max(other["scores"]) == pytest.approx(one["confidence"]) and sum(other["scores"]) == pytest.approx(1)


def test_labels_and_orders_of_one_aspect_are_not_one_thing(tmp_path: Path) -> None:
    rows = [said(["a", "b"], [1, 0]), said(["a"], None, protocol="label", labels=["yes"])]
    with pytest.raises(DataError, match="has labels and orders of responses"):
        consensus(OneCoin(), rows, FakeContext(tmp_path))
    for of, protocol in (("labels", "label"), ("comparisons", "compare")):
        made = consensus(OneCoin(of=of), rows, FakeContext(tmp_path))
        assert {row["protocol"] for row in made if row["target"] == "response"} == {protocol}


def test_each_aspect_is_fitted_by_itself_and_named(tmp_path: Path) -> None:
    rows = [
        said(["a", "b"], [1, 0], aspect=aspect, annotator=name) for aspect in ("overall", "truth") for name in "xyz"
    ]
    made = consensus(OneCoin(), rows, FakeContext(tmp_path))
    assert sorted({row["aspect"] for row in made if row["target"] == "annotator"}) == ["ability", "ability/truth"]


def test_a_verdict_rests_on_all_that_was_read(tmp_path: Path) -> None:
    rows = list(crowd(10))
    before = consensus(OneCoin(), rows, FakeContext(tmp_path))
    after = consensus(OneCoin(), rows[:-1], FakeContext(tmp_path))
    assert not {row["annotation_id"] for row in before} & {row["annotation_id"] for row in after}


MODELS = [
    *(model() for model in CROWD),
    *(AnnotatorBradleyTerryConsensus(model=model) for model in ("crowd", "noisy", "discrimination")),
    Joint(),
    Joint(length=True),
]
ODD: dict[str, list[Row]] = {
    "nothing": [],
    "only failures": [said(["a", "b"], None, status="failed"), said(["c"], None, status="refused")],
    "one annotator": [said(["a", "b"], [1, 0]), said(["b", "c"], [1, 0])],
    "all ties": [said(list(pair), [0.5, 0.5], annotator=n) for n in "xy" for pair in itertools.combinations("abc", 2)],
    "one response": [said(["a"], [3.0]), said(["a"], [4.0], annotator="judge:b")],
    "disconnected": [said(["a", "b"], [1, 0], annotator="x"), said(["c", "d"], [1, 0], annotator="y")],
    "perfect separation": [said(["a", "b"], [1, 0], annotator=f"j{n}") for n in range(9)],
    "an annotator without a name": [{**said(["a", "b"], [1, 0]), "annotator": None}, said(["a", "b"], [0, 1])],
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("step", MODELS, ids=lambda step: f"{step.kind}-{getattr(step, 'model', '')}")
def test_odd_data_give_an_answer_or_an_abstention(step: CrowdModel, case: str, tmp_path: Path) -> None:
    known = [response(name) for name in "abcd"]
    made = list(run(step, FakeContext(tmp_path), annotations=ODD[case], responses=known)["annotations"])
    about_responses = {name for row in made if row["target"] == "response" for name in row["target_ids"]}
    if case not in ("nothing", "only failures", "one response"):
        assert about_responses == {name for row in ODD[case] for name in row["target_ids"]}
    for row in made:
        assert (row["status"] == "ok") == (row["scores"] is not None)
        numbers = [*(row["scores"] or []), *([row["confidence"]] if row["confidence"] is not None else [])]
        assert all(abs(number) < 60 for number in numbers)
    if case == "all ties":
        for row in (row for row in made if row["target"] == "response"):
            assert len(set(row["scores"])) == 1 or max(row["scores"]) - min(row["scores"]) < 1e-6
    if case == "only failures":
        assert {row["status"] for row in made if row["target"] == "response"} <= {"abstain"}


def test_a_position_bias_is_found_and_taken_out(tmp_path: Path) -> None:
    draw, rows, strength = random.Random(3), [], dict(zip("abcdef", range(6), strict=True))
    for prompt, name in itertools.product(range(25), ("x", "y", "z")):
        for pair in itertools.combinations(strength, 2):
            first, second = draw.sample(pair, 2)
            d = 0.7 * (strength[first] - strength[second]) + (2.0 if name == "z" else 0.0)
            wins = draw.random() < 1 / (1 + 2.718281828**-d)
            rows.append(said([first, second], [wins, not wins], annotator=name, prompt_id=f"p{prompt}"))
    for step in (AnnotatorBradleyTerryConsensus(model="discrimination"), Joint()):
        consensus(step, rows, FakeContext(tmp_path))
        (fit,) = json.loads((tmp_path / "annotators.json").read_text())["fits"]
        position = {one["annotator"]: one["position"] for one in fit["annotators"]}
        assert position["z"] > 1.2 and abs(position["x"]) < 0.7 and abs(position["y"]) < 0.7


def test_the_joint_model_reads_scores_on_scales_of_their_own(tmp_path: Path) -> None:
    rows = [said(["a", "b"], [1, 0], annotator="human:x", source="human", prompt_id=f"p{n}") for n in range(5)]
    for n in range(5):
        for name, value in (("a", 90.0), ("b", 10.0), ("c", 50.0)):
            rows.append(said([name], [value], annotator="reward:r", source="reward", prompt_id=f"p{n}"))
    made = consensus(Joint(), rows, FakeContext(tmp_path))
    for row in (row for row in made if row["target"] == "response"):
        found = scores_by_target(row)
        assert found["a"] > found["c"] > found["b"] and sum(found.values()) == pytest.approx(0, abs=1e-6)
    assert Joint().inputs() == {"annotations"} and "responses" in Joint(length=True).inputs()


def test_plackett_luce_of_comparisons_is_bradley_terry() -> None:
    draw = random.Random(5)
    rows = [
        said(draw.sample("abcd", 2), draw.choice([[1, 0], [0, 1], [0.5, 0.5], [0.8, 0.2]]), annotator=f"j{n}")
        for n in range(40)
    ]
    (one,), (other,) = consensus(PlackettLuceConsensus(), rows), consensus(BradleyTerryConsensus(), rows)
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-7)
    assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-7)


def test_a_ranking_is_less_than_all_its_pairs() -> None:
    rows = [said(list(order), [4, 3, 2, 1], protocol="rank", annotator=order) for order in ("abcd", "abdc", "bacd")]
    (one,), (other,) = consensus(PlackettLuceConsensus(), rows), consensus(BradleyTerryConsensus(), rows)
    assert one["confidence"] < other["confidence"]
    assert scores_by_target(one)["a"] > scores_by_target(one)["d"]
    choice = said(["a", "b", "c"], [0, 1, 0], protocol="choose")
    found = scores_by_target(consensus(PlackettLuceConsensus(), [choice])[0])
    assert found["b"] > found["a"] == found["c"]


BALLOTS = [*["ABC"] * 3, *["BCA"] * 2, *["CAB"] * 2]


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        ("borda", {"A": 8, "B": 7, "C": 6}),  # B09
        ("copeland", {"A": 0, "B": 0, "C": 0}),  # a cycle: A > B 5:2, B > C 5:2, C > A 4:3
        ("schulze", {"A": 2, "B": 1, "C": 0}),
        ("kemeny", {"A": 2, "B": 1, "C": 0}),
    ],
)
def test_seven_voters_go_round_in_a_circle(by: str, wanted: dict[str, float]) -> None:
    rows = [said(list(b), [3, 2, 1], protocol="rank", annotator=f"v{n}") for n, b in enumerate(BALLOTS)]
    (row,) = consensus(Vote(by=by), rows)
    assert scores_by_target(row) == wanted
    assert row["annotator"] == f"consensus:vote-{by}"


def test_the_minimax_lottery() -> None:  # B05
    rows = [said(["A", "B"], [0.6, 0.4]), said(["B", "C"], [0.9, 0.1]), said(["C", "A"], [0.7, 0.3])]
    found = scores_by_target(consensus(Vote(by="minimax"), rows)[0])
    assert found == pytest.approx({"A": 0.571429, "B": 0.285714, "C": 0.142857}, abs=1e-6)


def test_kemeny_where_several_orders_are_as_good() -> None:
    circle = [said(list(b), [3, 2, 1], protocol="rank", annotator=f"v{n}") for n, b in enumerate(["ABC", "BCA", "CAB"])]
    (row,) = consensus(Vote(by="kemeny"), circle)
    assert scores_by_target(row) == {"A": 1, "B": 1, "C": 1} and row["confidence"] == pytest.approx(1 / 3)
    # A before B and C, of whom nobody says which is better: ABC and ACB.
    (row,) = consensus(Vote(by="kemeny"), [said(["A", "B"], [1, 0]), said(["A", "C"], [1, 0])])
    assert scores_by_target(row) == {"A": 2, "B": 0.5, "C": 0.5} and row["confidence"] == 1
    (tie,) = consensus(Vote(by="kemeny"), [said(["A", "B"], [0.5, 0.5])])
    assert scores_by_target(tie) == {"A": 0.5, "B": 0.5} and tie["confidence"] == 0.5
    (other,) = consensus(Vote(by="borda"), circle)
    assert other["confidence"] is None


def test_all_are_registered_and_never_read_consensus() -> None:
    kinds = [kind for kind in STEPS if kind.startswith("aggregate.")]
    assert len(kinds) == 20
    for kind in kinds:
        assert CONSENSUS not in STEPS[kind].reads and STEPS[kind].writes == {CONSENSUS}
