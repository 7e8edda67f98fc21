"""Which loss of TRL 1.16 is which of ours, option for option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One loss under both names.

    Attributes:
        trainer: of TRL: dpo, kto, cpo, orpo, orpo_ratio or reward.
        trl: fields of its configuration.
        ours: the name in `LOSSES`.
        options: of ours.
        scale: TRL's loss is this many times ours.
        p: of every edge of ours.
        only: floating types that TRL's code can do.
        note: what has to be known to read the row.
        differs: the two are not meant to be equal; the note says why.
    """

    trainer: str
    trl: Mapping[str, Any]
    ours: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    p: float = 1.0
    only: tuple[str, ...] = ("float64", "float32")
    note: str = ""
    differs: bool = False


def _dpo(loss_type: str = "sigmoid", **more: Any) -> dict[str, Any]:
    return {"loss_type": [loss_type], **more}


CASES = (
    Case("dpo", _dpo(), "dpo"),
    Case("dpo", _dpo(beta=0.5), "dpo", {"beta": 0.5}),
    Case("dpo", _dpo("ipo"), "ipo", note="both length-normalised, their default"),
    Case(
        "dpo",
        _dpo(label_smoothing=0.1),
        "cdpo",
        {"eps": 0.1},
        differs=True,
        note="TRL passes over `label_smoothing` here: its loss is that of the first row",
    ),
    Case("dpo", _dpo("robust", label_smoothing=0.1), "rdpo", {"eps": 0.1}),
    Case("dpo", _dpo("hinge"), "slic-normalised", {"beta": 0.1, "sft": 0.0}),
    Case("dpo", _dpo("sigmoid_norm", beta=2.0), "ln-dpo", {"beta": 2.0}),
    Case("dpo", _dpo(ld_alpha=0.5), "ld-dpo", {"alpha": 0.5}),
    Case("dpo", _dpo(f_divergence_type="forward_kl"), "f-dpo", {"divergence": "forward-kl"}),
    Case("dpo", _dpo(f_divergence_type="js_divergence"), "f-dpo", {"divergence": "js"}),
    Case(
        "dpo",
        _dpo(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.7),
        "f-dpo",
        {"divergence": "alpha", "alpha": 0.3},
        only=("float32",),
        note="alpha is the paper's; TRL's coefficient is 1 - alpha. TRL's clamp knows no float64",
    ),
    Case(
        "dpo",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "beta": 0.5},
        "rpo",
        {"beta": 0.5, "sft": 0.2, "sft_reduction": "tokens"},
        note="the SFT term is a mean over the batch's tokens",
    ),
    Case("dpo", _dpo("bco_pair"), "bco", scale=2.0, note="first step: ours shifts by a running mean later, TRL never"),
    Case("dpo", _dpo("sppo_hard", beta=0.05), "sppo-hard", {"beta": 0.05}, scale=2.0, note="TRL does not halve"),
    Case("dpo", _dpo("sft"), "sft"),
    Case("kto", {}, "kto"),
    Case(
        "kto",
        {"desirable_weight": 1.33, "undesirable_weight": 0.8, "beta": 0.2},
        "kto",
        {"desirable": 1.33, "undesirable": 0.8, "beta": 0.2},
    ),
    Case("cpo", {"loss_type": "sigmoid"}, "cpo", {"sft": 1.0, "sft_reduction": "tokens"}),
    Case(
        "cpo",
        {"loss_type": "sigmoid", "label_smoothing": 0.1},
        "cpo",
        {"sft": 1.0, "sft_reduction": "tokens"},
        p=0.9,
        note="label smoothing is p = 0.9 on every edge",
    ),
    Case(
        "cpo",
        {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0},
        "simpo",
        {"beta": 2.0, "gamma_ratio": 0.5},
    ),
    Case(
        "cpo",
        {"loss_type": "hinge", "cpo_alpha": 0.0},
        "slic",
        {"delta": 10.0, "sft": 0.0},
        scale=0.1,
        note="ours has no beta: delta 1 / beta, and TRL's is beta times ours",
    ),
    Case(
        "orpo",
        {},
        "orpo",
        {"sft_reduction": "tokens"},
        differs=True,
        note="TRL's likelihood term is over prompt and response (its comment says so), ours over the response",
    ),
    Case(
        "orpo_ratio",
        {},
        "orpo",
        {"sft": 0.0},
        only=("float32",),
        note="the odds-ratio term alone, TRL's method on mean log-probabilities; TRL casts to float32",
    ),
    Case("reward", {}, "bradley-terry", {"centring": 0.0}, note="ours centres by 0.01 unless told not to"),
    Case("reward", {"margin": True}, "bradley-terry", {"centring": 0.0, "margin": "edges"}),
    Case("reward", {"center_rewards_coefficient": 0.01}, "bradley-terry", {"centring": 0.01}),
)

TRL_ONLY = (
    "exo_pair",
    "nca_pair",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "use_weighting (WPO)",
    "KTO's apo_zero_unpaired",
    "CPO's ipo and alpha (AlphaPO)",
    "TPO",
)
"""Losses of TRL 1.16 that have no counterpart here."""
