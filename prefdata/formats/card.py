"""The README.md of a folder of exports, with which `datasets.load_dataset(folder)` works."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from prefdata.errors import DataError
from prefdata.formats.parquet import read_footer, whole_file
from prefdata.formats.writers import WRITERS

CARD = "README.md"
MARK = "# Made by prefdata export; it is written anew with every export."
"""First line within the front matter. A README.md without it is somebody's own and stays."""
PREFERRED = ("pairs", "lists")
"""Which file a bare `load_dataset(folder)` reads, if it is there; else the first by name."""


class _OneLine(yaml.SafeDumper):
    """Keeps every text on one line: a line `---` within one would end the front matter."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLine.add_representer(str, _represent_text)


def write_card(folder: Path, summary: Mapping[str, Any]) -> Path | None:
    """Write the folder's dataset card: one config for each Parquet file, its rows, columns and what was left out.

    Args:
        folder: what the exports lie in.
        summary: what the files do not tell: `file` names the one that was just written, `rows` and `left_out` (counts
            by reason) are about it; other keys are shown as they are.

    Returns:
        The card; None where the folder's README.md is not ours, which is left alone.
    """
    path = folder / CARD
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        return None
    files = sorted(entry for entry in folder.glob("*.parquet") if not entry.name.startswith("."))
    configs: list[dict[str, Any]] = []
    sections: list[str] = []
    for file in files:
        try:
            section = _section(file, summary if summary.get("file") == file.name else {})
        except DataError:
            continue  # not Parquet in spite of its name: load_dataset would stumble over it
        sections.append(section)
        configs.append({"config_name": _config_name(file.stem, configs), "data_files": glob.escape(file.name)})
    if str(summary.get("file", "")).endswith(".json"):
        sections.append(_json_section(summary))
    _mark_default(configs)
    front: dict[str, Any] = {"license": "unknown", "tags": ["preference"]}
    if configs:
        front["configs"] = configs
    head = yaml.dump(front, Dumper=_OneLine, sort_keys=False, allow_unicode=True, width=1 << 20)
    text = f"---\n{MARK}\n{head}---\n\n# Preference data\n\n{_facts(summary)}{''.join(sections)}"
    with whole_file(path) as card:
        card.write(text.encode("utf-8", "replace"))
    return path


def _config_name(stem: str, taken: list[dict[str, Any]]) -> str:
    """The file's name without what `datasets` forbids in a config's, made unique."""
    name = re.sub(r"[^\w.-]", "_", stem) or "data"
    names = {config["config_name"] for config in taken}
    while name in names:
        name += "_"
    return name


def _mark_default(configs: list[dict[str, Any]]) -> None:
    by_name = {config["config_name"]: config for config in configs}
    default = next((by_name[name] for name in PREFERRED if name in by_name), configs[0] if configs else None)
    if default is not None:
        default["default"] = True


def _facts(summary: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in summary.items() if key not in ("file", "format", "rows", "left_out")}
    lines = [f"- {_safe(key)}: {_safe(value)}" for key, value in shown.items()]
    about = (
        "Exported by prefdata. Every row has a `split` (`train` or `valid`); all rows of one prompt's group lie in one "
        "of them.\n\nLicence: unknown. Whoever publishes this puts in that of the prompts, responses and labels.\n\n"
    )
    return about + ("\n".join(lines) + "\n\n" if lines else "")


def _section(file: Path, summary: Mapping[str, Any]) -> str:
    schema, rows, footer = read_footer(file)
    format = footer.get("format", "").partition("/")[0]
    is_a = f"A row is {WRITERS[format].describes} (format `{format}`). " if format in WRITERS else ""
    origin = ", ".join(f"{key} {_safe(footer[key])}" for key in ("commit", "step", "view") if footer.get(key))
    columns = "".join(f"| {_code(field.name)} | {_code(field.type)} |\n" for field in schema)
    reasons = _reasons(summary.get("left_out", _counts(footer.get("left_out"))))
    return (
        f"## {_safe(file.name)}\n\n{is_a}{rows:,} rows.{f' From {origin}.' if origin else ''}\n\n"
        f"| column | type |\n|---|---|\n{columns}\n" + (f"Left out:\n\n{reasons}\n" if reasons else "")
    )


def _json_section(summary: Mapping[str, Any]) -> str:
    reasons = _reasons(summary.get("left_out", {}))
    made = f"## {_safe(summary['file'])}\n\n{_safe(summary.get('rows', 'unknown'))} rows.\n\n"
    return made + (f"Left out:\n\n{reasons}\n" if reasons else "")


def _reasons(left_out: Mapping[str, Any]) -> str:
    return "".join(f"- {_safe(reason)}: {_safe(count)}\n" for reason, count in sorted(left_out.items()))


def _counts(text: str | None) -> dict[str, int]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _code(value: object) -> str:
    """A name or a type as a code span in a table."""
    line = " ".join(str(value).split()).replace("element: ", "").replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def _safe(value: object) -> str:
    """Text for one cell or line of Markdown: on one line, its marks escaped."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`|\[\]*#])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
