"""The errors that a user may see. Each is a sentence: what was found, where, and what to do."""

from __future__ import annotations


class PrefdataError(Exception):
    """A mistake that can be put right by whoever reads the message; the command line prints it without a traceback."""


class DataError(PrefdataError):
    """Data that cannot be taken as it is: names file, row and column."""


class PipelineError(PrefdataError):
    """A pipeline that cannot run as it is written: names file, line, step and key."""


class EngineError(PrefdataError):
    """A model or server that cannot be used at all: stops the run, which keeps what it has."""


class BudgetSpentError(PrefdataError):
    """The budget of a run is spent: stops the run, which keeps what it has."""
