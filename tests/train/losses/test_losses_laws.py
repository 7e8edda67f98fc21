"""Laws of every registered loss: gradients, splits, order, padding, and options that act or are refused."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, Batch, LossSpec, Memory, Outputs, Range
from prefdata.train.losses.registry import LIST_OPTIONS, PAIR_OPTIONS

torch = pytest.importorskip("torch")

NAMES = sorted(LOSSES)
PAIRS = [name for name in NAMES if LOSSES[name].over == "pairs"]
STOPPED = {"lcpo"}
"""Their weights move with the policy and have no gradient, which finite differences cannot know; each has a test."""
KEPT = 3
"""Lists of `example`."""
OF_LISTS = ("mask", "length", "scores", "ranks", "labels", "weight", "sft", "lp", "ref")
OF_LISTS += ("token_lp", "token_ref", "token_mask", "reward")


def needed(name: str, options: dict[str, Any] | None = None) -> tuple[LossSpec, dict[str, Any], frozenset[str]]:
    spec = LOSSES[name]
    chosen = spec.checked_options(options or {}, "test")
    return spec, chosen, spec.needed(chosen)


def example(name: str, options: dict[str, Any] | None = None, *, seed: int = 0) -> tuple[Outputs, Batch]:
    """Three lists of 4, 3 and 2 responses with all that this loss needs; weights, p, lengths and margins are uneven."""
    spec, chosen, needs = needed(name, options)
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    def uniform(*shape: int) -> Any:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    ranks = torch.tensor([[2, 1, 4, 3], [1, 2, 2, 0], [1, 2, 0, 0]])
    mask = ranks > 0
    length = torch.where(mask, torch.tensor([[3, 5, 2, 4], [4, 1, 5, 0], [2, 3, 0, 0]]), 0)
    edge = [
        (n, i, j) for n, r in enumerate(ranks.tolist()) for i, a in enumerate(r) for j, b in enumerate(r) if 0 < a < b
    ]
    count, masked = len(edge), torch.full(mask.shape, math.nan, dtype=torch.float64)
    token_mask = (torch.arange(5) < length[:, :, None]) & mask[:, :, None]
    token_lp = torch.where(token_mask, -uniform(KEPT, 4, 5) - 0.2, 0.0)
    token_ref = torch.where(token_mask, token_lp + 0.6 * normal(KEPT, 4, 5), 0.0)
    places = torch.arange(4).expand(KEPT, 4)
    values = {
        one.removeprefix("values."): torch.where(
            mask, ((places + ranks) % 2 if "position" not in one else places + 1).double(), masked
        )
        for one in needs | {"values.other"}
        if one.startswith("values.")
    }
    values["other_position"] = torch.where(mask, (4 - places).double(), masked)
    values["other"] = torch.where(mask, uniform(KEPT, 4), masked)
    batch = Batch(
        mask=mask,
        length=length,
        scores=torch.where(mask, 1 - ranks / 5 + 0.05 * uniform(KEPT, 4), masked),
        ranks=ranks,
        labels=torch.where(mask, (ranks < 2).double(), masked),
        weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64),
        edge=torch.tensor(edge),
        p=torch.tensor([0.9, 1.0, 0.7, 0.3, 0.5, 1.0, 0.8, 0.6, 1.0], dtype=torch.float64)[:count],
        margin=uniform(count) + 0.1,
        edge_weight=uniform(count) + 0.5,
        votes=torch.arange(3.0, 3 + count, dtype=torch.float64),
        sft=torch.zeros_like(mask),
        values=values,
        rationale=torch.arange(count) % 3 - 1,
    )
    outputs = Outputs(
        lp=token_lp.sum(dim=2),
        ref=token_ref.sum(dim=2) if "reference" in needs else None,
        rationale_lp=-3 * uniform(2),
        rationale_length=torch.tensor([4, 7]),
        mismatched=normal(4) + 0.5,
    )
    if "tokens" in needs:
        outputs = replace(outputs, token_lp=token_lp, token_ref=token_ref, token_mask=token_mask)
    if spec.output == "reward":
        outputs = Outputs(reward=normal(KEPT, 4, len(spec.outputs(chosen))))
    return outputs, batch


def leaves(outputs: Outputs) -> list[str]:
    """What a loss is differentiated by."""
    return [name for name in ("lp", "token_lp", "reward", "rationale_lp") if getattr(outputs, name) is not None]


def midway(name: str) -> Memory:
    """The memory of a run that is half over, of steps like the example."""
    spec, chosen, _ = needed(name)
    state: dict[str, Any] = {}
    for step in range(5) if spec.remember else ():
        memory = Memory(state, step=step, steps=10)
        spec.sums(*example(name, seed=step), chosen, memory)
        state = spec.remember(memory.state, memory.observed, chosen)  # type: ignore[misc]
    return Memory(state, step=5, steps=10)


def value(name: str, outputs: Outputs, batch: Batch, options: dict[str, Any] | None = None) -> Any:
    return LOSSES[name](outputs, batch, options, midway(name))


def lists_at(rows: list[int], outputs: Outputs, batch: Batch) -> tuple[Outputs, Batch]:
    """Some of the lists, in this order, with their edges."""
    keep = [place for row in rows for place in (batch.edge[:, 0] == row).nonzero().flatten().tolist()]
    edge = batch.edge[keep].clone()
    edge[:, 0] = torch.tensor([rows.index(int(row)) for row in edge[:, 0]], dtype=torch.int64)
    taken = {one: getattr(batch, one)[keep] for one in ("p", "margin", "edge_weight", "votes", "rationale")}
    taken |= {one: getattr(batch, one)[rows] for one in OF_LISTS if hasattr(batch, one)}
    values = {one: value[rows] for one, value in batch.values.items()}
    made = {one: getattr(outputs, one)[rows] for one in OF_LISTS if getattr(outputs, one, None) is not None}
    return replace(outputs, **made), replace(batch, edge=edge, values=values, **taken)


def shuffled(order: Any, outputs: Outputs, batch: Batch) -> tuple[Outputs, Batch]:
    """The responses of every list in another order."""
    back = torch.argsort(order)
    there = {one: getattr(batch, one)[:, order] for one in OF_LISTS if hasattr(batch, one) and one != "weight"}
    edge = torch.stack([batch.edge[:, 0], back[batch.edge[:, 1]], back[batch.edge[:, 2]]], dim=1)
    values = {one: value[:, order] for one, value in batch.values.items()}
    made = {one: getattr(outputs, one)[:, order] for one in OF_LISTS if getattr(outputs, one, None) is not None}
    return replace(outputs, **made), replace(batch, edge=edge, values=values, **there)


def widened(outputs: Outputs, batch: Batch) -> tuple[Outputs, Batch]:
    """Two responses more in every list, and three tokens more, all masked."""

    def wide(tensor: Any, more: tuple[int, ...]) -> Any:
        fill = math.nan if tensor.is_floating_point() and tensor.isnan().any() else 0
        return torch.nn.functional.pad(tensor, more, value=fill)

    there = {one: wide(getattr(batch, one), (0, 2)) for one in OF_LISTS if hasattr(batch, one) and one != "weight"}
    there["scores"] = torch.where(there["mask"], there["scores"], math.nan)
    there["labels"] = torch.where(there["mask"], there["labels"], math.nan)
    values = {one: torch.nn.functional.pad(tensor, (0, 2), value=math.nan) for one, tensor in batch.values.items()}
    made = {}
    for one in OF_LISTS:
        tensor = getattr(outputs, one, None)
        if tensor is not None:
            inner = () if tensor.ndim == 2 else (0, 0) if one == "reward" else (0, 3)
            made[one] = torch.nn.functional.pad(tensor, (*inner, 0, 2))
    return replace(outputs, **made), replace(batch, values=values, **there)


def test_the_example_holds_all_fields() -> None:
    """A field that the tests below would not carry along would be tested nowhere."""
    known = {*OF_LISTS, "edge", "p", "margin", "edge_weight", "votes", "values", "rationale"}
    assert {field.name for field in fields(Batch)} <= known
    assert {field.name for field in fields(Outputs)} <= known | {"rationale_lp", "rationale_length", "mismatched"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STOPPED])
def test_gradients_match_finite_differences(name: str) -> None:
    outputs, batch = example(name)
    moved = leaves(outputs)
    memory = midway(name)

    def total(*tensors: Any) -> Any:
        return LOSSES[name](replace(outputs, **dict(zip(moved, tensors, strict=True))), batch, None, memory)

    assert torch.autograd.gradcheck(total, tuple(getattr(outputs, one).clone().requires_grad_() for one in moved))


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up_to_the_whole(name: str) -> None:
    """D 18: sums and masses of any split, in any order, and what memory takes in of it, are those of the whole."""
    spec, chosen, _ = needed(name)
    outputs, batch = example(name)
    whole, seen = midway(name), midway(name)
    sums, masses = spec.sums(outputs, batch, chosen, whole), spec.masses(batch, chosen)
    parts = [lists_at([2], outputs, batch), lists_at([1, 0], outputs, batch)]
    part_sums = [spec.sums(*part, chosen, seen) for part in parts]
    part_masses = [spec.masses(part[1], chosen) for part in parts]
    assert sums.keys() == masses.keys()
    for term in sums:
        torch.testing.assert_close(sum(part[term] for part in part_sums), sums[term], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(sum(part[term] for part in part_masses), masses[term], rtol=1e-12, atol=1e-12)
    assert whole.observed.keys() == seen.observed.keys()
    for one, values in whole.observed.items():
        assert sorted(seen.observed[one]) == pytest.approx(sorted(values), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_remembered_depends_on_no_split(name: str) -> None:
    spec, chosen, _ = needed(name)
    if spec.remember is None:
        return
    outputs, batch = example(name)
    states = []
    for splits in ([[0, 1, 2]], [[2], [1, 0]]):
        memory = midway(name)
        for rows in splits:
            spec.sums(*lists_at(rows, outputs, batch), chosen, memory)
        states.append(spec.remember(memory.state, memory.observed, chosen))
    flat = [torch.tensor(list(_numbers(state)), dtype=torch.float64) for state in states]
    torch.testing.assert_close(flat[0], flat[1], rtol=1e-12, atol=1e-12)


def _numbers(state: Any) -> list[float]:
    if isinstance(state, dict):
        return [number for one in sorted(state) for number in _numbers(state[one])]
    return [number for one in state for number in _numbers(one)] if isinstance(state, list) else [float(state)]


@pytest.mark.parametrize("name", NAMES)
def test_order_changes_nothing(name: str) -> None:
    outputs, batch = example(name)
    for other in (
        lists_at([2, 0, 1], outputs, batch),
        shuffled(torch.tensor([2, 0, 3, 1]), outputs, batch),
    ):
        torch.testing.assert_close(value(name, *other), value(name, outputs, batch), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_gets_no_gradient(name: str) -> None:
    outputs, batch = example(name)
    gradients = []
    for made, read in ((outputs, batch), widened(outputs, batch)):
        moved = {one: getattr(made, one).clone().requires_grad_() for one in leaves(made)}
        total = value(name, replace(made, **moved), read)
        gradients.append((total, torch.autograd.grad(total, list(moved.values()), allow_unused=True)))
    (total, narrow), (wide_total, wide) = gradients
    torch.testing.assert_close(wide_total, total, rtol=1e-12, atol=1e-12)
    for before, after in zip(narrow, wide, strict=True):
        if before is None:
            assert after is None
            continue
        cut = tuple(slice(size) for size in before.shape)
        torch.testing.assert_close(after[cut], before, rtol=1e-12, atol=1e-12)
        assert after.abs().sum().item() == pytest.approx(before.abs().sum().item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_without_edges_adds_nothing(name: str) -> None:
    """A micro-batch may hold no pair (all of them left out): its terms are 0, with a gradient of 0."""
    spec, chosen, _ = needed(name)
    outputs, batch = example(name)
    none = torch.zeros_like(batch.weight)
    moved = {one: getattr(outputs, one).clone().requires_grad_() for one in leaves(outputs)}
    sums = spec.sums(replace(outputs, **moved), replace(batch, weight=none), chosen)
    masses = spec.masses(replace(batch, weight=none), chosen)
    assert all(float(total.detach()) == 0 for total in [*sums.values(), *masses.values()])
    sum(sums.values()).backward()
    assert all(one.grad is None or float(one.grad.abs().sum()) == 0 for one in moved.values())


@pytest.mark.parametrize("name", NAMES)
def test_float32_gives_a_finite_float32_gradient_at_extremes(name: str) -> None:
    outputs, batch = example(name)
    single = {one: getattr(outputs, one).float() for one in (*leaves(outputs), "ref", "token_ref", "mismatched")
              if getattr(outputs, one) is not None}  # fmt: skip
    for size in (0.0, 1e3):
        moved = {one: (single[one] * size).requires_grad_() for one in leaves(outputs)}
        total = value(name, replace(outputs, **{**single, **moved}), batch)
        assert math.isfinite(float(total.detach())), size
        gradients = torch.autograd.grad(total, list(moved.values()), allow_unused=True)
        assert all(one is None or bool(torch.isfinite(one).all()) for one in gradients), size


OTHER = {"weight": "even", "per": "list", "label": "hard", "margin": "edges", "sft": 0.3, "sft_reduction": "sum"}


@pytest.mark.parametrize("name", NAMES)
def test_shared_options_act_or_are_refused(name: str) -> None:
    """D 15."""
    spec = LOSSES[name]
    outputs, batch = example(name)
    for option in {**PAIR_OPTIONS, **LIST_OPTIONS}:
        if option not in spec.offered:
            with pytest.raises(TrainError, match=f"takes no option '{option}'"):
                spec.checked_options({option: OTHER[option]}, "test")
            continue
        others = {"sft": 0.3} if option == "sft_reduction" else {}
        values = {spec.options[option], OTHER[option]} | ({"mean", "tokens"} if option == "sft_reduction" else set())
        results = {float(value(name, outputs, batch, {**others, option: one}).detach()) for one in values}
        assert len(results) == len(values), option
        with pytest.raises(TrainError, match=f"the option '{option}' of the loss '{name}' is "):
            spec.checked_options({option: -1}, "test")


def other_value(spec: LossSpec, option: str) -> Any:
    """Another value for an option than its default."""
    default, limit = spec.options[option], spec.limits.get(option)
    if option in ("base", "position"):
        return {"base": "cpo", "position": "other_position"}[option]
    if isinstance(limit, tuple):
        return next(one for one in limit if one != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        for other in (default + 1, default * 1.5 + 0.1, default * 0.5):
            if not isinstance(limit, Range) or limit.holds(other):
                return other
    return "values.other" if default == "scores" else "other"


WHERE = {
    ("f-dpo", "alpha"): {"divergence": "alpha"},
    ("irepo", "votes"): "the data say how many votes there were",
    ("bco", "density_ratio"): "only 1",
    ("selfie", "lam"): "only 0",
    ("selfie", "warmup"): "the example's run is past it either way",
    ("selfie", "window"): "acts on what is remembered",
    ("lcpo", "eta"): "the estimate is remembered",
    ("lcpo", "momentum"): "acts on what is remembered",
    ("lcpo", "base_options"): "of another loss",
    ("factuality-dpo", "factual"): "another column",
}
"""With which options another value acts, or why this test cannot show that it does: others do."""


@pytest.mark.parametrize("name", NAMES)
def test_own_options_act(name: str) -> None:
    """D 15."""
    spec = LOSSES[name]
    for option in spec.own_options:
        others = WHERE.get((name, option), {})
        if isinstance(others, str):
            continue
        base = {**others}
        if spec.heads == option:
            continue
        outputs, batch = example(name, base)
        changed = value(name, outputs, batch, {**base, option: other_value(spec, option)})
        assert float(changed.detach()) != float(value(name, outputs, batch, base).detach()), option


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values_are_refused_in_a_sentence(name: str) -> None:
    spec = LOSSES[name]
    for option, limit in spec.limits.items():
        if isinstance(limit, tuple):
            wrong: tuple[Any, ...] = ("no such thing", 1)
        else:
            outside = (bound for bound in (limit.above, limit.below) if bound is not None)
            wrong = (*outside, math.nan, math.inf, -math.inf, 10**400, "high", True)
        for bad in wrong:
            with pytest.raises(TrainError, match=f"the option '{option}' of the loss '{name}' is .*, not "):
                spec.checked_options({option: bad}, "test")


@pytest.mark.parametrize("name", NAMES)
def test_each_says_where_it_comes_from_and_what_it_computes(name: str) -> None:
    spec = LOSSES[name]
    assert spec.paper
    text = spec.function.__doc__ or ""
    assert "`" in text and "Args:" in text
    assert all(f"{option}: " in text for option in spec.own_options)
    numbers = [one for one, default in spec.own_options.items() if type(default) in (int, float)]
    assert all(isinstance(spec.limits.get(one), Range) or one in ("lam", "density_ratio") for one in numbers)
