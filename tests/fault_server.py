"""A loopback server that speaks the OpenAI protocol, answers deterministically, and fails on demand.

Used as a context manager in tests, or as a program whose first line of output is its address:

    python tests/fault_server.py --port 0 --latency 0.05 --log counts.txt --every 500=7

Answers are those of the scripted engine: a pure function of the body. A fault strikes every Nth request (`every`), a
request that the function `choose` picks, or one whose text holds a marker: `<<500>>` always, `<<500:2>>` the first two
times that this body is sent.

    429        too many requests, with Retry-After        500        internal error
    drop       the connection is closed without answer    slow       the answer takes `slow_seconds`
    malformed  a body that is no JSON                     cut        a JSON body that ends in the middle
    short      fewer bytes than Content-Length says       prose      prose instead of the schema
    empty      an empty answer                            400        the prompt is too long
    refusal    the model refuses                          filter     finish_reason content_filter
    401        the key is rejected (and repeated)         404        no such model
    nologprobs no log-probabilities                       echo       the answer is the Authorization header
    nochoices  no choices, though the tokens are counted  noschema   no response_format is taken

The server keeps a ledger: what each POST was answered, whether all of it went out to a client that was still there, and
the tokens that it counted for it: those of a whole completion that was delivered, and none for anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefdata.engines.base import Request
from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine

_NAMES = (
    "429 500 drop slow malformed cut short prose empty 400 refusal filter 401 404 nologprobs echo nochoices noschema"
)
FAULTS = frozenset(_NAMES.split())
_MARKER = re.compile(r"<<(\w+)(?::(\d+))?>>")


class FaultServer:
    """See the module.

    Args:
        every: fault -> N: it strikes every Nth POST, counted from the start.
        choose: body and how often it was sent -> the fault that strikes, or None.
        latency: seconds that each answer takes.
        retry_after: what a 429 says: seconds or an HTTP date; None to say nothing.
        slow_seconds: what the fault `slow` adds.
        key: what Authorization must hold; None for anything.
        labels: what the log-probabilities of a next token are about.
        log: a file that gets one line for each POST: the SHA-256 of its body.
        events: a file that gets a JSON line when a POST has come and one when its answer is out (see `_note`).

    Attributes:
        url: base_url for a client, ending in /v1.
        counts: how often each body was seen, by SHA-256.
        log: one dict for each POST, in order: sha, path, fault, body; and what became of it: connection (the number of
            the connection that it came by), status (HTTP; None while unanswered, and where nothing was sent), sent
            (the text), delivered, prompt_tokens, completion_tokens.
        most_in_flight: the highest number of requests that were open at once.
    """

    def __init__(
        self,
        *,
        every: dict[str, int] | None = None,
        choose: Callable[[dict[str, Any], int], str | None] | None = None,
        latency: float = 0.0,
        retry_after: str | None = "0",
        slow_seconds: float = 5.0,
        key: str | None = None,
        labels: tuple[str, ...] = ("A", "B"),
        log: Path | None = None,
        events: Path | None = None,
        port: int = 0,
    ) -> None:
        unknown = set(every or {}) - FAULTS
        assert not unknown, f"no such faults: {unknown}"
        self.every, self.choose = dict(every or {}), choose
        self.latency, self.retry_after = latency, retry_after
        self.slow_seconds, self.key, self.labels = slow_seconds, key, labels
        self.counts: Counter[str] = Counter()
        self.log: list[dict[str, Any]] = []
        self.most_in_flight = 0
        self._in_flight = 0
        self._connections = 0
        self._file = log.open("a", encoding="utf-8") if log else None
        self._events = events.open("a", encoding="utf-8") if events else None
        self._port = port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    def __enter__(self) -> FaultServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the fault server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection; a client finds nobody then."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    async def serve(self, announce: bool = False) -> None:
        """Serve until stopped; binds 127.0.0.1 only."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        if announce:
            print(self.url, flush=True)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def stats(self) -> dict[str, Any]:
        """Requests in all, distinct bodies, the highest count of one body, and requests by fault."""
        return {
            "requests": len(self.log),
            "distinct": len(self.counts),
            "most_of_one": max(self.counts.values(), default=0),
            "most_in_flight": self.most_in_flight,
            "faults": dict(Counter(entry["fault"] for entry in self.log if entry["fault"])),
            "counts": dict(self.counts),
            **self.ledger(),
        }

    def ledger(self) -> dict[str, int]:
        """What the server counted: requests, completions delivered whole, and the tokens of these."""
        whole = [entry for entry in self.log if entry["prompt_tokens"] or entry["completion_tokens"]]
        return {
            "requests": len(self.log),
            "completions": len(whole),
            "prompt_tokens": sum(entry["prompt_tokens"] for entry in whole),
            "completion_tokens": sum(entry["completion_tokens"] for entry in whole),
        }

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._connections += 1
        connection = self._connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = head[0].split(" ", 2)
                self._in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self._in_flight)
                try:
                    if method == "GET":
                        text = json.dumps(self.stats() if path == "/stats" else {"data": []})
                        go_on = await self._send(writer, 200, text)
                    else:
                        entry = self._received(path, body, connection)
                        go_on = await self._answer(entry, headers, reader, writer)
                        self._note("answered", entry)
                finally:
                    self._in_flight -= 1
                if not go_on:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the last at its end
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _received(self, path: str, body: bytes, connection: int) -> dict[str, Any]:
        """The new line of the ledger."""
        sha = hashlib.sha256(body).hexdigest()
        self.counts[sha] += 1
        parsed = json.loads(body)
        fault = self._fault(len(self.log) + 1, body.decode(), parsed, self.counts[sha])
        entry = {"sha": sha, "path": path, "fault": fault, "body": parsed, "connection": connection}
        entry |= {"status": None, "sent": "", "delivered": False, "prompt_tokens": 0, "completion_tokens": 0}
        self.log.append(entry)
        entry["number"] = len(self.log)
        if self._file:
            print(sha, file=self._file, flush=True)
        self._note("asked", entry)
        return entry

    def _note(self, event: str, entry: dict[str, Any]) -> None:
        """One line of the file: event, moment (of the clock that all processes share), and which POST it was."""
        if self._events:
            named = {name: entry[name] for name in ("number", "sha", "connection", "delivered")}
            print(json.dumps({"event": event, "at": time.monotonic(), **named}), file=self._events, flush=True)

    async def _answer(
        self,
        entry: dict[str, Any],
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request and say in its entry what was sent; False to close the connection."""
        fault, body = entry["fault"], entry["body"]
        await asyncio.sleep(self.latency + (self.slow_seconds if fault == "slow" else 0.0))
        code, text, extra = self._prepared(entry["path"], body, fault, headers.get("authorization", ""))
        if code == 0:
            writer.transport.abort()
            return False
        entry["status"], entry["sent"] = code, text
        there = not reader.at_eof()
        whole = await self._send(writer, code, text, extra, missing=40 if fault == "short" else 0)
        entry["delivered"] = there and whole and fault != "cut"
        if entry["delivered"] and code == 200 and fault != "malformed":
            entry |= json.loads(text)["usage"]
        return whole

    def _prepared(
        self, path: str, body: dict[str, Any], fault: str | None, said: str
    ) -> tuple[int, str, dict[str, str]]:
        """HTTP status (0: none, break the connection), text and further headers of an answer."""
        if fault == "401" or (self.key is not None and said != f"Bearer {self.key}"):
            return 401, _error(401, f"Incorrect API key provided: {said.removeprefix('Bearer ')}"), {}
        match fault:
            case "drop":
                return 0, "", {}
            case "429":
                extra = {"Retry-After": self.retry_after} if self.retry_after is not None else {}
                return 429, _error(429, f"too many requests from {said}"), extra
            case "500":
                return 500, _error(500, "the server has an internal problem"), {}
            case "400":
                return 400, _error(400, "This model's maximum context length is 8192 tokens"), {}
            case "noschema" if "response_format" in body:
                return 400, _error(400, "response_format of type json_schema is not supported by this model"), {}
            case "404":
                return 404, _error(404, f"The model `{body.get('model')}` does not exist"), {}
            case "malformed":
                return 200, "<html>upstream is restarting</html>", {}
        completion = self._completion(path, body, fault)
        if fault == "echo":
            completion["choices"][0]["message"]["content"] = said
        if fault == "nochoices":
            completion["choices"] = []
        text = json.dumps(completion, ensure_ascii=False)
        return 200, text[: len(text) // 2] if fault == "cut" else text, {}

    def _fault(self, number: int, text: str, body: dict[str, Any], seen: int) -> str | None:
        chosen = self.choose(body, seen) if self.choose else None
        if chosen is not None:
            assert chosen in FAULTS, f"there is no fault {chosen}"
            return chosen
        for name, times in _MARKER.findall(text):
            if name in FAULTS and (not times or seen <= int(times)):
                return str(name)
        return next((name for name, n in self.every.items() if number % n == 0), None)

    async def _send(
        self, writer: asyncio.StreamWriter, code: int, text: str, extra: dict[str, str] | None = None, missing: int = 0
    ) -> bool:
        payload = text.encode()
        lines = [f"HTTP/1.1 {code} .", "Content-Type: application/json", f"Content-Length: {len(payload)}"]
        lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload[: len(payload) - missing])
        await writer.drain()
        return missing == 0

    def _completion(self, path: str, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        if path.endswith("/chat/completions"):
            choice, usage = self._chat(body, fault)
        else:
            choice, usage = self._echo(body)
        return {"id": "x", "created": int(time.time()), "model": body.get("model"), "choices": [choice], "usage": usage}

    def _chat(self, body: dict[str, Any], fault: str | None) -> tuple[dict[str, Any], dict[str, int]]:
        engine = ScriptedEngine("server", ScriptedConfig(model=str(body.get("model"))))
        messages = tuple(body["messages"])
        prefix = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        request = Request(
            "generate",
            messages=messages[:-1] if prefix else messages,
            temperature=body.get("temperature", 1.0),
            max_tokens=body.get("max_tokens", body.get("max_completion_tokens", 512)),
            stop=tuple(body.get("stop", ())),
            seed=body.get("seed"),
            schema=None if fault == "prose" else schema,
            prefix=prefix,
        )
        reply = engine.answer(request)
        message: dict[str, Any] = {"role": "assistant", "content": "" if fault == "empty" else reply.text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
        if fault == "refusal":
            message |= {"content": None, "refusal": "I cannot help with that."}
        if fault == "filter":
            message["content"], choice["finish_reason"] = None, "content_filter"
        if body.get("logprobs") and fault != "nologprobs":
            choice["logprobs"] = {"content": [{"token": "A", "top_logprobs": self._next_token(engine, request)}]}
        return choice, {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}

    def _next_token(self, engine: ScriptedEngine, request: Request) -> list[dict[str, Any]]:
        """The labels with and without a space, and one token that is neither."""
        asked = Request("label_probs", request.messages, labels=self.labels, prefix=request.prefix)
        reply = engine.answer(asked)
        assert reply.mass is not None
        shares = [("The", 1 - reply.mass)]
        for label, value in zip(self.labels, reply.values, strict=True):
            shares += [(label, 0.75 * value * reply.mass), (f" {label}", 0.25 * value * reply.mass)]
        return [{"token": token, "logprob": math.log(share)} for token, share in shares]

    def _echo(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """Log-probabilities of a prompt of token ids, each from the ids before it, and of one more token."""
        ids = body["prompt"]
        values: list[float | None] = [None]
        for end in range(2, len(ids) + 2):
            digest = hashlib.sha256(json.dumps(ids[:end]).encode()).digest()
            values.append(-0.1 - digest[0] / 32)
        logprobs = {"tokens": [str(one) for one in [*ids, 0]], "token_logprobs": values}
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs if body.get("echo") else None}
        return choice, {"prompt_tokens": len(ids), "completion_tokens": 1}


def _error(code: int, message: str) -> str:
    return json.dumps({"error": {"message": message, "code": code}})


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--log", type=Path, help="one line for each request: the SHA-256 of its body")
    parser.add_argument("--events", type=Path, help="JSON lines: each request as it comes and as it is answered")
    parser.add_argument("--every", action="append", default=[], metavar="FAULT=N")
    options = parser.parse_args()
    every = {name: int(n) for name, _, n in (text.partition("=") for text in options.every)}
    server = FaultServer(
        every=every, latency=options.latency, log=options.log, events=options.events, port=options.port
    )
    asyncio.run(server.serve(announce=True))


if __name__ == "__main__":
    main()
