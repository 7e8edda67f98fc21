"""Consensus of labels and comparisons by models of who is how good at them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from prefdata.errors import DataError
from prefdata.operators.aggregate.abilities import AnnotatorModel, Fit, abilities_of, kinds_of
from prefdata.operators.aggregate.base import VERDICT, FloatArray
from prefdata.operators.aggregate.majority import SEPARATOR, ends_of, labels_of, merged_orders, worth_to_low
from prefdata.operators.evidence import CONTEXT, ORDERING, VALID, coded, comparisons, directed, lists_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats.crowd import Crowd
from prefdata.stats.logistic import sigmoid

Codes = tuple[NDArray[Any], ...]

_FOUND = {"problem": pl.Int64, "verdict": pl.String, "share": pl.Float64, "part": pl.Float64}

SIDES = ["low", "tie", "high"]
"""The classes of a pair: which of the two ids in alphabetical order is better."""


class CrowdModel(AnnotatorModel):
    """What the models of labels share.

    Labels are read response by response. Orders of any kind (comparisons, rankings, choices, scores of one annotator)
    are read as pairs, each with a label: the one is better, the other, or a tie. The two orders in which one annotator
    was shown one comparison are merged first, as by `aggregate.majority`. Each aspect is fitted by itself, over all
    prompts. The rows are those of `aggregate.majority` (a label for each response, a comparison for each pair), with
    the posterior probability of what they say as confidence; where no class is the most probable one they abstain.

    What is known of the annotators is written as rows about them (target `annotator`, aspect `ability`) and, with
    intervals and all parameters, into `artifacts/STEP/annotators.json`. An ability is the probability of being right.
    """

    lopsided: ClassVar[bool] = False
    """Whether an annotator may have a habit of one class."""

    of: Literal["labels", "comparisons"] | None = Field(
        None, description="What is read; needed only where one aspect has both."
    )
    soft: bool = Field(
        False, description="Of comparisons, state the probability that each response is better (a tie is half)."
    )
    direction: dict[str, Literal[1, -1]] = Field(
        default_factory=dict, description="For measures, by aspect: 1 more is better, -1 less is."
    )

    @abstractmethod
    def fit(self, votes: Codes, classes: int, shares: FloatArray | None, times: int) -> Crowd:
        """The model of one aspect.

        Args:
            votes: numbers of the items, the annotators (from 0) and the labels (from 0); of one length.
            classes: how many labels there are.
            shares: of the classes, where symmetry says what they are.
            times: how often each vote is there: priors are to weigh as often.
        """

    @abstractmethod
    def parameters(self, found: Any, position: int) -> Mapping[str, Any]:
        """What else the model knows of the annotator in this position."""

    def fitted(self, rows: pl.DataFrame, read: str, context: Context) -> tuple[pl.DataFrame, Sequence[Fit]]:
        """See `AnnotatorModel.fitted`."""
        unnamed = rows.filter(pl.col("annotator").is_null()).height
        if unnamed:
            context.log(f"{unnamed} annotations left out: they have no annotator")
        rows = rows.filter(pl.col("annotator").is_not_null())
        labelled, ordered = rows.filter(pl.col("protocol") == "label"), rows.filter(pl.col("protocol").is_in(ORDERING))
        if self.of is None:
            both = sorted(set(labelled["aspect"].unique()) & set(ordered["aspect"].unique()))
            if both:
                raise DataError(
                    f"{self.kind}: aspect {both[0]!r} has labels and orders of responses; say which are meant (of: "
                    "labels or comparisons), or which aspects (aspects:)"
                )
        made = [pl.DataFrame(schema=VERDICT)]
        fits: list[Fit] = []
        if self.of != "comparisons":
            self._add(_label_votes(labelled), read, kinds_of(rows), made, fits)
        if self.of != "labels":
            self._add(_pair_votes(directed(ordered, self.direction, self.kind)), read, kinds_of(rows), made, fits)
        return pl.concat(made), fits

    def _add(
        self,
        votes_of: tuple[pl.DataFrame, pl.DataFrame],
        read: str,
        kinds: Mapping[str, str],
        made: list[pl.DataFrame],
        fits: list[Fit],
    ) -> None:
        """Fit aspect by aspect, and add what came of it."""
        problems, said = votes_of
        aspects = problems["aspect"].unique().sort()
        said = said.join(problems.select("problem", "aspect"), on="problem", how="left", maintain_order="left")
        for aspect in aspects:
            here = problems.filter(pl.col("aspect") == aspect)
            mine = said.filter(pl.col("aspect") == aspect)
            found = pl.DataFrame(
                schema={"problem": pl.Int64, "verdict": pl.String, "share": pl.Float64, "part": pl.Float64}
            )
            if mine.height:
                pairs = "low" in here.columns
                classes, shares = _sides(mine) if pairs else (sorted(mine["verdict"].unique()), None)
                names = mine["annotator"].unique().sort()
                columns = (mine["problem"], _places(mine["annotator"], names), _places(mine["verdict"], classes))
                votes = tuple(column.to_numpy() for column in columns)
                crowd = (
                    self._fitted_pairs(votes, shares) if shares is not None else self.fit(votes, len(classes), None, 1)
                )
                found = self._verdicts(crowd, classes, mine)
                fits.append(self._fit_of(crowd, str(aspect), names.to_list(), mine, kinds, classes))
            joined = here.join(found, on="problem", how="left", maintain_order="left").with_columns(read=pl.lit(read))
            made.append(self._rows(joined))

    def _fitted_pairs(self, votes: Codes, shares: FloatArray) -> Crowd:
        """The model of pairs. Which of the two ids comes first says nothing, and the model is to know that.

        Where it could learn a habit of naming the one side, each pair is there as its mirror image as well.
        """
        if not self.lopsided:
            return self.fit(votes, len(shares), shares, 1)
        item, annotator, label = votes
        mirror = int(item.max()) + 1
        twice = (
            np.concatenate([item, item + mirror]),
            np.concatenate([annotator, annotator]),
            np.concatenate([label, len(shares) - 1 - label]).astype(label.dtype),
        )
        return unmirrored(self.fit(twice, len(shares), shares, 2), mirror)

    def _verdicts(self, crowd: Crowd, classes: Sequence[str], said: pl.DataFrame) -> pl.DataFrame:
        """problem, verdict, share (its probability), part (what the low response of a pair has of it)."""
        values = np.round(np.asarray(crowd.values, dtype=np.float64), 9) + 0.0
        names = pl.Series([None if at < 0 else classes[at] for at in crowd.codes.tolist()], dtype=pl.String)
        part = np.zeros(len(values))
        for column, name in enumerate(classes):
            part += values[:, column] * {"low": 1.0, "tie": 0.5}.get(name, 0.0)
        enough = said.group_by("problem").len("given").filter(pl.col("given") >= self.min_valid)
        found = pl.DataFrame(
            {
                "problem": np.asarray(crowd.items, dtype=np.int64),
                "verdict": names,
                "share": values.max(axis=1),
                "part": np.round(part, 9),
            }
        )
        return found.join(enough.select("problem"), on="problem", how="semi", maintain_order="left")

    def _rows(self, found: pl.DataFrame) -> pl.DataFrame:
        if "low" in found.columns:
            low = pl.col("part") if self.soft else worth_to_low(pl.col("verdict"))
            row = {
                "target_ids": pl.concat_list("low", "high"),
                "protocol": pl.lit("compare"),
                "scores": pl.when(low.is_not_null()).then(pl.concat_list(low, 1 - low)),
                "labels": pl.lit(None, pl.List(pl.String)),
                "confidence": pl.when(low.is_not_null()).then("share"),
            }
        else:
            row = {
                "target_ids": pl.concat_list("named"),
                "protocol": pl.lit("label"),
                "scores": pl.lit(None, pl.List(pl.Float64)),
                "labels": pl.col("verdict").str.split(SEPARATOR),
                "confidence": pl.when(pl.col("verdict").is_not_null()).then("share"),
            }
        return found.with_columns(**row).select(list(VERDICT))

    def _fit_of(
        self,
        crowd: Crowd,
        aspect: str,
        names: Sequence[str],
        said: pl.DataFrame,
        kinds: Mapping[str, str],
        classes: Sequence[str],
    ) -> Fit:
        counts = dict(said.group_by("annotator").len().iter_rows())
        known = abilities_of(crowd, names, kinds, counts, lambda at: self.parameters(crowd, at))
        more = {
            "classes": list(classes),
            "iterations": crowd.iterations,
            "log_likelihood": crowd.log_likelihood,
        }
        return Fit(aspect, "probability of being right", said.height, crowd.converged, known, more)


def unmirrored(found: Crowd, mirror: int) -> Crowd:
    """A fit to pairs and their mirror images, as it is of the pairs alone.

    Args:
        found: of twice as many things as there are: half as much is known as it says, and ends of intervals of
            probabilities lie further apart by the root of two, in logits.
        mirror: the number of the first mirror image.
    """
    own = np.asarray(found.items) < mirror
    changed: dict[str, Any] = {
        "values": found.values[own],
        "low": found.low[own],
        "high": found.high[own],
        "codes": found.codes[own],
        "items": np.asarray(found.items)[own],
        "log_likelihood": found.log_likelihood / 2,
    }
    for value, stem in (("abilities", "ability"), ("competences", "competence")):
        if hasattr(found, value):
            middle = getattr(found, value)
            for end in (f"{stem}_low", f"{stem}_high"):
                changed[end] = _further(middle, getattr(found, end))
    return replace(found, **changed)


def _further(middle: FloatArray, end: FloatArray) -> FloatArray:
    """The end of an interval of a probability, the root of two further from the middle in logits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at, there = (np.log(one) - np.log1p(-one) for one in (middle, end))
    return sigmoid(at + np.sqrt(2) * (there - at))


def _label_votes(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """problem, CONTEXT and named; and problem, annotator, verdict of the labels that say something."""
    each = coded(labels_of(rows), [*CONTEXT, "named"], "problem")
    problems = each.select("problem", *CONTEXT, "named").unique("problem", keep="first", maintain_order=True)
    return problems, each.filter(pl.col("verdict").is_not_null()).select("problem", "annotator", "verdict")


def _pair_votes(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """problem, CONTEXT, low and high; and problem, annotator, verdict of the pairs on which something is said."""
    ends = ends_of(rows.filter(pl.col("protocol") == "compare"))
    merged = merged_orders(ends.filter(VALID), {}).join(
        ends.select("problem", *CONTEXT, "low", "high").unique("problem"), on="problem", how="left"
    )
    implied = comparisons(lists_of(rows.filter(pl.col("protocol") != "compare")))
    sign = (pl.col("p") - 0.5).sign().replace_strict({1.0: "low", 0.0: "tie", -1.0: "high"}, return_dtype=pl.String)
    columns = [*CONTEXT, "low", "high"]
    said = pl.concat(
        [
            merged.select(*columns, "annotator", "verdict"),
            implied.select(*CONTEXT, low="first", high="second", annotator="annotator", verdict=sign),
        ]
    )
    asked = pl.concat([ends.select(columns), said.select(columns)]).unique()
    problems = coded(asked, columns, "problem").select("problem", *columns)
    numbered = said.join(problems, on=columns, how="left", nulls_equal=True)
    # In an order that does not depend on the order of the rows: sums then come out the same bit for bit.
    return problems, numbered.select("problem", "annotator", "verdict").sort("problem", "annotator", "verdict")


def _places(values: pl.Series, names: Sequence[str] | pl.Series) -> pl.Series:
    """Of each value the place among the names."""
    return values.replace_strict(list(names), np.arange(len(names)), return_dtype=pl.Int32)


def _sides(said: pl.DataFrame) -> tuple[list[str], FloatArray]:
    """The classes of pairs, and their shares: which id comes first says nothing, so the sides have the same."""
    ties = float((said["verdict"] == "tie").mean() or 0.0)  # type: ignore[arg-type]
    if ties == 0:
        return ["low", "high"], np.array([0.5, 0.5])
    ties = min(max(ties, 1 / (said.height + 2)), 1 - 1 / (said.height + 2))
    return SIDES, np.array([(1 - ties) / 2, ties, (1 - ties) / 2])


@step("aggregate.dawid_skene")
class DawidSkene(CrowdModel):
    """Labels and pairs by the model of Dawid and Skene (1979): each annotator has a matrix of confusions.

    The model for classes that are confused with one another (mild and severe, a tie and a narrow win), where each
    annotator has given enough labels of each class; with few labels of an annotator take `aggregate.one_coin`.
    """

    lopsided: ClassVar[bool] = True

    def fit(self, votes: Codes, classes: int, shares: FloatArray | None, times: int) -> Crowd:
        """See `CrowdModel.fit`."""
        from prefdata.stats.dawid_skene import PRIOR_ABILITY, PRIOR_LABELS, dawid_skene

        people = int(votes[1].max()) + 1
        if people * classes**2 > _MOST_CELLS:
            raise DataError(
                f"{self.kind}: {people} annotators with a matrix of {classes} x {classes} confusions each "
                "are more than can be fitted; take aggregate.one_coin, or fewer labels"
            )
        even = np.full((classes, classes), PRIOR_LABELS * (1 - PRIOR_ABILITY) / max(classes - 1, 1))
        np.fill_diagonal(even, PRIOR_LABELS * PRIOR_ABILITY)
        return dawid_skene(
            *votes,
            classes=range(classes),
            class_prior=shares,
            prior=None if times == 1 else times * even,
            intervals=False,
        )

    def parameters(self, found: Any, position: int) -> Mapping[str, Any]:
        """The matrix of confusions: of each class (rows) how often it is called what."""
        return {"confusions": found.confusions[position]}


_MOST_CELLS = 50_000_000


@step("aggregate.one_coin")
class OneCoin(CrowdModel):
    """Labels and pairs by one accuracy for each annotator: right with that probability, else evenly wrong.

    Dawid and Skene's model with one parameter for an annotator: the one to start with.
    """

    def fit(self, votes: Codes, classes: int, shares: FloatArray | None, times: int) -> Crowd:
        """See `CrowdModel.fit`."""
        from prefdata.stats.dawid_skene import one_coin

        return one_coin(*votes, classes=range(classes), class_prior=shares, intervals=False)

    def parameters(self, found: Any, position: int) -> Mapping[str, Any]:
        """None besides the ability."""
        return {}


@step("aggregate.glad")
class GladConsensus(CrowdModel):
    """Labels and pairs by GLAD (Whitehill et al., 2009): annotators have a discrimination, and things a difficulty.

    An ability is the probability of being right on a thing of mean easiness.
    """

    def fit(self, votes: Codes, classes: int, shares: FloatArray | None, times: int) -> Crowd:
        """See `CrowdModel.fit`."""
        from prefdata.stats.glad import glad

        return glad(*votes, classes=range(classes), class_prior=shares)

    def parameters(self, found: Any, position: int) -> Mapping[str, Any]:
        """The discrimination, with its interval."""
        names = ("discriminations", "discrimination_low", "discrimination_high")
        keys = ("discrimination", "discrimination_low", "discrimination_high")
        return {key: getattr(found, name)[position] for key, name in zip(keys, names, strict=True)}


@step("aggregate.mace")
class MaceConsensus(CrowdModel):
    """Labels and pairs by MACE (Hovy et al., 2013): annotators know, or answer by habit without looking.

    An ability is the probability of being right, luck included; the competence is the probability of knowing.
    """

    lopsided: ClassVar[bool] = True

    restarts: int = Field(10, ge=1, description="Starts, of which the best goes on.")
    seed: int = Field(0, ge=0, description="Of the starts.")

    def fit(self, votes: Codes, classes: int, shares: FloatArray | None, times: int) -> Crowd:
        """See `CrowdModel.fit`."""
        from prefdata.stats.mace import mace

        return mace(
            *votes,
            classes=range(classes),
            class_prior=shares,
            prior=(0.5 * times, 0.5 * times),
            habit=10.0 * times,
            restarts=self.restarts,
            seed=self.seed,
            intervals=False,
        )

    def parameters(self, found: Any, position: int) -> Mapping[str, Any]:
        """The competence, with its interval, and the habits by class."""
        return {
            "competence": found.competences[position],
            "competence_low": found.competence_low[position],
            "competence_high": found.competence_high[position],
            "habits": found.habits[position],
        }
