"""Prompts with several responses each and a ranking of them, as JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prefdata import schema
from prefdata.formats.arrow_rows import LIST, NAME, TEXT, Columns
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.prompts import COLUMNS as PROMPT_COLUMNS
from prefdata.formats.prompts import prompt_of
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row

OWN = {"responses": LIST, "ranking": LIST, "reason": TEXT, "annotator": NAME, "aspect": NAME}
"""What a row holds beside a prompt's columns."""
COLUMNS = Columns({**PROMPT_COLUMNS.kinds, **OWN}, (*PROMPT_COLUMNS.needed, ("responses",)))


def read_ranked(source: str | Path, *, annotator: str = "human:unnamed", strict: bool = False) -> Imported:
    """Prompts, responses, and one `rank` annotation a row.

    A row holds a prompt's columns (see `prefdata.formats.prompts.read_prompts`) and `responses` (a list of {text,
    model}, in the order shown), `ranking` (a list of lists of positions in `responses`, counted from 0, the best first;
    positions in one list are tied; a position in none is not ranked), and optionally `reason`, `annotator`, `aspect`.
    Scores are higher for better: the number of lists that do not stand before.

    Args:
        source: the file.
        annotator: who ranked the rows that do not say.
        strict: a row that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    for record in intake.records(columns=COLUMNS):
        with intake.row(record):
            _take(intake, record, annotator)
    return intake.imported()


def _take(intake: Intake, record: Record, annotator: str) -> None:
    prompt = intake.prompt(prompt_of(record, intake, OWN))
    responses = [intake.response(row) for row in _responses(record, prompt)]
    tiers = _tiers(record, len(responses))
    if not tiers:
        intake.leave_out("row without a ranking (its prompt and responses were taken)")
        return
    scores = {place: float(len(tiers) - tier) for tier, places in enumerate(tiers) for place in places}
    shown = sorted(scores)
    intake.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=[responses[place]["response_id"] for place in shown],
        protocol="rank",
        scores=[scores[place] for place in shown],
        annotator=record.name("annotator") or annotator,
        aspect=record.name("aspect") or "overall",
        source="human",
        text=None if record.row.get("reason") is None else record.text("reason", blank=True),
        key=record.name("id"),
    )


def _responses(record: Record, prompt: Row) -> list[Row]:
    given = record.structured("responses")
    if not isinstance(given, list) or not given:
        raise record.error(f"it should be a list of {{text, model}} and is {describe(given)}", "responses")
    rows, seen = [], Counter[tuple[str, str]]()
    for number, entry in enumerate(given):
        entry = {"text": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or not isinstance(entry.get("text"), str):
            raise record.error(f"response {number} should hold a text and is {describe(entry)}", "responses")
        text, model = record.checked("responses", entry["text"], blank=True), entry.get("model") or "unknown"
        if not isinstance(model, str):
            raise record.error(f"the model of response {number} should be text and is {describe(model)}", "responses")
        # Two equal answers of one model are two responses: their ranks may differ, and neither may vanish.
        key = [text, seen[model, text]]
        seen[model, text] += 1
        rest = {name: value for name, value in entry.items() if name not in ("text", "model")}
        rows.append(schema.response(prompt, model=model, text=text, key=key, meta=meta_json(rest)))
    return rows


def _tiers(record: Record, count: int) -> list[list[int]]:
    ranking = record.structured("ranking")
    if ranking is None:
        return []
    if not isinstance(ranking, list) or not ranking:
        raise record.error(f"it should be a list of lists of positions and is {describe(ranking)}", "ranking")
    tiers = [entry if isinstance(entry, list) else [entry] for entry in ranking]
    seen: set[int] = set()
    for tier in tiers:
        if not tier:
            raise record.error("it holds an empty list; leave it out", "ranking")
        for place in tier:
            if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < count:
                problem = f"{place!r} is no position among {count} responses (positions count from 0)"
                raise record.error(problem, "ranking")
            if place in seen:
                raise record.error(f"position {place} stands in it twice", "ranking")
            seen.add(place)
    if len(seen) < 2:
        raise record.error("it ranks one response only; rank two or more, or leave the column out", "ranking")
    return tiers
