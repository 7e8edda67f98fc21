"""Files that a lead uploads: taken from where the browser's upload lies, and cards and gold questions kept.

What a request says of a file is hostile: it may name any path. Only what lies in the upload folder is read, and of what
is kept a request gives the name, never a path.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from prefdata.cards import shipped_cards
from prefdata.errors import DataError, PrefdataError

FOLDER = "uploads"
"""In the dataset's folder."""

TASKS = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
CARDS = (".yaml", ".yml")

_KEPT = re.compile(r"(card|gold)-[0-9a-f]{8}-[A-Za-z0-9_.-]{1,80}")


@contextmanager
def received(sent: object, folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """A file that the browser has just uploaded; it is deleted when this is left.

    Args:
        sent: what the request says of it: {path, ...}, or None.
        folder: where uploads lie.
        endings: those that are taken.

    Raises:
        DataError: no file, one of another kind, or one that is no upload.
    """
    sent = sent[0] if isinstance(sent, list) and len(sent) == 1 else sent
    named = sent.get("path") if isinstance(sent, Mapping) else None
    if not isinstance(named, str) or not named or "\x00" in named:
        raise DataError("choose one file first")
    try:
        path = Path(named).resolve(strict=True)  # through links and `..`: what is compared is what is opened
    except (OSError, RuntimeError):
        raise DataError("this upload is no longer there: choose the file again") from None
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise DataError("this is no upload: choose the file again")
    try:
        if path.suffix.lower() not in endings:
            raise DataError(f"{path.name} is of another kind: {', '.join(endings)} can be read")
        yield path
    except PrefdataError as error:  # what it says is for the page, where our folders are nobody's business
        raise DataError(str(error).replace(str(path), path.name)) from error
    finally:
        path.unlink(missing_ok=True)
        if path.parent != folder.resolve() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def keep(dataset: Path, path: Path, kind: str) -> str:
    """Copy an upload into the dataset's folder, because a project names it; the same file twice is one.

    Args:
        dataset: the dataset's folder.
        path: of the upload.
        kind: card or gold.

    Returns:
        Its name there.
    """
    named = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.name)[-80:]
    name = f"{kind}-{sha256(path.read_bytes()).hexdigest()[:8]}-{named}"
    folder = dataset / FOLDER
    folder.mkdir(exist_ok=True)
    if not (folder / name).exists():
        part = folder / f".{name}.tmp"
        shutil.copyfile(path, part)
        part.replace(folder / name)
    return name


def kept(dataset: Path, kind: str) -> dict[str, str]:
    """The files of a kind that are kept: name there to the name that it had, the newest first."""
    found = [path for path in (dataset / FOLDER).glob(f"{kind}-*") if _KEPT.fullmatch(path.name)]
    found.sort(key=lambda path: (-path.stat().st_mtime, path.name))
    return {path.name: path.name.split("-", 2)[2] for path in found}


def path_of(dataset: Path, name: object, kind: str) -> str:
    """Where a kept file lies; an empty text for none.

    Raises:
        DataError: there is none of that name.
    """
    if not name:
        return ""
    if not isinstance(name, str) or not _KEPT.fullmatch(name) or not name.startswith(f"{kind}-"):
        raise DataError(f"{name!r} is no file that was uploaded")
    path = dataset / FOLDER / name
    if not path.is_file() or path.is_symlink():
        raise DataError(f"the uploaded file {name!r} is no longer there: upload it again")
    return str(path)


def card_of(dataset: Path, name: object) -> str:
    """What a project states as its card: a shipped card's name, or the path of an uploaded one.

    Raises:
        DataError: there is none of that name.
    """
    return str(name) if name in shipped_cards() else path_of(dataset, name, "card")


def literal(text: object) -> str:
    """Guidelines as they were typed: on the command line they may be a file's path, from the page never."""
    said = str(text or "").strip()
    return f"{said}\n" if said else ""
