"""`export`: write what is live as a training file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.dataset.parts import frame_of
from prefdata.errors import DataError
from prefdata.formats import WRITERS, Written, training_lists, write, write_card
from prefdata.operators.pair import preferences_from
from prefdata.pipeline.registry import nearest, step
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

    Where no preferences are live, imported and human annotations are paired in memory by the rule `list`, and `say` is
    told so.

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
        DataError: an unknown format, or nothing to write.
    """
    if format not in WRITERS:
        raise DataError(f"there is no format {format!r}{nearest(format, WRITERS)} (there are: {', '.join(WRITERS)})")
    tables = dict(view)
    if tables["preferences"].select(pl.len()).collect().item() == 0:
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


def _paired(tables: Mapping[str, pl.LazyFrame], say: Callable[[str], None]) -> pl.LazyFrame:
    """Preferences from what people and imports said, when no step made any."""
    imported = pl.col("step").str.starts_with("import:")
    said = tables["annotations"].filter(imported | (pl.col("source") == "human")).collect()
    made, left_out = preferences_from(said, tables["responses"].collect(), rule="list", ties="keep")
    if made.is_empty():
        raise DataError(
            "no preferences are live, and no imported or human annotations to make some from: run a pipeline with a "
            "`pair` step first"
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
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("path stays below the dataset's exports/: name a file, without '..'")
        if self.format not in WRITERS:
            raise ValueError(f"there is no format {self.format!r}{nearest(self.format, WRITERS)}")
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
