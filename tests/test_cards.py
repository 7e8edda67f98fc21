"""Cards: content, not formatting, is what names a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from prefdata.annotators import Compare, Score, load_card, shipped_cards
from prefdata.cards import Aspect, Card, Scale
from prefdata.errors import PipelineError

TEXT = """
name: mine
instructions: Judge well.
aspects:
  - name: tone
    text: Is it kind?
    scale: {type: ordinal, min: 1, max: 3, anchors: [unkind, partly, kind]}
"""


def write(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_shipped_cards_load_and_differ() -> None:
    names = shipped_cards()
    assert {"helpfulness", "honesty", "harmlessness", "conciseness"} <= set(names)
    assert len({load_card(name).label for name in names}) == len(names)
    for name in names:
        card = load_card(name)
        assert card.name == name and all(aspect.scale.anchors for aspect in card.aspects)


def test_hash_changes_with_text_and_not_with_formatting(tmp_path: Path) -> None:
    first = load_card(write(tmp_path, TEXT))
    spelled_out = {**yaml.safe_load(TEXT), "samples": 1, "orders": "both"}
    reformatted = yaml.safe_dump(spelled_out, default_flow_style=True, width=30)
    again = load_card(write(tmp_path, "# a comment\n" + reformatted))
    assert first.label == again.label and first.label.startswith("mine@") and len(first.label) == len("mine@") + 8
    other = load_card(write(tmp_path, TEXT.replace("kind?", "kind!")))
    assert other.label != first.label
    seen = load_card(write(tmp_path, TEXT + "sees: [prompt]\n"))
    assert seen.label != first.label


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "the file must hold keys"),
        ("a: [", "is not YAML"),
        (TEXT.replace("instructions", "instruction"), "did you mean 'instructions'?"),
        (TEXT.replace("unkind, ", ""), "takes 3, or none"),
        (TEXT.replace("max: 3", "max: 0"), "min (1) must be below max (0)"),
        (TEXT.replace("max: 3", "max: 2.5"), "whole numbers"),
        (TEXT.replace("    text: Is it kind?\n", ""), "key 'aspects.0.text' is missing"),
        ("name: x\ninstructions: y\naspects: []\n", "key 'aspects'"),
        ("name: x\ninstructions: y\naspects: [{name: a, text: t}, {name: a, text: u}]\n", "same name"),
    ],
)
def test_a_bad_card_is_refused_by_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load_card(write(tmp_path, text))
    assert said in str(caught.value) and "mine.yaml" in str(caught.value)


def test_an_unknown_card_suggests_the_nearest() -> None:
    with pytest.raises(PipelineError, match="did you mean 'helpfulness'"):
        load_card("helpfullness")
    with pytest.raises(ValidationError, match="did you mean 'honesty'") as caught:
        Compare(engine="judge", card="honest")
    assert caught.value.errors()[0]["loc"] == ("card",)


def test_a_card_of_ones_own_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, TEXT)
    monkeypatch.chdir(tmp_path)
    step = Compare(engine="judge", card="./mine.yaml")
    assert step.card == path, "kept whole, so that it means the same file in any folder"
    assert step.resolved()["card"]["instructions"] == "Judge well."
    assert path not in str(step.resolved()), "the fingerprint knows the content, not the place"
    with pytest.raises(ValidationError, match="there is no card file"):
        Compare(engine="judge", card="./yours.yaml")
    monkeypatch.chdir("/")
    assert Compare.model_validate({"engine": "j", "card": "mine.yaml"}, context={"folder": tmp_path}).card == path


def test_a_card_is_for_its_protocols(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "protocols: [compare]\n")
    Compare(engine="judge", card=path)
    with pytest.raises(ValidationError, match="not for score"):
        Score(engine="judge", card=path)


def test_content_stands_in_the_fingerprint(tmp_path: Path) -> None:
    text = TEXT
    first = Compare(engine="judge", card=write(tmp_path, text)).resolved()
    assert first == Compare(engine="judge", card=write(tmp_path, text + "# only a comment\n")).resolved()
    assert first != Compare(engine="judge", card=write(tmp_path, text + "question: Which is kinder?\n")).resolved()


def test_lower_is_better_is_mirrored() -> None:
    aspect = Aspect(name="toxicity", text="t", scale=Scale(min=0, max=10), direction="lower")
    assert aspect.better_when_higher(9) == 1 and aspect.better_when_higher(0) == 10


def test_what_a_comparison_is_filed_under() -> None:
    one, two = Aspect(name="tone", text="t"), Aspect(name="tact", text="u")
    assert Card(name="c", instructions="i", aspects=(one,)).compared_aspect == "tone"
    assert Card(name="c", instructions="i", aspects=(one, two)).compared_aspect == "overall"
    assert Card(name="c", instructions="i", aspects=(one,), aspect="style").compared_aspect == "style"
    assert load_card("helpfulness").compared_aspect == "overall"
