"""Log-probabilities of single tokens out of hidden states, without ever holding a logit of every token.

What a language-model head makes is one number for each word of the vocabulary and each token, most of which nobody
reads: at 150,000 words the numbers of one batch are larger than the model. Here the head is applied to some tokens at a
time, what is kept is one log-sum-exp a token, and the backward pass computes the logits of a chunk again. The
log-sum-exp, the result and the sum of the head's gradient are float32 (float64 where the inputs are), whatever the
matrix product is computed in: a log-probability of -400 in bfloat16 is known to within 2.

`torch` is imported with this module: `prefdata.lm` loads it at first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fused_logprobs(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk: int = 2048,
    keep_logits: bool = False,
) -> Tensor:
    """The log-probability of one token id under each hidden state.

    `log softmax(z)[target]` with `z = softcap * tanh(y / softcap)` (or `y` itself) and `y = scale * (hidden W^T + b)`.
    Where autocast is on, the matrix products are computed in its dtype. Differentiable once, in hidden states, weight
    and bias; a frozen weight costs no second pass over the vocabulary.

    Args:
        hidden: `[M, d]`, the states that predict.
        weight: `[V, d]`, of the head; tied or not.
        target: `[M]` int64, 0 to V - 1.
        bias: `[V]`.
        softcap: more than 0; null for none.
        scale: what logits are multiplied with.
        chunk: how many states at a time, at least 1. The memory needed is about 3 * chunk * V numbers.
        keep_logits: hold the `[M, V]` logits for the backward pass, in the dtype they are computed in. It saves one of
            four matrix products of the head where the weight is trained, and costs what this function avoids.

    Returns:
        `[M]` float32, or float64 where the products are.

    Raises:
        ValueError: the shapes do not fit, or chunk or softcap is not above 0.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or target.shape != hidden.shape[:1]:
        raise ValueError(
            f"hidden states {tuple(hidden.shape)}, weight {tuple(weight.shape)} and targets {tuple(target.shape)} do "
            "not fit together: they are [M, d], [V, d] and [M]"
        )
    if chunk < 1 or (softcap is not None and softcap <= 0):
        raise ValueError(f"chunk is at least 1 and softcap above 0; they are {chunk} and {softcap}")
    device = hidden.device.type
    # The head's own dtype, as in its Linear: float32 states of a bfloat16 model are cast down to it, never it up.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    values: Tensor = _Logprobs.apply(
        hidden, weight, target, bias, _Head(dtype, softcap, scale, chunk, keep_logits and torch.is_grad_enabled())
    )
    return values


class _Head:
    """What the passes have in common beside tensors."""

    def __init__(self, dtype: torch.dtype, softcap: float | None, scale: float, chunk: int, keep: bool) -> None:
        self.dtype, self.softcap, self.scale, self.chunk, self.keep = dtype, softcap, scale, chunk, keep
        self.exact = torch.float64 if dtype == torch.float64 else torch.float32

    def parts(self, length: int) -> Iterator[slice]:
        """The chunks of M tokens."""
        for start in range(0, length, self.chunk):
            yield slice(start, min(start + self.chunk, length))

    def products(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`[C, V]`, as the head's Linear gives them."""
        return torch.nn.functional.linear(hidden, weight, bias)

    def logits(self, products: Tensor) -> Tensor:
        """`[C, V]` in the exact dtype; a tensor of their own, to be overwritten."""
        logits = products.to(self.exact, copy=self.keep)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def slope(self, logits: Tensor, target: Tensor, total: Tensor, upstream: Tensor | None) -> Tensor:
        """`[C, V]` in the dtype of the products: the derivative of the values by the products. Overwrites `logits`.

        Args:
            logits: `[C, V]`.
            target: `[C]`.
            total: `[C]`, their log-sum-exp.
            upstream: `[C]`, what each row is multiplied with; null for 1.
        """
        capped = None if self.softcap is None else (logits / self.softcap).square_().neg_().add_(1)
        slope = logits.sub_(total[:, None]).exp_().neg_()
        slope.scatter_add_(1, target[:, None], torch.ones_like(total)[:, None])
        if capped is not None:
            slope.mul_(capped)
        if upstream is not None:
            slope.mul_((upstream * self.scale)[:, None])
        elif self.scale != 1.0:
            slope.mul_(self.scale)
        return slope.to(self.dtype)


class _Logprobs(torch.autograd.Function):  # type: ignore[misc]
    """See `fused_logprobs`. Gradients are asked for in backward only where they are needed."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, head: _Head) -> Tensor:
        """The values; keeps one number for each token, or its derivative where the head is frozen."""
        with torch.autocast(hidden.device.type, enabled=False):
            # Cast once, not once for each chunk.
            weight_vd = weight.to(head.dtype)
            bias_v = None if bias is None else bias.to(head.dtype)
            values = hidden.new_empty(len(hidden), dtype=head.exact)
            totals = torch.empty_like(values)
            # A row's value is one number, so its derivative by the hidden state can be taken now and multiplied later:
            # with a frozen head nothing is computed twice.
            needs_hidden, needs_weight, _, needs_bias, _ = ctx.needs_input_grad
            early = needs_hidden and not needs_weight and not needs_bias
            slopes = torch.empty(hidden.shape, dtype=head.dtype, device=hidden.device) if early else None
            kept: list[Tensor] = []
            for part in head.parts(len(hidden)):
                products = head.products(hidden[part].to(head.dtype), weight_vd, bias_v)
                if head.keep and (needs_weight or needs_bias):
                    kept.append(products)
                logits = head.logits(products)
                totals[part] = logits.logsumexp(1)
                values[part] = logits.gather(1, target[part, None]).squeeze(1) - totals[part]
                if slopes is not None:
                    slopes[part] = head.slope(logits, target[part], totals[part], None) @ weight_vd
        ctx.head, ctx.bias_dtype = head, None if bias is None else bias.dtype
        ctx.hidden_dtype = hidden.dtype
        ctx.early = early
        if early:
            ctx.save_for_backward(slopes)
        else:
            ctx.save_for_backward(hidden, weight, target, bias, totals, *kept)
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        """The gradients of hidden states, weight and bias."""
        head: _Head = ctx.head
        if ctx.early:
            (slopes,) = ctx.saved_tensors
            return (slopes.to(head.exact) * upstream[:, None]).to(ctx.hidden_dtype), None, None, None, None
        hidden, weight, target, bias, totals, *kept = ctx.saved_tensors
        needs_hidden, needs_weight, _, needs_bias, _ = ctx.needs_input_grad
        with torch.autocast(hidden.device.type, enabled=False):
            weight_vd = weight.to(head.dtype)
            bias_v = None if bias is None else bias.to(head.dtype)
            by_hidden = torch.empty_like(hidden) if needs_hidden else None
            by_weight = torch.zeros(weight.shape, dtype=head.exact, device=weight.device) if needs_weight else None
            by_bias = torch.zeros(len(weight), dtype=head.exact, device=weight.device) if needs_bias else None
            for place, part in enumerate(head.parts(len(hidden))):
                states = hidden[part].to(head.dtype)
                products = kept[place] if kept else head.products(states, weight_vd, bias_v)
                slope = head.slope(head.logits(products), target[part], totals[part], upstream[part])
                if by_hidden is not None:
                    by_hidden[part] = (slope @ weight_vd).to(hidden.dtype)
                if by_weight is not None:
                    _add_product(by_weight, slope.T, states)
                if by_bias is not None:
                    by_bias += slope.sum(0, dtype=head.exact)
        return (
            by_hidden,
            None if by_weight is None else by_weight.to(weight.dtype),
            None,
            None if by_bias is None else by_bias.to(ctx.bias_dtype),
            None,
        )


def _add_product(total: Tensor, first: Tensor, second: Tensor) -> None:
    """`total += first @ second`, the sum in the dtype of the total."""
    if total.dtype == first.dtype:
        total.addmm_(first, second)
    else:
        total += first @ second
