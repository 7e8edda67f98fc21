"""What is installed: the wheel holds every file of the folders that it is made of, under their installed names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = {
    package.replace(".", "/"): folder for package, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()
}
"""Where a package lies in the wheel, and the folder of the checkout that it is."""


def tree() -> set[str]:
    """Every file of the packages' folders, by its name in the wheel."""
    found = set()
    for inside, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT / folder)
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in relative.parts):
                found.add(f"{inside}/{relative.as_posix()}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy (a build leaves folders behind) by the backend itself, which needs no network."""
    pytest.importorskip("setuptools", "77", reason="needs setuptools, which the extra [dev] brings")
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, str(out)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_packages_are_the_folders_with_an_init() -> None:
    there = {
        "/".join([inside, *path.parent.relative_to(ROOT / folder).parts]).replace("/", ".")
        for inside, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert there == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = tree()
    assert expected - held == set(), "in the checkout and not in the wheel: see package-data in pyproject.toml"
    assert held - expected == set(), "in the wheel and not in the checkout"
    for name in ("prefdata/py.typed", "prefdata/annotators/cards/helpfulness.yaml", "prefdata/pipelines/hello.yaml"):
        assert name in held
    for name in ("prefdata/sample_data/prompts.jsonl", "prefdata/sample_data/README.md"):
        assert name in held


def test_the_wheel_has_licence_command_and_plugins(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        points = archive.read(info["entry_points.txt"]).decode()
        metadata = archive.read(info["METADATA"]).decode()
    assert "licenses/LICENSE" in info
    assert "prefdata = prefdata.cli:main" in points
    assert "annotators = prefdata.annotators" in points
    assert "License-Expression: Apache-2.0" in metadata


def test_the_wheel_works_unpacked(wheel: Path, tmp_path: Path) -> None:
    """Far from the checkout, the plugins, cards, recipes and sample data are found where they are installed."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = """
import json
import prefdata, prefdata.annotators, prefdata.pipelines
from prefdata.pipeline.registry import STEPS
from prefdata.pipeline.spec import find_file, recipes
files = [prefdata.__file__, prefdata.annotators.__file__, recipes()["hello"], find_file("sample:prompts.jsonl", None)]
print(json.dumps({
    "from": [str(file) for file in files],
    "cards": prefdata.annotators.shipped_cards(),
    "steps": sorted(STEPS),
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [path for path in found["from"] if not Path(path).is_relative_to(tmp_path / "site")] == []
    assert found["cards"] == sorted(path.stem for path in (ROOT / "annotators" / "cards").glob("*.yaml"))
    assert {"judge.compare", "sample", "export"} <= set(found["steps"])
