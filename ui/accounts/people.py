"""The people of a labelling project: accounts, roles, invitations and signing in.

Nobody is known by name: a person has a login, which only the lead sees, and a pseudonym, which is what labels carry.
"""

from __future__ import annotations

import math
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Protocol

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from prefdata.errors import DataError

from ..store import Store
from ..store.tables import invitations, people, sessions
from . import sessions as signed
from .person import (
    LONGEST,
    PSEUDONYM,
    RANKS,
    STATES,
    NotAllowed,
    Person,
    checked,
    checked_login,
    checked_password,
    normalised,
    person_of_row,
    possible,
)
from .sessions import SignInError

__all__ = ["RANKS", "STATES", "NotAllowed", "People", "Person", "SignInError", "normalised"]

FRESH = 2.0
"""Seconds for which a session that was looked up is believed: as long may a change by another process go unnoticed."""

_WRONG = "This sign-in name and password do not go together."
_USED = "This link has been used already, has expired, or was replaced by a newer one: ask the lead for a new link."


class Hasher(Protocol):
    """What is used of argon2's PasswordHasher."""

    def hash(self, password: str) -> str:
        """Hash a password with a new salt."""

    def verify(self, hash: str, password: str) -> bool:
        """Whether it is the password; an Argon2Error if not."""

    def check_needs_rehash(self, hash: str) -> bool:
        """Whether the hash was made with weaker settings than today's."""


class People:
    """Accounts, and who is signed in.

    Args:
        store: where they are kept.
        hasher: argon2 with its own defaults unless given.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, *, hasher: Hasher | None = None, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._hasher: Hasher = hasher or PasswordHasher()
        self._clock = clock
        self._nobody = self._hasher.hash("nobody's password")  # a wrong login must cost what a wrong password costs
        self._seen: dict[str, tuple[float, Person]] = {}
        self._lock = threading.Lock()

    # Accounts

    def add(
        self,
        pseudonym: str | None = None,
        role: str = "annotator",
        groups: Sequence[str] = (),
        skills: Sequence[str] = (),
        pay: float | None = None,
        by: Person | None = None,
    ) -> Person:
        """Make an account, which an invitation then gives to somebody.

        Args:
            pseudonym: letters, digits, `_`, `.` and `-`, at most 60; ann-01, ann-02, ... unless given.
            role: annotator, reviewer or admin.
            groups: that tasks can be assigned to.
            skills: skills and languages that tasks can require.
            pay: for an hour, at least 0.
            by: who does it, to be checked; None for the command line.

        Raises:
            DataError: the pseudonym is taken or malformed, or another value does not fit.
            NotAllowed: `by` is no admin.
        """
        if by is not None:
            by.need("admin")
        values = checked(role=role, groups=groups, skills=skills, pay=pay)
        if pseudonym is not None and not PSEUDONYM.fullmatch(pseudonym):
            raise DataError(
                f"the pseudonym {pseudonym!r} must be letters, digits, '_', '.' and '-', begin with a letter or digit, "
                "and have at most 60 characters"
            )
        with self._store.write() as db:
            # Two that differ by capitals only would be taken for one another in every table of a report.
            taken = {name.casefold() for name in db.execute(select(people.c.pseudonym)).scalars()}
            name = pseudonym or next(made for n in range(1, len(taken) + 2) if (made := f"ann-{n:02d}") not in taken)
            if name.casefold() in taken:
                raise DataError(f"the pseudonym {name!r} is taken: choose another one")
            row = {"pseudonym": name, "state": "active", "created_at": self._clock(), **values}
            person_id = db.execute(insert(people).values(**row)).inserted_primary_key
            assert person_id is not None
            return person_of_row(_row(db, person_id[0]))

    def invite(self, person_id: int, days: float = 14) -> str:
        """Make a link that sets login and password, once. Links made earlier for this person stop working.

        Args:
            person_id: whose account.
            days: until it expires.

        Returns:
            What goes into the link; the store has its hash only, so it cannot be shown again.

        Raises:
            DataError: there is no such person, they were stopped, or `days` is not above 0.
        """
        if not (math.isfinite(days) and days > 0):
            raise DataError(f"an invitation lasts a number of days above 0, not {days}")
        with self._store.write() as db:
            return self._invite(db, _row(db, person_id), days)

    def _invite(self, db: Connection, row: Row[Any], days: float) -> str:
        if row.state == "stopped":
            raise DataError(f"{row.pseudonym} was stopped: set the state to active before inviting again")
        secret, now = signed.token(), self._clock()
        db.execute(delete(invitations).where(invitations.c.person_id == row.person_id, invitations.c.used_at.is_(None)))
        made = {"token": signed.digest(secret), "person_id": row.person_id, "expires_at": now + days * 86400}
        db.execute(insert(invitations).values(**made))
        return secret

    def invited(self, token: str) -> Person | None:
        """Whose invitation this is; None where it does not work any more. Looking does not use it up."""
        with self._store.read() as db:
            return self._invited(db, token)

    def _invited(self, db: Connection, token: str) -> Person | None:
        row = db.execute(select(people).join(invitations).where(_open(token, self._clock()))).first()
        return None if row is None or row.state == "stopped" else person_of_row(row)

    def is_first(self, person: Person) -> bool:
        """Whether this person is to be the first admin: no admin can sign in yet."""
        with self._store.read() as db:
            return person.role == "admin" and person.login is None and not _admins(db)

    def accept(self, token: str, login: str, password: str) -> Person:
        """Take an invitation up: choose a login (a reset keeps the old one) and a password. It works once.

        Raises:
            SignInError: the link does not work any more.
            DataError: the login is taken or malformed, or the password too short or long.
        """
        person = self.invited(token)
        if person is None:
            raise SignInError(_USED)
        name = checked_login(login)
        if person.login is not None and name != person.login:
            raise DataError(f"your sign-in name stays {person.login}: only the password is new")
        hashed = self._hasher.hash(checked_password(password, name))  # before the transaction: it takes long
        now = self._clock()
        try:
            with self._store.write() as db:
                used = db.execute(update(invitations).where(_open(token, now)).values(used_at=now))
                if used.rowcount != 1 or _row(db, person.person_id).state == "stopped":
                    raise SignInError(_USED)
                mine = people.c.person_id == person.person_id
                db.execute(update(people).where(mine).values(login=name, password=hashed))
                signed.end(db, person_id=person.person_id)
                accepted = person_of_row(_row(db, person.person_id))
        except IntegrityError as error:
            raise DataError(f"the sign-in name {name!r} is taken: choose another one") from error
        self._forget()
        return accepted

    def reset(self, person_id: int) -> str:
        """Take the password away, end all sessions of that person, and make a link that sets a new one.

        Raises:
            DataError: there is no such person, or they were stopped.
        """
        with self._store.write() as db:
            secret = self._invite(db, _row(db, person_id), 14)
            db.execute(update(people).where(people.c.person_id == person_id).values(password=None))
            signed.end(db, person_id=person_id)
        self._forget()
        return secret

    def first_admin(self) -> str | None:
        """A link for the first admin, while there is none who can sign in; each call makes the one before useless."""
        with self._store.write() as db:
            if _admins(db):
                return None
            stopped = people.c.state == "stopped"
            waiting = db.execute(select(people).where(people.c.role == "admin", ~stopped)).first()
        person_id = waiting.person_id if waiting else self.add(role="admin").person_id
        return self.invite(person_id)

    # Signing in

    def sign_in(self, login: str, password: str, address: str) -> str:
        """Check a password and start a session.

        Args:
            login: in any spelling that normalises to theirs.
            password: as typed.
            address: of the client, which is slowed down beside the login after five wrong attempts.

        Returns:
            What goes into the cookie.

        Raises:
            SignInError: wrong, or too many attempts (then `wait` says for how many seconds), or the person was stopped.
        """
        name = normalised(login)
        with self._store.write() as db:
            tried = signed.attempt(db, name, address, self._clock())
            # What could never have been chosen is not asked for: databases refuse some of it in ways of their own.
            row = db.execute(select(people).where(people.c.login == name)).first() if possible(name) else None
        if tried.wait > 0:
            say = f"Too many attempts with a wrong password. Try again in {signed.waiting(tried.wait)}."
            raise SignInError(say, tried.wait)
        right = self._verify(row.password if row else None, password)
        if row is None or not right:
            raise SignInError(_WRONG)
        fresh = self._hasher.hash(unicodedata.normalize("NFC", password)) if self._stale(row.password) else row.password
        with self._store.write() as db:
            # As it is now: the password may have been reset, or the person stopped, while argon2 was at work.
            now = _row(db, row.person_id)
            if now.password != row.password:
                raise SignInError(_WRONG)
            if now.state == "stopped":
                raise SignInError("This account was stopped: ask the lead.")
            signed.succeeded(db, tried, name, address, self._clock())
            db.execute(update(people).where(people.c.person_id == row.person_id).values(password=fresh))
            return signed.begin(db, row.person_id, self._clock())

    def begin(self, person: Person, address: str) -> str:
        """Start a session for somebody who has just accepted an invitation, at this address."""
        with self._store.write() as db:
            signed.at_home(db, person.login or "", address, self._clock())
            return signed.begin(db, person.person_id, self._clock())

    def person_of(self, session_token: str) -> Person | None:
        """Whose cookie this is; None where it holds no more. A role or state that was changed counts within seconds."""
        key, now = signed.digest(session_token), self._clock()
        seen = self._seen.get(key)
        if seen is not None and 0 <= now - seen[0] < FRESH:
            return seen[1]
        with self._store.read() as db:
            query = select(people, sessions.c.created_at.label("began"), sessions.c.expires_at).join(sessions)
            row = db.execute(query.where(sessions.c.token == key, sessions.c.expires_at > now)).first()
        if row is None or row.state == "stopped" or now >= row.began + signed.LONGEST:
            return None
        until = signed.prolonged(row.began, row.expires_at, now)
        if until is not None:
            with self._store.write() as db:
                signed.prolong(db, key, until)
        person = person_of_row(row)
        with self._lock:
            if len(self._seen) > 1000:
                self._seen.clear()
            self._seen[key] = (now, person)
        return person

    def sign_out(self, token: str) -> None:
        """End a session."""
        with self._store.write() as db:
            signed.end(db, key=signed.digest(token))
        self._forget()

    def _verify(self, hashed: str | None, password: str) -> bool:
        if len(password) > LONGEST:  # never accepted when it was chosen: refuse it as cheaply as it is wrong
            password = ""
        try:
            right = self._hasher.verify(hashed or self._nobody, unicodedata.normalize("NFC", password))
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False
        return right and hashed is not None

    def _stale(self, hashed: str) -> bool:
        return self._hasher.check_needs_rehash(hashed)

    def _forget(self) -> None:
        with self._lock:
            self._seen.clear()

    # Looking up and changing. These two stand last: they hide the built-in names in what follows.

    def get(self, person_id: int) -> Person:
        """One person.

        Raises:
            DataError: there is none with this number.
        """
        with self._store.read() as db:
            return person_of_row(_row(db, person_id))

    def named(self, pseudonym: str) -> Person:
        """The person with this pseudonym.

        Raises:
            DataError: there is none.
        """
        with self._store.read() as db:
            row = db.execute(select(people).where(func.lower(people.c.pseudonym) == pseudonym.lower())).first()
        if row is None:
            known = ", ".join(person.pseudonym for person in self.list()) or "nobody"
            raise DataError(f"there is nobody called {pseudonym!r} (there are: {known})")
        return person_of_row(row)

    def list(self) -> tuple[Person, ...]:
        """Everybody, in the order in which they were added."""
        with self._store.read() as db:
            return tuple(person_of_row(row) for row in db.execute(select(people).order_by(people.c.person_id)))

    def set(
        self,
        person_id: int,
        *,
        role: str | None = None,
        state: str | None = None,
        groups: Sequence[str] | None = None,
        skills: Sequence[str] | None = None,
        pay: float | EllipsisType | None = ...,
        by: Person | None = None,
    ) -> Person:
        """Change what is given. Stopping somebody ends their sessions and links.

        Raises:
            DataError: a value does not fit, there is no such person, or it would leave no admin.
            NotAllowed: `by` is no admin.
        """
        if by is not None:
            by.need("admin")
        given = {"role": role, "state": state, "groups": groups, "skills": skills}
        values = checked(**{name: value for name, value in given.items() if value is not None})
        if pay is not ...:
            values |= checked(pay=pay)
        with self._store.write() as db:
            old = _row(db, person_id)
            if role not in (None, "admin") or state == "stopped":
                working = _admins(db)
                if working == {person_id}:
                    raise DataError(f"{old.pseudonym} is the only admin: make somebody else admin first")
            if values:
                db.execute(update(people).where(people.c.person_id == person_id).values(**values))
            if state == "stopped":
                signed.end(db, person_id=person_id)
                unused = invitations.c.used_at.is_(None)
                db.execute(delete(invitations).where(invitations.c.person_id == person_id, unused))
            changed = person_of_row(_row(db, person_id))
        self._forget()
        return changed


def _open(token: str, now: float) -> Any:
    key = invitations.c.token == signed.digest(token)
    return and_(key, invitations.c.used_at.is_(None), invitations.c.expires_at > now)


def _admins(db: Connection) -> frozenset[int]:
    """Admins who can sign in."""
    can = people.c.password.is_not(None) & (people.c.state != "stopped")
    return frozenset(db.execute(select(people.c.person_id).where(people.c.role == "admin", can)).scalars())


def _row(db: Connection, person_id: int) -> Row[Any]:
    row = db.execute(select(people).where(people.c.person_id == person_id)).first()
    if row is None:
        raise DataError(f"there is no person number {person_id}")
    return row
