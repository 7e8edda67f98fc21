"""judge.score_together: value j belongs to what was shown at place j, whatever the order."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from annotators_said import blocks, run
from hypothesis import given
from hypothesis import strategies as st

from prefdata.annotators import ScoreTogether, together
from prefdata.annotators.frame_many import letters
from prefdata.annotators.parse import parse_together
from prefdata.annotators.several import in_order
from prefdata.cards import Scale
from prefdata.engines.base import Reply, Request
from prefdata.errors import PipelineError
from prefdata.schema import Row

Make = Callable[..., Any]

TWO = """
name: two
instructions: Judge.
aspects:
  - {name: depth, text: How deep, scale: {min: 1, max: 10}}
  - {name: length, text: How long, scale: {type: interval, min: 0, max: 1}, direction: none}
  - {name: noise, text: How noisy, scale: {min: 0, max: 4}, direction: lower, applies_if: there is sound}
output: {reason: true}
"""
WORTH = {"one": 1, "two": 2, "three": 3, "four": 4}


def worth(request: Request, revision: int) -> Reply:
    """A judge that knows what each text is worth, and finds it wherever it stands."""
    shown = blocks(request.messages[-1]["content"])
    aspects = request.schema["properties"]["responses"]["properties"]["A"]["properties"]["scores"]["properties"]
    said = {
        name.removeprefix("Response "): {"reason": text, "scores": dict.fromkeys(aspects, WORTH[text])}
        for name, text in shown.items()
        if name.startswith("Response")
    }
    return Reply(json.dumps({"responses": said}))


@pytest.fixture
def card(tmp_path: Path) -> str:
    (tmp_path / "two.yaml").write_text(TWO)
    return str(tmp_path / "two.yaml")


def by_text(rows: list[Row], bench: Any) -> dict[tuple[str, str], Row]:
    texts = {row["response_id"]: row["text"] for row in bench.group.responses}
    return {(texts[row["target_ids"][0]], row["aspect"]): row for row in rows}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_round_trip_over_all_orders(bench: Make, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]) -> None:
    """Entry 1, Assert: un-shuffling maps rating j back to completion `order.index(j)`."""

    def ordered(prompt_id: str, responses: list[Row], replicate: int) -> list[Row]:
        return [responses[place] for place in order]

    monkeypatch.setattr(together, "in_order", ordered)
    b = bench(worth, *WORTH)
    rows = run(ScoreTogether(engine="judge"), b)["annotations"]
    assert {text: row["scores"] for (text, _), row in by_text(rows, b).items()} == {
        text: [float(value)] for text, value in WORTH.items()
    }
    ids = [row["response_id"] for row in b.group.responses]
    for row in rows:
        assert json.loads(row["meta"]) == {"shown": order.index(ids.index(row["target_ids"][0])), "of": 4}
        assert row["text"] in WORTH and WORTH[row["text"]] == row["scores"][0]


def test_the_order_is_a_draw_that_a_second_run_sees_again(bench: Make) -> None:
    responses = [{"response_id": f"r{place}"} for place in range(4)]
    seen = [tuple(row["response_id"] for row in in_order(f"p{n}", responses, 0)) for n in range(600)]
    assert set(seen) == set(permutations([row["response_id"] for row in responses])), "all 24 come up"
    for place in range(4):
        first = sum(order[place] == "r0" for order in seen) / len(seen)
        assert 0.18 < first < 0.32, "each response stands at each place about as often"
    again = [tuple(row["response_id"] for row in in_order(f"p{n}", responses[::-1], 0)) for n in range(600)]
    assert again == seen, "the order in which they come does not matter"
    replicates = {tuple(row["response_id"] for row in in_order("p", responses, n)) for n in range(20)}
    assert len(replicates) > 5


def test_one_call_for_each_aspect_or_one_for_all(bench: Make, card: str) -> None:
    """Entry 1, Assert: cost = one call for each aspect and prompt, however many responses."""
    for aspects, calls in (("separate", 3), ("joint", 1)):
        b = bench(worth, "one", "two")
        rows = run(ScoreTogether(engine="judge", card=card, aspects=aspects, replicates=2), b)["annotations"]
        assert len(b.context.asked) == 2 * calls and len(rows) == 2 * 3 * 2
        together_rows: dict[str, set[str]] = {}
        for row in rows:
            together_rows.setdefault(row["call_id"], set()).add(row["target_ids"][0])
        assert all(len(targets) == 2 for targets in together_rows.values()), "those of one call share its id"
    b = bench(worth, "one", "two")
    rows = run(ScoreTogether(engine="judge", card=card), b)["annotations"]
    assert len({tuple(blocks(text).values()) for text in b.texts}) == 1, "the same order for every aspect"
    assert all("How deep" in text or "How long" in text or "How noisy" in text for text in b.texts)
    assert sum("How deep" in text for text in b.texts) == 1


def test_directions_and_what_does_not_apply(bench: Make, card: str) -> None:
    said = {
        "A": {"reason": "r", "scores": {"depth": 10, "length": 0.25, "noise": 1}},
        "B": {"scores": {"depth": "10/10", "length": "long", "noise": "N/A"}},
    }
    b = bench(lambda request, revision: Reply(json.dumps({"responses": said})), "one", "two")
    rows = run(ScoreTogether(engine="judge", card=card, aspects="joint"), b)["annotations"]
    found = {(json.loads(row["meta"])["shown"], row["aspect"]): row for row in rows}
    assert found[0, "depth"]["scores"] == found[1, "depth"]["scores"] == [10.0]
    assert found[0, "length"]["protocol"] == "measure" and found[0, "length"]["scores"] == [0.25]
    assert found[0, "noise"]["protocol"] == "score" and found[0, "noise"]["scores"] == [3.0], "lower is better"
    assert found[1, "noise"]["status"] == "abstain" and found[1, "noise"]["scores"] is None
    assert found[1, "length"]["status"] == "unparsed" and found[1, "length"]["scores"] is None


@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        ({"A": {"scores": {"overall": 3}}}, ["ok", "unparsed"]),
        ({"A": {"scores": {"overall": 3}}, "B": {"scores": {"overall": 9}}}, ["ok", "unparsed"]),
        ({"A": {"scores": {"overall": 3}}, "B": 4}, ["ok", "unparsed"]),
        ({"B": {"scores": {"overall": 3}}, "C": {"scores": {"overall": 3}}}, ["unparsed", "unparsed"]),
        ({"A": {"scores": {"overall": 3}}, "a": {"scores": {"overall": 3}}}, ["unparsed", "unparsed"]),
        ([{"scores": {"overall": 3}}, {"scores": {"overall": 4}}], ["unparsed", "unparsed"]),
        ({"A": {"scores": {"overall": "N/A"}}, "B": {"scores": {"overall": 5}}}, ["unparsed", "ok"]),
        ({"Response A": {"scores": {"overall": 3}}, "response b": {"scores": {"overall": 5}}}, ["ok", "ok"]),
    ],
)
def test_what_is_missing_is_unparsed_and_the_others_stand(bench: Make, said: Any, statuses: list[str]) -> None:
    b = bench(lambda request, revision: Reply(json.dumps({"responses": said})), "one", "two")
    rows = run(ScoreTogether(engine="judge"), b)["annotations"]
    assert [row["status"] for row in sorted(rows, key=lambda row: json.loads(row["meta"])["shown"])] == statuses
    assert all((row["scores"] is None) == (row["status"] != "ok") for row in rows)


def test_ids_name_what_was_shown_beside(bench: Make) -> None:
    def ids(step: ScoreTogether, *texts: str, **rest: Any) -> set[str]:
        return {row["annotation_id"] for row in run(step, bench(worth, *texts, **rest))["annotations"]}

    base = ids(ScoreTogether(engine="judge"), "one", "two")
    assert base == ids(ScoreTogether(engine="judge", name="other", reask=2), "one", "two")
    assert base < ids(ScoreTogether(engine="judge", replicates=2), "one", "two")
    for other in (
        ids(ScoreTogether(engine="judge"), "one", "two", "three"),  # seen beside another, it is another question
        ids(ScoreTogether(engine="judge", card="honesty"), "one", "two"),
        ids(ScoreTogether(engine="judge"), "one", "two", model="qwen"),
    ):
        assert not other & base


def test_many_are_shown_in_parts(bench: Make) -> None:
    texts = [f"text {n}" for n in range(7)]

    def script(request: Request, revision: int) -> Reply:
        names = list(request.schema["properties"]["responses"]["properties"])
        return Reply(json.dumps({"responses": {name: {"scores": {"overall": 3}} for name in names}}))

    b = bench(script, *texts)
    rows = run(ScoreTogether(engine="judge", most=3), b)["annotations"]
    assert len(rows) == 7 and {row["status"] for row in rows} == {"ok"} and len(b.context.asked) == 3
    assert sorted(len(blocks(text)) - 1 for text in b.texts) == [2, 2, 3]
    assert len(run(ScoreTogether(engine="judge"), bench(script, "alone"))["annotations"]) == 1
    assert run(ScoreTogether(engine="judge"), bench(script)) == {}


def test_letters_go_on_after_z() -> None:
    names = letters(60)
    assert names[:3] == ["A", "B", "C"] and names[25:28] == ["Z", "AA", "AB"] and len(set(names)) == 60
    said = {name: {"scores": {"x": place % 5 + 1}} for place, name in enumerate(names)}
    found = parse_together(json.dumps({"responses": said}), names, {"x": Scale()})
    assert {name: found[name].values["x"] for name in names} == {
        name: float(place % 5 + 1) for place, name in enumerate(names)
    }


def test_a_jury_in_one_step(bench: Make) -> None:
    b = bench(worth, "one", "two")
    other = type(b.context.engines["judge"])("second", "qwen", "http://qwen", worth)
    b.context.engines["second"] = other
    rows = run(ScoreTogether(engine=["judge", "second"]), b)
    assert len(rows["annotations"]) == 4 and len(b.context.asked) == 2
    assert {row["annotator"].split("/")[0] for row in rows["annotators"]} == {"judge:llama", "judge:qwen"}
    assert len(rows["criteria"]) == 1
    alone = run(ScoreTogether(engine="judge"), bench(worth, "one", "two"))["annotations"]
    assert {row["annotation_id"] for row in alone} < {row["annotation_id"] for row in rows["annotations"]}
    b.context.engines["third"] = type(other)("third", "qwen", "http://qwen", worth)
    with pytest.raises(PipelineError, match="the engines 'second' and 'third' are the same model 'qwen'"):
        run(ScoreTogether(engine=["second", "third"]), b)
    for engine, said in (([], "empty"), (["judge", "judge"], "one engine twice")):
        with pytest.raises(ValueError, match=said):
            ScoreTogether(engine=engine)


def test_reask_asks_all_again_and_keeps_what_was_read(bench: Make) -> None:
    def script(request: Request, revision: int) -> Reply:
        said = (
            {"A": {"scores": {"overall": 2}}} if revision == 1 else {name: {"scores": {"overall": 5}} for name in "AB"}
        )
        return Reply(json.dumps({"responses": said}))

    b = bench(script, "one", "two")
    rows = run(ScoreTogether(engine="judge", reask=1), b)["annotations"]
    assert {(row["scores"][0], row["revision"]) for row in rows} == {(2.0, 1), (5.0, 2)}


@given(st.permutations(list(WORTH)), st.sampled_from(["", "\n\n", "```json\n", "<think>A is best</think>"]))
def test_any_order_and_wrapping_gives_the_same_values(order: list[str], before: str) -> None:
    names = letters(len(order))
    said = {name: {"reason": text, "scores": {"x": WORTH[text]}} for name, text in zip(names, order, strict=True)}
    text = f"{before}{json.dumps({'responses': said})}" + ("\n```" if before.startswith("```") else "\n\n")
    found = parse_together(text, names, {"x": Scale()})
    assert [found[name].values["x"] for name in names] == [WORTH[one] for one in order]
