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
    import pyarrow as pa

    made, size, names = {}, 0, []
    for name in columns:
        codes, listed, start, many = np.empty(rows_of(path), np.int32), [], 0, 0
        for chunk in groups(path, name, read_dictionary=[name]):
            np.add(chunk.indices.to_numpy(), many, out=codes[start : start + len(chunk)])
            listed.append(chunk.dictionary)
            start, many = start + len(chunk), many + len(chunk.dictionary)
        texts = pa.concat_arrays(listed)
        del listed, chunk
        number, first = numbered(texts)
        different = texts if len(first) == len(texts) else texts.take(first)
        del texts
        narrow = codes if len(different) > 1 << 7 else np.empty(len(codes), np.int8)
        for place in range(0, len(codes), BATCH):
            part = slice(place, place + BATCH)
            narrow[part] = number[codes[part]]
        size += codes.nbytes + different.nbytes
        made[name] = narrow
        names.append(different)
        del codes
    return made, size, names


def numbered(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """A number for each text, the same where texts are equal, and where each different one stands first.

    By hashes of 64 bits, and the texts themselves where two of those are equal: a table of two million texts would take
    more than the texts.
    """
    import polars as pl
    import pyarrow.compute as pc

    hashes = pl.Series(texts).hash().to_numpy()
    known, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    del known, hashes
    again = np.flatnonzero(first[number] != np.arange(len(number)))
    assert pc.all(pc.equal(texts.take(again), texts.take(first[number[again]]))).as_py() is not False
    return number.astype(np.int32), first


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
    """Posteriors of items and abilities; without the intervals of items, which are twice the posteriors again."""
    from prefdata.stats import dawid_skene as fit

    found = fit(*columns.values(), intervals=False)
    return {"ability": float(found.abilities.mean()), "iterations": found.iterations, "converged": found.converged}


CASES: dict[str, tuple[Callable[[Columns], dict[str, Any]], tuple[str, ...]]] = {
    "Cohen's kappa, with its interval": (kappa, ("label", "other")),
    "Krippendorff's alpha, with its interval": (alpha, ("item", "annotator", "label")),
    "Bradley-Terry, with the sandwich": (bradley_terry, ("winner", "loser")),
    "Dawid-Skene, five classes": (dawid_skene, ("item", "annotator", "label")),
}
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
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
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
            subprocess.run([sys.executable, "-c", WRITE, str(Path(__file__).parent), str(place), str(rows)], check=True)
    arguments = " ".join(word for word in sys.argv[1:] if not word.startswith("/"))
    lines = [
        "# Ten million annotations from Parquet",
        "",
        f"`python benchmarks/ten_million.py {arguments}`, {os.cpu_count()} shared cores, Python "
        f"{platform.python_version()}, NumPy {np.__version__}.",
        "",
        f"{given.rows:,} rows: {given.rows // EACH:,} items labelled by {EACH} of {ANNOTATORS:,} annotators each, "
        f"{CLASSES} classes; comparisons of {MODELS} models. Peak: VmHWM of a process of its own, less what was "
        "resident after the imports and a call with a thousand rows; it includes the columns themselves. `texts` are the "
        "columns as the table `annotations` has them, texts with a dictionary for each row group; their bytes are those "
        "of Arrow's dictionary arrays.",
        "",
        "| | columns | columns, MB | peak while reading, MB | peak, MB | peak over columns | CPU s | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in (case for case in CASES if given.only.lower() in case.lower()):
        for form in FORMS:
            command = [sys.executable, __file__, "--one", case, form, "--folder", str(folder)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            ran = subprocess.run(command, capture_output=True, text=True, env=environment)
            if ran.returncode:
                sys.exit(ran.stderr)
            found = json.loads(ran.stdout)
            said = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in found["said"].items())
            lines.append(
                f"| {case} | {form} | {found['columns'] / 1e6:.0f} | {found['reading'] / 1e6:.0f} | "
                f"{found['peak'] / 1e6:.0f} | {found['peak'] / found['columns']:.2f} | {found['cpu']:.1f} | {said} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


WRITE = "import sys; sys.path.insert(0, sys.argv[1]); import ten_million as t; t.write(t.Path(sys.argv[2]), int(sys.argv[3]))"
"""In a process of its own, so that it leaves nothing behind."""


if __name__ == "__main__":
    main()
