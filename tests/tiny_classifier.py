"""A tokenizer of letters, and sequence classifiers whose answers can be worked out by hand."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

LETTERS = string.ascii_letters + string.digits + string.punctuation + " \n"


def letters_tokenizer(**tokens: str | None) -> Any:
    """One token for each letter, between `[CLS]` and `[SEP]`; without them where `cls_token` is None."""
    from tokenizers import Regex as Pattern
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    named = {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", **tokens
    }  # fmt: skip
    named = {name: token for name, token in named.items() if token is not None}
    vocabulary = {token: number for number, token in enumerate([*dict.fromkeys(named.values()), *LETTERS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split(Pattern("(?m)."), "isolated")
    if "cls_token" in named:
        ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **named)


def save_decoder(folder: Path, tokenizer: Any, labels: int = 1, **config: Any) -> Any:
    """A random Llama with a classification head; returns the model."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=96, num_labels=labels, initializer_range=0.4,
            **{"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": None, **config},
        )
    ).eval()  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
