"""Mathematical expressions from hostile text, read without `eval` and compared by value.

LaTeX or plain text becomes a Python expression, whose tree may hold numbers, names, + - * / **, and known functions.
Two expressions are equal if they have equal values: exactly, as fractions, where that is possible, else to 1e-9 at
several points drawn once and for all (Schwartz-Zippel: that two different expressions agree at all of them does not
happen by chance). Variables stand for numbers above 0. All work is bounded: exponents, digits, length, depth.
"""

from __future__ import annotations

import ast
import cmath
import math
import random
import re
from collections.abc import Mapping
from fractions import Fraction

Number = Fraction | complex
Value = Number | tuple[object, ...] | frozenset[object]

_LONGEST = 1000
_MOST_BITS = 4096
_POINTS, _ENOUGH = 8, 3
_CLOSE = 1e-9

_FUNCTIONS = {
    "sqrt": cmath.sqrt,
    "exp": cmath.exp,
    "log": cmath.log,
    "ln": cmath.log,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "asin": cmath.asin,
    "acos": cmath.acos,
    "atan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
}
_CONSTANTS: dict[str, complex] = {"pi": cmath.pi, "e": cmath.e, "i": 1j}

_GREEK = "alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega"
_NAMES = "|".join(sorted({*_FUNCTIONS, *_CONSTANTS, *_GREEK.split()}, key=len, reverse=True))
_SIMPLE = (
    (re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|quad|qquad| )"), " "),
    # A unit, which ends an answer. Other words may mean anything: `3 \text{ or } 4`.
    (re.compile(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\s*\^\s*(?:\d|\{-?\d\}))?(?=[\s.$]*\Z)"), " "),
    (re.compile(r"\\(?:cdot|times)"), "*"),
    (re.compile(r"\\div"), "/"),
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\[{}]"), lambda found: "⟨" if found[0] == r"\{" else "⟩"),
    (re.compile(r"\\(?:%|\$)|\$"), ""),
    (re.compile(r"\^\s*\{?\\circ\}?|°"), ""),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"[×·⋅]"), "*"),
    (re.compile("÷"), "/"),
    (re.compile("π"), " pi "),
    (re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))"), ""),
    (re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?:\D|$))"), ""),
)
_MIXED = re.compile(r"(?<![\w.^/*)])(\d+)\s*(?:\\frac\s*\{(\d+)\}\s*\{(\d+)\}|\s(\d+)/(\d+))")
_TOKEN = re.compile(rf"\s*(\d+\.\d*|\.\d+|\d+|\\?(?:{_NAMES})(?![a-z])|[A-Za-z]|\*\*|.)", re.DOTALL)


class ExpressionError(ValueError):
    """A text that is no expression, or one that is too large; a sentence."""


def equal(left: str, right: str) -> bool:
    """Whether two texts say the same: numbers, expressions, tuples, intervals, sets.

    Raises:
        ExpressionError: the one or the other cannot be read, or has no value that can be compared.
    """
    one, other = read(left), read(right)
    variables = sorted(_variables(one) | _variables(other))
    generator, compared = random.Random(0), 0
    for _ in range(_POINTS if variables else 1):
        point = {name: Fraction(generator.randrange(11, 97), generator.choice((7, 11, 13))) for name in variables}
        try:
            found, expected = _of(one, point), _of(other, point)
        except (ArithmeticError, ValueError):
            continue
        if not _same(found, expected):
            return False
        compared += 1
    if compared < (_ENOUGH if variables else 1):
        raise ExpressionError("it has no value that can be computed within bounds")
    return True


def number(text: str) -> Fraction:
    """The real number that a text is: a calculation without variables.

    Raises:
        ExpressionError: it is none, or has no value within bounds.
    """
    tree = read(text)
    if isinstance(tree, _Group) or _variables(tree):
        raise ExpressionError("it is no number")
    try:
        value = _value(tree, {})
    except (ArithmeticError, ValueError) as error:
        raise ExpressionError("it has no value that can be computed within bounds") from error
    if isinstance(value, Fraction):
        return value
    if abs(value.imag) > _CLOSE * max(1.0, abs(value.real)):
        raise ExpressionError("it is no real number")
    return Fraction(value.real)


class _Group:
    """Several expressions: a tuple or interval with its brackets, or a set."""

    def __init__(self, brackets: str, parts: list[_Group | ast.expr]) -> None:
        self.brackets, self.parts = brackets, parts


Read = _Group | ast.expr


def read(text: str) -> Read:
    """The expression that a text is.

    Raises:
        ExpressionError: it is none.
    """
    if len(text) > _LONGEST:
        raise ExpressionError(f"it has {len(text)} characters, more than the {_LONGEST} that are read")
    for pattern, replacement in _SIMPLE:
        text = pattern.sub(replacement, text)
    text = text.strip().rstrip(".").strip()
    named = re.fullmatch(r"[A-Za-z]\s*=(.*)|\\?[A-Za-z]+\s*\\in\b(.*)", text, re.DOTALL)
    if named:
        text = (named[1] or named[2] or "").strip()
    return _read(text, 0)


def _read(text: str, depth: int) -> Read:
    if depth > 5:
        raise ExpressionError("it has too many brackets in brackets")
    parts = _split(text[1:-1]) if _wrapped(text) else []
    if len(parts) > 1 or (parts and text[0] in "⟨["):
        if text[0] == "⟨":
            return _Group("{}", [_read(part, depth + 1) for part in parts])
        return _Group(text[0] + text[-1], [_read(part, depth + 1) for part in parts])
    parts = _split(text)
    if len(parts) > 1:
        return _Group("()", [_read(part, depth + 1) for part in parts])
    return _tree(_plain(text))


def _wrapped(text: str) -> bool:
    """Whether the first bracket is closed by the last character; an interval may mix ( and [."""
    if len(text) < 2 or text[0] not in "([⟨" or text[-1] not in ")]⟩":
        return False
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([⟨") - (character in ")]⟩")
        if depth == 0:
            return place == len(text) - 1
    return False


def _split(text: str) -> list[str]:
    """At commas and semicolons that are in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{⟨") - (character in ")]}⟩")
        if character in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _plain(text: str) -> str:
    """LaTeX as a Python expression."""
    text = _MIXED.sub(lambda found: f"({found[1]}+({found[2] or found[4]})/({found[3] or found[5]}))", text)
    text = text.replace("^", "**")
    for _ in range(40):
        text, fractions = re.subn(r"\\frac\s*(\{[^{}]*\}|\w)\s*(\{[^{}]*\}|\w)", r"((\1)/(\2))", text, count=1)
        text, roots = re.subn(r"\\sqrt\s*\[([^\][]*)\]\s*\{([^{}]*)\}", r"((\2)**(1/(\1)))", text, count=1)
        text, plain_roots = re.subn(r"\\sqrt\s*(\{[^{}]*\}|\w)", r" sqrt(\1)", text, count=1)
        # What has no LaTeX in it any more is a bracket like others, so that what is around it can be read next.
        text, braces = re.subn(r"(?<!frac)(?<!sqrt)(?<![\]}\w\s])\{([^{}\\]*)\}", r"(\1)", text, count=1)
        if not fractions + roots + plain_roots + braces:
            break
    text = text.replace("{", "(").replace("}", ")").replace("√", " sqrt ")
    return _multiplied(text)


def _multiplied(text: str) -> str:
    """With a * where two things stand side by side, and a bracket after a function: `2x`, `sin x`."""
    parts = [part.strip() for part in _TOKEN.findall(text)]
    if "\\" in parts:
        raise ExpressionError("it holds a LaTeX command that is not known")
    parts = [part.lstrip("\\") for part in parts]
    out: list[str] = []
    for place, part in enumerate(parts):
        before = out[-1] if out else ""
        begins = part == "(" or part[:1].isalnum() or part[:1] == "."
        ends = before in (")", "!") or (before[-1:].isalnum() and before not in _FUNCTIONS) or before.endswith(".")
        if before[:1].isdigit() and part[:1].isdigit():
            raise ExpressionError("two numbers stand side by side")
        if begins and ends:
            out.append("*")
        if part in _FUNCTIONS and parts[place + 1 : place + 2] not in (["("], ["**"]):
            argument = parts[place + 1 : place + 2]
            if argument and argument[0][:1].isalnum() and argument[0] not in _FUNCTIONS:
                out += [part, "(", argument[0], ")"]
                parts[place + 1] = ""
                continue
        if part:
            out.append(part)
    return " ".join(_renamed(part) for part in out)


def _renamed(part: str) -> str:
    """Names that Python keeps for itself are free in mathematics."""
    return "lambda_" if part == "lambda" else part


def _tree(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError("it is no expression") from error
    _check(tree, 0)
    return tree


def _check(node: ast.expr, depth: int) -> None:
    """Nothing but arithmetic; anything else is refused by its absence here."""
    if depth > 60:
        raise ExpressionError("it is too deep")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)):
        _check(node.left, depth + 1)
        _check(node.right, depth + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        _check(node.operand, depth + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        if len(node.args) != 1 or node.keywords:
            raise ExpressionError(f"{node.func.id} takes one argument")
        _check(node.args[0], depth + 1)
    elif isinstance(node, ast.Name):
        if node.id in _FUNCTIONS:
            raise ExpressionError(f"{node.id} stands without its argument")
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        raise ExpressionError("it holds more than numbers, names, + - * / ^ and known functions")


def _variables(read: Read) -> set[str]:
    if isinstance(read, _Group):
        return set().union(*(_variables(part) for part in read.parts))
    names = {node.id for node in ast.walk(read) if isinstance(node, ast.Name)}
    return names - set(_FUNCTIONS) - set(_CONSTANTS)


_Found = Number | tuple[str, "list[_Found]"]


def _of(read: Read, point: Mapping[str, Fraction]) -> _Found:
    if isinstance(read, _Group):
        return read.brackets, [_of(part, point) for part in read.parts]
    return _value(read, point)


def _value(node: ast.expr, point: Mapping[str, Fraction]) -> Number:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.Name):
        return point[node.id] if node.id in point else _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, point)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _applied(node.func.id, _value(node.args[0], point))
    assert isinstance(node, ast.BinOp)
    left, right = _value(node.left, point), _value(node.right, point)
    if isinstance(node.op, ast.Pow):
        return _power(left, right)
    if not (isinstance(left, Fraction) and isinstance(right, Fraction)):
        left, right = complex(left), complex(right)
    found: Number
    if isinstance(node.op, ast.Add):
        found = left + right
    elif isinstance(node.op, ast.Sub):
        found = left - right
    elif isinstance(node.op, ast.Mult):
        found = left * right
    else:
        found = left / right
    return _bounded(found)


def _applied(name: str, value: Number) -> Number:
    if name == "sqrt" and isinstance(value, Fraction) and value >= 0:
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if above * above == value.numerator and below * below == value.denominator:
            return Fraction(above, below)
    return _bounded(_FUNCTIONS[name](complex(value)))


def _power(base: Number, exponent: Number) -> Number:
    """Exact where it stays small; `9**9**9` overflows as a float, and has no value."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits <= _MOST_BITS:
            return base ** int(exponent)
    return _bounded(complex(base) ** complex(exponent))


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * _MOST_BITS:
            raise OverflowError("too many digits")
        return value
    if not (math.isfinite(value.real) and math.isfinite(value.imag)):
        raise OverflowError("no finite value")
    return value


def _same(one: _Found, other: _Found) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        if not (isinstance(one, tuple) and isinstance(other, tuple)):
            return False
        (brackets, found), (other_brackets, expected) = one, other
        if brackets != other_brackets or len(found) != len(expected):
            return False
        if brackets != "{}":
            return all(_same(*pair) for pair in zip(found, expected, strict=True))
        rest = list(expected)
        for member in found:
            place = next((number for number, held in enumerate(rest) if _same(member, held)), None)
            if place is None:
                return False
            del rest[place]
        return True
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    return cmath.isclose(complex(one), complex(other), rel_tol=_CLOSE, abs_tol=_CLOSE)
