"""The policy: loading it, with or without LoRA, its log-probabilities, and the folder it is saved in."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.lm import sequence_logprobs
from prefdata.train.batch import MicroBatch, collate
from prefdata.train.config import TrainConfig
from prefdata.train.errors import TrainError
from prefdata.train.tokens import TokenList

if TYPE_CHECKING:
    import torch
    from torch import Tensor

METRICS = "metrics.jsonl"
MANIFEST = "train.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """The model in training.

    Weights are float32 everywhere (an update of 1e-6 vanishes in bfloat16). A GPU computes in bfloat16 by autocast, a
    CPU in float32: without bfloat16 instructions it would be slower there, not faster.

    Attributes:
        model: of transformers, or a peft model around it. In eval mode always: dropout would make policy and reference
            differ where they are equal.
        tokenizer: its tokenizer.
        device: where it lies.
        lora: whether it has adapters.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    lora: bool

    def trained(self) -> list[Tensor]:
        """The parameters that the optimiser changes."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def collate(self, lists: Sequence[TokenList]) -> MicroBatch:
        """One micro-batch, on the policy's device."""
        return collate(lists, pad_id=self.tokenizer.pad_token_id or 0, device=self.device)

    def logprobs(self, micro: MicroBatch) -> Tensor:
        """Summed log-probabilities of the responses, `[N, K]` float32, 0 where masked."""
        import torch

        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            return micro.as_lists(sequence_logprobs(self.model, micro.rows))

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[None]:
        """The weights before training: adapters off. Without adapters, valid only before the first step."""
        import torch

        with torch.no_grad(), self.model.disable_adapter() if self.lora else contextlib.nullcontext():
            yield


def load_policy(config: TrainConfig) -> Policy:
    """Load the model and its tokenizer, and put adapters on it where LoRA is wanted.

    Raises:
        TrainError: the model or the device cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the screen belongs to the run's own lines
    device = _device(config.device)
    try:
        # Safetensors only: other weights are pickles, which run code.
        model = AutoModelForCausalLM.from_pretrained(
            config.model, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(config.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TrainError(f"the model {config.model!r} cannot be loaded: {_first_line(error)}") from None
    if config.lora:
        from peft import LoraConfig, get_peft_model

        adapters = LoraConfig(
            r=config.lora,
            lora_alpha=config.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers 5 by an older name
            model = get_peft_model(model, adapters)
    return Policy(model.to(device).eval(), tokenizer, device, bool(config.lora))


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainError(f"the device {name!r} cannot be used: {_first_line(error)}") from None
    return device


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """A folder `OUT.partial` that becomes `out` when the block ends well.

    When it does not, the folder stays for its metrics to be looked at, if it has any.

    Raises:
        TrainError: `out` holds something that is not an earlier run's.
    """
    partial, replaced = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.replaced")
    for folder, sign in ((out, MANIFEST), (replaced, MANIFEST), (partial, METRICS)):
        if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / sign).is_file())):
            raise TrainError(f"{folder} exists and is not what an earlier training run left: name another folder")
    if replaced.exists() and not out.exists():
        replaced.rename(out)  # an earlier run was killed between the two renames below
    for leftover in (partial, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir(parents=True)
    (partial / METRICS).touch()
    try:
        yield partial
    except BaseException:
        if not (partial / METRICS).stat().st_size:
            shutil.rmtree(partial)
        raise
    _settle(partial)
    if out.exists():
        out.rename(replaced)
    partial.rename(out)
    if replaced.exists():
        shutil.rmtree(replaced)


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a model folder that transformers loads without peft: adapters merged, tokenizer and template beside it."""
    model = policy.model.merge_and_unload() if policy.lora else policy.model
    model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


def _settle(folder: Path) -> None:
    """Onto the disk before the rename, which would otherwise outlive the contents in a power cut."""
    mode = (folder / METRICS).stat().st_mode
    for path in (path for path in folder.rglob("*") if path.is_file()):
        path.chmod(mode)  # safetensors are written for their owner alone, unlike all the rest
        with path.open("rb") as file:
            os.fsync(file.fileno())
