"""What the tests of formats share: hand-made tables, and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import schema
from prefdata.formats import Imported, training_lists
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


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[[Iterable[object]], Path]:
    """Writes rows as JSON lines."""

    def make(rows: Iterable[object], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return make


@pytest.fixture
def preferred() -> Callable[[Imported], dict[str, pl.LazyFrame]]:
    """One preference for each ordering annotation of an import, best first: what `pair` makes by the rule `list`."""

    def make(imported: Imported) -> dict[str, pl.LazyFrame]:
        rows: dict[str, list[Row]] = {name: [] for name in ("prompts", "responses", "annotations", "preferences")}
        rows |= imported.rows
        for said in rows["annotations"]:
            if said["protocol"] not in ("compare", "rank", "score"):
                continue
            best_first = sorted(zip(said["scores"], said["target_ids"], strict=True), key=lambda pair: -pair[0])
            rows["preferences"].append(
                schema.preference(
                    group_id=said["group_id"],
                    prompt_id=said["prompt_id"],
                    response_ids=[target for _, target in best_first],
                    scores=[score for score, _ in best_first],
                    annotation_ids=[said["annotation_id"]],
                    annotator=said["annotator"],
                    aspect=said["aspect"],
                )
            )
        made = {name: pl.from_arrow(schema.arrow_table(name, some)) for name, some in rows.items()}
        return {name: frame.lazy() for name, frame in made.items() if isinstance(frame, pl.DataFrame)}

    return make
