"""Pictures of the labelling application for the documentation: `python docs/screenshots.py` writes docs/images/.

It starts the application on a small dataset, lets two people label, and looks at each page at laptop and phone width.
Chromium and the extra `dev` are needed.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from prefdata.ui.service import Service

IMAGES = Path(__file__).resolve().parent / "images"
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}
PASSWORD = "for the pictures only"  # noqa: S105
CHROMIUM = "/usr/bin/chromium"

TASKS: list[dict[str, Any]] = [
    {
        "prompt": "How do I find the median of a list in Python?",
        "responses": [
            "Sort it and take the middle element:\n\n```python\ndef median(values):\n    ordered = sorted(values)\n"
            "    return ordered[len(ordered) // 2]\n```\n\nThis works for every list.",
            "Use the standard library, which also handles lists of even length:\n\n```python\nfrom statistics import "
            "median\n\nmedian([3, 1, 4, 1])  # 2.0\n```",
            "The median is the average of all values: `sum(values) / len(values)`.",
            "```python\nimport numpy as np\nnp.median(values)\n```\n\nwith NumPy; otherwise `statistics.median`.",
        ],
    },
    {
        "prompt": "What is the area under $y = x^2$ between 0 and 3?",
        "responses": [
            "The antiderivative is $\\frac{x^3}{3}$, so the area is\n\n$$\\int_0^3 x^2\\,dx = \\frac{3^3}{3} = 9.$$",
            "Area = base times height = $3 \\cdot 9 = 27$.",
            "It is 9.\nFirst, the antiderivative of $x^2$ is $x^3/3$.\nAt 3 that is $27/3 = 9$.\nAt 0 it is 0.",
            "About 8, by counting squares.",
        ],
    },
    {
        "prompt": "Explain in two sentences why the sky is blue.",
        "responses": [
            "Air scatters short waves more than long ones. So blue light comes from all over the sky.",
            "The sky reflects the oceans, which are blue. At night there is no reflection.",
            "Because of **Rayleigh scattering**: it goes with $1/\\lambda^4$, so blue is scattered about five "
            "times as much as red. Violet is scattered even more, but the sun gives less of it and our eyes see it "
            "worse.",
            "It just is.",
        ],
    },
    {
        "prompt": "Write a short, friendly reminder that the team meeting moves to 3 pm tomorrow.",
        "responses": [
            "Hi all,\n\na quick note: tomorrow's team meeting moves to **3 pm**. See you there!",
            "MEETING MOVED. 15:00. BE THERE.",
            "Dear colleagues,\n\nI am writing to inform you of a change in the schedule of the meeting which was "
            "planned for tomorrow and which will now, for reasons of availability, take place at 3 pm.",
            "Hey team! Tomorrow we meet at 3 pm instead. Same room, better coffee.",
        ],
    },
]
PROTOCOLS = ("compare", "rank", "rate", "best", "thumbs", "first_error", "spans", "edit")


def main() -> None:
    """See the module."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        application(Path(folder)) as (address, service, invitation),
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--hide-scrollbars"])
        prepare(service)
        lead = signed_in(browser, invitation, "lead")
        for size in SIZES:
            label_pages(browser, lead, address, service, size)
        label_all(service)
        for size in SIZES:
            lead_pages(browser, lead, address, service, size)
        browser.close()


@contextlib.contextmanager
def application(folder: Path) -> Iterator[tuple[str, Service, str]]:
    """The application in a process of its own: its address, a service on the same store, the first invitation."""
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    path = folder / "data"
    service = Service.open(path)
    tasks = folder / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in TASKS), encoding="utf-8")
    service.projects.upload(tasks)
    command = [sys.executable, "-c", "from prefdata.cli import main; main()", "ui", str(path), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=None)  # noqa: S603
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/login", timeout=5):  # noqa: S310
                    break
                time.sleep(0.1)
            token = service.people.invite(next(one for one in service.people.list() if one.role == "admin").person_id)
            yield address, service, f"{address}/invite/{token}"
        finally:
            process.terminate()
            process.wait()
            service.close()


def prepare(service: Service) -> None:
    """A project for each protocol, and people."""
    service.people.add("mira", skills=["de"])
    service.people.add("jonas")
    for protocol in PROTOCOLS:
        service.projects.create(
            {
                "name": protocol,
                "protocol": protocol,
                "overlap": 3,
                "pairs": "adjacent",
                "responses": 1 if protocol in ("spans", "first_error", "edit") else 2 if protocol == "rate" else 4,
                "rationale": "optional" if protocol == "compare" else "none",
            }
        )


def signed_in(browser: Browser, invitation: str, login: str) -> Any:
    """The cookies of somebody who has taken up an invitation."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(invitation)
    page.fill("input[name=login]", login)
    for field in page.query_selector_all("input[type=password]"):
        field.fill(PASSWORD)
    shot(page, "invitation-laptop", 1280, 800)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/invite/" not in url)
    state = context.storage_state()
    context.close()
    return state


def opened(browser: Browser, state: Any, size: str, *, dark: bool = False) -> Page:
    """A page of a person at a width."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        storage_state=state,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    return page


def shot(page: Page, name: str, width: int = 0, height: int = 0) -> None:
    """Write one picture."""
    if width:
        page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(700)
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        taken.convert("RGB").quantize(128).save(IMAGES / f"{name}.png", optimize=True)  # a third of the bytes
    print(f"docs/images/{name}.png")


def label_pages(browser: Browser, lead: Any, address: str, service: Service, size: str) -> None:
    """Each protocol as an annotator sees it; the comparison in the dark too."""
    for held in service.projects.list():
        for dark in (False, True) if held.project.protocol == "compare" else (False,):
            page = opened(browser, lead, size, dark=dark)
            page.goto(f"{address}/label/?project={held.id}")
            page.wait_for_selector(".pd-bar")
            read = page.get_by_role("button", name="I have read them")
            page.wait_for_timeout(1500)
            if read.is_visible():
                if held.project.protocol == "compare":
                    shot(page, f"guidelines-{size}")
                read.click()
                page.wait_for_timeout(1500)
            if held.project.protocol == "rank":
                for key in ("2", "1", "3"):
                    page.keyboard.press(key)
            if held.project.protocol == "spans":
                for key in ("l", "l", "Shift+ArrowRight", "1"):
                    page.keyboard.press(key)
            shot(page, f"{held.project.protocol}-{size}{'-dark' if dark else ''}")
            page.context.close()


def label_all(service: Service) -> None:
    """Three people label, not all of them well."""
    chance = random.Random(1)
    for name, care in (("mira", 0.95), ("jonas", 0.8), ("careless", 0.5)):
        if name == "careless":
            service.people.add(name)
        who = service.people.named(name)
        for held in service.projects.list():
            service.projects.acknowledge(who, held.id, held.guideline)
            while (turn := service.next(who, held.id))["state"] == "task":
                task = turn["task"]
                body = {"task": task["id"], "key": str(task["id"]), "seconds": chance.uniform(8, 60)}
                body |= {"answer": said(task, chance, care), "guideline": task["guideline"]}
                service.submit(who, body)
    service.pull()


def said(task: dict[str, Any], chance: random.Random, care: float) -> dict[str, Any]:
    """An answer that prefers the longer response as often as `care` says."""
    sizes = [len(target["plain"]) if chance.random() < care else chance.randint(1, 300) for target in task["targets"]]
    order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    answers: dict[str, Any] = {
        "compare": {"choice": chance.choice([1, 2, 3]) * (-1 if order[0] == 0 else 1)},
        "rank": {"ranks": [order.index(place) + 1 for place in range(len(sizes))]},
        "rate": {"scores": {"overall": [max(1, min(5, size // 40)) for size in sizes]}},
        "best": {"best": [order[0]]},
        "thumbs": {"thumbs": [int(size > 60) for size in sizes]},
        "first_error": {"step": chance.choice([None, 0])},
        "spans": {"spans": []},
        "edit": {"target": 0, "text": "A better text."},
    }
    return dict(answers[task["protocol"]])


def lead_pages(browser: Browser, lead: Any, address: str, service: Service, size: str) -> None:
    """The pages of reviewers and admins, each of their tabs."""
    for name in ("admin", "review", "explore"):
        page = opened(browser, lead, size)
        page.goto(f"{address}/{name}/")
        page.get_by_role("tab").first.wait_for()
        page.wait_for_timeout(2500)
        tabs = page.get_by_role("tab").all_inner_texts()
        for number, tab in enumerate(tabs):
            page.get_by_role("tab", name=tab, exact=True).first.click()
            page.wait_for_timeout(1500)
            if tab == "Report":  # an empty tab shows nothing
                page.get_by_role("button", name="Write the report now").click()
                page.frame_locator("iframe").first.locator("h2").first.wait_for()
            word = "".join(letter if letter.isalnum() else "-" for letter in tab.lower()).strip("-")
            shot(page, f"{name}-{number + 1}-{word}-{size}")
        page.context.close()


if __name__ == "__main__":
    main()
