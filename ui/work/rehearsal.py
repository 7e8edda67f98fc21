"""What a project would make, before it is made: how many tasks and labels, for whom, and what a task looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import select

from prefdata.errors import DataError
from prefdata.formats import read

from ..accounts.access import need
from ..accounts.people import Person
from ..store.tables import asides
from .making import is_meant, lists_of, targets_of
from .project import Project, project_of
from .projects import Held, guideline_of
from .shown import task_shown

if TYPE_CHECKING:
    from ..service import Service


@dataclass(frozen=True)
class Rehearsal:
    """What would come of a project's fields.

    Attributes:
        tasks: that people would label.
        labels: that the tasks would want.
        gold: gold questions.
        people: who could work on it now: those that it is meant for and that are neither paused nor stopped.
        known: there is a project of that name already, to which tasks would be added.
        task: one task as its annotators would see it (TASK of the label page); None where there is none.
    """

    tasks: int
    labels: int
    gold: int
    people: int
    known: bool
    task: dict[str, Any] | None


def rehearse(service: Service, who: Person | None, fields: Mapping[str, Any]) -> Rehearsal:
    """See what a project would make. Nothing is written.

    Args:
        service: the application.
        who: an admin.
        fields: of `Project`.

    Raises:
        DataError, PipelineError: a field is wrong, or a file cannot be read.
    """
    need(who, "admin")
    project = project_of(dict(fields))
    guideline = guideline_of(project)
    golden = {row["prompt_id"] for row in read("tasks", project.gold).rows["prompts"]} if project.gold else set()
    with service.store.read() as db:
        beside = db.execute(select(asides).order_by(asides.c.position)).all()
    only = [row.prompt_id for row in beside if row.file == project.file] if project.file else None
    if only == []:
        raise DataError(f"no file {project.file!r} was uploaded")
    questions = {row.prompt_id for row in beside if row.gold is not None}
    golden |= questions.intersection(only or ())
    found = targets_of(service.dataset, project, only)
    found = found.filter(~pl.col("prompt_id").is_in(sorted(questions | golden)))
    tasks = _count(found, project)
    held = Held(0, project, "open", guideline.label)
    task = None
    for _, prompt, _, targets in lists_of(found.head(1), project):
        warning = next((row.warning for row in beside if row.prompt_id == prompt), None)
        row = SimpleNamespace(task_id=0, prompt_id=prompt, target_ids=targets, warning=warning)
        task = task_shown(row, range(len(targets)), held, guideline, service.texts)
        break
    return Rehearsal(
        tasks,
        tasks * project.overlap,
        len(golden),
        sum(
            person.state == "active" and is_meant(project, person.pseudonym, person.groups, person.skills)
            for person in service.people.list()
        ),
        any(one.project.name == project.name for one in service.projects.list()),
        task,
    )


def _count(found: pl.DataFrame, project: Project) -> int:
    """How many tasks `Projects.create` makes of these prompts: worked out, since they may be millions."""
    size = pl.col("responses").list.len().cast(pl.Int64)
    if project.responses:
        size = pl.min_horizontal(size, project.responses)
    each = pl.lit(1, pl.Int64)
    if project.protocol == "compare" and project.pairs != "one":
        each = size - 1 if project.pairs == "adjacent" else size * (size - 1) // 2
    elif project.protocol in ("edit", "first_error"):
        each = size
    tasks = int(found.select(each.sum() if each.meta.root_names() else pl.len()).item() or 0)
    return min(tasks, project.budget) if project.budget else tasks


def uploaded(service: Service) -> list[str]:
    """The names of the files that were uploaded, as `Project.file` takes them."""
    with service.store.read() as db:
        return sorted(db.execute(select(asides.c.file).distinct()).scalars())


def free_name(service: Service, wanted: str = "project") -> str:
    """A name that no project has: `wanted`, made to fit, with a number where it is taken."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in wanted)
    base = kept.strip("_.-")[:50] or "project"
    taken = {held.project.name for held in service.projects.list()}
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}-{n}") not in taken)
