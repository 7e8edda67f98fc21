"""What a model is shown for a prompt: the one function that sampling, judging, likelihoods and exports share."""

from __future__ import annotations

from prefdata.schema import Row


def render(prompt: Row) -> list[Row]:
    """The messages of a prompt, with its condition and its passages in place.

    A condition's text joins the system turn (it makes one where there is none); passages stand at the head of the last
    user turn, in their order, each under its label or number. Null keys are left out: chat templates ask
    `'tool_calls' in message`.
    """
    messages = [{key: value for key, value in turn.items() if value is not None} for turn in prompt["messages"]]
    text = (prompt.get("condition") or {}).get("text")
    if text:
        if messages and messages[0]["role"] == "system":
            messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        else:
            messages.insert(0, {"role": "system", "content": text})
    passages = prompt.get("context") or []
    if passages:
        shown = "\n\n".join(
            f"[{passage.get('label') or number}] {passage['text']}" for number, passage in enumerate(passages, start=1)
        )
        last = max((place for place, turn in enumerate(messages) if turn["role"] == "user"), default=None)
        if last is None:
            messages.append({"role": "user", "content": shown})
        else:
            messages[last] = {**messages[last], "content": f"{shown}\n\n{messages[last]['content']}"}
    return messages


def transcript(messages: list[Row]) -> str:
    """A conversation as plain text, for a judge to read. One user turn alone is its text."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return str(messages[0]["content"])
    said = ((turn["role"].capitalize(), turn.get("content") or turn.get("tool_calls") or "") for turn in messages)
    return "\n\n".join(f"{who}: {text}" for who, text in said)
