"""judge.routing_gain: gains from given coefficients and from past mixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from test_annotators_pair_measures import about, measured, pair

from prefdata.annotators import RoutingGain
from prefdata.errors import DataError
from prefdata.schema import Row, annotation


def tables(n: int = 6) -> dict[str, list[Row]]:
    """Pairs whose prompts and responses grow by a word each."""
    names = [f"n{at}" for at in range(n)]
    return {
        "preferences": [pair(name) for name in names],
        "prompts": [
            {"prompt_id": name, "group_id": name, "messages": [{"role": "user", "content": "w " * (at + 1)}]}
            for at, name in enumerate(names)
        ],
        "responses": [
            {
                "response_id": f"{name}-{side}",
                "group_id": name,
                "prompt_id": name,
                "text": "w " * (at + (side == "a") * at),
            }
            for at, name in enumerate(names)
            for side in "ab"
        ],
    }


def test_gains_are_sums_of_the_features(tmp_path: Path) -> None:
    step = RoutingGain(coefficients={"prompt_length:low": 0.02, "length_difference:low": -0.01, "nowhere:high": 1.0})
    found, rows, context = measured(step, tmp_path, **tables())
    gain = found["routing_gain"]
    assert [gain[f"n{at}"] for at in range(6)] == pytest.approx([0.01, 0.01, 0, 0, 0, 0])
    assert rows[0]["source"] == "rule" and any("no pair has the features nowhere:high" in line for line in context.said)


def test_tags_and_measures_are_features(tmp_path: Path) -> None:
    tag = annotation(
        group_id="n1",
        prompt_id="n1",
        target="prompt",
        target_ids=["n1"],
        protocol="label",
        labels=["law", "medicine"],
        annotator="judge:m",
        source="judge",
        aspect="subject",
    )
    said = [tag, *(about(f"n{at}", float(at), "cosine") for at in range(6))]
    step = RoutingGain(
        coefficients={"subject:law": 0.5, "near:high": 0.25}, measures={"near": {"aspect": "cosine"}}, tags=["subject"]
    )
    found, _, _ = measured(step, tmp_path, **tables(), annotations=said)
    assert [found["routing_gain"][f"n{at}"] for at in range(6)] == pytest.approx([0, 0.5, 0, 0, 0.25, 0.25])
    with pytest.raises(ValidationError, match="is taken"):
        RoutingGain(coefficients={"a": 1}, measures={"prompt_length": {"aspect": "x"}})


def mixes(folder: Path, form: str) -> Path:
    rng = np.random.default_rng(0)
    file = folder / "mixes.jsonl"
    lines = []
    for _ in range(80):
        low, high = (int(count) for count in rng.integers(0, 50, size=2))
        worth = 0.6 + 0.002 * low - 0.001 * high - (0.00001 * low * low if form == "quadratic" else 0)
        lines.append(
            json.dumps({"counts": {"prompt_length:low": low, "prompt_length:high": high}, "performance": worth})
        )
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("form", ["linear", "quadratic"])
def test_past_mixes_give_the_coefficients(form: Any, tmp_path: Path) -> None:
    step = RoutingGain(mixes=str(mixes(tmp_path, form)), form=form)
    found, _, context = measured(step, tmp_path, **tables())
    low = 0.002 - (0.00001 if form == "quadratic" else 0)
    assert [found["routing_gain"][f"n{at}"] for at in (0, 2, 5)] == pytest.approx([low, 0, -0.001], abs=1e-5)
    assert any("R^2 on those left out: 1.000" in line for line in context.said)
    again = RoutingGain.restored(step.resolved())
    assert again.resolved() == step.resolved(), "the file's content is what the step is named by"
    (tmp_path / "mixes.jsonl").unlink()
    assert measured(again, tmp_path, **tables())[0] == found


@pytest.mark.parametrize(
    "line", ["[1]", '{"counts": 3, "performance": 1}', "{", '{"counts": {"a": "x"}, "performance": 1}']
)
def test_a_bad_file_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "mixes.jsonl"
    file.write_text('{"counts": {"a": 1}, "performance": 0.5}\n' + line + "\n")
    with pytest.raises(DataError, match="line 2 of mixes"):
        measured(RoutingGain(mixes=str(file)), tmp_path, **tables())
    file.write_text('{"counts": {"a": 1}, "performance": 0.5}\n')
    with pytest.raises(DataError, match="at least two mixes"):
        measured(RoutingGain(mixes=str(file)), tmp_path, **tables())
    file.write_text('{"counts": {"a": 1}, "performance": NaN}\n' * 2)
    with pytest.raises(DataError, match="missing or infinite"):
        measured(RoutingGain(mixes=str(file)), tmp_path, **tables())


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValidationError, match="either coefficients or mixes"):
        RoutingGain()
    with pytest.raises(ValidationError, match="there is no file"):
        RoutingGain(mixes="nowhere.jsonl")
    with pytest.raises(ValidationError, match="quadratic is fitted to mixes"):
        RoutingGain(coefficients={"a": 1}, form="quadratic")
