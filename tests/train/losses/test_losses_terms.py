"""What stands around every loss over pairs: weights, soft labels, margins, the SFT term."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, Memory, Pairs
from prefdata.train.losses.registry import LossSpec

torch = pytest.importorskip("torch")
quick = settings(deadline=None, max_examples=25)


def softplus(z: float) -> float:
    return math.log1p(math.exp(-abs(z))) + max(z, 0.0)


def test_the_mean_is_taken_by_both_weights(make: Any) -> None:
    """D 25: gaps 1, 2, 1 and 2 with weights 2 x 1, 2 x 0.5, 2 x 1 and 3 x 4."""
    case = make([[1.0, 0, -1], [2.0, 0]], weight=[2.0, 3.0], edge_weight=[1.0, 0.5, 1.0, 4.0])
    gaps, weights = [1.0, 2.0, 1.0, 2.0], [2.0, 1.0, 2.0, 12.0]
    expected = sum(w * softplus(-0.1 * gap) for w, gap in zip(weights, gaps, strict=True)) / sum(weights)
    assert case.value("dpo") == pytest.approx(expected, abs=1e-12)
    even = sum(softplus(-0.1 * gap) for gap in gaps) / 4
    assert case.value("dpo", weight="even") == pytest.approx(even, abs=1e-12)


def test_per_list_counts_each_list_once(make: Any) -> None:
    """The three edges of the first list share its weight 2 as 0.4 : 0.2 : 0.4; the second has 3."""
    case = make([[1.0, 0, -1], [2.0, 0]], weight=[2.0, 3.0], edge_weight=[1.0, 0.5, 1.0, 4.0])
    first = 0.4 * softplus(-0.1) + 0.2 * softplus(-0.2) + 0.4 * softplus(-0.1)
    assert case.value("dpo", per="list") == pytest.approx((2 * first + 3 * softplus(-0.2)) / 5, abs=1e-12)
    evenly = (2 * softplus(-0.1) / 3 + softplus(-0.2) / 3 + softplus(-0.2)) / 2
    assert case.value("dpo", per="list", weight="even") == pytest.approx(evenly, abs=1e-12)


def test_a_list_is_its_pairs(make: Any) -> None:
    pairs = make([[1.0, 0.2], [1.0, -0.5], [0.2, -0.5]])
    assert make([[1.0, 0.2, -0.5]]).value("dpo") == pytest.approx(pairs.value("dpo"), abs=1e-15)


def test_a_soft_label_is_the_cross_entropy(pair: Any) -> None:
    """0.8 * 0.620957 + 0.2 * 0.770957 = 0.650957; hard, it is the likelier side's."""
    soft = pair.given(p=torch.tensor([0.8], dtype=torch.float64))
    assert soft.value("dpo") == pytest.approx(0.650957, abs=5e-7)
    assert soft.value("dpo", label="hard") == pair.value("dpo")
    unlikely = pair.given(p=torch.tensor([0.2], dtype=torch.float64))
    assert unlikely.value("dpo", label="hard") == pytest.approx(0.770957, abs=5e-7)


def test_hard_labels_leave_ties_out(make: Any) -> None:
    case = make([[1.0, 0.0], [5.0, 0.0]], p=[1.0, 0.5])
    assert case.value("dpo", label="hard") == pytest.approx(softplus(-0.1), abs=1e-15)
    spec = LOSSES["dpo"]
    masses = spec.masses(case.batch, spec.checked_options({"label": "hard"}, "t"))
    assert float(masses["loss"]) == 1


SIDES = ["dpo", "ipo", "f-dpo", "ln-dpo", "cdpo", "rdpo", "osp", "lcpo", "selfie", "slic", "slic-normalised", "simpo"]
SIDES += ["cpo", "orpo", "sppo-hard", "dno", "irepo", "mm-dpo", "rpo"]


@quick
@given(
    st.sampled_from(SIDES),
    st.floats(-20, -1),
    st.floats(-20, -1),
    st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
    st.floats(-2, 2),
    st.sampled_from(["soft", "hard"]),
)
def test_an_edge_is_its_opposite_with_1_minus_p(
    make: Any, name: str, a: float, b: float, p: float, margin: float, label: str
) -> None:
    """So lists and the pairs made of them, which turn edges below one half, train alike, SFT term and margin too."""
    options = {"sft": 0.4, "sft_reduction": "sum", "label": label, "margin": "edges"}
    options = {key: value for key, value in options.items() if key in LOSSES[name].offered}
    if p == 0.5:  # a tie has no likelier side for the SFT term, and no sign for the margin
        options |= {"sft": 0.0} | ({"margin": "none"} if "margin" in options else {})
        if label == "hard":
            return
    there = make([[a, b]], [[-5.0, -4.0]], length=[[4, 6]], scores=[[0.7, 0.2]], p=[p], margin=[margin])
    back = make(
        [[a, b]],
        [[-5.0, -4.0]],
        length=[[4, 6]],
        scores=[[0.7, 0.2]],
        edges=[(0, 1, 0)],
        p=[1 - p],
        margin=[-margin],
    )
    assert back.value(name, **options) == pytest.approx(there.value(name, **options), rel=1e-6, abs=1e-9)


def test_margins(make: Any) -> None:
    """D = 1.5 and a margin of 0.4 from the edge, 2 from the scores (3 - 1), -0.5 from a column."""
    case = make([[-12, -15]], [[-13, -14.5]], margin=[0.4], scores=[[3, 1]], values={"quality": [[0.25, 0.75]]})
    for kind, margin in (("none", 0), ("edges", 0.4), ("scores", 2), ("values.quality", -0.5)):
        assert case.value("dpo", margin=kind) == pytest.approx(softplus(margin - 0.15), abs=1e-12)
    with pytest.raises(TrainError, match=r"no values named 'length' \(they hold: quality\)"):
        case.value("dpo", margin="values.length")
    with pytest.raises(TrainError, match="margin: scores: a pair's response has no number there"):
        case.given(scores=torch.full((1, 2), math.nan)).value("dpo", margin="scores")
    for wrong in ("p", "values."):
        with pytest.raises(
            TrainError, match=r"'margin' of the loss 'dpo' is none, edges, scores or values\.NAME, not '"
        ):
            case.value("dpo", margin=wrong)


def test_a_hard_label_turns_the_margin_with_its_edge(make: Any) -> None:
    case = make([[-12, -15]], [[-13, -14.5]], margin=[0.4], p=[0.1])
    assert case.value("dpo", margin="edges", label="hard") == pytest.approx(softplus(0.15 - 0.4), abs=1e-12)


def test_margin_acts_in_each_loss_in_its_own_unit(make: Any) -> None:
    case = make([[-12, -15]], [[-13, -14.5]], length=[[4, 6]], margin=[0.4])
    expected = {
        "ipo": (1 / 4 + 0.5 / 6 - 5 - 0.4) ** 2,
        "slic": max(0, 1 + 0.4 - 3),
        "slic-normalised": 1 + 0.4 - 0.15,
        "simpo": softplus(-(2 * (-3 + 2.5) - 1 - 0.4)),
        "irepo": (0.15 - 0.4 - math.log(19)) ** 2,
        "cdpo": 0.9 * softplus(-(0.15 - 0.4)) + 0.1 * softplus(0.15 - 0.4),
    }
    for name, value in expected.items():
        assert case.value(name, margin="edges", sft=0) == pytest.approx(value, abs=1e-12), name


def test_the_sft_term(make: Any) -> None:
    """Winners of 12 nats over 4 tokens and 4 over 16, weights 1 and 3."""
    case = make([[-12, -15], [-4, -15]], length=[[4, 6], [16, 6]], weight=[1.0, 3.0])
    plain = case.value("dpo")
    for reduction, nll in (("sum", (12 + 12) / 4), ("mean", (3 + 0.75) / 4), ("tokens", (12 + 12) / (4 + 48))):
        value = case.value("dpo", sft=0.5, sft_reduction=reduction)
        assert value == pytest.approx(plain + 0.5 * nll, abs=1e-12), reduction


def test_the_sft_term_reads_the_lists_own_texts_where_it_has_some(make: Any) -> None:
    case = make(
        [[-12, -15, -6, -8], [-4, -15, 0, 0]],
        ranks=[[1, 2, 0, 0], [1, 2, 0, 0]],
        sft=[[False, False, True, True], [False] * 4],
        length=[[4, 6, 3, 2], [16, 6, 0, 0]],
    )
    plain = case.value("dpo")
    assert case.value("dpo", sft=1, sft_reduction="sum") == pytest.approx(plain + (7 + 4) / 2, abs=1e-12)
    assert case.value("dpo", sft=1) == pytest.approx(plain + ((2 + 4) / 2 + 0.25) / 2, abs=1e-12)


def test_what_a_left_out_edge_holds_reaches_nothing(make: Any) -> None:
    """Weight 0 is no factor: an infinite value times 0 would be no number."""
    case = make([[-12, -15], [math.inf, 0.0]], weight=[1.0, 0.0])
    one = make([[-12, -15]])
    assert case.value("dpo") == pytest.approx(one.value("dpo"), abs=1e-15)
    assert case.gradient("dpo")[1].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["plackett-luce", "listnet", "kto", "bco", "sft"])
def test_what_a_left_out_list_holds_reaches_nothing(make: Any, name: str) -> None:
    """Likewise of lists and of responses alone, and of what the loss remembers."""
    both = make([[-12, -15], [-math.inf, 0.0]], labels=[[1, 0], [1, 0]], weight=[2.0, 0.0])
    one = make([[-12, -15]], labels=[[1, 0]], weight=[2.0])
    moved = torch.tensor([0.5])
    heard, alone = Memory(), Memory()
    for weight in ("data", "even"):
        found = both.given(mismatched=moved).value(name, heard, weight=weight)
        assert found == pytest.approx(one.given(mismatched=moved).value(name, alone, weight=weight), abs=1e-15)
    assert heard.observed == alone.observed


def spec_of(function: Any, **more: Any) -> LossSpec:
    return LossSpec("odd", function, "pairs", offered={**LOSSES["dpo"].offered, **more})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda pair: pair.no_such(), "the loss 'odd' failed: AttributeError: "),
        (lambda pair: pair.win.ratio.sum(), r"returns a tensor of shape \[\]; it returns one value for each pair"),
        (lambda pair: pair.win.ratio[:0], r"returns a tensor of shape \[0\]; it returns one value for each pair"),
        (lambda pair: 3.0, "the loss 'odd' returns 3.0; it returns one value for each pair"),
    ],
)
def test_a_loss_of_ones_own_that_fails_is_named(pair: Any, function: Any, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        spec_of(function)(pair.outputs, pair.batch)


def test_a_function_sees_what_pairs_say(make: Any) -> None:
    seen: list[Pairs] = []

    def look(view: Pairs) -> Any:
        seen.append(view)
        return view.win.ratio - view.lose.ratio

    case = make([[3.0, 2.0, 1.0, 0.0]], edges=[(0, 0, 3), (0, 2, 1)], p=[1.0, 0.25], votes=[5, 4], width=6)
    assert spec_of(look)(case.outputs, case.batch).item() == pytest.approx((3 + 0.75 * 1 + 0.25 * -1) / 2)
    forth, back = seen
    assert forth.win.rank.tolist() == [1, 2] and forth.p.tolist() == [1.0, 0.75]
    assert back.win.rank.tolist() == [4, 3] and back.p.tolist() == [0.0, 0.25]
    assert forth.votes.tolist() == [5, 4] and forth.ranked.tolist() == [4, 4] and len(forth) == 2
