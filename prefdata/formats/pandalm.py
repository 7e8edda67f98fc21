"""The PandaLM test set: three people and two stored judges on pairs of responses (Wang et al., ICLR 2024)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prefdata import schema
from prefdata.formats.arrow_rows import NAME, TEXT, Columns
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, meta_json
from prefdata.schema import Row, message

FILE = "pandalm_testset.parquet"
PEOPLE = ("annotator1", "annotator2", "annotator3")
JUDGES = {"gpt": "gpt-3.5-turbo", "pandalm": "pandalm-7b"}
"""Where a column begins with the key, it is of this model."""
RESULTS = tuple(f"{judge}_result" for judge in JUDGES)
COLUMNS = Columns(
    dict.fromkeys(("instruction", "input", "response1", "response2"), TEXT)
    | dict.fromkeys(("idx", "motivation_app", "cmp_key", *PEOPLE, *RESULTS), NAME)
    | dict.fromkeys((f"{judge}_reason" for judge in JUDGES), TEXT),
    (("instruction",), ("response1",), ("response2",), *((person,) for person in PEOPLE)),
)
SCORES = {"1": (1.0, 0.0), "2": (0.0, 1.0), "0": (0.5, 0.5), "Tie": (0.5, 0.5)}
NO_VERDICT = "garbage"
"""The origin's word for an answer of a judge in which no verdict could be read."""


def read_pandalm(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, responses, and a `compare` annotation of each pair by three people and by each of two stored judges.

    The prompt is the instruction and, after a blank line, its input. Rows of one prompt share it, and equal texts of
    one model under one prompt are one response. Targets stand in the origin's order (response1, response2): that is
    the only one the judges were asked in, so nothing is known of their other order. The people are
    `human:annotator1` to `human:annotator3`, the judges `judge:gpt-3.5-turbo` and `judge:pandalm-7b`; a judge's reason
    is the annotation's text, and where the origin could read no verdict (`garbage`) the status is `unparsed`. The
    judges' own answers are not taken. A response may be empty: somebody saw it and judged it.

    Args:
        source: the Parquet file, a folder that holds it under the name pandalm_testset.parquet, or the same columns as
            JSON lines (instruction, response1, response2, annotator1 to annotator3 and, if there, input, cmp_key,
            idx, motivation_app, gpt_result, gpt_reason, pandalm_result, pandalm_reason).
        strict: a row that cannot be read is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    for record in intake.records(columns=COLUMNS, within=FILE):
        with intake.row(record):
            _take(intake, record)
    made = intake.imported()
    said = {row["annotator"] for row in intake.annotations.values()}
    about = [{"annotator": f"judge:{model}", "model": model} for model in JUDGES.values() if f"judge:{model}" in said]
    return replace(made, rows={**made.rows, "annotators": about}) if about else made


def _take(intake: Intake, record: Record) -> None:
    """Take a pair and what was said of it, or count why not."""
    given: list[tuple[str, tuple[float, float] | None, str | None]]
    given = [(f"human:{person}", _label(record, person), None) for person in PEOPLE]
    for judge, model in JUDGES.items():
        if record.row.get(f"{judge}_result") is not None:
            reason = record.text(f"{judge}_reason", blank=True) if record.row.get(f"{judge}_reason") else None
            given.append((f"judge:{model}", _label(record, f"{judge}_result"), reason or None))
    texts = [record.text(side, blank=True) for side in ("response1", "response2")]
    made = _prompt(record)
    sides = [
        schema.response(made, model=model, text=text, key=text)
        for model, text in zip(_models(record), texts, strict=True)
    ]
    if sides[0]["response_id"] == sides[1]["response_id"]:
        intake.leave_out("a pair of one response with itself")
        return
    intake.prompt(made)
    targets = [intake.response(side)["response_id"] for side in sides]
    number = record.name("idx") or str(record.number)
    for annotator, scores, reason in given:
        intake.annotation(
            group_id=made["group_id"],
            prompt_id=made["prompt_id"],
            target_ids=targets,
            protocol="compare",
            scores=scores,
            status="ok" if scores else "unparsed",
            annotator=annotator,
            source=annotator.partition(":")[0],
            text=reason,
            meta=meta_json({"idx": number}),
            key=["pandalm", number],
        )


def _prompt(record: Record) -> Row:
    asked = record.text("instruction")
    if record.row.get("input"):
        asked = f"{asked}\n\n{record.text('input', blank=True)}"
    app = record.name("motivation_app")
    return schema.prompt([message("user", asked)], source="pandalm", tags=[app] if app else None)


def _models(record: Record) -> list[str]:
    """The two models that `cmp_key` names, `model1_model2`; unknown where it does not name two."""
    models = (record.name("cmp_key") or "").split("_")
    return models if len(models) == 2 and all(models) else ["unknown", "unknown"]


def _label(record: Record, column: str) -> tuple[float, float] | None:
    """The two scores that a label means; None where a judge gave no verdict that could be read."""
    value = record.name(column)
    if value == NO_VERDICT and column in RESULTS:
        return None
    if value not in SCORES:
        known = ", ".join([*SCORES, NO_VERDICT] if column in RESULTS else ["1", "2", "0"])
        raise record.error(f"it is {value!r}; it must be one of {known}", column)
    return SCORES[value]
