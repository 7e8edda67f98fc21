"""The documentation is true: reference pages are those of the code, links lead somewhere, and every block runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
PROMPTS = (
    "Why is the sky blue today?\nName three uses of a brick.\n\nName three uses of a brick.\nHow do I boil an egg?\n"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `file` is the name that its first line gives it as a comment."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return named[1] if named else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if found[1] in languages:
                yield Block(page.name, text[: found.start()].count("\n") + 1, found[1], found[2])


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_reference_pages_are_those_of_the_code() -> None:
    """In a process of its own: other tests register steps of theirs."""
    done = subprocess.run([sys.executable, DOCS / "reference.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    for name in ("reference.py", "columns.yaml", "steps.md", "tables.md", "extending.md", "examples/my_steps.py"):
        (tmp_path / name).write_text((DOCS / name).read_text(encoding="utf-8"), encoding="utf-8")
    steps = tmp_path / "steps.md"
    steps.write_text(steps.read_text(encoding="utf-8").replace("at least 1", "at least 2", 1), encoding="utf-8")
    command = [sys.executable, tmp_path / "reference.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "steps.md is out of date" in done.stdout
    assert "tables.md" not in done.stdout
    assert "extending.md" not in done.stdout


def test_a_column_without_a_meaning_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reference.py").write_text((DOCS / "reference.py").read_text(encoding="utf-8"), encoding="utf-8")
    columns = (DOCS / "columns.yaml").read_text(encoding="utf-8")
    (tmp_path / "columns.yaml").write_text(re.sub(r"  verifier: .*\n", "", columns), encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "reference.py", "tables"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "prompts" in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists():
            wrong.append(target)
        elif anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]:
                wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """A path in backticks that begins with a folder of ours; NAME and the like stand for the reader's own."""
    folders = "prefdata|annotators|ui|pipelines|sample_data|tests|docs|benchmarks|operators|engines|pipeline|dataset"
    named = re.findall(rf"`((?:{folders})/[\w./]*)`", prose(page))
    bases = (ROOT, ROOT / "prefdata")
    assert [name for name in named if "NAME" not in name and not any((base / name).exists() for base in bases)] == []


def test_commands_that_are_named_exist() -> None:
    import typer

    from prefdata.cli.app import app

    known = set(getattr(typer.main.get_command(app), "commands", {}))
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = "\n".join(re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        inline = "\n".join(re.findall(r"`([^`\n]+)`", prose(page)))
        for word in re.findall(r"^(?:.*&& )?prefdata ([a-z]\w*)", f"{shell}\n{inline}", re.MULTILINE):
            if word not in known:
                wrong.append(f"{page.name}: prefdata {word}")
    assert wrong == []


def test_options_that_are_named_exist() -> None:
    import typer

    from prefdata.cli.app import app

    def options(command: object) -> set[str]:
        own = {name for parameter in getattr(command, "params", []) for name in parameter.opts}
        return own.union(*(options(child) for child in getattr(command, "commands", {}).values()))

    known = options(typer.main.get_command(app)) | {"--help", "--check", "--write", "--strict", "--nproc-per-node"}
    for page in (DOCS / "pipelines.md", DOCS / "failures.md", DOCS / "extending.md", DOCS / "training.md"):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
        assert named - known == set(), page.name


def test_extending_quotes_the_example() -> None:
    example = (DOCS / "examples" / "my_steps.py").read_text(encoding="utf-8")
    assert example in [block.text for block in blocks("python") if block.page == "extending.md"]


@pytest.mark.slow
def test_the_readme_s_python_runs(tmp_path: Path) -> None:
    """It labels one comparison and runs again: then only the consensus and the pairs of one prompt are made anew."""
    shown = [block.text for block in blocks("python") if block.page == "README.md"]
    assert len(shown) == 1
    program = shown[0].replace('prefdata.run("hello", "runs/hello")', 'done = prefdata.run("hello", "runs/hello")')
    program += "\nassert (done.usage.calls, done.usage.cached) == (0, 0)"
    program += "\nassert [s.groups for s in done.steps if s.name == 'aggregate.bradley_terry'] == [1]"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_labelling_page_runs(tmp_path: Path) -> None:
    """What it labels, takes away, drops and restores leaves the dataset's live rows as they were before."""
    (shown,) = [block.text for block in blocks("python") if block.page == "labelling.md"]
    live = (
        "{t: sorted(dataset.view()[t].collect()[k].to_list()) for t, k in prefdata.schema.KEYS.items() if t != 'calls'}"
    )
    program = "import prefdata.schema\n" + shown.replace("# Label:", f"before = {live}\n# Label:")
    program = program.replace("# Take it away", f"labelled = {live}\n# Take it away").replace(
        "dataset.restore", f"dropped = {live}\ndataset.restore"
    )
    program += (
        f"\nassert before == {live}\nassert label in labelled['annotations'] and second not in dropped['responses']"
    )
    program += "\nassert second in before['responses'] and label not in before['annotations']"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def pipelines() -> list[Block]:
    return [block for block in blocks("yaml") if "steps" in yaml.safe_load(block.text)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every file that the pages' blocks name, and what these read."""
    for block in blocks("python", "yaml"):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    example = (DOCS / "examples" / "my_steps.py").read_text(encoding="utf-8")
    (tmp_path / "my_steps.py").write_text(example, encoding="utf-8")
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why is the sky blue?"}\n', encoding="utf-8")
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("JUDGE_MODEL", "any")
    return tmp_path


RUN = """
import sys
from prefdata import open, run
result = run("block.yaml", "dataset")
assert not result.stopped, result.stopped
dataset = open("dataset")
assert dataset.pairs().height, "no pairs"
assert not dataset.annotations.filter(__import__("polars").col("status") != "ok").collect().height
"""


@pytest.mark.slow
@pytest.mark.parametrize("block", pipelines(), ids=str)
def test_pipelines_run(block: Block, folder: Path) -> None:
    """In a process of its own, since plugins register for the whole of one."""
    kinds = {engine["kind"] for engine in yaml.safe_load(block.text).get("engines", {}).values()}
    (folder / "block.yaml").write_text(block.text, encoding="utf-8")
    program = RUN if kinds <= {"scripted", "shuffle"} else "from prefdata.pipeline.spec import load; load('block.yaml')"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_engines_that_are_shown_can_be_made(folder: Path) -> None:
    from prefdata.engines import engine_from_config
    from prefdata.pipeline.spec import expand

    for block in blocks("yaml"):
        document = yaml.safe_load(block.text)
        if "steps" not in document:
            for name, config in document.get("engines", {}).items():
                filled = {k: expand(v, "here") if isinstance(v, str) else v for k, v in config.items()}
                assert engine_from_config(name, filled, str(block)).capabilities


def test_the_card_that_is_shown_is_one(folder: Path) -> None:
    from prefdata.annotators import load_card

    card = load_card(str(folder / "politeness.yaml"))
    assert [aspect.direction for aspect in card.aspects] == ["higher", "lower"]


def test_what_is_said_of_versions_and_lists_is_so() -> None:
    """The changelog names every step, format and card; the architecture page states the one order of imports."""
    program = """
    import json
    from prefdata.annotators import shipped_cards
    from prefdata.formats import READERS, WRITERS
    from prefdata.pipeline.registry import STEPS, load_plugins
    load_plugins()
    ours = [name for name, step in STEPS.items() if step.__module__.startswith("prefdata.")]
    print(json.dumps([*ours, *READERS, *WRITERS, *shipped_cards()]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in yaml.safe_load(done.stdout) if f"`{name}`" not in changelog] == []
    layout = (ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8")
    floors = re.findall(r'"(\w+)"', layout[layout.index("FLOORS = [") : layout.index('"""The core from')])
    assert " < ".join(floors) in (DOCS / "architecture.md").read_text(encoding="utf-8").replace("\n", " ")


def test_the_trainer_s_columns_are_those_that_are_described() -> None:
    from prefdata.train.metrics import StepMetrics
    from prefdata.train.throughput import COUNTED, Speed

    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    speed: Any = Speed.__new__(Speed)
    speed._flops, speed._peak = SimpleNamespace(of=lambda *_: 1.0), None
    speed._devices = SimpleNamespace(world=1, device=SimpleNamespace(type="cpu"))
    own = {"step", "loss", "lr", "grad_norm", "terms", "lists", "seconds", "held_out"}
    written = {*own, *StepMetrics().as_dict(), *COUNTED, *speed.of(dict.fromkeys(COUNTED, 1), 1.0)}
    assert set(pages._METRICS) == written
