"""Whatever a step raises becomes a sentence that names the step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefdata.errors import BudgetSpentError, EngineError, PipelineError, PrefdataError
from prefdata.pipeline.step import Step

logger = logging.getLogger("prefdata.run")

LOG_HINT = " (the run's log has the traceback)"
"""What a message about a step's own failure ends with, where there is a log."""


def failure(step: Step, error: Exception, *, group_id: str = "", hint: str = LOG_HINT) -> str:
    """A sentence about what a step raised; the log gets the traceback of what is not ours."""
    named, where = f"step {step.name!r}", f" on group {group_id}" if group_id else ""
    if isinstance(error, PrefdataError):
        return str(error) if named in str(error) else f"{named}{where}: {error}"
    logger.error("%s%s", named, where, exc_info=error)
    return f"{named} failed{where}: {type(error).__name__}: {error}{hint}"


@contextmanager
def blamed(step: Step, hint: str = LOG_HINT) -> Iterator[None]:
    """Turn what the block raises into a PipelineError; what ends a run in good order passes."""
    try:
        yield
    except (BudgetSpentError, EngineError):
        raise
    except Exception as error:
        raise PipelineError(failure(step, error, hint=hint)) from error
