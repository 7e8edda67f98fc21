"""Cards: content, not formatting, is what names a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from prefdata.annotators import Choose, Compare, Critique, Label, Rank, Score, ScoreTogether, load_card, shipped_cards
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
        assert card.name == name and all(aspect.scale.anchors for aspect in card.scaled)


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
        ("a: 2024-13-45", "is not YAML that can be read: month must be in 1..12"),
        ("[" * 5000, "nested too deeply"),
        (TEXT + "samples: &s 2\n", "line 8: &s makes YAML repeat what stands elsewhere"),
        ("a: 1\nb: *c", "line 2: *c makes YAML repeat"),
        (TEXT.replace("Is it kind?", "*kind of it"), "line 6: *kind makes YAML repeat"),
        (TEXT.replace("Is it kind?", "*kind* or not?"), "line 6: a text that begins with * must stand in quotes"),
        (TEXT.replace("Is it kind?", "&"), "line 6: a text that begins with & must stand in quotes"),
        ("a: {<<: {b: 1}}", "line 1: << makes YAML repeat"),
        (
            TEXT.replace("[unkind, partly, kind]", "[no, partly, yes]"),
            "key 'aspects.0.scale.anchors.0': write \"no\" in quotes: YAML reads no, yes, on, off as true or false",
        ),
        (TEXT.replace("[unkind, partly, kind]", "[a, b, on]"), 'anchors.2\': write "yes" in quotes'),
        (TEXT + "version: 2024-01-02\n", 'write "2024-01-02" in quotes: YAML reads it as a date'),
        (TEXT.replace("Judge well.", "{a: b}"), "key 'instructions': it should be text and is a mapping"),
        ("name: x\ninstructions: y\naspects: []\n", "key 'aspects': it is empty, and at least one is needed"),
        ("name: x\ninstructions: y\naspects: tone\n", "key 'aspects': it should be a list and is text"),
        ("name: x\ninstructions: y\naspects: [tone]\n", "key 'aspects.0': it should be a mapping"),
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
    assert "uple" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_is_spelled_out(tmp_path: Path) -> None:
    """Each of the lines twice the one before: 2 to the 40 keys, which no machine would finish."""
    merged = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
    listed = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    for bomb in (merged, listed):
        with pytest.raises(PipelineError, match=r"mine\.yaml .*line 1: &a0 makes YAML repeat"):
            load_card(write(tmp_path, bomb))


def test_anchors_in_quotes_are_text(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, TEXT.replace("[unkind, partly, kind]", "['no', '*a', \"<<\"]")))
    assert card.aspects[0].scale.anchors == ("no", "*a", "<<")


def test_a_bad_anchor_does_not_make_its_aspect_missing(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_card(write(tmp_path, TEXT.replace("unkind", "off")))
    assert str(caught.value).count("key ") == 1


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


def test_an_aspect_without_direction_is_described_and_not_ordered() -> None:
    long = Aspect(name="length", text="t", scale=Scale(min=0, max=10), direction="none")
    kind = Aspect(name="tone", text="u", scale=Scale(min=0, max=10), direction="lower")
    assert long.protocol == "measure" and kind.protocol == "score"
    assert long.better_when_higher(9) == 9 and kind.better_when_higher(9) == 1
    both = Card(name="c", instructions="i", aspects=(long, kind))
    assert both.directed == (kind,) and "length" not in both.compared_criterion["text"]
    assert Card(name="c", instructions="i", aspects=(long,), protocols=("score",)).directed == ()
    for protocol in ("compare", "rank", "choose"):
        with pytest.raises(ValidationError, match=f"which way is better .direction: none., so it cannot {protocol}"):
            Card(name="c", instructions="i", aspects=(long,), protocols=(protocol, "score"))  # type: ignore[arg-type]


def test_what_compares_two_ranks_several(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "protocols: [compare]\n")
    for step in (Compare, Rank, Choose):
        step(engine="judge", card=path)
    for step in (Score, ScoreTogether, Label, Critique):
        with pytest.raises(ValidationError, match="is for the protocols compare, not for"):
            step(engine="judge", card=path)
    path = write(tmp_path, TEXT + "protocols: [rank]\n")
    Rank(engine="judge", card=path)
    with pytest.raises(ValidationError, match="not for compare"):
        Compare(engine="judge", card=path)


def test_keys_that_are_not_used_do_not_change_the_hash(tmp_path: Path) -> None:
    """What is empty is left out of the content, so that cards from before the keys keep their names."""
    content = load_card(write(tmp_path, TEXT)).content
    assert "labels" not in content and "applies_if" not in content["aspects"][0]
    labels = {card.label: card for card in (load_card(write(tmp_path, text)) for text in (TEXT, *CHANGED))}
    assert len(labels) == 1 + len(CHANGED)
    ids = {card.aspects[0].criterion(card.label)["criterion_id"] for card in labels.values()}
    assert len(ids) == 3, "labels are no part of the aspect"


CHANGED = (
    TEXT.replace("    text: Is it kind?", "    text: Is it kind?\n    applies_if: it is said to somebody"),
    TEXT.replace("    text: Is it kind?", "    text: Is it kind?\n    direction: none") + "protocols: [score]\n",
    TEXT + "labels: {kind: it is, unkind: it is not}\nprotocols: [label, compare]\n",
)
