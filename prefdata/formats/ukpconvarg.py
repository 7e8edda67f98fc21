"""UKPConvArg1: crowd votes on which of two arguments convinces more (Habernal and Gurevych, ACL 2016)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.arrow_rows import NAME, NUMBER, TEXT, Columns
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, meta_json
from prefdata.schema import Row, message

FILES = ("ukpconvarg1_arguments.parquet", "ukpconvarg1_pairs.parquet", "ukpconvarg1_votes.parquet")
COLUMNS = tuple(
    Columns(dict.fromkeys(columns, TEXT) | optional, tuple((column,) for column in columns))
    for columns, optional in (
        (("topic", "arg_id", "title", "stance", "text"), {}),
        (("topic", "pair_id", "arg1", "arg2"), {}),
        (("topic", "pair_id", "worker", "value"), {"reason": TEXT, "work_seconds": NUMBER, "hit": NAME}),
    )
)
"""Of each of the files."""
SCORES = {"a1": (1.0, 0.0), "a2": (0.0, 1.0), "equal": (0.5, 0.5)}


def read_ukpconvarg(source: str | Path, *, strict: bool = False) -> Imported:
    """One prompt a topic and side, its arguments as responses, and one `compare` annotation for each vote.

    A vote's targets stand in the order shown, its text is the worker's reason, its annotator is `human:` and the
    worker's pseudonym. `work_seconds` is the time for a whole batch of pairs, of which the origin does not tell the
    size, so it stands in `meta` and `seconds` stays null. The origin's gold label and ranking were estimated from these
    very votes and are no further annotation. A pair with an argument that cannot be read cannot be read either, nor can
    the votes on it.

    Args:
        source: the folder that holds ukpconvarg1_arguments.parquet, ukpconvarg1_pairs.parquet and
            ukpconvarg1_votes.parquet.
        strict: a row that cannot be read, or names what is not there, is an error.

    Raises:
        DataError: a file is missing or cannot be read, or, with `strict`, a row of it.
    """
    folder = Path(source)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} should be the folder that holds {', '.join(FILES)}; {missing[0]} is not there")
    reader = _Reader(Intake(folder, strict))
    for name, columns, take in zip(FILES, COLUMNS, (reader.argument, reader.pair, reader.vote), strict=True):
        for record in reader.intake.records(folder / name, columns=columns):
            with reader.intake.row(record):
                take(record)
    reader.intake.remarks.append("the origin's gold labels and rankings, estimated from these votes, were not taken")
    return reader.intake.imported()


@dataclass
class _Reader:
    """Each method reads all of a row before it takes any of it."""

    intake: Intake
    prompts: dict[str, Row] = field(default_factory=dict)
    arguments: dict[tuple[str, str], str] = field(default_factory=dict)
    pairs: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def argument(self, record: Record) -> None:
        topic, arg_id = record.text("topic"), record.text("arg_id")
        prompt = self.prompts.get(topic) or _prompt(record, topic)
        made = _argument(record, prompt)
        if self.arguments.get((topic, arg_id), made["response_id"]) != made["response_id"]:
            raise record.error(f"{arg_id!r} is an argument of this topic already, with another text", "arg_id")
        self.prompts[topic] = self.intake.prompt(prompt)
        self.arguments[topic, arg_id] = self.intake.response(made)["response_id"]

    def pair(self, record: Record) -> None:
        topic, pair_id = record.text("topic"), record.text("pair_id")
        targets = []
        for side in ("arg1", "arg2"):
            key = topic, record.text(side)
            if key not in self.arguments:
                raise record.error(f"{key[1]!r} is no argument of topic {topic!r} that can be read", side)
            targets.append(self.arguments[key])
        if targets[0] == targets[1]:
            raise record.error("it is a pair of one argument with itself", "arg2")
        if self.pairs.get((topic, pair_id), targets) != targets:
            raise record.error(f"{pair_id!r} is a pair of this topic already, of other arguments", "pair_id")
        self.pairs[topic, pair_id] = targets

    def vote(self, record: Record) -> None:
        topic, pair_id = record.text("topic"), record.text("pair_id")
        if (topic, pair_id) not in self.pairs:
            raise record.error(f"{pair_id!r} is no pair of topic {topic!r} that can be read", "pair_id")
        _vote(self.intake, record, self.prompts[topic], self.pairs[topic, pair_id])


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
    text = record.text("text", blank=True)
    return schema.response(
        prompt,
        model="human",
        text=text,
        key=["ukpconvarg1", record.row["topic"], record.row["arg_id"], text],
        meta=meta_json(kept),
    )


def _vote(intake: Intake, record: Record, prompt: Row, targets: list[str]) -> None:
    value, worker = record.text("value"), record.text("worker")
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
