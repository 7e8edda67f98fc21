"""`prefdata losses`: what there is, what one computes, and that torch is not needed to say so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from prefdata.cli.app import app
from prefdata.cli.screen import output
from prefdata.errors import PrefdataError
from prefdata.pipeline.registry import STEPS
from prefdata.train.losses import LOSSES

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_steps.py"
PLUGIN = "prefdata_plugin_"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Nothing that a user's file registered is known after a test."""
    yield
    for known in (LOSSES, STEPS, sys.modules):
        for name in [name for name, made in known.items() if PLUGIN in (name + home(made))]:
            del known[name]


def home(made: object) -> str:
    """The module that something registered comes from."""
    return str(getattr(getattr(made, "function", made), "__module__", ""))


def said(*arguments: str) -> str:
    with patch.object(output, "_width", 240):  # of a terminal that folds nothing
        done = CliRunner().invoke(app, ["losses", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_all_losses_are_listed_with_what_they_need_and_their_paper() -> None:
    lines = said().splitlines()
    names = {line.split(" ", 1)[0]: line for line in lines}
    assert {name for name, spec in LOSSES.items() if spec.function.__module__.startswith("prefdata.")} <= set(names)
    assert "responses alone" in names["kto"] and "labels, mismatched, reference" in names["kto"]
    assert "lists (reward model)" in names["reward-plackett-luce"] and "reference" not in names["reward-plackett-luce"]
    assert "Rafailov et al. 2023" in names["dpo"]


def test_one_is_shown_with_its_formula_its_options_and_a_command() -> None:
    shown = said("show", "lipo-lambda")
    assert "log s(s_i - s_j)" in shown
    assert "needs: `scores`; a reference model" in shown
    assert "paper: Liu et al. 2024" in shown
    rows = {
        line.split()[0]: line.split()[1]
        for line in shown.splitlines()
        if line.startswith(("beta ", "labels ", "weight "))
    }
    assert rows == {"beta": "0.05", "labels": "scores", "weight": "data"}
    assert "prefdata train --data FILE --model MODEL --loss lipo-lambda --out DIR --set beta=0.05" in shown


def test_lists_and_switches_are_shown_as_set_takes_them() -> None:
    assert "--set attributes=helpfulness,correctness,coherence,complexity,verbosity" in said("show", "multi-attribute")
    assert "mean_over_stages  false" in said("show", "plackett-luce")


def test_a_loss_of_one_s_own_is_shown() -> None:
    assert f"--loss hinge --out DIR --plugin {EXAMPLE} --set beta=0.1" in said(
        "show", "hinge", "--plugin", str(EXAMPLE)
    )
    assert "\nhinge " in said("--plugin", str(EXAMPLE))


def test_a_loss_that_there_is_not() -> None:
    with pytest.raises(PrefdataError, match=r"there is no loss 'plackett' .*did you mean 'plackett-luce'"):
        said("show", "plackett")
    with pytest.raises(PrefdataError, match=r"plugins: there is no file nowhere\.py"):
        said("--plugin", "nowhere.py")


def test_torch_is_not_needed() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from prefdata.cli.app import app\n"
        "for words in (['losses'], ['losses', 'show', 'kto']):\n"
        "    try:\n        app(words)\n    except SystemExit as end:\n        assert not end.code\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Kahneman-Tversky" in done.stdout
