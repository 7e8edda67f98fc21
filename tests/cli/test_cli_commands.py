"""What each command does and says; a user's mistake is one sentence on standard error and exit code 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

import prefdata

Command = Callable[..., Any]
STEPS: list[Any] = [
    {"ingest": {"path": "sample:prompts.jsonl", "limit": 4}},
    {"sample": {"engine": "writer", "n": 3}},
    {"judge.compare": {"engine": "judge"}},
    {"aggregate.bradley_terry": {}},
    {"select.where": {"table": "responses", "keep": "n_tokens > 25"}},
    {"pair": {}},
]
ENGINES = {"writer": {"kind": "scripted", "model": "w"}, "judge": {"kind": "scripted", "model": "j", "prose_every": 5}}


@pytest.fixture
def made(command: Command, tmp_path: Path) -> Path:
    """A pipeline's file, run once into runs/mine."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS}, sort_keys=False))
    said = command("run", "mine.yaml")
    assert (said.code, said.out) == (0, "runs/mine is up to date with mine\n")
    return tmp_path / "runs" / "mine"


def test_run_says_what_each_step_made_and_then_that_nothing_is_left(command: Command, made: Path) -> None:
    again = command("run", "mine.yaml")
    lines = again.err.splitlines()
    assert again.code == 0 and {"sample: up to date", "judge.compare: up to date", "pair: up to date"} <= set(lines)
    more = command("run", "mine.yaml", "--set", "ingest.limit=5", "--dataset", "runs/mine")
    assert "sample: 3 responses, 3 calls (1 groups" in more.err and "judge.compare: 6 annotations" in more.err
    variant = command("run", "mine.yaml", "--as", "wide", "--dataset", "runs/mine", "--set", "pair.rule=all_pairs")
    assert variant.out == "runs/mine is up to date with wide\n"
    assert {name for name, _ in prefdata.open(made).snapshot.plans} == {"mine", "wide"}
    limited = command("run", "mine.yaml", "--limit", 2, "--dataset", "other")
    assert limited.code == 0 and prefdata.open("other").prompts.collect().height == 2


def test_run_retries_what_it_is_told_to(command: Command, made: Path) -> None:
    unread = command("sql", made, "select count(*) as n from annotations where status = 'unparsed'")
    count = int("".join(filter(str.isdigit, unread.out.split("╡")[1])))
    assert count
    said = command("run", "mine.yaml", "--retry", "unparsed,refused")
    assert said.code == 0 and f"{count} annotations" not in said.err
    assert prefdata.open(made).annotations.collect()["revision"].to_list().count(2) == count


def test_a_budget_that_is_spent_is_exit_code_3(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS}, sort_keys=False))
    said = command("run", "mine.yaml", "--budget", "300tokens")
    assert said.code == 3 and "the budget is spent" in said.err
    assert "what was done is kept in runs/mine; run the same command to go on" in said.err
    assert not said.out
    assert command("run", "mine.yaml").code == 0


def test_a_failed_step_is_exit_code_1(command: Command, made: Path) -> None:
    said = command("run", "mine.yaml", "--set", "select.where.keep=n_tokens + 3")
    assert said.code == 1 and "Traceback" not in said.err + said.out
    last = said.err.splitlines()[-1]
    assert last.startswith("error: step 'select.where'") and last.count("select.where") == 1


def test_plan(command: Command, made: Path) -> None:
    before = prefdata.open(made).snapshot.number
    nothing = command("plan", "mine.yaml")
    assert nothing.code == 0 and "calls in all: 0 " in nothing.out and not nothing.err
    more = command("plan", "mine.yaml", "--set", "sample.n=4")
    rows = {line.split()[0]: line.split()[1:] for line in more.out.splitlines() if line[:1].islower()}
    assert rows["sample"][:3] == ["writer", "4", "0"] and rows["judge.compare"][:3] == ["judge", "24", "0"]
    assert "calls in all: 28 " in more.out
    bound = command("plan", "mine.yaml", "--set", "judge.compare.reask=1", "--set", "engines.judge.model=k")
    assert "calls in all: <= 48 " in bound.out
    assert (
        "calls in all: 36 " in command("plan", "mine.yaml", "--dataset", "elsewhere", "--set", "sample.top_p=0.5").out
    )
    assert prefdata.open(made).snapshot.number == before and not Path("elsewhere").exists()


def test_show(command: Command, made: Path) -> None:
    said = command("show", made, "--pairs", 1)
    assert said.code == 0 and not said.err
    assert f"commit {prefdata.open(made).snapshot.number}: 4 prompts" in said.out
    for part in ("judge.compare@", "n_tokens > 25", "unparsed", "tokens in", "hidden, because", "chosen", "rejected"):
        assert part in said.out
    first = command("show", made, "--at", 2)
    assert first.out.startswith("commit 2: 4 prompts, 0 responses") and "not run yet" in first.out


def test_texts_from_outside_are_no_markup(command: Command, tmp_path: Path) -> None:
    """Rich markup in a prompt is shown as it stands, not obeyed."""
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "What is [bold]this[/nonsense]?"}))
    steps = [{"ingest": {"path": "p.jsonl"}}, *STEPS[1:4], STEPS[5]]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": steps}, sort_keys=False))
    assert command("run", "mine.yaml").code == 0
    assert "What is [bold]this[/nonsense]?" in command("show", "runs/mine", "--pairs", 1).out
    assert "[/nonsense]" in command("sql", "runs/mine", "select messages from prompts").out


def test_sql(command: Command, made: Path) -> None:
    said = command("sql", made, "select source, count(*) as n from annotations group by 1 order by 1")
    assert said.code == 0 and "consensus" in said.out and "judge" in said.out
    assert command("sql", made, "select count(*) from responses", "--at", 2).out.split("╡")[1].count("0") == 1


def test_export(command: Command, made: Path) -> None:
    said = command("export", made, "--format", "trl-pairs-conversational", "--out", "out/pairs.parquet")
    table = pq.read_table("out/pairs.parquet")
    assert said.code == 0 and f"{table.num_rows} rows in out/pairs.parquet" in said.err
    assert {"prompt", "chosen", "rejected"} <= set(table.column_names)
    assert Path("out/README.md").is_file()
    assert command("export", made, "--format", "lists", "--out", "out/l.parquet", "--from", "pair").code == 0


def test_show_says_why_there_are_no_pairs(command: Command, made: Path) -> None:
    command("run", "mine.yaml", "--dataset", "none", "--set", "pair.min_gap=1000")
    assert "no pairs to show: no preferences are live" in command("show", "none", "--pairs", 2).out
    assert "no pairs to show" not in command("show", "none").out + command("show", made, "--pairs", 2).out


def test_an_export_of_nothing_says_which_nothing(command: Command, made: Path) -> None:
    export = ("--format", "lists", "--out", "l.parquet")
    before = command("export", made, *export)
    kept = Path("l.parquet").read_bytes()
    assert before.code == 0
    command("run", "mine.yaml", "--dataset", "none", "--set", "pair.min_gap=1000")
    live = command("export", "none", *export)
    assert live.code == 1 and "no preferences are live: 'pair' made none, or all of them were dropped" in live.err
    assert "l.parquet, which an earlier export wrote, was left as it was" in live.err
    assert Path("l.parquet").read_bytes() == kept
    narrowed = command("export", made, *export, "--from", "sample")
    assert narrowed.code == 1 and "`from` names 'sample', and no preferences are made there" in narrowed.err
    steps = [*STEPS, {"export": {"format": "lists", "path": "l.parquet", "from": ["pair"]}}]
    Path("from.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": steps}, sort_keys=False))
    empty = command("run", "from.yaml", "--set", "pair.min_gap=1000")
    assert empty.code == 1 and "no preferences are live: 'pair' made none, or all" in empty.err
    (Path("bare.yaml")).write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS[:2]}, sort_keys=False))
    command("run", "bare.yaml")
    bare = command("export", "runs/bare", "--format", "lists", "--out", "other.parquet")
    assert bare.code == 1 and "no step makes preferences, and there are no imported or human" in bare.err
    assert "earlier export" not in bare.err


@pytest.mark.parametrize("path", [".", "README.md", "~/x.parquet", "../x.parquet", "sub"])
def test_a_pipeline_exports_to_files_of_its_kind(command: Command, tmp_path: Path, path: str) -> None:
    steps = [*STEPS, {"export": {"format": "lists", "path": path}}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": steps}, sort_keys=False))
    said = command("plan", "mine.yaml")
    assert said.code == 1 and "step 'export'" in said.err and "file" in said.err


def test_report(command: Command, made: Path) -> None:
    said = command("report", made)
    assert (said.code, said.out) == (0, "runs/mine/report.html\n") or said.out.endswith("runs/mine/report.html\n")
    assert (made / "report.html").is_file()
    assert "no annotator here is called human:x*" in command("report", made, "--reference", "human:x*").err
    assert "no annotator" not in command("report", made, "--reference", "judge:*").err
    as_json = json.loads(command("report", made, "--json").out)
    assert {"flow", "cost", "annotators", "agreement"} <= set(as_json)


def test_recipes(command: Command) -> None:
    listed = command("recipes")
    assert listed.code == 0 and "hello" in listed.out and "quickstart" in listed.out
    shown = command("recipes", "show", "hello")
    assert "judge.compare" in shown.out
    Path("copy.yaml").write_text(shown.out)
    assert command("plan", "copy.yaml").out.splitlines()[-1] == command("plan", "hello").out.splitlines()[-1]


def test_cache(command: Command, made: Path) -> None:
    stats = command("cache", "stats")
    assert stats.code == 0 and "36 answers" in stats.out
    assert command("cache", "prune", "--all").out == "36 answers forgotten\n"
    assert "0 answers" in command("cache", "stats").out
    # What a dataset holds is not asked again for that.
    assert "up to date" in command("run", "mine.yaml").err
    assert "0 answers" in command("cache", "stats").out


MISTAKES = [
    (("run", "helo"), "no file and no recipe 'helo'; did you mean 'hello'?"),
    (("run", "mine.yaml", "--set", "sampel.n=3"), "there is no step 'sampel'; did you mean 'sample'?"),
    (("run", "mine.yaml", "--budget", "ten"), "a budget is an amount and a unit"),
    (("run", "mine.yaml", "--retry", "unread"), "what may be asked again is abstain, failed, refused"),
    (("run", "mine.yaml", "--dataset", "full"), "full is not empty and holds no dataset: name a new folder"),
    (("plan", "mine.yaml", "--set", "sample.n=many"), "mine.yaml, line 15, step 'sample': key 'n' is 'many'"),
    (("plan", "mine.yaml", "--set", "select.where.keep=n_token > 3"), "does not have; did you mean 'n_tokens'?"),
    (("export", "runs/mine", "--format", "lists", "--out", "x"), "name a file that ends in .parquet"),
    (("show", "nowhere"), "nowhere is no dataset"),
    (("show", "runs/mine", "--at", "99"), "there is no commit 99"),
    (("show", "runs/mine", "--pipeline", "mime"), "this dataset has no pipeline 'mime' (there are: mine)"),
    (("sql", "runs/mine", "selec 1"), "the query failed: Parser Error"),
    (("sql", "runs/mine", "select * from response"), "(tables: prompts, responses, annotations, "),
    (("export", "runs/mine", "--format", "trl", "--out", "x"), "there is no format 'trl'; did you mean 'trl-pairs'?"),
    (("export", "runs/mine", "--format", "lists", "--out", "x", "--from", "pear"), "no live step is called 'pear'"),
    (("export", "runs/mine", "--format", "lists", "--out", "x", "--view", "easy"), "has no view 'easy'"),
    (("report", "runs/mine", "--pipeline", "mime"), "has no pipeline 'mime'"),
    (("recipes", "show", "helo"), "there is no recipe 'helo'; did you mean 'hello'?"),
    (("import", "hhrlhf", "x", "ds"), "there is no format 'hhrlhf' to read; did you mean 'hh-rlhf'?"),
    (("import", "hh-rlhf", "nowhere", "ds"), "there is no file nowhere"),
    (("import", "prompts", "mine.yaml", "ds"), "mine.yaml"),
    (("import", "prefdata", "nowhere", "ds"), "nowhere is no dataset"),
    (("import", "prefdata", "runs/mine", "runs/mine"), "cannot be imported into itself"),
    (("models", "fetch", "gpt"), "no model is called 'gpt'"),
    (("cache", "prune"), "say what to forget"),
    (("train",), "the key 'data' is missing"),
    (("train", "--data", "mine.yaml", "--model", "gpt", "--out", "m"), "there is no model 'gpt'"),
    (("train", "--data", "x", "--model", "gpt", "--out", "m"), "there is no file x: `data` names an exported"),
    (("train", "nowhere.yaml"), "nowhere.yaml cannot be read"),
    (("train", "--set", "lr"), "--set lr: it is written key=value"),
    (("train", "--set", "lr=[1"), "--set lr=[1: the value is not YAML"),
    (("train", "--data", "mine.yaml", "--model", "full", "--out", "m"), "the folder full holds no model"),
    (("train", "--data", "x", "--out", "m", "--set", "learning_rat=1"), "did you mean 'learning_rate'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_sentence(
    command: Command, tmp_path: Path, request: pytest.FixtureRequest, arguments: tuple[str, ...], sentence: str
) -> None:
    if "runs/mine" in arguments:
        request.getfixturevalue("made")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engines": ENGINES, "steps": STEPS}, sort_keys=False))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    said = command(*arguments)
    assert said.code == 1 and not said.out
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and sentence in said.err
    assert not (tmp_path / "ds").exists() and not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_to(command: Command, made: Path) -> None:
    said = command("export", made, "--format", "lists", "--out", "mine.yaml/x.parquet")
    assert said.code == 1 and said.err.startswith("error: ") and "mine.yaml" in said.err and "Traceback" not in said.err
