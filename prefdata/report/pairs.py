"""The pairs that a dataset's preferences state: how long both sides are, whose they are, and those at the extremes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from prefdata.operators.evidence import pairs_within
from prefdata.render import render, transcript
from prefdata.report.numbers import Entry, quantiles, share
from prefdata.report.verdicts import MOST_PAIRS, TIE, Verdicts

EXAMPLES = 3
"""Of each kind."""

MOST_CHARACTERS = 2000
"""Longer texts are cut in examples."""

MOST_VERDICTS = 12

_SCHEMA = pl.Schema(
    {
        "preference_id": pl.String,
        "prompt_id": pl.String,
        "aspect": pl.String,
        "a": pl.String,
        "b": pl.String,
        "gap": pl.Float64,
        "tie": pl.Boolean,
    }
)


def expanded(view: Mapping[str, pl.LazyFrame], notes: list[str]) -> pl.DataFrame:
    """Every two ranked responses of every live list, a the better one.

    Returns:
        preference_id, prompt_id, aspect, a, b, gap (difference of their scores, at least 0; null where an edge states
        the order and scores do not), tie. Unpaired preferences and responses that are not ranked give none.
    """
    columns = ["preference_id", "prompt_id", "aspect", "response_ids", "scores", "roles", "edges", "kind"]
    rows = view["preferences"].select(columns).filter(pl.col("kind").ne_missing("unpaired")).sort("preference_id")
    lists = _within_bounds(rows.collect(), notes)
    return pl.concat([_from_scores(lists.filter(pl.col("edges").is_null())), _from_edges(lists)])


def _within_bounds(lists: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    size = pl.col("response_ids").list.len().cast(pl.Int64)
    running = lists.select((size * (size - 1) // 2).cum_sum()).to_series()
    if not len(running) or running[-1] <= MOST_PAIRS:
        return lists
    kept = lists.filter(running <= MOST_PAIRS)
    notes.append(
        f"The {lists.height:,} lists state more than {MOST_PAIRS:,} pairs; those of {kept.height:,} are counted."
    )
    return kept


def _from_scores(lists: pl.DataFrame) -> pl.DataFrame:
    entries = (
        lists.select("preference_id", "prompt_id", "aspect", "response_ids", "scores", "roles")
        .with_row_index("list")
        .with_columns(pl.coalesce("roles", pl.lit("ranked").repeat_by(pl.col("response_ids").list.len())))
        .with_columns(pl.coalesce("scores", pl.lit(None, pl.Float64).repeat_by(pl.col("response_ids").list.len())))
        .explode("response_ids", "scores", "roles")
        .filter((pl.col("roles") == "ranked") & pl.col("scores").is_not_null())
        .sort("list", "scores", descending=[False, True], maintain_order=True)
    )
    if entries.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    sizes = np.bincount(entries["list"].to_numpy()).astype(np.int64)
    i, j = pairs_within(sizes)
    gap = (entries["scores"].gather(i) - entries["scores"].gather(j)).alias("gap")
    return entries.select("preference_id", "prompt_id", "aspect", pl.col("response_ids").alias("a"))[i].with_columns(
        entries["response_ids"].gather(j).alias("b"), gap, (gap < TIE).alias("tie")
    )


def _from_edges(lists: pl.DataFrame) -> pl.DataFrame:
    stated = lists.filter(pl.col("edges").is_not_null()).explode("edges").filter(pl.col("edges").is_not_null())
    edge = pl.col("edges").struct
    # Where most votes are against the order, the better side is the one they are for, as in an export of pairs.
    turned = edge.field("p").fill_null(1.0) < 0.5
    sides = [
        pl.when(turned).then(edge.field(other)).otherwise(edge.field(side))
        for side, other in (("winner", "loser"), ("loser", "winner"))
    ]
    scores = [pl.col("scores").list.get(edge.field(side), null_on_oob=True) for side in ("winner", "loser")]
    return stated.select(
        "preference_id",
        "prompt_id",
        "aspect",
        a=pl.col("response_ids").list.get(sides[0]),
        b=pl.col("response_ids").list.get(sides[1]),
        gap=(scores[0] - scores[1]).abs(),
        tie=edge.field("p").fill_null(1.0).sub(0.5).abs() < TIE,
    ).cast(_SCHEMA)


def pair_facts(pairs: pl.DataFrame, verdicts: Verdicts, view: Mapping[str, pl.LazyFrame]) -> Entry:
    """Length and origin of the two sides of the pairs.

    Returns:
        n, ties, longer_chosen (share of the pairs of unequal length whose chosen response is the longer one), chosen
        and rejected (quantiles of characters), ratio (of chosen to rejected), gap, models (model, chosen, rejected).
    """
    models = view["responses"].select("response_id", "model").collect()
    sides = models.join(verdicts.lengths, on="response_id", how="left")
    strict = pairs.filter(~pl.col("tie"))
    for side in ("a", "b"):
        named = sides.select(pl.col("response_id").alias(side), pl.all().exclude("response_id").name.suffix(f"_{side}"))
        strict = strict.join(named, on=side, how="left", maintain_order="left")
    measured = strict.drop_nulls(["length_a", "length_b"])
    unequal = measured.filter(pl.col("length_a") != pl.col("length_b"))
    ratio = measured.filter((pl.col("length_a") > 0) & (pl.col("length_b") > 0))
    won = strict.group_by(model="model_a").agg(chosen=pl.len())
    lost = strict.group_by(model="model_b").agg(rejected=pl.len())
    table = won.join(lost, on="model", how="full", coalesce=True, nulls_equal=True).fill_null(0)
    return {
        "n": strict.height,
        "ties": pairs.height - strict.height,
        "longer_chosen": share(unequal.filter(pl.col("length_a") > pl.col("length_b")).height, unequal.height),
        "chosen": quantiles(measured["length_a"]),
        "rejected": quantiles(measured["length_b"]),
        "ratio": quantiles(ratio["length_a"] / ratio["length_b"]),
        "gap": quantiles(strict["gap"].drop_nulls()),
        "models": table.sort(["chosen", "model"], descending=[True, False], nulls_last=True).head(30).to_dicts(),
    }


def examples(
    pairs: pl.DataFrame,
    verdicts: Verdicts,
    view: Mapping[str, pl.LazyFrame],
    extremes: Sequence[tuple[str, pl.DataFrame]] = (),
) -> list[Entry]:
    """Pairs at the extremes: largest and smallest gaps, ties, and pairs on which annotators disagree most.

    Without preferences the annotators' verdicts stand in: the pairs with the most votes for one side, and those that
    all call a tie. `extremes` are further kinds: see `hardness`. Each kind gives at most EXAMPLES pairs, of different
    prompts where there are enough.

    Returns:
        kind (largest_gap, smallest_gap, tie, disagreement, hardest, displaced), aspect, prompt, first, second
        (response_id, model, text, score; the better one first), gap, verdicts (annotator, says).
    """
    judged = verdicts.by_annotator
    pair = ["aspect", "prompt_id", "first", "second"]
    votes = (
        judged.filter(pl.col("source") != "consensus")
        .group_by(pair)
        .agg(
            up=(pl.col("verdict") > 0).sum().cast(pl.Int64),
            down=(pl.col("verdict") < 0).sum().cast(pl.Int64),
            even=(pl.col("verdict") == 0).sum().cast(pl.Int64),
        )
    )
    chosen = _extremes(pairs) if len(pairs) else _unanimous(votes)
    split = votes.with_columns(less=pl.min_horizontal("up", "down"), more=pl.max_horizontal("up", "down"))
    split = split.filter(pl.col("less") > 0).sort(
        ["less", "more", *pair], descending=[True, True, *(False for _ in pair)]
    )
    chosen.append(("disagreement", _sides(_spread(split))))
    chosen += extremes
    wanted = [(kind, row) for kind, frame in chosen for row in frame.to_dicts()]
    return _with_texts(wanted, judged, view)


def _extremes(pairs: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    strict = pairs.filter(~pl.col("tie") & pl.col("gap").is_not_null())
    order = ["gap", "preference_id", "a", "b"]
    return [
        ("largest_gap", _spread(strict.sort(order, descending=[True, False, False, False]))),
        ("smallest_gap", _spread(strict.sort(order))),
        ("tie", _spread(pairs.filter("tie").sort(order[1:]))),
    ]


def _unanimous(votes: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    pair = ["aspect", "prompt_id", "first", "second"]
    total = votes.with_columns(n=pl.sum_horizontal("up", "down", "even")).sort(
        ["n", *pair], descending=[True, *(False for _ in pair)]
    )
    agreed = total.filter((pl.col("even") == 0) & ((pl.col("up") == 0) | (pl.col("down") == 0)))
    tied = total.filter((pl.col("up") == 0) & (pl.col("down") == 0))
    return [("largest_gap", _sides(_spread(agreed))), ("tie", _sides(_spread(tied)))]


def _sides(votes: pl.DataFrame) -> pl.DataFrame:
    """The side with more votes as a. There is no gap: votes are no scores."""
    up = pl.col("up") >= pl.col("down")
    return votes.select(
        "prompt_id",
        "aspect",
        a=pl.when(up).then("first").otherwise("second"),
        b=pl.when(up).then("second").otherwise("first"),
        gap=pl.lit(None, pl.Float64),
    )


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """The first EXAMPLES rows, one of each prompt where there are enough prompts."""
    firsts = rows.unique("prompt_id", keep="first", maintain_order=True).head(EXAMPLES)
    return firsts if firsts.height == EXAMPLES else rows.head(EXAMPLES)


def _with_texts(
    wanted: list[tuple[str, dict[str, Any]]], judged: pl.DataFrame, view: Mapping[str, pl.LazyFrame]
) -> list[Entry]:
    response_ids = {row[side] for _, row in wanted for side in ("a", "b")}
    prompt_ids = {row["prompt_id"] for _, row in wanted}
    columns = ["response_id", "prompt_id", "model", "text"]
    found = view["responses"].select(columns).filter(pl.col("response_id").is_in(list(response_ids))).collect()
    responses = {row["response_id"]: row for row in found.to_dicts()}
    prompt_ids |= {row["prompt_id"] for row in responses.values()}  # a joint pair has no prompt of its own
    columns = ["prompt_id", "messages", "condition", "context"]
    asked = view["prompts"].select(columns).filter(pl.col("prompt_id").is_in([i for i in prompt_ids if i])).collect()
    prompts = {row["prompt_id"]: _prompt_text(row) for row in asked.to_dicts()}
    made = []
    for kind, row in wanted:
        sides = [responses.get(row[side]) for side in ("a", "b")]
        prompt_id = row["prompt_id"] or (sides[0] or {}).get("prompt_id")
        made.append(
            {
                "kind": kind,
                "aspect": row["aspect"],
                "gap": row["gap"],
                "prompt": _cut(prompts.get(prompt_id)),
                "first": _side(row["a"], sides[0]),
                "second": _side(row["b"], sides[1]),
                "verdicts": _says(judged, row),
            }
        )
    return made


def _prompt_text(row: dict[str, Any]) -> str:
    turns = [{**turn, "content": turn["content"] or turn["tool_calls"] or ""} for turn in row["messages"] or []]
    return transcript(render({**row, "messages": turns}))


def _side(response_id: str, row: dict[str, Any] | None) -> Entry:
    known = row or {}
    return {"response_id": response_id, "model": known.get("model"), "text": _cut(known.get("text"))}


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " […]"


def _says(judged: pl.DataFrame, row: dict[str, Any]) -> list[Entry]:
    """What each annotator says about this pair, in any aspect: first, second or tie."""
    a, b = row["a"], row["b"]
    low, high = min(a, b), max(a, b)
    here = judged.filter(
        (pl.col("first") == low) & (pl.col("second") == high) & pl.col("prompt_id").eq_missing(row["prompt_id"])
    )
    turn = 1 if a == low else -1
    words = {1: "first", -1: "second", 0: "tie"}
    said = here.sort("annotator", "aspect").head(MOST_VERDICTS)
    return [
        {"annotator": entry["annotator"], "aspect": entry["aspect"], "says": words[entry["verdict"] * turn]}
        for entry in said.to_dicts()
    ]
