"""The tasks that people disagree on, those first where they do most: what a reviewer decides next."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from prefdata.operators.evidence import VALID
from prefdata.report.verdicts import Verdicts

PAIRED = ("compare", "rank", "choose")
_KEY = ["task", "aspect"]


@dataclass(frozen=True)
class Vote:
    """What one person said of a task.

    Attributes:
        annotator: who.
        scores: [k] by target of the dispute; None for what was not scored. Empty where labels say it.
        labels: words, for the protocols that have them.
        text: the person's reason, if one was given.
    """

    annotator: str
    scores: tuple[float | None, ...]
    labels: tuple[str, ...]
    text: str | None


@dataclass(frozen=True)
class Dispute:
    """A task that at least two people answered differently.

    Attributes:
        task: names it.
        prompt_id: its prompt; None where the targets stand under several.
        target_ids: [k] the responses, sorted: not the order in which anybody saw them.
        aspect: under which they disagree.
        protocol: how they were asked.
        votes: of each person.
        disagreement: of comparisons, choices and rankings 1 - the share of the majority, the mean over pairs; of scores
            the widest range on one response, as a share of the scale; of labels 1 - the share of the majority.
        adjudicated: somebody has decided it.
    """

    task: str
    prompt_id: str | None
    target_ids: tuple[str, ...]
    aspect: str
    protocol: str
    votes: tuple[Vote, ...]
    disagreement: float
    adjudicated: bool


def disputes(rows: pl.DataFrame, verdicts: Verdicts, scales: pl.DataFrame, most: int) -> list[Dispute]:
    """Tasks by disagreement, the highest first; those that all agree on are left out.

    Args:
        rows: annotations of one project with `task`, `adjudication` and `text`.
        verdicts: of those of them that are no adjudications.
        scales: criterion_id and `width`, the length of its scale.
        most: so many at most.
    """
    said = rows.filter((pl.col("status") == "ok") & ~pl.col("adjudication") & (pl.col("target") == "response"))
    parts = [_by_pairs(said, verdicts), _by_scores(said, scales), _by_labels(said)]
    found = pl.concat(parts).group_by(_KEY).agg(pl.col("disagreement", "people").max())
    decided = rows.filter(pl.col("adjudication") & (pl.col("status") == "ok")).select(_KEY).unique()
    found = found.filter(pl.col("disagreement") > 1e-9).join(
        decided.with_columns(adjudicated=True), on=_KEY, how="left"
    )
    found = found.with_columns(pl.col("adjudicated").fill_null(False))
    found = found.sort("adjudicated", "disagreement", "people", *_KEY, descending=[False, True, True, False, False])
    votes = said.join(found.head(most), on=_KEY, how="semi").partition_by(_KEY, as_dict=True)
    return [
        _dispute(votes[task, aspect], task, aspect, disagreement, adjudicated)
        for task, aspect, disagreement, _, adjudicated in found.head(most).iter_rows()
    ]


def _by_pairs(said: pl.DataFrame, verdicts: Verdicts) -> pl.DataFrame:
    """1 - the majority's share, the mean over the pairs of a task that two or more people ordered."""
    ordered = said.filter(VALID & pl.col("protocol").is_in(PAIRED))
    inside = ordered.explode("target_ids").select(*_KEY, "prompt_id", "annotator", "target_ids").unique()
    pairs = verdicts.by_annotator.select("prompt_id", "aspect", "annotator", "first", "second", "verdict")
    on = ["prompt_id", "aspect", "annotator"]
    pairs = pairs.join(inside.rename({"target_ids": "first"}), on=[*on, "first"], nulls_equal=True)
    both = inside.rename({"target_ids": "second"})
    pairs = pairs.join(both, on=[*on, "second", "task"], how="semi", nulls_equal=True)
    sides = [(pl.col("verdict") == side).sum() for side in (-1, 0, 1)]
    each = pairs.group_by(*_KEY, "first", "second").agg(people=pl.len(), top=pl.max_horizontal(*sides))
    return _shape(each.filter(pl.col("people") > 1), 1 - (pl.col("top") / pl.col("people")).mean())


def _by_scores(said: pl.DataFrame, scales: pl.DataFrame) -> pl.DataFrame:
    """The widest range of the scores of one response, as a share of the scale (or of what occurs under the aspect)."""
    scored = said.filter(VALID & (pl.col("protocol") == "score")).join(scales, on="criterion_id", how="left")
    each = scored.explode("target_ids", "scores").filter(pl.col("scores").is_finite())
    occurs = (pl.col("scores").max() - pl.col("scores").min()).over("aspect")
    each = each.with_columns(width=pl.coalesce("width", occurs))
    by = each.group_by(*_KEY, "target_ids").agg(
        people=pl.col("annotator").n_unique(),
        share=(pl.col("scores").max() - pl.col("scores").min()) / pl.col("width").max(),
    )
    return _shape(by.filter((pl.col("people") > 1) & pl.col("share").is_finite()), pl.col("share").max())


def _by_labels(said: pl.DataFrame) -> pl.DataFrame:
    """1 - the majority's share of the labels; whoever chose a response where others say `none` says something else."""
    worded = said.filter(pl.col("protocol") == "label").select(_KEY).unique()
    part = pl.col("parts").list.eval(pl.element().cast(pl.String)).list.join(",").fill_null("")
    words = pl.col("labels").list.sort().list.join("\n").fill_null("") + "\n" + part
    value = pl.when(pl.col("protocol") == "label").then(pl.col("target_ids").list.join(" ") + "\n" + words)
    each = said.join(worded, on=_KEY, how="semi").with_columns(value=value.fill_null("answered"))
    one = each.group_by(*_KEY, "annotator").agg(value=pl.col("value").unique().sort().str.join("\n\n"))
    counts = one.group_by(*_KEY, "value").len().group_by(_KEY).agg(people=pl.col("len").sum(), top=pl.col("len").max())
    return _shape(counts.filter(pl.col("people") > 1), 1 - (pl.col("top") / pl.col("people")).mean())


def _shape(rows: pl.DataFrame, disagreement: pl.Expr) -> pl.DataFrame:
    found = rows.group_by(_KEY).agg(disagreement=disagreement, people=pl.col("people").max())
    return found.select(*_KEY, pl.col("disagreement").cast(pl.Float64), pl.col("people").cast(pl.Int64))


def _dispute(rows: pl.DataFrame, task: str, aspect: str, disagreement: float, adjudicated: bool) -> Dispute:
    targets = sorted({one for ids in rows["target_ids"] for one in ids})
    votes = []
    for name in sorted(rows["annotator"].unique()):
        own = rows.filter(pl.col("annotator") == name).sort("protocol", "annotation_id", descending=[True, False])
        given: dict[str, float] = {}
        for ids, scores in own.filter(pl.col("scores").is_not_null()).select("target_ids", "scores").iter_rows():
            for one, score in zip(ids, scores, strict=True):  # a partial ranking stands before what it leaves out
                given.setdefault(one, score)
        labels = sorted({label for labels in own["labels"].drop_nulls() for label in labels})
        text = next(iter(own["text"].drop_nulls()), None)
        scores = tuple(given.get(one) for one in targets) if given else ()
        votes.append(Vote(name, scores, tuple(labels), text))
    head = rows.sort("protocol", descending=True).row(0, named=True)
    return Dispute(
        task, head["prompt_id"], tuple(targets), aspect, head["protocol"], tuple(votes), disagreement, adjudicated
    )
