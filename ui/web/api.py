"""The JSON routes that the label page talks to. Who is asking is known before a request gets here (`app.py`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from prefdata.errors import DataError

from ..accounts.people import NotAllowed, Person
from ..answers.checks import AnswerError
from ..answers.labels import GoneError
from ..service import Service
from ..work.making import is_meant

_MOST_BYTES = 2_000_000
"""Of a request's body."""

Handler = Callable[[Person, Mapping[str, Any]], Mapping[str, Any]]


class BodyError(AnswerError):
    """A request that is not what the page sends."""


def routes(service: Service) -> APIRouter:
    """The routes under /api; every handler runs in a thread, since the store waits for the disk."""
    router = APIRouter(prefix="/api", include_in_schema=False)

    def get(path: str, handle: Callable[[Person, Mapping[str, str]], Mapping[str, Any]]) -> None:
        async def answer(request: Request) -> JSONResponse:
            query = dict(request.query_params)
            return await run_in_threadpool(_answered, service, request, lambda who: handle(who, query))

        router.add_api_route(path, answer, methods=["GET"])

    def post(path: str, handle: Handler) -> None:
        async def answer(request: Request) -> JSONResponse:
            raw = await _body(request)
            return await run_in_threadpool(_answered, service, request, lambda who: handle(who, _parsed(raw)))

        router.add_api_route(path, answer, methods=["POST"])

    get("/me", lambda who, query: service.me(who))
    get("/next", lambda who, query: service.next(who, _project(service, who, query)))
    get("/task", lambda who, query: service.task(who, _whole(query, "id")))
    get("/mine", lambda who, query: service.mine(who, _project(service, who, query), _whole(query, "limit", 50)))
    get("/questions", lambda who, query: service.questions(who, _project(service, who, query)))
    post("/submit", lambda who, body: service.submit(who, _fields(body, answer=dict, key=str, guideline=str)))
    post("/skip", _done(lambda who, body: _skip(service, who, _fields(body, key=str, reason=str))))
    post("/ask", _done(lambda who, body: service.labels.ask(who, _fields(body)["task"], body.get("text", ""))))
    post("/flag", _done(lambda who, body: service.labels.flag(who, _fields(body)["task"], body.get("reason", ""))))
    post("/undo", lambda who, body: service.undo(who, _project(service, who, body)))
    post("/alive", lambda who, body: {"ok": service.queue.alive(who, _fields(body)["task"])})
    post("/release", _done(lambda who, body: service.queue.release(who, _fields(body)["task"])))
    post("/acknowledge", _done(lambda who, body: _acknowledge(service, who, body)))
    return router


def _answered(service: Service, request: Request, handle: Callable[[Person], Mapping[str, Any]]) -> JSONResponse:
    try:
        who = service.allowed(request, "annotator")
    except NotAllowed as error:
        return _say(401, error)
    try:
        return JSONResponse(dict(handle(who)))
    except GoneError as error:
        return _say(409, error)
    except AnswerError as error:
        return _say(422, error)
    except NotAllowed as error:
        return _say(403, error)
    except DataError as error:
        return _say(404, error)


def _say(status: int, error: Exception) -> JSONResponse:
    return JSONResponse({"say": str(error)}, status_code=status)


async def _body(request: Request) -> bytes:
    made = b""
    async for piece in request.stream():
        made += piece
        if len(made) > _MOST_BYTES:
            break
    return made


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > _MOST_BYTES:
        raise BodyError(f"what was sent has more than {_MOST_BYTES:,} bytes")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BodyError("what was sent is no JSON object")
    return body


def _fields(body: Mapping[str, Any], **kinds: type) -> Mapping[str, Any]:
    """A body with `task`, `seconds` and further fields of these types."""
    seconds = body.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        raise BodyError("`seconds` is a number, 0 or more")
    for name, kind in kinds.items():
        if not isinstance(body.get(name), kind):
            raise BodyError(f"`{name}` is missing, or not what it should be")
        if kind is str:
            _storable(name, body[name])
    return {**body, "task": _whole(body, "task"), "seconds": float(seconds)}


def _whole(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = fields.get(name, default)
    try:
        made = int(value) if not isinstance(value, bool) and value is not None else -1
    except (TypeError, ValueError, OverflowError):
        made = -1
    if not 0 <= made < 2**31:
        raise BodyError(f"`{name}` is a whole number")
    return made


def _storable(name: str, text: str) -> str:
    """A text that databases take: some refuse NUL, and all of them half a surrogate pair."""
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BodyError(f"`{name}` holds a character that cannot be stored")
    return text


def _project(service: Service, who: Person, fields: Mapping[str, Any]) -> int:
    """The number of a project that is for this person, or for any reviewer.

    Raises:
        DataError: there is none; what there is for others is not said.
    """
    number = _whole(fields, "project")
    with contextlib.suppress(DataError):
        stated = service.projects.get(number).project
        if who.may("reviewer") or is_meant(stated, who.pseudonym, who.groups, who.skills):
            return number
    raise DataError("there is no such project")


def _done(act: Callable[[Person, Mapping[str, Any]], None]) -> Handler:
    """A handler whose answer is that it is done."""

    def handle(who: Person, body: Mapping[str, Any]) -> Mapping[str, Any]:
        act(who, body)
        return {"ok": True}

    return handle


def _skip(service: Service, who: Person, body: Mapping[str, Any]) -> None:
    service.labels.skip(who, body["task"], body["key"], body["reason"], body["seconds"])


def _acknowledge(service: Service, who: Person, body: Mapping[str, Any]) -> None:
    label = body.get("label")
    if not isinstance(label, str):
        raise BodyError("`label` is missing")
    service.projects.acknowledge(who, _project(service, who, body), _storable("label", label))
