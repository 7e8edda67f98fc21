"""Metrics against hand-computed numbers and brute force, and batches against the lists that they are made of."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.lm import Row
from prefdata.stats import wilson_interval
from prefdata.train.batch import collate
from prefdata.train.losses import Outputs
from prefdata.train.metrics import StepMetrics, accuracy, auc, held_out, kendall_tau, mean, ndcg
from prefdata.train.preferences import Edge, PreferenceList, Prompt, Response, TokenList
from prefdata.train.scoring import mismatched_groups

torch = pytest.importorskip("torch")


def preference(
    ranks: list[int | None], edges: list[Edge] | None = None, group: str = "g", **more: Any
) -> PreferenceList:
    responses = [Response(f"r{k}", rank=rank, label=float(k == 0)) for k, rank in enumerate(ranks)]
    if edges is None:
        edges = [
            Edge(a, b)
            for a, b in itertools.permutations(range(len(ranks)), 2)
            if ranks[a] is not None and ranks[b] is not None and ranks[a] < ranks[b]  # type: ignore[operator]
        ]
    return PreferenceList(0, group, False, [Prompt("p")], responses, edges, **more)


def tokens(source: PreferenceList, prompt: tuple[int, ...] = (7, 8), first: int = 1) -> TokenList:
    """Response k has k + 1 trained tokens."""
    rows = tuple(
        Row((*prompt, *range(first, first + k + 1)), tuple(range(len(prompt), len(prompt) + k + 1)))
        for k in range(len(source.responses))
    )
    return TokenList(source, rows, rows, (len(prompt),) * len(rows), size=99)


def test_rank_correlations_by_hand() -> None:
    """Values 3, 1, 2 of ranks 1, 2, 3: two pairs of three agree; gains 2, 1, 0 at places 1, 3, 2."""
    assert kendall_tau([3.0, 1.0, 2.0], [1, 2, 3]) == pytest.approx((2 - 1) / 3)
    ideal = 2 + 1 / math.log2(3)
    assert ndcg([3.0, 1.0, 2.0], [1, 2, 3]) == pytest.approx((2 + 1 / math.log2(4)) / ideal)
    assert kendall_tau([1.0, 1.0, 0.0], [1, 2, 3]) == pytest.approx(2 / math.sqrt(2 * 3))  # one pair is tied
    assert kendall_tau([1.0, 1.0, 1.0], [1, 2, 3]) == 0.0
    # Two of equal value share the discounts of places 1 and 2.
    shared = (1 + 1 / math.log2(3)) / 2
    assert ndcg([1.0, 1.0, 0.0], [1, 2, 3]) == pytest.approx((2 + 1) * shared / ideal)
    assert kendall_tau([1.0, 2.0], [1, 1]) is None
    assert ndcg([1.0, 2.0], [1, 1]) is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), min_size=2, max_size=6))
def test_rank_correlations_have_their_laws(pairs: list[tuple[int, int]]) -> None:
    """The order of the responses changes nothing; the ranking itself is 1; no order is better than it."""
    values, ranks = [float(value) for value, _ in pairs], [rank for _, rank in pairs]
    tau, gain = kendall_tau(values, ranks), ndcg(values, ranks)
    assert kendall_tau(values[::-1], ranks[::-1]) == (None if tau is None else pytest.approx(tau))
    assert ndcg(values[::-1], ranks[::-1]) == (None if gain is None else pytest.approx(gain))
    if tau is None or gain is None:
        assert len(set(ranks)) == 1
        return
    assert -1 <= tau <= 1
    assert 0 < gain <= 1 + 1e-12
    truth = [-float(rank) for rank in ranks]
    assert kendall_tau(truth, ranks) == 1.0
    assert ndcg(truth, ranks) == pytest.approx(1.0)
    assert kendall_tau([-value for value in values], ranks) == pytest.approx(-tau)


def test_accuracy_counts_ties_half_and_groups_once() -> None:
    edges = [Edge(0, 1, 0.5), Edge(0, 2, 0.2)]
    lists = [preference([1, 2, 3]), preference([1, 2]), preference([1, 2, 3], edges, group="h")]
    found = accuracy(lists, [[3.0, 1.0, 2.0], [1.0, 1.0], [1.0, 2.0, 5.0]])
    assert found is not None
    # right, right, wrong; tie; p 0.5 passed over, p 0.2 the other way about and right
    assert (found.value, found.edges, found.groups) == ((1 + 1 + 0 + 0.5 + 1) / 5, 5, 2)
    assert (found.low, found.high) == wilson_interval(1.4, 2)
    assert accuracy([], []) is None
    whole = held_out(lists, [[3.0, 1.0, 2.0], [1.0, 1.0], [1.0, 2.0, 5.0]], None)
    assert (whole.reward, whole.mean_logprob, whole.lists) == (found, None, 2)
    assert whole.kendall_tau == pytest.approx((1 / 3 - 1) / 2)
    assert whole.score == found.value


def test_step_metrics_over_micro_batches() -> None:
    """Means over edges, not over micro-batches, against brute force, also where processes have a part each."""
    first = collate([tokens(preference([1, 2, 3]))])
    second = collate([tokens(preference([1, 2], [Edge(0, 1, 0.2)]))])
    lp = torch.tensor([[3.0, 1.0, 1.0]])
    parts = [StepMetrics(), StepMetrics()]
    parts[0].add(Outputs(lp=lp, ref=torch.ones(1, 3)), first.batch)
    parts[1].add(Outputs(lp=torch.tensor([[1.0, 4.0]]), ref=torch.zeros(1, 2)), second.batch)
    whole = StepMetrics.of([part.as_rows() for part in parts]).as_dict()
    assert whole["margin"] == (2 + 2 + 0 + 3) / 4
    assert whole["accuracy"] == (1 + 1 + 0.5 + 1) / 4
    assert whole["chosen_change"] == (2 + 2 + 0 + 4) / 4
    assert whole["rejected_change"] == (0 + 0 + 0 + 1) / 4
    assert whole["displaced"] == 0.0
    assert whole["rank_logprobs"] == {"1": 1.5, "2": 2.0, "3": 0.0}
    assert whole["kendall_tau"] == pytest.approx(2 / math.sqrt(2 * 3))
    assert not any(StepMetrics().as_dict().values())
    assert mean([]) is None


def test_kl_is_the_mean_over_trained_tokens() -> None:
    micro = collate([tokens(preference([1, 2]))])
    policy, reference = torch.tensor([[[-1.0, 0.0], [-2.0, -1.0]]]), torch.tensor([[[-1.5, 0.0], [-2.0, -0.5]]])
    found = StepMetrics()
    found.add(Outputs(lp=policy.sum(2), ref=reference.sum(2)), micro.batch, (policy, reference))
    gaps = [-0.5, 0.0, 0.5]
    assert found.as_dict()["kl"] == pytest.approx(sum(math.exp(gap) - 1 - gap for gap in gaps) / 3)


def test_batches_hold_what_the_lists_say() -> None:
    """Unlike K, masked places, edges by list, values of some lists only, rationales numbered through the batch."""
    rationale = Row((1, 2, 3), (2,))
    one = tokens(preference([1, 2, None], values={"x": [1.0, None, 3.0]}, weight=2.0))
    one.source.responses[2] = Response("s", role="sft", label=1.0)
    two = tokens(preference([1, 2], [Edge(1, 0, 0.7, 3.0, 0.25, 4)]), prompt=(9,))
    one = TokenList(one.source, one.rows, one.reference, one.starts, (rationale,), (0,))
    two = TokenList(two.source, two.rows, two.reference, two.starts, (rationale, rationale), (1,))
    micro = collate([one, two], values=("x", "y"))
    batch = micro.batch
    assert batch.mask.tolist() == [[True, True, False], [True, True, False]]
    assert batch.sft.tolist() == [[False, False, True], [False, False, False]]
    assert batch.length.tolist() == [[1, 2, 3], [1, 2, 0]]
    assert batch.ranks.tolist() == [[1, 2, 0], [1, 2, 0]]
    assert batch.edge.tolist() == [[0, 0, 1], [1, 1, 0]]
    assert batch.p.tolist() == pytest.approx([1.0, 0.7])
    assert batch.margin.tolist()[1] == 0.25
    assert math.isnan(batch.margin.tolist()[0])
    assert batch.edge_weight.tolist() == [1.0, 3.0]
    assert batch.votes.tolist()[1] == 4.0
    assert batch.weight.tolist() == [2.0, 1.0]
    assert batch.rationale is not None
    assert batch.rationale.tolist() == [0, 2]
    np.testing.assert_array_equal(batch.values["x"].numpy(), [[1, math.nan, 3], [math.nan] * 3])
    assert np.isnan(batch.values["y"].numpy()).all()
    assert collate([one, two], alone=True).batch.mask.tolist() == [[True, True, True], [True, True, False]]
    # The model's values arrive where the loss looks for them.
    values = torch.arange(float(micro.pack.lengths.sum()))
    outputs = micro.outputs(values, None, frozenset({"tokens", "rationales"}))
    # one: 0; 1, 2; 3, 4, 5; rationale 6. two: 7; 8, 9; rationales 10, 11
    assert outputs.lp is not None
    assert outputs.lp.tolist() == [[0, 3, 12], [7, 17, 0]]
    assert outputs.rationale_lp is not None
    assert outputs.rationale_lp.tolist() == [6, 10, 11]
    assert outputs.token_lp is not None
    assert outputs.token_lp[1, 1].tolist() == [8, 9, 0]
    assert outputs.token_mask is not None
    assert outputs.token_mask.sum(dim=2).tolist() == batch.length.tolist()
    known = [np.asarray(row, dtype=np.float32) for row in ([0], [1, 2], [3, 4, 5], [7], [8, 9])]
    assert torch.equal(micro.reference(known), outputs.token_lp)


def test_mismatched_rows_are_another_prompts_responses() -> None:
    """Each labelled response's prompt, once, with a response of another group, whose tokens are the scored ones."""
    lists = [tokens(preference([1, 2], group="g"), (7, 8)), tokens(preference([1, 2], group="h"), (9,), first=4)]
    groups = mismatched_groups(lists, seed=0)
    assert [len(group.rows) for group in groups] == [2, 2]
    for group, own, other in zip(groups, lists, lists[::-1], strict=True):
        prompt = own.rows[0].tokens[: own.starts[0]]
        said = sorted(row.tokens[other.starts[0] :] for row in other.rows)
        assert sorted(row.tokens[len(prompt) :] for row in group.rows) == said
        for row in group.rows:
            assert row.tokens[: len(prompt)] == prompt
            assert row.scored == tuple(range(len(prompt), len(row.tokens)))
        assert list(group.reference) == list(group.rows)
    assert mismatched_groups(lists[:1], seed=0) == []


@given(st.lists(st.integers(-3, 3)), st.lists(st.integers(-3, 3)))
def test_auc_counts_all_pairs(wanted: list[float], unwanted: list[float]) -> None:
    pairs = [(first > second) + (first == second) / 2 for first in wanted for second in unwanted]
    assert auc(wanted, unwanted) == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_single_responses_have_an_auc_and_no_accuracy() -> None:
    """Lists with edges say nothing about it, and of responses without a label nothing is known."""
    sides = [(1.0, 2.0), (0.0, 1.0), (1.0, 0.5), (0.0, 3.0)]
    lists = [PreferenceList(0, "g", False, [Prompt("p")], [Response("r", label=side)], []) for side, _ in sides]
    unknown = PreferenceList(0, "g", False, [Prompt("p")], [Response("r")], [])
    values = [[value] for _, value in sides]
    found = held_out([*lists, unknown], [*values, [9.0]], None)
    assert (found.reward, found.auc, found.singles, found.score) == (None, 0.25, 4, 0.25)
    compared = held_out([preference([1, 2])], [[2.0, 1.0]], None)
    assert (compared.auc, compared.singles, compared.score) == (None, 0, 1.0)

    step = StepMetrics()
    for entry, row in (((*lists, unknown), (*values, [9.0])), ((preference([1, 2]),), ([5.0, 1.0],))):
        batch = collate([tokens(one) for one in entry], alone=True).batch
        step.add(Outputs(lp=torch.tensor(row), ref=torch.zeros(len(entry), len(row[0]))), batch)
    metrics = StepMetrics.of([step.as_rows()]).as_dict()
    assert (metrics["auc"], metrics["accuracy"]) == (0.25, 1.0)
    assert metrics["chosen_change"] == pytest.approx((2.0 + 0.5 + 5.0) / 3)
    assert metrics["rejected_change"] == pytest.approx((1.0 + 3.0 + 1.0) / 3)


def test_a_divergence_that_overflows_is_null() -> None:
    """`Infinity` is no JSON."""
    batch = collate([tokens(preference([1, 2]))]).batch
    lp = torch.zeros(1, 2, 2)
    step = StepMetrics()
    step.add(Outputs(lp=lp.sum(2), ref=lp.sum(2)), batch, (lp - 2000.0, lp))
    assert step.as_dict()["kl"] is None
