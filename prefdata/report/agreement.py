"""How far annotators agree with one another, and with a reference."""

from __future__ import annotations

from itertools import combinations

import polars as pl

from prefdata.operators.evidence import matching
from prefdata.report.numbers import Entry, share
from prefdata.report.verdicts import Verdicts, numbered
from prefdata.stats import cohen_kappa, order_agreement

MOST_COUPLES = 60
"""So many couples of annotators are compared, those that share the most pairs first."""

MOST_MEETINGS = 5_000_000
"""Joining the verdicts on every pair with one another may make so many rows; beyond, fewer annotators and prompts."""

_DISCRETE = 12
"""Kappa of scores is given where at most so many different ones occur."""

ACTIVE = 200
"""How many annotators meet then, the most active ones."""


def agreement(verdicts: Verdicts, notes: list[str], most: int | None = None) -> list[Entry]:
    """Every two annotators on the pairs that both judged under one aspect.

    `n` counts the pairs on which both decided, `percent` is the share of those that they order alike, `kappa` Cohen's
    kappa on those (each pair counted both ways round, so that chance is one half), `low` and `high` its bootstrap
    interval over prompts. `shared` counts ties as well; so do `percent_with_ties` and `kappa_with_ties`.

    Args:
        verdicts: see `verdicts_of`.
        notes: gets a sentence on what was left out.
        most: so many entries at most; MOST_COUPLES unless given.

    Returns:
        Entries {a, b, aspect, n, percent, kappa, low, high, ...}, a before b in the alphabet.
    """
    most = MOST_COUPLES if most is None else most
    pairs = numbered(verdicts.by_annotator).unique(["pair", "annotator"], keep="first", maintain_order=True)
    pairs = _few_enough(pairs.select("pair", "group_id", "annotator", "aspect", "verdict"), notes)
    names, aspects = (pairs[column].unique().sort() for column in ("annotator", "aspect"))
    # The join below makes many rows: names become their numbers in the alphabet.
    coded = pairs.select("pair", "verdict", *(_number(column) for column in ("annotator", "aspect", "group_id")))
    met = coded.join(coded.drop("group_id", "aspect"), on="pair", suffix="_b")
    met = met.filter(pl.col("annotator") < pl.col("annotator_b"))
    couple = ["annotator", "annotator_b", "aspect"]
    decided = (pl.col("verdict") != 0) & (pl.col("verdict_b") != 0)
    counts = met.group_by(couple).agg(shared=pl.len(), n=decided.sum())
    counts = counts.sort(["shared", "n", *couple], descending=[True, True, False, False, False])
    if counts.height > most:
        notes.append(
            f"{counts.height:,} couples of annotators share a pair; agreement is given for the {most} that share "
            "the most."
        )
    kept = counts.head(most)
    parts = met.join(kept, on=couple, how="semi").sort("pair").partition_by(couple, as_dict=True)
    made = []
    for a, b, aspect, shared, n in kept.iter_rows():
        rows = parts[a, b, aspect]
        both = rows.filter(decided)
        strict = order_agreement(both["verdict"], both["verdict_b"], both["group_id"])
        loose = order_agreement(rows["verdict"], rows["verdict_b"], rows["group_id"])
        made.append(
            {
                "a": names[a],
                "b": names[b],
                "aspect": aspects[aspect],
                "n": n,
                "percent": strict.percent,
                "kappa": strict.value,
                "low": strict.low,
                "high": strict.high,
                "shared": shared,
                "percent_with_ties": loose.percent,
                "kappa_with_ties": loose.value,
            }
        )
    return made


def _number(column: str) -> pl.Expr:
    return (pl.col(column).rank("dense") - 1).cast(pl.Int64)


def _few_enough(pairs: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """All verdicts, or, where too many would meet, those of the most active annotators on some of the prompts."""
    if _meetings(pairs)["rows"].sum() <= MOST_MEETINGS:
        return pairs
    active = pairs.group_by("annotator").len().sort(["len", "annotator"], descending=[True, False])
    if active.height > ACTIVE:
        notes.append(f"Agreement is taken from the {ACTIVE} most active of {active.height:,} annotators.")
        pairs = pairs.join(active.head(ACTIVE), on="annotator", how="semi", maintain_order="left")
    groups = _meetings(pairs)
    kept = groups.filter((pl.col("rows").cum_sum() <= MOST_MEETINGS) | (pl.int_range(pl.len()) == 0))
    if kept.height < groups.height:
        notes.append(
            f"Agreement of two annotators is taken from the {kept.height:,} of {groups.height:,} prompts whose ids "
            "come first (ids are hashes)."
        )
    return pairs.join(kept, on="group_id", how="semi", maintain_order="left")


def _meetings(pairs: pl.DataFrame) -> pl.DataFrame:
    """How many rows joining the verdicts on every pair gives, by group."""
    sizes = pairs.group_by("group_id", "pair").agg(rows=pl.len().cast(pl.Int64) ** 2)
    return sizes.group_by("group_id").agg(pl.col("rows").sum()).sort("group_id")


def score_agreement(given: pl.DataFrame, most: int | None = None) -> list[Entry]:
    """Every two annotators on the responses that both scored on one scale.

    `percent` is the share of equal scores; `kappa` has quadratic weights over the points of the scale that occur (all
    whole numbers between them), `low` and `high` are its bootstrap interval over prompts.

    Args:
        given: see `prefdata.report.alpha.scores`.
        most: so many entries at most, those with the most shared responses first; MOST_COUPLES unless given.

    Returns:
        {a, b, aspect, scale, n, percent, kappa, low, high}, a before b in the alphabet.
    """
    couples = []
    for (aspect, scale, _), rows in given.partition_by("aspect", "scale", "apart", as_dict=True).items():
        points = _points(rows["value"].unique().sort().to_list())
        by = {name: part for (name,), part in rows.partition_by("annotator", as_dict=True).items()}
        for a, b in combinations(sorted(by), 2):
            both = by[a].select("unit", "value", "group_id").join(by[b].select("unit", "value"), on="unit").sort("unit")
            if both.height:
                couples.append((-both.height, str(aspect), str(scale or ""), a, b, scale, points, both))
    couples.sort(key=lambda one: one[:5])
    made = []
    for _, aspect, _, a, b, scale, points, both in couples[: MOST_COUPLES if most is None else most]:
        left, right = both["value"].to_list(), both["value_right"].to_list()
        kappa = cohen_kappa(left, right, "quadratic", categories=points, units=both["group_id"]) if points else None
        made.append(
            {
                "a": a,
                "b": b,
                "aspect": aspect,
                "scale": scale,
                "n": both.height,
                "percent": sum(u == v for u, v in zip(left, right, strict=True)) / both.height,
                "kappa": kappa.value if kappa else None,
                "low": kappa.low if kappa else None,
                "high": kappa.high if kappa else None,
            }
        )
    return made


def _points(values: list[float]) -> list[float]:
    """The points of a scale on which these values occur; none where there are too many for a table."""
    if values and all(value % 1 == 0 for value in values) and values[-1] - values[0] < _DISCRETE:
        return [float(point) for point in range(int(values[0]), int(values[-1]) + 1)]
    return values if len(values) <= _DISCRETE else []


def held_against(verdicts: Verdicts, pattern: str | None, most: int, notes: list[str]) -> Entry:
    """Each annotator against the reference annotators, pair by pair.

    The reference's order of a pair is the majority of its annotators, one vote each; one of them is held against the
    others. Where the reference has not judged an annotator's aspect, its aspect `overall` (or its only one) stands in.

    Args:
        verdicts: see `verdicts_of`.
        pattern: annotators' names, `*` stands for any text; None: the annotators whose source is human.
        most: so many entries at most, those with the most shared pairs first.
        notes: gets a sentence on what was left out.

    Returns:
        pattern, annotators (how many match), names (the first ten of them), pairs (that they order), by (entries).
        An entry's `accuracy` is the share of the n pairs that both decide which they order alike; `undecided` counts
        the rest of `shared`; `half` is the accuracy over `shared` where an undecided pair counts one half; `averaged`
        goes by the mean of its probabilities over both orders. `longer` is what "the longer one is better" scores on
        the same n pairs (`longer_of_shared`: on `shared`), and `beats_longer` the share of those on which the two
        differ in which this annotator is nearer the reference.
    """
    pairs = verdicts.by_annotator
    members = reference_members(verdicts, pattern)
    found: Entry = {"pattern": pattern, "annotators": len(members), "names": members[:10], "pairs": 0, "by": []}
    if not members:
        if pattern is not None:
            notes.append(f"No annotator is called {pattern!r}: nothing was held against a reference.")
        return found
    votes, rows = referred(pairs, members)
    found["pairs"] = int((votes["sum"] != 0).sum())
    rows = rows.filter(pl.col("truth") != 0)
    key = ["annotator", "source", "aspect", "reference_aspect", "member"]
    counts = rows.group_by(key).agg(shared=pl.len()).sort(["shared", *key], descending=[True, *(False for _ in key)])
    if counts.height > most:
        notes.append(
            f"{counts.height:,} annotators share pairs with the reference; the {most} that share most are given."
        )
    kept = counts.head(most)
    parts = rows.join(kept, on=key, how="semi").partition_by(key, as_dict=True)
    found["by"] = [_against(parts[row[:-1]], *row) for row in kept.iter_rows()]
    return found


def reference_members(verdicts: Verdicts, pattern: str | None) -> list[str]:
    """The annotators that the pattern names; without one, those whose source is human."""
    names = verdicts.annotations.select("annotator", "source").unique()
    if pattern is None:
        return sorted(names.filter(pl.col("source") == "human")["annotator"].drop_nulls().unique())
    return matching(names["annotator"].unique(), [pattern])


def referred(pairs: pl.DataFrame, members: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each annotator's verdicts beside the reference's on the same pairs.

    Args:
        pairs: `Verdicts.by_annotator`.
        members: the reference annotators.

    Returns:
        The reference's votes by aspect and pair (sum, voters), and the rows of `pairs` on which it has voted, with
        member, reference_aspect and truth: 1 where the majority of the reference finds the first better, -1 the
        second, 0 neither. A member is held against the others; where there is no other, there is no row.
    """
    inside = pl.col("annotator").is_in(members)
    unit = ["prompt_id", "first", "second"]
    votes = (
        pairs.filter(inside)
        .group_by("aspect", *unit)
        .agg(sum=pl.col("verdict").cast(pl.Int64).sum(), voters=pl.len().cast(pl.Int64))
    )
    aspects = sorted(votes["aspect"].unique())
    default = "overall" if "overall" in aspects else aspects[0] if len(aspects) == 1 else None
    stands_in = pl.when(pl.col("aspect").is_in(aspects)).then("aspect").otherwise(pl.lit(default, pl.String))
    rows = pairs.with_columns(member=inside, reference_aspect=stands_in).join(
        votes.rename({"aspect": "reference_aspect"}), on=["reference_aspect", *unit], how="inner", nulls_equal=True
    )
    own = pl.col("member") & (pl.col("aspect") == pl.col("reference_aspect"))
    rows = rows.filter(pl.col("voters") > own.cast(pl.Int64))
    truth = (pl.col("sum") - pl.when(own).then("verdict").otherwise(0)).sign()
    return votes, rows.with_columns(truth=truth)


def _against(
    rows: pl.DataFrame, name: str, source: str, aspect: str, reference_aspect: str, member: bool, shared: int
) -> Entry:
    truth, verdict = rows["truth"].cast(pl.Int64), rows["verdict"].cast(pl.Int64)
    n, right = int((verdict != 0).sum()), int((verdict == truth).sum())
    lean = rows["margin"].sign().cast(pl.Int64)
    leaning, leaning_right = int((lean != 0).sum()), int((lean == truth).sum())
    longer = rows["longer"].cast(pl.Int64)
    by_length = (longer * truth).fill_null(0)  # 1 right, 0 of one length, -1 wrong
    of_decided = by_length.filter(longer.is_not_null() & (verdict != 0))
    of_shared = by_length.filter(longer.is_not_null())
    mine = (verdict * truth).filter(longer.is_not_null() & (verdict != 0))
    differ = mine != of_decided
    found = share(right, n)
    half = share(right + (shared - n) / 2, shared)
    return {
        "name": name,
        "source": source,
        "aspect": aspect,
        "reference_aspect": reference_aspect,
        "leave_one_out": member,
        "shared": shared,
        "n": n,
        "right": right,
        "accuracy": found["share"],
        "low": found["low"],
        "high": found["high"],
        "undecided": shared - n,
        "half": _brief(half),
        "averaged": _brief(share(leaning_right, leaning)),
        "longer": _brief(_half_for_none(of_decided)),
        "longer_of_shared": _brief(_half_for_none(of_shared)),
        "beats_longer": _brief(share(int((mine > of_decided).sum()), int(differ.sum()))),
    }


def _half_for_none(outcomes: pl.Series) -> Entry:
    """The share of right ones (1) among right and wrong (-1); what has no verdict (0) counts one half."""
    return share(float((outcomes + 1).sum()) / 2, len(outcomes))


def _brief(found: Entry) -> Entry:
    return {"accuracy": found["share"], "low": found["low"], "high": found["high"], "n": found["n"]}
