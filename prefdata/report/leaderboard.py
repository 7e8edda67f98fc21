"""Which model's responses win: Bradley-Terry ratings with intervals, and the ranks that they leave possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.report.decided import CONSENSUS
from prefdata.report.numbers import Entry, share
from prefdata.report.verdicts import Verdicts
from prefdata.stats import bradley_terry
from prefdata.stats.components import components
from prefdata.stats.estimate import normal_quantile
from prefdata.stats.ranks import rank_sets

MOST_MODELS = 60
"""Those with the most comparisons; a table of all couples has to be held."""

MOST_BOARDS = 12

FEWEST_PROMPTS = 10
"""Of fewer prompts the intervals take each comparison for an independent one."""

PEOPLE, JUDGES = "people", "judges"


def leaderboard(
    view: Mapping[str, pl.LazyFrame], verdicts: Verdicts, members: Sequence[str], notes: list[str]
) -> list[Entry] | None:
    """A board for each aspect, by the reference (`people`) and by all other annotators but consensus (`judges`).

    Every annotator's verdict on a pair by two models is a game, a tie half a win for each. Models that no chain of
    games connects are rated apart: nothing says which of them are better.

    Args:
        view: the live tables.
        verdicts: see `verdicts_of`.
        members: the reference annotators.
        notes: gets a sentence on what was left out.

    Returns:
        {aspect, by, annotators, games, ties (a share), prompts, groups (of connected models), prior (of the largest
        one; 0: plain maximum likelihood), same_model (games between two responses of one model, not counted), models:
        {model, group, value, low, high (logits, mean 0 in its group), rank ([first, last] that is possible, all of
        them together with 95% confidence), win (share of its games, ties half), games, undecided
        (won or lost all its games with some others, so that the prior alone keeps its rating finite)} best first,
        couples: {a, b (positions in models, a before b), share (a's, ties half), n}}. None where no two models met.
    """
    said = verdicts.by_annotator.filter(pl.col("source") != CONSENSUS)
    inside = pl.col("annotator").is_in(list(members))
    said = said.with_columns(by=pl.when(inside).then(pl.lit(PEOPLE)).otherwise(pl.lit(JUDGES)))
    written = view["responses"].select("response_id", "model").collect()
    for side in ("first", "second"):
        named = written.rename({"response_id": side, "model": f"model_{side}"})
        said = said.join(named, on=side, how="left", maintain_order="left")
    said = said.drop_nulls(["model_first", "model_second"])
    found = []
    for (aspect, by), rows in said.partition_by("aspect", "by", as_dict=True, maintain_order=True).items():
        games = rows.filter(pl.col("model_first") != pl.col("model_second"))
        if games.height:
            found.append((str(aspect), str(by), games, rows.height - games.height))
    found.sort(key=lambda one: (-one[2].height, one[0], one[1]))
    found = sorted(found[:MOST_BOARDS], key=lambda one: (one[1] != PEOPLE, -one[2].height, one[0]))
    return [_board(*one, notes) for one in found] or None


def _board(aspect: str, by: str, games: pl.DataFrame, same: int, notes: list[str]) -> Entry:
    games = _most_seen(games, aspect, notes)
    names = pl.concat([games["model_first"], games["model_second"]]).unique().sort().to_list()
    place = {name: at for at, name in enumerate(names)}
    first, second = (
        games[f"model_{side}"].replace_strict(place, return_dtype=pl.Int64).to_numpy() for side in ("first", "second")
    )
    p = (games["verdict"].cast(pl.Float64).to_numpy() + 1) / 2
    clusters = games["group_id"].rank("dense").fill_null(0).to_numpy()
    n = len(names)
    won = np.bincount(first * n + second, weights=p, minlength=n * n).reshape(n, n)
    won += np.bincount(second * n + first, weights=1 - p, minlength=n * n).reshape(n, n)
    met = np.bincount(first * n + second, minlength=n * n).reshape(n, n)
    met = met + met.T
    groups = connected(met > 0)
    models: list[Entry] = []
    priors: dict[int, float] = {}
    for group in range(int(groups.max()) + 1):
        inside = np.flatnonzero(groups == group)
        here = np.isin(first, inside)
        rated, priors[group] = _rated(inside, first[here], second[here], p[here], clusters[here])
        models += [
            {
                "model": names[at],
                "group": group,
                **entry,
                "win": won[at].sum() / met[at].sum(),
                "games": int(met[at].sum()),
            }
            for at, entry in zip(inside, rated, strict=True)
        ]
    models.sort(key=lambda one: (one["group"], -one["value"], one["model"]))
    order = [place[one["model"]] for one in models]
    return {
        "aspect": aspect,
        "by": by,
        "annotators": games["annotator"].n_unique(),
        "games": games.height,
        "ties": share(int((p == 0.5).sum()), games.height),
        "prompts": games["prompt_id"].n_unique(),
        "groups": int(groups.max()) + 1,
        "prior": priors[0],
        "same_model": same,
        "models": models,
        "couples": [
            {"a": i, "b": j, "share": won[a, b] / met[a, b], "n": int(met[a, b])}
            for i, a in enumerate(order)
            for j, b in enumerate(order)
            if i < j and met[a, b]
        ],
    }


def _most_seen(games: pl.DataFrame, aspect: str, notes: list[str]) -> pl.DataFrame:
    """The games between the MOST_MODELS models with the most games."""
    both = pl.concat([games["model_first"], games["model_second"]]).alias("model")
    counts = both.value_counts().sort(["count", "model"], descending=[True, False])
    if counts.height > MOST_MODELS:
        notes.append(f"The leaderboard of {aspect} shows {MOST_MODELS} of {counts.height:,} models.")
        kept = counts.head(MOST_MODELS)["model"].implode()
        games = games.filter(pl.col("model_first").is_in(kept) & pl.col("model_second").is_in(kept))
    return games.sort("prompt_id", "first", "second", "annotator", nulls_last=True)


def connected(met: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[n] the group of each model that games connect, the largest group 0."""
    part = components(len(met), *np.nonzero(met))
    rank = np.argsort(np.argsort(-np.bincount(part), kind="stable"))
    return np.asarray(rank[part], dtype=np.int64)


def _rated(
    inside: NDArray[Any], first: NDArray[Any], second: NDArray[Any], p: NDArray[Any], clusters: NDArray[Any]
) -> tuple[list[Entry], float]:
    """Ratings of the models of one group, and the prior."""
    first, second = np.searchsorted(inside, first), np.searchsorted(inside, second)
    many = len(np.unique(clusters))
    if many >= FEWEST_PROMPTS:
        fit = bradley_terry(first, second, p=p, n=len(inside), clusters=clusters, method="dense")
        scale = many / (many - 1)
    else:  # how prompts differ cannot be seen from so few
        fit = bradley_terry(first, second, p=p, n=len(inside), method="dense")
        scale = 1.0
    assert fit.covariance is not None  # the dense method has it
    covariance = scale * fit.covariance
    half = normal_quantile(0.95) * np.sqrt(np.clip(np.diag(covariance), 0, None))
    ranks = rank_sets(fit.values, covariance)
    strong = np.bincount(fit.components, minlength=int(fit.components.max()) + 1)
    main = int(strong.argmax())
    entries = [
        {
            "value": float(fit.values[at]),
            "low": float(fit.values[at] - half[at]),
            "high": float(fit.values[at] + half[at]),
            "rank": [int(ranks.low[at]), int(ranks.high[at])],
            "undecided": bool(fit.prior > 0 and (fit.components[at] != main or strong[main] == 1)),
        }
        for at in range(len(inside))
    ]
    return entries, float(fit.prior)
