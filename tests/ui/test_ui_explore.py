"""What is searched equals the view, whatever has been done to the dataset; and a search finds what it should."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prefdata.dataset import Dataset, Plan, StepRecord
from prefdata.errors import DataError
from prefdata.schema import KEYS, Row, Rows, annotation, drop, message, preference, prompt, response
from prefdata.ui.explorer.edition import TABLES, views
from prefdata.ui.explorer.explore import Explorer
from prefdata.ui.explorer.filters import Filter
from prefdata.ui.explorer.groups import name_of

pytestmark = pytest.mark.slow

WORDS = ("Harbour", "STRASSE", "straße", "100%", "a_b", "back\\slash", "naïve", "ИЖЕ", "quiet")
ANNOTATORS = ("human:ann", "human:ben", "judge:x")


def texts(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=3))


def asked(rng: random.Random, number: int) -> Row:
    turns = [message("user", f"{texts(rng)} {number}")]
    if rng.random() < 0.3:
        turns += [message("assistant", "Yes?"), message("user", texts(rng))]
    tags = rng.sample(["easy", "hard", "de"], rng.randrange(3))
    condition = {"kind": "persona", "text": texts(rng)} if rng.random() < 0.2 else None
    return prompt(turns, source=rng.choice(["web", "mail"]), tags=tags or None, condition=condition)


def written(rng: random.Random, to: Row, number: int) -> Row:
    failed = rng.random() < 0.1
    return response(
        to,
        model=rng.choice(["m1", "m2"]),
        text=None if failed else texts(rng),
        key=number,
        finish_reason="error" if failed else "stop",
        n_tokens=rng.randrange(50),
    )


def said(rng: random.Random, about: Row, targets: list[Row], number: int) -> Row:
    protocol = rng.choice(["score", "compare", "rank", "choose", "label"])
    count = {"score": 1, "compare": 2, "label": 1}.get(protocol, len(targets))
    ids = [row["response_id"] for row in rng.sample(targets, min(count, len(targets)))]
    if protocol == "compare" and len(ids) < 2:
        protocol = "score"
    status = rng.choice(["ok", "ok", "ok", "skipped"])
    scores: list[float] | None = [float(rng.randrange(3)) for _ in ids]
    if protocol == "compare":
        first = rng.choice([0.0, 0.5, 1.0])
        scores = [first, 1.0 - first]
    if protocol == "choose":
        scores = [float(place == 0) for place in range(len(ids))]
    if protocol == "label" or status != "ok":
        scores = None
    labels = rng.choice([["both_bad"], ["refusal", "SAT"]]) if protocol == "label" and status == "ok" else None
    who = rng.choice(ANNOTATORS)
    return annotation(
        group_id=about["group_id"],
        prompt_id=about["prompt_id"],
        target_ids=ids,
        protocol=protocol,
        annotator=who,
        source=who.partition(":")[0],
        scores=scores,
        labels=labels,
        aspect=rng.choice(["overall", "honesty"]),
        status=status,
        text=texts(rng) if rng.random() < 0.5 else None,
        key=number,
    )


class History:
    """A dataset to which things are done at random."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ds = Dataset.create(folder, shards=self.rng.choice([1, 3]))
        self.count = 0
        self.do_import()

    def number(self) -> int:
        self.count += 1
        return self.count

    def do_import(self) -> None:
        rows: Rows = {"prompts": [], "responses": [], "annotations": [], "preferences": []}
        for _ in range(self.rng.randrange(1, 5)):
            one = asked(self.rng, self.number())
            answers = [written(self.rng, one, self.number()) for _ in range(self.rng.randrange(1, 5))]
            rows["prompts"].append(one)
            rows["responses"] += answers
            rows["annotations"] += [said(self.rng, one, answers, self.number()) for _ in range(self.rng.randrange(4))]
            ids = [row["response_id"] for row in answers[:2]]
            common = {"group_id": one["group_id"], "prompt_id": one["prompt_id"], "response_ids": ids}
            rows["preferences"].append(preference(**common, scores=[1.0, 0.0][: len(ids)]))
        self.ds.add_import(rows, source="toy", fields={"n": self.count})

    def do_step(self) -> None:
        """A step that answers and judges some groups and drops some rows; or the same again, or one in its place."""
        prompts = self.ds.prompts.collect().to_dicts()
        step = f"sample@{self.rng.randrange(3)}"
        record = StepRecord(step=step, name="sample", kind="sample", fields={"n": 2})
        rows: dict[str, list[Row]] = {"responses": [], "annotations": [], "drops": [], "progress": []}
        for one in self.rng.sample(prompts, min(3, len(prompts))):
            answers = [written(self.rng, one, self.number()) for _ in range(2)]
            rows["responses"] += answers
            rows["annotations"].append(said(self.rng, one, answers, self.number()))
            if self.rng.random() < 0.5:
                rows["drops"].append(drop("responses", answers[0], reason="short"))
            note = {"pipeline": "p", "step": step, "group_id": one["group_id"], "digest": str(self.count)}
            rows["progress"].append(note)
        made = {table: [{"step": step, **row} for row in some] for table, some in rows.items() if some}
        self.ds.commit(made, "step", steps=[record], plan=Plan("p", (step,)))

    def do_label(self) -> None:
        answers = [row for row in self.ds.responses.collect().to_dicts() if row["text"]]
        if answers:
            one = self.rng.choice(answers)
            label = {"target_ids": [one["response_id"]], "protocol": "score", "annotator": "human:ann"}
            self.ds.label([{**label, "scores": [float(self.rng.randrange(5))]}])

    def do_label_prompt(self) -> None:
        ids = self.ds.prompts.collect()["prompt_id"].to_list()
        if ids:
            target = {"target": "prompt", "target_ids": [self.rng.choice(ids)], "protocol": "score"}
            self.ds.label([{**target, "annotator": "human:ben", "aspect": "difficulty", "scores": [3.0]}])

    def do_drop(self) -> None:
        self._decide(self.rng.choice(["prompts", "responses", "annotations", "preferences"]), restore=False)

    def do_restore(self) -> None:
        drops = self.ds.drops.collect().to_dicts()
        if drops:
            one = self.rng.choice(drops)
            self.ds.restore(one["table"], [one["id"]])

    def _decide(self, table: str, *, restore: bool) -> None:
        ids = self.ds.view()[table].collect()[KEYS[table]].to_list()
        if ids:
            self.ds.drop(table, [self.rng.choice(ids)], reason=self.rng.choice(["spam", "short"]))

    def go_on(self) -> None:
        names = ("import", "step", "step", "label", "label_prompt", "drop", "drop", "restore")
        getattr(self, f"do_{self.rng.choice(names)}")()


def in_edition(explorer: Explorer, table: str) -> pl.DataFrame:
    """A live table as a query sees it."""
    with explorer.tables(table) as tables:
        import duckdb

        with duckdb.connect(":memory:") as db:
            for name, path in tables.attach.items():
                db.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
            for statement in tables.views:
                db.execute(statement)
            frame = pl.from_arrow(db.sql(f'SELECT * FROM "{table}"').to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def expected(ds: Dataset, wanted: Filter) -> set[str]:
    """The groups that a filter of live rows should find, by plain loops over the view."""
    view = ds.view()
    prompts, responses, annotations = (
        view[table].collect().to_dicts() for table in ("prompts", "responses", "annotations")
    )
    found = set()
    for one in prompts:
        group = one["group_id"]
        turns = [turn["content"] for turn in one["messages"]]
        here = "\n".join([*turns, *([one["condition"]["text"]] if one["condition"] else [])])
        if wanted.source and one["source"] not in wanted.source:
            continue
        if wanted.tag and not set(one["tags"] or ()) & set(wanted.tag):
            continue
        answers = [row for row in responses if row["group_id"] == group]
        where = ("prompt", "response") if wanted.where == "any" else (wanted.where,)
        if any(_fits(wanted, place, here, answers, annotations, one) for place in where):
            found.add(group)
    return found


def _in(text: str | None, wanted: str) -> bool:
    return wanted.lower() in (text or "").lower()


def _fits(wanted: Filter, place: str, here: str, answers: list[Row], annotations: list[Row], about: Row) -> bool:
    if wanted.text and place == "prompt" and not _in(here, wanted.text):
        return False
    asks_response = bool(wanted.model or (wanted.text and place == "response"))
    fitting = {
        row["response_id"]
        for row in answers
        if (not wanted.model or row["model"] in wanted.model)
        and (place != "response" or not wanted.text or _in(row["text"], wanted.text))
    }
    asks_annotation = bool(
        wanted.annotator
        or wanted.aspect
        or wanted.status
        or wanted.label
        or wanted.outcome
        or wanted.low is not None
        or wanted.high is not None
        or (wanted.text and place == "rationale")
    )
    if not asks_annotation:
        return not asks_response or bool(fitting)
    own = {row["response_id"] for row in answers} | {about["prompt_id"]}
    among = fitting if asks_response else own
    return any(
        target in among and _said_so(wanted, place, row, position)
        for row in annotations
        for position, target in enumerate(row["target_ids"])
    )


def _said_so(wanted: Filter, place: str, row: Row, position: int) -> bool:
    score = row["scores"][position] if row["scores"] else None
    checks = [
        not wanted.annotator or row["annotator"] in wanted.annotator,
        not wanted.aspect or row["aspect"] in wanted.aspect,
        not wanted.status or row["status"] in wanted.status,
        not wanted.label or bool(set(row["labels"] or ()) & set(wanted.label)),
        wanted.low is None or (score is not None and score >= wanted.low),
        wanted.high is None or (score is not None and score <= wanted.high),
        not wanted.outcome or outcome(row, position) == wanted.outcome,
        not wanted.text or place != "rationale" or _in(row["text"], wanted.text),
    ]
    return all(checks)


def outcome(row: Row, position: int) -> str | None:
    """By hand: who stands alone on top has won, who shares the top has tied; of a choice all that were chosen won."""
    if row["protocol"] not in ("compare", "rank", "choose") or row["status"] != "ok" or row["scores"] is None:
        return None
    scores, own = row["scores"], row["scores"][position]
    if own < max(scores):
        return "lost"
    alone = scores.count(own) == 1 or (row["protocol"] == "choose" and len(set(scores)) > 1)
    return "won" if alone else "tied"


def filters(rng: random.Random) -> Filter:
    """A filter at random: a few of its fields."""
    some: dict[str, Any] = {
        "annotator": [rng.choice(ANNOTATORS)],
        "aspect": [rng.choice(["overall", "honesty", "difficulty"])],
        "status": [rng.choice(["ok", "skipped"])],
        "label": [rng.choice(["both_bad", "SAT"])],
        "outcome": rng.choice(["won", "lost", "tied"]),
        "low": float(rng.randrange(3)),
        "high": float(rng.randrange(3)),
        "source": [rng.choice(["web", "mail"])],
        "model": rng.choice([["m1"], ["m1", "m2"]]),
        "tag": rng.sample(["easy", "hard", "de"], 2),
    }
    taken = {name: some[name] for name in rng.sample(sorted(some), rng.randrange(3))}
    if rng.random() < 0.7:
        wanted = rng.choice([*WORDS, "harbour 100%", "STRASSE", "_", "%", "\\", "naÏve", "иже"])
        taken |= {"text": wanted, "where": rng.choice(["any", "prompt", "response", "rationale"])}
    return Filter(**taken)


@pytest.mark.parametrize("seed", range(4))
def test_an_edition_equals_the_view_whatever_was_done(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "ds", seed)
    explorer = Explorer(history.ds, tmp_path / "copies")
    for _ in range(4):
        for _ in range(3):
            history.go_on()
        explorer.refresh()
        live = history.ds.view()
        for table in TABLES:
            key = [KEYS[table]] if table in KEYS else ["id", "view", "reason", "restore"]
            frame, truth = in_edition(explorer, table), live[table].collect()
            if table == "token_scores":
                assert frame.height == truth.height == 0
                continue
            frame = frame.cast({name: kind for name, kind in truth.schema.items() if isinstance(kind, pl.Datetime)})
            assert_frame_equal(frame.sort(key), truth.sort(key))
        for _ in range(10):
            wanted = filters(history.rng)
            found = explorer.prompts(wanted, size=1000)
            assert {row["group_id"] for row in found.rows} == expected(history.ds, wanted), wanted
            assert found.total == len(found.rows)
        check_hidden(explorer, history.ds)
    explorer.close()
    assert list((tmp_path / "copies").iterdir()) == []


def check_hidden(explorer: Explorer, ds: Dataset) -> None:
    """Every row that a drop names is found as dropped, with its reason; what is neither live nor there is nowhere."""
    view = ds.view()
    dropped = {(row["table"], row["id"]): row["reason"] for row in view.dropped.to_dicts()}
    live = {table: set(view[table].collect()[KEYS[table]]) for table in ("prompts", "responses", "annotations")}
    found = {one["group_id"] for one in explorer.prompts(Filter(state="dropped"), size=1000).rows}
    failed = set()
    for row in explorer.prompts(Filter(state="any"), size=1000).rows:
        group = explorer.group(row["group_id"])
        failed |= {one["response_id"] for one in group.failed}
        for table, rows in (
            ("prompts", group.prompts),
            ("responses", group.responses),
            ("annotations", group.annotations),
        ):
            for one in rows:
                id = one[KEYS[table]]
                assert (one["state"] == "live") == (id in live[table])
                if one["state"] == "dropped":
                    assert one["reason"] == dropped[table, id]
                    assert one["drop_step"] in group.steps
        hidden = [one for one in (*group.prompts, *group.responses) if one["state"] != "live"]
        assert (row["group_id"] in found) == bool(hidden)
    assert {row["response_id"] for row in view.errors.to_dicts()} == failed


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    """Three prompts of three answers each, ranked by a person; the second's first answer dropped, and a label given."""
    ds = Dataset.create(tmp_path / "ds")
    rows: Rows = {"prompts": [], "responses": [], "annotations": [], "preferences": []}
    for n in range(3):
        one = prompt([message("user", f"Question {n}?")], source="web", tags=[f"t{n}"])
        answers = [response(one, model=f"m{k}", text=f"answer {k} to {n}", key=(n, k)) for k in range(3)]
        ids = [row["response_id"] for row in answers]
        common = {"group_id": one["group_id"], "prompt_id": one["prompt_id"]}
        rank = {"target_ids": ids, "protocol": "rank", "scores": [3.0, 2.0, 1.0], "text": f"because {n}"}
        rows["prompts"].append(one)
        rows["responses"] += answers
        rows["annotations"].append(annotation(**common, **rank, annotator="human:ann", source="human"))
        rows["preferences"].append(preference(**common, response_ids=ids[1:], scores=[2.0, 1.0]))
    ds.add_import(rows, source="toy", fields={"file": "toy.jsonl"})
    second = rows["responses"][3]["response_id"]
    ds.drop("responses", [second], reason="too rude")
    made = Explorer(ds, tmp_path / "copies")
    yield made
    made.close()


def excerpts(explorer: Explorer, **wanted: Any) -> list[str]:
    return [row["excerpt"] for row in explorer.prompts(Filter(**wanted)).rows]


def test_a_page_shows_what_there_is(explorer: Explorer) -> None:
    found = explorer.prompts(page=1, size=2)
    assert (found.total, found.page, found.commit) == (3, 1, 2)
    (row,) = found.rows
    assert row | {"group_id": ""} == {
        "group_id": "",
        "excerpt": "Question 2?",
        "source": "web",
        "tags": ["t2"],
        "responses": 3,
        "annotations": 1,
        "state": "live",
    }
    assert [row["responses"] for row in explorer.prompts().rows] == [3, 2, 3]


def test_filters_mean_what_they_say(explorer: Explorer) -> None:
    assert excerpts(explorer, text="QUESTION 1") == ["Question 1?"]
    assert excerpts(explorer, text="answer 0 to 1") == []  # dropped
    assert excerpts(explorer, text="answer 0 to 1", state="any") == ["Question 1?"]
    assert excerpts(explorer, state="dropped") == ["Question 1?"]
    assert excerpts(explorer, reason=["too rude"]) == ["Question 1?"]
    assert excerpts(explorer, reason=["too long"]) == []
    assert excerpts(explorer, text="because 2", where="rationale") == ["Question 2?"]
    assert excerpts(explorer, outcome="won", model=["m0"]) == ["Question 0?", "Question 2?"]
    assert excerpts(explorer, outcome="won", model=["m1"]) == ["Question 1?"]  # the first of those that are left
    assert excerpts(explorer, annotator=["human:nobody"]) == []
    assert excerpts(explorer, sql="model = 'm0' AND score = 3 AND 'human:ann' = annotator") == [
        "Question 0?",
        "Question 2?",
    ]
    assert excerpts(explorer, sql="prompt LIKE '%2?' -- a remark", source=["web"]) == ["Question 2?"]
    id = explorer.prompts(Filter(text="Question 2")).rows[0]["group_id"]
    group = explorer.group(id)
    for name in (id, group.responses[1]["response_id"].upper(), f" {group.annotations[0]['annotation_id']} "):
        assert excerpts(explorer, id=name) == ["Question 2?"]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("nothing = 1", "nothing"),
        ("true) OR (SELECT count(*) FROM read_text('/etc/passwd')", "file"),
        ("(SELECT content FROM read_text('/etc/passwd')) LIKE 'root%'", "file"),
        ("true); DROP TABLE prompts; SELECT (1", "3 statements"),
        ("'x'", "failed"),
    ],
)
def test_a_condition_runs_in_the_box(explorer: Explorer, condition: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        explorer.prompts(Filter(sql=condition))


def test_a_condition_finds_no_group_that_is_not_there(explorer: Explorer) -> None:
    assert excerpts(explorer, sql="false) UNION ALL SELECT 'x' WHERE (true") == []


def test_texts_with_quotes_are_only_texts(explorer: Explorer) -> None:
    for text in ("'", "' OR 1=1 --", "?", "$1", "\x00", "\ud800".encode("utf-8", "surrogatepass").decode("latin1")):
        assert excerpts(explorer, text=text, where="response") == []


def test_wrong_filters_are_refused_in_a_sentence() -> None:
    with pytest.raises(DataError, match="state is 'gone': it is one of live, dropped, any"):
        Filter(state="gone")
    with pytest.raises(DataError, match="model is a list"):
        Filter(model="m1")


def test_a_group_is_told_whole(explorer: Explorer) -> None:
    second = explorer.prompts(Filter(text="Question 1")).rows[0]["group_id"]
    group = explorer.group(second)
    assert [row["name"] for row in group.responses] == ["A", "B", "C"]
    assert [row["state"] for row in group.responses] == ["live", "live", "dropped"]  # what is hidden comes last
    assert group.responses[2]["reason"] == "too rude"
    assert group.responses[2]["drop_step"] == "labels:labels"
    (rank,) = group.annotations
    assert rank["targets"] == [("A", 2.0), ("B", 1.0)]
    assert [row["names"] for row in group.preferences] == [["A", "B"]]
    assert [(row["table"], row["reason"]) for row in group.drops] == [("responses", "too rude")]
    step = group.responses[0]["step"]
    assert group.steps[step] == {
        "name": "import:toy",
        "kind": "import",
        "fields": {"file": "toy.jsonl"},
        "inputs": [],
    }
    with pytest.raises(DataError, match="no prompt with the group id 'x'"):
        explorer.group("x")


def test_calls_are_shown_with_what_they_cost(tmp_path: Path) -> None:
    ds = Dataset.create(tmp_path / "ds")
    one = prompt([message("user", "Hm?")])
    answer = response(one, model="m", text="Yes.", key=0, call_id="c1")
    call = {"call_id": "c1", "step": "s", "engine": "e", "model": "m", "money": 0.5, "prompt_tokens": 7}
    ds.add_import({"prompts": [one], "responses": [answer]}, source="toy", fields={})
    ds.commit({"calls": [call]}, "calls")
    explorer = Explorer(ds, tmp_path / "copies")
    assert explorer.group(one["group_id"]).calls["c1"]["money"] == 0.5
    explorer.close()


def test_what_is_still_true_is_not_copied_again(explorer: Explorer) -> None:
    explorer.refresh()
    with explorer.edition() as before:
        texts, said = before.copies["texts"], before.copies["said"]
        target = explorer.dataset.responses.collect()["response_id"][0]
        label = {"target_ids": [target], "protocol": "score", "annotator": "human:ben", "scores": [1.0]}
        explorer.dataset.label([label])
        explorer.refresh()
        with explorer.edition() as after:
            assert after.number == before.number + 1
            assert after.copies["texts"] is texts and after.copies["said"] is not said
            assert said.path.exists()  # somebody still reads the old edition
            assert before.cursor().execute("SELECT count(*) FROM said.annotations").fetchall() == [(3,)]
    assert not said.path.exists() and texts.path.exists()
    assert len(excerpts(explorer, annotator=["human:ben"])) == 1


def test_the_old_edition_serves_while_the_next_is_made(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert excerpts(explorer, text="new") == []
    go, began = threading.Event(), threading.Event()
    import prefdata.ui.explorer.copying as module

    real = module.write_texts

    def slow(*given: Any) -> None:
        began.set()
        assert go.wait(10)
        real(*given)

    monkeypatch.setattr(module, "write_texts", slow)
    explorer.dataset.add_import({"prompts": [prompt([message("user", "A new one")])]}, source="toy", fields={})
    explorer._made_at = float("-inf")  # long ago
    assert excerpts(explorer, text="new") == []
    assert began.wait(10)
    assert explorer.state() == {"commit": 2, "newest": 3, "making": True, "failure": ""}
    assert excerpts(explorer, text="new") == []
    go.set()
    with explorer._making:
        pass
    assert excerpts(explorer, text="new") == ["A new one"]


def test_a_failure_in_the_background_is_said_and_the_old_edition_stays(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(excerpts(explorer)) == 3

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    explorer.dataset.drop("prompts", [explorer.prompts().rows[0]["group_id"]], reason="x")
    monkeypatch.setattr("prefdata.ui.explorer.copying.write_texts", full)
    explorer._refresh_quietly()
    assert "No space left" in explorer.state()["failure"]
    assert len(excerpts(explorer)) == 3
    assert len([path for path in explorer.folder.iterdir() if path.suffix]) == 2


def test_large_copies_are_made_by_a_process_of_their_own(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.ui.explorer.copying.LARGE", 0)
    monkeypatch.setattr("prefdata.ui.explorer.copying._write", lambda *given: pytest.fail("it was made here"))
    explorer.refresh()
    live = explorer.dataset.view()
    for table in ("prompts", "responses", "annotations"):
        key = KEYS[table]
        assert set(in_edition(explorer, table)[key]) == set(live[table].collect()[key])
    explorer.dataset.drop("prompts", [explorer.prompts().rows[0]["group_id"]], reason="x")
    for path in (explorer.dataset.path / "parts" / "responses").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="is gone"):
        explorer.refresh()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, explorer: Explorer) -> None:
    left = tmp_path / "copies" / "prefdata-explore-left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "texts.duckdb").write_text("old texts")
    other = tmp_path / "copies" / "something"
    other.mkdir()
    own = explorer.folder
    explorer.refresh()
    second = Explorer(explorer.dataset, tmp_path / "copies")
    assert second.folder != own
    assert own.exists() and other.exists() and not left.exists()
    second.close()


def test_copies_are_private(explorer: Explorer) -> None:
    explorer.refresh()
    assert explorer.folder.stat().st_mode & 0o077 == 0


def test_an_empty_dataset_can_be_explored(tmp_path: Path) -> None:
    explorer = Explorer(Dataset.create(tmp_path / "ds"), tmp_path / "copies")
    assert explorer.prompts(Filter(text="x")).total == 0
    assert explorer.choices()["annotator"] == []
    assert explorer.sandbox.run("SELECT count(*) FROM flat").rows == [[0]]
    explorer.close()


def test_names_go_on_after_z() -> None:
    assert [name_of(n) for n in (0, 1, 25, 26, 27, 701, 702)] == ["A", "B", "Z", "AA", "AB", "ZZ", "AAA"]


def test_views_name_every_table() -> None:
    assert len(views(TABLES)) == len(TABLES)
