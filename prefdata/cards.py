"""Cards: what to judge and how, as YAML, so that a new judge needs no code. Models and people read the same ones.

A card is content: its hash is part of the annotator's name (`judge:llama/helpfulness@1a2b3c4d`) and the whole of it
goes into the fingerprint of the step that uses it. Comments and formatting of the file change neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prefdata.errors import PipelineError
from prefdata.pipeline.plain_yaml import load_plain, problem_of
from prefdata.pipeline.registry import nearest
from prefdata.schema import Row, canonical_json, clean, make_id

Orders = Literal["both", "one", "random"]
Visible = Literal["prompt", "system", "context", "condition", "references"]
Protocol = Literal["compare", "score", "rank", "choose", "label", "critique"]
"""What a card can be used for. A score of an aspect without direction is stored as a `measure`."""

ORDERING: tuple[Protocol, ...] = ("compare", "rank", "choose")
"""The protocols that put responses in an order, for which an aspect must have a direction."""

SHIPPED = "prefdata.annotators"
"""The package whose folder `cards/` holds the cards that come with prefdata: data, which is read and never imported."""

_MOST_BYTES = 1_000_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)


class Scale(_Part):
    """What a score may be.

    Attributes:
        type: `ordinal` takes whole numbers only, `interval` any number.
        min: the lowest score.
        max: the highest score.
        anchors: what the scores mean: one text for each whole number from min to max (ordinal), or one for each end
            (interval). None at all is allowed.
    """

    type: Literal["ordinal", "interval"] = "ordinal"
    min: float = 1
    max: float = 5
    anchors: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min ({self.min:g}) must be below max ({self.max:g})")
        wanted = 2
        if self.type == "ordinal":
            if self.min % 1 or self.max % 1:
                raise ValueError("an ordinal scale has whole numbers as min and max; use type: interval for others")
            wanted = int(self.max - self.min) + 1
        if self.anchors and len(self.anchors) != wanted:
            raise ValueError(f"anchors has {len(self.anchors)} texts; this {self.type} scale takes {wanted}, or none")
        return self

    def admits(self, value: float) -> bool:
        """Whether `value` is a score on this scale; nothing is rounded or clipped to make it one."""
        return self.min <= value <= self.max and (self.type == "interval" or value % 1 == 0)

    def describe(self) -> str:
        """The scale in words, for the judge."""
        kind = "a whole number" if self.type == "ordinal" else "a number"
        text = f"{kind} from {self.min:g} to {self.max:g}"
        if not self.anchors:
            return text
        at = (self.min, self.max) if self.type == "interval" else range(int(self.min), int(self.max) + 1)
        return text + "".join(f"\n  {point:g} = {anchor}" for point, anchor in zip(at, self.anchors, strict=True))


class Aspect(_Part):
    """One criterion of a card.

    Attributes:
        name: as it stands in `annotations.aspect`; `overall` for a judgement of the whole.
        text: what it means, for the judge.
        scale: of its scores; a card that is to score must state it.
        direction: whether a higher or a lower score is better. Where lower is better the judge's score is mirrored
            (min + max - score) before it is stored, because a stored score is always better when higher. With `none` a
            score describes and does not judge (how long, how hard): it is stored as it is, as a `measure`, which no
            step pairs or aggregates unless it is told which way is better.
        applies_if: when the aspect applies, for one that does not always. Where it does not the judge may answer
            "N/A": then the annotation has the status `abstain` and no number.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    text: str = Field(min_length=1)
    scale: Scale = Scale()
    direction: Literal["higher", "lower", "none"] = "higher"
    applies_if: str | None = Field(None, min_length=1)

    @property
    def has_scale(self) -> bool:
        """Whether the card itself says it; a card that only compares need not."""
        return "scale" in self.model_fields_set

    @property
    def protocol(self) -> Literal["score", "measure"]:
        """What a number under this aspect is filed as."""
        return "measure" if self.direction == "none" else "score"

    def better_when_higher(self, score: float) -> float:
        """The judge's score as it is stored; one without direction as it is."""
        return self.scale.min + self.scale.max - score if self.direction == "lower" else score

    def criterion(self, owner: str) -> Row:
        """The row of `criteria` for this aspect."""
        scale = self.scale.model_dump(mode="json")
        limits = [] if self.applies_if is None else [self.applies_if]
        return {
            "criterion_id": make_id("criterion", self.name, self.text, scale, self.direction, *limits),
            "name": self.name,
            "text": self.text,
            "kind": "rubric",
            "scale": scale,
            "owner": owner,
        }


class Output(_Part):
    """What the judge is asked to write.

    Attributes:
        reason: a sentence or two before the verdict; kept in `annotations.text`.
        ties: whether a comparison may end in a tie, and a ranking hold responses of equal rank.
    """

    reason: bool = True
    ties: bool = True


class Card(_Part):
    """What to judge and how.

    Attributes:
        name: of the card; part of the annotator's name.
        version: the author's own mark; any text.
        instructions: what the judge is told first.
        question: one short sentence that asks which of the responses is better (label probabilities ask just that).
        aspects: at least one.
        aspect: what a comparison, ranking, choice, label or critique is filed under: by default the aspect's name where
            there is one, else `overall`.
        labels: the verdicts of the protocol `label`, each with its meaning, for example supported and unsupported.
        protocols: what the card can be used for. One that compares can rank and choose as well.
        sees: what the judge may see besides the responses. The condition of a prompt (a hidden persona, a target
            score) is shown only where it is named here, the prompt's own system turn only with `system`.
        output: what the judge is asked to write.
        orders: in which orders a pair is shown, unless the step says otherwise.
        samples: how often each question is asked, unless the step says otherwise.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: str = "1"
    instructions: str = Field(min_length=1)
    question: str = "Which response is better?"
    aspects: tuple[Aspect, ...] = Field(min_length=1)
    aspect: str | None = None
    labels: dict[str, str] | None = None
    protocols: tuple[Protocol, ...] = Field(("compare", "score"), min_length=1)
    sees: tuple[Visible, ...] = ("prompt", "system", "context")
    output: Output = Output()
    orders: Orders = "both"
    samples: int = Field(1, ge=1)

    @field_validator("instructions", "question")
    @classmethod
    def _strip(cls, text: str) -> str:
        return text.strip()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [aspect.name for aspect in self.aspects]
        if len(set(names)) != len(names):
            raise ValueError(f"two aspects have the same name: {', '.join(names)}")
        if ("label" in self.protocols) != (self.labels is not None):
            raise ValueError("labels and the protocol label go together: this card has one of them and not the other")
        if self.labels is not None and len(self.labels) < 2:
            raise ValueError("labels must hold at least 2 to choose among, each with its meaning")
        empty = [name for name, meaning in (self.labels or {}).items() if not name.strip() or not meaning.strip()]
        if empty or len({name.strip().casefold() for name in self.labels or {}}) != len(self.labels or {}):
            raise ValueError("labels need names that differ by more than case, and each a meaning")
        ordering = [one for one in self.protocols if one in ORDERING]
        if not self.directed and ordering:
            raise ValueError(
                f"no aspect of this card says which way is better (direction: none), so it cannot {ordering[0]}; "
                "leave the protocol out, or give an aspect a direction"
            )
        return self

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that the card says, defaults filled in, as JSON holds it; the order of `sees` and `protocols` is none."""
        dumped = self.model_dump(mode="json")
        dumped["sees"], dumped["protocols"] = sorted(set(self.sees)), sorted(set(self.protocols))
        cleaned = clean(dumped)
        assert isinstance(cleaned, dict)
        return cleaned

    @cached_property
    def label(self) -> str:
        """`name@hash`: the name and the first 8 hexadecimal characters of the hash of the content."""
        return f"{self.name}@{make_id('card', self.content)[:8]}"

    def serves(self, protocol: Protocol) -> bool:
        """Whether the card can be used for `protocol`: what compares two can rank several and choose among them."""
        return protocol in self.protocols or (protocol in ("rank", "choose") and "compare" in self.protocols)

    @property
    def directed(self) -> tuple[Aspect, ...]:
        """The aspects by which one response can be better than another."""
        return tuple(aspect for aspect in self.aspects if aspect.direction != "none")

    @property
    def scaled(self) -> tuple[Aspect, ...]:
        """The aspects for which the card states a scale."""
        return tuple(aspect for aspect in self.aspects if aspect.has_scale)

    @property
    def compared_aspect(self) -> str:
        """What a comparison under this card is filed under."""
        return self.aspect or (self.aspects[0].name if len(self.aspects) == 1 else "overall")

    @property
    def compared_criterion(self) -> Row:
        """The row of `criteria` that a comparison is about: the one aspect, or the card as a whole."""
        if len(self.aspects) == 1:
            return self.aspects[0].criterion(self.label)
        text = "\n".join([self.instructions, *(f"{aspect.name}: {aspect.text}" for aspect in self.directed)])
        return {
            "criterion_id": make_id("criterion", self.name, text),
            "name": self.name,
            "text": text,
            "kind": "rubric",
            "owner": self.label,
        }

    @property
    def label_criterion(self) -> Row:
        """The row of `criteria` that a label is about: the card as a whole, with what each label means."""
        meanings = [f"{name}: {meaning}" for name, meaning in (self.labels or {}).items()]
        aspects = [f"{aspect.name}: {aspect.text}" for aspect in self.aspects]
        text = "\n".join([self.instructions, *aspects, *meanings])
        return {
            "criterion_id": make_id("criterion", self.name, text),
            "name": self.compared_aspect,
            "text": text,
            "kind": "rubric",
            "owner": self.label,
        }

    def annotator_row(self, annotator: str, model: str) -> Row:
        """The row of `annotators` for a judge that reads this card; its `meta` holds the card's content."""
        return {"annotator": annotator, "model": model, "card": self.label, "meta": canonical_json(self.content)}


def shipped_cards() -> list[str]:
    """The names of the cards that come with prefdata."""
    folder = files(SHIPPED) / "cards"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def is_path(card: str) -> bool:
    """Whether `card` names a file of the user's rather than a shipped card."""
    return card.endswith((".yaml", ".yml")) or "/" in card or "\\" in card


def load_card(card: str, folder: Path | None = None) -> Card:
    """The card of that name, or the one in that file.

    Args:
        card: a shipped card's name, or the path of a YAML file (anything with a slash, or ending in .yaml or .yml).
        folder: where a relative path is looked up if it is not in the working folder.

    Raises:
        PipelineError: there is no such card, or the file does not hold one; names file and key.
    """
    if not is_path(card):
        known = shipped_cards()
        if card not in known:
            raise PipelineError(
                f"there is no card {card!r}{nearest(card, known)} (shipped: {', '.join(known)}; "
                f"your own: give the path of its file, for example ./{card}.yaml)"
            )
        return _read((files(SHIPPED) / "cards" / f"{card}.yaml").read_bytes(), f"{card}.yaml")
    path = card_file(card, folder)
    if path.stat().st_size > _MOST_BYTES:
        raise PipelineError(f"card: {card} has more than {_MOST_BYTES:,} bytes; that is no card")
    return _read(path.read_bytes(), card)


def card_of(content: Mapping[str, Any]) -> Card:
    """The card whose `content` this is.

    Raises:
        PipelineError: it is none.
    """
    try:
        return Card.model_validate({"sees": [], **content})  # `content` leaves out what is empty
    except ValidationError as error:
        raise PipelineError(f"the card {content.get('name')!r}: {'; '.join(_problems(error))}") from error


def card_file(card: str, folder: Path | None = None) -> Path:
    """The file that a path means: from the working folder, else from `folder`.

    Raises:
        PipelineError: there is none.
    """
    places = [Path(card).expanduser(), *([folder / card] if folder else [])]
    for place in places:
        if place.is_file():
            return place
    looked = dict.fromkeys(str(place.resolve()) for place in places)
    raise PipelineError(f"there is no card file {card} (looked for {', '.join(looked)})")


def _read(content: bytes, file: str) -> Card:
    try:
        value = load_plain(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PipelineError(f"card {file} is not in UTF-8: save it as UTF-8 ({error})") from error
    except yaml.YAMLError as error:
        raise PipelineError(f"card {file} is not YAML that can be read: {problem_of(error)}") from error
    if not isinstance(value, dict):
        raise PipelineError(f"card {file}: the file must hold keys (name, instructions, aspects, ...)")
    try:
        return Card.model_validate(value)
    except ValidationError as error:
        raise PipelineError(f"card {file}: {'; '.join(_problems(error))}") from error


_KEYS = {key for part in (Card, Aspect, Scale, Output) for key in part.model_fields}


def _problems(error: ValidationError) -> list[str]:
    lines = []
    problems = error.errors(include_url=False, include_context=False)
    for problem in problems:
        place = problem["loc"]
        if problem["type"] == "too_short" and any(other["loc"][:-1][: len(place)] == place for other in problems):
            continue  # it is not empty: pydantic counts what is left without the bad ones
        key = ".".join(str(place) for place in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"key {key!r} is unknown{nearest(str(problem['loc'][-1]), _KEYS)}")
        elif problem["type"] == "missing":
            lines.append(f"key {key!r} is missing")
        else:
            said = _said(problem["type"], problem["input"], problem["msg"])
            lines.append(f"key {key!r}: {said}" if key else said)
    return lines


def _said(kind: str, found: object, message: str) -> str:
    """What is wrong with a value, for somebody who writes YAML and knows no Python."""
    if kind == "string_type" and isinstance(found, bool):
        meant = "yes" if found else "no"
        return f'write "{meant}" in quotes: YAML reads no, yes, on, off as true or false'
    if kind == "string_type" and isinstance(found, date):
        return f'write "{found}" in quotes: YAML reads it as a date'
    if kind == "string_type":
        return f"it should be text and is {_KINDS.get(type(found), type(found).__name__)}"
    if kind == "tuple_type":
        return f"it should be a list and is {_KINDS.get(type(found), type(found).__name__)}"
    if kind == "model_type":
        return f"it should be a mapping (lines of `key: value`) and is {_KINDS.get(type(found), type(found).__name__)}"
    if kind == "too_short":
        return "it is empty, and at least one is needed"
    return message.removeprefix("Value error, ")


_KINDS: dict[type, str] = {
    type(None): "empty",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
