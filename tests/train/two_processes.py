"""What each of two processes runs for test_train_devices.py.

`python -m torch.distributed.run --nproc-per-node 2 two_processes.py DATA MODEL FOLDER`, or see nursery.py. The first
process computes on the whole batch what one process alone would, and both compare; then both train.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefdata.lm import PackedModel, Row, pack
from prefdata.train import TrainConfig, train
from prefdata.train.checkpoint import Checkpoints
from prefdata.train.devices import Devices, connect
from prefdata.train.reference import Reference, Scorer


@dataclass(frozen=True)
class Wanted:
    device: str = "cpu"
    precision: str = "auto"
    distributed: str = "ddp"


def tiny(seed: int = 0, lora: bool = False, tied: bool = False, checkpointing: bool = False) -> PackedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    model: Any = LlamaForCausalLM(config)
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return PackedModel(model)


def groups(count: int = 5) -> list[list[Row]]:
    """Prompts with 2 to 4 responses of unlike lengths."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        prompt = random.integers(0, 61, 4 + number).tolist()
        made.append([])
        for _ in range(2 + number % 3):
            answer = random.integers(0, 61, random.integers(2, 9)).tolist()
            made[-1].append(Row((*prompt, *answer), tuple(range(len(prompt), len(prompt) + len(answer)))))
    return made


def backward(module: PackedModel, packs: list[tuple[Any, bool]]) -> list[float]:
    """Gradients of a sum that weighs each token otherwise, so that a swap would show; the counted values."""
    seen: list[float] = []
    for one, counts in packs:
        lp = module(one)
        weights = torch.arange(1, len(lp) + 1, dtype=torch.float32) / 10
        ((lp * weights).sum() * (1.0 if counts else 0.0)).backward()
        seen += lp.tolist() if counts else []
    return seen


def gradients(module: torch.nn.Module, devices: Devices) -> dict[str, torch.Tensor]:
    return {
        name: devices.full_tensor(parameter.grad)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def whole_state(devices: Devices, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    whole = {name: devices.full_tensor(tensor) for name, tensor in module.state_dict().items()}
    return whole if devices.main else {}


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], what: str) -> None:
    assert one.keys() == other.keys(), (what, one.keys() ^ other.keys())
    for name, value in one.items():
        far = float((value - other[name]).norm() / other[name].norm().clamp(min=1e-12))
        assert far < 1e-5, f"{what}: {name} is {far} away"


ALONE = Devices(0, 1, torch.device("cpu"), "single")
PACKS = [pack([rows]) for rows in groups()]


def same_gradients(devices: Devices, **kind: Any) -> None:
    """Each process begins with another seed: only the first one's trained weights count."""
    frozen_alike = 0 if kind.get("lora") else devices.rank
    module = tiny(frozen_alike, **kind)
    if kind.get("lora") and devices.rank:
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.zero_()
    module = devices.wrap(module)
    mine = devices.share(PACKS)
    assert len(mine) == 3 and len(devices.gather([one[1] for one in mine])) == 6
    with torch.no_grad():
        module(mine[0][0])  # an evaluation leaves nothing behind
    seen = devices.gather(backward(module, mine))
    devices.sum_gradients(module.parameters())
    found = gradients(module, devices)
    norm = devices.clip(module.parameters(), 1.0)
    clipped = gradients(module, devices)
    if devices.main:
        single = tiny(0, **kind)
        expected = backward(single, ALONE.share(PACKS))
        np.testing.assert_allclose(sorted(seen), sorted(expected), rtol=1e-5)
        close(found, gradients(single, ALONE), f"{devices.layout} {kind}")
        alone = ALONE.clip(single.parameters(), 1.0)
        assert abs(norm - alone) < 1e-5 * alone, (norm, alone)
        close(clipped, gradients(single, ALONE), f"clipped {devices.layout} {kind}")


def a_process_without_a_gradient(devices: Devices) -> None:
    """Nor may the sum hang, or the other's gradient be lost."""
    first, second, third = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    if devices.main:
        first.grad = torch.ones(3)
    second.grad = torch.full((3,), 2.0 + devices.rank)
    devices.sum_gradients([first, second, third])
    assert first.grad is not None and first.grad.tolist() == [1.0] * 3
    assert second.grad.tolist() == [5.0] * 3 and third.grad is None


def metrics(devices: Devices) -> None:
    """D 19: nine rows on two processes, exactly."""
    random = np.random.default_rng(1)
    values = (random.standard_normal(9) * 10.0 ** random.integers(-8, 8, 9)).tolist()
    mine = values[:5] if devices.main else values[5:]
    assert devices.gather(mine) == values
    assert float(np.mean(devices.gather(mine))) == float(np.mean(values))
    only = {"first": 1.0} if devices.main else {"second": float("inf")}
    total = devices.total({"rows": len(mine), **only})
    assert total == {"rows": 9.0, "first": 1.0, "second": float("inf")}
    assert devices.gather([]) == [] and devices.gather([float("nan")] if devices.main else []) != []


def reference(devices: Devices, folder: Path) -> None:
    """Each scores half of the rows, and the first two both: all have the first's."""
    rows = [row for group in groups() for row in group]
    scorer = Scorer("tiny", "w", "t", "fp32", "sdpa")
    mine = [*rows[:2], *rows[2 + devices.rank :: 2]]
    kept = Reference(scorer, folder / "parts", rank=devices.rank)
    kept.add(mine, [np.full(len(row.scored), -float(len(row.tokens)) - devices.rank) for row in mine])
    kept.exchange(devices)
    assert not kept.missing(rows)
    found = [kept.values(row).tolist() for row in rows]
    assert devices.gather(found) == found * 2 and found[0][0] == -len(rows[0].tokens)
    if devices.main:
        kept.save(folder / "reference.parquet")
    devices.barrier()
    blind = Reference(scorer, rank=devices.rank)
    if not devices.main:  # only one sees the disk
        blind.read(folder / "reference.parquet")
    blind.exchange(devices)
    assert not blind.missing(rows) and kept.values(rows[3]).tolist() == found[3]


def steps(module: Any, optimiser: Any, devices: Devices, count: int) -> None:
    for _ in range(count):
        backward(module, devices.share(PACKS))
        devices.sum_gradients(module.parameters())
        devices.clip(module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()


def resumed(devices: Devices, folder: Path, **kind: Any) -> None:
    """Two steps, a checkpoint, one more; a new model goes on from the checkpoint to the very same weights."""
    module = devices.wrap(tiny(**kind))
    optimiser = torch.optim.AdamW([one for one in module.parameters() if one.requires_grad], lr=1e-3)
    steps(module, optimiser, devices, 2)
    torch.manual_seed(5 + devices.rank)
    kept = Checkpoints(folder, devices)
    kept.save(2, module, optimiser, {"fingerprint": "f", "memory": {"delta": 0.25}})
    drawn = torch.rand(3)
    steps(module, optimiser, devices, 1)
    whole = whole_state(devices, module)

    other = devices.wrap(tiny(seed=0 if kind.get("lora") else 9, **kind))
    optimiser = torch.optim.AdamW([one for one in other.parameters() if one.requires_grad], lr=1e-3)
    found = Checkpoints(folder, devices).latest("f")
    assert found is not None and found.step == 2
    assert kept.load(found, other, optimiser)["memory"] == {"delta": 0.25}
    assert torch.equal(torch.rand(3), drawn)
    steps(other, optimiser, devices, 1)
    again = whole_state(devices, other)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    if devices.main:
        single = tiny(**kind)
        optimiser = torch.optim.AdamW([one for one in single.parameters() if one.requires_grad], lr=1e-3)
        steps(single, optimiser, ALONE, 3)
        close(whole, dict(single.state_dict()), f"three steps {devices.layout} {kind}")
    torch.save(whole, folder / "after.pt") if devices.main else None


def adapters_off(devices: Devices) -> None:
    """A sharded model's adapters are switched off and on again."""
    module = devices.wrap(tiny(lora=True))
    with torch.no_grad():
        on = module(PACKS[0])
        with module.model.disable_adapter():
            off = module(PACKS[0])
        assert torch.equal(module(PACKS[0]), on) and not torch.equal(on, off)
    backward(module, [(PACKS[0], True)])
    assert all((one.grad is not None) == one.requires_grad for one in module.parameters())


def trainings(data: Path, model: Path, folder: Path) -> None:
    """The same runs as test_train_devices.py does alone; the sharded one is interrupted and goes on."""
    common: dict[str, Any] = {"data": data, "model": str(model), **TRAINING}
    train(TrainConfig(**common, out=folder / "run-ddp", distributed="ddp"), silent)
    sharded = {"out": folder / "run-fsdp2", "distributed": "fsdp2", "save_every": 2, "lora": 0}
    step = torch.optim.AdamW.step
    left = [3]

    def interrupted(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(*given, **named)

    torch.optim.AdamW.step = interrupted  # type: ignore[method-assign]
    try:
        train(TrainConfig(**{**common, **sharded}), silent)
    except KeyboardInterrupt:
        torch.optim.AdamW.step = step  # type: ignore[method-assign]
    assert (folder / "run-fsdp2.partial" / "checkpoints" / "step-00000002").is_dir()
    train(TrainConfig(**{**common, **sharded}), silent)


def silent(_: str) -> None:
    pass


TRAINING = {"batch_size": 9, "max_steps": 4, "learning_rate": 5e-3, "device": "cpu", "pack_tokens": 60, "lora": 2}


def main(data: Path, model: Path, folder: Path) -> None:
    copies = connect(Wanted())
    assert (copies.layout, copies.world) == ("ddp", 2)
    same_gradients(copies)
    same_gradients(copies, lora=True)
    a_process_without_a_gradient(copies)
    metrics(copies)
    reference(copies, folder)
    resumed(copies, folder / "ddp", lora=True)
    shards = connect(Wanted(distributed="fsdp2"))
    same_gradients(shards)
    same_gradients(shards, tied=True, checkpointing=True)
    same_gradients(shards, lora=True)
    adapters_off(shards)
    resumed(shards, folder / "fsdp2")
    shards.close()
    trainings(data, model, folder)
    shards.barrier()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
