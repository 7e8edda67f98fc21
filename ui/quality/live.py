"""Quality, live: what reviewers see of a project, computed from its annotations as the report computes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from sqlalchemy import Engine, select

from prefdata.dataset import Dataset
from prefdata.operators.evidence import VALID
from prefdata.report.agreement import agreement, held_against, score_agreement
from prefdata.report.alpha import CONSENSUS, alpha, scores
from prefdata.report.annotators import entries
from prefdata.report.numbers import Entry, share
from prefdata.report.verdicts import KEY, Verdicts, verdicts_of
from prefdata.stats import Remaining, remaining, units_needed

from ..store.tables import labels, people, tasks
from ..work.gold import is_right
from ..work.projects import project_by
from .hours import credited
from .project_rows import as_gold, first_shown, labels_in, not_by_themselves, rows_of, scores_beside_people

TARGET = 0.05
"""Half of the width of alpha's 95% interval that is aimed at, unless a reviewer says otherwise."""

MOST_COUPLES = 600
"""So many couples of people are compared, those that share the most first: all of up to 35 people, under one aspect."""

MOST_JUDGES = 200

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Agreement:
    """How far a project's people agree, adjudications left out.

    Attributes:
        alpha: entries of the report's `alpha`: by aspect, of pairs, scores or labels, with low and high.
        couples: entries of the report's `agreement`: every two people on pairs that both ordered.
        scores: {a, b, aspect, scale, n, percent, kappa, low, high}: every two people on responses that both scored,
            kappa with quadratic weights.
        notes: sentences on what was left out.
    """

    alpha: list[Entry]
    couples: list[Entry]
    scores: list[Entry]
    notes: list[str]


@dataclass(frozen=True)
class Version:
    """What was labelled under one version of the guidelines.

    Attributes:
        card: name@hash.
        labels: how many tasks were answered under it, each person's counted.
        annotators: by how many people.
        alpha: entries as in `Agreement`.
    """

    card: str
    labels: int
    annotators: int
    alpha: list[Entry]


@dataclass(frozen=True)
class Habit:
    """One person's habits under one protocol and aspect; the shares are {share, low, high, part, n}, Wilson's interval.

    Attributes:
        annotator: who.
        protocol: of the annotations.
        aspect: under which.
        n: annotations.
        first: how often the response shown first is better than the mean of the others, of those where it is not equal.
            One half where position plays no part, however many are shown.
        longer: how often the longer of two is preferred.
        ties: how often two are called equal.
    """

    annotator: str
    protocol: str
    aspect: str
    n: int
    first: Entry
    longer: Entry
    ties: Entry


@dataclass(frozen=True)
class Stop:
    """When one aspect may be stopped.

    Attributes:
        entry: the entry of alpha that it rests on.
        half_width: of its interval; None where there is none yet.
        target: that is aimed at.
        units: pairs or responses that it rests on.
        left: what is left to do; None where it cannot be said yet.
        pace: labels of the last 24 hours by the hours since the first of them, at least one; None without a store.
        seconds: active time of a label; None where none was made.
    """

    entry: Entry
    half_width: float | None
    target: float
    units: int
    left: Remaining | None
    pace: float | None
    seconds: float | None


@dataclass(frozen=True)
class _Reading:
    """A project's rows at one commit."""

    rows: pl.DataFrame
    annotations: pl.LazyFrame
    view: Mapping[str, pl.LazyFrame]
    criteria: pl.DataFrame
    made: dict[Any, Any] = field(default_factory=dict)


class Quality:
    """The quality of a project's labels.

    Labels count as soon as they are annotations of the dataset: pull first. What was computed is kept until the next
    commit.

    Args:
        dataset: whose annotations carry {"project": name, "card": name@hash, ...} in `meta`.
        engine: of the label store; without it nothing is known of pace, pay and gold answers.
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, dataset: Dataset, engine: Engine | None = None, clock: Callable[[], float] = time.time) -> None:
        self.dataset, self.engine, self.clock = dataset, engine, clock
        self._last: tuple[int, dict[str, _Reading]] = (-1, {})

    def agreement(self, project: str, *, card: str | None = None, gold: bool = True) -> Agreement:
        """Agreement by aspect and of every two people, each with its interval.

        Args:
            project: its name.
            card: only labels under this version of the guidelines (name@hash).
            gold: count gold questions too, as the report does.
        """
        reading = self._reading(project)
        key = ("agreement", card, gold)
        if key not in reading.made:
            verdicts = self._blind(reading, card, gold)
            notes = list(verdicts.notes)
            reading.made[key] = Agreement(
                alpha=alpha(verdicts, reading.criteria),
                couples=agreement(verdicts, notes, MOST_COUPLES),
                scores=score_agreement(scores(verdicts, reading.criteria), MOST_COUPLES),
                notes=notes,
            )
        found: Agreement = reading.made[key]
        return found

    def versions(self, project: str) -> list[Version]:
        """Labels and agreement under each version of the guidelines, in the order of their first label."""
        reading = self._reading(project)
        rows = reading.rows.filter(~pl.col("adjudication") & (pl.col("status") == "ok"))
        each = rows.group_by("card").agg(
            pl.col("created_at").min(),
            pl.struct("annotator", "task").n_unique().alias("labels"),
            pl.col("annotator").n_unique().alias("annotators"),
        )
        return [
            Version(row["card"], row["labels"], row["annotators"], self._alpha(reading, row["card"]))
            for row in each.sort("created_at", "card").to_dicts()
        ]

    def gold(
        self, project: str, answers: Mapping[frozenset[str], Mapping[str, float]] | None = None
    ) -> list[dict[str, Any]]:
        """How often each person is right on gold questions, with Wilson's interval.

        A person's first answer counts: in the qualification round the right one is told afterwards.

        Args:
            project: its name.
            answers: the right score of each response, by the set of the responses of a question; then annotations are
                held against them (the same order, or within one point where one response is scored). Unless given, the
                store's gold questions and `gold.is_right` hold, as in the qualification round.

        Returns:
            {annotator, share, low, high, part (how many are right), n}, the least accurate first.
        """
        right = self._right_by_scores(project, answers) if answers is not None else self._right_by_store(project)
        found = [{"annotator": name, **share(sum(outcomes), len(outcomes))} for name, outcomes in right.items()]
        return sorted(found, key=lambda entry: (entry["share"], -entry["n"], entry["annotator"]))

    def times(self, project: str) -> pl.DataFrame:
        """Active seconds for a task of each person: annotator, n, q25, median, q75, minutes (in all)."""
        rows = self._reading(project).rows.filter(pl.col("seconds").is_not_null())
        each = rows.group_by("annotator", "task").agg(pl.col("seconds").max())
        taken = pl.col("seconds")
        return (
            each.group_by("annotator")
            .agg(
                n=pl.len(),
                q25=taken.quantile(0.25, "linear"),
                median=taken.median(),
                q75=taken.quantile(0.75, "linear"),
                minutes=taken.sum() / 60,
            )
            .sort("annotator")
        )

    def habits(self, project: str) -> list[Habit]:
        """Position and length habits of each person."""
        reading = self._reading(project)
        rows = not_by_themselves(reading.rows, reading.view["responses"])
        verdicts = verdicts_of({**reading.view, "annotations": rows.lazy()})
        kept = rows.filter(pl.col("target") == "response").group_by(KEY).agg(n=pl.len()).sort(KEY)
        first = {tuple(row[name] for name in KEY): row for row in first_shown(rows).to_dicts()}
        made = []
        for entry in entries(verdicts, kept):
            at = first.get((entry["name"], *(entry[name] for name in KEY[1:])), {"wins": 0, "n": 0})
            made.append(
                Habit(
                    *(entry["name"], entry["protocol"], entry["aspect"], entry["n"]),
                    first=share(at["wins"], at["n"]),
                    longer={name: entry["length"][name] for name in ("share", "low", "high", "part", "n")},
                    ties=entry["ties"],
                )
            )
        return made

    def judges(self, project: str) -> Entry:
        """Models beside people on the same pairs: the report's `reference`, whose reference is this project's people.

        Each person is held against the majority of the others there too. `scores` sets the scores of models beside
        people's mean score of the same response: {name, source, aspect, n, spearman, low, high}.
        """
        reading = self._reading(project)
        if "judges" not in reading.made:
            prompts = reading.rows["prompt_id"].drop_nulls().unique().to_list()
            others = reading.annotations.filter(
                ~pl.col("source").is_in(["human", CONSENSUS]) & pl.col("prompt_id").is_in(prompts)
            )
            blind = reading.rows.filter(~pl.col("adjudication"))
            both = pl.concat([others, blind.lazy().select(others.collect_schema().names())], how="vertical_relaxed")
            verdicts, notes = verdicts_of({**reading.view, "annotations": both}), list[str]()
            found = held_against(verdicts, None, MOST_JUDGES, notes)
            beside = scores_beside_people(scores(verdicts, reading.criteria))
            reading.made["judges"] = {**found, "scores": beside, "notes": notes}
        made: Entry = reading.made["judges"]
        return made

    def stopping(self, project: str, target: float | Mapping[str, float] = TARGET) -> list[Stop]:
        """When may we stop: for each aspect, what is left until alpha's interval is as narrow as it should be.

        Widths shrink with the square root of the units (`prefdata.stats.stopping`). A new unit is supposed to be
        labelled by as many people as those that several people labelled so far.

        Args:
            project: its name.
            target: half of the interval's width that is aimed at, for all aspects or by aspect.
        """
        reading = self._reading(project)
        pace, seconds, pay = self._pace(project)
        if seconds is None:
            minutes, n = self.times(project).select(pl.col("minutes", "n").sum()).row(0)
            seconds = 60 * minutes / n if n else None
        made = []
        for entry in self.agreement(project).alpha:
            if entry["over"] not in ("all", "human") or entry["level"] == "interval":
                continue
            aim = target if isinstance(target, int | float) else target.get(entry["aspect"], TARGET)
            units = entry["pairs"] if entry["of"] == "pairs" else entry["responses"]
            half = None if entry["low"] is None else (entry["high"] - entry["low"]) / 2
            left = None
            if half is not None and units:
                each = labels_in(reading.rows, entry["aspect"]) / units
                more = units_needed(half, units, aim)
                left = remaining(
                    more, labels_a_unit=each, labels_an_hour=pace, seconds_a_label=seconds, pay_an_hour=pay
                )
            made.append(Stop(entry, half, aim, units, left, pace, seconds))
        return made

    # What they rest on

    def _reading(self, project: str) -> _Reading:
        view = self.dataset.view()
        number, known = self._last
        if number != view.snapshot.number:
            self._last = number, known = view.snapshot.number, {}
        if project not in known:
            rows = rows_of(view["annotations"], project)
            prompts = rows["prompt_id"].drop_nulls().unique().to_list()
            # The texts of other prompts are not read.
            responses = view["responses"].filter(pl.col("prompt_id").is_in(prompts))
            criteria = view["criteria"].collect()
            known[project] = _Reading(rows, view["annotations"], {"responses": responses}, criteria)
        return known[project]

    def _blind(self, reading: _Reading, card: str | None, gold: bool) -> Verdicts:
        """Of labels that were given without knowledge of the others."""
        key = ("verdicts", card, gold)
        if key not in reading.made:
            rows = reading.rows.filter(~pl.col("adjudication"))
            rows = rows if card is None else rows.filter(pl.col("card") == card)
            rows = rows if gold else rows.filter(~pl.col("gold"))
            no_texts = pl.LazyFrame(schema={"response_id": pl.String, "text": pl.String})
            reading.made[key] = verdicts_of({"annotations": rows.lazy(), "responses": no_texts})
        found: Verdicts = reading.made[key]
        return found

    def _alpha(self, reading: _Reading, card: str) -> list[Entry]:
        return alpha(self._blind(reading, card, gold=True), reading.criteria)

    def _right_by_scores(
        self, project: str, answers: Mapping[frozenset[str], Mapping[str, float]]
    ) -> dict[str, list[bool]]:
        rows = self._reading(project).rows.filter(VALID)
        right: dict[str, list[bool]] = {}
        for name, ids, given in rows.select("annotator", "target_ids", "scores").iter_rows():
            gold = answers.get(frozenset(ids))
            if gold is not None:
                outcome = as_gold(dict(zip(ids, given, strict=True)), gold)
                right.setdefault(name, []).append(outcome)
        return right

    def _right_by_store(self, project: str) -> dict[str, list[bool]]:
        if self.engine is None:
            return {}
        with self.engine.connect() as db:
            held = project_by(db, project)
            query = (
                select(labels.c.task_id, labels.c.person_id, labels.c.answer, people.c.pseudonym, tasks.c.gold)
                .join(tasks, tasks.c.task_id == labels.c.task_id)
                .join(people, people.c.person_id == labels.c.person_id)
                .where(labels.c.project_id == held.id, labels.c.kind == "label", labels.c.status == "ok")
                .where(tasks.c.gold.is_not(None))
                .order_by(labels.c.label_id)
            )
            right: dict[str, list[bool]] = {}
            seen = set()
            for row in db.execute(query):
                if row.gold is None or (row.task_id, row.person_id) in seen:
                    continue
                seen.add((row.task_id, row.person_id))
                outcome = is_right(row.answer, row.gold["answer"], held.project)
                right.setdefault(f"human:{row.pseudonym}", []).append(outcome)
        return right

    def _pace(self, project: str) -> tuple[float | None, float | None, float | None]:
        """Labels an hour of the clock, active seconds of a label, pay for an active hour; None if unknown."""
        if self.engine is None:
            return None, None, None
        with self.engine.connect() as db:
            rows = credited(db).filter((pl.col("project") == project) & (pl.col("kind") == "label"))
        answers = rows.filter(pl.col("status") == "ok")
        now = self.clock()
        today = answers.filter((pl.col("revision") == 1) & pl.col("at").is_between(now - DAY, now))["at"]
        # Who began this morning is not slower for the night before; an hour at least, or three labels would be a rush.
        pace = len(today) / max((now - float(today.min())) / 3600, 1.0) if len(today) else 0.0  # type: ignore[arg-type]
        count = answers.filter(pl.col("revision") == 1).height
        paid = rows.filter(pl.col("pay").is_not_null())
        seconds = float(paid["credited"].sum())
        pay = float((paid["credited"] * paid["pay"]).sum()) / seconds if seconds else None
        # Corrections and skips are paid as well: what they take is part of what a label costs.
        return pace, float(rows["credited"].sum()) / count if count else None, pay
