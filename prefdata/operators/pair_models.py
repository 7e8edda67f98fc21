"""`pair.ladder`: the response of the stronger model is preferred, and nobody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.engines.base import Capability
from prefdata.operators.pair import tell
from prefdata.operators.pair_unjudged import COLUMNS, params_of, stated, usable
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row, canonical_json

Rung = str | dict[str, Any]

_PROMPT = ["group_id", "prompt_id"]


@step("pair.ladder")
class Ladder(TableStep):
    """Prefer the response of the stronger model: preferences without a judge (Delta learning).

    `engines`, `models` or `steps` names the ladder, the strongest first. Of each prompt:

    - `ends`: the first of the ladder against the last; a prompt that lacks one of the two gives none.
    - `adjacent`: each against the next.
    - `all`: each against each weaker one.
    - `list`: one ranked list of all.

    The scores are ranks, the weakest has 1. With two models there is one pair for each prompt, and to swap their
    names turns every pair round. Equal texts (whitespace apart) are never paired. That the stronger model's response is
    the better one holds on average, not for each prompt.

    A rung of `models` is a model's name as it stands in `responses.model`, or {model: NAME, temperature: 0, ...}: those
    responses of it with these `params`. Of engines, the responses of the same model with the same identity count. Of
    `steps`, those that the step of this name made: so what people wrote and an `ingest` step brought in may stand above
    what a model draws. Rewritten responses (they have a parent) are left out, unless `from` names the steps to read.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"responses", "prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"preferences"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"responses": COLUMNS, "prompts": ()}
    ordered: ClassVar[bool] = False
    narrows: ClassVar[str | None] = "responses"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engines": "generate"}

    engines: tuple[str, ...] = Field((), description="The engines, the strongest first. This, `models` or `steps`.")
    models: tuple[Annotated[Rung, Field(union_mode="left_to_right")], ...] = Field(
        (), description="Models' names, the strongest first, or {model: NAME, PARAMETER: VALUE}."
    )
    steps: tuple[str, ...] = Field((), description="Steps that made responses, the strongest first.")
    which: Literal["ends", "adjacent", "all", "list"] = Field("ends", description="Who is paired with whom; see above.")
    draws: Literal["first", "all"] = Field(
        "first", description="Of several responses of one model: the first draw, or each with each (not for list)."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(map(bool, (self.engines, self.models, self.steps))) != 1:
            raise ValueError("give engines, models or steps (one of the three), the strongest first")
        rungs: Sequence[Rung] = self.engines or self.models or self.steps
        if len(rungs) < 2:
            raise ValueError("a ladder has at least two rungs, the strongest first")
        names = [canonical_json(rung) for rung in rungs]
        if len(set(names)) != len(names):
            raise ValueError("the ladder has one rung twice")
        for rung in self.models:
            if isinstance(rung, dict) and not isinstance(rung.get("model"), str):
                raise ValueError(f"a rung is a model's name or {{model: NAME, PARAMETER: VALUE}}; this is {rung!r}")
        if self.which == "list" and self.draws == "all":
            raise ValueError("draws: all needs pairs; a list takes one response of each model")
        return self

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences; what gave none is counted in the log."""
        reasons: Counter[str] = Counter()
        rows = usable(tables["responses"])
        if not self.from_:
            rows = rows.filter(pl.col("parent_id").is_null())
        rows = self._on_rungs(rows, context)
        if self.draws == "first":
            first = rows.unique([*_PROMPT, "rung"], keep="first", maintain_order=True)
            reasons["further draws"], rows = rows.height - first.height, first
        rungs = len(self.engines or self.models or self.steps)
        held = rows.select(*_PROMPT, "rung").unique()
        reasons["missing"] = rungs * held.select(_PROMPT).n_unique() - held.height if held.height else 0
        lists = self._ranked(rows, reasons) if self.which == "list" else self._paired(rows, rungs, reasons)
        tell(reasons, context)
        return {"preferences": stated(lists, "ladder")}

    def _on_rungs(self, rows: pl.DataFrame, context: Context) -> pl.DataFrame:
        """The rows that stand on a rung, with its place; what wrote them is looked at once for each way of writing."""
        fits = [_named(rung) for rung in self.models] or [_by_step(name) for name in self.steps]
        fits = fits or [_made_by(context, name) for name in self.engines]
        ways = rows.select("model", "params", "step").unique()
        places = [next((place for place, fits_ in enumerate(fits) if fits_(way)), None) for way in ways.to_dicts()]
        ways = ways.with_columns(pl.Series("rung", places, dtype=pl.Int64)).filter(pl.col("rung").is_not_null())
        return rows.join(ways, on=["model", "params", "step"], nulls_equal=True, maintain_order="left")

    def _ranked(self, rows: pl.DataFrame, reasons: Counter[str]) -> pl.DataFrame:
        """One list for each prompt; of equal texts the strongest model's stays."""
        order = rows.sort(*_PROMPT, "rung", maintain_order=True)
        kept = order.unique([*_PROMPT, "content"], keep="first", maintain_order=True)
        reasons["same text"] = order.height - kept.height
        lists = kept.group_by(_PROMPT, maintain_order=True).agg(response_ids="response_id")
        return lists.filter(pl.col("response_ids").list.len() > 1)

    def _paired(self, rows: pl.DataFrame, rungs: int, reasons: Counter[str]) -> pl.DataFrame:
        """The pairs, equal texts left out."""
        places = {
            "ends": [(0, rungs - 1)],
            "adjacent": [(place, place + 1) for place in range(rungs - 1)],
            "all": [(a, b) for a in range(rungs) for b in range(a + 1, rungs)],
        }[self.which]
        of = {place: rows.filter(pl.col("rung") == place) for place in range(rungs)}
        found = pl.concat([of[better].join(of[worse], on=_PROMPT, suffix="_worse") for better, worse in places])
        kept = found.filter(pl.col("content") != pl.col("content_worse"))
        reasons["same text"] = found.height - kept.height
        return kept.select(*_PROMPT, response_ids=pl.concat_list("response_id", "response_id_worse"))


Fits = Callable[[Row], bool]
"""Whether responses of this model, with these params, made by this step, stand on a rung."""


def _named(rung: Rung) -> Fits:
    """A rung that is named by model and parameters."""
    if isinstance(rung, str):
        return lambda way: bool(way["model"] == rung)
    wanted = {name: value for name, value in rung.items() if name != "model"}

    def fits(way: Row) -> bool:
        params = params_of(way["params"])
        return way["model"] == rung["model"] and all(
            name in params and params[name] == value for name, value in wanted.items()
        )

    return fits


def _by_step(name: str) -> Fits:
    """A rung of what the step of this name made."""
    return lambda way: str(way["step"]).partition("@")[0] == name


def _made_by(context: Context, name: str) -> Fits:
    """A rung of what an engine wrote."""
    engine = context.engine(name)
    return lambda way: way["model"] == engine.model and params_of(way["params"]).get("identity") == engine.identity
