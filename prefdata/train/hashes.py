"""What a model and its tokenizer are, as a hash: equal numbers come out of what is equal, wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdata.train.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor, nn

_BLOCK = 1 << 26


def weights_hash(model: str | Path | nn.Module) -> str:
    """SHA-256 of a model's weights and configuration, as 64 hexadecimal characters.

    Args:
        model: a folder of safetensors files (an adapter's folder too: its base's hash is part of it), or a module, all
            of whose parameters and kept buffers are hashed. One model has another hash as a folder than as a module.

    Raises:
        TrainError: the folder has no safetensors file, or names a base that is no folder.
    """
    if isinstance(model, str | Path):
        return _folder_hash(Path(model), ())
    digest = hashlib.sha256(b"module")
    tensors = sorted(model.state_dict().items())
    with ThreadPoolExecutor() as pool:  # hashing leaves the other threads free
        for (name, tensor), found in zip(tensors, pool.map(_tensor_hash, (one for _, one in tensors)), strict=True):
            digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}:".encode() + found)
    digest.update(_configuration(getattr(getattr(model, "config", None), "to_dict", dict)()))
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer: its vocabulary and rules, special tokens, and chat template."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    rules = inner.to_str() if inner is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps([rules, special, template], sort_keys=True).encode()).hexdigest()


def _folder_hash(folder: Path, inside: tuple[Path, ...]) -> str:
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files or folder in inside:
        raise TrainError(
            f"{folder} has no weights in the safetensors format: save the model again with save_pretrained"
        )
    digest = hashlib.sha256(b"folder")
    for path in files:
        digest.update(f"{path.name}:{path.stat().st_size}:".encode() + _file_hash(path))
    for name in ("config.json", "adapter_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            fields = dict(fields)
            base = fields.pop("base_model_name_or_path", None) if name.startswith("adapter") else None
        except (TypeError, ValueError, RecursionError):
            raise TrainError(f"{path} is no JSON object: the model's folder is damaged") from None
        digest.update(f"{name}:".encode() + _configuration(fields))
        if base:
            digest.update(_folder_hash(Path(base), (*inside, folder)).encode())
    return digest.hexdigest()


def _configuration(fields: Mapping[str, Any]) -> bytes:
    """What of a configuration can change a number."""
    names = ("transformers_version", "_name_or_path", "peft_version", "use_cache")
    return json.dumps({key: fields[key] for key in fields if key not in names}, sort_keys=True, default=str).encode()


def _file_hash(path: Path) -> bytes:
    """Of all its bytes: blocks are hashed side by side, and then their hashes."""

    def block(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_BLOCK)).digest()

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(block, range(0, path.stat().st_size, _BLOCK)))).digest()


def _tensor_hash(tensor: Tensor) -> bytes:
    """Of its bytes, read as whole numbers: NumPy knows no bfloat16."""
    import torch

    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(kinds[tensor.element_size()]).numpy()
    return hashlib.sha256(memoryview(numbers)).digest()
