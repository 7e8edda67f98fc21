"""A run: what it reads, how far it has come, and what it comes to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefdata.train.config import NO_PART_OF_THE_RUN, TrainConfig
from prefdata.train.data import PreferenceData
from prefdata.train.devices import Devices
from prefdata.train.errors import TrainError
from prefdata.train.folder import PARTS, digest_of
from prefdata.train.losses import LossSpec
from prefdata.train.metrics import HeldOut
from prefdata.train.model import Policy, load_reference
from prefdata.train.plan import Step, packs_of, plan_steps
from prefdata.train.preferences import TokenList
from prefdata.train.reference import REFERENCE, Reference
from prefdata.train.scoring import Group, fill_reference, group_of_list, mismatched_groups
from prefdata.train.screen import Screen
from prefdata.train.tokens import Tokenised

SHAPES = 8
"""Sizes that packs have at most where they are compiled for."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to.

    Attributes:
        out: the model's folder. It holds `metrics.jsonl` (one row a step) and `manifest.json` too.
        steps: optimiser steps taken; fewer than planned where early stopping ended it.
        first_loss: at step 0, before any update: log 2 for DPO.
        last_loss: at the last step, on its own batch.
        before: what the model made of the held-out lists before training; null without held-out lists.
        after: what the saved weights make of them.
        kept_step: after how many steps the saved weights were reached: those of the best look at the held-out lists
            with early stopping, else the last.
        counts: lists read, trained on, held out, truncated, and left out by reason.
        seconds: of the whole run.
    """

    out: Path
    steps: int
    first_loss: float
    last_loss: float
    before: HeldOut | None
    after: HeldOut | None
    kept_step: int
    counts: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Run:
    """All that a step reads.

    Attributes:
        config: as it was given.
        devices: one process or several.
        policy: the model in training.
        loss: the loss.
        options: all of its options.
        needed: what it needs.
        lists: to train on.
        held_out: not to be trained on.
        plan: the lists of each step.
        reference: null where the loss needs none.
        values: names of the further numbers that the data hold.
        budget: tokens in one pass.
        folder: where it is written.
        fingerprint: of all that a result depends on.
        screen: the lines that people read.
    """

    config: TrainConfig
    devices: Devices
    policy: Policy
    loss: LossSpec
    options: Mapping[str, Any]
    needed: frozenset[str]
    lists: Sequence[TokenList]
    held_out: Sequence[TokenList]
    plan: Sequence[Step]
    reference: Reference | None
    values: tuple[str, ...]
    budget: int
    folder: Path
    fingerprint: str
    screen: Screen

    def mismatches(self, step: int) -> list[Group]:
        """A step's prompts with other prompts' responses, drawn by the seed and the step."""
        return mismatched_groups([self.lists[place] for place in self.plan[step]], self.config.seed + step)

    def packs(self, step: int) -> list[list[TokenList]]:
        """The lists of a step as they go through the model together."""
        lists = [self.lists[place] for place in self.plan[step]]
        return packs_of(lists, [entry.size for entry in lists], self.budget)


@dataclass(slots=True)
class Progress:
    """How far a run has come: what a checkpoint keeps beside weights.

    Attributes:
        step: optimiser steps taken.
        memory: what the loss keeps between steps.
        best: the best held-out score so far; null before the first look.
        best_step: steps taken when it was found.
        looks: looks at the held-out lists since then.
        losses: the first step's and the last's.
    """

    step: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    best_step: int = 0
    looks: int = 0
    losses: list[float] = field(default_factory=list)

    def as_dict(self, fingerprint: str) -> dict[str, Any]:
        """As JSON."""
        names = ("memory", "best", "best_step", "looks", "losses")
        return {"fingerprint": fingerprint, **{name: getattr(self, name) for name in names}}

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Take up what `as_dict` gave."""
        self.step = step
        for name in ("memory", "best", "best_step", "looks", "losses"):
            setattr(self, name, state[name])


def prepared(
    config: TrainConfig,
    devices: Devices,
    policy: Policy,
    loss: LossSpec,
    options: Mapping[str, Any],
    needed: frozenset[str],
    lists: Tokenised,
    folder: Path,
    digest: str,
    screen: Screen,
) -> Run:
    """The run with its plan and its reference."""
    budget = config.pack_tokens or (16384 if devices.device.type == "cuda" else 2048)
    values = {name for entry in (*lists.training, *lists.held_out) for name in entry.source.values}
    run = Run(
        config=config,
        devices=devices,
        policy=policy,
        loss=loss,
        options=options,
        needed=needed,
        lists=lists.training,
        held_out=lists.held_out,
        plan=plan_steps(len(lists.training), config),
        reference=None,
        values=tuple(sorted(values)),
        budget=budget,
        folder=folder,
        fingerprint=fingerprint_of(config, options, policy, digest),
        screen=screen,
    )
    settle_shapes(policy, run)
    if "reference" not in needed:
        return run
    return _with_reference(run)


def settle_shapes(policy: Policy, run: Run) -> None:
    """With FlexAttention, fill packs up to one of `SHAPES` sizes: little is compiled, and memory fits again.

    A pack grows by at most a `SHAPES`th of the run's largest, up to whole blocks.
    """
    from prefdata.lm.attention import BLOCK

    if policy.module.kind != "flex_attention":
        return
    packs = [one for step in range(len(run.plan)) for one in run.packs(step)]
    packs += packs_of(run.held_out, [entry.size for entry in run.held_out], run.budget)
    largest = max(sum(entry.size for entry in one) for one in packs)
    policy.module.pad_to = -(-largest // (SHAPES * BLOCK)) * BLOCK


def _with_reference(run: Run) -> Run:
    """The run with the reference's log-probabilities of all that it will read."""
    config, devices, fingerprint = run.config, run.devices, run.fingerprint
    model = run.policy
    if not is_own_reference(config):
        model = load_reference(config, devices, run.policy)
        settle_shapes(model, run)
        # Another model may lie under the same name when the run is gone on with.
        fingerprint = hashlib.sha256(f"{fingerprint} {model.scorer.weights}".encode()).hexdigest()
    reference = Reference(model.scorer, run.folder / PARTS, rank=devices.rank)
    for path in (run.folder / REFERENCE, Path(config.reference) if config.reference else None):
        if path is not None and path.is_file():
            known = reference.read(path)
            rest = "" if known else ": what it holds is of other weights, template, precision or attention"
            run.screen(f"{path}: reference log-probabilities of {known} responses can be used{rest}")
    reference.exchange(devices)  # others may not see this disk
    held_out = packs_of(run.held_out, [entry.size for entry in run.held_out], run.budget)
    steps = [[[group_of_list(entry) for entry in one] for one in run.packs(step)] for step in range(len(run.plan))]
    steps.append([[group_of_list(entry) for entry in one] for one in held_out])
    if "mismatched" in run.needed:
        for groups in _mismatches(run):
            steps.append(packs_of(groups, [group.size for group in groups], run.budget))
    fill_reference(reference, model, steps, run.screen.reference)
    if devices.main:
        reference.save(run.folder / REFERENCE)
    devices.barrier()
    return replace(run, reference=reference, fingerprint=fingerprint)


def _mismatches(run: Run) -> list[list[Group]]:
    """Of each step; steps of one prompt have none, which is said, or refused where all are such.

    Raises:
        TrainError: no step has two prompts.
    """
    found = [run.mismatches(step) for step in range(len(run.plan))]
    alone = sum(not groups for groups in found)
    what = f"the loss {run.loss.name!r} reads each prompt with another prompt's response"
    if alone == len(found):
        if run.config.batch_size == 1:
            raise TrainError(f"{what}, and with batch_size 1 a step has one prompt: set batch_size to 2 or more")
        raise TrainError(
            f"{what}, and in every step all labelled responses answer one prompt: set batch_size higher, or take data "
            "with more prompts"
        )
    if alone:
        run.screen(
            f"warning: {what}, which {alone} of {len(found)} steps lack, having one prompt: they take the reference "
            "point for 0"
        )
    return found


def is_own_reference(config: TrainConfig) -> bool:
    """Whether the reference is the policy as it starts; a file holds numbers of that."""
    return config.reference is None or Path(config.reference).is_file()


def fingerprint_of(config: TrainConfig, options: Mapping[str, Any], policy: Policy, digest: str) -> str:
    """A hash of all that the result depends on: only a checkpoint of the same is gone on from."""
    told = {name: value for name, value in config.as_dict().items() if name not in NO_PART_OF_THE_RUN}
    told |= {"data": digest, "loss_options": dict(options), "plugins": [digest_of(Path(one)) for one in config.plugins]}
    told["start"] = [policy.scorer.weights, policy.scorer.tokenizer]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def counts_of(data: PreferenceData, lists: Tokenised) -> dict[str, Any]:
    """Lists read, trained on, held out, truncated, and left out by reason."""
    return {
        "rows": data.rows,
        "training": len(lists.training),
        "held_out": len(lists.held_out),
        "truncated": lists.truncated,
        "left_out": dict(lists.left_out.most_common()),
        "responses_left_out": dict(data.responses_left_out.most_common()),
    }
