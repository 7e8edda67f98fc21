"""Which steps there are: `@step` registers them, entry points and a pipeline's `plugins:` bring them in."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from prefdata.errors import PipelineError, PrefdataError
from prefdata.pipeline.step import Step

STEPS: dict[str, type[Step]] = {}
"""Every step that is known, by kind."""

_StepType = TypeVar("_StepType", bound=type[Step])
_loaded: list[ModuleType] = []
_contents: dict[str, str] = {}
"""The hash of each plugin file as it was imported, by module name."""


def step(kind: str, *, version: int = 1) -> Callable[[_StepType], _StepType]:
    """Register a step class under the name it has in YAML.

    Args:
        kind: for example `judge.compare`.
        version: raise it when the same fields make other rows.

    Raises:
        PipelineError: another class has that name.
    """

    def register(cls: _StepType) -> _StepType:
        known = STEPS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise PipelineError(f"two steps are called {kind!r}: {known.__module__} and {cls.__module__}")
        cls.kind, cls.version = kind, version
        STEPS[kind] = cls
        return cls

    return register


def load_plugins() -> list[ModuleType]:
    """Import the core's operators and every installed plugin (entry points of the group `prefdata.plugins`), once."""
    if not _loaded:
        importlib.import_module("prefdata.operators")
        _loaded.extend(point.load() for point in sorted(entry_points(group="prefdata.plugins"), key=lambda p: p.name))
    return _loaded


def load_file(path: Path) -> ModuleType:
    """Import a user's own Python file, once for each path and content: a notebook sees what was edited.

    Raises:
        PipelineError: there is no such file, or importing it fails.
    """
    if not path.is_file():
        raise PipelineError(f"plugins: there is no file {path}")
    name = f"prefdata_plugin_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}"
    content = hashlib.blake2b(path.read_bytes()).hexdigest()
    if name in sys.modules and _contents.get(name) == content:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"plugins: {path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _contents[name] = content
    try:
        spec.loader.exec_module(module)
    except PrefdataError as error:
        del sys.modules[name]
        raise PipelineError(f"plugins: {path}: {error}") from error
    except Exception as error:
        del sys.modules[name]
        raise PipelineError(f"plugins: {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def plugin_file(module: str) -> Path | None:
    """The file of a module that a pipeline named under `plugins:`; None for any other module."""
    return Path(str(sys.modules[module].__file__)) if module in _contents else None


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` or nothing, for an error message."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
