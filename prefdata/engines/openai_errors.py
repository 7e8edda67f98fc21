"""What an OpenAI-compatible server's errors mean for a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from prefdata.engines.base import RequestError
from prefdata.engines.errors import UnreachableError
from prefdata.errors import EngineError

_RETRIED = frozenset({408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_FILTER_WORDS = ("content_filter", "content_policy", "content management policy", "moderation", "flagged")
_NOBODY = frozenset({"ConnectError", "ConnectionRefusedError", "gaierror"})


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
    code: int, body: str, headers: Mapping[str, str], engine: str, redacted: Callable[[str], str]
) -> Exception:
    """The error that an HTTP status is: RequestError for one request, EngineError where none can succeed.

    Args:
        code: HTTP status, 400 or higher.
        body: of the answer.
        headers: of the answer.
        engine: its name and address, for the message.
        redacted: removes secrets.
    """
    said = redacted(_message(body))
    if code in (400, 403, 422) and any(word in body.lower() for word in _FILTER_WORDS):
        return RequestError(f"the server's content filter refused the request: {said}", "refused", raw=redacted(body))
    if code in (401, 403):
        return EngineError(f"{engine} rejects the key ({code}: {said}); check the environment variable of api_key_env")
    if code == 402 or (code == 429 and "insufficient_quota" in body):
        return EngineError(f"{engine} wants to be paid first ({code}: {said}); what was answered so far is kept")
    if code == 404:
        return EngineError(
            f"{engine} does not know the model or the path ({said or 404}); base_url ends in /v1 as a rule"
        )
    wait = retry_after(headers) if code in (429, 503, 529) else None
    return RequestError(
        f"the server answered {code}: {said}", retriable=code in _RETRIED, retry_after=wait, raw=redacted(body)
    )


def from_connection(error: Exception, engine: str, redacted: Callable[[str], str]) -> RequestError:
    """The error that a broken or refused connection is. All are worth another attempt."""
    cause: BaseException | None = error
    names, detail = [], ""
    while cause is not None:
        names.append(type(cause).__name__)
        detail = str(cause) or detail
        cause = cause.__cause__
    sentence = redacted(f"{engine}: {detail or type(error).__name__}")
    if _NOBODY.intersection(names):
        return UnreachableError(f"nobody answers at {sentence}", retriable=True)
    return RequestError(f"the connection broke: {sentence}", retriable=True)


def _message(body: str) -> str:
    """The sentence in an error's body, in the forms that servers have; else the beginning of the body."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    error = found.get("error", found) if isinstance(found, dict) else found
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return " ".join(str(said if said else body).split())[:300]
