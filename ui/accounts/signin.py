"""Signing in and out, and taking up an invitation: the only pages that can be reached without a session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prefdata.errors import PrefdataError

from ..web.guard import Page
from . import documents
from .people import People, Person, SignInError
from .sessions import cookie, secret_of

_LARGEST = 20_000
_AT_ONCE = 2
_WAITING = 50
"""argon2 takes 64 MiB and a core on purpose: more than so many at once would take the machine away from the others."""


def onward(wanted: str, root: str) -> str:
    """Where to go after signing in: an address of ours, whatever was asked for.

    Args:
        wanted: the `next` of the query, with or without the root path.
        root: the root path that the browser sees.
    """
    # Browsers take \\ for / and leave tabs and line breaks out, so that /\\evil and /<tab>/evil name another host.
    plain = all(" " < letter < "\x7f" and letter != "\\" for letter in wanted)
    if not plain or not wanted.startswith("/") or wanted.startswith("//"):
        return f"{root}/"
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return f"{root}/"
    if parts.scheme or parts.netloc or ".." in parts.path.split("/"):
        return f"{root}/"
    inside = parts.path == root or parts.path.startswith(f"{root}/")
    return wanted if inside else root + wanted


def secure(request: Request) -> bool:
    """Whether the browser came by https, perhaps to a proxy before us."""
    said = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return "https" in (request.url.scheme, said)


def routes(accounts: People, pages: Sequence[Page]) -> APIRouter:
    """/login, /logout and /invite/TOKEN.

    Args:
        accounts: who there is.
        pages: those that are mounted; the first admin is led to the one for admins.
    """
    router = APIRouter()
    _sign_in(router, accounts)
    _invitation(router, accounts, pages)
    return router


class Turns:
    """Lets a few sign in at once, the others in turn.

    Attributes:
        waiting: how many have not begun yet.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1

    async def __aexit__(self, *failed: object) -> None:
        self._free.release()


def _sign_in(router: APIRouter, accounts: People) -> None:
    queue = Turns()

    @router.get("/login")
    async def sign_in_page(request: Request) -> Response:
        root, wanted = _root(request), request.query_params.get("next", "")
        if request.state.person is not None:
            return RedirectResponse(onward(wanted, root), 303)
        return _html(_login(root, wanted))

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        root, form = _root(request), await _form(request)
        login, wanted = form.get("login", ""), form.get("next", "")
        if queue.waiting >= _WAITING:
            say = "Too many people are signing in at this moment. Try again in a few seconds."
            return _html(_login(root, wanted, login, say), 503, {"Retry-After": "5"})
        try:
            async with queue:
                secret = await run_in_threadpool(accounts.sign_in, login, form.get("password", ""), _address(request))
        except SignInError as error:
            more = {"Retry-After": str(int(error.wait) + 1)} if error.wait else {}
            return _html(_login(root, wanted, login, str(error)), 429 if error.wait else 401, more)
        return await _begin(request, accounts, secret, onward(wanted, root))

    @router.get("/logout")
    async def sign_out_page(request: Request) -> Response:
        root = _root(request)
        return _html(documents.document("Sign out", documents.form(f"{root}/logout", "", "Sign out"), root=root))

    @router.post("/logout")
    async def sign_out(request: Request) -> Response:
        await _end(request, accounts)
        root = _root(request)
        answer = RedirectResponse(f"{root}/login", 303)
        answer.headers["Set-Cookie"] = cookie("", root, secure(request))
        return answer


def _invitation(router: APIRouter, accounts: People, pages: Sequence[Page]) -> None:
    @router.get("/invite/{token}")
    async def invitation_page(request: Request, token: str) -> Response:
        person = await run_in_threadpool(accounts.invited, token)
        if person is None:
            return _gone(request)
        lead = await run_in_threadpool(accounts.is_first, person)
        return _html(_invited(_root(request), token, person, lead=lead))

    @router.post("/invite/{token}")
    async def accept(request: Request, token: str) -> Response:
        root, form = _root(request), await _form(request)
        person = await run_in_threadpool(accounts.invited, token)
        if person is None:
            return _gone(request)
        login, password = form.get("login", ""), form.get("password", "")
        try:
            if password != form.get("again", ""):
                raise PrefdataError("the two passwords differ: type them again")
            accepted = await run_in_threadpool(accounts.accept, token, login, password)
        except SignInError:
            return _gone(request)
        except PrefdataError as error:
            lead = await run_in_threadpool(accounts.is_first, person)
            return _html(_invited(root, token, person, login, _sentence(str(error)), lead=lead), 422)
        secret = await run_in_threadpool(accounts.begin, accepted, _address(request))
        first = next((page.prefix for page in pages if page.role == "admin" and accepted.may("admin")), "/label")
        return await _begin(request, accounts, secret, f"{root}{first}/")


def _login(root: str, wanted: str, login: str = "", error: str = "") -> str:
    first, second = ("", "autofocus") if login else ("autofocus", "")
    fields = documents.field("login", "Sign-in name", complete="username", value=login, more=f'maxlength="120" {first}')
    fields += documents.field(
        "password", "Password", kind="password", complete="current-password", more=f'maxlength="200" {second}'
    )
    body = documents.form(f"{root}/login", fields, "Sign in", error=error, hidden={"next": wanted} if wanted else None)
    note = "No account yet, or the password forgotten? Ask the lead of your project for a link."
    return documents.document("Sign in", f'{body}<p class="note">{note}</p>', root=root)


def _invited(root: str, token: str, person: Person, login: str = "", error: str = "", *, lead: bool = False) -> str:
    known = person.login is not None
    title = "Choose a new password" if known else "Welcome"
    intro = (
        f"<p>This is the account <strong>{person.pseudonym}</strong>. Your old password does not work any more.</p>"
        if known
        else documents.welcome(person.pseudonym, lead=lead)
    )
    fields = documents.field(
        "login",
        "Sign-in name",
        complete="username",
        value=person.login or login,
        hint="" if known else "A name or an e-mail address, without spaces. Nothing is ever sent to it.",
        more='maxlength="120" ' + ("readonly" if known else "" if login else "autofocus"),
    )
    length = 'minlength="10" maxlength="200"'
    focus = f"{length} autofocus" if known or login else length
    fields += documents.field(
        "password", "Password", kind="password", complete="new-password", hint="At least 10 characters.", more=focus
    )
    fields += documents.field("again", "The password again", kind="password", complete="new-password", more=length)
    button = "Set the password" if known else "Create the account"
    return documents.document(
        title, intro + documents.form(f"{root}/invite/{token}", fields, button, error=error), root=root
    )


def _gone(request: Request) -> Response:
    say = (
        "This link has been used already, has expired, or was replaced by a newer one. If you have an account, sign "
        "in; otherwise ask the lead of your project for a new link."
    )
    root = _root(request)
    return _html(documents.message("This link does not work", say, root=root, onward=("/login", "Sign in")), 410)


async def _begin(request: Request, accounts: People, secret: str, to: str) -> Response:
    await _end(request, accounts)  # whoever was signed in here before
    answer = RedirectResponse(to, 303)
    answer.headers["Set-Cookie"] = cookie(secret, _root(request), secure(request))
    return answer


async def _end(request: Request, accounts: People) -> None:
    old = secret_of(request.headers)
    if old:
        await run_in_threadpool(accounts.sign_out, old)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, the first of each name; empty if it is larger than any of ours."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _html(text: str, status: int = 200, more: dict[str, str] | None = None) -> HTMLResponse:
    return HTMLResponse(text, status, {"Content-Security-Policy": documents.STRICT, **(more or {})})


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _sentence(say: str) -> str:
    """Errors of the command line begin small and end without a full stop."""
    return say[:1].upper() + say[1:] + ("" if say.endswith(".") else ".")
