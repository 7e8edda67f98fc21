"""One process or several: where a model lies, and what the processes tell each other.

A step's gradient is a sum over rows, each weighted by its share of the whole step, so processes add theirs up and no
average stands anywhere. Copies of a model (`ddp`) add gradients in one explicit sum a step instead of by hooks on a
wrapper, which a fused path can go round (trl#7245); shards of one (`fsdp2`, torch's `fully_shard`) add them as they
scatter them. `torchrun` and `accelerate launch` both say through the environment which process this is.
"""

from __future__ import annotations

import atexit
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from prefdata.train.errors import TrainError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Layout = Literal["single", "ddp", "fsdp2"]
_BUCKET = 1 << 25
"""Elements that one sum of gradients takes at most (128 MiB of float32): few messages, little copied at a time."""
_PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, for example while the first one saves."""

_Thing = TypeVar("_Thing")
_Module = TypeVar("_Module", bound="nn.Module")


class DeviceConfig(Protocol):
    """What of a configuration is read here."""

    @property
    def device(self) -> str:
        """`auto`, or a device's name."""

    @property
    def precision(self) -> str:
        """`auto`, `fp32` or `bf16`."""

    @property
    def distributed(self) -> str:
        """`auto`, `ddp` or `fsdp2`."""


@dataclass(frozen=True, slots=True)
class Devices:
    """One process among all, and its device.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
        device: where this process computes.
        layout: `single`; `ddp`: every process holds the whole model; `fsdp2`: each holds a part of every weight.
        half: sharded weights are gathered in bfloat16 (gradients are added in float32).
    """

    rank: int
    world: int
    device: torch.device
    layout: Layout
    half: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wrap(self, module: _Module) -> _Module:
        """Put a module on its device, equal on all processes, and shard it where the layout is `fsdp2`.

        What is trained is taken from the first process: adapters and new heads begin at random. The optimiser is made
        after this, of the parameters that the module has then.

        Args:
            module: what is called in the loop, whole: sharded weights are there inside its own `forward` only.
        """
        if self.layout != "fsdp2":
            module.to(self.device)
        if self.layout != "single":
            self._equalise(module)
        if self.layout == "fsdp2":
            self._shard(module)
        return module

    def share(self, packs: Sequence[_Thing], sizes: Sequence[int] | None = None) -> list[tuple[_Thing, bool]]:
        """Packs of a step for this process, as many as every other has.

        The largest goes to whoever has least so far, and each process takes its own from the largest on, so that
        processes that wait for each other at every layer work on packs of like size. Where the packs do not come out
        even, the smallest is repeated, for a weight of 0.

        Args:
            packs: all packs of the step, alike on every process.
            sizes: of the packs, in tokens; unless given, their `size` where they have one.

        Returns:
            Packs, and whether each counts. One process has all, in the order given.
        """
        if self.world == 1 or not packs:
            return [(pack, True) for pack in packs]
        weights = [int(getattr(pack, "size", 1)) for pack in packs] if sizes is None else [int(size) for size in sizes]
        order = sorted(range(len(packs)), key=lambda place: (-weights[place], place))
        room = math.ceil(len(packs) / self.world)
        shares: list[list[int]] = [[] for _ in range(self.world)]
        for place in order:
            open_ones = [rank for rank in range(self.world) if len(shares[rank]) < room]
            least = min(open_ones, key=lambda rank: (sum(weights[other] for other in shares[rank]), rank))
            shares[least].append(place)
        mine = [(packs[place], True) for place in shares[self.rank]]
        return mine + [(packs[order[-1]], False)] * (room - len(mine))

    def gather(self, values: Iterable[Any]) -> list[Any]:
        """The values of all processes, one after another in the order of their ranks.

        Args:
            values: anything that JSON holds (NaN and infinities too).
        """
        mine = list(values)
        if self.world == 1:
            return mine
        found = self.gather_bytes(json.dumps(mine).encode())
        return [value for one in found for value in json.loads(one)]

    def gather_bytes(self, blob: bytes) -> list[bytes]:
        """Every process's bytes, in the order of their ranks. (torch's own gathering of objects unpickles.)"""
        if self.world == 1:
            return [blob]
        import torch
        import torch.distributed as dist

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor([len(blob)]))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(blob)] = torch.frombuffer(bytearray(blob), dtype=torch.uint8) if blob else padded[:0]
        received = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(received, padded)
        return [one[: int(length)].numpy().tobytes() for one, length in zip(received, lengths, strict=True)]

    def total(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Sums over the processes by name; a process that has no such name adds nothing."""
        if self.world == 1:
            return dict(numbers)
        parts: dict[str, list[float]] = {}
        for name, value in self.gather([[name, float(value)] for name, value in numbers.items()]):
            parts.setdefault(name, []).append(value)
        return {name: _sum(values) for name, values in parts.items()}

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients of all processes, in place, so that every process has the whole step's.

        Shards have theirs already. A parameter that only some processes have a gradient for gets it on all.

        Args:
            parameters: in the same order on all processes; those without a gradient on any are left alone.
        """
        if self.layout != "ddp":
            return
        import torch
        import torch.distributed as dist

        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            return
        has = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.uint8)
        dist.all_reduce(has, op=dist.ReduceOp.MAX)
        for parameter, anywhere in zip(trained, has.tolist(), strict=True):
            if anywhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in trained if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat, op=dist.ReduceOp.SUM)
            start = 0
            for gradient in bucket:
                gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
                start += gradient.numel()

    def clip(self, parameters: Iterable[Tensor], limit: float) -> float:
        """Shorten the gradient to a norm of at most `limit` (0: leave it); returns its norm before.

        The norm is that of the whole gradient, also where each process holds a part of it.
        """
        import torch
        from torch.distributed.tensor import DTensor

        norm = torch.nn.utils.clip_grad_norm_(list(parameters), limit or math.inf)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def full_tensor(self, tensor: Tensor) -> Tensor:
        """A tensor whole, on the CPU and without a gradient; every process must ask for it.

        Only the first process's copy is of use: the others get an empty one.
        """
        import torch
        from torch.distributed.tensor import DTensor

        whole = tensor.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()
        return whole.to("cpu", copy=True).contiguous() if self.main else torch.empty(0)

    def fill(self, tensor: Tensor, whole: Tensor | None) -> None:
        """Overwrite a tensor, sharded or not, by what the first process holds; every process must ask for it.

        Args:
            tensor: what is overwritten, in place.
            whole: `[...]` of the tensor's full shape, on the first process; ignored on the others.
        """
        import torch
        import torch.distributed as dist
        from torch.distributed.tensor import DTensor, distribute_tensor

        with torch.no_grad():
            target = tensor.detach()
            if self.world == 1 and not isinstance(target, DTensor):
                assert whole is not None
                target.copy_(whole)
                return
            place = target.device
            full = whole.to(place, target.dtype) if self.main and whole is not None else None
            full = torch.empty(target.shape, dtype=target.dtype, device=place) if full is None else full.contiguous()
            if isinstance(target, DTensor):
                target.copy_(distribute_tensor(full, target.device_mesh, target.placements))
            else:
                dist.broadcast(full, src=0)
                target.copy_(full)

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.gather_bytes(b"")

    def close(self) -> None:
        """Part from the other processes when this one ends.

        Not before: a later run in the same processes could not find the others again, because the launcher's store
        still has their old addresses.
        """
        if self.layout != "single":
            atexit.unregister(_part)
            atexit.register(_part)

    def _equalise(self, module: nn.Module) -> None:
        import torch.distributed as dist

        for parameter in module.parameters():
            if parameter.requires_grad:
                dist.broadcast(parameter.detach(), src=0)

    def _shard(self, module: nn.Module) -> None:
        """Shard every decoder layer, and what is left (embeddings, the head) with the module itself."""
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(self.device.type, (self.world,))
        policy = MixedPrecisionPolicy()
        if self.half:
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for part in [*_layers(module), module]:
            # Of the module itself too the weights go back after each forward: what an evaluation left gathered would
            # be what a checkpoint, or the reference's switch of adapters, finds in place of the shards.
            fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)  # the reduce-scatter would average
                part.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
        module.to(self.device)  # buffers, which are not sharded


def connect(config: DeviceConfig) -> Devices:
    """Find this process's device, and the other processes where a launcher started several.

    Raises:
        TrainError: the device cannot be had, or `distributed` asks for what there is not.
    """
    import torch
    import torch.distributed as dist

    launched = dist.is_available() and (dist.is_initialized() or all(name in os.environ for name in _LAUNCHER))
    if config.distributed not in ("auto", "ddp", "fsdp2"):
        raise TrainError(f"distributed is auto, ddp or fsdp2, not {config.distributed!r}")
    if not launched:
        if config.distributed != "auto":
            raise TrainError(
                f"distributed: {config.distributed} needs processes that a launcher starts, and this is one alone: "
                "start it with `torchrun --nproc-per-node N -m prefdata.train ...`, or leave distributed at auto"
            )
        return Devices(0, 1, _device(config.device, None), "single")
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = _device(config.device, local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # What is no tensor of the model (metrics, masses) travels on the CPU.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    layout: Layout = "fsdp2" if config.distributed == "fsdp2" else "ddp"
    if config.distributed == "auto" and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true"):
        layout = "fsdp2"
    half = device.type == "cuda" and config.precision in ("auto", "bf16")
    return Devices(dist.get_rank(), dist.get_world_size(), device, layout, half)


def _part() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _device(name: str, local: int | None) -> torch.device:
    """The device of a name; the process numbered `local` on its machine has the GPU of that number."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and local is not None:
            if device.index is not None:
                raise TrainError(
                    f"device: {name} is one GPU, and a launcher started several processes: say cuda, and each "
                    "takes its own"
                )
            if local >= torch.cuda.device_count():
                raise TrainError(
                    f"process {local} of this machine has no GPU (there are {torch.cuda.device_count()}): start one "
                    "process for each"
                )
            device = torch.device("cuda", local)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise TrainError(f"the device {name!r} cannot be used: {lines[0]}") from None
    return device


def _layers(module: nn.Module) -> list[nn.Module]:
    """The decoder layers: what transformers says must not be split."""
    whole: set[str] = set()
    for part in module.modules():
        whole |= set(getattr(part, "_no_split_modules", None) or ())
    found = [(name, part) for name, part in module.named_modules() if type(part).__name__ in whole]
    outer = [name for name, _ in found]
    return [part for name, part in found if not any(name.startswith(f"{other}.") for other in outer)]


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gradients of one dtype together, in their order, as many as fit."""
    buckets: list[list[Tensor]] = []
    filled = 0
    for gradient in gradients:
        fits = buckets and filled + gradient.numel() <= _BUCKET and buckets[-1][0].dtype == gradient.dtype
        if not fits:
            buckets.append([])
            filled = 0
        buckets[-1].append(gradient)
        filled += gradient.numel()
    return buckets


def _sum(values: Sequence[float]) -> float:
    """The exact sum, rounded once: the same for any order of the processes."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
