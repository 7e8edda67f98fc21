"""Small random models, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_run import tiny_embedder, tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders by name: `one` and `two` write different things, `near` often what `one` does."""
    folder: Path = tmp_path_factory.mktemp("models")
    return tiny_models(folder, one=0.0, two=0.02, near=0.006)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an encoder."""
    pytest.importorskip("sentence_transformers")
    folder: Path = tmp_path_factory.mktemp("embedder")
    return tiny_embedder(folder)
