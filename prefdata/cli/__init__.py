"""The command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; a user's mistake is a sentence and exit code 1, not a traceback."""
    from prefdata.cli.app import app
    from prefdata.cli.screen import errors
    from prefdata.errors import PrefdataError

    try:
        app()
    except PrefdataError as error:
        errors.print(f"[bold red]error:[/] {_escaped(error)}")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written to
        errors.print(f"[bold red]error:[/] {_escaped(error)}")
        sys.exit(1)


def _escaped(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))
