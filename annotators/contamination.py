"""`judge.contamination`: how much of a protected text a prompt or response holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from prefdata.errors import PrefdataError
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row, make_id
from prefdata.similarity import Protected

from .documents import documents
from .measured import annotations_of
from .protected import Benchmark, ProtectedTexts, read_protected

ASPECT = "contamination"


@step("judge.contamination")
class Contamination(TableStep):
    """Measure how much of a protected text (a benchmark's questions and answers) each prompt and response holds.

    A `measure` for each, under the aspect `contamination`: the largest share of a protected text's word n-grams that
    stand in it, and 1 where it is a protected text, or holds one of more than `passage` characters. Where that reaches
    `hit`, a `label` too: the name of the benchmark, and how (`equal`, `passage` or `ngrams`). Each turn of a prompt is
    compared by itself, and the worst counts. `select.threshold` then drops: `{aspect: contamination, annotator:
    "rule:contamination", max: 0.49, table: prompts}`.

    Texts are compared without case, punctuation and white space. A protected text of fewer than `n` words is met by
    equal texts only, one of fewer than `least_words` by none: half of all answers would be `yes`. Templates are part of
    a text: run this on prompts as they were written.

    Source: 13-grams and the share of 0.5 after the decontamination of reward-augmented preference data (RewardAug).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"prompts", "responses"})
    writes: ClassVar[frozenset[str]] = frozenset({"annotations", "criteria", "annotators"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "prompts": ("messages", "condition", "context", "media"),
        "responses": ("prompt_id", "text", "media"),
    }

    protected: dict[str, Benchmark] = Field(
        description="Files of protected texts by the name of their benchmark: a path, or {path, columns}."
    )
    of: tuple[Literal["prompts", "responses"], ...] = Field(("prompts", "responses"), description="What is compared.")
    n: int = Field(13, ge=1, description="Words of an n-gram.")
    hit: float = Field(0.5, gt=0, le=1, description="From which share on a label names the benchmark.")
    passage: int = Field(50, ge=1, description="A protected text of more characters is a hit wherever it stands.")
    least_words: int = Field(4, ge=1, description="Protected texts of fewer words are left out.")
    allowed: tuple[str, ...] = Field((), description="Texts whose n-grams count for nothing (`return x + y`).")

    _texts: ProtectedTexts = PrivateAttr(ProtectedTexts({}))

    @field_validator("protected", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if not isinstance(value, Mapping) or not value:
            raise ValueError(
                "protected is a mapping of a benchmark's name to its file, for example {truthfulqa: t.jsonl}"
            )
        return {str(name): {"path": file} if isinstance(file, str) else file for name, file in value.items()}

    @model_validator(mode="after")
    def _load(self, info: ValidationInfo) -> Self:
        """Read the files before anything runs."""
        if not self.of:
            raise ValueError("of is empty: name prompts, responses or both")
        folder = Path((info.context or {}).get("folder") or ".")
        try:
            self._texts = read_protected(self.protected, folder, self.least_words)
        except PrefdataError as error:
            raise ValueError(str(error)) from error
        return self

    def inputs(self) -> frozenset[str]:
        """The tables that are compared."""
        return frozenset(self.of)

    def resolved(self) -> dict[str, Any]:
        """The fields, with a hash of what the files hold in place of their paths."""
        return {**super().resolved(), "protected": self._texts.digest}

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The measures, and the labels of hits."""
        names = [name for name, listed in self._texts.texts.items() for _ in listed]
        texts = [text for listed in self._texts.texts.values() for text in listed]
        known = Protected(texts, self.n, allowed=self.allowed, passage=self.passage)
        made = [frame for of in self.of for frame in self._judged(of, tables, known, names, context)]
        return {
            "annotations": pl.concat(made),
            "criteria": [self._criterion()],
            "annotators": [{"annotator": "rule:contamination"}],
        }

    def _judged(
        self,
        of: Literal["prompts", "responses"],
        tables: Mapping[str, pl.DataFrame],
        known: Protected,
        names: Sequence[str],
        context: Context,
    ) -> list[pl.DataFrame]:
        found = documents(of, tables, within_prompt=False)
        overlap = known.overlap(found.texts)
        sure = overlap.equal | overlap.within
        how = np.where(overlap.equal, "equal", np.where(overlap.within, "passage", "ngrams"))
        source = [names[number] if number >= 0 else None for number in overlap.nearest.tolist()]
        pieces = pl.DataFrame(
            {
                "owner": found.owners,
                "score": np.where(sure, 1.0, overlap.fraction),
                "how": how,
                "source": pl.Series(source, dtype=pl.String),
            },
            schema_overrides={"how": pl.String},
        )
        worst = pieces.sort("owner", "score", "how", descending=[False, True, False]).unique("owner", keep="first")
        rows = found.rows.with_row_index("owner").with_columns(pl.col("owner").cast(pl.Int64))
        rows = rows.join(worst, on="owner", how="left", maintain_order="left")
        said: dict[str, Any] = {"target": of[:-1], "annotator": "rule:contamination", "aspect": ASPECT}
        # A prompt's id does not cover its passages, nor the digest of the files what is compared.
        said["key"] = [self.version, {**self.resolved(), "of": None, "view": None}]
        hits = rows.filter(pl.col("score") >= self.hit).with_columns(labels=pl.concat_list("source", "how"))
        counts = Counter(hits["source"].to_list())
        listed = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items()))
        context.log(f"{hits.height} of {rows.height} {of} hold protected texts{f': {listed}' if listed else ''}")
        columns = ["id", "group_id", "prompt_id"]
        return [
            annotations_of(rows.select(*columns, "score"), protocol="measure", **said),
            annotations_of(hits.select(*columns, "labels"), protocol="label", **said),
        ]

    def _criterion(self) -> Row:
        text = (
            f"The largest share of a protected text's word {self.n}-grams that stand in it; 1 where it is one, or "
            f"holds one of more than {self.passage} characters."
        )
        return {
            "criterion_id": make_id("criterion", ASPECT, text),
            "name": ASPECT,
            "text": text,
            "kind": "constraint",
            "scale": {"type": "interval", "min": 0.0, "max": 1.0, "anchors": None},
            "owner": "rule:contamination",
        }
