"""Small datasets of labels, drawn by hypothesis, and how they are written and read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from prefdata import schema
from prefdata.formats import Imported, read, write_labels
from prefdata.schema import KEYS, Row, Rows

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
WORDS = st.sampled_from(["a", "Gut!", "🙂 b", "línea\nzwei", "x" * 30])
ASPECTS = st.sampled_from(["overall", "helpfulness", "Ton & Stil", "höflich_2"])
MAKERS = st.sampled_from(
    [("human:ann-07", "human"), ("human:7", "human"), ("judge:llama/h@3f", "judge"), ("rule:x", "rule")]
)
LABELS = st.lists(st.sampled_from(["refusal", "both_bad", "tie", "SAT & more"]), min_size=1, max_size=2, unique=True)


def frames(rows: Rows) -> dict[str, pl.LazyFrame]:
    """Rows as the live tables of a view."""
    made = {}
    for name in ("prompts", "responses", "annotations"):
        frame = pl.from_arrow(schema.arrow_table(name, rows.get(name, [])))
        assert isinstance(frame, pl.DataFrame)
        made[name] = frame.lazy()
    return made


def round_trip(rows: Rows, format: str, folder: Path) -> tuple[Imported, Counter[str]]:
    """Written in a format and read again, and what was left out."""
    out = folder / "out.json"
    written = write_labels(frames(rows), format, out)
    return read(format, out, strict=True), written.left_out


def plain(rows: Iterable[Row], table: str) -> dict[str, Any]:
    """Rows by id, without what is null."""
    return {row[KEYS[table]]: schema.clean({k: v for k, v in row.items() if k != "step"}) for row in rows}


@st.composite
def datasets(draw: st.DrawFn) -> Rows:
    """Prompts with up to four responses each, and annotations of every protocol about them."""
    rows: Rows = {"prompts": [], "responses": [], "annotations": []}
    for number in range(draw(st.integers(1, 3))):
        turns = [schema.message("user", f"{number} {draw(TEXT)}?")]
        if draw(st.booleans()):
            turns = [schema.message("system", draw(WORDS)), *turns]
        parent = rows["prompts"][0] if rows["prompts"] and draw(st.booleans()) else None
        prompt = schema.prompt(turns, parent=parent, tags=draw(st.none() | st.just(["language:de"])))
        rows["prompts"].append(prompt)
        answered = [
            schema.response(
                prompt,
                model=draw(st.sampled_from(["m1", "m2"])),
                text=draw(st.just("") | WORDS | TEXT),
                sample_index=place,
                segments=draw(st.none() | st.just([{"end": 0, "role": "assistant", "kind": "step"}])),
            )
            for place in range(draw(st.integers(0, 4)))
        ]
        rows["responses"] += answered
        for _ in range(draw(st.integers(0, 5))):
            rows["annotations"].append(draw(annotations(prompt, answered, key=len(rows["annotations"]))))
    return rows


@st.composite
def annotations(draw: st.DrawFn, prompt: Row, responses: list[Row], key: int) -> Row:
    """An annotation of a prompt or of some of its responses."""
    annotator, source = draw(MAKERS)
    status = draw(st.sampled_from(["ok", "ok", "ok", "skipped", "unparsed"]))
    shown = draw(st.permutations(responses))
    columns: Row = {
        "text": draw(st.none() | WORDS),
        "seconds": draw(st.none() | st.floats(0, 1e4)),
        "confidence": draw(st.none() | st.floats(0, 1)),
        "labels": draw(st.none() | LABELS),
    }
    protocols = (
        ["label"] + ["score", "critique"] * bool(responses) + ["compare", "rank", "choose"] * (len(responses) > 1)
    )
    protocol = draw(st.sampled_from(protocols))
    scores: list[float] | None = None
    if protocol == "compare":
        shown = shown[:2]
        first = draw(st.sampled_from([1.0, 0.0, 0.5, 0.8]))
        scores, columns["strength"] = [first, 1 - first], draw(st.none() | st.floats(0, 3))
    elif protocol in ("rank", "choose"):
        shown = shown[: draw(st.integers(2, len(shown)))]
        scores = [float(draw(st.integers(0, 3))) for _ in shown]
    elif protocol == "score":
        shown = shown[: draw(st.integers(1, len(shown)))]
        number = draw(st.sampled_from([st.integers(1, 5), st.floats(-3, 3)]))
        scores = [float(draw(number)) for _ in shown]
    else:
        shown = shown[:1]
    text = str(shown[0]["text"]) if shown else ""
    if text and protocol == "label":
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        columns["spans"] = [
            {"target": 0, "start": start, "end": end, "label": draw(st.sampled_from(["bad", "gut 🙂"]))}
        ]
    return schema.annotation(
        group_id=prompt["group_id"],
        prompt_id=prompt["prompt_id"],
        target="response" if shown else "prompt",
        target_ids=[response["response_id"] for response in shown] or [prompt["prompt_id"]],
        protocol=protocol,
        scores=scores,
        annotator=annotator,
        source=source,
        aspect=draw(ASPECTS),
        status=status,
        key=key,
        **columns,
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "x", "tie", "response_1"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["value", "start", "id", "text"]), inner)
    ),
    max_leaves=4,
)


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value of which one part, somewhere, is something else."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(spoilt(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(spoilt(value[place])), *value[place + 1 :]]
    return draw(JSON)
