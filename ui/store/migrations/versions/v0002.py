"""What uploaded files say beside their prompts: gold answers, warnings. A task may have a warning of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table `asides`, the column `tasks.warning` and an index."""
    op.create_table(
        "asides",
        sa.Column("file", sa.String(200), nullable=False),
        sa.Column("prompt_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("gold", sa.JSON, nullable=True),
        sa.Column("explanation", sa.Text, nullable=True),
        sa.Column("warning", sa.Text, nullable=True),
        sa.Column("response_ids", sa.JSON, nullable=True),
        sa.PrimaryKeyConstraint("file", "prompt_id", name="pk_asides"),
    )
    op.add_column("tasks", sa.Column("warning", sa.Text, nullable=True))
    op.create_index("ix_tasks_state", "tasks", ["project_id", "state"])  # gold questions of a large project
