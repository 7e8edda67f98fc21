"""The file that names an arena's engines: a YAML file with `engines:`, which may be a pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefdata.engines import Engine, engine_from_config
from prefdata.errors import DataError, PipelineError
from prefdata.pipeline.registry import load_file, load_plugins
from prefdata.pipeline.spec import expand, find_file


class Settings(BaseModel):
    """What `arena:` in the file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(0.7, ge=0, description="0 is greedy: equal prompts then get equal answers.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus of the distribution that is drawn from.")
    max_tokens: int = Field(1024, ge=1, description="At most so many tokens in an answer.")
    an_hour: int = Field(60, ge=1, description="Battles that a person may start in an hour.")
    patience: float = Field(600.0, gt=0, description="Seconds that an answer may take, all attempts together.")
    expire: float = Field(3600.0, gt=0, description="Seconds after which a battle can no longer be voted on.")


def read(path: Path) -> tuple[dict[str, Engine], Settings]:
    """The engines in a file, made but not loaded, and how they are to be used.

    Of the environment only the variables are needed that an engine's fields name.

    Raises:
        DataError: the file cannot be read, names no engines, or `arena:` is not what it should be.
        PipelineError: an engine is not what it should be. No message repeats a value, which may be a secret.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise DataError(
            f"{path}{line}: this is not YAML: {getattr(error, 'problem', None) or 'it cannot be read'}"
        ) from None
    engines = document.get("engines") if isinstance(document, dict) else None
    if not isinstance(engines, dict) or not engines:
        raise DataError(f"{path} has no engines; write them as in a pipeline: engines: {{name: {{kind: ...}}}}")
    load_plugins()
    for plugin in document.get("plugins") or []:
        load_file(find_file(str(plugin), path.parent) or path.parent / str(plugin))
    made: dict[str, Engine] = {}
    for name, fields in engines.items():
        where = f"{path}, engine {str(name)!r}"
        if not isinstance(fields, dict):
            raise PipelineError(f"{where}: it is written {name}: {{kind: ..., key: value}}")
        made[str(name)] = engine_from_config(str(name), _expanded(fields, where), where)
    return made, _settings(path, document.get("arena"))


def _expanded(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _expanded(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, where) for inner in value]
    return expand(value, where) if isinstance(value, str) and "${" in value else value


def _settings(path: Path, given: Any) -> Settings:
    if given is not None and not isinstance(given, dict):
        raise DataError(f"{path}: arena is a mapping with the keys {', '.join(Settings.model_fields)}")
    try:
        return Settings(**(given or {}))
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("arena",), "msg": str(error)}
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}, arena: {key}: {first['msg']} (known: {', '.join(Settings.model_fields)})") from None
