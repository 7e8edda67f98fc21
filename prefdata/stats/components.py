"""Connected components of a graph of contestants: who can be compared with whom, directly or through others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefdata.stats.coding import IntArray


def components(n: int, sources: NDArray[np.integer], targets: NDArray[np.integer], *, strong: bool = False) -> IntArray:
    """[n] the component of each of n nodes, numbered in the order of their first members.

    Args:
        n: how many nodes.
        sources: [m] where each edge begins, numbers below n; an edge may stand there several times.
        targets: [m] where it ends.
        strong: whether only those belong together that reach each other along the edges (a contestant who won every
            game has no finite strength); unless so, edges count both ways.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.asarray(sources, dtype=np.int64), np.asarray(targets, dtype=np.int64)
    graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(n, n)).tocsr()
    _, found = connected_components(graph, directed=strong, connection="strong" if strong else "weak")
    # Which number a component gets is SciPy's affair; the first members are not.
    _, first, number = np.unique(found, return_index=True, return_inverse=True)
    result: IntArray = np.argsort(np.argsort(first))[number].astype(np.int64)
    return result
