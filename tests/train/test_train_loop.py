"""The loop on a tiny random Llama: exact first steps, equal gradients, saved folders, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefdata.train import LOSSES, Result, TrainConfig, TrainError, train
from prefdata.train.data import read_preferences
from prefdata.train.loop import accumulate, plan_steps, rate_factor, reference_logprobs, score
from prefdata.train.metrics import StepMetrics, accuracy, wilson
from prefdata.train.model import Policy, load_policy, save_policy, working_folder
from prefdata.train.tokens import Encoder, TokenList, tokenise

torch = pytest.importorskip("torch")
Write = Callable[..., Path]
LOG2 = math.log(2)


def quiet(_: str) -> None:
    pass


def config(data: Path, model: Path, out: Path, **rest: Any) -> TrainConfig:
    given = {"batch_size": 4, "learning_rate": 5e-3, "max_length": 200, "device": "cpu", "max_steps": 3, **rest}
    return TrainConfig(data=data, model=str(model), out=out, **given)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def tokens_of(data: Path, policy: Policy, loss: str = "dpo") -> list[TokenList]:
    read = read_preferences(data)
    encoder = Encoder(policy.tokenizer, "tiny", templated=None)
    return tokenise(read, encoder, LOSSES[loss].reads, max_length=200, overlong="error").training


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("micro", [1, 3, 4])
def test_first_loss_is_log_2_and_the_loss_falls(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, lora: int, micro: int
) -> None:
    rate = 5e-3 if lora else 1e-3
    chosen = config(
        toy_pairs, tiny_model, tmp_path / "out", lora=lora, micro_batch_size=micro, learning_rate=rate, max_steps=8
    )
    result = train(chosen, quiet)
    rows = rows_of(tmp_path / "out")
    # Bitwise, in every layout: the reference is computed in the very micro-batches that are trained on.
    assert rows[0]["margin"] == rows[0]["chosen_change"] == rows[0]["rejected_change"] == 0.0
    assert rows[0]["accuracy"] == 0.5
    assert result.first_loss == pytest.approx(LOG2, abs=1e-7)
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["accuracy"] == 1.0
    assert result.before is not None
    assert result.after is not None
    assert result.before.reward is not None
    assert (result.before.reward.value, result.before.reward.edges) == (0.5, 4)  # zero everywhere: all ties
    assert result.after.reward is not None
    assert result.after.reward.value == 1.0


@pytest.mark.parametrize("average", ["list", "stage"])
def test_plackett_luce_trains_on_lists_of_unlike_length(
    tmp_path: Path, write_lists: Write, tiny_model: Path, average: str
) -> None:
    rows = [{"responses": ["a" * 5, "k" * 3, "z" * 4][: 2 + n % 2]} for n in range(6)]
    data = write_lists(tmp_path / "l.parquet", rows)
    options = {"mean_over_stages": average == "stage"}
    result = train(
        config(data, tiny_model, tmp_path / "out", loss="plackett-luce", batch_size=6, loss_options=options), quiet
    )
    whole = (math.log(2) + math.log(6)) / 2
    divided = (math.log(2) + math.log(6) / 2) / 2
    assert result.first_loss == pytest.approx(whole if average == "list" else divided, abs=1e-6)
    assert result.last_loss < result.first_loss
    assert result.before is None


def gradients(policy: Policy, lists: list[TokenList], micro: int, loss: str) -> tuple[float, list[Any]]:
    """Loss and gradients of one step over all lists, in micro-batches of `micro`."""
    step = [list(range(start, min(start + micro, len(lists)))) for start in range(0, len(lists), micro)]
    reference = reference_logprobs(policy, lists, [step], quiet)
    # Another reference than the policy, else the gradient hardly depends on the list.
    other = [
        ref + torch.tensor([0.3 * len(ids) for ids in entry.responses])
        for ref, entry in zip(reference, lists, strict=True)
    ]
    value, tokens, _ = accumulate(policy, LOSSES[loss], {}, lists, step, other)
    assert tokens == sum(len(entry.prompt) + len(ids) for entry in lists for ids in entry.responses)
    found = [weight.grad.clone() for weight in policy.trained()]
    for weight in policy.trained():
        weight.grad = None
    return value, found


@pytest.mark.parametrize("loss", ["dpo", "plackett-luce"])
def test_accumulated_gradients_are_those_of_one_batch(
    tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str
) -> None:
    """8 x 1, 3 + 3 + 2 and 1 x 8 lists of unlike size and weight."""
    rows = [{"responses": ["aa", "bcd", "e" * n][: 2 + n % 2], "weight": 1.0 + n % 3} for n in range(1, 9)]
    data = write_lists(tmp_path / "l.parquet", rows)
    policy = load_policy(config(data, tiny_model, tmp_path / "out", lora=0))
    lists = tokens_of(data, policy, loss)
    value, whole = gradients(policy, lists, 8, loss)
    for micro in (1, 3):
        same_value, same = gradients(policy, lists, micro, loss)
        assert same_value == pytest.approx(value, rel=1e-5)
        for one, other in zip(same, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_micro_batches_change_nothing_in_the_loop(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    runs = []
    for micro in (1, 4):
        out = tmp_path / str(micro)
        train(config(toy_pairs, tiny_model, out, micro_batch_size=micro, lora=0, learning_rate=1e-3), quiet)
        runs.append([(row["loss"], row["grad_norm"], row["tokens"]) for row in rows_of(out)])
    for one, other in zip(*runs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_lists_of_two_are_pairs(tmp_path: Path, write_lists: Write, write_pairs: Write, tiny_model: Path) -> None:
    texts = [("a" * (1 + n % 3), "z" * (2 + n % 4)) for n in range(8)]
    pairs = write_pairs(
        tmp_path / "p.parquet", [{"prompt": f"q{n}", "chosen": a, "rejected": z} for n, (a, z) in enumerate(texts)]
    )
    lists = write_lists(
        tmp_path / "l.parquet",
        [{"prompt": [{"role": "user", "content": f"q{n}"}], "responses": [a, z]} for n, (a, z) in enumerate(texts)],
    )
    outs = [tmp_path / name for name in ("p", "l", "pl")]
    train(config(pairs, tiny_model, outs[0]), quiet)
    train(config(lists, tiny_model, outs[1]), quiet)
    train(config(lists, tiny_model, outs[2], loss="plackett-luce"), quiet)
    losses = [[row["loss"] for row in rows_of(out)] for out in outs]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], abs=1e-6)


def test_seeds_reproduce_and_differ(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    losses = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        train(config(toy_pairs, tiny_model, out, seed=seed), quiet)
        losses.append([row["loss"] for row in rows_of(out)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("lora", [0, 4])
def test_saved_folder_gives_the_trained_log_probabilities(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, lora: int
) -> None:
    """LoRA merged equals LoRA on; the reference with adapters off equals the base; both after real steps."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefdata.train.loop import optimise

    chosen = config(toy_pairs, tiny_model, tmp_path / "out", lora=lora)
    base = load_policy(config(toy_pairs, tiny_model, tmp_path / "out", lora=0))
    policy = load_policy(chosen)
    lists = tokens_of(toy_pairs, policy)
    plan = plan_steps(len(lists), chosen)
    reference = reference_logprobs(policy, lists, plan, quiet)
    optimise(chosen, policy, LOSSES["dpo"], {}, lists, plan, reference, tmp_path / "m.jsonl", quiet)
    trained, untrained = score(policy, lists, 4), score(base, lists, 4)
    assert abs(trained[0][0] - untrained[0][0]) > 0.01
    if lora:
        with policy.as_reference():
            assert score(policy, lists, 4) == untrained
    with working_folder(tmp_path / "model") as folder:
        save_policy(policy, folder)
        (folder / "train.json").touch()
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert not any(name.startswith("adapter") or name.endswith((".bin", ".pt")) for name in files)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == base.tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    reloaded = score(Policy(model, tokenizer, torch.device("cpu"), False), lists, 4)
    for one, other in zip(reloaded, trained, strict=True):
        assert one == pytest.approx(other, abs=2e-4 if lora else 0)


def test_dropout_is_off(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    policy = load_policy(config(toy_pairs, tiny_model, tmp_path / "out"))
    assert not policy.model.training
    assert not any(module.training for module in policy.model.modules())


def test_out_holds_metrics_and_manifest(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    lines: list[str] = []
    result = train(config(toy_pairs, tiny_model, tmp_path / "out", beta=0.2, log_every=2), lines.append)
    assert isinstance(result, Result)
    rows = rows_of(tmp_path / "out")
    assert [row["step"] for row in rows] == [0, 1, 2]
    expected = {"step", "loss", "lr", "grad_norm", "margin", "accuracy", "chosen_change", "rejected_change"}
    assert expected <= set(rows[0])
    assert rows[0]["tokens_per_s"] > 0
    manifest = json.loads((tmp_path / "out" / "train.json").read_text())
    assert manifest["config"]["loss_options"] == {"beta": 0.2}
    assert manifest["config"]["learning_rate"] == 5e-3
    assert manifest["data"]["metadata"] == {"prefdata.format": "trl-pairs-conversational/1", "prefdata.commit": "7"}
    assert len(manifest["data"]["sha256"]) == 64
    assert (manifest["counts"]["training"], manifest["counts"]["held_out"]) == (12, 4)
    assert manifest["results"]["after"]["reward"]["groups"] == 4
    assert {"torch", "transformers", "peft"} <= set(manifest["versions"])
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["1/3", "3/3"]
    assert not (tmp_path / "out.partial").exists()


def test_what_is_left_out_is_printed_and_recorded(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a" * (1 + 300 * (n % 2)), "rejected": "b"} for n in range(4)]
    lines: list[str] = []
    result = train(config(write_pairs(tmp_path / "p.parquet", rows), tiny_model, tmp_path / "out"), lines.append)
    assert result.counts["left_out"] == {"longer than 200 tokens": 2}
    assert "  left out: 2 x longer than 200 tokens" in lines
    assert any("has no column 'split'" in line for line in lines)


def test_an_earlier_run_is_replaced_and_nothing_else(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    train(config(toy_pairs, tiny_model, out, max_steps=1), quiet)
    train(config(toy_pairs, tiny_model, out, max_steps=2), quiet)
    assert len(rows_of(out)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "toy.parquet"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(TrainError, match="is not what an earlier training run left"):
        train(config(toy_pairs, tiny_model, tmp_path / "mine"), quiet)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_failed_run_leaves_the_earlier_one(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    train(config(toy_pairs, tiny_model, out, max_steps=1), quiet)
    with pytest.raises(TrainError, match=r"step \d+: the loss is (nan|inf)"):
        train(config(toy_pairs, tiny_model, out, lora=0, learning_rate=1e30, warmup=0, max_steps=9), quiet)
    assert len(rows_of(out)) == 1
    assert (tmp_path / "out.partial" / "metrics.jsonl").stat().st_size > 0
    train(config(toy_pairs, tiny_model, out, max_steps=2), quiet)
    assert len(rows_of(out)) == 2
    assert not (tmp_path / "out.partial").exists()


def test_a_loss_of_ones_own(tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.train.losses.LOSSES", dict(LOSSES))
    plugin = tmp_path / "my_losses.py"
    plugin.write_text(
        "import prefdata.train\n\n"
        "@prefdata.train.loss('hinge', reads=('edges',))\n"
        "def hinge(lp, ref, batch, *, gap=1.0):\n"
        "    win, lose = batch.sides(lp - ref)\n"
        "    return batch.mean_over_edges((gap - (win - lose)).clamp(min=0))\n"
    )
    chosen = config(toy_pairs, tiny_model, tmp_path / "out", loss="hinge", plugins=(plugin,), loss_options={"gap": 2})
    result = train(chosen, quiet)
    assert result.first_loss == pytest.approx(2.0, abs=1e-6)
    assert result.last_loss < 2.0
    with pytest.raises(TrainError, match="the loss 'hinge' takes no option 'beta'"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", loss="hinge", beta=0.1), quiet)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [(None, "plugins: there is no file"), ("import polarbears\n", "cannot be imported: ModuleNotFoundError")],
)
def test_plugins_that_are_refused(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, text: str | None, pattern: str
) -> None:
    plugin = tmp_path / "my.py"
    if text:
        plugin.write_text(text)
    with pytest.raises(TrainError, match=pattern):
        train(config(toy_pairs, tiny_model, tmp_path / "out", plugins=(str(plugin),)), quiet)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"loss": "dop"}, "no loss 'dop'.*did you mean 'dpo'"),
        ({"model": "/nowhere/at/all"}, "the model '/nowhere/at/all' cannot be loaded"),
        ({"device": "abacus"}, "the device 'abacus' cannot be used"),
        ({"loss_options": {"gamma": 1}}, "the loss 'dpo' takes no option 'gamma'"),
    ],
)
def test_refusals_are_sentences(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, change: dict[str, Any], pattern: str
) -> None:
    given = {"model": str(tiny_model), "data": toy_pairs, "out": tmp_path / "out", **change}
    with pytest.raises(TrainError, match=pattern) as caught:
        train(TrainConfig.from_mapping(given), quiet)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.parquet"]


def test_plain_texts_for_a_chat_model_are_remarked_on(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    lines: list[str] = []
    for name, prompt in (("plain", "q"), ("rendered", "<|turn|>user\nq<|end|>\n<|turn|>assistant\n")):
        row = {"prompt": prompt, "chosen": "a<|end|>", "rejected": "b<|end|>"}
        data = write_pairs(tmp_path / f"{name}.parquet", [row], False)
        train(config(data, tiny_model, tmp_path / name, max_steps=1), lines.append)
        remarked = any("used as they are" in line for line in lines)
        assert remarked is (name == "plain")
        lines.clear()


def test_no_train_split(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "split": "valid"}
    with pytest.raises(TrainError, match="no row of the split train"):
        train(config(write_pairs(tmp_path / "p.parquet", [row]), tiny_model, tmp_path / "out"), quiet)


def test_pickled_weights_are_refused(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    import shutil

    shutil.copytree(tiny_model, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(TrainError, match=r"cannot be loaded: .*model\.safetensors"):
        load_policy(config(toy_pairs, tmp_path / "pickled", tmp_path / "out"))


def test_plan_holds_every_list_once_an_epoch(tmp_path: Path) -> None:
    chosen = TrainConfig(data=tmp_path, model="m", out=tmp_path, batch_size=4, micro_batch_size=3, epochs=2)
    plan = plan_steps(10, chosen)
    assert [[len(micro) for micro in step] for step in plan] == [[3, 1], [3, 1], [2]] * 2
    epochs = [[place for step in half for micro in step for place in micro] for half in (plan[:3], plan[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    longer = TrainConfig(data=tmp_path, model="m", out=tmp_path, batch_size=4, micro_batch_size=3, max_steps=7)
    assert plan_steps(10, longer)[:6] == plan
    assert len(plan_steps(10, longer)) == 7


def test_rates() -> None:
    linear = [rate_factor(step, 10, 0.2, "linear") for step in range(10)]
    assert linear == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    cosine = [rate_factor(step, 4, 0.0, "cosine") for step in range(4)]
    assert cosine == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert rate_factor(9, 10, 0.0, "constant") == 1.0
    assert rate_factor(0, 1, 1.0, "linear") == 1.0


def test_wilson() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)
    assert wilson(1.0, 6) == pytest.approx((0.6097, 1.0), abs=5e-5)
    assert wilson(0.0, 6)[0] == 0.0


def test_accuracy_counts_ties_half_and_groups_once(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    edges = [{"winner": 0, "loser": 1, "p": 0.5}, {"winner": 0, "loser": 2, "p": 0.2}]
    rows = [
        {"responses": ["a", "b", "c"], "group": "g"},
        {"responses": ["a", "b"], "group": "g"},
        {"responses": ["a", "b", "c"], "edges": edges},
    ]
    data = read_preferences(write_lists(tmp_path / "l.parquet", rows))
    lists = tokenise(
        data, Encoder(tokenizer, "t", templated=None), frozenset(), max_length=99, overlong="error"
    ).training
    found = accuracy(lists, [[3.0, 1.0, 2.0], [1.0, 1.0], [1.0, 2.0, 5.0]])
    assert found is not None
    # right, right, wrong; tie; p 0.5 passed over, p 0.2 the other way about and right
    assert (found.value, found.edges, found.groups) == ((1 + 1 + 0 + 0.5 + 1) / 5, 5, 2)
    assert (found.low, found.high) == wilson(0.7, 2)
    assert accuracy([], []) is None


def test_step_metrics_over_micro_batches() -> None:
    """Means over edges, not over micro-batches, against brute force."""
    from test_train_losses import make_batch

    first = make_batch([[1, 2, 3]])
    second = make_batch([[1, 2]], p=[0.2])
    gathered = StepMetrics()
    gathered.add(torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[1.0, 1.0, 1.0]]), first)
    gathered.add(torch.tensor([[1.0, 4.0]]), torch.zeros(1, 2), second)
    assert gathered.as_dict() == {
        "margin": (2 + 2 + 0 + 3) / 4,
        "accuracy": (1 + 1 + 0.5 + 1) / 4,
        "chosen_change": (2 + 2 + 0 + 4) / 4,
        "rejected_change": (0 + 0 + 0 + 1) / 4,
    }
    assert set(StepMetrics().as_dict().values()) == {None}
