"""The way from an engine to a server and back, against raw sockets: what breaks, what is late, where a key may go."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import json
import logging
import shutil
import socket
import ssl
import subprocess
import time
import traceback
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.engines import UnreachableError, engine_from_config, transport
from prefdata.engines.base import Request, RequestError
from prefdata.engines.openai_answers import parse_json
from prefdata.engines.openai_http import OpenAIEngine
from prefdata.engines.transport import encode, proxy_of
from prefdata.errors import EngineError

KEY = "sk-very/secret+0123456789abcdef"
ANSWER = json.dumps({
    "choices": [{"message": {"role": "assistant", "content": "because"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}).encode()  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Raw:
    """A server of raw bytes.

    Attributes:
        url: with /v1 at its end.
        heads: of the requests, in order, as they came.
        bodies: of the requests.
        connections: how many there were.
    """

    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    def header(self, name: str, request: int = -1) -> str | None:
        lines = (line.partition(": ") for line in self.heads[request].split("\r\n")[1:])
        return next((value for key, _, value in lines if key.lower() == name.lower()), None)


Act = Callable[[asyncio.StreamWriter, Raw], Awaitable[None]]


def full(body: bytes = ANSWER, *headers: str, status: int = 200) -> bytes:
    lines = [f"HTTP/1.1 {status} .", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(answer: bytes, *, close: bool = False) -> Act:
    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if close:
            writer.close()

    return act


@contextlib.asynccontextmanager
async def raw_server(act: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
    raw = Raw()
    writers = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                raw.heads.append(head)
                raw.bodies.append(await reader.readexactly(int(raw.header("content-length") or 0)))
                await act(writer, raw)

    server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls, limit=2**24)
    raw.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield raw
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def made(url: str | list[str], **fields: Any) -> OpenAIEngine:
    config = {"kind": "openai", "model": "m", "base_url": url, "api_key_env": "TEST_KEY", **fields}
    engine = engine_from_config("judge", config, "test.yaml")
    assert isinstance(engine, OpenAIEngine)
    return engine


def question(text: str = "Why is the sky blue?") -> Request:
    return Request("generate", ({"role": "user", "content": text},))


async def asked(engine: OpenAIEngine, request: Request | None = None) -> Any:
    """One request; an error is returned with what a log with every cause and local variable would show of it."""
    try:
        return await engine.ask(request or question())
    except (RequestError, EngineError) as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert KEY not in shown and KEY not in repr(error) and KEY not in str(getattr(error, "raw", ""))
        return error
    finally:
        await engine.close()


def answer_to(act: Act, **fields: Any) -> tuple[Any, Raw]:
    async def work() -> tuple[Any, Raw]:
        async with raw_server(act) as raw:
            return await asked(made(raw.url, **fields)), raw

    return asyncio.run(work())


# Broken answers


CHUNKED = b"HTTP/1.1 200 .\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 .\r\nContent-Le",
    "fewer bytes than promised": full()[:-20],
    "a chunk that ends early": CHUNKED + b"40\r\n{}",
    "a chunk size that is no number": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 .\r\nContent-Length: many\r\n\r\n{}",
    "a head without end": b"HTTP/1.1 200 .\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    "gzip that is none": full(b"not gzip at all", "Content-Encoding: gzip"),
    "gzip that was cut": full(gzip.compress(ANSWER)[:-10], "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_on_the_way_is_worth_another_attempt(kind: str) -> None:
    error, _ = answer_to(says(BROKEN[kind], close=True))
    assert isinstance(error, RequestError) and not isinstance(error, UnreachableError)
    assert (error.status, error.retriable) == ("failed", True), error
    assert str(error).startswith("the connection broke: m at http://127.0.0.1:"), error


def test_an_answer_in_pieces_or_compressed_is_an_answer() -> None:
    half = len(ANSWER) // 2
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (ANSWER[:half], ANSWER[half:])) + b"0\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    for answer in (full(), CHUNKED + pieces, full(gzip.compress(ANSWER), "Content-Encoding: gzip"), early + full()):
        reply, raw = answer_to(says(answer))
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.raw) == ("because", 7, 3, "")
    assert raw.header("accept-encoding") == "gzip"
    error, _ = answer_to(says(full(b"\x0b", "Content-Encoding: br")))
    assert isinstance(error, RequestError) and "'br'" in str(error) and not error.retriable


def test_a_small_answer_that_grows_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 2**20)
    for packed in (zlib.compress(b"", wbits=31), gzip.compress(bytes(2**22)), gzip.compress(bytes(2**20 + 1))):
        error, _ = answer_to(says(full(packed, "Content-Encoding: gzip")))
        assert isinstance(error, RequestError)
        assert ("more than 1 MiB" in str(error)) is (len(packed) > 100), error


def test_an_answer_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 2**20)
    sent = 0

    async def act(writer: asyncio.StreamWriter, raw: Raw) -> None:
        nonlocal sent
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    error, _ = answer_to(act)
    assert isinstance(error, RequestError) and "more than 1 MiB" in str(error) and not error.retriable
    assert sent < 2**25, "it hung up"


# Time


def test_each_timeout_says_which_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dribble(writer: asyncio.StreamWriter, raw: Raw) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 .\r\nContent-Length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    late, _ = answer_to(dribble, timeout=0.3, read_timeout=30)
    assert "within 0.3 seconds (timeout)" in str(late) and "m at http://127.0.0.1" in str(late)
    silent, _ = answer_to(says(b"HTTP/1.1 200 .\r\nContent-Length: 1000\r\n\r\n "), read_timeout=0.2)
    assert "silent for 0.2 seconds (read_timeout)" in str(silent)
    waiting, _ = answer_to(says(b""), read_timeout=0.2)
    assert "silent for 0.2 seconds (read_timeout)" in str(waiting), "silence before the head counts too"

    def slow_names(*_: object, **__: object) -> Any:
        time.sleep(0.5)
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr(socket, "getaddrinfo", slow_names)
    unconnected = asyncio.run(asked(made("http://somewhere.invalid/v1", connect_timeout=0.1)))
    assert "no connection to m at http://somewhere.invalid/v1 within 0.1 seconds (connect_timeout)" in str(unconnected)
    for error in (late, silent, waiting, unconnected):
        assert isinstance(error, RequestError) and not isinstance(error, UnreachableError)
        assert (error.status, error.retriable) == ("timeout", True)


def test_nobody_and_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = asyncio.run(asked(made(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")))

    def no_names(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    unknown = asyncio.run(asked(made("http://somewhere.invalid/v1")))
    for error in (refused, unknown):
        assert isinstance(error, UnreachableError) and error.retriable and error.status == "failed"
        assert str(error).startswith("nobody answers at m at http://")
    assert "not known" in str(unknown)


def test_too_many_open_files_is_no_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object, **__: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async def work() -> Any:
        async with raw_server(says(full())) as raw:
            monkeypatch.setattr("aiohappyeyeballs.impl.socket.socket", no_more)
            return await asked(made(raw.url))

    error = asyncio.run(work())
    assert isinstance(error, EngineError) and "lower max_concurrency" in str(error)


# Connections


def test_as_many_at_once_as_are_asked_and_connections_are_used_again() -> None:
    """The server answers only once all have come: a hidden limit would never finish."""
    wanted = 300

    async def work() -> tuple[int, int, int]:
        waiting: list[asyncio.StreamWriter] = []

        async def gather(writer: asyncio.StreamWriter, raw: Raw) -> None:
            waiting.append(writer)
            if len(waiting) == wanted:
                for one in waiting:
                    one.write(full())
                waiting.clear()

        async with raw_server(gather) as raw:
            engine = made(raw.url, max_concurrency=wanted, timeout=30)
            for _ in range(2):
                replies = await asyncio.gather(*(engine.ask(question(str(n))) for n in range(wanted)))
                assert all(reply.text == "because" for reply in replies)
            in_flight = engine._endpoints.all[0].in_flight
            await engine.close()
            return raw.connections, len(raw.heads), in_flight

    assert asyncio.run(work()) == (wanted, 2 * wanted, 0)


def test_who_is_cancelled_leaves_nothing_behind() -> None:
    async def work() -> None:
        async with raw_server(says(b"")) as raw:
            engine = made(raw.url)
            task = asyncio.create_task(engine.ask(question()))
            while not raw.heads:
                await asyncio.sleep(0.01)
            assert engine._endpoints.all[0].in_flight == 1
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert engine._endpoints.all[0].in_flight == 0
            await engine.close()

    asyncio.run(work())


def test_loops_that_have_ended_leave_no_warning() -> None:
    async def work(engine: OpenAIEngine) -> None:
        async with raw_server(says(full())) as raw:
            engine._endpoints.all[0].url = raw.url
            await asyncio.gather(*(engine.ask(question(str(n))) for n in range(3)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = made("http://127.0.0.1:1/v1")
        for _ in range(3):
            asyncio.run(work(engine))
        assert len(engine._transports) == 1
        asyncio.run(engine.close())
        assert not engine._transports


def test_a_prompt_of_two_megabytes_goes_out_whole() -> None:
    text = "ä" * 2**20

    async def work() -> bytes:
        async with raw_server(says(full())) as raw:
            assert (await asked(made(raw.url), question(text))).text == "because"
            return raw.bodies[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert json.loads(asyncio.run(work()))["messages"][0]["content"] == text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_what_goes_out_is_what_json_says(body: dict[str, Any]) -> None:
    assert json.loads(encode(body)) == body


def test_what_utf8_cannot_hold_goes_out_escaped() -> None:
    body = {"a": "\ud800 half", "b": 2**80, "c": "ä"}
    assert json.loads(encode(body)) == body and encode({"c": "ä"}) == '{"c":"ä"}'.encode()


# Where requests, and the key, go


def test_what_a_server_says_is_one_line_without_control_characters() -> None:
    said = json.dumps({"error": {"message": "no\x1b[2Jroom\n\nleft" + "!" * 5_000}}).encode()
    error, _ = answer_to(says(full(said, status=400)))
    assert str(error).startswith("the server answered 400: no [2Jroom left!!") and len(str(error)) < 400
    assert error.raw == said.decode()


def test_redirects_are_not_followed() -> None:
    async def work(code: int) -> None:
        async with (
            raw_server(says(full())) as other,
            raw_server(says(full(b"", f"Location: {other.url}/x?key={KEY}", status=code))) as raw,
        ):
            error = await asked(made(raw.url))
            assert isinstance(error, EngineError) and f"answers {code} and sends on to {other.url}" in str(error)
            assert other.heads == [] and len(raw.heads) == 1

    for code in (301, 302, 307, 308):
        asyncio.run(work(code))


HIDDEN_ROUTES = {
    "OPENAI_BASE_URL": "http://127.0.0.1:9/stolen",
    "OPENAI_ORG_ID": "org-hidden",
    "OPENAI_PROJECT_ID": "proj-hidden",
    "OPENAI_CUSTOM_HEADERS": "X-Hidden: yes\nHost: stolen.invalid\nAuthorization: Bearer hidden\napi-key: hidden",
    "OPENAI_ADMIN_KEY": "sk-hidden-admin",
    "OPENAI_API_VERSION": "hidden",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9/stolen",
    "AZURE_OPENAI_API_KEY": "hidden",
    "AZURE_OPENAI_AD_TOKEN": "hidden",
}


@pytest.mark.parametrize("azure", [False, True])
def test_no_variable_of_the_openai_package_changes_a_request(
    azure: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def sent() -> tuple[str, bytes]:
        async with raw_server(says(full())) as raw:
            url = raw.url.removesuffix("/v1") if azure else raw.url
            fields = {"api_version": "2024-10-21", "deployment": "mine"} if azure else {}
            assert (await asked(made(url, **fields))).text == "because"
            return raw.heads[0].replace(raw.url.split("/")[2], "HOST"), raw.bodies[0]

    plain = asyncio.run(sent())
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login hidden password hidden\n")
    for name, value in {**HIDDEN_ROUTES, "NETRC": str(netrc)}.items():
        monkeypatch.setenv(name, value)
    assert asyncio.run(sent()) == plain
    assert "hidden" not in plain[0] and "HOST" in plain[0] and KEY in plain[0]


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def work() -> Raw:
        async with raw_server(says(full())) as raw:
            engine = engine_from_config("e", {"kind": "openai", "model": "m", "base_url": raw.url}, "t")
            assert isinstance(engine, OpenAIEngine)
            await asked(engine)
            return raw

    assert asyncio.run(work()).header("authorization") is None


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with raw_server(says(full())) as proxy, raw_server(says(full())) as here:
            address = proxy.url.split("/")[2]
            monkeypatch.setenv("HTTP_PROXY", f"http://user:proxy-secret@{address}")
            assert (await asked(made("http://far.invalid/v1"))).text == "because"
            assert proxy.heads[0].startswith("POST http://far.invalid/v1/chat/completions ")
            assert proxy.header("proxy-authorization") and proxy.header("authorization") == f"Bearer {KEY}"
            await asked(made(here.url))
            assert len(proxy.heads) == 1 and len(here.heads) == 1
            assert here.header("proxy-authorization") is None

    asyncio.run(work())
    monkeypatch.setenv("HTTP_PROXY", "http://user:proxy-secret@127.0.0.1:9")
    gone = asyncio.run(asked(made("http://far.invalid/v1")))
    assert isinstance(gone, UnreachableError) and "nobody answers at the proxy before m at" in str(gone)
    assert "proxy-secret" not in str(gone)


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of("https://a.example/v1") is None
    monkeypatch.setenv("ALL_PROXY", "proxy:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://tls-proxy:3128")
    monkeypatch.setenv("NO_PROXY", "b.example,10.0.0.7,192.168.0.0/16")
    assert proxy_of("http://a.example/v1") == "http://proxy:3128"
    assert proxy_of("https://a.example/v1") == "http://tls-proxy:3128"
    for near in ("http://b.example/v1", "http://x.b.example:8000/v1", "http://10.0.0.7:1/v1", "http://192.168.7.9/v1"):
        assert proxy_of(near) is None
    for here in ("http://localhost:8000/v1", "http://127.0.0.2/v1", "http://[::1]:8000/v1"):
        assert proxy_of(here) is None
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(EngineError, match=r"a socks5 proxy for a\.example"):
        proxy_of("https://a.example/v1")


def test_a_proxy_that_wants_a_password_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(status: int) -> Any:
        async with raw_server(says(full(b"", status=status), close=True)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.url.split('/')[2]}")
            error = await asked(made("https://far.invalid/v1"))
            assert proxy.heads[0].startswith("CONNECT far.invalid:443 ") and KEY not in proxy.heads[0]
            return error

    wanted, busy = asyncio.run(work(407)), asyncio.run(work(502))
    assert isinstance(wanted, EngineError) and "wants a user and password" in str(wanted)
    assert isinstance(busy, RequestError) and busy.retriable and "proxy" in str(busy) and "502" in str(busy)


def test_certificates_are_checked(tmp_path: Path) -> None:
    async def plain() -> Any:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(full(b"", status=400))
            await reader.read()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            return await asked(made(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))

    error = asyncio.run(plain())
    assert isinstance(error, UnreachableError) and "no TLS connection to m at https://" in str(error)
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def own() -> tuple[Any, list[str]]:
        async with raw_server(says(full()), context) as raw:
            return await asked(made(raw.url)), raw.heads

    error, heads = asyncio.run(own())
    assert isinstance(error, EngineError) and "is not trusted" in str(error) and "SSL_CERT_FILE" in str(error)
    assert heads == []


# Azure


def azure(act: Act, **fields: Any) -> tuple[Any, Raw]:
    async def work() -> tuple[Any, Raw]:
        async with raw_server(act) as raw:
            url = raw.url.removesuffix("/v1")
            return await asked(made(url, api_version="2024-10-21", **{"deployment": "mine", **fields})), raw

    return asyncio.run(work())


def test_a_deployment_on_azure() -> None:
    reply, raw = azure(says(full()), extra_body={"top_k": 5})
    assert (reply.text, reply.prompt_tokens) == ("because", 7)
    line = raw.heads[0].split("\r\n")[0]
    assert line == "POST /openai/deployments/mine/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert raw.header("api-key") == KEY and raw.header("authorization") is None
    body = json.loads(raw.bodies[0])
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_completion_tokens": 512,
        "temperature": 0.0, "top_k": 5,
    }  # fmt: skip
    _, raw = azure(says(full()), deployment=None)
    assert raw.heads[0].startswith("POST /openai/deployments/m/chat/completions?")


def test_what_goes_wrong_on_azure_reads_as_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = json.dumps({"error": {"message": f"no, {KEY}", "code": "x"}}).encode()
    busy, _ = azure(says(full(said, "retry-after-ms: 1500", status=429)))
    assert isinstance(busy, RequestError) and (busy.code, busy.retry_after, busy.retriable) == (429, 1.5, True)
    assert "the server answered 429: no, ***" in str(busy)
    filtered = json.dumps({"error": {"message": "no", "code": "content_filter"}}).encode()
    refused, _ = azure(says(full(filtered, status=400)))
    assert isinstance(refused, RequestError) and refused.status == "refused"
    rejected, _ = azure(says(full(said, status=401)))
    assert isinstance(rejected, EngineError) and "rejects the key" in str(rejected)
    moved, raw = azure(says(full(b"", "Location: http://127.0.0.1:9/", status=307)))
    assert isinstance(moved, EngineError) and len(raw.heads) == 1
    for broken in (b"", full()[:-20]):
        error, _ = azure(says(broken, close=True))
        assert isinstance(error, RequestError) and "the connection broke" in str(error) and error.retriable
    silent, _ = azure(says(b""), read_timeout=0.2)
    assert "silent for 0.2 seconds (read_timeout)" in str(silent) and silent.status == "timeout"
    late, _ = azure(says(b""), timeout=0.2)
    assert "within 0.2 seconds (timeout)" in str(late) and late.status == "timeout"
    monkeypatch.setattr("prefdata.engines.azure.LARGEST_ANSWER", 100)
    large, _ = azure(says(full(b" " * 200)))
    assert isinstance(large, RequestError) and "for one answer" in str(large)
    nobody = asyncio.run(asked(made("http://127.0.0.1:1", api_version="1", deployment="d")))
    assert isinstance(nobody, UnreachableError) and "nobody answers at m at http://127.0.0.1:1" in str(nobody)
    assert KEY not in caplog.text


# JSON that one reader takes and another does not


@given(_JSON)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert parse_json(text.encode("utf-8")) == json.loads(
        json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_json_or_none(body: bytes) -> None:
    json.dumps(parse_json(body), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"", b"{", b"\xff\xfe"])
def test_json_that_is_none(body: bytes) -> None:
    assert parse_json(body) is None


def test_json_beyond_orjson() -> None:
    assert parse_json(b'{"a": NaN, "b": "\\ud83d\\ude00"}')["b"] == "\N{GRINNING FACE}"
    assert parse_json(b'["\\ud83d x"]') == ["\N{REPLACEMENT CHARACTER} x"]
    assert parse_json(b'["\xff"]') == ["\N{REPLACEMENT CHARACTER}"]
