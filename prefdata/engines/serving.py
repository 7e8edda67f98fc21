"""A light OpenAI-compatible server for one GGUF file, on llama.cpp (the package xllamacpp), in this process.

It writes, follows a JSON schema, and gives the likeliest next tokens. It gives no log-probabilities of a prompt, so the
kind `openai` cannot score a continuation with it. Its arithmetic is quantized: its greedy texts are not those of the
kind `transformers`.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.engines.fetching import Say, fetch_gguf
from prefdata.engines.models import KNOWN
from prefdata.errors import EngineError

_MAGIC = b"GGUF"
_HEADER = 64 << 20
"""Bytes at the start of a file that its metadata, vocabulary included, have room in."""
_PLAIN = "{% for one in messages %}{{ one['content'] }}{% if not loop.last %}\n\n{% endif %}{% endfor %}"
"""For a base model, whose file has no chat template: the contents alone, as the kind `transformers` joins them. The
template that llama.cpp would take instead has marks that such a model never saw."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server. It ends when the object is closed or forgotten.

    Attributes:
        url: for `base_url`, ending in /v1.
        model: what it calls the model.
    """

    url: str
    model: str
    _held: list[Any]

    def close(self) -> None:
        """Stop it; requests in flight are broken off."""
        self._held.clear()


def gguf_of(model: str, say: Say = print) -> tuple[Path, str]:
    """The file and the name of a model: a known name, or a GGUF file.

    Raises:
        EngineError: it is neither, or no GGUF file.
    """
    if model.lower() in KNOWN:
        return fetch_gguf(model, say), model.lower()
    path = Path(model).expanduser()
    if not path.is_file():
        served = ", ".join(one.name for one in KNOWN.values() if one.gguf)
        raise EngineError(f"there is no model {model!r} to serve: neither a GGUF file nor one of {served}")
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise EngineError(f"{path} is no GGUF file; a folder of safetensors is served by `vllm serve`")
    return path, path.stem


def serve(
    file: Path,
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    parallel: int = 8,
    context: int = 4096,
    threads: int | None = None,
) -> Served:
    """Start a server and return when it answers.

    Args:
        file: GGUF.
        name: what it calls the model.
        host: the address it listens at. Nothing checks who asks.
        port: 0 for any that is free.
        parallel: requests that are answered at once; more wait.
        context: tokens of prompt and answer that each of them has.
        threads: of the CPU; None for one each core.

    Raises:
        EngineError: no xllamacpp, a port that is taken, or a file that llama.cpp cannot load.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise EngineError('serving needs xllamacpp; install it with: pip install "prefdata[serve]"')
    _check_free(host, port)
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = str(file)
    asked.model_alias = {name}
    asked.hostnames, asked.port = [host], port
    asked.n_parallel, asked.n_ctx = parallel, context * parallel
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads or os.cpu_count() or 1
    asked.verbosity = -1
    if not _has_template(file):
        asked.chat_template = _PLAIN
    asked.offline = True
    # A page that somebody reads in a browser here may not see what others asked, nor (as long as its name does not come
    # to mean this address) an answer. That it asks, llama.cpp cannot deny: it looks at neither Origin nor Host.
    asked.ui = asked.endpoint_slots = asked.cors_credentials = False
    asked.cors_origins, asked.cors_origins_explicit = f"http://{host}:{port}", True
    try:
        server = xllamacpp.Server(asked)
    except Exception as error:  # llama.cpp has one kind for everything
        raise EngineError(f"llama.cpp could not serve {file}: {error}") from error
    return Served(f"{server.listening_address}/v1", name, [server])


def _has_template(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"tokenizer.chat_template" in opened.read(_HEADER)


def _check_free(host: str, port: int) -> None:
    """A port that is taken is a sentence now, and not an error of llama.cpp after the model was loaded."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EngineError(
                f"cannot listen at {host}:{port} ({error.strerror}); stop what listens there, or choose another --port"
            ) from error
