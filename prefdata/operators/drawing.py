"""Chance without a state: what is drawn depends on what it is drawn for, and on nothing else.

A draw among several is by rendezvous: each candidate gets a number from a hash of itself and of the key, and the best
numbers win. So a candidate that is added takes its share from the others, and changes no other draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from prefdata.schema import make_id


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^31) that depends on `parts` and on nothing else."""
    return int(make_id("seed", *parts)[:8], 16) & 0x7FFFFFFF


def share_of(*parts: object) -> float:
    """A number in the open interval (0, 1) that depends on `parts` alone, uniform over different parts."""
    return (int(make_id("share", *parts)[:13], 16) + 0.5) / 2**52


def drawn(weights: Mapping[str, float], n: int, *key: object) -> list[str]:
    """`n` different names, drawn one after the other in proportion to their weights, the first draw first.

    Each name's number is -ln(u) / weight with u from the hash of key and name; the smallest win (Efraimidis and
    Spirakis 2006, weighted sampling without replacement).

    Args:
        weights: by name, at least 0; a name of weight 0 is never drawn.
        n: how many; fewer where fewer names have a weight.
        key: what it is drawn for.
    """
    numbers = {name: -math.log(share_of(*key, name)) / weight for name, weight in weights.items() if weight > 0}
    return sorted(numbers, key=lambda name: (numbers[name], name))[:n]
