"""Engines from a pipeline's `engines:` section, and what its mistakes say."""

from __future__ import annotations

import subprocess
import sys
import traceback
from typing import Any

import pytest
from pydantic import Field

from prefdata.engines import ENGINES, BaseEngine, EngineConfig, Reply, Request, engine, engine_from_config
from prefdata.engines.base import Engine, Price
from prefdata.errors import EngineError, PipelineError

WHERE = "judge.yaml: line 4, engine 'judge'"
LOCAL = {"states", "generate", "logprobs", "label_probs"}


@pytest.mark.parametrize(
    ("config", "model", "capabilities"),
    [
        ({"kind": "scripted"}, "scripted", {"generate", "logprobs", "label_probs", "embed", "reward", "states"}),
        ({"kind": "transformers", "model": "SmolLM2-135M-Instruct"}, "smollm2-135m-instruct", LOCAL),
        ({"kind": "transformers", "model": "owner/model"}, "owner/model", LOCAL),
        ({"kind": "openai", "model": "m", "base_url": "http://h:1/v1/"}, "m", {"generate", "label_probs"}),
        ({"kind": "openai", "model": "m", "prompt_logprobs": True}, "m", {"generate", "label_probs", "logprobs"}),
    ],
)
def test_an_engine_describes_itself_without_loading_anything(
    config: dict[str, Any], model: str, capabilities: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = engine_from_config("e", {**config, "max_concurrency": 7, "rpm": 90, "price": {"prompt": 0.15}}, WHERE)
    assert isinstance(made, BaseEngine)
    assert (made.name, made.model, made.capabilities, made.max_concurrency) == ("e", model, capabilities, 7)
    assert (made.rpm, made.price) == (90, Price(0.15, 0.0))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "says no kind"),
        ({"kind": "opneai"}, "there is no kind 'opneai'; did you mean 'openai'?"),
        ({"kind": "openai"}, "model: field required"),
        ({"kind": "openai", "model": "m", "max_concurency": 3}, "'max_concurency'; did you mean 'max_concurrency'?"),
        ({"kind": "openai", "model": "m", "max_concurrency": 0}, "max_concurrency: input should be greater than"),
        ({"kind": "openai", "model": "m", "price": {"promt": 1}}, "'price.promt'; did you mean 'prompt'?"),
        ({"kind": "openai", "model": "m", "base_url": "localhost"}, "it begins with http://"),
        ({"kind": "transformers", "model": "m", "dtype": "int3"}, "dtype: input should be 'float32'"),
        ({"kind": "scripted", "replies": {"(": "x"}}, "is not a regular expression"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(config: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        engine_from_config("judge", config, WHERE)
    assert said in str(caught.value)
    assert str(caught.value).startswith("judge.yaml: line 4, engine 'judge'")


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": "sk-secret-123456"},
        {"api_key_env": "sk-secret-123456"},
        {"api_key_env": "sk_secret_123456"},
        {"base_url": "http://user:sk-secret-123456@host/v1"},
        {"base_url": "http://host/v1?key=sk-secret-123456"},
        {"timeout": "sk-secret-123456"},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(config: dict[str, Any]) -> None:
    with pytest.raises(PipelineError) as caught:
        engine_from_config("judge", {"kind": "openai", "model": "m", **config}, WHERE)
    assert "123456" not in "".join(traceback.format_exception(caught.value))


def test_identities_name_what_changes_answers_and_nothing_else() -> None:
    def identity(**fields: Any) -> str:
        return engine_from_config(
            "e", {"kind": "openai", "model": "m", "base_url": "http://h:1/v1", **fields}, WHERE
        ).identity

    plain = identity()
    assert plain == "openai:http://h:1/v1:m"
    assert identity(max_concurrency=9, rpm=1, price={}, timeout=5, api_key_env="OTHER") == plain
    changed = [
        identity(base_url="http://h:2/v1"),
        identity(model="n"),
        identity(extra_body={"top_k": 4}),
        identity(extra_body={"top_k": 5}),
        identity(prefill=False),
    ]
    assert len({plain, *changed}) == 6
    # A cluster gives every job another address: a name of one's own stands for it.
    assert identity(identity="cluster") == identity(identity="cluster", base_url="http://h:3/v1") == "openai:cluster:m"
    scripted = [
        engine_from_config("e", {"kind": "scripted", **fields}, WHERE).identity
        for fields in ({}, {"model": "b"}, {"position_bias": 0.5}, {"replies": {"a": "b"}}, {"latency": 1.0})
    ]
    assert len(set(scripted)) == 4 and scripted[0] == scripted[4]


def test_a_known_model_that_was_not_fetched_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PREFDATA_MODELS", str(tmp_path))
    made = engine_from_config("policy", {"kind": "transformers", "model": "smollm2-135m-instruct"}, WHERE)
    with pytest.raises(EngineError, match="prefdata models fetch smollm2-135m-instruct"):
        _ = made.identity


def test_a_kind_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.engines.registry.ENGINES", ENGINES)

    class EchoConfig(EngineConfig):
        loud: bool = Field(False)

    @engine("echo", config=EchoConfig)
    class Echo(BaseEngine):
        capabilities = frozenset({"generate"})

        def __init__(self, name: str, config: EchoConfig) -> None:
            super().__init__(name, config)
            self.model, self.loud = "echo", config.loud

        def identify(self) -> str:
            return f"echo:{self.loud}"

        async def ask(self, request: Request) -> Reply:
            return Reply(text=str(request.messages[-1]["content"]))

    try:
        made = engine_from_config("e", {"kind": "echo", "loud": True}, WHERE)
        assert isinstance(made, Echo) and made.identity == "echo:True" and isinstance(made, Engine)
        with pytest.raises(PipelineError, match="two engines are of the kind 'echo'"):
            engine("echo")(lambda name, config: made)
    finally:
        del ENGINES["echo"]


def test_engines_load_no_heavy_library() -> None:
    """Making engines and reading their names must stay cheap: the libraries behind them are loaded at the first ask."""
    program = (
        "import sys; from prefdata.engines import engine_from_config as make\n"
        "make('a', {'kind': 'openai', 'model': 'm'}, 'w').identity\n"
        "make('b', {'kind': 'transformers', 'model': 'o/m'}, 'w')\n"
        "print([name for name in ('torch', 'transformers', 'openai', 'httpx2', 'jinja2') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
