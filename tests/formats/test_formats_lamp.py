"""LAMP: versions of paragraphs, writers' rankings, creativity, edits."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import read
from prefdata.formats.merge import import_into
from prefdata.schema import arrow_table
from prefdata.stats import kendall_tau, kendall_w, plackett_luce

EDIT = {"span": "like a pearl", "category": "Cliche", "edited": "white"}
ITEM = {
    "batch": "batch1",
    "item": 1,
    "id": "e00_batch1_19",
    "instruction": "Describe a moon.",
    "source": "gpt4o",
    "type": "Fantasy",
    "ai_generated": "The moon hung like a pearl.",
    "ai_edited": "The moon hung white.",
    "human_edited": "The moon was out.",
    "creativity_before": 3,
    "creativity_after": 6,
    "edit_setting": "oracle",
    "ai_fine_grained_edits": [EDIT],
}
RANKING = {
    "batch": "batch1",
    "item": 1,
    "annotator": "writer05",
    "presented": ["AI-generated", "Human-edited", "AI-edited"],
    "ranking": ["Human-edited", "AI-generated", "AI-edited"],
}
REVISION = {
    "item": 7,
    "id": "editorA_1",
    "editor": "editorA",
    "instruction": "Describe a moon.",
    "source": "gpt4o",
    "preedit": "The moon hung like a pearl.",
    "postedit": "A moon.",
    "creativity_before": 4,
    "creativity_after": 5,
    "fine_grained_edits": [
        {"categorization": "Cliche", "original_text": "like a pearl", "edited_text": ""},
        {"categorization": "Cliche", "original_text": "not in it", "edited_text": "x"},
    ],
}


def folder(to: Path, items: list[Any], rankings: list[Any], edits: list[Any] | None = None) -> Path:
    for name, rows in (("items", items), ("rankings", rankings), ("edits", edits)):
        if rows is not None:
            pq.write_table(pa.Table.from_pylist(rows), to / f"lamp_{name}.parquet")
    return to


def test_one_paragraph_by_hand(tmp_path: Path) -> None:
    taken = read("lamp", folder(tmp_path, [ITEM], [RANKING], [REVISION]), strict=True)
    for name, rows in taken.rows.items():
        arrow_table(name, rows)
    (prompt,) = taken.rows["prompts"]
    assert prompt["messages"] == [{"role": "user", "content": "Describe a moon."}]
    own, by_model, by_writer, revised = taken.rows["responses"]
    assert [(row["model"], row["text"]) for row in taken.rows["responses"]] == [
        ("gpt4o", "The moon hung like a pearl."),
        ("ai-edited", "The moon hung white."),
        ("human", "The moon was out."),
        ("human", "A moon."),
    ]
    assert [row.get("parent_id") for row in taken.rows["responses"]] == [None, *[own["response_id"]] * 3]
    said = {(row["protocol"], row["annotator"], tuple(row["target_ids"])): row for row in taken.rows["annotations"]}
    shown = tuple(row["response_id"] for row in (own, by_writer, by_model))
    assert said["rank", "human:writer05", shown]["scores"] == [2, 3, 1]
    for target, score in ((own, 3), (by_writer, 6)):
        assert said["score", "human:e00", (target["response_id"],)]["scores"] == [score]
        assert said["score", "human:e00", (target["response_id"],)]["aspect"] == "creativity"
    assert said["score", "human:editorA", (revised["response_id"],)]["scores"] == [5]
    ai = said["critique", "judge:lamp-oracle", (own["response_id"],)]
    assert (ai["text"], ai["source"], ai["scores"]) == ("Cliche: “like a pearl” → “white”", "judge", None)
    assert ai["spans"] == [{"target": 0, "start": 14, "end": 26, "label": "Cliche", "value": None}]
    human = said["critique", "human:editorA", (own["response_id"],)]
    assert human["text"].splitlines() == ["Cliche: “like a pearl” → “”", "Cliche: “not in it” → “x”"]
    assert len(human["spans"]) == 1 and len(json.loads(human["meta"])["edits"]) == 2
    assert len(said) == 7


def test_what_need_not_be_there(tmp_path: Path) -> None:
    bare = {name: ITEM[name] for name in ("batch", "item", "instruction", "ai_generated", "ai_edited", "human_edited")}
    nothing = {**bare, "ai_fine_grained_edits": [dict.fromkeys(EDIT)]}
    taken = read("lamp", folder(tmp_path, [nothing], [RANKING]), strict=True)
    assert [row["model"] for row in taken.rows["responses"]] == ["unknown", "ai-edited", "human"]
    assert [row["protocol"] for row in taken.rows["annotations"]] == ["rank"]
    (tmp_path / "lamp_rankings.parquet").unlink()
    with pytest.raises(DataError, match=r"lamp_rankings\.parquet is not there"):
        read("lamp", tmp_path)


@pytest.mark.parametrize(
    ("item", "ranking", "sentence"),
    [
        ({"creativity_after": 11}, {}, "column 'creativity_after': it is 11; creativity goes from 1 to 10"),
        ({"human_edited": " "}, {}, "column 'human_edited': it is empty"),
        ({"item": None}, {}, "known by batch and item"),
        ({"item": 1, "batch": "batch0"}, {}, "stands in the file twice"),
        ({}, {"item": 9}, "item '9' of batch 'batch1' is no item that can be read"),
        ({}, {"ranking": ["AI-edited"]}, "should name AI-generated, AI-edited, Human-edited, each once"),
        ({}, {"presented": ["AI-edited"] * 3}, "each once"),
    ],
)
def test_bad_rows(tmp_path: Path, item: dict[str, Any], ranking: dict[str, Any], sentence: str) -> None:
    rows = [{**ITEM, "batch": "batch0"}, {**ITEM, **item}]
    orders = [{**RANKING, "batch": "batch0"}, {**RANKING, **ranking}]
    made = folder(tmp_path, rows, orders)
    with pytest.raises(DataError, match=sentence):
        read("lamp", made, strict=True)
    taken = read("lamp", made)
    assert taken.quarantined and sum(row["protocol"] == "rank" for row in taken.rows["annotations"]) == 1


def test_the_real_cut(data_folder: Path, tmp_path: Path) -> None:
    """Its README: mean ranks 1.517, 1.976, 2.507; mean tau between writers 0.617, mean Kendall's W 0.761."""
    taken = read("lamp", data_folder, strict=True)
    counts = Counter(row["protocol"] for row in taken.rows["annotations"])
    assert counts == {"rank": 414, "score": 462, "critique": 228}
    assert len(taken.rows["prompts"]) == 166 and not taken.left_out
    kinds = {row["response_id"]: row["model"] for row in taken.rows["responses"]}
    names = {"human": 0, "ai-edited": 1}
    by_item: dict[str, list[list[float]]] = {}
    ranked, order = [], []
    for row in taken.rows["annotations"]:
        if row["protocol"] == "rank":
            scores = [0.0] * 3
            for target, score in zip(row["target_ids"], row["scores"], strict=True):
                scores[names.get(kinds[target], 2)] = score
            ranked.append([4 - score for score in scores])
            order.append(np.argsort([-score for score in scores]))
            meta = json.loads(row["meta"])
            by_item.setdefault(f"{meta['batch']} {meta['item']}", []).append(scores)
    assert np.round(np.mean(ranked, axis=0), 3).tolist() == [1.517, 1.976, 2.507]
    taus = [kendall_tau(a, b).value for given in by_item.values() for a, b in combinations(given, 2)]
    ws = [kendall_w(given).value for given in by_item.values()]
    assert (len(by_item), len(taus), len(ws)) == (138, 414, 138)
    assert round(float(np.mean(taus)), 3) == 0.617  # type: ignore[arg-type]
    assert round(float(np.mean(ws)), 3) == 0.761  # type: ignore[arg-type]
    fit = plackett_luce(
        np.array(order),
        clusters=[json.loads(row["meta"])["item"] for row in taken.rows["annotations"] if row["protocol"] == "rank"],
    )
    assert fit.converged and fit.values[0] > fit.values[1] > fit.values[2]
    for better, worse in ((0, 1), (1, 2)):
        low = fit.difference(better, worse).low
        assert low is not None and low > 0
    told = import_into("lamp", data_folder, tmp_path / "lamp")
    assert "annotations: 1,104 new" in told.lines
    assert "annotations: 0 new, 1,104 were there" in import_into("lamp", data_folder, tmp_path / "lamp").lines
