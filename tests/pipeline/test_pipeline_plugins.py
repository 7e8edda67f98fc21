"""A user's own step, judge and loss in one short file; and what is said where such a file is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import prefdata
from prefdata.errors import PipelineError
from prefdata.pipeline.registry import STEPS, load_plugins
from prefdata.train.losses import LOSSES

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_steps.py"
PLUGIN = "prefdata_plugin_"
"""How the module of a user's file begins."""
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Nothing that a user's file registered is known before a test, nor after it."""
    load_plugins()
    forget()
    yield
    forget()


def forget() -> None:
    for kind in [kind for kind, step in STEPS.items() if step.__module__.startswith(PLUGIN)]:
        del STEPS[kind]
    for name in [name for name, loss in LOSSES.items() if loss.function.__module__.startswith(PLUGIN)]:
        del LOSSES[name]
    for name in [name for name in sys.modules if name.startswith(PLUGIN)]:
        del sys.modules[name]


def pipeline(folder: Path, plugin: Path | str, *steps: Any) -> Path:
    first = [{"ingest": {"path": "sample:prompts.jsonl", "limit": 4}}, {"sample": {"engine": "writer", "n": 3}}]
    text = {"plugins": [str(plugin)], "engines": {"writer": {"kind": "scripted"}}, "steps": [*first, *steps]}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(text, sort_keys=False))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A random model of one layer, one token for each byte."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}<|end|>{% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **TINY)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_example_is_short_and_runs_whole(tmp_path: Path, tiny: Path) -> None:
    from prefdata.train import TrainConfig, train

    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 120
    path = pipeline(
        tmp_path,
        EXAMPLE,
        {"select.no_shouting": {"share": 0.025}},
        "judge.vowels",
        "pair",
        {"export": {"format": "trl-pairs-conversational", "path": "pairs.parquet"}},
    )
    prefdata.run(path, tmp_path / "ds")
    ds = prefdata.open(tmp_path / "ds")
    texts = {row["response_id"]: row["text"] for row in ds.rows("responses").collect().to_dicts()}
    loud = {one for one, text in texts.items() if sum(map(str.isupper, text)) / len(text) > 0.025}
    assert 0 < len(loud) < len(texts) == 12
    dropped = ds.view().dropped
    assert set(dropped["id"]) == loud and set(dropped["reason"]) == {"shouting"}
    scores = {row["target_ids"][0]: row["scores"][0] for row in ds.annotations.collect().to_dicts()}
    assert scores == {one: sum(text.count(v) for v in "aeiou") for one, text in texts.items() if one not in loud}
    for chosen, rejected in ds.preferences.collect()["response_ids"].to_list():
        assert scores[chosen] > scores[rejected]
    config = TrainConfig(
        data=tmp_path / "ds" / "exports" / "pairs.parquet",
        model=str(tiny),
        out=tmp_path / "model",
        loss="hinge",
        loss_options={"beta": 0.5},
        plugins=(str(EXAMPLE),),
        lora=0,
        learning_rate=1e-2,
        max_steps=3,
        device="cpu",
    )
    result = train(config, lambda line: None)
    assert result.first_loss == pytest.approx(1.0, abs=1e-5)  # policy and reference are equal: the margin is 0
    assert result.last_loss < result.first_loss


def test_a_share_edited_returns_what_was_dropped(tmp_path: Path) -> None:
    """Steps of one's own are resumed, fingerprinted and set back as ours are."""
    path = pipeline(tmp_path, EXAMPLE, {"select.no_shouting": {"share": 0.025}}, "judge.vowels")
    prefdata.run(path, tmp_path / "ds")
    ds = prefdata.open(tmp_path / "ds")
    strict = set(ds.responses.collect()["response_id"])
    result = prefdata.run(path, tmp_path / "ds", sets=["select.no_shouting.share=0.9"])
    assert result.usage.calls == 0 and ds.responses.collect().height == 12 > len(strict)
    prefdata.run(path, tmp_path / "ds")
    assert set(ds.responses.collect()["response_id"]) == strict
    assert not any(step.rows for step in prefdata.run(path, tmp_path / "ds").steps)


def test_a_file_that_is_edited_is_read_again(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(EXAMPLE.read_text())
    path = pipeline(tmp_path, "mine.py", "judge.vowels")
    prefdata.run(path, tmp_path / "ds")
    plugin.write_text(EXAMPLE.read_text().replace('"judge.vowels")', '"judge.vowels", version=2)').replace("aei", "a"))
    prefdata.run(path, tmp_path / "ds")
    rows = prefdata.open(tmp_path / "ds").view()
    texts = {row["response_id"]: row["text"] for row in rows["responses"].collect().to_dicts()}
    scores = {row["target_ids"][0]: row["scores"][0] for row in rows["annotations"].collect().to_dicts()}
    assert scores == {one: sum(text.count(v) for v in "aou") for one, text in texts.items()}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "mine.py",
            "import polarbears\n",
            r"line 2: plugins: \S+mine\.py cannot be imported: ModuleNotFoundError",
        ),
        ("mine.py", "def broken(:\n", r"cannot be imported: SyntaxError: invalid syntax"),
        ("mine.txt", "x = 1\n", r"mine\.txt is no Python file: its name must end in \.py"),
        (
            "mine.py",
            'import prefdata\n@prefdata.step("pair")\nclass P(prefdata.TableStep): ...\n',
            r"two steps are",
        ),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PipelineError, match=sentence) as caught:
        prefdata.run(pipeline(tmp_path, name, "pair"), tmp_path / "ds")
    assert "\n" not in str(caught.value) and not (tmp_path / "ds").exists()
    assert not any(name.startswith(PLUGIN) for name in sys.modules)


STEP = """
import prefdata
from prefdata.schema import annotation

@prefdata.step("judge.mine")
class Mine(prefdata.{base}):
    reads, writes = frozenset({{"responses"}}), frozenset({{"annotations"}})
    level: int = 1

    {head}
        ids = [row["response_id"] for row in {rows}][:2]
        about = dict(protocol="compare", annotator="rule:mine", source="rule", prompt_id=None, target_ids=ids)
        good = annotation(**about, group_id={rows}[0]["group_id"], scores=[1, 0])
        return {returned}
"""
GROUP = {"base": "GroupStep", "head": "async def run(self, group, context):", "rows": "group.responses"}
TABLE = {"base": "TableStep", "head": "def run(self, tables, context):", "rows": 'tables["responses"].to_dicts()'}


@pytest.mark.parametrize("kind", [GROUP, TABLE], ids=["group", "table"])
@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("None", "it returned None; a step returns rows by table"),
        ("[good]", "a step returns rows by table"),
        ("{'anotations': [good]}", r"it returned 'anotations', but what it declares in `writes` is \['annotations'\]"),
        ("{'annotations': good}", "its annotations are .* they should be a list of rows"),
        ("{'annotations': [{**good, 'group_id': None}]}", "it made a row of annotations without a group_id"),
        ("{'annotations': [{**good, 'scores': [1, 1]}]}", "annotation 1: a comparison has two scores"),
        ("{'annotations': [{**good, 'score': 3}]}", "has a column 'score' that the table does not have"),
        ("{'annotations': [{**good, 'scores': ['a', 'b']}]}", "failed.*: TypeError: "),
        ("{}[group_id]", r"failed.*: NameError: name 'group_id' is not defined \(the run's log has the traceback\)"),
    ],
)
def test_what_a_step_returns_is_checked(tmp_path: Path, kind: dict[str, str], returned: str, sentence: str) -> None:
    (tmp_path / "mine.py").write_text(STEP.format(**kind, returned=returned))
    with pytest.raises(PipelineError, match=rf"step 'judge\.mine'.*{sentence}") as caught:
        prefdata.run(pipeline(tmp_path, "mine.py", "judge.mine"), tmp_path / "ds")
    assert "\n" not in str(caught.value)
    ds = prefdata.open(tmp_path / "ds")
    assert ds.annotations.collect().is_empty() and ds.responses.collect().height == 12
    (tmp_path / "mine.py").write_text(STEP.format(**kind, returned="{'annotations': [good]} if ids else {}"))
    assert prefdata.run(tmp_path / "mine.yaml", tmp_path / "ds").exit_code == 0
    assert ds.annotations.collect().height == (4 if kind is GROUP else 1)


def test_a_field_of_ones_own_is_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STEP.format(**GROUP, returned="{}"))
    with pytest.raises(PipelineError, match=r"mine\.yaml, line 14, step 'judge.mine': unknown key 'levle'; did you"):
        prefdata.run(pipeline(tmp_path, "mine.py", {"judge.mine": {"levle": 2}}), tmp_path / "ds")


FLAKY = """
import prefdata
from prefdata.schema import annotation

@prefdata.step("judge.flaky")
class Flaky(prefdata.GroupStep):
    reads, writes = frozenset({"responses"}), frozenset({"annotations"})

    async def run(self, group, context):
        if group.group_id == %r:
            raise ValueError("not this one")
        return {"annotations": [self.score(row) for row in group.responses]}

    def score(self, row):
        about = {key: row[key] for key in ("group_id", "prompt_id")}
        return annotation(**about, target_ids=[row["response_id"]], protocol="score", scores=[1],
                          annotator="rule:flaky", source="rule")
"""


def test_one_group_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    path = pipeline(tmp_path, EXAMPLE, "judge.vowels")
    prefdata.run(path, tmp_path / "ds")
    ds = prefdata.open(tmp_path / "ds")
    last = ds.prompts.collect()["group_id"][-1]
    (tmp_path / "flaky.py").write_text(FLAKY % last)
    with pytest.raises(PipelineError, match=f"step 'judge.flaky' failed on group {last}: ValueError: not this one"):
        prefdata.run(pipeline(tmp_path, "flaky.py", "judge.flaky"), tmp_path / "ds")
    made = ds.annotations.filter(pl.col("annotator") == "rule:flaky").collect()
    assert made.height == 9 and last not in set(made["group_id"])
    logs = "".join(log.read_text() for log in (tmp_path / "ds" / "logs").iterdir())
    assert "Traceback" in logs and "not this one" in logs


def test_a_commit_that_fails_in_the_background_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a moment is said, not slept over; nothing more is asked, and the next run goes on."""
    from prefdata.dataset import Dataset

    path = pipeline(tmp_path, EXAMPLE, "judge.vowels")
    text = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    text["engines"]["writer"].update(latency=0.02, max_concurrency=1)
    path.write_text(yaml.safe_dump(text))
    real, tried = Dataset.commit, []

    def full(self: Dataset, rows: Any, message: str, **options: Any) -> int:
        if message.startswith("sample") and not tried:
            tried.append(message)
            raise OSError(28, "No space left on device")
        return real(self, rows, message, **options)

    monkeypatch.setattr(Dataset, "commit", full)
    with pytest.raises(PipelineError, match=r"cannot be written to: .*No space left.* run the same command again"):
        prefdata.run(path, tmp_path / "ds", flush_seconds=0.03)
    monkeypatch.setattr(Dataset, "commit", real)
    result = prefdata.run(path, tmp_path / "ds")
    assert result.exit_code == 0 and 0 < result.usage.cached < 12 and result.usage.calls + result.usage.cached == 12
