"""Tables made by hand, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata import schema
from prefdata.formats import training_lists
from prefdata.schema import Row


@dataclass
class Tables:
    """Tables made row by row; responses go by their texts."""

    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {"prompts": [], "responses": [], "annotations": [], "preferences": []}
    )

    def prompt(self, asked: str | Sequence[Row] = "Why?", **columns: Any) -> Row:
        turns = [schema.message("user", asked)] if isinstance(asked, str) else asked
        row = schema.prompt(turns, **columns)
        self.rows["prompts"].append(row)
        return row

    def response(self, prompt: Row, text: str | None, **columns: Any) -> str:
        columns.setdefault("key", [text, len(self.rows["responses"])])
        row = schema.response(prompt, model=columns.pop("model", "m"), text=text, **columns)
        self.rows["responses"].append(row)
        return str(row["response_id"])

    def preference(
        self, prompt: Row, texts: Sequence[str], scores: Sequence[float | None] | None, **columns: Any
    ) -> Row:
        ids = [self.response(prompt, text) for text in texts]
        return self.preference_of(prompt, ids, scores, **columns)

    def preference_of(
        self, prompt: Row, ids: Sequence[str], scores: Sequence[float | None] | None, **columns: Any
    ) -> Row:
        row = schema.preference(
            group_id=prompt["group_id"],
            prompt_id=columns.pop("prompt_id", prompt["prompt_id"]),
            response_ids=ids,
            scores=scores,
            key=len(self.rows["preferences"]),
            **columns,
        )
        self.rows["preferences"].append(row)
        return row

    def split(self, prompt: Row, label: str) -> None:
        self.rows["annotations"].append(
            schema.annotation(
                group_id=prompt["group_id"],
                prompt_id=prompt["group_id"],
                target="prompt",
                target_ids=[prompt["group_id"]],
                protocol="label",
                annotator="rule:split",
                source="rule",
                aspect="split",
                labels=[label],
            )
        )

    def frames(self) -> dict[str, pl.LazyFrame]:
        made = {name: pl.from_arrow(schema.arrow_table(name, rows)) for name, rows in self.rows.items()}
        return {name: frame.lazy() for name, frame in made.items() if isinstance(frame, pl.DataFrame)}

    def lists(self) -> pl.DataFrame:
        frame, left_out = training_lists(self.frames())
        assert not left_out
        return frame
