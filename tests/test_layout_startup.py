"""What `import prefdata` and the command line's help load: nothing that takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "transformers",
    "peft",
    "vllm",
    "sentence_transformers",
    "xllamacpp",
    "gradio",
    "ray",
    "duckdb",
    "altair",
    "vl_convert",
    "datasets",
    "openai",
    "aiohttp",
    "orjson",
]

COMMANDS = [
    *([], ["run"], ["plan"], ["show"], ["sql"], ["export"], ["train"], ["report"], ["import"]),
    *(["recipes"], ["recipes", "show"], ["models"], ["models", "fetch"], ["cache"], ["cache", "stats"]),
    *(["cache", "prune"], ["reparse"], ["serve"], ["compact"], ["erase"], ["verify"], ["losses"], ["losses", "show"]),
    *(["evaluate"], ["score"]),
    *(["ui"], ["tasks"], ["tasks", "create"], ["tasks", "fields"], ["tasks", "show"]),
    *(["people"], ["people", "add"], ["people", "invite"], ["people", "reset"]),
    *(["labels"], ["labels", "pull"], ["labels", "hours"], ["labels", "backup"]),
]

HELP = """
import contextlib, io, json, sys
from prefdata.cli.app import app
codes = []
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            app([*command, "--help"])
        except SystemExit as end:
            codes.append([end.code or 0, "Usage" in said.getvalue()])
"""


def loaded(program: str, *arguments: str) -> list[str]:
    """Which of HEAVY a fresh interpreter has loaded after a program."""
    program += "\nimport json as _j, sys as _s\nprint(_j.dumps(sorted({m.split('.')[0] for m in _s.modules})))"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    assert "prefdata" in modules
    return [name for name in HEAVY if name in modules]


def test_importing_prefdata_loads_nothing_heavy() -> None:
    assert loaded("import prefdata") == []


def test_importing_prefdata_loads_no_polars_either() -> None:
    """The trainer runs where only torch is installed, and `prefdata.train` is below `prefdata`."""
    program = "import sys, prefdata, prefdata.train\nassert not {'polars', 'pydantic', 'typer'} & set(sys.modules)"
    assert loaded(program) == []


def test_help_loads_nothing_heavy() -> None:
    program = "import sys\nsys.argv = ['prefdata', '--help']\nfrom prefdata.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    assert loaded(program) == []


def test_the_help_of_every_command_loads_nothing_heavy() -> None:
    program = HELP + f"\nassert codes == [[0, True]] * {len(COMMANDS)}, codes"
    assert loaded(program, json.dumps(COMMANDS)) == []


def test_every_command_is_listed_here_and_shows_an_example() -> None:
    import typer

    from prefdata.cli.app import app

    def walk(command: object, path: list[str]) -> dict[str, str]:
        found = {" ".join(path): getattr(command, "help", "") or ""}
        for name, child in getattr(command, "commands", {}).items():
            found |= walk(child, [*path, name])
        return found

    helps = walk(typer.main.get_command(app), [])
    assert sorted(helps) == sorted(" ".join(command) for command in COMMANDS)
    groups = {"", "losses", "models", "cache", "recipes", "tasks", "people", "labels"}
    assert [name for name, said in helps.items() if name not in groups and "Example: `prefdata " not in said] == []


@pytest.mark.parametrize("name", ["polars", "json"])
def test_what_is_loaded_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative control: without it a probe that sees nothing would pass."""
    monkeypatch.setitem(globals(), "HEAVY", [name])
    assert loaded("import prefdata.dataset") == [name]
