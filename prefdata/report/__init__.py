"""Analysis of a dataset, as JSON and as one self-contained HTML page."""

from prefdata.report.analysis import analyse
from prefdata.report.write import write_report

__all__ = ["analyse", "write_report"]
