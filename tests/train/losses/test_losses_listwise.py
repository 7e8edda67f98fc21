"""Losses over rankings against the numbers of their papers, plain Python, finite differences and their laws."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hand_batches import NAN, f64, gradient, hand_batch, policy  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prefdata.train import TrainError  # noqa: E402
from prefdata.train.losses import LOSSES, Memory  # noqa: E402

RATIOS = [[1.0, 0.2, -0.5]]
"""Fixture L: with beta 0.5, s = 0.5, 0.1, -0.25."""
PSI = [[1.0, 0.5, 0.0]]
ITEMS = {"relevance": [[1.0, 0.0, 1.0]], "position": [[1.0, 2.0, 3.0]]}
LABELLED = ("lipo-lambda", "ranklist", "listnet", "listmle")
"""Read `labels`."""
RANKED = ("plackett-luce", "s-dpo", "pro")
LISTWISE = (*LABELLED, *RANKED, "irpo")
SHIFTED = tuple(name for name in LISTWISE if name != "pro")
"""What is added to all log-ratios of a list changes nothing."""


def value(name: str, lp: Any, batch: Any, memory: Memory | None = None, **options: Any) -> Any:
    return LOSSES[name](policy(lp), batch, options, memory)


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # s = .5, .1, -.25: -[.5 - lse(.5, .1, -.25)] - [.1 - lse(.1, -.25)] = 0.762060 + 0.533383
        ("plackett-luce", {}, 1.295443),
        ("plackett-luce", {"mean_over_stages": True}, 1.295443 / 2),
        ("s-dpo", {}, 0.762060),
        # w_12 = .585786 (1/log 2 - 1/log 3) = .311908, w_13 = 1 (1/log 2 - 1/log 4) = .721348,
        # w_23 = .414214 (1/log 3 - 1/log 4) = .078243; times softplus(-.4), softplus(-.75), softplus(-.35)
        ("lipo-lambda", {}, 0.480813),
        ("ranklist", {}, 1.046397),
        ("ranklist", {"gaps": 2}, 1.433268),
        ("ranklist", {"gaps": 2, "form": "lse"}, 1.295443),
        ("ranklist", {"form": "lse"}, 1.046397),  # neighbours alone: one term in each sum
        # softmax(1, .5, 0) = .506480, .307196, .186324 against log softmax(s) = -.762060, -1.162060, -1.512060
        ("listnet", {}, 1.024682),
        ("listmle", {}, 1.295443),
        ("irpo", {}, 0.320333),
    ],
)
def test_numbers_of_the_fixture(name: str, options: dict[str, Any], expected: float) -> None:
    batch = hand_batch(PSI, values=ITEMS)
    assert value(name, RATIOS, batch, beta=0.5, **options).item() == pytest.approx(expected, abs=1e-6)


def test_lipo_weights_in_base_2_are_a_constant_factor() -> None:
    found = value("lipo-lambda", RATIOS, hand_batch(PSI), beta=0.5).item()
    assert found * math.log(2) == pytest.approx(0.333274, abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # stage 1: T = 1, 1.5; T_11 = 1.5: log(e^-1.5 + e^-1.5 + e^-3.3) + 1.5; stage 2: T = .5: log(1 + e^-.35)
        ("scores", 1.305941),
        ("none", 1.049097),
    ],
)
def test_pro_numbers(temperature: str, expected: float) -> None:
    batch = hand_batch([[2.0, 1.0, 0.5]], length=[[4, 2, 5]])
    lp = [[-4.0, -3.0, -11.0]]  # a token: -1, -1.5, -2.2
    found = value("pro", lp, batch, temperature=temperature, sft_weight=0.0)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    # 0.05 (3 - 1)^2 times the sum of the best one's negative log-probabilities, 4
    full = value("pro", lp, batch, temperature=temperature)
    assert full.item() == pytest.approx(expected + 0.05 * 4 * 4, abs=1e-6)


def test_pro_reads_no_reference() -> None:
    spec = LOSSES["pro"]
    assert not spec.reference
    batch = hand_batch([[2.0, 1.0]])
    one, other = policy([[-1.0, -2.0]]), policy([[-1.0, -2.0]], [[-3.0, -5.0]])
    assert spec(one, batch).item() == spec(other, batch).item()
    assert spec.needed(spec.options) == {"ranks", "scores"}
    assert spec.needed(spec.checked_options({"temperature": "none"}, "t")) == {"ranks"}
    assert spec.needed(spec.checked_options({"temperature": "values.help"}, "t")) == {"ranks", "values.help"}


# Limits and step 0


@settings(deadline=None, max_examples=25)
@given(gap=st.floats(-20, 20), beta=st.floats(0.05, 2), position=st.sampled_from([1, 2]))
def test_two_responses_are_dpo(gap: float, beta: float, position: int) -> None:
    lp = [[gap - 3.0, -3.0]]
    items = {"relevance": [[1.0, 0.0]], "position": [[float(position), float(3 - position)]]}
    batch = hand_batch([[1.0, 0.0]], edges=[(0, 0, 1)], values=items)
    dpo = value("dpo", lp, batch, beta=beta).item()
    for name in ("plackett-luce", "s-dpo", "listmle", "ranklist"):
        assert value(name, lp, batch, beta=beta).item() == pytest.approx(dpo, rel=1e-9)
    assert value("ranklist", lp, batch, beta=beta, form="lse").item() == pytest.approx(dpo, rel=1e-9)
    constant = 1 / math.log(2) - 1 / math.log(3)
    assert value("lipo-lambda", lp, batch, beta=beta).item() == pytest.approx(constant * dpo, rel=1e-9)
    assert value("irpo", lp, batch, beta=beta).item() == pytest.approx(dpo / 2 / math.log2(1 + position), rel=1e-9)
    pro = value("pro", lp, batch, temperature="none", sft_weight=0.0).item()
    assert pro == pytest.approx(softplus(-gap), rel=1e-9)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_where_policy_and_reference_are_equal(count: int) -> None:
    lp = [[-3.0 * k for k in range(count)]]
    items = {"relevance": [[float(k % 3) for k in range(count)]], "position": [[k + 1.0 for k in range(count)]]}
    batch = hand_batch([[1 - k / count for k in range(count)]], values=items)
    even = policy(lp, lp)
    gains = [(2 ** (k % 3) - 1) / math.log2(2 + k) for k in range(count)]
    expected = {
        "plackett-luce": math.lgamma(count + 1),
        "listmle": math.lgamma(count + 1),
        "s-dpo": math.log(count),
        "listnet": math.log(count),
        "ranklist": (count - 1) * math.log(2),
        "irpo": math.log(2) * sum(gains) / count,
    }
    for name, number in expected.items():
        assert LOSSES[name](even, batch).item() == pytest.approx(number, abs=1e-12), name
    flat = value("pro", [[-2.0] * count], batch, temperature="none", sft_weight=0.0)
    assert flat.item() == pytest.approx(math.lgamma(count + 1), abs=1e-12)


def test_s_dpo_is_the_first_stage_of_plackett_luce() -> None:
    batch, first = hand_batch(PSI), hand_batch(PSI, ranks=[[1, 2, 2]])
    assert value("s-dpo", RATIOS, batch, beta=0.5).item() == pytest.approx(
        value("plackett-luce", RATIOS, first, beta=0.5).item(), abs=1e-12
    )


def test_lipo_with_even_weights_is_ranknet() -> None:
    """`ranklist` with all gaps is the unweighted sum: 1.433268; each of LiPO's terms is one of its terms times w."""
    parts = [softplus(-0.4), softplus(-0.75), softplus(-0.35)]
    assert sum(parts) == pytest.approx(1.433268, abs=1e-6)


# Against plain Python


def plain_lipo(s: list[float], psi: list[float], by: list[float] | None = None) -> float:
    by = s if by is None else by
    order = sorted(range(len(s)), key=lambda k: -by[k])
    tau = {k: place + 1 for place, k in enumerate(order)}
    total = 0.0
    for i, j in itertools.permutations(range(len(s)), 2):
        if psi[i] > psi[j]:
            weight = abs(2 ** psi[i] - 2 ** psi[j]) * abs(1 / math.log(1 + tau[i]) - 1 / math.log(1 + tau[j]))
            total += weight * softplus(s[j] - s[i])
    return total


def plain_pro(p: list[float], r: list[float]) -> float:
    total = 0.0
    for k in range(len(p)):
        heat = {j: r[k] - r[j] for j in range(len(p)) if r[j] < r[k]}
        if heat:
            own = p[k] * max(heat.values())
            total += math.log(math.exp(own) + sum(math.exp(p[j] * t) for j, t in heat.items())) - own
    return total


def plain_irpo(s: list[float], relevance: list[float], position: list[float]) -> float:
    total = 0.0
    for i in range(len(s)):
        rest = [math.exp(s[j] - s[i]) for j in range(len(s)) if j != i]
        lag = math.log(sum(rest) / len(rest))
        total += (2 ** relevance[i] - 1) / math.log2(1 + position[i]) * softplus(lag)
    return total / len(s)


def plain_ranklist(s: list[float], label: list[float], gaps: int, apart: float) -> tuple[float, float]:
    distinct = sorted(set(label), reverse=True)
    rank = [distinct.index(one) for one in label]
    product, lse = 0.0, 0.0
    for i in range(len(s)):
        lower = [j for j in range(len(s)) if 1 <= rank[j] - rank[i] <= gaps and label[i] - label[j] >= apart]
        product += sum(softplus(s[j] - s[i]) for j in lower)
        lse += math.log(1 + sum(math.exp(s[j] - s[i]) for j in lower))
    return product, lse


@st.composite
def lists(draw: Any) -> tuple[list[float], list[float]]:
    count = draw(st.integers(2, 6))
    ratio = draw(st.lists(st.floats(-4, 4), min_size=count, max_size=count, unique=True))
    label = draw(st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), min_size=count, max_size=count))
    return ratio, label


@settings(deadline=None, max_examples=60)
@given(one=lists(), gaps=st.integers(1, 5), apart=st.sampled_from([0.0, 0.2, 0.25, 0.5]))
def test_against_plain_python(one: tuple[list[float], list[float]], gaps: int, apart: float) -> None:
    ratio, label = one
    position = [float(k + 1) for k in range(len(ratio))]
    batch = hand_batch([label], values={"relevance": [label], "position": [position]})
    assert value("lipo-lambda", [ratio], batch, beta=1.0).item() == pytest.approx(plain_lipo(ratio, label), abs=1e-9)
    pro = value("pro", [ratio], batch, sft_weight=0.0).item()
    assert pro == pytest.approx(plain_pro(ratio, label), abs=1e-9)
    irpo = value("irpo", [ratio], batch).item()
    assert irpo == pytest.approx(plain_irpo(ratio, label, position), abs=1e-9)
    product, lse = plain_ranklist(ratio, label, gaps, apart)
    options = {"beta": 1.0, "gaps": gaps, "min_label_margin": apart}
    assert value("ranklist", [ratio], batch, **options).item() == pytest.approx(product, abs=1e-9)
    assert value("ranklist", [ratio], batch, **options, form="lse").item() == pytest.approx(lse, abs=1e-9)
    assert lse <= product + 1e-12


@pytest.mark.parametrize(
    ("form", "weights"),
    [
        ("dcg", [1.0, 3 / math.log2(3), 0.0]),
        ("position", [1.0, 1 / math.log2(3), 0.5]),
        ("reciprocal", [1.0, 1.5, 0.0]),
    ],
)
def test_irpo_weight_forms(form: str, weights: list[float]) -> None:
    """All items equal: log 2 times the mean weight."""
    items = {"relevance": [[1.0, 2.0, 0.0]], "position": [[1.0, 2.0, 3.0]]}
    found = value("irpo", [[0.0, 0.0, 0.0]], hand_batch(PSI, values=items), weight_form=form)
    assert found.item() == pytest.approx(math.log(2) * sum(weights) / 3, abs=1e-12)


# Laws of all


OPTIONS: dict[str, dict[str, Any]] = {"ranklist": {"gaps": 2}, "pro": {}}


@pytest.mark.parametrize("name", LISTWISE)
def test_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    batch = hand_batch(
        [[1.0, 0.5, 0.0, 0.5], [0.25, 0.75]],
        values={"relevance": [[1.0, 0.0, 2.0, 1.0], [0.0, 1.0]], "position": [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]]},
        length=[[3, 1, 2, 4], [2, 2]],
        weight=[1.0, 2.0],
    )
    lp = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    options = OPTIONS.get(name, {})

    def total(values: Any) -> Any:
        from prefdata.train.losses import Outputs

        return LOSSES[name](Outputs(lp=values, ref=torch.zeros_like(values)), batch, options)

    assert torch.autograd.gradcheck(total, (lp,))
    assert gradient(total(lp), lp)[1, 2:].abs().max() == 0  # nothing flows to where there is no response


@pytest.mark.parametrize("name", LISTWISE)
def test_unlike_lengths_and_weights_are_lists_computed_apart(name: str) -> None:
    """D 25: lists of more than two responses and weights are native: (2 a + 1 b + 0.5 c) / 3.5."""
    scores = [[1.0, 0.5, 0.0, 0.25], [0.75, 0.0], [0.5, 1.0, 0.0]]
    lp = [[-1.0, -2.5, -0.5, -3.0], [-2.0, -1.0], [-1.5, -0.25, -2.0]]
    items = {
        "relevance": [[1.0, 0.0, 2.0, 0.0], [0.0, 1.0], [1.0, 1.0, 0.0]],
        "position": [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0], [3.0, 1.0, 2.0]],
    }
    weight = [2.0, 1.0, 0.5]
    together = value(name, lp, hand_batch(scores, values=items, weight=weight)).item()
    apart = [
        value(name, [lp[n]], hand_batch([scores[n]], values={key: [rows[n]] for key, rows in items.items()})).item()
        for n in range(3)
    ]
    assert len({round(one, 9) for one in apart}) == 3
    expected = sum(w * one for w, one in zip(weight, apart, strict=True)) / 3.5
    assert together == pytest.approx(expected, abs=1e-12)
    even = value(name, lp, hand_batch(scores, values=items, weight=weight), weight="even").item()
    assert even == pytest.approx(sum(apart) / 3, abs=1e-12)


@pytest.mark.parametrize("name", LISTWISE)
def test_padding_and_order_change_nothing(name: str) -> None:
    scores, lp = [0.5, 1.0, 0.0, 0.5], [-1.0, -2.5, -0.5, -3.0]
    items = {"relevance": [1.0, 0.0, 2.0, 1.0], "position": [2.0, 1.0, 3.0, 4.0]}
    first = value(name, [lp], hand_batch([scores], values={key: [row] for key, row in items.items()})).item()
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        turned = hand_batch(
            [[scores[k] for k in order]], values={key: [[row[k] for k in order]] for key, row in items.items()}, width=7
        )
        found = LOSSES[name](policy([[lp[k] for k in order]], width=7), turned).item()
        assert found == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("name", SHIFTED)
def test_a_constant_added_to_a_list_changes_nothing(name: str) -> None:
    batch = hand_batch(PSI, values=ITEMS)
    lp = [[-1.0, -4.0, -2.0]]
    first = LOSSES[name](policy(lp, [[0.0, 0.0, 0.0]]), batch).item()
    assert LOSSES[name](policy(lp, [[7.5, 7.5, 7.5]]), batch).item() == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("name", LISTWISE)
def test_a_step_raises_the_best_and_lowers_the_worst(name: str) -> None:
    """A negative control for signs: the gradient descends towards the ranking."""
    items = {"relevance": [[2.0, 1.0, 0.0]], "position": [[1.0, 2.0, 3.0]]}
    outputs = policy([[-2.0, -2.0, -2.0]])
    slope = gradient(LOSSES[name](outputs, hand_batch(PSI, values=items)), outputs.lp)[0]
    assert slope[0] < 0 < slope[2]


@pytest.mark.parametrize("name", [*RANKED, *LABELLED])
def test_a_list_of_ties_alone_says_nothing(name: str) -> None:
    """0, with a gradient that is 0 and no NaN. (ListNet is told to make them equally likely: log 3 at the least.)"""
    outputs = policy([[-1.0, -2.0, -4.0]])
    options = {"sft_weight": 0.0} if name == "pro" else {}
    total = LOSSES[name](outputs, hand_batch([[0.5, 0.5, 0.5]]), options)
    if name == "listnet":
        assert total.item() > math.log(3)
        return
    assert total.item() == 0
    assert gradient(total, outputs.lp).abs().max() == 0


@pytest.mark.parametrize("name", [*LABELLED, "irpo"])
def test_a_response_without_a_label_takes_no_part(name: str) -> None:
    full = hand_batch(
        [[1.0, NAN, 0.5, 0.0]],
        ranks=[[1, 0, 2, 3]],
        values={"relevance": [[1.0, NAN, 0.0, 2.0]], "position": [[1.0, 2.0, 3.0, 4.0]]},
    )
    short = hand_batch(PSI, values={"relevance": [[1.0, 0.0, 2.0]], "position": [[1.0, 3.0, 4.0]]})
    outputs = policy([[-1.0, 50.0, -2.0, -1.5]])
    total = LOSSES[name](outputs, full)
    assert total.item() == pytest.approx(value(name, [[-1.0, -2.0, -1.5]], short).item(), abs=1e-12)
    assert gradient(total, outputs.lp)[0, 1] == 0


@pytest.mark.parametrize("name", [*LABELLED, "irpo"])
def test_a_list_without_any_label_is_nothing(name: str) -> None:
    nothing = [[NAN, NAN]]
    outputs = policy([[-1.0, -2.0]])
    total = LOSSES[name](
        outputs, hand_batch(nothing, ranks=[[0, 0]], values={"relevance": nothing, "position": nothing})
    )
    assert total.item() == 0
    assert gradient(total, outputs.lp).abs().max() == 0


def test_tied_responses_do_not_compete_in_plackett_luce() -> None:
    """Each against the last: softplus(-.75) + softplus(-.35), not less than the exact likelihood of both orders."""
    found = value("plackett-luce", RATIOS, hand_batch([[1.0, 1.0, 0.0]]), beta=0.5).item()
    assert found == pytest.approx(softplus(-0.75) + softplus(-0.35), abs=1e-12)
    s = [math.exp(0.5), math.exp(0.1), math.exp(-0.25)]
    exact = sum(s[a] / sum(s) * s[b] / (s[b] + s[2]) for a, b in ((0, 1), (1, 0)))
    assert found >= -math.log(exact)


def test_best_responses_that_tie_are_averaged() -> None:
    """s-dpo: [softplus(s_c - s_a) + softplus(s_c - s_b)] / 2."""
    found = value("s-dpo", [[1.0, 2.0, 0.5]], hand_batch([[1.0, 1.0, 0.0]])).item()
    assert found == pytest.approx((softplus(-0.5) + softplus(-1.5)) / 2, abs=1e-12)


def test_responses_of_equal_score_do_not_compete_in_pro() -> None:
    """T would be 0: no log 2 for the two that tie, one stage each against the third."""
    found = value("pro", [[-1.0, -3.0, -2.0]], hand_batch([[1.0, 1.0, 0.0]]), sft_weight=0.0).item()
    assert found == pytest.approx(softplus(-1.0) + softplus(1.0), abs=1e-12)


# Labels, weights, gaps


def test_lipo_weights_have_no_gradient() -> None:
    """Of one pair: -w beta s(-gap), as for a constant w; the places swap where the gap changes its sign."""
    batch = hand_batch([[1.0, 0.0]])
    constant = 1 / math.log(2) - 1 / math.log(3)
    for gap in (-2.0, 3.0):
        outputs = policy([[gap, 0.0]])
        slope = gradient(LOSSES["lipo-lambda"](outputs, batch, {"beta": 1.0}), outputs.lp)[0]
        expected = constant / (1 + math.exp(gap))
        assert slope.tolist() == pytest.approx([-expected, expected], abs=1e-12)


def test_lipo_ranks_by_what_the_policy_says_now() -> None:
    """The same labels, and a policy that has the order wrong: other places, so another weight for the same gap."""
    s, psi = [0.0, 1.0, 3.0], [1.0, 0.5, 0.0]
    found = value("lipo-lambda", [s], hand_batch([psi]), beta=1.0).item()
    assert found == pytest.approx(plain_lipo(s, psi), abs=1e-12)
    assert found != pytest.approx(plain_lipo(s, psi, by=psi), abs=1e-3)


@pytest.mark.parametrize("psi", [[2.0, 0.0], [1.0, -0.1]])
def test_lipo_refuses_labels_outside_0_to_1(psi: list[float]) -> None:
    with pytest.raises(TrainError, match=r"\[0, 1\].*stands there"):
        value("lipo-lambda", [[0.0, 0.0]], hand_batch([psi]))
    batch = hand_batch([[9.0, 1.0]], values={"won": [[0.9, 0.1]]})
    assert value("lipo-lambda", [[0.0, 0.0]], batch, labels="values.won").item() > 0


def test_ranges_of_columns_follow_the_options() -> None:
    """What the trainer checks in the whole file before the first step."""
    lipo, irpo = LOSSES["lipo-lambda"], LOSSES["irpo"]
    (allowed,) = lipo.ranges(lipo.checked_options({"labels": "values.won"}, "t")).items()
    assert allowed[0] == "values.won" and allowed[1].holds(1.0) and not allowed[1].holds(1.5)
    named = irpo.ranges(irpo.checked_options({"relevance": "helpful"}, "t"))
    assert set(named) == {"values.helpful", "values.position"}
    assert not named["values.position"].holds(0.0) and not named["values.helpful"].holds(-1.0)
    assert LOSSES["dpo"].ranges(LOSSES["dpo"].options) == {}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_name_a_column(name: str) -> None:
    spec = LOSSES[name]
    assert spec.needed(spec.options) == {"scores", "reference"}
    assert spec.needed(spec.checked_options({"labels": "values.won"}, "t")) == {"values.won", "reference"}
    batch = hand_batch([[1.0, 0.0]], values={"won": [[0.0, 1.0]]})
    lp = [[1.0, 0.0]]
    assert value(name, lp, batch, labels="values.won").item() > value(name, lp, batch).item()
    for wrong in ("won", "values.", "none"):
        with pytest.raises(TrainError, match=r"scores or values\.NAME"):
            spec.checked_options({"labels": wrong}, "t")
    with pytest.raises(TrainError, match=r"no values named 'lost' \(they hold: won\)"):
        value(name, lp, batch, labels="values.lost")


def test_irpo_refuses_what_is_no_relevance_and_no_place() -> None:
    for items, said in (
        ({"relevance": [[-1.0, 1.0]], "position": [[1.0, 2.0]]}, r"values\.relevance is at least 0, and -1"),
        ({"relevance": [[0.0, 1.0]], "position": [[0.0, 1.0]]}, r"values\.position is at least 1, and 0"),
    ):
        with pytest.raises(TrainError, match=said):
            value("irpo", [[0.0, 0.0]], hand_batch([[1.0, 0.0]], values=items))
    spec = LOSSES["irpo"]
    assert spec.needed(spec.options) == {"reference", "values.relevance", "values.position"}
    named = spec.checked_options({"relevance": "helpful"}, "t")
    assert spec.needed(named) == {"reference", "values.helpful", "values.position"}


def test_ranklist_widens_its_gaps_over_the_run() -> None:
    """5 responses: gaps up to 1 at the first step, up to 4 at the last; without a ramp they stay."""
    batch = hand_batch([[1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.0]])
    lp = [[0.0] * 5, [0.0] * 2]
    pairs = [4, 7, 9, 10]  # of 5 responses at most 1, 2, 3, 4 apart
    reach = []
    for step in range(10):
        found = value("ranklist", lp, batch, Memory(step=step, steps=10)).item() * 2 / math.log(2) - 1
        reach.append(pairs.index(round(found)) + 1)
    assert reach == [1, 1, 1, 2, 2, 3, 3, 4, 4, 4], "evenly: each gap for as many steps as ten allow"
    still = value("ranklist", lp, batch, Memory(step=9, steps=10), ramp=False).item()
    assert still == pytest.approx((4 + 1) / 2 * math.log(2))


@pytest.mark.parametrize(
    ("name", "option", "wrong"),
    [
        *((name, "beta", 0.0) for name in LISTWISE if name != "pro"),
        ("ranklist", "form", "sum"),
        ("ranklist", "gaps", 0),
        ("ranklist", "gaps", 1.5),
        ("ranklist", "min_label_margin", -1.0),
        ("irpo", "weight_form", "ndcg"),
        ("irpo", "relevance", ""),
        ("listnet", "temperature", 0.0),
        ("pro", "sft_weight", -0.1),
        ("pro", "temperature", "rank"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, option: str, wrong: Any) -> None:
    with pytest.raises(TrainError, match=f"the option '{option}' of the loss '{name}'"):
        LOSSES[name].checked_options({option: wrong}, "train")


def test_ranks_of_labels() -> None:
    from prefdata.train.losses.listwise import ranks_of

    found = ranks_of(f64([[0.5, 1.0, NAN, 0.5, 0.0], [NAN, NAN, NAN, NAN, NAN]], NAN))
    assert found.tolist() == [[2, 1, 0, 2, 3], [0, 0, 0, 0, 0]]
