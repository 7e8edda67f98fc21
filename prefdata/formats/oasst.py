"""OpenAssistant's message trees, with ranks among sibling replies (Koepf et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from prefdata import schema
from prefdata.formats.arrow_rows import NAME, NUMBER, TEXT, Columns
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row, message

FILE = "oasst_en_trees.parquet"
ANNOTATOR = "human:oasst"
"""The ranks are those of several unnamed volunteers, merged by the origin."""
_NESTED = "prompt"
COLUMNS = Columns(
    {
        **dict.fromkeys(("message_id", "parent_id", "role", "text"), TEXT),
        **dict.fromkeys(("message_tree_id", "lang", "model_name"), NAME),
        "rank": NUMBER,
        _NESTED: ("object",),
    },
    tuple((column, _NESTED) for column in ("message_id", "parent_id", "role", "text")),
)
ROLES = {"prompter": "user", "assistant": "assistant"}


def read_oasst(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, responses and one `rank` annotation for each prompter turn with ranked replies.

    Prompts are the root of each tree and every later prompter turn that was answered; the later ones are derived from
    the prompt before them and share the root's group. Responses are the assistant's messages, by `model_name` or, where
    there is none, "human". A parent's ranked replies become one annotation: its score is the number of ranked replies
    minus the origin's rank (0 is best), so `len(scores) - score` gives the rank back. A reply without a rank is not in
    it. Targets stand in the order of their ids, since the origin does not tell the order shown.

    A tree is taken whole or not at all: where a message cannot be read, those that are known to belong to its tree stay
    out with it. Later ranks and turns would otherwise be right in form only.

    Args:
        source: Parquet with one message a row, a folder that holds it under the name oasst_en_trees.parquet, or JSON
            lines with one tree (the origin's `prompt` with nested `replies`) or one message a row.
        strict: a message without an id, with an unknown role or a parent that is missing, or an id that stands twice is
            an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it.
    """
    intake = Intake(Path(source), strict)
    messages = _messages(intake)
    children: dict[str | None, list[Row]] = {}
    for row in messages.values():
        children.setdefault(row["parent_id"], []).append(row)
    taken = 0
    waiting: list[tuple[Row, list[Row], Row | None]] = [(root, [], None) for root in reversed(children.get(None, []))]
    while waiting:
        row, path, parent = waiting.pop()
        if row["deleted"]:
            continue
        taken += 1
        turns = [*path, message(ROLES[row["role"]], row["text"])]
        below = sorted(children.get(row["message_id"], []), key=lambda reply: str(reply["message_id"]))
        if row["role"] == "prompter":
            replies = [reply for reply in below if reply["role"] == "assistant" and not reply["deleted"]]
            if replies or row["parent_id"] is None:
                parent = _take(intake, row, turns, replies, parent)
            else:
                intake.leave_out("prompter turn without a reply")
        waiting.extend((reply, turns, parent) for reply in reversed(below))
    if taken < len(messages):
        intake.left_out["deleted message, or one below it"] = len(messages) - taken
    return intake.imported()


def _take(intake: Intake, row: Row, turns: list[Row], replies: list[Row], parent: Row | None) -> Row:
    """One prompt, its responses, and the ranking among them. Returns the prompt."""
    meta = meta_json({"message_id": row["message_id"], "message_tree_id": row["message_tree_id"], "lang": row["lang"]})
    prompt = intake.prompt(schema.prompt(turns, parent=parent, source="oasst", meta=meta))
    ranked: list[tuple[str, int]] = []
    for reply in replies:
        made = schema.response(
            prompt,
            model=reply["model_name"] or "human",
            text=reply["text"],
            key=[reply["message_id"], reply["text"]],
            meta=meta_json({"message_id": reply["message_id"], "rank": reply["rank"], "lang": reply["lang"]}),
        )
        intake.response(made)
        if reply["rank"] is not None:
            ranked.append((made["response_id"], reply["rank"]))
    if len(ranked) == 1:
        intake.leave_out("rank of a reply without ranked siblings")
    elif ranked:
        intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response_id for response_id, _ in ranked],
            protocol="rank",
            scores=[float(len(ranked) - rank) for _, rank in ranked],
            annotator=ANNOTATOR,
            source="human",
            key=["oasst", row["message_id"]],
        )
    return prompt


def _messages(intake: Intake) -> dict[str, Row]:
    """Every message of a whole tree by id, in the order of the source."""
    found: dict[str, Row] = {}
    touched: dict[str, int] = {}
    for record in intake.records(columns=COLUMNS, within=FILE):
        read = False
        with intake.row(record):
            found.update(_messages_of(record, found))
            read = True
        if not read and not isinstance(record.row.get(_NESTED), dict):
            for column in ("message_id", "parent_id", "message_tree_id"):
                if isinstance(record.row.get(column), str):
                    touched.setdefault(record.row[column], record.number)
    tops = _tops(found)
    broken = _broken_trees(found, tops, touched)
    for message_id, top in tops.items():
        if top in broken:
            intake.refuse(found.pop(message_id)["record"].error(*broken[top]))
    if not found:
        raise intake.nothing_taken(intake.source, intake.quarantined)
    return found


def _messages_of(record: Record, known: Mapping[str, Row]) -> dict[str, Row]:
    """The messages of a row: one, or a nested tree.

    Raises:
        RowError: one of them cannot be read, or its id is known already.
    """
    nested = record.row.get(_NESTED)
    flat = iter([(record.row, record.row.get("parent_id"))])
    made: dict[str, Row] = {}
    for row, parent_id in _flattened(record, nested) if isinstance(nested, dict) else flat:
        message_ = _message(replace(record, row=row), parent_id)
        if message_["message_id"] in known or message_["message_id"] in made:
            raise record.error(f"{message_['message_id']!r} stands in the source twice", "message_id")
        made[message_["message_id"]] = message_
    return made


def _tops(messages: Mapping[str, Row]) -> dict[str, str | None]:
    """By message, the id at the head of its tree: of its root, or of a parent that is not there; None in a circle."""
    tops: dict[str, str | None] = {}
    for start in messages:
        path: dict[str, None] = {}
        here = start
        while here in messages and here not in tops and here not in path:
            path[here] = None
            here = messages[here]["parent_id"] or here
        if here in tops:
            top = tops[here]
        elif here in messages and messages[here]["parent_id"] is not None:
            top = None
        else:
            top = here
        tops.update(dict.fromkeys(path, top))
    return tops


def _broken_trees(
    messages: Mapping[str, Row], tops: Mapping[str, str | None], touched: Mapping[str, int]
) -> dict[str | None, tuple[str, str | None]]:
    """By the head of a tree, why it is not whole: problem and column.

    Args:
        messages: those that could be read.
        tops: see `_tops`.
        touched: ids that a row names which could not be read, with the row's number.
    """
    broken: dict[str | None, tuple[str, str | None]] = {}
    lacking = dict(touched)
    for message_id, top in tops.items():
        row = messages[message_id]
        if top is None:
            broken[top] = ("no root leads to it: the messages above it are each other's parents", "parent_id")
        elif top not in messages:
            broken[top] = (f"above it {top!r} is no message of this source that can be read", "parent_id")
        if top not in messages and row["message_tree_id"]:
            lacking.setdefault(row["message_tree_id"], row["record"].number)
    for message_id, top in tops.items():
        number = lacking.get(message_id) or lacking.get(messages[message_id]["message_tree_id"] or "")
        if number is not None:
            broken.setdefault(top, (f"another message of its tree, in row {number:,}, cannot be taken", None))
    return broken


def _flattened(record: Record, root: Row) -> Iterator[tuple[Row, str | None]]:
    """The messages of a nested tree, each with its parent's id."""
    waiting: list[tuple[Row, str | None]] = [(root, None)]
    while waiting:
        row, parent_id = waiting.pop()
        yield row, parent_id
        replies = row.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise record.error("the replies of a message should be a list of messages", "replies")
        waiting.extend((reply, row.get("message_id")) for reply in reversed(replies))


def _message(record: Record, parent_id: object) -> Row:
    role, rank = record.text("role"), record.number_in("rank")
    if role not in ROLES:
        raise record.error(f"it is {role!r}; it must be one of {', '.join(ROLES)}", "role")
    if rank is not None and rank != int(rank):
        raise record.error(f"it should be a whole number and is {rank:g}", "rank")
    if parent_id is not None and not isinstance(parent_id, str):
        raise record.error(f"it should be text and is {describe(parent_id)}", "parent_id")
    return {
        "message_id": record.text("message_id"),
        "message_tree_id": record.name("message_tree_id"),
        "parent_id": parent_id,
        "role": role,
        "text": record.text("text"),
        "rank": None if rank is None else int(rank),
        "lang": record.name("lang"),
        "model_name": record.name("model_name"),
        "deleted": bool(record.row.get("deleted")),
        "record": record,
    }
