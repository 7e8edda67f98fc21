"""The folder of a run: written beside its place, taken up where it was interrupted, put in place when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from prefdata.train.devices import Devices
from prefdata.train.disk import sync
from prefdata.train.errors import TrainError
from prefdata.train.reference import REFERENCE

METRICS = "metrics.jsonl"
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
PARTS = "reference.parts"
MADE_BY = "prefdata train"


@contextlib.contextmanager
def working_folder(out: Path, devices: Devices, *, resume: bool = True) -> Iterator[Path]:
    """A folder `OUT.partial` that becomes `out` when the block ends well.

    When it does not, the folder stays, to go on from and to be looked at, if there is anything in it.

    Args:
        out: the run's folder.
        devices: the first process makes the folder; all enter the block together.
        resume: take up what an interrupted run left; else it is removed.

    Raises:
        TrainError: `out` holds something that is not an earlier run's.
    """
    partial, replaced = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.replaced")
    sentence: list[str] = []
    if devices.main:
        try:
            _prepare(out, partial, replaced, resume)
        except TrainError as error:
            sentence = [str(error)]
    if said := devices.gather(sentence):
        raise TrainError(said[0])
    try:
        yield partial
    except BaseException:
        if devices.main and not _worth_keeping(partial):
            shutil.rmtree(partial)
        raise
    devices.barrier()
    if devices.main:
        _settle(partial)
        for leftover in (CHECKPOINTS, PARTS):  # at last: a run killed before this goes on from them
            shutil.rmtree(partial / leftover, ignore_errors=True)
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
        if replaced.exists():
            shutil.rmtree(replaced)
    devices.barrier()


def cut_metrics(folder: Path, steps: int) -> None:
    """Leave the first `steps` rows of the metrics: what came after the checkpoint comes again."""
    path = folder / METRICS
    path.touch()
    rows = path.read_bytes().splitlines(keepends=True)[:steps]
    os.truncate(path, sum(map(len, rows)))  # in one move: to write the rows again is to lose them to a kill


def take_over(checkpoint: Path, folder: Path) -> None:
    """Bring what belongs to a checkpoint of another folder: its metrics, its reference, and the best weights so far."""
    run = checkpoint.parent.parent
    if run.resolve() == folder.resolve():
        return
    for name in (METRICS, REFERENCE):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    for best in checkpoint.parent.glob("best-*.safetensors"):
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        shutil.copyfile(best, folder / CHECKPOINTS / best.name)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    if path.is_file():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(inner for inner in path.rglob("*") if inner.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{digest_of(file)}\0".encode())
    return digest.hexdigest()


def _prepare(out: Path, partial: Path, replaced: Path, resume: bool) -> None:
    for folder in (out, replaced, partial):
        ours = _is_partial(folder) if folder is partial else _is_run(folder)
        if folder.exists() and not (folder.is_dir() and (ours or not any(folder.iterdir()))):
            raise TrainError(f"{folder} exists and is not what an earlier training run left: name another folder")
    if replaced.exists() and not out.exists():
        replaced.rename(out)  # an earlier run was killed between the two renames
    if replaced.exists():
        shutil.rmtree(replaced)
    if partial.exists() and not resume:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / METRICS).touch()


def _is_run(folder: Path) -> bool:
    """Whether a run wrote it. It is about to be replaced, and others call a file manifest.json too."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY


def _is_partial(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def _worth_keeping(partial: Path) -> bool:
    kept = any((partial / name).exists() for name in (CHECKPOINTS, PARTS, REFERENCE))
    return kept or bool((partial / METRICS).stat().st_size)


def _settle(folder: Path) -> None:
    """Onto the disk before the rename, which would otherwise outlive the contents in a power cut."""
    mode = (folder / METRICS).stat().st_mode
    for path in (path for path in folder.rglob("*") if path.is_file()):
        path.chmod(mode)  # safetensors are written for their owner alone, unlike all the rest
        sync(path)
    if os.name == "posix":
        sync(folder)
