"""The SQL box: what a query can reach, and what it may take. Every refusal is a sentence, and none has the content."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from prefdata.dataset import Dataset
from prefdata.errors import DataError
from prefdata.schema import annotation, message, prompt, response
from prefdata.ui.explorer.explore import Explorer
from prefdata.ui.explorer.sandbox import Limits, Result, Sandbox, Tables, run_apart

SECRET = "argon2-of-a-password"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    folder = tmp_path_factory.mktemp("box")
    dataset = Dataset.create(folder / "ds")
    asked = prompt([message("user", "Why?")])
    written = [response(asked, model="m", text=f"answer {n}", key=n) for n in range(3)]
    said = annotation(
        group_id=asked["group_id"],
        prompt_id=asked["prompt_id"],
        target_ids=[row["response_id"] for row in written],
        protocol="rank",
        annotator="human:a",
        source="human",
        scores=[3.0, 2.0, 1.0],
    )
    rows = {"prompts": [asked], "responses": written, "annotations": [said]}
    dataset.add_import(rows, source="toy", fields={})
    (folder / "ds" / "labels.sqlite").write_text(SECRET)
    (folder / "secret.csv").write_text(f"a\n{SECRET}\n")
    (folder / "secret.json").write_text(f'{{"a": "{SECRET}"}}\n')
    with duckdb.connect(str(folder / "other.duckdb")) as other:
        other.execute(f"CREATE TABLE t AS SELECT '{SECRET}' AS a")
        other.execute(f"COPY t TO '{folder / 'secret.parquet'}'")
    made = Explorer(dataset, folder / "copies")
    yield made
    made.close()


def test_it_reads_the_live_tables(explorer: Explorer) -> None:
    found = explorer.sandbox.run("SELECT text, n_tokens, 1.5 AS x FROM responses ORDER BY text")
    assert (found.columns, found.types) == (["text", "n_tokens", "x"], ["VARCHAR", "INTEGER", "DECIMAL(2,1)"])
    assert found.rows == [[f"answer {n}", None, 1.5] for n in range(3)]
    assert not found.cut
    assert explorer.sandbox.run("SELECT count(*), sum(score) FROM flat WHERE annotator = 'human:a'").rows == [[3, 6.0]]
    assert explorer.sandbox.run("SELECT count(*) FROM calls").rows == [[0]]
    assert explorer.sandbox.run("FROM token_scores").rows == []
    assert {"prompts", "flat"} <= {name for (name,) in explorer.sandbox.run("SHOW TABLES").rows}
    assert explorer.sandbox.run("EXPLAIN SELECT 1").rows


def apart(explorer: Explorer, query: str) -> Result:
    """Without the process that waits, which has read its program already."""
    with explorer.tables(query) as tables:
        return run_apart(query, tables, Limits())


FILES = [
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM read_text('{folder}/secret.csv')",
    "SELECT * FROM read_blob('{folder}/secret.csv')",
    "SELECT * FROM read_json('{folder}/secret.json')",
    "SELECT * FROM read_parquet('{folder}/secret.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/secret.parquet')",
    "SELECT * FROM read_duckdb('{folder}/other.duckdb')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM '{folder}/secret.parquet'",
    "SELECT * FROM 'secret.parquet'",
    "SELECT * FROM '{folder}/other.duckdb'",
    "SELECT * FROM read_text('{folder}/ds/labels.sqlite')",
    "SELECT * FROM read_text('{folder}/ds/log/00000001.json')",
    "SELECT * FROM read_parquet('{folder}/ds/parts/prompts/*.parquet')",
    "SELECT * FROM sqlite_scan('{folder}/ds/labels.sqlite', 'people')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/dev/stdin')",
    "SELECT (SELECT content FROM read_text('{folder}/secret.csv')) FROM prompts",
    "SELECT * FROM query('SELECT * FROM read_text(''{folder}/secret.csv'')')",
    "SELECT * FROM query_table('{folder}/secret.csv')",
    "SELECT getenv('HOME')",
    "SELECT * FROM read_csv('http://127.0.0.1:{port}/x.csv')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM limits",
    "SELECT * FROM task",
    "WITH x AS (COPY prompts TO '{folder}/out.csv') SELECT * FROM x",
    "SELECT * FROM enable_logging(storage = 'file', storage_config = {{'path': '{folder}/out'}})",
    "EXPLAIN ANALYZE COPY prompts TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('{folder}/secret.csv')",
]

CHANGES = [
    "COPY prompts TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO PROGRAM 'touch {folder}/out'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{folder}/other.duckdb' AS other",
    "ATTACH '{folder}/ds/labels.sqlite' (TYPE sqlite)",
    "DETACH texts",
    "USE texts",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "RESET disabled_filesystems",
    "SET GLOBAL memory_limit = '100GB'",
    "SET temp_directory = '{folder}'",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA memory_limit = '100GB'",
    "CALL enable_logging(storage = 'file')",
    "CREATE TABLE z AS SELECT 1",
    "CREATE TEMP TABLE z (i INT)",
    "CREATE SECRET (TYPE s3)",
    "CREATE MACRO m() AS 1",
    "INSERT INTO said.annotations SELECT * FROM said.annotations",
    "UPDATE texts.prompts SET source = 'x'",
    "DELETE FROM texts.prompts",
    "DROP TABLE texts.prompts",
    "DROP VIEW prompts",
    "ALTER TABLE texts.prompts ADD COLUMN x INT",
    "TRUNCATE texts.prompts",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "PREPARE q AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY prompts TO '{folder}/out.csv'",
    "",
    "-- nothing",
]


@pytest.mark.slow
def test_it_reads_nothing_else_and_changes_nothing(explorer: Explorer) -> None:
    folder = explorer.dataset.path.parent
    explorer.sandbox.run("SELECT count(*) FROM responses")  # the explorer's own copy is made before we look
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        asked = [query.format(folder=folder, port=port) for query in (*FILES, *CHANGES)]

        def refusal(query: str) -> str:
            with pytest.raises(DataError) as refused:
                explorer.sandbox.run(query)
            return str(refused.value)

        with ThreadPoolExecutor(2) as two:
            for query, said in zip(asked, two.map(refusal, asked), strict=True):
                assert SECRET not in said and "root:" not in said and "Traceback" not in said, query
                assert said[0].islower() and "INSTALL" not in said, (query, said)
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody came
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_kernel_would_not_let_it_either(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second door: with DuckDB's own locks left open (a program without them), no file is opened or written."""
    program = tmp_path / "unlocked.py"
    text = Path(run_apart.__globals__["PROGRAM"]).read_text()
    assert text.count("*LOCKS") == 1
    program.write_text(text.replace("*LOCKS", "").replace("if kinds[0] not in ALLOWED", "if False"))
    monkeypatch.setattr("prefdata.ui.explorer.sandbox.PROGRAM", program)
    folder = explorer.dataset.path.parent
    for query in (f"SELECT * FROM read_text('{folder}/secret.csv')", f"COPY prompts TO '{tmp_path}/out.csv'"):
        with pytest.raises(DataError) as refused:
            apart(explorer, query)
        assert SECRET not in str(refused.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_long_query_is_ended_and_so_is_its_process(explorer: Explorer) -> None:
    limits = Limits(seconds=1.0)
    with pytest.raises(DataError, match="longer than 1 s"):
        explorer.sandbox.run("SELECT sum(a.range) FROM range(1000000000000) a, range(3) b", limits)
    endless = "WITH RECURSIVE t(i) AS (SELECT 1 UNION SELECT (i + 1) % 7 FROM t WHERE i >= 0) SELECT max(i) FROM t"
    assert explorer.sandbox.run(endless, limits).rows == [[6]]  # UNION ends by itself; UNION ALL does not
    with pytest.raises(DataError, match=r"was ended|memory"):
        explorer.sandbox.run(endless.replace("UNION", "UNION ALL"), limits)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT list(a.range::VARCHAR || repeat('x', 100)) FROM range(100000000) a",
        "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
        "SELECT repeat('x', 4000000000)",
        "SELECT count(*) FROM (SELECT DISTINCT a.range * 7 FROM range(200000000) a)",
        "SELECT repeat('x', 20000000) FROM range(1000)",
    ],
)
def test_a_greedy_query_is_ended(explorer: Explorer, query: str) -> None:
    with pytest.raises(DataError, match=r"memory|failed"):
        explorer.sandbox.run(query, Limits(memory=64))


def test_what_is_too_much_is_cut_and_says_so(explorer: Explorer) -> None:
    found = explorer.sandbox.run("SELECT range FROM range(100000)")
    assert found.cut and len(found.rows) == 10_000
    exact = explorer.sandbox.run("SELECT range FROM range(10000)")
    assert not exact.cut and len(exact.rows) == 10_000
    wide = explorer.sandbox.run("SELECT repeat('x', 1000) FROM range(1000)", Limits(characters=50_000))
    assert wide.cut and 40 <= len(wide.rows) <= 60
    long = explorer.sandbox.run("SELECT repeat('x', 1000000)", Limits(characters=50_000))
    assert len(long.rows[0][0]) == 50_001 and long.rows[0][0].endswith("…")


def test_odd_values_are_shown(explorer: Explorer) -> None:
    found = explorer.sandbox.run(
        "SELECT 'nan'::DOUBLE, NULL, [1, NULL], {'a': DATE '2000-01-01'}, 170141183460469231731687303715884105727, "
        "'\\x00'::BLOB, TIMESTAMPTZ '2000-01-01 00:00:00+00', INTERVAL 1 DAY, MAP {'k': 1}, '\u00e9\u2028'"
    )
    row = found.rows[0]
    assert row[:5] == ["nan", None, [1, None], {"a": "2000-01-01"}, 170141183460469231731687303715884105727]
    assert row[6].startswith("2000-01-01 00:00:00") and row[9] == "é\u2028"


def test_wrong_queries_get_a_sentence(explorer: Explorer) -> None:
    with pytest.raises(DataError, match=r"nowhere.*tables: prompts, "):
        explorer.sandbox.run("SELECT * FROM nowhere")
    with pytest.raises(DataError, match="syntax error"):
        explorer.sandbox.run("SELEKT 1")
    with pytest.raises(DataError, match="failed"):
        explorer.sandbox.run("SELECT 'x'::INT")


def test_the_environment_is_not_handed_on(explorer: Explorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    program = tmp_path / "tells.py"
    program.write_text(
        "import json, os, sys; sys.stdin.readline();"
        "print(json.dumps({'columns': ['e'], 'types': ['V'], 'rows': [[str(dict(os.environ))]], 'cut': False}))"
    )
    monkeypatch.setattr("prefdata.ui.explorer.sandbox.PROGRAM", program)
    assert SECRET not in apart(explorer, "SELECT 1").rows[0][0]


def test_a_process_that_dies_is_a_sentence(explorer: Explorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import os; os.abort()")
    monkeypatch.setattr("prefdata.ui.explorer.sandbox.PROGRAM", program)
    with pytest.raises(DataError, match="was ended"):
        apart(explorer, "SELECT 1")


def test_no_more_than_two_run_at_once() -> None:
    from contextlib import nullcontext

    box = Sandbox(lambda query: nullcontext(Tables({}, [], [])), Limits(seconds=1.0), at_once=1)
    slow = "SELECT sum(a.range) FROM range(1000000000000) a, range(3) b"
    said: list[str] = []

    def ask(limits: Limits) -> None:
        try:
            box.run(slow, limits)
        except DataError as error:
            said.append(str(error))

    first = threading.Thread(target=ask, args=(Limits(seconds=1.5),))
    first.start()
    threading.Event().wait(0.3)
    ask(Limits(seconds=0.2))
    first.join()
    assert "other queries are running" in said[0] and "longer than" in said[1]
    assert box.run("SELECT 1").rows == [[1]]  # the place is free again
    box.close()


def test_the_process_that_waits_is_used_once_and_replaced_when_it_died(explorer: Explorer) -> None:
    box = explorer.sandbox
    box.run("SELECT 1")
    first = box._waiting
    assert first is not None and first.poll() is None
    box.run("SELECT 1")
    assert box._waiting is not first and first.wait(5) is not None
    waiting = box._waiting
    assert waiting is not None and waiting.stdin is not None
    waiting.stdin.close()  # as when the server is gone
    assert waiting.wait(10) == 0
    assert box.run("SELECT 1").rows == [[1]]


def test_the_store_of_labels_is_no_table(explorer: Explorer) -> None:
    """Nothing of the store is known to a query: not its tables, not its path."""
    for table in ("people", "sessions", "invitations", "labels"):
        with pytest.raises(DataError, match="does not exist"):
            explorer.sandbox.run(f"SELECT * FROM {table}")
    names = {row[0] for row in explorer.sandbox.run("SELECT DISTINCT database_name FROM duckdb_tables()").rows}
    assert names <= {"texts", "said", "calls", "token_scores", "memory"}
