"""LAMP: paragraphs by models, edited by models and by writers, and writers' rankings (Chakrabarty et al., CHI 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdata import schema
from prefdata.errors import DataError
from prefdata.formats.arrow_rows import LIST, NAME, NUMBER, TEXT, Columns
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.source import Record, describe, meta_json
from prefdata.schema import Row, message

ITEMS, RANKINGS, EDITS = FILES = ("lamp_items.parquet", "lamp_rankings.parquet", "lamp_edits.parquet")
VERSIONS = {"AI-generated": "ai_generated", "AI-edited": "ai_edited", "Human-edited": "human_edited"}
"""The names in rankings, and the column of the text that each means."""
_TEXTS: dict[str, tuple[str, ...]] = dict.fromkeys(("instruction", *VERSIONS.values(), "preedit", "postedit"), TEXT)
_NAMES = dict.fromkeys(("batch", "item", "id", "source", "type", "annotator", "editor", "edit_setting"), NAME)
_NUMBERS = dict.fromkeys(("creativity_before", "creativity_after"), NUMBER)
_LISTS = dict.fromkeys(("presented", "ranking", "ai_fine_grained_edits", "fine_grained_edits"), LIST)
COLUMNS = {
    name: Columns(_TEXTS | _NAMES | _NUMBERS | _LISTS, tuple((column,) for column in needed))
    for name, needed in (
        (ITEMS, ("batch", "item", "instruction", *VERSIONS.values())),
        (RANKINGS, ("batch", "item", "annotator", "presented", "ranking")),
        (EDITS, ("item", "editor", "instruction", "preedit", "postedit")),
    )
}
"""Of each of the files."""
WORST, BEST = 1, 10
"""The ends of the writers' scale of creativity."""


def read_lamp(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, the versions of each paragraph as responses, writers' rankings, scores of creativity, and edits.

    Of each paragraph there are up to three responses: the model's own, by the model; the same edited by a model that
    the origin does not name (`ai-edited`); and edited by a writer (`human`). The edited ones have the model's own as
    their parent. The same text for the same instruction is one response, wherever it stands.

    - A ranking is a `rank` annotation of the three by `human:` and the writer, targets in the order presented; the
      score is 3 for the best and 1 for the worst.
    - Creativity, from 1 to 10, is a `score` annotation of the text before the edit and one of the text after it, aspect
      `creativity`, by the writer who edited; of `lamp_items` that is the first part of the origin's `id`.
    - Edits are a `critique` of the text before: a line for each, `spans` where the replaced words stand in it with the
      category as their label. An edit whose words do not stand there has a line only. What a model changed is by
      `judge:lamp-full` (it found the spans itself) or `judge:lamp-oracle` (a human had found them).

    Args:
        source: the folder that holds lamp_items.parquet and lamp_rankings.parquet and, if there, lamp_edits.parquet.
        strict: a row that cannot be read, or names what is not there, is an error.

    Raises:
        DataError: a file is missing or cannot be read, or, with `strict`, a row of it.
    """
    folder = Path(source)
    missing = [name for name in (ITEMS, RANKINGS) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} should be the folder that holds {', '.join(FILES)}; {missing[0]} is not there")
    reader = _Reader(Intake(folder, strict))
    for name, take in zip(FILES, (reader.paragraph, reader.ranking, reader.edited), strict=True):
        if not (folder / name).is_file():
            continue
        for record in reader.intake.records(folder / name, columns=COLUMNS[name]):
            with reader.intake.row(record):
                take(record)
    return reader.intake.imported()


@dataclass
class _Reader:
    """Each method reads all of a row before it takes any of it."""

    intake: Intake
    versions: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """By batch and item, the response's id by its name in rankings."""

    def paragraph(self, record: Record) -> None:
        batch, item = _key(record)
        if (batch, item) in self.versions:
            raise record.error(f"item {item!r} of batch {batch!r} stands in the file twice", "item")
        prompt = _prompt(record)
        kept = meta_json({"batch": batch, "item": item, **{name: record.row.get(name) for name in ("id", "type")}})
        made = _own(record, prompt, "ai_generated")
        setting = record.name("edit_setting") or "full"
        by_model = _edited(record, prompt, made, "ai_edited", "ai-edited", meta_json({"edit_setting": setting}))
        by_writer = _edited(record, prompt, made, "human_edited", "human", kept)
        scores = [_creativity(record, name) for name in _NUMBERS]
        changed = _edits(record, "ai_fine_grained_edits", made["text"], ("span", "category", "edited"))
        self.intake.prompt(prompt)
        ids = [self.intake.response(row)["response_id"] for row in (made, by_model, by_writer)]
        self.versions[batch, item] = dict(zip(VERSIONS, ids, strict=True))
        writer = (record.name("id") or "unknown").partition("_")[0]
        for response_id, score in zip((ids[0], ids[2]), scores, strict=True):
            self._creative(prompt, response_id, score, f"human:{writer}", ["lamp", batch, item])
        if changed:
            self._critique(prompt, ids[0], changed, f"judge:lamp-{setting}", "judge", ["lamp", batch, item])

    def ranking(self, record: Record) -> None:
        batch, item = _key(record)
        if (batch, item) not in self.versions:
            raise record.error(f"item {item!r} of batch {batch!r} is no item that can be read", "item")
        ids = self.versions[batch, item]
        if len(set(ids.values())) < len(ids):
            raise record.error("two versions of its paragraph are one response, so they have no order", "item")
        shown, ranked = (_order(record, name) for name in ("presented", "ranking"))
        writer = record.text("annotator")
        response = self.intake.responses[ids["AI-generated"]]
        self.intake.annotation(
            group_id=response["group_id"],
            prompt_id=response["prompt_id"],
            target_ids=[ids[name] for name in shown],
            protocol="rank",
            scores=[float(len(ranked) - ranked.index(name)) for name in shown],
            annotator=f"human:{writer}",
            source="human",
            meta=meta_json({"batch": batch, "item": item}),
            key=["lamp", batch, item, writer],
        )

    def edited(self, record: Record) -> None:
        item, editor = record.name("item"), record.text("editor")
        prompt = _prompt(record)
        made = _own(record, prompt, "preedit")
        after = _edited(record, prompt, made, "postedit", "human", meta_json({"item": item, "editor": editor}))
        scores = [_creativity(record, name) for name in _NUMBERS]
        changed = _edits(record, "fine_grained_edits", made["text"], ("original_text", "categorization", "edited_text"))
        prompt = self.intake.prompt(prompt)
        ids = [self.intake.response(row)["response_id"] for row in (made, after)]
        for response_id, score in zip(ids, scores, strict=True):
            self._creative(prompt, response_id, score, f"human:{editor}", ["lamp-edits", item])
        if changed:
            self._critique(prompt, ids[0], changed, f"human:{editor}", "human", ["lamp-edits", item])

    def _creative(self, prompt: Row, response_id: str, score: float | None, annotator: str, key: list[Any]) -> None:
        if score is None:
            return
        self.intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response_id],
            protocol="score",
            scores=[score],
            aspect="creativity",
            annotator=annotator,
            source="human",
            key=key,
        )

    def _critique(
        self, prompt: Row, response_id: str, edits: _Edits, annotator: str, source: str, key: list[Any]
    ) -> None:
        self.intake.annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response_id],
            protocol="critique",
            aspect="edits",
            annotator=annotator,
            source=source,
            text="\n".join(edits.lines),
            spans=edits.spans,
            meta=meta_json({"edits": edits.stored}),
            key=key,
        )


@dataclass
class _Edits:
    """Edits of one text: a line for a reader, where the replaced words stand, and what the origin holds."""

    lines: list[str] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)
    stored: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lines)


def _key(record: Record) -> tuple[str, str]:
    names = [record.name(column) for column in ("batch", "item")]
    for column, name in zip(("batch", "item"), names, strict=True):
        if name is None:
            raise record.error("it is missing; a paragraph is known by batch and item", column)
    return str(names[0]), str(names[1])


def _prompt(record: Record) -> Row:
    return schema.prompt([message("user", record.text("instruction"))], source="lamp")


def _own(record: Record, prompt: Row, column: str) -> Row:
    """The model's own paragraph."""
    text = record.text(column)
    return schema.response(prompt, model=record.name("source") or "unknown", text=text, key=["lamp", text])


def _edited(record: Record, prompt: Row, parent: Row, column: str, model: str, meta: str | None) -> Row:
    text = record.text(column)
    return schema.response(
        prompt, model=model, text=text, key=["lamp", text], parent_id=parent["response_id"], meta=meta
    )


def _creativity(record: Record, column: str) -> float | None:
    score = record.number_in(column)
    if score is not None and not WORST <= score <= BEST:
        raise record.error(f"it is {score:g}; creativity goes from {WORST} to {BEST}", column)
    return score


def _order(record: Record, column: str) -> Sequence[str]:
    """An order of the three versions, by their names in rankings."""
    names = record.structured(column)
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(VERSIONS):
        raise record.error(f"it should name {', '.join(VERSIONS)}, each once, and is {describe(names)}", column)
    return [str(name) for name in names]


def _edits(record: Record, column: str, text: str, keys: tuple[str, str, str]) -> _Edits:
    """The edits in a column; an entry of nulls says that there is none."""
    given = record.structured(column)
    if given is None:
        return _Edits()
    if not isinstance(given, list):
        raise record.error(f"it should be a list of edits and is {describe(given)}", column)
    made, last = _Edits(), 0
    for entry in given:
        if not isinstance(entry, dict):
            raise record.error(f"an edit should be an object and is {describe(entry)}", column)
        before, label, after = (entry.get(key) for key in keys)
        if before is None and after is None:
            continue
        before, label, after = (record.checked(column, one or "", blank=True) for one in (before, label, after))
        start = text.find(before, last) if before else -1
        start = text.find(before) if before and start < 0 else start
        if start >= 0:
            last = start + len(before)
            made.spans.append({"target": 0, "start": start, "end": last, "label": label or None, "value": None})
        made.lines.append(f"{label or 'edit'}: “{before}” → “{after}”")
        made.stored.append({"before": before, "category": label, "after": after})
    return made
