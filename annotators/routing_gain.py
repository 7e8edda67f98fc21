"""`judge.routing_gain`: which pairs are worth asking people about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from prefdata.errors import DataError
from prefdata.operators.evidence import EVIDENCE, selected
from prefdata.operators.relabel.pairs import PAIR_COLUMNS, measured, require_numbers
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context
from prefdata.stats.routing import PerformanceModel, binned_features, given_model, performance_model

from .pair_measures import FloatArray, WholePairMeasure, aligned, name_of_all

LENGTHS = ("prompt_length", "length_difference", "shorter_length", "longer_length")
"""The features that need nothing but the texts: in words."""

_LARGEST = 10_000_000


class Measure(BaseModel):
    """A measure of preferences that becomes a feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aspect: str = Field(description="Its aspect.")
    annotator: str = Field("*", description="Whose (`*` stands for any text).")


@step("judge.routing_gain")
class RoutingGain(WholePairMeasure):
    """The measure `routing_gain`: what a person's label of a pair is predicted to add to a reward model's accuracy.

    Features are binary: of each number (lengths in words, and the `measures` named) whether it lies in the low, middle
    or high third of all pairs, `NAME:low`, `NAME:middle`, `NAME:high`; of each label of the prompt under the aspects
    `tags`, `ASPECT:LABEL`. Their coefficients are given, or come from a file of past `mixes`, one JSON object a line:
    `{"counts": {FEATURE: how many such pairs people labelled}, "performance": what the model trained on it was worth}`.
    Linear: the gain is the sum of the coefficients of a pair's features. Quadratic: the prediction for the pair alone
    less that for nothing; such gains do not add up. Mixes must have one size, that of the budget.

    `select.budget` with `keep: top` and a view of its own then takes the pairs for people.

    Source: Miranda et al. 2024, Hybrid Preferences: Learning to Route Instances for Human vs. AI Feedback.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "preferences", "prompts", "responses"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
        "preferences": PAIR_COLUMNS,
        "prompts": ("messages",),
        "responses": ("text",),
    }

    coefficients: dict[str, float] = Field(default_factory=dict, description="Of a linear model, by feature.")
    mixes: str | None = Field(None, description="Else: a JSON Lines file of past mixes and what they were worth.")
    form: Literal["linear", "quadratic"] = Field("linear", description="mixes: the regressor.")
    measures_: dict[str, Measure] = Field(
        default_factory=dict, alias="measures", description="Further numbers: {NAME: {aspect, annotator}}."
    )
    tags: tuple[str, ...] = Field((), description="Labels of prompts that become features, by aspect.")
    bins: int = Field(3, ge=2, le=10, description="Bins of equal size of each number.")

    @field_validator("mixes")
    @classmethod
    def _found(cls, mixes: str | None, info: ValidationInfo) -> str | None:
        """The file's whole path, so that it means the same file everywhere; a restored step holds its content."""
        if mixes is None or mixes.startswith("{"):
            return mixes
        folder = Path(info.context["folder"]) if info.context and "folder" in info.context else Path()
        path = next((one for one in (Path(mixes), folder / mixes) if one.is_file()), None)
        if path is None:
            raise ValueError(f"mixes: there is no file {mixes!r}")
        return str(path.resolve())

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if bool(self.coefficients) == (self.mixes is not None):
            raise ValueError(
                "give either coefficients or mixes: what people's labels were worth has to come from somewhere"
            )
        if self.form == "quadratic" and self.mixes is None:
            raise ValueError("form: quadratic is fitted to mixes; coefficients given are of a linear model")
        if taken := [name for name in self.measures_ if name in LENGTHS or ":" in name]:
            raise ValueError(f"measures: {taken[0]!r} is taken, or holds a colon; name it otherwise")
        return self

    def resolved(self) -> dict[str, Any]:
        """The fields, with the file's content in place of its path."""
        fields = super().resolved()
        if self.mixes is not None:
            fields["mixes"] = self._text()
        return fields

    def _text(self) -> str:
        assert self.mixes is not None
        if self.mixes.startswith("{"):
            return self.mixes
        path = Path(self.mixes)
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: a file of mixes of more than {_LARGEST:,} bytes is not read")
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as text: {error}") from None

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """The gain of each pair."""
        numbers = self._numbers(pairs, tables)
        names, active = binned_features(numbers, self.bins)
        tagged, tags = self._tags(pairs, tables["annotations"])
        names, active = (*names, *tagged), np.concatenate([active, tags], axis=1)
        model = self._model(context)
        place = {name: at for at, name in enumerate(names)}
        if missing := [name for name in model.features if name not in place]:
            context.log(f"no pair has the features {', '.join(sorted(missing))}")
        if unused := [name for name in names if name not in model.features and active[:, place[name]].any()]:
            context.log(f"of no use to the model: {', '.join(unused)}")
        columns = [
            active[:, place[name]] if name in place else np.zeros(pairs.height, dtype=bool) for name in model.features
        ]
        gain = model.gain(np.stack(columns, axis=1)) if columns else np.zeros(pairs.height)
        read = name_of_all(pairs.select("preference_id"), active.astype(np.float64), model.values)
        return self.said(pairs, {"routing_gain": gain}, annotator="rule:routing", source="rule", read=read)

    def _numbers(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> dict[str, FloatArray]:
        words = pl.col("text").str.count_matches(r"\S+")
        sizes = dict(tables["responses"].select("response_id", words.cast(pl.Float64)).iter_rows())
        contents = pl.col("messages").list.eval(pl.element().struct.field("content").str.count_matches(r"\S+"))
        asked = dict(tables["prompts"].select("prompt_id", contents.list.sum().cast(pl.Float64)).iter_rows())

        def column(known: Mapping[str, float | None], ids: pl.Series) -> FloatArray:
            found = (known.get(one) for one in ids)
            return np.array([np.nan if one is None else one for one in found], dtype=np.float64)

        better, worse = column(sizes, pairs["better"]), column(sizes, pairs["worse"])
        lengths = (
            column(asked, pairs["prompt_id"]),
            np.abs(better - worse),
            np.minimum(better, worse),
            np.maximum(better, worse),
        )
        numbers = dict(zip(LENGTHS, lengths, strict=True))
        for name, one in self.measures_.items() if pairs.height else ():
            require_numbers(
                tables["annotations"],
                where=f"{self.kind}, measures: {name}",
                aspects=[one.aspect],
                annotators=[one.annotator],
            )
            found = measured(tables["annotations"], aspect=one.aspect, annotator=one.annotator, where=self.kind)
            numbers[name] = aligned(pairs, found.select(preference_id="target", value="value"))
        return numbers

    def _tags(self, pairs: pl.DataFrame, annotations: pl.DataFrame) -> tuple[list[str], Any]:
        if not self.tags:
            return [], np.zeros((pairs.height, 0), dtype=bool)
        rows = selected(annotations, aspects=self.tags, target="prompt")
        said = (
            rows.filter((pl.col("protocol") == "label") & (pl.col("status") == "ok"))
            .select(pl.col("target_ids").list.first().alias("prompt"), "aspect", "labels")
            .explode("labels")
            .drop_nulls()
            .select("prompt", name=pl.format("{}:{}", "aspect", "labels"))
            .unique()
        )
        names = said["name"].unique().sort().to_list()
        has = set(said.iter_rows())
        return names, np.array(
            [[(prompt, name) in has for name in names] for prompt in pairs["prompt_id"]], dtype=bool
        ).reshape(pairs.height, len(names))

    def _model(self, context: Context) -> PerformanceModel:
        if self.mixes is None:
            return given_model(self.coefficients)
        mixes = [_mix(line, number) for number, line in enumerate(self._text().splitlines(), start=1) if line.strip()]
        names = sorted({name for counts, _ in mixes for name in counts})
        counts = np.array([[each.get(name, 0.0) for name in names] for each, _ in mixes], dtype=np.float64)
        try:
            model = performance_model(
                counts.reshape(len(mixes), len(names)), [worth for _, worth in mixes], names, form=self.form
            )
        except ValueError as error:
            raise DataError(f"judge.routing_gain, mixes: {error}") from None
        fit = "unknown (too few mixes)" if model.held_out.value is None else f"{model.held_out.value:.3f}"
        context.log(f"{len(mixes):,} mixes of {len(names)} features; R^2 on those left out: {fit}")
        return model


def _mix(line: str, number: int) -> tuple[dict[str, float], float]:
    try:
        said = json.loads(line)
        counts = {str(name): float(count) for name, count in said["counts"].items()}
        return counts, float(said["performance"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"judge.routing_gain: line {number} of mixes is no object with counts (a number for each feature) and "
            f"performance (a number): {error}"
        ) from None
