"""One person: role, state and pseudonym, and what their values may be."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from prefdata.errors import DataError, PrefdataError

RANKS = {"annotator": 0, "reviewer": 1, "admin": 2}
"""Roles; each may do all that a lower one may."""

STATES = ("active", "paused", "stopped")
PSEUDONYM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
SHORTEST, LONGEST = 10, 200
"""Characters of a password."""


class NotAllowed(PrefdataError):  # noqa: N818 - the name is agreed upon across the application
    """Somebody asked for what their role may not do."""


@dataclass(frozen=True)
class Person:
    """One person, as of when they were looked up.

    Attributes:
        person_id: their row in the store.
        login: what they sign in with; None until the invitation is taken up.
        pseudonym: what labels carry: `human:PSEUDONYM`.
        role: annotator, reviewer or admin.
        state: active, paused (may sign in, gets no tasks) or stopped (may not sign in).
        groups: names that tasks can be assigned to.
        skills: skills and languages that tasks can require.
        pay: for an hour, in the currency of the project; None: not said.
    """

    person_id: int
    login: str | None
    pseudonym: str
    role: str
    state: str
    groups: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    pay: float | None = None

    def may(self, role: str) -> bool:
        """Whether this person's role is at least that one."""
        return RANKS[self.role] >= RANKS[role]

    def need(self, role: str) -> None:
        """Refuse whatever this role may not do.

        Raises:
            NotAllowed: the role is lower.
        """
        if not self.may(role):
            raise NotAllowed(f"this is for the role {role}, and {self.pseudonym} is {self.role}")


def normalised(login: str) -> str:
    """A login as it is compared: in one spelling, whatever keyboard it was typed on."""
    plain = unicodedata.normalize("NFKC", login).casefold()
    return unicodedata.normalize("NFKC", plain).casefold().strip()


def possible(login: str) -> bool:
    """Whether a normalised login could be somebody's."""
    return 1 <= len(login) <= 120 and not any(unicodedata.category(letter)[0] in "CZ" for letter in login)


def checked_login(login: str) -> str:
    """A login as it is stored, or a DataError."""
    name = normalised(login)
    if not possible(name):
        raise DataError("a sign-in name has 1 to 120 characters, no spaces and nothing invisible: choose another one")
    return name


def checked_password(password: str, login: str) -> str:
    """A password as it is hashed, or a DataError."""
    given = unicodedata.normalize("NFC", password)
    if not SHORTEST <= len(given) <= LONGEST:
        raise DataError(f"a password has {SHORTEST} to {LONGEST} characters; this one has {len(given)}")
    if normalised(given) == login or len(frozenset(given)) < 3:
        raise DataError("this password would be guessed at once: choose another one")
    return given


def checked(**values: Any) -> dict[str, Any]:
    """Values of a person's row, as they are stored."""
    for name, allowed in (("role", tuple(RANKS)), ("state", STATES)):
        if name in values and values[name] not in allowed:
            raise DataError(f"the {name} {values[name]!r} is none of {', '.join(allowed)}")
    for name in ("groups", "skills"):
        if name in values:
            words = [values[name]] if isinstance(values[name], str) else values[name]
            kept = dict.fromkeys(str(word).strip() for word in words)
            if any(not word or len(word) > 60 for word in kept):
                raise DataError(f"{name} are words of 1 to 60 characters")
            values[name] = [*kept]
    pay = values.get("pay")
    if pay is not None and not (isinstance(pay, int | float) and math.isfinite(pay) and pay >= 0):
        raise DataError(f"pay is an amount for an hour, at least 0, not {pay!r}")
    return values


def person_of_row(row: Row[Any]) -> Person:
    """A row of the table `people`."""
    # pay is kept as a float whatever was given: PostgreSQL says 12.0 where SQLite may say 12
    pay = None if row.pay is None else float(row.pay)
    groups, skills = tuple(row.groups), tuple(row.skills)
    return Person(row.person_id, row.login, row.pseudonym, row.role, row.state, groups, skills, pay)
