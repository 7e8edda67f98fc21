"""Quality, live: equal to the report's, right on what is known by hand, and silent about what is not known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from labelled import answer, person, project, service, submit
from sqlalchemy import select

from prefdata.cards import Aspect, Scale
from prefdata.dataset import Dataset
from prefdata.formats.ukpconvarg import read_ukpconvarg
from prefdata.report import analyse
from prefdata.report.numbers import plain
from prefdata.schema import annotation, canonical_json, message, prompt, response
from prefdata.stats import spearman
from prefdata.ui.quality import live as module
from prefdata.ui.quality.live import Quality
from prefdata.ui.store.tables import work

START = datetime(2026, 11, 16, 9, tzinfo=UTC)
CLARITY = Aspect(name="clarity", text="Is it clear?", scale=Scale(type="ordinal", min=1, max=5)).criterion("card@1")


class Team:
    """A dataset whose labels are made by hand."""

    def __init__(self, folder: Path, prompts: int = 6, responses: int = 2, texts: Sequence[str] = ()) -> None:
        self.dataset = Dataset.create(folder)
        self.prompts = [prompt([message("user", f"q{n}")]) for n in range(prompts)]
        given = texts or [f"text {k}" + " more" * k for k in range(responses)]
        self.responses = [
            [response(row, model=f"m{k}", text=text) for k, text in enumerate(given[:responses])]
            for row in self.prompts
        ]
        flat = [row for rows in self.responses for row in rows]
        self.dataset.add_import(
            {"prompts": self.prompts, "responses": flat, "criteria": [CLARITY]}, source="hand", fields={}
        )
        self.rows: list[dict[str, Any]] = []
        self.count = 0

    def ids(self, prompt: int) -> list[str]:
        return sorted(row["response_id"] for row in self.responses[prompt])

    def says(
        self,
        who: str,
        ids: Sequence[str],
        scores: Sequence[float] | None,
        *,
        protocol: str = "compare",
        meta: dict[str, Any] | None = None,
        **columns: Any,
    ) -> None:
        said = {"project": "p", "card": "card@1", **(meta or {})}
        self.count += 1
        at = START + timedelta(seconds=self.count)
        row = {"target_ids": list(ids), "protocol": protocol, "annotator": f"human:{who}", "created_at": at, **columns}
        self.rows.append({**row, "scores": scores, "meta": canonical_json(said), "key": self.count})

    def quality(self) -> Quality:
        self.dataset.label(self.rows)
        self.rows = []
        return Quality(self.dataset)


def compared(team: Team, table: Sequence[Sequence[float | None]], **columns: Any) -> None:
    """A row for each prompt, a column for each person: P(the first in the alphabet is better)."""
    for unit, row in enumerate(table):
        for rater, p in enumerate(row):
            if p is not None:
                team.says(f"a{rater}", team.ids(unit), [p, 1 - p], **columns)


FOUR = [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
"""Units whose nominal alpha is known: 0.388889."""


def test_agreement_is_the_reports(tmp_path: Path) -> None:
    team = Team(tmp_path)
    compared(team, FOUR)
    found = team.quality().agreement("p")
    report = analyse(team.dataset)
    assert found.alpha[0]["alpha"] == pytest.approx(0.388889, abs=1e-6)
    for mine, theirs in ((found.alpha, report["alpha"]), (found.couples, report["agreement"])):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            assert plain(a) == b


def test_other_projects_and_models_are_left_out(tmp_path: Path) -> None:
    team = Team(tmp_path)
    compared(team, FOUR)
    for unit in range(4):
        team.says("outsider", team.ids(unit), [0.5, 0.5], meta={"project": "another"})
    quality = team.quality()
    judge = {"annotator": "judge:x", "source": "judge", "protocol": "compare", "scores": [0.0, 1.0]}
    rows = [
        annotation(group_id=p["group_id"], prompt_id=p["prompt_id"], target_ids=team.ids(n), **judge)
        for n, p in enumerate(team.prompts)
    ]
    team.dataset.add_import({"annotations": rows}, source="judge", fields={})
    found = quality.agreement("p")
    assert found.alpha[0]["alpha"] == pytest.approx(0.388889, abs=1e-6)
    (people,) = [entry for entry in analyse(team.dataset)["alpha"] if entry["over"] == "human"]
    assert people["annotators"] == 4 and found.alpha[0]["annotators"] == 3
    assert quality.agreement("another").alpha == [] and quality.agreement("nothing").couples == []


def test_what_is_new_is_seen(tmp_path: Path) -> None:
    team = Team(tmp_path)
    compared(team, FOUR[:2])
    quality = team.quality()
    before = quality.agreement("p")
    assert quality.agreement("p") is before  # nothing was committed: nothing is computed anew
    for rater, p in enumerate(FOUR[2]):
        team.says(f"a{rater}", team.ids(2), [p, 1 - p])
    team.dataset.label(team.rows)
    assert quality.agreement("p").alpha[0]["pairs"] == 3


def test_each_version_of_the_guidelines(tmp_path: Path) -> None:
    team = Team(tmp_path)
    for unit in range(6):
        card = "card@1" if unit < 3 else "card@2"
        same = unit >= 3
        team.says("a", team.ids(unit), [float(unit % 2), 1.0 - unit % 2], meta={"card": card})
        other = unit % 2 if same else 1 - unit % 2
        team.says("b", team.ids(unit), [float(other), 1.0 - other], meta={"card": card})
    old, new = team.quality().versions("p")
    assert (old.card, old.labels, old.annotators) == ("card@1", 6, 2)
    assert (new.card, new.labels) == ("card@2", 6)
    assert old.alpha[0]["percent"] == 0 and new.alpha[0]["percent"] == 1
    both = Quality(team.dataset).agreement("p")
    assert both.alpha[0]["percent"] == 0.5
    assert Quality(team.dataset).agreement("p", card="card@2").alpha == new.alpha


def test_gold_questions_may_be_left_out_of_agreement(tmp_path: Path) -> None:
    team = Team(tmp_path)
    for unit in range(4):
        meta = {"gold": True} if unit < 2 else {}
        team.says("a", team.ids(unit), [1.0, 0.0] if unit % 2 else [0.0, 1.0], meta=meta)
        team.says("b", team.ids(unit), [1.0, 0.0] if (unit % 2) == (unit < 2) else [0.0, 1.0], meta=meta)
    quality = team.quality()
    assert quality.agreement("p").alpha[0]["pairs"] == 4
    assert quality.agreement("p", gold=False).alpha[0]["pairs"] == 2


def test_ratings_of_single_responses(tmp_path: Path) -> None:
    """One response a prompt: no pairs, but alpha and weighted kappa on the scores."""
    team = Team(tmp_path, responses=1)
    table = [[1, 2, None], [3, 3, 4], [2, 2, 2], [4, 4, 3]]
    for unit, row in enumerate(table):
        for rater, score in enumerate(row):
            if score is not None:
                columns = {"protocol": "score", "aspect": "clarity", "criterion_id": CLARITY["criterion_id"]}
                team.says(f"a{rater}", team.ids(unit), [float(score)], **columns)
    found = team.quality().agreement("p")
    assert found.couples == []
    assert [entry["alpha"] for entry in found.alpha] == pytest.approx([0.781728, 0.732143], abs=1e-6)
    first = found.scores[0]
    assert (first["a"], first["b"], first["n"], first["percent"]) == ("human:a0", "human:a1", 4, 0.75)
    # Said 1 3 2 4 and 2 3 2 4: they differ by 1 once; by chance by the mean over all couples of the two lists, 4 times.
    chance = sum((k - m) ** 2 for k in (1, 3, 2, 4) for m in (2, 3, 2, 4)) / 4
    assert first["kappa"] == pytest.approx(1 - 1 / chance)
    assert first["low"] <= first["kappa"] <= first["high"]


def test_gold_accuracy_by_given_answers(tmp_path: Path) -> None:
    team = Team(tmp_path)
    answers = {}
    for unit in range(4):
        ids = team.ids(unit)
        answers[frozenset(ids)] = {ids[0]: 1.0, ids[1]: 0.0}
        team.says("good", ids[::-1], [0.0, 1.0])  # shown the other way round
        team.says("bad", ids, [1.0, 0.0] if unit == 0 else [0.5, 0.5])  # a tie is not right
    team.says("good", team.ids(5), [0.0, 1.0])  # no gold question
    bad, good = team.quality().gold("p", answers)
    assert (bad["annotator"], bad["part"], bad["n"], bad["share"]) == ("human:bad", 1, 4, 0.25)
    assert (good["share"], good["high"]) == (1.0, 1.0)
    assert good["low"] == pytest.approx(0.510109, abs=1e-6)  # Wilson: 4 of 4


def test_gold_accuracy_of_the_store(tmp_path: Path) -> None:
    """The first answer counts: the right one is told afterwards."""
    made = service(tmp_path / "d", prompts=1)
    ann = person(made, pseudonym="ann")
    file = tmp_path / "gold.jsonl"
    lines = [
        json.dumps({"prompt": f"gold {n}", "responses": [f"x{n}", f"y{n}"], "gold": {"choice": -1}}) for n in range(3)
    ]
    file.write_text("\n".join(lines))
    number = project(made, ann, gold=str(file), qualify=3)
    for turn in range(3):
        task = made.next(ann, number)["task"]
        with made.store.read() as db:
            shown = db.execute(select(work.c.shown).where(work.c.task_id == task["id"])).scalar_one()
        right = -1 if shown[0] == 0 else 1
        said = {"choice": right if turn else -right}
        body = {"task": task["id"], "seconds": 4.0, "guideline": task["guideline"]}
        made.submit(ann, {**body, "key": f"k{turn}", "answer": said})
        if not turn:  # put right after it was told
            made.submit(ann, {**body, "key": "again", "answer": {"choice": right}})
    (found,) = made.quality.gold("p")
    assert (found["annotator"], found["part"], found["n"]) == ("human:ann", 2, 3)
    made.close()


def test_times_count_a_label_once(tmp_path: Path) -> None:
    team = Team(tmp_path)
    for unit, seconds in enumerate([10.0, 20.0, 30.0, 100.0]):
        for aspect in ("clarity", "truth"):  # two aspects of one label: its time is not doubled
            team.says("a", team.ids(unit), [1.0, 2.0], protocol="score", aspect=aspect, seconds=seconds)
    (row,) = team.quality().times("p").to_dicts()
    assert row == {"annotator": "human:a", "n": 4, "q25": 17.5, "median": 25.0, "q75": 47.5, "minutes": 160 / 60}


def test_habits_by_hand_and_by_the_report(tmp_path: Path) -> None:
    team = Team(tmp_path)
    for unit in range(6):
        short, long = (row["response_id"] for row in team.responses[unit])
        shown = [short, long] if unit % 2 else [long, short]
        team.says("first", shown, [1.0, 0.0])
        team.says("longer", shown, [float(one == long) for one in shown])
        team.says("even", shown, [0.5, 0.5])
    found = {habit.annotator: habit for habit in team.quality().habits("p")}
    first, longer, even = (found[f"human:{name}"] for name in ("first", "longer", "even"))
    assert (first.first["share"], first.first["n"], first.longer["share"]) == (1.0, 6, 0.5)
    assert (longer.longer["share"], longer.first["share"]) == (1.0, 0.5)
    assert (even.first["share"], even.ties["share"]) == (None, 1.0)
    for entry in analyse(team.dataset)["annotators"]:
        mine = found[entry["name"]]
        for name in ("share", "low", "high", "n"):
            assert mine.first[name] == pytest.approx(entry["position"]["first_shown"][name])
            assert mine.longer[name] == pytest.approx(entry["length"][name])


def test_position_of_a_ranking_is_one_half_without_a_habit(tmp_path: Path) -> None:
    team = Team(tmp_path, prompts=4, responses=4)
    for unit in range(4):
        ids = team.ids(unit)
        shown = ids[unit:] + ids[:unit]
        team.says("first", shown, [4.0, 1.0, 2.0, 3.0], protocol="rank")
        team.says("fair", shown, [float(4 - ids.index(one)) for one in shown], protocol="rank")
        team.says("best", shown, [1.0, 0.0, 0.0, 0.0], protocol="choose")
    found = {habit.annotator: habit.first for habit in team.quality().habits("p")}
    assert (found["human:first"]["share"], found["human:best"]["share"]) == (1.0, 1.0)
    assert (found["human:fair"]["share"], found["human:fair"]["n"]) == (0.5, 4)


def test_whoever_makes_a_response_better_has_no_habit_because_of_it(tmp_path: Path) -> None:
    team = Team(tmp_path)
    for unit in range(3):
        old = team.responses[unit][0]
        new = response(team.prompts[unit], model="human:ed", text="a better and longer text", key=unit)
        team.dataset.add_import({"responses": [new]}, source="edit", fields={"unit": unit})
        team.says("ed", [new["response_id"], old["response_id"]], [1.0, 0.0])
    assert [habit.first["n"] for habit in team.quality().habits("p")] in ([], [0])


def test_models_beside_people(tmp_path: Path) -> None:
    team = Team(tmp_path)
    compared(team, [[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    quality = team.quality()
    rows = []
    for n, p in enumerate([1.0, 0.0, 0.0, 0.5]):
        asked = team.prompts[n]
        about = {"group_id": asked["group_id"], "prompt_id": asked["prompt_id"], "target_ids": team.ids(n)}
        rows.append(annotation(**about, protocol="compare", annotator="judge:x", source="judge", scores=[p, 1 - p]))
        rows.append(
            annotation(**about, protocol="compare", annotator="consensus:x", source="consensus", scores=[p, 1 - p])
        )
    team.dataset.add_import({"annotations": rows}, source="judge", fields={})
    found = quality.judges("p")
    by = {entry["name"]: entry for entry in found["by"]}
    assert set(by) == {"judge:x", "human:a0", "human:a1", "human:a2"}
    # People say first, second, first, second; the judge first, second, second, a tie.
    judge = by["judge:x"]
    assert (judge["shared"], judge["n"], judge["right"], judge["undecided"]) == (4, 3, 2, 1)
    assert not judge["leave_one_out"] and by["human:a0"]["leave_one_out"]


def test_scores_of_models_beside_people(tmp_path: Path) -> None:
    team = Team(tmp_path, responses=1)
    columns = {"protocol": "score", "aspect": "clarity", "criterion_id": CLARITY["criterion_id"]}
    rows = []
    for unit, (a, b, model) in enumerate([(1, 2, 0.1), (2, 3, 0.2), (4, 4, 0.9), (5, 5, 0.8), (3, 5, 0.7)]):
        for name, score in (("a", a), ("b", b)):
            team.says(name, team.ids(unit), [float(score)], **columns)
        asked = team.prompts[unit]
        about = {"group_id": asked["group_id"], "prompt_id": asked["prompt_id"], "target_ids": team.ids(unit)}
        said = {"annotator": "judge:x", "source": "judge", "protocol": "score", "aspect": "clarity"}
        rows.append(annotation(**about, **said, scores=[model]))
    quality = team.quality()
    team.dataset.add_import({"annotations": rows}, source="judge", fields={})
    (found,) = quality.judges("p")["scores"]
    # People's means 1.5 2.5 4 5 4, ranks 1 2 3.5 5 3.5; the model's 1 2 5 4 3: Spearman by its definition.
    assert (found["name"], found["n"]) == ("judge:x", 5)
    assert found["spearman"] == pytest.approx(spearman([1, 2, 3.5, 5, 3.5], [1, 2, 5, 4, 3]).value)
    assert found["low"] <= found["spearman"] <= found["high"]


def test_skipped_and_hostile_rows_say_nothing(tmp_path: Path) -> None:
    team = Team(tmp_path)
    compared(team, [[1, 0]])
    team.says("a", team.ids(1), None, status="skipped", text="=cmd()")
    team.says("b", team.ids(1), [1.0, 0.0])
    team.dataset.label(team.rows)
    odd = [
        {"target_ids": team.ids(2), "protocol": "compare", "scores": [1, 0], "annotator": "human:x", "meta": text}
        for text in ("no JSON", "[]", '{"project": ["p"]}', '{"project": "p", "task": 7, "card": null}')
    ]
    for place, row in enumerate(odd):
        team.dataset.label([{**row, "annotator": f"human:x{place}"}])
    quality = Quality(team.dataset)
    assert {entry["a"] for entry in quality.agreement("p").couples} == {"human:a0"}


def test_when_to_stop_by_hand(tmp_path: Path) -> None:
    team = Team(tmp_path, prompts=40)
    for unit in range(40):
        a = unit % 2
        b = a if unit % 4 else 1 - a
        for name, p in (("a", a), ("b", b)):
            team.says(name, team.ids(unit), [float(p), 1.0 - p], seconds=90.0)
    quality = team.quality()
    (stop,) = quality.stopping("p", 0.1)
    entry = stop.entry
    half = (entry["high"] - entry["low"]) / 2
    assert stop.half_width == half > 0.1 and stop.units == 40 and stop.seconds == 90
    assert stop.left is not None
    assert 40 + stop.left.units == pytest.approx(40 * (half / 0.1) ** 2, abs=1)
    assert stop.left.labels == 2 * stop.left.units  # two people each
    assert stop.left.work_hours == pytest.approx(stop.left.labels * 90 / 3600)
    assert stop.left.hours is None and stop.left.cost is None  # no store: no pace, no pay
    (done,) = quality.stopping("p", {"overall": 1.0})
    assert done.left is not None and done.left.units == 0


def test_pace_and_pay_come_from_the_store(tmp_path: Path) -> None:
    made = service(tmp_path / "d", prompts=12)
    team = [person(made, pseudonym=name, pay=20.0) for name in ("ann", "bob")]
    number = project(made, *team, overlap=2)
    for who in team:
        for turn in range(12):
            task = made.next(who, number)["task"]
            choice = -1 if (turn + (who.pseudonym == "bob" and turn < 4)) % 2 else 1
            made.submit(
                who,
                {"task": task["id"], "key": f"{who.pseudonym}{turn}", "answer": {"choice": choice}, "seconds": 0.0}
                | {"guideline": task["guideline"]},
            )
    made.pull()
    (stop,) = made.quality.stopping("p", 0.01)
    assert stop.pace == 24.0  # 24 labels in the first hour: less than an hour ago is an hour
    assert stop.left is not None and stop.left.hours == stop.left.labels / 24
    assert stop.seconds == pytest.approx(0.0, abs=0.5)
    assert made.quality.agreement("p").alpha[0]["pairs"] == 12
    assert analyse(made.dataset)["alpha"][0]["alpha"] == pytest.approx(made.quality.agreement("p").alpha[0]["alpha"])
    made.close()


def test_every_protocol_as_it_is_labelled(tmp_path: Path) -> None:
    """Two people answer the same tasks differently: whatever is asked, the page has numbers and a queue."""
    made = service(tmp_path / "d", prompts=4, responses=3)
    team = [person(made, pseudonym=name, pay=12.0) for name in ("ann", "bob")]
    for protocol in ("compare", "rank", "rate", "best", "thumbs", "first_error", "spans", "edit"):
        top = {"top": 2} if protocol == "rank" else {}
        number = project(made, *team, name=protocol, protocol=protocol, overlap=2, **top)
        for choice, who in enumerate(team):
            for turn in range(4):
                task = made.next(who, number)["task"]
                said = answer(task, choice + (turn == 3))
                if protocol == "rank" and turn == 2:
                    said["ranks"] = [None if rank == 3 else rank for rank in said["ranks"]]  # a partial one
                submit(made, who, task, f"{protocol}{who.pseudonym}{turn}", said)
    made.pull()
    quality = made.quality
    for protocol in ("compare", "rank", "rate", "best", "thumbs", "first_error", "spans"):
        found = quality.agreement(protocol)
        assert found.alpha and all(entry["annotators"] == 2 for entry in found.alpha), protocol
        (version,) = quality.versions(protocol)
        assert (version.labels, version.annotators) == (8, 2), protocol
        assert quality.times(protocol)["n"].to_list() == [4, 4], protocol
        assert quality.stopping(protocol, 0.2), protocol
        assert quality.habits(protocol), protocol
    (edits,) = quality.agreement("edit").alpha
    assert (edits["alpha"], edits["pairs"]) == (None, 0)
    assert quality.stopping("edit")[0].left is None
    made.close()


def test_nothing_yet(tmp_path: Path) -> None:
    quality = Quality(Dataset.create(tmp_path / "empty"))
    found = quality.agreement("p")
    assert (found.alpha, found.couples, found.scores) == ([], [], [])
    assert quality.versions("p") == quality.habits("p") == quality.stopping("p") == []
    assert quality.gold("p") == [] and quality.times("p").is_empty() and quality.judges("p")["by"] == []


@pytest.mark.slow
def test_votes_of_a_crowd_as_labels(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UKPConvArg1 as labels of one project: its README gives alpha 0.324 and mean pairwise agreement 0.569."""
    monkeypatch.setattr(module, "MOST_COUPLES", 5)
    given = read_ukpconvarg(data_folder).rows
    made = Dataset.create(tmp_path / "labels")
    made.add_import({table: given[table] for table in ("prompts", "responses")}, source="ukp", fields={})
    meta = canonical_json({"project": "arguments", "card": "convincing@1"})
    columns = ("target_ids", "protocol", "scores", "annotator")
    rows = [{**{name: row[name] for name in columns}, "meta": meta} for row in given["annotations"]]
    made.label(rows)
    found = Quality(made).agreement("arguments").alpha[0]
    report = analyse(made)["alpha"][0]
    assert found["alpha"] == pytest.approx(0.324, abs=5e-4)
    assert found["percent"] == pytest.approx(0.569, abs=5e-4)
    assert plain(found) == report
