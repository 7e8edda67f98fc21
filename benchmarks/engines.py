"""Four ways to run one small model, side by side; and a line of steps against three servers.

    python benchmarks/engines.py --vllm /path/to/venv/bin/python [--rounds 2] [--requests 16] [--no-line]

Each engine has a process of its own and is asked by the same program, all requests at once: texts of at most 32
tokens; texts whose lengths differ (8 to 64 tokens); texts scored; next tokens. Told are requests a second, tokens a
second, and their ratios to the kind `transformers`. The first round warms up and is left out. Without --vllm its rows
are missing. Writes benchmarks/results/engines.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "engines.md"
MODEL = "smollm2-135m-instruct"
sys.path.insert(0, str(ROOT / "tests" / "engines"))
sys.path.insert(0, str(ROOT / "tests"))
TOPICS = "the sky, the sea, bread, chess, trains, rain, tea, maps, bees, glass, salt, wind, paper, clocks, moss, iron"


@dataclass(frozen=True)
class Contender:
    """An engine: its name in the table, its configuration, its Python, and what it cannot be asked."""

    name: str
    config: dict[str, Any]
    python: str = sys.executable
    cannot: tuple[str, ...] = ()


def workloads(count: int) -> dict[str, list[dict[str, Any]]]:
    """Requests as JSON, by workload."""
    topics = [topic.strip() for topic in TOPICS.split(",")][:count]
    turns = [[{"role": "user", "content": f"Tell me, in some detail, about {topic}."}] for topic in topics]
    drawn = {"capability": "generate", "temperature": 0.8}
    answer = "It has been with us for longer than we can tell, and there is more to it than most people think. "
    return {
        "equal": [{**drawn, "messages": turn, "max_tokens": 32, "seed": n} for n, turn in enumerate(turns)],
        "unequal": [
            {**drawn, "messages": turn, "max_tokens": (8, 16, 32, 64)[n % 4], "seed": n} for n, turn in enumerate(turns)
        ],
        "scored": [
            {"capability": "logprobs", "messages": turn, "continuation": answer * (1 + n % 3)}
            for n, turn in enumerate(turns)
        ],
        "labels": [
            {"capability": "label_probs", "messages": turn, "labels": ["A", "B"], "prefix": "The better one is"}
            for turn in turns
        ],
    }


async def asked(config: dict[str, Any], rounds: int, count: int, cannot: list[str]) -> dict[str, Any]:
    """Seconds and tokens of every workload and round; in the child."""
    from real_vllm import request

    from prefdata.engines import engine_from_config

    engine = engine_from_config("one", config, "benchmark")
    begun = time.perf_counter()
    await engine.ask(request(workloads(1)["equal"][0] | {"max_tokens": 1}))
    found: dict[str, Any] = {"start": time.perf_counter() - begun, "loads": []}
    for name, requests in workloads(count).items():
        if name in cannot:
            continue
        for number in range(rounds + 1):
            # Another tag draws anew, so that no prefix of an answer is known; prompts stay known, as they do in a run.
            parsed = [request(one | {"tag": str(number)}) for one in requests]
            found["loads"].append(os.getloadavg()[0])
            begun = time.perf_counter()
            replies = await asyncio.gather(*(engine.ask(one) for one in parsed))
            seconds = time.perf_counter() - begun
            if number:
                tokens = sum(one.completion_tokens for one in replies)
                found.setdefault(name, []).append([len(replies) / seconds, tokens / seconds])
    await engine.close()
    return found


def measured(one: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Ask one engine, in a process of its own."""
    threads, bound = str(options.threads), f"0-{options.threads - 1}"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": bound,
        "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        child = {
            "config": one.config,
            "rounds": options.rounds,
            "count": options.requests,
            "cannot": one.cannot,
            "out": str(out),
        }
        command = [one.python, str(Path(__file__).resolve()), "--child", json.dumps(child)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{one.name} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(out.read_text())
    print(one.name, {name: value for name, value in found.items() if name != "loads"}, flush=True)
    return found


def table(found: dict[str, dict[str, Any]], count: int) -> list[str]:
    """The engines in rows, the workloads in columns."""
    lines = [
        f"| engine | first answer, s | {count} x 32 tokens: requests/s | tokens/s | {count} unequal: requests/s | "
        f"tokens/s | {count} scored: requests/s | {count} next tokens: requests/s | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base = found["transformers, in process"]

    def cell(row: dict[str, Any], name: str, place: int) -> str:
        if name not in row:
            return "-"
        value, ours = (statistics.median(one[place] for one in each[name]) for each in (row, base))
        return f"{value:.3g} ({value / ours:.2f}x)"

    for name, row in found.items():
        cells = [cell(row, load, place) for load in ("equal", "unequal") for place in (0, 1)]
        low, high = min(row["loads"]), max(row["loads"])
        cells += [cell(row, "scored", 0), cell(row, "labels", 0), f"{low:.1f}-{high:.1f}"]
        lines.append(f"| {name} | {row['start']:.1f} | {' | '.join(cells)} |")
    return lines


def lines_of_steps(servers: dict[str, tuple[str, str, bool]]) -> list[str]:
    """What the same steps left on each server."""
    from real_servers import line

    made = [
        "| server | texts, different | score | compare | label probabilities | log-probabilities | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (url, model, scored) in servers.items():
        with tempfile.TemporaryDirectory() as folder:
            seen = line(Path(folder), url, model, scored=scored, prompts=2, timeout=900.0)
        steps = ("judge.score", "judge.compare", "judge.label_probs", "judge.likelihood")
        said = [", ".join(f"{n} {s}" for s, n in sorted(seen.statuses.get(step, {}).items())) or "-" for step in steps]
        cells = [f"{len(seen.responses)}, {len(set(seen.responses))}", *said, f"{seen.seconds:.0f}"]
        made.append(f"| {name} | {' | '.join(cells)} |")
        print(made[-1], flush=True)
    return made


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", help="the Python of an environment with vLLM")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=16, help="of each workload, at most 16")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each engine")
    parser.add_argument("--no-line", action="store_true", help="leave the line of steps out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child = json.loads(options.child)
        found = asyncio.run(asked(child["config"], child["rounds"], child["count"], child["cannot"]))
        Path(child["out"]).write_text(json.dumps(found))
        return
    from fault_server import FaultServer
    from real_servers import vllm_server

    from prefdata.engines.models import model_folder
    from prefdata.engines.serving import gguf_of, serve

    found, steps = {}, []
    one_of = {"kind": "transformers", "model": MODEL, "max_concurrency": 32}
    found["transformers, in process"] = measured(Contender("transformers", one_of), options)
    openai = {"kind": "openai", "model": MODEL, "max_concurrency": 32, "adaptive": False, "timeout": 900.0}
    with ExitStack() as stack:
        file, name = gguf_of(MODEL)
        llama = serve(file, name, port=0, parallel=8, context=1024, threads=options.threads)
        stack.callback(llama.close)
        there = Contender("llama.cpp", {**openai, "base_url": llama.url}, cannot=("scored",))
        found["prefdata serve (llama.cpp, Q4_1)"] = measured(there, options)
        if not options.no_line:
            flaky = stack.enter_context(FaultServer(every={"429": 5, "500": 7, "drop": 11, "malformed": 13}))
            steps = lines_of_steps(
                {
                    "the server that fails on purpose": (flaky.url, "m", False),
                    "prefdata serve (llama.cpp)": (llama.url, llama.model, False),
                }
            )
        write(found, steps, options)
    if options.vllm:
        fields = {"dtype": "float32", "max_model_len": 1024, "max_num_seqs": 16, "enforce_eager": True}
        inside = Contender("vllm", {"kind": "vllm", "model": MODEL, **fields}, options.vllm)
        found["vLLM, in process"] = measured(inside, options)
        write(found, steps, options)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            with vllm_server(
                options.vllm, model_folder(MODEL), MODEL, log, "--enforce-eager", threads=options.threads
            ) as url:
                scoring = {**openai, "base_url": url, "prompt_logprobs": True, "tokenizer": MODEL}
                found["vLLM, served"] = measured(Contender("vllm served", scoring), options)
                if not options.no_line:
                    steps += lines_of_steps({"vLLM, served": (url, MODEL, True)})[2:]
        write(found, steps, options)
    print(RESULTS.read_text(encoding="utf-8"))


def write(found: dict[str, dict[str, Any]], steps: list[str], options: argparse.Namespace) -> None:
    """The page of results."""
    said = {name: getattr(options, name) for name in ("rounds", "requests", "threads")}
    command = " ".join(["python benchmarks/engines.py", *(f"--{name} {value}" for name, value in said.items())])
    command += " --vllm PYTHON" if options.vllm else ""
    page = [
        "# Engines side by side\n",
        f"`{command}`: SmolLM2-135M-Instruct, {os.cpu_count()} shared cores without a GPU, Python "
        f"{platform.python_version()}, {time.strftime('%B %Y')}. Medians of {options.rounds} round(s), one engine "
        "after the other; in brackets over the first row. The last column is how many processes wanted the cores "
        "meanwhile (its own among them): with others beside, no figure is that of an idle machine; only large ratios "
        "say something.\n",
        *table(found, options.requests),
        "",
        "float32 but for llama.cpp, whose weights have four bits: its texts are others. llama.cpp and vLLM keep "
        "the prompts of the round that warms up, and do not read them again; transformers does. The first "
        "answer takes the start of the engine with it, but for servers, which run already. llama.cpp gives no "
        "log-probabilities of a given text; the engine says so.\n",
        *(["## The same steps against three servers\n", *_about(), *steps, ""] if steps else []),
    ]
    RESULTS.write_text("\n".join(page), encoding="utf-8")


def _about() -> list[str]:
    return [
        "2 prompts, 2 responses each; what became of the annotations, by status. `ok` says that they "
        "could be read, not that they are right: the small model is no judge. The first server answers every 5th "
        "request with 429, every 7th with 500, breaks every 11th connection, and sends no JSON every 13th time.\n"
    ]


if __name__ == "__main__":
    main()
