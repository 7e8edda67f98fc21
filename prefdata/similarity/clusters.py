"""Clusters: what pairs of like documents connect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefdata.similarity.hashing import IntArray


@dataclass(frozen=True)
class Clusters:
    """Documents in clusters. Whoever is like nobody is a cluster of one.

    Attributes:
        labels: for each document the least number of its cluster. [n]
        sizes: for each document how many its cluster has. [n]
    """

    labels: IntArray
    sizes: IntArray

    @property
    def largest(self) -> int:
        """The size of the largest one; 0 where there is no document."""
        return int(self.sizes.max(initial=0))

    def names(self, ids: Sequence[str]) -> list[str]:
        """For each document the least id in its cluster: whatever order the documents came in, the same name.

        Args:
            ids: of the documents, all different.
        """
        order = sorted(range(len(ids)), key=lambda place: ids[place])
        least: dict[int, str] = {}
        for place in order:
            least.setdefault(int(self.labels[place]), ids[place])
        return [least[int(label)] for label in self.labels]


def clustered(count: int, left: IntArray, right: IntArray) -> Clusters:
    """The connected components of so many documents, by union over pairs.

    Each round hangs the larger root of a pair under the smaller one and shortens all paths; no result depends on the
    order of the pairs.

    Args:
        count: how many documents.
        left: one of each pair.
        right: the other one.
    """
    labels = np.arange(count, dtype=np.int64)
    a, b = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    while len(a):
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        open_ = low != high
        if not open_.any():
            break
        a, b = a[open_], b[open_]
        np.minimum.at(labels, high[open_], low[open_])
        while (shorter := labels[labels]).tobytes() != labels.tobytes():
            labels = shorter
    sizes = np.bincount(labels, minlength=count)[labels] if count else labels
    return Clusters(labels, sizes.astype(np.int64))
