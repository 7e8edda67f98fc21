"""Who beat whom: every order that annotators state as one table of wins for each prompt and aspect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefdata.operators.aggregate.base import FloatArray, IntArray
from prefdata.operators.evidence import CONTEXT, compared, lists_of

_CELLS = 4_000_000
"""Cells of the tables that are held at once: bounds memory."""


@dataclass(frozen=True)
class Comparisons:
    """Every comparison of the responses to some prompts.

    Attributes:
        nodes: problem, target, node: the responses, sorted, numbered from 0.
        first: [m] nodes.
        second: [m] nodes, of the same problem.
        p: [m] P(first is better).
        weight: [m] of the annotator.
        votes: [nodes] in how many lists each response is compared with another.
    """

    nodes: pl.DataFrame
    first: IntArray
    second: IntArray
    p: FloatArray
    weight: FloatArray
    votes: IntArray

    def tables(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Problems of one size together: their nodes [b, k], and the weight of each one's wins over each [b, k, k].

        Responses that are compared with no other are left out. A tie is half a win for each.
        """
        problem = self.nodes["problem"].to_numpy()
        used = np.flatnonzero(self.votes > 0)
        begins = np.flatnonzero(np.diff(problem[used], prepend=-1))  # of each problem, among the used nodes
        sizes = np.diff(np.append(begins, len(used)))
        place = np.zeros(len(problem), dtype=np.int64)
        place[used] = np.arange(len(used)) - np.repeat(begins, sizes)
        which = np.searchsorted(problem[used][begins], problem[self.first])
        for k in np.unique(sizes).tolist():
            members = np.flatnonzero(sizes == k)
            at_once = max(_CELLS // (k * k), 1)
            for chunk in (members[start : start + at_once] for start in range(0, len(members), at_once)):
                here = np.flatnonzero((sizes[which] == k) & (which >= chunk[0]) & (which <= chunk[-1]))
                base = np.searchsorted(chunk, which[here]) * k * k
                i, j = place[self.first[here]], place[self.second[here]]
                w, p, cells = self.weight[here], self.p[here], len(chunk) * k * k
                wins = np.bincount(base + i * k + j, weights=w * p, minlength=cells).astype(np.float64)
                wins += np.bincount(base + j * k + i, weights=w * (1 - p), minlength=cells)
                yield used[begins[chunk][:, None] + np.arange(k)], wins.reshape(-1, k, k)


def comparisons_of(valid: pl.DataFrame, weight: Mapping[str, float]) -> Comparisons:
    """The comparisons that valid annotations state, see `evidence.compared`.

    Args:
        valid: annotations with scores, numbered by `problem`.
        weight: by annotator; 1 where none is given.
    """
    number = valid.select(*CONTEXT, "problem").unique(CONTEXT)
    lists = lists_of(valid)
    heads = lists.heads.join(number, on=CONTEXT, nulls_equal=True, how="left", maintain_order="left")
    entries = lists.entries.select("list", "target", problem=heads["problem"].gather(lists.entries["list"]))
    nodes = entries.select("problem", "target").unique().sort("problem", "target").with_row_index("node")
    on = ["problem", "target"]
    node = entries.join(nodes, on=on, how="left", maintain_order="left")["node"].to_numpy().astype(np.int64)
    first, second, p = compared(lists)
    heard = np.zeros(len(node), dtype=bool)
    heard[first] = heard[second] = True
    votes = np.bincount(node[heard], minlength=nodes.height)
    weights = heads["annotator"].replace_strict(dict(weight), default=1.0, return_dtype=pl.Float64)
    w = weights.gather(entries["list"].gather(first)).to_numpy()
    return Comparisons(nodes, node[first], node[second], p, w, votes.astype(np.int64))
