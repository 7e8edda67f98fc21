"""`prefdata reparse`: read again what judges answered, with the parser as it is now. No model is asked.

A judge's step is restored from its record in the log, so that neither the pipeline's file nor its models are needed,
and runs over its groups with a context that answers from `calls.raw`. A judgement that reads otherwise becomes the next
revision of the same id with the same call; it is committed with all the rows of its group and step, as in a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from prefdata.dataset import Dataset, Plan, StepRecord, View
from prefdata.dataset.lease import run_alone
from prefdata.dataset.log import name_of
from prefdata.dataset.parts import COMMIT, WHOLE, frame_of, scan
from prefdata.dataset.view import pipeline_key
from prefdata.engines.base import Engine
from prefdata.errors import PipelineError, PrefdataError
from prefdata.pipeline.context import NotKeptError
from prefdata.pipeline.fingerprint import fingerprint_of, lineage_of
from prefdata.pipeline.kept import History, KeptContext, KeptEngine
from prefdata.pipeline.progress import GONE, digests, note, partners_of, readable
from prefdata.pipeline.registry import STEPS, load_file, load_plugins
from prefdata.pipeline.run import run_blocking
from prefdata.pipeline.step import Group, GroupStep
from prefdata.schema import CORE_TABLES, KEYS, STATUSES, Row, arrow_table

GROUPS_AT_ONCE = 1000
"""How many groups are loaded together; bounds memory."""

_CALL = ("call_id", "raw", "finish_reason", "error", "model")


@dataclass
class Reparsed:
    """What reading again came to.

    Attributes:
        changed: annotator, status before, status now: how many. Equal statuses: another score, verdict or reason.
        unchanged: judgements that read as before.
        unkept: judgements whose answer is not kept whole: none came, it was empty, or `calls.raw` was cut.
        unmet: judgements that their step would not ask for as it is now: their response was dropped since, or the
            question has another wording.
        textless: by annotator, the live judgements that rest on no text to read: probabilities, likelihoods, rules,
            imports.
        commits: how many were made; none where nothing changed.
    """

    changed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unchanged: int = 0
    unkept: int = 0
    unmet: int = 0
    textless: dict[str, int] = field(default_factory=dict)
    commits: int = 0


def reparse(
    dataset: str | Path | Dataset,
    *,
    pipeline: str | None = None,
    statuses: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    say: Callable[[str], object] = lambda message: None,
) -> Reparsed:
    """Read the answers of a dataset's judges again.

    Args:
        dataset: an open dataset, or its folder.
        pipeline: only this pipeline's judgements; else every pipeline's.
        statuses: only judgements with one of these; else all.
        plugins: files with judges of one's own. Those that the dataset names are not imported by themselves: whoever
            gave you the dataset wrote them.
        say: is told what cannot be read again, and why.

    Raises:
        PrefdataError: no such pipeline, status or plugin, or the pipeline is running.
    """
    opened = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    for status in statuses:
        if status not in STATUSES:
            raise PipelineError(f"--status {status}: the statuses are {', '.join(sorted(STATUSES))}")
    load_plugins()
    for plugin in plugins:
        load_file(Path(plugin))
    opened.view(pipeline=pipeline)  # a sentence where there is no such pipeline
    plans = opened.snapshot.plans
    chosen = {key: plan for key, plan in plans.items() if pipeline in (None, key[0])}
    steps = {step for plan in chosen.values() for step in plan.steps}
    done = Reparsed()
    read: set[str] = set()
    with run_alone(opened.path, *{name for (name, _), plan in plans.items() if steps.intersection(plan.steps)}):
        for key, plan in chosen.items():
            for place, fingerprint in enumerate(plan.steps):
                step = _restored(opened.snapshot.steps[fingerprint], say)
                if step is not None:
                    read.add(fingerprint)
                    _Reader(opened, pipeline_key(*key), plan, place, step, frozenset(statuses), done).run()
    done.textless = _textless(opened, pipeline, read)
    return done


def _restored(record: StepRecord, say: Callable[[str], object]) -> GroupStep | None:
    """The step of a record, if it is a judge that reads what a model wrote."""
    known = STEPS.get(record.kind)
    if known is None:
        say(
            f"step {record.name!r}: there is no step {record.kind!r} here, so it is left alone; --plugin names its file"
        )
        return None
    able = issubclass(known, GroupStep) and "annotations" in known.writes
    if not able or "generate" not in known.engine_fields.values():
        return None
    # Where each engine makes rows of its own, which of them said what stands in the rows' ids.
    if len(_identities(known, record)) != 1 and not getattr(known, "each_alone", False):
        say(f"step {record.name!r} asks several models; which of them said what cannot be told, so it is left alone")
        return None
    try:
        step = known.restored({**record.fields, "name": record.name})
    except (ValidationError, PrefdataError) as error:
        say(f"step {record.name!r} ({record.kind}) cannot be restored, so it is left alone: {_first(error)}")
        return None
    if fingerprint_of(known, record.name, record.fields, record.inputs) != record.step:
        say(
            f"step {record.name!r}: {record.kind} is of another version than when it ran. What it reads now is kept "
            "under the step as it ran; the next run makes the new one's rows from these, and asks nothing"
        )
    assert isinstance(step, GroupStep)
    return step


def _identities(step: type[GroupStep] | type, record: StepRecord) -> list[str]:
    values = [record.fields.get(key) for key in getattr(step, "engine_fields", ())]
    return [one for value in values for one in ([value] if isinstance(value, str) else value or [])]


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
    return str(error)


def _textless(dataset: Dataset, pipeline: str | None, read: set[str]) -> dict[str, int]:
    rows = dataset.view(pipeline=pipeline)["annotations"]
    others = ~pl.col("step").is_in(list(read)) & ~pl.col("source").is_in(["human", "consensus"])
    counts = rows.filter(others).group_by("annotator").len().sort("annotator").collect()
    return dict(counts.iter_rows())


@dataclass
class _Reader:
    """Reads the answers to one step of one pipeline again, shard by shard."""

    dataset: Dataset
    key: str
    plan: Plan
    place: int
    step: GroupStep
    statuses: frozenset[str]
    done: Reparsed

    def run(self) -> None:
        """Read, and commit what reads otherwise."""
        record = self.dataset.snapshot.steps[self.plan.steps[self.place]]
        lineage = lineage_of(
            record,
            self.plan.steps[: self.place],
            self.key,
            self.dataset.snapshot,
            self.step.narrows,
            f"step {record.name!r}",
        )
        shards: Sequence[int | None] = [None] if self.dataset.shards == 1 else range(self.dataset.shards)
        for shard in shards:
            view = self.dataset.view(lineage=lineage, name=self.step.view, shard=shard)
            notes = self._notes(view)
            mine = notes.filter(pl.col("pipeline") == self.key).select("group_id", pl.col("run").alias(COMMIT))
            live = self._made("annotations", view, mine).filter(pl.col("call_id").is_not_null())
            if self.statuses:
                live = live.filter(pl.col("status").is_in(list(self.statuses)))
            groups = live.select("group_id").unique(maintain_order=True).collect()["group_id"].to_list()
            for start in range(0, len(groups), GROUPS_AT_ONCE):
                chunk = pl.DataFrame({"group_id": groups[start : start + GROUPS_AT_ONCE]})
                rows = live.join(chunk.lazy(), on="group_id", how="semi", maintain_order="left").collect()
                changed = self._read(record, view, rows.drop(COMMIT).to_dicts(), chunk)
                if changed:
                    self._commit(record, view, notes, changed)

    def _notes(self, view: View) -> pl.DataFrame:
        """pipeline, group_id, digest, run: the last note of each pipeline that ran this step on the group."""
        fingerprint = self.plan.steps[self.place]
        return (
            scan(view.root, view.snapshot, "progress", steps=[fingerprint], shard=view.shard)
            .filter((pl.col("step") == fingerprint) & (pl.col("group_id") != WHOLE))
            .with_columns(pl.coalesce("run", COMMIT).alias("run"))
            .unique(["pipeline", "group_id"], keep="last", maintain_order=True)
            .filter(pl.col("digest") != GONE)
            .select("pipeline", "group_id", "digest", "run")
            .collect()
        )

    def _made(self, table: str, view: View, runs: pl.DataFrame) -> pl.LazyFrame:
        """The rows that the step made in these runs (group_id, _commit)."""
        fingerprint = self.plan.steps[self.place]
        rows = scan(view.root, view.snapshot, table, steps=[fingerprint], shard=view.shard)
        return rows.filter(pl.col("step") == fingerprint).join(
            runs.lazy(), on=["group_id", COMMIT], how="semi", maintain_order="left"
        )

    def _read(self, record: StepRecord, view: View, live: list[Row], chunk: pl.DataFrame) -> dict[str, Row]:
        """The rows that read otherwise now, by id."""
        histories = self._histories(view, live, chunk)
        calls = self._calls(view, chunk, histories)
        asked = {calls[row["call_id"]]["model"] for row in live if row["call_id"] in calls}
        identities = _identities(type(self.step), record)
        groups = self._groups(readable(view, frozenset(record.reads)), chunk)
        contexts = [
            self._context(view, {one: KeptEngine(one, model) for one in identities}, group.group_id, calls, histories)
            for model in sorted(asked)
            for group in groups
        ]
        run_blocking(lambda: self._again([*groups] * len(asked), contexts))
        readings = {row_id: row for context in contexts for row_id, row in context.readings.items()}
        unkept = {row_id for context in contexts for row_id in context.unkept} - readings.keys()
        changed: dict[str, Row] = {}
        for row in live:
            row_id = row["annotation_id"]
            if row_id not in readings:
                self.done.unkept += row_id in unkept or row["call_id"] not in calls
                self.done.unmet += row_id not in unkept and row["call_id"] in calls
            elif (new := self._revised(row, histories[row_id].row, readings[row_id])) is None:
                self.done.unchanged += 1
            else:
                changed[row_id] = new
                self.done.changed[row["annotator"], row["status"], new["status"]] += 1
        return changed

    def _groups(self, tables: Mapping[str, pl.LazyFrame], chunk: pl.DataFrame) -> list[Group]:
        """The groups, with their partners where the step asks for them."""
        groups = _groups(tables, chunk)
        if self.step.partners:
            partner = partners_of(digests(tables))
            wanted = [partner[group.group_id] for group in groups if group.group_id in partner]
            others = {other.group_id: other for other in _groups(tables, _named(wanted))}
            for group in groups:
                group.partner = others.get(partner.get(group.group_id, ""))
        return groups

    def _revised(self, live: Row, latest: Row, reading: Row) -> Row | None:
        """The row in place of the live one; None where that says the same."""
        row_id = live["annotation_id"]
        if self.dataset.revised([reading], {row_id: live})[0]["revision"] == live["revision"]:
            return None
        new = self.dataset.revised([reading], {row_id: latest})[0]
        # Another pipeline, or another version of this one, may hold that reading already.
        return dict(latest) if new["revision"] == latest["revision"] else new

    def _context(
        self,
        view: View,
        engines: Mapping[str, Engine],
        group_id: str,
        calls: Mapping[str, Row],
        known: Mapping[str, History],
    ) -> KeptContext:
        return KeptContext(
            dataset=view.root,
            folder=Path(),
            commit=view.snapshot.number,
            pipeline=self.plan.pipeline,
            engines=engines,
            group_id=group_id,
            calls=calls,
            known=known,
        )

    async def _again(self, groups: Sequence[Group], contexts: Sequence[KeptContext]) -> None:
        for group, context in zip(groups, contexts, strict=True):
            try:
                await self.step.run(group, context)
            except NotKeptError:
                continue  # it asks outside of `once`: which judgement an answer is for cannot be told
            except Exception as error:  # whatever a judge of somebody's raises
                raise PipelineError(
                    f"step {self.step.name!r} failed on group {group.group_id}: {type(error).__name__}: {error}"
                ) from error

    def _histories(self, view: View, live: list[Row], chunk: pl.DataFrame) -> dict[str, History]:
        ids = pl.DataFrame({"annotation_id": [row["annotation_id"] for row in live]})
        rows = (
            scan(view.root, view.snapshot, "annotations", shard=view.shard)
            .join(chunk.lazy(), on="group_id", how="semi", maintain_order="left")
            .join(ids.lazy(), on="annotation_id", how="semi", maintain_order="left")
            .collect()
            .sort("revision", COMMIT, maintain_order=True)
        )
        revisions = dict(rows.group_by("annotation_id").agg(pl.col("revision").unique()).iter_rows())
        last = rows.unique("annotation_id", keep="last", maintain_order=True).drop(COMMIT)
        return {row["annotation_id"]: History(row, tuple(revisions[row["annotation_id"]])) for row in last.to_dicts()}

    def _calls(self, view: View, chunk: pl.DataFrame, histories: Mapping[str, History]) -> dict[str, Row]:
        """The calls of these groups by id: of several askings of one request that which kept the most."""
        mine = scan(view.root, view.snapshot, "calls", shard=view.shard).join(chunk.lazy(), on="group_id", how="semi")
        # Calls from before there was a group_id stand in any shard.
        steps = {history.row["step"] for history in histories.values()}
        old = scan(view.root, view.snapshot, "calls", steps=steps).filter(
            pl.col("group_id").is_null() & pl.col("step").is_in(list(steps))
        )
        rows = pl.concat([mine.select(_CALL), old.select(_CALL)]).collect()
        best = rows.sort(pl.col("error").is_null(), pl.col("raw").is_not_null(), maintain_order=True)
        return {row["call_id"]: row for row in best.to_dicts()}

    def _commit(self, record: StepRecord, view: View, notes: pl.DataFrame, changed: Mapping[str, Row]) -> None:
        """Commit all that the step made for the groups of the changed rows, with these in their places."""
        groups = {row["group_id"] for row in changed.values()}
        touched = notes.filter(pl.col("group_id").is_in(list(groups)))
        runs = touched.filter(pl.col("pipeline") == self.key).select("group_id", "run")
        made = {
            table: frame_of(table, self._made(table, view, runs.rename({"run": COMMIT})).collect())
            for table in CORE_TABLES
            if any(record.step in part.steps for _, part in view.snapshot.standing.get(table, ()))
        }
        new = frame_of(
            "annotations", arrow_table("annotations", [{**row, "step": record.step} for row in changed.values()])
        )
        kept = made["annotations"].join(new, on="annotation_id", how="anti", maintain_order="left")
        made["annotations"] = pl.concat([kept, new])
        # What a group had read stays what it had read; a pipeline that shares the run shares the better one.
        shared = touched.join(runs, on=["group_id", "run"], how="semi", maintain_order="left")
        rows = {table: frame for table, frame in made.items() if frame.height}
        progress = [
            note(pipeline, record.step, group, digest)
            for pipeline, group, digest in shared.select("pipeline", "group_id", "digest").iter_rows()
        ]
        self.dataset.commit({**rows, "progress": progress}, f"{name_of(record.step)}: {len(changed)} read again")
        self.done.commits += 1


def _groups(tables: Mapping[str, pl.LazyFrame], chunk: pl.DataFrame) -> list[Group]:
    """The groups (column group_id) with their rows, sorted by id."""
    groups = {group_id: Group(group_id) for group_id in chunk["group_id"]}
    for table, rows in tables.items():
        if hasattr(Group("-"), table):
            for row in rows.join(chunk.lazy(), on="group_id", how="semi").sort(KEYS[table]).collect().to_dicts():
                getattr(groups[row["group_id"]], table).append(row)
    return list(groups.values())


def _named(groups: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String})
