"""What a report says of the data: planted faults are found, and what has none is left alone. Numbers by hand."""

from __future__ import annotations

from itertools import combinations
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.dataset import Dataset
from prefdata.operators.vectors import VECTOR, packed
from prefdata.report import analyse
from prefdata.report.agreement import reference_members
from prefdata.report.cycles import cycles, triads_of
from prefdata.report.decided import decided
from prefdata.report.duplicates import duplicates
from prefdata.report.hardness import hardness
from prefdata.report.leaderboard import connected, leaderboard
from prefdata.report.pairs import expanded
from prefdata.report.probes import auc, held_out_logits, surface, words
from prefdata.report.problems import _boards
from prefdata.report.separability import FEWEST, separability
from prefdata.report.verdicts import verdicts_of
from prefdata.schema import annotation

WORDS = ["river", "stone", "cloud", "green", "quiet", "seven", "paper", "window", "garden", "winter", "silver", "table"]


def sides(ds: Dataset) -> tuple[Any, Any]:
    """The view and its pairs with an order."""
    view = ds.view()
    verdicts = verdicts_of(view)
    return view, decided(view, expanded(view, []), verdicts, reference_members(verdicts, None))


def label(hand: Any, about: str, aspect: str, text: str, annotator: str = "rule:x") -> None:
    """A label of a prompt."""
    row = hand.prompts[about]
    made = annotation(
        group_id=row["group_id"],
        prompt_id=row["prompt_id"],
        target="prompt",
        target_ids=[row["prompt_id"]],
        protocol="label",
        annotator=annotator,
        source="rule",
        aspect=aspect,
        labels=[text],
        key=len(hand.annotations),
    )
    hand.annotations.append(made)


def told(rng: np.random.Generator, n: int) -> str:
    return " ".join(rng.choice(WORDS, n))


def test_the_area_by_hand() -> None:
    """The curation reference's example: chosen {2, 3, 4}, rejected {0, 1, 2}; 8 of 9 and one tie."""
    chosen, rejected = np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0])
    found = auc(chosen, rejected)
    assert found["value"] == pytest.approx(8.5 / 9)
    assert auc(np.exp(chosen), np.exp(rejected))["value"] == found["value"]
    assert auc(rejected, chosen)["value"] == pytest.approx(1 - found["value"])
    assert auc(chosen, chosen)["value"] == 0.5
    assert auc(chosen, np.zeros(0)) == {"value": None, "low": None, "high": None, "n": 0}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_the_area_is_the_mean_of_all_comparisons(a: list[int], b: list[int]) -> None:
    slow = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auc(np.array(a, float), np.array(b, float))["value"] == pytest.approx(slow)


def test_of_one_kind_nothing_is_learnt() -> None:
    x = np.random.default_rng(1).normal(size=(60, 3))
    assert held_out_logits(x, np.ones(60), np.arange(60) % 5) is None


def test_surface_features_by_hand() -> None:
    found = surface(["# A\n- b\n- **c**?", "I'm sorry, I cannot.", ""])
    # length, lines, lists, headers, bold, code, questions, exclamations, digits; how a refusal begins
    assert found[0].tolist() == pytest.approx([log(17), log(3), log(3), log(2), log(2), 0, log(2), 0, 0, 0])
    assert found[1, -1] == 1
    assert found[2].tolist() == [0.0] * 10
    assert words(["a b", "", "a b"]).toarray()[1].sum() == 0


def planted(hand: Any, long: bool, n: int = 60) -> Dataset:
    """Pairs whose chosen side is three times as long, or not."""
    rng = np.random.default_rng(5)
    for place in range(n):
        ids = hand.prompt(f"q{place}", told(rng, 30 if long else 10), told(rng, 10))
        hand.prefers(ids, [1.0, 0.0])
    return hand.dataset()


def test_a_planted_length_is_found_and_named(hand: Any) -> None:
    view, found = sides(planted(hand, long=True))
    made = separability(view, found, [])
    assert made is not None
    assert made["surface"]["auc"]["value"] > 0.95
    assert made["surface"]["pairs"]["share"] == 1
    assert made["model"] is None
    assert made["embedding"] is None
    assert "told apart without the question" in made["warnings"][0]
    assert "Length and layout alone" in made["warnings"][1]
    assert made["features"][0] == {"name": "length", "auc": 1.0}


def test_sides_without_a_mark_are_no_warning(hand: Any) -> None:
    view, found = sides(planted(hand, long=False))
    made = separability(view, found, [])
    assert made is not None
    assert made["warnings"] == []
    assert made["text"]["auc"]["low"] < 0.5 < made["text"]["auc"]["high"]


def test_the_name_of_the_model_gives_it_away(hand: Any) -> None:
    rng = np.random.default_rng(5)
    for place in range(40):
        (a,) = hand.prompt(f"q{place}", told(rng, 9), model="strong")
        (b,) = hand.prompt(f"q{place}", told(rng, 9) + "!", model="weak")
        hand.prefers([a, b], [1.0, 0.0])
    view, found = sides(hand.dataset())
    made = separability(view, found, [])
    assert made is not None
    assert made["model"]["auc"]["value"] == 1
    assert any("Which model wrote a response" in sentence for sentence in made["warnings"])


def vectors(hand: Any, planted: float, seed: int = 3) -> None:
    """60 pairs with a vector of each response; `planted` is how far the chosen ones stand to one side."""
    rng = np.random.default_rng(seed)
    for place in range(60):
        pair = hand.prompt(f"q{place}", told(rng, 10), told(rng, 10))
        hand.prefers(pair, [1.0, 0.0])
        for name, off in zip(pair, (planted, 0.0), strict=True):
            about = hand.responses[name]
            made = annotation(
                group_id=about["group_id"],
                prompt_id=about["prompt_id"],
                target_ids=[name],
                protocol="label",
                annotator="embedding:e",
                source="embedding",
                aspect=VECTOR,
                labels=[],
                text=packed(rng.normal(size=6) + off * np.eye(6)[2]),
                key=len(hand.annotations),
            )
            hand.annotations.append(made)


def test_a_planted_direction_of_stored_vectors_is_found(hand: Any) -> None:
    vectors(hand, planted=4.0)
    view, found = sides(hand.dataset())
    made = separability(view, found, [])
    assert made is not None
    assert made["embedding"]["auc"]["value"] > 0.9
    assert made["embedding"]["pairs"]["share"] > 0.9
    assert made["text"]["auc"]["value"] < 0.7
    assert "told apart without the question" in made["warnings"][0]


def test_vectors_without_a_direction_tell_nothing(hand: Any) -> None:
    vectors(hand, planted=0.0)
    view, found = sides(hand.dataset())
    made = separability(view, found, [])
    assert made is not None
    assert made["embedding"]["auc"]["low"] < 0.5 < made["embedding"]["auc"]["high"]
    assert made["warnings"] == []


@pytest.mark.parametrize(
    ("change", "words_of"),
    [({"aspect": "other"}, "some responses have none"), ({"text": "no vector"}, "cannot be read")],
)
def test_vectors_that_are_not_all_there_are_left_out_and_it_is_said(hand: Any, change: Any, words_of: str) -> None:
    vectors(hand, planted=4.0)
    hand.annotations[7] |= change
    view, found = sides(hand.dataset())
    notes: list[str] = []
    made = separability(view, found, notes)
    assert made is not None and made["embedding"] is None
    assert words_of in notes[0]


def test_too_few_pairs_for_a_probe(hand: Any) -> None:
    view, found = sides(planted(hand, long=True, n=FEWEST - 1))
    assert separability(view, found, []) is None


def test_copies_conflicts_and_leaks_are_counted(hand: Any) -> None:
    one = hand.prompt("What is  rain?", "water", "fire")
    two = hand.prompt("what is rain? ", "Water", "fire ")
    hand.prompt("Something else entirely", "yes", "yes")
    hand.prefers(one, [1.0, 0.0])
    hand.prefers(two[::-1], [1.0, 0.0])
    for name, split in (("What is  rain?", "train"), ("what is rain? ", "valid"), ("Something else entirely", "valid")):
        label(hand, name, "split", split)
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])
    assert (made["prompts"]["repeated"]["part"], made["prompts"]["clusters"]) == (2, 1)
    assert made["prompts"]["examples"][0]["n"] == 2
    assert made["responses"]["repeated"]["part"] == 1
    assert (made["conflicts"]["opposite"]["part"], made["conflicts"]["opposite"]["n"]) == (1, 1)
    assert made["leaks"]["splits"] == [{"name": "train", "groups": 1}, {"name": "valid", "groups": 2}]
    assert (made["leaks"]["exact"]["part"], made["leaks"]["exact"]["n"]) == (1, 2)
    assert made["contamination"] is None


def test_a_clean_split_leaks_nothing(hand: Any) -> None:
    for place, name in enumerate(("how do bees find their way home", "why is the sky red at dusk", "who wrote Emma")):
        hand.prefers(hand.prompt(name, "a", "b"), [1.0, 0.0])
        label(hand, name, "split", "valid" if place else "train")
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])
    assert made["leaks"]["exact"]["part"] == made["leaks"]["near"]["part"] == 0
    assert made["conflicts"]["opposite"]["part"] == made["prompts"]["repeated"]["part"] == 0
    assert made["near"] == {"by": "report", "groups": 3, "repeated": made["near"]["repeated"], "clusters": 0}


def test_near_copies_leak_too_by_measure_and_by_label(hand: Any) -> None:
    base = "please explain in simple words how a heat pump warms a house in the middle of winter"
    for name, split in ((base, "train"), (f"{base} now", "valid"), ("tell me a joke", "valid")):
        hand.prompt(name, "a")
        label(hand, name, "split", split)
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])
    assert (made["leaks"]["exact"]["part"], made["leaks"]["near"]["part"]) == (0, 1)
    assert made["near"]["by"] == "report"
    for name in (base, "tell me a joke"):
        label(hand, name, "duplicates", "cluster-1", "rule:duplicates")
    hand.folder = hand.folder.with_name("labelled")
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])
    assert made["near"]["by"] == "labels"
    assert (made["leaks"]["near"]["part"], made["near"]["repeated"]["part"]) == (1, 2)


def test_contamination_counts_what_was_checked(hand: Any) -> None:
    for name in ("a", "b"):
        hand.prompt(name, "x")
        row = hand.prompts[name]
        about = {"group_id": row["group_id"], "prompt_id": row["prompt_id"], "target_ids": [row["prompt_id"]]}
        said = {"target": "prompt", "annotator": "rule:contamination", "source": "rule", "aspect": "contamination"}
        hand.annotations.append(annotation(**about, **said, protocol="measure", scores=[0.9 if name == "a" else 0.0]))
    label(hand, "a", "contamination", "gsm8k", "rule:contamination")
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])["contamination"]
    assert (made["hits"]["part"], made["hits"]["n"], made["sources"]) == (1, 2, [{"name": "gsm8k", "n": 1}])
    assert made["examples"] == [{"source": "gsm8k", "target": "prompt", "text": "a"}]


def test_texts_that_are_missing_are_not_alike(hand: Any) -> None:
    ids = hand.prompt("q", "a", "b") + hand.prompt("p", "c", "d")
    for one in ids:
        hand.responses[one]["text"] = None
    hand.prefers(ids[:2], [1.0, 0.0])
    hand.prefers(ids[2:], [1.0, 0.0])
    view, found = sides(hand.dataset())
    made = duplicates(view, found, [])
    assert made["pairs"]["n"] == made["pairs"]["same_text"]["part"] == 0


def compare_all(hand: Any, who: str, ids: list[str], wins: set[tuple[int, int]], **columns: Any) -> None:
    for i, j in combinations(range(len(ids)), 2):
        hand.says(who, [ids[i], ids[j]], [1.0, 0.0] if (i, j) in wins else [0.0, 1.0], **columns)


def test_a_planted_cycle_is_counted(hand: Any) -> None:
    ids = hand.prompt("q", "a", "b", "c")
    compare_all(hand, "judge:round", ids, {(0, 1), (1, 2)})  # a > b > c > a
    compare_all(hand, "judge:straight", ids, {(0, 1), (1, 2), (0, 2)})
    hand.says("author", ids, [3.0, 2.0, 1.0], protocol="rank", source="human")
    view = hand.dataset().view()
    made = cycles(view, verdicts_of(view), [])
    assert {one["name"]: (one["triads"]["part"], one["triads"]["n"]) for one in made["by"]} == {
        "judge:round": (1, 1),
        "judge:straight": (0, 1),
    }
    assert (made["majority"][0]["triads"]["part"], made["majority"][0]["triads"]["n"]) == (0, 1)
    assert made["flow"] is None


@given(st.integers(3, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_triads_are_those_of_a_loop(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sign = np.triu(rng.integers(-1, 2, (n, n)), 1)
    beats = ((sign - sign.T) > 0).astype(float)
    triads = cyclic = 0
    for i, j, k in combinations(range(n), 3):
        edges = [beats[i, j] + beats[j, i], beats[j, k] + beats[k, j], beats[i, k] + beats[k, i]]
        triads += all(edges)
        cyclic += beats[i, j] * beats[j, k] * beats[k, i] + beats[i, k] * beats[k, j] * beats[j, i]
    found = triads_of(beats[None])
    assert (found[0][0], found[1][0]) == pytest.approx((triads, cyclic))


@pytest.mark.parametrize("round_trip", [True, False])
def test_models_that_beat_each_other_in_a_ring(hand: Any, round_trip: bool) -> None:
    """Each of three models wins eight of ten games: in a ring, or along an order."""
    for place in range(20):
        ids = [hand.prompt(f"q{place}", f"{name} {place}", model=name)[0] for name in "abc"]
        for (i, j), up in {(0, 1): True, (1, 2): True, (0, 2): not round_trip}.items():
            wins = up if place % 5 else not up
            hand.says("human:x", [ids[i], ids[j]], [1.0, 0.0] if wins else [0.0, 1.0], source="human")
    view = hand.dataset().view()
    flow = cycles(view, verdicts_of(view), ["human:x"])["flow"]
    whole = next(one for one in flow if one["of"] == "models")["by"][0]
    assert (whole["p_value"] < 0.01) == round_trip
    assert (whole["cyclicity"] > 0.9) == round_trip


def games(hand: Any, results: dict[tuple[str, str], list[float]], who: str = "human:x") -> Any:
    for (a, b), outcomes in results.items():
        for place, p in enumerate(outcomes):
            (one,) = hand.prompt(f"{a}{b}{place}", f"{a} says", model=a)
            (other,) = hand.prompt(f"{a}{b}{place}", f"{b} says", model=b)
            hand.says(who, [one, other], [p, 1 - p], source="human")
    view = hand.dataset().view()
    return leaderboard(view, verdicts_of(view), [who], [])


def test_two_models_are_apart_by_the_logit_of_their_wins(hand: Any) -> None:
    (board,) = games(hand, {("a", "b"): [1.0] * 15 + [0.0] * 5})
    first, second = board["models"]
    assert (first["model"], second["model"]) == ("a", "b")
    assert first["value"] - second["value"] == pytest.approx(log(3))
    assert (board["by"], board["games"], board["prompts"], board["groups"], board["prior"]) == ("people", 20, 20, 1, 0)
    # Twenty independent prompts: the difference has variance 1/(20 p (1 - p)), each rating a quarter of it.
    half = 1.959964 * np.sqrt(1 / (20 * 0.75 * 0.25)) / 2 * np.sqrt(20 / 19)
    assert first["high"] - first["value"] == pytest.approx(half, rel=1e-5)
    assert (first["rank"], second["rank"]) == ([1, 1], [2, 2])
    assert board["couples"] == [{"a": 0, "b": 1, "share": 0.75, "n": 20}]


def test_ties_are_half_a_win_and_leave_both_first(hand: Any) -> None:
    (board,) = games(hand, {("a", "b"): [0.5] * 4 + [1.0] * 4 + [0.0] * 4})
    assert [one["value"] for one in board["models"]] == pytest.approx([0, 0], abs=1e-9)
    assert [one["rank"] for one in board["models"]] == [[1, 2], [1, 2]]
    assert (board["ties"]["part"], board["ties"]["n"]) == (4, 12)


def test_models_that_never_met_stand_in_groups(hand: Any) -> None:
    (board,) = games(hand, {("a", "b"): [1.0, 1.0, 0.0], ("c", "d"): [1.0, 1.0]})
    assert board["groups"] == 2
    assert {one["model"]: one["group"] for one in board["models"]} == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert {one["model"] for one in board["models"] if one["undecided"]} == {"c", "d"}
    ((level, _, sentence),) = _boards({"leaderboard": [board]})
    assert (level, "2 groups that never met" in sentence) == ("mixed", True)


def test_one_model_has_no_leaderboard(hand: Any) -> None:
    hand.says("human:x", hand.prompt("q", "a", "b"), [1.0, 0.0], source="human")
    view = hand.dataset().view()
    assert leaderboard(view, verdicts_of(view), ["human:x"], []) is None


def test_connected_puts_the_largest_first() -> None:
    met = np.zeros((5, 5), dtype=bool)
    for i, j in ((0, 3), (1, 2), (2, 4)):
        met[i, j] = met[j, i] = True
    assert connected(met).tolist() == [1, 0, 0, 1, 0]


def test_measures_of_pairs_and_their_extremes(hand: Any) -> None:
    for place in range(5):
        ids = hand.prompt(f"q{place}", f"good {place}", f"bad {place}")
        hand.prefers(ids, [1.0, 0.0])
        said = {"group_id": hand.preferences[-1]["group_id"], "prompt_id": hand.preferences[-1]["prompt_id"]}
        for aspect, value in (("difficulty", place - 2.0), ("ches_ln", -float(place))):
            hand.annotations.append(
                annotation(
                    **said,
                    target="preference",
                    target_ids=[hand.preferences[-1]["preference_id"]],
                    protocol="measure",
                    annotator="rule:difficulty",
                    source="likelihood",
                    aspect=aspect,
                    scores=[value],
                )
            )
    ds = hand.dataset()
    made, extremes = hardness(ds.view())
    assert made is not None
    assert [(one["aspect"], one["n"], one["positive"]) for one in made] == [("ches_ln", 5, 0), ("difficulty", 5, 2)]
    assert made[1]["quantiles"]["median"] == 0
    assert {kind: rows["gap"].to_list() for kind, rows in extremes} == {
        "hardest": [2.0, 1.0, 0.0],
        "displaced": [0.0, -1.0, -2.0],
    }
    found = analyse(ds)
    hardest = [one for one in found["examples"] if one["kind"] == "hardest"]
    assert [one["first"]["text"] for one in hardest] == ["good 4", "good 3", "good 2"]
    assert found["difficulty"][1]["quantiles"]["max"] == 2


def test_a_clean_dataset_has_no_problem_and_an_empty_one_no_answer(hand: Any, tmp_path: Any) -> None:
    empty = analyse(Dataset.create(tmp_path / "empty"))
    assert empty["problems"]["found"] == []
    for key in ("leaderboard", "separability", "difficulty", "calibration", "variation", "scores"):
        assert empty[key] is None, key
    assert empty["abilities"] == {"models": None, "majority": None}
    assert empty["card"]["longer_chosen"]["share"] is None
    assert empty["duplicates"]["leaks"] is None
    rng = np.random.default_rng(2)
    for place in range(40):
        ids = hand.prompt(told(rng, 12), told(rng, 12), told(rng, 12))
        for who in ("human:a", "human:b"):
            hand.says(who, ids, [1.0, 0.0] if place % 2 else [0.0, 1.0], source="human")
    found = analyse(hand.dataset())
    assert found["problems"]["found"] == []
    assert "opposite labels" in found["problems"]["checked"]
    assert [one["sentence"][:5] for one in found["problems"]["unknown"]] == ["Leaks", "Conta"]


def test_planted_faults_head_the_list(hand: Any) -> None:
    rng = np.random.default_rng(3)
    for place in range(30):
        name = told(rng, 8)
        ids = hand.prompt(name, told(rng, 25), told(rng, 8))
        hand.says("human:a", ids, [1.0, 0.0], source="human")
        hand.both_orders("judge:first", ids, 1.0, 1.0)
        label(hand, name, "split", "valid" if place < 5 else "train")
    (twin,) = [name for place, name in enumerate(hand.prompts) if place == 7]
    hand.prompt(f"  {twin.upper()}", "x")
    label(hand, f"  {twin.upper()}", "split", "valid")
    found = analyse(hand.dataset())["problems"]["found"]
    assert [(one["level"], one["about"]) for one in found[:3]] == [
        ("bad", "duplicates"),
        ("bad", "separability"),
        ("bad", "bias"),
    ]
    assert found[0]["sentence"].startswith("1 of 6 held-out prompts are trained on as well")
    assert "judge:first answers by position" in found[2]["sentence"]
    assert any("longer one in 100% of 30 pairs" in one["sentence"] for one in found)


def test_odd_data_gives_an_answer_or_none(hand: Any) -> None:
    """All ties, a single response, unanimous boards: no number is made up."""
    hand.says("judge:x", hand.prompt("alone", "only one"), [3.0], protocol="score")
    for place in range(12):
        (a,), (b,) = hand.prompt(f"q{place}", "a", model="a"), hand.prompt(f"q{place}", "b!", model="b")
        hand.says("judge:tie", [a, b], [0.5, 0.5])
        hand.says("human:a", [a, b], [1.0, 0.0], source="human")
        hand.says("judge:nothing", [a, b], None, status="unparsed")
    found = analyse(hand.dataset())
    people, judges = found["leaderboard"]
    assert (people["by"], people["prior"]) == ("people", 1.0)
    assert [one["undecided"] for one in people["models"]] == [True, True]
    assert people["models"][0]["high"] < 20
    assert [one["rank"] for one in judges["models"]] == [[1, 2], [1, 2]]
    assert found["calibration"] is None
    assert found["variation"] is None
    assert {one["name"]: one["one_order"]["position"]["value"] for one in found["bias"]["by"]} == {
        "human:a": None,
        "judge:tie": None,
    }
    assert any(one["about"] == "flow" and "unusable" in one["sentence"] for one in found["problems"]["found"])
