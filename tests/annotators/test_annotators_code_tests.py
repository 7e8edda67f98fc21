"""judge.tests: how tests are read and taken apart, and what the step says of code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeContext
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.annotators import sandbox
from prefdata.annotators.cases import Suite, SuiteError, _read, _value, code_of, read_tests
from prefdata.annotators.code_tests import CodeTests
from prefdata.annotators.sandbox import Ended
from prefdata.annotators.sandbox.harness import _plain
from prefdata.errors import PipelineError
from prefdata.pipeline.plan import plan
from prefdata.pipeline.step import Group
from prefdata.schema import Row, message, prompt, response

held = pytest.mark.skipif(sandbox.refusal() is not None, reason="no sandbox here")

DOUBLE = {"function": "double", "tests": "assert double(0) == 0\nassert double(4) == 8\nassert double(-3) == -6"}


class TestCodeOf:
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("def f(): pass", "def f(): pass"),
            ("Here:\n```python\na = 1\n```\nDone.", "a = 1\n"),
            ("```python\na = 1\n```\nor\n```py\nb = 2\n```", "b = 2\n"),
            ("```python\na = 1\n```\nIt prints\n```\n1\n```", "a = 1\n"),
            ("```\na = 1\n```", "a = 1\n"),
            ("```python\na = 1", "a = 1"),
            ("~~~python\na = '```'\n~~~", "a = '```'\n"),
            ("````python\na = '''\n```\n'''\n````", "a = '''\n```\n'''\n"),
            ("```json\n{}\n```", "{}\n"),
            ("", ""),
        ],
    )
    def test_it_is_the_last_block_of_python(self, text: str, code: str) -> None:
        assert code_of(text) == code


class TestRead:
    def test_an_assert_with_a_value_is_taken_apart_and_the_value_stays_here(self) -> None:
        tests = read_tests("import math\nassert f(2) == [1, {'a': (2, None)}]\nassert f(1) is True, 'why'")
        assert [check.source for check in tests.checks] == ["import math", "f(2)", "f(1)"]
        assert [check.counts for check in tests.checks] == [False, True, True]
        compare = tests.checks[1].compare
        assert compare is not None
        assert compare([1, {"a": (2, None)}])
        assert not compare([1, {"a": [2, None]}])
        is_true = tests.checks[2].compare
        assert is_true is not None
        assert (is_true(True), is_true(1)) == (True, False)

    @pytest.mark.parametrize(
        ("test", "right", "wrong"),
        [
            ("assert 3 < f()", 4, 3),
            ("assert f() != 3", 4, 3),
            ("assert f() in (1, 2)", 2, 3),
            ("assert f() not in [1, 2]", 3, 1),
            ("assert not f()", False, True),
            ("assert f()", True, False),
            ("assert abs(f() - 3) < 1e-6", 0.0, 0.1),
        ],
    )
    def test_comparisons(self, test: str, right: object, wrong: object) -> None:
        compare = read_tests(test).checks[0].compare
        assert compare is not None
        assert (compare(right), compare(wrong)) == (True, False)

    def test_what_cannot_be_taken_apart_decides_by_itself(self) -> None:
        tests = read_tests("assert f(1) == f(2)\nassert f(1) == 1 and f(2) == 2")
        assert [check.compare for check in tests.checks] == [None, None]

    def test_a_check_function_is_called(self) -> None:
        tests = read_tests({"entry_point": "f", "tests": "def check(candidate):\n    assert candidate(1) == 2"})
        assert (tests.count, tests.checks[-1].source) == (1, "check(f)")

    def test_cases(self) -> None:
        tests = read_tests(
            {"function": "f", "cases": [{"args": [[1], "a"], "expect": [1]}, {"call": "f()", "expect": 2}]}
        )
        assert [check.source for check in tests.checks] == ["f([1], 'a')", "f()"]
        compare = tests.checks[0].compare
        assert compare is not None and compare((1,))  # JSON knows no tuples

    def test_json_text_is_read(self) -> None:
        assert read_tests(json.dumps(DOUBLE)).count == 3
        assert read_tests(["assert f() == 1", "assert f() == 2"]).count == 2

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("", "no assert"),
            ("x = 1", "no assert"),
            ("assert (", "not Python"),
            ("assert " + "-" * 90_000 + "1", "not Python"),
            ("x" * 100_001, "characters"),
            ({"tests": "assert f()", "unknown": 1}, "unknown"),
            ({"tests": 3}, "text"),
            ({"function": "a b", "tests": "assert f()"}, "no name"),
            ({"function": "f; import os", "cases": [{"args": [], "expect": 1}]}, "no name"),
            ({"cases": [{"args": [1], "expect": 1}]}, "needs function"),
            ({"cases": [{"call": "import os", "expect": 1}]}, "no expression"),
            ({"cases": 3}, "list"),
            (3, "should be"),
            ("assert f()\n" * 1001, "at most"),
            ("f()\n" * 3000, "at most"),
            ("assert f() == " + "1+" * 40_000 + "1", "not Python|too deep"),
        ],
    )
    def test_what_cannot_be_read_is_said(self, spec: object, says: str) -> None:
        with pytest.raises(SuiteError, match=says):
            read_tests(spec)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=1)
    ),
    max_leaves=12,
)


class TestValues:
    @settings(max_examples=50)
    @given(PLAIN)
    def test_they_come_out_as_they_went_in(self, value: Any) -> None:
        found = _value(json.loads(json.dumps(_plain(value, [10_000], 0))), 0)
        assert (type(found), repr(found)) == (type(value), repr(value))

    def test_other_objects_have_no_form(self) -> None:
        with pytest.raises(TypeError, match="Anything"):
            _plain(type("Anything", (), {})(), [100], 0)
        circle: list[Any] = []
        circle.append(circle)
        with pytest.raises(ValueError, match="too large"):
            _plain(circle, [10_000], 0)

    @given(st.lists(st.binary() | st.text().map(str.encode) | st.sampled_from([b"[" * 9999, b"null", b'{"check":0}'])))
    def test_what_the_channel_says_never_raises_and_never_passes(self, lines: list[bytes]) -> None:
        tests: Suite = read_tests("assert f() == 12345\nassert f() == g()")
        assert _read(Ended("exit", results=tuple(lines)), tests, "secret").passed == 0

    @pytest.mark.parametrize(
        "line",
        [
            {"check": 0},
            {"check": 0, "value": ["i", hex(12345)]},
            {"check": 0, "value": ["i", hex(12345)], "secret": "é\ud800"},
            {"check": 0, "value": None, "secret": "secret"},
            {"check": 0, "value": ["l", 3], "secret": "secret"},
            {"check": 0, "value": ["d", [[["l", []], ["b", None]]]], "secret": "secret"},
            {"check": 0, "value": ["q", "0x1", "0x0"], "secret": "secret"},
            {"check": 0, "value": ["?"], "secret": "secret"},
            {"check": 1, "secret": "é"},
            {"check": 1, "secret": ["secret"]},
            {"check": 0, "secret": "secret"},
            {"check": 1, "secret": None},
            {"check": 1, "secret": "other"},
            {"check": 1, "value": ["b", True]},
            {"check": "0", "value": ["i", "0x3039"]},
        ],
    )
    def test_forged_lines(self, line: Row) -> None:
        tests = read_tests("assert f() == 12345\nassert f() == g()")
        assert _read(Ended("exit", results=(json.dumps(line).encode(),)), tests, "secret").passed == 0

    def test_yes_and_no_are_no_right_answers_to_guess(self) -> None:
        """A report made up without running anything: that all is true."""
        tests = read_tests("assert is_prime(7)\nassert not is_prime(4)\nassert isinstance(f(), int)")
        lines = [{"check": n, "value": ["b", value]} for n, value in enumerate((True, False, True))]
        told = [tuple(json.dumps({**line, **more}).encode() for line in lines) for more in ({}, {"secret": "secret"})]
        assert [_read(Ended("exit", results=one), tests, "secret").passed for one in told] == [0, 3]

    def test_what_is_said_can_be_stored(self) -> None:
        line = json.dumps({"check": 0, "raised": "\ud800"}).encode()
        said = _read(Ended("exit", results=(line,)), read_tests("assert f() == 1"), "secret").said
        assert "raised \ufffd" in said and said.encode()


def _spec(own: object) -> str:
    return own if isinstance(own, str) else json.dumps(own)


def judged(own: object, *texts: str, **fields: Any) -> tuple[list[Row], FakeContext]:
    root = prompt(
        [message("user", "Write it.")],
        verifier=None if own is None else {"kind": "python-tests", "spec": _spec(own)},
    )
    responses = [response(root, model=f"m{number}", text=text) for number, text in enumerate(texts)]
    context = FakeContext({})
    made = asyncio.run(CodeTests(name="tests", **fields).run(Group(root["group_id"], [root], responses), context))
    by_target = {row["target_ids"][0]: row for row in made.get("annotations", [])}
    return [by_target[one["response_id"]] for one in responses if one["response_id"] in by_target], context


@held
class TestStep:
    def test_scores_are_the_share_of_tests_passed_and_the_rest_is_explained(self) -> None:
        rows, _ = judged(
            DOUBLE,
            "```python\ndef double(n):\n    return n * 2\n```",
            "def double(n): return n if n < 0 else n + n",
            "def double(n):\n    return n * undefined",
            "double = ",
            "I do not know.",
            "def triple(n): return 3 * n",
        )
        assert [row["scores"] for row in rows] == [[1.0], [2 / 3], [0.0], [0.0], [0.0], [0.0]]
        assert [row["status"] for row in rows] == ["ok"] * 6
        assert rows[0]["text"] is None
        says = ["double(-3) == -6: gave -3", "NameError", "SyntaxError", "holds no code", "defines no double"]
        for row, wanted in zip(rows[1:], says, strict=True):
            assert wanted in row["text"]
        assert {(row["annotator"], row["aspect"], row["protocol"], row["source"]) for row in rows} == {
            ("rule:tests/python", "correctness", "score", "rule")
        }

    def test_all_or_nothing(self) -> None:
        rows, _ = judged(DOUBLE, "def double(n): return abs(n) * 2", "double = lambda n: n * 2", score="all")
        assert [row["scores"] for row in rows] == [[0.0], [1.0]]

    def test_a_failing_test_does_not_stop_the_next_and_statements_keep_their_order(self) -> None:
        spec = "box = Box()\nassert box.take() == 1\nassert box.take() == 3\nassert box.take() == 3\nassert box == box"
        code = "class Box:\n    n = 0\n    def take(self):\n        self.n += 1\n        return self.n"
        rows, _ = judged(spec, code)
        assert rows[0]["scores"] == [3 / 4]
        assert "box.take() == 3: gave 2" in rows[0]["text"]

    def test_setup_check_and_cases(self) -> None:
        spec = {
            "function": "f",
            "setup": "two = 2",
            "tests": "def check(candidate):\n    assert candidate(two) == 4",
            "cases": [{"args": [3], "expect": 6}],
        }
        rows, _ = judged(spec, "f = lambda n: 2 * n", "f = lambda n: 6")
        assert [row["scores"] for row in rows] == [[1.0], [0.5]]
        assert "AssertionError" in rows[1]["text"]

    def test_a_prompt_without_tests_gets_nothing_and_unreadable_ones_abstain(self) -> None:
        rows, _ = judged(None, "def f(): pass")
        assert rows == []
        rows, context = judged("assert (", "def f(): pass")
        assert (rows[0]["status"], rows[0]["scores"]) == ("abstain", None)
        assert "cannot be read" in context.logged[0]

    def test_tests_for_every_prompt(self) -> None:
        rows, _ = judged(None, "def double(n): return 2 * n", spec=DOUBLE)
        assert rows[0]["scores"] == [1.0]
        with pytest.raises(ValueError, match="no assert"):
            CodeTests(spec="x = 1")

    def test_ids_follow_tests_and_limits_but_not_how_many_run_at_once(self) -> None:
        code = "def double(n): return 2 * n"
        first, same, limits, tests = (
            judged(spec, code, **fields)[0][0]["annotation_id"]
            for spec, fields in (
                (DOUBLE, {}),
                (DOUBLE, {"at_once": 7}),
                (DOUBLE, {"cpu_seconds": 2}),
                ({**DOUBLE, "tests": "assert double(1) == 2"}, {}),
            )
        )
        assert first == same
        assert len({first, limits, tests}) == 3

    def test_many_at_once(self) -> None:
        rows, _ = judged(DOUBLE, *(f"double = lambda n: n * 2 + {number}" for number in range(8)), at_once=4)
        assert [row["scores"][0] for row in rows] == [1.0] + [0.0] * 7


PIPELINE = """
steps:
  - ingest: {path: "sample:prompts.jsonl", limit: 2}
  - judge.tests: {}
"""


class TestRefused:
    def test_plan_refuses_the_step_and_says_why(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "tests.yaml"
        file.write_text(PIPELINE)
        monkeypatch.setattr(sandbox, "refusal", lambda _=None: "its kernel denies nothing")
        with pytest.raises(PipelineError, match=r"tests\.yaml, line 4, step 'judge\.tests'.*its kernel denies nothing"):
            plan(file, tmp_path / "data")

    def test_a_step_out_of_the_log_is_read_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else nobody could look at a dataset on another machine than that which made it."""
        monkeypatch.setattr(sandbox, "refusal", lambda _=None: "its kernel denies nothing")
        assert CodeTests.restored(CodeTests(cpu_seconds=3).resolved()).cpu_seconds == 3

    def test_it_does_not_run_either(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandbox, "refusal", lambda _=None: "its kernel denies nothing")
        with pytest.raises(PipelineError, match=r"step 'tests'.*its kernel denies nothing"):
            judged(DOUBLE, "def double(n): return 2 * n")

    @held
    def test_where_it_can_run_plan_accepts_it(self, tmp_path: Path) -> None:
        file = tmp_path / "tests.yaml"
        file.write_text(PIPELINE)
        assert plan(file, tmp_path / "data").calls == 0


def test_a_stand_in_for_a_response_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` runs steps on texts that are not written yet: they hold no code."""
    ran: list[Any] = []
    runs: Callable[..., Any] = lambda *given: ran.append(given)  # noqa: E731
    monkeypatch.setattr("prefdata.annotators.code_tests.run_tests", runs)
    monkeypatch.setattr(sandbox, "refusal", lambda _=None: None)
    rows, _ = judged(DOUBLE, "(not written yet 17)".ljust(400, "."))
    assert (rows[0]["scores"], ran) == ([0.0], [])
