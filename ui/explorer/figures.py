"""Numbers for the plots of a search: counts and histograms, made by DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .edition import Edition

if TYPE_CHECKING:
    import duckdb

BINS = 20
FEW = 12
"""So many different values at most are shown one by one, more in bins."""

SEVERAL = 8
"""Aspects and models are shown apart up to so many, the most frequent first."""

Histogram = list[dict[str, Any]]
"""Entries {value, n} or {low, high, n}."""


def figures(edition: Edition, query: str, values: Sequence[Any]) -> dict[str, Any]:
    """What the plots show of the groups that a query finds; live rows only.

    Args:
        edition: of the dataset.
        query: its one column is g.
        values: of the query's question marks.

    Returns:
        `groups`: how many. `answers`: rows {annotator, ok, without} (annotations with and without a verdict). `scores`:
        rows {aspect, annotations, bins}. `outcomes`: rows {model, won, tied, lost}. `lengths`: rows {model, responses,
        bins}, in characters.
    """
    cursor = edition.cursor()
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS SELECT DISTINCT g FROM ({query})", list(values))  # noqa: S608
    try:
        return {
            "groups": _rows(cursor, "SELECT count(*) AS n FROM chosen")[0]["n"],
            "answers": _rows(cursor, ANSWERS),
            "scores": _scores(cursor),
            "outcomes": _rows(cursor, OUTCOMES),
            "lengths": _lengths(cursor),
        }
    finally:
        cursor.execute("DROP TABLE chosen")


ANSWERS = """
SELECT annotator, count(*) FILTER (status = 'ok') AS ok, count(*) FILTER (status <> 'ok') AS without
FROM (SELECT DISTINCT a, annotator, status FROM said.said WHERE state = 'live' AND g IN (FROM chosen))
GROUP BY annotator ORDER BY ok + without DESC, annotator LIMIT 40"""

OUTCOMES = """
SELECT r.model, count(*) FILTER (s.outcome = 'won') AS won, count(*) FILTER (s.outcome = 'tied') AS tied,
    count(*) FILTER (s.outcome = 'lost') AS lost
FROM said.said s JOIN texts.responses r ON r.n = s.r
WHERE s.state = 'live' AND s.outcome IS NOT NULL AND s.g IN (FROM chosen)
GROUP BY r.model ORDER BY won + tied + lost DESC, r.model LIMIT 20"""


def _rows(cursor: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[dict[str, Any]]:
    found = cursor.execute(query, list(values))
    names = [name for name, *_ in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _scores(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    cursor.execute("""CREATE OR REPLACE TEMP TABLE numbers AS SELECT aspect AS name, score AS x FROM said.said
        WHERE state = 'live' AND status = 'ok' AND protocol = 'score' AND score IS NOT NULL AND g IN (FROM chosen)""")
    return [{"aspect": name, "annotations": n, "bins": bins} for name, n, bins in _histograms(cursor)]


def _lengths(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    cursor.execute("""CREATE OR REPLACE TEMP TABLE numbers AS SELECT model AS name, length(text)::DOUBLE AS x
        FROM texts.responses WHERE state = 'live' AND text IS NOT NULL AND g IN (FROM chosen)""")
    return [{"model": name, "responses": n, "bins": bins} for name, n, bins in _histograms(cursor)]


def _histograms(cursor: duckdb.DuckDBPyConnection) -> list[tuple[str | None, int, Histogram]]:
    """A histogram of `x` for each of the most frequent names in the table `numbers`, on one common axis."""
    named = cursor.execute(
        f"SELECT name, count(*) FROM numbers GROUP BY name ORDER BY 2 DESC, 1 LIMIT {SEVERAL}"  # noqa: S608
    ).fetchall()
    made = []
    for name, n in named:
        few = _rows(
            cursor,
            f"SELECT x AS value, count(*) AS n FROM numbers WHERE name IS NOT DISTINCT FROM ? GROUP BY x ORDER BY x "  # noqa: S608
            f"LIMIT {FEW + 1}",
            name,
        )
        made.append((name, n, few if len(few) <= FEW else _binned(cursor, name)))
    cursor.execute("DROP TABLE numbers")
    return made


def _binned(cursor: duckdb.DuckDBPyConnection, name: str | None) -> Histogram:
    """Equal bins up to the 99.5th percentile of all names; the last one holds the rest."""
    low, high = cursor.execute("SELECT min(x), quantile_cont(x, 0.995) FROM numbers").fetchall()[0]
    width = (high - low) / BINS or 1.0
    found = dict(
        cursor.execute(
            "SELECT greatest(0, least(?, floor((x - ?) / ?)))::INTEGER AS bin, count(*) FROM numbers "
            "WHERE name IS NOT DISTINCT FROM ? GROUP BY bin",
            [BINS - 1, low, width, name],
        ).fetchall()
    )
    return [{"low": low + i * width, "high": low + (i + 1) * width, "n": found.get(i, 0)} for i in range(BINS)]
