"""CSV as programs for spreadsheets write it: semicolons, tabs, UTF-16, `sep=`, and what is no CSV."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.errors import DataError
from prefdata.formats import READERS, read
from prefdata.formats.files import records
from prefdata.schema import Row

CELLS = [["prompt", "chosen", "rejected"], ["Wie, bitte; so?", "Grüße\n\tan alle", 'er sagt "ja"'], ["Why?", "a", "b"]]
ROWS: list[Row] = [dict(zip(CELLS[0], cells, strict=True)) for cells in CELLS[1:]]


def table(cells: list[list[str]], delimiter: str, ending: str = "\r\n") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=ending).writerows(cells)
    return file.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_every_way_to_write_a_table_gives_the_same_rows(
    tmp_path: Path, delimiter: str, encoding: str, ending: str
) -> None:
    names = ["t.csv", "T.TSV", *(["t.txt"] if delimiter == "\t" else [])]
    for name in names:
        for first in ("", f"sep={delimiter}{ending}"):
            path = tmp_path / name
            if first and name == "t.txt":
                continue
            path.write_bytes((first + table(CELLS, delimiter, ending)).encode(encoding))
            found = list(records(path))
            assert [record.row for record in found] == ROWS, (name, first)
            assert [record.number for record in found] == [1, 2]
            assert found[1].raw_text() == delimiter.join(CELLS[2])


@pytest.mark.parametrize("format", ["prompts", "trl-pairs", "tasks"])
def test_every_format_that_reads_csv_reads_semicolons(tmp_path: Path, format: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(table(CELLS, ",").encode())
    wanted = read(format, path, strict=True).rows
    path.write_bytes(b"\xef\xbb\xbf" + table(CELLS, ";").encode())
    assert read(format, path, strict=True).rows == wanted


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text("abc ,;\t\"'\n", min_size=1).filter(lambda name: name.strip() != ""),
        min_size=2,
        max_size=5,
        unique=True,
    ),
    delimiter=st.sampled_from(",;\t"),
    data=st.data(),
)
def test_a_header_of_known_names_tells_the_delimiter_whatever_else_it_holds(
    tmp_path: Path, names: list[str], delimiter: str, data: st.DataObject
) -> None:
    header = ["prompt", *names]
    row = ["Why?", *data.draw(st.lists(st.text('ab,;\t"\n'), min_size=len(names), max_size=len(names)))]
    path = tmp_path / "t.csv"
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([header, row])
    path.write_bytes(file.getvalue().encode())
    (record,) = records(path)
    assert record.row == dict(zip(header, [cell or None for cell in row], strict=True))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("prompt\na; b\tc\n", {"prompt": "a; b\tc"}),
        ('prompt,"a;b;c;d"\nx,y\n', {"prompt": "x", "a;b;c;d": "y"}),
        ('"a,b,c";prompt\nx;y\n', {"a,b,c": "x", "prompt": "y"}),
        ("prompt;id\n1,5;2,5\n", {"prompt": "1,5", "id": "2,5"}),
        ('\n"prompt\n(long)";id\na;b\n', {"prompt\n(long)": "a", "id": "b"}),
        ("sep=|\nprompt|id\na,b;|c\n", {"prompt": "a,b;", "id": "c"}),
        ("prompt;id;;\na;b;;\n", {"prompt": "a", "id": "b"}),
    ],
)
def test_what_parts_the_cells(tmp_path: Path, text: str, wanted: Row) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    assert [record.row for record in records(path)] == [wanted]


def test_a_table_of_one_column_in_tsv_keeps_its_commas(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("prompt\nOne, two; three\n", encoding="utf-8")
    assert [record.row for record in records(path)] == [{"prompt": "One, two; three"}]


def test_an_empty_row_of_a_spreadsheet_is_none_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt;id\n;\na;1\n;;\n;2\n", encoding="utf-8")
    taken = read("prompts", path)
    assert len(taken.rows["prompts"]) == 1
    assert [(bad.row, bad.column) for bad in taken.quarantined] == [(4, "prompt")]


def test_a_row_with_more_cells_names_what_to_quote(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt;id\na;b;c\nd;e\n", encoding="utf-8")
    (bad,) = read("prompts", path).quarantined
    assert bad.reason == "it has more cells than the header (3 for 2); quote its semicolons"
    path.write_text("prompt;;\na;b;\nc;;\n", encoding="utf-8")
    assert [bad.row for bad in read("prompts", path).quarantined] == [1]  # a text without a name is not thrown away


def test_windows_1252_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("prompt;id\nGrüße;1\nWhy?;2\n".encode("cp1252"))
    taken = read("prompts", path)
    (bad,) = taken.quarantined
    assert (bad.row, bad.column) == (1, "prompt")
    assert "not valid UTF-8: byte 0xfc" in bad.reason and 'save it as "CSV UTF-8"' in bad.reason
    path.write_bytes("prompt;Länge\na;1\n".encode("cp1252"))
    with pytest.raises(DataError, match=r't\.csv, header: it is not valid UTF-8.* save it as "CSV UTF-8"'):
        read("prompts", path)


def test_utf_16_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("prompt\tid\nWhy?\t1\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r't\.csv, near line \d: it begins as UTF-16 and is none: .*"CSV UTF-8"'):
        read("prompts", path)


@pytest.mark.parametrize("name", ["t.xlsx", "T.XLSX", "t.ods", "t.xls"])
@pytest.mark.parametrize("format", sorted(READERS))
def test_a_spreadsheet_is_told_what_to_do_in_every_format(tmp_path: Path, format: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"anything")
    with pytest.raises(DataError, match=rf'{name} is a spreadsheet\'s own file.*save it as "CSV UTF-8"'):
        read(format, path)
    with pytest.raises(DataError, match=f"missing-{name}.*(there is|is not there)|there is no file .*missing-{name}"):
        read(format, tmp_path / f"missing-{name}")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_a_spreadsheet_under_another_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match=r"is a spreadsheet's own file"):
        read("prompts", path)


def test_a_text_without_tabs_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("prompt, or so; well\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"notes\.txt: the end of its name says none of"):
        read("prompts", path)
