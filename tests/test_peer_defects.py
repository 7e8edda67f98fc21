"""What goes wrong in released peers, each as a test that it does not go wrong here.

The peers' own behaviour was seen by running them (distilabel 1.5.3, bespoke curator 0.1.31) or read in their code
(open-instruct's synthetic preference scripts, UltraFeedback, alpaca_eval).
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import test_layout
from operators.operator_shapes import consensus, response, run, said
from pipeline.pipeline_line import Line, base_steps

from prefdata.annotators.parse import parse_scores
from prefdata.cards import Scale
from prefdata.engines.base import Reply, Request, RequestError
from prefdata.engines.client import Client, call_id_of
from prefdata.engines.registry import BaseEngine, EngineConfig, engine_from_config
from prefdata.operators.aggregate.mean import Mean
from prefdata.operators.pair import Pair
from prefdata.schema import message

ROOT = Path(__file__).resolve().parent.parent


# --- distilabel -------------------------------------------------------------------------------------------------------


def test_equal_ratings_make_no_pair_of_a_text_with_itself() -> None:
    """There, ratings [4, 4, 4] gave chosen "a" and rejected "a": the largest and the smallest are both the first."""
    responses = [response(name) for name in "abc"]
    rated = [said([name], [4.0], protocol="score", annotator="judge:x", criterion_id="c") for name in "abc"]
    assert not run(Pair(), responses=responses, annotations=rated)["preferences"]
    kept = run(Pair(ties="keep", rule="all_pairs"), responses=responses, annotations=rated)["preferences"]
    assert len(kept) == 3
    assert all(len(set(row["response_ids"])) == 2 for row in kept)


def test_a_rating_that_could_not_be_read_does_not_end_the_step() -> None:
    """There, ratings [4, None] raised TypeError and the step died with the whole batch."""
    rated = [
        said(["a"], [4.0], protocol="score", annotator="judge:x"),
        said(["b"], None, protocol="score", annotator="judge:x", status="unparsed"),
        said(["c"], [2.0], protocol="score", annotator="judge:x"),
    ]
    made = run(Pair(), responses=[response(name) for name in "abc"], annotations=rated)["preferences"]
    assert [row["response_ids"] for row in made] == [["a", "c"]]
    agreed = {row["target_ids"][0]: row["status"] for row in consensus(Mean(), rated) if len(row["target_ids"]) == 1}
    assert agreed.get("b", "abstain") == "abstain"


def test_a_blank_line_in_a_rationale_shifts_no_rating() -> None:
    """There, the answer was cut at blank lines: a rationale with one gave 3 ratings, [5, None, 1], for 2 responses."""
    scale = Scale(min=1, max=5)
    answer = json.dumps({"reason": "Clear.\n\nBut it is long.\n\nRating: 1", "scores": {"first": 5, "second": 2}})
    for text in (answer, json.dumps(json.loads(answer), indent=2), f"\n\n```json\n\n{answer}\n\n```\n\n"):
        read = parse_scores(text, {"first": scale, "second": scale})
        assert read is not None
        assert read.values == {"first": 5.0, "second": 2.0}


def test_every_module_that_an_import_needs_is_declared() -> None:
    """There, a fresh `pip install distilabel[openai]` failed at import for want of an undeclared `requests`."""
    test_layout.test_what_is_imported_is_required()


# --- curator ----------------------------------------------------------------------------------------------------------


def _openai(base_url: str) -> Any:
    return engine_from_config("judge", {"kind": "openai", "base_url": base_url, "model": "m"}, "here")


def test_another_system_turn_or_another_server_is_another_question() -> None:
    """There, two system prompts, and two base URLs, had one cache key: a changed prompt got the old answers."""
    asked = [
        Request("generate", messages=(message("system", system), message("user", "hello")))
        for system in ("Be brief.", "Be verbose.")
    ]
    engines = [_openai("http://127.0.0.1:1/v1"), _openai("http://127.0.0.1:2/v1")]
    assert len({call_id_of(engine, request) for engine in engines for request in asked}) == 4


def test_making_an_engine_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, it fetched a tokenizer and sent a probe to the provider for its rate limits."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    engine = _openai("https://models.example.invalid/v1")
    assert engine.model == "m"
    assert engine.identity


class _Stumbling(BaseEngine):
    """Fails every request twice before it answers, and counts how many it has in hand."""

    model = "stumbling"
    capabilities = frozenset({"generate"})
    free = True

    def __init__(self) -> None:
        super().__init__("judge", EngineConfig(max_concurrency=8, adaptive=False))
        self.tries: Counter[str] = Counter()
        self.inside = 0
        self.most: list[int] = []

    def identify(self) -> str:
        return "stumbling"

    async def ask(self, request: Request) -> Reply:
        text = str(request.messages[0]["content"])
        self.tries[text] += 1
        self.inside += 1
        self.most.append(self.inside)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.inside -= 1
        if self.tries[text] <= 2:
            raise RequestError("try again", retriable=True)
        return Reply(text="yes")


def test_retries_give_their_places_back() -> None:
    """There, the retry loop took a permit even with nothing to retry and never gave it back: all went slower and
    slower, down to one request at a time."""
    engine = _Stumbling()

    async def all_of_them() -> list[str]:
        async def no_wait(_: float) -> None:
            await asyncio.sleep(0)

        client = Client({"judge": engine}, None, "run", sleep=no_wait)
        requests = [Request("generate", messages=(message("user", str(n)),)) for n in range(120)]
        answers = await asyncio.gather(*(client.ask("judge", request, step="s@1") for request in requests))
        return [answer.status for answer in answers]

    assert asyncio.run(all_of_them()) == ["ok"] * 120
    assert set(engine.tries.values()) == {3}
    assert max(engine.most) == 8
    assert max(engine.most[-60:]) == 8


# --- open-instruct's synthetic preferences ----------------------------------------------------------------------------


@pytest.mark.parametrize("wins", ["a", "b"])
def test_the_verdict_decides_which_is_chosen(wins: str) -> None:
    """There, the test `preferred == 0 and shuffled == 1 and preferred == 1 ...` can never hold, so that the first
    response was always the chosen one, whatever the judge said."""
    responses = [response("a"), response("b")]
    votes = [
        said(["a", "b"], [1.0, 0.0] if wins == "a" else [0.0, 1.0]),
        said(["b", "a"], [0.0, 1.0] if wins == "a" else [1.0, 0.0]),
    ]
    made = run(Pair(), responses=responses, annotations=votes)["preferences"]
    assert {row["response_ids"][0] for row in made} == {wins}


def test_what_could_not_be_read_is_averaged_into_nothing() -> None:
    """There, an unparseable rating became -1 and went into the mean."""
    rated = [
        said(["a"], [4.0], protocol="score", annotator="judge:x"),
        said(["a"], None, protocol="score", annotator="judge:y", status="unparsed"),
        said(["a"], None, protocol="score", annotator="judge:z", status="refused"),
    ]
    (row,) = consensus(Mean(), rated)
    assert row["scores"] == [4.0]


def test_a_second_run_makes_the_same_pairs(tmp_path: Path) -> None:
    """There, the rejected response was drawn by an unseeded generator."""
    made = []
    for name in ("one", "two"):
        line = Line(tmp_path, base_steps(tmp_path / "prompts.jsonl"), dataset_name=name)
        line.write_prompts(f"What is {n} plus {n}, and why?" for n in range(6))
        line.edit("pair", rule="best_vs_random", min_gap=0.0)
        line.run()
        rows = line.ds.view()["preferences"].collect()
        made.append(sorted(map(tuple, rows["response_ids"].to_list())))
    assert made[0] == made[1] != []


def test_a_tie_does_not_go_to_whoever_stands_first() -> None:
    """There, equal ratings went to the lowest index. Here two equal best ones are not told apart by their place."""
    rated = [
        said([name], [score], protocol="score", annotator="judge:x")
        for name, score in (("a", 5.0), ("b", 5.0), ("c", 1.0))
    ]
    made = run(Pair(rule="all_pairs"), responses=[response(name) for name in "abc"], annotations=rated)["preferences"]
    assert sorted(map(tuple, (row["response_ids"] for row in made))) == [("a", "c"), ("b", "c")]


# --- UltraFeedback, alpaca_eval ---------------------------------------------------------------------------------------


def test_a_one_is_never_read_out_of_a_ten() -> None:
    """There, a regular expression read "1" from "10" in 2,628 rows, which a script then had to repair."""
    ten, five = {"overall": Scale(min=1, max=10)}, {"overall": Scale(min=1, max=5)}
    read = parse_scores('{"scores": {"overall": 10}}', ten)
    assert read is not None
    assert read.values == {"overall": 10.0}
    off = parse_scores('{"scores": {"overall": 10}}', five)
    assert off is None or off.values == {}


def test_one_answer_that_cannot_be_read_costs_no_other_row(tmp_path: Path) -> None:
    """There, parse errors dropped all rows and the result was NaN; in another release rows vanished uncounted."""
    line = Line(tmp_path, base_steps(tmp_path / "prompts.jsonl"))
    line.engines["judge"]["prose_every"] = 5
    line.write_prompts(f"What is {n} plus {n}?" for n in range(6))
    line.remove("select.where")
    line.run()
    rows = line.ds.view()["annotations"].collect()
    judged = rows.filter(rows["source"] == "judge")
    assert judged.height == 6 * 3 * 2  # every prompt, three pairs, both orders: nothing is missing
    counts = Counter(judged["status"].to_list())
    assert 0 < counts["unparsed"] < judged.height
    assert judged["scores"].null_count() == counts["unparsed"]


def test_importing_prefdata_sends_nothing() -> None:
    """Some peers send telemetry unless told not to, or ask the hub at import."""
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n"
        "import prefdata, prefdata.cli, prefdata.annotators\nfrom prefdata.pipeline.spec import recipes\nrecipes()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
