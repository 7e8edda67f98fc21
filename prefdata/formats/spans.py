"""Positions in a text: ours count code points, a browser's count UTF-16 code units."""

from __future__ import annotations


def code_points(text: str, start: object, end: object, said: object = None) -> tuple[int, int] | None:
    """Where a span lies in code points.

    Label Studio has stored either kind in the course of its life, and the text of the span beside it: where one of the
    two leads to that text, it is meant. Where there is no text, code points are meant if they lie within.

    Args:
        text: that the span lies in.
        start: as stored.
        end: as stored, exclusive.
        said: the span's text as stored.

    Returns:
        start and end; None where neither kind fits.
    """
    if isinstance(start, bool) or isinstance(end, bool) or not isinstance(start, int) or not isinstance(end, int):
        return None
    wanted = said if isinstance(said, str) else None
    if 0 <= start < end <= len(text) and wanted in (None, text[start:end]):
        return start, end
    units = text.encode("utf-16-le")
    if not 0 <= start < end <= len(units) // 2:
        return None
    try:
        before, within = units[: 2 * start].decode("utf-16-le"), units[2 * start : 2 * end].decode("utf-16-le")
    except UnicodeDecodeError:  # half of a character
        return None
    return (len(before), len(before) + len(within)) if wanted in (None, within) else None
