"""Answers while they are written: every engine's pieces, the client around them, broken and hostile streams."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_engine import Fake, question
from hypothesis import given
from hypothesis import strategies as st
from test_engines_transport import KEY, Act, Raw, full, made, raw_server, says

from prefdata.engines import Client, Engine, Reply, Request, RequestCache, RequestError, call_id_of
from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine
from prefdata.engines.streaming import LONGEST_LINE, Events, Streamed, listening, pieces
from prefdata.errors import EngineError

HEAD = b"HTTP/1.1 200 .\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def chunk(text: str | None = None, finish: str | None = None, **rest: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"index": 0, "delta": delta | rest.pop("delta", {}), "finish_reason": finish}], **rest}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage(read: int, written: int) -> bytes:
    counted = {"prompt_tokens": read, "completion_tokens": written}
    return b"data: " + json.dumps({"choices": [], "usage": counted}).encode() + b"\n\n"


def parts(*sent: bytes, pause: float = 0.0) -> Act:
    """A server that sends these bytes one after the other, then closes."""

    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        for part in sent:
            writer.write(part)
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(pause)
        writer.close()

    return act


async def heard(engine: Engine, request: Request | None = None) -> tuple[list[str], Any]:
    """The pieces, and the reply or the error. No error shows the key, nor do its local variables."""
    texts: list[str] = []
    try:
        async for piece in pieces(engine, request or question("Why?")):
            if isinstance(piece, Reply):
                return texts, piece
            texts.append(piece)
    except (RequestError, EngineError) as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert KEY not in shown and KEY not in str(getattr(error, "raw", ""))
        return texts, error
    finally:
        await engine.close()
    raise AssertionError("no reply came")


def streamed(act: Act, **fields: Any) -> tuple[list[str], Any, Raw]:
    async def work() -> tuple[list[str], Any, Raw]:
        async with raw_server(act) as raw:
            return *(await heard(made(raw.url, **fields))), raw

    return asyncio.run(work())


# Servers


def test_pieces_come_as_they_are_sent_and_the_reply_is_that_of_a_whole_answer() -> None:
    sent = [HEAD, b": keep-alive\n\n", chunk("", delta={"role": "assistant"})]
    sent += [chunk("The "), chunk("sky"), chunk(" is."), chunk(finish="length"), usage(7, 3), DONE]
    texts, reply, raw = streamed(parts(*sent, pause=0.01))
    assert texts == ["The ", "sky", " is."]
    assert reply == Reply(text="The sky is.", finish_reason="length", prompt_tokens=7, completion_tokens=3)
    body = json.loads(raw.bodies[0])
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert raw.header("authorization") == f"Bearer {KEY}" and raw.header("accept-encoding") == "identity"


@given(cuts=st.lists(st.integers(0, 10_000)), ends=st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int], ends: bytes) -> None:
    lines = [b"event: x", b'data: {"a":', b"data:1}", b"", b":note", b"", b"data: \xc3\xa4", b"id: 3", b"", b"data: z"]
    stream = ends.join(lines) + ends
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    events = Events("m")
    found = [data for a, b in pairwise(places) for data in events.feed(stream[a:b])]
    assert [*found, *events.end()] == [b'{"a":\n1}', "ä".encode(), b"z"]


def test_letters_that_are_cut_in_the_middle_are_whole() -> None:
    whole = (
        b"data: "
        + json.dumps({"choices": [{"delta": {"content": "Blau\u00e4\U0001f600"}}]}, ensure_ascii=False).encode()
    )
    sent = [HEAD, *(whole[n : n + 1] for n in range(len(whole))), b"\r\n\r\n", chunk(finish="stop"), DONE]
    texts, reply, _ = streamed(parts(*sent))
    assert texts == ["Blau\u00e4\U0001f600"] and reply.text == "Blau\u00e4\U0001f600"


def test_an_end_without_done_is_an_end_where_the_answer_was_complete() -> None:
    texts, reply, _ = streamed(parts(HEAD, chunk("all of it"), chunk(finish="stop").rstrip()))
    assert (texts, reply.text, reply.finish_reason) == (["all of it"], "all of it", "stop")


def test_what_comes_after_done_is_not_read() -> None:
    texts, reply, _ = streamed(parts(HEAD, chunk("yes"), DONE + chunk(" and no"), chunk(" and no")))
    assert "".join(texts) == reply.text == "yes"  # the s waited: the key begins with it


BROKEN: dict[str, tuple[list[bytes], str]] = {
    "cut": ([chunk("half"), b'data: {"choices": [{"delta": {"con'], "JSON"),
    "ends in the middle": ([chunk("half"), chunk(" a")], "ends in the middle"),
    "nothing": ([], "ends in the middle"),
    "no JSON": ([chunk("half"), b"data: <html>oops</html>\n\n", DONE], "not JSON"),
    "no object": ([chunk("half"), b"data: [1, 2]\n\n", DONE], "not JSON"),
    "error in the middle": ([chunk("half"), b'data: {"error": {"message": "out of memory"}}\n\n'], "out of memory"),
    "a line without end": ([b"data: " + b"x" * (10 * 2**20)], "more than 1 MiB"),
    "a line of 10 MB": ([b"data: " + b"x" * (10 * 2**20) + b"\n\n", chunk("a"), DONE], "more than 1 MiB"),
    "an event without end": ([b"data:\n" * 300_000], "more than 1 MiB"),
    "an error that repeats the key": ([b'data: {"error": {"message": "bad %s"}}\n\n' % KEY.encode()], "bad ***"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_is_a_failed_request_and_can_be_asked_again(name: str) -> None:
    sent, says_ = BROKEN[name]
    _, error, _ = streamed(parts(HEAD, *sent))
    assert isinstance(error, RequestError) and says_ in str(error), str(error)
    assert error.retriable or "MiB" in says_


def test_a_connection_that_breaks_is_told_with_what_it_cost() -> None:
    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        size = b"HTTP/1.1 200 .\r\nContent-Length: 100000\r\n\r\n"
        writer.write(size + usage(9, 2) + chunk("half"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    texts, error, _ = streamed(act)
    assert texts == ["half"] and "connection broke" in str(error) and error.retriable


def test_an_endless_stream_ends_at_the_timeout() -> None:
    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        writer.write(HEAD)
        while not writer.is_closing():
            writer.write(chunk("more "))
            await writer.drain()
            await asyncio.sleep(0.01)

    texts, error, _ = streamed(act, timeout=0.4)
    assert len(texts) > 3 and error.status == "timeout" and "(timeout)" in str(error)


def test_an_endless_stream_ends_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.engines.transport.LARGEST_ANSWER", 2**20)

    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        writer.write(HEAD)
        while not writer.is_closing():
            writer.write(chunk("x" * 10_000))
            await writer.drain()

    texts, error, _ = streamed(act)
    assert "MiB for one answer" in str(error) and sum(map(len, texts)) <= 2**20


def test_silence_ends_at_read_timeout() -> None:
    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        writer.write(HEAD + chunk("one"))
        await writer.drain()
        await asyncio.sleep(30)

    texts, error, _ = streamed(act, read_timeout=0.2)
    assert texts == ["one"] and "silent" in str(error) and error.status == "timeout"


def test_a_server_without_streams_answers_in_one_piece() -> None:
    body = {"choices": [{"message": {"content": "because"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 4}}
    texts, reply, _ = streamed(says(full(b"\n " + json.dumps(body).encode()), close=True))
    assert texts == ["because"] and (reply.text, reply.prompt_tokens) == ("because", 4)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, EngineError), (404, EngineError), (500, RequestError), (429, RequestError)]
)
def test_a_refusal_is_what_it_is_without_streaming(status: int, kind: type[Exception]) -> None:
    _, error, _ = streamed(says(full(b'{"error": {"message": "no %s"}}' % KEY.encode(), status=status), close=True))
    assert type(error) is kind and "no ***" in str(error)
    if isinstance(error, RequestError):
        assert error.code == status and error.retriable


def test_an_older_server_is_asked_again_without_stream_options() -> None:
    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        asked = json.loads(raw.bodies[-1])
        known = "stream_options" not in asked
        refused = full(b'{"error": {"message": "unknown field stream_options"}}', status=400)
        writer.write(HEAD + chunk("fine", "stop") + DONE if known else refused)
        await writer.drain()
        writer.close()

    async def work() -> Any:
        async with raw_server(act) as raw:
            engine = Streamed(made(raw.url))
            client = Client({"judge": engine}, None, "p", jitter=lambda: 0.0)
            texts: list[str | None] = []
            with listening(texts.append):
                answer = await client.ask("judge", question(), step="s")
            await client.close()
            return answer, texts

    answer, texts = asyncio.run(work())
    assert answer.reply.text == "fine" and texts == [None, None, "fine"] and answer.call["attempts"] == 2


def test_reasoning_is_kept_and_not_shown_and_a_refusal_is_one() -> None:
    sent = [chunk(delta={"reasoning_content": "hm, "}), chunk(delta={"reasoning": "so"}), chunk("42", "stop"), DONE]
    texts, reply, _ = streamed(parts(HEAD, *sent))
    assert texts == ["42"] and reply.text == "42" and "hm, so" in reply.raw
    _, reply, _ = streamed(parts(HEAD, chunk("I ca"), chunk(finish="content_filter"), DONE))
    assert (reply.text, reply.finish_reason) == (None, "refusal")


@given(cuts=st.sets(st.integers(1, len(KEY) + 20)))
def test_the_key_is_never_shown_however_it_is_cut(cuts: set[int]) -> None:
    said = f"your key: {KEY}, sk-" + "end!"
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    sent = [chunk(said[a:b]) for a, b in pairwise(places)]
    texts, reply, _ = streamed(parts(HEAD, *sent, chunk(finish="stop"), DONE))
    assert "".join(texts) == reply.text == "your key: ***, sk-end!"


def test_another_address_is_asked_where_nobody_is() -> None:
    async def work() -> Any:
        async with raw_server(parts(HEAD, chunk("here", "stop"), DONE)) as raw:
            engine = made(["http://127.0.0.1:9/v1", raw.url])
            return [(await heard(engine))[1].text for _ in range(3)]

    assert asyncio.run(work()) == ["here"] * 3


# The other engines, and the client


def test_the_scripted_engine_streams_words_that_are_its_answer() -> None:
    engine = ScriptedEngine("s", ScriptedConfig(replies={"spaces": " a  b\nc ", "none": ""}))
    for said in ("Why is the sky blue?", "spaces", "none"):
        request = question(said, seed=3)
        texts, reply = asyncio.run(heard(engine, request))
        assert "".join(texts) == reply.text == engine.answer(request).text
    assert len(asyncio.run(heard(engine, question("Why is the sky blue?")))[0]) > 5
    cut = replace(question("Why is the sky blue?"), max_tokens=2)
    assert asyncio.run(heard(engine, cut))[1].finish_reason == "length"


def test_an_engine_that_cannot_stream_gives_one_piece() -> None:
    engine = Fake(lambda number: Reply(text="whole"))
    assert asyncio.run(heard(engine)) == (["whole"], Reply(text="whole"))


class Halting(Fake):
    """Streams half an answer and fails, as often as it is told; then all of it."""

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.failures, self.error = failures, error

    async def stream(self, request: Request) -> Any:
        self.asked.append(request)
        yield "half "
        if len(self.asked) <= self.failures:
            raise self.error()
        yield "and half"
        yield Reply(text="half and half", prompt_tokens=10, completion_tokens=5)


def test_a_heard_answer_is_kept_and_billed_as_one_that_was_asked_for(tmp_path: Path) -> None:
    failing = Halting(1, lambda: RequestError("lost", retriable=True, prompt_tokens=10, completion_tokens=2))
    streamed_ = Streamed(failing)
    told: list[str | None] = []

    async def work() -> tuple[Any, Any]:
        client = Client({"fake": streamed_}, RequestCache(tmp_path), "d1", jitter=lambda: 0.0)
        with listening(told.append):
            first = await client.ask("fake", question(), step="s")
        again = await client.ask("fake", question(), step="s")
        await client.close()
        return first, again

    first, again = asyncio.run(work())
    assert told == [None, "half ", None, "half ", "and half"]
    assert first.reply.text == "half and half" and not first.cached and again.cached
    assert first.call_id == call_id_of(failing, question()) == call_id_of(streamed_, question())
    assert (first.call["attempts"], first.call["prompt_tokens"], first.call["completion_tokens"]) == (2, 20, 7)


def test_without_a_listener_nothing_is_streamed() -> None:
    engine = Halting(0, RuntimeError)
    reply = asyncio.run(Streamed(engine).ask(question()))
    assert reply.text == "answer 1"  # `ask`, not `stream`


def test_two_who_listen_hear_their_own() -> None:
    engine = Streamed(ScriptedEngine("s", ScriptedConfig(latency=0.02)))

    async def ask(said: str) -> tuple[str, str]:
        told: list[str | None] = []
        with listening(told.append):
            answer = await client.ask("s", question(said), step="x")
        return "".join(filter(None, told)), str(answer.reply and answer.reply.text)

    client = Client({"s": engine}, None, "p")

    async def work() -> list[tuple[str, str]]:
        return await asyncio.gather(*(ask(f"number {n} of tea and rain") for n in range(5)))

    found = asyncio.run(work())
    assert all(told == text for told, text in found) and len(set(found)) == 5


def test_limits_of_an_engine_are_seen_through() -> None:
    inner = Fake(rpm=5.0)
    outer = Streamed(inner)
    assert (outer.name, outer.model, outer.identity, outer.rpm) == ("fake", "fake-1", "fake:1", 5.0)
    assert not hasattr(outer, "nothing_of_the_kind") and isinstance(outer, Engine)


def test_an_event_may_be_as_long_as_it_says() -> None:
    events = Events("m")
    line = b"data: " + b"x" * (LONGEST_LINE - 6)
    assert len(next(iter(events.feed(line + b"\n\n")))) == LONGEST_LINE - 6
    with pytest.raises(RequestError, match="more than 1 MiB"):
        list(Events("m").feed(line + b"xx"))


def test_a_model_in_this_process_tells_its_tokens(tiny_llama: Path) -> None:
    from prefdata.engines.local import TransformersConfig, TransformersEngine

    engine = TransformersEngine("policy", TransformersConfig(model=str(tiny_llama)))
    requests = [question(f"hi {n}", temperature=0.9, max_tokens=24, seed=n) for n in range(3)]
    requests.append(replace(requests[0], stop=("e", "a")))

    async def work() -> Any:
        async def one(request: Request) -> tuple[list[str], Reply]:
            found: list[Any] = [piece async for piece in engine.stream(request)]
            return found[:-1], found[-1]

        told = await asyncio.gather(*(one(request) for request in requests))
        plain = [await engine.ask(request) for request in requests]
        await engine.close()
        return told, plain

    told, plain = asyncio.run(work())
    for (texts, reply), alone in zip(told, plain, strict=True):
        assert (reply.text, reply.finish_reason) == (alone.text, alone.finish_reason)
        assert "".join(texts) == reply.text
    assert len(told[0][0]) > 3


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_model import byte_tokenizer, save_tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder, byte_tokenizer())
    return folder
