"""What is said about the losses: every option has a meaning, every loss a source, and every need its words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, loss
from prefdata.train.losses.described import SHARED_MEANINGS, kind, meanings, needs, summary, text
from prefdata.train.losses.registry import LIST_OPTIONS, PAIR_OPTIONS

OURS = sorted(name for name, spec in LOSSES.items() if spec.function.__module__.startswith("prefdata."))


@pytest.mark.parametrize("name", OURS)
def test_every_loss_is_described(name: str) -> None:
    spec = LOSSES[name]
    assert name == name.lower() and "_" not in name
    assert spec.paper and summary(spec).endswith((".", ")"))
    assert "Args:" not in text(spec) and text(spec).startswith(summary(spec))
    assert [option for option, meaning in meanings(spec).items() if not meaning] == []
    assert list(meanings(spec)) == list(spec.options)
    assert "`" in text(spec) and kind(spec)  # a formula


def test_shared_options_are_described() -> None:
    assert {*PAIR_OPTIONS, *LIST_OPTIONS} == set(SHARED_MEANINGS)


@pytest.mark.parametrize("name", OURS)
def test_every_need_has_words(name: str) -> None:
    spec = LOSSES[name]
    needed = spec.needed(spec.options)
    values = {need for need in needed if need.startswith("values.")}
    assert len(needs(spec)) == len(needed - values) + bool(values)


def test_needs_follow_the_options() -> None:
    said = needs(LOSSES["lipo-lambda"], {"labels": "values.won"})
    assert "values named won (step `pair`: `values: {won: ANNOTATOR}`)" in said
    assert any("margin: scores" in need for need in needs(LOSSES["dpo"], {"margin": "edges"}))


# A loss of the user's own


@pytest.fixture
def mine() -> Iterator[str]:
    """The loss of the documentation's example, under another name."""

    @loss("my-hinge")
    def hinge(pair: Any, *, beta: float = 0.1) -> Any:
        return (1 - beta * (pair.win.ratio - pair.lose.ratio)).clamp(min=0)

    yield "my-hinge"
    del LOSSES["my-hinge"]


def test_a_loss_of_one_s_own_gets_weights_soft_labels_and_the_sft_term(mine: str) -> None:
    """[2 (.7 x .85 + .3 x 1.15) + 1 x 1.1] / 3 and 0.5 times the winners' mean negative log-likelihood."""
    pytest.importorskip("torch")
    from hand_batches import hand_batch, policy

    batch = hand_batch(
        [[1.0, 0.0], [1.0, 0.0]], edges=[(0, 0, 1), (1, 0, 1)], p=[0.7, 1.0], weight=[2.0, 1.0], length=[[2, 4], [3, 3]]
    )
    outputs = policy([[-4.0, -5.5], [-3.0, -2.0]])
    expected = (2 * (0.7 * 0.85 + 0.3 * 1.15) + 1.1) / 3
    assert LOSSES[mine](outputs, batch).item() == pytest.approx(expected, abs=1e-12)
    assert LOSSES[mine](outputs, batch, {"sft": 0.5}).item() == pytest.approx(expected + 0.5 * 5 / 3, abs=1e-12)
    assert LOSSES[mine](outputs, batch, {"label": "hard"}).item() == pytest.approx((2 * 0.85 + 1.1) / 3, abs=1e-12)


def test_a_margin_that_a_loss_does_not_read_is_refused(mine: str) -> None:
    """D 15: an option acts, or it is refused; also where the loss is the user's."""
    pytest.importorskip("torch")
    from hand_batches import hand_batch, policy

    batch = hand_batch([[1.0, 0.0]], edges=[(0, 0, 1)], margin=[0.5])
    with pytest.raises(TrainError, match="this loss does not read it"):
        LOSSES[mine](policy([[-1.0, -2.0]]), batch, {"margin": "edges"})
    assert LOSSES["slic-normalised"](policy([[-1.0, -2.0]]), batch, {"margin": "edges"}).item() > 0
