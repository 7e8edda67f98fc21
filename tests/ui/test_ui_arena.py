"""The arena: anonymous until the vote, one vote a battle, what is kept, ratings against hand numbers, and the page."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import person, service

from prefdata.engines import BaseEngine, EngineConfig, Reply, Request, RequestCache, RequestError
from prefdata.engines.cache import CacheEntry
from prefdata.engines.scripted import ScriptedConfig, ScriptedEngine
from prefdata.errors import DataError, EngineError, PrefdataError
from prefdata.ui.accounts.people import NotAllowed, Person
from prefdata.ui.arena.arena import Arena
from prefdata.ui.arena.battles import CHOICES, SHOWN, Seen, gives_away
from prefdata.ui.arena.file import Settings
from prefdata.ui.arena.leaderboard import Game, board_of
from prefdata.ui.pages import arena_html as shown
from prefdata.ui.service import Service

MODELS = ("granite-sparrow", "velvet-otter", "copper-finch")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> ${alert(3)} {{4}} [a](javascript:x)"


class Says(BaseEngine):
    """Says what it is told; an exception is raised."""

    capabilities = frozenset({"generate"})
    free = True

    def __init__(self, model: str, *said: str | Exception) -> None:
        super().__init__(model, EngineConfig())
        self.model, self.said, self.asked = model, list(said), 0

    def identify(self) -> str:
        return f"says:{self.model}"

    async def ask(self, request: Request) -> Reply:
        said = self.said[min(self.asked, len(self.said) - 1)]
        self.asked += 1
        if isinstance(said, Exception):
            raise said
        return Reply(text=said, prompt_tokens=3, completion_tokens=2)


def scripted(*models: str, latency: float = 0.0) -> dict[str, Any]:
    return {
        f"engine-{n}": ScriptedEngine(f"engine-{n}", ScriptedConfig(model=model, latency=latency))
        for n, model in enumerate(models)
    }


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Service]:
    opened = service(tmp_path / "ds")
    yield opened
    opened.close()


@pytest.fixture
def open_arena(made: Service) -> Iterator[Callable[..., Arena]]:
    opened: list[Arena] = []

    def open_(engines: dict[str, Any] | None = None, **given: Any) -> Arena:
        opened.append(Arena(made, engines or scripted(*MODELS), **given))
        return opened[-1]

    yield open_
    for arena in opened:
        arena.close()


def watched(arena: Arena, who: Person, battle: str) -> list[Seen]:
    async def work() -> list[Seen]:
        return [seen async for seen in arena.stream(who, battle)]

    return asyncio.run(work())


def fought(arena: Arena, who: Person, text: str = "Why is the sky blue?") -> str:
    battle = arena.start(who, text)
    assert watched(arena, who, battle)[-1].state == "ready"
    return battle


def votes(made: Service) -> pl.DataFrame:
    return made.dataset.rows("annotations").filter(pl.col("step") == "labels:arena").collect()


# Battles


def test_a_vote_is_an_annotation_beside_its_prompt_answers_and_calls(
    made: Service, open_arena: Callable[..., Arena]
) -> None:
    arena, ann = open_arena(), person(made)
    battle = fought(arena, ann, "Why is\nthe sky blue?")
    told = arena.vote(ann, battle, "b")
    assert told.state == "voted" and told.models is not None and told.left_out == ""
    (vote,) = votes(made).to_dicts()
    assert (vote["protocol"], vote["source"], vote["status"]) == ("compare", "human", "ok")
    assert vote["annotator"] == f"human:{ann.pseudonym}" and vote["scores"] == [0.0, 1.0] and vote["labels"] is None
    assert json.loads(vote["meta"]) == {"arena": True, "battle": battle, "vote": "b", "counts": True}
    responses = {row["response_id"]: row for row in made.dataset.responses.collect().to_dicts()}
    left, right = (responses[one] for one in vote["target_ids"])
    assert (left["model"], right["model"]) == told.models
    assert [left["text"], right["text"]] == [pane.text for pane in told.panes]
    (asked,) = made.dataset.prompts.filter(pl.col("source") == "arena").collect().to_dicts()
    assert asked["messages"][0]["content"] == "Why is\nthe sky blue?" and asked["prompt_id"] == vote["prompt_id"]
    assert asked["user_id"] == f"human:{ann.pseudonym}"
    wait_for(lambda: made.dataset.calls.collect().height == 2)
    calls = {row["call_id"]: row for row in made.dataset.calls.collect().to_dicts()}
    for row in (left, right):
        params = json.loads(row["params"])
        assert params["identity"].startswith(f"scripted:{row['model']}@") and params["temperature"] == 0.7
        call = calls[row["call_id"]]
        assert call["model"] == row["model"] and call["completion_tokens"] == row["n_tokens"] and call["raw"] is None


def wait_for(reached: Callable[[], bool]) -> None:
    for _ in range(500):
        if reached():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_becomes_its_scores(made: Service, open_arena: Callable[..., Arena], choice: str) -> None:
    arena, ann = open_arena(), person(made)
    arena.vote(ann, fought(arena, ann), choice)
    (vote,) = votes(made).to_dicts()
    assert tuple(vote["scores"]) == CHOICES[choice]
    assert vote["labels"] == (["both_bad"] if choice == "both_bad" else None)
    assert arena.leaderboard().games == 1


def test_a_battle_is_voted_on_once_however_often_it_is_sent(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann = open_arena(), person(made)
    battle = fought(arena, ann)

    def vote(choice: str) -> object:
        try:
            return arena.vote(ann, battle, choice)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(vote, ["a", "b", "tie", "both_bad"] * 4))
    assert sum(isinstance(one, Seen) for one in said) == 1
    assert Counter(one for one in said if isinstance(one, str)).popitem()[0].startswith("you have voted")
    assert votes(made).height == 1


def test_a_vote_is_acknowledged_only_when_it_is_written(
    made: Service, open_arena: Callable[..., Arena], monkeypatch: pytest.MonkeyPatch
) -> None:
    arena, ann = open_arena(), person(made)
    battle = fought(arena, ann)

    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(arena.dataset, "label", full)
        with pytest.raises(DataError, match="No space left on device"):
            arena.vote(ann, battle, "a")
    assert arena.seen(ann, battle).models is None and arena.vote(ann, battle, "a").models is not None


def test_a_person_touches_only_their_own_battle(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann, other = open_arena(), person(made), person(made, "admin")
    battle = fought(arena, ann)
    for touch in (
        lambda: arena.seen(other, battle),
        lambda: arena.vote(other, battle, "a"),
        lambda: watched(arena, other, battle),
        lambda: arena.seen(other, "no such battle"),
    ):
        with pytest.raises(DataError, match="this battle is over"):
            touch()
    assert arena.current(other) is None
    with pytest.raises(DataError, match="a vote is one of"):
        arena.vote(ann, battle, "left")


def test_nobody_votes_before_both_answers_are_there(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann = open_arena(scripted("slow-one", "slow-two", latency=0.5)), person(made)
    battle = arena.start(ann, "Why?")
    with pytest.raises(DataError, match="both answers"):
        arena.vote(ann, battle, "a")
    with pytest.raises(DataError, match="still running"):
        arena.start(ann, "And why not?")
    seen = watched(arena, ann, battle)
    lengths = [[len(one.panes[side].text) for one in seen] for side in (0, 1)]
    assert all(len(set(grown)) > 3 and grown == sorted(grown) for grown in lengths)
    again = arena.current(ann)
    assert again is not None and again.battle == battle  # the page was loaded again
    assert arena.start(ann, "Next") != battle  # given up without a vote
    with pytest.raises(DataError, match="over"):
        arena.vote(ann, battle, "a")


def test_limits(made: Service, open_arena: Callable[..., Arena]) -> None:
    now = [1000.0]
    arena = open_arena(settings=Settings(an_hour=3, expire=600), clock=lambda: now[0])
    ann, other = person(made), person(made)
    for text, says in (("", "write a prompt"), (" \n ", "write a prompt"), ("x" * 20_001, "at most 20,000")):
        with pytest.raises(DataError, match=says):
            arena.start(ann, text)
    for _ in range(3):
        battle = fought(arena, ann, "x" * 20_000)
    with pytest.raises(DataError, match=r"3 battles an hour .* in 61 minutes"):
        arena.start(ann, "one more")
    fought(arena, other)
    now[0] += 601
    with pytest.raises(DataError, match="over"):
        arena.vote(ann, battle, "a")
    now[0] += 3600
    arena.vote(ann, fought(arena, ann, "half a \ud800 pair"), "tie")
    made.people.set(ann.person_id, state="paused")
    paused = next(one for one in made.people.list() if one.person_id == ann.person_id)
    with pytest.raises(NotAllowed, match="paused"):
        arena.start(paused, "Why?")


def test_nothing_tells_the_models_before_the_vote(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann = open_arena(scripted(*MODELS, latency=0.2)), person(made)
    battle = arena.start(ann, "Why is the sky blue?")
    told = watched(arena, ann, battle)
    pages = [page for one in told for page in (repr(one), shown.said(one), shown.asked(one), *shown.sides(one))]
    secret = [*MODELS, *(f"engine-{n}" for n in range(3)), "scripted"]
    assert len(told) > 1 and not [name for name in secret for page in pages if name in page]
    assert not [name for name in secret if name in shown.board(arena.leaderboard())]
    after = arena.vote(ann, battle, "a")
    assert after.models is not None and all(
        name in page for name, page in zip(after.models, shown.sides(after), strict=True)
    )


def test_sides_and_pairs_are_balanced(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann = open_arena(), person(made)
    n = 3000
    drawn = Counter(tuple(side.model for side in arena._made(ann, "Why?").sides) for _ in range(n))
    assert set(drawn) == {(a, b) for a in MODELS for b in MODELS if a != b}
    spread = 5 * math.sqrt(n * (1 / 6) * (5 / 6))  # five standard deviations
    assert all(abs(count - n / 6) < spread for count in drawn.values())


# What does not count


@pytest.mark.parametrize(
    ("said", "why", "status"),
    [
        (RequestError("boom"), "answer failed", "skipped"),
        (ValueError("a bug in a plugin"), "answer failed", "skipped"),
        (EngineError("the key is rejected"), "answer failed", "skipped"),
        (" \n", "answer is empty", "skipped"),
        ("I am Granite, at your service", "names its own model", "ok"),
    ],
)
def test_a_battle_that_does_not_count_is_kept_and_marked(
    made: Service, open_arena: Callable[..., Arena], said: Any, why: str, status: str
) -> None:
    engines = {"one": Says("granite-sparrow", said), "two": Says("velvet-otter", "because")}
    arena, ann = open_arena(engines), person(made)
    battle = fought(arena, ann)
    seen = arena.seen(ann, battle)
    assert "granite" not in repr(seen) or status == "ok"
    assert "boom" not in repr(seen) and seen.left_out == ""
    told = arena.vote(ann, battle, "a")
    assert why in told.left_out
    (vote,) = votes(made).to_dicts()
    meta = json.loads(vote["meta"])
    assert vote["status"] == status and not meta["counts"] and why in meta["left_out"] and meta["vote"] == "a"
    assert (vote["scores"] is None) == (status == "skipped")
    assert arena.leaderboard().games == 0
    assert isinstance(said, Exception) or arena.leaderboard().left_out == 1


@pytest.mark.parametrize(
    ("text", "model", "away"),
    [
        ("I am Qwen, made by ...", "Qwen/Qwen2.5-0.5B-Instruct", True),
        ("As qwen2.5 I say", "Qwen/Qwen2.5-0.5B-Instruct", True),
        ("Ask GPT-4o!", "gpt-4o-mini", True),
        ("(smollm2-135m-instruct)", "smollm2-135m-instruct", True),
        ("Here is an instruction for a mini chat model.", "meta-llama/Llama-3-chat-mini-instruct", False),
        ("The meta level", "meta-llama/Llama-3.1-8B", False),
        ("A philosopher's egptian", "phi-3-gpt", False),
        ("o1 is a name of two letters", "o1", False),
        ("i'm command, an assistant", "command-r", True),
        ("run this command now", "command-r", False),
        ("run this command-r now", "command-r", True),
        ("", "x", False),
    ],
)
def test_a_model_that_gives_itself_away(text: str, model: str, away: bool) -> None:
    assert gives_away(text, model) is away


def test_an_engine_that_was_out_of_order_is_asked_again(
    made: Service, open_arena: Callable[..., Arena], caplog: pytest.LogCaptureFixture
) -> None:
    engines = {"one": Says("one-a", EngineError("no such model"), "back again"), "two": Says("two-b", "because")}
    arena, ann = open_arena(engines), person(made)
    first = arena.seen(ann, fought(arena, ann))
    second = arena.seen(ann, fought(arena, ann))
    assert [any(pane.failed for pane in seen.panes) for seen in (first, second)] == [True, False]
    assert "'one' gave no answer: no such model" in caplog.text  # for whoever runs it, not for the page


def test_an_answer_that_takes_too_long_has_failed(made: Service, open_arena: Callable[..., Arena]) -> None:
    engines = {**scripted("slow-one", latency=3.0), "two": Says("two-b", "because")}
    arena, ann = open_arena(engines, settings=Settings(patience=0.2)), person(made)
    seen = arena.seen(ann, fought(arena, ann))
    assert sorted(pane.failed for pane in seen.panes) == [False, True] and "" in [pane.text for pane in seen.panes]


def test_what_was_paid_for_when_the_application_was_killed_is_stated(
    made: Service, open_arena: Callable[..., Arena], tmp_path: Path
) -> None:
    cache = RequestCache(tmp_path / "cache")
    reply, payer = Reply(text="x"), f"arena/{made.dataset.uid}/killed"
    lost = CacheEntry(reply, 0.5, 1.0, 1, 1e9, payer, 7, 3, None, "labels:arena", "engine-0", MODELS[0])
    cache.put_all([("c" * 32, lost)])
    arena, ann = open_arena(cache=cache), person(made)
    fought(arena, ann)
    wait_for(lambda: made.dataset.calls.collect().height == 3)
    calls = made.dataset.calls.collect()
    assert calls["call_id"].n_unique() == 3
    assert calls.filter(pl.col("call_id") == "c" * 32)["money"].to_list() == [0.5]
    fought(arena, ann)
    wait_for(lambda: made.dataset.calls.collect().height == 5)


# The leaderboard


def games(*results: tuple[str, str, float, int]) -> list[Game]:
    return [Game(left, right, score) for left, right, score, count in results for _ in range(count)]


def test_three_of_four_is_a_gap_of_191_points() -> None:
    found = board_of(games(("A", "B", 1.0, 2), ("B", "A", 0.0, 1), ("A", "B", 0.0, 1)))
    first, second = found.standings
    assert first.model == "A" and first.rating - second.rating == pytest.approx(400 * math.log10(3)) == pytest.approx(
        190.848502
    )
    assert (first.games, first.wins, first.ties, first.losses) == (4, 3, 0, 1)
    assert first.rating + second.rating == pytest.approx(2000) and found.exact
    # The information of four games at p = 3/4 is 4 * 3/16; each of two strengths that sum to zero moves by half.
    half = 1.959963984540054 * (400 / math.log(10)) * math.sqrt(1 / 0.75) / 2
    assert first.high - first.rating == pytest.approx(half) == pytest.approx(first.rating - first.low)


def test_three_models_have_the_ratings_of_the_hand() -> None:
    played = games(
        ("A", "B", 1.0, 3), ("B", "A", 1.0, 1), ("B", "C", 1.0, 2), ("B", "C", 0.0, 2),
        ("C", "A", 0.0, 4), ("A", "C", 0.0, 1),
    )  # fmt: skip
    found = board_of(played, 2)
    assert [one.model for one in found.standings] == ["A", "B", "C"]
    assert [one.rating for one in found.standings] == pytest.approx([1144.619582, 934.661427, 920.718991])
    assert found.wins[("A", "C")] == (0.8, 5) and found.wins[("C", "A")] == (pytest.approx(0.2), 5)
    assert found.left_out == 2 and found.games == 13 and found.left_share == pytest.approx(6 / 13)


def test_ties_and_both_bad_are_half_a_win_each() -> None:
    tied = board_of([Game("A", "B", 0.5), Game("A", "B", 0.5, both_bad=True)])
    assert [one.rating for one in tied.standings] == pytest.approx([1000, 1000]) and tied.left_share is None
    assert all((one.wins, one.ties, one.losses) == (0, 2, 0) and one.rank == 1 for one in tied.standings)
    mixed = board_of([*games(("A", "B", 1.0, 1), ("A", "B", 0.0, 1)), Game("A", "B", 0.5)])
    assert [one.rating for one in mixed.standings] == pytest.approx([1000, 1000])


def test_a_model_that_won_everything_has_a_finite_rating_and_a_rank_when_it_is_sure() -> None:
    once, often = board_of(games(("A", "B", 1.0, 1))), board_of(games(("A", "B", 1.0, 60), ("B", "A", 1.0, 3)))
    assert not once.exact and all(math.isfinite(one.high) for one in once.standings)
    assert [one.rank for one in once.standings] == [1, 1] and [one.rank for one in often.standings] == [1, 2]
    assert board_of([]).standings == ()


def test_among_many_models_one_lucky_pair_is_not_a_rank() -> None:
    names = [f"m{number:02}" for number in range(12)]
    pairs = [(one, other) for one in names for other in names if one < other]
    even = games(*((one, other, score, 20) for one, other in pairs for score in (1.0, 0.0)))
    # One difference in 66 is 2.3 of its own errors.
    assert {one.rank for one in board_of([*even, *games(("m00", "m11", 1.0, 40))]).standings} == {1}
    sure = board_of([*even, *games(("m00", "m11", 1.0, 400))]).standings
    assert (sure[0].model, sure[0].rank, sure[-1].model) == ("m00", 1, "m11") and sure[-1].rank > 1


RESULTS = st.lists(
    st.tuples(st.permutations(["A", "B", "C"]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30
)


@given(results=RESULTS, seed=st.integers(0, 10))
def test_ratings_know_neither_order_nor_sides_nor_names(results: list[Any], seed: int) -> None:
    played = [Game(names[0], names[1], score) for names, score in results]
    found = {one.model: one.rating for one in board_of(played).standings}
    assert sum(found.values()) == pytest.approx(1000 * len(found))
    shuffled = random.Random(seed).sample(played, len(played))
    turned = [Game(game.right, game.left, 1 - game.score) for game in shuffled]
    assert {one.model: one.rating for one in board_of(turned).standings} == pytest.approx(found)
    renamed = [Game(f"x{game.left}", f"x{game.right}", game.score) for game in played]
    assert {one.model[1:]: one.rating for one in board_of(renamed).standings} == pytest.approx(found)


def test_the_leaderboard_follows_the_dataset(made: Service, open_arena: Callable[..., Arena]) -> None:
    arena, ann, bob = open_arena(scripted("one-a", "two-b")), person(made), person(made)
    for who in (ann, bob, ann):
        battle = fought(arena, who)
        left = arena.vote(who, battle, "a")
        assert left.models is not None
    assert arena.leaderboard().games == 3 and arena.leaderboard().left_share == 1.0
    made.dataset.unlabel(votes(made)["annotation_id"].to_list()[:1], store="arena")
    assert arena.leaderboard().games == 2


# The file


def test_engines_come_from_a_pipelines_file(
    made: Service, open_arena: Callable[..., Arena], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "from-the-environment")
    path = tmp_path / "pipe.yaml"
    path.write_text(
        "engines:\n  one: {kind: scripted, model: '${MODEL}'}\n  two: {kind: scripted, model: '${NONE:-other}'}\n"
        "steps:\n  - no-such-step: {x: '${NOT_SET}'}\n"
    )
    arena = Arena.open(made, path)
    assert sorted(engine.model for engine in arena._engines.values()) == ["from-the-environment", "other"]
    path.write_text(path.read_text() + "arena: {an_hour: 5, max_tokens: 9}\n")
    assert Arena.open(made, path).settings == Settings(an_hour=5, max_tokens=9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("engines: [", "line 1"),
        ("steps: []", "has no engines"),
        ("engines: {one: scripted}", "engine 'one': it is written"),
        ("engines: {one: {kind: scripted, model: a}}", "at least two models"),
        ("engines: {one: {kind: scripted}, two: {kind: scripted}}", "both the model 'scripted'"),
        ("engines: {one: {kind: scripted, model: '${NOT_SET_AT_ALL}'}}", "NOT_SET_AT_ALL is not set"),
        ("engines: {one: {kind: openai, model: a, api_key: sk-secret-secret}}", "there is no key 'api_key'"),
        ("engines: {a: {kind: scripted, model: a}, b: {kind: scripted, model: b}}\narena: {hours: 3}", "hours"),
        ("engines: {a: {kind: scripted, model: a}, b: {kind: scripted, model: b}}\narena: [1]", "arena is a mapping"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_without_values(
    made: Service, tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "engines.yaml"
    path.write_text(text)
    with pytest.raises(PrefdataError, match=says) as error:
        Arena.open(made, path)
    assert "secret" not in str(error.value)


# The page


def test_there_is_no_page_without_engines(made: Service) -> None:
    from prefdata.ui.pages.arena import build

    assert build(made) is None


def events(arena: Arena | Any, allowed: Callable[..., Any]) -> list[Any]:
    from prefdata.ui.pages.arena import build

    blocks = build(SimpleNamespace(arena=arena, allowed=allowed))  # type: ignore[arg-type]
    assert blocks is not None
    return [one for one in blocks.fns.values() if one.fn is not None]


def test_every_event_asks_first_who_is_there() -> None:
    gr = pytest.importorskip("gradio")
    asked: list[tuple[object, str]] = []

    def allowed(request: object, role: str) -> None:
        asked.append((request, role))
        raise NotAllowed("this page is for <annotators>")

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

    found = events(Untouched(), allowed)
    assert len(found) == 7
    for event in found:
        first = next(iter(inspect.signature(event.fn).parameters.values()))
        assert (first.name, first.annotation) == ("request", gr.Request)
        assert event.api_visibility == "private" and event.concurrency_limit is None

        async def run(event: Any = event) -> None:
            async for _ in event.fn("request", *([None] * len(event.inputs))):
                raise AssertionError("it went on")

        with pytest.raises(gr.Error) as refused:
            asyncio.run(run())
        assert refused.value.message == "this page is for &lt;annotators&gt;"
    assert asked == [("request", "annotator")] * len(found)


@pytest.mark.parametrize("given", [None, 3, ["x"], {"a": 1}, True])
def test_what_the_browser_sends_may_be_anything(made: Service, open_arena: Callable[..., Arena], given: Any) -> None:
    gr = pytest.importorskip("gradio")
    ann = person(made)
    for event in events(open_arena(), lambda request, role: ann):
        if not event.inputs:
            continue

        async def run(event: Any = event) -> AsyncIterator[Any]:
            return [made async for made in event.fn("request", given)]  # type: ignore[return-value]

        with pytest.raises(gr.Error):
            asyncio.run(run())  # type: ignore[arg-type]


def test_what_models_write_is_never_markup(made: Service, open_arena: Callable[..., Arena]) -> None:
    engines = {"one": Says("one-<b>", HOSTILE), "two": Says("two-<i>", "x" * (SHOWN + 1))}
    arena, ann = open_arena(engines), person(made)
    battle = fought(arena, ann, HOSTILE)
    now = arena.vote(ann, battle, "a")
    pages = [*shown.sides(now), shown.asked(now), shown.said(now), shown.board(arena.leaderboard())]
    for page in pages:
        assert not any(bad in page for bad in ("<script", "<img", "<b>o", "<i>", "href=", "<a "))
    assert "Only the first 40,000 characters" in "".join(pages) and "one-&lt;b&gt;" in "".join(pages)
