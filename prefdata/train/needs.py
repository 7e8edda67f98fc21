"""What a loss needs of the data: refused in a sentence where the file lacks it, left out where one list does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from prefdata.train.data import PreferenceData
from prefdata.train.errors import TrainError, nearest
from prefdata.train.losses import Range
from prefdata.train.preferences import PreferenceList, Response
from prefdata.train.rows_lists import RANKED

_PAIR_OPTIONS = {
    "margin": "the step pair writes it with `margin: scores`",
    "p": "the step pair writes it with `p: votes`",
    "votes": "the step pair writes them with `p: votes`",
    "rationales": "they come from critiques of the preferences, and from the rationales that the step pair names",
}
_ONLY_LISTS = ("votes", "rationales")


def ranked(source: PreferenceList) -> list[Response]:
    """The responses that stand in the order."""
    return [response for response in source.responses if response.role == RANKED]


def check_needs(data: PreferenceData, needed: Collection[str]) -> None:
    """Refuse a file that lacks what the loss reads.

    Args:
        data: the file.
        needed: `LossSpec.needed`.

    Raises:
        TrainError: names the column, and where a step writes it the step's option.
    """
    tests: dict[str, Callable[[PreferenceList], bool]] = {
        "edges": lambda source: bool(source.edges),
        "ranks": lambda source: source.kind != "unpaired",
        "labels": lambda source: any(response.label is not None for response in source.responses),
        "margin": lambda source: any(edge.margin is not None for edge in source.edges),
        # Nothing but 1 is what an edge without p means, unless votes say that they all agreed.
        "p": lambda source: any(edge.p < 1.0 or edge.votes is not None for edge in source.edges),
        "votes": lambda source: any(edge.votes is not None for edge in source.edges),
        "rationales": lambda source: any(len(rationale.of) == 2 for rationale in source.rationales),
    }
    for need, has in tests.items():
        if need in needed and data.lists and not any(has(source) for source in data.lists):
            raise TrainError(f"{data.path}: {_lacking(data, need)}")
    for need in sorted(needed):
        name = need.removeprefix("values.")
        if name == need or name in data.value_names:
            continue
        known = ", ".join(data.value_names) or "none"
        how = "" if data.format == "lists" else f", and the format {data.format} holds none: export lists"
        raise TrainError(
            f"{data.path}: the loss reads values.{name}, and the column 'values' holds {known}{how}; the step pair "
            f"writes them with `values: {{{name}: ANNOTATOR}}`{nearest(name, data.value_names)}"
        )
    for source in data.lists:
        _check_numbers(data, source, needed)


def check_ranges(data: PreferenceData, ranges: Mapping[str, Range]) -> None:
    """Refuse numbers that the loss cannot read, before anything is trained.

    Args:
        data: the file.
        ranges: `LossSpec.ranges`.

    Raises:
        TrainError: names the row, the column and the number.
    """
    for source in data.lists:
        scores = [response.score for response in source.responses]
        for column, allowed in ranges.items():
            numbers = scores if column == "scores" else source.values.get(column.removeprefix("values."), ())
            for response, number in zip(source.responses, numbers, strict=False):
                if number is not None and response.role == RANKED and not allowed.holds(number):
                    raise TrainError(
                        f"{data.where(source.row)}: {column} is {allowed} for this loss, and {number:g} stands there"
                    )


def _lacking(data: PreferenceData, need: str) -> str:
    """The sentence about a file that lacks what a loss needs."""
    if need == "edges":
        return (
            f"the loss compares responses, and no response in it is better than another (format {data.format}): export "
            "lists or pairs, or take a loss over single responses (sft, kto, bco)"
        )
    if need == "ranks":
        return (
            f"the loss reads how responses rank, and every response in it stands alone (format {data.format}): export "
            "lists, or take a loss over single responses (sft, kto, bco)"
        )
    if need == "labels":
        return (
            "the loss reads which responses are wanted, and no response in it has a label: export unpaired, pairs, or "
            "lists with edges or falling scores"
        )
    column = {
        "margin": "'margin' of the edges" if data.format == "lists" else "'margin'",
        "p": "'p' of the edges" if data.format == "lists" else "'p'",
        "votes": "'votes' of the edges",
    }
    named = column.get(need, f"'{need}'")
    only = need in _ONLY_LISTS and data.format != "lists"
    lists = f" (the format {data.format} cannot hold it: export lists)" if only else ""
    return f"the loss reads {need}, and the column {named} is not filled{lists}; {_PAIR_OPTIONS[need]}"


def _check_numbers(data: PreferenceData, source: PreferenceList, needed: Collection[str]) -> None:
    """Refuse ranks and scores that are null, and soft labels that a loss over ranks would pass over."""
    if source.kind == "unpaired":
        return
    if "ranks" in needed and any(response.rank is None for response in ranked(source)):
        raise TrainError(f"{data.where(source.row)}: the loss reads ranks, and the column 'ranks' is null there")
    if "scores" in needed and any(response.score is None for response in ranked(source)):
        columns = "'scores'" if data.format == "lists" else "'score_chosen' or 'score_rejected'"
        raise TrainError(f"{data.where(source.row)}: the loss reads scores, and {columns} is null there")
    if "ranks" in needed and "edges" not in needed and data.format != "lists":
        soft = next((edge.p for edge in source.edges if edge.p not in (0.0, 0.5, 1.0)), None)
        if soft is not None:
            raise TrainError(
                f"{data.where(source.row)}: the pair is chosen with p = {soft:g}, and the loss reads ranks, "
                "which cannot say so: take a pairwise loss (dpo), or export with hard labels"
            )


def says_nothing(source: PreferenceList, needed: Collection[str]) -> str | None:
    """Why a list says nothing to a loss that needs this; null where it does."""
    ordered = ranked(source)
    if "labels" in needed and all(response.label is None for response in source.responses):
        return "no label"
    if source.kind == "unpaired" and {"edges", "ranks"} & set(needed):
        return "unpaired"
    if "edges" in needed and not source.edges:
        return "no response is better than another"
    if "scores" in needed and any(response.score is None for response in ordered):
        return "scores is null"
    over_lists = not {"edges", "labels"} & set(needed) and any(_orders(need) for need in needed)
    if over_lists and len(ordered) < 2:
        return "fewer than two ranked responses"
    if "ranks" in needed and len({response.rank for response in ordered}) < 2:
        return "all ranks tie"
    if "votes" in needed and any(edge.votes is None for edge in source.edges):
        return "votes is null"
    return _null_value(source, needed)


def _orders(need: str) -> bool:
    """Whether it says how the responses of a list are ordered."""
    return need in ("ranks", "scores") or need.startswith("values.")


def _null_value(source: PreferenceList, needed: Collection[str]) -> str | None:
    """A loss over pairs takes the numbers of both sides; another passes over a response that has none."""
    known: dict[str, int] = {}
    for name in sorted(need.removeprefix("values.") for need in needed if need.startswith("values.")):
        numbers = source.values.get(name) or [None] * len(source.responses)
        there = [
            n is not None for response, n in zip(source.responses, numbers, strict=True) if response.role == RANKED
        ]
        if "edges" in needed and not all(there):
            return f"values.{name} is null"
        known[name] = sum(there)
    if known and not any(known.values()):
        return f"values.{next(iter(known))} is null"
    return None
