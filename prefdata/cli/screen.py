"""What commands share: where they write (results to standard output, all else to standard error), and their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

_WIDE = 200
"""Columns where no terminal says how many there are: what goes into a file or a pipe is not to be folded."""

_told = sys.stdout.isatty() or "COLUMNS" in os.environ
output = Console(highlight=False, emoji=False, soft_wrap=True, width=None if _told else _WIDE)
errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `numbers` are aligned to the right, and never folded."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column in numbers
        made.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return made


def short(text: str | None, limit: int) -> str:
    """A text on one line, cut at so many characters."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


@contextmanager
def trainer_errors() -> Iterator[None]:
    """The trainer's sentences as a `PrefdataError`: it runs where that class is not, and so has an error of its own."""
    from prefdata.errors import PrefdataError
    from prefdata.train.errors import TrainError

    try:
        yield
    except TrainError as error:
        raise PrefdataError(str(error)) from error
