"""What a plan pairs while scores are not there yet: never less than a run pairs, whatever the scores turn out to be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from operator_shapes import frame, response, run, said

from prefdata.operators.pair import Pair
from prefdata.operators.pair_planned import PlannedPair, scored
from prefdata.schema import Row

NAMES = list("abcd")
RESPONSES = [response(name, "the same text" if name in "cd" else name) for name in NAMES]
RULES = ["best_worst", "all_pairs", "adjacent", "best_vs_rest", "best_vs_random", "list"]

values = st.sampled_from([0.0, 0.3, 0.5, 1.0])
protocols = st.sampled_from(["compare", "score", "rank"])


def judged(protocol: str, targets: list[str], given_: list[float] | None, annotator: str) -> Row:
    if protocol == "compare" and given_ is not None:
        given_ = [given_[0], 1 - given_[0]]
    status = {"status": "unparsed"} if given_ is None else {}
    return said(targets, given_, protocol=protocol, annotator=annotator, **status)


@st.composite
def panels(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """What a panel says in the end, and the same while nothing of it is known."""
    done, open_ = [], []
    for number in range(draw(st.integers(1, 3))):
        protocol, annotator = draw(protocols), f"judge:{number}"
        if protocol == "score":
            lists = [[name] for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))]
        elif protocol == "rank":
            lists = [draw(st.permutations(NAMES))]
        else:
            lists = [["a", "b"], ["b", "a"], ["a", "c"]]
        for targets in lists:
            given_ = draw(st.lists(values, min_size=len(targets), max_size=len(targets)))
            done.append(judged(protocol, targets, given_, annotator))
            open_.append(judged(protocol, targets, None, annotator))
    return done, open_


def stated(step: Pair, rows: list[Row]) -> list[Row]:
    return list(run(step, annotations=rows, responses=RESPONSES)["preferences"])


@given(panels(), st.sampled_from(RULES), st.none() | st.integers(1, 2))
@settings(max_examples=80, deadline=None)
def test_a_plan_pairs_at_least_what_a_run_pairs(
    panel: tuple[list[Row], list[Row]], rule: str, most: int | None
) -> None:
    done, open_ = panel
    step = Pair(rule=rule, min_gap=0.1, max_per_prompt=most)
    planned = step.planned()
    assert isinstance(planned, PlannedPair) and planned.max_per_prompt == most
    for known in (done, open_):  # also where some of it is known already
        pairs = stated(planned, known)
        assert len(pairs) >= len(stated(step, done))
        assert rule != "list" or all(len(row["response_ids"]) == 2 for row in pairs)
    assert stated(step, open_) == []


def test_made_up_scores_are_never_equal() -> None:
    rows = [said(["a", "b", "c"], [1.0, 2.0, 2.0], protocol="rank"), judged("rank", list("abc"), None, "judge:y")]
    made = scored(frame("annotations", rows))
    assert set(made["status"]) == {"ok"} and made["scores"].list.n_unique().to_list() == [3, 3]
    assert scored(frame("annotations", [])).is_empty()
