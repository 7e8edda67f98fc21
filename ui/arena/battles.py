"""One battle of the arena: two answers to one prompt, whose models nobody is told before the vote."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from prefdata.engines import Answer, Request
from prefdata.schema import Row, canonical_json, message, prompt, response

from ..answers.annotations import annotator_of

Choice = Literal["a", "b", "tie", "both_bad"]
State = Literal["running", "ready", "voted"]
CHOICES: dict[str, tuple[float, float]] = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5), "both_bad": (0.5, 0.5)}
"""What can be voted, and the scores of left and right that it means."""

SHOWN = 40_000
"""Characters of an answer that are shown; a model that never ends must not fill a browser."""

_KEPT_ENDS = ("stop", "length", "tool")
_GENERIC = frozenset({
    "base", "beta", "chat", "code", "coder", "demo", "fast", "fine", "free", "gguf", "high", "instruct", "large",
    "latest", "lite", "local", "low", "math", "max", "medium", "mini", "model", "nano", "new", "next", "plus",
    "preview", "pro", "reasoning", "scripted", "sft", "small", "test", "text", "the", "thinking", "tiny", "tuned",
    "turbo", "ultra", "vision",
})  # fmt: skip
"""Words in a model's name that are no name."""

_BEFORE, _BEHIND = r"(?<![^\W_])", r"(?![^\W\d_])"
"""A number may follow, letters may not: qwen2 is Qwen, a phil is no Phi."""
_INTRODUCES = re.compile(r"\b(i am|i'm|i’m|name is|called|known as|here is) ((a|an|the) )?$", re.IGNORECASE)


@dataclass
class Side:
    """One of the two answers.

    Attributes:
        engine: that writes it.
        model: its model.
        identity: of the engine, for the response's row.
        request: that it was asked.
        pieces: the text so far.
        answer: None while it is written, and where it never came.
        done: nothing more will come.
    """

    engine: str
    model: str
    identity: str
    request: Request
    pieces: list[str] = field(default_factory=list)
    answer: Answer | None = None
    done: bool = False

    def heard(self, piece: str | None) -> None:
        """Take a piece of text; None begins anew."""
        if piece is None:
            self.pieces = []  # a new list: somebody may be reading the old one
        else:
            self.pieces.append(piece)

    @property
    def text(self) -> str:
        """The answer, as far as it is there."""
        if self.answer is not None and self.answer.reply is not None:
            return self.answer.reply.text or ""
        return "".join(self.pieces)

    @property
    def failed(self) -> bool:
        """There is no answer, and none will come: the call failed, or was refused."""
        if not self.done:
            return False
        answer = self.answer
        return answer is None or answer.status != "ok" or answer.reply is None or answer.reply.text is None

    def row(self, asked: Row) -> Row:
        """Its row of `responses`."""
        request = self.request
        params: dict[str, Any] = {
            "identity": self.identity,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        reply = self.answer.reply if self.answer is not None else None
        ended: Row = {"text": None, "finish_reason": "error"}
        if not self.failed and reply is not None:
            finish = reply.finish_reason if reply.finish_reason in _KEPT_ENDS else "stop"
            ended = {"text": reply.text, "finish_reason": finish, "n_tokens": reply.completion_tokens or None}
        call_id = self.answer.call_id if self.answer is not None else None
        return {**response(asked, model=self.model, params=params), **ended, "call_id": call_id}


@dataclass(frozen=True)
class Pane:
    """What a browser may know of one answer.

    Attributes:
        text: so far, at most `SHOWN` characters.
        done: nothing more will come.
        failed: there is no answer.
        cut: there is more of it.
    """

    text: str
    done: bool
    failed: bool
    cut: bool


@dataclass(frozen=True)
class Seen:
    """What a browser may know of a battle.

    Attributes:
        battle: its id, which says nothing of the models.
        prompt: what was asked.
        panes: left and right.
        state: running, ready to be voted on, or voted.
        choice: the vote.
        models: of left and right; None before the vote.
        left_out: why the vote does not count, as a sentence; empty where it does, and before the vote.
    """

    battle: str
    prompt: str
    panes: tuple[Pane, Pane]
    state: State
    choice: str | None = None
    models: tuple[str, str] | None = None
    left_out: str = ""


@dataclass
class Battle:
    """A battle as the server knows it.

    Attributes:
        battle_id: random.
        person_id: whose it is.
        text: what was asked.
        sides: left and right.
        started: Unix time.
        choice: the vote, once it is durable.
        lock: held while a vote is taken.
    """

    battle_id: str
    person_id: int
    text: str
    sides: tuple[Side, Side]
    started: float
    choice: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.choice is not None:
            return "voted"
        return "ready" if all(side.done for side in self.sides) else "running"

    @property
    def left_out(self) -> str:
        """Why a vote does not count, as a sentence; empty where it does (GenAI-Arena's rules, Jiang et al. 2024)."""
        for name, side in zip(("left", "right"), self.sides, strict=True):
            if side.failed:
                return f"the {name} answer failed"
            if not side.text.strip():
                return f"the {name} answer is empty"
            if gives_away(side.text, side.model):
                return f"the {name} answer names its own model"
        return ""

    def seen(self) -> Seen:
        """What may be told of it now."""
        left, right = (_pane(side) for side in self.sides)
        if self.choice is None:
            return Seen(self.battle_id, self.text, (left, right), self.state)
        models = self.sides[0].model, self.sides[1].model
        return Seen(self.battle_id, self.text, (left, right), "voted", self.choice, models, self.left_out)

    def rows(self, pseudonym: str, choice: str) -> tuple[Row, dict[str, list[Row]]]:
        """The vote as a row for `Dataset.label`, and the rows that go beside it.

        The prompt is its writer's (`user_id`): erasing them erases it, and equal prompts of two people stay two. Where
        there is nothing to compare the vote has no scores, so that no step takes it for a preference.
        """
        annotator = annotator_of(pseudonym)
        asked = prompt([message("user", self.text)], source="arena", user_id=annotator)
        answers = [side.row(asked) for side in self.sides]
        left_out = self.left_out
        meta = {"arena": True, "battle": self.battle_id, "vote": choice, "counts": not left_out}
        vote: Row = {
            "key": ["arena", self.battle_id],
            "target_ids": [row["response_id"] for row in answers],
            "protocol": "compare",
            "annotator": annotator,
            "source": "human",
            "revision": 1,
            "labels": ["both_bad"] if choice == "both_bad" else None,
            "meta": canonical_json(meta | ({"left_out": left_out} if left_out else {})),
        }
        if any(row["finish_reason"] == "error" or not (row["text"] or "").strip() for row in answers):
            vote |= {"status": "skipped", "text": left_out, "labels": None}
        else:
            vote["scores"] = list(CHOICES[choice])
        return vote, {"prompts": [asked], "responses": answers}


def _pane(side: Side) -> Pane:
    failed = side.failed
    text = "" if failed else side.text
    return Pane(text[:SHOWN], side.done, failed, len(text) > SHOWN)


def gives_away(text: str, model: str) -> bool:
    """Whether a text holds its model's name: the whole of it, or the family's (`Qwen` of `Qwen2.5-0.5B-Instruct`).

    A family's name may be a word of the language (`command-r`), so it counts only as a name: with a capital, with a
    number behind it, or where the model introduces itself. The whole name counts however it is written.
    """
    known = model.casefold().rstrip("/")
    last = known.rpartition("/")[2]  # without whoever offers it
    whole = [one for one in {known, last} if len(one) > 2 and one not in _GENERIC]
    if any(re.search(rf"{_BEFORE}{re.escape(one)}{_BEHIND}", text.casefold()) for one in whole):
        return True
    for family in set(re.findall(r"[^\W\d_]{3,}", last)) - _GENERIC:
        for found in re.finditer(rf"{_BEFORE}{re.escape(family)}{_BEHIND}", text, re.IGNORECASE):
            numbered = text[found.end() : found.end() + 2].lstrip("-")[:1].isdecimal()
            if (
                found[0][0].isupper()
                or numbered
                or _INTRODUCES.search(text[max(0, found.start() - 40) : found.start()])
            ):
                return True
    return False
