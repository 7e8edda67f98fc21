"""A label becomes rows of `annotations`, and an edited response a row of `responses`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from prefdata.cards import Card
from prefdata.schema import Row, canonical_json, make_id, response

from ..work.project import Project


def annotator_of(pseudonym: str) -> str:
    """The name under which a person's labels stand in the dataset."""
    return f"human:{pseudonym}"


@dataclass(frozen=True)
class Said:
    """One label with all that it takes to read it.

    Attributes:
        label: a row of the store's `labels`.
        task: its row of `tasks`.
        pseudonym: of the person.
        project: under which it was made.
        card: that the label names.
        ends: where the segments of the task's first response end, in characters; for first_error.
    """

    label: Mapping[str, Any]
    task: Mapping[str, Any]
    pseudonym: str
    project: Project
    card: Card
    ends: Sequence[int] = ()

    @property
    def answer(self) -> Mapping[str, Any]:
        """What was answered; positions are those of the task's target_ids."""
        answer: Mapping[str, Any] = self.label["answer"]
        return answer

    @cached_property
    def shown(self) -> list[str]:
        """The response ids in the order in which the person saw them."""
        return [self.task["target_ids"][place] for place in self.label["shown"]]

    @cached_property
    def edited(self) -> Row | None:
        """The response that the person wrote, if this label is an edit."""
        if self.project.protocol != "edit" or self.label["status"] != "ok":
            return None
        parent, text = self.task["target_ids"][self.answer["target"]], self.answer["text"]
        under = {"prompt_id": self.task["prompt_id"], "group_id": self.task["group_id"]}
        return response(under, model=annotator_of(self.pseudonym), text=text, key=[parent, text], parent_id=parent)

    def annotations(self) -> list[Row]:
        """The rows that the label states, each with `key` for `Dataset.label`.

        One as a rule; one for each aspect (rate), for each response (spans); two for a partial ranking: the order of
        those that are ranked, and that they stand above the rest, of which nothing more is said.
        """
        if self.label["status"] == "ok":
            return _ROWS[self.project.protocol](self)
        protocol = _WHEN_SKIPPED.get(self.project.protocol, "label")
        said: Row = {"protocol": protocol, "text": self.answer.get("reason")}
        if self.project.protocol == "rate":
            return [self.row(**{**said, **self._about(aspect.name)}) for aspect in self.card.aspects]
        if self.project.protocol == "spans":
            return [self.row((one,), **said, target_ids=[one]) for one in self.shown]
        return [self.row(**said)]

    def row(self, key: Sequence[str] = (), /, **columns: Any) -> Row:
        """A row of `annotations` about the whole task, but for what `columns` says otherwise."""
        meta: dict[str, Any] = {"project": self.project.name, "card": self.label["guideline"], "task": self.task["key"]}
        if self.task["gold"] is not None:
            meta["gold"] = True
        if self.label["kind"] == "adjudication":
            meta["adjudication"] = True
        if self.answer.get("reasons"):
            meta["reasons"] = self.answer["reasons"]
        aspect = columns.setdefault("aspect", self.card.compared_aspect)
        criterion = self._thumb if self.project.protocol == "thumbs" else self.card.compared_criterion
        return {
            "target": "response",
            "group_id": self.task["group_id"],
            "prompt_id": self.task["prompt_id"],
            "target_ids": self.shown,
            "criterion_id": criterion["criterion_id"],
            "annotator": annotator_of(self.pseudonym),
            "source": "human",
            "status": self.label["status"],
            "text": self.answer.get("rationale"),
            "confidence": self.answer.get("confidence"),
            "revision": self.label["revision"],
            "seconds": self.label["seconds"],
            "created_at": datetime.fromtimestamp(self.label["created_at"], UTC),
            "meta": canonical_json(meta),
            "key": [self.task["key"], aspect, *key],
            **columns,
        }

    def criteria(self) -> list[Row]:
        """The rows of `criteria` that the annotations name."""
        if self.project.protocol == "rate":
            return [aspect.criterion(self.card.label) for aspect in self.card.aspects]
        return [self._thumb if self.project.protocol == "thumbs" else self.card.compared_criterion]

    @property
    def _thumb(self) -> Row:
        """A thumb is no score on the card's scale, so it is a criterion of its own."""
        card = self.card.compared_criterion
        return {
            "criterion_id": make_id("criterion", "thumbs", card["criterion_id"]),
            "name": card["name"],
            "text": card["text"],
            "kind": "rubric",
            "scale": {"type": "ordinal", "min": 0.0, "max": 1.0, "anchors": ["bad", "good"]},
            "owner": self.card.label,
        }

    def _about(self, name: str) -> Row:
        aspect = next(one for one in self.card.aspects if one.name == name)
        criterion = aspect.criterion(self.card.label)["criterion_id"]
        return {"aspect": name, "criterion_id": criterion, "protocol": aspect.protocol}

    def in_shown_order(self, values: Sequence[Any]) -> list[Any]:
        """Values that stand in the order of target_ids, in the order that was shown."""
        return [values[place] for place in self.label["shown"]]


def _compare(said: Said) -> list[Row]:
    choice = said.answer["choice"]
    if choice == "both_bad":
        return [said.row(protocol="compare", scores=[0.5, 0.5], strength=0.0, labels=["both_bad"])]
    in_order = [0.5, 0.5] if choice == 0 else [float(choice < 0), float(choice > 0)]
    strength = 3.0 * abs(choice) / (said.project.points // 2)
    return [said.row(protocol="compare", scores=said.in_shown_order(in_order), strength=strength)]


def _rank(said: Said) -> list[Row]:
    ranks = said.in_shown_order(said.answer["ranks"])
    ranked = [place for place, rank in enumerate(ranks) if rank is not None]
    most = max(ranks[place] for place in ranked)
    targets = [said.shown[place] for place in ranked]
    scores = [float(most + 1 - ranks[place]) for place in ranked]
    made = [said.row(protocol="rank", target_ids=targets, scores=scores)]
    if len(ranked) < len(ranks):
        chosen = [float(rank is not None) for rank in ranks]
        made.append(said.row(("above the rest",), protocol="choose", scores=chosen))
    return made


def _rate(said: Said) -> list[Row]:
    made = []
    for aspect in said.card.aspects:
        given = said.in_shown_order(said.answer["scores"][aspect.name])
        scores = [aspect.better_when_higher(score) for score in given]
        made.append(said.row(scores=scores, **said._about(aspect.name)))
    return made


def _best(said: Said) -> list[Row]:
    best = said.answer["best"]
    if not best:
        return [said.row(protocol="label", labels=["none"])]
    chosen = [float(place in best) for place in range(len(said.shown))]
    return [said.row(protocol="choose", scores=said.in_shown_order(chosen))]


def _thumbs(said: Said) -> list[Row]:
    return [said.row(protocol="score", scores=[float(one) for one in said.in_shown_order(said.answer["thumbs"])])]


def _first_error(said: Said) -> list[Row]:
    step = said.answer["step"]
    if step is None:
        return [said.row(protocol="label", labels=["correct"])]
    start = said.ends[step - 1] if step else 0
    span = {"target": 0, "start": start, "end": said.ends[step], "label": "first_error", "value": None}
    return [said.row(protocol="label", labels=["first_error"], parts=[step], spans=[span])]


def _spans(said: Said) -> list[Row]:
    made = []
    for place, target in zip(said.label["shown"], said.shown, strict=True):
        own = [span for span in said.answer["spans"] if span["target"] == place]
        spans = [{**span, "target": 0, "value": None} for span in own]
        labels = sorted({span["label"] for span in own}) or ["none"]
        made.append(said.row((target,), protocol="label", target_ids=[target], labels=labels, spans=spans))
    return made


def _edit(said: Said) -> list[Row]:
    assert said.edited is not None
    new, old = said.edited["response_id"], said.edited["parent_id"]
    pair = sorted((new, old))  # ids are hashes: neither of the two always stands first
    return [said.row(protocol="compare", target_ids=pair, scores=[float(one == new) for one in pair])]


_ROWS: dict[str, Callable[[Said], list[Row]]] = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "best": _best,
    "thumbs": _thumbs,
    "first_error": _first_error,
    "spans": _spans,
    "edit": _edit,
}

_WHEN_SKIPPED = {
    "compare": "compare",
    "rank": "rank",
    "rate": "score",
    "best": "choose",
    "thumbs": "score",
    "edit": "compare",
}
