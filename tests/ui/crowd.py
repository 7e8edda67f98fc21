"""Simulated annotators: they send what the browser sends, try again as it does, and remember what they were told.

One `Annotator` is one browser: it takes up its invitation by the form, keeps the cookie, and then asks for tasks and
answers them. What it submits it sends with the same key until there is an answer, as `ui/static/net.js` does. The
`Ledger` holds each answer with what the server said to it; `crowd_check.py` compares that with the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

PASSWORD = "a long password"
_PATIENCE = aiohttp.ClientTimeout(20)


class UnreachableError(Exception):
    """No answer, or the server is in trouble: try again."""


class RefusedError(Exception):
    """The server has understood and said no."""


class SignedOutError(Exception):
    """The session was over, which must not happen."""


@dataclass(frozen=True)
class Pace:
    """How people work.

    Attributes:
        think: seconds between a task and its answer, at least and at most.
        longest: seconds between two tries at most.
        lose: share of the submits whose answer never reaches the browser.
        skip, leave, undo, look, ask, flag: share of the tasks with which this is done.
        nap: share of the tasks over which the laptop is closed, for `asleep` seconds, and answered then.
    """

    think: tuple[float, float] = (0.2, 1.0)
    longest: float = 10.0
    lose: float = 0.05
    skip: float = 0.03
    leave: float = 0.03
    undo: float = 0.08
    look: float = 0.05
    ask: float = 0.005
    flag: float = 0.001
    nap: float = 0.0
    asleep: tuple[float, float] = (65.0, 90.0)


@dataclass
class Said:
    """One answer or skip, and what became of it.

    Attributes:
        texts: of the responses, in the order in which they were shown; `answer` refers to them.
        revision: what the server acknowledged; None: it was refused, and `refused` says why.
        waited: seconds from the first try to the answer.
    """

    key: str
    task: int
    project: int
    status: str
    answer: dict[str, Any]
    texts: list[str]
    seconds: float
    guideline: str
    revision: int | None = None
    refused: str = ""
    tries: int = 0
    waited: float = 0.0


@dataclass(frozen=True)
class Call:
    """One request: its route, when it began and ended (time.monotonic), and the status; 0: there was no answer."""

    route: str
    began: float
    ended: float
    status: int


@dataclass
class Ledger:
    """What one person did, and was told."""

    pseudonym: str
    said: list[Said] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    last: dict[int, Said] = field(default_factory=dict)

    @property
    def acknowledged(self) -> list[Said]:
        """What the server has said that it has."""
        return [said for said in self.said if said.revision is not None]


class Annotator:
    """One person with one browser.

    Args:
        address: of the server, as http://HOST:PORT.
        pseudonym: who it is.
        invitation: the token of their link.
        projects: that they work on.
        pace: how.
        seed: of all that is drawn.
    """

    def __init__(
        self, address: str, pseudonym: str, invitation: str, projects: list[int], pace: Pace, seed: int = 0
    ) -> None:
        self.address, self.invitation, self.projects, self.pace = address, invitation, projects, pace
        self.ledger = Ledger(pseudonym)
        self.draw = random.Random(f"{pseudonym}/{seed}")
        self.project = projects[self.draw.randrange(len(projects))]
        self.on_the_way = 0
        self._until = 0.0
        self._login = f"{pseudonym}@home"
        # Cookies of an address without a name are kept only so.
        self._browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=_PATIENCE)

    async def close(self) -> None:
        """Close the browser."""
        await self._browser.close()

    async def join(self, *, second: bool = False) -> None:
        """Take up the invitation; or, with `second`, also sign in with the password in another browser."""
        form = {"login": self._login, "password": PASSWORD, "again": PASSWORD}
        await self._form(f"/invite/{self.invitation}", form)
        if second:
            await self._browser.close()
            self._browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=_PATIENCE)
            await self._form("/login", {"login": self._login, "password": PASSWORD, "next": "/label/"})
        me = await self._insist(lambda: self._call("GET", "/api/me"))
        if me["pseudonym"] != self.ledger.pseudonym:
            self.ledger.wrong.append(f"{self.ledger.pseudonym} is taken for {me['pseudonym']}")

    async def _form(self, path: str, fields: Mapping[str, str]) -> None:
        async with self._browser.post(
            self.address + path, data=fields, headers={"Origin": self.address}, allow_redirects=False
        ) as reply:
            if reply.status != 303 or not urlsplit(reply.headers["Location"]).path.endswith("/label/"):
                raise RuntimeError(f"POST {path.split('/')[1]}: {reply.status} {await reply.text()}")

    async def work(self, until: float) -> None:
        """Work until then (time.monotonic); what is on the way then is still delivered."""
        self._until = until
        try:
            while time.monotonic() < until:
                await self._turn()
        except SignedOutError:
            self.ledger.wrong.append(f"{self.ledger.pseudonym} had to sign in again")

    # What is done

    async def _turn(self) -> None:
        try:
            reply = await self._insist(lambda: self._call("GET", "/api/next", project=self.project))
            if reply["state"] == "task":
                await self._task(reply["task"])
            elif reply["state"] == "acknowledge":
                read = {"project": self.project, "label": reply["guideline"]["label"]}
                await self._insist(lambda: self._call("POST", "/api/acknowledge", read))
            elif reply["state"] == "empty":
                await asyncio.sleep(0.5)
                self.project = self.draw.choice(self.projects)
            else:
                self.ledger.wrong.append(f"/api/next says {reply}")
                await asyncio.sleep(0.5)
        except RefusedError:
            pass

    async def _task(self, task: Mapping[str, Any]) -> None:
        pace, began = self.pace, time.monotonic()
        if self._with(pace.nap) and began + pace.asleep[1] < self._until:
            await asyncio.sleep(self.draw.uniform(*pace.asleep))
        await asyncio.sleep(self.draw.uniform(*pace.think))
        seconds = round(time.monotonic() - began, 3)
        if self._with(pace.look):
            await self._once("/api/alive", {"task": task["id"], "seconds": seconds})
        if self._with(pace.leave):
            await self._leave(task)
        elif self._with(pace.ask):
            await self._once("/api/ask", {"task": task["id"], "text": "What is meant?"})
        elif self._with(pace.flag):
            await self._once("/api/flag", {"task": task["id"], "reason": "spam"})
        elif self._with(pace.skip):
            await self._deliver(task, "skipped", {"reason": "unclear prompt"}, seconds)
        else:
            await self._deliver(task, "ok", answer(task, self.draw), seconds)
            if self._with(pace.undo):
                await self._correct()
        if self._with(pace.look):
            await self._look()

    async def _leave(self, task: Mapping[str, Any]) -> None:
        """Close the page, which gives the task back as a beacon does: as text, and nobody waits for the answer."""
        body = json.dumps({"task": task["id"]})
        with contextlib.suppress(UnreachableError, RefusedError):
            await self._send("POST", "/api/release", body, {"Content-Type": "text/plain;charset=UTF-8"})
        await asyncio.sleep(self.draw.uniform(*self.pace.think))
        self.project = self.draw.choice(self.projects)

    async def _correct(self) -> None:
        """Open the last label again, which must be the one that was given, and say something else."""
        reply = await self._insist(lambda: self._call("POST", "/api/undo", {"project": self.project}))
        if reply["state"] != "task":
            if any(said.project == self.project for said in self.ledger.last.values()):
                self.ledger.wrong.append(f"undo has nothing: {reply}")
            return
        task = reply["task"]
        last = self.ledger.last.get(task["id"])
        if last is None or last.revision != task["revision"]:
            self.ledger.wrong.append(f"undo opens {task['id']} at revision {task['revision']}, acknowledged: {last}")
        elif last.status == "ok" and task["answer"] != last.answer:
            self.ledger.wrong.append(f"undo shows {task['answer']}, acknowledged: {last}")
        await asyncio.sleep(self.draw.uniform(*self.pace.think))
        await self._deliver(task, "ok", answer(task, self.draw), 1.5)

    async def _look(self) -> None:
        """Look at one's own labels: all that was acknowledged is there, as far as the list goes."""
        project = self.project
        reply = await self._insist(lambda: self._call("GET", "/api/mine", project=project, limit=50))
        found = {row["task"]: (row["revision"], row["status"]) for row in reply["labels"]}
        known = {
            task: (said.revision, said.status) for task, said in self.ledger.last.items() if said.project == project
        }
        newest = dict(list(known.items())[-50:])
        if found != newest:
            lost = {task: (found.get(task), newest.get(task)) for task in set(found) | set(newest)}
            lost = {task: both for task, both in lost.items() if both[0] != both[1]}
            self.ledger.wrong.append(f"{self.ledger.pseudonym} sees other labels than were acknowledged: {lost}")

    async def _deliver(self, task: Mapping[str, Any], status: str, given: dict[str, Any], seconds: float) -> None:
        """The outbox: the same key until the server has answered."""
        key = f"{self.draw.getrandbits(128):032x}"
        texts = [target["plain"] for target in task["targets"]]
        said = Said(key, task["id"], task["project"], status, given, texts, seconds, task["guideline"])
        body: dict[str, Any] = {"task": task["id"], "key": key, "seconds": seconds}
        body |= {"reason": given["reason"]} if status == "skipped" else {"answer": given, "guideline": said.guideline}
        route, began = ("/api/skip" if status == "skipped" else "/api/submit"), time.monotonic()

        async def attempt() -> Any:
            said.tries += 1
            lost = self.draw.random() if said.tries == 1 else 1.0
            if lost < self.pace.lose / 2:  # the connection breaks at some moment
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._call("POST", route, body), self.draw.uniform(0, 0.05))
                raise UnreachableError
            reply = await self._call("POST", route, body)
            if lost < self.pace.lose:  # it was stored, and nobody was told
                raise UnreachableError
            return reply

        self.on_the_way += 1
        self.ledger.said.append(said)
        try:
            reply = await self._insist(attempt)
            # A skip is acknowledged without its number.
            before = self.ledger.last.get(said.task)
            said.revision = reply.get("revision", (before.revision or 0) + 1 if before else 1)
            self.ledger.last.pop(said.task, None)
            self.ledger.last[said.task] = said
        except RefusedError as error:
            said.refused = str(error)
        finally:
            self.on_the_way -= 1
            said.waited = time.monotonic() - began

    def _with(self, share: float) -> bool:
        return self.draw.random() < share

    # How it is sent

    async def _once(self, route: str, body: Mapping[str, Any]) -> None:
        """What the page sends once, and tells the person when it failed."""
        with contextlib.suppress(UnreachableError, RefusedError):
            await self._call("POST", route, body)

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        pause = 0.5
        while True:
            try:
                return await call()
            except UnreachableError:
                await asyncio.sleep(min(pause, self.pace.longest))
                pause *= 2

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: int) -> Any:
        text = None if body is None else json.dumps(body)
        kind = {} if text is None else {"Content-Type": "application/json"}
        return await self._send(method, path, text, {"X-Prefdata": "1", "Accept": "application/json", **kind}, query)

    async def _send(
        self, method: str, path: str, body: str | None, headers: dict[str, str], query: Mapping[str, int] | None = None
    ) -> Any:
        headers |= {"Sec-Fetch-Site": "same-origin", "Origin": self.address}
        began, status = time.monotonic(), 0
        try:
            address = self.address + path
            async with self._browser.request(method, address, params=query, data=body, headers=headers) as answered:
                reply = await answered.json()
                status = answered.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreachableError from error
        finally:
            self.ledger.calls.append(Call(path, began, time.monotonic(), status))
        if status == 401:
            raise SignedOutError
        if status >= 500 or status in (408, 429):
            self.ledger.wrong.append(f"{method} {path}: {status} {reply}")
            raise UnreachableError
        if status >= 300:
            if status != 409:
                self.ledger.wrong.append(f"{method} {path} {body}: {status} {reply}")
            raise RefusedError(reply.get("say", ""))
        return reply


def answer(task: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """Some answer to a task of compare, rank or rate."""
    size, options = len(task["targets"]), task["options"]
    if task["protocol"] == "compare":
        most = options["points"] // 2
        return {"choice": draw.choice([*range(-most, most + 1), "both_bad"])}
    if task["protocol"] == "rank":
        drawn = [draw.randint(1, size) for _ in range(size)]
        places = sorted(set(drawn))
        return {"ranks": [1 + places.index(rank) for rank in drawn]}
    scales = {aspect["name"]: (int(aspect["min"]), int(aspect["max"])) for aspect in options["aspects"]}
    return {"scores": {name: [draw.randint(*ends) for _ in range(size)] for name, ends in scales.items()}}


async def gathered(
    people: Iterable[Annotator], act: Callable[[Annotator], Coroutine[Any, Any, None]], at_once: int = 1000
) -> None:
    """Let all of them do it, so many at once."""
    places = asyncio.Semaphore(at_once)

    async def one(person: Annotator) -> None:
        async with places:
            await act(person)

    async with asyncio.TaskGroup() as group:
        for person in people:
            group.create_task(one(person))
