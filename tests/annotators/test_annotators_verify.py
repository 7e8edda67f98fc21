"""judge.verify: what each kind says of right and wrong responses, and when it says nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import FakeContext
from pydantic import ValidationError

from prefdata.annotators.sandbox.patient import Patient, TooLongError
from prefdata.annotators.verify import Verify
from prefdata.pipeline.step import Group
from prefdata.schema import Row, message, prompt, response

SAMPLES = Path(__file__).parents[2] / "sample_data" / "prompts.jsonl"


def verified(
    kind: str | None, own: object, *texts: str, references: list[str] | None = None, **fields: Any
) -> tuple[list[Row], FakeContext]:
    stored = own if own is None or isinstance(own, str) else json.dumps(own)
    root = prompt(
        [message("user", "Write it.")],
        references=references,
        verifier=None if kind is None else {"kind": kind, "spec": stored},
    )
    responses = [response(root, model=f"m{number}", text=text) for number, text in enumerate(texts)]
    context = FakeContext({})
    made = asyncio.run(Verify(**fields).run(Group(root["group_id"], [root], responses), context))
    by_target = {row["target_ids"][0]: row for row in made.get("annotations", [])}
    return [by_target[one["response_id"]] for one in responses if one["response_id"] in by_target], context


KINDS: list[tuple[str, object, str, str]] = [
    ("exact", {"answer": "no"}, "No.", "Yes."),
    ("exact", "42", "42", "24"),
    ("exact", {"answer": ["a", "b"]}, "b", "c"),
    ("numeric", {"answer": 7}, "There are 7.", "There are 17."),
    ("numeric", {"answer": 3.14, "abs": 0.01}, "3.145", "3.2"),
    ("numeric", 7, "7", "8"),
    ("symbolic", {"answer": "\\frac{1}{2}"}, "$0.5$", "$0.4$"),
    ("json", {"answer": {"a": 1}}, '{"a": 1}', '{"a": 2}'),
    ("json-schema", {"schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
    ("json-schema", {"type": "array", "items": {"type": "integer"}}, "[1]", '["a"]'),
    ("json-schema", {"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}}, "1", "2"),
    ("regex", {"pattern": "b+"}, "abba", "acca"),
    ("regex", {"pattern": "B+", "whole": True, "flags": "i"}, "bbb", "abb"),
    ("regex", {"pattern": "b", "absent": True}, "a", "b"),
    ("regex", "^a", "ab", "ba"),
    ("contains", ["tea"], "tea", "coffee"),
    ("contains", {"contains": "tea"}, "tea", "coffee"),
    ("word-count", {"min": 2, "max": 3}, "one two", "one"),
    ("word-count", 2, "one two", "one"),
    ("char-count", {"max": 3}, "abc", "abcd"),
    ("sentence-count", {"min": 2}, "One. Two.", "One."),
    ("language", "ru", "Это не дорога домой", "This is not the way home"),
    ("language", {"language": "ru"}, "Это не дорога домой", "This is not the way home"),
    ("format", {"pattern": "(- [^\\n]+\\n)- [^\\n]+"}, "- a\n- b\n", "- a"),
    ("format", {"bullets": 2, "no_commas": True}, "- a\n- b", "a, b"),
]


@pytest.mark.parametrize(("kind", "spec", "right", "wrong"), KINDS)
def test_right_is_one_and_wrong_is_zero_with_a_reason(kind: str, spec: object, right: str, wrong: str) -> None:
    (good, bad), context = verified(kind, spec, right, wrong)
    assert (good["status"], good["scores"], good["text"]) == ("ok", [1.0], None)
    assert (bad["status"], bad["scores"]) == ("ok", [0.0])
    assert bad["text"]
    assert (good["annotator"], good["protocol"], good["source"]) == (f"rule:verify/{kind}", "score", "rule")
    of_answers = kind in ("exact", "numeric", "symbolic", "json")
    assert good["aspect"] == ("correctness" if of_answers else "constraints")
    assert not context.logged


class TestSeveral:
    SPEC: ClassVar = [
        {"kind": "word-count", "spec": {"max": 3}},
        {"kind": "contains", "spec": ["tea", "milk"]},
        {"kind": "numeric", "spec": {"answer": 7}},
    ]

    def test_the_share_kept(self) -> None:
        rows, _ = verified("constraints", self.SPEC, "tea milk 7", "tea 7", "only a long text here")
        assert [row["scores"] for row in rows] == [[1.0], [0.75], [0.0]]
        assert rows[1]["text"] == "it does not contain 'milk'"
        assert rows[0]["annotator"] == "rule:verify/constraints"

    def test_or_all(self) -> None:
        rows, _ = verified("constraints", self.SPEC, "tea milk 7", "tea 7", combine="all")
        assert [row["scores"] for row in rows] == [[1.0], [0.0]]

    def test_what_cannot_tell_does_not_count(self) -> None:
        rows, _ = verified("format", {"language": "en", "max_words": 3}, "Ok", "Ok ok ok ok")
        assert [row["scores"] for row in rows] == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("kind", "spec", "says"),
    [
        ("unheard-of", {}, "no kind"),
        ("exact", None, "no answer"),
        ("exact", {"anser": "no"}, "unknown key"),
        ("numeric", {"answer": "seven"}, "not one number"),
        ("numeric", {"answer": 7, "abs": "much"}, "abs is a number"),
        ("symbolic", {"answer": "\\int"}, "cannot be read"),
        ("json", 3, "should be"),
        ("json-schema", {"schema": {"type": "nonsense"}}, "schema is none"),
        ("json-schema", {"schema": {"$schema": []}}, "cannot be used"),
        ("json-schema", {"schema": {"$id": "http://[", "$ref": "a"}}, "cannot be used"),
        ("json-schema", {"schema": {"$ref": "#"}}, "too large"),
        ("json-schema", {"schema": {"$ref": "http://127.0.0.1:9/schema.json"}}, "not in it"),
        ("json-schema", {"schema": {"$ref": "file:///etc/passwd"}}, "not in it"),
        ("regex", {"pattern": "("}, "cannot be read"),
        ("regex", {"pattern": 3}, "should be"),
        ("regex", {"pattern": "a", "flags": "L"}, "letters"),
        ("format", {"wordz": 3}, "no constraint"),
        ("format", [], "should be"),
        ("word-count", {"min": 3, "max": 2}, "above"),
        ("language", "klingon", "one of"),
        ("contains", [], "up to"),
        ("constraints", {"kind": "exact"}, "list"),
        ("constraints", [{"kind": "constraints", "spec": []}], "hold"),
        ("constraints", [{"kind": "exact", "spec": {"answer": "a"}}] * 101, "more than"),
    ],
)
def test_with_a_verifier_that_cannot_be_read_it_gives_no_number(kind: str, spec: object, says: str) -> None:
    (row,), context = verified(kind, spec, "[1]")
    assert (row["status"], row["scores"]) == ("abstain", None)
    assert says in row["text"]
    assert len(context.logged) == 1


@pytest.mark.parametrize(("kind", "spec"), [(None, None), ("python-tests", {"tests": "assert f()"})])
def test_without_anything_to_check_there_is_no_annotation(kind: str | None, spec: object) -> None:
    rows, _ = verified(kind, spec, "[1]")
    assert rows == []


class TestHostilePatterns:
    @pytest.mark.parametrize(
        ("kind", "spec", "text"),
        [
            ("regex", {"pattern": "(a+)+$"}, "a" * 64 + "b"),
            ("format", {"pattern": "(a|a)*b"}, "a" * 64),
            ("json-schema", {"schema": {"type": "string", "pattern": "^(a+)+$"}}, json.dumps("a" * 64 + "b")),
        ],
    )
    def test_one_that_never_ends_is_ended_and_the_next_is_answered(self, kind: str, spec: object, text: str) -> None:
        rows, context = verified(kind, spec, text, seconds=0.2)
        assert rows[0]["status"] == "abstain"
        assert "took longer than 0.2 s" in context.logged[0]
        assert verified(kind, spec, text[:9] + '"' * (kind == "json-schema"), seconds=0.2)[0][0]["status"] == "ok"

    def test_one_process_does_many_and_a_new_one_comes_after_it_is_ended(self) -> None:
        patient = Patient(0.2)
        task = {"do": "regex", "pattern": "b", "text": "abc"}
        assert patient.ask(task) == {"found": True}
        first = patient._process
        assert patient.ask(task) == {"found": True}
        assert patient._process is first
        with pytest.raises(TooLongError):
            patient.ask({"do": "regex", "pattern": "(a+)+$", "text": "a" * 64 + "b"})
        assert patient.ask(task) == {"found": True}
        patient.close()

    def test_one_that_is_large_to_compile_is_ended_too(self) -> None:
        patient = Patient(0.1)
        with pytest.raises(TooLongError):
            patient.ask({"do": "regex", "pattern": "(?:a?){99}" * 90_000, "text": "a"})
        patient.close()


def test_a_reference_is_the_answer_where_there_is_no_spec() -> None:
    rows, _ = verified(None, None, "Max.", "Tom", references=["Max"], check="exact")
    assert [row["scores"] for row in rows] == [[1.0], [0.0]]
    rows, _ = verified("numeric", None, "It is 95.", references=["95"])
    assert rows[0]["scores"] == [1.0]


def test_one_check_for_every_prompt() -> None:
    rows, _ = verified("exact", {"answer": "never"}, "two words", check="word-count", spec={"max": 2}, aspect="brevity")
    assert (rows[0]["scores"], rows[0]["annotator"], rows[0]["aspect"]) == ([1.0], "rule:verify/word-count", "brevity")
    with pytest.raises(ValidationError, match="without check"):
        Verify(spec={"max": 3})
    with pytest.raises(ValidationError, match="needs a spec"):
        Verify(check="regex")


def test_ids_follow_what_was_asked() -> None:
    def id_of(spec: object, **fields: Any) -> str:
        return str(verified("numeric", spec, "7", **fields)[0][0]["annotation_id"])

    plain = id_of({"answer": 7})
    assert plain == id_of({"answer": 7}, seconds=9)
    assert len({plain, id_of({"answer": 8}), id_of({"answer": 7}, abs=1), id_of({"answer": 7}, combine="all")}) == 4


def test_the_verifiers_of_the_sample_data_say_what_is_right() -> None:
    """Every reference passes its prompt's verifier, and the answer to another prompt passes none of the answers'."""
    lines = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    held = [line for line in lines if line.get("verifier") and line["verifier"]["kind"] != "python-tests"]
    assert len(held) > 20
    for line in held:
        verifier = line["verifier"]
        texts = [*line["references"], "An answer to another question; it is 123456."]
        rows, context = verified(verifier["kind"], verifier["spec"], *texts)
        assert [row["scores"] for row in rows[:-1]] == [[1.0]] * len(line["references"]), line["id"]
        assert rows[-1]["scores"] != [1.0] or verifier["spec"].keys() <= {"max_words"}, line["id"]
        assert not context.logged
