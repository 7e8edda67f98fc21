"""Shards and worker processes change where work is done, and nothing of what comes of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pipeline_line import Line, base_steps

from prefdata.dataset import Dataset
from prefdata.errors import DataError, PipelineError

pytestmark = pytest.mark.slow

PROMPTS = 10


def line_of(folder: Path, shards: int) -> Line:
    folder.mkdir()
    line = Line(folder, [*base_steps(folder / "prompts.jsonl"), {"export": {"format": "lists", "path": "l.parquet"}}])
    line.write_prompts(f"What is {n} times {n}?" for n in range(PROMPTS))
    Dataset.create(line.path, shards=shards)
    return line


def exported(line: Line) -> list[str]:
    return sorted(str(row) for row in pq.read_table(line.path / "exports" / "l.parquet").to_pylist())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """One shard, one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        line = line_of(tmp_path_factory.mktemp("plain") / "line", 1)
        line.run()
    assert line.live()["preferences"]
    return line


@pytest.mark.parametrize(("shards", "processes"), [(5, 1), (3, 2)])
def test_everything_is_the_same(plain: Line, tmp_path: Path, shards: int, processes: int) -> None:
    line = line_of(tmp_path / "line", shards)
    line.run(processes=processes)
    assert line.live() == plain.live() and exported(line) == exported(plain)
    assert len({part.shard for _, part in line.ds.snapshot.standing["annotations"]}) >= min(shards, 3)
    commits = line.ds.snapshot.number
    line.run(processes=processes)
    assert line.ds.snapshot.number == commits
    line.edit("pair", rule="all_pairs")
    line.run(processes=processes)
    line.edit("pair", rule="best_worst")
    line.run(processes=processes)
    assert line.live() == plain.live()


def test_a_limit_goes_by_the_order_of_the_prompts_and_not_by_shards(plain: Line, tmp_path: Path) -> None:
    few, sharded = line_of(tmp_path / "few", 1), line_of(tmp_path / "sharded", 4)
    few.run(limit=4)
    sharded.run(limit=4, processes=2)
    assert sharded.live() == few.live()
    sharded.run()
    assert sharded.live() == plain.live()


PLUGIN = """
import os, signal, sys
from pathlib import Path
from typing import ClassVar
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import TableStep

@step("marked")
class Marked(TableStep):
    reads: ClassVar[frozenset[str]] = frozenset({"responses"})
    writes: ClassVar[frozenset[str]] = frozenset({"drops"})

    def run(self, tables, context):
        once = Path(__file__).with_name("once")
        if once.exists() and "prefdata.pipeline.worker" in " ".join(sys.orig_argv):
            once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        worst = tables["responses"].sort("response_id").unique("prompt_id", keep="first", maintain_order=True)
        return {"drops": [
            {"table": "responses", "id": row["response_id"], "group_id": row["group_id"], "view": "main",
             "reason": "marked", "restore": False}
            for row in worst.to_dicts()
        ]}
"""


def with_plugin(folder: Path, shards: int) -> Line:
    line = line_of(folder, shards)
    (folder.parent / "mine.py").write_text(PLUGIN)
    line.steps.insert(5, {"marked": {}})
    line.plugins = ["../mine.py"]
    return line


def test_a_step_of_ones_own_and_a_worker_that_is_killed(tmp_path: Path) -> None:
    """What the others committed is kept, and the next run goes on."""
    alone = with_plugin(tmp_path / "alone", 4)
    alone.run()
    line = with_plugin(tmp_path / "line", 4)
    (tmp_path / "once").touch()
    with pytest.raises(
        PipelineError, match=r"'marked'.*worker process was ended by SIGKILL.*run the same command again"
    ):
        line.run(processes=2)
    line.run(processes=2)
    assert line.live() == alone.live()
    assert line.ds.view().dropped.height == PROMPTS == alone.ds.view().dropped.height


def test_the_number_of_shards_is_settled(tmp_path: Path) -> None:
    line = line_of(tmp_path / "line", 2)
    with pytest.raises(DataError, match="has 2 shards"):
        line.run(shards=3)
    line.run(shards=2)
