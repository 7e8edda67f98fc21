"""The arena in a real browser, behind a proxy that keeps every byte which the browser gets."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")

from labelled import PASSWORD, service  # noqa: E402

from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine  # noqa: E402
from prefdata.ui.arena.arena import Arena  # noqa: E402
from prefdata.ui.service import Service  # noqa: E402
from prefdata.ui.web.app import PAGES, create_app  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs chromium (Debian: apt-get install chromium)"),
]
MODELS = ("granite-sparrow", "velvet-otter")
ENGINES = ("engine-north", "engine-south")
HOSTILE = "# Sky\n\n<script>document.title = 'broken into'</script><img src=x onerror=alert(2)> ${alert(3)} **blue**"


class Recorder:
    """Hands bytes on between the browser and the server, and keeps those that go to the browser.

    The browser is made to ask for uncompressed answers, so that what is kept can be searched.
    """

    def __init__(self, port: int) -> None:
        self.port, self.kept = port, bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                browser, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                threading.Thread(target=self._hand_on, args=(browser, server, False), daemon=True).start()
                threading.Thread(target=self._hand_on, args=(server, browser, True), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if keep:
                    self.kept += data
                else:
                    data = re.sub(rb"(?i)(accept-encoding: )([^\r]+)", lambda m: m[1] + b"x".ljust(len(m[2])), data)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PREFDATA_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"):
        patch.setenv(name, "False")
    opened = service(tmp_path_factory.mktemp("arena") / "ds")
    config = {"latency": 1.0, "replies": {"sky": HOSTILE}}
    engines = [ScriptedEngine(n, ScriptedConfig(model=m, **config)) for n, m in zip(ENGINES, MODELS, strict=True)]
    opened.arena = Arena(opened, {engine.name: engine for engine in engines})
    yield opened
    opened.arena.close()
    opened.close()
    patch.undo()


@pytest.fixture(scope="module")
def recorder(made: Service) -> Iterator[Recorder]:
    import uvicorn

    app = create_app(made, pages=[page for page in PAGES if page.module in ("arena", "label")])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(600):
        if server.started:
            break
        time.sleep(0.05)
    opened = Recorder(server.servers[0].sockets[0].getsockname()[1])
    yield opened
    opened.close()
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def signed_in(browser: Any, made: Service, recorder: Recorder, login: str, **given: Any) -> Any:
    added = made.people.add()
    made.people.accept(made.people.invite(added.person_id), login, PASSWORD)
    context = browser.new_context(**given)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("dialog", lambda dialog: page.wrong.append("a dialog"))
    page.on(
        "request", lambda one: one.url.startswith((recorder.address, "data:", "blob:")) or page.wrong.append(one.url)
    )
    page.goto(f"{recorder.address}/login")
    page.fill("input[name=login]", login)
    page.fill("input[type=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def test_names_reach_the_browser_only_after_the_vote(browser: Any, made: Service, recorder: Recorder) -> None:
    page = signed_in(browser, made, recorder, "ann", viewport={"width": 1280, "height": 800})
    page.goto(f"{recorder.address}/arena/")
    page.fill("#ar-prompt textarea", "Why is the sky blue?")
    page.evaluate(
        """() => { window.lengths = [];
        window.watching = setInterval(() => window.lengths.push(
          [...document.querySelectorAll(".ar-text")].map((one) => one.textContent.length)), 30); }"""
    )
    page.press("#ar-prompt textarea", "Shift+Enter")
    page.wait_for_selector(".ar-running")
    assert page.is_disabled("#ar-vote-a")
    page.keyboard.press("1")  # too early: nothing happens
    page.wait_for_selector("#ar-vote-a:not([disabled])")
    grown = page.evaluate("() => { clearInterval(window.watching); return window.lengths; }")
    for side in (0, 1):
        assert len({both[side] for both in grown if len(both) == 2}) > 4  # both grew before the eyes
    left, right = (page.locator(f"#ar-pane-{side}").bounding_box() for side in ("left", "right"))
    assert abs(left["y"] - right["y"]) < 2 and left["x"] + left["width"] <= right["x"]

    kept = bytes(recorder.kept)
    assert b"Left answer" in kept and b"Why is the sky blue?" in kept  # it can be searched
    assert not [name for name in (*MODELS, *ENGINES) if name.encode() in kept]
    assert not re.search(rb"(?i)content-encoding: *(gzip|br|deflate|zstd)", kept)

    page.keyboard.press("2")
    page.wait_for_selector(".ar-known")
    names = page.locator(".ar-pane h2 bdi").all_inner_texts()
    assert sorted(names) == sorted(MODELS) and all(name.encode() in bytes(recorder.kept) for name in MODELS)
    page.wait_for_selector(".ar-board table")
    assert page.locator(".ar-board tbody tr").first.locator("bdi").inner_text() == names[1]
    page.keyboard.press("1")  # once only
    page.wait_for_timeout(300)
    (vote,) = made.dataset.annotations.filter(pl.col("step") == "labels:arena").collect().to_dicts()
    assert vote["scores"] == [0.0, 1.0] and json.loads(vote["meta"])["vote"] == "b"
    responses = dict(made.dataset.responses.select("response_id", "model").collect().iter_rows())
    assert [responses[one] for one in vote["target_ids"]] == names
    assert page.wrong == [] and page.title().startswith("Arena")
    assert "alert(3)" in page.inner_text("#ar-pane-left") and page.locator(".ar-text strong").count() == 2
    page.context.close()


def test_a_phone_shows_the_answers_one_below_the_other_and_a_reload_loses_nothing(
    browser: Any, made: Service, recorder: Recorder
) -> None:
    page = signed_in(browser, made, recorder, "bob", viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(f"{recorder.address}/arena/")
    page.fill("#ar-prompt textarea", "Tea and rain?")
    page.click("#ar-ask")
    page.wait_for_selector(".ar-running")
    page.reload()  # in the middle
    page.wait_for_selector("#ar-vote-tie:not([disabled])")
    assert "Tea and rain?" in page.inner_text("#ar-asked")
    left, right = (page.locator(f"#ar-pane-{side}").bounding_box() for side in ("left", "right"))
    assert left["y"] + left["height"] <= right["y"] and abs(left["x"] - right["x"]) < 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#ar-vote-tie").bounding_box()["height"] >= 44
    page.click("#ar-vote-tie")
    page.wait_for_selector(".ar-known")
    page.fill("#ar-prompt textarea", "1234")  # keys in the prompt are the prompt's
    assert page.input_value("#ar-prompt textarea") == "1234"
    votes = made.dataset.annotations.filter(pl.col("step") == "labels:arena").collect()
    assert votes["annotator"].n_unique() == 2 and page.wrong == []
    page.context.close()
