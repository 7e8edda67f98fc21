"""`aggregate`: many annotations of the same responses become one, and what is known of who made them."""

from prefdata.operators.aggregate import (
    agreeing,
    annotator_bradley_terry,
    bradley_terry,
    crowd,
    direction,
    gated,
    joint,
    majority,
    mean,
    plackett_luce,
    self_consistency,
    transform,
    veto,
    vote,
    win_proportion,
)

__all__ = [
    "agreeing",
    "annotator_bradley_terry",
    "bradley_terry",
    "crowd",
    "direction",
    "gated",
    "joint",
    "majority",
    "mean",
    "plackett_luce",
    "self_consistency",
    "transform",
    "veto",
    "vote",
    "win_proportion",
]
