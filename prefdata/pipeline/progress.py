"""Which groups of a step need work: what each group's input is now, against what the step had read of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import polars as pl

from prefdata.dataset import Dataset, View
from prefdata.dataset.parts import COMMIT, WHOLE, scan, shard_of
from prefdata.pipeline.pieces import EVERYTHING, Piece
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


def readable(view: View, reads: frozenset[str]) -> dict[str, pl.LazyFrame]:
    """The tables that a step reads; annotations with or without consensus rows, as `reads` says."""
    tables = {table: view[table] for table in sorted(reads - {CONSENSUS, "annotations"})}
    wanted = reads & {CONSENSUS, "annotations"}
    if wanted == {"annotations"}:
        tables["annotations"] = view.annotations_where(pl.col("source") != CONSENSUS)
    elif wanted == {CONSENSUS}:
        tables["annotations"] = view.annotations_where(pl.col("source") == CONSENSUS)
    elif wanted:
        tables["annotations"] = view["annotations"]
    return tables


def order_of(view: View) -> list[str]:
    """The groups of a view, in the order in which their prompts came in."""
    return view["prompts"].select("group_id").unique(maintain_order=True).collect()["group_id"].to_list()


def of_groups(rows: pl.LazyFrame, groups: list[str]) -> pl.DataFrame:
    """The rows of these groups."""
    wanted = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String}).lazy()
    return rows.join(wanted, on="group_id", how="semi", maintain_order="left").collect()


def digests(tables: Mapping[str, pl.LazyFrame], *, everything: bool = False) -> dict[str, str]:
    """For each group a hash of the sorted ids read, their revisions, and the targets that masks left.

    Args:
        tables: what is read.
        everything: with the rows that belong to no group (those about annotators), as a step over the dataset reads.
    """
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
    if not everything:
        read = [rows.filter(pl.col("group_id") != WHOLE) for rows in read]
    # Sorted within each group: to sort a million texts at once takes three times as long.
    text = pl.col("key").list.sort().list.join("\n")
    grouped = pl.concat(read).group_by("group_id").agg("key").select("group_id", text).collect()
    return {
        group: blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        for group, text in grouped.iter_rows()
    }


def partners_of(groups: Iterable[str]) -> dict[str, str]:
    """For each group another one: the next in a ring ordered by hash. Empty for a group alone."""
    ring = sorted((group for group in groups if group != WHOLE), key=lambda group: make_id("partner", group))
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True)) if len(ring) > 1 else {}


def with_partners(current: Mapping[str, str]) -> dict[str, str]:
    """What each group's input is, where the partner's rows are input as well (see `digests`)."""
    partner = partners_of(current)
    return {
        group: make_id("together", digest, current[partner[group]]) if group in partner else digest
        for group, digest in current.items()
    }


def last_runs(dataset: Dataset, pipeline: str, fingerprint: str) -> dict[str, str]:
    """What this pipeline's step had read, by group, when it last ran."""
    rows = _notes(dataset, fingerprint).filter(pl.col("pipeline") == pipeline)
    last = rows.unique("group_id", keep="last", maintain_order=True)
    return dict(last.select("group_id", "digest").iter_rows())


def _notes(dataset: Dataset, fingerprint: str, piece: Piece = EVERYTHING) -> pl.DataFrame:
    rows = scan(dataset.path, dataset.snapshot, "progress", steps=[fingerprint], shard=piece.shard, span=piece.span)
    return rows.filter(pl.col("step") == fingerprint).collect()


def work_for_groups(
    dataset: Dataset,
    pipeline: str,
    fingerprint: str,
    current: Mapping[str, str],
    *,
    again: AskAgain | None = None,
    order: Iterable[str],
    piece: Piece = EVERYTHING,
) -> Work:
    """What a group-scope step has to do.

    Args:
        dataset: for the progress noted so far.
        pipeline: the running pipeline's key.
        fingerprint: of the step.
        current: what each group's input is now.
        again: what is to be asked again, in groups whose input may be the same; None for a step that asks nothing.
        order: the groups that may be worked on, in order; `--limit` leaves the others as they are.
        piece: whose groups `current` holds.
    """
    notes = _notes(dataset, fingerprint, piece).with_columns(pl.coalesce("run", COMMIT).alias("run"))
    mine = notes.filter(pl.col("pipeline") == pipeline).unique("group_id", keep="last", maintain_order=True)
    last = {group: (digest, run) for group, digest, run in mine.select("group_id", "digest", "run").iter_rows()}
    runs = {(group, digest): run for group, digest, run in notes.select("group_id", "digest", "run").iter_rows()}
    corrected = _corrected(dataset, fingerprint, piece) if again is not None else {}
    again = again or AskAgain()
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
        here = group != WHOLE and (piece.shard is None or shard_of(group, dataset.shards) == piece.shard)
        if here and group not in current and digest != GONE:
            settled.append(note(pipeline, fingerprint, group, GONE))
    return Work(todo, settled, current, len(current), again.spared)


def _corrected(dataset: Dataset, fingerprint: str, piece: Piece) -> dict[str, int]:
    """By group, the commit before the last answer that corrects one of the step's, whatever step asked again.

    A run before it is not good enough, live or brought back: that would hide the better answer. The group is run, which
    copies the latest of everything.
    """
    judged, drawn = _all_of(dataset, "annotations", piece), _all_of(dataset, "responses", piece)
    ours = pl.col("step") == fingerprint
    better = judged.filter((pl.col("revision") > 1) & (pl.col("source") != "human"))
    retried = better.select("annotation_id", "revision", "group_id", COMMIT).collect()
    if retried.height:  # seldom: the step's own ids are not read for nothing
        own = judged.filter(ours).select("annotation_id")
        retried = retried.lazy().join(own, on="annotation_id", how="semi").collect()
    failed = drawn.filter(ours & (pl.col("finish_reason") == "error")).select("response_id").collect()
    # Where an answer first stood: a later commit may hold a copy of it, which corrects nothing.
    first = pl.col("group_id").first(), pl.col(COMMIT).min()
    later = [retried.group_by("annotation_id", "revision").agg(first).select("group_id", COMMIT)]
    if failed.height:
        redrawn = drawn.filter(pl.col("finish_reason") != "error").select("response_id", "group_id", COMMIT)
        again = redrawn.join(failed.lazy(), on="response_id", how="semi").collect()
        later.append(again.group_by("response_id").agg(first).select("group_id", COMMIT))
    # The run that holds the better answer is itself good enough: anything before it is not.
    return dict(pl.concat(later).group_by("group_id").agg(pl.col(COMMIT).max() - 1).iter_rows())


def _all_of(dataset: Dataset, table: str, piece: Piece) -> pl.LazyFrame:
    """Every row of these groups, live or not."""
    return scan(dataset.path, dataset.snapshot, table, shard=piece.shard, span=piece.span)


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


def _any(rows: pl.LazyFrame) -> bool:
    return rows.select("group_id").head(1).collect().height > 0


def note(pipeline: str, fingerprint: str, group: str, digest: str, run: int | None = None) -> Row:
    """A row of `progress`."""
    return {"pipeline": pipeline, "step": fingerprint, "group_id": group, "digest": digest, "run": run}


def to_ask_again(
    dataset: Dataset, piece: Piece, own: View, whole: View, fingerprint: str, statuses: frozenset[str]
) -> AskAgain:
    """What a step has to ask again: its rows with such a status, as far as somebody can see them.

    Args:
        dataset: which.
        piece: whose groups.
        own: a view of what the step reads and of what it made.
        whole: a view of all that the pipeline made: what later steps dropped is not worth another call.
        fingerprint: of the step.
        statuses: failed, timeout, and what `--retry` names; a response that failed is asked again in any case, one
            that was refused by `refused` only.
    """
    ours = pl.col("step") == fingerprint
    # A view takes its time. Where no row has such a status, whatever run made it, there is nothing to look for.
    drawn = _all_of(dataset, "responses", piece).filter(ours & (pl.col("finish_reason") == "error"))
    failed = set[str]()
    if _any(drawn):
        errors = own.errors.filter(ours)
        if "refused" not in statuses:
            errors = errors.filter(~refused(_all_of(dataset, "calls", piece), errors["call_id"]))
        failed = set(errors["group_id"])
    unsettled = ours & pl.col("status").is_in(list(statuses))
    if not _any(_all_of(dataset, "annotations", piece).filter(unsettled)):
        return AskAgain(frozenset(failed))
    judged = own["annotations"].filter(unsettled)
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


def refused(calls: pl.LazyFrame, ids: pl.Series) -> pl.Series:
    """Whether the server's content filter refused these calls: the model would be asked, and paid, in vain."""
    if ids.is_empty():
        return pl.Series(dtype=pl.Boolean)
    wanted = ids.unique().alias("call_id").to_frame().lazy()
    found = calls.filter(pl.col("finish_reason") == "refusal").join(wanted, on="call_id", how="semi")
    return ids.is_in(found.select("call_id").collect()["call_id"].implode()).fill_null(False)


@dataclass(frozen=True, slots=True)
class Prior:
    """A row that the dataset already holds, live or not.

    Attributes:
        row: the row.
        times: how often its id was made.
        refused: a response that the server's content filter refused.
    """

    row: Row
    times: int
    refused: bool = False


def prior_rows(dataset: Dataset, table: str, piece: Piece, groups: pl.DataFrame) -> pl.DataFrame:
    """The row to copy for each id of these groups: the highest revision first; of responses those that did not fail.

    Args:
        dataset: where they are.
        table: which.
        piece: that the groups are in.
        groups: the column group_id, and what else the rows are to have.

    Returns:
        The rows, how often each id was made, in `_times`, and whether the content filter refused it, in `_refused`.
    """
    found = _all_of(dataset, table, piece)
    rows = found.join(groups.lazy(), on="group_id", how="inner", maintain_order="left").collect()
    if table == "annotations":
        rows = rows.sort("revision", COMMIT, maintain_order=True)
    elif table == "responses":
        rows = rows.sort(pl.col("finish_reason") != "error", COMMIT, maintain_order=True)
    key = KEYS[table]
    turned_down = pl.lit(False)
    if table == "responses":
        errors = rows.filter(pl.col("finish_reason") == "error")
        of_errors = refused(_all_of(dataset, "calls", piece), errors["call_id"])
        turned_down = pl.col(key).is_in(errors.filter(of_errors)[key].to_list())
    return (
        rows.with_columns(pl.len().over(key).alias("_times"), turned_down.alias("_refused"))
        .unique(key, keep="last", maintain_order=True)
        .drop(COMMIT)
    )
