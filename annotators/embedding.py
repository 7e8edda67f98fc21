"""`judge.embedding`: how near a response is to its prompt, or to a known good answer, as an embedding sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, ClassVar, Literal

from pydantic import Field

from prefdata.engines.base import Capability, Engine, Request
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, annotation

from .asking import completed, meta
from .density_ratio import finite
from .likelihood import MeasuringStep, asked_all, of_each, read_values

_TOKEN = re.compile(r"\w+|[^\w\s]")
# Its blanks hold no line break: of many blank lines each would be tried with all that follow.
_NEXT_TURN = re.compile(r"\n[^\S\n]*(?:###\s*)?(?:human|user|assistant|system|question|answer)\s*:", re.IGNORECASE)


@step("judge.embedding")
class Embedding(MeasuringStep):
    """Score each response by the cosine of its embedding with that of what was asked, or of a known good answer.

    `cosine`: the cosine alone, in [-1, 1]; with several references, that of the nearest. What was asked is the last
    turn of the user, without its passages. It knows whether a response is about the question, not whether it is good:
    to repeat the question is rewarded.

    `r3`: the regularised relevance of R^3 (Preference-free Alignment Learning with Regularized Relevance Reward):
    against the prompt `length * cosine * repetition`, against references `interpolate(cosine; 0..full -> 0..longest /
    100) * repetition`. Length is words and punctuation marks over 100, counted up to where the response begins another
    turn; repetition is the share of different trigrams among its trigrams, 1 where it has none. A cosine below 0 counts
    as 0: a response that is off the topic is not worse for being longer. An empty response scores 0. There, dot
    products of an unscaled encoder go from 0 to 3.5, of unit vectors from 0 to 1; `longest` is reconstructed.

    A prompt without what it is compared with (references, a user's turn), and with `cosine` an empty response, is
    abstained from.
    """

    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "embed"}

    engine: str = Field(description="The engine that embeds.")
    form: Literal["cosine", "r3"] = Field("cosine", description="The cosine, or R^3's mix with length and repetition.")
    of: Literal["prompt", "references", "auto"] = Field(
        "prompt", description="What a response is compared with; auto: a prompt's references where it has some."
    )
    full: float = Field(1.0, gt=0, description="r3: the cosine with a reference that is worth the most.")
    longest: int = Field(512, ge=1, description="r3: a hundred times what a response equal to its reference is worth.")

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        engine = context.engine(self.engine)
        rows = await of_each(group, lambda prompt, response: self._judge(prompt, response, engine, context))
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": self._name(engine), "model": engine.model}]}

    def _name(self, engine: Engine) -> str:
        return f"embedding:{engine.model}/{self.form}{'' if self.of == 'prompt' else f'/{self.of}'}"

    def _compared(self, prompt: Row) -> tuple[str, list[str]]:
        """`prompt` or `references`, and the texts."""
        references = [text for text in prompt.get("references") or () if text]
        if self.of == "references" or (self.of == "auto" and references):
            return "references", references
        asked = [str(turn.get("content") or "") for turn in prompt["messages"] if turn["role"] == "user"]
        return "prompt", [text for text in asked[-1:] if text.strip()]

    async def _judge(self, prompt: Row, response: Row, engine: Engine, context: Context) -> Row:
        against, texts = self._compared(prompt)
        key: dict[str, Any] = {"identity": engine.identity}
        if against == "references":
            key["references"] = texts  # a prompt's id does not cover them
        if self.form == "r3":
            key |= {"full": self.full, "longest": self.longest}
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=self._name(engine),
            source="embedding",
            aspect=self.aspect,
            key=key,
        )
        said = response["text"] or ""

        async def make(revision: int) -> Row:
            if not texts or response["text"] is None or (self.form == "cosine" and not said.strip()):
                return completed(row, status="abstain", scores=None, call_id=None, revision=revision)
            if not said.strip():
                return completed(row, status="ok", scores=[0.0], call_id=None, revision=revision)
            requests = [(self.engine, Request("embed", texts=(text,))) for text in (said, *texts)]
            answers = await asked_all(context, requests, revision)
            status, call_id, vectors = read_values(answers)
            if status == "ok" and len({len(vector) for vector in vectors}) > 1:
                status = "unparsed"
            if status != "ok":
                return completed(row, status=status, scores=None, call_id=call_id, revision=revision)
            nearest = max(dot(vectors[0], vector) for vector in vectors[1:])
            score = nearest if self.form == "cosine" else self._regularised(nearest, said, against)
            facts = None if self.form == "cosine" else meta(cosine=finite(nearest))
            return completed(row, status="ok", scores=[score], call_id=call_id, revision=revision, meta=facts)

        return await context.once("annotations", row["annotation_id"], make)

    def _regularised(self, cosine: float, text: str, against: str) -> float:
        if against == "references":
            return constrained(cosine, text, full=self.full, longest=self.longest)
        return max(cosine, 0.0) * length_incentive(text) * repetition_penalty(text)


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    """The scalar product; of unit vectors, their cosine."""
    return fsum(a * b for a, b in zip(one, other, strict=True))


def tokens(text: str) -> list[str]:
    """Words and punctuation marks, in lower case, up to where the text begins another turn."""
    return _TOKEN.findall(_NEXT_TURN.split(text, maxsplit=1)[0].lower())


def length_incentive(text: str) -> float:
    """Words and punctuation marks over 100."""
    return len(tokens(text)) / 100


def repetition_penalty(text: str) -> float:
    """The share of different trigrams among all, in (0, 1]; 1 for a text of fewer than three tokens."""
    words = tokens(text)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def constrained(cosine: float, text: str, *, full: float, longest: int) -> float:
    """R^3 against a reference: it does not grow with length.

    Args:
        cosine: of response and reference.
        text: the response.
        full: the cosine that is worth the most; less is worth proportionally less, down to 0 at 0.
        longest: a hundred times what `full` is worth.
    """
    return min(max(cosine / full, 0.0), 1.0) * longest / 100 * repetition_penalty(text)
