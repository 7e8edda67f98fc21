"""`ingest`: bring prompts, and what else a file holds, into a pipeline."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from prefdata.errors import PipelineError
from prefdata.formats import keep, read, sentences
from prefdata.formats.pictures import bring
from prefdata.pipeline.registry import step
from prefdata.pipeline.spec import find_file
from prefdata.pipeline.step import Context, SourceStep
from prefdata.schema import Rows


@step("ingest")
class Ingest(SourceStep):
    """Read a file in one of the formats of `prefdata import`.

    The file is input, not configuration: it is compared row by row with what was read before. New prompts are worked
    on, changed ones again, and those taken away are no longer live. A row that cannot be read is left out, said, and
    kept with the reason in the dataset's `quarantine/` until it is put right; with `strict` it stops the run.
    """

    format: str = Field(
        "prompts",
        description="Of the file: prompts, ranked, hh-rlhf, oasst, ukpconvarg, pandalm, lamp, alpacaeval, trl-pairs.",
    )
    path: str = Field(
        description="A file or folder, from the working folder or the pipeline's; `sample:` is our own data."
    )
    limit: int | None = Field(None, ge=1, description="Take the first so many prompts of the file only.")
    strict: bool = Field(False, description="A row that cannot be read is an error, and nothing is taken.")

    def resolved(self) -> dict[str, Any]:
        """Where the rows lie and which are taken does not name the step: the rows are its input."""
        fields = super().resolved()
        return {key: value for key, value in fields.items() if key not in ("path", "limit", "strict")}

    def run(self, context: Context) -> Rows:
        """See the class."""
        found = find_file(self.path, context.folder)
        if found is None:
            raise PipelineError(
                f"step {self.name!r}: there is no {self.path!r}, neither in the working folder nor in {context.folder}"
            )
        taken = read(self.format, found, strict=self.strict)
        quarantine = keep(
            context.dataset,
            f"{context.pipeline}-{self.name}",
            ["ingest", context.pipeline, str(self.name)],
            taken.quarantined,
        )
        bring(taken.files, context.dataset)
        for sentence in sentences(taken.quarantined, quarantine):
            context.log(f"WARNING: {sentence}")
        for reason, count in sorted(taken.left_out.items()):
            context.log(f"{count:,} rows of {found.name} left out: {reason}")
        # Rows of a source are compared group by group; those of `annotators` are in none, so only `import` takes them.
        made = {table: rows for table, rows in taken.rows.items() if table in self.writes}
        groups = list(dict.fromkeys(row["group_id"] for row in made.get("prompts", [])))
        if self.limit is None or self.limit >= len(groups):
            context.log(taken.note)
            return made
        context.log(f"the first {self.limit:,} of {len(groups):,} prompts of {found.name}")
        kept = set(groups[: self.limit])
        return {table: [row for row in rows if row["group_id"] in kept] for table, rows in made.items()}
