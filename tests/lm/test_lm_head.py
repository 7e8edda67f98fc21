"""The fused head against autograd, and what it holds."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from prefdata.lm import fused_logprobs  # noqa: E402

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "softcap": {"softcap": 1.5},
    "scale": {"scale": 0.25},
    "all": {"bias": True, "softcap": 1.5, "scale": 0.25},
}


def drawn(count: int, width: int, words: int, dtype: Any = torch.float32, bias: bool = False) -> list[Any]:
    """Hidden states, weight, targets and bias; their numbers need no great precision, so that dtypes can share them."""
    torch.manual_seed(count * 1000 + words)
    hidden = torch.randn(count, width, dtype=dtype, requires_grad=True)
    weight = (torch.randn(words, width, dtype=dtype) / width**0.5 * 3).requires_grad_()
    offset = torch.randn(words, dtype=dtype, requires_grad=True) if bias else None
    return [hidden, weight, torch.randint(0, words, (count,)), offset]


def eager(hidden: Any, weight: Any, target: Any, bias: Any, softcap: float | None = None, scale: float = 1.0) -> Any:
    """The same with all logits, in the dtype of the inputs and with a float32 log-softmax."""
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.log_softmax(-1).gather(1, target[:, None]).squeeze(1)


def graded(values: Any, inputs: list[Any], upstream: Any) -> list[Any]:
    wanted = [one for one in inputs if one is not None and one.requires_grad]
    return list(torch.autograd.grad(values, wanted, upstream.to(values.dtype)))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("count", "width", "words"), [(1, 1, 2), (7, 3, 5), (13, 8, 129)])
def test_values_and_gradients_are_autograds(
    count: int, width: int, words: int, name: str, chunk: int, keep: bool
) -> None:
    options = dict(OPTIONS[name])
    inputs = drawn(count, width, words, bias=options.pop("bias", False))
    upstream = torch.randn(count)
    values = fused_logprobs(*inputs, chunk=chunk, keep_logits=keep, **options)
    expected = eager(*inputs, **options)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    for found, wanted in zip(graded(values, inputs, upstream), graded(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (1, 3), (0, 1)], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_finite_differences(name: str, frozen: tuple[int, ...]) -> None:
    options = dict(OPTIONS[name])
    inputs = drawn(5, 3, 7, torch.float64, bias=options.pop("bias", False))
    for number in frozen:
        if inputs[number] is not None:
            inputs[number].requires_grad_(False)
    if not any(one is not None and one.requires_grad for one in inputs):
        return
    assert torch.autograd.gradcheck(lambda *given: fused_logprobs(*given, chunk=2, **options), inputs)


def test_a_gradient_that_forgets_the_scale_would_be_seen() -> None:
    """Negative control of the comparisons above."""
    inputs = drawn(5, 3, 7)
    upstream = torch.ones(5)
    scaled = graded(fused_logprobs(*inputs, scale=0.5), inputs, upstream)
    assert not torch.allclose(scaled[0], graded(eager(*inputs), inputs, upstream)[0], atol=1e-3)


def test_frozen_weights_and_frozen_states_get_no_gradient() -> None:
    hidden, weight, target, _ = drawn(5, 3, 7)
    upstream = torch.randn(5)
    for frozen in (weight, hidden):
        trained = hidden if frozen is weight else weight
        whole = graded(eager(hidden, weight, target, None), [trained], upstream)
        frozen.requires_grad_(False)
        found = graded(fused_logprobs(hidden, weight, target, chunk=2), [trained], upstream)
        frozen.requires_grad_(True)
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_uses() -> None:
    _, weight, target, _ = drawn(6, 4, 9)
    ids = torch.arange(6)
    upstream = torch.randn(6)
    found = graded(fused_logprobs(weight[ids] * 2, weight, target, chunk=4), [weight], upstream)
    wanted = graded(eager(weight[ids] * 2, weight, target, None), [weight], upstream)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [16, 1000])
@pytest.mark.parametrize("words", [33, 4001])
def test_bfloat16_is_no_worse_than_computing_all_logits(words: int, chunk: int) -> None:
    """Errors against float32 on the same numbers: |ours - gold| <= |eager - gold| (and a little for ties)."""
    inputs = [one.detach().bfloat16().requires_grad_() if one.is_floating_point() else one
              for one in drawn(64, 48, words)[:3]]  # fmt: skip
    exact = [one.detach().float().requires_grad_() if one.is_floating_point() else one for one in inputs]
    upstream = torch.randn(64)
    gold, plain = eager(*exact, None), eager(*inputs, None)
    ours = fused_logprobs(*inputs, chunk=chunk)
    assert ours.dtype == torch.float32
    assert (ours - gold).abs().max() <= (plain - gold).abs().max() + 1e-3
    by_gold, by_plain, by_ours = (
        graded(values, given, upstream) for values, given in ((gold, exact), (plain, inputs), (ours, inputs))
    )
    for wanted, rough, found in zip(by_gold, by_plain, by_ours, strict=True):
        assert found.dtype == torch.bfloat16
        allowed = (rough.float() - wanted).norm() * 1.1 + 1e-2 * wanted.norm()
        assert (found.float() - wanted).norm() <= allowed


def test_gradients_of_the_head_add_up_in_float32_over_chunks() -> None:
    """1024 chunks of one state each: a bfloat16 sum would stand still once it is 256 times a chunk's share."""
    inputs = [torch.ones(1024, 2).bfloat16(), torch.zeros(8, 2).bfloat16(), torch.zeros(1024).long(),
              torch.zeros(8).bfloat16()]  # fmt: skip
    inputs[1].requires_grad_()
    inputs[3].requires_grad_()
    by_weight, by_bias = graded(fused_logprobs(*inputs, chunk=1), inputs, torch.ones(1024))
    assert by_weight[1].tolist() == [-128, -128] and by_weight[0].tolist() == [896, 896]
    assert by_bias.tolist() == [896, *[-128] * 7]


def test_a_long_sum_keeps_what_bfloat16_would_round_away() -> None:
    """512 values of a bfloat16 head, summed: returned in bfloat16 they would be off by whole nats."""
    inputs = [one.detach().bfloat16() if one.is_floating_point() else one for one in drawn(512, 32, 600)[:3]]
    total = fused_logprobs(*inputs).sum()
    gold = eager(inputs[0].float(), inputs[1].float(), inputs[2], None).double().sum()
    assert abs(float(total) - float(gold)) < 0.5
    rounded = fused_logprobs(*inputs).bfloat16()
    assert abs(float(rounded.cumsum(0)[-1]) - float(gold)) > 0.5, "negative control"


def test_autocast_computes_products_in_its_dtype_and_the_rest_in_float32() -> None:
    inputs = drawn(20, 16, 50)
    upstream = torch.randn(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, rough = fused_logprobs(*inputs, chunk=8), eager(*inputs)
    gold = eager(*inputs)
    assert values.dtype == torch.float32
    assert 0 < (values - gold).abs().max() <= (rough - gold).abs().max() + 1e-3
    for found, wanted in zip(graded(values, inputs, upstream), graded(gold, inputs, upstream), strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() <= 2e-2 * wanted.norm()


def test_there_is_no_second_derivative() -> None:
    hidden, weight, target, _ = drawn(5, 3, 7)
    loss = fused_logprobs(hidden, weight, target).square().sum()
    (first,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_nothing_to_score_is_a_sum_of_nothing() -> None:
    hidden, weight, target, _ = drawn(0, 3, 7)
    values = fused_logprobs(hidden, weight, target)
    assert values.shape == (0,)
    assert graded(values, [hidden, weight], torch.zeros(0))[1].abs().sum() == 0


@pytest.mark.parametrize("frozen", [False, True])
def test_the_logits_of_all_tokens_never_exist(frozen: bool) -> None:
    """The largest tensor that forward and backward make, against that of computing all logits."""
    hidden, weight, target, _ = drawn(512, 16, 1000)
    weight.requires_grad_(not frozen)
    with Largest() as fused:
        fused_logprobs(hidden, weight, target, chunk=32).sum().backward()
    with Largest() as plain:
        eager(hidden, weight, target, None).sum().backward()
    assert fused.numbers <= 32 * 1000
    assert plain.numbers >= 512 * 1000, "negative control"


class Largest(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc, name-defined]
    """Counts the numbers of the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


@pytest.mark.parametrize(
    ("change", "said"),
    [({"target": torch.zeros(3, dtype=torch.int64)}, "do not fit"), ({"hidden": torch.zeros(5, 4)}, "do not fit"),
     ({"chunk": 0}, "chunk is at least 1"), ({"softcap": 0.0}, "softcap above 0")],
)  # fmt: skip
def test_what_does_not_fit_is_said(change: dict[str, Any], said: str) -> None:
    hidden, weight, target, _ = drawn(5, 3, 7)
    with pytest.raises(ValueError, match=said):
        fused_logprobs(**{"hidden": hidden, "weight": weight, "target": target, **change})
