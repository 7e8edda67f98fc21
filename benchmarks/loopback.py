"""A fast loopback server that speaks the OpenAI protocol, for measuring what stands in front of it.

    python benchmarks/loopback.py --latency 0.05

The first line of output is its address (a `base_url`); it ends when its standard input is closed. It is a bare asyncio
protocol with keep-alive: under 0.1 ms of CPU for a request, in a process of its own, so that it is in nobody's
figures.

Every POST to `.../chat/completions` is answered after `--latency` seconds with `{"verdict": "A"}` or `{"verdict":
"B"}`, as the messages' hash has it: the same question gets the same answer, and a wrong one can be told. Further:

    --slow-share 0.05 --slow-times 20    that share of the questions (by their hash) takes so many times longer
    --admit 50 --burst 5                 a token bucket: so many requests a second; else 429, Retry-After: 1
    --log FILE                           a line for each request as it comes in: status, hash of the body, of the
                                         messages (`probe`, where the body is shorter than 1,000 bytes: some
                                         clients ask such things before they begin)

`GET /stats` returns, as JSON, the counts that `Stats` describes; `POST /reset` sets them back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import orjson

_PROBE = 1000
"""Bytes of a body, under which a request is a probe."""


@dataclass
class Stats:
    """What the server saw.

    Attributes:
        received: requests for a judgement that came in, whether answered or not.
        served: of these, answered with 200, to a client that was still there.
        rejected: of these, answered with 429.
        distinct: different questions (messages) among those admitted.
        repeated: admitted requests whose question had been admitted before: what would have been paid for twice.
        probes: requests that are no judgement.
        most_in_flight: the highest number of admitted requests that were open at once.
        connections: opened.
        latency: seconds of work that the admitted requests asked for, in all.
    """

    received: int = 0
    served: int = 0
    rejected: int = 0
    distinct: int = 0
    repeated: int = 0
    probes: int = 0
    most_in_flight: int = 0
    connections: int = 0
    latency: float = 0.0


def digest_of(messages: Any) -> bytes:
    """The hash that decides the verdict and the latency: of the messages alone."""
    return blake2b(orjson.dumps(messages), digest_size=8).digest()


def answer_to(messages: Any) -> str:
    """What the server says to these messages."""
    return _verdict(digest_of(messages))


def _verdict(digest: bytes) -> str:
    return '{"verdict": "A"}' if digest[0] % 2 else '{"verdict": "B"}'


class Server:
    """State that all connections share; see the module for the arguments."""

    def __init__(
        self, latency: float, slow_share: float, slow_times: float, admit: float, burst: float, log: Path | None
    ) -> None:
        self.latency, self.slow_share, self.slow_times = latency, slow_share, slow_times
        self.admit, self.burst = admit, burst
        self.stats, self.seen = Stats(), set[bytes]()
        self.in_flight = 0
        self._tokens, self._filled = burst, time.monotonic()
        self._log: IO[str] | None = log.open("w") if log else None

    def reset(self) -> None:
        """Forget what was counted; the bucket is full again."""
        self.stats, self.seen = Stats(), set()
        self._tokens, self._filled = self.burst, time.monotonic()

    def admitted(self) -> bool:
        """Take one token from the bucket."""
        if not self.admit:
            return True
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._filled) * self.admit)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def question(self, body: bytes) -> tuple[int, float, bytes]:
        """Count a POST; returns status, seconds to wait, and the answer's body."""
        try:
            asked = orjson.loads(body)
            messages = asked["messages"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            asked, messages = {}, []
        digest = digest_of(messages)
        if len(body) < _PROBE:
            self.stats.probes += 1
            self._note("probe", body, digest)
            return 200, 0.0, _completion(asked, '{"name": "nobody", "age": 1}', len(body))
        self.stats.received += 1
        if not self.admitted():
            self.stats.rejected += 1
            self._note("429", body, digest)
            return 429, 0.0, b'{"error": {"message": "slow down", "type": "rate_limit"}}'
        if digest in self.seen:
            self.stats.repeated += 1
        else:
            self.seen.add(digest)
            self.stats.distinct += 1
        self._note("200", body, digest)
        slow = digest[1] < 256 * self.slow_share
        seconds = self.latency * (self.slow_times if slow else 1.0)
        self.stats.latency += seconds
        return 200, seconds, _completion(asked, _verdict(digest), len(body))

    def _note(self, status: str, body: bytes, digest: bytes) -> None:
        if self._log:
            self._log.write(f"{status} {blake2b(body, digest_size=8).hexdigest()} {digest.hex()}\n")


def _completion(asked: dict[str, Any], text: str, length: int) -> bytes:
    return orjson.dumps(
        {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": asked.get("model", "loopback"),
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": length // 4, "completion_tokens": 6, "total_tokens": length // 4 + 6},
        }
    )


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length, one request after another: all that the measured clients speak."""

    def __init__(self, server: Server) -> None:
        self._server, self._buffer = server, b""
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.stats.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._handle(head.split(b" ", 2), body)

    def _handle(self, line: list[bytes], body: bytes) -> None:
        method, path = line[0], line[1]
        if method == b"post" and path.endswith(b"/chat/completions"):
            status, seconds, answer = self._server.question(body)
            if status == 429:
                self._write(429, answer, b"Retry-After: 1\r\n")
                return
            self._server.in_flight += 1
            self._server.stats.most_in_flight = max(self._server.stats.most_in_flight, self._server.in_flight)
            asyncio.get_running_loop().call_later(seconds, self._answer, answer)
        elif path == b"/stats":
            self._write(200, orjson.dumps(asdict(self._server.stats)))
        elif method == b"post" and path == b"/reset":
            self._server.reset()
            self._write(200, b"{}")
        elif path.endswith(b"/models"):
            self._write(200, b'{"object": "list", "data": [{"id": "loopback", "object": "model"}]}')
        else:
            self._write(404, b'{"error": {"message": "there is nothing here"}}')

    def _answer(self, body: bytes) -> None:
        self._server.in_flight -= 1
        if self._open:
            self._server.stats.served += 1
            self._write(200, body)

    def _write(self, status: int, body: bytes, further: bytes = b"") -> None:
        said = {200: b"OK", 404: b"Not Found", 429: b"Too Many Requests"}[status]
        head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, said, further, len(body)) + body)


@dataclass(frozen=True)
class Loopback:
    """A running server, as its user sees it. `url` is a `base_url`, ending in /v1."""

    url: str

    def stats(self) -> Stats:
        """What it has seen since the last reset."""
        return Stats(**json.loads(self._call("/stats")))

    def reset(self) -> None:
        """Set the counts back."""
        self._call("/reset", b"")

    def _call(self, path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + path, data, timeout=30) as answer:
            read: bytes = answer.read()
            return read


@contextlib.contextmanager
def loopback(**options: object) -> Iterator[Loopback]:
    """Run the server in a process of its own while the block runs.

    Args:
        **options: of the command line, with _ for -.
    """
    told = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    try:
        yield Loopback(server.stdout.readline().strip())
    finally:
        server.stdin.close()
        server.wait(30)


async def _serve(options: argparse.Namespace) -> None:
    burst = options.burst or max(1.0, options.admit / 10)
    server = Server(options.latency, options.slow_share, options.slow_times, options.admit, burst, options.log)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", options.port, backlog=4096)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--slow-share", type=float, default=0.0)
    parser.add_argument("--slow-times", type=float, default=20.0)
    parser.add_argument("--admit", type=float, default=0.0)
    parser.add_argument("--burst", type=float, default=0.0)
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args()
    assert options.latency >= 0 and math.isfinite(options.latency)
    asyncio.run(_serve(options))


if __name__ == "__main__":
    main()
