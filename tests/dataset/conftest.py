"""Datasets with a history, made once for all tests of what is done to them, and copied for each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "pipeline"))

from care_texts import cared_for
from pipeline_line import Line

Aged = Callable[[int], Line]


@pytest.fixture(scope="session")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """By number of shards, a folder with a dataset and the request cache that its runs filled."""
    made: dict[int, Path] = {}

    def history(shards: int) -> Path:
        if shards not in made:
            folder = tmp_path_factory.mktemp(f"history-{shards}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PREFDATA_CACHE", str(folder / "cache"))
                cared_for(folder, shards=shards)
            made[shards] = folder
        return made[shards]

    return history


@pytest.fixture
def aged(histories: Callable[[int], Path], tmp_path: Path) -> Aged:
    """`aged(shards)`: a dataset of one's own that has been through a lot; see `cared_for`."""

    def make(shards: int) -> Line:
        folder = tmp_path / f"aged-{shards}"
        shutil.copytree(histories(shards), folder)
        shutil.copytree(folder / "cache", os.environ["PREFDATA_CACHE"], dirs_exist_ok=True)
        shutil.rmtree(folder / "cache")
        line = cared_for(folder, shards=shards, fresh=False)
        return line

    return make


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def line(request: pytest.FixtureRequest, aged: Aged) -> Line:
    """The same, in one shard and in several."""
    return aged(request.param)
