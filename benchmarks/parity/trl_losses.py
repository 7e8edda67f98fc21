"""TRL's own loss code on given numbers.

Each trainer is built by its own constructor, from its own configuration and a tiny model, so that every default and
refusal is TRL's. Then its loss method is called once, with a stand-in for the model that returns the given numbers.
Nothing of a loss is written here.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from fixture import PROMPT, Numbers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

_QUIET = {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True, "gradient_checkpointing": False}
_SIDES = ("chosen", "rejected")


def trl_loss(trainer: str, options: Mapping[str, Any], numbers: Numbers) -> Tensor:
    """The loss that a trainer of TRL makes of these numbers, a scalar with a gradient.

    Args:
        trainer: dpo, kto, cpo, orpo, orpo_ratio or reward.
        options: fields of the trainer's configuration; `margin` (reward) hands the pairs' margins in.
        numbers: see `Numbers`.
    """
    given = dict(options)
    return _TRAINERS[trainer](given, numbers)


def _dpo(options: dict[str, Any], numbers: Numbers) -> Tensor:
    trainer = _made(DPOTrainer, DPOConfig, options, {"ref_model": _model()})
    policy, trainer.ref_model = _fused(numbers.lp, numbers.mask), _fused(numbers.ref, numbers.mask)
    return trainer._compute_loss(policy, _rows(numbers), False)


def _kto(options: dict[str, Any], numbers: Numbers) -> Tensor:
    trainer = _made(KTOTrainer, KTOConfig, {"per_device_train_batch_size": 2, **options}, {"ref_model": _model()})
    rows = _rows(numbers)
    inputs = {**rows, "label": torch.arange(2 * numbers.pairs) < numbers.pairs}
    inputs |= {f"KL_{name}": value for name, value in rows.items()}
    inputs["KL_input_ids"] = torch.full_like(rows["input_ids"], 2)  # how the stand-in knows the mismatched rows

    def model(lp: Tensor, other: Tensor) -> Any:
        own = _fused(lp, numbers.mask)
        spread = torch.zeros_like(lp.detach())
        spread[:, -1] = other
        all_tokens = torch.ones_like(numbers.mask)
        return lambda **inputs: (_fused(spread, all_tokens) if int(inputs["input_ids"].max()) == 2 else own)(**inputs)

    trainer.ref_model = model(numbers.ref, numbers.mismatched[1])
    return trainer._compute_loss(model(numbers.lp, numbers.mismatched[0]), inputs, False)


def _cpo(options: dict[str, Any], numbers: Numbers) -> Tensor:
    trainer = _made(CPOTrainer, CPOConfig, options)
    return trainer.get_batch_loss_metrics(_with_logits(numbers), _sides(numbers))[0]


def _orpo(options: dict[str, Any], numbers: Numbers) -> Tensor:
    trainer = _made(ORPOTrainer, ORPOConfig, options)
    return trainer.get_batch_loss_metrics(_with_logits(numbers), _sides(numbers))[0]


def _orpo_ratio(options: dict[str, Any], numbers: Numbers) -> Tensor:
    trainer = _made(ORPOTrainer, ORPOConfig, options)
    mean = numbers.lp.masked_fill(~numbers.mask, 0.0).sum(dim=1) / numbers.length
    return -trainer.odds_ratio_loss(*mean.chunk(2))[0].mean()


def _reward(options: dict[str, Any], numbers: Numbers) -> Tensor:
    margin = options.pop("margin", False)
    trainer = _made(RewardTrainer, RewardConfig, options)
    inputs: dict[str, Any] = {"attention_mask": _rows(numbers)["attention_mask"]}
    if margin:
        inputs["margin"] = numbers.margin
    return trainer.compute_loss(lambda **_: SimpleNamespace(logits=numbers.rewards[:, None]), inputs)


_TRAINERS = {"dpo": _dpo, "kto": _kto, "cpo": _cpo, "orpo": _orpo, "orpo_ratio": _orpo_ratio, "reward": _reward}


def _made(trainer: Any, config: Any, options: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Any:
    """A trainer as its own constructor makes it."""
    rows: dict[str, list[Any]] = {"prompt": ["a"] * 2, "chosen": ["b"] * 2, "rejected": ["c"] * 2}
    if trainer is KTOTrainer:
        rows = {"prompt": ["a"] * 2, "completion": ["b", "c"], "label": [True, False]}
    known = config.__dataclass_fields__
    quiet = {name: value for name, value in _QUIET.items() if name in known}
    with tempfile.TemporaryDirectory() as folder:
        return trainer(
            model=_model(trainer is RewardTrainer),
            args=config(output_dir=folder, **{**quiet, **options}),
            train_dataset=Dataset.from_dict(rows),
            processing_class=_tokenizer(),
            **(more or {}),
        )


def _model(scores: bool = False) -> Any:
    shape = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        pad_token_id=1,
        num_labels=1,
    )
    return (LlamaForSequenceClassification if scores else LlamaForCausalLM)(shape)


@functools.cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate(["[UNK]", "</s>", *"abc"])}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", eos_token="</s>", pad_token="</s>")


def _rows(numbers: Numbers) -> dict[str, Tensor]:
    """Rows as TRL's collator lays them out: the first token is one that nothing predicts."""
    first = torch.ones(len(numbers.mask), 1, dtype=torch.bool)
    attended = torch.cat([first, numbers.attended], dim=1)
    return {
        "input_ids": attended.long(),
        "attention_mask": attended.long(),
        "completion_mask": torch.cat([~first, numbers.mask], dim=1).long(),
    }


def _fused(lp: Tensor, mask: Tensor) -> Any:
    """A stand-in for a model with TRL's fused head: what it returns is 0 outside the response."""
    zeros = torch.zeros_like(lp.detach())
    output = FusedCausalLMOutput(
        log_probs=lp.masked_fill(~mask, 0.0), entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )
    return lambda **_: replace(output)


def _with_logits(numbers: Numbers) -> Any:
    """A stand-in for a model of two tokens, whose logits make the given log-probabilities those of token 0."""
    other = torch.log(-torch.expm1(numbers.lp))
    logits = torch.stack([numbers.lp, other], dim=2)
    last = torch.zeros_like(logits[:, :1])
    return lambda *_, **__: SimpleNamespace(logits=torch.cat([logits, last], dim=1))


def _sides(numbers: Numbers) -> dict[str, Tensor]:
    """The two sides of the pairs as TRL's older trainers want them; every token is token 0."""
    rows, batch = _rows(numbers), {}
    for number, side in enumerate(_SIDES):
        half = slice(number * numbers.pairs, (number + 1) * numbers.pairs)
        attended = rows["attention_mask"][half]
        ids = torch.zeros_like(attended)
        batch[f"{side}_input_ids"] = ids
        batch[f"{side}_attention_mask"] = attended
        batch[f"{side}_labels"] = ids.masked_fill(rows["completion_mask"][half] == 0, -100)
    batch["prompt_input_ids"] = torch.zeros(numbers.pairs, PROMPT, dtype=torch.long)
    return batch
