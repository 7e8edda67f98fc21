"""Prompts and responses as texts: as they are, or through a model's chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.errors import DataError
from prefdata.formats.conversation import BREAK
from prefdata.formats.turns import changes_speaker, trained_turns
from prefdata.schema import Row, message

NEEDS_TEMPLATE = "multi-turn prompts need --template MODEL (or a conversational format)"
"""Why a prompt that is more than one user message is left out of a format of texts."""

_SENTINEL = "prefdata marks where an answer stands"


def single_user_text(lists: pl.DataFrame) -> pl.Series:
    """The text of each prompt that is one user message, null for any other."""
    first = pl.col("prompt").list.first()
    alone = (pl.col("prompt").list.len() == 1) & (first.struct.field("role") == "user")
    return lists.select(pl.when(alone).then(first.struct.field("content")).alias("prompt")).to_series()


class Joined:
    """No chat template, for base models: the contents of a prompt, joined by blank lines as they are sampled with."""

    holds_turns = False
    """A text alone cannot say which of its turns are the assistant's."""

    def prompts(self, lists: pl.DataFrame) -> pl.Series:
        """Each list's prompt."""
        contents = pl.element().struct.field("content").fill_null("")
        return lists.select(prompt=pl.col("prompt").list.eval(contents).list.join(BREAK)).to_series()

    def answers(self, lists: pl.DataFrame, texts: pl.DataFrame) -> pl.Series:
        """Each response as it is: who trains on it knows how a text ends."""
        return texts["text"]


def find_template(name: str) -> Template:
    """The template that `--template` names: a model's, or none.

    Raises:
        DataError, EngineError: as `ChatTemplate`.
    """
    return Joined() if name == "none" else ChatTemplate(name)


class ChatTemplate:
    """A model's chat template: the prompt up to where the assistant begins, and answers with their end of turn."""

    holds_turns = True

    def __init__(self, model: str | Path) -> None:
        """Load the tokenizer of a model that is on this machine, never from the network.

        Args:
            model: its folder, or the name of a model that was fetched.

        Raises:
            DataError: there is no tokenizer in the folder, or no chat template.
            EngineError: there is no such folder or model.
        """
        from prefdata.engines.models import model_folder

        folder = Path(model) if Path(model).is_dir() else model_folder(model)
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise DataError(f"--template {folder}: its tokenizer cannot be loaded: {error}") from error
        if not self._tokenizer.chat_template:
            raise DataError(
                f"--template {folder}: its tokenizer has no chat template; name a chat model's folder, or none, which "
                "joins the contents of messages as a base model reads them"
            )
        self._folder = folder
        _, found, self._end = self._apply([*_ASKED, {"role": "assistant", "content": _SENTINEL}]).rpartition(_SENTINEL)
        if not found:
            raise DataError(f"--template {folder}: its chat template does not show the assistant's last turn as it is")

    def prompts(self, lists: pl.DataFrame) -> pl.Series:
        """Each list's prompt, up to and with the mark that opens the assistant's turn."""
        shown = [
            self._apply(turns, tools=tools, open_turn=True)
            for turns, tools in lists.select("prompt", "tools").iter_rows()
        ]
        return pl.Series("prompt", shown, dtype=pl.String)

    def answers(self, lists: pl.DataFrame, texts: pl.DataFrame) -> pl.Series:
        """Each response with its end of turn (without where `ends_turn` is false).

        Args:
            lists: with `row`.
            texts: what `turns.flattened` made of them.
        """
        ends = pl.col("ends_turn").fill_null(True)
        made = texts.select(pl.when(ends).then(pl.col("text") + self._end).otherwise("text").alias("text")).to_series()
        places = changes_speaker(texts).arg_true()
        if not len(places):
            return made
        prompts = {row: (turns, tools) for row, turns, tools in lists.select("row", "prompt", "tools").iter_rows()}
        shown = made.to_list()
        for place in places:
            row = texts.row(place, named=True)
            shown[place] = self._conversation(*prompts[row["row"]], row)
        return pl.Series("text", shown, dtype=pl.String)

    def _conversation(self, prompt: list[Row], tools: str | None, row: Row) -> str:
        turns, goes_on = trained_turns(row["text"], row["segments"])
        prefix = row["prefix"] or ""
        if turns[0]["role"] != "assistant":
            turns = [message("assistant", ""), *turns]  # the prefix is all of its turn
        turns[0] = {**turns[0], "content": prefix + turns[0]["content"]}
        head, whole = self._apply(prompt, tools=tools, open_turn=True), self._apply([*prompt, *turns], tools=tools)
        if not whole.startswith(head + prefix):
            raise DataError(
                f"--template {self._folder}: response {row['response_id']} goes on over several turns, and the chat "
                "template does not show them as a continuation of the prompt; export the conversational form"
            )
        tail = whole[len(head + prefix) :]
        return tail if goes_on or row["ends_turn"] is not False else tail.removesuffix(self._end)

    def _apply(self, turns: list[Row], *, tools: str | None = None, open_turn: bool = False) -> str:
        messages = [_template_message(turn) for turn in turns]
        try:
            shown = self._tokenizer.apply_chat_template(
                messages,
                tools=None if tools is None else json.loads(tools),
                tokenize=False,
                add_generation_prompt=open_turn,
            )
        except Exception as error:
            raise DataError(f"--template {self._folder}: its chat template cannot show a prompt: {error}") from error
        return str(shown)


Template = ChatTemplate | Joined
_ASKED = [{"role": "user", "content": "What follows?"}]


def _template_message(turn: Row) -> Row:
    """Without null keys, since templates ask `'tool_calls' in message`; tool calls as the objects they are."""
    kept = {key: value for key, value in turn.items() if value is not None}
    if "tool_calls" in kept:
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept
