"""The tables of the label store, as SQLAlchemy describes them. What changes here needs a migration beside it.

Times are UTC seconds since 1970 as floats: they compare alike in SQLite and PostgreSQL. JSON holds small objects.
Nothing that a person said is ever updated: a correction is a new row of `labels` with a higher revision.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
"""One row each: `store` (the name that annotations carry), and what the lead has set for all projects."""

people = Table(
    "people",
    metadata,
    Column("person_id", Integer, primary_key=True),
    Column("login", String(120), nullable=True, unique=True),  # null until an invitation is taken up
    Column("pseudonym", String(60), nullable=False, unique=True),  # what exports show: human:PSEUDONYM
    Column("password", String(200), nullable=True),  # argon2
    Column("role", String(20), nullable=False),  # annotator, reviewer, admin
    Column("state", String(20), nullable=False, default="active"),  # active, paused, stopped
    Column("groups", JSON, nullable=False, default=list),
    Column("skills", JSON, nullable=False, default=list),  # skills and languages; a task may require one of them
    Column("pay", Float, nullable=True),  # an hour, in whatever currency the lead pays
    Column("created_at", Float, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of what stands in the link
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float, nullable=True),
)
"""Links that set a login and a password, once: invitations and resets."""

sessions = Table(
    "sessions",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of the cookie
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

throttle = Table(
    "throttle",
    metadata,
    Column("key", String(200), primary_key=True),  # a login or an address
    Column("failures", Integer, nullable=False),
    Column("until", Float, nullable=False),  # no attempt is looked at before
)

projects = Table(
    "projects",
    metadata,
    Column("project_id", Integer, primary_key=True),
    Column("name", String(60), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),  # ui/work/project.py: Project
    Column("state", String(20), nullable=False, default="open"),  # open, paused, closed
    Column("guideline", String(80), nullable=False),  # card name@hash that holds now
    Column("created_at", Float, nullable=False),
)

guidelines = Table(
    "guidelines",
    metadata,
    Column("guideline_id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("label", String(80), nullable=False),  # name@hash
    Column("card", JSON, nullable=False),  # the card's content
    Column("text", Text, nullable=False),  # Markdown beside the card: what annotators read
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project_id", "label"),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("person_id", Integer, ForeignKey("people.person_id"), primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), primary_key=True),
    Column("label", String(80), primary_key=True),
    Column("at", Float, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("key", String(32), nullable=False),  # names the task in annotation ids; a hash of its targets
    Column("group_id", String(32), nullable=False),
    Column("prompt_id", String(32), nullable=False),
    Column("target_ids", JSON, nullable=False),  # response ids, in the dataset's order
    Column("requires", String(60), nullable=True),  # a skill or language
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=True),  # split: only this person's
    Column("gold", JSON(none_as_null=True), nullable=True),  # {answer, explanation}
    Column("warning", Text, nullable=True),  # of this prompt; the project's own unless there is one
    Column("priority", Float, nullable=False, default=0.0),  # the highest first
    Column("wanted", Integer, nullable=False),  # labels by different people; gold: no limit
    Column("free", Integer, nullable=False),  # wanted - labels - leases: how many may still take it
    Column("state", String(20), nullable=False, default="open"),  # open, gold (for everybody), withdrawn (flagged)
    UniqueConstraint("project_id", "key"),
)
OPEN = tasks.c.free > literal_column("0")  # a literal: SQLite does not take a partial index for what is bound
Index(
    "ix_tasks_next",
    tasks.c.project_id,
    tasks.c.state,
    tasks.c.priority.desc(),
    tasks.c.task_id,
    sqlite_where=OPEN,
    postgresql_where=OPEN,
)
"""What everybody has done leaves this index: the next task is found at its head."""
Index("ix_tasks_state", tasks.c.project_id, tasks.c.state)
Index("ix_tasks_prompt", tasks.c.prompt_id)

asides = Table(
    "asides",
    metadata,
    Column("file", String(200), primary_key=True),
    Column("prompt_id", String(32), primary_key=True),
    Column("position", Integer, nullable=False),  # in the file
    Column("gold", JSON(none_as_null=True), nullable=True),
    Column("explanation", Text, nullable=True),
    Column("warning", Text, nullable=True),
    Column("response_ids", JSON(none_as_null=True), nullable=True),  # the file's order, which positions in gold count
)
"""What an uploaded file says of its prompts that is not for the dataset, since annotators may see that."""

work = Table(
    "work",
    metadata,
    Column("task_id", Integer, ForeignKey("tasks.task_id"), primary_key=True),
    Column("person_id", Integer, ForeignKey("people.person_id"), primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("state", String(20), nullable=False),  # leased, done, skipped, asked, returned, requeued
    Column("gold", Boolean, nullable=False, default=False),
    Column("shown", JSON, nullable=False),  # positions into target_ids, in the order shown to this person
    Column("leased_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("done_at", Float, nullable=True),
)
"""Who has, or had, which task. A lease that has run out is taken back by whoever asks for a task next."""
Index("ix_work_person", work.c.person_id, work.c.project_id, work.c.state, work.c.done_at)
Index("ix_work_expiry", work.c.state, work.c.expires_at)

labels = Table(
    "labels",
    metadata,
    Column("label_id", Integer, primary_key=True),
    Column("task_id", Integer, ForeignKey("tasks.task_id"), nullable=False),
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=False),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("revision", Integer, nullable=False),  # 1, and one more for each correction
    Column("kind", String(20), nullable=False, default="label"),  # label, adjudication
    Column("status", String(20), nullable=False),  # ok, skipped, deleted (taken back, excluded, re-queued)
    Column("answer", JSON, nullable=False),  # ui/answers/checks.py; positions are those of target_ids, not as shown
    Column("shown", JSON, nullable=False),
    Column("guideline", String(80), nullable=False),
    Column("seconds", Float, nullable=False),  # active seconds, as the page counted them (idle time left out)
    Column("created_at", Float, nullable=False),
    Column("client_key", String(64), nullable=False, unique=True),  # sent again after a lost answer: stored once
    Column("pulled", Boolean, nullable=False, default=False),
    UniqueConstraint("task_id", "person_id", "revision"),
)
"""Everything that anybody answered, each revision a row. The highest revision of a task and person holds."""
Index("ix_labels_person", labels.c.person_id, labels.c.created_at)
Index("ix_labels_pulled", labels.c.pulled, labels.c.label_id)
Index("ix_labels_project", labels.c.project_id, labels.c.task_id)

questions = Table(
    "questions",
    metadata,
    Column("question_id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("task_id", Integer, ForeignKey("tasks.task_id"), nullable=False),
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("answer", Text, nullable=True),  # by the lead; then everybody sees question and answer
    Column("created_at", Float, nullable=False),
    Column("answered_at", Float, nullable=True),
)

flags = Table(
    "flags",
    metadata,
    Column("flag_id", Integer, primary_key=True),
    Column("project_id", Integer, ForeignKey("projects.project_id"), nullable=False),
    Column("prompt_id", String(32), nullable=False, index=True),
    Column("person_id", Integer, ForeignKey("people.person_id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(20), nullable=False, default="open"),  # open, upheld (dropped), refused (given back)
    Column("created_at", Float, nullable=False),
)
