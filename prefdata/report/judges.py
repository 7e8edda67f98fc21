"""Which judge to use: every annotator beside a reference, beside plain rules, and beside what it costs.

All intervals come from one set of bootstrap draws of prompts, so that differences of two judges have paired ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.operators.evidence import ORDERING
from prefdata.report.advice import PEOPLE, advice, candidates
from prefdata.report.agreement import reference_members, referred
from prefdata.report.annotators import NO_ORDERS, two_orders
from prefdata.report.attacks import attacks
from prefdata.report.judge_costs import judge_costs
from prefdata.report.judge_measures import NOTHING, credit, measures
from prefdata.report.numbers import Entry, share
from prefdata.report.reading import NO_FAULT, THRESHOLDS
from prefdata.report.verdicts import Verdicts
from prefdata.stats import Draws

MOST_JUDGES = 50
"""So many annotators and aspects have an entry here: those that are no people first, then by what they have said."""

MOST_DIFFERENCES = 10
"""Under one aspect the best judge is held against so many others, the next best first."""

RESAMPLES = 1000

LONGER, FIRST, MAJORITY = "the longer one wins", "the first shown wins", "majority of the judges"
"""Rules that cost nothing, or nothing more. A judge that does not beat them is not worth asking."""

_RULE = "rule of the report"
"""Stands as the source of those three, so that they can be told from annotators of the same name."""

_PAIR = ["reference_aspect", "prompt_id", "first", "second"]
_WHO = ["annotator", "source", "aspect"]


def judges(
    view: Mapping[str, pl.LazyFrame],
    verdicts: Verdicts,
    pattern: str | None,
    circular: Sequence[str],
    notes: list[str],
) -> Entry:
    """Each annotator of responses against the reference, with its habits, failures and costs.

    Args:
        view: the live tables.
        verdicts: see `verdicts_of`.
        pattern: the reference annotators; see `prefdata.report.analyse`.
        circular: consensus annotators that count the reference itself: that they agree with it says nothing.
        notes: gets a sentence on what was left out.

    Returns:
        by: an entry for each annotator and aspect, and for the rules LONGER, FIRST and MAJORITY. `kind` is judge,
            consensus, person, reference (one of its annotators, held against the others) or rule; what
            `judge_measures.measures` gives; `settled` (shares enough pairs and prompts to say anything), `circular`,
            `model`, `judgements`, `failures` (a share; to abstain is none) and `statuses`, `position` (see
            `annotators`), `costs` (see `judge_costs`; None where it made no calls).
        differences: {a, b, reference_aspect, value, low, high, n, prompts}: the accuracy of the best judge minus that
            of another, on the pairs that both have judged.
        advice: which to use, by aspect of the reference; see `prefdata.report.advice`.
        attacks: see `prefdata.report.attacks`.
    """
    members = reference_members(verdicts, pattern)
    who = _kept(verdicts, members, notes)
    models = _judge_models(view, who)
    rows = _rows(view, verdicts, members, models)
    draws = Draws(rows["group_id"].rank("dense").to_numpy(), resamples=RESAMPLES)
    parts: dict[tuple[Any, ...], pl.DataFrame] = rows.partition_by([*_WHO, "reference_aspect"], as_dict=True)
    by_who: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for key in sorted(parts, key=str):
        by_who.setdefault(key[:3], []).append(key)
    orders = two_orders(verdicts.shown, _WHO)
    costs = judge_costs(view, _pairs(verdicts))
    by = [
        {
            **entry,
            "reference_aspect": key[3],
            "circular": entry["name"] in circular,
            **_measured(parts.get(key), draws),
            "model": sorted(models.get(entry["name"], [])),
            "position": orders.get(key[:3], NO_ORDERS),
            "costs": costs.get(entry["name"]),
        }
        for entry in who
        for key in _keys(entry, by_who)
    ]
    by += [_rule(key, parts[key], draws) for key in sorted(parts, key=str) if key[1] == _RULE]
    differences = _differences(by, parts, draws)
    return {
        "by": by,
        "differences": differences,
        "advice": advice(by, differences, members[0] if len(members) == 1 else pattern or PEOPLE, bool(members)),
        "attacks": attacks(view, verdicts),
    }


def _kept(verdicts: Verdicts, members: list[str], notes: list[str]) -> list[Entry]:
    """name, source, aspect, kind, judgements, failures, statuses of those who judge responses, judges first."""
    said = verdicts.annotations.filter(
        (pl.col("target") == "response")
        & pl.col("protocol").is_in([one for one in ORDERING if one != "measure"])
        & pl.col("annotator").is_not_null()
    )
    failed = ~pl.col("status").is_in(NO_FAULT)
    counts = said.group_by(_WHO).agg(n=pl.len(), failed=failed.sum(), status=pl.col("status"))
    person = pl.col("annotator").is_in(members) | (pl.col("source") == "human")
    counts = counts.with_columns(person=person).sort(
        ["person", "n", *_WHO], descending=[False, True, *(False for _ in _WHO)]
    )
    if counts.height > MOST_JUDGES:
        notes.append(f"The judges' table shows {MOST_JUDGES} of {counts.height:,} annotators and aspects.")
    made = []
    for row in counts.head(MOST_JUDGES).to_dicts():
        statuses = pl.Series(row["status"]).value_counts().sort("").rows()
        made.append(
            {
                "name": row["annotator"],
                "source": row["source"],
                "aspect": row["aspect"],
                "kind": _kind(row["annotator"], row["source"], members),
                "judgements": row["n"],
                "failures": share(row["failed"], row["n"]),
                "statuses": dict(statuses),
            }
        )
    return made


def _kind(name: str, source: str, members: list[str]) -> str:
    if name in members:
        return "reference"
    return {"human": "person", "consensus": "consensus"}.get(source, "judge")


def _keys(entry: Entry, by_who: Mapping[tuple[Any, ...], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    who = (entry["name"], entry["source"], entry["aspect"])
    return by_who.get(who, [(*who, None)])


def _measured(rows: pl.DataFrame | None, draws: Draws) -> Entry:
    found = NOTHING if rows is None else measures(rows, draws)
    enough = found["shared"] >= THRESHOLDS.least_reference and found["accuracy"]["low"] is not None
    return {"settled": enough, **found}


def _pairs(verdicts: Verdicts) -> dict[str, int]:
    """How many pairs each annotator orders, under one aspect or several."""
    told = verdicts.by_annotator.select("annotator", "prompt_id", "first", "second").unique()
    return dict(told.group_by("annotator").len().iter_rows())


def _judge_models(view: Mapping[str, pl.LazyFrame], who: list[Entry]) -> dict[str, set[str]]:
    """Which of the responses' models each annotator is.

    Its row of `annotators` says it; where there is none, its name does (`judge:MODEL`, `judge:MODEL/...`).
    """
    authors = set(view["responses"].select("model").unique().collect()["model"].drop_nulls())
    told = dict(view["annotators"].select("annotator", "model").drop_nulls().collect().iter_rows())
    found = {}
    for name in {entry["name"] for entry in who if entry["kind"] == "judge"}:
        after = name.partition(":")[2]
        models = {told[name]} if name in told else {one for one in authors if f"{after}/".startswith(f"{one}/")}
        found[name] = models & authors
    return found


def _rows(
    view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, members: list[str], models: Mapping[str, set[str]]
) -> pl.DataFrame:
    """The verdicts beside the reference's, and those of the plain rules: see `measures`; also `pair`, a number."""
    _, rows = referred(verdicts.by_annotator, members)
    columns = [*_WHO, *_PAIR, "group_id", "verdict", "margin", "truth", "longer"]
    rows = rows.filter(pl.col("reference_aspect").is_not_null())
    judged = rows.filter(~pl.col("member") & ~pl.col("source").is_in(["human", "consensus"]))
    rows = pl.concat([rows.select(columns), *(rule.select(columns) for rule in _rules(verdicts, members, judged))])
    rows = rows.sort([*_PAIR, *_WHO], nulls_last=True)
    known = rows.select(_PAIR).unique(maintain_order=True).with_columns(pair=pl.int_range(pl.len()))
    rows = rows.join(known, on=_PAIR, how="left", nulls_equal=True, maintain_order="left")
    return _with_own(view, rows, models).with_columns(row=pl.int_range(pl.len()))


def _with_own(view: Mapping[str, pl.LazyFrame], rows: pl.DataFrame, models: Mapping[str, set[str]]) -> pl.DataFrame:
    pairs = [(name, model) for name in sorted(models) for model in sorted(models[name])]
    if not pairs:
        return rows.with_columns(own=pl.lit(0))
    written = view["responses"].select("response_id", "model").collect()
    is_own = pl.DataFrame(pairs, schema={"annotator": pl.String, "model": pl.String}, orient="row")
    by = written.join(is_own, on="model", how="inner").select("annotator", "response_id").unique()
    by = by.with_columns(own=pl.lit(1))
    for side in ("first", "second"):
        named = by.rename({"response_id": side, "own": f"own_{side}"})
        rows = rows.join(named, on=["annotator", side], how="left", maintain_order="left")
    own = pl.col("own_first").fill_null(0) - pl.col("own_second").fill_null(0)
    return rows.with_columns(own=own).drop("own_first", "own_second")


def _rules(verdicts: Verdicts, members: list[str], judged: pl.DataFrame) -> list[pl.DataFrame]:
    """The verdicts of the plain rules, on the pairs that some judge and the reference have judged."""
    if judged.is_empty():
        return []
    pairs = judged.unique(_PAIR, keep="first", maintain_order=True)
    shown = verdicts.shown.filter(~pl.col("annotator").is_in(members))
    shown = verdicts.shown if shown.is_empty() else shown
    first = shown.group_by("prompt_id", "first", "second").agg(shown=(1 - 2 * pl.col("turned").cast(pl.Int64)).sum())
    pairs = pairs.join(first, on=["prompt_id", "first", "second"], how="left", nulls_equal=True, maintain_order="left")
    votes = judged.group_by(_PAIR).agg(jury=pl.col("verdict").cast(pl.Int64).sum())
    pairs = pairs.join(votes, on=_PAIR, how="left", nulls_equal=True, maintain_order="left")
    known = {LONGER: pairs.filter(pl.col("longer").is_not_null()), FIRST: pairs.filter(pl.col("shown").is_not_null())}
    values = {LONGER: pl.col("longer"), FIRST: pl.col("shown").sign(), MAJORITY: pl.col("jury").sign()}
    several = judged.select("annotator").n_unique() > 1
    return [
        known.get(name, pairs).with_columns(
            annotator=pl.lit(name),
            source=pl.lit(_RULE),
            aspect=pl.col("reference_aspect"),
            verdict=values[name].cast(pl.Int8),
            margin=values[name].cast(pl.Float64),
        )
        for name in (LONGER, FIRST, *((MAJORITY,) if several else ()))
    ]


def _rule(key: tuple[Any, ...], rows: pl.DataFrame, draws: Draws) -> Entry:
    return {
        "name": key[0],
        "source": None,
        "aspect": key[2],
        "kind": "rule",
        "judgements": rows.height,
        "failures": share(0, 0),
        "statuses": {},
        "reference_aspect": key[3],
        "circular": False,
        **_measured(rows, draws),
        "model": [],
        "position": NO_ORDERS,
        "costs": None,
    }


def _differences(by: list[Entry], parts: Mapping[tuple[Any, ...], pl.DataFrame], draws: Draws) -> list[Entry]:
    made = []
    for aspect in sorted({one["reference_aspect"] for one in by if one["reference_aspect"] is not None}):
        ranked = candidates(by, aspect)
        for other in ranked[1 : 1 + MOST_DIFFERENCES]:
            found = _difference(parts[_key(ranked[0])], parts[_key(other)], draws)
            names = {"a": ranked[0]["name"], "a_aspect": ranked[0]["aspect"]}
            made.append({**names, "b": other["name"], "b_aspect": other["aspect"], "reference_aspect": aspect, **found})
    return made


def _key(entry: Entry) -> tuple[Any, ...]:
    return (entry["name"], entry["source"], entry["aspect"], entry["reference_aspect"])


def _difference(a: pl.DataFrame, b: pl.DataFrame, draws: Draws) -> Entry:
    both = a.join(b.select("pair", theirs="verdict"), on="pair", how="inner").filter(pl.col("truth") != 0).sort("row")
    if both.is_empty():
        return {"value": None, "low": None, "high": None, "n": 0, "prompts": 0}
    mine, theirs, truth = (both[name].cast(pl.Float64).to_numpy() for name in ("verdict", "theirs", "truth"))
    ones = both["truth"].abs().to_numpy()
    value, drawn = draws.ratio(credit(mine, truth) - credit(theirs, truth), ones, both["row"].to_numpy())
    ends = draws.interval(drawn)
    prompts = both["group_id"].n_unique()
    return {
        "value": value,
        "low": ends[0] if ends else None,
        "high": ends[1] if ends else None,
        "n": both.height,
        "prompts": prompts,
    }
