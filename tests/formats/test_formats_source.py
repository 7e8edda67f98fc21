"""Rows from files, each with the place it came from."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import DataError
from prefdata.formats import READERS, Imported, read
from prefdata.formats.files import records
from prefdata.formats.source import meta_json

JsonLines = Callable[..., Path]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, jsonl: JsonLines) -> None:
    rows = [{"prompt": "one", "id": "a"}, {"prompt": "two, with a comma\nand a line", "id": "b"}]
    plain = jsonl(rows)
    zipped = tmp_path / "rows.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    table = tmp_path / "rows.csv"
    table.write_text('prompt,id\none,a\n"two, with a comma\nand a line",b\n', encoding="utf-8-sig")
    columns = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), columns)
    for path in (plain, zipped, table, columns):
        assert [record.row for record in records(path)] == rows, path.name
        assert [record.number for record in records(path)] == [1, 2]


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_list([{"prompt": "one"}, {"prompt": "two"}])
    two = datasets.Dataset.from_list([{"prompt": "three"}, {"prompt": "four"}]).select([1])
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(str(tmp_path / "both"))
    assert [record.row["prompt"] for record in records(tmp_path / "one")] == ["one", "two"]
    assert [record.row["prompt"] for record in records(tmp_path / "both")] == ["one", "two", "four"]
    assert len(read("prompts", tmp_path / "both").rows["prompts"]) == 3


def test_a_saved_folder_cannot_name_files_outside(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(DataError, match=r"names '\.\./secret\.arrow', which is not a name within its folder"):
        list(records(folder))


def test_broken_files_are_sentences(tmp_path: Path) -> None:
    def written(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    cases = [
        (written("a.jsonl", b'{"prompt": "x"}\n{"prompt": \n'), r"a\.jsonl, row 2: it is not valid JSON"),
        (written("b.jsonl", b"[1]\n"), r"b\.jsonl, row 1: it should be a JSON object and is a list"),
        (written("c.jsonl", b'{"prompt": NaN}\n'), r"c\.jsonl, row 1: it is not valid JSON: NaN is not a JSON number"),
        (
            written("d.jsonl", b'{"prompt": "\xff"}\n'),
            r"d\.jsonl, row 1: it is not valid UTF-8: byte 0xff at position 13",
        ),
        (written("e.jsonl", b"[" * 100_000 + b"\n"), r"e\.jsonl, row 1: .*nested too deeply"),
        (written("f.csv", b"prompt\na,b\n"), r"f\.csv, row 1: it has more cells than the header"),
        (written("g.csv", b'prompt\n"open\n'), r"g\.csv, row 1: it cannot be read as CSV"),
        (written("h.parquet", b"PAR1 not really"), r"h\.parquet cannot be read as Parquet"),
        (written("i.jsonl.gz", b"not gzip"), r"i\.jsonl\.gz cannot be read at all \(Not a gzipped file"),
        (written("j.txt", b"x"), r"j\.txt: the end of its name says none of"),
        (tmp_path / "missing.jsonl", r"there is no file .*missing\.jsonl"),
        (tmp_path, "is a folder that holds no state.json of"),
    ]
    for path, sentence in cases:
        with pytest.raises(DataError, match=sentence):
            list(records(path))
    with pytest.raises(DataError, match=r"holds neither x\.parquet nor the state\.json of datasets' save_to_disk"):
        list(records(tmp_path, within="x.parquet"))


def test_unknown_formats_and_options_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no format 'hh_rlhf' to read; did you mean 'hh-rlhf'\?"):
        read("hh_rlhf", tmp_path)
    with pytest.raises(DataError, match=r"'ranked' has no option 'anotator'; did you mean 'annotator'\?"):
        read("ranked", tmp_path, anotator="me")
    with pytest.raises(DataError, match=r"'prompts' has no option 'limit' \(it takes none\)"):
        read("prompts", tmp_path, limit=3)
    ours = {"prompts", "ranked", "hh-rlhf", "oasst", "ukpconvarg", "pandalm", "trl-pairs", "tasks", "label-studio"}
    ours |= {"argilla", "lamp", "alpacaeval"}
    assert set(READERS) == ours


def test_a_reader_that_knows_no_strictness_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_nothing(source: object, *, word: str = "") -> Imported:
        return Imported({}, Counter(), f"nothing of {source} {word}")

    monkeypatch.setitem(READERS, "nothing", read_nothing)
    for strict in (False, True):
        assert read("nothing", "here", strict=strict, word="!").note == "nothing of here !"


def test_meta_is_always_valid_json() -> None:
    kept = meta_json({"nan": float("nan"), "half": "\ud800", "none": None, "date": pa.scalar(0).as_py()})
    assert kept is not None
    assert json.loads(kept) == {"nan": None, "half": "?", "date": 0}
    assert meta_json({"none": None}) is None
