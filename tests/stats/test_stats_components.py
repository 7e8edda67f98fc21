"""Connected components: by hand, against paths found one by one, and where edges repeat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats.components import components


def test_by_hand() -> None:
    sources, targets = np.array([3, 4, 1]), np.array([4, 3, 0])
    assert components(6, sources, targets).tolist() == [0, 0, 1, 2, 2, 3]
    assert components(6, sources, targets, strong=True).tolist() == [0, 1, 2, 3, 3, 4]


def test_without_nodes_or_edges() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert components(0, none, none).tolist() == []
    assert components(3, none, none, strong=True).tolist() == [0, 1, 2]


@pytest.mark.parametrize("times", [256, 65_536])
def test_an_edge_that_stands_there_often_is_an_edge(times: int) -> None:
    """Counted in a few bits, so many would be none."""
    assert components(2, np.zeros(times, dtype=np.int64), np.ones(times, dtype=np.int64)).tolist() == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12), st.booleans())
def test_those_belong_together_that_reach_each_other(edges: list[tuple[int, int]], strong: bool) -> None:
    reach = np.eye(7, dtype=bool)
    for i, j in edges:
        reach[i, j] = True
        reach[j, i] |= not strong
    for middle in range(7):
        reach |= reach[:, [middle]] & reach[[middle], :]
    found = components(7, np.array([i for i, _ in edges]), np.array([j for _, j in edges]), strong=strong)
    assert ((found[:, None] == found[None, :]) == (reach & reach.T)).all()
    assert list(dict.fromkeys(found.tolist())) == list(range(found.max() + 1))
