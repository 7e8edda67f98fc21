"""A tiny random Llama with a byte-level tokenizer, for tests that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{% if 'tool_calls' in message %}<tools>{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def byte_tokenizer() -> Any:
    """One token for each byte, and `<|turn|>`, `<|end|>`, `<|bos|>`; pads with the end of turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|end|>",
        pad_token="<|end|>",
        extra_special_tokens=["<|turn|>"],
    )
    made.chat_template = TEMPLATE
    return made


def save_tiny_model(folder: Path, tokenizer: Any, *, rewards: bool = False) -> None:
    """Write a random two-layer Llama of 32 dimensions into a folder: a policy, or a reward model of one output."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    maker = LlamaForSequenceClassification if rewards else LlamaForCausalLM
    maker(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            attention_dropout=0.1,  # must be off in training
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **({"num_labels": 1} if rewards else {}),
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
