"""`pair.refined`: a rewritten response against the one it was made from, and nobody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from prefdata.operators.pair import tell
from prefdata.operators.pair_unjudged import COLUMNS, params_of, stated, usable
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, TableStep
from prefdata.schema import Row

_WORSE = ("corrupt", "truncate")
_BETTER = ("refine",)


@step("pair.refined")
class Refined(TableStep):
    """Prefer rewritten responses to what they were made from, or the other way round: preferences without a judge.

    A rewritten response names its parent, which makes chains: first version, second, ... Of each chain:

    - `first_last`: the last version against the first.
    - `adjacent`: each version against the one it was made from.
    - `all`: each version against each one before it.

    `better: child` takes refinements, `better: parent` what `rewrite.corrupt` made; `kinds` names others by their
    `params.rewrite` (refine, rephrase, corrupt, truncate). Versions with the same text (whitespace apart) are never
    paired. That the later version is the better one holds on average, not for each response.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"responses", "prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"preferences"})
    columns: ClassVar[Mapping[str, Sequence[str]]] = {"responses": COLUMNS, "prompts": ()}
    ordered: ClassVar[bool] = False
    narrows: ClassVar[str | None] = "responses"

    rule: Literal["first_last", "adjacent", "all"] = Field("first_last", description="Which versions are paired.")
    better: Literal["child", "parent"] = Field("child", description="Which side is preferred.")
    kinds: tuple[str, ...] = Field(
        (),
        description="Only versions that were rewritten so; refine (child), corrupt and truncate (parent) by default.",
    )

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences; what gave none is counted in the log."""
        rows = usable(tables["responses"]).select(
            "group_id", "prompt_id", "response_id", "parent_id", "params", "content"
        )
        kinds = self.kinds or (_BETTER if self.better == "child" else _WORSE)
        rewritten = rows.filter(pl.col("parent_id").is_not_null())
        how = {params: params_of(params).get("rewrite") in kinds for params in rewritten["params"].unique()}
        rewritten = rewritten.filter(pl.Series([how[params] for params in rewritten["params"]], dtype=pl.Boolean))
        known = rewritten.join(rows, left_on="parent_id", right_on="response_id", how="semi")
        reasons = Counter({"missing parent": rewritten.height - known.height})
        pairs = pl.DataFrame(
            self._pairs(dict(known.select("response_id", "parent_id").iter_rows())),
            schema={"new": pl.String, "old": pl.String},
            orient="row",
        )
        new = pairs.join(rows, left_on="new", right_on="response_id", maintain_order="left")
        both = new.join(rows, left_on="old", right_on="response_id", suffix="_old", maintain_order="left")
        shared = both.filter(pl.col("prompt_id") == pl.col("prompt_id_old"))
        kept = shared.filter(pl.col("content") != pl.col("content_old"))
        reasons["other prompt"], reasons["same text"] = both.height - shared.height, shared.height - kept.height
        tell(reasons, context)
        ends = ("new", "old") if self.better == "child" else ("old", "new")
        return {"preferences": stated(kept.with_columns(response_ids=pl.concat_list(*ends)), "refined")}

    def _pairs(self, parents: Mapping[str, str]) -> list[tuple[str, str]]:
        """Each pair of a version and an older one, by id."""
        made_from = set(parents.values())
        found: list[tuple[str, str]] = []
        for child in parents:
            before = _ancestors(child, parents)
            if self.rule == "first_last":
                before = before[-1:] if child not in made_from else []
            elif self.rule == "adjacent":
                before = before[:1]
            found += [(child, older) for older in before]
        return found


def _ancestors(child: str, parents: Mapping[str, str]) -> list[str]:
    """What a response was made from, the nearest first; a circle (of an import) ends where it began."""
    found: list[str] = []
    while (parent := parents.get(child)) is not None and parent not in found:
        found.append(parent)
        child = parent
    return found
