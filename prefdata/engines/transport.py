"""HTTP for bulk: a body goes out, an answer's status, headers and bytes come back.

Nothing of the environment changes where requests go but the usual variables for proxies (HTTP_PROXY, HTTPS_PROXY,
ALL_PROXY, NO_PROXY), which never hold for this machine's own addresses. Certificates are checked against the system's,
or those of SSL_CERT_FILE. Redirects are not followed: a key goes where the pipeline says, and nowhere else.
"""

from __future__ import annotations

import errno
import io
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Protocol
from urllib.parse import urlsplit

from prefdata.engines.base import RequestError
from prefdata.engines.errors import UnreachableError
from prefdata.engines.openai_answers import one_line
from prefdata.errors import EngineError

LARGEST_ANSWER = 64 * 2**20
"""Bytes of an answer, after decompression, that are taken; a completion has some thousands."""

_IDLE_SECONDS = 4.0
"""Connections are closed before the servers that close idle ones after 5 seconds do: a request on its way at that very
moment would be lost."""
_HEADER_LIMIT = 64 * 1024
_LARGE_BODY = 2**20


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered, whatever the status.

    Attributes:
        status: of HTTP.
        headers: names in any case.
        body: decompressed.

    A server may repeat the key, so neither is shown where a log shows local variables.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: of one attempt in all, until there is a connection, and of silence (None: only the total counts)."""

    total: float
    connect: float
    read: float | None


class ConnectTimeoutError(RequestError):
    """There was no connection in time: the request was not sent."""


class Transport(Protocol):
    """Connections of one event loop."""

    async def post(self, base_url: str, path: str, body: Mapping[str, Any], place: str) -> HttpAnswer:
        """Send a body once.

        Args:
            base_url: the server's address.
            path: below it, beginning with a slash.
            body: what JSON holds.
            place: model and address, for messages.

        Raises:
            RequestError: no answer; UnreachableError where nobody is at the address.
            EngineError: no request can succeed: an untrusted certificate, a redirect, no more open files.
        """
        ...

    async def close(self) -> None:
        """Close the connections; those of an event loop that has ended are gone with it."""
        ...


class DirectTransport:
    """aiohttp and orjson, with as little between them and the engine as can be.

    The number of connections is not limited here: the client holds requests back, and a second queue would count its
    waiting as connecting.

    Args:
        timeouts: see `Timeouts`.
        headers: of every request.
        redacted: removes secrets from what a message quotes.
    """

    def __init__(self, timeouts: Timeouts, headers: Mapping[str, str], redacted: Callable[[str], str]) -> None:
        import aiohttp

        self._timeouts, self._redacted = timeouts, redacted
        # Not the session's own headers: aiohttp gives those to a proxy too, and with them the key.
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "User-Agent": "prefdata",
            **headers,
        }
        self._proxies: dict[str, str | None] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            # `read` is of each wait for bytes, `connect` of name, connection and handshake.
            timeout=aiohttp.ClientTimeout(timeouts.total, connect=timeouts.connect, sock_read=timeouts.read),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
        )

    async def post(self, base_url: str, path: str, body: Mapping[str, Any], place: str) -> HttpAnswer:
        """See `Transport.post`."""
        import aiohttp

        if base_url not in self._proxies:
            self._proxies[base_url] = proxy_of(base_url)
        data = _sendable(body)
        url, proxy = base_url + path, self._proxies[base_url]
        try:
            async with self._session.post(
                url, data=data, headers=self._headers, proxy=proxy, allow_redirects=False
            ) as response:
                found = bytearray()
                async for part in response.content.iter_any():
                    found += part
                    if len(found) > LARGEST_ANSWER:
                        raise too_large(place)
                encoding = response.headers.get("Content-Encoding", "")
                content = decompressed(bytes(found), encoding, place) if encoding else bytes(found)
                return HttpAnswer(response.status, response.headers, content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = from_aiohttp(error, place, self._timeouts, self._redacted)
        # Outside of the handler: aiohttp's exceptions hold the request, whose headers hold the key.
        raise problem

    async def stream(
        self, base_url: str, path: str, body: Mapping[str, Any], place: str
    ) -> AsyncGenerator[HttpAnswer | bytes]:
        """Send a body once; yields status and headers, without a body, and then the body's bytes as they come.

        Args and errors are those of `Transport.post`, also in the middle; `timeout` is for the whole of it.
        """
        import aiohttp

        if base_url not in self._proxies:
            self._proxies[base_url] = proxy_of(base_url)
        # Not compressed: a packed stream would have to be unpacked piece by piece, and it may unpack without end.
        headers = {**self._headers, "Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        found = 0
        try:
            async with self._session.post(
                base_url + path,
                data=_sendable(body),
                headers=headers,
                proxy=self._proxies[base_url],
                allow_redirects=False,
            ) as response:
                encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
                if encoding not in ("", "identity"):
                    raise RequestError(f"{place} answers in the encoding {encoding[:40]!r}, which it was not asked for")
                yield HttpAnswer(response.status, response.headers, b"")
                async for part in response.content.iter_any():
                    found += len(part)
                    if found > LARGEST_ANSWER:
                        raise too_large(place)
                    yield part
            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = from_aiohttp(error, place, self._timeouts, self._redacted)
        # Outside of the handler: aiohttp's exceptions hold the request, whose headers hold the key.
        raise problem

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._session.close()


def _sendable(body: Mapping[str, Any]) -> bytes | io.BytesIO:
    sent = encode(body)
    # aiohttp warns of large bodies in one piece: they are written without giving way.
    return io.BytesIO(sent) if len(sent) >= _LARGE_BODY else sent


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as JSON in UTF-8; half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    import orjson

    try:
        return orjson.dumps(body)
    except TypeError:  # whole numbers beyond 64 bits, keys that are no text
        return json.dumps(body, allow_nan=False).encode()


def decompressed(body: bytes, encoding: str, place: str) -> bytes:
    """A body without its Content-Encoding, of which only gzip was asked for.

    Raises:
        RequestError: another encoding, bytes that are none of it, or more than `LARGEST_ANSWER` come out of it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RequestError(f"{place} answers in the encoding {encoding[:40]!r}, which it was not asked for")
    reader = zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(body, LARGEST_ANSWER + 1)
    except zlib.error:
        text = b""
    if len(text) > LARGEST_ANSWER:
        raise too_large(place)
    if not reader.eof:
        raise RequestError(f"the connection broke: {place}: the answer's gzip cannot be read", retriable=True)
    return text


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address, None where there is none.

    Raises:
        EngineError: it is of a kind that is not supported.
    """
    from urllib.request import getproxies, proxy_bypass

    address = urlsplit(url)
    host = address.hostname or ""
    if _is_this_machine(host) or proxy_bypass(address.netloc) or proxy_bypass(host):
        return None
    known = getproxies()
    if _in_networks(host, known.get("no", "")):
        return None
    proxy = known.get(address.scheme) or known.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        raise EngineError(
            f"the environment names a {scheme} proxy for {host}, and only http proxies are supported: change "
            f"{address.scheme.upper()}_PROXY, or name {host} in NO_PROXY"
        )
    return proxy


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _in_networks(host: str, listed: str) -> bool:
    """Whether one of the networks in NO_PROXY (10.0.0.0/8) holds an address; the standard library reads names only."""
    for entry in listed.split(","):
        try:
            if ip_address(host) in ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def too_large(place: str) -> RequestError:
    """The error that an endless answer is."""
    return RequestError(f"{place} sends more than {LARGEST_ANSWER // 2**20} MiB for one answer; the rest was not read")


def late(which: str, place: str, timeouts: Timeouts) -> RequestError:
    """The error that a timeout is.

    Args:
        which: connect, read or total.
        place: model and address.
        timeouts: the limits, for the sentence.
    """
    if which == "connect":
        said = f"no connection to {place} within {timeouts.connect:g} seconds (connect_timeout)"
        return ConnectTimeoutError(said, "timeout", retriable=True)
    if which == "read":
        said = f"{place} was silent for {timeouts.read:g} seconds (read_timeout)"
    else:
        said = f"no answer from {place} within {timeouts.total:g} seconds (timeout)"
    return RequestError(said, "timeout", retriable=True)


def from_aiohttp(
    error: Exception, place: str, timeouts: Timeouts, redacted: Callable[[str], str]
) -> RequestError | EngineError:
    """The error that an exception of aiohttp is. Nearly all are worth another attempt."""
    import aiohttp

    said = redacted(one_line(str(error)) or type(error).__name__)
    match error:
        case aiohttp.ConnectionTimeoutError():
            return late("connect", place, timeouts)
        case aiohttp.SocketTimeoutError():
            return late("read", place, timeouts)
        case TimeoutError():
            return late("total", place, timeouts)
        case aiohttp.ClientConnectorCertificateError():
            why = redacted(one_line(str(error.certificate_error)))
            return EngineError(
                f"the certificate of {place} is not trusted: {why}; if it is your own, name a file with the "
                "certificates to trust in SSL_CERT_FILE"
            )
        case aiohttp.ClientConnectorError():
            return _unconnected(error, place, redacted)
        case aiohttp.ClientHttpProxyError() if error.status == 407:
            return EngineError(f"the proxy before {place} wants a user and password, in HTTPS_PROXY (407)")
        case aiohttp.ClientHttpProxyError():
            return RequestError(f"the proxy before {place} answered {error.status}", retriable=True)
        case aiohttp.InvalidURL():
            return EngineError(f"base_url is no address that can be asked: {said}")
        case aiohttp.ClientResponseError():
            return RequestError(f"the connection broke: {place}: what came is not HTTP: {said}", retriable=True)
    return RequestError(f"the connection broke: {place}: {said}", retriable=True)


def _unconnected(error: Any, place: str, redacted: Callable[[str], str]) -> RequestError | EngineError:
    import aiohttp

    if error.os_error.errno in (errno.EMFILE, errno.ENFILE):
        return EngineError(
            "this machine allows no more open files, and each connection is one: lower max_concurrency, or raise the "
            "limit (ulimit -n)"
        )
    through = "the proxy before " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    detail = redacted(one_line(str(error.os_error)))
    if isinstance(error, aiohttp.ClientSSLError):
        return UnreachableError(f"no TLS connection to {through}{place}: {detail}", retriable=True)
    return UnreachableError(f"nobody answers at {through}{place}: {detail}", retriable=True)
