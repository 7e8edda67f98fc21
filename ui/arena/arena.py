"""The arena: a prompt, two anonymous answers, a vote, a leaderboard. No widget in it.

A battle is kept in this process, and the browser is told nothing of its models before the vote. Both answers are
written whether anybody watches or not; what they took becomes rows of `calls` when they are there. A vote goes into the
dataset with its prompt and answers in one commit, and is acknowledged after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.dataset.log import StepRecord
from prefdata.engines import Answer, Client, Engine, Request, RequestCache
from prefdata.engines.calls import bill_row
from prefdata.engines.streaming import Streamed, listening
from prefdata.errors import DataError, PrefdataError

from ..accounts.people import NotAllowed, Person
from .battles import CHOICES, Battle, Seen, Side
from .file import Settings, read
from .leaderboard import STORE, Board, board_of, games_of

if TYPE_CHECKING:
    from ..service import Service

_log = logging.getLogger(__name__)

LONGEST = 20_000
"""Characters of a prompt."""

_LOOK = 0.08
"""Seconds between two looks at answers that are being written."""
_HOUR = 3600.0
_ATTEMPTS = 2
"""A person is waiting: a run may be patient, a battle is not."""
_PATIENCE = 10.0
"""Seconds that closing waits for answers in flight."""
STEP = f"labels:{STORE}"


class Arena:
    """Battles between the models of some engines.

    Args:
        service: the application; votes go into its dataset.
        engines: by name; those that cannot generate are left out.
        settings: how answers are drawn, and limits.
        cache: where answers are kept; the user's own unless given.
        clock: Unix time; tests set it.

    Raises:
        DataError: there are fewer than two models, or two engines have one and the same.
    """

    def __init__(
        self,
        service: Service,
        engines: Mapping[str, Engine],
        settings: Settings | None = None,
        *,
        cache: RequestCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        able = {name: Streamed(engine) for name, engine in engines.items() if "generate" in engine.capabilities}
        _refuse_few(able)
        self.dataset, self.settings = service.dataset, settings or Settings()
        self._engines, self._cache, self._clock = able, cache, clock
        self._battles: dict[str, Battle] = {}
        self._started: dict[int, deque[float]] = {}
        self._lock = threading.Lock()
        self._draw = secrets.SystemRandom()
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._settling: asyncio.Future[None] | None = None
        self._board: tuple[int, Board] | None = None

    @classmethod
    def open(cls, service: Service, path: str | Path) -> Arena:
        """The arena of the engines in a YAML file, which may be a pipeline's: only `engines:` (and `plugins:`) is read.

        A file of its own may also have `arena:` (see `Settings`).

        Raises:
            DataError: the file cannot be read, or has fewer than two models that can write.
            PipelineError: an engine is not what it should be.
        """
        engines, settings = read(Path(path))
        return cls(service, engines, settings)

    # Battles

    def start(self, who: Person, text: str) -> str:
        """Begin a battle; one that this person has not voted on is given up.

        Returns:
            The battle's id.

        Raises:
            NotAllowed: the person is paused.
            DataError: the prompt is empty or too long, a battle is still running, or there were too many this hour.
        """
        if who.state != "active":
            raise NotAllowed("your account is paused: ask whoever leads the project")
        # Half a surrogate pair, which a browser can send, cannot be stored.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()
        if not text:
            raise DataError("write a prompt first")
        if len(text) > LONGEST:
            raise DataError(f"a prompt has at most {LONGEST:,} characters; this one has {len(text):,}")
        with self._lock:
            self._forget_old()
            own = [battle for battle in self._battles.values() if battle.person_id == who.person_id]
            if any(battle.state == "running" for battle in own):
                raise DataError("your last battle is still running: wait for both answers")
            self._count(who)
            for battle in own:
                del self._battles[battle.battle_id]
            made = self._made(who, text)
            self._battles[made.battle_id] = made
            asyncio.run_coroutine_threadsafe(self._fight(made), self._running_loop())
        return made.battle_id

    def current(self, who: Person) -> Seen | None:
        """The last battle of a person, if it has not expired: after the page was loaded again."""
        with self._lock:
            self._forget_old()
            own = [battle for battle in self._battles.values() if battle.person_id == who.person_id]
        return own[-1].seen() if own else None

    def seen(self, who: Person, battle_id: str) -> Seen:
        """What this person may know of their battle.

        Raises:
            DataError: it is not theirs, or has expired.
        """
        return self._mine(who, battle_id).seen()

    async def stream(self, who: Person, battle_id: str) -> AsyncIterator[Seen]:
        """Both answers while they grow; the last one is ready for the vote.

        Raises:
            DataError: it is not theirs, or has expired.
        """
        battle = self._mine(who, battle_id)
        last: Seen | None = None
        while True:
            now = battle.seen()
            if now != last:
                yield now
            if now.state != "running":
                return
            last = now
            await asyncio.sleep(_LOOK)

    def vote(self, who: Person, battle_id: str, choice: str) -> Seen:
        """Take the vote; it is in the dataset when this returns.

        Args:
            who: whose battle it is.
            battle_id: which.
            choice: a (left), b (right), tie or both_bad.

        Returns:
            The battle, with its models.

        Raises:
            DataError: no such choice, not their battle, too early, or voted on already.
        """
        if choice not in CHOICES:
            raise DataError(f"a vote is one of {', '.join(CHOICES)}")
        battle = self._mine(who, battle_id)
        with battle.lock:
            if battle.state == "running":
                raise DataError("vote when both answers are complete")
            if battle.state == "voted":
                raise DataError("you have voted on this battle already: start another one")
            row, beside = battle.rows(who.pseudonym, choice)
            try:
                self.dataset.label([row], store=STORE, beside=beside)
            except OSError as error:
                raise DataError(f"the vote could not be written ({error.strerror}): try again") from error
            battle.choice = choice
        return battle.seen()

    def leaderboard(self) -> Board:
        """Ratings of all votes in the dataset, as of now."""
        number = self.dataset.snapshot.number
        known = self._board
        if known is None or known[0] != number:
            known = self._board = number, board_of(*games_of(self.dataset))
        return known[1]

    def close(self) -> None:
        """Send nothing new, and give back connections, threads and models. A second call does nothing."""
        with self._lock:
            loop, closed, self._closed = self._loop, self._closed, True
        if loop is None or closed or not loop.is_running():  # one that is about to stop would never answer
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(), loop)
        try:
            ending.result(timeout=_PATIENCE)
        except (TimeoutError, PrefdataError):
            ending.cancel()  # a server that answers no more must not keep the application from ending
        loop.call_soon_threadsafe(loop.stop)

    # Inside

    def _mine(self, who: Person, battle_id: str) -> Battle:
        with self._lock:
            self._forget_old()
            battle = self._battles.get(battle_id)
        if battle is None or battle.person_id != who.person_id:
            raise DataError("this battle is over: start another one")
        return battle

    def _forget_old(self) -> None:
        before = self._clock() - self.settings.expire
        for old in [one for one in self._battles.values() if one.started < before and one.state != "running"]:
            del self._battles[old.battle_id]

    def _count(self, who: Person) -> None:
        """Count a battle of this person's."""
        now, times = self._clock(), self._started.setdefault(who.person_id, deque())
        while times and times[0] <= now - _HOUR:
            times.popleft()
        if len(times) >= self.settings.an_hour:
            wait = int((times[0] + _HOUR - now) // 60) + 1
            raise DataError(
                f"{self.settings.an_hour} battles an hour are the limit: the next one can start in {wait} minutes"
            )
        times.append(now)

    def _made(self, who: Person, text: str) -> Battle:
        """Two distinct models in random order: which one is left is as random as which two they are."""
        left, right = self._draw.sample(sorted(self._engines), 2)
        sides = self._side(left, text), self._side(right, text)
        return Battle(secrets.token_hex(16), who.person_id, text, sides, self._clock())

    def _side(self, name: str, text: str) -> Side:
        engine, settings = self._engines[name], self.settings
        request = Request(
            "generate",
            messages=({"role": "user", "content": text},),
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=self._draw.randrange(2**31),  # each battle draws anew
        )
        return Side(name, engine.model, "", request)

    async def _fight(self, battle: Battle) -> None:
        """Let both sides answer, and keep what it took."""
        try:
            answers = await asyncio.gather(*(self._answer(side) for side in battle.sides))
            rows = [_call(answer) for answer in answers if answer is not None]
            await asyncio.to_thread(self._keep_calls, rows)
        finally:
            for side in battle.sides:
                side.done = True

    async def _answer(self, side: Side) -> Answer | None:
        try:
            side.identity = await asyncio.to_thread(lambda: self._engines[side.engine].identity)
            client = await self._asking()
            # A server may ask to be left alone for minutes; the call goes on, the person does not wait for it.
            async with asyncio.timeout(self.settings.patience):
                with listening(side.heard):
                    side.answer = await client.ask(side.engine, side.request, step=STEP)
        except TimeoutError:
            pass
        # Whatever an engine raises, the other side goes on, and the person is told that this one failed.
        except Exception as error:
            why = (
                str(error) if isinstance(error, PrefdataError) else type(error).__name__
            )  # a message may hold a secret
            _log.warning("arena: engine %r gave no answer: %s", side.engine, why)
            # An engine that cannot be used closes its gate for good; in a run that is right, but a server that comes
            # back should be asked again by the next battle.
            self._client = None
        finally:
            side.done = True
        return side.answer

    async def _asking(self) -> Client:
        if self._cache is None:
            self._cache = RequestCache()
        if self._settling is None:
            self._settling = asyncio.ensure_future(asyncio.to_thread(self._settle, self._cache))
        await asyncio.wait([self._settling])  # before anything is paid for that it would take for somebody else's
        if self._client is None:
            # The name does not begin with the dataset's: the bills are stated here, and by no pipeline's run.
            payer = f"{self._payer}{secrets.token_hex(8)}"
            self._client = Client(self._engines, self._cache, payer, say=lambda said: None, attempts=_ATTEMPTS)
        return self._client

    @property
    def _payer(self) -> str:
        return f"arena/{self.dataset.uid}/"

    def _settle(self, cache: RequestCache) -> None:
        """State the bills of answers that were paid for when the application was killed."""
        keys = [key for payer in cache.payers(self._payer) for some in cache.paid_by(payer) for key in some]
        known = self.dataset.latest("calls", keys) if keys else {}
        found = ((key, cache.get(key)) for key in keys if key not in known)
        self._keep_calls([bill_row(key, entry) for key, entry in found if entry is not None])

    def _keep_calls(self, rows: list[dict[str, Any]]) -> None:
        rows = [row for row in rows if not self.dataset.erased.holds("calls", row)]
        if not rows:
            return
        record = StepRecord(step=STEP, name=STEP, kind="labels")
        # A full disk: the request cache knows what they cost, and `_settle` states it later.
        with contextlib.suppress(OSError, PrefdataError):
            self.dataset.commit({"calls": [{**row, "step": STEP} for row in rows]}, "arena: calls", steps=[record])

    async def _end(self) -> None:
        if self._client is not None:
            self._client.stop()
            await self._client.finish()
        for engine in self._engines.values():
            await engine.close()
        if self._cache is not None:
            self._cache.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of all battles, in a thread of its own: connections and limits belong to one loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="arena", daemon=True).start()
        return self._loop


def _call(answer: Answer) -> dict[str, Any]:
    """The row of `calls`, without the text: a response holds it if there was a vote, and else nobody asked for it."""
    reply = answer.reply
    plain = reply is not None and not reply.raw
    return {**answer.call, "raw": None} if plain else dict(answer.call)


def _refuse_few(engines: Mapping[str, Engine]) -> None:
    models: dict[str, str] = {}
    for name, engine in engines.items():
        if engine.model in models:
            raise DataError(
                f"the engines {models[engine.model]!r} and {name!r} are both the model {engine.model!r}: the arena "
                "tells models apart by name, so leave one of them out"
            )
        models[engine.model] = name
    if len(models) < 2:
        raise DataError(f"an arena needs engines of at least two models that can write; there are {len(models)}")
