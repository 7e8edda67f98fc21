"""The application: one process that signs people in, keeps strangers and lower roles out, and mounts the pages.

uvicorn > where we stand behind a proxy > the guard > our own routes, and Gradio's under a prefix for each role.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from prefdata.errors import DataError, PrefdataError

from ..accounts import documents, signin
from ..accounts.people import NotAllowed, Person
from . import api, media
from .gradio_events import GradioEvents
from .guard import HEADERS, OPEN, Guard, Page
from .serving import Rooted, run

if TYPE_CHECKING:
    from ..service import Service

PAGES = (
    Page("/label", "label", "annotator", "Label", bar=False),
    Page("/review", "review", "reviewer", "Review", files=True),
    Page("/explore", "explore", "reviewer", "Explore", files=True),
    Page("/arena", "arena", "annotator", "Arena"),
    Page("/admin", "admin", "admin", "Admin", files=True, uploads=True),
)
"""All pages there may be. One that is not built, or that has nothing to show (`build` returns None), is left out."""

UPLOAD = "1gb"
"""The largest file that the set-up page takes."""

_ROOT = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect x="1" y="2" width="14" height="12" rx="2" '
    'fill="#2a5c96"/><rect x="8" y="3.5" width="5.5" height="9" rx="1" fill="#fff"/></svg>'
)


def create_app(service: Service, *, root_path: str = "", pages: Sequence[Page] = PAGES, mount: bool = True) -> FastAPI:
    """The application of one dataset.

    Args:
        service: what the pages do.
        root_path: the path under which a proxy offers it, such as /labels; whether the proxy cuts it off or not.
        pages: those to offer.
        mount: mount the Gradio pages too, which takes seconds.

    Raises:
        DataError: a root path that cannot be.
    """
    root = checked_root(root_path)
    # Goes when the application stops, and at the latest with this process.
    kept = tempfile.TemporaryDirectory(prefix="prefdata-ui-", ignore_cleanup_errors=True) if mount else None
    folder = Path(kept.name) if kept else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if kept is not None:
                kept.cleanup()

    app = FastAPI(
        title="prefdata", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan
    )
    built = {page: _mounted(app, service, page, folder) for page in pages} if folder else {}
    events = {page.prefix: GradioEvents(blocks) for page, blocks in built.items() if blocks is not None}
    mounted = [page for page in pages if page.prefix in events] if mount else list(pages)
    _errors(app)
    _own(app, mounted)
    app.include_router(signin.routes(service.people, mounted))
    app.include_router(media.routes(service))
    app.include_router(api.routes(service))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent.parent / "static"))
    app.add_middleware(Guard, who=service.people.person_of, pages=pages, folder=folder, events=events)
    app.add_middleware(Rooted, root=root)
    return app


def checked_root(root_path: str) -> str:
    """A root path without a slash at its end.

    Raises:
        DataError: it is no plain path, or one of our own addresses, which could not be told apart from it.
    """
    root = root_path.rstrip("/")
    if not _ROOT.fullmatch(root) or ".." in root.split("/"):
        raise DataError(
            f"--root-path {root_path!r} must be a path such as /labels: letters, digits, '-', '_', '.', '~'"
        )
    own = {page.prefix for page in PAGES} | set(OPEN) | {"/api", "/media"}
    first = f"/{root.split('/')[1]}" if root else ""
    if first in own:
        raise DataError(f"--root-path {root_path} begins like one of the application's own pages: choose another one")
    return root


def _own(app: FastAPI, mounted: Sequence[Page]) -> None:
    """What belongs to no page."""

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/label/", 303)

    @app.get("/api/frame")
    def frame(request: Request) -> dict[str, Any]:
        """What the navigation bar of this person shows."""
        person: Person = request.state.person
        shown = [{"name": page.name, "prefix": page.prefix} for page in mounted if person.may(page.role)]
        return {"pseudonym": person.pseudonym, "role": person.role, "pages": shown}

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    @app.get("/manifest.json")  # Gradio's pages name it, without the cookie
    def manifest() -> dict[str, str]:
        return {"name": "prefdata", "display": "browser"}


def _errors(app: FastAPI) -> None:
    """Sentences instead of tracebacks, as JSON for programs and as a page for people."""

    def say(request: Request, status: int, title: str, sentence: str) -> Response:
        root = request.scope.get("root_path", "")
        path = request.scope["path"].removeprefix(root)
        if "text/html" in request.headers.get("accept", "") and not path.startswith("/api/"):
            page = documents.message(title, sentence, root=root, onward=("/", "To the start page"))
            return HTMLResponse(page, status, {"Content-Security-Policy": documents.STRICT})
        return JSONResponse({"say": sentence}, status)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        titles = {404: "There is nothing here", 405: "This cannot be done here"}
        title = titles.get(error.status_code, "This did not work")
        sentence = f"{title}." if error.status_code in titles else str(error.detail)
        return say(request, error.status_code, title, sentence)

    @app.exception_handler(ClientDisconnect)
    async def broken(request: Request, error: ClientDisconnect) -> Response:
        return JSONResponse({"say": "the request broke off"}, 408)  # no mistake of the server's: nothing for its log

    @app.exception_handler(PrefdataError)
    async def ours(request: Request, error: PrefdataError) -> Response:
        return say(request, 403 if isinstance(error, NotAllowed) else 422, "This did not work", str(error))

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> Response:
        # Starlette answers these outside of the guard, which therefore cannot put its headers on; the log has the rest.
        answer = say(request, 500, "This did not work", "The server made a mistake; it is in the server's log.")
        for name, value in HEADERS.items():
            answer.headers[name] = value
        return answer


def _mounted(app: FastAPI, service: Service, page: Page, folder: Path) -> Any:
    """Mount a page's Gradio application; the page, or None if there is no such page."""
    name = f"prefdata.ui.pages.{page.module}"
    if importlib.util.find_spec(name) is None:
        return None
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Of this process alone, and gone with it: Gradio hands out whatever lies there, to whoever knows the name.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "examples")
    import gradio as gr

    from ..pages import frame

    blocks = importlib.import_module(name).build(service)
    if blocks is None:
        return None

    def second_lock(request: Request) -> str | None:
        person: Person | None = getattr(request.state, "person", None)
        return person.pseudonym if person is not None and person.may(page.role) else None

    gr.mount_gradio_app(
        app,
        blocks,
        page.prefix,
        auth_dependency=second_lock,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        show_error=False,
        mcp_server=False,
        enable_monitoring=False,
        allowed_paths=[],
        blocked_paths=[str(service.dataset.path.resolve())],
        max_file_size=UPLOAD if page.uploads else "1kb",
        theme=frame.theme(),
        head=frame.HEAD if page.bar else None,
    )
    blocks.has_launched = True  # else Gradio leaves out its own check of the files that events take and return
    return blocks


def serve(service: Service, host: str, port: int, root_path: str = "") -> None:
    """Run the application until it is told to stop (Ctrl-C or SIGTERM).

    Args:
        service: what the pages do.
        host: the address to listen at; 127.0.0.1 is for this machine and a proxy on it.
        port: the port.
        root_path: the path under which a proxy offers it.

    Raises:
        DataError: the address cannot be listened at, or the root path cannot be.
    """
    run(create_app(service, root_path=root_path), host, port)
