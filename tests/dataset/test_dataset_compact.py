"""Compacting: the same rows and views at every commit, whatever the history, and nothing of others lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from care_texts import all_rows, all_views, label_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_line import Line

from prefdata.dataset import Dataset, Plan, StepRecord
from prefdata.dataset.closure import Target
from prefdata.dataset.compact import compact
from prefdata.dataset.erase import erase
from prefdata.dataset.lease import COMPACT, ERASE, REPAIR, hold
from prefdata.dataset.log import Log
from prefdata.dataset.parts import COMMIT, PartWriter
from prefdata.errors import DataError
from prefdata.schema import annotation, message, prompt, response

SMALL = {"target_bytes": 25_000, "memory_bytes": 4_000}
"""Several parts for each shard, and several ranges to sort one after the other."""


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["all at once", "in ranges"])
def test_the_same_rows_and_views_at_every_commit(line: Line, sizes: dict[str, int]) -> None:
    ds = line.ds
    last = ds.snapshot.number
    some = [*range(0, last, 4), last]
    rows, views, order = all_rows(ds), all_views(ds, some), ds.prompts.collect()["prompt_id"].to_list()
    parts = {table: len(stood) for table, stood in ds.snapshot.standing.items()}
    done = compact(ds, **sizes)
    assert all_rows(ds) == rows
    assert all_views(ds, some) == views
    assert ds.prompts.collect()["prompt_id"].to_list() == order
    standing = ds.snapshot.standing
    assert {one.table for one in done.tables} >= {"responses", "annotations", "progress"}
    for one in done.tables:
        assert parts[one.table] - len(standing[one.table]) == one.parts[0] - one.parts[1] > 0
    if not sizes:
        assert all(len(stood) <= ds.shards for stood in standing.values())
        assert compact(ds).tables == []  # nothing is to be gained
    done_at = ds.snapshot.number
    assert line.run().usage.calls == 0 and ds.snapshot.number == done_at
    line.edit("pair", min_gap=3.0)  # a state that some run has read before
    line.run()
    assert not [name for part in ds.snapshot.commits[-1].parts for name in part.steps if name.startswith("sample")]
    compact(ds)
    assert all_views(ds, some) == views


@pytest.mark.slow
def test_parts_are_sorted_ranges_of_whole_groups(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = line.ds
    monkeypatch.setattr("prefdata.dataset.compact._worth_it", lambda *_: True)  # of so few rows it never is
    compact(ds, target_bytes=3_000, memory_bytes=4_000)
    several = 0
    for table, stood in ds.snapshot.standing.items():
        for shard in range(ds.shards):
            parts = [part for _, part in stood if part.shard == shard and part.commits]
            ends = []
            for part in parts:
                rows = pl.read_parquet(ds.path / part.path)
                assert part.commits == (rows[COMMIT].min(), rows[COMMIT].max()) and part.rows == rows.height
                assert (ds.path / part.path).stat().st_size == part.bytes
                if table in ("prompts", "criteria", "annotators"):
                    assert rows[COMMIT].is_sorted()
                    continue
                assert rows.select("group_id", COMMIT).equals(rows.select("group_id", COMMIT).sort("group_id", COMMIT))
                ends.append((rows["group_id"].min(), rows["group_id"].max()))
                footer = pq.read_metadata(ds.path / part.path)
                at = footer.schema.to_arrow_schema().get_field_index("group_id")
                assert footer.row_group(0).column(at).statistics.min == rows["group_id"].min()
            several += len(ends) > 1
            assert all(high < low for (_, high), (low, _) in pairwise(sorted(ends)))
    assert several


def test_limit_takes_the_same_prompts_afterwards(line: Line) -> None:
    compact(line.ds)
    line.edit("sample", n=4)
    line.run(limit=3)
    first = line.ds.rows("prompts").sort(COMMIT, maintain_order=True).collect()["group_id"].to_list()[:3]
    drawn = line.ds.rows("responses").filter(pl.col("sample_index") == 3).collect()["group_id"]
    assert set(drawn) == set(first)


STEPS = ("import:a@1", "sample@1", "sample@2", "judge@1", "labels:x")
ROOTS = [prompt([message("user", f"prompt {n}")]) for n in range(5)]
event = st.one_of(
    st.tuples(st.just("prompts"), st.sets(st.integers(0, 4), min_size=1)),
    st.tuples(st.just("run"), st.sampled_from(STEPS[1:4]), st.sets(st.integers(0, 4), min_size=1), st.integers(0, 2)),
    st.tuples(st.just("plan"), st.lists(st.sampled_from(STEPS[1:4]), unique=True)),
    st.tuples(st.just("label"), st.integers(0, 4), st.integers(0, 1)),
    st.tuples(st.just("drop"), st.integers(0, 4), st.booleans()),
    st.tuples(st.just("compact"), st.sampled_from([{}, SMALL])),
)


def happen(ds: Dataset, kind: str, *what: Any) -> None:
    """One event of a random history, straight into the log."""
    if kind == "prompts":
        record = StepRecord(STEPS[0], "a", "import")
        ds.commit({"prompts": [{**ROOTS[n], "step": STEPS[0]} for n in sorted(what[0])]}, "in", steps=[record])
    elif kind == "plan":
        steps = [StepRecord(step, step.partition("@")[0], "sample") for step in what[0]]
        ds.commit({}, "plan", steps=steps, plan=Plan("line", tuple(what[0])))
    elif kind == "run":
        step, groups, draw = what
        roots = [ROOTS[n] for n in sorted(groups)]
        notes = [{"pipeline": "line", "step": step, "group_id": r["group_id"], "digest": str(draw)} for r in roots]
        made = [response(root, model=step, text=f"{draw}", sample_index=n) for root in roots for n in range(draw)]
        table = "responses"
        if step.startswith("judge"):
            ids = [response(root, model="sample@1", sample_index=0)["response_id"] for root in roots]
            made = [said(root, [one], "score", "judge:m", draw) for root, one in zip(roots, ids, strict=True)]
            table = "annotations"
        ds.commit({table: [{**row, "step": step} for row in made], "progress": notes}, step)
    elif kind == "label":
        root, score = ROOTS[what[0]], what[1]
        row = said(root, [root["prompt_id"]], "score", "human:x", score, target="prompt")
        known = ds.latest("annotations", [row["annotation_id"]]).get(row["annotation_id"])
        row = {**row, "step": STEPS[4], "revision": known["revision"] + 1 if known else 1}
        ds.commit({"annotations": [row]}, "label", steps=[StepRecord(STEPS[4], STEPS[4], "labels")])
    elif kind == "drop":
        root = ROOTS[what[0]]
        row = {"table": "prompts", "id": root["prompt_id"], "group_id": root["group_id"], "step": STEPS[4]}
        record = StepRecord(STEPS[4], STEPS[4], "labels")
        ds.commit({"drops": [{**row, "view": "main", "reason": "so", "restore": what[1]}]}, "drop", steps=[record])
    else:
        compact(ds, **what[0])


def said(root: dict[str, Any], ids: list[str], protocol: str, who: str, score: int, **more: Any) -> dict[str, Any]:
    source = who.partition(":")[0]
    return annotation(
        group_id=root["group_id"],
        prompt_id=root["prompt_id"],
        target_ids=ids,
        protocol=protocol,
        annotator=who,
        source=source,
        scores=[float(score)],
        **more,
    )


@pytest.mark.slow
@given(st.integers(1, 3), st.lists(event, min_size=3, max_size=9), st.integers(0, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_histories(shards: int, events: list[tuple[Any, ...]], pick: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ds = Dataset.create(Path(folder) / "ds", shards=shards)
        happen(ds, "prompts", {0, 1, 2, 3, 4})
        happen(ds, "plan", ["sample@1", "judge@1"])
        for one in events:
            happen(ds, *one)
        last = ds.snapshot.number
        rows, views = all_rows(ds), all_views(ds, range(last + 1))
        compact(ds, **SMALL)
        assert (all_rows(ds), all_views(ds, range(last + 1))) == (rows, views)
        group = ROOTS[pick]["group_id"]
        erase(ds, Target("prompt", group), lambda *_: 0)
        kept = {table: [row for row in made if group not in row] for table, made in rows.items()}
        assert all_rows(ds) == kept
        compact(ds)
        happen(ds, "prompts", {pick})
        assert all_rows(ds) == kept
        assert all_views(ds, range(last + 1)) == {
            number: {table: [row for row in made if group not in row] for table, made in view.items()}
            for number, view in views.items()
        }


def test_what_others_commit_meanwhile_stays(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = line.ds
    made: list[str] = []
    finish = PartWriter.finish

    def interrupted(writer: PartWriter) -> Any:
        if not made:
            made.append("now")
            made.extend(label_all(Dataset(ds.path), "human:late", "in the meantime"))
        return finish(writer)

    monkeypatch.setattr(PartWriter, "finish", interrupted)
    compact(ds)
    monkeypatch.undo()
    late = ds.annotations.filter(pl.col("annotator") == "human:late").collect()
    assert set(late["annotation_id"]) == set(made[1:])
    assert line.run().usage.calls == 0


def test_a_reader_that_has_the_files_open_goes_on(line: Line) -> None:
    rows = line.ds.view()["annotations"]
    compact(line.ds)
    compact(line.ds)
    assert rows.collect().height == line.ds.annotations.collect().height


def test_replaced_files_go_after_an_hour_and_not_while_a_run_is_at_work(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = line.ds
    done = compact(ds)
    kept = [one.path for one in done.swept.kept]
    assert kept and all(path.exists() for path in kept) and done.swept.until is not None
    monkeypatch.setattr("prefdata.dataset.leftovers.KEEP", timedelta(0))
    with hold(ds.path, "line"):
        again = compact(ds)
        assert len(again.swept.kept) == len(kept) and again.swept.until is None
        with pytest.raises(DataError, match="a run of line is at work"):
            compact(ds, now=True)
    again = compact(ds)
    assert again.swept.removed == len(kept) and not any(path.exists() for path in kept)
    named = {part.path for stood in ds.snapshot.standing.values() for _, part in stood}
    assert {path.relative_to(ds.path).as_posix() for path in ds.path.glob("parts/*/*")} == named


def test_a_crash_between_two_tables_leaves_everything_readable(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = line.ds
    rows = all_rows(ds)
    append, commits = Log.append, []

    def killed(log: Log, *args: Any, **options: Any) -> int:
        commits.append(1)
        if len(commits) == 3:
            raise KeyboardInterrupt
        return append(log, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(ds)
    assert all_rows(Dataset(ds.path)) == rows
    assert compact(ds).tables and all_rows(ds) == rows


def test_a_full_disk_leaves_nothing_behind(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = line.ds
    files, rows = set(ds.path.rglob("*")), all_rows(ds)
    write, pieces = PartWriter.write, []

    def full(writer: PartWriter, piece: pa.Table) -> None:
        pieces.append(1)
        if len(pieces) == 2:
            raise OSError(28, "No space left on device")
        write(writer, piece)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "write", full)
        with pytest.raises(OSError, match="No space left"):
            compact(ds, **SMALL)
    assert set(ds.path.rglob("*.parquet")) <= files and not list(ds.path.rglob("*.tmp"))
    assert all_rows(ds) == rows


def test_one_at_a_time_and_not_beside_an_erase(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COMPACT, ERASE, REPAIR):
        with hold(line.path, name), pytest.raises(DataError, match=f"{name.removeprefix('care:')} is at work"):
            compact(line.ds)
    ds, finish, erased = line.ds, PartWriter.finish, []

    def meanwhile(writer: PartWriter) -> Any:
        if not erased:  # one that a lease did not keep out: from a machine that does not see this folder's leases yet
            erased.append(1)
            tombs = write_tomb(ds)
            ds.log.append("erase", (tombs,))
        return finish(writer)

    monkeypatch.setattr(PartWriter, "finish", meanwhile)
    before = set(ds.path.rglob("parts/*/*.parquet"))
    with pytest.raises(DataError, match="rows were erased while"):
        compact(ds)
    left = {path.parent.name for path in set(ds.path.rglob("parts/*/*.parquet")) - before}
    assert left == {"erased"}


def write_tomb(ds: Dataset) -> Any:
    from prefdata.dataset.parts import write_part
    from prefdata.schema import arrow_table

    return write_part(ds.path, "erased", arrow_table("erased", [{"table": "prompts", "id": "x"}]))


def test_columns_that_only_some_parts_have_are_kept(tmp_path: Path, aged: Callable[[int], Line]) -> None:
    ds = Dataset.create(tmp_path / "ds")
    plain = prompt([message("user", "plain")])
    rich = prompt([message("user", "rich")], tags=["a"], meta='{"k": 1}')
    for row in (plain, rich):
        ds.commit({"prompts": [{**row, "step": STEPS[0]}]}, "in", steps=[StepRecord(STEPS[0], "a", "import")])
    compact(ds)
    assert [row["tags"] for row in ds.prompts.collect().to_dicts()] == [None, ["a"]]
