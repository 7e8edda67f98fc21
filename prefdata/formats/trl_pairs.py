"""Preference pairs in the forms that TRL reads: plain texts, or conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata import schema
from prefdata.formats.arrow_rows import LIST, NAME, NUMBER, TEXT, Columns
from prefdata.formats.conversation import check_answerable, join_turns, read_messages
from prefdata.formats.intake import Imported, Intake, in_id_order
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row, message

COLUMNS = Columns(
    {
        **dict.fromkeys(("prompt", "chosen", "rejected"), LIST),
        "tools": TEXT,
        **dict.fromkeys(("p", "score_chosen", "score_rejected"), NUMBER),
        **dict.fromkeys(("aspect", "annotator", "group", "id"), NAME),
        **dict.fromkeys(("chosen_id", "rejected_id", "chosen_model", "rejected_model"), NAME),
    },
    (("chosen",), ("rejected",)),
)
UNDERSTOOD = {*COLUMNS.kinds, "messages", "split"}
"""Columns that are understood. All others (margin, weight and list among them) go into the annotation's `meta`."""
MAKERS = frozenset({"human", "judge", "reward", "likelihood", "embedding", "rule", "consensus"})
"""Sources that an annotator's name may begin with. Whoever is named otherwise is not known: `imported`."""
SPLITS = ("train", "valid")
SIDES = ("chosen", "rejected")


def read_trl_pairs(
    source: str | Path, *, annotator: str = "unknown", model: str = "unknown", strict: bool = False
) -> Imported:
    """Prompts, responses and one annotation a pair, from Parquet, JSON lines, CSV or a folder of save_to_disk.

    `prompt`, `chosen` and `rejected` are texts, or lists of messages. Without a prompt, or where chosen and rejected
    repeat it, the prompt is what the two conversations share, up to the last turn that is not the assistant's. Columns
    that `prefdata export` writes are understood: `p` (P(chosen is better)), `score_chosen` and `score_rejected`,
    `aspect`, `annotator`, `tools`, `chosen_id` and `rejected_id` (equal ids and texts under one prompt are one
    response; without ids equal texts are), `group` (its prompts share a group: the first is the root, the others are
    derived from it) and `split` (train or valid, kept as the label that `prefdata` reads).

    The annotation is a `compare` with scores (p, 1 - p), p = 1 where there is none; without p, and with two scores that
    fall and are not just (1, 0), it is a `score` with these. Scores that contradict the order are kept in `meta`.

    Args:
        source: the file or folder.
        annotator: who judged the rows that do not say.
        model: who wrote the responses, where `chosen_model` and `rejected_model` do not say.
        strict: a row that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    reader = _PairReader(annotator, model, Intake(Path(source), strict))
    for record in reader.intake.records(columns=COLUMNS):
        read = False
        with reader.intake.row(record):
            reader.take(record)
            read = True
        if not read:
            reader.hold_group(record)
    reader.label_splits()
    return reader.intake.imported()


@dataclass
class _PairReader:
    annotator: str
    model: str
    intake: Intake
    roots: dict[str, Row] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    """The groups whose first row, of this number, cannot be read: its prompt would name the whole group."""
    splits: dict[str, str] = field(default_factory=dict)
    """Of each group."""

    def take(self, record: Record) -> None:
        """Read all of a row, then take it."""
        turns, sides = _sides(record)
        texts = [_response_text(record, column, side) for column, side in zip(SIDES, sides, strict=True)]
        if None in texts:
            self.intake.leave_out("tool calls in a response")
            return
        better, worse = (text for text in texts if text is not None)
        if better[0].split() == worse[0].split():
            self.intake.leave_out("same text")
            return
        group, tools = record.name("group"), record.row.get("tools")
        tools = None if tools is None else record.text("tools")
        prompt = self._prompt(record, turns, group, tools)
        own = [record.name(f"{column}_id") for column in SIDES]
        if own[0] is not None and own[0] == own[1]:
            raise record.error("chosen and rejected have one id and different texts", "rejected_id")
        responses = []
        for column, (text, segments), key in zip(SIDES, (better, worse), own, strict=True):
            by = record.name(f"{column}_model") or self.model
            named = text if key is None else [key, text]
            responses.append(schema.response(prompt, model=by, text=text, key=named, segments=segments))
        self._annotate(record, prompt, [row["response_id"] for row in responses])
        prompt = self.intake.prompt(prompt)
        for row in responses:
            self.intake.response(row)
        if group is not None:
            self.roots.setdefault(group, prompt)
        split = record.row.get("split")
        if split in SPLITS and self.splits.setdefault(prompt["group_id"], split) != split:
            # One group in both splits would leak what is held out.
            self.splits[prompt["group_id"]] = "valid"

    def hold_group(self, record: Record) -> None:
        """A row that cannot be read keeps the group out that it would have been the first of."""
        group = record.row.get("group")
        if isinstance(group, str | int) and str(group) not in self.roots:
            self.held.setdefault(str(group), record.number)

    def _prompt(self, record: Record, turns: Sequence[Row], group: str | None, tools: str | None) -> Row:
        row = schema.prompt(turns, tools=tools)
        if group is None:
            return row
        if group in self.held:
            problem = f"the first row of its group {group!r}, row {self.held[group]}, cannot be read"
            raise record.error(f"{problem}, and gives the group its name: put that right", "group")
        root = self.roots.get(group, row)
        return row if root["prompt_id"] == row["prompt_id"] else schema.prompt(turns, parent=root, tools=tools)

    def _annotate(self, record: Record, prompt: Row, ids: list[str]) -> None:
        p, scores = record.number_in("p"), (record.number_in("score_chosen"), record.number_in("score_rejected"))
        if p is not None and not 0 <= p <= 1:
            raise record.error(f"it is a probability and should lie in [0, 1], not be {p:g}", "p")
        rest = {key: value for key, value in record.row.items() if key not in UNDERSTOOD and value is not None}
        if record.row.get("split") not in SPLITS and record.row.get("split") is not None:
            rest["split"] = record.row["split"]
        falls = scores[0] is not None and scores[1] is not None and scores[0] > scores[1]
        if (p is None or p == 1) and falls and scores != (1.0, 0.0):
            protocol, given = "score", [float(score) for score in scores if score is not None]
        else:
            p = 1.0 if p is None else p
            protocol, given = "compare", [p, 1.0 - p]
            if not falls or p != 1:
                rest |= {f"score_{side}": score for side, score in zip(SIDES, scores, strict=True)}
        self.intake.keep_in_meta(key for key, value in rest.items() if value is not None)
        name = record.name("annotator") or self.annotator
        maker = name.partition(":")[0]
        shown, given = in_id_order(ids, given)
        self.intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=shown,
            protocol=protocol,
            scores=given,
            annotator=name,
            aspect=record.name("aspect") or "overall",
            source=maker if maker in MAKERS else "imported",
            meta=meta_json(rest),
            # Without a key of its own a row is named by where it stands: two equal votes stay two votes.
            key=["trl-pairs", record.name("id") or [record.file.name, record.number]],
        )

    def label_splits(self) -> None:
        """Keep each group's split as the label that `prefdata.formats.lists` reads."""
        for group_id, split in self.splits.items():
            self.intake.annotation(
                group_id=group_id,
                prompt_id=group_id,
                target="prompt",
                target_ids=[group_id],
                protocol="label",
                labels=[split],
                annotator="rule:split",
                aspect="split",
                source="rule",
            )


def _sides(record: Record) -> tuple[list[Row], list[str | list[Row]]]:
    """The prompt's messages, and what follows them in chosen and in rejected."""
    prompt = record.structured("prompt", always=False)
    sides: list[str | list[Row]] = []
    for column in SIDES:
        value = record.structured(column, always=False)
        is_text = isinstance(value, str)
        sides.append(record.checked(column, value, blank=True) if is_text else read_messages(record, column, value))
    if isinstance(prompt, list):
        turns = read_messages(record, "prompt", prompt)
        check_answerable(record, "prompt", turns)
        return turns, [side[len(turns) :] if side[: len(turns)] == turns else side for side in sides]
    if prompt is not None and not isinstance(prompt, str):
        raise record.error(f"it should be text or a list of messages and is {describe(prompt)}", "prompt")
    better, worse = sides
    if isinstance(better, list) and isinstance(worse, list) and better[0]["role"] != "assistant":
        turns = _shared(better, worse)
        if not turns:
            raise record.error("chosen and rejected share no turn that could be the prompt", "chosen")
        return turns, [better[len(turns) :], worse[len(turns) :]]
    if prompt is None:
        how = "read transcripts with the format hh-rlhf" if "\n\nHuman:" in str(better) else "add a column prompt"
        raise record.error(f"there is no prompt, and chosen and rejected are not conversations: {how}", "prompt")
    return [message("user", record.text("prompt"))], sides


def _shared(better: list[Row], worse: list[Row]) -> list[Row]:
    """The turns that two conversations share, up to the last one that is not the assistant's."""
    count = 0
    while count < min(len(better), len(worse)) and better[count] == worse[count]:
        count += 1
    while count and better[count - 1]["role"] in ("assistant", "system"):
        count -= 1
    return better[:count]


def _response_text(record: Record, column: str, side: Any) -> tuple[str, list[Row] | None] | None:
    """A response's text and segments; None where it calls tools, which only the model's own syntax can hold."""
    if isinstance(side, str):
        return side, None
    if not side or side[0]["role"] != "assistant":
        found = f"the {side[0]['role']}'s" if side else "missing"
        raise record.error(f"after the prompt the next turn should be the assistant's and is {found}", column)
    if any(turn.get("tool_calls") for turn in side):
        return None
    return join_turns(side)
