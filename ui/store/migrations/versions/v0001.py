"""The first version. A new store is made whole from `tables.py`; this is the name that it starts from."""

from __future__ import annotations

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing stands before the first version."""
