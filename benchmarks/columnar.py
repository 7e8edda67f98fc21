"""Consensus, pairing and export over many annotations, beside the same in plain polars and in DuckDB.

    python benchmarks/columnar.py [--million 1 10] [--work build/columnar] [--out benchmarks/results/columnar.md]

Makes datasets of random scores (seeded): four responses a prompt, each scored from 1 to 10 by five annotators. Each
contender runs in a process of its own, reads the same Parquet parts, takes the mean score of each response, pairs the
best with the worst of each prompt (none where they tie), and writes both texts to Parquet; number of pairs and sums of
scores have to agree. prefdata does more: it takes what is live, writes the consensus and the preferences with their
ids, provenance and progress, and commits each.

With `--million N` the dataset is made twice, with one shard and with N: memory must not grow with the rows once the
shards do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

STEP = "import:bench@0000000000000000"
ANNOTATORS, RESPONSES = 5, 4
AT_ONCE = 50_000
"""Prompts in a commit."""

PIPELINE = """
steps:
  - aggregate.mean: {}
  - pair: {}
  - export: {format: trl-pairs, path: pairs.parquet}
"""


def hashes(rng: np.random.Generator, count: int) -> pl.Series:
    """Random ids, 32 hexadecimal characters each."""
    offsets = pa.py_buffer(np.arange(0, 32 * count + 1, 32, dtype=np.int32).tobytes())
    text = pa.py_buffer(rng.bytes(16 * count).hex().encode())
    made = pl.from_arrow(pa.StringArray.from_buffers(count, offsets, text))
    assert isinstance(made, pl.Series)
    return made


def build(folder: Path, annotations: int, shards: int, seed: int = 0) -> None:
    """Make the dataset, in commits of some ten thousand prompts."""
    from prefdata.dataset import Dataset, StepRecord

    dataset = Dataset.create(folder, shards=shards)
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = pl.Series(["".join(rng.choice(letters, 6)) + " " + "".join(rng.choice(letters, 5)) for _ in range(4096)])

    def texts(count: int, length: int) -> pl.Series:
        drawn = [words.gather(rng.integers(0, 4096, count)).alias(str(place)) for place in range(length)]
        return pl.DataFrame(drawn).select(pl.concat_str(pl.all(), separator=" ")).to_series()

    prompts_in_all = annotations // (ANNOTATORS * RESPONSES)
    for start in range(0, prompts_in_all, AT_ONCE):
        count = min(AT_ONCE, prompts_in_all - start)
        groups, responses = hashes(rng, count), hashes(rng, RESPONSES * count)
        turn = pl.struct(pl.lit("user").alias("role"), pl.col("content"))
        asked = pl.DataFrame({"content": texts(count, 6)}).select(messages=pl.concat_list(turn)).to_series()
        prompt = {"prompt_id": groups, "group_id": groups, "step": STEP, "messages": asked, "source": "bench"}
        owner = groups.gather(np.repeat(np.arange(count), RESPONSES))
        written = {
            "response_id": responses,
            "group_id": owner,
            "step": STEP,
            "prompt_id": owner,
            "text": texts(RESPONSES * count, 16),
            "model": "m",
            "sample_index": np.tile(np.arange(RESPONSES, dtype=np.int32), count),
            "finish_reason": "stop",
            "params": "{}",
        }
        target = np.tile(np.arange(RESPONSES * count), ANNOTATORS)
        who = pl.Series([f"judge:{letter}" for letter in "abcde"[:ANNOTATORS]])
        rows = len(target)
        said = {
            "annotation_id": hashes(rng, rows),
            "group_id": owner.gather(target),
            "step": STEP,
            "prompt_id": owner.gather(target),
            "target": "response",
            "target_ids": responses.gather(target).reshape((-1, 1)).arr.to_list(),
            "protocol": "score",
            "scores": pl.Series(rng.integers(1, 11, rows).astype(float)).reshape((-1, 1)).arr.to_list(),
            "annotator": who.gather(np.repeat(np.arange(ANNOTATORS), RESPONSES * count)),
            "aspect": "overall",
            "source": "judge",
            "status": "ok",
            "replicate": pl.Series(np.zeros(rows, np.int32)),
            "revision": pl.Series(np.ones(rows, np.int32)),
        }
        steps = [] if start else [StepRecord(STEP, "import:bench", "import")]
        frames = {
            "prompts": pl.DataFrame(prompt),
            "responses": pl.DataFrame(written),
            "annotations": pl.DataFrame(said),
        }
        dataset.commit(frames, "random scores", steps=steps)


def with_prefdata(folder: Path, out: Path) -> dict[str, float]:
    """As a user would: a pipeline of three steps."""
    from prefdata.pipeline.run import run
    from prefdata.pipeline.spec import parse

    done = run(parse(PIPELINE, file="bench.yaml", folder=folder, name="bench"), folder)
    (folder / "exports" / "pairs.parquet").rename(out)
    return {step.name: step.seconds for step in done.steps}


def with_polars(folder: Path, out: Path) -> dict[str, float]:
    """One lazy query, streamed into the file."""
    parts = {
        table: list((folder / "parts" / table).glob("*.parquet")) for table in ("prompts", "responses", "annotations")
    }
    means = (
        pl.scan_parquet(parts["annotations"])
        .select("prompt_id", pl.col("target_ids").list.first().alias("response_id"), pl.col("scores").list.first())
        .group_by("prompt_id", "response_id")
        .agg(pl.col("scores").mean())
        .group_by("prompt_id")
        .agg(
            *(
                pl.col("response_id", "scores").sort_by("scores", "response_id").get(place).name.suffix(f"_{side}")
                for side, place in (("rejected", 0), ("chosen", -1))
            )
        )
        .filter(pl.col("scores_chosen") > pl.col("scores_rejected"))
    )
    prompts = pl.scan_parquet(parts["prompts"]).select(
        "prompt_id", prompt=pl.col("messages").list.last().struct.field("content")
    )
    texts = pl.scan_parquet(parts["responses"]).select("response_id", "text")
    pairs = means.join(prompts, on="prompt_id")
    for side in ("chosen", "rejected"):
        pairs = pairs.join(texts.rename({"text": side}), left_on=f"response_id_{side}", right_on="response_id")
    named = pairs.select("prompt", "chosen", "rejected", score_chosen="scores_chosen", score_rejected="scores_rejected")
    named.sink_parquet(out, compression="zstd")
    return {}


def with_duckdb(folder: Path, out: Path) -> dict[str, float]:
    """One statement."""
    import duckdb

    def parts(table: str) -> str:
        return f"read_parquet('{folder}/parts/{table}/*.parquet', union_by_name=true)"

    query = f"""
        copy (
            with means as (
                select prompt_id, target_ids[1] as response_id, avg(scores[1]) as score
                from {parts("annotations")} where source = 'judge' group by all
            ), pairs as (
                select prompt_id, max(score) as score_chosen, min(score) as score_rejected,
                       arg_max(response_id, score) as best, arg_min(response_id, score) as worst
                from means group by prompt_id having max(score) > min(score)
            )
            select p.messages[-1].content as prompt, c.text as chosen, r.text as rejected, score_chosen, score_rejected
            from pairs join {parts("prompts")} p using (prompt_id)
            join {parts("responses")} c on c.response_id = best join {parts("responses")} r on r.response_id = worst
        ) to '{out}' (format parquet, compression zstd)
    """
    with duckdb.connect(":memory:") as connection:
        connection.sql("set preserve_insertion_order = false")
        connection.sql(query)
    return {}


CONTENDERS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "prefdata": with_prefdata,
    "polars": with_polars,
    "duckdb": with_duckdb,
}


def measured(contender: str, folder: Path, out: Path) -> dict[str, Any]:
    """Run one contender in this process; seconds, peak memory, and what came out."""
    started, before = time.perf_counter(), time.process_time()
    steps = CONTENDERS[contender](folder, out)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    made = pl.scan_parquet(out).select(pl.len(), pl.col("score_chosen", "score_rejected").sum()).collect().row(0)
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "steps": steps, "made": made}


def apart(*arguments: str) -> dict[str, Any]:
    """Run this script with other arguments in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def compare(million: float, work: Path) -> list[list[str]]:
    """The rows of the table for one size."""
    rows = []
    for shards in sorted({1, max(1, round(million))}):
        folder = work / f"{million:g}m-{shards}"
        shutil.rmtree(folder, ignore_errors=True)
        apart("--build", str(folder), str(round(million * 1e6)), str(shards))
        # prefdata last: its consensus would be among the annotations that the others read.
        others = ["polars", "duckdb"] if shards == 1 else []
        found = {
            name: apart("--run", name, str(folder), str(work / f"{name}.parquet")) for name in [*others, "prefdata"]
        }
        first = found["prefdata"]["made"]
        for name, one in found.items():
            same = one["made"][0] == first[0] and all(
                math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one["made"][1:], first[1:], strict=True)
            )
            assert same, f"{name} made {one['made']}, prefdata {first}"
            steps = ", ".join(f"{seconds:.1f}" for seconds in one["steps"].values())
            rows.append(
                [
                    f"{million:g} M",
                    str(shards) if name == "prefdata" else "",
                    name,
                    f"{one['seconds']:.1f}" + (f" ({steps})" if steps else ""),
                    f"{one['cpu']:.1f}",
                    f"{one['peak']:,.0f}",
                    f"{one['made'][0]:,}",
                ]
            )
            print(rows[-1], flush=True)
        shutil.rmtree(folder)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--work", type=Path, default=Path("build/columnar"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/columnar.md"))
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        folder, annotations, shards = options.build
        build(Path(folder), int(annotations), int(shards))
        print("{}")
    elif options.run:
        contender, source, out = options.run
        print(json.dumps(measured(contender, Path(source), Path(out))))
    else:
        options.work.mkdir(parents=True, exist_ok=True)
        load = os.getloadavg()[0]
        rows = [row for million in options.million for row in compare(million, options.work.resolve())]
        options.out.write_text(page(rows, options.million, load), encoding="utf-8")


def page(rows: list[list[str]], sizes: list[float], load: float) -> str:
    """The results as Markdown."""
    head = ["annotations", "shards", "by", "seconds (consensus, pairs, export)", "CPU seconds", "peak RSS, MB", "pairs"]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
    command = f"python benchmarks/columnar.py --million {' '.join(f'{size:g}' for size in sizes)}"
    where = f"{os.cpu_count()} shared cores (load {load:.1f} at the start)"
    return f"""# Consensus, pairs and export, by columns

`{command}`, {where}, Python {platform.python_version()}, polars {pl.__version__}.
Each contender in a process of its own; imports count in memory and not in seconds.

{table}

Four responses a prompt, five scores from 1 to 10 each, from a seed. All make the same pairs (their number and the sums
of scores are compared). The others read Parquet, compute and write Parquet; prefdata also asks the log what is live,
writes consensus and preferences with ids that hash what they rest on, notes progress for each prompt, and commits: the
next run does nothing, and an edit runs what it touches.
"""


if __name__ == "__main__":
    main()
