"""How the application stands in the world: under a proxy's path, and in a server that stops when it is told to."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefdata.errors import DataError

if TYPE_CHECKING:
    import uvicorn

_GRACE = 3
"""Seconds that requests have to come to their end when the server stops."""


class Rooted:
    """Tells the application under which path the browser knows it, whether or not the proxy has cut that path off.

    Args:
        app: what stands behind.
        root: without a slash at its end.
    """

    def __init__(self, app: ASGIApp, *, root: str) -> None:
        self.app = app
        self.root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if self.root and scope["type"] == "http":
            path: str = scope["path"]
            if path != self.root and not path.startswith(f"{self.root}/"):
                path = self.root + path
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": self.root}
        await self.app(scope, receive, send)


class Ending:
    """Ends open streams when the server stops: it would wait for them, and then break them off with a traceback each.

    Args:
        app: what stands behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """From now on everybody has hung up."""
        self._stopped.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        read = begun = done = False

        async def hearing() -> Message:
            nonlocal read
            if not read:
                message = await receive()
                read = not message.get("more_body", False)
                return message
            return await self._first(receive)

        async def saying(message: Message) -> None:
            nonlocal begun, done
            begun = True
            done = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        await self.app(scope, hearing, saying)
        if begun and not done and self._stopped.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first(self, receive: Receive) -> Message:
        """That the client has hung up, or that the server stops, whichever comes first."""
        hung_up = asyncio.ensure_future(receive())
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({hung_up, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return hung_up.result() if hung_up.done() else {"type": "http.disconnect"}
        finally:
            hung_up.cancel()
            stopped.cancel()


def run(app: ASGIApp, host: str, port: int) -> None:
    """Serve an application until the process is told to stop.

    Args:
        app: the application.
        host: the address to listen at.
        port: the port.

    Raises:
        DataError: the address cannot be listened at.
    """
    import uvicorn

    ending = Ending(app)
    try:
        server = _server(uvicorn.Config(ending, **options(host, port)), ending)
        server.run()
    except KeyboardInterrupt:  # uvicorn has stopped in good order, and says once more why
        pass
    except SystemExit as error:  # it has said so in its log only
        raise DataError(
            f"nothing can listen at {host}:{port}: if something else does, choose another --port"
        ) from error


def options(host: str, port: int) -> dict[str, Any]:
    """How uvicorn is to run."""
    return {
        "host": host,
        "port": port,
        "proxy_headers": True,
        "forwarded_allow_ips": "127.0.0.1,::1",  # anybody else could claim any address, and so escape the brake
        "server_header": False,
        "access_log": False,  # addresses hold invitation links
        "log_level": "warning",
        "ws": "none",
        "timeout_graceful_shutdown": _GRACE,
    }


def _server(config: uvicorn.Config, ending: Ending) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            ending.stop()
            await super().shutdown(sockets)

    return Server(config)
