"""UKPConvArg1: crowd votes on which of two arguments convinces more (Habernal and Gurevych, ACL 2016)."""

from __future__ import annotations

from pathlib import Path

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, meta_json, records
from prefdata.schema import Row, message

FILES = ("ukpconvarg1_arguments.parquet", "ukpconvarg1_pairs.parquet", "ukpconvarg1_votes.parquet")
SCORES = {"a1": (1.0, 0.0), "a2": (0.0, 1.0), "equal": (0.5, 0.5)}


def read_ukpconvarg(source: str | Path) -> Imported:
    """One prompt a topic and side, its arguments as responses, and one `compare` annotation for each vote.

    A vote's targets stand in the order shown, its text is the worker's reason, its annotator is `human:` and the
    worker's pseudonym. `work_seconds` is the time for a whole batch of pairs, of which the origin does not tell the
    size, so it stands in `meta` and `seconds` stays null. The origin's gold label and ranking were estimated from these
    very votes and are no further annotation.

    Args:
        source: the folder that holds ukpconvarg1_arguments.parquet, ukpconvarg1_pairs.parquet and
            ukpconvarg1_votes.parquet.

    Raises:
        DataError: a file is missing, or a vote is on a pair, or a pair of arguments, that is not there.
    """
    folder = Path(source)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} should be the folder that holds {', '.join(FILES)}; {missing[0]} is not there")
    intake = Intake()
    prompts: dict[str, Row] = {}
    arguments: dict[tuple[str, str], str] = {}
    for record in records(folder / FILES[0]):
        topic = record.text("topic")
        if topic not in prompts:
            prompts[topic] = intake.prompt(_prompt(record, topic))
        arguments[topic, record.text("arg_id")] = intake.response(_argument(record, prompts[topic]))["response_id"]
    pairs: dict[tuple[str, str], list[str]] = {}
    for record in records(folder / FILES[1]):
        topic = record.text("topic")
        shown = [(topic, record.text(side)) for side in ("arg1", "arg2")]
        for side, key in zip(("arg1", "arg2"), shown, strict=True):
            if key not in arguments:
                raise record.error(f"{key[1]!r} is no argument of topic {topic!r}", side)
        pairs[topic, record.text("pair_id")] = [arguments[key] for key in shown]
    for record in records(folder / FILES[2]):
        topic, pair_id = record.text("topic"), record.text("pair_id")
        if (topic, pair_id) not in pairs:
            raise record.error(f"{pair_id!r} is no pair of topic {topic!r}", "pair_id")
        _vote(intake, record, prompts[topic], pairs[topic, pair_id])
    intake.remarks.append("the origin's gold labels and rankings, estimated from these votes, were not taken")
    return intake.imported(folder)


def _prompt(record: Record, topic: str) -> Row:
    title, stance = record.text("title"), record.text("stance")
    asked = (
        f"People are debating this: “{title}”. Speak for the side “{stance}”: "
        "give one argument, in a few sentences, that would convince somebody who has not made up their mind."
    )
    return schema.prompt(
        [message("user", asked)],
        source="ukpconvarg1",
        meta=meta_json({"topic": topic, "title": title, "stance": stance}),
    )


def _argument(record: Record, prompt: Row) -> Row:
    kept = {name: record.row.get(name) for name in ("arg_id", "vote_up", "vote_down", "rank_score")}
    return schema.response(
        prompt,
        model="human",
        text=record.text("text", blank=True),
        key=["ukpconvarg1", record.row["topic"], record.row["arg_id"]],
        meta=meta_json(kept),
    )


def _vote(intake: Intake, record: Record, prompt: Row, targets: list[str]) -> None:
    value, worker = record.row.get("value"), record.text("worker")
    if value not in SCORES:
        raise record.error(f"it is {value!r}; it must be one of {', '.join(SCORES)}", "value")
    kept = {name: record.row.get(name) for name in ("pair_id", "hit", "work_seconds", "worker_stance")}
    intake.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=targets,
        protocol="compare",
        scores=SCORES[value],
        annotator=f"human:{worker}",
        source="human",
        text=None if record.row.get("reason") is None else record.text("reason", blank=True),
        meta=meta_json(kept),
        key=["ukpconvarg1", record.row["topic"], record.row["pair_id"], worker],
    )
