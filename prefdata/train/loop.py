"""The training loop: from a file of preferences and a model to a trained model's folder.

`train` reads from top to bottom, and nothing in it asks for a loss's name. One process and several do the same: what
counts in a step is settled from the data before any of its passes, and every pass adds its part.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.batch import MicroBatch, collate
from prefdata.train.card import model_card, write_manifest
from prefdata.train.checkpoint import Checkpoints, Found
from prefdata.train.config import TrainConfig, load_plugins
from prefdata.train.data import PreferenceData, read_preferences
from prefdata.train.devices import connect
from prefdata.train.disk import sync
from prefdata.train.encoder import Encoder
from prefdata.train.errors import TrainError
from prefdata.train.folder import CHECKPOINTS, METRICS, cut_metrics, digest_of, take_over, working_folder
from prefdata.train.log import metrics_log, require_tensorboard
from prefdata.train.losses import Memory, Outputs, find_loss
from prefdata.train.metrics import Displacement, HeldOut, StepMetrics
from prefdata.train.model import load_policy, save_policy, settle_padding
from prefdata.train.needs import check_ranges
from prefdata.train.plan import rate_factor
from prefdata.train.run import Progress, Result, Run, counts_of, is_own_reference, prepared
from prefdata.train.scoring import mismatched, score_held_out
from prefdata.train.screen import Screen
from prefdata.train.throughput import COUNTED, Speed, count_tokens
from prefdata.train.tokens import Tokenised, tokenise

if TYPE_CHECKING:
    import torch

Say = Callable[[str], None]


def train(config: TrainConfig, say: Say = print) -> Result:
    """Train a model on preference lists.

    The reference is the policy before the first step unless another is named: its log-probabilities are computed
    once, in the very packs that training reads, so that the first loss is exact (log 2, log K!).

    Args:
        config: what to do.
        say: gets a line now and then.

    Raises:
        TrainError: something cannot be used; the message says what to change.
    """
    began = time.monotonic()
    load_plugins(config.plugins)
    loss = find_loss(config.loss)
    options = loss.checked_options(config.given_loss_options, "train")
    needed = loss.needed(options)
    _refuse_what_cannot_act(config, needed)
    data = read_preferences(config.data)
    check_ranges(data, loss.ranges(options))
    devices = connect(config)
    screen = Screen(say if devices.main else lambda _: None, config.log_every)
    _check_split(data, screen)
    try:
        with (
            deterministic(config.deterministic),
            working_folder(config.out, devices, resume=config.resume != "never") as folder,
        ):
            policy = load_policy(config, devices, loss.outputs(options))
            encoder = Encoder(policy.tokenizer, config.model, templated=data.templated, template=config.template)
            lists = _tokenise(config, data, encoder, needed)
            if policy.outputs:
                rows = (row for entry in (*lists.training, *lists.held_out) for row in entry.rows)
                settle_padding(policy, {token for row in rows for token in row.tokens})
            counts = counts_of(data, lists)
            screen.describe(config, data.path, data.format, counts, policy)
            screen.remark_on_plain_texts(config, encoder, lists.training[0])
            digest = digest_of(data.path)
            run = prepared(config, devices, policy, loss, options, needed, lists, folder, digest, screen)
            before = _look(run, unchanged=is_own_reference(config))
            screen.held_out("before", before)
            if config.early_stopping and (before is None or before.score is None):
                raise TrainError(
                    "early_stopping compares held-out accuracies, and no held-out list has a better and a worse "
                    "response: give the data a split, or set early_stopping to 0"
                )

            progress = optimise(run)

            after = _look(run)
            screen.held_out("after", after)
            save_policy(policy, config, folder)
            result = Result(
                out=config.out,
                steps=progress.step,
                first_loss=progress.losses[0],
                last_loss=progress.losses[-1],
                before=before,
                after=after,
                kept_step=progress.step if progress.best is None else progress.best_step,
                counts=counts,
                seconds=time.monotonic() - began,
            )
            if devices.main:
                manifest = write_manifest(folder, config, loss, options, data, digest, result, policy)
                (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
        screen(f"{config.out}: model, {METRICS}, manifest.json ({result.seconds:.0f} s)")
    finally:
        devices.close()
    return result


def optimise(run: Run) -> Progress:
    """Take the planned steps, from the last checkpoint on where there is one.

    Raises:
        TrainError: a loss or a gradient is not finite; a checkpoint cannot be used.
    """
    import torch

    config, devices = run.config, run.devices
    weights = run.policy.trained()
    fused = devices.device.type == "cuda"  # one kernel for many weights
    optimiser = torch.optim.AdamW(weights, lr=0.0, weight_decay=config.weight_decay, fused=fused)
    checkpoints = Checkpoints(run.folder / CHECKPOINTS, devices)
    progress = _resumed(run, checkpoints, optimiser)
    speed = Speed(run.policy)
    displacement = Displacement(run.options)
    with metrics_log(run, progress.step) as write:
        while progress.step < len(run.plan):
            step, began = progress.step, time.monotonic()
            rate = config.peak_learning_rate * rate_factor(step, len(run.plan), config.warmup, config.schedule)
            terms, counted, gathered, progress.memory = accumulate(run, step, progress.memory)
            value = math.fsum(terms.values())
            norm = devices.clip(weights, config.max_grad_norm)
            if not math.isfinite(value) or not math.isfinite(norm):
                raise TrainError(
                    f"step {step}: the loss is {value} and the gradient's norm {norm}: lower learning_rate, or look at "
                    "the lists of this step"
                )
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            progress.step += 1
            progress.losses = [*progress.losses[:1], value]
            seconds = time.monotonic() - began
            row: dict[str, Any] = {"step": step, "loss": value, "lr": rate, "grad_norm": norm}
            row |= gathered.as_dict(reference=run.reference is not None)
            row |= {"terms": terms, "lists": len(run.plan[step]), **counted, "seconds": seconds}
            row |= speed.of(counted, seconds)
            _look_now_and_then(run, progress, checkpoints, row)
            write(row)
            run.screen.step(row, len(run.plan))
            if warning := displacement.warning(row):
                run.screen(f"warning: {warning}")
            if config.early_stopping and progress.looks >= config.early_stopping:
                run.screen(f"stopped: {progress.looks} looks brought nothing better than {progress.best:.3f}")
                break
            if config.save_every and progress.step % config.save_every == 0 and progress.step < len(run.plan):
                if devices.main:
                    sync(run.folder / METRICS)  # a power cut must not leave a checkpoint whose steps have no rows
                checkpoints.save(progress.step, run.policy, optimiser, progress.as_dict(run.fingerprint))
    if progress.best is not None and progress.best_step < progress.step:
        checkpoints.load_best(progress.best_step, run.policy)
        run.screen(f"the weights after {progress.best_step} steps are kept, with {progress.best:.3f} on held-out lists")
    return progress


def accumulate(
    run: Run, step: int, memory: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Any], StepMetrics, dict[str, Any]]:
    """Add one step's gradients to the weights, pass by pass.

    Each pass adds its weighted sum over the mass of the whole step, which the data alone give: so passes of unlike
    size, and processes, need no average, and no order of them changes the gradient.

    Returns:
        Each term of the loss over the whole step, what was counted, the metrics, and the loss's next memory.
    """
    import torch

    devices, loss, options = run.devices, run.loss, run.options
    packs = run.packs(step)
    shared = devices.share(packs, [sum(entry.size for entry in one) for one in packs])
    alone = loss.over == "responses"
    micros = [(collate(lists, alone=alone, values=run.values), counts) for lists, counts in shared]
    masses: dict[str, float] = {}
    for micro, counts in micros:
        for name, mass in loss.masses(micro.batch, options).items():
            masses[name] = masses.get(name, 0.0) + float(mass) * counts
    masses = devices.total(masses)
    if not any(masses.values()):
        run.screen(f"step {step + 1}: nothing in its lists counts for the loss (ties under label: hard, for example)")
    drawn = _mismatched(run, step)
    terms, counted = dict.fromkeys(masses, 0.0), dict.fromkeys(COUNTED, 0)
    done: list[tuple[MicroBatch, Outputs, Any, dict[str, torch.Tensor]]] = []
    observed: list[dict[str, list[float]]] = []
    for micro, counts in [(micro.to(devices.device), counts) for micro, counts in micros]:
        heard = Memory(memory, step=step, steps=len(run.plan))
        outputs, tokens = _outputs(run, micro, drawn)
        sums = loss.sums(outputs, micro.batch, options, heard)
        parts = {name: total / masses[name] if masses[name] else total * 0.0 for name, total in sums.items()}
        # A pass that only keeps other processes company goes through the same layers, for nothing.
        whole = torch.stack(list(parts.values())).sum() * float(counts)
        whole.backward()
        if counts:
            done.append((micro, _read_later(outputs), tokens, {name: part.detach() for name, part in parts.items()}))
            observed.append(heard.observed)
    gathered = StepMetrics()
    # Nothing is read before all passes are on their way: reading waits for a GPU, which would then wait for the next.
    for micro, outputs, tokens, parts in done:
        for name, part in parts.items():
            terms[name] += float(part)
        gathered.add(outputs, micro.batch, tokens)
        count_tokens(counted, run.policy, micro.pack)
    devices.sum_gradients(run.policy.trained())
    terms = devices.total(terms)
    counted = {name: int(value) for name, value in devices.total(counted).items()}
    gathered = StepMetrics.of(devices.gather([gathered.as_rows()]))
    return terms, counted, gathered, _remembered(run, memory, devices.gather(observed))


def _resumed(run: Run, checkpoints: Checkpoints, optimiser: torch.optim.Optimizer) -> Progress:
    """Where the run stands: at its start, or at a checkpoint whose weights are then in place."""
    progress, wanted = Progress(), run.config.resume
    found: Found | None = None
    if wanted == "auto":
        found = checkpoints.latest(run.fingerprint)
    elif wanted != "never":
        found = checkpoints.at(Path(wanted), run.fingerprint)
        if run.devices.main:
            take_over(found.path, run.folder)
    if found is not None:
        progress.restore(found.step, checkpoints.load(found, run.policy, optimiser))
        run.screen(f"going on from {found.path.name}")
    if run.devices.main:
        cut_metrics(run.folder, progress.step)
    run.devices.barrier()
    return progress


def _outputs(run: Run, micro: MicroBatch, drawn: torch.Tensor | None) -> tuple[Outputs, Any]:
    """What the models made of a pass, and the log-probabilities of single tokens (policy's and reference's)."""
    made = run.policy(micro.pack)
    if run.policy.outputs:
        return micro.rewards(made), None
    reference = None
    if run.reference is not None:
        known = run.reference
        reference = micro.reference(known.values(row) for entry in micro.lists for row in entry.reference)
    outputs = micro.outputs(made, reference, run.needed)
    tokens = None if reference is None else (micro.tokens(made.detach())[0], reference)
    return (outputs if drawn is None else replace(outputs, mismatched=drawn)), tokens


def _read_later(outputs: Outputs) -> Outputs:
    """What the metrics read, without the graph behind it."""
    kept = {name: getattr(outputs, name) for name in ("lp", "ref", "reward")}
    return Outputs(**{name: value if value is None else value.detach() for name, value in kept.items()})


def _mismatched(run: Run, step: int) -> torch.Tensor | None:
    import torch

    if "mismatched" not in run.needed:
        return None
    assert run.reference is not None
    values = mismatched(run.policy, run.reference, run.mismatches(step), run.budget)
    return torch.tensor(values, dtype=torch.float32, device=run.devices.device)


def _remembered(run: Run, memory: Mapping[str, Any], observed: Sequence[Mapping[str, list[float]]]) -> dict[str, Any]:
    """The loss's next memory, of what all passes on all processes observed."""
    if run.loss.remember is None:
        return dict(memory)
    whole: dict[str, list[float]] = {}
    for part in observed:
        for name, values in part.items():
            whole.setdefault(name, []).extend(values)
    return run.loss.remember(memory, whole, run.options)


def _look(run: Run, *, unchanged: bool = False) -> HeldOut | None:
    return score_held_out(run.policy, run.held_out, run.budget, run.reference, unchanged=unchanged)


def _look_now_and_then(run: Run, progress: Progress, checkpoints: Checkpoints, row: dict[str, Any]) -> None:
    """Every `eval_every` steps: note the held-out results in the step's row, and whether they are the best so far."""
    if not run.config.eval_every or progress.step % run.config.eval_every:
        return
    found = _look(run)
    row["held_out"] = None if found is None else asdict(found)
    run.screen.held_out(f"after {progress.step} steps of", found)
    if not run.config.early_stopping:
        return
    assert found is not None and found.score is not None, "refused before the first step"
    score = found.score
    progress.looks += 1
    if progress.best is None or score > progress.best:
        progress.best, progress.best_step, progress.looks = score, progress.step, 0
        checkpoints.save_best(progress.step, run.policy)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch takes only algorithms that give the same bits each time."""
    import torch

    if not wanted:
        yield
        return
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def _tokenise(config: TrainConfig, data: PreferenceData, encoder: Encoder, needed: frozenset[str]) -> Tokenised:
    more: dict[str, Any] = {}
    if config.rationale_template is not None:
        more["rationale_template"] = config.rationale_template
    return tokenise(data, encoder, needed, max_length=config.max_length, overlong=config.overlong, **more)


def _refuse_what_cannot_act(config: TrainConfig, needed: frozenset[str]) -> None:
    """Fields that the chosen loss has no use for, and what is not there: before the long part."""
    if config.reference is not None and "reference" not in needed:
        raise TrainError(f"the loss {config.loss!r} reads no reference: leave `reference` out")
    if config.rationale_template is not None and "rationales" not in needed:
        raise TrainError(f"the loss {config.loss!r} reads no rationales: leave `rationale_template` out")
    if config.reference is not None and not Path(config.reference).exists() and config.reference.endswith(".parquet"):
        raise TrainError(f"reference: there is no file {config.reference}")
    if config.resume not in ("auto", "never") and not Path(config.resume).is_dir():
        raise TrainError(
            f"resume: there is no checkpoint at {config.resume}: it is auto, never, or a checkpoint's folder"
        )
    if config.tensorboard:
        require_tensorboard()


def _check_split(data: PreferenceData, screen: Screen) -> None:
    if not data.split:
        screen(f"{data.path} has no column 'split': all rows are trained on, none is held out")
    elif data.lists and all(entry.held_out for entry in data.lists):
        raise TrainError(
            f"{data.path} has a column 'split' but no row of the split train: there is nothing to train on"
        )
