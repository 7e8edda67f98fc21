"""Laws of packs, by brute force from the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import groups

from prefdata.lm import Row, first_fit_decreasing, pack, tree_size

FEW = groups(vocabulary=3)
"""So few tokens that rows share much by chance."""
MANY = settings(deadline=None, max_examples=50)


def paths(made: list[list[Row]]) -> list[list[int]]:
    """Where the tokens of each row stand: what its last token sees."""
    packed = pack(made)
    visible = packed.visible()
    return [np.flatnonzero(visible[last]).tolist() for last in packed.last]


@MANY
@given(FEW)
def test_each_token_of_a_row_sees_the_row_before_it_and_nothing_else(made: list[list[Row]]) -> None:
    packed = pack(made)
    visible = packed.visible()
    rows = [row for group in made for row in group]
    for row, path in zip(rows, paths(made), strict=True):
        assert packed.token_ids[path].tolist() == list(row.tokens)
        assert packed.positions[path].tolist() == list(range(len(path)))
        for depth, place in enumerate(path):
            assert np.flatnonzero(visible[place]).tolist() == path[: depth + 1]


@MANY
@given(FEW)
def test_what_a_group_shares_stands_once_and_groups_share_nothing(made: list[list[Row]]) -> None:
    beginnings = [{row.tokens[:end] for row in group for end in range(1, len(row.tokens) + 1)} for group in made]
    packed = pack(made)
    assert packed.size == len(packed.ends) == len(packed.positions) == sum(map(len, beginnings))
    assert [tree_size(group) for group in made] == [len(one) for one in beginnings]
    assert packed.separate == sum(len(row.tokens) for group in made for row in group)


@MANY
@given(FEW)
def test_every_scored_token_has_its_source_and_target(made: list[list[Row]]) -> None:
    packed = pack(made)
    rows = [row for group in made for row in group]
    assert packed.lengths.tolist() == [len(row.scored) for row in rows]
    wanted = [
        (path[place - 1], row.tokens[place])
        for row, path in zip(rows, paths(made), strict=True)
        for place in row.scored
    ]
    given_ = list(zip(packed.source[packed.entry].tolist(), packed.target[packed.entry].tolist(), strict=True))
    assert given_ == wanted
    assert len(packed.source) == len(set(wanted)), "rows that share both share the entry"


@MANY
@given(FEW, st.integers(0, 40))
def test_padding_sees_itself_alone_and_is_seen_by_nobody(made: list[list[Row]], more: int) -> None:
    packed = pack(made)
    wide = packed.padded(packed.size + more)
    visible = wide.visible()
    assert wide.size == packed.size + more
    assert (visible[: packed.size, : packed.size] == packed.visible()).all()
    assert (visible[packed.size :, packed.size :] == np.eye(more, dtype=bool)).all()
    assert not visible[: packed.size, packed.size :].any() and not visible[packed.size :, : packed.size].any()


@MANY
@given(FEW, st.integers(1, 6))
def test_a_window_counts_positions_in_the_row(made: list[list[Row]], window: int) -> None:
    visible = pack(made).visible(window)
    for path in paths(made):
        for depth, place in enumerate(path):
            assert np.flatnonzero(visible[place]).tolist() == path[max(0, depth + 1 - window) : depth + 1]


@MANY
@given(FEW)
def test_the_order_of_rows_changes_no_layout(made: list[list[Row]]) -> None:
    there, back = pack(made), pack([group[::-1] for group in made])
    assert (there.token_ids == back.token_ids).all() and (there.ends == back.ends).all()


@MANY
@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 25))
def test_first_fit_places_all_and_leaves_no_two_bins_that_would_fit_in_one(sizes: list[int], budget: int) -> None:
    bins = first_fit_decreasing(sizes, budget)
    assert sorted(number for one in bins for number in one) == list(range(len(sizes)))
    loads = [sum(sizes[number] for number in one) for one in bins]
    assert all(load <= budget or len(one) == 1 for load, one in zip(loads, bins, strict=True))
    assert all(a + b > budget for n, a in enumerate(loads) for b in loads[n + 1 :])


def test_first_fit_by_hand() -> None:
    assert first_fit_decreasing([3, 7, 5, 2, 12], 10) == [[4], [0, 1], [2, 3]]


def test_three_thousand_nested_continuations() -> None:
    rows = [Row(tuple(range(7, 17 + more)), (9 + more,)) for more in range(3000)]
    packed = pack([rows])
    assert packed.size == 3009 and (packed.ends == 3009).all()
    assert packed.last.tolist() == list(range(9, 3009))


@pytest.mark.parametrize(
    ("tokens", "scored", "said"),
    [((), (), "at least one token"), ((1, 2), (0,), "from 1 to 1"), ((1, 2), (2,), "from 1 to 1"),
     ((1, 2, 3), (2, 1), "ascend"), ((1, 2, 3), (1, 1), "ascend")],
)  # fmt: skip
def test_a_row_without_a_prediction_is_refused(tokens: tuple[int, ...], scored: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Row(tokens, scored)


def test_a_pack_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        pack([[], []])


def test_a_group_without_rows_adds_nothing() -> None:
    rows = [Row((1, 2), (1,)), Row((1, 3), (1,))]
    with_, without = pack([[], rows, []]), pack([rows])
    assert (with_.token_ids == without.token_ids).all() and (with_.ends == without.ends).all()
    assert tree_size([]) == 0


def test_a_negative_token_id_is_refused() -> None:
    """A mask's -100 among the tokens would be read as another token's state."""
    with pytest.raises(ValueError, match="-100 stands in a row"):
        pack([[Row((4, -100), (1,))]])
