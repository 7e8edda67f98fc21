"""A reward head on frozen sentence embeddings: which of two arguments is more convincing, on debates not seen.

Used by real_training.py. Arguments and pairs are UKPConvArg1's; the vectors are MiniLM's, through our engine; the head
is one linear layer, trained with our loss `bradley-terry`.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

EMBEDDER = "all-minilm-l6-v2"
HELD_OUT_DEBATES = 2
STEPS, RATE, DECAY = 300, 0.05, 0.02


@dataclass(frozen=True)
class Pair:
    """Two arguments on one side of a debate, and which people found more convincing."""

    debate: str
    first: str
    second: str
    first_wins: bool


@dataclass(frozen=True)
class HeadResult:
    """Accuracies on the held-out debates of one seed.

    Attributes:
        seed: of the choice of debates and of the head's start.
        pairs: held out.
        head: of the trained head; ties count half.
        untrained: of the head before training.
        majority: of the answer (first or second) that is more frequent in training.
        longer: of the longer argument.
    """

    seed: int
    pairs: int
    head: float
    untrained: float
    majority: float
    longer: float


def read_pairs(data: Path) -> list[Pair]:
    """All pairs with a winner; ties and pairs without a label are left out."""
    arguments = pq.read_table(data / "ukpconvarg1_arguments.parquet", columns=["topic", "arg_id", "text"]).to_pylist()
    text = {(row["topic"], row["arg_id"]): row["text"] for row in arguments}
    return [
        Pair(
            row["topic"].split("_")[0],
            text[row["topic"], row["arg1"]],
            text[row["topic"], row["arg2"]],
            row["gold_label"] == "a1",
        )
        for row in pq.read_table(data / "ukpconvarg1_pairs.parquet").to_pylist()
        if row["gold_label"] in ("a1", "a2")
    ]


def embed(texts: Sequence[str]) -> dict[str, list[float]]:
    """A vector of length 1 for each text, through the engine that pipelines use."""
    from prefdata.engines.base import Request
    from prefdata.engines.embedder import EmbedderConfig, EmbedderEngine

    engine = EmbedderEngine("embedder", EmbedderConfig(model=EMBEDDER))
    waiting = sorted(dict.fromkeys(texts), key=len)
    vectors: dict[str, list[float]] = {}
    for start in range(0, len(waiting), 32):
        batch = waiting[start : start + 32]
        asked = [engine.prepare(Request(capability="embed", texts=(text,))) for text in batch]
        for text, reply in zip(batch, engine.answer(asked), strict=True):
            vectors[text] = list(reply.values or ())
    return vectors


def train_head(pairs: Sequence[Pair], vectors: dict[str, list[float]], seed: int) -> HeadResult:
    """Train on the debates that the seed leaves in, and judge the pairs of the others."""
    import torch

    debates = sorted({pair.debate for pair in pairs})
    choices = list(combinations(debates, HELD_OUT_DEBATES))
    random.Random(0).shuffle(choices)
    held = set(choices[seed % len(choices)])
    training = [pair for pair in pairs if pair.debate not in held]
    testing = [pair for pair in pairs if pair.debate in held]
    torch.manual_seed(seed)
    head = torch.nn.Linear(len(next(iter(vectors.values()))), 1)
    untrained = _accuracy(head, testing, vectors)
    _fit(head, training, vectors)
    frequent = Counter(pair.first_wins for pair in training).most_common(1)[0][0]
    return HeadResult(
        seed=seed,
        pairs=len(testing),
        head=_accuracy(head, testing, vectors),
        untrained=untrained,
        majority=statistics.fmean(float(pair.first_wins == frequent) for pair in testing),
        longer=statistics.fmean(_longer(pair) for pair in testing),
    )


def _fit(head: Any, pairs: Sequence[Pair], vectors: dict[str, list[float]]) -> None:
    """Whole-batch AdamW on `bradley-terry`, as the registry has it."""
    import torch

    from prefdata.train.losses import Batch, Outputs, find_loss

    count = len(pairs)
    ranks = torch.tensor([[1, 2]] * count)
    one = torch.ones(count)
    batch = Batch(
        mask=torch.ones(count, 2, dtype=torch.bool),
        length=torch.ones(count, 2, dtype=torch.int64),
        scores=-ranks.float(),
        ranks=ranks,
        labels=torch.full((count, 2), torch.nan),
        weight=one,
        edge=torch.tensor([[number, 0, 1] for number in range(count)]),
        p=one,
        margin=torch.full((count,), torch.nan),
        edge_weight=one,
        votes=torch.full((count,), torch.nan),
        sft=torch.zeros(count, 2, dtype=torch.bool),
    )
    ordered = [(p.first, p.second) if p.first_wins else (p.second, p.first) for p in pairs]
    inputs = torch.tensor([[vectors[win], vectors[lose]] for win, lose in ordered])
    spec = find_loss("bradley-terry")
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimiser.zero_grad()
        spec(Outputs(reward=head(inputs)), batch).backward()
        optimiser.step()


def _accuracy(head: Any, pairs: Sequence[Pair], vectors: dict[str, list[float]]) -> float:
    import torch

    with torch.no_grad():
        scores = [head(torch.tensor([vectors[pair.first], vectors[pair.second]])).flatten().tolist() for pair in pairs]
    right = [
        0.5 if first == second else float((first > second) == pair.first_wins)
        for pair, (first, second) in zip(pairs, scores, strict=True)
    ]
    return statistics.fmean(right)


def _longer(pair: Pair) -> float:
    gap = len(pair.first) - len(pair.second)
    return 0.5 if not gap else float((gap > 0) == pair.first_wins)


def head_page(data: Path, seeds: int) -> list[str]:
    """The section of the page."""
    pairs = read_pairs(data)
    vectors = embed([text for pair in pairs for text in (pair.first, pair.second)])
    found = [train_head(pairs, vectors, seed) for seed in range(seeds)]
    lines = ["## A reward head on frozen embeddings", ""]
    lines.append(
        f"UKPConvArg1, {len(pairs):,} pairs with a winner, MiniLM's vectors ({len(vectors)} arguments), one linear "
        f"layer, `bradley-terry`, {STEPS} whole-batch steps. Each seed holds out {HELD_OUT_DEBATES} of 6 debates, both "
        "sides of each (seeds share debates, so they are not independent); nothing was chosen by their results."
    )
    lines += ["", "| seed | held-out pairs | head | before training | majority | the longer one |", "|" + "---|" * 6]
    for one in found:
        shares = (one.head, one.untrained, one.majority, one.longer)
        lines.append(f"| {one.seed} | {one.pairs} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    columns = {name: [getattr(one, name) for one in found] for name in ("head", "untrained", "majority", "longer")}
    means = " | ".join(mean_and_spread(values) for values in columns.values())
    lines.append(f"| mean +- s.d. | | {means} |")
    gains = {name: [own - other for own, other in zip(columns["head"], columns[name], strict=True)] for name in columns}
    for name, said in (("majority", "the majority baseline"), ("longer", "the longer argument")):
        lines += ["", f"Against {said}: {verdict(gains[name])}"]
    return lines


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):.3f} +- {spread:.3f}"


T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t by degrees of freedom, two-sided 95%."""


def verdict(gains: Sequence[float]) -> str:
    """Whether a mean gain over seeds stands out of their spread (Student's t, 95%), in words."""
    count, mean = len(gains), statistics.fmean(gains)
    if count < 2:
        return f"{mean:+.3f} on one seed: no spread is known."
    half = T_95.get(count - 1, 1.96) * statistics.stdev(gains) / math.sqrt(count)
    says = "outside seed noise" if abs(mean) > half else "within seed noise"
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] over {count} seeds: {says}."
