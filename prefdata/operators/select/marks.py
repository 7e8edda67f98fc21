"""What `judge.*` said of the rows that a filter chooses among: one number, or one label, for each."""

from __future__ import annotations

import polars as pl

from prefdata.errors import DataError
from prefdata.operators.evidence import VALID, matching

MARKS = ("prompt_id", "aspect", "target", "target_ids", "protocol", "scores", "labels", "annotator", "source", "status")
"""The columns of `annotations` that filters look at."""

_SIMILARITY = "_similarity"
"""What `judge.duplicates` adds to its aspect for the similarity, which only what repeats something has."""

_ANEW = ", and behind any relabel step: what that restated is a new row, to be measured anew"


def clusters_of(annotations: pl.DataFrame, target: str, aspect: str, annotator: str, where: str) -> pl.DataFrame:
    """The label of each row that has one under this aspect: id and cluster.

    Args:
        annotations: with the columns `MARKS`.
        target: prompt, response or preference.
        aspect: that the labels stand under.
        annotator: a pattern (`*` stands for any text).
        where: the step, for the message.

    Raises:
        DataError: nobody gave such labels, or several annotators did.
    """
    rows = annotations.filter((pl.col("protocol") == "label") & (pl.col("target") == target))
    rows = rows.filter((pl.col("aspect") == aspect) & pl.col("annotator").is_in(_names(rows, annotator)))
    names = rows["annotator"].unique().sort().to_list()
    if not names:
        raise DataError(
            f"{where}: no {target} has a label under the aspect {aspect!r}; put judge.duplicates with of: {target}s "
            "before it"
        )
    if len(names) > 1:
        raise DataError(f"{where}: {', '.join(names)} gave labels under {aspect!r}; name one of them (annotator:)")
    return (
        rows.filter((pl.col("status") == "ok") & (pl.col("labels").list.len() > 0))
        .select(id=pl.col("target_ids").list.first(), cluster=pl.col("labels").list.first())
        .unique("id", keep="last", maintain_order=True)
    )


def measures_of(annotations: pl.DataFrame, target: str, aspect: str, annotator: str, where: str) -> pl.DataFrame:
    """The number of each row that has one under this aspect: id and score.

    Args:
        annotations: with the columns `MARKS`.
        target: prompt, response or preference.
        aspect: that the numbers stand under.
        annotator: a pattern (`*` stands for any text).
        where: the step, for the message.

    Raises:
        DataError: nobody said anything of the kind, several annotators did, or one gave a row two numbers.
    """
    rows = annotations.filter(pl.col("protocol").is_in(["score", "measure"]) & (pl.col("target") == target))
    rows = rows.filter((pl.col("aspect") == aspect) & pl.col("annotator").is_in(_names(rows, annotator)))
    names = rows["annotator"].unique().sort().to_list()
    if not names and _nothing_repeats(annotations, target, aspect, annotator):
        return pl.DataFrame(schema={"id": pl.String, "score": pl.Float64})
    if not names:
        raise DataError(
            f"{where}: no {target} has a score or measure under the aspect {aspect!r} by {annotator!r}; put the step "
            f"that makes it before{_ANEW if target == 'preference' else ''}"
        )
    if len(names) > 1:
        raise DataError(f"{where}: {', '.join(names)} scored under {aspect!r}; name one of them (annotator:)")
    found = rows.filter(VALID).select(id="target_ids", score="scores").explode("id", "score")
    twice = found.filter(pl.col("id").is_duplicated() & (pl.col("score").n_unique().over("id") > 1))
    if twice.height:
        raise DataError(
            f"{where}: {names[0]} gave {twice['id'][0]} several numbers under {aspect!r}; aggregate them first"
        )
    infinite = found.filter(~pl.col("score").is_finite())
    if infinite.height:
        raise DataError(f"{where}: {names[0]} gave {infinite['id'][0]} a number under {aspect!r} that is not finite")
    return found.unique("id", keep="first", maintain_order=True)


def _nothing_repeats(annotations: pl.DataFrame, target: str, aspect: str, annotator: str) -> bool:
    """Whether judge.duplicates looked for what is alike, and found nothing: then nobody has a similarity."""
    if not aspect.endswith(_SIMILARITY):
        return False
    labels = annotations.filter(
        (pl.col("protocol") == "label")
        & (pl.col("target") == target)
        & (pl.col("aspect") == aspect.removesuffix(_SIMILARITY))
    )
    return bool(_names(labels, annotator))


def _names(rows: pl.DataFrame, annotator: str) -> list[str]:
    return matching(rows["annotator"].unique(), [annotator])
