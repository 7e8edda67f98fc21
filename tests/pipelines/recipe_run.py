"""A recipe as it is run by name: planned, run with small models and a loopback judge, and read back from Parquet."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from fault_server import FaultServer
from tiny_classifier import letters_tokenizer
from tiny_model import byte_tokenizer, save_tiny_model

from prefdata.dataset import Dataset
from prefdata.pipeline.plan import PipelinePlan, plan
from prefdata.pipeline.run import run
from prefdata.pipeline.runtime import RunResult

Rows = list[dict[str, Any]]


@dataclass
class Made:
    """What a run of a recipe left.

    Attributes:
        path: the dataset's folder.
        planned: what `plan` said before.
        result: what the run said.
        asked: the judge's ledger: of each question the `body`, and what was `sent`.
    """

    path: Path
    planned: PipelinePlan
    result: RunResult
    asked: list[dict[str, Any]]

    def rows(self, table: str, **equal: Any) -> Rows:
        """The live rows of a table, those whose columns have these values."""
        return picked(Dataset(self.path).view()[table], equal)

    def of(self, step: str, table: str, **equal: Any) -> Rows:
        """Those that the step of this name made, also where a later step made the same row again."""
        return picked(Dataset(self.path).rows(table).filter(pl.col("step").str.starts_with(f"{step}@")), equal)

    def export(self, name: str = "pairs.parquet") -> Rows:
        """An exported file, as a trainer opens it."""
        return list(pq.read_table(self.path / "exports" / name).to_pylist())

    @property
    def calls(self) -> Counter[str]:
        """Paid calls by step."""
        return Counter(
            row["step"].partition("@")[0]
            for row in Dataset(self.path).rows("calls").collect().to_dicts()
            if not row["cached"]
        )


def picked(rows: pl.LazyFrame, equal: Mapping[str, Any]) -> Rows:
    """The rows whose columns have these values."""
    return [row for row in rows.collect().to_dicts() if all(row[name] == value for name, value in equal.items())]


class Judge(FaultServer):
    """Answers as the scripted engine does, but says N/A to what need not apply of the response shown second."""

    def _chat(self, body: dict[str, Any], fault: str | None) -> tuple[dict[str, Any], dict[str, int]]:
        choice, usage = super()._chat(body, fault)
        text = choice["message"]["content"]
        if "response_format" in body and '"responses"' in text:
            said = json.loads(text)
            scores = said["responses"]["B"]["scores"]
            scores.update(dict.fromkeys({"honesty"} & set(scores), "N/A"))
            choice["message"]["content"] = json.dumps(said)
        return choice, usage


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_recipe(
    name: str, folder: Path, *, limit: int, variables: Mapping[str, str] | None = None, sets: Sequence[str] = ()
) -> Made:
    """Plan and run a recipe on its first prompts, with a judge on this machine."""
    path = folder / name
    with Judge() as server:
        judge = {"JUDGE_URL": server.url, "JUDGE_MODEL": "loopback", "PREFDATA_CACHE": str(folder / "cache")}
        with environment(**judge, **(variables or {})):
            planned = plan(name, path, limit=limit, sets=sets)
            assert not server.log, "plan asked the judge"
            assert not path.exists(), "plan wrote a dataset"
            result = run(name, path, limit=limit, sets=sets)
        assert not result.stopped, result.stopped
        return Made(path, planned, result, server.log)


def tiny_models(folder: Path, **noise: float) -> dict[str, str]:
    """Folders by name of random models, each the same weights with so much noise."""
    import torch
    from transformers import LlamaForCausalLM

    made = {}
    for number, (name, scale) in enumerate(noise.items()):
        save_tiny_model(folder / name, byte_tokenizer())
        config = json.loads((folder / name / "config.json").read_text())
        config["max_position_embeddings"] = 8192  # a byte is a token; the positions are rotary and have no weights
        (folder / name / "config.json").write_text(json.dumps(config))
        if scale:
            torch.manual_seed(number)
            model = LlamaForCausalLM.from_pretrained(folder / name)
            for parameter in model.parameters():
                parameter.data.add_(scale * torch.randn_like(parameter))
            model.save_pretrained(folder / name)
        made[name] = str(folder / name)
    return made


def tiny_embedder(folder: Path) -> str:
    """The folder of a random encoder of letters, whose states are averaged."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = letters_tokenizer()
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=80,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    return str(folder)


def texts_shown(question: str, letters: Sequence[str]) -> dict[str, str]:
    """What a judge was shown under each letter."""
    found = {}
    for letter in letters:
        (shown,) = re.findall(rf"^Response {letter}:?\n(\[[^\n]*\])\n(.*?)\n\1$", question, re.DOTALL | re.MULTILINE)
        found[letter] = shown[1]
    return found


def check_whole(made: Made, *exports: str, exact: bool = True) -> None:
    """What holds of every recipe: no table empty, what was asked is what was planned, every file opens and has rows.

    Args:
        made: the run.
        exports: the files that it wrote.
        exact: whether the plan says so; else it is an upper bound, which is met where nothing was dropped.
    """
    tables = ("prompts", "responses", "annotations", "annotators", "preferences", "calls")
    empty = [table for table in tables if not Dataset(made.path).rows(table).collect().height]
    assert empty == []
    assert made.result.usage.failed == 0
    assert made.planned.exact == exact
    # Equal requests are in the plan as often as they are asked; the client answers the later ones from its cache.
    assert made.planned.calls == made.result.usage.calls
    assert all(made.export(name) for name in exports)
    assert (made.path / "report.html").is_file()
