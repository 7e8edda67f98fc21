"""YAML from people, without what makes a short text a long one: anchors, aliases and merged keys.

Thirty lines of aliases, each twice the one before, are a billion values when they are spelled out.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError

_MERGE = "tag:yaml.org,2002:merge"


class PlainLoader(yaml.SafeLoader):
    """Refuses anchors (`&a`), aliases (`*a`) and merged keys (`<<`) when it meets them, before any is spelled out."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; a ComposerError with its line where it is none of ours."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise _refused(f"{mark}{anchor}", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        if node is not None and node.tag == _MERGE:
            raise _refused("<<", node.start_mark)
        return node


def load_plain(text: str) -> Any:
    """What a YAML text says, as `yaml.safe_load` would, without anchors, aliases and merged keys.

    Args:
        text: one document.

    Raises:
        yaml.YAMLError: it is not YAML, uses one of these, is nested too deeply, or holds a date or a number that is
            none. `problem_of` makes a sentence of it.
    """
    try:
        loader = PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:
        raise yaml.YAMLError(str(error).partition(";")[0]) from None


def problem_of(error: yaml.YAMLError) -> str:
    """What is wrong, in a line: `line 4: ...`."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return " ".join(str(error).split())
    context = str(getattr(error, "context", None))
    if context.endswith(("an alias", "an anchor")):  # `*Be* kind`: somebody's emphasis
        problem = f"a text that begins with {'*' if context.endswith('alias') else '&'} must stand in quotes"
    return f"line {mark.line + 1}: {problem}"


def _refused(found: str, mark: yaml.Mark) -> ComposerError:
    problem = (
        f"{found[:40]} makes YAML repeat what stands elsewhere (anchors, aliases, merged keys), which is not read: "
        f"write it out, or, if it is text, put it in quotes"
    )
    return ComposerError(None, None, problem, mark)
