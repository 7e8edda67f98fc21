"""The kind `sentence-transformers`: on a tiny random encoder, and (marked `model`) on all-MiniLM-L6-v2."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_classifier import letters_tokenizer

from prefdata.engines import engine_from_config
from prefdata.engines.base import Request, RequestError
from prefdata.engines.embedder import EmbedderEngine
from prefdata.errors import EngineError

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer, whose last states are averaged."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("embedder")
    tokenizer = letters_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=40, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    return folder


def made(model: Path | str, **fields: Any) -> EmbedderEngine:
    engine = engine_from_config("eye", {"kind": "sentence-transformers", "model": str(model), **fields}, "test.yaml")
    assert isinstance(engine, EmbedderEngine)
    return engine


def ask_all(engine: EmbedderEngine, *texts: str) -> list[Any]:
    async def work() -> list[Any]:
        asked = [engine.ask(Request("embed", texts=(text,))) for text in texts]
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(work())


def dot(a: Any, b: Any) -> float:
    return math.sumprod(a.values, b.values) if hasattr(math, "sumprod") else sum(map(float.__mul__, a.values, b.values))


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(tiny: Path) -> None:
    engine = made(tiny)
    texts = ["abc", "a longer text", "zzz", "", "abc", "the quick brown fox jumps over"]
    together = ask_all(engine, *texts)
    apart = [ask_all(engine, text)[0] for text in texts]
    for a, b in zip(together, apart, strict=True):
        assert dot(a, a) == pytest.approx(1, abs=1e-6) and len(a.values) == 16
        assert a.values == pytest.approx(b.values, abs=1e-5)
    assert together[0].values == together[4].values != together[2].values
    assert [reply.prompt_tokens for reply in together[:2]] == [5, 15], "letters, and one token at either end"
    asyncio.run(engine.close())
    assert ask_all(engine, "abc")[0].values == pytest.approx(apart[0].values), "after closing it is loaded anew"


def test_a_long_text_is_cut_and_a_prompt_is_put_before(tiny: Path) -> None:
    long = ask_all(made(tiny), "a" * 100, "a" * 30)
    assert long[0].values == pytest.approx(long[1].values, abs=1e-6) and long[0].prompt_tokens == 32
    plain, prompted = made(tiny), made(tiny, prompt="query: ")
    assert ask_all(prompted, "abc")[0].values == pytest.approx(ask_all(plain, "query: abc")[0].values)
    assert plain.identity != prompted.identity


def test_the_identity_follows_weights_pooling_and_length_and_loads_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(EmbedderEngine, "_load", lambda self: pytest.fail("the model was loaded"))
    said = {made(tiny).identity}
    for name, change in (("a", "1_Pooling/config.json"), ("b", "sentence_bert_config.json"), ("c", "config.json")):
        folder = tmp_path / name / tiny.name
        shutil.copytree(tiny, folder)
        assert made(folder).identity == made(tiny).identity, "the place is no part of it"
        (folder / change).write_text(json.dumps({**json.loads((folder / change).read_text()), "new": 1}))
        said.add(made(folder).identity)
    assert len(said) == 4


def test_models_are_loaded_one_after_the_other(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers makes weights under settings of the whole process: of two at once, one lost its output layer."""
    real, now, most = EmbedderEngine._load, [0], [0]

    def load(self: EmbedderEngine) -> Any:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.05)
        try:
            return real(self)
        finally:
            now[0] -= 1

    monkeypatch.setattr(EmbedderEngine, "_load", load)
    engines = [made(tiny) for _ in range(3)]

    async def work() -> list[Any]:
        return await asyncio.gather(*(engine.ask(Request("embed", texts=("abc",))) for engine in engines))

    replies = asyncio.run(work())
    assert most == [1] and len({reply.values for reply in replies}) == 1


@pytest.mark.parametrize("texts", [(), ("a", "b")])
def test_more_or_less_than_one_text_is_refused(tiny: Path, texts: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="embed takes one text"):
        asyncio.run(made(tiny).ask(Request("embed", texts=texts)))


def test_foreign_code_and_pickles_are_refused(tiny: Path, tmp_path: Path) -> None:
    import shutil

    def with_module(name: str, **module: Any) -> EmbedderEngine:
        folder = tmp_path / name
        shutil.copytree(tiny, folder)
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        (folder / "2_Dense" / "another.safetensors").write_bytes(b"")
        modules.append({"idx": 2, "name": "2", **module})
        (folder / "modules.json").write_text(json.dumps(modules))
        return made(folder, identity="set by hand")

    for engine, said in (
        (with_module("code", path="", type="evil.Module"), "outside sentence-transformers"),
        (with_module("pickle", path="2_Dense", type="sentence_transformers.models.Dense"), "pickled weights only"),
        (with_module("nested", path="", type="sentence_transformers.models.Router"), "modules within modules"),
        (with_module("out", path="../..", type="sentence_transformers.models.Dense"), "outside the model's"),
    ):
        with pytest.raises(EngineError, match=said):
            asyncio.run(engine.ask(Request("embed", texts=("a",))))
    pickled = tmp_path / "bin"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(EngineError, match="never loaded"):
        _ = made(pickled).identity


def test_without_the_library_the_extra_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentence_transformers" else real(name)
    )
    with pytest.raises(EngineError, match=r'pip install "prefdata\[embeddings\]"'):
        asyncio.run(made(tiny).ask(Request("embed", texts=("a",))))


@pytest.mark.model
def test_minilm_knows_what_is_alike() -> None:
    from prefdata.engines.models import model_folder

    try:
        model_folder("all-minilm-l6-v2")
    except EngineError as error:
        pytest.skip(str(error))
    engine = made("all-minilm-l6-v2")
    cat, kitten, tax = ask_all(engine, "A cat sleeps.", "The kitten is asleep.", "The tax return is due in April.")
    assert dot(cat, kitten) > 0.5 > 0.2 > dot(cat, tax)
    assert "all-minilm-l6-v2@0b40d68aaba8" in engine.identity
