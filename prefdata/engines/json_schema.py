"""Values that satisfy a JSON schema, made deterministically: what the scripted engine answers to a judge's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Choose = Callable[[str, Sequence[Any]], Any]
"""Takes a property's name and its possible values, in order; returns one of them."""


def fill(schema: Mapping[str, Any], choose: Choose, write: Callable[[str], str], name: str = "") -> Any:
    """A value that satisfies `schema`.

    Understands type, properties, items, enum, const, minimum, maximum, exclusive bounds, minItems, minLength,
    maxLength, anyOf, oneOf and local $ref. Objects get all their properties, required or not.

    Args:
        schema: a JSON schema.
        choose: picks among an enum's values, an integer range's, or 11 steps of a number's range.
        write: makes a string for a property's name.
        name: of the property that is filled.
    """
    return _fill(schema, schema, choose, write, name)


def _fill(
    root: Mapping[str, Any], schema: Mapping[str, Any], choose: Choose, write: Callable[[str], str], name: str
) -> Any:
    schema = _resolved(root, schema)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return choose(name, schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object" or "properties" in schema:
        return {key: _fill(root, part, choose, write, key) for key, part in schema.get("properties", {}).items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        items = schema.get("items", {"type": "string"})
        # Several texts are several texts; a list of verdicts or numbers goes by the one name.
        free = _resolved(root, items).get("type") == "string" and "enum" not in items and "const" not in items
        names = [f"{name} {place}" if free and place else name for place in range(count)]
        return [_fill(root, items, choose, write, one) for one in names]
    if kind in ("integer", "number"):
        return choose(name, _range(schema, whole=kind == "integer"))
    if kind == "boolean":
        return choose(name, [False, True])
    if kind == "null":
        return None
    text = write(name)[: int(schema.get("maxLength", 10_000))]
    return text.ljust(int(schema.get("minLength", 0)), ".")


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references, and take the first branch that is not null."""
    while True:
        if str(schema.get("$ref", "")).startswith("#/"):
            found: Any = root
            for part in schema["$ref"][2:].split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        elif schema.get("anyOf") or schema.get("oneOf"):
            branches = schema.get("anyOf") or schema["oneOf"]
            schema = next((one for one in branches if one.get("type") != "null"), branches[0])
        else:
            return schema


def _range(schema: Mapping[str, Any], *, whole: bool) -> list[int] | list[float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 10))
    if whole:
        first = int(low) + (1 if "minimum" not in schema and "exclusiveMinimum" in schema else 0)
        last = int(high) - (1 if "maximum" not in schema and "exclusiveMaximum" in schema else 0)
        return list(range(first, min(last, first + 1000) + 1)) or [first]
    if "minimum" not in schema and "exclusiveMinimum" in schema:
        low = low + (high - low) / 1000
    if "maximum" not in schema and "exclusiveMaximum" in schema:
        high = high - (high - low) / 1000
    return [low + (high - low) * step / 10 for step in range(11)]
