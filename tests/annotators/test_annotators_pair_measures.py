"""What is measured of pairs without a model: reward votes, label noise, confident learning, Selfie, difficulty."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefdata.annotators import Confident, Difficulty, LabelNoise, RewardVotes, Selfie
from prefdata.annotators.vectors import packed
from prefdata.errors import DataError
from prefdata.schema import KEYS, SCHEMAS, Row, annotation, check_annotations, preference
from prefdata.stats.logistic import sigmoid


class Context:
    def __init__(self, folder: Path) -> None:
        self.artifacts, self.folder, self.said = folder, folder, []

    def log(self, message: str) -> None:
        self.said.append(message)


def frames(**tables: Iterable[Row]) -> dict[str, pl.DataFrame]:
    names = ("prompts", "responses", "annotations", "preferences")
    return {
        name: pl.DataFrame(pa.Table.from_pylist(list(tables.get(name, ())), schema=SCHEMAS[name])).sort(KEYS[name])
        for name in names
    }


def measured(
    step: Any, tmp_path: Path, **tables: Iterable[Row]
) -> tuple[dict[str, dict[str, Any]], list[Row], Context]:
    """By aspect and target the number (None: abstained); all rows, checked; and the context."""
    context = Context(tmp_path)
    made = step.run(frames(**tables), context)
    rows = made["annotations"].to_dicts() if made else []
    check_annotations(rows, "test")
    assert len({row["annotation_id"] for row in rows}) == len(rows)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        assert (row["scores"] is None) == (row["status"] == "abstain")
        found.setdefault(row["aspect"], {})[row["target_ids"][0]] = row["scores"] and row["scores"][0]
    return found, rows, context


def pair(name: str, group: str = "", **columns: Any) -> Row:
    group = group or name
    row = preference(
        group_id=group, prompt_id=group, response_ids=[f"{name}-a", f"{name}-b"], scores=[2.0, 1.0], **columns
    )
    return {**row, "preference_id": name}


def scores(
    name: str, better: float, worse: float, annotator: str = "reward:m", group: str = "", **more: Any
) -> list[Row]:
    return [
        annotation(
            group_id=group or name,
            prompt_id=group or name,
            target_ids=[f"{name}-{side}"],
            protocol=more.get("protocol", "score"),
            annotator=annotator,
            source="reward",
            aspect=more.get("aspect", "overall"),
            scores=[value],
        )
        for side, value in (("a", better), ("b", worse))
    ]


def about(name: str, value: float, aspect: str = "strength") -> Row:
    return annotation(
        group_id=name,
        prompt_id=name,
        target="preference",
        target_ids=[name],
        protocol="measure",
        annotator="reward:votes",
        source="reward",
        aspect=aspect,
        scores=[value],
    )


def test_votes_of_the_reference(tmp_path: Path) -> None:
    """A06: margins 1.2, .4, -.2, .6."""
    said = [row for at, d in enumerate((1.2, 0.4, -0.2, 0.6)) for row in scores("one", d, 0.0, f"reward:{at}")]
    found, rows, _ = measured(RewardVotes(normalise=False), tmp_path, preferences=[pair("one")], annotations=said)
    assert found["strength"]["one"] == pytest.approx(0.5) and found["strength_std"]["one"] == pytest.approx(0.5)
    assert found["strength_agree"]["one"] == 0.75
    row = rows[0]
    assert (row["target"], row["protocol"], row["source"], row["annotator"]) == (
        "preference",
        "measure",
        "reward",
        "reward:votes",
    )


def test_scales_of_members_do_not_count_and_a_silent_one_is_left_out(tmp_path: Path) -> None:
    pairs = [pair("one"), pair("two"), pair("three")]
    said = [*scores("one", 1, 0, "reward:a"), *scores("two", 0, 1, "reward:a")]
    said += [*scores("one", 100, 0, "reward:b"), *scores("two", 0, 100, "reward:b")]
    said += [*scores("one", 5, 4, "reward:flat"), *scores("two", 5, 4, "reward:flat")]
    said += [*scores("one", 9, 0, "judge:other"), scores("three", 1, 0, "reward:a")[0]]
    found, _, context = measured(RewardVotes(), tmp_path, preferences=pairs, annotations=said)
    assert found["strength"] == {"one": pytest.approx(1.0), "two": pytest.approx(-1.0), "three": None}
    assert any("reward:flat: gives all pairs one margin" in line for line in context.said)
    assert measured(RewardVotes(least=3), tmp_path, preferences=pairs, annotations=said)[0]["strength"]["one"] is None
    assert measured(RewardVotes(), tmp_path)[0] == {}


def test_the_other_label_has_the_other_strength(tmp_path: Path) -> None:
    said = [*scores("one", 1.5, 0), *scores("two", 0, 1)]
    turned = {**pair("one"), "scores": [1.0, 2.0]}
    step = RewardVotes(normalise=False)
    straight = measured(step, tmp_path, preferences=[pair("one")], annotations=said)[0]["strength"]["one"]
    assert measured(step, tmp_path, preferences=[turned], annotations=said)[0]["strength"]["one"] == -straight == -1.5


def test_posterior_with_reliabilities(tmp_path: Path) -> None:
    """A careful and a careless annotator of pairs, and calibrated margins."""
    rng = np.random.default_rng(0)
    pairs, said = [], []
    for at in range(800):
        who, careful = ("ann", 0.95) if at % 2 else ("ben", 0.7)
        clean = rng.choice([0.95, 0.8])
        right = (rng.random() < clean) == (rng.random() < careful)
        margin = float(np.log(clean / (1 - clean))) * (1 if right else -1)
        pairs.append(pair(f"n{at:03}", annotator=who))
        said.append(about(f"n{at:03}", margin))
    found, rows, context = measured(LabelNoise(), tmp_path, preferences=pairs, annotations=said)
    able = {row["target_ids"][0]: row for row in rows if row["target"] == "annotator"}
    assert able["ann"]["scores"][0] == pytest.approx(0.95, abs=0.06)
    assert able["ben"]["scores"][0] == pytest.approx(0.7, abs=0.08)
    assert {(row["source"], row["annotator"], row["aspect"], row["group_id"]) for row in able.values()} == {
        ("consensus", "consensus:lcpo", "ability", "*")
    }
    posterior = found["label_posterior"]
    assert 0 < min(posterior.values()) < 0.5 < max(posterior.values()) < 1
    kept = json.loads((tmp_path / "annotators.json").read_text())["fits"][0]
    low, value, high = (kept["annotators"][0][name] for name in ("low", "value", "high"))
    assert kept["converged"] and kept["annotators"][0]["annotator"] == "ann" and low < value < high
    assert any(line.startswith("reliability of ann: 0.9") for line in context.said)
    one = measured(LabelNoise(by="all"), tmp_path, preferences=pairs, annotations=said)[1]
    assert not [row for row in one if row["target"] == "annotator"]


def test_flip_probability_of_the_reference(tmp_path: Path) -> None:
    """A08: m = .5 and -.5 at eps .1; from scores of responses as well as from a measure."""
    step = LabelNoise(method="flip_rate", eps=0.1)
    said = [about("one", 0.5), about("two", -0.5)]
    found, _, _ = measured(step, tmp_path, preferences=[pair("one"), pair("two"), pair("three")], annotations=said)
    assert found["flip_probability"]["one"] == pytest.approx(0.063137, abs=1e-6)
    assert found["flip_probability"]["two"] == pytest.approx(0.154828, abs=1e-6)
    assert found["flip_probability"]["three"] is None
    implicit = LabelNoise(method="flip_rate", eps=0.1, scores="likelihood:*")
    rows = scores("one", 1.5, 1.0, "likelihood:m/density-ratio")
    found, _, _ = measured(implicit, tmp_path, preferences=[pair("one")], annotations=rows)
    assert found["flip_probability"]["one"] == pytest.approx(0.063137, abs=1e-6)
    both = [*rows, *scores("one", 1.5, 1.0, "likelihood:other")]
    with pytest.raises(DataError, match="a margin is one annotator's"):
        measured(implicit, tmp_path, preferences=[pair("one")], annotations=both)


def test_flip_rates_from_an_audit_and_from_repeats(tmp_path: Path) -> None:
    pairs = [pair(f"n{at}") for at in range(10)]
    margins = [about(f"n{at}", 1.0) for at in range(10)]
    audit = [row for at in range(10) for row in scores(f"n{at}", *((0, 1) if at < 2 else (1, 0)), "human:gold")]
    step = LabelNoise(method="flip_rate", eps="audit", auditor="human:*")
    found, _, context = measured(step, tmp_path, preferences=pairs, annotations=[*margins, *audit])
    expected = 0.2 * (1 - sigmoid(1.0)) / (0.8 * sigmoid(1.0) + 0.2 * (1 - sigmoid(1.0)))
    assert found["flip_probability"]["n0"] == pytest.approx(float(expected))
    assert any("flip rate by audit: 0.200" in line for line in context.said)
    twice = [
        annotation(
            group_id=f"n{at}",
            prompt_id=f"n{at}",
            target_ids=[f"n{at}-a", f"n{at}-b"],
            protocol="compare",
            annotator="human:ann",
            source="human",
            scores=[0.0, 1.0] if at < 3 and again else [1.0, 0.0],
            replicate=again,
        )
        for at in range(10)
        for again in (0, 1)
    ]
    step = LabelNoise(method="flip_rate", eps="repeats")
    _, _, context = measured(step, tmp_path, preferences=pairs, annotations=[*margins, *twice])
    assert any(f"flip rate by repeats: {(1 - (1 - 0.6) ** 0.5) / 2:.3f}" in line for line in context.said)
    with pytest.raises(DataError, match="finds nothing to estimate"):
        measured(step, tmp_path, preferences=pairs, annotations=margins)


def test_margins_that_say_nothing(tmp_path: Path) -> None:
    """All margins 0: the reliability is not known, and nothing is said."""
    said = [about("one", 0.0), about("two", 0.0)]
    pairs = [pair("one", annotator="ann"), pair("two", annotator="ann")]
    found, rows, _ = measured(LabelNoise(), tmp_path, preferences=pairs, annotations=said)
    assert found["label_posterior"] == {"one": None, "two": None} and len(rows) == 2
    em = measured(LabelNoise(method="flip_rate"), tmp_path, preferences=pairs, annotations=[about("one", 3.0)])
    assert em[0]["flip_probability"]["two"] is None
    with pytest.raises(ValidationError, match="needs auditor"):
        LabelNoise(method="flip_rate", eps="audit")
    with pytest.raises(ValidationError, match="labels say nothing"):
        LabelNoise(method="flip_rate", eps=0.5)
    with pytest.raises(ValidationError, match="belongs to method: flip_rate"):
        LabelNoise(eps=0.1)


def planted(n: int = 300) -> tuple[list[Row], list[Row], list[Row], set[str]]:
    """Pairs, vectors and feature scores of their responses, and the names of the flipped ones."""
    rng = np.random.default_rng(5)
    taste = np.array([2.0, -1.0, 1.0])
    pairs, vectors, numbers, flipped = [], [], [], set()
    for at in range(n):
        name, sides = f"n{at:03}", rng.normal(size=(2, 3))
        sides = sides[np.argsort(-(sides / np.linalg.norm(sides, axis=1, keepdims=True)) @ taste)]
        if rng.random() < 0.2:
            flipped.add(name)
            sides = sides[::-1]
        pairs.append(pair(name, f"g{at // 3}"))
        for side, vector in zip("ab", sides, strict=True):
            row = annotation(
                group_id=f"g{at // 3}",
                prompt_id=f"g{at // 3}",
                target_ids=[f"{name}-{side}"],
                protocol="label",
                annotator="embedding:mini",
                source="embedding",
                aspect="vector",
                text=packed(vector),
            )
            vectors.append(row)
        unit = sides / np.linalg.norm(sides, axis=1, keepdims=True)
        for place in range(3):
            more = scores(name, *unit[:, place].tolist(), f"rule:{place}", f"g{at // 3}", protocol="measure")
            numbers += more
    return pairs, vectors, numbers, flipped


@pytest.mark.parametrize("features", ["vectors", "numbers"])
def test_planted_flips_are_contradicted(features: Any, tmp_path: Path) -> None:
    pairs, vectors, numbers, flipped = planted()
    said = vectors if features == "vectors" else numbers
    step = Confident(features=features, ridge=1.0)
    found, rows, context = measured(step, tmp_path, preferences=pairs, annotations=said)
    wrong = {name for name, value in found["label_error"].items() if value == 1}
    assert len(wrong & flipped) / len(flipped) > 0.6 and len(wrong & flipped) / len(wrong) > 0.7
    assert rows[0]["annotator"] == "rule:confident" and any(
        "labels contradicted; noise rate" in s for s in context.said
    )
    half = measured(step, tmp_path, preferences=pairs, annotations=said[: len(said) // 2])[0]
    assert None in half["label_probability"].values() and half["label_error"]["n299"] is None


def test_given_probabilities_and_none_at_all(tmp_path: Path) -> None:
    pairs = [pair(name) for name in ("a", "b", "c", "d")]
    said = [about(n, p, "mine") for n, p in zip("abcd", (0.9, 0.8, 0.7, 0.1), strict=True)]
    step = Confident(features="given", aspect="mine")
    found, _, _ = measured(step, tmp_path, preferences=pairs, annotations=said)
    assert found["label_error"] == {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0}
    for features, missing in (("vectors", "has a vector by"), ("numbers", "has a score or measure by")):
        with pytest.raises(DataError, match=missing):
            measured(Confident(features=features), tmp_path, preferences=pairs)
        assert measured(Confident(features=features), tmp_path)[0] == {}
    with pytest.raises(ValidationError, match="needs aspect"):
        Confident(features="given")


def test_a_tenth_is_unsure(tmp_path: Path) -> None:
    pairs = [pair(f"n{at:02}") for at in range(50)]
    said = [about(f"n{at:02}", at - 10.0) for at in range(50)]
    found, _, _ = measured(Selfie(), tmp_path, preferences=pairs, annotations=said)
    assert [name for name, sure in found["sure"].items() if sure == 0] == [f"n{at:02}" for at in range(5)]
    few, _, context = measured(Selfie(), tmp_path, preferences=pairs[:3], annotations=said)
    assert set(few["sure"].values()) == {1.0} and "too few margins" in context.said[-1]


def test_difficulty_of_the_reference(tmp_path: Path) -> None:
    """C01: -12 and -10 give c = 2; losses to flip 0.598139 at beta .1 and 0.126928 at beta 1."""
    said = scores("one", -12.0, -10.0, "likelihood:ref/conditional/sum")
    pairs = [pair("one"), pair("two")]
    for beta, loss in ((0.1, 0.598139), (1.0, 0.126928)):
        found, _, _ = measured(Difficulty(beta=beta), tmp_path, preferences=pairs, annotations=said)
        assert found["difficulty"] == {"one": 2.0, "two": None}
        assert found["loss_to_flip"]["one"] == pytest.approx(loss, abs=1e-6)
    even = scores("one", -3.0, -3.0, "likelihood:ref/conditional/sum")
    found, _, _ = measured(Difficulty(), tmp_path, preferences=[pair("one")], annotations=even)
    assert found["loss_to_flip"]["one"] == pytest.approx(np.log(2))
    with pytest.raises(DataError, match="name the reference model's"):
        more = [*said, *scores("one", -1, -2, "likelihood:other/conditional/sum")]
        measured(Difficulty(), tmp_path, preferences=pairs, annotations=more)


def test_an_infinite_score_is_no_score(tmp_path: Path) -> None:
    for value in (float("inf"), float("nan")):
        said = [*scores("one", value, 0.0), *scores("two", 1.0, 0.0), *scores("three", 0.0, 1.0)]
        tables = frames(preferences=[pair("one"), pair("two"), pair("three")], annotations=said)
        rows = RewardVotes().run(tables, Context(tmp_path))["annotations"]  # type: ignore[arg-type]
        one = rows.filter((pl.col("aspect") == "strength") & (pl.col("target_ids").list.first() == "one"))
        assert one["status"].to_list() == ["abstain"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (RewardVotes(members=("reward:nobody",)), "no response has a score by 'reward:nobody'"),
        (LabelNoise(), "no preference has a score or measure under 'strength'"),
        (LabelNoise(scores="nobody"), "no response has a score by 'nobody'"),
        (Selfie(aspect="strenght"), "under 'strenght'.*there are: strength by "),
        (Confident(features="given", aspect="nothing"), "under 'nothing'"),
    ],
)
def test_a_number_that_nobody_tried_to_give_is_a_mistake(step: Any, said: str, tmp_path: Path) -> None:
    known = [about("one", 1.0)] if "there are" in said else []
    with pytest.raises(DataError, match=said):
        measured(step, tmp_path, preferences=[pair("one")], annotations=known)
    assert measured(step, tmp_path)[0] == {}  # without preferences there is nothing to measure
