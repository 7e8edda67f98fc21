"""Lists as pairs: one row, one edge. All of it works on whole columns; a million pairs take seconds."""

from __future__ import annotations

from collections import Counter

import polars as pl

from prefdata.errors import DataError
from prefdata.formats.columns import PAIRS, PAIRS_DEFAULTS, complete_lists
from prefdata.formats.lists import RANKED
from prefdata.formats.template import NEEDS_TEMPLATE, Template, single_user_text
from prefdata.formats.turns import answer_messages, changes_speaker, flattened


def usable(lists: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """The lists that have one prompt and no media, every column of `lists` present, with `row` (0, 1, ...).

    Returns:
        These, and how many lists were left out, by reason.
    """
    frame = complete_lists(lists)
    several = pl.col("prompt_of").list.eval(pl.element().fill_null(0) != 0).list.any().fill_null(False)
    other_reference = pl.col("ref_prompt_of").list.eval(pl.element().fill_null(0) != 0).list.any().fill_null(False)
    with_media = (pl.col("media").list.len().fill_null(0) > 0) | (pl.col("response_media").list.len().fill_null(0) > 0)
    reason = (
        pl.when(several)
        .then(pl.lit("several prompts"))
        .when(other_reference)
        .then(pl.lit("another reference prompt"))
        .when(with_media)
        .then(pl.lit("media"))
    )
    frame = frame.with_columns(reason=reason)
    left_out = Counter(dict(frame["reason"].drop_nulls().value_counts().iter_rows()))
    return frame.filter(pl.col("reason").is_null()).drop("reason").with_row_index("row"), left_out


def edges_of(lists: pl.DataFrame, *, ties: bool) -> tuple[pl.DataFrame, Counter[str]]:
    """The edges of lists that are not unpaired, the better response first.

    Args:
        lists: what `usable` returns.
        ties: whether pairs with p = 0.5 are kept.

    Returns:
        row, number (of the edge within its list, before anything was left out), winner, loser (positions), p (at least
        0.5), margin, weight; and what was left out: `tie` counts pairs, `role other than ranked` responses, `no order`
        lists that state none.

    Raises:
        DataError: an edge names a position that its list does not have, or one position twice, or p is none in [0, 1].
    """
    ranked = lists.filter(pl.col("kind") != "unpaired")
    left_out: Counter[str] = Counter()
    stated = _stated(ranked.filter(pl.col("edges").is_not_null()))
    implied = _implied(ranked.filter(pl.col("edges").is_null()))
    edges = pl.concat([stated, implied]).sort("row", "number")
    other = ranked.filter(pl.col("roles").is_not_null()).select("row", role="roles").explode("role")
    other = other.with_columns(position=pl.int_range(pl.len(), dtype=pl.Int32).over("row")).filter(
        pl.col("role").is_not_null() & (pl.col("role") != RANKED)
    )
    left_out["role other than ranked"] = other.height
    for side in ("winner", "loser"):
        edges = edges.join(
            other, left_on=["row", side], right_on=["row", "position"], how="anti", maintain_order="left"
        )
    left_out["no order"] = ranked.height - edges["row"].n_unique()
    turned = pl.col("p") < 0.5
    edges = edges.with_columns(
        winner=pl.when(turned).then("loser").otherwise("winner"),
        loser=pl.when(turned).then("winner").otherwise("loser"),
        margin=pl.when(turned).then(-pl.col("margin")).otherwise("margin"),
        p=pl.when(turned).then(1 - pl.col("p")).otherwise("p"),
    )
    if not ties:
        left_out["tie"] = edges.filter(pl.col("p") == 0.5).height
        edges = edges.filter(pl.col("p") != 0.5)
    return edges, +left_out


_EDGE_TYPES = {
    "row": pl.UInt32,
    "number": pl.Int64,
    "winner": pl.Int32,
    "loser": pl.Int32,
    "p": pl.Float64,
    "margin": pl.Float64,
    "weight": pl.Float64,
}


def _stated(lists: pl.DataFrame) -> pl.DataFrame:
    """Edges as they are written, nulls filled with what they mean."""
    long = (
        lists.filter(pl.col("edges").list.len() > 0)
        .select("row", "id", "edges", count=pl.col("responses").list.len())
        .explode("edges")
        .unnest("edges")
        .with_columns(number=pl.int_range(pl.len()).over("row"), p=pl.col("p").fill_null(1.0))
    )
    within = pl.all_horizontal(
        (pl.col(side) >= 0) & (pl.col(side) < pl.col("count")) for side in ("winner", "loser")
    ).fill_null(False)
    wrong = long.filter(~(within & (pl.col("winner") != pl.col("loser")) & pl.col("p").is_between(0, 1)))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise DataError(
            f"list {row['id']} has an edge from {row['winner']} to {row['loser']} with p {row['p']}; positions are two "
            f"different ones of 0 to {row['count'] - 1}, and p lies in [0, 1]"
        )
    return long.select(pl.col(name).cast(kind) for name, kind in _EDGE_TYPES.items())


def _implied(lists: pl.DataFrame) -> pl.DataFrame:
    """Every two ranked responses of different scores as an edge with p 1, of equal scores as one with p 0.5."""
    made = [pl.DataFrame(schema=_EDGE_TYPES)]
    shown = lists.select("row", "scores", count=pl.col("scores").list.len())
    for (count,), part in shown.partition_by("count", as_dict=True).items():
        places = [(i, j) for i in range(count or 0) for j in range(i + 1, count)]
        if not places:
            continue
        two = pl.DataFrame(places, schema={"i": pl.Int32, "j": pl.Int32}, orient="row").with_row_index("number")
        crossed = part.select("row", "scores").join(two, how="cross")
        first, second = pl.col("scores").list.get(pl.col("i")), pl.col("scores").list.get(pl.col("j"))
        made.append(
            crossed.select("row", "number", "i", "j", a=first, b=second)
            .drop_nulls(["a", "b"])
            .select(
                "row",
                "number",
                winner=pl.when(pl.col("a") >= pl.col("b")).then("i").otherwise("j"),
                loser=pl.when(pl.col("a") >= pl.col("b")).then("j").otherwise("i"),
                p=pl.when(pl.col("a") == pl.col("b")).then(0.5).otherwise(1.0),
                margin=pl.lit(None, pl.Float64),
                weight=pl.lit(None, pl.Float64),
            )
            .cast(dict(_EDGE_TYPES))  # type: ignore[arg-type]
        )
    return pl.concat(made)


def same_text(edges: pl.DataFrame, texts: pl.DataFrame) -> pl.Series:
    """Which edges join two texts that are equal but for white space.

    Args:
        edges: with `at_winner` and `at_loser`, rows of `texts`.
        texts: text and prefix (null: none), one row a response.
    """
    whole = texts.select(pl.concat_str(pl.col("prefix").fill_null(""), pl.col("text"))).to_series()
    heads = _normal(whole.str.strip_chars_start().str.slice(0, 96)).str.slice(0, 24)
    # Most pairs differ at their beginnings: only the others are worth normalising as a whole.
    alike = heads.gather(edges["at_winner"]) == heads.gather(edges["at_loser"])
    short = (heads.str.len_chars() < 24).gather(edges["at_winner"]) | (heads.str.len_chars() < 24).gather(
        edges["at_loser"]
    )
    doubtful = (alike | short).arg_true()
    checked = edges.select("at_winner", "at_loser")[doubtful]
    equal = _normal(whole.gather(checked["at_winner"])) == _normal(whole.gather(checked["at_loser"]))
    return pl.Series("same", [False]).new_from_index(0, edges.height).scatter(doubtful.filter(equal), True)


def _normal(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(r"\s+", " ").str.strip_chars()


def distinct_edges(lists: pl.DataFrame, *, ties: bool) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Counter[str]]:
    """The edges that a file of pairs may hold.

    Returns:
        The usable lists; their responses (see `turns.flattened`); the edges of `edges_of` between different texts, with
        `at_winner` and `at_loser` (rows of the responses); and what was left out, unpaired lists included.
    """
    frame, left_out = usable(lists)
    left_out["unpaired"] = frame.filter(pl.col("kind") == "unpaired").height
    texts, begins = flattened(frame)
    edges, left_edges = edges_of(frame, ties=ties)
    begin = begins.gather(edges["row"])
    edges = edges.with_columns(at_winner=begin + edges["winner"], at_loser=begin + edges["loser"])
    same = same_text(edges, texts)
    left_edges["same text"] = int(same.sum())
    return frame, texts, edges.filter(~same), +(left_out + left_edges)


def pairs_from_lists(
    lists: pl.DataFrame, *, conversational: bool = False, template: Template | None = None, ties: bool = False
) -> tuple[pl.DataFrame, Counter[str]]:
    """One row for each edge: the columns of `pairs`, optional ones only where some row fills them.

    Args:
        lists: what `training_lists` returns.
        conversational: messages in place of texts.
        template: renders prompts that are not one user message (standard form only).
        ties: whether pairs with p = 0.5 are written.

    Returns:
        The frame in the order of the lists, and what was left out, by reason: `unpaired`, `several prompts`, `another
        reference prompt`, `media` and `no order` count lists, `role other than ranked` responses, all others pairs.
    """
    frame, texts, edges, left_out = distinct_edges(lists, ties=ties)
    sides = {"chosen": edges["at_winner"], "rejected": edges["at_loser"]}
    if conversational:
        # A message cannot hold where the prompt ends and what is trained begins.
        keep = ~_either(texts["prefix"].is_not_null(), sides)
        left_out["prefix"] = int((~keep).sum())
    else:
        keep, reasons = _plain(frame, texts, edges, sides, template)
        left_out += reasons
    edges = edges.filter(keep)
    sides = {"chosen": edges["at_winner"], "rejected": edges["at_loser"]}
    lists_of = frame[edges["row"]]
    if conversational:
        shown = [lists_of["prompt"], *(answer_messages(texts[at]).alias(name) for name, at in sides.items())]
    else:
        shown = _plain_texts(frame, texts, edges, sides, template)
    scores = frame["scores"].explode() if frame.height else pl.Series([], dtype=pl.Float64)
    made = pl.DataFrame(
        [
            *shown,
            edges["margin"],
            edges["p"],
            (lists_of["weight"] * edges["weight"].fill_null(1.0)).alias("weight"),
            *(scores.gather(at).alias(f"score_{name}") for name, at in sides.items()),
            lists_of["tools"],
            (lists_of["id"] + ":" + edges["number"].cast(pl.String)).alias("id"),
            lists_of["id"].alias("list"),
            *(lists_of[name] for name in ("group", "split", "aspect", "annotator")),
            *(texts["response_id"].gather(at).alias(f"{name}_id") for name, at in sides.items()),
        ]
    )
    return _without_defaults(made), +left_out


def _either(flags: pl.Series, sides: dict[str, pl.Series]) -> pl.Series:
    return flags.gather(sides["chosen"]) | flags.gather(sides["rejected"])


def _plain(
    frame: pl.DataFrame,
    texts: pl.DataFrame,
    edges: pl.DataFrame,
    sides: dict[str, pl.Series],
    template: Template | None,
) -> tuple[pl.Series, Counter[str]]:
    """Which edges the standard form can hold, and why it cannot hold the others."""
    everything = pl.Series([True]).new_from_index(0, edges.height)
    if template is not None and template.holds_turns:
        return everything, Counter()
    alone = everything
    if template is None:
        alone = (single_user_text(frame).is_not_null() & frame["tools"].is_null()).gather(edges["row"])
    several = _either(changes_speaker(texts), sides)
    reasons = Counter({NEEDS_TEMPLATE: int((~alone).sum()), "several turns": int((alone & several).sum())})
    return alone & ~several, reasons


def _plain_texts(
    frame: pl.DataFrame,
    texts: pl.DataFrame,
    edges: pl.DataFrame,
    sides: dict[str, pl.Series],
    template: Template | None,
) -> list[pl.Series]:
    """prompt, chosen and rejected as texts; what stands between prompt and response joins the prompt.

    Two responses with different prefixes share only the prompt: there each prefix stays with its response.
    """
    prompts = single_user_text(frame) if template is None else template.prompts(frame)
    answers = texts["text"] if template is None else template.answers(frame, texts)
    prefixes = {name: texts["prefix"].gather(at).fill_null("") for name, at in sides.items()}
    common = prefixes["chosen"] == prefixes["rejected"]
    made = pl.DataFrame(
        {
            "prompt": prompts.gather(edges["row"]),
            "common": common,
            **{name: answers.gather(at) for name, at in sides.items()},
            **{f"before_{name}": prefix for name, prefix in prefixes.items()},
        }
    ).select(
        prompt=pl.when("common").then(pl.col("prompt") + pl.col("before_chosen")).otherwise("prompt"),
        **{
            name: pl.when("common").then(name).otherwise(pl.col(f"before_{name}") + pl.col(name))
            for name in ("chosen", "rejected")
        },
    )
    return made.get_columns()


def _without_defaults(pairs: pl.DataFrame) -> pl.DataFrame:
    """Columns in the file's order, without optional ones that say nothing."""
    said = pairs.select(pl.col(name).eq_missing(pl.lit(value)).all() for name, value in PAIRS_DEFAULTS.items())
    silent = said.row(0, named=True)
    return pairs.select(name for name in PAIRS.names if not silent.get(name, False))
