"""Freeze a small dataset of today's schema: `python tests/frozen/make.py`.

Every later version opens it (tests/dataset/test_dataset_frozen.py). A folder that was released is never made again:
when the tables' version rises, this writes a new one beside the old ones.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from prefdata.dataset import Dataset, StepRecord
from prefdata.dataset.closure import Target
from prefdata.dataset.compact import compact
from prefdata.dataset.erase import erase
from prefdata.pipeline.run import run
from prefdata.pipeline.spec import load
from prefdata.schema import CORE_TABLES, KEYS, SCHEMA_VERSION, clean

HERE = Path(__file__).resolve().parent
ENGINES = {name: {"kind": "scripted", "model": f"model-{name}"} for name in ("a", "b", "judge")}
STEPS: list[dict[str, Any]] = [
    {"ingest": {"format": "prompts", "path": "prompts.jsonl"}},
    {"sample": {"engine": ["a"], "n": 2, "max_tokens": 24}},
    {"judge.compare": {"engine": "judge", "card": "helpfulness"}},
    {"aggregate.bradley_terry": {}},
    {"select.where": {"table": "responses", "keep": "n_tokens > 3"}},
    {"pair": {"rule": "best_worst", "min_gap": 0.1}},
]
SECOND: list[dict[str, Any]] = [{"pair": {"name": "wide", "rule": "list", "reads": ["line"]}}]
PROMPTS = [("Why is the sky blue?", "ann"), ("What is two plus two?", "bob"), ("Who wrote Hamlet?", None)]


def rows_of(dataset: Dataset, at: int) -> dict[str, list[str]]:
    """The live rows of each table: id and a hash of all that is not null, sorted; prompts in their order."""
    view = dataset.view(at=at)
    found = {}
    for table in (*CORE_TABLES, "criteria", "annotators", "calls"):
        made = []
        for row in view[table].collect().to_dicts():
            text = json.dumps(clean(row), sort_keys=True, default=str, ensure_ascii=False)
            made.append(f"{row.get(KEYS.get(table, ''), '')} {blake2b(text.encode(), digest_size=8).hexdigest()}")
        found[table] = made if table == "prompts" else sorted(made)
    return found


def write_pipeline(folder: Path, name: str, steps: list[dict[str, Any]]) -> None:
    """Write the file of a pipeline."""
    engines = ENGINES if name == "line" else {}
    text = yaml.safe_dump({"engines": engines, "steps": steps} if engines else {"steps": steps}, sort_keys=False)
    (folder / f"{name}.yaml").write_text(text)


def live_through(folder: Path) -> None:
    """Give a dataset a past: limits, edits, labels, drops, a compaction, an erase, and rows that are not compact."""
    write_pipeline(folder, "line", STEPS)
    write_pipeline(folder, "second", SECOND)
    lines = [json.dumps({"prompt": text, **({"user_id": user} if user else {})}) for text, user in PROMPTS]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    dataset = Dataset.create(folder / "dataset", shards=2)

    def go(name: str = "line", **options: Any) -> None:
        run(load(str(folder / f"{name}.yaml")), dataset.path, **options)

    go(limit=1)
    go()
    go("second")
    responses = dataset.responses.sort("response_id").collect()
    for group in sorted(set(responses["group_id"])):
        ids = responses.filter(responses["group_id"] == group)["response_id"].to_list()
        for person, scores in (("human:x", [1.0, 0.0]), ("human:y", [0.5, 0.5])):
            label = {
                "target_ids": ids,
                "protocol": "compare",
                "scores": scores,
                "annotator": person,
                "text": "so it is",
            }
            dataset.label([label])
    one, other = responses["response_id"].to_list()[:2]
    dataset.drop("responses", [one, other], reason="not clear")
    dataset.restore("responses", [one])
    go()
    write_pipeline(folder, "line", [*STEPS[:5], {"pair": {**STEPS[5]["pair"], "min_gap": 9.0}}])
    go()
    write_pipeline(folder, "line", STEPS)
    go()
    step = StepRecord("import:scores@1", "import:scores", "import")
    root = responses.row(0, named=True)
    scored = {"scorer": "model-a", "kind": "logprob", "token_ids": [1, 2], "values": [-0.5, -1.25], "step": step.step}
    scored |= {name: root[name] for name in ("response_id", "group_id", "prompt_id")}
    rubric = {"criterion_id": "c1", "name": "clear", "text": "Is it clear?", "kind": "rubric", "owner": "human:x"}
    rows = {"token_scores": [scored], "criteria": [rubric], "annotators": [{"annotator": "human:x"}]}
    dataset.commit(rows, "scores and descriptions", steps=[step])
    compact(dataset, now=True)
    erase(dataset, Target("user", "bob"), lambda *_: 0)
    erase(dataset, Target("annotator", "human:y"), lambda *_: 0)
    go()
    go("second")
    left = dataset.responses.sort("response_id").collect()["response_id"].to_list()
    dataset.label([{"target_ids": left[:1], "protocol": "score", "scores": [0.25], "annotator": "human:z"}])
    go()
    go("second")


def main() -> None:
    """Write `v<version>/`."""
    target = HERE / f"v{SCHEMA_VERSION}"
    with tempfile.TemporaryDirectory(prefix="prefdata-frozen-") as scratch:
        os.environ["PREFDATA_CACHE"] = str(Path(scratch) / "cache")
        folder = Path(scratch) / target.name
        folder.mkdir()
        live_through(folder)
        for name in ("logs", "running", "exports"):
            shutil.rmtree(folder / "dataset" / name, ignore_errors=True)
        dataset = Dataset(folder / "dataset")
        last = dataset.snapshot.number
        expected = {str(at): rows_of(dataset, at) for at in sorted({1, last // 4, last // 2, 3 * last // 4, last})}
        (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    sys.stdout.write(f"{target}: {last} commits, {size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
