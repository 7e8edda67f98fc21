"""What the crowd needs: a dataset, projects, invitations, and a server that is killed and comes back.

    python tests/ui/crowd_scene.py DIR PORT [STORE]

serves the application without Gradio's pages, which take seconds to start and of which the annotators' requests use
nothing; the benchmark starts `prefdata ui` itself.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crowd import Annotator, Ledger, Pace, gathered

from prefdata.dataset import Dataset
from prefdata.schema import message, prompt, response
from prefdata.ui.service import Service

OVERLAPS = {"compare": 3, "rank": 2, "rate": 2}
"""The projects, each named after its protocol, and how many people label a task of it."""

_PATIENCE = 120.0
_WORDS = ["the", "a", "robust", "answer", "names", "its", "sources", "`code`", "**bold**", "however", "first", "second"]


@dataclass
class Scene:
    """A dataset with projects and invited people.

    Attributes:
        folder: the dataset.
        store: URL of the label store; None: the file in the folder.
        invitations: (pseudonym, token) of each person.
        projects: their numbers.
        ledgers: what each person did.
    """

    folder: Path
    store: str | None
    invitations: list[tuple[str, str]]
    projects: list[int]
    ledgers: list[Ledger] = field(default_factory=list)

    def service(self) -> Service:
        """The application's inside, to look at afterwards; close it."""
        return Service.open(self.folder, self.store)


@dataclass(frozen=True)
class Outage:
    """When the server was killed, and when it answered again (time.monotonic)."""

    killed: float
    back: float
    on_the_way: int


def set_up(folder: Path, store: str | None, people: int, prompts: int, lease: int = 1) -> Scene:
    """Make a scene: prompts with four responses each, and a project for each protocol of `OVERLAPS`.

    Args:
        folder: a new dataset.
        store: see `Scene`.
        people: how many are invited.
        prompts: how many, and as many tasks in each project.
        lease: minutes.
    """
    draw = random.Random(5)
    asked = [prompt([message("user", f"Question {n}: {_text(draw, 30)}")]) for n in range(prompts)]
    given = [
        response(row, model=f"model-{k}", text=f"Answer {n}/{k}. {_text(draw, 120)}")
        for n, row in enumerate(asked)
        for k in range(4)
    ]
    Dataset.create(folder).add_import({"prompts": asked, "responses": given}, source="crowd", fields={})
    service = Service.open(folder, store)
    try:
        numbers = []
        for name, overlap in OVERLAPS.items():
            fields = {"name": name, "protocol": name, "overlap": overlap, "pairs": "one", "lease": lease}
            numbers.append(service.projects.create(fields)[0].id)
        invitations = []
        for _ in range(people):
            person = service.people.add()
            invitations.append((person.pseudonym, service.people.invite(person.person_id)))
    finally:
        service.close()
    return Scene(folder, store, invitations, numbers)


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=words)) + ".\n\n- " + " ".join(draw.choices(_WORDS, k=5))


class Server:
    """The application in a process of its own.

    Args:
        command: what starts it.
        port: at which it listens.
        log: gets what it prints.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.command, self.log = list(command), log
        self.address = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    async def ready(self) -> float:
        """Wait until it answers; the moment in which it did."""
        until = time.monotonic() + _PATIENCE
        while not await asyncio.to_thread(self._answers):
            if time.monotonic() > until or (self.process and self.process.poll() is not None):
                raise RuntimeError(f"the server did not start: {self.log.read_text(errors='replace')[-3000:]}")
            await asyncio.sleep(0.05)
        return time.monotonic()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/login", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ctrl-C: labels that are not in the dataset yet go there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


def lean(scene: Scene, port: int) -> list[str]:
    """The command that serves a scene without Gradio's pages."""
    return [sys.executable, __file__, str(scene.folder), str(port), *([scene.store] if scene.store else [])]


async def work(
    scene: Scene,
    server: Server,
    pace: Pace,
    seconds: float,
    kills: int,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outage]:
    """Let everybody of a scene work, and kill the server meanwhile. Fills `scene.ledgers`.

    Args:
        scene: made by `set_up`.
        server: not started yet.
        pace: how people work.
        seconds: how long, from when all have signed in.
        kills: how often it is killed, each time while a label is on its way.
        seed: of what is drawn.
        say: is told how it goes.
    """
    server.start()
    await server.ready()
    crowd = [Annotator(server.address, *one, scene.projects, pace, seed) for one in scene.invitations]
    scene.ledgers = [person.ledger for person in crowd]
    try:
        # By turns as links are opened; every fourth signs in from a second browser.
        second = {id(person) for person in crowd[::4]}
        await gathered(crowd, lambda person: person.join(second=id(person) in second), at_once=4)
        begun = time.monotonic()
        say(f"{len(crowd)} people have signed in")
        killing = asyncio.create_task(_kill(crowd, server, begun, seconds, kills, random.Random(seed), say))
        await gathered(crowd, lambda person: person.work(begun + seconds))
        return await killing
    finally:
        for person in crowd:
            await person.close()


async def _kill(
    crowd: Sequence[Annotator],
    server: Server,
    begun: float,
    seconds: float,
    kills: int,
    draw: random.Random,
    say: Callable[[str], None],
) -> list[Outage]:
    outages = []
    for number in range(kills):
        moment = begun + seconds * (number + draw.uniform(0.3, 0.7)) / kills
        await asyncio.sleep(max(moment - time.monotonic(), 0))
        until = time.monotonic() + 2
        while not (flying := sum(person.on_the_way for person in crowd)) and time.monotonic() < until:
            await asyncio.sleep(0.001)
        server.kill()
        killed = time.monotonic()
        server.start()
        outages.append(Outage(killed, await server.ready(), flying))
        told = f"killed after {killed - begun:.1f} s with {flying} labels on their way"
        say(f"{told}; back after {outages[-1].back - killed:.1f} s")
    return outages


def main() -> None:
    import uvicorn

    from prefdata.ui.web.app import create_app

    folder, port, *store = sys.argv[1:]
    service = Service.open(folder, store[0] if store else None)
    service.pull.start(1.0, print)
    uvicorn.run(create_app(service, mount=False), host="127.0.0.1", port=int(port), log_level="warning", ws="none")


if __name__ == "__main__":
    main()
