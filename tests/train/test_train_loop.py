"""The loop on a tiny random Llama: runs, saved folders, resuming, early stopping, refusals."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from whole_runs import config, quiet, rich_rows, rows_of, run_of

from prefdata.lm import Row
from prefdata.train import LOSSES, Result, TrainConfig, TrainError, train
from prefdata.train import loop as loop_module
from prefdata.train.loop import accumulate, optimise
from prefdata.train.metrics import HeldOut, kendall_tau
from prefdata.train.model import load_model, load_policy, save_policy
from prefdata.train.plan import plan_steps, rate_factor
from prefdata.train.run import Run, settle_shapes
from prefdata.train.screen import duration

torch = pytest.importorskip("torch")
Write = Callable[..., Path]


@pytest.mark.parametrize("lora", [0, 4])
def test_the_loss_falls_and_held_out_pairs_come_right(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, lora: int
) -> None:
    chosen = config(
        toy_pairs, tiny_model, tmp_path / "out", lora=lora, learning_rate=5e-3 if lora else 1e-3, max_steps=8
    )
    result = train(chosen, quiet)
    rows = rows_of(tmp_path / "out")
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["accuracy"] == 1.0
    assert result.before is not None
    assert result.after is not None
    assert result.before.reward is not None
    assert (result.before.reward.value, result.before.reward.edges) == (0.5, 4)  # zero everywhere: all ties
    assert result.after.reward is not None
    assert result.after.reward.value == 1.0


@pytest.mark.parametrize("divided", [False, True])
def test_plackett_luce_trains_on_lists_of_unlike_length(
    tmp_path: Path, write_lists: Write, tiny_model: Path, divided: bool
) -> None:
    rows = [{"responses": ["a" * 5, "k" * 3, "z" * 4][: 2 + n % 2]} for n in range(6)]
    data = write_lists(tmp_path / "l.parquet", rows)
    options = {"mean_over_stages": divided}
    result = train(
        config(data, tiny_model, tmp_path / "out", loss="plackett-luce", batch_size=6, loss_options=options), quiet
    )
    first = (math.log(2) + math.log(6) / (2 if divided else 1)) / 2
    assert result.first_loss == pytest.approx(first, abs=1e-6)
    assert result.last_loss < result.first_loss
    assert result.before is None
    last = rows_of(tmp_path / "out")[-1]
    assert set(last["rank_logprobs"]) == {"1", "2", "3"}
    assert last["kendall_tau"] > rows_of(tmp_path / "out")[0]["kendall_tau"] == 0.0


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


def test_packs_change_nothing_in_the_loop(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    runs = []
    for budget in (8, 60, 4096):
        out = tmp_path / str(budget)
        train(config(toy_pairs, tiny_model, out, pack_tokens=budget, lora=0, learning_rate=1e-3), quiet)
        runs.append([(row["loss"], row["grad_norm"], row["useful_tokens"], row["kl"]) for row in rows_of(out)])
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert one == pytest.approx(two, rel=1e-4, abs=1e-9)


def test_shared_prompts_are_computed_once(tmp_path: Path, write_lists: Write, tiny_model: Path) -> None:
    """Tokens are those of the packs, useful tokens those of the same rows one by one."""
    data = write_lists(tmp_path / "l.parquet", [{"responses": ["ab", "cd", "ef"]}])
    train(config(data, tiny_model, tmp_path / "out", loss="plackett-luce", max_steps=1), quiet)
    row = rows_of(tmp_path / "out")[0]
    prompt = len("<|turn|>") - 7 + len("user\nquestion 0") + 1 + 1 + 1 + len("assistant\n")
    assert (row["tokens"], row["useful_tokens"]) == (prompt + 9, 3 * prompt + 9)
    assert (row["padding"], row["mfu"], row["packs"]) == (0.0, None, 1)
    assert row["peak_memory"] > 1e6


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

    run = run_of(config(toy_pairs, tiny_model, tmp_path / "out", lora=lora), tmp_path / "work")
    rows = [row for entry in run.lists for row in entry.rows]
    base, tokenizer = load_model(str(tiny_model))
    optimise(run)
    trained = [float(values.sum()) for values in policy_rows(run.policy, rows)]
    untrained = [own_logprob(base, row) for row in rows]
    assert abs(trained[0] - untrained[0]) > 0.01
    if lora:
        with run.policy.as_reference():
            off = [float(values.sum()) for values in policy_rows(run.policy, rows)]
        assert off == pytest.approx(untrained, abs=1e-4)
    folder = tmp_path / "model"
    folder.mkdir()
    save_policy(run.policy, run.config, folder)
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert not any(name.startswith("adapter") or name.endswith((".bin", ".pt")) for name in files)
    assert AutoTokenizer.from_pretrained(folder).chat_template == tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert [own_logprob(model, row) for row in rows] == pytest.approx(trained, abs=2e-4)


def policy_rows(policy: Any, rows: list[Row]) -> list[Any]:
    from prefdata.train.scoring import rows_of as scored

    with torch.no_grad():
        return scored(policy, [rows])


def own_logprob(model: Any, row: Row) -> float:
    """The sum over the scored tokens, by the model's own forward pass on this row alone."""
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
    return float(sum(logp[place - 1, row.tokens[place]] for place in row.scored))


def test_training_starts_from_a_folder_of_adapters(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    """Merged into their base, they are policy and reference of the first step; pickled ones are refused."""
    from peft import LoraConfig, get_peft_model

    base, _ = load_model(str(tiny_model))
    torch.manual_seed(3)
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    wrapped.save_pretrained(tmp_path / "sft")
    result = train(config(toy_pairs, tmp_path / "sft", tmp_path / "out"), quiet)
    assert result.first_loss == pytest.approx(math.log(2), abs=1e-7)
    plain = train(config(toy_pairs, tiny_model, tmp_path / "plain"), quiet)
    assert result.last_loss != plain.last_loss
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    (tmp_path / "sft" / "adapter_model.safetensors").rename(tmp_path / "sft" / "adapter_model.bin")
    with pytest.raises(TrainError, match=r"has no adapter_model\.safetensors"):
        train(config(toy_pairs, tmp_path / "sft", tmp_path / "out"), quiet)


@pytest.mark.parametrize("loss", ["bradley-terry", "reward-plackett-luce", "multi-attribute"])
@pytest.mark.parametrize("lora", [0, 4])
def test_reward_models_are_folders_that_transformers_loads(
    tmp_path: Path, write_lists: Write, tiny_model: Path, loss: str, lora: int
) -> None:
    """The head's outputs at the last token, read by transformers' own class in padded rows, are those of training."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows = [{**row, "split": "valid" if n == 3 else "train"} for n, row in enumerate(rich_rows())]
    data = write_lists(tmp_path / "l.parquet", rows)
    chosen = config(data, tiny_model, tmp_path / "out", loss=loss, lora=lora, max_steps=6, learning_rate=5e-3)
    result = train(chosen, quiet)
    assert result.last_loss < result.first_loss
    assert result.after is not None
    assert result.after.mean_logprob is None
    assert result.after.reward is not None
    assert result.after.kendall_tau is not None
    assert not (tmp_path / "out" / "reference.parquet").exists()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    several = loss == "multi-attribute"
    assert model.config.num_labels == (5 if several else 1)
    assert next(iter(model.config.id2label.values())) == ("helpfulness" if several else "reward")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "question 3"}, {"role": "assistant", "content": text}], tokenize=False
        ).rstrip("\n")
        for text in rows[3]["responses"]
    ]
    # All special tokens of the tiny tokenizer stand in the texts, so it has no padding: rows are read one by one.
    assert model.config.pad_token_id is None
    assert tokenizer.pad_token_id is None
    with torch.no_grad():
        own = [model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits[0, 0] for text in texts]
    reward = [float(value) for value in own]
    tau = kendall_tau(reward, [1, 2, 3])
    assert tau == pytest.approx(result.after.kendall_tau)


def test_out_holds_metrics_manifest_and_card(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    lines: list[str] = []
    result = train(config(toy_pairs, tiny_model, tmp_path / "out", beta=0.2, log_every=2), lines.append)
    assert isinstance(result, Result)
    rows = rows_of(tmp_path / "out")
    assert [row["step"] for row in rows] == [0, 1, 2]
    expected = {"step", "loss", "lr", "grad_norm", "margin", "accuracy", "chosen_change", "rejected_change", "terms"}
    expected |= {"displaced", "rank_logprobs", "kendall_tau", "ndcg", "kl", "tokens", "useful_tokens", "mfu", "padding"}
    assert expected <= set(rows[0])
    assert rows[0]["tokens_per_s"] > 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"]["loss_options"]["beta"] == 0.2
    assert manifest["config"]["learning_rate"] == 5e-3
    assert manifest["data"]["metadata"] == {"prefdata.format": "trl-pairs-conversational/1", "prefdata.commit": "7"}
    assert len(manifest["data"]["sha256"]) == 64
    assert (manifest["counts"]["training"], manifest["counts"]["held_out"]) == (12, 4)
    assert manifest["results"]["after"]["reward"]["groups"] == 4
    assert {"torch", "transformers", "peft"} <= set(manifest["versions"])
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["1/3", "3/3"]
    assert not (tmp_path / "out.partial").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (manifest["data"]["sha256"], "`dpo`", "Rafailov", "toy.parquet", "prefdata.commit", "1.000 ["):
        assert text in card
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"reference.parquet", "metrics.jsonl", "manifest.json", "README.md", "model.safetensors"} <= files
    assert not {"checkpoints", "best", "reference.parts"} & files


def test_names_in_the_card_are_no_markup(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    """File and model names, and a footer's keys, come from elsewhere."""
    import yaml

    hostile = tmp_path / "a`b|<img src=x>\n# no.parquet"
    shutil.copyfile(toy_pairs, hostile)
    train(config(hostile, tiny_model, tmp_path / "[x](y)", max_steps=1), quiet)
    card = (tmp_path / "[x](y)" / "README.md").read_text()
    assert "\n# \\[x\\](y)\n" in card
    assert "`` a`b\\|<img src=x> # no.parquet ``" in card
    assert sum(line.startswith("# ") for line in card.splitlines()) == 1
    front = yaml.safe_load(card.split("---")[1])
    assert front["tags"] == ["prefdata", "preference-tuned", "dpo"]
    assert "base_model" not in front  # a folder is no name of the hub


def test_what_is_left_out_is_printed_and_recorded(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a" * (1 + 300 * (n % 2)), "rejected": "b"} for n in range(4)]
    lines: list[str] = []
    result = train(config(write_pairs(tmp_path / "p.parquet", rows), tiny_model, tmp_path / "out"), lines.append)
    (reason, count), *more = result.counts["left_out"].items()
    assert ("200 tokens" in reason, count, more) == (True, 2, [])
    assert f"  left out: 2 x {reason}" in lines
    assert any("has no column 'split'" in line for line in lines)


def test_an_earlier_run_is_replaced_and_nothing_else(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    train(config(toy_pairs, tiny_model, out, max_steps=1), quiet)
    train(config(toy_pairs, tiny_model, out, max_steps=2), quiet)
    assert len(rows_of(out)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "toy.parquet"]
    for name, content in (("thesis.txt", "years of work"), ("manifest.json", "{}")):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text(content)
        with pytest.raises(TrainError, match="is not what an earlier training run left"):
            train(config(toy_pairs, tiny_model, tmp_path / "mine"), quiet)
        assert (tmp_path / "mine" / name).read_text() == content


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


class InterruptError(Exception):
    """Stands for a kill."""


def interrupted(monkeypatch: pytest.MonkeyPatch, chosen: TrainConfig, step: int) -> None:
    """A run that ends before that step."""

    def stop(run: Any, number: int, memory: Any) -> Any:
        if number == step:
            raise InterruptError
        return accumulate(run, number, memory)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "accumulate", stop)
        with pytest.raises(InterruptError):
            train(chosen, quiet)


def losses_of(out: Path) -> list[tuple[float, float]]:
    return [(row["loss"], row["grad_norm"]) for row in rows_of(out)]


@pytest.mark.parametrize(("loss", "lora"), [("dpo", 4), ("bco", 4), ("simpo", 0)])
def test_a_run_goes_on_where_it_was_interrupted(
    tmp_path: Path, write_lists: Write, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, loss: str, lora: int
) -> None:
    """Bit for bit, also where the loss remembers; the row that came after the checkpoint is not there twice."""
    data = write_lists(tmp_path / "l.parquet", rich_rows(6))
    common: dict[str, Any] = {"loss": loss, "lora": lora, "max_steps": 7, "save_every": 3, "learning_rate": 1e-3}
    train(config(data, tiny_model, tmp_path / "whole", **common), quiet)
    chosen = config(data, tiny_model, tmp_path / "out", **common)
    interrupted(monkeypatch, chosen, 5)
    assert len(losses_of(tmp_path / "out.partial")) == 5
    lines: list[str] = []
    result = train(chosen, lines.append)
    assert "going on from step-00000003" in lines
    assert not any(" passes" in line for line in lines)  # the reference was kept
    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "whole")
    assert [row["step"] for row in rows_of(tmp_path / "out")] == list(range(7))
    assert result.first_loss == losses_of(tmp_path / "whole")[0][0]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert same[0] == same[1]


def test_resuming_as_it_is_told(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """never starts over; a path is another folder's checkpoint; another configuration is no continuation."""
    common: dict[str, Any] = {"max_steps": 5, "save_every": 2}
    chosen = config(toy_pairs, tiny_model, tmp_path / "out", **common)
    interrupted(monkeypatch, chosen, 4)
    partial = tmp_path / "out.partial"
    checkpoint = partial / "checkpoints" / "step-00000002"
    lines: list[str] = []
    moved = config(toy_pairs, tiny_model, tmp_path / "moved", resume=str(checkpoint), **common)
    train(moved, lines.append)
    assert "going on from step-00000002" in lines
    assert len(rows_of(tmp_path / "moved")) == 5
    with pytest.raises(TrainError, match="another configuration or other data"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", beta=0.5, **common), quiet)
    assert checkpoint.exists()
    lines.clear()
    train(config(toy_pairs, tiny_model, tmp_path / "out", resume="never", **common), lines.append)
    assert not any(line.startswith("going on") for line in lines)
    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "moved")


def test_early_stopping_keeps_the_best_weights(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops after two looks without a better one, and what is saved are the weights of the best."""
    scores = iter([0.6, 0.9, 0.8, 0.9, 0.1])
    original = loop_module.score_held_out
    looks: list[float | None] = []

    def look(policy: Any, lists: Any, budget: int, reference: Any, *, unchanged: bool = False) -> HeldOut | None:
        found = original(policy, lists, budget, reference, unchanged=unchanged)
        assert found is not None
        assert found.mean_logprob is not None
        if unchanged or len(looks) == 4:
            return found
        looks.append(next(scores))
        better = type(found.mean_logprob)(looks[-1] or 0.0, 0.0, 1.0, 4, 4)
        return HeldOut(better, found.mean_logprob)

    monkeypatch.setattr(loop_module, "score_held_out", look)
    common: dict[str, Any] = {"schedule": "constant", "eval_every": 1}
    lines: list[str] = []
    chosen = config(toy_pairs, tiny_model, tmp_path / "out", max_steps=9, early_stopping=2, **common)
    result = train(chosen, lines.append)
    assert (result.steps, result.kept_step) == (4, 2)
    assert looks == [0.6, 0.9, 0.8, 0.9]
    assert any(line.startswith("stopped: 2 looks brought nothing better than 0.900") for line in lines)
    assert [row["held_out"]["reward"]["value"] for row in rows_of(tmp_path / "out")] == looks
    monkeypatch.undo()
    # The learning rate's plan is that of nine steps; constant after the first, so two steps of two are the same.
    train(config(toy_pairs, tiny_model, tmp_path / "two", max_steps=9, **common), quiet)
    two = config(toy_pairs, tiny_model, tmp_path / "two", max_steps=2, warmup=0.5, **common)
    train(two, quiet)
    assert losses_of(tmp_path / "two") == losses_of(tmp_path / "out")[:2]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "two")]
    assert same[0] == same[1]


def test_early_stopping_needs_something_held_out(tmp_path: Path, write_pairs: Write, tiny_model: Path) -> None:
    data = write_pairs(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    with pytest.raises(TrainError, match="early_stopping compares held-out accuracies"):
        train(config(data, tiny_model, tmp_path / "out", eval_every=9, early_stopping=1), quiet)
    assert not (tmp_path / "out.partial" / "metrics.jsonl").read_text()  # before the first step


@pytest.mark.parametrize("loss", ["kto", "sft"])
def test_single_responses_are_held_out_too(tmp_path: Path, tiny_model: Path, loss: str) -> None:
    """Their AUC is what early stopping compares, and what the screen and the card say."""
    rows = [
        {
            "prompt": f"say {n}",
            "completion": ("a" if n % 2 else "z") * (2 + n % 3),
            "label": bool(n % 2),
            "split": "valid" if n % 6 < 2 else "train",
        }
        for n in range(18)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "u.parquet")
    lines: list[str] = []
    more: dict[str, Any] = {"max_steps": 6, "batch_size": 12, "eval_every": 2, "early_stopping": 2}
    result = train(config(tmp_path / "u.parquet", tiny_model, tmp_path / "out", loss=loss, **more), lines.append)
    assert result.before is not None
    assert result.after is not None
    assert (result.after.reward, result.after.singles) == (None, 6)
    assert result.after.auc == 1.0
    assert result.before.auc == 0.5 if loss == "kto" else result.before.auc is not None
    last = rows_of(tmp_path / "out")[-1]
    assert last["auc"] is not None
    if loss == "kto":
        assert last["chosen_change"] > last["rejected_change"]
    assert "held out, after training: AUC of wanted against unwanted responses 1.000 (6 responses)" in lines
    assert "AUC of wanted against unwanted responses (6 responses)" in (tmp_path / "out" / "README.md").read_text()


def test_a_reference_that_changed_is_no_continuation(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a model, of a policy or of rewards, whose weights are others under the same name."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "m")
    common: dict[str, Any] = {"max_steps": 3, "save_every": 1}
    runs = {
        "reference": config(toy_pairs, tiny_model, tmp_path / "a", reference=str(tmp_path / "m"), **common),
        "rewards": config(toy_pairs, tmp_path / "m", tmp_path / "b", loss="bradley-terry", **common),
    }
    for chosen in runs.values():
        interrupted(monkeypatch, chosen, 2)
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights["model.norm.weight"] *= 1.01
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    for chosen in runs.values():
        with pytest.raises(TrainError, match="another configuration or other data"):
            train(chosen, quiet)


def test_the_reference_file_names_no_place_on_this_machine(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    train(config(toy_pairs, tiny_model, tmp_path / "out", max_steps=1), quiet)
    table = pq.read_table(tmp_path / "out" / "reference.parquet")
    assert {one.partition("@")[0] for one in table["scorer"].to_pylist()} == {tiny_model.name}
    assert str(tiny_model.parent).encode() not in b"".join(table.schema.metadata.values())


def test_packs_take_few_shapes_where_they_are_compiled(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(config(toy_pairs, tiny_model, tmp_path / "out"), tmp_path / "work")
    assert run.policy.module.pad_to is None
    monkeypatch.setattr(type(run.policy.module), "kind", "flex_attention")
    settle_shapes(run.policy, run)
    assert run.policy.module.pad_to == 128  # one block: the packs are small
    monkeypatch.setattr(Run, "packs", lambda run, step: [[replace(run.lists[0], size=16_000)], [run.lists[1]]])
    settle_shapes(run.policy, run)
    assert run.policy.module.pad_to == 2048


def test_a_loss_of_ones_own(tmp_path: Path, toy_pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("prefdata.train.losses.registry", "prefdata.train.losses", "prefdata.train.config"):
        monkeypatch.setattr(f"{module}.LOSSES", dict(LOSSES))
    registry = dict(LOSSES)
    monkeypatch.setattr("prefdata.train.losses.registry.LOSSES", registry)
    monkeypatch.setattr("prefdata.train.config.LOSSES", registry)
    plugin = tmp_path / "my_losses.py"
    plugin.write_text(
        "import prefdata.train\n\n"
        "@prefdata.train.loss('hinge')\n"
        "def hinge(pair, *, gap=1.0):\n"
        "    return (gap - (pair.win.ratio - pair.lose.ratio)).clamp(min=0)\n"
    )
    chosen = config(toy_pairs, tiny_model, tmp_path / "out", loss="hinge", plugins=(plugin,), loss_options={"gap": 2})
    result = train(chosen, quiet)
    assert result.first_loss == pytest.approx(2.0, abs=1e-6)
    assert result.last_loss < 2.0
    with pytest.raises(TrainError, match="the loss 'hinge' takes no option 'beta'"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", loss="hinge", beta=0.1), quiet)


def test_plugins_that_fail_are_refused(tmp_path: Path, toy_pairs: Path, tiny_model: Path) -> None:
    plugin = tmp_path / "my.py"
    plugin.write_text("import polarbears\n")
    with pytest.raises(TrainError, match="cannot be imported: ModuleNotFoundError"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", plugins=(str(plugin),)), quiet)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"loss": "plaket-luce"}, "no loss 'plaket-luce'.*did you mean 'plackett-luce'"),
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


def test_a_reference_with_another_tokenizer_is_refused(
    tmp_path: Path, toy_pairs: Path, tiny_model: Path, tokenizer: Any
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    text = (other / "tokenizer.json").read_text().replace("<|turn|>", "<|tour|>")
    (other / "tokenizer.json").write_text(text)
    with pytest.raises(TrainError, match="has another tokenizer than"):
        train(config(toy_pairs, tiny_model, tmp_path / "out", reference=str(other)), quiet)


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
    from prefdata.train.devices import connect

    shutil.copytree(tiny_model, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    weights.unlink()
    chosen = config(toy_pairs, tmp_path / "pickled", tmp_path / "out")
    with pytest.raises(TrainError, match=r"cannot be loaded: .*model\.safetensors"):
        load_policy(chosen, connect(chosen))


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path, tiny_model: Path) -> None:
    """But for a reward model's new head, of which nothing is said."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "half")
    weights = load_file(tmp_path / "half" / "model.safetensors")
    names = [name for name in weights if "mlp" in name]
    kept = {name: value for name, value in weights.items() if name not in names}
    save_file(kept, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainError, match=f"lacks weights .* and {len(names) - 1} more"):
        load_model(str(tmp_path / "half"))
    with pytest.raises(TrainError, match="lacks weights"):
        load_model(str(tmp_path / "half"), ["reward"])


def test_plan_holds_every_list_once_an_epoch(tmp_path: Path) -> None:
    chosen = TrainConfig(data=tmp_path, model="m", out=tmp_path, batch_size=4, epochs=2)
    plan = plan_steps(10, chosen)
    assert [len(step) for step in plan] == [4, 4, 2] * 2
    epochs = [[place for step in half for place in step] for half in (plan[:3], plan[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    longer = TrainConfig(data=tmp_path, model="m", out=tmp_path, batch_size=4, max_steps=7)
    assert plan_steps(10, longer)[:6] == plan
    assert len(plan_steps(10, longer)) == 7


def test_rates() -> None:
    linear = [rate_factor(step, 10, 0.2, "linear") for step in range(10)]
    assert linear == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    cosine = [rate_factor(step, 4, 0.0, "cosine") for step in range(4)]
    assert cosine == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert rate_factor(9, 10, 0.0, "constant") == 1.0
    assert rate_factor(0, 1, 1.0, "linear") == 1.0


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.2, 65, 7209)] == ["0:00", "1:05", "2:00:09"]
