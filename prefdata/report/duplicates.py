"""What is in the dataset twice, what leaks from training into validation, and what contradicts itself.

Texts are held against one another after their case, accents' composition and white space were made alike. What only
nearly agrees, and what is protected, is for steps to find (`judge.duplicates`, `judge.contamination`): their live
labels are counted here.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from prefdata.report.decided import Decided
from prefdata.report.numbers import Entry, share
from prefdata.similarity import near_duplicates, shingle_sets

MOST_SHOWN = 5
"""Of each kind so many examples are named."""

CHARACTERS = 160
"""Of each of their texts."""

NEAR = 0.7
"""Jaccard similarity of the sets of three words in a row."""

MOST_COMPARED = 20_000

_READ = 2_000
"""Characters of a prompt that near duplicates are told by."""

_Tables = Mapping[str, pl.LazyFrame]


def plain_text(text: pl.Expr) -> pl.Expr:
    """Lower case, in Unicode's NFC, each run of white space one space."""
    return text.str.normalize("NFC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def duplicates(view: _Tables, found: Decided, notes: list[str]) -> Entry:
    """Duplicates, leaks and conflicts.

    Args:
        view: the live tables.
        found: the pairs, see `decided`.
        notes: gets a sentence on what was left out.

    Returns:
        prompts: {groups, repeated (share of the groups whose prompt another group has as well), clusters, examples}.
        responses: {n, repeated (share of the responses with the text of an earlier one under the same prompt)}.
        pairs: {n, same_text (share of the pairs whose two sides have one text), repeated (share that states again
            what an earlier pair has stated)}; None without pairs.
        conflicts: {pairs (two texts under one prompt, step and aspect), opposite (share of them stated both ways
            round), examples}; None without pairs.
        near: {by (`labels`: the live labels of the aspect `duplicates`; else `report`: word 3-grams, Jaccard similarity
            from NEAR on), groups, repeated (share of the groups with a near copy in another), clusters}; None where
            there are no labels and more than MOST_COMPARED prompts.
        contamination: {hits (share of the texts checked), sources (name, n), examples (source, target, text)}; None
            where nothing was checked.
        leaks: {splits (name, groups), groups, exact (share of the groups held out whose prompt is trained on), near
            (the same by the clusters; None without them), examples}; None without a live split.
    """
    prompts = _prompts(view)
    labels = _labels(view)
    near, by = _near(labels), "labels"
    if near is None:
        near, by = _measured(prompts, notes), "report"
    return {
        "prompts": _repeated(prompts),
        "responses": _responses(view),
        **_pairs(view, prompts, found),
        "near": None if near is None else {"by": by, **_near_counts(prompts, near)},
        "contamination": _contamination(view, prompts, labels),
        "leaks": _leaks(prompts, labels, near),
    }


def _key(text: pl.Expr) -> pl.Expr:
    """A number that equal texts share; null where there is none (a hash of nothing is a number like any other)."""
    return pl.when(text.is_not_null()).then(plain_text(text).hash(0))


def _prompts(view: _Tables) -> pl.DataFrame:
    """prompt_id, group_id, key (hash of all that is said but for system turns), text (its beginning), whole; sorted."""
    turn = pl.element().struct
    said = pl.col("messages").list.eval(
        pl.when(turn.field("role") != "system").then(turn.field("role") + ": " + turn.field("content"))
    )
    last = pl.col("messages").list.last().struct.field("content")
    context = pl.col("context").list.eval(turn.field("text")).list.join(" ", ignore_nulls=True)
    media = pl.col("media").list.eval(turn.field("uri")).list.join(" ", ignore_nulls=True)
    whole = pl.concat_str(
        [said.list.drop_nulls().list.join("\n", ignore_nulls=True), context, media], separator="\n", ignore_nulls=True
    )
    said_something = plain_text(whole)
    rows = view["prompts"].select(
        "prompt_id",
        "group_id",
        key=pl.when(said_something != "").then(said_something.hash(0)),
        text=last.str.slice(0, CHARACTERS),
        whole=said_something.str.slice(0, _READ),
    )
    return rows.collect().sort("group_id", "prompt_id")


def _repeated(prompts: pl.DataFrame) -> Entry:
    roots = prompts.drop_nulls("key").unique(["group_id", "key"], keep="first", maintain_order=True)
    shared = roots.filter(pl.col("group_id").n_unique().over("key") > 1)
    groups = shared["group_id"].n_unique()
    examples = shared.group_by("key").agg(
        n=pl.len(), text=pl.col("text").sort_by("group_id").first(), at=pl.col("group_id").min()
    )
    examples = examples.sort(["n", "at"], descending=[True, False]).head(MOST_SHOWN)
    return {
        "groups": prompts["group_id"].n_unique(),
        "repeated": share(groups, prompts["group_id"].n_unique()),
        "clusters": shared["key"].n_unique(),
        "examples": examples.select("text", "n").to_dicts(),
    }


def _responses(view: _Tables) -> Entry:
    rows = view["responses"].filter(pl.col("text").is_not_null())
    rows = rows.select("prompt_id", key=_key(pl.col("text")))
    n, different = rows.select(n=pl.len(), different=pl.struct("prompt_id", "key").n_unique()).collect().row(0)
    return {"n": n, "repeated": share(n - different, n)}


def _pairs(view: _Tables, prompts: pl.DataFrame, found: Decided) -> Entry:
    """Pairs of one text, pairs that are stated twice, and pairs that are stated both ways round."""
    if found.rows.is_empty():
        return {"pairs": None, "conflicts": None}
    written = view["responses"].select(
        "response_id",
        own="prompt_id",
        key=_key(pl.col("text")),
        text=pl.col("text").str.slice(0, CHARACTERS),
    )
    texts = written.collect()
    asked = prompts.select("prompt_id", "key", "text").unique("prompt_id", keep="first", maintain_order=True)
    rows = found.rows
    for side in ("a", "b"):
        named = texts.rename({"response_id": side, "key": f"key_{side}", "text": f"text_{side}", "own": f"own_{side}"})
        rows = rows.join(named, on=side, how="left", maintain_order="left")
    rows = rows.with_columns(prompt_id=pl.coalesce("prompt_id", "own_a"))
    rows = rows.join(asked, on="prompt_id", how="left", maintain_order="left").drop_nulls(["key_a", "key_b"])
    same = rows.filter(pl.col("key_a") == pl.col("key_b")).height
    rows = rows.filter(pl.col("key_a") != pl.col("key_b"))
    turned = pl.col("key_a") > pl.col("key_b")
    # Two steps may state one and the same: that is no repetition, for they are exported apart.
    unit = ["step", "aspect", "key", "low", "high"]
    rows = rows.with_columns(
        low=pl.min_horizontal("key_a", "key_b"), high=pl.max_horizontal("key_a", "key_b"), turned=turned
    )
    stated = rows.group_by(unit).agg(
        n=pl.len(),
        ways=pl.col("turned").n_unique(),
        at=pl.concat_str("a", "b").min(),
        prompt=pl.col("text").first(),
        one=pl.min_horizontal("text_a", "text_b").first(),
        other=pl.max_horizontal("text_a", "text_b").first(),
    )
    both = stated.filter(pl.col("ways") > 1).sort(["n", "at"], descending=[True, False])
    again = int((stated["n"] - stated["ways"]).sum())
    return {
        "pairs": {
            "n": rows.height + same,
            "same_text": share(same, rows.height + same),
            "repeated": share(again, rows.height),
        },
        "conflicts": {
            "pairs": stated.height,
            "opposite": share(both.height, stated.height),
            "examples": both.head(MOST_SHOWN).select("aspect", "prompt", "one", "other", "n").to_dicts(),
        },
    }


def _labels(view: _Tables) -> pl.DataFrame:
    """The live labels of prompts and responses that are about splits, duplicates and contamination."""
    about = pl.col("aspect").is_in(["split", "duplicates", "contamination"]) & (pl.col("status") == "ok")
    says = pl.col("labels").is_not_null() | (pl.col("aspect") == "contamination")
    rows = view["annotations"].filter(about & says)
    return (
        rows.select("group_id", "target", "target_ids", "labels", "aspect", "annotator", "annotation_id", "protocol")
        .collect()
        .sort("annotation_id")
    )


def _near(labels: pl.DataFrame) -> pl.DataFrame | None:
    """prompt_id and cluster of each prompt that is labelled as a near duplicate of another."""
    rows = labels.filter((pl.col("aspect") == "duplicates") & (pl.col("target") == "prompt"))
    rows = rows.filter(pl.col("protocol") == "label")
    if rows.is_empty():
        return None
    return rows.select(
        pl.col("target_ids").list.first().alias("prompt_id"), cluster=pl.col("labels").list.first()
    ).drop_nulls()


def _measured(prompts: pl.DataFrame, notes: list[str]) -> pl.DataFrame | None:
    """The same by the report itself, one prompt of each key."""
    own = prompts.drop_nulls("key").unique("key", keep="first", maintain_order=True)
    if own.height > MOST_COMPARED:
        notes.append(
            f"Near duplicates are not looked for among {own.height:,} prompts: a step that runs judge.duplicates does."
        )
        return None
    found = near_duplicates(shingle_sets(own["whole"]), NEAR).clusters()
    clusters = own.select("key", cluster=pl.Series(found.labels).cast(pl.String)).filter(pl.Series(found.sizes) > 1)
    return prompts.join(clusters, on="key", how="inner", maintain_order="left").select("prompt_id", "cluster")


def _near_counts(prompts: pl.DataFrame, near: pl.DataFrame) -> Entry:
    """Of groups that share a cluster with another group."""
    groups = prompts["group_id"].n_unique()
    held = prompts.select("prompt_id", "group_id").join(near, on="prompt_id", how="inner")
    shared = held.filter(pl.col("group_id").n_unique().over("cluster") > 1)
    return {
        "groups": groups,
        "repeated": share(shared["group_id"].n_unique(), groups),
        "clusters": shared["cluster"].n_unique(),
    }


def _contamination(view: _Tables, prompts: pl.DataFrame, labels: pl.DataFrame) -> Entry | None:
    """What was measured, and which of these carry a label: the name of what they were found in."""
    rows = labels.filter(pl.col("aspect") == "contamination")
    if rows.is_empty():
        return None
    checked = rows.explode("target_ids").select("target", "target_ids").unique()
    hits = rows.filter((pl.col("protocol") == "label") & (pl.col("labels").list.len() > 0)).explode("target_ids")
    hit = hits.select("target", "target_ids").unique().height
    hits = hits.select("target", id="target_ids", source=pl.col("labels").list.first())
    named = hits.group_by(name="source").agg(n=pl.len())
    shown = hits.sort("source", "target", "id").unique(["target", "id"], keep="first", maintain_order=True)
    shown = shown.filter(pl.int_range(pl.len()).over("target") < MOST_SHOWN)
    texts = pl.concat(
        [
            prompts.select("text", target=pl.lit("prompt"), id="prompt_id"),
            view["responses"]
            .filter(pl.col("response_id").is_in(shown["id"].implode()))
            .select(text=pl.col("text").str.slice(0, CHARACTERS), target=pl.lit("response"), id="response_id")
            .collect(),
        ]
    )
    shown = shown.join(texts, on=["target", "id"], how="left", maintain_order="left")
    return {
        "hits": share(hit, checked.height),
        "sources": named.sort(["n", "name"], descending=[True, False]).head(20).to_dicts(),
        "examples": shown.select("source", "target", "text").to_dicts(),
    }


def _leaks(prompts: pl.DataFrame, labels: pl.DataFrame, near: pl.DataFrame | None) -> Entry | None:
    rows = labels.filter((pl.col("aspect") == "split") & (pl.col("labels").list.len() > 0))
    if rows.is_empty():
        return None
    split = rows.select("group_id", split=pl.col("labels").list.first()).unique("group_id", keep="last")
    held = prompts.join(split, on="group_id", how="inner", maintain_order="left")
    sizes = held.group_by(name="split").agg(groups=pl.col("group_id").n_unique()).sort("name")
    leaking = _crossing(held, "key")
    found = held.filter(pl.col("group_id").is_in(leaking["group_id"].implode())).sort("group_id")
    examples = found.unique("key", keep="first", maintain_order=True).head(MOST_SHOWN)["text"].to_list()
    out = held.filter(pl.col("split") != "train")["group_id"].n_unique()
    clustered = None
    if near is not None:
        with_clusters = held.join(near, on="prompt_id", how="inner")
        clustered = share(_crossing(with_clusters, "cluster").height, out)
    return {
        "splits": sizes.to_dicts(),
        "groups": out,
        "exact": share(leaking.height, out),
        "near": clustered,
        "examples": examples,
    }


def _crossing(held: pl.DataFrame, by: str) -> pl.DataFrame:
    """group_id of those that are held out and share `by` with one that is trained on."""
    trained = held.filter(pl.col("split") == "train").select(by).unique()
    return held.filter(pl.col("split") != "train").join(trained, on=by, how="semi").select("group_id").unique()
