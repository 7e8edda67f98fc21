"""How a request can end without a reply, beyond `RequestError` itself."""

from __future__ import annotations

from prefdata.engines.base import RequestError


class UnreachableError(RequestError):
    """Nobody answered at the address: refused, unknown host, no route. Several in a row: the server is gone."""


class StoppedError(Exception):
    """The run is stopping: nothing new is sent. Never seen by users."""
