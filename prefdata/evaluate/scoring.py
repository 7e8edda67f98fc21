"""A model's numbers for every response of an export: rewards, or log-probabilities under policy and reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefdata.engines.models import LOADING, load_quietly, require_local, resolve
from prefdata.errors import EngineError
from prefdata.evaluate.measures import Judged
from prefdata.lm import Row, first_fit_decreasing, pack
from prefdata.train.data import PreferenceData
from prefdata.train.encoder import Encoder
from prefdata.train.errors import TrainError
from prefdata.train.hashes import tokenizer_hash, weights_hash
from prefdata.train.model import load_model
from prefdata.train.preferences import TokenList
from prefdata.train.reference import Scorer
from prefdata.train.tokens import tokenise

if TYPE_CHECKING:
    from prefdata.lm.model import PackedModel

FloatArray = NDArray[np.float64]
Say = Callable[[str], None]
Split = Literal["valid", "train", "all"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is evaluated.

    Attributes:
        split: which rows: those held out, those trained on, or all. A file without a split column has only `train`.
        beta: by what a policy's implicit reward is scaled.
        max_length: tokens of a prompt and its longest response; longer lists are left out and counted.
        pack_tokens: tokens in one forward pass.
        device: auto, cpu, cuda, ...
        template: `auto`: the model's chat template, or what the model was trained with; `none`: messages are joined as
            they are, for a base model.
    """

    split: Split = "valid"
    beta: float = 0.1
    max_length: int = 2048
    pack_tokens: int = 2048
    device: str = "auto"
    template: Literal["auto", "none"] = "auto"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model said of a file.

    Attributes:
        lists: with the model's numbers.
        annotator: what the model is called: `reward:NAME@HASH` or `policy:NAME@HASH`.
        identity: hashes of all that decided the numbers.
        settings: how it was asked.
        left_out: how many lists, by reason.
        reference: the reference's name; null where there is none.
    """

    lists: list[Judged]
    annotator: str
    identity: str
    settings: Settings
    left_out: dict[str, int]
    reference: str | None


def score_lists(
    data: PreferenceData, model: str, *, reference: str | None, settings: Settings, say: Say = print
) -> Scored:
    """Score every response of the chosen split.

    Args:
        data: what `read_preferences` returns.
        model: a folder, a known name or a hub id: a causal language model, or a classifier with one output on top of
            one.
        reference: likewise, of a policy; `none`; or null for the model that the policy was trained from, if its folder
            says so.
        settings: see there.
        say: gets a line now and then.

    Raises:
        EngineError: a model cannot be loaded or scored.
        TrainError: the file cannot be used.
    """
    require_local()
    loaded = Loaded.of(model, settings)
    lists, left_out = tokenised(data, loaded, settings)
    say(f"{len(lists)} lists with {sum(len(one.rows) for one in lists)} responses under {loaded.name}")
    if loaded.output == "reward":
        rewards = loaded.rewards([one.rows for one in lists], settings)
        judged = [
            Judged(one.source, reward, None, None, _lengths(one.rows))
            for one, reward in zip(lists, rewards, strict=True)
        ]
        return Scored(judged, loaded.annotator, loaded.hash, settings, left_out, None)
    lp = loaded.logprobs([one.rows for one in lists], settings)
    against = _reference_of(model, reference, say)
    ref: list[FloatArray] | None = None
    identity = loaded.hash
    if against is not None:
        del loaded.model
        other = Loaded.of(against, settings)
        if other.output != "logprobs":
            raise EngineError(f"the reference {against} is no causal language model")
        say(f"the same under the reference {other.name}")
        ref = other.logprobs([one.reference for one in lists], settings)
        identity += f" over {other.hash}"
    judged = [
        Judged(
            one.source,
            None if ref is None else settings.beta * (lp[number] - ref[number]),
            lp[number],
            None if ref is None else ref[number],
            _lengths(one.rows),
        )
        for number, one in enumerate(lists)
    ]
    return Scored(judged, loaded.annotator, identity, settings, left_out, against)


def tokenised(data: PreferenceData, loaded: Loaded, settings: Settings) -> tuple[list[TokenList], dict[str, int]]:
    """The lists of the chosen split as token ids, and how many were left out, by reason.

    Raises:
        EngineError: the split is empty.
        TrainError: the file cannot be used.
    """
    wanted = {"valid": (True,), "train": (False,), "all": (True, False)}[settings.split]
    # The tokeniser asks for something to train on: here all that is chosen is that.
    chosen = [replace(one, held_out=False) for one in data.lists if one.held_out in wanted]
    if not chosen:
        held = "holds nothing out (no row has the split valid)" if settings.split == "valid" else "has no such rows"
        raise EngineError(f"{data.path} {held}: choose --split all, or export with a step `split`")
    encoder = Encoder(loaded.tokenizer, loaded.name, templated=data.templated, template=loaded.template)
    # Some models read every row of a pack otherwise where one is longer than this.
    longest = min(settings.max_length, loaded.model.longest or settings.max_length)
    try:
        made = tokenise(replace(data, lists=chosen), encoder, frozenset(), max_length=longest, overlong="drop")
    except TrainError as error:
        raise TrainError(str(error).replace("nothing to train on", "nothing to evaluate")) from None
    return list(made.training), dict(made.left_out)


def _lengths(rows: Sequence[Row]) -> FloatArray:
    return np.array([max(1, len(row.scored)) for row in rows], dtype=np.float64)


def _reference_of(model: str, reference: str | None, say: Say) -> str | None:
    """The reference's name: as given, or what the manifest in the model's folder says that it was trained from."""
    if reference == "none":
        return None
    if reference is not None:
        return reference
    named = _trained_with(model).get("model")
    if named is None:
        return None
    try:
        return _source(str(named))
    except EngineError:
        say(f"what it was trained from ({named}) is not here, so nothing is said of its reward: name it as reference")
        return None


def _source(named: str) -> str:
    """What is loaded for a name; a folder of adapters has no config.json, and stands for itself.

    Raises:
        EngineError: there is no such model.
    """
    return named if (Path(named) / "adapter_config.json").is_file() else resolve(named)


def _trained_with(model: str) -> dict[str, Any]:
    """The configuration in the manifest that `prefdata train` left in a model's folder; empty for any other."""
    try:
        told = json.loads((Path(model).expanduser() / "manifest.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


class Loaded:
    """A model, ready for packs."""

    def __init__(
        self,
        name: str,
        weights: str,
        output: Literal["logprobs", "reward"],
        model: Any,
        tokenizer: Any,
        template: Literal["auto", "none"],
    ) -> None:
        from prefdata.lm.model import PackedModel

        self.name, self.hash, self.output, self.tokenizer = name, weights, output, tokenizer
        self.template = template
        self.model: PackedModel = PackedModel(model, output=output)

    @property
    def annotator(self) -> str:
        """What its rows call it."""
        kind = "policy" if self.output == "logprobs" else "reward"
        return f"{kind}:{self.name}@{self.hash[:8]}"

    @classmethod
    def of(cls, named: str, settings: Settings) -> Loaded:
        """Load a causal language model or a sequence classifier, whichever the folder holds."""
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        load_quietly()
        source = _source(named)
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with LOADING:
                if source == named and (Path(named) / "adapter_config.json").is_file():
                    classifies = False
                    model, tokenizer = load_model(source)  # merged into their base model
                else:
                    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
                    classifies = any("SequenceClassification" in name for name in config.architectures or ())
                    maker = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
                    model = maker.from_pretrained(
                        source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
                    )
                    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            if classifies and model.config.num_labels != 1:
                raise EngineError(f"the model {named} has {model.config.num_labels} outputs; a reward model has one")
            # Of the module, as the trainer hashes it: so its reference file knows what was scored here.
            found = weights_hash(model)
            output: Literal["logprobs", "reward"] = "reward" if classifies else "logprobs"
            joined = "none" in (settings.template, _trained_with(source).get("template"))
            template: Literal["auto", "none"] = "none" if joined else "auto"
            packed = cls(Path(source).name, found, output, model.to(device).eval(), tokenizer, template)
            packed.model.verify()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"the model {named!r} cannot be loaded: {error}") from error
        return packed

    def logprobs(self, groups: Sequence[Sequence[Row]], settings: Settings) -> list[FloatArray]:
        """For each group the sum of each row's scored log-probabilities."""
        made: list[FloatArray] = [np.zeros(0)] * len(groups)
        for numbers, values, lengths in self.packs(groups, settings):
            ends = np.cumsum(lengths)
            sums = [float(values[end - length : end].sum()) for end, length in zip(ends, lengths, strict=True)]
            _deal(made, numbers, groups, np.array(sums))
        return made

    def rewards(self, groups: Sequence[Sequence[Row]], settings: Settings) -> list[FloatArray]:
        """For each group the reward of each row."""
        made: list[FloatArray] = [np.zeros(0)] * len(groups)
        for numbers, values, _ in self.packs(groups, settings):
            _deal(made, numbers, groups, values[:, 0])
        return made

    def scorer(self) -> Scorer:
        """Whose log-probabilities these are, as the trainer's reference file names them."""
        attention = self.model.kind.removesuffix("_attention")
        return Scorer(self.name, self.hash, tokenizer_hash(self.tokenizer), "fp32", attention)

    def packs(self, groups: Sequence[Sequence[Row]], settings: Settings) -> Any:
        """Yields which groups a pack holds, what the model made of it, and the scored tokens of each of its rows."""
        import torch

        sizes = [sum(len(row.tokens) for row in rows) for rows in groups]
        with torch.inference_mode():
            for numbers in first_fit_decreasing(sizes, settings.pack_tokens):
                laid = pack([groups[number] for number in numbers])
                values = self.model(laid).double().cpu().numpy()
                if not np.isfinite(values).all():
                    raise EngineError(
                        f"the model {self.name} gives numbers that are none (NaN): its weights are damaged"
                    )
                yield numbers, values, laid.lengths


def _deal(made: list[FloatArray], numbers: Sequence[int], groups: Sequence[Sequence[Row]], values: FloatArray) -> None:
    """Give each group its rows' values."""
    start = 0
    for number in numbers:
        made[number] = values[start : start + len(groups[number])]
        start += len(groups[number])
