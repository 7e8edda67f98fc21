"""What goes with what: all rows that were derived from some rows, or are about them, to any depth."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from prefdata.dataset.dataset import Dataset
from prefdata.dataset.erased import EDGES, Erased, edge, tombstone
from prefdata.errors import DataError
from prefdata.schema import KEYS

Kind = Literal["user", "annotator", "prompt"]

_NAMED = ("prompts", "responses", "annotations", "preferences")


@dataclass(frozen=True)
class Target:
    """Who or what is to be erased.

    Attributes:
        kind: a user (of whom prompts are), an annotator, or one prompt.
        name: user_id, annotator, or prompt_id; matched exactly.
    """

    kind: Kind
    name: str

    def seeds(self, table: str) -> pl.Expr | None:
        """The rows of a table that this names itself; None where it names none of that table."""
        columns = {
            "user": {"prompts": "user_id", "criteria": "owner"},
            "annotator": {
                "annotations": "annotator",
                "preferences": "annotator",
                "annotators": "annotator",
                "criteria": "owner",
            },
            "prompt": {"prompts": "prompt_id"},
        }[self.kind]
        if self.kind == "annotator" and self.name.startswith("human:"):
            columns |= {"responses": "model", "prompts": "user_id"}  # what a person wrote: edits, prompts in the arena
        return pl.col(columns[table]).eq_missing(self.name) if table in columns else None


@dataclass(frozen=True)
class Closure:
    """All that goes.

    Attributes:
        erased: whole groups, and the ids of single rows: what the tombstones will say.
        calls: ids of the model calls whose texts go; their cost stays.
        wide: `erased`, with the ids of the rows in whole groups, too: what a row of another group may be about.
    """

    erased: Erased
    calls: frozenset[str]
    wide: Erased


@dataclass
class _Growing:
    """A closure in the making.

    Attributes:
        groups: that go whole.
        ids: by table, of rows that go outside these groups.
        gone: ids of everything that goes, in whole groups too.
        touched: groups of the rows in `ids`.
    """

    groups: set[str] = field(default_factory=set)
    ids: dict[str, set[str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)

    def add(self, table: str, rows: pl.DataFrame) -> set[str]:
        """Take rows (id, group_id) in; return the ids that are new."""
        new = set()
        for row_id, group_id in rows.select("id", "group_id").iter_rows():
            if row_id not in self.gone:
                new.add(row_id)
                if group_id is not None:
                    self.touched.add(group_id)
        self.gone |= new
        if new:
            self.ids.setdefault(table, set()).update(new)
        return new


def closure(dataset: Dataset, target: Target) -> Closure:
    """Find all rows, live or not, that go when somebody or something is erased.

    A root prompt takes its group with it; a derived one what was derived from it and all that is about these. An
    annotator takes what it said with it, what is about that, preferences of its own, those whose rationale it wrote,
    those on which its numbers or votes are laid down, and the consensus and preferences that rest on nothing else.

    Raises:
        DataError: nothing is so called; names what is nearest.
    """
    growing = _Growing()
    frontier = _seeds(dataset, target, growing)
    while frontier:
        of = pl.LazyFrame({"of": sorted(frontier)}, schema={"of": pl.String})
        frontier = set()
        for table in _NAMED:
            for name in EDGES[table]:
                rows = _named(dataset, table, edge(name).alias("of"))
                if isinstance(rows.collect_schema()["of"], pl.List):
                    rows = rows.explode("of")
                frontier |= growing.add(table, _collect(rows.join(of, on="of", how="semi").unique("id")))
        frontier |= growing.add("preferences", _resting_on(dataset, growing.ids.get("annotations", ())))
        frontier |= growing.add("annotations", _only_theirs(dataset, growing))
    ids = {table: frozenset(str(tombstone(table, one)) for one in found) for table, found in growing.ids.items()}
    groups = frozenset(growing.groups)
    wide = Erased(groups, {**ids, "": frozenset(growing.gone)})
    return Closure(Erased(groups, ids), frozenset(_calls(dataset, growing)), wide)


def _seeds(dataset: Dataset, target: Target, growing: _Growing) -> set[str]:
    """What the target names itself; whole groups where that is a root prompt."""
    frontier: set[str] = set()
    found = False
    for table in (*_NAMED, "criteria", "annotators"):
        named = target.seeds(table)
        if named is None:
            continue
        rows = dataset.rows(table).filter(named)
        key = pl.col(KEYS[table]).alias("id")
        if table == "prompts":
            root = pl.col("parent_id").is_null() | (pl.col("prompt_id") == pl.col("group_id"))
            seeds = _collect(rows.select(key, "group_id", root=root).unique("id"))
            growing.groups |= set(seeds.filter("root")["group_id"])
            seeds = seeds.filter(~pl.col("group_id").is_in(sorted(growing.groups)))
            found |= bool(growing.groups)
        else:
            group = pl.col("group_id") if table in _NAMED else pl.lit(None, pl.String)
            seeds = _collect(rows.select(key, group.alias("group_id")).unique("id"))
        found |= not seeds.is_empty()
        frontier |= growing.add(table, seeds)
    if not found:
        raise DataError(_nobody(dataset, target))
    if growing.groups:
        whole = pl.LazyFrame({"group_id": sorted(growing.groups)})
        for table in _NAMED:
            inside = _collect(_named(dataset, table).join(whole, on="group_id", how="semi").select("id").unique())
            frontier |= set(inside["id"])
        growing.gone |= frontier
    if target.kind == "annotator":
        frontier.add(target.name)  # what is about this annotator names it so
    return frontier


def _named(dataset: Dataset, table: str, *more: pl.Expr) -> pl.LazyFrame:
    return dataset.rows(table).select(pl.col(KEYS[table]).alias("id"), "group_id", *more)


def _collect(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.collect(engine="streaming")


def _resting_on(dataset: Dataset, gone: Collection[str]) -> pl.DataFrame:
    """Preferences that rest on annotations, all of which go, and those that lay down what one of them said.

    A number among `values` may be one annotator's own word, and so may a share of few votes.
    """
    rests_on = pl.col("annotation_ids")
    voted = pl.col("edges").list.eval(pl.element().struct.field("votes").is_not_null()).list.any()
    laid = pl.col("values").is_not_null() | voted.fill_null(False)
    rows = _named(dataset, "preferences", rests_on, laid.alias("laid")).filter(rests_on.list.len() > 0)
    if not gone:
        return rows.head(0).collect()
    every = pl.element().is_in(pl.Series(sorted(gone), dtype=pl.String).implode())
    goes = rests_on.list.eval(every)
    return _collect(rows.filter(goes.list.all() | (pl.col("laid") & goes.list.any())).drop("laid"))


def _only_theirs(dataset: Dataset, growing: _Growing) -> pl.DataFrame:
    """Consensus of groups, under aspects, about which nobody who stays has said anything."""
    touched = pl.LazyFrame({"group_id": sorted(growing.touched)}, schema={"group_id": pl.String})
    rows = _named(dataset, "annotations", pl.col("aspect"), pl.col("source"))
    rows = rows.join(touched, on="group_id", how="semi")
    gone = pl.LazyFrame({"id": sorted(growing.gone)}, schema={"id": pl.String})
    staying = rows.filter(pl.col("source") != "consensus").join(gone, on="id", how="anti")
    made = rows.filter(pl.col("source") == "consensus").unique("id")
    return _collect(made.join(staying, on=["group_id", "aspect"], how="anti"))


def _calls(dataset: Dataset, growing: _Growing) -> set[str]:
    """The calls that were made for what goes.

    Those that a row names; those of a whole group; and, in groups of which only some rows go, those of the same steps
    that no remaining row names: an answer that was asked for again at once is named by none.
    """
    made = pl.concat(
        dataset.rows(table)
        .filter(pl.col("call_id").is_not_null())
        .select(pl.col(KEYS[table]).alias("id"), "group_id", "step", "call_id")
        for table in ("responses", "annotations")
    )
    concerned = pl.LazyFrame({"group_id": sorted(growing.groups | growing.touched)}, schema={"group_id": pl.String})
    rows = _collect(made.join(concerned, on="group_id", how="semi"))
    goes = pl.col("group_id").is_in(sorted(growing.groups)) | pl.col("id").is_in(
        pl.Series(sorted(growing.gone), dtype=pl.String).implode()
    )
    going, staying = rows.filter(goes), rows.filter(~goes)
    called = _collect(
        dataset.rows("calls").select("call_id", "group_id", "step").join(concerned, on="group_id", how="semi")
    )
    whole = called.filter(pl.col("group_id").is_in(sorted(growing.groups)))
    loose = called.filter(pl.col("step").is_in(going["step"].unique().to_list())).join(
        staying, on="call_id", how="anti"
    )
    return {*going["call_id"], *whole["call_id"], *loose["call_id"]}


def _nobody(dataset: Dataset, target: Target) -> str:
    columns: Mapping[Kind, tuple[tuple[str, str], ...]] = {
        "user": (("prompts", "user_id"),),
        "annotator": (("annotations", "annotator"), ("annotators", "annotator")),
        "prompt": (("prompts", "prompt_id"),),
    }
    known: set[str] = set()
    for table, column in columns[target.kind]:
        known |= set(_collect(dataset.rows(table).select(column).drop_nulls().unique()).to_series())
    near = difflib.get_close_matches(target.name, sorted(known), n=3, cutoff=0.5)
    what = {"user": "no prompt of a user", "annotator": "no annotator", "prompt": "no prompt"}[target.kind]
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    if not known:
        hint = {"user": ": no prompt has a user_id", "annotator": ": nobody annotated", "prompt": ": it has none"}[
            target.kind
        ]
    return f"{dataset.path} has {what} {target.name!r}{hint}"
