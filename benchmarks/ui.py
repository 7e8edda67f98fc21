"""How fast the labelling application is on a large dataset, beside the plainest thing that does the same.

    python benchmarks/ui.py --folder FOLDER [--prompts 200000] [--rounds 5] [--no-start]

Makes, once, a dataset of prompts with four responses each, annotations and drops in FOLDER/ds-N, and prints Markdown
tables: the start of `prefdata ui` beside the start of a Gradio page with one line of text (both from the process's
start to the first page that is served); how long a person waits for the next task and for the answer to a label; and
searches of the explore page beside a DuckDB query over the Parquet parts that asks for the same and knows no drops,
no revisions and no masks. What is compared is measured in turns, in the same run; medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from prefdata.dataset import Dataset
from prefdata.schema import make_id

RESPONSES = 4
CHUNK = 20_000
ALLOWED = 0.1
"""Seconds that a search may take beside three times the bare query."""

BARE_PAGE = """
import os
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
with gr.Blocks() as page:
    gr.Markdown("one line")
page.launch(server_name="127.0.0.1", server_port=int(os.environ["PORT"]), quiet=True)
"""


def build(folder: Path, prompts: int) -> Dataset:
    """The dataset, made where it is not there: five annotations a prompt, a fifth of the prompts lose a response."""
    if (folder / "done").exists():
        return Dataset(folder / "ds")
    began = time.perf_counter()
    dataset, rng = Dataset.create(folder / "ds"), np.random.default_rng(0)
    words = [f"word{n}" for n in range(5000)] + ["harbour", "lighthouse"]
    sentences = [" ".join(words[k] for k in rng.integers(0, len(words), 12)) + "." for _ in range(20_000)]
    for start in range(0, prompts, CHUNK):
        rows = chunk(start, min(CHUNK, prompts - start), sentences, rng)
        dataset.add_import(rows, source="bench", fields={"start": start})
    lost = [make_id("response", make_id("prompt", n), 3) for n in range(0, prompts, 5)]
    dataset.drop("responses", lost, reason="too short")
    (folder / "done").touch()
    print(f"(the dataset was made in {time.perf_counter() - began:.0f} s)", file=sys.stderr)
    return dataset


def chunk(start: int, count: int, sentences: list[str], rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Some prompts, with all that belongs to them."""

    def text(length: int) -> str:
        return " ".join(sentences[k] for k in rng.integers(0, len(sentences), length))

    groups = [make_id("prompt", start + n) for n in range(count)]
    owner = [group for group in groups for _ in range(RESPONSES)]
    ids = [make_id("response", group, k) for group in groups for k in range(RESPONSES)]
    prompts = {
        "prompt_id": groups,
        "group_id": groups,
        "messages": [[{"role": "user", "content": text(3)}] for _ in groups],
        "source": "bench",
        "tags": [[f"topic{(start + n) % 7}"] for n in range(count)],
    }
    responses = {
        "response_id": ids,
        "group_id": owner,
        "prompt_id": owner,
        "text": [text(6) for _ in ids],
        "model": [f"model{k % RESPONSES}" for k in range(len(ids))],
        "sample_index": 0,
        "finish_reason": "stop",
        "n_tokens": 100,
    }
    common = {"target": "response", "source": "judge", "status": "ok", "revision": 1, "replicate": 0}
    scores = {
        "annotation_id": [make_id("score", id) for id in ids],
        "group_id": owner,
        "prompt_id": owner,
        "target_ids": [[id] for id in ids],
        "protocol": "score",
        "scores": [[float(score)] for score in rng.random(len(ids)).round(2)],
        "annotator": "judge:bench",
        "aspect": [("overall", "honesty")[k % 2] for k in range(len(ids))],
        **common,
    }
    compared = {
        "annotation_id": [make_id("compare", group) for group in groups],
        "group_id": groups,
        "prompt_id": groups,
        "target_ids": [ids[RESPONSES * n : RESPONSES * n + 2] for n in range(count)],
        "protocol": "compare",
        "scores": [[1.0, 0.0] if first < 0.5 else [0.0, 1.0] for first in rng.random(count)],
        "annotator": [f"human:p{n % 50:02}" for n in range(count)],
        "aspect": "overall",
        **common,
        "source": "human",
    }
    said = pl.concat([pl.DataFrame(scores), pl.DataFrame(compared)])
    return {"prompts": pl.DataFrame(prompts), "responses": pl.DataFrame(responses), "annotations": said}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(command: list[str], port: int, path: str) -> float:
    """Seconds from a process's start until it serves a page; it is ended then."""
    began = time.perf_counter()
    environment = {**os.environ, "PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            while time.perf_counter() - began < 300:
                if process.poll() is not None:
                    said.seek(0)
                    raise RuntimeError(f"{command[:3]} ended: {said.read()[-2000:].decode(errors='replace')}")
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - began
                except (urllib.error.URLError, OSError):
                    time.sleep(0.02)
            raise RuntimeError(f"{command[:3]} served nothing for five minutes")
        finally:
            process.kill()
            process.wait()


def starts(dataset: Path, rounds: int) -> None:
    """The start of the application, beside that of a bare page."""
    ours, bare = [], []
    for _ in range(rounds):
        port = free_port()
        bare.append(start([sys.executable, "-c", BARE_PAGE], port, "/"))
        port = free_port()
        program = [str(Path(sys.executable).with_name("prefdata")), "ui", str(dataset), "--port", str(port)]
        ours.append(start(program, port, "/login"))
    a, b = statistics.median(ours), statistics.median(bare)
    print("| from the process's start to the first page | seconds | ratio |\n|---|---|---|")
    print(f"| a Gradio page with one line | {b:.2f} | 1.0 |\n| `prefdata ui` | {a:.2f} | {a / b:.2f} |\n")


def tasks(dataset: Dataset, folder: Path, rounds: int) -> None:
    """How long a person waits: the next task, and a label."""
    from prefdata.ui.service import Service
    from prefdata.ui.store import Store

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        service = Service(dataset, Store.open(Path(scratch)))
        took = seconds(lambda: service.projects.create({"name": "bench", "protocol": "compare", "pairs": "one"}))
        (held,) = service.projects.list()
        waits: list[float] = []
        labels: list[float] = []
        for person in range(rounds):
            who = service.people.add(f"person{person}")
            turn = service.next(who, held.id)
            if turn["state"] == "acknowledge":
                service.projects.acknowledge(who, held.id, turn["guideline"]["label"])
            for number in range(41):
                began = time.perf_counter()
                task = service.next(who, held.id)["task"]
                between = time.perf_counter()
                answer = {
                    "task": task["id"],
                    "key": f"{person}-{number}",
                    "answer": {"choice": 1},
                    "seconds": 3.0,
                    "guideline": task["guideline"],
                }
                service.submit(who, answer)
                if number:  # the first of each person opens what the others find open
                    waits.append(between - began)
                    labels.append(time.perf_counter() - between)
        service.close()
    print(f"A project with one comparison of each prompt is set up in {took:.1f} s.\n")
    print("| a person waits for | median ms | 95th percentile ms |\n|---|---|---|")
    for name, times in (("the next task", waits), ("the answer to a label (durable)", labels)):
        print(f"| {name} | {1000 * statistics.median(times):.1f} | {1000 * float(np.quantile(times, 0.95)):.1f} |")
    print()


def parts(dataset: Dataset, table: str) -> str:
    """The parts of a table, for DuckDB."""
    paths = [str(dataset.path / part.path) for _, part in dataset.snapshot.standing[table]]
    return f"read_parquet({paths}, union_by_name = true)"


def searches(dataset: Dataset) -> list[tuple[str, dict[str, Any], str]]:
    """What is searched for: in words, as a filter, and as a bare query that gives the number of prompts."""
    prompts, responses, annotations, drops = (
        parts(dataset, table) for table in ("prompts", "responses", "annotations", "drops")
    )
    asked = "array_to_string([m.content for m in messages], chr(10))"
    targets = f"(SELECT *, unnest(target_ids) AS id, unnest(scores) AS score FROM {annotations})"
    return [
        ("everything", {}, f"SELECT count(*) FROM {prompts}"),
        (
            "a word in responses",
            {"text": "harbour", "where": "response"},
            f"SELECT count(DISTINCT group_id) FROM {responses} WHERE text ILIKE '%harbour%'",
        ),
        (
            "a rare phrase in prompts and responses",
            {"text": "harbour word1"},
            f"""SELECT count(*) FROM (
                SELECT group_id FROM {prompts} WHERE {asked} ILIKE '%harbour word1%'
                UNION SELECT group_id FROM {responses} WHERE text ILIKE '%harbour word1%')""",
        ),
        ("a tag", {"tag": ["topic3"]}, f"SELECT count(*) FROM {prompts} WHERE list_contains(tags, 'topic3')"),
        (
            "an annotator",
            {"annotator": ["human:p03"]},
            f"SELECT count(DISTINCT group_id) FROM {annotations} WHERE annotator = 'human:p03'",
        ),
        (
            "a high score of one model under one aspect",
            {"aspect": ["honesty"], "low": 0.9, "model": ["model1"]},
            f"""SELECT count(DISTINCT r.group_id) FROM {targets} a JOIN {responses} r ON r.response_id = a.id
            WHERE a.aspect = 'honesty' AND a.score >= 0.9 AND r.model = 'model1'""",
        ),
        (
            "a word in a response that won",
            {"text": "harbour", "where": "response", "outcome": "won"},
            f"""SELECT count(DISTINCT r.group_id) FROM {targets} a JOIN {responses} r ON r.response_id = a.id
            WHERE a.protocol = 'compare' AND a.score > 0.5 AND r.text ILIKE '%harbour%'""",
        ),
        (
            "dropped for a reason",
            {"reason": ["too short"]},
            f"SELECT count(DISTINCT group_id) FROM {drops} WHERE reason = 'too short'",
        ),
        (
            "a condition in SQL (in the sandbox)",
            {"sql": "score > 0.9 AND model = 'model2' AND n_tokens < 200"},
            f"""SELECT count(DISTINCT r.group_id) FROM {targets} a JOIN {responses} r ON r.response_id = a.id
            WHERE a.score > 0.9 AND r.model = 'model2' AND r.n_tokens < 200""",
        ),
    ]


def explore(dataset: Dataset, folder: Path, rounds: int) -> None:
    """The explorer's searches, beside bare queries over the parts."""
    from prefdata.ui.explorer.explore import Explorer
    from prefdata.ui.explorer.filters import Filter

    explorer = Explorer(dataset, folder / "copies")
    first = seconds(explorer.refresh)
    target = dataset.responses.select("response_id").head(1).collect().item()
    label = {"target_ids": [target], "protocol": "score", "annotator": "human:bench", "aspect": str(time.time_ns())}
    dataset.label([{**label, "scores": [1.0]}])
    again = seconds(explorer.refresh)
    copies = sum(path.stat().st_size for path in explorer.folder.glob("*.duckdb")) / 2**20
    on_disk = sum(path.stat().st_size for path in (dataset.path / "parts").rglob("*.parquet")) / 2**20
    print(
        f"In the background: the first edition {first:.1f} s, the next after a label {again:.1f} s; the copies take "
        f"{copies:.0f} MB beside {on_disk:.0f} MB of parts; the process that makes them takes {peak_mb():,} MB.\n"
    )
    print("| search | found | bare DuckDB ms | explorer ms | ratio | within 3 x + 100 ms |\n|---|---|---|---|---|---|")
    with duckdb.connect(":memory:") as bare:
        for name, fields, query in searches(dataset):
            wanted = Filter(**fields)
            plain, ours = [], []
            for _ in range(rounds + 1):
                plain.append(seconds(lambda query=query: bare.execute(query).fetchall()))
                ours.append(seconds(lambda wanted=wanted: explorer.prompts(wanted)))
            found = explorer.prompts(wanted).total
            a, b = statistics.median(ours[1:]), statistics.median(plain[1:])
            held = "yes" if a <= 3 * b + ALLOWED else "no"
            print(f"| {name} | {found:,} | {1000 * b:.0f} | {1000 * a:.0f} | {a / b:.1f} | {held} |")
        group = explorer.prompts(Filter(reason=["too short"])).rows[0]["group_id"]
        query = f"SELECT * FROM {parts(dataset, 'responses')} WHERE group_id = '{group}'"
        more = f"SELECT * FROM {parts(dataset, 'annotations')} WHERE group_id = '{group}'"
        plain = [
            seconds(lambda: (bare.execute(query).fetchall(), bare.execute(more).fetchall())) for _ in range(rounds)
        ]
        ours = [seconds(lambda: explorer.group(group)) for _ in range(rounds)]
        a, b = statistics.median(ours), statistics.median(plain)
        held = "yes" if a <= 3 * b + ALLOWED else "no"
        print(f"| all about one prompt | 1 | {1000 * b:.0f} | {1000 * a:.0f} | {a / b:.1f} | {held} |")
    explorer.close()


def peak_mb() -> int:
    """The most memory that a process started here has had, in megabytes."""
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the dataset is made, and found again")
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-start", action="store_true", help="leave the starts of the applications out")
    options = parser.parse_args()
    folder = options.folder / f"ds-{options.prompts}"
    folder.mkdir(parents=True, exist_ok=True)
    dataset = build(folder, options.prompts)
    counts = {name: count for name, count in dataset.counts().items() if count}
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()) + " live\n")
    if not options.no_start:
        starts(dataset.path, options.rounds)
    explore(dataset, folder, options.rounds)
    print()
    tasks(dataset, folder, options.rounds)


if __name__ == "__main__":
    main()
