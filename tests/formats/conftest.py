"""What the tests of formats share: hand-made tables, and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pytest
from format_tables import Tables

from prefdata import schema
from prefdata.formats import Imported
from prefdata.schema import Row


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
