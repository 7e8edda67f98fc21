"""Reference log-probabilities by what they are: found again, and never for something else."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import byte_tokenizer, save_tiny_model

from prefdata.lm import Row
from prefdata.schema import SCHEMAS
from prefdata.train import reference as module
from prefdata.train.errors import TrainError
from prefdata.train.hashes import tokenizer_hash, weights_hash
from prefdata.train.reference import Reference, Scorer

SCORER = Scorer("tiny", "a" * 64, "b" * 64, "fp32", "sdpa")
ROWS = [Row((5, 6, 7, 8), (2, 3)), Row((5, 6, 7, 9), (2, 3)), Row((5, 6), ()), Row((5, 6, 7, 8), (3,))]
VALUES = [[-0.1, -2.5], [-0.1, -3.25], [], [-2.5]]


def scored(scorer: Scorer = SCORER) -> Reference:
    known = Reference(scorer)
    about = [{"response_id": f"r{number}", "group_id": "g"} for number in range(len(ROWS))]
    known.add(ROWS, VALUES, about)
    return known


def test_values_come_back_to_the_bit(tmp_path: Path) -> None:
    scored().save(tmp_path / "reference.parquet")
    known = Reference(SCORER)
    assert known.missing([*ROWS, ROWS[0]]) == [0, 1, 2, 3], "a row that stands there twice is asked for once"
    assert known.read(tmp_path / "reference.parquet") == 4
    assert known.missing(ROWS) == []
    for row, values in zip(ROWS, VALUES, strict=True):
        assert known.values(row).dtype == np.float32
        assert known.values(row).tolist() == np.array(values, np.float32).tolist()


def test_the_file_has_the_columns_of_token_scores(tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    scored().save(path)
    table = pq.read_table(path)
    named = SCHEMAS["token_scores"]
    assert table.column_names[-1] == "key"
    assert all(field.type == named.field(field.name).type for field in list(table.schema)[:-1])
    row = next(row for row in table.to_pylist() if row["response_id"] == "r1")
    assert row["token_ids"] == [7, 9] and row["kind"] == "logprob" and row["group_id"] == "g"
    assert row["scorer"] == str(SCORER) == f"tiny@{'a' * 12}/{'b' * 12}/fp32/sdpa" and row["prompt_id"] is None
    assert json.loads(pq.read_metadata(path).metadata[b"prefdata.scorer"]) == asdict(SCORER)
    assert [one.name for one in tmp_path.iterdir()] == ["reference.parquet"]


def test_the_same_rows_make_the_same_file(tmp_path: Path) -> None:
    """Whatever order they were computed in."""
    other = Reference(SCORER)
    other.add(ROWS[::-1], VALUES[::-1])
    first = Reference(SCORER)
    first.add(ROWS, VALUES)
    first.save(tmp_path / "one")
    other.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", ["weights", "tokenizer", "dtype", "attention"])
def test_a_stale_cache_is_not_used(tmp_path: Path, name: str) -> None:
    scored(replace(SCORER, **{name: "other"})).save(tmp_path / "stale.parquet")
    known = Reference(SCORER)
    assert known.read(tmp_path / "stale.parquet") == 0
    assert known.missing(ROWS) == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        known.values(ROWS[0])
    # The column `scorer` holds twelve characters of each hash, the key all of them.
    assert Reference(replace(SCORER, **{name: "other"})).key(ROWS[0]) != known.key(ROWS[0])


def test_the_models_name_does_not_matter_for_keys() -> None:
    assert Reference(replace(SCORER, model="elsewhere")).key(ROWS[0]) == Reference(SCORER).key(ROWS[0])


def test_a_folder_that_was_moved_is_known_again(tmp_path: Path) -> None:
    scored().save(tmp_path / "one.parquet")
    moved = Reference(replace(SCORER, model="/elsewhere/tiny"))
    assert moved.read(tmp_path / "one.parquet") == 4 and not moved.missing(ROWS)
    moved.save(tmp_path / "two.parquet")
    assert pq.read_table(tmp_path / "two.parquet").num_rows == 4


@given(st.data())
def test_rows_have_one_key_each(data: st.DataObject) -> None:
    def rows(draw: st.DrawFn) -> Row:
        tokens = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
        places = draw(st.sets(st.integers(1, max(1, len(tokens) - 1)))) if len(tokens) > 1 else set()
        return Row(tuple(tokens), tuple(sorted(places)))

    one, other = data.draw(st.composite(rows)()), data.draw(st.composite(rows)())
    known = Reference(SCORER)
    assert (known.key(one) == known.key(other)) == (one == other)


def test_only_what_is_missing_is_added(tmp_path: Path) -> None:
    """Truncating one row leaves the others' values; what is known stays as it was."""
    scored().save(tmp_path / "one.parquet")
    known = Reference(SCORER)
    known.read(tmp_path / "one.parquet")
    cut = Row((5, 6, 7), (2,))
    assert known.missing([cut, *ROWS]) == [0]
    known.add([cut, ROWS[0]], [[-9.0], [-9.0, -9.0]])
    assert known.values(cut).tolist() == [-9.0] and known.values(ROWS[0])[1] == -2.5
    known.save(tmp_path / "two.parquet")
    assert len(known) == pq.read_metadata(tmp_path / "two.parquet").num_rows == 5


def test_a_kill_costs_minutes_not_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tmp_path / "parts"
    known = Reference(SCORER, parts)
    known.add(ROWS[:1], VALUES[:1])
    assert not parts.exists(), "two minutes have not passed"
    monkeypatch.setattr(module, "FLUSH_EVERY", -1.0)
    known.add(ROWS[1:2], VALUES[1:2])
    known.add(ROWS[2:3], VALUES[2:3])
    (parts / ".writing-part-0-000009.parquet").write_bytes(b"half")  # what a kill leaves of the next one
    again = Reference(SCORER, parts)
    assert again.missing(ROWS) == [3] and again.values(ROWS[1]).tolist() == known.values(ROWS[1]).tolist()
    monkeypatch.setattr(module, "FLUSH_EVERY", 1e9)
    again.add(ROWS[3:], VALUES[3:])
    again.save(tmp_path / "reference.parquet")
    assert pq.read_metadata(tmp_path / "reference.parquet").num_rows == 4
    assert [path.name for path in tmp_path.iterdir()] == ["reference.parquet"]


def test_log_probabilities_are_numbers() -> None:
    with pytest.raises(TrainError, match="no number"):
        Reference(SCORER).add(ROWS[:1], [[float("nan"), -1.0]])


def _columns(**changed: Any) -> dict[str, Any]:
    texts = {name: ["x"] for name in ("response_id", "group_id", "step", "prompt_id")}
    known = Reference(SCORER)
    full = {**texts, "scorer": [str(SCORER)], "kind": ["logprob"], "key": [known.key(ROWS[0])]}
    return {**full, "token_ids": [[7, 8]], "values": [[-0.1, -2.5]], **changed}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"values": [[float("nan"), 0.0]]}, "no numbers"),
        ({"values": [[None, 0.0]]}, "'values' has empty places"),
        ({"values": [None]}, "'values' has empty places"),
        ({"values": ["x"]}, "does not hold what its columns say"),
        ({"values": [[{"a": 1}]]}, "does not hold what its columns say"),
        ({"key": [None]}, "'key' has empty places"),
        ({"key": pa.array([b"\xff\xfe"])}, "does not hold what its columns say"),
        ({"scorer": [None]}, "'scorer' has empty places"),
        ({"token_ids": [[2**40]]}, "does not hold what its columns say"),
    ],
)
def test_a_strange_file_is_a_sentence(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    pq.write_table(pa.table(_columns(**changed)), tmp_path / "strange.parquet")
    with pytest.raises(TrainError, match=says):
        Reference(SCORER).read(tmp_path / "strange.parquet")


def test_a_file_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for blob, says in ((b"", "cannot be read as Parquet"), (b"PAR1junkPAR1", "cannot be read as Parquet")):
        path.write_bytes(blob)
        with pytest.raises(TrainError, match=says):
            Reference(SCORER).read(path)
    pq.write_table(pa.table({"prompt": ["x"]}), path)
    with pytest.raises(TrainError, match=r"has no column 'response_id'.*reference\.parquet"):
        Reference(SCORER).read(path)
    twice = pa.Table.from_arrays([pa.array(["k"])] * 2, names=["key", "key"])
    pq.write_table(twice, path)
    with pytest.raises(TrainError, match="Multiple matches"):
        Reference(SCORER).read(path)
    for missing in (tmp_path / "typo", tmp_path):
        with pytest.raises(TrainError, match="there is no file"):
            Reference(SCORER).read(missing)


def test_values_of_another_length_are_a_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table(_columns(values=[[-1.0]])), tmp_path / "short.parquet")
    known = Reference(SCORER)
    known.read(tmp_path / "short.parquet")
    with pytest.raises(TrainError, match="2 scored tokens has 1 reference"):
        known.values(ROWS[0])


def test_what_polars_wrote_again_is_read(tmp_path: Path) -> None:
    """A file that a user filtered: large lists and texts, one more column, several row groups."""
    import polars as pl

    scored().save(tmp_path / "one.parquet")
    frame = pl.read_parquet(tmp_path / "one.parquet").with_columns(mine=pl.lit(1)).filter(pl.col("response_id") != "r3")
    frame.write_parquet(tmp_path / "two.parquet", row_group_size=1)
    known = Reference(SCORER)
    assert known.read(tmp_path / "two.parquet") == 3 and known.missing(ROWS) == [3]
    assert known.values(ROWS[1]).tolist() == [np.float32(-0.1), -3.25]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder, byte_tokenizer())
    return folder


def test_weights_have_a_hash(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    first = weights_hash(tiny)
    assert weights_hash(copy) == weights_hash(str(copy)) == first and len(first) == 64
    file = copy / "model.safetensors"
    blob = bytearray(file.read_bytes())
    blob[-1] ^= 1  # one bit of one weight
    file.write_bytes(blob)
    assert weights_hash(copy) != first
    shutil.copy(tiny / "model.safetensors", file)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "0", "_name_or_path": "x"}))
    assert weights_hash(copy) == first, "who saved it does not matter"
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert weights_hash(copy) != first, "what is computed with does"
    (copy / "config.json").write_text("[1]")
    with pytest.raises(TrainError, match="no JSON object"):
        weights_hash(copy)
    with pytest.raises(TrainError, match="no weights in the safetensors format"):
        weights_hash(tmp_path)


def test_an_adapters_hash_has_its_bases_in_it(tiny: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=2, target_modules="all-linear"))
    adapted.save_pretrained(tmp_path / "adapter")
    found = weights_hash(tmp_path / "adapter")
    assert found not in (weights_hash(tiny), weights_hash(adapted))
    other = tmp_path / "base"
    shutil.copytree(tiny, other)
    settings = tmp_path / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(other)}))
    assert weights_hash(tmp_path / "adapter") == found, "where the base lies does not matter"
    blob = bytearray((other / "model.safetensors").read_bytes())
    (other / "model.safetensors").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    assert weights_hash(tmp_path / "adapter") != found
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(settings.parent)})
    )
    with pytest.raises(TrainError, match="no weights"):  # an adapter that is its own base ends, too
        weights_hash(tmp_path / "adapter")


def test_a_module_has_a_hash() -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    first = weights_hash(model)
    assert weights_hash(model) == first != weights_hash(model.float())
    with torch.no_grad():
        model.weight[0, 0] += 1
    assert weights_hash(model.to(torch.bfloat16)) != first


def test_a_tokenizer_has_a_hash() -> None:
    first = tokenizer_hash(byte_tokenizer())
    assert tokenizer_hash(byte_tokenizer()) == first
    other = byte_tokenizer()
    other.chat_template += " "
    assert tokenizer_hash(other) != first
    other = byte_tokenizer()
    other.add_tokens(["new"])
    assert tokenizer_hash(other) != first
