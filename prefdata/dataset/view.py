"""What is live: the one place that says which rows a reader sees, and in which order the rules apply.

lineage and `from`  ->  last run of each group  ->  highest revision  ->  unique id  ->  drops  ->  masks
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from prefdata.dataset.log import Snapshot
from prefdata.dataset.masks import known, mask_annotations, mask_preferences, with_ancestors
from prefdata.dataset.parts import COMMIT, WHOLE, Span, polars_schema, scan
from prefdata.errors import DataError
from prefdata.schema import CORE_TABLES, KEYS


@dataclass(frozen=True)
class Lineage:
    """Which steps' rows a view is made of.

    Attributes:
        runs: pipeline (with its round) and step, for every live step: the same step may be live in two pipelines.
        free: steps that are live without a plan: imports and labels.
        narrow: by table, the only steps whose rows of that table are read (`from:`).
    """

    runs: tuple[tuple[str, str], ...]
    free: tuple[str, ...]
    narrow: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def steps(self) -> frozenset[str]:
        """All of them."""
        return frozenset(step for _, step in self.runs) | frozenset(self.free)


def pipeline_key(pipeline: str, round_number: int = 0) -> str:
    """How a pipeline and round are named in `progress`."""
    return pipeline if round_number == 0 else f"{pipeline}#{round_number}"


def full_lineage(snapshot: Snapshot, pipeline: str | None = None) -> Lineage:
    """Everything that is live, or what one pipeline made and reads: imports, labels, the pipelines it names.

    Raises:
        DataError: there is no such pipeline.
    """
    known = sorted({name for name, _ in snapshot.plans})
    if pipeline is not None and pipeline not in known:
        raise DataError(f"this dataset has no pipeline {pipeline!r} (there are: {', '.join(known) or 'none'})")
    wanted = None if pipeline is None else with_read(snapshot, pipeline)
    runs = tuple(
        (pipeline_key(*key), step)
        for key, plan in snapshot.plans.items()
        if wanted is None or key[0] in wanted
        for step in plan.steps
    )
    return Lineage(runs, snapshot.free_steps)


def with_read(snapshot: Snapshot, pipeline: str) -> set[str]:
    """A pipeline and those that it reads, and that these read."""
    found: set[str] = set()
    waiting = [pipeline]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for key, plan in snapshot.plans.items() if key[0] == name for other in plan.reads]
    return found


class View(Mapping[str, pl.LazyFrame]):
    """The live rows of a dataset at one commit, as LazyFrames by table name.

    Args:
        root: the dataset's folder.
        snapshot: the log that the view is pinned to.
        lineage: whose rows.
        name: which view's drops hold: main's, and this one's.
        shard: only the groups of this shard.
        span: only the groups of this range.
    """

    def __init__(
        self,
        root: Path,
        snapshot: Snapshot,
        lineage: Lineage,
        name: str = "main",
        shard: int | None = None,
        span: Span | None = None,
    ) -> None:
        self.root, self.snapshot, self.lineage, self.name = root, snapshot, lineage, name
        self.shard, self.span = shard, span
        self._made: dict[str, pl.LazyFrame] = {}

    def __getitem__(self, table: str) -> pl.LazyFrame:
        if table not in self._made:
            self._made[table] = self._live(table)
        return self._made[table]

    def narrowed(self, shard: int | None, span: Span | None) -> View:
        """The same view of one shard's groups, and of a range of them."""
        return View(self.root, self.snapshot, self.lineage, self.name, shard, span)

    def annotations_where(self, condition: pl.Expr) -> pl.LazyFrame:
        """The live annotations for which a condition holds; no other is looked at, which saves most of the time.

        Args:
            condition: on what is the same in all rows of one id: annotator, source, aspect, protocol.
        """
        rows = self.undropped("annotations", only=condition)
        return self._masked_annotations(rows).select(list(polars_schema("annotations")))

    def ever(self, table: str, condition: pl.Expr) -> bool:
        """Whether a condition holds for any row of a table, live or not: where it does not, a view is spared."""
        rows = scan(self.root, self.snapshot, table, shard=self.shard, span=self.span)
        return rows.filter(condition).select(pl.first()).head(1).collect().height > 0

    def __iter__(self) -> Iterator[str]:
        return iter((*CORE_TABLES, "criteria", "annotators", "calls"))

    def __len__(self) -> int:
        return len(CORE_TABLES) + 3

    def _live(self, table: str) -> pl.LazyFrame:
        columns = list(polars_schema(table))
        if table == "calls":
            return scan(self.root, self.snapshot, table).select(columns)
        if table in ("criteria", "annotators"):
            return scan(self.root, self.snapshot, table).select(columns).unique(KEYS[table], keep="last")
        if table == "drops":
            return self._of_lineage("drops").select(columns)
        return self._masked(table).select(columns)

    @cached_property
    def _runs(self) -> pl.DataFrame:
        """step, group_id, _commit: the commits that hold the last run of each group."""
        return self._last_notes.select("step", "group_id", pl.col("_run").alias(COMMIT)).unique()

    @cached_property
    def _last_notes(self) -> pl.DataFrame:
        """pipeline, step, group_id, _run: the last note of progress for each."""
        pairs = pl.DataFrame(self.lineage.runs, schema={"pipeline": pl.String, "step": pl.String}, orient="row")
        steps = [step for _, step in self.lineage.runs]
        return (
            scan(self.root, self.snapshot, "progress", steps=steps, shard=self.shard, span=self.span)
            .join(pairs.unique().lazy(), on=["pipeline", "step"], how="semi", maintain_order="left")
            .with_columns(pl.coalesce("run", COMMIT).alias("_run"))
            .unique(["pipeline", "step", "group_id"], keep="last", maintain_order=True)
            .select("pipeline", "step", "group_id", "_run")
            .collect()
        )

    def _of_lineage(self, table: str, *, narrowed: bool = True, only: pl.Expr | None = None) -> pl.LazyFrame:
        """Lineage, `from` and last run: the first two rules."""
        narrow = self.lineage.narrow.get(table) if narrowed else None
        steps = self.lineage.steps if narrow is None else self.lineage.steps & narrow
        rows = scan(self.root, self.snapshot, table, steps=steps, shard=self.shard, span=self.span)
        rows = rows if only is None else rows.filter(only)
        runs = self._runs.filter(pl.col("step").is_in(list(steps)))
        groups, wholes = runs.filter(pl.col("group_id") != WHOLE), runs.filter(pl.col("group_id") == WHOLE)
        live = pl.col("step").is_in([step for step in self.lineage.free if step in steps])
        if groups.height:
            mark = groups.lazy().with_columns(pl.lit(True).alias("_group"))
            rows = rows.join(mark, on=["step", "group_id", COMMIT], how="left", maintain_order="left")
            live |= pl.col("_group").fill_null(False)
        if wholes.height:
            mark = wholes.lazy().select("step", COMMIT, pl.lit(True).alias("_whole"))
            rows = rows.join(mark, on=["step", COMMIT], how="left", maintain_order="left")
            live |= pl.col("_whole").fill_null(False)
        return rows.filter(live)

    def _one_each(self, table: str, *, narrowed: bool = True, only: pl.Expr | None = None) -> pl.LazyFrame:
        """Highest revision, then one row for each id: the first for prompts, the last for all else."""
        rows, key = self._of_lineage(table, narrowed=narrowed, only=only), KEYS[table]
        if table == "responses":
            rows = rows.filter(pl.col("finish_reason").ne_missing("error"))
        ids = rows.select(key).collect()[key].hash()
        if ids.n_unique() == len(ids):  # nearly always: what follows takes as long as all the rest
            return rows
        if table == "annotations":
            rows = rows.filter(pl.col("revision") == pl.col("revision").max().over(key))
        return rows.unique(key, keep="first" if table == "prompts" else "last", maintain_order=True)

    @cached_property
    def errors(self) -> pl.DataFrame:
        """response_id, group_id, step, call_id of the live responses that are hidden because making them failed."""
        rows = self._of_lineage("responses").filter(pl.col("finish_reason") == "error")
        hidden = known(rows, "prompt_id", self.prompt_ids, null=False)
        return hidden.select("response_id", "group_id", "step", "call_id").collect()

    @cached_property
    def dropped(self) -> pl.DataFrame:
        """table, id, reason, step of every row that a drop hides from this view. People's rows beat steps'."""
        rows = self._of_lineage("drops").filter(pl.col("view").is_in(["main", self.name])).collect()
        by_people = pl.col("step").is_in(
            [step for step in self.lineage.free if self.snapshot.steps[step].kind == "labels"]
        )
        last = rows.with_columns(by_people.alias("_people")).sort("_people", COMMIT, maintain_order=True)
        last = last.unique(["table", "id"], keep="last", maintain_order=True)
        return last.filter(~pl.col("restore").fill_null(False)).select("table", "id", "reason", "step", "group_id")

    def undropped(self, table: str, *, narrowed: bool = True, only: pl.Expr | None = None) -> pl.LazyFrame:
        """The rows of a table before masks: all the rules but the last.

        Args:
            table: which.
            narrowed: whether `from` narrows them.
            only: see `annotations_where`.
        """
        ids = self.dropped.filter(pl.col("table") == table).select(pl.col("id").alias(KEYS[table]))
        rows = self._one_each(table, narrowed=narrowed, only=only)
        return rows if ids.is_empty() else rows.join(ids.lazy(), on=KEYS[table], how="anti", maintain_order="left")

    def _masked(self, table: str) -> pl.LazyFrame:
        if table == "prompts":
            return known(self.undropped(table), "prompt_id", self.prompt_ids, null=False)
        if table == "responses":
            return known(self.undropped(table), "response_id", self.response_ids, null=False)
        if table == "preferences":
            return mask_preferences(self.undropped(table), self._present["prompts"], self._present["responses"])
        if table == "token_scores":
            rows = known(self._of_lineage(table), "prompt_id", self.prompt_ids, null=True)
            return known(rows, "response_id", self.response_ids, null=False)
        return self._masked_annotations(self.undropped(table))

    def _masked_annotations(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        of = scan(self.root, self.snapshot, "annotations", shard=self.shard, span=self.span).select("target")
        targets = of.filter(pl.col("target").is_in(["annotation", "preference"])).unique().collect()["target"]
        preferences = self["preferences"].select("preference_id")
        about = preferences.collect() if "preference" in targets else preferences.clear().collect()
        return mask_annotations(rows, {**self._present, "preferences": about}, nested="annotation" in targets)

    @cached_property
    def _present(self) -> Mapping[str, pl.DataFrame]:
        """What lists may name: the ids in the view, and of a part of it those that its joint rows name elsewhere."""
        own = {"prompts": self.prompt_ids, "responses": self.response_ids}
        if self.shard is not None or self.span is not None:
            whole = View(self.root, self.snapshot, self.lineage, self.name)
            for table, named in self._named_by_joint_rows().items():
                foreign = named.join(own[table], on=named.columns, how="anti")
                if foreign.height:
                    there = whole.prompt_ids if table == "prompts" else whole.response_ids
                    own[table] = pl.concat([own[table], foreign.join(there, on=named.columns, how="semi")])
        return own

    def _named_by_joint_rows(self) -> dict[str, pl.DataFrame]:
        """The ids that rows of no one prompt name: their lists may reach into other groups."""
        annotations, preferences = (
            scan(self.root, self.snapshot, table, shard=self.shard, span=self.span)
            for table in ("annotations", "preferences")
        )
        judged = annotations.filter(pl.col("prompt_id").is_null() & pl.col("target").is_in(["response", "prompt"]))
        lists = judged.select("target", "target_ids").explode("target_ids").unique().collect()
        several = preferences.filter(pl.col("prompt_ids").is_not_null()).select("response_ids", "prompt_ids").collect()
        named = {
            table: lists.filter(pl.col("target") == target).select(pl.col("target_ids").alias(key))
            for table, target, key in (("prompts", "prompt", "prompt_id"), ("responses", "response", "response_id"))
        }
        ids = several.select(pl.col("response_ids").explode().alias("response_id"))
        named["responses"] = pl.concat([named["responses"], ids]).unique()
        return named

    @cached_property
    def prompt_ids(self) -> pl.DataFrame:
        """One column, prompt_id: the prompts in the view, those that `from` leaves out too.

        A dropped prompt hides what was derived from it.
        """
        links = self.undropped("prompts", narrowed=False).select(id="prompt_id", parent="parent_id").collect()
        return with_ancestors(links).rename({"id": "prompt_id"})

    @cached_property
    def response_ids(self) -> pl.DataFrame:
        """One column, response_id: the responses in the view, with their prompt and the prefix that they continue."""
        rows = known(self.undropped("responses"), "prompt_id", self.prompt_ids, null=False)
        links = rows.select(id="response_id", parent="prefix_id").collect()
        return with_ancestors(links).rename({"id": "response_id"})
