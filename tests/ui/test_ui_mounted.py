"""The application with Gradio mounted: its routes are closed to strangers and lower roles; no file leaks out."""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount
from starlette.testclient import TestClient

from prefdata.dataset import Dataset
from prefdata.schema import message, prompt
from prefdata.ui.accounts.people import RANKS, People
from prefdata.ui.store import Store
from prefdata.ui.web.app import PAGES, create_app
from prefdata.ui.web.guard import Page, offered

pytestmark = pytest.mark.slow

WORD = "a quiet afternoon"
OURS = {"X-Prefdata": "1"}


def build(service: Any) -> Any:
    """A page with everything that Gradio makes routes for: an event, a stream, an upload, a download."""
    import gradio as gr

    with gr.Blocks() as page:
        text, out, file = gr.Textbox(), gr.Textbox(), gr.File()

        def say(said: str, request: gr.Request) -> str:
            return f"{said} {request.username}"

        say.__annotations__["request"] = gr.Request  # Gradio reads the type, which is a text in this module
        gr.Button().click(say, text, out, api_name="say")
        file.upload(lambda path: path, file, out, api_name="took")
        gr.State([])
    return page


class World:
    """The application, and a client for each role."""

    def __init__(self, folder: Path) -> None:
        self.dataset = Dataset.create(folder / "data")
        self.dataset.add_import({"prompts": [prompt([message("user", "x")])]}, source="here", fields={})
        store = Store.open(self.dataset.path)
        people = People(store, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        service: Any = SimpleNamespace(dataset=self.dataset, store=store, people=people)
        self.app = create_app(service)
        self.clients = {"": TestClient(self.app)}
        self.names = {}
        for role in (*RANKS, "admin2"):
            person = people.add(role=role.rstrip("2"))
            self.names[role] = people.accept(people.invite(person.person_id), role, WORD).pseudonym
            client = TestClient(self.app, follow_redirects=False)
            client.post("/login", data={"login": role, "password": WORD}, headers=OURS)
            self.clients[role] = client


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    patch = pytest.MonkeyPatch()
    for page in PAGES:
        name = f"prefdata.ui.pages.{page.module}"
        module: Any = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.build = build
        patch.setitem(sys.modules, name, module)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"):
        patch.setenv(name, os.environ.get(name, ""))  # put back afterwards
    made = World(tmp_path_factory.mktemp("mounted"))
    with TestClient(made.app):  # the lifespan: its end removes the folder of uploads
        kept = Path(os.environ["GRADIO_TEMP_DIR"])
        yield made
    assert not kept.exists()
    patch.undo()


def flat(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Every address that an application answers, with its methods."""
    for route in routes:
        if isinstance(route, Mount):
            inner = getattr(route.app, "routes", None)
            yield from flat(inner, before + route.path) if inner else [(f"{before}{route.path}/x", frozenset({"GET"}))]
        elif hasattr(route, "original_router"):  # how newer FastAPIs keep an included router
            yield from flat(route.original_router.routes, before)
        else:
            path: str = route.path  # type: ignore[attr-defined]
            yield before + path, frozenset(route.methods or ())  # type: ignore[attr-defined]


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "1", path)


def test_every_route_is_closed_to_strangers_and_lower_roles(world: World) -> None:
    found = list(flat(world.app.routes))
    below = {page.prefix: [one for one in found if one[0].startswith(f"{page.prefix}/")] for page in PAGES}
    assert all(len(routes) > 60 for routes in below.values())  # Gradio's own, and all of them
    for must in ("queue/join", "upload", "file={path_or_url:path}", "proxy={url_path:path}", "call/{api_name}", "info"):
        assert any(path == f"/admin/gradio_api/{must}" for path, _ in found), must
    opened = ("/login", "/logout", "/invite/", "/static/", "/favicon.ico", "/manifest.json")
    for path, methods in found:
        page = next((page for page in PAGES if path.startswith(f"{page.prefix}/")), None)
        for method in methods - {"OPTIONS"}:
            answer = world.clients[""].request(method, concrete(path), headers=OURS, follow_redirects=False)
            if page is None and path.startswith(opened):
                assert answer.status_code in (200, 303, 401, 404, 410, 422, 429), (method, path)
            else:
                assert answer.status_code == 401 or answer.headers.get("location", "").startswith("/login"), path
            for role, rank in RANKS.items():
                if page is not None and rank < RANKS[page.role]:
                    answer = world.clients[role].request(method, concrete(path), headers=OURS)
                    assert answer.status_code == 403, (role, method, path)


def test_what_the_pages_do_not_need_is_nowhere(world: World) -> None:
    admin = world.clients["admin"]
    page = next(page for page in PAGES if page.module == "admin")
    refused = set()
    for path, methods in flat(world.app.routes):
        rest = concrete(path).removeprefix("/admin/")
        if path.startswith("/admin/") and not offered(page, rest):
            refused.add(rest)
            for method in methods - {"OPTIONS"}:
                assert admin.request(method, f"/admin/{rest}", headers=OURS).status_code == 404
    assert {"gradio_api/proxy=1", "gradio_api/vibe-edit", "monitoring", "login", "gradio_api/deep_link"} <= refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.module)
def test_pages_work_for_those_who_may(world: World, page: Page) -> None:
    for role, rank in RANKS.items():
        if rank >= RANKS[page.role]:
            shown = world.clients[role].get(f"{page.prefix}/")
            assert shown.status_code == 200 and "gradio_config" in shown.text
            assert shown.headers["cache-control"] == "no-store"
            assert not re.search(r"<(script|link)[^>]+(src|href)=\"(https?:)?//", shown.text)
            assert world.names[role] in shown.text  # the second lock knows them too


def test_the_second_lock_holds_without_the_first(world: World) -> None:
    """Gradio's own check, asked past the guard."""
    mounted = {route.path: route.app for route in world.app.routes if isinstance(route, Mount)}
    admin = mounted["/admin"]
    assert isinstance(admin, FastAPI)
    bare = TestClient(admin)
    for path in ("/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd"):
        assert bare.get(path).status_code == 401
    assert bare.post("/gradio_api/queue/join", json={}).status_code == 401
    assert bare.post("/gradio_api/upload").status_code == 401


def upload(client: TestClient, prefix: str, name: str, content: bytes) -> Any:
    return client.post(f"{prefix}/gradio_api/upload", files={"files": (name, content)}, headers=OURS)


def test_uploads_belong_to_whoever_made_them(world: World) -> None:
    one, two = world.clients["admin"], world.clients["admin2"]
    answer = upload(one, "/admin", "secret.csv", b"a,b\n1,2\n")
    (path,) = answer.json()
    assert Path(path).read_bytes() == b"a,b\n1,2\n"
    assert one.get(f"/admin/gradio_api/file={path}").content == b"a,b\n1,2\n"
    spelled = [path, quote(path), quote(path, safe=""), f"{path[1:]}", path.replace("/secret", "/./secret"), f"/{path}"]
    spelled += [path.replace("/secret", "/../" + Path(path).parent.name + "/secret"), f"{path}/."]
    for spelling in spelled:
        for client, prefix in (
            (two, "/admin"),
            (world.clients["reviewer"], "/explore"),
            (world.clients["annotator"], "/label"),
        ):
            shown = client.get(f"{prefix}/gradio_api/file={spelling}")
            assert shown.status_code in (403, 404) and b"1,2" not in shown.content, (prefix, spelling)
    link = Path(path).parent / "link.csv"
    link.symlink_to(path)
    assert two.get(f"/admin/gradio_api/file={link}").status_code == 404
    # The same content by another person lies at the same place: it is both's then.
    assert upload(two, "/admin", "secret.csv", b"a,b\n1,2\n").json() == [path]
    assert two.get(f"/admin/gradio_api/file={path}").status_code == 200


def test_only_the_set_up_page_takes_files(world: World) -> None:
    for page in PAGES:
        expected = 200 if page.uploads else 404
        assert upload(world.clients["admin"], page.prefix, "a.txt", b"x").status_code == expected


def test_no_file_outside_can_be_read(world: World, tmp_path: Path) -> None:
    home = world.dataset.path
    parts = list(home.rglob("*.parquet"))
    assert parts and (home / "labels.sqlite").exists()
    kept = Path(os.environ["GRADIO_TEMP_DIR"])
    (kept / "to-labels").symlink_to(home / "labels.sqlite")
    (tmp_path / "link").symlink_to("/etc/passwd")
    wanted = [home / "labels.sqlite", *parts, home / "prefdata.json", Path("/etc/passwd"), tmp_path / "link"]
    wanted += [Path(__file__), Path("/proc/self/environ")]
    spellings = [str(path) for path in wanted]
    spellings += [f"{kept}/../../../../../..{home}/labels.sqlite", f"{kept}/../{home.name}", str(kept)]
    spellings += [os.path.relpath(home / "labels.sqlite"), "pyproject.toml", ".git/config", "/dev/zero", "~/.bashrc"]
    for page in PAGES:
        for spelling in spellings:
            for written in (
                spelling,
                quote(spelling),
                quote(spelling, safe=""),
                quote(quote(spelling, safe=""), safe=""),
            ):
                for route in (f"file={written}", f"file/{written}", f"proxy={written}"):
                    shown = world.clients["admin"].get(f"{page.prefix}/gradio_api/{route}")
                    assert shown.status_code in (403, 404), (page.prefix, route)
        for static in ("static", "assets", "svelte"):
            for spelling in ("../" * 12 + "etc/passwd", "..%2f" * 12 + "etc/passwd", "%2fetc%2fpasswd"):
                shown = world.clients["admin"].get(f"{page.prefix}/{static}/{spelling}")
                assert shown.status_code in (403, 404)


def test_own_static_files_only(world: World) -> None:
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/",
    ):
        assert world.clients["admin"].get(path).status_code in (403, 404), path


def call(client: TestClient, page: str, name: str, data: Any) -> Any:
    return client.post(f"{page}/gradio_api/run/{name}", json={"data": data}, headers=OURS)


def test_events_read_only_ones_own_uploads(world: World) -> None:
    """Of an application that is mounted Gradio copies whatever file an event names to where it can be fetched."""
    admin, other, reviewer = (world.clients[role] for role in ("admin", "admin2", "reviewer"))
    (mine,) = upload(admin, "/admin", "mine.txt", b"mine").json()

    def named(path: str) -> dict[str, Any]:
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    assert call(admin, "/admin", "took", [named(mine)]).json()["data"] == [mine]
    assert call(admin, "/admin", "say", ["hello"]).json()["data"] == [f"hello {world.names['admin']}"]
    kept = Path(os.environ["GRADIO_TEMP_DIR"])
    before = sorted(kept.rglob("*"))
    outside = [str(world.dataset.path / "labels.sqlite"), "/etc/passwd", "pyproject.toml", f"{kept}/../x"]
    for path in (*outside, "http://127.0.0.1:9/x", "https://example.org/x", "\x00"):
        for event in ("took", "say"):
            for data in ([named(path)], [[{"deep": named(path)}]], [{**named(path), "meta": None}]):
                assert call(admin, "/admin", event, data).status_code == 403, (path, event)
        joined = {"data": [named(path)], "fn_index": 0, "session_hash": "a"}
        assert admin.post("/admin/gradio_api/queue/join", json=joined, headers=OURS).status_code == 403
        bare = call(admin, "/admin", "took", [{"path": path}])  # Gradio takes none for a file that does not say so
        assert bare.status_code >= 400
    for client, page in ((other, "/admin"), (reviewer, "/explore")):
        assert call(client, page, "took", [named(mine)]).status_code == 403
    for nonsense in (b"{", b"[" * 100_000, b"\xff"):
        assert admin.post("/admin/gradio_api/run/took", content=nonsense, headers=OURS).status_code == 403
    assert sorted(kept.rglob("*")) == before  # nothing was copied


def test_gradios_own_check_is_on_behind_ours(world: World) -> None:
    from prefdata.ui.web.gradio_files import GradioFiles

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradioFiles, "may_all", lambda *given: True)
        data = [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
        assert call(world.clients["admin"], "/admin", "took", data).status_code == 500


def test_routes_were_found_by_their_kind(world: World) -> None:
    """The walk above knows where FastAPI keeps routes: in a version that does otherwise it must not pass in silence."""
    assert any(isinstance(route, APIRoute) for route in world.app.routes)
