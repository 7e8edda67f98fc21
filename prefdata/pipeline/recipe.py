"""The header of a recipe: whose method a pipeline follows, what it needs, and where it departs from the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefdata.errors import PipelineError
from prefdata.pipeline.registry import nearest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Strict):
    """Where a method is described."""

    title: str = Field(min_length=1, description="As it was published.")
    year: int | None = Field(None, ge=1900, le=2100, description="Of its first version.")
    id: str | None = Field(None, min_length=1, description="For example arXiv:2310.01377.")


class Recipe(_Strict):
    """What a recipe says of itself under `recipe:`. It explains and changes nothing: no fingerprint holds it."""

    title: str = Field(min_length=1, description="What it makes, in a line.")
    paper: Paper | None = Field(None, description="The method's paper; none for a pipeline that follows no paper.")
    needs: tuple[str, ...] = Field((), description="What must be there before it runs: models, servers, files.")
    approximates: tuple[str, ...] = Field(
        (), description="Where it is not what the paper did, and which numbers are ours."
    )

    @property
    def cited(self) -> str:
        """The paper in a line; empty where there is none."""
        if self.paper is None:
            return ""
        year = "" if self.paper.year is None else f" ({self.paper.year})"
        return f"{self.paper.title}{year}" + (f", {self.paper.id}" if self.paper.id else "")


def recipe_of(given: object, where: Callable[..., str]) -> Recipe:
    """Check a header.

    Args:
        given: what stands under `recipe:`.
        where: the place of a key below it, for a message: file and line.

    Raises:
        PipelineError: a sentence that names the key.
    """
    if not isinstance(given, dict):
        keys = ", ".join(Recipe.model_fields)
        raise PipelineError(f"{where()}: recipe is a mapping with the keys {keys}; this is {given!r}")
    try:
        return Recipe.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        path = problem["loc"]
        key = ".".join(str(part) for part in path)
        if problem["type"] == "extra_forbidden":
            known = list((Paper if path[0] == "paper" and len(path) > 1 else Recipe).model_fields)
            hint = nearest(str(path[-1]), known) or f"; it knows {', '.join(known)}"
            raise PipelineError(f"{where(*path)}: recipe: unknown key {key!r}{hint}") from error
        if problem["type"] == "missing":
            raise PipelineError(f"{where(*path[:-1])}: recipe: the key {key!r} is missing") from error
        raise PipelineError(f"{where(*path)}: recipe: key {key!r} is {problem['input']!r}: {problem['msg']}") from error


def header_of(path: Path) -> tuple[Recipe | None, str]:
    """The header and the description of a pipeline file, read without its steps: no variable need be set.

    Raises:
        PipelineError: the file is no YAML, or the header is wrong.
    """
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise PipelineError(f"{path} holds no pipeline")
    given = document.get("recipe")
    recipe = None if given is None else recipe_of(given, lambda *_: str(path))
    return recipe, str(document.get("description") or "")
