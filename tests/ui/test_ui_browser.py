"""The whole application in a real browser: two people and a lead, every protocol, and then the Parquet is read.

The first person answers by keyboard, the second by mouse; both see the responses in their own order. What they pressed
is noted by what stood on their screen, and compared with what the dataset says afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")

from labelled import dataset  # noqa: E402
from tiny_model import byte_tokenizer, save_tiny_model  # noqa: E402

import prefdata  # noqa: E402
from prefdata.ui.service import Service  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs chromium (Debian: apt-get install chromium)"),
]
PROTOCOLS = ("compare", "rank", "rate", "best", "thumbs", "first_error", "spans", "edit")
PASSWORD = "a long password"
Page = Any


def free_port() -> int:
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """`prefdata ui` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", "from prefdata.cli import main; main()", "ui", str(self.folder)]
        self.log = (self.folder.parent / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--pull-every", "1"],
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/login", timeout=5):
                return
            assert self.process.poll() is None, (self.folder.parent / "server.log").read_text()
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


class Somebody:
    """A person at a browser of their own.

    Attributes:
        shown: the task on the screen, as the server sent it.
        outside: addresses that the page asked for and that are not the server's.
    """

    def __init__(self, browser: Any, server: Server, invitation: str, login: str) -> None:
        self.server, self.shown = server, {}
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.outside: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)
        self.page.goto(invitation)
        self.page.fill("input[name=login]", login)
        for field in self.page.query_selector_all("input[type=password]"):
            field.fill(PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/invite/" not in url)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.server.address, "data:", "blob:")):
            self.outside.append(request.url)

    def _answered(self, response: Any) -> None:
        if "/api/next" in response.url and response.ok:
            body = response.json()
            if body["state"] == "task":
                self.shown = body["task"]

    def open(self, project: int) -> None:
        self.shown = {}
        self.page.goto(f"{self.server.address}/label/?project={project}")
        for _ in range(600):
            read = self.page.get_by_role("button", name="I have read them")
            if read.is_visible():
                with contextlib.suppress(sync_api.TimeoutError):  # drawn anew at this moment
                    read.click(timeout=2_000)
            if self.shown.get("project") == project and self.page.locator(".pd-stage").first.is_visible():
                self.page.wait_for_timeout(100)
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"no task of project {project} came")

    def texts(self) -> list[str]:
        """The responses in the order on the screen: what the server sent, which is also what is to be seen."""
        texts = [target["plain"] for target in self.shown["targets"]]
        seen = self.page.locator("#prefdata, body").first.inner_text()
        assert all(text.splitlines()[0] in seen for text in texts)
        return texts

    def key(self, *keys: str) -> None:
        for one in keys:
            self.page.keyboard.press(one)

    def click(self, *names: str, role: str = "radio") -> None:
        for name in names:
            kind = "button" if name == "Submit" else role
            # What follows the words is a key or the meaning of a score.
            self.page.get_by_role(kind, name=re.compile(f"^{re.escape(name)}")).first.click()

    def until_next(self) -> None:
        """Wait until another task, or the end, is on the screen."""
        number = self.shown["id"]
        for _ in range(600):
            if self.shown["id"] != number or self.page.locator(".pd-message").is_visible():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing came after the answer")


def by_keyboard(who: Somebody) -> dict[str, Any]:
    """Answer the task on the screen with keys; what that means, by the texts on the screen."""
    texts, protocol = who.texts(), who.shown["protocol"]
    if protocol == "compare":
        who.key("2")  # the first shown is clearly better
        return {"better": texts[0], "strength": 2.0}
    if protocol == "rank":
        who.key("2", "3", "1", "Enter")
        return {"order": [texts[2], texts[0], texts[1]]}
    if protocol == "rate":
        who.key("5", "2", "1", "Enter")
        return {"scores": dict(zip(texts, (5.0, 2.0, 1.0), strict=True))}
    if protocol == "best":
        who.key("2")
        return {"best": texts[1]}
    if protocol == "thumbs":
        who.key("y", "n", "y", "Enter")
        return {"scores": dict(zip(texts, (1.0, 0.0, 1.0), strict=True))}
    if protocol == "first_error":
        who.key("j", "j", "Enter")
        return {"step": 1}
    if protocol == "spans":
        who.key("l", "1", "Enter")
        return {"marked": (texts[0], texts[0].split()[0])}
    who.key("e", "Control+a")
    who.page.keyboard.type("typed by hand")
    who.key("Control+Enter")
    return {"text": "typed by hand", "parent": texts[0]}


def by_mouse(who: Somebody) -> dict[str, Any]:
    """The same with clicks; other answers, so that the two disagree."""
    texts, protocol = who.texts(), who.shown["protocol"]
    if protocol == "compare":
        who.click("A is much better")
        return {"better": texts[0], "strength": 3.0}
    if protocol == "rank":
        who.click("A: rank 1", "B: rank 2", "C: rank 3", "Submit")
        return {"order": texts}
    if protocol == "rate":
        who.click("A: overall: 1", "B: overall: 3", "C: overall: 4", "Submit")
        return {"scores": dict(zip(texts, (1.0, 3.0, 4.0), strict=True))}
    if protocol == "best":
        who.click("Choose C")
        return {"best": texts[2]}
    if protocol == "thumbs":
        who.click("A is bad", "B is good", "C is bad", "Submit")
        return {"scores": dict(zip(texts, (0.0, 1.0, 0.0), strict=True))}
    if protocol == "first_error":
        who.click("There is no wrong step", "Submit")
        return {"step": None}
    if protocol == "spans":
        who.page.locator(".pd-spans").first.dblclick(position={"x": 20, "y": 10})
        who.page.locator(".pd-label", has_text="good").click()
        who.click("Submit")
        return {"marked": (texts[0], texts[0].split()[0])}
    who.page.locator(".pd-edit").fill("pasted in")
    who.click("Submit")
    return {"text": "pasted in", "parent": texts[0]}


def check(protocol: str, did: dict[str, Any], rows: list[dict[str, Any]], texts: dict[str, str]) -> None:
    """Whether the annotations of one label say what was done."""
    row = rows[0]
    scores = dict(zip((texts[one] for one in row["target_ids"]), row["scores"] or (), strict=False))
    if protocol == "compare":
        assert max(scores, key=scores.__getitem__) == did["better"] and row["strength"] == did["strength"]
    elif protocol == "rank":
        assert sorted(scores, key=scores.__getitem__, reverse=True) == did["order"]
    elif protocol in ("rate", "thumbs"):
        assert scores == did["scores"]
    elif protocol == "best":
        assert scores == {text: float(text == did["best"]) for text in scores}
    elif protocol == "first_error":
        assert row["parts"] == (None if did["step"] is None else [did["step"]])
        assert row["labels"] == ["correct" if did["step"] is None else "first_error"]
    elif protocol == "spans":
        text, word = did["marked"]
        marked = next(one for one in rows if texts[one["target_ids"][0]] == text)
        (span,) = marked["spans"]
        assert text[span["start"] : span["end"]].strip() == word
    else:
        assert scores == {did["text"]: 1.0, did["parent"]: 0.0}


def test_two_people_label_everything_and_the_parquet_says_what_they_did(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    dataset(folder, prompts=4, responses=3)
    server = Server(folder)
    try:
        _label_and_check(browser, server, folder, tmp_path)
    finally:
        server.stop()


def _label_and_check(browser: Any, server: Server, folder: Path, tmp_path: Path) -> None:
    log = (folder.parent / "server.log").read_text()
    invitation = re.search(r"/invite/\S+", log)
    assert invitation is not None
    service = Service.open(folder)
    lead = Somebody(browser, server, f"{server.address}{invitation.group()}", "lead")
    people = []
    for login in ("anna", "ben"):
        token = service.people.invite(service.people.add().person_id)
        people.append(Somebody(browser, server, f"{server.address}/invite/{token}", login))
    projects = {
        protocol: service.projects.create(
            {"name": protocol, "protocol": protocol, "overlap": 2, "pairs": "one", "budget": 4}
        )[0].id
        for protocol in PROTOCOLS
    }
    done: list[tuple[str, str, list[str], dict[str, Any]]] = []
    for protocol, project in projects.items():
        for who, act, name in zip(people, (by_keyboard, by_mouse), ("ann-02", "ann-03"), strict=True):
            who.open(project)
            for _ in range(4 if protocol == "compare" else 1):
                texts = who.texts()
                done.append((protocol, name, texts, act(who)))
                who.until_next()
    service.pull()
    rows = prefdata.open(folder).annotations.filter(pl.col("source") == "human").collect().to_dicts()
    texts = dict(prefdata.open(folder).responses.select("response_id", "text").collect().iter_rows())
    for protocol, name, shown, did in done:
        own = [
            row
            for row in rows
            if row["annotator"] == f"human:{name}"
            and f'"project":"{protocol}"' in row["meta"]
            and (protocol == "edit" or {texts[one] for one in row["target_ids"]} <= set(shown))
        ]
        assert own, (protocol, name)
        check(protocol, did, own, texts)
        if protocol not in ("edit", "spans"):
            assert [texts[one] for one in own[0]["target_ids"]] == shown  # the order that was shown is recorded
    orders = {(name, shown[0] < shown[1]) for protocol, name, shown, _ in done if protocol == "compare"}
    assert {order for _, order in orders} == {True, False}, "both display orders"
    _adjudicate(lead, service)
    assert [one.outside for one in (lead, *people)] == [[], [], []], "nothing is asked of other machines"
    _export_and_train(folder, tmp_path)
    service.close()


def _adjudicate(lead: Somebody, service: Service) -> None:
    """The two disagree on some pair; the lead's verdict, given on the page, is one label more, and theirs stay."""

    def humans() -> list[dict[str, Any]]:
        rows = prefdata.open(service.dataset.path).annotations.filter(pl.col("source") == "human")
        return rows.collect().to_dicts()

    before = {row["annotation_id"] for row in humans()}
    page = lead.page
    page.goto(f"{lead.server.address}/review/")
    page.get_by_label("Project").click()
    page.get_by_role("option", name="compare", exact=True).click()
    page.get_by_role("tab", name="Disagreements").click()
    page.locator(".pd-review-task").wait_for()
    page.get_by_role("radio", name=re.compile("^A is much better")).click()
    page.get_by_role("button", name=re.compile("^Submit")).click()
    page.get_by_text("Your verdict is kept").wait_for()
    service.pull()
    after = humans()
    new = [row for row in after if row["annotation_id"] not in before]
    assert [row["annotator"] for row in new] == ["human:ann-01"]
    assert '"adjudication":true' in new[0]["meta"] and new[0]["strength"] == 3.0
    assert before < {row["annotation_id"] for row in after}


def _export_and_train(folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from prefdata.cli.app import app

    written = prefdata.export(folder, tmp_path / "pairs.parquet", format="trl-pairs-conversational")
    assert written.rows >= 4
    model = tmp_path / "tiny"
    save_tiny_model(model, byte_tokenizer())
    arguments = ["train", "--data", str(tmp_path / "pairs.parquet"), "--model", str(model), "--loss", "dpo"]
    more = ["--steps", "5", "--set", "batch_size=2", "--out", str(tmp_path / "trained")]
    ran = CliRunner().invoke(app, [*arguments, *more])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "trained" / "model.safetensors").is_file()
