"""The training loop: from a Parquet file and a model to a trained model's folder.

`train` reads from top to bottom. What it leaves out for now: several processes, packing, a reference cache between
runs, resuming, gradient checkpointing, quantised weights.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefdata.train.config import TrainConfig, load_plugins
from prefdata.train.data import PreferenceData, read_preferences
from prefdata.train.errors import TrainError
from prefdata.train.losses import LossSpec, find_loss
from prefdata.train.metrics import HeldOut, StepMetrics, held_out
from prefdata.train.model import MANIFEST, METRICS, Policy, load_policy, save_policy, working_folder
from prefdata.train.tokens import Encoder, Tokenised, TokenList, tokenise

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]
Step = list[list[int]]
"""The micro-batches of one optimiser step, each a list of places in the training lists."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to.

    Attributes:
        out: the model's folder. It holds `metrics.jsonl` (one row a step) and the manifest `train.json` too.
        steps: optimiser steps.
        first_loss: at step 0, before any update: log 2 for DPO.
        last_loss: at the last step, on its own batch.
        before: held-out accuracies before training; null without held-out lists.
        after: held-out accuracies after it.
        counts: lists read, trained on, held out, truncated, and left out by reason.
        seconds: of the whole run.
    """

    out: Path
    steps: int
    first_loss: float
    last_loss: float
    before: HeldOut | None
    after: HeldOut | None
    counts: dict[str, Any]
    seconds: float


def train(config: TrainConfig, say: Say = print) -> Result:
    """Train a model on preference lists.

    The reference is the policy before the first step: its log-probabilities are computed once, in the very
    micro-batches that training reads, so that the first loss is exact (log 2, log K!).

    Args:
        config: what to do.
        say: gets a line now and then.

    Raises:
        TrainError: something cannot be used; the message says what to change.
    """
    import torch

    began = time.monotonic()
    load_plugins(config.plugins)
    loss = find_loss(config.loss)
    options = loss.checked_options(config.given_loss_options, "train")
    data = read_preferences(config.data)
    _check_split(data, say)
    with working_folder(config.out) as folder:
        torch.manual_seed(config.seed)
        policy = load_policy(config)
        encoder = Encoder(policy.tokenizer, config.model, templated=data.templated)
        lists = tokenise(data, encoder, loss.reads, max_length=config.max_length, overlong=config.overlong)
        counts = _counts(data, lists)
        _describe(config, data, counts, policy, say)
        _remark_on_plain_texts(config, encoder, lists.training[0], say)
        plan = plan_steps(len(lists.training), config)
        reference = reference_logprobs(policy, lists.training, plan, say)
        held_out_ref = score(policy, lists.held_out, config.micro_batch_size)
        before = held_out(lists.held_out, held_out_ref, held_out_ref) if lists.held_out else None
        _say_held_out("before", before, say)

        losses = optimise(config, policy, loss, options, lists.training, plan, reference, folder / METRICS, say)

        held_out_lp = score(policy, lists.held_out, config.micro_batch_size)
        after = held_out(lists.held_out, held_out_lp, held_out_ref) if lists.held_out else None
        _say_held_out("after", after, say)
        save_policy(policy, folder)
        result = Result(config.out, len(plan), losses[0], losses[-1], before, after, counts, time.monotonic() - began)
        manifest = _manifest(config, options, data, result, policy)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"{config.out}: model, {METRICS}, {MANIFEST} ({result.seconds:.0f} s)")
    return result


def optimise(
    config: TrainConfig,
    policy: Policy,
    loss: LossSpec,
    options: dict[str, Any],
    lists: Sequence[TokenList],
    plan: Sequence[Step],
    reference: Sequence[Tensor | None],
    metrics: Path,
    say: Say,
) -> list[float]:
    """Take the planned steps; returns the loss at each.

    Raises:
        TrainError: a loss or a gradient is not finite.
    """
    import torch

    weights = policy.trained()
    optimiser = torch.optim.AdamW(weights, lr=0.0, weight_decay=config.weight_decay)
    losses: list[float] = []
    with metrics.open("w", encoding="utf-8") as log:
        for step, micro_batches in enumerate(plan):
            began = time.monotonic()
            rate = config.peak_learning_rate * rate_factor(step, len(plan), config.warmup, config.schedule)
            value, tokens, gathered = accumulate(policy, loss, options, lists, micro_batches, reference)
            norm = float(torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm or math.inf))
            if not math.isfinite(value) or not math.isfinite(norm):
                raise TrainError(
                    f"step {step}: the loss is {value} and the gradient's norm {norm}: lower learning_rate, or look at "
                    "the lists of this step"
                )
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(value)
            seconds = time.monotonic() - began
            row = {"step": step, "loss": value, "lr": rate, "grad_norm": norm, **gathered.as_dict()}
            row |= {"lists": sum(map(len, micro_batches)), "tokens": tokens}
            row |= {"seconds": seconds, "tokens_per_s": tokens / seconds}
            log.write(json.dumps(row) + "\n")
            log.flush()
            if step % config.log_every == 0 or step == len(plan) - 1:
                say(_line(row, len(plan)))
    return losses


def accumulate(
    policy: Policy,
    loss: LossSpec,
    options: dict[str, Any],
    lists: Sequence[TokenList],
    micro_batches: Step,
    reference: Sequence[Tensor | None],
) -> tuple[float, int, StepMetrics]:
    """Add one step's gradients to the weights, micro-batch by micro-batch.

    Returns:
        The loss over the whole batch, the tokens that went through the policy (padding not counted), and the metrics.
    """
    import torch

    micros = [policy.collate([lists[place] for place in places]) for places in micro_batches]
    masses = [loss.mass(micro.batch) for micro in micros]
    whole = torch.stack(masses).sum()
    value, tokens, gathered = 0.0, 0, StepMetrics()
    for micro, mass, places in zip(micros, masses, micro_batches, strict=True):
        lp = policy.logprobs(micro)
        ref = stack_reference(reference, places, lp)
        # Weighted by what stands in it, not by one over their number: micro-batches differ in edges and weights.
        part = loss(lp, ref, micro.batch, **options) * (mass / whole)
        part.backward()
        value += float(part.detach())
        tokens += int(micro.rows.attention_mask.sum())
        gathered.add(lp, ref, micro.batch)
    return value, tokens, gathered


def plan_steps(count: int, config: TrainConfig) -> list[Step]:
    """Which lists each micro-batch of each step holds: decided before anything is computed, by the seed alone.

    The lists are shuffled anew each epoch; an epoch's last batch may be smaller.

    Args:
        count: lists to train on.
        config: seed, batch_size, micro_batch_size, and max_steps or epochs.
    """
    per_epoch = math.ceil(count / config.batch_size)
    steps = config.max_steps or per_epoch * config.epochs
    plan: list[Step] = []
    for epoch in range(math.ceil(steps / per_epoch)):
        order = np.random.default_rng([config.seed, epoch]).permutation(count).tolist()
        for start in range(0, count, config.batch_size):
            batch = order[start : start + config.batch_size]
            size = config.micro_batch_size
            plan.append([batch[place : place + size] for place in range(0, len(batch), size)])
    return plan[:steps]


def rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """The learning rate of a step (from 0) as a share of the peak, above 0 and at most 1.

    It rises in `warmup * steps` equal stairs to the peak, and then falls to what would be 0 at step `steps`.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    if schedule == "constant":
        return 1.0
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2


def reference_logprobs(
    policy: Policy, lists: Sequence[TokenList], plan: Sequence[Step], say: Say = print
) -> list[Tensor | None]:
    """Reference log-probabilities `[K]` of every list that the plan reads, null for the others.

    Computed in the plan's own micro-batches: another padding changes the last bits, and with them the first loss.
    """
    reference: list[Tensor | None] = [None] * len(lists)
    read = len({place for step in plan for places in step for place in places})
    say(f"reference log-probabilities of {read} lists")
    with policy.as_reference():
        for places in (places for step in plan for places in step):
            if any(reference[place] is None for place in places):
                values = policy.logprobs(policy.collate([lists[place] for place in places])).cpu()
                for place, row in zip(places, values, strict=True):
                    if reference[place] is None:
                        reference[place] = row[: len(lists[place].responses)].clone()
    return reference


def stack_reference(reference: Sequence[Tensor | None], places: Sequence[int], like: Tensor) -> Tensor:
    """The reference of the lists at `places` as `[N, K]`, of the shape, dtype and device of `like`, 0 where masked."""
    stacked = like.new_zeros(like.shape)
    for number, place in enumerate(places):
        row = reference[place]
        assert row is not None
        stacked[number, : len(row)] = row.to(like)
    return stacked


def score(policy: Policy, lists: Sequence[TokenList], size: int) -> list[list[float]]:
    """The policy's log-probabilities of every response of every list, `size` lists at a time, alike in length."""
    import torch

    scores: list[list[float]] = [[] for _ in lists]
    order = sorted(range(len(lists)), key=lambda place: lists[place].longest)
    with torch.no_grad():
        for start in range(0, len(order), size):
            places = order[start : start + size]
            values = policy.logprobs(policy.collate([lists[place] for place in places])).tolist()
            for place, row in zip(places, values, strict=True):
                scores[place] = row[: len(lists[place].responses)]
    return scores


def _check_split(data: PreferenceData, say: Say) -> None:
    if not data.split:
        say(f"{data.path} has no column 'split': all rows are trained on, none is held out")
    elif data.lists and all(entry.held_out for entry in data.lists):
        raise TrainError(
            f"{data.path} has a column 'split' but no row of the split train: there is nothing to train on"
        )


def _counts(data: PreferenceData, lists: Tokenised) -> dict[str, Any]:
    return {
        "rows": data.rows,
        "training": len(lists.training),
        "held_out": len(lists.held_out),
        "truncated": lists.truncated,
        "left_out": dict(lists.left_out.most_common()),
        "responses_left_out": dict(data.responses_left_out.most_common()),
    }


def _describe(config: TrainConfig, data: PreferenceData, counts: dict[str, Any], policy: Policy, say: Say) -> None:
    say(f"{data.path} ({data.format}): {counts['training']} lists to train on, {counts['held_out']} held out")
    for reason, count in counts["left_out"].items():
        say(f"  left out: {count} x {reason}")
    for reason, count in counts["responses_left_out"].items():
        say(f"  responses left out: {count} x {reason}")
    if counts["truncated"]:
        say(f"  truncated: {counts['truncated']} lists to {config.max_length} tokens")
    trained = sum(parameter.numel() for parameter in policy.trained())
    how = f"LoRA of rank {config.lora}" if policy.lora else "all weights"
    say(f"{config.model} on {policy.device}: {how}, {trained:,} parameters in training")


def _remark_on_plain_texts(config: TrainConfig, encoder: Encoder, first: TokenList, say: Say) -> None:
    plain = isinstance(first.source.prompt, str) and not encoder.is_rendered(first.prompt)
    if plain and getattr(encoder.tokenizer, "chat_template", None):
        say(
            f"prompts are texts, used as they are; {config.model} has a chat template, which only messages go through: "
            "to train it as a chat model, export lists or trl-pairs-conversational"
        )


def _line(row: dict[str, Any], steps: int) -> str:
    shown = [f"step {row['step'] + 1}/{steps}", f"loss {row['loss']:.4f}"]
    if row["margin"] is not None:
        shown += [f"margin {row['margin']:+.3f}", f"accuracy {row['accuracy']:.2f}"]
        shown += [f"chosen {row['chosen_change']:+.3f}", f"rejected {row['rejected_change']:+.3f}"]
    return "  ".join([*shown, f"{row['tokens_per_s']:.0f} tokens/s"])


def _say_held_out(when: str, found: HeldOut | None, say: Say) -> None:
    for name, value in (("implicit reward", found and found.reward), ("mean log-prob.", found and found.mean_logprob)):
        if value:
            say(
                f"held out, {when} training: accuracy of the {name} {value.value:.3f} "
                f"[{value.low:.2f}, {value.high:.2f}] ({value.edges} edges of {value.groups} groups)"
            )


def _manifest(
    config: TrainConfig, options: dict[str, Any], data: PreferenceData, result: Result, policy: Policy
) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "peft", "numpy", "pyarrow", "prefdata"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    with data.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    results = {key: value for key, value in asdict(result).items() if key not in ("out", "counts")}
    return {
        "config": {**config.as_dict(), "loss_options": options},
        "data": {"path": str(data.path), "sha256": digest, "format": data.format, "metadata": data.metadata},
        "counts": result.counts,
        "device": str(policy.device),
        "versions": versions,
        "results": results,
    }
