"""The house in order: who imports whom, what nobody reads, what is installed, and words that have no place here."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS = [
    *(
        "errors",
        "schema",
        "render",
        "framing",
        "dataset",
        "stats",
        "similarity",
        "lm",
        "engines",
        "pipeline",
        "cards",
        "formats",
        "operators",
        "report",
    ),
    *("api", "train", "evaluate", "cli"),
]
"""The core from the ground floor up: a module imports what stands before it here, or beside it in its own package."""

PLUGINS = {"annotators": ROOT / "annotators", "ui": ROOT / "ui", "pipelines": ROOT / "pipelines"}
"""They stand on the core, are found by entry points, and know nothing of one another."""

DATA = "sample_data"
"""Files and no code: whoever likes may read them."""

UPWARD = {
    ("prefdata/__init__.py", "api"),
    ("prefdata/__init__.py", "dataset"),
    ("prefdata/__init__.py", "pipeline"),
    ("prefdata/__init__.py", "train"),
    ("prefdata/pipeline/registry.py", "operators"),
    ("prefdata/operators/report.py", "report"),
}
"""Imports that go upward, each for a reason, and none while its module is imported: the names that `import prefdata`
offers, the registry that loads the core's own steps as it loads a plugin's, and the step whose work is a report."""

BARE = {"torch", "transformers", "peft", "numpy", "pyarrow", "safetensors"}
"""What a GPU machine has, and all that `lm` and `train` import."""

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "vllm",
    "gradio",
    "ray",
    "duckdb",
    "altair",
    "vl_convert",
    "datasets",
    "openai",
    "aiohttp",
    "orjson",
    "sqlalchemy",
    "fastapi",
    "argon2",
}
"""Imported inside the functions that use them, so that the command line answers at once."""

TORCH = {"prefdata/lm/head.py", "prefdata/lm/model.py"}
"""They hold classes of torch's, and are imported inside functions themselves."""

COMES_WITH = {
    "huggingface_hub": "transformers",
    "jinja2": "torch",
    "referencing": "jsonschema",
    "safetensors": "transformers",
    "starlette": "fastapi",
}
"""Imported modules that are no requirement of ours but of the one that is named."""

DISTRIBUTIONS = {
    "argon2": "argon2-cffi",
    "markdown_it": "markdown-it-py",
    "mdit_py_plugins": "mdit-py-plugins",
    "sentence_transformers": "sentence-transformers",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Import:
    """One module that a file imports.

    Attributes:
        module: its full name; for `from a import b` it is `a.b` where that is a module.
        line: where.
        lazy: not while the file itself is imported: within a function, or for type checkers only.
        level: dots of a relative import.
    """

    module: str
    line: int
    lazy: bool
    level: int = 0


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def home(module: str) -> Path:
    """The file or folder of a module of ours, by its installed name."""
    parts = module.split(".")[1:]
    if parts and (parts[0] in PLUGINS or parts[0] == DATA):
        return ROOT.joinpath(*parts)
    return ROOT.joinpath("prefdata", *parts)


def is_module(name: str) -> bool:
    path = home(name)
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(source: str, path: Path) -> Iterator[Import]:
    """Everything that a file imports, also by `import_module` with a name that stands there."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inside = True
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield from imported_from(child, inside)
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith("import_module"):
                for argument in child.args:
                    if isinstance(argument, ast.Constant):
                        yield Import(str(argument.value), child.lineno, inside)
            yield from walk(child, inside)

    def imported_from(node: ast.ImportFrom, lazy: bool) -> Iterator[Import]:
        name = node.module or ""
        for alias in node.names:
            full = f"{name}.{alias.name}"
            ours = not node.level and name.split(".")[0] == "prefdata"
            yield Import(full if ours and is_module(full) else name, node.lineno, lazy, node.level)

    yield from walk(ast.parse(source, str(path)), lazy=False)


def upward(source: str, path: Path) -> Iterator[tuple[Import, str]]:
    """The imports of a core file that do not point downward, with the floor that they reach."""
    parts = path.relative_to(ROOT / "prefdata").parts
    own = "" if parts == ("__init__.py",) else parts[0].removesuffix(".py")
    for found in imports(source, path):
        names = found.module.split(".")
        if names[0] != "prefdata" or len(names) == 1 or names[1] in (own, DATA):
            continue
        if own == "" or names[1] not in FLOORS or FLOORS.index(names[1]) > FLOORS.index(own):
            yield found, names[1]


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


# Who imports whom


def test_every_module_of_the_core_has_its_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "prefdata").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "prefdata").glob("*.py")} - {"__init__"}
    assert packages | modules == set(FLOORS)


def test_imports_point_downward() -> None:
    wrong, met = [], set()
    for path in python_files("prefdata"):
        for found, floor in upward(path.read_text(encoding="utf-8"), path):
            exception = (str(path.relative_to(ROOT)), floor)
            met.add(exception)
            if exception not in UPWARD or not found.lazy:
                wrong.append(f"{where(path, found.line)} imports {found.module}")
    assert wrong == []
    assert met == UPWARD, "an exception that nothing needs any more"


@pytest.mark.parametrize(
    ("file", "source", "floors"),
    [
        ("stats/agreement.py", "import prefdata.pipeline.run", ["pipeline"]),
        ("dataset/log.py", "def f():\n    from prefdata import operators", ["operators"]),
        ("engines/base.py", "from prefdata.annotators import Card", ["annotators"]),
        ("engines/base.py", "import_module('prefdata.ui')", ["ui"]),
        ("formats/lists.py", "from prefdata.pipeline.registry import nearest\nfrom prefdata import schema", []),
        ("dataset/log.py", "from prefdata.dataset.parts import scan", []),
    ],
)
def test_what_points_upward_is_found(file: str, source: str, floors: list[str]) -> None:
    assert [floor for _, floor in upward(source, ROOT / "prefdata" / file)] == floors


def test_the_trainer_needs_only_what_a_gpu_machine_has() -> None:
    allowed = BARE | set(sys.stdlib_module_names)
    wrong = []
    for path in python_files("prefdata/lm", "prefdata/train"):
        for found in imports(path.read_text(encoding="utf-8"), path):
            # stats needs numpy alone, and curation shares what a loss computes there.
            ours = found.module.split(".")[:2] in (["prefdata", "lm"], ["prefdata", "stats"], ["prefdata", "train"])
            if not ours and (found.level or found.module.split(".")[0] not in allowed):
                wrong.append(f"{where(path, found.line)} imports {found.module}")
    assert wrong == []


def test_plugins_know_the_core_and_themselves() -> None:
    wrong = []
    for name, folder in PLUGINS.items():
        for path in sorted(folder.rglob("*.py")):
            depth = len(path.relative_to(folder).parts)
            for found in imports(path.read_text(encoding="utf-8"), path):
                names = found.module.split(".")
                absolute = not found.level and names[0] == "prefdata" and len(names) > 1
                if found.level > depth or (absolute and names[1] in PLUGINS):
                    wrong.append(
                        f"{where(path, found.line)} imports {found.module or '.'} (siblings: `from .x import`)"
                    )
                if absolute and names[1] == "cli":
                    wrong.append(f"{where(path, found.line)}: the plugin {name} stands below the command line")
    assert wrong == []


def test_nobody_imports_a_plugin_by_its_bare_name() -> None:
    """`import annotators` works in the checkout, and makes every class a second time."""
    wrong = [
        f"{where(path, found.line)} imports {found.module}"
        for path in python_files("prefdata", "annotators", "ui", "pipelines", "tests", "docs", "benchmarks")
        for found in imports(path.read_text(encoding="utf-8"), path)
        if not found.level and found.module.split(".")[0] in {*PLUGINS, DATA}
    ]
    assert wrong == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    wrong = [
        f"{where(path, found.line)} imports {found.module}"
        for path in python_files("prefdata", "annotators", "pipelines")
        for found in imports(path.read_text(encoding="utf-8"), path)
        if found.module.split(".")[0] in HEAVY and not found.lazy and path.relative_to(ROOT).as_posix() not in TORCH
    ]
    assert wrong == []


def test_what_is_imported_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: set() for name in project["optional-dependencies"]}
    for name, listed in project["optional-dependencies"].items():
        extras[name] = {re.split(r"[\[<>=;\s]", line)[0].lower() for line in listed}
    core = {re.split(r"[\[<>=;\s]", line)[0].lower() for line in project["dependencies"]}
    users = core.union(*(names for name, names in extras.items() if name != "dev"))
    wrong = []
    for path in python_files("prefdata", "annotators", "ui", "pipelines"):
        for found in imports(path.read_text(encoding="utf-8"), path):
            name = found.module.split(".")[0]
            if found.level or name == "prefdata" or name in sys.stdlib_module_names:
                continue
            distribution = DISTRIBUTIONS.get(name, COMES_WITH.get(name, name))
            optional = found.lazy or path.is_relative_to(ROOT / "ui") or path.relative_to(ROOT).as_posix() in TORCH
            if distribution not in (users if optional else core):
                wrong.append(f"{where(path, found.line)} imports {name}")
    assert wrong == []


# What nobody reads


def reads_of_meta(source: str) -> list[int]:
    """The lines where the text "meta" stands for anything but a column that is written (a key, an item set)."""
    tree = ast.parse(source)
    written: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            written.update(id(key) for key in node.keys if key is not None)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            written.add(id(node.slice))
    found = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and node.value == "meta" and id(node) not in written)
        or (isinstance(node, ast.Attribute) and node.attr == "meta" and ast.unparse(node.value).endswith("col"))
    ]
    return sorted(found)


def test_no_operator_and_no_loss_reads_meta() -> None:
    """`meta` passes through: formats fill and write it, judges note facts for a human reader, and nothing reads it."""
    folders = (
        "prefdata/operators",
        "prefdata/stats",
        "prefdata/train",
        "prefdata/lm",
        "prefdata/engines",
        "annotators",
    )
    wrong = [
        where(path, line) for path in python_files(*folders) for line in reads_of_meta(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ('row["meta"]', True),
        ('row.get("meta")', True),
        ('rows.select(pl.col("meta"))', True),
        ("rows.select(pl.col.meta)", True),
        ('rows.select("response_id", "meta")', True),
        ('row["meta"] = "{}"', False),
        ('{"meta": "{}"}', False),
        ("annotation(meta=text)", False),
        ("expression.meta.root_names()", False),
    ],
)
def test_reading_meta_is_told_from_writing_it(source: str, reads: bool) -> None:
    assert bool(reads_of_meta(source)) is reads


PIPELINE = """
engines:
  writer: {kind: scripted, model: w}
  judge: {kind: scripted, model: j}
steps:
  - ingest: {path: prompts.jsonl}
  - sample: {engine: writer, n: 3, max_tokens: 30}
  - judge.score: {engine: judge}
  - judge.rules: {}
  - aggregate.bradley_terry: {}
  - select.where: {keep: "n_tokens > 2"}
  - pair: {}
  - split: {valid: 0.5}
"""


def test_what_is_made_does_not_depend_on_meta(tmp_path: Path) -> None:
    import polars as pl

    from prefdata import run
    from prefdata.dataset import Dataset

    made = []
    for name, meta in (("one", {"difficulty": 1}), ("two", {"difficulty": 9, "note": "ignore me"})):
        folder = tmp_path / name
        folder.mkdir()
        prompts = [{"prompt": f"Name {n} uses of a brick.", "meta": {**meta, "n": n}} for n in range(2, 6)]
        (folder / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in prompts), encoding="utf-8")
        (folder / "line.yaml").write_text(PIPELINE, encoding="utf-8")
        assert run(folder / "line.yaml", folder / "dataset").exit_code == 0
        dataset = Dataset(folder / "dataset")
        tables = {
            "annotations": dataset.annotations,
            "responses": dataset.responses,
            "preferences": dataset.preferences,
        }
        made.append(
            {
                table: rows.select(pl.exclude("created_at")).collect().sort(table.removesuffix("s") + "_id").to_dicts()
                for table, rows in tables.items()
            }
        )
    assert all(made[0].values())
    assert made[0] == made[1]


# Words and sizes

PLACES = (
    *("prefdata", "annotators", "ui", "pipelines", "sample_data", "tests", "docs", "benchmarks", ".ci"),
    *("Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "constraints.txt"),
)

FORBIDDEN = {
    r"(?<![\w.~-])/(?:root|home|Users|work|mnt|scratch)/\w": "a path of some machine",
    r"pypi\.org|pythonhosted|anaconda\.org|index-url|artifactory|ghcr\.io|docker\.io": "a registry's host",
    r"\b(?:this|previous|earlier|last|next|another|other|working|coding|agent) sessions?\b": "a session of work",
    r"\b(?:TODO|FIXME|XXX|HACK)\b": "something left undone",
}


def texts() -> Iterator[tuple[Path, str]]:
    """The files of the checkout that hold text; not this one, which has to name what it forbids."""
    for place in PLACES:
        start = ROOT / place
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(start).parts)
            if path.is_file() and not hidden and path != Path(__file__):
                try:
                    yield path, path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue  # a picture


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.values())
def test_words_that_have_no_place_here(pattern: str) -> None:
    wrong = [
        f"{where(path, number)}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert wrong == []


def test_modules_are_named_after_what_they_hold() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base_utils"}
    assert [path for path in python_files("prefdata", "annotators", "ui") if path.stem in empty] == []


def test_long_modules_and_functions_are_listed() -> None:
    """What is longer asks to be two. It is said (as a warning), and is nobody's failure."""
    long = []
    for path in python_files("prefdata", "annotators", "ui"):
        source = path.read_text(encoding="utf-8")
        lines = source.count("\n")
        if lines > 400:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    long.append(f"{where(path, node.lineno)} {node.name}: {length} lines")
    if long:
        warnings.warn("long: " + "; ".join(long), stacklevel=1)
