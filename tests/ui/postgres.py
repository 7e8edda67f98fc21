"""A PostgreSQL server for tests: Debian's binaries, a folder of its own, loopback only, gone afterwards.

Tests take the fixture `postgres`, which is the URL of an empty database; where there are no binaries they are skipped.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USER = "prefdata"
_PATIENCE = 60.0


def binaries() -> Path | None:
    """The folder with initdb and postgres: on the path, or the newest that Debian's package has put down."""
    found = shutil.which("initdb")
    if found and (Path(found).parent / "postgres").exists():
        return Path(found).parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(packaged, key=lambda path: float(path.parts[-3]))
    return newest[-1].parent if newest else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@contextlib.contextmanager
def running(folder_of: Path) -> Iterator[str]:
    """Start a server with its own defaults (fsync on), and stop it in the end.

    Args:
        folder_of: where initdb and postgres are.

    Yields:
        The URL of its empty database.
    """
    # Not below pytest's folder, which the server's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="prefdata-postgres-"))
    password, port, as_user = secrets.token_urlsafe(16), free_port(), _unprivileged()
    try:
        secret = folder / "password"
        secret.write_text(password)
        for path in (folder, secret):
            path.chmod(0o700)
            if as_user:
                shutil.chown(path, as_user["user"])
        made = [folder_of / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
        made += ["--no-sync", "--locale=C", "--encoding=UTF8"]  # the server itself syncs
        subprocess.run(made, cwd=folder, check=True, capture_output=True, timeout=_PATIENCE, **as_user)
        command = [folder_of / "postgres", "-D", folder / "data", "-p", str(port), "-c", "unix_socket_directories="]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1"], cwd=folder, stdout=log, stderr=log, **as_user
            )
        try:
            url = f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/postgres"
            _wait(url, server, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # ends the connections that are left
            try:
                server.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh(url: str) -> str:
    """Make an empty database on a server; its URL."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    name = f"labels_{secrets.token_hex(6)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """One server for all tests of a process."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with running(found) as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of an empty database."""
    return fresh(postgres_server)


def _unprivileged() -> dict[str, Any]:
    """As whom to run: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    name = next((one for one in ("postgres", "nobody") if one in known), None)
    if name is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": ()}


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    engine, until = create_engine(url), time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                engine.connect().close()
                return
            except OperationalError:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-800:]}") from None
                time.sleep(0.05)
    finally:
        engine.dispose()
