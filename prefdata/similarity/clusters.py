"""Clusters: what pairs of like documents connect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefdata.similarity.hashing import IntArray
from prefdata.stats.components import components


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
    """What pairs connect of so many documents; no result depends on the order of the pairs.

    Args:
        count: how many documents.
        left: one of each pair.
        right: the other one.
    """
    part = components(count, left, right)
    _, least = np.unique(part, return_index=True)
    return Clusters(least[part].astype(np.int64), np.bincount(part)[part].astype(np.int64))
