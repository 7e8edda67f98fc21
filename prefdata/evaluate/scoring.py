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
from prefdata.train.hashes import tokenizer_hash, weights_hash
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
    """

    split: Split = "valid"
    beta: float = 0.1
    max_length: int = 2048
    pack_tokens: int = 2048
    device: str = "auto"


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
    against = _reference_of(model, reference)
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
    encoder = Encoder(loaded.tokenizer, loaded.name, templated=data.templated)
    made = tokenise(replace(data, lists=chosen), encoder, frozenset(), max_length=settings.max_length, overlong="drop")
    return list(made.training), dict(made.left_out)


def _lengths(rows: Sequence[Row]) -> FloatArray:
    return np.array([max(1, len(row.scored)) for row in rows], dtype=np.float64)


def _reference_of(model: str, reference: str | None) -> str | None:
    """The reference that was named, else what the folder's manifest says the policy was trained from."""
    if reference == "none":
        return None
    if reference is not None:
        return reference
    manifest = Path(model).expanduser() / "manifest.json"
    try:
        named = json.loads(manifest.read_text(encoding="utf-8"))["config"]["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        return resolve(str(named))
    except EngineError:
        return None


class Loaded:
    """A model, ready for packs."""

    def __init__(self, name: str, folder_hash: str, output: Literal["logprobs", "reward"], model: Any, tokenizer: Any):
        from prefdata.lm.model import PackedModel

        self.name, self.hash, self.output, self.tokenizer = name, folder_hash, output, tokenizer
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
        source = resolve(named)
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with LOADING:
                config = AutoConfig.from_pretrained(source, trust_remote_code=False)
                classifies = any("SequenceClassification" in name for name in config.architectures or ())
                maker = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
                model = maker.from_pretrained(
                    source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
                )
                tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            if classifies and model.config.num_labels != 1:
                raise EngineError(f"the model {named} has {model.config.num_labels} outputs; a reward model has one")
            packed = cls(Path(source).name, weights_hash(source), "reward" if classifies else "logprobs",
                         model.to(device).eval(), tokenizer)  # fmt: skip
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
                yield numbers, self.model(laid).double().cpu().numpy(), laid.lengths


def _deal(made: list[FloatArray], numbers: Sequence[int], groups: Sequence[Sequence[Row]], values: FloatArray) -> None:
    """Give each group its rows' values."""
    start = 0
    for number in numbers:
        made[number] = values[start : start + len(groups[number])]
        start += len(groups[number])
