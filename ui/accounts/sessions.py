"""Who is signed in, and how often somebody may try: sessions and the brake on wrong passwords, both kept in the store.

A cookie holds a random token; the store holds its SHA-256 only, so that whoever reads the store cannot sign in with it.
Both survive a restart.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from sqlalchemy import Connection, delete, insert, select, update

from prefdata.errors import PrefdataError

from ..store.tables import sessions, throttle

COOKIE = "prefdata_session"
LONGEST = 14 * 86400.0
"""Seconds that a session may last, however much it is used."""

IDLE = 3 * 86400.0
"""Seconds after which an unused session is over."""

_STEP = 3600.0
"""A session in use is prolonged at most once in so many seconds: reading a page must not write to the store."""

FREE = 5
"""Wrong passwords in a row after which the next attempt has to wait."""

WORST = 900.0
"""The longest wait in seconds: nobody can lock somebody else out for longer."""

_FORGET = 3600.0
_KNOWN = 30 * 86400.0


class SignInError(PrefdataError):
    """Somebody could not sign in.

    Args:
        say: the sentence to show.
        wait: seconds until the next attempt is looked at; 0 where the attempt itself was wrong.
    """

    def __init__(self, say: str, wait: float = 0.0) -> None:
        super().__init__(say)
        self.wait = wait


def token() -> str:
    """A new secret: 256 random bits, safe in a URL and in a cookie."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What the store keeps of a secret. The secrets are random, so that no salt and no slow hash are needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


# Sessions


def begin(db: Connection, person_id: int, now: float) -> str:
    """Start a session; those that are over are swept out. Returns what goes into the cookie."""
    secret = token()
    db.execute(delete(sessions).where(sessions.c.expires_at <= now))
    db.execute(
        insert(sessions).values(token=digest(secret), person_id=person_id, created_at=now, expires_at=now + IDLE)
    )
    return secret


def prolonged(created_at: float, expires_at: float, now: float) -> float | None:
    """Until when a session in use lasts; None where that is not worth a write yet."""
    until = min(created_at + LONGEST, now + IDLE)
    return until if until - expires_at >= _STEP else None


def prolong(db: Connection, key: str, until: float) -> None:
    """Let a session last until then. One that was ended in the meantime stays ended."""
    db.execute(update(sessions).where(sessions.c.token == key, sessions.c.expires_at < until).values(expires_at=until))


def end(db: Connection, *, key: str | None = None, person_id: int | None = None) -> None:
    """End one session, or all of a person."""
    if key is not None:
        db.execute(delete(sessions).where(sessions.c.token == key))
    if person_id is not None:
        db.execute(delete(sessions).where(sessions.c.person_id == person_id))


def cookie(secret: str, path: str, secure: bool) -> str:
    """The Set-Cookie header of a session; of an empty one, which makes the browser forget it.

    Args:
        secret: what `begin` returned, or "".
        path: the root path that the browser sees, without a slash at its end.
        secure: the browser came by https and must not send it otherwise.
    """
    age = int(LONGEST) if secret else 0
    parts = [f"{COOKIE}={secret}", f"Path={path or '/'}", f"Max-Age={age}", "HttpOnly", "SameSite=Lax"]
    return "; ".join([*parts, "Secure"] if secure else parts)


def secret_of(headers: Mapping[str, str]) -> str | None:
    """The session's secret in a request's Cookie header."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and 0 < len(value) <= 100:
            return value
    return None


# The brake


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in, counted before the password is looked at, so that many at once do not slip through.

    Attributes:
        keys: the rows of `throttle` that count it.
        wait: seconds until an attempt is looked at again; 0: this one may go on.
    """

    keys: tuple[str, ...]
    wait: float = 0.0


def delay(failures: int) -> float:
    """Seconds to wait after so many wrong passwords in a row: 2 after the fifth, then 4, 8, ... up to `WORST`."""
    return 0.0 if failures < FREE else min(2.0 ** min(failures - FREE + 1, 20), WORST)


def attempt(db: Connection, login: str, address: str, now: float) -> Attempt:
    """Count an attempt to sign in as if it had failed, or say how long to wait.

    Logins and addresses are counted apart. A login at an address from which it has signed in before has a count of its
    own and no other: strangers who guess at somebody's password do not lock that person out at home, and of many people
    behind one address those who forget their passwords do not slow down the others.

    Args:
        db: a write transaction.
        login: as typed, normalised.
        address: of the client.
        now: seconds since 1970.
    """
    where = _address(address)
    if _until(db, _key("known", login, where)) > now:
        keys: tuple[str, ...] = (_key("home", login, where),)
    else:
        keys = (_key("login", login), _key("address", where))
    waits = [_until(db, key) - now for key in keys]
    if max(waits) > 0:
        return Attempt(keys, max(waits))
    db.execute(delete(throttle).where(throttle.c.until < now - _FORGET))
    for key in keys:
        row = db.execute(select(throttle.c.failures).where(throttle.c.key == key)).first()
        failures = (row.failures if row else 0) + 1
        _put(db, key, failures, now + delay(failures))
    return Attempt(keys)


def succeeded(db: Connection, tried: Attempt, login: str, address: str, now: float) -> None:
    """Take an attempt back that was right. The address keeps its other failures: one's own account is no eraser."""
    db.execute(delete(throttle).where(throttle.c.key == tried.keys[0]))
    for key in tried.keys[1:]:
        row = db.execute(select(throttle.c.failures).where(throttle.c.key == key)).first()
        if row:
            _put(db, key, row.failures - 1, now)
    at_home(db, login, address, now)


def at_home(db: Connection, login: str, address: str, now: float) -> None:
    """Remember that this login has signed in from this address."""
    _put(db, _key("known", login, _address(address)), 0, now + _KNOWN)


def waiting(seconds: float) -> str:
    """How long to wait, in words."""
    if seconds <= 90:
        whole = max(1, math.ceil(seconds))
        return f"{whole} second{'s' if whole > 1 else ''}"
    return f"{math.ceil(seconds / 60)} minutes"


def _key(kind: str, *parts: str) -> str:
    # Hashed: what was typed has any length, and the addresses of people at home are nobody's business.
    return f"{kind}:{digest(' '.join(parts))}"


def _address(address: str) -> str:
    """What is counted of an address: of IPv6 its /64 network, since a household has all of that."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is not None:  # a server at [::] writes ::ffff:1.2.3.4
        return str(found.ipv4_mapped)
    return str(found) if found.version == 4 else str(ip_network(f"{found}/64", strict=False))


def _until(db: Connection, key: str) -> float:
    return float(db.execute(select(throttle.c.until).where(throttle.c.key == key)).scalar() or 0.0)


def _put(db: Connection, key: str, failures: int, until: float) -> None:
    db.execute(delete(throttle).where(throttle.c.key == key))
    db.execute(insert(throttle).values(key=key, failures=failures, until=until))
