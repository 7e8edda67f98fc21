"""The lock before everything: who may reach which address, and which requests another site made the browser send.

It stands before Gradio too, which offers each event of a page, its uploads and its files as an API of their own. What
is not named here is refused. Pure ASGI, because Gradio's streams must pass without being gathered first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..accounts import documents
from ..accounts.people import RANKS, Person
from ..accounts.sessions import secret_of
from .gradio_events import GradioEvents
from .gradio_files import GradioFiles

OPEN = ("/login", "/logout", "/invite", "/static", "/favicon.ico", "/manifest.json")
"""What can be reached without a session."""

FRAME = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""The Content-Security-Policy. Gradio needs inline and evaluated scripts; that none of them comes from a response is
the business of `markup.py`, and that nothing can call out even so is the business of this line."""

HEADERS = {
    "content-security-policy": FRAME,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    # Not no-referrer: browsers then send `Origin: null` with our own forms, which is what a stranger's form would send.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

LARGEST = 16 * 2**20
"""Bytes of a request that is no upload."""

_READ = ("", "config", "theme.css", "assets/", "static/", "svelte/", "favicon.ico", "manifest.json", "robots.txt")
_CALLS = ("info", "queue/", "heartbeat/", "call/", "run/", "api/", "cancel", "reset", "app_id", "login_check", "user")
_STREAMS = ("theme.css", "startup-events", "stream/")
_UPLOADS = ("upload", "upload_progress")
# Not among them, since nothing here needs them: proxy=, deep_link, monitoring, dev, run-history, vibe-edit, token,
# login, openapi.json, process_recording, component_server and custom_component.


@dataclass(frozen=True)
class Page:
    """A page of the application.

    Attributes:
        prefix: its address, below which all of it stands.
        module: the one in `ui/pages` that builds it.
        role: the least role that may see it.
        name: in the navigation.
        files: whether it offers files that it has made.
        uploads: whether it takes files.
        bar: whether it gets the navigation bar; without, it draws one itself.
    """

    prefix: str
    module: str
    role: str
    name: str
    files: bool = False
    uploads: bool = False
    bar: bool = True


def offered(page: Page, path: str) -> bool:
    """Whether a page needs this address of Gradio's.

    Args:
        page: the page.
        path: below its prefix, without a leading slash.
    """
    if not path.startswith("gradio_api/"):
        return _among(path, _READ)
    call = path.removeprefix("gradio_api/")
    if call.startswith(("file=", "file/")):
        # Gradio would fetch a URL for whoever asks.
        return page.files and ":" not in call[5:].lstrip("/").partition("/")[0]
    return _among(call, _CALLS + _STREAMS) or (page.uploads and _among(call, _UPLOADS))


def _among(path: str, names: Sequence[str]) -> bool:
    return any(path.startswith(name) if name.endswith("/") else path.rstrip("/") == name for name in names)


def foreign(method: str, scheme: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another site has, or may have, made the browser send this request.

    Browsers say it in Sec-Fetch-Site (over https and on localhost) or in Origin; programs say neither, and send the
    header X-Prefdata, which no other site can send. All that is let through is following a link from elsewhere.
    """
    reading = method in ("GET", "HEAD")
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return False
    if site is not None:
        navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not (reading and navigates)
    origin = headers.get("origin")
    if origin is not None:
        return not _same(origin, scheme, headers)
    return not reading and "x-prefdata" not in headers


def _same(origin: str, scheme: str, headers: Mapping[str, str]) -> bool:
    """Whether an Origin is what the browser knows us by. A proxy may have put another Host in place of that."""
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        for host in (headers.get("host", ""), headers.get("x-forwarded-host", "").split(",")[0].strip()):
            ours = urlsplit(f"{parts.scheme}://{host}")
            if host and ours.hostname == parts.hostname and (ours.port or port) == port:
                return not (scheme == "https" and parts.scheme == "http")
    except (KeyError, ValueError):  # null, or nonsense
        return False
    return False


class Guard:
    """Looks up who asks, and refuses what is not theirs; puts the safety headers on every answer.

    `request.state.person` is who asks, and None at the open addresses where nobody is signed in.

    Args:
        app: what stands behind.
        who: a session's secret to its person, or None.
        pages: all pages; those that are not mounted are nowhere.
        folder: where Gradio keeps uploads.
        events: of the pages that are mounted, by prefix.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        who: Callable[[str], Person | None],
        pages: Sequence[Page],
        folder: Path | None = None,
        events: Mapping[str, GradioEvents] | None = None,
    ) -> None:
        self.app = app
        self._who = who
        self._pages = pages
        self._files = GradioFiles(folder)
        self._events = events or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":  # nothing here uses them
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root) or "/"
        send = _dressed(send, kept="/static/" in path or "/assets/" in path)
        if scope["method"] == "OPTIONS" or foreign(scope["method"], scope["scheme"], headers):
            await _say(send, 403, "This request did not come from a page of this application.")
            return
        secret = secret_of(headers)
        person = await run_in_threadpool(self._who, secret) if secret else None
        scope.setdefault("state", {})["person"] = person
        page = next((page for page in self._pages if _below(path, page.prefix)), None)
        if person is None:
            if any(_below(path, prefix) for prefix in OPEN):
                await self.app(scope, _bounded(receive), send)
            else:
                await self._strange(scope, headers, path, page, send)
            return
        if page is None:
            await self.app(scope, _bounded(receive), send)
        elif not person.may(page.role):
            await self._too_low(headers, path, page, person, root, send)
        elif path == page.prefix:
            await _go(send, f"{root}{path}/" + _query(scope))
        else:
            await self._page(scope, receive, send, path.removeprefix(f"{page.prefix}/"), page, person)

    async def _page(self, scope: Scope, receive: Receive, send: Send, path: str, page: Page, person: Person) -> None:
        if not offered(page, path):
            await _say(send, 404, "There is nothing here.")
            return
        call = path.removeprefix("gradio_api/")
        if call.startswith(("file=", "file/")) and not self._files.may(call[5:], person):
            await _say(send, 404, "There is nothing here.")
        elif call.rstrip("/") == "upload":
            # Compressed, the answer could not be read here.
            plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
            await self.app({**scope, "headers": plain}, receive, self._noting(send, person))
        elif call != path and scope["method"] not in ("GET", "HEAD"):
            body, known = await _body(receive), self._events.get(page.prefix)
            if body is None or not self._files.may_all(body, person):
                await _say(send, 403, "This names a file that is not yours, or is no request of this page.")
            elif known is not None and not known.offers(call, body):
                await _say(send, 404, "There is nothing here.")
            else:
                await self.app(scope, _again(body, receive), send)
        else:
            await self.app(scope, _bounded(receive), send)

    async def _strange(
        self, scope: Scope, headers: Mapping[str, str], path: str, page: Page | None, send: Send
    ) -> None:
        """Nobody is signed in: pages lead to the sign-in page, everything else is told so."""
        at_page = path == "/" or (page is not None and path.rstrip("/") == page.prefix)
        asked = "text/html" in headers.get("accept", "") and not _programmatic(path)
        if scope["method"] in ("GET", "HEAD") and (at_page or asked):
            root = scope.get("root_path", "")
            back = quote(root + path + _query(scope), safe="/")
            await _go(send, f"{root}/login" + (f"?next={back}" if path != "/" else ""))
        else:
            await _say(send, 401, "You are not signed in, or your session is over: sign in again.")

    async def _too_low(
        self, headers: Mapping[str, str], path: str, page: Page, person: Person, root: str, send: Send
    ) -> None:
        roles = " and ".join(f"{role}s" for role, rank in RANKS.items() if rank >= RANKS[page.role])
        say = f"This page is for {roles}. You are signed in as {person.pseudonym}, {person.role}."
        if "text/html" in headers.get("accept", "") and not _programmatic(path):
            html = documents.message("Not for your role", say, root=root, onward=("/label/", "To your tasks"))
            await _answer(send, 403, html.encode(), "text/html; charset=utf-8")
        else:
            await _say(send, 403, say)

    def _noting(self, send: Send, person: Person) -> Send:
        """Remember whose upload it was."""
        body = bytearray()

        async def note(message: Message) -> None:
            if message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._files.note(bytes(body), person)
            await send(message)

        return note


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _programmatic(path: str) -> bool:
    return _below(path, "/api") or "/gradio_api/" in path


def _query(scope: Scope) -> str:
    found: bytes = scope.get("query_string", b"")
    return f"?{found.decode('latin-1')}" if found else ""


def _dressed(send: Send, *, kept: bool) -> Send:
    """Puts the safety headers on; takes off what would let other sites read the answer, which Gradio offers."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [
                (name, value)
                for name, value in message.get("headers", [])
                if not name.lower().startswith(b"access-control-") and name.lower() != b"server"
            ]
            names = {name.lower() for name, _ in given}
            wanted = {**HEADERS, "cache-control": "no-cache" if kept else "no-store"}
            given += [(n.encode(), v.encode()) for n, v in wanted.items() if n.encode() not in names]
            message = {**message, "headers": given}
        await send(message)

    return dressed


def _bounded(receive: Receive) -> Receive:
    """A request that goes on for too long is broken off."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= LARGEST else {"type": "http.disconnect"}

    return bounded


async def _body(receive: Receive) -> bytes | None:
    """All of a request; None if it is too long or was broken off."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > LARGEST:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A request that has been read, to be read once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _say(send: Send, status: int, say: str) -> None:
    await _answer(send, status, json.dumps({"say": say}).encode(), "application/json")


async def _go(send: Send, to: str) -> None:
    await _answer(send, 303, b"", "text/plain", {"location": to})


async def _answer(send: Send, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
    headers: dict[str, Any] = {"content-type": kind, "content-length": str(len(body)), **(more or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
