"""The map of the package names every module, once."""

from __future__ import annotations

import re
from pathlib import Path

import prefdata.stats


def test_every_module_is_on_the_map_and_nothing_else() -> None:
    folder = Path(prefdata.stats.__file__).parent
    table = (prefdata.stats.__doc__ or "").split("===\n")[1].splitlines()
    right = " ".join(line[49:] for line in table)
    named = re.findall(r"[a-z_]+", re.sub(r"\([^)]*\)|\band\b", " ", right))
    assert sorted(named) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
