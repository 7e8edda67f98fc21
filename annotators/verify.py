"""`judge.verify`: responses checked by a program against what their prompt says a right answer is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.schema import Row, Rows, annotation, make_id, storable

from . import answers, constraints
from .answers import SpecError, Tolerance, Verdict
from .asking import completed
from .sandbox.patient import Patient, TooLongError

Kind = Literal[
    "exact",
    "numeric",
    "symbolic",
    "json",
    "json-schema",
    "regex",
    "contains",
    "word-count",
    "char-count",
    "sentence-count",
    "language",
    "format",
    "constraints",
]

_TEXTS: dict[Kind, str] = {
    "exact": "It is the right answer, word for word.",
    "numeric": "It gives the right number.",
    "symbolic": "It gives the right expression.",
    "json": "Its JSON is the right one.",
    "json-schema": "It is JSON of the form asked for.",
    "regex": "It has the form asked for.",
    "contains": "It contains what was asked for.",
    "word-count": "It has the length asked for.",
    "char-count": "It has the length asked for.",
    "sentence-count": "It has the length asked for.",
    "language": "It is in the language asked for.",
    "format": "It has the form asked for.",
    "constraints": "It keeps all that was asked of its form and content.",
}
_OF_ANSWERS = frozenset({"exact", "numeric", "symbolic", "json"})
_BY_REFERENCE = frozenset({"exact", "numeric", "symbolic"})
_COUNTS = {"word-count": "words", "char-count": "characters", "sentence-count": "sentences"}
_ELSEWHERE = ("python-tests",)
"""Verifiers that `judge.tests` runs."""
_MOST = 100
_SHOWN = 500


@step("judge.verify")
class Verify(GroupStep):
    """Check each response by the prompt's own `verifier: {kind, spec}`, or by `check` and `spec` for every prompt.

    Of answers: `exact` (`{answer: text or list, case: true}`; the prompt's references where there is no spec),
    `numeric` (`{answer: 7, abs: 0.01, rel: 0}`), `symbolic` (`{answer: "\\\\frac{1}{2}"}`; LaTeX or plain), `json`
    (`{answer: ...}`). Of form: `json-schema` (`{schema: ...}`), `regex` (`{pattern, whole, flags}`), `contains`
    (texts), `word-count`, `char-count`, `sentence-count` (`{min, max}`), `language` (`de`), and `format`, an object of
    constraints such as `{max_words: 50, bullets: 3, no_commas: true, contains: [tea], pattern: "..."}`. A list of
    `{kind, spec}` (kind `constraints`) asks for several.

    The score is 1 or 0, or with `combine: mean` the share of constraints kept. Where an answer is not 1, `text` says
    why. A response without an answer is wrong: 0. Responses to a prompt without a verifier get no annotation; a
    verifier that cannot be read gives no number: `abstain`. Patterns and schemas come from files and are tried in a
    process of their own, for `seconds` each.
    """

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    check: Kind | None = Field(None, description="Check every prompt so; by default each by its own verifier.")
    spec: Any = Field(None, description="What `check` is told, for every prompt.")
    combine: Literal["mean", "all"] = Field("mean", description="Of several constraints: the share kept, or all or 0.")
    aspect: str | None = Field(None, description="Under which aspect; correctness of answers, else constraints.")
    abs: float = Field(0.0, ge=0, description="numeric: how far an answer may be off.")
    rel: float = Field(1e-6, ge=0, lt=1, description="numeric: how far it may be off, as a share of the right one.")
    seconds: float = Field(2.0, gt=0, le=60, description="What one pattern or schema may take of the processor.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.check is None and self.spec is not None:
            raise ValueError("spec is given without check; say what kind of check it is for")
        if self.check is not None and self.check not in _BY_REFERENCE and self.spec is None:
            raise ValueError(f"the check {self.check} needs a spec")
        return self

    @cached_property
    def _patient(self) -> Patient:
        return Patient(self.seconds)

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        rows = await gather_all(
            self._judge(prompt, response, context)
            for prompt in group.prompts
            if self._has_any(prompt, context)
            for response in group.responses_to(prompt["prompt_id"])
        )
        if not rows:
            return {}
        kinds = sorted({row["annotator"].rpartition("/")[2] for row in rows})
        return {
            "annotations": rows,
            "annotators": [{"annotator": _annotator(kind)} for kind in kinds],
            "criteria": [self._criterion(kind) for kind in kinds if kind in _TEXTS],
        }

    def _criterion(self, kind: str) -> Row:
        name, text = self._aspect(kind), _TEXTS[cast(Kind, kind)]
        return {
            "criterion_id": make_id("criterion", name, text),
            "name": name,
            "text": text,
            "kind": "constraint",
            "scale": {"type": "interval", "min": 0.0, "max": 1.0, "anchors": None},
            "owner": _annotator(kind),
        }

    def _aspect(self, kind: str) -> str:
        return self.aspect or ("correctness" if kind in _OF_ANSWERS or kind not in _TEXTS else "constraints")

    def _verifier(self, prompt: Row) -> tuple[str, Any]:
        if self.check is not None:
            return self.check, self.spec
        verifier = prompt.get("verifier") or {}
        return str(verifier.get("kind") or "none"), verifier.get("spec")

    def _has_any(self, prompt: Row, context: Context) -> bool:
        """Whether there is anything to check."""
        kind, _ = self._verifier(prompt)
        if kind == "none":
            context.log("a prompt without a verifier has nothing to check")
        return kind != "none" and kind not in _ELSEWHERE

    async def _judge(self, prompt: Row, response: Row, context: Context) -> Row:
        kind, spec = self._verifier(prompt)
        references = list(prompt.get("references") or []) if spec is None else []
        tolerance = {"abs": self.abs, "rel": self.rel} if kind in ("numeric", "constraints") else {}
        shown = kind if kind in _TEXTS else "unknown"
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=_annotator(shown),
            source="rule",
            aspect=self._aspect(shown),
            key=[self.version, kind, spec, references, self.combine, tolerance],
            criterion_id=self._criterion(shown)["criterion_id"] if shown in _TEXTS else None,
        )

        async def make(revision: int) -> Row:
            score, said = await self._scored(kind, spec, references, prompt, response["text"] or "", context)
            return completed(
                row,
                status="abstain" if score is None else "ok",
                scores=None if score is None else [score],
                call_id=None,
                revision=revision,
                text=storable(said[:_SHOWN]) or None,
            )

        return await context.once("annotations", row["annotation_id"], make)

    async def _scored(
        self, kind: str, spec: Any, references: Sequence[str], prompt: Row, text: str, context: Context
    ) -> tuple[float | None, str]:
        try:
            verdicts = await asyncio.to_thread(self._verdicts, kind, _value(spec), references, text)
        except SpecError as error:
            said = f"the verifier ({kind}) cannot be used: {error}"
            context.log(f"prompt {prompt['prompt_id']}: {said}")
            return None, said
        told = [verdict for verdict in verdicts if verdict.ok is not None]
        said = "; ".join(verdict.said for verdict in verdicts if verdict.said)
        if not told:
            return None, said
        kept = sum(bool(verdict.ok) for verdict in told)
        return (float(kept == len(told)) if self.combine == "all" else kept / len(told)), said

    def _verdicts(self, kind: str, spec: Any, references: Sequence[str], text: str) -> list[Verdict]:
        """One for each constraint."""
        if kind == "constraints" or (isinstance(spec, list) and spec and isinstance(spec[0], Mapping)):
            return self._several(spec, text)
        if kind == "format":
            found = constraints.read(spec)
            if len(found) > _MOST:
                raise SpecError(f"it has {len(found)} constraints, more than the {_MOST} that are checked")
            return [
                self._pattern(text.strip(), {"pattern": value, "whole": True})
                if key == "pattern"
                else self._schema(text, value)
                if key == "schema"
                else constraints.check(text, key, value)
                for key, value in found.items()
            ]
        if kind in _COUNTS:
            return [constraints.check(text, _COUNTS[kind], spec)]
        if kind == "language":
            asked = spec.get("language", spec.get("answer")) if isinstance(spec, Mapping) else spec
            return [constraints.check(text, "language", asked)]
        if kind == "contains":
            return self._contains(spec, text)
        if kind == "regex":
            return [self._pattern(text, spec if isinstance(spec, Mapping) else {"pattern": spec})]
        if kind == "json-schema":
            held = isinstance(spec, Mapping) and isinstance(spec.get("schema"), (Mapping, bool)) and len(spec) == 1
            return [self._schema(text, spec["schema"] if held else spec)]
        if kind in _OF_ANSWERS:
            return [self._answer(kind, spec, references, text)]
        raise SpecError(f"there is no kind {kind!r}; there are {', '.join(_TEXTS)}")

    def _several(self, spec: Any, text: str) -> list[Verdict]:
        if not isinstance(spec, list) or not all(isinstance(one, Mapping) and "kind" in one for one in spec):
            raise SpecError("it should be a list of {kind, spec}")
        if len(spec) > _MOST:
            raise SpecError(f"it has {len(spec)} entries, more than the {_MOST} that are checked")
        if any(one["kind"] == "constraints" for one in spec):
            raise SpecError("constraints do not hold constraints")
        return [
            verdict for one in spec for verdict in self._verdicts(str(one["kind"]), _value(one.get("spec")), (), text)
        ]

    def _contains(self, spec: Any, text: str) -> list[Verdict]:
        wanted = spec.get("contains", spec.get("answer")) if isinstance(spec, Mapping) else spec
        listed = wanted if isinstance(wanted, list) else [wanted]
        if not listed or len(listed) > _MOST:
            raise SpecError(f"contains is a text or a list of up to {_MOST} texts")
        return [constraints.check(text, "contains", one) for one in listed]

    def _answer(self, kind: str, spec: Any, references: Sequence[str], text: str) -> Verdict:
        held = isinstance(spec, Mapping)
        if held and (unknown := sorted(set(spec) - {"answer", "answers", "case", "abs", "rel"})):
            raise SpecError(f"it has an unknown key {unknown[0]!r}; it knows answer, answers, case, abs, rel")
        wanted = (spec.get("answer", spec.get("answers")) if held else spec) if spec is not None else list(references)
        if kind == "json":
            if not held or "answer" not in spec:
                raise SpecError("it should be {answer: ...}")
            return answers.json_equal(text, wanted)
        listed = wanted if isinstance(wanted, list) else [wanted]
        if not listed or any(one is None for one in listed):
            raise SpecError("it holds no answer, and the prompt has no reference")
        if kind == "numeric":
            near = Tolerance(_share(spec, "abs", self.abs), _share(spec, "rel", self.rel))
            return answers.numeric(text, [answers.number_of(one) for one in listed], near)
        texts = [one if isinstance(one, str) else json.dumps(one) for one in listed]
        if kind == "symbolic":
            return answers.symbolic(text, texts)
        return answers.exact(text, texts, case=bool(held and spec.get("case")))

    def _pattern(self, text: str, spec: Mapping[str, Any]) -> Verdict:
        pattern, flags = spec.get("pattern"), spec.get("flags", "")
        if not isinstance(pattern, str) or set(spec) - {"pattern", "whole", "flags", "absent"}:
            raise SpecError("it should be {pattern: text, whole: true or false, flags: letters of imsx, absent: ...}")
        if not isinstance(flags, str) or set(flags) - set("imsx"):
            raise SpecError(f"flags are letters of imsx, not {flags!r}")
        answer = self._asked(
            {"do": "regex", "pattern": pattern, "flags": flags, "whole": bool(spec.get("whole")), "text": text}
        )
        if spec.get("absent"):
            return Verdict(False, "it matches the pattern") if answer["found"] else Verdict(True)
        return Verdict(True) if answer["found"] else Verdict(False, f"it does not match {pattern[:80]}")

    def _schema(self, text: str, schema: Any) -> Verdict:
        if not isinstance(schema, (Mapping, bool)):
            raise SpecError("it should be {schema: ...}")
        found, value = answers.json_in(text)
        if not found:
            return Verdict(False, "it holds no JSON")
        answer = self._asked({"do": "schema", "schema": schema, "value": value})
        return Verdict(True) if answer["found"] else Verdict(False, answer["said"])

    def _asked(self, task: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._patient.ask(task)
        except (TooLongError, RecursionError) as error:
            raise SpecError(str(error)) from error
        if "error" in answer:
            raise SpecError(answer["error"])
        return answer


def _annotator(kind: str) -> str:
    return f"rule:verify/{kind}"


def _value(spec: Any) -> Any:
    """A spec as it lies in the table: JSON text, or a text that means itself."""
    if not isinstance(spec, str):
        return spec
    try:
        found = json.loads(spec)
    except (ValueError, RecursionError):
        return spec
    return found if isinstance(found, (dict, list)) or type(found) is int else spec


def _share(spec: Any, key: str, otherwise: float) -> float:
    value = spec.get(key, otherwise) if isinstance(spec, Mapping) else otherwise
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise SpecError(f"{key} is a number from 0, not {value!r}")
    return float(value)
