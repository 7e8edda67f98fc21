"""`sample`: draw responses to the prompts from one model or from a pool of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from prefdata.engines.base import Answer, Capability
from prefdata.operators.gathering import gather_all
from prefdata.operators.same_text import normalised
from prefdata.operators.sample_joint import joint_draws
from prefdata.operators.sample_members import Member, MemberFields, chosen_from_pool, members_of, refuse_twins
from prefdata.operators.sample_systems import Principle, check_sources, draw_system, principles_of
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group, GroupStep
from prefdata.render import render
from prefdata.schema import Row, Rows, canonical_json, response

_ENDS = frozenset({"stop", "length", "tool"})

_LATER = ("members", "systems", "systems_by_source")
"""Fields that came after datasets had been made: one that is empty is left out of the fingerprint."""

Mode = Literal["independent", "pool", "joint", "ladder", "anchor"]


@step("sample")
class Sample(GroupStep):
    """Draw responses to every prompt.

    - `independent`: `n` draws from each engine named.
    - `pool`: `n` draws from each of `m` engines, which are chosen for each prompt among all those named.
    - `joint`: each engine writes `n` mutually different answers in one call.
    - `ladder`: one answer of each engine, greedy unless `temperature` says otherwise; name the strongest first, and
      `pair.ladder` makes the preferences (Delta learning).
    - `anchor`: one answer of the first engine, the teacher, and `n` of each other one.

    In the place of `engine`, `members` names engines with parameters of their own: one model at two temperatures, or
    under two system texts, is two members. Pools choose among members.

    The seed of a draw derives from prompt, member and index, and its id from these and the parameters of the draw. So
    one more prompt, draw, model or member draws nothing else anew.

    `systems` holds system texts with weights: one is drawn for each draw of a response, by the hash of prompt, member
    and index (of a principle with several texts one paraphrase). It stands in `params`; the prompt stays without it,
    so that nothing is trained or judged under it. A member with a `system` of its own keeps that.

    Where a prompt got fewer different texts than were asked for (whitespace apart), all are kept, the log says so, and
    `meta` of its responses has `short_group`.

    How a draw ends: `stop`, `length` and `tool` are kept as the engine reports them, and an empty text is a response
    like any other. A model that declines in words has answered (`stop`). Where the server's content filter stepped in,
    where the call failed, and where a joint answer cannot be read, there is no answer of the model's: the row has
    finish_reason `error` and no text, is hidden in every view, and is asked again: after a failure by the next run,
    after a refusal by a run with `--retry refused`. What came back is in `calls.raw`.
    """

    reads = frozenset({"prompts"})
    writes = frozenset({"responses"})
    narrows = "prompts"
    engine_fields: ClassVar[Mapping[str, Capability]] = {"engine": "generate", "member_engines": "generate"}

    engine: str | tuple[str, ...] | None = Field(
        None, description="The engine that writes, or a list of them. This or `members`."
    )
    members: Annotated[tuple[MemberFields, ...], BeforeValidator(members_of)] = Field(
        (),
        description="Engines with parameters of their own: {engine, temperature, top_p, max_tokens, stop, system}.",
    )
    n: int = Field(4, ge=1, description="How many draws from each engine (pool: from each chosen one; ladder: 1).")
    mode: Mode = Field("independent", description="Who writes, and how many; see above.")
    m: int | None = Field(None, ge=1, description="pool: how many of the engines each prompt gets; all by default.")
    temperature: float = Field(
        0.7, ge=0, description="0 is greedy: all draws are then equal. Of a ladder 0 by default."
    )
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus of the distribution that is drawn from.")
    max_tokens: int = Field(512, ge=1, description="At most so many new tokens for each answer.")
    stop: tuple[str, ...] = Field((), description="Texts that end an answer.")
    system: str | None = Field(None, description="A system text to draw under; it stands before the prompt's own.")
    systems: Annotated[dict[str, Principle], BeforeValidator(principles_of)] = Field(
        default_factory=dict,
        description="System texts of which each draw gets one: a list, text: weight, or name: {weight, texts}.",
    )
    systems_by_source: dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]] = Field(
        default_factory=dict, description="Other weights for the prompts of a source: {source: {name: weight}}."
    )

    @model_validator(mode="before")
    @classmethod
    def _ladder_is_greedy(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and fields.get("mode") == "ladder":
            return {"n": 1, "temperature": 0.0, **fields}
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_members()
        if self.m is not None and self.mode != "pool":
            raise ValueError(f"m needs mode: pool; in mode {self.mode} every engine writes")
        count = len(self.all_members)
        if self.m is not None and self.m > count:
            raise ValueError(f"m is {self.m}, but the pool has {count} {'members' if self.members else 'engines'}")
        if self.mode in ("ladder", "anchor") and count < 2:
            what = "the strongest first" if self.mode == "ladder" else "the teacher first"
            raise ValueError(f"mode {self.mode} needs at least two engines, {what}; there is {count}")
        if self.mode == "ladder" and self.n != 1:
            raise ValueError(f"n is {self.n}, but in mode ladder each engine writes one answer; leave n out")
        if self.mode == "joint" and self.n < 2:
            raise ValueError("n is 1, but in mode joint one call writes n different answers; n: 2 is the least")
        if self.systems and self.system:
            raise ValueError("give system or systems, not both: of systems one is drawn for each response")
        if self.systems_by_source and not self.systems:
            raise ValueError("systems_by_source gives other weights to what stands in systems, which is missing")
        check_sources(self.systems_by_source, self.systems)
        return self

    def _check_members(self) -> None:
        if self.engine is not None and self.members:
            raise ValueError("give engine or members, not both; a member {engine: NAME} is that engine alone")
        if self.engine is None and not self.members:
            raise ValueError("it names nobody who writes: give engine (a name or a list of names) or members")
        if self.engine == ():
            raise ValueError("engine is an empty list; name at least one engine")
        names = [member.engine for member in self.all_members]
        if not self.members and len(set(names)) != len(names):
            raise ValueError(f"engine names one engine twice: {', '.join(names)}")

    @property
    def all_members(self) -> tuple[MemberFields, ...]:
        """Who writes, also where engines alone are named."""
        if self.members:
            return self.members
        names = (self.engine,) if isinstance(self.engine, str) else self.engine or ()
        return tuple(MemberFields(engine=name) for name in names)

    @property
    def member_engines(self) -> tuple[str, ...] | None:
        """The engines that the members name, in their order; None where there are no members."""
        return tuple(member.engine for member in self.members) or None

    def resolved(self) -> dict[str, Any]:
        """The fields; members without their engines' names, for which the identities stand."""
        fields = super().resolved()
        fields["members"] = [member.own() for member in self.members]
        empty = {name for name in _LATER if not fields[name]} | ({"engine"} if self.members else set())
        return {name: value for name, value in fields.items() if name not in empty}

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Self:
        """The step of these resolved fields; its engines' names are their identities."""
        given = dict(fields)
        engines = given.pop("member_engines", None)
        if engines:
            own = zip(engines, given["members"], strict=True)
            given["members"] = [{"engine": engine, **parameters} for engine, parameters in own]
        return cls.model_validate(given)

    async def run(self, group: Group, context: Context) -> Rows:
        """The draws for each prompt of the group; where a step derived prompts from others, for the derived ones.

        Raises:
            PipelineError: two of the members are the same, so that their responses would be one.
        """
        defaults = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "stop", "system")}
        members = [Member.of(fields, context.engine(fields.engine), defaults) for fields in self.all_members]
        refuse_twins(members, [text for one in self.systems.values() for text in one.texts])
        greedy = any(member.temperature == 0 for member in members)
        if greedy and self.n > 1 and self.mode != "joint" and not self.systems:
            context.log(f"at temperature 0 the {self.n} draws from an engine are equal; n: 1 would do")
        made = await gather_all(self._answers(prompt, members, context) for prompt in group.to_answer())
        return {"responses": [row for rows in made for row in rows]}

    async def _answers(self, prompt: Row, members: Sequence[Member], context: Context) -> list[Row]:
        if self.mode == "pool":
            places = {str(place): member.key for place, member in enumerate(members)}
            chosen = chosen_from_pool(prompt["prompt_id"], places, self.m or len(members))
            members = [members[int(place)] for place in chosen]
        counts = [1 if self.mode == "anchor" and place == 0 else self.n for place in range(len(members))]
        if self.mode == "joint":
            several = await gather_all(self._joint(prompt, member, context) for member in members)
            made = [one for drawn in several for one in drawn]
        else:
            made = await gather_all(
                self._draw(prompt, member, index, context)
                for member, count in zip(members, counts, strict=True)
                for index in range(count)
            )
        return noted(made, sum(counts), context)

    async def _joint(self, prompt: Row, member: Member, context: Context) -> list[tuple[Row, str | None]]:
        principle, system = self._system(prompt, member, 0)
        messages = under_system(render(prompt), system)
        return [(row, principle) for row in await joint_draws(prompt, member, messages, system, self.n, context)]

    async def _draw(self, prompt: Row, member: Member, index: int, context: Context) -> tuple[Row, str | None]:
        principle, system = self._system(prompt, member, index)
        row = response(prompt, model=member.engine.model, params=member.params(system), sample_index=index)
        request = member.request(prompt, under_system(render(prompt), system), index)

        async def make(revision: int) -> Row:
            return {**row, **ending(await context.ask(member.name, request, revision=revision))}

        return await context.once("responses", row["response_id"], make), principle

    def _system(self, prompt: Row, member: Member, index: int) -> tuple[str | None, str | None]:
        """Name and text of the system text of a draw."""
        if not self.systems or member.system:
            return None, member.system
        return draw_system(self.systems, self.systems_by_source, prompt, member.key, index)


def under_system(messages: list[Row], system: str | None) -> list[Row]:
    """The messages with a system text before their own."""
    if not system:
        return messages
    if messages and messages[0]["role"] == "system":
        own = messages[0]
        return [{**own, "content": f"{system}\n\n{own['content']}"}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


def ending(answer: Answer) -> Row:
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


def noted(made: Sequence[tuple[Row, str | None]], asked: int, context: Context) -> list[Row]:
    """The responses to one prompt, with what a reader may want to know in `meta`; nothing computes with it.

    Args:
        made: each response, and the name of the principle that it was drawn under.
        asked: how many were asked for. Fewer different texts are a short group; what failed is none of it, since the
            next run asks it again.
        context: is told of short groups.
    """
    texts = [normalised(row["text"] or "") for row, _ in made if row["finish_reason"] != "error"]
    wanted = asked - (len(made) - len(texts))
    facts: Row = {}
    if len(set(texts)) < wanted:
        facts["short_group"] = {"different": len(set(texts)), "asked": wanted}
        # Without the prompt's id, so that it is said once and not for each prompt.
        context.log(f"a prompt has {len(set(texts))} different responses of {wanted} (short_group in their meta)")
    rows: list[Row] = []
    for row, principle in made:
        said = {**facts, "principle": principle} if principle is not None else facts
        rows.append({**row, "meta": canonical_json(said) if said else None})
    return rows
