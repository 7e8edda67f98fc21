"""What to search for, and the query that finds it in an edition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from prefdata.errors import DataError

WHERE = ("any", "prompt", "response", "rationale")
STATES = ("live", "dropped", "any")
OUTCOMES = ("won", "lost", "tied")


@dataclass(frozen=True)
class Filter:
    """What must hold of a prompt for it to be found; what is empty asks for nothing.

    Conditions on a response hold of one and the same response, those on an annotation of one annotation, and where
    there are both, of an annotation about that response. Of several values of one field any will do.

    Attributes:
        text: stands in the prompt (any turn, the condition, the passages), a response, or a rationale, in any case.
        where: which of these: any (prompt or response), prompt, response, rationale.
        annotator: said something about it.
        aspect: under which something was said.
        status: of an annotation: ok, skipped, refused, ...
        label: of an annotation, such as both_bad.
        outcome: won, lost or tied, of a response in a comparison, ranking or choice.
        low: the least score of a response.
        high: the greatest.
        source: of the prompt.
        model: of a response.
        tag: of the prompt.
        state: live: only what is live is searched. any: what is hidden too. dropped: likewise, and only prompts are
            found that are hidden or have a response that is.
        reason: why a prompt or a response was dropped; it asks for `dropped` by itself.
        id: of the prompt, its group, a response or an annotation.
        sql: a condition on a row of `flat`, in SQL. There is a row for each response and each thing said about it, with
            g, group_id, prompt_id, prompt, source, tags, user_id, response_id, response, model, sample_index,
            finish_reason, n_tokens, annotator, aspect, protocol, annotation_source, status, score, outcome, place (from
            1, as shown), labels, confidence, strength, seconds, criterion_id, created_at. Of live rows only.
    """

    text: str = ""
    where: str = "any"
    annotator: Sequence[str] = ()
    aspect: Sequence[str] = ()
    status: Sequence[str] = ()
    label: Sequence[str] = ()
    outcome: str = ""
    low: float | None = None
    high: float | None = None
    source: Sequence[str] = ()
    model: Sequence[str] = ()
    tag: Sequence[str] = ()
    state: str = "live"
    reason: Sequence[str] = ()
    id: str = ""
    sql: str = ""

    def __post_init__(self) -> None:
        for name, known in (("where", WHERE), ("state", STATES), ("outcome", ("", *OUTCOMES))):
            if getattr(self, name) not in known:
                raise DataError(f"{name} is {getattr(self, name)!r}: it is one of {', '.join(filter(None, known))}")
        for one in fields(self):
            if one.type == "Sequence[str]" and isinstance(getattr(self, one.name), str):
                raise DataError(f"{one.name} is a list of texts, not one text: write [{getattr(self, one.name)!r}]")


class Conditions:
    """Conditions joined by AND, with the values of their question marks."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """One more."""
        self.said.append(condition)
        self.values += values

    def one_of(self, column: str, wanted: Sequence[str]) -> None:
        """A column has one of these values, if there are any."""
        if wanted:
            self.add(f"{column} IN ({', '.join('?' * len(wanted))})", *wanted)

    def any_in(self, column: str, wanted: Sequence[str]) -> None:
        """A list holds one of these values, if there are any."""
        if wanted:
            self.add(f"list_has_any({column}, ?::VARCHAR[])", list(wanted))

    def holds(self, column: str, text: str) -> None:
        """A text stands in a column, in any case."""
        if any(sign in text for sign in "%_\\"):  # ILIKE reads these as patterns, and is slow where they are escaped
            self.add(f"contains(lower({column}), lower(?))", text)
        else:
            self.add(f"{column} ILIKE ?", f"%{text}%")

    def __bool__(self) -> bool:
        return bool(self.said)

    def __str__(self) -> str:
        return " AND ".join(f"({one})" for one in self.said) or "true"


def matching(wanted: Filter, picked: Sequence[str] | None) -> tuple[str, list[Any]]:
    """The query whose one column, g, numbers the groups that are found; and its values.

    Args:
        wanted: what must hold.
        picked: the ids of the groups that its `sql` finds; None where it has none.
    """
    if wanted.text and wanted.where == "any":
        in_prompt, its_values = _matching(wanted, picked, "prompt")
        in_response, other_values = _matching(wanted, picked, "response")
        return f"{in_prompt} UNION {in_response}", its_values + other_values
    return _matching(wanted, picked, wanted.where)


def _matching(wanted: Filter, picked: Sequence[str] | None, where: str) -> tuple[str, list[Any]]:
    groups = Conditions()
    groups.add("p.g IS NOT NULL")
    only_live = wanted.state == "live" and not wanted.reason
    if only_live:
        groups.add("p.state = 'live'")
    groups.one_of("p.source", wanted.source)
    groups.any_in("p.tags", wanted.tag)
    if wanted.text and where == "prompt":
        groups.holds("p.asked", wanted.text)
    if picked is not None:
        groups.add("p.group_id IN (SELECT unnest(?::VARCHAR[]))", list(picked))
    if wanted.state == "dropped" or wanted.reason:
        _hidden(groups, wanted)
    if wanted.id.strip():
        _named(groups, wanted.id.strip().lower())
    response, annotation = _of_response(wanted, where), _of_annotation(wanted, where)
    if only_live and response:
        response.add("r.state = 'live'")
    if only_live and annotation:
        annotation.add("s.state = 'live'")
    if response and annotation:
        both = f"SELECT r.g FROM texts.responses r JOIN said.said s ON s.r = r.n WHERE {response} AND {annotation}"  # noqa: S608
        groups.add(f"p.g IN ({both})", *response.values, *annotation.values)
    elif response:
        groups.add(f"p.g IN (SELECT r.g FROM texts.responses r WHERE {response})", *response.values)  # noqa: S608
    elif annotation:
        groups.add(f"p.g IN (SELECT s.g FROM said.said s WHERE {annotation})", *annotation.values)  # noqa: S608
    return f"SELECT DISTINCT p.g FROM texts.prompts p WHERE {groups}", groups.values  # noqa: S608


def _of_response(wanted: Filter, where: str) -> Conditions:
    made = Conditions()
    made.one_of("r.model", wanted.model)
    if wanted.text and where == "response":
        made.holds("r.text", wanted.text)
    return made


def _of_annotation(wanted: Filter, where: str) -> Conditions:
    made = Conditions()
    made.one_of("s.annotator", wanted.annotator)
    made.one_of("s.aspect", wanted.aspect)
    made.one_of("s.status", wanted.status)
    made.any_in("s.labels", wanted.label)
    if wanted.outcome:
        made.add("s.outcome = ?", wanted.outcome)
    if wanted.low is not None:
        made.add("s.score >= ?", float(wanted.low))
    if wanted.high is not None:
        made.add("s.score <= ?", float(wanted.high))
    if wanted.text and where == "rationale":
        said = Conditions()
        said.holds("text", wanted.text)
        made.add(f"s.a IN (SELECT n FROM said.annotations WHERE {said})", *said.values)  # noqa: S608
    return made


def _hidden(groups: Conditions, wanted: Filter) -> None:
    hidden = Conditions()
    hidden.add("state <> 'live'")
    hidden.one_of("reason", wanted.reason)
    groups.add(
        f"p.g IN (SELECT g FROM texts.prompts WHERE {hidden} UNION ALL SELECT g FROM texts.responses WHERE {hidden})",  # noqa: S608
        *hidden.values,
        *hidden.values,
    )


def _named(groups: Conditions, name: str) -> None:
    groups.add(
        """p.prompt_id = ? OR p.group_id = ? OR p.g IN (SELECT g FROM texts.responses WHERE response_id = ?)
        OR p.g IN (SELECT s.g FROM said.said s JOIN said.annotations a ON a.n = s.a WHERE a.annotation_id = ?)""",
        *[name] * 4,
    )
