"""Verifying and repairing: every kind of damage is named, and what is left is usable and made whole by a run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from care_texts import all_rows, all_views
from pipeline_line import Line

from prefdata.dataset import Dataset
from prefdata.dataset.closure import Target
from prefdata.dataset.compact import compact
from prefdata.dataset.erase import erase
from prefdata.dataset.lease import hold
from prefdata.dataset.leftovers import remove
from prefdata.dataset.log import Log, Part
from prefdata.dataset.parts import PartWriter
from prefdata.dataset.repair import repair
from prefdata.dataset.verify import Verified, verify
from prefdata.errors import DataError
from prefdata.schema import message, prompt

pytestmark = pytest.mark.slow

HOURS = 7200


def wrong(found: Verified) -> list[str]:
    return [finding.text for finding in found.findings if finding.wrong]


def notes(found: Verified) -> list[str]:
    return [finding.text for finding in found.findings if not finding.wrong]


def largest(ds: Dataset, table: str) -> tuple[int, Part]:
    return max(ds.snapshot.standing[table], key=lambda one: one[1].rows)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def in_data(path: Path, which: int = 0) -> int:
    """A byte in the data of a row group's largest column."""
    group = pq.read_metadata(path).row_group(which)
    column = max((group.column(at) for at in range(group.num_columns)), key=lambda one: one.total_compressed_size)
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return int(start + column.total_compressed_size - 8)


def test_a_sound_dataset_is_sound_whatever_was_done_to_it(line: Line) -> None:
    found = verify(line.path)
    assert found.sound and not found.findings and found.commits == line.ds.snapshot.number
    assert found.rows == sum(len(rows) for rows in all_rows(line.ds).values())
    compact(line.ds)
    found = verify(line.path)
    assert found.sound and len(found.findings) == 1 and "replaced parts" in notes(found)[0]
    erase(line.ds, Target("user", "anna@example.org"), lambda *_: 0)
    found = verify(line.path)
    assert found.sound and not found.findings
    assert repair(line.path) == []


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        *((damage, "annotations") for damage in ("truncated", "flipped", "gone", "emptied", "footer")),
        *(("gone", table) for table in ("prompts", "preferences", "progress", "calls")),
        ("flipped", "responses"),
        ("truncated", "responses"),
        ("flipped", "progress"),
    ],
)
def test_a_damaged_part_is_named_and_made_again(aged: Callable[[int], Line], damage: str, table: str) -> None:
    line = aged(3)
    before = line.live()
    of_people = set(line.ds.snapshot.free_steps)
    stood = [one for one in line.ds.snapshot.standing[table] if not of_people.intersection(one[1].steps)]
    _, part = max(stood, key=lambda one: one[1].rows)
    path = line.path / part.path
    size = path.stat().st_size
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        flip(path, in_data(path))
    elif damage == "footer":
        flip(path, size - 40)
    else:
        path.write_bytes(path.read_bytes()[: size // 2 if damage == "truncated" else 0])

    found = verify(line.path)
    assert not found.sound and [one.part.path for one in found.damaged] == [part.path]
    assert part.path in wrong(found)[0] and f"{part.rows:,} rows of {table}" in wrong(found)[0]
    said = repair(line.path)
    assert part.path in said[0]
    assert (line.path / "lost+found" / part.path).exists() == (damage != "gone")
    left = verify(line.path)
    assert not left.damaged and not left.broken
    for text in wrong(left):
        assert "are not there" in text  # what rested on the lost rows
    calls = line.run().usage.calls
    assert calls == 0  # the answers were in the cache
    assert verify(line.path).sound
    assert line.live() == before
    done = line.ds.snapshot.number
    line.run()
    assert line.ds.snapshot.number == done


def test_of_a_part_with_many_row_groups_only_one_is_lost(
    aged: Callable[[int], Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = aged(1)
    before, views = line.live(), all_views(line.ds, range(line.ds.snapshot.number + 1))
    for module in ("parts", "compact"):
        monkeypatch.setattr(f"prefdata.dataset.{module}.rows_per_group", lambda _: 4)
    compact(line.ds, now=True)
    _, part = largest(line.ds, "annotations")
    path = line.path / part.path
    metadata = pq.read_metadata(path)
    live = set(line.ds.annotations.filter(pl.col("source") == "judge").collect()["annotation_id"])
    with pq.ParquetFile(path) as file:
        ids = [set(file.read_row_group(n)["annotation_id"].to_pylist()) for n in range(file.num_row_groups)]
        which = next(n for n, some in enumerate(ids) if some <= live)
        lost_groups = set(file.read_row_group(which)["group_id"].to_pylist())
    flip(path, in_data(path, which))
    (damage,) = verify(line.path).damaged
    assert damage.lost == (which,) and len(damage.readable) == metadata.num_row_groups - 1 > 3
    rows = metadata.row_group(which).num_rows
    assert f"{rows} of its {part.rows} rows of annotations" in wrong(verify(line.path))[0]
    repair(line.path)
    assert line.ds.rows("annotations").collect().height == part.rows - rows
    result = line.run()
    assert result.usage.calls == 0
    assert {step.name: step.groups for step in result.steps}["judge.compare"] == len(lost_groups) == 1
    assert line.live() == before
    assert set(views[4]["responses"]) == set(all_views(line.ds, [4])[4]["responses"])


def test_labels_that_are_lost_are_named_and_can_come_again(aged: Callable[[int], Line]) -> None:
    line = aged(1)
    labels = [one for one in line.ds.snapshot.standing["annotations"] if "labels:labels" in one[1].steps]
    lost = line.ds.rows("annotations").filter(pl.col("_commit") == labels[0][0]).collect()
    (line.path / labels[0][1].path).unlink()
    (said,) = repair(line.path)
    assert "come back only if they are imported or labelled again" in said
    tasks = lost.select("target_ids", "protocol", "scores", "annotator", "text").to_dicts()
    assert set(line.ds.label(tasks)) == set(lost["annotation_id"])


@pytest.mark.parametrize(
    ("how", "which"),
    [
        *(("deleted", which) for which in ("plan", "rows", "labels")),
        *(("emptied", which) for which in ("rows", "last")),
        ("prose", "labels"),
    ],
)
def test_a_lost_log_entry_of_parts_that_have_nothing_but_their_files_time(
    aged: Callable[[int], Line], how: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefdata.dataset.repair.origin_of", lambda _: None)
    line = aged(3)
    before, last = line.live(), line.ds.snapshot.number
    tables = {c.number: {part.table for part in c.parts} for c in line.ds.snapshot.commits}
    number = {
        "plan": 1,
        "rows": next(n for n, names in tables.items() if "responses" in names),
        "labels": next(c.number for c in line.ds.snapshot.commits if c.message.endswith("labels")),
        "last": last,
    }[which]
    for commit in line.ds.snapshot.commits:  # a dataset that took its time, one commit a minute
        stamp = 1_750_000_000 + commit.number * 600
        path = line.path / f"log/{commit.number:08d}.json"
        entry = json.loads(path.read_text())
        entry["time"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(stamp))
        path.write_text(json.dumps(entry))
        for one in (path, *(line.path / part.path for part in commit.parts)):
            os.utime(one, (stamp - 5, stamp - 5))
    path = line.path / f"log/{number:08d}.json"
    if how == "deleted":
        path.unlink()
    else:
        path.write_text("" if how == "emptied" else "not JSON")
        os.utime(path, (1_750_000_000 + number * 600,) * 2)
    with pytest.raises(DataError, match=r"has no commit|is not a commit"):
        Dataset(line.path)
    assert verify(line.path).broken == [number]
    assert path.name in wrong(verify(line.path))[0]
    (said, *_) = repair(line.path)
    assert f"log/{path.name}" in said
    ds = Dataset(line.path)
    assert ds.snapshot.number >= last
    assert line.run().usage.calls == 0
    assert verify(line.path).sound
    assert line.live() == before  # its parts were told by their time
    assert (line.path / "lost+found/log" / path.name).exists() == (how != "deleted")


def copied_without_times(line: Line, to: Path) -> Dataset:
    shutil.copytree(line.path, to, copy_function=shutil.copyfile)
    return Dataset(to)


def of_labels(ds: Dataset) -> list[int]:
    return [commit.number for commit in ds.snapshot.commits if commit.message.endswith("labels")]


@pytest.mark.parametrize("row", [1, 2], ids=["one entry", "two in a row"])
def test_a_lost_log_entry_after_a_copy_that_lost_the_times(
    aged: Callable[[int], Line], tmp_path: Path, row: int
) -> None:
    line = aged(3)
    response = line.ds.responses.head(2).collect()["response_id"].to_list()
    for score, one in enumerate(response):
        line.ds.label([{"target_ids": [one], "protocol": "score", "annotator": "human:z", "scores": [float(score)]}])
    line.ds.commit({}, "something later")
    before, rows = line.live(), all_rows(line.ds)
    for number in of_labels(line.ds)[-row:]:
        ds = copied_without_times(line, tmp_path / f"copy-{number}")
        lost = range(number, number + row) if row == 1 else of_labels(line.ds)[-2:]
        assert len(lost) == row
        for one in lost:
            (ds.path / f"log/{one:08d}.json").unlink()
        said = wrong(verify(ds.path))
        assert any("1 rows of annotations by labels:labels (human:z)" in text for text in said)
        assert len(repair(ds.path)) == row
        assert verify(ds.path).sound
        assert all_rows(Dataset(ds.path)) == rows  # each with its commit
    assert line.live() == before


def test_labels_of_which_nothing_tells_the_commit_are_named_until_it_is_settled(
    aged: Callable[[int], Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = aged(1)
    line.ds.commit({}, "something later")
    number = of_labels(line.ds)[0]
    ds = copied_without_times(line, tmp_path / "copy")
    entry = ds.path / f"log/{number:08d}.json"
    content = entry.read_bytes()
    paths = [part["path"] for part in json.loads(content)["parts"]]
    entry.unlink()
    for path in paths:
        os.utime(ds.path / path, (time.time() - HOURS * 1000,) * 2)
    with monkeypatch.context() as patch:
        patch.setattr("prefdata.dataset.repair.origin_of", lambda _: None)
        (said,) = repair(ds.path)
    assert "with nothing in it" in said and all((ds.path / path).exists() for path in paths)
    found = verify(ds.path)
    assert not found.sound and not found.broken
    (text,) = [text for text in wrong(found) if "belongs to no commit" in text]
    assert "rows of annotations by labels:labels (human:" in text and f"Restore log/{entry.name} from a copy" in text
    entry.write_bytes(content)
    assert verify(ds.path).sound


def test_what_leads_out_of_the_parts_is_never_removed(line: Line, tmp_path: Path) -> None:
    outside = tmp_path / "precious.parquet"
    outside.write_text("precious")
    link = line.path / "parts/responses/link.parquet"
    link.symlink_to(outside)
    with pytest.raises(DataError, match="leads out of"):
        remove(line.path, [Part("responses", "parts/responses/link.parquet", 1)])
    with pytest.raises(DataError, match="leads out of"):
        line.ds._unlink([Part("responses", "parts/../../precious.parquet", 1)])
    os.utime(outside, (time.time() - HOURS,) * 2)
    with pytest.raises(DataError, match="leads out of"):
        repair(line.path)
    assert outside.read_text() == "precious" and link.is_symlink()


def test_a_part_that_is_given_up_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = PartWriter(tmp_path, "prompts", pa.schema([("step", pa.string())]))
    file = writer._file

    class Full:
        def close(self) -> None:
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(ZeroDivisionError), writer:
        _ = 1 / 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_newer_version_is_not_judged(line: Line) -> None:
    path = line.path / "log/00000002.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(DataError, match="written by a newer prefdata"):
        verify(line.path)
    marker = line.path / "prefdata.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "schema": 99}))
    with pytest.raises(DataError, match="made by a newer prefdata"):
        repair(line.path)
    marker.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        verify(line.path)
    with pytest.raises(DataError, match="is no dataset"):
        verify(line.path / "log")


def test_what_writers_left_is_a_note_and_is_moved_when_it_is_old(line: Line) -> None:
    ds = line.ds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ds.commit({"prompts": [{**prompt([message("user", "never")]), "step": "import:a@1"}]}, "never")
    (ds.path / "parts/prompts/.half.tmp").write_text("half")
    (ds.path / "log/.half.tmp").write_text("half")
    (ds.path / "running").mkdir(exist_ok=True)
    (ds.path / "running/line.json").write_text("{}")
    found = verify(ds.path)
    assert found.sound and len(notes(found)) == 4 and sum("belongs to no commit" in text for text in notes(found)) == 3
    assert repair(ds.path) == []  # it may be somebody's at work
    for path in ds.path.rglob("*"):
        os.utime(path, (time.time() - HOURS,) * 2)
    (said,) = repair(ds.path)
    assert said.startswith("3 files") and verify(ds.path).sound and len(notes(verify(ds.path))) == 1
    assert (ds.path / "lost+found/parts/prompts/.half.tmp").read_text() == "half"
    assert len(list((ds.path / "lost+found").rglob("*.parquet"))) == 1


def test_parts_that_lie_about_themselves(line: Line) -> None:
    """A hand that wrote parts or log: what readers would miss is named."""
    _, part = largest(line.ds, "responses")
    (commit,) = [c for c in line.ds.snapshot.commits if part in c.parts]
    path = line.path / f"log/{commit.number:08d}.json"
    entry = json.loads(path.read_text())

    def said(**changed: object) -> str:
        lies = [{**one, **changed} if one["path"] == part.path else one for one in entry["parts"]]
        path.write_text(json.dumps({**entry, "parts": lies}))
        (text,) = wrong(verify(line.path))
        return text

    assert "the log does not say that it holds rows of sample@" in said(steps=[])
    assert f"it has {part.rows} rows; the log says 3" in said(rows=3)
    if line.ds.shards > 1:
        assert "of its rows belong to another shard" in said(shard=(part.shard + 1) % line.ds.shards)
    path.write_text(json.dumps({**entry, "parts": [*entry["parts"], *entry["parts"]]}))
    assert any("is named 2 times" in text for text in wrong(verify(line.path)))


def test_ids_that_name_nothing_are_counted_over_all_rows(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds", shards=2)
    group = "0" * 32
    rows = {
        "responses": [{"response_id": "r", "group_id": group, "step": "s@1", "prompt_id": "nowhere"}],
        "annotations": [
            {"annotation_id": "a", "group_id": group, "step": "s@1", "target": "response", "target_ids": ["r", "gone"]},
            {"annotation_id": "b", "group_id": group, "step": "s@1", "target": "annotator", "target_ids": ["human:x"]},
        ],
        "preferences": [
            {"preference_id": "p", "group_id": group, "step": "s@1", "response_ids": ["r", "gone", "lost"]}
        ],
    }
    ds.commit(rows, "dangling")
    texts = wrong(verify(ds.path))
    assert [text.split(" that are")[0] for text in texts] == [
        "responses: 1 name prompts",
        "annotations: 1 name responses",
        "preferences: 1 name responses",
    ]


def test_a_repair_waits_for_runs(line: Line) -> None:
    with hold(line.path, "line"), pytest.raises(DataError, match="a run of line is at work"):
        repair(line.path)
