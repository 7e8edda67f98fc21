"""The files of a dataset: one file, a folder of Parquet, or one of `save_to_disk`, without the datasets library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet as pq

from prefdata.train.errors import TrainError
from prefdata.train.rows import is_held_out

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
SUFFIXES = (".parquet", ".arrow", *LINES)
"""Of the files that are looked for in a folder. A file that is named may be `.json` too: one object a line."""
LINE_BYTES = 1 << 26
"""The longest line of JSON lines."""
_WORDS = re.compile(r"[^0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Table:
    """One file of a dataset.

    Attributes:
        path: the file.
        held_out: whether it is a held-out split; null: nothing but its own column `split` says.
    """

    path: Path
    held_out: bool | None = None


def read_table(path: Path) -> pa.Table:
    """A Parquet, Arrow or JSON-lines file.

    Raises:
        TrainError: it cannot be read.
    """
    lines = path.name.endswith((*LINES, ".json", ".json.gz"))
    kind = "Arrow" if path.suffix == ".arrow" else "JSON lines" if lines else "Parquet"
    try:
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source:
                try:
                    return pa.ipc.open_stream(source).read_all()
                except pa.ArrowInvalid:
                    source.seek(0)
                    return pa.ipc.open_file(source).read_all()
        return _read_lines(path) if lines else pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        if not lines and not path.name.endswith(SUFFIXES):
            reason = f"its name ends in none of {', '.join((*SUFFIXES, '.json'))}, and it is no Parquet file"
        raise TrainError(f"{path} cannot be read as {kind}: {reason}") from None


def _read_lines(path: Path) -> pa.Table:
    """One JSON object a line, maybe compressed.

    Raises:
        TrainError: it is one list of objects.
        ArrowException, OSError: it cannot be read.
    """
    packed = "gzip" if path.suffix == ".gz" else None
    with pa.input_stream(str(path), compression=packed) as source:
        if source.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
            raise TrainError(f"{path} is one JSON list: write one object a line (JSON lines), or Parquet")
    options = pa.json.ReadOptions(block_size=LINE_BYTES)
    with pa.input_stream(str(path), compression=packed) as source:
        table = pa.json.read_json(source, read_options=options)
    plain = pa.schema([field.with_type(_without_times(field.type)) for field in table.schema])
    if plain.equals(table.schema):
        return table
    with pa.input_stream(str(path), compression=packed) as source:
        return pa.json.read_json(source, read_options=options, parse_options=pa.json.ParseOptions(plain))


def _without_times(kind: pa.DataType, depth: int = 8) -> pa.DataType:
    """JSON has no times: texts that look like some are texts, down to the depth that any column has."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if depth and pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type, depth - 1))
    if depth and pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_times(field.type, depth - 1)) for field in kind])
    return kind


def find_tables(path: Path) -> list[Table]:
    """The files to read, those to train on before those that are held out.

    Args:
        path: a file; a folder of Parquet (also as the Hugging Face hub keeps it: `README.md` with `configs`, files
            named by split); or a folder of `save_to_disk`.

    Raises:
        TrainError: there is nothing, or more than one dataset.
    """
    if path.is_file():
        return [Table(path)]
    if not path.is_dir():
        raise TrainError(f"there is no file {path}: `data` names an exported Parquet file, or a folder of a dataset")
    if (path / "dataset_dict.json").is_file():
        splits = _json(path / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
            raise TrainError(f"{path / 'dataset_dict.json'} does not list its splits")
        found = [(name, table) for name in splits for table in _saved(_inside(path, name))]
    elif (path / "state.json").is_file():
        found = [("", table) for table in _saved(path)]
    else:
        found = _configured(path) or _named(path)
    if not found:
        raise TrainError(f"{path} holds no Parquet file, and nothing that the datasets library saved")
    return _split(path, found)


def _split(path: Path, found: list[tuple[str, Path]]) -> list[Table]:
    """Files with what their split's name says.

    Raises:
        TrainError: two splits would be trained on, or none.
    """
    names = list(dict.fromkeys(name for name, _ in found))
    if names == [""]:
        return [Table(file) for _, file in found]
    trained = [name for name in names if is_held_out(name or "train") is False]
    if len(trained) > 1:
        listed = ", ".join(trained)
        raise TrainError(
            f"{path} holds several splits to train on ({listed}): name one file, or a folder with one of them"
        )
    if not trained:
        raise TrainError(f"{path} holds the splits {', '.join(names)}, and none to train on: name a file")
    held_out = {name: is_held_out(name or "train") for name in names}
    if len(names) == 1:
        # Nothing is held out: the same as a file without a split.
        return [Table(file) for _, file in found]
    tables = [Table(file, held_out[name]) for name, file in found if held_out[name] is not None]
    return sorted(tables, key=lambda table: bool(table.held_out))


def _named(path: Path) -> list[tuple[str, Path]]:
    """The data files in a folder, with the splits that their names or their folders' names begin with.

    Raises:
        TrainError: they are of several kinds: one may be a copy of the other, or a part of its own.
    """
    inside = (file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts))
    files = sorted(file for file in inside if file.name.endswith(SUFFIXES) and file.is_file())
    kinds = list(dict.fromkeys("JSON lines" if file.name.endswith(LINES) else file.suffix for file in files))
    if len(kinds) > 1:
        raise TrainError(f"{path} holds data files of several kinds ({', '.join(sorted(kinds))}): name one file")
    return [(_split_of(file.relative_to(path)), file) for file in files]


def _split_of(name: Path) -> str:
    """`train` for `data/train-00000-of-00001.parquet` and `default/train/0000.parquet`; nothing where none is named."""
    for part in reversed((*name.parts[:-1], name.stem)):
        before = re.split(r"-\d+", part)[0]
        if is_held_out(_WORDS.split(before)[0]) is not None:
            return before
    return ""


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of a folder of `save_to_disk`."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise TrainError(f"{folder} was saved with an index over its rows: save it again after flatten_indices()")
    files = state.get("_data_files")
    names: list[Any] = (
        [one.get("filename") for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    )
    if not names or not all(isinstance(name, str) for name in names):
        raise TrainError(f"{folder / 'state.json'} does not list its data files")
    return [_inside(folder, name) for name in names]


def _inside(folder: Path, name: str) -> Path:
    """A path under a folder.

    Raises:
        TrainError: the name leads out of it, or nothing is there.
    """
    # By its name alone: the hub's own cache is a folder of links.
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise TrainError(f"{folder} names a file outside of itself: {name!r}")
    if not path.exists():
        raise TrainError(f"{folder} names {name!r}, which is not there")
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise TrainError(f"{path} is not what the datasets library writes")
    return content


def _configured(path: Path) -> list[tuple[str, Path]]:
    """The files that `configs` in README.md names, with their splits; none where it names none.

    Raises:
        TrainError: there are several configurations and none is the default.
    """
    readme = path / "README.md"
    if not readme.is_file():
        return []
    try:
        text = readme.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    configs = list(_configs(text))
    # Not `default: true`: it may stand at the first of many, which nobody chose to train on.
    chosen = [one for one in configs if one.name == "default"] or configs
    if len(chosen) > 1:
        names = ", ".join(one.name for one in chosen)
        raise TrainError(f"{path} holds several datasets ({names}): name one file of it")
    found: list[tuple[str, Path]] = []
    for split, pattern in chosen[0].files if chosen else ():
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise TrainError(f"{readme} names a file outside of its folder: {pattern!r}")
        try:
            matched = sorted(file for file in path.glob(pattern) if file.is_file() and file.name.endswith(SUFFIXES))
        except (ValueError, NotImplementedError, OSError) as error:
            raise TrainError(f"{readme} names the files {pattern!r}: {error}") from None
        found += [(split or _split_of(file.relative_to(path)), file) for file in matched]
    return found


@dataclass
class _Config:
    name: str
    files: list[tuple[str, str]]


def _configs(text: str) -> Iterator[_Config]:
    """What `configs` in a dataset card's front matter says: the keys that the hub writes, one a line.

    The card is YAML, and a GPU machine may have no reader for that: these lines need none.
    """
    parts = re.split(r"(?m)^---[ \t]*$", text, maxsplit=2)
    if len(parts) < 3 or parts[0].strip():
        return
    config: _Config | None = None
    inside, split = False, ""
    for line in parts[1].splitlines():
        if re.match(r"\S", line) and not line.startswith(("-", "#")):
            inside = line.split("#")[0].strip() == "configs:"
        if not inside:
            continue
        begins = line.strip().startswith("- ")
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        key, value = key.strip().strip("\"'"), value.strip().strip("\"'")
        if not colon:
            key, value, begins = "path", key, False
        if key == "config_name":
            if config:
                yield config
            config, split = _Config(value, []), ""
        elif config and key == "split":
            split = value
        elif config and key in ("path", "data_files") and value:
            config.files.append(("" if begins else split, value))
    if config:
        yield config
