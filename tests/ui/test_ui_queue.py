"""No task gets more labels than it should, nothing acknowledged is lost, no lease is stuck: whatever people do."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from labelled import answer, person, project, service, submit
from sqlalchemy import func, select

from prefdata.ui.answers.labels import GoneError
from prefdata.ui.store.tables import labels, tasks, work

pytestmark = pytest.mark.slow

PEOPLE, PROMPTS, OVERLAP = 4, 3, 2


class Work(RuleBasedStateMachine):
    """Four people, three tasks, two labels each; a clock that jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.service = service(Path(self.folder.name), PROMPTS)
        self.now = 1_000_000.0
        self.service.queue.clock = self.service.labels.clock = lambda: self.now
        self.people = [person(self.service) for _ in range(PEOPLE)]
        self.project = project(self.service, *self.people, overlap=OVERLAP, lease=10)
        self.open: dict[int, dict[str, Any]] = {}
        self.seen: dict[int, list[dict[str, Any]]] = {n: [] for n in range(PEOPLE)}
        self.said: dict[tuple[int, int], dict[str, Any]] = {}
        self.keys = 0

    def teardown(self) -> None:
        self.service.close()
        self.folder.cleanup()

    @rule(n=st.integers(0, PEOPLE - 1))
    def ask_for_a_task(self, n: int) -> None:
        turn = self.service.next(self.people[n], self.project)
        if turn["state"] == "task":
            self.open[n] = turn["task"]
            self.seen[n].append(turn["task"])

    @rule(n=st.integers(0, PEOPLE - 1), choice=st.integers(0, 3), again=st.booleans())
    def submit_something_seen(self, n: int, choice: int, again: bool) -> None:
        if not self.seen[n]:
            return
        task = self.seen[n][choice % len(self.seen[n])] if again else self.seen[n][-1]
        self.keys += 1
        said = answer(task, choice)
        try:
            first = submit(self.service, self.people[n], task, f"k{self.keys}", said)
        except GoneError:
            return
        assert submit(self.service, self.people[n], task, f"k{self.keys}", said) == {**first, "feedback": None}
        self.said[task["id"], n] = said

    @rule(n=st.integers(0, PEOPLE - 1))
    def skip(self, n: int) -> None:
        if self.seen[n]:
            self.keys += 1
            task = self.seen[n][-1]
            self.service.labels.skip(self.people[n], task["id"], f"k{self.keys}", "unclear", 1.0)
            self.said[task["id"], n] = {"reason": "unclear"}

    @rule(n=st.integers(0, PEOPLE - 1))
    def release(self, n: int) -> None:
        if self.seen[n]:
            self.service.queue.release(self.people[n], self.seen[n][-1]["id"])

    @rule(minutes=st.sampled_from([1, 11]))
    def time_passes(self, minutes: int) -> None:
        self.now += 60 * minutes

    @invariant()
    def overlap_is_kept(self) -> None:
        with self.service.store.read() as db:
            busy = work.c.state.in_(["leased", "done"])
            for task in db.execute(select(tasks)).all():
                taken = db.execute(select(func.count()).where(work.c.task_id == task.task_id, busy)).scalar_one()
                assert task.free == task.wanted - taken
                assert 0 <= taken <= OVERLAP

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        with self.service.store.read() as db:
            for (task, n), said in self.said.items():
                own = (labels.c.task_id == task) & (labels.c.person_id == self.people[n].person_id)
                last = db.execute(select(labels).where(own).order_by(labels.c.revision.desc())).first()
                assert last is not None
                if "reason" in said:
                    assert last.answer == said
                else:
                    sign = -1 if last.shown == [1, 0] and isinstance(said["choice"], int) else 1
                    assert last.answer["choice"] == (said["choice"] * sign if sign < 0 else said["choice"])

    @precondition(lambda self: self.keys)
    @rule()
    def everything_can_be_finished(self) -> None:
        """When everybody has gone home, other people can do all that is left: no lease is stuck."""
        self.now += 60 * 11
        others = [person(self.service) for _ in range(OVERLAP)]
        held = self.service.projects.get(self.project)
        for who in others:
            self.service.projects.acknowledge(who, held.id, held.guideline)
            while (turn := self.service.next(who, self.project))["state"] == "task":
                self.keys += 1
                submit(self.service, who, turn["task"], f"k{self.keys}")
        with self.service.store.read() as db:
            assert db.execute(select(func.sum(tasks.c.free))).scalar_one() == 0


Work.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestWork = Work.TestCase


@pytest.fixture
def made(tmp_path: Path) -> Any:
    with_people = service(tmp_path)
    yield with_people
    with_people.close()


def test_the_same_task_comes_back_after_a_reload(made: Any) -> None:
    who = person(made)
    at = project(made, who)
    first = made.next(who, at)["task"]
    again = made.next(who, at)["task"]
    assert (first["id"], first["targets"]) == (again["id"], again["targets"])


def test_guidelines_are_read_first_and_again_when_they_change(made: Any) -> None:
    who = person(made)
    at = project(made)
    assert made.next(who, at)["guideline"]["previous"] is False
    made.projects.acknowledge(who, at, made.projects.get(at).guideline)
    task = made.next(who, at)["task"]
    new = made.projects.change_guidelines(None, at, text="Be kind.")
    # What was begun under the old ones still counts, and says so.
    assert submit(made, who, task, "k1")["revision"] == 1
    changed = made.next(who, at)
    assert changed["state"] == "acknowledge" and changed["guideline"]["previous"]
    assert "Be kind." in changed["guideline"]["html"] and changed["guideline"]["label"] == new != task["guideline"]
    with made.store.read() as db:
        assert db.execute(select(labels.c.guideline)).scalars().all() == [task["guideline"]]


def test_nobody_gets_what_is_for_others(made: Any) -> None:
    german, other = person(made, skills=["de"]), person(made)
    at = project(made, german, other, skills=["de"], overlap=1)
    assert made.next(other, at)["state"] == "empty"
    assert made.next(german, at)["state"] == "task"


def test_a_tag_asks_for_a_language(tmp_path: Path) -> None:
    made = service(tmp_path, tags=["language:de"])
    german, other = person(made, skills=["de"]), person(made)
    at = project(made, german, other, require="language")
    assert made.next(other, at)["state"] == "empty"
    assert made.next(german, at)["state"] == "task"


def test_split_gives_each_task_to_one(made: Any) -> None:
    who = [person(made) for _ in range(3)]
    at = project(made, *who, split=True)
    mine = [made.next(one, at)["task"]["id"] for one in who]
    assert len(set(mine)) == 3
    for one in who:
        task = made.next(one, at)["task"]
        submit(made, one, task, f"k{one.person_id}")
        assert made.next(one, at)["state"] == "empty"


def test_quotas(made: Any) -> None:
    who = person(made)
    at = project(made, who, quota=1)
    submit(made, who, made.next(who, at)["task"], "k1")
    assert made.next(who, at)["state"] == "quota"


def test_paused_people_get_nothing(made: Any) -> None:
    who = person(made)
    at = project(made, who)
    made.people.set(who.person_id, state="paused")
    assert made.next(made.people.get(who.person_id), at)["state"] == "paused"


def test_a_flagged_prompt_is_taken_from_everybody_until_it_is_decided(made: Any) -> None:
    first, second, lead = person(made), person(made), person(made, "reviewer")
    at = project(made, first, second, overlap=2)
    mine, theirs = made.next(first, at)["task"], made.next(second, at)["task"]
    assert mine["id"] == theirs["id"]
    made.labels.flag(first, mine["id"], "an advertisement")
    with pytest.raises(GoneError, match="taken away"):
        submit(made, second, theirs, "k1")
    (report,) = made.labels.flags(lead)
    made.labels.decide_flag(lead, report.flag_id, bad=False)
    assert submit(made, second, theirs, "k1")["revision"] == 1


def test_a_question_is_answered_for_all_and_the_task_comes_back(made: Any) -> None:
    who, other, lead = person(made), person(made), person(made, "reviewer")
    at = project(made, who, other)
    task = made.next(who, at)["task"]
    made.labels.ask(who, task["id"], "What is *meant*?")
    assert made.next(who, at)["task"]["id"] != task["id"]
    assert made.questions(other, at)["questions"] == []
    (question,) = made.labels.questions(lead, at)
    made.labels.answer(lead, question.question_id, "Both readings count.")
    (seen,) = made.questions(other, at)["questions"]
    assert "<em>meant</em>" in seen["text_html"] and "Both readings" in seen["answer_html"] and not seen["mine"]


def test_the_order_differs_between_people_and_is_recorded(tmp_path: Path) -> None:
    made = service(tmp_path, prompts=8, responses=4)
    who = [person(made) for _ in range(2)]
    at = project(made, *who, protocol="rank", overlap=2)
    orders: list[list[list[str]]] = []
    for one in who:
        mine = []
        while (turn := made.next(one, at))["state"] == "task":
            mine.append([target["plain"] for target in turn["task"]["targets"]])
            submit(made, one, turn["task"], f"{turn['task']['id']}")
        orders.append(mine)
    assert len(orders[0]) == 8 and orders[0] != orders[1]
    assert [sorted(one) for one in orders[0]] == [sorted(one) for one in orders[1]]


def test_who_has_decided_a_task_is_not_asked_to_label_it(made: Any) -> None:
    first, second, lead = person(made), person(made), person(made, "reviewer")
    at = project(made, first, second, lead, overlap=3, order="fixed")
    task = made.next(first, at)["task"]
    submit(made, first, task, "k1", {"choice": -1})
    submit(made, second, made.next(second, at)["task"], "k1", {"choice": 1})
    made.labels.adjudicate(lead, task["id"], "k1", {"choice": -1}, 3.0)
    assert made.next(lead, at)["task"]["id"] != task["id"]
