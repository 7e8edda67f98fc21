"""What a lead states about a project: the fields of the set-up page, and the options of `prefdata tasks create`."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefdata.errors import DataError

Protocol = Literal["compare", "rank", "rate", "best", "thumbs", "first_error", "spans", "edit"]
"""What people are asked to do; see `answers.py`."""

PROTOCOLS: tuple[str, ...] = get_args(Protocol)

QUESTIONS: dict[str, str] = {
    "compare": "",  # the card's own question
    "rank": "Put the responses in order, the best first.",
    "rate": "How good is each response?",
    "best": "Which response is the best?",
    "thumbs": "Is this a good response?",
    "first_error": "Which is the first step that is wrong?",
    "spans": "Mark the passages in question, and say what each is.",
    "edit": "Make the response better.",
}

SKIP_REASONS = ("I do not know enough about this", "unclear prompt", "I would rather not", "something else")


class Project(BaseModel):
    """A set of tasks that people work on under one card.

    Lists are texts with commas on the command line. Numbers that may be without limit say so with 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$", description="Letters and digits.")
    protocol: Protocol = Field("compare", description=f"What people do: {', '.join(PROTOCOLS)}.")
    card: str = Field("helpfulness", description="What to judge by: a shipped card, or the path of a file.")
    guidelines: str = Field("", description="Further guidelines in Markdown, or the path of a .md file.")
    question: str = Field("", description="The sentence above the answer; the card's own unless given.")

    file: str = Field("", description="Only the prompts of this uploaded file; all that the dataset has unless given.")
    overlap: int = Field(1, ge=1, le=1000, description="By how many different people each task is labelled.")
    responses: int = Field(0, ge=0, le=26, description="At most so many responses in a task; 0: all of a prompt.")
    pairs: Literal["all", "adjacent", "one"] = Field(
        "all", description="compare: which pairs of a prompt's responses: all, adjacent (neighbours), or one (drawn)."
    )
    order: Literal["random", "fixed"] = Field(
        "random", description="In which order a person sees the responses; recorded with the label."
    )

    points: int = Field(7, ge=2, le=9, description="compare: points of the scale; an odd number has a tie.")
    both_bad: bool = Field(True, description="compare: offer `both bad`.")
    ties: bool = Field(True, description="rank: equal ranks are allowed.")
    top: int = Field(0, ge=0, description="rank: only so many must be ranked; 0: all.")
    best: int = Field(1, ge=1, description="best: how many may be chosen.")
    none: bool = Field(False, description="best: `none of them` is an answer.")
    input: Literal["likert", "slider"] = Field("likert", description="rate: buttons or a slider.")
    span_labels: tuple[str, ...] = Field(("wrong", "unsupported", "good"), description="spans: the labels.")

    rationale: Literal["none", "optional", "required"] = Field("none", description="Ask for a reason in words.")
    confidence: bool = Field(False, description="Ask how sure the person is.")
    reasons: tuple[str, ...] = Field((), description="Reasons to tick.")
    may_skip: bool = Field(True, description="A task can be skipped, with a reason and without penalty.")
    skip_reasons: tuple[str, ...] = Field(SKIP_REASONS, description="Reasons for skipping.")
    warning: str = Field("", description="A content warning: texts stay hidden until the person asks to see them.")

    gold: str = Field("", description="A file of gold questions: tasks with a column `gold`.")
    gold_share: float = Field(0.1, ge=0, le=0.9, description="Share of gold questions among a person's tasks.")
    qualify: int = Field(0, ge=0, description="So many gold questions come first, with feedback.")
    pass_mark: float = Field(0.7, ge=0, le=1, description="Share of those that must be right to go on.")

    people: tuple[str, ...] = Field((), description="Who: pseudonyms. Nobody named: everybody.")
    groups: tuple[str, ...] = Field((), description="Who: members of these groups.")
    skills: tuple[str, ...] = Field((), description="Who: people who have all of these skills or languages.")
    require: Literal["", "language", "skill"] = Field(
        "", description="A task asks for the skill or language in its prompt's tag (language:de, skill:law)."
    )
    split: bool = Field(False, description="Share the tasks out among the people: each has their own (overlap 1).")
    quota: int = Field(0, ge=0, description="At most so many labels a person; 0: no limit.")
    quota_day: int = Field(0, ge=0, description="At most so many labels a person and day (UTC); 0: no limit.")

    route: Literal["all", "uncertain", "disagreement", "score"] = Field(
        "all",
        description="Which tasks come first: as they are; the least certain or most disputed by what annotations "
        "say already; the lowest score.",
    )
    route_by: str = Field("*", description="Whose annotations `route` reads: a pattern, for example judge:*.")
    route_aspect: str = Field("overall", description="Under which aspect.")
    budget: int = Field(0, ge=0, description="Only so many tasks, those that `route` puts first; 0: all.")

    lease: int = Field(20, ge=1, le=24 * 60, description="Minutes after which an untouched task goes to others.")
    idle: int = Field(60, ge=10, le=3600, description="Seconds without a touch after which time no longer counts.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split and self.overlap > 1:
            raise ValueError("split gives each task to one person: leave overlap at 1")
        if self.qualify and not self.gold:
            raise ValueError("a qualification round needs gold questions (gold)")
        if self.protocol == "spans" and not self.span_labels:
            raise ValueError("spans needs span_labels")
        return self

    @property
    def asked(self) -> int:
        """How many responses a task of this protocol needs at least."""
        return {"compare": 2, "rank": 2, "best": 2}.get(self.protocol, 1)


LISTS = frozenset(name for name, field in Project.model_fields.items() if field.annotation == tuple[str, ...])
"""The fields that are lists of texts."""


def project_of(fields: dict[str, object]) -> Project:
    """The project that these fields state.

    Raises:
        DataError: they state none; each wrong field with what it may be.
    """
    try:
        return Project.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"project {fields.get('name', '')!r}: {'; '.join(_problems(error))}") from error


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        key, said = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            said = "is missing"
        elif problem["type"] == "extra_forbidden":
            said = "is unknown"
        elif key == "name":
            said = "takes letters, digits, dot, dash and underscore, 60 at most"
        lines.append(f"{key}: {said}" if key else said)
    return lines
