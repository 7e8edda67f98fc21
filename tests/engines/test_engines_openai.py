"""The engine `openai` against a real loopback server that misbehaves; and where the key does not go."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer

from prefdata.engines import Client, RequestCache, UnreachableError, engine_from_config, openai_http
from prefdata.engines.base import Request, RequestError
from prefdata.engines.openai_answers import label_shares, read_completion, without_beginning
from prefdata.engines.openai_errors import retry_after
from prefdata.engines.openai_http import OpenAIEngine
from prefdata.errors import EngineError

KEY = "sk-very-secret-0123456789abcdef"
SCHEMA = {"type": "object", "properties": {"verdict": {"type": "string", "enum": ["A", "B"]}}, "required": ["verdict"]}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(slow_seconds=5.0) as running:
        yield running


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def made(server: FaultServer | str, **fields: Any) -> OpenAIEngine:
    url = server if isinstance(server, str) else server.url
    config = {"kind": "openai", "model": "m", "base_url": url, "api_key_env": "TEST_KEY", **fields}
    engine = engine_from_config("judge", config, "test.yaml")
    assert isinstance(engine, OpenAIEngine)
    return engine


def question(text: str = "Why is the sky blue?", capability: Any = "generate", **fields: Any) -> Request:
    return Request(capability, ({"role": "user", "content": text},), **fields)


def ask(engine: OpenAIEngine, request: Request) -> Any:
    async def once() -> Any:
        try:
            return await engine.ask(request)
        finally:
            await engine.close()

    return asyncio.run(once())


def test_an_answer_and_what_was_sent_for_it(server: FaultServer) -> None:
    request = question(
        temperature=0.7, top_p=0.9, max_tokens=50, stop=("\n\n",), seed=11, schema=SCHEMA, prefix="I think"
    )
    reply = ask(made(server, extra_body={"top_k": 5}), request)
    assert json.loads(reply.text)["verdict"] in ("A", "B")
    assert reply.finish_reason == "stop" and reply.prompt_tokens == 5 and reply.completion_tokens > 0
    sent = server.log[0]["body"]
    assert sent["messages"][-1] == {"role": "assistant", "content": "I think"}
    assert sent["continue_final_message"] is True and sent["add_generation_prompt"] is False
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    picked = {name: sent[name] for name in ("model", "temperature", "top_p", "max_tokens", "stop", "seed", "top_k")}
    assert picked == {
        "model": "m", "temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "stop": ["\n\n"], "seed": 11, "top_k": 5,
    }  # fmt: skip


def test_a_tag_draws_anew_and_length_is_length(server: FaultServer) -> None:
    engine = made(server)
    ask(engine, question(seed=11, temperature=1.0, tag="2"))
    assert server.log[0]["body"]["seed"] != 11
    assert ask(engine, question(max_tokens=2)).finish_reason == "length"
    assert "seed" not in server.log[1]["body"]


def test_label_probabilities(server: FaultServer) -> None:
    pair = "Response A:\nx\n\nResponse B:\na longer one"
    reply = ask(made(server), question(pair, "label_probs", labels=("A", "B"), prefix="The better is"))
    assert sum(reply.values) == pytest.approx(1) and reply.values[1] > 0.5 and 0.89 < reply.mass < 1
    sent = server.log[0]["body"]
    assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"]) == (1, True, 20)
    absent = ask(made(server), question(pair, "label_probs", labels=("yes", "no")))
    assert absent.mass == 0 and absent.values == (0.5, 0.5)
    with pytest.raises(RequestError, match="cannot be told apart"):
        ask(made(server), question(pair, "label_probs", labels=("1", "10")))
    with pytest.raises(EngineError, match="gives no top_logprobs"):
        ask(made(server), question("<<nologprobs>>", "label_probs", labels=("A", "B")))


def test_variants_of_a_label_are_summed() -> None:
    pairs = [("A", -1.0), (" A", -2.0), ("ĠB", -3.0), ("Be", -0.5), ("T", -4.0), ("\n", -1.0)]
    assert label_shares(pairs, ("A", "B", "Tie")) == pytest.approx(
        [math.exp(-1) + math.exp(-2), math.exp(-3), math.exp(-4)]
    )
    assert label_shares([("T", -1.0)], ("Tie", "Two")) == [0.0, 0.0], "a token that begins two labels says nothing"


@pytest.mark.parametrize(
    ("fault", "status", "retriable", "said"),
    [
        ("429", "failed", True, "429"),
        ("500", "failed", True, "internal problem"),
        ("400", "failed", False, "maximum context length"),
        ("drop", "failed", True, "the connection broke"),
        ("short", "failed", True, "the connection broke"),
        ("malformed", "failed", True, "not JSON"),
        ("cut", "failed", True, "only a part"),
        ("slow", "timeout", True, "within 0.3 seconds"),
    ],
)
def test_each_fault_has_its_error(server: FaultServer, fault: str, status: str, retriable: bool, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        ask(made(server, timeout=0.3 if fault == "slow" else 60), question(f"<<{fault}>>"))
    assert (caught.value.status, caught.value.retriable) == (status, retriable)
    if fault in ("malformed", "cut"):
        assert caught.value.raw
    if fault == "429":
        assert caught.value.retry_after == 0.0


@pytest.mark.parametrize("fault", ["refusal", "filter"])
def test_a_refusal_is_a_reply_of_its_own_kind(server: FaultServer, fault: str) -> None:
    reply = ask(made(server), question(f"<<{fault}>>"))
    assert reply.finish_reason == "refusal" and reply.text is None and "choices" in reply.raw


def test_an_empty_answer_is_an_empty_text_and_prose_is_prose(server: FaultServer) -> None:
    assert ask(made(server), question("<<empty>>")).text == ""
    with pytest.raises(ValueError):
        json.loads(ask(made(server), question("<<prose>>", schema=SCHEMA)).text)


@pytest.mark.parametrize(("fault", "said"), [("401", "rejects the key"), ("404", "does not know the model")])
def test_what_cannot_be_used_at_all_stops_the_run(server: FaultServer, fault: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        ask(made(server), question(f"<<{fault}>>"))


def test_a_server_without_schemas_is_asked_without_and_not_told_again(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    engine = made(server)
    assert ask(engine, question("<<noschema>> a", schema=SCHEMA)).text
    assert ["response_format" in entry["body"] for entry in server.log] == [True, False]
    assert ask(engine, question("<<noschema>> b", schema=SCHEMA)).text
    assert "response_format" not in server.log[2]["body"] and len(server.log) == 3
    assert [record.message for record in caplog.records if "takes no JSON schema" in record.message] == [
        f"m at {server.url} takes no JSON schema here; answers are read without one"
    ]
    other = {"type": "object", "properties": {"score": {"type": "integer"}}}
    ask(engine, question("plain", schema=other))
    assert "response_format" in server.log[3]["body"], "another schema is tried"


def test_a_request_that_fails_without_its_schema_too_takes_nothing_from_the_others(server: FaultServer) -> None:
    engine = made(server)
    text = "<<400>> response_format"  # a server that repeats the question in its error
    server.choose = lambda body, seen: "noschema" if seen == 1 and "response_format" in body else None
    with pytest.raises(RequestError, match="maximum context"):
        ask(engine, question(text, schema=SCHEMA))
    assert ["response_format" in entry["body"] for entry in server.log] == [True, False]
    server.choose = None
    ask(engine, question("b", schema=SCHEMA))
    assert "response_format" in server.log[-1]["body"]
    with pytest.raises(RequestError):
        ask(engine, question("<<400>>", schema=SCHEMA))
    assert len(server.log) == 4, "an error that does not name the schema is no reason to ask again"


def test_a_given_beginning_is_not_part_of_the_answer() -> None:
    def body(**more: Any) -> bytes:
        choice = {"message": {"role": "assistant", "content": "I think so"}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice], **more}).encode()

    llama, other = body(timings={"predicted_n": 1}), body()
    assert without_beginning(read_completion(llama), llama, "I think").text == " so"
    assert without_beginning(read_completion(llama), llama, "You").text == "I think so"
    assert without_beginning(read_completion(other), other, "I think").text == "I think so", "this one began again"


def test_the_tokenizer_is_loaded_once_by_requests_that_come_together(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads that began to import transformers at once failed."""
    made_ones: list[str] = []

    class Slow:
        def __init__(self, source: str) -> None:
            made_ones.append(source)
            time.sleep(0.05)

        def continued(self, request: Request) -> tuple[list[int], list[int]]:
            return [1, 2], [3, 4, 5]

    monkeypatch.setattr(openai_http, "ChatTokenizer", Slow)
    engine = made(server, prompt_logprobs=True, tokenizer="owner/model")

    async def work() -> list[Any]:
        asked = (engine.ask(question(str(n), "logprobs", continuation="x")) for n in range(4))
        return await asyncio.gather(*asked)

    replies = asyncio.run(work())
    assert made_ones == ["owner/model"] and all(len(reply.values) == 3 for reply in replies)


def test_nobody_there() -> None:
    with FaultServer() as short_lived:
        url = short_lived.url
    with pytest.raises(UnreachableError, match="nobody answers"):
        ask(made(url), question())


def test_one_engine_serves_several_event_loops(server: FaultServer) -> None:
    engine = made(server)
    for number in range(3):
        asyncio.run(engine.ask(question(str(number))))
    assert server.stats()["requests"] == 3


def test_retry_after_in_all_its_forms() -> None:
    noon = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    assert retry_after({"Retry-After": "7"}) == 7.0
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, lambda: noon) == 30.0
    assert retry_after({"Retry-After": "Fri, 20 Nov 2026 11:00:00 GMT"}, lambda: noon) == 0.0
    assert retry_after({"Retry-After": "soon"}) is None and retry_after({}) is None


def test_a_missing_key_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
    monkeypatch.delenv("TEST_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EngineError, match="set the environment variable TEST_KEY"):
        ask(made(server), question())
    local = engine_from_config("judge", {"kind": "openai", "model": "m", "base_url": server.url}, "test.yaml")
    assert isinstance(local, OpenAIEngine)
    assert ask(local, question()).text, "a local server needs no key"
    hosted = engine_from_config("judge", {"kind": "openai", "model": "m"}, "test.yaml")
    assert isinstance(hosted, OpenAIEngine)
    with pytest.raises(EngineError, match="OPENAI_API_KEY"):
        ask(hosted, question())


def everything_shown(error: BaseException) -> str:
    """The error as a log with its full traceback, causes and contexts shows it, and its fields."""
    parts = ["".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()), repr(error)]
    return "".join([*parts, str(getattr(error, "raw", ""))])


@pytest.mark.parametrize("fault", ["401", "404", "400", "429", "500", "drop", "malformed", "cut", "slow", "nologprobs"])
def test_the_key_is_in_no_error(server: FaultServer, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    capability = "label_probs" if fault == "nologprobs" else "generate"
    with pytest.raises((RequestError, EngineError)) as caught:
        timeout = 0.3 if fault == "slow" else 60
        ask(made(server, timeout=timeout), question(f"<<{fault}>>", capability, labels=("A", "B")))
    assert server.log, "the request went out"
    assert KEY not in everything_shown(caught.value)
    assert KEY not in caplog.text
    assert KEY not in made(server).identity


def test_the_key_does_reach_the_server_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Negative control: the server accepts this key only, and repeats it in its errors and answers."""
    caplog.set_level(logging.DEBUG)

    async def work(url: str) -> list[Any]:
        client = Client({"judge": made(url)}, RequestCache(tmp_path), "d1", sleep=lambda seconds: asyncio.sleep(0))
        texts = ["plain", "<<429>>", "<<429:1>>", "<<malformed>>", "<<echo>>"]
        answers = [await client.ask("judge", question(text), step="s") for text in texts]
        await client.close()
        return answers

    with FaultServer(key=KEY) as strict:
        answers = asyncio.run(work(strict.url))
        assert [answer.status for answer in answers] == ["ok", "failed", "ok", "failed", "ok"]
        assert answers[-1].reply.text == "Bearer ***", "the server did send it back"
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in kept
    assert KEY not in repr(answers) and KEY not in caplog.text
    with FaultServer(key="another") as stricter, pytest.raises(EngineError, match="rejects the key") as caught:
        ask(made(stricter), question())
    assert KEY not in everything_shown(caught.value)


def run_all(coroutine: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    return asyncio.run(coroutine)


def test_a_storm_of_faults_loses_and_doubles_nothing(tmp_path: Path) -> None:
    every = {"429": 5, "500": 7, "drop": 11, "malformed": 13, "cut": 17}

    async def work(url: str) -> list[Any]:
        client = Client(
            {"judge": made(url, max_concurrency=16)}, RequestCache(tmp_path), "d1", attempts=50,
            sleep=lambda seconds: asyncio.sleep(0),
        )  # fmt: skip
        answers = await asyncio.gather(*(client.ask("judge", question(f"q{n}"), step="s") for n in range(60)))
        await client.close()
        return answers

    with FaultServer(every=every) as stormy:
        first = run_all(work(stormy.url))
        seen = stormy.stats()["requests"]
        assert all(answer.status == "ok" for answer in first)
        assert sum(answer.call["attempts"] for answer in first) == seen > 60
        assert len({answer.reply.text for answer in first}) > 30
        again = run_all(work(stormy.url))
        assert stormy.stats()["requests"] == seen
    assert [answer.reply for answer in again] == [answer.reply for answer in first]


def test_the_server_runs_as_a_program(tmp_path: Path) -> None:
    program = Path(__file__).parent.parent / "fault_server.py"
    command = [sys.executable, str(program), "--port", "0", "--latency", "0.01", "--log", str(tmp_path / "log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ask(made(url), question("a"))
        ask(made(url), question("a"))
        ask(made(url), question("b"))
    finally:
        process.terminate()
        process.wait()
    lines = (tmp_path / "log").read_text().split()
    assert len(lines) == 3 and len(set(lines)) == 2 and all(len(line) == 64 for line in lines)
