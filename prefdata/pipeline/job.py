"""A column step as a message: all that another process, or another machine, needs to work on pieces of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefdata.dataset import Dataset, Lineage
from prefdata.engines.base import Answer, Request
from prefdata.errors import PipelineError
from prefdata.pipeline.columns import ColumnWork
from prefdata.pipeline.commits import Commits, StepResult
from prefdata.pipeline.context import Halt, RunContext
from prefdata.pipeline.failures import LOG_HINT
from prefdata.pipeline.pieces import Piece
from prefdata.pipeline.registry import STEPS, load_file, load_plugins, plugin_file
from prefdata.pipeline.step import TableStep


@dataclass(frozen=True)
class Job:
    """A column step over a dataset, in words that JSON holds.

    Attributes:
        dataset: its folder.
        folder: the pipeline file's.
        pipeline: the running pipeline's name.
        key: as it stands in `progress`.
        kind: the registered kind of the step.
        module: where the step's class is defined.
        plugin: the Python file that this is, where a pipeline names it.
        fields: the step's, as they are written in YAML.
        fingerprint: the step's.
        reads: the tables whose rows are its input.
        runs: of the lineage.
        free: of the lineage.
        narrow: of the lineage.
    """

    dataset: str
    folder: str
    pipeline: str
    key: str
    kind: str
    module: str
    plugin: str | None
    fields: dict[str, Any]
    fingerprint: str
    reads: list[str]
    runs: list[list[str]]
    free: list[str]
    narrow: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, work: ColumnWork, *, folder: Path, pipeline: str, key: str) -> Job | None:
        """The job, or None where the step cannot be made again elsewhere: it was defined in a notebook or a script."""
        step = work.step
        fields = step.model_dump(mode="json", by_alias=True)
        module = type(step).__module__
        plugin = plugin_file(module)
        if module == "__main__" or step.engine_fields or work.first is not None:
            return None
        try:
            if _made(type(step), fields, folder) != step:
                return None
        except ValueError:
            return None
        return cls(
            dataset=str(work.dataset.path.resolve()),
            folder=str(folder.resolve()),
            pipeline=pipeline,
            key=key,
            kind=step.kind,
            module=module,
            plugin=None if plugin is None else str(plugin),
            fields=fields,
            fingerprint=work.fingerprint,
            reads=sorted(work.reads),
            runs=[list(run) for run in work.lineage.runs],
            free=list(work.lineage.free),
            narrow={table: sorted(steps) for table, steps in work.lineage.narrow.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """What `Job(**...)` takes."""
        return asdict(self)

    def work(self, dataset: Dataset) -> ColumnWork:
        """The step, made again.

        Raises:
            PipelineError: its code is not to be had here.
        """
        load_plugins()
        if self.plugin is not None:
            load_file(Path(self.plugin))
        elif self.kind not in STEPS:
            importlib.import_module(self.module)
        step = _made(STEPS[self.kind], self.fields, Path(self.folder))
        assert isinstance(step, TableStep)
        lineage = Lineage(
            tuple((pipeline, name) for pipeline, name in self.runs),
            tuple(self.free),
            {table: frozenset(steps) for table, steps in self.narrow.items()},
        )
        return ColumnWork(dataset, step, self.fingerprint, frozenset(self.reads), lineage, None, LOG_HINT)

    def perform(self, dataset: Dataset, piece: Piece, say: Callable[[str], None]) -> StepResult:
        """Work on one piece and commit what it makes.

        Args:
            dataset: the one that `dataset` names.
            piece: which groups.
            say: is told what the step says.

        Raises:
            PipelineError: a sentence.
        """
        work = self.work(dataset)
        done = StepResult(str(work.step.name), self.fingerprint)

        def context(commit: int) -> RunContext:
            return RunContext(
                dataset=dataset.path,
                folder=Path(self.folder),
                commit=commit,
                pipeline=self.pipeline,
                fingerprint=self.fingerprint,
                engines={},
                asker=_Nobody(),
                halt=Halt(),
                say=say,
                erased=dataset.erased,
            )

        work.run(piece, Commits(dataset, self.key), context, done)
        return done


def _made(cls: type[Any], fields: Mapping[str, Any], folder: Path) -> object:
    return cls.model_validate(dict(fields), context={"folder": folder})


class _Nobody:
    """Stands where the client stands: a column step asks no model."""

    async def ask(
        self, engine_name: str, request: Request, *, step: str, revision: int = 1, group_id: str | None = None
    ) -> Answer:
        """Refuse."""
        raise PipelineError(f"a step over columns asks no model, and this one asked {engine_name!r}")
