"""One model's tokenizer and chat template: texts and messages to token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prefdata.train.errors import TrainError
from prefdata.train.preferences import Message

MARK = "5f1e0c"
"""A text that no template writes: what follows it in a rendered turn ends the turn."""
TEMPLATES = ("auto", "none")
"""The model's own chat template, or none: the contents of messages, joined as a base model is sampled with them."""
BREAK = "\n\n"
"""Stands between the contents of two messages where there is no template."""
ANCHOR = "\n"
"""Stands before a text that follows another one while it is tokenised, where the tokenizer adds a blank to a start."""
_BLANK = "\u2581"
_BATCH = 4096
Ids = tuple[int, ...]


class Encoder:
    """Texts and messages to token ids, with one model's tokenizer and chat template.

    Every text is tokenised once. Prompt and response are tokenised apart, so that the prompt's ids are a prefix of
    every row and are exactly those that the policy is sampled with; tokenised jointly they can differ at the boundary.
    """

    def __init__(self, tokenizer: Any, model: str, *, templated: bool | None, template: str = "auto") -> None:
        """Prepare.

        Args:
            tokenizer: of transformers.
            model: names it in errors.
            templated: whether strings were rendered with a chat template when they were exported; null: a prompt that
                holds a special token was.
            template: one of TEMPLATES.
        """
        self.tokenizer = tokenizer
        self.model = model
        self.joins = template == "none"
        self.templated = False if self.joins else templated
        self._special = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
        self._turn_end: int | None = None
        self._after_end: Ids = ()
        start = tokenizer("")["input_ids"]
        self._bos: Ids = (tokenizer.bos_token_id,) if tokenizer.bos_token_id in start else ()
        self._known: dict[str, Ids] = {}
        first = tokenizer.convert_ids_to_tokens(self.ids("a")[:1])
        # Some tokenizers put a blank before every text, which does not stand between a prompt and what follows it.
        self.anchor = ANCHOR if first and str(first[0]).startswith(_BLANK) else ""

    def learn(self, texts: Iterable[str]) -> None:
        """Tokenise texts, many in one call; `ids` then knows them."""
        new = [text for text in dict.fromkeys(texts) if text and text not in self._known]
        for begin in range(0, len(new), _BATCH):
            some = new[begin : begin + _BATCH]
            for text, ids in zip(some, self.tokenizer(some, add_special_tokens=False)["input_ids"], strict=True):
                self._known[text] = tuple(ids)

    def ids(self, text: str) -> Ids:
        """A text's ids, without any token of the tokenizer's own."""
        if not text:
            return ()
        self.learn([text])
        return self._known[text]

    def ids_after(self, text: str) -> Ids:
        """The ids of a text that follows a plain one."""
        before, whole = self.ids(self.anchor), self.ids(self.anchor + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.ids(text)

    def spans(self, text: str, *, after: bool = False) -> tuple[Ids, list[tuple[int, int]]]:
        """A text's ids, and the characters that each covers; together they cover the whole text.

        Args:
            text: not empty.
            after: it follows a plain text, as in `ids_after`.

        Raises:
            TrainError: the tokenizer does not say.
        """
        if not self.tokenizer.is_fast:
            raise TrainError(
                f"the tokenizer of {self.model} does not say which characters a token covers, which responses with "
                "segments need: take a model with a fast tokenizer (tokenizer.json)"
            )
        anchor = self.anchor if after else ""
        made = self.tokenizer(anchor + text, add_special_tokens=False, return_offsets_mapping=True)
        skipped = len(self.ids(anchor))
        if tuple(made["input_ids"][:skipped]) != self.ids(anchor):
            return self.spans(text)
        spans, before = [], 0
        for begin, end in made["offset_mapping"][skipped:]:
            first, last = max(0, begin - len(anchor)), max(0, end - len(anchor))
            # A tokenizer may leave the blank before a word out of its span, and the token is that blank too.
            spans.append((min(first, before), last))
            before = last
        return tuple(made["input_ids"][skipped:]), spans

    def render(self, turns: Sequence[Message], tools: list[Any] | None = None, *, open_turn: bool = True) -> str:
        """Messages as the chat template writes them, up to and with what opens the assistant's turn.

        Raises:
            TrainError: the tokenizer has no chat template, or its template refuses them.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise TrainError(
                f"the tokenizer of {self.model} has no chat template, which prompts made of messages need: take an "
                "instruct model, or set `template: none` to train a base model on their contents, joined as they are"
            )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(turns), tools=tools, add_generation_prompt=open_turn, tokenize=False
                )
            )
        except Exception as error:  # a template is a program of its author's, and raises what it likes
            roles = ", ".join(str(turn["role"]) for turn in turns)
            raise TrainError(f"the chat template of {self.model} refuses the turns {roles}: {error}") from None

    def start(self, text: str, *, rendered: bool) -> Ids:
        """The ids that a row begins with: a prompt, and before a plain one the token that starts every text.

        Args:
            text: the prompt.
            rendered: by `render`, which writes what the model's own conversations begin with.
        """
        ids = self.ids(text)
        return ids if rendered or ids[:1] == self._bos else self._bos + ids

    def starts_twice(self, tokens: Ids) -> bool:
        """Whether the token that starts every text stands inside a row too."""
        return bool(self._bos) and self._bos[0] != self.tokenizer.eos_token_id and self._bos[0] in tokens[1:]

    def prompt(self, prompt: Sequence[Message] | str, tools: list[Any] | None = None) -> Ids:
        """The ids that the policy is sampled with.

        Raises:
            TrainError: see `render`.
        """
        if isinstance(prompt, str) or self.joins:
            return self.start(self.joined(prompt), rendered=False)
        return self.start(self.render(prompt, tools), rendered=True)

    def joined(self, prompt: Sequence[Message] | str) -> str:
        """A prompt without a chat template, as the engines read it to a base model: its contents and blank lines."""
        if isinstance(prompt, str):
            return prompt
        return BREAK.join(str(turn.get("content") or "") for turn in prompt)

    def end_after(self, prompt: Sequence[Message] | str, prompt_ids: Sequence[int]) -> int | None:
        """The id that ends a turn after this prompt; null where the texts carry their own."""
        if not isinstance(prompt, str):
            return self.turn_end
        return None if self.is_rendered(prompt_ids) else self._eos()

    def is_rendered(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt that is a text went through a chat template when it was exported."""
        if self.templated is not None:
            return self.templated
        # The sequence's own start does not count: every plain text of such a tokenizer has it.
        return any(token in self._special for token in prompt_ids[len(self._bos) :])

    @property
    def turn_end(self) -> int:
        """The id with which the chat template closes an assistant's turn."""
        if self._turn_end is None:
            turns = [{"role": "user", "content": MARK[::-1]}, {"role": "assistant", "content": MARK}]
            closing = self.ids(self.render(turns, open_turn=False).rpartition(MARK)[2])
            place = next((place for place, token in enumerate(closing) if token in self._special), None)
            self._turn_end = self._eos() if place is None else closing[place]
            self._after_end = () if place is None else closing[place + 1 :]
        return self._turn_end

    def without_rest(self, ids: Ids) -> Ids:
        """A rendered response without what the template writes after the end of its turn, which no model samples."""
        if not getattr(self.tokenizer, "chat_template", None):
            return ids
        closing = (self.turn_end, *self._after_end)
        return ids[: len(ids) - len(self._after_end)] if ids[-len(closing) :] == closing else ids

    @property
    def turn_end_text(self) -> str:
        """The same, as the template writes it."""
        return str(self.tokenizer.convert_ids_to_tokens(self.turn_end))

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise TrainError(f"the tokenizer of {self.model} has no end-of-sequence token, which ends a response")
        return int(self.tokenizer.eos_token_id)
