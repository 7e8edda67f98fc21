"""Failures that users of other trainers met, one test each: how batches are read (numbers 2, 16 and 21)."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_decoders import decoder, separate_logprobs

torch = pytest.importorskip("torch")

from prefdata.lm import PackedModel, Row, fused_logprobs, pack  # noqa: E402

GROUP = [
    Row((5, 6, 7, 8, *end), tuple(range(4, 4 + len(end)))) for end in ((2,), (10, 2), (10, 11, 12, 13, 2), (14, 2))
]
"""Responses of unequal lengths that end with the end of turn, which is the padding token too."""


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_log_probabilities_change_with_the_batch(name: str) -> None:
    """Number 2: packed, in packs of their own, and one by one are the same to 1e-5."""
    packed = PackedModel(decoder(name))
    with torch.no_grad():
        together = packed(pack([GROUP, GROUP[::-1], GROUP[1:3]]).padded(70)).split([1, 2, 5, 2, 2, 5, 2, 1, 2, 5])
        apart = [packed(pack([[row]])) for row in GROUP]
        plain = separate_logprobs(packed.model, GROUP).split([1, 2, 5, 2])
    order = [0, 1, 2, 3, 3, 2, 1, 0, 1, 2]
    for values, number in zip(together, order, strict=True):
        torch.testing.assert_close(values, apart[number], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(values, plain[number], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[1][0], together[3][0], atol=1e-4), (
        "negative control: other tokens, other numbers"
    )


def test_a_reward_is_read_at_the_first_padding_or_one_beside_the_last_token() -> None:
    """Number 21: the last token is known from the data. Here it is the padding token, and stands elsewhere too."""
    model = decoder("llama", labels=1)
    pad = model.config.pad_token_id
    rows = [Row((5, 6, pad, 7, pad)), Row((5, 6, 8)), Row((5, 6, pad, 7, pad, 9, pad)), Row((5, 6, pad))]
    packed = PackedModel(model, output="reward")
    with torch.no_grad():
        values = packed(pack([rows]).padded(20))
        alone = torch.cat([packed(pack([[row]])) for row in rows])
        states = [model.model(input_ids=torch.tensor([row.tokens]), use_cache=False).last_hidden_state for row in rows]
        last = torch.cat([model.score(one[:, -1]) for one in states])
        early = torch.cat([model.score(one[:, -2]) for one in states])
        left, right = padded(model, rows, left=True), padded(model, rows, left=False)
    for found in (values, alone, left, right):
        torch.testing.assert_close(found, last, atol=1e-5, rtol=1e-5)
    assert not torch.isclose(values, early, atol=1e-3).any(), "negative control: one to the left differs everywhere"
    own = torch.cat([model(input_ids=torch.tensor([row.tokens])).logits for row in rows])
    assert not torch.isclose(values[0], own[0], atol=1e-3), "the search by the padding token's id goes wrong here"


def padded(model: Any, rows: list[Row], left: bool) -> Any:
    """Outputs of rows in a padded batch, read where the data says that they end."""
    width = max(len(row.tokens) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        start = width - len(row.tokens) if left else 0
        ids[number, start : start + len(row.tokens)] = torch.tensor(row.tokens)
        mask[number, start : start + len(row.tokens)] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    states = model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
    ends = [width - 1 if left else len(row.tokens) - 1 for row in rows]
    return model.score(states[torch.arange(len(rows)), torch.tensor(ends)])


@pytest.mark.gpu
@pytest.mark.parametrize("frozen", [False, True])
def test_a_fused_head_that_saves_no_memory(frozen: bool) -> None:
    """Number 16: the peak of forward and backward lies far below that of computing all logits."""
    count, width, words = 8192, 576, 49152
    torch.manual_seed(0)
    hidden = torch.randn(count, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(words, width, device="cuda", dtype=torch.bfloat16, requires_grad=not frozen)
    target = torch.randint(0, words, (count,), device="cuda")

    def peak(values: Any) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        values().sum().backward()
        torch.cuda.synchronize()
        used = torch.cuda.max_memory_allocated() - before
        hidden.grad = weight.grad = None
        return used

    def eager() -> Any:
        logits = (hidden @ weight.T).float()
        return logits.log_softmax(-1).gather(1, target[:, None]).squeeze(1)

    fused = peak(lambda: fused_logprobs(hidden, weight, target))
    assert fused < 0.5 * peak(eager)
    assert fused < 4 * count * words, "below one float32 copy of all logits"
