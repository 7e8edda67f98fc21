"""Reference log-probabilities of single tokens, kept by what they are: computed once, whoever asks again.

A row's key hashes its token ids, which of them are scored, and everything that changes the numbers: weights, tokenizer
and template, precision, attention. So values outlive other losses, epochs, regroupings, truncations of other rows, and
runs; values of another model or template have other keys, and are not found. On the disk they are rows of the dataset's
table `token_scores` and the key. This module draws no random number: the order of training is the same with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdata.lm.packing import Row
from prefdata.train.devices import Devices
from prefdata.train.disk import sync
from prefdata.train.errors import TrainError

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float32]

REFERENCE = "reference.parquet"
FLUSH_EVERY = 120.0
"""Seconds after which what is computed goes to the disk: what a kill can cost."""
_FORMAT = "prefdata.reference/1"
_NAMES = ("response_id", "group_id", "prompt_id")


@dataclass(frozen=True, slots=True)
class Scorer:
    """What gives a row of tokens its log-probabilities.

    Attributes:
        model: its name, for people to read; no key depends on it.
        weights: `weights_hash` of the model.
        tokenizer: `tokenizer_hash` of its tokenizer and chat template.
        dtype: what is computed in: `fp32`, `bf16`, ...
        attention: its kind: `sdpa`, `flex`, ...
    """

    model: str
    weights: str
    tokenizer: str
    dtype: str
    attention: str

    @property
    def digest(self) -> bytes:
        """What goes into every row's key."""
        parts = [self.weights, self.tokenizer, self.dtype, self.attention]
        return hashlib.sha256(json.dumps(parts).encode()).digest()

    def __str__(self) -> str:
        """For the column `scorer`."""
        return f"{self.model}@{self.weights[:12]}/{self.tokenizer[:12]}/{self.dtype}/{self.attention}"


class Reference:
    """Log-probabilities of rows under one scorer.

    Args:
        scorer: whose they are.
        parts: a folder for what is computed until `save`; what an earlier, killed run left there is taken up. Null:
            nothing is written before `save`.
        rank: number of this process; each writes parts of its own.
    """

    def __init__(self, scorer: Scorer, parts: Path | None = None, *, rank: int = 0) -> None:
        """Take up the parts that are there."""
        self.scorer = scorer
        self._digest = scorer.digest
        self._values: dict[str, Floats] = {}
        self._about: dict[str, tuple[Row, Mapping[str, str]]] = {}
        self._old: list[pa.Table] = []
        self._unflushed: list[str] = []
        self._untold: list[str] = []
        self._parts, self._rank, self._flushed = parts, rank, time.monotonic()
        for path in sorted(parts.glob("part-*.parquet")) if parts and parts.is_dir() else ():
            self.read(path)

    def __len__(self) -> int:
        """How many rows are known."""
        return len(self._values)

    def key(self, row: Row) -> str:
        """The name of a row's values: 64 hexadecimal characters."""
        digest = hashlib.sha256(self._digest)
        for numbers in (row.tokens, row.scored):
            digest.update(len(numbers).to_bytes(8, "little"))
            digest.update(np.asarray(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()

    def read(self, path: Path) -> int:
        """Take the values of a file that an earlier run saved, whatever its scorer was: only equal keys are found.

        Returns:
            How many rows in it are of this scorer.

        Raises:
            TrainError: it is no such file.
        """
        import pyarrow as pa

        table = _read(path)
        # A model that was moved or renamed is the same model.
        mine = [str(self.scorer).rpartition("@")[2] == one.rpartition("@")[2] for one in table["scorer"].to_pylist()]
        table = table.filter(pa.array(mine, pa.bool_()))
        keys = table.column("key").to_pylist()
        flat = table.column("values").combine_chunks()
        starts = flat.offsets.to_numpy()
        numbers = flat.values.to_numpy(zero_copy_only=False)
        if not np.isfinite(numbers[starts[0] : starts[-1]]).all() if len(keys) else False:
            raise TrainError(
                f"{path} holds log-probabilities that are no numbers: remove it, and they are computed anew"
            )
        for place, key in enumerate(keys):
            self._values[key] = numbers[starts[place] : starts[place + 1]]
        self._old.append(table)
        return len(keys)

    def missing(self, rows: Sequence[Row]) -> list[int]:
        """The numbers of the rows whose values are not known, each distinct row once."""
        first: dict[str, int] = {}
        for number, row in enumerate(rows):
            first.setdefault(self.key(row), number)
        return [number for key, number in first.items() if key not in self._values]

    def add(self, rows: Sequence[Row], values: Iterable[Any], about: Sequence[Mapping[str, str]] | None = None) -> None:
        """Take in values; a row that is known keeps those that it has.

        Args:
            rows: what was scored.
            values: for each row its `len(row.scored)` log-probabilities.
            about: for each row its `response_id`, `group_id` and `prompt_id`, as far as they are known.

        Raises:
            TrainError: a log-probability is not finite.
        """
        for number, (row, given) in enumerate(zip(rows, values, strict=True)):
            numbers = np.array(given, dtype=np.float32).reshape(-1)
            assert len(numbers) == len(row.scored), "one value for each scored token"
            if not np.isfinite(numbers).all():
                raise TrainError(
                    f"the reference {self.scorer.model} gives a token a log-probability that is no number: its weights "
                    "are damaged, or the precision is too low for it"
                )
            key = self.key(row)
            if key in self._values:
                continue
            self._values[key] = numbers
            self._about[key] = (row, about[number] if about else {})
            self._unflushed.append(key)
            self._untold.append(key)
        if self._parts and time.monotonic() - self._flushed > FLUSH_EVERY:
            self.flush()

    def values(self, row: Row) -> Floats:
        """`[len(row.scored)]` float32.

        Raises:
            TrainError: the file that they come from is damaged.
            KeyError: they are not known.
        """
        found = self._values[self.key(row)]
        if len(found) != len(row.scored):
            raise TrainError(
                f"a row of {len(row.scored)} scored tokens has {len(found)} reference log-probabilities: the file that "
                "they come from is damaged; remove it, and they are computed anew"
            )
        return found

    def exchange(self, devices: Devices) -> None:
        """Give all processes what each has computed, or read from a disk that others do not see; all call it together.

        What two have, all have from the first of them: the last bits of one row differ between packs.
        """
        if devices.world == 1:
            return
        import pyarrow as pa

        mine, self._untold = [self._table(self._untold)], []
        known = hashlib.sha256("".join(sorted(self._values)).encode()).hexdigest()
        if len(set(devices.gather([known]))) == 1:
            return
        if len(set(devices.gather([sum(table.num_rows for table in self._old)]))) > 1:
            mine += self._old
        claimed: set[str] = set()
        for rank, blob in enumerate(devices.gather_bytes(_stream(mine))):
            table = pa.ipc.open_stream(blob).read_all()
            keys = table["key"].to_pylist()
            if rank != devices.rank:
                self._take(
                    table.filter(pa.array([key not in claimed for key in keys], pa.bool_())), over=rank < devices.rank
                )
            claimed.update(keys)

    def flush(self) -> None:
        """Write what is new since the last time as a part."""
        self._flushed = time.monotonic()
        if not self._parts or not self._unflushed:
            return
        self._parts.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.stem.rpartition("-")[2]) for path in self._parts.glob("part-*.parquet")), default=-1)
        self._write(self._table(self._unflushed), self._parts / f"part-{self._rank}-{number:06d}.parquet")
        self._unflushed = []

    def save(self, path: Path) -> None:
        """Write all that is known of this scorer to one file, in the order of the keys, and remove the parts."""
        import pyarrow as pa

        tables = [*self._old, self._table(list(self._about))]
        whole = pa.concat_tables(tables).sort_by("key")
        keys = whole.column("key").to_pylist()
        new = [place == 0 or keys[place - 1] != key for place, key in enumerate(keys)]
        self._write(whole.filter(pa.array(new, pa.bool_())), path)
        self._unflushed = []
        if self._parts and self._parts.is_dir():
            shutil.rmtree(self._parts)

    def _take(self, table: pa.Table, *, over: bool = False) -> None:
        """Add rows; what is known stays, unless `over`."""
        import pyarrow as pa

        new = [over or key not in self._values for key in table["key"].to_pylist()]
        table = table.filter(pa.array(new, pa.bool_()))
        for key, numbers in _rows(table):
            self._values[key] = numbers
            self._about.pop(key, None)
        self._unflushed = [key for key in self._unflushed if key in self._about]
        self._old.append(table)

    def _table(self, keys: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        about = [self._about[key] for key in keys]
        columns: dict[str, list[Any]] = {name: [more.get(name) or None for _, more in about] for name in _NAMES}
        columns |= {"step": [None] * len(keys), "scorer": [str(self.scorer)] * len(keys)}
        columns |= {"kind": ["logprob"] * len(keys), "key": list(keys)}
        columns["token_ids"] = [[row.tokens[place] for place in row.scored] for row, _ in about]
        columns["values"] = [self._values[key] for key in keys]
        return pa.table(
            {field.name: pa.array(columns[field.name], field.type) for field in _schema()}, schema=_schema()
        )

    def _write(self, table: pa.Table, path: Path) -> None:
        import pyarrow.parquet as pq

        footer = {"prefdata.format": _FORMAT, "prefdata.scorer": json.dumps(asdict(self.scorer))}
        writing = path.with_name(f".writing-{path.name}")
        try:
            pq.write_table(table.replace_schema_metadata(footer), writing, compression="zstd")
            sync(writing)
            writing.replace(path)
            sync(path.parent)
        except OSError as error:
            raise TrainError(f"{path} cannot be written ({_first(error)}): make room for it") from None


def _schema() -> pa.Schema:
    """The columns of `token_scores` that are filled, and the key."""
    import pyarrow as pa

    texts = ("response_id", "group_id", "step", "prompt_id", "scorer", "kind")
    lists = [("token_ids", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
    return pa.schema([*((name, pa.string()) for name in texts), *lists, ("key", pa.string())])


def _read(path: Path) -> pa.Table:
    """A saved file's table.

    Raises:
        TrainError: it is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise TrainError(f"reference: there is no file {path}")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise TrainError(f"reference: {path} cannot be read as Parquet ({_first(error)})") from None
    for name in _schema().names:
        if name not in table.column_names:
            raise TrainError(
                f"reference: {path} has no column {name!r}: it is to be a {REFERENCE} that an earlier training run left"
            )
    try:
        table = table.select(_schema().names).cast(_schema())
        table.validate(full=True)
    except pa.ArrowException as error:
        raise TrainError(f"reference: {path} does not hold what its columns say ({_first(error)})") from None
    for name in ("key", "scorer", "values"):
        column = table.column(name)
        if column.null_count or (name == "values" and any(chunk.flatten().null_count for chunk in column.chunks)):
            raise TrainError(f"reference: {path}: the column {name!r} has empty places")
    return table.replace_schema_metadata(None)


def _rows(table: pa.Table) -> Iterator[tuple[str, Floats]]:
    """Key and values of each row; the values are parts of one array."""
    for batch in table.to_batches():
        column = batch.column("values")
        numbers, starts = column.flatten().to_numpy(zero_copy_only=False), column.offsets.to_numpy()
        for place, key in enumerate(batch.column("key").to_pylist()):
            yield key, numbers[starts[place] - starts[0] : starts[place + 1] - starts[0]]


def _stream(tables: Sequence[pa.Table]) -> bytes:
    """Tables as the bytes of one."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _schema()) as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue())


def _first(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
