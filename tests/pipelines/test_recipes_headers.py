"""The header of a recipe: what it says, what it may not say, and that it changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from prefdata.errors import PipelineError, PrefdataError
from prefdata.pipeline.recipe import header_of
from prefdata.pipeline.spec import expand, load, parse, recipes

ROOT = Path(__file__).resolve().parent.parent.parent
PAPERS = {
    *("ultrafeedback", "fellowship", "rationales", "self-reference"),
    *("cdr", "flr", "delta-learning", "single-vs-multi"),
    *("coig-p", "dove", "helpsteer2", "multipref-routing"),
}
ALL = sorted(recipes())

STEPS = """\
engines:
  small: {kind: scripted}
steps:
  - ingest: {path: "sample:prompts.jsonl"}
  - sample: {engine: small, n: 2}
"""
HEADER = """\
recipe:
  title: Two draws
  paper: {title: On drawing twice, year: 2024, id: "arXiv:2401.00001"}
  needs: [a pencil]
  approximates: [the second draw]
"""


def spec(text: str) -> object:
    return parse(text, file="mine.yaml", folder=Path(), name="mine")


def test_a_header_is_kept() -> None:
    recipe = parse(HEADER + STEPS, file="mine.yaml", folder=Path(), name="mine").recipe
    assert recipe is not None and recipe.paper is not None
    assert (recipe.title, recipe.needs, recipe.approximates) == ("Two draws", ("a pencil",), ("the second draw",))
    assert recipe.cited == "On drawing twice (2024), arXiv:2401.00001"
    assert parse(STEPS, file="mine.yaml", folder=Path(), name="mine").recipe is None


MISTAKES = [
    ("needs: [a pencil]", "need: [a pencil]", "mine.yaml, line 4: recipe: unknown key 'need'; did you mean 'needs'?"),
    ("year: 2024", "yaer: 2024", "mine.yaml, line 3: recipe: unknown key 'paper.yaer'; did you mean 'year'?"),
    ("  title: Two draws\n", "", "mine.yaml, line 1: recipe: the key 'title' is missing"),
    ("title: On drawing twice, ", "", "mine.yaml, line 3: recipe: the key 'paper.title' is missing"),
    ("year: 2024", "year: soon", "line 3: recipe: key 'paper.year' is 'soon': Input should be a valid integer"),
    ("[a pencil]", "a pencil", "line 4: recipe: key 'needs' is 'a pencil': "),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES)
def test_a_mistake_in_a_header_is_a_sentence(right: str, wrong: str, said: str) -> None:
    assert right in HEADER
    with pytest.raises(PipelineError, match=re.escape(said)):
        spec(HEADER.replace(right, wrong) + STEPS)


def test_a_header_is_a_mapping() -> None:
    with pytest.raises(
        PipelineError, match=r"mine.yaml, line 1: recipe is a mapping with the keys title, paper, needs"
    ):
        spec("recipe: two draws\n" + STEPS)


def test_a_header_changes_no_fingerprint(tmp_path: Path) -> None:
    from prefdata.pipeline.fingerprint import resolve
    from prefdata.pipeline.run import make_engines

    found = []
    for text in (STEPS, HEADER + STEPS):
        pipeline = parse(text, file="mine.yaml", folder=tmp_path, name="mine")
        found.append([step.fingerprint for step in resolve(pipeline, make_engines(pipeline))])
    assert found[0] == found[1]


def test_a_model_that_is_not_there_is_answered_with_what_the_recipe_needs(tmp_path: Path) -> None:
    from prefdata.pipeline.plan import plan

    text = HEADER + STEPS.replace("{kind: scripted}", "{kind: transformers, model: ./nowhere/at/all}")
    with pytest.raises(PrefdataError, match=r"engine 'small': there is no model '\./nowhere/at/all'") as caught:
        plan(parse(text, file="mine.yaml", folder=tmp_path, name="mine"), tmp_path / "ds")
    assert str(caught.value).endswith("\nmine needs: a pencil")


def test_a_variable_set_to_nothing_counts_as_not_set_where_there_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDATA_EMPTY", "")
    assert expand("a ${PREFDATA_EMPTY:-b} c", "here") == "a b c"
    assert expand("a ${PREFDATA_EMPTY} c", "here") == "a  c"


# Every recipe


def test_the_recipes_are_there() -> None:
    assert PAPERS | {"hello", "people", "quickstart"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_says_what_it_is(name: str) -> None:
    recipe, description = header_of(recipes()[name])
    assert recipe is not None and description
    assert len(recipe.title) < 90 and not recipe.title.endswith(".")
    assert (recipe.paper is not None) == (name in PAPERS)
    if recipe.paper is not None:
        assert recipe.paper.year is not None and re.fullmatch(r"arXiv:\d{4}\.\d{5}", str(recipe.paper.id))
        assert recipe.needs and recipe.approximates


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_requires_no_variable_but_the_judge_s(name: str) -> None:
    text = recipes()[name].read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+)\}", "\n".join(line.partition("# ")[0] for line in text.splitlines())))
    assert required in (set(), {"JUDGE_URL", "JUDGE_MODEL"})
    recipe, _ = header_of(recipes()[name])
    assert recipe is not None
    assert {word for word in ("JUDGE_URL", "JUDGE_MODEL") if word in " ".join(recipe.needs)} == required


@pytest.mark.parametrize("name", sorted(PAPERS | {"people"}))
def test_the_report_is_written_before_a_file_can_turn_out_empty(name: str) -> None:
    kinds = [next(iter(step)) for step in yaml.safe_load(recipes()[name].read_text(encoding="utf-8"))["steps"]]
    assert kinds.index("report") < kinds.index("export")


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_a_recipe_of_a_paper_names_no_scripted_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = yaml.safe_load(recipes()[name].read_text(encoding="utf-8"))
    kinds = {engine["kind"] for engine in document["engines"].values()}
    assert kinds <= {"transformers", "openai", "sentence-transformers"}
    for engine in document["engines"].values():
        if engine["kind"] == "openai":
            assert (engine["base_url"], engine["model"]) == ("${JUDGE_URL}", "${JUDGE_MODEL}")
        else:
            assert re.fullmatch(r"\$\{\w+:-[\w./-]+\}", engine["model"])


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_is_read_without_a_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a recipe is read, and something connects")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("JUDGE_MODEL", "any")
    pipeline = load(name)
    assert pipeline.recipe is not None and pipeline.steps
    kinds = [step.kind for step in pipeline.steps]
    if name in PAPERS:
        assert kinds[0] == "ingest"
        # Where a judge said too little for a single pair the export fails; the report says why, and is there by then.
        assert kinds.index("report") < kinds.index("export")


def test_the_page_on_recipes_lists_them_and_their_variables() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in recipes().values()]
    variables = {found for text in texts for found in re.findall(r"\$\{(\w+)", text)}
    assert [name for name in [*recipes(), *sorted(variables)] if f"`{name}`" not in page] == []


def test_a_recipe_without_its_judge_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_URL", raising=False)
    with pytest.raises(PipelineError, match=r"JUDGE_URL is not set.*\nultrafeedback needs: a judge, .*prefdata serve"):
        load("ultrafeedback")
