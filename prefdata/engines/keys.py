"""Keys: read from the environment, and kept out of every message, row and file."""

from __future__ import annotations

import re

from prefdata.errors import EngineError

HIDDEN = "***"

_VARIABLE = re.compile(r"[A-Z_a-z][A-Z_a-z0-9]{0,63}")
_LOOKS_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|rk|hf|gsk|xai|key|token)[-_][A-Za-z0-9*_.-]{6,}|(?<=[Bb]earer )[^\s\"',]+|(?<=://)[^/\s@]+(?=@)"
)
_LONG = 16
"""A key of at least so many characters is hidden even in answers; a shorter one may be an ordinary word."""


def check_variable(name: str) -> str:
    """A name of an environment variable; raises ValueError, without repeating it, for what may be the key itself."""
    if not _VARIABLE.fullmatch(name) or name.lower().startswith(("sk_", "hf_", "gsk_")):
        raise ValueError("this is no name of an environment variable; a key never stands in a pipeline")
    return name


def check_header(key: str, variable: str) -> str:
    """A key that HTTP can carry.

    Raises:
        EngineError: it has spaces or characters that a header cannot have; names the variable, not the key.
    """
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EngineError(f"the environment variable {variable} holds no usable key: a key has no spaces or accents")
    return key


def redact(text: str, key: str | None) -> str:
    """`text` without the key, and without whatever else looks like one."""
    if key and len(key) >= 4:
        text = _without(text, key)
    return _LOOKS_LIKE_A_KEY.sub(HIDDEN, text)


def redact_answer(text: str, key: str | None) -> str:
    """A model's answer without the key. Nothing else is touched: an answer may well talk about keys."""
    return _without(text, key) if key and len(key) >= _LONG else text


def hidden_in_answers(key: str | None) -> tuple[str, ...]:
    """The texts that `redact_answer` takes out."""
    return _forms(key) if key and len(key) >= _LONG else ()


def _forms(key: str) -> tuple[str, ...]:
    """The key may stand in JSON, where some servers write a slash as `\\/`."""
    return tuple(dict.fromkeys((key, key.replace("/", "\\/"))))


def _without(text: str, key: str) -> str:
    for form in _forms(key):
        text = text.replace(form, HIDDEN)
    return text
