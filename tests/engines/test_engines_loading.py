"""Models in this process are loaded one at a time: transformers makes weights under settings of the whole process."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from prefdata.engines import engine_from_config, local
from prefdata.engines.base import Request


class Loading:
    """Stands in for a model, and sees whether two are made at once."""

    at_once = 0
    most = 0
    lock = threading.Lock()

    def __init__(self, *_: Any) -> None:
        with self.lock:
            Loading.at_once += 1
            Loading.most = max(Loading.most, Loading.at_once)
        time.sleep(0.05)
        with self.lock:
            Loading.at_once -= 1
        raise ValueError("that is all")


def test_two_models_are_not_loaded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(local, "CausalModel", Loading)
    monkeypatch.setattr(local, "require_local", lambda: None)
    engines = []
    for name in "abcd":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        engines.append(
            engine_from_config(name, {"kind": "transformers", "model": str(folder), "identity": name}, "here")
        )

    async def work() -> list[Any]:
        asked = [engine.ask(Request("generate", messages=({"role": "user", "content": "hi"},))) for engine in engines]
        return await asyncio.gather(*asked, return_exceptions=True)

    said = asyncio.run(work())
    assert all(isinstance(one, Exception) for one in said)
    assert Loading.most == 1
