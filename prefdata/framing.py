"""Outside text in a frame that it cannot leave: for judges, and for models that rewrite what others wrote.

Every outside text stands under its heading, between two lines that hold a mark which occurs in none of them, so that no
text can close its own frame; control tokens of chat templates are broken by a space, so that none can end the turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

from prefdata.schema import make_id

_CONTROL = re.compile(
    r"<(?=[|｜][^<>\s]{1,64}>)"  # <|im_end|>, <|turn>, <｜User｜>
    r"|<(?=[^<>\s|｜]{1,64}[|｜]>)"  # <turn|>
    r"|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|tool_call|tool_response|think)>)"
    r"|<(?=<SYS>>|</SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)


def neutralise(text: str) -> str:
    """The text with a space in each control token of a chat template (`< |im_end|>`), so that it is one no longer."""
    return _CONTROL.sub(r"\g<0> ", text)


def framed(parts: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The parts, each under its heading and between two lines of a mark that occurs in none of them.

    Args:
        parts: name and text of each.

    Returns:
        The mark (8 hexadecimal characters; the same in both orders of a pair) and the text.
    """
    texts = [neutralise(text) for _, text in parts]
    # It depends on the prompt alone as long as it can: then a server can reuse its cache of the prompt's tokens.
    prompt = [text for name, text in parts if name == "Prompt"]
    marks = (make_id("mark", prompt, number)[:8] for number in count())
    mark = next(mark for mark in marks if not any(mark in text for text in texts))
    # Not tags such as <response-A MARK>: with those SmolLM2-135M put 0.1 of its next token on the labels, not 0.97.
    blocks = [f"{name}:\n[{mark}]\n{text}\n[{mark}]" for (name, _), text in zip(parts, texts, strict=True)]
    return mark, "\n\n".join(blocks)
