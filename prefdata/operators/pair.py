"""`pair`: what annotations state becomes preferences. The only operator that turns values into preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from prefdata.dataset.parts import frame_of
from prefdata.operators.evidence import EVIDENCE, ORDERING, VALID, Lists, directed, lists_of, pairs_within, selected
from prefdata.operators.row_ids import array_of, json_of, json_text, row_ids
from prefdata.operators.same_text import content
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row, make_id

Rule = Literal["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list"]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_SLACK = 1e-9
"""0.3 - 0.2 is a gap of 0.1, whatever binary fractions say."""


def preferences_from(
    annotations: pl.DataFrame,
    responses: pl.DataFrame,
    *,
    rule: Rule = "list",
    min_gap: float = 0.0,
    ties: Literal["drop", "keep"] = "drop",
    max_per_prompt: int | None = None,
    aspects: Sequence[str] = (),
    annotators: Sequence[str] = (),
    direction: Mapping[str, int] | None = None,
) -> tuple[pl.DataFrame, Counter[str]]:
    """Preferences from annotations of responses, and what gave none, counted by reason.

    In a group that has consensus rows only those are paired, else all others. See `Pair` for the rules and the
    arguments.

    Args:
        annotations: rows of `annotations`, every column of the schema present.
        responses: rows of `responses`, likewise; an annotated response that is not among them is left out.
        rule: see `Pair`.
        min_gap: see `Pair`.
        ties: see `Pair`.
        max_per_prompt: see `Pair`.
        aspects: see `Pair`.
        annotators: see `Pair`.
        direction: see `Pair`.

    Returns:
        A frame of `preferences` with every column, and how many of what gave no pair: `invalid` (annotations without
        scores), `missing` and `same text` (entries of lists), `single` (lists of fewer than two), `tie`, `gap` and
        `max_per_prompt` (candidates for a preference).

    Raises:
        DataError: a measure whose direction is not given.
    """
    reasons: Counter[str] = Counter()
    rows = selected(annotations, aspects=aspects, annotators=annotators).filter(pl.col("protocol").is_in(ORDERING))
    agreed = rows.filter(pl.col("source") == "consensus")["group_id"].unique()
    rows = rows.filter((pl.col("source") == "consensus") | ~pl.col("group_id").is_in(agreed.implode()))
    rows = directed(rows, direction or {}, "pair")
    reasons["invalid"] = rows.height - rows.filter(VALID).height
    lists = lists_of(rows)
    entries = _ranked(lists, responses, reasons)
    sizes = np.bincount(entries["list"].to_numpy(), minlength=lists.heads.height).astype(np.int64)
    shrunk = np.bincount(lists.entries["list"].to_numpy(), minlength=len(sizes)) > sizes
    reasons["single"] = int(((sizes < 2) & ~shrunk).sum())
    starts = np.cumsum(sizes) - sizes
    score = entries["score"].to_numpy()
    first, last = _candidates(entries, sizes, starts, rule)
    which = entries["list"].to_numpy()[first]
    gap = score[first] - score[last]
    # A choice says nothing within the chosen or within the rest: equal scores there are not a tie.
    silent = (lists.heads["protocol"].gather(which) == "choose").to_numpy() | (ties == "drop")
    tied = gap <= 0
    keep = ~(tied & silent)
    reasons["tie"] = int((~keep).sum())
    # The best come first, before the gap is looked at: a higher min_gap then makes no room for others.
    over = _over(lists, entries, first, last, which, gap, keep, max_per_prompt)
    reasons["max_per_prompt"] = int(over.sum())
    keep &= ~over
    narrow = keep & ~tied & (gap < min_gap - _SLACK * max(1.0, abs(min_gap)))
    reasons["gap"] = int(narrow.sum())
    keep &= ~narrow
    ends = [first[keep], last[keep]]
    blocks = [starts[which[keep]], sizes[which[keep]]] if rule == "list" else None
    return _rows(lists, entries, which[keep], _members(ends, blocks)), +reasons


def _ranked(lists: Lists, responses: pl.DataFrame, reasons: Counter[str]) -> pl.DataFrame:
    """The entries of each list, best first, without missing responses and repeated texts (the better one stays)."""
    known = responses.filter(pl.col("text").is_not_null() | pl.col("media").is_not_null()).select(
        pl.col("response_id").alias("target"),
        pl.col("prompt_id").alias("own_prompt"),
        pl.col("group_id").alias("own_group"),
        pl.concat_str(pl.col("prompt_id").fill_null(""), content(responses), separator="\x00").alias("seen"),
    )
    known = known.join(lists.entries.select("target").unique(), on="target", how="semi")
    codes = known.select("seen").unique(maintain_order=True).with_row_index("content")
    known = known.join(codes, on="seen", how="left").drop("seen")
    found = lists.entries.join(known, on="target", how="inner")
    reasons["missing"] = lists.entries.height - found.height
    order = found.sort("list", "score", "target", descending=[False, True, False])
    kept = order.unique(["list", "content"], keep="first", maintain_order=True)
    reasons["same text"] = order.height - kept.height
    return kept


def _candidates(entries: pl.DataFrame, sizes: IntArray, starts: IntArray, rule: Rule) -> tuple[IntArray, IntArray]:
    """Positions of the better and the worse entry of each candidate; of the ends of the list for the rule `list`."""
    if rule == "all_pairs":
        return pairs_within(sizes)
    if rule == "best_vs_random":
        return _with_random(entries, sizes, starts)
    big = sizes > 1
    starts, sizes = starts[big], sizes[big]
    if rule in ("best_worst", "list"):
        return starts, starts + sizes - 1
    repeated = np.repeat(starts, sizes - 1)
    step_in = np.arange(len(repeated)) - np.repeat(np.cumsum(sizes - 1) - (sizes - 1), sizes - 1)
    if rule == "adjacent":
        return repeated + step_in, repeated + step_in + 1
    return repeated, repeated + step_in + 1


def _with_random(entries: pl.DataFrame, sizes: IntArray, starts: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the best entry of each list, and of one of the worse ones, drawn by the hash of the two ids.

    The highest hash wins, so that a response more or less in a list changes the draw only where it is that one.
    Where none is worse, the last one stands for the tie.
    """
    big = sizes > 1
    targets, score = entries["target"].to_list(), entries["score"].to_list()
    drawn = []
    for start, size in zip(starts[big].tolist(), sizes[big].tolist(), strict=True):
        worse = [place for place in range(start + 1, start + size) if score[place] < score[start]]
        best = targets[start]
        drawn.append(max(worse, key=lambda p: make_id("best_vs_random", best, targets[p]), default=start + size - 1))
    return starts[big], np.array(drawn, dtype=np.int64)


def _over(
    lists: Lists,
    entries: pl.DataFrame,
    first: IntArray,
    last: IntArray,
    which: IntArray,
    gap: NDArray[np.float64],
    keep: BoolArray,
    most: int | None,
) -> BoolArray:
    """Which candidates stand behind the `most` widest ones of their prompt and aspect."""
    over = np.zeros(len(first), dtype=bool)
    if most is None or not len(first):
        return over
    frame = lists.heads.select(pl.col("group_id", "prompt_id", "aspect").gather(which)).with_columns(
        pl.Series("gap", -gap),
        pl.Series("first", entries["target"].gather(first)),
        pl.Series("last", entries["target"].gather(last)),
        pl.Series("ids", entries["annotation_ids"].gather(first)),
        pl.Series("number", np.arange(len(first))),
    )
    frame = frame.filter(pl.Series(keep)).sort("gap", "first", "last", pl.col("ids").list.first(), "number")
    place = frame.select(
        "number", rank=pl.int_range(pl.len()).over("group_id", "prompt_id", "aspect", order_by=None)
    ).filter(pl.col("rank") >= most)
    over[place["number"].to_numpy()] = True
    return over


def _members(ends: list[IntArray], blocks: list[IntArray] | None) -> pl.DataFrame:
    """Which entries each preference is of, in order: its two ends, or a block (start, size). Columns: row, entry."""
    if blocks is None:
        entry = np.stack(ends, axis=1).ravel()
        return pl.DataFrame({"row": np.repeat(np.arange(len(ends[0])), 2), "entry": entry})
    start, size = blocks
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return pl.DataFrame({"row": np.repeat(np.arange(len(size)), size), "entry": np.repeat(start, size) + within})


def _rows(lists: Lists, entries: pl.DataFrame, which: IntArray, members: pl.DataFrame) -> pl.DataFrame:
    """Rows of `preferences`, every column, named as `schema.preference` names them.

    Args:
        lists: that they are of.
        entries: what `_ranked` returns.
        which: the list of each.
        members: see `_members`.
    """
    inner = ("target", "score", "annotation_ids", "own_prompt", "own_group")
    of = members.with_columns(entries[name].gather(members["entry"]) for name in inner)
    gathered = of.group_by("row", maintain_order=True).agg(
        "own_prompt",
        pl.col("own_group").first(),
        response_ids="target",
        scores="score",
        annotation_ids=pl.col("annotation_ids").list.explode().unique().sort(),
    )
    alone = pl.col("prompt_id").is_null()  # each response was judged under its own prompt
    joint = alone & (pl.col("own_prompt").list.n_unique() > 1)
    rows = (
        pl.concat([lists.heads.select(pl.all().gather(which)), gathered.drop("row")], how="horizontal")
        .with_columns(
            pl.when(joint).then("own_group").otherwise("group_id").alias("group_id"),
            pl.when(alone & ~joint).then(pl.col("own_prompt").list.first()).otherwise("prompt_id").alias("prompt_id"),
            kind=pl.when(joint).then(pl.lit("joint")).otherwise(pl.lit("conditional")),
            prompt_ids=pl.when(joint).then("own_prompt"),
            annotator=pl.when(pl.col("source") != "consensus").then("annotator"),
        )
        .with_columns(weight=pl.lit(1.0))
    )
    nothing = json_text(None)
    said = array_of(json_of(pl.col("annotator")), nothing, json_of(pl.col("prompt_ids")), nothing, nothing)
    ids = row_ids(
        rows,
        "preference",
        json_of(pl.col("prompt_id")),
        json_of(pl.col("response_ids")),
        json_of(pl.col("kind")),
        json_of(pl.col("aspect")),
        json_of(pl.col("annotation_ids")),
        said,
        nothing,
    )
    return frame_of("preferences", rows.with_columns(ids.alias("preference_id")))


def tell(reasons: Counter[str], context: Context) -> None:
    """Say what gave no pair."""
    without = ", ".join(f"{count} {reason}" for reason, count in sorted((+reasons).items()))
    if without:
        context.log(f"no pair from: {without}")


@step("pair")
class Pair(TableStep):
    """Preferences from annotations: pairs or ranked lists.

    An annotation of several responses is a list; scores of single responses are joined into one list within one
    annotator, protocol, criterion, replicate, prompt and aspect. From each list, best first (equal scores by id):

    - `best_worst`: the first against the last.
    - `all_pairs`: each against each worse one.
    - `adjacent`: each against the next.
    - `best_vs_rest`: the first against each other.
    - `best_vs_random`: the first against one of the worse, drawn by the hash of the two ids (UltraFeedback, binarised).
    - `list`: one preference of all, best first; equal scores state no order.

    In a group where an earlier step made a consensus only that is paired, else every other annotation, which then
    leaves its annotator on the preference. Two responses to one prompt with the same text (after whitespace is
    normalised) and media are never paired: the better one stays in the list. Nothing depends on values beyond their
    order, but for `min_gap` and `max_per_prompt`.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "responses", "prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"preferences"})
    prefers_consensus: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": EVIDENCE,
        "responses": ("prompt_id", "text", "media"),
        "prompts": (),
    }
    narrows: ClassVar[str | None] = "annotations"

    rule: Rule = Field("best_worst", description="Which pairs of a list; `list`: the list as a whole.")
    min_gap: float = Field(0.0, ge=0, description="Least difference of the two scores (of best and worst for `list`).")
    ties: Literal["drop", "keep"] = Field("drop", description="keep: equal scores become preferences without an order.")
    max_per_prompt: int | None = Field(
        None, ge=1, description="At most so many preferences per prompt and aspect, the widest gaps first."
    )
    aspects: tuple[str, ...] = Field((), description="Only these aspects (`*` stands for any text).")
    annotators: tuple[str, ...] = Field(
        (), description="Only these annotators (`*` stands for any text), for example consensus:bradley-terry."
    )
    direction: dict[str, Literal[1, -1]] = Field(
        default_factory=dict, description="For measures, by aspect: 1 more is better, -1 less is."
    )

    def planned(self) -> Pair:
        """See `TableStep`: every pair that the rule could make."""
        from prefdata.operators.pair_planned import PlannedPair

        return PlannedPair.of(self)

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences; what gave none is counted in the log."""
        rows, reasons = preferences_from(
            tables["annotations"],
            tables["responses"],
            rule=self.rule,
            min_gap=self.min_gap,
            ties=self.ties,
            max_per_prompt=self.max_per_prompt,
            aspects=self.aspects,
            annotators=self.annotators,
            direction=self.direction,
        )
        tell(reasons, context)
        return {"preferences": rows}
