"""A pipeline as it is written: YAML with line numbers, environment variables, `--set`, and errors that say where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prefdata.errors import PipelineError
from prefdata.pipeline.recipe import Recipe, header_of, recipe_of
from prefdata.pipeline.registry import STEPS, load_file, load_plugins, nearest
from prefdata.pipeline.step import Step, narrowed

_KEYS = ("description", "recipe", "plugins", "engines", "steps")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
SPECIAL_SOURCES = {"imports": "import", "labels": "labels"}
"""What `from:` may name beside steps (rows of `prefdata import`, human labels), and the kind the log gives them."""


class UnsetError(PipelineError):
    """An environment variable that a pipeline names is not set."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, read and checked.

    Attributes:
        name: its file's stem, unless told otherwise.
        steps: in order; every one has a name.
        engines: configuration by name, not yet made.
        source: the text, as it was written.
        folder: where the file stands; relative paths are looked up in the working folder, then here.
        file: what messages call it.
        lines: the line of each step, by name.
        engine_lines: the line of each engine, by name.
        description: what it says of itself.
        recipe: whose method it follows and what it needs, where it says so.
    """

    name: str
    steps: tuple[Step, ...]
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""
    folder: Path = Path()
    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    engine_lines: Mapping[str, int] = field(default_factory=dict)
    description: str = ""
    recipe: Recipe | None = None

    def where(self, step: Step) -> str:
        """A step's place, for a message."""
        return f"{self.file}{_line(self.lines.get(str(step.name)))}, step {step.name!r}"

    def where_engine(self, name: str) -> str:
        """An engine's place, for a message."""
        return f"{self.file}{_line(self.engine_lines.get(name))}, engine {name!r}"


def _line(number: int | None) -> str:
    return f", line {number}" if number else ""


def recipes() -> dict[str, Path]:
    """Every pipeline that an installed plugin brings, by name."""
    found: dict[str, Path] = {}
    for module in load_plugins():
        folder = getattr(module, "RECIPES", None)
        if folder is not None:
            found.update({path.stem: path for path in sorted(Path(folder).glob("*.yaml"))})
    return found


def load(pipeline: str | Path, *, name: str | None = None, sets: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file, or a recipe by its name.

    Args:
        pipeline: a YAML file, or the name of a recipe.
        name: run it under this name instead of the file's stem (`--as`).
        sets: `step.key=value` or `engines.name.key=value`; the value is YAML.

    Raises:
        PipelineError: a sentence with file, line, step and key.
    """
    path = Path(pipeline)
    if not path.is_file():
        known = recipes()
        if str(pipeline) not in known:
            raise PipelineError(
                f"there is no file and no recipe {str(pipeline)!r}{nearest(str(pipeline), known)} "
                f"(`prefdata recipes` lists them)"
            )
        path = known[str(pipeline)]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} cannot be read as text: {error}") from error
    try:
        return parse(text, file=str(path), folder=path.parent, name=name or path.stem, sets=sets)
    except UnsetError as error:
        recipe, _ = header_of(path)
        if recipe is None or not recipe.needs:
            raise
        raise PipelineError(f"{error}\n{path.stem} needs: {'; '.join(recipe.needs)}") from error


def parse(text: str, *, file: str, folder: Path, name: str, sets: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline from text; see `load`."""
    reader = _Reader(file, folder)
    document = reader.document(text)
    load_plugins()
    plugins = document.get("plugins") or []
    if not isinstance(plugins, list):
        raise PipelineError(f"{file}{reader.at('plugins')}: plugins is a list of Python files")
    for number, plugin in enumerate(plugins):
        try:
            load_file(find_file(str(plugin), folder) or folder / str(plugin))
        except PipelineError as error:
            raise PipelineError(f"{file}{reader.at('plugins', number)}: {error}") from error
    given = document.get("recipe")
    recipe = None if given is None else recipe_of(given, lambda *keys: f"{file}{reader.at('recipe', *keys)}")
    entries = reader.entries(document)
    engines = reader.engines(document)
    for assignment in sets:
        _assign(assignment, entries, engines)
    steps = tuple(reader.step(entry) for entry in entries)
    made = Pipeline(
        name=name,
        steps=steps,
        engines=engines,
        source=text,
        folder=folder,
        file=file,
        lines={entry.name: entry.line for entry in entries},
        engine_lines={engine: reader.lines[("engines", engine)] for engine in engines},
        description=str(document.get("description") or ""),
        recipe=recipe,
    )
    _check_references(made)
    return made


def find_file(path: str, folder: Path) -> Path | None:
    """A path as a user means it: from the working folder, else from the pipeline's; `sample:` is our own data."""
    if path.startswith("sample:"):
        from importlib.resources import files

        found = Path(str(files("prefdata.sample_data"))) / path.removeprefix("sample:")
        return found if found.exists() else None
    for candidate in (Path(path).expanduser(), folder / path):
        if candidate.exists():
            return candidate
    return None


@dataclass
class _Entry:
    kind: str
    fields: dict[str, Any]
    line: int
    lines: dict[str, int]

    @property
    def name(self) -> str:
        return str(self.fields.get("name") or self.kind)


class _Reader:
    """Turns YAML nodes into values and remembers on which line each key stood."""

    def __init__(self, file: str, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.lines: dict[tuple[object, ...], int] = {}

    def at(self, *path: object) -> str:
        return _line(self.lines.get(path))

    def document(self, text: str) -> dict[str, Any]:
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error)
            raise PipelineError(f"{self.file}{line}: this is not YAML: {problem}") from error
        value = self._value(node, ()) if node is not None else {}
        if not isinstance(value, dict):
            raise PipelineError(f"{self.file}: a pipeline is a mapping with the keys {', '.join(_KEYS)}")
        for key in value:
            if key not in _KEYS:
                raise PipelineError(f"{self.file}{self.at(key)}: unknown key {key!r}{nearest(str(key), _KEYS)}")
        if not value.get("steps"):
            raise PipelineError(f"{self.file}: it has no steps")
        return value

    def _value(self, node: yaml.Node, path: tuple[object, ...]) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            made: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                if key in made:
                    raise PipelineError(f"{self.file}, line {key_node.start_mark.line + 1}: {key!r} stands there twice")
                self.lines[(*path, key)] = key_node.start_mark.line + 1
                made[key] = self._value(value_node, (*path, key))
            return made
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, number)) for number, child in enumerate(node.value)]
        if "${" in str(node.value):
            line = node.start_mark.line + 1
            return expand(str(node.value), f"{self.file}, line {line}")
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            raise PipelineError(f"{self.file}, line {node.start_mark.line + 1}: {error}") from error
        finally:
            loader.dispose()

    def engines(self, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
        engines = document.get("engines") or {}
        if not isinstance(engines, dict):
            raise PipelineError(f"{self.file}{self.at('engines')}: engines is a mapping of name to configuration")
        for name, fields in engines.items():
            if not isinstance(fields, dict):
                where = f"{self.file}{self.at('engines', name)}, engine {name!r}"
                raise PipelineError(f"{where}: it is written {name}: {{kind: ..., key: value}}; this is {fields!r}")
        return engines

    def entries(self, document: dict[str, Any]) -> list[_Entry]:
        steps = document["steps"]
        if not isinstance(steps, list):
            raise PipelineError(f"{self.file}{self.at('steps')}: steps is a list")
        made: list[_Entry] = []
        for number, value in enumerate(steps):
            where = f"{self.file}{self.at('steps', number)}"
            if isinstance(value, str):
                value = {value: {}}
            if not isinstance(value, dict) or len(value) != 1:
                raise PipelineError(f"{where}: a step is written `- kind: {{key: value}}`; this is {value!r}")
            kind, fields = next(iter(value.items()))
            fields = {} if fields is None else fields
            if kind not in STEPS:
                raise PipelineError(f"{where}: there is no step {kind!r}{nearest(kind, STEPS)}")
            if not isinstance(fields, dict):
                raise PipelineError(f"{where}, step {kind!r}: its keys are written {{key: value}}; this is {fields!r}")
            lines = {str(key): self.lines.get(("steps", number, kind, key), 0) for key in fields}
            made.append(_Entry(kind, dict(fields), self.lines[("steps", number)], lines))
        seen: dict[str, int] = {}
        for entry in made:
            if entry.name in seen:
                raise PipelineError(
                    f"{self.file}: the steps on lines {seen[entry.name]} and {entry.line} are both called "
                    f"{entry.name!r}; give one of them another `name:`"
                )
            if "@" in entry.name or entry.name in SPECIAL_SOURCES:
                raise PipelineError(f"{self.file}, line {entry.line}: a step cannot be called {entry.name!r}")
            seen[entry.name] = entry.line
        return made

    def step(self, entry: _Entry) -> Step:
        cls = STEPS[entry.kind]
        try:
            return cls.model_validate({**entry.fields, "name": entry.name}, context={"folder": self.folder})
        except ValidationError as error:
            problem = error.errors()[0]
            key = str(problem["loc"][0]) if problem["loc"] else ""
            line = entry.lines.get(key) or entry.line
            where = f"{self.file}, line {line}, step {entry.name!r}"
            path, nested = ".".join(str(part) for part in problem["loc"]), len(problem["loc"]) > 1
            if problem["type"] == "extra_forbidden":
                known = [info.alias or name for name, info in cls.model_fields.items()]
                hint = nearest(key, known) or f"; it knows {', '.join(sorted(known))}"
                hint = f": {key} has no such entry" if nested else hint
                raise PipelineError(f"{where}: unknown key {path!r}{hint}") from error
            if problem["type"] == "missing":
                raise PipelineError(f"{where}: the key {path!r} is missing") from error
            shown = "" if not path else f" key {path!r} is {problem['input']!r}:"
            said = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
            if problem["type"] == "literal_error":
                said += nearest(str(problem["input"]), re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
            raise PipelineError(f"{where}:{shown} {said}") from error


def expand(text: str, where: str) -> str:
    """Put environment variables in place of `${NAME}` and `${NAME:-default}`.

    As in a shell, a variable that is set to nothing counts as not set where there is a default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        found = default if found == "" and default is not None else found
        if found is None:
            raise UnsetError(
                f"{where}: the environment variable {name} is not set: set it (export {name}=...), or write a default "
                f"into a copy: ${{{name}:-...}}"
            )
        return found

    return _VARIABLE.sub(value, text)


def _assign(assignment: str, entries: list[_Entry], engines: dict[str, dict[str, Any]]) -> None:
    path, equals, text = assignment.partition("=")
    if not equals or "." not in path:
        raise PipelineError(f"--set {assignment}: it is written step.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise PipelineError(f"--set {assignment}: the value is not YAML: {problem}") from error
    if path.startswith("engines."):
        _assign_to_engine(assignment, path.split(".")[1:], value, engines)
        return
    names = {entry.name: entry for entry in entries}
    for entry_name in sorted(names, key=len, reverse=True):  # names may hold dots: judge.compare.card=...
        if path.startswith(f"{entry_name}."):
            names[entry_name].fields[path.removeprefix(f"{entry_name}.")] = value
            return
    name = path.rpartition(".")[0]
    raise PipelineError(f"--set {assignment}: there is no step {name!r}{nearest(name, names)}")


def _assign_to_engine(assignment: str, keys: list[str], value: object, engines: dict[str, dict[str, Any]]) -> None:
    if len(keys) < 2 or not all(keys):
        raise PipelineError(f"--set {assignment}: for an engine it is written engines.NAME.key=value")
    name, *keys, last = keys
    if name not in engines:
        raise PipelineError(f"--set {assignment}: there is no engine {name!r}{nearest(name, engines)}")
    target = engines[name]
    for key in keys:
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise PipelineError(f"--set {assignment}: {key!r} of engine {name!r} is {inner!r}, which has no keys")
        target = inner
    target[last] = value


def _check_references(pipeline: Pipeline) -> None:
    """`from:` names earlier steps that make what it narrows; engine fields name engines."""
    earlier: dict[str, Step] = {}
    for step in pipeline.steps:
        if step.from_ and step.narrows is None:
            raise PipelineError(f"{pipeline.where(step)}: {step.kind} reads everything; it takes no `from`")
        for source in step.from_:
            if "/" not in source and source not in SPECIAL_SOURCES:
                _check_source(pipeline, step, source, earlier)
        for name in engine_names(step):
            if name not in pipeline.engines:
                hint = nearest(name, pipeline.engines) or "; add it under `engines:`"
                raise PipelineError(f"{pipeline.where(step)}: there is no engine {name!r}{hint}")
        earlier[str(step.name)] = step


def _check_source(pipeline: Pipeline, step: Step, source: str, earlier: Mapping[str, Step]) -> None:
    where = f"{pipeline.where(step)}: from names {source!r}"
    if source in pipeline.lines and source not in earlier:
        raise PipelineError(f"{where}, which comes only on line {pipeline.lines[source]}; a step reads earlier ones")
    if source not in earlier:
        raise PipelineError(f"{where}, which is no earlier step{nearest(source, earlier)}")
    if not earlier[source].writes & step.inputs() & narrowed(step):
        able = [name for name, other in earlier.items() if other.writes & step.inputs() & narrowed(step)]
        hint = f" ({', '.join(able)} could be named)" if able else ""
        raise PipelineError(f"{where}, which makes no {step.narrows} that {step.kind} reads{hint}")


def engine_names(step: Step) -> list[str]:
    """The engines that a step's fields name."""
    found: list[str] = []
    for key in step.engine_fields:
        value = getattr(step, key)
        found.extend([value] if isinstance(value, str) else list(value or ()))
    return found
