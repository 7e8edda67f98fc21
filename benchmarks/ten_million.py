"""Ten million annotations from Parquet: agreement, Bradley-Terry and Dawid-Skene, and the memory that they take.

    python benchmarks/ten_million.py [--rows 10000000] [--out benchmarks/results/ten_million.md]

Writes a Parquet file of seeded annotations in two forms: numbers (int32 and int8), and the columns of the table
`annotations` (texts, dictionary-encoded). Each estimator runs in a process of its own, which reads no column that it
does not need, a batch of rows at a time. Its memory is the peak resident size (VmHWM) less what was resident after the
imports and a first call with a hundred rows; beside it stands how many bytes the columns have that it read, as arrays
in memory. Below twice that is the aim.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ANNOTATORS, CLASSES, EACH, MODELS = 1000, 5, 5, 100
GROUP = 1 << 17
"""Rows of a row group."""
BATCH = 1 << 16
"""Rows whose codes are changed at once."""
Columns = dict[str, np.ndarray]


def write(folder: Path, rows: int) -> None:
    """Both forms, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    able = draw.beta(6, 2, ANNOTATORS)
    strength = draw.normal(size=MODELS)
    numbers = pa.schema(
        [(name, pa.int32()) for name in ("item", "annotator", "winner", "loser")]
        + [(name, pa.int8()) for name in ("label", "other")]
    )
    name = pa.dictionary(pa.int32(), pa.string())
    texts = pa.schema([(column, name) for column in ("target_id", "annotator", "label", "other", "winner", "loser")])
    options = {"compression": "zstd", "use_dictionary": True, "dictionary_pagesize_limit": 1 << 26}
    of_class = np.array([f"class-{c}" for c in range(CLASSES)])
    of_model = np.array([f"model-{m:03}" for m in range(MODELS)])
    of_annotator = np.array([f"judge:annotator-{w:04}" for w in range(ANNOTATORS)])
    with (
        pq.ParquetWriter(folder / "numbers.parquet", numbers, **options) as one,
        pq.ParquetWriter(folder / "texts.parquet", texts, **options) as two,
    ):
        for start in range(0, rows, GROUP):
            n = min(GROUP, rows - start)
            item = (np.arange(start, start + n) // EACH).astype(np.int32)
            # Five of one item are in five parts of all annotators: nobody labels an item twice.
            part = np.arange(start, start + n) % EACH
            annotator = (part * (ANNOTATORS // EACH) + draw.integers(0, ANNOTATORS // EACH, n)).astype(np.int32)
            truth = (item.astype(np.int64) * 2_654_435_761 >> 7) % CLASSES
            given = [
                np.where(draw.random(n) < able[who], truth, draw.integers(0, CLASSES, n)).astype(np.int8)
                for who in (annotator, (annotator + 1) % ANNOTATORS)
            ]
            first, apart = draw.integers(0, MODELS, n), draw.integers(1, MODELS, n)
            second = (first + apart) % MODELS
            won = draw.random(n) < 1 / (1 + np.exp(strength[second] - strength[first]))
            winner, loser = np.where(won, first, second).astype(np.int32), np.where(won, second, first).astype(np.int32)
            one.write_table(pa.table([item, annotator, winner, loser, *given], schema=numbers))
            ids = pa.array(
                [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}" for number in np.unique(item).tolist()]
            )
            named = [pa.DictionaryArray.from_arrays(item - item[0], ids)]
            coded = ((annotator, of_annotator), *((codes.astype(np.int32), of_class) for codes in given))
            for codes, names in (*coded, (winner, of_model), (loser, of_model)):
                named.append(pa.DictionaryArray.from_arrays(codes, pa.array(names)))
            two.write_table(pa.table(named, schema=texts))


def groups(path: Path, name: str, **options: Any) -> Iterator[Any]:
    """The chunks of a column, a row group at a time: Arrow's batches of a whole file hold on to what was read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=1 << 16, **options) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=[name], use_threads=False).column(0).chunks


def read_numbers(path: Path, columns: list[str]) -> tuple[Columns, int, list[Any]]:
    """Columns of whole numbers as arrays, filled row group by row group, and their bytes."""
    import pyarrow.parquet as pq

    about, made = pq.read_schema(path), {}
    for name in columns:
        values, start = np.empty(rows_of(path), about.field(name).type.to_pandas_dtype()), 0
        for chunk in groups(path, name):
            values[start : start + len(chunk)] = chunk.to_numpy()
            start += len(chunk)
        made[name] = values
    return made, sum(values.nbytes for values in made.values()), []


def rows_of(path: Path) -> int:
    """Rows of a file."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def read_texts(path: Path, columns: list[str]) -> tuple[Columns, int, list[Any]]:
    """The codes of columns of texts, their bytes, and the texts.

    The bytes are what Arrow holds of them: a code of 32 bits for each row, and each different text once. Each row group
    has a dictionary of its own: what stands in several has one number in the end.
    """
    import polars as pl
    import pyarrow as pa

    made, size, names = {}, 0, []
    for name in columns:
        codes, listed, hashes, start, many = np.empty(rows_of(path), np.int32), [], [], 0, 0
        for chunk in groups(path, name, read_dictionary=[name]):
            np.add(chunk.indices.to_numpy(), many, out=codes[start : start + len(chunk)])
            listed.append(chunk.dictionary)
            hashes.append(pl.Series(chunk.dictionary).hash().to_numpy())
            start, many = start + len(chunk), many + len(chunk.dictionary)
        texts = pa.chunked_array(listed)
        del listed, chunk
        number, first = numbered(np.concatenate(hashes), texts)
        if len(first) < 0.9 * len(texts):
            texts = texts.take(first)
        values = np.empty(len(codes), np.int8 if len(first) <= 1 << 7 else np.int32)
        for place in range(0, len(codes), BATCH):
            part = slice(place, place + BATCH)
            values[part] = number[codes[part]]
        size += codes.nbytes + texts.nbytes
        made[name] = values
        names.append(texts)
        del codes, number, first, hashes
    return made, size, names


def numbered(hashes: np.ndarray, texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """A number for each text, the same where texts are equal, and where each different one stands first, ascending.

    By hashes of 64 bits, and the texts themselves where two of those are equal: a table of two million texts would take
    more than the texts.
    """
    import pyarrow.compute as pc

    order = np.argsort(hashes, kind="stable").astype(np.int32)
    ordered = hashes[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    del ordered
    first = np.empty(len(hashes), np.int32)
    first[order] = order[np.flatnonzero(new).astype(np.int32)[np.cumsum(new, dtype=np.int32) - 1]]
    del order, new
    alone = first == np.arange(len(first), dtype=np.int32)
    again = np.flatnonzero(~alone)
    if len(again) and not pc.all(pc.equal(texts.take(again), texts.take(first[again]))).as_py():
        raise ValueError("two texts have one hash")
    return (np.cumsum(alone, dtype=np.int32) - 1)[first], np.flatnonzero(alone)


def kappa(columns: Columns) -> dict[str, Any]:
    """Cohen's kappa of two annotators, with its interval."""
    from prefdata.stats import cohen_kappa

    found = cohen_kappa(columns["label"], columns["other"])
    return {"kappa": found.value, "low": found.low, "high": found.high}


def alpha(columns: Columns) -> dict[str, Any]:
    """Krippendorff's alpha, with its interval."""
    from prefdata.stats import krippendorff_alpha

    found = krippendorff_alpha(*columns.values())
    return {"alpha": found.value, "low": found.low, "high": found.high}


def bradley_terry(columns: Columns) -> dict[str, Any]:
    """Strengths, with the sandwich."""
    from prefdata.stats import bradley_terry as fit

    found = fit(*columns.values(), robust=True)
    return {"strongest": float(found.values.max()), "converged": found.converged}


def dawid_skene(columns: Columns) -> dict[str, Any]:
    """Abilities and posteriors, these in 32 bits and without intervals, which are twice the posteriors again."""
    from prefdata.stats import dawid_skene as fit

    found = fit(*columns.values(), intervals=False, single=True)
    return {"ability": float(found.abilities.mean()), "iterations": found.iterations, "converged": found.converged}


CASES: dict[str, tuple[Callable[[Columns], dict[str, Any]], tuple[str, ...]]] = {
    "Cohen's kappa, with its interval": (kappa, ("label", "other")),
    "Krippendorff's alpha, with its interval": (alpha, ("item", "annotator", "label")),
    "Bradley-Terry, with the sandwich": (bradley_terry, ("winner", "loser")),
    "Dawid-Skene, five classes": (dawid_skene, ("item", "annotator", "label")),
}


def alpha_of_dataset(folder: Path) -> dict[str, Any]:
    """Krippendorff's alpha of all live scores of single responses, by what a dataset gives: a frame of texts."""
    import polars as pl

    from prefdata import Dataset
    from prefdata.stats import krippendorff_alpha

    listed = (
        Dataset(folder)
        .annotations.filter(pl.col("status") == "ok")
        .select(pl.col("target_ids").list.first(), "annotator", pl.col("scores").list.first().cast(pl.Int8))
    )
    rows = listed.collect(engine="streaming")
    size = rows.estimated_size()
    scores = rows["scores"].to_numpy()
    units, annotators = (rows[name].rank("dense").cast(pl.Int32).to_numpy() for name in ("target_ids", "annotator"))
    del rows
    found = krippendorff_alpha(units, annotators, scores, "ordinal")
    return {"alpha": found.value, "low": found.low, "high": found.high, "columns": size}


def mean_of_dataset(folder: Path) -> dict[str, Any]:
    """The step aggregate.mean, from its annotations to the commit of its consensus."""
    from prefdata.pipeline.run import run
    from prefdata.pipeline.spec import parse

    done = run(parse("steps:\n  - aggregate.mean: {}\n", file="bench.yaml", folder=folder, name="bench"), folder)
    return {"seconds of the step": done.steps[0].seconds}


DATASET = {"Krippendorff's alpha, ordinal": alpha_of_dataset, "the step aggregate.mean": mean_of_dataset}
FORMS = {"numbers": read_numbers, "texts": read_texts}


def status(what: str) -> int:
    """Bytes of this process: VmHWM, the most that was resident ever, or VmRSS, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def one(case: str, form: str, path: Path, few: Path) -> dict[str, Any]:
    """One estimator, from the file to its result."""
    work, names = CASES[case]
    columns = ["target_id" if name == "item" and form == "texts" else name for name in names]
    work(FORMS[form](few, columns)[0])  # imports all there is to import
    before, start, spent = status("VmRSS"), time.perf_counter(), cpu()
    made, size, names = FORMS[form](path, columns)
    read = time.perf_counter() - start
    reading = status("VmHWM") - before
    said = work(made)
    del names  # whoever reads texts wants to know in the end who is who
    return {
        "columns": size,
        "arrays": sum(values.nbytes for values in made.values()),
        "reading": reading,
        "peak": status("VmHWM") - before,
        "cpu": cpu() - spent,
        "wall": time.perf_counter() - start,
        "read": read,
        "said": said,
    }


def of_dataset(case: str, folder: Path) -> dict[str, Any]:
    """One case through a dataset: what it takes with all its imports."""
    start = time.perf_counter()
    said = DATASET[case](folder)
    return {
        "columns": said.pop("columns", None),
        "peak": status("VmHWM"),
        "cpu": cpu(),
        "wall": time.perf_counter() - start,
        "said": said,
    }


def cpu() -> float:
    """Seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Write the files, run each case in each form, write the page."""
    parser = argparse.ArgumentParser(description="Ten million annotations from Parquet, and the memory they take.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", default="", help="only the cases whose name holds this text")
    parser.add_argument("--folder", type=Path, help="where the files lie or are put; a temporary folder unless given")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dataset", action="store_true", help="also through a dataset of as many annotations")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one and given.one[1] == "dataset":
        print(json.dumps(of_dataset(given.one[0], given.folder / "dataset")))
        return
    if given.one:
        case, form = given.one
        parts = given.folder / f"{form}.parquet", given.folder / "few" / f"{form}.parquet"
        print(json.dumps(one(case, form, *parts)))
        return
    with tempfile.TemporaryDirectory() as folder:
        text = page(given, given.folder or Path(folder))
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


def page(given: argparse.Namespace, folder: Path) -> str:
    """What was measured, as Markdown."""
    for place, rows in ((folder, given.rows), (folder / "few", 1000)):
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "texts.parquet").exists():
            subprocess.run([sys.executable, "-c", WRITE, HERE, str(place), str(rows)], check=True)
    arguments = " ".join(word for word in sys.argv[1:] if not word.startswith("/"))
    lines = [
        "# Ten million annotations from Parquet",
        "",
        f"`python benchmarks/ten_million.py {arguments}`, {os.cpu_count()} shared cores, Python "
        f"{platform.python_version()}, NumPy {np.__version__}.",
        "",
        f"{given.rows:,} rows: {given.rows // EACH:,} items labelled by {EACH} of {ANNOTATORS:,} annotators each, "
        f"{CLASSES} classes; comparisons of {MODELS} models. Peak: VmHWM of a process of its own, less what was "
        "resident after the imports and a call with a thousand rows; it includes the columns themselves. `texts` are "
        "the columns as the table `annotations` has them, texts with a dictionary for each row group; their bytes are "
        "those of Arrow's dictionary arrays.",
        "",
        "| | columns | columns, MB | peak while reading, MB | peak, MB | peak over columns | CPU s | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in (case for case in CASES if given.only.lower() in case.lower()):
        for form in FORMS:
            found = apart(case, form, folder)
            said = words(found["said"])
            lines.append(
                f"| {case} | {form} | {found['columns'] / 1e6:.0f} | {found['reading'] / 1e6:.0f} | "
                f"{found['peak'] / 1e6:.0f} | {found['peak'] / found['columns']:.2f} | {found['cpu']:.1f} | {said} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines + (through_dataset(folder, given.rows) if given.dataset else []))


def apart(case: str, form: str, folder: Path) -> dict[str, Any]:
    """What a case gave in a process of its own."""
    # Arrow's own pools keep what was freed, and so would be counted.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, __file__, "--one", case, form, "--folder", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        sys.exit(ran.stderr)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def words(said: dict[str, Any]) -> str:
    """Results in a few words."""
    return ", ".join(f"{name} {v:.4f}" if isinstance(v, float) else f"{name} {v}" for name, v in said.items())


def through_dataset(folder: Path, rows: int) -> list[str]:
    """The same number of scores as live annotations of a dataset with ten shards."""
    if not (folder / "dataset").exists():
        build = "import sys; sys.path.insert(0, sys.argv[1]); import columnar as c, pathlib as p; "
        build += "c.build(p.Path(sys.argv[2]), int(sys.argv[3]), 10)"
        subprocess.run([sys.executable, "-c", build, HERE, str(folder / "dataset"), str(rows)], check=True)
    lines = [
        "",
        f"Through a dataset of {rows:,} scores (four responses a prompt, five annotators each, ten shards; random "
        "scores, see columnar.py). The peak is the whole process, imports included: a dataset's ids are texts, which "
        "are read and ranked before anything is computed, so that the bound above does not hold here.",
        "",
        "| | columns as a frame, MB | peak of the process, MB | CPU s | wall s | result |",
        "|---|---|---|---|---|---|",
    ]
    for case in DATASET:
        found = apart(case, "dataset", folder)
        columns = "" if found["columns"] is None else f"{found['columns'] / 1e6:.0f}"
        lines.append(
            f"| {case} | {columns} | {found['peak'] / 1e6:.0f} | {found['cpu']:.0f} | {found['wall']:.0f} | "
            f"{words(found['said'])} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


HERE = str(Path(__file__).parent)
WRITE = """import sys
sys.path.insert(0, sys.argv[1])
import ten_million as t
t.write(t.Path(sys.argv[2]), int(sys.argv[3]))"""
"""In a process of its own, so that it leaves nothing behind."""


if __name__ == "__main__":
    main()
