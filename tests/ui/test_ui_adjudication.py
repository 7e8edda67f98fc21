"""How far answers are apart, by hand; which tasks a reviewer sees, and what they can do about them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import person, project, service, submit
from sqlalchemy import func, select, update

from prefdata.cards import card_of
from prefdata.errors import DataError
from prefdata.ui.accounts.people import NotAllowed, Person
from prefdata.ui.answers.checks import AnswerError
from prefdata.ui.quality.adjudication import adjudicate, collect_more, disagreements, refusal
from prefdata.ui.quality.apart import MEANING, disagreement, widest
from prefdata.ui.service import Service
from prefdata.ui.store.tables import labels, tasks, work
from prefdata.ui.work.project import PROTOCOLS

SCALE = {"type": "ordinal", "min": 1, "max": 5}
CARD = card_of(
    {
        "name": "two",
        "instructions": "Score.",
        "aspects": [
            {"name": "help", "text": "Does it help?", "scale": SCALE},
            {"name": "depth", "text": "How deep?", "scale": {"type": "interval", "min": 0, "max": 10}},
        ],
    }
)


def far(protocol: str, *answers: Any, texts: tuple[str, ...] = ()) -> float:
    key = {"compare": "choice", "rank": "ranks", "rate": "scores", "first_error": "step"}.get(protocol, protocol)
    return disagreement(protocol, [{key: answer} for answer in answers], CARD, texts)


# By hand


@pytest.mark.parametrize(
    ("choices", "value"),
    [
        ((-3, -1, -2), 0),  # how strongly does not matter
        ((-1, 1), 1 / 2),
        ((-1, -3, 2), 1 / 3),  # one of three
        ((-1, -1, 1, 1), 1 / 2),
        ((-1, 0), 1 / 4),  # a tie is half of the way
        ((-1, "both_bad"), 1 / 4),
        ((0, "both_bad"), 0),  # on neither side
        ((-1, -1, 1, 0), (1 + 1 / 2) / 4),
        ((-1, 1, 0), 1 / 3),  # all to the tie: two halves of three
        ((2,), 0),
    ],
)
def test_comparisons(choices: tuple[Any, ...], value: float) -> None:
    assert far("compare", *choices) == pytest.approx(value)


def test_rankings() -> None:
    assert far("rank", [1, 2, 3], [1, 2, 3]) == 0
    assert far("rank", [1, 2, 3], [3, 2, 1]) == pytest.approx(2)
    assert far("rank", [1, 2, 3], [1, 3, 2]) == pytest.approx(1 - 1 / 3)  # two of three pairs alike: tau = (2 - 1) / 3
    # Three people: tau 1/3 between each of the first two and the third, 1 between the first two.
    assert far("rank", [1, 2, 3], [1, 2, 3], [2, 1, 3]) == pytest.approx(1 - (1 + 1 / 3 + 1 / 3) / 3)
    # With a tie: of three pairs two are concordant, one is tied in one ranking: 2 / sqrt(3 * 2).
    assert far("rank", [1, 2, 3], [1, 2, 2]) == pytest.approx(1 - 2 / math.sqrt(6))


def test_rankings_of_some_have_the_rest_last() -> None:
    assert far("rank", [1, None, None], [1, 2, 2]) == 0
    assert far("rank", [1, None], [None, 1]) == pytest.approx(2)


def test_a_ranking_without_an_order_is_unrelated_to_one_with() -> None:
    assert far("rank", [1, 1, 1], [1, 2, 3]) == 1
    assert far("rank", [1, 1, 1], [1, 1, 1]) == 0


def test_scores_by_the_widest_range_relative_to_the_scale() -> None:
    one, two = {"help": [1, 4], "depth": [0, 5]}, {"help": [2, 4], "depth": [6, 5]}
    assert far("rate", one, two) == pytest.approx(6 / 10)  # help: 1 of 4 points; depth: 6 of 10
    assert widest([{"scores": one}, {"scores": two}]) == 6
    assert far("rate", one, one) == 0
    assert far("rate", {"help": [1, 5]}, {"help": [5, 5]}, {"help": [3, 5]}) == 1


def test_aspects_of_other_guidelines_are_left_out() -> None:
    assert far("rate", {"old": [1, 5]}, {"old": [5, 5]}) == 0
    assert far("rate", {"old": [1]}, {"help": [5]}) == 0


def test_choices_votes_and_steps_by_the_share_of_the_minority() -> None:
    assert far("best", [0], [0], [1]) == pytest.approx(1 / 3)
    assert far("best", [0], [1], [2], []) == pytest.approx(3 / 4)
    assert far("thumbs", [1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]) == pytest.approx(1 / 4)
    assert far("thumbs", [1], [0]) == pytest.approx(1 / 2)
    assert far("first_error", None, None, 2) == pytest.approx(1 / 3)
    assert far("first_error", 0, None) == pytest.approx(1 / 2)  # the first step is not "no step"


def marked(*spans: tuple[int, int, str], target: int = 0) -> list[dict[str, Any]]:
    return [{"target": target, "start": start, "end": end, "label": label} for start, end, label in spans]


def test_passages_by_their_words() -> None:
    texts = ("one two three four", "one two three four")
    first_two, last_three = marked((0, 7, "wrong")), marked((4, 18, "wrong"))
    # {one, two} and {two, three, four}: F1 = 2 * 1 / (2 + 3).
    assert far("spans", first_two, last_three, texts=texts) == pytest.approx(1 - 2 / 5)
    assert far("spans", first_two, marked((0, 5, "wrong")), texts=texts) == 0  # part of a word is the word
    assert far("spans", first_two, marked((0, 7, "good")), texts=texts) == 1
    assert far("spans", first_two, marked((0, 7, "wrong"), target=1), texts=texts) == 1
    assert far("spans", first_two, [], texts=texts) == 1
    assert far("spans", [], [], texts=texts) == 0
    assert far("spans", [], [], first_two, texts=texts) == pytest.approx(2 / 3)


def test_edits_are_not_compared() -> None:
    assert disagreement("edit", [{"target": 0, "text": "a"}, {"target": 1, "text": "b"}], CARD) == 0


def test_every_protocol_says_what_its_number_means() -> None:
    assert set(MEANING) == set(PROTOCOLS)


SAID: dict[str, st.SearchStrategy[Any]] = {
    "compare": st.integers(-3, 3) | st.just("both_bad"),
    "rank": st.lists(st.integers(1, 3) | st.none(), min_size=3, max_size=3),
    "rate": st.fixed_dictionaries({"help": st.lists(st.integers(1, 5), min_size=2, max_size=2)}),
    "best": st.lists(st.integers(0, 2), max_size=2, unique=True).map(sorted),
    "thumbs": st.lists(st.integers(0, 1), min_size=2, max_size=2),
    "first_error": st.integers(0, 4) | st.none(),
    "spans": st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 10), st.sampled_from(["wrong", "good"])), max_size=3
    ).map(lambda spans: marked(*((start, start + length, label) for start, length, label in spans))),
}


@given(st.data())
def test_it_lies_in_its_range_and_knows_no_order_of_people(data: st.DataObject) -> None:
    protocol = data.draw(st.sampled_from(sorted(SAID)))
    answers = data.draw(st.lists(SAID[protocol], min_size=1, max_size=5))
    value = far(protocol, *answers, texts=("one two three four",))
    assert -1e-9 <= value <= (2 if protocol == "rank" else 1) + 1e-9
    other = data.draw(st.permutations(answers))
    assert far(protocol, *other, texts=("one two three four",)) == pytest.approx(value)
    same = far(protocol, *[answers[0]] * len(answers), texts=("one two three four",))
    assert same == pytest.approx(0)


# In the store


def labelled(
    made: Service, held: int, choices: dict[Person, list[Any]], key: str = "choice"
) -> dict[int, dict[Person, Any]]:
    """Let people answer in turn; what each said of which task, with positions as in the dataset (order fixed)."""
    said: dict[int, dict[Person, Any]] = {}
    for who, answers in choices.items():
        for number, answer in enumerate(answers):
            task = made.next(who, held)["task"]
            submit(made, who, task, f"{who.person_id}/{number}", {key: answer})
            said.setdefault(task["id"], {})[who] = answer
    return said


def three(tmp_path: Path, **fields: Any) -> tuple[Service, int, list[Person]]:
    made = service(tmp_path / "data", prompts=4)
    people = [person(made) for _ in range(3)]
    return made, project(made, *people, overlap=3, order="fixed", **fields), people


def test_the_most_disputed_comes_first_and_the_decided_last(tmp_path: Path) -> None:
    made, held, (a, b, c) = three(tmp_path)
    labelled(made, held, {a: [-1, -1, -1, 1], b: [-1, 1, -1, 2], c: [-1, 0, 1, 3]})
    found = disagreements(made, held)
    # The tasks come in order: agreed, all three differ (1/3 by the tie), one against two (1/3), agreed.
    assert [round(one.value, 6) for one in found] == [round(1 / 3, 6)] * 2
    assert [len(one.answers) for one in found] == [3, 3]
    assert [one.person for one in found[0].answers] == [a.pseudonym, b.pseudonym, c.pseudonym]
    reviewer = person(made, "reviewer")
    adjudicate(made, reviewer, found[0].task_id, "k1", {"choice": 2}, 9.0)
    again = disagreements(made, held)
    assert [one.task_id for one in again] == [found[1].task_id, found[0].task_id]
    assert again[1].value == found[0].value  # the verdict is none of the answers
    assert [(one.person, one.answer["choice"]) for one in again[1].verdicts] == [(reviewer.pseudonym, 2)]
    assert disagreements(made, held, limit=1) == again[:1]
    assert disagreements(made, held, task=found[0].task_id) == again[1:]


def test_a_correction_and_a_skip_count_as_they_are_now(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    said = labelled(made, held, {a: [-1], b: [1]})
    (task,) = said
    assert [one.task_id for one in disagreements(made, held)] == [task]
    submit(made, b, made.task(b, task)["task"], "again", {"choice": -2})
    assert disagreements(made, held) == []
    submit(made, b, made.task(b, task)["task"], "and again", {"choice": 2})
    (one,) = disagreements(made, held)
    assert [answer.revision for answer in one.answers] == [1, 3]
    made.labels.skip(b, task, "skip", "unclear prompt", 1.0)
    assert disagreements(made, held) == []


def test_reported_prompts_and_other_projects_are_left_out(tmp_path: Path) -> None:
    made, held, (a, b, c) = three(tmp_path)
    other = project(made, a, b, c, name="other", overlap=3)
    (task,) = labelled(made, held, {a: [-1], b: [1]})
    assert disagreements(made, other) == []
    made.labels.flag(a, task, "bad")
    assert disagreements(made, held) == []


def test_the_verdict_is_a_label_of_its_own(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    (task,) = labelled(made, held, {a: [-3], b: [3]})
    reviewer = person(made, "reviewer")
    places = taken(made)
    assert adjudicate(made, reviewer, task, "k", {"choice": -1}, 5.0)["revision"] == 1
    assert adjudicate(made, reviewer, task, "k", {"choice": -1}, 5.0)["revision"] == 1  # sent twice
    assert adjudicate(made, reviewer, task, "l", {"choice": 1}, 5.0)["revision"] == 2  # a correction
    assert taken(made) == places  # no place is needed
    made.pull()
    rows = made.dataset.annotations.select("annotator", "scores", "revision", "meta").collect().to_dicts()
    by = {row["annotator"]: row for row in rows}
    assert set(by) == {f"human:{one.pseudonym}" for one in (a, b, reviewer)}
    assert by[f"human:{a.pseudonym}"]["scores"] == [1.0, 0.0]
    verdict = by[f"human:{reviewer.pseudonym}"]
    assert (verdict["scores"], verdict["revision"]) == ([0.0, 1.0], 2)
    assert '"adjudication":true' in verdict["meta"].replace(" ", "")


def test_nobody_decides_between_others_and_themselves(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    reviewer = person(made, "reviewer")
    made.projects.acknowledge(reviewer, held, made.projects.get(held).guideline)
    first, second = sorted(labelled(made, held, {a: [-1, -1], b: [1, 1]}))
    assert refusal(made, reviewer, first) is None
    task = made.next(reviewer, held)["task"]
    assert task["id"] == first
    assert "open on the label page" in (refusal(made, reviewer, first) or "")
    submit(made, reviewer, task, "own", {"choice": 0})
    with pytest.raises(NotAllowed, match="labelled this task yourself"):
        adjudicate(made, reviewer, first, "k", {"choice": 1}, 1.0)
    adjudicate(made, reviewer, second, "k", {"choice": 1}, 1.0)
    assert refusal(made, reviewer, second) is None  # their own verdict can be corrected


def test_annotators_decide_nothing(tmp_path: Path) -> None:
    made, held, (a, b, c) = three(tmp_path)
    (task,) = labelled(made, held, {a: [-1], b: [1]})
    with pytest.raises(NotAllowed):
        adjudicate(made, c, task, "k", {"choice": 1}, 1.0)
    with pytest.raises(NotAllowed):
        collect_more(made, c, [task], 1)
    with pytest.raises(AnswerError):
        adjudicate(made, person(made, "reviewer"), task, "k", {"choice": 9}, 1.0)


def taken(made: Service) -> list[tuple[int, int, int]]:
    """(task, wanted, free), after holding free against wanted - taken."""
    with made.store.read() as db:
        rows = db.execute(select(tasks.c.task_id, tasks.c.wanted, tasks.c.free)).all()
        held = work.c.state.in_(["leased", "done"]) & ~work.c.gold
        counted = select(work.c.task_id, func.count()).where(held).group_by(work.c.task_id)
        by_task = {row[0]: row[1] for row in db.execute(counted)}
    assert all(row.free == row.wanted - by_task.get(row.task_id, 0) for row in rows)
    return [(row.task_id, row.wanted, row.free) for row in rows]


def test_more_labels_open_the_task_for_others_only(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=2)
    people = [person(made) for _ in range(4)]
    a, b, c, d = people
    held = project(made, *people, overlap=2, order="fixed")
    first, second = sorted(labelled(made, held, {a: [-1, -1], b: [1, -1]}))
    assert made.next(c, held)["state"] == "empty"
    assert collect_more(made, None, [first, first], 2) == 1
    assert taken(made) == [(first, 4, 2), (second, 2, 0)]
    assert made.next(a, held)["state"] == "empty"
    assert made.next(c, held)["task"]["id"] == made.next(d, held)["task"]["id"] == first
    assert collect_more(made, None, [first, second], 1) == 2  # while two are at work on it
    assert taken(made) == [(first, 5, 1), (second, 3, 1)]


def test_the_same_wish_twice_counts_once(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    (task,) = labelled(made, held, {a: [-1], b: [1]})
    assert collect_more(made, None, [task], 2, most=5) == 1
    assert collect_more(made, None, [task], 2, most=5) == 0
    assert [wanted for one, wanted, _ in taken(made) if one == task] == [5]


def test_tasks_of_one_person_and_reported_ones_stay_as_they_are(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    first, second = sorted(labelled(made, held, {a: [-1, 1], b: [1, -1]}))
    with made.store.write() as db:
        db.execute(update(tasks).where(tasks.c.task_id == first).values(person_id=a.person_id))
    made.labels.flag(a, second, "bad")
    assert collect_more(made, None, [first, second, 10**6], 1) == 0
    for wrong in (0, -1, 21):
        with pytest.raises(DataError, match="more labels"):
            collect_more(made, None, [first], wrong)


def test_many_tasks_at_once(tmp_path: Path) -> None:
    made = service(tmp_path / "data", prompts=1)
    held = project(made, person(made))
    with made.store.write() as db:
        one = dict(db.execute(select(tasks)).mappings().one())
        del one["task_id"]
        db.execute(tasks.insert(), [{**one, "key": f"k{number}"} for number in range(1200)])
        ids = list(db.execute(select(tasks.c.task_id)).scalars())
    assert collect_more(made, None, ids, 3) == 1201
    assert {(wanted, free) for _, wanted, free in taken(made)} == {(4, 4)}
    assert disagreements(made, held) == []


@pytest.mark.parametrize("protocol", [one for one in PROTOCOLS if one not in ("compare", "edit")])
def test_every_protocol_finds_its_disputes(tmp_path: Path, protocol: str) -> None:
    from labelled import answer

    made = service(tmp_path / "data", prompts=2, responses=3)
    a, b = person(made), person(made)
    fields = {"responses": 1} if protocol == "first_error" else {}
    if protocol == "rate":
        path = tmp_path / "card.yaml"
        path.write_text(
            "name: c\nversion: '1'\ninstructions: Score.\n"
            "aspects: [{name: help, text: Helpful., scale: {type: ordinal, min: 1, max: 5}}]\n"
        )
        fields["card"] = str(path)
    held = project(made, a, b, protocol=protocol, overlap=2, order="fixed", **fields)
    for who, differ in ((a, 0), (b, 1)):
        for number in (0, 1):
            task = made.next(who, held)["task"]
            submit(made, who, task, f"{who.person_id}/{number}", answer(task, differ * number))
    (one,) = disagreements(made, held)
    assert 0 < one.value <= 2
    assert (one.widest is not None) == (protocol == "rate")


def test_edits_have_no_queue(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path, protocol="edit")
    for who in (a, b):
        submit(made, who, made.next(who, held)["task"], "k", {"target": 0, "text": f"by {who.pseudonym}"})
    assert disagreements(made, held) == []
    with made.store.read() as db:
        assert db.execute(select(func.count()).select_from(labels)).scalar() == 2


def test_a_reviewer_who_skipped_a_task_may_decide_it(tmp_path: Path) -> None:
    made, held, (a, b, _) = three(tmp_path)
    reviewer = person(made, "reviewer")
    made.projects.acknowledge(reviewer, held, made.projects.get(held).guideline)
    (task,) = labelled(made, held, {a: [-1], b: [1]})
    assert made.next(reviewer, held)["task"]["id"] == task
    made.labels.skip(reviewer, task, "skip", "unclear prompt", 1.0)
    places = taken(made)
    adjudicate(made, reviewer, task, "k", {"choice": 1}, 1.0)
    assert taken(made) == places  # the verdict takes no place from the labels that are still wanted
