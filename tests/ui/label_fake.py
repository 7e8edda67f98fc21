"""A small server for tests of the labelling page alone: serves it and answers its JSON routes from canned tasks.

`python tests/ui/label_fake.py` serves one task of each protocol at http://127.0.0.1:8123/label/?project=1 (1..8).
"""

from __future__ import annotations

import copy
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).resolve().parents[2] / "ui" / "static"

CONTENT_SECURITY = (
    "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; frame-ancestors 'self'"
)

BARE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Label</title>
<body style="margin: 0"><div class="pd" id="prefdata-label"><p>Loading …</p></div>
<script type="module">
  import { mount } from "/static/label.js";
  mount(document.querySelector("#prefdata-label"), "");
</script>"""
"""The page without Gradio's frame: it is there in a tenth of the time."""

OPTIONS: dict[str, Any] = {
    "points": 7,
    "both_bad": True,
    "ties": True,
    "aspects": [],
    "input": "likert",
    "top": None,
    "best": 1,
    "none": False,
    "span_labels": [],
    "rationale": "none",
    "confidence": False,
    "reasons": [],
    "may_skip": True,
    "skip_reasons": ["I do not know enough about this", "unclear prompt", "something else"],
    "idle": 60,
}

PROMPT = "How do I stop my sourdough from tearing at the **side** of the loaf while it bakes?"

ANSWERS = [
    "Tearing at the side means that steam found no easier way out. Score deeper, about **1 cm**, along one line, and "
    "hold the blade at a low angle. Then:\n\n1. Proof until a finger's dent springs back slowly.\n"
    "2. Bake the first 20 minutes with steam.\n3. Seal the seam well when you shape.",
    "It is a sign of strong dough, so there is nothing to fix. If you dislike it, bake at a lower temperature.",
    "Score the loaf, add steam, and check that it is proofed long enough. `250 °C` for 20 minutes, then `220 °C`.",
    "Side tears come from a weak seam. Put the seam down in the tin and dock the top with a fork.",
]

STEPS = [
    "A train leaves at 9:40 and needs 85 minutes.",
    "85 minutes are 1 hour and 25 minutes.",
    "9:40 plus 1 hour is 10:40.",
    "10:40 plus 25 minutes is 11:15.",
    "So it arrives at 11:15.",
]

SPAN_TEXT = "The capital of Australia is Sydney 🦘🇦🇺, which has 5 million people. It was founded in 1788 by convicts."


def text(plain: str) -> dict[str, str]:
    """A piece as the server would send it; the markup is a stand-in, good enough to look at."""
    import re

    html = plain.replace("&", "&amp;").replace("<", "&lt;")
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html)
    html = re.sub(r"`(.+?)`", r"<code>\1</code>", html)
    head, *rows = re.split(r"\n\n?\d\. ", html)
    listed = "<ol>" + "".join(f"<li>{row}</li>" for row in rows) + "</ol>" if rows else ""
    return {"html": f'<div class="markup"><p>{head}</p>{listed}</div>', "plain": plain}


def target(name: str, plain: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "turns": None, "media": [], "segments": None, **text(plain), **more}


def task(protocol: str, targets: int | list[dict[str, Any]] = 2, **changes: Any) -> dict[str, Any]:
    """A task; `options` in `changes` are added to the usual ones."""
    made = targets if isinstance(targets, list) else [target("ABCDEFGHI"[i], ANSWERS[i % 4]) for i in range(targets)]
    questions = {
        "compare": "Which response is more helpful?",
        "rank": "Put the responses in order, the best first.",
        "rate": "How good is each response?",
        "best": "Which response is the best?",
        "thumbs": "Is this a good response?",
        "first_error": "Which is the first step that is wrong?",
        "spans": "Mark the passages in question, and say what each is.",
        "edit": "Make the response better.",
    }
    options = {**OPTIONS, **changes.pop("options", {})}
    return {
        "id": 0,
        "project": 1,
        "protocol": protocol,
        "question": questions[protocol],
        "guideline": "helpfulness@1a2b3c",
        "guideline_html": "<h2>Helpfulness</h2><p>Prefer the response that solves what the person asked.</p>",
        "warning": None,
        "prompt": {"turns": [{"role": "user", **text(PROMPT)}], "passages": [], "media": []},
        "targets": made,
        "progress": {"done": 12, "quota": 40, "qualifying": None},
        "answer": None,
        "revision": 0,
        "lease": 1200,
        "options": options,
        **changes,
    }


LIKERT = [
    {"name": "helpfulness", "text": "Does it solve what was asked?", "min": 1, "max": 7, "step": 1,
     "anchors": ["useless", "poor", "weak", "fair", "good", "very good", "perfect"]},
    {"name": "correctness", "text": "Is what it says true?", "min": 0, "max": 4, "step": 1,
     "anchors": ["all wrong", "all right"]},
    {"name": "style", "text": "", "min": 1, "max": 5, "step": 1, "anchors": []},
]  # fmt: skip


def canned() -> dict[str, dict[str, Any]]:
    """One task of each protocol, as the screenshots show them."""
    segments = [text(step) for step in STEPS]
    return {
        "compare": task("compare"),
        "rank": task("rank", 4),
        "rate": task("rate", 2, options={"aspects": LIKERT}),
        "best": task("best", 4, options={"none": True}),
        "thumbs": task("thumbs", 1),
        "first_error": task("first_error", [target("A", "\n".join(STEPS), segments=segments)]),
        "spans": task("spans", [target("A", SPAN_TEXT)], options={"span_labels": ["wrong", "unsupported", "good"]}),
        "edit": task("edit", 1),
    }


@dataclass
class Fake:
    """What the server holds; the test that drives the browser reads and writes it from its own thread."""

    queue: list[dict[str, Any]] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)  # by client key
    calls: list[tuple[str, Any]] = field(default_factory=list)
    replies: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)  # route: to give once each
    lost: int = 0  # so many submits are stored, but their answer gets lost
    signed_in: bool = True
    feedback: dict[str, Any] | None = None
    projects: list[dict[str, Any]] = field(default_factory=lambda: [project(1, "sourdough")])
    empty: dict[str, Any] = field(default_factory=lambda: {"state": "empty", "say": "All done.", "waiting": False})
    url: str = ""

    def reset(self, *tasks: dict[str, Any]) -> None:
        """Forgets everything and queues these tasks, numbered from 1."""
        fresh = Fake(url=self.url)
        self.__dict__.update(fresh.__dict__)
        self.queue = [{**copy.deepcopy(one), "id": number} for number, one in enumerate(tasks, start=1)]

    @property
    def answers(self) -> list[Any]:
        return [body["answer"] for body in self.submitted]

    def next(self) -> dict[str, Any]:
        done = {body["task"] for body in self.stored.values()}
        left = [one for one in self.queue if one["id"] not in done]
        return {"state": "task", "task": left[0]} if left else self.empty

    def submit(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["key"] not in self.stored:
            self.stored[body["key"]] = body
            self.submitted.append(body)
        if self.lost:
            self.lost -= 1
            return 502, {}
        return 200, {"ok": True, "revision": 1, "feedback": self.feedback}

    def reopened(self, number: int) -> dict[str, Any]:
        body = [one for one in self.submitted if one["task"] == number][-1]
        found = next(one for one in self.queue if one["id"] == number)
        return {"state": "task", "task": {**found, "answer": body["answer"], "revision": 1}}

    def undo(self) -> dict[str, Any]:
        if not self.submitted:
            return {"state": "empty", "say": "You have no label yet."}
        return self.reopened(self.submitted[-1]["task"])


def project(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name, "protocol": "compare", "state": "open", "done": 12, "quota": 40, "open": True}


def application(fake: Fake) -> FastAPI:
    """The page under /label, the JSON routes, the static files."""
    import gradio as gr

    from prefdata.ui.pages.label import build

    app = FastAPI()

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY
        return response

    @app.api_route("/api/{route}", methods=["GET", "POST"])
    async def api(route: str, request: Request) -> Response:
        body = await request.json() if request.method == "POST" else dict(request.query_params)
        fake.calls.append((route, body))
        if request.method == "POST" and route != "release" and request.headers.get("X-Prefdata") != "1":
            return JSONResponse({"say": "no header"}, 403)
        if not fake.signed_in:
            return JSONResponse({"say": "Please sign in."}, 401)
        if planned := fake.replies.get(route):
            status, reply = planned.pop(0)
            return JSONResponse(reply, status)
        status, reply = answer(fake, route, body)
        return JSONResponse(reply, status)

    @app.get("/bare")
    def bare() -> HTMLResponse:
        return HTMLResponse(BARE)

    @app.get("/login")
    def login(next: str = "") -> HTMLResponse:
        return HTMLResponse(f"<h1>Sign in</h1><p>{next}</p>")

    app.mount("/static", StaticFiles(directory=STATIC))
    return gr.mount_gradio_app(app, build(None), path="/label", footer_links=[])


def answer(fake: Fake, route: str, body: Any) -> tuple[int, dict[str, Any]]:
    """What the real routes would say, in their shapes."""
    if route == "submit":
        return fake.submit(body)
    if route == "skip":
        fake.stored[body["key"]] = body
    if route in ("ask", "flag"):
        fake.stored[f"{route}{body['task']}"] = body
    if route == "next":
        return 200, fake.next()
    if route == "task":
        return 200, fake.reopened(int(body["id"]))
    if route == "undo":
        return 200, fake.undo()
    if route == "me":
        return 200, {"pseudonym": "amber-fox", "role": "annotator", "projects": fake.projects, "unread": 1}
    if route == "mine":
        rows = [
            {"task": one["task"], "at": 1_763_000_000 + i, "status": "ok", "revision": 1,
             "summary": "A slightly better", "excerpt": PROMPT}
            for i, one in enumerate(fake.submitted)
        ]  # fmt: skip
        return 200, {"labels": rows[::-1]}
    if route == "questions":
        asked = {"id": 1, "text_html": "<p>Does length count?</p>", "answer_html": "<p>No.</p>", "mine": True, "at": 0}
        return 200, {"questions": [asked, {**asked, "id": 2, "answer_html": None}]}
    return 200, {"ok": True}


class Server:
    """uvicorn in a thread, on a port that it keeps: it can be stopped and started again as a killed server is."""

    def __init__(self, fake: Fake, port: int = 0):
        self.app = application(fake)
        if port == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        self.port = port
        fake.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        config = uvicorn.Config(self.app, port=self.port, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


if __name__ == "__main__":
    shown = Fake()
    server = Server(shown, 8123)
    shown.reset(*canned().values())
    server.start()
    print(f"{shown.url}/label/")
    server.thread.join()
