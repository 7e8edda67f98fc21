"""Where commands write: results to standard output, all else to standard error."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table

_WIDE = 200
"""Columns where no terminal says how many there are: what goes into a file or a pipe is not to be folded."""

_told = sys.stdout.isatty() or "COLUMNS" in os.environ
output = Console(highlight=False, soft_wrap=True, width=None if _told else _WIDE)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `numbers` are aligned to the right."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made
