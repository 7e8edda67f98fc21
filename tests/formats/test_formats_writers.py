"""Files: exact types, footers, atomic writes, the dataset card, and that datasets loads them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from format_tables import Tables

from prefdata import schema
from prefdata.errors import DataError, EngineError
from prefdata.formats import WRITERS, Written, write, write_card
from prefdata.formats.columns import LISTS
from prefdata.formats.conversation import join_turns

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SEVERAL = [schema.message("user", "a"), schema.message("assistant", "b"), schema.message("user", "c")]


@pytest.fixture
def lists(tables: Tables) -> pl.DataFrame:
    first, second = tables.prompt("Why?"), tables.prompt("How?")
    tables.preference(first, ["good", "bad", "worst"], [3.0, 2.0, 1.0])
    tables.preference(second, ["yes", "no"], [1.0, 0.0], annotator="human:x")
    tables.preference(second, ["fine"], [1.0], kind="unpaired")
    tables.split(second, "valid")
    return tables.lists()


def kinds(path: Path) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in pq.read_schema(path)}


def footer(path: Path) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (pq.read_schema(path).metadata or {}).items()}


def test_lists_file(lists: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    written = write(lists, "lists", path, meta={"commit": "7", "step": "pair@1", "view": "main", "format": "ignored"})
    assert written == Written(3, Counter(), path)
    wanted = {name: LISTS.field(name).type for name in lists.columns} | {"prompt": MESSAGES}
    assert kinds(path) == wanted
    marks = footer(path)
    assert marks["prefdata.format"] == "lists/1"
    assert (marks["prefdata.commit"], marks["prefdata.step"], marks["prefdata.view"]) == ("7", "pair@1", "main")
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(path).to_pylist() == lists.to_dicts()


def test_a_message_has_the_keys_that_some_row_fills(tables: Tables, tmp_path: Path) -> None:
    tables.preference(tables.prompt([schema.message("user", "x", name="ann")]), ["a", "b"], [1.0, 0.0])
    tables.preference(tables.prompt("y"), ["a", "b"], [1.0, 0.0])
    named = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())]))
    write(tables.lists(), "lists", tmp_path / "lists.parquet")
    write(tables.lists(), "trl-pairs-conversational", tmp_path / "pairs.parquet")
    assert kinds(tmp_path / "lists.parquet")["prompt"] == named
    found = kinds(tmp_path / "pairs.parquet")
    assert (found["prompt"], found["chosen"], found["rejected"]) == (named, MESSAGES, MESSAGES)


PAIR_COLUMNS = {
    "score_chosen": pa.float64(),
    "score_rejected": pa.float64(),
    **dict.fromkeys(["id", "list", "group", "split", "aspect", "annotator", "chosen_id", "rejected_id"], pa.string()),
}


@pytest.mark.parametrize(("format", "side"), [("trl-pairs", pa.string()), ("trl-pairs-conversational", MESSAGES)])
def test_pairs_files(lists: pl.DataFrame, tmp_path: Path, format: str, side: pa.DataType) -> None:
    path = tmp_path / "pairs.parquet"
    written = write(lists, format, path)
    assert (written.rows, written.left_out) == (4, Counter(unpaired=1))
    assert kinds(path) == {"prompt": side, "chosen": side, "rejected": side, **PAIR_COLUMNS}
    marks = footer(path)
    assert marks["prefdata.format"] == f"{format}/1"
    assert json.loads(marks["prefdata.left_out"]) == {"unpaired": 1}
    assert marks.get("prefdata.template") == ("none" if format == "trl-pairs" else None)
    assert Counter(pq.read_table(path)["split"].to_pylist()) == Counter(train=3, valid=1)


def test_optional_pair_columns_have_their_types(tables: Tables, tmp_path: Path) -> None:
    edges = [{"winner": 0, "loser": 1, "p": 0.75, "margin": 1.0, "weight": 2.0}]
    tables.preference(tables.prompt("x", tools='[{"name": "f"}]'), ["a", "b"], [1.0, 0.0], edges=edges)
    tables.preference(tables.prompt("y"), ["a", "b"], [1.0, 0.0])
    path = tmp_path / "pairs.parquet"
    write(tables.lists(), "trl-pairs-conversational", path)
    found = kinds(path)
    assert {name: found[name] for name in ("margin", "p", "weight", "tools")} == {
        "margin": pa.float64(),
        "p": pa.float64(),
        "weight": pa.float64(),
        "tools": pa.string(),
    }
    rows = pl.read_parquet(path).sort("p")
    assert rows.select("p", "weight", "margin", "tools").rows() == [
        (0.75, 2.0, 1.0, '[{"name": "f"}]'),
        (1.0, 1.0, None, None),
    ]


def test_unpaired_files(lists: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "unpaired.parquet"
    assert write(lists, "unpaired", path).rows == 1
    assert write(lists, "unpaired", path, from_lists=True).rows == 1 + 2 + 2
    rest = ["id", "list", "group", "split", "aspect", "annotator", "response_id"]
    wanted: dict[str, pa.DataType] = {
        "prompt": pa.string(),
        "completion": pa.string(),
        "label": pa.bool_(),
        "weight": pa.float64(),
        "score": pa.float64(),
        **dict.fromkeys(rest, pa.string()),
    }
    assert kinds(path) == wanted
    write(lists, "unpaired-conversational", path)
    assert kinds(path) == wanted | {"prompt": MESSAGES, "completion": MESSAGES}
    assert footer(path)["prefdata.format"] == "unpaired-conversational/1"


def test_ultrafeedback_file(tables: Tables, tmp_path: Path) -> None:
    tables.preference(tables.prompt(SEVERAL), ["x", "y"], [1.0, 0.0])
    tables.preference(tables.prompt("Why?"), ["good", "bad"], [9.0, 2.0])
    tables.preference(tables.prompt("Tied?"), ["good", "bad"], [2.0, 2.0])
    tables.preference(tables.prompt("Tool?", tools="[]"), ["good", "bad"], [2.0, 1.0])
    path = tmp_path / "uf.parquet"
    written = write(tables.lists(), "ultrafeedback-binarized", path)
    assert (written.rows, written.left_out) == (2, Counter({"tie": 1, "tools, tool calls or names": 1}))
    assert kinds(path) == {
        "prompt": pa.string(),
        "prompt_id": pa.string(),
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "messages": MESSAGES,
        "score_chosen": pa.float64(),
        "score_rejected": pa.float64(),
        "split": pa.string(),
    }
    rows = {row["score_chosen"]: row for row in pq.read_table(path).to_pylist()}
    whole = [schema.message("user", "Why?"), schema.message("assistant", "good")]
    assert rows[9.0] == {
        "prompt": "Why?",
        "prompt_id": hashlib.sha256(b"Why?").hexdigest(),
        "chosen": whole,
        "rejected": [whole[0], schema.message("assistant", "bad")],
        "messages": whole,
        "score_chosen": 9.0,
        "score_rejected": 2.0,
        "split": "train",
    }
    assert rows[1.0]["chosen"] == [*SEVERAL, schema.message("assistant", "x")]
    assert rows[1.0]["prompt"] == "User: a\n\nAssistant: b\n\nUser: c"


def test_llamafactory_files(tables: Tables, tmp_path: Path) -> None:
    system = schema.message("system", "Be kind.")
    tables.preference(tables.prompt([system, *SEVERAL]), ["x", "y"], [1.0, 0.0])
    held = tables.prompt("Why?")
    tables.preference(held, ["good", "bad"], [1.0, 0.0])
    tables.split(held, "valid")
    tables.preference(tables.prompt([SEVERAL[0], SEVERAL[2]]), ["x", "y"], [1.0, 0.0])
    text, segments = join_turns([schema.message(role, role) for role in ("assistant", "user", "assistant")])
    prompt = tables.prompt("On?")
    ids = [tables.response(prompt, text, segments=segments), tables.response(prompt, "x")]
    tables.preference_of(prompt, ids, [1.0, 0.0])
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    written = write(tables.lists(), "llamafactory", tmp_path / "prefs.json")
    assert (written.rows, written.left_out) == (2, Counter({"several turns": 1, "turns that do not alternate": 1}))
    assert json.loads((tmp_path / "prefs.json").read_text()) == [
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "gpt", "value": "b"},
                {"from": "human", "value": "c"},
            ],
            "chosen": {"from": "gpt", "value": "x"},
            "rejected": {"from": "gpt", "value": "y"},
            "system": "Be kind.",
            "split": "train",
        }
    ]
    (held_out,) = json.loads((tmp_path / "prefs.valid.json").read_text())
    assert (held_out["conversations"], held_out["system"]) == ([{"from": "human", "value": "Why?"}], "")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    entry = {
        "file_name": "prefs.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"},
    }
    assert info == {
        "mine": {"file_name": "mine.json"},
        "prefs": entry,
        "prefs_valid": {**entry, "file_name": "prefs.valid.json"},
    }


def test_llamafactory_refuses_what_it_would_spoil(lists: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"LLaMA-Factory goes by the end of the name; let it be \.json"):
        write(lists, "llamafactory", tmp_path / "x.parquet")
    with pytest.raises(DataError, match="give the file another name"):
        write(lists, "llamafactory", tmp_path / "dataset_info.json")
    (tmp_path / "dataset_info.json").write_text("[")
    with pytest.raises(DataError, match=r"dataset_info\.json is there and is not JSON"):
        write(lists, "llamafactory", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_what_cannot_be_asked(lists: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no format 'trl_pairs' to write; did you mean 'trl-pairs'\?"):
        write(lists, "trl_pairs", tmp_path / "x.parquet")
    with pytest.raises(DataError, match="holds messages, which take no --template"):
        write(lists, "lists", tmp_path / "x.parquet", template=str(tmp_path))
    with pytest.raises(DataError, match="is a folder; name the file to write"):
        write(lists, "lists", tmp_path)
    for name in ("README.md", "x", "x.json"):
        with pytest.raises(DataError, match=r"'lists' is written as Parquet; name a file that ends in \.parquet"):
            write(lists, "lists", tmp_path / name)
        assert not (tmp_path / name).exists()
    with pytest.raises(EngineError, match="no model 'nowhere'"):
        write(lists, "trl-pairs", tmp_path / "x.parquet", template="nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="its tokenizer cannot be loaded"):
        write(lists, "trl-pairs", tmp_path / "x.parquet", template=str(tmp_path / "folder"))


def test_a_file_without_rows_is_an_error_that_says_why(lists: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"before")
    with pytest.raises(DataError, match="would hold no row of 'trl-pairs': all was left out: 1 unpaired"):
        write(lists.filter(pl.col("kind") == "unpaired"), "trl-pairs", path)
    with pytest.raises(DataError, match="there are no preferences"):
        write(lists.clear(), "lists", path)
    assert path.read_bytes() == b"before"


def test_a_write_that_fails_leaves_what_was_there(
    lists: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lists.parquet"
    write(lists.head(1), "lists", path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    with pytest.raises(DataError, match=r"lists\.parquet cannot be written: no space left"):
        write(lists, "lists", path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["lists.parquet"]


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_every_format_writes_the_same_bytes_twice(lists: pl.DataFrame, tmp_path: Path, format: str) -> None:
    ending = "json" if WRITERS[format].schema is None else "parquet"
    paths = [tmp_path / str(number) / f"out.{ending}" for number in range(2)]
    for path in paths:
        write(lists, format, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


# The dataset card


def front(card: Path) -> dict[str, Any]:
    _, head, _ = card.read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_load_dataset_reads_the_folder(lists: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    exports = tmp_path / "exports"
    write(lists, "lists", exports / "lists.parquet")
    write(lists, "trl-pairs", exports / "pairs.parquet")
    write(lists, "unpaired", exports / "unpaired.parquet", from_lists=True)
    assert write_card(exports, {"file": "pairs.parquet", "left_out": {"unpaired": 1}}) == exports / "README.md"

    def load(*name: str) -> Any:
        return datasets.load_dataset(str(exports), *name, cache_dir=str(tmp_path / "cache"))["train"]

    assert load("pairs").num_rows == load().num_rows == 4
    assert load("lists")[0]["responses"] in lists["responses"].to_list()
    assert load("unpaired").features["label"].dtype == "bool"
    # Without the card it fails, for the columns differ: the card is what makes it work.
    (exports / "README.md").unlink()
    with pytest.raises(Exception, match=r"(?i)column|generating the dataset"):
        load()


def test_the_card_tells_what_is_there(lists: pl.DataFrame, tmp_path: Path) -> None:
    write(lists, "trl-pairs", tmp_path / "pairs.parquet", meta={"commit": "7", "view": "main"})
    write(lists, "lists", tmp_path / "lists.parquet")
    card = write_card(tmp_path, {"file": "lists.parquet", "left_out": {"response missing": 2}, "prompts": 3})
    assert card is not None
    text = card.read_text()
    assert front(card) == {
        "license": "unknown",
        "tags": ["preference"],
        "configs": [
            {"config_name": "lists", "data_files": "lists.parquet"},
            {"config_name": "pairs", "data_files": "pairs.parquet", "default": True},
        ],
    }
    for shown in ("4 rows. From commit 7, view main.", "- unpaired: 1", "- response missing: 2", "- prompts: 3"):
        assert shown in text
    assert "| `prompt` | `list<struct<role: string, content: string>>` |" in text


def test_text_from_data_cannot_break_the_card(lists: pl.DataFrame, tmp_path: Path) -> None:
    name = "a: b\n---\n'x\" #{[*].parquet"
    write(lists, "lists", tmp_path / name)
    evil = "x\n---\nlicense: mit\n---\n<script>alert(1)</script> | `y` [z](http://z)"
    card = write_card(tmp_path, {"title": evil, evil: 1, "file": name, "left_out": {evil: 1}})
    assert card is not None
    found = front(card)
    assert found["license"] == "unknown"
    (config,) = found["configs"]
    assert set(config["config_name"]) <= set("a_b-x.")
    body = card.read_text().split("---\n", 2)[2]
    assert "<script>" not in body
    assert not any(line.startswith(("---", "license")) for line in body.splitlines())


def test_somebodys_own_readme_stays(lists: pl.DataFrame, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# My project\n")
    write(lists, "lists", tmp_path / "lists.parquet")
    assert write_card(tmp_path, {}) is None
    assert readme.read_text() == "# My project\n"


# The chat template


def tokenizer_folder(folder: Path, template: str) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"x": 0, "?": 1}, unk_token="?")))
    made.chat_template = template
    made.save_pretrained(str(folder))
    return folder


CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if 'tool_calls' in m %}CALLS{% endif %}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_template_renders_prompts_and_ends_turns(tables: Tables, tmp_path: Path) -> None:
    prompt = tables.prompt(SEVERAL)
    cut = tables.response(prompt, "cut", finish_reason="length")
    text, segments = join_turns([schema.message(role, role[0]) for role in ("assistant", "user", "assistant")])
    ids = [tables.response(prompt, "whole"), cut, tables.response(prompt, text, segments=segments)]
    tables.preference_of(prompt, ids, [3.0, 2.0, 1.0])
    path = tmp_path / "pairs.parquet"
    model = tokenizer_folder(tmp_path / "model", CHATML)
    written = write(tables.lists(), "trl-pairs", path, template=str(model))
    assert (written.rows, written.left_out) == (3, Counter())
    head = "<user>a<end>\n<assistant>b<end>\n<user>c<end>\n<assistant>"
    whole, several = "whole<end>\n", "a<end>\n<user>u<end>\n<assistant>a<end>\n"
    rows = pl.read_parquet(path).sort("id")
    assert rows.select("prompt", "chosen", "rejected").rows() == [
        (head, whole, "cut"),
        (head, whole, several),
        (head, "cut", several),
    ]
    assert footer(path)["prefdata.template"] == "model"


def test_a_template_that_cannot_be_used_is_a_sentence(lists: pl.DataFrame, tmp_path: Path) -> None:
    raising = tokenizer_folder(tmp_path / "raising", "{{ raise_exception('no users here') }}")
    silent = tokenizer_folder(tmp_path / "silent", "{% for m in messages %}{{ m['role'] }}{% endfor %}")
    none = tokenizer_folder(tmp_path / "none", "")
    for folder, sentence in (
        (raising, "cannot show a prompt: no users here"),
        (silent, "does not show the assistant's last turn"),
        (none, "has no chat template"),
    ):
        with pytest.raises(DataError, match=sentence):
            write(lists, "trl-pairs", tmp_path / "x.parquet", template=str(folder))


@pytest.mark.model
def test_the_small_model_s_template(lists: pl.DataFrame, tmp_path: Path, smollm2: Path) -> None:
    path = tmp_path / "pairs.parquet"
    write(lists, "trl-pairs", path, template=str(smollm2))
    row = pl.read_parquet(path).filter(pl.col("chosen").str.starts_with("yes")).row(0, named=True)
    assert row["prompt"].endswith("<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n")
    assert (row["chosen"], row["rejected"]) == ("yes<|im_end|>\n", "no<|im_end|>\n")
