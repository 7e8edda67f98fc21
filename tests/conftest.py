"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Wall times say nothing on a shared machine. A gate tries the same examples each time; elsewhere they are new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "here")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

ROOT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real preference data: PREFDATA_TEST_DATA, else the folder shared/data beside the checkout."""
    named = os.environ.get("PREFDATA_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "hh_rlhf_helpful.parquet").is_file():
        pytest.skip(f"no real data: set PREFDATA_TEST_DATA to the folder that holds it (looked in {folder})")
    return folder


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's own request cache."""
    monkeypatch.setenv("PREFDATA_CACHE", str(tmp_path_factory.mktemp("cache")))


def small_model() -> Path | None:
    """The folder of SmolLM2-135M-Instruct, or None where it was not fetched."""
    from prefdata.engines.models import model_folder

    try:
        return model_folder("smollm2-135m-instruct")
    except Exception:
        return None


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, as `prefdata models fetch smollm2-135m-instruct` leaves it."""
    folder = small_model()
    if folder is None:
        pytest.skip("needs the small model: run `prefdata models fetch smollm2-135m-instruct`")
    return folder
