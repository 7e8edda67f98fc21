"""Label Studio: the JSON export of a project, read, and tasks with labels that it imports, written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefdata.formats.answers import PROMPT, TIE, Answers, Control, answers_of, control_of
from prefdata.formats.arrow_rows import ANY_JSON, LIST, NAME, OBJECT, Columns
from prefdata.formats.asked import Asked, asked_of
from prefdata.formats.carried import KEY, Carried, Entry, named, pack
from prefdata.formats.intake import Imported, Intake
from prefdata.formats.json_list import rows_of
from prefdata.formats.label_studio_config import config_xml, scale, tie_name
from prefdata.formats.labelling import Maker, Shown, Task, corrected, same, shaped, shown_in, take_answers, take_skipped
from prefdata.formats.parquet import whole_file
from prefdata.formats.source import Record, describe
from prefdata.formats.spans import code_points
from prefdata.formats.trl_pairs import MAKERS
from prefdata.schema import Row

COLUMNS = Columns(
    {"data": OBJECT, "annotations": LIST, "completions": LIST, "predictions": LIST, "id": NAME, "meta": ANY_JSON},
    (("data",),),
)
RESULT_ID = 12
"""Characters of an annotation's id, with which the ids of its results begin."""
OVERALL = ("pairwise", "ranker", "textarea")
"""Controls that are rarely named after an aspect."""
OURS = {
    ("compare", "pairwise"),
    ("compare", "choices"),
    ("rank", "ranker"),
    ("score", "rating"),
    ("score", "number"),
    ("label", "choices"),
    ("text", "textarea"),
    ("spans", "labels"),
}
"""The types of result that our controls have."""
LAST_NUMBER = re.compile(r"(?:^|[^0-9])(\d{1,4})$")


def read_label_studio(source: str | Path, *, strict: bool = False) -> Imported:
    """Prompts, responses and annotations from Label Studio's export as JSON (not JSON-MIN).

    A task's `data` holds the prompt as `messages` or as `prompt`, `question`, `instruction`, `text`, and the responses
    in any shape that `tasks` knows, or as the `items` of a List. Of each annotation `Pairwise` becomes a `compare`,
    `Ranker` a `rank` (its buckets labels), `Rating` and `Number` a `score`, `Choices` and `Taxonomy` a `label` (one
    that names a response, or `tie`, beside a second response: a `compare`), `TextArea` the text, `Labels` spans. The
    aspect is the control's name, `overall` for the first two and for text. `completed_by` 7 is the annotator `human:7`,
    `lead_time` the seconds, a cancelled annotation has the status skipped, `ground_truth` stands in `meta`; predictions
    are judgements of `judge:MODEL_VERSION`. Positions of spans are taken as characters, or as UTF-16 code units
    where only these lead to the text that Label Studio stored. What `prefdata export` wrote is found again: models,
    ids, times, and the annotators of answers that nobody changed.

    Args:
        source: the JSON file.
        strict: a task that is not as above is an error.

    Raises:
        DataError: the file cannot be read, or, with `strict`, a task of it; names file, row and column.
    """
    intake = Intake(Path(source), strict)
    for record in rows_of(intake, columns=COLUMNS):
        with intake.row(record), shaped(record, "Label Studio"):
            _Reading(intake, record).take()
    return intake.imported()


class _Reading:
    """One task."""

    def __init__(self, intake: Intake, record: Record) -> None:
        self._intake, self._record = intake, record

    def take(self) -> None:
        data = self._record.structured("data")
        if not isinstance(data, Mapping):
            hint = "; export as JSON, not as JSON-MIN" if "data" not in self._record.row else ""
            raise self._record.error(f"it should be an object and is {describe(data)}{hint}", "data")
        self._shown = self._take_shown(dict(data))
        entries = self._shown.carried.entries if self._shown.carried else []
        for kind in ("annotations", "completions", "predictions"):
            for number, one in enumerate(self._listed(self._record.row, kind), start=1):
                if not isinstance(one, Mapping):
                    raise self._record.error(f"entry {number} should be an object and is {describe(one)}", kind)
                self._take_one(one, kind, number)
        for entry in entries:
            if not entry.used and entry.answers is None:
                self._intake.annotation_row(entry.row)
            elif not entry.used:
                self._intake.leave_out("label that was taken away in Label Studio")
        for _ in self._listed(self._record.row, "drafts"):
            self._intake.leave_out("draft")

    def _listed(self, held: Mapping[str, Any], column: str) -> list[Any]:
        value = self._record.structured(column) if held is self._record.row else held.get(column)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._record.error(f"it should be a list and is {describe(value)}", column)
        return value

    def _take_shown(self, data: Row) -> Shown:
        carried = data.pop(KEY, None)
        record = Record(data, self._record.file, self._record.number, raw=self._record.raw)
        return shown_in(self._intake, record, "data", carried, {"id": self._record.name("id")})

    def _take_one(self, one: Mapping[str, Any], kind: str, number: int) -> None:
        carried = self._shown.carried
        said, entry = self._said(self._listed(one, "result"), kind, carried)
        cancelled = bool(one.get("was_cancelled"))
        if cancelled and carried is not None and entry is None:
            entry = next((each for each in carried.entries if each.answers == {} and not each.used), None)
        if entry is not None:
            entry.used = True
            if cancelled == (entry.answers == {}) and same(named(said), entry.answers):
                self._intake.annotation_row(entry.row)
                return
        maker = self._maker(one, kind, number, entry)
        if cancelled:
            take_skipped(self._intake, self._shown, maker)
            return
        row = corrected(entry, said, self._shown) if entry is not None and one.get("completed_by") is None else None
        if row is not None:
            self._intake.annotation_row(row)
        else:
            take_answers(self._intake, self._shown, said, maker)

    def _maker(self, one: Mapping[str, Any], kind: str, number: int, entry: Entry | None) -> Maker:
        key = ["label-studio", self._record.row.get("project"), self._record.name("id"), kind, one.get("id", number)]
        seconds, score = (self._number(one, name) for name in ("lead_time", "score"))
        meta: Row = {"label_studio": one["id"]} if one.get("id") is not None else {}
        if one.get("ground_truth"):
            meta["ground_truth"] = True
        if score is not None and not 0 <= score <= 1:
            meta["score"], score = score, None
        made = _moment(one.get("created_at"))
        if kind == "predictions":
            model = str(one.get("model_version") or "unknown")
            source = model.partition(":")[0]
            annotator = model if source in MAKERS else f"judge:{model}"
            return Maker(annotator, source if source in MAKERS else "judge", key, seconds, score, made, meta)
        by = one.get("completed_by")
        if isinstance(by, Mapping):
            by = by.get("id") if by.get("id") is not None else by.get("email")
        if by is None and entry is not None:
            return Maker(entry.row["annotator"], entry.row["source"], key, seconds, None, made, meta)
        return Maker(f"human:{'unnamed' if by is None else by}", "human", key, seconds, None, made, meta)

    def _number(self, one: Mapping[str, Any], name: str) -> float | None:
        return None if one.get(name) is None else self._record.finite(name, one[name])

    def _said(self, results: Iterable[Any], kind: str, carried: Carried | None) -> tuple[Answers, Entry | None]:
        """The answers of one go, and the annotation that we wrote and that they belong to."""
        said: Answers = {}
        entry = None
        results = list(results)
        ordered = any(isinstance(one, Mapping) and one.get("type") in ("pairwise", "ranker") for one in results)
        for result in results:
            if not isinstance(result, Mapping) or not isinstance(result.get("value"), Mapping):
                raise self._record.error(f"a result should be an object with a value and is {describe(result)}", kind)
            self._take_result(said, result, ordered)
            begin = str(result.get("id"))[:RESULT_ID]
            for each in carried.entries if carried and entry is None else ():
                if not each.used and each.answers and each.row["annotation_id"].startswith(begin):
                    entry = each if len(begin) == RESULT_ID else None
        return said, entry

    def _take_result(self, said: Answers, result: Mapping[str, Any], ordered: bool) -> None:
        kind, value, name = result.get("type"), result["value"], str(result.get("from_name"))
        aspects = self._shown.carried.aspects if self._shown.carried else {}
        ours = control_of(re.sub(r"^tie_", "compare_", name), aspects)
        if ours is not None and (ours.kind, kind) not in OURS:
            ours = None
        aspect = ours.aspect if ours else "overall" if kind in OVERALL else name
        place = ours.place if ours else self._place(str(result.get("to_name")))
        if kind == "pairwise" and value.get("selected") in ("left", "right"):
            self._several(kind)
            said[Control("compare", aspect)] = int(value["selected"] == "right")
        elif kind == "ranker":
            self._take_ranking(said, value.get("ranker"), name, aspect)
        elif kind in ("rating", "number"):
            if place is None:
                self._intake.leave_out("rating of several responses together")
            else:
                said[Control("score", aspect, place)] = self._record.finite(kind, value.get(kind))
        elif kind in ("choices", "taxonomy"):
            chosen = [" > ".join(map(str, one)) if isinstance(one, list) else str(one) for one in value.get(kind) or ()]
            side = self._side(chosen, ours)
            said[Control("label", aspect, place) if side is None else Control("compare", aspect)] = (
                chosen if side is None else side
            )
        elif kind == "textarea":
            given = value.get("text")
            text = "\n".join(map(str, given)) if isinstance(given, list) else str(given or "")
            control = Control("text", aspect, None if ordered and ours is None else place)
            said[control if control not in said else control._replace(aspect=name)] = text
        elif kind == "labels":
            self._take_spans(said, value, aspect, place)
        elif value:
            self._intake.leave_out(f"result of the control {kind!r}")

    def _several(self, kind: object) -> None:
        if len(self._shown.responses) < 2:
            raise self._record.error(f"a {kind} stands beside fewer than two responses", "annotations")

    def _side(self, chosen: Sequence[str], ours: Control | None) -> Any:
        """Which of two responses a choice names, or that it is a tie; None where it is a label."""
        names = self._shown.names
        if len(chosen) != 1 or len(names) < 2 or (ours is not None and ours.kind != "compare"):
            return None
        if chosen[0].lower() == TIE:
            return TIE
        return names.index(chosen[0]) if len(names) == 2 and chosen[0] in names else None

    def _place(self, to_name: str) -> int | None:
        """Which target an object's name names; None for all of the responses."""
        names, count = self._shown.names, len(self._shown.responses)
        if to_name in names:
            return names.index(to_name)
        if to_name in self._shown.prompt_names or not count:
            return PROMPT
        if count == 1:
            return 0
        number = LAST_NUMBER.search(to_name)
        if "," not in to_name and number and 1 <= int(number[1]) <= count:
            return int(number[1]) - 1
        return None

    def _take_ranking(self, said: Answers, given: Any, name: str, aspect: str) -> None:
        held: Mapping[str, Any] = given if isinstance(given, Mapping) else {name: given}
        names = self._shown.names
        for bucket, listed in held.items():
            if not isinstance(listed, list) or not all(str(one) in names for one in listed):
                raise self._record.error(f"a Ranker names what is no response: {describe(listed)}", "annotations")
            places = [names.index(str(one)) for one in listed]
            if bucket in (name, "rank"):
                if len(set(places)) == len(places) > 1:
                    said[Control("rank", aspect)] = places
            elif bucket != "_":
                said |= {Control("label", name, place): [bucket] for place in places}

    def _take_spans(self, said: Answers, value: Mapping[str, Any], aspect: str, place: int | None) -> None:
        if place is None or place == PROMPT:
            self._intake.leave_out("span in the prompt, or in what is no response")
            return
        found = code_points(self._shown.texts[place], value.get("start"), value.get("end"), value.get("text"))
        if found is None:
            self._intake.leave_out("span that does not lie where its text stands")
            return
        for label in value.get("labels") or ():
            span = {"start": found[0], "end": found[1], "label": str(label)}
            said.setdefault(Control("spans", aspect, place), []).append(span)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        made = datetime.fromisoformat(value)
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def write_label_studio(tasks: Sequence[Task], out: Path) -> int:
    """Write tasks that Label Studio imports, and the configuration of its labelling interface as XML beside them.

    What people said become `annotations`, of the user who imports them, as Label Studio refuses users that it does not
    know; what others said become `predictions`.

    Args:
        tasks: at least one.
        out: the JSON file; the configuration gets its name with `.xml`.
    """
    asked = asked_of(tasks)
    with whole_file(out) as file:
        for number, task in enumerate(tasks):
            file.write(b",\n" if number else b"[\n")
            file.write(json.dumps(_task(task, asked), ensure_ascii=False).encode())
        file.write(b"\n]\n")
    with whole_file(out.with_suffix(".xml")) as file:
        file.write(config_xml(asked).encode())
    return len(tasks)


def _task(task: Task, asked: Asked) -> Row:
    texts = [response["text"] for response in task.responses]
    entries, annotations, predictions = [], [], []
    for row in task.annotations:
        said = answers_of(row, task.places)
        human, results = row["source"] == "human", _results(row, said, texts, asked)
        entry = Entry(row)
        if human and (results or row["status"] == "skipped"):
            entry.answers = named(said)
            one: Row = {"result": results, "was_cancelled": row["status"] == "skipped", "ground_truth": False}
            annotations.append({**one, "lead_time": row.get("seconds")})
        elif results:
            entry.answers = named(said)
            predictions.append({"model_version": row["annotator"], "score": row.get("confidence"), "result": results})
        entries.append(entry)
    shown = [
        {"id": f"response_{place}", "title": f"{place}", "body": text} for place, text in enumerate(texts, start=1)
    ]
    turns = [{key: value for key, value in turn.items() if value is not None} for turn in task.prompt["messages"]]
    data: Row = {"messages": turns, "responses": shown}
    # Every task of a project must hold every key that its configuration names.
    data |= {f"response_{place + 1}": texts[place] if place < len(texts) else "" for place in range(asked.responses)}
    return {
        "data": {**data, KEY: pack(task.prompt, task.responses, entries)},
        "annotations": annotations,
        "predictions": predictions,
    }


def _results(row: Row, said: Answers, texts: Sequence[str], asked: Asked) -> list[Row]:
    results: list[Row] = []
    for control, value in said.items():
        for name, to_name, kind, held in _values(control, value, texts, asked):
            number = f"{row['annotation_id'][:RESULT_ID]}-{len(results)}"
            results.append({"id": number, "from_name": name, "to_name": to_name, "type": kind, "value": held})
    return results


def _values(control: Control, value: Any, texts: Sequence[str], asked: Asked) -> Iterable[tuple[str, str, str, Row]]:
    """from_name, to_name, type and value of the results that give an answer."""
    about, name = asked.object_of(control), control.name
    if control.kind == "compare" and value == TIE:
        yield tie_name(control), about, "choices", {"choices": [TIE]}
    elif control.kind == "compare":
        yield name, about, "pairwise", {"selected": "left" if value == 0 else "right"}
    elif control.kind == "rank":
        yield name, about, "ranker", {"ranker": {name: [f"response_{place + 1}" for place in value]}}
    elif control.kind == "score":
        kind = scale(asked, control)
        yield name, about, kind, {kind: int(value) if kind == "rating" else value}
    elif control.kind == "label":
        yield name, about, "choices", {"choices": value}
    elif control.kind == "text":
        yield name, about, "textarea", {"text": [value]}
    else:
        for span in value:
            text = texts[control.place or 0][span["start"] : span["end"]]
            yield (
                name,
                about,
                "labels",
                {"start": span["start"], "end": span["end"], "text": text, "labels": [span["label"]]},
            )
