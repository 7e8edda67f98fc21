"""Checkpoints of one process: whole or not at all, exact, and refused in a sentence where they are not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from two_processes import ALONE

from prefdata.train import disk
from prefdata.train.checkpoint import OPTIMISER, STATE, WEIGHTS, Checkpoints
from prefdata.train.errors import TrainError
from prefdata.train.randomness import random_state, restore_random_state

FINGERPRINT = {"fingerprint": "one"}


def trained(seed: int = 0, size: int = 4, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A module with a frozen part, and its optimiser."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(size, 3), nn.Linear(3, 2))
    module[0].bias.requires_grad_(False)
    chosen = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return module, torch.optim.AdamW(chosen, lr=0.1, **options)


def step(module: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> float:
    generator = torch.Generator().manual_seed(number)
    loss = module(torch.rand(5, 4, generator=generator)).square().sum()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Checkpoints after steps 1, 2 and 3, of which the first is gone."""
    module, optimiser = trained()
    kept = Checkpoints(tmp_path / "checkpoints", ALONE)
    for number in range(3):
        step(module, optimiser, number)
        kept.save(number + 1, module, optimiser, {**FINGERPRINT, "memory": {"delta": 0.1 * number}})
    return kept


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"fused": True}])
def test_a_run_goes_on_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    module, optimiser = trained(**options)
    kept = Checkpoints(tmp_path, ALONE)
    losses = []
    for number in range(6):
        if number == 3:
            kept.save(3, module, optimiser, FINGERPRINT)
        losses.append(step(module, optimiser, number))
    other, second = trained(**options)  # the frozen part is not in the checkpoint
    found = kept.latest("one")
    assert found is not None and found.step == 3
    assert kept.load(found, other, second) == FINGERPRINT
    assert [step(other, second, number) for number in range(3, 6)] == losses[3:]
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))


def test_before_the_first_step_there_is_no_state_of_the_optimiser(tmp_path: Path) -> None:
    module, optimiser = trained()
    kept = Checkpoints(tmp_path, ALONE)
    kept.save(0, module, optimiser, FINGERPRINT)
    found = kept.latest("one")
    assert found is not None
    other, second = trained(1)
    kept.load(found, other, second)
    assert torch.equal(other[1].weight, module[1].weight) and not second.state  # type: ignore[index]


def test_the_last_two_are_kept(saved: Checkpoints) -> None:
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-00000002", "step-00000003"]
    found = saved.latest("one")
    assert found is not None and found.state["memory"] == {"delta": 0.2}


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", ALONE).latest("one") is None


def test_what_a_kill_left_half_written_is_not_seen(saved: Checkpoints) -> None:
    """And is swept away by the next save."""
    for name in (".writing-step-00000004", ".leaving-step-00000001"):
        (saved.folder / name).mkdir()
        (saved.folder / name / WEIGHTS).write_bytes(b"half")
    found = saved.latest("one")
    assert found is not None and found.step == 3
    module, optimiser = trained()
    saved.save(4, module, optimiser, FINGERPRINT)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-00000003", "step-00000004"]


def test_the_same_step_is_saved_again(saved: Checkpoints) -> None:
    module, optimiser = trained()
    saved.save(3, module, optimiser, {**FINGERPRINT, "again": True})
    found = saved.latest("one")
    assert found is not None and found.state["again"]


def test_an_unknown_checkpoint_is_refused(saved: Checkpoints, tmp_path: Path) -> None:
    for path in (tmp_path / "typo", saved.folder / "step-00000009"):
        with pytest.raises(TrainError, match="resume: there is no checkpoint at"):
            saved.at(path, "one")
    assert saved.at(saved.folder, "one").step == 3
    assert saved.at(saved.folder / "step-00000002", "one").step == 2
    assert saved.at(saved.folder.parent, "one").step == 3, "the folder of the run"


def test_another_runs_checkpoint_is_refused(saved: Checkpoints) -> None:
    with pytest.raises(TrainError, match="another configuration or other data"):
        saved.latest("two")


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMISER])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "foreign"])
def test_damaged_tensors_are_refused(saved: Checkpoints, name: str, damage: str) -> None:
    found = saved.latest("one")
    assert found is not None
    path = found.path / name
    blob = path.read_bytes()
    path.unlink()
    if damage == "foreign":
        path.symlink_to("/dev/null")
    elif damage != "gone":
        path.write_bytes(blob[:-3] if damage == "cut" else bytes([*blob[:-1], blob[-1] ^ 1]))
    module, optimiser = trained()
    with pytest.raises(TrainError, match=r"is not what was saved.*remove that folder"):
        saved.load(found, module, optimiser)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": "prefdata.checkpoint/1"}', '{"format": "other/1", "step": 3}', "[" * 99999],
)
def test_a_damaged_state_is_refused(saved: Checkpoints, content: str) -> None:
    (saved.folder / "step-00000003" / STATE).write_text(content)
    with pytest.raises(TrainError, match=r"is no state of a checkpoint, or a damaged one"):
        saved.latest("one")


def test_another_models_checkpoint_is_refused(saved: Checkpoints) -> None:
    found = saved.latest("one")
    assert found is not None
    module, optimiser = trained(size=5)
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(TrainError, match=r"another model: 0\.weight is not of the same shape"):
        saved.load(found, module, optimiser)
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True)), "nothing was touched"


def test_a_full_disk_is_a_sentence(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before stays."""
    module, optimiser = trained()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "fsync", full)
        for save in (lambda: saved.save(4, module, optimiser, FINGERPRINT), lambda: saved.save_best(4, module)):
            with pytest.raises(TrainError, match=r"cannot be written .*No space left.*save_every"):
                save()
    found = saved.latest("one")
    assert found is not None and found.step == 3
    saved.save(4, module, optimiser, FINGERPRINT)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-00000003", "step-00000004"]


def test_nothing_in_a_checkpoint_is_a_pickle(saved: Checkpoints) -> None:
    for path in (saved.folder / "step-00000003").iterdir():
        assert path.suffix in (".json", ".safetensors") and b"\x80\x04" not in path.read_bytes()[:64]
    content = json.loads((saved.folder / "step-00000003" / STATE).read_text())
    assert content["step"] == 3 and content["state"]["fingerprint"] == "one"


def test_random_states_come_back() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    random.gauss(0, 1), np.random.standard_normal()
    state = json.loads(json.dumps(random_state()))

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.standard_normal()), float(torch.rand(()))]

    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first


def test_the_best_weights_come_back(tmp_path: Path) -> None:
    module, optimiser = trained()
    kept = Checkpoints(tmp_path / "made", ALONE)
    best: dict[int, torch.Tensor] = {}
    for number in range(1, 7):
        step(module, optimiser, number)
        if number in (1, 2, 4, 6):
            kept.save_best(number, module)
            best[number] = module[1].weight.detach().clone()  # type: ignore[index, union-attr, operator]
        if number in (3, 5):
            kept.save(number, module, optimiser, FINGERPRINT)
    names = sorted(path.name for path in kept.folder.glob("best-*"))
    assert names == [f"best-{number:08d}.safetensors" for number in (2, 4, 6)], "2 is what checkpoint 3 knows of"
    for number in (2, 4, 6):
        kept.load_best(number, module)
        assert torch.equal(module[1].weight, best[number])  # type: ignore[index, union-attr, arg-type]
    for number in (1, 7):
        with pytest.raises(TrainError, match="cannot be read"):
            kept.load_best(number, module)
    kept.clear()
    assert not kept.folder.exists() and kept.latest("one") is None
