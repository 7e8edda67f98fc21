"""`export`: write what is live as a training file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.dataset import View
from prefdata.dataset.log import name_of
from prefdata.errors import DataError
from prefdata.formats import (
    LABEL_WRITERS,
    Written,
    format_names,
    name_problem,
    training_lists,
    write,
    write_card,
    write_labels,
)
from prefdata.operators.pair import preferences_from
from prefdata.pipeline.pieces import EVERYTHING, pieces
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
    `say` is told so. Where one does and made none, nothing else is taken in their place. A format of
    `prefdata.formats.LABEL_WRITERS` takes the live prompts, responses and annotations, and no preferences.

    Args:
        view: the live tables.
        out: the file.
        format: one of `prefdata.formats.format_names`.
        template: a model whose chat template makes the prompts of standard formats, or none: the contents of messages,
            joined by blank lines, for a base model.
        ties: write pairs of equal worth too, with p 0.5.
        from_lists: `unpaired` only: take winners and losers of ranked lists.
        meta: footer metadata.
        say: is told what was left out, and why.

    Raises:
        DataError: an unknown format, a file's name that does not fit it, or nothing to write.
    """
    known = format_names()
    if format not in known:
        raise DataError(f"there is no format {format!r}{nearest(format, known)} (there are: {', '.join(known)})")
    unusable: Counter[str] = Counter()
    if format in LABEL_WRITERS:
        if template is not None or ties or from_lists:
            raise DataError(f"{format!r} holds what was said and no pairs: leave out template, ties and from_lists")
        if isinstance(view, View) and view.lineage.narrow.get("preferences") is not None:
            raise DataError(f"{format!r} holds no preferences, of which `from` names a maker: leave it out")
        return _told(write_labels(view, format, out), unusable, format, say)
    sources = _Sources(view)
    if sources.any_preferences():
        lists = sources.live(unusable)
    elif problem := _empty_handed(view):
        kept = f"; {out}, which an earlier export wrote, was left as it was" if out.is_file() else ""
        raise DataError(problem + kept)
    else:
        lists = sources.paired(unusable, say)
    written = write(
        lists, format, out, template=template, ties=ties, from_lists=from_lists, meta={**(meta or {}), "format": format}
    )
    return _told(written, unusable, format, say)


def _told(written: Written, unusable: Counter[str], format: str, say: Callable[[str], None]) -> Written:
    """Say what was written, and put it into the folder's card."""
    left_out, out = unusable + written.left_out, written.path
    say(f"{written.rows:,} rows in {out}")
    for reason, count in sorted(left_out.items()):
        say(f"{count:,} left out: {reason}")
    write_card(out.parent, {"file": out.name, "format": format, "rows": written.rows, "left_out": dict(left_out)})
    return written


def _empty_handed(view: Mapping[str, pl.LazyFrame]) -> str | None:
    """Which steps should have made the preferences that are not there; nothing where no step makes any."""
    if not isinstance(view, View):
        return None
    kinds = {name: record.kind for name, record in view.snapshot.steps.items() if name in view.lineage.steps}
    makers = [name for name, kind in kinds.items() if kind in STEPS and "preferences" in STEPS[kind].writes]
    narrow = view.lineage.narrow.get("preferences")
    if narrow is not None:
        makers = [name for name in makers if name in narrow]
        if not makers:
            named = _quoted(narrow) or "no step of a pipeline"
            return f"`from` names {named}, and no preferences are made there: name a step that makes some"
    if not makers:
        return None
    return (
        f"no preferences are live: {_quoted(makers)} made none, or all of them were dropped; `prefdata show` says "
        "which, and what was judged without a verdict; `min_gap`, `rule` and `ties` of `pair` decide what becomes one"
    )


@dataclass(frozen=True)
class _Part:
    """Some of the groups of a view.

    Attributes:
        tables: the live rows.
        joint: whether it is there for the rows that reach across groups, or for all others; None: for all.
    """

    tables: Mapping[str, pl.LazyFrame]
    joint: bool | None = None

    def of(self, table: str) -> pl.LazyFrame:
        """The rows that this part is there for."""
        rows = self.tables[table]
        if self.joint is None:
            return rows
        joint = pl.col("prompt_ids").is_not_null() if table == "preferences" else pl.col("prompt_id").is_null()
        return rows.filter(joint if self.joint else ~joint)

    def lists(self, preferences: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
        """These preferences with their texts; what cannot be used is counted."""
        split = None
        if isinstance(self.tables, View):
            split = self.tables.annotations_where(pl.col("annotator") == "rule:split")
        rows, unusable = training_lists(self.tables, view_preferences=preferences, split_labels=split)
        left_out.update(unusable)
        return rows


class _Sources:
    """Where the lists of a view come from, piece by piece: memory depends on the piece and not on the dataset."""

    def __init__(self, view: Mapping[str, pl.LazyFrame]) -> None:
        self._view = view

    def _parts(self) -> Iterator[_Part]:
        found = pieces(self._view.snapshot) if isinstance(self._view, View) else [EVERYTHING]
        if len(found) == 1 or not isinstance(self._view, View):
            yield _Part(self._view)
            return
        yield from (_Part(piece.of(self._view), joint=False) for piece in found)
        joint = {"preferences": pl.col("prompt_ids").is_not_null(), "annotations": pl.col("prompt_id").is_null()}
        if any(self._view.ever(table, condition) for table, condition in joint.items()):
            yield _Part(self._view, joint=True)

    def any_preferences(self) -> bool:
        """Whether any preference is live."""
        return any(part.of("preferences").select("group_id").head(1).collect().height for part in self._parts())

    def live(self, left_out: Counter[str]) -> Iterator[pl.DataFrame]:
        """The live preferences."""
        for part in self._parts():
            preferences = part.of("preferences").collect()
            if preferences.height:
                yield part.lists(preferences, left_out)

    def paired(self, left_out: Counter[str], say: Callable[[str], None]) -> Iterator[pl.DataFrame]:
        """Preferences from what people and imports said, when no step made any."""
        count, gave_none = 0, Counter[str]()
        said_so = pl.col("step").str.starts_with("import:") | (pl.col("source") == "human")
        for part in self._parts():
            said = part.of("annotations").filter(said_so).collect()
            if not said.height:
                continue
            made, reasons = preferences_from(said, part.tables["responses"].collect(), rule="list", ties="keep")
            count += made.height
            gave_none += reasons
            if made.height:
                yield part.lists(made, left_out)
        if not count:
            raise DataError(
                "there is nothing to export: no step makes preferences, and there are no imported or human annotations "
                "that order two responses: run a pipeline with a `pair` step first"
            )
        say(f"no preferences are live: {count:,} made from imported and human annotations by the rule `list`")
        for reason, number in sorted(gave_none.items()):
            say(f"{number:,} annotations gave none: {reason}")


def _quoted(steps: Iterable[str]) -> str:
    return ", ".join(sorted({repr(name_of(name) or name) for name in steps}))


@step("export")
class Export(Sink):
    """Write the live preferences as a training file in the dataset's folder `exports/`."""

    reads = frozenset({"prompts", "responses", "annotations", "consensus", "preferences", "token_scores"})
    narrows = "preferences"

    format: str = Field(description="trl-pairs, trl-pairs-conversational, lists, unpaired, ...")
    path: str = Field(description="File name, below the dataset's exports/.")
    template: str | None = Field(
        None, description="A model whose chat template makes the prompts; none: contents, joined."
    )
    ties: bool = Field(False, description="Write pairs of equal worth too.")
    from_lists: bool = Field(False, description="unpaired: take winners and losers of ranked lists.")

    @model_validator(mode="after")
    def _stay_inside(self) -> Self:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or self.path.startswith("~"):
            raise ValueError("path stays below the dataset's exports/: name a file, without '..' or '~'")
        if self.format not in (known := format_names()):
            raise ValueError(f"there is no format {self.format!r}{nearest(self.format, known)}")
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
