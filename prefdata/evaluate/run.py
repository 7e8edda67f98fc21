"""`evaluate`: from an export and a model to numbers, and to annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefdata.dataset import Dataset
from prefdata.evaluate.measures import measures
from prefdata.evaluate.rows import annotations_of, keep, write_annotations
from prefdata.evaluate.scoring import Say, Scored, Settings, score_lists
from prefdata.train.data import read_preferences

ATTRIBUTES = ("aspect", "annotator", "kind")
"""What accuracies can be taken apart by: the attributes of a list that an export carries."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of it.

    Attributes:
        measures: see `prefdata.evaluate.measures.measures`.
        scored: the model's numbers.
        new_rows: annotations that the dataset did not have; null where none was named.
    """

    measures: dict[str, Any]
    scored: Scored
    new_rows: int | None


def evaluate(
    data: str | Path,
    model: str,
    *,
    out: str | Path | None = None,
    reference: str | None = None,
    dataset: str | Path | None = None,
    by: Sequence[str] = ("aspect", "annotator"),
    settings: Settings | None = None,
    say: Say = print,
) -> Evaluation:
    """Measure a policy or a reward model on an export.

    Args:
        data: a training file, or a folder of one, as `prefdata train` reads it.
        model: a folder, a known name or a hub id.
        out: a folder for `evaluation.json` and `annotations.parquet`.
        reference: see `score_lists`.
        dataset: the dataset that the export was made from: it gets the annotations.
        by: attributes of the lists to take accuracies apart by: of ATTRIBUTES.
        settings: which rows, beta, lengths, device.
        say: gets a line now and then.

    Raises:
        EngineError: a model cannot be loaded.
        DataError: there is no such dataset.
        TrainError: the file cannot be used.
    """
    chosen = settings or Settings()
    # Before the long part: a wrong name must not cost it.
    opened = None if dataset is None else Dataset(dataset)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
    read = read_preferences(Path(data))
    scored = score_lists(read, model, reference=reference, settings=chosen, say=say)
    found = {
        "data": str(data),
        "model": scored.annotator,
        "reference": scored.reference,
        "settings": asdict(chosen),
        "left_out": scored.left_out,
        **measures(scored.lists, by=by, beta=chosen.beta),
    }
    if out is not None:
        folder = Path(out)
        text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
        write_annotations(annotations_of(scored), str(folder / "annotations.parquet"))
    return Evaluation(found, scored, None if opened is None else keep(scored, opened))
