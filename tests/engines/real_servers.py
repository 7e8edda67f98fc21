"""One short line of steps against a server: sampling, two LLM judges, label probabilities and log-probabilities."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from prefdata.dataset import Dataset
from prefdata.pipeline.run import run

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Seen:
    """What a run left.

    Attributes:
        responses: texts, in order of their ids.
        statuses: of annotations, by step and status.
        values: scores of what was ok, by step.
        calls: paid calls, by step.
        seconds: of the whole run.
    """

    responses: list[str]
    statuses: dict[str, Counter[str]]
    values: dict[str, list[list[float]]]
    calls: Counter[str]
    seconds: float


def line(
    folder: Path, url: str, model: str, *, scored: bool = False, prompts: int = 3, tokens: int = 64, **engine: object
) -> Seen:
    """Run the steps, as `prefdata run` does, into a new dataset.

    Args:
        folder: for the pipeline and the dataset.
        url: the server's.
        model: as the server calls it.
        scored: whether log-probabilities of given texts are asked for too.
        prompts: how many.
        tokens: that a judgement may have; the small model seldom ends one by itself.
        engine: further keys of the engine.
    """
    judge = {"kind": "openai", "model": model, "base_url": url, "max_concurrency": 8, **engine}
    if scored:
        judge |= {"prompt_logprobs": True, "tokenizer": MODEL}
    steps = [
        {"ingest": {"format": "prompts", "path": "sample:prompts.jsonl", "limit": prompts}},
        {"sample": {"engine": "judge", "n": 2, "temperature": 0.9, "max_tokens": 24}},
        {"judge.score": {"engine": "judge", "card": "helpfulness", "max_tokens": tokens}},
        {"judge.compare": {"engine": "judge", "card": "helpfulness", "max_tokens": tokens}},
        {"judge.label_probs": {"engine": "judge", "card": "helpfulness"}},
        *([{"judge.likelihood": {"engine": "judge"}}] if scored else []),
    ]
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump({"engines": {"judge": judge}, "steps": steps}, sort_keys=False))
    begun = time.perf_counter()
    run(path, folder / "data")
    seconds = time.perf_counter() - begun
    dataset = Dataset(folder / "data")
    live = dataset.view()
    made = live["responses"].sort("response_id").collect()
    statuses: dict[str, Counter[str]] = {}
    values: dict[str, list[list[float]]] = {}
    for row in live["annotations"].collect().to_dicts():
        name = row["step"].split("@")[0]
        statuses.setdefault(name, Counter())[row["status"]] += 1
        if row["status"] == "ok":
            values.setdefault(name, []).append(row["scores"])
    calls = Counter(row["step"].split("@")[0] for row in dataset.rows("calls").collect().to_dicts())
    return Seen(made["text"].to_list(), statuses, values, calls, seconds)


@contextmanager
def vllm_server(
    python: str, model: Path, name: str, log: Path, *options: str, threads: int | None = None
) -> Iterator[str]:
    """vLLM's own server, in a process of its own; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", name]
    command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "16", "--host", "127.0.0.1"]
    threads = threads or os.cpu_count() or 1
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}", "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    with log.open("w") as said:
        server = subprocess.Popen([*command, "--port", str(port), *options], stdout=said, stderr=said, env=environment)
        try:
            until = time.monotonic() + 400
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
                time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
