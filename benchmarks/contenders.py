"""The clients that `client_overhead.py` and `client_load.py` hold against each other, each in a process of its own.

    python benchmarks/contenders.py NAME --url http://127.0.0.1:PORT/v1 --in-flight 64 --requests 3000

Each asks the same questions of the same model in the same words: judge's questions of about 1,800 characters, of which
no two are equal. The same loop keeps `--in-flight` of them under way for every contender. One question before the
clock starts takes imports and the first connection out of the figures; the other connections are in them. Prints one
line of JSON: `Run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from loopback import Loopback, Stats, answer_to

Ask = Callable[[int], Awaitable[str | None]]
Close = Callable[[], Awaitable[None]]

_MODEL = "loopback"
_PATIENCE = 1000
"""How often a contender without a rule of its own asks again after a 429."""

_FILLER = (
    "The tide is raised by the pull of the moon, which is stronger on the near side of the earth than on the far side, "
    "so that the sea stands high on both; the sun does the same, at a little less than half the strength. "
)


@dataclass(frozen=True)
class Run:
    """What one contender did. CPU and peak memory are of its process alone; `server` is what the server saw."""

    name: str
    in_flight: int
    requests: int
    cpu: float
    wall: float
    peak_mb: float
    answered: int
    wrong: int
    server: Stats


def turn(number: int) -> dict[str, str]:
    """The message of a question. Equal numbers, equal questions."""
    text = (
        f"Compare two responses, A and B, to the prompt of case {number:06d}.\n\n"
        f"Prompt:\n[{number:08x}]\n{_FILLER}\n[{number:08x}]\n\n"
        f"Response A:\n[{number:08x}]\n{_FILLER * 3}\n[{number:08x}]\n\n"
        f"Response B:\n[{number:08x}]\n{_FILLER * 3}\n[{number:08x}]\n\n"
        'Answer with one JSON object and nothing else:\n{"verdict": "A" or "B"}'
    )
    return {"role": "user", "content": text}


def _body(number: int) -> dict[str, Any]:
    return {"model": _MODEL, "messages": [turn(number)], "max_tokens": 64, "temperature": 0.0, "seed": number}


async def bare(url: str, in_flight: int) -> tuple[Ask, Close]:
    """aiohttp and orjson, and nothing else: the floor. After a 429 it waits as long as it is told, and asks again."""
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    headers = {"Content-Type": "application/json"}

    async def ask(number: int) -> str | None:
        for _ in range(_PATIENCE):
            async with session.post(
                url + "/chat/completions", data=orjson.dumps(_body(number)), headers=headers
            ) as got:
                read = await got.read()
                if got.status == 200:
                    text: str = orjson.loads(read)["choices"][0]["message"]["content"]
                    return text
                wait = float(got.headers.get("Retry-After", 1))
            await asyncio.sleep(wait)
        return None

    return ask, session.close


async def sdk(url: str, in_flight: int) -> tuple[Ask, Close]:
    """The openai package as its documentation shows it."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=_PATIENCE)

    async def ask(number: int) -> str | None:
        completion: Any = await client.chat.completions.create(**_body(number))
        text: str | None = completion.choices[0].message.content
        return text

    return ask, client.close


def _engine(url: str, in_flight: int) -> Any:
    from prefdata.engines import engine_from_config

    config = {"kind": "openai", "model": _MODEL, "base_url": url, "max_concurrency": in_flight}
    return engine_from_config("judge", config, "the benchmark")


def _request(number: int) -> Any:
    from prefdata.engines import Request
    from prefdata.schema import message

    said = turn(number)
    return Request("generate", (message(said["role"], said["content"]),), max_tokens=64, seed=number)


async def engine(url: str, in_flight: int) -> tuple[Ask, Close]:
    """Our engine alone: the transport, without retries, cache, limits or the record of the call."""
    made = _engine(url, in_flight)

    async def ask(number: int) -> str | None:
        reply = await made.ask(_request(number))
        text: str | None = reply.text
        return text

    return ask, made.close


async def client(url: str, in_flight: int, cached: bool = True) -> tuple[Ask, Close]:
    """Our engine behind our client, as a pipeline has it: request cache on disk, limits, retries, record of calls."""
    from prefdata.engines import Client, RequestCache

    scratch = tempfile.TemporaryDirectory()
    cache = RequestCache(Path(scratch.name)) if cached else None
    asker = Client({"judge": _engine(url, in_flight)}, cache, payer="benchmark")

    async def ask(number: int) -> str | None:
        answer = await asker.ask("judge", _request(number), step="benchmark")
        return answer.reply.text if answer.reply else None

    async def close() -> None:
        await asker.close()
        scratch.cleanup()

    return ask, close


async def uncached(url: str, in_flight: int) -> tuple[Ask, Close]:
    """Our client without the request cache: what the cache costs is the difference."""
    return await client(url, in_flight, cached=False)


CONTENDERS = {
    "bare": (bare, "aiohttp + orjson, bare"),
    "barrier": (bare, "aiohttp + orjson, batch by batch"),
    "engine": (engine, "prefdata: engine alone"),
    "uncached": (uncached, "prefdata: engine + client, no request cache"),
    "client": (client, "prefdata: engine + client + request cache"),
    "openai": (sdk, "openai SDK (AsyncOpenAI + semaphore)"),
}
"""Every contender: how it is made, and its name in the tables."""


async def _window(ask: Ask, requests: int, in_flight: int) -> list[str | None]:
    """So many askers that each take the next question: what a semaphore does, at less cost, and equal for all."""
    numbers = iter(range(1, requests + 1))
    answers: dict[int, str | None] = {}

    async def asker() -> None:
        for number in numbers:
            answers[number] = await ask(number)

    await asyncio.gather(*(asker() for _ in range(in_flight)))
    return [answers[number] for number in range(1, requests + 1)]


async def _batches(ask: Ask, requests: int, in_flight: int) -> list[str | None]:
    """A batch is begun when the last answer of the one before it is there."""
    answers: list[str | None] = []
    for start in range(1, requests + 1, in_flight):
        answers += await asyncio.gather(*(ask(n) for n in range(start, min(start + in_flight, requests + 1))))
    return answers


async def _measure(name: str, url: str, in_flight: int, requests: int) -> Run:
    ask, close = await CONTENDERS[name][0](url, in_flight)
    server = Loopback(url)
    assert await ask(0) == answer_to([turn(0)])
    server.reset()
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    answers = await (_batches if name == "barrier" else _window)(ask, requests, in_flight)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    stats = server.stats()
    await close()
    wrong = sum(answer is not None and answer != answer_to([turn(n)]) for n, answer in enumerate(answers, start=1))
    return Run(
        name=name,
        in_flight=in_flight,
        requests=requests,
        cpu=after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
        wall=wall,
        peak_mb=after.ru_maxrss / 1024,
        answered=sum(answer is not None for answer in answers),
        wrong=wrong,
        server=stats,
    )


def contend(name: str, server: Loopback, *, in_flight: int, requests: int) -> Run:
    """Run one contender in a fresh process.

    Raises:
        RuntimeError: it failed, or got a wrong answer.
    """
    told = ["--url", server.url, "--in-flight", str(in_flight), "--requests", str(requests)]
    here = str(Path(__file__).resolve())
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, here, name, *told], capture_output=True, text=True, timeout=600, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    fields = json.loads(done.stdout.splitlines()[-1])
    run = Run(**{**fields, "server": Stats(**fields["server"])})
    if run.wrong:
        raise RuntimeError(f"{name}: {run.wrong} answers belong to other questions")
    return run


def surroundings() -> str:
    """What the figures were taken on, but for the load."""
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "orjson", "openai"))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} shared cores, Python {sys.version.split()[0]}, {packages}, {time.strftime('%B %Y')}"


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    run = asyncio.run(_measure(options.name, options.url, options.in_flight, options.requests))
    print(json.dumps(asdict(run)))


if __name__ == "__main__":
    main()
