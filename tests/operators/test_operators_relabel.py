"""relabel.*: flips, soft labels, weights, margins and facts, and that the original comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_shapes import FakeContext, frame, run
from pydantic import ValidationError

from prefdata.errors import DataError
from prefdata.operators.relabel.factual import Factual
from prefdata.operators.relabel.flip import Flip, flipped
from prefdata.operators.relabel.margin import Margin
from prefdata.operators.relabel.pairs import with_ends
from prefdata.operators.relabel.soften import Soften
from prefdata.operators.relabel.weight import Weight
from prefdata.schema import Row, annotation, preference
from prefdata.stats.logistic import log_sigmoid

CONTENT = ("response_ids", "scores", "weight", "values", "edges")


def edge(p: float | None = None, margin: float | None = None, *, winner: int = 0, votes: int | None = None) -> Row:
    return {"winner": winner, "loser": 1 - winner, "p": p, "margin": margin, "weight": None, "votes": votes}


def pair(name: str, *, edges: list[Row] | None = None, scores: list[float] | None = None, **columns: Any) -> Row:
    row = preference(
        group_id="p1",
        prompt_id="p1",
        response_ids=[f"{name}-a", f"{name}-b"],
        scores=[2.0, 1.0] if scores is None else scores,
        annotation_ids=["said"],
        **columns,
    )
    return {**row, "preference_id": name, "edges": edges}


def measure(name: str, value: float | None, aspect: str = "strength", annotator: str = "reward:votes") -> Row:
    return annotation(
        group_id="p1",
        prompt_id="p1",
        target="preference",
        target_ids=[name],
        protocol="measure",
        annotator=annotator,
        source="reward",
        aspect=aspect,
        scores=None if value is None else [value],
        status="abstain" if value is None else "ok",
    )


def by_parent(made: Any) -> dict[str, Row]:
    return {row["parent_id"]: row for row in made.get("preferences", [])}


def test_the_worse_labels_are_flipped_and_the_original_is_dropped() -> None:
    rows = [pair("bad", edges=[edge(0.8, 3.0, votes=5)]), pair("good"), pair("unmeasured")]
    made = run(Flip(), preferences=rows, annotations=[measure("bad", -0.4), measure("good", 0.4)])
    (new,) = made["preferences"]
    assert new["response_ids"] == ["bad-b", "bad-a"] and new["scores"] == [2.0, 1.0] and new["parent_id"] == "bad"
    assert new["edges"] == [edge(0.8, -3.0, votes=5)] and new["preference_id"] != "bad"
    assert new["values"] == [{"name": "flipped", "values": [1.0, 1.0]}]
    assert new["annotation_ids"] == ["said"], "the measure is hidden with what it is about"
    (drop,) = made["drops"]
    assert (drop["table"], drop["id"], drop["view"]) == ("preferences", "bad", "main")
    assert drop["reason"] == "flipped: strength < 0"


def test_a_share_of_all_is_flipped() -> None:
    """A06: 20 % of ten strengths lie below 0.02."""
    strengths = [-0.9, -0.3, 0.1, 0.2, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0]
    rows = [pair(f"n{at}") for at in range(10)]
    said = [measure(f"n{at}", value) for at, value in enumerate(strengths)]
    made = run(Flip(lowest=0.2), preferences=rows, annotations=said)
    assert set(by_parent(made)) == {"n0", "n1"}
    assert set(by_parent(run(Flip(highest=0.1), preferences=rows, annotations=said))) == {"n9"}
    tied = [measure(f"n{at}", 1.0) for at in range(10)]
    assert run(Flip(lowest=0.2), preferences=rows, annotations=tied) == {}


edges_of_pairs = st.none() | st.builds(
    lambda p, margin, winner: [edge(p, margin, winner=winner)],
    st.none() | st.floats(0, 1),
    st.none() | st.floats(-5, 5),
    st.integers(0, 1),
)
values_of_pairs = st.none() | st.lists(
    st.builds(lambda n, a, b: {"name": n, "values": [a, b]}, st.sampled_from("xyz"), st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=2,
)


@given(edges_of_pairs, values_of_pairs, st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_two_flips_are_none(edges: list[Row] | None, values: list[Row] | None, scores: tuple[int, int]) -> None:
    """L10: an involution, whatever the pair states."""
    start = frame("preferences", [{**pair("one", edges=edges, scores=[float(s) for s in scores]), "values": values}])
    once = flipped(start)
    assert flipped(once).select(CONTENT).equals(start.select(CONTENT))
    before, after = with_ends(start).row(0, named=True), with_ends(once).row(0, named=True)
    assert before["unfit"] == after["unfit"]
    if before["unfit"] is None:
        assert (before["better"], before["worse"]) == (after["worse"], after["better"])


def test_after_the_flip_the_strength_is_not_negative_and_nothing_is_left_to_do() -> None:
    """L10: conditional flips are idempotent: with the strength measured anew no label is flipped back."""
    rows, said = [pair("bad")], [measure("bad", -0.4)]
    (new,) = run(Flip(), preferences=rows, annotations=said)["preferences"]
    again = run(Flip(), preferences=[new], annotations=[*said, measure(new["preference_id"], 0.4)])
    assert again == {}
    assert run(Flip(), preferences=[new], annotations=said) == {}  # without a measure it is left as it is


@pytest.mark.parametrize("how", [{"right": "alpha", "alpha": 0.0}, {"right": "measure", "aspect": "sure"}])
def test_a_sure_label_stays(how: dict[str, Any]) -> None:
    """L10: soften(0) is the identity."""
    rows = [pair("one"), pair("two", edges=[edge(0.7, 1.0)])]
    said = [measure(name, 1.0, "sure") for name in ("one", "two")]
    assert run(Soften(**how), preferences=rows, annotations=said) == {}


@given(st.floats(0, 1), st.integers(0, 1))
def test_one_half_makes_both_orders_equal(p: float, winner: int) -> None:
    made = run(Soften(right="alpha", alpha=0.5), preferences=[pair("one", edges=[edge(p, winner=winner)])])
    if p == 0.5:
        assert made == {}  # a tie has no label
        return
    assert made["preferences"][0]["edges"][0]["p"] == pytest.approx(0.5)


def test_soft_labels_of_the_reference() -> None:
    """A06: strength 0.5 gives q = 0.622459; A08: alpha 0.1 gives conservative DPO's loss, 0.524077 at m = 0.5."""
    rows = [pair("one"), pair("votes", edges=[edge(0.8, 2.0, votes=5)])]
    said = [measure("one", 0.5), measure("votes", 0.5)]
    new = by_parent(run(Soften(), preferences=rows, annotations=said))
    assert new["one"]["edges"] == [edge(pytest.approx(0.622459, abs=1e-6))]
    q = 0.622459
    assert new["votes"]["edges"] == [edge(pytest.approx(q * 0.8 + (1 - q) * 0.2, abs=1e-6), 2.0, votes=5)]
    (smooth,) = run(Soften(right="alpha"), preferences=rows[:1])["preferences"]
    p = smooth["edges"][0]["p"]
    loss = -p * log_sigmoid(0.5) - (1 - p) * log_sigmoid(-0.5)
    assert p == 0.9 and loss == pytest.approx(0.524077, abs=1e-6)


def test_selfie_smooths_the_unsure_alone() -> None:
    rows = [pair("sure"), pair("unsure")]
    said = [measure("sure", 1.0, "sure"), measure("unsure", 0.0, "sure")]
    new = by_parent(run(Soften(aspect="sure", below=0.5, right="alpha"), preferences=rows, annotations=said))
    assert list(new) == ["unsure"] and new["unsure"]["edges"][0]["p"] == 0.9


def test_a_posterior_below_one_half_says_the_other_is_better() -> None:
    said = [measure("one", 0.2, "label_posterior")]
    step = Soften(aspect="label_posterior", right="measure")
    (new,) = run(step, preferences=[pair("one", scores=[1.0, 2.0])], annotations=said)["preferences"]
    assert new["edges"] == [edge(pytest.approx(0.2), winner=1)] and new["response_ids"] == ["one-a", "one-b"]
    assert with_ends(frame("preferences", [new]))["better"].to_list() == ["one-a"]
    with pytest.raises(DataError, match="a probability lies from 0 to 1"):
        run(step, preferences=[pair("one")], annotations=[measure("one", 1.5, "label_posterior")])


def test_weights_of_the_reference() -> None:
    """A18: .2, .5, .9 become .375, .9375, 1.6875; a gap of 2 adds half of 1 - 1/e."""
    rows = [pair("a"), pair("b", weight=2.0), pair("c", scores=[1.0, 1.0])]
    said = [measure(name, value, "relevance") for name, value in zip("abc", (0.2, 0.5, 0.9), strict=True)]
    new = by_parent(run(Weight(aspect="relevance"), preferences=rows, annotations=said))
    assert [new[name]["weight"] for name in "abc"] == pytest.approx([0.375, 2 * 0.9375, 1.6875])
    gap = by_parent(run(Weight(aspect="gap", form="gap"), preferences=rows, annotations=[measure("a", 2.0, "gap")]))
    assert 0.1 * gap["a"]["weight"] == pytest.approx(0.131606, abs=1e-6)
    nothing = FakeContext()
    assert run(Weight(aspect="gap"), nothing, preferences=rows, annotations=[measure("a", -2.0, "gap")]) == {}
    assert "0 or less" in nothing.said[-1]
    with pytest.raises(DataError, match="a weight is not negative"):
        run(Weight(aspect="gap", form="as_is"), preferences=rows, annotations=[measure("a", -2.0, "gap")])


def test_margins_stand_on_the_better_side() -> None:
    """A06: with r_w - r_l = 1 and a strength of 0.5 the loss is 0.474077."""
    rows = [pair("one"), pair("turned", edges=[edge(0.2, 9.0)]), pair("doubtful")]
    said = [measure("one", 0.5), measure("turned", 0.5), measure("doubtful", -1.0)]
    new = by_parent(run(Margin(), preferences=rows, annotations=said))
    assert new["one"]["edges"] == [edge(1.0, 0.5)]
    assert new["turned"]["edges"] == [edge(0.2, -0.5)], "its better side is the loser of its edge"
    assert new["doubtful"]["edges"][0]["margin"] == -1.0
    assert -log_sigmoid(1.0 - new["one"]["edges"][0]["margin"]) == pytest.approx(0.474077, abs=1e-6)
    least = by_parent(run(Margin(least=0.0, scale=2.0), preferences=rows, annotations=said))
    assert [least[name]["edges"][0]["margin"] for name in ("one", "doubtful")] == [1.0, 0.0]


def fact(response: str, label: str, annotator: str = "judge:m/factuality") -> Row:
    return annotation(
        group_id="p1",
        prompt_id="p1",
        target_ids=[response],
        protocol="label",
        labels=[label],
        annotator=annotator,
        source="judge",
        aspect="factuality",
    )


def facts(name: str, better: str, worse: str) -> list[Row]:
    return [fact(f"{name}-a", better), fact(f"{name}-b", worse)]


def test_no_chosen_response_is_less_factual() -> None:
    """A11: (1, 0) is flipped; the margin 10 h stands inside beta, so it is 1.0 at beta 0.1."""
    rows = [pair(name) for name in ("right", "wrong", "both", "unknown")]
    said = [*facts("right", "factual", "wrong"), *facts("wrong", "wrong", "factual"), *facts("both", "wrong", "wrong")]
    new = by_parent(run(Factual(margin=0.1 * 10), preferences=rows, annotations=said))
    assert set(new) == {"right", "wrong", "both"} and new["wrong"]["response_ids"] == ["wrong-b", "wrong-a"]
    assert new["both"]["edges"][0]["margin"] == 0.0
    assert [new[name]["edges"][0]["margin"] for name in ("right", "wrong")] == [1.0, 1.0]
    assert -log_sigmoid(0.1 * 5 - 1.0) == pytest.approx(0.974077, abs=1e-6)
    assert -log_sigmoid(0.1 * 5 - 0.0) == pytest.approx(0.474077, abs=1e-6)
    again = run(Factual(margin=1.0), preferences=list(new.values()), annotations=said)
    assert again == {}, "idempotent"
    plain = run(Factual(both_wrong="drop"), preferences=rows, annotations=said)
    assert set(by_parent(plain)) == {"wrong"} and {row["id"] for row in plain["drops"]} == {"wrong", "both"}
    contradicted = [*said, fact("right-a", "wrong", "judge:other")]
    with pytest.raises(DataError, match="contradict one another"):
        run(Factual(), preferences=rows, annotations=contradicted)


def test_what_is_no_pair_stays_and_is_counted() -> None:
    context = FakeContext()
    three = {**preference(group_id="p1", prompt_id="p1", response_ids=list("abc"), scores=[3, 2, 1])}
    rows = [
        pair("tie", scores=[1.0, 1.0]),
        {**pair("alone"), "kind": "unpaired"},
        {**pair("joint"), "prompt_id": None},
        {**pair("roles"), "roles": ["ranked", "sft"]},
        {**pair("even"), "edges": [edge(0.5)]},
        {**pair("broken"), "edges": [{**edge(1.0), "loser": 7}]},
        {**pair("missing"), "scores": None},
        three,
    ]
    said = [measure(row["preference_id"], -1.0) for row in rows]
    assert run(Flip(), context, preferences=rows, annotations=said) == {}
    text = " ".join(context.said)
    for reason in (
        "3 preferences left as they are: a tie",
        "unpaired responses",
        "different prompts",
        "no pair of two",
    ):
        assert reason in text


def test_measures_that_cannot_be_used() -> None:
    rows = [pair("one")]
    with pytest.raises(DataError, match="several annotators, for example by 'a' and 'b'"):
        run(Flip(), preferences=rows, annotations=[measure("one", -1, annotator=name) for name in ("a", "b")])
    for value in (None, float("nan"), float("inf")):
        assert run(Flip(), preferences=rows, annotations=[measure("one", value)]) == {}
    assert run(Flip()) == {}
    with pytest.raises(ValidationError, match="one of below, above"):
        Flip(below=0, lowest=0.1)
    with pytest.raises(ValidationError, match="from where on label_error"):
        Flip(aspect="label_error")
    with pytest.raises(ValidationError, match="alpha belongs to right: alpha"):
        Soften(alpha=0.2)
    assert Flip().below == 0.0 and Flip(lowest=0.2).below is None
    assert Flip.restored(Flip(lowest=0.2).resolved()) == Flip(lowest=0.2)


def test_many_identical_pairs_keep_their_place() -> None:
    """Whole columns: nothing is done pair by pair."""
    count = 10_000
    base = frame("preferences", [pair("x")])
    many = pl.concat([base] * count).with_columns(preference_id=pl.format("n{}", pl.int_range(count)))
    said = frame("annotations", [measure("x", -1.0)])
    rows = pl.concat([said] * count).with_columns(
        annotation_id=pl.format("m{}", pl.int_range(count)),
        target_ids=pl.concat_list(pl.format("n{}", pl.int_range(count))),
    )
    made = Flip().run({"preferences": many, "annotations": rows}, FakeContext())  # type: ignore[arg-type]
    new = made["preferences"]
    assert isinstance(new, pl.DataFrame) and new.height == count and new["preference_id"].n_unique() == count


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=12))
def test_nothing_is_lost(strengths: list[float]) -> None:
    """Conservation: each pair is as it was, or dropped with one new pair in its place."""
    rows = [pair(f"n{at}") for at in range(len(strengths))]
    said = [measure(f"n{at}", value) for at, value in enumerate(strengths)]
    made = run(Flip(), preferences=rows, annotations=said)
    assert (
        {row["id"] for row in made.get("drops", [])}
        == set(by_parent(made))
        == {f"n{at}" for at, value in enumerate(strengths) if value < 0}
    )
    shuffled = run(Flip(), preferences=rows[::-1], annotations=said[::-1])
    assert by_parent(shuffled).keys() == by_parent(made).keys()
    assert np.all([by_parent(shuffled)[k]["preference_id"] == v["preference_id"] for k, v in by_parent(made).items()])


@pytest.mark.parametrize("step", [Flip(), Soften(), Margin(aspect="nothing"), Weight(aspect="nothing"), Factual()])
def test_what_nobody_tried_to_measure_is_a_mistake_and_what_failed_is_none(step: Any) -> None:
    other = measure("a", 1.0, "other")
    with pytest.raises(DataError, match=r"^relabel\.\w+: no .* \(there are: "):
        run(step, preferences=[pair("a")], annotations=[other])
    assert run(step, annotations=[other]) == {}, "without preferences there is nothing to restate"
    if not isinstance(step, Factual):
        tried = measure("a", None, step.aspect)
        assert run(step, preferences=[pair("a")], annotations=[other, tried]) == {}
