"""A row of the format `lists` as a preference list: all that any loss reads stands in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from prefdata.train.preferences import Edge, PreferenceList, Prompt, Rationale, Response, Segment
from prefdata.train.rows import FileRow, labels_of, shown

RANKED, SFT = "ranked", "sft"
ROLES = (RANKED, SFT)
"""What a loss reads. Responses of other roles are left out and counted."""


def list_from_row(row: FileRow, responses_left_out: Counter[str]) -> PreferenceList | str:
    """A list, or the reason why it is left out.

    Args:
        row: of a file of lists.
        responses_left_out: counts the responses that the list loses, by reason.

    Raises:
        TrainError: a column cannot be used; names file, row and column.
    """
    held_out = row.held_out()
    if held_out is None:
        return f"split {row.get('split')!r} is neither train nor valid"
    _refuse_media(row)
    texts = row.get("responses")
    if not texts or any(text is None for text in texts):
        raise row.error("responses", "it is empty or holds a null")
    weight = row.number_in("weight", 1.0, 0.0)
    if weight == 0:
        return "weight 0"
    kind = row.text("kind", "conditional")
    roles = [role or RANKED for role in row.aligned("roles", len(texts)) or [RANKED] * len(texts)]
    kept = [place for place, role in enumerate(roles) if role in ROLES]
    responses_left_out.update(f"role {shown(role)}" for role in roles if role not in ROLES)
    if not kept:
        return "no response of a role that is trained on"
    prompts = [row.prompt(), *_other_prompts(row)]
    responses = _responses(row, texts, roles, len(prompts))
    alone = kind == "unpaired"
    place_of = {place: new for new, place in enumerate(kept)}
    edges = [] if alone else _moved(_edges(row, responses), place_of)
    stay = [responses[place] for place in kept]
    labels = [_alone(response) for response in stay] if alone else labels_of(len(stay), edges)
    return PreferenceList(
        row=row.place,
        id=row.text("id"),
        group=row.group(),
        held_out=held_out,
        kind=kind,
        aspect=row.text("aspect"),
        annotator=row.text("annotator"),
        weight=weight,
        prompts=prompts,
        responses=[_with_label(response, label) for response, label in zip(stay, labels, strict=True)],
        edges=edges,
        values=_values(row, len(texts), kept),
        rationales=_rationales(row, len(texts), place_of),
    )


def _refuse_media(row: FileRow) -> None:
    others = any(prompt and prompt.get("media") for prompt in row.get("other_prompts") or ())
    filled = {
        "media": row.get("media"),
        "response_media": any(row.get("response_media") or ()),
        "other_prompts": others,
    }
    for column, media in filled.items():
        if media:
            raise row.error(
                column, "it holds media, and only texts are trained on for now: leave the preferences with media out"
            )


def _responses(row: FileRow, texts: list[str], roles: list[str], prompts: int) -> list[Response]:
    count = len(texts)
    columns: dict[str, list[Any]] = {
        name: row.aligned(name, count) or [None] * count
        for name in ("scores", "ranks", "response_ids", "ends_turn", "prefixes", "segments")
    }
    read = {name: _prompt_numbers(row, name, count, prompts) for name in ("prompt_of", "ref_prompt_of")}
    made = []
    for place, text in enumerate(texts):
        score, rank = columns["scores"][place], columns["ranks"][place]
        prompt = read["prompt_of"][place] or 0
        reference = read["ref_prompt_of"][place]
        made.append(
            Response(
                text=text,
                id=columns["response_ids"][place] or "",
                role=roles[place],
                score=None if score is None else row.checked("scores", score),
                rank=None if rank is None else row.whole("ranks", rank, 1),
                ends_turn=columns["ends_turn"][place] is not False,
                prompt=prompt,
                ref_prompt=prompt if reference is None else reference,
                prefix=columns["prefixes"][place] or "",
                segments=_segments(row, text, columns["segments"][place]),
            )
        )
    return made


def _prompt_numbers(row: FileRow, column: str, count: int, prompts: int) -> list[int | None]:
    numbers: list[int | None] = []
    for value in row.aligned(column, count) or [None] * count:
        number = None if value is None else row.whole(column, value)
        if number is not None and number >= prompts:
            raise row.error(column, f"it names prompt {number}, and there are {prompts} (0 is the row's own)")
        numbers.append(number)
    return numbers


def _other_prompts(row: FileRow) -> list[Prompt]:
    made = []
    for prompt in row.get("other_prompts") or ():
        if prompt is None or not prompt["messages"]:
            raise row.error("other_prompts", "it holds a prompt without messages")
        turns = row.messages("other_prompts", prompt["messages"])
        made.append(Prompt(turns, row.tools(prompt.get("tools"), "other_prompts")))
    return made


def _segments(row: FileRow, text: str, given: list[Any] | None) -> tuple[Segment, ...] | None:
    if not given:
        return None
    made, begin = [], 0
    for segment in given:
        end = None if segment is None or segment["end"] is None else row.whole("segments", segment["end"])
        if end is None or not begin <= end <= len(text):
            raise row.error(
                "segments", f"the ends of a response's segments ascend up to its {len(text)} characters, not {end}"
            )
        value = segment.get("value")
        value = None if value is None else row.checked("segments", value)
        made.append(Segment(end, segment.get("role"), value, segment.get("kind")))
        begin = end
    return tuple(made)


def _alone(response: Response) -> float | None:
    """The label of a response that stands alone: wanted where its score is above one half."""
    return None if response.score is None else float(response.score > 0.5)


def _with_label(response: Response, label: float | None) -> Response:
    return replace(response, label=1.0 if response.role == SFT else label)


def _edges(row: FileRow, responses: list[Response]) -> list[Edge]:
    """The row's own edges; where it has none, one for every pair of ranked responses with strictly falling scores."""
    stated = row.get("edges")
    if stated is None:
        scores = [response.score if response.role == RANKED else None for response in responses]
        return [
            Edge(winner, loser)
            for winner, high in enumerate(scores)
            for loser, low in enumerate(scores)
            if high is not None and low is not None and high > low
        ]
    count = len(responses)
    edges = []
    for edge in stated:
        if edge is None:
            raise row.error("edges", "it holds an edge that is null")
        winner, loser = edge["winner"], edge["loser"]
        if winner is None or loser is None or winner == loser or not (0 <= winner < count and 0 <= loser < count):
            raise row.error("edges", f"winner {winner} and loser {loser} are not two of its {count} responses")
        p, weight, margin, votes = (edge.get(name) for name in ("p", "weight", "margin", "votes"))
        made = Edge(
            winner=row.whole("edges", winner),
            loser=row.whole("edges", loser),
            p=1.0 if p is None else row.checked("edges", p, 0.0, 1.0),
            weight=1.0 if weight is None else row.checked("edges", weight, 0.0),
            margin=None if margin is None else row.checked("edges", margin),
            votes=None if votes is None else row.whole("edges", votes),
        )
        if made.weight > 0:
            edges.append(made)
    return edges


def _moved(edges: list[Edge], place_of: dict[int, int]) -> list[Edge]:
    """The edges between responses that are kept, by their new positions."""
    return [
        replace(edge, winner=place_of[edge.winner], loser=place_of[edge.loser])
        for edge in edges
        if edge.winner in place_of and edge.loser in place_of
    ]


def _values(row: FileRow, count: int, kept: list[int]) -> dict[str, list[float | None]]:
    made: dict[str, list[float | None]] = {}
    for entry in row.get("values") or ():
        name = None if entry is None else entry["name"]
        if not name:
            raise row.error("values", "it holds values without a name")
        numbers = entry["values"]
        if numbers is None or len(numbers) != count:
            found = "no" if numbers is None else len(numbers)
            raise row.error("values", f"{name!r} has {found} entries for {count} responses")
        if name in made:
            raise row.error("values", f"{name!r} stands there twice")
        checked = [None if number is None else row.checked("values", number) for number in numbers]
        made[name] = [checked[place] for place in kept]
    return made


def _rationales(row: FileRow, count: int, place_of: dict[int, int]) -> tuple[Rationale, ...]:
    """The rationales about responses that are kept; one that names no response is about all."""
    made = []
    for entry in row.get("rationales") or ():
        if entry is None or entry["text"] is None:
            raise row.error("rationales", "it holds a rationale without a text")
        given = entry.get("of")
        places = range(count) if given is None else given
        of = [-1 if place is None else row.whole("rationales", place) for place in places]
        if any(not 0 <= place < count for place in of):
            raise row.error("rationales", f"it is about {of}, which are not positions of its {count} responses")
        if entry["text"] and all(place in place_of for place in of):
            made.append(Rationale(tuple(place_of[place] for place in of), entry["text"]))
    return tuple(made)
