"""Losses by name: registering, finding, and options that act or are refused."""

from __future__ import annotations

from typing import Any

import pytest

from prefdata.train import TrainError
from prefdata.train.losses import LOSSES, Range, find_loss, loss

MINE = (
    *("dpo", "ipo", "f-dpo", "ln-dpo", "ld-dpo", "rpo", "rationale-dpo", "factuality-dpo", "mm-dpo", "dove"),
    *("slic", "slic-normalised", "simpo", "cpo", "orpo"),
    *("cdpo", "rdpo", "osp", "selfie", "lcpo"),
    *("sppo", "sppo-hard", "dno", "irepo"),
)
DEFAULTS: dict[str, dict[str, Any]] = {
    "rpo": {"beta": 0.01, "sft": 0.005, "sft_reduction": "sum"},
    "mm-dpo": {"margin": "scores", "sft": 0.25, "sft_reduction": "mean"},
    "slic": {"delta": 1.0, "sft": 0.1, "sft_reduction": "sum"},
    "cpo": {"beta": 0.1, "sft": 1.0, "sft_reduction": "tokens"},
    "orpo": {"lam": 0.1, "sft": 1.0, "sft_reduction": "tokens"},
    "simpo": {"beta": 2.0, "gamma_ratio": 0.5, "sft": 0.0},
    "ipo": {"tau": 0.1, "length_normalised": True},
    "lcpo": {"base": "dpo", "eta": 0.9, "momentum": 0.1},
    "sppo": {"beta": 0.001},
}


def test_names_and_defaults() -> None:
    assert set(MINE) <= set(LOSSES)
    for name, defaults in DEFAULTS.items():
        assert defaults.items() <= LOSSES[name].options.items()


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(TrainError, match=r"no loss 'placket-luce' .*did you mean 'plackett-luce'"):
        find_loss("placket-luce")


def test_options_act_or_are_refused() -> None:
    """D 15."""
    spec = LOSSES["dpo"]
    assert spec.checked_options({}, "train")["beta"] == 0.1
    for given, message in (
        ({"betta": 0.2}, r"takes no option 'betta'.*did you mean 'beta'"),
        ({"beta": "high"}, "'beta' of the loss 'dpo' is a number above 0, not 'high'"),
        ({"beta": 0}, "'beta' of the loss 'dpo' is a number above 0, not 0"),
        ({"beta": float("nan")}, "'beta' of the loss 'dpo' is a number above 0, not nan"),
        ({"beta": True}, "'beta' of the loss 'dpo' is a number above 0, not True"),
        ({"sft": -0.1}, r"'sft' of the loss 'dpo' is a number of at least 0, not -0\.1"),
        ({"label": "none"}, "'label' of the loss 'dpo' is one of soft, hard, not 'none'"),
        ({"margin": 3}, r"'margin' of the loss 'dpo' is none, edges, scores or values\.NAME, not 3"),
    ):
        with pytest.raises(TrainError, match=message):
            spec.checked_options(given, "train")
    with pytest.raises(TrainError, match="true or false, not 1"):
        LOSSES["ipo"].checked_options({"length_normalised": 1}, "train")


def test_what_a_loss_needs_follows_its_options() -> None:
    def needed(name: str, **options: Any) -> frozenset[str]:
        return LOSSES[name].needed(LOSSES[name].checked_options(options, "t"))

    assert needed("dpo") == {"edges", "reference"}
    assert needed("dpo", margin="edges") == {"edges", "reference", "margin"}
    assert needed("dpo", margin="values.quality") == {"edges", "reference", "values.quality"}
    assert needed("simpo") == {"edges"}
    assert needed("mm-dpo") == {"edges", "reference", "scores"}
    assert needed("ld-dpo") == {"edges", "reference", "tokens"}
    assert needed("dove") == {"edges", "reference", "prompt_tokens"}
    assert needed("rationale-dpo") == {"edges", "reference", "rationales"}
    assert needed("factuality-dpo", factual="truth") == {"edges", "reference", "values.truth"}


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.train.losses.registry.LOSSES", dict(LOSSES))
    with pytest.raises(TrainError, match="two losses are called 'dpo'"):

        @loss("dpo")
        def mine(pair: Any) -> Any:
            return pair.win.ratio


def test_an_option_that_cannot_act_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.train.losses.registry.LOSSES", {})

    @loss("mine", without=("margin",), limits={"size": Range(least=1, whole=True), "form": ("a", "b")}, sft=0.5)
    def mine(pair: Any, *, size: int = 2, form: str = "a") -> Any:
        return pair.win.ratio

    spec = find_loss("mine")
    assert spec.options == {
        **{"size": 2, "form": "a", "weight": "data", "per": "edge", "label": "soft"},
        **{"sft": 0.5, "sft_reduction": "mean"},
    }
    for given, message in (
        ({"margin": "edges"}, "takes no option 'margin'"),
        ({"size": 1.5}, r"is a whole number of at least 1, not 1\.5"),
        ({"form": "c"}, "is one of a, b, not 'c'"),
    ):
        with pytest.raises(TrainError, match=message):
            spec.checked_options(given, "t")
    with pytest.raises(TrainError, match="'other' has no shared option 'margin' to set a default for"):
        loss("other", without=("margin",), margin="edges")(lambda pair: pair.win.ratio)


def test_ranges_as_sentences() -> None:
    assert str(Range()) == "a number"
    assert str(Range(above=0)) == "a number above 0"
    assert str(Range(least=0, below=0.5)) == "a number of at least 0 and below 0.5"
    assert str(Range(least=2, most=9, whole=True)) == "a whole number of at least 2 and of at most 9"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"over": "lines"}, "over is one of pairs, lists, responses, not 'lines'"),
        ({"output": "rewards"}, "output is one of policy, reward, not 'rewards'"),
        ({"needs": ("rank",)}, "did you mean 'ranks'"),
        ({"needs": "ranks"}, "needs is a list of names"),
    ],
)
def test_a_word_that_is_not_known_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        loss("of-a-typo", **given)
