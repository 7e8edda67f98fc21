"""The label store: people, projects, tasks and labels in SQLite or PostgreSQL."""

from .store import Store

__all__ = ["Store"]
