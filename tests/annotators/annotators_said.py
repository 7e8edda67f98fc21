"""What tests of judges share: running a step, and reading a question as somebody who trusts the mark alone."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from prefdata.schema import Rows, check_annotations


def run(step: Any, bench: Any) -> Rows:
    """The rows that a step makes, checked."""
    rows: Rows = asyncio.run(step.run(bench.group, bench.context))
    check_annotations(rows.get("annotations", []), "test")
    return rows


def mark_of(text: str) -> str:
    """The mark that the warning names."""
    found = re.search(r"between two lines that hold \[([0-9a-f]{8})\]\.", text)
    assert found is not None
    return found[1]


def blocks(text: str) -> dict[str, str]:
    """The blocks between marks, by heading; nothing else may hold the mark but the warning."""
    mark = mark_of(text)
    found = re.findall(rf"([^\n]+):\n\[{mark}\]\n(.*?)\n\[{mark}\]", text, re.DOTALL)
    assert text.count(mark) == 2 * len(found) + 1
    return dict(found)
