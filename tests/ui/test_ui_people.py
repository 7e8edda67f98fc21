"""Accounts: links work once, wrong passwords are slowed, sessions end, an admin always remains."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from prefdata.errors import DataError
from prefdata.ui.accounts import documents
from prefdata.ui.accounts import sessions as signed
from prefdata.ui.accounts.people import NotAllowed, People, Person, SignInError, normalised
from prefdata.ui.store import Store
from prefdata.ui.store.tables import invitations, people, sessions, throttle

WORD = "a quiet afternoon"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.9"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'labels.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture
def accounts(store: Store, clock: Clock) -> People:
    # The weakest argon2 there is: these tests are about everything around it.
    return People(store, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1), clock=clock)


def member(accounts: People, login: str = "Zoë", role: str = "annotator") -> Person:
    person = accounts.add(role=role)
    return accounts.accept(accounts.invite(person.person_id), login, WORD)


def test_pseudonyms_are_neutral_and_unique(accounts: People) -> None:
    assert [accounts.add().pseudonym for _ in range(3)] == ["ann-01", "ann-02", "ann-03"]
    assert accounts.add("ANN-04").pseudonym == "ANN-04"
    assert accounts.add(role="admin").pseudonym == "ann-05"
    for taken in ("ann-01", "Ann-01", "ann-04"):
        with pytest.raises(DataError, match="is taken"):
            accounts.add(taken)
    for wrong in ("", "-a", "a b", "ä", "a" * 61, "a\n", "../x"):
        with pytest.raises(DataError, match="pseudonym"):
            accounts.add(wrong)


def test_the_store_holds_no_secret(accounts: People, store: Store) -> None:
    person = accounts.add()
    link = accounts.invite(person.person_id)
    accounts.accept(link, "zoë", WORD)
    cookie = accounts.sign_in("zoë", WORD, HOME)
    with store.read() as db:
        held = repr([db.execute(select(table)).all() for table in (people, invitations, sessions, throttle)])
    for secret in (link, cookie, WORD, HOME):
        assert secret not in held
    assert "$argon2id$" in held


def test_an_invitation_works_once_and_expires(accounts: People, clock: Clock) -> None:
    person = accounts.add()
    first = accounts.invite(person.person_id, days=1)
    second = accounts.invite(person.person_id, days=1)
    with pytest.raises(SignInError, match="replaced by a newer"):
        accounts.accept(first, "zoë", WORD)
    assert accounts.invited(second) == person  # looking at the page does not use the link up
    assert accounts.accept(second, "zoë", WORD).login == "zoë"
    with pytest.raises(SignInError):
        accounts.accept(second, "zoë", WORD)
    late = accounts.invite(accounts.add().person_id, days=1)
    clock.now += 86401
    assert accounts.invited(late) is None
    with pytest.raises(SignInError):
        accounts.accept(late, "max", WORD)
    for nonsense in ("", "x", "é" * 50, late[:-1], "\udc80"):
        with pytest.raises(SignInError):
            accounts.accept(nonsense, "max", WORD)


def test_a_refused_name_or_password_leaves_the_link_usable(accounts: People) -> None:
    member(accounts, "zoë")
    link = accounts.invite(accounts.add().person_id)
    with pytest.raises(DataError, match="is taken"):
        accounts.accept(link, "ZOË", WORD)
    for word in ("short", "x" * 201, "a" * 12):
        with pytest.raises(DataError, match="password"):
            accounts.accept(link, "max", word)
    for name in ("", "  ", "a b", "a\x00b", "x" * 121):
        with pytest.raises(DataError, match="sign-in name"):
            accounts.accept(link, name, WORD)
    with pytest.raises(DataError, match="guessed"):
        accounts.accept(link, "Max.Mustermann", "max.mustermann")
    assert accounts.accept(link, "max", WORD).login == "max"


def test_of_two_who_accept_at_once_one_wins(accounts: People) -> None:
    link = accounts.invite(accounts.add().person_id)
    gate, outcome = threading.Barrier(8), []

    def accept(n: int) -> None:
        gate.wait()
        try:
            outcome.append(accounts.accept(link, f"taker{n}", WORD).login)
        except SignInError:
            outcome.append(None)

    threads = [threading.Thread(target=accept, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [login for login in outcome if login is not None]
    assert [person.login for person in accounts.list()] == [winner]
    assert accounts.sign_in(winner, WORD, HOME)


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(login: str) -> None:
    once = normalised(login)
    assert normalised(once) == once


def test_a_login_is_found_in_every_spelling(accounts: People) -> None:
    person = member(accounts, "Zoë")
    for spelling in ("zoë", "ZOË", " zoe\u0308 ", "Ｚｏｅ\u0308"):
        assert accounts.person_of(accounts.sign_in(spelling, WORD, HOME)) == person
    assert accounts.person_of(accounts.sign_in("zoë", WORD, HOME)) == person
    with pytest.raises(SignInError):
        accounts.sign_in("zoe", WORD, HOME)


def test_a_password_is_the_same_however_its_accents_are_typed(accounts: People) -> None:
    accounts.accept(accounts.invite(accounts.add().person_id), "zoë", "cafe\u0301 au lait")
    assert accounts.sign_in("zoë", "caf\u00e9 au lait", HOME)


def test_unknown_logins_cost_the_same(store: Store, clock: Clock) -> None:
    asked: list[str] = []

    class Counting:
        def __init__(self) -> None:
            self.real = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

        def hash(self, password: str) -> str:
            return self.real.hash(password)

        def verify(self, hash: str, password: str) -> bool:
            asked.append(hash.rsplit("$", 2)[0])  # the settings, which decide the cost
            return self.real.verify(hash, password)

        def check_needs_rehash(self, hash: str) -> bool:
            return self.real.check_needs_rehash(hash)

    accounts = People(store, hasher=Counting(), clock=clock)
    person = member(accounts)
    said = set()
    for login, word in (("zoë", "wrong word"), ("nobody", WORD), ("x" * 500, WORD), ("a\x00\udc80", WORD)):
        with pytest.raises(SignInError) as error:
            accounts.sign_in(login, word, HOME)
        said.add((str(error.value), error.value.wait))
    assert len(said) == 1  # nor do the words tell who is there
    assert len(asked) == 4 and len(set(asked)) == 1
    accounts.reset(person.person_id)
    with pytest.raises(SignInError) as error:
        accounts.sign_in("zoë", WORD, ELSEWHERE)
    assert (str(error.value), error.value.wait) in said


def test_the_delays_by_hand() -> None:
    assert [signed.delay(n) for n in range(1, 15)] == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900]
    assert signed.delay(10**6) == 900
    assert [signed.waiting(s) for s in (0.2, 1.5, 59.9, 91, 899)] == [
        "1 second",
        "2 seconds",
        "60 seconds",
        "2 minutes",
        "15 minutes",
    ]


def fail(accounts: People, login: str, address: str) -> SignInError:
    with pytest.raises(SignInError) as error:
        accounts.sign_in(login, "wrong word", address)
    return error.value


def test_wrong_passwords_are_slowed_by_login_and_stay_so_after_a_restart(
    accounts: People, store: Store, clock: Clock
) -> None:
    member(accounts)
    assert [fail(accounts, "zoë", f"192.0.2.{n}").wait for n in range(5)] == [0] * 5
    error = fail(accounts, "ZOË", ELSEWHERE)
    assert error.wait == 2 and "Try again in 2 seconds" in str(error)
    with pytest.raises(SignInError, match="Too many"):
        accounts.sign_in("zoë", WORD, ELSEWHERE)  # nor is the right one looked at
    again = People(store, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1), clock=clock)
    assert fail(again, "zoë", ELSEWHERE).wait == 2
    clock.now += 2.5
    assert fail(again, "zoë", ELSEWHERE).wait == 0
    assert fail(again, "zoë", ELSEWHERE).wait == 4
    clock.now += 4.5
    assert again.sign_in("zoë", WORD, ELSEWHERE)
    assert [fail(again, "zoë", ELSEWHERE).wait for _ in range(6)] == [0, 0, 0, 0, 0, 2]  # counted anew


def test_wrong_passwords_are_slowed_by_address(accounts: People, clock: Clock) -> None:
    member(accounts)
    for n in range(5):
        assert fail(accounts, f"guess{n}", "2001:db8::1").wait == 0
    assert fail(accounts, "guess9", "2001:db8::ffff").wait == 2  # the same household
    assert fail(accounts, "guess9", "2001:db8:0:1::1").wait == 0
    clock.now += 2.5
    assert accounts.sign_in("zoë", WORD, "2001:db8::2")
    assert fail(accounts, "guess10", "2001:db8::1").wait == 0
    assert fail(accounts, "guess11", "2001:db8::1").wait > 0  # signing in to one's own account erases nothing


def test_nobody_is_locked_out_by_others(accounts: People, clock: Clock) -> None:
    member(accounts)
    accounts.sign_in("zoë", WORD, HOME)
    longest = 0.0
    for n in range(60):
        error = fail(accounts, "zoë", f"198.51.100.{n}")
        longest = max(longest, error.wait)
        clock.now += error.wait and error.wait + 1
    fail(accounts, "zoë", "203.0.113.1")
    assert 500 < longest <= signed.WORST
    assert accounts.sign_in("zoë", WORD, HOME)  # where she has signed in before, she is not slowed by strangers
    with pytest.raises(SignInError, match="Too many"):
        accounts.sign_in("zoë", WORD, ELSEWHERE)
    clock.now += signed.WORST
    assert accounts.sign_in("zoë", WORD, ELSEWHERE)
    assert [fail(accounts, "zoë", HOME).wait for _ in range(6)][-1] == 2  # her own home is slowed all the same


def test_many_attempts_at_once_do_not_slip_through(accounts: People) -> None:
    member(accounts)
    gate, waits = threading.Barrier(16), []

    def guess(n: int) -> None:
        gate.wait()
        waits.append(fail(accounts, "zoë", f"192.0.2.{n}").wait)

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wait == 0 for wait in waits) == 5


def test_a_session_slides_and_ends(accounts: People, store: Store, clock: Clock) -> None:
    person = member(accounts)
    cookie = accounts.sign_in("zoë", WORD, HOME)

    def until() -> float:
        with store.read() as db:
            return float(db.execute(select(sessions.c.expires_at)).scalar_one())

    began, first = clock.now, until()
    assert first == began + 3 * 86400
    clock.now += 3000
    assert accounts.person_of(cookie) == person and until() == first  # within the hour: nothing is written
    clock.now += 700
    assert accounts.person_of(cookie) == person and until() == clock.now + 3 * 86400
    while clock.now < began + 12 * 86400:
        clock.now += 2 * 86400
        assert accounts.person_of(cookie) == person
    assert until() == began + 14 * 86400
    clock.now = began + 14 * 86400 - 1
    assert accounts.person_of(cookie) == person
    clock.now += 3  # what was looked up is believed for two seconds
    assert accounts.person_of(cookie) is None


def test_an_idle_session_is_over(accounts: People, clock: Clock) -> None:
    member(accounts)
    cookie = accounts.sign_in("zoë", WORD, HOME)
    clock.now += 3 * 86400
    assert accounts.person_of(cookie) is None
    assert accounts.person_of("") is None and accounts.person_of("made up") is None


def test_signing_out_stopping_and_resetting_end_sessions(accounts: People) -> None:
    person = member(accounts)
    one, two = (accounts.sign_in("zoë", WORD, HOME) for _ in range(2))
    assert accounts.person_of(one) and accounts.person_of(two)
    accounts.sign_out(one)
    assert accounts.person_of(one) is None and accounts.person_of(two)
    link = accounts.reset(person.person_id)
    assert accounts.person_of(two) is None
    with pytest.raises(SignInError):
        accounts.sign_in("zoë", WORD, HOME)
    with pytest.raises(DataError, match="stays zoë"):
        accounts.accept(link, "max", WORD)
    accounts.accept(link, "Zoë", "another afternoon")
    cookie = accounts.sign_in("zoë", "another afternoon", HOME)
    paused = accounts.set(person.person_id, state="paused")
    assert accounts.person_of(cookie) == paused  # may still see what was said, and gets no tasks
    pending = accounts.invite(person.person_id)
    accounts.set(person.person_id, state="stopped")
    assert accounts.person_of(cookie) is None and accounts.invited(pending) is None
    with pytest.raises(SignInError, match="stopped"):
        accounts.sign_in("zoë", "another afternoon", HOME)
    with pytest.raises(DataError, match="stopped"):
        accounts.invite(person.person_id)
    accounts.set(person.person_id, state="active")
    assert accounts.sign_in("zoë", "another afternoon", HOME)


def test_what_another_process_changes_holds_within_seconds(accounts: People, store: Store, clock: Clock) -> None:
    person = member(accounts)
    cookie = accounts.sign_in("zoë", WORD, HOME)
    assert accounts.person_of(cookie) == person
    People(store, clock=clock).reset(person.person_id)
    clock.now += 2.1
    assert accounts.person_of(cookie) is None


def test_an_admin_always_remains(accounts: People) -> None:
    first = accounts.first_admin()
    assert first is not None
    second = accounts.first_admin()
    assert second is not None and accounts.invited(first) is None and len(accounts.list()) == 1
    waiting = accounts.invited(second)
    assert waiting is not None and accounts.is_first(waiting)
    assert not accounts.is_first(accounts.get(accounts.add().person_id))  # no admin, so nobody's lead
    lead = accounts.accept(second, "lead", WORD)
    assert not accounts.is_first(lead)
    assert lead.role == "admin" and accounts.first_admin() is None
    other = accounts.add(role="admin")  # invited, but not there yet: does not count
    assert not accounts.is_first(other)
    for change in ({"role": "reviewer"}, {"state": "stopped"}):
        with pytest.raises(DataError, match="only admin"):
            accounts.set(lead.person_id, **change)  # type: ignore[arg-type]
    accounts.accept(accounts.invite(other.person_id), "second", WORD)
    assert accounts.set(lead.person_id, role="annotator").role == "annotator"
    with pytest.raises(DataError, match="only admin"):
        accounts.set(other.person_id, role="annotator")


def test_roles_and_values(accounts: People) -> None:
    annotator, reviewer = member(accounts), accounts.add(role="reviewer")
    assert not annotator.may("reviewer") and reviewer.may("annotator") and not reviewer.may("admin")
    with pytest.raises(NotAllowed):
        accounts.add(by=reviewer)
    with pytest.raises(NotAllowed):
        accounts.set(annotator.person_id, role="admin", by=annotator)
    changed = accounts.set(annotator.person_id, groups=["night", "night"], skills=["de"], pay=21)
    assert (changed.groups, changed.skills, changed.pay) == (("night",), ("de",), 21.0)
    assert accounts.set(annotator.person_id, state="paused").pay == 21.0
    assert accounts.set(annotator.person_id, pay=None).pay is None
    assert accounts.get(annotator.person_id) == accounts.named("ANN-01")
    bad: list[dict[str, object]] = [{"role": "root"}, {"state": "gone"}, {"pay": -1}, {"pay": float("nan")}]
    for wrong in [*bad, {"groups": [""]}, {"skills": ["x" * 61]}]:
        with pytest.raises(DataError):
            accounts.set(annotator.person_id, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no person"):
        accounts.invite(99)
    with pytest.raises(DataError, match="nobody called 'x'"):
        accounts.named("x")


def test_cookies() -> None:
    assert signed.cookie("abc", "", secure=False) == (
        "prefdata_session=abc; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax"
    )
    assert signed.cookie("", "/x", secure=True).startswith("prefdata_session=; Path=/x; Max-Age=0;")
    assert signed.cookie("abc", "/x", secure=True).endswith("; Secure")
    assert signed.secret_of({"cookie": "a=b; prefdata_session=xyz; c=d"}) == "xyz"
    for header in ({}, {"cookie": ""}, {"cookie": "prefdata_session="}, {"cookie": "xprefdata_session=1"}):
        assert signed.secret_of(header) is None


def test_the_first_admin_is_not_told_that_somebody_invited_them() -> None:
    told = documents.welcome("lead", lead=True)
    assert "You are the first here, so you are the lead. Choose a sign-in name and a password." in told
    assert "invited" not in told
    assert "You were invited to label" in documents.welcome("ann-07")
    assert "<b>" not in documents.welcome("<b>")
