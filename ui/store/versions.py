"""Versions of the store, and how one becomes the next: Alembic's scripts in `migrations/`, run from within."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

NEWEST = "0002"
"""The version that `tables.py` describes."""


def _scripts() -> tuple[Config, ScriptDirectory]:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config, ScriptDirectory.from_config(config)


def version_of(connection: Connection) -> str | None:
    """The version that a store says it has."""
    return MigrationContext.configure(connection).get_current_revision()


def stamp(connection: Connection) -> None:
    """Mark a store that was just made as the newest version."""
    _, scripts = _scripts()
    MigrationContext.configure(connection).stamp(scripts, NEWEST)


def bring_up(connection: Connection) -> None:
    """Run the migrations that are missing, all within the caller's transaction."""
    config, scripts = _scripts()
    steps = lambda revision, context: scripts._upgrade_revs(NEWEST, revision)  # noqa: E731
    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()
