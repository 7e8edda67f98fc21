"""Online Elo: the numbers of the reference and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.stats import elo

games = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0])).map(
        lambda game: (game[0], (game[0] + game[1]) % 5, game[2])
    ),
    max_size=30,
)


def test_two_games() -> None:
    assert elo([0], [1]).values.tolist() == [1002, 998]
    found = elo([0, 0], [1, 1], p=[1, 0.5])
    assert found.values[0] == pytest.approx(1001.976975, abs=1e-6)
    assert found.games.tolist() == [2, 2] and np.isnan(found.low).all()
    # The change of a tie is K (1/2 - E), and E = 0.505756.
    assert 0.5 - (found.values[0] - 1002) / 4 == pytest.approx(0.505756, abs=1e-6)


@given(games)
def test_points_are_exchanged_and_names_do_not_matter(played: list[tuple[int, int, float]]) -> None:
    first, second, p = (list(column) for column in zip(*played, strict=True)) if played else ([], [], [])
    found = elo(first, second, p=p, n=5, shuffles=3)
    assert found.values.sum() == pytest.approx(5000)
    new = [3, 0, 4, 1, 2]
    renamed = elo([new[i] for i in first], [new[i] for i in second], p=p, n=5)
    np.testing.assert_allclose(renamed.values[new], found.values, atol=1e-9)
    turned = elo(second, first, p=[1 - one for one in p], n=5)
    np.testing.assert_allclose(turned.values, found.values, atol=1e-9)
    assert elo(first, second, p=p, n=5, start=0).values == pytest.approx(found.values - 1000)


def test_shuffled_orders_are_each_played() -> None:
    # All games alike: every order is the same, and equal to the one given.
    found = elo([0] * 20, [1] * 20, k=32, shuffles=100)
    np.testing.assert_allclose(found.low, found.values)
    np.testing.assert_allclose(found.high, found.values)
    mixed = elo([0, 1] * 20, [1, 0] * 20, k=32, shuffles=200)
    assert mixed.low[0] < mixed.values[0] < mixed.high[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"winners": [0], "losers": [0]}, "itself"),
        ({"winners": [0], "losers": [1], "p": [np.nan]}, "probability"),
        ({"winners": [0], "losers": [1], "k": 0.0}, "positive"),
        ({"winners": [0], "losers": [1], "start": np.inf}, "finite"),
        ({"winners": [0], "losers": [1], "shuffles": -1}, "shuffles"),
        ({"winners": [], "losers": []}, "no contestant"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        elo(**arguments)  # type: ignore[arg-type]
