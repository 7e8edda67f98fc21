"""The operators between import and export: one module each."""

from prefdata.operators import (
    aggregate,
    aggregate_bradley_terry,
    aggregate_majority,
    export,
    ingest,
    pair,
    report,
    rewrite_inject,
    sample,
    select,
    split,
)

__all__ = [
    "aggregate",
    "aggregate_bradley_terry",
    "aggregate_majority",
    "export",
    "ingest",
    "pair",
    "report",
    "rewrite_inject",
    "sample",
    "select",
    "split",
]
