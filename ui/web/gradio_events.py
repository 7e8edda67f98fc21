"""Which events a page has: Gradio answers a call of one that is not there with a traceback in the log."""

from __future__ import annotations

import json
from typing import Any


class GradioEvents:
    """The events of one page, by number and by name.

    Args:
        blocks: the page, built.
    """

    def __init__(self, blocks: Any) -> None:
        self._numbers = frozenset(blocks.fns)
        self._names = frozenset(one.api_name for one in blocks.fns.values() if isinstance(one.api_name, str))

    def offers(self, call: str, body: bytes) -> bool:
        """Whether a request calls an event of the page, or none at all.

        Args:
            call: the address below `gradio_api/`.
            body: of the request, JSON that was read before (`GradioFiles.may_all`).
        """
        kind, _, name = call.rstrip("/").partition("/")
        if kind not in ("run", "api", "call") and (kind, name) != ("queue", "join"):
            return True
        sent = json.loads(body or b"null")
        number = sent.get("fn_index") if isinstance(sent, dict) else None
        if number is not None and not (type(number) is int and number in self._numbers):
            return False
        named = name.rpartition("/")[2] in self._names
        return kind == "queue" or named or (kind != "call" and number is not None)
