"""`rewrite.corrupt`: a worse response from a good one, by plausible errors or by cutting it off."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from prefdata.operators.rewrite import RewriteStep, Wish
from prefdata.pipeline.registry import step
from prefdata.pipeline.step import Context, Group
from prefdata.schema import Row, Rows, response

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[」』”]*|(?=\n)")


@step("rewrite.corrupt")
class Corrupt(RewriteStep):
    """Make each response worse, and leave all else as it is.

    `errors`: a model writes plausible errors into it. `truncate`: it is cut off after the share `keep` of its
    characters, at the last end of a sentence before that, else between two words; no model is asked, `model` is
    `rule:truncate`, and finish_reason is `length`. `pair.refined` with `better: parent` pairs what comes out.

    Unchanged texts are dropped (`no_change`), and, of `errors`, those whose length is out of proportion
    (`length_ratio`). That a model's errors are errors nobody has checked: pairs made of them are right on average.
    """

    rewriting: ClassVar[str] = "corrupt"

    engine: str | None = Field(None, description="The engine that writes errors; truncate needs none.")
    how_: Literal["errors", "truncate"] = Field("errors", alias="how", description="What makes a response worse.")
    keep: float = Field(0.5, gt=0, lt=1, description="truncate: at most this share of the characters stays.")

    @model_validator(mode="after")
    def _engine(self) -> Self:
        if self.how_ == "errors" and self.engine is None:
            raise ValueError("how: errors needs an engine; how: truncate needs none")
        if self.how_ == "truncate" and self.engine is not None:
            raise ValueError("how: truncate asks no engine; leave engine out")
        if self.how_ == "truncate" and self.n > 1:
            raise ValueError("how: truncate cuts in one way only; leave n out")
        return self

    def writer(self) -> str:
        """See the base class."""
        assert self.engine is not None
        return self.engine

    def wish(self, parent: Row, group: Group) -> Wish:
        """Plausible errors."""
        return Wish(
            "Below are a prompt and a response to it. Write the response again with one or two plausible errors in it: "
            "a wrong fact, number, name, reason or step that a hasty reader would not notice. Keep everything else: "
            "style, length, order and wording. Do not say that there are errors, nor where."
        )

    async def run(self, group: Group, context: Context) -> Rows:
        """The worse responses; those that are not changed are dropped, with the reason."""
        if self.how_ == "errors":
            return await super().run(group, context)
        prompts = {row["prompt_id"]: row for row in group.prompts}
        parents = [row for row in group.responses if row["prompt_id"] in prompts and (row["text"] or "").strip()]
        made = [self._cut(prompts[parent["prompt_id"]], parent) for parent in parents]
        return self.checked(made, parents, context)

    def problem(self, before: str, after: str | None) -> str | None:
        """What is cut off is shorter on purpose."""
        found = super().problem(before, after)
        return None if found == "length_ratio" and self.how_ == "truncate" else found

    def _cut(self, prompt: Row, parent: Row) -> Row:
        return response(
            prompt,
            model="rule:truncate",
            text=truncated(parent["text"], self.keep),
            params={"rewrite": "truncate", "keep": self.keep},
            finish_reason="length",
            parent_id=parent["response_id"],
        )


def truncated(text: str, keep: float) -> str:
    """The beginning of a text, cut at the end of a sentence, else of a word.

    Args:
        text: the text.
        keep: at most this share of its characters stays, in (0, 1).

    Returns:
        The beginning; the whole text where it cannot be cut, since its first word is longer than that.
    """
    most = int(len(text) * keep)
    ends = [match.end() for match in _SENTENCE.finditer(text) if 0 < match.end() <= most]
    words = [match.end() for match in re.finditer(r"\S(?=\s)", text[: most + 1])]
    for end in (*ends[-1:], *words[-1:]):
        if text[:end].strip():
            return text[:end].rstrip()
    return text
