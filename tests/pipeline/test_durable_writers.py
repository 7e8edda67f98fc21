"""Several processes commit to one dataset while another reads it. benchmarks/writers.py does it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from writers_line import doctored, problems, run_writers

pytestmark = pytest.mark.slow


def test_nothing_is_lost_and_nothing_is_seen_by_halves(tmp_path: Path) -> None:
    ledgers = run_writers(tmp_path / "ds", tmp_path / "ledgers", writers=3, seconds=3.0)
    assert not problems(tmp_path / "ds", ledgers)
    *writers, reader = ledgers
    assert all(len(one.commits) >= 2 and one.label_commits >= 2 for one in writers) and reader.reads >= 2
    assert max(max(one.labels.values()) for one in writers) > 1  # a label was corrected while others wrote
    seen = {what: problems(tmp_path / "ds", ledgers) for what in doctored(tmp_path / "ds")}
    assert len(seen) == 3 and all(seen.values())
    assert not problems(tmp_path / "ds", ledgers)
