"""The server on llama.cpp: what it is told, what it refuses; and (marked `model`) the engine `openai` against it."""

from __future__ import annotations

import asyncio
import importlib.machinery
import importlib.util
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request
from prefdata.engines.models import KNOWN
from prefdata.engines.serving import Served, gguf_of, serve
from prefdata.errors import EngineError

SMOLLM2 = KNOWN["smollm2-135m-instruct"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that stands in for xllamacpp, and keeps what it was told."""
    module = ModuleType("xllamacpp")
    module.__spec__ = importlib.machinery.ModuleSpec("xllamacpp", None)
    kept = SimpleNamespace(params=None, fails="")

    def params() -> Any:
        empty = [SimpleNamespace() for _ in range(3)]
        kept.params = SimpleNamespace(model=empty[0], cpuparams=empty[1], cpuparams_batch=empty[2])
        return kept.params

    def server(params: Any) -> Any:
        if kept.fails:
            raise RuntimeError(kept.fails)
        return SimpleNamespace(listening_address=f"http://{params.hostnames[0]}:{params.port or 4711}")

    vars(module).update(CommonParams=params, Server=server)
    monkeypatch.setitem(sys.modules, "xllamacpp", module)
    return kept


def gguf(tmp_path: Path, content: bytes = b"GGUF") -> Path:
    file = tmp_path / "judge-7b.gguf"
    file.write_bytes(content)
    return file


def test_it_listens_here_only_and_answers_no_page_of_the_web(tmp_path: Path, told: Any) -> None:
    served = serve(gguf(tmp_path), "judge-7b", port=0, parallel=4, context=1000)
    assert (served.url, served.model) == ("http://127.0.0.1:4711/v1", "judge-7b")
    params = told.params
    assert params.hostnames == ["127.0.0.1"] and params.model_alias == {"judge-7b"}
    assert (params.n_parallel, params.n_ctx) == (4, 4000), "each request has a context of its own"
    assert not (params.ui or params.endpoint_slots or params.cors_credentials)
    assert params.cors_origins != "*" and params.cors_origins_explicit and params.offline


def test_a_base_model_is_given_no_marks_that_it_never_saw(tmp_path: Path, told: Any) -> None:
    serve(gguf(tmp_path), "base", port=0)
    import jinja2

    rendered = jinja2.Template(told.params.chat_template).render(messages=[{"content": "a"}, {"content": "b"}])
    assert rendered == "a\n\nb"
    serve(gguf(tmp_path, b"GGUF tokenizer.chat_template ..."), "chat", port=0)
    assert not hasattr(told.params, "chat_template")


def test_what_can_be_served(tmp_path: Path) -> None:
    file = gguf(tmp_path)
    assert gguf_of(str(file)) == (file, "judge-7b")
    with pytest.raises(EngineError, match=r"is no GGUF file; a folder of safetensors is served by `vllm serve`"):
        gguf_of(str(gguf(tmp_path, b"PK")))
    for model in ("/no/where.gguf", "smollm", str(tmp_path)):
        with pytest.raises(EngineError, match="neither a GGUF file nor one of smollm2-135m-instruct, gemma3-270m"):
            gguf_of(model)
    with pytest.raises(EngineError, match="is no model that writes text"):
        gguf_of("all-minilm-l6-v2")


def test_what_stops_it_is_a_sentence(tmp_path: Path, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gguf(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EngineError, match=r"cannot listen at 127\.0\.0\.1:\d+ \(.*\); stop what listens there"):
            serve(file, "x", port=taken.getsockname()[1])
    assert told.params is None, "the model was not loaded for nothing"
    told.fails = "no such tensor"
    with pytest.raises(EngineError, match=r"llama\.cpp could not serve .*no such tensor"):
        serve(file, "x", port=0)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else real(name))
    with pytest.raises(EngineError, match=r'serving needs xllamacpp; install it with: pip install "prefdata\[serve\]"'):
        serve(file, "x", port=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """SmolLM2 on llama.cpp; three seconds."""
    for module in ("xllamacpp", SMOLLM2.module):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the package of {module}")
    file, name = gguf_of(SMOLLM2.name)
    served = serve(file, name, port=0, parallel=4, context=1024, threads=1)
    yield served
    served.close()


@pytest.mark.model
def test_the_engine_openai_against_llama_cpp(server: Served) -> None:
    fields = {"kind": "openai", "model": server.model, "base_url": server.url}
    engine: Any = engine_from_config("judge", fields, "test.yaml")
    scoring: Any = engine_from_config(
        "judge", {**fields, "prompt_logprobs": True, "tokenizer": "smollm2-135m-instruct"}, ""
    )
    sky = ({"role": "user", "content": "Why is the sky blue?"},)
    schema = {"type": "object", "properties": {"verdict": {"enum": ["A", "B"]}}, "required": ["verdict"]}
    drawn = Request("generate", sky, temperature=0.9, seed=3, max_tokens=12)

    async def work() -> None:
        texts = [reply.text for reply in await asyncio.gather(*(engine.ask(drawn) for _ in range(3)))]
        assert len(set(texts)) == 1 and texts[0], "a seed is a seed, also in a batch"
        judged = await engine.ask(Request("generate", sky, schema=schema, max_tokens=60))
        assert json.loads(judged.text)["verdict"] in ("A", "B")
        begun = await engine.ask(Request("generate", sky, prefix="The sky is blue because", max_tokens=4))
        assert begun.text and "The sky is blue" not in begun.text and begun.completion_tokens == 4
        better = ({"role": "user", "content": "Which is better, A or B?"},)
        labels = await engine.ask(Request("label_probs", better, labels=("A", "B"), prefix="The better one is"))
        assert sum(labels.values) == pytest.approx(1) and 0 < labels.mass < 1
        with pytest.raises(EngineError, match="gives no log-probability for each token of a prompt"):
            await scoring.ask(Request("logprobs", sky, continuation="Because."))
        await engine.close()
        await scoring.close()

    asyncio.run(work())


@pytest.mark.model
def test_a_page_of_the_web_sees_nothing_of_it(server: Served) -> None:
    asked = urllib.request.Request(f"{server.url}/models", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") not in ("*", "http://elsewhere.example")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{server.url.removesuffix('/v1')}/slots")
