"""Log-probabilities of responses under a causal language model.

What is a response token is said by the lengths that come with the token ids. It is never inferred from the ids: where
the padding token is the end-of-turn token, that would unlearn how to stop.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Rows:
    """B sequences, each a prompt and one response, padded on the right to T tokens.

    Attributes:
        input_ids: `[B, T]`, int64.
        attention_mask: `[B, T]`, 1 for a real token, int64.
        response_mask: `[B, T]`, true for the response's tokens, bool. Column 0 is never a response's.
    """

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


def pad_rows(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    pad_id: int = 0,
    device: torch.device | str = "cpu",
) -> Rows:
    """Make a batch of rows, prompt i followed by response i.

    Args:
        prompts: B lists of at least one token id.
        responses: B lists of at least one token id.
        pad_id: any valid id; padding is never attended to and never scored.
        device: where the tensors are to lie.

    Raises:
        ValueError: a prompt or a response is empty: its first token would be predicted from nothing, or it would be a
            row with nothing to train.
    """
    import torch

    if any(not prompt for prompt in prompts) or any(not response for response in responses):
        raise ValueError("every row needs at least one prompt token and one response token")
    starts = [len(prompt) for prompt in prompts]
    ends = [start + len(response) for start, response in zip(starts, responses, strict=True)]
    shape = (len(starts), max(ends))
    input_ids = torch.full(shape, pad_id, dtype=torch.int64)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        input_ids[row, : ends[row]] = torch.tensor([*prompt, *response], dtype=torch.int64)
    place = torch.arange(shape[1])
    real = place < torch.tensor(ends)[:, None]
    response = real & (place >= torch.tensor(starts)[:, None])
    return Rows(input_ids.to(device), real.long().to(device), response.to(device))


def token_logprobs(model: Any, rows: Rows) -> Tensor:
    """The log-probability of every response token, given all tokens before it.

    Only the positions that predict a response token of some row go through the language-model head. The log-sum-exp is
    taken in float32 whatever the dtype of the logits.

    Args:
        model: a causal language model of transformers, or a peft model around one.
        rows: B rows of T tokens.

    Returns:
        `[B, T]` float32; position t holds the log-probability of token t. Zero for prompt and padding.
    """
    import torch
    from torch.nn.functional import cross_entropy

    # Logits at position t score token t + 1: the columns kept are one to the left of the tokens they score.
    columns = rows.response_mask.any(dim=0).nonzero().squeeze(1)
    inputs = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask, "use_cache": False}
    if _takes_logits_to_keep(model):
        logits = model(**inputs, logits_to_keep=columns - 1).logits
    else:
        logits = model(**inputs).logits[:, columns - 1]
    labels = rows.input_ids[:, columns].masked_fill(~rows.response_mask[:, columns], IGNORED)
    loss = cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).unflatten(0, labels.shape)
    return torch.zeros(rows.input_ids.shape, device=loss.device).index_copy(1, columns, -loss)


def sequence_logprobs(model: Any, rows: Rows) -> Tensor:
    """The log-probability of every response: the sum over its tokens, `[B]` float32. See `token_logprobs`."""
    return token_logprobs(model, rows).sum(dim=1)


def _takes_logits_to_keep(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
