"""`export`: write what is live as a training file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.dataset import View
from prefdata.dataset.log import name_of
from prefdata.dataset.parts import frame_of
from prefdata.errors import DataError
from prefdata.formats import WRITERS, Written, name_problem, training_lists, write, write_card
from prefdata.operators.pair import preferences_from
from prefdata.pipeline.registry import STEPS, nearest, step
from prefdata.pipeline.step import Context, Sink

EXPORTS = "exports"
"""The folder in a dataset where steps export to."""


def export_view(
    view: Mapping[str, pl.LazyFrame],
    out: Path,
    *,
    format: str,
    template: str | None = None,
    ties: bool = False,
    from_lists: bool = False,
    meta: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Written:
    """Write the live preferences of a view as one training file, and the card of the folder that it lies in.

    Where no live step makes preferences, imported and human annotations are paired in memory by the rule `list`, and
    `say` is told so. Where one does and made none, nothing else is taken in their place.

    Args:
        view: the live tables.
        out: the file.
        format: one of `prefdata.formats.WRITERS`.
        template: a model whose chat template makes the prompts of standard formats.
        ties: write pairs of equal worth too, with p 0.5.
        from_lists: `unpaired` only: take winners and losers of ranked lists.
        meta: footer metadata.
        say: is told what was left out, and why.

    Raises:
        DataError: an unknown format, a file's name that does not fit it, or nothing to write.
    """
    if format not in WRITERS:
        raise DataError(f"there is no format {format!r}{nearest(format, WRITERS)} (there are: {', '.join(WRITERS)})")
    tables = dict(view)
    if tables["preferences"].select(pl.len()).collect().item() == 0:
        if problem := _empty_handed(view):
            kept = f"; {out}, which an earlier export wrote, was left as it was" if out.is_file() else ""
            raise DataError(problem + kept)
        tables["preferences"] = _paired(tables, say)
    rows, unusable = training_lists(tables)
    written = write(
        rows, format, out, template=template, ties=ties, from_lists=from_lists, meta={**(meta or {}), "format": format}
    )
    left_out = unusable + written.left_out
    say(f"{written.rows:,} rows in {out}")
    for reason, count in sorted(left_out.items()):
        say(f"{count:,} left out: {reason}")
    write_card(out.parent, {"file": out.name, "format": format, "rows": written.rows, "left_out": dict(left_out)})
    return written


def _empty_handed(view: Mapping[str, pl.LazyFrame]) -> str | None:
    """Which steps should have made the preferences that are not there; nothing where no step makes any."""
    if not isinstance(view, View):
        return None
    narrow = view.lineage.narrow.get("preferences")
    if narrow is not None:
        names = _quoted(narrow)
        return (
            f"no preferences made by {names} are live, and `from` asked for nothing else: name a step that makes "
            "preferences there; `prefdata show` says what each made and what was dropped"
        )
    kinds = {name: record.kind for name, record in view.snapshot.steps.items() if name in view.lineage.steps}
    makers = [name for name, kind in kinds.items() if kind in STEPS and "preferences" in STEPS[kind].writes]
    if not makers:
        return None
    return (
        f"no preferences are live: {_quoted(makers)} made none, or all of them were dropped; `prefdata show` says "
        "which, and `min_gap`, `rule` and `ties` of `pair` decide what becomes one"
    )


def _quoted(steps: Iterable[str]) -> str:
    return ", ".join(sorted({repr(name_of(name) or name) for name in steps}))


def _paired(tables: Mapping[str, pl.LazyFrame], say: Callable[[str], None]) -> pl.LazyFrame:
    """Preferences from what people and imports said, when no step made any."""
    imported = pl.col("step").str.starts_with("import:")
    said = tables["annotations"].filter(imported | (pl.col("source") == "human")).collect()
    made, left_out = preferences_from(said, tables["responses"].collect(), rule="list", ties="keep")
    if made.is_empty():
        raise DataError(
            "there is nothing to export: no step makes preferences, and there are no imported or human annotations "
            "that order two responses: run a pipeline with a `pair` step first"
        )
    say(f"no preferences are live: {len(made):,} made from imported and human annotations by the rule `list`")
    for reason, count in sorted(left_out.items()):
        say(f"{count:,} annotations gave none: {reason}")
    return frame_of("preferences", made).lazy()


@step("export")
class Export(Sink):
    """Write the live preferences as a training file in the dataset's folder `exports/`."""

    reads = frozenset({"prompts", "responses", "annotations", "consensus", "preferences", "token_scores"})
    narrows = "preferences"

    format: str = Field(description="trl-pairs, trl-pairs-conversational, lists, unpaired, ...")
    path: str = Field(description="File name, below the dataset's exports/.")
    template: str | None = Field(None, description="A model whose chat template makes the prompts.")
    ties: bool = Field(False, description="Write pairs of equal worth too.")
    from_lists: bool = Field(False, description="unpaired: take winners and losers of ranked lists.")

    @model_validator(mode="after")
    def _stay_inside(self) -> Self:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or self.path.startswith("~"):
            raise ValueError("path stays below the dataset's exports/: name a file, without '..' or '~'")
        if self.format not in WRITERS:
            raise ValueError(f"there is no format {self.format!r}{nearest(self.format, WRITERS)}")
        if problem := name_problem(self.format, path):
            raise ValueError(f"path {self.path!r}: {problem}")
        return self

    def run(self, view: Mapping[str, pl.LazyFrame], context: Context) -> None:
        """See the class."""
        out = context.dataset / EXPORTS / self.path
        out.parent.mkdir(parents=True, exist_ok=True)
        meta = {"commit": str(context.commit), "step": str(self.name), "view": self.view, "pipeline": context.pipeline}
        export_view(
            view,
            out,
            format=self.format,
            template=self.template,
            ties=self.ties,
            from_lists=self.from_lists,
            meta=meta,
            say=context.log,
        )
