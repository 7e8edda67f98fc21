"""How the tasks of a project are made: from uploaded files, and from the prompts and responses of the dataset."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Connection, delete, insert, select

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.formats import read
from prefdata.formats.pictures import bring
from prefdata.schema import make_id

from ..store import Store
from ..store.tables import asides, people
from .gold import gold_answer
from .project import Project

_TAGS = {"": (), "language": ("language:", "lang:"), "skill": ("skill:",)}
"""How a prompt's tags say what a task requires."""

_AT_ONCE = 20_000
"""Rows that are written at once."""

Row = dict[str, Any]


def take_file(dataset: Dataset, store: Store, path: Path, *, golden: Project | None = None) -> str:
    """Import a file of tasks, and keep what it says beside them.

    Args:
        dataset: gets prompts and responses.
        store: gets gold answers, explanations and warnings, which annotators must not see.
        path: the file, of format `tasks`.
        golden: every row must have a gold answer that fits this project.

    Returns:
        A sentence on what came in.

    Raises:
        DataError: the file cannot be read, or a gold answer is missing or does not fit.
    """
    given = read("tasks", path)
    besides: Mapping[str, Row] = getattr(given, "beside", {})
    rows = []
    for position, row in enumerate(given.rows["prompts"]):
        beside = besides.get(row["prompt_id"], {})
        if golden is not None:
            ids = beside.get("response_ids") or ()
            gold_answer(beside.get("gold"), golden, len(ids), f"{path.name}: {_excerpt(row)!r}")
        rows.append(
            {
                "file": path.name[-200:],
                "prompt_id": row["prompt_id"],
                "position": position,
                **{name: beside.get(name) for name in ("gold", "explanation", "warning", "response_ids")},
            }
        )
    if golden is not None and given.quarantined:
        bad = given.quarantined[0]
        raise DataError(f"{path.name}, row {bad.row}{f', column {bad.column}' if bad.column else ''}: {bad.reason}")
    questions = [row["prompt_id"] for row in rows if row["gold"] is not None]
    new = set(questions) - set(dataset.latest("prompts", questions))
    bring(given.files, dataset.path)
    counts = dataset.add_import(given.rows, source="tasks", fields={"path": path.name})
    if new:  # people are asked them; pipelines, exports and agreement know nothing of them
        dataset.drop("prompts", sorted(new), reason="gold question", store="gold")
    with store.write() as db:
        db.execute(delete(asides).where(asides.c.file == path.name[-200:]))
        left = iter(rows)
        while batch := list(islice(left, _AT_ONCE)):
            db.execute(insert(asides), batch)
    new_rows = (_counted(counts.get("prompts", 0), "prompt"), _counted(counts.get("responses", 0), "response"))
    told = f"{path.name}: new are {' and '.join(new_rows)}"
    if given.quarantined:
        bad = given.quarantined[0]
        column = f", column {bad.column}" if bad.column else ""
        told += (
            f"; {len(given.quarantined):,} rows could not be read and were left out, the first of them row {bad.row}"
            f"{column}: {bad.reason}"
        )
    return told


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _excerpt(row: Mapping[str, Any]) -> str:
    return str(row["messages"][-1]["content"])[:60]


def targets_of(dataset: Dataset, project: Project, only: Sequence[str] | None = None) -> pl.DataFrame:
    """group_id, prompt_id, tags, responses (ids) of every live prompt with enough responses for the protocol.

    Args:
        dataset: whose prompts.
        project: says how many responses are enough.
        only: ids of prompts, in the order to take them; all of the dataset unless given.
    """
    view = dataset.view()
    # What people wrote is not given to people to label.
    known = view["responses"].filter(pl.col("text").is_not_null() & ~pl.col("model").str.starts_with("human:"))
    per_prompt = (
        known.select("prompt_id", "response_id", "sample_index", "model")
        .sort("prompt_id", "model", "sample_index", "response_id")
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.col("response_id").alias("responses"))
    )
    prompts = view["prompts"].select("group_id", "prompt_id", "tags")
    if only is not None:
        wanted = pl.LazyFrame({"prompt_id": list(only)}, schema={"prompt_id": pl.String})
        prompts = wanted.join(prompts, on="prompt_id", how="inner", maintain_order="left")
    found = prompts.join(per_prompt, on="prompt_id", how="inner", maintain_order="left")
    return found.filter(pl.col("responses").list.len() >= project.asked).collect()


def lists_of(found: pl.DataFrame, project: Project) -> Iterator[tuple[str, str, Sequence[str], list[str]]]:
    """group_id, prompt_id, tags and the target ids of each task."""
    most = project.responses or None
    for group, prompt, tags, responses in found.select("group_id", "prompt_id", "tags", "responses").iter_rows():
        chosen = responses
        if most is not None and len(responses) > most:
            # The same draw in every run, and for nobody a matter of which model comes first.
            chosen = sorted(random.Random(f"{project.name}/{prompt}").sample(responses, most), key=responses.index)
        for targets in _split(chosen, project, prompt):
            yield group, prompt, tags or (), list(targets)


def _split(responses: Sequence[str], project: Project, prompt: str) -> Iterable[Sequence[str]]:
    if project.protocol == "compare":
        if project.pairs == "adjacent":
            return pairwise(responses)
        if project.pairs == "one":
            return [random.Random(f"{project.name}/{prompt}/pair").sample(list(responses), 2)]
        return combinations(responses, 2)
    if project.protocol in ("edit", "first_error"):
        return [[one] for one in responses]
    return [responses]


def planned(
    dataset: Dataset,
    db: Connection,
    project: Project,
    order: Mapping[frozenset[str] | str, float],
    among: Sequence[int] = (),
) -> Iterator[Row]:
    """The rows of `tasks` that a project asks for, but for `project_id`; gold questions last.

    Args:
        dataset: whose prompts and responses.
        db: of the store.
        project: what is asked for.
        order: see `routing.priorities`.
        among: people between whom the tasks are split.

    Raises:
        DataError: a gold answer does not fit the protocol.
    """
    beside = {row.prompt_id: row for row in db.execute(select(asides).order_by(asides.c.position)).all()}
    gold = _gold_of(db, project)
    only = None
    if project.file:
        listed = select(asides.c.prompt_id).where(asides.c.file == project.file).order_by(asides.c.position)
        only = list(db.execute(listed).scalars())
        if not only:
            raise DataError(f"no file {project.file!r} was uploaded")
    questions = {prompt for prompt, row in beside.items() if row.gold is not None}
    found = targets_of(dataset, project, only).filter(~pl.col("prompt_id").is_in(sorted(questions)))
    for number, (group, prompt, tags, targets) in enumerate(lists_of(found, project)):
        needed = [tag.partition(":")[2] for tag in tags if tag.startswith(_TAGS[project.require])]
        yield {
            **_task(project, group, prompt, targets),
            "requires": needed[0] if needed else None,
            "person_id": among[number % len(among)] if among else None,
            "gold": None,
            "warning": beside[prompt].warning if prompt in beside else None,
            "priority": order.get(frozenset(targets), order.get(prompt, 0.0)),
            "wanted": project.overlap,
            "free": project.overlap,
            "state": "open",
        }
    groups = {prompt: row["group_id"] for prompt, row in dataset.latest("prompts", list(gold)).items()}
    for prompt, row in gold.items():
        if prompt in groups:
            answer = gold_answer(row.gold, project, len(row.response_ids or ()), f"{row.file}, row {row.position + 1}")
            yield {
                **_task(project, groups[prompt], prompt, row.response_ids),
                "requires": None,
                "person_id": None,
                "gold": {"answer": answer, "explanation": row.explanation or ""},
                "warning": row.warning,
                "priority": 0.0,
                "wanted": 0,
                "free": 0,
                "state": "gold",
            }


def _gold_of(db: Connection, project: Project) -> dict[str, Any]:
    """The gold questions of a project: of its gold file, and of its own file."""
    files = [name for name in (Path(project.gold).name[-200:] if project.gold else "", project.file) if name]
    found = select(asides).where(asides.c.file.in_(files)).order_by(asides.c.file, asides.c.position)
    return {row.prompt_id: row for row in db.execute(found).all() if row.gold is not None}


def _task(project: Project, group: str, prompt: str, targets: Sequence[str]) -> Row:
    key = make_id("task", project.name, prompt, sorted(targets))
    return {"key": key, "group_id": group, "prompt_id": prompt, "target_ids": list(targets)}


def owners(db: Connection, project: Project) -> list[int]:
    """Those among whom a project's tasks are split; nobody where they are not.

    Raises:
        DataError: nobody fits.
    """
    if not project.split:
        return []
    found = db.execute(select(people).where(people.c.state != "stopped").order_by(people.c.person_id))
    chosen = [row.person_id for row in found if is_meant(project, row.pseudonym, row.groups, row.skills)]
    if not chosen:
        raise DataError("split: nobody fits (people, groups, skills); add people first")
    return chosen


def is_meant(project: Project, pseudonym: str, groups: Iterable[str], skills: Iterable[str]) -> bool:
    """Whether a project is for this person: named, or of one of its groups (nobody named: all), with all its skills."""
    named = not (project.people or project.groups)
    named = named or pseudonym in project.people or bool(set(project.groups) & set(groups))
    return named and set(project.skills) <= set(skills)
