"""How long the live view takes, beside a plain read of the same Parquet parts in the same run.

    python benchmarks/view.py [--annotations 1000000] [--parts 1000] [--drops 50000]

Makes a dataset of annotations in many parts (each a commit with its progress), drops some responses, and times: the
replay of the log, the live annotations, and a read of the annotation parts with polars and nothing else. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from prefdata.dataset import Dataset, Plan, StepRecord
from prefdata.dataset.log import Log
from prefdata.schema import make_id

STEP = "judge.compare@0000000000000000"
RESPONSES = 4


def build(folder: Path, annotations: int, parts: int, drops: int) -> Dataset:
    """Groups of four responses, every ordered comparison of neighbours: eight annotations a group."""
    dataset = Dataset.create(folder)
    groups_in_all = max(annotations // 8, parts)
    per_part = groups_in_all // parts
    record = StepRecord(STEP, "judge.compare", "judge.compare")
    dataset.commit({}, "plan", steps=[record], plan=Plan("bench", (STEP,)))
    source = StepRecord("import:bench@0", "import:bench", "import")
    dropped = 0
    for part in range(parts):
        groups = [make_id("bench", part, n) for n in range(per_part)]
        prompts = pl.DataFrame({"prompt_id": groups, "group_id": groups, "step": "import:bench@0"})
        ids = [make_id("r", group, n) for group in groups for n in range(RESPONSES)]
        owner = [group for group in groups for _ in range(RESPONSES)]
        responses = pl.DataFrame(
            {
                "response_id": ids,
                "group_id": owner,
                "prompt_id": owner,
                "step": "import:bench@0",
                "text": "a response",
                "finish_reason": "stop",
            }
        )
        pairs = [
            (owner[k * RESPONSES], ids[k * RESPONSES + i], ids[k * RESPONSES + (i + 1) % RESPONSES])
            for k in range(per_part)
            for i in range(RESPONSES)
        ]
        both = [(g, a, b) for g, x, y in pairs for a, b in ((x, y), (y, x))]
        said = pl.DataFrame(
            {
                "annotation_id": [make_id("a", *row) for row in both],
                "group_id": [g for g, _, _ in both],
                "prompt_id": [g for g, _, _ in both],
                "step": STEP,
                "target": "response",
                "target_ids": [[a, b] for _, a, b in both],
                "protocol": "compare",
                "scores": [[0.7, 0.3]] * len(both),
                "annotator": "judge:bench",
                "source": "judge",
                "aspect": "overall",
                "status": "ok",
                "revision": pl.Series([1] * len(both), dtype=pl.Int32),
            }
        )
        notes = pl.DataFrame({"pipeline": "bench", "step": STEP, "group_id": groups, "digest": "x"})
        gone = ids[:: max(1, len(ids) * parts // drops)] if drops else []
        dropped += len(gone)
        rows = {"prompts": prompts, "responses": responses, "annotations": said, "progress": notes}
        dataset.commit(rows, f"part {part}", steps=[source])
        if gone:
            dataset.drop("responses", gone, reason="bench") if part == 0 else dataset.commit(
                {
                    "drops": pl.DataFrame(
                        {"table": "responses", "id": gone, "view": "main", "reason": "bench", "step": "labels:labels"}
                    )
                },
                "drops",
            )
    print(f"{groups_in_all * 8:,} annotations in {parts:,} parts, {dropped:,} responses dropped")
    return dataset


def timed(work: Callable[[], object], rounds: int = 3) -> float:
    """Median seconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--drops", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = build(Path(scratch) / "ds", options.annotations, options.parts, options.drops)
        files = [str(path) for path in (dataset.path / "parts" / "annotations").glob("*.parquet")]
        plain = timed(lambda: pl.scan_parquet(files).collect())
        view = timed(lambda: dataset.view()["annotations"].collect())
        counted = timed(lambda: dataset.view()["annotations"].select(pl.len()).collect())
        replay = timed(lambda: Log(dataset.path / "log").snapshot())
        print("| | seconds | beside the plain read |\n|---|---|---|")
        print(f"| plain read of the annotation parts | {plain:.2f} | 1.0 |")
        print(f"| live annotations, all columns | {view:.2f} | {view / plain:.1f} |")
        print(f"| live annotations, counted | {counted:.2f} | {counted / plain:.1f} |")
        print(f"| replay of {dataset.snapshot.number:,} commits | {replay:.2f} | {replay / plain:.2f} |")


if __name__ == "__main__":
    main()
