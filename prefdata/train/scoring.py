"""Passes without gradients: the reference's log-probabilities, and what the model makes of the held-out lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdata.lm import Row, pack, tree_size
from prefdata.train.batch import group_of
from prefdata.train.losses.unpaired import mismatch
from prefdata.train.metrics import HeldOut, held_out
from prefdata.train.model import Policy
from prefdata.train.plan import packs_of
from prefdata.train.preferences import TokenList
from prefdata.train.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share what they begin with, as the policy and as the reference reads them.

    Attributes:
        rows: of the policy.
        reference: as many, of the reference.
        about: what is known of each, for the reference's file.
        size: tokens that it takes in a pack.
    """

    rows: Sequence[Row]
    reference: Sequence[Row]
    about: Sequence[dict[str, str]]
    size: int


def group_of_list(entry: TokenList) -> Group:
    """A list's responses (and rationales, so that its pack is the one that is trained on)."""
    about = [{"response_id": one.id, "group_id": entry.source.group} for one in entry.source.responses]
    about += [{} for _ in entry.rationales]
    return Group(group_of(entry), group_of(entry, reference=True), about, entry.size)


def mismatched_groups(lists: Sequence[TokenList], seed: int) -> list[Group]:
    """Each prompt of a step with another prompt's response, see `mismatch`; none where all share one prompt."""
    places = [
        (entry, number)
        for entry in lists
        for number, response in enumerate(entry.source.responses)
        if response.label is not None
    ]
    # By the prompt's tokens: a file that names no groups may still hold one prompt in many rows.
    partners = mismatch([entry.rows[number].tokens[: entry.starts[number]] for entry, number in places], seed)
    found: dict[int, list[tuple[Row, Row, dict[str, str]]]] = {}
    for (entry, number), partner in zip(places, partners, strict=bool(partners)):
        other, theirs = places[partner]
        rows = [
            _joined(ours[number], entry, number, others[theirs], other, theirs)
            for ours, others in ((entry.rows, other.rows), (entry.reference, other.reference))
        ]
        about = {"response_id": other.source.responses[theirs].id, "group_id": entry.source.group}
        found.setdefault(id(entry), []).append((rows[0], rows[1], about))
    groups = []
    for members in found.values():
        policy, reference, about_rows = (list(column) for column in zip(*members, strict=True))
        groups.append(Group(policy, reference, about_rows, tree_size(policy)))
    return groups


def fill_reference(
    reference: Reference, model: Policy, steps: Sequence[Sequence[Sequence[Group]]], note: Callable[[int, int], None]
) -> int:
    """Compute what the reference lacks of the rows that training will read, in the very packs that it will read.

    So the first loss is exact: another layout would change the last bits.

    Args:
        reference: what is known so far.
        model: whose log-probabilities they are; the policy before its first step, or another model.
        steps: the packs of each step.
        note: gets the number of packs done and of all now and then.

    Returns:
        How many rows were computed on this process.
    """
    planned: set[str] = set()
    passes: list[list[Sequence[Group]]] = []
    for packs in steps:
        open_packs = []
        for one in packs:
            rows = [row for group in one for row in group.reference]
            new = {reference.key(rows[number]) for number in reference.missing(rows)} - planned
            planned |= new
            if new:
                open_packs.append(one)
        passes.append(open_packs)
    computed, done, total = 0, 0, sum(map(len, passes))
    with model.as_reference():
        for packs in passes:
            for one, counts in model.devices.share(packs, [sum(group.size for group in one) for one in packs]):
                groups = [list(group.reference) for group in one]
                values = rows_of(model, groups)
                if counts:
                    rows = [row for rows in groups for row in rows]
                    computed += len(reference.missing(rows))
                    reference.add(rows, values, [about for group in one for about in group.about])
            done += len(packs)
            if packs:
                note(done, total)
    reference.exchange(model.devices)
    return computed


def rows_of(model: Policy, groups: Sequence[Sequence[Row]]) -> list[Floats]:
    """Log-probabilities of the scored tokens of each row, from one pass."""
    layout = pack(groups)
    values = model(layout).detach().float().cpu().numpy()
    return np.split(values, np.cumsum(layout.lengths)[:-1])


def mismatched(policy: Policy, reference: Reference, groups: Sequence[Group], budget: int) -> list[float]:
    """`lp - ref` of the rows of `mismatched_groups`, from all processes."""
    import torch

    packs = packs_of(groups, [group.size for group in groups], budget)
    found: list[float] = []
    with torch.no_grad():
        for one, counts in policy.devices.share(packs, [sum(group.size for group in one) for one in packs]):
            values = rows_of(policy, [list(group.rows) for group in one])
            rows = [row for group in one for row in group.reference]
            if counts:
                found += [
                    float(lp.sum(dtype=np.float64) - reference.values(row).sum(dtype=np.float64))
                    for lp, row in zip(values, rows, strict=True)
                ]
    return [float(value) for value in policy.devices.gather(found)]


def score_held_out(
    policy: Policy, lists: Sequence[TokenList], budget: int, reference: Reference | None, *, unchanged: bool = False
) -> HeldOut | None:
    """What the model makes of held-out lists; null where there are none.

    Args:
        policy: of the step that training stands at.
        lists: the held-out ones.
        budget: tokens in one pass.
        reference: null for a reward model, and for a loss that needs none.
        unchanged: the policy is its own reference still, so nothing is computed.
    """
    import torch

    if not lists:
        return None
    packs = packs_of(range(len(lists)), [entry.size for entry in lists], budget)
    found: list[Any] = []
    with torch.no_grad():
        # A reference that reads other prompts says nothing of what the policy makes of its own.
        if reference is not None and unchanged and all(entry.reference == entry.rows for entry in lists):
            found = [[number, _sums(map(reference.values, entry.reference))] for number, entry in enumerate(lists)]
        else:
            for numbers, counts in policy.devices.share(packs, [sum(lists[n].size for n in one) for one in packs]):
                values = _of_lists(policy, [lists[number] for number in numbers])
                if counts:
                    found += [[number, value] for number, value in zip(numbers, values, strict=True)]
            found = policy.devices.gather(found)
    values = [value for _, value in sorted(found, key=lambda pair: int(pair[0]))]
    sources = [entry.source for entry in lists]
    if policy.outputs:
        return held_out(sources, values, None)
    means = [
        [total / len(row.scored) for total, row in zip(sums, entry.rows, strict=True)]
        for sums, entry in zip(values, lists, strict=True)
    ]
    if reference is None:
        return held_out(sources, None, means)
    rewards = [
        [total - ref for total, ref in zip(sums, _sums(map(reference.values, entry.reference)), strict=True)]
        for sums, entry in zip(values, lists, strict=True)
    ]
    return held_out(sources, rewards, means)


def _of_lists(policy: Policy, lists: Sequence[TokenList]) -> list[list[float]]:
    """A number for each response of each list: its log-probability, or a reward model's (first) output."""
    groups = [group_of(entry) for entry in lists]
    if policy.outputs:
        flat: list[float] = _first(policy(pack(groups))).tolist()
    else:
        flat = _sums(rows_of(policy, groups))
    values, start = [], 0
    for entry, rows in zip(lists, groups, strict=True):
        values.append(flat[start : start + len(entry.rows)])
        start += len(rows)
    return values


def _first(outputs: Tensor) -> Tensor:
    return outputs[:, 0].double()


def _sums(rows: Iterable[Floats]) -> list[float]:
    return [float(row.sum(dtype=np.float64)) for row in rows]


def _joined(own: Row, entry: TokenList, number: int, row: Row, other: TokenList, theirs: int) -> Row:
    """The prompt of one row and the response of another."""
    # The reference may read another prompt: its rows end in the same response.
    until = len(own.tokens) - (len(entry.rows[number].tokens) - entry.starts[number])
    begin = len(row.tokens) - (len(other.rows[theirs].tokens) - other.starts[theirs])
    scored = tuple(place - begin + until for place in row.scored if place >= begin)
    return Row(own.tokens[:until] + row.tokens[begin:], scored)
