"""The process behind `patient`: matches patterns and checks JSON against schemas, each within its time.

It is started by its path and reads one task a line. When a task's time of the processor is over, the system ends this
process, also in the middle of a match.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from typing import Any

_MEMORY = 1 << 30
_SAID = 300


def main() -> None:
    """Answer tasks until there are none."""
    ceiling = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = _MEMORY if ceiling == resource.RLIM_INFINITY else min(_MEMORY, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (most, ceiling))
    for line in sys.stdin.buffer:
        task = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(task["seconds"]))
        try:
            answer = {"regex": _match, "schema": _schema}[task["do"]](task)
        except (re.error, OverflowError) as error:
            answer = {"error": f"the pattern cannot be read: {error}"}
        except (RecursionError, MemoryError) as error:
            answer = {"error": f"it is too large ({type(error).__name__})"}
        except Exception as error:  # jsonschema on what its own check of schemas lets through
            answer = {"error": f"it cannot be used ({type(error).__name__})"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _match(task: dict[str, Any]) -> dict[str, Any]:
    flags = 0
    for letter in task.get("flags", ""):
        flags |= {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}[letter]
    pattern = re.compile(task["pattern"], flags)
    if "count" in task:
        found = 0
        for _ in pattern.finditer(task["text"]):
            found += 1
        return {"count": found}
    match = pattern.fullmatch if task.get("whole") else pattern.search
    return {"found": match(task["text"]) is not None}


def _schema(task: dict[str, Any]) -> dict[str, Any]:
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema, value = task["schema"], task["value"]
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        # An empty registry: a reference to another address is refused, and nothing is fetched.
        errors = kind(schema, registry=Registry()).iter_errors(value)
        first = next(iter(errors), None)
    except jsonschema.SchemaError as error:
        return {"error": f"the schema is none: {error.message[:_SAID]}"}
    except Unresolvable as error:
        return {"error": f"the schema refers to what is not in it: {str(error)[:_SAID]}"}
    except re.error as error:
        return {"error": f"a pattern of the schema cannot be read: {error}"}
    if first is None:
        return {"found": True}
    return {"found": False, "said": f"{first.json_path}: {first.message}"[:_SAID]}


if __name__ == "__main__":
    main()
