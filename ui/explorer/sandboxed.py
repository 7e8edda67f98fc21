"""The process in which one SQL query of a user runs: started by `sandbox.py`, told by one line of JSON, killed at will.

It is run by its path with `python -I` and imports nothing of prefdata: what it cannot reach cannot be misused. Before
the query is looked at, the tables are attached read-only, and then the doors are closed: DuckDB loses its file system
and its settings can no longer be changed, and the kernel lets the process open nothing more, neither file nor socket.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from decimal import Decimal
from typing import Any

import duckdb

ALLOWED = {"SELECT", "EXPLAIN"}
"""The kinds of statement that run: what describes tables is a SELECT to DuckDB, too."""

MEGABYTE = 1024 * 1024

CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",  # else `FROM name` reads Python's own variables
    "temp_directory": "",  # nothing spills to the disk: a query that needs more memory than it has is refused
}

WARM = "SELECT now(), DATE '2000-01-01', TIME '00:00', INTERVAL 1 DAY, uuid(), 1.5, 1::HUGEINT, 'a'::BLOB"
"""Asked before the doors are closed: what turns such values into Python's is loaded when it is first needed."""

LOCKS = (
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET lock_configuration = true",
)


def limit(memory: int, seconds: float, threads: int) -> None:
    """Let the kernel limit the process.

    Args:
        memory: megabytes that the query may take.
        seconds: that it may take; the processor's limit is only for the case that nobody is left to end it.
        threads: that it may use.
    """
    spare = 192 * MEGABYTE + threads * 16 * MEGABYTE  # Python, DuckDB's code, stacks, and the rows on their way out
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (memory * MEGABYTE + spare,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds * threads) + 2,) * 2)


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """Run the query; what came of it, as JSON takes it.

    Args:
        task: attach (name to path), views (statements that are ours), query, rows, characters (of all cells), memory
            (megabytes), seconds, threads.

    Returns:
        `columns`, `types`, `rows`, `cut`, or `refused` with a sentence.
    """
    config = {**CONFIG, "memory_limit": f"{task['memory']}MB", "threads": str(task["threads"])}
    connection = duckdb.connect(":memory:", config=config)
    try:
        for name, path in task["attach"].items():
            quoted = path.replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")
        connection.execute(WARM).fetchall()
        for statement in (*task["views"], *LOCKS):
            connection.execute(statement)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # what is open stays open, and nothing is opened any more
        refused = complaint(connection, task["query"])
        if refused is not None:
            return {"refused": refused}
        found = connection.execute(task["query"])
        return taken(found, task["rows"], task["characters"])
    except duckdb.OutOfMemoryException:
        return {"refused": full(task)}
    except duckdb.PermissionException:
        return {"refused": "the query reaches for a file or an address: it can read the tables, and nothing else"}
    except duckdb.Error as error:
        return {"refused": f"the query failed: {said(error)}"}
    except MemoryError:
        return {"refused": full(task)}


def full(task: dict[str, Any]) -> str:
    """The sentence for a query that needs too much memory."""
    return (
        f"the query needs more than the {task['memory']} MB of memory that it may take: read fewer rows or columns, "
        "or count instead of collecting"
    )


def complaint(connection: duckdb.DuckDBPyConnection, query: str) -> str | None:
    """Why a query is not run, or None: only one statement, and one that reads."""
    try:
        kinds = [statement.type.name for statement in connection.extract_statements(query)]
    except ValueError:  # a kind that DuckDB's Python does not know yet
        kinds = ["OTHER"]
    if not kinds:
        return "there is no query: write a SELECT"
    if len(kinds) > 1:
        return f"there are {len(kinds)} statements: write one SELECT at a time"
    if kinds[0] not in ALLOWED:
        return f"only SELECT runs here, and this is {kinds[0].replace('_', ' ')}: the dataset can be read, not changed"
    return None


def taken(found: duckdb.DuckDBPyConnection, rows: int, characters: int) -> dict[str, Any]:
    """The first rows of a result, until there are too many or they are too long."""
    columns = [(str(name), str(kind)) for name, kind, *_ in found.description or ()]
    kept: list[list[Any]] = []
    left, cut = characters, False
    while not cut and (some := found.fetchmany(200)):
        for row in some:
            cells = [plain(cell, left) for cell in row]
            left -= sum(len(cell) if isinstance(cell, str) else len(str(cell)) for cell in cells)
            if len(kept) == rows or (left < 0 and kept):
                cut = True
                break
            kept.append(cells)
    names, kinds = [name for name, _ in columns], [kind for _, kind in columns]
    return {"columns": names, "types": kinds, "rows": kept, "cut": cut}


def plain(cell: Any, longest: int) -> Any:
    """A value as JSON has it; what JSON has no word for as a text."""
    if isinstance(cell, str):
        return cell if len(cell) <= max(longest, 1000) else f"{cell[: max(longest, 1000)]}…"
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, float | Decimal):
        cell = float(cell)
        return cell if cell - cell == 0 else str(cell)  # NaN and infinity are no JSON
    if isinstance(cell, list | tuple):
        return [plain(one, longest) for one in cell]
    if isinstance(cell, dict):
        return {str(key): plain(one, longest) for key, one in cell.items()}
    return str(cell)


def said(error: Exception) -> str:
    """What DuckDB says, without the picture of the query and without advice that does not hold here."""
    lines = str(error).partition("\nLINE ")[0].partition("Please try installing")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())[:1000]


def main() -> None:
    """Read one task, answer it, and go."""
    line = sys.stdin.readline()
    if not line:
        return  # the server is gone, and there is no task
    task = json.loads(line)
    limit(task["memory"], task["seconds"], task["threads"])
    try:
        text = json.dumps(answer(task), ensure_ascii=True, default=str)
    except MemoryError:
        text = json.dumps({"refused": full(task)})
    sys.stdout.write(text)
    sys.stdout.flush()
    os._exit(0)  # DuckDB's threads may still be at work


if __name__ == "__main__":
    main()
