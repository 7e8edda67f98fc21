"""Cycles: A over B, B over C, C over A. How many there are, and whether noise alone would make as many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.report.annotators import MOST_ANNOTATORS
from prefdata.report.numbers import Entry, share
from prefdata.report.verdicts import Verdicts

MOST_RESPONSES = 400
"""Of a prompt with more responses the triads are not counted: their number grows with the third power."""

_AT_ONCE = 4_000_000
"""Cells of tables that are multiplied at once."""

Array = NDArray[np.float64]


MOST_TESTED = 60
"""So many prompts, those with the most verdicts, and sources of prompts are tested for cycles beyond noise."""

ALL = "all prompts"

FEWEST = 20
"""Of fewer verdicts a test says nothing."""

_DRAWS = 199


def cycles(view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, members: Sequence[str]) -> Entry:
    """Cyclic triads within prompts, of each annotator and of the majority; and HodgeRank, which counts noise in.

    A triad is three responses of one prompt of which every two are in an order. Of random orders a quarter are cyclic;
    a list of scores or ranks has none by itself.

    Returns:
        by: {name, source, aspect, triads (a share: cyclic of all), prompts}, the most triads first. None where no
            annotator has ordered three responses pair by pair.
        majority: {aspect, triads, prompts, annotators}: of the majority of all annotators but consensus. None likewise.
        left_out: prompts with more than MOST_RESPONSES responses.
        flow: what no order explains of the verdicts of people (where there is a reference) or of all but consensus:
            {aspect, of (models, by all prompts and by each source of them; responses, by prompt), tested, significant
            (p-values below 0.05), by: {name, n, cyclicity, p_value}, the least p-value first}. None where there is too
            little to test. Ties vary less than votes, so that p-values are rather too high.
    """
    said = verdicts.by_annotator.filter(pl.col("verdict") != 0)
    compared = verdicts.stated.filter(pl.col("protocol") == "compare").select("annotator", "source", "aspect").unique()
    pairwise = said.join(compared, on=["annotator", "source", "aspect"], how="semi")
    votes = said.filter(pl.col("source") != "consensus")
    unit = ["aspect", "prompt_id", "first", "second"]
    total = votes.group_by(unit).agg(sum=pl.col("verdict").cast(pl.Int64).sum(), who=pl.col("annotator").n_unique())
    majority = total.filter(pl.col("sum") != 0).with_columns(verdict=pl.col("sum").sign())
    own, left = counted(pairwise, ["annotator", "source", "aspect"])
    together, more = counted(majority, ["aspect"])
    by = [
        {"name": name, "source": source, "aspect": aspect, **_entry(found)}
        for (name, source, aspect), found in sorted(own.items(), key=lambda one: (-one[1]["triads"], str(one[0])))
    ]
    together_by = [{"aspect": aspect, **_entry(found)} for (aspect,), found in sorted(together.items())]
    several = majority.filter(pl.col("who") > 1).height > 0
    return {
        "by": by[:MOST_ANNOTATORS] or None,
        "majority": (together_by if several else None) or None,
        "left_out": max(left, more),
        "flow": _flows(view, verdicts, members),
    }


def _flows(view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, members: Sequence[str]) -> list[Entry] | None:
    said = verdicts.by_annotator.filter(pl.col("source") != "consensus")
    mine = said.filter(pl.col("annotator").is_in(list(members)))
    said = said if mine.is_empty() else mine
    models = view["responses"].select("response_id", "model").collect()
    sources = view["prompts"].select("prompt_id", family="source").unique("prompt_id", keep="first").collect()
    for side in ("first", "second"):
        named = models.rename({"response_id": side, "model": f"model_{side}"})
        said = said.join(named, on=side, how="left", maintain_order="left")
    made = []
    for (aspect,), rows in said.partition_by("aspect", as_dict=True, maintain_order=True).items():
        ends = {"a": "model_first", "b": "model_second"}
        between = rows.filter(pl.col("model_first") != pl.col("model_second")).select(
            "prompt_id", "verdict", **{key: pl.col(column) for key, column in ends.items()}
        )
        between = between.join(sources, on="prompt_id", how="left", maintain_order="left")
        whole = between.with_columns(family=pl.lit(ALL))
        several = between["family"].n_unique() > 1
        within = rows.select("verdict", family="prompt_id", a="first", b="second")
        for of, graphs in (("models", [whole, between] if several else [whole]), ("responses", [within])):
            found = [one for graph in graphs for one in _tested(graph)]
            if found:
                found.sort(key=lambda one: (one["p_value"], -one["cyclicity"], str(one["name"])))
                significant = sum(one["p_value"] < 0.05 for one in found)
                tested = len(found)
                made.append({"aspect": aspect, "of": of, "tested": tested, "significant": significant, "by": found})
    return made or None


def _tested(rows: pl.DataFrame) -> list[Entry]:
    """HodgeRank of each family's table of wins.

    Args:
        rows: family, a, b, verdict.
    """
    from prefdata.stats.hodge import hodge_rank_of_wins

    counts = rows.group_by("family").agg(n=pl.len()).filter(pl.col("n") >= FEWEST)
    counts = counts.sort(["n", "family"], descending=[True, False], nulls_last=True).head(MOST_TESTED)
    parts = rows.partition_by("family", as_dict=True, maintain_order=True)
    made = []
    for family, n in counts.iter_rows():
        part = parts[(family,)]
        names = pl.concat([part["a"], part["b"]]).unique().sort()
        size = len(names)
        if not 3 <= size <= MOST_RESPONSES:
            continue
        place = {name: at for at, name in enumerate(names.to_list())}
        a, b = (part[side].replace_strict(place, return_dtype=pl.Int64).to_numpy() for side in "ab")
        p = (part["verdict"].cast(pl.Float64).to_numpy() + 1) / 2
        wins = np.bincount(a * size + b, weights=p, minlength=size * size)
        wins += np.bincount(b * size + a, weights=1 - p, minlength=size * size)
        found = hodge_rank_of_wins(wins.reshape(size, size), resamples=_DRAWS)
        if found.p_value is not None and found.cyclicity is not None:
            made.append({"name": family, "n": n, "cyclicity": found.cyclicity, "p_value": found.p_value})
    return made


def _entry(found: Entry) -> Entry:
    return {"triads": share(found["cyclic"], found["triads"]), "prompts": found["prompts"]}


def counted(rows: pl.DataFrame, by: list[str]) -> tuple[dict[tuple[Any, ...], Entry], int]:
    """Triads and cyclic ones among strict orders.

    Args:
        rows: `by`, prompt_id, first, second, verdict (1 or -1), each pair once.
        by: whose orders.

    Returns:
        {triads, cyclic, prompts} by the values of `by` where there is a triad, and how many prompts were left out.
    """
    if rows.is_empty():
        return {}, 0
    key = [*by, "prompt_id"]
    rows = rows.select(*key, "first", "second", "verdict").with_columns(
        unit=(pl.struct(key).rank("dense") - 1).cast(pl.Int64)
    )
    ends = pl.concat([rows.select("unit", response=side) for side in ("first", "second")]).unique()
    ends = ends.sort("unit", "response").with_columns(place=pl.int_range(pl.len()).over("unit"))
    sizes = ends.group_by("unit").agg(size=pl.len()).sort("unit")
    rows = rows.join(sizes, on="unit", how="left")
    for side in ("first", "second"):
        rows = rows.join(ends.rename({"response": side, "place": f"at_{side}"}), on=["unit", side], how="left")
    large = rows.filter(pl.col("size") > MOST_RESPONSES)["prompt_id"].n_unique()
    found: dict[int, tuple[int, int]] = {}
    usable = rows.filter(pl.col("size").is_between(3, MOST_RESPONSES))
    for (size,), part in usable.partition_by("size", as_dict=True).items():
        found |= _of_size(part, int(str(size)))
    names = {row[0]: row[1:] for row in rows.select("unit", *by).unique("unit").iter_rows()}
    made: dict[tuple[Any, ...], Entry] = {}
    for unit, (triads, cyclic) in found.items():
        if triads:
            entry = made.setdefault(names[unit], {"triads": 0, "cyclic": 0, "prompts": 0})
            entry["triads"] += triads
            entry["cyclic"] += cyclic
            entry["prompts"] += 1
    return made, large


def _of_size(rows: pl.DataFrame, size: int) -> dict[int, tuple[int, int]]:
    """(triads, cyclic) of each unit, of units with this many responses."""
    units, place = np.unique(rows["unit"].to_numpy(), return_inverse=True)
    up = rows["verdict"].to_numpy() > 0
    first, second = rows["at_first"].to_numpy(), rows["at_second"].to_numpy()
    winner, loser = np.where(up, first, second), np.where(up, second, first)
    step = max(1, _AT_ONCE // (size * size))
    found = {}
    for start in range(0, len(units), step):
        here = (place >= start) & (place < start + step)
        beats = np.zeros((min(step, len(units) - start), size, size))
        beats[place[here] - start, winner[here], loser[here]] = 1.0
        triads, cyclic = triads_of(beats)
        for unit, many, bad in zip(units[start : start + step], triads, cyclic, strict=True):
            found[int(unit)] = (round(float(many)), round(float(bad)))
    return found


def triads_of(beats: Array) -> tuple[Array, Array]:
    """Triads of which every two are in an order, and the cyclic ones among them: trace(A^3)/3.

    Args:
        beats: [b, n, n] 1 where the row beats the column.

    Returns:
        [b] and [b].
    """
    either = beats + beats.transpose(0, 2, 1)
    triads = np.einsum("bij,bji->b", either @ either, either) / 6
    cyclic = np.einsum("bij,bji->b", beats @ beats, beats) / 3
    return triads, cyclic
