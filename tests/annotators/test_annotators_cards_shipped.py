"""The cards that come along, and one of one's own: each judges what it says, in pipelines that name no Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from annotators_said import blocks

from prefdata.annotators import choose, compare, critique, label, rank, score, together
from prefdata.annotators.frame import (
    compare_message,
    compare_schema,
    critique_message,
    critique_schema,
    labelling_message,
    labelling_schema,
    score_message,
    score_schema,
)
from prefdata.annotators.frame_many import (
    choose_message,
    choose_schema,
    rank_message,
    rank_schema,
    together_message,
    together_schema,
)
from prefdata.annotators.parse import (
    parse_choice,
    parse_critique,
    parse_label,
    parse_ranking,
    parse_scores,
    parse_together,
    parse_verdict,
)
from prefdata.cards import Card, load_card, shipped_cards
from prefdata.dataset import Dataset
from prefdata.engines.base import Request
from prefdata.engines.scripted import ScriptedEngine
from prefdata.errors import PipelineError, PrefdataError
from prefdata.pipeline.plan import plan
from prefdata.pipeline.reparse import reparse
from prefdata.pipeline.run import run as run_pipeline
from prefdata.pipeline.spec import parse
from prefdata.schema import message, prompt

TEXTS = ["The sky is blue because air scatters short waves more.", "It is.", "Blue light is scattered. It is blue."]
WANTED = {
    *("helpfulness", "honesty", "harmlessness", "conciseness", "critique", "ultrafeedback", "ultrafeedback-critique"),
    *("helpsteer2", "constitution", "faithfulness", "code-correctness", "multi-turn", "best-for-humanity"),
    *("pair-quality", "factuality-label"),
}


def asked(card: Card, protocol: str) -> list[tuple[str, dict[str, Any] | None, Any]]:
    """Question, schema and parser of a protocol."""
    row = prompt(
        [message("system", "Be kind."), message("user", "Why is the sky blue?")],
        references=["Scattering."],
        context=[{"doc_id": "d", "text": "Air scatters light.", "label": "1", "score": 0.5}],
    )
    names = ["A", "B", "C"]
    scales = {aspect.name: aspect.scale for aspect in card.aspects}
    if protocol == "compare":
        return [(compare_message(row, *TEXTS[:2], card), compare_schema(card), parse_verdict)]
    if protocol == "score":
        every = card.aspects
        return [
            (score_message(row, TEXTS[0], card), score_schema(card), lambda text: parse_scores(text, scales)),
            (
                together_message(row, TEXTS, card, every),
                together_schema(card, every, 3),
                lambda text: parse_together(text, names, scales),
            ),
        ]
    if protocol == "rank":
        return [(rank_message(row, TEXTS, card), rank_schema(card, 3), lambda text: parse_ranking(text, names))]
    if protocol == "choose":
        return [(choose_message(row, TEXTS, card), choose_schema(card, 3), lambda text: parse_choice(text, names))]
    if protocol == "label":
        return [
            (
                labelling_message(row, TEXTS[0], card),
                labelling_schema(card),
                lambda text: parse_label(text, card.labels or {}),
            )
        ]
    plain = (critique_message(row, TEXTS[0], card), None, parse_critique)
    if not card.scaled:
        return [plain]
    scored = critique_message(row, TEXTS[0], card, scored=True)
    return [plain, (scored, critique_schema(card), lambda text: parse_critique(text, key=True))]


def test_what_is_shipped() -> None:
    assert set(shipped_cards()) >= WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_card_can_be_asked_all_that_it_claims(name: str) -> None:
    """Each question is framed, each answer that satisfies its schema is read."""
    card = load_card(name)
    assert card.name == name and all(aspect.scale.anchors for aspect in card.scaled)
    serves = [one for one in ("compare", "score", "rank", "choose", "label", "critique") if card.serves(one)]  # type: ignore[arg-type]
    assert set(card.protocols) <= set(serves)
    for protocol in serves:
        for text, schema, read in asked(card, protocol):
            shown = blocks(text)
            assert ("Reference 1" in shown) == ("references" in card.sees)
            assert "Air scatters light." in shown["Prompt"] and "Be kind." in shown["Prompt"]
            answer = ScriptedEngine().answer(Request("generate", messages=(message("user", text),), schema=schema))
            assert read(answer.text), f"{name}, {protocol}: {answer.text}"


def test_the_old_cards_are_what_they_were() -> None:
    """A new hash would be a new annotator, and every judgement paid for again."""
    old = {"conciseness": "59e5d089", "harmlessness": "f1f17276", "helpfulness": "1e6779a5", "honesty": "db8a72e7"}
    for name, digest in old.items():
        assert load_card(name).label == f"{name}@{digest}"


def test_attributes_without_direction() -> None:
    card = load_card("helpsteer2")
    assert [aspect.name for aspect in card.aspects if aspect.direction == "none"] == ["complexity", "verbosity"]
    assert [(aspect.scale.min, aspect.scale.max) for aspect in card.aspects] == [(0, 4)] * 5
    assert {aspect.protocol for aspect in card.directed} == {"score"}


class Runs:
    """Pipelines over one dataset: prompts, three responses each, and steps on scripted engines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "ds"
        lines = [json.dumps({"prompt": text}) for text in ("Why is the sky blue?", "How do birds fly?")]
        (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
        self.engines = {name: {"kind": "scripted", "model": name} for name in ("policy", "judge", "second")}

    def spec(self, *steps: dict[str, Any]) -> Any:
        first = [
            {"ingest": {"format": "prompts", "path": str(self.folder / "prompts.jsonl")}},
            {"sample": {"engine": "policy", "n": 3, "max_tokens": 40}},
        ]
        text = yaml.safe_dump({"engines": self.engines, "steps": [*first, *steps]}, sort_keys=False)
        return parse(text, file="mine.yaml", folder=self.folder, name="mine")

    def __call__(self, *steps: dict[str, Any]) -> pl.DataFrame:
        run_pipeline(self.spec(*steps), self.path)
        return Dataset(self.path).annotations.collect()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


MINE = """
name: manners
instructions: You judge manners.
question: Which response is more polite?
aspects:
  - name: tone
    text: Is it polite?
    scale: {min: 1, max: 5}
  - name: length
    text: How long is it?
    direction: none
    scale: {type: interval, min: 0, max: 10}
labels: {polite: it greets and thanks, rude: it does neither}
protocols: [compare, score, label, critique]
"""

EVERY = [
    {"judge.compare": {"engine": ["judge", "second"], "card": "manners.yaml"}},
    {"judge.score": {"engine": ["judge", "second"], "card": "manners.yaml"}},
    {"judge.score_together": {"engine": ["judge", "second"], "card": "manners.yaml"}},
    {"judge.rank": {"engine": ["judge", "second"], "card": "manners.yaml", "replicates": 2}},
    {"judge.choose": {"engine": ["judge", "second"], "card": "manners.yaml"}},
    {"judge.label": {"engine": ["judge", "second"], "card": "manners.yaml"}},
    {"judge.critique": {"engine": ["judge", "second"], "card": "manners.yaml", "score": True}},
    {"judge.label_probs": {"engine": ["judge", "second"], "card": "manners.yaml"}},
]
CALLS = {
    "judge.compare": 2 * 3 * 2,
    "judge.score": 2 * 3,
    "judge.score_together": 2 * 2,
    "judge.rank": 2 * 2,
    "judge.choose": 2,
    "judge.label": 2 * 3,
    "judge.critique": 2 * 3,
    "judge.label_probs": 2 * 3 * 2,
}
"""Of one engine (L5): prompts, times pairs and orders, responses, aspects or replicates."""


def test_a_judge_of_ones_own_is_one_file(runs: Runs) -> None:
    """A card, a pipeline, no Python: all protocols, two engines, and a report of who said what."""
    (runs.folder / "manners.yaml").write_text(MINE)
    counted = plan(runs.spec(*EVERY), runs.path)
    assert {step.name: step.calls for step in counted.steps if step.name in CALLS} == {
        name: 2 * count for name, count in CALLS.items()
    }, "a jury of two asks twice as often"
    rows = runs(*EVERY)
    assert set(rows["status"]) == {"ok"}
    assert set(rows["annotator"].str.extract(r"^judge:([a-z]+)/")) == {"judge", "second"}
    found = dict(rows.group_by("protocol").len().iter_rows())
    per = {"compare": 2 * (12 + 12), "score": 2 * 3 * 6, "measure": 2 * 3 * 6, "rank": 8, "choose": 4, "label": 12}
    assert found == {**per, "critique": 12}
    assert set(rows.filter(protocol="measure")["aspect"]) == {"length"}
    assert set(rows.filter(protocol="label")["labels"].explode()) <= {"polite", "rude"}
    assert rows.filter(protocol="rank")["scores"].list.sort().to_list() == [[1.0, 2.0, 3.0]] * 8
    assert rows.filter(protocol="choose")["scores"].list.sum().to_list() == [1.0] * 4
    assert rows.filter(protocol="critique")["text"].null_count() == 0
    shared = rows.filter(pl.col("protocol").is_in(["score", "measure"])).group_by("call_id").len()["len"]
    assert shared.max() == 3, "one call for three responses, or for two aspects of one"
    again = run_pipeline(runs.spec(*EVERY), runs.path)
    assert again.usage.calls == 0
    known = {row["annotator"]: row for row in Dataset(runs.path).annotators.collect().to_dicts()}
    name = f"judge:second/{load_card(str(runs.folder / 'manners.yaml')).label}"
    assert json.loads(known[name]["meta"])["labels"]["polite"] == "it greets and thanks"


def test_what_has_no_direction_is_not_paired_unless_told(runs: Runs) -> None:
    """Entry 2, Assert: verbosity and complexity are descriptive, never used as quality by default."""
    steps: list[dict[str, Any]] = [{"judge.score": {"engine": "judge", "card": "helpsteer2"}}]
    rows = runs(*steps)
    kinds = dict(rows.select("aspect", "protocol").unique().iter_rows())
    assert {name for name, protocol in kinds.items() if protocol == "measure"} == {"complexity", "verbosity"}
    assert {tuple(value) for value in rows["scores"].to_list()} <= {(float(score),) for score in range(5)}
    for step in ({"pair": {}}, {"aggregate.mean": {}}, {"pair": {"aspects": ["verbosity"]}}):
        with pytest.raises(PrefdataError, match="without direction"):
            result = run_pipeline(runs.spec(*steps, step), runs.path)
            if result.exit_code:
                raise PipelineError(str(result))
    runs(*steps, {"pair": {"aspects": ["helpfulness"]}})
    assert set(Dataset(runs.path).preferences.collect()["aspect"]) <= {"helpfulness"}
    runs(*steps, {"pair": {"aspects": ["verbosity"], "direction": {"verbosity": -1}}})


@pytest.mark.parametrize("place", range(len(EVERY) - 1), ids=[next(iter(step)) for step in EVERY[:-1]])
def test_kept_answers_of_a_jury_are_read_again(runs: Runs, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """What a worse parser left unread is read from `calls`, each engine's by itself, and nobody is asked."""
    (runs.folder / "manners.yaml").write_text(MINE)
    module, parser = [
        (compare, "parse_verdict"),
        (score, "parse_scores"),
        (together, "parse_together"),
        (rank, "parse_ranking"),
        (choose, "parse_choice"),
        (label, "parse_label"),
        (critique, "parse_critique"),
    ][place]
    with monkeypatch.context() as worse:
        nothing: Any = {} if parser == "parse_together" else None
        worse.setattr(module, parser, lambda *given, **options: nothing)
        before = runs(EVERY[place])
    unread = before.filter(status="unparsed").height
    assert unread
    monkeypatch.setattr(ScriptedEngine, "answer", None)
    done = reparse(runs.path)
    assert sum(done.changed.values()) == unread and done.unkept == done.unmet == 0
    after = Dataset(runs.path).annotations.collect()
    assert set(after["status"]) == {"ok"} and len(after) == len(before)
    assert {name.split("/")[0] for name, _, _ in done.changed} == {"judge:judge", "judge:second"}
