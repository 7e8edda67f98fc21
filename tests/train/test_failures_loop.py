"""Known failures of preference trainers that a loop can make, each as a test named after what goes wrong."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from whole_runs import config, quiet, rich_rows, rows_of, run_of

from prefdata.train import LOSSES, TrainConfig, TrainError, train
from prefdata.train.batch import collate
from prefdata.train.data import read_preferences
from prefdata.train.encoder import Encoder
from prefdata.train.loop import accumulate, optimise
from prefdata.train.metrics import Displacement
from prefdata.train.model import load_policy
from prefdata.train.tokens import tokenise

torch = pytest.importorskip("torch")
Write = Callable[..., Path]


def unlike_lists() -> list[dict[str, Any]]:
    """Seven lists of two to four responses of unlike lengths and weights."""
    texts = ["aa", "bcd", "e" * 9, "fgfgf"]
    return [{"responses": [text * (1 + n % 2) for text in texts[: 2 + n % 3]], "weight": 1.0 + n % 3} for n in range(7)]


@pytest.mark.parametrize(
    ("loss", "lora", "pack_tokens"),
    [
        *(("dpo", lora, size) for lora, size in ((0, 8), (4, 70), (0, 4096))),
        *(("plackett-luce", lora, size) for lora, size in ((4, 8), (0, 70), (4, 4096))),
    ],
)
def test_padding_counted_as_a_response_moves_the_first_loss(
    tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str, lora: int, pack_tokens: int
) -> None:
    """D 1: with policy equal to reference the first loss is ln 2, or the mean of ln K!, in every layout."""
    lists = unlike_lists()
    data = write_lists(tmp_path / "l.parquet", lists)
    chosen = config(
        data, tiny_model, tmp_path / "out", loss=loss, lora=lora, pack_tokens=pack_tokens, batch_size=7, max_steps=1
    )
    result = train(chosen, quiet)
    row = rows_of(tmp_path / "out")[0]
    total = sum(one["weight"] for one in lists)
    factorials = sum(one["weight"] * math.lgamma(len(one["responses"]) + 1) for one in lists) / total
    assert result.first_loss == pytest.approx(math.log(2) if loss == "dpo" else factorials, rel=3e-7)
    # Bitwise: the reference is computed in the very packs that are trained on.
    assert row["margin"] == row["chosen_change"] == row["rejected_change"] == row["kl"] == 0.0
    assert row["accuracy"] == 0.5
    assert row["packs"] == {8: 7, 70: row["packs"], 4096: 1}[pack_tokens]


@pytest.mark.parametrize("pack_tokens", [8, 90, 4096])
def test_a_response_in_several_packs_moves_the_first_loss(
    tmp_path: Path, write_pairs: Write, tiny_model: Path, pack_tokens: int
) -> None:
    """D 1: pairs of one list share their chosen response, which is scored once and trained on in many packs."""
    texts = [{"prompt": f"q{n // 3}", "chosen": f"{n // 3}" * 9, "rejected": "z" * (3 + n % 3)} for n in range(12)]
    data = write_pairs(tmp_path / "p.parquet", texts)
    chosen = config(data, tiny_model, tmp_path / "out", pack_tokens=pack_tokens, batch_size=12, max_steps=1)
    assert train(chosen, quiet).first_loss == pytest.approx(math.log(2), rel=1e-7)
    (row,) = rows_of(tmp_path / "out")
    assert row["packs"] == {8: 12, 90: row["packs"], 4096: 1}[pack_tokens]
    assert abs(row["margin"]) < 1e-5
    assert row["kl"] < 1e-9


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_pass_in_which_nothing_counts_poisons_the_gradient(rich_lists: Any, loss: str) -> None:
    """D 18: a pass whose weights are all 0 (a process may get nothing else) adds zeros, never NaN."""
    spec = LOSSES[loss]
    options = spec.checked_options({}, "test")
    micro = collate(rich_lists, alone=spec.over == "responses", values=list(rich_lists[0].source.values))
    nothing = replace(micro.batch, weight=torch.zeros_like(micro.batch.weight))
    heads = spec.outputs(options)
    made = torch.randn(len(micro.pack.last), len(heads)) if heads else -torch.rand(len(micro.pack.entry))
    made.requires_grad_()
    reference = torch.zeros(*micro.batch.mask.shape, micro.shape[1])
    outputs = micro.rewards(made) if heads else micro.outputs(made, reference, spec.needed(options))
    outputs = replace(outputs, mismatched=torch.zeros(0))
    assert not any(spec.masses(nothing, options).values())
    sums = spec.sums(outputs, nothing, options)
    torch.stack(list(sums.values())).sum().backward()
    assert made.grad is None or not made.grad.any()
    assert not any(value.any() for value in sums.values())
    assert all(value.any() for value in spec.masses(micro.batch, options).values())  # the weights are why


@pytest.fixture(scope="module")
def rich_lists(tmp_path_factory: pytest.TempPathFactory, write_lists: Write, tokenizer: Any) -> Any:
    """Two lists as token ids, with all that any loss reads."""
    data = read_preferences(write_lists(tmp_path_factory.mktemp("rich") / "l.parquet", rich_rows(2)))
    encoder = Encoder(tokenizer, "tiny", templated=None)
    return tokenise(data, encoder, frozenset({"edges", "rationales"}), max_length=200, overlong="error").training


def test_a_step_of_ties_is_said(tmp_path: Path, write_lists: Write, tiny_model: Path) -> None:
    rows = rich_rows(2)
    for row in rows:
        row["edges"] = [{**edge, "p": 0.5} for edge in row["edges"]]
    data = write_lists(tmp_path / "l.parquet", rows)
    lines: list[str] = []
    hard = {"loss_options": {"label": "hard"}, "max_steps": 1, "weight_decay": 0.0}
    train(config(data, tiny_model, tmp_path / "out", **hard), lines.append)
    assert any(line.startswith("step 1: nothing in its lists counts for the loss") for line in lines)


POLICY_LOSSES = sorted(name for name, spec in LOSSES.items() if spec.output == "policy")
AS_THEY_ARE: dict[str, dict[str, Any]] = {"ranklist": {"ramp": False}}
"""Options without which a loss is another function at the next step."""


@pytest.mark.parametrize("loss", POLICY_LOSSES)
def test_loss_stays_at_its_start(tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str) -> None:
    """D 10: after one step on lists that can be told apart the loss is below its start, for each policy loss."""
    data = write_lists(tmp_path / "l.parquet", rich_rows())
    options = AS_THEY_ARE.get(loss, {})
    common: dict[str, Any] = {"loss": loss, "loss_options": options, "max_steps": 2}
    run = run_of(config(data, tiny_model, tmp_path / "out", warmup=0, learning_rate=1e-3, **common), tmp_path / "work")
    assert (run.reference is not None) is ("reference" in run.needed)
    progress = optimise(run)
    first, last = progress.losses
    assert math.isfinite(first)
    assert last < first


@pytest.mark.parametrize("loss", ["dpo", "plackett-luce", "kto"])
def test_reference_is_used_however_it_is_given(tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str) -> None:
    """D 10: the loss falls from the same start with adapters off, all weights, a file, and another model's folder."""
    data = write_lists(tmp_path / "l.parquet", rich_rows())
    common: dict[str, Any] = {"loss": loss, "max_steps": 2, "warmup": 0, "learning_rate": 1e-3}
    train(config(data, tiny_model, tmp_path / "adapters", **common), quiet)
    train(config(data, tiny_model, tmp_path / "whole", lora=0, **common), quiet)
    lines: list[str] = []
    file = tmp_path / "adapters" / "reference.parquet"
    train(config(data, tiny_model, tmp_path / "file", reference=file, **common), lines.append)
    assert any("reference log-probabilities of " in line for line in lines)
    assert not any(" passes" in line for line in lines)  # nothing was computed
    train(config(data, tiny_model, tmp_path / "folder", reference=str(tiny_model), **common), quiet)
    found = {name: rows_of(tmp_path / name) for name in ("adapters", "whole", "file", "folder")}
    for rows in found.values():
        assert rows[1]["loss"] < rows[0]["loss"]
        assert rows[0]["loss"] == found["adapters"][0]["loss"]
    assert [row["loss"] for row in found["file"]] == [row["loss"] for row in found["adapters"]]
    # Another model is another start: the loss is no longer that of equal models.
    train(config(data, tmp_path / "whole", tmp_path / "other", reference=str(tiny_model), **common), quiet)
    assert rows_of(tmp_path / "other")[0]["loss"] < found["adapters"][0]["loss"]


def gradients(run: Any, loss_of: int = 0) -> tuple[dict[str, float], list[Any]]:
    terms, _, _, _ = accumulate(run, loss_of, {})
    found = [weight.grad.clone() for weight in run.policy.trained()]
    for weight in run.policy.trained():
        weight.grad = None
    return terms, found


@pytest.mark.parametrize("loss", ["dpo", "plackett-luce", "orpo", "kto", "sft", "bradley-terry"])
def test_accumulation_scales_gradients_by_passes(
    tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str
) -> None:
    """D 18: the gradient of one pass of seven lists is that of seven of one, and of uneven ones between."""
    data = write_lists(tmp_path / "l.parquet", unlike_lists())
    whole: tuple[dict[str, float], list[Any]] | None = None
    sizes = []
    for budget in (4096, 8, 90):
        chosen = config(
            data, tiny_model, tmp_path / "out", lora=0, loss=loss, pack_tokens=budget, batch_size=7, max_steps=1
        )
        run = run_of(chosen, tmp_path / f"work{budget}")
        if run.reference is not None:  # another reference than the policy: else the gradient hardly depends on the list
            for number, key in enumerate(sorted(run.reference._values)):
                run.reference._values[key] = run.reference._values[key] - 0.03 * (number % 7)
        sizes.append(sorted(map(len, run.packs(0))))
        found = gradients(run)
        if whole is None:
            whole = found
            continue
        assert found[0] == pytest.approx(whole[0], rel=1e-5)
        for one, other in zip(found[1], whole[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert sizes[0] == [7]
    assert sizes[1] == [1] * 7
    assert len(set(sizes[2])) > 1  # uneven


def test_mean_over_passes_would_be_another_gradient(tmp_path: Path, write_lists: Write, tiny_model: Path) -> None:
    """D 18, negative control: averaging the passes' own means, as trainers did, gives another loss on these lists."""
    data = write_lists(tmp_path / "l.parquet", unlike_lists())
    chosen = config(data, tiny_model, tmp_path / "out", loss="plackett-luce", pack_tokens=90, batch_size=7, max_steps=1)
    run = run_of(chosen, tmp_path / "work")
    terms, _ = gradients(run)
    means = []
    for pack in run.packs(0):
        places = [run.lists.index(entry) for entry in pack]
        alone = run_of(chosen, tmp_path / "work")
        alone.plan[0][:] = places
        means.append(sum(gradients(alone)[0].values()))
    assert abs(sum(means) / len(means) - sum(terms.values())) > 1e-3


def test_chosen_reward_falls_and_nobody_says_so(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    """D 23: while the loss falls the better responses, with which the worse ones begin, fall too: a warning, once."""
    rows = [
        {"prompt": f"say {n}", "chosen": "a" * (2 + n % 3), "rejected": "a" * (2 + n % 3) + "b" * 8} for n in range(8)
    ]
    data = write_pairs(tmp_path / "p.parquet", rows)
    common: dict[str, Any] = {"lora": 0, "warmup": 0, "max_steps": 10}
    said: dict[str, list[str]] = {}
    for name, rate in (("fast", 0.05), ("slow", 0.01)):
        lines: list[str] = []
        train(config(data, tiny_model, tmp_path / name, learning_rate=rate, **common), lines.append)
        said[name] = [line for line in lines if line.startswith("warning: the better responses became less likely")]
        found = rows_of(tmp_path / name)
        assert found[0]["displaced"] == 0.0
        assert found[-1]["loss"] < 0.2
        assert (found[-1]["chosen_change"] < -3) is (name == "fast")
        assert (found[-1]["displaced"] == 1.0) is (name == "fast")
    assert [len(lines) for lines in said.values()] == [1, 0]


def test_displacement_is_warned_of_once_in_plain_words() -> None:
    """D 23: not for a small fall, not for a few responses, and not twice."""
    watch = Displacement(("beta", "sft"))
    assert watch.warning({"chosen_change": -0.5, "displaced": 1.0}) is None
    assert Displacement().warning({"chosen_change": -5.0, "displaced": 0.4}) is None
    assert Displacement().warning({"chosen_change": None, "displaced": None}) is None
    said = watch.warning({"chosen_change": -9.5, "displaced": 1.0})
    assert said is not None
    assert "100% of them, on average by a factor of 148" in said
    assert said.endswith("neither: add an SFT term (sft=0.1 or more), or raise beta, or lower learning_rate")
    listwise = Displacement(("beta",)).warning({"chosen_change": -9.5, "displaced": 1.0})
    assert listwise is not None
    assert "sft" not in listwise  # which the loss has not
    assert watch.warning({"chosen_change": -9.5, "displaced": 1.0}) is None


CHANGED: dict[str, Any] = {
    "beta": 0.3,
    "loss_options": {"margin": "scores"},
    "max_steps": 2,
    "batch_size": 3,
    "pack_tokens": 40,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup": 1.0,
    "weight_decay": 0.5,
    "max_grad_norm": 1e-3,
    "lora": 2,
    "lora_alpha": 64.0,
    "precision": "bf16",
    "max_length": 29,
    "template": "none",
    "seed": 5,
    "loss": "ipo",
    "eval_every": 1,
}
"""Fields that a run's metrics show, with another value than the plain run's."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "quantize": ({"quantize": "4bit"}, "computes on a CUDA GPU"),
    "attention": ({"attention": "flex"}, "attention: flex has no backward pass on cpu"),
    "distributed": ({"distributed": "fsdp2"}, "needs processes that a launcher starts"),
    "rationale_template": ({"rationale_template": "{prompt}{first}{second}"}, "the loss 'dpo' reads no rationales"),
    "early_stopping": ({"early_stopping": 1}, "set eval_every"),
    "epochs": ({"epochs": 2}, "max_steps and epochs both"),
    "device": ({"device": "abacus"}, "the device 'abacus' cannot be used"),
    "plugins": ({"plugins": ("nowhere.py",)}, "there is no file"),
    "resume": ({"resume": "nowhere"}, "there is no checkpoint"),
    "reference": ({"reference": "nowhere.parquet"}, "there is no file"),
    "model": ({"model": "/nowhere/at/all"}, "cannot be loaded"),
    "data": ({"data": "nowhere.parquet"}, "nowhere.parquet"),
    "overlong": ({"overlong": "error", "max_length": 29}, "more than max_length|longer than"),
}
"""Fields that the plain run cannot follow, and why; what they do where they can is shown elsewhere."""
ELSEWHERE = {
    "out": "every test",
    "gradient_checkpointing": "test_gradient_checkpointing_computes_again",
    "deterministic": "test_deterministic_is_for_the_run_alone",
    "log_every": "test_out_holds_metrics_and_manifest",
    "tensorboard": "test_tensorboard_gets_the_numbers",
    "save_every": "test_a_run_goes_on_where_it_was_interrupted",
}


def test_every_field_is_shown_to_act() -> None:
    """D 15: a field that is added must be shown to change something, or to be refused."""
    known = {field.name for field in fields(TrainConfig)}
    assert known == {*CHANGED, *REFUSED, *ELSEWHERE}


def metrics_without_time(out: Path) -> list[dict[str, Any]]:
    times = ("seconds", "tokens_per_s", "useful_tokens_per_s", "peak_memory")
    return [{key: value for key, value in row.items() if key not in times} for row in rows_of(out)]


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_option_dropped_by_some_path(
    tmp_path: Path, write_pairs: Write, tiny_model: Path, name: str, plain_run: list[dict[str, Any]]
) -> None:
    """D 15: every field changes what the run computes."""
    data = scored_pairs(tmp_path, write_pairs)
    train(config(data, tiny_model, tmp_path / "out", **{**PLAIN, name: CHANGED[name]}), quiet)
    assert metrics_without_time(tmp_path / "out") != plain_run


def test_same_option_same_run(
    tmp_path: Path, write_pairs: Write, tiny_model: Path, plain_run: list[dict[str, Any]]
) -> None:
    """D 15, negative control: the same configuration gives the same metrics."""
    train(config(scored_pairs(tmp_path, write_pairs), tiny_model, tmp_path / "out", **PLAIN), quiet)
    assert metrics_without_time(tmp_path / "out") == plain_run


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_option_that_cannot_act_is_refused(tmp_path: Path, toy_pairs: Path, tiny_model: Path, name: str) -> None:
    """D 15: in a sentence, before the first step."""
    change, pattern = REFUSED[name]
    given = {"model": str(tiny_model), "data": toy_pairs, "out": tmp_path / "out", "max_steps": 2, **change}
    with pytest.raises(TrainError, match=pattern) as caught:
        train(TrainConfig.from_mapping({"batch_size": 4, **given}), quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"lora": 0, "lora_alpha": 8.0}, "lora_alpha scales LoRA adapters"),
        ({"lora": 0, "quantize": "4bit"}, "quantised weights cannot be trained"),
        ({"loss": "lcpo", "reference": "m", "loss_options": {"base": "simpo"}}, "the loss 'lcpo' reads no reference"),
        ({"loss": "simpo", "reference": "m"}, "the loss 'simpo' reads no reference"),
        ({"loss": "simpo", "beta": 0.0}, "beta is a number above 0"),
        ({"loss": "sft", "beta": 0.1}, "takes no option 'beta'"),
    ],
)
def test_option_without_use_beside_another_is_refused(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, change: dict[str, Any], pattern: str
) -> None:
    """D 15: also where only the other options make it idle."""
    with pytest.raises(TrainError, match=pattern):
        train(config(toy_pairs, tiny_model, tmp_path / "out", **change), quiet)


PLAIN: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "warmup": 0.1}


def scored_pairs(folder: Path, write_pairs: Write) -> Path:
    rows = [
        {
            "prompt": f"say {n}",
            "chosen": "a" * (3 + n % 4),
            "rejected": "z" * (2 + n % 5),
            "score_chosen": 0.9,
            "score_rejected": 0.1,
            "split": "valid" if n % 4 == 3 else "train",
        }
        for n in range(16)
    ]
    return write_pairs(folder / "scored.parquet", rows)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory, write_pairs: Write, tiny_model: Path) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("plain")
    train(config(scored_pairs(folder, write_pairs), tiny_model, folder / "out", **PLAIN), quiet)
    return metrics_without_time(folder / "out")


def test_gradient_checkpointing_computes_again(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D 15: it acts (layers run twice) although nothing drops out, and changes no number."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls = []
    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: (calls.append(1), forward(self, x))[1])
    runs = {}
    for name, on in (("plain", False), ("again", True)):
        calls.clear()
        train(config(toy_pairs, tiny_model, tmp_path / name, gradient_checkpointing=on), quiet)
        runs[name] = (len(calls), [(row["loss"], row["grad_norm"]) for row in rows_of(tmp_path / name)])
    assert runs["again"][0] > runs["plain"][0]
    assert runs["again"][1] == runs["plain"][1]
    assert runs["again"][1][0][0] == pytest.approx(math.log(2), abs=1e-7)


def test_deterministic_is_for_the_run_alone(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D 15: torch's switch is on inside the run, and as it was afterwards."""
    from prefdata.train import loop

    seen = []

    def look(run: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return optimise(run)

    monkeypatch.setattr(loop, "optimise", look)
    for wanted in (True, False):
        train(config(toy_pairs, tiny_model, tmp_path / "out", deterministic=wanted), quiet)
    assert seen == [True, False]
    assert not torch.are_deterministic_algorithms_enabled()


def test_tensorboard_gets_the_numbers(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D 15: where it is installed; else the option is refused before the first step."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match="tensorboard: true needs the package tensorboard"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", tensorboard=True), quiet)
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder.endswith("tensorboard")
            assert purge_step == 0

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    train(config(toy_pairs, tiny_model, tmp_path / "out", tensorboard=True), quiet)
    losses = [row["loss"] for row in rows_of(tmp_path / "out")]
    assert [(value, step) for name, value, step in written if name == "loss"] == list(
        zip(losses, range(3), strict=True)
    )
    assert written[-1][0] == "closed"


def test_dropout_is_off(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    """D 11: also in the training mode that gradient checkpointing needs."""
    from prefdata.train.devices import connect

    for checkpointing in (False, True):
        chosen = config(toy_pairs, tiny_model, tmp_path / "out", gradient_checkpointing=checkpointing)
        policy = load_policy(chosen, connect(chosen))
        assert policy.module.training is checkpointing
        for module in policy.module.modules():
            assert not isinstance(module, torch.nn.Dropout) or module.p == 0.0
            assert getattr(module, "attention_dropout", 0.0) == 0.0
