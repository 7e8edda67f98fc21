"""What a model folder holds, as a short hash: the same weights, tokenizer and template anywhere have the same one."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from prefdata.engines.models import RECORD, models_home
from prefdata.errors import EngineError

_SMALL_FILES = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    }
)
_NO_MATTER = ("transformers_version", "_name_or_path")
_READS, _BYTES = 4, 512


def is_fetched(folder: Path) -> bool:
    """Whether `prefdata models fetch` made a folder. A copy elsewhere may hold anything, whatever its record says."""
    return (folder / RECORD).is_file() and folder.absolute().parent.resolve() == models_home().resolve()


def weights_hash(folder: Path) -> str:
    """12 hexadecimal characters that name a model folder's weights, configuration, tokenizer and chat template.

    A fetched model is named by the checksum of the file that it was made from. Of any other, the small files are read
    whole, and of the weights the header and four places in every tensor: training moves all of them, and 500 MB need
    not be read to start a run.

    Raises:
        EngineError: the folder has no safetensors files (pickled weights are never loaded), or a damaged one.
    """
    if is_fetched(folder):
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["sha256"])[:12]
    files = sorted(path for path in folder.iterdir() if path.name in _SMALL_FILES or path.suffix == ".safetensors")
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(
            f"{folder} has no weights in the safetensors format; pickled weights (.bin, .pt) can run code and are "
            "never loaded. Save the model again with save_pretrained"
        )
    stamps = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash(folder, stamps)


@lru_cache(maxsize=64)
def _hash(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = blake2b(digest_size=6)
    for name, size, _ in stamps:
        path = folder / name
        if path.suffix == ".safetensors":
            digest.update(f"{name}:{size}:".encode())
            with path.open("rb") as file:
                digest.update(_sampled(file, path, size))
        elif name in ("config.json", "generation_config.json"):
            fields = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in fields.items() if key not in _NO_MATTER}
            digest.update(f"{name}:{json.dumps(kept, sort_keys=True)}:".encode())
        else:
            digest.update(f"{name}:".encode() + path.read_bytes())
    return digest.hexdigest()


def _sampled(file: BinaryIO, path: Path, size: int) -> bytes:
    """The header of a safetensors file (its length in 8 bytes, then JSON) and four places in each tensor."""
    length = int.from_bytes(file.read(8), "little")
    if length > size:
        raise EngineError(f"{path} is no safetensors file, or only a part of one")
    header = file.read(length)
    try:
        tensors = json.loads(header)
        spans = [entry["data_offsets"] for name, entry in sorted(tensors.items()) if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineError(f"{path} is no safetensors file: its header cannot be read") from None
    parts = [json.dumps({name: tensors[name] for name in sorted(tensors) if name != "__metadata__"}).encode()]
    for begin, end in spans:
        for place in range(_READS):
            file.seek(8 + length + begin + (end - begin) * place // _READS)
            parts.append(file.read(min(_BYTES, end - begin)))
    return b"".join(parts)
