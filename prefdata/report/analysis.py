"""The whole analysis of a dataset, as one JSON-able dictionary."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import polars as pl

from prefdata.dataset import Dataset, Snapshot, View
from prefdata.operators.evidence import matching
from prefdata.report.abilities import abilities
from prefdata.report.agreement import MOST_COUPLES, agreement, held_against, reference_members
from prefdata.report.alpha import alpha, independent
from prefdata.report.annotators import MOST_ANNOTATORS, entries, most_active, pooled, the_rest
from prefdata.report.bias import bias
from prefdata.report.calibration import calibration
from prefdata.report.card import card
from prefdata.report.cost import cost
from prefdata.report.cycles import cycles
from prefdata.report.decided import decided
from prefdata.report.duplicates import duplicates
from prefdata.report.flow import flow
from prefdata.report.hardness import hardness
from prefdata.report.judges import judges
from prefdata.report.leaderboard import leaderboard
from prefdata.report.numbers import Entry, plain
from prefdata.report.pairs import examples, expanded, pair_facts
from prefdata.report.problems import problems
from prefdata.report.reading import reading, thresholds
from prefdata.report.separability import separability
from prefdata.report.spread import scores
from prefdata.report.variation import variation
from prefdata.report.verdicts import MOST_PAIRS, Verdicts, verdicts_of
from prefdata.schema import SCHEMA_VERSION


def analyse(
    dataset: Dataset,
    *,
    view: Mapping[str, pl.LazyFrame] | None = None,
    reference: str | None = None,
    pipeline: str | None = None,
) -> Entry:
    """Describe a dataset: what came in, what was dropped, what it cost, and which annotators are to be believed.

    The same commit and the same arguments give the same result, byte for byte.

    Args:
        dataset: which.
        view: its live tables, as a step reads them; everything that is live, unless given.
        reference: the annotators (a pattern: `author`, `human:*`) whose order of pairs the others are held against;
            those whose source is human, unless given.
        pipeline: only what this pipeline made, beside imports and labels.

    Returns:
        flow, cost, annotators (one entry for each annotator, protocol and aspect), annotators_rest, pooled,
        agreement ({a, b, aspect, n, percent, kappa, low, high}), alpha ({aspect, over, of, level, alpha, low, high}),
        reference, judges, pairs, examples, leaderboard, abilities, bias, scores, cycles, separability, difficulty,
        duplicates, calibration, variation, card (each as the function of that name says), problems (what stands out),
        dataset, limits, thresholds. What rests on nothing is None.
    """
    if view is None:
        view = dataset.view(pipeline=pipeline)
    snapshot = view.snapshot if isinstance(view, View) else dataset.snapshot
    verdicts = verdicts_of(view)
    notes = list(verdicts.notes)
    kept = most_active(verdicts.annotations)
    pairs = expanded(view, notes)
    live = _live_steps(view, snapshot, pipeline)
    found: Entry = {
        "flow": flow(view, kept, pairs, snapshot),
        "cost": cost(view, snapshot, {entry["step"] for entry in live}, pipeline),
        **_annotators(verdicts, kept, reference, notes),
        **_agreement(view, verdicts, notes),
        "judges": judges(view, verdicts, reference, _circular(verdicts, snapshot, reference), notes),
        "pairs": pair_facts(pairs, verdicts, view),
        **_deeper(dataset, view, snapshot, verdicts, pairs, reference, notes),
        "dataset": _dataset(dataset, snapshot, live, pipeline),
        "limits": {
            "annotators": MOST_ANNOTATORS,
            "agreement": MOST_COUPLES,
            "pairs": MOST_PAIRS,
            "notes": notes,
        },
        "thresholds": thresholds(),
    }
    found["problems"] = problems(found)
    result = plain(found)
    assert isinstance(result, dict)
    return result


def _deeper(
    dataset: Dataset,
    view: Mapping[str, pl.LazyFrame],
    snapshot: Snapshot,
    verdicts: Verdicts,
    pairs: pl.DataFrame,
    pattern: str | None,
    notes: list[str],
) -> Entry:
    """What the data are like, beside what their annotators are like."""
    members = reference_members(verdicts, pattern)
    sides = decided(view, pairs, verdicts, members)
    difficulty, extremes = hardness(view)
    return {
        "leaderboard": leaderboard(view, verdicts, members, notes),
        "abilities": abilities(view, verdicts, dataset.path / "artifacts", snapshot),
        "bias": bias(verdicts),
        "scores": scores(verdicts),
        "cycles": cycles(view, verdicts, members),
        "separability": separability(view, sides, notes),
        "difficulty": difficulty,
        "duplicates": duplicates(view, sides, notes),
        "calibration": calibration(verdicts, members),
        "variation": variation(verdicts),
        "card": card(view, verdicts, pairs, sides, members),
        "examples": examples(pairs, verdicts, view, extremes),
    }


def _annotators(verdicts: Verdicts, kept: pl.DataFrame, pattern: str | None, notes: list[str]) -> Entry:
    made = entries(verdicts, kept)
    rest = the_rest(verdicts.annotations, kept)
    if rest is not None:
        notes.append(
            f"The {len(made)} most active annotators have an entry each; {rest['annotators']:,} others, with "
            f"{rest['annotations']:,} annotations, are counted together."
        )
    found = held_against(verdicts, pattern, MOST_ANNOTATORS, notes)
    against = {(entry["name"], entry["aspect"]): entry for entry in found["by"]}
    called = found["names"][0] if found["annotators"] == 1 else pattern or "people"
    for entry in made:
        held = against.get((entry["name"], entry["aspect"]))
        entry["reading"] = reading(entry, held, called, found["names"])
    return {
        "annotators": made,
        "annotators_rest": rest,
        "pooled": pooled(verdicts),
        "reference": found,
    }


def _agreement(view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, notes: list[str]) -> Entry:
    """Between annotators who did not know what the others said."""
    without = independent(view)
    blind = verdicts if without is None else verdicts_of(without)
    return {"agreement": agreement(blind, notes), "alpha": alpha(blind, view["criteria"].collect())}


def _circular(verdicts: Verdicts, snapshot: Snapshot, pattern: str | None) -> list[str]:
    """The consensus annotators whose step counts what the reference says: of course they agree with it."""
    members = set(reference_members(verdicts, pattern))
    sources = dict(verdicts.annotations.select("annotator", "source").unique().iter_rows())
    made = verdicts.annotations.filter(pl.col("source") == "consensus").select("annotator", "step").unique()
    found = set()
    for name, step in made.iter_rows():
        record = snapshot.steps.get(step)
        fields = record.fields if record is not None else {}
        among = matching(members, fields.get("annotators") or ["*"])
        if any(not fields.get("sources") or sources.get(member) in fields["sources"] for member in among):
            found.add(name)
    return sorted(found - members)


def _live_steps(view: Mapping[str, pl.LazyFrame], snapshot: Snapshot, pipeline: str | None) -> list[Entry]:
    """Imports and labels in the order of the log, then each pipeline's steps in its own."""
    wanted = view.lineage.steps if isinstance(view, View) else None
    made = [("", step) for step in snapshot.free_steps]
    for (name, _), plan in snapshot.plans.items():
        if pipeline in (None, name):
            made += [(name, step) for step in plan.steps]
    found = []
    for name, step in made:
        record = snapshot.steps.get(step)
        if record is not None and (wanted is None or step in wanted):
            found.append({"step": step, "name": record.name, "kind": record.kind, "pipeline": name or None})
    return found


def _dataset(dataset: Dataset, snapshot: Snapshot, live: list[Entry], pipeline: str | None) -> Entry:
    try:
        prefdata = version("prefdata")
    except PackageNotFoundError:
        prefdata = None
    return {
        "name": dataset.path.resolve().name,
        "commit": snapshot.number,
        "time": snapshot.commits[-1].time if snapshot.commits else None,
        "pipeline": pipeline,
        "pipelines": sorted({entry["pipeline"] for entry in live if entry["pipeline"]}),
        "steps": live,
        "versions": {"prefdata": prefdata, "tables": SCHEMA_VERSION, "python": platform.python_version()},
    }
