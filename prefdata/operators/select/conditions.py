"""A SQL condition on the columns of one row, as a polars expression: nothing from outside the row is looked at."""

from __future__ import annotations

import re

import polars as pl
from polars.exceptions import PolarsError

_TOKENS = re.compile(
    r"""\s+
    | '(?:[^'\\]|''|\\(?!'))*'          # a text; \' would end it in some dialects and not in others
    | "[^"]*"                           # a column's name
    | [^\W\d]\w*(?!['\w])               # a word (E'...' and the like are not)
    | \d+(?:\.\d+)?(?:[eE][+-]?\d+)?
    | (?!--|/\*)[-+*/%=<>!~|&^(),.:\[\]]
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|([^\W\d]\w*)(\s*\()?""")
_QUERIES = {"select", "from"}
_ACROSS_ROWS = {
    *("avg", "mean", "sum", "count", "min", "max", "first", "last", "median", "stddev", "stdev", "stddev_samp"),
    *("stdev_samp", "variance", "var", "var_samp", "quantile_cont", "quantile_disc", "corr", "covar", "covar_samp"),
    *("covar_pop", "array_agg", "string_agg", "listagg", "row_number", "rank", "dense_rank", "lag", "lead"),
    *("first_value", "last_value", "unnest"),
}


def row_expression(text: str) -> pl.Expr:
    """A polars expression from a SQL condition on the columns of one row.

    polars opens the files that a SQL subquery names while it parses, so queries are refused before it sees them.

    Args:
        text: for example `n_tokens > 3 and finish_reason = 'stop'`.

    Raises:
        ValueError: it is no SQL expression, holds a query, or looks at other rows.
    """
    end = 0
    while end < len(text):
        token = _TOKENS.match(text, end)
        if token is None:
            raise ValueError(f"{text!r} cannot be read as a SQL expression from {text[end : end + 20]!r} on")
        end = token.end()
    for word in _WORD.finditer(text):
        name = (word.group(1) or "").lower()
        if name in _QUERIES:
            raise ValueError(
                f"{text!r} holds the word {name.upper()}: a condition on one row cannot query other tables"
            )
        if name == "over" or (name in _ACROSS_ROWS and word.group(2)):
            raise ValueError(f"{text!r} uses {name.upper()}, which looks at other rows: a condition sees one row")
    try:
        return pl.sql_expr(text)
    except (PolarsError, OSError) as error:
        raise ValueError(f"{text!r} is not a SQL expression: {error}") from error
