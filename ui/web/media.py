"""Images that a prompt or response names, from this machine's disk.

What stands in a dataset came from outside: a uri there may name any file. Only pictures are handed out, only from the
dataset's own folder and those that the admin has allowed, and only as they were when they were recorded.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import select

from prefdata.dataset import Dataset
from prefdata.errors import DataError

from ..accounts.person import Person
from ..store import Store
from ..store.tables import tasks, work
from ..work.texts import Texts

FOLDERS = "media_folders"
"""The setting with further folders, as absolute paths."""

LARGEST = 25 * 2**20
"""Bytes of a picture."""

_SANDBOX = "default-src 'none'; sandbox; frame-ancestors 'self'"


class Holds(Protocol):
    """What of the service is needed here."""

    dataset: Dataset
    store: Store
    texts: Texts


def kind_of(content: bytes) -> str | None:
    """The type of a picture, from its first bytes; None for everything else, SVG (which can hold scripts) included."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def local(uri: str, home: Path, allowed: Sequence[str]) -> Path | None:
    """The file that a uri names, if it lies where files may be handed out; None otherwise.

    Args:
        uri: a path, relative to the dataset's folder unless absolute, or file:///PATH.
        home: the dataset's folder.
        allowed: further folders, absolute.
    """
    if "\x00" in uri or not uri:
        return None
    if uri.lower().startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            return None
        uri = unquote(parts.path)
    elif "://" in uri or uri.startswith("data:"):
        return None
    try:
        found = (home / uri).resolve(strict=True)  # through links and .., so that what is compared is what is opened
        folders = [home.resolve(), *(Path(folder).resolve() for folder in allowed if Path(folder).is_absolute())]
    except (OSError, RuntimeError, ValueError):
        return None
    return found if any(found.is_relative_to(folder) for folder in folders) else None


def picture(path: Path, sha256: str | None) -> tuple[bytes, str] | None:
    """A picture and its type; None if it is none, is too large, or is not what was recorded.

    Args:
        path: resolved.
        sha256: of what was recorded; None: not recorded.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:  # a pipe would hold us up
            return None
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError:
        return None
    kind = kind_of(content)
    if kind is None or len(content) > LARGEST:
        return None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256.lower():
        return None
    return content, kind


def whole(number: str) -> int:
    """A number in an address; -1, of which there is nothing, for what is none or is larger than the store's."""
    return int(number) if len(number) < 10 and number.isascii() and number.isdigit() else -1


def routes(service: Holds) -> APIRouter:
    """Pictures: the Nth entry of a row's `media`, counted from 0.

    /media/task/TASK/prompt/N and .../PLACE/N are for whoever has or had the task; PLACE counts the responses
    as that person sees them. /media/PROMPT/N and /media/response/RESPONSE/N are for reviewers.
    """
    router = APIRouter()
    home = service.dataset.path

    def named(table: str, key: str) -> Sequence[Mapping[str, Any]]:
        try:
            row = service.texts.prompt(key) if table == "prompts" else service.texts.responses([key])[key]
        except DataError:
            return ()
        return row["media"] or ()

    def answer(request: Request, table: str, key: str, n: int) -> Response:
        media = named(table, key)
        entry = media[n] if 0 <= n < len(media) else None
        path = local(entry["uri"], home, service.store.setting(FOLDERS) or ()) if entry and entry["uri"] else None
        found = picture(path, entry["sha256"]) if path and entry else None
        if found is None:
            return Response(status_code=404)
        content, kind = found
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=3600", "Content-Security-Policy": _SANDBOX}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers={**headers, "Content-Disposition": "inline"})

    def of_task(who: Person, task: int) -> tuple[str, list[str]] | None:
        """The prompt of a task and its responses in the order that this person sees, if they may see them."""
        with service.store.read() as db:
            row = db.execute(select(tasks).where(tasks.c.task_id == task)).first()
            own = (work.c.task_id == task) & (work.c.person_id == who.person_id)
            shown = db.execute(select(work.c.shown).where(own)).scalar()
        if row is None or (shown is None and not who.may("reviewer")):
            return None
        places = range(len(row.target_ids)) if shown is None else shown
        return row.prompt_id, [row.target_ids[place] for place in places]

    @router.get("/media/task/{task}/prompt/{n}")
    def of_task_prompt(request: Request, task: str, n: str) -> Response:
        found = of_task(request.state.person, whole(task))
        return Response(status_code=404) if found is None else answer(request, "prompts", found[0], whole(n))

    @router.get("/media/task/{task}/{place}/{n}")
    def of_task_response(request: Request, task: str, place: str, n: str) -> Response:
        found, at = of_task(request.state.person, whole(task)), whole(place)
        if found is None or not 0 <= at < len(found[1]):
            return Response(status_code=404)
        return answer(request, "responses", found[1][at], whole(n))

    @router.get("/media/response/{response_id}/{n}")
    def of_response(request: Request, response_id: str, n: str) -> Response:
        request.state.person.need("reviewer")
        return answer(request, "responses", response_id, whole(n))

    @router.get("/media/{prompt_id}/{n}")
    def of_prompt(request: Request, prompt_id: str, n: str) -> Response:
        request.state.person.need("reviewer")
        return answer(request, "prompts", prompt_id, whole(n))

    return router
