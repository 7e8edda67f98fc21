"""`prefdata evaluate` and `prefdata score` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata.cli.app import app
from prefdata.errors import PrefdataError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "pairs.parquet"
    rows = {"prompt": ["a", "b"], "chosen": ["yes", "no"], "rejected": ["maybe", "never"]}
    pl.DataFrame(rows).with_columns(aspect=pl.Series(["help", "harm"])).write_parquet(path)
    return path


def test_evaluate_prints_and_writes(pairs: Path, policy: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app,
        ["evaluate", "--data", str(pairs), "--model", str(policy), "--split", "train", "--out", str(tmp_path / "o")],
    )
    assert told.exit_code == 0, told.output
    assert "2 pairs of 2 lists" in told.output
    assert "aspect harm" in told.output
    assert json.loads((tmp_path / "o" / "evaluation.json").read_text())["edges"] == 2
    assert pl.read_parquet(tmp_path / "o" / "annotations.parquet").height == 2


def test_score_writes_each_response_once(pairs: Path, policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "reference.parquet"
    told = CliRunner().invoke(app, ["score", "--data", str(pairs), "--model", str(policy), "--out", str(out)])
    assert told.exit_code == 0, told.output
    rows = pl.read_parquet(out)
    assert rows.height == 4
    assert rows["values"].list.len().to_list() == rows["token_ids"].list.len().to_list()


def test_mistakes_are_sentences(pairs: Path, policy: Path) -> None:
    told = CliRunner().invoke(
        app, ["evaluate", "--data", str(pairs), "--model", str(policy), "--by", "colour", "--split", "all"]
    )
    assert isinstance(told.exception, PrefdataError)
    assert "aspect, annotator, kind" in str(told.exception)
    held = CliRunner().invoke(app, ["evaluate", "--data", str(pairs), "--model", str(policy)])
    assert "choose --split all" in str(held.exception)
