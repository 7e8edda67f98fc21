"""A program for a Python that has vLLM: asks the engine `vllm` what its arguments say, and writes the replies as JSON.

    PYTHONPATH=. /path/to/vllm/bin/python tests/engines/real_vllm.py FOLDER REQUESTS.json REPLIES.json

REQUESTS.json holds rounds of requests; those of a round are asked at the same time. Used by test_engines_vllm.py and by
benchmarks/engines.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request

FIELDS = {"dtype": "float32", "max_model_len": 1024, "max_num_seqs": 16, "enforce_eager": True}


def request(given: dict[str, Any]) -> Request:
    """A request from JSON."""
    lists = {name: tuple(given[name]) for name in ("messages", "stop", "texts", "labels") if name in given}
    return Request(**{**given, **lists})


async def work(folder: str, rounds: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The replies to each round, and its seconds; the first includes the start."""
    engine = engine_from_config("vllm", {"kind": "vllm", "model": folder, **FIELDS}, "real_vllm.py")
    made: dict[str, Any] = {"identity": engine.identity, "started": "vllm" in sys.modules, "rounds": [], "seconds": []}
    for asked in rounds:
        begun = time.perf_counter()
        replies = await asyncio.gather(*(engine.ask(request(one)) for one in asked), return_exceptions=True)
        made["seconds"].append(time.perf_counter() - begun)
        made["rounds"].append(
            [str(one) if isinstance(one, BaseException) else json.loads(one.to_json()) for one in replies]
        )
    await engine.close()
    return made


if __name__ == "__main__":  # vLLM starts processes, which import this module again
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")
    answers = asyncio.run(work(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
    Path(sys.argv[3]).write_text(json.dumps(answers), encoding="utf-8")
