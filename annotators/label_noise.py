"""`judge.label_noise`: how probable it is that the label of a pair is right, given what a model makes of the pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from prefdata.dataset.parts import WHOLE, frame_of
from prefdata.errors import DataError
from prefdata.operators.aggregate.abilities import ABILITY, FILE, Ability, Fit, known_or_none, write_artifact
from prefdata.operators.evidence import comparisons, lists_of, selected
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.schema import Row, annotation, arrow_table, now
from prefdata.stats.estimate import Estimate
from prefdata.stats.label_noise import (
    CollectiveLabels,
    collective_posterior,
    flip_probability,
    flip_rate_of_audit,
    flip_rate_of_repeats,
)
from prefdata.stats.logistic import sigmoid

from .pair_measures import FloatArray, MarginMeasure, name_of_all


@step("judge.label_noise")
class LabelNoise(MarginMeasure):
    """How probable it is that the label of each pair is right, from a model's margin m and how often labels are wrong.

    `posterior` (LCPO): each annotator of preferences has a reliability eta, estimated from all pairs at once; the
    measure `label_posterior` is `eta p / (eta p + (1 - eta)(1 - p))` with p = s(m / temperature). Reliabilities become
    annotations of target `annotator` (aspect `ability`) and, with intervals, `artifacts/STEP/annotators.json`. It needs
    calibrated margins, or eta follows the model's own confidence; labels without an annotator count as one. A model
    that learned from these very labels is calibrated to their noise, and finds next to none: take one from elsewhere.

    `flip_rate` (rDPO): the measure `flip_probability` is `eps (1 - p) / ((1 - eps) p + eps (1 - p))`. eps is given, or
    comes from an `audit` (how often the label differs from what the auditor prefers), from `repeats` (two answers of
    one annotator to one question differ at the rate 2 eps (1 - eps)), or is 1 less the reliability of all by `em`.

    Both assume that flips do not depend on the content. Do not let this and `judge.reward_votes` both flip labels.

    Sources: Latent Collective Preference Optimization (LCPO, RE-PO); Chowdhury et al. 2024, Provably Robust DPO.
    """

    method: Literal["posterior", "flip_rate"] = Field("posterior", description="Which of the two.")
    temperature: float = Field(1.0, gt=0, description="What margins are divided by before the logistic function.")
    by: Literal["annotator", "all"] = Field("annotator", description="posterior: one reliability each, or one for all.")
    eps: float | Literal["audit", "repeats", "em"] = Field(
        "em", description="flip_rate: the share of wrong labels, from 0 and below 0.5, or how it is estimated."
    )
    auditor: str | None = Field(None, description="eps: audit: who is right (an annotator; `*` stands for any text).")
    repeated: str = Field("*", description="eps: repeats: whose repeated answers count (`*` stands for any text).")

    @model_validator(mode="after")
    def _acts(self) -> LabelNoise:
        if not isinstance(self.eps, str) and not 0 <= self.eps < 0.5:
            raise ValueError(f"eps is a share from 0 and below 0.5, where labels say nothing; it is {self.eps}")
        if (self.eps == "audit") != (self.auditor is not None):
            raise ValueError("eps: audit needs auditor, who is taken to be right, and auditor needs eps: audit")
        given = {"eps": "flip_rate", "by": "posterior", "repeated": "flip_rate"}
        for name, method in given.items():
            if name in self.model_fields_set and self.method != method and getattr(self, name) != _DEFAULTS[name]:
                raise ValueError(f"{name} belongs to method: {method}; for {self.method} it does nothing")
        return self

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """The measure, and for `posterior` a row for each annotator."""
        if pairs.is_empty():
            return []
        margins = self.margins(pairs, tables["annotations"])
        if unknown := int(np.isnan(margins).sum()):
            context.log(f"{unknown:,} of {pairs.height:,} pairs have no margin, and no measure")
        agreement = np.where(np.isnan(margins), np.nan, sigmoid(margins / self.temperature))
        read = name_of_all(pairs.select("preference_id", "better", "annotator"), margins)
        if self.method == "posterior":
            return self._posterior(pairs, agreement, read, context)
        estimate = self._flip_rate(pairs, agreement, tables["annotations"], context)
        if estimate.value is None or estimate.value >= 0.5:
            context.log("the flip rate cannot be told from one half, so nothing is said of any label")
            values = np.full(pairs.height, np.nan)
        else:
            values = flip_probability(margins / self.temperature, estimate.value)
        return self.said(
            pairs,
            {"flip_probability": values},
            annotator="rule:flip-rate",
            source="rule",
            read=f"{read} {estimate.value}",
        )

    def _posterior(self, pairs: pl.DataFrame, agreement: FloatArray, read: str, context: Context) -> list[pl.DataFrame]:
        named = pairs["annotator"].to_list() if self.by == "annotator" else [None] * pairs.height
        fit = collective_posterior(agreement, named)
        made = self.said(pairs, {"label_posterior": fit.values}, annotator="rule:lcpo", source="rule", read=read)
        if not fit.converged:
            context.log("the reliabilities had not come to their end when the estimate was stopped")
        for name, eta, low, high in zip(fit.annotators, fit.abilities, fit.ability_low, fit.ability_high, strict=True):
            found = f"{eta:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(eta) else "unknown, for want of margins"
            context.log(f"reliability of {name or 'labels without an annotator'}: {found}")
        self._keep(fit, context)
        about = self._about(fit, read)
        return [*made, about] if about.height else made

    def _keep(self, fit: CollectiveLabels, context: Context) -> None:
        columns = (fit.annotators, fit.counts, fit.abilities, fit.ability_low, fit.ability_high)
        known = [
            Ability(
                str(name),
                "annotator",
                int(n),
                known_or_none(eta),
                known_or_none(float(low)),
                known_or_none(float(high)),
            )
            for name, n, eta, low, high in zip(*columns, strict=True)
        ]
        votes = int(fit.counts.sum())
        done = Fit("overall", "probability that a label is right", votes, fit.converged, known)
        write_artifact(context.artifacts / FILE, self.kind, [done])

    def _about(self, fit: CollectiveLabels, read: str) -> pl.DataFrame:
        rows: list[Row] = []
        for name, eta in zip(fit.annotators, fit.abilities, strict=True):
            if name is None or not np.isfinite(eta):
                continue
            made = annotation(
                group_id=WHOLE,
                prompt_id=None,
                target="annotator",
                target_ids=[name],
                protocol="score",
                annotator="consensus:lcpo",
                source="consensus",
                aspect=ABILITY,
                scores=[float(eta)],
                key=[self.kind, self.version, self.asked(), read],
                created_at=now(),
            )
            rows.append(made)
        empty = self.said(
            pl.DataFrame(schema={"preference_id": pl.String, "group_id": pl.String, "prompt_id": pl.String}),
            {"": np.zeros(0)},
            annotator="",
            source="",
            read="",
        )[0]
        frame = frame_of("annotations", pl.DataFrame(arrow_table("annotations", rows))) if rows else empty
        return frame.select(pl.col(name).cast(kind) for name, kind in empty.schema.items())

    def _flip_rate(
        self, pairs: pl.DataFrame, agreement: FloatArray, annotations: pl.DataFrame, context: Context
    ) -> Estimate:
        if not isinstance(self.eps, str):
            return Estimate(self.eps, None, None, pairs.height)
        if self.eps == "em":
            fit = collective_posterior(agreement)
            if not len(fit.abilities) or np.isnan(fit.abilities[0]):
                return Estimate(None, None, None, 0)
            ends = (1 - float(fit.ability_high[0]), 1 - float(fit.ability_low[0]))
            found = Estimate(1 - float(fit.abilities[0]), *ends, int(fit.counts[0]))
        elif self.eps == "audit":
            found = _audited(pairs, annotations, str(self.auditor))
        else:
            found = _repeats(annotations, self.repeated)
        if not found.n:
            needs = {
                "audit": f"no pair has been judged by {self.auditor!r} (auditor:)",
                "repeats": f"nobody of {self.repeated!r} answered a question twice (repeated:)",
            }
            why = needs.get(self.eps, "no pair has a margin")
            raise DataError(
                f"judge.label_noise: eps: {self.eps} finds nothing to estimate the flip rate from: {why}. Give eps as "
                "a number, or take another estimate"
            )
        shown = "one half or more" if found.value is None else f"{found.value:.3f}"
        context.log(f"flip rate by {self.eps}: {shown} [{found.low:.3f}, {found.high:.3f}] from {found.n:,}")
        return found


_DEFAULTS = {"eps": "em", "by": "annotator", "repeated": "*"}


def _audited(pairs: pl.DataFrame, annotations: pl.DataFrame, auditor: str) -> Estimate:
    """How often the auditor prefers the other response; an undecided one counts half."""
    said = comparisons(lists_of(selected(annotations, annotators=[auditor]).filter(pl.col("protocol") != "measure")))
    ends = [pl.min_horizontal("better", "worse").alias("first"), pl.max_horizontal("better", "worse").alias("second")]
    known = pairs.select("prompt_id", "better", *ends).join(
        said.select("prompt_id", "first", "second", "p"), on=["prompt_id", "first", "second"], how="inner"
    )
    agrees = pl.when(pl.col("better") == pl.col("first")).then("p").otherwise(1 - pl.col("p"))
    wrong = known.select(w=1 - (agrees > 0.5).cast(pl.Float64) - 0.5 * (agrees == 0.5).cast(pl.Float64))["w"].sum()
    return flip_rate_of_audit(float(wrong), known.height)


def _repeats(annotations: pl.DataFrame, pattern: str) -> Estimate:
    """How often the first two answers of one annotator to one question (prompt, aspect, two responses) differ."""
    rows = selected(annotations, annotators=[pattern]).filter(
        (pl.col("protocol") != "measure") & (pl.col("source") != "consensus")
    )
    said = comparisons(lists_of(rows))
    unit = ["prompt_id", "aspect", "annotator", "protocol", "first", "second"]
    twice = (
        said.with_columns(verdict=(pl.col("p") - 0.5).sign())
        .sort(*unit, "list")
        .group_by(unit, maintain_order=True)
        .agg(pl.col("verdict").first(), again=pl.col("verdict").get(1, null_on_oob=True))
        .filter(pl.col("again").is_not_null())
    )
    differ = twice.select((pl.col("verdict") - pl.col("again")).abs() / 2).to_series().sum()
    return flip_rate_of_repeats(float(differ), twice.height)
