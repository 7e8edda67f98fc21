"""Dataset folders without the datasets library: which files are read, and which of them are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from prefdata.train import TrainError
from prefdata.train.data import check_file, read_preferences


def pairs(*names: str) -> pa.Table:
    return pa.Table.from_pylist([{"prompt": "q", "chosen": name, "rejected": "b"} for name in names])


def parquet(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pairs(*names), path)
    return path


def arrow(path: Path, *names: str, whole_file: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pairs(*names)
    make = pa.ipc.new_file if whole_file else pa.ipc.new_stream
    with path.open("wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def saved(folder: Path, *names: str, **state: Any) -> None:
    """As `Dataset.save_to_disk` leaves it."""
    arrow(folder / "data-00000-of-00001.arrow", *names)
    content = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None, **state}
    (folder / "state.json").write_text(json.dumps(content))
    (folder / "dataset_info.json").write_text("{}")


def read(path: Path) -> dict[str, bool]:
    """The chosen texts, and whether each is held out."""
    return {entry.responses[0].text: entry.held_out for entry in read_preferences(path).lists}


@pytest.mark.parametrize("held_out", ["test", "validation", "valid", "eval", "dev", "test_prefs"])
def test_the_hubs_files_are_named_by_split(tmp_path: Path, held_out: str) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", "a")
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", "b", "c")
    parquet(tmp_path / "data" / f"{held_out}-00000-of-00001.parquet", "d")
    assert read(tmp_path) == {"a": False, "b": False, "c": False, "d": True}
    data = read_preferences(tmp_path)
    assert data.split
    assert [entry.row for entry in data.lists] == [0, 1, 2, 3]
    assert data.where(2) == f"{tmp_path / 'data' / 'train-00001-of-00002.parquet'}, row 1"
    assert len(data.files) == 3


def test_folders_of_a_split_and_files_without_one(tmp_path: Path) -> None:
    parquet(tmp_path / "one" / "default" / "train" / "0000.parquet", "a")
    parquet(tmp_path / "one" / "default" / "test" / "0000.parquet", "b")
    assert read(tmp_path / "one") == {"a": False, "b": True}
    parquet(tmp_path / "two" / "first.parquet", "a")
    parquet(tmp_path / "two" / "second.parquet", "b")
    assert read(tmp_path / "two") == {"a": False, "b": False}
    assert not read_preferences(tmp_path / "two").split


CARD = """---
license: mit
configs:
- config_name: other
  data_files:
  - split: train
    path: other/*.parquet
- config_name: {name}
  data_files:
  - split: train
    path:
    - "data/a.parquet"
    - data/b.parquet
  - split: test
    path: data/c*
---
# A card
"""


def test_configs_of_the_card_name_the_files(tmp_path: Path) -> None:
    for place in ("data/a", "data/b", "data/c1", "other/d"):
        parquet(tmp_path / f"{place}.parquet", place)
    (tmp_path / "README.md").write_text(CARD.format(name="default"))
    assert read(tmp_path) == {"data/a": False, "data/b": False, "data/c1": True}
    (tmp_path / "README.md").write_text(CARD.format(name="third"))
    with pytest.raises(TrainError, match=r"holds several datasets \(other, third\): name one file"):
        read_preferences(tmp_path)
    (tmp_path / "README.md").write_text(CARD.format(name="default").replace("data/a.parquet", "../a.parquet"))
    with pytest.raises(TrainError, match="names a file outside of its folder"):
        read_preferences(tmp_path)
    one = "---\nconfigs:\n- config_name: x\n  data_files: other/d.parquet\n---\n"
    (tmp_path / "README.md").write_text(one)
    assert read(tmp_path) == {"other/d": False}


def test_an_exports_folder(tmp_path: Path) -> None:
    """Its card lists one configuration for each file: the only one is read, of several one has to be named."""
    import prefdata
    from prefdata.formats.merge import import_into

    import_into("trl-pairs", parquet(tmp_path / "p.parquet", "a"), tmp_path / "run", strict=True)
    for form in ("lists", "trl-pairs"):
        prefdata.export(tmp_path / "run", tmp_path / "exports" / f"{form}.parquet", format=form)
        if form == "lists":
            assert read_preferences(tmp_path / "exports").format == "lists"
    with pytest.raises(TrainError, match=r"holds several datasets \(lists, trl-pairs\): name one file of it"):
        read_preferences(tmp_path / "exports")
    assert read(tmp_path / "exports" / "trl-pairs.parquet") == {"a": False}


def test_save_to_disk(tmp_path: Path) -> None:
    saved(tmp_path / "one", "a", "b")
    assert read(tmp_path / "one") == {"a": False, "b": False}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    saved(tmp_path / "two" / "train", "a")
    saved(tmp_path / "two" / "test", "b")
    assert read(tmp_path / "two") == {"a": False, "b": True}
    assert read(arrow(tmp_path / "f.arrow", "x", whole_file=True)) == {"x": False}


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": name, "rejected": "b"} for name in "ac"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(tmp_path / "train.jsonl") == read(tmp_path) == {"a": False, "c": False}
    (tmp_path / "train.jsonl").write_text("{")
    with pytest.raises(TrainError, match="cannot be read as JSON lines"):
        read(tmp_path)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def refused(name: str, pattern: str) -> None:
        with pytest.raises(TrainError, match=pattern) as caught:
            read_preferences(tmp_path / name)
        assert "\n" not in str(caught.value)

    (tmp_path / "empty").mkdir()
    refused("empty", "holds no Parquet file")
    refused("none", "there is no file")
    with pytest.raises(TrainError, match="there is no file"):
        check_file(tmp_path / "none")
    for split in ("train_prefs", "train_sft", "test_sft"):
        parquet(tmp_path / "several" / f"{split}-00000-of-00001.parquet", "a")
    refused("several", r"holds several splits to train on \(train_prefs, train_sft\)")
    parquet(tmp_path / "held" / "test.parquet", "a")
    refused("held", "holds the splits test, and none to train on")
    parquet(tmp_path / "mixed" / "a.parquet", "a")
    pq.write_table(pa.table({"prompt": ["q"], "completion": ["a"]}), tmp_path / "mixed" / "b.parquet")
    refused("mixed", r"holds files of several formats \(a.parquet: trl-pairs, b.parquet: sft\)")
    saved(tmp_path / "indexed", "a", _indices_data_files=[{"filename": "i.arrow"}])
    refused("indexed", "flatten_indices")
    saved(tmp_path / "outside", "a", _data_files=[{"filename": "../indexed/data-00000-of-00001.arrow"}])
    refused("outside", "names a file outside of itself")
    saved(tmp_path / "gone", "a", _data_files=[{"filename": "x.arrow"}])
    refused("gone", "names 'x.arrow', which is not there")
    for content in ("[]", "{", '{"_data_files": 1}', '{"_data_files": [{"filename": 1}]}'):
        (tmp_path / "gone" / "state.json").write_text(content)
        refused("gone", "state.json")
    (tmp_path / "indexed" / "data-00000-of-00001.arrow").write_bytes(b"x" * 40)
    (tmp_path / "indexed" / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    refused("indexed", "cannot be read as Arrow")
