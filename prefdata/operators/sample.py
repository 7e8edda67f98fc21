"""`sample`: draw responses to the prompts from one model or from a pool of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from prefdata.engines.base import Answer, Capability, Engine, Request
from prefdata.errors import PipelineError
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.render import render
from prefdata.schema import Row, Rows, make_id, response

_T = TypeVar("_T")

_ENDS = frozenset({"stop", "length", "tool"})


async def gather_all(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run all of `work` concurrently and return the results in order.

    Where one fails, the others are first let to finish, so that no paid call is thrown away and none runs on unseen;
    then the first error is raised as it is (not as a group). Cancelling this cancels them all.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^31) that depends on `parts` and on nothing else."""
    return int(make_id("seed", *parts)[:8], 16) & 0x7FFFFFFF


def chosen_from_pool(prompt_id: str, identities: dict[str, str], m: int) -> list[str]:
    """The `m` names whose (prompt, identity) hashes highest: rendezvous hashing.

    Whether one model is drawn for a prompt before another depends on these two alone. So a pool that grows by a model
    gives some prompts that model in the place of one other, and changes nothing else.

    Args:
        prompt_id: the prompt.
        identities: the engines' identities by name.
        m: how many, at most len(identities).
    """
    ranked = sorted(identities, key=lambda name: make_id("rendezvous", prompt_id, identities[name]), reverse=True)
    return sorted(ranked[:m], key=list(identities).index)


@step("sample")
class Sample(GroupStep):
    """Draw responses to every prompt.

    `independent` takes `n` draws from each engine named. `pool` takes `n` draws from each of `m` engines, which are
    chosen for each prompt among all those named.

    The seed of a draw derives from prompt, engine identity and index, and its id from these and the parameters of the
    draw. So one more prompt, draw or model draws nothing else anew.

    How a draw ends: `stop`, `length` and `tool` are kept as the engine reports them, and an empty text is a response
    like any other. A model that declines in words has answered (`stop`). Where the server's content filter stepped in,
    and where the call failed, there is no answer of the model's: the row has finish_reason `error` and no text, is
    hidden in every view, and is asked again: after a failure by the next run, after a refusal by a run with
    `--retry refused`. What came back is in `calls.raw`.
    """

    reads = frozenset({"prompts"})
    writes = frozenset({"responses"})
    narrows = "prompts"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "generate"}

    engine: str | tuple[str, ...] = Field(description="The engine that writes, or a list of them.")
    n: int = Field(4, ge=1, description="How many draws from each engine (pool: from each chosen one).")
    mode: Literal["independent", "pool"] = Field("independent", description="Every engine, or m of them per prompt.")
    m: int | None = Field(None, ge=1, description="pool: how many of the engines each prompt gets; all by default.")
    temperature: float = Field(0.7, ge=0, description="0 is greedy: all draws are then equal.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus of the distribution that is drawn from.")
    max_tokens: int = Field(512, ge=1, description="At most so many new tokens.")
    stop: tuple[str, ...] = Field((), description="Texts that end an answer.")
    system: str | None = Field(None, description="A system text to draw under; it stands before the prompt's own.")

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of the engines, as a list also where there is one."""
        return (self.engine,) if isinstance(self.engine, str) else self.engine

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = self.engines
        if not names:
            raise ValueError("engine is an empty list; name at least one engine")
        if len(set(names)) != len(names):
            raise ValueError(f"engine names one engine twice: {', '.join(names)}")
        if self.m is not None and self.mode != "pool":
            raise ValueError("m needs mode: pool; in mode independent every engine writes")
        if self.m is not None and self.m > len(names):
            raise ValueError(f"m is {self.m}, but the pool has {len(names)} engines")
        return self

    async def run(self, group: Group, context: Context) -> Rows:
        """The draws for each prompt of the group; where a step derived prompts from others, for the derived ones.

        Raises:
            PipelineError: two of the engines are the same model, so that their responses would be one.
        """
        engines = {name: context.engine(name) for name in self.engines}
        identities = {name: engine.identity for name, engine in engines.items()}
        _refuse_twins(engines)
        if self.temperature == 0 and self.n > 1:
            context.log(f"at temperature 0 the {self.n} draws from an engine are equal; n: 1 would do")
        work = []
        for prompt in group.to_answer():
            names = list(engines)
            if self.mode == "pool":
                names = chosen_from_pool(prompt["prompt_id"], identities, self.m or len(names))
            work += [
                self._draw(prompt, engines[name], name, index, context) for name in names for index in range(self.n)
            ]
        return {"responses": await gather_all(work)}

    async def _draw(self, prompt: Row, engine: Engine, name: str, index: int, context: Context) -> Row:
        params: dict[str, Any] = {
            "identity": engine.identity,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }
        if self.stop:
            params["stop"] = list(self.stop)
        if self.system:
            params["system"] = self.system
        row = response(prompt, model=engine.model, params=params, sample_index=index)
        request = Request(
            "generate",
            messages=tuple(self._messages(prompt)),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            seed=seed_of(prompt["prompt_id"], engine.identity, index),
        )

        async def make(revision: int) -> Row:
            return {**row, **_ending(await context.ask(name, request, revision=revision))}

        return await context.once("responses", row["response_id"], make)

    def _messages(self, prompt: Row) -> list[Row]:
        messages = render(prompt)
        if not self.system:
            return messages
        if messages and messages[0]["role"] == "system":
            own = messages[0]
            return [{**own, "content": f"{self.system}\n\n{own['content']}"}, *messages[1:]]
        return [{"role": "system", "content": self.system}, *messages]


def _ending(answer: Answer) -> Row:
    """The columns of a response that come from the answer."""
    reply = answer.reply
    if answer.status != "ok" or reply is None or reply.finish_reason not in _ENDS:
        return {"text": None, "finish_reason": "error", "n_tokens": None, "call_id": answer.call_id}
    text = reply.text or ""
    return {
        "text": text,
        "finish_reason": reply.finish_reason,
        # A server that counts nothing reports 0, which is no count of a text that is there.
        "n_tokens": None if text and not reply.completion_tokens else reply.completion_tokens,
        "call_id": answer.call_id,
    }


def _refuse_twins(engines: dict[str, Engine]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for name, engine in engines.items():
        twin = seen.setdefault((engine.model, engine.identity), name)
        if twin != name:
            raise PipelineError(
                f"sample: the engines {twin!r} and {name!r} are the same model {engine.model!r} with the same "
                f"identity, so their responses would have the same ids; leave one out, or raise n"
            )
