"""Who answers: an engine and the parameters it is asked with are one member, and a pool has members, not models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefdata.engines.base import Engine, Request
from prefdata.errors import PipelineError
from prefdata.operators.drawing import seed_of
from prefdata.pipeline.registry import nearest
from prefdata.schema import Row, canonical_json, make_id


class MemberFields(BaseModel):
    """A member as it is written in a pipeline; what is left out is the step's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = Field(description="The engine that writes.")
    temperature: float | None = Field(None, ge=0, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus of the distribution that is drawn from.")
    max_tokens: int | None = Field(None, ge=1, description="At most so many new tokens.")
    stop: tuple[str, ...] | None = Field(None, description="Texts that end an answer.")
    system: str | None = Field(None, min_length=1, description="A system text of its own.")

    def own(self) -> dict[str, Any]:
        """The parameters that it sets itself."""
        return self.model_dump(mode="json", exclude={"engine"}, exclude_none=True)


def members_of(value: object) -> object:
    """What stands under `members:` as fields of members; the name of an engine alone is a member as well.

    Raises:
        ValueError: it is no list of these, or a key is unknown; says which member.
    """
    if not isinstance(value, list | tuple):
        raise ValueError("members is a list of {engine: NAME, temperature: ..., ...}")
    made: list[object] = []
    for number, one in enumerate(value, start=1):
        if isinstance(one, str):
            one = {"engine": one}
        if isinstance(one, Mapping):
            known = list(MemberFields.model_fields)
            for key in one:
                if key not in known:
                    hint = nearest(str(key), known) or f"; it has {', '.join(known)}"
                    raise ValueError(f"member {number} has the unknown key {key!r}{hint}")
            if "engine" not in one:
                raise ValueError(f"member {number} names no engine")
        elif not isinstance(one, MemberFields):
            raise ValueError(f"member {number} is neither {{engine: NAME, ...}} nor the name of an engine: {one!r:.80}")
        made.append(one)
    return made


@dataclass(frozen=True)
class Member:
    """An engine with the parameters that it is asked with.

    Attributes:
        name: of the engine, as the pipeline calls it.
        engine: the engine.
        key: what draws and pools go by: the engine's identity and the parameters that the member sets itself.
        temperature: 0 is greedy.
        top_p: nucleus, in (0, 1].
        max_tokens: at most so many new tokens for each answer.
        stop: texts that end an answer.
        system: a system text; None for none.
    """

    name: str
    engine: Engine
    key: str
    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    system: str | None = None

    @classmethod
    def of(cls, fields: MemberFields, engine: Engine, defaults: Mapping[str, Any]) -> Member:
        """The member of these fields.

        Args:
            fields: as written.
            engine: the engine that they name.
            defaults: the step's temperature, top_p, max_tokens, stop and system.
        """
        own = fields.own()
        # One that sets nothing itself is the engine alone: a list of engines draws as it did before members were.
        key = f"{engine.identity} {canonical_json(own)}" if own else engine.identity
        given = {name: getattr(fields, name) for name in own}
        return cls(fields.engine, engine, key, **{**defaults, **given})

    def params(self, system: str | None) -> dict[str, Any]:
        """What changes an answer, for `responses.params` and the id.

        Args:
            system: the system text that it is drawn under.
        """
        params: dict[str, Any] = {
            "identity": self.engine.identity,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }
        if self.stop:
            params["stop"] = list(self.stop)
        if system:
            params["system"] = system
        return params

    def request(self, prompt: Row, messages: Iterable[Row], index: int) -> Request:
        """The request for one draw; its seed depends on prompt, member and index alone."""
        return Request(
            "generate",
            messages=tuple(messages),
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            seed=seed_of(prompt["prompt_id"], self.key, index),
        )


def chosen_from_pool(prompt_id: str, identities: Mapping[str, str], m: int) -> list[str]:
    """The `m` names whose (prompt, identity) hashes highest: rendezvous hashing.

    Whether one member is drawn for a prompt before another depends on these two alone. So a pool that grows by a
    member gives some prompts that member in the place of one other, and changes nothing else.

    Args:
        prompt_id: the prompt.
        identities: the members' identities by name.
        m: how many, at most len(identities).
    """
    ranked = sorted(identities, key=lambda name: make_id("rendezvous", prompt_id, identities[name]), reverse=True)
    return sorted(ranked[:m], key=list(identities).index)


def refuse_twins(members: Iterable[Member], systems: Iterable[str] = ()) -> None:
    """Refuse two members whose responses would have the same ids.

    Args:
        members: who writes.
        systems: the system texts that a member without one of its own may be asked under.

    Raises:
        PipelineError: names the two.
    """
    seen: dict[str, Member] = {}
    texts: list[str | None] = [*systems] or [None]
    for member, system in ((one, text) for one in members for text in ([one.system] if one.system else texts)):
        asked = canonical_json([member.engine.model, member.params(system)])
        twin = seen.setdefault(asked, member)
        if twin is member:
            continue
        if twin.system != member.system:
            raise PipelineError(
                f"sample: a member of the engine {member.name!r} has a system text that stands in systems as well "
                f"({system!r:.80}), so that its responses and another member's would have the same ids; leave one out"
            )
        if twin.name == member.name:
            raise PipelineError(
                f"sample: two members ask the engine {member.name!r} with the same parameters, so their responses "
                f"would have the same ids; leave one out, give it another temperature, or raise n"
            )
        raise PipelineError(
            f"sample: the engines {twin.name!r} and {member.name!r} are the same model {member.engine.model!r} with "
            f"the same identity, so their responses would have the same ids; leave one out, or raise n"
        )
