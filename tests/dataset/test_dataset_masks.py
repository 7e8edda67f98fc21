"""Masks against a plain reading of the rule, on random annotations and random drops."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.dataset.masks import mask_annotations, with_ancestors
from prefdata.dataset.parts import frame_of
from prefdata.schema import annotation, arrow_table

RESPONSES = [f"r{n}" for n in range(5)]


@st.composite
def annotations(draw: st.DrawFn) -> dict[str, Any]:
    protocol = draw(st.sampled_from(["score", "compare", "rank", "choose", "critique"]))
    size = 2 if protocol == "compare" else draw(st.integers(1 if protocol in ("score", "critique") else 2, 5))
    ids = draw(st.permutations(RESPONSES))[:size]
    if protocol == "compare":
        scores = draw(st.sampled_from([[1.0, 0.0], [0.5, 0.5], None]))
    elif protocol == "choose":
        scores = [1.0 if n == 0 else 0.0 for n in range(size)]
    else:
        scores = draw(st.one_of(st.none(), st.lists(st.floats(-5, 5), min_size=size, max_size=size)))
    parts = draw(st.one_of(st.none(), st.just(list(range(size)))))
    spans = [{"target": n, "start": 0, "end": 1, "label": str(n), "value": None} for n in range(-1, size)]
    return annotation(
        group_id="g",
        prompt_id="p",
        target_ids=ids,
        protocol=protocol,
        annotator="x",
        source="human",
        scores=scores,
        key=draw(st.integers()),
        parts=parts,
        spans=draw(st.sampled_from([None, spans])),
    )


def masked(row: dict[str, Any], present: set[str]) -> dict[str, Any] | None:
    """The rule, read plainly."""
    kept = [place for place, one in enumerate(row["target_ids"]) if one in present]
    if len(kept) == len(row["target_ids"]):
        return row
    if len(kept) < (2 if row["protocol"] in ("compare", "rank", "choose") else 1):
        return None
    scores = row["scores"] and [row["scores"][place] for place in kept]
    if row["protocol"] == "choose" and len(set(scores)) < 2:
        return None
    spans = row.get("spans") and [
        {**span, "target": -1 if span["target"] == -1 else kept.index(span["target"])}
        for span in row["spans"]
        if span["target"] in (-1, *kept)
    ]
    parts = row.get("parts") and [row["parts"][place] for place in kept]
    ids = [row["target_ids"][place] for place in kept]
    return {**row, "target_ids": ids, "scores": scores, "spans": spans, "parts": parts}


@settings(max_examples=60, deadline=None)
@given(st.lists(annotations(), min_size=1, max_size=12), st.sets(st.sampled_from(RESPONSES)))
def test_masks_do_what_the_rule_says(rows: list[dict[str, Any]], present: set[str]) -> None:
    rows = list({row["annotation_id"]: row for row in rows}.values())
    expected = {row["annotation_id"]: found for row in rows if (found := masked(row, present)) is not None}
    frame = frame_of("annotations", arrow_table("annotations", rows))
    there = {
        "prompts": pl.DataFrame({"prompt_id": ["p"]}),
        "responses": pl.DataFrame({"response_id": sorted(present)}, schema={"response_id": pl.String}),
        "preferences": pl.DataFrame(schema={"preference_id": pl.String}),
    }
    found = {row["annotation_id"]: row for row in mask_annotations(frame.lazy(), there).collect().to_dicts()}
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        for column in ("target_ids", "scores", "parts", "spans"):
            assert found[name][column] == row.get(column), (name, column)


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 8))), unique_by=lambda link: link[0]))
def test_a_chain_with_a_missing_link_is_gone(links: list[tuple[int, int | None]]) -> None:
    parent = dict(links)

    def whole(one: int | None, depth: int = 0) -> bool:
        return one is None or (one in parent and (depth > 10 or whole(parent[one], depth + 1)))

    frame = pl.DataFrame(
        {"id": [str(one) for one, _ in links], "parent": [None if up is None else str(up) for _, up in links]},
        schema={"id": pl.String, "parent": pl.String},
    )
    assert set(with_ancestors(frame)["id"]) == {str(one) for one, up in links if whole(up)}


def test_annotations_about_annotations_fall_with_them() -> None:
    base = annotation(
        group_id="g", prompt_id="p", target_ids=["r0"], protocol="score", annotator="x", source="human", scores=[1]
    )
    about, over = base, []
    for depth in range(3):
        about = annotation(
            group_id="g",
            prompt_id="p",
            target="annotation",
            target_ids=[about["annotation_id"]],
            protocol="score",
            annotator=f"y{depth}",
            source="human",
            scores=[1],
        )
        over.append(about)
    frame = frame_of("annotations", arrow_table("annotations", [*over, base]))
    prompts = pl.DataFrame({"prompt_id": ["p"]})
    preferences = pl.DataFrame(schema={"preference_id": pl.String})
    for ids, left in ((["r0"], 4), ([], 0)):
        responses = pl.DataFrame({"response_id": ids}, schema={"response_id": pl.String})
        there = {"prompts": prompts, "responses": responses, "preferences": preferences}
        assert mask_annotations(frame.lazy(), there).collect().height == left
