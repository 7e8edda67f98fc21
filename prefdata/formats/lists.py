"""Preferences with their texts: the one canonical frame that all exports are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import polars as pl

from prefdata.errors import DataError
from prefdata.formats.columns import (
    LISTS,
    LISTS_REQUIRED,
    complete,
    filled_message_keys,
    keep_message_keys,
    polars_type,
    series,
)
from prefdata.formats.rare import RareColumns
from prefdata.render import render

RANKED = "ranked"
_ALIGNED = ("scores", "roles", "prompt_ids")
"""Columns of `preferences` that have one entry for each response."""


def training_lists(
    tables: Mapping[str, pl.LazyFrame],
    *,
    view_preferences: pl.DataFrame | None = None,
    split_labels: pl.LazyFrame | None = None,
) -> tuple[pl.DataFrame, Counter[str]]:
    """Every live preference as a row with prompt and texts: the columns of `lists`.

    Args:
        tables: the live rows, under the names prompts, responses, annotations, preferences and, where reference
            log-probabilities and the like are to travel along, token_scores. A column that a frame lacks is null.
        view_preferences: preferences to take in place of the table's (those that were made in memory).
        split_labels: the annotations by `rule:split`, where they are known; else they are looked for.

    Returns:
        The frame, sorted by group and id, optional columns only where some row fills them; and how many preferences
        were left out, by reason. A group's split is what its label by `rule:split` says, `train` where there is none.

    Raises:
        DataError: scores, roles or prompt_ids of a preference are not aligned with its responses.
    """
    source = tables["preferences"] if view_preferences is None else view_preferences.lazy()
    preferences = complete("preferences", source).sort("group_id", "preference_id").collect()
    _check_aligned(preferences)
    preferences = preferences.with_columns(
        # A joint row has no prompt of its own: its first response's is number 0.
        prompt_0=pl.coalesce("prompt_id", pl.col("prompt_ids").list.get(0, null_on_oob=True))
    ).with_row_index("row")
    prompts = _rendered(complete("prompts", tables["prompts"]), preferences)
    responses = _preferred(complete("responses", tables["responses"]), preferences)
    texts = _texts(responses, preferences)
    frame = preferences.join(texts, on="row", how="left", maintain_order="left").join(
        prompts.select(prompt_0="prompt_id", prompt="rendered", tools="tools", media="media"),
        on="prompt_0",
        how="left",
        maintain_order="left",
    )
    rare = RareColumns(tables, frame, prompts, responses)
    reason = (
        pl.when(pl.col("prompt").is_null() | pl.col("row").is_in(list(rare.without_prompt)))
        .then(pl.lit("prompt missing"))
        .when(pl.col("missing").fill_null(True))
        .then(pl.lit("response missing"))
        .when(pl.col("textless") | pl.col("row").is_in(list(rare.without_prefix)))
        .then(pl.lit("response without text"))
    )
    labels = tables["annotations"] if split_labels is None else split_labels
    splits = _splits(complete("annotations", labels))
    crossing = _crossing(preferences, complete("prompts", tables["prompts"]), splits)
    reason = reason.when(pl.col("row").is_in(crossing)).then(pl.lit("prompts in train and in valid"))
    frame = frame.with_columns(reason=reason)
    left_out = Counter(dict(frame["reason"].drop_nulls().value_counts().iter_rows()))
    frame = _columns(frame, splits)
    frame = frame.with_columns(rare.columns()).filter(pl.col("reason").is_null())
    return _filled(frame), left_out


def _check_aligned(preferences: pl.DataFrame) -> None:
    for name in _ALIGNED:
        wrong = preferences.filter(pl.col(name).list.len() != pl.col("response_ids").list.len())
        if wrong.height:
            row = wrong.row(0, named=True)
            count = len(row["response_ids"])
            raise DataError(f"preference {row['preference_id']} has {len(row[name])} {name} for {count} responses")


def _rendered(prompts: pl.LazyFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """The prompts that these preferences read: prompt_id, rendered (messages), tools, media."""
    wanted = pl.concat(
        [
            preferences.select(prompt_id="prompt_0"),
            preferences.select(prompt_id="ref_prompt_id"),
            preferences.select(prompt_id=pl.col("prompt_ids").explode()),
        ]
    ).unique()
    read = prompts.select("prompt_id", "messages", "condition", "context", "tools", "media")
    frame = _first_of_each(read.join(wanted.lazy(), on="prompt_id", how="semi").collect(), "prompt_id")
    # Without a condition and passages a prompt is rendered as its messages; a test holds the two ways together.
    plain = (pl.col("condition").struct.field("text").fill_null("") == "") & (
        pl.col("context").list.len().fill_null(0) == 0
    )
    frame = frame.with_columns(plain=plain)
    if frame["plain"].all():
        return frame.select("prompt_id", "tools", "media", rendered="messages")
    changed = frame.filter(~pl.col("plain"))
    made = pl.DataFrame(
        [
            changed["prompt_id"],
            series("made", [render(row) for row in changed.iter_rows(named=True)], LISTS.field("prompt").type),
        ]
    )
    return frame.join(made, on="prompt_id", how="left").select(
        "prompt_id", "tools", "media", rendered=pl.when("plain").then("messages").otherwise("made")
    )


def _first_of_each(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """One row for each id. A view has no two; the test is cheap, and a lazy `unique` of nested columns is not."""
    return frame if not frame[key].is_duplicated().any() else frame.unique(key, keep="first", maintain_order=True)


def _preferred(responses: pl.LazyFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """The responses that these preferences name."""
    named = preferences.lazy().select(response_id=pl.col("response_ids").explode()).unique()
    read = responses.select("response_id", "text", "finish_reason", "prefix_id", "segments", "media")
    return _first_of_each(read.join(named, on="response_id", how="semi").collect(), "response_id")


def _texts(responses: pl.DataFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """By row of preferences: responses, ends_turn (null: all true), missing, textless."""
    held = preferences.filter(pl.col("response_ids").list.len() > 0)
    long = held.select("row", response_id=pl.col("response_ids")).explode("response_id")
    found = responses.select(
        "response_id", "text", ends=pl.col("finish_reason").fill_null("stop") == "stop", found=pl.lit(True)
    )
    joined = long.join(found, on="response_id", how="left", maintain_order="left")
    return joined.group_by("row", maintain_order=True).agg(
        responses="text",
        ends_turn=pl.col("ends").fill_null(True),
        missing=pl.col("found").is_null().any(),
        textless=pl.col("text").is_null().any(),
    )


def _splits(annotations: pl.LazyFrame) -> pl.DataFrame:
    """group_id and split. What any label holds out stays held out."""
    return (
        annotations.filter(
            (pl.col("annotator") == "rule:split")
            & (pl.col("aspect") == "split")
            & (pl.col("protocol") == "label")
            & (pl.col("target") == "prompt")
            & (pl.col("status") == "ok")
        )
        .select(group_id=pl.col("target_ids").list.first(), split=pl.col("labels").list.first())
        .group_by("group_id")
        .agg(
            pl.when((pl.col("split") != "train").any()).then(pl.lit("valid")).otherwise(pl.lit("train")).alias("split")
        )
        .collect()
    )


def _crossing(preferences: pl.DataFrame, prompts: pl.LazyFrame, splits: pl.DataFrame) -> list[int]:
    """The joint rows whose prompts are partly held out: trained or not, they would leak."""
    joint = preferences.filter(pl.col("prompt_ids").is_not_null()).select("row", prompt_id="prompt_ids")
    if joint.is_empty() or splits.is_empty():
        return []
    long = joint.explode("prompt_id")
    groups = prompts.select("prompt_id", "group_id").join(long.lazy(), on="prompt_id", how="semi").collect()
    of = long.join(_first_of_each(groups, "prompt_id"), on="prompt_id", how="left").join(
        splits, on="group_id", how="left"
    )
    sides = of.group_by("row").agg(sides=pl.col("split").fill_null("train").n_unique())
    return sides.filter(pl.col("sides") > 1)["row"].to_list()


def _columns(frame: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """The columns of `lists` that need nothing but the joined frame, and `row` and `reason`."""
    unpaired = pl.col("kind") == "unpaired"
    nothing = pl.col("response_ids").list.eval(pl.lit(None, pl.Float64))
    scores = pl.col("scores").fill_null(nothing)
    with_scores = frame.with_columns(scores=scores).with_columns(scores=_of_ranked(frame, "scores", scores))
    falling = pl.col("scores").list.eval(pl.element().rank("min", descending=True).cast(pl.Int32))
    return with_scores.join(splits, on="group_id", how="left", maintain_order="left").select(
        "row",
        "reason",
        "kind",
        "aspect",
        "prompt",
        "response_ids",
        "responses",
        "scores",
        "edges",
        "roles",
        "values",
        "annotator",
        "tools",
        id="preference_id",
        group="group_id",
        split=pl.col("split").fill_null("train"),
        weight=pl.col("weight").fill_null(1.0),
        ranks=pl.when(unpaired).then(nothing.list.eval(pl.element().cast(pl.Int32))).otherwise(falling),
        link="link_id",
        ends_turn=pl.when(~pl.col("ends_turn").list.all()).then("ends_turn"),
    )


def _of_ranked(frame: pl.DataFrame, name: str, scores: pl.Expr) -> pl.Series:
    """Scores, null where the role is not `ranked`."""
    column = frame.select(scores.alias(name)).to_series()
    with_roles = frame.select("row", "roles", column).filter(pl.col("roles").is_not_null())
    if not with_roles.height:
        return column
    masked = (
        with_roles.filter(pl.col("roles").list.len() > 0)
        .explode("roles", name)
        .with_columns(pl.when(pl.col("roles") == RANKED).then(name).alias(name))
        .group_by("row", maintain_order=True)
        .agg(pl.col(name).alias("masked"))
    )
    joined = frame.select("row", column).join(masked, on="row", how="left", maintain_order="left")
    return joined.select(pl.coalesce("masked", name).alias(name)).to_series()


def _filled(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `lists` in their order and types: required ones, and those that some row fills."""
    frame = frame.select(
        pl.col(field.name).cast(polars_type(field.type))
        for field in LISTS
        if field.name in frame.columns
        and (field.name in LISTS_REQUIRED or frame[field.name].null_count() < frame.height)
    )
    keys = filled_message_keys([frame["prompt"]])
    return frame.with_columns(keep_message_keys(frame["prompt"], keys))
