"""Pictures that a file names: they are copied into the dataset, which must not depend on where the file lay."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

FOLDER = "media"
"""In the dataset's folder; a picture's name there is its SHA-256."""


def bring(files: Mapping[str, Path], dataset: Path) -> None:
    """Copy pictures into a dataset's folder; those that are there already are left alone.

    Args:
        files: by the uri that rows name, below the dataset's folder, where each lies now.
        dataset: the folder.
    """
    for uri, path in files.items():
        place = dataset / uri
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            whole = place.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                shutil.copyfile(path, whole)
                whole.replace(place)
            finally:
                whole.unlink(missing_ok=True)
