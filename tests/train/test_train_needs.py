"""Numbers that a loss reads: out of range they stop the training before it begins, missing ones are passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefdata.train import LOSSES, TrainConfig, TrainError, train
from prefdata.train.needs import says_nothing
from prefdata.train.preferences import Edge, PreferenceList, Response

pytest.importorskip("torch")


def test_scores_outside_the_range_of_a_loss_stop_before_the_first_step(
    tmp_path: Path, write_lists: Callable[..., Path], tiny_model: Path
) -> None:
    rows = [{"responses": ["a", "b"], "scores": [0.9, 0.1]}, {"responses": ["c", "d"], "scores": [7.5, 0.5]}]
    data = write_lists(tmp_path / "lists.parquet", rows)
    config = TrainConfig(data=data, model=str(tiny_model), out=tmp_path / "out", loss="lipo-lambda", max_steps=1)
    with pytest.raises(
        TrainError, match=r"row 1: scores is a number of at least 0 and of at most 1 for this loss, and 7\.5 stands"
    ):
        train(config, lambda line: None)
    assert not (tmp_path / "out").exists()


def with_values(kind: list[float | None], clear: list[float | None]) -> PreferenceList:
    responses = [Response("a", score=1.0, rank=1), Response("b", score=0.0, rank=2)]
    return PreferenceList(0, "g", False, [], responses, [Edge(0, 1)], values={"kind": kind, "clear": clear})


@pytest.mark.parametrize(
    ("kind", "clear", "alone", "pairs"),
    [
        ([1.0, 2.0], [3.0, 4.0], None, None),
        ([1.0, None], [None, None], None, "values.clear is null"),
        ([None, None], [None, 1.0], None, "values.clear is null"),
        ([None, None], [None, None], "values.clear is null", "values.clear is null"),
    ],
)
def test_a_missing_number_is_masked_where_the_loss_can(
    kind: list[float | None], clear: list[float | None], alone: str | None, pairs: str | None
) -> None:
    """A null rating of one attribute does not cost the others; a pair needs the numbers of both sides."""
    spec = LOSSES["multi-attribute"]
    needed = spec.needed(spec.checked_options({"attributes": ["kind", "clear"]}, "t"))
    source = with_values(kind, clear)
    assert says_nothing(source, needed) == alone
    assert says_nothing(source, needed | {"edges"}) == pairs


def test_a_loss_over_a_column_of_labels_passes_over_what_has_none() -> None:
    spec: Any = LOSSES["listnet"]
    needed = spec.needed(spec.checked_options({"labels": "values.kind"}, "t"))
    assert says_nothing(with_values([1.0, None], [None, None]), needed) is None
    assert says_nothing(with_values([None, None], [1.0, 1.0]), needed) == "values.kind is null"
