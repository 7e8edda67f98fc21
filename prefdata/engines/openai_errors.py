"""What an OpenAI-compatible server's errors mean for a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from prefdata.engines.base import RequestError
from prefdata.engines.openai_answers import message_of, one_line, parse_json, text_of, tokens_of
from prefdata.errors import EngineError

_RETRIED = frozenset({408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_FILTER_WORDS = ("content_filter", "content_policy", "content management policy", "moderation", "flagged")
_SCHEMA_WORDS = ("response_format", "json_schema", "guided", "structured output", "structured_output")
AWAY = frozenset({502, 503, 504})
"""What a gateway answers for a server that is not there, and a server that takes no more."""


def retry_after(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as an HTTP date (RFC 9110).

    None where it does not say, or says nothing that can be read.
    """
    lowered = {key.lower(): value for key, value in headers.items()}
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(lowered[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        date = parsedate_to_datetime(lowered["retry-after"])
    except (KeyError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - now()).total_seconds())


def from_status(
    code: int, body: bytes, headers: Mapping[str, str], place: str, redacted: Callable[[str], str]
) -> RequestError | EngineError:
    """The error that an HTTP status is: RequestError for one request, EngineError where none can succeed.

    Args:
        code: HTTP status, not one of success.
        body: of the answer.
        headers: of the answer.
        place: model and address, for the message.
        redacted: removes secrets.
    """
    answer, text = parse_json(body), text_of(body)
    said = redacted(message_of(answer) or one_line(text))
    if code in (400, 403, 422) and any(word in text.lower() for word in _FILTER_WORDS):
        said = f"the server's content filter refused the request: {said}"
        return RequestError(said, "refused", raw=redacted(text), code=code)
    if 300 <= code < 400:
        return EngineError(
            f"{place} answers {code} and sends on to {redacted(one_line(_header(headers, 'location'))) or 'nowhere'}; "
            "redirects are not followed, so that a key goes nowhere else: set base_url to the right address"
        )
    if code in (401, 403):
        return EngineError(f"{place} rejects the key ({code}: {said}); check the environment variable of api_key_env")
    if code == 402 or (code == 429 and "insufficient_quota" in text):
        return EngineError(f"{place} wants to be paid first ({code}: {said}); what was answered so far is kept")
    if code == 404:
        return EngineError(
            f"{place} does not know the model or the path ({said or 404}); base_url ends in /v1 as a rule"
        )
    read, written = tokens_of(answer) if isinstance(answer, dict) else (0, 0)
    return RequestError(
        f"the server answered {code}: {said}",
        retriable=code in _RETRIED,
        retry_after=retry_after(headers) if code in (429, 503, 529) else None,
        raw=redacted(text),
        prompt_tokens=read,
        completion_tokens=written,
        code=code,
    )


def about_a_schema(error: RequestError) -> bool:
    """Whether a server refuses a request for the `response_format` in it, as its answer names it."""
    said = error.raw.lower()
    return error.code in (400, 422, 501) and any(word in said for word in _SCHEMA_WORDS)


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")
