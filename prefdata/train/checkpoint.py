"""Checkpoints: enough to go on with the very same batches and losses, in folders that are there whole or not at all.

    FOLDER/step-00000012/  weights.safetensors    what is trained, by parameter name
                           optimiser.safetensors  its state, as PARAMETER/exp_avg and so on
                           state.json             the step, the loop's own state, random states, and checksums

Tensors are whole, also where the model is sharded, so a checkpoint does not depend on the number of processes. A folder
is written under another name, synced and renamed. Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.devices import Devices
from prefdata.train.disk import checksum, remove_folder, sync
from prefdata.train.errors import TrainError
from prefdata.train.randomness import random_state, restore_random_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

STATE = "state.json"
WEIGHTS = "weights.safetensors"
OPTIMISER = "optimiser.safetensors"
KEPT = 2
"""How many checkpoints stay: should the last one's disk fail, there is one before it."""
_FORMAT = "prefdata.checkpoint/1"


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint that is there.

    Attributes:
        path: its folder.
        step: optimiser steps taken when it was saved.
        content: its `state.json`.
    """

    path: Path
    step: int
    content: Mapping[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """What the loop had given to be kept."""
        return dict(self.content["state"])


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they lie; made when the first is saved.
        devices: all processes call every method together; the first one reads and writes.
    """

    def __init__(self, folder: Path, devices: Devices) -> None:
        """Take a folder; nothing is read or written yet."""
        self.folder = Path(folder)
        self.devices = devices

    def save(self, step: int, policy: Any, optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint and drop all but the last `KEPT`.

        Args:
            step: optimiser steps taken so far.
            policy: the module that is trained, or something with it as `model`.
            optimiser: over parameters of that module.
            state: JSON; its `fingerprint` (of configuration and data) is what `latest` compares.

        Raises:
            TrainError: the disk does not take it.
        """
        weights, moments = _gathered(_module(policy), optimiser, self.devices)
        randoms = self.devices.gather([random_state()])
        path = self.folder / f"step-{step:08d}"
        with self._together():
            if self.devices.main:
                content = {"format": _FORMAT, "step": step, "state": dict(state), "random": randoms}
                with _said(path):
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self._sweep()
                    _write(self.folder / f".writing-{path.name}", path, weights, moments, content)
                    for old in self._all()[:-KEPT]:
                        remove_folder(old)
        return path

    def latest(self, fingerprint: str) -> Found | None:
        """The last checkpoint, or null where there is none.

        Raises:
            TrainError: it is damaged, or another run's.
        """
        return self._agreed(lambda: next(iter(self._all()[::-1]), None), fingerprint)

    def at(self, path: Path, fingerprint: str) -> Found:
        """The checkpoint of that folder, or the last one in a folder of checkpoints.

        Raises:
            TrainError: there is none, it is damaged, or another run's.
        """

        def find() -> Path:
            path_ = Path(path)
            inside = _checkpoints(path_) or _checkpoints(path_ / self.folder.name)
            if not (path_ / STATE).is_file() and not inside:
                raise TrainError(
                    f"resume: there is no checkpoint at {path_}: it is a folder named step-NNNNNNNN with a {STATE}, or "
                    "one that holds such folders"
                )
            return path_ if (path_ / STATE).is_file() else inside[-1]

        found = self._agreed(find, fingerprint)
        assert found is not None
        return found

    def load(self, found: Found, policy: Any, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Put a checkpoint's weights, optimiser and random states in place; returns the loop's state.

        Raises:
            TrainError: the checkpoint's files are damaged, or are not of this model.
        """
        module = _module(policy)
        with self._together():
            weights, moments = _read(found) if self.devices.main else ({}, {})
            if self.devices.main:
                _check_shapes(found.path, module, weights, moments)
        for name, parameter in _trained(module).items():
            self.devices.fill(parameter, weights.get(name))
        self._fill_optimiser(module, optimiser, moments)
        randoms = found.content["random"]
        if len(randoms) == self.devices.world:
            restore_random_state(randoms[self.devices.rank])
        return found.state

    def save_best(self, step: int, policy: Any) -> None:
        """Keep the weights of this step as the best so far, for `load_best`.

        Earlier ones stay as long as a checkpoint may ask for them: a run that goes on from before the best of all finds
        the best of its own past.
        """
        weights = {name: self.devices.full_tensor(tensor) for name, tensor in _trained(_module(policy)).items()}
        with self._together():
            if self.devices.main:
                with _said(self._best(step)):
                    self._write_best(step, weights)

    def load_best(self, step: int, policy: Any) -> None:
        """Put the weights in place that `save_best` kept at that step.

        Raises:
            TrainError: they are not there, damaged, or another model's.
        """
        module = _module(policy)
        weights: dict[str, Tensor] = {}
        with self._together():
            if self.devices.main:
                weights = _tensors(self._best(step))
                _check_shapes(self._best(step), module, weights, {})
        for name, parameter in _trained(module).items():
            self.devices.fill(parameter, weights.get(name))

    def clear(self) -> None:
        """Remove all checkpoints: the run is done, or begins anew."""
        if self.devices.main and self.folder.is_dir():
            remove_folder(self.folder)
        self.devices.barrier()

    def _all(self) -> list[Path]:
        return _checkpoints(self.folder)

    def _write_best(self, step: int, weights: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        writing = self.folder / f".best-step-{step:08d}"
        save_file(weights, str(writing))
        sync(writing)
        writing.replace(self._best(step))
        sync(self.folder)
        kept = [_number(path) for path in self._all()]
        steps = sorted(_number(path) for path in self.folder.glob("best-*.safetensors"))
        needed = {max((one for one in steps if one <= checkpoint), default=step) for checkpoint in kept}
        for one in steps:
            if one < step and one not in needed:
                self._best(one).unlink()

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.safetensors"

    def _sweep(self) -> None:
        """Remove what a killed process was writing or removing."""
        for left in self.folder.glob(".*-step-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()

    def _agreed(self, find: Any, fingerprint: str) -> Found | None:
        """What the first process finds, on all of them: the others may not see its disk."""
        answer: list[Any] = []
        with self._together():
            if self.devices.main:
                path = find()
                answer = [None if path is None else [str(path), _content(path, fingerprint)]]
        known = self.devices.gather(answer)[0]
        return None if known is None else Found(Path(known[0]), int(known[1]["step"]), known[1])

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What goes wrong on the first process is raised on all: the others would wait for it for ever."""
        sentence: list[str] = []
        try:
            yield
        except TrainError as error:
            sentence = [str(error)]
        said = self.devices.gather(sentence)
        if said:
            raise TrainError(said[0])

    def _fill_optimiser(self, module: nn.Module, optimiser: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
        import torch

        names = {id(parameter): name for name, parameter in _trained(module).items()}
        layout = {key: [str(value.dtype).removeprefix("torch."), value.ndim] for key, value in moments.items()}
        told = dict(self.devices.gather([[key, value] for key, value in layout.items()]))
        for group in optimiser.param_groups:
            on_device = bool(group.get("fused") or group.get("capturable"))
            for parameter in group["params"]:
                prefix = f"{names[id(parameter)]}/"
                state: dict[str, Tensor] = {}
                for key, (kind, dimensions) in told.items():
                    if not key.startswith(prefix):
                        continue
                    dtype = getattr(torch, kind)
                    if dimensions == 0 and parameter.ndim != 0:  # the count of steps; torch keeps it on the CPU
                        value = torch.zeros((), dtype=dtype, device=self.devices.device)
                        self.devices.fill(value, moments.get(key))
                        state[key.removeprefix(prefix)] = value if on_device else value.cpu()
                    else:
                        value = torch.zeros_like(parameter.detach(), dtype=dtype)
                        self.devices.fill(value, moments.get(key))
                        state[key.removeprefix(prefix)] = value
                if state:
                    optimiser.state[parameter] = state


def _module(policy: Any) -> nn.Module:
    from torch import nn

    module = policy if isinstance(policy, nn.Module) else policy.model
    assert isinstance(module, nn.Module)
    return module


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _gathered(
    module: nn.Module, optimiser: torch.optim.Optimizer, devices: Devices
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    trained = _trained(module)
    weights = {name: devices.full_tensor(parameter) for name, parameter in trained.items()}
    moments = {
        f"{name}/{key}": devices.full_tensor(value)
        for name, parameter in trained.items()
        for key, value in sorted(optimiser.state.get(parameter, {}).items())
    }
    return weights, moments


def _write(
    writing: Path, path: Path, weights: dict[str, Tensor], moments: dict[str, Tensor], content: dict[str, Any]
) -> None:
    from safetensors.torch import save_file

    writing.mkdir()
    save_file(weights, str(writing / WEIGHTS))
    save_file(moments, str(writing / OPTIMISER))
    content["files"] = {name: checksum(writing / name) for name in (WEIGHTS, OPTIMISER)}
    (writing / STATE).write_text(json.dumps(content), encoding="utf-8")
    for file in writing.iterdir():
        sync(file)
    sync(writing)
    if path.exists():  # a resumed run saves the step at which it began
        remove_folder(path)
    writing.rename(path)
    sync(path.parent)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """A disk that is full, or closed to us, in a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"the checkpoint {path} cannot be written ({error}): make room for it, or set save_every to a larger "
            "number, or to 0 for none"
        ) from None


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the last one last."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.glob("step-*") if path.name[5:].isdigit() and path.is_dir()), key=_number)


def _number(path: Path) -> int:
    """The step in a name."""
    return int(path.stem.rpartition("-")[2])


def _content(path: Path, fingerprint: str) -> dict[str, Any]:
    """A checkpoint's `state.json`, checked.

    Raises:
        TrainError: it is damaged, or of another run.
    """
    try:
        content = json.loads((path / STATE).read_text(encoding="utf-8"))
        known = content["format"] == _FORMAT and isinstance(content["state"], dict)
        step, files, randoms = content["step"], content["files"], content["random"]
        known = known and isinstance(step, int) and isinstance(randoms, list)
        known = known and all(isinstance(files[name], list) for name in (WEIGHTS, OPTIMISER))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise TrainError(f"{path / STATE} is no state of a checkpoint, or a damaged one: {_ADVICE}")
    if content["state"].get("fingerprint") != fingerprint:
        raise TrainError(
            f"{path} is a checkpoint of a run with another configuration or other data, which this run cannot "
            "continue: run with what it had, set resume to never to begin anew, or name another folder"
        )
    return dict(content)


_ADVICE = "remove that folder to go on from the checkpoint before it, or set resume to never to begin anew"


def _read(found: Found) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors.

    Raises:
        TrainError: its files are not what was written.
    """
    for name in (WEIGHTS, OPTIMISER):
        path = found.path / name
        if not path.is_file() or checksum(path) != found.content["files"][name]:
            raise TrainError(f"{path} is not what was saved (it is gone, or its checksum differs): {_ADVICE}")
    return _tensors(found.path / WEIGHTS), _tensors(found.path / OPTIMISER)


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{path} cannot be read ({error}): {_ADVICE}") from None


def _check_shapes(
    path: Path,
    module: nn.Module,
    weights: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
) -> None:
    """Refuse a checkpoint of another model, sharded or not."""
    trained = {name: tuple(parameter.shape) for name, parameter in _trained(module).items()}
    saved = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    strange = sorted(name for name in {*trained, *saved} if trained.get(name) != saved.get(name))
    strange += sorted(
        key for key, value in moments.items() if tuple(value.shape) not in ((), trained.get(key.rpartition("/")[0]))
    )
    if strange:
        raise TrainError(f"{path} is a checkpoint of another model: {strange[0]} is not of the same shape in both")
