"""Which groups of a step need work: what each group's input is now, against what the step had read of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import polars as pl

from prefdata.dataset import Dataset, View
from prefdata.dataset.parts import COMMIT, scan, shard_of
from prefdata.dataset.view import WHOLE
from prefdata.pipeline.step import CONSENSUS
from prefdata.schema import KEYS, Row, make_id

GONE = ""
"""The digest of a group whose input is no longer there: its last run made nothing."""


@dataclass(frozen=True)
class Work:
    """What is to be done for a step.

    Attributes:
        todo: the groups to run, in order.
        notes: rows of `progress` that settle other groups without running them: those that are gone, and those that
            an earlier run had read in just this state.
        digests: what each group's input is now.
        total: how many groups there are.
        spared: ids of annotations that are not asked again although their status is one that would be.
    """

    todo: list[str]
    notes: list[Row]
    digests: Mapping[str, str]
    total: int = field(default=0)
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AskAgain:
    """Which groups hold judgements or responses to be asked again, and which annotations (by id) are spared."""

    groups: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()


def readable(view: Mapping[str, pl.LazyFrame], reads: frozenset[str]) -> dict[str, pl.LazyFrame]:
    """The tables that a step reads; annotations with or without consensus rows, as `reads` says."""
    tables = {table: view[table] for table in sorted(reads - {CONSENSUS, "annotations"})}
    wanted = reads & {CONSENSUS, "annotations"}
    if wanted:
        rows = view["annotations"]
        if wanted == {"annotations"}:
            rows = rows.filter(pl.col("source") != CONSENSUS)
        elif wanted == {CONSENSUS}:
            rows = rows.filter(pl.col("source") == CONSENSUS)
        tables["annotations"] = rows
    return tables


def digests(tables: Mapping[str, pl.LazyFrame]) -> dict[str, str]:
    """For each group a hash of the sorted ids read, their revisions, and the targets that masks left."""
    keys = {
        "prompts": pl.struct(
            pl.exclude("step", "group_id", "meta")
        ).struct.json_encode(),  # tags may change under one id
        "responses": pl.col("response_id"),
        "annotations": pl.concat_str("annotation_id", "revision", pl.col("target_ids").list.join(","), separator=" "),
        "preferences": pl.struct("preference_id", "scores", "weight", "edges").struct.json_encode(),
        "token_scores": pl.concat_str("response_id", "prompt_id", "scorer", "kind", separator=" ", ignore_nulls=True),
    }
    read = [rows.select("group_id", keys[table].alias("key")) for table, rows in tables.items()]
    if not read:
        return {}
    grouped = (
        pl.concat(read)
        .sort("key")
        .group_by("group_id", maintain_order=True)
        .agg(pl.col("key").str.join("\n"))
        .collect()
    )
    return {
        group: blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        for group, text in grouped.iter_rows()
    }


def last_runs(dataset: Dataset, pipeline: str, fingerprint: str) -> dict[str, str]:
    """What this pipeline's step had read, by group, when it last ran."""
    rows = _notes(dataset, fingerprint).filter(pl.col("pipeline") == pipeline)
    last = rows.unique("group_id", keep="last", maintain_order=True)
    return dict(last.select("group_id", "digest").iter_rows())


def _notes(dataset: Dataset, fingerprint: str) -> pl.DataFrame:
    return (
        scan(dataset.path, dataset.snapshot, "progress", steps=[fingerprint])
        .filter(pl.col("step") == fingerprint)
        .collect()
    )


def work_for_groups(
    dataset: Dataset,
    pipeline: str,
    fingerprint: str,
    current: Mapping[str, str],
    *,
    again: AskAgain | None = None,
    order: Iterable[str],
    shard: int | None = None,
) -> Work:
    """What a group-scope step has to do.

    Args:
        dataset: for the progress noted so far.
        pipeline: the running pipeline's key.
        fingerprint: of the step.
        current: what each group's input is now.
        again: what is to be asked again, in groups whose input may be the same.
        order: the groups that may be worked on, in order; `--limit` leaves the others as they are.
        shard: the shard whose groups `current` holds; None: all of them.
    """
    notes = _notes(dataset, fingerprint).with_columns(pl.coalesce("run", COMMIT).alias("run"))
    mine = notes.filter(pl.col("pipeline") == pipeline).unique("group_id", keep="last", maintain_order=True)
    last = {group: (digest, run) for group, digest, run in mine.select("group_id", "digest", "run").iter_rows()}
    runs = {(group, digest): run for group, digest, run in notes.select("group_id", "digest", "run").iter_rows()}
    again = again or AskAgain()
    corrected = _corrected(dataset, fingerprint)
    todo: list[str] = []
    settled: list[Row] = []
    for group in order:
        digest = current.get(group)
        if digest is None:
            continue
        run = runs.get((group, digest), 0)
        if group in again.groups or run <= corrected.get(group, 0):
            todo.append(group)
        elif last.get(group) != (digest, run):
            settled.append(note(pipeline, fingerprint, group, digest, run))
    for group, (digest, _) in last.items():
        here = group != WHOLE and (shard is None or shard_of(group, dataset.shards) == shard)
        if here and group not in current and digest != GONE:
            settled.append(note(pipeline, fingerprint, group, GONE))
    return Work(todo, settled, current, len(current), again.spared)


def _corrected(dataset: Dataset, fingerprint: str) -> dict[str, int]:
    """By group, the last commit in which an answer stands that corrects one of the step's, whatever step asked again.

    A run before it is not good enough, live or brought back: that would hide the better answer. The group is run, which
    copies the latest of everything.
    """
    judged, drawn = dataset.rows("annotations"), dataset.rows("responses")
    ours = pl.col("step") == fingerprint
    retried = judged.filter((pl.col("revision") > 1) & (pl.col("source") != "human")).join(
        judged.filter(ours).select("annotation_id"), on="annotation_id", how="semi"
    )
    failed = drawn.filter(ours & (pl.col("finish_reason") == "error")).select("response_id")
    redrawn = drawn.filter(pl.col("finish_reason") != "error").join(failed, on="response_id", how="semi")
    later = pl.concat([retried.select("group_id", COMMIT), redrawn.select("group_id", COMMIT)])
    # The run that holds the better answer is itself good enough: anything before it is not.
    return dict(later.group_by("group_id").agg(pl.col(COMMIT).max() - 1).collect().iter_rows())


def work_for_whole(dataset: Dataset, pipeline: str, fingerprint: str, current: Mapping[str, str]) -> Work:
    """What a dataset-scope step has to do: all or nothing."""
    digest = make_id("whole", sorted(current.items()))
    notes = _notes(dataset, fingerprint).filter(pl.col("group_id") == WHOLE)
    mine = notes.filter(pl.col("pipeline") == pipeline)
    if mine.height and mine["digest"][-1] == digest:
        return Work([], [], {WHOLE: digest}, 1)
    same = notes.filter(pl.col("digest") == digest)
    if same.height:
        run = same.select(pl.coalesce("run", COMMIT))[-1, 0]
        return Work([], [note(pipeline, fingerprint, WHOLE, digest, run)], {WHOLE: digest}, 1)
    return Work([WHOLE], [], {WHOLE: digest}, 1)


def note(pipeline: str, fingerprint: str, group: str, digest: str, run: int | None = None) -> Row:
    """A row of `progress`."""
    return {"pipeline": pipeline, "step": fingerprint, "group_id": group, "digest": digest, "run": run}


def to_ask_again(own: View, whole: View, fingerprint: str, statuses: frozenset[str]) -> AskAgain:
    """What a step has to ask again: its rows with such a status, as far as somebody can see them.

    Args:
        own: a view of what the step reads and of what it made.
        whole: a view of all that the pipeline made: what later steps dropped is not worth another call.
        fingerprint: of the step.
        statuses: failed, timeout, and what `--retry` names.
    """
    failed = set(own.errors.filter(pl.col("step") == fingerprint)["group_id"])
    judged = own["annotations"].filter((pl.col("step") == fingerprint) & pl.col("status").is_in(list(statuses)))
    rows = judged.select("annotation_id", "group_id", "target", "target_ids").collect()
    if rows.is_empty():
        return AskAgain(frozenset(failed))
    unseen = (
        rows.filter(pl.col("target") == "response")
        .explode("target_ids")
        .join(whole.response_ids.select(target_ids="response_id"), on="target_ids", how="anti")
        .select("annotation_id")
    )
    seen = rows.join(unseen, on="annotation_id", how="anti")
    return AskAgain(frozenset(failed | set(seen["group_id"])), frozenset(unseen["annotation_id"]))


@dataclass(frozen=True, slots=True)
class Prior:
    """A row that the dataset already holds, live or not, and how often its id was made."""

    row: Row
    times: int


def prior_rows(dataset: Dataset, table: str, groups: list[str]) -> dict[str, Prior]:
    """The row to copy for each id of these groups: the highest revision first; of responses those that did not fail."""
    wanted = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String})
    rows = dataset.rows(table).join(wanted.lazy(), on="group_id", how="semi", maintain_order="left").collect()
    if table == "annotations":
        rows = rows.sort("revision", COMMIT, maintain_order=True)
    elif table == "responses":
        rows = rows.sort(pl.col("finish_reason") != "error", COMMIT, maintain_order=True)
    key = KEYS[table]
    rows = rows.with_columns(pl.len().over(key).alias("_times")).unique(key, keep="last", maintain_order=True)
    return {row[key]: Prior(row, row.pop("_times")) for row in rows.drop(COMMIT).to_dicts()}
