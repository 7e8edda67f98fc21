"""Tests of code: read from what a prompt brings, run in the sandbox, and compared outside it.

An assert that compares with a value written out (`assert double(4) == 8`) is taken apart: the sandbox is asked for
`double(4)`, and what comes back is compared here: 8 is not in the sandbox. Any other assert is decided there, beside
the program. What comes back counts only with a secret, so that a report made up by the program does not.
"""

from __future__ import annotations

import ast
import json
import operator
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from prefdata.schema import storable

from .sandbox import Ended, Limits, run_program

_LONGEST = 100_000
_MOST_TESTS = 1000
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)[ \t]*([^\s`]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3", "Python")

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: lambda found, expected: type(found) is type(expected) and found == expected,
    ast.IsNot: lambda found, expected: type(found) is not type(expected) or found != expected,
    ast.In: lambda found, expected: found in expected,
    ast.NotIn: lambda found, expected: found not in expected,
}


class SuiteError(ValueError):
    """Tests that cannot be read; a sentence."""


@dataclass(frozen=True)
class Check:
    """One entry of what is done after the program has run.

    Attributes:
        source: an expression whose value is asked for, or a statement.
        compare: takes the value and says whether it is right; None for a statement, which decides by itself.
        counts: whether it is a test; setup is not.
        shown: what a reader is told it was.
    """

    source: str
    compare: Callable[[Any], bool] | None = None
    counts: bool = True
    shown: str = ""


@dataclass(frozen=True)
class Suite:
    """The tests of a prompt.

    Attributes:
        checks: in order.
        function: the name that the code must hold; empty where none is asked for.
    """

    checks: tuple[Check, ...]
    function: str = ""

    @property
    def count(self) -> int:
        """How many tests."""
        return sum(check.counts for check in self.checks)

    def missing(self, code: str) -> str | None:
        """Why this code need not be run: it is none, or does not hold the name; None where it is to be run."""
        if not re.search(r"\b(?:def|class|import|lambda)\b|=|\w\(", code):
            return "it holds no code"
        if self.function and not re.search(rf"\b{re.escape(self.function)}\b", code):
            return f"it defines no {self.function}"
        return None


@dataclass(frozen=True)
class Found:
    """What became of a response's code.

    Attributes:
        passed: tests.
        tests: in all.
        said: why those that did not pass did not.
        guards: what held the program.
    """

    passed: int
    tests: int
    said: str
    guards: tuple[str, ...] = ()

    @classmethod
    def none(cls, tests: Suite, said: str) -> Found:
        """None passed."""
        return cls(0, tests.count, said)

    @property
    def share(self) -> float:
        """Of tests passed."""
        return self.passed / self.tests

    @property
    def all(self) -> float:
        """1 if all passed."""
        return float(self.passed == self.tests)


def code_of(text: str) -> str:
    """The code of a response: the last block fenced as Python, else the last fenced block, else all of it.

    A fence that is never closed ends with the text: a response may have been cut off.
    """
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2]:
            blocks.append((opened[2], text[opened.end() + 1 : fence.start()]))
            opened = None
    if opened is not None:
        blocks.append((opened[2], text[opened.end() + 1 :]))
    ours = [body for language, body in blocks if language in _PYTHON]
    return (ours or [body for _, body in blocks] or [text])[-1]


def read_tests(spec: object) -> Suite:
    """The tests that a spec asks for.

    Args:
        spec: Python text, JSON text of an object, or the object: `tests`, `cases`, `function` or `entry_point`,
            `setup`.

    Raises:
        SuiteError: a sentence.
    """
    if isinstance(spec, str):
        spec = _object(spec)
    if isinstance(spec, list):
        spec = {"tests": spec}
    if not isinstance(spec, Mapping):
        raise SuiteError("they should be Python text or an object with tests or cases")
    if unknown := sorted(set(spec) - {"tests", "cases", "function", "entry_point", "setup"}):
        raise SuiteError(f"the key {unknown[0]!r} is none of tests, cases, function, setup")
    function = spec.get("function") or spec.get("entry_point") or ""
    if not isinstance(function, str) or (function and not function.isidentifier()):
        raise SuiteError(f"function is {function!r}, which is no name")
    checks = [Check(_text(spec["setup"], "setup"), counts=False)] if spec.get("setup") else []
    checks += _of_code(_text(spec.get("tests") or "", "tests"), function)
    checks += [_of_case(case, function) for case in _listed(spec.get("cases") or [])]
    tests = Suite(tuple(checks), function)
    if not tests.count:
        raise SuiteError("they hold no assert and no case")
    if tests.count > _MOST_TESTS:
        raise SuiteError(f"they are {tests.count}, and at most {_MOST_TESTS} are run")
    return tests


def _object(text: str) -> object:
    if text.lstrip()[:1] in "{[":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return {"tests": text}


def _text(value: object, key: str) -> str:
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) for line in lines):
        raise SuiteError(f"{key} should be a text or a list of texts")
    made = "\n".join(map(str, lines))
    if len(made) > _LONGEST:
        raise SuiteError(f"{key} has {len(made)} characters, more than the {_LONGEST} that are read")
    return made


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise SuiteError("cases should be a list")
    return value


def _parsed(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise SuiteError(f"they are not Python: {error}") from error


def _source(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except RecursionError as error:
        raise SuiteError("they are too deep") from error


def _of_code(code: str, function: str) -> list[Check]:
    checks: list[Check] = []
    calls_check = False
    statements = _parsed(code).body
    if len(statements) > 2 * _MOST_TESTS:
        raise SuiteError(f"they are {len(statements)} statements, and at most {2 * _MOST_TESTS} are run")
    for node in statements:
        source = _source(node)
        if isinstance(node, ast.FunctionDef) and node.name == "check" and function:
            calls_check = True
        if isinstance(node, ast.Assert):
            checks.append(_of_assert(node, source))
        else:
            checks.append(Check(source, counts=False))
    if calls_check:
        checks.append(Check(f"check({function})", shown=f"check({function})"))
    return checks


def _of_assert(node: ast.Assert, source: str) -> Check:
    """Taken apart, where one side is written out; else a statement that decides by itself."""
    test, shown = node.test, source.removeprefix("assert").strip()
    if not isinstance(test, ast.Compare):
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        inner = test.operand if isinstance(test, ast.UnaryOp) and negated else test
        if isinstance(inner, ast.Call):
            return Check(f"bool({_source(inner)})", lambda found: found is (not negated), shown=shown)
    elif len(test.ops) == 1 and type(test.ops[0]) in _COMPARED:
        compare = _COMPARED[type(test.ops[0])]
        left, right = test.left, test.comparators[0]
        written, value = _literal(right)
        if written:
            return Check(_source(left), lambda found: bool(compare(found, value)), shown=shown)
        written, value = _literal(left)
        if written:
            return Check(_source(right), lambda found: bool(compare(value, found)), shown=shown)
    return Check(source, shown=shown)


def _literal(node: ast.expr) -> tuple[bool, Any]:
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return False, None


def _of_case(case: object, function: str) -> Check:
    if not isinstance(case, Mapping) or "expect" not in case or set(case) - {"call", "args", "expect"}:
        raise SuiteError("a case is {call: text, expect: value} or {args: [values], expect: value}")
    expected = case["expect"]
    if "call" in case:
        call = _text(case["call"], "call")
        try:
            ast.parse(call, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise SuiteError(f"the call {call[:80]!r} is no expression: {error}") from error
    elif function and isinstance(case.get("args"), list):
        call = f"{function}({', '.join(map(repr, case['args']))})"
    else:
        raise SuiteError("a case with args needs function, and args is a list")
    return Check(call, lambda found: bool(_like_json(found) == expected), shown=f"{call} == {expected!r}")


def _like_json(value: Any) -> Any:
    """JSON knows no tuples."""
    if isinstance(value, (list, tuple)):
        return [_like_json(one) for one in value]
    return {key: _like_json(one) for key, one in value.items()} if isinstance(value, dict) else value


def run_tests(
    code: str, tests: Suite, limits: Limits, python: str | None = None, without: frozenset[str] = frozenset()
) -> Found | None:
    """Run code against tests, in the sandbox; None where the sandbox itself failed. Blocks: call it in a thread."""
    secret = secrets.token_hex(16)
    checks = [{"value" if check.compare else "run": check.source} for check in tests.checks]
    files = {
        "harness.py": Path(__file__).with_name("sandbox").joinpath("harness.py").read_text(encoding="utf-8"),
        "program.py": code.encode("utf-8", "replace").decode("utf-8"),
        "checks.json": json.dumps(checks),
    }
    ended = run_program(files, "harness.py", secret=secret, limits=limits, python=python, without=without)
    if ended.how == "sandbox":
        return None
    return _read(ended, tests, secret)


def _read(ended: Ended, tests: Suite, secret: str) -> Found:
    """What the sandbox said, and what follows from it; a line that is not as it should be says nothing."""
    lines = [line for line in map(_line, ended.results) if line is not None]
    raised = next((line["program"][:200] for line in lines if isinstance(line.get("program"), str)), None)
    said: dict[int, Mapping[str, Any]] = {}
    for line in lines:
        if isinstance(line.get("check"), int):
            said.setdefault(line["check"], line)
    passed, reasons = 0, []
    silent = ended.said or f"the program ended by itself (exit status {ended.code})"
    for number, check in enumerate(tests.checks):
        why = f"the program raised {raised}" if raised else _why_not(check, said.get(number), secret, silent)
        if check.counts and why is None:
            passed += 1
        elif why is not None and (check.counts or number in said):
            reasons.append((check.shown or check.source.splitlines()[0][:80], why))
    if passed == tests.count:
        return Found(passed, tests.count, "", ended.guards)
    text = storable(f"{passed} of {tests.count} tests passed; {_joined(reasons)}")
    return Found(passed, tests.count, text, ended.guards)


def _joined(reasons: list[tuple[str, str]]) -> str:
    """Each reason once, with the tests that it holds for."""
    grouped: dict[str, list[str]] = {}
    for shown, why in reasons:
        grouped.setdefault(why, []).append(shown[:80])
    if len(grouped) == 1 and len(reasons) > 1:
        return next(iter(grouped))
    return "; ".join(f"{', '.join(shown[:3])}: {why}" for why, shown in grouped.items())


def _why_not(check: Check, line: Mapping[str, Any] | None, secret: str, silent: str) -> str | None:
    """None where a check passed."""
    if line is None:
        return silent
    if isinstance(line.get("raised"), str):
        return f"raised {line['raised'][:200]}"
    told = str(line.get("secret")).encode("utf-8", "replace")  # of texts compare_digest takes ASCII only
    if not secrets.compare_digest(told, secret.encode()):
        return silent
    if check.compare is None:
        return None
    try:
        value = _value(line["value"], 0)
        return None if check.compare(value) else f"gave {repr(value)[:100]}"
    except Exception as error:  # a value and an expectation that cannot be compared: `"a" < 3`
        return f"gave what cannot be compared ({type(error).__name__})"


def _line(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _value(form: Any, depth: int) -> Any:
    """The value that the harness wrote out."""
    if depth > 50:
        raise ValueError("too deep")
    kind, *parts = form
    if kind in ("l", "t", "e", "z"):
        made = [_value(one, depth + 1) for one in parts[0]]
        return {"l": list, "t": tuple, "e": set, "z": frozenset}[kind](made)
    if kind == "d":
        return {_value(key, depth + 1): _value(value, depth + 1) for key, value in parts[0]}
    if kind == "b" and parts[0] in (None, True, False):
        return parts[0] if parts[0] is None else bool(parts[0])
    if kind == "i":
        return int(parts[0], 16)
    if kind == "f":
        return float.fromhex(parts[0])
    if kind == "c":
        return complex(float.fromhex(parts[0]), float.fromhex(parts[1]))
    if kind == "s":
        return str(parts[0])
    if kind == "x":
        return bytes.fromhex(parts[0])
    if kind == "q":
        return Fraction(int(parts[0], 16), int(parts[1], 16))
    if kind == "n" and len(parts[0]) < 100:
        return Decimal(parts[0])
    raise ValueError("no such form")
