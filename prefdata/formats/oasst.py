"""OpenAssistant's message trees, with ranks among sibling replies (Koepf et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, meta_json, records
from prefdata.schema import Row, message

FILE = "oasst_en_trees.parquet"
ANNOTATOR = "human:oasst"
"""The ranks are those of several unnamed volunteers, merged by the origin."""
ROLES = {"prompter": "user", "assistant": "assistant"}


def read_oasst(source: str | Path) -> Imported:
    """Prompts, responses and one `rank` annotation for each prompter turn with ranked replies.

    Prompts are the root of each tree and every later prompter turn that was answered; the later ones are derived from
    the prompt before them and share the root's group. Responses are the assistant's messages, by `model_name` or, where
    there is none, "human". A parent's ranked replies become one annotation: its score is the number of ranked replies
    minus the origin's rank (0 is best), so `len(scores) - score` gives the rank back. A reply without a rank is not in
    it. Targets stand in the order of their ids, since the origin does not tell the order shown.

    Args:
        source: Parquet with one message a row, a folder that holds it under the name oasst_en_trees.parquet, or JSON
            lines with one tree (the origin's `prompt` with nested `replies`) or one message a row.

    Raises:
        DataError: a message has no id, an unknown role or a parent that is missing, or an id stands twice.
    """
    intake = Intake()
    messages = _messages(source)
    children: dict[str | None, list[Row]] = {}
    for row in messages.values():
        parent = row["parent_id"]
        if parent is not None and parent not in messages:
            raise row["record"].error(f"{parent!r} is no message of this source", "parent_id")
        children.setdefault(parent, []).append(row)
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
                intake.left_out["prompter turn without a reply"] += 1
        waiting.extend((reply, turns, parent) for reply in reversed(below))
    if taken < len(messages):
        if not any(row["deleted"] for row in messages.values()):
            raise DataError(f"{source} holds messages that are each other's parents, so that no root leads to them")
        intake.left_out["deleted message, or one below it"] += len(messages) - taken
    return intake.imported(source)


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
            key=reply["message_id"],
            meta=meta_json({"message_id": reply["message_id"], "rank": reply["rank"], "lang": reply["lang"]}),
        )
        intake.response(made)
        if reply["rank"] is not None:
            ranked.append((made["response_id"], reply["rank"]))
    if len(ranked) == 1:
        intake.left_out["rank of a reply without ranked siblings"] += 1
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


def _messages(source: str | Path) -> dict[str, Row]:
    """Every message by id, in the order of the source."""
    found: dict[str, Row] = {}
    for record in records(source, within=FILE):
        nested = record.row.get("prompt")
        flat = iter([(record.row, record.row.get("parent_id"))])
        rows = _flattened(record, nested) if isinstance(nested, dict) else flat
        for row, parent_id in rows:
            made = _message(Record(row, record.file, record.number), parent_id)
            if made["message_id"] in found:
                raise record.error(f"{made['message_id']!r} stands in the source twice", "message_id")
            found[made["message_id"]] = made
    if not found:
        raise DataError(f"{source} holds no message")
    return found


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
    if parent_id is not None and not isinstance(parent_id, str):
        raise record.error(f"it should be text and is {parent_id!r}", "parent_id")
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
