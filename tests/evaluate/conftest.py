"""A policy and a reward model, both tiny and random."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import byte_tokenizer, save_tiny_model


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "tiny"
    save_tiny_model(folder, byte_tokenizer())
    return folder


@pytest.fixture(scope="session")
def rewarder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward") / "tiny-reward"
    save_tiny_model(folder, byte_tokenizer(), rewards=True)
    return folder
