"""Log-probabilities of responses: against a plain computation, and with controls that must differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefdata.lm import Rows, pad_rows, sequence_logprobs, token_logprobs

torch = pytest.importorskip("torch")

PROMPTS = [[5, 6, 7], [5, 6, 7, 8, 9, 10], [11]]
RESPONSES = [[20, 21, 22, 23], [24], [25, 26, 256]]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def plain(model: Any, prompt: list[int], response: list[int]) -> float:
    """One row, no padding, token by token in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    table = logits.log_softmax(-1)
    return sum(table[len(prompt) - 1 + t, token].item() for t, token in enumerate(response))


def test_sums_equal_one_by_one(model: Any) -> None:
    with torch.no_grad():
        sums = sequence_logprobs(model, pad_rows(PROMPTS, RESPONSES, pad_id=256))
    for value, prompt, response in zip(sums.tolist(), PROMPTS, RESPONSES, strict=True):
        assert value == pytest.approx(plain(model, prompt, response), abs=1e-5)


def test_padding_and_its_token_change_nothing(model: Any) -> None:
    with torch.no_grad():
        alone = [sequence_logprobs(model, pad_rows([p], [r])).item() for p, r in zip(PROMPTS, RESPONSES, strict=True)]
        zeros = sequence_logprobs(model, pad_rows(PROMPTS, RESPONSES, pad_id=0))
        ends = sequence_logprobs(model, pad_rows([*PROMPTS, [1] * 30], [*RESPONSES, [2] * 20], pad_id=256))[:3]
    torch.testing.assert_close(zeros, torch.tensor(alone), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ends, zeros, atol=1e-5, rtol=1e-5)


def test_only_response_tokens_count(model: Any) -> None:
    rows = pad_rows(PROMPTS, RESPONSES)
    with torch.no_grad():
        tokens = token_logprobs(model, rows)
    assert tokens.dtype == torch.float32
    assert (tokens[~rows.response_mask] == 0).all()
    assert (tokens[rows.response_mask] < 0).all()


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_shifted_mask_differs(model: Any, shift: int) -> None:
    """Negative control: the mask one place off must not give the same sums."""
    rows = pad_rows(PROMPTS[:2], RESPONSES[:2])
    wrong = Rows(rows.input_ids, rows.attention_mask, rows.response_mask.roll(shift, dims=1))
    with torch.no_grad():
        assert not torch.allclose(sequence_logprobs(model, rows), sequence_logprobs(model, wrong), atol=1e-2)


def test_prompt_tokens_in_the_mask_differ(model: Any) -> None:
    """Negative control: prompt tokens must not enter."""
    rows = pad_rows(PROMPTS[:1], RESPONSES[:1])
    mask = rows.response_mask.clone()
    mask[:, 1] = True
    with torch.no_grad():
        wrong = sequence_logprobs(model, Rows(rows.input_ids, rows.attention_mask, mask))
        assert not torch.allclose(sequence_logprobs(model, rows), wrong, atol=1e-2)


def test_models_that_give_all_logits(model: Any) -> None:
    class Plain:
        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

        __call__ = forward

    rows = pad_rows(PROMPTS, RESPONSES)
    with torch.no_grad():
        torch.testing.assert_close(token_logprobs(Plain(), rows), token_logprobs(model, rows), atol=1e-5, rtol=1e-5)


def test_low_precision_logits_are_summed_in_float32(model: Any) -> None:
    half = type(model)(model.config).eval()
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    rows = pad_rows(PROMPTS, RESPONSES)
    with torch.no_grad():
        tokens = token_logprobs(half, rows)
        logits = half(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits.float()
    expected = logits[:, :-1].log_softmax(-1).gather(2, rows.input_ids[:, 1:, None]).squeeze(2)
    expected = torch.where(rows.response_mask[:, 1:], expected, 0.0)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens[:, 1:], expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("prompts", "responses"), [([[]], [[1]]), ([[1]], [[]])])
def test_empty_rows_are_refused(prompts: list[list[int]], responses: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        pad_rows(prompts, responses)
