"""Deployments on Azure, through the openai package, which knows their paths and headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from prefdata.engines.base import RequestError
from prefdata.engines.errors import UnreachableError
from prefdata.engines.openai_answers import one_line
from prefdata.engines.transport import LARGEST_ANSWER, HttpAnswer, Timeouts, late, too_large

_SENT = frozenset({
    "accept", "accept-encoding", "api-key", "connection", "content-length", "content-type", "host", "user-agent",
    "x-stainless-raw-response",
})  # fmt: skip
"""The last one is the package's note to itself, which it reads from the request."""


class AzureTransport:
    """`openai.AsyncAzureOpenAI` with its own typed errors, one client for each address.

    Args:
        timeouts: as of the direct path.
        key: of the resource, sent as `api-key`.
        api_version: of Azure's interface.
        deployment: its name at Azure.
        redacted: removes secrets from what a message quotes.
    """

    def __init__(
        self, timeouts: Timeouts, key: str, api_version: str, deployment: str, redacted: Callable[[str], str]
    ) -> None:
        self._timeouts, self._key, self._redacted = timeouts, key, redacted
        self._api_version, self._deployment = api_version, deployment
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, Any] = {}

    async def post(self, base_url: str, path: str, body: Mapping[str, Any], place: str) -> HttpAnswer:
        """See `prefdata.engines.transport.Transport.post`."""
        import openai

        client = self._client(base_url)
        resource = client.chat.completions if path == "/chat/completions" else client.completions
        known = {name: body[name] for name in ("model", "messages", "prompt") if name in body}
        try:
            # The package's timeout is for each read; a server that dribbles would never meet it.
            async with (
                asyncio.timeout(self._timeouts.total),
                resource.with_streaming_response.create(**known, extra_body=dict(body)) as response,
            ):
                found = bytearray()
                async for part in response.iter_bytes():
                    found += part
                    if len(found) > LARGEST_ANSWER:
                        raise too_large(place)
                return HttpAnswer(response.status_code, dict(response.headers), bytes(found))
        except openai.APIStatusError as error:
            return HttpAnswer(error.status_code, dict(error.response.headers), error.response.content)
        except RequestError:
            raise
        except (openai.OpenAIError, TimeoutError, OSError) as error:
            problem = self._problem(error, place)
        except Exception as error:
            # What breaks while a body is read comes as an exception of the package's HTTP library.
            if type(error).__module__.partition(".")[0] not in ("httpx2", "httpcore2", "httpx", "httpcore"):
                raise
            problem = self._problem(error, place)
        # Outside of the handler: the package's exceptions hold the request, whose headers hold the key.
        raise problem

    async def close(self) -> None:
        """See `prefdata.engines.transport.Transport.close`."""
        if self._loop is asyncio.get_running_loop():
            for client in self._clients.values():
                await client.close()
        self._clients.clear()

    def _client(self, base_url: str) -> Any:
        import openai

        if base_url not in self._clients:
            client = openai.AsyncAzureOpenAI(
                azure_endpoint=base_url,
                azure_deployment=self._deployment,
                api_version=self._api_version,
                api_key=self._key,
                max_retries=0,
                timeout=openai.Timeout(
                    self._timeouts.read, connect=self._timeouts.connect, write=self._timeouts.read, pool=None
                ),
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False, event_hooks={"request": [_only_ours]}
                ),
            )
            self._clients[base_url] = client
        return self._clients[base_url]

    def _problem(self, error: Exception, place: str) -> RequestError:
        names, details = [], []
        cause: BaseException | None = error
        while cause is not None:
            names.append(type(cause).__name__)
            details.append(str(cause))
            cause = cause.__cause__
        detail = self._redacted(one_line(next((text for text in reversed(details) if text), names[0])))
        if "ConnectTimeout" in names:
            return late("connect", place, self._timeouts)
        if "ReadTimeout" in names or "WriteTimeout" in names:
            return late("read", place, self._timeouts)
        if isinstance(error, TimeoutError):
            return late("total", place, self._timeouts)
        if {"ConnectError", "ConnectionRefusedError", "gaierror"}.intersection(names):
            return UnreachableError(f"nobody answers at {place}: {detail}", retriable=True)
        return RequestError(f"the connection broke: {place}: {detail}", retriable=True)


async def _only_ours(request: Any) -> None:
    """Remove what the package adds of itself and from its environment variables (organisation, project, headers)."""
    for name in [name for name in request.headers if name.lower() not in _SENT]:
        del request.headers[name]
    request.headers["host"] = request.url.netloc.decode("ascii")
