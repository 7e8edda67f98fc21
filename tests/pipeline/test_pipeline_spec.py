"""A mistake in a pipeline is a sentence that names file, line, step and key, and suggests the nearest name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefdata.errors import PipelineError
from prefdata.pipeline.plan import plan
from prefdata.pipeline.run import run
from prefdata.pipeline.spec import load, parse

GOOD = """\
engines:
  small: {kind: scripted}
  server: {kind: openai, model: m, base_url: "http://127.0.0.1:9/v1"}
steps:
  - ingest: {path: "sample:prompts.jsonl"}
  - sample: {engine: small, n: 2}
  - judge.compare: {engine: small}
  - aggregate.bradley_terry: {}
  - pair: {rule: best_worst}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, sets: list[str] | None = None) -> str:
    """What loading and planning say."""
    with pytest.raises(PipelineError) as caught:
        plan(write(folder, text), folder / "ds", sets=sets or [])
    assert not (folder / "ds").exists()
    return str(caught.value).replace(f"{folder}/", "")


def test_the_pipeline_that_the_mistakes_are_made_in_is_right(tmp_path: Path) -> None:
    pipeline = load(write(tmp_path, GOOD))
    names = [step.name for step in pipeline.steps]
    assert names == ["ingest", "sample", "judge.compare", "aggregate.bradley_terry", "pair"]
    assert pipeline.where(pipeline.steps[1]).endswith("mine.yaml, line 6, step 'sample'")


STEPS = [
    ("n: 2", "max_token: 2", "line 6, step 'sample': unknown key 'max_token'; did you mean 'max_tokens'?"),
    ("n: 2", "xyz: 2", "line 6, step 'sample': unknown key 'xyz'; it knows engine, from, m, max_tokens, "),
    ("judge.compare", "judge.compair", "line 7: there is no step 'judge.compair'; did you mean 'judge.compare'?"),
    ("n: 2", "n: many", "line 6, step 'sample': key 'n' is 'many': Input should be a valid integer"),
    ("n: 2", "n: 0", "line 6, step 'sample': key 'n' is 0: Input should be greater than or equal to 1"),
    ("n: 2", "n: 2, n: 3", "line 6: 'n' stands there twice"),
    ("best_worst", "best_wurst", "line 9, step 'pair': key 'rule' is 'best_wurst': "),
    ("best_worst", "best_wurst", "; did you mean 'best_worst'?"),
    ('{path: "sample:prompts.jsonl"}', "{}", "line 5, step 'ingest': the key 'path' is missing"),
    ("  - pair", "  - sample: {engine: small}\n  - pair", "lines 6 and 9 are both called 'sample'; give one"),
    ("rule: best_worst", "name: labels", "line 9: a step cannot be called 'labels'"),
    ("rule: best_worst", "name: a@b", "line 9: a step cannot be called 'a@b'"),
    ("{rule: best_worst}", "[best_worst]", "line 9, step 'pair': its keys are written {key: value}"),
    ("  - pair", "  - split: {}\n    pair", "line 9: a step is written `- kind: {key: value}`"),
    ("engine: small, n", "engine: smal, n", "line 6, step 'sample': there is no engine 'smal'; did you mean 'small'?"),
    ("engine: small}", "engine: big}", "line 7, step 'judge.compare': there is no engine 'big'"),
    ("terry: {}", "terry: {from: [pair]}", "from names 'pair', which comes only on line 9; a step reads earlier ones"),
    ("terry: {}", "terry: {from: [judge]}", "from names 'judge', which is no earlier step; did you mean 'judge.comp"),
    ("terry: {}", "terry: {from: [sample]}", "from names 'sample', which makes no annotations that aggregate.bradle"),
    ("terry: {}", "terry: {from: judge.compare}", "line 8, step 'aggregate.bradley_terry': key 'from' is 'judge.com"),
    ("rule: best_worst", "reads: [other]", "line 9, step 'pair': reads names the pipeline 'other', which this datas"),
    ("engine: small}", "engine: small, card: helpfullness}", "line 7, step 'judge.compare': key 'card' is 'helpfull"),
    ("judge.compare: {e", "judge.likelihood: {e", None),
    ("compare: {engine: small}", "likelihood: {engine: server}", "line 7, step 'judge.likelihood': it needs the cap"),
    ("compare: {engine: small}", "likelihood: {engine: server}", "logprobs, which the engine 'server' does not have"),
    ("sample:prompts", "sample:nowhere", "step 'ingest': there is no 'sample:nowhere.jsonl'"),
    ("  - pair", "  - pair: {name: x", "line 9: this is not YAML"),
    ("  - pair", "\t- pair", "line 9: this is not YAML"),
    ("rule: best_worst", "rule: *anchor", "line 9: this is not YAML: found undefined alias"),
    ("engines:", "engine:", "line 1: unknown key 'engine'; did you mean 'engines'?"),
    ("kind: scripted", "kind: scriptd", "line 2, engine 'small': there is no kind 'scriptd'; did you mean 'scripted'?"),
    (
        "kind: scripted",
        "kind: scripted, modle: x",
        "line 2, engine 'small': there is no key 'modle'; did you mean 'm",
    ),
    ("{kind: scripted}", "scripted", "line 2, engine 'small': it is written small: {kind: ..., key: value}"),
    ("{kind: scripted}", '{kind: scripted, model: "${NO_SUCH}"}', "line 2: the environment variable NO_SUCH is not"),
    ("steps:", "plugins: [nowhere.py]\nsteps:", "line 4: plugins: there is no file nowhere.py"),
    ("steps:", "plugins: mine.py\nsteps:", "line 4: plugins is a list of Python files"),
    (GOOD, "", "it has no steps"),
    (GOOD, "engines: {}\n", "it has no steps"),
    (GOOD, "- sample\n", "a pipeline is a mapping with the keys description, recipe, plugins, engines, steps"),
    (GOOD, "steps: sample\n", "line 1: steps is a list"),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), STEPS)
def test_a_mistake_is_a_sentence(tmp_path: Path, right: str, wrong: str, sentence: str | None) -> None:
    assert right in GOOD
    text = GOOD.replace(right, wrong, 1)
    if sentence is None:
        assert plan(write(tmp_path, text), tmp_path / "ds").calls
        return
    said = refusal(tmp_path, text)
    assert sentence in said
    assert "\n" not in said and "pydantic" not in said


SETS = [
    ("sampel.n=3", "--set sampel.n=3: there is no step 'sampel'; did you mean 'sample'?"),
    ("sample.n", "--set sample.n: it is written step.key=value"),
    ("n=3", "--set n=3: it is written step.key=value"),
    ("sample.n=many", "step 'sample': key 'n' is 'many'"),
    ("sample.m_tokens=3", "step 'sample': unknown key 'm_tokens'; did you mean 'max_tokens'?"),
    ("sample.n=[1", "--set sample.n=[1: the value is not YAML: "),
    ("engines.smal.model=x", "--set engines.smal.model=x: there is no engine 'smal'; did you mean 'small'?"),
    ("engines.small.modle=x", "engine 'small': there is no key 'modle'; did you mean 'model'?"),
    ("engines.small=3", "--set engines.small=3: for an engine it is written engines.NAME.key=value"),
    ("engines.small.kind.x=3", "'kind' of engine 'small' is 'scripted', which has no keys"),
]


@pytest.mark.parametrize(("assignment", "sentence"), SETS)
def test_a_bad_assignment_is_a_sentence(tmp_path: Path, assignment: str, sentence: str) -> None:
    said = refusal(tmp_path, GOOD, [assignment])
    assert sentence in said and "\n" not in said


def test_assignments_are_read_as_yaml(tmp_path: Path) -> None:
    sets = ["judge.compare.orders=one", "sample.engine=[small]", "engines.small.price.prompt=2", "sample.stop=['#']"]
    pipeline = load(write(tmp_path, GOOD), sets=sets)
    made = {str(step.name): step.model_dump() for step in pipeline.steps}
    assert (made["judge.compare"]["orders"], made["sample"]["engine"]) == ("one", ("small",))
    assert made["sample"]["stop"] == ("#",) and pipeline.engines["small"]["price"] == {"prompt": 2}


def test_environment_variables_and_their_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWS", "3")
    text = GOOD.replace("n: 2", 'n: "${DRAWS}", max_tokens: "${MOST:-7}"')
    sample = load(write(tmp_path, text)).steps[1].model_dump()
    assert (sample["n"], sample["max_tokens"]) == (3, 7)
    assert "${DRAWS}" in load(write(tmp_path, text)).source


def test_a_name_that_is_neither_file_nor_recipe() -> None:
    with pytest.raises(PipelineError, match=r"no recipe 'helo'; did you mean 'hello'\? \(`prefdata recipes` lists"):
        load("helo")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PipelineError, match=r"mine\.yaml cannot be read as text"):
        load(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("option", "sentence"), [("retry", "--retry unread: what may be asked again"), ("budget", "a budget")]
)
def test_a_bad_option_is_a_sentence(tmp_path: Path, option: str, sentence: str) -> None:
    value: object = ["unread"] if option == "retry" else "ten dollars"
    with pytest.raises(PipelineError, match=sentence):
        run(write(tmp_path, GOOD), tmp_path / "ds", **{option: value})  # type: ignore[arg-type]


def test_a_key_within_a_key_is_named_whole() -> None:
    steps = "steps:\n  - judge.contamination: {protected: {bench: {%s}}}\n"
    for entry, said in (
        ("column: x", "'protected.bench.path' is missing"),
        ("path: x, colum: y", "'protected.bench.colum'"),
    ):
        with pytest.raises(PipelineError, match=re.escape(said)):
            parse(steps % entry, file="p.yaml", folder=Path(), name="p")
