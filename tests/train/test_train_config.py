"""Configuration: defaults, texts as numbers, refusals that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefdata.train import TrainConfig, TrainError

REQUIRED = {"data": "d.parquet", "model": "m", "out": "o"}


def test_defaults_and_texts() -> None:
    made = TrainConfig.from_mapping(
        {**REQUIRED, "learning_rate": "1e-4", "max_steps": "20", "beta": 1, "plugins": "a.py"}
    )
    assert (made.data, made.model, made.out) == (Path("d.parquet"), "m", Path("o"))
    assert (made.learning_rate, made.max_steps, made.beta, made.plugins) == (1e-4, 20, 1, ("a.py",))
    assert made == TrainConfig(
        Path("d.parquet"), "m", Path("o"), beta=1.0, plugins=("a.py",), max_steps=20, learning_rate=1e-4
    )


def test_learning_rate_follows_lora() -> None:
    assert TrainConfig.from_mapping(REQUIRED).peak_learning_rate == 5e-5
    assert TrainConfig.from_mapping({**REQUIRED, "lora": 0}).peak_learning_rate == 1e-6
    assert TrainConfig.from_mapping({**REQUIRED, "lora": 0, "learning_rate": 2e-5}).peak_learning_rate == 2e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, "run.yaml: there is no key 'learning_rat'; did you mean 'learning_rate'?"),
        ({"model": None}, "run.yaml: the key 'model' is missing"),
        ({"batch_size": 0}, "run.yaml: batch_size is a whole number of at least 1, not 0"),
        ({"batch_size": 2.5}, "run.yaml: batch_size is a whole number of at least 1, not 2.5"),
        ({"batch_size": True}, "run.yaml: batch_size is a whole number of at least 1, not True"),
        ({"max_steps": "many"}, "run.yaml: max_steps is a whole number of at least 1, not 'many'"),
        ({"beta": 0}, "run.yaml: beta is a number above 0, not 0"),
        ({"beta": "nan"}, "run.yaml: beta is a number above 0, not nan"),
        ({"lora": -1}, "run.yaml: lora is a whole number of at least 0, not -1"),
        ({"warmup": 10}, "run.yaml: warmup is a share of the steps from 0 to 1, not 10"),
        (
            {"schedule": "cosin"},
            "run.yaml: schedule is one of linear, cosine, constant, not 'cosin'; did you mean 'cosine'?",
        ),
        ({"overlong": "cut"}, "run.yaml: overlong is one of drop, truncate, error, not 'cut'"),
        ({"data": 3}, "run.yaml: data is a path, not 3"),
        ({"loss_options": [1]}, "run.yaml: loss_options maps names to values, it is not [1]"),
        ({"epochs": 0}, "run.yaml: epochs is a whole number of at least 1, not 0"),
        ({"pack_tokens": 1}, "run.yaml: pack_tokens is a whole number of at least 2, not 1"),
        ({"precision": "fp8"}, "run.yaml: precision is one of auto, fp32, bf16, not 'fp8'; did you mean 'fp32'?"),
        ({"quantize": "8bit"}, "run.yaml: quantize is one of none, 4bit, not '8bit'; did you mean '4bit'?"),
        ({"attention": 3}, "run.yaml: attention is one of auto, sdpa, flex, not 3"),
        ({"deterministic": "yes"}, "run.yaml: deterministic is true or false, not 'yes'"),
        ({"resume": True}, "run.yaml: resume is a text, not True"),
        ({"reference": ""}, "run.yaml: reference is a text, not ''"),
        ({"loss": None}, "run.yaml: loss is a text, not None"),
        ({"loss": ["dpo"]}, "run.yaml: loss is a text, not ['dpo']"),
        ({"device": [1]}, "run.yaml: device is a text, not [1]"),
        ({"plugins": 3}, "run.yaml: plugins is a list of Python files, not 3"),
        ({"plugins": 3, "qqq": 2}, "run.yaml: there is no key 'qqq' (nor is it an option of the loss 'dpo')"),
        (
            {"beta": 1, "loss_options": {"beta": 2}},
            "run.yaml: beta and loss_options.beta are one option: give one of them",
        ),
        ({"rationale_template": 3}, "run.yaml: rationale_template is a text, not 3"),
        ({"micro_batch_size": 2}, "run.yaml: there is no key 'micro_batch_size'; did you mean 'batch_size'?"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError) as caught:
        TrainConfig.from_mapping({**REQUIRED, **change}, "run.yaml")
    assert str(caught.value) == message


def test_options_of_the_loss_stand_beside_the_others(tmp_path: Path) -> None:
    plugin = tmp_path / "own_losses.py"
    plugin.write_text(
        "from prefdata.train import loss\n\n\n@loss('own')\n"
        "def own(pair, *, lead=1.0, lora=0):\n    return pair.win.ratio\n"
    )
    given = {**REQUIRED, "plugins": [str(plugin)], "loss": "own", "lead": 2, "loss_options.lora": 3}
    made = TrainConfig.from_mapping(given)
    assert (made.loss_options, made.lora) == ({"lead": 2, "lora": 3}, 8)
    with pytest.raises(TrainError, match="there is no key 'lede'; did you mean 'lead'"):
        TrainConfig.from_mapping({**REQUIRED, "plugins": [str(plugin)], "loss": "own", "lede": 2})
    with pytest.raises(TrainError, match=r"there is no key 'qqq' \(nor is it an option of the loss 'dpo'\)"):
        TrainConfig.from_mapping({**REQUIRED, "qqq": 2})
