"""What an annotation says, put as answers to the controls of a labelling tool, and back.

Label Studio and Argilla ask one thing a control: which of two, in which order, how good, which labels, which passages,
and free text. An annotation of ours is one or several such answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from prefdata.schema import Row

KINDS = ("compare", "rank", "score", "label", "text", "spans")
PROMPT = -1
"""The place of the prompt, where responses have 0, 1, ..."""
TIE = "tie"
_NAME = re.compile(rf"({'|'.join(KINDS)})_([a-z0-9-]+)(?:_(\d{{1,4}}|prompt))?")


class Control(NamedTuple):
    """One thing that is asked.

    Attributes:
        kind: one of KINDS.
        aspect: under which it is asked.
        place: about which response, or PROMPT; None: about all that are shown.
    """

    kind: str
    aspect: str
    place: int | None = None

    @property
    def name(self) -> str:
        """What both tools take as a name: `score_overall_2` (responses count from 1 there)."""
        about = "" if self.place is None else "_prompt" if self.place == PROMPT else f"_{self.place + 1}"
        return f"{self.kind}_{slug(self.aspect)}{about}"


Answers = dict[Control, Any]
"""By control: compare: 0, 1 (a place) or "tie"; rank: places, best first; score: a number; label: names; text: a text;
spans: a list of {start, end, label}, in characters."""


def slug(aspect: str) -> str:
    """A name of lower-case letters, digits and dashes; other aspects do not get the same one."""
    plain = re.sub(r"[^a-z0-9]+", "-", aspect.lower()).strip("-")
    return (
        plain if plain == aspect else f"{plain[:40]}-{blake2b(aspect.encode(), digest_size=3).hexdigest()}".strip("-")
    )


def control_of(name: str, aspects: Mapping[str, str]) -> Control | None:
    """The control that one of our names names; None for another's name.

    Args:
        name: `Control.name`.
        aspects: aspects by their `slug`, where the two differ.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind, aspect, about = match.groups()
    place = None if about is None else PROMPT if about == "prompt" else int(about) - 1
    return Control(kind, aspects.get(aspect, aspect), place)


def answers_of(row: Row, places: Mapping[str, int]) -> Answers:
    """What an annotation says; nothing where it says nothing that a control can show.

    Args:
        row: of `annotations`.
        places: of its targets, by id.
    """
    targets, aspect, scores = row["target_ids"], str(row["aspect"]), row.get("scores")
    about = [places[target] for target in targets]
    said: Answers = {}
    if row["status"] != "ok":
        return said
    if scores is not None and row["protocol"] == "compare":
        if sorted(about) == [0, 1]:
            first, second = scores
            better = about[0] if first > second else about[1]
            said[Control("compare", aspect)] = TIE if first == second else better
    elif scores is not None and row["protocol"] in ("rank", "choose") and len(about) > 1:
        order = sorted(zip(scores, about, strict=True), key=lambda pair: (-pair[0], pair[1]))
        said[Control("rank", aspect)] = [place for _, place in order]
    elif scores is not None:
        said |= {Control("score", aspect, place): score for place, score in zip(about, scores, strict=True)}
    one = about[0] if len(about) == 1 else None
    if row.get("labels"):
        said[Control("label", aspect, one)] = list(row["labels"])
    if row.get("text"):
        said[Control("text", aspect, one)] = row["text"]
    for span in row.get("spans") or ():
        target = span.get("target") or 0
        if 0 <= target < len(about) and about[target] != PROMPT and span.get("label"):
            shown = {key: span[key] for key in ("start", "end", "label")}
            said.setdefault(Control("spans", aspect, about[target]), []).append(shown)
    return said


def rows_said(said: Answers, ids: Mapping[int, str]) -> list[Row]:
    """Annotations that give these answers, without their maker: the inverse of `answers_of`, as far as there is one.

    Args:
        said: by control.
        ids: of responses by their places, and of the prompt.

    Returns:
        target, target_ids, protocol, aspect and what was said. Labels and text of an aspect go with its comparison,
        ranking or score.
    """
    rows: list[Row] = []
    for kind in ("compare", "rank"):
        rows += [_ordered(control, value, ids) for control, value in said.items() if control.kind == kind]
    rows += _scores(said, ids)
    for kind in ("spans", "label", "text"):
        for control, value in said.items():
            if control.kind != kind:
                continue
            home = next((row for row in rows if _fits(row, control, ids)), None)
            if home is None:
                home = {**_about(control, ids), "protocol": "critique" if kind == "text" else "label"}
                rows.append(home)
            if kind == "spans":
                target = home["target_ids"].index(ids[control.place or 0])
                home.setdefault("spans", []).extend({"target": target, **span} for span in value)
            else:
                home["labels" if kind == "label" else "text"] = value
    return rows


def _ordered(control: Control, value: Any, ids: Mapping[int, str]) -> Row:
    if control.kind == "compare":
        first = 0.5 if value == TIE else float(value == 0)
        places, scores = [0, 1], [first, 1.0 - first]
    else:
        places = sorted(value)
        scores = [float(len(value) - value.index(place)) for place in places]
    made = {"compare": "compare", "rank": "rank"}[control.kind]
    targets = [ids[place] for place in places]
    return {"target": "response", "target_ids": targets, "protocol": made, "scores": scores, "aspect": control.aspect}


def _scores(said: Answers, ids: Mapping[int, str]) -> list[Row]:
    """One row for each aspect of the responses, one for each of the prompt."""
    by_aspect: dict[tuple[str, bool], dict[int, float]] = {}
    for control, value in said.items():
        if control.kind == "score":
            place = control.place or 0
            by_aspect.setdefault((control.aspect, place == PROMPT), {})[place] = float(value)
    return [
        {
            "target": "prompt" if of_prompt else "response",
            "target_ids": [ids[place] for place in sorted(scores)],
            "protocol": "score",
            "scores": [scores[place] for place in sorted(scores)],
            "aspect": aspect,
        }
        for (aspect, of_prompt), scores in by_aspect.items()
    ]


def _fits(row: Row, control: Control, ids: Mapping[int, str]) -> bool:
    """Whether an answer belongs to a row that was made of another one."""
    if row["aspect"] != control.aspect:
        return False
    key = {"label": "labels", "text": "text"}.get(control.kind)
    if key is not None and key in row:
        return False
    if control.place is None:
        return str(row["target"]) == "response"
    targets: list[str] = row["target_ids"]
    return ids[control.place] in targets if control.kind == "spans" else targets == [ids[control.place]]


def _about(control: Control, ids: Mapping[int, str]) -> Row:
    places: Sequence[int] = [place for place in sorted(ids) if place != PROMPT]
    if control.place is not None:
        places = [control.place]
    elif not places:
        places = [PROMPT]
    target = "prompt" if places == [PROMPT] else "response"
    return {"target": target, "target_ids": [ids[place] for place in places], "aspect": control.aspect}
