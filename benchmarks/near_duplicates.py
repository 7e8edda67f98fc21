"""Near-duplicate texts: our two joins, a floor in plain polars, and datasketch and rensa where they are installed.

Made texts: 80,000 of 30 to 80 words drawn from 20,000 by a Zipf-like law, and 20,000 copies of random ones in which 1
to 6 words were drawn anew. Sought is every pair whose word 3-grams have a Jaccard similarity of 0.7 or more. What is
right comes from Python's own sets, over all pairs of texts that go back to one original: two texts that do not share
one have next to nothing in common.

    python -m benchmarks.near_duplicates [CASE ...]     # each case in a process of its own
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

Pairs = set[tuple[int, int]]

THRESHOLD, N = 0.7, 3
ORIGINALS, COPIES, VOCABULARY = 80_000, 20_000, 20_000


def made(seed: int = 0, originals: int = ORIGINALS, copies: int = COPIES) -> tuple[list[str], list[list[int]]]:
    """The texts, and the families of those that go back to one original (with more than one member)."""
    draw = np.random.default_rng(seed)
    chance = 1 / (np.arange(VOCABULARY) + 10.0)
    chance /= chance.sum()
    words = np.array([f"w{number:05}" for number in range(VOCABULARY)])
    drawn = [draw.choice(VOCABULARY, size=draw.integers(30, 81), p=chance) for _ in range(originals)]
    families: defaultdict[int, list[int]] = defaultdict(list)
    for _ in range(copies):
        original = int(draw.integers(originals))
        copy, edits = drawn[original].copy(), int(draw.integers(1, 7))
        copy[draw.integers(0, len(copy), size=edits)] = draw.choice(VOCABULARY, size=edits, p=chance)
        families[original].append(len(drawn))
        drawn.append(copy)
    texts = [" ".join(words[listed]) for listed in drawn]
    return texts, [[original, *listed] for original, listed in families.items()]


def right(texts: list[str], families: Iterable[list[int]]) -> Pairs:
    """Every pair of one family at or above the threshold, by Python's sets."""

    def grams(text: str) -> set[tuple[str, ...]]:
        listed = text.split()
        return set(zip(*(listed[start:] for start in range(N)), strict=False))

    found = set()
    for family in families:
        sets = {place: grams(texts[place]) for place in family}
        for a, b in itertools.combinations(sorted(family), 2):
            if len(sets[a] & sets[b]) >= THRESHOLD * len(sets[a] | sets[b]) - 1e-9:
                found.add((a, b))
    return found


def exact(texts: list[str]) -> Pairs:
    """Ours: the prefix-filter join."""
    return _ours(texts, "exact")


def minhash(texts: list[str]) -> Pairs:
    """Ours: MinHash, 25 bands of 5 rows, candidates measured."""
    return _ours(texts, "minhash")


def _ours(texts: list[str], join: str) -> Pairs:
    from prefdata.similarity import near_duplicates, shingle_sets

    near = near_duplicates(shingle_sets(texts, N, form="raw"), THRESHOLD, join=join)  # type: ignore[arg-type]
    left, right_, _ = near.pairs()
    return set(zip(left.tolist(), right_.tolist(), strict=True))


def floor(texts: list[str]) -> Pairs:
    """The prefix-filter join in plain polars, for texts of 3 words or more; nothing else is done."""
    import polars as pl

    words = pl.DataFrame({"text": texts}).with_row_index("doc").select("doc", pl.col("text").str.split(" ").alias("w"))
    each = words.explode("w").with_columns(pl.col("w").hash(0))
    gram = pl.col("w") * 3 + pl.col("w").shift(-1) * 5 + pl.col("w").shift(-2) * 7
    inside = pl.col("doc") == pl.col("doc").shift(-2)
    grams = each.lazy().select("doc", g=pl.when(inside).then(gram)).drop_nulls().unique().collect()
    often = grams.group_by("g").len("often")
    sizes = grams.group_by("doc").len("size")
    rows = grams.join(often, on="g").join(sizes, on="doc").sort("doc", "often", "g")
    place = pl.int_range(pl.len()).over("doc")
    prefix = pl.col("size") - (pl.col("size") * THRESHOLD - 1e-9).ceil() + 1
    head = rows.filter((place < prefix) & (pl.col("often") > 1)).select("doc", "g", "size")
    pairs = (
        head.lazy()
        .join(head.lazy(), on="g", suffix="_b")
        .filter(
            (pl.col("doc") < pl.col("doc_b"))
            & (pl.min_horizontal("size", "size_b") >= THRESHOLD * pl.max_horizontal("size", "size_b"))
        )
        .select("doc", "doc_b", "size", "size_b")
        .unique()
        .collect()
    )
    common = rows.filter(pl.col("often") > 1).select("doc", "g")
    shared = (
        pairs.lazy()
        .join(common.lazy(), on="doc")
        .join(common.lazy(), left_on=["doc_b", "g"], right_on=["doc", "g"], how="semi")
        .group_by("doc", "doc_b")
        .agg(both=pl.len(), all=pl.col("size").first() + pl.col("size_b").first())
        .filter(pl.col("both") >= THRESHOLD * (pl.col("all") - pl.col("both")) - 1e-9)
        .collect()
    )
    return set(zip(shared["doc"].to_list(), shared["doc_b"].to_list(), strict=True))


def datasketch(texts: list[str]) -> Pairs:
    """MinHashLSH(0.7, 128) over signatures made in bulk; candidates as they come."""
    from datasketch import MinHash, MinHashLSH

    def grams(text: str) -> list[bytes]:
        listed = text.split()
        return [" ".join(gram).encode() for gram in zip(*(listed[start:] for start in range(N)), strict=False)]

    signed = MinHash.bulk([grams(text) for text in texts], num_perm=128)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    found = set()
    for number, one in enumerate(signed):
        found.update((other, number) for other in index.query(one))
        index.insert(number, one)
    return found


def rensa(texts: list[str]) -> Pairs:
    """RMinHash of 128 numbers, 16 bands, candidates kept by its own estimate."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(THRESHOLD, 128, 16)
    signed = []
    found = set()
    for number, text in enumerate(texts):
        listed = text.split()
        one = RMinHash(128, 42)
        one.update([" ".join(gram) for gram in zip(*(listed[start:] for start in range(N)), strict=False)])
        found.update((other, number) for other in index.query(one) if signed[other].jaccard(one) >= THRESHOLD)
        index.insert(number, one)
        signed.append(one)
    return found


CASES: dict[str, Callable[[list[str]], Pairs]] = {
    "exact": exact,
    "minhash": minhash,
    "floor": floor,
    "datasketch": datasketch,
    "rensa": rensa,
}
"""What there is to run; a peer that is not installed raises ImportError."""


def measured(case: str) -> dict[str, float | int | str]:
    """CPU and wall seconds of one case in this process, and what it found."""
    texts, families = made()
    wanted = right(texts, families)
    before, started = _cpu(), time.perf_counter()
    found = CASES[case](texts)
    cpu, wall = _cpu() - before, time.perf_counter() - started
    return {
        "case": case,
        "cpu": round(cpu, 2),
        "wall": round(wall, 2),
        "right": len(wanted),
        "recall": round(len(found & wanted) / len(wanted), 4),
        "precision": round(len(found & wanted) / max(len(found), 1), 4),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run each case in a process of its own, and print a line for each."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(json.dumps(measured(sys.argv[2])))
        return
    for case in sys.argv[1:] or CASES:
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.near_duplicates", "--one", case],
            capture_output=True,
            text=True,
            check=False,
        )
        told = ran.stderr.strip().splitlines()
        print(ran.stdout.strip() if ran.returncode == 0 else f"{case}: {told[-1] if told else 'failed'}", flush=True)


if __name__ == "__main__":
    main()
