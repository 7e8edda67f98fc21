"""The command line."""

from __future__ import annotations

import errno
import sys
import warnings


def main() -> None:
    """Run a command; a user's mistake is a sentence and exit code 1, not a traceback."""
    from prefdata.cli.app import app
    from prefdata.cli.screen import errors
    from prefdata.errors import PrefdataError

    warnings.showwarning = lambda message, *_: errors.print(f"[bold]WARNING[/]: {_escaped(message)}")
    try:
        app()
    except PrefdataError as error:
        errors.print(f"[bold red]error:[/] {_escaped(error)}")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written to
        errors.print(f"[bold red]error:[/] {_escaped(error)}{_FULL if error.errno in _NO_ROOM else ''}")
        sys.exit(1)
    except Exception as error:
        if not _unreadable(error):
            raise
        errors.print(
            f"[bold red]error:[/] a part of the dataset cannot be read ({_escaped(error)}). Nothing else is touched: "
            "`prefdata verify DATASET` says which part it is, and what can be done"
        )
        sys.exit(1)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = ". There is no room left: what was committed is kept; make room, and run the same command again"


def _unreadable(error: Exception) -> bool:
    """Whether polars or pyarrow found a damaged Parquet file; they are asked only where they are loaded."""
    kinds = (("polars.exceptions", "PolarsError"), ("pyarrow", "ArrowException"))
    known = tuple(getattr(sys.modules[module], name) for module, name in kinds if module in sys.modules)
    return isinstance(error, known) and "parquet" in str(error).lower()


def _escaped(error: Exception | str) -> str:
    from rich.markup import escape

    return escape(str(error))
