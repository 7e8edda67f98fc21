"""What losses need, and what their options mean, in words: for the documentation and `prefdata losses`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from prefdata.train.losses.registry import LossSpec

SHARED_MEANINGS: dict[str, str] = {
    "weight": "`data` (the list's weight times the edge's, or the list's alone) or `even`.",
    "per": "`edge`, or `list`: the edges of one list share that list's weight, so that a long list counts once.",
    "label": "`soft` (the loss of both directions, mixed by p) or `hard` (the likelier side wins; p = 0.5 counts 0).",
    "margin": (
        "By how much the winner is to be better: `none`, `edges` (the data's own), `scores` (the difference of the two "
        "scores) or `values.NAME` (likewise)."
    ),
    "sft": (
        "Coefficient of the negative log-likelihood of the winner (or of the list's responses of role `sft`, where it "
        "has some); 0: none."
    ),
    "sft_reduction": "`mean` or `sum` over the tokens of each response, or `tokens`: over all tokens of the step.",
}
"""The options that losses share."""

_NEEDS = {
    "edges": "which response is better than which (`edges`, or scores that differ)",
    "ranks": "`ranks`",
    "scores": "`scores`",
    "labels": "a label for each response (`unpaired`, or the winners and losers of edges)",
    "margin": "`margin` of edges (step `pair`: `margin: scores`)",
    "p": "`p` of edges (step `pair`: `p: votes`)",
    "votes": "`votes` of edges (step `pair`: `p: votes`)",
    "rationales": "`rationales`",
    "mismatched": "steps with more than one prompt",
    "prompt_tokens": "instructions that differ within a pair (`prompt_of`), to be more than `dpo`",
    "tokens": "log-probabilities of single tokens",
    "reference": "a reference model",
}
_ORDER = list(_NEEDS)
_OVER = {"pairs": "pairs", "lists": "lists", "responses": "responses alone"}


def summary(spec: LossSpec) -> str:
    """The first line of a loss's docstring."""
    return (inspect.getdoc(spec.function) or "").partition("\n")[0].strip()


def text(spec: LossSpec) -> str:
    """A loss's docstring, without the sections on arguments and errors."""
    return re.split(r"\n\n(?:Args|Returns|Raises):\n", inspect.getdoc(spec.function) or "")[0].strip()


def meanings(spec: LossSpec) -> dict[str, str]:
    """What each option of a loss means, its own first; empty where nothing says so (a loss of the user's)."""
    said = _arguments(inspect.getdoc(spec.function) or "")
    own = {name: said.get(name, "") for name in spec.own_options}
    return {**own, **{name: SHARED_MEANINGS[name] for name in spec.offered}}


def needs(spec: LossSpec, options: Mapping[str, Any] | None = None) -> list[str]:
    """What a loss needs with these options (its defaults), in words; what every file and run has is left out."""
    found = spec.needed({**spec.options, **(options or {})})
    words = [_NEEDS[need] for need in _ORDER if need in found]
    values = sorted(need.removeprefix("values.") for need in found if need.startswith("values."))
    if values:
        example = ", ".join(f"{name}: ANNOTATOR" for name in values)
        words.append(f"values named {', '.join(values)} (step `pair`: `values: {{{example}}}`)")
    return words


def kind(spec: LossSpec) -> str:
    """`pairs`, `lists (reward model)`, ..."""
    return _OVER[spec.over] + (" (reward model)" if spec.output == "reward" else "")


def _arguments(docstring: str) -> dict[str, str]:
    """The names and texts of the section `Args`."""
    found = re.search(r"\n\nArgs:\n(.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
    said: dict[str, str] = {}
    for line in (found[1] if found else "").splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            said[start[1]] = start[2][:1].upper() + start[2][1:]
        elif said:
            said[next(reversed(said))] += " " + line.strip()
    return said
