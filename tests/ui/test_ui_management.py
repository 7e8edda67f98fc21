"""Labels that are taken back leave the dataset and nothing else; the places of a task always add up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from labelled import answer, person, project, service, submit
from sqlalchemy import func, select

from prefdata.errors import DataError
from prefdata.schema import canonical_json
from prefdata.ui.accounts.people import NotAllowed, Person
from prefdata.ui.answers.labels import GoneError
from prefdata.ui.service import Service
from prefdata.ui.store.tables import labels, tasks, work
from prefdata.ui.work import management

WORK = 4


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Service]:
    opened = service(tmp_path)
    yield opened
    opened.close()


def places_add_up(made: Service) -> None:
    """The law of the queue: free == wanted - (leased + done), for every task that is not gold."""
    taken = (
        select(func.count())
        .where(work.c.task_id == tasks.c.task_id, work.c.state.in_(["leased", "done"]))
        .scalar_subquery()
    )
    with made.store.read() as db:
        for row in db.execute(
            select(tasks.c.wanted, tasks.c.free, taken.label("taken")).where(tasks.c.state != "gold")
        ):
            assert row.free == row.wanted - row.taken
            assert row.free >= 0


def visible(made: Service) -> set[tuple[str, str]]:
    """(annotator, prompt) of every annotation that the dataset shows."""
    rows = made.dataset.view()["annotations"].select("annotator", "prompt_id").collect()
    return set(rows.iter_rows())


def label_all(made: Service, who: Person, held: int, most: int = 99) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    while len(done) < most and (turn := made.next(who, held))["state"] == "task":
        submit(made, who, turn["task"], f"{who.person_id}-{turn['task']['id']}-{turn['task']['revision']}")
        done.append(turn["task"])
    return done


def prompts_of(made: Service, given: list[dict[str, Any]]) -> set[str]:
    with made.store.read() as db:
        ids = [task["id"] for task in given]
        return set(db.execute(select(tasks.c.prompt_id).where(tasks.c.task_id.in_(ids))).scalars())


@pytest.mark.parametrize(("fate", "seen", "open_again"), [("keep", 6, 0), ("exclude", 3, 0), ("requeue", 3, 3)])
def test_stopping_somebody_does_to_their_labels_what_was_asked_and_to_no_others(
    made: Service, fate: str, seen: int, open_again: int
) -> None:
    lead, one, two, three = person(made, "admin"), person(made), person(made), person(made)
    held = project(made, one, two, three, overlap=2)
    label_all(made, one, held)
    label_all(made, two, held)
    made.pull()
    assert len(visible(made)) == 6
    taken = management.stop_person(made, lead, one.person_id, fate)
    assert taken == management.Taken(0 if fate == "keep" else 3, open_again)
    made.pull()
    assert len(visible(made)) == seen
    assert {name for name, _ in visible(made)} >= {f"human:{two.pseudonym}"}
    places_add_up(made)
    assert len(label_all(made, three, held)) == open_again
    assert made.people.get(one.person_id).state == "stopped"
    with made.store.read() as db:  # nothing that was said is gone
        assert db.execute(select(func.count()).where(labels.c.status == "ok")).scalar() == 6 + open_again


def test_a_lease_goes_to_others_at_once_when_somebody_is_stopped_or_paused(made: Service) -> None:
    lead, one, two = person(made, "admin"), person(made), person(made)
    held = project(made, one, two)
    first = made.next(one, held)["task"]["id"]
    assert management.pause_person(made, lead, one.person_id) == management.Taken(0, 1)
    assert made.next(two, held)["task"]["id"] == first
    places_add_up(made)
    assert made.next(made.people.get(one.person_id), held)["state"] == "paused"
    assert management.stop_person(made, lead, two.person_id) == management.Taken(0, 1)
    places_add_up(made)


def test_who_was_kept_can_be_excluded_and_then_requeued(made: Service) -> None:
    lead, one = person(made, "admin"), person(made)
    held = project(made, one)
    label_all(made, one, held)
    found = [management.stop_person(made, lead, one.person_id, fate) for fate in ("keep", "exclude", "requeue")]
    assert found == [management.Taken(0, 0), management.Taken(3, 0), management.Taken(0, 3)]
    assert management.stop_person(made, lead, one.person_id, "requeue") == management.Taken(0, 0)
    places_add_up(made)


def test_the_labels_under_an_old_version_can_be_done_again_by_the_same_people(made: Service) -> None:
    lead, one, two = person(made, "admin"), person(made), person(made)
    held = project(made, one, two, overlap=2)
    old = made.projects.get(held).guideline
    under_old = label_all(made, one, held, most=2)
    new = made.projects.change_guidelines(lead, held, text="Be stricter.\n")
    for who in (one, two):
        made.projects.acknowledge(who, held, new)
    label_all(made, two, held)
    made.pull()
    versions = management.overview(made, lead, held)
    assert [(one.label, one.holds, one.labels, one.people) for one in versions] == [
        (old, False, 2, (one.pseudonym,)),
        (new, True, 3, (two.pseudonym,)),
    ]
    assert [version.read_by for version in versions] == [tuple(sorted([one.pseudonym, two.pseudonym]))] * 2
    assert management.count(made, lead, held, guideline=old) == 2
    assert management.requeue(made, lead, held, guideline=old) == management.Taken(2, 2)
    made.pull()
    assert {name for name, _ in visible(made)} == {f"human:{two.pseudonym}"}
    places_add_up(made)
    again = label_all(made, one, held)
    assert len(again) == 3
    assert {task["id"] for task in under_old} <= {task["id"] for task in again}
    made.pull()
    assert len(visible(made)) == 6
    assert [one.labels for one in management.overview(made, lead, held)] == [0, 6]


def test_what_is_requeued_for_others_does_not_come_back_to_the_same_person(made: Service) -> None:
    lead, one, two = person(made, "admin"), person(made), person(made)
    held = project(made, one, two)
    done = label_all(made, one, held)
    made.pull()
    chosen = [task["id"] for task in done[:2]]
    assert management.requeue(made, lead, held, tasks=chosen) == management.Taken(2, 2)
    made.pull()
    assert {prompt for _, prompt in visible(made)} == prompts_of(made, done[2:])
    assert made.next(one, held)["state"] == "empty"
    with pytest.raises(GoneError):
        submit(made, one, done[0], "late")
    assert len(label_all(made, two, held)) == 2
    places_add_up(made)


def test_a_label_after_an_exclusion_shows_again(made: Service) -> None:
    lead, one = person(made, "admin"), person(made)
    held = project(made, one)
    done = label_all(made, one, held)
    made.pull()
    management.stop_person(made, lead, one.person_id, "exclude")
    made.pull()
    assert visible(made) == set()
    back = made.people.set(one.person_id, state="active")
    assert submit(made, back, done[0], "again", {"choice": 3})["revision"] == 3
    made.pull()
    assert {prompt for _, prompt in visible(made)} == prompts_of(made, done[:1])
    places_add_up(made)


def test_split_tasks_of_somebody_who_is_stopped_are_for_the_others(made: Service) -> None:
    lead, one, two = person(made, "admin"), person(made), person(made)
    held = project(made, one, two, split=True, people=(one.pseudonym, two.pseudonym))
    label_all(made, one, held, most=1)
    mine = len(label_all(made, two, held))
    assert mine < 3
    management.stop_person(made, lead, one.person_id, "requeue")
    assert mine + len(label_all(made, two, held)) == 3
    places_add_up(made)


def test_gold_adjudications_and_skips_stay_where_they_are_unless_somebody_is_excluded(
    made: Service, tmp_path: Path
) -> None:
    gold = tmp_path / "gold.jsonl"
    gold.write_text(canonical_json({"prompt": "which?", "responses": ["good", "bad"], "gold": {"choice": -1}}) + "\n")
    lead, one = person(made, "admin"), person(made, "reviewer")
    held = project(made, one, gold=str(gold), gold_share=0.9)
    done = label_all(made, one, held)
    assert len(done) == 4
    with made.store.read() as db:
        golden = db.execute(select(tasks.c.task_id).where(tasks.c.state == "gold")).scalar_one()
    skipped, judged, _ = [task for task in done if task["id"] != golden]
    made.labels.skip(one, skipped["id"], "skip", "unclear", 1.0)
    made.labels.adjudicate(one, judged["id"], "verdict", answer(judged), 1.0)
    assert management.count(made, lead, held, person_id=one.person_id) == 1
    assert management.requeue(made, lead, held, person_id=one.person_id) == management.Taken(1, 1)
    assert management.labels_of(made, lead, one.person_id) == 3
    assert management.stop_person(made, lead, one.person_id, "exclude").labels == 3
    made.pull()
    assert visible(made) == set()
    places_add_up(made)


def test_an_edited_response_goes_with_its_label_and_comes_back_with_it(made: Service) -> None:
    lead, one = person(made, "admin"), person(made)
    held = project(made, one, protocol="edit")
    label_all(made, one, held, most=1)
    made.pull()
    before = made.dataset.counts()["responses"]
    old = made.projects.get(held).guideline
    management.requeue(made, lead, held, guideline=old)
    made.pull()
    assert made.dataset.counts()["responses"] == before - 1
    assert visible(made) == set()


def test_refusals_are_sentences(made: Service) -> None:
    lead, one = person(made, "admin"), person(made, "reviewer")
    held = project(made, one)
    with pytest.raises(DataError, match="keep, exclude, requeue"):
        management.stop_person(made, lead, one.person_id, "burn")
    with pytest.raises(DataError, match="only admin"):
        management.stop_person(made, lead, lead.person_id)
    with pytest.raises(DataError, match="say which labels"):
        management.requeue(made, lead, held)
    with pytest.raises(DataError, match="no guidelines 'x@1'"):
        management.requeue(made, lead, held, guideline="x@1")
    with pytest.raises(DataError, match="no person number 99"):
        management.pause_person(made, lead, 99)
    assert made.people.get(one.person_id).state == "active"


def test_only_an_admin_may(made: Service) -> None:
    person(made, "admin")
    reviewer = person(made, "reviewer")
    held = project(made, reviewer)
    for refused in (
        lambda: management.stop_person(made, reviewer, reviewer.person_id),
        lambda: management.pause_person(made, reviewer, reviewer.person_id),
        lambda: management.requeue(made, reviewer, held, person_id=1),
        lambda: management.count(made, reviewer, held, person_id=1),
        lambda: management.labels_of(made, reviewer, 1),
        lambda: management.overview(made, reviewer, held),
    ):
        with pytest.raises(NotAllowed):
            refused()


class Taking(RuleBasedStateMachine):
    """People label while the lead takes back whatever they please: places add up, and the dataset shows what holds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.service = service(Path(self.folder.name), 3)
        self.people = [person(self.service) for _ in range(WORK)]
        self.lead = person(self.service, "admin")
        self.project = project(self.service, *self.people, overlap=2)
        self.old = self.service.projects.get(self.project).guideline
        self.keys = 0

    def teardown(self) -> None:
        self.service.close()
        self.folder.cleanup()

    @rule(n=st.integers(0, WORK - 1), finish=st.booleans())
    def work(self, n: int, finish: bool) -> None:
        who = self.service.people.get(self.people[n].person_id)
        turn = self.service.next(who, self.project)
        if turn["state"] == "task" and finish:
            self.keys += 1
            submit(self.service, who, turn["task"], f"k{self.keys}")

    @rule(n=st.integers(0, WORK - 1), again=st.booleans())
    def requeue(self, n: int, again: bool) -> None:
        management.requeue(self.service, self.lead, self.project, person_id=self.people[n].person_id, again=again)

    @rule()
    def requeue_a_version(self) -> None:
        management.requeue(self.service, self.lead, self.project, guideline=self.old)

    @rule(n=st.integers(0, WORK - 1), fate=st.sampled_from(management.FATES))
    def stop_and_take_on_again(self, n: int, fate: str) -> None:
        management.stop_person(self.service, self.lead, self.people[n].person_id, fate)
        self.service.people.set(self.people[n].person_id, state="active")

    @rule()
    def pull(self) -> None:
        self.service.pull()
        with self.service.store.read() as db:
            holding = management._holding(db, project_id=self.project)
            assert len(visible(self.service)) == len(holding)

    @invariant()
    def law(self) -> None:
        places_add_up(self.service)


TestTaking = Taking.TestCase
TestTaking.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
