"""`judge.reward_votes`: how strongly several rewards agree with the label of each pair."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from prefdata.operators.relabel.pairs import gaps, require_numbers, response_numbers
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context
from prefdata.stats.denoise import reward_votes

from .pair_measures import WholePairMeasure, name_of_all


@step("judge.reward_votes")
class RewardVotes(WholePairMeasure):
    """The preference strength of each pair: what an ensemble of rewards makes of its label.

    A member is an annotator with scores of both responses; its margin, the preferred response's score less the other's,
    is divided by the standard deviation of all its margins, because scales differ. Measures of the preference:
    `strength` (mean), `strength_std` (population standard deviation) and `strength_agree` (share of members above 0).
    `relabel.flip`, `relabel.soften` and `relabel.margin` read the strength; a large spread with a positive mean is
    disagreement, not noise. Pairs that no member scored, or fewer than `least`, are abstained from.

    A member that was trained on the pairs it scores looks too sure of them: use members that were trained on other
    folds, as `prefdata score` of cross-fitted reward models gives them.

    Source: Wang et al. 2024, Secrets of RLHF in Large Language Models Part II: Reward Modeling, section 2.
    """

    members: tuple[str, ...] = Field(
        ("reward:*",), min_length=1, description="Whose scores of responses count (`*` stands for any text)."
    )
    aspects: tuple[str, ...] = Field((), description="Only scores under these aspects; all unless given.")
    normalise: bool = Field(True, description="Divide each member's margins by their standard deviation.")
    least: int = Field(1, ge=1, description="Members that must have scored a pair.")

    def measures(self, pairs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], context: Context) -> list[pl.DataFrame]:
        """Strength, spread and agreement."""
        if not pairs.is_empty():
            require_numbers(
                tables["annotations"],
                where=self.kind,
                aspects=self.aspects,
                annotators=self.members,
                target="response",
                protocols=["score"],
            )
        numbers = response_numbers(tables["annotations"], annotators=self.members, aspects=self.aspects)
        found = gaps(pairs, numbers)
        names = found["member"].unique().sort().to_list()
        place = {pair: at for at, pair in enumerate(pairs["preference_id"])}
        margins = np.full((len(names), pairs.height), np.nan)
        rows = np.array([names.index(name) for name in found["member"]] if names else [], dtype=np.int64)
        columns = np.array([place[pair] for pair in found["preference_id"]], dtype=np.int64)
        margins[rows, columns] = found["gap"].to_numpy()
        votes = reward_votes(margins, normalise=self.normalise)
        for name, scale in zip(names, votes.scales, strict=True):
            silent = "gives all pairs one margin and is left out" if np.isnan(scale) else f"margins over {scale:g}"
            context.log(f"member {name}: {silent}")
        enough = votes.members >= self.least
        if not enough.all():
            context.log(f"{int((~enough).sum()):,} pairs have fewer than {self.least} members: no strength")
        values = {"strength": votes.values, "strength_std": votes.std, "strength_agree": votes.agree}
        read = name_of_all(pairs.select("preference_id"), pl.DataFrame({"member": names}), margins)
        return self.said(
            pairs,
            {aspect: np.where(enough, number, np.nan) for aspect, number in values.items()},
            annotator="reward:votes",
            source="reward",
            read=read,
        )
