"""`pair`: what annotations state becomes preferences. The only operator that turns values into preferences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from prefdata.operators.across import across
from prefdata.operators.evidence import EVIDENCE, ORDERING, VALID, Lists, directed, lists_of, pairs_within, selected
from prefdata.operators.pair_rows import Beside, listed_of, members_of, preference_rows
from prefdata.operators.pair_values import Numbers
from prefdata.operators.same_text import content
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import CONSENSUS, Context, TableStep
from prefdata.schema import Row, make_id

Rule = Literal["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list", "unpaired"]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
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
    only_consensus: bool = False,
    threshold: float | None = None,
    beside: Beside | None = None,
    listed: pl.DataFrame | None = None,
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
        only_consensus: see `Pair`.
        threshold: see `Pair`.
        beside: what a preference says besides its order; nothing unless given.
        listed: those of the annotations that are paired; all of them unless given.

    Returns:
        A frame of `preferences` with every column, and how many of what gave no pair: `invalid` (annotations without
        scores), `missing` and `same text` (entries of lists), `single` (lists of fewer than two), `tie`, `gap` and
        `max_per_prompt` (candidates for a preference).

    Raises:
        DataError: a measure whose direction is not given, or values of several aspects.
    """
    reasons: Counter[str] = Counter()
    rows = annotations if listed is None else listed
    rows = selected(rows, aspects=aspects, annotators=annotators).filter(pl.col("protocol").is_in(ORDERING))
    agreed = rows.filter(pl.col("source") == "consensus")["group_id"].unique()
    others = pl.lit(False) if only_consensus else ~pl.col("group_id").is_in(agreed.implode())
    rows = rows.filter((pl.col("source") == "consensus") | others)
    rows = directed(rows, direction or {}, "pair")
    reasons["invalid"] = rows.height - rows.filter(VALID).height
    lists = lists_of(rows)
    entries = _ranked(lists, responses, reasons)
    sizes = np.bincount(entries["list"].to_numpy(), minlength=lists.heads.height).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    if rule == "unpaired":
        which = np.flatnonzero(sizes)
        members = members_of([], [starts[which], sizes[which]])
        if threshold is not None:
            entries = entries.with_columns(score=(pl.col("score") >= threshold).cast(pl.Float64))
    else:
        shrunk = np.bincount(lists.entries["list"].to_numpy(), minlength=len(sizes)) > sizes
        reasons["single"] = int(((sizes < 2) & ~shrunk).sum())
        first, last = _candidates(entries, sizes, starts, rule)
        which = entries["list"].to_numpy()[first]
        keep = _kept(lists, entries, first, last, which, (min_gap, ties, max_per_prompt), reasons)
        which = which[keep]
        members = members_of([first[keep], last[keep]], [starts[which], sizes[which]] if rule == "list" else None)
    said = None
    if beside is not None and beside.asked:
        said = beside.columns(listed_of(lists, entries, which, members), annotations, rows)
    return preference_rows(lists, entries, which, members, said, unpaired=rule == "unpaired"), +reasons


def _kept(
    lists: Lists,
    entries: pl.DataFrame,
    first: IntArray,
    last: IntArray,
    which: IntArray,
    limits: tuple[float, Literal["drop", "keep"], int | None],
    reasons: Counter[str],
) -> BoolArray:
    """Which candidates become preferences: no ties, wide enough gaps, not too many for one prompt."""
    min_gap, ties, most = limits
    score = entries["score"].to_numpy()
    gap = score[first] - score[last]
    # A choice says nothing within the chosen or within the rest: equal scores there are not a tie.
    silent = (lists.heads["protocol"].gather(which) == "choose").to_numpy() | (ties == "drop")
    tied = gap <= 0
    keep: BoolArray = ~(tied & silent)
    reasons["tie"] = int((~keep).sum())
    # The best come first, before the gap is looked at: a higher min_gap then makes no room for others.
    over = _over(lists, entries, first, last, which, gap, keep, most)
    reasons["max_per_prompt"] = int(over.sum())
    keep &= ~over
    narrow = keep & ~tied & (gap < min_gap - _SLACK * max(1.0, abs(min_gap)))
    reasons["gap"] = int(narrow.sum())
    keep &= ~narrow
    return keep


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
    - `unpaired`: one preference of all in which each response stands alone, wanted (1) or not (0); one response is
      enough. `threshold` says which score is wanted; without it the scores stay as they are, and more than one half
      counts as wanted.

    In a group where an earlier step made a consensus only that is paired, else every other annotation, which then
    leaves its annotator on the preference. Two responses to one prompt with the same text (after whitespace is
    normalised) and media are never paired: the better one stays in the list. Nothing depends on values beyond their
    order, but for `min_gap`, `max_per_prompt` and `threshold`.

    `values`, `p` and `margin` lay down beside the order what some losses read (`prefdata losses` says which); the
    exports carry it, and it is part of the ids. For `values` and `p` the annotations that a consensus was made from
    are read beside it.

    - `values: {NAME: ANNOTATOR}`: the number that this annotator gave each response, for example `{reward: "reward:*"}`
      or `{helpful: {annotator: "judge:*", aspect: helpfulness}}`: the mean over all such annotations under the same
      prompt, of comparisons (`protocol: compare`) the share of wins, null where there is none. Where there are several
      aspects or protocols, name one. `labels: {factual: 0, wrong: 1}` reads labels, `number: position` the place (1, 2,
      ...) at which a response was shown. A consensus counts under its own name only.
    - `p: votes`: of each two responses the share of votes for the one that stands first, ties half, and how many votes
      there are. Where a consensus is paired the votes are those of all annotations under its aspect (under any, where
      nobody was asked about that one), else of what is paired; `voters` names the annotators that count. A ranking, a
      choice and one annotator's scores are a vote on each two of their responses; the two orders of one comparison are
      one vote; a comparison votes by its probability. What is no valid order does not vote, and nothing is smoothed. A
      pair stays in its order even where most vote against it (p < 0.5), two responses of equal score get an edge where
      somebody voted on them, and where nobody did p is null.
    - `margin: scores`: the difference of the two scores.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"annotations", CONSENSUS, "responses", "prompts"})
    writes: ClassVar[frozenset[str]] = frozenset({"preferences"})
    prefers_consensus: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, Sequence[str]]] = {
        "annotations": (*EVIDENCE, "created_at"),
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
    only_consensus: bool = Field(
        False,
        description="Pair nothing but a consensus; so it is anyway where an earlier step makes one, unless `from` is "
        "given.",
    )
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="unpaired: wanted from this score on; the scores as they are unless set."
    )
    values: dict[str, str | Numbers] = Field(
        default_factory=dict,
        description="Numbers for each response: {NAME: annotator (`*` stands for any text)}, or {NAME: {annotator, "
        "aspect, protocol, labels: {LABEL: number}, number: score or position}}.",
    )
    p: Literal["votes"] | None = Field(None, description="votes: edges with the share of votes and their number.")
    margin: Literal["scores"] | None = Field(None, description="scores: edges with the difference of the two scores.")
    voters: tuple[str, ...] = Field((), description="p: votes: only these annotators vote (`*` stands for any text).")

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.rule == "unpaired":
            given: dict[str, object] = {
                "min_gap": self.min_gap,
                "ties": self.ties == "keep",
                "max_per_prompt": self.max_per_prompt,
            }
            given |= {"p": self.p, "margin": self.margin}
            if wrong := [name for name, value in given.items() if value]:
                raise ValueError(f"rule: unpaired makes no pairs, so {wrong[0]} does nothing: leave it out")
        elif self.threshold is not None:
            raise ValueError(f"threshold belongs to rule: unpaired; for {self.rule} it does nothing")
        if self.voters and self.p is None:
            raise ValueError("voters belongs to p: votes; without it, it does nothing")
        if wrong := [name for name in self.values if not _NAME.fullmatch(name)]:
            raise ValueError(
                f"values: {wrong[0]!r} is no name; write letters, digits, _ and -, beginning with a letter"
            )
        return self

    @property
    def beside(self) -> Beside:
        """What its preferences say besides their order."""
        return Beside(self.values, self.p is not None, self.margin is not None, self.voters, self.direction)

    def beside_consensus(self) -> Self | None:
        """Votes and values are those of the annotations that the consensus was made from: they are read beside it."""
        reads_them = bool(self.values) or self.p is not None
        return self.model_copy(update={"only_consensus": True}) if reads_them else None

    def resolved(self) -> dict[str, Any]:
        """See `Step`. Without what is laid down beside the order a step is named as before there was any."""
        fields = super().resolved()
        own = ("only_consensus", "threshold", "values", "p", "margin", "voters")
        silent = {name for name in own if fields[name] is None or fields[name] is False or fields[name] in ({}, [])}
        return {name: value for name, value in fields.items() if name not in silent}

    def planned(self) -> Pair:
        """See `TableStep`: every pair that the rule could make."""
        from prefdata.operators.pair_planned import PlannedPair

        return PlannedPair.of(self)

    def run(self, tables: Mapping[str, pl.DataFrame], context: Context) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences; what gave none is counted in the log."""
        # The other groups need not be there: a run sees the groups whose input has changed.
        left_out = across(tables["annotations"], tables["responses"])
        if left_out.height:
            context.log(f"{left_out.height} annotations compare responses of different prompts: pair.joint pairs those")
        listed = tables["annotations"].join(left_out, on="annotation_id", how="anti", maintain_order="left")
        return self.paired(tables, listed, context)

    def paired(
        self, tables: Mapping[str, pl.DataFrame], listed: pl.DataFrame, context: Context
    ) -> Mapping[str, pl.DataFrame | list[Row]]:
        """The preferences from these annotations, with what all of them say beside the order."""
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
            only_consensus=self.only_consensus,
            threshold=self.threshold,
            beside=self.beside,
            listed=listed,
        )
        tell(reasons, context)
        return {"preferences": rows}
