"""judge.label: one of the card's labels, which order nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotators_said import run

from prefdata.annotators import Compare, Label, Score
from prefdata.cards import load_card
from prefdata.engines.base import Reply
from prefdata.errors import PipelineError

Make = Callable[..., Any]
OWN = """
name: support
instructions: Check it.
aspects: [{name: support, text: Is it supported.}]
labels: {supported: it is said, unsupported: it is not said, "not sure": cannot tell}
protocols: [label]
"""


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"reason": "it is", "label": "factual"}', "factual"),
        ('{"label": " Factual "}', "factual"),
        ("It names two dates, both right.\nLabel: factual", "factual"),
        ('{"label": "factual", }', "factual"),
        ('{"label": "true"}', None),
        ('{"label": ["factual"]}', None),
        ('{"label": "factual or mixed"}', None),
        ('{"label": null}', None),
        ('{"labels": "factual"}', None),
        ("factual", None),
        ("The label is factual.", None),
        ('{"label": "factual"} {"label": "mixed"}', None),
        ("Label: factual\nBut it may be mixed.", None),
    ],
)
def test_a_label_or_none(bench: Make, text: str, label: str | None) -> None:
    (row,) = run(Label(engine="judge"), bench(lambda request, revision: Reply(text), "one"))["annotations"]
    assert row["protocol"] == "label" and row["aspect"] == "factuality" and row["scores"] is None
    assert (row["status"], row.get("labels")) == (("ok", [label]) if label else ("unparsed", None))


def test_each_response_has_its_own(bench: Make) -> None:
    b = bench(lambda request, revision: Reply('{"reason": "r", "label": "mixed"}'), "one", "two")
    rows = run(Label(engine="judge", replicates=2, temperature=1.0), b)
    assert len(rows["annotations"]) == len(b.context.asked) == 4
    assert {row["text"] for row in rows["annotations"]} == {"r"}
    (criterion,) = rows["criteria"]
    assert "unverifiable: " in criterion["text"] and criterion["criterion_id"] == rows["annotations"][0]["criterion_id"]
    schema = b.context.asked[0][1].schema
    assert schema["properties"]["label"]["enum"] == ["factual", "mixed", "nonfactual", "unverifiable"]
    assert all(f"- {name}: {meaning}" in b.texts[0] for name, meaning in load_card("factuality-label").labels.items())


def test_a_failed_call_is_a_status(bench: Make) -> None:
    (row,) = run(Label(engine="judge"), bench(lambda request, revision: "timeout", "one"))["annotations"]
    assert row["status"] == "timeout" and row["scores"] is None and row.get("labels") is None


def test_labels_of_ones_own(bench: Make, tmp_path: Path) -> None:
    file = tmp_path / "support.yaml"
    file.write_text(OWN)
    b = bench(lambda request, revision: Reply(json.dumps({"label": "Not sure"})), "one")
    (row,) = run(Label(engine="judge", card=str(file)), b)["annotations"]
    assert row["labels"] == ["not sure"]
    for step in (Compare, Score):
        with pytest.raises(ValueError, match="is for the protocols label, not for"):
            step(engine="judge", card=str(file))
    with pytest.raises(ValueError, match="not for label"):
        Label(engine="judge", card="helpfulness")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("protocols: [label]", "protocols: [score]"), "go together"),
        (
            ('labels: {supported: it is said, unsupported: it is not said, "not sure": cannot tell}\n', ""),
            "go together",
        ),
        (("supported: it is said, unsupported: it is not said, ", ""), "at least 2"),
        (("unsupported: it is not said", "Supported: it is not said"), "differ by more than case"),
        (("unsupported: it is not said", 'unsupported: ""'), "each a meaning"),
    ],
)
def test_a_bad_list_of_labels_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "support.yaml"
    file.write_text(OWN.replace(*change))
    with pytest.raises(PipelineError, match=said):
        load_card(str(file))
