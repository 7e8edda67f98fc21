"""`report`: write report.html and report.json into the dataset's folder."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from prefdata.dataset import Dataset
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Sink


@step("report")
class Report(Sink):
    """Describe what is live: what came in, what was dropped, what it cost, and whom to believe."""

    reads = frozenset({"prompts", "responses", "annotations", "consensus", "preferences"})

    reference: str | None = Field(
        None, description="Annotators (a pattern such as human:*) whose judgements the others are held against."
    )

    def run(self, view: Mapping[str, pl.LazyFrame], context: Context) -> None:
        """See the class."""
        from prefdata.report import write_report

        write_report(Dataset(context.dataset), context.dataset, view=view, reference=self.reference)
        context.log(f"{context.dataset / 'report.html'}")
