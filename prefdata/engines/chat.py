"""From messages to token ids: chat template, begun answers, continuations, labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

from prefdata.engines.base import Request, RequestError
from prefdata.errors import EngineError
from prefdata.schema import Row


class ChatTokenizer:
    """A tokenizer with its chat template; needs transformers, not torch.

    Args:
        source: a folder or hub id, as `prefdata.engines.models.resolve` returns it.
    """

    def __init__(self, source: str) -> None:
        from transformers import AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"the tokenizer of {source!r} cannot be loaded: {error}") from error

    def prompt(self, messages: Sequence[Row], prefix: str = "") -> list[int]:
        """Ids of a conversation up to where the answer, begun with `prefix`, goes on.

        No messages: the beginning-of-sequence token (the end-of-text token for models without one). Without a chat
        template the contents are joined by blank lines.

        Raises:
            RequestError: the chat template refuses the messages, for example a role that it does not know.
        """
        if not messages:
            first = self.tokenizer.bos_token_id
            return [self.tokenizer.eos_token_id if first is None else first, *self.plain(prefix)]
        return self._begun(self._text(messages) + prefix)

    def continued(self, request: Request) -> tuple[list[int], list[int]]:
        """Ids of a request's conversation, and of its continuation after it, without what the template closes it with.

        A continuation in another role than the assistant's stands after that role's header; where there is no chat
        template, after a blank line. Without messages there is no turn to speak of, and `role` says nothing.

        Where the tokenizer would merge the end of the prompt with the start of the continuation, both are tokenised
        apart, as they are when a model writes: the prompt's ids never depend on what follows.

        Raises:
            RequestError: as `prompt`.
        """
        if not request.messages:
            return self.prompt((), request.prefix), self.plain(request.continuation)
        text = self._text(request.messages, request.role) + request.prefix
        prompt, start = self._begun(text), self.plain(text)
        joint = self.plain(text + request.continuation)
        if joint[: len(start)] == start:
            return prompt, joint[len(start) :]
        return prompt, self.plain(request.continuation)

    def labels(self, labels: Sequence[str]) -> list[list[int]]:
        """For each label, the ids that start it: of the label itself and of the label after a space.

        A first token that several labels share says nothing and is left out: digits after a space are two tokens in
        many vocabularies.

        Raises:
            RequestError: a label is left with no token of its own.
        """
        firsts = [
            {ids[0] for variant in (label.strip(), f" {label.strip()}") if (ids := self.plain(variant))}
            for label in labels
        ]
        own = [
            first.difference(*(other for place, other in enumerate(firsts) if place != number))
            for number, first in enumerate(firsts)
        ]
        for label, left in zip(labels, own, strict=True):
            if not left:
                raise RequestError(
                    f"the labels {', '.join(map(repr, labels))} cannot be told apart by their first token: {label!r} "
                    "has none of its own in this model's vocabulary; use others, such as 'A' and 'B'"
                )
        return [sorted(ids) for ids in own]

    def plain(self, text: str) -> list[int]:
        """Ids of a text, without special tokens at its ends."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return ids

    def whole(self, messages: Sequence[Row]) -> list[int]:
        """Ids of a conversation as its chat template writes it to the end; for models that read, and do not go on.

        Raises:
            RequestError: as `prompt`.
        """
        return self.plain(self._templated(messages, add_generation_prompt=False))

    def _begun(self, text: str) -> list[int]:
        """Ids of a text that goes on: with the special token at its start, where no template has written it."""
        if self.tokenizer.chat_template:
            return self.plain(text)
        ids: list[int] = self.tokenizer(text).input_ids
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id else ids

    def _text(self, messages: Sequence[Row], role: str | None = None) -> str:
        """A conversation up to where the assistant's turn goes on, or that of another role."""
        another = role is not None and role != "assistant"
        if not self.tokenizer.chat_template:
            joined = "\n\n".join(str(turn.get("content") or "") for turn in messages)
            return f"{joined}\n\n" if another else joined
        if not another:
            return self._templated(messages, add_generation_prompt=True)
        # A template has a generation prompt for the assistant alone. For another role it is what the template writes
        # before the content of such a turn. It may trim contents, so the mark has no space at its ends.
        said = "".join(str(turn.get("content") or "") + str(turn.get("tool_calls") or "") for turn in messages)
        mark = next(mark for number in count() if (mark := f"<{number}>") not in said)
        text = self._templated([*messages, {"role": role, "content": mark}], add_generation_prompt=False)
        before, found, _ = text.rpartition(mark)
        if not found:
            raise RequestError(f"the model's chat template leaves out a turn of the role {role!r}")
        return before

    def _templated(self, messages: Sequence[Row], *, add_generation_prompt: bool) -> str:
        turns = [
            {**turn, "tool_calls": json.loads(turn["tool_calls"])} if turn.get("tool_calls") else dict(turn)
            for turn in messages
        ]
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # of Jinja's sandbox, or of what a template computes
            raise RequestError(f"the model's chat template refuses these messages: {error}") from error
        return text
