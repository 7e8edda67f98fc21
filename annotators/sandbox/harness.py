"""Runs in the sandbox, beside the program that it tests: what it says is believed only as far as it can be checked.

It executes `program.py`, then the entries of `checks.json` in order, and writes one line of JSON for each to file 3.
Where a value is asked for, it is written out and compared outside: what it should be is not known in here. Where a
statement decides by itself (an assert that cannot be taken apart), that it did not raise is success. Both are told with
a secret, which a program that looks for it can find in this process.
"""

# Paths are texts here: this runs in a bare interpreter, which should start fast.
# ruff: noqa: PTH123

from __future__ import annotations

import json
import os
import sys
from typing import Any

_MOST = 20_000
_DEEPEST = 40
_KINDS: tuple[tuple[type[Any], str], ...] = ((list, "l"), (tuple, "t"), (set, "e"), (frozenset, "z"))


def main() -> None:
    """Test the program in the folder that the command line names."""
    folder = sys.argv[1]
    sys.path[:] = [path for path in sys.path if path != folder]
    with os.fdopen(4, "r") as file:
        secret = file.read()
    with open(f"{folder}/checks.json", encoding="utf-8") as file:
        checks = json.load(file)
    with open(f"{folder}/program.py", encoding="utf-8") as file:
        source = file.read()
    sys.argv = ["program.py"]
    write, dumps = os.write, json.dumps

    def say(**found: Any) -> None:
        data = dumps(found).encode() + b"\n"
        while data:
            data = data[write(3, data) :]

    names: dict[str, Any] = {"__name__": "program", "__builtins__": __builtins__}
    try:
        exec(compile(source, "program.py", "exec"), names)  # noqa: S102  # the sandbox is there for this
    except BaseException as error:
        say(program=_named(error))
        return
    say(program=None)
    for number, check in enumerate(checks):
        try:
            if "value" in check:
                found = eval(compile(check["value"], "check", "eval"), names)  # noqa: S307
                say(check=number, value=_plain(found, [_MOST], 0), secret=secret)
            else:
                exec(compile(check["run"], "check", "exec"), names)  # noqa: S102
                say(check=number, secret=secret)
        except BaseException as error:
            say(check=number, raised=_named(error))


def _named(error: BaseException) -> str:
    """What was raised, in a few words."""
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except BaseException:
        return "an error that cannot be shown"


def _plain(value: Any, left: list[int], depth: int) -> list[Any]:
    """A value as JSON with the types that JSON does not know; raises TypeError for one that has no such form."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise ValueError("the value is too large to be compared")
    if value is None or isinstance(value, bool):
        return ["b", value]
    if isinstance(value, int):
        return ["i", hex(int.__index__(value))]
    if isinstance(value, float):
        return ["f", float.hex(value)]
    if isinstance(value, complex):
        return ["c", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, str):
        return ["s", str.__str__(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["x", bytes(value).hex()]
    if isinstance(value, dict):
        pairs = dict.items(value)
        return ["d", [[_plain(key, left, depth + 1), _plain(one, left, depth + 1)] for key, one in pairs]]
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return [name, [_plain(one, left, depth + 1) for one in value]]
    name = type(value).__name__
    if name == "Fraction":
        return ["q", hex(value.numerator), hex(value.denominator)]
    if name == "Decimal":
        return ["n", str(value)]
    raise TypeError(f"it gave an object of the type {name}, which cannot be compared from outside")


if __name__ == "__main__":
    main()
