"""One row of a source with the place it came from, its cells checked, and what is said of one that cannot be taken."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prefdata.errors import DataError
from prefdata.schema import Row


class HalfPairError(ValueError):
    """JSON that escapes one half of a surrogate pair without the other.

    Attributes:
        value: what the JSON says, which no file can store.
    """

    def __init__(self, value: object) -> None:
        super().__init__("it holds half of a surrogate pair, which is no character")
        self.value = value

    def column(self) -> str | None:
        """The first key of an object that holds such a half; None where it holds it otherwise."""
        held = self.value.items() if isinstance(self.value, dict) else ()
        return next(
            (str(plain(key)) for key, value in held if not is_whole(json.dumps([key, value], ensure_ascii=False))), None
        )


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source.

    Attributes:
        row: its columns, as Python values.
        file: where it stands.
        number: counted from 1 (for CSV without the header; for JSON lines it is the line).
        textual: the source knows nothing but text (CSV), so lists and objects are written in it as JSON.
        raw: as it stands in the file; None where the file does not hold it as text.
    """

    row: Row
    file: Path
    number: int
    textual: bool = False
    raw: bytes | None = None

    def error(self, problem: str, column: str | None = None) -> RowError:
        """The sentence that names file, row and column."""
        return RowError(self, problem, column)

    def raw_text(self) -> str:
        """The row as text: bytes that are no UTF-8 are replaced, and what is not text in its file becomes JSON."""
        if self.raw is not None:
            return self.raw.decode("utf-8", "replace").rstrip("\r\n")
        return json.dumps(plain(self.row), ensure_ascii=False)

    def text(self, column: str, *, blank: bool = False) -> str:
        """The column as text; see `checked`."""
        return self.checked(column, self.row.get(column), blank=blank)

    def checked(self, column: str, value: object, *, blank: bool = False) -> str:
        """A text that was found in a column.

        Args:
            column: for the message.
            value: what was found.
            blank: whether text without a visible character is allowed.

        Raises:
            RowError: it is not text, is blank, or holds half of a surrogate pair (which no file can store).
        """
        if not isinstance(value, str):
            raise self.error(f"it should be text and is {describe(value)}", column)
        if not blank and not value.strip():
            raise self.error("it is empty; give it a text or take the row out", column)
        if not is_whole(value):
            raise self.error(str(HalfPairError(value)), column)
        return value

    def name(self, column: str) -> str | None:
        """The column as a short text (numbers are taken as they are written), None where there is none."""
        value = self.row.get(column)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(column)

    def number_in(self, column: str) -> float | None:
        """The column as a finite number, None where there is none."""
        value = self.row.get(column)
        if value is None:
            return None
        if self.textual and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise self.error(f"it should be a number and is {describe(value)}", column) from None
        return self.finite(column, value)

    def finite(self, column: str, value: object) -> float | None:
        """A number that was found in a column; None for NaN and infinity, which say that there is none.

        Raises:
            RowError: it is no number, or one that 64 bits cannot hold.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"it should be a number and is {describe(value)}", column)
        try:
            number = float(value)
        except OverflowError:
            raise self.error("it is a number beyond what 64 bits hold", column) from None
        return number if number == number and abs(number) != float("inf") else None

    def structured(self, column: str, *, always: bool = True) -> Any:
        """The column, read as JSON where it is the text of a list or an object.

        Args:
            column: its name.
            always: also where the source has lists and objects of its own (not only in CSV).
        """
        value = self.row.get(column)
        if isinstance(value, str) and (always or self.textual) and value.lstrip()[:1] in ("[", "{"):
            try:
                return parse_json(value)
            except ValueError as error:
                raise self.error(str(error), column) from None
        return value


class RowError(DataError):
    """One row that cannot be taken; the rows beside it can.

    Attributes:
        record: the row.
        problem: what was found, without the place.
        column: where in the row, if it is one column's fault.
    """

    def __init__(self, record: Record, problem: str, column: str | None = None) -> None:
        place = f"{record.file}, row {record.number}" + (f", column {column!r}" if column else "")
        super().__init__(f"{place}: {problem}")
        self.record, self.problem, self.column = record, problem, column


def describe(value: object) -> str:
    """A value for an error message: its kind and how it begins."""
    if value is None:
        return "missing"
    kinds = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    shown = repr(value[:60]) if isinstance(value, str) else reprlib.repr(value)  # which minds depth and length
    return f"{kinds.get(type(value), type(value).__name__)} ({shown[:40]}{'...' if len(shown) > 40 else ''})"


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with bytes that are no text."""
    return f"it is not valid UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start + 1:,}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest of the names that are known, for a message; nothing where none is near."""
    from prefdata.pipeline.registry import nearest  # here, since it brings pydantic and the engines along

    return nearest(word, known)


def parse_json(text: str) -> Any:
    """JSON without what the tables cannot hold: NaN, infinity, and characters of which only one half is there.

    Raises:
        ValueError: it is not valid, or a HalfPairError; the message is the whole problem.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        value = json.loads(text, parse_constant=refuse)
        if ("\\ud" in text or "\\uD" in text) and not is_whole(json.dumps(value, ensure_ascii=False)):
            raise HalfPairError(value)
    except HalfPairError:
        raise
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON: {error.msg} (character {error.pos + 1:,})") from None
    except ValueError as error:  # from `refuse`, or a number of thousands of digits
        raise ValueError(f"it is not valid JSON: {str(error).partition(';')[0]}") from None
    except RecursionError:
        raise ValueError("it is not valid JSON: it is nested too deeply") from None
    return value


def is_whole(text: str) -> bool:
    """Whether a text consists of whole characters, and so can be stored."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def meta_json(columns: Mapping[str, Any]) -> str | None:
    """Whatever no column holds, as the JSON text of `meta`; None where nothing is left."""
    kept = {str(plain(key)): plain(value) for key, value in columns.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else None


def plain(value: Any) -> Any:
    """The value as JSON holds it: a NaN becomes null, a date or a decimal its text."""
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, bool | int) else str(value)
