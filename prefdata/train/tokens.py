"""Token ids: the prompt once, each response apart, one end of turn.

Prompt and response are tokenised separately, so that the prompt's ids are a prefix of every row and are exactly those
that the policy is sampled with. Tokenised jointly they can differ at the boundary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.train.data import PreferenceData, PreferenceList
from prefdata.train.errors import TrainError
from prefdata.train.losses import Reads

MARK = "5f1e0c"
"""A text that no template writes: what follows it in a rendered turn ends the turn."""


@dataclass(frozen=True, slots=True)
class TokenList:
    """A preference list as token ids: row k is `prompt + responses[k]`.

    Attributes:
        source: the list.
        prompt: at least one id, shared by all rows.
        responses: at least one id each, the end of turn included.
    """

    source: PreferenceList
    prompt: list[int]
    responses: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return len(self.prompt) + max(map(len, self.responses))


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Lists as token ids, those to train on and those held out.

    Attributes:
        training: in the order of the file.
        held_out: in the order of the file.
        left_out: how many lists, by reason.
        truncated: how many lists had a response cut.
    """

    training: list[TokenList]
    held_out: list[TokenList]
    left_out: Counter[str]
    truncated: int


class Encoder:
    """Texts and messages to token ids, with one model's tokenizer and chat template."""

    def __init__(self, tokenizer: Any, model: str, *, templated: bool | None) -> None:
        """Prepare.

        Args:
            tokenizer: of transformers.
            model: names it in errors.
            templated: whether strings were rendered with a chat template when they were exported; null: a prompt that
                holds a special token was.
        """
        self.tokenizer = tokenizer
        self.model = model
        self.templated = templated
        self._special = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
        self._turn_end: int | None = None
        start = tokenizer("")["input_ids"]
        self._bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id in start else []

    def prompt(self, prompt: list[dict[str, Any]] | str, tools: list[Any] | None) -> list[int]:
        """The ids that the policy is sampled with.

        Raises:
            TrainError: messages, and a tokenizer without a chat template, or one that refuses them.
        """
        if isinstance(prompt, str):
            ids = self._ids(prompt)
            return ids if ids[:1] == self._bos else self._bos + ids
        if not getattr(self.tokenizer, "chat_template", None):
            raise TrainError(
                f"the tokenizer of {self.model} has no chat template, which prompts made of messages need: take an "
                "instruct model, or export trl-pairs as texts"
            )
        try:
            text = self.tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of its author's, and raises what it likes
            roles = ", ".join(turn["role"] for turn in prompt)
            raise TrainError(f"the chat template of {self.model} refuses the turns {roles}: {error}") from None
        return self._ids(text)

    def response(self, text: str, end: int | None) -> list[int]:
        """The response's ids, closed by `end` where it is given and not there already."""
        ids = self._ids(text)
        return ids if end is None or ids[-1:] == [end] else [*ids, end]

    def end_after(self, prompt: list[dict[str, Any]] | str, prompt_ids: Sequence[int]) -> int | None:
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
            text = self.tokenizer.apply_chat_template(turns, tokenize=False)
            closing = [token for token in self._ids(text.rpartition(MARK)[2]) if token in self._special]
            self._turn_end = closing[0] if closing else self._eos()
        return self._turn_end

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise TrainError(f"the tokenizer of {self.model} has no end-of-sequence token, which ends a response")
        return int(self.tokenizer.eos_token_id)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def tokenise(
    data: PreferenceData, encoder: Encoder, reads: frozenset[Reads], *, max_length: int, overlong: str
) -> Tokenised:
    """All lists that can be trained on, as token ids; the others are counted by reason.

    Args:
        data: the file.
        encoder: of the policy.
        reads: what the loss cannot do without.
        max_length: tokens of the longest row.
        overlong: drop a longer list, truncate its responses, or error.

    Raises:
        TrainError: a list is too long and `overlong` is error; a response lacks what the loss reads; nothing remains
            to be trained on.
    """
    _check_reads(data, reads)
    training: list[TokenList] = []
    held_out: list[TokenList] = []
    left_out: Counter[str] = Counter(data.left_out)
    truncated = 0
    for source in data.lists:
        reason = _says_nothing(source, reads)
        if reason:
            left_out[reason] += 1
            continue
        made = _encode(source, encoder)
        if not isinstance(made, str) and made.longest > max_length:
            if overlong == "error":
                raise TrainError(
                    f"{data.path}, row {source.row}: {made.longest} tokens are more than max_length {max_length}; "
                    "raise it, or set overlong to drop or truncate"
                )
            made = _truncate(made, max_length) if overlong == "truncate" else f"longer than {max_length} tokens"
            truncated += isinstance(made, TokenList)
        if not isinstance(made, str) and len(made.responses) > 1 and _all_equal(made.responses):
            made = "all responses equal"
        if isinstance(made, str):
            left_out[made] += 1
        else:
            (held_out if source.held_out else training).append(made)
    if not training:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.most_common()) or "no row was left out"
        held = f"; {len(held_out)} rows are held out (split valid)" if held_out else ""
        raise TrainError(f"{data.path} has nothing to train on: {reasons}{held}")
    return Tokenised(training, held_out, left_out, truncated)


def _check_reads(data: PreferenceData, reads: frozenset[Reads]) -> None:
    """Refuse lists that lack what the loss reads, and labels that it would pass over."""
    for source in data.lists:
        if "ranks" in reads and source.ranks is None:
            raise TrainError(
                f"{data.path}, row {source.row}: the loss reads ranks, and the column 'ranks' is null there"
            )
        if "scores" in reads and None in source.scores:
            columns = "'scores'" if data.format == "lists" else "'score_chosen' or 'score_rejected'"
            raise TrainError(f"{data.path}, row {source.row}: the loss reads scores, and {columns} is null there")
        if "ranks" in reads and "edges" not in reads and data.format != "lists":
            soft = next((edge.p for edge in source.edges if edge.p not in (0.0, 0.5, 1.0)), None)
            if soft is not None:
                raise TrainError(
                    f"{data.path}, row {source.row}: the pair is chosen with p = {soft:g}, and the loss reads ranks, "
                    "which cannot say so: take a pairwise loss (dpo), or export with hard labels"
                )


def _says_nothing(source: PreferenceList, reads: frozenset[Reads]) -> str | None:
    if "edges" in reads and not source.edges:
        return "no response is better than another"
    if "ranks" in reads and source.ranks is not None and len(set(source.ranks)) < 2:
        return "all ranks tie"
    return None


def _encode(source: PreferenceList, encoder: Encoder) -> TokenList | str:
    prompt = encoder.prompt(source.prompt, source.tools)
    if not prompt:
        return "empty prompt"
    end = encoder.end_after(source.prompt, prompt)
    responses = [
        encoder.response(text, end if ends else None)
        for text, ends in zip(source.responses, source.ends_turn, strict=True)
    ]
    if not all(responses):
        return "empty response"
    if end is not None and any(end in response[:-1] for response in responses):
        return "the end-of-turn token stands inside a response"
    return TokenList(source, prompt, responses)


def _truncate(long: TokenList, max_length: int) -> TokenList | str:
    """All responses cut to the same room, the prompt whole: what is cut no longer ends its turn."""
    room = max_length - len(long.prompt)
    if room < 1:
        return f"the prompt alone fills {max_length} tokens"
    return TokenList(long.source, long.prompt, [response[:room] for response in long.responses])


def _all_equal(responses: Sequence[list[int]]) -> bool:
    return all(response == responses[0] for response in responses[1:])
