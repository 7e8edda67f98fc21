"""`judge.tests`: the code in a response is run against tests, in the sandbox."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from prefdata.errors import PipelineError
from prefdata.operators.gathering import gather_all
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.schema import Row, Rows, annotation, make_id

from . import sandbox
from .asking import completed, meta
from .cases import Found, Suite, SuiteError, code_of, read_tests, run_tests
from .sandbox import Limits

ANNOTATOR = "rule:tests/python"

_TEXT = "The Python code in it passes the tests of its prompt."
_SHOWN = 600


@step("judge.tests")
class CodeTests(GroupStep):
    """Run the Python code in each response against tests, in a sandbox; the score is the share that passed.

    The tests are the prompt's own, `verifier: {kind: python-tests, spec: ...}`, or those of `spec` for every prompt. A
    spec is Python text with asserts, or an object: `tests` (such text, or a list of statements), `cases` (a list of
    `{call: "double(4)", expect: 8}` or, with `function`, `{args: [4], expect: 8}`), `function` (the name that the code
    must define) and `setup` (statements to begin with). A function `check(candidate)` in the tests is called with the
    function.

    The code is the last block fenced as Python, else the last block, else the whole response. It runs with the standard
    library only. The sandbox is a process without network, without the machine's files, and with limits; see
    docs/sandbox.md. Where the kernel cannot deny the network, the step is refused before anything is asked.

    A response without code, or whose code runs into a limit, fails: 0. Responses to a prompt without tests get no
    annotation; tests that cannot be read give no number: `abstain`.
    """

    reads = frozenset({"prompts", "responses"})
    writes = frozenset({"annotations", "annotators", "criteria"})
    narrows = "responses"

    spec: str | dict[str, Any] | None = Field(None, description="Tests for every prompt; by default, its verifier's.")
    score: Literal["share", "all"] = Field("share", description="The share of tests passed, or 1 for all and else 0.")
    aspect: str = Field("correctness", min_length=1, description="Under which aspect.")
    cpu_seconds: int = Field(5, ge=1, le=3600, description="Of the processor, for each process.")
    wall_seconds: float = Field(10.0, gt=0, le=3600, description="Until it is killed.")
    memory_mb: int = Field(512, ge=64, description="MiB of address space, for each process.")
    disk_mb: int = Field(16, ge=1, description="MiB that it may write.")
    processes: int = Field(8, ge=1, le=256, description="Processes and threads.")
    output_kb: int = Field(256, ge=1, description="KiB that it may print.")
    at_once: int = Field(2, ge=1, le=64, description="How many run beside each other.")
    python: str | None = Field(None, description="The interpreter that runs the code; this one's own by default.")

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        """Refuse when a pipeline is read, before anything is paid for; what the log holds is not to be run."""
        if info.context and "folder" in info.context and (why := sandbox.refusal(self.python)):
            raise ValueError(f"it runs code of models, and here it cannot: {why}")
        if self.spec is not None:
            try:
                read_tests(self.spec)
            except SuiteError as error:
                raise ValueError(f"spec: {error}") from error
        return self

    @property
    def limits(self) -> Limits:
        """What a program may take."""
        return Limits(
            cpu_seconds=self.cpu_seconds,
            wall_seconds=self.wall_seconds,
            memory_mb=self.memory_mb,
            disk_mb=self.disk_mb,
            processes=self.processes,
            output_kb=self.output_kb,
        )

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """As many as programs may run: each waits for one, and the event loop for none."""
        return ThreadPoolExecutor(self.at_once, thread_name_prefix="sandbox")

    def resolved(self) -> dict[str, Any]:
        """The fields that change a score."""
        return {key: value for key, value in super().resolved().items() if key != "at_once"}

    async def run(self, group: Group, context: Context) -> Rows:
        """The scores of each prompt's responses."""
        if why := await asyncio.to_thread(sandbox.refusal, self.python):
            raise PipelineError(f"step {self.name!r}: it runs code of models, and here it cannot: {why}")
        rows = await gather_all(
            self._judge(prompt, response, context)
            for prompt in group.prompts
            if self._spec(prompt) is not None
            for response in group.responses_to(prompt["prompt_id"])
        )
        if not rows:
            return {}
        return {"annotations": rows, "annotators": [{"annotator": ANNOTATOR}], "criteria": [self._criterion]}

    @property
    def _criterion(self) -> Row:
        return {
            "criterion_id": make_id("criterion", self.aspect, _TEXT),
            "name": self.aspect,
            "text": _TEXT,
            "kind": "constraint",
            "scale": {"type": "interval", "min": 0.0, "max": 1.0, "anchors": None},
            "owner": ANNOTATOR,
        }

    async def _judge(self, prompt: Row, response: Row, context: Context) -> Row:
        spec = self._spec(prompt)
        key = self.resolved()
        row = annotation(
            group_id=prompt["group_id"],
            prompt_id=prompt["prompt_id"],
            target_ids=[response["response_id"]],
            protocol="score",
            annotator=ANNOTATOR,
            source="rule",
            aspect=self.aspect,
            key={**key, "version": self.version, "spec": spec, "interpreter": self.python or _version()},
            criterion_id=self._criterion["criterion_id"],
        )

        async def make(revision: int) -> Row:
            found = await self._found(spec, prompt, response["text"] or "", context)
            score = None if found is None else found.all if self.score == "all" else found.share
            return completed(
                row,
                status="abstain" if score is None else "ok",
                scores=None if score is None else [score],
                call_id=None,
                revision=revision,
                text=None if found is None else found.said[:_SHOWN] or None,
                meta=None if found is None else meta(passed=found.passed, tests=found.tests, guards=found.guards),
            )

        return await context.once("annotations", row["annotation_id"], make)

    def _spec(self, prompt: Row) -> Any:
        if self.spec is not None:
            return self.spec
        verifier = prompt.get("verifier") or {}
        return verifier.get("spec") if verifier.get("kind") == "python-tests" else None

    async def _found(self, spec: Any, prompt: Row, text: str, context: Context) -> Found | None:
        try:
            tests: Suite = read_tests(spec)
        except SuiteError as error:
            context.log(f"the tests of the prompt {prompt['prompt_id']} cannot be read: {error}")
            return None
        code = code_of(text)
        if (why := tests.missing(code)) is not None:
            return Found.none(tests, why)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, run_tests, code, tests, self.limits, self.python)
        if found is None:
            context.log(f"the sandbox failed on a response to the prompt {prompt['prompt_id']}")
        return found


def _version() -> str:
    return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
