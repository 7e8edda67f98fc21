"""What a model of annotators found out about them: rows about annotators, and a file that says everything.

A row about an annotator belongs to no prompt: its `prompt_id` is null and its `group_id` is `*`, which stands for all
groups. So no drop of a prompt hides it, no split has a share in it, and no step that works group by group reads it.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from prefdata.dataset.parts import WHOLE
from prefdata.operators.aggregate.base import VERDICT, Aggregate
from prefdata.operators.evidence import CONTEXT, VALID, coded, digests
from prefdata.pipeline.step import Context
from prefdata.schema import Row

ABILITY = "ability"
"""The aspect of rows about annotators; of a fit of another aspect than `overall` it is `ability/ASPECT`."""

FILE = "annotators.json"
"""In the step's folder of artifacts."""


@dataclass(frozen=True)
class Ability:
    """What is known of one annotator.

    Attributes:
        annotator: the name.
        kind: the source of what it said (human, judge, reward, ...).
        n: how many votes of it there were.
        value: the ability, in the unit that the fit names; None where the votes do not tell.
        low: lower end of its interval.
        high: upper end.
        more: the model's other parameters of this annotator, by name.
    """

    annotator: str
    kind: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """A model, fitted to one aspect.

    Attributes:
        aspect: what was judged.
        unit: what an ability is.
        votes: how many votes were read.
        converged: whether the fit came to its end.
        annotators: sorted by name.
        more: what else the model says, by name.
    """

    aspect: str
    unit: str
    votes: int
    converged: bool
    annotators: Sequence[Ability]
    more: Mapping[str, Any] = field(default_factory=dict)


class AnnotatorModel(Aggregate):
    """A rule that finds out how good each annotator is, over all prompts at once."""

    scope: ClassVar[Any] = "dataset"

    @abstractmethod
    def fitted(self, rows: pl.DataFrame, read: str, context: Context) -> tuple[pl.DataFrame, Sequence[Fit]]:
        """The consensus (the columns of `VERDICT`) and what was fitted.

        Args:
            rows: annotations of responses, of any status.
            read: names all that was read; what is known of one prompt rests on all the others.
            context: what the runtime offers.
        """

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The consensus of all prompts, and a row for each annotator and aspect."""
        rows = self.counted(tables["annotations"], context)
        read = read_of(rows, self.asked())
        verdicts, fits = self.fitted(rows, read, context)
        for fit in fits:
            if not fit.converged:
                context.log(f"the fit of aspect {fit.aspect!r} had not come to its end when it was stopped")
        made = self._annotations(verdicts)
        self.tell_abstentions(made, context)
        write_artifact(context.artifacts / FILE, self.kind, fits)
        about = self._annotations(about_annotators(fits, read), target="annotator")
        return {"annotations": pl.concat([made, about])}


def read_of(rows: pl.DataFrame, asked: Any) -> str:
    """One name for all that these annotations say."""
    each = digests(coded(rows, CONTEXT, "problem"), "problem", VALID, asked)
    text = "\n".join(sorted(each["read"].to_list()))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def about_annotators(fits: Iterable[Fit], read: str) -> pl.DataFrame:
    """Abilities as verdicts: one for each annotator and aspect; one that is not known is an abstention."""
    made = [
        {
            "group_id": WHOLE,
            "prompt_id": None,
            "aspect": ABILITY if fit.aspect == "overall" else f"{ABILITY}/{fit.aspect}",
            "target_ids": [one.annotator],
            "protocol": "score",
            "scores": None if one.value is None else [one.value],
            "labels": None,
            "confidence": None,
            "read": read,
        }
        for fit in fits
        for one in fit.annotators
    ]
    return pl.DataFrame(made, schema=VERDICT)


def known_or_none(value: float) -> float | None:
    """The number, rounded to 9 decimals; None where it is none."""
    return round(float(value), 9) + 0.0 if math.isfinite(value) else None


def write_artifact(path: Path, method: str, fits: Sequence[Fit]) -> None:
    """Write everything that was fitted as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [{**_flat(asdict(fit)), "annotators": [_flat(asdict(one)) for one in fit.annotators]} for fit in fits]
    text = json.dumps({"method": method, "fits": plain(told)}, indent=1, allow_nan=False)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in told.items() if key != "more"}, **told["more"]}


def plain(value: Any) -> Any:
    """As JSON holds it: arrays as lists, what is no finite number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return known_or_none(float(value))
    return value.item() if isinstance(value, np.generic) else value


def abilities_of(
    found: Any,
    names: Sequence[str],
    kinds: Mapping[str, str],
    counts: Mapping[str, int],
    more: Callable[[int], Mapping[str, Any]],
) -> list[Ability]:
    """What a fit with `abilities`, `ability_low` and `ability_high` says of its annotators, sorted by name.

    Args:
        found: the fit.
        names: [W] of its annotators.
        kinds: see `kinds_of`.
        counts: votes by name.
        more: the other parameters of an annotator, by position.
    """
    made = [
        Ability(
            annotator=name,
            kind=kinds.get(name, ""),
            n=int(counts.get(name, 0)),
            value=known_or_none(found.abilities[at]),
            low=known_or_none(found.ability_low[at]),
            high=known_or_none(found.ability_high[at]),
            more=more(at),
        )
        for at, name in enumerate(names)
    ]
    return sorted(made, key=lambda one: one.annotator)


def kinds_of(rows: pl.DataFrame) -> dict[str, str]:
    """The source of each annotator: the first by name where there are several."""
    named = rows.filter(pl.col("annotator").is_not_null())
    return dict(named.group_by("annotator").agg(pl.col("source").min()).iter_rows())
