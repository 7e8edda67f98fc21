"""A step, a judge and a loss of one's own: `plugins: [my_steps.py]` in a pipeline, `--plugin` in training."""

import polars as pl

import prefdata
from prefdata.schema import annotation, drop


@prefdata.step("select.no_shouting")
class NoShouting(prefdata.TableStep):
    reads, writes = frozenset({"responses"}), frozenset({"drops"})
    share: float = 0.5

    def run(self, tables, context):
        capitals = pl.col("text").str.count_matches("[A-Z]") / pl.col("text").str.len_chars()
        loud = tables["responses"].filter(capitals > self.share)
        return {"drops": [drop("responses", row, reason="shouting", view=self.view) for row in loud.to_dicts()]}


@prefdata.step("judge.vowels")
class Vowels(prefdata.GroupStep):
    reads, writes = frozenset({"responses"}), frozenset({"annotations"})

    async def run(self, group, context):
        return {"annotations": [self.score(row) for row in group.responses]}

    def score(self, row):
        vowels = sum(map(row["text"].count, "aeiou"))
        about = {"group_id": row["group_id"], "prompt_id": row["prompt_id"], "target_ids": [row["response_id"]]}
        return annotation(**about, protocol="score", scores=[vowels], annotator="rule:vowels", source="rule")


@prefdata.loss("hinge")
def hinge(pair, *, beta=0.1):
    return (1 - beta * (pair.win.ratio - pair.lose.ratio)).clamp(min=0)
