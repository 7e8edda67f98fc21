"""Argilla 2: the records of a dataset as JSON, read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdata.errors import DataError
from prefdata.formats.answers import PROMPT, TIE, Answers, Control, control_of
from prefdata.formats.argilla_settings import QUESTIONS_OF, settings_path
from prefdata.formats.arrow_rows import ANY_JSON, NAME, OBJECT, Columns
from prefdata.formats.carried import KEY, Entry, named
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.json_list import rows_of
from prefdata.formats.labelling import Maker, corrected, same, shaped, shown_in, take_answers, take_skipped
from prefdata.formats.source import Record, describe, parse_json
from prefdata.formats.spans import code_points
from prefdata.formats.trl_pairs import MAKERS
from prefdata.schema import Row

COLUMNS = Columns(  # a Hugging Face dataset has columns of its own names: see `_nested`
    {
        "fields": OBJECT,
        "responses": ANY_JSON,
        "suggestions": ANY_JSON,
        "metadata": OBJECT,
        "vectors": ANY_JSON,
        "id": NAME,
    },
)
RECORDS = "records.json"
"""The file within a folder that `Dataset.to_disk` writes."""
KIND_OF = {type_: kind for kind, type_ in QUESTIONS_OF.items()} | {"label_selection": "choice"}
FLAT = re.compile(r"(.+)\.(responses|suggestion)(?:\.(users|status|score|agent))?")
"""Columns of `dataset.records.to_datasets()`, beside which each field has one of its own name."""
LAST_NUMBER = re.compile(r"(?:^|[^0-9])(\d{1,4})$")
LABEL_LENGTH = 40
"""Up to which a word is a label and no text, where no settings say which."""


def read_argilla(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, responses and annotations from the records of an Argilla 2 dataset.

    A record's `fields` hold the prompt as `prompt`, `instruction`, `text` and the like (text or chat), and the
    responses in any shape that `tasks` knows. Of each user's responses a ranking becomes a `rank`, a rating a `score`
    (of the response whose number ends the question's name), a label or several a `label` (a single one that names one
    of two responses, or `tie`: a `compare`), a text the text, spans spans. The annotator is `human:` and the user's id.
    Discarded responses have the status skipped, drafts are left out; suggestions are judgements of `judge:AGENT`, and
    imported ones of nobody known where there is no agent. The types of the questions come from the settings, where
    they lie beside the file (`NAME.settings.json`, or `.argilla/settings.json` in a folder of `to_disk`); else they
    are guessed from the values. What `prefdata export` wrote is found again: models, ids, times, annotators.

    Args:
        source: the JSON file of `dataset.records.to_json` (JSON lines of such records do as well), the folder of
            `dataset.to_disk`, or what `dataset.records.to_datasets` gives, saved by save_to_disk or as Parquet.
        strict: a record that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a record of it; names file, row and column.
    """
    path = Path(source)
    intake = Intake(path, strict)
    types = _types(path)
    seen = Counter[str]()
    for record in rows_of(intake, columns=COLUMNS, within=RECORDS):
        with intake.row(record), shaped(record, "Argilla"):
            _Reading(intake, _nested(record), types, seen).take()
    intake.remarks += [f"{count:,} {remark}" for remark, count in seen.items()]
    return intake.imported()


def _types(path: Path) -> dict[str, Row]:
    """The settings of the questions by name; nothing where no settings lie beside the records."""
    places = [path / ".argilla" / "settings.json", path / "settings.json"] if path.is_dir() else [settings_path(path)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return {}
    try:
        settings = parse_json(found.read_text(encoding="utf-8"))
        return {question["name"]: dict(question["settings"]) for question in settings["questions"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{found} is not what Argilla writes as settings: {error!r}; mend it or take it away") from None


def _nested(record: Record) -> Record:
    """A row of `to_datasets` as `to_json` has it; any other as it is."""
    row = record.row
    if row.get("fields") is not None or not any(FLAT.fullmatch(name) for name in row):
        return record
    fields, responses, suggestions = {}, {}, {}
    for name, value in row.items():
        match = FLAT.fullmatch(name)
        if match is None:
            fields[name] = value
        elif match[2] == "suggestion" and match[3] is None and value is not None:
            suggestions[match[1]] = {"value": value, **{key: row.get(f"{name}.{key}") for key in ("score", "agent")}}
        elif match[2] == "responses" and match[3] is None and value:
            users, statuses = row.get(f"{name}.users"), row.get(f"{name}.status") or [None] * len(value)
            if not all(isinstance(one, list) and len(one) == len(value) for one in (value, users, statuses)):
                raise record.error("it should be a list as long as those of its users and statuses", name)
            responses[match[1]] = [
                {"value": one, "user_id": user, "status": status}
                for one, user, status in zip(value, users or (), statuses, strict=True)
            ]
    made = {"id": fields.pop("id", None), "metadata": {KEY: fields.pop(KEY, None)}}
    for name in ("_server_id", "status"):
        fields.pop(name, None)
    nested = {**made, "fields": fields, "responses": responses, "suggestions": suggestions}
    return Record(nested, record.file, record.number, record.textual, record.raw)


class _Reading:
    """One record."""

    def __init__(self, intake: Intake, record: Record, types: Mapping[str, Row], seen: Counter[str]) -> None:
        self._intake, self._record, self._types, self._seen = intake, record, types, seen

    def take(self) -> None:
        fields = self._object(self._record.row, "fields")
        metadata = self._object(self._record.row, "metadata")
        rode = metadata.pop(KEY, None)
        if isinstance(rode, str):
            try:
                rode = parse_json(rode)
            except ValueError as error:
                raise self._record.error(f"what prefdata wrote there cannot be used: {error}", "metadata") from None
        if not fields:
            raise self._record.error("it holds no fields", "fields")
        record = Record(fields, self._record.file, self._record.number, raw=self._record.raw)
        self._shown = shown_in(self._intake, record, "fields", rode, {**metadata, "id": self._record.name("id")})
        for user, (answers, statuses) in self._responses().items():
            self._take_user(user, answers, statuses)
        for agent, (answers, score) in self._suggestions().items():
            self._take_agent(agent, answers, score)
        for entry in self._entries():
            if entry.answers is None:
                self._intake.annotation_row(entry.row)
            else:
                self._intake.leave_out("label that was taken away in Argilla")

    def _object(self, held: Mapping[str, Any], column: str) -> Row:
        value = self._record.structured(column) if held is self._record.row else held.get(column)
        if value is not None and not isinstance(value, Mapping):
            raise self._record.error(f"it should be an object and is {describe(value)}", column)
        return dict(value or {})

    def _entries(self, by: str | None = None) -> list[Entry]:
        """What rode along and was not found again yet; of one user or agent where one is named."""
        held = self._shown.carried.entries if self._shown.carried else []
        return [entry for entry in held if not entry.used and (by is None or entry.by == by)]

    def _responses(self) -> dict[str, tuple[Row, set[str | None]]]:
        """Each user's values by question, and their statuses."""
        users: dict[str, tuple[Row, set[str | None]]] = {}
        for question, given in self._object(self._record.row, "responses").items():
            for one in given if isinstance(given, list) else [given]:
                if not isinstance(one, Mapping) or one.get("user_id") is None or "value" not in one:
                    problem = f"a response to {question!r} should hold value and user_id and is {describe(one)}"
                    raise self._record.error(problem, "responses")
                values, statuses = users.setdefault(str(one["user_id"]), ({}, set()))
                values[question] = one["value"]
                statuses.add(one.get("status"))
        return users

    def _suggestions(self) -> dict[str | None, tuple[Row, float | None]]:
        """Each agent's values by question, and a score."""
        agents: dict[str | None, tuple[Row, float | None]] = {}
        for question, one in self._object(self._record.row, "suggestions").items():
            if not isinstance(one, Mapping) or "value" not in one:
                raise self._record.error(f"the suggestion for {question!r} should hold a value", "suggestions")
            agent = one.get("agent")
            score = one.get("score")
            values, kept = agents.get(agent, ({}, None))
            values[question] = one["value"]
            if isinstance(score, int | float) and not isinstance(score, bool):
                kept = self._record.finite("suggestions", score)
            agents[agent] = values, kept
        return agents

    def _take_user(self, user: str, answers: Row, statuses: set[str | None]) -> None:
        said = self._said(answers)
        if statuses != {"discarded"}:  # which takes back what rode along
            said = self._take_found(said, user, correct=statuses != {"draft"})
        if not said:
            return
        if statuses == {None}:
            self._seen["records whose file does not tell submitted responses from drafts"] += 1
        if statuses == {"draft"}:
            self._intake.leave_out("draft")
            return
        maker = Maker(f"human:{user}", "human", ["argilla", self._record.name("id"), user])
        if statuses == {"discarded"}:
            take_skipped(self._intake, self._shown, maker)
        else:
            take_answers(self._intake, self._shown, said, maker)

    def _take_agent(self, agent: str | None, answers: Row, score: float | None) -> None:
        said = self._take_found(self._said(answers), agent or "", correct=False)
        if not said:
            return
        source = str(agent).partition(":")[0]
        key = ["argilla", self._record.name("id"), "suggestion"]
        sure = score if score is not None and 0 <= score <= 1 else None
        if agent is None:
            maker = Maker("unknown", "imported", key, confidence=sure)
        elif source in MAKERS:
            maker = Maker(agent, source, key, confidence=sure)
        else:
            maker = Maker(f"judge:{agent}", "judge", key, confidence=sure)
        take_answers(self._intake, self._shown, said, maker)

    def _take_found(self, said: Answers, by: str, *, correct: bool) -> Answers:
        """Take the rows that rode along and are found again among the answers; return the other answers."""
        for entry in self._entries(by):
            mine = {control: value for control, value in said.items() if control.name in (entry.answers or {})}
            if not mine or len(mine) != len(entry.answers or {}):
                continue
            row: Row | None = entry.row
            if not same(named(mine), entry.answers):
                row = corrected(entry, mine, self._shown) if correct else None
            if row is None:
                continue
            entry.used = True
            self._intake.annotation_row(row)
            said = {control: value for control, value in said.items() if control not in mine}
        return said

    def _said(self, answers: Mapping[str, Any]) -> Answers:
        said: Answers = {}
        for question, value in answers.items():
            kind = self._kind(question, value)
            if value is None or kind is None:
                self._intake.leave_out(f"answer to {question!r}, whose kind is not known")
                continue
            self._take_value(said, question, kind, value)
        return said

    def _kind(self, question: str, value: Any) -> str | None:
        """What a question asks: from the settings, else guessed from a value."""
        if question in self._types:
            return KIND_OF.get(self._types[question].get("type", ""))
        ours = control_of(question, {})
        if ours is not None and self._shown.carried:
            return "choice" if ours.kind == "compare" else ours.kind
        if isinstance(value, int | float) and not isinstance(value, bool):
            return "score"
        if isinstance(value, str):
            return "choice" if len(value) <= LABEL_LENGTH and " " not in value else "text"
        if not isinstance(value, list) or not value:
            return None
        if all(isinstance(one, Mapping) and "start" in one for one in value):
            return "spans"
        ranked = [one.get("value") if isinstance(one, Mapping) else one for one in value]
        return "rank" if len(ranked) > 1 and set(ranked) <= set(self._shown.names) else "label"

    def _take_value(self, said: Answers, question: str, kind: str, value: Any) -> None:
        aspects = self._shown.carried.aspects if self._shown.carried else {}
        ours = control_of(question, aspects)
        if ours is not None and kind != ("choice" if ours.kind == "compare" else ours.kind):
            ours = None
        place = ours.place if ours else self._place(question)
        if kind == "choice":
            side = self._side(value)
            if side is not None:
                said[Control("compare", ours.aspect if ours else "overall")] = side
            else:
                said[Control("label", ours.aspect if ours else question, self._one())] = [str(value)]
        elif kind == "rank":
            places = self._ranking(value)
            if len(places) > 1:
                said[Control("rank", ours.aspect if ours else "overall")] = places
        elif kind == "score" and place is None:
            self._intake.leave_out("rating of several responses together")
        elif kind == "score":
            said[Control("score", ours.aspect if ours else question, place)] = self._record.finite("responses", value)
        elif kind == "label":
            listed = [str(one) for one in (value if isinstance(value, list) else [value])]
            said[Control("label", ours.aspect if ours else question, ours.place if ours else self._one())] = listed
        elif kind == "text":
            control = Control("text", ours.aspect if ours else "overall", ours.place if ours else None)
            said[control if control not in said else control._replace(aspect=question)] = str(value)
        else:
            self._take_spans(said, question, ours, value)

    def _one(self) -> int | None:
        """The place that a label is about where nothing says so."""
        return {0: PROMPT, 1: 0}.get(len(self._shown.responses))

    def _side(self, value: object) -> Any:
        names = self._shown.names
        if len(names) < 2 or not isinstance(value, str):
            return None
        if value.lower() == TIE:
            return TIE
        return names.index(value) if value in names[:2] else None

    def _place(self, name: str) -> int | None:
        names, count = self._shown.names, len(self._shown.responses)
        if count < 2:
            return 0 if count else PROMPT
        if name in names:
            return names.index(name)
        number = LAST_NUMBER.search(name)
        return int(number[1]) - 1 if number and 1 <= int(number[1]) <= count else None

    def _ranking(self, value: Any) -> list[int]:
        given = (
            [one.get("value") if isinstance(one, Mapping) else one for one in value] if isinstance(value, list) else []
        )
        # Every record ranks all options of the question, also those that it has no response for.
        return [self._shown.names.index(one) for one in dict.fromkeys(map(str, given)) if one in self._shown.names]

    def _take_spans(self, said: Answers, question: str, ours: Control | None, value: Any) -> None:
        field = self._types.get(question, {}).get("field")
        place = ours.place if ours else self._place(field or question)
        if field in self._shown.prompt_names or place is None or place == PROMPT or not isinstance(value, list):
            self._intake.leave_out("span in the prompt, or in what is no response")
            return
        text = self._shown.texts[place]
        for span in value:
            one = span if isinstance(span, Mapping) else {}
            found = code_points(text, one.get("start"), one.get("end"))
            if found is None:
                self._intake.leave_out("span that does not lie within its text")
                continue
            if any(ord(letter) > 0xFFFF for letter in text) and not self._shown.carried:
                self._seen[
                    "spans in texts with emoji or the like, which Argilla's page counts twice: look at them"
                ] += 1
            aspect = ours.aspect if ours else question
            made = {"start": found[0], "end": found[1], "label": str(one.get("label"))}
            said.setdefault(Control("spans", aspect, place), []).append(made)
