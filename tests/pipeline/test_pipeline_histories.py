"""Random histories of edits, labels, deletions and crashes: the live view always equals a fresh run of the end."""

from __future__ import annotations

import contextlib
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pipeline_line import Line, base_steps

from prefdata.dataset import Dataset
from prefdata.errors import DataError

pytestmark = pytest.mark.slow

CRASH = RuntimeError("the machine went away")


class History(RuleBasedStateMachine):
    """One dataset through a history; its state is compared with a fresh dataset's after every complete run."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="prefdata-history-"))
        self.line = Line(self.folder, base_steps(self.folder / "prompts.jsonl"))
        self.labels: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.people: dict[str, bool] = {}
        self.complete = False
        self.texts = [f"What is {n} plus {n}, and why?" for n in range(3)]
        self.line.write_prompts(self.texts)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(shards=st.sampled_from([1, 3]))
    def first_run(self, shards: int) -> None:
        Dataset.create(self.line.path, shards=shards)  # the fresh run beside it has one
        self.run()

    def edit(self, name: str, **fields: Any) -> None:
        self.line.edit(name, **fields)
        self.complete = False

    @rule(gap=st.sampled_from([0.1, 1.0, 3.0]), policy=st.sampled_from(["best_worst", "all_pairs", "list"]))
    def edit_pair(self, gap: float, policy: str) -> None:
        self.edit("pair", min_gap=gap, rule=policy)

    @rule(keep=st.sampled_from(["n_tokens > 3", "n_tokens > 15", "n_tokens > 25"]))
    def edit_threshold(self, keep: str) -> None:
        self.edit("select.where", keep=keep)

    @rule(card=st.sampled_from(["helpfulness", "honesty"]))
    def edit_card(self, card: str) -> None:
        self.edit("judge.compare", card=card)

    @rule(pool=st.sampled_from([["a"], ["a", "b"], ["b"]]), n=st.sampled_from([2, 3]))
    def edit_pool(self, pool: list[str], n: int) -> None:
        self.edit("sample", engine=pool, n=n)

    @rule(count=st.integers(2, 4), start=st.integers(0, 1))
    def edit_prompts(self, count: int, start: int) -> None:
        self.texts = [f"What is {n} plus {n}, and why?" for n in range(start, start + count)]
        self.line.write_prompts(self.texts)
        self.complete = False

    @rule(
        pick=st.integers(0, 100), person=st.sampled_from(["human:x", "human:y"]), score=st.sampled_from([0.0, 0.5, 1.0])
    )
    def label(self, pick: int, person: str, score: float) -> None:
        pairs = [row for row in self.judged() if len(row["target_ids"]) == 2]
        if pairs:
            ids = sorted(pairs[pick % len(pairs)]["target_ids"])
            task = {"target_ids": ids, "protocol": "compare", "annotator": person, "scores": [score, 1 - score]}
            (made,) = self.line.ds.label([task])
            self.labels[(person, ",".join(ids))] = (made, task)
            self.complete = False

    @precondition(lambda self: self.labels)
    @rule(pick=st.integers(0, 100))
    def unlabel(self, pick: int) -> None:
        key = sorted(self.labels)[pick % len(self.labels)]
        self.line.ds.unlabel([self.labels.pop(key)[0]])
        self.complete = False

    @rule(pick=st.integers(0, 100), back=st.booleans())
    def drop_or_restore(self, pick: int, back: bool) -> None:
        ids = sorted(set(self.line.ds.rows("responses").collect()["response_id"]))
        if ids:
            one = ids[pick % len(ids)]
            (self.line.ds.restore if back else self.line.ds.drop)("responses", [one], reason="a person says so")
            self.people[one] = back
            self.complete = False

    @rule(after=st.integers(0, 6))
    def crash(self, after: int) -> None:
        """The process ends before a commit; what was committed stays."""
        with pytest.MonkeyPatch.context() as patch:
            real, made = Dataset.commit, []

            def commit(ds: Dataset, *args: Any, **options: Any) -> int:
                made.append(1)
                if len(made) > after:
                    raise CRASH
                return real(ds, *args, **options)

            patch.setattr(Dataset, "commit", commit)
            try:
                self.line.run()
            except BaseException as error:
                if CRASH not in (error, *getattr(error, "exceptions", ())):
                    raise
            else:
                self.complete = True

    @rule(limit=st.integers(1, 2))
    def run_some(self, limit: int) -> None:
        self.line.run(limit=limit)
        self.complete = False

    @rule()
    def run(self) -> None:
        self.line.run()
        self.complete = True

    def judged(self) -> list[dict[str, Any]]:
        return [row for row in self.line.ds.annotations.collect().to_dicts() if row["source"] == "judge"]

    @invariant()
    def equals_a_fresh_run(self) -> None:
        if not self.complete:
            return
        fresh = copy.deepcopy(self.line)
        fresh.dataset_name = "fresh"
        shutil.rmtree(fresh.path, ignore_errors=True)
        fresh.run()
        for _, task in self.labels.values():
            with contextlib.suppress(DataError):  # about responses that the last state does not have
                fresh.ds.label([task])
        for one, back in self.people.items():
            with contextlib.suppress(DataError):
                (fresh.ds.restore if back else fresh.ds.drop)("responses", [one], reason="a person says so")
        if self.labels or self.people:
            fresh.run()
        ours, theirs = self.line.live(), fresh.live()
        for table in ours:
            assert ours[table] == theirs[table], table


TestHistories = History.TestCase
TestHistories.settings = settings(
    max_examples=12, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
