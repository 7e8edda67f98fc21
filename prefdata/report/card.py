"""The numbers that a dataset's card states. Each share carries its counts: whoever has the rows can check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.report.agreement import referred
from prefdata.report.decided import Decided
from prefdata.report.numbers import Entry, histogram, quantiles, share
from prefdata.report.probes import REFUSAL
from prefdata.report.verdicts import TIE, Verdicts

MOST_ROWS = 30

_OPENING = 80
"""Characters that show how a response begins."""

_Tables = Mapping[str, pl.LazyFrame]


def card(view: _Tables, verdicts: Verdicts, pairs: pl.DataFrame, found: Decided, members: Sequence[str]) -> Entry:
    """The statistics of the live rows.

    Args:
        view: the live tables.
        verdicts: see `verdicts_of`.
        pairs: see `prefdata.report.pairs.expanded`.
        found: see `decided`.
        members: the reference annotators.

    Returns:
        prompts, groups, responses, annotations, annotators, rows_per_annotator (quantiles), turns (value, n: how many
        turns of the user a prompt has), languages (label, n; None where no step labels them), refusals ({opening: share
        of the responses that begin like one, in English; labelled: share of those labelled so, or None}), basis (of
        the pairs), pairs, ties (a share of the verdicts), longer_chosen (a share), margins (a histogram of the gaps;
        None without scores), couples ({a, b, n}: models whose responses meet in pairs), sources (source, prompts,
        pairs; judge, and its accuracy, a share, where a reference and another annotator share pairs).
    """
    annotations = verdicts.annotations
    each = annotations.drop_nulls("annotator").group_by("annotator").len()
    stated = verdicts.stated.filter(pl.col("source") != "consensus")
    gaps = pairs.filter(~pl.col("tie"))["gap"].drop_nulls() if pairs.height else pl.Series([], dtype=pl.Float64)
    rows = _measured(view, verdicts, found)
    unequal = rows.filter(pl.col("length_a") != pl.col("length_b"))
    asked = view["prompts"].select("prompt_id", "group_id", "source", turns=_user_turns()).collect()
    return {
        "prompts": asked["prompt_id"].n_unique(),
        "groups": asked["group_id"].n_unique(),
        "responses": verdicts.lengths.height,
        "annotations": annotations.height,
        "annotators": each.height,
        "rows_per_annotator": quantiles(each["len"].to_numpy()),
        "turns": histogram(asked["turns"].to_numpy()) if asked.height else None,
        "languages": _labelled(annotations, "language"),
        "refusals": _refusals(view, annotations),
        "basis": found.basis,
        "pairs": found.rows.height,
        "ties": share(int(((stated["p"] - 0.5).abs() < TIE).sum()), stated.height),
        "longer_chosen": share(unequal.filter(pl.col("length_a") > pl.col("length_b")).height, unequal.height),
        "margins": histogram(gaps.to_numpy()) if len(gaps) else None,
        "couples": _couples(rows),
        "sources": _sources(asked, found, verdicts, members),
    }


def _user_turns() -> pl.Expr:
    user = pl.col("messages").list.eval(pl.element().struct.field("role") == "user")
    return user.list.sum().fill_null(0).cast(pl.Int64)


def _labelled(annotations: pl.DataFrame, aspect: str) -> list[Entry] | None:
    rows = annotations.filter(
        (pl.col("aspect") == aspect) & (pl.col("status") == "ok") & pl.col("labels").is_not_null()
    )
    if rows.is_empty():
        return None
    counts = rows.explode("labels").drop_nulls("labels").group_by(label="labels").agg(n=pl.len())
    return counts.sort(["n", "label"], descending=[True, False]).head(MOST_ROWS).to_dicts()


def _refusals(view: _Tables, annotations: pl.DataFrame) -> Entry:
    begins = view["responses"].select(text=pl.col("text").str.slice(0, _OPENING)).drop_nulls().collect()["text"]
    hits = sum(n for one, n in begins.value_counts().iter_rows() if REFUSAL.match(one))
    rows = annotations.filter(
        (pl.col("aspect") == "refusal") & (pl.col("status") == "ok") & pl.col("labels").is_not_null()
    )
    rows = rows.filter(pl.col("target") == "response")
    said = rows.filter(pl.col("labels").list.contains("refusal"))
    return {
        "opening": share(hits, len(begins)),
        "labelled": share(said.height, rows.height) if rows.height else None,
    }


def _measured(view: _Tables, verdicts: Verdicts, found: Decided) -> pl.DataFrame:
    """The pairs with lengths and models of both sides."""
    models = view["responses"].select("response_id", "model").collect()
    sides = models.join(verdicts.lengths, on="response_id", how="left", maintain_order="left")
    rows = found.rows
    for side in ("a", "b"):
        named = sides.select(pl.col("response_id").alias(side), pl.all().exclude("response_id").name.suffix(f"_{side}"))
        rows = rows.join(named, on=side, how="left", maintain_order="left")
    return rows


def _couples(rows: pl.DataFrame) -> list[Entry]:
    both = rows.select(
        a=pl.min_horizontal("model_a", "model_b"), b=pl.max_horizontal("model_a", "model_b")
    ).drop_nulls()
    counts = both.group_by("a", "b").agg(n=pl.len()).sort(["n", "a", "b"], descending=[True, False, False])
    return counts.head(MOST_ROWS).to_dicts()


def _sources(asked: pl.DataFrame, found: Decided, verdicts: Verdicts, members: Sequence[str]) -> list[Entry]:
    """By the prompts' source: how many pairs, and how often the most active other annotator is right."""
    of = asked.select("prompt_id", "source").unique("prompt_id", keep="first", maintain_order=True)
    counts = of.group_by("source").agg(prompts=pl.len())
    pairs = found.rows.join(of, on="prompt_id", how="left").group_by("source").agg(pairs=pl.len())
    judge, right = _judged(verdicts, members)
    told: dict[Any, Entry] = {}
    if judge is not None:
        by = right.join(of, on="prompt_id", how="left").group_by("source").agg(n=pl.len(), right=pl.col("right").sum())
        told = {source: share(hits, n) for source, n, hits in by.iter_rows()}
    merged = counts.join(pairs, on="source", how="left", nulls_equal=True)
    merged = merged.sort(["prompts", "source"], descending=[True, False], nulls_last=True).head(MOST_ROWS)
    return [
        {"source": source, "prompts": n, "pairs": of_pairs or 0, "judge": judge, "accuracy": told.get(source)}
        for source, n, of_pairs in merged.iter_rows()
    ]


def _judged(verdicts: Verdicts, members: Sequence[str]) -> tuple[str | None, pl.DataFrame]:
    """The annotator that shares most pairs with the reference: its name, and its credit on each (a tie: half)."""
    _, rows = referred(verdicts.by_annotator, list(members))
    rows = rows.filter((pl.col("truth") != 0) & ~pl.col("member") & (pl.col("source") != "consensus"))
    if not members or rows.is_empty():
        return None, rows
    most = rows.group_by("annotator").len().sort(["len", "annotator"], descending=[True, False])["annotator"][0]
    credit = (pl.col("verdict").cast(pl.Float64) * pl.col("truth") + 1) / 2
    return str(most), rows.filter(pl.col("annotator") == most).select("prompt_id", right=credit)
