"""Whether chosen and rejected responses can be told apart without the question, and by what.

Where they can, a model learns the mark and not the preference (the curation reference's entry on linear separability;
its probes are reconstructed from the abstract of "More is Less", so the limits below are defaults of ours).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from prefdata.errors import DataError
from prefdata.operators.vectors import VECTOR, read_vectors
from prefdata.report.decided import Decided, texts_of
from prefdata.report.numbers import Entry, share
from prefdata.report.probes import FOLDS, Array, Ints, auc, held_out_logits, surface, words
from prefdata.stats.confident import folds_of

MOST_PROBED = 2_000
"""Pairs that probes read."""

MOST_CHARACTERS = 4_000
"""Of each response."""

FEWEST = 30
"""Of fewer pairs, or fewer prompts than folds times two, a probe says nothing."""

SEPARABLE = 0.9
"""An area under the ROC above this is a warning."""

MOSTLY = 0.8
"""The surface explains it where it reaches so much of what the text reaches above one half."""

NOTABLE = 0.65
"""Below this there is little to explain."""

MOST_PARTS = 20


def separability(view: Mapping[str, pl.LazyFrame], found: Decided, notes: list[str]) -> Entry | None:
    """Probes of chosen against rejected responses.

    Args:
        view: the live tables.
        found: the pairs.
        notes: gets a sentence on what was left out.

    Returns:
        None where there are too few pairs. Else basis, pairs, prompts; text, embedding (vectors that a step has
        stored), surface (what needs no reading) and model (which one wrote it): each {auc: {value, low, high, n},
        accuracy (share of the sides told right), pairs (share of the pairs whose chosen side scores higher, equal ones
        half)}, or None; features: {name, auc} of each surface feature alone; parts: {kind (models, source, chosen_by),
        name, pairs, text, surface}; warnings: texts.
    """
    rows = _sampled(found.rows, notes)
    texts = texts_of(view, pl.concat([rows["a"], rows["b"]]), MOST_CHARACTERS)
    rows = _with_texts(rows, texts)
    groups = rows["prompt_id"].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    if rows.height < FEWEST or len(np.unique(groups)) < 10:
        return None
    read = rows["text_a"].to_list() + rows["text_b"].to_list()
    both, chosen = np.concatenate([groups, groups]), np.repeat([1.0, 0.0], rows.height)
    folds = folds_of(both, FOLDS)
    flat = surface(read)
    scores = {
        "embedding": _by_vectors(view, rows, chosen, folds, notes),
        "surface": held_out_logits(flat, chosen, folds),
        "text": held_out_logits(words(read), chosen, folds),
        "model": _by_model(rows, chosen, folds),
    }
    made: Entry = {
        "basis": found.basis,
        "pairs": rows.height,
        "prompts": len(np.unique(groups)),
        **{name: None if one is None else _measured(one, groups) for name, one in scores.items()},
        "features": _features(flat),
        "parts": _parts(view, rows, scores, groups),
    }
    return {**made, "warnings": warnings(made)}


def _sampled(rows: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """One row for each pair of responses, at most MOST_PROBED of them."""
    rows = rows.select("prompt_id", "a", "b").unique(["a", "b"], keep="first", maintain_order=True).sort("a", "b")
    if rows.height <= MOST_PROBED:
        return rows
    notes.append(
        f"Whether the sides can be told apart is asked of {MOST_PROBED:,} of {rows.height:,} pairs, those whose chosen "
        "responses' ids come first (ids are hashes)."
    )
    return rows.head(MOST_PROBED)


def _with_texts(rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    for side in ("a", "b"):
        named = texts.rename({"response_id": side, "text": f"text_{side}", "model": f"model_{side}"})
        rows = rows.join(named, on=side, how="inner", maintain_order="left")
    return rows


def _by_model(rows: pl.DataFrame, chosen: Array, folds: Ints) -> Array | None:
    """How often a model's responses are chosen in the other folds: what its name alone gives away."""
    models = pl.concat([rows["model_a"], rows["model_b"]]).fill_null("")
    if models.n_unique() < 2:
        return None
    code = (models.rank("dense") - 1).cast(pl.Int64).to_numpy()
    found = np.zeros(len(code))
    for fold in np.unique(folds):
        train = folds != fold
        won = np.bincount(code[train], weights=chosen[train], minlength=code.max() + 1)
        seen = np.bincount(code[train], minlength=code.max() + 1)
        found[~train] = ((won + 0.5) / (seen + 1))[code[~train]]
    return found


def _by_vectors(
    view: Mapping[str, pl.LazyFrame], rows: pl.DataFrame, chosen: Array, folds: Ints, notes: list[str]
) -> Array | None:
    """By the vectors that a step has stored, where all of the responses have one of one model."""
    ids = pl.concat([rows["a"], rows["b"]]).to_list()
    about = (pl.col("target") == "response") & (pl.col("aspect") == VECTOR)
    columns = ["target_ids", "annotator", "protocol", "status", "text"]
    of_these = pl.col("target_ids").list.first().is_in(sorted(set(ids)))
    stored = view["annotations"].filter(about & of_these).select(columns).collect()
    if stored.is_empty():
        return None
    names = stored["annotator"].value_counts().sort(["count", "annotator"], descending=[True, False])["annotator"]
    try:
        known, vectors = read_vectors(stored.filter(pl.col("annotator") == names[0]), "the report")
    except DataError as error:
        notes.append(f"The probe of vectors was left out: {error}")
        return None
    place = {one: at for at, one in enumerate(known)}
    if not all(one in place for one in ids):
        notes.append("The probe of vectors was left out: some responses have none.")
        return None
    return held_out_logits(np.asarray(vectors, dtype=np.float64)[[place[one] for one in ids]], chosen, folds)


def _measured(scores: Array, groups: Ints) -> Entry:
    half = len(groups)
    first, second = scores[:half], scores[half:]
    right = float((first > second).sum() + 0.5 * (first == second).sum())
    middle = float(np.median(scores))
    told = (first > middle).sum() + (second < middle).sum() + 0.5 * (scores == middle).sum()
    return {
        "auc": auc(first, second, (groups, groups)),
        "accuracy": share(float(told), 2 * half),
        "pairs": share(right, half),
    }


def _features(flat: Array) -> list[Entry]:
    """Each surface feature by itself: {name, auc}; 0.5 tells nothing, above it the chosen side has more of it."""
    from prefdata.report.probes import SURFACE

    half = len(flat) // 2
    names = [*(name for name, _ in SURFACE), "refusal"]
    made = [
        {"name": name, "auc": auc(flat[:half, k], flat[half:, k])["value"], "used": bool(np.ptp(flat[:, k]) > 0)}
        for k, name in enumerate(names)
    ]
    return [{"name": one["name"], "auc": one["auc"]} for one in made if one["used"]]


def _parts(
    view: Mapping[str, pl.LazyFrame], rows: pl.DataFrame, scores: Mapping[str, Array | None], groups: Ints
) -> list[Entry]:
    """The same probes by the prompts' source, by the model of the chosen side, and by whether one model wrote both."""
    asked = view["prompts"].select("prompt_id", "source").unique("prompt_id", keep="first", maintain_order=True)
    known = rows.select("prompt_id", "model_a", "model_b").join(
        asked.collect(), on="prompt_id", how="left", maintain_order="left"
    )
    one = pl.when(pl.col("model_a").eq_missing(pl.col("model_b"))).then(pl.lit("one model wrote both"))
    named = known.select("source", chosen_by="model_a", models=one.otherwise(pl.lit("two models")))
    made = []
    for kind in ("models", "source", "chosen_by"):
        values = named[kind]
        if values.n_unique() < 2:
            continue
        for value, n in values.value_counts().sort(["count", kind], descending=[True, False]).iter_rows():
            here = np.flatnonzero((values.is_null() if value is None else values == value).to_numpy())
            entry: Entry = {"kind": kind, "name": value, "pairs": n}
            for probe in ("text", "surface"):
                found = scores[probe]
                inside = None if found is None else np.concatenate([found[here], found[here + len(groups)]])
                entry[probe] = None if inside is None else _measured(inside, groups[here])["auc"]
            made.append(entry)
    return made[:MOST_PARTS]


def warnings(found: Entry) -> list[str]:
    """What a reader should know, in sentences."""
    at = {
        name: found[name]["auc"]["value"] if found[name] else None for name in ("text", "embedding", "surface", "model")
    }
    top = max((value for value in at.values() if value is not None), default=None)
    if top is None or top < NOTABLE:
        return []
    said = []
    if top > SEPARABLE:
        said.append(
            f"Chosen and rejected responses can be told apart without the question (AUC {top:.2f}; 0.5 is chance): a "
            "model may learn that mark and not the preference."
        )
    over = max(top - 0.5, 1e-9)
    if at["surface"] is not None and at["surface"] >= NOTABLE and at["surface"] - 0.5 >= MOSTLY * over:
        said.append(
            f"Length and layout alone tell the chosen response from the rejected one (AUC {at['surface']:.2f}; 0.5 is "
            "chance), about as well as its words do."
        )
    if at["model"] is not None and at["model"] >= NOTABLE and at["model"] - 0.5 >= MOSTLY * over:
        said.append(
            "Which model wrote a response alone tells the chosen one from the rejected one (AUC "
            f"{at['model']:.2f}; 0.5 is chance); pairs of two responses by one model would not give it away."
        )
    return said
