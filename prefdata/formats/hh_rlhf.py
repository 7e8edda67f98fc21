"""Anthropic's HH-RLHF: pairs of whole transcripts (Bai et al. 2022, "Training a helpful and harmless assistant")."""

from __future__ import annotations

import re
from pathlib import Path

from prefdata import schema
from prefdata.formats.arrow_rows import NAME, TEXT, Columns
from prefdata.formats.conversation import join_turns, merge_turns
from prefdata.formats.intake import Imported, Intake, in_id_order
from prefdata.formats.source import Record, meta_json
from prefdata.schema import Row, message

FILE = "hh_rlhf_helpful.parquet"
ANNOTATOR = "human:hh-rlhf"
"""One unnamed worker a pair: the origin has no ids."""
COLUMNS = Columns(
    {"chosen": TEXT, "rejected": TEXT, "prompt": TEXT, "split": NAME, "row": NAME}, (("chosen",), ("rejected",))
)
ASSISTANT = "\n\nAssistant:"
_MARK = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read_hh_rlhf(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, responses and one `compare` annotation for each pair of transcripts.

    The prompt is what both transcripts share, up to and with the last common Assistant mark; what follows it in each is
    a response, white space at the ends of a turn removed. A mark within a transcript always begins a turn: a turn
    cannot quote one. Turns of one role in a row are one turn. Where the assistant speaks again after a further Human
    turn, the response is all of it and `segments` say who speaks, so only the assistant's part is trained. Where nobody
    answers that Human turn, the model ran on and wrote it itself: then it stays in the response's text, mark and all,
    as what was judged. An empty response stays one: somebody saw it and preferred the other. Scores are (1, 0), chosen
    first: the origin does not tell which was shown first.

    Args:
        source: the Parquet file (columns chosen, rejected and, if there, prompt, split, row), a folder that holds it
            under the name hh_rlhf_helpful.parquet, or the origin's JSON lines (chosen, rejected), gzipped or not.
        strict: a row that lacks a transcript, or whose `prompt` is not the beginning of both, is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a row of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    for record in intake.records(columns=COLUMNS, within=FILE):
        with intake.row(record):
            _take(intake, record)
    return intake.imported()


def _take(intake: Intake, record: Record) -> None:
    """Take a pair, or count why not."""
    chosen, rejected = record.text("chosen"), record.text("rejected")
    shared = _shared(record, chosen, rejected)
    turns = None if shared is None else _turns(shared.removesuffix(ASSISTANT))
    better, worse = _turns(chosen), _turns(rejected)
    if not turns or not better or not worse or turns[0]["role"] != "user":
        intake.leave_out("no shared prompt that begins with a human turn")
        return
    if turns[-1]["role"] == "assistant":
        turns = turns[:-1]  # the assistant goes on: both responses hold its whole turn
    sides = [_response(side[len(turns) :]) for side in (better, worse)]
    if sides[0][0].split() == sides[1][0].split():
        intake.leave_out("same text")
        return
    _judged(intake, record, turns, sides)


def _judged(intake: Intake, record: Record, turns: list[Row], sides: list[tuple[str, list[Row] | None]]) -> None:
    split, number = record.name("split"), record.name("row")
    # The origin's key is file and line; one downloaded under another name keeps its line at least.
    key = ["hh-rlhf", split or record.file.name.split(".")[0], number or str(record.number)]
    prompt = intake.prompt(schema.prompt(turns, source="hh-rlhf", tags=[split] if split else None))
    ids = []
    for text, segments in sides:
        row = schema.response(prompt, model="unknown", text=text, key=text, segments=segments)
        ids.append(intake.response(row)["response_id"])
    shown, scores = in_id_order(ids, (1.0, 0.0))
    intake.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target_ids=shown,
        protocol="compare",
        scores=scores,
        annotator=ANNOTATOR,
        source="human",
        meta=meta_json({"split": split, "row": number}),
        key=key,
    )


def _response(turns: list[Row]) -> tuple[str, list[Row] | None]:
    """Text and segments of what follows the prompt."""
    if turns[-1]["role"] == "user":
        *turns, unanswered = turns
        turns[-1] = message("assistant", f"{turns[-1]['content']}\n\nHuman: {unanswered['content']}")
    return join_turns(turns)


def _shared(record: Record, chosen: str, rejected: str) -> str | None:
    """What both transcripts share, up to and with the last common Assistant mark; None where there is none."""
    if record.row.get("prompt") is not None:
        shared = record.text("prompt")
        if not (chosen.startswith(shared) and rejected.startswith(shared) and shared.endswith(ASSISTANT)):
            raise record.error(
                "it should end with an Assistant mark and be the beginning of both chosen and rejected", "prompt"
            )
        return shared
    differ = (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    common = chosen[: next(differ, min(len(chosen), len(rejected)))]
    end = common.rfind(ASSISTANT)
    return common[: end + len(ASSISTANT)] if end >= 0 else None


def _turns(transcript: str) -> list[Row]:
    """The turns of a transcript; none where it has text before the first mark."""
    head, *rest = _MARK.split(transcript)
    if head.strip():
        return []
    speakers, texts = rest[::2], rest[1::2]
    return merge_turns([message(_ROLES[who], text.strip()) for who, text in zip(speakers, texts, strict=True)])
