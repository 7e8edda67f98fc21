"""What `import prefdata` offers: open, run, plan, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefdata.dataset import Dataset
from prefdata.formats import Written
from prefdata.pipeline.plan import plan
from prefdata.pipeline.run import run

__all__ = ["export", "open", "plan", "run"]


def open(path: str | Path, *, at: int | None = None) -> Dataset:
    """Open a dataset.

    Args:
        path: its folder.
        at: as of this commit.

    Raises:
        DataError: there is none, or a newer prefdata made it.
    """
    return Dataset(path, at)


def export(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    format: str,
    from_step: str | None = None,
    view: str = "main",
    template: str | None = None,
    ties: bool = False,
    from_lists: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Written:
    """Write the live preferences as one training file.

    Args:
        dataset: an open dataset, or its folder.
        out: the file.
        format: trl-pairs, trl-pairs-conversational, lists, unpaired, ultrafeedback-binarized or llamafactory.
        from_step: only what this `pair` step made.
        view: the named view whose drops hold beside main's.
        template: a model whose chat template makes the prompts of standard formats.
        ties: write pairs of equal worth too.
        from_lists: `unpaired`: take winners and losers of ranked lists.
        say: is told what was left out, and why.

    Raises:
        DataError: a sentence: no such step or format, or nothing to write.
    """
    from prefdata.operators.export import export_view

    opened = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    made_by = {"preferences": [from_step]} if from_step else None
    live = opened.view(name=view, made_by=made_by)
    meta = {"commit": str(live.snapshot.number), "step": from_step or "", "view": view}
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    return export_view(
        live, path, format=format, template=template, ties=ties, from_lists=from_lists, meta=meta, say=say
    )
