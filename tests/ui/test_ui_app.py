"""The application without Gradio: who gets in, what another site can make a browser send, where people are led."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import message, prompt, response
from prefdata.ui.accounts.people import People, Person
from prefdata.ui.accounts.sessions import COOKIE
from prefdata.ui.accounts.signin import onward
from prefdata.ui.store import Store
from prefdata.ui.web import media
from prefdata.ui.web.app import PAGES, checked_root, create_app
from prefdata.ui.web.guard import LARGEST, foreign, offered
from prefdata.ui.web.serving import Ending, options, run
from prefdata.ui.work.texts import Texts

WORD = "a quiet afternoon"
HTML = {"Accept": "text/html,application/xhtml+xml"}
OURS = {"X-Prefdata": "1"}
ROLES = ("annotator", "reviewer", "admin")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    folder = tmp_path / "data"
    dataset = Dataset.create(folder)
    store = Store.open(folder)
    people = People(store, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))

    def allowed(request: Request, role: str) -> Person:
        person: Person = request.state.person
        person.need(role)
        return person

    yield SimpleNamespace(dataset=dataset, store=store, people=people, allowed=allowed, texts=Texts(dataset))
    store.close()


def plain_app(service: Any, root: str = "") -> FastAPI:
    """The application with a route that echoes below each page, in Gradio's place."""
    app = create_app(service, root_path=root, mount=False)
    for page in PAGES:

        @app.api_route(f"{page.prefix}/{{rest:path}}", methods=["GET", "POST", "PUT", "DELETE"])
        async def echo(request: Request, rest: str) -> PlainTextResponse:
            body = await request.body()
            return PlainTextResponse(
                f"{request.state.person.role} {len(body)}", headers={"Access-Control-Allow-Origin": "http://evil"}
            )

    @app.get("/media/broken/{what}/x")
    def broken(what: str) -> None:
        raise RuntimeError(f"secret {what}")

    return app


@pytest.fixture
def client(service: Any) -> Iterator[TestClient]:
    with TestClient(plain_app(service), follow_redirects=False, raise_server_exceptions=False) as opened:
        yield opened


def join(service: Any, role: str, login: str | None = None) -> Person:
    people: People = service.people
    return people.accept(people.invite(people.add(role=role).person_id), login or role, WORD)


def sign_in(client: TestClient, login: str, **form: str) -> Any:
    return client.post("/login", data={"login": login, "password": WORD, **form}, headers=OURS)


# Who gets in


def test_without_a_session_only_the_open_addresses_answer(client: TestClient) -> None:
    for path in ("/login", "/logout", "/static/signin.css", "/favicon.ico", "/manifest.json"):
        assert client.get(path).status_code == 200, path
    for path in ("/api/me", "/api/frame", "/media/x/0", "/nothing", "/loginx", "/staticx/signin.css"):
        answer = client.get(path)
        assert answer.status_code == 401 and "sign in" in answer.json()["say"], path
    for page in PAGES:
        for path in ("gradio_api/info", "gradio_api/queue/data", "assets/x.js", "config"):
            assert client.get(f"{page.prefix}/{path}").status_code == 401
        assert client.post(f"{page.prefix}/gradio_api/queue/join", headers=OURS, json={}).status_code == 401


def test_pages_lead_to_the_sign_in_page_and_back(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    for path, to in (
        ("/", "/login"),
        ("/label", "/login?next=/label"),
        ("/label/?project=3&x=%2F", "/login?next=/label/%3Fproject%3D3%26x%3D%252F"),
    ):
        answer = client.get(path, headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, to)
    page = client.get("/login?next=/label/%3Fproject%3D3", headers=HTML).text
    assert 'name="next" value="/label/?project=3"' in page
    assert client.get("/api/me", headers=HTML).status_code == 401  # a program's address, whoever asks
    answer = sign_in(client, "Annotator", next="/label/?project=3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/label/?project=3")
    assert client.get("/label").headers["location"] == "/label/"
    assert client.get("/").headers["location"] == "/label/"
    assert client.get("/label/").text == "annotator 0"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_its_pages_and_no_others(client: TestClient, service: Any, role: str) -> None:
    person = join(service, role)
    sign_in(client, role)
    for page in PAGES:
        allowed = ROLES.index(role) >= ROLES.index(page.role)
        for path in ("/", "/config", "/assets/a.js", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"):
            assert client.get(page.prefix + path).status_code == (200 if allowed else 403), (page, path)
        for path in ("queue/join", "call/x", "run/predict", "cancel"):
            answer = client.post(f"{page.prefix}/gradio_api/{path}", headers=OURS, json={})
            assert answer.status_code == (200 if allowed else 403)
            if not allowed:
                assert page.role in answer.json()["say"]
        if not allowed:
            refused = client.get(f"{page.prefix}/", headers=HTML)
            assert refused.status_code == 403 and person.pseudonym in refused.text
            assert "default-src 'self'" in refused.headers["content-security-policy"]
    frame = client.get("/api/frame").json()
    assert [page["name"] for page in frame["pages"]] == [page.name for page in PAGES if person.may(page.role)]
    assert (frame["pseudonym"], frame["role"]) == (person.pseudonym, role)


def test_odd_spellings_of_an_address_reach_nothing_higher(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    sign_in(client, "annotator")
    for path in (
        "/label/../admin/config",
        "/label/%2e%2e/admin/config",
        "/label/..%2fadmin/config",
        "http://testserver//admin/config",
        "/ADMIN/config",
        "/%61dmin/config",
        "/admin%2fconfig",
        "/admin/./config",
        "/label/%5c../admin/",
    ):
        assert client.get(path).status_code in (403, 404), path


def test_roles_and_states_that_change_hold_at_once(client: TestClient, service: Any) -> None:
    people: People = service.people
    person = join(service, "reviewer")
    join(service, "admin")
    sign_in(client, "reviewer")
    assert client.get("/review/").status_code == 200
    people.set(person.person_id, role="annotator")
    assert client.get("/review/").status_code == 403 and client.get("/label/").status_code == 200
    people.set(person.person_id, state="stopped")
    assert client.get("/label/gradio_api/info").status_code == 401


# What another site can send


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("GET", {}, False),
        ("POST", {}, True),
        ("PUT", {}, True),
        ("DELETE", {}, True),
        ("POST", {"x-prefdata": "1"}, False),
        ("POST", {"origin": "http://here.org:7860"}, False),
        ("POST", {"origin": "http://HERE.org:7860"}, False),
        ("POST", {"origin": "http://here.org"}, True),
        ("POST", {"origin": "http://here.org:7861"}, True),
        ("POST", {"origin": "http://here.org.evil.com:7860"}, True),
        ("POST", {"origin": "null"}, True),
        ("POST", {"origin": ""}, True),
        ("POST", {"origin": "http://[", "x-prefdata": "1"}, True),
        ("POST", {"origin": "http://evil.com", "x-prefdata": "1"}, True),
        ("GET", {"origin": "http://evil.com"}, True),
        ("POST", {"origin": "https://labels.org", "x-forwarded-host": "labels.org, inner"}, False),
        ("POST", {"origin": "https://labels.org:443", "x-forwarded-host": "labels.org"}, False),
        ("POST", {"sec-fetch-site": "same-origin", "origin": "null"}, False),
        ("POST", {"sec-fetch-site": "same-site", "x-prefdata": "1"}, True),
        ("POST", {"sec-fetch-site": "cross-site", "origin": "http://here.org:7860"}, True),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, True),
        ("GET", {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, True),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, True),
    ],
)
def test_what_comes_from_another_site(method: str, headers: dict[str, str], refused: bool) -> None:
    assert foreign(method, "http", {"host": "here.org:7860", **headers}) is refused


def test_an_unencrypted_page_may_not_post_to_the_encrypted_one() -> None:
    headers = {"host": "here.org", "origin": "http://here.org:443"}
    assert foreign("POST", "https", headers)
    assert not foreign("POST", "https", {**headers, "origin": "https://here.org"})


def test_forged_requests_are_refused_with_a_session_too(client: TestClient, service: Any) -> None:
    join(service, "admin")
    sign_in(client, "admin")
    evil = {"Origin": "http://evil.com"}
    for path in ("/api/submit", "/admin/gradio_api/queue/join", "/admin/gradio_api/upload", "/logout", "/login"):
        for headers in (evil, {}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.post(path, headers=headers, json={}).status_code == 403, (path, headers)
    preflight = {**evil, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-prefdata"}
    answer = client.options("/admin/gradio_api/queue/join", headers=preflight)
    assert answer.status_code == 403
    own = client.post("/admin/gradio_api/queue/join", headers={"Origin": "http://testserver"}, content=b"12345")
    assert (own.status_code, own.text) == (200, "admin 5")
    assert not [name for name in (*own.headers, *answer.headers) if name.startswith("access-control")]


def test_every_answer_carries_the_safety_headers(client: TestClient, service: Any) -> None:
    def check(answer: Any) -> None:
        assert "frame-ancestors" in answer.headers["content-security-policy"]
        assert "https:" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"

    join(service, "admin")
    for path in ("/login", "/label/", "/api/me", "/static/signin.css", "/static/../app.py", "/invite/nonsense"):
        check(client.get(path, headers=HTML))
    sign_in(client, "admin")
    for path in ("/label/", "/nothing", "/admin/gradio_api/proxy=http://x", "/media/broken/key/x"):
        check(client.get(path, headers=HTML))
    failed = client.get("/media/broken/key/x")
    assert failed.status_code == 500 and "secret" not in failed.text
    assert client.get("/label/").headers["cache-control"] == "no-store"
    assert client.get("/logout").headers["content-security-policy"].startswith("default-src 'none'")


def test_a_request_without_end_is_broken_off(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    sign_in(client, "annotator")
    answer = client.post("/label/gradio_api/queue/join", headers=OURS, content=b"x" * (LARGEST + 1))
    assert answer.status_code >= 400


def test_of_gradio_only_what_the_pages_need_is_offered() -> None:
    label, explore, admin = (
        next(page for page in PAGES if page.module == name) for name in ("label", "explore", "admin")
    )
    for path in ("", "config", "assets/a.js", "gradio_api/queue/join", "gradio_api/heartbeat/x", "gradio_api/info"):
        assert all(offered(page, path) for page in PAGES)
    for path in (
        *(
            "proxy=http://x",
            "deep_link",
            "vibe-edit",
            "vibe-edit/",
            "vibe-code",
            "run-history/connect",
            "token",
            "runs",
        ),
        *("dev/reload", "process_recording", "component_server", "openapi.json", "queue", "file=http://x/y"),
        *("file=HTTPS://x/y", "file=file:///etc/passwd", "file/http://x"),
    ):
        assert not any(offered(page, f"gradio_api/{path}") for page in PAGES), path
    for path in ("login", "logout", "monitoring", "monitoring/summary", "../admin/", "openapi.json", "docs"):
        assert not any(offered(page, path) for page in PAGES), path
    assert [offered(page, "gradio_api/upload") for page in (label, explore, admin)] == [False, False, True]
    assert [offered(page, "gradio_api/file=/tmp/x.csv") for page in (label, explore, admin)] == [False, True, True]


# Signing in and out


def test_the_cookie(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    cookie = sign_in(client, "annotator").headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and cookie.endswith("; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax")
    encrypted = {**OURS, "X-Forwarded-Proto": "https"}
    form = {"login": "annotator", "password": WORD}
    assert client.post("/login", data=form, headers=encrypted).headers["set-cookie"].endswith("; Secure")


def test_signing_out_ends_the_session_and_not_only_the_cookie(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    sign_in(client, "annotator")
    old = client.cookies[COOKIE]
    assert client.get("/logout").status_code == 200 and client.get("/label/").status_code == 200  # looking ends nothing
    answer = client.post("/logout", headers=OURS)
    assert answer.headers["location"] == "/login" and "Max-Age=0" in answer.headers["set-cookie"]
    client.cookies.set(COOKIE, old)
    assert client.get("/label/gradio_api/info").status_code == 401


def test_signing_in_again_replaces_the_session(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    join(service, "admin")
    sign_in(client, "annotator")
    old = client.cookies[COOKIE]
    sign_in(client, "admin")
    assert client.cookies[COOKIE] != old and service.people.person_of(old) is None
    assert client.get("/login?next=/admin/").headers["location"] == "/admin/"


def test_wrong_passwords_are_told_and_slowed(client: TestClient, service: Any) -> None:
    join(service, "annotator")
    for _ in range(5):
        answer = sign_in(client, "<b>annotator", password="wrong word")
        assert answer.status_code == 401 and 'role="alert"' in answer.text
        assert "&lt;b&gt;annotator" in answer.text and "<b>" not in answer.text and "wrong word" not in answer.text
    answer = sign_in(client, "<b>annotator")
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) <= 3 and "Try again in" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"login=%ff&password=%00", b"login=" + b"a" * 30_000, b"&" * 1000, b"\xff\xfe"])
def test_nonsense_forms(client: TestClient, body: bytes) -> None:
    assert client.post("/login", content=body, headers=OURS).status_code in (401, 429)


@pytest.mark.parametrize(
    ("wanted", "root", "to"),
    [
        ("", "", "/"),
        ("/label/?a=1", "", "/label/?a=1"),
        ("/label/", "/x", "/x/label/"),
        ("/x/label/", "/x", "/x/label/"),
        ("/xy/label/", "/x", "/x/xy/label/"),
        ("//evil.com", "", "/"),
        ("///evil.com", "", "/"),
        ("/\\evil.com", "/x", "/x/"),
        ("/\t/evil.com", "", "/"),
        ("/ /evil.com", "", "/"),
        ("/\n/evil.com", "", "/"),
        ("https://evil.com", "", "/"),
        ("javascript:alert(1)", "", "/"),
        ("label", "", "/"),
        ("/x/../../evil", "/x", "/x/"),
        ("/label/\r\nSet-Cookie: a=b", "", "/"),
        ("/ä", "", "/"),
    ],
)
def test_next_leads_nowhere_else(wanted: str, root: str, to: str) -> None:
    assert onward(wanted, root) == to


def test_an_invitation_by_its_page(client: TestClient, service: Any) -> None:
    people: People = service.people
    link = people.first_admin()
    assert link is not None
    page = client.get(f"/invite/{link}", headers=HTML)
    assert page.status_code == 200 and "ann-01" in page.text and 'autocomplete="new-password"' in page.text
    form = {"login": "Lead", "password": WORD, "again": WORD + "!"}
    differs = client.post(f"/invite/{link}", data=form, headers=OURS)
    assert differs.status_code == 422 and "The two passwords differ" in differs.text and WORD not in differs.text
    form["again"] = WORD
    done = client.post(f"/invite/{link}", data=form, headers=OURS)
    assert (done.status_code, done.headers["location"]) == (303, "/admin/")
    assert client.get("/admin/").text == "admin 0"
    for answer in (client.get(f"/invite/{link}"), client.post(f"/invite/{link}", data=form, headers=OURS)):
        assert answer.status_code == 410 and "does not work" in answer.text
    again = people.reset(1)
    assert client.get("/admin/gradio_api/info").status_code == 401
    assert 'value="lead"' in client.get(f"/invite/{again}").text and "readonly" in client.get(f"/invite/{again}").text
    assert client.get("/invite/<script>").status_code == 410


# Behind a proxy


class Stripping:
    """A proxy that offers the application under a path, and cuts that path off."""

    def __init__(self, app: Any, path: str) -> None:
        self.app, self.path = app, path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(self.path), f"the browser was led to {scope['path']}"
            scope = {**scope, "path": scope["path"].removeprefix(self.path)}
            scope["headers"] = [*scope["headers"], (b"x-forwarded-proto", b"https")]
        await self.app(scope, receive, send)


@pytest.mark.parametrize("cut", [True, False])
def test_all_addresses_carry_the_root_path(service: Any, cut: bool) -> None:
    join(service, "annotator")
    app = plain_app(service, "/team/labels/")
    proxy = Stripping(app, "/team/labels") if cut else app
    with TestClient(proxy, base_url="https://here.org", follow_redirects=False) as client:
        assert client.get("/team/labels/label/", headers=HTML).headers["location"] == (
            "/team/labels/login?next=/team/labels/label/"
        )
        page = client.get("/team/labels/login", headers=HTML).text
        assert 'href="/team/labels/static/signin.css"' in page and 'action="/team/labels/login"' in page
        assert client.get("/team/labels/static/signin.css").status_code == 200
        form = {"login": "annotator", "password": WORD, "next": "/team/labels/label/?a=1"}
        same = {"Origin": "https://here.org"}
        answer = client.post("/team/labels/login", data=form, headers=same)
        assert answer.headers["location"] == "/team/labels/label/?a=1"
        assert "Path=/team/labels;" in answer.headers["set-cookie"] and "Secure" in answer.headers["set-cookie"]
        assert client.get("/team/labels/label").headers["location"] == "/team/labels/label/"
        assert client.get("/team/labels/label/").status_code == 200
        assert client.get("/team/labels/admin/").status_code == 403
        assert client.get("/team/labels/").headers["location"] == "/team/labels/label/"
        out = client.post("/team/labels/logout", headers=same)
        assert out.headers["location"] == "/team/labels/login" and "Path=/team/labels;" in out.headers["set-cookie"]


def test_root_paths() -> None:
    assert [checked_root(path) for path in ("", "/", "/a", "/a/b.c/")] == ["", "", "/a", "/a/b.c"]
    for wrong in ("a", "//a", "/a b", "/a/../b", "/admin", "/login/x", "/api", "https://x", '/"><script>'):
        with pytest.raises(DataError, match="root-path"):
            checked_root(wrong)


# Pictures

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def test_pictures_only_and_only_from_where_they_may_come(client: TestClient, service: Any, tmp_path: Path) -> None:
    home: Path = service.dataset.path
    (home / "images").mkdir()
    outside, allowed = tmp_path / "outside", tmp_path / "allowed"
    outside.mkdir()
    allowed.mkdir()
    files = {
        home / "images/a.png": PNG,
        home / "images/page.png": b"<html><script>alert(1)</script>",
        home / "images/b.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        outside / "a.png": PNG,
        allowed / "b c.png": PNG,
    }
    for path, content in files.items():
        path.write_bytes(content)
    (home / "images/link.png").symlink_to(outside / "a.png")
    (home / "images/inner.png").symlink_to("a.png")
    os.mkfifo(home / "images/pipe.png")
    right = hashlib.sha256(PNG).hexdigest()
    cases: list[tuple[str | None, str | None, int]] = [
        ("images/a.png", None, 200),
        ("images/a.png", right, 200),
        ("images/a.png", right.upper(), 200),
        ("images/inner.png", right, 200),
        (f"file://{home / 'images/a.png'}", None, 200),
        (f"file://{allowed}/b%20c.png", None, 200),
        (str(allowed / "b c.png"), None, 200),
        ("images/a.png", "0" * 64, 404),
        ("images/page.png", None, 404),
        ("images/b.svg", None, 404),
        ("images/link.png", None, 404),
        ("images/pipe.png", None, 404),
        ("images", None, 404),
        ("images/none.png", None, 404),
        ("../outside/a.png", None, 404),
        (str(outside / "a.png"), None, 404),
        (f"file://{outside}/a.png", None, 404),
        (f"file://evil.com{home}/images/a.png", None, 404),
        ("https://evil.com/a.png", None, 404),
        ("data:image/png;base64,iVBORw0KGgo=", None, 404),
        ("labels.sqlite", None, 404),
        ("prefdata.json", None, 404),
        ("/etc/passwd", None, 404),
        ("images/a.png\x00", None, 404),
        ("a" * 5000, None, 404),
        ("", None, 404),
        (None, None, 404),
    ]
    listed = [{"uri": uri, "sha256": sha, "kind": "image", "turn": 0} for uri, sha, _ in cases]
    asked = prompt([message("user", "Which?")], media=listed)
    given = response(asked, model="m", text="This.", media=listed[:1])
    service.dataset.add_import({"prompts": [asked], "responses": [given]}, source="here", fields={})
    service.store.set(media.FOLDERS, [str(allowed), "relative"])
    join(service, "annotator")
    join(service, "reviewer")
    assert client.get(f"/media/{asked['prompt_id']}/0").status_code == 401
    sign_in(client, "annotator")
    assert client.get(f"/media/{asked['prompt_id']}/0").status_code == 403
    sign_in(client, "reviewer")
    for n, (uri, _, status) in enumerate(cases):
        answer = client.get(f"/media/{asked['prompt_id']}/{n}")
        assert answer.status_code == status, uri
    shown = client.get(f"/media/response/{given['response_id']}/0")
    assert shown.content == PNG and shown.headers["content-type"] == "image/png"
    assert (
        shown.headers["x-content-type-options"] == "nosniff" and "sandbox" in shown.headers["content-security-policy"]
    )
    etag = {"If-None-Match": shown.headers["etag"]}
    assert client.get(f"/media/response/{given['response_id']}/0", headers=etag).status_code == 304
    for path in (
        f"{asked['prompt_id']}/{len(cases)}",
        f"{asked['prompt_id']}/-1",
        "none/0",
        "response/none/0",
        "x/y",
    ):
        assert client.get(f"/media/{path}").status_code == 404


def test_types_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        b"\xff\xd8\xff\xe0rest": "image/jpeg",
        b"GIF89a....": "image/gif",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ": "image/webp",
        b"RIFF\x00\x00\x00\x00WAVEfmt ": None,
        b"": None,
        b"%PDF-1.7": None,
    }
    assert {content: media.kind_of(content) for content in kinds} == kinds
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.setattr(media, "LARGEST", len(PNG))
    assert media.picture(tmp_path / "a.png", None) == (PNG, "image/png")
    monkeypatch.setattr(media, "LARGEST", len(PNG) - 1)
    assert media.picture(tmp_path / "a.png", None) is None


def test_the_server_believes_only_a_proxy_on_this_machine() -> None:
    given = options("127.0.0.1", 7860)
    assert given["forwarded_allow_ips"] == "127.0.0.1,::1" and given["proxy_headers"]
    assert not given["server_header"] and not given["access_log"]


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DataError, match="choose another --port"):
            run(FastAPI(), "127.0.0.1", taken.getsockname()[1])


def test_open_streams_end_when_the_server_stops() -> None:
    """Without waiting for the grace period, and as answers that came to their end."""

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        async def beat() -> Any:
            while True:
                yield b"data: ALIVE\n\n"
                await asyncio.sleep(0.01)

        await StreamingResponse(beat())(scope, receive, send)

    async def scene() -> list[Any]:
        sent: list[Any] = []
        hung_up = asyncio.Event()
        ending = Ending(endless)
        requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            for part in requests:
                return part
            await hung_up.wait()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 5:
                ending.stop()

        scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}, "headers": []}
        await asyncio.wait_for(ending(scope, receive, send), 60)
        return sent

    sent = asyncio.run(scene())
    assert sent[0]["type"] == "http.response.start" and sent[1]["body"] == b"data: ALIVE\n\n"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_many_who_sign_in_take_turns(service: Any) -> None:
    """argon2 is expensive on purpose: it must not run for everybody at once."""
    running, most, lock = 0, 0, threading.Lock()

    def slow(login: str, password: str, address: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return "made up"

    service.people.sign_in = slow

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(plain_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            form = {"login": "a", "password": "b"}
            answers = await asyncio.gather(*(client.post("/login", data=form, headers=OURS) for _ in range(80)))
        return [answer.status_code for answer in answers]

    statuses = asyncio.run(all_at_once())
    assert most <= 2 and set(statuses) <= {303, 503}
    assert statuses.count(303) >= 50
