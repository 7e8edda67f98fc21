"""The model in training: loading it, with or without adapters, its forward pass, and the folder that it is saved in."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.config import LORA_ALPHA, TrainConfig
from prefdata.train.devices import Devices
from prefdata.train.errors import TrainError
from prefdata.train.hashes import tokenizer_hash, weights_hash
from prefdata.train.reference import Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from prefdata.lm import Pack, PackedModel


@dataclass(frozen=True, slots=True)
class Policy:
    """The model in training.

    Weights are float32 everywhere (an update of 1e-6 vanishes in bfloat16); `precision` says what is computed in.

    Attributes:
        module: reads packs; it never drops out, which would make policy and reference differ where they are equal.
        tokenizer: its tokenizer.
        devices: where it lies.
        lora: whether it has adapters.
        half: whether it computes in bfloat16, by autocast.
        scorer: its name as a reference, before the first step.
        outputs: names of a reward model's outputs; empty for a policy.
    """

    module: PackedModel
    tokenizer: Any
    devices: Devices
    lora: bool
    half: bool
    scorer: Scorer
    outputs: tuple[str, ...] = ()

    @property
    def model(self) -> PackedModel:
        """What a checkpoint keeps the trained weights of."""
        return self.module

    def trained(self) -> list[Tensor]:
        """The parameters that the optimiser changes."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def __call__(self, pack: Pack) -> Tensor:
        """`[L]` log-probabilities of the pack's scored tokens, or a reward model's `[B, A]`; float32."""
        with autocast(self.devices, self.half):
            values: Tensor = self.module(pack)
        return values

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[None]:
        """The weights before training: adapters off. Without adapters, valid only before the first step."""
        import torch

        adapters: Any = self.module.model
        with torch.no_grad(), adapters.disable_adapter() if self.lora else contextlib.nullcontext():
            yield


def load_policy(config: TrainConfig, devices: Devices, outputs: Sequence[str] = ()) -> Policy:
    """Load the model and its tokenizer, put adapters on it where LoRA is wanted, and bring it to its devices.

    Args:
        config: the model and how it is trained.
        devices: where it goes.
        outputs: names of a reward model's outputs; none: a policy.

    Raises:
        TrainError: the model cannot be had, or cannot be read in packs.
    """
    import torch

    if config.attention == "flex" and devices.device.type != "cuda":
        raise TrainError(f"attention: flex has no backward pass on {devices.device}: leave it at auto, or say sdpa")
    torch.manual_seed(config.seed)
    model, tokenizer = load_model(config.model, outputs, quantize=config.quantize, devices=devices)
    half = computes_in_half(config, devices)
    start = weights_hash(model)
    if config.lora:
        model = with_adapters(model, config, outputs)
    if config.gradient_checkpointing:
        _checkpoint_layers(model)
    module = packed(model, config, devices, half, outputs)
    module.train(config.gradient_checkpointing)  # transformers checkpoints in training mode only
    attention = module.kind.removesuffix("_attention")
    scorer = Scorer(_name_of(config.model), start, tokenizer_hash(tokenizer), "bf16" if half else "fp32", attention)
    return Policy(module, tokenizer, devices, bool(config.lora), half, scorer, tuple(outputs))


def load_reference(config: TrainConfig, devices: Devices, policy: Policy) -> Policy:
    """Load the model that `config.reference` names, to be compared with; nothing of it is trained.

    Raises:
        TrainError: it cannot be had, or has another tokenizer than the policy.
    """
    assert config.reference is not None
    model, tokenizer = load_model(config.reference, devices=devices)
    if tokenizer_hash(tokenizer) != policy.scorer.tokenizer and tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise TrainError(
            f"the reference {config.reference!r} has another tokenizer than {config.model!r}: log-probabilities of "
            "other tokens cannot be compared"
        )
    model.requires_grad_(False)
    start = weights_hash(model)
    module = packed(model, config, devices, policy.half)
    scorer = replace(policy.scorer, model=_name_of(config.reference), weights=start)
    return Policy(module, policy.tokenizer, devices, False, policy.half, scorer)


def load_model(
    name: str, outputs: Sequence[str] = (), *, quantize: str = "none", devices: Devices | None = None
) -> tuple[Any, Any]:
    """A model of transformers in float32 on the CPU, and its tokenizer.

    Args:
        name: a folder or a hub id; a folder of adapters is merged into its base model.
        outputs: names of a reward model's outputs; none: a causal language model.
        quantize: `none`, or `4bit` on a GPU.
        devices: where quantised weights go.

    Raises:
        TrainError: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the screen belongs to the run's own lines
    adapters = Path(name) if (Path(name) / "adapter_config.json").is_file() else None
    base = _base_of(adapters) if adapters else name
    # Safetensors only: other weights are pickles, which run code.
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    if quantize != "none":
        options |= _quantised(devices)
    maker: Any = AutoModelForCausalLM
    if outputs:
        maker = AutoModelForSequenceClassification
        options["id2label"] = dict(enumerate(outputs))
        options["label2id"] = {label: number for number, label in enumerate(outputs)}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a new head is no news, and other missing weights are refused below
    try:
        model, found = maker.from_pretrained(base, output_loading_info=True, **options)
        missing = sorted(key for key in found["missing_keys"] if not (outputs and key.startswith("score.")))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            kind = "a reward model is made of a" if outputs else "a policy is a"
            raise TrainError(f"the model {base!r} lacks weights ({missing[0]}{more}): {kind} causal language model")
        if adapters:
            model = _merged(model, adapters)
        own = adapters if adapters and (adapters / "tokenizer_config.json").is_file() else base
        tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainError(f"the model {name!r} cannot be loaded: {_first_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)
    return model, tokenizer


def with_adapters(model: Any, config: TrainConfig, outputs: Sequence[str] = ()) -> Any:
    """The model in LoRA adapters on all linear layers but the head; a reward head is trained whole."""
    try:
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    except ImportError:
        raise TrainError(
            "LoRA needs the package peft: pip install peft, or train all weights with `--lora 0`"
        ) from None
    if config.quantize != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    adapters = LoraConfig(
        r=config.lora,
        lora_alpha=config.lora_alpha or LORA_ALPHA,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="SEQ_CLS" if outputs else "CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers 5 by an older name
        return get_peft_model(model, adapters)


def packed(model: Any, config: TrainConfig, devices: Devices, half: bool, outputs: Sequence[str] = ()) -> PackedModel:
    """A module that reads packs, checked against the model's own forward pass, on its devices.

    Raises:
        TrainError: the model cannot be read in packs.
    """
    from prefdata.lm import PackedModel

    output: Any = "reward" if outputs else "logprobs"
    attention: Any = config.attention
    try:
        if devices.layout == "fsdp2":
            PackedModel(model, output, "sdpa").verify()  # whole, on the CPU: one device may be too small for it
            module = PackedModel(model, output, attention)
        else:
            module = PackedModel(model, output, attention)
            if config.quantize == "none":
                module.to(devices.device)
            with autocast(devices, half):
                module.verify()
    except ValueError as error:
        raise TrainError(f"{config.model}: {error}") from None
    if module.longest is not None and config.max_length > module.longest:
        raise TrainError(
            f"{config.model}: a row of more than {module.longest} tokens would change how this model reads all others "
            f"of a batch; set max_length to {module.longest} or less"
        )
    module.eval()
    return devices.wrap(module)


def save_policy(policy: Policy, config: TrainConfig, folder: Path) -> None:
    """Write a model folder that transformers loads without peft: adapters merged, tokenizer and template beside it.

    Raises:
        TrainError: the disk is full, or closed to us.
    """
    from safetensors import SafetensorError

    model: Any = policy.module.model
    if policy.devices.layout == "fsdp2" or config.quantize != "none":
        model = _whole(policy, config)
    elif policy.devices.main and policy.lora:
        model = model.merge_and_unload()
    if policy.devices.main:
        try:
            model.save_pretrained(folder)
            policy.tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise TrainError(
                f"the model cannot be written to {folder} ({error}): make room for it, and run the same command again"
            ) from error
    policy.devices.barrier()


def settle_padding(policy: Policy, used: Collection[int]) -> None:
    """Give a reward model a padding token that no text holds, or none.

    transformers looks for a row's last token by passing over the padding token from the right. Where that is also the
    end of turn, as in many chat models, it reads the output one token too early, without a word. Without any padding
    token it reads rows one by one, and rightly.

    Args:
        policy: a reward model.
        used: the token ids that the data hold.
    """
    tokenizer: Any = policy.tokenizer
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(tokenizer.added_tokens_decoder))
    free = next((number for number in special if number is not None and number not in used), None)
    tokenizer.pad_token = None if free is None else tokenizer.convert_ids_to_tokens(free)
    tokenizer.padding_side = "right"
    model: Any = policy.module.model
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.config.pad_token_id = free


def computes_in_half(config: TrainConfig, devices: Devices) -> bool:
    """Whether the forward pass is in bfloat16. A CPU without such instructions would be slower with it, not faster."""
    return config.precision == "bf16" or (config.precision == "auto" and devices.device.type == "cuda")


def autocast(devices: Devices, half: bool) -> Any:
    """The context in which a model computes."""
    import torch

    return torch.autocast(devices.device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()


def _whole(policy: Policy, config: TrainConfig) -> Any:
    """The trained model anew, whole and in float32 on the first process's CPU; all processes call it."""
    import torch

    named = {name: value for name, value in policy.module.model.named_parameters() if value.requires_grad}
    trained = {name: policy.devices.full_tensor(value) for name, value in named.items()}
    if not policy.devices.main:
        return None
    model, _ = load_model(config.model, policy.outputs)
    if policy.outputs:
        model.config.pad_token_id = policy.tokenizer.pad_token_id
    if policy.lora:
        model = with_adapters(model, replace(config, quantize="none"), policy.outputs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.copy_(trained[name])
    return model.merge_and_unload() if policy.lora else model


def _checkpoint_layers(model: Any) -> None:
    """Layers keep their inputs alone; transformers is about to rename the switch."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(inner, "activation_checkpointing_enable"):
        inner.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _name_of(model: str) -> str:
    """For files that others read: where a folder lies on this machine is nobody's business."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _base_of(adapters: Path) -> str:
    if not (adapters / "adapter_model.safetensors").is_file():
        raise TrainError(f"{adapters} has no adapter_model.safetensors: save the adapters again with save_pretrained")
    try:
        base = json.loads((adapters / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise TrainError(f"{adapters / 'adapter_config.json'} names no base model (base_model_name_or_path)")
    return base


def _merged(model: Any, adapters: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise TrainError(f"{adapters} holds LoRA adapters, which need the package peft: pip install peft") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        merged = PeftModel.from_pretrained(model, str(adapters)).merge_and_unload()
    merged.requires_grad_(True)
    return merged


def _quantised(devices: Devices | None) -> dict[str, Any]:
    """What `from_pretrained` is told for 4-bit weights.

    Raises:
        TrainError: there is no GPU, or no bitsandbytes.
    """
    import torch

    if devices is None or devices.device.type != "cuda":
        raise TrainError("quantize: 4bit computes on a CUDA GPU, and this run is not on one: leave it at none")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainError("quantize: 4bit needs the package bitsandbytes (pip install bitsandbytes)")
    if devices.layout == "fsdp2":
        raise TrainError("quantize: 4bit cannot be split between processes: take distributed ddp")
    from transformers import BitsAndBytesConfig

    kind = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": kind, "device_map": {"": devices.device}, "dtype": torch.bfloat16}


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
