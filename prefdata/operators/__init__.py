"""The operators between import and export: one module each."""

from prefdata.operators import (
    aggregate,
    condition,
    export,
    ingest,
    pair,
    pair_models,
    pair_refined,
    report,
    rewrite,
    rewrite_corrupt,
    rewrite_inject,
    rewrite_refine,
    sample,
    select,
    split,
)

__all__ = [
    "aggregate",
    "condition",
    "export",
    "ingest",
    "pair",
    "pair_models",
    "pair_refined",
    "report",
    "rewrite",
    "rewrite_corrupt",
    "rewrite_inject",
    "rewrite_refine",
    "sample",
    "select",
    "split",
]
