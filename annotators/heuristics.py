"""`judge.heuristics`: plain facts about responses and pairs, as measures and labels that a filter can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row
from prefdata.similarity import edit_distance

from . import constraints, rulebook
from .measured import annotations_of

Fact = Literal[
    "words",
    "characters",
    "sentences",
    "paragraphs",
    "bullets",
    "numbered",
    "headings",
    "questions",
    "code_blocks",
    "open_fence",
    "repeated",
    "role_tags",
    "cut_off",
    "refusal",
    "language",
]
PairFact = Literal["length_ratio", "edit_distance", "edit_share"]

_REPEATED = 10
_ROLE_TAG = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|endoftext|eot_id|start_header_id|end_header_id|begin_of_text)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^[^\S\n]*(?:#{2,3}[^\S\n]*)?(?:human|user|assistant|system|instruction|response)[^\S\n]*:",
    re.IGNORECASE | re.MULTILINE,
)
_MARKER = re.compile(
    r"(?:\[(?:truncated|cut off|continued|\.{3}|…)\]|\((?:truncated|continued)\)|<truncated>)$", re.IGNORECASE
)
_FENCE = re.compile(r"^[^\S\n]*(?:```|~~~)", re.MULTILINE)


@step("judge.heuristics")
class Heuristics(TableStep):
    """State plain facts about each response, and about each pair, one annotation for each fact. No model is asked.

    Of responses, protocol `measure` under the aspect of the fact's name: how many `words`, `characters`, `sentences`,
    `paragraphs`, `bullets`, `numbered` lines, `headings`, `questions`, `code_blocks` (fenced) it has; whether (1 or 0)
    it leaves an `open_fence`, is `cut_off` (it ran out of tokens, or ends in a marker such as [truncated]), or opens
    with a `refusal`; the share of its word 10-grams that are `repeated`; how many `role_tags` (a turn's marker that
    leaked) it holds. `language` is a `label`: by script, and within the Latin script by frequent words; rough, made for
    a dozen languages, silent (`abstain`) on short texts.

    Of preferences of a better and a worse response: `length_ratio` (words of the better over those of the worse; 0
    words count as 1), `edit_distance` in words, and `edit_share`, over the length of the longer. Pairs of a tiny share
    differ in a few words, on which nearly the whole gradient falls (TAB-PO; its thresholds are not published).

    They know nothing of quality, and none of them says which way is better: `select.threshold` drops by them, and an
    aggregate that comes after them must be told its aspects. `judge.rules` scores some of the same in [0, 1].

    Source: the guards of COIG-P's pairs as this project has them: `length_ratio` in 1/3 to 3, `repeated` below 0.2,
    no `role_tags`, no `open_fence`, not `cut_off`.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"responses", "preferences"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations", "annotators"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "responses": ("prompt_id", "text", "finish_reason"),
        "preferences": ("prompt_id", "response_ids", "scores", "kind"),
    }

    of: tuple[Fact, ...] = Field(
        ("words", "open_fence", "repeated", "role_tags", "cut_off", "refusal", "language"),
        description="Which facts about responses.",
    )
    pairs: tuple[PairFact, ...] = Field((), description="Which facts about pairs; needs pairs.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.of and not self.pairs:
            raise ValueError("of and pairs are both empty: nothing would be stated")
        return self

    def inputs(self) -> frozenset[str]:
        """Responses, and preferences where pairs are asked about."""
        return frozenset({"responses", "preferences"} if self.pairs else {"responses"})

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """One annotation for each response and fact, and for each pair and fact."""
        responses = tables["responses"]
        base = responses.select("group_id", "prompt_id", id="response_id")
        made = []
        for fact in self.of:
            stated = [
                None if text is None else _FACTS[fact](text, reason)
                for text, reason in responses.select("text", "finish_reason").iter_rows()
            ]
            if fact == "language":
                labels = pl.Series([None if name is None else [name] for name in stated], dtype=pl.List(pl.String))
                made.append(self._said(base.with_columns(labels=labels), "response", "label", fact))
            else:
                score = pl.Series(stated, dtype=pl.Float64)
                made.append(self._said(base.with_columns(score=score), "response", "measure", fact))
        if self.pairs:
            made += self._of_pairs(tables["preferences"], responses, context)
        names = [{"annotator": f"rule:{fact}"} for fact in (*self.of, *self.pairs)]
        return {"annotations": pl.concat(made), "annotators": names}

    def _said(self, rows: pl.DataFrame, target: str, protocol: str, fact: str) -> pl.DataFrame:
        return annotations_of(
            rows, target=target, protocol=protocol, annotator=f"rule:{fact}", aspect=fact, key=[self.version]
        )

    def _of_pairs(self, preferences: pl.DataFrame, responses: pl.DataFrame, context: Context) -> list[pl.DataFrame]:
        texts = dict(responses.select("response_id", "text").iter_rows())
        two = preferences.filter(pl.col("response_ids").list.len() == 2)
        if two.height < preferences.height:
            context.log(f"{preferences.height - two.height} preferences are no pairs of two, and are left out")
        base = two.select("group_id", "prompt_id", id="preference_id")
        values: dict[str, list[float | None]] = {fact: [] for fact in self.pairs}
        for better, worse in two["response_ids"].to_list():
            stated = _of_pair(texts.get(better), texts.get(worse), self.pairs)
            for fact in self.pairs:
                values[fact].append(stated.get(fact))
        return [
            self._said(
                base.with_columns(score=pl.Series(values[fact], dtype=pl.Float64)), "preference", "measure", fact
            )
            for fact in self.pairs
        ]


def role_tags(text: str) -> int:
    """How many markers of a turn a text holds: `<|im_start|>`, `[INST]`, a line that begins with `Human:`."""
    return len(_ROLE_TAG.findall(text))


def repeated_share(text: str, n: int = _REPEATED) -> float:
    """The share of word n-grams that stood there before; 0 for a text of fewer than n words."""
    new = rulebook.repetition(text, n)
    return 0.0 if new is None else 1 - new


def language_of(text: str) -> str | None:
    """The script of a text, or within the Latin script its language; None where that is not plain."""
    script = rulebook.script(text)
    return rulebook.stop_language(text) if script == "latin" else script


def _of_pair(better: str | None, worse: str | None, facts: Sequence[str]) -> dict[str, float | None]:
    if better is None or worse is None:
        return {}
    one, other = rulebook.words(better), rulebook.words(worse)
    stated: dict[str, float | None] = {}
    if "length_ratio" in facts:
        stated["length_ratio"] = max(len(one), 1) / max(len(other), 1)
    if {"edit_distance", "edit_share"} & set(facts):
        distance, longest = edit_distance(one, other), max(len(one), len(other))
        stated["edit_distance"] = float(distance)
        stated["edit_share"] = distance / longest if longest else None
    return stated


def _counted(key: str) -> Callable[[str, str | None], Any]:
    return lambda text, _: float(constraints.counted(text, key))


_FACTS: dict[str, Callable[[str, str | None], Any]] = {
    **{
        key: _counted(key)
        for key in ("words", "characters", "sentences", "paragraphs", "bullets", "numbered", "headings", "questions")
    },
    "code_blocks": lambda text, _: float(len(_FENCE.findall(text)) // 2),
    "open_fence": lambda text, _: float(len(_FENCE.findall(text)) % 2),
    "repeated": lambda text, _: repeated_share(text),
    "role_tags": lambda text, _: float(role_tags(text)),
    "cut_off": lambda text, reason: float(reason == "length" or _MARKER.search(text.rstrip()) is not None),
    "refusal": lambda text, _: 1 - rulebook.refusal(text),
    "language": lambda text, _: language_of(text),
}
