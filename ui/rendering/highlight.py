"""Code with its syntax marked by CSS classes, as safe HTML."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from pygments import format as written  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

MAX_CODE = 10_000
"""Characters of code that are highlighted in one text; further code is plain."""

MAX_SECONDS = 0.5
"""Processor time for one piece of code; 10,000 line breaks would take the C lexer two seconds."""

# Pygments has some 500 lexers, whose regular expressions hold the whole server while they backtrack. These are common,
# and none of their expressions held on for more than about a second on MAX_CODE hostile characters.
_LANGUAGES = """
bash c c++ cpp cs csharp css diff dockerfile go golang haskell hs html ini java javascript js json jsx julia kotlin
latex lua makefile matlab objective-c perl php powershell py py3 python python3 pycon r rb rs ruby rust scala sh shell
sql swift tex toml ts tsx typescript xml yaml yml zsh
"""
LANGUAGES = frozenset(_LANGUAGES.split())

CLASSES = frozenset(name for name in STANDARD_TYPES.values() if name)
"""The classes that may stand in a span of code."""


def spans(code: str, info: str) -> str | None:
    """Code as `<span class="k">` and the like; None where the language is not in `LANGUAGES`, or the time is up.

    Args:
        code: at most `MAX_CODE` characters.
        info: the words after the fence; the first names the language.
    """
    language = info.split(maxsplit=1)[0].lower() if info.strip() else ""
    if language not in LANGUAGES:
        return None
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    try:
        return str(written(_timed(lexer.get_tokens(code)), HtmlFormatter(nowrap=True)))
    except TimeoutError:
        return None


def _timed(tokens: Iterable[tuple[Any, str]]) -> Iterator[tuple[Any, str]]:
    ends = time.thread_time() + MAX_SECONDS
    for token in tokens:
        yield token
        if time.thread_time() > ends:
            raise TimeoutError


@lru_cache(maxsize=2)
def code_css(dark: bool) -> str:
    """The style sheet of highlighted code, every rule below `.markup-code`, for a light or a dark page."""
    formatter = HtmlFormatter(style="github-dark" if dark else "default")
    rules = formatter.get_style_defs(".markup-code").splitlines()
    return "\n".join(rule for rule in rules if rule.startswith(".markup-code")) + "\n"
