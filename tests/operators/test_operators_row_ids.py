"""Ids from columns are the ids that `make_id` gives row by row."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from prefdata.operators.row_ids import array_of, json_of, json_text, row_ids
from prefdata.schema import make_id

# What a UTF-8 text can hold: no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.tuples(
        st.none() | TEXT,
        st.none() | st.lists(TEXT, max_size=3),
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.lists(st.none() | TEXT, max_size=2),
    ),
    min_size=1,
    max_size=6,
)
SCHEMA = {"a": pl.String, "b": pl.List(pl.String), "c": pl.Int32, "d": pl.List(pl.String)}


@given(ROWS, TEXT)
def test_they_are_those_of_make_id(rows: list[tuple[object, ...]], constant: str) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    a, b, c, d = (json_of(pl.col(name)) for name in SCHEMA)
    found = row_ids(frame, "kind", a, b, json_text([constant, None, 1.5]), c, array_of(d, json_text(None)))
    assert found.to_list() == [
        make_id("kind", one, two, [constant, None, 1.5], three, [four, None]) for one, two, three, four in rows
    ]


def test_other_rows_have_other_ids() -> None:
    frame = pl.DataFrame({"a": ["x", "x,", "x"], "b": [["y"], ["y"], ["y", ""]]})
    assert row_ids(frame, "kind", json_of(pl.col("a")), json_of(pl.col("b"))).n_unique() == 3


def test_no_rows() -> None:
    assert row_ids(pl.DataFrame(schema={"a": pl.String}), "kind", json_of(pl.col("a"))).to_list() == []
