"""Splitting by clusters: nothing that is alike on both sides, counts as near as clusters allow."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import FakeContext, run, said

import prefdata
from prefdata.errors import DataError
from prefdata.operators.split import Split, fitting
from prefdata.schema import Row, check_annotations, message
from prefdata.similarity import near_duplicates, shingle_sets


def asked(name: str, text: str = "", **columns: Any) -> Row:
    return {"prompt_id": name, "group_id": name, "messages": [message("user", text)], **columns}


def label(name: str, cluster: str, annotator: str = "rule:duplicates/near") -> Row:
    return said(
        [name], None, target="prompt", protocol="label", source="rule", labels=[cluster], aspect="duplicates",
        annotator=annotator, prompt_id=name,
    )  # fmt: skip


def sides(step: Split, rows: list[Row], labels: list[Row], context: FakeContext | None = None) -> dict[str, str]:
    made = run(step, context, prompts=rows, annotations=labels)["annotations"]
    check_annotations(made, "split")
    return {row["target_ids"][0]: row["labels"][0] for row in made}


def test_a_cluster_stays_on_one_side() -> None:
    rows = [asked(f"g{n:02}") for n in range(20)]
    labels = [label(f"g{n:02}", f"g{n - n % 4:02}") for n in range(20)]
    context = FakeContext()
    found = sides(Split(valid=0.2, by="clusters"), rows, labels, context)
    assert all(len({found[f"g{n + k:02}"] for k in range(4)}) == 1 for n in range(0, 20, 4))
    assert list(found.values()).count("valid") == 4
    assert context.said == [
        "5 clusters of several groups, of which the largest holds 4 groups",
        "16 groups to train on, 4 held out",
    ]
    # 5 of 20 cannot be had of clusters of 4: 4 it is, and that is said.
    context = FakeContext()
    assert list(sides(Split(valid=0.25, by="clusters"), rows, labels, context).values()).count("valid") == 4
    assert "4 groups are held out where 5 were asked for: clusters are not divided" in context.said


def test_chains_over_groups_and_annotators_hold_together() -> None:
    """Labels of two annotators join a-b and b-c, and a derived prompt joins its group."""
    rows = [asked(name) for name in "abcdef"] + [{**asked("x"), "group_id": "d", "parent_id": "d"}]
    labels = [label("a", "a"), label("b", "a"), label("c", "c"), label("x", "q"), label("e", "q")]
    labels += [label("b", "b", "embedding:m"), label("c", "b", "embedding:m")]
    for seed in range(8):
        found = sides(Split(valid=0.5, by="clusters", seed=seed), rows, labels)
        assert found["a"] == found["b"] == found["c"] and found["d"] == found["e"]
        assert list(found.values()).count("valid") == 3
    one = [sides(Split(valid=0.5, by="clusters", seed=n, annotator="rule:*"), rows, labels) for n in range(8)]
    assert any(found["b"] != found["c"] for found in one)


def test_without_labels_it_says_what_to_do() -> None:
    with pytest.raises(DataError, match="no prompt has a label under the aspect 'duplicates'"):
        sides(Split(by="clusters"), [asked("a")], [])
    assert sides(Split(by="clusters"), [], []) == {}


def test_older_splits_keep_their_names() -> None:
    assert set(Split().resolved()) == {"valid", "seed", "view"}
    assert Split.restored(Split().resolved()) == Split()
    assert Split.restored(Split(by="clusters").resolved()) == Split(by="clusters")


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 6), max_size=8), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_components_fit_as_near_as_said(sizes: dict[str, int], wanted: int) -> None:
    wanted = min(wanted, sum(sizes.values()))
    chosen = fitting(sizes, wanted, 0)
    held = sum(sizes[name] for name in chosen)
    assert fitting(dict(reversed(sizes.items())), wanted, 0) == chosen
    # No other component alone would come nearer.
    assert all(abs(held + sizes[name] - wanted) >= abs(held - wanted) for name in sizes.keys() - chosen)
    if all(size == 1 for size in sizes.values()):
        assert held == wanted


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_no_near_duplicate_crosses_and_without_clusters_many_do(seed: int) -> None:
    draw = random.Random(seed)
    texts = []
    for _ in range(40):
        base = [str(draw.randrange(1000)) for _ in range(20)]
        texts += [" ".join([*base, str(copy)]) for copy in range(3)]
    rows = [asked(f"p{n:03}", text) for n, text in enumerate(texts)]
    near = near_duplicates(shingle_sets(texts, 3), 0.7)
    names = near.clusters().names([row["prompt_id"] for row in rows])
    labels = [label(row["prompt_id"], name) for row, name in zip(rows, names, strict=True)]

    def leaking(step: Split) -> int:
        found = sides(step, rows, labels)
        return int(near.leaks(np.array([found[row["prompt_id"]] == "valid" for row in rows])).sum())

    assert leaking(Split(valid=0.2, by="clusters", seed=seed)) == 0
    assert leaking(Split(valid=0.2, seed=seed)) > 20


def test_in_a_pipeline_and_back(tmp_path: Path) -> None:
    """A second run makes nothing; without the filter what it dropped is back."""
    texts = ["tell me what the cat did on the mat today", "Tell me what the cat did on the mat, today!", "who was it"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    spec, ds = tmp_path / "line.yaml", tmp_path / "ds"
    steps: list[dict[str, Any]] = [
        {"ingest": {"path": "in.jsonl"}},
        {"judge.duplicates": {}},
        {"select.duplicates": {}},
        {"split": {"by": "clusters", "valid": 0.5}},
    ]

    def live(listed: list[dict[str, Any]]) -> int:
        spec.write_text(yaml.safe_dump({"steps": listed}))
        prefdata.run(spec, ds)
        return prefdata.open(ds).prompts.collect().height

    assert live(steps) == 2
    again = prefdata.run(spec, ds)
    assert all(not step.rows for step in again.steps)
    assert live([step for step in steps if "select.duplicates" not in step]) == 3
    rows = prefdata.open(ds).annotations.filter(pl.col("annotator") == "rule:split").collect()
    assert rows.height == 3
