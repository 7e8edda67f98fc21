"""A model's numbers as annotations, so that what it says can be asked beside what people and judges said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl

from prefdata.dataset import Dataset
from prefdata.dataset.log import Plan, StepRecord
from prefdata.dataset.parts import frame_of
from prefdata.dataset.view import pipeline_key
from prefdata.evaluate.measures import Judged
from prefdata.evaluate.scoring import Scored
from prefdata.schema import Row, annotation, make_id


def annotations_of(scored: Scored, prompts: dict[str, str] | None = None) -> list[Row]:
    """One annotation for each list: its responses as targets, the model's numbers as scores.

    Args:
        scored: what the model said.
        prompts: the prompt of each preference in its dataset, by the preference's id; where a preference has none,
            each response stands under its own prompt.
    """
    known = prompts or {}
    rows = []
    for one in scored.lists:
        source, numbers = one.source, _numbers(one)
        targets = [response.id or _made_up(one, place) for place, response in enumerate(source.responses)]
        rows.append(
            annotation(
                group_id=source.group,
                prompt_id=known.get(source.id),
                target_ids=targets,
                protocol="score",
                scores=[float(number) for number in numbers],
                annotator=scored.annotator,
                source="reward" if one.lp is None else "likelihood",
                aspect=source.aspect or "overall",
                key=[scored.identity, source.id or source.row],
            )
        )
    return rows


def write_annotations(rows: Sequence[Row], path: str) -> None:
    """Write the rows as Parquet, with the columns of the table `annotations` that they fill."""
    frame = frame_of("annotations", pl.from_dicts(list(rows), infer_schema_length=None))
    frame.select(name for name in frame.columns if frame[name].null_count() < frame.height).write_parquet(path)


def keep(scored: Scored, dataset: Dataset) -> int:
    """Commit the numbers to the dataset that the export was made from, as a pipeline of their own.

    Every query, report and page sees them; no other pipeline takes them for evidence unless it `reads` theirs.

    Returns:
        How many annotations were new.
    """
    preferences = dataset.view()["preferences"].select("preference_id", "prompt_id").collect()
    prompts = {one: prompt for one, prompt in preferences.iter_rows() if prompt is not None}
    name = f"evaluate-{make_id('evaluate', scored.annotator)[:8]}"
    step = f"{name}@{make_id('evaluate', scored.annotator, scored.identity)[:16]}"
    rows = annotations_of(scored, prompts)
    there = dataset.latest("annotations", [row["annotation_id"] for row in rows])
    fresh = [{**row, "step": step} for row in rows if row["annotation_id"] not in there]
    if not fresh:
        return 0
    # Of a group that says anything new all is said again: only what its last commit holds is live.
    groups = {row["group_id"] for row in fresh}
    again = [{**row, "step": step} for row in rows if row["group_id"] in groups and row["annotation_id"] in there]
    fields = {"annotator": scored.annotator, "identity": scored.identity, "settings": asdict(scored.settings)}
    record = StepRecord(step=step, name=name, kind="evaluate", fields=fields)
    notes = [
        {"pipeline": pipeline_key(name), "step": step, "group_id": group, "digest": scored.identity}
        for group in sorted(groups)
    ]
    dataset.commit(
        {"annotations": [*fresh, *again], "progress": notes},
        f"{scored.annotator}: {len(fresh)} lists evaluated",
        steps=[record],
        plan=Plan(pipeline=name, steps=(step,)),
    )
    return len(fresh)


def _numbers(one: Judged) -> Sequence[float]:
    numbers = one.reward if one.reward is not None else one.mean_lp
    assert numbers is not None
    return [float(number) for number in numbers]


def _made_up(one: Judged, place: int) -> str:
    """A name for a response of a file that names none: of what it answers and says."""
    response = one.source.responses[place]
    return make_id("response", one.source.prompts[response.prompt].turns, response.text)
