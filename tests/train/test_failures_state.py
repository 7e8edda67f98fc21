"""What went wrong in other trainers' references, adapters and resumed runs: reference/trainer.md D 11, 12 and 13.

D 14 and 19, which need two processes, are in test_train_devices.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nursery import Nursery

from prefdata.lm import PackedModel, Row, pack
from prefdata.train import TrainConfig, TrainError, loop, scoring, train
from prefdata.train.data import read_preferences
from prefdata.train.devices import connect
from prefdata.train.encoder import Encoder
from prefdata.train.model import Policy, load_model, load_policy
from prefdata.train.reference import Reference, Scorer
from prefdata.train.tokens import tokenise

Write = Callable[..., Path]


def quiet(_: str) -> None:
    pass


def config(data: Path, model: Path, out: Path, **rest: Any) -> TrainConfig:
    given = {"batch_size": 4, "learning_rate": 5e-3, "device": "cpu", "max_steps": 4, "lora": 2, **rest}
    return TrainConfig(data=data, model=str(model), out=out, **given)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows_of(out)]


ROWS = [Row((5, 6, 7, *range(20, 20 + count)), tuple(range(3, 3 + count))) for count in (4, 6, 9)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The lists of each pass of training, in their order, and the random state at its start."""
    noted: list[Any] = []
    collate = loop.collate

    def noting(lists: Any, **rest: Any) -> Any:
        noted.append([entry.source.row for entry in lists])
        return collate(lists, **rest)

    optimise = loop.optimise

    def starting(run: Any) -> Any:
        noted.append(hashlib.sha256(bytes(torch.get_rng_state().numpy())).hexdigest())
        return optimise(run)

    monkeypatch.setattr(loop, "collate", noting)
    monkeypatch.setattr(loop, "optimise", starting)
    return noted


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each pass without gradients computed."""
    noted: list[int] = []
    rows_of_ = scoring.rows_of

    def noting(model: Any, groups: Any) -> Any:
        noted.append(sum(map(len, groups)))
        return rows_of_(model, groups)

    monkeypatch.setattr(scoring, "rows_of", noting)
    return noted


def test_a_precomputed_reference_is_the_online_one(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    """D 11 (trl#2423, #5542): dropout and padding made cached log-probabilities others than those of the model.

    The tiny model's configuration has dropout in its attention, and the cache is filled in packs; each row is compared
    with transformers' own forward pass of that row alone.
    """
    train(config(toy_pairs, tiny_model, tmp_path / "out", max_steps=3, pack_tokens=300), quiet)
    model, _ = load_model(str(tiny_model))
    policy = load_policy(
        config(toy_pairs, tiny_model, tmp_path / "x"), connect(config(toy_pairs, tiny_model, tmp_path))
    )
    known = Reference(policy.scorer)
    assert known.read(tmp_path / "out" / "reference.parquet") == 32
    data = read_preferences(toy_pairs)
    encoder = Encoder(policy.tokenizer, "tiny", templated=data.templated)
    lists = tokenise(data, encoder, frozenset({"edges"}), max_length=500, overlong="error")
    rows = [row for entry in (*lists.training, *lists.held_out) for row in entry.rows]
    assert len(rows) == 32
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        online = torch.stack([logits[place - 1, row.tokens[place]] for place in row.scored])
        torch.testing.assert_close(torch.tensor(known.values(row)), online, rtol=1e-5, atol=1e-5)


def test_a_cache_changes_neither_order_nor_random_numbers(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, seen: list[Any], passes: list[int]
) -> None:
    """D 11 (trl#7083, unsloth-zoo#832): filling the cache advanced the global random state and changed the order."""
    train(config(toy_pairs, tiny_model, tmp_path / "without"), quiet)
    first, computed = list(seen), sum(passes)
    del seen[:], passes[:]
    cache = tmp_path / "without" / "reference.parquet"
    train(config(toy_pairs, tiny_model, tmp_path / "with", reference=str(cache)), quiet)
    assert seen == first and len(first) > 4, "the same lists, in the same order, from the same random state"
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    held_out = 2 * 4
    assert computed == 32 + held_out and sum(passes) == held_out, "nothing of the reference was computed twice"


def test_a_reference_serves_other_losses_packs_and_cut_rows(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, passes: list[int]
) -> None:
    """And full training as well as LoRA: the reference is the model before either."""
    train(config(toy_pairs, tiny_model, tmp_path / "first"), quiet)
    cache = str(tmp_path / "first" / "reference.parquet")
    del passes[:]
    other = {"loss": "ipo", "lora": 0, "pack_tokens": 100, "learning_rate": 1e-4, "reference": cache}
    train(config(toy_pairs, tiny_model, tmp_path / "second", **other), quiet)
    assert sum(passes) == 2 * 4, "the held-out rows, after training"
    assert rows_of(tmp_path / "second")[0]["margin"] == pytest.approx(0, abs=1e-5), "other packs, other last bits"
    del passes[:]
    cut = {"max_length": 40, "overlong": "truncate", "reference": cache}
    train(config(toy_pairs, tiny_model, tmp_path / "third", **cut), quiet)
    assert rows_of(tmp_path / "third")[0]["margin"] == pytest.approx(0, abs=1e-5)


def test_a_stale_cache_is_not_used(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D 11 (trl#6291): of other weights, and of another template. The first loss shows what using it would do."""
    said: list[str] = []
    other, _ = load_model(str(tiny_model))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    other.save_pretrained(tmp_path / "weights")
    tokenizer.save_pretrained(tmp_path / "weights")
    train(config(toy_pairs, tmp_path / "weights", tmp_path / "stale", max_steps=3), quiet)
    given = {"reference": str(tmp_path / "stale" / "reference.parquet"), "max_steps": 3}
    train(config(toy_pairs, tiny_model, tmp_path / "right", **given), said.append)
    assert losses(tmp_path / "right")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert any("of 0 responses" in line and "other weights" in line for line in said)

    # Negative control: keyed by token ids alone, as if the weights did not matter.
    with monkeypatch.context() as patched:
        patched.setattr(Scorer, "digest", property(lambda scorer: b""))
        patched.setattr(Scorer, "__str__", lambda scorer: "@same")
        train(config(toy_pairs, tmp_path / "weights", tmp_path / "stale", max_steps=3), quiet)
        train(config(toy_pairs, tiny_model, tmp_path / "wrong", **given), quiet)
    assert abs(losses(tmp_path / "wrong")[0] - math.log(2)) > 1e-3

    # Negative control: keyed by the response alone, as if the template did not matter.
    load_model(str(tiny_model))[0].save_pretrained(tmp_path / "template")
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace("<|turn|>", "<|turn|>now ")
        tokenizer.save_pretrained(tmp_path / "template")
    finally:
        tokenizer.chat_template = template
    train(config(toy_pairs, tmp_path / "template", tmp_path / "right", **given), quiet)
    assert losses(tmp_path / "right")[0] == pytest.approx(math.log(2), abs=1e-6)
    with monkeypatch.context() as patched:
        patched.setattr(Scorer, "digest", property(lambda scorer: b""))
        patched.setattr(Scorer, "__str__", lambda scorer: "@same")
        patched.setattr(Reference, "key", lambda known, row: str([row.tokens[place] for place in row.scored]))
        train(config(toy_pairs, tiny_model, tmp_path / "stale", max_steps=3), quiet)
        train(config(toy_pairs, tmp_path / "template", tmp_path / "wrong", **given), quiet)
    assert abs(losses(tmp_path / "wrong")[0] - math.log(2)) > 1e-4


@pytest.fixture(scope="module")
def sft_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Adapters as supervised fine-tuning leaves them: of weights that are not zero."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(str(tiny_model))
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("sft")
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy(pack([ROWS]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_reference_of_lora_on_an_adapter_is_the_adapter(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, sft_adapter: Path, checkpointing: bool
) -> None:
    """D 12 (LF#8459, ms-swift#9934): with LoRA the reference was the base model instead of the SFT adapter."""
    chosen = config(toy_pairs, sft_adapter, tmp_path / "out", gradient_checkpointing=checkpointing)
    policy = load_policy(chosen, connect(chosen))
    start = read(policy)
    with policy.as_reference():
        reference = policy(pack([ROWS]))
    assert torch.equal(start, reference), "bitwise"
    explicit, _ = load_model(str(sft_adapter))
    assert torch.equal(reference, PackedModel(explicit)(pack([ROWS])).detach())
    base, _ = load_model(str(tiny_model))
    assert not torch.allclose(reference, PackedModel(base)(pack([ROWS])).detach(), atol=1e-3)

    with torch.no_grad():  # as training does
        for parameter in policy.trained():
            parameter += 0.1
    assert not torch.allclose(read(policy), reference, atol=1e-3), "the adapters act"
    with policy.as_reference():
        assert torch.equal(policy(pack([ROWS])), reference), "and are off in the reference"
    assert policy.trained() and all(parameter.requires_grad for parameter in policy.trained())


def test_training_from_an_adapter_starts_at_log_2_and_moves(
    tmp_path: Path, toy_pairs: Path, sft_adapter: Path, tiny_model: Path
) -> None:
    """D 12 (trl#6043, LF#8974): a loss of 0 at the start, or adapters put on modules that are not there."""
    train(config(toy_pairs, sft_adapter, tmp_path / "out", max_steps=5), quiet)
    rows = rows_of(tmp_path / "out")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-7) and rows[0]["margin"] == 0.0
    assert rows[0]["grad_norm"] > 0 and rows[-1]["loss"] < rows[0]["loss"]
    explicit = {"reference": str(sft_adapter), "max_steps": 5}
    train(config(toy_pairs, sft_adapter, tmp_path / "explicit", **explicit), quiet)
    assert losses(tmp_path / "explicit") == losses(tmp_path / "out"), "named or not, it is the same reference"
    other = {"reference": str(tiny_model), "max_steps": 5}
    train(config(toy_pairs, sft_adapter, tmp_path / "other", **other), quiet)
    assert rows_of(tmp_path / "other")[0]["margin"] != 0.0, "against another model they differ at once"


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_batches_and_losses(
    tmp_path: Path, nursery: Nursery, toy_pairs: Path, tiny_model: Path
) -> None:
    """D 13 (accelerate#2016, #4071, trl#7322): a resumed run shuffled anew, replayed, or restored the wrong states.

    `kill -9` at random places, while files are written too: LoRA and all weights, losses with a memory, the best
    weights of early stopping. The rows of metrics and the saved weights are those of the uninterrupted run, to the bit.
    One death a run; KILL_LIVES=20 KILL_SEED=N in the environment try more.
    """
    told = json.loads(nursery("killed_training", toy_pairs, tiny_model, tmp_path).splitlines()[-1])
    assert len(told) == 3 and all(places > 50 and deaths for places, deaths in told.values())


def interrupted(at: int, monkeypatch: pytest.MonkeyPatch, chosen: TrainConfig) -> None:
    """A run that ends at its optimiser step of this number, from 1."""
    step, left = torch.optim.AdamW.step, [at]

    def stopping(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return step(*given, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch.optim.AdamW, "step", stopping)
        train(chosen, quiet)


def test_resume_is_obeyed(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Any]
) -> None:
    """D 13 (transformers#33336, ms-swift#6049): the flag was ignored, and an unknown path too."""
    fields = {"max_steps": 6, "save_every": 2, "pack_tokens": 2048}
    whole = config(toy_pairs, tiny_model, tmp_path / "whole", **fields)
    train(whole, quiet)
    batches = [one for one in seen if isinstance(one, list)]
    assert len(batches) == 6
    for wanted, again in (("auto", 2), ("never", 6)):
        chosen = config(toy_pairs, tiny_model, tmp_path / wanted, **fields)
        interrupted(6, monkeypatch, chosen)  # checkpoints after two steps, and four
        del seen[:]
        train(replace(chosen, resume=wanted), quiet)
        assert [one for one in seen if isinstance(one, list)] == batches[-again:], "exactly what was left to do"
        assert losses(chosen.out) == losses(whole.out)

    chosen = config(toy_pairs, tiny_model, tmp_path / "elsewhere", **fields)
    interrupted(6, monkeypatch, chosen)
    left = tmp_path / "elsewhere.partial" / "checkpoints"
    for typo in (tmp_path / "typo", left / "step-00000003"):
        with pytest.raises(TrainError, match="there is no checkpoint at"):
            train(replace(chosen, out=tmp_path / "typo-out", resume=str(typo)), quiet)
    with pytest.raises(TrainError, match="another configuration or other data"):
        train(replace(chosen, learning_rate=1e-4), quiet)
    train(replace(chosen, out=tmp_path / "from", resume=str(left / "step-00000002")), quiet)
    assert losses(tmp_path / "from") == losses(whole.out)
    (left / "step-00000004" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainError, match=r"is not what was saved.*remove that folder"):
        train(chosen, quiet)


def test_the_best_weights_go_along_to_another_folder(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were found before the checkpoint, and are better than all that comes after it."""
    fields = {"max_steps": 6, "save_every": 2, "eval_every": 1, "early_stopping": 6, "lora": 2}
    whole = config(toy_pairs, tiny_model, tmp_path / "whole", **fields)
    kept = train(whole, quiet).kept_step
    assert kept < 4, "all held-out pairs are right early"
    chosen = config(toy_pairs, tiny_model, tmp_path / "first", **fields)
    interrupted(6, monkeypatch, chosen)
    left = tmp_path / "first.partial" / "checkpoints" / "step-00000004"
    again = train(replace(chosen, out=tmp_path / "second", resume=str(left)), quiet)
    assert again.kept_step == kept
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "second")]
    assert weights[0] == weights[1]
    never = train(config(toy_pairs, tiny_model, tmp_path / "never", **{**fields, "eval_every": 9}), quiet)
    assert never.kept_step == 6, "without a look the last weights are kept"
