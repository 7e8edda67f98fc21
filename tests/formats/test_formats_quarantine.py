"""Bad rows and bad files: the rest is taken, what is bad is named and kept, and nothing is half taken."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata.errors import DataError
from prefdata.formats import BadRow, Imported, keep, lines, read, sentences
from prefdata.schema import arrow_table

JsonLines = Callable[..., Path]


def prompts_of(taken: Imported) -> list[str]:
    """The texts that were taken; every table must be one that can be stored."""
    for table, rows in taken.rows.items():
        arrow_table(table, rows)
    return [row["messages"][-1]["content"] for row in taken.rows["prompts"]]


def places(taken: Imported) -> list[tuple[int, str | None]]:
    return [(bad.row, bad.column) for bad in taken.quarantined]


# Rows


def test_a_broken_line_17(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"prompt": f"What is {n}?"}) for n in range(30)]
    lines[16] = '{"prompt": "What is'
    path.write_text("\n".join(lines) + "\n")
    taken = read("prompts", path)
    assert prompts_of(taken) == [f"What is {n}?" for n in range(30) if n != 16]
    (bad,) = taken.quarantined
    assert (bad.file, bad.row, bad.column, bad.raw) == ("prompts.jsonl", 17, None, lines[16])
    assert bad.reason == "it is not valid JSON: Unterminated string starting at (character 12)"
    assert "1 row in quarantine" in taken.note
    assert sentences(taken.quarantined, Path("ds/q.jsonl")) == [
        "1 row of prompts.jsonl could not be read and is kept in ds/q.jsonl: row 17: " + bad.reason
    ]
    with pytest.raises(DataError, match=r"prompts\.jsonl, row 17: it is not valid JSON: Unterminated string"):
        read("prompts", path, strict=True)


BAD_LINES: list[tuple[bytes, str | None, str]] = [
    (b'{"prompt": "a"} trailing', None, "it is not valid JSON: Extra data (character 17)"),
    (b'["a"]', None, "it should be a JSON object and is a list (['a'])"),
    (b"\0\0\0\0", None, "it is not valid JSON: Expecting value (character 1)"),
    (b'{"prompt": "a\0b"}', None, "it is not valid JSON: Invalid control character at (character 14)"),
    (b'{"prompt": "\xff\xfe"}', None, "it is not valid UTF-8: byte 0xff at position 13"),
    (b'{"prompt": "\xed\xa0\x80"}', None, "it is not valid UTF-8: byte 0xed at position 13"),
    (b'{"prompt": "\\ud83d"}', "prompt", "it holds half of a surrogate pair, which is no character"),
    (b'{"prompt": "a", "\\ud83d": 1}', "?", "it holds half of a surrogate pair, which is no character"),
    (b'{"prompt": "a", "more": ["\\uDE00"]}', "more", "it holds half of a surrogate pair, which is no character"),
    (b'{"prompt": null}', "prompt", "it is empty (null); give it a text or take the row out"),
    (b'{"prompt": "  "}', "prompt", "it is empty; give it a text or take the row out"),
    (b'{"prompt": ["a"]}', "prompt", "it should be text and is a list (['a'])"),
    (
        b'{"prompt": "a", "context": {"text": "b", "score": 1' + b"0" * 400 + b"}}",
        "context",
        "beyond what 64 bits hold",
    ),
    (b'{"prompt": "a", "n": 1' + b"0" * 5000 + b"}", None, "Exceeds the limit (4300"),
    (b'{"prompt": "a", "meta": {"deep": ' + b"[" * 960 + b"]" * 960 + b"}}", None, ""),
    (b'{"prompt": "a", "verifier": {"kind": "k", "spec": ' + b"[" * 960 + b"]" * 960 + b"}}", None, ""),
    (b"[" * 100_000, None, "it is not valid JSON: it is nested too deeply"),
    (b'{"prompt": "a", "messages": "[{]"}', "messages", "it is not valid JSON"),
    (b'{"prompt": "a", "tools": "{\\"a\\": NaN}"}', "tools", "it is not valid JSON: NaN is not a JSON number"),
]


@pytest.mark.parametrize(("line", "column", "reason"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_between_good_ones(tmp_path: Path, line: bytes, column: str | None, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "one"}\r\n\r\n' + line + b'\r\n{"prompt": "two"}')
    taken = read("prompts", path)
    assert prompts_of(taken) == ["one", "two"]
    assert places(taken) == [(3, column)]
    (bad,) = taken.quarantined
    assert reason in bad.reason
    assert bad.raw == line.decode("utf-8", "replace")
    with pytest.raises(DataError, match=r"rows\.jsonl, row 3"):
        read("prompts", path, strict=True)


def test_what_is_no_mistake(tmp_path: Path) -> None:
    """Byte order marks where files were joined, CR LF, an escaped NUL, a prompt of 2 MB, whole pairs of surrogates."""
    long = "lorem ipsum " * (1 << 18)
    texts = ["one", "a\0b", "\U0001f600", long[: 2 << 20], "last"]
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"prompt": text}).encode() for text in texts]
    path.write_bytes(b"".join(b"\xef\xbb\xbf" + row + b"\r\n" for row in rows[:-1]) + rows[-1])
    taken = read("prompts", path)
    assert prompts_of(taken) == texts and not taken.quarantined
    path.write_bytes(b"\xef\xbb\xbf" + rows[0] + b"\n" + rows[3][:-1] + b"\n")
    (bad,) = read("prompts", path).quarantined
    assert len(bad.raw) > 2 << 20
    assert len(sentences([bad])[0]) < 200  # told in a line, kept whole


def test_the_last_line_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "one"}\n{"prompt": "tw')
    (bad,) = read("prompts", path).quarantined
    assert bad.reason.endswith("; the file ends with this line, which may be cut off")


def test_a_line_that_never_ends_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "rows.jsonl"
    endless = b'{"prompt": "' + b"x" * (30 << 20) + b'"}'
    path.write_bytes(b'{"prompt": "one"}\n' + endless + b'\n{"prompt": "two"}\n' + endless)
    tracemalloc.start()
    try:
        taken = read("prompts", path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert prompts_of(taken) == ["one", "two"]
    assert peak < 12 << 20
    assert places(taken) == [(2, None), (4, None)]
    assert taken.quarantined[0].reason.startswith("it is 31,457,295 bytes long and may be 1 MiB at most")
    assert len(taken.quarantined[0].raw) == lines.KEPT_OF_LONGER


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        (b"prompt,id\none,a\ntwo,b,c\nthree,d\n", (2, None, "it has more cells than the header (3 for 2)", "two,b,c")),
        (b"prompt,id\none,a\ntwo\nthree,d\n", (2, None, "it has fewer cells than the header (1 for 2)", "two")),
        (b"prompt,id\none,a\n\xff,b\nthree,d\n", (2, "prompt", "it is not valid UTF-8: byte 0xff", "\ufffd,b")),
        (b'prompt,id\none,a\n" \n",b\nthree,d\n', (2, "prompt", "it is empty; give it a text", '" \n",b')),
    ],
)
def test_a_bad_row_of_csv(tmp_path: Path, text: bytes, bad: tuple[int, str | None, str, str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text)
    taken = read("prompts", path)
    assert prompts_of(taken) == ["one", "three"]
    (found,) = taken.quarantined
    assert (found.row, found.column, found.raw) == (bad[0], bad[1], bad[3]) and found.reason.startswith(bad[2])


def not_text(*values: bytes) -> pa.Array:
    """A column of type text that holds bytes which are none: Arrow does not look."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def test_a_bad_cell_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    tags = pa.ListArray.from_arrays([0, 1, 2, 3], not_text(b"a", b"b", b"\xff"))
    table = {"prompt": not_text(b"one", b"t\xffwo", b"three"), "tags": tags, "id": pa.array([1, 2, 3])}
    pq.write_table(pa.table(table), path)
    taken = read("prompts", path)
    assert prompts_of(taken) == ["one"]
    assert places(taken) == [(2, "prompt"), (3, "tags")]
    assert taken.quarantined[0].reason == "it is not valid UTF-8: byte 0xff at position 2"
    assert json.loads(taken.quarantined[0].raw) == {"prompt": "t\ufffdwo", "tags": ["b"], "id": 2}
    assert json.loads(taken.quarantined[1].raw)["tags"] == ["\ufffd"]


def test_a_null_text_and_a_nan_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows: list[dict[str, Any]] = [
        {"prompt": "one", "context": [{"text": "c", "score": float("nan")}], "verifier": {"kind": "k", "spec": None}},
        {"prompt": None},
        {"prompt": "three", "verifier": {"kind": "k", "spec": {"x": float("nan")}}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    taken = read("prompts", path)
    assert prompts_of(taken) == ["one", "three"] and places(taken) == [(2, "prompt")]
    assert taken.rows["prompts"][0]["context"] == [{"text": "c", "score": None}]
    assert taken.rows["prompts"][1]["verifier"]["spec"] == '{"x":null}'


# Files


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


BAD_FILES: list[tuple[str, Callable[[Path], Path], str]] = [
    ("prompts", lambda f: written(f / "a.jsonl", b""), r"a\.jsonl holds no rows"),
    ("prompts", lambda f: written(f / "a.csv", b"prompt\n"), r"a\.csv holds no rows"),
    ("prompts", lambda f: written(f / "a.parquet", b""), r"a\.parquet cannot be read as Parquet"),
    (
        "prompts",
        lambda f: written(f / "a.jsonl", b"1\n2\n3\n"),
        r"a\.jsonl: none of its 3 rows can be read, so nothing was taken: row 1: it should be a JSON object and is a "
        r"number \(1\), and 2 more like it \(rows 2, 3\)$",
    ),
    (
        "prompts",
        lambda f: written(f / "a.jsonl", b'{"text": "a"}\n{"text": "b"}\n'),
        r"none of its 2 rows can be read, so nothing was taken: row 1: it has neither a prompt \(text\) nor messages",
    ),
    ("prompts", lambda f: written(f / "a.jsonl", "prompt".encode("utf-16")), r"a\.jsonl is in UTF-16 or UTF-32: save"),
    (
        "prompts",
        lambda f: written(f / "a.csv", "prompt\na".encode("utf-32")),
        r"a\.csv is in UTF-32: in the sp",
    ),
    ("prompts", lambda f: written(f / "a.csv", b"id,text\n1,a\n"), r"has no column 'prompt' or 'messages' \(there are"),
    ("prompts", lambda f: written(f / "a.csv", b"prompt,prompt\na,b\n"), r"a\.csv has two columns 'prompt': rename"),
    (
        "prompts",
        lambda f: written(f / "a.csv", b'prompt,id\na,1\n"b,2\nc,3\n'),
        r"a\.csv, row 2: it cannot be read as CSV: .*Where the rows after it begin is not certain, so nothing was",
    ),
    (
        "prompts",
        lambda f: table(f / "a.parquet", prompt=[["a"], ["b"]]),
        r"a\.parquet, column 'prompt': its type is list<string>, and text is wanted: convert it",
    ),
    ("prompts", lambda f: table(f / "a.parquet", prompt=[b"a"]), r"column 'prompt': its type is binary, and text is"),
    ("prompts", lambda f: table(f / "a.parquet", text=["a"]), r"has no column 'prompt' or 'messages' \(there are: 'te"),
    (
        "prompts",
        lambda f: table(f / "a.parquet", prompt=["a"], tags=[1]),
        r"a\.parquet, column 'tags': its type is int64, and list or text is wanted",
    ),
    ("trl-pairs", lambda f: table(f / "a.parquet", prompt=["a"], chosen=["b"]), r"a\.parquet has no column 'rejected'"),
    (
        "trl-pairs",
        lambda f: table(f / "a.parquet", chosen=["b"], rejected=["c"], prompt=["a"], p=["0.5"]),
        r"column 'p': its type is string, and number or whole number is wanted",
    ),
    ("hh-rlhf", lambda f: table(f / "a.parquet", chosen=[1], rejected=["c"]), r"column 'chosen': its type is int64"),
    ("ranked", lambda f: table(f / "a.parquet", prompt=["a"], ranking=[[0]]), r"has no column 'responses'"),
    ("oasst", lambda f: table(f / "a.parquet", message_id=["a"], text=["b"]), r"has no column 'parent_id' or 'prompt'"),
]


@pytest.mark.parametrize(("format", "make", "sentence"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_bad_file_is_one_sentence(tmp_path: Path, format: str, make: Callable[[Path], Path], sentence: str) -> None:
    for strict in (False, True):
        path = make(tmp_path)
        with pytest.raises(DataError, match=sentence) if not strict else pytest.raises(DataError):
            read(format, path, strict=strict)


def test_columns_of_nulls_and_of_dictionaries_are_what_they_hold(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet",
        prompt=pa.array(["a", "b"]).dictionary_encode(),
        system=pa.nulls(2),
        tags=pa.array([["x"], None], pa.large_list(pa.large_string())),
    )
    assert prompts_of(read("prompts", path)) == ["a", "b"]


@pytest.mark.parametrize("cut", [30, 200, 2000])
def test_a_gzip_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    rows = b"".join(json.dumps({"prompt": f"{n} {os.urandom(8).hex()}"}).encode() + b"\n" for n in range(2000))
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-cut])
    with pytest.raises(DataError, match=r"cannot be read to its end: it breaks off after row 1,\d\d\d .*get the whole"):
        read("prompts", path)


@pytest.mark.parametrize("place", [12, -9, 0.5])
def test_a_gzip_with_a_wrong_byte_is_refused(tmp_path: Path, place: float) -> None:
    rows = b"".join(json.dumps({"prompt": f"{n} {os.urandom(8).hex()}"}).encode() + b"\n" for n in range(2000))
    content = bytearray(gzip.compress(rows))
    at = int(len(content) * place) if isinstance(place, float) else int(place)
    content[at] ^= 0xFF
    path = written(tmp_path / "rows.jsonl.gz", bytes(content))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        read("prompts", path)


def test_a_parquet_that_breaks_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"{n} {os.urandom(16).hex()}" for n in range(6000)]
    pq.write_table(pa.table({"prompt": texts}), path, row_group_size=2000, use_dictionary=False, compression="zstd")
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"rows\.parquet cannot be read to its end: it breaks off after row [1-4],\d\d\d"
    ):
        read("prompts", path)
    path.write_bytes(content[:half])
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as Parquet: .*Get the whole file"):
        read("prompts", path)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("change", [lambda text: text[: len(text) // 2], lambda text: text + text])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_bytes(b"".join(json.dumps({"prompt": f"{n}" * 50}).encode() + b"\n" for n in range(5000)))
    else:
        path.write_bytes(b"prompt\n" + b"".join(f"{n}".encode() * 50 + b"\n" for n in range(5000)))
    from prefdata.formats import prompts

    whole, real = path.read_bytes(), prompts.prompt_of

    def take(record: Any, *rest: Any) -> Any:
        if record.number == 100:
            path.write_bytes(change(whole))
        return real(record, *rest)

    monkeypatch.setattr(prompts, "prompt_of", take)
    with pytest.raises(DataError, match=r"changed while it was read, and nothing of it was taken"):
        read("prompts", path)


def test_a_folder_and_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is a folder that holds no state\.json of datasets' save_to_disk: name a file"
    ):
        read("prompts", tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe\.jsonl is no regular file"):
        read("prompts", tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"cannot be read: File name too long"):
        read("prompts", tmp_path / ("x" * 300 + ".jsonl"))


# Rows that rest on others


def test_a_bad_ranking_takes_nothing_of_its_row(jsonl: JsonLines) -> None:
    rows = [
        {"prompt": "P", "responses": ["a", "b"], "ranking": [1, 0], "extra": 1},
        {"prompt": "Q", "responses": ["c", "d"], "ranking": [0, 9], "extra": 1},
        {"prompt": "R", "responses": ["e", None], "ranking": [0, 1], "extra": 1},
        {"prompt": "S", "responses": ["f", "g"], "ranking": [0, 1], "annotator": [], "extra": 1},
    ]
    taken = read("ranked", jsonl(rows))
    assert {name: len(some) for name, some in taken.rows.items()} == {"prompts": 1, "responses": 2, "annotations": 1}
    assert places(taken) == [(2, "ranking"), (3, "responses"), (4, "annotator")]
    assert (
        taken.note
        == "1 prompt, 2 responses, 1 annotation; columns kept in meta only: 'extra' (1); 3 rows in quarantine"
    )
    assert read("ranked", jsonl(rows[:1])).rows == taken.rows


def test_a_prompt_of_a_bad_row_that_a_good_row_has_too_stays(jsonl: JsonLines) -> None:
    bad = {"prompt": "P", "responses": ["a", "b"], "ranking": [0, 9]}
    taken = read("ranked", jsonl([bad, {**bad, "ranking": [0, 1]}, bad]))
    assert (
        prompts_of(taken) == ["P"]
        and len(taken.rows["responses"]) == 2
        and places(taken) == [(1, "ranking"), (3, "ranking")]
    )


def flat(message_id: str, parent: str | None, rank: int | None = None, **columns: Any) -> dict[str, Any]:
    role = columns.pop("role", "prompter" if parent is None else "assistant")
    row = {"message_id": message_id, "parent_id": parent, "role": role, "text": f"text {message_id}", "rank": rank}
    return {**row, "message_tree_id": message_id[0], **columns}


def test_a_tree_with_a_bad_message_stays_out_whole(jsonl: JsonLines) -> None:
    """Left in, the ranking of three would be one of two, and below the bad message turns would hang in the air."""
    good = [flat("x", None), flat("x1", "x", 0), flat("x2", "x", 1)]
    tree = [flat("r", None), flat("r1", "r", 0), flat("r2", "r", 1), flat("r3", "r", 2, text=None)]
    tree += [flat("r11", "r1", role="prompter"), flat("r111", "r11")]
    taken = read("oasst", jsonl([*tree, *good]))
    assert taken.rows == read("oasst", jsonl(good)).rows
    assert [bad.row for bad in taken.quarantined] == [1, 2, 3, 4, 5, 6]
    assert taken.quarantined[3].reason == "it should be text and is missing"
    assert {bad.reason for bad in taken.quarantined if bad.row != 4} == {
        "another message of its tree, in row 4, cannot be taken"
    }
    assert json.loads(taken.quarantined[5].raw) == tree[5]


@pytest.mark.parametrize("tells", [False, True])
def test_below_a_line_that_is_no_json_nothing_is_taken(tmp_path: Path, tells: bool) -> None:
    rows = [flat("r", None), flat("r1", "r", 0), flat("r11", "r1", role="prompter"), flat("x", None), flat("x1", "x")]
    lines = [json.dumps(row if tells else {**row, "message_tree_id": None}) for row in rows]
    lines[1] = lines[1][:-1]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    taken = read("oasst", path)
    # Nobody can know that the line belonged to the tree r, unless its child says that it does.
    assert prompts_of(taken) == (["text x"] if tells else ["text r", "text x"])
    said = {bad.row: bad.reason for bad in taken.quarantined}
    assert list(said) == ([1, 2, 3] if tells else [2, 3])
    assert said[3] == "above it 'r1' is no message of this source that can be read"
    assert not tells or said[1] == "another message of its tree, in row 3, cannot be taken"


def test_a_rank_is_a_whole_number(jsonl: JsonLines) -> None:
    rows = [flat("r", None), flat("r1", "r", 0), flat("r2", "r", 0.5), flat("x", None), flat("x1", "x", 0.0)]  # type: ignore[arg-type]
    taken = read("oasst", jsonl(rows))
    assert prompts_of(taken) == ["text x"]
    assert [bad.reason for bad in taken.quarantined][2] == "it should be a whole number and is 0.5"


def test_messages_that_are_each_others_parents(jsonl: JsonLines) -> None:
    ring = [flat("a", "b"), flat("b", "a", role="prompter"), flat("c", "a")]
    taken = read("oasst", jsonl([*ring, flat("r", None), flat("r1", "r")]))
    assert prompts_of(taken) == ["text r"]
    assert [bad.row for bad in taken.quarantined] == [1, 2, 3]
    assert all("each other's parents" in bad.reason for bad in taken.quarantined)
    with pytest.raises(DataError, match=r"none of its 3 rows can be read"):
        read("oasst", jsonl(ring))


def test_a_nested_tree_is_one_row(jsonl: JsonLines) -> None:
    def tree(name: str, *replies: dict[str, Any], **columns: Any) -> dict[str, Any]:
        row = {
            "message_id": name,
            "role": "prompter" if replies else "assistant",
            "text": name,
            "replies": list(replies),
        }
        return {**row, **columns}

    rows = [
        {"prompt": tree("r", tree("r1", rank=0), tree("r2", rank=1, text=""))},
        {"prompt": tree("x", tree("x1", rank=0), tree("x2", rank=1))},
        {"prompt": tree("y", tree("x1", rank=0), tree("y2", rank=1))},
    ]
    taken = read("oasst", jsonl(rows))
    assert prompts_of(taken) == ["x"] and len(taken.rows["annotations"]) == 1
    assert places(taken) == [(1, "text"), (3, "message_id")]
    assert json.loads(taken.quarantined[0].raw) == rows[0]


def test_votes_on_a_bad_pair_of_a_bad_argument(tmp_path: Path) -> None:
    def argument(name: str, text: str | None) -> dict[str, Any]:
        return {"topic": "t", "arg_id": name, "title": "Tea?", "stance": "Yes", "text": text}

    tables = {
        "arguments": [argument("a", None), argument("b", "B"), argument("c", "C"), argument("c", "another")],
        "pairs": [{"topic": "t", "pair_id": f"{x}_{y}", "arg1": x, "arg2": y} for x, y in ("ab", "bc", "bb")],
        "votes": [
            {"topic": "t", "pair_id": pair, "worker": "w", "value": value, "reason": "r"}
            for pair, value in (("a_b", "a1"), ("b_c", "a2"), ("b_c", None), ("b_b", "a1"))
        ],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"ukpconvarg1_{name}.parquet")
    taken = read("ukpconvarg", tmp_path)
    assert {name: len(some) for name, some in taken.rows.items()} == {"prompts": 1, "responses": 2, "annotations": 1}
    assert [(bad.file.partition("_")[2], bad.row, bad.column) for bad in taken.quarantined] == [
        ("arguments.parquet", 1, "text"),
        ("arguments.parquet", 4, "arg_id"),
        ("pairs.parquet", 1, "arg1"),
        ("pairs.parquet", 3, "arg2"),
        ("votes.parquet", 1, "pair_id"),
        ("votes.parquet", 3, "value"),
        ("votes.parquet", 4, "pair_id"),
    ]
    assert [sentence.partition(" could")[0] for sentence in sentences(taken.quarantined)] == [
        "2 rows of ukpconvarg1_arguments.parquet",
        "2 rows of ukpconvarg1_pairs.parquet",
        "3 rows of ukpconvarg1_votes.parquet",
    ]


def test_a_bad_pair_does_not_change_who_names_its_group(jsonl: JsonLines) -> None:
    def pair(prompt: str, group: str, **columns: Any) -> dict[str, Any]:
        return {"prompt": prompt, "chosen": "a", "rejected": "b", "group": group, "split": "train", **columns}

    rows = [
        pair("P", "g", p=7),
        pair("Q", "g"),
        pair("R", "h"),
        pair("S", "h", split="valid", rejected=None),
        pair("T", "h"),
    ]
    taken = read("trl-pairs", jsonl(rows))
    assert prompts_of(taken) == ["R", "T"] and len(taken.rows["responses"]) == 4
    assert places(taken) == [(1, "p"), (2, "group"), (4, "rejected")]
    assert "row 1, cannot be read" in taken.quarantined[1].reason
    (split,) = [row for row in taken.rows["annotations"] if row["protocol"] == "label"]
    assert split["labels"] == ["train"]
    # Put right, all comes in under the names it would have had; what came in before keeps its own.
    rows[0]["p"], rows[3]["rejected"] = 0.7, "b"
    right = read("trl-pairs", jsonl(rows))
    assert prompts_of(right) == ["P", "Q", "R", "S", "T"] and not right.quarantined
    old = {row["prompt_id"] for row in taken.rows["prompts"]}
    assert old <= {row["prompt_id"] for row in right.rows["prompts"]}


@pytest.mark.parametrize(
    ("format", "row", "other"),
    [
        ("trl-pairs", {"prompt": "P", "chosen": "a", "rejected": "b", "chosen_id": "x"}, {"chosen": "a, put right"}),
        ("oasst", flat("x1", "x", 0), {"text": "put right"}),
    ],
)
def test_another_text_under_the_sources_key_is_another_response(
    jsonl: JsonLines, format: str, row: dict[str, Any], other: dict[str, Any]
) -> None:
    """Otherwise what was said of the old text would be taken for said of the new one."""
    before = [] if format == "trl-pairs" else [flat("x", None)]
    first, second = (read(format, jsonl([*before, made])) for made in (row, {**row, **other}))
    ids = [{one["response_id"] for one in taken.rows["responses"]} for taken in (first, second)]
    assert len(ids[0] - ids[1]) == 1
    assert first.rows["prompts"] == second.rows["prompts"]


# The file


def test_kept_is_what_the_last_reading_left_out(tmp_path: Path) -> None:
    rows = [BadRow("a.jsonl", 1, None, "why", "\udcff"), BadRow("a.jsonl", 2, "prompt", "why", "é")]
    path = keep(tmp_path, "my pipe/../line", ["a"], rows)
    assert path is not None and path.parent == tmp_path / "quarantine"
    content = path.read_bytes()
    assert [json.loads(line) for line in content.splitlines()] == [
        {"file": "a.jsonl", "row": 1, "column": None, "reason": "why", "raw": "?"},
        {"file": "a.jsonl", "row": 2, "column": "prompt", "reason": "why", "raw": "é"},
    ]
    assert keep(tmp_path, "my pipe/../line", ["a"], rows) == path and path.read_bytes() == content
    other = keep(tmp_path, "my pipe/../line", ["b"], rows[:1])
    assert other != path
    assert keep(tmp_path, "my pipe/../line", ["a"], []) is None
    assert list((tmp_path / "quarantine").iterdir()) == [other]
    assert keep(tmp_path, "my pipe/../line", ["b"], []) is None and not (tmp_path / "quarantine").exists()


def test_reasons_are_told_by_kind() -> None:
    def bad(row: int, reason: str, column: str | None = None) -> BadRow:
        return BadRow("a.jsonl", row, column, reason, "")

    rows = [
        bad(1, "odd"),
        *(bad(n, f"it is not valid JSON: {n}") for n in range(2, 9)),
        bad(9, "it is empty", "prompt"),
    ]
    assert sentences(rows) == [
        "9 rows of a.jsonl could not be read: row 2: it is not valid JSON: 2, and 6 more like it (rows 3, 4, 5, ...); "
        "row 1: odd; row 9, column 'prompt': it is empty"
    ]
    many = [bad(n, "abcdef"[n]) for n in range(6)]
    assert sentences(many)[0].endswith("row 3: d; 2 more for other reasons")


# Whatever comes

GOOD = [json.dumps({"prompt": f"Is {n} even?", "tags": ["é"], "n": n}, ensure_ascii=False).encode() for n in range(6)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.tuples(st.integers(0, 6), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5))
def test_random_bytes_between_the_lines(tmp_path: Path, noise: list[tuple[int, bytes]]) -> None:
    """Every good row is taken, every other line that is not blank is kept as it was, and nothing is a traceback."""
    lines = list(GOOD)
    for place, junk in sorted(noise, reverse=True):
        lines.insert(place, junk.replace(b"\n", b" "))
    if lines[0].startswith((b"\xff\xfe", b"\xfe\xff")):
        lines.insert(0, b"")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    taken = read("prompts", path)
    assert prompts_of(taken) == [f"Is {n} even?" for n in range(6)]
    strange = [
        (number, line.removeprefix(b"\xef\xbb\xbf"))
        for number, line in enumerate(lines, start=1)
        if line not in GOOD and line.removeprefix(b"\xef\xbb\xbf").strip()
    ]
    assert [(bad.row, bad.raw) for bad in taken.quarantined] == [
        (number, line.decode("utf-8", "replace").rstrip("\r\n")) for number, line in strange
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("prompt", "messages", "system", "tags", "verifier", "context", "tools", "meta", "id", "responses", "ranking")
NAMES += ("chosen", "rejected", "p", "score_chosen", "group", "split", "chosen_id", "message_id", "parent_id", "role")
NAMES += ("text", "rank", "replies", "annotator", "reason", "message_tree_id", "deleted")
FORMATS: dict[str, list[dict[str, Any]]] = {
    "prompts": [{"prompt": "P"}, {"messages": [{"role": "user", "content": "Q"}]}],
    "ranked": [{"prompt": "P", "responses": ["a", "b"], "ranking": [1, 0]}],
    "trl-pairs": [{"prompt": "P", "chosen": "a", "rejected": "b", "group": "g"}],
    "hh-rlhf": [{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}],
    "oasst": [flat("r", None), flat("r1", "r", 0), flat("r2", "r", 1)],
}


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    format=st.sampled_from(sorted(FORMATS)),
    changes=st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, min_size=1, max_size=3), min_size=1, max_size=4),
)
def test_random_cells(tmp_path: Path, format: str, changes: list[dict[str, Any]]) -> None:
    """Rows come in whole or not at all: what is taken can be stored, and every id that is named is there."""
    good = FORMATS[format]
    rows = [*good, *({**good[0], **change} for change in changes)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        taken = read(format, path)
    except DataError as error:
        assert format == "oasst" and "none of its" in str(error)  # the tree that all belong to is broken
        return
    for name, some in taken.rows.items():
        arrow_table(name, some)
    prompts = {row["prompt_id"]: row for row in taken.rows["prompts"]}
    responses = {row["response_id"]: row for row in taken.rows.get("responses", [])}
    assert all(row["group_id"] in prompts for row in prompts.values())
    assert all(row["prompt_id"] in prompts for row in responses.values())
    for row in taken.rows.get("annotations", []):
        there = responses if row["target"] == "response" else prompts
        assert set(row["target_ids"]) <= there.keys()
    # Content alone decides: the good rows by themselves are the same rows, unless a bad one belongs to their tree.
    if format != "oasst":
        alone = read(
            format, path_of(tmp_path, [row for n, row in enumerate(rows, 1) if (n, row) not in bad_of(taken, rows)])
        )
        assert [row["prompt_id"] for row in alone.rows["prompts"]] == [
            row["prompt_id"] for row in taken.rows["prompts"]
        ]


def bad_of(taken: Imported, rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [(bad.row, rows[bad.row - 1]) for bad in taken.quarantined]


def path_of(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "alone.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["jsonl", "jsonl.gz", "csv", "parquet"]))
def test_a_damaged_file_is_never_a_traceback(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    texts = [f"Is {n} even?" for n in range(20)]
    if kind == "parquet":
        pq.write_table(pa.table({"prompt": texts, "tags": [["a"]] * 20}), path)
    elif kind == "csv":
        path.write_bytes(b"prompt,id\n" + b"".join(f'"{text}",{n}\n'.encode() for n, text in enumerate(texts)))
    else:
        plain = b"".join(json.dumps({"prompt": text}).encode() + b"\n" for text in texts)
        path.write_bytes(gzip.compress(plain, mtime=0) if kind.endswith("gz") else plain)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        taken = read("prompts", path)
    except DataError as error:
        assert "rows." in str(error)
    else:
        prompts_of(taken)
