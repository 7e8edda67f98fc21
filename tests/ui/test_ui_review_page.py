"""The review page: who may call its events, and that what it shows and does is what the service says and does."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import PASSWORD, person, project, service, submit
from sqlalchemy import select, update

from prefdata.report import markup
from prefdata.ui.accounts.people import Person
from prefdata.ui.accounts.sessions import COOKIE
from prefdata.ui.pages.lock import Locked, number, whole
from prefdata.ui.pages.review_task import after, described
from prefdata.ui.quality.adjudication import Answered, Disagreement, place_of
from prefdata.ui.service import Service
from prefdata.ui.store.tables import flags, labels, questions, tasks
from prefdata.ui.work.project import Project

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from gradio.helpers import special_args

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def asking(made: Service, who: Person | None) -> Any:
    """A request of somebody who is signed in, as Gradio passes it on."""
    if who is None:
        return SimpleNamespace(headers={})
    assert who.login is not None
    return SimpleNamespace(headers={"Cookie": f"{COOKIE}={made.people.sign_in(who.login, PASSWORD, 'test')}"})


class Page:
    """The page, whose events are called as Gradio calls them."""

    def __init__(self, made: Service) -> None:
        from prefdata.ui.pages.review import build

        self.made, self.blocks = made, build(made)
        self.events = list(self.blocks.fns.values())

    def event(self, name: str, trigger: str | None = None) -> Any:
        """The one event whose handler has this name."""
        found = [one for one in self.events if one.fn.__name__ == name]
        assert found, f"no event {name}"
        return found[0]

    def call(self, name: str, who: Person | None, *given: Any, sent: Any = None) -> Any:
        """What a handler returns: by the component's label or elem_id where it returns some fields by name."""
        request = asking(self.made, who)
        first = [request, SimpleNamespace(_data=sent)] if sent is not None else [request]
        return self.event(name).fn(*first, *given)

    def shown(self, values: Any) -> str:
        """The markup and texts that a handler sets, as one text; what Gradio's own fields hold is no markup."""
        parts = values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else [values]
        return "\n".join(part.value if isinstance(part, gr.HTML) else part for part in parts if _is_text(part))


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, gr.HTML) and isinstance(part.value, str))


@pytest.fixture
def made(tmp_path: Path) -> Service:
    return service(tmp_path / "data", prompts=3)


@pytest.fixture
def people(made: Service) -> dict[str, Person]:
    found = {name: person(made, role) for name, role in (("admin", "admin"), ("rev", "reviewer"))}
    return {**found, **{name: person(made) for name in ("a", "b", "c")}}


def disputed(made: Service, people: dict[str, Person], **fields: Any) -> int:
    """A project in which a and b disagree on the first task and agree on the second."""
    held = project(made, people["a"], people["b"], people["rev"], overlap=3, order="fixed", **fields)
    for name, choices in (("a", (-2, 1)), ("b", (2, 1))):
        for place, choice in enumerate(choices):
            task = made.next(people[name], held)["task"]
            said = {"choice": choice, "rationale": f"{HOSTILE} says {name}"}
            submit(made, people[name], task, f"{name}{place}", said)
    return held


# The lock


def test_every_event_refuses_annotators_and_strangers(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page = Page(made)
    assert len(page.events) > 20
    for who in (people["a"], None):
        request = asking(made, who)
        for event in page.events:
            given = [SimpleNamespace(_data={})] if event.fn.__name__ == "decide" else []
            with pytest.raises(gr.Error, match=r"reviewer|admin|sign in"):
                event.fn(request, *given, *["p"] * len(event.inputs))


def test_no_event_has_a_public_name(made: Service) -> None:
    for event in Page(made).events:
        assert event.api_visibility == "private"
        assert event.preprocess is False


def test_what_admins_do_is_refused_to_reviewers(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page = Page(made)
    version = made.projects.get("p").guideline
    for name in ("count", "again"):
        with pytest.raises(gr.Error, match="admin"):
            page.call(name, people["rev"], "p", version, "", *(["again"] if name == "again" else []))
    assert "4 labels" in page.call("count", people["admin"], "p", version, "")


def test_a_role_that_was_taken_away_holds_no_longer(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page, request = Page(made), asking(made, people["rev"])
    load = page.event("load").fn
    load(request, None, "0")
    made.people.set(people["rev"].person_id, role="annotator")
    with pytest.raises(gr.Error, match="reviewer"):
        load(request, None, "0")


def test_sentences_of_errors_are_no_markup(made: Service, people: dict[str, Person]) -> None:
    with pytest.raises(gr.Error) as error:
        Page(made).call("show_tab", people["rev"], HOSTILE, "0")
    assert "<" not in str(error.value)


def test_values_of_other_kinds_are_sentences_too(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page, request = Page(made), asking(made, people["admin"])
    for event in page.events:
        if event.fn.__name__ in ("load", "decide", "open_tab"):
            continue
        for value in (None, {"a": 1}, [1], True, -1, "x" * 10_000):
            with pytest.raises(gr.Error):
                event.fn(request, *[value] * len(event.inputs))
            with contextlib.suppress(gr.Error):
                event.fn(request, "p", *[value] * (len(event.inputs) - 1))
    for sent in (None, [], {}, {"answer": 3}, {"answer": {"choice": 1}, "task": "x"}, {"task": 10**9, "answer": {}}):
        with pytest.raises(gr.Error):
            page.event("decide").fn(asking(made, people["rev"]), SimpleNamespace(_data=sent), "p")


def test_events_want_the_request_and_what_was_sent() -> None:
    lock = Locked(SimpleNamespace(allowed=lambda request, role: (request, role)))  # type: ignore[arg-type]
    plain = lock.locked(lambda who, value: (who, value), role="admin")
    request = gr.Request()
    assert plain(*special_args(plain, ["v"], request)[0]) == ((request, "admin"), "v")
    sent = lock.locked(lambda who, data, value: (data, value), sent=True)
    event = gr.EventData(None, {"task": 1})
    assert sent(*special_args(sent, ["v"], request, event)[0]) == ({"task": 1}, "v")


def test_numbers_from_the_browser() -> None:
    assert number(2, "n", 1, 3) == 2
    assert whole(4.0, "one") == 4
    for wrong in (None, "2", True, 0, 4, float("nan"), [1]):
        with pytest.raises(Exception, match="n is a number from 1 to 3"):
            number(wrong, "n", 1, 3)
    for wrong in (None, "2", True, 1.5, [1]):
        with pytest.raises(Exception, match="choose one first"):
            whole(wrong, "one")


# Numbers


def test_an_empty_application_says_what_to_do(made: Service, people: dict[str, Person]) -> None:
    page = Page(made)
    assert "There is no project yet" in page.shown(page.call("load", people["rev"], None, "0"))
    project(made)
    for tab in "012345":
        assert page.call("load", people["rev"], None, tab)


def test_the_numbers_are_those_of_quality_after_a_pull(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page = Page(made)
    assert made.pull.waiting() == 4
    shown = page.shown(page.call("load", people["rev"], None, "0"))
    assert made.pull.waiting() == 0
    (entry,) = made.quality.agreement("p").alpha
    assert markup.text(f"{entry['alpha']:.2f}".replace("-", "−")) in shown
    assert "2 people on 2 pairs" in shown
    assert "When may we stop" in shown


def test_nothing_is_computed_twice_for_one_commit(
    made: Service, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefdata.ui.quality import live as quality

    disputed(made, people)
    page, count = Page(made), []
    real = quality.alpha
    monkeypatch.setattr(quality, "alpha", lambda *given: count.append(1) or real(*given))
    for _ in range(3):
        page.call("show_tab", people["rev"], "p", "0")
    assert len(count) == 1
    task = made.next(people["a"], made.projects.get("p").id)["task"]
    submit(made, people["a"], task, "new", {"choice": 1})
    page.call("show_tab", people["rev"], "p", "0")
    assert len(count) == 2


def test_the_aim_is_kept_for_everybody(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    page = Page(made)
    assert "± 0.2<" in page.call("aim", people["rev"], "p", "", 0.2)
    assert "± 0.1<" in page.call("aim", people["admin"], "p", "overall", 0.1)
    again = Page(made)
    shown = again.shown(again.call("load", people["admin"], None, "0"))
    assert "± 0.1<" in shown


def test_people_and_what_they_skipped(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people)
    task = made.next(people["a"], held)["task"]
    made.labels.skip(people["a"], task["id"], "s", HOSTILE, 1.0)
    shown = Page(made).shown(Page(made).call("show_tab", people["rev"], "p", "1"))
    assert people["a"].pseudonym in shown
    assert "human:" not in shown
    assert "&lt;script&gt;" in shown and "<script" not in shown
    assert "No AI judge" in shown


def test_versions_of_the_guidelines_and_asking_anew(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people)
    old = made.projects.get(held).guideline
    new = made.projects.change_guidelines(None, held, text=f"New. {HOSTILE}")
    page = Page(made)
    shown = page.shown(page.call("show_tab", people["admin"], "p", "5"))
    assert old in shown and new in shown and "holds now" in shown
    assert "<script" not in shown and "<img" not in shown
    said, table = page.call("again", people["admin"], "p", old, people["a"].person_id, "again")
    assert "2 labels were taken back, and 2 places are open again" in said
    made.pull()
    assert made.dataset.annotations.collect().height == 2
    assert old in table


# Disagreements


def _of(held: int) -> Any:
    return select(labels).where(labels.c.project_id == held).order_by(labels.c.label_id)


def test_a_verdict_by_the_page(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people, rationale="optional")
    page = Page(made)
    shown = page.shown(page.call("show_tab", people["rev"], "p", "2"))
    assert "1 task on which people differ, 0 of them decided" in shown
    value = next(one for one in page.call("show_tab", people["rev"], "p", "2").values() if isinstance(one, dict))
    task = value["task"]["id"]
    assert [one["lines"] for one in value["said"]] == [["A clearly better"], ["B clearly better"]]
    assert value["said"][0]["why"].startswith(HOSTILE)  # review.js sets it as text
    assert value["refusal"] is None
    assert "model-" not in json.dumps(value)
    sent = {"task": task, "key": "k", "answer": {"choice": 3}, "seconds": 4.0}
    told, _, again = page.call("decide", people["rev"], "p", sent=sent)
    assert "Your verdict is kept" in told and "All of them are decided" in told
    assert again["task"]["answer"] == {"choice": 3} and again["verdicts"][0]["lines"] == ["B much better"]
    told, _, again = page.call("decide", people["rev"], "p", sent={**sent, "key": "l", "answer": {"choice": 0}})
    assert "corrected" in told and again["task"]["revision"] == 2
    with made.store.read() as db:
        kinds = [(row.kind, row.revision) for row in db.execute(_of(held))]
    assert kinds == [("label", 1)] * 4 + [("adjudication", 1), ("adjudication", 2)]


def test_reviewers_do_not_decide_about_themselves(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people)
    task = made.next(people["rev"], held)["task"]
    submit(made, people["rev"], task, "own", {"choice": 1})
    page = Page(made)
    value = page.call("look", people["rev"], "p", task["id"])
    assert "labelled this task yourself" in value["refusal"]
    sent = {"task": task["id"], "key": "k", "answer": {"choice": 3}, "seconds": 4.0}
    with pytest.raises(gr.Error, match="yourself"):
        page.call("decide", people["rev"], "p", sent=sent)
    assert page.call("look", people["admin"], "p", task["id"])["refusal"] is None


def test_tasks_of_other_projects_cannot_be_decided_here(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    project(made, name="other")
    with made.store.read() as db:
        task = db.execute(select(labels.c.task_id).order_by(labels.c.label_id)).scalar()
    with pytest.raises(gr.Error, match="no longer differ"):
        sent = {"task": task, "key": "k", "answer": {"choice": 3}, "seconds": 4.0}
        Page(made).call("decide", people["rev"], "other", sent=sent)


def test_more_labels_by_the_page(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people)
    page = Page(made)
    assert "1 task went back to the queue for 2 labels more" in page.call("more_of_all", people["rev"], "p", 2, 0.3)
    assert "for one person alone: 1." in page.call("more_of_all", people["rev"], "p", 2, 0.3)
    assert "0 tasks" in page.call("more_of_all", people["rev"], "p", 2, 0.5)
    with made.store.read() as db:
        wanted = list(db.execute(select(tasks.c.wanted).where(tasks.c.project_id == held)).scalars())
    assert sorted(wanted) == [3, 3, 5]


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0]), st.booleans()), max_size=8))
def test_next_goes_through_all_that_nobody_has_decided(made_of: list[tuple[float, bool]]) -> None:
    verdict = (Answered("r", {}, "g", 1.0, 0.0, 1),)
    found = [
        Disagreement(number, "p", value, (), verdict if decided else (), None)
        for number, (value, decided) in enumerate(made_of)
    ]
    found.sort(key=place_of)
    undecided = [one.task_id for one in found if not one.verdicts]
    seen, at = [], after(found, None)
    while at is not None and at not in seen:
        seen.append(at)
        at = after(found, at)
    assert seen == undecided
    assert at == (undecided[0] if len(undecided) > 1 else None)


@pytest.mark.parametrize(
    ("protocol", "answer", "lines"),
    [
        ("compare", {"choice": -3}, ["A much better"]),
        ("compare", {"choice": "both_bad"}, ["both bad"]),
        ("compare", {"choice": 0}, ["tie"]),
        ("rank", {"ranks": [2, 1, 2, None]}, ["B > A = C > the rest (D)"]),
        ("rate", {"scores": {"help": [1.0, 2.5]}}, ["help: A\N{NO-BREAK SPACE}1, B\N{NO-BREAK SPACE}2.5"]),
        ("best", {"best": [0, 2]}, ["A, C"]),
        ("best", {"best": []}, ["none of them"]),
        ("thumbs", {"thumbs": [1, 0]}, ["A up, B down"]),
        ("first_error", {"step": None}, ["no step is wrong"]),
        ("first_error", {"step": 0}, ["step 1 is wrong"]),
        ("spans", {"spans": []}, ["nothing marked"]),
        ("spans", {"spans": [{"target": 1, "start": 4, "end": 7, "label": "wrong"}]}, ["B: “two” wrong"]),
        ("edit", {"target": 1, "text": "x"}, ["made B better"]),
    ],
)
def test_answers_in_words(protocol: Any, answer: dict[str, Any], lines: list[str]) -> None:
    assert described(answer, Project(name="p", protocol=protocol), ["one", "one two"]) == lines


# Questions and reports


def test_questions_are_answered_for_everybody(made: Service, people: dict[str, Person]) -> None:
    held = disputed(made, people)
    task = made.next(people["a"], held)["task"]["id"]
    made.labels.ask(people["a"], task, f"What if? {HOSTILE}")
    page = Page(made)
    shown = page.shown(page.call("show_tab", people["rev"], "p", "3"))
    assert "What if?" in shown and "not answered yet" in shown and "<script" not in shown
    with made.store.read() as db:
        number = db.execute(select(questions.c.question_id)).scalar()
    value, text = page.call("look_at_question", people["rev"], "p", number)
    assert (value["task"]["id"], text) == (task, "")
    after_it = page.shown(page.call("answer", people["rev"], "p", number, f"Then *that*. {HOSTILE}"))
    assert "<em>that</em>" in after_it and "<script" not in after_it and "All questions are answered" in after_it
    (asked,) = made.questions(people["b"], held)["questions"]
    assert asked["answer_html"] is not None
    assert made.next(people["a"], held)["task"]["id"] == task


def reported(made: Service, people: dict[str, Person]) -> tuple[int, int, str]:
    held = disputed(made, people)
    task = made.next(people["a"], held)["task"]
    made.labels.flag(people["a"], task["id"], f"cut off {HOSTILE}")
    with made.store.read() as db:
        flag = db.execute(select(flags)).one()
    return task["id"], flag.flag_id, flag.prompt_id


def test_a_bad_prompt_leaves_queue_and_dataset(made: Service, people: dict[str, Person]) -> None:
    _, flag, prompt = reported(made, people)
    page = Page(made)
    shown = page.shown(page.call("show_tab", people["rev"], "p", "4"))
    assert "cut off" in shown and "<script" not in shown
    told = page.shown(page.call("uphold", people["rev"], "p", flag))
    assert "out of the dataset" in told
    assert prompt not in made.dataset.prompts.collect()["prompt_id"].to_list()
    (row,) = made.dataset.drops.collect().to_dicts()
    assert row["reason"].startswith("reported as bad: cut off")
    with made.store.read() as db:
        assert db.execute(select(flags.c.state)).scalar() == "upheld"
        assert "withdrawn" in db.execute(select(tasks.c.state)).scalars().all()
    for again in ("uphold", "refuse"):  # somebody else has decided meanwhile
        with pytest.raises(gr.Error, match="decided meanwhile"):
            page.call(again, people["rev"], "p", flag)


def test_a_good_prompt_goes_back_to_the_queue(made: Service, people: dict[str, Person]) -> None:
    _, flag, prompt = reported(made, people)
    told = Page(made).shown(Page(made).call("refuse", people["rev"], "p", flag))
    assert "back in the queue" in told
    assert prompt in made.dataset.prompts.collect()["prompt_id"].to_list()
    with made.store.read() as db:
        assert set(db.execute(select(tasks.c.state)).scalars()) == {"open"}
    assert made.next(people["c"], made.projects.get("p").id)["state"] in ("task", "acknowledge")


def test_a_locked_dataset_leaves_the_report_open(
    made: Service, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefdata.errors import DataError

    def locked(*given: Any, **named: Any) -> int:
        raise DataError("somebody else is writing")

    _, flag, _ = reported(made, people)
    page = Page(made)
    monkeypatch.setattr(made.dataset, "drop", locked)
    with pytest.raises(gr.Error, match="somebody else is writing"):
        page.call("uphold", people["rev"], "p", flag)
    with made.store.read() as db:
        assert db.execute(select(flags.c.state)).scalar() == "open"


def test_texts_that_were_erased_do_not_stop_the_page(made: Service, people: dict[str, Person]) -> None:
    disputed(made, people)
    with made.store.write() as db:
        db.execute(update(tasks).values(prompt_id="0" * 32, target_ids=["1" * 32, "2" * 32]))
    page = Page(made)
    for tab in "2345":
        page.call("load", people["admin"], "p", tab)
