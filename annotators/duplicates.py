"""`judge.duplicates`: which prompts, responses or preferences are copies of one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from prefdata.errors import DataError
from prefdata.operators.evidence import matching
from prefdata.operators.vectors import VECTOR, read_vectors
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Scope, TableStep
from prefdata.schema import Row, make_id
from prefdata.similarity import Near, near_duplicates, near_vectors, normalised, shingle_sets

from .documents import Documents, Of, documents
from .measured import annotations_of

_THRESHOLDS = {"exact": 1.0, "near": 0.7, "embedding": 0.92}
_ALARM = 20


@step("judge.duplicates")
class Duplicates(TableStep):
    """Say of each prompt, response or preference which others it repeats. No model is asked.

    Two annotations for each: a `label`, the name of its cluster (the least id in it; of what repeats nothing its own),
    and, where the cluster has others, a `measure` under the aspect `ASPECT_similarity`: how like the most similar one
    is. `select.duplicates` keeps one of each cluster, `split` with `by: clusters` keeps clusters together.

    `exact`: equal texts. `near`: the Jaccard similarity of their word n-grams reaches the threshold; short texts are
    joined exactly, long ones by MinHash, whose candidates are measured. `embedding`: the cosine of vectors that
    `judge.vectors` made; it sees what texts are about, and takes an answer of 320 and one of 322 for the same.

    A cluster is what pairs connect: of a long chain the ends may have little in common, and the log says how large the
    largest cluster is.

    Texts are compared without case, punctuation and white space (`normalise: raw`: as they are). A preference is its
    prompt, its better and its worse response: the same two the other way round are no duplicate but a conflict
    (`judge.conflicts`). Pictures count: equal texts with other pictures are not alike. An empty text is abstained from.

    One conversation cut after different turns is several prompts that have little in common as wholes: before a split
    of conversations say `turns: first`.

    Source: the near-duplicate removal of datatrove (5-grams, 14 x 8 bands there); default sizes after measurements in
    this project: word 3-grams, and 25 x 5 bands, which finds what 14 x 8 misses, because candidates are verified.
    """

    scope: ClassVar[Scope] = "dataset"
    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "responses", "preferences", "annotations"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompts": ("messages", "condition", "context", "media"),
        "responses": ("prompt_id", "text", "media"),
        "preferences": ("prompt_id", "response_ids"),
        "annotations": (*("prompt_id", "aspect", "target", "target_ids", "protocol", "annotator", "status", "text"),),
    }

    of: Of = Field("prompts", description="What is compared with its like.")
    method: Literal["exact", "near", "embedding"] = Field("near", description="By what.")
    threshold: float | None = Field(
        None, gt=0, le=1, description="near: least Jaccard similarity, 0.7; embedding: least cosine, 0.92."
    )
    n: int = Field(3, ge=1, description="near: words of a shingle. Texts of fewer are alike only if they are equal.")
    normalise: Literal["words", "raw"] = Field("words", description="Compare words alone, or texts as they are.")
    turns: Literal["all", "first", "last"] = Field(
        "all", description="prompts: all turns, or the first or last one of the user."
    )
    within: Literal["prompt", "dataset"] = Field(
        "prompt", description="responses: compared with those to the same prompt, or with all."
    )
    join: Literal["auto", "exact", "minhash"] = Field("auto", description="near: how pairs are found.")
    bands: int = Field(25, ge=1, description="minhash: bands.")
    rows: int = Field(5, ge=1, description="minhash: rows in each band.")
    vectors: str = Field("*", description="embedding: whose vectors, as an annotator's name (`*`: any text).")
    aspect: str = Field("duplicates", min_length=1, description="The aspect that the labels stand under.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "exact" and self.threshold is not None:
            raise ValueError("threshold is of near and embedding: exact compares for equality")
        if self.method == "embedding" and self.of == "preferences":
            raise ValueError("method embedding compares prompts or responses: preferences have no vectors")
        return self

    def inputs(self) -> frozenset[str]:
        """The table compared, and the vectors or texts that belong to its rows."""
        tables = frozenset({"prompts", "responses", "preferences"} if self.of == "preferences" else {self.of})
        return tables | {"annotations"} if self.method == "embedding" else tables

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The labels, and how like the nearest one is."""
        within_prompt = self.of == "responses" and self.within == "prompt"
        by = f"rule:duplicates/{self.method}"
        if self.method == "embedding":
            said = self._vectors(tables)
            by = f"{min(said['annotator'].to_list(), default='embedding:nobody')}/duplicates"
            rows, near, valid = self._by_vectors(tables, said, within_prompt)
        else:
            found = documents(self.of, tables, self.turns, within_prompt=within_prompt)
            rows = found.rows
            near, valid = self._equal(found) if self.method == "exact" else self._alike(found)
        return {"annotations": self._said(rows, near, valid, by, context)}

    @property
    def _least(self) -> float:
        return _THRESHOLDS[self.method] if self.threshold is None else self.threshold

    def _alike(self, found: Documents) -> tuple[Near, np.ndarray[Any, np.dtype[np.bool_]]]:
        sets = shingle_sets(
            found.texts,
            self.n,
            form=self.normalise,
            documents=found.owners,
            sides=found.sides,
            count=found.rows.height,
        )
        try:
            near = near_duplicates(sets, self._least, join=self.join, bands=self.bands, rows=self.rows)
        except ValueError as error:
            raise DataError(f"{self.kind}: {error}") from error
        return near, sets.sizes > 0

    def _equal(self, found: Documents) -> tuple[Near, np.ndarray[Any, np.dtype[np.bool_]]]:
        texts = normalised(found.texts, self.normalise)
        said = (texts != "").to_numpy()
        pieces = pl.DataFrame({"owner": found.owners, "text": texts, "side": found.sides}).filter(pl.Series(said))
        whole = pieces.group_by("owner", maintain_order=True).agg("text", "side")
        first = whole.select(pl.col("owner").min().over("text", "side")).to_series().to_numpy()
        same = np.arange(found.rows.height)
        same[whole["owner"].to_numpy()] = first
        valid = np.zeros(found.rows.height, dtype=bool)
        valid[whole["owner"].to_numpy()] = True
        nothing = np.zeros(0, dtype=np.int64)
        return Near(same, nothing, nothing, np.zeros(0), "exact"), valid

    def _vectors(self, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The annotations that hold the vectors of what is compared."""
        target = self.of.removesuffix("s")
        said = tables["annotations"].filter((pl.col("target") == target) & (pl.col("aspect") == VECTOR))
        said = said.filter(pl.col("annotator").is_in(matching(said["annotator"].unique(), [self.vectors])))
        if said.is_empty() and not tables[self.of].is_empty():
            raise DataError(
                f"{self.kind}: no {target} has a vector by {self.vectors!r}; put judge.vectors with of: {self.of} "
                "before it"
            )
        return said

    def _by_vectors(
        self, tables: Mapping[str, pl.DataFrame], said: pl.DataFrame, within_prompt: bool
    ) -> tuple[pl.DataFrame, Near, np.ndarray[Any, np.dtype[np.bool_]]]:
        rows = tables[self.of].select(pl.col(f"{self.of.removesuffix('s')}_id").alias("id"), "group_id", "prompt_id")
        if self.of == "prompts":
            rows = rows.filter(pl.col("id") == pl.col("group_id"))
        ids, vectors = read_vectors(said, f"{self.kind} with method embedding")
        places = pl.DataFrame({"id": ids, "vector": np.arange(len(ids))}, schema={"id": pl.String, "vector": pl.Int64})
        rows = rows.join(places, on="id", how="left")
        rows = rows.sort("id")
        valid = rows["vector"].is_not_null().to_numpy()
        place = np.flatnonzero(valid)
        own = vectors[rows["vector"].drop_nulls().to_numpy()] if len(place) else vectors
        groups = [np.arange(len(place))]
        if within_prompt:
            names = rows["prompt_id"].fill_null("").to_numpy()[place]
            order = np.argsort(names, kind="stable")
            groups = np.split(order, np.flatnonzero(names[order][1:] != names[order][:-1]) + 1)
        same, pairs = np.arange(rows.height), []
        for group in groups:
            near = near_vectors(own[group], self._least)
            at = place[group]
            same[at] = at[near.same]
            pairs.append((at[near.left], at[near.right], near.similarity))
        left, right, similarity = (np.concatenate([pair[number] for pair in pairs]) for number in range(3))
        return rows.drop("vector"), Near(same, left, right, similarity, "cosine"), valid

    def _said(
        self, rows: pl.DataFrame, near: Near, valid: np.ndarray[Any, np.dtype[np.bool_]], by: str, context: Context
    ) -> pl.DataFrame:
        clusters, ids = near.clusters(), rows["id"].to_list()
        names = clusters.names(ids)
        members: dict[str, list[str]] = {}
        for name, one in zip(names, ids, strict=True):
            members.setdefault(name, []).append(one)
        # A label may change under the same id when a text joins a cluster: the id names all of the cluster.
        read = {name: make_id("cluster", sorted(listed)) for name, listed in members.items()}
        nearest = pl.Series(near.nearest()).fill_nan(None)
        self._tell(members, int(valid.sum()), context)
        said: dict[str, Any] = {
            "target": self.of[:-1],
            "annotator": by,
            "source": "embedding" if self.method == "embedding" else "rule",
            "key": [self.version, self.resolved() | {"view": None}],
        }
        whole = rows.with_columns(
            pl.Series("cluster", names, dtype=pl.String),
            pl.Series("read", [read[name] for name in names], dtype=pl.String),
            nearest.alias("score"),
        )
        label = pl.when(pl.Series(valid)).then(pl.concat_list("cluster"))
        labels = whole.select("id", "group_id", "prompt_id", "read", labels=label)
        alike = whole.filter(pl.Series(clusters.sizes > 1) & pl.col("score").is_not_null()).with_columns(
            read=pl.concat_str("read", pl.col("score").cast(pl.String), separator=" ")
        )
        measured = alike.select("id", "group_id", "prompt_id", "read", "score")
        return pl.concat(
            [
                annotations_of(labels, protocol="label", aspect=self.aspect, **said),
                annotations_of(measured, protocol="measure", aspect=f"{self.aspect}_similarity", **said),
            ]
        )

    def _tell(self, members: Mapping[str, Sequence[str]], count: int, context: Context) -> None:
        several = sorted((listed for listed in members.values() if len(listed) > 1), key=lambda one: (-len(one), one))
        repeated = sum(map(len, several)) - len(several)
        largest = f", of which the largest holds {len(several[0])}" if several else ""
        context.log(f"{repeated} of {count} {self.of} repeat another one, in {len(several)} clusters{largest}")
        if several and len(several[0]) >= _ALARM and len(several[0]) * 100 > count:
            context.log(
                f"one cluster holds {len(several[0])} of {count} {self.of} ({min(several[0])} is one): look at it "
                "before they are dropped, for a chain of like texts may join unlike ones"
            )
