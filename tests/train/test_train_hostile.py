"""Files that mean harm, or that nobody looked at: all that comes of them is a sentence, or rows that can be trained."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.train import TrainError
from prefdata.train.data import read_preferences
from prefdata.train.encoder import Encoder
from prefdata.train.tokens import Tokenised, tokenise

Write = Callable[..., Path]
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
LINE = json.dumps(PAIR) + "\n"


def made_of(path: Path, tokenizer: Any, template: str = "auto", **options: Any) -> Tokenised:
    data = read_preferences(path)
    encoder = Encoder(tokenizer, "tiny", templated=data.templated, template=template)
    return tokenise(data, encoder, {"edges"}, **{"max_length": 10**6, "overlong": "error", **options})


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("seed", range(12))
def test_damaged_parquet_is_a_sentence(tmp_path: Path, write_lists: Write, tokenizer: Any, seed: int) -> None:
    """Cut short, or with other bytes: those of a text's letters no reader can tell."""
    path = write_lists(tmp_path / "l.parquet", [{"responses": [f"{n}a", "b"]} for n in range(40)])
    draw, content = random.Random(seed), bytearray(path.read_bytes())
    if seed % 2:
        content = content[: draw.randrange(len(content))]
    else:
        for _ in range(20):
            content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    try:
        made_of(path, tokenizer)
    except TrainError as error:
        assert str(path) in str(error)
    else:
        assert not seed % 2


def test_five_hundred_responses(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    path = write_lists(tmp_path / "l.parquet", [{"responses": [f"{n}" for n in range(500)]}])
    (entry,) = made_of(path, tokenizer).training
    assert (len(entry.rows), len(entry.source.edges)) == (500, 500 * 499 // 2)
    assert entry.size < 30 + 500 * 4


@pytest.mark.parametrize("template", ["auto", "none"])
def test_long_texts_and_composed_characters(tmp_path: Path, write_lists: Write, tokenizer: Any, template: str) -> None:
    """Ends of segments within a family of emoji and before a combining accent; all characters are there still."""
    family, accent = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301"
    texts = [family + "x" + accent + "y" * 20 + "\u00e9 " * (45_000 if n == 5 else 20) for n in range(1, 9)]
    parts = [[{"end": n, "role": "assistant"}, {"end": n + 2, "role": "tool"}] for n in range(1, 9)]
    pairs = zip(texts, parts, strict=True)
    rows = [{"responses": [text, "b"], "segments": [own, None], "prompt": user("q")} for text, own in pairs]
    made = made_of(write_lists(tmp_path / "l.parquet", rows), tokenizer, template)
    assert len(made.training) == len(rows)
    for entry, text, own in zip(made.training, texts, parts, strict=True):
        (row, _), (start, _) = entry.rows, entry.starts
        ends = [segment["end"] for segment in own]
        trained = bytes_of(tokenizer, [row.tokens[place] for place in row.scored])
        own_text = text[: ends[0]] + ("<|end|>" if template == "auto" else "") + text[ends[1] :] + "<|end|>"
        assert trained == own_text.encode()
        if template == "none":
            assert bytes_of(tokenizer, row.tokens[start:]) == (text + "<|end|>").encode()
    cut = made_of(tmp_path / "l.parquet", tokenizer, template, max_length=60, overlong="truncate")
    assert cut.truncated == len(rows)


def bytes_of(tokenizer: Any, ids: Any) -> bytes:
    """Of the byte tokenizer, whole characters or not."""
    return str(tokenizer.decode(ids)).encode()


def test_nulls_in_every_optional_column(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    """Of its own type, of none at all, and inside of lists."""
    columns = pq.read_schema(write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"]}])).names
    assert {"group", "kind", "weight"} <= set(columns)
    optional = ("id", "split", "aspect", "edges", "roles", "ends_turn", "prefixes", "tools", "values", "annotator")
    optional += ("link", "segments", "other_prompts", "prompt_of", "ref_prompt_of", "rationales", "media")
    blank: dict[str, Any] = dict.fromkeys((*optional, "group", "kind", "weight", "response_ids", "response_media"))
    path = write_lists(tmp_path / "typed.parquet", [{"responses": ["a", "b"], **blank}] * 2)
    assert [entry.source.row for entry in made_of(path, tokenizer).training] == [0, 1]
    table = pq.read_table(path)
    for name in blank:
        table = table.set_column(table.column_names.index(name), name, pa.nulls(2))
    pq.write_table(table, tmp_path / "untyped.parquet")
    assert len(made_of(tmp_path / "untyped.parquet", tokenizer).training) == 2
    inside = ("response_ids", "roles", "ends_turn", "prefixes", "segments", "prompt_of", "ref_prompt_of")
    row = {"responses": ["a", "b"], **{name: [None, None] for name in (*inside, "response_media")}}
    assert len(made_of(write_lists(tmp_path / "inside.parquet", [row]), tokenizer).training) == 1


def test_a_split_that_is_null_in_some_rows_is_refused(tmp_path: Path, write_lists: Write) -> None:
    rows = [{"responses": ["a", "b"], "split": "train"}, {"responses": ["a", "b"], "split": None}]
    with pytest.raises(TrainError, match="row 1, column 'split': it is null"):
        read_preferences(write_lists(tmp_path / "l.parquet", rows))


def test_responses_that_are_all_equal_are_counted(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    rows = [{"responses": ["a"] * 5}, {"responses": ["", ""]}, {"responses": ["a", "a", "b"]}]
    made = made_of(write_lists(tmp_path / "l.parquet", rows), tokenizer)
    assert (len(made.training), made.left_out) == (1, {"all responses equal": 2})


def test_paths_that_are_not_ascii(tmp_path: Path, write_lists: Write, tokenizer: Any) -> None:
    folder = tmp_path / "\u043d\u0430\u0431\u043e\u0440 \u6570\u636e \U0001f600"
    folder.mkdir()
    path = write_lists(folder / "\u00e9 %s.parquet", [{"responses": ["a", "b"]}])
    assert len(made_of(path, tokenizer).training) == len(made_of(folder, tokenizer).training) == 1
    write_lists(path, [{"responses": ["a", "b"], "scores": [float("nan"), 1.0]}])
    with pytest.raises(TrainError, match=r"%s\.parquet, row 0, column 'scores': nan") as raised:
        read_preferences(folder)
    assert str(folder) in str(raised.value)


def test_a_folder_of_several_formats_or_kinds_of_file(tmp_path: Path, write_lists: Write) -> None:
    write_lists(tmp_path / "a.parquet", [{"responses": ["a", "b"]}])
    pq.write_table(pa.Table.from_pylist([PAIR]), tmp_path / "b.parquet")
    with pytest.raises(TrainError, match=r"several formats \(a.parquet: lists, b.parquet: trl-pairs\): name one file"):
        read_preferences(tmp_path)
    (tmp_path / "c.jsonl").write_text(LINE)
    with pytest.raises(TrainError, match=r"data files of several kinds \(.parquet, JSON lines\): name one file"):
        read_preferences(tmp_path)


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.jsonl.gz", "x.json.gz"])
@pytest.mark.parametrize("text", [LINE, "\ufeff" + LINE, LINE + "\n\n"])
def test_json_lines_packed_or_not(tmp_path: Path, tokenizer: Any, name: str, text: str) -> None:
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert len(made_of(tmp_path / name, tokenizer).training) == 1


def test_packed_files_of_two_splits(tmp_path: Path, tokenizer: Any) -> None:
    for split, count in (("train", 3), ("test", 1)):
        (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress((LINE * count).encode()))
    made = made_of(tmp_path, tokenizer)
    assert (len(made.training), len(made.held_out)) == (3, 1)


def test_texts_that_look_like_times_are_texts(tmp_path: Path, tokenizer: Any) -> None:
    times = {"prompt": user("2024-01-01"), "chosen": "2024-01-02T00:00:00", "rejected": "2024-01-03 00:00:00"}
    times |= {side: [{"role": "assistant", "content": times[side]}] for side in ("chosen", "rejected")}
    (tmp_path / "x.jsonl").write_text(json.dumps(times) + "\n")
    (entry,) = made_of(tmp_path / "x.jsonl", tokenizer).training
    assert [one.text for one in entry.source.responses] == ["2024-01-02T00:00:00", "2024-01-03 00:00:00"]


REFUSED = {
    "a list": ("x.json", f"[{LINE}]", "x.json is one JSON list: write one object a line"),
    "no gzip": ("x.jsonl.gz", LINE, r"x.jsonl.gz cannot be read as JSON lines: "),
    "cut gzip": ("x.jsonl.gz", gzip.compress(LINE.encode() * 500)[:60], r"x.jsonl.gz cannot be read as JSON lines: "),
    "csv": ("x.csv", "prompt,chosen\nq,a\n", "x.csv cannot be read as Parquet: its name ends in none of .parquet"),
    "nothing": ("x.jsonl", "", "cannot be read as JSON lines: Empty JSON file"),
    "half a character": ("x.jsonl", b'{"prompt":"\xff","chosen":"a","rejected":"b"}\n', "rows 0 to 0 cannot be read"),
    "half a pair": ("x.jsonl", '{"prompt":"\\ud83d","chosen":"a","rejected":"b"}\n', "surrogate pair"),
    "two types": ("x.jsonl", LINE + '{"prompt":3}\n', r"Column\(/prompt\) changed from string to number"),
    "a missing key": ("x.jsonl", LINE + '{"prompt":"r"}\n', "row 1, column 'chosen': it is null"),
    "a deep one": ("x.jsonl", '{"prompt":"q","rejected":"b","chosen":' + "[" * 900 + "]" * 900 + "}\n", "list<list<"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(tmp_path: Path, case: str) -> None:
    name, content, pattern = REFUSED[case]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(TrainError, match=pattern) as raised:
        read_preferences(tmp_path / name)
    assert len(str(raised.value)) < 600


def test_names_do_not_reach_a_terminal_as_they_are(tmp_path: Path, write_lists: Write) -> None:
    table = pa.table({f"\x1b[2J{number}": ["z"] for number in range(1000)})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(TrainError, match="and 980 more; a training file has") as raised:
        read_preferences(tmp_path / "p.parquet")
    assert str(raised.value).isprintable()
    path = write_lists(tmp_path / "l.parquet", [{"responses": ["a", "b"], "roles": ["ranked", "\x1b[2J" + "x" * 999]}])
    (reason,) = read_preferences(path).responses_left_out
    assert reason.isprintable() and len(reason) < 100
