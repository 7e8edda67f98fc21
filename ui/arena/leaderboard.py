"""The arena's leaderboard: Bradley-Terry ratings of models from the votes that stand in the dataset."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefdata.dataset import Dataset
from prefdata.stats.bradley_terry import bradley_terry

STORE = "arena"
"""The store that votes are labels of: their step is `labels:arena`."""

SCALE = 400 / math.log(10)
"""Rating points for one logit: on the Elo scale ten to one is 400."""

MEAN = 1000.0
_Z = 1.959963984540054


@dataclass(frozen=True)
class Game:
    """One vote.

    Attributes:
        left: the model whose answer was shown first.
        right: the other one.
        score: of the left one: 1 it is better, 0 the other is, 0.5 a tie or both bad.
        both_bad: said so.
    """

    left: str
    right: str
    score: float
    both_bad: bool = False


@dataclass(frozen=True)
class Standing:
    """A line of the leaderboard.

    Attributes:
        model: its name.
        rank: 1 and how many models are better beyond doubt: all that is said so holds together with 95 %.
        rating: Elo points around 1000.
        low: of the 95 % interval.
        high: of the 95 % interval.
        games: votes that count.
        wins: of these.
        ties: of these, both bad included.
        losses: of these.
    """

    model: str
    rank: int
    rating: float
    low: float
    high: float
    games: int
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Board:
    """The leaderboard.

    Attributes:
        standings: best first.
        games: votes that count.
        left_out: votes that do not: an answer was an error, or gave its model away.
        left_share: how often the answer on the left won, of votes with a winner; None without one.
        wins: the share of wins (ties half) of one model over another, and of how many votes, by their names.
        exact: the maximum likelihood exists; otherwise each model has played one more game, half won and half lost,
            against an average one, so that ratings stay finite.
    """

    standings: tuple[Standing, ...]
    games: int
    left_out: int
    left_share: float | None
    wins: dict[tuple[str, str], tuple[float, int]]
    exact: bool


def games_of(dataset: Dataset) -> tuple[list[Game], int]:
    """The votes in a dataset that count, and how many there are that do not."""
    view = dataset.view()
    said = (
        view["annotations"]
        .filter(pl.col("step") == f"labels:{STORE}", pl.col("protocol") == "compare", pl.col("source") == "human")
        .select("target_ids", "scores", "labels", "status", "meta")
        .collect()
    )
    wanted = said.select(pl.col("target_ids").explode().alias("response_id")).unique()
    found = view["responses"].select("response_id", "model").join(wanted.lazy(), on="response_id", how="semi").collect()
    models = dict(found.iter_rows())
    games: list[Game] = []
    for targets, scores, labels, status, meta in said.iter_rows():
        known = [models.get(one) for one in targets]
        counts = status == "ok" and scores is not None and len(targets) == 2 and json.loads(meta or "{}").get("counts")
        if counts and known[0] is not None and known[1] is not None and known[0] != known[1]:
            games.append(Game(known[0], known[1], scores[0], "both_bad" in (labels or ())))
    return games, said.height - len(games)


def board_of(games: Sequence[Game], left_out: int = 0) -> Board:
    """The leaderboard of votes.

    Ratings are 1000 + 400 log10 of the Bradley-Terry odds, mean 1000; a tie, and both bad, is half a win for each.
    Intervals come from the inverse information, which takes a tie's variance for that of a win: they are rather too
    wide than too narrow. GenAI-Arena (Jiang et al. 2024) and Chatbot Arena (Chiang et al. 2024) rate in this way. Ranks
    come from intervals of all differences together (`prefdata.stats.rank_sets`): among many models some pair always
    looks apart by its own interval.
    """
    names = sorted({name for game in games for name in (game.left, game.right)})
    decided = [game for game in games if game.score != 0.5]
    left_share = sum(game.score > 0.5 for game in decided) / len(decided) if decided else None
    if not names:
        return Board((), 0, left_out, None, {}, True)
    place = {name: number for number, name in enumerate(names)}
    fit = bradley_terry(
        [place[game.left] for game in games],
        [place[game.right] for game in games],
        p=[game.score for game in games],
        n=len(names),
    )
    half = _Z * SCALE * fit.standard_errors
    ranks = fit.ranks().low
    standings = []
    for name, at in place.items():
        rating = MEAN + SCALE * float(fit.values[at])
        own = [game.score if game.left == name else 1 - game.score for game in games if name in (game.left, game.right)]
        won, lost = sum(score > 0.5 for score in own), sum(score < 0.5 for score in own)
        spread = float(half[at])
        standings.append(
            Standing(
                name,
                int(ranks[at]),
                rating,
                rating - spread,
                rating + spread,
                len(own),
                won,
                len(own) - won - lost,
                lost,
            )
        )
    standings.sort(key=lambda one: (-one.rating, one.model))
    return Board(tuple(standings), len(games), left_out, left_share, _table(games, place), fit.prior == 0)


def _table(games: Sequence[Game], place: dict[str, int]) -> dict[tuple[str, str], tuple[float, int]]:
    """Share of wins and number of games of every two models that met."""
    won, met = np.zeros((len(place), len(place))), np.zeros((len(place), len(place)), dtype=int)
    for game in games:
        a, b = place[game.left], place[game.right]
        won[a, b] += game.score
        won[b, a] += 1 - game.score
        met[a, b] += 1
        met[b, a] += 1
    return {
        (one, other): (float(won[a, b] / met[a, b]), int(met[a, b]))
        for one, a in place.items()
        for other, b in place.items()
        if met[a, b]
    }
