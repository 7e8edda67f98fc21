"""What a training run is told: `TrainConfig`, its defaults, and its refusals.

Every field either acts or is refused, whatever the others say: one that would change nothing is somebody's mistake.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from prefdata.train.errors import TrainError, nearest
from prefdata.train.losses import LOSSES

CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": ("linear", "cosine", "constant"),
    "template": ("auto", "none"),
    "overlong": ("drop", "truncate", "error"),
    "precision": ("auto", "fp32", "bf16"),
    "quantize": ("none", "4bit"),
    "attention": ("auto", "sdpa", "flex"),
    "distributed": ("auto", "ddp", "fsdp2"),
}
LORA_ALPHA = 16.0
NO_PART_OF_THE_RUN = ("out", "log_every", "resume", "tensorboard", "save_every", "distributed")
"""Fields that change nothing in what is computed: a run goes on where only they differ."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: an exported Parquet file, another in TRL's columns, or a Hugging Face dataset folder.
        model: a folder or a hub id, with safetensors and a tokenizer; a folder of LoRA adapters is merged into its base
            model, and training (and the reference) starts from there.
        out: the folder to write. It may exist only if it is empty or an earlier run's, which is then replaced.
        loss: one that `prefdata losses` lists, or one of your plugins'.
        beta: the loss's beta; null: the loss's own default.
        loss_options: further options of the loss, by name.
        plugins: Python files of yours that register losses.
        reference: what the policy is held to. Null: the policy as it starts. A Parquet file of an earlier run
            (`DIR/reference.parquet`): log-probabilities of that same start, of which only the missing ones are
            computed. A model folder: another model.
        max_steps: optimiser steps; the data are gone through as often as that takes. Null: `epochs` decides.
        epochs: times that the data are gone through; null: 1, unless `max_steps` decides.
        batch_size: lists in one optimiser step, over all processes.
        pack_tokens: tokens in one forward pass; null: 2,048 on a CPU, 16,384 on a GPU. A longer list has a pass of its
            own. Changes memory and speed, not the gradient.
        learning_rate: the peak; null: 5e-5 with LoRA, 1e-6 without.
        schedule: linear or cosine to zero, or constant.
        warmup: the share of the steps over which the learning rate rises; 0 to 1.
        weight_decay: AdamW's.
        max_grad_norm: gradients are scaled down to this norm; 0: never.
        lora: the rank of LoRA adapters on all linear layers but the head; 0: train all weights.
        lora_alpha: adapters are scaled by lora_alpha / lora; null: 16.
        quantize: none, or 4bit: the frozen weights in NF4, with LoRA on a GPU (needs bitsandbytes).
        precision: of the computation: fp32, bf16 (autocast; weights stay fp32), or auto: bf16 on a GPU, fp32 elsewhere.
        gradient_checkpointing: compute activations again in the backward pass: less memory, a third more time.
        attention: sdpa (an explicit mask), flex (FlexAttention, a GPU), or auto: flex where it can be had.
        distributed: how several processes (torchrun, accelerate launch) work together: ddp (each holds all weights),
            fsdp2 (weights are split between them), or auto: ddp.
        max_length: tokens of a prompt and its longest response.
        template: auto: messages go through the model's chat template. none: a base model reads their contents, joined
            by blank lines as the engines join them, and an end-of-sequence token ends each response.
        overlong: what becomes of a longer list: drop; truncate (its responses, all at the same place); error.
        rationale_template: the prompt of a rationale, for losses that read some: a text with {prompt}, {first} and
            {second}; null: the trainer's own.
        eval_every: steps between two looks at the held-out lists; 0: before and after training only.
        early_stopping: stop once that many looks in a row brought no better held-out accuracy (of single responses:
            AUC), and keep the weights of the best; 0: never.
        save_every: steps between two checkpoints; 0: none.
        resume: auto (go on where the same command was interrupted), never (start over), or the path of a checkpoint.
        seed: of the adapters' start and the order of the lists.
        deterministic: only algorithms that give the same bits each time (slower on a GPU).
        log_every: steps between two lines on the screen; metrics.jsonl has every step.
        tensorboard: also write the metrics for TensorBoard, to DIR/tensorboard.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ...
    """

    data: Path
    model: str
    out: Path
    loss: str = "dpo"
    beta: float | None = None
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    reference: str | None = None
    max_steps: int | None = None
    epochs: int | None = None
    batch_size: int = 8
    pack_tokens: int | None = None
    learning_rate: float | None = None
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora: int = 8
    lora_alpha: float | None = None
    quantize: str = "none"
    precision: str = "auto"
    gradient_checkpointing: bool = False
    attention: str = "auto"
    distributed: str = "auto"
    max_length: int = 1024
    template: str = "auto"
    overlong: str = "drop"
    rationale_template: str | None = None
    eval_every: int = 0
    early_stopping: int = 0
    save_every: int = 50
    resume: str = "auto"
    seed: int = 0
    deterministic: bool = False
    log_every: int = 1
    tensorboard: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with, in a sentence."""
        self._settle_types()
        for name in ("max_steps", "epochs", "batch_size", "log_every"):
            self._check_range(name, whole=True, low=1)
        for name in ("max_length", "pack_tokens"):
            self._check_range(name, whole=True, low=2)
        for name in ("lora", "seed", "eval_every", "early_stopping", "save_every"):
            self._check_range(name, whole=True, low=0)
        for name in ("weight_decay", "max_grad_norm", "warmup"):
            self._check_range(name, low=0)
        for name in ("beta", "learning_rate", "lora_alpha"):
            self._check_range(name, low=0, above=True)
        if self.warmup > 1:
            raise TrainError(f"warmup is a share of the steps from 0 to 1, not {self.warmup}")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise TrainError(f"{name} is one of {', '.join(allowed)}, not {value!r}{nearest(str(value), allowed)}")
        for name in ("gradient_checkpointing", "deterministic", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise TrainError(f"{name} is true or false, not {getattr(self, name)!r}")
        self._check_together()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "train") -> TrainConfig:
        """Make a configuration from the keys of a YAML file or of a command line.

        Numbers may be texts (YAML reads `1e-4` as one). `loss_options.NAME`, and a key that is no field but an option
        of the loss that is named, are options of the loss; plugins are imported to know them.

        Args:
            mapping: field names and values.
            where: names the file or step in an error.

        Raises:
            TrainError: a key is unknown or missing, or its value cannot be used.
        """
        known = {entry.name: entry for entry in fields(cls)}
        mapping = _with_loss_options(mapping, list(known), where)
        for name, entry in known.items():
            required = entry.default is MISSING and entry.default_factory is MISSING
            if required and mapping.get(name) is None:
                raise TrainError(f"{where}: the key {name!r} is missing")
        values = {name: _number(value, str(known[name].type)) for name, value in mapping.items()}
        try:
            return cls(**values)
        except TrainError as error:
            raise TrainError(f"{where}: {error}") from None

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-5 if self.lora else 1e-6

    @property
    def given_loss_options(self) -> dict[str, Any]:
        """The loss's options as far as they were given, beta among them."""
        return {**self.loss_options, **({} if self.beta is None else {"beta": self.beta})}

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: what JSON holds, with the learning rate that was used."""
        return {
            **asdict(self),
            "data": str(self.data),
            "out": str(self.out),
            "plugins": list(self.plugins),
            "learning_rate": self.peak_learning_rate,
        }

    def _settle_types(self) -> None:
        for name in ("data", "out"):
            value = getattr(self, name)
            if not isinstance(value, str | Path) or not str(value):
                raise TrainError(f"{name} is a path, not {value!r}")
            object.__setattr__(self, name, Path(value))
        for name in ("model", "loss", "resume", "reference", "device"):
            value = getattr(self, name)
            if value is None and name == "reference":
                continue
            if not isinstance(value, str | Path) or not str(value):
                raise TrainError(f"{name} is a text, not {value!r}")
            object.__setattr__(self, name, str(value))
        if self.rationale_template is not None and not isinstance(self.rationale_template, str):
            raise TrainError(f"rationale_template is a text, not {self.rationale_template!r}")
        plugins: Any = self.plugins
        files = (plugins,) if isinstance(plugins, str | Path) else plugins
        if not isinstance(files, list | tuple) or not all(isinstance(file, str | Path) for file in files):
            raise TrainError(f"plugins is a list of Python files, not {plugins!r}")
        object.__setattr__(self, "plugins", tuple(str(file) for file in files))
        if not isinstance(self.loss_options, Mapping):
            raise TrainError(f"loss_options maps names to values, it is not {self.loss_options!r}")

    def _check_range(self, name: str, *, low: float, whole: bool = False, above: bool = False) -> None:
        value = getattr(self, name)
        nullable = ("max_steps", "epochs", "pack_tokens", "beta", "learning_rate", "lora_alpha")
        if value is None and name in nullable:
            return
        kind = "a whole number" if whole else "a number"
        bound = f"above {low}" if above else f"of at least {low}"
        right_type = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right_type or not math.isfinite(value) or value < low or (above and value == low):
            raise TrainError(f"{name} is {kind} {bound}, not {value!r}")

    def _check_together(self) -> None:
        if self.max_steps is not None and self.epochs is not None:
            raise TrainError("max_steps and epochs both say how long to train: give one of them")
        if self.beta is not None and "beta" in self.loss_options:
            raise TrainError("beta and loss_options.beta are one option: give one of them")
        if not self.lora and self.lora_alpha is not None:
            raise TrainError("lora_alpha scales LoRA adapters, and lora is 0: leave it out, or set lora")
        if not self.lora and self.quantize != "none":
            raise TrainError("quantised weights cannot be trained: quantize goes with LoRA adapters, and lora is 0")
        if self.early_stopping and not self.eval_every:
            raise TrainError("early_stopping counts looks at the held-out lists: set eval_every to the steps between")


def _with_loss_options(mapping: Mapping[str, Any], known: list[str], where: str) -> dict[str, Any]:
    """The mapping with all options of the loss under `loss_options`.

    Raises:
        TrainError: a key is neither a field nor an option of the loss.
    """
    fields_given = {name: value for name, value in mapping.items() if name in known}
    others = {str(name): value for name, value in mapping.items() if name not in known}
    if not others:
        return fields_given
    plugins = mapping.get("plugins") or ()
    if isinstance(plugins, str | list | tuple):  # anything else is refused by the field
        load_plugins((plugins,) if isinstance(plugins, str) else tuple(map(str, plugins)))
    loss = str(mapping.get("loss") or TrainConfig.loss)
    takes = list(LOSSES[loss].options) if loss in LOSSES else []
    options: dict[str, Any] = {}
    for name, value in others.items():
        option = name.removeprefix("loss_options.")
        if option == name and name not in takes:
            hint = nearest(name, [*known, *takes]) or f" (nor is it an option of the loss {loss!r})"
            raise TrainError(f"{where}: there is no key {name!r}{hint}")
        options[option] = value
    given = fields_given.get("loss_options") or {}
    if not isinstance(given, Mapping):
        raise TrainError(f"{where}: loss_options maps names to values, it is not {given!r}")
    return {**fields_given, "loss_options": {**given, **options}}


def load_plugins(plugins: tuple[str, ...]) -> None:
    """Import the user's own Python files, each once.

    A file gets the module name that a pipeline's `plugins:` gives it, so that a file with both steps and losses is
    imported once and registers nothing twice.

    Raises:
        TrainError: there is no such file, or importing it fails.
    """
    for plugin in plugins:
        path = Path(plugin)
        if not path.is_file():
            raise TrainError(f"plugins: there is no file {path}")
        name = f"prefdata_plugin_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise TrainError(f"plugins: {path} is no Python file: its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except TrainError:
            del sys.modules[name]
            raise
        except Exception as error:
            del sys.modules[name]
            raise TrainError(f"plugins: {path} cannot be imported: {type(error).__name__}: {error}") from error


def _number(value: Any, kind: str) -> Any:
    """A text as the number that its field wants; anything else as it is."""
    if isinstance(value, str):
        for name, make in (("int", int), ("float", float)):
            if kind.startswith(name):
                try:
                    return make(value)
                except ValueError:
                    return value
    return value
