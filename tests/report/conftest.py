"""A small dataset, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prefdata.dataset import Dataset
from prefdata.schema import Row, annotation, message, preference, prompt, response


class Hand:
    """Collects rows, then makes a dataset of them. Prompts and responses are named by short words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts: dict[str, Row] = {}
        self.responses: dict[str, Row] = {}
        self.annotations: list[Row] = []
        self.preferences: list[Row] = []

    def prompt(self, name: str, *texts: str, model: str = "m", **columns: Any) -> list[str]:
        """A prompt and a response for each text; gives their ids."""
        row = self.prompts[name] = prompt([message("user", name)], **columns)
        made = [response(row, model=model, text=text, key=place) for place, text in enumerate(texts)]
        self.responses |= {one["response_id"]: one for one in made}
        return [one["response_id"] for one in made]

    def says(self, annotator: str, ids: Sequence[str], scores: Sequence[float] | None, **columns: Any) -> None:
        """An annotation; a comparison unless a protocol is given."""
        about = self.responses[ids[0]]
        rest = {"protocol": "compare", "source": "judge", **columns}
        self.annotations.append(
            annotation(
                group_id=about["group_id"],
                prompt_id=about["prompt_id"],
                target_ids=ids,
                annotator=annotator,
                scores=scores,
                key=len(self.annotations),
                **rest,
            )
        )

    def both_orders(self, annotator: str, ids: Sequence[str], first: float, second: float, **columns: Any) -> None:
        """Two comparisons: P(first shown wins) when shown as given, and when turned."""
        self.says(annotator, ids, [first, 1 - first], **columns)
        self.says(annotator, ids[::-1], [second, 1 - second], **columns)

    def prefers(self, ids: Sequence[str], scores: Sequence[float], **columns: Any) -> None:
        """A preference."""
        about = self.responses[ids[0]]
        made = preference(
            group_id=about["group_id"], prompt_id=about["prompt_id"], response_ids=ids, scores=scores, **columns
        )
        self.preferences.append(made)

    def dataset(self) -> Dataset:
        """Everything that was collected, imported."""
        made = Dataset.create(self.folder)
        rows = {
            "prompts": list(self.prompts.values()),
            "responses": list(self.responses.values()),
            "annotations": self.annotations,
            "preferences": self.preferences,
        }
        made.add_import(rows, source="hand", fields={})
        return made


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path / "hand")
