"""The operators between import and export: one module each."""

from prefdata.operators import aggregate, export, ingest, pair, report, sample, select, split

__all__ = ["aggregate", "export", "ingest", "pair", "report", "sample", "select", "split"]
