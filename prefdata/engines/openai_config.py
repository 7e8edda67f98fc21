"""The keys of the kind `openai`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from prefdata.engines.keys import check_variable
from prefdata.engines.registry import EngineConfig
from prefdata.schema import canonical_json

HOSTED = "https://api.openai.com/v1"


class OpenAIConfig(EngineConfig):
    """Fields of the kind `openai`."""

    model: str = Field(min_length=1, description="As the server calls it.")
    base_url: str | tuple[str, ...] = Field(
        HOSTED, description="The server's address, ending in /v1 as a rule; or a list of addresses of the same model."
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        description="The environment variable that holds the key. Servers elsewhere than at OpenAI may need none.",
    )
    timeout: float = Field(120.0, gt=0, description="Seconds that one attempt may take.")
    connect_timeout: float = Field(10.0, gt=0, description="Seconds until there is a connection.")
    read_timeout: float | None = Field(
        None,
        gt=0,
        description="Seconds of silence after which an attempt is given up. None by default: a server says nothing "
        "until its answer is complete, so that only `timeout` tells a slow one from a dead one.",
    )
    extra_body: dict[str, Any] = Field(
        {}, description="Further fields of every request (top_k, reasoning effort, ...)."
    )
    prefill: bool | None = Field(
        None,
        description="Whether the server goes on with a begun assistant message (continue_final_message). Without it an "
        "answer's given beginning is not sent. Yes, unless the server is OpenAI's own or Azure's.",
    )
    prompt_logprobs: bool = Field(
        False,
        description="Whether completions with echo give the prompt's log-probabilities (vLLM and SGLang do, llama.cpp "
        "does not). Then the engine can do logprobs.",
    )
    tokenizer: str | None = Field(
        None, description="Folder, known name or hub id of the model's tokenizer; prompt_logprobs needs it."
    )
    api_version: str | None = Field(
        None, pattern=r"^[0-9A-Za-z.-]+$", description="Azure: the version of its interface, for example 2024-10-21."
    )
    deployment: str | None = Field(
        None, pattern=r"^[0-9A-Za-z._-]+$", description="Azure: the deployment's name; that of the model by default."
    )

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str) -> str:
        return check_variable(name)

    @field_validator("base_url", mode="before")
    @classmethod
    def _addresses(cls, given: object) -> str | tuple[str, ...]:
        """One address as it is; of several a sorted list, since their order says nothing."""
        if isinstance(given, str):
            return _address(given)
        if not isinstance(given, list | tuple) or not given or not all(isinstance(url, str) for url in given):
            raise ValueError("it is an address, or a list of addresses")
        urls = sorted(_address(url) for url in given)
        if len(set(urls)) < len(urls):
            raise ValueError("an address stands in the list twice")
        return urls[0] if len(urls) == 1 else tuple(urls)

    @field_validator("extra_body")
    @classmethod
    def _json(cls, extra: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical_json(extra)
        except (TypeError, ValueError):
            raise ValueError("it holds what JSON cannot: a date, or a number that is none") from None
        return extra

    @model_validator(mode="after")
    def _azure(self) -> OpenAIConfig:
        if self.api_version is None and self.deployment is not None:
            raise ValueError("deployment is for Azure, which needs api_version too")
        if self.api_version is not None and any(re.search(r"/(openai|v1)$", url) for url in self.urls):
            raise ValueError("with api_version, base_url is Azure's endpoint alone: https://NAME.openai.azure.com")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address, sorted."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


def _address(url: str) -> str:
    if not url:
        raise ValueError("it is empty; it holds the address of a server, http://... or https://...")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is no address; it begins with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no user, password or query: a key stands in an environment variable")
    _ = parts.port  # raises ValueError for one that cannot be
    return url.rstrip("/")
